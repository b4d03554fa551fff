/* SPDX-License-Identifier: MIT */
/* program.c - reads and verifies programs.
 *
 * Bytes are never trusted: every count is checked against its limit before it is used, so that
 * no sum of sizes can overflow, and the total must be the very size of what was given. What is
 * left to check after the header are names, operands and kinds; a node may only use nodes
 * before it, which makes the order of nodes an order of execution. */
#include "program_inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const neap_p_op_info neap_p_ops[NEAP_P_NUM_OPS] = {
#define NEAP_P(name, operands, rule, ...) {#name, operands, NEAP_P_##rule},
#include "program_ops.def"
#undef NEAP_P
};

typedef struct reader_state {
  neap_p_source source;
  neap_p_scratch *scratch;
  char *text;
  size_t room;
  int first[NEAP_P_INPUTS]; /* the node of each input, plus 1 */
} reader_state;

__attribute__((format(printf, 2, 3))) static int refuse(reader_state *reader, const char *format,
                                                        ...) {
  va_list list;
  va_start(list, format);
  if (reader->room) vsnprintf(reader->text, reader->room, format, list);
  va_end(list);
  return -1;
}

/* ---- The header ---------------------------------------------------------------------------- */

static int read_count(reader_state *reader, const unsigned char *at, const char *what,
                      uint32_t most, int *out) {
  uint32_t count = neap_p_word(at);
  if (count > most)
    return refuse(reader, "program header: %u %s; at most %u are possible", count, what, most);
  *out = (int)count;
  return 0;
}

static int read_header(reader_state *reader, const unsigned char *bytes, size_t size) {
  neap_p_source *source = &reader->source;
  if (size < NEAP_P_HEADER)
    return refuse(reader, "program: %zu bytes are too few for a header of %d", size, NEAP_P_HEADER);
  if (neap_p_word(bytes) != NEAP_P_MAGIC)
    return refuse(reader, "program: these bytes are no program (they do not begin with 'NPRG')");
  if (neap_p_word(bytes + 4) != NEAP_P_VERSION)
    return refuse(reader, "program header: version %u; this library knows version %d",
                  neap_p_word(bytes + 4), NEAP_P_VERSION);
  source->flags = neap_p_word(bytes + 12);
  if (source->flags & ~(uint32_t)(NEAP_P_SCHEDULE | NEAP_P_LAZY))
    return refuse(reader, "program header: unknown flags 0x%x", source->flags);
  if (read_count(reader, bytes + 16, "settings", NEAP_P_SETTINGS, &source->num_settings) ||
      read_count(reader, bytes + 20, "states", NEAP_P_STATES, &source->num_states) ||
      read_count(reader, bytes + 24, "scalars", NEAP_P_SCALARS, &source->num_scalars) ||
      read_count(reader, bytes + 28, "constants", NEAP_P_CONSTANTS, &source->num_constants) ||
      read_count(reader, bytes + 32, "nodes", NEAP_P_NODES, &source->num_nodes))
    return -1;
  source->string_bytes = neap_p_word(bytes + 36);
  source->result = neap_p_word(bytes + 40);
  if (source->string_bytes > (1u << 20))
    return refuse(reader, "program header: %u bytes of strings are too many", source->string_bytes);
  if (neap_p_word(bytes + 44) != 0) return refuse(reader, "program header: word 11 is not zero");

  /* No overflow: each count is small by now. */
  size_t total = NEAP_P_HEADER + (size_t)source->num_settings * NEAP_P_SETTING_BYTES +
                 (size_t)(source->num_states + source->num_scalars) * NEAP_P_STATE_BYTES +
                 (size_t)source->num_constants * NEAP_P_CONSTANT_BYTES +
                 (size_t)source->num_nodes * NEAP_P_NODE_BYTES + source->string_bytes;
  if (neap_p_word(bytes + 8) != size || total != size)
    return refuse(reader, "program header: %zu bytes were given, its counts make %zu", size, total);
  const unsigned char *at = bytes + NEAP_P_HEADER;
  source->settings = at, at += source->num_settings * NEAP_P_SETTING_BYTES;
  source->states = at, at += source->num_states * NEAP_P_STATE_BYTES;
  source->scalars = at, at += source->num_scalars * NEAP_P_STATE_BYTES;
  source->constants = at, at += source->num_constants * NEAP_P_CONSTANT_BYTES;
  source->nodes = at, at += source->num_nodes * NEAP_P_NODE_BYTES;
  source->strings = at;
  return 0;
}

/* ---- Names --------------------------------------------------------------------------------- */

static bool name_byte(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.';
}

