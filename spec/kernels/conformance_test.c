/* SPDX-License-Identifier: MIT */
/* conformance_test.c - every row of ops.def, every dtype, every table that runs here, against a
 * plain computation of the same, and the tables against each other bit for bit.
 *
 * Driven by ops.def: a row without a reference here fails. */
#include "spec/kernels/conformance_codec.h"
#include "kernels/philox.h"

static const int64_t sizes[] = {0, 1, 7, 1023, 1025, MOST};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* What the dtype is computed in: one rounding to it. */
static double R(int dtype, double value) {
  return dtype == NEAP_K_F64 ? value : (float)value;
}
static number F(double value) {
  return (number){value, 0};
}
static number I(int64_t value) {
  return (number){0, value};
}

/* ---- Element by element --------------------------------------------------------------------- */

/* The largest error of a float result, as multiples of the dtype's unit at it. */
enum { EXACT = 0, CLOSE = 4 };

typedef struct map_reference {
  const char *name;
  int error;
  long double (*on_floats)(double a, double b, double c, double s0, double s1);
  int64_t (*on_integers)(int64_t a, int64_t b, int64_t c, int64_t s0, int64_t s1);
} map_reference;

/* Basic operations in double, which gives floats and doubles the right rounding; functions in long
 * double, to be more exact than what they are compared with. */
#define REAL_EXACT double
#define REAL_CLOSE long double
#define MAP(name, error, floats, integers)                                                         \
  static long double name##_floats(double a_, double b_, double c_, double s0, double s1) {        \
    const REAL_##error a = a_, b = b_, c = c_;                                                     \
    (void)a, (void)b, (void)c;                                                                     \
    return floats;                                                                                 \
  }                                                                                                \
  static int64_t name##_integers(int64_t a, int64_t b, int64_t c, int64_t s0, int64_t s1) {        \
    return integers;                                                                               \
  }
#define U(x) ((uint64_t)(x))
#define MAPS(M)                                                                                    \
  M(add, EXACT, a + b, (int64_t)(U(a) + U(b)))                                                     \
  M(sub, EXACT, a - b, (int64_t)(U(a) - U(b)))                                                     \
  M(mul, EXACT, a *b, (int64_t)(U(a) * U(b)))                                                      \
  M(div, EXACT, a / b, 0)                                                                          \
  M(pow, CLOSE, powl(a, b), 0)                                                                     \
  M(maximum, EXACT, isnan(a) || isnan(b) ? NAN : fmaxl(a, b), a > b ? a : b)                       \
  M(minimum, EXACT, isnan(a) || isnan(b) ? NAN : fminl(a, b), a < b ? a : b)                       \
  M(equal, EXACT, a == b, a == b)                                                                  \
  M(greater, EXACT, a > b, a > b)                                                                  \
  M(less, EXACT, a < b, a < b)                                                                     \
  M(where, EXACT, a != 0 ? b : c, a ? b : c)                                                       \
  M(neg, EXACT, -a, (int64_t)(0 - U(a)))                                                           \
  M(abs, EXACT, fabsl(a), (int64_t)(a < 0 ? 0 - U(a) : U(a)))                                      \
  M(sign, EXACT, isnan(a) ? a : (a > 0) - (a < 0), (a > 0) - (a < 0))                              \
  M(square, EXACT, a *a, (int64_t)(U(a) * U(a)))                                                   \
  M(relu, EXACT, isnan(a) ? a : fmaxl(a, 0), a > 0 ? a : 0)                                        \
  M(clip, EXACT, isnan(a) ? a : fminl(fmaxl(a, s0), s1), a<s0 ? s0 : a> s1 ? s1 : a)               \
  M(exp, CLOSE, expl(a), 0)                                                                        \
  M(log, CLOSE, logl(a), 0)                                                                        \
  M(sqrt, EXACT, sqrt(a), 0)                                                                       \
  M(tanh, CLOSE, tanhl(a), 0)                                                                      \
  M(sigmoid, CLOSE, 1 / (1 + expl(-a)), 0)
