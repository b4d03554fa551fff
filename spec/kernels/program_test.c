/* SPDX-License-Identifier: MIT */
/* program_test.c - programs against an interpreter that shares nothing with the executor: node
 * after node over whole arrays, in float64, rounded to the weight's precision where elements are
 * computed. Random programs, shapes, storage types and alignments; every instruction set. */
#include "program_builder.h"
#include "program_machine.h"
#include "kernels/half.h"
#include "kernels/philox.h"
#include <math.h>

/* ---- Random numbers of the test's own (xorshift64*, Vigna) ---------------------------------- */

static uint64_t seed = 88172645463325252u;

static uint64_t any(void) {
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return seed * 2685821657736338717u;
}
static int below(int n) {
  return (int)(any() >> 33) % n;
}
static double real(void) { /* a multiple of 1/16 in [-4, 4] */
  return (below(129) - 64) / 16.0;
}

/* ---- The interpreter ------------------------------------------------------------------------ */

enum { STATES = 3, SETTINGS = 3, SCALARS = 2, MOST_NODES = 64 };

/* What a program runs on, in float64, and where the results are to be. */
typedef struct world {
  int64_t rows, row, size;
  int dtype, state_dtype, lazy;
  uint64_t seed, t; /* of random numbers */
  int num_ids;      /* -1: dense */
  int64_t ids[64];
  double *weight, *gradient, *state[STATES];
  double settings[SETTINGS], scalars[SCALARS];
} world;

/* To what elements are computed in. */
static double rounded(const world *w, double x) {
  return w->dtype == NEAP_K_F64 ? x : (double)(float)x;
}

/* To what an array of that dtype can hold, from there. */
static double stored(const world *w, int dtype, double x) {
  if (dtype == NEAP_K_F16) return neap_half_to_float(neap_half_from_float((float)x));
  if (dtype == NEAP_K_BF16) return neap_bfloat_to_float(neap_bfloat_from_float((float)x));
  return rounded(w, x);
}

/* A draw belongs to an element: program.h. Box and Muller's formula for the normal one. */
static double drawn(const world *w, int op, uint32_t draw, int64_t i) {
  uint32_t word[4];
  neap_philox_block(word, w->seed, (uint32_t)w->t | (uint64_t)draw << 32, (uint64_t)i);
  if (op == NEAP_P_OP_uniform)
    return w->dtype == NEAP_K_F64 ? neap_unit53(word[0], word[1]) : neap_unit24(word[0]);
  return sqrt(-2 * log(1 - neap_unit53(word[0], word[1]))) *
         cos(2 * acos(-1) * neap_unit53(word[2], word[3]));
}

static double apply(int op, double x, double y, double z) {
  switch (op) {
  case NEAP_P_OP_add:
    return x + y;
  case NEAP_P_OP_sub:
    return x - y;
  case NEAP_P_OP_mul:
    return x * y;
  case NEAP_P_OP_div:
    return x / y;
  case NEAP_P_OP_pow:
    return pow(x, y);
  case NEAP_P_OP_min:
    return isnan(x) || isnan(y) ? NAN : fmin(x, y);
  case NEAP_P_OP_max:
    return isnan(x) || isnan(y) ? NAN : fmax(x, y);
  case NEAP_P_OP_lt:
    return isless(x, y);
  case NEAP_P_OP_le:
    return islessequal(x, y);
  case NEAP_P_OP_gt:
    return isgreater(x, y);
  case NEAP_P_OP_ge:
    return isgreaterequal(x, y);
  case NEAP_P_OP_eq:
    return x == y;
  case NEAP_P_OP_neg:
    return 0 - x;
  case NEAP_P_OP_abs:
    return x < 0 ? 0 - x : x;
  case NEAP_P_OP_sign:
    return isnan(x) ? x : x > 0 ? 1 : x < 0 ? -1 : 0;
  case NEAP_P_OP_sqrt:
    return sqrt(x);
  case NEAP_P_OP_exp:
    return exp(x);
  case NEAP_P_OP_log:
    return log(x);
  case NEAP_P_OP_tanh:
    return tanh(x);
  case NEAP_P_OP_sigmoid:
    return 1 / (1 + exp(-x));
  case NEAP_P_OP_sin:
    return sin(x);
  case NEAP_P_OP_cos:
    return cos(x);
  case NEAP_P_OP_floor:
    return floor(x);
  case NEAP_P_OP_where:
    return x != 0 ? y : z;
  default:
    CHECK(!"an operation of elements");
    return 0;
  }
}

