/* SPDX-License-Identifier: MIT */
/* array_move_test.c - transpose, concat, stack, take, astype, and errors that come late. */
#include "spec/engine/arrays.h"

static neap_context *c;

static void transpose_reorders_axes(void) {
  neap_array *a = empty(c, NEAP_INT32, SHAPE(2, 3, 4)), *t = NULL, *u = NULL, *back = NULL;
  OK(neap_array_arange(a, 0, 1));
  OK(neap_transpose(a, NULL, &t));
  EXPECT_SHAPE(t, 4, 3, 2);
  double *v = values_of(t);
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 3; j++)
      for (int k = 0; k < 4; k++) CHECK(v[(k * 3 + j) * 2 + i] == (i * 3 + j) * 4 + k);
  free(v);
  OK(neap_transpose(a, (int[]){1, 0, 2}, &u));
  EXPECT_SHAPE(u, 3, 2, 4);
  v = values_of(u);
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 3; j++)
      for (int k = 0; k < 4; k++) CHECK(v[(j * 2 + i) * 4 + k] == (i * 3 + j) * 4 + k);
  free(v);
  OK(neap_transpose(u, (int[]){-2, 0, -1}, &back));
  EXPECT_SHAPE(back, 2, 3, 4);
  v = values_of(back);
  for (int i = 0; i < 24; i++) CHECK(v[i] == i);
  free(v);
  neap_array *none = NULL;
  FAILS(neap_transpose(a, (int[]){0, 0, 1}, &none), NEAP_EINVAL, "axis 0");
  FAILS(neap_transpose(a, (int[]){0, 1, 3}, &none), NEAP_EINVAL, "axis 3");
  neap_array_close(a);
  neap_array_close(t);
  neap_array_close(u);
  neap_array_close(back);
}

static void transposing_large_matrices_reaches_every_element(void) {
  enum { M = 613, N = 407 };
  static const int dtypes[] = {NEAP_FLOAT32, NEAP_FLOAT64, NEAP_UINT8, NEAP_FLOAT16};
  for (int d = 0; d < 4; d++) {
    neap_array *a = empty(c, NEAP_FLOAT64, SHAPE(M, N)), *b = NULL, *t = NULL;
    OK(neap_array_uniform(a, 0, 255));
    OK(neap_astype(a, dtypes[d], &b));
    OK(neap_transpose(b, NULL, &t));
    double *x = values_of(b), *y = values_of(t);
    for (int i = 0; i < M; i++)
      for (int j = 0; j < N; j++) CHECK(y[j * M + i] == x[i * N + j]);
    free(x);
    free(y);
    neap_array_close(a);
    neap_array_close(b);
    neap_array_close(t);
  }
}

static void concat_puts_arrays_behind_each_other(void) {
  neap_array *a = filled(c, NEAP_FLOAT32, SHAPE(2, 2), VALUES(1, 2, 3, 4)),
             *b = filled(c, NEAP_FLOAT32, SHAPE(2, 1), VALUES(5, 6)),
             *d = filled(c, NEAP_FLOAT32, SHAPE(1, 2), VALUES(7, 8)),
             *none = empty(c, NEAP_FLOAT32, SHAPE(2, 0)), *out = NULL;
  OK(neap_concat(4, (neap_array *[]){none, a, none, b}, 1, &out));
  EXPECT_SHAPE(out, 2, 3);
  EXPECT(out, 1, 2, 5, 3, 4, 6);
  neap_array_close(out);
  out = NULL;
  OK(neap_concat(3, (neap_array *[]){a, d, a}, -2, &out));
  EXPECT_SHAPE(out, 5, 2);
  EXPECT(out, 1, 2, 3, 4, 7, 8, 1, 2, 3, 4);
  neap_array_close(out);
  out = NULL;
  OK(neap_concat(2, (neap_array *[]){none, none}, 1, &out));
  EXPECT_SHAPE(out, 2, 0);
  neap_array_close(out);
  out = NULL;
  neap_array *number = empty(c, NEAP_FLOAT32, 0, NULL), *i = empty(c, NEAP_INT32, SHAPE(2, 2));
  FAILS(neap_concat(2, (neap_array *[]){a, b}, 0, &out), NEAP_ESHAPE,
        "concat: shapes (2,2) and (2,1) differ off axis 0");
  FAILS(neap_concat(2, (neap_array *[]){a, i}, 0, &out), NEAP_EDTYPE, "float32 and int32");
  FAILS(neap_concat(1, &number, 0, &out), NEAP_ESHAPE, "() has no axis 0");
  FAILS(neap_concat(0, NULL, 0, &out), NEAP_EINVAL, "no arrays");
  neap_array_close(a);
  neap_array_close(b);
  neap_array_close(d);
  neap_array_close(none);
  neap_array_close(number);
  neap_array_close(i);
}

