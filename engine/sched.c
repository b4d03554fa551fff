/* SPDX-License-Identifier: MIT */
/* sched.c - the engine: queues operations and runs them.
 *
 * An operation's way: neap_work_new -> submit (var.c finds what it waits for) -> ready (ready.c)
 * -> run, in one or several parts, by a worker or by a thread that waits -> leave (var.c lets its
 * successors go) -> its memory is returned to the pool of works.
 *
 * Invariants:
 *   S1  Whoever makes an operation ready either runs it on the spot, or adds it to `ready` and
 *       then looks whether somebody is searching; whoever stops searching looks at `ready` once
 *       more before it sleeps (both sequentially consistent): no wake-up is lost. (offer,
 * neap_park) S2  A thread that waits takes part in the work, so that waiting needs no workers at
 * all; it leaves as soon as what it waits for is complete. (neap_help) S3  A batch is what was
 * queued between two neap_wait_all(); its count of completed operations reaches its count of queued
 * ones exactly when all of it is complete. (finish) S4  Nothing here allocates between submit and
 * completion.
 */
#define _GNU_SOURCE
#include "pool.h"
#include "work.h"
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum {
  SPIN_ROUNDS = 2000,      /* looks at the queue before a thread sleeps: about 20 microseconds */
  WAIT_ROUNDS = 8000,      /* the same for a thread that waits: a reply of another process is sooner
                            * there on a CPU that need not be woken */
  CHAIN_MAX = 64,          /* successors run directly before the queue gets its turn */
  NEST_MAX = 8,            /* quick operations that start quick operations */
  BACKLOG_MAX = 64 * 1024, /* operations queued before who queues more must help */
  BACKLOG_STEP = 256,      /* operations between two looks at that */
  TEXT_MAX = 512,          /* longest text of a failure */
};

/* Which engine's operations the calling thread is inside of, innermost first. */
typedef struct inside {
  neap_sched *sched;
  int depth;
  struct inside *outer;
} inside;
static _Thread_local inside *here;

int neap_depth_in(const neap_sched *sched) {
  for (const inside *in = here; in; in = in->outer)
    if (in->sched == sched) return in->depth;
  return 0;
}

bool neap_sched_inside(const neap_sched *sched) {
  return neap_depth_in(sched) > 0;
}

static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* ---- Running -----------------------------------------------------------------------------------
 */

/* Where a completing operation's first successor goes, to be run next by the same thread. */
typedef struct {
  neap_work *next;
} successor;

static void finish(neap_sched *sched, neap_work *work, successor *then);
static void set_parts_left(neap_work *work);

/* A work whose turn has come: to the queue, with a look whether somebody should wake (S1). */
static void offer(neap_sched *sched, neap_work *work) {
  work->end_part = work->parts;
  neap_ready_add(&sched->ready, work);
  if (atomic_load(&sched->searching) == 0) neap_wake_one(sched);
}

void neap_made_ready(void *arg, neap_work *work) {
  successor *then = arg;
  if (work->kind == NEAP_WORK_WAIT) { /* nothing to run: completes on the spot */
    neap_work_leave(work, neap_made_ready, then);
    return;
  }
  work->skip = neap_work_inherit(work);
  set_parts_left(work);
  if (then && !then->next && work->parts == 1 && work->priority == 0 &&
      atomic_load_explicit(&work->sched->ready.prioritised, memory_order_relaxed) == 0)
    then->next = work;
  else
    offer(work->sched, work);
}

static void own_failure(neap_work *work, int part, int status, const char *text) {
  neap_sched *sched = work->sched;
  /* The lowest part's failure stands, so that the text does not depend on timing. Parts that
   * fail are rare: one lock for all. */
  neap_failure *failure = neap_failure_new(sched, status, work->name, text);
  pthread_mutex_lock(&sched->failures);
  neap_failure *old = NULL;
  if (!work->failure || part < atomic_load(&work->failed_part)) {
    old = work->failure;
    work->failure = failure;
    atomic_store(&work->failed_part, part);
  } else {
    old = failure;
  }
  if (old) atomic_store(&old->told, 0); /* void from the start */
  pthread_mutex_unlock(&sched->failures);
  neap_failure_drop(sched, old);
}

/* How much must be over before the work is complete: its parts, and what neap_work_complete() ends.
 */
static void set_parts_left(neap_work *work) {
  if (work->skip) work->parts = 1;
  int ends = work->parts + (work->async && !work->skip);
  atomic_store_explicit(&work->parts_left, ends, memory_order_relaxed);
}

static bool part_ends(neap_work *work) {
  return atomic_fetch_sub_explicit(&work->parts_left, 1, memory_order_acq_rel) == 1;
}

