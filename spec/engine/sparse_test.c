/* SPDX-License-Identifier: MIT */
/* sparse_test.c - row-sparse arrays against the dense arrays that they stand for. */
#include "spec/engine/arrays.h"

static neap_context *c;

static neap_array *sparse_new(int dtype, int64_t rows, int64_t row) {
  neap_array *s = NULL;
  OK(neap_sparse_create(c, dtype, SHAPE(rows, row), NEAP_CPU, 0, &s));
  return s;
}

/* Rows of two elements. */
static neap_array *sparse_of(int64_t rows, int n, const double *ids, const double *values) {
  neap_array *s = sparse_new(NEAP_FLOAT32, rows, 2),
             *v = filled(c, NEAP_FLOAT32, SHAPE(n, 2), 2 * n, values),
             *i = filled(c, NEAP_INT64, SHAPE(n), n, ids);
  OK(neap_sparse_set(s, v, i));
  neap_array_close(v);
  neap_array_close(i);
  return s;
}
#define LIST(...) ((double[]){__VA_ARGS__})

#define EXPECT_ROWS(sparse, ...)                                                                   \
  do {                                                                                             \
    neap_array *ids_ = NULL;                                                                       \
    OK(neap_sparse_indices(sparse, &ids_));                                                        \
    CHECK(neap_array_get_info(ids_)->ndim == 1);                                                   \
    EXPECT(ids_, __VA_ARGS__);                                                                     \
    neap_array_close(ids_);                                                                        \
  } while (0)