MAPS(MAP)
#define ROW(name, error, floats, integers) {#name, error, name##_floats, name##_integers},
static const map_reference map_references[] = {MAPS(ROW)};
enum { MAP_REFERENCES = sizeof map_references / sizeof *map_references };

static const map_reference *map_reference_of(int op) {
  for (int i = 0; i < MAP_REFERENCES; i++)
    if (strcmp(map_references[i].name, neap_k_ops[op].name) == 0) return &map_references[i];
  return NULL;
}

static double unit_at(int dtype, double value) {
  int exponent, least = 2 - (1 << (exponent_bits(dtype) - 1));
  frexp(value, &exponent);
  return ldexp(1, (exponent - 1 > least ? exponent - 1 : least) - fraction_bits(dtype));
}

/* Runs a filled-in argument record and checks every element by the definition of strides. */
static void map_case(int op, neap_kargs *args) {
  const map_reference *reference = map_reference_of(op);
  const int dtype = args->dtype, inputs = neap_k_ops[op].inputs;
  int64_t size = 1;
  for (int d = 0; d < args->ndim; d++) size *= args->shape[d];
  static char copies[NEAP_K_INPUTS][ROOM]; /* of inputs, which out may overwrite */
  const size_t item = neap_k_itemsize(dtype);
  const char *in[NEAP_K_INPUTS] = {0};
  for (int i = 0; i < inputs; i++)
    if (args->in[i]) in[i] = memcpy(copies[i], args->in[i], MOST * item);
  run(op, args, size, dtype, (size_t)size * item, 0);
  number s0 = constant(dtype, args->number[inputs]), s1 = constant(dtype, args->number[inputs + 1]);
  for (int64_t k = 0; k < size; k++) {
    number x[NEAP_K_INPUTS] = {{0, 0}};
    for (int i = 0; i < inputs; i++) {
      int64_t offset = 0, rest = k;
      for (int d = args->ndim - 1; d >= 0; rest /= args->shape[d], d--)
        offset += rest % args->shape[d] * args->stride[i][d];
      x[i] = in[i] ? get(dtype, in[i], offset) : constant(dtype, args->number[i]);
    }
    number expected = {0, 0};
    double tolerance = 0;
    if (is_float(dtype)) {
      long double value = reference->on_floats(x[0].f, x[1].f, x[2].f, s0.f, s1.f);
      expected.f = round_to(dtype, R(dtype, (double)value));
      double least = ldexp(1, 2 - (1 << (exponent_bits(dtype) - 1))); /* subnormals may get lost */
      if (reference->error && isfinite(expected.f))
        tolerance = fmax(reference->error * unit_at(dtype, expected.f), least);
    } else {
      expected.i = wrap(dtype, reference->on_integers(x[0].i, x[1].i, x[2].i, s0.i, s1.i));
    }
    expect(op, args, dtype, k, expected, tolerance);
  }
}

static void contiguous(neap_kargs *args, int input) {
  int64_t step = 1;
  for (int d = args->ndim - 1; d >= 0; step *= args->shape[d], d--) args->stride[input][d] = step;
}

