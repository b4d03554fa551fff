/* SPDX-License-Identifier: MIT */
/* dist_control.c - a worker in its job: joining, leaving, barriers, and all calls that wait for an
 * answer: optimizers, settings, commands, states. */
#include "../engine/optimizer.h"
#include "dist_ask.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

extern const neap_store_ops neap_store_dist; /* store_dist.c */

enum { STALL = 10 /* seconds without an answer, for the log */ };

/* ---- What the scheduler and peers tell ------------------------------------------------------- */

static void on_roster(dist_store *store, neap_roster *roster) {
  pthread_mutex_lock(&store->lock);
  neap_roster *old = store->roster;
  if (store->num_servers == 0) store->num_servers = roster->num_servers; /* an observer asks */
  bool stale = roster->num_servers != store->num_servers || (old && old->version > roster->version);
  if (stale) {
    pthread_mutex_unlock(&store->lock);
    neap_roster_close(store->context, roster);
    return;
  }
  store->roster = roster;
  pthread_cond_broadcast(&store->changed);
  bool serving = store->servers && store->ready;
  pthread_mutex_unlock(&store->lock);
  neap_roster_close(store->context, old);
  if (!serving) return;
  for (int i = 0; i < store->num_servers; i++) {
    int state = neap_roster_server(roster, i)->state;
    if (state != NEAP_DIED && state != NEAP_LEFT) continue;
    char name[NEAP_NODE_TEXT], text[NEAP_NODE_TEXT + 64];
    snprintf(text, sizeof text, "%s %s", neap_node_text(roster, NEAP_SERVER, i, name),
             state == NEAP_DIED ? "died: no sign of life within the time-out" : "left the job");
    neap_peer_fail(store->servers[i], NEAP_ELOST, text);
  }
}

static void on_notice(void *user, neap_incoming *in) {
  dist_store *store = user;
  neap_roster *roster;
  if (in->frame.type != NEAP_M_ROSTER ||
      neap_roster_read(store->context, in->payload, (size_t)in->frame.total, &roster) != NEAP_OK)
    return;
  on_roster(store, roster);
}

static void on_up(void *user) {
  dist_store *store = user;
  pthread_mutex_lock(&store->lock);
  store->servers_up++;
  pthread_cond_broadcast(&store->changed);
  pthread_mutex_unlock(&store->lock);
}

static void on_lost(void *user, int status, const char *text) {
  dist_store *store = user;
  pthread_mutex_lock(&store->lock);
  int rank = store->rank;
  store->lost = true;
  pthread_cond_broadcast(&store->changed);
  pthread_mutex_unlock(&store->lock);
  if (status != NEAP_ECLOSED) /* by ourselves */
    neap_log(store->context, NEAP_LOG_ERROR, "worker %d: %s (%s)", rank, text,
             neap_status_name(status));
}

static void tick(void *user, double now) {
  dist_store *store = user;
  neap_peer_tick(store->scheduler, now);
  pthread_mutex_lock(&store->lock);
  bool ready = store->ready;
  pthread_mutex_unlock(&store->lock);
  for (int i = 0; ready && i < store->num_servers; i++) {
    int type;
    double since;
    neap_peer_tick(store->servers[i], now);
    if (neap_peer_stalled(store->servers[i], now, STALL, &type, &since))
      neap_log(
          store->context, NEAP_LOG_WARN,
          "worker %d: %s is not answered by server %d for %.0f s; kv:stats() tells who is late",
          store->rank, neap_message_name(type), i, since);
  }
}

/* ---- Joining --------------------------------------------------------------------------------- */

static int open_peer(dist_store *store, const char *uri, const char *name, uint64_t incarnation,
                     int lanes, neap_peer **out) {
  bool server = lanes > 1;
  neap_peer_options options = {.uri = uri,
                               .job = &store->job,
                               .name = name,
                               .hello = {.role = store->job.observer ? NEAP_ADMIN : NEAP_WORKER,
                                         .rank = server ? store->rank : store->job.rank,
                                         .incarnation = incarnation,
                                         .lanes = lanes},
                               .timeout = store->job.timeout,
                               .up = server ? on_up : NULL,
                               .notice = server ? NULL : on_notice,
                               .lost = on_lost,
                               .user = store,
                               .ticker = store->ticker};
  neap_host_name(options.hello.host);
  return neap_peer_create(store->context, &options, out);
}

