/* SPDX-License-Identifier: MIT */
/* program_block.h - the code of a block for elements of one type; program.c includes it for float
 * and for double, with REAL, REAL_DTYPE and NAME, which makes run_f32 and run_f64. */

static REAL *NAME(reg)(const neap_p_frame *frame, uint32_t number) {
  return (REAL *)(void *)((char *)frame->space + number * frame->stride);
}

/* The elements of an operand; NULL for a scalar. */
static const REAL *NAME(elements)(const neap_p_frame *frame, uint32_t operand) {
  const uint32_t number = operand & ~NEAP_P_TAG;
  switch (operand & NEAP_P_TAG) {
  case NEAP_P_REGISTER:
    return NAME(reg)(frame, number);
  case NEAP_P_INPUT:
    return frame->direct[number];
  default:
    return NULL;
  }
}

static REAL NAME(scalar)(const neap_p_frame *frame, uint32_t operand) {
  if ((operand & NEAP_P_TAG) != NEAP_P_VALUE) return 0;
  return (REAL)frame->run->values[operand & ~NEAP_P_TAG];
}

/* Rows absent from a row-sparse gradient are zeros. */
static void NAME(load_absent)(const neap_p_frame *frame, REAL *to) {
  const neap_p_run *run = frame->run;
  const int64_t end = frame->begin + frame->count;
  memset(to, 0, (size_t)frame->count * sizeof *to);
  for (int64_t r = find_row(run, frame->begin / run->row); r < run->num_ids; r++) {
    int64_t first = run->ids[r] * run->row, last = first + run->row, skip = 0;
    if (first >= end) break;
    if (first < frame->begin) skip = frame->begin - first;
    if (last > end) last = end;
    NAME(load)
    (run->dtype, neap_at(run->inputs[1], r * run->row + skip, run->dtype),
     to + (first + skip - frame->begin), last - first - skip);
  }
}

static void NAME(load_input)(neap_p_frame *frame, uint32_t input, REAL *to) {
  const neap_p_run *run = frame->run;
  const int dtype = input_dtype(run, input);
  const bool gradient = input == 1;
  if (gradient && run->ids && !is_compact(run)) {
    NAME(load_absent)(frame, to);
    frame->direct[input] = to;
    return;
  }
  if (gradient || !is_compact(run)) { /* one stretch, at the block's own place */
    const void *from = neap_at(run->inputs[input], frame->begin, dtype);
    /* and the next block's, which will follow it in memory */
    neap_prefetch(neap_at(from, frame->count, dtype),
                  frame->count * (int64_t)neap_k_itemsize(dtype));
    frame->direct[input] = dtype == REAL_DTYPE ? from : to;
    if (dtype != REAL_DTYPE) NAME(load)(dtype, from, to, frame->count);
    return;
  }
  for (int64_t done = 0; done < frame->count;) {
    int64_t at;
    const int64_t n = stretch(frame, done, &at);
    NAME(load)(dtype, neap_at(run->inputs[input], at, dtype), to + done, n);
    done += n;
  }
  frame->direct[input] = to;
}

static void NAME(store)(const neap_p_frame *frame, uint32_t input, const REAL *from) {
  const neap_p_run *run = frame->run;
  const int dtype = input_dtype(run, input);
  for (int64_t done = 0; done < frame->count;) {
    int64_t at;
    const int64_t n = stretch(frame, done, &at);
    NAME(save)(dtype, from + done, neap_at_out(run->inputs[input], at, dtype), n);
    done += n;
  }
}

/* Eight lanes, whatever the vectors' length, so that every instruction set adds up alike. */
static void NAME(add_up)(const REAL *a, int64_t n, bool squares, double lanes[8]) {
  double sum[8];
  memcpy(sum, lanes, sizeof sum);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int j = 0; j < 8; j++) {
      const double x = (double)a[i + j];
      sum[j] += squares ? x * x : x;
    }
  }
  for (int j = 0; i < n; i++, j++) {
    const double x = (double)a[i];
    sum[j] += squares ? x * x : x;
  }
  memcpy(lanes, sum, sizeof sum);
}

