/* SPDX-License-Identifier: MIT */
/* mistakes_test.c - whatever a worker does wrong is told to that worker, with the reason, and
 * changes nothing: servers and the other workers go on. */
#include "adding.h"
#include "job.h"

#define FAILS(call, status, words)                                                                 \
  do {                                                                                             \
    int got_ = (call);                                                                             \
    if (got_ != (status) || !strstr(neap_error(), words)) {                                        \
      fprintf(stderr, "%s:%d: %s: gave %s, '%s'; wanted %s with '%s'\n", __FILE__, __LINE__,       \
              #call, neap_status_name(got_), neap_error(), neap_status_name(status), words);       \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

enum { WORKERS = 2, ROWS = 40, WIDTH = 50 };

static const int64_t shape[2] = {ROWS, WIDTH};
static const neap_key good = {"good", 4, 0}, rows = {"rows", 4, 0}, none = {"none", 4, 0},
                      gone = {"gone", 4, 0}, other = {"other", 5, 0};

static int push(worker *w, const neap_key *key, neap_array *array) {
  return neap_store_push(w->store, 1, key, NULL, &array, 0);
}
static int pull(worker *w, const neap_key *key, neap_array *array) {
  int status = neap_store_pull(w->store, 1, key, NULL, &array, 0, 1);
  return status == NEAP_OK ? neap_array_wait(array) : status;
}

/* A round with everybody. */
static void round_of(worker *w, float value) {
  neap_array *array = filled(w->context, 2, shape, value), *out = filled(w->context, 2, shape, 0);
  OK(push(w, &good, array));
  OK(pull(w, &good, out));
  CHECK(all_are(out, WORKERS * value));
  neap_array_close(array);
  neap_array_close(out);
}

static void arguments_are_checked(worker *w) {
  const int64_t turned[2] = {WIDTH, ROWS};
  neap_array *array = filled(w->context, 2, shape, 1), *wrong = filled(w->context, 2, turned, 1),
             *whole = NULL, *sparse = NULL;
  OK(neap_array_create(w->context, NEAP_INT32, 2, shape, NEAP_CPU, 0, &whole));
  OK(neap_sparse_create(w->context, NEAP_FLOAT32, 2, turned, NEAP_CPU, 0, &sparse));
  FAILS(push(w, &none, array), NEAP_EKEY, "key 'none'");
  FAILS(pull(w, &none, array), NEAP_EKEY, "key 'none'");
  FAILS(neap_store_delete(w->store, &none), NEAP_EKEY, "key 'none'");
  FAILS(push(w, &good, wrong), NEAP_ESHAPE, "(50,40)");
  FAILS(pull(w, &good, wrong), NEAP_ESHAPE, "(40,50)");
  FAILS(push(w, &good, whole), NEAP_EDTYPE, "int32");
  FAILS(push(w, &good, sparse), NEAP_ESHAPE, "(50,40)");
  FAILS(push(w, &rows, array), NEAP_ESTYPE, "key 'rows'");
  FAILS(neap_store_pull_rows(w->store, 1, &good, NULL, &array, &whole, 0), NEAP_ESTYPE, "good");
  FAILS(neap_store_init(w->store, 1, &good, &array), NEAP_EEXIST, "key 'good'");
  neap_key number = {NULL, 0, 7};
  FAILS(neap_store_init(w->store, 1, &number, &array), NEAP_EINVAL, "inconsistent types of keys");
  const neap_key mixed[2] = {good, number};
  neap_array *two[2] = {array, array};
  FAILS(neap_store_push(w->store, 2, mixed, NULL, two, 0), NEAP_EINVAL,
        "inconsistent types of keys");
  FAILS(neap_store_set_compression(w->store, "3bit", 1), NEAP_EINVAL, "2bit");
  neap_array_close(array);
  neap_array_close(wrong);
  neap_array_close(whole);
  neap_array_close(sparse);
}

/* Rank 0 has another shape than the others, who may then do it right. */
static void shapes_must_agree(worker *w) {
  const int64_t other_shape[2] = {ROWS, 3};
  neap_array *array = filled(w->context, 2, shape, 5),
             *wrong = filled(w->context, 2, other_shape, 5);
  if (w->rank == 0) {
    OK(neap_store_init(w->store, 1, &other, &array));
  } else {
    FAILS(neap_store_init(w->store, 1, &other, &wrong), NEAP_ESHAPE, "(40,3)");
    CHECK(strstr(neap_error(), "(40,50)") && strstr(neap_error(), "key 'other'"));
    CHECK(!neap_store_contains(w->store, &other));
    OK(neap_store_init(w->store, 1, &other, &array));
    OK(pull(w, &other, array));
    CHECK(all_are(array, 5));
  }
  neap_array_close(array);
  neap_array_close(wrong);
}

static void what_is_deleted_is_gone(worker *w) {
  neap_array *array = filled(w->context, 2, shape, 2);
  OK(neap_store_init(w->store, 1, &gone, &array));
  OK(neap_store_barrier(w->store));
  if (w->rank == 0) OK(neap_store_delete(w->store, &gone));
  OK(neap_store_barrier(w->store));
  if (w->rank == 1) {
    FAILS(pull(w, &gone, array), NEAP_EKEY, "key 'gone' is not on the server any more");
    OK(push(w, &gone, array)); /* is told late, once */
    FAILS(neap_store_barrier(w->store), NEAP_EKEY, "key 'gone' is not on the server any more");
    OK(neap_store_delete(w->store, &gone));
  }
  OK(neap_store_barrier(w->store));
  OK(neap_store_init(w->store, 1, &gone, &array));
  OK(pull(w, &gone, array));
  neap_array_close(array);
}

static void optimizers_may_be_refused(worker *w) {
  int64_t version = -1;
  static char text[3001] = "bad";
  const char *answers[MOST];
  size_t sizes[MOST];
  memset(text + 3, 'x', sizeof text - 4);
  memcpy(text + sizeof text - 8, "the end", 7);
  FAILS(neap_store_send_optimizer(w->store, text, strlen(text), &version), NEAP_EINVAL, "xxxx");
  FAILS(neap_store_send_optimizer(w->store, "badly written, line 7", 21, &version), NEAP_EINVAL,
        "ly written, line 7");
  FAILS(neap_store_send_optimizer(w->store, "unbindable", 10, &version), NEAP_EINVAL,
        "it fits no key");
  FAILS(neap_store_send_settings(w->store, "x", 1), NEAP_EINVAL, "set_optimizer first");
  FAILS(neap_store_command(w->store, 1, "x", 1, answers, sizes), NEAP_ENOTSUP, "no controller");
  const char *dump;
  size_t size;
  OK(neap_store_get_optimizer(w->store, &dump, &size, &version));
  CHECK(version == 0 && size == 0);
}

static void make_mistakes(worker *w) {
  neap_array *array = filled(w->context, 2, shape, 0), *sparse = NULL;
  OK(neap_sparse_create(w->context, NEAP_FLOAT32, 2, shape, NEAP_CPU, 0, &sparse));
  neap_key keys[2] = {good, rows};
  neap_array *values[2] = {array, sparse};
  OK(neap_store_init(w->store, 2, keys, values));
  round_of(w, 1);
  if (w->rank == 1) arguments_are_checked(w);
  round_of(w, 2);
  shapes_must_agree(w);
  round_of(w, 3);
  what_is_deleted_is_gone(w);
  round_of(w, 4);
  if (w->rank == 1) optimizers_may_be_refused(w);
  round_of(w, 5);
  OK(neap_store_barrier(w->store));
  neap_array_close(array);
  neap_array_close(sparse);
}

static void async_needs_an_optimizer(worker *w) {
  neap_array *array = filled(w->context, 2, shape, 1);
  int64_t version;
  OK(neap_store_init(w->store, 1, &good, &array));
  FAILS(push(w, &good, array), NEAP_EINVAL, "call set_optimizer first");
  OK(neap_store_barrier(w->store));
  if (w->rank == 0) OK(neap_store_send_optimizer(w->store, "add", 3, &version));
  OK(neap_store_barrier(w->store));
  neap_array *out = filled(w->context, 2, shape, 0);
  OK(pull(w, &good, out));
  CHECK(all_are(out, 1));
  OK(neap_store_barrier(w->store));
  OK(push(w, &good, array));
  OK(neap_store_barrier(w->store));
  OK(pull(w, &good, out));
  CHECK(all_are(out, 3));
  neap_array_close(out);
  neap_array_close(array);
}

/* ---- Jobs that do not fit together ------------------------------------------------------------
 */

static void options_must_agree(worker *w) {
  OK(neap_store_barrier(w->store));
  if (w->rank == 1) return;
  /* As a third worker would. */
  neap_job_options options = w->job->options;
  options.scripts = NULL;
  neap_context *context = job_context();
  neap_store *store = NULL;
  options.num_workers = 5;
  options.rank = 4;
  FAILS(neap_store_join(context, "dist_sync", &options, &store), NEAP_EINVAL,
        "expects 5 workers and 2 servers; this job has 2 and 2");
  options.num_workers = 2;
  options.rank = 7;
  FAILS(neap_store_join(context, "dist_sync", &options, &store), NEAP_EINVAL, "rank 7");
  options.rank = -1;
  options.on_worker_lost = NEAP_LOST_CONTINUE;
  FAILS(neap_store_join(context, "dist_sync", &options, &store), NEAP_EINVAL, "on_worker_lost");
  options.on_worker_lost = NEAP_LOST_FAIL;
  options.root_uri = "ftp://127.0.0.1:1";
  FAILS(neap_store_join(context, "dist_sync", &options, &store), NEAP_EINVAL, "ftp://");
  options.root_uri = "tcp://127.0.0.1:1"; /* nobody listens there */
  options.timeout = 0.5;
  FAILS(neap_store_join(context, "dist_sync", &options, &store), NEAP_ELOST, "cannot be reached");
  CHECK(store == NULL);
  neap_context_close(context);
}

static void stores_must_agree(worker *w) {
  neap_array *array = filled(w->context, 2, shape, 1);
  if (w->rank == 0) OK(neap_store_init(w->store, 1, &good, &array));
  OK(neap_store_barrier(w->store));
  if (w->rank == 1)
    FAILS(neap_store_init(w->store, 1, &good, &array), NEAP_EINVAL, "dist_async where others");
  OK(neap_store_barrier(w->store));
  neap_array_close(array);
}

static void *join_as(void *arg) {
  worker *w = arg;
  w->context = job_context();
  neap_job_options options = w->job->options;
  options.rank = w->rank;
  options.scripts = NULL;
  OK(neap_store_join(w->context, w->rank ? "dist_async" : "dist_sync", &options, &w->store));
  stores_must_agree(w);
  worker_leave(w);
  return NULL;
}

static void of_two_types(void) {
  job j;
  job_options(&j, 2, 1);
  job_start(&j);
  for (int i = 0; i < 2; i++) {
    j.workers[i].job = &j;
    j.workers[i].rank = i;
    CHECK(pthread_create(&j.workers[i].thread, NULL, join_as, &j.workers[i]) == 0);
  }
  for (int i = 0; i < 2; i++) pthread_join(j.workers[i].thread, NULL);
  job_end(&j);
}

/* A roster of thousands is a large message. */
static void thousands_of_workers(void) {
  job j;
  job_options(&j, 4000, 2);
  job_start(&j);
  j.workers[0].job = &j;
  worker_join(&j.workers[0]);
  neap_array *array = filled(j.workers[0].context, 2, shape, 1);
  OK(neap_store_init(j.workers[0].store, 1, &good, &array));
  neap_array_close(array);
  worker_leave(&j.workers[0]);
  for (int i = 0; i < 2; i++) neap_server_close(j.servers[i]);
  neap_scheduler_close(j.scheduler);
  for (int i = 0; i <= 2; i++) neap_context_close(j.contexts[i]);
}

static void with(const char *type, const neap_scripts *scripts, void (*body)(worker *)) {
  job j;
  job_options(&j, WORKERS, 2);
  j.type = type;
  j.options.bigarray_bound = 500;
  j.options.scripts = scripts;
  job_start(&j);
  job_run(&j, body);
  job_end(&j);
}

static void servers_may_run_no_scripts(worker *w) {
  int64_t version;
  FAILS(neap_store_send_optimizer(w->store, "add", 3, &version), NEAP_ENOTSUP, "runs no scripts");
  OK(neap_store_barrier(w->store));
}

int main(void) {
  with("dist_sync", &adding_scripts, make_mistakes);
  with("dist_async", &adding_scripts, async_needs_an_optimizer);
  with("dist_sync", NULL, servers_may_run_no_scripts);
  with("dist_sync", NULL, options_must_agree);
  of_two_types();
  thousands_of_workers();
  return 0;
}
