/* SPDX-License-Identifier: MIT */
/* program_plan.c - from a list of nodes to what runs.
 *
 * Levels. A sum over the key is known one pass after its operand; a row sum one sub-pass after
 * its operand, within the same pass. So every node has a first pass and a first sub-pass in
 * which it can be computed, both 0 for what comes from memory.
 *
 * A pass is planned from its targets (sums that end here; in the last pass, what is stored)
 * back to memory: element values are computed again wherever they are needed, never kept from
 * one pass or sub-pass to the next. That costs arithmetic and saves memory traffic, of which
 * there is always too little.
 *
 * The layout is made twice by the same code, first without memory, to count. Sizes therefore
 * cannot disagree. */
#include "program_inside.h"

#include <string.h>

typedef struct planner_state {
  const neap_p_source *source;
  neap_p_scratch *scratch;
  char *memory; /* NULL: counting */
  size_t used;
  neap_p_instr *code;
  uint32_t num_code;
  uint32_t idle;      /* registers in scratch->idle */
  uint32_t registers; /* of this pass */
  neap_p_plan plan;
} planner_state;

static void *take(planner_state *planner, size_t size) {
  size_t at = planner->used;
  planner->used = (at + size + 15) & ~(size_t)15;
  return planner->memory ? planner->memory + at : NULL;
}

static int rule_of(const planner_state *planner, int node) {
  return neap_p_ops[planner->scratch->node[node].op].rule;
}

/* ---- Registers and instructions ------------------------------------------------------------ */

static uint32_t take_register(planner_state *planner) {
  if (planner->idle) return planner->scratch->idle[--planner->idle];
  return planner->registers++;
}

static void give_register(planner_state *planner, uint32_t number) {
  planner->scratch->idle[planner->idle++] = (uint16_t)number;
}

static void emit(planner_state *planner, int op, uint32_t to, uint32_t a, uint32_t b, uint32_t c) {
  if (planner->num_code > NEAP_P_CODE) return; /* refused at the end */
  if (planner->memory)
    planner->code[planner->num_code] = (neap_p_instr){(uint16_t)op, (uint16_t)to, a, b, c};
  planner->num_code++;
}

/* What an instruction writes for the value of `node`; its register is free again when nothing
 * later uses it. */
static uint32_t operand(planner_state *planner, uint32_t node) {
  neap_p_scratch *scratch = planner->scratch;
  if (scratch->kind[node] == NEAP_P_KIND_SCALAR) return NEAP_P_VALUE | scratch->value[node];
  uint32_t where = NEAP_P_REGISTER | scratch->home[node];
  if (rule_of(planner, (int)node) == NEAP_P_ELEMENT)
    where = NEAP_P_INPUT | (scratch->node[node].op == NEAP_P_OP_gradient);
  if (rule_of(planner, (int)node) == NEAP_P_STATE)
    where = NEAP_P_INPUT | (2 + scratch->node[node].a);
  if (--scratch->uses[node] == 0) give_register(planner, scratch->home[node]);
  return where;
}

/* ---- Levels, and what is alive ------------------------------------------------------------- */

static void find_levels(planner_state *planner) {
  neap_p_scratch *scratch = planner->scratch;
  for (int i = 0; i < planner->source->num_nodes; i++) {
    const neap_p_node *node = &scratch->node[i];
    const neap_p_op_info *info = &neap_p_ops[node->op];
    const uint32_t operands[3] = {node->a, node->b, node->c};
    uint8_t pass = 0, sub = 0;
    for (int k = 0; k < info->operands; k++) {
      if (scratch->pass[operands[k]] > pass) pass = scratch->pass[operands[k]];
      if (scratch->sub[operands[k]] > sub) sub = scratch->sub[operands[k]];
    }
    scratch->pass[i] = (uint8_t)(pass + (info->rule == NEAP_P_WHOLE));
    scratch->sub[i] = (uint8_t)(sub + (info->rule == NEAP_P_ROWS));
    if (scratch->kind[i] == NEAP_P_KIND_SCALAR) scratch->sub[i] = 0;
  }
}

/* Marks in `marks` what the marked nodes need. `stop`: not through sums of rows. Only element
 * and row values when `elements`. */