/* Whether the run works on element i. */
static int is_here(const world *w, int64_t i) {
  if (!w->lazy || w->num_ids < 0) return 1;
  for (int k = 0; k < w->num_ids; k++)
    if (w->ids[k] == i / w->row) return 1;
  return 0;
}

/* A sum of elements [begin, end) of the listed rows. */
static double total(const world *w, const double *x, int op) {
  long double sum = 0;
  int64_t count = 0;
  for (int64_t i = 0; i < w->size; i++) {
    if (!is_here(w, i)) continue;
    count++;
    sum += op == NEAP_P_OP_norm ? (long double)x[i] * x[i] : (long double)x[i];
  }
  if (op == NEAP_P_OP_mean) return (double)(sum / count);
  return op == NEAP_P_OP_norm ? (double)sqrtl(sum) : (double)sum;
}

/* Runs the builder's program on the world. Scalars are arrays of equal numbers; that they are not
 * rounded is what tells them from elements. False if numbers became too large to compare. */
static int interpret(const builder *b, world *w) {
  static double *value[MOST_NODES];
  static int kind[MOST_NODES];
  int tame = 1;
  for (int n = 0; n < b->num_nodes; n++) {
    const uint32_t *node = b->nodes[n];
    const int op = (int)node[0], operands = neap_p_ops[op].operands;
    double *out = value[n] = malloc((size_t)(w->size + 1) * sizeof(double));
    kind[n] = 0;
    for (int k = 0; k < operands; k++)
      if (kind[node[k + 1]] > kind[n]) kind[n] = kind[node[k + 1]];
    if (op <= NEAP_P_OP_state || neap_p_ops[op].rule == NEAP_P_DRAW) kind[n] = 2;
    if (op == NEAP_P_OP_row_sum || op == NEAP_P_OP_row_mean) kind[n] = 1;
    double whole = 0;
    if (op == NEAP_P_OP_sum || op == NEAP_P_OP_mean || op == NEAP_P_OP_norm) {
      whole = total(w, value[node[1]], op);
      kind[n] = 0;
    }
    for (int64_t i = 0; i <= w->size; i++) { /* place `size`: scalars, where there is no element */
      const int64_t first = w->row ? i / w->row * w->row : 0;
      long double row = 0;
      switch (op) {
      case NEAP_P_OP_weight:
        out[i] = w->weight[i];
        break;
      case NEAP_P_OP_gradient:
        out[i] = w->gradient[i];
        break;
      case NEAP_P_OP_state:
        out[i] = w->state[node[1]][i];
        break;
      case NEAP_P_OP_setting:
        out[i] = w->settings[node[1]];
        break;
      case NEAP_P_OP_scalar:
        out[i] = w->scalars[node[1]];
        break;
      case NEAP_P_OP_constant:
        out[i] = b->constants[node[1]];
        break;
      case NEAP_P_OP_sum:
      case NEAP_P_OP_mean:
      case NEAP_P_OP_norm:
        out[i] = whole;
        break;
      case NEAP_P_OP_row_sum:
      case NEAP_P_OP_row_mean:
        for (int64_t k = 0; i == first && i < w->size && k < w->row; k++)
          row += value[node[1]][first + k];
        out[i] = i > first ? out[first]
                           : rounded(w, (double)(op == NEAP_P_OP_row_mean ? row / w->row : row));
        break;
      case NEAP_P_OP_uniform:
      case NEAP_P_OP_normal:
        out[i] = rounded(w, drawn(w, op, node[1], i));
        break;
      default: {
        double in[3] = {0};
        for (int k = 0; k < operands; k++) {
          in[k] = value[node[k + 1]][i];
          if (kind[n]) in[k] = rounded(w, in[k]); /* a scalar among elements is one of them */
        }
        out[i] = apply(op, in[0], in[1], in[2]);
        if (kind[n]) out[i] = rounded(w, out[i]);
      }
      }
      if (fabs(out[i]) > 5e4 && !isinf(out[i])) tame = 0;
    }
  }
  for (int64_t i = 0; i < w->size; i++) {
    if (!is_here(w, i)) continue;
    w->weight[i] = stored(w, w->dtype, rounded(w, value[b->result][i]));
    for (int s = 0; s < b->num_states; s++)
      if (b->states[s].result != NEAP_P_NONE)
        w->state[s][i] = stored(w, w->state_dtype, rounded(w, value[b->states[s].result][i]));
  }
  for (int s = 0; s < b->num_scalars; s++)
    if (b->scalars[s].result != NEAP_P_NONE) w->scalars[s] = value[b->scalars[s].result][w->size];
  for (int n = 0; n < b->num_nodes; n++) free(value[n]);
  return tame;
}

