/* SPDX-License-Identifier: MIT */
/* server_scripts.c - control requests of workers: optimizers, settings, states, commands.
 *
 * What runs a script takes time and a large stack, so it has a thread of its own, which takes jobs
 * from a queue. Only that thread calls options.scripts. It works on copies, without server->lock,
 * and puts the result in place under it: between two updates of each key, since those are queued
 * under the same lock.
 *
 * A worker numbers its control requests. One that comes a second time is not done again: its reply
 * is the one that was kept. */
#include "server_inside.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { STACK = 128 << 20, ERROR = 4096 };

typedef struct job {
  struct job *next;
  int type; /* of the message; NEAP_M_INIT: bind a new key */
  int rank;
  uint64_t request, number;
  double head;    /* COMMAND */
  uint64_t birth; /* NEAP_M_INIT */
  neap_key key;   /* its text is `bytes` */
  size_t size;
  char bytes[]; /* ended by a zero byte that size does not count */
} job;

struct neap_server_scripts {
  pthread_t thread;
  bool started, closing;
  pthread_cond_t wake;
  job *jobs, **jobs_end;         /* for the thread */
  job *commands, **commands_end; /* for the host's controller */
  pthread_cond_t command;
  /* The thread's own; `dump` under server->lock. */
  void *script;
  char *dump;
  size_t dump_size;
};

static void free_job(neap_server *server, job *j) {
  neap_free(server->context, j, sizeof *j + j->size + 1);
}

static job *make_job(neap_server *server, int type, int rank, uint64_t request, const void *bytes,
                     size_t size) {
  job *j = neap_alloc(server->context, sizeof *j + size + 1);
  if (!j) return NULL;
  memset(j, 0, sizeof *j);
  j->type = type;
  j->rank = rank;
  j->request = request;
  j->size = size;
  if (size) memcpy(j->bytes, bytes, size);
  j->bytes[size] = 0;
  return j;
}

/* ---- Replies (under the lock) ---------------------------------------------------------------- */

typedef struct bytes_reply {
  neap_message message;
  neap_context *context;
  size_t size;
  uint8_t meta[NEAP_META_MAX];
  char bytes[];
} bytes_reply;

static void bytes_done(neap_message *message, bool sent) {
  bytes_reply *reply = (bytes_reply *)message;
  (void)sent;
  neap_free(reply->context, reply, reply->size);
}

void neap_server_reply_bytes(neap_server *server, int rank, uint64_t request, int64_t number,
                             const void *bytes, size_t size) {
  neap_session *session = server->workers[rank].session;
  if (!session) return;
  bytes_reply *reply = neap_alloc(server->context, sizeof *reply + size);
  if (!reply) {
    neap_server_reply(server, rank, request, NEAP_ENOMEM, "no memory", NULL, 0);
    return;
  }
  neap_writer w;
  neap_writer_open(&w, reply->meta, sizeof reply->meta);
  neap_put_u32(&w, NEAP_OK);
  neap_put_text(&w, NULL);
  neap_put_u64(&w, (uint64_t)number);
  if (size) memcpy(reply->bytes, bytes, size);
  reply->context = server->context;
  reply->size = sizeof *reply + size;
  reply->message = (neap_message){
      .frame = {.type = NEAP_M_REPLY, .id = request, .meta = (uint32_t)neap_writer_size(&w)},
      .meta = reply->meta,
      .payload = {reply->bytes},
      .sizes = {size},
      .done = bytes_done};
  neap_session_send(session, &reply->message);
}

/* The reply to the worker's last control request, once more. */
static void reply_kept(neap_server *server, int rank, uint64_t request) {
  const server_worker *worker = &server->workers[rank];
  if (worker->status != NEAP_OK)
    neap_server_reply(server, rank, request, worker->status, worker->text ? worker->text : "", NULL,
                      0);
  else
    neap_server_reply_bytes(server, rank, request, worker->version, worker->text,
                            worker->text_size ? worker->text_size - 1 : 0);
}

/* Keeps and sends the reply to a numbered request. */
static void finish(neap_server *server, const job *j, int status, const char *text, size_t size) {
  server_worker *worker = &server->workers[j->rank];
  if (worker->begun != j->number) return; /* of an earlier process of this rank */
  neap_free(server->context, worker->text, worker->text_size);
  worker->text = neap_alloc(server->context, size + 1);
  worker->text_size = worker->text ? size + 1 : 0;
  if (worker->text) {
    if (size) memcpy(worker->text, text, size);
    worker->text[size] = 0;
  }
  worker->status = status;
  worker->version = server->version;
  worker->done = j->number;
  reply_kept(server, j->rank, j->request);
}

