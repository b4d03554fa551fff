/* SPDX-License-Identifier: MIT */
/* memory_test.c - states that run out of memory: every allocation made to fail in turn, and caps of
 * every size. There is an error with a text each time, and all memory comes back. */
#include "spec/host/host.h"

typedef struct memory {
  long blocks;           /* alive */
  long countdown, calls; /* the countdown-th allocation fails, and `length` - 1 more */
  long length;
} memory;

static void *allocate(void *user, void *block, size_t old_size, size_t size) {
  memory *m = user;
  if (!block) old_size = 0;
  if (size > old_size) {
    m->calls++;
    long left = --m->countdown;
    if (left < 0 && left >= -m->length) return NULL;
  }
  void *new = NULL;
  if (size) {
    new = realloc(block, size);
    CHECK(new);
  } else {
    free(block);
  }
  m->blocks += (size != 0) - (block != NULL);
  return new;
}

/* The contexts' memory, which knows what is alive: an object of libneap's that Lua has no memory
 * left to take hold of is lost, where allocations fail in turn. A cap leaves Neap's Lua enough to
 * lose nothing. */
enum { PLACES = 1 << 14 };
static void *alive[PLACES];
static int num_alive;

static void *context_alloc(void *user, size_t size, size_t align) {
  (void)user;
  void *block = NULL;
  CHECK(num_alive < PLACES);
  CHECK(!posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size));
  alive[num_alive++] = block;
  return block;
}

static void context_free(void *user, void *block, size_t size) {
  (void)user, (void)size;
  int i = num_alive - 1;
  while (i >= 0 && alive[i] != block) i--;
  CHECK(i >= 0);
  alive[i] = alive[--num_alive];
  free(block);
}

static neap_context *counted_context(void) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.engine = NEAP_ENGINE_NAIVE;
  options.alloc = context_alloc;
  options.free = context_free;
  neap_context *context = NULL;
  OK(neap_context_create(&options, &context));
  return context;
}

static void free_lost(void) {
  while (num_alive > 0) free(alive[--num_alive]);
}

static const char RULE[] =
    "return { name = 'rule', defaults = { list = { 1, 2, 3 } }, state = { 'a', b = 'weight' },\n"
    "scalars = { n = 1 }, update = function(w, g, s, p)\n"
    "  local words = ''\n"
    "  for i = 1, 5 do words = words .. i .. ' ' end\n"
    "  s.a = s.a + p.list[3] * g s.n = s.n * p.wd s.b = w\n"
    "  for i = 1, 3 do g = g + i * sqrt(abs(s.a)) end\n"
    "  if p.key == 7 then return w + p.nothing end\n"
    "  return w - p.learning_rate * g + #words\n"
    "end }";

/* Opens, binds some keys, sets. Returns the first failure; how many steps were done. */
static int scenario(neap_host *host, neap_context *c, int *steps) {
  text t = dump_of(RULE, strlen(RULE), "{s2:wdn1;s7:lr_mult{s1:wn2;}}",
                   "return { name = 'r', rate = function(t, p) return p.base_lr / t end }");
  opened o = open_dump(host, c, t.bytes, t.size);
  free(t.bytes);
  *steps = 0;
  int status = o.status;
  if (status) CHECK(strlen(o.error) > 5);
  for (int i = 0; i < 4 && o.script; i++) {
    if (bind_key(&o, i % 2 ? "w" : "v")) {
      CHECK(strlen(o.error) > 5);
      if (!status) status = o.status;
    } else if (!status) {
      ++*steps;
    }
    if (i == 1 && set_text(&o, "{s11:lazy_updateFs4:list{n1;n9;n2;n8;n3;n7;}}") && !status) {
      status = o.status;
    }
  }
  close_opened(&o);
  return status;
}

/* Of the others, one in STRIDE fails by itself. Two primes: what a build with AddressSanitizer
 * leaves out, the other does for the most part. */
#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 5 };
#else
enum { STRIDE = 7 };
#endif

