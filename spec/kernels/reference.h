/* SPDX-License-Identifier: MIT */
/* reference.h - numbers of every dtype done slowly and plainly, to hold the kernels against.
 *
 * Independent of kernels/: 16-bit floats are taken apart and put together by ldexp and rint, all
 * else by C's own conversions. An element is read as a double, or as an int64_t for integers. */
#ifndef NEAP_SPEC_REFERENCE_H
#define NEAP_SPEC_REFERENCE_H

#include "kernels/kernel.h"
#include "spec/check.h"
#include <math.h>
#include <string.h>

typedef struct number {
  double f;  /* of float dtypes */
  int64_t i; /* of integer dtypes */
} number;

static inline int is_float(int dtype) {
  return dtype <= NEAP_K_BF16;
}
static inline int is_small(int dtype) {
  return dtype == NEAP_K_F16 || dtype == NEAP_K_BF16;
}
static inline int fraction_bits(int dtype) {
  return dtype == NEAP_K_F64 ? 52 : dtype == NEAP_K_F32 ? 23 : dtype == NEAP_K_F16 ? 10 : 7;
}
static inline int exponent_bits(int dtype) {
  return dtype == NEAP_K_F64 ? 11 : dtype == NEAP_K_F16 ? 5 : 8;
}

/* The meaning of 16 bits, by the definition of IEEE 754's interchange formats. */
static inline double small_definition(int dtype, uint16_t bits) {
  int fraction_size = fraction_bits(dtype), exponent_size = exponent_bits(dtype);
  int fraction = bits & ((1 << fraction_size) - 1);
  int exponent = bits >> fraction_size & ((1 << exponent_size) - 1);
  int bias = (1 << (exponent_size - 1)) - 1;
  double value;
  if (exponent == (1 << exponent_size) - 1) {
    value = fraction ? (double)NAN : (double)INFINITY;
  } else if (exponent == 0) {
    value = ldexp(fraction, 1 - bias - fraction_size);
  } else {
    value = ldexp(fraction + (1 << fraction_size), exponent - bias - fraction_size);
  }
  return bits >> 15 ? -value : value;
}

/* The same, from a list made at the first call. */
static inline double small_value(int dtype, uint16_t bits) {
  static double list[2][0x10000];
  if (list[0][1] == 0)
    for (int i = 0; i < 0x10000; i++) {
      list[0][i] = small_definition(NEAP_K_F16, (uint16_t)i);
      list[1][i] = small_definition(NEAP_K_BF16, (uint16_t)i);
    }
  return list[dtype == NEAP_K_BF16][bits];
}

/* `value` rounded once, to nearest even, to what a float dtype holds. */
static inline double round_to(int dtype, long double value) {
  if (dtype == NEAP_K_F64) return (double)value;
  if (dtype == NEAP_K_F32) return (float)value;
  if (value == 0 || !isfinite(value)) return (double)value;
  int bias = (1 << (exponent_bits(dtype) - 1)) - 1;
  int exponent;
  frexpl(value, &exponent); /* value = [0.5, 1) * 2^exponent */
  int last_bit = exponent - 1 - fraction_bits(dtype), least = 1 - bias - fraction_bits(dtype);
  long double unit = ldexpl(1, last_bit < least ? least : last_bit);
  long double rounded = rintl(value / unit) * unit;
  if (fabsl(rounded) >= ldexpl(1, bias + 1))
    return value < 0 ? -(double)INFINITY : (double)INFINITY;
  return (double)rounded;
}

static inline uint16_t small_bits(int dtype, double value) {
  int size = fraction_bits(dtype), bias = (1 << (exponent_bits(dtype) - 1)) - 1;
  uint16_t sign = signbit(value) ? 0x8000 : 0, infinity = (uint16_t)(0x7fff >> size << size);
  value = round_to(dtype, fabs(value));
  if (isnan(value)) return sign | infinity | 1 << (size - 1);
  if (isinf(value)) return sign | infinity;
  if (value < ldexp(1, 1 - bias)) return sign | (uint16_t)ldexp(value, bias - 1 + size);
  int exponent;
  double fraction = frexp(value, &exponent);
  return (uint16_t)(sign | (exponent - 1 + bias) << size | (int)ldexp(fraction * 2 - 1, size));
}

static inline number get(int dtype, const void *base, int64_t index) {
  const char *at = (const char *)base + index * (int64_t)neap_k_itemsize(dtype);
  number result = {0, 0};
  switch (dtype) {
  case NEAP_K_F32:
    result.f = *(const float *)at;
    break;
  case NEAP_K_F64:
    result.f = *(const double *)at;
    break;
  case NEAP_K_F16:
  case NEAP_K_BF16:
    result.f = small_value(dtype, *(const uint16_t *)at);
    break;
  case NEAP_K_I8:
    result.i = *(const int8_t *)at;
    break;
  case NEAP_K_U8:
    result.i = *(const uint8_t *)at;
    break;
  case NEAP_K_I32:
    result.i = *(const int32_t *)at;
    break;
  case NEAP_K_I64:
    result.i = *(const int64_t *)at;
    break;
  }
  return result;
}

