/* SPDX-License-Identifier: MIT */
/* array_bench.c - arrays against plain C loops on the same threads, and what small calls cost.
 *
 * Large arrays are bound by memory, so the fair rival is a loop cut over as many threads, on
 * memory touched before, and alternating with Neap's in every round. Products are compared with
 * BLAS called directly for each half of the rows. A ratio is of speeds, of medians: 1 is as fast
 * as the rival. */
#include "kernels/kernel.h"
#include "spec/bench/bench.h"
#include "spec/check.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

enum { ROUNDS = 15, THREADS = 2, SMALL = 20000 };

/* ---- The rival: a second thread that runs its half of a loop --------------------------------- */

typedef struct job {
  void (*run)(const struct job *job, int64_t begin, int64_t end);
  int64_t size;
  const float *in[4];
  float *out;
  int m, n, k;
} job;

static const job *current;
static sem_t asked; /* a round is about to start: the thread sleeps while it is Neap's turn */
static atomic_int turn, ready, finished;

static void half(const job *j, int part) {
  j->run(j, part * j->size / THREADS, (part + 1) * j->size / THREADS);
}

static void *second(void *arg) {
  (void)arg;
  for (int next = 1;; next++) {
    while (sem_wait(&asked)) {
    }
    atomic_store(&ready, next);
    while (atomic_load(&turn) != next) {
    }
    if (!current) return NULL;
    half(current, 1);
    atomic_store(&finished, next);
  }
}

/* The thread is awake before the clock starts. */
static double by_loop(const job *j) {
  int now = atomic_load(&turn) + 1;
  current = j;
  sem_post(&asked);
  while (atomic_load(&ready) != now) {
  }
  double start = bench_now();
  atomic_store(&turn, now);
  if (!j) return 0; /* the end */
  half(j, 0);
  while (atomic_load(&finished) != now) {
  }
  return bench_now() - start;
}

#define LOOP __attribute__((optimize("O3"), noinline)) static

LOOP void add_loop(const job *j, int64_t begin, int64_t end) {
  const float *a = j->in[0], *b = j->in[1], *c = j->in[2], *d = j->in[3];
  float *restrict out = j->out;
  for (int64_t i = begin; i < end; i++) out[i] = a[i] + b[i] + c[i] + d[i];
}

LOOP void copy_loop(const job *j, int64_t begin, int64_t end) {
  const float *a = j->in[0];
  float *restrict out = j->out;
  for (int64_t i = begin; i < end; i++) out[i] = a[i];
}

static void gemm_rows(const job *j, int64_t begin, int64_t end) {
  neap_k_cpu(NULL)->gemm(NEAP_K_F32, 0, 0, end - begin, j->n, j->k, 1, j->in[0] + begin * j->k,
                         j->k, j->in[1], j->n, 0, j->out + begin * j->n, j->n);
}

/* ---- Neap ------------------------------------------------------------------------------------ */

static neap_context *c;

static neap_array *array(int ndim, const int64_t *shape) {
  neap_array *a = NULL;
  OK(neap_array_create(c, NEAP_FLOAT32, ndim, shape, NEAP_CPU, 0, &a));
  OK(neap_array_uniform(a, 0, 1));
  OK(neap_array_wait(a));
  return a;
}

static float *data(neap_array *a) {
  void *p;
  OK(neap_array_data(a, &p));
  return p;
}

static void large(void) {
  bench add = {.name = "Neap, add_n of four 16 MB"}, add_c = {.name = "C loop"},
        copy = {.name = "Neap, copy of 64 MB"}, copy_c = {.name = "C loop"};
  int64_t four = 4 << 20, sixteen = 16 << 20;
  neap_array *in[4], *sum = array(1, &four), *from = array(1, &sixteen), *to = array(1, &sixteen);
  job add_job = {.run = add_loop, .size = four, .out = data(sum)};
  job copy_job = {.run = copy_loop, .size = sixteen, .in = {data(from)}, .out = data(to)};
  for (int i = 0; i < 4; i++) {
    in[i] = array(1, &four);
    add_job.in[i] = data(in[i]);
  }
  for (int round = 0; round <= ROUNDS; round++) {
    double start = bench_now();
    OK(neap_add_n(4, in, &sum));
    OK(neap_array_wait(sum));
    double t = bench_now() - start;
    double t_c = by_loop(&add_job);
    start = bench_now();
    OK(neap_array_copy(from, to));
    OK(neap_array_wait(to));
    double u = bench_now() - start;
    double u_c = by_loop(&copy_job);
    if (round == 0) continue;
    bench_add(&add, t);
    bench_add(&add_c, t_c);
    bench_add(&copy, u);
    bench_add(&copy_c, u_c);
  }
  printf("milliseconds on %d threads\n", THREADS);
  bench_print(&add, 1e3);
  bench_print(&add_c, 1e3);
  bench_ratio("  speed against the loop (at least 0.9 is wanted)", &add_c, &add);
  bench_print(&copy, 1e3);
  bench_print(&copy_c, 1e3);
  bench_ratio("  speed against the loop (at least 0.9 is wanted)", &copy_c, &copy);
  for (int i = 0; i < 4; i++) neap_array_close(in[i]);
  neap_array_close(sum);
  neap_array_close(from);
  neap_array_close(to);
}

