/* SPDX-License-Identifier: MIT */
/* hostile_test.c - scripts that mean harm, or forget to end: each is refused with a reason, soon,
 * in bounded memory, and the next one is none the wiser. */
#define _GNU_SOURCE
#include "spec/host/host.h"
#include "spec/host/hostile.h"
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

static int64_t rss(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024; /* MiB, at the peak */
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static const char GOOD[] =
    "return { name = 'good', state = { 'm' }, update = function(w, g, s, p) "
    "s.m = s.m + g return w - p.learning_rate * clip(s.m, math.floor(2.5)) end }";

/* The next script finds everything as it should be. */
static void check_good(neap_host *host, neap_context *context) {
  opened o = open_source(host, context, GOOD);
  FINE(o, o.status);
  FINE(o, bind_key(&o, "w"));
  close_opened(&o);
}

static void check_refused(neap_host *host, neap_context *context, const char *source,
                          const char *words) {
  double start = seconds();
  opened o = open_source(host, context, source);
  if (!o.status) bind_key(&o, "w");
  double took = seconds() - start;
  if (o.status != NEAP_EINVAL || !says(o.error, words) || took > 2) {
    fprintf(stderr, "%s\n  %s after %.2f s: %s\n  wanted: %s\n", source, neap_status_name(o.status),
            took, o.error, words);
    exit(1);
  }
  if (o.script) { /* it says the same again, and can be told to go */
    CHECK(bind_key(&o, "v") == NEAP_EINVAL && says(o.error, words));
  }
  close_opened(&o);
}

/* As UPDATE("return " body "... nested "): text too deep for the parser. */
static char *nested(const char *open, const char *close, int depth) {
  text t = {0};
  add(&t, "return ", 7);
  for (int i = 0; i < depth; i++) add(&t, open, strlen(open));
  add(&t, "1", 1);
  for (int i = 0; i < depth; i++) add(&t, close, strlen(close));
  return t.bytes;
}

static void check_nesting(neap_host *host, neap_context *context) {
  static const char *const PAIRS[][2] = {
      {"(", ")"},  {"{", "}"},    {"- ", ""},   {"not ", ""}, {"function() return ", " end"},
      {"f(", ")"}, {"1 .. ", ""}, {"2 ^ ", ""}, {"a[", "]"},
  };
  for (size_t i = 0; i < sizeof PAIRS / sizeof *PAIRS; i++) {
    char *source = nested(PAIRS[i][0], PAIRS[i][1], 2500);
    check_refused(host, context, source, "script:1:");
    free(source);
  }
  char *source = nested("{},", "", 30000); /* more than a script may have */
  check_refused(host, context, source, "at most 65536 bytes");
  free(source);
}

static void check_schedules(neap_host *host, neap_context *context) {
  static const hostile SCHEDULES[] = {
      {RATE("while true do end"), "evil:1: runs for more than"},
      {RATE("local a = 'x' while true do a = a .. a end"), "evil:1: needs more than"},
      {RATE("return io"), "evil:1: rate must return"},
      {RATE("return t == 1 and 2 or 3"), "compared by =="},
      {"return { name = 'evil', rate = function() return 1 end, check = function(p) "
       "while true do end end }",
       "evil:1: runs for more than"},
      {"return { name = 'evil', rate = function() return 1 end, check = function(p) p.x = 1 "
       "error(p.nothing) end }",
       "no setting"},
      {"return { name = 'evil', rate = 3 }", "rate must be a function"},
      {"\x1bLJ", "bytecode"},
  };
  for (size_t i = 0; i < sizeof SCHEDULES / sizeof *SCHEDULES; i++) {
    text t = dump_of(GOOD, strlen(GOOD), NULL, SCHEDULES[i].source);
    opened o = open_dump(host, context, t.bytes, t.size);
    if (o.status != NEAP_EINVAL || !says(o.error, SCHEDULES[i].words)) {
      fprintf(stderr, "%s\n  %s\n  wanted: %s\n", SCHEDULES[i].source, o.error, SCHEDULES[i].words);
      exit(1);
    }
    free(t.bytes);
  }
}

/* The rest of a dump is data. */
static void check_dumps(neap_host *host, neap_context *context) {
  static const struct {
    const char *settings, *words;
  } CASES[] = {
      {"{s13:learning_rates1:x}", "learning_rate is a number"},
      {"{s13:learning_rate{}}", "learning_rate is a number"},
      {"{s13:learning_ratennan;}", "learning_rate"},
      {"{s9:not_theren1;}", "there is no setting"},
      {"{n1;n2;}", "there is no setting 1"},
      {"{s12:lr_schedulern1;}", "lr_scheduler"},
      {"{s12:lr_scheduler{}}", "lr_scheduler"},
      {"{s7:lr_multn1;}", "lr_mult is a table"},
      {"{s7:lr_mult{n1.5;n1;}}", "keys are strings or integers"},
      {"{s7:lr_mult{s1:wT}}", "is a number"},
      {"{s5:\33[2Jxn1;}", "there is no setting"},
      {"n1;", "no dump"},
      {"{", "no dump"},
      {"{s99999:x", "no dump"},
      {"{{", "no dump"},
      {"{{{{{{{{{{{{{{{{{{{{", "no dump"},
      {"T", "no dump"},
  };
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
    text t = dump_of(GOOD, strlen(GOOD), CASES[i].settings, NULL);
    opened o = open_dump(host, context, t.bytes, t.size);
    if (o.status != NEAP_EINVAL || !strstr(o.error, CASES[i].words)) {
      fprintf(stderr, "%s\n  %s\n  wanted: %s\n", CASES[i].settings, o.error, CASES[i].words);
      exit(1);
    }
    free(t.bytes);
  }
  char *large = calloc(1, 2 << 20);
  CHECK(large);
  opened o = open_dump(host, context, large, 2 << 20);
  CHECK(o.status == NEAP_EINVAL && strstr(o.error, "1048576 at most"));
  memset(large, '{', 1 << 20);
  o = open_dump(host, context, large, 1 << 20);
  CHECK(o.status == NEAP_EINVAL && strstr(o.error, "no dump"));
  memset(large, 'n', 1 << 20);
  o = open_dump(host, context, large, 1 << 20);
  CHECK(o.status == NEAP_EINVAL && strstr(o.error, "no dump"));
  o = open_dump(host, context, "", 0);
  CHECK(o.status == NEAP_EINVAL && strstr(o.error, "no dump"));
  free(large);
}

