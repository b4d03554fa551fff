/* SPDX-License-Identifier: MIT */
/* store_bench.c - what a store makes of the machine: the sum of four 16 MB arrays on push, and a
 * pull of 64 MB, against plain C loops cut over as many threads, in turn, in one process.
 *
 * The plain loops are what one would write by hand: `out[i] = a[i] + b[i] + c[i] + d[i]`, and
 * memcpy. Ratios above 1: the store is faster. */
#include "bench.h"
#include "engine/neap.h"
#include <pthread.h>
#include <string.h>

#define OK(call)                                                                                   \
  do {                                                                                             \
    if ((call) != NEAP_OK) {                                                                       \
      fprintf(stderr, "%s: %s\n", #call, neap_error());                                            \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

enum { MB = 1 << 20, ROUNDS = 15, ARRAYS = 4, MOST_THREADS = 64 };

/* ---- Plain loops: threads that wait for a round, do their share, and say so ------------------ */

typedef struct plain {
  pthread_barrier_t begin, end;
  int threads;
  int what; /* 0: stop, 1: sum, 2: copy */
  float *out, *in[ARRAYS];
  size_t count; /* floats */
} plain;

typedef struct plain_thread {
  plain *p;
  int number;
} plain_thread;

static void sum(float *restrict out, const float *a, const float *b, const float *c, const float *d,
                size_t count) {
  for (size_t i = 0; i < count; i++) out[i] = a[i] + b[i] + c[i] + d[i];
}

static void *plain_main(void *arg) {
  plain_thread *t = arg;
  plain *p = t->p;
  for (;;) {
    pthread_barrier_wait(&p->begin);
    if (p->what == 0) return NULL;
    size_t from = p->count * (size_t)t->number / (size_t)p->threads;
    size_t to = p->count * ((size_t)t->number + 1) / (size_t)p->threads;
    if (p->what == 1)
      sum(p->out + from, p->in[0] + from, p->in[1] + from, p->in[2] + from, p->in[3] + from,
          to - from);
    else
      memcpy(p->out + from, p->in[0] + from, (to - from) * sizeof(float));
    pthread_barrier_wait(&p->end);
  }
}

static double plain_round(plain *p, int what) {
  double start = bench_now();
  p->what = what;
  pthread_barrier_wait(&p->begin);
  if (what) pthread_barrier_wait(&p->end);
  return bench_now() - start;
}

/* ---- The store --------------------------------------------------------------------------------
 */

static neap_array *make(neap_context *context, size_t bytes, double value) {
  int64_t shape = (int64_t)(bytes / sizeof(float));
  neap_array *array = NULL;
  OK(neap_array_create(context, NEAP_FLOAT32, 1, &shape, NEAP_CPU, 0, &array));
  OK(neap_array_fill(array, value));
  return array;
}

static float *data_of(neap_array *array) {
  void *data = NULL;
  OK(neap_array_data(array, &data));
  return data;
}

int main(void) {
  neap_context *context = NULL;
  OK(neap_context_create(NULL, &context));
  /* The thread that waits works too. */
  int threads = (int)neap_counter(context, NEAP_COUNT_THREADS) + 1;
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  neap_store *store = NULL;
  OK(neap_store_create(context, "device", &store));
  neap_key keys[] = {{.number = 1}, {.number = 2}};
  neap_array *grads[ARRAYS], *big = make(context, 64 * (size_t)MB, 1);
  neap_array *out = make(context, 64 * (size_t)MB, 0), *value = NULL;
  for (int i = 0; i < ARRAYS; i++) grads[i] = make(context, 16 * (size_t)MB, i + 1);
  neap_array *first[] = {grads[0], big};
  OK(neap_store_init(store, 2, keys, first));
  OK(neap_store_value(store, &keys[0], &value));
  OK(neap_wait_all(context));

  plain p = {.threads = threads};
  plain_thread arg[MOST_THREADS];
  pthread_t ids[MOST_THREADS];
  pthread_barrier_init(&p.begin, NULL, (unsigned)threads + 1);
  pthread_barrier_init(&p.end, NULL, (unsigned)threads + 1);
  for (int i = 0; i < threads; i++) {
    arg[i] = (plain_thread){&p, i};
    if (pthread_create(&ids[i], NULL, plain_main, &arg[i])) return 1;
  }
  neap_array *plain_out = make(context, 64 * (size_t)MB, 0);
  p.out = data_of(plain_out);

  bench push = {.name = "push of four 16 MB arrays"}, plain_push = {.name = "the same, plain loop"};
  bench pull = {.name = "pull of 64 MB"}, plain_pull = {.name = "the same, memcpy"};
  int four = ARRAYS;
  for (int round = 0; round < ROUNDS; round++) {
    double start = bench_now();
    OK(neap_store_push(store, 1, &keys[0], &four, grads, 0));
    OK(neap_array_wait(value));
    bench_add(&push, bench_now() - start);
    for (int i = 0; i < ARRAYS; i++) p.in[i] = data_of(grads[i]);
    p.count = 4 * (size_t)MB;
    bench_add(&plain_push, plain_round(&p, 1));

    start = bench_now();
    OK(neap_store_pull(store, 1, &keys[1], NULL, &out, 0, 1));
    OK(neap_array_wait(out));
    bench_add(&pull, bench_now() - start);
    p.in[0] = data_of(big);
    p.count = 16 * (size_t)MB;
    bench_add(&plain_pull, plain_round(&p, 2));
  }
  if (data_of(value)[0] != 10 || data_of(out)[0] != 1) {
    fprintf(stderr, "wrong results\n");
    return 1;
  }
  plain_round(&p, 0);
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);

  printf("on %d threads; milliseconds, and how many times as fast the store is, by round:\n",
         threads);
  bench *all_four[] = {&push, &plain_push, &pull, &plain_pull};
  for (int i = 0; i < 4; i++) bench_print(all_four[i], 1e3);
  bench_ratio("push against plain loop", &plain_push, &push);
  bench_ratio("pull against memcpy", &plain_pull, &pull);
  neap_array *all[] = {big, out, value, plain_out, grads[0], grads[1], grads[2], grads[3]};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) neap_array_close(all[i]);
  neap_store_close(store);
  neap_context_close(context);
  return 0;
}
