/* SPDX-License-Identifier: MIT */
/* elementary.h - exp, log, tanh and the logistic function of float32, written for vectors.
 *
 * The C library computes one number a call. These are a few multiplications and additions without
 * branches, which the compiler turns into vector instructions; every instruction set runs the same
 * ones in the same order (and -ffp-contract=off keeps them apart), so the bits agree everywhere.
 *
 * They compute in float64 and round once. In float64 the series below are off by less than 1e-9 of
 * the result, so that the rounded result is the float nearest to the exact one in all but about one
 * case in ten thousand, and else its neighbour: the error is below 0.51 units in the last place.
 * Subnormal results, infinities and NaN come out of the arithmetic, as they should.
 *
 * NEAP_EXP(x) and the others are for float these, for double the C library's. */
#ifndef NEAP_ELEMENTARY_H
#define NEAP_ELEMENTARY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t neap_double_bits(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline double neap_double_of_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Added to a number below 2^51, it leaves the nearest integer in the low bits. */
#define NEAP_TO_INTEGER 0x1.8p52
#define NEAP_LN2        0x1.62e42fefa39efp-1
#define NEAP_ONE_BITS   0x3ff0000000000000u /* of 1.0: the exponent's bias */

/* e^x = scale (1 + rest), with a power of two for scale: rest is e^r - 1 with |r| <= ln 2 / 2, by
 * its Taylor series up to r^8/8!. |x| is at most 700. */
static inline double neap_exp_parts(double x, double *scale) {
  const double shifted = x * (1 / NEAP_LN2) + NEAP_TO_INTEGER;
  const double r = x - (shifted - NEAP_TO_INTEGER) * NEAP_LN2;
  *scale = neap_double_of_bits((neap_double_bits(shifted) << 52) + NEAP_ONE_BITS);
  double sum = 1.0 / 40320;
  sum = sum * r + 1.0 / 5040;
  sum = sum * r + 1.0 / 720;
  sum = sum * r + 1.0 / 120;
  sum = sum * r + 1.0 / 24;
  sum = sum * r + 1.0 / 6;
  sum = sum * r + 0.5;
  sum = sum * r + 1;
  return sum * r;
}

/* Of any number. Beyond the limits, floats are infinite or 0. */
static inline double neap_exp_wide(double x) {
  double scale;
  const double limited = x < -120 ? -120 : x > 120 ? 120 : x;
  const double rest = neap_exp_parts(limited, &scale);
  return scale * (1 + rest);
}

static inline float neap_exp_f32(float x) {
  return (float)neap_exp_wide((double)x);
}

static inline float neap_sigmoid_f32(float x) {
  return (float)(1 / (1 + neap_exp_wide(-(double)x)));
}

/* (e^2x - 1) / (e^2x + 1), with the numerator from its parts, so that nothing cancels near 0. */
static inline float neap_tanh_f32(float x) {
  double scale;
  const double size = fabs((double)x), limited = size > 20 ? 20 : size; /* 1 from there on */
  const double rest = neap_exp_parts(2 * limited, &scale);
  const double less_one = (scale - 1) + scale * rest;
  return (float)copysign(less_one / (less_one + 2), (double)x);
}

/* x = 2^e m with m between sqrt(1/2) and sqrt(2); log m = 2 atanh(s), s = (m - 1) / (m + 1), by its
 * series up to s^11. */
static inline float neap_log_f32(float x) {
  const uint64_t root = 0x3fe6a09e667f3bcdu; /* the bits of sqrt(1/2) */
  const uint64_t bits = neap_double_bits((double)x);
  const uint64_t biased = (bits - root + NEAP_ONE_BITS) >> 52; /* e + 1023 */
  const double e = neap_double_of_bits(neap_double_bits(0x1p52) | biased) - (0x1p52 + 1023);
  const double m = neap_double_of_bits(bits - (biased << 52) + NEAP_ONE_BITS);
  const double s = (m - 1) / (m + 1), square = s * s;
  double sum = 1.0 / 11;
  sum = sum * square + 1.0 / 9;
  sum = sum * square + 1.0 / 7;
  sum = sum * square + 1.0 / 5;
  sum = sum * square + 1.0 / 3;
  sum = sum * square + 1;
  const float of_positive = (float)(e * NEAP_LN2 + 2 * s * sum);
  const float of_others = x == 0 ? -INFINITY : x > 0 ? x : NAN; /* x > 0: infinity */
  return ((x > 0) & (x < INFINITY)) ? of_positive : of_others;
}

static inline double neap_sigmoid_f64(double x) {
  return 1 / (1 + exp(-x));
}

#define NEAP_EXP(x)     _Generic((x), float : neap_exp_f32, double : exp)(x)
#define NEAP_LOG(x)     _Generic((x), float : neap_log_f32, double : log)(x)
#define NEAP_TANH(x)    _Generic((x), float : neap_tanh_f32, double : tanh)(x)
#define NEAP_SIGMOID(x) _Generic((x), float : neap_sigmoid_f32, double : neap_sigmoid_f64)(x)

#endif
