/* SPDX-License-Identifier: MIT */
/* program.h - update rules as programs: format, verifier, plan, execution.
 *
 * A program is what a script's `update` computes, as a list of nodes in order; each node takes
 * earlier ones (static single assignment), so a program cannot loop and always ends. It comes
 * from a file or over a network: neap_p_check() refuses whatever is not a program, and what it
 * passed cannot read or write out of bounds.
 *
 * A node gives one of three kinds of value:
 *   scalar   one float64 for the whole run: settings, constants, what is computed from them
 *   row      one for each row of the weight
 *   element  one for each element
 * Operations on mixed kinds give the wider one.
 *
 * The plan (neap_p_plan) is what runs. Nodes that nothing needs are dropped; scalar nodes are
 * computed once, in float64; elements are computed in blocks that stay in the first-level
 * cache, each node one loop over registers, so that all of an update is one pass over memory.
 * A sum over the whole key ends a pass, since what uses it must wait for all elements; the next
 * pass computes again, from memory, the element values it needs. Only the last pass writes.
 * Within a pass, rows are summed chunk by chunk: a chunk of whole rows is run through the code
 * up to the sums, then through the code that uses them.
 *
 * Element values are float32 for weights of float32, float16 and bfloat16, else float64. Sums
 * run in float64 over fixed lanes, blocks and grains, so that results depend on the program and
 * the shapes alone, not on threads or the instruction set.
 *
 * Nothing here allocates or knows threads: the caller gives memory, and runs the parts. */
#ifndef NEAP_PROGRAM_H
#define NEAP_PROGRAM_H

#include "kernel.h"
#include <stdbool.h>

/* ---- The bytes -------------------------------------------------------------------------
 *
 * Little-endian throughout. A header of 12 words of 32 bits,
 *
 *    0 magic  1 version  2 size of all, in bytes  3 flags
 *    4 settings  5 states  6 scalars  7 constants  8 nodes  9 bytes of strings
 *   10 result: the node that is the new weight, or the rate  11 zero
 *
 * then the tables, each with as many entries as the header says:
 *
 *   setting   word name, word length                                               (8 bytes)
 *   state     word name, word length, word start, word result, float64 value      (24 bytes)
 *   scalar    the same; start is 0
 *   constant  float64
 *   node      word operation (a row of program_ops.def), words a, b, c            (16 bytes)
 *   strings   bytes
 *
 * `name` is an offset into the strings. `result` of a state or scalar is the node that is its
 * new value, or NEAP_P_NONE if it keeps the old. `start` of a state: 0: filled with `value` at
 * first, 1: a copy of the weight. Operands that an operation does not have are zero. */
enum {
  NEAP_P_MAGIC = 0x4752504e, /* "NPRG" */
  NEAP_P_VERSION = 1,
  NEAP_P_HEADER = 48,

  /* Limits. They keep run-time structures small, not scripts short. */
  NEAP_P_NODES = 4096,
  NEAP_P_SETTINGS = 256,
  NEAP_P_STATES = 32,
  NEAP_P_SCALARS = 64,
  NEAP_P_CONSTANTS = 1024,
  NEAP_P_REDUCTIONS = 32, /* sums of all kinds */
  NEAP_P_NAME = 63,       /* bytes of a name: letters, digits, '_' and '.' */
  NEAP_P_CODE = 32768,    /* instructions of a plan */
};
#define NEAP_P_NONE 0xffffffffu

enum neap_p_flags {
  NEAP_P_SCHEDULE = 1, /* no weight: `result` is a scalar, computed from settings */
  NEAP_P_LAZY = 2,     /* a row-sparse gradient updates the rows present, and leaves the others */
};

/* What an operation takes and gives; a column of program_ops.def. */
enum neap_p_rule {
  NEAP_P_ELEMENT,  /* an element value, from memory */
  NEAP_P_STATE,    /* likewise; a is the index of the state */
  NEAP_P_SETTING,  /* a scalar; a is its index */
  NEAP_P_SCALAR,   /* likewise */
  NEAP_P_CONSTANT, /* likewise */
  NEAP_P_MAP,      /* any kinds; gives the widest of them */
  NEAP_P_WHOLE,    /* an element value; gives a scalar */
  NEAP_P_ROWS,     /* an element value; gives a row value */
  NEAP_P_DRAW,     /* an element value; a is any number */
};

enum neap_p_kind { NEAP_P_KIND_SCALAR = 0, NEAP_P_KIND_ROW, NEAP_P_KIND_ELEMENT };

enum neap_p_op {
#define NEAP_P(name, operands, rule, ...) NEAP_P_OP_##name,
#include "program_ops.def"
#undef NEAP_P
  NEAP_P_NUM_OPS,
  /* Only in plans, never in bytes. */
  NEAP_P_OP_load = NEAP_P_NUM_OPS, /* input a: straight from memory, or converted into `to` */
  NEAP_P_OP_spread,                /* the row values of slot a into `to`; b: divided by b */
  NEAP_P_OP_copy,                  /* operand a into `to` */
  NEAP_P_OP_add_up,                /* adds operand a to the sums of slot b */
  NEAP_P_OP_add_squares,           /* its squares */
  NEAP_P_OP_add_rows,              /* to the row sums of slot b */
  NEAP_P_OP_store,                 /* operand a into input b */
};

typedef struct neap_p_op_info {
  const char *name;
  int operands, rule;
} neap_p_op_info;
extern const neap_p_op_info neap_p_ops[NEAP_P_NUM_OPS];

/* ---- The plan -------------------------------------------------------------------------- */