/* ---- Random programs and worlds ---------------------------------------------------------------
 */

static int drawn_ops[NEAP_P_NUM_OPS]; /* how often */

static void random_program(builder *b) {
  static const char *const names[] = {"a", "b", "c"}, *const more[] = {"x", "y", "z"};
  memset(b, 0, sizeof *b);
  int kind[MOST_NODES], inputs = 0;
  kind[NODE(b, weight, 0)] = 2;
  kind[NODE(b, gradient, 0)] = 2;
  const int states = below(STATES + 1), scalars = below(SCALARS + 1);
  for (int i = 0; i < states; i++) kind[b_state(b, names[i], 0, 0)] = 2;
  for (int i = 0; i < SETTINGS; i++) kind[b_setting(b, names[i])] = 0;
  for (int i = 0; i < scalars; i++) kind[b_scalar(b, more[i], 0)] = 0;
  for (int i = 0; i < 2; i++) kind[b_constant(b, real())] = 0;
  inputs = b->num_nodes;
  const int extra = 1 + below(40);
  int sums = 0;
  for (int i = 0; i < extra; i++) {
    int op = NEAP_P_OP_add + below(NEAP_P_NUM_OPS - NEAP_P_OP_add);
    const int rule = neap_p_ops[op].rule;
    uint32_t x[3] = {0};
    if (rule == NEAP_P_DRAW) {
      kind[b_node(b, op, (uint32_t)below(5), 0, 0)] = 2;
      drawn_ops[op]++;
      continue;
    }
    int widest = 0;
    for (int k = 0; k < neap_p_ops[op].operands; k++) {
      x[k] = (uint32_t)below(b->num_nodes);
      if (below(3) == 0) x[k] = (uint32_t)below(inputs); /* near the inputs: wide programs too */
      if (kind[x[k]] > widest) widest = kind[x[k]];
    }
    if (rule != NEAP_P_MAP && (widest != 2 || ++sums > 5)) continue;
    const uint32_t node = b_node(b, op, x[0], x[1], x[2]);
    drawn_ops[op]++;
    kind[node] = rule == NEAP_P_WHOLE ? 0 : rule == NEAP_P_ROWS ? 1 : widest;
  }
  b->result = 0;
  for (int n = 0; n < b->num_nodes; n++)
    if (kind[n] == 2 && (b->result == 0 || below(3))) b->result = (uint32_t)n;
  for (int i = 0; i < states; i++)
    if (below(4)) b->states[i].result = (uint32_t)below(b->num_nodes);
  for (int i = 0; i < scalars; i++) {
    const uint32_t node = (uint32_t)below(b->num_nodes);
    if (kind[node] == 0) b->scalars[i].result = node;
  }
  if (below(2)) b->flags = NEAP_P_LAZY;
  build(b);
}

