/* SPDX-License-Identifier: MIT */
/* sums.c - the sums that a store lives on: y += a*x, and many arrays added up. One pass over
 * memory, which is what they are limited by. */
#include "map.h"

NEAP_LOOPS_ALL(axpy, 2, ((U)a + (U)s0 * (U)b))
static neap_map_loop *const axpy_loops[NEAP_K_NUM_DTYPES] = {NEAP_LOOP_TABLE_ALL(axpy)};

int NEAP_KERNEL(axpy)(const neap_kargs *args, int64_t begin, int64_t end) {
  if (begin >= end) return NEAP_K_OK;
  double settings[2] = {0};
  NEAP_KERNEL(number_wide)(args->dtype, args->number[0], settings);
  void *out = neap_at_out(args->out, begin, args->dtype);
  const void *in[] = {out, neap_at(args->in[0], begin, args->dtype)};
  NEAP_KERNEL(map_flat)
  (axpy_loops[args->dtype], 2, args->dtype, out, in, settings, end - begin);
  return NEAP_K_OK;
}

/* Up to four in one pass. */
NEAP_LOOPS_ALL(add_2, 2, ((U)a + (U)b))
NEAP_LOOPS_ALL(add_3, 3, ((U)a + (U)b + (U)c))
NEAP_LOOPS_ALL(add_4, 4, ((U)a + (U)b + (U)c + (U)d))
static neap_map_loop *const add_loops[5][NEAP_K_NUM_DTYPES] = {
    [2] = {NEAP_LOOP_TABLE_ALL(add_2)},
    [3] = {NEAP_LOOP_TABLE_ALL(add_3)},
    [4] = {NEAP_LOOP_TABLE_ALL(add_4)},
};

/* More than four: a block at a time, the sum so far staying in a buffer. It may not stay in out,
 * which may be one of the inputs still to come. */
int NEAP_KERNEL(add_n)(const neap_kargs *args, int64_t begin, int64_t end) {
  const int dtype = args->dtype, small = neap_is_small_float(dtype);
  if (begin >= end) return NEAP_K_OK;
  if (args->count == 1) {
    neap_kargs copy = {.dtype = dtype, .out_dtype = dtype, .out = args->out, .in = {args->many[0]}};
    return NEAP_KERNEL(copy)(&copy, begin, end);
  }
  neap_block wide[4], sum;
  const double settings[2] = {0};
  int64_t most = end - begin;
  if (small || args->count > 4)
    most = NEAP_BLOCK_BYTES / (small ? (int64_t)sizeof(float) : (int64_t)neap_k_itemsize(dtype));
  for (int64_t at = begin, n; at < end; at += n) {
    n = neap_min(most, end - at);
    void *out = neap_at_out(args->out, at, dtype);
    for (int64_t next = 0; next < args->count;) {
      const void *in[4];
      int terms = 0;
      if (next > 0) in[terms++] = &sum;
      for (; terms < 4 && next < args->count; terms++, next++) {
        in[terms] = neap_at(args->many[next], at, dtype);
        if (small) in[terms] = neap_load_f32(dtype, in[terms], n, wide[terms].f32);
      }
      int last = next == args->count;
      add_loops[terms][dtype](last && !small ? out : &sum, in, settings, n);
    }
    if (small) NEAP_KERNEL(narrow)(dtype, sum.f32, out, n);
  }
  return NEAP_K_OK;
}
