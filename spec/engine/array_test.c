/* SPDX-License-Identifier: MIT */
/* array_test.c - arrays are made, seen through views, read, written, filled and copied. */
#include "spec/engine/arrays.h"
#include <pthread.h>

static neap_context *c;

static void dtypes_have_the_names_and_sizes_of_numpy(void) {
  static const char *const names[] = {"float32", "float64", "float16", "bfloat16",
                                      "int8",    "uint8",   "int32",   "int64"};
  static const int sizes[] = {4, 8, 2, 2, 1, 1, 4, 8};
  for (int i = 0; i < NEAP_NUM_DTYPES; i++) {
    CHECK(!strcmp(neap_dtype_name(i), names[i]));
    CHECK(neap_dtype_find(names[i]) == i);
    CHECK(neap_dtype_size(i) == sizes[i]);
  }
  CHECK(!neap_dtype_name(-1) && !neap_dtype_name(NEAP_NUM_DTYPES));
  CHECK(neap_dtype_find("float") == -1 && neap_dtype_find(NULL) == -1);
}

static void an_array_tells_what_it_is(void) {
  neap_array *a = NULL;
  OK(neap_array_create(c, NEAP_INT32, SHAPE(2, 3, 4), NEAP_CPU, 7, &a));
  const neap_array_info *info = neap_array_get_info(a);
  CHECK(info->dtype == NEAP_INT32 && info->stype == NEAP_DENSE && info->itemsize == 4);
  CHECK(info->device_type == NEAP_CPU && info->device_id == 7 && info->size == 24);
  EXPECT_SHAPE(a, 2, 3, 4);
  void *data;
  OK(neap_array_data(a, &data));
  CHECK((uintptr_t)data % 64 == 0);
  neap_array_close(a);
  neap_array_close(NULL);
  CHECK(!neap_array_get_info(NULL) && !neap_array_var(NULL));
}

