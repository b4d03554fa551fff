/* SPDX-License-Identifier: MIT */
/* program.c - programs as handles, and their runs as work for the engine.
 *
 * A run becomes one operation for each pass, with a part for each grain. The passes of a run all
 * write the weight, so the engine keeps them in order and nothing else between them. What passes
 * hand on (sums, scalars) lives in a job that all of them hold; the part of a pass that ends last
 * computes the scalars that the next pass needs. A run of one pass, the usual case, has its job
 * inside the operation: one allocation from the engine's pool, and nothing else.
 *
 * Nothing depends on who runs which part: sums are kept by grain, and added up in order. */
#include "program.h"

#include <string.h>

enum {
  QUICK = 4096,     /* elements that one thread updates faster than it wakes another */
  SPARSE_PARTS = 8, /* of a row-sparse update: how many rows there will be is not known yet */
  MOST_PARTS = 64,  /* larger runs give each part several grains, one after the other */
  ERROR_TEXT = 256,
};

/* ---- Handles ------------------------------------------------------------------------------- */

int neap_program_create(neap_context *context, const void *bytes, size_t size, neap_program **out) {
  if (!context || !out || (!bytes && size))
    return neap_fail(NEAP_EINVAL, "neap_program_create: NULL argument");
  if (atomic_load(&context->closed))
    return neap_fail(NEAP_ECLOSED, "neap_program_create: the context was closed");
  char text[ERROR_TEXT];
  size_t plan_bytes = 0;
  void *scratch = neap_alloc(context, NEAP_P_SCRATCH);
  if (!scratch) return NEAP_ENOMEM;
  int status = NEAP_OK;
  neap_program *program = NULL;
  void *memory = NULL;
  if (neap_p_check(bytes, size, scratch, &plan_bytes, text, sizeof text)) {
    status = neap_fail(NEAP_EFORMAT, "%s", text);
  } else {
    program = neap_alloc(context, sizeof *program);
    memory = program ? neap_alloc(context, plan_bytes) : NULL;
    if (!memory) status = NEAP_ENOMEM;
  }
  if (status == NEAP_OK) {
    *program = (neap_program){.context = context, .bytes = plan_bytes};
    atomic_init(&program->refs, 1);
    program->plan = neap_p_make(bytes, size, scratch, memory);
    neap_program_compile(program);
    neap_context_retain(context);
    *out = program;
  } else {
    neap_free(context, program, sizeof *program);
  }
  neap_free(context, scratch, NEAP_P_SCRATCH);
  return status;
}

void neap_program_retain(neap_program *program) {
  atomic_fetch_add_explicit(&program->refs, 1, memory_order_relaxed);
}

void neap_program_close(neap_program *program) {
  if (!program || atomic_fetch_sub_explicit(&program->refs, 1, memory_order_acq_rel) != 1) return;
  neap_context *context = program->context;
  neap_program_drop_code(program);
  neap_free(context, (void *)program->plan, program->bytes);
  neap_free(context, program, sizeof *program);
  neap_context_release(context);
}

int neap_program_count(const neap_program *program, int table) {
  if (!program) return 0;
  const neap_p_plan *plan = program->plan;
  return table == NEAP_SETTINGS  ? plan->num_settings
         : table == NEAP_STATES  ? plan->num_states
         : table == NEAP_SCALARS ? plan->num_scalars
                                 : 0;
}

const char *neap_program_name(const neap_program *program, int table, int index) {
  if (index < 0 || index >= neap_program_count(program, table)) return NULL;
  const neap_p_plan *plan = program->plan;
  return table == NEAP_SETTINGS ? plan->settings[index]
         : table == NEAP_STATES ? plan->states[index].name
                                : plan->scalars[index].name;
}

int neap_program_op(const char *name) {
  for (int op = 0; name && op < NEAP_P_NUM_OPS; op++)
    if (strcmp(neap_p_ops[op].name, name) == 0) return op;
  return -1;
}

