/* SPDX-License-Identifier: MIT */
/* random.c - uniform and normal numbers by Philox; philox.h says which block makes which element.
 * Element i depends on seed, stream and i alone, so any range can be made by any thread. All is
 * computed in float64 and rounded once to the dtype. */
#include "cpu.h"
#include "../philox.h"
#include <math.h>

static const double two_pi = 6.283185307179586476925;

/* Numbers in [0, 1) with so many bits, for elements begin .. begin+n. */
enum bits { BITS_24, BITS_32, BITS_53 };
static void units(const neap_kargs *args, enum bits bits, int64_t begin, int64_t n, double *unit) {
  const int64_t in_block = bits == BITS_53 ? 2 : 4;
  uint32_t word[4];
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = begin + i, lane = at % in_block;
    if (i == 0 || lane == 0)
      neap_philox_block(word, args->seed, args->stream, (uint64_t)(at / in_block));
    switch (bits) {
    case BITS_24:
      unit[i] = neap_unit24(word[lane]);
      break;
    case BITS_32:
      unit[i] = neap_unit32(word[lane]);
      break;
    case BITS_53:
      unit[i] = neap_unit53(word[2 * lane], word[2 * lane + 1]);
    }
  }
}

/* `value` rounded to the dtype. */
static double rounded(int dtype, double value) {
  double as_dtype, back;
  NEAP_KERNEL(number)(dtype, value, &as_dtype);
  NEAP_KERNEL(convert)(dtype, &as_dtype, NEAP_K_F64, &back, 1);
  return back;
}

/* The number of the dtype next to `value`, which is one, in the direction of `toward`. */
static double neighbour(int dtype, double value, double toward) {
  if (dtype == NEAP_K_F64) return nextafter(value, toward);
  if (dtype == NEAP_K_F32) return nextafterf((float)value, (float)toward);
  uint16_t bits;
  double back;
  NEAP_KERNEL(number)(dtype, value, &bits);
  if (value == 0) {
    bits = toward < 0 ? 0x8001 : 0x0001;
  } else {
    bits = (uint16_t)((toward > value) == (value > 0) ? bits + 1 : bits - 1);
  }
  NEAP_KERNEL(convert)(dtype, &bits, NEAP_K_F64, &back, 1);
  return back;
}

int NEAP_KERNEL(uniform)(const neap_kargs *args, int64_t begin, int64_t end) {
  const int dtype = args->out_dtype;
  const double low = args->number[0], high = args->number[1];
  if (!neap_is_float(dtype)) return NEAP_K_EDTYPE;
  /* Rounding must not leave [low, high): the first and the last number of the dtype in it. If
   * there is none, for instance when low is high, all elements are `first`. */
  double first = rounded(dtype, low), last = rounded(dtype, high);
  if (first < low) first = neighbour(dtype, first, INFINITY);
  if (last >= high) last = neighbour(dtype, last, -INFINITY);
  double value[NEAP_BLOCK_BYTES / sizeof(double)];
  for (int64_t at = begin, n; at < end; at += n) {
    n = neap_min(NEAP_BLOCK_BYTES / sizeof(double), end - at);
    units(args, dtype == NEAP_K_F64 ? BITS_53 : BITS_24, at, n, value);
    for (int64_t i = 0; i < n; i++) {
      double v = low + value[i] * (high - low);
      v = v > last ? last : v;
      value[i] = v < first ? first : v;
    }
    NEAP_KERNEL(convert)(NEAP_K_F64, value, dtype, neap_at_out(args->out, at, dtype), n);
  }
  return NEAP_K_OK;
}

/* Box and Muller (1958): elements 2p and 2p+1 are the cosine and the sine of one angle times one
 * radius. 32 bits reach 6.6 deviations, 53 bits 8.5. */
int NEAP_KERNEL(normal)(const neap_kargs *args, int64_t begin, int64_t end) {
  const int dtype = args->out_dtype;
  const double mean = args->number[0], deviation = args->number[1];
  if (!neap_is_float(dtype)) return NEAP_K_EDTYPE;
  double value[NEAP_BLOCK_BYTES / sizeof(double)];
  for (int64_t at = begin, n; at < end; at += n) {
    const int64_t skip = at % 2; /* begin inside a pair: its first is made, and left out */
    n = neap_min(NEAP_BLOCK_BYTES / sizeof(double) - skip, end - at);
    const int64_t pairs = (skip + n + 1) / 2;
    units(args, dtype == NEAP_K_F64 ? BITS_53 : BITS_32, at - skip, 2 * pairs, value);
    for (int64_t p = 0; p < pairs; p++) {
      const double radius = deviation * sqrt(-2 * log(1 - value[2 * p]));
      const double angle = two_pi * value[2 * p + 1];
      value[2 * p] = mean + radius * cos(angle);
      value[2 * p + 1] = mean + radius * sin(angle);
    }
    NEAP_KERNEL(convert)(NEAP_K_F64, value + skip, dtype, neap_at_out(args->out, at, dtype), n);
  }
  return NEAP_K_OK;
}
