/* SPDX-License-Identifier: MIT */
/* map_math.c - functions of the C library, element by element; see map.h. One call an element:
 * the same bits for every instruction set, at the price of speed. */
#include "map.h"

NEAP_MAP(exp, 1, FLOAT, exp(a))
NEAP_MAP(log, 1, FLOAT, log(a))
NEAP_MAP(tanh, 1, FLOAT, tanh(a))
NEAP_MAP(sigmoid, 1, FLOAT, 1 / (1 + exp(-a)))
NEAP_MAP(pow, 2, FLOAT, pow(a, b))