int neap_program_value(neap_program *program, const double *settings, double *out) {
  if (!program || !out) return neap_fail(NEAP_EINVAL, "neap_program_value: NULL argument");
  const neap_p_plan *plan = program->plan;
  if (plan->num_passes)
    return neap_fail(NEAP_EINVAL, "neap_program_value: this program updates a weight; only a "
                                  "schedule has a value");
  if (!settings && plan->num_settings)
    return neap_fail(NEAP_EINVAL, "neap_program_value: the program needs %d settings",
                     plan->num_settings);
  double few[64], *values = few;
  size_t bytes = (size_t)plan->num_values * sizeof *values;
  if (bytes > sizeof few && !(values = neap_alloc(program->context, bytes))) return NEAP_ENOMEM;
  if (plan->num_settings) memcpy(values, settings, (size_t)plan->num_settings * sizeof *values);
  neap_p_run run = {.plan = plan, .values = values};
  neap_p_run_scalars(&run, 0);
  *out = values[plan->result];
  if (values != few) neap_free(program->context, values, bytes);
  return NEAP_OK;
}

/* ---- Runs ---------------------------------------------------------------------------------- */

/* What the operations of one run share. */
typedef struct update_job {
  atomic_int holders; /* operations that have not ended */
  atomic_int left;    /* parts of the present pass that have not */
  int parts, held;
  bool single; /* one operation, without parts, runs all passes */
  bool inside; /* the job lies in its only operation */
  size_t bytes;
  neap_program *program;
  neap_chunk *gradient; /* row-sparse: its rows are known when it runs; else NULL */
  neap_p_run run;
  neap_chunk **chunks; /* `held` of them: what the run must find in place */
  neap_joint *joint;   /* NULL, or who adds up the sums of all parts of the weight */
  double joined[NEAP_P_SUMS];
} update_job;

/* An operation's payload. */
typedef struct update_pass {
  update_job *job;
  int number;
  neap_work *work; /* of the addition behind a pass, see run_join() */
} update_pass;

static void drop_job(void *payload) {
  update_job *job = ((update_pass *)payload)->job;
  if (!job || atomic_fetch_sub_explicit(&job->holders, 1, memory_order_acq_rel) != 1) return;
  neap_context *context = job->program->context;
  for (int i = 0; i < job->held; i++) neap_chunk_release(job->chunks[i]);
  if (job->joint) job->joint->drop(job->joint);
  neap_program_close(job->program);
  if (!job->inside) neap_free(context, job, job->bytes);
}

/* The run as one thread works on it: with the rows that the gradient has by now. */
static neap_p_run local_run(const update_job *job) {
  neap_p_run run = job->run;
  if (job->gradient) {
    run.inputs[1] = job->gradient->data;
    run.ids = job->gradient->ids;
    run.num_ids = job->gradient->rows;
    static const int64_t none[1];
    if (!run.ids) run.ids = none; /* no rows; NULL would mean a dense gradient */
  }
  return run;
}

static void run_grains(const update_job *job, const neap_p_run *run, int number, int part) {
  int64_t grains = neap_p_run_grains(run);
  int64_t each = grains / job->parts,
          more = grains % job->parts; /* the first `more` have one more */
  int64_t begin = part * each + (part < more ? part : more), end = begin + each + (part < more);
  for (int64_t g = begin; g < end; g++) neap_p_run_part(run, number, g);
}

/* The first pass of a program with scalars of its own: what they are is known only now, and parts
 * run at once, so each has a copy. */
static __attribute__((noinline)) void run_first_with_scalars(const update_job *job, neap_p_run run,
                                                             int part) {
  double values[NEAP_P_SETTINGS + NEAP_P_SCALARS + NEAP_P_CONSTANTS + NEAP_P_NODES];
  memcpy(values, run.values, (size_t)run.plan->num_settings * sizeof *values);
  run.values = values;
  neap_p_run_scalars(&run, 0);
  run_grains(job, &run, 0, part);
}

/* Whether the sums of this pass are added up with those of other parts, by run_join(). */
static bool joins(const update_job *job, int pass) {
  return job->joint && pass + 1 < job->run.plan->num_passes;
}

