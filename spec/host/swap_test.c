/* SPDX-License-Identifier: MIT */
/* swap_test.c - optimizers that take each other's place on servers, under load: no push is lost or
 * counted twice, weights are those of one store that swaps at the same rounds, bit for bit, and
 * what does not work changes nothing. */
#include "spec/host/host.h"
#include "spec/net/job.h"
#include <math.h>
#include <stdatomic.h>
#include <time.h>

enum { SWAPS = 100, EVERY = 3, STEPS = SWAPS * EVERY, KEYS = 2, MOST_SIZE = 3050, KINDS = 4 };

/* One key that lies on one server, and one that is split over both. */
static const neap_key keys[KEYS] = {{.text = "small", .length = 5}, {.text = "large", .length = 5}};
static const int64_t shapes[KEYS][2] = {{10, 100}, {50, 61}};
static const int sizes[KEYS] = {1000, 3050};

static neap_host *host;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static text dump_of_file(const char *name, const char *settings) {
  char path[64];
  snprintf(path, sizeof path, "lua/optim/%s.lua", name);
  FILE *file = fopen(path, "rb");
  CHECK(file);
  static char source[65536];
  size_t size = fread(source, 1, sizeof source, file);
  fclose(file);
  return dump_of(source, size, settings, NULL);
}

static text dump_of_source(const char *source) {
  return dump_of(source, strlen(source), NULL, NULL);
}

static void start_job(job *j, const char *type, int workers) {
  job_options(j, workers, 2);
  j->type = type;
  j->options.root_uri = "inproc://swap-test";
  j->options.bigarray_bound = 2000;
  j->options.scripts = neap_host_scripts(host);
  job_start(j);
}

static int64_t send(worker *w, const text *t) {
  int64_t version = 0;
  OK(neap_store_send_optimizer(w->store, t->bytes, t->size, &version));
  return version;
}

static void init_keys(worker *w, double value, neap_array **weights) {
  for (int i = 0; i < KEYS; i++) weights[i] = filled(w->context, 2, shapes[i], value);
  OK(neap_store_init(w->store, KEYS, keys, weights));
}

/* ---- Replayed on one store ------------------------------------------------------------------- */

static text kinds[KINDS]; /* sgd with momentum, adam, one of our own, nag */
static float results[KEYS][MOST_SIZE];

static const char OWN[] = "return { name = 'own', state = { 'mom', 'mean' },\n"
                          "  defaults = { learning_rate = 0.05 },\n"
                          "  update = function(w, g, s, p)\n"
                          "    s.mom = 0.5 * s.mom - p.learning_rate * g\n"
                          "    s.mean = 0.9 * s.mean + 0.1 * g * p.t\n"
                          "    return w + s.mom - 0.01 * s.mean end }";

