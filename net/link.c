/* SPDX-License-Identifier: MIT */
/* link.c - messages over one byte stream; see link.h for the rules. */
#include "link.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
  SLICE = 256 << 10, /* what a message of higher priority may have to wait for */
  COPIED = 8 << 10,  /* payloads up to this are gathered, longer ones sent from where they are */
  GATHER = 64 << 10, /* bytes gathered for one send */
  BUFFER = 128 << 10,
  BEHIND = 512, /* of that, behind a slice that is received straight into place */
  MOST_IOV = 8, /* NNG takes no more */
  MOST_FLYING = 1024,
  TRIES = 16,      /* sends, or receives, in a row by one thread */
  MUCH = 16 << 10, /* bytes received at once: more is likely there already */
  MOST_OPEN = 64,  /* placed messages that are not complete */
  WHY = 200,
};
_Static_assert((int)BUFFER >= 2 * (int)NEAP_SMALL_MAX, "small messages are taken from the buffer");
_Static_assert((int)SLICE <= (int)NEAP_SLICE_MAX, "we keep to the limit that we check");
_Static_assert((int)GATHER >= NEAP_FRAME_HEADER + NEAP_META_MAX + (int)COPIED,
               "any one frame fits");

/* A placed message that is not complete yet. */
typedef struct opened {
  struct opened *next;
  neap_incoming in;
  uint64_t got;
  uint8_t meta[];
} opened;

struct neap_link {
  neap_context *context;
  const neap_link_callbacks *callbacks;
  void *user;
  nng_stream *stream;
  nng_aio *in, *out;         /* with callbacks */
  nng_aio *in_now, *out_now; /* without; see at_once() */
  bool tls;                  /* what was begun there cannot be taken back */

  pthread_mutex_t lock;       /* guards what follows, up to the blank line */
  neap_message *first, *last; /* to be sent, in order */
  int busy;
  bool sending, receiving, closing, told;
  char why[WHY];
  uint64_t received, sent;

  /* The send in flight; whoever set `sending` has these. */
  uint8_t *gather;
  nng_iov iov[MOST_IOV];
  unsigned iovs;
  neap_message *flying[MOST_FLYING]; /* one entry for each slice */
  int num_flying;

  /* Receiving; the receive's callback has these. */
  uint8_t *buffer;
  size_t begin, end; /* what is in the buffer and not taken yet */
  opened *open;      /* placed messages */
  int num_open;
  opened *current; /* whose slice is being received straight into place */
  size_t missing;  /* bytes of that slice still to come */
};

static void on_received(void *arg);
static void on_sent(void *arg);

/* ---- Beginning and end ----------------------------------------------------------------------- */

int neap_link_create(neap_context *context, nng_stream *stream,
                     const neap_link_callbacks *callbacks, void *user, neap_link **out) {
  neap_link *link = neap_alloc(context, sizeof *link);
  if (!link) {
    nng_stream_free(stream);
    return NEAP_ENOMEM;
  }
  memset(link, 0, sizeof *link);
  link->context = context;
  link->callbacks = callbacks;
  link->user = user;
  link->stream = stream;
  bool verified;
  link->tls = nng_stream_get_bool(stream, NNG_OPT_TLS_VERIFIED, &verified) == 0;
  neap_context_retain(context);
  link->gather = neap_alloc(context, GATHER);
  link->buffer = neap_alloc(context, BUFFER);
  bool lock = pthread_mutex_init(&link->lock, NULL) == 0;
  if (!lock || !link->gather || !link->buffer || nng_aio_alloc(&link->in, on_received, link) ||
      nng_aio_alloc(&link->out, on_sent, link) || nng_aio_alloc(&link->in_now, NULL, NULL) ||
      nng_aio_alloc(&link->out_now, NULL, NULL)) {
    if (!lock) (void)pthread_mutex_init(&link->lock, NULL); /* destroyed below, whatever it is */
    neap_link_free(link);
    return neap_fail(NEAP_ENOMEM, "no memory for a connection");
  }
  *out = link;
  return NEAP_OK;
}

void neap_link_free(neap_link *link) {
  if (!link) return;
  neap_context *context = link->context;
  if (link->out) nng_aio_free(link->out); /* waits for its callback */
  if (link->in) nng_aio_free(link->in);
  if (link->out_now) nng_aio_free(link->out_now);
  if (link->in_now) nng_aio_free(link->in_now);
  nng_stream_free(link->stream);
  neap_free(context, link->gather, GATHER);
  neap_free(context, link->buffer, BUFFER);
  pthread_mutex_destroy(&link->lock);
  neap_free(context, link, sizeof *link);
  neap_context_release(context);
}

