/* SPDX-License-Identifier: MIT */
/* neap_spawn.h - the processes of a job that was launched: on this host, or by ssh on another. */
#ifndef NEAP_SPAWN_H
#define NEAP_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

/* ---- Hosts (neap_hosts.c) ---- */

typedef struct neap_place {
  char name[256];    /* as ssh is told it */
  char address[256]; /* where it listens, for its servers */
  int processes;     /* of the kind that is being dealt out, so far: local ranks */
} neap_place;

typedef struct neap_places {
  neap_place *hosts;
  int *turns; /* in this order hosts get processes, round and round: numbers of hosts */
  int num_hosts, num_turns;
} neap_places;

/* Reads a file with a host a line: NAME [slots=N] [addr=ADDRESS], # begins a comment. False, with
 * the reason in `error`. */
bool neap_places_read(const char *path, neap_places *out, char *error, size_t size);
void neap_places_free(neap_places *places);
/* An address of this host that the first one of `places` reaches, as far as can be told. */
void neap_own_address(const neap_places *places, char *out, size_t size);

/* ---- Processes (neap_spawn.c) ---- */

typedef struct neap_child {
  const char *role;
  int rank;     /* -1: the only one of its role */
  pid_t pid;    /* and its process group; 0: has ended */
  int lifeline; /* to a process on another host: signals by name, and its end when this closes; or
                 * -1 */
} neap_child;

typedef struct neap_order {
  const char *role;
  int rank;
  char *const *argv;
  char **variables;   /* "NAME=value", NULL-terminated */
  const char *secret; /* NEAP_SECRET: never on a command line, which all users of a host can read */
  const char *host;   /* for ssh; NULL: this one */
  int output;         /* where its stdout goes; -1: where this process's goes */
  int grace;          /* seconds that it has on another host when the connection is lost */
} neap_order;

/* Starts it. Its end is ours: whatever ends this process ends it. Returns 0, or errno when the
 * program cannot be run. This process must have no threads. */
int neap_spawn(const neap_order *order, neap_child *out);
/* To its whole process group. */
void neap_child_signal(neap_child *child, int signal);
/* Of a child that has ended: 0-255, or 128 and the signal; ends what is left of its group. -1: none
 * has ended; `who` is set otherwise. */
int neap_child_reap(neap_child *children, int count, neap_child **who);

#endif
