/* SPDX-License-Identifier: MIT */
/* program_run.c - runs plans: scalar code, and the walk over grains, chunks of rows and blocks.
 * The loops over a block's elements are in cpu/program.c, once for each instruction set.
 *
 * Where things are cut: a grain (what one thread takes at a time) is NEAP_K_GRAIN elements, or
 * the whole rows nearest to that when rows are summed. A block is as many elements as let all
 * registers lie in a buffer on the stack that fits the first-level cache. Both depend on the
 * program and the shape alone. */
#include "elementary.h"
#include "native.h"

#include <math.h>
#include <string.h>

enum {
  SPACE = 32 * 1024, /* bytes of registers */
  /* Not a power of two: registers at the same place of each page slow stores and loads down. */
  BLOCK = 960,
  LANES = 8,
  FINE_GRAIN = 16384, /* of a plan without sums, whose results depend on no cut */
};

/* ---- Scalars ------------------------------------------------------------------------------- */

static double evaluate(int op, double x, double y, double z) {
  switch (op) {
#define CASE_ELEMENT(name, expression)
#define CASE_STATE(name, expression)
#define CASE_SETTING(name, expression)
#define CASE_SCALAR(name, expression)
#define CASE_CONSTANT(name, expression)
#define CASE_WHOLE(name, expression)
#define CASE_ROWS(name, expression)
#define CASE_DRAW(name, expression)
#define CASE_MAP(name, expression)                                                                 \
  case NEAP_P_OP_##name:                                                                           \
    return expression;
#define NEAP_P(name, operands, rule, expression) CASE_##rule(name, expression)
#include "program_ops.def"
#undef NEAP_P
  }
  return 0; /* scalar code has no other operations */
}

static int64_t elements_of(const neap_p_run *run) {
  bool present_only = run->ids && (run->plan->flags & NEAP_P_LAZY);
  return (present_only ? run->num_ids : run->rows) * run->row;
}

int neap_p_run_sums(const neap_p_run *run, int pass, double sums[NEAP_P_SUMS]) {
  const neap_p_stage *stage = &run->plan->stages[pass];
  int64_t grains = neap_p_run_grains(run);
  for (int i = 0; i < stage->num_totals; i++) {
    sums[i] = 0;
    for (int64_t g = 0; g < grains; g++) sums[i] += run->partials[g * run->plan->most_totals + i];
  }
  sums[stage->num_totals] = (double)elements_of(run);
  return stage->num_totals + 1;
}

static void finish_totals(neap_p_run *run, int pass) {
  const neap_p_stage *stage = &run->plan->stages[pass];
  double own[NEAP_P_SUMS];
  const double *sums = run->joined;
  if (!sums) {
    neap_p_run_sums(run, pass, own);
    sums = own;
  }
  for (int i = 0; i < stage->num_totals; i++) {
    double total = sums[i];
    if (stage->totals[i].op == NEAP_P_OP_mean) total /= sums[stage->num_totals];
    if (stage->totals[i].op == NEAP_P_OP_norm) total = sqrt(total);
    run->values[stage->totals[i].value] = total;
  }
}

void neap_p_run_scalars(neap_p_run *run, int number) {
  const neap_p_plan *plan = run->plan;
  const neap_p_stage *stage = &plan->stages[number];
  double *values = run->values;
  if (number == 0) {
    double *next = values + plan->num_settings;
    if (plan->num_scalars) memcpy(next, run->scalars, (size_t)plan->num_scalars * sizeof *next);
    next += plan->num_scalars;
    if (plan->num_constants)
      memcpy(next, plan->constants, (size_t)plan->num_constants * sizeof *next);
  } else {
    finish_totals(run, number - 1);
  }
  for (int i = 0; i < stage->num_scalar; i++) {
    const neap_p_instr *instr = &stage->scalar_code[i];
    values[instr->to] = evaluate(instr->op, values[instr->a], values[instr->b], values[instr->c]);
  }
  if (number < plan->num_passes) return;
  for (int i = 0; i < plan->num_scalars; i++)
    if (plan->scalar_results[i] >= 0) run->scalars[i] = values[plan->scalar_results[i]];
}

/* ---- Elements ------------------------------------------------------------------------------ */

static int64_t grain_elements(const neap_p_plan *plan, int64_t row) {
  if (!plan->row_sums) return plan->most_totals ? NEAP_K_GRAIN : FINE_GRAIN;
  return row >= NEAP_K_GRAIN ? row : NEAP_K_GRAIN / row * row;
}

static int64_t cut(int64_t elements, int64_t grain) {
  return elements / grain + (elements % grain != 0);
}

int64_t neap_p_run_grains(const neap_p_run *run) {
  int64_t elements = elements_of(run);
  return elements ? cut(elements, grain_elements(run->plan, run->row)) : 0;
}

int64_t neap_p_max_grains(const neap_p_plan *plan, int64_t rows, int64_t row) {
  int64_t elements = rows * row;
  return elements ? cut(elements, grain_elements(plan, row)) : 0;
}

/* How many elements a block may have. */
static int64_t block_elements(const neap_p_stage *stage, size_t itemsize) {
  size_t each = (size_t)stage->registers * itemsize + (size_t)stage->row_slots * sizeof(double);
  size_t most = each ? (SPACE - sizeof(double)) / each : BLOCK;
  if (most > BLOCK) most = BLOCK;
  if (most > 16) most -= most % 16;
  return most ? (int64_t)most : 1;
}

