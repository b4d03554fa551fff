/* SPDX-License-Identifier: MIT */
/* hostile_test.c - scripts that mean harm, or forget to end: each is refused with a reason, soon,
 * in bounded memory, and the next one is none the wiser. */
#define _GNU_SOURCE
#include "spec/host/host.h"
#include <stdbool.h>
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

#define UPDATE(body) "return { name = 'evil', update = function(w, g, s, p) " body " end }"
#define TOP(body)    body " return { name = 'evil', update = function(w) return w end }"
#define RATE(body)   "return { name = 'evil', rate = function(t, p) " body " end }"

typedef struct hostile {
  const char *source, *words; /* words: what the refusal holds */
} hostile;

static const hostile SCRIPTS[] = {
    /* never ends */
    {TOP("while true do end"), "script:1: runs for more than 0.1 s"},
    {TOP("repeat local x = 1 until false"), "runs for more than"},
    {TOP("local function f() return f() end f()"), "runs for more than"},
    {TOP("::a:: goto a"), "runs for more than"},
    {UPDATE("while true do end"), "evil:1: runs for more than 0.1 s"},
    {UPDATE("for i = 1, 1e15 do g = g * 1 end return w"), "evil:1: runs for more than"},
    {UPDATE("for i = 1, 1e15 do local x = p.t end return w"), "runs for more than"},
    {UPDATE("for i = 1, 1e15 do local x = min(i, 3) end return w"), "runs for more than"},
    {UPDATE("local t = {} for i = 1, 2e5 do t[i] = i end for i = 1, 2e5 do t[i] = nil end "
            "while true do next(t) end"),
     "runs for more than"},
    {UPDATE("local a = ('x'):rep(6e4) while true do local b = a:reverse():upper():lower() end"),
     "runs for more than"},
    {UPDATE("local t = {} for i = 1, 7e3 do t[i] = i end while true do select('#', unpack(t)) end"),
     "runs for more than"},
    {UPDATE(
         "local t = {} for i = 1, 1e5 do t[i] = -i end while true do for _ in pairs(t) do end end"),
     "runs for more than"},
    {UPDATE("while true do tostring({}) tonumber('12') end"), "runs for more than"},
    {UPDATE("while true do local f = function() return w end end"), "runs for more than"},
    /* takes all memory */
    {TOP("local t = {} for i = 1, 1e9 do t[i] = { i } end"), "script:1: needs more than 8 MiB"},
    {UPDATE("local t = {} for i = 1, 1e9 do t[i] = i end"), "evil:1: needs more than 8 MiB"},
    {UPDATE("local a = 'x' while true do a = a .. a end"), "needs more than"},
    {UPDATE("local t = {} for i = 1, 1e9 do t['k' .. i] = true end"), "needs more than"},
    {UPDATE("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(6e4) .. i end"), "needs more than"},
    {UPDATE("local t = {} while true do t = { t } end"), "needs more than"},
    {UPDATE("local f while true do local g = f f = function() return g end end"),
     "needs more than"},
    /* recursion */
    {UPDATE("local function f(x) return 1 + f(x) end return f(w)"), "evil:1: stack overflow"},
    {UPDATE("local function f(...) return 1 + f(1, ...) end return f(w)"), "evil:1:"},
    {UPDATE("return w + select('#', unpack({}, 1, 1e7))"), "evil:1: too many results"},
    {UPDATE("return w + select('#', ('x'):rep(6e4):byte(1, -1))"), "evil:1: string slice too long"},
    /* reaches for the outside */
    {UPDATE("return io.open('/etc/passwd')"), "evil:1: attempt to index global 'io'"},
    {UPDATE("os.exit(3)"), "global 'os'"},
    {UPDATE("os.execute('true')"), "global 'os'"},
    {UPDATE("require 'ffi'"), "global 'require'"},
    {UPDATE("ffi.cast('int *', 0)[0] = 1"), "global 'ffi'"},
    {UPDATE("load('return 1')"), "global 'load'"},
    {UPDATE("loadstring('return 1')"), "global 'loadstring'"},
    {UPDATE("dofile('/etc/passwd')"), "global 'dofile'"},
    {UPDATE("debug.getregistry()"), "global 'debug'"},
    {UPDATE("jit.on()"), "global 'jit'"},
    {UPDATE("package.loadlib('libc.so.6', 'exit')"), "global 'package'"},
    {UPDATE("getmetatable('').__index.rep = nil"), "global 'getmetatable'"},
    {UPDATE("setmetatable({}, { __gc = error })"), "global 'setmetatable'"},
    {UPDATE("rawset(p, 'x', 1)"), "global 'rawset'"},
    {UPDATE("newproxy(true)"), "global 'newproxy'"},
    {UPDATE("collectgarbage('stop')"), "global 'collectgarbage'"},
    {UPDATE("coroutine.wrap(function() end)()"), "global 'coroutine'"},
    {UPDATE("pcall(error)"), "global 'pcall'"},
    {UPDATE("xpcall(error, error)"), "global 'xpcall'"},
    {UPDATE("setfenv(1, {})"), "global 'setfenv'"},
    {UPDATE("getfenv(0)"), "global 'getfenv'"},
    {UPDATE("print('here')"), "global 'print'"},
    {UPDATE("string.rep('x', 3)"), "global 'string'"},
    {UPDATE("_G.x = 1"), "global '_G'"},
    {UPDATE("return w + math.random()"), "'random'"},
    /* strings: patterns, large ones, and what makes bytecode */
    {UPDATE("return ('x'):rep(1e9)"), "evil:1: rep: a text of more than 65536 bytes"},
    {UPDATE("return (''):rep({})"), "evil:1: rep: a number of times"},
    {UPDATE("return ('a'):find(('a?'):rep(30) .. ('a'):rep(30))"), "method 'find'"},
    {UPDATE("return ('a'):match('.-b')"), "method 'match'"},
    {UPDATE("return ('a'):gsub('.', '%0%0')"), "method 'gsub'"},
    {UPDATE("return ('a'):gmatch('.')"), "method 'gmatch'"},
    {UPDATE("return (''):dump(1)"), "method 'dump'"},
    {UPDATE("return ('%99.99f'):format(1e308)"), "evil:1: format: "},
    {UPDATE("return ('%'):rep(6e4):format()"), "evil:1: format: "},
    {UPDATE("('').__index.x = 1"), "evil:1: attempt to index field '__index' (a nil value)"},
    {UPDATE("('').rep = nil"), "evil:1:"},
    /* errors that are no texts, or strange ones */
    {UPDATE("error({})"), "evil:1: raised a table in the place of an error text"},
    {UPDATE("error(w)"), "evil:1: raised a cdata in the place"},
    {UPDATE("error(nil)"), "evil:1: raised a nil in"},
    {UPDATE("error(p)"), "evil:1: raised a table in the place of an error text"},
    {UPDATE("error({ message = {} })"), "evil:1: raised a table in the place of an error text"},
    {UPDATE("error({ message = ('%s%n'):rep(99) })"), "evil:1: %s%n"},
    {UPDATE("error('\\27[2J\\0\\1hidden', 0)"), "?[2J??hidden"},
    {UPDATE("error(('x'):rep(6e4), 0)"), "xxxx"},
    {UPDATE("error(('\\195\\164'):rep(3e4), 0)"), "\xc3\xa4"},
    {UPDATE("assert(false, 'no \\n way')"), "no \n way"},
    /* what it returns */
    {"return setmetatable({}, {})", "global 'setmetatable'"},
    {"return { name = 'a\\nb', update = function() end }", "name must be a word"},
    {"return { name = ('x'):rep(64), update = function() end }", "name must be a word"},
    {"return { name = 'evil', update = function() end, ['\\27[2J'] = 1 }", "no field ?[2J"},
    {"return { name = 'evil', update = function() end, [{}] = 1 }", "no field table"},
    {"local d = {} d.d = d return { name = 'evil', update = function() end, defaults = d }",
     "defaults.d is a table"},
    {"local d = {} for i = 1, 1e4 do d['x' .. i] = i end "
     "return { name = 'evil', update = function() end, defaults = d }",
     "defaults has more than 1000 entries"},
    {"local d = {} for i = 1, 1e4 do d[i] = i end "
     "return { name = 'evil', update = function() end, defaults = { d = d } }",
     "defaults.d has more than 1000 entries"},
    {"local d = {} for i = 1, 1e4 do d[i] = 's' .. i end "
     "return { name = 'evil', update = function() end, state = d }",
     "state has more than 1000 entries"},
    {"return { name = 'evil', update = math.sin }", "script: update must be a function that the"},
    {"return { name = 'evil', update = clip }", "function that the script defines"},
    {"local n = 0 return { name = tostring({}):sub(1, 5), update = function() return n end }",
     "table:1: update must return"},
    {"local d = { x = 1 } return { name = 'evil', defaults = d, scalars = d, update = function(w, "
     "g, "
     "s, p) d.x = 'y' s.x = s.x + 1 d.z = {} return w + #p.x end }",
     "evil:1: "},
    /* expressions */
    {UPDATE("for i = 1, 1e9 do g = g + i end return g"), "evil:1: more than 4096 operations"},
    {UPDATE("for i = 1, 1e9 do g = g * g end return g"), "more than 4096 operations"},
    {UPDATE("return w.x"), "evil:1: an expression has no field"},
    {UPDATE("w.x = 1"), "evil:1: an expression cannot be assigned"},
    {UPDATE("return w()"), "evil:1: an expression is called"},
    {UPDATE("if w == g then return w end return g"), "evil:1: an expression is compared by =="},
    {UPDATE("return s[w]"), "there is no state"},
    {UPDATE("return p[p]"), "there is no setting a table"},
    {UPDATE("return p[w]"), "there is no setting"},
    {UPDATE("p.learning_rate = 3"), "read only"},
    {UPDATE("return ipairs(w)"), "evil:1: "},
    {UPDATE("return unpack(w)"), "evil:1: bad argument"},
    {UPDATE("for k in pairs({ [{}] = 1 }) do end return w"), "pairs: keys are numbers and strings"},
    /* no text of a script */
    {"\x1bLJ\2\n", "bytecode"},
    {"return {", "script:1: "},
    {"", "a script returns a table"},
};

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

/* Which limit a bomb comes to first, memory or time, depends on the machine. */
static bool says(const char *error, const char *words) {
  return strstr(error, words) ||
         (strstr(words, "needs more than") && strstr(error, "runs for more"));
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