static void map(int op, int dtype) {
  static const int64_t shapes[][1 + NEAP_K_DIMS] = {
      {0},         {1, 1},         {2, 3, 5},     {2, 7, 300},  {4, 2, 3, 4, 5},
      {2, 300, 7}, {3, 2, 1, 700}, {2, 16, 1030}, {3, 5, 0, 3}, {8, 2, 1, 3, 2, 1, 2, 3, 2},
  };
  static const double numbers[] = {2, 0, -1.5, 100, -3};
  const int inputs = neap_k_ops[op].inputs;
  neap_kargs args = {.dtype = dtype, .out_dtype = dtype};
  args.number[inputs] = -1.25; /* settings */
  args.number[inputs + 1] = 2.1;
  /* The same data for all operations of a dtype: making it takes longer than all else. */
  static _Alignas(64) char data[NEAP_K_INPUTS][ROOM];
  static int filled_with = -1;
  for (int i = 0; i < NEAP_K_INPUTS && filled_with != dtype; i++)
    fill_with(ANY, dtype, data[i], MOST + 8);
  filled_with = dtype;

  /* All contiguous, at any alignment. */
  for (int s = 0; s < SIZES; s++) {
    args.ndim = 1;
    args.shape[0] = sizes[s];
    args.out = out_at(dtype, s % 3);
    for (int i = 0; i < inputs; i++) {
      args.in[i] = data[i] + (size_t)((s + i) % 4) * neap_k_itemsize(dtype);
      contiguous(&args, i);
    }
    map_case(op, &args);
  }
  args.shape[0] = 1025;
  /* A number in each place. */
  for (int i = 0; i < inputs && inputs > 1; i++)
    for (int n = 0; n < 5; n++) {
      const void *array = args.in[i];
      args.in[i] = NULL;
      args.number[i] = numbers[n];
      if (!is_float(dtype)) args.number[i] = fabs(trunc(numbers[n]));
      map_case(op, &args);
      args.in[i] = array;
    }
  /* In place of each input. */
  for (int i = 0; i < inputs; i++) {
    const void *array = args.in[i];
    args.in[i] = args.out;
    fill_with(ANY, dtype, args.out, args.shape[0]);
    map_case(op, &args);
    args.in[i] = array;
  }
  /* Broadcast along any of the dimensions, and in another order. */
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int round = 0; round < 3; round++) {
      args.ndim = (int)shapes[s][0];
      for (int d = 0; d < args.ndim; d++) args.shape[d] = shapes[s][d + 1];
      for (int i = 0; i < inputs; i++) {
        int64_t step = 1, mask = round || i ? below(256) : 255;
        for (int k = 0; k < args.ndim; k++) {
          int d = round == 2 && i == 0 ? k : args.ndim - 1 - k; /* columns before rows */
          int kept = mask >> d & 1;
          args.stride[i][d] = kept ? step : 0;
          step *= kept ? args.shape[d] : 1;
        }
      }
      map_case(op, &args);
    }
}

/* ---- Along an axis -------------------------------------------------------------------------- */

typedef struct axis_case {
  int64_t outer, axis, inner;
} axis_case;
static const axis_case axis_cases[] = {{1, 1, 1},     {1, 7, 1}, {1, 1023, 1}, {1, 1025, 1},
                                       {1, MOST, 1},  {5, 7, 1}, {40, 300, 1}, {3, 5, 7},
                                       {2, 13, 1100}, {4, 1, 9}, {0, 5, 3},    {600, 3, 2}};
enum { AXIS_CASES = sizeof axis_cases / sizeof *axis_cases };

static int better(int dtype, int max, number x, number best) {
  if (is_float(dtype)) {
    if (isnan(best.f)) return 0;
    return isnan(x.f) || (max ? x.f > best.f : x.f < best.f);
  }
  return max ? x.i > best.i : x.i < best.i;
}

