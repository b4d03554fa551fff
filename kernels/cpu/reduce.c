/* SPDX-License-Identifier: MIT */
/* reduce.c - sums, means, norms and extremes along an axis, or of a whole array.
 *
 * Everything is one step, "fold": acc[i] = acc[i] with x[i], for the elements of a row and for row
 * after row. Nothing is reordered, so it vectorises and gives the same bits with vectors of any
 * length.
 *
 *   inner > 1   acc holds a stretch of columns; the rows are those along the axis.
 *   inner = 1   acc holds LANES lanes; the rows are LANES elements each, so that element i goes to
 *               lane i % LANES. Then the lanes are folded in halves until one is left. This is the
 *               way of long sums, so it has loops of its own, with the lanes in registers.
 *
 * Float sums have accumulators of float64, integer sums of int64; extremes their own type. */
#include "cpu.h"
#include <math.h>

enum { LANES = 32, COLUMNS = NEAP_BLOCK_BYTES / 8 };

/* Folds `rows` rows of n elements, `stride` apart, into acc. acc is of the accumulator's type, in
 * of the type that the dtype is computed in. */
typedef void fold_loop(void *acc, const void *in, int64_t n, int64_t rows, int64_t stride);
/* The same with n and stride LANES. */
typedef void lanes_loop(void *acc, const void *in, int64_t rows);

/* For columns four rows at a time, since acc is in memory. For lanes one after the other, as
 * memory likes it; unrolling lets the compiler keep them in registers, but makes branches of
 * comparisons. */
#define FOLD(name, suffix, type, acc_type, unroll, expression)                                     \
  static inline acc_type name##_step_##suffix(acc_type a, type x_) {                               \
    const acc_type x = (acc_type)x_;                                                               \
    return (expression);                                                                           \
  }                                                                                                \
  static void name##_##suffix(void *acc_, const void *in_, int64_t n, int64_t rows,                \
                              int64_t stride) {                                                    \
    acc_type *restrict acc = acc_;                                                                 \
    const type *restrict in = in_;                                                                 \
    for (; rows >= 4; rows -= 4, in += 4 * stride)                                                 \
      for (int64_t i = 0; i < n; i++) {                                                            \
        acc_type a = name##_step_##suffix(acc[i], in[i]);                                          \
        a = name##_step_##suffix(a, in[i + stride]);                                               \
        a = name##_step_##suffix(a, in[i + 2 * stride]);                                           \
        acc[i] = name##_step_##suffix(a, in[i + 3 * stride]);                                      \
      }                                                                                            \
    for (; rows > 0; rows--, in += stride)                                                         \
      for (int64_t i = 0; i < n; i++) acc[i] = name##_step_##suffix(acc[i], in[i]);                \
  }                                                                                                \
  static void name##_lanes_##suffix(void *acc, const void *in_, int64_t rows) {                    \
    acc_type lanes[LANES];                                                                         \
    const type *restrict in = in_;                                                                 \
    memcpy(lanes, acc, sizeof lanes);                                                              \
    for (; rows > 0; rows--, in += LANES)                                                          \
      unroll for (int i = 0; i < LANES; i++) lanes[i] = name##_step_##suffix(lanes[i], in[i]);     \
    memcpy(acc, lanes, sizeof lanes);                                                              \
  }
#define FOLD_SUM_FLOAT(suffix, type, wrap)                                                         \
  FOLD(sum, suffix, type, double, NEAP_UNROLL, a + x)                                              \
  FOLD(squares, suffix, type, double, NEAP_UNROLL, a + x * x)
#define FOLD_SUM_INT(suffix, type, wrap) FOLD(sum, suffix, type, uint64_t, NEAP_UNROLL, a + x)
/* NaN wins: as x by the question, as a because no comparison with it holds. */
#define FOLD_EXTREMES(suffix, type, wrap)                                                          \
  FOLD(max, suffix, type, type, NEAP_NO_UNROLL, ((x > a) | (x != x)) ? x : a)                      \
  FOLD(min, suffix, type, type, NEAP_NO_UNROLL, ((x < a) | (x != x)) ? x : a)
