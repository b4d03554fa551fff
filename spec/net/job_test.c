/* SPDX-License-Identifier: MIT */
/* Jobs over real sockets: values go to servers and come back, rounds count each worker once. */
#include "job.h"
#include <unistd.h>

enum { ROUNDS = 5 };

static const int64_t small_shape[2] = {2, 3}, large_shape[2] = {1211, 1211};

static void push_and_pull(worker *w) {
  neap_key keys[2] = {{.number = 3}, {.number = 99}};
  const int64_t *shapes[2] = {small_shape, large_shape};
  int workers = w->job->options.num_workers, sum = workers * (workers + 1) / 2;
  neap_array *values[2], *outs[2];
  for (int i = 0; i < 2; i++) {
    values[i] = filled(w->context, 2, shapes[i], w->rank == 0 ? 7 : -1); /* rank 0's counts */
    outs[i] = filled(w->context, 2, shapes[i], 0);
  }
  OK(neap_store_init(w->store, 2, keys, values));
  OK(neap_store_pull(w->store, 2, keys, NULL, outs, 0, 1));
  for (int i = 0; i < 2; i++) CHECK(all_are(outs[i], 7));
  for (int round = 1; round <= ROUNDS; round++) {
    for (int i = 0; i < 2; i++) OK(neap_array_fill(values[i], round * (w->rank + 1)));
    OK(neap_store_push(w->store, 2, keys, NULL, values, 0));
    OK(neap_store_pull(w->store, 2, keys, NULL, outs, 0, 1));
    for (int i = 0; i < 2; i++) OK(neap_array_fill(values[i], -100)); /* free at once */
    for (int i = 0; i < 2; i++) CHECK(all_are(outs[i], (float)(round * sum)));
  }
  OK(neap_store_barrier(w->store));
  for (int i = 0; i < 2; i++) {
    neap_array_close(values[i]);
    neap_array_close(outs[i]);
  }
}

/* The number of elements beyond which keys are split is small here, so that all servers work. */
static void with(int workers, int servers, const char *root) {
  job j;
  job_options(&j, workers, servers);
  j.options.root_uri = root;
  j.options.bigarray_bound = 1000;
  job_start(&j);
  job_run(&j, push_and_pull);
  job_end(&j);
}

int main(void) {
  with(1, 1, "tcp://127.0.0.1:0");
  with(2, 1, "tcp://127.0.0.1:0");
  with(4, 3, "tcp://127.0.0.1:0");
  char path[64]; /* other builds' tests run beside this one */
  snprintf(path, sizeof path, "ipc:///tmp/neap-job-test-%ld", (long)getpid());
  with(2, 2, path);
  with(2, 2, "inproc://job-test");
  return 0;
}
