/* SPDX-License-Identifier: MIT */
/* gemm.c - matrix products, by the BLAS that the library is linked with. It chooses its own
 * instructions, so this is the same in every table. */
#include "cpu.h"
#include <cblas.h>
#include <limits.h>

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
  if (dtype == NEAP_K_F32) {
    cblas_sgemm(CblasRowMajor, transpose_a, transpose_b, (int)m, (int)n, (int)k, (float)alpha, a,
                la, b, lb, (float)beta, c, lc);
  } else {
    cblas_dgemm(CblasRowMajor, transpose_a, transpose_b, (int)m, (int)n, (int)k, alpha, a, la, b,
                lb, beta, c, lc);
  }
  return NEAP_K_OK;
}
