/* SPDX-License-Identifier: MIT */
/* store_test.c - what stores promise that Lua cannot show: many threads, failing allocations,
 * priorities, handles of other contexts. What they compute is shown by spec/lua/kv_*_spec.lua. */
#include "spec/check.h"
#include "engine/sched.h"
#include "kernels/program.h"
#include <pthread.h>
#include <string.h>

static const char *const types[] = {"local", "local_allreduce_cpu", "local_update_cpu", "device",
                                    "local_allreduce_device"};
enum { NUM_TYPES = sizeof types / sizeof *types };

static neap_key text_key(const char *text) {
  return (neap_key){.text = text, .length = strlen(text)};
}

static neap_array *filled(neap_context *context, int64_t size, float value) {
  neap_array *array = NULL;
  OK(neap_array_create(context, NEAP_FLOAT32, 1, &size, NEAP_CPU, 0, &array));
  OK(neap_array_fill(array, value));
  return array;
}

/* A row-sparse (4,2) array with the given row, of ones. */
static neap_array *row(neap_context *context, int64_t id) {
  const int64_t shape[] = {4, 2}, one[] = {1, 2};
  neap_array *sparse = NULL, *values = NULL, *ids = NULL;
  OK(neap_sparse_create(context, NEAP_FLOAT32, 2, shape, NEAP_CPU, 0, &sparse));
  OK(neap_array_create(context, NEAP_FLOAT32, 2, one, NEAP_CPU, 0, &values));
  OK(neap_array_create(context, NEAP_INT64, 1, one, NEAP_CPU, 0, &ids));
  OK(neap_array_fill(values, 1));
  OK(neap_array_fill(ids, (double)id));
  OK(neap_sparse_set(sparse, values, ids));
  neap_array_close(values);
  neap_array_close(ids);
  return sparse;
}

/* All elements of a small array, which are alike. */
static float value_of(neap_array *array) {
  static _Thread_local float data[4096];
  size_t count = (size_t)neap_array_get_info(array)->size;
  OK(neap_array_read(array, data, count * sizeof *data));
  for (size_t i = 1; i < count; i++) CHECK(data[i] == data[0]);
  return data[0];
}

/* ---- Arguments ------------------------------------------------------------------------- */

static void senseless_arguments_are_refused(void) {
  neap_context *context = NULL, *other = NULL;
  OK(neap_context_create(NULL, &context));
  OK(neap_context_create(NULL, &other));
  neap_store *store = NULL;
  CHECK(neap_store_create(context, NULL, &store) == NEAP_EINVAL);
  CHECK(neap_store_create(context, "", &store) == NEAP_EINVAL);
  CHECK(neap_store_create(context, "loca", &store) == NEAP_EINVAL &&
        strstr(neap_error(), "device"));
  CHECK(neap_store_create(context, "nccl", &store) == NEAP_ENOTSUP && !store);
  CHECK(neap_store_create(context, "dist_sync", &store) == NEAP_ENOTSUP && !store);
  CHECK(neap_store_type_name(-1) == NULL && strcmp(neap_store_type_name(0), "local") == 0);
  OK(neap_store_create(context, "local", &store));

  neap_array *array = filled(context, 3, 1), *foreign = filled(other, 3, 1), *none = NULL;
  neap_key key = text_key("w"), missing = text_key("x");
  int zero = 0, negative = -1;
  CHECK(neap_store_init(store, 1, &key, &foreign) == NEAP_EINVAL);
  CHECK(neap_store_init(store, 1, &key, &none) == NEAP_EINVAL);
  CHECK(neap_store_init(store, -1, &key, &array) == NEAP_EINVAL);
  OK(neap_store_init(store, 1, &key, &array));
  CHECK(neap_store_init(store, 1, &key, &array) == NEAP_EEXIST);
  CHECK(neap_store_push(store, 1, &key, NULL, &foreign, 0) == NEAP_EINVAL);
  CHECK(neap_store_push(store, 1, &key, NULL, &none, 0) == NEAP_EINVAL);
  CHECK(neap_store_push(store, 1, &key, &zero, &array, 0) == NEAP_EINVAL);
  CHECK(neap_store_push(store, 1, &key, &negative, &array, 0) == NEAP_EINVAL);
  CHECK(neap_store_push(store, 1, &missing, NULL, &array, 0) == NEAP_EKEY);
  CHECK(neap_store_pull(store, 1, &key, NULL, &none, 0, 1) == NEAP_EINVAL);
  CHECK(neap_store_delete(store, &missing) == NEAP_EKEY);
  CHECK(neap_store_key(store, 1, &key) == NEAP_EINVAL);

  neap_context_close(context);
  key = text_key("w");
  CHECK(neap_store_push(store, 1, &key, NULL, &array, 0) == NEAP_ECLOSED);
  CHECK(neap_store_pull(store, 1, &key, NULL, &array, 0, 1) == NEAP_ECLOSED);
  CHECK(neap_store_barrier(store) == NEAP_ECLOSED);
  neap_store_close(store); /* after its context */
  neap_store_close(NULL);
  neap_array_close(array);
  neap_array_close(foreign);
  neap_context_close(other);
}

