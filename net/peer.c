/* SPDX-License-Identifier: MIT */
/* peer.c - requests to a listener, over connections that are made again when they break; see
 * peer.h for the rules. */
#include "peer.h"
#include "job.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
  TEXT = 512,
  GREETING = NEAP_HOST_MAX + 128,
  FEW = 4, /* requests without a reply up to which each leaves at once */
};
/* The largest roster. */
static const uint64_t notice_max = NEAP_NODES_MAX * (uint64_t)(NEAP_HOST_MAX + NEAP_URI_MAX + 32);

enum lane_state { IDLE, DIALING, UP, DEAD /* closed, to be freed by the ticker */ };

typedef struct lane {
  neap_peer *peer;
  int index;
  enum lane_state state;
  nng_aio *dial;
  neap_link *link;  /* once dialed, until freed */
  bool starting;    /* on_dialed() is at it: not to be freed, */
  atomic_int users; /* nor while somebody flushes it */
  neap_hello hello;
  uint8_t nonce[NEAP_NONCE]; /* the listener's */
  neap_message greeting, proof, ping;
  uint8_t greeting_meta[GREETING], proof_meta[2 * NEAP_PROOF];
  bool pinging;
  double heard, pinged;
  uint64_t received; /* as of `heard` */
} lane;

struct neap_peer {
  neap_context *context;
  neap_peer_options options;
  char name[64], uri[NEAP_URI_MAX];
  nng_stream_dialer *dialer;
  lane lanes[NEAP_LANES];
  int num_lanes;

  pthread_mutex_t lock;  /* guards what follows */
  pthread_cond_t closed; /* a lane came to its end */
  neap_hello hello;
  neap_request *requests, *last; /* oldest first */
  uint64_t num_requests;
  int gathering;        /* calls of neap_peer_gather(), on, that are not over */
  neap_request **slots; /* by the low half of an id, less one */
  uint32_t num_slots, *spare, num_spare;
  uint32_t generation;
  bool ready;  /* all lanes are up */
  int fate;    /* a status once the peer is given up */
  bool failed; /* and its requests have been told */
  double down; /* since when there is no connection */
  double dial_at, backoff, stall_told;
  char text[TEXT];         /* why the last connection ended; of the fate */
  uint64_t received, sent; /* by links that are gone */
};

/* ---- Requests (under the lock where nothing else is said) ------------------------------------ */

static int take_slot(neap_peer *peer, neap_request *request) {
  if (!peer->num_spare) {
    uint32_t old = peer->num_slots, more = old ? 2 * old : 64;
    neap_request **slots = neap_alloc(peer->context, more * sizeof *slots);
    uint32_t *spare = slots ? neap_alloc(peer->context, more * sizeof *spare) : NULL;
    if (!spare) {
      neap_free(peer->context, slots, more * sizeof *slots);
      return NEAP_ENOMEM;
    }
    if (old) memcpy(slots, peer->slots, old * sizeof *slots);
    neap_free(peer->context, peer->slots, old * sizeof *slots);
    neap_free(peer->context, peer->spare, old * sizeof *spare);
    peer->slots = slots;
    peer->spare = spare;
    peer->num_slots = more;
    for (uint32_t i = more; i > old; i--) peer->spare[peer->num_spare++] = i - 1;
  }
  request->slot = peer->spare[--peer->num_spare];
  peer->slots[request->slot] = request;
  request->message.frame.id = (uint64_t)++peer->generation << 32 | (request->slot + 1);
  return NEAP_OK;
}

static neap_request *find(neap_peer *peer, uint64_t id) {
  uint32_t slot = (uint32_t)id - 1;
  neap_request *request = slot < peer->num_slots ? peer->slots[slot] : NULL;
  return request && request->message.frame.id == id ? request : NULL;
}

static void append(neap_peer *peer, neap_request *request) {
  request->since = neap_now();
  request->next = NULL;
  request->previous = peer->last;
  *(peer->last ? &peer->last->next : &peer->requests) = request;
  peer->last = request;
  peer->num_requests++;
}