static void reduce_case(int op, neap_kargs *args, enum data data) {
  const char *name = neap_k_ops[op].name;
  const int dtype = args->dtype, out_dtype = args->out_dtype;
  const int is_sum = strcmp(name, "sum") == 0, is_mean = strcmp(name, "mean") == 0;
  const int is_norm = strcmp(name, "norm") == 0, is_argmax = strcmp(name, "argmax") == 0;
  const int is_min = strcmp(name, "min") == 0, is_max = strcmp(name, "max") == 0;
  CHECK(is_sum + is_mean + is_norm + is_argmax + is_min + is_max == 1);
  const int64_t inner = args->inner, axis = args->axis, work = args->outer * inner;
  fill_with(data, dtype, (void *)args->in[0], args->outer * axis * inner);
  run(op, args, work, out_dtype, (size_t)work * neap_k_itemsize(out_dtype), 0);
  for (int64_t at = 0; at < work; at++) {
    number best = {0, 0}, result;
    int64_t place = 0;
    long double sum = 0, squares = 0, size = 0;
    uint64_t total = 0;
    for (int64_t k = 0; k < axis; k++) {
      number x = get(dtype, args->in[0], (at / inner * axis + k) * inner + at % inner);
      total += (uint64_t)x.i;
      if (is_sum | is_mean) sum += x.f, size += fabs(x.f);
      if (is_norm) squares += (long double)x.f * x.f;
      if (k == 0 || better(dtype, !is_min, x, best)) best = x, place = k;
    }
    double slack = 0;
    if (is_sum && !is_float(dtype)) {
      result = I((int64_t)total);
    } else if (is_argmax) {
      result = I(place);
    } else if (is_max || is_min) {
      result = best;
    } else {
      long double value = is_norm ? sqrtl(squares) : is_mean ? sum / axis : sum;
      result = F(round_to(out_dtype, (double)value));
      long double terms = is_norm ? value : is_mean ? size / axis : size;
      if (data != SMALL && isfinite(result.f))
        slack = unit_at(out_dtype, result.f) + 1e-13 * (double)terms;
    }
    expect(op, args, out_dtype, at, result, slack);
  }
}

static void reduce(int op, int dtype) {
  const int flags = neap_k_ops[op].flags;
  neap_kargs args = {.dtype = dtype, .out_dtype = dtype};
  if (flags & NEAP_K_INDEX || (flags & NEAP_K_WIDE && !is_float(dtype)))
    args.out_dtype = NEAP_K_I64;
  for (int c = 0; c < AXIS_CASES; c++) {
    args.outer = axis_cases[c].outer, args.axis = axis_cases[c].axis,
    args.inner = axis_cases[c].inner;
    args.in[0] = input_at(0, dtype, c % 4);
    args.out = out_at(args.out_dtype, c % 2);
    if (args.axis < MOST) reduce_case(op, &args, ANY);
    if (args.axis < MOST || dtype == NEAP_K_F32) reduce_case(op, &args, PLAIN);
    reduce_case(op, &args, SMALL); /* with many equal elements */
  }
  if (strcmp(neap_k_ops[op].name, "sum") == 0) { /* of nothing: 0 */
    args.outer = 3, args.axis = 0, args.inner = 2;
    reduce_case(op, &args, SMALL);
  }
}

static void along(int op, int dtype) {
  neap_kargs args = {.dtype = dtype, .out_dtype = dtype};
  const int logarithm = strcmp(neap_k_ops[op].name, "log_softmax") == 0;
  CHECK(logarithm || strcmp(neap_k_ops[op].name, "softmax") == 0);
  for (int c = 0; c < AXIS_CASES; c++)
    for (int in_place = 0; in_place < 2; in_place++) {
      const int64_t axis = axis_cases[c].axis, inner = axis_cases[c].inner;
      const int64_t size = axis_cases[c].outer * axis * inner;
      args.outer = axis_cases[c].outer, args.axis = axis, args.inner = inner;
      args.out = out_at(dtype, c % 3);
      char *in = input_at(0, dtype, 0);
      /* Far from 0, where exp alone would overflow. */
      for (int64_t i = 0; i < size; i++)
        put(dtype, in, i, F(draw_number(dtype, PLAIN).f * 10 + 1000));
      args.in[0] = in_place ? memcpy(args.out, in, (size_t)size * neap_k_itemsize(dtype)) : in;
      run(op, &args, args.outer * inner, dtype, (size_t)size * neap_k_itemsize(dtype), 0);
      for (int64_t at = 0; at < args.outer * inner; at++) {
        const int64_t first = at / inner * axis * inner + at % inner;
        long double sum = 0, largest = -(long double)INFINITY;
        for (int64_t k = 0; k < axis; k++)
          largest = fmaxl(largest, get(dtype, in, first + k * inner).f);
        for (int64_t k = 0; k < axis; k++)
          sum += expl(get(dtype, in, first + k * inner).f - largest);
        for (int64_t k = 0; k < axis; k++) {
          long double x = get(dtype, in, first + k * inner).f - largest;
          double value = (double)(logarithm ? x - logl(sum) : expl(x) / sum);
          /* The sum has an error of its own, relative to it: absolute in the logarithm. */
          double slack = (double)axis * 0x1p-53 * (logarithm ? 1 : value);
          double least = ldexp(1, 2 - (1 << (exponent_bits(dtype) - 1)));
          expect(op, &args, dtype, first + k * inner, F(round_to(dtype, value)),
                 fmax(CLOSE * unit_at(dtype, value) + slack, least));
        }
      }
    }
}

