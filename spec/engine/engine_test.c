/* SPDX-License-Identifier: MIT */
/* engine_test.c - the engine against serial execution.
 *
 * Random operations on counters that are not atomic: whatever the threads do, the numbers must be
 * those of running the operations one after the other. Under ThreadSanitizer the same programs
 * show that the order is real. */
#include "spec/check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { VARS = 100, MAX_READS = 19 };

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static neap_context *context_with(int engine, int threads) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.engine = engine;
  options.num_threads = threads;
  neap_context *context;
  OK(neap_context_create(&options, &context));
  return context;
}

/* ---- Random programs ------------------------------------------------------------------------- */

typedef struct {
  uint64_t *values;
  int reads[MAX_READS], num_reads, write, write2;
  uint64_t salt;
} mix;

static void mix_serially(const mix *m) {
  uint64_t sum = m->salt;
  for (int i = 0; i < m->num_reads; i++) sum = sum * 31 + m->values[m->reads[i]];
  m->values[m->write] = m->values[m->write] * 7 + sum;
  m->values[m->write2] ^= sum >> 7;
}

static int mix_run(neap_task *task, void *arg) {
  mix_serially(arg);
  return NEAP_OK;
}

static void make_mix(mix *m, uint64_t *values, uint64_t *random) {
  m->values = values;
  m->num_reads = 2 + (int)(next_random(random) % (MAX_READS - 1));
  for (int i = 0; i < m->num_reads; i++) m->reads[i] = (int)(next_random(random) % VARS);
  m->write = (int)(next_random(random) % VARS);
  m->write2 = (int)(next_random(random) % VARS);
  m->salt = next_random(random);
}

static void push_mix(neap_context *context, neap_var **vars, mix *m, int priority, int quick) {
  neap_var *reads[MAX_READS], *writes[2] = {vars[m->write], vars[m->write2]};
  for (int i = 0; i < m->num_reads; i++) reads[i] = vars[m->reads[i]];
  neap_op op = {.size = sizeof op,
                .name = "mix",
                .run = mix_run,
                .arg = m,
                .reads = reads,
                .num_reads = m->num_reads,
                .writes = writes,
                .num_writes = 2,
                .priority = priority,
                .quick = quick};
  OK(neap_push(context, &op));
}

/* 10,000 operations, each with 2 to 19 reads (repeats, and reads of what is written, included). */
static void random_operations(int engine, int threads, uint64_t seed) {
  enum { OPS = 10000 };
  static mix mixes[OPS];
  uint64_t expected[VARS] = {0}, values[VARS] = {0}, random = seed;
  neap_context *context = context_with(engine, threads);
  neap_var *vars[VARS];
  for (int i = 0; i < VARS; i++) OK(neap_var_create(context, &vars[i]));
  for (int i = 0; i < OPS; i++) {
    make_mix(&mixes[i], expected, &random);
    mix_serially(&mixes[i]);
    mixes[i].values = values;
    push_mix(context, vars, &mixes[i], (int)(next_random(&random) % 3) - 1,
             next_random(&random) % 4 == 0);
    if (i % 1000 == 999) {
      int v = (int)(next_random(&random) % VARS);
      OK(neap_var_wait(vars[v]));
      CHECK(values[v] == expected[v]);
    }
  }
  OK(neap_wait_all(context));
  CHECK(memcmp(values, expected, sizeof values) == 0);
  for (int i = 0; i < VARS; i++) neap_var_close(vars[i]);
  neap_context_close(context);
}

/* ---- Failures
 * ------------------------------------------------------------------------------------ */

static int fail_run(neap_task *task, void *arg) {
  return neap_task_fail(task, NEAP_EINVAL, "on purpose");
}

static int count_run(neap_task *task, void *arg) {
  ++*(int *)arg;
  return NEAP_OK;
}

static void push(neap_context *context, neap_fn run, void *arg, neap_var *read, neap_var *write) {
  neap_op op = {.size = sizeof op,
                .name = "step",
                .run = run,
                .arg = arg,
                .reads = &read,
                .num_reads = read != NULL,
                .writes = &write,
                .num_writes = write != NULL};
  OK(neap_push(context, &op));
}