static void remove_request(neap_peer *peer, neap_request *request) {
  *(request->previous ? &request->previous->next : &peer->requests) = request->next;
  *(request->next ? &request->next->previous : &peer->last) = request->previous;
  peer->num_requests--;
  peer->slots[request->slot] = NULL;
  peer->spare[peer->num_spare++] = request->slot;
}

/* Without the lock: done() was called; frees the request once its message is out, too (P3). */
static void answered(neap_peer *peer, neap_request *request) {
  pthread_mutex_lock(&peer->lock);
  request->answered = true;
  bool out = !request->with_link;
  pthread_mutex_unlock(&peer->lock);
  if (out) request->free(request);
}

/* Under the lock: keeps a reply that came before its message was out. False: it cannot be kept. */
static bool keep_early(neap_peer *peer, neap_request *request, int status, const char *text,
                       const neap_reader *meta) {
  size_t size = (size_t)(meta->end - meta->at);
  if (size > sizeof request->meta) return false;
  request->text = *text ? neap_strdup(peer->context, text) : NULL;
  if (*text && !request->text) return false;
  if (size) memcpy(request->meta, meta->at, size);
  request->meta_size = size;
  request->status = status;
  request->early = true;
  return true;
}

static void tell_early(neap_peer *peer, neap_request *request) {
  neap_reader meta;
  neap_incoming in = {.frame = {.type = NEAP_M_REPLY, .id = request->message.frame.id}};
  neap_reader_open(&meta, request->meta, request->meta_size);
  request->done(request, request->status, request->text ? request->text : "", &meta, &in);
  if (request->text) neap_free(peer->context, request->text, strlen(request->text) + 1);
  request->free(request);
}

static void message_done(neap_message *message, bool sent) {
  neap_request *request = message->owner;
  neap_peer *peer = request->peer;
  (void)sent;
  pthread_mutex_lock(&peer->lock);
  request->with_link = false;
  bool over = request->answered, early = request->early;
  pthread_mutex_unlock(&peer->lock);
  if (early)
    tell_early(peer, request);
  else if (over)
    request->free(request);
}

static lane *lane_for(neap_peer *peer, const neap_message *message) {
  return &peer->lanes[neap_message_light(message) ? 0 : peer->num_lanes - 1];
}

static void send_request(neap_peer *peer, neap_request *request) {
  request->with_link = neap_link_send(lane_for(peer, &request->message)->link, &request->message);
}

/* Without the lock: all requests fail, once no lane is open any more. */
static void fail_all(neap_peer *peer) {
  for (;;) {
    pthread_mutex_lock(&peer->lock);
    neap_request *request = peer->requests;
    if (request) remove_request(peer, request);
    pthread_mutex_unlock(&peer->lock);
    if (!request) return;
    neap_reader nothing;
    neap_reader_open(&nothing, NULL, 0);
    request->done(request, peer->fate, peer->text, &nothing, NULL);
    answered(peer, request);
  }
}

static bool no_lane_open(const neap_peer *peer) {
  for (int i = 0; i < peer->num_lanes; i++)
    if (peer->lanes[i].state != IDLE && peer->lanes[i].state != DEAD) return false;
  return true;
}

/* Under the lock: keeps the lane's link until flush(). */
static lane *use(lane *l) {
  atomic_fetch_add(&l->users, 1);
  return l;
}

static void flush(lane *l) {
  neap_link_flush(l->link);
  atomic_fetch_sub(&l->users, 1);
}

