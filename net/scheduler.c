/* SPDX-License-Identifier: MIT */
/* scheduler.c - introduces the workers and servers of a job to each other, tells who died or left,
 * and lets workers meet at barriers.
 *
 * It takes no part in what the others do: while it is away they go on, and find it again.
 *
 * Invariants:
 *   C1  A rank belongs to one registration at a time. Another process gets it only when the old one
 *       left, died, or has no connection. (rank_for)
 *   C2  Incarnations only grow, so whoever hears of two knows which is the later. (admit_node)
 *   C3  Whenever a node's state changes, everybody gets the roster; and whoever connects. (tell)
 *   C4  A barrier opens when every worker waits at it that is neither gone nor given up.
 * (open_barrier) C5  scheduler->lock is not held during calls of sessions that may call back. */
#include "job.h"
#include "service.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { STALL = 10 /* seconds */ };

typedef struct member {
  neap_session *session;    /* held; NULL: none */
  double down;              /* since when it has no connection; 0: it has */
  bool waits;               /* at the barrier */
  uint64_t request;         /* the waiting one's id */
  uint64_t barrier, passed; /* the number it waits at; the last that opened for it */
  double since;             /* waits since then, or since a line in the log said so */
} member;

struct neap_scheduler {
  neap_context *context;
  neap_job_options options;
  neap_service *service;
  neap_ticker *ticker;

  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t changed;
  neap_roster *roster;
  member *members; /* as roster->nodes */
  int num_members;
  uint64_t incarnations;
  bool policy_set;
  bool untold; /* the roster changed and was not told yet */
  bool closing;
};

static member *member_of(neap_scheduler *s, int role, int rank) {
  return &s->members[role == NEAP_WORKER ? rank : s->roster->num_workers + rank];
}
static neap_node *node_of(neap_scheduler *s, const member *m) {
  return &s->roster->nodes[m - s->members];
}
static int role_of(const neap_scheduler *s, const member *m) {
  return m - s->members < s->roster->num_workers ? NEAP_WORKER : NEAP_SERVER;
}
static int rank_of(const neap_scheduler *s, const member *m) {
  int i = (int)(m - s->members);
  return i < s->roster->num_workers ? i : i - s->roster->num_workers;
}

/* ---- Telling --------------------------------------------------------------------------------- */

typedef struct roster_message {
  neap_message message;
  neap_context *context;
  uint8_t *bytes;
  size_t size;
} roster_message;

static void roster_done(neap_message *message, bool sent) {
  roster_message *m = (roster_message *)message;
  (void)sent;
  neap_free(m->context, m->bytes, m->size);
  neap_free(m->context, m, sizeof *m);
}

/* Under the lock: this session's copy of the roster; NULL for want of memory. */
static roster_message *roster_copy(neap_scheduler *s) {
  roster_message *m = neap_alloc(s->context, sizeof *m);
  if (!m) return NULL;
  memset(m, 0, sizeof *m);
  m->context = s->context;
  if (neap_roster_write(s->context, s->roster, &m->bytes, &m->size) != NEAP_OK) {
    neap_free(s->context, m, sizeof *m);
    return NULL;
  }
  m->message = (neap_message){.frame = {.type = NEAP_M_ROSTER},
                              .payload = {m->bytes},
                              .sizes = {m->size},
                              .priority = INT32_MAX,
                              .done = roster_done};
  return m;
}

/* Sends the roster to one member, or to all (NULL). */
static void tell(neap_scheduler *s, member *only) {
  for (int i = 0; i < s->num_members; i++) {
    member *m = &s->members[i];
    if (only && m != only) continue;
    pthread_mutex_lock(&s->lock);
    neap_session *session = m->session;
    roster_message *copy = session ? roster_copy(s) : NULL;
    if (copy) neap_session_hold(session);
    if (session && !copy) s->untold = true; /* again at the next tick */
    pthread_mutex_unlock(&s->lock);
    if (!copy) continue;
    neap_session_send(session, &copy->message);
    neap_session_release(session);
  }
}

static bool worker_counts(const neap_scheduler *s, int rank) {
  const neap_node *node = neap_roster_worker(s->roster, rank);
  return node->state != NEAP_LEFT &&
         !(node->state == NEAP_DIED && s->roster->policy == NEAP_LOST_CONTINUE);
}