static int run_pass(neap_task *task, void *payload) {
  const update_pass *pass = payload;
  update_job *job = pass->job;
  const neap_p_plan *plan = job->run.plan;
  neap_p_run run = local_run(job);
  if (job->single) {
    if (plan->uses_scalars) neap_p_run_scalars(&run, 0);
    for (int number = 0; number < plan->num_passes; number++) {
      run_grains(job, &run, number, 0);
      neap_p_run_scalars(&run, number + 1);
    }
    return NEAP_OK;
  }
  int part = neap_task_part(task);
  bool late = pass->number == 0 && plan->uses_scalars;
  if (late)
    run_first_with_scalars(job, run, part);
  else
    run_grains(job, &run, pass->number, part);
  if (atomic_fetch_sub_explicit(&job->left, 1, memory_order_acq_rel) != 1) return NEAP_OK;
  /* The last part to end: all sums are there, and nobody reads the values any more. */
  if (late) neap_p_run_scalars(&run, 0);
  if (!joins(job, pass->number)) neap_p_run_scalars(&run, pass->number + 1);
  atomic_store_explicit(&job->left, job->parts, memory_order_relaxed);
  return NEAP_OK;
}

/* ---- Parts of a larger weight -------------------------------------------------------------- */

/* The sums of all parts are there: what the next pass needs of them. */
static void joined(void *arg, int status, const char *text) {
  const update_pass *pass = arg;
  update_job *job = pass->job;
  if (status == NEAP_OK) {
    neap_p_run run = local_run(job);
    run.joined = job->joined;
    neap_p_run_scalars(&run, pass->number + 1);
  }
  neap_work_complete(pass->work, status, text);
}

/* Between two passes of a joint update: its parts' sums are added up. Whoever does that completes
 * the operation. */
static int run_join(neap_task *task, void *payload) {
  update_pass *pass = payload;
  update_job *job = pass->job;
  pass->work = neap_task_work(task);
  neap_p_run run = local_run(job);
  int count = neap_p_run_sums(&run, pass->number, job->joined);
  job->joint->add_up(job->joint, pass->number, job->joined, count, joined, pass);
  return NEAP_OK;
}

/* ---- Making runs ready --------------------------------------------------------------------- */

/* Rows, and elements in a row, of what has a shape; a number is one row. */
static void cut_rows(const neap_array_info *info, int64_t *rows, int64_t *row) {
  *rows = info->ndim ? info->shape[0] : 1;
  *row = 1;
  for (int i = 1; i < info->ndim; i++) *row *= info->shape[i];
}

/* Well-mixed bits of both (the finalizer of MurmurHash3, Appleby): equal keys of two contexts with
 * different seeds draw different numbers. */
static uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = a ^ (b * 0x9e3779b97f4a7c15u);
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
  return x ^ x >> 33;
}

static void hold(update_job *job, neap_array *array) {
  neap_chunk_retain(array->chunk);
  job->chunks[job->held++] = array->chunk;
}

/* `job` lies in memory for it, the values, the partial sums and the chunks, in that order. */
static void fill_job(update_job *job, const neap_program_call *call, size_t values,
                     size_t partials) {
  neap_program *program = call->program;
  neap_p_run *run = &job->run;
  neap_array *weight = call->weight;
  job->program = program;
  neap_program_retain(program);
  atomic_init(&job->left, job->parts);
  run->plan = program->plan;
  run->block = program->context->cpu->program;
  run->dtype = weight->info.dtype;
  run->natives = neap_program_natives(program, run->dtype);
  run->values = (double *)(job + 1);
  run->partials = run->values + values;
  job->chunks = (neap_chunk **)(run->partials + partials);
  cut_rows(&weight->info, &run->rows, &run->row);
  run->first = call->joint ? call->joint->first : 0;
  run->seed = mix(atomic_load(&program->context->seed), call->key);
  run->t = call->t;
  run->inputs[0] = neap_array_at_data(weight);
  hold(job, weight);
  if (call->gradient->info.stype == NEAP_ROW_SPARSE)
    job->gradient = call->gradient->chunk;
  else
    run->inputs[1] = neap_array_at_data(call->gradient);
  hold(job, call->gradient);
  for (int i = 0; i < program->plan->num_states; i++) {
    run->inputs[2 + i] = neap_array_at_data(call->states[i]);
    run->state_dtype[i] = (unsigned char)call->states[i]->info.dtype;
    hold(job, call->states[i]);
  }
  if (call->scalars && program->plan->num_scalars) {
    run->scalars = neap_array_at_data(call->scalars);
    hold(job, call->scalars);
  }
  if (program->plan->num_settings)
    memcpy(run->values, call->settings, (size_t)program->plan->num_settings * sizeof(double));
  if (!program->plan->uses_scalars) neap_p_run_scalars(run, 0);
}