void neap_peer_request(neap_peer *peer, neap_request *request) {
  request->peer = peer;
  request->with_link = request->answered = request->early = false;
  request->message.owner = request;
  request->message.done = message_done;
  lane *l = NULL; /* to be flushed */
  pthread_mutex_lock(&peer->lock);
  const char *text = peer->text;
  int status = peer->fate && no_lane_open(peer) ? peer->fate : NEAP_OK;
  if (status == NEAP_OK) {
    status = take_slot(peer, request);
    text = "no memory";
  }
  if (status == NEAP_OK) {
    append(peer, request);
    if (peer->ready && (peer->gathering || peer->num_requests <= FEW)) {
      /* In here, so that they go out in order. */
      lane *to = lane_for(peer, &request->message);
      request->with_link = neap_link_queue(to->link, &request->message);
      if (!peer->gathering) l = use(to);
    } else if (peer->ready) {
      send_request(peer, request);
    }
  }
  pthread_mutex_unlock(&peer->lock);
  if (l) flush(l);
  if (status == NEAP_OK) return;
  neap_reader nothing;
  neap_reader_open(&nothing, NULL, 0);
  request->done(request, status, text, &nothing, NULL);
  request->free(request);
}

void neap_peer_gather(neap_peer *peer, bool on) {
  lane *used[NEAP_LANES];
  int count = 0;
  pthread_mutex_lock(&peer->lock);
  peer->gathering += on ? 1 : -1;
  for (int i = 0; peer->ready && !peer->gathering && i < peer->num_lanes; i++)
    used[count++] = use(&peer->lanes[i]);
  pthread_mutex_unlock(&peer->lock);
  for (int i = 0; i < count; i++) flush(used[i]);
}

/* ---- Lanes ----------------------------------------------------------------------------------- */

static void ignore(neap_message *message, bool sent) {
  (void)message, (void)sent;
}

static void pinged(neap_message *message, bool sent) {
  lane *l = message->owner;
  (void)sent;
  pthread_mutex_lock(&l->peer->lock);
  l->pinging = false;
  pthread_mutex_unlock(&l->peer->lock);
}

static void small(neap_message *message, int type, uint8_t *meta, size_t size,
                  void (*done)(neap_message *, bool), lane *owner) {
  *message = (neap_message){.frame = {.type = type, .meta = (uint32_t)size},
                            .meta = meta,
                            .priority = INT32_MAX,
                            .done = done,
                            .owner = owner};
}

static void send_hello(lane *l) {
  neap_writer w;
  neap_writer_open(&w, l->greeting_meta, sizeof l->greeting_meta);
  neap_hello_write(&w, &l->hello);
  small(&l->greeting, NEAP_M_HELLO, l->greeting_meta, neap_writer_size(&w), ignore, l);
  neap_link_send(l->link, &l->greeting);
}

static const char *answer_challenge(lane *l, neap_reader *r) {
  const uint8_t *nonce = neap_get_bytes(r, NEAP_NONCE);
  if (!neap_reader_done(r)) return "a damaged greeting";
  memcpy(l->nonce, nonce, NEAP_NONCE);
  const char *admin = l->peer->options.job->admin_secret;
  if (!neap_proof(l->peer->options.job->secret, 'c', &l->hello, l->nonce, l->proof_meta) ||
      (admin && !neap_proof(admin, 'a', &l->hello, l->nonce, l->proof_meta + NEAP_PROOF)))
    return "no proof can be computed";
  size_t size = admin ? 2 * NEAP_PROOF : NEAP_PROOF;
  small(&l->proof, NEAP_M_PROOF, l->proof_meta, size, ignore, l);
  neap_link_send(l->link, &l->proof);
  return NULL;
}

/* Sets what will become of the peer; the first wins. Under the lock. */
__attribute__((format(printf, 3, 4))) static void decide(neap_peer *peer, int status,
                                                         const char *format, ...) {
  if (peer->fate) return;
  va_list args;
  va_start(args, format);
  char text[TEXT];
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  memcpy(peer->text, text, sizeof text);
  peer->fate = status;
}

static const char *read_refusal(neap_peer *peer, neap_reader *r) {
  int status = (int)neap_get_u32(r);
  char reason[256];
  neap_get_text(r, reason, sizeof reason);
  if (!neap_reader_done(r) || status <= NEAP_OK || status >= NEAP_NUM_STATUS)
    return "a damaged greeting";
  pthread_mutex_lock(&peer->lock);
  decide(peer, status, "%s at %.200s refuses this process: %s", peer->name, peer->uri, reason);
  pthread_mutex_unlock(&peer->lock);
  return "refused";
}