/* One operation over a block, or on scalars. */
typedef struct neap_p_instr {
  uint16_t op;
  uint16_t to;      /* a register; scalar code: an index into the run's values */
  uint32_t a, b, c; /* operands; see NEAP_P_TAG. Scalar code: indices into the values */
} neap_p_instr;

/* Operands of block code: where in the top bits, which in the rest. */
#define NEAP_P_TAG      0xc0000000u
#define NEAP_P_REGISTER 0x00000000u
#define NEAP_P_INPUT    0x40000000u /* 0 weight, 1 gradient, 2 + i state i; after its load */
#define NEAP_P_VALUE    0x80000000u /* a scalar */
enum { NEAP_P_INPUTS = 2 + NEAP_P_STATES };

/* A sum over the whole key: the grains' sums are added up, and then made sum, mean or norm. */
typedef struct neap_p_total {
  uint16_t op;    /* NEAP_P_OP_sum, _mean, _norm */
  uint16_t value; /* where it goes */
} neap_p_total;

/* Scalar code, then one pass over the elements. The last stage has scalar code only. */
typedef struct neap_p_stage {
  const neap_p_instr *scalar_code;
  const neap_p_instr *code;
  const uint32_t *ends; /* where in `code` each sub-pass ends; all but the last give row sums */
  const neap_p_total *totals;
  int num_scalar, subs, num_totals;
  int registers, row_slots;
} neap_p_stage;

typedef struct neap_p_array_info {
  const char *name;
  double value;     /* at first */
  bool from_weight; /* a copy of the weight at first, instead */
  bool written;
} neap_p_array_info;

/* Read-only once made; any number of runs may use it at once. */
typedef struct neap_p_plan {
  uint32_t flags;
  int num_settings, num_states, num_scalars, num_constants;
  const char **settings; /* names */
  neap_p_array_info *states, *scalars;
  const double *constants;
  neap_p_stage *stages; /* num_passes + 1 */
  int num_passes;       /* 0: a schedule */
  int num_values;       /* settings, then scalars, constants, and what is computed */
  int most_totals;      /* of one pass: float64s that each grain leaves */
  int *scalar_results;  /* where among the values each scalar's new value is; -1: unchanged */
  int result;           /* schedule: where the rate is */
  bool row_sums;        /* grains are whole rows */
  bool uses_scalars;    /* scalar code depends on what an earlier update left */
  bool draws;
} neap_p_plan;

/* What check and plan work in; contents are nobody else's business. */
enum { NEAP_P_SCRATCH = 160 * 1024 };

/* Whether these bytes are a program. 0, and how much memory the plan takes; or -1, and the
 * reason in `text` (of `room` bytes), with the number of the node where there is one. `scratch`
 * is NEAP_P_SCRATCH bytes, aligned for any type. */
int neap_p_check(const void *bytes, size_t size, void *scratch, size_t *memory, char *text,
                 size_t room);

/* Makes the plan of bytes that passed the check into `memory` (as many bytes as check said,
 * aligned for any type), where it then lies, together with all it points to. */
neap_p_plan *neap_p_make(const void *bytes, size_t size, void *scratch, void *memory);

/* ---- Running --------------------------------------------------------------------------- */

/* One run of a plan: what an update needs. Arrays are row-major, `rows` x `row`. */
typedef struct neap_p_run {
  const neap_p_plan *plan;
  neap_kernel_program block;         /* of the kernel table */
  const struct neap_native *natives; /* a place for each pass, or NULL; native.h */
  int dtype;                         /* of weight and gradient */
  void *inputs[NEAP_P_INPUTS];
  unsigned char state_dtype[NEAP_P_STATES]; /* the weight's, or what elements are computed in */
  int64_t rows, row;
  const int64_t *ids; /* row-sparse gradient: its rows, ascending, unique; NULL: dense */
  int64_t num_ids;
  int64_t first;    /* of a part of a larger weight: the number of its first element */
  uint64_t seed, t; /* of random numbers; seed has the key in it */
  double *values;   /* plan->num_values; the first num_settings are set by the caller */
  double *scalars;  /* plan->num_scalars, or NULL if there are none; read and written */
  double *partials; /* grains * plan->most_totals */
  /* Of a part of a larger weight: what neap_p_run_sums() gave for each part, added up. NULL: this
   * run is all there is. */
  const double *joined;
} neap_p_run;

/* For each pass p: scalars(p), then part(p, g) for all grains g in any order and on any
 * threads; at the end scalars(num_passes), which writes the scalars too. */
void neap_p_run_scalars(neap_p_run *run, int stage);
void neap_p_run_part(const neap_p_run *run, int pass, int64_t grain);
/* After pass `pass`: its sums over this run's elements, and behind them the number of elements; as
 * many as this returns. They add up over the parts of a weight. */
enum { NEAP_P_SUMS = NEAP_P_REDUCTIONS + 1 };
int neap_p_run_sums(const neap_p_run *run, int pass, double sums[NEAP_P_SUMS]);
int64_t neap_p_run_grains(const neap_p_run *run);
/* The most grains that runs on a weight of this size can have, whatever the gradient. */
int64_t neap_p_max_grains(const neap_p_plan *plan, int64_t rows, int64_t row);

/* A block: what the code of an instruction set gets (neap_kernel_program; cpu/program.c). */
typedef struct neap_p_frame {
  const neap_p_run *run;
  void *space;   /* registers */
  size_t stride; /* bytes from one register to the next */
  int64_t begin; /* first element; with NEAP_P_LAZY and ids: among those present */
  int64_t count; /* elements; with row sums whole rows, or part of one */
  const void *direct[NEAP_P_INPUTS]; /* set by load */
  double *sums;                      /* 8 lanes for each total */
  double *row_sums;                  /* for each slot `row_room` places */
  int64_t row_room;
} neap_p_frame;

#endif
