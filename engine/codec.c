/* SPDX-License-Identifier: MIT */
/* codec.c - codecs by name, and their work on arrays. */
#include "codec.h"
#include "call.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NEAP_CODEC(name) extern const neap_codec neap_codec_##name;
#include "codecs.def"
#undef NEAP_CODEC

static const neap_codec *const codecs[] = {
#define NEAP_CODEC(name) &neap_codec_##name,
#include "codecs.def"
#undef NEAP_CODEC
};

enum { NUM_CODECS = sizeof codecs / sizeof *codecs };

int neap_codec_find(const char *name, double *threshold, const neap_codec **out) {
  char names[128] = "";
  for (int i = 0; i < NUM_CODECS; i++) {
    if (name && strcmp(codecs[i]->name, name) == 0) {
      double t = isnan(*threshold) ? codecs[i]->threshold : *threshold;
      NEAP_TRY(codecs[i]->check(t));
      *threshold = t;
      *out = codecs[i];
      return NEAP_OK;
    }
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, " %s", codecs[i]->name);
  }
  return neap_fail(NEAP_EINVAL, "unknown type of gradient compression '%.80s'; valid are:%s",
                   name ? name : "", names);
}

/* ---- Work ------------------------------------------------------------------------------- */

typedef struct coding {
  const neap_codec *codec;
  float threshold;
  int64_t count, units, grain; /* elements; steps of NEAP_CODEC_STEP, in all and in a part */
  float *floats;               /* the residual, or the sum */
  const float *gradient;
  uint8_t *packed;
  int senders;
  const uint8_t *from[];
} coding;

/* A work over `floats`, cut at steps, so that no two parts write one byte. */
static neap_work *coding_new(const char *name, neap_fn run, const neap_codec *codec,
                             float threshold, neap_array *floats, int reads, int writes,
                             coding **out) {
  neap_work *work =
      neap_work_new(neap_array_context(floats), name, run,
                    sizeof(coding) + (size_t)reads * sizeof(uint8_t *), reads, writes);
  if (!work) return NULL;
  coding *c = *out = neap_work_payload(work);
  c->codec = codec;
  c->threshold = threshold;
  c->count = neap_array_get_info(floats)->size;
  c->units = neap_codec_steps(c->count);
  c->grain = neap_work_cut(work, c->units, (int64_t)NEAP_CODEC_STEP * (reads + 1));
  c->floats = neap_array_at_data(floats);
  neap_work_write(work, neap_array_var(floats));
  return work;
}

/* This part's elements: [begin, end). */
static int64_t coding_range(neap_task *task, const coding *c, int64_t *end) {
  int64_t begin = neap_part_range(task, c->units, c->grain, end);
  *end *= NEAP_CODEC_STEP;
  if (*end > c->count) *end = c->count;
  return begin * NEAP_CODEC_STEP;
}

static int run_encode(neap_task *task, void *arg) {
  const coding *c = arg;
  int64_t end, begin = coding_range(task, c, &end);
  if (begin < end)
    c->codec->encode(c->threshold, end - begin, c->floats + begin, c->gradient + begin,
                     c->packed + neap_codec_bytes(c->codec, begin));
  return NEAP_OK;
}

neap_work *neap_encode_work(const neap_codec *codec, float threshold, neap_array *gradient,
                            neap_array *residual, neap_array *packed) {
  coding *c;
  neap_work *work = coding_new("encode", run_encode, codec, threshold, residual, 1, 2, &c);
  if (!work) return NULL;
  c->gradient = neap_array_at_data(gradient);
  c->packed = neap_array_at_data(packed);
  neap_work_read(work, neap_array_var(gradient));
  neap_work_write(work, neap_array_var(packed));
  return work;
}

/* A block that stays in the first-level cache gets all senders' codes before the next one's turn.
 */
static int run_decode(neap_task *task, void *arg) {
  enum { BLOCK = 512 * NEAP_CODEC_STEP };
  const coding *c = arg;
  int64_t end, begin = coding_range(task, c, &end);
  for (int64_t n; begin < end; begin += n) {
    n = end - begin < BLOCK ? end - begin : BLOCK;
    memset(c->floats + begin, 0, (size_t)n * sizeof(float));
    for (int i = 0; i < c->senders; i++)
      c->codec->add(c->threshold, n, c->from[i] + neap_codec_bytes(c->codec, begin),
                    c->floats + begin);
  }
  return NEAP_OK;
}

neap_work *neap_decode_work(const neap_codec *codec, float threshold, int count,
                            neap_array *const *packed, neap_array *to) {
  coding *c;
  neap_work *work = coding_new("decode", run_decode, codec, threshold, to, count, 1, &c);
  if (!work) return NULL;
  c->senders = count;
  for (int i = 0; i < count; i++) {
    c->from[i] = neap_array_at_data(packed[i]);
    neap_work_read(work, neap_array_var(packed[i]));
  }
  return work;
}