static const char *read_welcome(lane *l, neap_reader *r) {
  neap_peer *peer = l->peer;
  const uint8_t *proof = neap_get_bytes(r, NEAP_PROOF);
  uint8_t expected[NEAP_PROOF];
  if (!neap_reader_done(r) ||
      !neap_proof(peer->options.job->secret, 'l', &l->hello, l->nonce, expected))
    return "a damaged greeting";
  if (!neap_proof_equal(proof, expected)) {
    pthread_mutex_lock(&peer->lock);
    decide(peer, NEAP_EDENIED, "%s at %.200s does not know the job's secret", peer->name,
           peer->uri);
    pthread_mutex_unlock(&peer->lock);
    return "the other side does not know the secret";
  }
  bool ready = true;
  pthread_mutex_lock(&peer->lock);
  l->state = UP;
  for (int i = 0; i < peer->num_lanes; i++) ready = ready && peer->lanes[i].state == UP;
  ready = ready && !peer->fate;
  if (ready) {
    peer->ready = true;
    peer->backoff = 0;
    for (neap_request *q = peer->requests; q; q = q->next) send_request(peer, q);
  }
  pthread_mutex_unlock(&peer->lock);
  if (ready && peer->options.up) peer->options.up(peer->options.user);
  return NULL;
}

static const char *lane_place(void *user, neap_incoming *in) {
  lane *l = user;
  neap_peer *peer = l->peer;
  if (l->state != UP) return "a large message before the greeting";
  if (in->frame.type == NEAP_M_ROSTER) {
    if (in->frame.total > notice_max) return "too large a roster";
    in->payload = neap_alloc(peer->context, (size_t)in->frame.total);
    return in->payload ? NULL : "no memory";
  }
  if (in->frame.type != NEAP_M_REPLY) return "a large message that is no reply";
  pthread_mutex_lock(&peer->lock);
  neap_request *request = find(peer, in->frame.id);
  pthread_mutex_unlock(&peer->lock);
  /* None: to a request that was sent twice; the second reply is dropped. */
  if (request && request->place) in->payload = request->place(request, in->frame.total);
  return NULL;
}

/* A reply's memory is the request's, which is sent again or fails. */
static void lane_unplace(void *user, neap_incoming *in) {
  if (in->frame.type == NEAP_M_ROSTER)
    neap_free(((lane *)user)->peer->context, in->payload, (size_t)in->frame.total);
}

static const char *reply(neap_peer *peer, neap_incoming *in, neap_reader *r) {
  int status = (int)neap_get_u32(r);
  char text[NEAP_TEXT_MAX];
  neap_get_text(r, text, sizeof text);
  if (r->bad || status < NEAP_OK || status >= NEAP_NUM_STATUS) return "a damaged reply";
  pthread_mutex_lock(&peer->lock);
  neap_request *request = find(peer, in->frame.id);
  if (request) remove_request(peer, request);
  if (request) peer->down = 0; /* however short its connections live, it is there */
  bool out = request && !request->with_link;
  bool early =
      request && !out && in->frame.total == 0 && keep_early(peer, request, status, text, r);
  pthread_mutex_unlock(&peer->lock);
  if (!request || early) return NULL; /* none: to a request that was sent twice */
  request->done(request, status, text, r, in);
  if (out)
    request->free(request);
  else
    answered(peer, request);
  return NULL;
}

static const char *lane_message(void *user, neap_incoming *in) {
  lane *l = user;
  neap_peer *peer = l->peer;
  neap_reader r;
  neap_reader_open(&r, in->meta, in->frame.meta);
  switch (in->frame.type) {
  case NEAP_M_PING:
    return NULL;
  case NEAP_M_CHALLENGE:
    return l->state != UP ? answer_challenge(l, &r) : "a greeting too many";
  case NEAP_M_WELCOME:
    return l->state != UP ? read_welcome(l, &r) : "a greeting too many";
  case NEAP_M_REFUSED:
    return read_refusal(peer, &r);
  case NEAP_M_REPLY:
    return l->state == UP ? reply(peer, in, &r) : "a reply before the greeting";
  default:
    if (l->state != UP) return "a message before the greeting";
    if (peer->options.notice) peer->options.notice(peer->options.user, in);
    if (in->placed) lane_unplace(user, in);
    return NULL;
  }
}