static void long_concats_are_cut_anywhere(void) {
  enum { OUTER = 301, COUNT = 5 };
  neap_array *parts[COUNT], *out = NULL;
  int64_t width = 0, at = 0;
  for (int i = 0; i < COUNT; i++) {
    parts[i] = empty(c, NEAP_INT64, SHAPE(OUTER, 100 * i + 7));
    OK(neap_array_arange(parts[i], i * 1e9, 1));
    width += 100 * i + 7;
  }
  OK(neap_concat(COUNT, parts, 1, &out));
  EXPECT_SHAPE(out, OUTER, width);
  double *v = values_of(out);
  for (int i = 0; i < COUNT; i++) {
    int64_t w = 100 * i + 7;
    for (int64_t r = 0; r < OUTER; r++)
      for (int64_t k = 0; k < w; k++) CHECK(v[r * width + at + k] == i * 1e9 + (double)(r * w + k));
    at += w;
    neap_array_close(parts[i]);
  }
  free(v);
  neap_array_close(out);
}

static void stack_makes_a_new_axis(void) {
  neap_array *a = filled(c, NEAP_FLOAT32, SHAPE(3), VALUES(1, 2, 3)),
             *b = filled(c, NEAP_FLOAT32, SHAPE(3), VALUES(4, 5, 6)),
             *n = filled(c, NEAP_FLOAT32, 0, NULL, VALUES(7)), *out = NULL;
  OK(neap_stack(2, (neap_array *[]){a, b}, 0, &out));
  EXPECT_SHAPE(out, 2, 3);
  EXPECT(out, 1, 2, 3, 4, 5, 6);
  neap_array_close(out);
  out = NULL;
  OK(neap_stack(2, (neap_array *[]){a, b}, -1, &out));
  EXPECT_SHAPE(out, 3, 2);
  EXPECT(out, 1, 4, 2, 5, 3, 6);
  neap_array_close(out);
  out = NULL;
  OK(neap_stack(2, (neap_array *[]){n, n}, 0, &out));
  EXPECT_SHAPE(out, 2);
  EXPECT(out, 7, 7);
  neap_array_close(out);
  out = NULL;
  neap_array *deep = empty(c, NEAP_FLOAT32, SHAPE(1, 1, 1, 1, 1, 1, 1, 1));
  FAILS(neap_stack(2, (neap_array *[]){a, n}, 0, &out), NEAP_ESHAPE, "(3,) and ()");
  FAILS(neap_stack(2, (neap_array *[]){a, b}, 2, &out), NEAP_ESHAPE, "axis 2");
  FAILS(neap_stack(2, (neap_array *[]){deep, deep}, 0, &out), NEAP_ESHAPE, "9 dimensions");
  neap_array_close(a);
  neap_array_close(b);
  neap_array_close(n);
  neap_array_close(deep);
}