/* ---- Order ----------------------------------------------------------------------------- */

/* Two pushes are queued while nobody works; then one piece of work is run at a time. */
static void a_higher_priority_runs_first(const char *type) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.num_threads = 0;
  neap_context *context = NULL;
  neap_store *store = NULL;
  OK(neap_context_create(&options, &context));
  OK(neap_store_create(context, type, &store));
  neap_key keys[] = {text_key("first"), text_key("second")};
  const int64_t large = 1 << 16; /* nothing that would run at once, inside the call */
  for (int high = 0; high < 2; high++) {
    neap_array *arrays[] = {filled(context, large, 1), filled(context, large, 2)}, *values[2];
    if (high == 0) OK(neap_store_init(store, 2, keys, arrays));
    OK(neap_wait_all(context));
    for (int i = 0; i < 2; i++) OK(neap_store_value(store, &keys[i], &values[i]));
    OK(neap_store_push(store, 1, &keys[0], NULL, &arrays[0], high == 0 ? 5 : -5));
    OK(neap_store_push(store, 1, &keys[1], NULL, &arrays[1], 0));
    while (!neap_var_idle(neap_array_var(values[high]))) {
      CHECK(!neap_var_idle(neap_array_var(values[!high])));
      neap_poll(context, 0);
    }
    CHECK(!neap_var_idle(neap_array_var(values[!high])));
    OK(neap_wait_all(context));
    for (int i = 0; i < 2; i++) {
      neap_array_close(values[i]);
      neap_array_close(arrays[i]);
    }
  }
  neap_store_close(store);
  neap_context_close(context);
}

static void closing_lets_queued_work_complete(const char *type) {
  neap_context *context = NULL;
  OK(neap_context_create(NULL, &context));
  neap_array *out = filled(context, 1000, 0);
  for (int i = 1; i <= 50; i++) {
    neap_store *store = NULL;
    neap_array *array = filled(context, 1000, (float)i);
    neap_key key = {.number = i};
    OK(neap_store_create(context, type, &store));
    OK(neap_store_init(store, 1, &key, &array));
    OK(neap_store_pull(store, 1, &key, NULL, &out, 0, 1));
    neap_array_close(array);
    neap_store_close(store);
    if (i % 7 == 0) CHECK(value_of(out) == (float)i);
  }
  CHECK(value_of(out) == 50);
  neap_array_close(out);
  neap_context_close(context);
}

/* ---- Many threads ---------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 60 };

typedef struct share {
  neap_context *context;
  neap_store *store;
  int number;
  int inits; /* keys this thread was the first for */
} share;

static void *pound(void *arg) {
  share *s = arg;
  neap_array *mine = filled(s->context, 300, (float)(s->number + 1));
  neap_array *out = filled(s->context, 300, 0);
  char name[32];
  sprintf(name, "own %d", s->number);
  neap_key own = text_key(name), common = text_key("common");
  for (int i = 0; i < ROUNDS; i++) {
    /* A key of one's own, which comes and goes. */
    OK(neap_store_init(s->store, 1, &own, &mine));
    /* Whole values only, of whichever thread. */
    OK(neap_store_push(s->store, 1, &common, NULL, &mine, i % 3));
    OK(neap_store_pull(s->store, 1, &common, NULL, &out, i % 2, 1));
    float value = value_of(out);
    CHECK(value >= 0 && value <= THREADS);
    neap_array *pair[] = {mine, mine};
    int two = 2;
    OK(neap_store_pushpull(s->store, 1, &own, &two, pair, NULL, &out, 0, 1));
    CHECK(value_of(out) == 2 * (float)(s->number + 1));
    /* Everybody wants to be the first. */
    char race[32];
    sprintf(race, "race %d", i);
    neap_key raced = text_key(race);
    int status = neap_store_init(s->store, 1, &raced, &mine);
    CHECK(status == NEAP_OK || status == NEAP_EEXIST);
    s->inits += status == NEAP_OK;
    CHECK(neap_store_contains(s->store, &raced));
    OK(neap_store_delete(s->store, &own));
    if (i % 20 == 0) OK(neap_store_barrier(s->store));
  }
  neap_array_close(mine);
  neap_array_close(out);
  return NULL;
}

