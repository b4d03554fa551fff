/* SPDX-License-Identifier: MIT */
/* optimizer_test.c - programs run by the engine, and optimizers that update a store's keys. Rules
 * are checked against their formulas in float64; runs on several engines bit for bit. */
#include "spec/engine/arrays.h"
#include "spec/kernels/program_builder.h"

static neap_program *program_of(neap_context *context, builder *b) {
  build(b);
  neap_program *program = NULL;
  OK(neap_program_create(context, b->bytes, b->size, &program));
  return program;
}

/* mom = momentum * mom - learning_rate * (rescale_grad * g + wd * w);  w + mom */
static void write_momentum(builder *b) {
  uint32_t w = NODE(b, weight, 0), g = NODE(b, gradient, 0), m = b_state(b, "mom", 0, 0);
  g = NODE(b, mul, g, b_setting(b, "rescale_grad"));
  g = NODE(b, add, g, NODE(b, mul, b_setting(b, "wd"), w));
  m = NODE(b, mul, b_setting(b, "momentum"), m);
  m = NODE(b, sub, m, NODE(b, mul, b_setting(b, "learning_rate"), g));
  b->states[0].result = m;
  b->result = NODE(b, add, w, m);
}

static neap_program *momentum_program(neap_context *context, uint32_t flags) {
  static builder b;
  memset(&b, 0, sizeof b);
  b.flags = flags;
  write_momentum(&b);
  return program_of(context, &b);
}

/* w - learning_rate * g, and `seen` is t */
static neap_program *plain_program(neap_context *context) {
  static builder b;
  memset(&b, 0, sizeof b);
  uint32_t w = NODE(&b, weight, 0), g = NODE(&b, gradient, 0);
  b_state(&b, "seen", 0, 0);
  b.states[0].result = b_setting(&b, "t");
  b.result = NODE(&b, sub, w, NODE(&b, mul, b_setting(&b, "learning_rate"), g));
  return program_of(context, &b);
}

/* Two passes, and a number that lives: c = c * beta;  w - norm(w) / norm(g) * c * g */
static void write_norms(builder *b) {
  uint32_t w = NODE(b, weight, 0), g = NODE(b, gradient, 0), c = b_scalar(b, "c", 1);
  c = NODE(b, mul, c, b_setting(b, "beta"));
  b->scalars[0].result = c;
  uint32_t ratio = NODE(b, div, NODE(b, norm, w), NODE(b, norm, g));
  b->result = NODE(b, sub, w, NODE(b, mul, NODE(b, mul, ratio, c), g));
}

static neap_program *norms_program(neap_context *context) {
  static builder b;
  memset(&b, 0, sizeof b);
  write_norms(&b);
  return program_of(context, &b);
}

static const neap_key key_w = {"w", 1, 0}, key_7 = {NULL, 0, 7};

static neap_array *vector(neap_context *context, double value, int64_t size) {
  neap_array *array = empty(context, NEAP_FLOAT32, 1, &size);
  OK(neap_array_fill(array, value));
  return array;
}

static neap_store *store_with(neap_context *context, neap_optimizer *optimizer) {
  neap_store *store = NULL;
  OK(neap_store_create(context, "local", &store));
  OK(neap_store_set_optimizer(store, optimizer));
  return store;
}

static void push(neap_store *store, const neap_key *key, neap_array *gradient) {
  OK(neap_store_push(store, 1, key, NULL, &gradient, 0));
}

static neap_array *stored(neap_store *store, const neap_key *key) {
  neap_array *value = NULL;
  OK(neap_store_value(store, key, &value));
  return value;
}

/* ---- Settings ------------------------------------------------------------------------------- */

