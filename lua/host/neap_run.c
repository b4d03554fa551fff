/* SPDX-License-Identifier: MIT */
/* neap_run.c - `neap run`: a LuaJIT that finds Neap, for programs. As `luajit`, but for its path.
 */
#include "program.h"
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: neap run SCRIPT [ARGUMENT ...]\n"
    "\n"
    "Runs a Lua program in LuaJIT, with Neap at hand: require 'neap' works without LUA_PATH.\n"
    "SCRIPT - is the standard input. Arguments are in the table arg, as with luajit. The exit\n"
    "status is the script's: 0, what it gives to os.exit(), or 1 after an error.\n";

/* An error with its traceback; an object of no text is left as it is. */
static int traceback(lua_State *L) {
  if (!lua_isstring(L, 1)) {
    if (!luaL_callmeta(L, 1, "__tostring")) return 1;
    lua_replace(L, 1);
  }
  luaL_traceback(L, L, lua_tostring(L, 1), 1);
  return 1;
}

typedef struct work {
  int argc;
  char **argv; /* argv[1] is the script */
  const char *folder;
  int status;
} work;

/* Behind what LUA_PATH has: who set it meant it. */
static void add_path(lua_State *L, const char *folder) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "path");
  lua_pushfstring(L, "%s;%s/?.lua;%s/?/init.lua", lua_tostring(L, -1), folder, folder);
  lua_setfield(L, -3, "path");
  lua_pop(L, 2);
}

static int run(lua_State *L) {
  work *w = lua_touserdata(L, 1);
  luaL_openlibs(L);
  if (*w->folder) add_path(L, w->folder);
  lua_createtable(L, w->argc, 2);
  for (int i = 0; i < w->argc; i++) {
    lua_pushstring(L, w->argv[i]);
    lua_rawseti(L, -2, i - 1);
  }
  lua_setglobal(L, "arg");
  lua_pushcfunction(L, traceback);
  int handler = lua_gettop(L);
  const char *script = strcmp(w->argv[1], "-") == 0 ? NULL : w->argv[1];
  int status = luaL_loadfile(L, script);
  for (int i = 2; i < w->argc && status == 0; i++) lua_pushstring(L, w->argv[i]);
  if (status == 0) status = lua_pcall(L, w->argc - 2, 0, handler);
  if (status != 0) {
    const char *text = lua_tostring(L, -1);
    fprintf(stderr, "neap run: %s\n", text ? text : "an error that is no text");
    w->status = NEAP_EXIT_FAILED;
  }
  return 0;
}

int neap_command_run(int argc, char **argv) {
  if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(help, stdout);
    return 0;
  }
  if (argc < 2) return neap_misuse("run", "which script?");
  if (argv[1][0] == '-' && argv[1][1]) return neap_misuse("run", "there is no option %s", argv[1]);
  work w = {argc, argv, neap_at_hand(), 0};
  lua_State *L = luaL_newstate();
  if (!L) return neap_complain("run", "no memory for a Lua state");
  if (lua_cpcall(L, run, &w) != 0) w.status = neap_complain("run", "%s", lua_tostring(L, -1));
  lua_close(L);
  return w.status;
}
