/* SPDX-License-Identifier: MIT */
/* scripts_state.c - a Lua state that others' scripts may run in.
 *
 * Two kinds of Lua are in it: Neap's own, which has all of Lua, and the script's functions, which
 * Neap's calls. The limits are on the latter:
 *
 *   1. Nothing outside of lua_cpcall() calls what can raise: LuaJIT ends the process where an error
 *      finds nobody to catch it. neap_script_run() is the one way in.
 *   2. All memory comes from allocate(), which counts it and refuses what is above the limit;
 * Neap's own Lua may take RESERVE more, so that it can go on after a script has taken all. Making a
 *      block smaller is never refused, which Lua relies on.
 *   3. A script's functions are called by limited() alone (script.lua hands all its calls to it).
 *      While one runs, a hook looks at the clock every HOOK_EVERY instructions, and from the moment
 *      that time is over at every single one; the hook fires because the JIT compiler is off. The
 *      functions that scripts are given take time in proportion to what they have in memory, which
 *      is why HOOK_EVERY is small. It counts the thread's own processor time: waiting for a busy
 *      machine is not the script's fault.
 *   4. While one runs, strings have the methods of a short list (host.lua), by which nothing can be
 *      reached and nothing takes long. Neap's own Lua has them all.
 *   5. What a failed allocation interrupts is either a script's function, whose recording is thrown
 *      away, or Neap's Lua, and then the state is `broken` and serves no more. */
#define _GNU_SOURCE
#include "scripts.h"
#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HOOK_EVERY = 100, LEVELS = 200, SHOWN = 12, RESERVE = 8 << 20 };

/* ---- memory ---------------------------------------------------------------------------------- */

static void *from_libc(void *user, void *block, size_t old_size, size_t size) {
  (void)user, (void)old_size;
  if (size) return realloc(block, size);
  free(block);
  return NULL;
}

/* LuaJIT crashes where an allocation fails while it makes a state (lua_newstate) or the tables of
 * the FFI (luaopen_ffi): so what they ask for is there beforehand. Blocks in there are never freed
 * by themselves. */
enum { FIRST = 256 << 10 };

static bool is_first(const neap_script *s, const void *block) {
  uintptr_t at = (uintptr_t)block, first = (uintptr_t)s->first;
  return at >= first && at < first + FIRST;
}

static void *allocate_first(neap_script *s, size_t size) {
  size_t at = (s->first_used + 15) & ~(size_t)15;
  if (size > FIRST - at) return NULL;
  s->first_used = at + size;
  return s->first + at;
}

static void *allocate(void *user, void *block, size_t old_size, size_t size) {
  neap_script *s = user;
  const neap_host_options *o = &s->host->options;
  if (block && is_first(s, block)) {
    if (size <= old_size) return size ? block : NULL;
    void *moved = allocate(user, NULL, 0, size);
    return moved ? memcpy(moved, block, old_size) : NULL;
  }
  if (!block) old_size = 0;
  if (!block && !s->begun) {
    void *first = allocate_first(s, size);
    if (first) return first;
  }
  size_t limit = s->limit;
  if (!s->inside) limit = limit > SIZE_MAX - RESERVE ? SIZE_MAX : limit + RESERVE;
  if (size > old_size && (size > limit || s->used - old_size > limit - size)) {
    s->refused = true;
    return NULL;
  }
  void *new = (o->alloc ? o->alloc : from_libc)(o->user, block, old_size, size);
  if (size && !new) {
    if (size <= old_size) return block;
    s->refused = true;
    return NULL;
  }
  s->used += size - old_size;
  return new;
}

static neap_script *script_of(lua_State *L) {
  void *s;
  lua_getallocf(L, &s);
  return s;
}

/* ---- texts ----------------------------------------------------------------------------------- */

void neap_host_text(char *error, size_t size, const char *text, size_t length) {
  if (!size) return;
  if (length >= size) {
    length = size - 1;
    while (length && ((unsigned char)text[length] & 0xc0) == 0x80) length--;
  }
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)text[i];
    error[i] = (c < ' ' && c != '\n' && c != '\t') || c == 0x7f ? '?' : text[i];
  }
  error[length] = 0;
}

int neap_host_fail(int status, char *error, size_t size, const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  neap_host_text(error, size, text, strlen(text));
  return status;
}