static void impossible_arrays_are_refused(void) {
  neap_array *a = NULL;
  int64_t big[] = {1LL << 40, 1LL << 40}, odd[] = {3, -1}, many[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  int64_t fits_count_not_bytes[] = {1LL << 61};
  FAILS(neap_array_create(c, NEAP_FLOAT32, 2, big, NEAP_CPU, 0, &a), NEAP_ESHAPE, "too many");
  FAILS(neap_array_create(c, NEAP_FLOAT64, 1, fits_count_not_bytes, NEAP_CPU, 0, &a), NEAP_ESHAPE,
        "(2305843009213693952,)");
  FAILS(neap_array_create(c, NEAP_FLOAT32, 2, odd, NEAP_CPU, 0, &a), NEAP_ESHAPE, "(3,-1)");
  FAILS(neap_array_create(c, NEAP_FLOAT32, 9, many, NEAP_CPU, 0, &a), NEAP_ESHAPE, "9 dimensions");
  FAILS(neap_array_create(c, 99, 1, odd, NEAP_CPU, 0, &a), NEAP_EDTYPE, "99");
  FAILS(neap_array_create(c, NEAP_FLOAT32, 1, odd, NEAP_GPU, 0, &a), NEAP_ENOTSUP, "cpu(0)");
  FAILS(neap_array_create(c, NEAP_FLOAT32, 1, odd, 9, 0, &a), NEAP_EINVAL, "device");
  FAILS(neap_array_create(c, NEAP_FLOAT32, 1, odd, NEAP_CPU, -1, &a), NEAP_EINVAL, "device");
  FAILS(neap_array_create(c, NEAP_FLOAT32, 1, NULL, NEAP_CPU, 0, &a), NEAP_EINVAL, "no shape");
  FAILS(neap_array_create(NULL, NEAP_FLOAT32, 1, many, NEAP_CPU, 0, &a), NEAP_EINVAL, "context");
  FAILS(neap_array_fill(NULL, 1), NEAP_EINVAL, "NULL");
  int64_t huge[] = {1LL << 45}; /* 128 TiB: a shape like others, but no memory */
  FAILS(neap_array_create(c, NEAP_FLOAT32, 1, huge, NEAP_CPU, 0, &a), NEAP_ENOMEM, "memory");
  CHECK(!a);
}

static void numbers_and_empty_arrays_work_like_others(void) {
  neap_array *number = empty(c, NEAP_FLOAT64, 0, NULL);
  CHECK(size_of(number) == 1);
  OK(neap_array_fill(number, 2.5));
  EXPECT(number, 2.5);
  neap_array *none = empty(c, NEAP_FLOAT32, SHAPE(3, 0, 2)), *view = NULL;
  CHECK(size_of(none) == 0);
  OK(neap_array_fill(none, 1));
  OK(neap_array_uniform(none, 0, 1));
  OK(neap_array_read(none, NULL, 0));
  OK(neap_array_write(none, NULL, 0));
  OK(neap_array_slice(none, 1, 3, &view));
  EXPECT_SHAPE(view, 2, 0, 2);
  neap_array_close(view);
  OK(neap_array_reshape(none, SHAPE(0, 7), &view));
  EXPECT_SHAPE(view, 0, 7);
  neap_array_close(view);
  neap_array_close(none);
  neap_array_close(number);
}

static void views_share_memory(void) {
  neap_array *a = empty(c, NEAP_INT64, SHAPE(4, 3)), *flat = NULL, *middle = NULL, *row = NULL,
             *element = NULL;
  OK(neap_array_arange(a, 0, 1));
  OK(neap_array_reshape(a, SHAPE(-1), &flat));
  EXPECT_SHAPE(flat, 12);
  OK(neap_array_slice(a, 1, -1, &middle));
  EXPECT_SHAPE(middle, 2, 3);
  EXPECT(middle, 3, 4, 5, 6, 7, 8);
  OK(neap_array_at(middle, -1, &row));
  EXPECT_SHAPE(row, 3);
  EXPECT(row, 6, 7, 8);
  OK(neap_array_at(row, 1, &element));
  CHECK(neap_array_get_info(element)->ndim == 0);
  OK(neap_array_fill(element, -1));
  CHECK(neap_array_var(element) == neap_array_var(a));
  neap_array_close(a); /* views hold the memory */
  neap_array_close(middle);
  neap_array_close(row);
  EXPECT(flat, 0, 1, 2, 3, 4, 5, 6, -1, 8, 9, 10, 11);
  neap_array_close(flat);
  EXPECT(element, -1);
  neap_array_close(element);
}

static void impossible_views_are_refused(void) {
  neap_array *a = empty(c, NEAP_FLOAT32, SHAPE(4, 3)), *number = empty(c, NEAP_FLOAT32, 0, NULL),
             *v = NULL;
  FAILS(neap_array_reshape(a, SHAPE(5, 2), &v), NEAP_ESHAPE, "(4,3) does not become (5,2)");
  FAILS(neap_array_reshape(a, SHAPE(-1, 5), &v), NEAP_ESHAPE, "(-1,5)");
  FAILS(neap_array_reshape(a, SHAPE(-1, -1), &v), NEAP_ESHAPE, "more than one");
  FAILS(neap_array_reshape(a, SHAPE(-2, 6), &v), NEAP_ESHAPE, "negative");
  FAILS(neap_array_reshape(a, SHAPE(-1, 0), &v), NEAP_ESHAPE, "-1");
  FAILS(neap_array_reshape(a, SHAPE(1LL << 62, 1LL << 62), &v), NEAP_ESHAPE, "too many");
  FAILS(neap_array_slice(a, 0, 5, &v), NEAP_EINVAL, "[0, 5)");
  FAILS(neap_array_slice(a, 3, 2, &v), NEAP_EINVAL, "[3, 2)");
  FAILS(neap_array_slice(a, -5, 2, &v), NEAP_EINVAL, "[-5, 2)");
  FAILS(neap_array_slice(number, 0, 1, &v), NEAP_ESHAPE, "without dimensions");
  FAILS(neap_array_at(a, 4, &v), NEAP_EINVAL, "row 4");
  FAILS(neap_array_at(a, -5, &v), NEAP_EINVAL, "row -5");
  FAILS(neap_array_at(number, 0, &v), NEAP_ESHAPE, "without dimensions");
  CHECK(!v);
  neap_array_close(a);
  neap_array_close(number);
}

static void bytes_go_in_and_come_out(void) {
  neap_array *a = empty(c, NEAP_FLOAT32, SHAPE(2, 2)), *row = NULL;
  float in[] = {1, 2, 3, 4}, out[4] = {0};
  OK(neap_array_write(a, in, sizeof in));
  in[0] = 9; /* free on return */
  OK(neap_array_read(a, out, sizeof out));
  CHECK(out[0] == 1 && out[3] == 4);
  OK(neap_array_at(a, 1, &row));
  OK(neap_array_write(row, in, 8));
  OK(neap_array_read(a, out, sizeof out));
  CHECK(out[0] == 1 && out[2] == 9 && out[3] == 2);
  FAILS(neap_array_read(a, out, 8), NEAP_EINVAL, "8 bytes given, but float32 (2,2) has 16");
  FAILS(neap_array_write(a, in, 17), NEAP_EINVAL, "17 bytes");
  FAILS(neap_array_write(a, NULL, 16), NEAP_EINVAL, "NULL");
  neap_array_close(a);
  neap_array_close(row);
}

static void fill_converts_as_c_does_and_saturates(void) {
  neap_array *a = empty(c, NEAP_UINT8, SHAPE(2)), *b = empty(c, NEAP_INT32, SHAPE(2)),
             *h = empty(c, NEAP_FLOAT16, SHAPE(1));
  OK(neap_array_fill(a, 300));
  EXPECT(a, 255, 255);
  OK(neap_array_fill(a, -1));
  EXPECT(a, 0, 0);
  OK(neap_array_fill(b, -2.9));
  EXPECT(b, -2, -2);
  OK(neap_array_fill(b, 1e300));
  EXPECT(b, 2147483647, 2147483647);
  OK(neap_array_fill(h, 65504)); /* the largest float16 */
  EXPECT(h, 65504);
  neap_array_close(a);
  neap_array_close(b);
  neap_array_close(h);
}

static void arange_counts(void) {
  neap_array *a = empty(c, NEAP_FLOAT64, SHAPE(4));
  OK(neap_array_arange(a, 1, -0.5));
  EXPECT(a, 1, 0.5, 0, -0.5);
  neap_array_close(a);
}

static void copy_crosses_devices_and_nothing_else(void) {
  neap_array *a = filled(c, NEAP_FLOAT32, SHAPE(3), VALUES(1, 2, 3)), *there = NULL;
  OK(neap_array_create(c, NEAP_FLOAT32, SHAPE(3), NEAP_CPU, 1, &there));
  OK(neap_array_copy(a, there));
  OK(neap_array_fill(a, 0)); /* later work does not show in the copy */
  EXPECT(there, 1, 2, 3);
  OK(neap_array_copy(there, there));
  EXPECT(there, 1, 2, 3);
  neap_array *flat = empty(c, NEAP_FLOAT32, SHAPE(3, 1)), *wide = empty(c, NEAP_FLOAT64, SHAPE(3));
  FAILS(neap_array_copy(a, flat), NEAP_ESHAPE, "(3,) and (3,1)");
  FAILS(neap_array_copy(a, wide), NEAP_EDTYPE, "float32 and float64 do not mix");
  neap_array_close(a);
  neap_array_close(there);
  neap_array_close(flat);
  neap_array_close(wide);
}

static void copies_between_overlapping_views_are_right(void) {
  enum { N = 200000 };
  neap_array *a = empty(c, NEAP_INT32, SHAPE(N)), *low = NULL, *high = NULL;
  OK(neap_array_slice(a, 0, N - 1, &low));
  OK(neap_array_slice(a, 1, N, &high));
  for (int up = 0; up < 2; up++) {
    OK(neap_array_arange(a, 0, 1));
    OK(up ? neap_array_copy(low, high) : neap_array_copy(high, low));
    int32_t *v;
    OK(neap_array_data(a, (void **)&v));
    CHECK(v[0] == (up ? 0 : 1) && v[N - 1] == (up ? N - 2 : N - 1));
    for (int i = 1; i < N - 1; i++) CHECK(v[i] == (up ? i - 1 : i + 1));
  }
  neap_array_close(a);
  neap_array_close(low);
  neap_array_close(high);
}

/* Draws `count` numbers on a context of its own. */
static float *draw(int engine, int threads, uint64_t seed, bool normal, int count) {
  neap_context *own = context_new(engine, threads);
  OK(neap_seed(own, seed));
  neap_array *first = empty(own, NEAP_FLOAT32, SHAPE(5)),
             *a = empty(own, NEAP_FLOAT32, 1, (int64_t[]){count});
  OK(neap_array_uniform(first, 0, 1));
  OK(normal ? neap_array_normal(a, 0, 1) : neap_array_uniform(a, -1, 3));
  float *out = malloc((size_t)count * sizeof *out);
  OK(neap_array_read(a, out, (size_t)count * sizeof *out));
  neap_array_close(a);
  neap_array_close(first);
  neap_context_close(own);
  return out;
}

static void random_numbers_depend_on_the_seed_alone(void) {
  enum { N = 300000 };
  for (int normal = 0; normal < 2; normal++) {
    float *one = draw(NEAP_ENGINE_NAIVE, 0, 42, normal, N);
    float *two = draw(NEAP_ENGINE_THREADED, 4, 42, normal, N);
    float *three = draw(NEAP_ENGINE_THREADED, 1, 42, normal, N);
    float *other = draw(NEAP_ENGINE_THREADED, 1, 43, normal, N);
    CHECK(!memcmp(one, two, N * sizeof *one) && !memcmp(one, three, N * sizeof *one));
    CHECK(memcmp(one, other, N * sizeof *one) != 0);
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
      sum += one[i];
      squares += (double)one[i] * one[i];
      if (!normal) CHECK(one[i] >= -1 && one[i] < 3);
    }
    double mean = sum / N, variance = squares / N - mean * mean;
    /* Uniform on [-1, 3): mean 1, variance 16 / 12. Five standard errors. */
    CHECK(fabs(mean - (normal ? 0 : 1)) < 5 * sqrt(16.0 / 12 / N));
    CHECK(fabs(variance - (normal ? 1 : 16.0 / 12)) < 0.02);
    free(one);
    free(two);
    free(three);
    free(other);
  }
}

