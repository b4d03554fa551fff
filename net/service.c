/* SPDX-License-Identifier: MIT */
/* service.c - a listener and its sessions; see service.h for the rules. */
#include "service.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { GREETING_SECONDS = 5, GREETING_MAX = 512 };
static const double hurried_greeting = 0.25; /* seconds, while others wait for a place */

typedef struct connection {
  neap_service *service;
  struct connection *next;
  neap_link *link;
  neap_session *session; /* once greeted */
  neap_hello hello;
  bool said_hello, closed, pinging;
  bool admin; /* proved to know the admins' secret */
  int holds;  /* not to be freed while somebody is at it */
  uint8_t nonce[NEAP_NONCE];
  double since, heard, pinged;
  uint64_t received;
  neap_message challenge, answer, ping;
  uint8_t answer_meta[GREETING_MAX];
} connection;

struct neap_session {
  neap_service *service;
  neap_session *next;
  neap_hello hello; /* the newest */
  connection *lanes[NEAP_LANES];
  void *owner;
  int refs; /* the list's, until it is ended; connections; holders */
  bool ended, up;
};

struct neap_service {
  neap_context *context;
  neap_service_options options;
  char uri[NEAP_URI_MAX];
  nng_stream_listener *listener;
  nng_aio *accept;

  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t gone;  /* a connection was closed */
  connection *connections;
  int num_connections, num_strangers;
  neap_session *sessions;
  bool accepting, closing;
};

static void wake(neap_service *service) {
  neap_ticker_wake(service->options.ticker);
}

/* ---- Sessions -------------------------------------------------------------------------------- */

const neap_hello *neap_session_hello(const neap_session *session) {
  return &session->hello;
}
void neap_session_set_owner(neap_session *session, void *owner) {
  session->owner = owner;
}
void *neap_session_owner(const neap_session *session) {
  return session->owner;
}

bool neap_session_is_up(const neap_session *session) {
  pthread_mutex_lock(&session->service->lock);
  bool up = session->up;
  pthread_mutex_unlock(&session->service->lock);
  return up;
}

bool neap_session_is_admin(neap_session *session) {
  bool admin = false, all = true;
  pthread_mutex_lock(&session->service->lock);
  for (int i = 0; i < NEAP_LANES; i++) {
    if (!session->lanes[i]) continue;
    admin = true;
    all = all && session->lanes[i]->admin;
  }
  pthread_mutex_unlock(&session->service->lock);
  return admin && all;
}

void neap_session_hold(neap_session *session) {
  pthread_mutex_lock(&session->service->lock);
  session->refs++;
  pthread_mutex_unlock(&session->service->lock);
}

/* Under the lock. */
static void drop_session(neap_session *session) {
  if (--session->refs > 0) return;
  neap_free(session->service->context, session, sizeof *session);
}

void neap_session_release(neap_session *session) {
  neap_service *service = session->service;
  pthread_mutex_lock(&service->lock);
  drop_session(session);
  pthread_mutex_unlock(&service->lock);
}

/* Under the lock. */
static neap_session *find_session(neap_service *service, uint64_t incarnation) {
  for (neap_session *s = service->sessions; s; s = s->next)
    if (s->hello.incarnation == incarnation) return s;
  return NULL;
}

void neap_session_send(neap_session *session, neap_message *message) {
  neap_service *service = session->service;
  pthread_mutex_lock(&service->lock);
  int lane = neap_message_light(message) ? 0 : session->hello.lanes - 1;
  connection *c = session->up ? session->lanes[lane] : NULL;
  bool sent = c && neap_link_send(c->link, message);
  pthread_mutex_unlock(&service->lock);
  if (!sent) message->done(message, false);
}

typedef struct small_reply {
  neap_message message;
  neap_context *context;
  size_t size;
  uint8_t meta[];
} small_reply;

static void small_done(neap_message *message, bool sent) {
  small_reply *reply = (small_reply *)message;
  (void)sent;
  neap_free(reply->context, reply, reply->size);
}