/* Whether a function is a script's: their chunks are called "=name", Neap's own "@file". */
static bool is_script(const lua_Debug *ar) {
  return ar->source[0] == '=' && ar->source[1] != '[';
}

/* Pushes "name:line: " of the script's innermost function, "" if there is none. */
static void push_where(lua_State *L) {
  lua_Debug ar;
  for (int level = 0; level < LEVELS && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (is_script(&ar)) {
      lua_pushfstring(L, "%s:%d: ", ar.source + 1, ar.currentline);
      return;
    }
  }
  lua_pushliteral(L, "");
}

static double mebibytes(const neap_script *s) {
  return (double)s->host->options.memory / (1 << 20);
}

/* A message handler: sees to it that a text begins with the script's name and line, and adds the
 * script's own part of the stack. */
static int traceback(lua_State *L) {
  if (lua_type(L, 1) != LUA_TSTRING) return 1;
  lua_settop(L, 1);
  push_where(L);
  const char *where = lua_tostring(L, 2);
  if (strncmp(where, lua_tostring(L, 1), strcspn(where, ":") + 1) != 0) {
    lua_insert(L, 1);
    lua_concat(L, 2);
  }
  lua_settop(L, 1);
  lua_pushliteral(L, "\nstack traceback:");
  lua_Debug ar;
  int shown = 0;
  for (int level = 0; level < LEVELS && lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Snl", &ar);
    if (!is_script(&ar)) continue;
    if (++shown > SHOWN) {
      lua_pushliteral(L, "\n\t...");
      lua_concat(L, 2);
      break;
    }
    lua_pushfstring(L, "\n\t%s:%d: in ", ar.source + 1, ar.currentline);
    if (*ar.what == 'm') {
      lua_pushliteral(L, "main chunk");
    } else if (*ar.namewhat) {
      lua_pushfstring(L, "function '%s'", ar.name);
    } else {
      lua_pushfstring(L, "function <%s:%d>", ar.source + 1, ar.linedefined);
    }
    lua_concat(L, 3);
  }
  if (shown) {
    lua_concat(L, 2);
  } else {
    lua_settop(L, 1);
  }
  return 1;
}

/* ---- time ------------------------------------------------------------------------------------ */

static int64_t now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The place is on the stack. */
static int raise_late(lua_State *L) {
  lua_pushfstring(L,
                  "runs for more than %f s; a script is run once, to record what it computes: it "
                  "must end",
                  script_of(L)->host->options.seconds);
  lua_concat(L, 2);
  return lua_error(L);
}

static void hook(lua_State *L, lua_Debug *ar) {
  neap_script *s = script_of(L);
  if (ar->event == LUA_HOOKLINE) {
    lua_getinfo(L, "S", ar);
    if (s->watched && is_script(ar) && !strcmp(ar->source + 1, s->watched)) {
      s->line = ar->currentline;
    }
    return;
  }
  /* The wall clock runs at least as fast, and costs a fraction to read. */
  if (!s->late && now(CLOCK_MONOTONIC) < s->until_wall) return;
  if (!s->late && now(CLOCK_THREAD_CPUTIME_ID) < s->until_cpu) return;
  s->late = true;
  lua_sethook(L, hook, LUA_MASKCOUNT, 1); /* whoever catches this gets the next at once */
  push_where(L);
  raise_late(L);
}

/* ---- calling a script's functions ------------------------------------------------------------ */

/* Upvalues of limited() and last_line(): what strings have for a metatable, the methods that it
 * gives scripts and Neap, and the word "__index". Setting it needs no memory. */
enum { STRINGS = 1, FOR_SCRIPTS, FOR_NEAP, INDEX, UPVALUES = INDEX };

static void give_methods(lua_State *L, int which) {
  lua_pushvalue(L, lua_upvalueindex(INDEX));
  lua_pushvalue(L, lua_upvalueindex(which));
  lua_rawset(L, lua_upvalueindex(STRINGS));
}