/* Under the lock: a node's state changed. */
static void set_state(neap_scheduler *s, member *m, int state) {
  neap_node *node = node_of(s, m);
  if (node->state == state) return;
  node->state = state;
  s->roster->version++;
  if (state == NEAP_DIED || state == NEAP_LEFT) m->down = 0;
  bool over = true;
  for (int i = 0; i < s->roster->num_workers; i++) {
    int is = neap_roster_worker(s->roster, i)->state;
    over = over && (is == NEAP_LEFT || is == NEAP_DIED);
  }
  if (over) s->roster->over = true;
  s->untold = true;
  char text[NEAP_NODE_TEXT];
  static const char *const what[] = {"is awaited", "is here", "died: no sign of life", "left"};
  neap_log(s->context, state == NEAP_DIED ? NEAP_LOG_WARN : NEAP_LOG_INFO, "scheduler: %s %s",
           neap_node_text(s->roster, role_of(s, m), rank_of(s, m), text), what[state]);
  pthread_cond_broadcast(&s->changed);
  neap_ticker_wake(s->ticker);
}

/* ---- Barriers -------------------------------------------------------------------------------- */

/* Who was let through, and how; replies are sent without the lock. */
typedef struct passage {
  neap_session *session; /* held */
  uint64_t request;
} passage;

static void let_through(neap_scheduler *s) {
  passage *passages = neap_alloc(s->context, (size_t)s->roster->num_workers * sizeof *passages);
  if (!passages) return; /* at the next tick */
  int count = 0, lost = -1;
  bool complete = true;
  char text[NEAP_NODE_TEXT + 64] = "", name[NEAP_NODE_TEXT];
  pthread_mutex_lock(&s->lock);
  for (int i = 0; i < s->roster->num_workers; i++) {
    if (!worker_counts(s, i) || s->members[i].waits) continue;
    complete = false;
    if (neap_roster_worker(s->roster, i)->state == NEAP_DIED) lost = i;
  }
  for (int i = 0; (complete || lost >= 0) && i < s->roster->num_workers; i++) {
    member *m = &s->members[i];
    if (!m->waits) continue;
    m->waits = false;
    if (complete) m->passed = m->barrier;
    if (!m->session) continue;
    neap_session_hold(m->session);
    passages[count++] = (passage){m->session, m->request};
  }
  if (lost >= 0)
    snprintf(text, sizeof text, "barrier: %s died",
             neap_node_text(s->roster, NEAP_WORKER, lost, name));
  pthread_mutex_unlock(&s->lock);
  for (int i = 0; i < count; i++) {
    neap_session_reply(passages[i].session, passages[i].request, 0, complete ? NEAP_OK : NEAP_ELOST,
                       text, NULL, 0);
    neap_session_release(passages[i].session);
  }
  neap_free(s->context, passages, (size_t)s->roster->num_workers * sizeof *passages);
}

/* ---- Registering ----------------------------------------------------------------------------- */

/* Under the lock: the rank a process gets; -1 and a text if there is none. */
static int rank_for(neap_scheduler *s, const neap_hello *hello, char *text, size_t size) {
  int count = hello->role == NEAP_WORKER ? s->roster->num_workers : s->roster->num_servers;
  const char *role = neap_role_name(hello->role);
  if (hello->rank >= count) {
    snprintf(text, size, "there is no %s %d in this job: it has %d", role, hello->rank, count);
    return -1;
  }
  if (hello->rank >= 0) {
    member *m = member_of(s, hello->role, hello->rank);
    const neap_node *node = node_of(s, m);
    if (node->state != NEAP_ALIVE || m->down > 0) return hello->rank;
    snprintf(text, size, "%s %d is here already, on host %s", role, hello->rank, node->host);
    return -1;
  }
  static const int order[] = {NEAP_AWAITED, NEAP_DIED, NEAP_ALIVE /* without a connection */};
  for (int k = 0; k < 3; k++)
    for (int i = 0; i < count; i++) {
      member *m = member_of(s, hello->role, i);
      if (node_of(s, m)->state == order[k] && (order[k] != NEAP_ALIVE || m->down > 0)) return i;
    }
  snprintf(text, size, "all %d %ss of this job are here already", count, role);
  return -1;
}

/* What a process says of itself beside its greeting. */
typedef struct registration {
  int num_workers, num_servers, policy;
  char uri[NEAP_URI_MAX];
} registration;

