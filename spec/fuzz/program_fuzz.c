/* SPDX-License-Identifier: MIT */
/* program_fuzz.c - fuzzes the verifier of programs. Checked of every input: it is refused with a
 * text, or its plan runs within the bounds of arrays of just the right size, on a dense and on a
 * row-sparse gradient, in float32, float64 and float16. */
#include "fuzz.h"
#include "spec/kernels/program_machine.h"

static void run_on(neap_p_plan *plan, int dtype, int64_t rows, int64_t row, const int64_t *ids) {
  double *settings = calloc((size_t)plan->num_settings + 1, sizeof *settings);
  double *scalars = calloc((size_t)plan->num_scalars + 1, sizeof *scalars);
  neap_p_run run = {
      .plan = plan, .dtype = dtype, .rows = rows, .row = row, .ids = ids, .scalars = scalars};
  run.num_ids = ids ? 2 : 0;
  for (int i = 0; i < plan->num_settings; i++) settings[i] = 0.5 + i;
  for (int i = 0; i < 2 + plan->num_states; i++) {
    const int state = i < 2 ? dtype : dtype == NEAP_K_F64 ? NEAP_K_F64 : NEAP_K_F32;
    if (i >= 2) run.state_dtype[i - 2] = (unsigned char)state;
    run.inputs[i] = calloc((size_t)((i == 1 && ids ? 2 : rows) * row), neap_k_itemsize(state));
  }
  machine_run(&run, settings, NULL, 0);
  for (int i = 0; i < 2 + plan->num_states; i++) free(run.inputs[i]);
  free(settings);
  free(scalars);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const int64_t ids[2] = {1, 2};
  char text[128] = "";
  neap_p_plan *plan = machine_plan(bytes, size, text, sizeof text);
  FUZZ_CHECK(plan || text[0]);
  if (!plan) return 0;
  run_on(plan, NEAP_K_F32, 3, 5, NULL);
  run_on(plan, NEAP_K_F64, 4, 3, ids);
  run_on(plan, NEAP_K_F16, 3, 1, ids);
  free(plan);
  return 0;
}
