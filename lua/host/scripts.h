/* SPDX-License-Identifier: MIT */
/* scripts.h - what the files of libneap_host share.
 *
 *   scripts.c        the table neap_scripts: calls of the server, turned into calls of host.lua
 *   scripts_state.c  a Lua state that others' scripts may run in: its memory, its time, its names
 *   scripts_place.c  where Neap's Lua files and libneap are */
#ifndef NEAP_HOST_SCRIPTS_H
#define NEAP_HOST_SCRIPTS_H

#include "neap_host.h"
#include <lua.h>
#include <stdbool.h>

struct neap_host {
  neap_scripts scripts;
  neap_host_options options;
  char *lua_path; /* without a slash at its end */
  char *library;  /* libneap's file; "": its functions are the program's own */
};

/* A script: the state it is in. The state's allocator knows it, so C functions called from Lua
 * find it by lua_getallocf(). */
typedef struct neap_script {
  const neap_host *host;
  lua_State *L;
  size_t used, limit;      /* bytes */
  char *first;             /* memory that a state's making takes, */
  size_t first_used;       /* and how much of it */
  bool begun;              /* that is over */
  bool inside;             /* one of the script's functions runs */
  bool refused;            /* an allocation failed, and nobody has made an error of it yet */
  bool broken;             /* Neap's own Lua ran out of memory half way through something */
  bool late;               /* the time is used up */
  int64_t left;            /* nanoseconds that remain in this call of the table */
  int64_t until_wall;      /* when they are over, if no other thread takes the processor, */
  int64_t until_cpu;       /* and by this thread's own clock */
  const char *watched;     /* while a call's last line is looked for: the chunk it is in, */
  int line;                /* and the line so far */
  char name[64], hash[24]; /* what describe() gave last */
  char *dump;
  size_t dump_size;
} neap_script;

/* A state with Neap's Lua in it, registry["neap.host"] being what host.lua returns; NULL after a
 * failure, with the text in `error`. */
neap_script *neap_script_create(const neap_host *host, int *status, char *error, size_t error_size);
void neap_script_close(neap_script *script);

/* Runs `f` protected, with `request` as its light userdata, and the time that scripts have set
 * anew. Whatever is raised becomes a status and a text. */
int neap_script_run(neap_script *script, lua_CFunction f, void *request, char *error,
                    size_t error_size);

/* Fills host->lua_path and host->library. */
int neap_host_find(neap_host *host, const char *lua_path, char *error, size_t error_size);

/* Writes a text, cut to `size` at the end of a character, control characters replaced. Returns
 * `status`. */
int neap_host_fail(int status, char *error, size_t size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void neap_host_text(char *error, size_t size, const char *text, size_t length);

#endif