/* Under the lock. *old is the session that had the rank until now, for the caller to end. */
static int admit_node(neap_scheduler *s, neap_session *session, const registration *said,
                      member **out, neap_session **old, char *text, size_t size) {
  const neap_hello *hello = neap_session_hello(session);
  if (said->num_workers != s->roster->num_workers || said->num_servers != s->roster->num_servers) {
    snprintf(text, size, "it expects %d workers and %d servers; this job has %d and %d",
             said->num_workers, said->num_servers, s->roster->num_workers, s->roster->num_servers);
    return NEAP_EINVAL;
  }
  if (hello->role == NEAP_WORKER && s->policy_set && said->policy != s->roster->policy) {
    snprintf(text, size, "its on_worker_lost differs from that of the other workers");
    return NEAP_EINVAL;
  }
  int rank = rank_for(s, hello, text, size);
  if (rank < 0) return NEAP_EEXIST;
  if (hello->role == NEAP_WORKER) {
    s->roster->policy = said->policy;
    s->policy_set = true;
  }
  member *m = member_of(s, hello->role, rank);
  neap_node *node = node_of(s, m);
  *old = m->session;
  neap_session_hold(session);
  m->session = session;
  m->down = 0;
  m->waits = false;
  m->barrier = m->passed = 0;
  node->incarnation = ++s->incarnations;
  snprintf(node->host, sizeof node->host, "%s", hello->host);
  snprintf(node->uri, sizeof node->uri, "%s", said->uri);
  s->roster->version++;
  s->untold = true;
  set_state(s, m, NEAP_ALIVE);
  neap_session_set_owner(session, m);
  *out = m;
  return NEAP_OK;
}

/* An admin is told who is there, once, and kept no account of. */
static const char *on_register_admin(neap_scheduler *s, neap_session *session, uint64_t request) {
  uint8_t meta[32];
  neap_writer w;
  neap_writer_open(&w, meta, sizeof meta);
  pthread_mutex_lock(&s->lock);
  neap_put_u32(&w, (uint32_t)s->roster->num_workers);
  neap_put_u64(&w, ++s->incarnations);
  roster_message *copy = roster_copy(s);
  pthread_mutex_unlock(&s->lock);
  if (!copy) return "no memory";
  neap_session_reply(session, request, INT32_MAX, NEAP_OK, NULL, meta, neap_writer_size(&w));
  neap_session_send(session, &copy->message);
  return NULL;
}

static const char *on_register(neap_scheduler *s, neap_session *session, neap_incoming *in,
                               neap_reader *r) {
  registration said;
  said.num_workers = (int)neap_get_u32(r);
  said.num_servers = (int)neap_get_u32(r);
  said.policy = (int)neap_get_u8(r);
  neap_get_text(r, said.uri, sizeof said.uri);
  if (!neap_reader_done(r) || said.policy > NEAP_LOST_CONTINUE) return "a damaged registration";
  if (neap_session_hello(session)->role == NEAP_ADMIN)
    return on_register_admin(s, session, in->frame.id);
  char text[NEAP_HOST_MAX + 128] = "";
  uint8_t meta[32];
  neap_writer w;
  neap_writer_open(&w, meta, sizeof meta);
  neap_session *old = NULL;
  int status = NEAP_OK;
  pthread_mutex_lock(&s->lock);
  member *m = neap_session_owner(session);
  bool closing = s->closing; /* then nobody would end the session */
  if (!m && !closing) status = admit_node(s, session, &said, &m, &old, text, sizeof text);
  if (m) {
    neap_put_u32(&w, (uint32_t)rank_of(s, m));
    neap_put_u64(&w, node_of(s, m)->incarnation);
  }
  pthread_mutex_unlock(&s->lock);
  if (closing) return "the scheduler ends";
  if (old) {
    neap_session_end(old, "another process took its place");
    neap_session_release(old);
  }
  neap_session_reply(session, in->frame.id, INT32_MAX, status, text, meta, neap_writer_size(&w));
  if (m) tell(s, m);
  return NULL;
}

