/* SPDX-License-Identifier: MIT */
/* sched.c - the engine: queues operations, runs them on workers, and waits.
 *
 * An operation's way: neap_work_new -> submit (var.c finds what it waits for) -> ready (ready.c)
 * -> run, in one or several parts, by a worker or by a thread that waits -> leave (var.c lets its
 * successors go) -> its memory is returned to the pool of works.
 *
 * Invariants:
 *   S1  Whoever makes an operation ready either runs it on the spot, or adds it to `ready` and
 *       then looks whether somebody is searching; whoever stops searching looks at `ready` once
 *       more before it sleeps (both sequentially consistent): no wake-up is lost. (offer, park)
 *   S2  A thread that waits takes part in the work, so that waiting needs no workers at all; it
 *       leaves as soon as what it waits for is complete. (help)
 *   S3  A batch is what was queued between two neap_wait_all(); its count of completed operations
 *       reaches its count of queued ones exactly when all of it is complete. (finish)
 *   S4  Nothing here allocates between submit and completion.
 */
#define _GNU_SOURCE
#include "work.h"
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
  SPIN_ROUNDS = 2000,      /* looks at the queue before a thread sleeps: about 20 microseconds */
  CHAIN_MAX = 64,          /* successors run directly before the queue gets its turn */
  NEST_MAX = 8,            /* quick operations that start quick operations */
  BACKLOG_MAX = 64 * 1024, /* operations queued before who queues more must help */
  BACKLOG_STEP = 256,      /* operations between two looks at that, and helped with then */
  TEXT_MAX = 512,          /* longest text of a failure */
};

/* Which engine's operations the calling thread is inside of, innermost first. */
typedef struct inside {
  neap_sched *sched;
  int depth;
  struct inside *outer;
} inside;
static _Thread_local inside *here;

static int depth_in(const neap_sched *sched) {
  for (const inside *in = here; in; in = in->outer)
    if (in->sched == sched) return in->depth;
  return 0;
}

static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* ---- Memory of works ------------------------------------------------------------------------ */

static const size_t class_bytes[4] = {320, 640, 1024, 2048};
enum { NO_CLASS = 255 };

static neap_work *spare_take(neap_sched *sched, int size_class) {
  pthread_mutex_lock(&sched->alloc);
  neap_work *work = sched->spare[size_class];
  if (!work)
    work = atomic_exchange_explicit(&sched->returned[size_class], NULL, memory_order_acquire);
  sched->spare[size_class] = work ? work->link : NULL;
  pthread_mutex_unlock(&sched->alloc);
  return work;
}

static void spare_return(neap_sched *sched, neap_work *work) {
  _Atomic(neap_work *) *list = &sched->returned[work->size_class];
  neap_work *head = atomic_load_explicit(list, memory_order_relaxed);
  do {
    work->link = head;
  } while (!atomic_compare_exchange_weak_explicit(list, &head, work, memory_order_release,
                                                  memory_order_relaxed));
}

neap_work *neap_work_new(neap_context *context, const char *name, neap_fn run, size_t payload,
                         int reads, int writes) {
  neap_sched *sched = context->sched;
  if (atomic_load_explicit(&context->closed, memory_order_relaxed)) {
    neap_fail(NEAP_ECLOSED, "%s: the context was closed", name);
    return NULL;
  }
  size_t head = (sizeof(neap_work) + 15) & ~(size_t)15;
  size_t links = sizeof(neap_slot) * (size_t)reads + sizeof(neap_write) * (size_t)writes;
  size_t bytes = head + ((links + 15) & ~(size_t)15) + payload;
  int size_class = 0;
  while (size_class < 4 && class_bytes[size_class] < bytes) size_class++;
  neap_work *work = NULL;
  if (size_class < 4) {
    work = spare_take(sched, size_class);
    bytes = work ? work->bytes : class_bytes[size_class];
  }
  if (!work) work = neap_alloc_aligned(context, bytes, 64);
  if (!work) return NULL;
  memset(work, 0, sizeof *work);
  work->bytes = bytes;
  work->size_class = size_class < 4 ? (unsigned char)size_class : NO_CLASS;
  work->kind = NEAP_WORK_POOLED;
  atomic_init(&work->refs, 1);
  work->parts = 1;
  work->sched = sched;
  work->name = name;
  work->run = run;
  work->max_slots = reads;
  work->max_writes = writes;
  work->slots = (neap_slot *)((char *)work + head);
  work->writes = (neap_write *)(work->slots + reads);
  work->arg = (char *)work + head + ((links + 15) & ~(size_t)15);
  memset(work->arg, 0, payload);
  return work;
}