/* Names of one table differ: two states of one name would be one array, written twice. */
static int check_names(reader_state *reader, const char *what, const unsigned char *table,
                       int count, int stride) {
  const neap_p_source *source = &reader->source;
  for (int i = 0; i < count; i++) {
    const unsigned char *entry = table + (size_t)i * stride;
    uint32_t offset = neap_p_word(entry), length = neap_p_word(entry + 4);
    if (length == 0 || length > NEAP_P_NAME)
      return refuse(reader, "%s %d: a name of %u bytes; 1 to %d are possible", what, i, length,
                    NEAP_P_NAME);
    if (offset > source->string_bytes || length > source->string_bytes - offset)
      return refuse(reader, "%s %d: its name lies outside the strings", what, i);
    for (uint32_t k = 0; k < length; k++)
      if (!name_byte(source->strings[offset + k]))
        return refuse(reader, "%s %d: its name has a byte 0x%02x in it", what, i,
                      source->strings[offset + k]);
    for (int j = 0; j < i; j++) {
      const unsigned char *other = table + (size_t)j * stride;
      if (neap_p_word(other + 4) == length &&
          memcmp(source->strings + neap_p_word(other), source->strings + offset, length) == 0)
        return refuse(reader, "%s %d: the name '%.*s' stands there twice", what, i, (int)length,
                      (const char *)source->strings + offset);
    }
  }
  return 0;
}

/* ---- Nodes --------------------------------------------------------------------------------- */

/* How many values the operand of an input may choose from; 0 for other rules. */
static uint32_t table_size(const neap_p_source *source, int rule) {
  switch (rule) {
  case NEAP_P_STATE:
    return (uint32_t)source->num_states;
  case NEAP_P_SETTING:
    return (uint32_t)source->num_settings;
  case NEAP_P_SCALAR:
    return (uint32_t)source->num_scalars;
  case NEAP_P_CONSTANT:
    return (uint32_t)source->num_constants;
  default:
    return 0;
  }
}

static const char *kind_text(int kind) {
  static const char *const texts[] = {"one number for the key", "one number a row", "an element"};
  return texts[kind];
}

static int check_node(reader_state *reader, int i) {
  const neap_p_source *source = &reader->source;
  neap_p_scratch *scratch = reader->scratch;
  const unsigned char *at = source->nodes + (size_t)i * NEAP_P_NODE_BYTES;
  neap_p_node node = {neap_p_word(at), neap_p_word(at + 4), neap_p_word(at + 8),
                      neap_p_word(at + 12)};
  scratch->node[i] = node;
  if (node.op >= NEAP_P_NUM_OPS)
    return refuse(reader, "node %d: there is no operation %u", i, node.op);
  const neap_p_op_info *info = &neap_p_ops[node.op];
  uint32_t operand[3] = {node.a, node.b, node.c};
  int widest = NEAP_P_KIND_SCALAR;
  for (int k = 0; k < 3; k++) {
    if (k < info->operands) {
      if (operand[k] >= (uint32_t)i)
        return refuse(reader, "node %d (%s): operand %d is node %u, which does not come before it",
                      i, info->name, k + 1, operand[k]);
      if (scratch->kind[operand[k]] > widest) widest = scratch->kind[operand[k]];
    } else if (operand[k] != 0 && !(k == 0 && info->rule != NEAP_P_ELEMENT)) {
      return refuse(reader, "node %d (%s): operand %d must be zero", i, info->name, k + 1);
    }
  }

  bool schedule = source->flags & NEAP_P_SCHEDULE;
  switch (info->rule) {
  case NEAP_P_STATE:
  case NEAP_P_SETTING:
  case NEAP_P_SCALAR:
  case NEAP_P_CONSTANT:
    if (node.a >= table_size(source, info->rule))
      return refuse(reader, "node %d (%s): index %u, but the table has %u entries", i, info->name,
                    node.a, table_size(source, info->rule));
    scratch->kind[i] = info->rule == NEAP_P_STATE ? NEAP_P_KIND_ELEMENT : NEAP_P_KIND_SCALAR;
    break;
  case NEAP_P_WHOLE:
  case NEAP_P_ROWS:
    if (widest != NEAP_P_KIND_ELEMENT)
      return refuse(reader, "node %d (%s): its operand is %s; it takes one of the weight's shape",
                    i, info->name, kind_text(widest));
    scratch->kind[i] = info->rule == NEAP_P_WHOLE ? NEAP_P_KIND_SCALAR : NEAP_P_KIND_ROW;
    break;
  case NEAP_P_MAP:
    scratch->kind[i] = (uint8_t)widest;
    break;
  default:
    scratch->kind[i] = NEAP_P_KIND_ELEMENT;
    break; /* ELEMENT, DRAW */
  }
  if (info->rule == NEAP_P_ELEMENT || info->rule == NEAP_P_STATE) {
    /* One load an input, so that the plan need not look for others. */
    int input = info->rule == NEAP_P_STATE ? 2 + (int)node.a : node.op == NEAP_P_OP_gradient;
    if (reader->first[input])
      return refuse(reader, "node %d (%s): the same as node %d", i, info->name,
                    reader->first[input] - 1);
    reader->first[input] = i + 1;
  }
  if (schedule && scratch->kind[i] != NEAP_P_KIND_SCALAR)
    return refuse(reader, "node %d (%s): a schedule has no weight", i, info->name);
  return 0;
}

