/* SPDX-License-Identifier: MIT */
/* array_map_test.c - operations element by element, reductions and products, on facts from
 * NumPy's documentation, closed formulas and plain loops. */
#include "spec/engine/arrays.h"

static neap_context *c;

static neap_array *map1(const char *op, neap_array *a, const double *numbers) {
  neap_array *out = NULL;
  OK(neap_map(neap_op_find(op), (neap_array *[]){a, NULL, NULL}, numbers, &out));
  return out;
}

#define NUMBERS(...) ((double[]){__VA_ARGS__})
#define EXPECT_CLOSE(make, ...)                                                                    \
  do {                                                                                             \
    neap_array *made_ = (make);                                                                    \
    EXPECT_NEAR(made_, 1e-6, __VA_ARGS__);                                                         \
    neap_array_close(made_);                                                                       \
  } while (0)

static void operations_are_known_by_name(void) {
  for (int i = 0; neap_op_name(i); i++) CHECK(neap_op_find(neap_op_name(i)) == i);
  CHECK(neap_op_find("add") >= 0 && neap_op_find("adder") == -1 && neap_op_find(NULL) == -1);
  CHECK(!neap_op_name(-1) && !neap_op_name(1000));
}

static void arithmetic_is_that_of_school(void) {
  neap_array *a = filled(c, NEAP_FLOAT32, SHAPE(4), VALUES(1, -2, 3, 0.5)),
             *b = filled(c, NEAP_FLOAT32, SHAPE(4), VALUES(2, 4, -1, 0.5));
  EXPECT_CLOSE(map2("add", a, b), 3, 2, 2, 1);
  EXPECT_CLOSE(map2("sub", a, b), -1, -6, 4, 0);
  EXPECT_CLOSE(map2("mul", a, b), 2, -8, -3, 0.25);
  EXPECT_CLOSE(map2("div", a, b), 0.5, -0.5, -3, 1);
  EXPECT_CLOSE(map2("maximum", a, b), 2, 4, 3, 0.5);
  EXPECT_CLOSE(map2("minimum", a, b), 1, -2, -1, 0.5);
  EXPECT_CLOSE(map2("equal", a, b), 0, 0, 0, 1);
  EXPECT_CLOSE(map2("greater", a, b), 0, 0, 1, 0);
  EXPECT_CLOSE(map2("less", a, b), 1, 1, 0, 0);
  EXPECT_CLOSE(map1("neg", a, NULL), -1, 2, -3, -0.5);
  EXPECT_CLOSE(map1("abs", a, NULL), 1, 2, 3, 0.5);
  EXPECT_CLOSE(map1("sign", a, NULL), 1, -1, 1, 1);
  EXPECT_CLOSE(map1("square", a, NULL), 1, 4, 9, 0.25);
  EXPECT_CLOSE(map1("relu", a, NULL), 1, 0, 3, 0.5);
  EXPECT_CLOSE(map1("exp", a, NULL), exp(1), exp(-2), exp(3), exp(0.5));
  EXPECT_CLOSE(map1("tanh", a, NULL), tanh(1), tanh(-2), tanh(3), tanh(0.5));
  EXPECT_CLOSE(map1("sigmoid", a, NULL), 1 / (1 + exp(-1)), 1 / (1 + exp(2)), 1 / (1 + exp(-3)),
               1 / (1 + exp(-0.5)));
  EXPECT_CLOSE(map1("log", a, NULL), 0, NAN, log(3), log(0.5));
  EXPECT_CLOSE(map1("sqrt", a, NULL), 1, NAN, sqrt(3), sqrt(0.5));
  EXPECT_CLOSE(map1("clip", a, NUMBERS(0, -1, 1)), 1, -1, 1, 0.5);
  EXPECT_CLOSE(map2("pow", a, b), 1, 16, 1.0 / 3, sqrt(0.5));
  neap_array_close(a);
  neap_array_close(b);
}