bool neap_session_reply(neap_session *session, uint64_t id, int priority, int status,
                        const char *text, const void *meta, size_t size) {
  neap_context *context = session->service->context;
  char cut[NEAP_TEXT_MAX];
  size_t length = text ? strlen(text) : 0;
  if (length >= sizeof cut) { /* at the end of a character */
    for (length = sizeof cut - 1; length && ((unsigned char)text[length] & 0xc0) == 0x80;) length--;
    memcpy(cut, text, length);
    cut[length] = 0;
    text = cut;
  }
  size_t room = 16 + length + size;
  small_reply *reply = neap_alloc(context, sizeof *reply + room);
  if (!reply) {
    neap_session_close_links(session, "no memory");
    return false;
  }
  neap_writer w;
  neap_writer_open(&w, reply->meta, room);
  neap_put_u32(&w, (uint32_t)status);
  neap_put_text(&w, text);
  neap_put_bytes(&w, meta, size);
  reply->message = (neap_message){
      .frame = {.type = NEAP_M_REPLY, .id = id, .meta = (uint32_t)neap_writer_size(&w)},
      .meta = reply->meta,
      .priority = priority,
      .done = small_done};
  reply->context = context;
  reply->size = sizeof *reply + room;
  neap_session_send(session, &reply->message);
  return true;
}

/* Under the lock. */
static connection *hold(connection *c) {
  c->holds++;
  return c;
}

static void let_go(connection *c) {
  neap_service *service = c->service;
  pthread_mutex_lock(&service->lock);
  if (--c->holds == 0) pthread_cond_broadcast(&service->gone);
  pthread_mutex_unlock(&service->lock);
}

static void close_held(connection *c, const char *why) {
  neap_link_close(c->link, why);
  let_go(c);
}

static void close_session_links(neap_session *session, const char *why, bool end) {
  neap_service *service = session->service;
  connection *held[NEAP_LANES];
  int count = 0;
  pthread_mutex_lock(&service->lock);
  bool first = end && !session->ended;
  if (end) session->ended = true;
  session->up = false;
  for (int i = 0; i < NEAP_LANES; i++)
    if (session->lanes[i]) held[count++] = hold(session->lanes[i]);
  if (first) {
    neap_session **at = &service->sessions;
    while (*at != session) at = &(*at)->next;
    *at = session->next;
  }
  pthread_mutex_unlock(&service->lock);
  for (int i = 0; i < count; i++) close_held(held[i], why);
  if (first) neap_session_release(session);
}

void neap_session_close_links(neap_session *session, const char *why) {
  close_session_links(session, why, false);
}
void neap_session_end(neap_session *session, const char *why) {
  close_session_links(session, why, true);
}

/* ---- Greeting -------------------------------------------------------------------------------- */

static void ignore(neap_message *message, bool sent) {
  (void)message, (void)sent;
}

static void say(connection *c, neap_message *message, int type, uint8_t *meta, size_t size) {
  *message = (neap_message){.frame = {.type = type, .meta = (uint32_t)size},
                            .meta = meta,
                            .priority = INT32_MAX,
                            .done = ignore};
  (void)neap_link_send(c->link, message);
}

static const char *refuse(connection *c, int status, const char *text) {
  neap_log(c->service->context, NEAP_LOG_WARN, "%s: refused a %s%s%s: %s", c->service->uri,
           neap_role_name(c->hello.role), c->hello.host[0] ? " on host " : "", c->hello.host, text);
  neap_writer w;
  neap_writer_open(&w, c->answer_meta, sizeof c->answer_meta);
  neap_put_u32(&w, (uint32_t)status);
  neap_put_text(&w, text);
  if (c->answer.frame.type == 0)
    say(c, &c->answer, NEAP_M_REFUSED, c->answer_meta, neap_writer_size(&w));
  pthread_mutex_lock(&c->service->lock);
  c->since -= GREETING_SECONDS; /* the ticker closes it, when the refusal has had time to leave */
  pthread_mutex_unlock(&c->service->lock);
  return NULL;
}

static const char *read_hello(connection *c, neap_reader *r) {
  if (c->said_hello) return "a greeting too many";
  const char *wrong = neap_hello_read(r, &c->hello);
  if (wrong) {
    char text[256];
    snprintf(text, sizeof text, "%s; this is version %d of the protocol (Neap %s)", wrong,
             NEAP_WIRE_VERSION, neap_version());
    return refuse(c, NEAP_EFORMAT, text);
  }
  c->said_hello = true;
  say(c, &c->challenge, NEAP_M_CHALLENGE, c->nonce, NEAP_NONCE);
  return NULL;
}