static void spread_marks(planner_state *planner, uint8_t *marks, bool elements, bool stop) {
  neap_p_scratch *scratch = planner->scratch;
  for (int i = planner->source->num_nodes; i-- > 0;) {
    const neap_p_node *node = &scratch->node[i];
    if (!marks[i] || (stop && neap_p_ops[node->op].rule == NEAP_P_ROWS)) continue;
    const uint32_t operands[3] = {node->a, node->b, node->c};
    for (int k = 0; k < neap_p_ops[node->op].operands; k++)
      if (!elements || scratch->kind[operands[k]] != NEAP_P_KIND_SCALAR) marks[operands[k]] = 1;
  }
}

/* The new value of state or scalar i (states first), or NEAP_P_NONE if it stays as it is. */
static uint32_t result_of(const planner_state *planner, int i) {
  const neap_p_source *source = planner->source;
  const unsigned char *entry = source->states + (size_t)i * NEAP_P_STATE_BYTES;
  uint32_t result = neap_p_word(entry + 12);
  if (result == NEAP_P_NONE) return result;
  const neap_p_node *node = &planner->scratch->node[result];
  bool same = i < source->num_states
                  ? node->op == NEAP_P_OP_state && node->a == (uint32_t)i
                  : node->op == NEAP_P_OP_scalar && node->a == (uint32_t)(i - source->num_states);
  return same ? NEAP_P_NONE : result;
}

static void find_live(planner_state *planner) {
  const neap_p_source *source = planner->source;
  uint8_t *live = planner->scratch->live;
  memset(live, 0, NEAP_P_NODES);
  live[source->result] = 1;
  for (int i = 0; i < source->num_states + source->num_scalars; i++) {
    uint32_t result = result_of(planner, i);
    if (result != NEAP_P_NONE) live[result] = 1;
  }
  spread_marks(planner, live, false, false);
}

/* ---- Scalars ------------------------------------------------------------------------------- */

/* A place among the run's values for every scalar node that is alive. */
static void place_values(planner_state *planner) {
  const neap_p_source *source = planner->source;
  neap_p_scratch *scratch = planner->scratch;
  int scalars = source->num_settings, constants = scalars + source->num_scalars;
  int next = constants + source->num_constants;
  for (int i = 0; i < source->num_nodes; i++) {
    if (scratch->kind[i] != NEAP_P_KIND_SCALAR) continue;
    switch (rule_of(planner, i)) {
    case NEAP_P_SETTING:
      scratch->value[i] = (uint16_t)scratch->node[i].a;
      break;
    case NEAP_P_SCALAR:
      scratch->value[i] = (uint16_t)(scalars + (int)scratch->node[i].a);
      break;
    case NEAP_P_CONSTANT:
      scratch->value[i] = (uint16_t)(constants + (int)scratch->node[i].a);
      break;
    default:
      if (scratch->live[i]) scratch->value[i] = (uint16_t)next++;
    }
    if (scratch->live[i] && rule_of(planner, i) == NEAP_P_SCALAR) planner->plan.uses_scalars = true;
  }
  planner->plan.num_values = next;
}

static void plan_scalars(planner_state *planner, int pass) {
  neap_p_scratch *scratch = planner->scratch;
  for (int i = 0; i < planner->source->num_nodes; i++) {
    const neap_p_node *node = &scratch->node[i];
    if (!scratch->live[i] || scratch->kind[i] != NEAP_P_KIND_SCALAR || scratch->pass[i] != pass ||
        rule_of(planner, i) != NEAP_P_MAP)
      continue;
    int operands = neap_p_ops[node->op].operands;
    emit(planner, (int)node->op, scratch->value[i], scratch->value[node->a],
         operands > 1 ? scratch->value[node->b] : 0, operands > 2 ? scratch->value[node->c] : 0);
  }
}

/* ---- Passes -------------------------------------------------------------------------------- */

/* Whether the sum at `node` ends pass `pass`. */
static bool is_total(const planner_state *planner, int node, int pass) {
  const neap_p_scratch *scratch = planner->scratch;
  return scratch->live[node] && rule_of(planner, node) == NEAP_P_WHOLE &&
         scratch->pass[node] == pass + 1;
}

/* What a use of `node` by a target of this sub-pass needs. */
static void want(planner_state *planner, uint32_t node, uint8_t *marks) {
  if (planner->scratch->kind[node] == NEAP_P_KIND_SCALAR) return;
  marks[node] = 1;
  planner->scratch->uses[node]++;
}