static void random_numbers_are_floats_from_a_range(void) {
  neap_array *i = empty(c, NEAP_INT32, SHAPE(2)), *f = empty(c, NEAP_FLOAT32, SHAPE(2));
  FAILS(neap_array_uniform(i, 0, 1), NEAP_EDTYPE, "uniform: draws floats, not int32");
  FAILS(neap_array_normal(i, 0, 1), NEAP_EDTYPE, "normal");
  FAILS(neap_array_uniform(f, 1, 0), NEAP_EINVAL, "range");
  FAILS(neap_array_uniform(f, 0, INFINITY), NEAP_EINVAL, "range");
  FAILS(neap_array_normal(f, 0, -1), NEAP_EINVAL, "range");
  neap_array_close(i);
  neap_array_close(f);
}

static void handles_may_outlive_their_context(void) {
  neap_context *own = context_new(NEAP_ENGINE_THREADED, 2);
  neap_array *a = empty(own, NEAP_FLOAT32, SHAPE(100000)), *v = NULL, *out = NULL;
  OK(neap_array_fill(a, 1));
  OK(neap_array_slice(a, 1, 3, &v));
  neap_context_close(own);
  float x[2];
  CHECK(neap_array_get_info(v)->size == 2);
  FAILS(neap_array_read(v, x, 8), NEAP_ECLOSED, "closed");
  FAILS(neap_array_fill(a, 1), NEAP_ECLOSED, "closed");
  FAILS(neap_array_wait(a), NEAP_ECLOSED, "closed");
  FAILS(neap_add_n(1, &a, &out), NEAP_ECLOSED, "closed");
  FAILS(neap_array_at(a, 0, &out), NEAP_ECLOSED, "closed");
  neap_array_close(v);
  neap_array_close(a);
}