/* Every pass writes the weight, even one that only sums: that is what keeps passes in order. */
static void depend(neap_work *work, const neap_program_call *call) {
  neap_work_write(work, call->weight->chunk->var);
  neap_work_read(work, call->gradient->chunk->var);
  for (int i = 0; i < call->program->plan->num_states; i++)
    neap_work_write(work, call->states[i]->chunk->var);
  if (call->scalars) neap_work_write(work, call->scalars->chunk->var);
}

int neap_program_prepare(const neap_program_call *call, neap_work **works, int *count) {
  neap_context *context = call->program->context;
  const neap_p_plan *plan = call->program->plan;
  int64_t rows, row;
  cut_rows(&call->weight->info, &rows, &row);
  int64_t grains = neap_p_max_grains(plan, rows, row), parts = grains;
  bool present_only = call->gradient->info.stype == NEAP_ROW_SPARSE && plan->flags & NEAP_P_LAZY;
  if (present_only && parts > SPARSE_PARTS) parts = SPARSE_PARTS;
  if (parts > MOST_PARTS) parts = MOST_PARTS;
  if (parts < 1) parts = 1;
  bool joint = call->joint && plan->num_passes > 1;
  bool single = (parts == 1 && !joint) || plan->num_passes > NEAP_PROGRAM_PASSES;
  int number = single ? 1 : joint ? 2 * plan->num_passes - 1 : plan->num_passes;

  /* Sizes are bounded by the program's limits and the weight's own size. */
  size_t values = (size_t)plan->num_values;
  size_t partials = (size_t)grains * (size_t)plan->most_totals;
  size_t chunks = 3 + (size_t)plan->num_states;
  size_t bytes =
      sizeof(update_job) + (values + partials) * sizeof(double) + chunks * sizeof(neap_chunk *);

  update_job *shared = NULL;
  if (number > 1) {
    shared = neap_alloc(context, bytes);
    if (!shared) return NEAP_ENOMEM;
    memset(shared, 0, sizeof *shared);
  }
  neap_work *made[NEAP_PROGRAM_WORKS] = {NULL};
  enum { PASS_BYTES = (sizeof(update_pass) + 15) / 16 * 16 };
  for (int i = 0; i < number; i++) {
    neap_fn run = joint && i % 2 ? run_join : run_pass;
    made[i] = neap_work_new(context, "update", run, PASS_BYTES + (shared ? 0 : bytes), 1,
                            2 + plan->num_states);
    if (!made[i]) {
      int status = neap_error_status();
      while (i--) neap_work_discard(made[i]); /* none has its job yet */
      if (shared) neap_free(context, shared, bytes);
      return status;
    }
    neap_work_set_done(made[i], drop_job);
  }

  char *payload = neap_work_payload(made[0]);
  update_job *job = shared ? shared : (void *)(payload + PASS_BYTES);
  job->parts = single ? 1 : (int)parts;
  job->single = single;
  job->inside = !shared;
  job->bytes = bytes;
  job->joint = call->joint;
  atomic_init(&job->holders, number);
  fill_job(job, call, values, partials);
  for (int i = 0; i < number; i++) {
    bool join = joint && i % 2;
    *(update_pass *)neap_work_payload(made[i]) = (update_pass){job, joint ? i / 2 : i, NULL};
    depend(made[i], call);
    if (join)
      neap_work_set_async(made[i]);
    else
      neap_work_set_parts(made[i], job->parts);
    neap_work_set_priority(made[i], call->priority);
    if (single && rows * row < QUICK) neap_work_set_quick(made[i], true);
    works[(*count)++] = made[i];
  }
  return NEAP_OK;
}

/* ---- A run by itself ----------------------------------------------------------------------- */

static int check_state(const neap_program *program, int index, const neap_array *weight,
                       const neap_array *state) {
  const char *name = program->plan->states[index].name;
  if (!state) return neap_fail(NEAP_EINVAL, "neap_program_run: state '%s' is NULL", name);
  if (state->info.stype != NEAP_DENSE)
    return neap_fail(NEAP_ESTYPE, "neap_program_run: state '%s' must be dense", name);
  if (!neap_same_shape(&state->info, &weight->info)) {
    char a[NEAP_SHAPE_TEXT], b[NEAP_SHAPE_TEXT];
    return neap_fail(NEAP_ESHAPE, "neap_program_run: state '%s' has shape %s, the weight %s", name,
                     neap_shape_text(&state->info, a), neap_shape_text(&weight->info, b));
  }
  int dtype = state->info.dtype;
  if (dtype != weight->info.dtype && dtype != neap_program_state_dtype(weight->info.dtype))
    return neap_fail(NEAP_EDTYPE,
                     "neap_program_run: state '%s' is %s; for a weight of %s it must "
                     "be %s",
                     name, neap_dtype_name(dtype), neap_dtype_name(weight->info.dtype),
                     neap_dtype_name(neap_program_state_dtype(weight->info.dtype)));
  return NEAP_OK;
}

