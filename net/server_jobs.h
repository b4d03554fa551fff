/* SPDX-License-Identifier: MIT */
/* server_jobs.h - what server_scripts.c (the scripts' thread) and server_swap.c (one optimizer in
 * the place of another) share; nobody else includes it. */
#ifndef NEAP_SERVER_JOBS_H
#define NEAP_SERVER_JOBS_H

#include "server_inside.h"

enum { NEAP_SCRIPT_ERROR = 4096, NEAP_HISTORY = 16 };

typedef struct server_job {
  struct server_job *next;
  int type; /* of the message; NEAP_M_INIT: bind a new key */
  int rank;
  uint64_t request, number, incarnation;
  double since;
  double head;    /* COMMAND */
  uint64_t birth; /* NEAP_M_INIT */
  neap_key key;   /* its text is `bytes` */
  size_t size;
  char bytes[]; /* ended by a zero byte that size does not count */
} server_job;

/* A script with the optimizer that it binds programs for. All zero: none. */
typedef struct server_script {
  void *script;
  neap_optimizer *optimizer;
  neap_program *migration; /* that made its states of those before; or NULL */
  char *dump;              /* as it is now */
  size_t dump_size;        /* with a zero byte at its end */
  char name[64], hash[24];
  int64_t version;
} server_script;

/* The errors of bindings, by birth, until they are put in place. */
typedef struct kept_errors kept_errors;

/* An optimizer that is checked, and not decided on yet. */
typedef struct server_swap {
  int type; /* OPTIMIZER, or ROLLBACK: then `to` is what was before */
  int rank; /* whose it is */
  uint64_t incarnation;
  server_script to;
  kept_errors *kept;
  uint64_t bound; /* keys born until then are bound */
  bool armed;
  double armed_at;
} server_swap;

struct neap_server_scripts {
  pthread_t thread;
  bool started, closing;
  pthread_cond_t wake;
  server_job *jobs, **jobs_end;         /* for the thread */
  server_job *commands, **commands_end; /* for the host's controller */
  pthread_cond_t command;
  /* The thread's own; texts, versions and times under server->lock. */
  server_script current, before;
  server_swap *swap; /* the one that has its turn */
  int64_t highest;   /* version so far */
  char history[NEAP_HISTORY]
              [NEAP_NODE_TEXT + 192]; /* a line each; change i is at i % NEAP_HISTORY */
  int changes;
};

/* ---- server_scripts.c ---- */
/* Keeps and sends the reply to a numbered request. Under the lock. */
void neap_job_finish(neap_server *server, const server_job *job, int status, int64_t number,
                     const char *text, size_t size);
/* Binds all keys that were born after *birth, and returns with the lock held when none is left;
 * `tried`: their programs are run once, too. */
int neap_scripts_bind_all(neap_server *server, const server_script *script, bool tried,
                          uint64_t *birth, kept_errors **kept, char *error, size_t size);
/* Under the lock. */
void neap_scripts_place(neap_server *server, kept_errors *kept, bool place);
/* Reads the texts of a script anew. */
int neap_scripts_describe(neap_server *server, server_script *script, char *error, size_t size);
/* "worker 3 on host apollo", or the admin, into a buffer of NEAP_NODE_TEXT. Under the lock. */
const char *neap_scripts_who(neap_server *server, int rank, char *buffer);
/* Keeps and logs a change of the current script: "set", "settings", "rollback". Under the lock. */
void neap_scripts_note(neap_server *server, int rank, const char *what);
/* Closes what is not NULL in it, and leaves zeros. Not under the lock. */
void neap_scripts_end(neap_server *server, server_script *script);

/* ---- server_swap.c: on the scripts' thread, without the lock ---- */
void neap_swap_prepare(neap_server *server, server_job *job);
void neap_swap_arm(neap_server *server, server_job *job);
void neap_swap_decide(neap_server *server, server_job *job);
/* Under the lock: whether its owner is gone. Lets held updates go on when it takes too long. */
bool neap_swap_overdue(neap_server *server);
void neap_swap_drop(neap_server *server);

#endif
