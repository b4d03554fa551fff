/* SPDX-License-Identifier: MIT */
/* pool_test.c - array memory: aligned, counted, kept for reuse within limits, given back. */
#include "engine/array.h"
#include "engine/pool.h"
#include "spec/engine/arrays.h"
#include <pthread.h>
#include <stdatomic.h>

/* An allocator that counts. */
static _Atomic int64_t live, blocks, most;
static void *count_alloc(void *user, size_t size, size_t align) {
  (void)user;
  void *block = NULL;
  if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size)) return NULL;
  int64_t now = atomic_fetch_add(&live, (int64_t)size) + (int64_t)size;
  int64_t peak = atomic_load(&most);
  while (now > peak && !atomic_compare_exchange_weak(&most, &peak, now)) {
  }
  atomic_fetch_add(&blocks, 1);
  return block;
}
static void count_free(void *user, void *block, size_t size) {
  (void)user;
  atomic_fetch_sub(&live, (int64_t)size);
  atomic_fetch_sub(&blocks, 1);
  free(block);
}

static neap_context *counting(int engine, int threads, size_t limit) {
  CHECK(live == 0 && blocks == 0); /* the context before gave all back */
  most = 0;
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.engine = engine;
  options.num_threads = threads;
  options.pool_limit = limit;
  options.alloc = count_alloc;
  options.free = count_free;
  neap_context *context;
  OK(neap_context_create(&options, &context));
  return context;
}

static void blocks_are_aligned_and_hold_what_was_asked_for(void) {
  neap_context *c = counting(NEAP_ENGINE_NAIVE, 0, 1 << 20);
  for (size_t bytes = 0; bytes < 300000; bytes = bytes * 9 / 8 + 1) {
    char *block = neap_pool_get(c->pool, bytes);
    CHECK(block && (uintptr_t)block % 64 == 0);
    memset(block, 1, bytes); /* a sanitizer looks here */
    neap_pool_put(c->pool, block, bytes);
  }
  CHECK(!neap_pool_get(c->pool, (size_t)1 << 62) && strstr(neap_error(), "too many"));
  CHECK(!neap_pool_get(c->pool, SIZE_MAX));
  neap_pool_put(c->pool, NULL, 100);
  neap_context_close(c);
}

static void memory_is_used_again(void) {
  neap_context *c = counting(NEAP_ENGINE_NAIVE, 0, 64 << 20);
  neap_array *a = empty(c, NEAP_FLOAT32, SHAPE(250000));
  int64_t bytes = neap_counter(c, NEAP_COUNT_BYTES);
  CHECK(bytes >= 1000000 && bytes <= 1000000 * 5 / 4 + 1000);
  neap_array_close(a);
  CHECK(neap_counter(c, NEAP_COUNT_BYTES) == 0);
  CHECK(neap_counter(c, NEAP_COUNT_BYTES_POOLED) == bytes);
  int64_t allocated = neap_counter(c, NEAP_COUNT_ALLOCATIONS), before = live;
  for (int i = 0; i < 100; i++) neap_array_close(empty(c, NEAP_FLOAT32, SHAPE(250000 - i)));
  CHECK(live == before && neap_counter(c, NEAP_COUNT_BYTES_PEAK) == bytes);
  CHECK(neap_counter(c, NEAP_COUNT_ALLOCATIONS) - allocated <= 100); /* variables, if anything */
  neap_context_close(c);
}

static void no_more_is_kept_than_the_limit_and_the_oldest_goes_first(void) {
  enum { MB = 1 << 20 };
  neap_context *c = counting(NEAP_ENGINE_NAIVE, 0, 10 * MB);
  void *block[20];
  for (int i = 0; i < 20; i++) block[i] = neap_pool_get(c->pool, MB);
  for (int i = 0; i < 20; i++) neap_pool_put(c->pool, block[i], MB);
  CHECK(neap_counter(c, NEAP_COUNT_BYTES_POOLED) == 10 * MB);
  CHECK(neap_counter(c, NEAP_COUNT_BYTES_PEAK) == 20 * MB);
  /* Another size, used now, drives the sizes of yesterday out. */
  void *other = neap_pool_get(c->pool, 8 * MB);
  neap_pool_put(c->pool, other, 8 * MB);
  CHECK(neap_counter(c, NEAP_COUNT_BYTES_POOLED) == 10 * MB);
  int64_t before = live;
  CHECK(neap_pool_get(c->pool, 8 * MB) != NULL && live == before);
  /* A block larger than the limit is not kept at all, and drives nothing out. */
  void *large = neap_pool_get(c->pool, 16 * MB);
  int64_t kept = neap_counter(c, NEAP_COUNT_BYTES_POOLED);
  neap_pool_put(c->pool, large, 16 * MB);
  CHECK(neap_counter(c, NEAP_COUNT_BYTES_POOLED) == kept && live == before);
  neap_pool_put(c->pool, other, 8 * MB);
  neap_context_close(c);
  c = counting(NEAP_ENGINE_NAIVE, 0, 0); /* keeps nothing */
  before = live;
  neap_array_close(empty(c, NEAP_FLOAT32, SHAPE(1000)));
  CHECK(live == before && neap_counter(c, NEAP_COUNT_BYTES_POOLED) == 0);
  neap_context_close(c);
}

