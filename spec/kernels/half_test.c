/* SPDX-License-Identifier: MIT */
/* half_test.c - float16 and bfloat16, all of them, against arithmetic by definition. */
#include "kernels/half.h"
#include "spec/kernels/reference.h"

static const int dtypes[] = {NEAP_K_F16, NEAP_K_BF16};

static float widen(int dtype, uint16_t bits) {
  return dtype == NEAP_K_F16 ? neap_half_to_float(bits) : neap_bfloat_to_float(bits);
}
static uint16_t narrow(int dtype, float value) {
  return dtype == NEAP_K_F16 ? neap_half_from_float(value) : neap_bfloat_from_float(value);
}
static uint16_t narrow_double(int dtype, double value) {
  return dtype == NEAP_K_F16 ? neap_half_from_double(value) : neap_bfloat_from_double(value);
}

/* `bits` is what `value` rounds to. */
static int is_rounded(int dtype, uint16_t bits, double value) {
  double expected = round_to(dtype, value), got = small_value(dtype, bits);
  if (isnan(value)) return isnan(got) && signbit(value) == bits >> 15;
  return got == expected && signbit(value) == bits >> 15;
}

static void every_16_bit_float_has_its_value_and_comes_back(void) {
  for (int d = 0; d < 2; d++)
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
      double value = small_value(dtypes[d], (uint16_t)bits);
      float got = widen(dtypes[d], (uint16_t)bits);
      if (isnan(value)) {
        CHECK(isnan(got) && !!signbit(got) == bits >> 15);
        CHECK(isnan(small_value(dtypes[d], narrow(dtypes[d], got))));
      } else {
        CHECK(got == (float)value && !!signbit(got) == bits >> 15);
        CHECK(narrow(dtypes[d], got) == bits);
        CHECK(narrow_double(dtypes[d], got) == bits);
      }
    }
}

/* Between two neighbours: the middle goes to the even one, what is just above or below it to the
 * nearer. The last "neighbour" is infinity. */
static void ties_go_to_even(void) {
  for (int d = 0; d < 2; d++) {
    int size = fraction_bits(dtypes[d]);
    uint16_t infinity = (uint16_t)(0x7fff >> size << size);
    for (uint16_t bits = 0; bits < infinity; bits++) {
      double low = small_value(dtypes[d], bits);
      double unit = bits ? low - small_value(dtypes[d], (uint16_t)(bits - 1)) : 0;
      double high = (uint16_t)(bits + 1) == infinity ? low + unit
                                                     : small_value(dtypes[d], (uint16_t)(bits + 1));
      double middle = (low + high) / 2;
      uint16_t even = (uint16_t)(bits & 1 ? bits + 1 : bits);
      CHECK(narrow(dtypes[d], (float)middle) == even);
      CHECK(narrow_double(dtypes[d], middle) == even);
      CHECK(narrow_double(dtypes[d], -middle) == (even | 0x8000));
      CHECK(narrow_double(dtypes[d], nextafter(middle, 0)) == bits);
      CHECK(narrow_double(dtypes[d], nextafter(middle, INFINITY)) == bits + 1);
      if ((float)middle == middle && middle > 0x1p-126) {
        CHECK(narrow(dtypes[d], nextafterf((float)middle, 0)) == bits);
        CHECK(narrow(dtypes[d], nextafterf((float)middle, INFINITY)) == bits + 1);
      }
    }
  }
}

static void any_float_or_double_rounds_to_nearest_even(void) {
  for (int i = 0; i < 500000; i++) {
    uint64_t bits = draw();
    uint32_t low = (uint32_t)bits;
    float single;
    double wide;
    memcpy(&single, &low, 4);
    memcpy(&wide, &bits, 8);
    double near_half = ldexp(1 + (double)(draw() >> 11) * 0x1p-53, (int)below(60) - 40);
    for (int d = 0; d < 2; d++) {
      CHECK(is_rounded(dtypes[d], narrow(dtypes[d], single), single));
      CHECK(is_rounded(dtypes[d], narrow_double(dtypes[d], wide), wide));
      CHECK(is_rounded(dtypes[d], narrow_double(dtypes[d], near_half), near_half));
      CHECK(is_rounded(dtypes[d], narrow(dtypes[d], (float)near_half), (float)near_half));
    }
  }
}

static void known_values(void) {
  /* From the table of the Wikipedia article on the half-precision format. */
  CHECK(neap_half_to_float(0x0001) == 0x1p-24f && neap_half_to_float(0x03ff) == 0x3ffp-24f);
  CHECK(neap_half_to_float(0x0400) == 0x1p-14f && neap_half_to_float(0x7bff) == 65504);
  CHECK(neap_half_to_float(0x3555) == 0.333251953125f && neap_half_to_float(0xc000) == -2);
  CHECK(neap_half_from_float(65519.996f) == 0x7bff && neap_half_from_float(65520) == 0x7c00);
  CHECK(neap_half_from_float(0x1p-25f) == 0 && neap_half_from_float(0x1.000002p-25f) == 1);
  CHECK(neap_bfloat_to_float(0x4049) == 3.140625f && neap_bfloat_from_float(3.14159274f) == 0x4049);
  /* Rounded twice, by way of float, this would be 1; it is above the middle of 1 and the next. */
  CHECK(neap_half_from_double(1 + 0x1p-11 + 0x1p-40) == 0x3c01);
}

int main(void) {
  every_16_bit_float_has_its_value_and_comes_back();
  ties_go_to_even();
  any_float_or_double_rounds_to_nearest_even();
  known_values();
  return 0;
}
