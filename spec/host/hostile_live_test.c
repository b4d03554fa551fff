/* SPDX-License-Identifier: MIT */
/* hostile_live_test.c - scripts that mean harm, sent to servers that others use: each is refused
 * with a reason, the optimizer stays what it was, and the other workers' pushes count. */
#define _GNU_SOURCE
#include "spec/host/host.h"
#include "spec/host/hostile.h"
#include "spec/net/job.h"
#include <stdatomic.h>
#include <time.h>

enum { SIZE = 1000 };

static const neap_key key = {.text = "w", .length = 1};
static const int64_t shape[1] = {SIZE};
static const char GOOD[] = "return { name = 'good', update = function(w, g) return w + g end }";

static neap_host *host;
static atomic_int over, refused;
static double slowest;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Worker 0 sends them; the others push and pull. */
static void attack(worker *w) {
  for (size_t i = 0; i < NUM_SCRIPTS; i++) {
    text t = dump_of(SCRIPTS[i].source, strlen(SCRIPTS[i].source), NULL, NULL);
    int64_t version = 0;
    double begin = now();
    int status = neap_store_send_optimizer(w->store, t.bytes, t.size, &version);
    double took = now() - begin;
    if (took > slowest) slowest = took;
    if (status == NEAP_OK || !says(neap_error(), SCRIPTS[i].words)) {
      fprintf(stderr, "%s\n  %s: %s\n  wanted: %s\n", SCRIPTS[i].source, neap_status_name(status),
              neap_error(), SCRIPTS[i].words);
      exit(1);
    }
    free(t.bytes);
    atomic_fetch_add(&refused, 1);
  }
  const char *dump;
  size_t size;
  int64_t version = 0;
  OK(neap_store_get_optimizer(w->store, &dump, &size, &version));
  CHECK(version == 1 && strstr(dump, "'good'"));
}

static atomic_int pushes;

static void body(worker *w) {
  neap_array *weight = filled(w->context, 1, shape, 0), *one = filled(w->context, 1, shape, 1);
  OK(neap_store_init(w->store, 1, &key, &weight));
  if (w->rank == 0) {
    text t = dump_of(GOOD, strlen(GOOD), NULL, NULL);
    int64_t version = 0;
    OK(neap_store_send_optimizer(w->store, t.bytes, t.size, &version));
    free(t.bytes);
  }
  OK(neap_store_barrier(w->store));
  if (w->rank == 0) {
    attack(w);
    atomic_store(&over, 1);
  }
  while (w->rank > 0 && !atomic_load(&over)) {
    OK(neap_store_push(w->store, 1, &key, NULL, &one, 0));
    OK(neap_store_pull(w->store, 1, &key, NULL, &weight, 0, 1));
    OK(neap_array_wait(weight));
    atomic_fetch_add(&pushes, 1);
  }
  OK(neap_store_barrier(w->store));
  OK(neap_store_pull(w->store, 1, &key, NULL, &weight, 0, 1));
  CHECK(all_are(weight, (float)atomic_load(&pushes)));
  neap_array_close(weight);
  neap_array_close(one);
}

int main(void) {
  job j;
  neap_host_options options;
  neap_host_options_init(&options, sizeof options);
  options.seconds = 0.1;
  options.memory = 8 << 20;
  host = make_host(&options);
  job_options(&j, 3, 2);
  j.type = "dist_async"; /* where nobody waits for worker 0 */
  j.options.root_uri = "inproc://hostile-live-test";
  j.options.scripts = neap_host_scripts(host);
  job_start(&j);
  job_run(&j, body);
  job_end(&j);
  CHECK(atomic_load(&pushes) > atomic_load(&refused));
  printf("%d scripts refused, the slowest after %.2f s; %d pushes of others meanwhile\n",
         atomic_load(&refused), slowest, atomic_load(&pushes));
  neap_host_close(host);
  return 0;
}