/* ---- What comes out ------------------------------------------------------------------------ */

static int check_results(reader_state *reader) {
  const neap_p_source *source = &reader->source;
  const uint8_t *kind = reader->scratch->kind;
  uint32_t nodes = (uint32_t)source->num_nodes;
  bool schedule = source->flags & NEAP_P_SCHEDULE;
  if (source->result >= nodes)
    return refuse(reader, "program header: the result is node %u of %u", source->result, nodes);
  if (schedule && (source->num_states || source->num_scalars || (source->flags & NEAP_P_LAZY)))
    return refuse(reader, "program header: a schedule has no states or scalars");
  if (!schedule && kind[source->result] != NEAP_P_KIND_ELEMENT)
    return refuse(reader,
                  "program header: the result, node %u, is %s; it must have the weight's "
                  "shape",
                  source->result, kind_text(kind[source->result]));
  for (int i = 0; i < source->num_states + source->num_scalars; i++) {
    bool state = i < source->num_states;
    const unsigned char *entry = source->states + (size_t)i * NEAP_P_STATE_BYTES;
    uint32_t start = neap_p_word(entry + 8), result = neap_p_word(entry + 12);
    const char *what = state ? "state" : "scalar";
    int number = state ? i : i - source->num_states;
    if (start > (state ? 1u : 0u))
      return refuse(reader, "%s %d: there is no start %u", what, number, start);
    if (result == NEAP_P_NONE) continue;
    if (result >= nodes)
      return refuse(reader, "%s %d: its new value is node %u of %u", what, number, result, nodes);
    if (!state && kind[result] != NEAP_P_KIND_SCALAR)
      return refuse(reader,
                    "%s %d: its new value, node %u, is %s; it must be one number for the "
                    "key",
                    what, number, result, kind_text(kind[result]));
  }
  int sums = 0;
  for (uint32_t i = 0; i < nodes; i++) {
    int rule = neap_p_ops[reader->scratch->node[i].op].rule;
    if (rule != NEAP_P_WHOLE && rule != NEAP_P_ROWS) continue;
    if (++sums > NEAP_P_REDUCTIONS)
      return refuse(reader, "node %u: more than %d sums, means and norms", i, NEAP_P_REDUCTIONS);
  }
  return 0;
}

static int read_all(reader_state *reader, const void *bytes, size_t size) {
  const neap_p_source *source = &reader->source;
  if (read_header(reader, bytes, size)) return -1;
  if (check_names(reader, "setting", source->settings, source->num_settings,
                  NEAP_P_SETTING_BYTES) ||
      check_names(reader, "state", source->states, source->num_states, NEAP_P_STATE_BYTES) ||
      check_names(reader, "scalar", source->scalars, source->num_scalars, NEAP_P_STATE_BYTES))
    return -1;
  for (int i = 0; i < source->num_nodes; i++)
    if (check_node(reader, i)) return -1;
  return check_results(reader);
}

int neap_p_check(const void *bytes, size_t size, void *scratch, size_t *memory, char *text,
                 size_t room) {
  reader_state reader = {.scratch = scratch, .text = text, .room = room};
  if (read_all(&reader, bytes, size)) return -1;
  uint32_t num_code = 0;
  *memory = neap_p_layout(&reader.source, scratch, &num_code, NULL);
  if (*memory == 0)
    return refuse(&reader,
                  "program: its plan would take more than %d instructions; it sums too "
                  "much of what is computed from sums",
                  NEAP_P_CODE);
  return 0;
}

neap_p_plan *neap_p_make(const void *bytes, size_t size, void *scratch, void *memory) {
  reader_state reader = {.scratch = scratch};
  if (read_all(&reader, bytes, size)) return NULL; /* never: it passed the check */
  uint32_t num_code = 0;
  neap_p_layout(&reader.source, scratch, &num_code, NULL);
  neap_p_layout(&reader.source, scratch, &num_code, memory);
  return memory;
}