/* Runs one part; completes the work after its last. */
static void run_part(neap_sched *sched, neap_work *work, int part, successor *then) {
  bool async = false;
  if (!work->skip && work->run) {
    inside in = {sched, neap_depth_in(sched) + 1, here};
    here = &in;
    neap_task task = {work, part, false};
    int status = work->run(&task, work->arg);
    here = in.outer;
    /* `task` is still ours; an asynchronous work that went well may be complete and gone, once
     * its own end is counted. */
    if (status != NEAP_OK && !task.failed)
      own_failure(work, part, status, neap_status_name(status));
    async = work->async && status == NEAP_OK;
  }
  if ((work->parts == 1 && !async) || part_ends(work)) finish(sched, work, then);
}

void neap_work_complete(neap_work *work, int status, const char *text) {
  if (status != NEAP_OK) own_failure(work, 0, status, text);
  if (part_ends(work)) finish(work->sched, work, NULL);
}

neap_work *neap_task_work(const neap_task *task) {
  return task->work;
}

void neap_drain_check(neap_sched *sched) {
  pthread_mutex_lock(&sched->sleep);
  neap_parker *parker = atomic_load(&sched->drain);
  if (parker && atomic_load(&sched->completed[sched->drain_batch]) >= sched->drain_target)
    neap_parker_wake_locked(parker);
  pthread_mutex_unlock(&sched->sleep);
}

static void finish(neap_sched *sched, neap_work *work, successor *then) {
  if (work->done && work->kind == NEAP_WORK_POOLED) work->done(work->arg);
  int batch = work->batch;
  /* A closing variable may drop the context's last reference with everything in it: such a
   * work belongs to no batch, and nothing is touched after it. */
  bool counted = work->counted;
  neap_work_leave(work, neap_made_ready, then);
  if (!counted) return;
  atomic_fetch_add(&sched->completed[batch], 1);
  if (atomic_load(&sched->drain)) neap_drain_check(sched);
}

/* Runs a part, and then successors that it made ready. */
static void run_chain(neap_sched *sched, neap_work *work, int part) {
  for (int i = 0;; i++) {
    successor then = {NULL};
    run_part(sched, work, part, i < CHAIN_MAX ? &then : NULL);
    if (!then.next) return;
    work = then.next;
    part = 0;
  }
}

/* Takes one piece of work from the queue and runs it. */
bool neap_run_one(neap_sched *sched, bool last) {
  int part;
  neap_work *work = neap_ready_take(&sched->ready, last, &part);
  if (!work) return false;
  if (neap_ready_any(&sched->ready) && atomic_load(&sched->searching) == 0) neap_wake_one(sched);
  run_chain(sched, work, part);
  return true;
}

/* Works until parker->done, or, for a worker, until the engine stops. */
void neap_help(neap_parker *parker, bool worker) {
  neap_sched *sched = parker->sched;
  for (;;) {
    if (atomic_load_explicit(&parker->done, memory_order_acquire)) return;
    if (neap_run_one(sched, parker->last)) continue;
    if (worker && atomic_load(&sched->stopping)) return;
    atomic_fetch_add(&sched->searching, 1);
    bool found = false;
    int rounds = worker ? SPIN_ROUNDS : WAIT_ROUNDS;
    for (int i = 0; i < rounds && !found; i++) {
      found = neap_ready_any(&sched->ready) ||
              atomic_load_explicit(&parker->done, memory_order_relaxed);
      cpu_relax();
    }
    atomic_fetch_sub(&sched->searching, 1);
    if (!found) neap_park(parker);
  }
}

/* ---- Queueing
 * -------------------------------------------------------------------------------------- */

int64_t neap_backlog(neap_sched *sched) {
  uint64_t completed = atomic_load(&sched->completed[0]) + atomic_load(&sched->completed[1]);
  pthread_mutex_lock(&sched->submit);
  uint64_t submitted = sched->submitted[0] + sched->submitted[1];
  pthread_mutex_unlock(&sched->submit);
  return (int64_t)(submitted - completed);
}

/* Puts the work behind what it needs. Afterwards it may be complete and gone, unless it is
 * `ready`: then it is the caller's to run or offer. Returns its number. What will be run
 * `on_the_spot` belongs to no batch, unless it is asynchronous: it is complete before the call that
 * queues it returns. */
uint64_t neap_enter(neap_sched *sched, neap_work *work, bool on_the_spot, bool *ready) {
  bool counted = work->kind == NEAP_WORK_POOLED;
  pthread_mutex_lock(&sched->submit);
  uint64_t seq = work->seq = ++sched->seq;
  work->batch = (unsigned char)sched->batch;
  work->counted = counted;
  *ready = neap_work_enter(work);
  if (*ready && on_the_spot && !work->async)
    work->counted = false;
  else if (counted)
    sched->submitted[sched->batch]++;
  pthread_mutex_unlock(&sched->submit);
  return seq;
}