static inline int64_t wrap(int dtype, int64_t value) {
  switch (dtype) {
  case NEAP_K_I8:
    return (int8_t)value;
  case NEAP_K_U8:
    return (uint8_t)value;
  case NEAP_K_I32:
    return (int32_t)value;
  default:
    return value;
  }
}

/* A result as an element can hold it: rounded, or wrapped. */
static inline number settle(int dtype, number value) {
  if (is_float(dtype)) {
    value.f = round_to(dtype, value.f);
  } else {
    value.i = wrap(dtype, value.i);
  }
  return value;
}

static inline void put(int dtype, void *base, int64_t index, number value) {
  char *at = (char *)base + index * (int64_t)neap_k_itemsize(dtype);
  switch (dtype) {
  case NEAP_K_F32:
    *(float *)at = (float)value.f;
    break;
  case NEAP_K_F64:
    *(double *)at = value.f;
    break;
  case NEAP_K_F16:
  case NEAP_K_BF16:
    *(uint16_t *)at = small_bits(dtype, value.f);
    break;
  case NEAP_K_I8:
    *(int8_t *)at = (int8_t)value.i;
    break;
  case NEAP_K_U8:
    *(uint8_t *)at = (uint8_t)value.i;
    break;
  case NEAP_K_I32:
    *(int32_t *)at = (int32_t)value.i;
    break;
  case NEAP_K_I64:
    *(int64_t *)at = value.i;
    break;
  }
}

static inline void limits(int dtype, int64_t *low, int64_t *high) {
  static const int64_t lows[] = {INT8_MIN, 0, INT32_MIN, INT64_MIN};
  static const int64_t highs[] = {INT8_MAX, UINT8_MAX, INT32_MAX, INT64_MAX};
  *low = lows[dtype - NEAP_K_I8];
  *high = highs[dtype - NEAP_K_I8];
}

/* cast, by its description in ops.def. */
static inline number cast_number(int from, number value, int to) {
  number result = {0, 0};
  if (is_float(to)) {
    result.f = round_to(to, is_float(from) ? (long double)value.f : (long double)value.i);
  } else if (!is_float(from)) {
    result.i = wrap(to, value.i);
  } else if (!isnan(value.f)) {
    int64_t low, high;
    limits(to, &low, &high);
    long double cut = truncl(value.f);
    result.i = cut <= low ? low : cut >= high ? high : (int64_t)cut;
  }
  return result;
}

/* What a number in the place of an array is to an operation of this dtype. */
static inline number constant(int dtype, double value) {
  number given = {value, 0};
  return cast_number(NEAP_K_F64, given, is_small(dtype) ? NEAP_K_F32 : dtype);
}

static inline int same(int dtype, number a, number b) {
  return is_float(dtype) ? a.f == b.f || (isnan(a.f) && isnan(b.f)) : a.i == b.i;
}

/* ---- Made-up data, the same in every run ---- */

static inline uint64_t draw(void) { /* xorshift64* */
  static uint64_t state = 88172645463325252u;
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545F4914F6CDD1D;
}
static inline int64_t below(int64_t n) {
  return (int64_t)(draw() % (uint64_t)n);
}

enum data {
  ANY,   /* all there is: infinities, NaN, limits, subnormals, both zeros, repeats */
  PLAIN, /* numbers of moderate size */
  SMALL, /* integers from -8 to 8 (0 to 8): sums are exact in any order */
};

static inline number draw_number(int dtype, enum data data) {
  static const double odd[] = {0.0, -0.0,  1,     -1,   INFINITY, -INFINITY, NAN,
                               0.5, 65504, 65520, 1e-7, -6e-8,    3.4e38,    1e-40,
                               2.5, -2.5,  127,   128,  255,      256};
  number result = {0, 0};
  uint64_t r = draw();
  double unit = (double)(draw() >> 11) * 0x1p-53;
  int64_t low = 0, high = 0;
  if (!is_float(dtype)) limits(dtype, &low, &high);
  if (data == SMALL) {
    result.i = low == 0 && !is_float(dtype) ? (int64_t)(r % 9) : (int64_t)(r % 17) - 8;
    result.f = (double)result.i;
  } else if (!is_float(dtype)) {
    int kind = data == ANY ? (int)(r % 4) : 0;
    result.i = kind == 3   ? (r & 256 ? low : high)
               : kind == 2 ? (int64_t)(r >> 8) % 5 - 2
               : kind == 1 ? (int64_t)draw()
                           : (int64_t)(unit * 200) - (low ? 100 : 0);
    result.i = wrap(dtype, result.i);
  } else {
    int kind = data == ANY ? (int)(r % 8) : 0;
    result.f = kind == 7   ? odd[below(sizeof odd / sizeof *odd)]
               : kind == 6 ? ldexp(unit - 0.5, (int)(r >> 8 & 511) - 256)
               : kind == 5 ? (double)((int64_t)(r >> 8 & 15) - 8)
                           : (unit - 0.5) * 8;
    result.f = round_to(dtype, result.f);
  }
  return result;
}

#endif
