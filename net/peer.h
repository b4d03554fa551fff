/* SPDX-License-Identifier: MIT */
/* peer.h - the process at the other end, as its caller sees it: requests, and a reply to each.
 *
 * A peer connects by itself, and again whenever a connection breaks. A request that has no reply
 * by then is sent again, whole. So the listener may see it twice, and must know by what it says
 * (a clock, a number) whether it did it already; nothing is lost, and what is done is done once.
 *
 * One connection is called a lane. With two lanes, payloads up to NEAP_LIGHT_MAX go by the first
 * and large ones by the second, so that small ones do not wait in the system's buffers behind
 * large.
 *
 * Invariants:
 *   P1  A request is in peer->requests from neap_peer_request() until its reply is there or the
 *       peer is lost. (remove)
 *   P2  Requests are sent on lanes of one epoch only. Before a new epoch begins, all lanes of the
 *       old one are closed, so no bytes of theirs are still on their way in. (neap_peer_tick)
 *   P3  A request's reply may be here before its message's way out has ended, on another thread. A
 *       reply without payload waits for that, so that what was sent may be written when done() is
 *       called; for others it must be a copy. `free` comes after both. (reply, message_done)
 *   P4  peer->lock is held for a few list operations, never during a callback. Links' locks come
 *       after it. */
#ifndef NEAP_PEER_H
#define NEAP_PEER_H

#include "address.h"
#include "greet.h"
#include "link.h"
#include "ticker.h"

typedef struct neap_peer neap_peer;

typedef struct neap_request {
  neap_message message; /* type, meta, payload, priority */
  /* A reply with a large payload begins: where it goes, as neap_link_callbacks.place says. NULL:
   * the payload is dropped. */
  uint8_t *(*place)(struct neap_request *request, uint64_t total);
  /* The reply: its status, and for NEAP_OK what follows in its meta, and the payload (of in->frame
   * .total bytes; placed, or valid now only). Other statuses come with a text, and also when there
   * will be no reply (`in` NULL). The payloads of the request are not needed any more. From any
   * thread; must not wait. */
  void (*done)(struct neap_request *request, int status, const char *text, neap_reader *meta,
               neap_incoming *in);
  void (*free)(struct neap_request *request); /* P3 */
  void *owner;
  /* The peer's. */
  struct neap_request *next, *previous;
  neap_peer *peer;
  double since; /* without a reply since then */
  bool with_link, answered, early;
  uint32_t slot;
  int status; /* of an early reply */
  char *text;
  uint8_t meta[32];
  size_t meta_size;
} neap_request;

typedef struct neap_peer_options {
  const char *uri;
  const neap_job_options *job; /* secret, TLS; valid as long as the peer */
  const char *name;            /* "server 1", for errors */
  neap_hello hello;            /* role, rank, incarnation, lanes, host */
  double timeout;              /* seconds without a connection until the peer is lost */
  /* Called without locks, from any thread; each may be NULL. */
  void (*up)(void *user);                                 /* connected, or again */
  void (*notice)(void *user, neap_incoming *in);          /* what is no reply */
  void (*lost)(void *user, int status, const char *text); /* for good */
  void *user;
  neap_ticker *ticker; /* woken when there is something to do */
} neap_peer_options;

int neap_peer_create(neap_context *context, const neap_peer_options *options, neap_peer **out);
/* By the owner's ticker. */
void neap_peer_tick(neap_peer *peer, double now);
void neap_peer_request(neap_peer *peer, neap_request *request);
/* Between `on` and not `on`, requests gather, to leave together. */
void neap_peer_gather(neap_peer *peer, bool on);
/* Gives up: requests fail with this status and text, now and later. */
void neap_peer_fail(neap_peer *peer, int status, const char *text);
/* The rank to say from the next connection on. */
void neap_peer_set_rank(neap_peer *peer, int rank);
/* Requests without a reply yet, and bytes. */
void neap_peer_counts(neap_peer *peer, uint64_t *requests, uint64_t *received, uint64_t *sent);
/* The request that has been without a reply for the longest time, and that for at least `seconds`:
 * its type, and how long; then not again before that time. False: there is none. */
bool neap_peer_stalled(neap_peer *peer, double now, double seconds, int *type, double *since);
/* Closes the connections and fails what is left. Waits for NNG's threads. The ticker must be
 * stopped before. */
void neap_peer_close(neap_peer *peer);

#endif
