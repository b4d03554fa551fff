/* SPDX-License-Identifier: MIT */
/* server_inside.h - what the files of a server share; nobody else includes it.
 *
 *   server.c          life, sessions, the roster, which message goes where
 *   server_keys.c     keys, their clocks, pushes and rounds
 *   server_read.c     what INIT and PUSH bring
 *   server_values.c   what goes out: values, rows
 *   server_scripts.c  the thread that turns scripts into programs; settings, commands
 *   server_swap.c     how one optimizer takes the place of another
 *   server_states.c   states of optimizers, both ways; what is going on
 *   server_split.c    keys whose parts lie on several servers: one decides for all what is next
 *   server_joint.c    and adds up sums that go over all parts
 *
 * A key's clock of a worker counts that worker's pushes to it. `accepted` is the last one that is
 * here wholly; `started` the last whose update was handed to the engine. Both only grow, live with
 * the value, and decide everything: a push with a clock not above `accepted` was here before and
 * is not applied again; a pull says how many pushes it comes after, and waits for `started`. So it
 * does not matter in which order or how often messages arrive.
 *
 * Invariants:
 *   K1  Of each worker and key, pushes are accepted in the order of their clocks, without a gap.
 *       (neap_server_push)
 *   K2  In step, an update takes the oldest waiting push of each worker, all in order of rank, and
 *       starts when every worker that counts has one. Out of step, each push is an update. Of a key
 *       that is split, the home says when, once all parts have what it takes. (start)
 *   K3  What a reply is being sent from is never written: an update finds value->refs above 1, and
 *       works on a copy. (own_value)
 *   K4  Work on a key's arrays is queued under server->lock, and ordered by the engine. Engine
 *       operations and their clean-up never take server->lock; who holds it may run them.
 *   K5  A session, and what is kept for it, is used only while worker->session is that session:
 *       what an earlier process of the rank asked for is dropped with it. (neap_server_admit) */
#ifndef NEAP_SERVER_INSIDE_H
#define NEAP_SERVER_INSIDE_H

#include "../engine/codec.h"
#include "../engine/keys.h"
#include "../engine/optimizer.h"
#include "../engine/pool.h"
#include "../engine/program.h"
#include "job.h"
#include "peer.h"
#include "service.h"
#include <pthread.h>

typedef struct neap_server_scripts neap_server_scripts; /* server_scripts.c */
typedef struct neap_joints neap_joints;                 /* server_joint.c */
typedef struct neap_others neap_others;                 /* server_split.c */

/* A value and who reads it. */
typedef struct server_value {
  neap_context *context;
  neap_array *array;
  atomic_int refs; /* the key's, and one for each reply that is being sent */
} server_value;

/* A push that is here and not started yet. */
typedef struct server_push {
  struct server_push *next;
  uint64_t clock, request, incarnation; /* of the worker's process */
  neap_array *array;                    /* dense, row-sparse, or the codec's bytes */
  const neap_codec *codec;
  float threshold;
  size_t bytes;
  bool replied;
} server_push;

typedef struct server_clock {
  uint64_t accepted, started;
  server_push *first, *last;
  size_t bytes; /* waiting */
} server_clock;

/* A pull that waits for its worker's clock. */
typedef struct server_pull {
  struct server_pull *next;
  int type, rank, priority;
  uint64_t request, after;
  double since; /* waits since then, or since a line in the log said so */
  int64_t *ids; /* PULL_ROWS: relative to the part, ascending; NULL: all */
  int64_t num_ids;
} server_pull;

/* What the home of a split key knows of its parts; and a START that waits. server_split.c. */
typedef struct neap_split neap_split;
typedef struct split_start split_start;

/* From a round on, a key is updated by another optimizer. */
typedef struct server_turn {
  struct server_turn *next;
  uint64_t round;
  neap_optimizer *optimizer; /* held */
  neap_program *migration;   /* held; may be NULL */
  bool restored;             /* it has its states already */
} server_turn;

typedef struct server_key {
  const neap_key *key;         /* the table's */
  neap_array_info info, whole; /* of this server's part; of the key */
  int64_t begin;               /* of the part, in rows */
  uint64_t birth;              /* another one each time a key is made */
  server_value *value;
  server_pull *pulls, **pulls_end;
  uint64_t updates;
  neap_optimizer *optimizer; /* that makes the next update, unless a turn comes; held */
  server_turn *turns;        /* in the order of their rounds */
  uint64_t limit;            /* while server->held: no more updates than these */
  /* Of a key that is split: its parts lie on `parts` servers from `home` on. */
  uint64_t life; /* as `birth`, and the same on all servers */
  int home, parts, index;
  uint64_t joint_updates;
  uint64_t haves, starts;              /* HAVEs told to the home, STARTs heard of it */
  neap_split *split;                   /* at its home */
  split_start *started, **started_end; /* STARTs that have to wait */
  char *unbound[2];                    /* why no program is bound, by storage type of gradients */
  server_clock clocks[];
} server_key;