/* All of a sub-pass over a chunk. */
static void run_chunk(neap_p_frame *frame, const neap_p_stage *stage, int sub, int64_t begin,
                      int64_t end, int64_t block) {
  const neap_p_instr *code = stage->code + (sub ? stage->ends[sub - 1] : 0);
  int count = (int)(stage->ends[sub] - (sub ? stage->ends[sub - 1] : 0));
  for (; begin < end; begin += block) {
    frame->begin = begin;
    frame->count = end - begin < block ? end - begin : block;
    frame->run->block(frame, code, count);
  }
}

/* ---- Machine code -------------------------------------------------------------------------- */

/* Whether this run's arrays are what the code of a pass takes: states as they are computed, and
 * a gradient that lies beside the weight, or, of a lazy update, rows of it. */
static bool native_fits(const neap_p_run *run, const neap_native *native, int num_totals) {
  bool lazy = run->plan->flags & NEAP_P_LAZY;
  const int computed = run->dtype == NEAP_K_F64 ? NEAP_K_F64 : NEAP_K_F32;
  for (int i = 0; i < native->num_inputs; i++) {
    int input = native->inputs[i];
    if (input >= 2 && run->state_dtype[input - 2] != computed) return false;
    if (input == 1 && run->ids && !lazy) return false;
  }
  return !(run->ids && lazy) || num_totals == 0; /* lanes of sums run through rows */
}

static void native_values(const neap_p_run *run, const neap_native *native, void *to) {
  static const uint32_t fixed32[NEAP_N_FIXED] = {0x3f800000u, 0x80000000u, 0x7fffffffu};
  static const uint64_t fixed64[NEAP_N_FIXED] = {0x3ff0000000000000u, 0x8000000000000000u,
                                                 0x7fffffffffffffffu};
  if (run->dtype != NEAP_K_F64) {
    float *values = to;
    memcpy(values, fixed32, sizeof fixed32);
    for (int i = 0; i < native->num_values; i++)
      values[NEAP_N_FIXED + i] = (float)run->values[native->values[i]];
  } else {
    double *values = to;
    memcpy(values, fixed64, sizeof fixed64);
    for (int i = 0; i < native->num_values; i++)
      values[NEAP_N_FIXED + i] = run->values[native->values[i]];
  }
}

/* Elements [begin, end) of a grain; of a lazy update they are those present, and lie in stretches
 * of a row. What is left over of whole vectors goes the other way. */
static void run_native(neap_p_frame *frame, const neap_p_stage *stage, const neap_native *native,
                       int64_t begin, int64_t end) {
  const neap_p_run *run = frame->run;
  const bool lazy = run->ids && run->plan->flags & NEAP_P_LAZY;
  double values[NEAP_N_FIXED + NEAP_N_VALUES];
  native_values(run, native, values);
  while (begin < end) {
    int64_t at = begin, n = end - begin;
    if (lazy) {
      const int64_t row = begin / run->row, column = begin % run->row;
      at = run->ids[row] * run->row + column;
      if (n > run->row - column) n = run->row - column;
    }
    void *inputs[NEAP_N_INPUTS];
    for (int i = 0; i < native->num_inputs; i++) {
      const int input = native->inputs[i];
      const int dtype = input < 2 ? run->dtype : run->state_dtype[input - 2];
      const int64_t first = input == 1 ? begin : at;
      inputs[i] = (char *)run->inputs[input] + (size_t)first * neap_k_itemsize(dtype);
    }
    const int64_t whole = n - n % native->lanes;
    if (whole) native->run(inputs, values, whole, frame->sums);
    if (n > whole) {
      frame->begin = begin + whole;
      frame->count = n - whole;
      run->block(frame, stage->code, (int)stage->ends[0]);
    }
    begin += n;
  }
}

void neap_p_run_part(const neap_p_run *run, int pass, int64_t grain) {
  const neap_p_stage *stage = &run->plan->stages[pass];
  _Alignas(64) unsigned char space[SPACE];
  double sums[NEAP_P_REDUCTIONS * LANES];
  memset(sums, 0, (size_t)stage->num_totals * LANES * sizeof *sums);

  size_t itemsize = run->dtype == NEAP_K_F64 ? sizeof(double) : sizeof(float);
  int64_t block = block_elements(stage, itemsize);
  int64_t chunk = block;
  if (stage->row_slots) {
    chunk = run->row > block ? run->row : block / run->row * run->row;
    if (chunk < block) block = chunk; /* whole rows in each block */
  }
  size_t registers = ((size_t)stage->registers * (size_t)block * itemsize + 7) & ~(size_t)7;
  neap_p_frame frame = {.run = run,
                        .space = space,
                        .stride = (size_t)block * itemsize,
                        .sums = sums,
                        .row_sums = (double *)(space + registers),
                        .row_room = run->row ? chunk / run->row : 0};
  if (frame.row_room == 0) frame.row_room = 1;

  int64_t size = grain_elements(run->plan, run->row), end = elements_of(run);
  int64_t begin = grain * size;
  if (end - begin > size) end = begin + size;
  const neap_native *native = run->natives ? &run->natives[pass] : NULL;
  if (native && native->run && native_fits(run, native, stage->num_totals)) {
    run_native(&frame, stage, native, begin, end);
    begin = end;
  }
  for (; begin < end; begin += chunk) {
    int64_t stop = end - begin < chunk ? end : begin + chunk;
    if (stage->row_slots)
      memset(frame.row_sums, 0, (size_t)stage->row_slots * (size_t)frame.row_room * sizeof(double));
    for (int sub = 0; sub < stage->subs; sub++) run_chunk(&frame, stage, sub, begin, stop, block);
  }
  for (int i = 0; i < stage->num_totals; i++) {
    const double *s = sums + i * LANES;
    run->partials[grain * run->plan->most_totals + i] =
        ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
  }
}
