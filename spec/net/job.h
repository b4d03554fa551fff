/* SPDX-License-Identifier: MIT */
/* job.h - a whole job inside a test: scheduler and servers in contexts of their own, workers on
 * threads with a context each. */
#ifndef SPEC_JOB_H
#define SPEC_JOB_H

#include "engine/neap.h"
#include "spec/check.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 8 };

typedef struct job job;

typedef struct worker {
  job *job;
  int rank;
  neap_context *context;
  neap_store *store;
  pthread_t thread;
} worker;

struct job {
  const char *type;
  neap_job_options options;
  neap_context *contexts[MOST + 1];
  neap_scheduler *scheduler;
  neap_server *servers[MOST];
  worker workers[MOST];
  void (*body)(worker *w);
  const char *advertise[MOST]; /* servers: where workers reach them; NULL: where they listen */
};

static neap_context *job_context(void) {
  neap_options options;
  neap_context *context = NULL;
  neap_options_init(&options, sizeof options);
  options.num_threads = 1;
  OK(neap_context_create(&options, &context));
  return context;
}

/* Starts scheduler and servers; set what else is wanted in j->options before. */
static inline void job_options(job *j, int workers, int servers) {
  memset(j, 0, sizeof *j);
  j->type = "dist_sync";
  neap_job_options_init(&j->options, sizeof j->options);
  j->options.root_uri = "tcp://127.0.0.1:0";
  j->options.num_workers = workers;
  j->options.num_servers = servers;
  j->options.timeout = 20;
}

static inline void job_servers(job *j) {
  for (int i = 0; i < j->options.num_servers; i++) {
    j->contexts[i + 1] = job_context();
    neap_job_options options = j->options;
    options.advertise_uri = j->advertise[i];
    OK(neap_server_start(j->contexts[i + 1], &options, &j->servers[i]));
  }
}

static inline void job_start(job *j) {
  j->contexts[0] = job_context();
  OK(neap_scheduler_start(j->contexts[0], &j->options, &j->scheduler));
  j->options.root_uri = neap_scheduler_uri(j->scheduler);
  job_servers(j);
}

static inline void worker_join(worker *w) {
  neap_job_options options = w->job->options;
  options.rank = w->rank;
  options.scripts = NULL;
  w->context = job_context();
  OK(neap_store_join(w->context, w->job->type, &options, &w->store));
  CHECK(neap_store_rank(w->store) == w->rank);
}

static inline void worker_leave(worker *w) {
  neap_store_close(w->store);
  neap_context_close(w->context);
}

static inline void *worker_run(void *arg) {
  worker *w = arg;
  worker_join(w);
  w->job->body(w);
  worker_leave(w);
  return NULL;
}

/* Runs `body` on all workers, each a thread, and waits for them and for the end of the job. */
static inline void job_run(job *j, void (*body)(worker *w)) {
  j->body = body;
  for (int i = 0; i < j->options.num_workers; i++) {
    j->workers[i].job = j;
    j->workers[i].rank = i;
    CHECK(pthread_create(&j->workers[i].thread, NULL, worker_run, &j->workers[i]) == 0);
  }
  for (int i = 0; i < j->options.num_workers; i++) pthread_join(j->workers[i].thread, NULL);
}

static inline void job_end(job *j) {
  for (int i = 0; i < j->options.num_servers; i++) {
    OK(neap_server_wait(j->servers[i], 20));
    neap_server_close(j->servers[i]);
  }
  OK(neap_scheduler_wait(j->scheduler, 20));
  neap_scheduler_close(j->scheduler);
  for (int i = 0; i <= j->options.num_servers; i++) neap_context_close(j->contexts[i]);
}

/* An array of `size` floats, all `value`. */
static inline neap_array *filled(neap_context *context, int ndim, const int64_t *shape,
                                 double value) {
  neap_array *array = NULL;
  OK(neap_array_create(context, NEAP_FLOAT32, ndim, shape, NEAP_CPU, 0, &array));
  OK(neap_array_fill(array, value));
  return array;
}

/* Whether all elements are `value`. */
static inline int all_are(neap_array *array, float value) {
  void *data;
  OK(neap_array_data(array, &data));
  int64_t size = neap_array_get_info(array)->size;
  for (int64_t i = 0; i < size; i++)
    if (((float *)data)[i] != value) {
      fprintf(stderr, "element %lld is %g, not %g\n", (long long)i, ((float *)data)[i], value);
      return 0;
    }
  return 1;
}

#endif
