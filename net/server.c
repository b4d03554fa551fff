/* SPDX-License-Identifier: MIT */
/* server.c - a server's life: it finds the scheduler, serves workers, and hands each message to the
 * file that knows what to do with it. See server_inside.h for the rules. */
#include "server_inside.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { CONTROL_MAX = 4 << 20 /* bytes of a script, a command, settings */ };

/* ---- Workers --------------------------------------------------------------------------------- */

static int state_of(const neap_server *server, int rank) {
  return neap_roster_worker(server->roster, rank)->state;
}

bool neap_server_counts(const neap_server *server, int rank) {
  int state = state_of(server, rank);
  return state != NEAP_LEFT &&
         !(state == NEAP_DIED && server->roster->policy == NEAP_LOST_CONTINUE);
}

bool neap_server_is_lost(const neap_server *server, int rank) {
  return state_of(server, rank) == NEAP_DIED && server->roster->policy == NEAP_LOST_FAIL;
}

void neap_server_reply(neap_server *server, int rank, uint64_t request, int status,
                       const char *text, const void *meta, size_t size) {
  neap_session *session = server->workers[rank].session;
  if (session) neap_session_reply(session, request, INT32_MAX, status, text, meta, size);
}

/* ---- Messages -------------------------------------------------------------------------------- */

const char *neap_server_handle(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  if (neap_server_is_admin(server, rank)) return neap_server_admin(server, rank, in, r);
  switch (in->frame.type) {
  case NEAP_M_PUSH:
    return neap_server_push(server, rank, in, r);
  case NEAP_M_PULL:
  case NEAP_M_PULL_ROWS:
    return neap_server_pull(server, rank, in, r);
  case NEAP_M_INIT:
    return neap_server_init(server, rank, in, r);
  case NEAP_M_DELETE:
    return neap_server_delete(server, rank, in, r);
  case NEAP_M_FENCE:
    server->workers[rank].hurried = neap_get_u8(r) != 0;
    if (!neap_reader_done(r)) return "a damaged FENCE";
    if (server->workers[rank].hurried) neap_server_hurry(server, rank);
    neap_server_reply(server, rank, in->frame.id, NEAP_OK, NULL, NULL, 0);
    return NULL;
  default:
    return neap_server_control(server, rank, in, r);
  }
}

/* What another server says. */
static const char *handle_server(neap_server *server, neap_session *session, neap_incoming *in,
                                 neap_reader *r) {
  if (in->frame.type == NEAP_M_SUM) return neap_server_sum(server, session, in, r);
  pthread_mutex_lock(&server->lock);
  const char *wrong = neap_split_message(server, in, r);
  pthread_mutex_unlock(&server->lock);
  if (!wrong) neap_session_reply(session, in->frame.id, 0, NEAP_OK, NULL, NULL, 0);
  return wrong;
}

void neap_server_payload_free(neap_server *server, server_payload *payload) {
  neap_array_close(payload->array);
  if (payload->block) neap_pool_put(server->context->pool, payload->block, payload->size);
  neap_free(server->context, payload, sizeof *payload);
}

static const char *on_message(void *user, neap_session *session, neap_incoming *in) {
  neap_server *server = user;
  neap_reader r;
  neap_reader_open(&r, in->meta, in->frame.meta);
  server_payload *payload = in->token;
  if (neap_session_hello(session)->role == NEAP_SERVER)
    return handle_server(server, session, in, &r);
  pthread_mutex_lock(&server->lock);
  server_worker *worker = neap_session_owner(session);
  const char *wrong = worker && worker->session == session
                          ? neap_server_handle(server, worker->rank, in, &r)
                          : "another process took its place";
  pthread_mutex_unlock(&server->lock);
  if (payload) neap_server_payload_free(server, payload);
  return wrong;
}

static void on_unplace(void *user, neap_session *session, neap_incoming *in) {
  (void)session;
  neap_server_payload_free(user, in->token);
}

const char *neap_server_place(neap_server *server, int rank, neap_incoming *in,
                              server_payload *payload) {
  neap_reader r;
  neap_reader_open(&r, in->meta, in->frame.meta);
  neap_key name;
  const server_key *key;
  switch (in->frame.type) {
  case NEAP_M_INIT:
  case NEAP_M_PUSH:
    return neap_server_place_value(server, rank, in, &r, payload);
  case NEAP_M_PULL_ROWS:
    neap_get_key(&r, &name);
    key = r.bad ? NULL : neap_keys_find(&server->keys, &name);
    if (!key || !key->info.ndim || in->frame.total / sizeof(int64_t) > (uint64_t)key->info.shape[0])
      return NULL;
    break;
  case NEAP_M_PUT_STATE:
    break;
  default:
    if (in->frame.total > CONTROL_MAX) return "too large a message of its kind";
  }
  payload->size = (size_t)in->frame.total;
  payload->block = neap_pool_get(server->context->pool, payload->size);
  return NULL;
}