static void settings_travel_with_the_push(neap_context *context) {
  neap_optimizer *optimizer = NULL;
  OK(neap_optimizer_create(context, "plain", &optimizer));
  neap_store *store = store_with(context, optimizer);
  neap_program *program = plain_program(context);
  neap_array *zero = vector(context, 0, 3), *one = vector(context, 1, 3);
  OK(neap_store_init(store, 1, &key_w, &zero));
  FAILS(neap_store_push(store, 1, &key_w, NULL, &one, 0), NEAP_EINVAL, "key 'w'");
  OK(neap_optimizer_bind(optimizer, &key_w, NEAP_DENSE, program));
  CHECK(neap_optimizer_bound(optimizer, &key_w, NEAP_DENSE));
  CHECK(!neap_optimizer_bound(optimizer, &key_w, NEAP_ROW_SPARSE));
  double rate;
  OK(neap_optimizer_get(optimizer, "learning_rate", &rate));
  CHECK(rate == 0.01);
  OK(neap_stop(context)); /* nothing runs: all pushes are queued before the first update */
  for (int i = 0; i < 5; i++) {
    OK(neap_optimizer_set(optimizer, "learning_rate", 1 << i));
    push(store, &key_w, one);
  }
  OK(neap_start(context));
  neap_array *value = stored(store, &key_w);
  EXPECT(value, -31, -31, -31);
  int64_t count;
  OK(neap_optimizer_count(optimizer, &key_w, &count));
  CHECK(count == 5);
  neap_array_close(value);
  neap_array_close(zero);
  neap_array_close(one);
  neap_program_close(program);
  neap_store_close(store);
  neap_optimizer_close(optimizer);
}

/* rate = base * 0.5 ^ (t - 1) */
static void write_halving(builder *b) {
  b->flags = NEAP_P_SCHEDULE;
  uint32_t t = b_setting(b, "t"), base = b_setting(b, "learning_rate");
  uint32_t left = NODE(b, sub, t, b_constant(b, 1));
  b->result = NODE(b, mul, base, NODE(b, pow, b_constant(b, 0.5), left));
}

static neap_program *halving(neap_context *context) {
  static builder b;
  memset(&b, 0, sizeof b);
  write_halving(&b);
  return program_of(context, &b);
}

static void rates_come_from_schedule_and_multipliers(neap_context *context) {
  neap_optimizer *optimizer = NULL;
  OK(neap_optimizer_create(context, "momentum", &optimizer));
  neap_program *program = momentum_program(context, 0), *schedule = halving(context);
  double value;
  OK(neap_program_value(schedule, (double[]){4, 80}, &value));
  CHECK(value == 10);
  FAILS(neap_program_value(program, NULL, &value), NEAP_EINVAL, "only a schedule");
  FAILS(neap_optimizer_bind(optimizer, &key_7, NEAP_DENSE, program), NEAP_EINVAL,
        "no setting 'momentum'");
  FAILS(neap_optimizer_bind(optimizer, &key_7, NEAP_DENSE, schedule), NEAP_EINVAL, "schedule");
  FAILS(neap_optimizer_schedule(optimizer, program), NEAP_EINVAL, "updates a weight");
  FAILS(neap_optimizer_set(optimizer, "t", 1), NEAP_EINVAL, "cannot be set");
  OK(neap_optimizer_set(optimizer, "momentum", 0));
  OK(neap_optimizer_set(optimizer, "learning_rate", 8));
  OK(neap_optimizer_set(optimizer, "wd", 1));
  OK(neap_optimizer_set(optimizer, "rescale_grad", 2));
  OK(neap_optimizer_schedule(optimizer, schedule));
  OK(neap_optimizer_multiplier(optimizer, &key_7, 0.5, 0.25));
  neap_store *store = store_with(context, optimizer);
  neap_array *ones = vector(context, 1, 2);
  const neap_key keys[2] = {key_7, {NULL, 0, 8}};
  OK(neap_store_init(store, 2, keys, (neap_array *[]){ones, ones}));
  for (int i = 0; i < 2; i++) OK(neap_optimizer_bind(optimizer, &keys[i], NEAP_DENSE, program));
  /* update 1: rate 8 * 0.5, wd 0.25; update 2: rate 4 * 0.5 */
  double expected = 1;
  push(store, &keys[0], ones);
  expected -= 4 * (2 + 0.25 * expected);
  push(store, &keys[0], ones);
  expected -= 2 * (2 + 0.25 * expected);
  neap_array *first = stored(store, &keys[0]), *second = stored(store, &keys[1]);
  EXPECT(first, expected, expected);
  /* The other key's first update is the optimizer's second: rates go by the largest count. */
  push(store, &keys[1], ones);
  EXPECT(second, 1 - 4 * 3.0, 1 - 4 * 3.0);
  neap_array_close(first);
  neap_array_close(second);
  neap_array_close(ones);
  neap_store_close(store);
  neap_program_close(program);
  neap_program_close(schedule);
  neap_optimizer_close(optimizer);
}