static double *random_array(int64_t size) {
  double *x = malloc((size_t)(size + 1) * sizeof *x);
  for (int64_t i = 0; i <= size; i++) x[i] = real();
  return x;
}

static void random_world(const builder *b, world *w) {
  static const int64_t shapes[][2] = {{1, 1},    {7, 1}, {1, 7}, {5, 3},    {33, 31},   {4, 961},
                                      {2, 2000}, {0, 5}, {3, 0}, {300, 33}, {1, 10000}, {10000, 1}};
  static const int dtypes[] = {NEAP_K_F32, NEAP_K_F64, NEAP_K_F16, NEAP_K_BF16};
  memset(w, 0, sizeof *w);
  if (below(8) == 0) { /* the ends */
    const int64_t *shape = shapes[below(12)];
    w->rows = shape[0], w->row = shape[1];
  } else { /* from 1 to 10,000, and each length as likely as another half as long */
    const int size = (int)exp(log(10000) * below(10001) / 10000);
    w->row = below(2) ? 1 + below(size) : 1 + below(size < 40 ? size : 40);
    w->rows = size / w->row;
  }
  w->size = w->rows * w->row;
  w->dtype = dtypes[below(4)];
  w->state_dtype = w->dtype == NEAP_K_F64 || below(2) ? w->dtype : NEAP_K_F32;
  w->seed = any(), w->t = (uint64_t)below(1000);
  w->lazy = (b->flags & NEAP_P_LAZY) != 0;
  w->num_ids = -1;
  w->weight = random_array(w->size);
  w->gradient = random_array(w->size);
  for (int i = 0; i < STATES; i++) w->state[i] = random_array(w->size);
  for (int i = 0; i < SETTINGS; i++) w->settings[i] = real();
  for (int i = 0; i < SCALARS; i++) w->scalars[i] = real();
  if (below(2)) { /* row-sparse: some rows, in order; the others' gradient is zero */
    w->num_ids = 0;
    for (int64_t r = 0; r < w->rows; r++) {
      if (w->num_ids < 64 && below(3) == 0)
        w->ids[w->num_ids++] = r;
      else
        for (int64_t i = 0; i < w->row; i++) w->gradient[r * w->row + i] = 0;
    }
  }
}

static void free_world(world *w) {
  free(w->weight);
  free(w->gradient);
  for (int i = 0; i < STATES; i++) free(w->state[i]);
}

/* ---- Machines on worlds ------------------------------------------------------------------------
 */

/* The array in its dtype, some elements off alignment, at the end of its memory. */
static void *lower(int dtype, const double *x, int64_t size, void **block) {
  const size_t item = neap_k_itemsize(dtype), offset = (size_t)below(16) * item;
  char *memory = malloc((size_t)size * item + offset + 1);
  *block = memory;
  memory += offset;
  for (int64_t i = 0; i < size; i++) {
    const float f = (float)x[i];
    const uint16_t small =
        dtype == NEAP_K_F16 ? neap_half_from_float(f) : neap_bfloat_from_float(f);
    const void *value = dtype == NEAP_K_F64   ? (const void *)&x[i]
                        : dtype == NEAP_K_F32 ? (const void *)&f
                                              : (const void *)&small;
    memcpy(memory + (size_t)i * item, value, item);
  }
  return memory;
}

static double raise_one(int dtype, const void *x, int64_t i) {
  switch (dtype) {
  case NEAP_K_F64:
    return ((const double *)x)[i];
  case NEAP_K_F32:
    return ((const float *)x)[i];
  case NEAP_K_F16:
    return neap_half_to_float(((const uint16_t *)x)[i]);
  default:
    return neap_bfloat_to_float(((const uint16_t *)x)[i]);
  }
}

/* Of input k: weight, gradient, states. */
static int dtype_of(const world *w, int k) {
  return k < 2 ? w->dtype : w->state_dtype;
}

typedef struct outcome {
  void *block[2 + STATES];
  void *input[2 + STATES];
  double scalars[SCALARS];
} outcome;

