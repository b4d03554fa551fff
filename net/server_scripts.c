/* SPDX-License-Identifier: MIT */
/* server_scripts.c - control requests of workers: optimizers, settings, states, commands.
 *
 * What runs a script takes time and a large stack, so it has a thread of its own, which takes jobs
 * from a queue. Only that thread calls options.scripts. It works on copies, without server->lock,
 * and puts the result in place under it: between two updates of each key, since those are queued
 * under the same lock. How optimizers come in is told in server_swap.c.
 *
 * A worker numbers its control requests. One that comes a second time is not done again: its reply
 * is the one that was kept. */
#include "server_jobs.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { STACK = 128 << 20, ERROR = NEAP_SCRIPT_ERROR };

#define SETTINGS_WAIT 1.0 /* seconds */

static void free_job(neap_server *server, server_job *j) {
  neap_free(server->context, j, sizeof *j + j->size + 1);
}

static server_job *make_job(neap_server *server, int type, int rank, uint64_t request,
                            const void *bytes, size_t size) {
  server_job *j = neap_alloc(server->context, sizeof *j + size + 1);
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
void neap_job_finish(neap_server *server, const server_job *j, int status, int64_t number,
                     const char *text, size_t size) {
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
  worker->version = number;
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
static int bind_both(neap_server *server, const server_script *to, bool tried, binding *b,
                     char *error, size_t size) {
  const neap_scripts *scripts = server->options.scripts;
  void *script = to->script;
  neap_optimizer *optimizer = to->optimizer;
  int result = NEAP_OK;
  for (int stype = 0; stype < 2; stype++) {
    char text[ERROR] = "";
    if (stype == NEAP_ROW_SPARSE && b->whole.ndim == 0) continue;
    int status = scripts->bind(scripts->user, script, &b->key, &b->whole, stype, text, sizeof text);
    if (status == NEAP_OK && !neap_optimizer_bound(optimizer, &b->key, stype)) {
      status = NEAP_EFAILED;
      snprintf(text, sizeof text, "no program came out of the script");
    }
    if (status == NEAP_OK && tried) {
      status = neap_optimizer_try(optimizer, &b->key, stype, &b->whole);
      if (status != NEAP_OK) snprintf(text, sizeof text, "a trial failed: %s", neap_error());
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

struct kept_errors {
  kept_errors *next;
  binding b;
};

void neap_scripts_place(neap_server *server, kept_errors *kept, bool place) {
  while (kept) {
    kept_errors *k = kept;
    kept = k->next;
    server_key *key = place ? neap_keys_find(&server->keys, &k->b.key) : NULL;
    if (key && key->birth == k->b.birth) set_errors(server, key, &k->b);
    free_errors(server, &k->b);
    neap_free(server->context, k, sizeof *k);
  }
}

int neap_scripts_bind_all(neap_server *server, const server_script *script, bool tried,
                          uint64_t *birth, kept_errors **kept, char *error, size_t size) {
  for (;;) {
    kept_errors *k = neap_alloc(server->context, sizeof *k);
    int status = k ? NEAP_OK : NEAP_ENOMEM;
    bool any = k && next_binding(server, birth, &k->b);
    if (any) {
      status = bind_both(server, script, tried, &k->b, error, size);
      k->next = *kept;
      *kept = k;
    } else if (k) {
      neap_free(server->context, k, sizeof *k);
    } else {
      snprintf(error, size, "no memory");
    }
    if (any && status == NEAP_OK) continue;
    pthread_mutex_lock(&server->lock);
    if (status != NEAP_OK || server->keys.count == 0) return status;
    const server_key *last = neap_keys_value_at(&server->keys, server->keys.count - 1);
    if (last->birth <= *birth) return status;
    pthread_mutex_unlock(&server->lock);
  }
}

/* ---- Scripts (on their thread) --------------------------------------------------------------- */

int neap_scripts_describe(neap_server *server, server_script *script, char *error, size_t size) {
  const neap_scripts *scripts = server->options.scripts;
  neap_script_text text;
  int status = scripts->describe(scripts->user, script->script, &text, error, size);
  char *dump = status == NEAP_OK ? neap_alloc(server->context, text.dump_size + 1) : NULL;
  if (status != NEAP_OK) return status;
  if (!dump) {
    snprintf(error, size, "no memory");
    return NEAP_ENOMEM;
  }
  memcpy(dump, text.dump, text.dump_size);
  dump[text.dump_size] = 0;
  pthread_mutex_lock(&server->lock);
  char *old = script->dump;
  size_t old_size = script->dump_size;
  script->dump = dump;
  script->dump_size = text.dump_size + 1;
  snprintf(script->name, sizeof script->name, "%s", text.name);
  snprintf(script->hash, sizeof script->hash, "%s", text.hash);
  pthread_mutex_unlock(&server->lock);
  neap_free(server->context, old, old_size);
  return NEAP_OK;
}

void neap_scripts_end(neap_server *server, server_script *script) {
  const neap_scripts *scripts = server->options.scripts;
  if (script->script) scripts->close(scripts->user, script->script);
  neap_optimizer_close(script->optimizer);
  neap_program_close(script->migration);
  neap_free(server->context, script->dump, script->dump_size);
  *script = (server_script){0};
}

/* Sets settings, and binds what they outdate. */
static int set_settings(neap_server *server, const char *bytes, size_t size, kept_errors **kept,
                        char *error, size_t error_size) {
  const neap_scripts *scripts = server->options.scripts;
  server_script *is = &server->scripts->current;
  uint64_t birth = 0;
  NEAP_TRY(scripts->set(scripts->user, is->script, bytes, size, error, error_size));
  int status = neap_scripts_bind_all(server, is, false, &birth, kept, error, error_size);
  pthread_mutex_unlock(&server->lock);
  return status;
}

/* The old settings again: as part of its dump they are what set() takes. */
static void unset_settings(neap_server *server, const char *old, size_t size) {
  char error[ERROR];
  kept_errors *kept = NULL;
  int status = set_settings(server, old, size, &kept, error, sizeof error);
  pthread_mutex_lock(&server->lock);
  neap_scripts_place(server, kept, false);
  pthread_mutex_unlock(&server->lock);
  if (status != NEAP_OK)
    neap_log(server->context, NEAP_LOG_ERROR, "server %d: settings were not restored: %s",
             server->rank, error);
}

const char *neap_scripts_who(neap_server *server, int rank, char *buffer) {
  neap_session *session = server->workers[rank].session;
  if (!neap_server_is_admin(server, rank))
    return neap_node_text(server->roster, NEAP_WORKER, rank, buffer);
  snprintf(buffer, NEAP_NODE_TEXT, "an admin on host %s",
           session ? neap_session_hello(session)->host : "?");
  return buffer;
}

void neap_scripts_note(neap_server *server, int rank, const char *what) {
  neap_server_scripts *s = server->scripts;
  const server_script *is = &s->current;
  char who[NEAP_NODE_TEXT];
  neap_scripts_who(server, rank, who);
  char *line = s->history[s->changes++ % NEAP_HISTORY];
  snprintf(line, sizeof s->history[0], "%lld %s %s %lld %s %s", (long long)is->version, is->hash,
           what, (long long)time(NULL), is->name, who);
  neap_log(server->context, NEAP_LOG_INFO,
           "server %d: %s: optimizer %s, version %lld, hash %s, by %s", server->rank, what,
           is->name, (long long)is->version, is->hash, who);
}

static void run_settings(neap_server *server, server_job *j) {
  server_script *is = &server->scripts->current;
  char error[ERROR] = "set_hyper: the servers have no optimizer: set_optimizer first";
  kept_errors *kept = NULL;
  int status = NEAP_EINVAL;
  if (is->script) {
    error[0] = 0;
    status = set_settings(server, j->bytes, j->size, &kept, error, sizeof error);
    if (status != NEAP_OK) unset_settings(server, is->dump, is->dump_size - 1);
    if (status == NEAP_OK) status = neap_scripts_describe(server, is, error, sizeof error);
  }
  pthread_mutex_lock(&server->lock);
  neap_scripts_place(server, kept, status == NEAP_OK);
  if (status == NEAP_OK) neap_scripts_note(server, j->rank, "settings");
  neap_job_finish(server, j, status, server->version, error, status ? strlen(error) : 0);
  pthread_mutex_unlock(&server->lock);
}

static void run_bind(neap_server *server, server_job *j) {
  binding b;
  char error[ERROR];
  pthread_mutex_lock(&server->lock);
  server_key *key = neap_keys_find(&server->keys, &j->key);
  bool there = key && key->birth == j->birth;
  if (there) copy_binding(key, &b);
  pthread_mutex_unlock(&server->lock);
  if (!there) return;
  (void)bind_both(server, &server->scripts->current, false, &b, error, sizeof error);
  pthread_mutex_lock(&server->lock);
  key = neap_keys_find(&server->keys, &j->key);
  if (key && key->birth == j->birth) {
    set_errors(server, key, &b);
    neap_server_init_reply(server, j->rank, j->request, key);
  }
  pthread_mutex_unlock(&server->lock);
  free_errors(server, &b);
}

/* Whether settings may change now. In step they do for whole rounds: those that their sender has
 * pushed to come first, unless the others take long. */
static bool settled(const neap_server *server, const server_job *j) {
  if (server->async || neap_server_is_admin(server, j->rank) ||
      neap_now() - j->since > SETTINGS_WAIT)
    return true;
  for (int i = 0; i < server->keys.count; i++) {
    const server_key *key = neap_keys_value_at(&server->keys, i);
    if (key->clocks[j->rank].first) return false;
  }
  return true;
}

/* Whether a job has its turn: while an optimizer is on its way in, other changes wait. */
static bool may_run(const neap_server *server, const server_job *j) {
  switch (j->type) {
  case NEAP_M_OPTIMIZER:
  case NEAP_M_ROLLBACK:
    return !server->scripts->swap;
  case NEAP_M_SETTINGS:
    return !server->scripts->swap && settled(server, j);
  default:
    return true;
  }
}

/* The oldest job that may run, out of the queue; NULL: none. */
static server_job *next_job(neap_server *server) {
  neap_server_scripts *s = server->scripts;
  for (server_job **at = &s->jobs; *at; at = &(*at)->next) {
    server_job *j = *at;
    if (!may_run(server, j)) continue;
    *at = j->next;
    if (s->jobs_end == &j->next) s->jobs_end = at;
    return j;
  }
  return NULL;
}

static void run_job(neap_server *server, server_job *j) {
  switch (j->type) {
  case NEAP_M_OPTIMIZER:
  case NEAP_M_ROLLBACK:
    neap_swap_prepare(server, j);
    break;
  case NEAP_M_ARM:
    neap_swap_arm(server, j);
    break;
  case NEAP_M_SWITCH:
    neap_swap_decide(server, j);
    break;
  case NEAP_M_SETTINGS:
    run_settings(server, j);
    break;
  default:
    run_bind(server, j);
  }
}

static void *run(void *arg) {
  neap_server *server = arg;
  neap_server_scripts *s = server->scripts;
  pthread_mutex_lock(&server->lock);
  while (!s->closing) {
    bool overdue = s->swap && neap_swap_overdue(server);
    server_job *j = overdue ? NULL : next_job(server);
    if (!j && !overdue) {
      /* What jobs that may not run yet wait for comes about without a signal. */
      (void)neap_cond_wait(&s->wake, &server->lock, s->jobs || s->swap ? neap_now() + 0.005 : -1);
      continue;
    }
    bool stale = j && server->workers[j->rank].incarnation != j->incarnation;
    pthread_mutex_unlock(&server->lock);
    if (overdue) neap_swap_drop(server);
    if (j && !stale) run_job(server, j);
    if (j) free_job(server, j);
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
  if (server->options.scripts->size < sizeof *server->options.scripts)
    return neap_fail(NEAP_EINVAL, "the table of scripts is of an earlier version of Neap");
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

static void free_jobs(neap_server *server, server_job *j) {
  while (j) {
    server_job *next = j->next;
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
  if (s->swap) neap_swap_drop(server);
  server_script current = s->current, before = s->before;
  pthread_mutex_lock(&server->lock);
  server->optimizer = NULL;
  server->scripts = NULL;
  pthread_mutex_unlock(&server->lock);
  neap_scripts_end(server, &current);
  neap_scripts_end(server, &before);
  free_jobs(server, s->jobs);
  free_jobs(server, s->commands);
  pthread_cond_destroy(&s->wake);
  pthread_cond_destroy(&s->command);
  neap_free(server->context, s, sizeof *s);
}

bool neap_scripts_active(const neap_server *server) {
  return server->optimizer != NULL;
}

static void give(neap_server *server, server_job *j) {
  neap_server_scripts *s = server->scripts;
  *s->jobs_end = j;
  s->jobs_end = &j->next;
  pthread_cond_signal(&s->wake);
}

bool neap_scripts_bind(neap_server *server, int rank, uint64_t request, server_key *key) {
  if (!server->scripts) return false;
  server_job *j = make_job(server, NEAP_M_INIT, rank, request, key->key->text, key->key->length);
  if (!j) return false;
  j->key = *key->key;
  if (j->key.text) j->key.text = j->bytes;
  j->birth = key->birth;
  j->incarnation = server->workers[rank].incarnation;
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
  if (!worker->session || !neap_session_is_admin(worker->session)) {
    neap_server_reply(
        server, rank, in->frame.id, NEAP_EDENIED,
        "this process may not change the optimizer or send commands: the servers want "
        "to be shown that it knows NEAP_ADMIN_SECRET",
        NULL, 0);
    return NULL;
  }
  if (command ? !server->options.controller : !server->options.scripts) {
    neap_server_reply(server, rank, in->frame.id, NEAP_ENOTSUP,
                      command ? "send_command_to_servers: the server has no controller"
                              : "set_optimizer: the server runs no scripts (it was started without "
                                "Lua): start it by 'neap server' or neap.server.start",
                      NULL, 0);
    return NULL;
  }
  server_job *j =
      make_job(server, in->frame.type, rank, in->frame.id, in->payload, (size_t)in->frame.total);
  if (!j) return "no memory";
  j->number = number;
  j->incarnation = worker->incarnation;
  j->since = neap_now();
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
  neap_server_reply_bytes(server, rank, in->frame.id, is ? server->version : 0,
                          is ? s->current.dump : NULL, is ? s->current.dump_size - 1 : 0);
  return NULL;
}

static const char *get_history(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  if (!neap_reader_done(r)) return "a damaged request";
  const neap_server_scripts *s = server->scripts;
  char text[NEAP_HISTORY * sizeof s->history[0]];
  size_t used = 0;
  int count = s && s->changes < NEAP_HISTORY ? s->changes : NEAP_HISTORY;
  for (int i = count; s && i > 0; i--)
    used += (size_t)snprintf(text + used, sizeof text - used, "%s\n",
                             s->history[(s->changes - i) % NEAP_HISTORY]);
  neap_server_reply_bytes(server, rank, in->frame.id, 0, text, used);
  return NULL;
}

const char *neap_server_control(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  switch (in->frame.type) {
  case NEAP_M_OPTIMIZER:
  case NEAP_M_SETTINGS:
  case NEAP_M_ROLLBACK:
  case NEAP_M_ARM:
  case NEAP_M_SWITCH:
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
  case NEAP_M_HISTORY:
    return get_history(server, rank, in, r);
  default:
    return "a message that is not for a server";
  }
}

const char *neap_server_admin(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  switch (in->frame.type) {
  case NEAP_M_OPTIMIZER:
  case NEAP_M_SETTINGS:
  case NEAP_M_ROLLBACK:
  case NEAP_M_ARM:
  case NEAP_M_SWITCH:
  case NEAP_M_COMMAND:
  case NEAP_M_GET_OPTIMIZER:
  case NEAP_M_STATS:
  case NEAP_M_HISTORY:
    return neap_server_control(server, rank, in, r);
  default:
    neap_server_reply(server, rank, in->frame.id, NEAP_EDENIED,
                      "an observer has no keys: it looks on, and may change the optimizer", NULL,
                      0);
    return NULL;
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
  server_job *j = s->commands;
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
  server_job *j = s->commands;
  if (j) {
    s->commands = j->next;
    if (!s->commands) s->commands_end = &s->commands;
    neap_job_finish(server, j, NEAP_OK, server->version, answer, size);
  }
  pthread_mutex_unlock(&server->lock);
  if (!j) return neap_fail(NEAP_EINVAL, "neap_server_answer: there is no command to answer");
  free_job(server, j);
  return NEAP_OK;
}