static void contexts_live_side_by_side_and_do_not_mix(void) {
  neap_context *one = context_new(NEAP_ENGINE_THREADED, 2),
               *two = context_new(NEAP_ENGINE_NAIVE, 0);
  neap_array *a = filled(one, NEAP_FLOAT32, SHAPE(2), VALUES(1, 2)),
             *b = filled(two, NEAP_FLOAT32, SHAPE(2), VALUES(3, 4)), *out = NULL;
  FAILS(neap_map(neap_op_find("add"), (neap_array *[]){a, b}, NULL, &out), NEAP_EINVAL,
        "two contexts");
  FAILS(neap_array_copy(a, b), NEAP_EINVAL, "two contexts");
  FAILS(neap_add_n(2, (neap_array *[]){a, b}, &out), NEAP_EINVAL, "two contexts");
  FAILS(neap_take(a, b, &out), NEAP_EINVAL, "two contexts");
  neap_array *sum = map2("add", b, b);
  neap_context_close(one);
  EXPECT(sum, 6, 8);
  neap_array_close(a);
  neap_array_close(b);
  neap_array_close(sum);
  neap_context_close(two);
}

/* One thread writes whole arrays, two read them: no read may see half a write. */
static neap_array *shared;
enum { SHARED = 4096, ROUNDS = 300 };
static void *reader(void *arg) {
  (void)arg;
  int32_t *got = malloc(SHARED * sizeof *got);
  for (int i = 0; i < ROUNDS; i++) {
    OK(neap_array_read(shared, got, SHARED * sizeof *got));
    for (int k = 1; k < SHARED; k++) CHECK(got[k] == got[0]);
  }
  free(got);
  return NULL;
}

