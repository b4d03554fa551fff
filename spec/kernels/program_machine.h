/* SPDX-License-Identifier: MIT */
/* program_machine.h - runs programs without an engine, for tests and the fuzzer: memory of just
 * the right sizes, so that a sanitizer sees every step outside. */
#ifndef NEAP_SPEC_PROGRAM_MACHINE_H
#define NEAP_SPEC_PROGRAM_MACHINE_H

#include "kernels/program.h"
#include "spec/check.h"
#include <stdlib.h>
#include <string.h>

/* The plan of these bytes, in memory that the caller frees; NULL, and why, if they are none. */
static inline neap_p_plan *machine_plan(const void *bytes, size_t size, char *text, size_t room) {
  void *copy = malloc(size ? size : 1), *scratch = malloc(NEAP_P_SCRATCH), *plan = NULL;
  size_t memory = 0;
  if (size) memcpy(copy, bytes, size);
  if (neap_p_check(copy, size, scratch, &memory, text, room) == 0) {
    plan = malloc(memory);
    CHECK(neap_p_make(copy, size, scratch, plan) == plan);
  }
  free(scratch);
  free(copy);
  return plan;
}

/* Runs all passes; the grains of each from the last to the first if `backwards`. Gives values and
 * partial sums memory, and settings, which `run` has not. */
static inline void machine_run(neap_p_run *run, const double *settings, const char *table,
                               int backwards) {
  const neap_p_plan *plan = run->plan;
  const neap_kernel_table *kernels = neap_k_cpu(table);
  CHECK(kernels);
  run->block = kernels->program;
  const int64_t grains = neap_p_max_grains(plan, run->rows, run->row);
  run->values = malloc((size_t)plan->num_values * sizeof(double) + 1);
  run->partials = malloc((size_t)(grains * plan->most_totals) * sizeof(double) + 1);
  for (int i = 0; i < plan->num_settings; i++) run->values[i] = settings[i];
  for (int pass = 0; pass < plan->num_passes; pass++) {
    neap_p_run_scalars(run, pass);
    const int64_t count = neap_p_run_grains(run);
    CHECK(count <= grains);
    for (int64_t i = 0; i < count; i++) neap_p_run_part(run, pass, backwards ? count - 1 - i : i);
  }
  neap_p_run_scalars(run, plan->num_passes);
  free(run->values);
  free(run->partials);
}

#endif
