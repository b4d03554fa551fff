/* SPDX-License-Identifier: MIT */
/* scripts_place.c - finds what a state is made of: Neap's Lua files, libneap, one LuaJIT.
 *
 * A state's Lua calls libneap by FFI, and hands it objects that this very process made: so it must
 * get the library that is loaded here already, not another of that name. Where its functions are
 * part of the program (static linking), they are reached as the program's own, if it shows them. */
#define _GNU_SOURCE
#include "scripts.h"
#include <dlfcn.h>
#include <lualib.h>
#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The file that holds the function at `address`; NULL if that is not known. */
static char *file_of(void *address) {
  Dl_info info;
  if (!dladdr(address, &info) || !info.dli_fname) return NULL;
  return realpath(info.dli_fname, NULL); /* it may stand in a relative form */
}

static int find_library(neap_host *host, char *error, size_t error_size) {
  void *ours = (void *)neap_declarations;
  char *file = file_of(ours);
  void *library = file ? dlopen(file, RTLD_LAZY | RTLD_NOLOAD) : NULL;
  bool shared = library && dlsym(library, "neap_declarations") == ours;
  if (library) dlclose(library);
  if (shared) {
    host->library = file;
    return NEAP_OK;
  }
  int status = NEAP_OK;
  if (dlsym(RTLD_DEFAULT, "neap_declarations") == ours) {
    host->library = strdup("");
    if (!host->library) status = neap_host_fail(NEAP_ENOMEM, error, error_size, "no memory");
  } else {
    status = neap_host_fail(NEAP_ENOTSUP, error, error_size,
                            "%s has libneap in it, but does not show its functions, which the Lua "
                            "of scripts calls: link the whole of libneap.a with -rdynamic, or "
                            "libneap.so",
                            file ? file : "this program");
  }
  free(file);
  return status;
}

/* The functions that this library calls may come from two LuaJITs, or from another Lua, where the
 * program shows some of its own. */
static int check_luajit(char *error, size_t error_size) {
  void *functions[] = {(void *)lua_newstate, (void *)lua_cpcall, (void *)luaopen_ffi,
                       (void *)luaJIT_setmode};
  Dl_info first, other;
  if (!dladdr(functions[0], &first)) return NEAP_OK;
  for (size_t i = 1; i < sizeof functions / sizeof *functions; i++) {
    if (dladdr(functions[i], &other) && other.dli_fbase != first.dli_fbase) {
      return neap_host_fail(NEAP_ENOTSUP, error, error_size,
                            "this process holds two Luas, %s and %s; scripts need one LuaJIT",
                            first.dli_fname, other.dli_fname);
    }
  }
  return NEAP_OK;
}

/* ---- Neap's Lua files ------------------------------------------------------------------------ */

static bool has_files(const char *folder) {
  char path[4096];
  int length = snprintf(path, sizeof path, "%s/neap/host.lua", folder);
  return length < (int)sizeof path && access(path, R_OK) == 0;
}

/* Where they are, seen from the folder that the library or program is in. */
static const char *const FROM_HERE[] = {
    "/../../lua",           /* <root>/build/<preset> */
    "/../share/lua/5.1",    /* <prefix>/lib or <prefix>/bin */
    "/../../share/lua/5.1", /* <prefix>/lib/<architecture> */
};

static int find_files(neap_host *host, const char *named, char *error, size_t error_size) {
  char path[4096], tried[4096] = "";
  char *file = named ? NULL : file_of((void *)neap_host_create);
  char *slash = file ? strrchr(file, '/') : NULL;
  if (slash) *slash = 0;
  size_t count = named ? 1 : sizeof FROM_HERE / sizeof *FROM_HERE + 1;
  for (size_t i = 0; i < count && !host->lua_path; i++) {
    if (named) {
      snprintf(path, sizeof path, "%s", named);
    } else if (i + 1 < count) {
      snprintf(path, sizeof path, "%s%s", slash ? file : ".", FROM_HERE[i]);
    } else {
      snprintf(path, sizeof path, "%s", NEAP_HOST_LUA); /* as it was to be installed */
    }
    if (has_files(path)) {
      host->lua_path = realpath(path, NULL);
    } else {
      if (*tried) strncat(tried, ", ", sizeof tried - strlen(tried) - 1);
      strncat(tried, path, sizeof tried - strlen(tried) - 1);
    }
  }
  free(file);
  if (host->lua_path) {
    /* In package.path these two have a meaning. */
    if (!strpbrk(host->lua_path, ";?")) return NEAP_OK;
    return neap_host_fail(NEAP_ENOTSUP, error, error_size,
                          "%s: a folder of Lua files may have no ';' or '?' in its name",
                          host->lua_path);
  }
  return neap_host_fail(NEAP_ENOTSUP, error, error_size,
                        "Neap's Lua files were not found (neap/host.lua in %s); name their folder",
                        tried);
}

int neap_host_find(neap_host *host, const char *lua_path, char *error, size_t error_size) {
  int status = check_luajit(error, error_size);
  if (!status) status = find_library(host, error, error_size);
  if (!status) status = find_files(host, lua_path, error, error_size);
  return status;
}
