/* SPDX-License-Identifier: MIT */
/* join_alloc_test.c - allocations that fail in the scheduler, a server or a worker of a small job:
 * each time there is an error with a text, or all goes well in spite of it. Nothing hangs, and no
 * memory is left behind.
 *
 * NEAP_SPEC_LONG=1: each allocation, else a sample. */
#include "adding.h"
#include "job.h"
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t live, countdown;

typedef struct owner {
  bool fails;
} owner;

static void *failing_alloc(void *user, size_t size, size_t align) {
  const owner *o = user;
  if (o->fails && atomic_fetch_sub(&countdown, 1) == 1) return NULL; /* this one, and no other */
  void *block = NULL;
  if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size)) return NULL;
  atomic_fetch_add(&live, (int64_t)size);
  return block;
}

static void failing_free(void *user, void *block, size_t size) {
  (void)user;
  atomic_fetch_sub(&live, (int64_t)size);
  free(block);
}

enum { SCHEDULER, SERVER, OTHER, WORKER, ROLES }; /* two servers, as keys may be split over them */
static owner owners[ROLES];

static int context_of(int role, neap_context **out) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.num_threads = 1;
  options.pool_limit = 0;
  options.alloc = failing_alloc;
  options.free = failing_free;
  options.user = &owners[role];
  return neap_context_create(&options, out);
}

#define STEP(call)                                                                                 \
  do {                                                                                             \
    int status_ = (call);                                                                          \
    if (status_ != NEAP_OK) return status_;                                                        \
  } while (0)

static const int64_t shape[2] = {300, 100}, few[1] = {3};

typedef struct made {
  neap_context *contexts[ROLES];
  neap_scheduler *scheduler;
  neap_server *servers[2];
  neap_store *store;
  neap_array *arrays[8];
} made;

/* Most of what a worker does. */
static int train(made *m) {
  neap_context *c = m->contexts[WORKER];
  neap_array **value = &m->arrays[0], **out = &m->arrays[1], **sparse = &m->arrays[2],
             **rows = &m->arrays[3], **ids = &m->arrays[4], **got = &m->arrays[5];
  const int64_t part[2] = {3, 100};
  neap_key keys[2] = {{"dense", 5, 0}, {"rows", 4, 0}};
  STEP(neap_array_create(c, NEAP_FLOAT32, 2, shape, NEAP_CPU, 0, value));
  STEP(neap_array_create(c, NEAP_FLOAT32, 2, shape, NEAP_CPU, 0, out));
  STEP(neap_array_create(c, NEAP_FLOAT32, 2, part, NEAP_CPU, 0, rows));
  STEP(neap_array_create(c, NEAP_INT64, 1, few, NEAP_CPU, 0, ids));
  STEP(neap_sparse_create(c, NEAP_FLOAT32, 2, shape, NEAP_CPU, 0, sparse));
  STEP(neap_sparse_create(c, NEAP_FLOAT32, 2, shape, NEAP_CPU, 0, got));
  STEP(neap_array_fill(*value, 1));
  STEP(neap_array_fill(*rows, 2));
  STEP(neap_array_arange(*ids, 5, 50));
  STEP(neap_sparse_set(*sparse, *rows, *ids));
  neap_array *both[2] = {*value, *sparse};
  STEP(neap_store_init(m->store, 2, keys, both));
  STEP(neap_store_push(m->store, 2, keys, NULL, both, 0));
  STEP(neap_store_pull(m->store, 1, keys, NULL, out, 0, 1));
  STEP(neap_store_pull_rows(m->store, 1, keys + 1, NULL, got, ids, 0));
  STEP(neap_array_wait(*out));
  STEP(neap_array_wait(*got));
  int64_t version;
  STEP(neap_store_send_optimizer(m->store, "add", 3, &version));
  STEP(neap_store_set_compression(m->store, "2bit", 0.5));
  STEP(neap_store_pushpull(m->store, 1, keys, NULL, value, NULL, out, 0, 1));
  STEP(neap_store_barrier(m->store));
  STEP(neap_array_wait(*out));
  const char *text;
  STEP(neap_store_stats(m->store, &text));
  STEP(neap_store_delete(m->store, keys));
  return neap_wait_all(c);
}

static int scenario(made *m) {
  neap_job_options options;
  neap_job_options_init(&options, sizeof options);
  options.root_uri = "tcp://127.0.0.1:0";
  options.num_servers = 2;
  options.timeout = 2;
  options.scripts = &adding_scripts;
  for (int i = 0; i < ROLES; i++) STEP(context_of(i, &m->contexts[i]));
  STEP(neap_scheduler_start(m->contexts[SCHEDULER], &options, &m->scheduler));
  options.root_uri = neap_scheduler_uri(m->scheduler);
  for (int i = 0; i < 2; i++)
    STEP(neap_server_start(m->contexts[SERVER + i], &options, &m->servers[i]));
  options.scripts = NULL;
  STEP(neap_store_join(m->contexts[WORKER], "dist_sync", &options, &m->store));
  return train(m);
}

static double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* True if no allocation failed: there are not so many. */
static bool attempt(int role, int64_t which, double *longest) {
  made m = {0};
  for (int i = 0; i < ROLES; i++) owners[i].fails = i == role;
  atomic_store(&countdown, which);
  double start = seconds_now();
  int status = scenario(&m);
  bool failed = atomic_load(&countdown) <= 0;
  if (status != NEAP_OK) {
    if (!neap_error()[0] || !failed)
      fprintf(stderr, "role %d, allocation %lld: %s %s\n", role, (long long)which,
              neap_status_name(status), neap_error());
    CHECK(failed && neap_error()[0]);
  }
  for (int i = 0; i < 8; i++) neap_array_close(m.arrays[i]);
  neap_store_close(m.store);
  if (m.contexts[WORKER]) neap_context_close(m.contexts[WORKER]);
  for (int i = 0; i < 2; i++) neap_server_close(m.servers[i]);
  neap_scheduler_close(m.scheduler);
  for (int i = 0; i < WORKER; i++)
    if (m.contexts[i]) neap_context_close(m.contexts[i]);
  double took = seconds_now() - start;
  if (took > *longest) *longest = took;
  if (getenv("NEAP_SPEC_SHOW"))
    printf("role %d, allocation %lld: %.2f s, %s\n", role, (long long)which, took,
           status ? neap_error() : "all well");
  if (atomic_load(&live) != 0)
    fprintf(stderr, "role %d, allocation %lld: %lld bytes are left\n", role, (long long)which,
            (long long)atomic_load(&live));
  CHECK(atomic_load(&live) == 0);
  return !failed;
}

int main(void) {
  bool thorough = getenv("NEAP_SPEC_LONG") != NULL;
  alarm(thorough ? 900 : 280);
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int role = 0; role < ROLES; role++) {
    int64_t which = 1;
    double longest = 0;
    int attempts = 0;
    while (!attempt(role, which, &longest)) {
      attempts++;
      which += thorough ? 1 : 1 + which / 6;
      CHECK(which < 5000);
    }
    printf("role %d: %d allocations failed, up to the %lldth; %.1f s at most\n", role, attempts,
           (long long)which, longest);
    CHECK(longest < 60);
  }
  return 0;
}