/* ---- Moves ---------------------------------------------------------------------------------- */

static neap_kargs flat(int dtype, int s) {
  neap_kargs args = {.dtype = dtype, .out_dtype = dtype, .out = out_at(dtype, s % 3)};
  args.in[0] = input_at(0, dtype, s % 4);
  return args;
}

static void partial(int op, int dtype, int squares) {
  for (int s = 0; s < SIZES; s++) {
    neap_kargs args = flat(dtype, s);
    const int64_t size = args.size = sizes[s];
    const int64_t grains = (size + NEAP_K_GRAIN - 1) / NEAP_K_GRAIN;
    const int acc = is_float(dtype) ? NEAP_K_F64 : NEAP_K_I64;
    fill_with(SMALL, dtype, (void *)args.in[0], size);
    args.out = NULL;
    args.partial = out_at(acc, 0);
    run(op, &args, grains, acc, (size_t)grains * 8, 0);
    args.out = args.partial;
    for (int64_t g = 0; g < grains; g++) {
      number sum = {0, 0};
      for (int64_t i = g * NEAP_K_GRAIN; i < size && i < (g + 1) * NEAP_K_GRAIN; i++) {
        number x = get(dtype, args.in[0], i);
        sum.f += squares ? x.f * x.f : x.f;
        sum.i += x.i;
      }
      expect(op, &args, acc, g, sum, 0);
    }
  }
}
static void partial_sum(int op, int dtype) {
  partial(op, dtype, 0);
}
static void partial_norm(int op, int dtype) {
  if (is_float(dtype)) {
    partial(op, dtype, 1);
  } else {
    neap_kargs args = {.dtype = dtype, .size = 1, .in = {input_at(0, dtype, 0)}};
    args.partial = out_at(NEAP_K_I64, 0);
    run(op, &args, 1, NEAP_K_I64, 8, NEAP_K_EDTYPE);
  }
}

static void copy(int op, int dtype) {
  for (int s = 0; s < SIZES; s++) {
    neap_kargs args = flat(dtype, s);
    const size_t bytes = (size_t)sizes[s] * neap_k_itemsize(dtype);
    for (size_t i = 0; i < bytes; i++) ((char *)args.in[0])[i] = (char)draw(); /* any bits */
    run(op, &args, sizes[s], dtype, bytes, 0);
    CHECK(memcmp(args.out, args.in[0], bytes) == 0);
  }
}

static void cast(int op, int dtype) {
  for (int to = 0; to < NEAP_K_NUM_DTYPES; to++)
    for (int s = 0; s < SIZES; s++) {
      neap_kargs args = flat(dtype, s);
      args.out_dtype = to;
      args.out = out_at(to, s % 3);
      const int64_t size = sizes[s] < 5000 ? sizes[s] : 5000;
      fill_with(ANY, dtype, (void *)args.in[0], size);
      run(op, &args, size, to, (size_t)size * neap_k_itemsize(to), 0);
      for (int64_t i = 0; i < size; i++)
        expect(op, &args, to, i, cast_number(dtype, get(dtype, args.in[0], i), to), 0);
    }
}