/* Products as they occur in training a perceptron: forward, weights' and inputs' gradients. */
static void products(void) {
  static const int sizes[][3] = {
      {128, 784, 256}, {784, 128, 256}, {128, 256, 784}, {512, 512, 512}};
  printf("\nmicroseconds for a product (m,k) x (k,n) on %d threads\n", THREADS);
  for (int s = 0; s < 4; s++) {
    int64_t m = sizes[s][0], k = sizes[s][1], n = sizes[s][2];
    neap_array *a = array(2, (int64_t[]){m, k}), *b = array(2, (int64_t[]){k, n}),
               *out = array(2, (int64_t[]){m, n});
    job rival = {.run = gemm_rows,
                 .size = m,
                 .in = {data(a), data(b)},
                 .out = data(out),
                 .m = (int)m,
                 .n = (int)n,
                 .k = (int)k};
    char name[64];
    snprintf(name, sizeof name, "Neap, (%d,%d) x (%d,%d)", (int)m, (int)k, (int)k, (int)n);
    bench neap = {.name = name}, blas = {.name = "BLAS, half of the rows each"};
    for (int round = 0; round <= ROUNDS; round++) {
      double start = bench_now();
      OK(neap_dot(a, b, 0, 0, &out));
      OK(neap_array_wait(out));
      double t = bench_now() - start, t_c = by_loop(&rival);
      if (round == 0) continue;
      bench_add(&neap, t);
      bench_add(&blas, t_c);
    }
    bench_print(&neap, 1e6);
    bench_print(&blas, 1e6);
    bench_ratio("  speed against BLAS", &blas, &neap);
    neap_array_close(a);
    neap_array_close(b);
    neap_array_close(out);
  }
}

/* Calls on arrays of 16 floats, in nanoseconds. */
static void small(void) {
  int64_t shape = 16;
  neap_array *a = array(1, &shape), *b = array(1, &shape);
  float values[16];
  int add = neap_op_find("add");
  bench in_place = {.name = "add_, in place"}, fresh = {.name = "add, a new array, closed"},
        copy = {.name = "copy"}, write = {.name = "write"}, read = {.name = "read"},
        make = {.name = "create and close"}, floor_malloc = {.name = "malloc and free"};
  for (int round = 0; round <= ROUNDS; round++) {
    double t[8];
    t[0] = bench_now();
    for (int i = 0; i < SMALL; i++) OK(neap_map(add, (neap_array *[]){a, b}, NULL, &a));
    t[1] = bench_now();
    for (int i = 0; i < SMALL; i++) {
      neap_array *out = NULL;
      OK(neap_map(add, (neap_array *[]){a, b}, NULL, &out));
      neap_array_close(out);
    }
    t[2] = bench_now();
    for (int i = 0; i < SMALL; i++) OK(neap_array_copy(b, a));
    t[3] = bench_now();
    for (int i = 0; i < SMALL; i++) OK(neap_array_write(a, values, sizeof values));
    t[4] = bench_now();
    for (int i = 0; i < SMALL; i++) OK(neap_array_read(b, values, sizeof values));
    t[5] = bench_now();
    for (int i = 0; i < SMALL; i++) {
      neap_array *out = NULL;
      OK(neap_array_create(c, NEAP_FLOAT32, 1, &shape, NEAP_CPU, 0, &out));
      neap_array_close(out);
    }
    t[6] = bench_now();
    for (int i = 0; i < SMALL; i++) {
      void *volatile block = malloc(64);
      free(block);
    }
    t[7] = bench_now();
    if (round == 0) continue;
    bench *const all[] = {&in_place, &fresh, &copy, &write, &read, &make, &floor_malloc};
    for (int i = 0; i < 7; i++) bench_add(all[i], (t[i + 1] - t[i]) / SMALL);
  }
  printf("\nnanoseconds for a call on 16 floats\n");
  bench_print(&in_place, 1e9);
  bench_print(&fresh, 1e9);
  bench_print(&copy, 1e9);
  bench_print(&write, 1e9);
  bench_print(&read, 1e9);
  bench_print(&make, 1e9);
  bench_print(&floor_malloc, 1e9);
  bench_ratio("  create and close / malloc and free", &make, &floor_malloc);
  neap_array_close(a);
  neap_array_close(b);
}

int main(void) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.num_threads = THREADS - 1; /* and the one that waits, and works meanwhile */
  OK(neap_context_create(&options, &c));
  pthread_t thread;
  CHECK(!sem_init(&asked, 0, 0) && !pthread_create(&thread, NULL, second, NULL));
  large();
  products();
  by_loop(NULL);
  CHECK(!pthread_join(thread, NULL));
  small();
  neap_context_close(c);
  return 0;
}
