/* SPDX-License-Identifier: MIT */
/* scripts.c - the table neap_scripts: each call of the server's becomes a call of a function of
 * neap/host.lua, in the script's own state.
 *
 * Arguments go over as plain Lua values, and as pointers that only Neap's Lua sees. */
#include "scripts.h"
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 1 << 20 }; /* of a dump and of settings: a script has 64 KiB, keys have the rest */

/* What a call is about. */
typedef struct request {
  neap_context *context;
  neap_optimizer **optimizer;
  const char *text;
  size_t length;
  const neap_key *key;
  const neap_array_info *like;
  int stype;
  neap_program **program;
  neap_script *script;
} request;

/* A function of host.lua's; the request. */
static const request *begin(lua_State *L, const char *function) {
  const request *r = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_getfield(L, LUA_REGISTRYINDEX, "neap.host");
  lua_getfield(L, 1, function);
  return r;
}

static int run_open(lua_State *L) {
  const request *r = begin(L, "open");
  lua_pushlstring(L, r->text, r->length);
  lua_pushlightuserdata(L, r->context);
  lua_pushlightuserdata(L, r->optimizer);
  lua_call(L, 3, 0);
  return 0;
}

static int run_bind(lua_State *L) {
  const request *r = begin(L, "bind");
  if (r->key->text) {
    lua_pushlstring(L, r->key->text, r->key->length);
  } else {
    lua_pushnumber(L, (lua_Number)r->key->number);
  }
  lua_pushstring(L, r->stype == NEAP_ROW_SPARSE ? "row_sparse" : "default");
  lua_pushstring(L, neap_dtype_name(r->like->dtype));
  lua_createtable(L, r->like->ndim, 0);
  for (int i = 0; i < r->like->ndim; i++) {
    lua_pushnumber(L, (lua_Number)r->like->shape[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_call(L, 4, 0);
  return 0;
}

static int run_set(lua_State *L) {
  const request *r = begin(L, "set");
  lua_pushlstring(L, r->text, r->length);
  lua_call(L, 1, 0);
  return 0;
}

/* What describe() gives is kept outside of Lua, which may move or drop its own. */
static int run_describe(lua_State *L) {
  const request *r = begin(L, "describe");
  neap_script *s = r->script;
  lua_call(L, 0, 3);
  size_t length = 0;
  const char *dump = lua_tolstring(L, -1, &length);
  char *copy = dump ? malloc(length + 1) : NULL;
  if (!copy) return luaL_error(L, "no memory for an optimizer's text");
  memcpy(copy, dump, length + 1);
  free(s->dump);
  s->dump = copy;
  s->dump_size = length;
  neap_host_text(s->name, sizeof s->name, lua_tostring(L, -3), strlen(lua_tostring(L, -3)));
  neap_host_text(s->hash, sizeof s->hash, lua_tostring(L, -2), strlen(lua_tostring(L, -2)));
  return 0;
}

static int run_migrate(lua_State *L) {
  const request *r = begin(L, "migrate");
  lua_pushlstring(L, r->text, r->length);
  lua_pushlightuserdata(L, r->program);
  lua_call(L, 2, 0);
  return 0;
}

static int check_length(size_t length, const char *what, char *error, size_t error_size) {
  if (length <= LONGEST) return NEAP_OK;
  return neap_host_fail(NEAP_EINVAL, error, error_size, "%s of %zu bytes; there can be %d at most",
                        what, length, LONGEST);
}

static int host_open(void *user, neap_context *context, const char *dump, size_t length,
                     void **script, neap_optimizer **optimizer, char *error, size_t error_size) {
  int status = check_length(length, "an optimizer's text", error, error_size);
  if (status) return status;
  neap_script *s = neap_script_create(user, &status, error, error_size);
  if (!s) return status;
  neap_optimizer *made = NULL;
  request r = {.context = context, .optimizer = &made, .text = dump, .length = length};
  status = neap_script_run(s, run_open, &r, error, error_size);
  if (status) {
    neap_optimizer_close(made);
    neap_script_close(s);
    return status;
  }
  *script = s;
  *optimizer = made;
  return NEAP_OK;
}

static int host_bind(void *user, void *script, const neap_key *key, const neap_array_info *like,
                     int stype, char *error, size_t error_size) {
  (void)user;
  if (like->ndim < 0 || like->ndim > NEAP_MAX_DIM || !neap_dtype_name(like->dtype)) {
    return neap_host_fail(NEAP_EINVAL, error, error_size, "bind: no such array can be");
  }
  request r = {.key = key, .like = like, .stype = stype};
  return neap_script_run(script, run_bind, &r, error, error_size);
}

static int host_set(void *user, void *script, const char *settings, size_t length, char *error,
                    size_t error_size) {
  (void)user;
  int status = check_length(length, "a text of settings", error, error_size);
  if (status) return status;
  request r = {.text = settings, .length = length};
  return neap_script_run(script, run_set, &r, error, error_size);
}

static int host_describe(void *user, void *script, neap_script_text *out, char *error,
                         size_t error_size) {
  (void)user;
  neap_script *s = script;
  request r = {.script = s};
  int status = neap_script_run(s, run_describe, &r, error, error_size);
  if (status == NEAP_OK) *out = (neap_script_text){s->name, s->hash, s->dump, s->dump_size};
  return status;
}

static int host_migrate(void *user, void *script, const char *old, size_t length,
                        neap_program **out, char *error, size_t error_size) {
  (void)user;
  int status = check_length(length, "an optimizer's text", error, error_size);
  if (status) return status;
  neap_program *program = NULL;
  request r = {.text = old, .length = length, .program = &program};
  status = neap_script_run(script, run_migrate, &r, error, error_size);
  if (status == NEAP_OK)
    *out = program;
  else
    neap_program_close(program);
  return status;
}

static void host_close(void *user, void *script) {
  (void)user;
  neap_script_close(script);
}

/* ---- the host -------------------------------------------------------------------------------- */

static const neap_host_options DEFAULTS = {
    .size = sizeof(neap_host_options),
    .memory = (size_t)64 << 20,
    .seconds = 1,
};

void neap_host_options_init(neap_host_options *options, size_t size) {
  memset(options, 0, size);
  memcpy(options, &DEFAULTS, size < sizeof DEFAULTS ? size : sizeof DEFAULTS);
  options->size = size;
}

/* The options that the caller knows of, and the defaults of the rest. */
static int read_options(neap_host *host, const neap_host_options *options, char *error,
                        size_t error_size) {
  host->options = DEFAULTS;
  if (options) {
    size_t size = options->size;
    if (size < sizeof options->size) {
      return neap_host_fail(NEAP_EINVAL, error, error_size,
                            "options.size is %zu; neap_host_options_init() sets it", size);
    }
    memcpy(&host->options, options, size < sizeof DEFAULTS ? size : sizeof DEFAULTS);
  }
  if (!(host->options.seconds > 0 && host->options.seconds <= 1e6)) {
    return neap_host_fail(NEAP_EINVAL, error, error_size,
                          "options.seconds is %g; above 0 is wanted", host->options.seconds);
  }
  return NEAP_OK;
}

int neap_host_create(const neap_host_options *options, neap_host **out, char *error,
                     size_t error_size) {
  neap_host *host = calloc(1, sizeof *host);
  if (!host) return neap_host_fail(NEAP_ENOMEM, error, error_size, "no memory");
  host->scripts =
      (neap_scripts){sizeof host->scripts, host,          host_open,   host_bind, host_set,
                     host_close,           host_describe, host_migrate};
  int status = read_options(host, options, error, error_size);
  if (!status) status = neap_host_find(host, host->options.lua_path, error, error_size);
  host->options.lua_path = NULL; /* the caller's */
  if (!status) {                 /* so that what is wrong shows here, not at the first script */
    neap_script_close(neap_script_create(host, &status, error, error_size));
  }
  if (status) {
    neap_host_close(host);
    return status;
  }
  *out = host;
  return NEAP_OK;
}

const neap_scripts *neap_host_scripts(neap_host *host) {
  return &host->scripts;
}

void neap_host_close(neap_host *host) {
  if (!host) return;
  free(host->lua_path);
  free(host->library);
  free(host);
}