static int say_hello(dist_store *store, double until) {
  neap_ask *c = neap_ask_new(store, NEAP_M_REGISTER);
  if (!c) return NEAP_ENOMEM;
  neap_put_u32(&c->w, (uint32_t)store->job.num_workers);
  neap_put_u32(&c->w, (uint32_t)store->job.num_servers);
  neap_put_u8(&c->w, (unsigned)store->job.on_worker_lost);
  neap_put_text(&c->w, "");
  neap_ask_send(store->scheduler, c);
  int status = neap_ask_wait(c, until);
  if (status == NEAP_OK) {
    neap_reader r;
    neap_reader_open(&r, c->meta, c->meta_size);
    pthread_mutex_lock(&store->lock);
    store->rank = (int)neap_get_u32(&r);
    store->incarnation = neap_get_u64(&r);
    pthread_mutex_unlock(&store->lock);
    if (!neap_reader_done(&r)) status = neap_fail(NEAP_EFORMAT, "a damaged answer to REGISTER");
  } else if (status == NEAP_ETIMEOUT) {
    status = neap_fail(NEAP_ETIMEOUT, "the scheduler at %s does not answer within %g s",
                       store->job.root_uri, store->job.timeout);
  }
  neap_ask_drop(c);
  return status;
}

/* Under the lock: whether all servers are there. */
static bool servers_known(const dist_store *store) {
  if (!store->roster) return false;
  for (int i = 0; i < store->num_servers; i++)
    if (neap_roster_server(store->roster, i)->state != NEAP_ALIVE) return false;
  return true;
}

static int servers_missing(const dist_store *store) {
  int there = 0;
  for (int i = 0; store->roster && i < store->num_servers; i++)
    there += neap_roster_server(store->roster, i)->state == NEAP_ALIVE;
  return neap_fail(NEAP_ETIMEOUT,
                   "%d of %d servers are not there after %g s; is the job started whole? "
                   "(neap launch -n %d -s %d)",
                   store->num_servers - there, store->num_servers, store->job.timeout,
                   store->job.num_workers, store->num_servers);
}

static int find_servers(dist_store *store, double until) {
  pthread_mutex_lock(&store->lock);
  while (!servers_known(store) && neap_cond_wait(&store->changed, &store->lock, until)) {
  }
  bool known = servers_known(store);
  int status = known ? NEAP_OK : servers_missing(store);
  for (int i = 0; i < store->num_servers && status == NEAP_OK; i++) {
    char name[32], uri[NEAP_URI_MAX];
    snprintf(name, sizeof name, "server %d", i);
    snprintf(uri, sizeof uri, "%s", neap_roster_server(store->roster, i)->uri);
    status = open_peer(store, uri, name, store->incarnation, NEAP_LANES, &store->servers[i]);
  }
  store->ready = status == NEAP_OK;
  pthread_mutex_unlock(&store->lock);
  neap_ticker_wake(store->ticker);
  return status;
}

static int wait_for_servers(dist_store *store, double until) {
  pthread_mutex_lock(&store->lock);
  while (store->servers_up < store->num_servers && !store->lost &&
         neap_cond_wait(&store->changed, &store->lock, until)) {
  }
  int up = store->servers_up;
  pthread_mutex_unlock(&store->lock);
  if (up >= store->num_servers) return NEAP_OK;
  /* A server that refuses says why to whoever asks it something. */
  for (int i = 0; i < store->num_servers; i++) {
    neap_ask *c = neap_ask_new(store, NEAP_M_GET_OPTIMIZER);
    if (!c) return NEAP_ENOMEM;
    neap_ask_send(store->servers[i], c);
    int status = neap_ask_wait(c, neap_now() + 0.2);
    neap_ask_drop(c);
    if (status != NEAP_OK && status != NEAP_ETIMEOUT) return status;
  }
  return neap_fail(NEAP_ETIMEOUT, "%d of %d servers cannot be reached after %g s",
                   store->num_servers - up, store->num_servers, store->job.timeout);
}

