/* SPDX-License-Identifier: MIT */
/* codec_2bit.c - sends +threshold, -threshold or nothing: codes 11, 10 and 00, four to a byte.
 * A gradient smaller than the threshold waits in the residual until enough has come together. */
#include "codec.h"
#include <math.h>

static int check(double threshold) {
  float t = (float)threshold;
  if (t > 0 && isfinite(t)) return NEAP_OK;
  return neap_fail(NEAP_EINVAL, "2bit compression needs a threshold above 0, not %g", threshold);
}

/* One element: its code; what the code stands for goes off the residual. */
static inline unsigned encode_one(float t, float *residual, float gradient) {
  float r = *residual + gradient;
  unsigned up = r >= t, down = r <= -t;
  *residual = up ? r - t : down ? r + t : r;
  return up ? 3 : down ? 2 : 0;
}

static void encode(float t, int64_t count, float *residual, const float *gradient,
                   uint8_t *packed) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    unsigned byte = 0;
    for (int k = 0; k < 4; k++)
      byte |= encode_one(t, residual + i + k, gradient[i + k]) << (6 - 2 * k);
    *packed++ = (uint8_t)byte;
  }
  if (i == count) return;
  unsigned byte = 0;
  for (int k = 0; i < count; i++, k++)
    byte |= encode_one(t, residual + i, gradient[i]) << (6 - 2 * k);
  *packed = (uint8_t)byte;
}

static void add(float t, int64_t count, const uint8_t *packed, float *sum) {
  const float values[4] = {0, 0, -t, t}; /* nobody sends 01 */
  for (int64_t i = 0; i < count; i++) sum[i] += values[packed[i >> 2] >> (6 - 2 * (i & 3)) & 3];
}

const neap_codec neap_codec_2bit = {"2bit", 2, 0.5, check, encode, add};