static void numbers_stand_in_any_place(void) {
  neap_array *a = filled(c, NEAP_FLOAT64, SHAPE(2), VALUES(4, 8)), *out = NULL;
  int sub = neap_op_find("sub"), where = neap_op_find("where");
  EXPECT_CLOSE(map1("sub", a, NUMBERS(0, 1)), 3, 7);
  OK(neap_map(sub, (neap_array *[]){NULL, a}, NUMBERS(1, 0), &out));
  EXPECT(out, -3, -7);
  neap_array *cond = filled(c, NEAP_FLOAT64, SHAPE(2, 1), VALUES(0, 2)), *picked = NULL;
  OK(neap_map(where, (neap_array *[]){cond, a, NULL}, NUMBERS(0, 0, -1), &picked));
  EXPECT_SHAPE(picked, 2, 2);
  EXPECT(picked, -1, -1, 4, 8);
  neap_array *none = NULL;
  FAILS(neap_map(sub, (neap_array *[]){NULL, NULL}, NUMBERS(1, 0), &none), NEAP_EINVAL,
        "sub: at least one");
  FAILS(neap_map(sub, (neap_array *[]){a, NULL}, NULL, &none), NEAP_EINVAL, "place 1");
  FAILS(neap_map(sub, NULL, NULL, &none), NEAP_EINVAL, "no inputs");
  FAILS(neap_map(sub, (neap_array *[]){a, a}, NULL, NULL), NEAP_EINVAL, "no place");
  FAILS(neap_map(-1, (neap_array *[]){a}, NULL, &none), NEAP_EINVAL, "no operation -1");
  FAILS(neap_map(neap_op_find("sum"), (neap_array *[]){a}, NULL, &none), NEAP_EINVAL, "sum");
  neap_array_close(a);
  neap_array_close(out);
  neap_array_close(cond);
  neap_array_close(picked);
}

static void shapes_broadcast_as_in_numpy(void) {
  /* The example of NumPy's manual, and each way of lacking a dimension. */
  neap_array *column = filled(c, NEAP_FLOAT32, SHAPE(4, 1), VALUES(0, 10, 20, 30)),
             *row = filled(c, NEAP_FLOAT32, SHAPE(3), VALUES(1, 2, 3)),
             *number = filled(c, NEAP_FLOAT32, 0, NULL, VALUES(5));
  neap_array *table = map2("add", column, row);
  EXPECT_SHAPE(table, 4, 3);
  EXPECT(table, 1, 2, 3, 11, 12, 13, 21, 22, 23, 31, 32, 33);
  neap_array *more = map2("sub", number, table);
  EXPECT(more, 4, 3, 2, -6, -7, -8, -16, -17, -18, -26, -27, -28);
  /* (2,1,2) with (3,1): every element against i, j, k. */
  neap_array *a = filled(c, NEAP_FLOAT32, SHAPE(2, 1, 2), VALUES(1, 2, 3, 4)),
             *b = filled(c, NEAP_FLOAT32, SHAPE(3, 1), VALUES(10, 20, 30)), *ab = map2("mul", a, b);
  EXPECT_SHAPE(ab, 2, 3, 2);
  EXPECT(ab, 10, 20, 20, 40, 30, 60, 30, 40, 60, 80, 90, 120);
  neap_array *none = empty(c, NEAP_FLOAT32, SHAPE(0, 3)), *still = map2("add", none, row);
  EXPECT_SHAPE(still, 0, 3);
  neap_array *out = NULL, *four = empty(c, NEAP_FLOAT32, SHAPE(4));
  FAILS(neap_map(neap_op_find("add"), (neap_array *[]){table, four}, NULL, &out), NEAP_ESHAPE,
        "add: shapes (4,3) and (4,) do not broadcast");
  neap_array_close(column);
  neap_array_close(row);
  neap_array_close(number);
  neap_array_close(table);
  neap_array_close(more);
  neap_array_close(a);
  neap_array_close(b);
  neap_array_close(ab);
  neap_array_close(none);
  neap_array_close(still);
  neap_array_close(four);
}