/* An observer hears from the scheduler what the job is. */
static int ask_size(dist_store *store, double until) {
  pthread_mutex_lock(&store->lock);
  while (!store->roster && neap_cond_wait(&store->changed, &store->lock, until)) {
  }
  bool known = store->roster;
  if (known) {
    store->job.num_workers = store->roster->num_workers;
    store->job.num_servers = store->num_servers;
  }
  pthread_mutex_unlock(&store->lock);
  return known ? NEAP_OK
               : neap_fail(NEAP_ETIMEOUT,
                           "the scheduler at %s does not tell who is there within "
                           "%g s",
                           store->job.root_uri, store->job.timeout);
}

static int make_room(dist_store *store) {
  size_t servers = (size_t)store->num_servers;
  store->servers = neap_alloc(store->context, servers * sizeof *store->servers);
  if (!store->servers) return NEAP_ENOMEM;
  memset(store->servers, 0, servers * sizeof *store->servers);
  store->answers = neap_alloc(store->context, servers * sizeof *store->answers);
  if (!store->answers) return NEAP_ENOMEM;
  memset(store->answers, 0, servers * sizeof *store->answers);
  store->answer_sizes = neap_alloc(store->context, servers * sizeof *store->answer_sizes);
  if (!store->answer_sizes) return NEAP_ENOMEM;
  memset(store->answer_sizes, 0, servers * sizeof *store->answer_sizes);
  return NEAP_OK;
}

int neap_dist_join(dist_store *store, const neap_job_options *job) {
  NEAP_TRY(neap_job_check(job, NEAP_WORKER));
  NEAP_TRY(neap_locks_init(&store->lock, &store->changed));
  if (pthread_mutex_init(&store->flow, NULL) || pthread_mutex_init(&store->calls, NULL))
    return neap_fail(NEAP_ENOMEM, "a lock cannot be made");
  NEAP_TRY(neap_job_copy(store->context, job, &store->job));
  store->rank = -1;
  if (!job->observer) store->num_servers = job->num_servers;
  uint64_t incarnation;
  NEAP_TRY(neap_nonce(&incarnation, sizeof incarnation));
  NEAP_TRY(neap_ticker_create(store->context, 0.05, tick, store, &store->ticker));
  NEAP_TRY(
      open_peer(store, store->job.root_uri, "the scheduler", incarnation, 1, &store->scheduler));
  NEAP_TRY(neap_ticker_start(store->ticker));
  double until = neap_now() + job->timeout;
  NEAP_TRY(say_hello(store, until + 1)); /* a scheduler that is away is told of before, and why */
  if (store->job.observer) NEAP_TRY(ask_size(store, until));
  NEAP_TRY(make_room(store));
  NEAP_TRY(find_servers(store, until));
  return wait_for_servers(store, until);
}

int neap_store_join(neap_context *context, const char *type, const neap_job_options *options,
                    neap_store **out) {
  if (!options) return neap_fail(NEAP_EINVAL, "neap_store_join: options are missing");
  return neap_store_make(context, type, options, out);
}

/* ---- Barriers and leaving -------------------------------------------------------------------- */

/* To all servers: pushes of ours are to be answered at once, whatever they wait for; or no more. */
int neap_dist_fence(dist_store *store, bool on) {
  int status = NEAP_OK;
  for (int i = 0; i < store->num_servers && status == NEAP_OK; i++) {
    neap_ask *c = neap_ask_new(store, NEAP_M_FENCE);
    if (!c) return NEAP_ENOMEM;
    neap_put_u8(&c->w, on);
    neap_ask_send(store->servers[i], c);
    status = neap_ask_wait(c, -1);
    neap_ask_drop(c);
  }
  return status;
}

/* Waits until all pushes are with the servers. */
static bool wait_pushes(dist_store *store, double seconds) {
  double until = seconds < 0 ? -1 : neap_now() + seconds;
  pthread_mutex_lock(&store->lock);
  while (atomic_load(&store->pushes) > 0 && neap_cond_wait(&store->changed, &store->lock, until)) {
  }
  bool none = atomic_load(&store->pushes) == 0;
  pthread_mutex_unlock(&store->lock);
  return none;
}

int neap_dist_settle(dist_store *store, bool *fenced) {
  *fenced = !wait_pushes(store, 0.005);
  if (!*fenced) return NEAP_OK;
  NEAP_TRY(neap_dist_fence(store, true));
  (void)wait_pushes(store, -1); /* a server that is lost answers, too: with an error */
  return NEAP_OK;
}