/* a fails; b depends on a, c on b, d on nothing. */
static void a_failure_marks_what_depends_on_it(int engine) {
  neap_context *context = context_with(engine, 2);
  neap_var *a, *b, *c, *d;
  OK(neap_var_create(context, &a));
  OK(neap_var_create(context, &b));
  OK(neap_var_create(context, &c));
  OK(neap_var_create(context, &d));
  int ran = 0, ran_d = 0, last = 0;
  push(context, fail_run, NULL, NULL, a);
  push(context, count_run, &ran, a, b);
  push(context, count_run, &ran, b, c);
  push(context, count_run, &ran_d, NULL, d);
  OK(neap_var_wait(d));
  CHECK(ran_d == 1);
  CHECK(neap_var_wait(c) == NEAP_EINVAL);
  CHECK(strcmp(neap_error(), "step: on purpose") == 0);
  CHECK(ran == 0);
  OK(neap_var_wait(c)); /* told once */
  OK(neap_var_wait(a));
  OK(neap_wait_all(context));
  push(context, count_run, &last, b, c); /* what is queued afterwards runs again */
  OK(neap_var_wait(c));
  CHECK(last == 1);
  push(context, fail_run, NULL, NULL, NULL); /* nobody reads it: wait_all tells */
  CHECK(neap_wait_all(context) == NEAP_EINVAL);
  OK(neap_wait_all(context));
  neap_var_close(a), neap_var_close(b), neap_var_close(c), neap_var_close(d);
  neap_context_close(context);
}

typedef struct {
  bool *ran;
  bool fails;
} maybe;

static int maybe_run(neap_task *task, void *arg) {
  maybe *m = arg;
  *m->ran = true;
  return m->fails ? neap_task_fail(task, NEAP_EFAILED, "chance") : NEAP_OK;
}

/* Random programs with failures: exactly what depends on a failed write is skipped. */
static void failures_mark_exactly_their_dependents(int threads) {
  enum { OPS = 3000, FEW = 40 };
  static maybe ops[OPS];
  static bool ran[OPS], expected[OPS];
  memset(ran, 0, sizeof ran);
  bool marked[FEW] = {false};
  uint64_t random = 5;
  neap_context *context = context_with(NEAP_ENGINE_THREADED, threads);
  neap_var *vars[FEW];
  for (int i = 0; i < FEW; i++) OK(neap_var_create(context, &vars[i]));
  for (int i = 0; i < OPS; i++) {
    int r = (int)(next_random(&random) % FEW), w = (int)(next_random(&random) % FEW);
    ops[i] = (maybe){&ran[i], next_random(&random) % 500 == 0};
    expected[i] = !marked[r] && !marked[w];
    marked[w] = !expected[i] || ops[i].fails;
    push(context, maybe_run, &ops[i], vars[r], vars[w]);
  }
  while (neap_wait_all(context) != NEAP_OK) {
  }
  CHECK(memcmp(ran, expected, sizeof ran) == 0);
  for (int i = 0; i < FEW; i++) neap_var_close(vars[i]);
  neap_context_close(context);
}

/* ---- Parts, priorities
 * ----------------------------------------------------------------------------- */

typedef struct {
  int *cells;
  atomic_int done;
} parts_arg;

static int part_run(neap_task *task, void *arg) {
  parts_arg *p = arg;
  p->cells[neap_task_part(task)]++;
  return NEAP_OK;
}

static void parts_done(void *arg) {
  atomic_fetch_add(&((parts_arg *)arg)->done, 1);
}

static void each_part_runs_once(int engine, int threads) {
  enum { PARTS = 1000 };
  static int cells[PARTS];
  memset(cells, 0, sizeof cells);
  neap_context *context = context_with(engine, threads);
  neap_var *var;
  OK(neap_var_create(context, &var));
  parts_arg arg = {.cells = cells};
  for (int round = 1; round <= 20; round++) {
    neap_op op = {.size = sizeof op,
                  .name = "parts",
                  .run = part_run,
                  .done = parts_done,
                  .arg = &arg,
                  .writes = &var,
                  .num_writes = 1,
                  .parts = PARTS};
    OK(neap_push(context, &op));
    OK(neap_var_wait(var));
    CHECK(atomic_load(&arg.done) == round);
    for (int i = 0; i < PARTS; i++) CHECK(cells[i] == round);
  }
  neap_var_close(var);
  neap_context_close(context);
}

