/* SPDX-License-Identifier: MIT */
/* dist_inside.h - what the files of a worker's store share; nobody else includes it.
 *
 *   store_dist.c     the store type: what calls become on the engine
 *   dist_request.c   keys and their parts, requests about them, flow control
 *   dist_control.c   joining and leaving a job, barriers, settings, commands, states
 *   dist_swap.c      sending optimizers, and going back to one
 *   dist_ask.c      requests that their caller waits for
 *
 * Work on a key becomes operations on the engine, ordered by a small array of the key's own, its
 * order: a push writes it, a pull reads it. So pushes are numbered in the order of the program, a
 * push waits until earlier pulls of its key are answered, and pulls run side by side. An operation
 * that stands for a request is asynchronous: the reply completes it, and only then what it reads
 * may be written, or what it writes be read.
 *
 * Invariants:
 *   D1  A part's clock is changed by operations that write the key's order only. (run_push)
 *   D2  Pushes of one part leave in the order of their clocks, and arrive in it: those on their way
 *       at one time have one priority and one lane. (may_leave)
 *   D3  What a request is sent from, and a reply received into, belongs to an operation that is not
 *       complete before the reply is there, or is a copy in the request.
 *   D5  Operations use the store and its peers, so it counts them, and waits for them when it is
 *       closed, before anything else goes. What is left to do afterwards needs the key only.
 *   D4  Locks: store->base.lock, then flow or lock, then the peer's and the link's. Replies come
 *       without any, and take flow or lock only. */
#ifndef NEAP_DIST_INSIDE_H
#define NEAP_DIST_INSIDE_H

#include "../engine/array_work.h"
#include "../engine/pool.h"
#include "../engine/sparse.h"
#include "../engine/store.h"
#include "../engine/work_list.h"
#include "job.h"
#include "peer.h"
#include <pthread.h>

typedef struct dist_store dist_store;
typedef struct dist_request dist_request;

/* A share of a key: rows [begin, end) on one server. */
typedef struct dist_part {
  int server;
  int64_t begin, end;
  neap_array_info info;
  size_t row_bytes, offset; /* of dense memory: where this part begins */
  uint64_t birth, clock;    /* D1 */
  /* Under store->flow: pushes that have to wait, and those on their way. */
  dist_request *held, **held_end;
  int flying;
  size_t flying_bytes;
  int priority, lane; /* of those on their way */
  bool pumping;
} dist_part;

/* A key, for as long as requests are about it. */
typedef struct dist_key {
  dist_store *store;
  neap_context *context;
  atomic_int refs;
  neap_key key; /* its text is ours */
  neap_array_info info;
  uint64_t life;     /* another one each time a key is made; the home server's counts */
  neap_array *order; /* one byte that nobody looks at */
  size_t size;       /* of this block */
  int num_parts;
  dist_part parts[];
} dist_key;

typedef struct dist_entry {
  neap_store_entry base;
  dist_key *key;
  neap_array *residual; /* of gradient compression; made when first needed */
} dist_entry;

/* Requests that belong together: the last one to end ends it. */
typedef struct dist_transfer {
  dist_store *store;
  dist_key *key; /* held */
  atomic_int left, status;
  neap_work *work; /* completed at the end; NULL: none, failures are told by the key's order */
  void (*finish)(struct dist_transfer *transfer); /* before that; may be NULL */
  /* After the reply to the first part's INIT: what is to be done about the others. May be NULL. */
  void (*go_on)(struct dist_transfer *transfer, int status, const char *text);
  void *owner;
  char text[320];
} dist_transfer;

struct dist_request {
  neap_request request; /* first */
  dist_request *next;   /* in part->held */
  atomic_int refs;      /* the peer's, and whoever else looks at the reply */
  dist_key *key;        /* held */
  dist_part *part;
  dist_transfer *transfer;
  size_t size;  /* of this block */
  size_t bytes; /* of payload */
  int lane;
  bool push;
  /* Where a reply's payload goes: `expected` bytes at `to`; or, for rows, a block of at most that
   * many. */
  void *to;
  uint64_t expected;
  void *block;
  uint64_t block_size, rows;
  bool wants_rows;
  uint8_t *copy; /* room behind the meta */
  uint8_t meta[];
};

struct dist_store {
  neap_store base;
  neap_context *context;
  neap_job_options job;
  neap_ticker *ticker;
  neap_peer *scheduler, **servers;
  int num_servers;
  bool async;
  uint64_t incarnation;
  _Atomic uint64_t lives;
  atomic_int copies;  /* requests that hold copies */
  atomic_int works;   /* operations that are queued: D5 */
  atomic_int pushes;  /* without a reply */
  atomic_int version; /* of the servers' optimizer, as far as it is known */

  pthread_mutex_t flow;  /* the parts' */
  pthread_mutex_t calls; /* one control call at a time; guards numbers and answers */
  uint64_t controls, barriers;
  char **answers;
  size_t *answer_sizes;

  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t changed;
  int rank;
  neap_roster *roster;
  int servers_up;
  bool lost; /* one of the peers, for good */
  bool ready;
};

static inline dist_store *dist_of(neap_store *store) {
  return (dist_store *)store;
}

/* An operation is over: after this the store may be gone. */
static inline void neap_dist_work_over(dist_store *store) {
  atomic_fetch_sub_explicit(&store->works, 1, memory_order_release);
}

/* ---- dist_request.c ---- */
int neap_dist_key_create(dist_store *store, const neap_store_entry *entry, dist_key **out);
void neap_dist_key_drop(dist_key *key);
static inline dist_key *neap_dist_key_hold(dist_key *key) {
  atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
  return key;
}

/* Of `left` ends; the key is held until the last. */
dist_transfer *neap_dist_transfer(dist_key *key, int left);
void neap_dist_end(dist_transfer *transfer, int status, const char *text);

/* A request about a part with room for `copy` bytes of payload. NULL: no memory. */
dist_request *neap_dist_request(dist_transfer *transfer, dist_part *part, int type, int priority,
                                size_t copy);
static inline void neap_dist_request_hold(dist_request *request) {
  atomic_fetch_add_explicit(&request->refs, 1, memory_order_relaxed);
}
void neap_dist_request_drop(dist_request *request);
/* The writer for its meta; begin with the key, and close it. */
void neap_dist_meta_open(dist_request *request, neap_writer *w);
void neap_dist_meta_close(dist_request *request, const neap_writer *w);
/* The payload, sent from where it lies. */
void neap_dist_payload(dist_request *request, const void *a, size_t a_size, const void *b,
                       size_t b_size);
/* Sends it; a push when its turn has come (D2). The reply ends the transfer once. */
void neap_dist_send(dist_request *request);
/* Between `on` and not `on`, requests gather, to leave together. */
void neap_dist_gather(dist_store *store, bool on);

/* ---- dist_control.c ---- */
int neap_dist_join(dist_store *store, const neap_job_options *job);
void neap_dist_leave(neap_store *store);
void neap_dist_close(neap_store *store);
int neap_dist_barrier(neap_store *store);
int neap_dist_delete(dist_store *store, dist_key *key);
/* dist_async: NEAP_EINVAL unless the servers have an optimizer. */
int neap_dist_check_optimizer(dist_store *store);

#endif