/* The first error of a push that servers refused, which is marked on its key's order. */
static int late_error(neap_store *base) {
  for (int i = 0;; i++) {
    neap_array *order = NULL;
    pthread_mutex_lock(&base->lock);
    const dist_entry *entry = neap_keys_value_at(&base->keys, i);
    int status = entry ? neap_array_share(entry->key->order, &order) : NEAP_OK;
    pthread_mutex_unlock(&base->lock);
    NEAP_TRY(status);
    if (!order) return NEAP_OK;
    status = neap_array_wait(order);
    neap_array_close(order);
    NEAP_TRY(status);
  }
}

int neap_dist_barrier(neap_store *base) {
  dist_store *store = dist_of(base);
  bool fenced;
  NEAP_TRY(neap_dist_settle(store, &fenced));
  NEAP_TRY(late_error(base));
  neap_ask *c = neap_ask_new(store, NEAP_M_BARRIER);
  if (!c) return NEAP_ENOMEM;
  pthread_mutex_lock(&store->calls);
  neap_put_u64(&c->w, ++store->barriers);
  pthread_mutex_unlock(&store->calls);
  neap_ask_send(store->scheduler, c);
  int status = neap_ask_wait(c, -1);
  neap_ask_drop(c);
  if (fenced && status == NEAP_OK) status = neap_dist_fence(store, false);
  return status;
}

/* Whatever is queued on the store's keys has been sent; errors are the past's. */
static void wait_for_work(neap_store *base) {
  for (int i = 0; i < base->keys.count; i++) {
    dist_entry *entry = neap_keys_value_at(&base->keys, i);
    (void)neap_var_wait(neap_array_var(entry->key->order));
  }
}

void neap_dist_leave(neap_store *base) {
  dist_store *store = dist_of(base);
  bool fenced;
  if (!atomic_load(&store->context->closed)) wait_for_work(base);
  if (neap_dist_settle(store, &fenced) != NEAP_OK)
    neap_log(store->context, NEAP_LOG_WARN, "worker %d: leaving: %s", store->rank, neap_error());
  neap_ask *c = neap_ask_new(store, NEAP_M_LEAVE);
  if (!c) return;
  neap_ask_send(store->scheduler, c);
  if (neap_ask_wait(c, neap_now() + (store->job.timeout < 5 ? store->job.timeout : 5)) != NEAP_OK)
    neap_log(store->context, NEAP_LOG_WARN, "worker %d: leaving: %s", store->rank, neap_error());
  neap_ask_drop(c);
}

void neap_dist_close(neap_store *base) {
  dist_store *store = dist_of(base);
  neap_context *context = store->context;
  if (!context) return; /* never began to join */
  /* Nobody is waited for any more: what is queued fails at once (D5). */
  for (int i = 0; store->servers && i < store->num_servers; i++)
    if (store->servers[i]) neap_peer_fail(store->servers[i], NEAP_ECLOSED, "the store was closed");
  while (atomic_load_explicit(&store->works, memory_order_acquire) > 0)
    if (neap_poll(context, 1000) == 0) nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
  neap_ticker_stop(store->ticker);
  neap_peer_close(store->scheduler);
  for (int i = 0; store->servers && i < store->num_servers; i++) {
    neap_peer_close(store->servers[i]);
    if (store->answers && store->answers[i])
      neap_free(context, store->answers[i], store->answer_sizes[i] + 1);
  }
  neap_ticker_close(store->ticker);
  size_t servers = (size_t)store->num_servers;
  neap_free(context, store->servers, servers * sizeof *store->servers);
  neap_free(context, store->answers, servers * sizeof *store->answers);
  neap_free(context, store->answer_sizes, servers * sizeof *store->answer_sizes);
  neap_roster_close(context, store->roster);
  neap_job_free(context, &store->job);
}

int neap_dist_delete(dist_store *store, dist_key *key) {
  (void)neap_array_wait(key->order);
  bool fenced;
  NEAP_TRY(neap_dist_settle(store, &fenced));
  int status = NEAP_OK;
  for (int i = 0; i < key->num_parts && status == NEAP_OK; i++) {
    neap_ask *c = neap_ask_new(store, NEAP_M_DELETE);
    if (!c) return NEAP_ENOMEM;
    neap_put_key(&c->w, &key->key);
    neap_put_u64(&c->w, key->parts[i].birth);
    neap_ask_send(store->servers[key->parts[i].server], c);
    status = neap_ask_wait(c, -1);
    neap_ask_drop(c);
  }
  return fenced && status == NEAP_OK ? neap_dist_fence(store, false) : status;
}