static void large_broadcasts_reach_every_element(void) {
  enum { M = 700, N = 300 }; /* several parts */
  neap_array *row = empty(c, NEAP_FLOAT64, SHAPE(N)), *column = empty(c, NEAP_FLOAT64, SHAPE(M, 1));
  OK(neap_array_arange(row, 0, 1));
  OK(neap_array_arange(column, 0, 1000));
  neap_array *table = map2("add", column, row);
  double *got = values_of(table);
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++) CHECK(got[i * N + j] == i * 1000.0 + j);
  free(got);
  neap_array_close(row);
  neap_array_close(column);
  neap_array_close(table);
}

static void dtypes_do_not_mix_and_the_text_helps(void) {
  neap_array *f = filled(c, NEAP_FLOAT32, SHAPE(2), VALUES(1, 2)),
             *i = filled(c, NEAP_INT32, SHAPE(2), VALUES(1, 2)), *out = NULL;
  FAILS(neap_map(neap_op_find("add"), (neap_array *[]){f, i}, NULL, &out), NEAP_EDTYPE,
        "float32 and int32 do not mix; astype('float32')");
  FAILS(neap_map(neap_op_find("exp"), &i, NULL, &out), NEAP_EDTYPE, "astype('float32')");
  FAILS(neap_reduce(neap_op_find("mean"), i, 0, 0, &out), NEAP_EDTYPE, "astype('float32')");
  FAILS(neap_map(neap_op_find("add"), (neap_array *[]){i, NULL}, NUMBERS(0, 0.5), &out),
        NEAP_EDTYPE, "add: 0.5 is no int32");
  FAILS(neap_map(neap_op_find("add"), (neap_array *[]){i, NULL}, NUMBERS(0, 3e9), &out),
        NEAP_EDTYPE, "3e+09 is no int32");
  FAILS(neap_map(neap_op_find("clip"), &i, NUMBERS(0, 0.5, 2), &out), NEAP_EDTYPE, "0.5");
  EXPECT_CLOSE(map1("clip", i, NUMBERS(0, -INFINITY, 1)), 1, 1);
  EXPECT_CLOSE(map1("clip", i, NUMBERS(0, -1e12, 1e12)), 1, 2);
  EXPECT_CLOSE(map1("add", i, NUMBERS(0, 3)), 4, 5);
  CHECK(!out);
  neap_array_close(f);
  neap_array_close(i);
}

static void integers_wrap(void) {
  neap_array *a = filled(c, NEAP_INT32, SHAPE(1), VALUES(2147483647)),
             *u = filled(c, NEAP_UINT8, SHAPE(1), VALUES(255));
  EXPECT_CLOSE(map1("add", a, NUMBERS(0, 1)), -2147483648.0);
  EXPECT_CLOSE(map1("add", u, NUMBERS(0, 2)), 1);
  neap_array_close(a);
  neap_array_close(u);
}

static void devices_do_not_mix_and_the_text_helps(void) {
  neap_array *a = filled(c, NEAP_FLOAT32, SHAPE(2), VALUES(1, 2)), *b = NULL, *out = NULL;
  OK(neap_array_create(c, NEAP_FLOAT32, SHAPE(2), NEAP_CPU, 1, &b));
  OK(neap_array_fill(b, 1));
  FAILS(neap_map(neap_op_find("add"), (neap_array *[]){a, b}, NULL, &out), NEAP_EINVAL,
        "cpu(0) and cpu(1); bring them together with as_in_context");
  FAILS(neap_axpy(a, 1, b), NEAP_EINVAL, "as_in_context");
  neap_array *here = empty(c, NEAP_FLOAT32, SHAPE(2));
  FAILS(neap_map(neap_op_find("exp"), &b, NULL, &here), NEAP_EINVAL, "as_in_context");
  neap_array *there = map2("add", b, b);
  CHECK(neap_array_get_info(there)->device_id == 1);
  neap_array *sum = NULL;
  OK(neap_add_n(2, (neap_array *[]){a, b}, &sum)); /* sums cross devices */
  CHECK(neap_array_get_info(sum)->device_id == 0);
  EXPECT(sum, 2, 3);
  OK(neap_add_n(2, (neap_array *[]){a, b}, &there));
  EXPECT(there, 2, 3);
  neap_array_close(a);
  neap_array_close(b);
  neap_array_close(here);
  neap_array_close(there);
  neap_array_close(sum);
}