static const char *on_barrier(neap_scheduler *s, neap_session *session, neap_incoming *in,
                              neap_reader *r) {
  uint64_t number = neap_get_u64(r);
  if (!neap_reader_done(r)) return "a damaged barrier";
  pthread_mutex_lock(&s->lock);
  member *m = neap_session_owner(session);
  bool worker = m && m->session == session && role_of(s, m) == NEAP_WORKER;
  if (worker && node_of(s, m)->state == NEAP_DIED) worker = false;
  bool passed = worker && number <= m->passed;
  if (worker && !passed) {
    if (!m->waits) m->since = neap_now();
    m->waits = true;
    m->barrier = number;
    m->request = in->frame.id;
  }
  pthread_mutex_unlock(&s->lock);
  if (!worker)
    neap_session_reply(session, in->frame.id, 0, NEAP_ELOST,
                       "barrier: this worker was given up, as it gave no sign of life", NULL, 0);
  else if (passed)
    neap_session_reply(session, in->frame.id, 0, NEAP_OK, NULL, NULL, 0);
  else
    let_through(s);
  return NULL;
}

static const char *on_leave(neap_scheduler *s, neap_session *session, neap_incoming *in) {
  pthread_mutex_lock(&s->lock);
  member *m = neap_session_owner(session);
  if (m && m->session == session && node_of(s, m)->state == NEAP_ALIVE) set_state(s, m, NEAP_LEFT);
  pthread_mutex_unlock(&s->lock);
  neap_session_reply(session, in->frame.id, 0, NEAP_OK, NULL, NULL, 0);
  let_through(s);
  return NULL;
}

/* ---- The service's callbacks ----------------------------------------------------------------- */

static int on_admit(void *user, const neap_hello *hello, neap_session *session, char *text,
                    size_t size) {
  (void)user, (void)hello, (void)session, (void)text, (void)size;
  return NEAP_OK; /* REGISTER decides */
}

static void on_up(void *user, neap_session *session) {
  neap_scheduler *s = user;
  pthread_mutex_lock(&s->lock);
  member *m = neap_session_owner(session);
  bool current = m && m->session == session;
  if (current) {
    m->down = 0;
    /* A server that was only late has its keys still. A worker that was given up stays so: others
     * went on without it, or were told. */
    if (node_of(s, m)->state == NEAP_DIED && role_of(s, m) == NEAP_SERVER)
      set_state(s, m, NEAP_ALIVE);
  }
  pthread_mutex_unlock(&s->lock);
  if (current) tell(s, m);
}

static void on_down(void *user, neap_session *session) {
  neap_scheduler *s = user;
  pthread_mutex_lock(&s->lock);
  member *m = neap_session_owner(session);
  bool stranger = !m || m->session != session;
  if (!stranger && node_of(s, m)->state == NEAP_ALIVE && !neap_session_is_up(session))
    m->down = neap_now();
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
  if (stranger) neap_session_end(session, "gone before it registered");
}

static const char *on_place(void *user, neap_session *session, neap_incoming *in) {
  (void)user, (void)session, (void)in;
  return "a large message to the scheduler";
}

static void on_unplace(void *user, neap_session *session, neap_incoming *in) {
  (void)user, (void)session, (void)in;
}

static const char *on_message(void *user, neap_session *session, neap_incoming *in) {
  neap_scheduler *s = user;
  neap_reader r;
  neap_reader_open(&r, in->meta, in->frame.meta);
  switch (in->frame.type) {
  case NEAP_M_REGISTER:
    return on_register(s, session, in, &r);
  case NEAP_M_BARRIER:
    return on_barrier(s, session, in, &r);
  case NEAP_M_LEAVE:
    return on_leave(s, session, in);
  default:
    return "a message that is not for a scheduler";
  }
}

/* Under the lock: who is waited for at a barrier, once it has taken long. */
static void log_stall(neap_scheduler *s, double now) {
  int waiting = 0;
  for (int i = 0; i < s->roster->num_workers; i++) {
    member *m = &s->members[i];
    if (!m->waits || now - m->since < STALL) continue;
    m->since = now;
    waiting++;
  }
  for (int i = 0; waiting && i < s->roster->num_workers; i++) {
    char text[NEAP_NODE_TEXT];
    if (!worker_counts(s, i) || s->members[i].waits) continue;
    neap_log(s->context, NEAP_LOG_WARN, "scheduler: %d workers wait at a barrier for %s%s", waiting,
             neap_node_text(s->roster, NEAP_WORKER, i, text),
             neap_roster_worker(s->roster, i)->state == NEAP_AWAITED ? ", which never came" : "");
  }
}