static const char *on_place(void *user, neap_session *session, neap_incoming *in) {
  neap_server *server = user;
  if (neap_session_hello(session)->role == NEAP_SERVER) return "a large message of a server";
  server_payload *payload = neap_alloc(server->context, sizeof *payload);
  if (!payload) return "no memory";
  memset(payload, 0, sizeof *payload);
  pthread_mutex_lock(&server->lock);
  server_worker *worker = neap_session_owner(session);
  const char *wrong = worker && worker->session == session
                          ? neap_server_place(server, worker->rank, in, payload)
                          : "another process took its place";
  pthread_mutex_unlock(&server->lock);
  if (wrong) {
    neap_free(server->context, payload, sizeof *payload);
    return wrong;
  }
  in->token = payload;
  in->payload = payload->array ? neap_array_at_data(payload->array) : payload->block;
  return NULL;
}

int neap_server_take_array(neap_server *server, neap_incoming *in, const neap_array_info *info,
                           neap_array **out) {
  if (in->frame.total != (uint64_t)info->size * (uint64_t)info->itemsize)
    return neap_fail(NEAP_EFORMAT, "%llu bytes for an array of %lld elements",
                     (unsigned long long)in->frame.total, (long long)info->size);
  if (in->frame.total && !in->payload)
    return neap_fail(NEAP_ENOMEM, "the server has no memory for %llu bytes",
                     (unsigned long long)in->frame.total);
  server_payload *payload = in->token;
  if (payload && payload->array) {
    *out = payload->array;
    payload->array = NULL;
    return NEAP_OK;
  }
  NEAP_TRY(neap_array_new(server->context, info, out));
  if (in->frame.total) memcpy(neap_array_at_data(*out), in->payload, (size_t)in->frame.total);
  return NEAP_OK;
}

/* ---- Sessions -------------------------------------------------------------------------------- */

/* Another server calls, about a key that both have parts of. */
static int admit_server(neap_server *server, const neap_hello *hello, char *text, size_t size) {
  pthread_mutex_lock(&server->lock);
  bool known = server->roster && hello->rank >= 0 && hello->rank < server->roster->num_servers &&
               hello->incarnation >= neap_roster_server(server->roster, hello->rank)->incarnation;
  bool early = !server->roster;
  pthread_mutex_unlock(&server->lock);
  if (early) return NEAP_ETIMEOUT;
  if (!known) snprintf(text, size, "it is no server of this job");
  return known ? NEAP_OK : NEAP_EDENIED;
}

/* An admin calls: one at a time, so that what two of them do is not mixed up. */
static int admit_admin(neap_server *server, const neap_hello *hello, neap_session *session,
                       char *text, size_t size) {
  neap_session *old = NULL;
  int status = NEAP_OK;
  pthread_mutex_lock(&server->lock);
  server_worker *admin = server->roster ? &server->workers[server->roster->num_workers] : NULL;
  if (!admin) {
    status = NEAP_ETIMEOUT;
  } else if (admin->session && !(admin->down > 0)) {
    status = NEAP_EEXIST;
    snprintf(text, size, "somebody else is looking on or changing the optimizer");
  } else {
    old = admin->session;
    admin->session = session;
    admin->incarnation = hello->incarnation;
    admin->down = 0;
    admin->begun = admin->done = 0;
    neap_session_hold(session);
    neap_session_set_owner(session, admin);
  }
  pthread_mutex_unlock(&server->lock);
  if (old) {
    neap_session_end(old, "another process took its place");
    neap_session_release(old);
  }
  return status;
}

