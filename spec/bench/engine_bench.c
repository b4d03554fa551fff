/* SPDX-License-Identifier: MIT */
/* engine_bench.c - what the engine costs for an operation that does nothing.
 *
 * Against GCC's `#pragma omp task depend` doing the same on as many threads, and against the
 * floor: one malloc and free, and one hand-over of a cache line to another core. The rounds are
 * interleaved; a figure is the median of its rounds, with the least and the most. */
#include "spec/bench/bench.h"
#include "spec/check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { OPS = 100000, VARS = 64, ROUNDS = 9, THREADS = 2 };

static int nothing(neap_task *task, void *arg) {
  return NEAP_OK;
}

/* Which variables operation i names: none, the same one, or one read and another written. */
enum pattern { INDEPENDENT, CHAIN, MIXED };
static const char *const pattern_name[] = {"independent", "one chain", "read 1, write 1 of 64"};

static uint32_t hash(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x45d9f3bu;
  x = (x ^ (x >> 16)) * 0x45d9f3bu;
  return x ^ (x >> 16);
}

static double by_neap(neap_context *context, neap_var **vars, enum pattern pattern, int quick) {
  double start = bench_now();
  for (uint32_t i = 0; i < OPS; i++) {
    uint32_t r = hash(i) % VARS, w = (r + 1 + hash(i + OPS) % (VARS - 1)) % VARS;
    neap_op op = {.size = sizeof op, .name = "nothing", .run = nothing, .quick = quick};
    if (pattern == CHAIN) {
      op.writes = &vars[0];
      op.num_writes = 1;
    } else if (pattern == MIXED) {
      op.reads = &vars[r];
      op.writes = &vars[w];
      op.num_reads = op.num_writes = 1;
    }
    OK(neap_push(context, &op));
  }
  OK(neap_wait_all(context));
  return (bench_now() - start) / OPS;
}

#ifdef _OPENMP
static double by_omp(enum pattern pattern) {
  static char cells[VARS * 64], own[OPS];
  double start = bench_now();
#pragma omp parallel num_threads(THREADS)
#pragma omp single
  {
    for (uint32_t i = 0; i < OPS; i++) {
      uint32_t r = hash(i) % VARS, w = (r + 1 + hash(i + OPS) % (VARS - 1)) % VARS;
      char *in = &cells[r * 64], *out = &cells[w * 64];
      (void)in, (void)out, (void)own; /* GCC sees no use in a clause */
      if (pattern == INDEPENDENT) {
#pragma omp task depend(inout : own[i])
        nothing(NULL, NULL);
      } else if (pattern == CHAIN) {
#pragma omp task depend(inout : cells[0])
        nothing(NULL, NULL);
      } else {
#pragma omp task depend(in : in[0]) depend(inout : out[0])
        nothing(NULL, NULL);
      }
    }
#pragma omp taskwait
  }
  return (bench_now() - start) / OPS;
}

#else
#define by_omp(pattern) 0.0
#endif

/* ---- The floor ---------------------------------------------------------------------------------
 */

static double by_malloc(void) {
  void *volatile block;
  double start = bench_now();
  for (int i = 0; i < OPS; i++) {
    block = malloc(320);
    free(block);
  }
  return (bench_now() - start) / OPS;
}

static _Alignas(64) atomic_int ball;
static void *other_side(void *arg) {
  for (int i = 0; i < OPS; i++) {
    while (atomic_load_explicit(&ball, memory_order_acquire) != 2 * i + 1) {
    }
    atomic_store_explicit(&ball, 2 * i + 2, memory_order_release);
  }
  return NULL;
}

/* One way: half of there and back. */
static double by_hand_over(void) {
  pthread_t thread;
  atomic_store(&ball, 0);
  pthread_create(&thread, NULL, other_side, NULL);
  double start = bench_now();
  for (int i = 0; i < OPS; i++) {
    atomic_store_explicit(&ball, 2 * i + 1, memory_order_release);
    while (atomic_load_explicit(&ball, memory_order_acquire) != 2 * i + 2) {
    }
  }
  double each = (bench_now() - start) / OPS / 2;
  pthread_join(thread, NULL);
  return each;
}

int main(void) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.num_threads = THREADS - 1; /* and the one that queues, and works while it waits */
  neap_context *context;
  OK(neap_context_create(&options, &context));
  neap_var *vars[VARS];
  for (int i = 0; i < VARS; i++) OK(neap_var_create(context, &vars[i]));

  bench floor_malloc = {.name = "one malloc and free"},
        floor_hand = {.name = "one hand-over between cores"};
  for (int round = 0; round < ROUNDS; round++) {
    bench_add(&floor_malloc, by_malloc());
    bench_add(&floor_hand, by_hand_over());
  }
  printf("nanoseconds for one empty operation, on %d threads\n", THREADS);
  bench_print(&floor_malloc, 1e9);
  bench_print(&floor_hand, 1e9);
  double limit = bench_median(&floor_malloc) + bench_median(&floor_hand);

  for (int p = INDEPENDENT; p <= MIXED; p++) {
    bench neap = {.name = "Neap, queued"}, quick = {.name = "Neap, quick"},
          omp = {.name = "GCC omp task depend"};
    for (int round = 0; round <= ROUNDS; round++) {
      double a = by_neap(context, vars, (enum pattern)p, 0);
      double b = by_omp((enum pattern)p);
      double c = by_neap(context, vars, (enum pattern)p, 1);
      if (round == 0) continue; /* warms up */
      bench_add(&neap, a);
      bench_add(&omp, b);
      bench_add(&quick, c);
    }
    printf("\n%s\n", pattern_name[p]);
    bench_print(&neap, 1e9);
    bench_print(&quick, 1e9);
    bench_print(&omp, 1e9);
    /* GCC runs a task inside the pragma when 64 a thread are waiting, which makes it a quick one;
     * Neap does that only with what was queued as quick, so that queueing never takes long. */
    bench_ratio("  queued / GCC omp (at most 0.5 is wanted)", &neap, &omp);
    bench_ratio("  quick / GCC omp", &quick, &omp);
    printf("  queued / (malloc + hand-over): %.2f\n", bench_median(&neap) / limit);
  }
  for (int i = 0; i < VARS; i++) neap_var_close(vars[i]);
  neap_context_close(context);
  return 0;
}
