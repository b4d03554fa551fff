/* SPDX-License-Identifier: MIT */
/* gemm_test.c - matrix products against the sum that defines them. */
#include "spec/kernels/reference.h"
#include <limits.h>

enum { MOST = 40 };

/* Integers from -8 to 8: every product and sum is exact, in float32 too. */
static void fill(int dtype, void *matrix, int n) {
  for (int i = 0; i < n; i++) put(dtype, matrix, i, draw_number(dtype, SMALL));
}

static void product(int dtype, int ta, int tb, int m, int n, int k, double alpha, double beta) {
  static double a[MOST * MOST], b[MOST * MOST], c[MOST * MOST], before[MOST * MOST];
  /* Room to the right of each matrix, which is not to be touched. */
  int lda = (ta ? m : k) + 1, ldb = (tb ? k : n) + 2, ldc = n + 3;
  fill(dtype, a, MOST * MOST);
  fill(dtype, b, MOST * MOST);
  fill(dtype, c, MOST * MOST);
  if (beta == 0) /* not even read */
    for (int i = 0; i < m; i++)
      for (int j = 0; j < n; j++) put(dtype, c, i * ldc + j, (number){NAN, 0});
  memcpy(before, c, sizeof c);
  CHECK(neap_k_cpu(NULL)->gemm(dtype, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) ==
        NEAP_K_OK);
  for (int at = 0; at < MOST * MOST; at++) {
    int i = at / ldc, j = at % ldc;
    double expected = get(dtype, before, at).f;
    if (i < m && j < n) {
      double sum = 0;
      for (int p = 0; p < k; p++)
        sum += get(dtype, a, ta ? p * lda + i : i * lda + p).f *
               get(dtype, b, tb ? j * ldb + p : p * ldb + j).f;
      expected = alpha * sum + (beta == 0 ? 0 : beta * expected);
    }
    CHECK(get(dtype, c, at).f == expected);
  }
}

static void products_of_all_kinds(void) {
  static const int sizes[][3] = {{1, 1, 1},   {3, 5, 7},   {17, 1, 9}, {1, 19, 30}, {33, 32, 31},
                                 {36, 1, 37}, {1, 36, 37}, {1, 1, 39}, {4, 4, 0}};
  for (int dtype = NEAP_K_F32; dtype <= NEAP_K_F64; dtype++)
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
      for (int t = 0; t < 4; t++) {
        product(dtype, t & 1, t >> 1, sizes[s][0], sizes[s][1], sizes[s][2], 1, 0);
        product(dtype, t & 1, t >> 1, sizes[s][0], sizes[s][1], sizes[s][2], 0.5, 1);
        product(dtype, t & 1, t >> 1, sizes[s][0], sizes[s][1], sizes[s][2], -2, 2);
      }
}

static void empty_products_touch_nothing(void) {
  const neap_kernel_table *table = neap_k_cpu(NULL);
  CHECK(table->gemm(NEAP_K_F32, 0, 0, 0, 5, 3, 1, NULL, 3, NULL, 5, 0, NULL, 5) == NEAP_K_OK);
  CHECK(table->gemm(NEAP_K_F64, 1, 1, 5, 0, 3, 1, NULL, 5, NULL, 3, 0, NULL, 0) == NEAP_K_OK);
  float c[4] = {NAN, 1, 2, 3}; /* no terms: the sum is 0 */
  CHECK(table->gemm(NEAP_K_F32, 0, 0, 2, 2, 0, 1, c, 0, c, 2, 0, c, 2) == NEAP_K_OK);
  CHECK(c[0] == 0 && c[1] == 0 && c[2] == 0 && c[3] == 0);
}

static void what_blas_cannot_do_is_refused(void) {
  const neap_kernel_table *table = neap_k_cpu(NULL);
  for (int dtype = NEAP_K_F16; dtype < NEAP_K_NUM_DTYPES; dtype++)
    CHECK(table->gemm(dtype, 0, 0, 1, 1, 1, 1, NULL, 1, NULL, 1, 0, NULL, 1) == NEAP_K_EDTYPE);
  for (int i = 0; i < 6; i++) {
    int64_t n[6] = {1, 1, 1, 1, 1, 1};
    n[i] = (int64_t)INT_MAX + 1;
    CHECK(table->gemm(NEAP_K_F32, 0, 0, n[0], n[1], n[2], 1, NULL, n[3], NULL, n[4], 0, NULL,
                      n[5]) == NEAP_K_ESIZE);
  }
}

int main(void) {
  products_of_all_kinds();
  empty_products_touch_nothing();
  what_blas_cannot_do_is_refused();
  return 0;
}