static void want_targets(planner_state *planner, int pass, uint8_t *marks) {
  const neap_p_source *source = planner->source;
  for (int i = 0; i < source->num_nodes; i++)
    if (is_total(planner, i, pass)) want(planner, planner->scratch->node[i].a, marks);
  if (pass != planner->plan.num_passes - 1) return;
  want(planner, source->result, marks);
  for (int i = 0; i < source->num_states; i++)
    if (result_of(planner, i) != NEAP_P_NONE) want(planner, result_of(planner, i), marks);
}

static void emit_where(planner_state *planner, int i) {
  neap_p_scratch *scratch = planner->scratch;
  const uint32_t nodes[3] = {scratch->node[i].a, scratch->node[i].b, scratch->node[i].c};
  uint32_t operands[3] = {0}, extra[3];
  int extras = 0;
  /* Its loop takes elements only: scalars become some. */
  for (int k = 0; k < 3; k++) {
    if (scratch->kind[nodes[k]] != NEAP_P_KIND_SCALAR) continue;
    operands[k] = extra[extras++] = take_register(planner);
    emit(planner, NEAP_P_OP_copy, operands[k], NEAP_P_VALUE | scratch->value[nodes[k]], 0, 0);
  }
  for (int k = 0; k < 3; k++)
    if (scratch->kind[nodes[k]] != NEAP_P_KIND_SCALAR) operands[k] = operand(planner, nodes[k]);
  while (extras) give_register(planner, extra[--extras]);
  scratch->home[i] = (uint16_t)take_register(planner);
  emit(planner, NEAP_P_OP_where, scratch->home[i], operands[0], operands[1], operands[2]);
}

static void emit_node(planner_state *planner, int i) {
  neap_p_scratch *scratch = planner->scratch;
  const neap_p_node *node = &scratch->node[i];
  switch (rule_of(planner, i)) {
  case NEAP_P_ELEMENT:
  case NEAP_P_STATE: {
    uint32_t input = node->op == NEAP_P_OP_state ? 2 + node->a : node->op == NEAP_P_OP_gradient;
    scratch->home[i] = (uint16_t)take_register(planner);
    emit(planner, NEAP_P_OP_load, scratch->home[i], input, 0, 0);
    break;
  }
  case NEAP_P_ROWS:
    scratch->home[i] = (uint16_t)take_register(planner);
    emit(planner, NEAP_P_OP_spread, scratch->home[i], scratch->slot[i],
         node->op == NEAP_P_OP_row_mean, 0);
    break;
  case NEAP_P_DRAW:
    scratch->home[i] = (uint16_t)take_register(planner);
    emit(planner, (int)node->op, scratch->home[i], node->a, 0, 0);
    break;
  default: {
    if (node->op == NEAP_P_OP_where) {
      emit_where(planner, i);
      break;
    }
    uint32_t a = operand(planner, node->a);
    uint32_t b = neap_p_ops[node->op].operands > 1 ? operand(planner, node->b) : 0;
    /* May be an operand's register: loops read element i before they write it. */
    scratch->home[i] = (uint16_t)take_register(planner);
    emit(planner, (int)node->op, scratch->home[i], a, b, 0);
  }
  }
}

/* The sums that end this pass, then the stores. An input goes through a register, since it may
 * be the very memory that another store writes. */
static void emit_targets(planner_state *planner, int pass) {
  const neap_p_source *source = planner->source;
  neap_p_scratch *scratch = planner->scratch;
  uint32_t slot = 0;
  for (int i = 0; i < source->num_nodes; i++) {
    if (!is_total(planner, i, pass)) continue;
    bool squares = scratch->node[i].op == NEAP_P_OP_norm;
    emit(planner, squares ? NEAP_P_OP_add_squares : NEAP_P_OP_add_up, 0,
         operand(planner, scratch->node[i].a), slot++, 0);
  }
  if (pass != planner->plan.num_passes - 1) return;
  uint32_t from[1 + NEAP_P_STATES], to[1 + NEAP_P_STATES];
  int stores = 0;
  for (int i = -1; i < source->num_states; i++) {
    uint32_t result = i < 0 ? source->result : result_of(planner, i);
    if (result == NEAP_P_NONE) continue;
    from[stores] = operand(planner, result);
    to[stores++] = i < 0 ? 0 : 2 + (uint32_t)i;
  }
  /* Registers given back above hold their values until one is taken: take new ones only. */
  planner->idle = 0;
  for (int k = 0; k < stores; k++) {
    if ((from[k] & NEAP_P_TAG) == NEAP_P_REGISTER) continue;
    uint32_t copy = take_register(planner);
    emit(planner, NEAP_P_OP_copy, copy, from[k], 0, 0);
    from[k] = copy;
  }
  for (int k = 0; k < stores; k++) emit(planner, NEAP_P_OP_store, 0, from[k], to[k], 0);
}