/* The session that a process's greeting belongs to, made if it is its first; held. */
static int session_for(neap_service *service, const neap_hello *hello, neap_session **out,
                       char *text, size_t size) {
  pthread_mutex_lock(&service->lock);
  neap_session *session = find_session(service, hello->incarnation);
  if (session) session->refs++;
  pthread_mutex_unlock(&service->lock);
  if (session) {
    *out = session;
    return NEAP_OK;
  }
  session = neap_alloc(service->context, sizeof *session);
  if (!session) {
    snprintf(text, size, "no memory");
    return NEAP_ENOMEM;
  }
  memset(session, 0, sizeof *session);
  session->service = service;
  session->hello = *hello;
  session->refs = 2; /* the list's and the caller's */
  /* In the list before admit() is called, so that the other lane finds it. */
  pthread_mutex_lock(&service->lock);
  neap_session *other = find_session(service, hello->incarnation);
  bool closing = service->closing; /* then nobody would end it */
  if (other) {
    other->refs++;
  } else if (!closing) {
    session->next = service->sessions;
    service->sessions = session;
  }
  pthread_mutex_unlock(&service->lock);
  if (other) {
    neap_free(service->context, session, sizeof *session);
    *out = other;
    return NEAP_OK;
  }
  if (closing) {
    neap_free(service->context, session, sizeof *session);
    return NEAP_ETIMEOUT;
  }
  int status = service->options.admit(service->options.user, hello, session, text, size);
  if (status != NEAP_OK) {
    neap_session_end(session, "refused");
    neap_session_release(session);
    return status;
  }
  *out = session;
  return NEAP_OK;
}

/* Takes the connection into its session (V2) and welcomes it; *up when it was the last one missing.
 * NULL, or why not. */
static const char *join(connection *c, neap_session *session, bool *up) {
  neap_service *service = c->service;
  connection *old[NEAP_LANES] = {NULL};
  const char *wrong = NULL;
  *up = false;
  pthread_mutex_lock(&service->lock);
  if (session->ended) {
    wrong = "its session is over";
  } else if (c->hello.epoch < session->hello.epoch) {
    wrong = "a later connection is there";
  } else {
    if (c->hello.epoch > session->hello.epoch) {
      session->up = false;
      for (int i = 0; i < NEAP_LANES; i++) {
        if (session->lanes[i]) old[i] = hold(session->lanes[i]);
        session->lanes[i] = NULL;
      }
      session->hello.epoch = c->hello.epoch;
    }
    if (session->lanes[c->hello.lane]) {
      wrong = "this lane is there already";
    } else {
      session->lanes[c->hello.lane] = c;
      c->session = session;
      session->refs++;
      service->num_strangers--;
      bool all = true;
      for (int i = 0; i < c->hello.lanes; i++) all = all && session->lanes[i];
      /* In one, under the lock: whoever is welcome may ask at once, and is answered only while the
       * session is up; and nothing may come before its welcome. */
      say(c, &c->answer, NEAP_M_WELCOME, c->answer_meta, NEAP_PROOF);
      *up = session->up = all;
    }
  }
  pthread_mutex_unlock(&service->lock);
  for (int i = 0; i < NEAP_LANES; i++)
    if (old[i]) close_held(old[i], "connected again");
  return wrong;
}

static const char *read_proof(connection *c, neap_reader *r) {
  neap_service *service = c->service;
  uint8_t expected[NEAP_PROOF];
  const uint8_t *proof = neap_get_bytes(r, NEAP_PROOF), *second = NULL;
  if (r->at != r->end) second = neap_get_bytes(r, NEAP_PROOF);
  if (!c->said_hello || c->session || !neap_reader_done(r)) return "a damaged greeting";
  if (!neap_proof(service->options.job->secret, 'c', &c->hello, c->nonce, expected))
    return "no proof can be computed";
  if (!neap_proof_equal(proof, expected))
    return refuse(c, NEAP_EDENIED,
                  "it does not know the job's secret (NEAP_SECRET must be the same everywhere)");
  const char *admin = service->options.job->admin_secret;
  c->admin = !admin || (second && neap_proof(admin, 'a', &c->hello, c->nonce, expected) &&
                        neap_proof_equal(second, expected));
  neap_session *session;
  char text[256] = "";
  int status = session_for(service, &c->hello, &session, text, sizeof text);
  if (status == NEAP_ETIMEOUT) return "it came too early";
  if (status != NEAP_OK) return refuse(c, status, text);
  bool up;
  (void)neap_proof(service->options.job->secret, 'l', &c->hello, c->nonce, c->answer_meta);
  const char *wrong = join(c, session, &up);
  if (!wrong && up && service->options.up) service->options.up(service->options.user, session);
  neap_session_release(session);
  return wrong;
}

/* ---- Connections ----------------------------------------------------------------------------- */

static bool is_over(neap_session *session) {
  pthread_mutex_lock(&session->service->lock);
  bool over = session->ended;
  pthread_mutex_unlock(&session->service->lock);
  return over;
}

