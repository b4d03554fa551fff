/* SPDX-License-Identifier: MIT */
/* kernels_bench.c - how near kernels come to the speed of memory: gigabytes read and written a
 * second, beside memcpy in the same rounds, on one thread.
 *
 *   kernels_bench [table]      sse2, avx2, avx512 or neon; the best one if none is named
 *
 * Two sizes: what fits into the second-level cache, and what fits into none. */
#include "kernels/kernel.h"
#include "spec/bench/bench.h"
#include <string.h>

enum {
  ROUNDS = 15,
  INPUTS = 4,
  STAGGER = 832 /* bytes: no two arrays begin at one place of a page */
};

static float *inputs[INPUTS], *out;

typedef struct figure {
  bench bench;
  const char *op; /* NULL: memcpy */
  neap_kargs args;
  int64_t bytes; /* read and written, of one element */
} figure;

static neap_kargs flat(int dtype, int out_dtype, int arrays) {
  neap_kargs args = {.dtype = dtype, .out_dtype = out_dtype, .out = out, .ndim = 1};
  for (int i = 0; i < arrays; i++) args.in[i] = inputs[i], args.stride[i][0] = 1;
  args.number[0] = 0.5;
  args.outer = args.inner = 1;
  args.many = (const void *const *)inputs;
  args.count = INPUTS;
  return args;
}

static double seconds(const neap_kernel_table *table, figure *f, int64_t n, int times) {
  neap_kernel kernel = NULL;
  for (int op = 0; op < NEAP_K_NUM_OPS && f->op; op++)
    if (strcmp(neap_k_ops[op].name, f->op) == 0) kernel = neap_k_get(table, op);
  f->args.shape[0] = f->args.axis = f->args.size = n;
  int64_t work = f->op && strcmp(f->op, "sum") == 0 ? 1 : n;
  double start = bench_now();
  for (int i = 0; i < times; i++) {
    if (f->op) {
      kernel(&f->args, 0, work);
    } else {
      memcpy(out, inputs[0], (size_t)n * sizeof(float));
    }
    __asm__ volatile("" ::: "memory"); /* what was written is used */
  }
  return (bench_now() - start) / times;
}

static void measure(const neap_kernel_table *table, const char *title, int64_t n, int times) {
  enum { F32 = NEAP_K_F32, F16 = NEAP_K_F16, BF16 = NEAP_K_BF16 };
  figure figures[] = {
      {{.name = "memcpy"}, NULL, {0}, 8},
      {{.name = "copy"}, "copy", flat(F32, F32, 1), 8},
      {{.name = "fill"}, "fill", flat(F32, F32, 0), 4},
      {{.name = "add"}, "add", flat(F32, F32, 2), 12},
      {{.name = "add, a number"}, "add", flat(F32, F32, 1), 8},
      {{.name = "relu"}, "relu", flat(F32, F32, 1), 8},
      {{.name = "exp"}, "exp", flat(F32, F32, 1), 8},
      {{.name = "log"}, "log", flat(F32, F32, 1), 8},
      {{.name = "tanh"}, "tanh", flat(F32, F32, 1), 8},
      {{.name = "sigmoid"}, "sigmoid", flat(F32, F32, 1), 8},
      {{.name = "axpy"}, "axpy", flat(F32, F32, 1), 12},
      {{.name = "add_n of 4"}, "add_n", flat(F32, F32, 0), 20},
      {{.name = "add_n of 4, bfloat16"}, "add_n", flat(BF16, BF16, 0), 10},
      {{.name = "sum"}, "sum", flat(F32, F32, 1), 4},
      {{.name = "cast, float32 to float16"}, "cast", flat(F32, F16, 1), 6},
      {{.name = "cast, float16 to float32"}, "cast", flat(F16, F32, 1), 6},
      {{.name = "cast, float32 to bfloat16"}, "cast", flat(F32, BF16, 1), 6},
      {{.name = "cast, bfloat16 to float32"}, "cast", flat(BF16, F32, 1), 6},
  };
  enum { FIGURES = sizeof figures / sizeof *figures };
  /* The first round warms up. */
  for (int round = -1; round < ROUNDS; round++)
    for (int i = 0; i < FIGURES; i++) {
      double took = seconds(table, &figures[i], n, times);
      if (round >= 0) bench_add(&figures[i].bench, (double)(figures[i].bytes * n) / took * 1e-9);
    }
  printf("%s: %s, GB/s\n", table->name, title);
  for (int i = 0; i < FIGURES; i++) {
    char name[80];
    bench_print(&figures[i].bench, 1);
    snprintf(name, sizeof name, "  %s / memcpy", figures[i].bench.name);
    if (i > 0) bench_ratio(name, &figures[i].bench, &figures[0].bench);
  }
}

int main(int argc, char **argv) {
  const int64_t small = 32 * 1024, large = 16 * 1024 * 1024;
  const neap_kernel_table *table = neap_k_cpu(argc > 1 ? argv[1] : NULL);
  if (!table) {
    fprintf(stderr, "no table \"%s\" runs here\n", argv[1]);
    return 2;
  }
  char *memory = NULL;
  const size_t each = (size_t)large * sizeof(float) + STAGGER;
  if (posix_memalign((void **)&memory, 64, each * (INPUTS + 1)) != 0) return 1;
  memset(memory, 0, each * (INPUTS + 1));
  for (int i = 0; i < INPUTS; i++) inputs[i] = (float *)(memory + each * (size_t)i);
  for (int64_t i = 0; i < large; i++) inputs[0][i] = (float)(i % 1021) / 512; /* for exp and log */
  out = (float *)(memory + each * INPUTS);
  measure(table, "arrays of 128 KiB", small, 100);
  measure(table, "arrays of 64 MiB", large, 1);
  free(memory);
  return 0;
}
