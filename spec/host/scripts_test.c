/* SPDX-License-Identifier: MIT */
/* scripts_test.c - what the table neap_scripts makes of good scripts. Each optimizer that comes
 * with Neap is used twice, on the same gradients: by a store of an ordinary LuaJIT state, and from
 * the dump that this state gives, bound by the table. The weights agree bit for bit. */
#include "spec/host/host.h"
#include <glob.h>
#include <lauxlib.h>
#include <lualib.h>
#include <math.h>
#include <stdint.h>

/* run(name, settings' text, sparse) -> dump, bytes of the weight after 3 pushes, a change of
 * settings, and 3 more. */
static const char ORDINARY[] =
    "local neap = require 'neap'\n"
    "local nd, pack = neap.nd, require 'neap.pack'\n"
    "local ffi = require 'ffi'\n"
    "return function(name, settings, sparse, key, dtype)\n"
    "  settings = pack.decode(settings)\n"
    "  if settings.schedule then\n"
    "    settings.lr_scheduler = neap.lr_scheduler.poly { max_update = 5, warmup_steps = 2 }\n"
    "    settings.schedule = nil\n"
    "  end\n"
    "  local o = neap.optim.create(name, settings)\n"
    "  local dump = o:dump()\n"
    "  local kv = neap.kv.create()\n"
    "  kv:set_optimizer(o)\n"
    "  local w = (nd.arange(0, 12, 1, { dtype = dtype }) / 8 - 0.6):reshape { 4, 3 }\n"
    "  kv:init(key, w)\n"
    "  for i = 1, 6 do\n"
    "    local g = (nd.arange(0, 12, 1, { dtype = dtype }) / 16 - 0.3 / i):reshape { 4, 3 }\n"
    "    kv:push(key, sparse and nd.sparse.row_sparse(g:slice(1, 3), nd.array({ 0, 3 },\n"
    "      { dtype = 'int64' }), { 4, 3 }) or g)\n"
    "    if i == 3 then kv:set_hyper { learning_rate = 0.125, clip_gradient = 0.25 } end\n"
    "  end\n"
    "  kv:pull(key, w)\n"
    "  return dump, ffi.string(w:data(), w.size * ({ float16 = 2, float32 = 4, float64 = 8 "
    "})[dtype])\n"
    "end\n";

static lua_State *L;

static void start_ordinary(void) {
  L = luaL_newstate();
  CHECK(L);
  luaL_openlibs(L);
  if (luaL_dostring(L, ORDINARY)) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    exit(1);
  }
}

/* The results lie on the stack, above the function. */
static void run_ordinary(const char *name, const char *settings, int sparse, const char *key,
                         int dtype) {
  lua_settop(L, 1);
  lua_pushvalue(L, 1);
  lua_pushstring(L, name);
  lua_pushstring(L, settings);
  lua_pushboolean(L, sparse);
  lua_pushstring(L, key);
  lua_pushstring(L, neap_dtype_name(dtype));
  if (lua_pcall(L, 5, 2, 0)) {
    fprintf(stderr, "%s: %s\n", name, lua_tostring(L, -1));
    exit(1);
  }
}

/* start + step * i, as the script above has it. */
static neap_array *numbers(neap_context *c, int dtype, double divisor, double minus) {
  neap_array *a = NULL, *b = NULL;
  OK(neap_array_create(c, dtype, 1, (int64_t[]){12}, NEAP_CPU, 0, &a));
  OK(neap_array_arange(a, 0, 1));
  OK(neap_map(neap_op_find("div"), (neap_array *[]){a, NULL}, (double[]){0, divisor}, &a));
  OK(neap_map(neap_op_find("sub"), (neap_array *[]){a, NULL}, (double[]){0, minus}, &a));
  OK(neap_array_reshape(a, 2, (int64_t[]){4, 3}, &b));
  neap_array_close(a);
  return b;
}