static void threads_read_and_write_whole_arrays(void) {
  shared = empty(c, NEAP_INT32, SHAPE(SHARED));
  OK(neap_array_fill(shared, -1));
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) CHECK(!pthread_create(&threads[i], NULL, reader, NULL));
  int32_t *in = malloc(SHARED * sizeof *in);
  for (int i = 0; i < ROUNDS; i++) {
    for (int k = 0; k < SHARED; k++) in[k] = i;
    OK(neap_array_write(shared, in, SHARED * sizeof *in));
    OK(neap_array_fill(shared, i + ROUNDS));
  }
  for (int i = 0; i < 2; i++) CHECK(!pthread_join(threads[i], NULL));
  free(in);
  neap_array_close(shared);
}

int main(void) {
  c = context_new(NEAP_ENGINE_THREADED, 2);
  dtypes_have_the_names_and_sizes_of_numpy();
  an_array_tells_what_it_is();
  impossible_arrays_are_refused();
  numbers_and_empty_arrays_work_like_others();
  views_share_memory();
  impossible_views_are_refused();
  bytes_go_in_and_come_out();
  fill_converts_as_c_does_and_saturates();
  arange_counts();
  copy_crosses_devices_and_nothing_else();
  copies_between_overlapping_views_are_right();
  random_numbers_depend_on_the_seed_alone();
  random_numbers_are_floats_from_a_range();
  handles_may_outlive_their_context();
  contexts_live_side_by_side_and_do_not_mix();
  threads_read_and_write_whole_arrays();
  neap_context_close(c);
  return 0;
}