static void outputs_may_be_given(void) {
  int add = neap_op_find("add");
  neap_array *a = filled(c, NEAP_FLOAT32, SHAPE(2, 2), VALUES(1, 2, 3, 4)), *out = a;
  OK(neap_map(add, (neap_array *[]){a, a}, NULL, &out));
  CHECK(out == a);
  EXPECT(a, 2, 4, 6, 8);
  neap_array *other = empty(c, NEAP_FLOAT32, SHAPE(4)), *wide = empty(c, NEAP_FLOAT64, SHAPE(2, 2));
  FAILS(neap_map(add, (neap_array *[]){a, a}, NULL, &other), NEAP_ESHAPE,
        "add: the output has shape (4,), the result (2,2)");
  FAILS(neap_map(add, (neap_array *[]){a, a}, NULL, &wide), NEAP_EDTYPE, "float64");
  neap_array_close(a);
  neap_array_close(other);
  neap_array_close(wide);
}

static void outputs_that_overlap_inputs_come_out_right(void) {
  enum { N = 150000 };
  neap_array *a = empty(c, NEAP_FLOAT64, SHAPE(N)), *low = NULL, *high = NULL, *first = NULL;
  OK(neap_array_slice(a, 0, N - 1, &low));
  OK(neap_array_slice(a, 1, N, &high));
  OK(neap_array_slice(a, 0, 1, &first));
  OK(neap_array_arange(a, 0, 1));
  /* low and high read before high is written: a[i + 1] = i + (i + 1) */
  OK(neap_map(neap_op_find("add"), (neap_array *[]){low, high}, NULL, &high));
  double *v = values_of(a);
  CHECK(v[0] == 0);
  for (int i = 1; i < N; i++) CHECK(v[i] == 2.0 * i - 1);
  free(v);
  OK(neap_array_arange(a, 0, 1));
  OK(neap_axpy(low, 10, high)); /* a[i] = i + 10 (i + 1) */
  v = values_of(a);
  for (int i = 0; i < N - 1; i++) CHECK(v[i] == 11.0 * i + 10);
  free(v);
  /* A broadcast input inside the output: every element gets the old a[0]. */
  OK(neap_array_arange(a, 7, 1));
  OK(neap_map(neap_op_find("sub"), (neap_array *[]){a, first}, NULL, &a));
  v = values_of(a);
  for (int i = 0; i < N; i++) CHECK(v[i] == i);
  free(v);
  OK(neap_reduce(neap_op_find("sum"), a, 0, 1, &first)); /* the sum goes into what is summed */
  EXPECT(first, N * (N - 1.0) / 2);
  neap_array *m = filled(c, NEAP_FLOAT32, SHAPE(2, 2), VALUES(1, 2, 3, 4));
  OK(neap_transpose(m, NULL, &m));
  EXPECT(m, 1, 3, 2, 4);
  OK(neap_dot(m, m, 0, 0, &m));
  EXPECT(m, 7, 15, 10, 22);
  OK(neap_reduce(neap_op_find("softmax"), m, 1, 0, &m));
  neap_array_close(a);
  neap_array_close(low);
  neap_array_close(high);
  neap_array_close(first);
  neap_array_close(m);
}

/* ---- Reductions ------------------------------------------------------------------------------ */

