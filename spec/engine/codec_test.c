/* SPDX-License-Identifier: MIT */
/* codec_test.c - gradient compression: the bytes on the wire, and that nothing is lost. */
#include "spec/check.h"
#include "engine/codec.h"
#include <math.h>
#include <string.h>

static const neap_codec *codec_of(const char *name, double threshold) {
  const neap_codec *codec = NULL;
  OK(neap_codec_find(name, &threshold, &codec));
  return codec;
}

/* The worked example of the specification. */
static void two_bits_of_a_row_are_these_bytes(void) {
  const float gradient[10] = {-6, -2, 3, 1, 10, 5, -3, 2, -8, 0};
  float residual[10] = {-3, 1, -1, 5, -2, 2, 3, -7, -2, -100}, sum[10] = {0};
  const float after[10] = {-5, -1, 2, 2, 4, 3, 0, -1, -6, -96};
  const float sent[10] = {-4, 0, 0, 4, 4, 4, 0, -4, -4, -4};
  unsigned char packed[3] = {0};
  const neap_codec *codec = codec_of("2bit", 4);
  CHECK(neap_codec_bytes(codec, 10) == 3);
  codec->encode(4, 10, residual, gradient, packed);
  CHECK(memcmp(packed, "\x83\xf2\xa0", 3) == 0);
  CHECK(memcmp(residual, after, sizeof after) == 0);
  codec->add(4, 10, packed, sum);
  CHECK(memcmp(sum, sent, sizeof sent) == 0);
  codec->add(4, 10, packed, sum);
  for (int i = 0; i < 10; i++) CHECK(sum[i] == 2 * sent[i]);
}

/* By hand: bits 1 0 1 0 0 1 1 0, 1 and zeros to the end of the byte. */
static void one_bit_says_above_or_not(void) {
  const float gradient[9] = {0.5F, 0, 2, -1, -0.25F, 0.125F, 3, 0, 1};
  float residual[9] = {0}, sum[9] = {0};
  const float after[9] = {-0.5F, 1, 1, 0, 0.75F, -0.875F, 2, 1, 0};
  const float sent[9] = {1, -1, 1, -1, -1, 1, 1, -1, 1};
  unsigned char packed[2] = {0};
  const neap_codec *codec = codec_of("1bit", 0);
  CHECK(neap_codec_bytes(codec, 9) == 2);
  codec->encode(0, 9, residual, gradient, packed);
  CHECK(packed[0] == 0xa6 && packed[1] == 0x80);
  CHECK(memcmp(residual, after, sizeof after) == 0);
  codec->add(0, 9, packed, sum);
  CHECK(memcmp(sum, sent, sizeof sent) == 0);
}

static void an_element_at_the_threshold_is_sent(void) {
  float residual[2] = {0};
  const float gradient[2] = {0.5F, -0.5F};
  unsigned char packed = 0;
  codec_of("2bit", 0.5)->encode(0.5F, 2, residual, gradient, &packed);
  CHECK(packed == 0xe0 && residual[0] == 0 && residual[1] == 0);
  codec_of("1bit", 0.5)->encode(0.5F, 2, residual, gradient, &packed);
  CHECK(packed == 0); /* above it only */
}

/* Whatever the length: sent and residual together are what was pushed. All numbers are multiples
 * of 1/8 and small, so that sums are exact. Nothing is written past the packed bytes. */
static void nothing_is_lost(const char *name, float threshold) {
  enum { MOST = 100, ROUNDS = 50 };
  const neap_codec *codec = codec_of(name, threshold);
  unsigned seed = 1;
  for (int64_t count = 0; count < MOST; count++) {
    float residual[MOST] = {0}, sum[MOST] = {0}, pushed[MOST] = {0}, gradient[MOST];
    for (int round = 0; round < ROUNDS; round++) {
      unsigned char packed[MOST];
      memset(packed, 0x5a, sizeof packed);
      for (int64_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        gradient[i] = (float)((int)(seed >> 24) - 128) / 8;
        pushed[i] += gradient[i];
      }
      codec->encode(threshold, count, residual, gradient, packed);
      for (int64_t i = neap_codec_bytes(codec, count); i < MOST; i++) CHECK(packed[i] == 0x5a);
      codec->add(threshold, count, packed, sum);
      for (int64_t i = 0; i < count; i++) CHECK(sum[i] + residual[i] == pushed[i]);
    }
  }
}

static void any_bytes_decode(void) {
  unsigned char packed[64];
  float sum[256] = {0};
  for (int i = 0; i < 64; i++) packed[i] = (unsigned char)(i * 4 + 1);
  codec_of("2bit", 1)->add(1, 256, packed, sum);
  codec_of("1bit", 0)->add(0, 256, packed, sum);
  for (int i = 0; i < 256; i++) CHECK(fabsf(sum[i]) <= 2);
}

static void settings_are_checked(void) {
  const neap_codec *codec = NULL;
  const double bad[] = {0, -1, -0.0, INFINITY, 1e-300, 1e300};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    double threshold = bad[i];
    CHECK(neap_codec_find("2bit", &threshold, &codec) == NEAP_EINVAL);
  }
  double own = NAN;
  OK(neap_codec_find("2bit", &own, &codec));
  CHECK(own == 0.5);
  own = NAN;
  OK(neap_codec_find("1bit", &own, &codec));
  CHECK(own == 0);
  own = -3;
  OK(neap_codec_find("1bit", &own, &codec));
  CHECK(neap_codec_find("3bit", &own, &codec) == NEAP_EINVAL);
  CHECK(strstr(neap_error(), "2bit") && strstr(neap_error(), "1bit"));
  CHECK(neap_codec_find(NULL, &own, &codec) == NEAP_EINVAL);
}

int main(void) {
  two_bits_of_a_row_are_these_bytes();
  one_bit_says_above_or_not();
  an_element_at_the_threshold_is_sent();
  nothing_is_lost("2bit", 4);
  nothing_is_lost("2bit", 0.5F);
  nothing_is_lost("1bit", 0);
  nothing_is_lost("1bit", -2);
  any_bytes_decode();
  settings_are_checked();
  return 0;
}