NEAP_FLOATS(FOLD_SUM_FLOAT)
NEAP_INTS(FOLD_SUM_INT)
NEAP_FLOATS(FOLD_EXTREMES)
NEAP_INTS(FOLD_EXTREMES)

enum finish { PLAIN, DIVIDE, ROOT };

typedef struct reduction {
  fold_loop *fold[NEAP_K_NUM_DTYPES];
  lanes_loop *lanes[NEAP_K_NUM_DTYPES];
  fold_loop *const *join; /* of two accumulators, by the accumulator's dtype */
  int float_acc, int_acc; /* dtype of accumulators; -1: what the dtype is computed in */
  double identity;        /* converted as cast does: -inf is the lowest of integers */
  enum finish finish;
} reduction;

#define FOLDS_FLOAT(name)                                                                          \
  [NEAP_K_F32] = name##_f32, [NEAP_K_F64] = name##_f64, [NEAP_K_F16] = name##_f32,                 \
  [NEAP_K_BF16] = name##_f32
#define FOLDS_ALL(name)                                                                            \
  FOLDS_FLOAT(name), [NEAP_K_I8] = name##_i8, [NEAP_K_U8] = name##_u8, [NEAP_K_I32] = name##_i32,  \
                     [NEAP_K_I64] = name##_i64

static const reduction sum_of = {
    {FOLDS_ALL(sum)}, {FOLDS_ALL(sum_lanes)}, sum_of.fold, NEAP_K_F64, NEAP_K_I64, 0, PLAIN};
static const reduction mean_of = {
    {FOLDS_FLOAT(sum)}, {FOLDS_FLOAT(sum_lanes)}, sum_of.fold, NEAP_K_F64, -1, 0, DIVIDE};
static const reduction norm_of = {
    {FOLDS_FLOAT(squares)}, {FOLDS_FLOAT(squares_lanes)}, sum_of.fold, NEAP_K_F64, -1, 0, ROOT};
static const reduction max_of = {
    {FOLDS_ALL(max)}, {FOLDS_ALL(max_lanes)}, max_of.fold, -1, -1, -INFINITY, PLAIN};
static const reduction min_of = {
    {FOLDS_ALL(min)}, {FOLDS_ALL(min_lanes)}, min_of.fold, -1, -1, INFINITY, PLAIN};

static int acc_dtype(const reduction *r, int dtype) {
  int acc = neap_is_float(dtype) ? r->float_acc : r->int_acc;
  return acc >= 0 ? acc : neap_is_small_float(dtype) ? NEAP_K_F32 : dtype;
}

static const void *load(int dtype, const void *in, int64_t n, neap_block *buffer) {
  return neap_is_small_float(dtype) ? neap_load_f32(dtype, in, n, buffer->f32) : in;
}

/* Reduces `n` contiguous elements to the accumulator `out`, which holds the identity. */
static void reduce_row(const reduction *r, int dtype, const void *in, int64_t n, void *out) {
  const int acc_type = acc_dtype(r, dtype), item = (int)neap_k_itemsize(acc_type);
  const int small = neap_is_small_float(dtype), wide = small ? NEAP_K_F32 : dtype;
  neap_block buffer;
  if (n < LANES) { /* one after the other */
    r->fold[dtype](out, load(dtype, in, n, &buffer), 1, n, 1);
    return;
  }
  double lanes[LANES];
  NEAP_KERNEL(repeat)(item, out, lanes, LANES);
  for (int64_t at = 0, most; at < n; at += most) {
    most = small ? neap_min(NEAP_BLOCK, n - at) : n;
    const void *x = load(dtype, neap_at(in, at, dtype), most, &buffer);
    const int64_t rows = most / LANES, rest = most % LANES;
    r->lanes[dtype](lanes, x, rows);
    r->fold[dtype](lanes, neap_at(x, rows * LANES, wide), rest, 1, 0);
  }
  for (int64_t half = LANES / 2; half > 0; half /= 2)
    r->join[acc_type](lanes, neap_at(lanes, half, acc_type), half, 1, 0);
  memcpy(out, lanes, item);
}