static neap_array *sparse_of(neap_context *c, neap_array *g, int dtype) {
  neap_array *s = NULL, *ids = NULL, *rows = NULL;
  OK(neap_sparse_create(c, dtype, 2, (int64_t[]){4, 3}, NEAP_CPU, 0, &s));
  OK(neap_array_create(c, NEAP_INT64, 1, (int64_t[]){2}, NEAP_CPU, 0, &ids));
  OK(neap_array_write(ids, (int64_t[]){0, 3}, 16));
  OK(neap_array_slice(g, 1, 3, &rows));
  OK(neap_sparse_set(s, rows, ids));
  neap_array_close(ids);
  neap_array_close(rows);
  return s;
}

static void compare(neap_host *host, const char *name, const char *settings, int sparse,
                    const char *key_text, int dtype) {
  run_ordinary(name, settings, sparse, key_text, dtype);
  size_t dump_size, expected_size;
  const char *dump = lua_tolstring(L, -2, &dump_size);
  const char *expected = lua_tolstring(L, -1, &expected_size);

  neap_context *c = make_context();
  neap_store *store = NULL;
  OK(neap_store_create(c, "local", &store));
  opened o = open_dump(host, c, dump, dump_size);
  FINE(o, o.status);
  neap_key key = {key_text, strlen(key_text), 0};
  neap_array *w = numbers(c, dtype, 8, 0.6);
  OK(neap_store_init(store, 1, &key, &w));
  OK(neap_store_set_optimizer(store, o.optimizer));
  int stype = sparse ? NEAP_ROW_SPARSE : NEAP_DENSE;
  FINE(o, bind_as(&o, &key, stype, dtype, 2, (int64_t[]){4, 3}));
  for (int i = 1; i <= 6; i++) {
    neap_array *g = numbers(c, dtype, 16, 0.3 / i), *s = sparse ? sparse_of(c, g, dtype) : NULL;
    OK(neap_store_push(store, 1, &key, NULL, s ? &s : &g, 0));
    neap_array_close(s);
    neap_array_close(g);
    if (i == 3) {
      FINE(o, set_text(&o, "{s13:learning_raten0.125;s13:clip_gradientn0.25;}"));
      FINE(o, bind_as(&o, &key, stype, dtype, 2, (int64_t[]){4, 3}));
    }
  }
  char bytes[12 * 8];
  OK(neap_store_pull(store, 1, &key, NULL, &w, 0, 0));
  CHECK(expected_size <= sizeof bytes);
  OK(neap_array_read(w, bytes, expected_size));
  if (memcmp(bytes, expected, expected_size) != 0) {
    fprintf(stderr, "%s %s, key %s, sparse %d, dtype %d: not the same bits\n", name, settings,
            key_text, sparse, dtype);
    exit(1);
  }
  neap_array_close(w);
  close_opened(&o);
  neap_store_close(store);
  neap_context_close(c);
}

static void compare_all(neap_host *host) {
  glob_t found;
  CHECK(glob("lua/optim/*.lua", 0, NULL, &found) == 0 && found.gl_pathc >= 20);
  for (size_t i = 0; i < found.gl_pathc; i++) {
    char name[64];
    CHECK(sscanf(found.gl_pathv[i], "lua/optim/%63[a-z_].lua", name) == 1);
    const char *wd = strcmp(name, "group_adagrad") ? "{s2:wdn0.0625;}" : "{}";
    compare(host, name, "{}", 0, "w", NEAP_FLOAT32);
    compare(host, name, wd, 1, "w", NEAP_FLOAT32);
    compare(host, name, "{s8:scheduleT}", 0, "layer.bias", NEAP_FLOAT64);
  }
  globfree(&found);
  compare(host, "sgd", "{s15:multi_precisionTs8:momentumn0.9;}", 0, "w", NEAP_FLOAT16);
  compare(host, "adam", "{s11:lazy_updateF}", 1, "w", NEAP_FLOAT32);
  compare(host, "sgd", "{s7:lr_mult{s1:wn0.5;}s7:wd_mult{s1:wn2;}s2:wdn0.125;}", 0, "w",
          NEAP_FLOAT32);
}

