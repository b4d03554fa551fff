/* SPDX-License-Identifier: MIT */
/* neap.c - the program `neap`: finds the command, and has what commands share. */
#define _GNU_SOURCE
#include "program.h"
#include "neap.h"
#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: neap COMMAND ...\n"
    "\n"
    "Neap is a parameter store: workers push gradients to servers and pull weights.\n"
    "\n"
    "  neap launch -n 4 -s 2 luajit train.lua   a job: 4 workers, 2 servers, their scheduler\n"
    "  neap run script.lua                      a Lua program, with Neap at hand\n"
    "  neap server, neap scheduler              one process of a job, by hand\n"
    "  neap optimizer set adam                  another optimizer, while a job runs\n"
    "\n"
    "neap COMMAND --help says more. neap --version tells the version.\n";

static const struct {
  const char *name;
  int (*main)(int argc, char **argv);
} commands[] = {
    {"launch", neap_command_launch},       {"run", neap_command_run},
    {"server", neap_command_serve},        {"scheduler", neap_command_serve},
    {"optimizer", neap_command_optimizer},
};

static void complain(const char *command, const char *format, va_list args) {
  char text[1024];
  vsnprintf(text, sizeof text, format, args);
  fprintf(stderr, "neap %s: %s\n", command, text);
}

int neap_complain(const char *command, const char *format, ...) {
  va_list args;
  va_start(args, format);
  complain(command, format, args);
  va_end(args);
  return NEAP_EXIT_FAILED;
}

int neap_misuse(const char *command, const char *format, ...) {
  va_list args;
  va_start(args, format);
  complain(command, format, args);
  va_end(args);
  fprintf(stderr, "Try: neap %s --help\n", command);
  return NEAP_EXIT_USAGE;
}

bool neap_read_number(const char *text, double low, double high, double *out) {
  char *end;
  double value = strtod(text, &end);
  if (end == text || *end || !isfinite(value) || value < low || value > high) return false;
  *out = value;
  return true;
}

/* ---- Where things are ------------------------------------------------------------------- */

const char *neap_program_file(void) {
  static char file[PATH_MAX];
  ssize_t length = *file ? 0 : readlink("/proc/self/exe", file, sizeof file - 1);
  if (length > 0) file[length] = 0;
  return *file ? file : "neap";
}

/* Installed, the program is <prefix>/bin/neap; built, <root>/build/<preset>/neap. */
static const char *lua_folder(void) {
  static const char *const places[] = {"../share/lua/5.1", "../../lua"};
  static char folder[PATH_MAX];
  char place[PATH_MAX], probe[PATH_MAX];
  const char *file = neap_program_file(), *slash = strrchr(file, '/');
  if (!slash) return "";
  for (int i = 0; i < 2; i++) {
    snprintf(place, sizeof place, "%.*s/%s", (int)(slash - file), file, places[i]);
    if (!realpath(place, folder)) continue;
    if (snprintf(probe, sizeof probe, "%s/neap/init.lua", folder) < (int)sizeof probe &&
        access(probe, R_OK) == 0)
      return folder;
  }
  return "";
}

const char *neap_at_hand(void) {
  const char *folder = lua_folder();
  char path[2 * PATH_MAX + 32];
  if (*folder) {
    snprintf(path, sizeof path, "%s/?.lua;%s/?/init.lua;;", folder, folder);
    setenv("LUA_PATH", path, 0);
  }
  Dl_info info;
  char file[PATH_MAX];
  if (dladdr((void *)neap_version, &info) && info.dli_fname && realpath(info.dli_fname, file) &&
      strcmp(file, neap_program_file()) != 0)
    setenv("NEAP_LIBRARY", file, 0);
  return folder;
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
    if (strcmp(name, commands[i].name) == 0) return commands[i].main(argc - 1, argv + 1);
  if (strcmp(name, "--version") == 0) {
    printf("neap %s\n", neap_version());
    return 0;
  }
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
    fputs(help, stdout);
    return 0;
  }
  if (*name)
    fprintf(stderr,
            "neap: there is no command '%s'; there are launch, run, server, scheduler, "
            "optimizer\n",
            name);
  fputs(*name ? "Try: neap --help\n" : help, stderr);
  return NEAP_EXIT_USAGE;
}
