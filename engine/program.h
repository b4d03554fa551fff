/* SPDX-License-Identifier: MIT */
/* program.h - what the optimizer uses of programs; the format is in kernels/program.h. */
#ifndef NEAP_ENGINE_PROGRAM_H
#define NEAP_ENGINE_PROGRAM_H

#include "array.h"
#include "../kernels/native.h"
#include "../kernels/program.h"

struct neap_program {
  neap_context *context;
  atomic_int refs;
  const neap_p_plan *plan;
  size_t bytes;         /* of the plan */
  neap_native *natives; /* for each dtype of weights all passes; NULL: none */
  void *code;
  size_t code_bytes;
};

/* native.c: machine code for a new program, where that is possible. */
void neap_program_compile(neap_program *program);
void neap_program_drop_code(neap_program *program);
/* A place for each pass, or NULL. */
const neap_native *neap_program_natives(const neap_program *program, int dtype);

/* How many passes it makes over a weight: each but the last ends in sums over all of it. */
static inline int neap_program_passes(const neap_program *program) {
  return program->plan->num_passes;
}
void neap_program_retain(neap_program *program); /* neap_program_close lets go */

/* A weight that is a part of a larger one, whose other parts are updated elsewhere at the same
 * time. */
typedef struct neap_joint neap_joint; /* C11: the same one as in optimizer.h */
struct neap_joint {
  int64_t first; /* the number of its first element */
  /* Adds up `count` sums of pass `pass` over all parts, each having called this for the same pass
   * of the same update, and then calls done(arg, status, text) once, from any thread. Called inside
   * an engine operation; must not wait. */
  void (*add_up)(neap_joint *joint, int pass, double *sums, int count,
                 void (*done)(void *arg, int status, const char *text), void *arg);
  void (*drop)(neap_joint *joint); /* the update is over, or never began */
};

/* One update, to be made ready. Who asks has checked that the arrays fit. */
typedef struct neap_program_call {
  neap_program *program;
  neap_array *weight, *gradient;
  neap_array *const *states; /* as many as the program has */
  neap_array *scalars;       /* NULL if it has none */
  const double *settings;    /* as many as the program has */
  uint64_t key, t;           /* of random numbers, besides the context's seed */
  int priority;
  neap_joint *joint; /* NULL: the weight is all there is; else the operations' on success */
} neap_program_call;

/* Appends to `works` from *count on at most NEAP_PROGRAM_WORKS operations, to be submitted in that
 * order or discarded. NEAP_ENOMEM; *count is then as before. */
enum {
  NEAP_PROGRAM_PASSES = 4, /* that have an operation each; more run as one, and cannot be joint */
  NEAP_PROGRAM_WORKS = 2 * NEAP_PROGRAM_PASSES - 1,
};
int neap_program_prepare(const neap_program_call *call, neap_work **works, int *count);

/* What states of a weight of this dtype are made of: what its elements are computed in. */
static inline int neap_program_state_dtype(int dtype) {
  return dtype == NEAP_FLOAT64 ? NEAP_FLOAT64 : NEAP_FLOAT32;
}

#endif