static void a_new_one_has_no_rows(void) {
  neap_array *s = sparse_new(NEAP_FLOAT16, 5, 3), *ids = NULL, *values = NULL;
  const neap_array_info *info = neap_array_get_info(s);
  CHECK(info->stype == NEAP_ROW_SPARSE && info->size == 15 && info->ndim == 2);
  OK(neap_sparse_indices(s, &ids));
  OK(neap_sparse_values(s, &values));
  EXPECT_SHAPE(ids, 0);
  CHECK(neap_array_get_info(ids)->dtype == NEAP_INT64);
  EXPECT_SHAPE(values, 0, 3);
  CHECK(neap_array_get_info(values)->dtype == NEAP_FLOAT16);
  EXPECT(s, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  neap_array_close(s);
  neap_array_close(ids);
  neap_array_close(values);
  s = NULL;
  FAILS(neap_sparse_create(c, NEAP_FLOAT32, 0, NULL, NEAP_CPU, 0, &s), NEAP_ESHAPE, "dimension");
  /* A dense one of this shape could not exist; of this one, a few rows can. */
  OK(neap_sparse_create(c, NEAP_FLOAT64, SHAPE(1LL << 60, 2), NEAP_CPU, 0, &s));
  neap_array *v = filled(c, NEAP_FLOAT64, SHAPE(1, 2), VALUES(1, 2)),
             *i = filled(c, NEAP_INT64, SHAPE(1), VALUES(0x1p59)), *dense = NULL;
  OK(neap_sparse_set(s, v, i));
  EXPECT_ROWS(s, 0x1p59);
  FAILS(neap_tostype(s, NEAP_DENSE, &dense), NEAP_ESHAPE, "too many");
  neap_array_close(s);
  neap_array_close(v);
  neap_array_close(i);
}

static void set_sorts_rows_and_adds_up_repeats(void) {
  neap_array *s = sparse_of(5, 4, LIST(3, 0, 3, 1), LIST(1, 2, 3, 4, 10, 20, 5, 6)), *v = NULL;
  EXPECT_ROWS(s, 0, 1, 3);
  OK(neap_sparse_values(s, &v));
  EXPECT_SHAPE(v, 3, 2);
  EXPECT(v, 3, 4, 5, 6, 11, 22);
  EXPECT(s, 3, 4, 5, 6, 0, 0, 11, 22, 0, 0);
  neap_array_close(v);
  neap_array_close(s);
  /* In the order of appearance: in float32, (1e8 + 1) - 1e8 is 0, (1e8 - 1e8) + 1 is 1. */
  s = sparse_of(2, 3, LIST(1, 1, 1), LIST(1e8, 1e8, 1, -1e8, -1e8, 1));
  EXPECT(s, 0, 0, 0, 1);
  neap_array_close(s);
}

static void large_sets_agree_with_plain_sums(void) {
  enum { ROWS = 3000000, N = 20000 };
  neap_array *s = sparse_new(NEAP_FLOAT64, ROWS, 1), *v = empty(c, NEAP_FLOAT64, SHAPE(N, 1)),
             *i = empty(c, NEAP_INT32, SHAPE(N)), *got = NULL;
  int32_t *ids = malloc(N * sizeof *ids);
  double *sums = calloc(ROWS, sizeof *sums);
  uint32_t x = 1;
  for (int k = 0; k < N; k++) {
    x = x * 1664525u + 1013904223u;
    ids[k] = (int32_t)(k % 3 ? x % ROWS : x % 100);
    sums[ids[k]] += k;
  }
  OK(neap_array_write(i, ids, N * sizeof *ids));
  OK(neap_array_arange(v, 0, 1));
  OK(neap_sparse_set(s, v, i));
  OK(neap_tostype(s, NEAP_DENSE, &got));
  double *g = values_of(got);
  for (int k = 0; k < ROWS; k++) CHECK(g[k] == sums[k]);
  free(ids);
  free(sums);
  free(g);
  neap_array_close(s);
  neap_array_close(v);
  neap_array_close(i);
  neap_array_close(got);
}

static void set_refuses_what_does_not_fit(void) {
  neap_array *s = sparse_new(NEAP_FLOAT32, 5, 2), *v = empty(c, NEAP_FLOAT32, SHAPE(3, 2)),
             *ids = filled(c, NEAP_INT64, SHAPE(2), VALUES(1, 5)),
             *w = filled(c, NEAP_FLOAT32, SHAPE(2, 2), VALUES(1, 2, 3, 4));
  FAILS(neap_sparse_set(s, v, ids), NEAP_ESHAPE, "must have shape (2,2), not (3,2)");
  FAILS(neap_sparse_set(s, w, w), NEAP_EDTYPE, "int32 or int64");
  FAILS(neap_sparse_set(w, w, ids), NEAP_ESTYPE, "row_sparse");
  OK(neap_array_fill(v, 1));
  neap_array *good = filled(c, NEAP_INT64, SHAPE(3), VALUES(1, 2, 3));
  OK(neap_sparse_set(s, v, good));
  EXPECT_ROWS(s, 1, 2, 3);
  OK(neap_sparse_set(s, w, ids)); /* 5 is out of range: known late */
  FAILS(neap_array_wait(s), NEAP_EINVAL,
        "row_sparse: row id 5 at position 1 is out of range: there are 5 rows");
  EXPECT_ROWS(s, 1, 2, 3); /* what was there is there still */
  neap_array_close(s);
  neap_array_close(v);
  neap_array_close(w);
  neap_array_close(ids);
  neap_array_close(good);
}

static void retain_keeps_the_rows_named(void) {
  neap_array *d = empty(c, NEAP_FLOAT32, SHAPE(4, 2)), *out = NULL;
  OK(neap_array_arange(d, 0, 1));
  neap_array *ids = filled(c, NEAP_INT64, SHAPE(2, 2), VALUES(3, 1, 3, 0));
  OK(neap_sparse_retain(d, ids, &out));
  EXPECT_ROWS(out, 0, 1, 3);
  EXPECT(out, 0, 1, 2, 3, 0, 0, 6, 7);
  neap_array *s = sparse_of(4, 2, LIST(1, 2), LIST(5, 6, 7, 8));
  OK(neap_sparse_retain(s, ids, &out)); /* of a row-sparse one: those that are there */
  EXPECT_ROWS(out, 1);
  EXPECT(out, 0, 0, 5, 6, 0, 0, 0, 0);
  OK(neap_sparse_retain(s, ids, &s)); /* into itself */
  EXPECT_ROWS(s, 1);
  neap_array *none = empty(c, NEAP_INT32, SHAPE(0)), *rows = NULL;
  OK(neap_sparse_retain(d, none, &out));
  OK(neap_sparse_indices(out, &rows));
  EXPECT_SHAPE(rows, 0);
  neap_array *bad = filled(c, NEAP_INT32, SHAPE(1), VALUES(4));
  OK(neap_sparse_retain(d, bad, &out));
  FAILS(neap_array_wait(out), NEAP_EINVAL, "retain: row id 4 at position 0");
  neap_array *other = sparse_new(NEAP_FLOAT32, 9, 2);
  FAILS(neap_sparse_retain(d, ids, &other), NEAP_ESHAPE, "(9,2)");
  FAILS(neap_sparse_retain(d, ids, &d), NEAP_ESTYPE, "dense");
  neap_array_close(d);
  neap_array_close(out);
  neap_array_close(ids);
  neap_array_close(s);
  neap_array_close(none);
  neap_array_close(rows);
  neap_array_close(bad);
  neap_array_close(other);
}

static void tostype_goes_both_ways(void) {
  neap_array *d = filled(c, NEAP_FLOAT32, SHAPE(4, 2), VALUES(0, 0, 0, 1, -0.0, 0, 2, 0)),
             *s = NULL, *back = NULL, *again = NULL;
  OK(neap_tostype(d, NEAP_ROW_SPARSE, &s));
  EXPECT_ROWS(s, 1, 3); /* rows that are all zeros are left out */
  OK(neap_tostype(s, NEAP_DENSE, &back));
  EXPECT(back, 0, 0, 0, 1, 0, 0, 2, 0);
  OK(neap_tostype(s, NEAP_ROW_SPARSE, &again));
  CHECK(neap_array_var(again) != neap_array_var(s));
  OK(neap_array_fill(s, 0));
  EXPECT_ROWS(again, 1, 3);
  EXPECT(s, 0, 0, 0, 0, 0, 0, 0, 0);
  neap_array *number = empty(c, NEAP_FLOAT32, 0, NULL), *none = NULL;
  FAILS(neap_tostype(number, NEAP_ROW_SPARSE, &none), NEAP_ESHAPE, "dimensions");
  FAILS(neap_tostype(d, 2, &none), NEAP_EINVAL, "2");
  neap_array_close(d);
  neap_array_close(s);
  neap_array_close(back);
  neap_array_close(again);
  neap_array_close(number);
}

static void every_dtype_and_large_arrays_convert(void) {
  enum { ROWS = 40000, ROW = 5 };
  for (int dtype = 0; dtype < NEAP_NUM_DTYPES; dtype++) {
    neap_array *f = empty(c, NEAP_FLOAT32, SHAPE(ROWS, ROW)), *d = NULL, *s = NULL, *back = NULL;
    float *v = calloc(ROWS * ROW, sizeof *v);
    for (int r = 0; r < ROWS; r += 3) v[r * ROW + r % ROW] = (float)(r % 100 + 1);
    OK(neap_array_write(f, v, ROWS * ROW * sizeof *v));
    OK(neap_astype(f, dtype, &d));
    OK(neap_tostype(d, NEAP_ROW_SPARSE, &s));
    OK(neap_tostype(s, NEAP_DENSE, &back));
    double *got = values_of(back);
    for (int i = 0; i < ROWS * ROW; i++) CHECK(got[i] == v[i]);
    neap_array *ids = NULL;
    OK(neap_sparse_indices(s, &ids));
    CHECK(size_of(ids) == (ROWS + 2) / 3);
    free(got);
    free(v);
    neap_array_close(f);
    neap_array_close(d);
    neap_array_close(s);
    neap_array_close(back);
    neap_array_close(ids);
  }
}

static void sums_are_unions_in_the_order_given(void) {
  neap_array *a = sparse_of(6, 2, LIST(0, 4), LIST(1, 1, 2, 2)),
             *b = sparse_of(6, 3, LIST(2, 4, 5), LIST(3, 3, 4, 4, 5, 5)),
             *none = sparse_new(NEAP_FLOAT32, 6, 2), *out = NULL;
  OK(neap_add_n(3, (neap_array *[]){a, none, b}, &out));
  EXPECT_ROWS(out, 0, 2, 4, 5);
  EXPECT(out, 1, 1, 0, 0, 3, 3, 0, 0, 6, 6, 5, 5);
  OK(neap_add_n(2, (neap_array *[]){a, b}, &a)); /* into one of them */
  EXPECT(a, 1, 1, 0, 0, 3, 3, 0, 0, 6, 6, 5, 5);
  OK(neap_add_n(1, &b, &out));
  EXPECT_ROWS(out, 2, 4, 5);
  neap_array *d = empty(c, NEAP_FLOAT32, SHAPE(6, 2)), *wrong = NULL;
  FAILS(neap_add_n(2, (neap_array *[]){a, d}, &wrong), NEAP_ESTYPE, "do not mix");
  neap_array *many[40], *sum = NULL; /* more than a few */
  for (int i = 0; i < 40; i++) many[i] = sparse_of(6, 1, LIST(i % 6), LIST(1, i));
  OK(neap_add_n(40, many, &sum));
  EXPECT(sum, 7, 126, 7, 133, 7, 140, 7, 147, 6, 114, 6, 120);
  for (int i = 0; i < 40; i++) neap_array_close(many[i]);
  /* In order: (1e8 + 1) - 1e8 is 0 in float32. */
  neap_array *x = sparse_of(1, 1, LIST(0), LIST(1e8, 1e8)),
             *y = sparse_of(1, 1, LIST(0), LIST(1, -1e8)),
             *z = sparse_of(1, 1, LIST(0), LIST(-1e8, 1)), *xyz = NULL;
  OK(neap_add_n(3, (neap_array *[]){x, y, z}, &xyz));
  EXPECT(xyz, 0, 1);
  neap_array_close(x);
  neap_array_close(y);
  neap_array_close(z);
  neap_array_close(xyz);
  neap_array_close(a);
  neap_array_close(b);
  neap_array_close(none);
  neap_array_close(out);
  neap_array_close(d);
  neap_array_close(sum);
}

static void copies_and_dtypes_convert_rows_only(void) {
  neap_array *a = sparse_of(4, 2, LIST(3, 1), LIST(1.5, -2, 3, 4)), *i = NULL, *there = NULL;
  OK(neap_astype(a, NEAP_INT32, &i));
  CHECK(neap_array_get_info(i)->stype == NEAP_ROW_SPARSE);
  EXPECT_ROWS(i, 1, 3);
  EXPECT(i, 0, 0, 3, 4, 0, 0, 1, -2);
  OK(neap_sparse_create(c, NEAP_FLOAT32, SHAPE(4, 2), NEAP_CPU, 3, &there));
  OK(neap_array_copy(a, there));
  OK(neap_array_fill(a, 0));
  EXPECT_ROWS(there, 1, 3);
  OK(neap_array_copy(there, there));
  EXPECT_ROWS(there, 1, 3);
  neap_array *d = empty(c, NEAP_FLOAT32, SHAPE(4, 2));
  FAILS(neap_array_copy(there, d), NEAP_ESTYPE, "tostype('default')");
  FAILS(neap_array_copy(d, there), NEAP_ESTYPE, "tostype('row_sparse')");
  neap_array_close(a);
  neap_array_close(i);
  neap_array_close(there);
  neap_array_close(d);
}

static void dense_operations_say_what_to_do(void) {
  neap_array *s = sparse_of(4, 1, LIST(1), LIST(1, 2)), *out = NULL;
  char bytes[32];
  void *data;
  FAILS(neap_map(neap_op_find("exp"), &s, NULL, &out), NEAP_ESTYPE, "exp: wants a dense array");
  FAILS(neap_map(neap_op_find("exp"), &s, NULL, &out), NEAP_ESTYPE, "tostype('default')");
  FAILS(neap_reduce(neap_op_find("sum"), s, 0, 0, &out), NEAP_ESTYPE, "tostype");
  FAILS(neap_dot(s, s, 1, 0, &out), NEAP_ESTYPE, "tostype");
  FAILS(neap_transpose(s, NULL, &out), NEAP_ESTYPE, "tostype");
  FAILS(neap_concat(1, &s, 0, &out), NEAP_ESTYPE, "tostype");
  FAILS(neap_axpy(s, 1, s), NEAP_ESTYPE, "tostype");
  FAILS(neap_array_reshape(s, SHAPE(8), &out), NEAP_ESTYPE, "tostype");
  FAILS(neap_array_slice(s, 0, 1, &out), NEAP_ESTYPE, "tostype");
  FAILS(neap_array_at(s, 0, &out), NEAP_ESTYPE, "tostype");
  FAILS(neap_array_read(s, bytes, 32), NEAP_ESTYPE, "tostype");
  FAILS(neap_array_write(s, bytes, 32), NEAP_ESTYPE, "tostype");
  FAILS(neap_array_data(s, &data), NEAP_ESTYPE, "tostype");
  FAILS(neap_array_uniform(s, 0, 1), NEAP_ESTYPE, "tostype");
  FAILS(neap_array_fill(s, 1), NEAP_ESTYPE, "0 only");
  neap_array *d = empty(c, NEAP_FLOAT32, SHAPE(4, 2));
  FAILS(neap_sparse_values(d, &out), NEAP_ESTYPE, "tostype('row_sparse')");
  FAILS(neap_sparse_indices(d, &out), NEAP_ESTYPE, "tostype('row_sparse')");
  CHECK(!out);
  neap_array_close(s);
  neap_array_close(d);
}

static void closing_frees_rows_of_queued_work(void) {
  for (int i = 0; i < 50; i++) {
    neap_array *d = empty(c, NEAP_FLOAT32, SHAPE(3000, 4)), *s = NULL, *t = NULL;
    OK(neap_array_fill(d, i));
    OK(neap_tostype(d, NEAP_ROW_SPARSE, &s));
    OK(neap_add_n(2, (neap_array *[]){s, s}, &t));
    neap_array_close(d);
    neap_array_close(s);
    neap_array_close(t);
  }
  OK(neap_wait_all(c));
}

int main(void) {
  c = context_new(NEAP_ENGINE_THREADED, 2);
  a_new_one_has_no_rows();
  set_sorts_rows_and_adds_up_repeats();
  large_sets_agree_with_plain_sums();
  set_refuses_what_does_not_fit();
  retain_keeps_the_rows_named();
  tostype_goes_both_ways();
  every_dtype_and_large_arrays_convert();
  sums_are_unions_in_the_order_given();
  copies_and_dtypes_convert_rows_only();
  dense_operations_say_what_to_do();
  closing_frees_rows_of_queued_work();
  expect_no_memory_in_use(c);
  neap_context_close(c);
  return 0;
}