static void lane_closed(void *user, const char *why) {
  lane *l = user;
  neap_peer *peer = l->peer;
  pthread_mutex_lock(&peer->lock);
  l->state = DEAD;
  peer->ready = false;
  if (!peer->down) peer->down = neap_now();
  if (!peer->fate) snprintf(peer->text, sizeof peer->text, "%s", why);
  pthread_cond_broadcast(&peer->closed);
  pthread_mutex_unlock(&peer->lock);
  neap_ticker_wake(peer->options.ticker);
}

static const neap_link_callbacks callbacks = {lane_place, lane_unplace, lane_message, lane_closed};

static void dial_failed(lane *l, const char *why) {
  neap_peer *peer = l->peer;
  pthread_mutex_lock(&peer->lock);
  l->state = IDLE;
  if (!peer->fate) snprintf(peer->text, sizeof peer->text, "%s", why);
  pthread_cond_broadcast(&peer->closed);
  pthread_mutex_unlock(&peer->lock);
}

static void on_dialed(void *arg) {
  lane *l = arg;
  neap_peer *peer = l->peer;
  int error = nng_aio_result(l->dial);
  if (error) {
    dial_failed(l, nng_strerror(error));
    return;
  }
  neap_link *link;
  if (neap_link_create(peer->context, nng_aio_get_output(l->dial, 0), &callbacks, l, &link) !=
      NEAP_OK) {
    dial_failed(l, neap_error());
    return;
  }
  pthread_mutex_lock(&peer->lock);
  bool given_up = peer->fate != NEAP_OK;
  l->link = link;
  l->starting = true;
  l->heard = l->pinged = neap_now();
  l->received = 0;
  pthread_mutex_unlock(&peer->lock);
  if (given_up) {
    neap_link_close(link, "given up");
  } else {
    send_hello(l);
    neap_link_start(link);
  }
  pthread_mutex_lock(&peer->lock);
  l->starting = false;
  pthread_mutex_unlock(&peer->lock);
}

/* ---- By the clock ---------------------------------------------------------------------------- */

static int begin_epoch(neap_peer *peer) {
  peer->hello.epoch++;
  for (int i = 0; i < peer->num_lanes; i++) {
    lane *l = &peer->lanes[i];
    l->hello = peer->hello;
    l->hello.lane = i;
    NEAP_TRY(neap_nonce(l->hello.nonce, NEAP_NONCE));
    l->state = DIALING;
  }
  return NEAP_OK;
}

/* Frees lanes that are closed, outside of the lock, and tells whether none is in use. */
static bool clear_lanes(neap_peer *peer) {
  bool idle = true;
  for (int i = 0; i < peer->num_lanes; i++) {
    lane *l = &peer->lanes[i];
    pthread_mutex_lock(&peer->lock);
    neap_link *dead = l->state == DEAD && !l->starting && !atomic_load(&l->users) ? l->link : NULL;
    idle = idle && (dead || l->state == IDLE);
    pthread_mutex_unlock(&peer->lock);
    if (!dead) continue;
    uint64_t received, sent;
    neap_link_counts(dead, &received, &sent);
    neap_link_free(dead);
    pthread_mutex_lock(&peer->lock);
    peer->received += received;
    peer->sent += sent;
    l->link = NULL;
    l->state = IDLE;
    pthread_mutex_unlock(&peer->lock);
  }
  return idle;
}