static void fill(int op, int dtype) {
  static const double values[] = {0, 1, -1, 0.1, 255, 70000, -INFINITY, NAN, 1e300};
  for (int v = 0; v < 9; v++)
    for (int s = 0; s < SIZES; s += 3) {
      neap_kargs args = flat(dtype, s);
      args.number[0] = values[v];
      run(op, &args, sizes[s], dtype, (size_t)sizes[s] * neap_k_itemsize(dtype), 0);
      for (int64_t i = 0; i < sizes[s]; i++)
        expect(op, &args, dtype, i, cast_number(NEAP_K_F64, F(values[v]), dtype), 0);
    }
}

static void arange(int op, int dtype) {
  static const double values[][2] = {{0, 1}, {5, -0.25}, {-1e6, 1e3}};
  for (int v = 0; v < 3; v++)
    for (int s = 0; s < SIZES; s++) {
      neap_kargs args = flat(dtype, s);
      args.number[0] = values[v][0], args.number[1] = values[v][1];
      run(op, &args, sizes[s], dtype, (size_t)sizes[s] * neap_k_itemsize(dtype), 0);
      for (int64_t i = 0; i < sizes[s]; i++) {
        double value = values[v][0] + (double)i * values[v][1];
        expect(op, &args, dtype, i, cast_number(NEAP_K_F64, F(value), dtype), 0);
      }
    }
}

/* Only that ranges and tables agree, and that integers are refused; philox_test.c has the rest. */
static void random_numbers(int op, int dtype) {
  for (int s = 0; s < SIZES - 1; s++) {
    neap_kargs args = flat(dtype, s);
    args.seed = 0x123456789abcdef, args.stream = 3;
    args.number[0] = -1, args.number[1] = 2.5;
    const int64_t size = sizes[s] * 3;
    run(op, &args, size, dtype, (size_t)size * neap_k_itemsize(dtype),
        is_float(dtype) ? 0 : NEAP_K_EDTYPE);
  }
}

static void axpy(int op, int dtype) {
  for (int s = 0; s < SIZES; s++) {
    static char before[ROOM];
    neap_kargs args = flat(dtype, s);
    const size_t bytes = (size_t)sizes[s] * neap_k_itemsize(dtype);
    args.number[0] = is_float(dtype) ? -0.3 : 3;
    fill_with(ANY, dtype, (void *)args.in[0], sizes[s]);
    fill_with(ANY, dtype, args.out, sizes[s]);
    memcpy(before, args.out, bytes);
    number a = constant(dtype, args.number[0]);
    run(op, &args, sizes[s], dtype, bytes, 0);
    for (int64_t i = 0; i < sizes[s]; i++) {
      number x = get(dtype, args.in[0], i), y = get(dtype, before, i);
      y.f = R(dtype, y.f + R(dtype, a.f * x.f));
      y.i = (int64_t)(U(y.i) + U(a.i) * U(x.i));
      expect(op, &args, dtype, i, settle(dtype, y), 0);
    }
  }
}

static void add_n(int op, int dtype) {
  for (int s = 0; s < SIZES; s++)
    for (int count = s == SIZES - 1 ? 4 : 1; count <= (s == SIZES - 1 ? 5 : 10); count++)
      for (int in_place = 0; in_place < 2; in_place++) {
        neap_kargs args = flat(dtype, s);
        const size_t bytes = (size_t)sizes[s] * neap_k_itemsize(dtype);
        const void *many[10], *given[10];
        for (int i = 0; i < count; i++) {
          given[i] = many[i] = input_at(i, dtype, (s + i) % 4);
          fill_with(ANY, dtype, (void *)many[i], sizes[s]);
        }
        /* The last input's memory is out's: it may not be lost before its turn. */
        if (in_place) given[count - 1] = memcpy(args.out, many[count - 1], bytes);
        args.many = given;
        args.count = count;
        run(op, &args, sizes[s], dtype, bytes, 0);
        for (int64_t i = 0; i < sizes[s]; i++) {
          number sum = get(dtype, many[0], i);
          for (int k = 1; k < count; k++) {
            number x = get(dtype, many[k], i);
            sum.f = R(dtype, sum.f + x.f);
            sum.i = (int64_t)(U(sum.i) + U(x.i));
          }
          expect(op, &args, dtype, i, settle(dtype, sum), 0);
        }
      }
}