/* An INIT without a value, which waits for rank 0's. */
typedef struct server_wait {
  struct server_wait *next;
  neap_key key; /* text is ours */
  neap_array_info info, whole;
  int rank;
  uint64_t request;
  double since;
} server_wait;

typedef struct server_worker {
  int rank;
  neap_session *session; /* held; NULL: none yet */
  uint64_t incarnation;
  double down;          /* since when it has no connection; 0: it has */
  bool hurried;         /* waits at a barrier: its pushes are answered at once */
  uint64_t begun, done; /* numbers of control requests; the reply to the last one done: */
  int status;
  int64_t version;
  char *text; /* an error's, or an answer */
  size_t text_size;
} server_worker;

struct neap_server {
  neap_context *context;
  neap_job_options options;
  neap_service *service;
  neap_peer *scheduler;
  neap_ticker *ticker;
  neap_server_scripts *scripts;
  neap_others *others;
  neap_joints *joints;
  uint64_t incarnation;
  double looked;      /* for stalls; the ticker's */
  atomic_int answers; /* replies with a payload, made and not sent yet */

  pthread_mutex_t lock; /* guards what follows; comes before the service's and links' locks */
  pthread_cond_t changed;
  neap_roster *roster; /* NULL until the scheduler sent it */
  int rank;
  uint64_t registered; /* the incarnation by which the job knows this server */
  bool over;
  int fate; /* the scheduler is gone, or refuses */
  char fate_text[512];
  bool async; /* of the stores that workers made; told by INIT */
  bool mode_known;
  neap_keys keys; /* -> server_key */
  uint64_t births;
  server_worker *workers; /* num_workers, and behind them the admin */
  server_push **starting; /* num_workers; those of the update that is being started */
  server_wait *waits;
  neap_optimizer *optimizer; /* the newest: new keys begin with it, and old ones come to it */
  int64_t version;           /* its */
  bool held;                 /* an exchange is being decided: see key->limit */
};

/* Memory that a large message is received into. */
typedef struct server_payload {
  neap_array *array; /* dense pushes and values; or */
  void *block;       /* from the pool */
  size_t size;
} server_payload;

/* ---- server.c ---- */
/* A message of a worker; under the lock. NULL, or what is wrong with it. */
const char *neap_server_handle(neap_server *server, int rank, neap_incoming *in, neap_reader *r);
/* A large one begins: sets payload to memory; or not, and then the payload is dropped, and the
 * message's reply says why. Under the lock. */
const char *neap_server_place(neap_server *server, int rank, neap_incoming *in,
                              server_payload *payload);
void neap_server_payload_free(neap_server *server, server_payload *payload);
/* The payload's bytes, wherever they are. */
static inline const void *server_bytes(const neap_incoming *in) {
  return in->payload;
}
/* A reply to a worker; dropped if `session` is no longer the worker's. Under the lock. */
void neap_server_reply(neap_server *server, int rank, uint64_t request, int status,
                       const char *text, const void *meta, size_t size);
/* The part of a message's payload as a dense array like `info`: taken over or copied. */
int neap_server_take_array(neap_server *server, neap_incoming *in, const neap_array_info *info,
                           neap_array **out);
/* What is kept for each worker, once it is known how many there are; and for the
 * admin behind them. */
int neap_server_make_workers(neap_server *server, int count);
static inline bool neap_server_is_admin(const neap_server *server, int rank) {
  return rank == server->roster->num_workers;
}
/* Whether rounds wait for this worker. Under the lock. */
bool neap_server_counts(const neap_server *server, int rank);
/* The worker of this state blocks those who wait: a text for them; NULL if it does not. */
bool neap_server_is_lost(const neap_server *server, int rank);

/* ---- server_keys.c: all under the lock. NULL, or what is wrong with the message ---- */
const char *neap_server_init(neap_server *server, int rank, neap_incoming *in, neap_reader *r);
const char *neap_server_push(neap_server *server, int rank, neap_incoming *in, neap_reader *r);
const char *neap_server_delete(neap_server *server, int rank, neap_incoming *in, neap_reader *r);
/* Starts one update by the oldest waiting pushes of these ranks, in this order. */
void neap_server_start_update(neap_server *server, server_key *key, const int *ranks, int count);
/* Drops what an earlier process of this rank, before `incarnation`, has pushed and is not started,
 * but the first `keep` of it. */
void neap_server_drop_pushes(neap_server *server, server_key *key, int rank, uint64_t keep,
                             uint64_t incarnation);
/* Where an INIT's or PUSH's large payload goes; payload NULL: nowhere. */
const char *neap_server_place_value(neap_server *server, int rank, neap_incoming *in,
                                    neap_reader *r, server_payload *payload);
/* After a change of the roster. */
void neap_server_recheck(neap_server *server);
/* Replies to all pushes of this worker that wait for a reply. */
void neap_server_hurry(neap_server *server, int rank);
/* Drops what an earlier process of this rank waits for. */
void neap_server_forget_worker(neap_server *server, int rank);
void neap_server_drop_keys(neap_server *server);
/* The key of a message, and the reply to one that is not there. */
server_key *neap_server_find(neap_server *server, const neap_key *key, uint64_t birth, char *text,
                             size_t size);
