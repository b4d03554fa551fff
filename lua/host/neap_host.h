/* SPDX-License-Identifier: MIT */
/* neap_host.h - scripts for servers: the library libneap_host.
 *
 * A server (neap_server_start) holds no Lua; what records the optimizer scripts that workers send
 * is given to it as a table, neap_scripts. This library has that table. It runs each script in a
 * Lua state of its own, which is made for nothing else:
 *
 *   what a script sees   the recorder's functions, a few of Lua's that compute, and its own tables
 *   what it is           source text of at most 64 KiB; the text around it at most 1 MiB
 *   memory               64 MiB more than the empty state takes
 *   time                 1 s of processor time for each call of the table
 *   compiled code        none: the JIT compiler is off
 *
 * What comes out of a state is a program, which libneap verifies as it does any other. Nothing that
 * a script does ends the process or reaches another script; what fails is an error text that gives
 * the script's name and line. Each recording runs the script anew, so that a program depends on
 * nothing that was recorded before.
 *
 * Rules: as in neap.h. Functions that can fail return a neap_status, and write a text to `error`
 * (of `error_size` bytes, cut where it is longer, always ended by a zero byte; may be NULL if
 * error_size is 0); neap_error() knows nothing of them.
 *
 *   neap_host *host = NULL;
 *   char error[512];
 *   if (neap_host_create(NULL, &host, error, sizeof error) != NEAP_OK) complain(error);
 *   options.scripts = neap_host_scripts(host);
 *   neap_server_start(context, &options, &server);
 *   ...
 *   neap_server_close(server);
 *   neap_host_close(host);
 *
 * The process must hold one LuaJIT only: either this library's own, or the one of the program that
 * loads it, if it shows its symbols (as luajit does). neap_host_create() checks that. */
#ifndef NEAP_HOST_H
#define NEAP_HOST_H

#include "neap.h"

#ifdef __cplusplus
extern "C" {
#endif

/* [declarations: handed to LuaJIT as those of neap.h are, and after them] */

typedef struct neap_host neap_host;

typedef struct neap_host_options {
  size_t size;          /* sizeof(neap_host_options) */
  const char *lua_path; /* the folder that has neap/host.lua in it; NULL: found from where this
                         * library or program lies, in a source tree or installed */
  size_t memory;        /* bytes that a script may take besides what Neap's own Lua does: 64 MiB */
  double seconds;       /* of processor time that a script may run in one call: 1 */
  /* Where the states' memory comes from; NULL: the C library. As realloc(), but told the size of
   * `block` (of which LuaJIT is not always sure after an allocation has failed); `size` 0 frees and
   * returns NULL. Must not fail when a block shrinks. Called from the threads that call the table.
   */
  void *(*alloc)(void *user, void *block, size_t old_size, size_t size);
  void *user;
} neap_host_options;

/* Fills in the defaults. */
NEAP_API void neap_host_options_init(neap_host_options *options, size_t size);

/* Finds Neap's Lua files and checks that a state can be made of them; NULL options are the
 * defaults. NEAP_ENOTSUP: the files, the functions of libneap or a LuaJIT that fits are missing;
 * the text says what, and where it was looked for. */
NEAP_API int neap_host_create(const neap_host_options *options, neap_host **out, char *error,
                              size_t error_size);

/* The table, for neap_job_options; valid until the host is closed. Different scripts may be used
 * from different threads at once, one script from one at a time. A call needs 256 KiB of stack.
 *
 * The optimizer that open() gives is the caller's, and so is the script: closing either leaves the
 * other in order, but bind() and set() work on the optimizer, which must live then (a store that
 * updates with it keeps it alive). A script that ran out of memory outside of its own functions is
 * of no use any more: bind() and set() then say so, and it must be opened again. */
NEAP_API const neap_scripts *neap_host_scripts(neap_host *host);

/* After all scripts were closed, and the servers that use the table. NULL may be closed. */
NEAP_API void neap_host_close(neap_host *host);

/* Bytes of memory that a script's state holds, and the most that it may while the script runs. */
NEAP_API void neap_host_usage(void *script, size_t *used, size_t *limit);

/* For neap_options: `log` and, as `user`, one of these: lines up to its level on standard error,
 * with the time and the name in front. */
typedef struct neap_host_lines {
  int level; /* neap_log_level */
  char name[32];
} neap_host_lines;
NEAP_API void neap_host_log(void *lines, int level, const char *text);

/* [end of declarations] */

/* The text between the two marks. Constant. */
NEAP_API const char *neap_host_declarations(void);

#ifdef __cplusplus
}
#endif
#endif
