/* SPDX-License-Identifier: MIT */
/* service.h - a listener: accepts connections, greets, and keeps a session for each process that
 * calls.
 *
 * A session outlives its connections: a process that connects again (same incarnation) is the same
 * session, and another process, also one of the same rank, is another. What a session's owner has
 * to say goes out on the connections there are at the moment; without one it is dropped, since
 * callers ask again (peer.h).
 *
 * Invariants:
 *   V1  A connection belongs to no session before its proof was checked; there are at most
 *       NEAP_STRANGERS of those, each for a few seconds, or less while that many are there.
 *       (on_accepted, expired)
 *   V2  A session's lanes are of one epoch. A greeting with a higher one closes the older. (join)
 *   V3  Callbacks about one session may come from two threads at once, one a lane.
 *   V4  A session is freed when its owner ended it and its last connection is freed.
 *   V5  service->lock is held for a few list operations, never during a callback. */
#ifndef NEAP_SERVICE_H
#define NEAP_SERVICE_H

#include "address.h"
#include "greet.h"
#include "link.h"
#include "ticker.h"

enum { NEAP_STRANGERS = 64 };

typedef struct neap_service neap_service;
typedef struct neap_session neap_session;

typedef struct neap_service_options {
  const char *uri;
  const neap_job_options *job; /* secret, TLS; valid as long as the service */
  double timeout;              /* without a sign of life a connection is closed after half of it */
  /* Called without locks, from any thread; must not wait. */
  /* A process calls for the first time: a status, and a text of `size` bytes for it when it is not
   * NEAP_OK. NEAP_ETIMEOUT: not yet; it is not refused, and will call again. May set the session's
   * owner. */
  int (*admit)(void *user, const neap_hello *hello, neap_session *session, char *text, size_t size);
  /* All lanes of a session are there, again perhaps; the last is gone. */
  void (*up)(void *user, neap_session *session);
  void (*down)(void *user, neap_session *session);
  /* As in neap_link_callbacks. */
  const char *(*place)(void *user, neap_session *session, neap_incoming *in);
  void (*unplace)(void *user, neap_session *session, neap_incoming *in);
  const char *(*message)(void *user, neap_session *session, neap_incoming *in);
  void *user;
  neap_ticker *ticker; /* woken when there is something to do */
} neap_service_options;

int neap_service_create(neap_context *context, const neap_service_options *options,
                        neap_service **out);
const char *neap_service_uri(const neap_service *service);
/* By the owner's ticker. */
void neap_service_tick(neap_service *service, double now);
/* Closes all connections and ends all sessions. Waits for NNG's threads. The ticker must be stopped
 * before. */
void neap_service_close(neap_service *service);

/* Sessions. */
const neap_hello *neap_session_hello(const neap_session *session);
void neap_session_set_owner(neap_session *session, void *owner);
void *neap_session_owner(const neap_session *session);
/* Whether all lanes are there: up() and down() may be called late, and out of order. */
bool neap_session_is_up(const neap_session *session);
/* Whether its connections all proved to know the admins' secret; or the listener has none. */
bool neap_session_is_admin(neap_session *session);
/* Sends a message; large ones by the last lane. done() may be called before this returns. */
void neap_session_send(neap_session *session, neap_message *message);
/* A reply without payload. False for want of memory; then the connections are closed, so that the
 * other side asks again. */
bool neap_session_reply(neap_session *session, uint64_t id, int priority, int status,
                        const char *text, const void *meta, size_t size);
void neap_session_close_links(neap_session *session, const char *why);
/* The owner is through with it: connections are closed, no callback begins any more. */
void neap_session_end(neap_session *session, const char *why);
/* While held, a session's memory stays. */
void neap_session_hold(neap_session *session);
void neap_session_release(neap_session *session);

#endif
