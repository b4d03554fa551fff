/* SPDX-License-Identifier: MIT */
/* chaos_test.c - connections between workers, servers and the scheduler are cut, reset and held up
 * at random bytes while they train: every push counts once, and sums are exact.
 *
 * NEAP_SPEC_LONG=1: 500 cuts for each kind of job. NEAP_SPEC_SEED: other accidents. */
#include "adding.h"
#include "job.h"
#include "proxy.h"

enum { WORKERS = 3, SERVERS = 2, KEYS = 3, ROWS = 700, WIDTH = 300 };

static proxy *chaos;
static atomic_int last_round, rounds;
static atomic_llong pushed[WORKERS]; /* dist_async: pushes of each */

static const int64_t shapes[KEYS][2] = {{2, 3}, {ROWS, WIDTH}, {ROWS, 4}};
static const neap_key keys[KEYS] = {{"small", 5, 0}, {"large", 5, 0}, {"rows", 4, 0}};

static bool enough(void) {
  return atomic_load(&chaos->cuts) >= atomic_load(&chaos->wanted);
}

/* Rows w, w + 7, ... all `value`. */
static void set_rows(worker *w, neap_array *sparse, int first, float value) {
  int64_t count = (ROWS - first + 6) / 7, shape[2] = {count, 4};
  neap_array *values = filled(w->context, 2, shape, value), *ids = NULL;
  OK(neap_array_create(w->context, NEAP_INT64, 1, shape, NEAP_CPU, 0, &ids));
  OK(neap_array_arange(ids, first, 7));
  OK(neap_sparse_set(sparse, values, ids));
  neap_array_close(values);
  neap_array_close(ids);
}

/* `of` in the rows that are pushed: all workers push the same ones. */
static bool rows_are(neap_array *dense, float of) {
  void *data;
  OK(neap_array_data(dense, &data));
  for (int i = 0; i < ROWS * 4; i++)
    if (((float *)data)[i] != (i / 4 % 7 == 2 ? of : 0)) {
      fprintf(stderr, "row %d is %g, not %g\n", i / 4, ((float *)data)[i], of);
      return false;
    }
  return true;
}

typedef struct arrays {
  neap_array *values[KEYS], *outs[KEYS];
} arrays;

static arrays begin(worker *w) {
  arrays a;
  for (int i = 0; i < KEYS; i++) {
    a.values[i] = filled(w->context, 2, shapes[i], 0);
    a.outs[i] = filled(w->context, 2, shapes[i], 0);
  }
  OK(neap_store_init(w->store, KEYS, keys, a.values));
  neap_array_close(a.values[2]);
  OK(neap_sparse_create(w->context, NEAP_FLOAT32, 2, shapes[2], NEAP_CPU, 0, &a.values[2]));
  return a;
}

static void end(arrays *a) {
  for (int i = 0; i < KEYS; i++) {
    neap_array_close(a->values[i]);
    neap_array_close(a->outs[i]);
  }
}

/* In step: each round's value is the sum of that round's pushes. */
static void in_step(worker *w) {
  arrays a = begin(w);
  for (int round = 1; round <= atomic_load(&last_round); round++) {
    float mine = (float)(round % 1000 * (w->rank + 1)), sum = (float)(round % 1000 * 6);
    for (int i = 0; i < 2; i++) OK(neap_array_fill(a.values[i], mine));
    set_rows(w, a.values[2], 2, mine);
    OK(neap_store_push(w->store, KEYS, keys, NULL, a.values, round % 3));
    OK(neap_store_pull(w->store, KEYS, keys, NULL, a.outs, 0, 1));
    for (int i = 0; i < 2; i++) CHECK(all_are(a.outs[i], sum));
    CHECK(rows_are(a.outs[2], sum));
    /* Nobody is further than the next round, which waits for this worker. */
    if (w->rank == 0 && enough() && atomic_load(&last_round) > round + 1)
      atomic_store(&last_round, round + 1);
    if (w->rank == 0) atomic_fetch_add(&rounds, 1);
  }
  OK(neap_store_barrier(w->store));
  end(&a);
}