static void threads_share_a_store(const char *type) {
  neap_context *context = NULL;
  neap_store *store = NULL;
  OK(neap_context_create(NULL, &context));
  OK(neap_store_create(context, type, &store));
  neap_array *zeros = filled(context, 300, 0);
  neap_key common = text_key("common");
  OK(neap_store_init(store, 1, &common, &zeros));
  pthread_t threads[THREADS];
  share shares[THREADS];
  int inits = 0;
  for (int i = 0; i < THREADS; i++) {
    shares[i] = (share){context, store, i, 0};
    CHECK(pthread_create(&threads[i], NULL, pound, &shares[i]) == 0);
  }
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
    inits += shares[i].inits;
  }
  CHECK(inits == ROUNDS); /* each raced key was initialized by one of them */
  neap_array_close(zeros);
  neap_store_close(store);
  neap_context_close(context);
}

/* ---- Failing allocations ----------------------------------------------------------------- */

typedef struct memory {
  pthread_mutex_t lock;
  int64_t bytes; /* handed out and not back yet */
  int fail_in;   /* the first allocation to fail, counted down to 1; 0: none */
  bool failed;
} memory;

static void *memory_alloc(void *user, size_t size, size_t align) {
  memory *m = user;
  pthread_mutex_lock(&m->lock);
  bool fail = m->fail_in == 1; /* and all that follow: trying again is no way out */
  if (m->fail_in > 1) m->fail_in--;
  if (fail) m->failed = true;
  if (!fail) m->bytes += (int64_t)size;
  pthread_mutex_unlock(&m->lock);
  void *block = NULL;
  if (fail || posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size))
    return NULL;
  return block;
}

static void memory_free(void *user, void *block, size_t size) {
  memory *m = user;
  pthread_mutex_lock(&m->lock);
  m->bytes -= (int64_t)size;
  pthread_mutex_unlock(&m->lock);
  free(block);
}

/* What the calls below work with. */
typedef struct scene {
  neap_context *context;
  neap_store *store, *second;
  neap_key keys[20], fresh[20], sparse;
  neap_array *arrays[40], *outs[20]; /* two of twos for each key; zeros */
  neap_array *rows[2], *row_out, *ids, *sum, *value;
  neap_optimizer *optimizer; /* weight + gradient; its state adds up gradients */
  int counts[20];
} scene;

static int call_create(scene *s) {
  return neap_store_create(s->context, "device", &s->second);
}
static int call_init(scene *s) {
  return neap_store_init(s->store, 20, s->fresh, s->arrays);
}
static int call_broadcast(scene *s) {
  return neap_store_broadcast(s->store, 20, s->fresh, s->arrays, NULL, s->outs, 0, 1);
}
static int call_push(scene *s) {
  return neap_store_push(s->store, 20, s->keys, s->counts, s->arrays, 0);
}
static int call_pull(scene *s) {
  return neap_store_pull(s->store, 20, s->keys, NULL, s->outs, 0, 1);
}
static int call_pushpull(scene *s) {
  return neap_store_pushpull(s->store, 20, s->keys, s->counts, s->arrays, NULL, s->outs, 0, 1);
}
/* Compressed, where the type can: twos are sent whole. */
static int call_push_coded(scene *s) {
  if (strcmp(neap_store_type(s->store), "device") == 0)
    OK(neap_store_set_compression(s->store, "2bit", 2));
  return call_push(s);
}
static int call_push_optimizer(scene *s) {
  OK(neap_store_set_optimizer(s->store, s->optimizer));
  return call_push(s);
}
static int call_pushpull_optimizer(scene *s) {
  OK(neap_store_set_optimizer(s->store, s->optimizer));
  return call_pushpull(s);
}
static int call_push_rows(scene *s) {
  int two = 2;
  return neap_store_push(s->store, 1, &s->sparse, &two, s->rows, 0);
}
static int call_pull_rows(scene *s) {
  return neap_store_pull_rows(s->store, 1, &s->sparse, NULL, &s->row_out, &s->ids, 0);
}
static int call_sum(scene *s) {
  return neap_store_sum(s->store, &s->keys[0], 2, s->arrays, 0, &s->sum);
}
static int call_value(scene *s) {
  return neap_store_value(s->store, &s->keys[0], &s->value);
}
static int call_barrier(scene *s) {
  return neap_store_barrier(s->store);
}

