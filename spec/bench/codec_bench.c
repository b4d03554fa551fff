/* SPDX-License-Identifier: MIT */
/* codec_bench.c - gradient compression against a loop that moves the same bytes.
 *
 * Encoding reads a gradient, reads and writes the residual, and writes the codes; decoding adds the
 * codes of one sender to a sum, or, in the engine, writes the sum of all. The loop beside it does
 * no more with the floats than to add a number, and copies the codes. Arrays of 64 MiB: first the
 * kernels on one thread, then the engine's operations on two, the loop shared out likewise.
 *
 *   codec_bench [table]      sse2, avx2, avx512 or neon for the kernels; the best if none is named
 */
#include "engine/codec.h"
#include "spec/bench/bench.h"
#include "spec/check.h"
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 11, STAGGER = 1024, SENDERS = 2 };
enum { COUNT = 16 * 1024 * 1024 };

static float *residual, *gradient;
static uint8_t *packed;

static void keep(void) {
  __asm__ volatile("" ::: "memory"); /* what was written is used */
}

/* ---- The loops ------------------------------------------------------------------------------- */

#define MOVE_ENCODE(begin, end)                                                                    \
  for (int64_t i = begin; i < (end); i++) residual[i] += gradient[i];
#define MOVE_ADD(begin, end)                                                                       \
  for (int64_t i = begin; i < (end); i++) residual[i] += 1.0F;
#define MOVE_FILL(begin, end)                                                                      \
  for (int64_t i = begin; i < (end); i++) residual[i] = 1.0F;

enum movement { ENCODE, ADD, DECODE };

static double by_loop(enum movement what, int64_t bytes, int threads) {
  uint8_t sum = 0;
  double start = bench_now();
#pragma omp parallel for num_threads(threads) reduction(+ : sum)
  for (int64_t part = 0; part < 64; part++) {
    const int64_t step = COUNT / 64, begin = part * step;
    uint8_t *codes = packed + part * (bytes / 64);
    if (what == ENCODE) {
      MOVE_ENCODE(begin, begin + step)
      memset(codes, 1, (size_t)(bytes / 64));
    } else {
      for (int64_t i = 0; i < bytes / 64; i++) sum = (uint8_t)(sum + codes[i]);
      if (what == ADD) {
        MOVE_ADD(begin, begin + step)
      } else {
        MOVE_FILL(begin, begin + step)
      }
    }
  }
  volatile uint8_t used = sum;
  (void)used;
  keep();
  return bench_now() - start;
}

/* ---- One thread ------------------------------------------------------------------------------ */

static double by_kernel(neap_kernel kernel, bool encodes) {
  neap_kargs args = {.out = residual, .size = COUNT, .number = {0.5}};
  args.in[0] = encodes ? (void *)gradient : packed;
  args.codes = packed;
  double start = bench_now();
  kernel(&args, 0, COUNT / NEAP_K_CODES);
  keep();
  return bench_now() - start;
}

static void measure_kernels(const neap_kernel_table *table) {
  const struct {
    const char *name;
    neap_kernel kernel;
    enum movement what;
    int bits;
  } rows[] = {{"2bit, encode / loop", table->encode_2bit, ENCODE, 2},
              {"2bit, add / loop", table->decode_2bit, ADD, 2},
              {"1bit, encode / loop", table->encode_1bit, ENCODE, 1},
              {"1bit, add / loop", table->decode_1bit, ADD, 1}};
  printf("%s, one thread: speed of compression / of a loop (0.8 is wanted)\n", table->name);
  for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
    bench loop = {.name = "loop"}, kernel = {.name = "kernel"};
    for (int round = -1; round < ROUNDS; round++) {
      double a = by_loop(rows[r].what, (int64_t)COUNT * rows[r].bits / 8, 1);
      double b = by_kernel(rows[r].kernel, rows[r].what == ENCODE);
      if (round >= 0) bench_add(&loop, 1 / a), bench_add(&kernel, 1 / b);
    }
    printf("  %.1f ms, ", 1e3 / bench_median(&kernel));
    bench_ratio(rows[r].name, &kernel, &loop);
  }
}

/* ---- The engine ------------------------------------------------------------------------------ */

static double by_engine(neap_context *context, const neap_codec *codec, neap_array **floats,
                        neap_array *const *codes, bool encodes) {
  double start = bench_now();
  neap_work *work = encodes ? neap_encode_work(codec, 0.5F, floats[1], floats[0], codes[0])
                            : neap_decode_work(codec, 0.5F, SENDERS, codes, floats[0]);
  CHECK(work);
  neap_work_submit(work);
  OK(neap_wait_all(context));
  return bench_now() - start;
}

static neap_array *new_array(neap_context *context, int dtype, int64_t size) {
  neap_array *array;
  OK(neap_array_create(context, dtype, 1, &size, NEAP_CPU, 0, &array));
  OK(neap_array_fill(array, 0.25));
  return array;
}

static void measure_engine(const char *name) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.num_threads = 1; /* and the one that waits */
  neap_context *context;
  const neap_codec *codec;
  double threshold = 0.5;
  OK(neap_context_create(&options, &context));
  OK(neap_codec_find(name, &threshold, &codec));
  const int64_t bytes = neap_codec_bytes(codec, COUNT);
  neap_array *floats[2], *codes[SENDERS];
  for (int i = 0; i < 2; i++) floats[i] = new_array(context, NEAP_FLOAT32, COUNT);
  for (int i = 0; i < SENDERS; i++) codes[i] = new_array(context, NEAP_UINT8, bytes);
  for (int encodes = 1; encodes >= 0; encodes--) {
    bench loop = {.name = "loop"}, engine = {.name = "engine"};
    for (int round = -1; round < ROUNDS; round++) {
      double a = by_loop(encodes ? ENCODE : DECODE, encodes ? bytes : SENDERS * bytes, 2);
      double b = by_engine(context, codec, floats, codes, encodes);
      if (round >= 0) bench_add(&loop, 1 / a), bench_add(&engine, 1 / b);
    }
    char text[64];
    snprintf(text, sizeof text, "%s, %s / loop", name, encodes ? "encode" : "decode of 2");
    printf("  %.1f ms, ", 1e3 / bench_median(&engine));
    bench_ratio(text, &engine, &loop);
  }
  for (int i = 0; i < 2; i++) neap_array_close(floats[i]);
  for (int i = 0; i < SENDERS; i++) neap_array_close(codes[i]);
  neap_context_close(context);
}

int main(int argc, char **argv) {
  if (!getenv("OMP_WAIT_POLICY")) { /* OpenMP's thread must not spin on in the engine's rounds */
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv);
  }
  const neap_kernel_table *table = neap_k_cpu(argc > 1 ? argv[1] : NULL);
  if (!table) {
    fprintf(stderr, "no table \"%s\" runs here\n", argv[1]);
    return 2;
  }
  char *memory = NULL;
  const size_t each = COUNT * sizeof(float) + STAGGER;
  if (posix_memalign((void **)&memory, 64, 3 * each) != 0) return 1;
  memset(memory, 0, 3 * each);
  residual = (float *)memory;
  gradient = (float *)(memory + each);
  packed = (uint8_t *)(memory + 2 * each);
  for (int64_t i = 0; i < COUNT; i++) gradient[i] = (float)(i % 17 - 8) / 16;
  measure_kernels(table);
  printf("the engine, two threads\n");
  measure_engine("2bit");
  measure_engine("1bit");
  free(memory);
  return 0;
}