static void take_picks_rows(void) {
  neap_array *a = filled(c, NEAP_FLOAT32, SHAPE(3, 2), VALUES(0, 1, 10, 11, 20, 21)),
             *i = filled(c, NEAP_INT32, SHAPE(2, 2), VALUES(2, 0, 1, 2)),
             *l = filled(c, NEAP_INT64, SHAPE(1), VALUES(1)), *out = NULL;
  OK(neap_take(a, i, &out));
  EXPECT_SHAPE(out, 2, 2, 2);
  EXPECT(out, 20, 21, 0, 1, 10, 11, 20, 21);
  neap_array_close(out);
  out = NULL;
  OK(neap_take(a, l, &out));
  EXPECT_SHAPE(out, 1, 2);
  EXPECT(out, 10, 11);
  neap_array_close(out);
  out = NULL;
  neap_array *f = empty(c, NEAP_FLOAT32, SHAPE(1)), *number = empty(c, NEAP_FLOAT32, 0, NULL);
  FAILS(neap_take(a, f, &out), NEAP_EDTYPE, "int32 or int64, not float32");
  FAILS(neap_take(number, l, &out), NEAP_ESHAPE, "without dimensions");
  neap_array_close(a);
  neap_array_close(i);
  neap_array_close(l);
  neap_array_close(f);
  neap_array_close(number);
}

static void taking_many_rows_is_right_in_every_part(void) {
  enum { ROWS = 1000, ROW = 37, N = 20000 };
  neap_array *a = empty(c, NEAP_FLOAT32, SHAPE(ROWS, ROW)), *ids = empty(c, NEAP_INT32, SHAPE(N)),
             *out = NULL;
  OK(neap_array_arange(a, 0, 1));
  int32_t *v = malloc(N * sizeof *v);
  for (int i = 0; i < N; i++) v[i] = (int32_t)((i * 7919LL) % ROWS);
  OK(neap_array_write(ids, v, N * sizeof *v));
  OK(neap_take(a, ids, &out));
  double *got = values_of(out);
  for (int i = 0; i < N; i++)
    for (int k = 0; k < ROW; k++) CHECK(got[i * ROW + k] == v[i] * ROW + k);
  free(got);
  free(v);
  neap_array_close(a);
  neap_array_close(ids);
  neap_array_close(out);
}

static void astype_is_a_c_cast_that_saturates(void) {
  neap_array *f = filled(c, NEAP_FLOAT64, SHAPE(5), VALUES(-1.9, 1.9, 1e10, NAN, 300)), *out = NULL;
  OK(neap_astype(f, NEAP_INT32, &out));
  EXPECT(out, -1, 1, 2147483647, 0, 300);
  neap_array_close(out);
  out = NULL;
  OK(neap_astype(f, NEAP_UINT8, &out));
  EXPECT(out, 0, 1, 255, 0, 255);
  neap_array_close(out);
  out = NULL;
  neap_array *third = filled(c, NEAP_FLOAT32, SHAPE(1), VALUES(1.0 / 3));
  OK(neap_astype(third, NEAP_FLOAT16, &out));
  EXPECT(out, 0.333251953125); /* 0x3555 */
  neap_array_close(out);
  out = NULL;
  OK(neap_astype(third, NEAP_BFLOAT16, &out));
  EXPECT(out, 0.333984375); /* 0x3eab */
  neap_array_close(out);
  out = NULL;
  OK(neap_astype(third, NEAP_FLOAT32, &out)); /* the same dtype: still a copy */
  CHECK(neap_array_var(out) != neap_array_var(third));
  neap_array_close(out);
  out = NULL;
  FAILS(neap_astype(third, 8, &out), NEAP_EDTYPE, "8");
  neap_array_close(third);
  neap_array_close(f);
}