void *neap_work_payload(neap_work *work) {
  return work->arg;
}

void neap_work_read(neap_work *work, neap_var *var) {
  neap_slot *slot = &work->slots[work->num_slots++];
  slot->work = work;
  slot->var = var;
}

void neap_work_write(neap_work *work, neap_var *var) {
  work->writes[work->num_writes++].var = var;
}

void neap_work_set_done(neap_work *work, void (*done)(void *payload)) {
  work->done = done;
}
void neap_work_set_priority(neap_work *work, int priority) {
  work->priority = priority;
}
void neap_work_set_parts(neap_work *work, int parts) {
  work->parts = parts > 1 ? parts : 1;
}
void neap_work_set_quick(neap_work *work, bool quick) {
  work->quick = quick;
}
void neap_work_set_always(neap_work *work) {
  work->always = true;
}

static void work_free(neap_sched *sched, neap_work *work) {
  if (work->size_class != NO_CLASS)
    spare_return(sched, work);
  else
    neap_free(sched->context, work, work->bytes);
}

void neap_work_discard(neap_work *work) {
  if (work->done) work->done(work->arg);
  work_free(work->sched, work);
}

static void waiter_wake(neap_sched *sched, neap_parker *parker);

void neap_work_dispose(neap_work *work) {
  neap_sched *sched = work->sched;
  switch (work->kind) {
  case NEAP_WORK_POOLED:
    work_free(sched, work);
    break;
  case NEAP_WORK_WAIT:
    waiter_wake(sched, work->target);
    break;
  case NEAP_WORK_CLOSE: {
    neap_var *var = work->target;
    neap_context *context = var->context;
    neap_failure_drop(sched, atomic_load_explicit(&var->failure, memory_order_relaxed));
    void (*dispose)(void *) = var->dispose;
    void *arg = var->dispose_arg;
    neap_free(context, var, sizeof *var);
    if (dispose) dispose(arg);
    neap_context_release(context);
    break;
  }
  }
}

/* ---- Sleeping and waking ----------------------------------------------------------------------
 */

static void parker_init(neap_parker *parker) {
  memset(parker, 0, sizeof *parker);
  pthread_cond_init(&parker->cond, NULL);
}

static void unlist(neap_sched *sched, neap_parker *parker) {
  for (neap_parker **at = &sched->parked; *at; at = &(*at)->next)
    if (*at == parker) {
      *at = parker->next;
      break;
    }
  parker->listed = false;
  atomic_fetch_sub(&sched->num_parked, 1);
}

static void park(neap_sched *sched, neap_parker *parker) {
  pthread_mutex_lock(&sched->sleep);
  parker->next = sched->parked;
  sched->parked = parker;
  parker->listed = true;
  parker->woken = false;
  atomic_fetch_add(&sched->num_parked, 1);
  if (atomic_load(&sched->ready.queued) > 0 || atomic_load(&parker->done) ||
      atomic_load(&sched->stopping))
    unlist(sched, parker);
  else
    while (!parker->woken) pthread_cond_wait(&parker->cond, &sched->sleep);
  pthread_mutex_unlock(&sched->sleep);
}

static void wake_locked(neap_sched *sched, neap_parker *parker) {
  unlist(sched, parker);
  parker->woken = true;
  pthread_cond_signal(&parker->cond);
}

static void wake_one(neap_sched *sched) {
  if (atomic_load(&sched->num_parked) == 0) return;
  pthread_mutex_lock(&sched->sleep);
  if (sched->parked) wake_locked(sched, sched->parked);
  pthread_mutex_unlock(&sched->sleep);
}