static size_t opened_size(const opened *o) {
  return sizeof *o + o->in.frame.meta;
}

static void drop_open(neap_link *link) {
  while (link->open) {
    opened *o = link->open;
    link->open = o->next;
    link->callbacks->unplace(link->user, &o->in);
    neap_free(link->context, o, opened_size(o));
  }
  link->num_open = 0;
  link->current = NULL;
}

/* Under the lock: the queue, taken out of it. */
static neap_message *take_queue(neap_link *link) {
  neap_message *first = link->first;
  link->first = link->last = NULL;
  return first;
}

static void drop_messages(neap_message *message) {
  while (message) {
    neap_message *next = message->next;
    message->done(message, false);
    message = next;
  }
}

/* Something in flight has ended, or nothing is: when it was the last and the link is closing, this
 * is the end (L3). Called without the lock; the link may be gone afterwards. */
static void settle(neap_link *link, int ended) {
  pthread_mutex_lock(&link->lock);
  link->busy -= ended;
  bool last = link->closing && link->busy == 0 && !link->told;
  if (last) link->told = true;
  neap_message *left = last ? take_queue(link) : NULL;
  pthread_mutex_unlock(&link->lock);
  if (!last) return;
  drop_messages(left);
  drop_open(link);
  link->callbacks->closed(link->user, link->why);
}

/* Under the lock. */
static bool begin_close(neap_link *link, const char *why) {
  if (link->closing) return false;
  link->closing = true;
  snprintf(link->why, sizeof link->why, "%s", why);
  return true;
}

void neap_link_close(neap_link *link, const char *why) {
  pthread_mutex_lock(&link->lock);
  bool first = begin_close(link, why);
  if (first) link->busy++; /* keeps the link while we are in here */
  pthread_mutex_unlock(&link->lock);
  if (!first) return;
  nng_stream_close(link->stream); /* what is in flight ends with an error */
  settle(link, 1);
}

void neap_link_counts(neap_link *link, uint64_t *received, uint64_t *sent) {
  pthread_mutex_lock(&link->lock);
  *received = link->received;
  *sent = link->sent;
  pthread_mutex_unlock(&link->lock);
}

/* Whether an operation without a callback, just begun, is complete; else it is taken back, and has
 * done nothing. For what can be done at once this spares waking a thread of NNG's, which costs more
 * than a small message all told. */
static bool at_once(nng_aio *aio) {
  nng_aio_cancel(aio);
  nng_aio_wait(aio);
  return nng_aio_result(aio) != NNG_ECANCELED;
}

/* ---- Sending --------------------------------------------------------------------------------- */

static uint64_t payload_size(const neap_message *message) {
  return (uint64_t)message->sizes[0] + message->sizes[1];
}

/* Where byte `offset` of the payload lies, and how many follow it there. */
static const uint8_t *payload_at(const neap_message *message, uint64_t offset, size_t *room) {
  int i = offset >= message->sizes[0];
  size_t at = (size_t)(i ? offset - message->sizes[0] : offset);
  *room = message->sizes[i] - at;
  return (const uint8_t *)message->payload[i] + at;
}

static void unlink_message(neap_link *link, neap_message *message) {
  *(message->previous ? &message->previous->next : &link->first) = message->next;
  *(message->next ? &message->next->previous : &link->last) = message->previous;
}

/* By priority, then by age. Nearly always at the end. */
static void link_message(neap_link *link, neap_message *message) {
  neap_message *after = link->last;
  while (after && after->priority < message->priority) after = after->previous;
  message->previous = after;
  message->next = after ? after->next : link->first;
  *(after ? &after->next : &link->first) = message;
  *(message->next ? &message->next->previous : &link->last) = message;
}

/* What is being put together for one send. */
typedef struct batch {
  neap_link *link;
  size_t gathered;
  bool open; /* the last iov is the gathered bytes' and may grow */
} batch;