/* ---- Engines -------------------------------------------------------------------------------- */

enum { LARGE = 3 * 65536 + 11, ROUNDS = 4 };

/* Rounds of norms_program on large arrays; gives back the weight's bits. */
static float *run_norms(int engine, int threads, double *scalar) {
  neap_context *context = context_new(engine, threads);
  neap_program *program = norms_program(context);
  int64_t size = LARGE, one = 1;
  neap_array *w = empty(context, NEAP_FLOAT32, 1, &size);
  neap_array *g = empty(context, NEAP_FLOAT32, 1, &size);
  neap_array *c = empty(context, NEAP_FLOAT64, 1, &one);
  OK(neap_array_fill(c, 1));
  OK(neap_seed(context, 5));
  OK(neap_array_normal(w, 0, 1));
  for (int i = 0; i < ROUNDS; i++) {
    OK(neap_array_normal(g, 0, 1));
    OK(neap_program_run(program, w, g, NULL, c, &(double){0.5}, 0));
  }
  float *bits = malloc(LARGE * sizeof *bits);
  OK(neap_array_read(w, bits, LARGE * sizeof *bits));
  OK(neap_array_read(c, scalar, sizeof *scalar));
  neap_array_close(w);
  neap_array_close(g);
  neap_array_close(c);
  neap_program_close(program);
  expect_no_memory_in_use(context);
  neap_context_close(context);
  return bits;
}

static void results_do_not_depend_on_the_engine(void) {
  double scalar[4];
  float *bits[4] = {run_norms(NEAP_ENGINE_NAIVE, 0, &scalar[0]),
                    run_norms(NEAP_ENGINE_THREADED, 0, &scalar[1]),
                    run_norms(NEAP_ENGINE_THREADED, 1, &scalar[2]),
                    run_norms(NEAP_ENGINE_THREADED, 4, &scalar[3])};
  for (int i = 0; i < 4; i++) {
    CHECK(scalar[i] == 0.0625); /* a half, four times */
    CHECK(memcmp(bits[i], bits[0], LARGE * sizeof(float)) == 0);
  }
  for (int i = 0; i < 4; i++) free(bits[i]);
}

/* One step of a rule with norms, against the formula. */
static void norms_are_of_the_whole_key(neap_context *context) {
  neap_program *program = norms_program(context);
  int64_t size = LARGE, one = 1;
  neap_array *w = empty(context, NEAP_FLOAT64, 1, &size);
  neap_array *g = empty(context, NEAP_FLOAT64, 1, &size);
  neap_array *c = empty(context, NEAP_FLOAT64, 1, &one);
  OK(neap_array_fill(c, 2));
  OK(neap_array_arange(w, -1000, 0.5));
  OK(neap_array_arange(g, 3, -0.25));
  OK(neap_program_run(program, w, g, NULL, c, &(double){0.5}, 0));
  double *got = values_of(w);
  long double nw = 0, ng = 0;
  for (int64_t i = 0; i < LARGE; i++) {
    nw += (-1000 + 0.5L * i) * (-1000 + 0.5L * i);
    ng += (3 - 0.25L * i) * (3 - 0.25L * i);
  }
  for (int64_t i = 0; i < LARGE; i++) {
    double expected = (double)(-1000 + 0.5L * i - sqrtl(nw) / sqrtl(ng) * (3 - 0.25L * i));
    CHECK(fabs(got[i] - expected) <= 1e-9 * (1 + fabs(expected)));
  }
  free(got);
  neap_array_close(w);
  neap_array_close(g);
  neap_array_close(c);
  neap_program_close(program);
}

/* ---- Storage types -------------------------------------------------------------------------- */