/* ---- Control calls --------------------------------------------------------------------------- */

int neap_dist_need(neap_store *store, const char *name, dist_store **out) {
  if (store->row->ops != &neap_store_dist)
    return neap_fail(NEAP_ENOTSUP, "%s: a '%s' store has no servers", name, store->row->name);
  *out = dist_of(store);
  return NEAP_OK;
}

/* The same numbered request to all servers at once; replies are kept in `calls`. Under
 * store->calls. All are waited for; the first failure counts. */
static int ask_all(dist_store *store, int type, const double *head, const void *bytes, size_t size,
                   neap_ask **calls) {
  uint64_t number = ++store->controls;
  int status = NEAP_OK;
  for (int i = 0; i < store->num_servers; i++) {
    calls[i] = neap_ask_new(store, type);
    if (!calls[i]) {
      status = NEAP_ENOMEM;
      break;
    }
    neap_put_u64(&calls[i]->w, number);
    if (head) neap_put_f64(&calls[i]->w, *head);
    neap_ask_payload(calls[i], bytes, size);
    neap_ask_send(store->servers[i], calls[i]);
  }
  for (int i = 0; i < store->num_servers && calls[i]; i++) {
    int one = neap_ask_wait(calls[i], -1);
    if (status == NEAP_OK) status = one;
  }
  return status;
}

/* Calls ask_all() and then `use` on each reply. The bytes belong to the caller of the library, and
 * all requests have been answered when this returns. */
static int ask(dist_store *store, int type, const double *head, const void *bytes, size_t size,
               int (*use)(dist_store *store, int server, neap_ask *reply, void *arg), void *arg) {
  size_t room = (size_t)store->num_servers * sizeof(neap_ask *);
  neap_ask **calls = neap_alloc(store->context, room);
  if (!calls) return NEAP_ENOMEM;
  memset(calls, 0, room);
  pthread_mutex_lock(&store->calls);
  int status = ask_all(store, type, head, bytes, size, calls);
  for (int i = 0; i < store->num_servers; i++) {
    if (!calls[i]) continue;
    if (status == NEAP_OK && use) status = use(store, i, calls[i], arg);
    neap_ask_drop(calls[i]);
  }
  pthread_mutex_unlock(&store->calls);
  neap_free(store->context, calls, room);
  return status;
}

static int use_version(dist_store *store, int server, neap_ask *reply, void *arg) {
  int64_t *version = arg;
  neap_reader r;
  (void)server;
  neap_reader_open(&r, reply->meta, reply->meta_size);
  *version = (int64_t)neap_get_u64(&r);
  if (!neap_reader_done(&r)) return neap_fail(NEAP_EFORMAT, "a damaged answer");
  atomic_store(&store->version, *version > INT32_MAX ? INT32_MAX : (int)*version);
  return NEAP_OK;
}

int neap_store_send_settings(neap_store *base, const char *settings, size_t size) {
  dist_store *store = NULL;
  NEAP_TRY(neap_dist_need(base, "set_hyper", &store));
  return ask(store, NEAP_M_SETTINGS, NULL, settings, size, NULL, NULL);
}

/* The optimizer that server 0 has; the reply belongs to the caller. */
static int get_optimizer(dist_store *store, int64_t *version, neap_ask **out) {
  neap_ask *c = neap_ask_new(store, NEAP_M_GET_OPTIMIZER);
  if (!c) return NEAP_ENOMEM;
  neap_ask_send(store->servers[0], c);
  int status = neap_ask_wait(c, -1);
  if (status == NEAP_OK) status = use_version(store, 0, c, version);
  if (status == NEAP_OK)
    *out = c;
  else
    neap_ask_drop(c);
  return status;
}

int neap_dist_check_optimizer(dist_store *store) {
  if (atomic_load_explicit(&store->version, memory_order_relaxed) > 0) return NEAP_OK;
  neap_ask *c;
  int64_t version = 0;
  NEAP_TRY(get_optimizer(store, &version, &c));
  neap_ask_drop(c);
  if (version > 0) return NEAP_OK;
  return neap_fail(NEAP_EINVAL, "push: a dist_async store needs an optimizer, as servers have no "
                                "rounds to sum over: call set_optimizer first");
}