/* Numbers between -1 and 1, others for each worker, key and step. */
static void gradients(neap_context *context, int rank, int step, neap_array **out) {
  for (int k = 0; k < KEYS; k++) {
    float values[MOST_SIZE];
    unsigned seed = (unsigned)(rank * 100003 + step * 10 + k);
    for (int i = 0; i < sizes[k]; i++) {
      seed = seed * 1664525u + 1013904223u;
      values[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
    }
    out[k] = NULL;
    OK(neap_array_create(context, NEAP_FLOAT32, 2, shapes[k], NEAP_CPU, 0, &out[k]));
    OK(neap_array_write(out[k], values, (size_t)sizes[k] * sizeof *values));
  }
}

static void replayed_body(worker *w) {
  neap_array *weights[KEYS], *g[KEYS];
  init_keys(w, 0.5, weights);
  OK(neap_store_barrier(w->store));
  for (int step = 0; step < STEPS; step++) {
    if (w->rank == 0 && step % EVERY == 0) {
      int swap = step / EVERY;
      CHECK(send(w, &kinds[swap % KINDS]) == swap + 1);
    }
    gradients(w->context, w->rank, step, g);
    OK(neap_store_push(w->store, KEYS, keys, NULL, g, 0));
    for (int k = 0; k < KEYS; k++) neap_array_close(g[k]);
    if (step % 2) OK(neap_store_pull(w->store, KEYS, keys, NULL, weights, 0, 1));
  }
  OK(neap_store_barrier(w->store));
  OK(neap_store_pull(w->store, KEYS, keys, NULL, weights, 0, 1));
  for (int k = 0; k < KEYS; k++) {
    if (w->rank == 0) OK(neap_array_read(weights[k], results[k], (size_t)sizes[k] * 4));
    neap_array_close(weights[k]);
  }
}

static opened open_bound(neap_context *context, const text *t) {
  opened o = open_dump(host, context, t->bytes, t->size);
  FINE(o, o.status);
  for (int k = 0; k < KEYS; k++)
    FINE(o, bind_as(&o, &keys[k], NEAP_DENSE, NEAP_FLOAT32, 2, shapes[k]));
  return o;
}

static void replay(int workers, float to[KEYS][MOST_SIZE]) {
  neap_context *context = job_context();
  neap_store *store = NULL;
  neap_array *weights[KEYS], *g[MOST][KEYS], *list[KEYS * MOST];
  int counts[KEYS] = {workers, workers};
  opened is = {0};
  OK(neap_store_create(context, "local", &store));
  for (int k = 0; k < KEYS; k++) weights[k] = filled(context, 2, shapes[k], 0.5);
  OK(neap_store_init(store, KEYS, keys, weights));
  for (int step = 0; step < STEPS; step++) {
    if (step % EVERY == 0) {
      opened next = open_bound(context, &kinds[step / EVERY % KINDS]);
      if (is.optimizer) OK(neap_optimizer_carry_over(is.optimizer, next.optimizer));
      OK(neap_store_set_optimizer(store, next.optimizer));
      if (is.optimizer) close_opened(&is);
      is = next;
    }
    for (int rank = 0; rank < workers; rank++) gradients(context, rank, step, g[rank]);
    for (int k = 0; k < KEYS; k++)
      for (int rank = 0; rank < workers; rank++) list[k * workers + rank] = g[rank][k];
    OK(neap_store_push(store, KEYS, keys, counts, list, 0));
    for (int i = 0; i < KEYS * workers; i++) neap_array_close(list[i]);
  }
  OK(neap_store_pull(store, KEYS, keys, NULL, weights, 0, 1));
  for (int k = 0; k < KEYS; k++) {
    OK(neap_array_read(weights[k], to[k], (size_t)sizes[k] * 4));
    neap_array_close(weights[k]);
  }
  neap_store_close(store);
  close_opened(&is);
  neap_context_close(context);
}

static void test_replay(const char *type, int workers) {
  static float expected[KEYS][MOST_SIZE];
  job j;
  start_job(&j, type, workers);
  job_run(&j, replayed_body);
  job_end(&j);
  replay(workers, expected);
  for (int k = 0; k < KEYS; k++) {
    CHECK(memcmp(results[k], expected[k], (size_t)sizes[k] * 4) == 0);
    CHECK(isfinite(results[k][0]) && results[k][0] != 0.5f);
  }
  printf("%s, %d workers: %d swaps, the bits of one store\n", type, workers, SWAPS);
}

/* ---- Counted --------------------------------------------------------------------------------- */

enum { WARM = 100 };

static atomic_int swapped, stop;

/* Swaps all the while, beside the worker's own pushes. */
static void *swapper(void *arg) {
  worker *w = arg;
  for (int i = 0; i < SWAPS; i++) {
    char source[256];
    snprintf(source, sizeof source,
             "return { name = 'count%d', update = function(w, g) return w + g end }", i);
    text t = dump_of_source(source);
    CHECK(send(w, &t) == i + 2);
    free(t.bytes);
    atomic_fetch_add(&swapped, 1);
  }
  atomic_store(&stop, 1);
  return NULL;
}

/* All workers make as many steps. */
static void counted_body(worker *w) {
  neap_array *weights[KEYS], *ones[KEYS];
  pthread_t thread;
  double most[2] = {0, 0}, sum = 0;
  int steps = 0;
  init_keys(w, 0, weights);
  for (int k = 0; k < KEYS; k++) ones[k] = filled(w->context, 2, shapes[k], w->rank + 1);
  if (w->rank == 0) {
    text t = dump_of_source("return { name = 'count', update = function(w, g) return w + g end }");
    CHECK(send(w, &t) == 1);
    free(t.bytes);
  }
  OK(neap_store_barrier(w->store));
  for (int more = 1; more;) {
    for (int i = 0; i < WARM; i++, steps++) {
      double begin = now();
      OK(neap_store_push(w->store, KEYS, keys, NULL, ones, 0));
      OK(neap_store_pull(w->store, KEYS, keys, NULL, weights, 0, 1));
      for (int k = 0; k < KEYS; k++) OK(neap_array_wait(weights[k]));
      double took = now() - begin;
      int with = steps >= WARM;
      if (took > most[with]) most[with] = took;
      if (!with) sum += took;
    }
    if (w->rank == 0 && steps == WARM) CHECK(!pthread_create(&thread, NULL, swapper, w));
    OK(neap_store_barrier(w->store)); /* all see the same `stop` between two barriers */
    more = !atomic_load(&stop);
    OK(neap_store_barrier(w->store));
    if (w->rank == 0 && !more) pthread_join(thread, NULL);
  }
  OK(neap_store_pull(w->store, KEYS, keys, NULL, weights, 0, 1));
  int workers = neap_store_num_workers(w->store);
  float total = (float)steps * (float)(workers * (workers + 1) / 2);
  for (int k = 0; k < KEYS; k++) {
    CHECK(all_are(weights[k], total));
    neap_array_close(weights[k]);
    neap_array_close(ones[k]);
  }
  if (w->rank == 1) {
    printf("%s: %d swaps during %d steps, sums exact; worker 1's step: %.2f ms on average, at most "
           "%.2f ms without swaps, %.2f ms with\n",
           w->job->type, atomic_load(&swapped), steps, 1e3 * sum / WARM, 1e3 * most[0],
           1e3 * most[1]);
  }
}

static void test_count(const char *type) {
  job j;
  atomic_store(&swapped, 0);
  atomic_store(&stop, 0);
  start_job(&j, type, 2);
  job_run(&j, counted_body);
  job_end(&j);
  CHECK(atomic_load(&swapped) == SWAPS);
}

/* ---- States ---------------------------------------------------------------------------------- */

static neap_array *weights_now[KEYS];

/* Pushes `g` everywhere; all elements of all keys are `value` then. */
static void step_gives(worker *w, double g, double value) {
  neap_array *gs[KEYS];
  for (int k = 0; k < KEYS; k++) gs[k] = filled(w->context, 2, shapes[k], g);
  OK(neap_store_push(w->store, KEYS, keys, NULL, gs, 0));
  OK(neap_store_pull(w->store, KEYS, keys, NULL, weights_now, 0, 1));
  for (int k = 0; k < KEYS; k++) {
    float *data;
    OK(neap_array_data(weights_now[k], (void **)&data));
    for (int i = 0; i < sizes[k]; i++)
      if (fabs((double)data[i] - value) > 1e-6) {
        fprintf(stderr, "element %d of %s is %.9g, not %.9g\n", i, keys[k].text, (double)data[i],
                value);
        exit(1);
      }
    neap_array_close(gs[k]);
  }
}

static int64_t roll_back(worker *w) {
  int64_t version = 0;
  OK(neap_store_rollback_optimizer(w->store, &version));
  return version;
}

static void states_body(worker *w) {
  int64_t version = 0;
  init_keys(w, 0, weights_now);
  CHECK(neap_store_rollback_optimizer(w->store, &version) == NEAP_EINVAL);
  text sgd = dump_of_file("sgd", "{s13:learning_raten0.5;s8:momentumn0.5;}");
  text nag = dump_of_file("nag", "{s13:learning_raten0.5;s8:momentumn0.5;}");
  text adam = dump_of_file("adam", "{s13:learning_raten0.25;}");
  text mean = dump_of_source("return { name = 'mean', state = { 'mean' },\n"
                             "  update = function(w, g, s)\n"
                             "    s.mean = 0.5 * s.mean + g\n"
                             "    return w - 0.5 * s.mean end,\n"
                             "  migrate = function(old, new) new.mean = old.mom / -0.5 end }");
  text sums = dump_of_source("return { name = 'sums', state = { 'mean' },\n"
                             "  update = function(w, g, s) return w - g end,\n"
                             "  migrate = function(old, new) new.mean = sum(old.mom) + 0 * old.mom "
                             "end }");
  CHECK(send(w, &sgd) == 1);
  CHECK(neap_store_rollback_optimizer(w->store, &version) == NEAP_EINVAL);
  step_gives(w, 1, -0.5); /* mom -0.5 */
  CHECK(send(w, &mean) == 2);
  step_gives(w, 0, -0.75); /* mean 1, then 0.5 */
  CHECK(roll_back(w) == 1);
  step_gives(w, 0, -1); /* mom -0.5 as it was left, then -0.25 */
  CHECK(neap_store_rollback_optimizer(w->store, &version) == NEAP_EINVAL);
  CHECK(strstr(neap_error(), "one step back"));
  /* A migration that sums over a key that is split: refused, and nothing changes. */
  CHECK(neap_store_send_optimizer(w->store, sums.bytes, sums.size, &version) == NEAP_ENOTSUP);
  CHECK(strstr(neap_error(), "bigarray_bound"));
  step_gives(w, 0, -1.125);
  /* nag (MXNet's): mom = 0.5 mom - rate g, w += 0.5 mom - rate g; mom was -0.125. */
  CHECK(send(w, &nag) == 3);
  step_gives(w, 0, -1.125 + 0.5 * -0.0625);
  /* adam begins at t = 1, where its step is the rate, whatever the gradient. */
  CHECK(send(w, &adam) == 4);
  step_gives(w, 3, -1.15625 - 0.25);
  CHECK(roll_back(w) == 3);
  step_gives(w, 0, -1.40625 + 0.5 * -0.03125);
  CHECK(send(w, &sgd) == 5); /* versions are not given twice */
  for (int k = 0; k < KEYS; k++) neap_array_close(weights_now[k]);
  text *all[] = {&sgd, &nag, &adam, &mean, &sums};
  for (int i = 0; i < 5; i++) free(all[i]->bytes);
}

static void test_states(const char *type) {
  job j;
  start_job(&j, type, 1);
  job_run(&j, states_body);
  job_end(&j);
  printf("%s: momentum kept, adam afresh, migrated, rolled back\n", type);
}

/* ---- Two at once ----------------------------------------------------------------------------- */

static atomic_int_least64_t versions_sum;

static void both_body(worker *w) {
  enum { TIMES = 10 };
  neap_array *weights[KEYS], *ones[KEYS];
  init_keys(w, 0, weights);
  for (int k = 0; k < KEYS; k++) ones[k] = filled(w->context, 2, shapes[k], 1);
  for (int i = 0; i < TIMES; i++) {
    char source[256];
    snprintf(source, sizeof source,
             "return { name = 'w%d_%d', update = function(w, g) return w + g end }", w->rank, i);
    text t = dump_of_source(source);
    atomic_fetch_add(&versions_sum, send(w, &t));
    free(t.bytes);
    OK(neap_store_push(w->store, KEYS, keys, NULL, ones, 0));
  }
  OK(neap_store_barrier(w->store));
  int64_t n = TIMES * neap_store_num_workers(w->store);
  CHECK(atomic_load(&versions_sum) == n * (n + 1) / 2);
  OK(neap_store_pull(w->store, KEYS, keys, NULL, weights, 0, 1));
  for (int k = 0; k < KEYS; k++) {
    CHECK(all_are(weights[k], (float)n));
    neap_array_close(weights[k]);
    neap_array_close(ones[k]);
  }
}

static void test_both(void) {
  job j;
  atomic_store(&versions_sum, 0);
  start_job(&j, "dist_sync", 3);
  job_run(&j, both_body);
  job_end(&j);
  printf("three workers at once: each version given once\n");
}

/* ---- Half way -------------------------------------------------------------------------------- */

static atomic_int openings;

/* As the host, but the second server that opens this script refuses it. */
static int open_halfway(void *user, neap_context *context, const char *dump, size_t length,
                        void **script, neap_optimizer **optimizer, char *error, size_t size) {
  if (strstr(dump, "halfway") && atomic_fetch_add(&openings, 1) % 2 == 1) {
    snprintf(error, size, "not on this server");
    return NEAP_EINVAL;
  }
  return neap_host_scripts(host)->open(user, context, dump, length, script, optimizer, error, size);
}

static void halfway_body(worker *w) {
  text good = dump_of_source("return { name = 'count', update = function(w, g) return w + g end }");
  text half =
      dump_of_source("return { name = 'halfway', update = function(w, g) return w - g end }");
  int64_t version = 0;
  init_keys(w, 0, weights_now);
  CHECK(send(w, &good) == 1);
  for (int i = 1; i <= 3; i++) {
    CHECK(neap_store_send_optimizer(w->store, half.bytes, half.size, &version) == NEAP_EINVAL);
    CHECK(strstr(neap_error(), "not on this server"));
    step_gives(w, 1, i);
  }
  CHECK(neap_store_rollback_optimizer(w->store, &version) == NEAP_EINVAL);
  CHECK(send(w, &good) == 2);
  step_gives(w, 1, 4);
  /* A text of settings that the script refuses leaves the old ones. */
  CHECK(neap_store_send_settings(w->store, "{s13:learning_rates1:x}", 23) == NEAP_EINVAL);
  step_gives(w, 1, 5);
  for (int k = 0; k < KEYS; k++) neap_array_close(weights_now[k]);
  free(good.bytes);
  free(half.bytes);
}

static void test_halfway(void) {
  job j;
  neap_scripts scripts = *neap_host_scripts(host);
  scripts.open = open_halfway;
  job_options(&j, 1, 2);
  j.options.root_uri = "inproc://swap-test";
  j.options.scripts = &scripts;
  j.options.bigarray_bound = 2000;
  job_start(&j);
  job_run(&j, halfway_body);
  job_end(&j);
  CHECK(atomic_load(&openings) == 6);
}

/* ---- Who may --------------------------------------------------------------------------------- */

static const char *known[2]; /* of the admins' secret, by rank */

static void denied_body(worker *w) {
  neap_array *weights[KEYS], *ones[KEYS];
  text t = dump_of_source("return { name = 'count', update = function(w, g) return w + g end }");
  int64_t version = 0;
  for (int k = 0; k < KEYS; k++) {
    weights[k] = filled(w->context, 2, shapes[k], 0);
    ones[k] = filled(w->context, 2, shapes[k], 1);
  }
  OK(neap_store_init(w->store, KEYS, keys, weights));
  if (w->rank == 0) CHECK(send(w, &t) == 1);
  OK(neap_store_barrier(w->store));
  if (w->rank == 1) {
    CHECK(neap_store_send_optimizer(w->store, t.bytes, t.size, &version) == NEAP_EDENIED);
    CHECK(strstr(neap_error(), "NEAP_ADMIN_SECRET"));
    CHECK(neap_store_rollback_optimizer(w->store, &version) == NEAP_EDENIED);
    CHECK(neap_store_send_settings(w->store, "{}", 2) == NEAP_EDENIED);
  }
  /* Pushing and pulling is everybody's right. */
  OK(neap_store_push(w->store, KEYS, keys, NULL, ones, 0));
  OK(neap_store_pull(w->store, KEYS, keys, NULL, weights, 0, 1));
  for (int k = 0; k < KEYS; k++) {
    CHECK(all_are(weights[k], 2));
    neap_array_close(weights[k]);
    neap_array_close(ones[k]);
  }
  free(t.bytes);
}

static void *denied_run(void *arg) {
  worker *w = arg;
  neap_job_options options = w->job->options;
  options.rank = w->rank;
  options.scripts = NULL;
  options.admin_secret = known[w->rank];
  w->context = job_context();
  OK(neap_store_join(w->context, w->job->type, &options, &w->store));
  denied_body(w);
  worker_leave(w);
  return NULL;
}

static void test_denied(const char *second) {
  job j;
  known[0] = "who may";
  known[1] = second;
  job_options(&j, 2, 2);
  j.options.root_uri = "inproc://swap-test";
  j.options.scripts = neap_host_scripts(host);
  j.options.bigarray_bound = 2000;
  j.options.admin_secret = "who may";
  job_start(&j);
  for (int i = 0; i < 2; i++) {
    j.workers[i] = (worker){.job = &j, .rank = i};
    CHECK(!pthread_create(&j.workers[i].thread, NULL, denied_run, &j.workers[i]));
  }
  for (int i = 0; i < 2; i++) pthread_join(j.workers[i].thread, NULL);
  job_end(&j);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  host = make_host(NULL);
  kinds[0] = dump_of_file("sgd", "{s13:learning_raten0.05;s8:momentumn0.9;}");
  kinds[1] = dump_of_file("adam", NULL);
  kinds[2] = dump_of_source(OWN);
  kinds[3] = dump_of_file("nag", "{s13:learning_raten0.05;s8:momentumn0.9;}");
  test_states("dist_sync");
  test_states("dist_async");
  test_both();
  test_halfway();
  test_denied(NULL);
  test_denied("who may not");
  test_replay("dist_sync", 2);
  test_replay("dist_async", 1);
  test_count("dist_sync");
  test_count("dist_async");
  for (int i = 0; i < KINDS; i++) free(kinds[i].bytes);
  neap_host_close(host);
  return 0;
}
