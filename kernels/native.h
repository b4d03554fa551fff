/* SPDX-License-Identifier: MIT */
/* native.h - update programs as machine code.
 *
 * A pass of a plan becomes one loop over vectors: each element is loaded once, computed in
 * registers and stored once, as a C compiler would do it for the same formula. What cannot be put
 * so (row sums, random numbers, exp and its like, more values than registers, another processor)
 * stays with the executor of blocks, which gives the same bits.
 *
 * The emitter writes bytes into memory that the caller gives; it neither allocates nor changes the
 * protection of pages. It reads verified plans only, and every address it writes into the code is
 * an input's pointer plus the element's number. */
#ifndef NEAP_NATIVE_H
#define NEAP_NATIVE_H

#include "program.h"

enum {
  NEAP_N_INPUTS = 11, /* inputs that one pass may use: one register each */
  NEAP_N_VALUES = 96, /* scalars likewise */
  NEAP_N_ROOM = 16384 /* bytes of code that one pass may take */
};

/* Runs `elements` (a multiple of `lanes`, above 0) of them. inputs[k] points to the first element
 * of input k as numbered in neap_native; `values` are the scalars, of the elements' type; `sums`
 * are 8 lanes for each total, added to. */
typedef void (*neap_native_fn)(void *const *inputs, const void *values, int64_t elements,
                               double *sums);

/* One pass. */
typedef struct neap_native {
  neap_native_fn run; /* NULL: not put into machine code; else set by who made it executable */
  size_t offset;      /* of the code in the buffer */
  int lanes;          /* elements in a turn of the loop */
  int num_inputs, num_values;
  uint8_t inputs[NEAP_N_INPUTS];
  uint16_t values[NEAP_N_VALUES]; /* which of the run's values, after the fixed ones */
} neap_native;

/* Fixed scalars at the beginning of `values`: 1, -0 (the sign bit), and all bits but the sign. */
enum { NEAP_N_ONE = 0, NEAP_N_SIGN, NEAP_N_MAGNITUDE, NEAP_N_FIXED };

/* Writes the code of pass `pass` for a weight of `dtype` (with states of what its elements are
 * computed in) into `code`, for the instruction set of that kernel table's name. The number of
 * bytes, or 0 if it stays with the executor of blocks; then *out is not changed. */
size_t neap_native_emit(const neap_p_plan *plan, int pass, int dtype, const char *isa,
                        unsigned char *code, neap_native *out);

#endif
