/* SPDX-License-Identifier: MIT */
/* wait.c - waiting for a variable, for all that is queued, and for a while.
 *
 * Who waits queues an operation of its own behind what it waits for, and works until that one is
 * complete (sched.c, S2). */
#define _GNU_SOURCE
#include "work.h"
#include <time.h>

int neap_may_wait(neap_sched *sched) {
  if (neap_depth_in(sched) == 0) return NEAP_OK;
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
  NEAP_TRY(neap_may_wait(sched));
  if (!written(var)) {
    neap_parker parker;
    neap_parker_init(&parker, sched);
    neap_work work = {.kind = NEAP_WORK_WAIT, .sched = sched, .target = &parker, .parts = 1};
    neap_slot slot;
    atomic_init(&work.refs, 1);
    work.slots = &slot;
    neap_work_read(&work, var);
    bool ready;
    neap_enter(sched, &work, false, &ready);
    if (ready) neap_made_ready(NULL, &work);
    neap_help(&parker, false);
    neap_parker_leave(&parker);
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

bool neap_var_failed(const neap_var *var) {
  return atomic_load_explicit(&var->failure, memory_order_acquire) != NULL;
}

static void idle_reached(void *payload) {
  neap_parker *parker = *(neap_parker **)payload;
  neap_parker_wake(parker);
}

int neap_var_wait_idle(neap_var *var) {
  neap_sched *sched = var->context->sched;
  NEAP_TRY(neap_may_wait(sched));
  if (!neap_var_idle(var)) {
    neap_parker parker;
    neap_work *work = neap_work_new(var->context, "wait", NULL, sizeof(neap_parker *), 0, 1);
    if (!work) return neap_error_status();
    neap_parker_init(&parker, sched);
    *(neap_parker **)neap_work_payload(work) = &parker;
    neap_work_write(work, var);
    work->quick = true;
    work->done = idle_reached;
    neap_work_submit(work);
    neap_help(&parker, false);
    neap_parker_leave(&parker);
  }
  return neap_var_tell(var);
}

/* Waits for all that is queued at the moment; tells nothing. */
void neap_drain(neap_sched *sched) {
  neap_parker parker;
  neap_parker_init(&parker, sched);
  pthread_mutex_lock(&sched->drain_lock);
  pthread_mutex_lock(&sched->submit);
  sched->drain_batch = sched->batch;
  sched->drain_target = sched->submitted[sched->batch];
  sched->batch ^= 1;
  pthread_mutex_unlock(&sched->submit);
  atomic_store(&sched->drain, &parker);
  neap_drain_check(sched);
  neap_help(&parker, false);
  pthread_mutex_lock(&sched->sleep);
  atomic_store(&sched->drain, NULL);
  pthread_mutex_unlock(&sched->sleep);
  pthread_mutex_unlock(&sched->drain_lock);
  neap_parker_leave(&parker);
}

int neap_wait_all(neap_context *context) {
  NEAP_TRY(neap_may_wait(context->sched));
  neap_drain(context->sched);
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
  if (neap_depth_in(context->sched) > 0) return 0;
  do {
    if (!neap_run_one(context->sched, false)) break;
    count++;
  } while (now_us() < end);
  return count;
}
