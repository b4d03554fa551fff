/* SPDX-License-Identifier: MIT */
/* dot.c - products of matrices and vectors by BLAS.
 *
 * BLAS runs on one thread here; the engine cuts the result into blocks and runs them side by
 * side. Each block is one call, which arranges its rows of A and its columns of B for itself, so
 * blocks are kept large and not too narrow. They depend on the product's size alone: the number
 * of threads changes no bit. */
#include "call.h"
#include <math.h>
#include <string.h>

enum {
  BLOCK_WORK = 8 << 20, /* multiplications in a block, at least: some 100 microseconds */
  BLOCKS = 32,          /* no more are cut when each has more than that to do */
  MIN_COLUMNS = 128,    /* smaller blocks spend their time arranging */
  MIN_ROWS = 64,
};

typedef struct product {
  neap_kernel_gemm gemm;
  int dtype, ta, tb;
  size_t item;
  int64_t m, n, k, lda, ldb;
  int64_t rows, columns; /* of a block */
  int64_t across;        /* blocks side by side */
  const char *a, *b;
  char *c;
} product;

static int run_product(neap_task *task, void *arg) {
  const product *p = arg;
  int64_t part = neap_task_part(task);
  int64_t row = part / p->across * p->rows, column = part % p->across * p->columns;
  int64_t rows = p->m - row < p->rows ? p->m - row : p->rows;
  int64_t columns = p->n - column < p->columns ? p->n - column : p->columns;
  if (rows <= 0 || columns <= 0) return NEAP_OK;
  char *c = p->c + (size_t)(row * p->n + column) * p->item;
  if (p->k == 0) { /* sums of nothing */
    for (int64_t i = 0; i < rows; i++)
      memset(c + (size_t)(i * p->n) * p->item, 0, (size_t)columns * p->item);
    return NEAP_OK;
  }
  const char *a = p->a + (size_t)(p->ta ? row : row * p->lda) * p->item;
  const char *b = p->b + (size_t)(p->tb ? column * p->ldb : column) * p->item;
  int status =
      p->gemm(p->dtype, p->ta, p->tb, rows, columns, p->k, 1, a, p->lda, b, p->ldb, 0, c, p->n);
  return status ? neap_task_fail(task, NEAP_ENOTSUP, "the product is too large for BLAS") : NEAP_OK;
}

/* Cuts `whole` into pieces of about `piece` elements, alike, and multiples of `edge`. */
static int64_t even(int64_t whole, double piece, int64_t least, int64_t edge) {
  if (piece < (double)least) piece = (double)least;
  if (piece >= (double)whole) return whole > 0 ? whole : 1;
  int64_t pieces = (int64_t)ceil((double)whole / piece);
  int64_t each = (whole + pieces - 1) / pieces;
  return (each + edge - 1) / edge * edge;
}

static void cut(product *p, neap_work *work) {
  double total = (double)p->m * (double)p->n * (double)p->k;
  double block = total / BLOCKS > BLOCK_WORK ? total / BLOCKS : BLOCK_WORK;
  p->rows = p->m > 0 ? p->m : 1;
  p->columns = p->n > 0 ? p->n : 1;
  if (total > block) {
    /* Edges are multiples of what BLAS computes at a time. */
    double high = p->m < 256 ? (double)p->m : 256;
    p->columns = even(p->n, block / ((double)p->k * high), MIN_COLUMNS, 16);
    p->rows = even(p->m, block / ((double)p->k * (double)p->columns), MIN_ROWS, 8);
  }
  int64_t down = (p->m + p->rows - 1) / p->rows;
  p->across = p->n > 0 ? (p->n + p->columns - 1) / p->columns : 1;
  neap_work_set_parts(work, (int)(down * p->across)); /* about BLOCKS */
  neap_work_set_quick(work, total <= 4096);
}

/* The matrix that an argument stands for: `rows` by `columns` in memory. */
static void as_matrix(const neap_array *array, bool row, int64_t *rows, int64_t *columns) {
  const int64_t *shape = array->info.shape;
  *rows = array->info.ndim == 2 ? shape[0] : row ? 1 : shape[0];
  *columns = array->info.ndim == 2 ? shape[1] : row ? shape[0] : 1;
}

int neap_dot(neap_array *a, neap_array *b, int ta, int tb, neap_array **out) {
  NEAP_TRY(neap_check_dense("dot", a));
  NEAP_TRY(neap_check_pair("dot", a, b));
  if (a->info.dtype != NEAP_FLOAT32 && a->info.dtype != NEAP_FLOAT64)
    return neap_fail(NEAP_EDTYPE, "dot: wants float32 or float64, not %s; astype('float32') first",
                     neap_dtype_name(a->info.dtype));
  char one[NEAP_SHAPE_TEXT], two[NEAP_SHAPE_TEXT];
  if (a->info.ndim < 1 || a->info.ndim > 2 || b->info.ndim < 1 || b->info.ndim > 2)
    return neap_fail(NEAP_ESHAPE, "dot: shapes %s and %s are not of matrices or vectors",
                     neap_shape_text(&a->info, one), neap_shape_text(&b->info, two));
  int64_t ar, ac, br, bc;
  as_matrix(a, true, &ar, &ac);
  as_matrix(b, false, &br, &bc);
  ta = ta && a->info.ndim == 2;
  tb = tb && b->info.ndim == 2;
  int64_t m = ta ? ac : ar, k = ta ? ar : ac, n = tb ? br : bc;
  if (k != (tb ? bc : br))
    return neap_fail(NEAP_ESHAPE, "dot: shapes %s%s and %s%s do not fit",
                     neap_shape_text(&a->info, one), ta ? " transposed" : "",
                     neap_shape_text(&b->info, two), tb ? " transposed" : "");
  if (m > INT32_MAX || n > INT32_MAX || k > INT32_MAX)
    return neap_fail(NEAP_ENOTSUP, "dot: shapes %s and %s are too large for BLAS",
                     neap_shape_text(&a->info, one), neap_shape_text(&b->info, two));
  neap_array_info want = a->info;
  int64_t shape[2];
  int ndim = 0;
  if (a->info.ndim == 2) shape[ndim++] = m;
  if (b->info.ndim == 2) shape[ndim++] = n;
  NEAP_TRY(neap_shape_check("dot", ndim, shape, &want));
  neap_output output;
  NEAP_TRY(neap_output_open(&output, "dot", neap_array_context(a), &want, out));
  int status = neap_output_input(&output, a, false);
  if (status == NEAP_OK) status = neap_output_input(&output, b, false);
  if (status != NEAP_OK) return neap_output_drop(&output, status);
  neap_context *context = neap_array_context(a);
  neap_work *work = neap_work_new(context, "dot", run_product, sizeof(product), 2, 1);
  if (work) {
    *(product *)neap_work_payload(work) = (product){
        .gemm = context->cpu->gemm,
        .dtype = a->info.dtype,
        .ta = ta,
        .tb = tb,
        .item = (size_t)a->info.itemsize,
        .m = m,
        .n = n,
        .k = k,
        .lda = ac > 0 ? ac : 1,
        .ldb = bc > 0 ? bc : 1,
        .a = neap_array_at_data(a),
        .b = neap_array_at_data(b),
        .c = neap_array_at_data(output.array),
    };
    cut(neap_work_payload(work), work);
    neap_work_read(work, a->chunk->var);
    neap_work_read(work, b->chunk->var);
    neap_work_write(work, output.array->chunk->var);
  }
  return neap_output_close(&output, work, out);
}