static void gather(batch *b, const void *bytes, size_t size) {
  neap_link *link = b->link;
  uint8_t *to = link->gather + b->gathered;
  memcpy(to, bytes, size);
  b->gathered += size;
  if (!b->open) {
    link->iov[link->iovs++] = (nng_iov){to, 0};
    b->open = true;
  }
  link->iov[link->iovs - 1].iov_len += size;
}

static void point(batch *b, const uint8_t *bytes, size_t size) {
  neap_link *link = b->link;
  link->iov[link->iovs++] = (nng_iov){(void *)(uintptr_t)bytes, size};
  b->open = false;
}

/* Adds the next slice of the first message; false if there is no room for it. */
static bool add_slice(batch *b, neap_message *message) {
  neap_link *link = b->link;
  neap_frame *frame = &message->frame;
  bool first = message->offset == 0;
  uint64_t left = payload_size(message) - message->offset;
  size_t body = left < SLICE ? (size_t)left : SLICE;
  bool copied = body <= COPIED;
  size_t bytes = NEAP_FRAME_HEADER + (first ? frame->meta : 0) + (copied ? body : 0);
  unsigned iovs = !b->open + (copied ? 0 : 2); /* a payload may lie in two places */
  if (b->gathered + bytes > GATHER || link->iovs + iovs > MOST_IOV ||
      link->num_flying == MOST_FLYING)
    return false;
  frame->body = (uint32_t)body;
  frame->offset = message->offset;
  frame->total = payload_size(message);
  uint32_t meta = frame->meta;
  if (!first) frame->meta = 0;
  uint8_t header[NEAP_FRAME_HEADER];
  neap_frame_write(frame, header);
  frame->meta = meta;
  gather(b, header, sizeof header);
  if (first && meta) gather(b, message->meta, meta);
  for (size_t done = 0; done < body;) {
    size_t room;
    const uint8_t *from = payload_at(message, message->offset + done, &room);
    if (room > body - done) room = body - done;
    if (copied)
      gather(b, from, room);
    else
      point(b, from, room);
    done += room;
  }
  message->offset += body;
  message->flying++;
  link->flying[link->num_flying++] = message;
  return true;
}

/* Under the lock, with the right to send: puts the next send together; false if there is nothing.
 */
static bool build(neap_link *link) {
  batch b = {link, 0, false};
  link->iovs = 0;
  link->num_flying = 0;
  while (link->first) {
    neap_message *message = link->first;
    if (!add_slice(&b, message)) break;
    if (message->offset == payload_size(message)) unlink_message(link, message);
  }
  return link->iovs > 0;
}

/* Under the lock: takes the right to send if there is something to. While what came in is being
 * read, answers to it gather. */
static bool may_send(neap_link *link) {
  if (link->sending || link->receiving || link->closing || !link->first || !build(link))
    return false;
  link->sending = true;
  link->busy++;
  return true;
}

/* NNG leaves an operation that comes after its stream was closed waiting for ever. So whoever has
 * just begun one looks whether the link is closing, and ends it by hand. (Otherwise closing comes
 * later, and finds it.) */
static void end_if_closing(neap_link *link, nng_aio *aio) {
  pthread_mutex_lock(&link->lock);
  bool closing = link->closing;
  pthread_mutex_unlock(&link->lock);
  if (closing) nng_aio_abort(aio, NNG_ECLOSED);
}

/* NNG may have sent a part only: the rest first. */
static bool advance(neap_link *link, size_t count) {
  unsigned i = 0;
  while (i < link->iovs && count >= link->iov[i].iov_len) count -= link->iov[i++].iov_len;
  if (i == link->iovs) return false;
  link->iovs -= i;
  memmove(link->iov, link->iov + i, link->iovs * sizeof *link->iov);
  link->iov[0].iov_buf = (char *)link->iov[0].iov_buf + count;
  link->iov[0].iov_len -= count;
  return true;
}

/* A send has ended. True: there is more, and the right to send it is the caller's. False: the link
 * may be gone. */