/* ---- Binding (on the scripts' thread) -------------------------------------------------------- */

/* A key to bind, copied out of the table. */
typedef struct binding {
  neap_key key;
  neap_array_info whole;
  int stype, parts;
  uint64_t birth;
  char *errors[2];
  char text[NEAP_KEY_LENGTH + 1];
} binding;

static void copy_binding(const server_key *key, binding *b) {
  b->key = *key->key;
  if (b->key.text) {
    memcpy(b->text, key->key->text, key->key->length);
    b->key.text = b->text;
  }
  b->whole = key->whole;
  b->stype = key->info.stype;
  b->parts = key->parts;
  b->birth = key->birth;
  b->errors[0] = b->errors[1] = NULL;
}

/* Records the script for both kinds of gradient. The status is that of the key's own kind; what is
 * wrong with the other matters only when such a gradient comes. */
static int bind_both(neap_server *server, void *script, neap_optimizer *optimizer, binding *b,
                     char *error, size_t size) {
  const neap_scripts *scripts = server->options.scripts;
  int result = NEAP_OK;
  for (int stype = 0; stype < 2; stype++) {
    char text[ERROR] = "";
    if (stype == NEAP_ROW_SPARSE && b->whole.ndim == 0) continue;
    int status = scripts->bind(scripts->user, script, &b->key, &b->whole, stype, text, sizeof text);
    if (status == NEAP_OK && !neap_optimizer_bound(optimizer, &b->key, stype)) {
      status = NEAP_EFAILED;
      snprintf(text, sizeof text, "no program came out of the script");
    }
    int passes = status == NEAP_OK ? neap_optimizer_passes(optimizer, &b->key, stype) : 0;
    if (b->parts > 1 && passes > NEAP_PROGRAM_PASSES) {
      status = NEAP_ENOTSUP;
      snprintf(text, sizeof text,
               "sums over the whole key that depend on each other, %d deep, where the key is "
               "split over servers; up to %d are possible: raise bigarray_bound "
               "(NEAP_BIGARRAY_BOUND) so that it is not split",
               passes - 1, NEAP_PROGRAM_PASSES - 1);
    }
    if (status == NEAP_OK) continue;
    b->errors[stype] = neap_strdup(server->context, text);
    if (stype != b->stype) continue;
    result = status;
    snprintf(error, size, "%s", text);
  }
  return result;
}

static void set_errors(neap_server *server, server_key *key, binding *b) {
  for (int i = 0; i < 2; i++) {
    if (key->unbound[i]) neap_free(server->context, key->unbound[i], strlen(key->unbound[i]) + 1);
    key->unbound[i] = b->errors[i];
    b->errors[i] = NULL;
  }
}

static void free_errors(neap_server *server, binding *b) {
  for (int i = 0; i < 2; i++)
    if (b->errors[i]) neap_free(server->context, b->errors[i], strlen(b->errors[i]) + 1);
}

/* All keys that were born after *birth, one after the other. */
static bool next_binding(neap_server *server, uint64_t *birth, binding *b) {
  bool found = false;
  pthread_mutex_lock(&server->lock);
  for (int i = 0; i < server->keys.count && !found; i++) { /* they stand in the order of birth */
    const server_key *key = neap_keys_value_at(&server->keys, i);
    if (key->birth <= *birth) continue;
    copy_binding(key, b);
    *birth = key->birth;
    found = true;
  }
  pthread_mutex_unlock(&server->lock);
  return found;
}

/* The errors of bindings, by birth, until they are put in place. */
typedef struct kept_errors {
  struct kept_errors *next;
  binding b;
} kept_errors;

static void place_errors(neap_server *server, kept_errors *kept, bool place) {
  while (kept) {
    kept_errors *k = kept;
    kept = k->next;
    server_key *key = place ? neap_keys_find(&server->keys, &k->b.key) : NULL;
    if (key && key->birth == k->b.birth) set_errors(server, key, &k->b);
    free_errors(server, &k->b);
    neap_free(server->context, k, sizeof *k);
  }
}