static int check_arrays(const neap_program *program, const neap_array *weight,
                        const neap_array *gradient) {
  const neap_array_info *w = &weight->info, *g = &gradient->info;
  if (w->stype != NEAP_DENSE)
    return neap_fail(NEAP_ESTYPE, "neap_program_run: the weight must be dense");
  if (w->dtype > NEAP_BFLOAT16)
    return neap_fail(NEAP_EDTYPE,
                     "neap_program_run: the weight is %s; programs compute with "
                     "floats: astype('float32') first",
                     neap_dtype_name(w->dtype));
  if (g->dtype != w->dtype)
    return neap_fail(NEAP_EDTYPE,
                     "neap_program_run: the gradient is %s, the weight %s: astype "
                     "one of them",
                     neap_dtype_name(g->dtype), neap_dtype_name(w->dtype));
  if (!neap_same_shape(w, g)) {
    char a[NEAP_SHAPE_TEXT], b[NEAP_SHAPE_TEXT];
    return neap_fail(NEAP_ESHAPE, "neap_program_run: the gradient has shape %s, the weight %s",
                     neap_shape_text(g, a), neap_shape_text(w, b));
  }
  if (program->context != neap_array_context(weight) ||
      program->context != neap_array_context(gradient))
    return neap_fail(NEAP_EINVAL, "neap_program_run: program and arrays are of two contexts");
  return NEAP_OK;
}

int neap_program_run(neap_program *program, neap_array *weight, neap_array *gradient,
                     neap_array *const *states, neap_array *scalars, const double *settings,
                     int priority) {
  if (!program || !weight || !gradient)
    return neap_fail(NEAP_EINVAL, "neap_program_run: NULL argument");
  const neap_p_plan *plan = program->plan;
  if (plan->num_passes == 0)
    return neap_fail(NEAP_EINVAL, "neap_program_run: this program is a schedule; "
                                  "neap_program_value() evaluates it");
  if ((plan->num_states && !states) || (plan->num_settings && !settings))
    return neap_fail(NEAP_EINVAL, "neap_program_run: the program has %d states and %d settings",
                     plan->num_states, plan->num_settings);
  NEAP_TRY(check_arrays(program, weight, gradient));
  for (int i = 0; i < plan->num_states; i++) {
    NEAP_TRY(check_state(program, i, weight, states[i]));
    if (program->context != neap_array_context(states[i]))
      return neap_fail(NEAP_EINVAL, "neap_program_run: program and states are of two contexts");
  }
  if (plan->num_scalars &&
      (!scalars || scalars->info.dtype != NEAP_FLOAT64 || scalars->info.stype != NEAP_DENSE ||
       scalars->info.size != plan->num_scalars || neap_array_context(scalars) != program->context))
    return neap_fail(NEAP_EINVAL,
                     "neap_program_run: the program's scalars are a dense float64 "
                     "array of %d elements",
                     plan->num_scalars);
  uint64_t t = 0; /* random numbers: by the setting of that name, when the program has it */
  for (int i = 0; i < plan->num_settings; i++)
    if (strcmp(plan->settings[i], "t") == 0 && settings[i] >= 0 && settings[i] < 9e15)
      t = (uint64_t)settings[i];
  neap_program_call call = {.program = program,
                            .weight = weight,
                            .gradient = gradient,
                            .states = states,
                            .scalars = plan->num_scalars ? scalars : NULL,
                            .settings = settings,
                            .t = t,
                            .priority = priority};
  neap_work *works[NEAP_PROGRAM_WORKS];
  int count = 0;
  NEAP_TRY(neap_program_prepare(&call, works, &count));
  for (int i = 0; i < count; i++) neap_work_submit(works[i]);
  return NEAP_OK;
}