/* The clock of each key that is new goes on when its programs are bound. */
void neap_server_init_reply(neap_server *server, int rank, uint64_t request, server_key *key);

/* ---- server_values.c: under the lock ---- */
const char *neap_server_pull(neap_server *server, int rank, neap_incoming *in, neap_reader *r);
/* Answers the pulls that need not wait any more; fails those that would wait for the lost. */
void neap_server_answer_pulls(neap_server *server, server_key *key);
void neap_server_drop_pulls(neap_server *server, server_key *key, int rank, int status,
                            const char *text);
int neap_server_value_new(neap_server *server, neap_array *array, server_value **out);
void neap_server_value_drop(server_value *value);

/* A reply with `meta` and the array's elements, when all that is queued on it is complete. */
void neap_server_send_array(neap_server *server, int rank, uint64_t request, neap_array *array,
                            const void *meta, size_t size);

/* ---- server_states.c: under the lock ---- */
const char *neap_server_get_state(neap_server *server, int rank, neap_incoming *in, neap_reader *r);
const char *neap_server_put_state(neap_server *server, int rank, neap_incoming *in, neap_reader *r);
const char *neap_server_stats(neap_server *server, int rank, neap_incoming *in, neap_reader *r);
/* Writes to the log what has been waited for, and for whom, for NEAP_STALL seconds. */
enum { NEAP_STALL = 10 };
void neap_server_log_stalls(neap_server *server, double now);

/* ---- server_split.c ---- */
/* A request to another server; its meta begins with the key and its life. */
typedef struct neap_outgoing {
  neap_request request;
  neap_context *context;
  void (*done)(struct neap_outgoing *o, int status, const char *text,
               neap_reader *meta); /* or NULL */
  /* SUM */
  double *sums;
  int count;
  void (*told)(void *arg, int status, const char *text);
  void *arg;
  neap_writer w;
  uint8_t meta[NEAP_KEY_LENGTH + 1024];
} neap_outgoing;
neap_outgoing *neap_outgoing_new(neap_server *server, int type, const neap_key *key, uint64_t life);
void neap_outgoing_send(neap_server *server, int rank, neap_outgoing *o);

int neap_split_start(neap_server *server);
void neap_split_tick(neap_server *server, double now);
void neap_split_disconnect(neap_server *server); /* waits for NNG's threads */
void neap_split_close(neap_server *server);
/* Under the lock, as all that follows: connects to the servers that the roster names, and gives up
 * those that are gone. Whether all are known. */
bool neap_split_connect(neap_server *server);
/* At the home, a new key's state; its end. */
int neap_split_open(neap_server *server, server_key *key);
void neap_split_drop(neap_server *server, server_key *key);
/* A push of a split key was accepted. */
void neap_split_accepted(neap_server *server, server_key *key, int rank);
/* After a change of the roster. */
void neap_split_recheck(neap_server *server, server_key *key);
/* HAVE, START and DROP. */
const char *neap_split_message(neap_server *server, neap_incoming *in, neap_reader *r);

/* ---- server_joint.c ---- */
int neap_joints_start(neap_server *server);
void neap_joints_end(neap_server *server); /* fails what waits */
void neap_joints_close(neap_server *server);
/* For one update of a key that is split. NULL: no memory. */
neap_joint *neap_server_joint(neap_server *server, server_key *key);
const char *neap_server_sum(neap_server *server, neap_session *session, neap_incoming *in,
                            neap_reader *r);
void neap_joints_lost(neap_server *server, const char *text);
void neap_joints_forget(neap_server *server, const server_key *key);

/* ---- server_swap.c: under the lock ---- */
/* Whether the key's next update may start. */
static inline bool neap_server_may_start(const neap_server *server, const server_key *key) {
  return !server->held || key->updates < key->limit;
}
/* Before an update of the key: takes the turns that have come. */
void neap_swap_key(neap_server *server, server_key *key);
/* For a new key, and for one that ends. */
void neap_swap_begin(neap_server *server, server_key *key);
void neap_swap_forget(neap_server *server, server_key *key);

/* ---- server_scripts.c ---- */
/* A reply with a number and a payload. Under the lock. */
void neap_server_reply_bytes(neap_server *server, int rank, uint64_t request, int64_t number,
                             const void *bytes, size_t size);
int neap_scripts_start(neap_server *server);
void neap_scripts_close(neap_server *server);
/* Control requests, each worker's one after the other; answered from the scripts' thread. Under the
 * lock. */
const char *neap_server_control(neap_server *server, int rank, neap_incoming *in, neap_reader *r);
/* What an admin may ask, and no more. Under the lock. */
const char *neap_server_admin(neap_server *server, int rank, neap_incoming *in, neap_reader *r);
/* Binds a new key's programs and then sends the reply to its INIT. Under the lock. */
bool neap_scripts_bind(neap_server *server, int rank, uint64_t request, server_key *key);
/* Whether anything is done by scripts here. Under the lock. */
bool neap_scripts_active(const neap_server *server);

#endif