/* A good dump with bytes changed, cut off and repeated: opened or refused, nothing else. */
static void check_broken_dumps(neap_host *host, neap_context *context) {
  text good = dump_of(GOOD, strlen(GOOD), "{s13:learning_raten0.5;}",
                      "return { name = 'r', rate = function(t) return 1 / t end }");
  unsigned seed = 1;
  for (int i = 0; i < 200; i++) {
    text t = {0};
    add(&t, good.bytes, good.size);
    for (int k = 0; k < 1 + i % 3; k++) {
      seed = seed * 1664525 + 1013904223;
      t.bytes[(seed >> 8) % t.size] = (char)(seed >> 3);
    }
    opened o = open_dump(host, context, t.bytes, i % 5 ? t.size : (seed >> 8) % t.size);
    if (!o.status) bind_key(&o, "w");
    close_opened(&o);
    free(t.bytes);
  }
  free(good.bytes);
}

/* A thread of a server's. */
static void *run(void *arg) {
  (void)arg;
  neap_context *context = make_context();
  neap_host_options options;
  neap_host_options_init(&options, sizeof options);
  options.seconds = 0.1;
  options.memory = 8 << 20;
  neap_host *host = make_host(&options);
  check_good(host, context);
  int64_t before = rss();
  for (size_t i = 0; i < sizeof SCRIPTS / sizeof *SCRIPTS; i++) {
    check_refused(host, context, SCRIPTS[i].source, SCRIPTS[i].words);
    if (i % 8 == 0) check_good(host, context);
  }
  check_nesting(host, context);
  check_schedules(host, context);
  check_dumps(host, context);
  check_broken_dumps(host, context);
  check_good(host, context);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  if (rss() - before > 64) {
    fprintf(stderr, "from %d to %d MiB\n", (int)before, (int)rss());
    exit(1);
  }
#else
  (void)before;
#endif
  neap_host_close(host);

  host = make_host(NULL); /* the limits that servers have */
  check_refused(host, context, UPDATE("while true do end"), "for more than 1 s");
  check_refused(host, context, UPDATE("local t = {} for i = 1, 1e9 do t[i] = { i } end"),
                "needs more than 64 MiB");
  neap_host_close(host);
  neap_context_close(context);
  return NULL;
}

int main(void) {
  pthread_attr_t attr;
  pthread_t thread;
  CHECK(!pthread_attr_init(&attr) && !pthread_attr_setstacksize(&attr, (size_t)128 << 20));
  CHECK(!pthread_create(&thread, &attr, run, NULL));
  CHECK(!pthread_join(thread, NULL));
  pthread_attr_destroy(&attr);
  return 0;
}