/* Answers of control calls stay with the store until the next one. */
static int keep(dist_store *store, int i, const void *bytes, size_t size) {
  char *copy = neap_alloc(store->context, size + 1);
  if (!copy) return NEAP_ENOMEM;
  if (size) memcpy(copy, bytes, size);
  copy[size] = 0;
  if (store->answers[i]) neap_free(store->context, store->answers[i], store->answer_sizes[i] + 1);
  store->answers[i] = copy;
  store->answer_sizes[i] = size;
  return NEAP_OK;
}

int neap_store_get_optimizer(neap_store *base, const char **dump, size_t *size, int64_t *version) {
  dist_store *store = NULL;
  neap_ask *c;
  NEAP_TRY(neap_dist_need(base, "optimizer", &store));
  NEAP_TRY(get_optimizer(store, version, &c));
  pthread_mutex_lock(&store->calls);
  int status = keep(store, 0, c->payload, c->size);
  pthread_mutex_unlock(&store->calls);
  neap_ask_drop(c);
  if (status != NEAP_OK) return status;
  *dump = store->answers[0];
  *size = store->answer_sizes[0];
  return NEAP_OK;
}

int neap_store_optimizer_history(neap_store *base, const char **out) {
  dist_store *store = NULL;
  NEAP_TRY(neap_dist_need(base, "optimizer_history", &store));
  neap_ask *c = neap_ask_new(store, NEAP_M_HISTORY);
  if (!c) return NEAP_ENOMEM;
  neap_ask_send(store->servers[0], c);
  int status = neap_ask_wait(c, -1);
  pthread_mutex_lock(&store->calls);
  if (status == NEAP_OK) status = keep(store, 0, c->payload, c->size);
  pthread_mutex_unlock(&store->calls);
  neap_ask_drop(c);
  if (status == NEAP_OK) *out = store->answers[0];
  return status;
}

static int use_answer(dist_store *store, int server, neap_ask *reply, void *arg) {
  (void)arg;
  return keep(store, server, reply->payload, reply->size);
}

int neap_store_command(neap_store *base, double head, const char *body, size_t size,
                       const char **answers, size_t *sizes) {
  dist_store *store = NULL;
  NEAP_TRY(neap_dist_need(base, "send_command_to_servers", &store));
  NEAP_TRY(ask(store, NEAP_M_COMMAND, &head, body, size, use_answer, NULL));
  for (int i = 0; i < store->num_servers; i++) {
    answers[i] = store->answers[i];
    sizes[i] = store->answer_sizes[i];
  }
  return NEAP_OK;
}

/* ---- States ---------------------------------------------------------------------------------- */

/* The whole state that a part belongs to: rows [begin, end) of a key's. */
static int put_part(dist_store *store, neap_optimizer *to, const dist_key *key,
                    const dist_part *part, const char *name, const neap_array_info *info,
                    const neap_ask *reply) {
  neap_array *whole = NULL, *view = NULL;
  neap_array_info want = *info;
  bool scalars = strcmp(name, "scalars") == 0, split = key->num_parts > 1 && !scalars;
  if (split && (info->ndim == 0 || info->shape[0] != part->end - part->begin))
    return neap_fail(NEAP_EFORMAT, "state '%s' is not shaped like its key", name);
  if (split) NEAP_TRY(neap_shape_check("state", info->ndim, key->info.shape, &want));
  if (reply->size != (size_t)info->size * (size_t)info->itemsize)
    return neap_fail(NEAP_EFORMAT, "state '%s' came with another size", name);
  int status = NEAP_OK;
  neap_key found;
  const char *is;
  for (int i = 0; split && !whole; i++) { /* begun by another part? */
    if (neap_optimizer_state(to, i, &found, &is, &whole) != NEAP_OK) break;
    if (!neap_key_equal(&found, &key->key) || strcmp(is, name) != 0) {
      neap_array_close(whole);
      whole = NULL;
    }
  }
  bool fresh = !whole;
  if (fresh) status = neap_array_new(store->context, &want, &whole);
  if (status == NEAP_OK && split) status = neap_array_slice(whole, part->begin, part->end, &view);
  if (status == NEAP_OK)
    status = neap_array_write(split ? view : whole, reply->payload, reply->size);
  if (status == NEAP_OK && fresh) status = neap_optimizer_restore(to, &key->key, name, whole);
  neap_array_close(view);
  neap_array_close(whole);
  return status;
}