static void run_on(const neap_p_plan *plan, const world *w, const char *table, int backwards,
                   outcome *out) {
  static const int64_t none[1];
  neap_p_run run = {.plan = plan, .dtype = w->dtype, .rows = w->rows, .row = w->row};
  run.seed = w->seed, run.t = w->t;
  memset(out, 0, sizeof *out);
  out->input[0] = lower(w->dtype, w->weight, w->size, &out->block[0]);
  double *compact = NULL;
  if (w->num_ids >= 0) {
    compact = malloc((size_t)(w->num_ids * w->row + 1) * sizeof *compact);
    for (int k = 0; k < w->num_ids; k++)
      for (int64_t i = 0; i < w->row; i++)
        compact[k * w->row + i] = w->gradient[w->ids[k] * w->row + i];
    run.ids = w->num_ids ? w->ids : none;
    run.num_ids = w->num_ids;
    out->input[1] = lower(w->dtype, compact, w->num_ids * w->row, &out->block[1]);
  } else {
    out->input[1] = lower(w->dtype, w->gradient, w->size, &out->block[1]);
  }
  free(compact);
  for (int i = 0; i < STATES; i++) {
    out->input[2 + i] = lower(w->state_dtype, w->state[i], w->size, &out->block[2 + i]);
    run.state_dtype[i] = (unsigned char)w->state_dtype;
  }
  for (int i = 0; i < 2 + STATES; i++) run.inputs[i] = out->input[i];
  memcpy(out->scalars, w->scalars, sizeof out->scalars);
  run.scalars = out->scalars;
  machine_run(&run, w->settings, table, backwards);
}

static void free_outcome(outcome *out) {
  for (int i = 0; i < 2 + STATES; i++) free(out->block[i]);
}

static int same(double a, double b) {
  return a == b || (isnan(a) && isnan(b));
}

/* All that two runs wrote: bit for bit, but for what is inside a NaN. */
static void check_same_bits(const world *w, const outcome *a, const outcome *b) {
  for (int k = 0; k < 2 + STATES; k++)
    for (int64_t i = 0; k != 1 && i < w->size; i++)
      CHECK(same(raise_one(dtype_of(w, k), a->input[k], i),
                 raise_one(dtype_of(w, k), b->input[k], i)));
  for (int i = 0; i < SCALARS; i++) CHECK(same(a->scalars[i], b->scalars[i]));
}

static int close_to(int dtype, double a, double b) {
  static const double tolerances[] = {[NEAP_K_F32] = 1e-4,
                                      [NEAP_K_F64] = 1e-9,
                                      [NEAP_K_F16] = 0x1p-10 + 1e-4,
                                      [NEAP_K_BF16] = 0x1p-7 + 1e-4};
  const double tolerance = tolerances[dtype];
  return same(a, b) || fabs(a - b) <= tolerance * (1 + fabs(a) + fabs(b));
}

static void random_programs_compute_what_their_nodes_say(void) {
  enum { ROUNDS = 2500 };
  static builder b;
  int compared = 0;
  for (int round = 0; round < ROUNDS; round++) {
    char text[256];
    random_program(&b);
    neap_p_plan *plan = machine_plan(b.bytes, b.size, text, sizeof text);
    if (!plan) fprintf(stderr, "%s\n", text);
    CHECK(plan);
    world w;
    random_world(&b, &w);
    outcome first, other;
    run_on(plan, &w, NULL, 0, &first);
    static const char *const tables[] = {"sse2", "avx2", "avx512", "neon"};
    for (int i = 0; i < 4; i++) {
      if (!neap_k_cpu(tables[i])) continue;
      run_on(plan, &w, tables[i], 1, &other);
      check_same_bits(&w, &first, &other);
      free_outcome(&other);
    }
    if (interpret(&b, &w)) {
      compared++;
      for (int64_t i = 0; i < w.size; i++) {
        CHECK(close_to(w.dtype, raise_one(w.dtype, first.input[0], i), w.weight[i]));
        for (int s = 0; s < b.num_states; s++)
          CHECK(close_to(w.state_dtype, raise_one(w.state_dtype, first.input[2 + s], i),
                         w.state[s][i]));
      }
      for (int s = 0; s < b.num_scalars; s++) {
        const int dtype = w.dtype == NEAP_K_F64 ? NEAP_K_F64 : NEAP_K_F32; /* sums of such */
        CHECK(close_to(dtype, first.scalars[s], w.scalars[s]));
      }
    }
    free_outcome(&first);
    free_world(&w);
    free(plan);
  }
  CHECK(compared > ROUNDS / 2); /* in the others, numbers grew too large to compare */
  for (int op = NEAP_P_OP_add; op < NEAP_P_NUM_OPS; op++) CHECK(drawn_ops[op] > ROUNDS / 10);
}