/* Calls the function at `at` with all that is above it. Returns as lua_pcall() does. */
static int call(lua_State *L, int at, int mask) {
  neap_script *s = script_of(L);
  int64_t start = now(CLOCK_THREAD_CPUTIME_ID);
  s->until_cpu = start + s->left;
  s->until_wall = now(CLOCK_MONOTONIC) + s->left;
  lua_pushcfunction(L, traceback);
  lua_insert(L, at);
  give_methods(L, FOR_SCRIPTS);
  lua_sethook(L, hook, mask | LUA_MASKCOUNT, HOOK_EVERY);
  s->inside = true;
  int status = lua_pcall(L, lua_gettop(L) - at - 1, LUA_MULTRET, at);
  s->inside = false;
  lua_sethook(L, NULL, 0, 0);
  give_methods(L, FOR_NEAP);
  lua_remove(L, at);
  s->left -= now(CLOCK_THREAD_CPUTIME_ID) - start;
  s->late = s->late || s->left <= 0;
  return status;
}

/* Whether the value on top is an error as Neap's Lua has them: a text, or a table with one, whose
 * line is looked for. */
static bool is_error(lua_State *L) {
  if (lua_type(L, -1) != LUA_TTABLE) return lua_type(L, -1) == LUA_TSTRING;
  lua_pushliteral(L, "message");
  lua_rawget(L, -2);
  bool text = lua_type(L, -1) == LUA_TSTRING;
  lua_pop(L, 1);
  return text;
}

/* limited(f, ...): f(...) within the limits. */
static int limited(lua_State *L) {
  neap_script *s = script_of(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_Debug ar;
  lua_pushvalue(L, 1);
  lua_getinfo(L, ">S", &ar);
  int line = ar.linedefined > 0 ? ar.linedefined : 1;
  if (s->late) {
    lua_pushfstring(L, "%s:%d: ", ar.short_src, line);
    return raise_late(L);
  }
  if (s->used > s->limit) lua_gc(L, LUA_GCCOLLECT, 0);
  int status = call(L, 1, 0);
  if (!status) return lua_gettop(L);
  if (s->refused) { /* in whatever way it came up here */
    lua_settop(L, 0);
    lua_gc(L, LUA_GCCOLLECT, 0);
    s->refused = false;
    lua_pushfstring(L, "%s:%d: needs more than %f MiB of memory", ar.short_src, line, mebibytes(s));
  } else if (lua_type(L, -1) == LUA_TSTRING &&
             strncmp(lua_tostring(L, -1), ar.short_src, strlen(ar.short_src)) != 0) {
    /* Raised by a function that it called last: it had left the stack already. */
    lua_pushfstring(L, "%s:%d: ", ar.short_src, line);
    lua_insert(L, -2);
    lua_concat(L, 2);
  } else if (!is_error(L)) {
    lua_pushfstring(L, "%s:%d: raised a %s in the place of an error text", ar.short_src, line,
                    luaL_typename(L, -1));
  }
  return lua_error(L);
}

/* last_line(chunk, f, ...): calls f(...), which fails, and gives the line it came to. */
static int last_line(lua_State *L) {
  neap_script *s = script_of(L);
  s->watched = luaL_checkstring(L, 1);
  s->line = 0;
  if (!s->late) call(L, 2, LUA_MASKLINE);
  s->watched = NULL;
  if (s->refused) {
    lua_settop(L, 0);
    lua_gc(L, LUA_GCCOLLECT, 0);
    s->refused = false;
  }
  if (!s->line) return 0;
  lua_pushinteger(L, s->line);
  return 1;
}

/* limits(strings' metatable, methods for scripts) -> limited, last_line: for host.lua. */
static int limits(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  lua_getfield(L, 1, "__index");
  lua_pushliteral(L, "__index");
  for (int i = 1; i <= UPVALUES; i++) lua_pushvalue(L, i);
  lua_pushcclosure(L, limited, UPVALUES);
  for (int i = 1; i <= UPVALUES; i++) lua_pushvalue(L, i);
  lua_pushcclosure(L, last_line, UPVALUES);
  return 2;
}

/* ---- the state ------------------------------------------------------------------------------- */

static void open_library(lua_State *L, const char *name, lua_CFunction open) {
  lua_pushcfunction(L, open);
  lua_pushstring(L, name);
  lua_call(L, 1, 0);
}

/* Neap's Lua needs no io and no os. */
static int fill_state(lua_State *L) {
  lua_settop(L, 0);
  const neap_host *host = script_of(L)->host;
  open_library(L, "", luaopen_base);
  open_library(L, LUA_LOADLIBNAME, luaopen_package);
  open_library(L, LUA_TABLIBNAME, luaopen_table);
  open_library(L, LUA_STRLIBNAME, luaopen_string);
  open_library(L, LUA_MATHLIBNAME, luaopen_math);
  open_library(L, LUA_DBLIBNAME, luaopen_debug);
  open_library(L, LUA_BITLIBNAME, luaopen_bit);
  open_library(L, LUA_JITLIBNAME, luaopen_jit);
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  lua_pushcfunction(L, luaopen_ffi);
  lua_pushliteral(L, LUA_FFILIBNAME);
  lua_call(L, 1, 1); /* no global */
  script_of(L)->begun = true;

  lua_pushstring(L, host->library); /* for neap/ffi.lua */
  lua_setfield(L, LUA_REGISTRYINDEX, "neap.library");

  lua_getglobal(L, "package");
  lua_pushfstring(L, "%s/?.lua", host->lua_path);
  lua_setfield(L, -2, "path");
  lua_pushliteral(L, "");
  lua_setfield(L, -2, "cpath");
  lua_getfield(L, -1, "loaded");
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, LUA_FFILIBNAME);
  lua_pushcfunction(L, limits);
  lua_setfield(L, -2, "neap.host_limits");

  lua_getglobal(L, "require");
  lua_pushliteral(L, "neap.host");
  lua_call(L, 1, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "neap.host");
  lua_settop(L, 0);
  lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}

