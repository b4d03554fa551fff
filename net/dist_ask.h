/* SPDX-License-Identifier: MIT */
/* dist_ask.h - a request that its caller waits for, and what the files that make such requests
 * share: dist_control.c, dist_swap.c. */
#ifndef NEAP_DIST_ASK_H
#define NEAP_DIST_ASK_H

#include "dist_inside.h"

typedef struct neap_ask {
  neap_request request;
  neap_context *context;
  pthread_mutex_t lock;
  pthread_cond_t cond;
  atomic_int refs; /* the caller's and the peer's */
  bool done;
  int status;
  char text[NEAP_META_MAX / 2 + 1];
  size_t meta_size, size, room; /* of the reply's meta and payload; of this block's payload */
  uint8_t meta[NEAP_META_MAX];
  uint8_t *payload; /* the reply's, from the allocator */
  uint8_t out_meta[NEAP_KEY_LENGTH + 256];
  neap_writer w; /* of out_meta */
} neap_ask;

/* NULL: no memory. Write its meta to `w`, then send it. */
neap_ask *neap_ask_new(dist_store *store, int type);
/* The bytes must stay until the reply is there. */
void neap_ask_payload(neap_ask *c, const void *bytes, size_t size);
void neap_ask_send(neap_peer *peer, neap_ask *c);
/* The reply's status. NEAP_ETIMEOUT when it is not there after `until`. */
int neap_ask_wait(neap_ask *c, double until);
void neap_ask_drop(neap_ask *c);

/* ---- dist_control.c ---- */
int neap_dist_need(neap_store *store, const char *name, dist_store **out);
/* To all servers: pushes of ours are to be answered at once, whatever they wait for; or no more. */
int neap_dist_fence(dist_store *store, bool on);
/* Until all pushes that were sent are with the servers. *fenced: a fence is on, to be taken off. */
int neap_dist_settle(dist_store *store, bool *fenced);

#endif
