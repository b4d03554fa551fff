/* SPDX-License-Identifier: MIT */
/* philox_test.c - random numbers: the published vectors, and what the elements are made of. */
#include "kernels/philox.h"
#include "spec/kernels/reference.h"

/* kat_vectors of Random123 1.14, "philox4x32 10": counter, key, result. */
static const uint32_t known[][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
     0xa20bc7c6, 0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
     0x5001e420, 0x24126ea1},
};

static void blocks_are_those_published(void) {
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    const uint32_t *k = known[i];
    uint32_t word[4] = {k[0], k[1], k[2], k[3]};
    neap_philox(word, k[4], k[5]);
    CHECK(memcmp(word, k + 6, sizeof word) == 0);
    neap_philox_block(word, (uint64_t)k[5] << 32 | k[4], (uint64_t)k[3] << 32 | k[2],
                      (uint64_t)k[1] << 32 | k[0]);
    CHECK(memcmp(word, k + 6, sizeof word) == 0);
  }
}

/* Seed 0, stream 0, block 0 is the first vector. */
static void elements_are_made_of_the_words_documented(void) {
  const uint32_t *k = known[0];
  float single[4];
  double wide[2], normal[2];
  uint16_t half[4];
  neap_kargs args = {.out_dtype = NEAP_K_F32, .out = single, .number = {0, 1}};
  CHECK(neap_k_cpu(NULL)->uniform(&args, 0, 4) == NEAP_K_OK);
  for (int i = 0; i < 4; i++) CHECK(single[i] == (float)(k[6 + i] >> 8) / 16777216);
  args.out_dtype = NEAP_K_F64;
  args.out = wide;
  CHECK(neap_k_cpu(NULL)->uniform(&args, 0, 2) == NEAP_K_OK);
  for (int i = 0; i < 2; i++) {
    uint64_t bits = (uint64_t)k[7 + 2 * i] << 32 | k[6 + 2 * i];
    CHECK(wide[i] == (double)(bits >> 11) / 9007199254740992);
  }
  /* Box and Muller, of the same two numbers. */
  args.out = normal;
  CHECK(neap_k_cpu(NULL)->normal(&args, 0, 2) == NEAP_K_OK);
  long double radius = sqrtl(-2 * logl(1 - (long double)wide[0])), angle = 2 * acosl(-1) * wide[1];
  CHECK(fabsl(normal[0] - radius * cosl(angle)) < 1e-14L);
  CHECK(fabsl(normal[1] - radius * sinl(angle)) < 1e-14L);
  args.out_dtype = NEAP_K_F16;
  args.out = half;
  CHECK(neap_k_cpu(NULL)->uniform(&args, 0, 4) == NEAP_K_OK);
  for (int i = 0; i < 4; i++)
    CHECK(small_value(NEAP_K_F16, half[i]) == round_to(NEAP_K_F16, (k[6 + i] >> 8) / 16777216.0));
}

enum { N = 200000 };
static double sample[N];

static void draw_sample(int dtype, int normal, double a, double b, uint64_t seed, uint64_t stream) {
  static double raw[N];
  neap_kargs args = {
      .out_dtype = dtype, .out = raw, .number = {a, b}, .seed = seed, .stream = stream};
  const neap_kernel_table *table = neap_k_cpu(NULL);
  CHECK((normal ? table->normal : table->uniform)(&args, 0, N) == NEAP_K_OK);
  for (int i = 0; i < N; i++) sample[i] = get(dtype, raw, i).f;
}

static double moment(int power, double about) {
  double sum = 0;
  for (int i = 0; i < N; i++) sum += pow(sample[i] - about, power);
  return sum / N;
}

/* Within five standard errors. */
static int near(double got, double expected, double variance_of_one) {
  return fabs(got - expected) < 5 * sqrt(variance_of_one / N);
}

static void uniform_numbers_fill_their_range(void) {
  for (int dtype = NEAP_K_F32; dtype <= NEAP_K_BF16; dtype++) {
    draw_sample(dtype, 0, 0, 1, 42, 7);
    /* Ranges whose ends the dtype does not hold, or that one rounding would leave. */
    CHECK(dtype == NEAP_K_BF16 || near(moment(1, 0), 0.5, 1 / 12.0));
    CHECK(dtype == NEAP_K_BF16 || near(moment(2, 0.5), 1 / 12.0, 1 / 180.0));
    static const double ranges[][2] = {{0, 1},     {-0.1, 0.1}, {1, 1.05},
                                       {-3, -2.9}, {0.3, 0.7},  {-1e-3, 0}};
    for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++) {
      draw_sample(dtype, 0, ranges[r][0], ranges[r][1], r, 1);
      for (int i = 0; i < N; i++) CHECK(sample[i] >= ranges[r][0] && sample[i] < ranges[r][1]);
    }
    draw_sample(dtype, 0, 2, 2, 42, 7);
    for (int i = 0; i < N; i++) CHECK(sample[i] == 2);
  }
}

static void normal_numbers_have_the_moments_of_the_normal_distribution(void) {
  for (int dtype = NEAP_K_F32; dtype <= NEAP_K_F16; dtype++) {
    draw_sample(dtype, 1, 0, 1, 42, 7);
    CHECK(near(moment(1, 0), 0, 1));
    CHECK(near(moment(2, 0), 1, 2));
    CHECK(near(moment(3, 0), 0, 15));
    CHECK(near(moment(4, 0), 3, 96));
    int beyond_2 = 0;
    for (int i = 0; i < N; i++) beyond_2 += fabs(sample[i]) > 2;
    CHECK(near((double)beyond_2 / N, erfc(sqrt(2)), 0.0455));
    draw_sample(dtype, 1, 3, 0.5, 1, 2);
    CHECK(near(moment(1, 0), 3, 0.25) && near(moment(2, 3), 0.25, 2 * 0.0625));
  }
}

static void seeds_and_streams_are_unlike_each_other(void) {
  static double first[N];
  draw_sample(NEAP_K_F64, 0, 0, 1, 1, 0);
  memcpy(first, sample, sizeof first);
  for (int other = 0; other < 3; other++) {
    draw_sample(NEAP_K_F64, 0, 0, 1,
                other == 0   ? 2
                : other == 1 ? (uint64_t)1 << 32 | 1
                             : 1,
                other == 2);
    double product = 0;
    for (int i = 0; i < N; i++) product += (first[i] - 0.5) * (sample[i] - 0.5);
    CHECK(near(product / N, 0, 1 / 144.0));
  }
}

int main(void) {
  blocks_are_those_published();
  elements_are_made_of_the_words_documented();
  uniform_numbers_fill_their_range();
  normal_numbers_have_the_moments_of_the_normal_distribution();
  seeds_and_streams_are_unlike_each_other();
  return 0;
}