/* Binds every key there is, and returns with the lock held when none is left. */
static int bind_all(neap_server *server, void *script, neap_optimizer *optimizer,
                    kept_errors **kept, char *error, size_t size) {
  uint64_t birth = 0;
  for (;;) {
    kept_errors *k = neap_alloc(server->context, sizeof *k);
    if (!k) {
      snprintf(error, size, "no memory");
      pthread_mutex_lock(&server->lock);
      return NEAP_ENOMEM;
    }
    int status = NEAP_OK;
    bool any = next_binding(server, &birth, &k->b);
    if (any) {
      status = bind_both(server, script, optimizer, &k->b, error, size);
      k->next = *kept;
      *kept = k;
    } else {
      neap_free(server->context, k, sizeof *k);
    }
    if (any && status == NEAP_OK) continue;
    pthread_mutex_lock(&server->lock);
    if (status != NEAP_OK || birth == server->births || server->keys.count == 0) return status;
    const server_key *last = neap_keys_value_at(&server->keys, server->keys.count - 1);
    if (last->birth <= birth) return status;
    pthread_mutex_unlock(&server->lock);
  }
}

/* ---- Jobs (on the scripts' thread) ----------------------------------------------------------- */

static int set_dump(neap_server *server, const job *j) {
  neap_server_scripts *s = server->scripts;
  char *dump = neap_alloc(server->context, j->size + 1);
  if (!dump) return NEAP_ENOMEM;
  memcpy(dump, j->bytes, j->size + 1);
  neap_free(server->context, s->dump, s->dump_size);
  s->dump = dump;
  s->dump_size = j->size + 1;
  return NEAP_OK;
}

/* Under the lock: the new optimizer takes the old one's place; nothing changes on failure. */
static int exchange(neap_server *server, const job *j, void *script, neap_optimizer *optimizer,
                    void **old_script, neap_optimizer **old) {
  if (server->optimizer) NEAP_TRY(neap_optimizer_carry_over(server->optimizer, optimizer));
  NEAP_TRY(set_dump(server, j));
  *old_script = server->scripts->script;
  *old = server->optimizer;
  server->scripts->script = script;
  server->optimizer = optimizer;
  server->version++;
  return NEAP_OK;
}

static void run_optimizer(neap_server *server, job *j) {
  const neap_scripts *scripts = server->options.scripts;
  char error[ERROR] = "";
  void *script = NULL;
  neap_optimizer *optimizer = NULL;
  kept_errors *kept = NULL;
  int status = scripts->open(scripts->user, server->context, j->bytes, j->size, &script, &optimizer,
                             error, sizeof error);
  if (status == NEAP_OK)
    status = bind_all(server, script, optimizer, &kept, error, sizeof error);
  else
    pthread_mutex_lock(&server->lock);
  void *old_script = script;
  neap_optimizer *old = optimizer;
  if (status == NEAP_OK) {
    status = exchange(server, j, script, optimizer, &old_script, &old);
    if (status != NEAP_OK) snprintf(error, sizeof error, "%s", neap_error());
  }
  place_errors(server, kept, status == NEAP_OK);
  if (status == NEAP_OK)
    neap_log(server->context, NEAP_LOG_INFO, "server %d: optimizer, version %lld, from worker %d",
             server->rank, (long long)server->version, j->rank);
  else
    neap_log(server->context, NEAP_LOG_WARN, "server %d: refused an optimizer of worker %d: %s",
             server->rank, j->rank, error);
  finish(server, j, status, status ? error : "", status ? strlen(error) : 0);
  pthread_mutex_unlock(&server->lock);
  if (old_script) scripts->close(scripts->user, old_script);
  neap_optimizer_close(old);
}

static void run_settings(neap_server *server, job *j) {
  const neap_scripts *scripts = server->options.scripts;
  neap_server_scripts *s = server->scripts;
  char error[ERROR] = "set_hyper: the servers have no optimizer: set_optimizer first";
  kept_errors *kept = NULL;
  int status = NEAP_EINVAL;
  if (s->script) {
    error[0] = 0;
    status = scripts->set(scripts->user, s->script, j->bytes, j->size, error, sizeof error);
  }
  if (status == NEAP_OK)
    status = bind_all(server, s->script, server->optimizer, &kept, error, sizeof error);
  else
    pthread_mutex_lock(&server->lock);
  place_errors(server, kept, status == NEAP_OK);
  finish(server, j, status, status ? error : "", status ? strlen(error) : 0);
  pthread_mutex_unlock(&server->lock);
}