static int failing_part_run(neap_task *task, void *arg) {
  int part = neap_task_part(task);
  return part % 7 == 3 ? neap_task_fail(task, NEAP_EFAILED, "part %d", part) : NEAP_OK;
}

static void of_failing_parts_the_first_is_told(void) {
  neap_context *context = context_with(NEAP_ENGINE_THREADED, 3);
  neap_var *var;
  OK(neap_var_create(context, &var));
  for (int round = 0; round < 50; round++) {
    neap_op op = {.size = sizeof op,
                  .name = "parts",
                  .run = failing_part_run,
                  .writes = &var,
                  .num_writes = 1,
                  .parts = 100};
    OK(neap_push(context, &op));
    CHECK(neap_var_wait(var) == NEAP_EFAILED);
    CHECK(strcmp(neap_error(), "parts: part 3") == 0);
    OK(neap_wait_all(context));
  }
  neap_var_close(var);
  neap_context_close(context);
}

static int order[8], order_count;
static int note_run(neap_task *task, void *arg) {
  order[order_count++] = *(int *)arg;
  return NEAP_OK;
}

static void higher_priorities_run_first(void) {
  neap_context *context = context_with(NEAP_ENGINE_THREADED, 0);
  int numbers[6] = {0, 5, -3, 5, 7, 0}, wanted[6] = {7, 5, 5, 0, 0, -3};
  order_count = 0;
  for (int i = 0; i < 6; i++) {
    neap_op op = {.size = sizeof op,
                  .name = "note",
                  .run = note_run,
                  .arg = &numbers[i],
                  .priority = numbers[i]};
    OK(neap_push(context, &op));
  }
  CHECK(order_count == 0); /* no workers: nothing runs until somebody polls or waits */
  int polled = neap_poll(context, 0);
  CHECK(polled == 1 && order[0] == 7);
  OK(neap_wait_all(context));
  CHECK(memcmp(order, wanted, sizeof wanted) == 0);
  neap_context_close(context);
}

/* ---- Life
 * -----------------------------------------------------------------------------------------------
 */

static int slow_run(neap_task *task, void *arg) {
  usleep(2000);
  ++*(int *)arg;
  return NEAP_OK;
}

static void variables_may_be_closed_while_in_use(void) {
  neap_context *context = context_with(NEAP_ENGINE_THREADED, 2);
  int count = 0;
  neap_var *var;
  OK(neap_var_create(context, &var));
  for (int i = 0; i < 10; i++) push(context, slow_run, &count, NULL, var);
  neap_var_close(var);
  OK(neap_wait_all(context));
  CHECK(count == 10);
  neap_context_close(context);
}

static void stopping_runs_what_is_queued_and_starting_goes_on(void) {
  neap_context *context = context_with(NEAP_ENGINE_THREADED, 2);
  neap_var *var;
  OK(neap_var_create(context, &var));
  int count = 0;
  for (int round = 1; round <= 5; round++) {
    for (int i = 0; i < 5; i++) push(context, slow_run, &count, NULL, var);
    OK(neap_stop(context));
    CHECK(count == 10 * round - 5);
    for (int i = 0; i < 5; i++) push(context, slow_run, &count, NULL, var);
    CHECK(neap_counter(context, NEAP_COUNT_PENDING) == 5);
    CHECK(count == 10 * round - 5);
    OK(neap_start(context));
    OK(neap_var_wait(var));
    CHECK(count == 10 * round);
  }
  for (int i = 0; i < 5; i++) push(context, slow_run, &count, NULL, var);
  neap_context_close(context); /* with work queued, and before the variable */
  CHECK(count == 55);
  neap_var_close(var);
}

