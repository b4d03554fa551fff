/* SPDX-License-Identifier: MIT */
/* codec_1bit.c - sends +1 for what is above the threshold, -1 for the rest: codes 1 and 0, eight
 * to a byte. The arithmetic is in kernels/cpu/codec.c. */
#include "codec.h"
#include <math.h>

static int check(double threshold) {
  if (isfinite((float)threshold)) return NEAP_OK;
  return neap_fail(NEAP_EINVAL, "1bit compression needs a finite threshold, not %g", threshold);
}

static void encode(float t, int64_t count, float *residual, const float *gradient,
                   uint8_t *packed) {
  const neap_kargs args = {
      .out = residual, .in = {gradient}, .codes = packed, .size = count, .number = {t}};
  neap_k_cpu(NULL)->encode_1bit(&args, 0, neap_codec_steps(count));
}

static void add(float t, int64_t count, const uint8_t *packed, float *sum) {
  const neap_kargs args = {.out = sum, .in = {packed}, .size = count, .number = {t}};
  neap_k_cpu(NULL)->decode_1bit(&args, 0, neap_codec_steps(count));
}

const neap_codec neap_codec_1bit = {"1bit", 1, 0, check, encode, add};