/* ---- one script, by hand --------------------------------------------------------------------- */

#define RULE                                                                                       \
  "local n = 0\n"                                                                                  \
  "return { name = 'rule', defaults = { up = false, word = 'a' }, update = function(w, g, s, p)\n" \
  "  n = n + 1 math.count = (math.count or 0) + 1\n"                                               \
  "  local step = n * math.count * (p.word == 'a' and 1 or 100)\n"                                 \
  "  if p.up then return w + step * g end return w - step * g end }"

/* The value of `key` after a push of ones. */
static float push(neap_context *c, neap_store *store, const neap_key *key) {
  neap_array *one = NULL;
  float values[3];
  OK(neap_array_create(c, NEAP_FLOAT32, 1, (int64_t[]){3}, NEAP_CPU, 0, &one));
  OK(neap_array_fill(one, 1));
  OK(neap_store_push(store, 1, key, NULL, &one, 0));
  OK(neap_store_pull(store, 1, key, NULL, &one, 0, 0));
  OK(neap_array_read(one, values, sizeof values));
  neap_array_close(one);
  CHECK(values[0] == values[1] && values[1] == values[2]);
  return values[0];
}

static void check_settings(neap_host *host) {
  neap_context *c = make_context();
  neap_store *store = NULL;
  OK(neap_store_create(c, "local", &store));
  opened o = open_source(host, c, RULE);
  FINE(o, o.status);
  OK(neap_store_set_optimizer(store, o.optimizer));
  neap_array *zero = NULL;
  OK(neap_array_create(c, NEAP_FLOAT32, 1, (int64_t[]){3}, NEAP_CPU, 0, &zero));
  OK(neap_array_fill(zero, 0));
  neap_key a = {NULL, 0, 1}, b = {NULL, 0, INT64_C(1) << 53};
  OK(neap_store_init(store, 1, &a, &zero));
  OK(neap_store_init(store, 1, &b, &zero));
  neap_array_close(zero);
  FINE(o, bind_as(&o, &a, NEAP_DENSE, NEAP_FLOAT32, 1, (int64_t[]){3}));
  FINE(o, bind_as(&o, &b, NEAP_DENSE, NEAP_FLOAT32, 1, (int64_t[]){3}));
  CHECK(push(c, store, &a) == -1 && push(c, store, &b) == -1);
  /* A boolean, a word: recorded anew, and by a script that remembers nothing. */
  FINE(o, set_text(&o, "{s2:upT}"));
  FINE(o, bind_as(&o, &a, NEAP_DENSE, NEAP_FLOAT32, 1, (int64_t[]){3}));
  CHECK(push(c, store, &a) == 0 && push(c, store, &b) == -2);
  FINE(o, set_text(&o, "{s4:words1:b}"));
  FINE(o, bind_as(&o, &b, NEAP_DENSE, NEAP_FLOAT32, 1, (int64_t[]){3}));
  CHECK(push(c, store, &b) == 98);
  /* What is wrong changes nothing. */
  CHECK(set_text(&o, "{s2:upFs5:wrongn1;}") == NEAP_EINVAL && strstr(o.error, "setting") &&
        strstr(o.error, "wrong") && strstr(o.error, "rule: "));
  CHECK(set_text(&o, "{s2:upn1;s4:wordn1;}") == NEAP_EINVAL && strstr(o.error, "is a string"));
  CHECK(set_text(&o, "n1;") == NEAP_EINVAL && set_text(&o, "{") == NEAP_EINVAL);
  FINE(o, bind_as(&o, &b, NEAP_DENSE, NEAP_FLOAT32, 1, (int64_t[]){3}));
  CHECK(push(c, store, &b) == 198);
  close_opened(&o);
  neap_store_close(store); /* had its own hold on the optimizer */
  neap_context_close(c);
}

