/* SPDX-License-Identifier: MIT */
/* program.h - what the files of the program `neap` share: neap.c has main(), and each command a
 * file of its own. */
#ifndef NEAP_PROGRAM_H
#define NEAP_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

/* ---- Commands: argv[0] is the command's name. They return the program's exit status. ---- */
int neap_command_run(int argc, char **argv);
int neap_command_serve(int argc, char **argv); /* server and scheduler */
int neap_command_launch(int argc, char **argv);
int neap_command_optimizer(int argc, char **argv);

/* ---- neap.c ---- */

/* Exit statuses of the program's own. */
enum { NEAP_EXIT_FAILED = 1, NEAP_EXIT_USAGE = 2, NEAP_EXIT_CANNOT_RUN = 127 };

/* "neap launch: text" on stderr; returns NEAP_EXIT_FAILED. */
__attribute__((format(printf, 2, 3))) int neap_complain(const char *command, const char *format,
                                                        ...);
/* The same for a mistake on the command line, and where help is; returns NEAP_EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int neap_misuse(const char *command, const char *format, ...);

/* Sees to it that Lua programs started from here find this very Neap: sets LUA_PATH and
 * NEAP_LIBRARY unless somebody has. Returns the folder of the Lua files, "" if it was not found. */
const char *neap_at_hand(void);

/* The file of this program. */
const char *neap_program_file(void);

/* A number from `low` to `high`; false if the text is none. */
bool neap_read_number(const char *text, double low, double high, double *out);

#endif
