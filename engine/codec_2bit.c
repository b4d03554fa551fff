/* SPDX-License-Identifier: MIT */
/* codec_2bit.c - sends +threshold, -threshold or nothing: codes 11, 10 and 00, four to a byte.
 * A gradient smaller than the threshold waits in the residual until enough has come together.
 * The arithmetic is in kernels/cpu/codec.c. */
#include "codec.h"
#include <math.h>

static int check(double threshold) {
  float t = (float)threshold;
  if (t > 0 && isfinite(t)) return NEAP_OK;
  return neap_fail(NEAP_EINVAL, "2bit compression needs a threshold above 0, not %g", threshold);
}

static void encode(float t, int64_t count, float *residual, const float *gradient,
                   uint8_t *packed) {
  const neap_kargs args = {
      .out = residual, .in = {gradient}, .codes = packed, .size = count, .number = {t}};
  neap_k_cpu(NULL)->encode_2bit(&args, 0, neap_codec_steps(count));
}

static void add(float t, int64_t count, const uint8_t *packed, float *sum) {
  const neap_kargs args = {.out = sum, .in = {packed}, .size = count, .number = {t}};
  neap_k_cpu(NULL)->decode_2bit(&args, 0, neap_codec_steps(count));
}

const neap_codec neap_codec_2bit = {"2bit", 2, 0.5, check, encode, add};
