/* SPDX-License-Identifier: MIT */
/* program_inside.h - between program.c, which reads a program's bytes, and program_plan.c, which
 * plans what it read. */
#ifndef NEAP_PROGRAM_INSIDE_H
#define NEAP_PROGRAM_INSIDE_H

#include "program.h"

typedef struct neap_p_node {
  uint32_t op, a, b, c;
} neap_p_node;

/* Where the tables of a program lie, the header's counts being checked. */
typedef struct neap_p_source {
  const unsigned char *settings, *states, *scalars, *constants, *nodes, *strings;
  uint32_t flags, result, string_bytes;
  int num_settings, num_states, num_scalars, num_constants, num_nodes;
} neap_p_source;

/* Everything that checking and planning note down, a place for each node. */
typedef struct neap_p_scratch {
  neap_p_node node[NEAP_P_NODES];
  uint8_t kind[NEAP_P_NODES];   /* neap_p_kind */
  uint8_t live[NEAP_P_NODES];   /* some output needs it */
  uint8_t pass[NEAP_P_NODES];   /* the first pass in which it can be computed */
  uint8_t sub[NEAP_P_NODES];    /* the first sub-pass of a pass */
  uint8_t need[NEAP_P_NODES];   /* the pass being planned needs it */
  uint8_t here[NEAP_P_NODES];   /* the sub-pass being planned computes or loads it */
  uint8_t slot[NEAP_P_NODES];   /* row sums: which */
  uint16_t value[NEAP_P_NODES]; /* scalars: the place among the run's values */
  uint16_t uses[NEAP_P_NODES];  /* uses not yet emitted in this sub-pass */
  uint16_t home[NEAP_P_NODES];  /* the register */
  uint16_t idle[NEAP_P_NODES + 2 * NEAP_P_INPUTS]; /* registers free for use */
} neap_p_scratch;
_Static_assert(sizeof(neap_p_scratch) <= NEAP_P_SCRATCH, "NEAP_P_SCRATCH is too small");

static inline uint32_t neap_p_word(const unsigned char *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline double neap_p_real(const unsigned char *at) {
  union {
    uint64_t bits;
    double real;
  } both = {(uint64_t)neap_p_word(at) | (uint64_t)neap_p_word(at + 4) << 32};
  return both.real;
}

/* Bytes of one entry of each table, and where its fields are. */
enum {
  NEAP_P_SETTING_BYTES = 8,
  NEAP_P_STATE_BYTES = 24, /* name 0, length 4, start 8, result 12, value 16 */
  NEAP_P_CONSTANT_BYTES = 8,
  NEAP_P_NODE_BYTES = 16,
};

/* Plans a program that passed the check, with nodes and kinds already in the scratch. Two calls:
 * with `memory` NULL it counts, and gives the bytes needed, or 0 if the plan would have more
 * than NEAP_P_CODE instructions; then with memory. */
size_t neap_p_layout(const neap_p_source *source, neap_p_scratch *scratch, uint32_t *num_code,
                     void *memory);

#endif