static void large_arrays_lie_at_different_places_of_their_pages(void) {
  neap_context *c = counting(NEAP_ENGINE_NAIVE, 0, 1 << 20);
  for (int again = 0; again < 2; again++) {
    neap_array *a[4];
    uintptr_t place[4];
    for (int i = 0; i < 4; i++) {
      void *data;
      a[i] = empty(c, NEAP_FLOAT32, SHAPE(100000));
      OK(neap_array_data(a[i], &data));
      place[i] = (uintptr_t)data % 4096;
      for (int k = 0; k < i; k++) {
        uintptr_t apart = place[i] > place[k] ? place[i] - place[k] : place[k] - place[i];
        CHECK(apart >= 1024 && apart <= 4096 - 1024);
      }
    }
    for (int i = 0; i < 4; i++) neap_array_close(a[i]);
  }
  neap_context_close(c);
}

static void temporaries_run_in_bounded_memory(int engine, int threads) {
  enum { MB = 1 << 20 };
  neap_context *c = counting(engine, threads, 32 * MB);
  neap_array *a = empty(c, NEAP_FLOAT32, SHAPE(MB / 4));
  OK(neap_array_fill(a, 1));
  for (int i = 0; i < 150; i++) { /* 300 MB */
    neap_array *b = map2("add", a, a), *d = map2("add", b, a);
    neap_array_close(b);
    neap_array_close(d);
  }
  neap_array_close(a);
  CHECK(neap_counter(c, NEAP_COUNT_BYTES_PEAK) < NEAP_DYING_LIMIT + 48 * MB);
  CHECK(most < NEAP_DYING_LIMIT + 64 * MB);
  OK(neap_wait_all(c));
  neap_context_close(c);
}

/* Inside an operation nothing may wait, whatever the amount. */
static int make_and_drop(neap_task *task, void *arg) {
  (void)task;
  neap_context *c = arg;
  neap_array *a = empty(c, NEAP_FLOAT32, SHAPE(1 << 20));
  for (int i = 0; i < 40; i++) {
    neap_array *b = map2("add", a, a);
    neap_array_close(b);
  }
  neap_array_close(a);
  return NEAP_OK;
}

static void operations_may_make_arrays_without_waiting(void) {
  neap_context *c = counting(NEAP_ENGINE_THREADED, 1, 0);
  neap_op op = {.size = sizeof op, .name = "make", .run = make_and_drop, .arg = c};
  OK(neap_push(c, &op));
  expect_no_memory_in_use(c);
  neap_context_close(c);
}

static void *churn(void *arg) {
  neap_context *c = arg;
  unsigned x = (unsigned)(uintptr_t)&x;
  void *mine[16] = {0};
  size_t bytes[16];
  for (int i = 0; i < 5000; i++) {
    x = x * 1664525u + 1013904223u;
    int k = x >> 28;
    if (mine[k]) {
      CHECK(*(volatile char *)mine[k] == (char)k);
      neap_pool_put(c->pool, mine[k], bytes[k]);
      mine[k] = NULL;
    } else {
      bytes[k] = 1 + (x >> 8) % (x & 64 ? 200 : 100000);
      CHECK(mine[k] = neap_pool_get(c->pool, bytes[k]));
      *(volatile char *)mine[k] = (char)k;
    }
  }
  for (int k = 0; k < 16; k++) neap_pool_put(c->pool, mine[k], bytes[k]);
  return NULL;
}

static void threads_share_a_pool(void) {
  neap_context *c = counting(NEAP_ENGINE_NAIVE, 0, 1 << 20);
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) CHECK(!pthread_create(&threads[i], NULL, churn, c));
  for (int i = 0; i < 3; i++) CHECK(!pthread_join(threads[i], NULL));
  CHECK(neap_counter(c, NEAP_COUNT_BYTES) == 0);
  CHECK(neap_counter(c, NEAP_COUNT_BYTES_POOLED) <= 1 << 20);
  neap_context_close(c);
}

int main(void) {
  blocks_are_aligned_and_hold_what_was_asked_for();
  memory_is_used_again();
  no_more_is_kept_than_the_limit_and_the_oldest_goes_first();
  large_arrays_lie_at_different_places_of_their_pages();
  temporaries_run_in_bounded_memory(NEAP_ENGINE_NAIVE, 0);
  temporaries_run_in_bounded_memory(NEAP_ENGINE_THREADED, 0);
  temporaries_run_in_bounded_memory(NEAP_ENGINE_THREADED, 2);
  operations_may_make_arrays_without_waiting();
  threads_share_a_pool();
  CHECK(live == 0 && blocks == 0);
  return 0;
}
