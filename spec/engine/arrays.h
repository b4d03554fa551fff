/* SPDX-License-Identifier: MIT */
/* arrays.h - making arrays and looking into them, for the specs of the engine's array room. */
#ifndef NEAP_SPEC_ARRAYS_H
#define NEAP_SPEC_ARRAYS_H

#include "spec/check.h"
#include <stdbool.h>
#include <math.h>
#include <string.h>
#include <time.h>

/* A context of an engine and a number of threads. */
static inline neap_context *context_new(int engine, int threads) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.engine = engine;
  options.num_threads = threads;
  neap_context *context;
  OK(neap_context_create(&options, &context));
  return context;
}

/* All array memory is given back, at the latest a moment after the last work on it is complete. */
static inline void expect_no_memory_in_use(neap_context *context) {
  struct timespec nap = {0, 1000000};
  OK(neap_wait_all(context));
  for (int i = 0; i < 5000 && neap_counter(context, NEAP_COUNT_BYTES); i++) nanosleep(&nap, NULL);
  CHECK(neap_counter(context, NEAP_COUNT_BYTES) == 0);
}

#define SHAPE(...) ((int)(sizeof((int64_t[]){__VA_ARGS__}) / 8)), ((int64_t[]){__VA_ARGS__})
#define VALUES(...)                                                                                \
  ((int)(sizeof((double[]){__VA_ARGS__}) / sizeof(double))), ((double[]){__VA_ARGS__})

static inline neap_array *empty(neap_context *context, int dtype, int ndim, const int64_t *shape) {
  neap_array *array = NULL;
  OK(neap_array_create(context, dtype, ndim, shape, NEAP_CPU, 0, &array));
  return array;
}

static inline int64_t size_of(const neap_array *array) {
  return neap_array_get_info(array)->size;
}

/* Values go in and out as doubles, by way of astype. */
static inline void set(neap_array *array, int count, const double *values) {
  const neap_array_info *info = neap_array_get_info(array);
  CHECK(count == info->size);
  double *to = malloc((size_t)count * sizeof *to + 1);
  memcpy(to, values, (size_t)count * sizeof *to);
  if (info->dtype == NEAP_FLOAT32)
    for (int i = 0; i < count; i++) ((float *)to)[i] = (float)values[i];
  if (info->dtype == NEAP_INT32)
    for (int i = 0; i < count; i++) ((int32_t *)to)[i] = (int32_t)values[i];
  if (info->dtype == NEAP_INT64)
    for (int i = 0; i < count; i++) ((int64_t *)to)[i] = (int64_t)values[i];
  if (info->dtype == NEAP_INT8 || info->dtype == NEAP_UINT8)
    for (int i = 0; i < count; i++) ((int8_t *)to)[i] = (int8_t)values[i];
  CHECK(info->dtype != NEAP_FLOAT16 && info->dtype != NEAP_BFLOAT16);
  OK(neap_array_write(array, to, (size_t)count * (size_t)info->itemsize));
  free(to);
}

static inline neap_array *filled(neap_context *context, int dtype, int ndim, const int64_t *shape,
                                 int count, const double *values) {
  neap_array *array = empty(context, dtype, ndim, shape);
  set(array, count, values);
  return array;
}

/* The elements as doubles; free() them. Works for any storage type. */
static inline double *values_of(neap_array *array) {
  const neap_array_info *info = neap_array_get_info(array);
  double *values = malloc((size_t)info->size * sizeof *values + 1);
  neap_array *dense = NULL, *wide = NULL;
  OK(neap_tostype(array, NEAP_DENSE, &dense));
  OK(neap_astype(dense, NEAP_FLOAT64, &wide));
  OK(neap_array_read(wide, values, (size_t)info->size * sizeof *values));
  neap_array_close(dense);
  neap_array_close(wide);
  return values;
}

static inline void expect_(const char *file, int line, neap_array *array, double tolerance,
                           int count, const double *values) {
  int64_t size = size_of(array);
  double *got = values_of(array);
  bool same = size == count;
  for (int i = 0; i < count && same; i++) {
    if (isnan(values[i]))
      same = isnan(got[i]);
    else
      same =
          fabs(got[i] - values[i]) <= tolerance * fmax(1, fabs(values[i])) || got[i] == values[i];
    if (!same) fprintf(stderr, "element %d is %.17g, not %.17g\n", i, got[i], values[i]);
  }
  free(got);
  if (!same) {
    fprintf(stderr, "%s:%d: array of %lld elements is not as expected\n", file, line,
            (long long)size);
    exit(1);
  }
}
#define EXPECT(array, ...) expect_(__FILE__, __LINE__, array, 0, VALUES(__VA_ARGS__))
#define EXPECT_NEAR(array, tolerance, ...)                                                         \
  expect_(__FILE__, __LINE__, array, tolerance, VALUES(__VA_ARGS__))

static inline void expect_shape_(const char *file, int line, neap_array *array, int ndim,
                                 const int64_t *shape) {
  const neap_array_info *info = neap_array_get_info(array);
  bool same = info->ndim == ndim;
  int64_t size = 1;
  for (int i = 0; i < ndim && same; i++) {
    same = info->shape[i] == shape[i];
    size *= shape[i];
  }
  if (!same || size != info->size) {
    fprintf(stderr, "%s:%d: shape or size is not as expected\n", file, line);
    exit(1);
  }
}
#define EXPECT_SHAPE(array, ...) expect_shape_(__FILE__, __LINE__, array, SHAPE(__VA_ARGS__))

/* The call fails with this status, and its text has these words. */
#define FAILS(call, status, words)                                                                 \
  do {                                                                                             \
    int got_ = (call);                                                                             \
    if (got_ != (status) || !strstr(neap_error(), words)) {                                        \
      fprintf(stderr, "%s:%d: %s: gave %s, '%s'; wanted %s with '%s'\n", __FILE__, __LINE__,       \
              #call, neap_status_name(got_), neap_error(), neap_status_name(status), words);       \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

static inline neap_array *map2(const char *op, neap_array *a, neap_array *b) {
  neap_array *out = NULL;
  OK(neap_map(neap_op_find(op), (neap_array *[]){a, b}, NULL, &out));
  return out;
}

static inline neap_array *reduced(const char *op, neap_array *a, int axis, int keep) {
  neap_array *out = NULL;
  OK(neap_reduce(neap_op_find(op), a, axis, keep, &out));
  return out;
}

#endif