/* By codes: +-0.5 each, which are exact. */
static void compressed(worker *w) {
  OK(neap_store_set_compression(w->store, "2bit", 0.5));
  arrays a = begin(w);
  for (int round = 1; round <= atomic_load(&last_round); round++) {
    float mine = (round + w->rank) % 3 ? 0.5f : -0.5f, sum = 0;
    for (int r = 0; r < WORKERS; r++) sum += (round + r) % 3 ? 0.5f : -0.5f;
    for (int i = 0; i < 2; i++) OK(neap_array_fill(a.values[i], mine));
    OK(neap_store_push(w->store, 2, keys, NULL, a.values, 0));
    OK(neap_store_pull(w->store, 2, keys, NULL, a.outs, 0, 1));
    for (int i = 0; i < 2; i++) CHECK(all_are(a.outs[i], sum));
    if (w->rank == 0 && enough() && atomic_load(&last_round) > round + 1)
      atomic_store(&last_round, round + 1);
    if (w->rank == 0) atomic_fetch_add(&rounds, 1);
  }
  OK(neap_store_barrier(w->store));
  end(&a);
}

/* Out of step: the optimizer adds, so the value is the sum of all pushes. */
static void out_of_step(worker *w) {
  arrays a = begin(w);
  int64_t version;
  if (w->rank == 1) OK(neap_store_send_optimizer(w->store, "add", 3, &version));
  OK(neap_store_barrier(w->store));
  for (int i = 0; i < 2; i++) OK(neap_array_fill(a.values[i], w->rank + 1));
  set_rows(w, a.values[2], 2, (float)(w->rank + 1));
  for (int round = 1; round == 1 || !enough(); round++) {
    OK(neap_store_push(w->store, KEYS, keys, NULL, a.values, 0));
    if (round % 4 == 0) {
      OK(neap_store_pull(w->store, KEYS, keys, NULL, a.outs, 0, 1));
      OK(neap_array_wait(a.outs[1]));
    }
    atomic_fetch_add(&pushed[w->rank], 1);
  }
  OK(neap_store_barrier(w->store));
  long long sum = 0;
  for (int i = 0; i < WORKERS; i++) sum += (i + 1) * atomic_load(&pushed[i]);
  CHECK(sum < 1 << 24);
  OK(neap_store_pull(w->store, KEYS, keys, NULL, a.outs, 0, 1));
  for (int i = 0; i < 2; i++) CHECK(all_are(a.outs[i], (float)sum));
  CHECK(rows_are(a.outs[2], (float)sum));
  if (w->rank == 0) atomic_fetch_add(&rounds, (int)atomic_load(&pushed[0]));
  end(&a);
}

static void with(const char *name, const char *type, void (*body)(worker *), int cuts,
                 int long_stalls) {
  static proxy p;
  memset(&p, 0, sizeof p);
  chaos = &p;
  const char *seed = getenv("NEAP_SPEC_SEED");
  if (seed) p.random = strtoull(seed, NULL, 10);
  job j;
  job_options(&j, WORKERS, SERVERS);
  j.type = type;
  j.options.bigarray_bound = 10000;
  j.options.timeout = 5;
  j.options.scripts = &adding_scripts;
  atomic_store(&p.wanted, cuts);
  atomic_store(&p.long_stalls, long_stalls);
  p.long_stall = 3; /* more than half the time-out, after which a silent connection is dropped */
  atomic_store(&last_round, 1 << 30);
  atomic_store(&rounds, 0);
  for (int i = 0; i < WORKERS; i++) atomic_store(&pushed[i], 0);
  const char *root = proxy_door(&p);
  for (int i = 0; i < SERVERS; i++) j.advertise[i] = proxy_door(&p);
  proxy_start(&p);
  double start = proxy_now();
  j.contexts[0] = job_context();
  OK(neap_scheduler_start(j.contexts[0], &j.options, &j.scheduler));
  atomic_store(&p.targets[0], port_of_uri(neap_scheduler_uri(j.scheduler)));
  j.options.root_uri = root;
  job_servers(&j);
  for (int i = 0; i < SERVERS; i++)
    atomic_store(&p.targets[i + 1], port_of_uri(neap_server_uri(j.servers[i])));
  job_run(&j, body);
  job_end(&j);
  printf("%s: %d cuts in %d rounds, %.1f s\n", name, atomic_load(&p.cuts), atomic_load(&rounds),
         proxy_now() - start);
  CHECK(atomic_load(&p.cuts) >= cuts);
  proxy_end(&p);
}

int main(void) {
  bool thorough = getenv("NEAP_SPEC_LONG") != NULL;
  int cuts = thorough ? 500 : 40, stalls = thorough ? 5 : 0;
  alarm(thorough ? 600 : 200);
  setvbuf(stdout, NULL, _IOLBF, 0);
  with("in step", "dist_sync", in_step, cuts, stalls + 1);
  with("compressed", "dist_sync", compressed, cuts, stalls);
  with("out of step", "dist_async", out_of_step, cuts, stalls);
  return 0;
}