static bool sent(neap_link *link, nng_aio *aio) {
  int error = nng_aio_result(aio);
  size_t count = error ? 0 : nng_aio_count(aio);
  if (!error && advance(link, count)) {
    pthread_mutex_lock(&link->lock);
    link->sent += count;
    pthread_mutex_unlock(&link->lock);
    return true;
  }
  /* The messages whose last slice this was; or, on an error, that nobody will go on with. */
  neap_message *done = NULL, **end = &done;
  pthread_mutex_lock(&link->lock);
  link->sent += count;
  link->sending = false;
  if (error) begin_close(link, nng_strerror(error));
  bool failed = link->closing;
  for (int i = 0; i < link->num_flying; i++) {
    neap_message *message = link->flying[i];
    if (--message->flying > 0 || message->offset < payload_size(message)) continue;
    *end = message;
    end = &message->next;
    *end = NULL;
  }
  bool more = may_send(link);
  pthread_mutex_unlock(&link->lock);
  while (done) {
    neap_message *next = done->next;
    done->done(done, !error);
    done = next;
  }
  if (failed) nng_stream_close(link->stream);
  settle(link, 1);
  return more;
}

/* With the right to send: at once, as long as the stream takes it, if `tries`; then by on_sent().
 */
static void send_now(neap_link *link, bool tries) {
  for (int i = 0; tries && !link->tls && i < TRIES; i++) {
    (void)nng_aio_set_iov(link->out_now, link->iovs, link->iov);
    nng_stream_send(link->stream, link->out_now);
    if (!at_once(link->out_now)) break;
    if (!sent(link, link->out_now)) return;
  }
  (void)nng_aio_set_iov(link->out, link->iovs, link->iov);
  nng_stream_send(link->stream, link->out);
  end_if_closing(link, link->out);
}

static void on_sent(void *arg) {
  neap_link *link = arg;
  if (sent(link, link->out)) send_now(link, true);
}

/* Under the lock. While it is closing, settle() drops what is queued. */
static bool enqueue(neap_link *link, neap_message *message) {
  message->offset = 0;
  message->flying = 0;
  if (!link->told) link_message(link, message);
  return !link->told;
}

bool neap_link_send(neap_link *link, neap_message *message) {
  pthread_mutex_lock(&link->lock);
  bool taken = enqueue(link, message);
  bool send = may_send(link);
  pthread_mutex_unlock(&link->lock);
  if (send) send_now(link, false);
  return taken;
}

bool neap_link_queue(neap_link *link, neap_message *message) {
  pthread_mutex_lock(&link->lock);
  bool taken = enqueue(link, message);
  pthread_mutex_unlock(&link->lock);
  return taken;
}