static neap_array *rows_1_and_3(neap_context *context) {
  neap_array *sparse = NULL;
  OK(neap_sparse_create(context, NEAP_FLOAT32, SHAPE(5, 2), NEAP_CPU, 0, &sparse));
  neap_array *values = filled(context, NEAP_FLOAT32, SHAPE(2, 2), VALUES(1, 2, 3, 4));
  neap_array *ids = filled(context, NEAP_INT64, SHAPE(2), VALUES(1, 3));
  OK(neap_sparse_set(sparse, values, ids));
  neap_array_close(values);
  neap_array_close(ids);
  return sparse;
}

/* Absent rows: left alone when lazy, decayed when not. */
static void lazy_updates_touch_the_rows_present(neap_context *context, int lazy) {
  neap_optimizer *optimizer = NULL;
  OK(neap_optimizer_create(context, "momentum", &optimizer));
  OK(neap_optimizer_set(optimizer, "momentum", 0.5));
  OK(neap_optimizer_set(optimizer, "learning_rate", 1));
  OK(neap_optimizer_set(optimizer, "wd", 0.25));
  neap_program *program = momentum_program(context, lazy ? NEAP_P_LAZY : 0);
  neap_store *store = store_with(context, optimizer);
  neap_array *eight = empty(context, NEAP_FLOAT32, SHAPE(5, 2));
  OK(neap_array_fill(eight, 8));
  OK(neap_store_init(store, 1, &key_w, &eight));
  OK(neap_optimizer_bind(optimizer, &key_w, NEAP_ROW_SPARSE, program));
  neap_array *gradient = rows_1_and_3(context);
  double weight[10], mom[10], dense[10] = {0, 0, 1, 2, 0, 0, 3, 4, 0, 0};
  for (int i = 0; i < 10; i++) weight[i] = 8, mom[i] = 0;
  for (int round = 0; round < 3; round++) {
    push(store, &key_w, gradient);
    for (int i = 0; i < 10; i++) {
      if (lazy && dense[i] == 0) continue;
      mom[i] = 0.5 * mom[i] - (dense[i] + 0.25 * weight[i]);
      weight[i] += mom[i];
    }
  }
  neap_array *value = stored(store, &key_w), *state = NULL;
  expect_(__FILE__, __LINE__, value, 0, 10, weight);
  neap_key key;
  const char *name = NULL;
  OK(neap_optimizer_state(optimizer, 0, &key, &name, &state));
  CHECK(strcmp(name, "mom") == 0 && key.length == 1 && key.text[0] == 'w');
  expect_(__FILE__, __LINE__, state, 0, 10, mom);
  neap_array *none = NULL;
  FAILS(neap_optimizer_state(optimizer, 1, &key, &name, &none), NEAP_EINVAL, "no entry 1");
  neap_array_close(value);
  neap_array_close(state);
  neap_array_close(eight);
  neap_array_close(gradient);
  neap_store_close(store);
  neap_program_close(program);
  neap_optimizer_close(optimizer);
}

/* A weight of 16 bits with a float32 copy of it that all updates go to. */
static void a_master_copy_keeps_what_float16_cannot(neap_context *context) {
  static builder b;
  memset(&b, 0, sizeof b);
  uint32_t g = NODE(&b, gradient, 0), master = b_state(&b, "weight32", 0, 1);
  b.result = b.states[0].result = NODE(&b, add, master, g);
  neap_program *program = program_of(context, &b);
  neap_optimizer *optimizer = NULL;
  OK(neap_optimizer_create(context, "adding", &optimizer));
  neap_store *store = store_with(context, optimizer);
  neap_array *one = NULL, *tiny = NULL;
  OK(neap_array_create(context, NEAP_FLOAT16, SHAPE(2), NEAP_CPU, 0, &one));
  OK(neap_array_create(context, NEAP_FLOAT16, SHAPE(2), NEAP_CPU, 0, &tiny));
  OK(neap_array_fill(one, 1));
  OK(neap_array_fill(tiny, 0x1p-13)); /* 1 + this is 1 in float16 */
  OK(neap_store_init(store, 1, &key_w, &one));
  OK(neap_optimizer_bind(optimizer, &key_w, NEAP_DENSE, program));
  for (int i = 0; i < 16; i++) push(store, &key_w, tiny);
  neap_array *value = stored(store, &key_w);
  EXPECT(value, 1 + 0x1p-9, 1 + 0x1p-9);
  neap_array_close(value);
  neap_array_close(one);
  neap_array_close(tiny);
  neap_store_close(store);
  neap_program_close(program);
  neap_optimizer_close(optimizer);
}