static void permute(int op, int dtype) {
  static const int64_t shapes[][1 + NEAP_K_DIMS] = {
      {0},           {1, 7},
      {2, 37, 53},   {2, 200, 300},
      {3, 5, 1, 40}, {4, 3, 17, 18, 6},
      {3, 4, 0, 2},  {8, 2, 3, 1, 2, 3, 2, 2, 3},
  };
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int round = 0; round < 6; round++) {
      neap_kargs args = flat(dtype, round);
      int order[NEAP_K_DIMS], ndim = args.ndim = (int)shapes[s][0];
      int64_t size = 1, step[NEAP_K_DIMS];
      for (int d = ndim - 1; d >= 0; d--) {
        order[d] = d;
        step[d] = size;
        size *= shapes[s][d + 1];
      }
      for (int d = ndim - 1; d > 0; d--) { /* reversed, then at random */
        int other = round ? (int)below(d + 1) : d >= (ndim + 1) / 2 ? ndim - 1 - d : d;
        int swapped = order[d];
        order[d] = order[other];
        order[other] = swapped;
      }
      for (int d = 0; d < ndim; d++) {
        args.shape[d] = shapes[s][order[d] + 1];
        args.stride[0][d] = step[order[d]];
      }
      fill_with(ANY, dtype, (void *)args.in[0], size);
      run(op, &args, size, dtype, (size_t)size * neap_k_itemsize(dtype), 0);
      for (int64_t k = 0; k < size; k++) {
        int64_t offset = 0, rest = k;
        for (int d = ndim - 1; d >= 0; rest /= args.shape[d], d--)
          offset += rest % args.shape[d] * args.stride[0][d];
        expect(op, &args, dtype, k, get(dtype, args.in[0], offset), 0);
      }
    }
}

/* gather, scatter and scatter_add: rows of a table, and as many rows as there are ids. */
static void rows_by_ids(int op, int dtype) {
  const int gather = strcmp(neap_k_ops[op].name, "gather") == 0;
  const int add = strcmp(neap_k_ops[op].name, "scatter_add") == 0;
  static const int64_t lengths[] = {0, 1, 3, 64, 1500};
  enum { ROWS = 40, IDS = 25 };
  for (int l = 0; l < 5; l++)
    for (int bad = -1; bad < 3; bad++) {
      static char before[ROOM];
      int64_t ids[IDS], row = lengths[l];
      for (int i = 0; i < IDS; i++) ids[i] = (i * 7 + 3) % ROWS; /* unique: 7 and 40 are coprime */
      if (gather) ids[4] = ids[5];
      if (bad >= 0) ids[IDS / 2] = bad == 0 ? ROWS : bad == 1 ? -1 : INT64_MIN;
      neap_kargs args = flat(dtype, l);
      args.ids = ids, args.rows = ROWS, args.row = row;
      const int64_t in_rows = gather ? ROWS : IDS, out_rows = gather ? IDS : ROWS;
      const size_t bytes = (size_t)(out_rows * row) * neap_k_itemsize(dtype);
      fill_with(ANY, dtype, (void *)args.in[0], in_rows * row);
      fill_with(ANY, dtype, args.out, out_rows * row);
      memcpy(before, args.out, bytes);
      run(op, &args, IDS, dtype, bytes, bad >= 0 ? NEAP_K_EINDEX : 0);
      for (int64_t k = 0; k < out_rows * row && bad < 0; k++) {
        number expected = get(dtype, before, k);
        for (int i = 0; i < IDS; i++) {
          if (gather ? k / row != i : k / row != ids[i]) continue;
          number x = get(dtype, args.in[0], (gather ? ids[i] : i) * row + k % row);
          if (add) {
            expected.f = R(dtype, expected.f + x.f);
            expected.i = (int64_t)(U(expected.i) + U(x.i));
            expected = settle(dtype, expected);
          } else {
            expected = x;
          }
        }
        expect(op, &args, dtype, k, expected, 0);
      }
    }
}

