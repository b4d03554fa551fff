/* SPDX-License-Identifier: MIT */
/* elementary_test.c - exp, log, tanh and the logistic function of float32 against the C library's
 * in long double: floats from all of their range, and what each must give at its ends. */
#include "kernels/kernel.h"
#include "spec/check.h"
#include <math.h>
#include <string.h>

enum { BLOCK = 4096, STEP = 9973 /* of all floats by their bits; a prime */ };

static long double sigmoid(long double x) {
  return 1 / (1 + expl(-x));
}

static const struct function {
  const char *name;
  long double (*exact)(long double x);
  size_t offset; /* in the table */
} functions[] = {
    {"exp", expl, offsetof(neap_kernel_table, exp)},
    {"log", logl, offsetof(neap_kernel_table, log)},
    {"tanh", tanhl, offsetof(neap_kernel_table, tanh)},
    {"sigmoid", sigmoid, offsetof(neap_kernel_table, sigmoid)},
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

static void compute(const neap_kernel_table *table, const struct function *f, const float *in,
                    float *out, int64_t n) {
  const neap_kargs args = {
      .dtype = NEAP_K_F32, .ndim = 1, .shape = {n}, .stride = {{1}}, .in = {in}, .out = out};
  neap_kernel kernel;
  memcpy(&kernel, (const char *)table + f->offset, sizeof kernel);
  CHECK(kernel(&args, 0, n) == NEAP_K_OK);
}

/* How far `got` is from `exact`, in units of the last place of floats of that size. */
static double error_of(float got, long double exact) {
  const float nearest = (float)exact;
  if (isnan(nearest) || isinf(nearest) || isinf(got) || isnan(got))
    return isnan(nearest) ? (isnan(got) ? 0 : INFINITY) : got == nearest ? 0 : INFINITY;
  int exponent;
  frexpl(exact, &exponent);
  return (double)fabsl((got - exact) / ldexpl(1, exponent < -125 ? -149 : exponent - 24));
}

static float of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static void errors_are_below_a_little_more_than_half_a_unit(const neap_kernel_table *table) {
  static float in[BLOCK], out[BLOCK];
  for (int f = 0; f < FUNCTIONS; f++) {
    uint64_t bits = 0;
    while (bits <= UINT32_MAX) {
      int n = 0;
      for (; n < BLOCK && bits <= UINT32_MAX; n++, bits += STEP) in[n] = of_bits((uint32_t)bits);
      compute(table, &functions[f], in, out, n);
      for (int i = 0; i < n; i++) {
        const long double exact = functions[f].exact((long double)in[i]);
        if (error_of(out[i], exact) <= 0.51 &&
            (isnan(exact) || !signbit(out[i]) == !signbit(exact)))
          continue;
        fprintf(stderr, "%s: %s(%a) is %a, not %La\n", table->name, functions[f].name,
                (double)in[i], (double)out[i], exact);
        exit(1);
      }
    }
  }
}

static float at(const neap_kernel_table *table, int f, float x) {
  float y = 7;
  compute(table, &functions[f], &x, &y, 1);
  return y;
}

static int same(float a, float b) {
  return memcmp(&a, &b, sizeof a) == 0;
}

static void ends_are_exact(const neap_kernel_table *table) {
  enum { EXP, LOG, TANH, SIGMOID };
  for (int f = 0; f < FUNCTIONS; f++) CHECK(isnan(at(table, f, NAN)) && isnan(at(table, f, -NAN)));
  CHECK(same(at(table, EXP, 0), 1) && same(at(table, EXP, -0.0F), 1));
  CHECK(same(at(table, EXP, INFINITY), INFINITY) && same(at(table, EXP, -INFINITY), 0));
  CHECK(!isinf(at(table, EXP, 88.72283F)) && isinf(at(table, EXP, 88.72284F)));
  CHECK(same(at(table, EXP, -103.97F), 0x1p-149F) && same(at(table, EXP, -104), 0));
  CHECK(same(at(table, LOG, 1), 0) && same(at(table, LOG, INFINITY), INFINITY));
  CHECK(same(at(table, LOG, 0), -INFINITY) && same(at(table, LOG, -0.0F), -INFINITY));
  CHECK(isnan(at(table, LOG, -0x1p-149F)) && isnan(at(table, LOG, -INFINITY)));
  CHECK(same(at(table, LOG, 0x1p-149F), (float)(-149 * logl(2))));
  CHECK(same(at(table, TANH, 0), 0) && same(at(table, TANH, -0.0F), -0.0F));
  CHECK(same(at(table, TANH, INFINITY), 1) && same(at(table, TANH, -INFINITY), -1));
  CHECK(same(at(table, TANH, 0x1p-149F), 0x1p-149F) && same(at(table, TANH, -1e-30F), -1e-30F));
  CHECK(same(at(table, SIGMOID, 0), 0.5F) && same(at(table, SIGMOID, INFINITY), 1));
  CHECK(same(at(table, SIGMOID, -INFINITY), 0) && at(table, SIGMOID, -100) > 0);
}

int main(void) {
  static const char *const names[] = {"sse2", "avx2", "avx512", "neon"};
  for (int i = 0; i < 4; i++) {
    const neap_kernel_table *table = neap_k_cpu(names[i]);
    if (!table) continue;
    ends_are_exact(table);
    errors_are_below_a_little_more_than_half_a_unit(table);
  }
  return 0;
}