static void run_here(neap_sched *sched, neap_work *work) {
  work->skip = neap_work_inherit(work);
  set_parts_left(work);
  for (int part = 0, parts = work->parts; part < parts; part++) run_part(sched, work, part, NULL);
}

/* Whoever queues faster than the engine runs takes part in the work, or waits while there is none
 * that can be begun, until the backlog is short enough again: what is queued is memory. */
static void lighten(neap_sched *sched) {
  const struct timespec moment = {0, 50000};
  while (neap_backlog(sched) > BACKLOG_MAX && !atomic_load(&sched->paused))
    if (!neap_run_one(sched, false)) nanosleep(&moment, NULL);
}

void neap_work_submit(neap_work *work) {
  neap_sched *sched = work->sched;
  bool pooled = work->kind == NEAP_WORK_POOLED;
  if (atomic_load_explicit(&sched->context->closed, memory_order_relaxed) && pooled) {
    neap_work_discard(work);
    return;
  }
  int depth = neap_depth_in(sched);
  bool paused = atomic_load_explicit(&sched->paused, memory_order_relaxed);
  bool on_the_spot =
      !paused && (sched->naive || (work->quick && work->parts == 1)) && depth < NEST_MAX;
  if (on_the_spot && pooled && !work->async && work->num_slots + work->num_writes == 0) {
    /* Waits for nothing. */
    work->counted = false;
    run_here(sched, work);
    return;
  }
  bool ready;
  uint64_t seq = neap_enter(sched, work, on_the_spot, &ready);
  if (ready) {
    if (on_the_spot)
      run_here(sched, work);
    else
      neap_made_ready(NULL, work);
  }
  if (depth > 0 || paused) return;
  if (sched->naive)
    while (neap_run_one(sched, false)) {
    }
  else if (pooled && seq % BACKLOG_STEP == 0)
    lighten(sched);
}

/* ---- Public: operations and variables
 * --------------------------------------------------------------- */

int neap_push(neap_context *context, const neap_op *op) {
  if (!context || !op || op->size < sizeof *op || op->num_reads < 0 || op->num_writes < 0 ||
      (!op->run && !op->done))
    return neap_fail(NEAP_EINVAL, "neap_push: a context, a size, counts from 0, and a function "
                                  "to run are needed");
  for (int i = 0; i < op->num_reads + op->num_writes; i++) {
    const neap_var *var = i < op->num_reads ? op->reads[i] : op->writes[i - op->num_reads];
    if (!var || var->context != context)
      return neap_fail(NEAP_EINVAL, "neap_push: %s %d is %s", i < op->num_reads ? "read" : "write",
                       i < op->num_reads ? i : i - op->num_reads,
                       var ? "a variable of another context" : "NULL");
  }
  neap_work *work = neap_work_new(context, op->name ? op->name : "operation", op->run, 0,
                                  op->num_reads, op->num_writes);
  if (!work) return neap_error_status();
  work->arg = op->arg;
  work->done = op->done;
  for (int i = 0; i < op->num_reads; i++) neap_work_read(work, op->reads[i]);
  for (int i = 0; i < op->num_writes; i++) neap_work_write(work, op->writes[i]);
  neap_work_set_priority(work, op->priority);
  neap_work_set_parts(work, op->parts);
  neap_work_set_quick(work, op->quick != 0);
  neap_work_submit(work);
  return NEAP_OK;
}

int neap_task_part(const neap_task *task) {
  return task->part;
}

int neap_task_fail(neap_task *task, int status, const char *format, ...) {
  char text[TEXT_MAX];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (status == NEAP_OK) status = NEAP_EFAILED;
  task->failed = true;
  own_failure(task->work, task->part, status, text);
  return status;
}

int neap_var_create(neap_context *context, neap_var **out) {
  if (atomic_load(&context->closed))
    return neap_fail(NEAP_ECLOSED, "neap_var_create: the context was closed");
  neap_var *var = neap_pool_get(context->pool, sizeof *var); /* made and dropped by the million */
  if (!var) return NEAP_ENOMEM;
  neap_var_init(var, context);
  neap_context_retain(context);
  *out = var;
  return NEAP_OK;
}

void neap_var_close_then(neap_var *var, void (*dispose)(void *arg), void *arg) {
  neap_context *context = var->context;
  neap_context_retain(context); /* the variable's own reference may be the last but this */
  var->dispose = dispose;
  var->dispose_arg = arg;
  neap_work *work = &var->closer;
  work->kind = NEAP_WORK_CLOSE;
  work->sched = context->sched;
  work->target = var;
  work->parts = 1;
  work->always = work->quick = true;
  work->name = "close";
  atomic_store(&work->refs, 1);
  neap_work_submit(work);
  neap_context_release(context);
}

void neap_var_close(neap_var *var) {
  if (var) neap_var_close_then(var, NULL, NULL);
}