static void sums_run_in_the_order_given(void) {
  /* In float32, (1e8 + 1) - 1e8 is 0, and (1e8 - 1e8) + 1 is 1. */
  neap_array *a = filled(c, NEAP_FLOAT32, SHAPE(1), VALUES(1e8)),
             *b = filled(c, NEAP_FLOAT32, SHAPE(1), VALUES(1)),
             *d = filled(c, NEAP_FLOAT32, SHAPE(1), VALUES(-1e8)), *out = NULL;
  OK(neap_add_n(3, (neap_array *[]){a, b, d}, &out));
  EXPECT(out, 0);
  OK(neap_add_n(3, (neap_array *[]){a, d, b}, &out));
  EXPECT(out, 1);
  OK(neap_add_n(2, (neap_array *[]){out, out}, &out)); /* into one of the inputs */
  EXPECT(out, 2);
  OK(neap_axpy(out, -0.5, b));
  EXPECT(out, 1.5);
  neap_array *flat = empty(c, NEAP_FLOAT32, SHAPE(1, 1)), *none = NULL,
             *i = filled(c, NEAP_INT32, SHAPE(1), VALUES(3));
  OK(neap_axpy(i, 2, i));
  EXPECT(i, 9);
  FAILS(neap_axpy(i, 0.5, i), NEAP_EDTYPE, "0.5 is no int32");
  FAILS(neap_axpy(a, 1, flat), NEAP_ESHAPE, "(1,) and (1,1)");
  FAILS(neap_add_n(2, (neap_array *[]){a, flat}, &none), NEAP_ESHAPE, "(1,) and (1,1)");
  FAILS(neap_add_n(2, (neap_array *[]){a, i}, &none), NEAP_EDTYPE, "float32 and int32");
  FAILS(neap_add_n(0, NULL, &none), NEAP_EINVAL, "no arrays");
  neap_array_close(a);
  neap_array_close(b);
  neap_array_close(d);
  neap_array_close(out);
  neap_array_close(flat);
  neap_array_close(i);
}

static void late_errors_travel_and_are_told_once(void) {
  neap_array *a = filled(c, NEAP_FLOAT32, SHAPE(3, 2), VALUES(0, 1, 10, 11, 20, 21)),
             *ids = filled(c, NEAP_INT32, SHAPE(3), VALUES(0, 3, 7)), *rows = NULL, *twice = NULL,
             *fine = NULL;
  OK(neap_take(a, ids, &rows)); /* nothing is known yet */
  twice = map2("add", rows, rows);
  fine = map2("add", a, a);
  FAILS(neap_array_wait(twice), NEAP_EINVAL,
        "take: index 3 at position 1 is out of range: there are 3 rows");
  OK(neap_array_wait(twice));
  EXPECT(fine, 0, 2, 20, 22, 40, 42); /* what does not depend on it is not concerned */
  neap_array_close(rows);
  neap_array_close(twice);
  neap_array_close(fine);
  rows = NULL;
  neap_array *l = filled(c, NEAP_INT64, SHAPE(1), VALUES(-1));
  OK(neap_take(a, l, &rows));
  FAILS(neap_wait_all(c), NEAP_EINVAL, "index -1 at position 0");
  OK(neap_wait_all(c));
  float x[2];
  neap_array_close(rows);
  rows = NULL;
  OK(neap_take(a, l, &rows));
  FAILS(neap_array_read(rows, x, sizeof x), NEAP_EINVAL, "take: index -1");
  OK(neap_wait_all(c));
  neap_array_close(rows);
  neap_array_close(l);
  neap_array_close(a);
  neap_array_close(ids);
}

int main(void) {
  c = context_new(NEAP_ENGINE_THREADED, 2);
  transpose_reorders_axes();
  transposing_large_matrices_reaches_every_element();
  concat_puts_arrays_behind_each_other();
  long_concats_are_cut_anywhere();
  stack_makes_a_new_axis();
  take_picks_rows();
  taking_many_rows_is_right_in_every_part();
  astype_is_a_c_cast_that_saturates();
  sums_run_in_the_order_given();
  late_errors_travel_and_are_told_once();
  neap_context_close(c);
  return 0;
}
