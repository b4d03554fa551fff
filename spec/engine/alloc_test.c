/* SPDX-License-Identifier: MIT */
/* alloc_test.c - every allocation made to fail in turn, over a scenario that uses most operations.
 * Each time there is an error, at a call or late, with a text; no memory is left behind. */
#include "spec/engine/arrays.h"
#include <stdatomic.h>

static _Atomic int64_t live, countdown, calls;

static void *failing_alloc(void *user, size_t size, size_t align) {
  (void)user;
  atomic_fetch_add(&calls, 1);
  if (atomic_fetch_sub(&countdown, 1) == 1) return NULL; /* this one, and no other */
  void *block = NULL;
  if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size)) return NULL;
  atomic_fetch_add(&live, (int64_t)size);
  return block;
}
static void failing_free(void *user, void *block, size_t size) {
  (void)user;
  atomic_fetch_sub(&live, (int64_t)size);
  free(block);
}

/* What a step makes. */
typedef struct made {
  neap_array *arrays[64];
  int count;
} made;

static neap_array **place(made *m) {
  return &m->arrays[m->count++];
}

#define STEP(call)                                                                                 \
  do {                                                                                             \
    int status_ = (call);                                                                          \
    if (status_ != NEAP_OK) return status_;                                                        \
  } while (0)

/* Returns the first failure. */
static int scenario(neap_context *c, made *m) {
  neap_array **a = place(m), **b = place(m), **v = place(m), **ids = place(m);
  STEP(neap_array_create(c, NEAP_FLOAT32, SHAPE(300, 300), NEAP_CPU, 0, a));
  STEP(neap_array_create(c, NEAP_FLOAT32, SHAPE(300), NEAP_CPU, 0, b));
  STEP(neap_array_create(c, NEAP_INT32, SHAPE(100), NEAP_CPU, 0, ids));
  STEP(neap_array_normal(*a, 0, 1));
  STEP(neap_array_uniform(*b, 0, 1));
  STEP(neap_array_arange(*ids, 299, -2));
  STEP(neap_array_at(*a, 1, v));
  neap_array **w = place(m);
  STEP(neap_array_slice(*a, 1, 3, w));
  neap_array **r = place(m);
  STEP(neap_array_reshape(*a, SHAPE(-1), r));
  neap_array **sum = place(m);
  STEP(neap_map(neap_op_find("add"), (neap_array *[]){*a, *b}, NULL, sum));
  STEP(neap_map(neap_op_find("add"), (neap_array *[]){*v, *b}, NULL, v));
  neap_array *shifted = *w; /* overlaps: goes through a temporary */
  STEP(neap_map(neap_op_find("mul"), (neap_array *[]){*w, *v}, NULL, &shifted));
  STEP(neap_reduce(neap_op_find("norm"), *a, NEAP_ALL_AXES, 0, place(m)));
  STEP(neap_reduce(neap_op_find("mean"), *a, 0, 0, place(m)));
  STEP(neap_reduce(neap_op_find("softmax"), *a, 1, 0, place(m)));
  STEP(neap_dot(*a, *sum, 1, 0, place(m)));
  STEP(neap_transpose(*a, NULL, place(m)));
  STEP(neap_concat(2, (neap_array *[]){*a, *sum}, 1, place(m)));
  STEP(neap_stack(2, (neap_array *[]){*b, *b}, 0, place(m)));
  neap_array **rows = place(m);
  STEP(neap_take(*a, *ids, rows));
  STEP(neap_astype(*a, NEAP_FLOAT16, place(m)));
  STEP(neap_add_n(3, (neap_array *[]){*a, *sum, *a}, place(m)));
  STEP(neap_axpy(*sum, 2, *a));
  STEP(neap_array_copy(*a, *sum));
  neap_array **s = place(m), **t = place(m), **u = place(m), **d = place(m);
  STEP(neap_sparse_create(c, NEAP_FLOAT32, SHAPE(300, 300), NEAP_CPU, 0, s));
  STEP(neap_sparse_set(*s, *rows, *ids));
  STEP(neap_sparse_retain(*a, *ids, t));
  STEP(neap_sparse_retain(*s, *ids, t));
  STEP(neap_add_n(2, (neap_array *[]){*s, *t}, u));
  STEP(neap_add_n(20, (neap_array *[]){*s, *t, *s, *t, *s, *t, *s, *t, *s, *t,
                                       *s, *t, *s, *t, *s, *t, *s, *t, *s, *t},
                  u));
  STEP(neap_tostype(*u, NEAP_DENSE, d));
  STEP(neap_tostype(*d, NEAP_ROW_SPARSE, place(m)));
  STEP(neap_astype(*u, NEAP_INT32, place(m)));
  STEP(neap_sparse_values(*u, place(m)));
  STEP(neap_sparse_indices(*u, place(m)));
  float out[300];
  STEP(neap_array_read(*b, out, sizeof out));
  STEP(neap_array_write(*b, out, sizeof out));
  void *data;
  STEP(neap_array_data(*d, &data));
  return neap_wait_all(c);
}

/* Everything with one allocation failing. True if none did, that is, all went through. */
static bool attempt(int engine, int threads, int64_t which) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.engine = engine;
  options.num_threads = threads;
  options.pool_limit = which % 2 ? 0 : (size_t)64 << 20;
  options.alloc = failing_alloc;
  options.free = failing_free;
  made m = {0};
  atomic_store(&countdown, which);
  neap_context *c = NULL;
  int status = neap_context_create(&options, &c);
  if (status == NEAP_OK) {
    status = scenario(c, &m);
    if (status != NEAP_OK) {
      CHECK(status == NEAP_ENOMEM && strlen(neap_error()) > 5);
      (void)neap_wait_all(c);
    }
  } else {
    CHECK(status == NEAP_ENOMEM);
  }
  bool failed = atomic_load(&countdown) <= 0;
  for (int i = 0; i < m.count; i++) neap_array_close(m.arrays[i]);
  if (c) neap_context_close(c);
  CHECK(atomic_load(&live) == 0);
  if (status != NEAP_OK) CHECK(failed);
  /* A pool that keeps memory gives it back and tries again; without one there is an error. */
  if (failed && options.pool_limit == 0) CHECK(status != NEAP_OK);
  return !failed;
}

int main(void) {
  static const struct {
    int engine, threads;
  } kinds[] = {{NEAP_ENGINE_NAIVE, 0}, {NEAP_ENGINE_THREADED, 0}, {NEAP_ENGINE_THREADED, 1}};
  for (int k = 0; k < 3; k++) {
    int64_t which = 1;
    while (!attempt(kinds[k].engine, kinds[k].threads, which)) {
      which++;
      CHECK(which < 3000);
    }
    CHECK(which > 50); /* the scenario does allocate */
  }
  return 0;
}
