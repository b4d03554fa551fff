/* SPDX-License-Identifier: MIT */
/* codec_1bit.c - sends +1 for what is above the threshold, -1 for the rest: codes 1 and 0, eight
 * to a byte. */
#include "codec.h"
#include <math.h>

static int check(double threshold) {
  if (isfinite((float)threshold)) return NEAP_OK;
  return neap_fail(NEAP_EINVAL, "1bit compression needs a finite threshold, not %g", threshold);
}

static inline unsigned encode_one(float t, float *residual, float gradient) {
  float r = *residual + gradient;
  unsigned up = r > t;
  *residual = up ? r - 1 : r + 1;
  return up;
}

static void encode(float t, int64_t count, float *residual, const float *gradient,
                   uint8_t *packed) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    unsigned byte = 0;
    for (int k = 0; k < 8; k++) byte |= encode_one(t, residual + i + k, gradient[i + k]) << (7 - k);
    *packed++ = (uint8_t)byte;
  }
  if (i == count) return;
  unsigned byte = 0;
  for (int k = 0; i < count; i++, k++) byte |= encode_one(t, residual + i, gradient[i]) << (7 - k);
  *packed = (uint8_t)byte;
}

static void add(float t, int64_t count, const uint8_t *packed, float *sum) {
  (void)t;
  for (int64_t i = 0; i < count; i++)
    sum[i] += (packed[i >> 3] >> (7 - (i & 7)) & 1) ? 1.0F : -1.0F;
}

const neap_codec neap_codec_1bit = {"1bit", 1, 0, check, encode, add};
