/* SPDX-License-Identifier: MIT */
/* codec.h - gradient compression: a few bits for each float, the rest kept for the next time.
 *
 * The sender adds a gradient to its residual, sends of each element one of a few values, and takes
 * what it sent off the residual; the receiver adds up what it got. So nothing is lost for good.
 * A new codec is a file that fills in a neap_codec, and a row in codecs.def. */
#ifndef NEAP_CODEC_H
#define NEAP_CODEC_H

#include "array.h"

/* Codes are packed most significant first, and the last byte is filled up with zeros. Functions
 * are pure arithmetic: no allocation, no errors; several threads may be at work on disjoint ranges
 * that begin at multiples of NEAP_CODEC_STEP elements. */
typedef struct neap_codec {
  const char *name;
  int bits;         /* of one element: 1, 2, 4 or 8 */
  double threshold; /* the one used when none is given */
  /* NEAP_EINVAL, saying what is wrong, for a threshold that makes no sense. */
  int (*check)(double threshold);
  /* residual += gradient; packs what is sent, and takes that off the residual. */
  void (*encode)(float threshold, int64_t count, float *residual, const float *gradient,
                 uint8_t *packed);
  /* sum += what was sent. Any bytes are fine. */
  void (*add)(float threshold, int64_t count, const uint8_t *packed, float *sum);
} neap_codec;

enum { NEAP_CODEC_STEP = NEAP_K_CODES };

/* How many steps hold `count` elements. */
static inline int64_t neap_codec_steps(int64_t count) {
  return count / NEAP_CODEC_STEP + (count % NEAP_CODEC_STEP != 0);
}

/* NEAP_EINVAL, with the valid names, if there is none of that name; and `check`'s errors.
 * *threshold NaN becomes the codec's own. */
int neap_codec_find(const char *name, double *threshold, const neap_codec **out);

static inline int64_t neap_codec_bytes(const neap_codec *codec, int64_t count) {
  int64_t each = 8 / codec->bits;
  return count / each + (count % each != 0);
}

/* As in array_work.h: made ready, not queued; NULL with the error text set. Arrays are dense:
 * float32 of one size, and uint8 of neap_codec_bytes(). decode: to = the sum over `packed`. */
neap_work *neap_encode_work(const neap_codec *codec, float threshold, neap_array *gradient,
                            neap_array *residual, neap_array *packed);
neap_work *neap_decode_work(const neap_codec *codec, float threshold, int count,
                            neap_array *const *packed, neap_array *to);

#endif
