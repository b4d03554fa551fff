/* SPDX-License-Identifier: MIT */
/* work.h - the structures that var.c, ready.c and sched.c share; nobody else includes it. */
#ifndef NEAP_WORK_H
#define NEAP_WORK_H

#include "sched.h"
#include <pthread.h>

/* A late error: made by the operation that failed, shared by all it marks. */
typedef struct neap_failure {
  atomic_int refs;
  int status;
  _Atomic uint64_t told;     /* the last operation queued when somebody was told; see var.c, I6 */
  struct neap_failure *next; /* in sched->untold */
  size_t size;
  char text[];
} neap_failure;

/* From one write of a variable to the next: the write, and the reads that follow it. */
typedef struct neap_epoch {
  _Atomic(struct neap_slot *) waiting; /* reads that wait for the write; NEAP_WRITTEN once done */
  atomic_int holders;                  /* the write, reads in flight, and NEAP_OPEN while current */
  neap_work *next;                     /* the next write, once there is one */
  neap_work *owner;                    /* whose memory this is; NULL: the variable's own */
} neap_epoch;

enum { NEAP_OPEN = 1 << 30 };

/* One read of one variable by one operation. */
typedef struct neap_slot {
  neap_work *work;
  neap_var *var;
  neap_epoch *epoch;
  struct neap_slot *sibling;
} neap_slot;

/* One write. */
typedef struct neap_write {
  neap_var *var;
  neap_epoch epoch;
} neap_write;

enum neap_work_kind {
  NEAP_WORK_POOLED, /* from the pool of works */
  NEAP_WORK_WAIT,   /* on the stack of a waiting thread */
  NEAP_WORK_CLOSE,  /* inside a variable that is being closed */
};

/* The first two cache lines are what every operation's way touches. */
struct neap_work {
  atomic_int waits; /* what must be complete first, and 1 while being queued */
  atomic_int refs;  /* the operation itself, and each of its epochs that is not over */
  atomic_int parts_left;
  int parts;
  neap_work *link; /* inbox, list, children in the heap, spare works */
  neap_sched *sched;
  neap_fn run;
  void (*done)(void *payload);
  void *arg; /* passed to run and done */
  const char *name;

  uint64_t seq; /* order of queueing, from 1 */
  neap_slot *slots;
  neap_write *writes;
  neap_failure *failure; /* inherited or its own */
  neap_work *child;      /* heap */
  int num_slots, num_writes;
  int next_part, end_part; /* not taken yet; under ready->pick */
  int priority;
  atomic_int failed_part; /* lowest part that failed */
  unsigned char kind, batch, size_class;
  bool quick : 1, always : 1, skip : 1, counted : 1, async : 1;

  void *target; /* kind WAIT: the parker; kind CLOSE: the variable */
  size_t bytes; /* of this allocation */
};

struct neap_var {
  neap_context *context;
  neap_epoch *current; /* under sched->submit */
  uint64_t mark;       /* under sched->submit: seq of the last operation that named it */
  _Atomic(neap_failure *) failure;
  neap_epoch first;
  neap_work closer;
  void (*dispose)(void *arg);
  void *dispose_arg;
};

struct neap_task {
  neap_work *work;
  int part;
  bool failed;
};

/* A thread that sleeps until there is work or what it waits for is complete. */
typedef struct neap_parker {
  pthread_cond_t cond;
  bool listed, woken;
  bool last; /* takes parts from the end; see ready.c */
  atomic_bool done;
  neap_sched *sched;
  struct neap_parker *next;
} neap_parker;

/* ready.c: operations whose turn has come, in order of priority, then of queueing. */
typedef struct neap_ready {
  _Alignas(64) _Atomic(neap_work *) inbox; /* newest first; anybody adds */
  _Alignas(64) atomic_int prioritised;     /* in here altogether, with a priority other than 0 */
  _Alignas(64) pthread_mutex_t pick;       /* guards what follows; takers only */
  neap_work *first, *last;                 /* priority 0 */
  neap_work *heap;                         /* the others */
  atomic_int stored;                       /* in the list and the heap; read by anybody */
} neap_ready;

int neap_ready_init(neap_ready *ready);
void neap_ready_destroy(neap_ready *ready);
void neap_ready_add(neap_ready *ready, neap_work *work);
/* Whether there is something to take. */
static inline bool neap_ready_any(neap_ready *ready) {
  return atomic_load(&ready->stored) > 0 || atomic_load(&ready->inbox);
}
/* Takes the first, or its first or `last` part; NULL if there is none. */
neap_work *neap_ready_take(neap_ready *ready, bool last, int *part);

