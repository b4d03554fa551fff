/* SPDX-License-Identifier: MIT */
/* argmax.c - where along an axis the largest element is; the first of several, or of the NaNs.
 *
 * A stretch of columns keeps the best value so far and its place; the rows along the axis are
 * gone through one after the other, which vectorises. A single column (inner = 1) is taken as
 * LANES columns side by side: element i in lane i % LANES, turn i / LANES; the best lane wins, and
 * among equals the one with the smaller index. */
#include "cpu.h"

enum { LANES = 128, COLUMNS = NEAP_BLOCK_BYTES / 8 };

/* best[i], place[i] = x[i], turn where x[i] is better. */
typedef void better_loop(void *best, int64_t *place, const void *in, int64_t turn, int64_t n);
/* The index of the winner among n lanes. */
typedef int64_t winner_function(const void *best, const int64_t *place, int64_t n);

#define ARGMAX(suffix, type, wrap)                                                                 \
  static void better_##suffix(void *best_, int64_t *restrict place, const void *in_, int64_t turn, \
                              int64_t n) {                                                         \
    type *restrict best = best_;                                                                   \
    const type *restrict in = in_;                                                                 \
    for (int64_t i = 0; i < n; i++) {                                                              \
      const type x = in[i], b = best[i];                                                           \
      const int take = (x > b) | ((x != x) & (b == b));                                            \
      best[i] = take ? x : b;                                                                      \
      place[i] = take ? turn : place[i];                                                           \
    }                                                                                              \
  }                                                                                                \
  static int64_t winner_##suffix(const void *best_, const int64_t *place, int64_t n) {             \
    const type *best = best_;                                                                      \
    type b = best[0];                                                                              \
    int64_t index = place[0] * LANES;                                                              \
    for (int64_t lane = 1; lane < n; lane++) {                                                     \
      const type x = best[lane];                                                                   \
      const int64_t other = place[lane] * LANES + lane;                                            \
      const int equal = (x == b) | ((x != x) & (b != b));                                          \
      if (equal ? other < index : (x > b) | ((x != x) & (b == b))) b = x, index = other;           \
    }                                                                                              \
    return index;                                                                                  \
  }
NEAP_FLOATS(ARGMAX)
NEAP_INTS(ARGMAX)

#define BY_DTYPE(name)                                                                             \
  { name##_f32, name##_f64, name##_f32, name##_f32, name##_i8, name##_u8, name##_i32, name##_i64 }
static better_loop *const better[NEAP_K_NUM_DTYPES] = BY_DTYPE(better);
static winner_function *const winner[NEAP_K_NUM_DTYPES] = BY_DTYPE(winner);

typedef struct search {
  int dtype, wide; /* as it lies, and as it is compared */
  double best[COLUMNS];
  int64_t place[COLUMNS];
  neap_block buffer;
} search;

static const void *load(search *s, const void *in, int64_t n) {
  return s->dtype == s->wide ? in : neap_load_f32(s->dtype, in, n, s->buffer.f32);
}

/* One run of elements, turn `turn`; the first turn sets, for no value is below all others. */
static void step(search *s, const void *x, int64_t turn, int64_t n) {
  if (turn == 0) {
    memcpy(s->best, x, (size_t)n * neap_k_itemsize(s->wide));
    memset(s->place, 0, (size_t)n * sizeof *s->place);
  } else {
    better[s->dtype](s->best, s->place, x, turn, n);
  }
}

static int64_t argmax_row(search *s, const void *in, int64_t n) {
  for (int64_t at = 0, most; at < n; at += most) {
    most = neap_min(NEAP_BLOCK, n - at);
    const void *x = load(s, neap_at(in, at, s->dtype), most);
    for (int64_t i = 0; i < most; i += LANES)
      step(s, neap_at(x, i, s->wide), (at + i) / LANES, neap_min(LANES, most - i));
  }
  return winner[s->dtype](s->best, s->place, neap_min(n, LANES));
}

int NEAP_KERNEL(argmax)(const neap_kargs *args, int64_t begin, int64_t end) {
  const int64_t axis = args->axis, inner = args->inner;
  int64_t *out = args->out;
  search s;
  s.dtype = args->dtype;
  s.wide = neap_is_small_float(args->dtype) ? NEAP_K_F32 : args->dtype;
  for (int64_t at = begin, n; at < end; at += n) {
    if (inner == 1) {
      n = 1;
      out[at] = argmax_row(&s, neap_at(args->in[0], at * axis, s.dtype), axis);
      continue;
    }
    const int64_t outer = at / inner, column = at % inner;
    n = neap_min(neap_min(COLUMNS, end - at), inner - column);
    for (int64_t k = 0; k < axis; k++) {
      const void *x = neap_at(args->in[0], (outer * axis + k) * inner + column, s.dtype);
      step(&s, load(&s, x, n), k, n);
    }
    memcpy(out + at, s.place, (size_t)n * sizeof *out);
  }
  return NEAP_K_OK;
}
