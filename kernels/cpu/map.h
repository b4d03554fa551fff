/* SPDX-License-Identifier: MIT */
/* map.h - how an element-wise operation is written: one line with its expression.
 *
 *   NEAP_MAP(add, 2, ALL, (U)a + (U)b)
 *
 * makes the kernel neap_<isa>_add of two inputs for all dtypes. In the expression a, b and c are
 * elements of the inputs, s0 and s1 the settings, T their type, and U the type that integers wrap
 * in (the same as T for floats). With FLOAT in the place of ALL, integers give NEAP_K_EDTYPE.
 * <tgmath.h> makes exp() the function of T. All else, broadcasting, 16-bit floats, numbers in the
 * place of inputs, is map_run's, the same for every operation (map.c). */
#ifndef NEAP_MAP_H
#define NEAP_MAP_H

#include "cpu.h"
#include <tgmath.h>

/* One contiguous run in one type. out may be the same memory as an input. */
typedef void neap_map_loop(void *out, const void *const *in, const void *settings, int64_t n);

/* Runs loops[dtype] over elements [begin, end) of out, for row `op` of ops.def. */
int NEAP_KERNEL(map_run)(int op, neap_map_loop *const *loops, const neap_kargs *args, int64_t begin,
                         int64_t end);

/* The simple case by itself: out and inputs contiguous, each given at its first element. */
void NEAP_KERNEL(map_flat)(neap_map_loop *loop, int inputs, int dtype, void *out,
                           const void *const *in, const void *settings, int64_t n);

#define NEAP_MAP(name, inputs, types, ...)                                                         \
  NEAP_LOOPS_##types(                                                                              \
      name, inputs, (__VA_ARGS__)) static neap_map_loop *const name##_loops[NEAP_K_NUM_DTYPES] = { \
      NEAP_LOOP_TABLE_##types(name)};                                                              \
  int NEAP_KERNEL(name)(const neap_kargs *args, int64_t begin, int64_t end) {                      \
    return NEAP_KERNEL(map_run)(NEAP_K_OP_##name, name##_loops, args, begin, end);                 \
  }

/* `out` and `in` are read and written at i only, hence the ivdep. */
#define NEAP_LOOP(name, inputs, suffix, type, wrap, expression)                                    \
  static void name##_##suffix(void *out_, const void *const *in, const void *settings,             \
                              int64_t n) {                                                         \
    typedef type T;                                                                                \
    typedef wrap U __attribute__((unused));                                                        \
    const T s0 __attribute__((unused)) = ((const T *)settings)[0];                                 \
    const T s1 __attribute__((unused)) = ((const T *)settings)[1];                                 \
    T *const out = out_;                                                                           \
    NEAP_INPUTS_##inputs;                                                                          \
    NEAP_IVDEP                                                                                     \
    for (int64_t i = 0; i < n; i++) {                                                              \
      NEAP_ELEMENTS_##inputs;                                                                      \
      out[i] = (T)expression;                                                                      \
    }                                                                                              \
  }
#define NEAP_INPUTS_1 const T *const pa = in[0]
#define NEAP_INPUTS_2 const T *const pa = in[0], *const pb = in[1]
#define NEAP_INPUTS_3 const T *const pa = in[0], *const pb = in[1], *const pc = in[2]
#define NEAP_INPUTS_4                                                                              \
  const T *const pa = in[0], *const pb = in[1], *const pc = in[2], *const pd = in[3]
#define NEAP_ELEMENTS_1 const T a = pa[i]
#define NEAP_ELEMENTS_2 const T a = pa[i], b = pb[i]
#define NEAP_ELEMENTS_3 const T a = pa[i], b = pb[i], c = pc[i]
#define NEAP_ELEMENTS_4 const T a = pa[i], b = pb[i], c = pc[i], d = pd[i]

#define NEAP_LOOPS_FLOAT(name, inputs, expression)                                                 \
  NEAP_LOOP(name, inputs, f32, float, float, expression)                                           \
  NEAP_LOOP(name, inputs, f64, double, double, expression)
#define NEAP_LOOPS_ALL(name, inputs, expression)                                                   \
  NEAP_LOOPS_FLOAT(name, inputs, expression)                                                       \
  NEAP_LOOP(name, inputs, i8, int8_t, uint8_t, expression)                                         \
  NEAP_LOOP(name, inputs, u8, uint8_t, uint8_t, expression)                                        \
  NEAP_LOOP(name, inputs, i32, int32_t, uint32_t, expression)                                      \
  NEAP_LOOP(name, inputs, i64, int64_t, uint64_t, expression)

/* By neap_k_dtype; 16-bit floats are computed in f32. */
#define NEAP_LOOP_TABLE_FLOAT(name)                                                                \
  [NEAP_K_F32] = name##_f32, [NEAP_K_F64] = name##_f64, [NEAP_K_F16] = name##_f32,                 \
  [NEAP_K_BF16] = name##_f32
#define NEAP_LOOP_TABLE_ALL(name)                                                                  \
  NEAP_LOOP_TABLE_FLOAT(name), [NEAP_K_I8] = name##_i8, [NEAP_K_U8] = name##_u8,                   \
                               [NEAP_K_I32] = name##_i32, [NEAP_K_I64] = name##_i64

#endif
