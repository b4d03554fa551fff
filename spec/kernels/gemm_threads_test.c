/* SPDX-License-Identifier: MIT */
/* gemm_threads_test.c - matrix products on several threads at once are those of one thread.
 *
 * A BLAS that hands out its buffers without a lock gets about 2 in 1000 of these wrong. */
#include "kernels/kernel.h"
#include "spec/check.h"
#include <pthread.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 1500, M = 98, N = 256, K = 50 };

typedef struct worker {
  pthread_t thread;
  unsigned seed;
  long wrong;
  float a[K * M], b[K * N], expected[M * N], got[M * N];
} worker;

static void *multiply(void *arg) {
  worker *w = arg;
  neap_kernel_gemm gemm = neap_k_cpu(NULL)->gemm;
  for (int round = 0; round < ROUNDS; round++) {
    CHECK(gemm(NEAP_K_F32, 1, 0, M, N, K, 1, w->a, M, w->b, N, 0, w->got, N) == NEAP_K_OK);
    w->wrong += memcmp(w->got, w->expected, sizeof w->got) != 0;
    /* A row and a column alone, which go another way. */
    CHECK(gemm(NEAP_K_F32, 1, 0, 1, N, K, 1, w->a, M, w->b, N, 0, w->got, N) == NEAP_K_OK);
    w->wrong += memcmp(w->got, w->expected, N * sizeof *w->got) != 0;
    CHECK(gemm(NEAP_K_F32, 1, 0, M, 1, K, 1, w->a, M, w->b, N, 0, w->got, 1) == NEAP_K_OK);
    for (int i = 0; i < M; i++) w->wrong += w->got[i] != w->expected[i * N];
  }
  return NULL;
}

int main(void) {
  static worker workers[THREADS];
  for (int t = 0; t < THREADS; t++) {
    worker *w = &workers[t];
    w->seed = (unsigned)t + 1;
    /* Small integers: every sum is exact, so the definition gives the very bits. */
    for (int i = 0; i < K * M; i++) w->a[i] = (float)(rand_r(&w->seed) % 17 - 8);
    for (int i = 0; i < K * N; i++) w->b[i] = (float)(rand_r(&w->seed) % 17 - 8);
    for (int p = 0; p < K; p++)
      for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) w->expected[i * N + j] += w->a[p * M + i] * w->b[p * N + j];
  }
  for (int t = 0; t < THREADS; t++)
    CHECK(pthread_create(&workers[t].thread, NULL, multiply, &workers[t]) == 0);
  for (int t = 0; t < THREADS; t++) {
    CHECK(pthread_join(workers[t].thread, NULL) == 0);
    CHECK(workers[t].wrong == 0);
  }
  return 0;
}