static void reductions_run_along_any_axis(void) {
  neap_array *a = empty(c, NEAP_FLOAT32, SHAPE(2, 3, 4));
  OK(neap_array_arange(a, 0, 1));
  neap_array *s = reduced("sum", a, 0, 0);
  EXPECT_SHAPE(s, 3, 4);
  EXPECT(s, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34);
  neap_array_close(s);
  s = reduced("sum", a, 1, 1);
  EXPECT_SHAPE(s, 2, 1, 4);
  EXPECT(s, 12, 15, 18, 21, 48, 51, 54, 57);
  neap_array_close(s);
  s = reduced("mean", a, -1, 0);
  EXPECT_SHAPE(s, 2, 3);
  EXPECT(s, 1.5, 5.5, 9.5, 13.5, 17.5, 21.5);
  neap_array_close(s);
  s = reduced("max", a, 2, 0);
  EXPECT(s, 3, 7, 11, 15, 19, 23);
  neap_array_close(s);
  s = reduced("argmax", a, 1, 0);
  CHECK(neap_array_get_info(s)->dtype == NEAP_INT64);
  EXPECT(s, 2, 2, 2, 2, 2, 2, 2, 2);
  neap_array_close(s);
  s = reduced("norm", a, NEAP_ALL_AXES, 0);
  CHECK(neap_array_get_info(s)->ndim == 0);
  EXPECT_NEAR(s, 1e-7, sqrt(4324)); /* sum of squares below 24: 23 * 24 * 47 / 6 */
  neap_array_close(s);
  s = reduced("min", a, NEAP_ALL_AXES, 1);
  EXPECT_SHAPE(s, 1, 1, 1);
  EXPECT(s, 0);
  neap_array_close(s);
  neap_array *out = NULL;
  FAILS(neap_reduce(neap_op_find("sum"), a, 3, 0, &out), NEAP_ESHAPE,
        "sum: shape (2,3,4) has no axis 3");
  FAILS(neap_reduce(neap_op_find("sum"), a, -4, 0, &out), NEAP_ESHAPE, "no axis -4");
  FAILS(neap_reduce(neap_op_find("add"), a, 0, 0, &out), NEAP_EINVAL, "add");
  neap_array_close(a);
}

static void empty_axes_sum_to_nothing_and_have_no_largest(void) {
  neap_array *a = empty(c, NEAP_FLOAT32, SHAPE(0, 3)), *out = NULL;
  EXPECT_CLOSE(reduced("sum", a, 0, 0), 0, 0, 0);
  EXPECT_CLOSE(reduced("sum", a, NEAP_ALL_AXES, 0), 0);
  EXPECT_CLOSE(reduced("norm", a, 0, 0), 0, 0, 0);
  EXPECT_CLOSE(reduced("mean", a, 0, 0), NAN, NAN, NAN);
  static const char *const ops[] = {"max", "min", "argmax"};
  for (int i = 0; i < 3; i++) {
    FAILS(neap_reduce(neap_op_find(ops[i]), a, 0, 0, &out), NEAP_ESHAPE, "(0,3)");
    FAILS(neap_reduce(neap_op_find(ops[i]), a, NEAP_ALL_AXES, 0, &out), NEAP_ESHAPE, ops[i]);
    neap_array *none = reduced(ops[i], a, 1, 0);
    EXPECT_SHAPE(none, 0);
    neap_array_close(none);
  }
  neap_array *same = reduced("softmax", a, 1, 0);
  EXPECT_SHAPE(same, 0, 3);
  neap_array_close(same);
  neap_array *number = filled(c, NEAP_FLOAT32, 0, NULL, VALUES(-4));
  EXPECT_CLOSE(reduced("sum", number, NEAP_ALL_AXES, 0), -4);
  EXPECT_CLOSE(reduced("argmax", number, NEAP_ALL_AXES, 0), 0);
  neap_array_close(number);
  neap_array_close(a);
}