/* ---- Saving --------------------------------------------------------------------------------- */

static void restored_states_go_on_where_they_were(neap_context *context) {
  neap_optimizer *optimizer[2];
  neap_store *store[2];
  neap_program *program = momentum_program(context, 0);
  neap_array *one = vector(context, 1, 2), *wrong = vector(context, 1, 3);
  for (int i = 0; i < 2; i++) {
    OK(neap_optimizer_create(context, "momentum", &optimizer[i]));
    OK(neap_optimizer_set(optimizer[i], "momentum", 0.5));
    store[i] = store_with(context, optimizer[i]);
  }
  OK(neap_store_init(store[0], 1, &key_w, &one));
  OK(neap_optimizer_bind(optimizer[0], &key_w, NEAP_DENSE, program));
  for (int i = 0; i < 3; i++) push(store[0], &key_w, one);
  neap_array *weight = stored(store[0], &key_w), *mom = NULL, *both[2];
  OK(neap_store_init(store[1], 1, &key_w, &weight));
  neap_key key;
  const char *name;
  OK(neap_optimizer_state(optimizer[0], 0, &key, &name, &mom));
  OK(neap_optimizer_restore(optimizer[1], &key, name, mom)); /* before the key is bound */
  OK(neap_optimizer_set_count(optimizer[1], &key, 3));
  OK(neap_optimizer_bind(optimizer[1], &key_w, NEAP_DENSE, program));
  for (int i = 0; i < 2; i++) {
    push(store[i], &key_w, one);
    both[i] = stored(store[i], &key_w);
  }
  double *first = values_of(both[0]);
  EXPECT(both[1], first[0], first[1]);
  free(first);
  FAILS(neap_optimizer_restore(optimizer[1], &key_w, "mom", wrong), NEAP_ESHAPE, "(3,)");
  /* What cannot fit the weight is noticed at its first update, which changes nothing. */
  neap_store *other = NULL;
  neap_optimizer *fresh = NULL;
  OK(neap_optimizer_create(context, "momentum", &fresh));
  OK(neap_optimizer_set(fresh, "momentum", 0.5));
  other = store_with(context, fresh);
  OK(neap_store_init(other, 1, &key_7, &one));
  OK(neap_optimizer_restore(fresh, &key_7, "mom", wrong));
  OK(neap_optimizer_bind(fresh, &key_7, NEAP_DENSE, program));
  FAILS(neap_store_push(other, 1, &key_7, NULL, &one, 0), NEAP_ESHAPE, "state 'mom' of key 7");
  int64_t count;
  OK(neap_optimizer_count(fresh, &key_7, &count));
  CHECK(count == 0);
  neap_array_close(mom);
  neap_array_close(weight);
  neap_array_close(one);
  neap_array_close(wrong);
  for (int i = 0; i < 2; i++) {
    neap_array_close(both[i]);
    neap_store_close(store[i]);
    neap_optimizer_close(optimizer[i]);
  }
  neap_store_close(other);
  neap_optimizer_close(fresh);
  neap_program_close(program);
}