/* ---- Facts
 * --------------------------------------------------------------------------------------- */

/* What stores write must not be what later stores of the same block read. */
static void states_can_be_exchanged(void) {
  static builder b;
  memset(&b, 0, sizeof b);
  b.result = NODE(&b, weight, 0);
  uint32_t x = b_state(&b, "x", 0, 0), y = b_state(&b, "y", 0, 0);
  b.states[0].result = y;
  b.states[1].result = x;
  b.result = NODE(&b, add, b.result, x, 0);
  build(&b);
  char text[256];
  neap_p_plan *plan = machine_plan(b.bytes, b.size, text, sizeof text);
  CHECK(plan && plan->num_passes == 1);
  float weight[3] = {1, 2, 3}, gradient[3] = {0}, one[3] = {4, 5, 6}, two[3] = {7, 8, 9};
  neap_p_run run = {.plan = plan, .rows = 3, .row = 1, .inputs = {weight, gradient, one, two}};
  machine_run(&run, NULL, NULL, 0);
  for (int i = 0; i < 3; i++) {
    CHECK(weight[i] == (float)(1 + i + 4 + i));
    CHECK(one[i] == (float)(7 + i) && two[i] == (float)(4 + i));
  }
  free(plan);
}

/* 16-bit weights with float32 states: computed in float32, rounded once. */
static void half_weights_are_computed_in_float32(void) {
  static builder b;
  memset(&b, 0, sizeof b);
  uint32_t w = NODE(&b, weight, 0), g = NODE(&b, gradient, 0), m = b_state(&b, "m", 0, 0);
  uint32_t third = NODE(&b, div, g, b_constant(&b, 3), 0);
  b.states[0].result = NODE(&b, add, m, third, 0);
  b.result = NODE(&b, sub, w, third, 0);
  build(&b);
  char text[256];
  neap_p_plan *plan = machine_plan(b.bytes, b.size, text, sizeof text);
  CHECK(plan);
  for (int brain = 0; brain < 2; brain++) {
    uint16_t weight[5], gradient[5];
    float state[5], before[5];
    for (int i = 0; i < 5; i++) {
      before[i] = 1 + (float)i / 4;
      weight[i] = brain ? neap_bfloat_from_float(before[i]) : neap_half_from_float(before[i]);
      gradient[i] = brain ? neap_bfloat_from_float(1) : neap_half_from_float(1);
      state[i] = 10;
    }
    neap_p_run run = {.plan = plan,
                      .dtype = brain ? NEAP_K_BF16 : NEAP_K_F16,
                      .rows = 5,
                      .row = 1,
                      .inputs = {weight, gradient, state},
                      .state_dtype = {NEAP_K_F32}};
    machine_run(&run, NULL, NULL, 0);
    for (int i = 0; i < 5; i++) {
      const float expected = before[i] - 1.0f / 3;
      CHECK(state[i] == 10 + 1.0f / 3);
      CHECK(weight[i] ==
            (brain ? neap_bfloat_from_float(expected) : neap_half_from_float(expected)));
    }
  }
  free(plan);
}