static dist_key *find_key(dist_store *store, const neap_key *key) {
  pthread_mutex_lock(&store->base.lock);
  dist_entry *entry = neap_keys_find(&store->base.keys, key);
  dist_key *found = entry ? neap_dist_key_hold(entry->key) : NULL;
  pthread_mutex_unlock(&store->base.lock);
  return found;
}

/* Takes one entry of server_states.c in. *more false: it was the last. */
static int take_state(dist_store *store, int server, const neap_ask *reply, neap_optimizer *to,
                      bool *more) {
  neap_reader r;
  neap_reader_open(&r, reply->meta, reply->meta_size);
  unsigned kind = neap_get_u8(&r);
  *more = kind != 0;
  if (kind == 't') {
    int64_t count = (int64_t)neap_get_u64(&r), is = 0;
    NEAP_TRY(neap_optimizer_count(to, NULL, &is));
    return count > is ? neap_optimizer_set_count(to, NULL, count) : NEAP_OK;
  }
  if (!kind) return NEAP_OK;
  neap_key key;
  char name[128];
  neap_array_info info;
  int64_t count = 0;
  neap_get_key(&r, &key);
  if (kind == 'a') {
    neap_get_text(&r, name, sizeof name);
    neap_get_info(&r, &info);
  } else {
    count = (int64_t)neap_get_u64(&r);
  }
  if (!neap_reader_done(&r)) return neap_fail(NEAP_EFORMAT, "a damaged state");
  dist_key *found = find_key(store, &key);
  if (!found) return NEAP_OK; /* not one of this worker's */
  int status = NEAP_OK;
  if (kind == 'c') status = neap_optimizer_set_count(to, &key, count);
  for (int i = 0; kind == 'a' && i < found->num_parts && status == NEAP_OK; i++)
    if (found->parts[i].server == server)
      status = put_part(store, to, found, &found->parts[i], name, &info, reply);
  neap_dist_key_drop(found);
  return status;
}

int neap_store_fetch_states(neap_store *base, neap_optimizer **out) {
  dist_store *store = NULL;
  NEAP_TRY(neap_dist_need(base, "save_optimizer_states", &store));
  neap_optimizer *to = NULL;
  NEAP_TRY(neap_optimizer_create(store->context, "states", &to));
  int status = NEAP_OK;
  for (int server = 0; server < store->num_servers && status == NEAP_OK; server++) {
    bool more = true;
    for (uint32_t index = 0; more && status == NEAP_OK; index++) {
      neap_ask *c = neap_ask_new(store, NEAP_M_GET_STATE);
      if (!c) status = NEAP_ENOMEM;
      if (!c) break;
      neap_put_u32(&c->w, index);
      neap_ask_send(store->servers[server], c);
      status = neap_ask_wait(c, -1);
      if (status == NEAP_OK) status = take_state(store, server, c, to, &more);
      neap_ask_drop(c);
    }
  }
  if (status == NEAP_OK)
    *out = to;
  else
    neap_optimizer_close(to);
  return status;
}

/* One entry to one server. */
static int put_state(dist_store *store, int server, unsigned kind, const neap_key *key,
                     const char *name, const neap_array_info *info, int64_t count,
                     const void *bytes, size_t size) {
  neap_ask *c = neap_ask_new(store, NEAP_M_PUT_STATE);
  if (!c) return NEAP_ENOMEM;
  neap_put_u8(&c->w, kind);
  if (kind != 't') neap_put_key(&c->w, key);
  if (kind == 'a') {
    neap_put_text(&c->w, name);
    neap_put_info(&c->w, info);
  } else {
    neap_put_u64(&c->w, (uint64_t)count);
  }
  neap_ask_payload(c, bytes, size);
  neap_ask_send(store->servers[server], c);
  int status = neap_ask_wait(c, -1);
  neap_ask_drop(c);
  return status;
}