/* The block is whole rows, or lies in one. */
static int64_t NAME(row_part)(const neap_p_frame *frame) {
  return neap_min(frame->run->row, frame->count);
}

static void NAME(add_rows)(neap_p_frame *frame, uint32_t slot, const REAL *a) {
  const int64_t row = NAME(row_part)(frame);
  double *sums = frame->row_sums + slot * frame->row_room;
  for (int64_t r = 0; r * row < frame->count; r++) {
    double s[8] = {0};
    NAME(add_up)(a + r * row, row, false, s);
    sums[r] += ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
  }
}

static void NAME(spread)(const neap_p_frame *frame, uint32_t slot, bool mean, REAL *to) {
  const int64_t row = NAME(row_part)(frame);
  const double *sums = frame->row_sums + slot * frame->row_room;
  for (int64_t r = 0; r * row < frame->count; r++) {
    const REAL value = (REAL)(mean ? sums[r] / (double)frame->run->row : sums[r]);
    for (int64_t i = 0; i < row; i++) to[r * row + i] = value;
  }
}

static void NAME(copy)(const REAL *a, REAL value, REAL *to, int64_t n) {
  if (a) {
    memcpy(to, a, (size_t)n * sizeof *to);
  } else {
    for (int64_t i = 0; i < n; i++) to[i] = value;
  }
}

/* By place in the whole weight, so that parts and rows present draw what the whole would. */
static void NAME(draw)(const neap_p_frame *frame, int op, uint32_t draw, REAL *to) {
  for (int64_t done = 0; done < frame->count;) {
    int64_t at;
    const int64_t n = stretch(frame, done, &at);
    for (int64_t i = 0; i < n; i++)
      to[done + i] = (REAL)(op == NEAP_P_OP_normal
                                ? draw_normal(frame->run, draw, at + i)
                                : draw_uniform(frame->run, draw, at + i, REAL_DTYPE == NEAP_K_F64));
    done += n;
  }
}

/* Instructions whose operands are not those of a MAP operation. False: not one of these. */
static bool NAME(run_special)(neap_p_frame *frame, const neap_p_instr *code) {
  REAL *const to = NAME(reg)(frame, code->to);
  switch (code->op) {
  case NEAP_P_OP_load:
    NAME(load_input)(frame, code->a, to);
    return true;
  case NEAP_P_OP_spread:
    NAME(spread)(frame, code->a, code->b, to);
    return true;
  case NEAP_P_OP_store:
    NAME(store)(frame, code->b, NAME(reg)(frame, code->a));
    return true;
  case NEAP_P_OP_uniform:
  case NEAP_P_OP_normal:
    NAME(draw)(frame, code->op, code->a, to);
    return true;
  case NEAP_P_OP_add_up:
  case NEAP_P_OP_add_squares:
    NAME(add_up)
    (NAME(elements)(frame, code->a), frame->count, code->op == NEAP_P_OP_add_squares,
     frame->sums + 8 * code->b);
    return true;
  case NEAP_P_OP_add_rows:
    NAME(add_rows)(frame, code->b, NAME(elements)(frame, code->a));
    return true;
  case NEAP_P_OP_copy:
    NAME(copy)(NAME(elements)(frame, code->a), NAME(scalar)(frame, code->a), to, frame->count);
    return true;
  default:
    return false;
  }
}

static void NAME(run)(neap_p_frame *frame, const neap_p_instr *code, int count) {
  const int64_t n = frame->count;
  for (; count > 0; code++, count--) {
    if (NAME(run_special)(frame, code)) continue;
    REAL *const to = NAME(reg)(frame, code->to);
    const REAL *const a = NAME(elements)(frame, code->a);
    const REAL *const b = NAME(elements)(frame, code->b);
    const REAL *const c = NAME(elements)(frame, code->c);
    const REAL p = NAME(scalar)(frame, code->a), q = NAME(scalar)(frame, code->b);
    switch (code->op) {
#define NEAP_P(name, operands, rule, expression) CASE_##rule(name, operands, expression)
#include "../program_ops.def"
#undef NEAP_P
    }
  }
}