static void row_nonzero(int op, int dtype) {
  static const int64_t lengths[] = {0, 1, 15, 16, 17, 300, 1041};
  enum { ROWS = 60 };
  for (int l = 0; l < 7; l++) {
    neap_kargs args = flat(dtype, l);
    args.out = out_at(NEAP_K_U8, l);
    args.rows = ROWS;
    args.row = lengths[l];
    for (int64_t r = 0; r < ROWS; r++) { /* zeros of both signs, and in some rows one other */
      for (int64_t i = 0; i < lengths[l]; i++)
        put(dtype, (void *)args.in[0], r * lengths[l] + i, F(i % 2 ? 0.0 : -0.0));
      if (r % 3 && lengths[l])
        put(dtype, (void *)args.in[0], r * lengths[l] + below(lengths[l]),
            r % 2 ? (number){1, 1} : (number){NAN, -1});
    }
    run(op, &args, ROWS, NEAP_K_U8, ROWS, 0);
    for (int64_t r = 0; r < ROWS; r++) expect(op, &args, NEAP_K_U8, r, I(r % 3 && lengths[l]), 0);
  }
}

/* ---- All of ops.def ------------------------------------------------------------------------- */

static const struct {
  const char *name;
  void (*check)(int op, int dtype);
} moves[] = {
    {"partial_sum", partial_sum},
    {"partial_norm", partial_norm},
    {"copy", copy},
    {"cast", cast},
    {"fill", fill},
    {"arange", arange},
    {"uniform", random_numbers},
    {"normal", random_numbers},
    {"axpy", axpy},
    {"add_n", add_n},
    {"permute", permute},
    {"gather", rows_by_ids},
    {"scatter", rows_by_ids},
    {"scatter_add", rows_by_ids},
    {"row_nonzero", row_nonzero},
    {"encode_2bit", coding},
    {"encode_1bit", coding},
    {"decode_2bit", coding},
    {"decode_1bit", coding},
};

static void (*check_of(int op))(int op, int dtype) {
  switch (neap_k_ops[op].kind) {
  case NEAP_K_MAP:
    return map_reference_of(op) ? map : NULL;
  case NEAP_K_REDUCE:
    return reduce;
  case NEAP_K_ALONG:
    return along;
  }
  for (size_t i = 0; i < sizeof moves / sizeof *moves; i++)
    if (strcmp(moves[i].name, neap_k_ops[op].name) == 0) return moves[i].check;
  return NULL;
}

static void integers_are_refused(int op, int dtype) {
  neap_kargs args = {.dtype = dtype, .out_dtype = dtype, .ndim = 1, .shape = {1}};
  args.outer = args.axis = args.inner = 1;
  args.out = out_at(dtype, 0);
  for (int i = 0; i < NEAP_K_INPUTS; i++) args.in[i] = input_at(i, dtype, 0), args.stride[i][0] = 1;
  run(op, &args, 1, dtype, neap_k_itemsize(dtype), NEAP_K_EDTYPE);
}

int main(void) {
  find_tables();
  for (int op = 0; op < NEAP_K_NUM_OPS; op++)
    if (!check_of(op)) {
      fprintf(stderr, "%s: a row of ops.def without a reference\n", neap_k_ops[op].name);
      return 1;
    }
  for (int dtype = 0; dtype < NEAP_K_NUM_DTYPES; dtype++)
    for (int op = 0; op < NEAP_K_NUM_OPS; op++)
      if (neap_k_ops[op].flags & NEAP_K_FLOAT && !is_float(dtype)) {
        integers_are_refused(op, dtype);
      } else {
        check_of(op)(op, dtype);
      }
  return 0;
}