static void run_bind(neap_server *server, job *j) {
  binding b;
  char error[ERROR];
  pthread_mutex_lock(&server->lock);
  server_key *key = neap_keys_find(&server->keys, &j->key);
  bool there = key && key->birth == j->birth;
  if (there) copy_binding(key, &b);
  pthread_mutex_unlock(&server->lock);
  if (!there) return;
  (void)bind_both(server, server->scripts->script, server->optimizer, &b, error, sizeof error);
  pthread_mutex_lock(&server->lock);
  key = neap_keys_find(&server->keys, &j->key);
  if (key && key->birth == j->birth) {
    set_errors(server, key, &b);
    neap_server_init_reply(server, j->rank, j->request, key);
  }
  pthread_mutex_unlock(&server->lock);
  free_errors(server, &b);
}

static void *run(void *arg) {
  neap_server *server = arg;
  neap_server_scripts *s = server->scripts;
  pthread_mutex_lock(&server->lock);
  while (!s->closing) {
    job *j = s->jobs;
    if (!j) {
      pthread_cond_wait(&s->wake, &server->lock);
      continue;
    }
    s->jobs = j->next;
    if (!s->jobs) s->jobs_end = &s->jobs;
    pthread_mutex_unlock(&server->lock);
    if (j->type == NEAP_M_OPTIMIZER)
      run_optimizer(server, j);
    else if (j->type == NEAP_M_SETTINGS)
      run_settings(server, j);
    else
      run_bind(server, j);
    free_job(server, j);
    pthread_mutex_lock(&server->lock);
  }
  pthread_mutex_unlock(&server->lock);
  return NULL;
}

int neap_scripts_start(neap_server *server) {
  neap_server_scripts *s = neap_alloc(server->context, sizeof *s);
  if (!s) return NEAP_ENOMEM;
  memset(s, 0, sizeof *s);
  s->jobs_end = &s->jobs;
  s->commands_end = &s->commands;
  server->scripts = s;
  pthread_mutex_t unused;
  NEAP_TRY(neap_locks_init(&unused, &s->wake));
  NEAP_TRY(neap_locks_init(&unused, &s->command));
  if (!server->options.scripts) return NEAP_OK;
  pthread_attr_t attributes;
  bool ok = pthread_attr_init(&attributes) == 0;
  if (ok) {
    ok = pthread_attr_setstacksize(&attributes, STACK) == 0 &&
         pthread_create(&s->thread, &attributes, run, server) == 0;
    pthread_attr_destroy(&attributes);
  }
  if (!ok) return neap_fail(NEAP_ENOMEM, "a thread for scripts cannot be started");
  s->started = true;
  return NEAP_OK;
}

static void free_jobs(neap_server *server, job *j) {
  while (j) {
    job *next = j->next;
    free_job(server, j);
    j = next;
  }
}

void neap_scripts_close(neap_server *server) {
  neap_server_scripts *s = server->scripts;
  if (!s) return;
  pthread_mutex_lock(&server->lock);
  s->closing = true;
  pthread_cond_signal(&s->wake);
  pthread_mutex_unlock(&server->lock);
  if (s->started) pthread_join(s->thread, NULL);
  const neap_scripts *scripts = server->options.scripts;
  if (s->script) scripts->close(scripts->user, s->script);
  pthread_mutex_lock(&server->lock);
  neap_optimizer *optimizer = server->optimizer;
  server->optimizer = NULL;
  server->scripts = NULL;
  pthread_mutex_unlock(&server->lock);
  neap_optimizer_close(optimizer);
  free_jobs(server, s->jobs);
  free_jobs(server, s->commands);
  neap_free(server->context, s->dump, s->dump_size);
  pthread_cond_destroy(&s->wake);
  pthread_cond_destroy(&s->command);
  neap_free(server->context, s, sizeof *s);
}

bool neap_scripts_active(const neap_server *server) {
  return server->optimizer != NULL;
}

static void give(neap_server *server, job *j) {
  neap_server_scripts *s = server->scripts;
  *s->jobs_end = j;
  s->jobs_end = &j->next;
  pthread_cond_signal(&s->wake);
}