/* The first `made` allocations make the state, by Neap's own Lua: of these, a selection. */
static void fail_in_turn(neap_context *c, memory *m, neap_host *host, long length, long made) {
  m->length = length;
  m->calls = 0;
  m->countdown = 1 << 30;
  int steps, status;
  CHECK(scenario(host, c, &steps) == NEAP_OK && steps == 4);
  long all = m->calls, failed = 0;
#ifdef __SANITIZE_THREAD__
  made = all; /* it has nothing to find here, and takes its time: a selection of all */
#endif
  for (long i = 0; i < all; i += i < made ? 1 + i / 100 : length == 1 ? STRIDE : 32) {
    m->countdown = i;
    status = scenario(host, c, &steps);
    CHECK(status == NEAP_OK || status == NEAP_ENOMEM || status == NEAP_EINVAL);
    failed += status != NEAP_OK;
    CHECK(m->blocks == 0);
    m->countdown = 1 << 30;
    if (i % 64 == 0) CHECK(scenario(host, c, &steps) == NEAP_OK && steps == 4);
  }
  CHECK(failed > 100);
  printf("%ld allocations, %ld of them to make the state; %ld times refused\n", all, made, failed);
}

/* Caps from nothing to enough. */
static void cap(neap_context *c) {
  int refused = 0;
  for (size_t memory_cap = 0; memory_cap < 1 << 20;
       memory_cap += memory_cap < 65536 ? 1024 : 65536) {
    memory m = {.countdown = 1 << 30};
    neap_host_options options;
    neap_host_options_init(&options, sizeof options);
    options.alloc = allocate;
    options.user = &m;
    options.memory = memory_cap;
    neap_host *host = make_host(&options);
    CHECK(m.blocks == 0);
    int steps, status = scenario(host, c, &steps);
    CHECK(m.blocks == 0);
    neap_host_close(host);
    CHECK(status || steps == 4);
    refused += status != NEAP_OK;
    if (memory_cap == 0) CHECK(status == NEAP_EINVAL);
    if (memory_cap > 1 << 19) CHECK(status == NEAP_OK);
  }
  CHECK(refused > 1);
}

/* A script whose functions ran out of memory for one key can be bound for others. Keys that a
 * script asks for by name take memory for as long as it lives. */
static void go_on(neap_context *c) {
  neap_host_options options;
  neap_host_options_init(&options, sizeof options);
  options.memory = 1 << 20;
  neap_host *host = make_host(&options);
  opened o = open_source(host, c,
                         "return { name = 'rule', update = function(w, g, s, p)\n"
                         "  local t = {}\n"
                         "  if p.key == 'large' then for i = 1, 1e9 do t[i] = {} end end\n"
                         "  return w - g\n"
                         "end }");
  FINE(o, o.status);
  FINE(o, bind_key(&o, "a"));
  CHECK(bind_key(&o, "large") == NEAP_EINVAL);
  CHECK(!strncmp(o.error, "rule:1: needs more than 1 MiB", 29));
  FINE(o, bind_key(&o, "b"));
  int bound = 0;
  char key[32];
  do {
    snprintf(key, sizeof key, "key %d", bound++);
  } while (bind_key(&o, key) == NEAP_OK);
  CHECK(bound > 100 && strstr(o.error, "1 MiB"));
  if (o.status == NEAP_ENOMEM) { /* it was not the script's function that asked for more */
    CHECK(bind_key(&o, "a") == NEAP_ENOMEM && strstr(o.error, "open the script again"));
    CHECK(set_text(&o, "{}") == NEAP_ENOMEM);
  }
  size_t used, limit;
  neap_host_usage(o.script, &used, &limit);
  CHECK(used <= limit && limit > 1 << 20 && limit < 16 << 20);
  close_opened(&o);
  neap_host_close(host);
}

int main(void) {
  neap_context *c = counted_context();
  memory m = {.countdown = 1 << 30};
  neap_host_options options;
  neap_host_options_init(&options, sizeof options);
  options.alloc = allocate;
  options.user = &m;
  neap_host *host = make_host(&options);
  long made = m.calls;
  fail_in_turn(c, &m, host, 1, made);
  fail_in_turn(c, &m, host, 1 << 20, made); /* and everything after it */
  neap_host_close(host);
  for (long i = 0; i < 2000; i += 1 + i / 10) { /* while it is made */
    m.countdown = i;
    m.length = 1 << 20;
    neap_host *none = NULL;
    char error[256] = "";
    int status = neap_host_create(&options, &none, error, sizeof error);
    CHECK(status == NEAP_ENOMEM && !none && *error && m.blocks == 0);
  }
  neap_context_close(c);
  free_lost();

  c = counted_context();
  cap(c);
  go_on(c);
  neap_context_close(c);
  CHECK(num_alive == 0);
  return 0;
}