/* Script, optimizer and context may be closed in any order. */
static void check_closing(neap_host *host) {
  for (int order = 0; order < 3; order++) {
    neap_context *c = make_context();
    opened o = open_source(host, c, RULE);
    FINE(o, o.status);
    FINE(o, bind_key(&o, "w"));
    if (order == 0) neap_context_close(c);
    if (order == 1) neap_optimizer_close(o.optimizer);
    o.table->close(o.table->user, o.script);
    if (order != 1) neap_optimizer_close(o.optimizer);
    if (order != 0) neap_context_close(c);
  }
}

static void check_errors(neap_host *host) {
  neap_context *c = make_context();
  opened o = open_source(host, c,
                         "return { name = 'rule', update = function(w, g, s, p)\n"
                         "  local function helper(x)\n"
                         "    return x + p.wrong, 1\n"
                         "  end\n"
                         "  local y = helper(w)\n"
                         "  return y\n"
                         "end }");
  FINE(o, o.status);
  CHECK(bind_key(&o, "w") == NEAP_EINVAL);
  CHECK(!strncmp(o.error, "rule:3: there is no setting the string \"wrong\"", 46));
  CHECK(strstr(o.error, "stack traceback:\n\trule:3: in function 'helper'\n\trule:5: in function"));
  CHECK(!strstr(o.error, ".lua")); /* Neap's own part is nobody's business */
  /* Cut where there is little room, and never within a character. */
  for (size_t size = 0; size < 12; size++) {
    char small[16];
    memset(small, '!', sizeof small);
    neap_array_info like = {.ndim = 1, .shape = {3}};
    CHECK(o.table->bind(o.table->user, o.script, &(neap_key){"w", 1, 0}, &like, NEAP_DENSE,
                        size ? small : NULL, size) == NEAP_EINVAL);
    CHECK(size ? small[size - 1] == 0 && !strncmp(small, o.error, size - 1) : small[0] == '!');
    CHECK(small[size] == '!');
  }
  close_opened(&o);
  o = open_source(
      host, c, "return { name = 'rule', update = function(w) local a = 1\n return sqrt({})\nend }");
  FINE(o, o.status);
  CHECK(bind_key(&o, "w") == NEAP_EINVAL); /* a call that the script ends with */
  CHECK(!strncmp(o.error, "rule:2: argument 1 of sqrt", 26));
  neap_array_info like = {.ndim = 99};
  CHECK(o.table->bind(o.table->user, o.script, &(neap_key){"w", 1, 0}, &like, NEAP_DENSE, o.error,
                      sizeof o.error) == NEAP_EINVAL);
  close_opened(&o);
  neap_context_close(c);
}

static void check_making(void) {
  neap_host_options options;
  neap_host_options_init(&options, sizeof options);
  CHECK(options.memory == 64 << 20 && options.seconds == 1 && !options.lua_path);
  options.lua_path = "/nowhere";
  neap_host *host = NULL;
  char error[512];
  CHECK(neap_host_create(&options, &host, error, sizeof error) == NEAP_ENOTSUP);
  CHECK(!host && strstr(error, "neap/host.lua in /nowhere"));
  options.lua_path = "lua";
  CHECK(neap_host_create(&options, &host, NULL, 0) == NEAP_OK);
  neap_host_close(host);
  options.seconds = NAN;
  CHECK(neap_host_create(&options, &host, error, sizeof error) == NEAP_EINVAL);
  options.size = 1;
  CHECK(neap_host_create(&options, &host, error, sizeof error) == NEAP_EINVAL);
  CHECK(strstr(neap_host_declarations(), "neap_host_scripts"));
  neap_host_close(NULL);
}

int main(void) {
  check_making();
  neap_host *host = make_host(NULL); /* finds its files by itself */
  CHECK(neap_host_scripts(host)->size == sizeof(neap_scripts));
  check_settings(host);
  check_closing(host);
  check_errors(host);
  start_ordinary();
  compare_all(host);
  lua_close(L);
  neap_host_close(host);
  return 0;
}
