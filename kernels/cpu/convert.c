/* SPDX-License-Identifier: MIT */
/* convert.c - from one dtype to another: cast, and what the other files use for 16-bit floats.
 *
 * As a C cast, made total: floats to integers are cut towards zero, what does not fit gives the
 * nearest integer that does, NaN gives 0; integers to narrower ones wrap. To 16-bit floats there
 * is one rounding, whatever they come from (neap_float_odd in half.h). */
#include "cpu.h"
#if defined(__F16C__)
#include <immintrin.h>
#endif

/* ---- 16-bit floats -------------------------------------------------------------------------- */

/* Eight at a time by F16C where it is; half.h gives the same bits. */
static void half_widen(const uint16_t *restrict in, float *restrict out, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(in + i))));
#endif
  for (; i < n; i++) out[i] = neap_half_to_float(in[i]);
}

static void half_narrow(const float *restrict in, uint16_t *restrict out, int64_t n) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128((__m128i *)(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < n; i++) out[i] = neap_half_from_float(in[i]);
}

void NEAP_KERNEL(widen)(int dtype, const uint16_t *restrict in, float *restrict out, int64_t n) {
  if (dtype == NEAP_K_F16) {
    half_widen(in, out, n);
  } else {
    for (int64_t i = 0; i < n; i++) out[i] = neap_bfloat_to_float(in[i]);
  }
}

void NEAP_KERNEL(narrow)(int dtype, const float *restrict in, uint16_t *restrict out, int64_t n) {
  if (dtype == NEAP_K_F16) {
    half_narrow(in, out, n);
  } else {
    for (int64_t i = 0; i < n; i++) out[i] = neap_bfloat_from_float(in[i]);
  }
}

/* ---- One element ---------------------------------------------------------------------------- */

/* Limits as powers of two, which floats hold exactly: v fits if -limit <= v < limit. */
#define SATURATE(name, type, from, lowest, highest, low, limit)                                    \
  static inline type name(from v) {                                                                \
    return v != v ? 0 : v < (from)(low) ? (lowest) : v >= (from)(limit) ? (highest) : (type)v;     \
  }
