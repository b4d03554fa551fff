/* SPDX-License-Identifier: MIT */
/* Optimizers on servers against the same on one store of one process: the same bits where no sum
 * goes over a key that is split, 1e-6 where one does; out of step, too. */
#include "spec/host/host.h"
#include "spec/net/job.h"
#include <math.h>

enum { ROWS = 50, COLUMNS = 61, SIZE = ROWS * COLUMNS, STEPS = 25 };

static const int64_t shape[2] = {ROWS, COLUMNS};
static const neap_key key = {.text = "layer.weight", .length = 12};

static neap_host *host;
static text dump;
static int steps_alike; /* all gradients the same, so that the order of pushes does not matter */
static float result[SIZE];

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

/* Numbers between -1 and 1, others for each worker and step. */
static neap_array *gradient(neap_context *context, int rank, int step) {
  static float values[MOST][SIZE];
  unsigned seed = steps_alike ? 7 : (unsigned)(rank * 1000 + step * 10 + 7);
  for (int i = 0; i < SIZE; i++) {
    seed = seed * 1664525u + 1013904223u;
    values[rank][i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
  }
  neap_array *array = NULL;
  OK(neap_array_create(context, NEAP_FLOAT32, 2, shape, NEAP_CPU, 0, &array));
  OK(neap_array_write(array, values[rank], sizeof values[rank]));
  return array;
}

static void body(worker *w) {
  neap_array *weight = filled(w->context, 2, shape, 0.5);
  OK(neap_store_init(w->store, 1, &key, &weight));
  if (w->rank == 0) {
    int64_t version = 0;
    OK(neap_store_send_optimizer(w->store, dump.bytes, dump.size, &version));
    CHECK(version == 1);
  }
  OK(neap_store_barrier(w->store));
  for (int step = 0; step < STEPS; step++) {
    neap_array *g = gradient(w->context, w->rank, step);
    OK(neap_store_push(w->store, 1, &key, NULL, &g, 0));
    OK(neap_store_pull(w->store, 1, &key, NULL, &weight, 0, 1));
    neap_array_close(g);
  }
  OK(neap_store_barrier(w->store));
  OK(neap_store_pull(w->store, 1, &key, NULL, &weight, 0, 1));
  if (w->rank == 0) OK(neap_array_read(weight, result, sizeof result));
  neap_array_close(weight);
}

static void on_servers(const char *type, int workers, int servers, int64_t bound) {
  job j;
  job_options(&j, workers, servers);
  j.type = type;
  j.options.bigarray_bound = bound;
  j.options.scripts = neap_host_scripts(host);
  job_start(&j);
  job_run(&j, body);
  job_end(&j);
}

/* The same on a local store: in step a push is of all workers' gradients, else of one. */
static void on_one(int workers, int in_step, float *to) {
  neap_context *context = job_context();
  neap_store *store = NULL;
  opened o = open_dump(host, context, dump.bytes, dump.size);
  CHECK(o.status == NEAP_OK);
  neap_array *weight = filled(context, 2, shape, 0.5);
  OK(neap_store_create(context, "local", &store));
  OK(neap_store_init(store, 1, &key, &weight));
  CHECK(o.table->bind(o.table->user, o.script, &key, neap_array_get_info(weight), NEAP_DENSE,
                      o.error, sizeof o.error) == NEAP_OK);
  OK(neap_store_set_optimizer(store, o.optimizer));
  for (int step = 0; step < STEPS; step++) {
    neap_array *g[MOST];
    for (int rank = 0; rank < workers; rank++) g[rank] = gradient(context, rank, step);
    if (in_step)
      OK(neap_store_push(store, 1, &key, &workers, g, 0));
    else
      for (int rank = 0; rank < workers; rank++)
        OK(neap_store_push(store, 1, &key, NULL, &g[rank], 0));
    for (int rank = 0; rank < workers; rank++) neap_array_close(g[rank]);
  }
  OK(neap_store_pull(store, 1, &key, NULL, &weight, 0, 1));
  OK(neap_array_read(weight, to, SIZE * sizeof *to));
  neap_array_close(weight);
  neap_store_close(store);
  o.table->close(o.table->user, o.script);
  neap_optimizer_close(o.optimizer);
  neap_context_close(context);
}

static double distance(const float *a, const float *b) {
  double most = 0;
  for (int i = 0; i < SIZE; i++) {
    double d = fabs((double)a[i] - b[i]) / fmax(1e-3, fabs((double)b[i]));
    if (!(d <= most)) most = d;
  }
  return most;
}

static void check(const char *name, const char *settings, const char *type, int workers,
                  double within) {
  static float expected[SIZE];
  int in_step = strcmp(type, "dist_sync") == 0;
  steps_alike = !in_step;
  dump = dump_of_file(name, settings);
  on_one(workers, in_step, expected);
  on_servers(type, workers, 3, 1000);
  double split = distance(result, expected);
  on_servers(type, workers, 2, 1000000);
  double whole = distance(result, expected);
  printf("%-6s %-10s %d workers: %g whole, %g split over 3 servers\n", name, type, workers, whole,
         split);
  CHECK(whole == 0);
  CHECK(split <= within);
  CHECK(result[0] != 0.5f);
  free(dump.bytes);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  char error[512];
  if (neap_host_create(NULL, &host, error, sizeof error) != NEAP_OK) {
    fprintf(stderr, "%s\n", error);
    return 1;
  }
  check("adam", NULL, "dist_sync", 2, 0);
  check("adam", NULL, "dist_sync", 4, 0);
  check("lamb", NULL, "dist_sync", 2, 1e-6);
  check("lars", NULL, "dist_sync", 2, 1e-6);
  check("lans", NULL, "dist_sync", 3, 1e-6);
  check("adam", NULL, "dist_async", 2, 0);
  check("lamb", NULL, "dist_async", 2, 1e-6);
  neap_host_close(host);
  return 0;
}
