/* SPDX-License-Identifier: MIT */
/* gemm.c - matrix products, by the BLAS that the library is linked with. It chooses its own
 * instructions, so this is the same in every table.
 *
 * BLAS must bear being called on several threads at once, and use just the one that calls it.
 * OpenBLAS as built with OpenMP does: it asks OpenMP how many threads the caller may use, which
 * is a setting of each thread by itself, so nothing changes for the rest of the process. */
#include "cpu.h"
#include <cblas.h>
#include <limits.h>

#ifdef NEAP_BLAS_OPENMP
/* As in omp.h, which not every compiler brings. */
int omp_get_max_threads(void);
void omp_set_num_threads(int threads);
#else
static int omp_get_max_threads(void) {
  return 1;
}
static void omp_set_num_threads(int threads) {
  (void)threads;
}
#endif

/* y = alpha M x + beta y, M as it lies in memory or transposed. */
static void gemv(int dtype, int transposed, int rows, int columns, double alpha, const void *matrix,
                 int ld, const void *x, int step_x, double beta, void *y, int step_y) {
  const CBLAS_TRANSPOSE t = transposed ? CblasTrans : CblasNoTrans;
  if (beta == 0) { /* some versions multiply what is there, which may be no number */
    const int length = transposed ? columns : rows;
    for (int i = 0; i < length; i++)
      if (dtype == NEAP_K_F32)
        ((float *)y)[(size_t)i * (size_t)step_y] = 0;
      else
        ((double *)y)[(size_t)i * (size_t)step_y] = 0;
  }
  if (dtype == NEAP_K_F32)
    cblas_sgemv(CblasRowMajor, t, rows, columns, (float)alpha, matrix, ld, x, step_x, (float)beta,
                y, step_y);
  else
    cblas_dgemv(CblasRowMajor, t, rows, columns, alpha, matrix, ld, x, step_x, beta, y, step_y);
}

int NEAP_KERNEL(gemm)(int dtype, int ta, int tb, int64_t m, int64_t n, int64_t k, double alpha,
                      const void *a, int64_t lda, const void *b, int64_t ldb, double beta, void *c,
                      int64_t ldc) {
  if (dtype != NEAP_K_F32 && dtype != NEAP_K_F64) return NEAP_K_EDTYPE;
  const int64_t counts[] = {m, n, k, lda, ldb, ldc};
  for (int i = 0; i < 6; i++)
    if (counts[i] > INT_MAX) return NEAP_K_ESIZE;
  if (m == 0 || n == 0) return NEAP_K_OK;
  /* BLAS wants leading dimensions of at least 1, even of matrices without elements. */
  const int la = lda > 0 ? (int)lda : 1, lb = ldb > 0 ? (int)ldb : 1, lc = (int)ldc;
  const CBLAS_TRANSPOSE transpose_a = ta ? CblasTrans : CblasNoTrans;
  const CBLAS_TRANSPOSE transpose_b = tb ? CblasTrans : CblasNoTrans;
  const int threads = omp_get_max_threads();
  if (threads != 1) omp_set_num_threads(1);
  if (k > 0 && n == 1) { /* gemm would first rearrange the whole matrix: three times as slow */
    gemv(dtype, ta, (int)(ta ? k : m), (int)(ta ? m : k), alpha, a, la, b, tb ? 1 : lb, beta, c,
         lc);
  } else if (k > 0 && m == 1) {
    gemv(dtype, !tb, (int)(tb ? n : k), (int)(tb ? k : n), alpha, b, lb, a, ta ? la : 1, beta, c,
         1);
  } else if (dtype == NEAP_K_F32) {
    cblas_sgemm(CblasRowMajor, transpose_a, transpose_b, (int)m, (int)n, (int)k, (float)alpha, a,
                la, b, lb, (float)beta, c, lc);
  } else {
    cblas_dgemm(CblasRowMajor, transpose_a, transpose_b, (int)m, (int)n, (int)k, alpha, a, la, b,
                lb, beta, c, lc);
  }
  if (threads != 1) omp_set_num_threads(threads);
  return NEAP_K_OK;
}