#define SATURATES(from, f)                                                                         \
  SATURATE(i8_of_##f, int8_t, from, INT8_MIN, INT8_MAX, -0x1p7, 0x1p7)                             \
  SATURATE(u8_of_##f, uint8_t, from, 0, UINT8_MAX, 0, 0x1p8)                                       \
  SATURATE(i32_of_##f, int32_t, from, INT32_MIN, INT32_MAX, -0x1p31, 0x1p31)                       \
  SATURATE(i64_of_##f, int64_t, from, INT64_MIN, INT64_MAX, -0x1p63, 0x1p63)
SATURATES(float, f32)
SATURATES(double, f64)

/* A float that rounds to the same 16-bit float as the integer itself: where a double cannot hold
 * all bits, the low ones become one that says whether any was set. */
static inline float odd_of_i64(int64_t v) {
  int64_t low = v & 0x7ff, fits = -0x20000000000000 <= v && v <= 0x20000000000000;
  return neap_float_odd((double)(fits ? v : (v & ~(int64_t)0x7ff) | (low != 0) << 11));
}
static inline float odd_of_i32(int32_t v) {
  return neap_float_odd(v);
}

/* ---- Loops: cast_<to>_<from> ---------------------------------------------------------------- */

#define CAST(to, type_to, from, type_from, expression)                                             \
  static void cast_##to##_##from(const void *in_, void *out_, int64_t n) {                         \
    const type_from *restrict in = in_;                                                            \
    type_to *restrict out = out_;                                                                  \
    for (int64_t i = 0; i < n; i++) {                                                              \
      const type_from v = in[i];                                                                   \
      out[i] = (expression);                                                                       \
    }                                                                                              \
  }

/* Everything to floats, and integers among themselves: the C cast. */
#define CAST_FROM(from, type_from, unsigned_from)                                                  \
  CAST(f32, float, from, type_from, (float)v)                                                      \
  CAST(f64, double, from, type_from, (double)v)
NEAP_FLOATS(CAST_FROM)
NEAP_INTS(CAST_FROM)
#define CAST_INT_FROM(from, type_from, unsigned_from)                                              \
  CAST(i8, int8_t, from, type_from, (int8_t)v)                                                     \
  CAST(u8, uint8_t, from, type_from, (uint8_t)v)                                                   \
  CAST(i32, int32_t, from, type_from, (int32_t)v)                                                  \
  CAST(i64, int64_t, from, type_from, (int64_t)v)
NEAP_INTS(CAST_INT_FROM)
/* Floats to integers. */
#define CAST_CUT_FROM(from, type_from, unsigned_from)                                              \
  CAST(i8, int8_t, from, type_from, i8_of_##from(v))                                               \
  CAST(u8, uint8_t, from, type_from, u8_of_##from(v))                                              \
  CAST(i32, int32_t, from, type_from, i32_of_##from(v))                                            \
  CAST(i64, int64_t, from, type_from, i64_of_##from(v))
NEAP_FLOATS(CAST_CUT_FROM)
/* On the way to 16-bit floats; "odd" stands for float32 rounded to odd. */
CAST(odd, float, f64, double, neap_float_odd(v))
CAST(odd, float, i8, int8_t, v)
CAST(odd, float, u8, uint8_t, v)
CAST(odd, float, i32, int32_t, odd_of_i32(v))
CAST(odd, float, i64, int64_t, odd_of_i64(v))

typedef void cast_loop(const void *in, void *out, int64_t n);

/* From f32 for 16-bit floats, which are widened first; and to "odd" for them. */
static cast_loop *const cast_loops[NEAP_K_NUM_DTYPES][NEAP_K_NUM_DTYPES] = {
#define CAST_ROW(from, odd)                                                                        \
  {                                                                                                \
    cast_f32_##from, cast_f64_##from, odd, odd, cast_i8_##from, cast_u8_##from, cast_i32_##from,   \
        cast_i64_##from                                                                            \
  }
    [NEAP_K_F32] = CAST_ROW(f32, cast_f32_f32), [NEAP_K_F64] = CAST_ROW(f64, cast_odd_f64),
    [NEAP_K_F16] = CAST_ROW(f32, cast_f32_f32), [NEAP_K_BF16] = CAST_ROW(f32, cast_f32_f32),
    [NEAP_K_I8] = CAST_ROW(i8, cast_odd_i8),    [NEAP_K_U8] = CAST_ROW(u8, cast_odd_u8),
    [NEAP_K_I32] = CAST_ROW(i32, cast_odd_i32), [NEAP_K_I64] = CAST_ROW(i64, cast_odd_i64),
};

void NEAP_KERNEL(convert)(int from, const void *in, int to, void *out, int64_t n) {
  int small_from = neap_is_small_float(from), small_to = neap_is_small_float(to);
  cast_loop *loop = cast_loops[from][to];
  /* The commonest pairs need no buffer. */
  if (from == to) {
    memcpy(out, in, (size_t)n * neap_k_itemsize(to));
  } else if (!small_from && !small_to) {
    loop(in, out, n);
  } else if (to == NEAP_K_F32) {
    NEAP_KERNEL(widen)(from, in, out, n);
  } else if (from == NEAP_K_F32) {
    NEAP_KERNEL(narrow)(to, in, out, n);
  } else {
    neap_block wide, odd;
    for (int64_t i = 0, most; i < n; i += most) {
      most = neap_min(NEAP_BLOCK, n - i);
      const void *source = neap_at(in, i, from);
      void *target = neap_at_out(out, i, to);
      if (small_from) source = neap_load_f32(from, source, most, wide.f32);
      loop(source, small_to ? odd.f32 : target, most);
      if (small_to) NEAP_KERNEL(narrow)(to, odd.f32, target, most);
    }
  }
}

int NEAP_KERNEL(cast)(const neap_kargs *args, int64_t begin, int64_t end) {
  int from = args->dtype, to = args->out_dtype;
  if (begin < end) NEAP_KERNEL(convert)
  (from, neap_at(args->in[0], begin, from), to, neap_at_out(args->out, begin, to), end - begin);
  return NEAP_K_OK;
}

/* ---- Numbers given as double ---------------------------------------------------------------- */

void NEAP_KERNEL(number_wide)(int dtype, double number, void *out) {
  cast_loops[NEAP_K_F64][neap_is_small_float(dtype) ? NEAP_K_F32 : dtype](&number, out, 1);
}

void NEAP_KERNEL(number)(int dtype, double number, void *out) {
  NEAP_KERNEL(convert)(NEAP_K_F64, &number, dtype, out, 1);
}