static void tick(void *user, double now) {
  neap_scheduler *s = user;
  neap_service_tick(s->service, now);
  bool died = false;
  pthread_mutex_lock(&s->lock);
  for (int i = 0; i < s->num_members; i++) {
    member *m = &s->members[i];
    if (!(m->down > 0) || now - m->down < s->options.timeout / 2) continue;
    set_state(s, m, NEAP_DIED);
    died = true;
  }
  bool untold = s->untold, waits = died;
  s->untold = false;
  for (int i = 0; i < s->roster->num_workers; i++) waits = waits || s->members[i].waits;
  if (waits) log_stall(s, now);
  pthread_mutex_unlock(&s->lock);
  if (untold) tell(s, NULL);
  if (waits) let_through(s);
}

/* ---- Beginning and end ----------------------------------------------------------------------- */

static int start(neap_scheduler *s) {
  neap_roster *roster;
  NEAP_TRY(neap_roster_create(s->context, s->options.num_workers, s->options.num_servers, &roster));
  s->roster = roster;
  s->num_members = s->options.num_workers + s->options.num_servers;
  s->members = neap_alloc(s->context, (size_t)s->num_members * sizeof *s->members);
  if (!s->members) return NEAP_ENOMEM;
  memset(s->members, 0, (size_t)s->num_members * sizeof *s->members);
  NEAP_TRY(neap_ticker_create(s->context, 0.05, tick, s, &s->ticker));
  neap_service_options options = {.uri = s->options.root_uri,
                                  .job = &s->options,
                                  .timeout = s->options.timeout,
                                  .admit = on_admit,
                                  .up = on_up,
                                  .down = on_down,
                                  .place = on_place,
                                  .unplace = on_unplace,
                                  .message = on_message,
                                  .user = s,
                                  .ticker = s->ticker};
  NEAP_TRY(neap_service_create(s->context, &options, &s->service));
  return neap_ticker_start(s->ticker);
}

int neap_scheduler_start(neap_context *context, const neap_job_options *options,
                         neap_scheduler **out) {
  NEAP_TRY(neap_job_check(options, NEAP_SCHEDULER));
  neap_scheduler *s = neap_alloc(context, sizeof *s);
  if (!s) return NEAP_ENOMEM;
  memset(s, 0, sizeof *s);
  neap_context_retain(context);
  s->context = context;
  int status = neap_locks_init(&s->lock, &s->changed);
  if (status == NEAP_OK) status = neap_job_copy(context, options, &s->options);
  if (status == NEAP_OK) status = start(s);
  if (status != NEAP_OK)
    neap_scheduler_close(s);
  else
    *out = s;
  return status;
}

const char *neap_scheduler_uri(const neap_scheduler *scheduler) {
  return neap_service_uri(scheduler->service);
}

/* Over, and everybody has heard of it or is gone. */
static bool is_done(const neap_scheduler *s) {
  if (!s->roster->over || s->untold) return false;
  for (int i = s->roster->num_workers; i < s->num_members; i++)
    if (s->roster->nodes[i].state == NEAP_ALIVE && s->members[i].session && !s->members[i].down)
      return false;
  return true;
}

int neap_scheduler_wait(neap_scheduler *scheduler, double seconds) {
  pthread_mutex_lock(&scheduler->lock);
  double until = neap_now() + seconds;
  bool done = is_done(scheduler);
  while (!done && neap_cond_wait(&scheduler->changed, &scheduler->lock, seconds < 0 ? -1 : until))
    done = is_done(scheduler);
  pthread_mutex_unlock(&scheduler->lock);
  return done ? NEAP_OK : neap_fail(NEAP_ETIMEOUT, "the job is not over");
}

void neap_scheduler_close(neap_scheduler *s) {
  if (!s) return;
  neap_context *context = s->context;
  neap_ticker_stop(s->ticker);
  if (s->service) { /* its lock is there, too */
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_mutex_unlock(&s->lock);
  }
  for (int i = 0; s->members && i < s->num_members; i++) {
    pthread_mutex_lock(&s->lock);
    neap_session *session = s->members[i].session;
    s->members[i].session = NULL;
    pthread_mutex_unlock(&s->lock);
    if (!session) continue;
    neap_session_end(session, "the scheduler ends");
    neap_session_release(session);
  }
  neap_service_close(s->service);
  neap_ticker_close(s->ticker);
  neap_free(context, s->members, (size_t)s->num_members * sizeof *s->members);
  neap_roster_close(context, s->roster);
  neap_job_free(context, &s->options);
  pthread_cond_destroy(&s->changed);
  pthread_mutex_destroy(&s->lock);
  neap_free(context, s, sizeof *s);
  neap_context_release(context);
}