static const char *on_place(void *user, neap_incoming *in) {
  connection *c = user;
  if (!c->session) return "a large message before the greeting";
  if (in->frame.type < NEAP_M_REPLY) return "too large a message of its kind";
  if (is_over(c->session)) return "its session is over";
  return c->service->options.place(c->service->options.user, c->session, in);
}

static void on_unplace(void *user, neap_incoming *in) {
  connection *c = user;
  c->service->options.unplace(c->service->options.user, c->session, in);
}

static const char *on_message(void *user, neap_incoming *in) {
  connection *c = user;
  neap_reader r;
  neap_reader_open(&r, in->meta, in->frame.meta);
  switch (in->frame.type) {
  case NEAP_M_PING:
    return NULL;
  case NEAP_M_HELLO:
    return read_hello(c, &r);
  case NEAP_M_PROOF:
    return read_proof(c, &r);
  default:
    if (!c->session) return "a message before the greeting";
    if (is_over(c->session)) {
      if (in->placed) on_unplace(c, in);
      return "its session is over";
    }
    return c->service->options.message(c->service->options.user, c->session, in);
  }
}

static void on_closed(void *user, const char *why) {
  connection *c = user;
  neap_service *service = c->service;
  pthread_mutex_lock(&service->lock);
  neap_session *session = c->session;
  bool down = false;
  if (session && session->lanes[c->hello.lane] == c) {
    session->lanes[c->hello.lane] = NULL;
    session->up = false;
    down = !session->ended;
    for (int i = 0; i < NEAP_LANES; i++) down = down && !session->lanes[i];
    if (down) session->refs++;
  }
  pthread_mutex_unlock(&service->lock);
  if (down) {
    neap_log(service->context, NEAP_LOG_DEBUG, "%s %d: connection closed: %s",
             neap_role_name(session->hello.role), session->hello.rank, why);
    if (service->options.down) service->options.down(service->options.user, session);
    neap_session_release(session);
  }
  pthread_mutex_lock(&service->lock);
  c->closed = true;
  pthread_cond_broadcast(&service->gone);
  pthread_mutex_unlock(&service->lock);
  wake(service);
}

static const neap_link_callbacks callbacks = {on_place, on_unplace, on_message, on_closed};

static void pinged(neap_message *message, bool sent) {
  connection *c = message->owner;
  (void)sent;
  pthread_mutex_lock(&c->service->lock);
  c->pinging = false;
  pthread_mutex_unlock(&c->service->lock);
}

/* Under the lock: goes on accepting unless there are too many strangers (V1). */
static bool may_accept(neap_service *service) {
  if (service->accepting || service->closing || service->num_strangers >= NEAP_STRANGERS)
    return false;
  service->accepting = true;
  return true;
}

static void accept_next(neap_service *service) {
  pthread_mutex_lock(&service->lock);
  bool may = may_accept(service);
  pthread_mutex_unlock(&service->lock);
  if (may) nng_stream_listener_accept(service->listener, service->accept);
}

static void take_connection(neap_service *service, nng_stream *stream) {
  connection *c = neap_alloc(service->context, sizeof *c);
  if (!c) {
    nng_stream_free(stream);
    return;
  }
  memset(c, 0, sizeof *c);
  c->service = service;
  c->since = c->heard = c->pinged = neap_now();
  c->holds = 1;
  if (neap_nonce(c->nonce, NEAP_NONCE) != NEAP_OK) {
    nng_stream_free(stream);
    neap_free(service->context, c, sizeof *c);
    return;
  }
  if (neap_link_create(service->context, stream, &callbacks, c, &c->link) != NEAP_OK) {
    neap_free(service->context, c, sizeof *c);
    return;
  }
  pthread_mutex_lock(&service->lock);
  c->next = service->connections;
  service->connections = c;
  service->num_connections++;
  service->num_strangers++;
  pthread_mutex_unlock(&service->lock);
  neap_link_start(c->link);
  let_go(c);
}

static void on_accepted(void *arg) {
  neap_service *service = arg;
  int error = nng_aio_result(service->accept);
  if (!error) take_connection(service, nng_aio_get_output(service->accept, 0));
  pthread_mutex_lock(&service->lock);
  service->accepting = false;
  pthread_mutex_unlock(&service->lock);
  if (!error) accept_next(service); /* else short of files, perhaps: the ticker tries again */
}

/* ---- By the clock ---------------------------------------------------------------------------- */

