/* SPDX-License-Identifier: MIT */
/* conformance_codec.h - the rows of ops.def for gradient compression: every table, in one piece and
 * cut at bytes, against the rule of one element as the specification has it. */
#ifndef NEAP_SPEC_CONFORMANCE_CODEC_H
#define NEAP_SPEC_CONFORMANCE_CODEC_H

#include "spec/kernels/conformance.h"

enum { CODES_ROOM = MOST / 4 + 1 };

/* Often right at a threshold; some that no gradient should hold. */
static float draw_gradient(void) {
  static const float odd[] = {NAN,    INFINITY, -INFINITY, 0.0F,  -0.0F,
                              1e-42F, -1e-42F,  3e38F,     -3e38F};
  return below(5) ? (float)(below(33) - 16) / 4 : odd[below(9)];
}

/* The code of one element; what was sent comes off what is kept. */
static unsigned encode_one(int bits, float t, float *kept, float gradient) {
  const float r = *kept + gradient;
  if (bits == 1) {
    *kept = r > t ? r - 1 : r + 1;
    return r > t;
  }
  *kept = r >= t ? r - t : r <= -t ? r + t : r;
  return r >= t ? 3 : r <= -t ? 2 : 0;
}

static float decode_one(int bits, float t, unsigned code) {
  if (bits == 1) return code ? 1 : -1;
  return code == 3 ? t : code == 2 ? -t : 0;
}

typedef struct coded {
  float *floats;  /* `size` of them, the residual or the sum: before, then as it should be */
  uint8_t *codes; /* likewise */
  int64_t size, bytes;
} coded;

/* Runs `op`, which should turn `before` into `after` and write nothing around them. */
static void run_coded(int op, neap_kargs args, const coded *before, const coded *after) {
  const size_t bytes = (size_t)before->size * sizeof(float), codes = (size_t)before->bytes;
  const int64_t work = (before->size + NEAP_K_CODES - 1) / NEAP_K_CODES;
  char *out = args.out;
  static uint8_t packed[CODES_ROOM + 2 * GUARD];
  const int encodes = args.codes != NULL;
  if (encodes) args.codes = packed + GUARD;
  for (int t = 0; t < num_tables; t++)
    for (int pieces = 1; pieces <= 4; pieces += 3) {
      memset(packed, 0x5a, sizeof packed);
      memset(out - GUARD, 0x5a, bytes + 2 * GUARD);
      memcpy(out, before->floats, bytes);
      for (int64_t at = 0, piece = 0, end; piece < pieces; piece++, at = end) {
        end = piece + 1 == pieces ? work : at + below(work - at + 1);
        CHECK(neap_k_get(tables[t], op)(&args, at, end) == NEAP_K_OK);
      }
      CHECK(same_bits(NEAP_K_F32, out, (char *)after->floats, bytes));
      CHECK(!encodes || memcmp(packed + GUARD, after->codes, codes) == 0);
      for (int i = 0; i < GUARD; i++) {
        CHECK(packed[i] == 0x5a && (!encodes || packed[GUARD + codes + (size_t)i] == 0x5a));
        CHECK(out[i - GUARD] == 0x5a && out[bytes + (size_t)i] == 0x5a);
      }
    }
}

static void coding(int op, int dtype) {
  static const int64_t lengths[] = {0, 1, 3, 7, 8, 9, 31, 1023, 1024, 1025, 2049, MOST};
  static float before_floats[MOST], after_floats[MOST], gradient[MOST + 4];
  static uint8_t codes[CODES_ROOM];
  const char *name = neap_k_ops[op].name;
  const int bits = strstr(name, "2bit") ? 2 : 1, encodes = strncmp(name, "encode", 6) == 0;
  for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
    for (int which = 0; which < 3; which++) {
      const float t = bits == 2 ? (float[]){0.5F, 4, 0.1F}[which] : (float[]){0, 0.25F, -2}[which];
      const int64_t size = lengths[l];
      const coded before = {before_floats, codes, size, (size * bits + 7) / 8};
      const coded after = {after_floats, codes, size, before.bytes};
      neap_kargs args = {.dtype = dtype, .size = size, .number = {t}};
      args.out = out_at(NEAP_K_F32, (int64_t)l % 3);
      args.in[0] = encodes ? (void *)(gradient + l % 4) : codes;
      args.codes = encodes ? codes : NULL;
      if (dtype != NEAP_K_F32) {
        CHECK(neap_k_get(tables[num_tables - 1], op)(&args, 0, 1) == NEAP_K_EDTYPE);
        continue;
      }
      for (int64_t i = 0; i < before.bytes; i++) codes[i] = encodes ? 0 : (uint8_t)draw();
      for (int64_t i = 0; i < size; i++) {
        const int64_t place = i * bits / 8, shift = 8 - bits - i * bits % 8;
        before_floats[i] = after_floats[i] = draw_gradient();
        if (encodes) {
          gradient[(int64_t)(l % 4) + i] = draw_gradient();
          unsigned code = encode_one(bits, t, &after_floats[i], gradient[(int64_t)(l % 4) + i]);
          codes[place] |= (uint8_t)(code << shift);
        } else {
          unsigned code = codes[place] >> shift & ((1u << bits) - 1);
          after_floats[i] += decode_one(bits, t, code);
        }
      }
      run_coded(op, args, &before, &after);
    }
}

#endif