typedef struct failing_call {
  int (*call)(scene *s);
  bool inits;
  float pushes; /* what stands in the store afterwards; 0: what stood there */
  bool pulls;
  bool counts; /* an update for each key */
} failing_call;

static const failing_call calls[] = {
    {.call = call_create},
    {.call = call_init, .inits = true},
    {.call = call_broadcast, .inits = true, .pulls = true},
    {.call = call_push, .pushes = 4},
    {.call = call_push_coded, .pushes = 4},
    {.call = call_push_optimizer, .pushes = 6, .counts = true},
    {.call = call_pull, .pulls = true},
    {.call = call_pushpull, .pushes = 4, .pulls = true},
    {.call = call_pushpull_optimizer, .pushes = 6, .pulls = true, .counts = true},
    {.call = call_push_rows},
    {.call = call_pull_rows},
    {.call = call_sum},
    {.call = call_value},
    {.call = call_barrier},
};

/* A program by hand: weight = weight + gradient, n = n + gradient. */
static neap_optimizer *adding_optimizer(scene *s) {
  enum { STRINGS = 4, SIZE = NEAP_P_HEADER + 24 + 5 * 16 + STRINGS };
  const uint32_t words[SIZE / 4] = {/* header */ NEAP_P_MAGIC,
                                    NEAP_P_VERSION,
                                    SIZE,
                                    0,
                                    0,
                                    1,
                                    0,
                                    0,
                                    5,
                                    STRINGS,
                                    2,
                                    0,
                                    /* state n: name, start 0, result, value 0.0 */ 0,
                                    1,
                                    0,
                                    4,
                                    0,
                                    0,
                                    /* nodes */ NEAP_P_OP_weight,
                                    0,
                                    0,
                                    0,
                                    NEAP_P_OP_gradient,
                                    0,
                                    0,
                                    0,
                                    NEAP_P_OP_add,
                                    0,
                                    1,
                                    0,
                                    NEAP_P_OP_state,
                                    0,
                                    0,
                                    0,
                                    NEAP_P_OP_add,
                                    3,
                                    1,
                                    0,
                                    /* strings */ 'n'};
  neap_program *program = NULL;
  neap_optimizer *optimizer = NULL;
  OK(neap_program_create(s->context, words, sizeof words, &program));
  OK(neap_optimizer_create(s->context, "adding", &optimizer));
  for (int i = 0; i < 20; i++) OK(neap_optimizer_bind(optimizer, &s->keys[i], NEAP_DENSE, program));
  neap_program_close(program);
  return optimizer;
}

/* Each key was updated `count` times, by fours, and the whole as often. */
static void check_counts(scene *s, int64_t count) {
  int64_t is = -1;
  OK(neap_optimizer_count(s->optimizer, NULL, &is));
  CHECK(is == count);
  for (int i = 0; i < 20; i++) {
    OK(neap_optimizer_count(s->optimizer, &s->keys[i], &is));
    CHECK(is == count);
    neap_key key;
    const char *name;
    neap_array *state = NULL;
    if (neap_optimizer_state(s->optimizer, i, &key, &name, &state) != NEAP_OK)
      CHECK(count == 0);
    else
      CHECK(value_of(state) == 4 * (float)count);
    neap_array_close(state);
  }
}

