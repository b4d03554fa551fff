/* SPDX-License-Identifier: MIT */
/* argmax.c - where along an axis the largest element is; the first of several, or of the NaNs.
 *
 *   inner > 1   a stretch of columns keeps the best value so far and its place; the rows along the
 *               axis are gone through one after the other, which vectorises.
 *   inner = 1   the largest is found first, by the kernel for that (reduce.c), and then looked for:
 *               twice through the row, but both times quickly. */
#include "cpu.h"

enum { COLUMNS = NEAP_BLOCK_BYTES / 8 };

/* best[i], place[i] = x[i], at where x[i] is better. */
typedef void better_loop(void *best, int64_t *place, const void *in, int64_t at, int64_t n);
/* The first of n elements that is like *value, NaN being like NaN; n if there is none. */
typedef int64_t find_loop(const void *in, const void *value, int64_t n);

#define ARGMAX(suffix, type, wrap)                                                                 \
  static void better_##suffix(void *best_, int64_t *restrict place, const void *in_, int64_t at,   \
                              int64_t n) {                                                         \
    type *restrict best = best_;                                                                   \
    const type *restrict in = in_;                                                                 \
    for (int64_t i = 0; i < n; i++) {                                                              \
      const type x = in[i], b = best[i];                                                           \
      const int take = (x > b) | ((x != x) & (b == b));                                            \
      best[i] = take ? x : b;                                                                      \
      place[i] = take ? at : place[i];                                                             \
    }                                                                                              \
  }                                                                                                \
  static int64_t find_##suffix(const void *in_, const void *value, int64_t n) {                    \
    const type *in = in_, v = *(const type *)value;                                                \
    int64_t i = 0;                                                                                 \
    while (i < n && !((in[i] == v) | ((in[i] != in[i]) & (v != v)))) i++;                          \
    return i;                                                                                      \
  }
NEAP_FLOATS(ARGMAX)
NEAP_INTS(ARGMAX)

#define BY_DTYPE(name)                                                                             \
  { name##_f32, name##_f64, name##_f32, name##_f32, name##_i8, name##_u8, name##_i32, name##_i64 }
static better_loop *const better[NEAP_K_NUM_DTYPES] = BY_DTYPE(better);
static find_loop *const find[NEAP_K_NUM_DTYPES] = BY_DTYPE(find);

/* As it is compared: in float32 if it has 16 bits. */
static const void *load(int dtype, const void *in, int64_t n, neap_block *buffer) {
  return neap_is_small_float(dtype) ? neap_load_f32(dtype, in, n, buffer->f32) : in;
}

/* Rows of `axis` elements: their places. */
static void of_rows(int dtype, const void *in, int64_t axis, int64_t rows, int64_t *place) {
  double largest[COLUMNS], wide;
  neap_kargs args = {.dtype = dtype, .out_dtype = dtype, .out = largest, .in = {in}};
  args.outer = rows, args.axis = axis, args.inner = 1;
  neap_block buffer;
  NEAP_KERNEL(max)(&args, 0, rows);
  for (int64_t r = 0; r < rows; r++) {
    const void *row = neap_at(in, r * axis, dtype), *value = neap_at(largest, r, dtype);
    if (neap_is_small_float(dtype)) value = neap_load_f32(dtype, value, 1, (float *)&wide);
    const int64_t block = neap_is_small_float(dtype) ? NEAP_BLOCK : axis;
    int64_t at = 0, found = 0, n = 0;
    do {
      at += n;
      n = neap_min(block, axis - at);
      found = find[dtype](load(dtype, neap_at(row, at, dtype), n, &buffer), value, n);
    } while (found == n && at + n < axis);
    place[r] = at + found;
  }
}

/* Columns `inner` apart. */
static void of_columns(int dtype, const void *in, int64_t axis, int64_t inner, int64_t n,
                       int64_t *place) {
  double best[COLUMNS];
  neap_block buffer;
  const int wide = neap_is_small_float(dtype) ? NEAP_K_F32 : dtype;
  /* The first row sets, for no value is below all others. */
  memcpy(best, load(dtype, in, n, &buffer), (size_t)n * neap_k_itemsize(wide));
  memset(place, 0, (size_t)n * sizeof *place);
  for (int64_t k = 1; k < axis; k++)
    better[dtype](best, place, load(dtype, neap_at(in, k * inner, dtype), n, &buffer), k, n);
}

int NEAP_KERNEL(argmax)(const neap_kargs *args, int64_t begin, int64_t end) {
  const int dtype = args->dtype;
  const int64_t axis = args->axis, inner = args->inner;
  int64_t *out = args->out;
  for (int64_t at = begin, n; at < end; at += n) {
    n = neap_min(COLUMNS, end - at);
    if (inner == 1) {
      of_rows(dtype, neap_at(args->in[0], at * axis, dtype), axis, n, out + at);
    } else {
      const int64_t outer = at / inner, column = at % inner;
      n = neap_min(n, inner - column);
      of_columns(dtype, neap_at(args->in[0], outer * axis * inner + column, dtype), axis, inner, n,
                 out + at);
    }
  }
  return NEAP_K_OK;
}