/* Accumulators to results. */
static void finish(const reduction *r, int dtype, double *acc, int64_t axis, int out_dtype,
                   void *out, int64_t n) {
  if (r->finish == DIVIDE)
    for (int64_t i = 0; i < n; i++) acc[i] /= (double)axis;
  if (r->finish == ROOT)
    for (int64_t i = 0; i < n; i++) acc[i] = sqrt(acc[i]);
  NEAP_KERNEL(convert)(acc_dtype(r, dtype), acc, out_dtype, out, n);
}

static int reduce(const reduction *r, const neap_kargs *args, int64_t begin, int64_t end) {
  const int dtype = args->dtype;
  const int64_t axis = args->axis, inner = args->inner;
  if (!r->fold[dtype]) return NEAP_K_EDTYPE;
  const int acc_type = acc_dtype(r, dtype), item = (int)neap_k_itemsize(acc_type);
  double acc[COLUMNS], identity;
  neap_block buffer;
  NEAP_KERNEL(number_wide)(acc_type, r->identity, &identity);
  for (int64_t at = begin, n; at < end; at += n) {
    n = neap_min(COLUMNS, end - at);
    NEAP_KERNEL(repeat)(item, &identity, acc, n);
    if (inner == 1) {
      for (int64_t i = 0; i < n; i++)
        reduce_row(r, dtype, neap_at(args->in[0], (at + i) * axis, dtype), axis,
                   (char *)acc + i * item);
    } else {
      const int64_t outer = at / inner, column = at % inner;
      n = neap_min(n, inner - column);
      /* Floats of 16 bits: as many rows at a time as the buffer holds, if they are contiguous. */
      const int64_t together = n == inner ? NEAP_BLOCK / n : 1;
      for (int64_t k = 0, rows; k < axis; k += rows) {
        const void *x = neap_at(args->in[0], (outer * axis + k) * inner + column, dtype);
        rows = neap_is_small_float(dtype) ? neap_min(together, axis - k) : axis;
        r->fold[dtype](acc, load(dtype, x, n * rows, &buffer), n, rows, inner);
      }
    }
    finish(r, dtype, acc, axis, args->out_dtype, neap_at_out(args->out, at, args->out_dtype), n);
  }
  return NEAP_K_OK;
}

#define REDUCE(name)                                                                               \
  int NEAP_KERNEL(name)(const neap_kargs *args, int64_t begin, int64_t end) {                      \
    return reduce(&name##_of, args, begin, end);                                                   \
  }
REDUCE(sum)
REDUCE(mean)
REDUCE(norm)
REDUCE(max)
REDUCE(min)

/* ---- Whole arrays, a grain at a time -------------------------------------------------------- */

static int partial(const reduction *r, const neap_kargs *args, int64_t begin, int64_t end) {
  const int dtype = args->dtype;
  if (!r->fold[dtype]) return NEAP_K_EDTYPE;
  for (int64_t g = begin; g < end; g++) {
    const int64_t at = g * NEAP_K_GRAIN;
    void *out = (char *)args->partial + g * 8;
    memset(out, 0, 8); /* the identity of sums, of doubles and of integers */
    reduce_row(r, dtype, neap_at(args->in[0], at, dtype), neap_min(NEAP_K_GRAIN, args->size - at),
               out);
  }
  return NEAP_K_OK;
}

int NEAP_KERNEL(partial_sum)(const neap_kargs *args, int64_t begin, int64_t end) {
  return partial(&sum_of, args, begin, end);
}
int NEAP_KERNEL(partial_norm)(const neap_kargs *args, int64_t begin, int64_t end) {
  return partial(&norm_of, args, begin, end);
}