struct neap_sched {
  neap_context *context;
  _Alignas(64) pthread_mutex_t submit; /* guards each variable's `current`, and: */
  uint64_t seq;
  uint64_t submitted[2]; /* operations queued, by batch */
  int batch;
  _Alignas(64) _Atomic uint64_t completed[2];
  neap_ready ready;
  /* Sleeping. */
  _Alignas(64) pthread_mutex_t sleep; /* guards the list */
  neap_parker *parked;
  atomic_int num_parked;
  atomic_int searching;         /* threads looking for work before they sleep */
  _Atomic(neap_parker *) drain; /* who waits for a batch to be complete */
  uint64_t drain_target;
  int drain_batch;
  pthread_mutex_t drain_lock; /* one neap_wait_all at a time */
  /* Failures nobody was told of. */
  pthread_mutex_t failures;
  neap_failure *untold, **untold_end;
  int num_untold;
  neap_failure *no_memory; /* stands in when a failure cannot be allocated */
  /* Memory of works, by size class. */
  _Alignas(64) atomic_bool spare_taken; /* somebody is at the list: allocate instead */
  neap_work *spare[4];
  _Alignas(64) _Atomic(neap_work *) returned[4];
  /* Workers. */
  pthread_mutex_t control; /* guards start and stop */
  pthread_t *threads;
  int num_threads, max_threads;
  atomic_bool stopping, paused;
  bool naive;
};

/* var.c */
void neap_var_init(neap_var *var, neap_context *context);
/* Queues `work` behind what its variables need; true if it is ready at once. */
bool neap_work_enter(neap_work *work);
/* Takes the variables' marks over; true if the work must be skipped. */
bool neap_work_inherit(neap_work *work);
/* Passes failures on, and lets the works behind it go; each that became ready is handed to
 * `ready(context, work)`. Drops the operation's own reference. */
void neap_work_leave(neap_work *work, void (*ready)(void *context, neap_work *work), void *context);
void neap_work_drop(neap_work *work);
/* Under sched->submit. */
bool neap_var_is_written(const neap_var *var);
bool neap_var_is_idle(const neap_var *var);
/* work.c: the last reference of a work is gone. */
void neap_work_dispose(neap_work *work);

/* park.c */
void neap_parker_init(neap_parker *parker, neap_sched *sched);
/* Sleeps until woken; not at all if there is work, or `done` is set. */
void neap_park(neap_parker *parker);
void neap_wake_one(neap_sched *sched); /* any that sleeps */
void neap_wake_everybody(neap_sched *sched);
void neap_parker_wake(neap_parker *parker);        /* this one: what it waits for is complete */
void neap_parker_wake_locked(neap_parker *parker); /* the same, under sched->sleep */
/* Before the parker's memory goes: whoever woke it has let go of it then. */
void neap_parker_leave(neap_parker *parker);

/* sched.c */
int neap_depth_in(const neap_sched *sched); /* operations the calling thread is inside of */
uint64_t neap_enter(neap_sched *sched, neap_work *work, bool on_the_spot, bool *ready);
void neap_made_ready(void *successor, neap_work *work);
bool neap_run_one(neap_sched *sched, bool last); /* false if there is nothing to run */
/* Works until parker->done, or, for a worker, until the engine stops. */
void neap_help(neap_parker *parker, bool worker);
int64_t neap_backlog(neap_sched *sched); /* operations queued and not complete */
void neap_drain_check(neap_sched *sched);

/* wait.c */
int neap_may_wait(neap_sched *sched); /* NEAP_EINVAL from inside one of its operations */
void neap_drain(neap_sched *sched);   /* waits for all that is queued; tells nothing */

int neap_sched_prepare_failures(neap_sched *sched);
void neap_sched_drop_failures(neap_sched *sched);
neap_failure *neap_failure_new(neap_sched *sched, int status, const char *name, const char *text);
void neap_failure_drop(neap_sched *sched, neap_failure *failure);
/* If `var` is marked by a failure not told yet: tells it (neap_fail) and returns its status. */
int neap_var_tell(neap_var *var);
/* The same for the first failure of all that nobody was told of. */
int neap_sched_tell(neap_sched *sched);

#endif
