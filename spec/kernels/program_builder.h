/* SPDX-License-Identifier: MIT */
/* program_builder.h - writes programs as the recorder would, for tests: nodes are added in order,
 * build() makes the bytes. Sizes are checked by CHECK, not by what is tested. */
#ifndef NEAP_SPEC_PROGRAM_BUILDER_H
#define NEAP_SPEC_PROGRAM_BUILDER_H

#include "kernels/program.h"
#include "spec/check.h"
#include <string.h>

enum { BUILD_NODES = 512, BUILD_NAMES = 64 };

typedef struct builder_array {
  const char *name;
  double value;
  int from_weight;
  uint32_t result; /* NEAP_P_NONE: unchanged */
} builder_array;

typedef struct builder {
  uint32_t flags, result;
  int num_settings, num_states, num_scalars, num_constants, num_nodes;
  const char *settings[BUILD_NAMES];
  builder_array states[BUILD_NAMES], scalars[BUILD_NAMES];
  double constants[BUILD_NODES];
  uint32_t nodes[BUILD_NODES][4];
  size_t size;
  unsigned char bytes[1 << 16];
} builder;

static inline uint32_t b_node(builder *b, int op, uint32_t x, uint32_t y, uint32_t z) {
  CHECK(b->num_nodes < BUILD_NODES);
  const uint32_t node[4] = {(uint32_t)op, x, y, z};
  memcpy(b->nodes[b->num_nodes], node, sizeof node);
  return (uint32_t)b->num_nodes++;
}

/* A node by the name of its operation. */
#define NODE(b, name, ...) NODE_(b, name, __VA_ARGS__, 0, 0, 0)
#define NODE_(b, name, x, y, z, ...)                                                               \
  b_node(b, NEAP_P_OP_##name, (uint32_t)(x), (uint32_t)(y), (uint32_t)(z))

static inline uint32_t b_constant(builder *b, double value) {
  CHECK(b->num_constants < BUILD_NODES);
  b->constants[b->num_constants] = value;
  return NODE(b, constant, b->num_constants++);
}

static inline uint32_t b_setting(builder *b, const char *name) {
  CHECK(b->num_settings < BUILD_NAMES);
  b->settings[b->num_settings] = name;
  return NODE(b, setting, b->num_settings++);
}

static inline uint32_t b_state(builder *b, const char *name, double value, int from_weight) {
  CHECK(b->num_states < BUILD_NAMES);
  b->states[b->num_states] = (builder_array){name, value, from_weight, NEAP_P_NONE};
  return NODE(b, state, b->num_states++);
}

static inline uint32_t b_scalar(builder *b, const char *name, double value) {
  CHECK(b->num_scalars < BUILD_NAMES);
  b->scalars[b->num_scalars] = (builder_array){name, value, 0, NEAP_P_NONE};
  return NODE(b, scalar, b->num_scalars++);
}

static inline void b_word(builder *b, uint32_t word) {
  CHECK(b->size + 4 <= sizeof b->bytes);
  for (int i = 0; i < 4; i++) b->bytes[b->size++] = (unsigned char)(word >> 8 * i);
}

static inline void b_real(builder *b, double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  b_word(b, (uint32_t)bits);
  b_word(b, (uint32_t)(bits >> 32));
}

static inline void b_name(builder *b, const char *name, uint32_t *offset) {
  b_word(b, *offset);
  b_word(b, (uint32_t)strlen(name));
  *offset += (uint32_t)strlen(name);
}

static inline void b_arrays(builder *b, const builder_array *arrays, int count, uint32_t *offset) {
  for (int i = 0; i < count; i++) {
    b_name(b, arrays[i].name, offset);
    b_word(b, (uint32_t)arrays[i].from_weight);
    b_word(b, arrays[i].result);
    b_real(b, arrays[i].value);
  }
}

static inline void b_text(builder *b, const char *text) {
  CHECK(b->size + strlen(text) <= sizeof b->bytes);
  memcpy(b->bytes + b->size, text, strlen(text));
  b->size += strlen(text);
}

/* The bytes, in b->bytes and b->size. */
static inline void build(builder *b) {
  size_t strings = 0;
  for (int i = 0; i < b->num_settings; i++) strings += strlen(b->settings[i]);
  for (int i = 0; i < b->num_states; i++) strings += strlen(b->states[i].name);
  for (int i = 0; i < b->num_scalars; i++) strings += strlen(b->scalars[i].name);
  size_t total = 48 + (size_t)b->num_settings * 8 + (size_t)(b->num_states + b->num_scalars) * 24 +
                 (size_t)b->num_constants * 8 + (size_t)b->num_nodes * 16 + strings;
  const uint32_t header[12] = {NEAP_P_MAGIC,
                               1,
                               (uint32_t)total,
                               b->flags,
                               (uint32_t)b->num_settings,
                               (uint32_t)b->num_states,
                               (uint32_t)b->num_scalars,
                               (uint32_t)b->num_constants,
                               (uint32_t)b->num_nodes,
                               (uint32_t)strings,
                               b->result,
                               0};
  uint32_t offset = 0;
  b->size = 0;
  for (int i = 0; i < 12; i++) b_word(b, header[i]);
  for (int i = 0; i < b->num_settings; i++) b_name(b, b->settings[i], &offset);
  b_arrays(b, b->states, b->num_states, &offset);
  b_arrays(b, b->scalars, b->num_scalars, &offset);
  for (int i = 0; i < b->num_constants; i++) b_real(b, b->constants[i]);
  for (int i = 0; i < b->num_nodes; i++)
    for (int k = 0; k < 4; k++) b_word(b, b->nodes[i][k]);
  for (int i = 0; i < b->num_settings; i++) b_text(b, b->settings[i]);
  for (int i = 0; i < b->num_states; i++) b_text(b, b->states[i].name);
  for (int i = 0; i < b->num_scalars; i++) b_text(b, b->scalars[i].name);
  CHECK(b->size == total);
}

#endif