int neap_script_run(neap_script *s, lua_CFunction f, void *request, char *error,
                    size_t error_size) {
  lua_State *L = s->L;
  if (s->broken) {
    return neap_host_fail(NEAP_ENOMEM, error, error_size,
                          "this script's state ran out of memory and is of no more use; open the "
                          "script again");
  }
  s->left = (int64_t)(s->host->options.seconds * 1e9);
  s->late = false;
  s->refused = false;
  int status = lua_cpcall(L, f, request) ? NEAP_EINVAL : NEAP_OK;
  if (s->refused) {
    s->broken = true;
    status = neap_host_fail(NEAP_ENOMEM, error, error_size,
                            "what is kept for this script needs more than %g MiB of memory",
                            mebibytes(s));
  } else if (status) {
    size_t length = 0; /* no conversion: that could raise */
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &length) : NULL;
    if (text) {
      neap_host_text(error, error_size, text, length);
    } else {
      neap_host_fail(status, error, error_size, "failed, with a %s in the place of an error text",
                     lua_typename(L, lua_type(L, -1)));
    }
  }
  lua_settop(L, 0);
  return status;
}

static void free_script(neap_script *s) {
  if (!s) return;
  const neap_host_options *o = &s->host->options;
  if (s->first) (o->alloc ? o->alloc : from_libc)(o->user, s->first, FIRST, 0);
  free(s->dump);
  free(s);
}

neap_script *neap_script_create(const neap_host *host, int *status, char *error,
                                size_t error_size) {
  const neap_host_options *o = &host->options;
  neap_script *s = calloc(1, sizeof *s);
  if (s) {
    s->host = host;
    s->used = FIRST;
    s->limit = SIZE_MAX; /* Neap's own files come first */
    s->first = (o->alloc ? o->alloc : from_libc)(o->user, NULL, 0, FIRST);
    if (s->first) s->L = lua_newstate(allocate, s);
  }
  if (!s || !s->L) {
    free_script(s);
    *status = neap_host_fail(NEAP_ENOMEM, error, error_size, "no memory for a Lua state");
    return NULL;
  }
  *status = neap_script_run(s, fill_state, NULL, error, error_size);
  if (*status) {
    neap_script_close(s);
    return NULL;
  }
  size_t memory = host->options.memory;
  s->limit = memory > SIZE_MAX - s->used ? SIZE_MAX : s->used + memory;
  return s;
}

void neap_host_usage(void *script, size_t *used, size_t *limit) {
  const neap_script *s = script;
  *used = s->used;
  *limit = s->limit;
}

void neap_script_close(neap_script *s) {
  if (!s) return;
  s->limit = SIZE_MAX; /* what ends in there needs a little itself */
  lua_close(s->L);
  free_script(s);
}