/* Random numbers belong to elements: rows present draw what they would among all. */
static void draws_depend_on_the_element_alone(void) {
  static builder b;
  memset(&b, 0, sizeof b);
  b.flags = NEAP_P_LAZY;
  uint32_t u = NODE(&b, uniform, 1), n = NODE(&b, normal, 2);
  NODE(&b, weight, 0);
  b_state(&b, "n", 0, 0);
  b.result = u;
  b.states[0].result = n;
  build(&b);
  char text[256];
  neap_p_plan *plan = machine_plan(b.bytes, b.size, text, sizeof text);
  CHECK(plan && plan->draws);
  enum { ROWS = 2000, ROW = 50, SIZE = ROWS * ROW };
  static double all[SIZE], alln[SIZE], some[SIZE], somen[SIZE], gradient[SIZE];
  neap_p_run run = {.plan = plan,
                    .dtype = NEAP_K_F64,
                    .rows = ROWS,
                    .row = ROW,
                    .seed = 7,
                    .t = 3,
                    .inputs = {all, gradient, alln},
                    .state_dtype = {NEAP_K_F64}};
  machine_run(&run, NULL, NULL, 0);
  double mean = 0, square = 0, unit = 0;
  for (int i = 0; i < SIZE; i++) {
    CHECK(all[i] >= 0 && all[i] < 1);
    unit += all[i] / SIZE, mean += alln[i] / SIZE, square += alln[i] * alln[i] / SIZE;
  }
  /* 4 standard errors of 100,000 draws */
  CHECK(fabs(unit - 0.5) < 0.004 && fabs(mean) < 0.013 && fabs(square - 1) < 0.018);
  const int64_t ids[3] = {0, 77, 1999};
  run.ids = ids, run.num_ids = 3;
  run.inputs[0] = some, run.inputs[2] = somen;
  machine_run(&run, NULL, NULL, 1);
  for (int k = 0; k < 3; k++)
    for (int i = 0; i < ROW; i++)
      CHECK(some[ids[k] * ROW + i] == all[ids[k] * ROW + i] &&
            somen[ids[k] * ROW + i] == alln[ids[k] * ROW + i]);
  CHECK(some[ROW] == 0);            /* row 1 is absent */
  run.t = 4, run.inputs[0] = somen; /* another t, other numbers */
  machine_run(&run, NULL, NULL, 0);
  CHECK(somen[0] != all[0]);
  free(plan);
}

/* More grains than one, and a sum that all of them need. */
static void sums_do_not_depend_on_the_order_of_grains(void) {
  static builder b;
  memset(&b, 0, sizeof b);
  uint32_t w = NODE(&b, weight, 0), g = NODE(&b, gradient, 0);
  b.result = NODE(&b, sub, w, NODE(&b, div, g, NODE(&b, norm, g), 0), 0);
  build(&b);
  char text[256];
  neap_p_plan *plan = machine_plan(b.bytes, b.size, text, sizeof text);
  CHECK(plan && plan->num_passes == 2);
  enum { SIZE = 3 * NEAP_K_GRAIN + 17 };
  float *x = calloc(SIZE, sizeof *x), *y = calloc(SIZE, sizeof *y), *d = malloc(SIZE * sizeof *d);
  long double norm = 0;
  for (int i = 0; i < SIZE; i++) {
    d[i] = (float)real() / 3;
    norm += (long double)d[i] * d[i];
  }
  neap_p_run run = {.plan = plan, .rows = SIZE, .row = 1, .inputs = {x, d}};
  CHECK(neap_p_run_grains(&run) == 4);
  machine_run(&run, NULL, NULL, 0);
  run.inputs[0] = y;
  machine_run(&run, NULL, NULL, 1);
  CHECK(memcmp(x, y, SIZE * sizeof *x) == 0);
  for (int i = 0; i < SIZE; i++) CHECK(x[i] == -(d[i] / (float)sqrtl(norm)));
  free(x), free(y), free(d), free(plan);
}

int main(void) {
  random_programs_compute_what_their_nodes_say();
  states_can_be_exchanged();
  half_weights_are_computed_in_float32();
  draws_depend_on_the_element_alone();
  sums_do_not_depend_on_the_order_of_grains();
  return 0;
}