static void integer_sums_are_wide(void) {
  enum { N = 300000 };
  neap_array *a = empty(c, NEAP_INT8, SHAPE(N));
  OK(neap_array_fill(a, 100));
  neap_array *s = reduced("sum", a, NEAP_ALL_AXES, 0);
  CHECK(neap_array_get_info(s)->dtype == NEAP_INT64);
  EXPECT(s, N * 100.0);
  neap_array_close(s);
  s = reduced("max", a, 0, 0);
  CHECK(neap_array_get_info(s)->dtype == NEAP_INT8);
  EXPECT(s, 100);
  neap_array_close(s);
  neap_array_close(a);
}

static void sums_of_many_are_those_of_closed_formulas(void) {
  enum { N = 1000000 };
  neap_array *a = empty(c, NEAP_FLOAT32, SHAPE(N)), *halves = NULL;
  OK(neap_array_arange(a, 0, 1)); /* exact in float32 */
  EXPECT_CLOSE(reduced("sum", a, NEAP_ALL_AXES, 0), N * (N - 1.0) / 2);
  EXPECT_CLOSE(reduced("sum", a, 0, 0), N * (N - 1.0) / 2);
  EXPECT_CLOSE(reduced("mean", a, 0, 0), (N - 1.0) / 2);
  EXPECT_CLOSE(reduced("norm", a, 0, 0), sqrt((N - 1.0) * N * (2.0 * N - 1) / 6));
  EXPECT_CLOSE(reduced("max", a, 0, 0), N - 1);
  EXPECT_CLOSE(reduced("min", a, 0, 0), 0);
  EXPECT_CLOSE(reduced("argmax", a, 0, 0), N - 1);
  OK(neap_array_reshape(a, SHAPE(2, N / 2), &halves));
  EXPECT_CLOSE(reduced("mean", halves, 1, 0), (N / 2 - 1) / 2.0, (N / 2 - 1) / 2.0 + N / 2);
  neap_array *columns = NULL;
  OK(neap_array_reshape(a, SHAPE(N / 5, 5), &columns));
  EXPECT_CLOSE(reduced("min", columns, 0, 0), 0, 1, 2, 3, 4);
  EXPECT_CLOSE(reduced("argmax", columns, 0, 0), N / 5 - 1, N / 5 - 1, N / 5 - 1, N / 5 - 1,
               N / 5 - 1);
  neap_array_close(a);
  neap_array_close(halves);
  neap_array_close(columns);
}

static void argmax_finds_the_first_of_the_largest_or_of_the_nans(void) {
  enum { N = 400000, FIRST = 131072 + 7, SECOND = 262144 + 1 };
  neap_array *a = empty(c, NEAP_FLOAT32, SHAPE(N));
  float *v = calloc(N, sizeof *v);
  v[FIRST] = v[SECOND] = 5;
  OK(neap_array_write(a, v, N * sizeof *v));
  EXPECT_CLOSE(reduced("argmax", a, 0, 0), FIRST);
  v[SECOND] = v[SECOND + 65536] = NAN;
  OK(neap_array_write(a, v, N * sizeof *v));
  EXPECT_CLOSE(reduced("argmax", a, 0, 0), SECOND);
  EXPECT_CLOSE(reduced("max", a, 0, 0), NAN);
  EXPECT_CLOSE(reduced("min", a, 0, 0), NAN);
  free(v);
  neap_array_close(a);
}

static void softmax_sums_to_one_and_keeps_its_shape(void) {
  neap_array *a = filled(c, NEAP_FLOAT64, SHAPE(2, 3), VALUES(1, 2, 3, 1000, 1000, 1000));
  double z = exp(1) + exp(2) + exp(3);
  EXPECT_CLOSE(reduced("softmax", a, 1, 0), exp(1) / z, exp(2) / z, exp(3) / z, 1.0 / 3, 1.0 / 3,
               1.0 / 3);
  EXPECT_CLOSE(reduced("log_softmax", a, -1, 0), 1 - log(z), 2 - log(z), 3 - log(z), -log(3),
               -log(3), -log(3));
  neap_array *b = reduced("softmax", a, NEAP_ALL_AXES, 0);
  EXPECT_SHAPE(b, 2, 3);
  EXPECT_NEAR(b, 1e-6, 0, 0, 0, 1.0 / 3, 1.0 / 3, 1.0 / 3);
  neap_array_close(a);
  neap_array_close(b);
}