/* What `parker` waits for is complete. */
static void waiter_wake(neap_sched *sched, neap_parker *parker) {
  pthread_mutex_lock(&sched->sleep);
  atomic_store(&parker->done, true);
  if (parker->listed) wake_locked(sched, parker);
  pthread_mutex_unlock(&sched->sleep);
}

/* Before a parker on the stack goes away: whoever woke it has let go of the lock by then. */
static void waiter_leave(neap_sched *sched, neap_parker *parker) {
  pthread_mutex_lock(&sched->sleep);
  pthread_mutex_unlock(&sched->sleep);
  pthread_cond_destroy(&parker->cond);
}

/* ---- Running ------------------------------------------------------------------------------------
 */

/* Where a completing operation's first successor goes, to be run next by the same thread. */
typedef struct {
  neap_work *next;
} successor;

static void finish(neap_sched *sched, neap_work *work, successor *then);

/* A work whose turn has come: to the queue, with a look whether somebody should wake (S1). */
static void offer(neap_sched *sched, neap_work *work) {
  neap_ready_add(&sched->ready, work);
  if (atomic_load(&sched->searching) == 0) wake_one(sched);
}

static void made_ready(void *arg, neap_work *work) {
  successor *then = arg;
  if (work->kind == NEAP_WORK_WAIT) { /* nothing to run: completes on the spot */
    neap_work_leave(work, made_ready, then);
    return;
  }
  work->skip = neap_work_inherit(work);
  if (work->skip) work->parts = 1;
  atomic_store_explicit(&work->parts_left, work->parts, memory_order_relaxed);
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

/* Runs one part; completes the work after its last. */
static void run_part(neap_sched *sched, neap_work *work, int part, successor *then) {
  if (!work->skip && work->run) {
    inside in = {sched, depth_in(sched) + 1, here};
    here = &in;
    neap_task task = {work, part, false};
    int status = work->run(&task, work->arg);
    here = in.outer;
    if (status != NEAP_OK && !task.failed)
      own_failure(work, part, status, neap_status_name(status));
  }
  if (work->parts == 1 ||
      atomic_fetch_sub_explicit(&work->parts_left, 1, memory_order_acq_rel) == 1)
    finish(sched, work, then);
}

static void drain_check(neap_sched *sched) {
  pthread_mutex_lock(&sched->sleep);
  neap_parker *parker = atomic_load(&sched->drain);
  if (parker && atomic_load(&sched->completed[sched->drain_batch]) >= sched->drain_target) {
    atomic_store(&parker->done, true);
    if (parker->listed) wake_locked(sched, parker);
  }
  pthread_mutex_unlock(&sched->sleep);
}

static void finish(neap_sched *sched, neap_work *work, successor *then) {
  if (work->done && work->kind == NEAP_WORK_POOLED) work->done(work->arg);
  int batch = work->batch;
  /* A closing variable may drop the context's last reference with everything in it: such a
   * work belongs to no batch, and nothing is touched after it. */
  bool counted = work->kind == NEAP_WORK_POOLED;
  neap_work_leave(work, made_ready, then);
  if (!counted) return;
  atomic_fetch_add(&sched->completed[batch], 1);
  if (atomic_load(&sched->drain)) drain_check(sched);
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
static bool run_one(neap_sched *sched) {
  int part;
  neap_work *work = neap_ready_take(&sched->ready, &part);
  if (!work) return false;
  if (atomic_load(&sched->ready.queued) > 0 && atomic_load(&sched->searching) == 0) wake_one(sched);
  run_chain(sched, work, part);
  return true;
}

/* Works until parker->done, or, for a worker, until the engine stops. */
static void help(neap_sched *sched, neap_parker *parker, bool worker) {
  for (;;) {
    if (atomic_load_explicit(&parker->done, memory_order_acquire)) return;
    if (run_one(sched)) continue;
    if (worker && atomic_load(&sched->stopping)) return;
    atomic_fetch_add(&sched->searching, 1);
    bool found = false;
    for (int i = 0; i < SPIN_ROUNDS && !found; i++) {
      found = atomic_load_explicit(&sched->ready.queued, memory_order_relaxed) > 0 ||
              atomic_load_explicit(&parker->done, memory_order_relaxed);
      cpu_relax();
    }
    atomic_fetch_sub(&sched->searching, 1);
    if (!found) park(sched, parker);
  }
}

/* ---- Queueing
 * -------------------------------------------------------------------------------------- */

static int64_t backlog(neap_sched *sched) {
  uint64_t completed = atomic_load(&sched->completed[0]) + atomic_load(&sched->completed[1]);
  pthread_mutex_lock(&sched->submit);
  uint64_t submitted = sched->submitted[0] + sched->submitted[1];
  pthread_mutex_unlock(&sched->submit);
  return (int64_t)(submitted - completed);
}

/* Puts the work behind what it needs. Afterwards it may be complete and gone, unless it is
 * `ready`: then it is the caller's to run or offer. Returns its number. */
static uint64_t enter(neap_sched *sched, neap_work *work, bool *ready) {
  pthread_mutex_lock(&sched->submit);
  uint64_t seq = work->seq = ++sched->seq;
  work->batch = (unsigned char)sched->batch;
  if (work->kind == NEAP_WORK_POOLED) sched->submitted[sched->batch]++;
  *ready = neap_work_enter(work);
  pthread_mutex_unlock(&sched->submit);
  return seq;
}

static void run_here(neap_sched *sched, neap_work *work) {
  work->skip = neap_work_inherit(work);
  if (work->skip) work->parts = 1;
  atomic_store_explicit(&work->parts_left, work->parts, memory_order_relaxed);
  for (int part = 0, parts = work->parts; part < parts; part++) run_part(sched, work, part, NULL);
}

void neap_work_submit(neap_work *work) {
  neap_sched *sched = work->sched;
  if (atomic_load_explicit(&sched->context->closed, memory_order_relaxed) &&
      work->kind == NEAP_WORK_POOLED) {
    neap_work_discard(work);
    return;
  }
  int depth = depth_in(sched);
  bool paused = atomic_load_explicit(&sched->paused, memory_order_relaxed);
  bool on_the_spot =
      !paused && (sched->naive || (work->quick && work->parts == 1)) && depth < NEST_MAX;
  bool ready;
  uint64_t seq = enter(sched, work, &ready);
  if (ready) {
    if (on_the_spot)
      run_here(sched, work);
    else
      made_ready(NULL, work);
  }
  if (depth > 0 || paused) return;
  if (sched->naive)
    while (run_one(sched)) {
    }
  else if (seq % BACKLOG_STEP == 0 && backlog(sched) > BACKLOG_MAX)
    for (int i = 0; i < BACKLOG_STEP && run_one(sched); i++) {
    }
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
  neap_var *var = neap_alloc_aligned(context, sizeof *var, 64);
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

/* ---- Waiting
 * -------------------------------------------------------------------------------------------- */

static int may_wait(neap_sched *sched) {
  if (depth_in(sched) == 0) return NEAP_OK;
  return neap_fail(NEAP_EINVAL, "an operation must not wait for its own engine");
}

static bool written(neap_var *var) {
  neap_sched *sched = var->context->sched;
  pthread_mutex_lock(&sched->submit);
  bool is = neap_var_is_written(var);
  pthread_mutex_unlock(&sched->submit);
  return is;
}

int neap_var_wait(neap_var *var) {
  neap_sched *sched = var->context->sched;
  NEAP_TRY(may_wait(sched));
  if (!written(var)) {
    neap_parker parker;
    parker_init(&parker);
    neap_work work = {.kind = NEAP_WORK_WAIT, .sched = sched, .target = &parker, .parts = 1};
    neap_slot slot;
    atomic_init(&work.refs, 1);
    work.slots = &slot;
    neap_work_read(&work, var);
    bool ready;
    enter(sched, &work, &ready);
    if (ready) made_ready(NULL, &work);
    help(sched, &parker, false);
    waiter_leave(sched, &parker);
  }
  return neap_var_tell(var);
}

bool neap_var_idle(neap_var *var) {
  neap_sched *sched = var->context->sched;
  pthread_mutex_lock(&sched->submit);
  bool is = neap_var_is_idle(var);
  pthread_mutex_unlock(&sched->submit);
  return is;
}

static void idle_reached(void *payload) {
  neap_parker *parker = *(neap_parker **)payload;
  waiter_wake(parker->sched, parker);
}

int neap_var_wait_idle(neap_var *var) {
  neap_sched *sched = var->context->sched;
  NEAP_TRY(may_wait(sched));
  if (!neap_var_idle(var)) {
    neap_parker parker;
    neap_work *work = neap_work_new(var->context, "wait", NULL, sizeof(neap_parker *), 0, 1);
    if (!work) return neap_error_status();
    parker_init(&parker);
    parker.sched = sched;
    *(neap_parker **)neap_work_payload(work) = &parker;
    neap_work_write(work, var);
    work->quick = true;
    work->done = idle_reached;
    neap_work_submit(work);
    help(sched, &parker, false);
    waiter_leave(sched, &parker);
  }
  return neap_var_tell(var);
}

/* Waits for all that is queued at the moment; tells nothing. */
static void drain(neap_sched *sched) {
  neap_parker parker;
  parker_init(&parker);
  pthread_mutex_lock(&sched->drain_lock);
  pthread_mutex_lock(&sched->submit);
  sched->drain_batch = sched->batch;
  sched->drain_target = sched->submitted[sched->batch];
  sched->batch ^= 1;
  pthread_mutex_unlock(&sched->submit);
  atomic_store(&sched->drain, &parker);
  drain_check(sched);
  help(sched, &parker, false);
  pthread_mutex_lock(&sched->sleep);
  atomic_store(&sched->drain, NULL);
  pthread_mutex_unlock(&sched->sleep);
  pthread_mutex_unlock(&sched->drain_lock);
  waiter_leave(sched, &parker);
}

int neap_wait_all(neap_context *context) {
  NEAP_TRY(may_wait(context->sched));
  drain(context->sched);
  return neap_sched_tell(context->sched);
}

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int neap_poll(neap_context *context, int64_t microseconds) {
  int64_t end = now_us() + microseconds;
  int count = 0;
  if (depth_in(context->sched) > 0) return 0;
  do {
    if (!run_one(context->sched)) break;
    count++;
  } while (now_us() < end);
  return count;
}

/* ---- Workers
 * --------------------------------------------------------------------------------------------- */

typedef struct {
  neap_sched *sched;
  int index;
} worker_arg;

static void *worker_main(void *p) {
  worker_arg arg = *(worker_arg *)p;
  neap_sched *sched = arg.sched;
  neap_free(sched->context, p, sizeof arg);
  const neap_options *options = &sched->context->options;
  if (options->thread_start) options->thread_start(options->user, arg.index);
  neap_parker parker;
  parker_init(&parker);
  help(sched, &parker, true);
  pthread_cond_destroy(&parker.cond);
  return NULL;
}

static int start_workers(neap_sched *sched) {
  while (sched->num_threads < sched->max_threads) {
    worker_arg *arg = neap_alloc(sched->context, sizeof *arg);
    if (!arg) return NEAP_ENOMEM;
    *arg = (worker_arg){sched, sched->num_threads};
    int error = pthread_create(&sched->threads[sched->num_threads], NULL, worker_main, arg);
    if (error) {
      neap_free(sched->context, arg, sizeof *arg);
      return neap_fail(NEAP_ENOMEM, "worker thread %d could not be started: %s", sched->num_threads,
                       strerror(error));
    }
    sched->num_threads++;
  }
  return NEAP_OK;
}

static void stop_workers(neap_sched *sched) {
  pthread_mutex_lock(&sched->sleep);
  atomic_store(&sched->stopping, true);
  while (sched->parked) wake_locked(sched, sched->parked);
  pthread_mutex_unlock(&sched->sleep);
  while (sched->num_threads > 0) pthread_join(sched->threads[--sched->num_threads], NULL);
  atomic_store(&sched->stopping, false);
}

int neap_stop(neap_context *context) {
  neap_sched *sched = context->sched;
  NEAP_TRY(may_wait(sched));
  pthread_mutex_lock(&sched->control);
  drain(sched);
  atomic_store(&sched->paused, true);
  stop_workers(sched);
  pthread_mutex_unlock(&sched->control);
  return NEAP_OK;
}

int neap_start(neap_context *context) {
  neap_sched *sched = context->sched;
  if (atomic_load(&context->closed))
    return neap_fail(NEAP_ECLOSED, "neap_start: the context was closed");
  NEAP_TRY(may_wait(sched));
  pthread_mutex_lock(&sched->control);
  atomic_store(&sched->paused, false);
  int status = start_workers(sched);
  if (sched->naive) /* what was queued meanwhile */
    while (run_one(sched)) {
    }
  pthread_mutex_unlock(&sched->control);
  return status;
}

/* The cores this process may use, less the one that queues work. */
static int default_threads(void) {
  cpu_set_t set;
  int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                          : (int)sysconf(_SC_NPROCESSORS_ONLN);
  return cores > 2 ? cores - 1 : 1;
}

int neap_sched_create(neap_context *context, neap_sched **out) {
  neap_sched *sched = neap_alloc_aligned(context, sizeof *sched, 64);
  if (!sched) return NEAP_ENOMEM;
  memset(sched, 0, sizeof *sched);
  sched->context = context;
  context->sched = sched;
  sched->naive = context->options.engine == NEAP_ENGINE_NAIVE;
  int threads = context->options.num_threads;
  sched->max_threads = sched->naive ? 0 : threads < 0 ? default_threads() : threads;
  sched->untold_end = &sched->untold;
  neap_ready_init(&sched->ready);
  pthread_mutex_init(&sched->submit, NULL);
  pthread_mutex_init(&sched->sleep, NULL);
  pthread_mutex_init(&sched->drain_lock, NULL);
  pthread_mutex_init(&sched->failures, NULL);
  pthread_mutex_init(&sched->alloc, NULL);
  pthread_mutex_init(&sched->control, NULL);
  int status = neap_sched_prepare_failures(sched);
  if (status == NEAP_OK && sched->max_threads > 0) {
    sched->threads = neap_alloc(context, sizeof(pthread_t) * (size_t)sched->max_threads);
    status = sched->threads ? start_workers(sched) : NEAP_ENOMEM;
  }
  if (status != NEAP_OK) {
    stop_workers(sched);
    neap_sched_free(sched);
    context->sched = NULL;
    return status;
  }
  *out = sched;
  return NEAP_OK;
}

void neap_sched_close(neap_sched *sched) {
  pthread_mutex_lock(&sched->control);
  do drain(sched);
  while (backlog(sched) > 0); /* operations that queued more */
  atomic_store(&sched->context->closed, true);
  stop_workers(sched);
  while (run_one(sched)) {
  }
  pthread_mutex_unlock(&sched->control);
}

void neap_sched_free(neap_sched *sched) {
  neap_context *context = sched->context;
  for (int i = 0; i < 4; i++) {
    neap_work *lists[2] = {sched->spare[i], atomic_load(&sched->returned[i])};
    for (int k = 0; k < 2; k++)
      while (lists[k]) {
        neap_work *work = lists[k];
        lists[k] = work->link;
        neap_free(context, work, work->bytes);
      }
  }
  neap_sched_drop_failures(sched);
  if (sched->threads)
    neap_free(context, sched->threads, sizeof(pthread_t) * (size_t)sched->max_threads);
  neap_ready_destroy(&sched->ready);
  pthread_mutex_destroy(&sched->submit);
  pthread_mutex_destroy(&sched->sleep);
  pthread_mutex_destroy(&sched->drain_lock);
  pthread_mutex_destroy(&sched->failures);
  pthread_mutex_destroy(&sched->alloc);
  pthread_mutex_destroy(&sched->control);
  neap_free(context, sched, sizeof *sched);
}

int64_t neap_sched_counter(neap_sched *sched, int counter) {
  int64_t value = 0;
  switch (counter) {
  case NEAP_COUNT_PENDING:
    value = backlog(sched);
    break;
  case NEAP_COUNT_THREADS:
    value = sched->naive ? 0 : sched->max_threads;
    break;
  case NEAP_COUNT_OPS:
    pthread_mutex_lock(&sched->submit);
    value = (int64_t)(sched->submitted[0] + sched->submitted[1]);
    pthread_mutex_unlock(&sched->submit);
    break;
  default:
    break;
  }
  return value;
}
