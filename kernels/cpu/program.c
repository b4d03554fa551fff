/* SPDX-License-Identifier: MIT */
/* program.c - one block of an update program: a loop for each instruction.
 *
 * A register is an array of `count` elements in the frame's space; an input that needs no
 * conversion is used where it lies. program_block.h has the loops, for float and for double;
 * here is what both need to find their operands in memory. */
#include "cpu.h"
#include "../elementary.h"
#include "../philox.h"
#include "../program.h"
#include <math.h>
#include <string.h>

/* Only the rows present are worked on; the block's elements are those of the gradient's. */
static bool is_compact(const neap_p_run *run) {
  return run->ids && (run->plan->flags & NEAP_P_LAZY);
}

static int input_dtype(const neap_p_run *run, uint32_t input) {
  return input < 2 ? run->dtype : run->state_dtype[input - 2];
}

/* Where in the whole weight element `done` of the block is, and how many of the block's elements
 * follow it there without a gap. */
static int64_t stretch(const neap_p_frame *frame, int64_t done, int64_t *at) {
  const neap_p_run *run = frame->run;
  const int64_t position = frame->begin + done, left = frame->count - done;
  *at = position;
  if (!is_compact(run)) return left;
  const int64_t row = position / run->row, column = position % run->row;
  *at = run->ids[row] * run->row + column;
  return neap_min(left, run->row - column);
}

/* The first of the gradient's row ids that is not below `row`. */
static int64_t find_row(const neap_p_run *run, int64_t row) {
  int64_t low = 0, high = run->num_ids;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (run->ids[middle] < row)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* A number between 0 and 2^64 for each time that a draw is made: with the seed, the stream. */
static uint64_t draw_stream(const neap_p_run *run, uint32_t draw) {
  return (uint32_t)run->t | (uint64_t)draw << 32;
}

/* One block of random words is one element. */
static double draw_uniform(const neap_p_run *run, uint32_t draw, int64_t element, bool wide) {
  uint32_t word[4];
  neap_philox_block(word, run->seed, draw_stream(run, draw), (uint64_t)(run->first + element));
  return wide ? neap_unit53(word[0], word[1]) : neap_unit24(word[0]);
}

/* Box and Muller; the logarithm is of a number in (0, 1]. */
static double draw_normal(const neap_p_run *run, uint32_t draw, int64_t element) {
  uint32_t word[4];
  neap_philox_block(word, run->seed, draw_stream(run, draw), (uint64_t)(run->first + element));
  return sqrt(-2 * log(1 - neap_unit53(word[0], word[1]))) *
         cos(6.283185307179586476925 * neap_unit53(word[2], word[3]));
}

/* ---- Loops over a block, for each row of program_ops.def -------------------------------------
 * REAL is the type of elements, `to` the result, `a` and `b` the operands' elements, NULL for a
 * scalar, whose value is then in p or q. */
#define LOOP1(expression)                                                                          \
  NEAP_IVDEP                                                                                       \
  for (int64_t i = 0; i < n; i++) {                                                                \
    const REAL x = a[i];                                                                           \
    to[i] = (REAL)(expression);                                                                    \
  }
#define LOOP2(expression)                                                                          \
  if (a && b) {                                                                                    \
    NEAP_IVDEP                                                                                     \
    for (int64_t i = 0; i < n; i++) {                                                              \
      const REAL x = a[i], y = b[i];                                                               \
      to[i] = (REAL)(expression);                                                                  \
    }                                                                                              \
  } else if (a) {                                                                                  \
    const REAL y = q;                                                                              \
    NEAP_IVDEP                                                                                     \
    for (int64_t i = 0; i < n; i++) {                                                              \
      const REAL x = a[i];                                                                         \
      to[i] = (REAL)(expression);                                                                  \
    }                                                                                              \
  } else {                                                                                         \
    const REAL x = p;                                                                              \
    NEAP_IVDEP                                                                                     \
    for (int64_t i = 0; i < n; i++) {                                                              \
      const REAL y = b[i];                                                                         \
      to[i] = (REAL)(expression);                                                                  \
    }                                                                                              \
  }
#define LOOP3(expression)                                                                          \
  NEAP_IVDEP                                                                                       \
  for (int64_t i = 0; i < n; i++) {                                                                \
    const REAL x = a[i], y = b[i], z = c[i];                                                       \
    to[i] = (REAL)(expression);                                                                    \
  }
#define CASE_ELEMENT(name, operands, expression)
#define CASE_STATE(name, operands, expression)
#define CASE_SETTING(name, operands, expression)
#define CASE_SCALAR(name, operands, expression)
#define CASE_CONSTANT(name, operands, expression)
#define CASE_WHOLE(name, operands, expression)
#define CASE_ROWS(name, operands, expression)
#define CASE_DRAW(name, operands, expression)
#define CASE_MAP(name, operands, expression)                                                       \
  case NEAP_P_OP_##name:                                                                           \
    LOOP##operands(expression) break;

static void load_f32(int dtype, const void *from, float *to, int64_t n) {
  if (dtype == NEAP_K_F32)
    memcpy(to, from, (size_t)n * sizeof *to);
  else
    NEAP_KERNEL(widen)(dtype, from, to, n);
}

static void save_f32(int dtype, const float *from, void *to, int64_t n) {
  if (dtype == NEAP_K_F32)
    memcpy(to, from, (size_t)n * sizeof *from);
  else
    NEAP_KERNEL(narrow)(dtype, from, to, n);
}

static void load_f64(int dtype, const void *from, double *to, int64_t n) {
  (void)dtype;
  memcpy(to, from, (size_t)n * sizeof *to);
}

static void save_f64(int dtype, const double *from, void *to, int64_t n) {
  (void)dtype;
  memcpy(to, from, (size_t)n * sizeof *from);
}

#define REAL       float
#define REAL_DTYPE NEAP_K_F32
#define NAME(name) name##_f32
#include "program_block.h"
#undef REAL
#undef REAL_DTYPE
#undef NAME
#define REAL       double
#define REAL_DTYPE NEAP_K_F64
#define NAME(name) name##_f64
#include "program_block.h"

void NEAP_KERNEL(program)(neap_p_frame *frame, const neap_p_instr *code, int count) {
  if (frame->run->dtype == NEAP_K_F64)
    run_f64(frame, code, count);
  else
    run_f32(frame, code, count);
}