bool neap_scripts_bind(neap_server *server, int rank, uint64_t request, server_key *key) {
  if (!server->scripts) return false;
  job *j = make_job(server, NEAP_M_INIT, rank, request, key->key->text, key->key->length);
  if (!j) return false;
  j->key = *key->key;
  if (j->key.text) j->key.text = j->bytes;
  j->birth = key->birth;
  give(server, j);
  return true;
}

/* ---- Messages (under the lock) --------------------------------------------------------------- */

/* A request that must be done once. */
static const char *numbered(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  server_worker *worker = &server->workers[rank];
  uint64_t number = neap_get_u64(r);
  double head = in->frame.type == NEAP_M_COMMAND ? neap_get_f64(r) : 0;
  if (!neap_reader_done(r) || (in->frame.total && !in->payload)) return "a damaged request";
  if (number == worker->done && worker->done) {
    reply_kept(server, rank, in->frame.id);
    return NULL;
  }
  if (number == worker->begun && worker->begun != worker->done) return NULL; /* being done */
  if (number < worker->begun) return "a request out of its order";
  bool command = in->frame.type == NEAP_M_COMMAND;
  if (command ? !server->options.controller : !server->options.scripts) {
    neap_server_reply(server, rank, in->frame.id, NEAP_ENOTSUP,
                      command ? "send_command_to_servers: the server has no controller"
                              : "set_optimizer: the server runs no scripts (it was started without "
                                "Lua): start it by 'neap server' or neap.server.start",
                      NULL, 0);
    return NULL;
  }
  job *j =
      make_job(server, in->frame.type, rank, in->frame.id, in->payload, (size_t)in->frame.total);
  if (!j) return "no memory";
  j->number = number;
  j->head = head;
  worker->begun = number;
  if (command) {
    *server->scripts->commands_end = j;
    server->scripts->commands_end = &j->next;
    pthread_cond_signal(&server->scripts->command);
  } else {
    give(server, j);
  }
  return NULL;
}

static const char *get_optimizer(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  if (!neap_reader_done(r)) return "a damaged request";
  const neap_server_scripts *s = server->scripts;
  bool is = server->optimizer && s;
  neap_server_reply_bytes(server, rank, in->frame.id, is ? server->version : 0, is ? s->dump : NULL,
                          is ? s->dump_size - 1 : 0);
  return NULL;
}

const char *neap_server_control(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  switch (in->frame.type) {
  case NEAP_M_OPTIMIZER:
  case NEAP_M_SETTINGS:
  case NEAP_M_COMMAND:
    return numbered(server, rank, in, r);
  case NEAP_M_GET_OPTIMIZER:
    return get_optimizer(server, rank, in, r);
  case NEAP_M_GET_STATE:
    return neap_server_get_state(server, rank, in, r);
  case NEAP_M_PUT_STATE:
    return neap_server_put_state(server, rank, in, r);
  case NEAP_M_STATS:
    return neap_server_stats(server, rank, in, r);
  default:
    return "a message that is not for a server";
  }
}

/* ---- Commands (the host's threads) ----------------------------------------------------------- */

int neap_server_command(neap_server *server, double seconds, double *head, const char **body,
                        size_t *size) {
  neap_server_scripts *s = server->scripts;
  double until = seconds < 0 ? -1 : neap_now() + seconds;
  pthread_mutex_lock(&server->lock);
  while (!s->commands && neap_cond_wait(&s->command, &server->lock, until)) {
  }
  job *j = s->commands;
  pthread_mutex_unlock(&server->lock);
  if (!j) return neap_fail(NEAP_ETIMEOUT, "no command came");
  *head = j->head;
  *body = j->bytes;
  *size = j->size;
  return NEAP_OK;
}

int neap_server_answer(neap_server *server, const char *answer, size_t size) {
  neap_server_scripts *s = server->scripts;
  pthread_mutex_lock(&server->lock);
  job *j = s->commands;
  if (j) {
    s->commands = j->next;
    if (!s->commands) s->commands_end = &s->commands;
    finish(server, j, NEAP_OK, answer, size);
  }
  pthread_mutex_unlock(&server->lock);
  if (!j) return neap_fail(NEAP_EINVAL, "neap_server_answer: there is no command to answer");
  free_job(server, j);
  return NEAP_OK;
}