/* Scalars of the same name keep their values when a program with others replaces the first. */
static void scalars_carry_over_by_name(neap_context *context) {
  static builder b;
  neap_optimizer *optimizer = NULL;
  OK(neap_optimizer_create(context, "counting", &optimizer));
  neap_store *store = store_with(context, optimizer);
  neap_array *zero = vector(context, 0, 2);
  OK(neap_store_init(store, 1, &key_w, &zero));
  for (int round = 0; round < 2; round++) {
    memset(&b, 0, sizeof b);
    uint32_t w = NODE(&b, weight, 0), extra = 0;
    if (round) extra = b_scalar(&b, "extra", 100);
    uint32_t n = b_scalar(&b, "n", 5);
    n = NODE(&b, add, n, b_constant(&b, 1));
    b.scalars[round].result = n;
    b.result = NODE(&b, add, NODE(&b, mul, w, b_constant(&b, 0)), n);
    if (round) b.result = NODE(&b, add, b.result, extra);
    neap_program *program = program_of(context, &b);
    OK(neap_optimizer_bind(optimizer, &key_w, NEAP_DENSE, program));
    neap_program_close(program);
    push(store, &key_w, zero);
  }
  neap_array *value = stored(store, &key_w);
  EXPECT(value, 107, 107); /* 5, 6, 7, and 100 */
  neap_array_close(value);
  neap_array_close(zero);
  neap_store_close(store);
  neap_optimizer_close(optimizer);
}

static void arrays_that_do_not_fit_are_refused(neap_context *context) {
  neap_program *program = momentum_program(context, 0);
  neap_array *w = vector(context, 1, 4), *g = vector(context, 1, 4),
             *short_one = vector(context, 1, 3);
  neap_array *whole = NULL, *wide = NULL;
  OK(neap_astype(w, NEAP_INT32, &whole));
  OK(neap_astype(w, NEAP_FLOAT64, &wide));
  double settings[4] = {1, 0, 0, 1};
#define RUN(weight, gradient, state)                                                               \
  neap_program_run(program, weight, gradient, (neap_array *[]){state}, NULL, settings, 0)
  FAILS(RUN(w, short_one, w), NEAP_ESHAPE, "shape (3,), the weight (4,)");
  FAILS(RUN(w, g, short_one), NEAP_ESHAPE, "state 'mom' has shape (3,)");
  FAILS(RUN(w, wide, w), NEAP_EDTYPE, "float64, the weight float32");
  FAILS(RUN(whole, whole, w), NEAP_EDTYPE, "astype('float32')");
  FAILS(RUN(w, g, wide), NEAP_EDTYPE, "state 'mom' is float64");
  FAILS(RUN(w, g, NULL), NEAP_EINVAL, "state 'mom' is NULL");
  FAILS(RUN(NULL, g, w), NEAP_EINVAL, "NULL");
  EXPECT(w, 1, 1, 1, 1);
  neap_program *none = NULL;
  FAILS(neap_program_create(context, "NPRG", 4, &none), NEAP_EFORMAT, "too few");
  CHECK(neap_program_op("where") == NEAP_P_OP_where && neap_program_op("goto") == -1);
  CHECK(neap_program_count(program, NEAP_SETTINGS) == 4 &&
        strcmp(neap_program_name(program, NEAP_STATES, 0), "mom") == 0 &&
        !neap_program_name(program, NEAP_STATES, 1));
  neap_array_close(w);
  neap_array_close(g);
  neap_array_close(short_one);
  neap_array_close(whole);
  neap_array_close(wide);
  neap_program_close(program);
}

/* ---- Allocations that fail ---------------------------------------------------------------------
 */

static int64_t countdown, live;

static void *failing_alloc(void *user, size_t size, size_t align) {
  (void)user;
  if (countdown-- == 1) return NULL; /* this one, and no other */
  void *block = NULL;
  if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size)) return NULL;
  live += (int64_t)size;
  return block;
}
static void failing_free(void *user, void *block, size_t size) {
  (void)user;
  live -= (int64_t)size;
  free(block);
}

typedef struct made {
  neap_program *norms, *momentum, *schedule;
  neap_optimizer *optimizer;
  neap_store *store;
  neap_array *weight, *state;
} made;

#define STEP(call)                                                                                 \
  do {                                                                                             \
    int status_ = (call);                                                                          \
    if (status_ != NEAP_OK) return status_;                                                        \
  } while (0)

static int make_program(neap_context *context, builder *b, neap_program **out) {
  build(b);
  return neap_program_create(context, b->bytes, b->size, out);
}

