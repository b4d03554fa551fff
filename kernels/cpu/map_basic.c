/* SPDX-License-Identifier: MIT */
/* map_basic.c - arithmetic, comparisons and the like, element by element; see map.h.
 *
 * Written so that every expression becomes a few vector instructions: no branches, `|` for `||`.
 * `a != a` asks for NaN, and is never so for integers. */
#include "map.h"

NEAP_MAP(add, 2, ALL, (U)a + (U)b)
NEAP_MAP(sub, 2, ALL, (U)a - (U)b)
NEAP_MAP(mul, 2, ALL, ((U)a * (U)b))
NEAP_MAP(div, 2, FLOAT, a / b)
NEAP_MAP(neg, 1, ALL, -(U)a)
NEAP_MAP(square, 1, ALL, ((U)a * (U)a))
NEAP_MAP(abs, 1, ALL, a > 0 ? (U)a : 0 - (U)a) /* not -a: -0.0 has to give 0.0 */
NEAP_MAP(sqrt, 1, FLOAT, sqrt(a))

/* NaN if either is: it is a that is asked, and b is what remains when a comparison fails. */
NEAP_MAP(maximum, 2, ALL, ((a > b) | (a != a)) ? a : b)
NEAP_MAP(minimum, 2, ALL, ((a < b) | (a != a)) ? a : b)
NEAP_MAP(relu, 1, ALL, ((a > 0) | (a != a)) ? a : 0)
/* The lower limit first, so that the upper one wins when they cross, as in NumPy. */
NEAP_MAP(clip, 1, ALL, (a < s0 ? s0 : a) > s1 ? s1 : (a < s0 ? s0 : a))
NEAP_MAP(sign, 1, ALL, a != a ? a : a > 0 ? 1 : a == 0 ? 0 : -1)

NEAP_MAP(equal, 2, ALL, a == b)
NEAP_MAP(greater, 2, ALL, a > b)
NEAP_MAP(less, 2, ALL, a < b)
NEAP_MAP(where, 3, ALL, a != 0 ? b : c)
