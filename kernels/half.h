/* SPDX-License-Identifier: MIT */
/* half.h - float16 and bfloat16: to and from float32, and from float64, rounding to nearest even.
 *
 * Written in integer arithmetic without branches, for two reasons: the bits are the same on
 * every machine, whatever its floating-point modes and instructions (they are what F16C's
 * vcvtph2ps and vcvtps2ph give, NaN included), and compilers vectorise loops over them.
 * kernels/cpu/convert.c has the loops, which use F16C where the instruction set has it.
 *
 *             sign  exponent  fraction   largest       smallest normal   smallest
 *   float16     1       5        10      65504         2^-14             2^-24
 *   bfloat16    1       8         7      3.39e38       2^-126            2^-133
 */
#ifndef NEAP_HALF_H
#define NEAP_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t neap_float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float neap_float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Exact. A signalling NaN becomes a quiet one, as the processor does it. */
static inline float neap_half_to_float(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
  uint32_t normal = (rest << 13) + (112u << 23); /* the bias goes from 15 to 127 */
  uint32_t special = (rest << 13) | 0x7f800000 | (rest > 0x7c00 ? 0x00400000 : 0);
  uint32_t subnormal = neap_float_bits((float)(int32_t)rest * 0x1p-24f);
  uint32_t bits = rest < 0x0400 ? subnormal : normal;
  return neap_float_of_bits(sign | (rest >= 0x7c00 ? special : bits));
}

static inline uint16_t neap_half_from_float(float value) {
  uint32_t bits = neap_float_bits(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
  /* Normal: half a unit is added in integer arithmetic, a carry goes into the exponent. */
  uint32_t normal = (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13;
  /* Subnormal: the floating-point adder rounds to multiples of 2^-24, which is the unit of
   * floats from 0.5 to 1. Larger values give nonsense here that is not used. */
  uint32_t subnormal = neap_float_bits(neap_float_of_bits(rest) + 0.5f) - 0x3f000000;
  uint32_t nan = 0x7e00 | (rest >> 13 & 0x03ff);
  uint32_t half = rest < (113u << 23) ? subnormal : normal;
  half = rest >= 0x477ff000 ? 0x7c00 : half; /* 65520, half a unit above the largest */
  half = rest > 0x7f800000 ? nan : half;
  return (uint16_t)(sign | half);
}

/* Exact. */
static inline float neap_bfloat_to_float(uint16_t bfloat) {
  return neap_float_of_bits((uint32_t)bfloat << 16);
}

static inline uint16_t neap_bfloat_from_float(float value) {
  uint32_t bits = neap_float_bits(value);
  uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  uint32_t nan = bits >> 16 | 0x0040;
  return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

/* The float on the way from a double to a 16-bit float. Rounding twice to nearest can be off by
 * one; rounding to odd first (if inexact, to the neighbour whose last bit is 1) leaves a mark
 * that the second rounding sees, so that the result is as if rounded once. */
static inline float neap_float_odd(double value) {
  float nearest = (float)value;
  uint32_t bits = neap_float_bits(nearest);
  double size = value < 0 ? -value : value;
  double back = nearest < 0 ? -(double)nearest : (double)nearest;
  uint32_t odd = back < size ? bits + 1 : bits - 1;
  int fix = (back != size) & ((bits & 1) == 0) & (value == value);
  return neap_float_of_bits(fix ? odd : bits);
}

static inline uint16_t neap_half_from_double(double value) {
  return neap_half_from_float(neap_float_odd(value));
}

static inline uint16_t neap_bfloat_from_double(double value) {
  return neap_bfloat_from_float(neap_float_odd(value));
}

#endif