/* A worker calls (K5). */
static int on_admit(void *user, const neap_hello *hello, neap_session *session, char *text,
                    size_t size) {
  neap_server *server = user;
  neap_session *old = NULL;
  int status = NEAP_OK;
  if (hello->role == NEAP_SERVER) return admit_server(server, hello, text, size);
  if (hello->role == NEAP_ADMIN) return admit_admin(server, hello, session, text, size);
  pthread_mutex_lock(&server->lock);
  if (!server->roster || !neap_split_connect(server)) {
    status = NEAP_ETIMEOUT; /* the worker heard more from the scheduler than this server did */
  } else if (hello->rank < 0 || hello->rank >= server->roster->num_workers) {
    snprintf(text, size, "it is no worker of this job");
    status = NEAP_EDENIED;
  } else {
    server_worker *worker = &server->workers[hello->rank];
    const neap_node *node = neap_roster_worker(server->roster, hello->rank);
    bool gone = node->incarnation == hello->incarnation && node->state == NEAP_DIED;
    if (hello->incarnation < worker->incarnation || hello->incarnation < node->incarnation) {
      snprintf(text, size, "another process took the place of worker %d", hello->rank);
      status = NEAP_ELOST;
    } else if (gone) {
      snprintf(text, size, "worker %d was given up: no sign of life for %g s", hello->rank,
               server->options.timeout);
      status = NEAP_ELOST;
    } else {
      old = worker->session;
      if (old) neap_server_forget_worker(server, hello->rank);
      worker->session = session;
      worker->incarnation = hello->incarnation;
      worker->hurried = false;
      worker->down = 0;
      worker->begun = worker->done = 0;
      neap_session_hold(session);
      neap_session_set_owner(session, worker);
    }
  }
  pthread_mutex_unlock(&server->lock);
  if (old) {
    neap_session_end(old, "another process took its place");
    neap_session_release(old);
  }
  return status;
}

static void on_up(void *user, neap_session *session) {
  neap_server *server = user;
  pthread_mutex_lock(&server->lock);
  server_worker *worker = neap_session_owner(session);
  if (worker && worker->session == session) worker->down = 0;
  pthread_mutex_unlock(&server->lock);
}

static void on_down(void *user, neap_session *session) {
  neap_server *server = user;
  pthread_mutex_lock(&server->lock);
  server_worker *worker = neap_session_owner(session);
  if (worker && worker->session == session && !neap_session_is_up(session))
    worker->down = neap_now();
  pthread_cond_broadcast(&server->changed);
  pthread_mutex_unlock(&server->lock);
}

/* Ends the sessions of workers that were given up: if such a one is only late, it must not go on
 * where the others went on without it, or were told that it died. */
static void end_lost_sessions(neap_server *server) {
  for (int rank = 0;; rank++) {
    neap_session *session = NULL;
    pthread_mutex_lock(&server->lock);
    bool more = server->roster && rank < server->roster->num_workers;
    server_worker *worker = more ? &server->workers[rank] : NULL;
    if (worker && worker->session && state_of(server, rank) == NEAP_DIED &&
        neap_roster_worker(server->roster, rank)->incarnation == worker->incarnation) {
      session = worker->session;
      worker->session = NULL;
      neap_server_forget_worker(server, rank);
    }
    pthread_mutex_unlock(&server->lock);
    if (session) {
      neap_session_end(session, "it was given up");
      neap_session_release(session);
    }
    if (!more) return;
  }
}

/* ---- The scheduler --------------------------------------------------------------------------- */

int neap_server_make_workers(neap_server *server, int count) {
  count++; /* the admin */
  size_t size = (size_t)count * sizeof *server->workers;
  server->workers = neap_alloc(server->context, size);
  server->starting = neap_alloc(server->context, (size_t)count * sizeof *server->starting);
  if (!server->workers || !server->starting) {
    neap_free(server->context, server->workers, size);
    neap_free(server->context, server->starting, (size_t)count * sizeof *server->starting);
    server->workers = NULL;
    server->starting = NULL;
    return NEAP_ENOMEM;
  }
  memset(server->workers, 0, size);
  for (int i = 0; i < count; i++) server->workers[i].rank = i;
  return NEAP_OK;
}

/* Under the lock. */
static void take_roster(neap_server *server, neap_roster *roster) {
  neap_roster *old = server->roster;
  if ((old && (old->num_workers != roster->num_workers || old->version > roster->version)) ||
      (!old && neap_server_make_workers(server, roster->num_workers) != NEAP_OK)) {
    neap_roster_close(server->context, roster);
    return;
  }
  server->roster = roster;
  server->over = server->over || roster->over;
  neap_roster_close(server->context, old);
  (void)neap_split_connect(server);
  neap_server_recheck(server);
  pthread_cond_broadcast(&server->changed);
}

static void on_notice(void *user, neap_incoming *in) {
  neap_server *server = user;
  neap_roster *roster;
  if (in->frame.type != NEAP_M_ROSTER ||
      neap_roster_read(server->context, in->payload, (size_t)in->frame.total, &roster) != NEAP_OK)
    return;
  pthread_mutex_lock(&server->lock);
  take_roster(server, roster);
  pthread_mutex_unlock(&server->lock);
  end_lost_sessions(server);
}