void neap_link_flush(neap_link *link) {
  pthread_mutex_lock(&link->lock);
  bool send = may_send(link);
  pthread_mutex_unlock(&link->lock);
  if (send) send_now(link, link->iovs == 1); /* small, all of it: the caller does not wait long */
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static void receive(neap_link *link, nng_aio *aio) {
  nng_iov iov[2];
  unsigned n = 0;
  if (link->missing && link->current->in.payload)
    iov[n++] = (nng_iov){link->current->in.payload + link->current->got, link->missing};
  if (link->begin) { /* what follows is at the front, so that a frame always fits */
    memmove(link->buffer, link->buffer + link->begin, link->end - link->begin);
    link->end -= link->begin;
    link->begin = 0;
  }
  size_t room = BUFFER - link->end; /* n: the less is copied, the better */
  iov[n] = (nng_iov){link->buffer + link->end, n && room > BEHIND ? BEHIND : room};
  (void)nng_aio_set_iov(aio, n + 1, iov);
  nng_stream_recv(link->stream, aio);
}

static void receive_more(neap_link *link) {
  receive(link, link->in);
  end_if_closing(link, link->in);
}

void neap_link_start(neap_link *link) {
  pthread_mutex_lock(&link->lock);
  bool closing = link->closing;
  if (!closing) link->busy++;
  pthread_mutex_unlock(&link->lock);
  if (!closing) receive_more(link);
}

static opened *find_open(neap_link *link, const neap_frame *frame) {
  for (opened *o = link->open; o; o = o->next)
    if (o->in.frame.id == frame->id && o->in.frame.type == frame->type) return o;
  return NULL;
}

static const char *open_message(neap_link *link, const neap_frame *frame, const uint8_t *meta) {
  if (find_open(link, frame)) return "a message began twice";
  if (link->num_open == MOST_OPEN) return "too many messages at once";
  opened *o = neap_alloc(link->context, sizeof *o + frame->meta);
  if (!o) return "no memory";
  o->in = (neap_incoming){*frame, o->meta, NULL, true, NULL};
  o->got = 0;
  if (frame->meta) memcpy(o->meta, meta, frame->meta);
  const char *wrong = link->callbacks->place(link->user, &o->in);
  if (wrong) {
    neap_free(link->context, o, opened_size(o));
    return wrong;
  }
  o->next = link->open;
  link->open = o;
  link->num_open++;
  return NULL;
}

/* A placed message has got some bytes; hands it over when it is complete. */
static const char *add_bytes(neap_link *link, opened *o, size_t size) {
  o->got += size;
  if (o->got < o->in.frame.total) return NULL;
  opened **at = &link->open;
  while (*at != o) at = &(*at)->next;
  *at = o->next;
  link->num_open--;
  const char *wrong = link->callbacks->message(link->user, &o->in);
  neap_free(link->context, o, opened_size(o));
  return wrong;
}

/* What the buffer holds of the current slice. */
static const char *take_slice(neap_link *link) {
  opened *o = link->current;
  size_t have = link->end - link->begin;
  if (have > link->missing) have = link->missing;
  if (have && o->in.payload) memcpy(o->in.payload + o->got, link->buffer + link->begin, have);
  link->begin += have;
  link->missing -= have;
  if (!link->missing) return add_bytes(link, o, have);
  o->got += have;
  return NULL;
}

/* Takes the frame at the front of the buffer. *enough false: not all of it is there that must be.
 */
static const char *take_frame(neap_link *link, bool *enough) {
  uint8_t *at = link->buffer + link->begin;
  size_t there = link->end - link->begin;
  *enough = false;
  if (there < NEAP_FRAME_HEADER) return NULL;
  neap_frame frame;
  const char *wrong = neap_frame_read(at, &frame);
  if (wrong) return wrong;
  size_t head = NEAP_FRAME_HEADER + frame.meta;
  bool small = frame.body == frame.total && head + frame.body <= NEAP_SMALL_MAX;
  if (there < head + (small ? frame.body : 0)) return NULL;
  *enough = true;
  link->begin += head;
  if (small) {
    link->begin += frame.body;
    neap_incoming in = {frame, at + NEAP_FRAME_HEADER, at + head, false, NULL};
    return link->callbacks->message(link->user, &in);
  }
  if (!frame.offset) {
    wrong = open_message(link, &frame, at + NEAP_FRAME_HEADER);
    if (wrong) return wrong;
  }
  opened *o = find_open(link, &frame);
  if (!o || o->got != frame.offset || o->in.frame.total != frame.total)
    return "a slice out of its place";
  link->current = o;
  link->missing = frame.body;
  return take_slice(link);
}

static const char *take_all(neap_link *link) {
  bool enough = true;
  while (enough && !link->missing) {
    const char *wrong = take_frame(link, &enough);
    if (wrong) return wrong;
  }
  return NULL;
}

static const char *take(neap_link *link, size_t count) {
  const char *wrong = NULL;
  if (link->missing && link->current->in.payload) { /* the first bytes went straight into place */
    size_t placed = count < link->missing ? count : link->missing;
    count -= placed;
    link->missing -= placed;
    if (link->missing)
      link->current->got += placed;
    else
      wrong = add_bytes(link, link->current, placed);
  }
  link->end += count;
  if (!wrong && link->missing) wrong = take_slice(link);
  return wrong ? wrong : take_all(link);
}

/* A receive has ended. False: that was the last one, and the link may be gone. */
static bool received(neap_link *link, nng_aio *aio, size_t *count) {
  int error = nng_aio_result(aio);
  *count = error ? 0 : nng_aio_count(aio);
  pthread_mutex_lock(&link->lock);
  link->receiving = true;
  pthread_mutex_unlock(&link->lock);
  const char *wrong = error ? nng_strerror(error) : take(link, *count);
  pthread_mutex_lock(&link->lock);
  link->receiving = false;
  link->received += *count;
  if (wrong) begin_close(link, wrong);
  bool closing = link->closing, send = may_send(link);
  pthread_mutex_unlock(&link->lock);
  if (send) send_now(link, true);
  if (!closing) return true;
  nng_stream_close(link->stream);
  settle(link, 1);
  return false;
}

static void on_received(void *arg) {
  neap_link *link = arg;
  size_t count;
  if (!received(link, link->in, &count)) return;
  for (int i = 0; count >= MUCH && !link->tls && i < TRIES; i++) {
    receive(link, link->in_now);
    if (!at_once(link->in_now)) break;
    if (!received(link, link->in_now, &count)) return;
  }
  receive_more(link);
}
