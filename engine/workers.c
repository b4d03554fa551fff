/* SPDX-License-Identifier: MIT */
/* workers.c - the engine's life: its threads started, stopped, started again, and its end. */
#define _GNU_SOURCE
#include "work.h"
#include <sched.h>
#include <string.h>
#include <unistd.h>

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
  neap_parker_init(&parker, sched);
  parker.last = arg.index % 2 == 0;
  neap_help(&parker, true);
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
  atomic_store(&sched->stopping, true);
  neap_wake_everybody(sched);
  while (sched->num_threads > 0) pthread_join(sched->threads[--sched->num_threads], NULL);
  atomic_store(&sched->stopping, false);
}

int neap_stop(neap_context *context) {
  neap_sched *sched = context->sched;
  NEAP_TRY(neap_may_wait(sched));
  pthread_mutex_lock(&sched->control);
  neap_drain(sched);
  atomic_store(&sched->paused, true);
  stop_workers(sched);
  pthread_mutex_unlock(&sched->control);
  return NEAP_OK;
}

int neap_start(neap_context *context) {
  neap_sched *sched = context->sched;
  if (atomic_load(&context->closed))
    return neap_fail(NEAP_ECLOSED, "neap_start: the context was closed");
  NEAP_TRY(neap_may_wait(sched));
  pthread_mutex_lock(&sched->control);
  atomic_store(&sched->paused, false);
  int status = start_workers(sched);
  if (sched->naive) /* what was queued meanwhile */
    while (neap_run_one(sched, false)) {
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
  do neap_drain(sched);
  while (neap_backlog(sched) > 0); /* operations that queued more */
  atomic_store(&sched->context->closed, true);
  stop_workers(sched);
  while (neap_run_one(sched, false)) {
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
  pthread_mutex_destroy(&sched->control);
  neap_free(context, sched, sizeof *sched);
}

int64_t neap_sched_counter(neap_sched *sched, int counter) {
  int64_t value = 0;
  switch (counter) {
  case NEAP_COUNT_PENDING:
    value = neap_backlog(sched);
    break;
  case NEAP_COUNT_THREADS:
    value = sched->naive ? 0 : sched->max_threads;
    break;
  case NEAP_COUNT_OPS:
    pthread_mutex_lock(&sched->submit);
    value = (int64_t)sched->seq;
    pthread_mutex_unlock(&sched->submit);
    break;
  default:
    break;
  }
  return value;
}