static void open_scene(scene *s, memory *m, const char *type) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.num_threads = 0; /* work runs when the test waits: allocations are those of the call */
  options.pool_limit = 0;
  options.alloc = memory_alloc;
  options.free = memory_free;
  options.user = m;
  memset(s, 0, sizeof *s);
  OK(neap_context_create(&options, &s->context));
  OK(neap_store_create(s->context, type, &s->store));
  static char names[40][16];
  for (int i = 0; i < 20; i++) {
    sprintf(names[i], "key %d", i);
    sprintf(names[20 + i], "fresh %d", i);
    s->keys[i] = text_key(names[i]);
    s->fresh[i] = text_key(names[20 + i]);
    s->arrays[2 * i] = filled(s->context, 5, 2);
    s->arrays[2 * i + 1] = filled(s->context, 5, 2);
    s->outs[i] = filled(s->context, 5, 0);
    s->counts[i] = 2;
  }
  OK(neap_store_init(s->store, 20, s->keys, s->arrays));
  s->sparse = text_key("sparse");
  s->rows[0] = row(s->context, 0);
  s->rows[1] = row(s->context, 3);
  s->row_out = row(s->context, 1);
  OK(neap_store_init(s->store, 1, &s->sparse, s->rows));
  int64_t one = 1;
  OK(neap_array_create(s->context, NEAP_INT64, 1, &one, NEAP_CPU, 0, &s->ids));
  OK(neap_array_fill(s->ids, 3));
  s->optimizer = adding_optimizer(s);
  OK(neap_wait_all(s->context));
}

static void close_scene(scene *s) {
  for (int i = 0; i < 20; i++) {
    neap_array_close(s->arrays[2 * i]);
    neap_array_close(s->arrays[2 * i + 1]);
    neap_array_close(s->outs[i]);
  }
  neap_array *others[] = {s->rows[0], s->rows[1], s->row_out, s->ids, s->sum, s->value};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) neap_array_close(others[i]);
  neap_store_close(s->store);
  neap_store_close(s->second);
  neap_optimizer_close(s->optimizer);
  neap_context_close(s->context);
}

/* What stands in the scene, given what of the call took effect. */
static void check_scene(scene *s, const failing_call *c, bool done) {
  OK(neap_wait_all(s->context));
  for (int i = 0; i < 20; i++) {
    CHECK(neap_store_contains(s->store, &s->fresh[i]) == (c->inits && done));
    neap_array *value = NULL;
    OK(neap_store_value(s->store, &s->keys[i], &value));
    float stored = c->pushes > 0 && done ? c->pushes : 2;
    CHECK(value_of(value) == stored);
    neap_array_close(value);
    CHECK(value_of(s->outs[i]) == (c->pulls && done ? stored : 0));
    CHECK(value_of(s->arrays[2 * i]) == 2);
  }
  neap_key key;
  CHECK((neap_store_key(s->store, 21, &key) == NEAP_OK) == (c->inits && done));
  check_counts(s, c->counts && done);
}

static void any_allocation_may_fail(const char *type) {
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
    for (int n = 1;; n++) {
      memory m = {.lock = PTHREAD_MUTEX_INITIALIZER};
      scene s;
      open_scene(&s, &m, type);
      m.fail_in = n;
      int status = calls[i].call(&s);
      m.fail_in = 0;
      bool failed = m.failed;
      CHECK(status == NEAP_OK || (failed && status == NEAP_ENOMEM));
      /* Short work may have run within the call, and failed there: a late error. */
      int late = neap_wait_all(s.context);
      CHECK(late == NEAP_OK || (failed && status == NEAP_OK && late == NEAP_ENOMEM));
      check_scene(&s, &calls[i], status == NEAP_OK);
      if (status != NEAP_OK) {
        OK(calls[i].call(&s)); /* and the same again goes well */
        check_scene(&s, &calls[i], true);
      }
      close_scene(&s);
      CHECK(m.bytes == 0);
      if (!failed) break; /* n is beyond the call's last allocation */
      CHECK(n < 2000);
    }
  }
}

int main(void) {
  senseless_arguments_are_refused();
  for (int i = 0; i < NUM_TYPES; i++) {
    a_higher_priority_runs_first(types[i]);
    closing_lets_queued_work_complete(types[i]);
  }
  threads_share_a_store("local");
  threads_share_a_store("device");
  any_allocation_may_fail("local");
  any_allocation_may_fail("device");
  return 0;
}