/* ---- Products -------------------------------------------------------------------------------- */

static void check_product(int dtype, int m, int k, int n, int ta, int tb) {
  neap_array *a = NULL, *b = NULL, *out = NULL;
  int64_t as[2] = {ta ? k : m, ta ? m : k}, bs[2] = {tb ? n : k, tb ? k : n};
  a = empty(c, dtype, 2, as);
  b = empty(c, dtype, 2, bs);
  OK(neap_array_uniform(a, -1, 1));
  OK(neap_array_uniform(b, -1, 1));
  OK(neap_dot(a, b, ta, tb, &out));
  EXPECT_SHAPE(out, m, n);
  double *x = values_of(a), *y = values_of(b), *z = values_of(out);
  for (int i = 0; i<m; i += m> 50 ? 7 : 1)
    for (int j = 0; j < n; j++) {
      double sum = 0;
      for (int l = 0; l < k; l++)
        sum += x[ta ? l * m + i : i * k + l] * y[tb ? j * k + l : l * n + j];
      CHECK(fabs(z[i * n + j] - sum) < (dtype == NEAP_FLOAT32 ? 1e-6 : 1e-14) * (k + 1));
    }
  free(x);
  free(y);
  free(z);
  neap_array_close(a);
  neap_array_close(b);
  neap_array_close(out);
}

static void products_are_those_of_plain_loops(void) {
  static const int sizes[][3] = {{2, 3, 4},       {1, 1, 1},      {5, 1, 3},    {3, 0, 2},
                                 {0, 3, 2},       {1, 7, 0},      {33, 65, 17}, {130, 784, 65},
                                 {257, 300, 190}, {300, 210, 400}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int t = 0; t < 4; t++) {
      check_product(NEAP_FLOAT32, sizes[i][0], sizes[i][1], sizes[i][2], t & 1, t >> 1);
      check_product(NEAP_FLOAT64, sizes[i][0], sizes[i][1], sizes[i][2], t & 1, t >> 1);
    }
}

static void vectors_multiply_as_in_the_manual(void) {
  neap_array *m = filled(c, NEAP_FLOAT32, SHAPE(2, 3), VALUES(1, 2, 3, 4, 5, 6)),
             *v = filled(c, NEAP_FLOAT32, SHAPE(3), VALUES(1, 0, -1)),
             *w = filled(c, NEAP_FLOAT32, SHAPE(2), VALUES(1, 2)), *out = NULL;
  OK(neap_dot(v, v, 0, 0, &out));
  CHECK(neap_array_get_info(out)->ndim == 0);
  EXPECT(out, 2);
  neap_array_close(out);
  out = NULL;
  OK(neap_dot(m, v, 0, 0, &out));
  EXPECT_SHAPE(out, 2);
  EXPECT(out, -2, -2);
  neap_array_close(out);
  out = NULL;
  OK(neap_dot(w, m, 0, 0, &out));
  EXPECT_SHAPE(out, 3);
  EXPECT(out, 9, 12, 15);
  neap_array_close(out);
  out = NULL;
  OK(neap_dot(m, w, 1, 0, &out));
  EXPECT(out, 9, 12, 15);
  neap_array_close(out);
  out = NULL;
  neap_array *i = empty(c, NEAP_INT32, SHAPE(3)), *cube = empty(c, NEAP_FLOAT32, SHAPE(1, 1, 3));
  FAILS(neap_dot(m, m, 0, 0, &out), NEAP_ESHAPE, "dot: shapes (2,3) and (2,3) do not fit");
  FAILS(neap_dot(m, v, 1, 0, &out), NEAP_ESHAPE, "(2,3) transposed and (3,)");
  FAILS(neap_dot(i, i, 0, 0, &out), NEAP_EDTYPE, "astype('float32')");
  FAILS(neap_dot(m, cube, 0, 0, &out), NEAP_ESHAPE, "(1,1,3)");
  neap_array_close(m);
  neap_array_close(v);
  neap_array_close(w);
  neap_array_close(i);
  neap_array_close(cube);
}