static void on_lost(void *user, int status, const char *text) {
  neap_server *server = user;
  int level = status == NEAP_ECLOSED ? NEAP_LOG_DEBUG : NEAP_LOG_ERROR; /* this server's own end */
  neap_log(server->context, level, "server: %s", text);
  pthread_mutex_lock(&server->lock);
  server->fate = status;
  snprintf(server->fate_text, sizeof server->fate_text, "%s", text);
  pthread_cond_broadcast(&server->changed);
  pthread_mutex_unlock(&server->lock);
}

/* REGISTER, and the answer. */
typedef struct registering {
  neap_request request;
  neap_server *server;
  uint8_t meta[NEAP_URI_MAX + 64];
} registering;

static void registered(neap_request *request, int status, const char *text, neap_reader *meta,
                       neap_incoming *in) {
  neap_server *server = ((registering *)request)->server;
  (void)in;
  int rank = (int)neap_get_u32(meta);
  uint64_t incarnation = neap_get_u64(meta);
  if (status == NEAP_OK && !neap_reader_done(meta)) status = NEAP_EFORMAT;
  if (status != NEAP_OK) {
    on_lost(server, status, text);
    return;
  }
  neap_peer_set_rank(server->scheduler, rank);
  pthread_mutex_lock(&server->lock);
  server->rank = rank;
  server->registered = incarnation;
  if (server->roster) (void)neap_split_connect(server);
  pthread_cond_broadcast(&server->changed);
  pthread_mutex_unlock(&server->lock);
}

static void registering_free(neap_request *request) {
  registering *r = (registering *)request;
  neap_free(r->server->context, r, sizeof *r);
}

static int send_registration(neap_server *server) {
  registering *r = neap_alloc(server->context, sizeof *r);
  if (!r) return NEAP_ENOMEM;
  memset(r, 0, sizeof *r);
  r->server = server;
  neap_writer w;
  neap_writer_open(&w, r->meta, sizeof r->meta);
  neap_put_u32(&w, (uint32_t)server->options.num_workers);
  neap_put_u32(&w, (uint32_t)server->options.num_servers);
  neap_put_u8(&w, (unsigned)server->options.on_worker_lost);
  const char *reach = server->options.advertise_uri;
  neap_put_text(&w, reach ? reach : neap_service_uri(server->service));
  r->request = (neap_request){.done = registered, .free = registering_free};
  r->request.message.frame.type = NEAP_M_REGISTER;
  r->request.message.frame.meta = (uint32_t)neap_writer_size(&w);
  r->request.message.meta = r->meta;
  neap_peer_request(server->scheduler, &r->request);
  return NEAP_OK;
}

/* ---- Beginning and end ----------------------------------------------------------------------- */

/* Without a scheduler nobody else tells who died. */
static void watch_workers(neap_server *server, double now) {
  bool died = false;
  pthread_mutex_lock(&server->lock);
  for (int i = 0; server->fate && server->roster && i < server->roster->num_workers; i++) {
    const server_worker *worker = &server->workers[i];
    if (!worker->session || !(worker->down > 0) || now - worker->down < server->options.timeout / 2)
      continue;
    neap_roster_worker(server->roster, i)->state = NEAP_DIED;
    died = true;
  }
  if (died) neap_server_recheck(server);
  pthread_mutex_unlock(&server->lock);
  if (died) end_lost_sessions(server);
}

static void tick(void *user, double now) {
  neap_server *server = user;
  neap_service_tick(server->service, now);
  neap_peer_tick(server->scheduler, now);
  neap_split_tick(server, now);
  if (now - server->looked >= 1) {
    server->looked = now;
    neap_server_log_stalls(server, now);
  }
  watch_workers(server, now);
}