static int busy_run(neap_task *task, void *arg) {
  for (volatile int i = 0; i < 1000; i++) {
  }
  ++*(int *)arg;
  return NEAP_OK;
}

/* What is queued is memory: even along one chain, where who queues cannot help. */
static void the_backlog_is_bounded(void) {
  enum { OPS = 100000, MOST = 66000 };
  neap_context *context = context_with(NEAP_ENGINE_THREADED, 1);
  neap_var *var;
  OK(neap_var_create(context, &var));
  int count = 0;
  for (int i = 0; i < OPS; i++) {
    push(context, busy_run, &count, NULL, var);
    if (i % 1000 == 0) CHECK(neap_counter(context, NEAP_COUNT_PENDING) < MOST);
  }
  CHECK(neap_counter(context, NEAP_COUNT_PENDING) < MOST);
  OK(neap_var_wait(var));
  CHECK(count == OPS);
  neap_var_close(var);
  neap_context_close(context);
}

static int waits_run(neap_task *task, void *arg) {
  return neap_var_wait(arg) == NEAP_EINVAL ? NEAP_OK : NEAP_EFAILED;
}

static void waiting_inside_an_operation_is_refused(void) {
  neap_context *context = context_with(NEAP_ENGINE_THREADED, 1);
  neap_var *var;
  OK(neap_var_create(context, &var));
  push(context, waits_run, var, NULL, var);
  OK(neap_var_wait(var));
  neap_var_close(var);
  neap_context_close(context);
}

/* ---- Many threads queue at once
 * ------------------------------------------------------------------------- */

enum { PUSHERS = 4, PUSHES = 3000, FEW = 8 };

typedef struct {
  neap_context *context;
  neap_var **vars;
  uint64_t *counts;
  uint64_t seed;
} pusher;

typedef struct {
  uint64_t *a, *b;
} pair;

static int pair_run(neap_task *task, void *arg) {
  pair *p = arg;
  ++*p->a;
  if (p->b != p->a) ++*p->b;
  return NEAP_OK;
}

static void *push_many(void *arg) {
  pusher *p = arg;
  uint64_t random = p->seed;
  for (int i = 0; i < PUSHES; i++) {
    int a = (int)(next_random(&random) % FEW), b = (int)(next_random(&random) % FEW);
    pair *counters = malloc(sizeof *counters);
    *counters = (pair){&p->counts[a], &p->counts[b]};
    neap_var *writes[2] = {p->vars[a], p->vars[b]}, *read = p->vars[FEW];
    neap_op op = {.size = sizeof op,
                  .name = "pair",
                  .run = pair_run,
                  .done = free,
                  .arg = counters,
                  .writes = writes,
                  .num_writes = 2,
                  .reads = &read,
                  .num_reads = 1,
                  .quick = i & 1};
    OK(neap_push(p->context, &op));
    if (i % 500 == 0) OK(neap_var_wait(p->vars[a]));
    if (i % 1000 == 0) OK(neap_wait_all(p->context));
  }
  return NULL;
}

/* Each operation adds 1 to two counters that nothing else guards. */
static void threads_may_push_at_once(int engine, int workers) {
  neap_context *context = context_with(engine, workers);
  neap_var *vars[FEW + 1];
  uint64_t counts[FEW] = {0}, expected[FEW] = {0};
  for (int i = 0; i <= FEW; i++) OK(neap_var_create(context, &vars[i]));
  pthread_t threads[PUSHERS];
  pusher args[PUSHERS];
  for (int t = 0; t < PUSHERS; t++) {
    args[t] = (pusher){context, vars, counts, (uint64_t)t};
    uint64_t random = (uint64_t)t;
    for (int i = 0; i < PUSHES; i++) {
      int a = (int)(next_random(&random) % FEW), b = (int)(next_random(&random) % FEW);
      expected[a]++;
      if (a != b) expected[b]++;
    }
    CHECK(pthread_create(&threads[t], NULL, push_many, &args[t]) == 0);
  }
  for (int t = 0; t < PUSHERS; t++) pthread_join(threads[t], NULL);
  OK(neap_wait_all(context));
  CHECK(memcmp(counts, expected, sizeof counts) == 0);
  for (int i = 0; i <= FEW; i++) neap_var_close(vars[i]);
  neap_context_close(context);
}