static int send_parts(dist_store *store, const dist_key *key, const char *name, neap_array *array) {
  void *data;
  const neap_array_info *info = neap_array_get_info(array);
  NEAP_TRY(neap_array_data(array, &data));
  bool scalars = strcmp(name, "scalars") == 0;
  char text[NEAP_KEY_TEXT];
  if (!scalars && !neap_same_shape(info, &key->info))
    return neap_fail(NEAP_ESHAPE, "load_optimizer_states: state '%s' of %s has another shape", name,
                     neap_key_text(&key->key, text));
  size_t bytes = (size_t)info->size * (size_t)info->itemsize;
  for (int i = 0; i < key->num_parts; i++) {
    const dist_part *part = &key->parts[i];
    neap_array_info is = *info;
    size_t offset = 0, size = bytes;
    if (!scalars && key->num_parts > 1) {
      is.shape[0] = part->end - part->begin;
      offset = (size_t)part->begin * (bytes / (size_t)key->info.shape[0]);
      size = (size_t)is.shape[0] * (bytes / (size_t)key->info.shape[0]);
    }
    NEAP_TRY(put_state(store, part->server, 'a', &key->key, name, &is, 0,
                       (const char *)data + offset, size));
  }
  return NEAP_OK;
}

static int send_counts(dist_store *store, neap_optimizer *optimizer) {
  for (int i = 0;; i++) {
    pthread_mutex_lock(&store->base.lock);
    dist_entry *entry = neap_keys_value_at(&store->base.keys, i);
    dist_key *key = entry ? neap_dist_key_hold(entry->key) : NULL;
    pthread_mutex_unlock(&store->base.lock);
    if (!key) break;
    int64_t count = 0;
    int status = neap_optimizer_count(optimizer, &key->key, &count);
    for (int k = 0; k < key->num_parts && status == NEAP_OK && count > 0; k++)
      status = put_state(store, key->parts[k].server, 'c', &key->key, NULL, NULL, count, NULL, 0);
    neap_dist_key_drop(key);
    NEAP_TRY(status);
  }
  int64_t count = 0;
  NEAP_TRY(neap_optimizer_count(optimizer, NULL, &count));
  for (int server = 0; server < store->num_servers; server++)
    NEAP_TRY(put_state(store, server, 't', NULL, NULL, NULL, count, NULL, 0));
  return NEAP_OK;
}

int neap_store_send_states(neap_store *base, neap_optimizer *optimizer) {
  dist_store *store = NULL;
  NEAP_TRY(neap_dist_need(base, "load_optimizer_states", &store));
  neap_key key;
  const char *name;
  neap_array *array;
  for (int i = 0; neap_optimizer_state(optimizer, i, &key, &name, &array) == NEAP_OK; i++) {
    dist_key *found = find_key(store, &key);
    int status = found ? send_parts(store, found, name, array) : NEAP_OK;
    neap_dist_key_drop(found);
    neap_array_close(array);
    NEAP_TRY(status);
  }
  return send_counts(store, optimizer);
}

/* ---- What is going on ------------------------------------------------------------------------ */

int neap_store_stats(neap_store *base, const char **out) {
  dist_store *store = NULL;
  NEAP_TRY(neap_dist_need(base, "stats", &store));
  enum { SIZE = 64 << 10 };
  char *text = neap_alloc(store->context, SIZE);
  if (!text) return NEAP_ENOMEM;
  size_t used = 0;
  int status = NEAP_OK;
  for (int i = 0; i < store->num_servers && status == NEAP_OK; i++) {
    uint64_t requests, received, sent;
    neap_peer_counts(store->servers[i], &requests, &received, &sent);
    used += (size_t)snprintf(text + used, SIZE - used,
                             "server %d\nrequests %" PRIu64 "\nbytes_received %" PRIu64
                             "\nbytes_sent %" PRIu64 "\n",
                             i, requests, received, sent);
    neap_ask *c = neap_ask_new(store, NEAP_M_STATS);
    if (!c) status = NEAP_ENOMEM;
    if (!c) break;
    neap_ask_send(store->servers[i], c);
    status = neap_ask_wait(c, -1);
    size_t more = status == NEAP_OK ? c->size : 0;
    if (more > SIZE - used - 256) more = SIZE - used - 256;
    if (more) memcpy(text + used, c->payload, more);
    used += more;
    neap_ask_drop(c);
  }
  pthread_mutex_lock(&store->calls);
  if (status == NEAP_OK) status = keep(store, 0, text, used);
  pthread_mutex_unlock(&store->calls);
  neap_free(store->context, text, SIZE);
  if (status == NEAP_OK) *out = store->answers[0];
  return status;
}
