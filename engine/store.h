/* SPDX-License-Identifier: MIT */
/* store.h - the inside of stores, and what a type of store has to bring.
 *
 * store.c is the public face: it finds the type, checks every argument, keeps the table of keys,
 * and holds the lock. A type (store_x.c) only does what was asked, knowing that it makes sense. A
 * new type is a file that fills in a neap_store_ops, and a row in stores.def. */
#ifndef NEAP_STORE_H
#define NEAP_STORE_H

#include "codec.h"
#include "keys.h"
#include "optimizer.h"
#include <pthread.h>

typedef struct neap_store_ops neap_store_ops;

/* A row of stores.def. */
typedef struct neap_store_row {
  const char *name;
  const neap_store_ops *ops;
  int flags;
} neap_store_row;

enum neap_store_flags {
  NEAP_STORE_ON_DEVICE = 1,  /* sums and updates where the arrays are; else on cpu(0) */
  NEAP_STORE_COMPRESSES = 2, /* heeds store->codec when it pushes dense float32 */
  NEAP_STORE_ASYNC = 4,      /* servers update at each push, not at each round */
};

/* One key of a store. Types put this first in a struct of their own. */
typedef struct neap_store_entry {
  const neap_key *key;  /* the table's copy */
  neap_array_info info; /* of the value given to init */
} neap_store_entry;

/* One key of a call, with the arrays given for it, one for each device. */
typedef struct neap_store_item {
  neap_store_entry *entry;
  int count;                 /* at least 1 */
  neap_array *const *arrays; /* the caller's, valid during the call only */
  neap_array *const *ids;    /* pull_rows: one for each array */
} neap_store_item;

/* A checked call. A key may come up several times: in order, one after the other. */
typedef struct neap_store_call {
  const neap_store_item *in; /* what is given: init, push */
  int num_in;
  const neap_store_item *out; /* what is asked for: pull, or right after `in` */
  int num_out;
  int priority;
  bool ignore_sparse; /* leave row-sparse outs alone */
} neap_store_call;

struct neap_store {
  neap_context *context; /* held */
  const neap_store_row *row;
  pthread_mutex_t lock;      /* guards all below, and the order in which a call's work is queued */
  bool locked;               /* the lock was made */
  bool open;                 /* the type's open went well */
  neap_keys keys;            /* -> neap_store_entry */
  int kind;                  /* of keys: 0 until the first init, then 't' texts or 'n' numbers */
  neap_optimizer *optimizer; /* held; NULL: none */
  const neap_codec *codec;   /* of gradient compression; NULL: none */
  float threshold;           /* its */
};

/* What a type does. Unless it says otherwise: called with the store's lock held; must not wait for
 * the engine; arguments are checked, arrays are borrowed; all or nothing: memory is taken before
 * the first piece of work is queued, and after a failure everything is as it was. NULL: nothing to
 * do, except where that is said to be an error. */
struct neap_store_ops {
  /* Sizes of the type's own structs, zeroed when the type gets them. */
  size_t store_size, entry_size;

  /* Makes the rest of a store; no lock yet, may wait. `job` is NULL unless neap_store_join() is
   * what makes it. After a failure close is called. */
  int (*open)(neap_store *store, const neap_job_options *job);
  /* Before keys are dropped and close is called, if open went well; no lock, may wait. */
  void (*leave)(neap_store *store);
  /* Frees what open made, also after half of it. Keys are dropped already. No lock any more; must
   * not wait for the engine. */
  void (*close)(neap_store *store);

  /* Gives new entries their first values, then answers call->out. After a failure drop is called
   * for each of them. */
  int (*init)(neap_store *store, const neap_store_call *call);
  /* Frees what an entry holds, also after half an init; work that is queued on it completes. The
   * entry itself belongs to store.c. Cannot fail. */
  void (*drop)(neap_store *store, neap_store_entry *entry);
  /* The key is being deleted, and will be dropped if this goes well; may wait. */
  int (*forget)(neap_store *store, neap_store_entry *entry);

  /* Sums, updates by store->optimizer if there is one (checked to have a program for each key),
   * then answers call->out. */
  int (*push)(neap_store *store, const neap_store_call *call);
  int (*pull)(neap_store *store, const neap_store_call *call);
  /* Outs are row-sparse, ids int32 or int64. */
  int (*pull_rows)(neap_store *store, const neap_store_call *call);

  /* *out belongs to the caller: a new array with the sum; a handle on the value. NULL: a store
   * whose values are elsewhere; then NEAP_ENOTSUP. */
  int (*sum)(neap_store *store, const neap_store_item *item, int priority, neap_array **out);
  int (*value)(neap_store *store, neap_store_entry *entry, neap_array **out);
  /* *out belongs to the caller: an array that each queued init and push of the key writes, to wait
   * for them. */
  int (*written)(neap_store *store, neap_store_entry *entry, neap_array **out);
  /* The end of a barrier, when all of this process's work is done; no lock, may wait. */
  int (*barrier)(neap_store *store);
};

/* neap_store_create() and neap_store_join(). */
int neap_store_make(neap_context *context, const char *type, const neap_job_options *job,
                    neap_store **out);

/* One a row of stores.def. */
extern const neap_store_row neap_store_rows[];

#endif