/* ---- Memory runs out
 * -------------------------------------------------------------------------------------- */

typedef struct {
  atomic_int left, live;
} countdown;

static void *countdown_alloc(void *user, size_t size, size_t align) {
  countdown *c = user;
  if (atomic_fetch_sub(&c->left, 1) <= 0) return NULL;
  atomic_fetch_add(&c->live, 1);
  void *block = NULL;
  if (align < sizeof(void *)) align = sizeof(void *);
  return posix_memalign(&block, align, size) ? NULL : block;
}

static void countdown_free(void *user, void *block, size_t size) {
  atomic_fetch_sub(&((countdown *)user)->live, 1);
  free(block);
}

/* True if the scenario ran to its end; otherwise some call said NEAP_ENOMEM. */
static bool scenario(countdown *c) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.alloc = countdown_alloc;
  options.free = countdown_free;
  options.user = c;
  options.num_threads = 1;
  neap_context *context;
  int status = neap_context_create(&options, &context);
  CHECK(status == NEAP_OK || status == NEAP_ENOMEM);
  if (status != NEAP_OK) return false;
  neap_var *a = NULL, *b = NULL;
  int count = 0;
  bool whole = neap_var_create(context, &a) == NEAP_OK && neap_var_create(context, &b) == NEAP_OK;
  for (int i = 0; whole && i < 5; i++) {
    neap_op op = {.size = sizeof op,
                  .name = "step",
                  .run = i == 3 ? fail_run : count_run,
                  .arg = &count,
                  .reads = &a,
                  .num_reads = 1,
                  .writes = &b,
                  .num_writes = 1};
    status = neap_push(context, &op);
    CHECK(status == NEAP_OK || status == NEAP_ENOMEM);
    whole = status == NEAP_OK;
  }
  status = b ? neap_var_wait(b) : NEAP_OK;
  CHECK(status == NEAP_OK || status == NEAP_EINVAL || status == NEAP_ENOMEM);
  if (whole) {
    CHECK(status != NEAP_OK && count == 3);
    whole = status == NEAP_EINVAL;
  }
  neap_var_close(a);
  neap_context_close(context);
  neap_var_close(b);
  return whole;
}

static void each_allocation_may_fail(void) {
  bool whole = false;
  for (int n = 0; !whole; n++) {
    CHECK(n < 1000);
    countdown c;
    atomic_init(&c.left, n);
    atomic_init(&c.live, 0);
    whole = scenario(&c);
    CHECK(atomic_load(&c.live) == 0);
  }
}

int main(void) {
  for (uint64_t round = 1; round <= 5; round++) {
    random_operations(NEAP_ENGINE_NAIVE, 0, round);
    random_operations(NEAP_ENGINE_THREADED, 0, round);
    random_operations(NEAP_ENGINE_THREADED, 1, round);
    random_operations(NEAP_ENGINE_THREADED, 4, round);
  }
  a_failure_marks_what_depends_on_it(NEAP_ENGINE_NAIVE);
  a_failure_marks_what_depends_on_it(NEAP_ENGINE_THREADED);
  failures_mark_exactly_their_dependents(0);
  failures_mark_exactly_their_dependents(4);
  each_part_runs_once(NEAP_ENGINE_NAIVE, 0);
  each_part_runs_once(NEAP_ENGINE_THREADED, 0);
  each_part_runs_once(NEAP_ENGINE_THREADED, 3);
  of_failing_parts_the_first_is_told();
  higher_priorities_run_first();
  variables_may_be_closed_while_in_use();
  stopping_runs_what_is_queued_and_starting_goes_on();
  the_backlog_is_bounded();
  waiting_inside_an_operation_is_refused();
  threads_may_push_at_once(NEAP_ENGINE_NAIVE, 0);
  threads_may_push_at_once(NEAP_ENGINE_THREADED, 0);
  threads_may_push_at_once(NEAP_ENGINE_THREADED, 3);
  each_allocation_may_fail();
  return 0;
}