/* Takes connections that are closed out of the list and frees them. */
static void free_closed(neap_service *service) {
  connection *dead = NULL;
  pthread_mutex_lock(&service->lock);
  for (connection **at = &service->connections; *at;) {
    connection *c = *at;
    if (!c->closed || c->holds) {
      at = &c->next;
      continue;
    }
    *at = c->next;
    service->num_connections--;
    if (!c->session) service->num_strangers--;
    c->next = dead;
    dead = c;
  }
  pthread_mutex_unlock(&service->lock);
  while (dead) {
    connection *c = dead;
    dead = c->next;
    neap_link_free(c->link);
    if (c->session) neap_session_release(c->session);
    neap_free(service->context, c, sizeof *c);
  }
}

/* Whether it has been silent for too long, or took too long to greet. */
static const char *expired(neap_service *service, connection *c, double now) {
  uint64_t received, sent;
  neap_link_counts(c->link, &received, &sent);
  if (received != c->received) c->heard = now;
  c->received = received;
  bool crowded = service->num_strangers >= NEAP_STRANGERS;
  if (!c->session && now - c->since > (crowded ? hurried_greeting : GREETING_SECONDS))
    return "no greeting";
  if (now - c->heard > service->options.timeout / 2) return "no sign of life";
  return NULL;
}

void neap_service_tick(neap_service *service, double now) {
  free_closed(service);
  /* Only this thread frees connections, and new ones come in at the front. */
  pthread_mutex_lock(&service->lock);
  connection *c = service->connections;
  pthread_mutex_unlock(&service->lock);
  for (; c; c = c->next) {
    pthread_mutex_lock(&service->lock);
    bool open = !c->closed && !c->holds;
    const char *why = open ? expired(service, c, now) : NULL;
    bool ping =
        open && !why && c->session && !c->pinging && now - c->pinged > service->options.timeout / 8;
    if (ping) {
      c->pinging = true;
      c->pinged = now;
      c->ping = (neap_message){
          .frame = {.type = NEAP_M_PING}, .priority = INT32_MAX, .done = pinged, .owner = c};
      ping = neap_link_send(c->link, &c->ping);
      if (!ping) c->pinging = false;
    }
    pthread_mutex_unlock(&service->lock);
    if (why) neap_link_close(c->link, why);
  }
  accept_next(service);
}

/* ---- Beginning and end ----------------------------------------------------------------------- */

static int open_service(neap_service *service) {
  NEAP_TRY(neap_locks_init(&service->lock, &service->gone));
  if (nng_aio_alloc(&service->accept, on_accepted, service))
    return neap_fail(NEAP_ENOMEM, "no memory for a listener");
  return neap_listener_open(service->options.uri, service->options.job, &service->listener,
                            service->uri);
}

int neap_service_create(neap_context *context, const neap_service_options *options,
                        neap_service **out) {
  neap_service *service = neap_alloc(context, sizeof *service);
  if (!service) return NEAP_ENOMEM;
  memset(service, 0, sizeof *service);
  service->context = context;
  service->options = *options;
  int status = open_service(service);
  if (status != NEAP_OK) {
    neap_service_close(service);
    return status;
  }
  service->options.uri = NULL; /* the caller's; uri is ours */
  *out = service;
  accept_next(service);
  return NEAP_OK;
}

const char *neap_service_uri(const neap_service *service) {
  return service->uri;
}

static bool all_closed(const neap_service *service) {
  for (const connection *c = service->connections; c; c = c->next)
    if (!c->closed || c->holds) return false;
  return true;
}

void neap_service_close(neap_service *service) {
  if (!service) return;
  pthread_mutex_lock(&service->lock);
  service->closing = true;
  pthread_mutex_unlock(&service->lock);
  if (service->listener) nng_stream_listener_close(service->listener);
  if (service->accept) nng_aio_free(service->accept); /* waits for its callback */
  for (;;) {
    pthread_mutex_lock(&service->lock);
    neap_session *session = service->sessions;
    pthread_mutex_unlock(&service->lock);
    if (!session) break;
    neap_session_end(session, "the service ends");
  }
  for (connection *c = service->connections; c; c = c->next)
    neap_link_close(c->link, "the service ends");
  pthread_mutex_lock(&service->lock);
  while (!all_closed(service)) pthread_cond_wait(&service->gone, &service->lock);
  pthread_mutex_unlock(&service->lock);
  free_closed(service);
  if (service->listener) nng_stream_listener_free(service->listener);
  pthread_cond_destroy(&service->gone);
  pthread_mutex_destroy(&service->lock);
  neap_free(service->context, service, sizeof *service);
}