/* ---- The same bits --------------------------------------------------------------------------- */

/* Runs much of the above and gives a sum over all resulting bits. */
static uint64_t digest(int engine, int threads) {
  neap_context *own = context_new(engine, threads);
  neap_array *a = empty(own, NEAP_FLOAT32, SHAPE(517, 389)),
             *b = empty(own, NEAP_FLOAT32, SHAPE(389)), *outs[16] = {0};
  OK(neap_seed(own, 7));
  OK(neap_array_normal(a, 0, 1));
  OK(neap_array_uniform(b, -1, 1));
  int n = 0;
  outs[n++] = map2("mul", a, b);
  outs[n++] = reduced("sum", a, NEAP_ALL_AXES, 0);
  outs[n++] = reduced("norm", a, NEAP_ALL_AXES, 0);
  outs[n++] = reduced("mean", a, 0, 0);
  outs[n++] = reduced("sum", a, 1, 0);
  outs[n++] = reduced("softmax", a, 1, 0);
  OK(neap_map(neap_op_find("tanh"), &a, NULL, &outs[n++]));
  OK(neap_dot(a, a, 1, 0, &outs[n++]));
  OK(neap_dot(a, b, 0, 0, &outs[n++]));
  OK(neap_transpose(a, NULL, &outs[n++]));
  OK(neap_add_n(3, (neap_array *[]){a, outs[0], a}, &outs[n++]));
  OK(neap_axpy(a, 0.1, outs[0]));
  OK(neap_astype(a, NEAP_BFLOAT16, &outs[n++]));
  outs[n++] = a;
  uint64_t sum = 14695981039346656037u;
  for (int i = 0; i < n; i++) {
    size_t bytes = (size_t)size_of(outs[i]) * (size_t)neap_array_get_info(outs[i])->itemsize;
    unsigned char *data;
    OK(neap_array_data(outs[i], (void **)&data));
    for (size_t k = 0; k < bytes; k++) sum = (sum ^ data[k]) * 1099511628211u;
    neap_array_close(outs[i]);
  }
  neap_array_close(b);
  neap_context_close(own);
  return sum;
}

static void any_engine_and_number_of_threads_give_the_same_bits(void) {
  uint64_t naive = digest(NEAP_ENGINE_NAIVE, 0);
  CHECK(digest(NEAP_ENGINE_THREADED, 0) == naive);
  CHECK(digest(NEAP_ENGINE_THREADED, 1) == naive);
  CHECK(digest(NEAP_ENGINE_THREADED, 4) == naive);
}

int main(void) {
  c = context_new(NEAP_ENGINE_THREADED, 2);
  operations_are_known_by_name();
  arithmetic_is_that_of_school();
  numbers_stand_in_any_place();
  shapes_broadcast_as_in_numpy();
  large_broadcasts_reach_every_element();
  dtypes_do_not_mix_and_the_text_helps();
  integers_wrap();
  devices_do_not_mix_and_the_text_helps();
  outputs_may_be_given();
  outputs_that_overlap_inputs_come_out_right();
  reductions_run_along_any_axis();
  empty_axes_sum_to_nothing_and_have_no_largest();
  integer_sums_are_wide();
  sums_of_many_are_those_of_closed_formulas();
  argmax_finds_the_first_of_the_largest_or_of_the_nans();
  softmax_sums_to_one_and_keeps_its_shape();
  products_are_those_of_plain_loops();
  vectors_multiply_as_in_the_manual();
  any_engine_and_number_of_threads_give_the_same_bits();
  neap_context_close(c);
  return 0;
}