static void close_lanes(neap_peer *peer, const char *why) {
  for (int i = 0; i < peer->num_lanes; i++) {
    lane *l = &peer->lanes[i];
    pthread_mutex_lock(&peer->lock);
    neap_link *link = l->state == DIALING || l->state == UP ? l->link : NULL;
    pthread_mutex_unlock(&peer->lock);
    /* Freed by our own ticker or neap_peer_close() only, so it is there. */
    if (link) neap_link_close(link, why);
  }
}

/* Signs of life both ways; false when the other side is silent for too long. */
static bool keep_alive(neap_peer *peer, double now) {
  bool alive = true;
  for (int i = 0; i < peer->num_lanes; i++) {
    lane *l = &peer->lanes[i];
    pthread_mutex_lock(&peer->lock);
    bool open = l->link && (l->state == UP || l->state == DIALING);
    bool ping = l->state == UP && !l->pinging && now - l->pinged > peer->options.timeout / 8;
    if (ping) {
      l->pinging = true;
      l->pinged = now;
      small(&l->ping, NEAP_M_PING, NULL, 0, pinged, l);
    }
    pthread_mutex_unlock(&peer->lock);
    if (!open) continue;
    uint64_t received, sent;
    neap_link_counts(l->link, &received, &sent);
    if (received != l->received) l->heard = now;
    l->received = received;
    if (now - l->heard > peer->options.timeout / 2) alive = false;
    if (ping) neap_link_send(l->link, &l->ping);
  }
  return alive;
}

static void give_up(neap_peer *peer) {
  pthread_mutex_lock(&peer->lock);
  bool tell = peer->fate && !peer->failed;
  peer->failed = peer->failed || peer->fate;
  pthread_mutex_unlock(&peer->lock);
  if (!peer->fate) return;
  fail_all(peer);
  if (tell && peer->options.lost) peer->options.lost(peer->options.user, peer->fate, peer->text);
}

void neap_peer_tick(neap_peer *peer, double now) {
  bool idle = clear_lanes(peer);
  if (!idle) {
    pthread_mutex_lock(&peer->lock);
    bool broken = peer->fate != NEAP_OK;
    for (int i = 0; i < peer->num_lanes; i++)
      broken = broken || peer->lanes[i].state == DEAD || peer->lanes[i].state == IDLE;
    pthread_mutex_unlock(&peer->lock);
    if (broken)
      close_lanes(peer, "another connection to it broke");
    else if (!keep_alive(peer, now))
      close_lanes(peer, "no sign of life");
  }
  pthread_mutex_lock(&peer->lock);
  if (peer->ready) {
    peer->down = 0;
  } else {
    if (!peer->down) peer->down = now;
    if (now - peer->down > peer->options.timeout)
      decide(peer, NEAP_ELOST, "%s at %.150s cannot be reached for %g s: %.200s", peer->name,
             peer->uri, peer->options.timeout, peer->text);
  }
  bool over = peer->fate && idle;
  bool dial = idle && !peer->fate && now >= peer->dial_at;
  if (dial) {
    peer->backoff = peer->backoff ? 2 * peer->backoff : 0.01;
    if (peer->backoff > 1) peer->backoff = 1;
    peer->dial_at = now + peer->backoff;
    dial = begin_epoch(peer) == NEAP_OK;
  }
  pthread_mutex_unlock(&peer->lock);
  if (over) give_up(peer);
  for (int i = 0; dial && i < peer->num_lanes; i++)
    nng_stream_dialer_dial(peer->dialer, peer->lanes[i].dial);
}

/* ---- The rest -------------------------------------------------------------------------------- */

void neap_peer_fail(neap_peer *peer, int status, const char *text) {
  pthread_mutex_lock(&peer->lock);
  decide(peer, status, "%s", text);
  pthread_mutex_unlock(&peer->lock);
  neap_ticker_wake(peer->options.ticker);
}

void neap_peer_set_rank(neap_peer *peer, int rank) {
  pthread_mutex_lock(&peer->lock);
  peer->hello.rank = rank;
  pthread_mutex_unlock(&peer->lock);
}