/* Programs, a schedule, settings, states, scalars and several passes. */
static int scenario(neap_context *context, builder *norms, builder *momentum, builder *schedule,
                    made *m) {
  int64_t size = LARGE, count;
  STEP(make_program(context, norms, &m->norms));
  STEP(make_program(context, momentum, &m->momentum));
  STEP(make_program(context, schedule, &m->schedule));
  STEP(neap_optimizer_create(context, "any", &m->optimizer));
  STEP(neap_store_create(context, "local", &m->store));
  STEP(neap_store_set_optimizer(m->store, m->optimizer));
  STEP(neap_array_create(context, NEAP_FLOAT32, 1, &size, NEAP_CPU, 0, &m->weight));
  STEP(neap_array_fill(m->weight, 1));
  STEP(neap_store_init(m->store, 1, &key_w, &m->weight));
  STEP(neap_optimizer_set(m->optimizer, "momentum", 0.5));
  STEP(neap_optimizer_set(m->optimizer, "beta", 0.5));
  STEP(neap_optimizer_schedule(m->optimizer, m->schedule));
  STEP(neap_optimizer_multiplier(m->optimizer, &key_w, 2, 2));
  neap_program *programs[2] = {m->norms, m->momentum};
  for (int i = 0; i < 2; i++) {
    STEP(neap_optimizer_bind(m->optimizer, &key_w, NEAP_DENSE, programs[i]));
    STEP(neap_store_push(m->store, 1, &key_w, NULL, &m->weight, 0));
    STEP(neap_optimizer_count(m->optimizer, &key_w, &count));
    CHECK(count == i + 1);
  }
  neap_key key;
  const char *name;
  STEP(neap_optimizer_state(m->optimizer, 0, &key, &name, &m->state));
  STEP(neap_optimizer_restore(m->optimizer, &key_7, name, m->state));
  return neap_wait_all(context);
}

static void builders(builder *norms, builder *momentum, builder *schedule) {
  memset(norms, 0, sizeof *norms);
  write_norms(norms);
  memset(momentum, 0, sizeof *momentum);
  write_momentum(momentum);
  memset(schedule, 0, sizeof *schedule);
  write_halving(schedule);
}

static void every_allocation_may_fail(void) {
  static builder norms, momentum, schedule;
  builders(&norms, &momentum, &schedule);
  int64_t which = 1;
  for (bool through = false; !through; which++) {
    CHECK(which < 2000);
    neap_options options;
    neap_options_init(&options, sizeof options);
    options.engine = NEAP_ENGINE_NAIVE;
    options.pool_limit = 0;
    options.alloc = failing_alloc;
    options.free = failing_free;
    countdown = which;
    neap_context *context = NULL;
    made m = {0};
    int status = neap_context_create(&options, &context);
    if (status == NEAP_OK) status = scenario(context, &norms, &momentum, &schedule, &m);
    through = countdown > 0;
    if (through) CHECK(status == NEAP_OK);
    if (!through && status != NEAP_OK) CHECK(status == NEAP_ENOMEM && neap_error()[0]);
    neap_array_close(m.state);
    neap_array_close(m.weight);
    neap_store_close(m.store);
    neap_optimizer_close(m.optimizer);
    neap_program_close(m.norms);
    neap_program_close(m.momentum);
    neap_program_close(m.schedule);
    if (context) neap_context_close(context);
    CHECK(live == 0);
  }
  CHECK(which > 30); /* the scenario does allocate */
}

int main(void) {
  for (int kind = 0; kind < 3; kind++) {
    neap_context *context =
        context_new(kind ? NEAP_ENGINE_THREADED : NEAP_ENGINE_NAIVE, kind == 2 ? 3 : 0);
    settings_travel_with_the_push(context);
    rates_come_from_schedule_and_multipliers(context);
    norms_are_of_the_whole_key(context);
    lazy_updates_touch_the_rows_present(context, 1);
    lazy_updates_touch_the_rows_present(context, 0);
    a_master_copy_keeps_what_float16_cannot(context);
    restored_states_go_on_where_they_were(context);
    scalars_carry_over_by_name(context);
    arrays_that_do_not_fit_are_refused(context);
    expect_no_memory_in_use(context);
    neap_context_close(context);
  }
  results_do_not_depend_on_the_engine();
  every_allocation_may_fail();
  return 0;
}