static void plan_sub(planner_state *planner, int pass, int sub, int last) {
  const neap_p_source *source = planner->source;
  neap_p_scratch *scratch = planner->scratch;
  memset(scratch->here, 0, NEAP_P_NODES);
  memset(scratch->uses, 0, sizeof scratch->uses);
  for (int i = 0; sub < last && i < source->num_nodes; i++)
    if (scratch->need[i] && rule_of(planner, i) == NEAP_P_ROWS && scratch->sub[i] == sub + 1)
      want(planner, scratch->node[i].a, scratch->here);
  if (sub == last) want_targets(planner, pass, scratch->here);
  spread_marks(planner, scratch->here, true, true);
  for (int i = 0; i < source->num_nodes; i++) {
    const neap_p_node *node = &scratch->node[i];
    if (!scratch->here[i] || rule_of(planner, i) != NEAP_P_MAP) continue;
    const uint32_t operands[3] = {node->a, node->b, node->c};
    for (int k = 0; k < neap_p_ops[node->op].operands; k++)
      if (scratch->kind[operands[k]] != NEAP_P_KIND_SCALAR) scratch->uses[operands[k]]++;
  }
  planner->idle = planner->registers;
  for (uint32_t i = 0; i < planner->registers; i++)
    scratch->idle[i] = (uint16_t)(planner->registers - 1 - i);
  for (int i = 0; i < source->num_nodes; i++)
    if (scratch->here[i]) emit_node(planner, i);
  for (int i = 0; sub < last && i < source->num_nodes; i++)
    if (scratch->need[i] && rule_of(planner, i) == NEAP_P_ROWS && scratch->sub[i] == sub + 1)
      emit(planner, NEAP_P_OP_add_rows, 0, operand(planner, scratch->node[i].a), scratch->slot[i],
           0);
  if (sub == last) emit_targets(planner, pass);
}

static void plan_pass(planner_state *planner, neap_p_stage *stage, int pass) {
  const neap_p_source *source = planner->source;
  neap_p_scratch *scratch = planner->scratch;
  memset(scratch->need, 0, NEAP_P_NODES);
  want_targets(planner, pass, scratch->need);
  spread_marks(planner, scratch->need, true, false);
  int last = 0;
  for (int i = 0; i < source->num_nodes; i++) {
    if (!scratch->need[i]) continue;
    if (scratch->sub[i] > last) last = scratch->sub[i];
    if (rule_of(planner, i) == NEAP_P_ROWS) scratch->slot[i] = (uint8_t)stage->row_slots++;
  }
  for (int i = 0; i < source->num_nodes; i++) stage->num_totals += is_total(planner, i, pass);
  neap_p_total *totals = take(planner, (size_t)stage->num_totals * sizeof *totals);
  for (int i = 0, n = 0; totals && i < source->num_nodes; i++)
    if (is_total(planner, i, pass))
      totals[n++] = (neap_p_total){(uint16_t)scratch->node[i].op, scratch->value[i]};
  uint32_t *ends = take(planner, (size_t)(last + 1) * sizeof *ends);

  planner->registers = 0;
  uint32_t begin = planner->num_code;
  for (int sub = 0; sub <= last; sub++) {
    plan_sub(planner, pass, sub, last);
    if (ends) ends[sub] = planner->num_code - begin;
  }
  stage->totals = totals;
  stage->ends = ends;
  stage->subs = last + 1;
  stage->registers = (int)planner->registers;
  if (planner->memory) stage->code = planner->code + begin;
  if (stage->num_totals > planner->plan.most_totals) planner->plan.most_totals = stage->num_totals;
  if (stage->row_slots) planner->plan.row_sums = true;
}

static int count_passes(const planner_state *planner) {
  const neap_p_source *source = planner->source;
  const neap_p_scratch *scratch = planner->scratch;
  if (source->flags & NEAP_P_SCHEDULE) return 0;
  int passes = scratch->pass[source->result];
  for (int i = 0; i < source->num_states; i++) {
    uint32_t result = result_of(planner, i);
    if (result != NEAP_P_NONE && scratch->pass[result] > passes) passes = scratch->pass[result];
  }
  for (int i = 0; i < source->num_nodes; i++)
    if (scratch->live[i] && rule_of(planner, i) == NEAP_P_WHOLE && scratch->pass[i] - 1 > passes)
      passes = scratch->pass[i] - 1;
  return passes + 1;
}