void neap_peer_counts(neap_peer *peer, uint64_t *requests, uint64_t *received, uint64_t *sent) {
  pthread_mutex_lock(&peer->lock);
  *requests = peer->num_requests;
  *received = peer->received;
  *sent = peer->sent;
  for (int i = 0; i < peer->num_lanes; i++) {
    lane *l = &peer->lanes[i];
    if (!l->link || l->state == DEAD) continue;
    uint64_t in, out;
    neap_link_counts(l->link, &in, &out);
    *received += in;
    *sent += out;
  }
  pthread_mutex_unlock(&peer->lock);
}

bool neap_peer_stalled(neap_peer *peer, double now, double seconds, int *type, double *since) {
  pthread_mutex_lock(&peer->lock);
  const neap_request *oldest = peer->requests;
  bool stalled = oldest && now - oldest->since >= seconds && now - peer->stall_told >= seconds;
  if (stalled) {
    peer->stall_told = now;
    *type = oldest->message.frame.type;
    *since = now - oldest->since;
  }
  pthread_mutex_unlock(&peer->lock);
  return stalled;
}

static int open_peer(neap_peer *peer) {
  NEAP_TRY(neap_locks_init(&peer->lock, &peer->closed));
  for (int i = 0; i < peer->num_lanes; i++) {
    lane *l = &peer->lanes[i];
    l->peer = peer;
    l->index = i;
    if (nng_aio_alloc(&l->dial, on_dialed, l))
      return neap_fail(NEAP_ENOMEM, "no memory for a connection");
    /* A host that drops packets would keep a dial, and with it the end, waiting for minutes. */
    nng_aio_set_timeout(l->dial, (nng_duration)(500 * peer->options.timeout) + 1);
  }
  return neap_dialer_open(peer->uri, peer->options.job, &peer->dialer);
}

int neap_peer_create(neap_context *context, const neap_peer_options *options, neap_peer **out) {
  NEAP_TRY(neap_uri_check(options->uri));
  neap_peer *peer = neap_alloc(context, sizeof *peer);
  if (!peer) return NEAP_ENOMEM;
  memset(peer, 0, sizeof *peer);
  peer->context = context;
  peer->options = *options;
  peer->hello = options->hello;
  peer->num_lanes = options->hello.lanes;
  peer->generation = 0;
  snprintf(peer->uri, sizeof peer->uri, "%s", options->uri);
  snprintf(peer->name, sizeof peer->name, "%s", options->name);
  snprintf(peer->text, sizeof peer->text, "it does not answer yet");
  int status = open_peer(peer);
  if (status != NEAP_OK)
    neap_peer_close(peer);
  else
    *out = peer;
  return status;
}

void neap_peer_close(neap_peer *peer) {
  if (!peer) return;
  pthread_mutex_lock(&peer->lock);
  decide(peer, NEAP_ECLOSED, "the connection to %s was closed", peer->name);
  pthread_mutex_unlock(&peer->lock);
  for (int i = 0; i < peer->num_lanes; i++)
    if (peer->lanes[i].dial) nng_aio_stop(peer->lanes[i].dial); /* waits for its callback */
  close_lanes(peer, "closed by this process");
  pthread_mutex_lock(&peer->lock);
  for (int i = 0; i < peer->num_lanes; i++)
    if (!peer->lanes[i].link) peer->lanes[i].state = IDLE; /* never begun */
  while (!no_lane_open(peer)) pthread_cond_wait(&peer->closed, &peer->lock);
  pthread_mutex_unlock(&peer->lock);
  while (!clear_lanes(peer)) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  fail_all(peer);
  for (int i = 0; i < peer->num_lanes; i++)
    if (peer->lanes[i].dial) nng_aio_free(peer->lanes[i].dial);
  if (peer->dialer) nng_stream_dialer_free(peer->dialer);
  neap_free(peer->context, peer->slots, peer->num_slots * sizeof *peer->slots);
  neap_free(peer->context, peer->spare, peer->num_slots * sizeof *peer->spare);
  pthread_cond_destroy(&peer->closed);
  pthread_mutex_destroy(&peer->lock);
  neap_free(peer->context, peer, sizeof *peer);
}