static int start(neap_server *server) {
  const neap_job_options *job = &server->options;
  char beside[NEAP_URI_MAX];
  if (!job->listen_uri) NEAP_TRY(neap_uri_beside(job->root_uri, beside));
  NEAP_TRY(neap_nonce(&server->incarnation, sizeof server->incarnation));
  NEAP_TRY(neap_ticker_create(server->context, 0.05, tick, server, &server->ticker));
  neap_service_options service = {.uri = job->listen_uri ? job->listen_uri : beside,
                                  .job = job,
                                  .timeout = job->timeout,
                                  .admit = on_admit,
                                  .up = on_up,
                                  .down = on_down,
                                  .place = on_place,
                                  .unplace = on_unplace,
                                  .message = on_message,
                                  .user = server,
                                  .ticker = server->ticker};
  NEAP_TRY(neap_service_create(server->context, &service, &server->service));
  NEAP_TRY(neap_split_start(server));
  NEAP_TRY(neap_joints_start(server));
  NEAP_TRY(neap_scripts_start(server));
  neap_peer_options peer = {.uri = job->root_uri,
                            .job = job,
                            .name = "the scheduler",
                            .hello = {.role = NEAP_SERVER,
                                      .rank = job->rank,
                                      .incarnation = server->incarnation,
                                      .lanes = 1},
                            .timeout = job->timeout,
                            .notice = on_notice,
                            .lost = on_lost,
                            .user = server,
                            .ticker = server->ticker};
  neap_host_name(peer.hello.host);
  NEAP_TRY(neap_peer_create(server->context, &peer, &server->scheduler));
  NEAP_TRY(send_registration(server));
  return neap_ticker_start(server->ticker);
}

int neap_server_start(neap_context *context, const neap_job_options *options, neap_server **out) {
  NEAP_TRY(neap_job_check(options, NEAP_SERVER));
  neap_server *server = neap_alloc(context, sizeof *server);
  if (!server) return NEAP_ENOMEM;
  memset(server, 0, sizeof *server);
  neap_context_retain(context);
  server->context = server->keys.context = context;
  server->rank = -1;
  int status = neap_locks_init(&server->lock, &server->changed);
  if (status == NEAP_OK) status = neap_job_copy(context, options, &server->options);
  if (status == NEAP_OK) status = start(server);
  if (status != NEAP_OK)
    neap_server_close(server);
  else
    *out = server;
  return status;
}

const char *neap_server_uri(const neap_server *server) {
  return neap_service_uri(server->service);
}

int neap_server_rank(const neap_server *server) {
  pthread_mutex_t *lock = (pthread_mutex_t *)&server->lock; /* a lock is no part of the value */
  pthread_mutex_lock(lock);
  int rank = server->rank;
  pthread_mutex_unlock(lock);
  return rank;
}

/* Under the lock: whether a worker is connected. */
static bool in_use(const neap_server *server) {
  bool used = false;
  for (int i = 0; server->roster && i < server->roster->num_workers; i++)
    used = used || (server->workers[i].session && !(server->workers[i].down > 0));
  return used;
}

int neap_server_wait(neap_server *server, double seconds) {
  double until = seconds < 0 ? -1 : neap_now() + seconds;
  pthread_mutex_lock(&server->lock);
  while (!server->over && !(server->fate && !in_use(server)) &&
         neap_cond_wait(&server->changed, &server->lock, until)) {
  }
  bool over = server->over;
  int fate = in_use(server) ? NEAP_OK : server->fate;
  pthread_mutex_unlock(&server->lock);
  if (over) return NEAP_OK;
  if (fate) return neap_fail(fate, "%s", server->fate_text);
  return neap_fail(NEAP_ETIMEOUT, "the job is not over");
}

void neap_server_close(neap_server *server) {
  if (!server) return;
  neap_context *context = server->context;
  neap_ticker_stop(server->ticker);
  neap_peer_close(server->scheduler);
  neap_split_disconnect(server);
  neap_joints_end(server);
  neap_scripts_close(server);
  for (int i = 0; server->workers && i <= server->roster->num_workers; i++) {
    pthread_mutex_lock(&server->lock);
    neap_session *session = server->workers[i].session;
    server->workers[i].session = NULL;
    pthread_mutex_unlock(&server->lock);
    if (!session) continue;
    neap_session_end(session, "the server ends");
    neap_session_release(session);
  }
  /* What the engine is still to send refers to sessions. */
  while (atomic_load(&server->answers) > 0)
    if (neap_poll(context, 1000) == 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  neap_service_close(server->service);
  neap_ticker_close(server->ticker);
  if (server->roster) {
    neap_server_drop_keys(server);
    for (int i = 0; i <= server->roster->num_workers; i++)
      neap_free(context, server->workers[i].text, server->workers[i].text_size);
    neap_free(context, server->workers,
              ((size_t)server->roster->num_workers + 1) * sizeof *server->workers);
    neap_free(context, server->starting,
              ((size_t)server->roster->num_workers + 1) * sizeof *server->starting);
  }
  neap_joints_close(server);
  neap_split_close(server);
  neap_roster_close(context, server->roster);
  neap_job_free(context, &server->options);
  pthread_cond_destroy(&server->changed);
  pthread_mutex_destroy(&server->lock);
  neap_free(context, server, sizeof *server);
  neap_context_release(context);
}
