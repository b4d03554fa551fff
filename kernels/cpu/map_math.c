/* SPDX-License-Identifier: MIT */
/* map_math.c - functions beyond arithmetic, element by element; see map.h. For float32 they are
 * vectors' work (elementary.h); float64 and pow are the C library's, one call an element. */
#include "map.h"
#include "../elementary.h"

/* In short runs, each of which asks for the memory of the next. */
#define MATH_LOOP(name, suffix, type)                                                              \
  static void name##_##suffix(void *out_, const void *const *in, const void *settings,             \
                              int64_t n) {                                                         \
    enum { RUN = 1024 / sizeof(type) };                                                            \
    type *out = out_;                                                                              \
    const type *a = in[0];                                                                         \
    for (int64_t at = 0; at < n; at += RUN) {                                                      \
      const void *const from[1] = {a + at};                                                        \
      neap_prefetch(a + at + RUN, RUN * sizeof(type));                                             \
      neap_prefetch(out + at + RUN, RUN * sizeof(type));                                           \
      name##_run_##suffix(out + at, from, settings, neap_min(RUN, n - at));                        \
    }                                                                                              \
  }
#define MATH(name, expression)                                                                     \
  NEAP_LOOPS_FLOAT(name##_run, 1, (expression))                                                    \
  MATH_LOOP(name, f32, float)                                                                      \
  MATH_LOOP(name, f64, double)                                                                     \
  static neap_map_loop *const name##_loops[NEAP_K_NUM_DTYPES] = {NEAP_LOOP_TABLE_FLOAT(name)};     \
  int NEAP_KERNEL(name)(const neap_kargs *args, int64_t begin, int64_t end) {                      \
    return NEAP_KERNEL(map_run)(NEAP_K_OP_##name, name##_loops, args, begin, end);                 \
  }

MATH(exp, NEAP_EXP(a))
MATH(log, NEAP_LOG(a))
MATH(tanh, NEAP_TANH(a))
MATH(sigmoid, NEAP_SIGMOID(a))
NEAP_MAP(pow, 2, FLOAT, pow(a, b))