/* ---- Tables -------------------------------------------------------------------------------- */

static const char *copy_name(planner_state *planner, const unsigned char *entry) {
  uint32_t length = neap_p_word(entry + 4);
  char *name = take(planner, length + 1);
  if (!name) return NULL;
  memcpy(name, planner->source->strings + neap_p_word(entry), length);
  name[length] = 0;
  return name;
}

static neap_p_array_info *copy_arrays(planner_state *planner, const unsigned char *table, int count,
                                      int first) {
  neap_p_array_info *infos = take(planner, (size_t)count * sizeof *infos);
  for (int i = 0; i < count; i++) {
    const unsigned char *entry = table + (size_t)i * NEAP_P_STATE_BYTES;
    const char *name = copy_name(planner, entry);
    if (!infos) continue;
    infos[i] = (neap_p_array_info){name, neap_p_real(entry + 16), neap_p_word(entry + 8) == 1,
                                   result_of(planner, first + i) != NEAP_P_NONE};
  }
  return infos;
}

static void copy_tables(planner_state *planner) {
  const neap_p_source *source = planner->source;
  neap_p_plan *plan = &planner->plan;
  plan->flags = source->flags;
  plan->num_settings = source->num_settings;
  plan->num_states = source->num_states;
  plan->num_scalars = source->num_scalars;
  plan->num_constants = source->num_constants;
  plan->settings = take(planner, (size_t)source->num_settings * sizeof *plan->settings);
  for (int i = 0; i < source->num_settings; i++) {
    const char *name = copy_name(planner, source->settings + (size_t)i * NEAP_P_SETTING_BYTES);
    if (plan->settings) plan->settings[i] = name;
  }
  plan->states = copy_arrays(planner, source->states, source->num_states, 0);
  plan->scalars = copy_arrays(planner, source->scalars, source->num_scalars, source->num_states);
  double *constants = take(planner, (size_t)source->num_constants * sizeof *constants);
  for (int i = 0; constants && i < source->num_constants; i++)
    constants[i] = neap_p_real(source->constants + (size_t)i * NEAP_P_CONSTANT_BYTES);
  plan->constants = constants;
}

size_t neap_p_layout(const neap_p_source *source, neap_p_scratch *scratch, uint32_t *num_code,
                     void *memory) {
  planner_state planner = {.source = source, .scratch = scratch, .memory = memory};
  neap_p_plan *plan = &planner.plan;
  neap_p_plan *out = take(&planner, sizeof *out); /* the memory's beginning */
  planner.code = take(&planner, *num_code * sizeof *planner.code);
  find_levels(&planner);
  find_live(&planner);
  copy_tables(&planner);
  place_values(&planner);

  plan->num_passes = count_passes(&planner);
  neap_p_stage *stages = take(&planner, (size_t)(plan->num_passes + 1) * sizeof *stages);
  for (int pass = 0; pass <= plan->num_passes; pass++) {
    neap_p_stage stage = {0};
    uint32_t begin = planner.num_code;
    plan_scalars(&planner, pass);
    stage.num_scalar = (int)(planner.num_code - begin);
    if (memory) stage.scalar_code = planner.code + begin;
    if (pass < plan->num_passes) plan_pass(&planner, &stage, pass);
    if (stages) stages[pass] = stage;
  }
  plan->stages = stages;

  int *results = take(&planner, (size_t)source->num_scalars * sizeof *results);
  for (int i = 0; results && i < source->num_scalars; i++) {
    uint32_t result = result_of(&planner, source->num_states + i);
    results[i] = result == NEAP_P_NONE ? -1 : scratch->value[result];
  }
  plan->scalar_results = results;
  if (plan->num_passes == 0) plan->result = scratch->value[source->result];
  for (int i = 0; i < source->num_nodes; i++)
    if (scratch->live[i] && rule_of(&planner, i) == NEAP_P_DRAW) plan->draws = true;

  if (planner.num_code > NEAP_P_CODE) return 0;
  if (memory)
    *out = *plan;
  else
    *num_code = planner.num_code, planner.used += planner.num_code * sizeof *planner.code + 16;
  return planner.used;
}
