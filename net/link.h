/* SPDX-License-Identifier: MIT */
/* link.h - messages both ways over one byte stream of NNG's.
 *
 * A link sends whole messages, the ones of higher priority first: a large one goes in slices, and
 * gives way between two of them. What is small is gathered, so that messages queued while the
 * stream is busy leave together. Payloads are sent from, and received into, memory that the other
 * side of this interface names: they are not copied.
 *
 * Invariants:
 *   L1  One send and one receive at most are in flight; `busy` counts them. (may_send, receive)
 *   L2  A message is with the link from neap_link_send() until its `done` is called, once. Its
 *       memory and its payload's must stay that long. (on_sent)
 *   L3  `closed` is called once, when nothing is in flight any more, every message's `done` and
 *       every placed message's `unplace` has been called. No callback comes after it. (settle)
 *   L4  link->lock is held for a few list operations, never during a callback or a call of NNG. It
 *       comes after every other lock.
 *   L5  neap_link_free() waits for NNG's threads and so is never called on one of them: links that
 *       are closed go to their owner's ticker (ticker.h), which frees them.
 *   L6  NNG forgets an operation that begins on a stream which is being closed: it never ends. So
 *       whoever has begun one looks again, and ends it by hand. (end_if_closing)
 *   L7  Who calls a function of a link sees to it that the link is not freed before it returns. */
#ifndef NEAP_LINK_H
#define NEAP_LINK_H

#include "wire.h"
#include <nng/nng.h>

typedef struct neap_link neap_link;

/* A message on its way out. Filled in by its owner, who keeps the memory. */
typedef struct neap_message {
  neap_frame frame;       /* type, id; the rest is the link's */
  uint8_t *meta;          /* frame.meta bytes */
  const void *payload[2]; /* one after the other */
  size_t sizes[2];
  int priority;
  /* The last byte was handed to the system, or (`sent` false) it was dropped, because the link is
   * closing. From any thread; may free the message. */
  void (*done)(struct neap_message *message, bool sent);
  void *owner;
  /* The link's. */
  struct neap_message *next, *previous;
  uint64_t offset; /* bytes of payload that are in slices already */
  int flying;      /* slices handed to NNG */
} neap_message;

static inline bool neap_message_light(const neap_message *message) {
  return message->sizes[0] + message->sizes[1] <= NEAP_LIGHT_MAX;
}

/* A message that came in. */
typedef struct neap_incoming {
  neap_frame frame;
  const uint8_t *meta; /* frame.meta bytes; valid during the callback */
  uint8_t *payload;    /* frame.total bytes: where place() said, or, when `placed` is false, in the
                        * link's buffer, during the callback only */
  bool placed;
  void *token; /* place()'s */
} neap_incoming;

/* Called on threads of NNG's, one at a time for one link; must not wait. */
typedef struct neap_link_callbacks {
  /* A message begins that is too large to be taken from the buffer: sets in->payload to memory for
   * frame.total bytes, and perhaps in->token. Without memory the payload is read and dropped, and
   * message() comes all the same. NULL, or what is wrong: the link is closed then. */
  const char *(*place)(void *user, neap_incoming *in);
  /* It will not be complete. */
  void (*unplace)(void *user, neap_incoming *in);
  /* A message is there. NULL, or what is wrong with it: the link is closed then. */
  const char *(*message)(void *user, neap_incoming *in);
  /* See L3. `why` is text for a person. */
  void (*closed)(void *user, const char *why);
} neap_link_callbacks;

/* Takes the stream over, also on failure. Nothing is received before neap_link_start(). */
int neap_link_create(neap_context *context, nng_stream *stream,
                     const neap_link_callbacks *callbacks, void *user, neap_link **out);
void neap_link_start(neap_link *link);
/* Queues a message; its done() is not called before this returns. False: the link is closed, the
 * message stays the caller's, and done() will not be called. */
bool neap_link_send(neap_link *link, neap_message *message);
/* The same in two steps: flush, without locks of yours, calls done() of what leaves at once, also
 * of others' messages. Quicker when little is on its way: no thread of NNG's takes part. When there
 * is much, neap_link_send() is, which lets messages gather meanwhile. */
bool neap_link_queue(neap_link *link, neap_message *message);
void neap_link_flush(neap_link *link);
/* Begins the end: `why` becomes closed()'s text unless something else came first. */
void neap_link_close(neap_link *link, const char *why);
void neap_link_free(neap_link *link); /* closed, or never started; L6 */

/* Bytes received and sent so far. */
void neap_link_counts(neap_link *link, uint64_t *received, uint64_t *sent);

#endif
