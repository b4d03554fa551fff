/* SPDX-License-Identifier: MIT */
/* server_swap.c - how one optimizer takes the place of another while training runs.
 *
 * A worker leads, in three steps, each of which all servers do before the next:
 *
 *   OPTIMIZER, ROLLBACK   the script is opened, recorded for every key, run on small arrays;
 *                         meanwhile updates go on. Server 0 is asked first: who has his turn there
 *                         has it everywhere, and others wait in line.
 *   ARM                   every key gets a limit, the round at which this server could switch, and
 *                         makes no update beyond; pushes are still accepted
 *   SWITCH                for each key the highest limit of all servers is the round; from it on
 *                         the new optimizer updates the key, and takes its states over then
 *
 * So updates are held back for one round trip, and nothing else waits. In step, the limit of a key
 * is the number of rounds that the worker who leads has pushed to: what it pushes afterwards is
 * updated by the new optimizer. Out of step, and for an admin, it is the number of updates so far.
 *
 * Anything that fails before SWITCH changes nothing: the worker then says so by a SWITCH without
 * `go`, and when it dies, the server finds out by itself. */
#include "../engine/program.h"
#include "server_jobs.h"
#include <stdio.h>
#include <string.h>

enum { HOLD = 1 /* seconds */ };

/* ---- Keys (under the lock) ------------------------------------------------------------------- */

static void free_turn(neap_server *server, server_turn *turn) {
  neap_optimizer_close(turn->optimizer);
  if (turn->migration) neap_program_close(turn->migration);
  neap_free(server->context, turn, sizeof *turn);
}

static void hand_over(neap_server *server, server_key *key, const server_turn *turn) {
  neap_optimizer *old = key->optimizer;
  int status = NEAP_OK;
  if (old && !turn->restored)
    status = neap_optimizer_carry_key(old, turn->optimizer, key->key, key->value->array,
                                      turn->migration);
  if (status != NEAP_OK) {
    char name[NEAP_KEY_TEXT];
    neap_log(server->context, NEAP_LOG_ERROR, "server %d: states of %s were not carried over: %s",
             server->rank, neap_key_text(key->key, name), neap_error());
  }
  neap_optimizer_retain(turn->optimizer);
  key->optimizer = turn->optimizer;
  neap_optimizer_close(old);
}

void neap_swap_key(neap_server *server, server_key *key) {
  while (key->turns && key->updates >= key->turns->round) {
    server_turn *turn = key->turns;
    key->turns = turn->next;
    hand_over(server, key, turn);
    free_turn(server, turn);
  }
}

void neap_swap_begin(neap_server *server, server_key *key) {
  key->optimizer = server->optimizer;
  if (key->optimizer) neap_optimizer_retain(key->optimizer);
}

void neap_swap_forget(neap_server *server, server_key *key) {
  const neap_server_scripts *s = server->scripts;
  while (key->turns) {
    server_turn *turn = key->turns;
    key->turns = turn->next;
    free_turn(server, turn);
  }
  if (s && s->current.optimizer) neap_optimizer_forget(s->current.optimizer, key->key);
  if (s && s->before.optimizer) neap_optimizer_forget(s->before.optimizer, key->key);
  if (s && s->swap && s->swap->to.optimizer) neap_optimizer_forget(s->swap->to.optimizer, key->key);
  neap_optimizer_close(key->optimizer);
  key->optimizer = NULL;
}

/* From `round` on; at once if there is no memory to wait with. */
static void add_turn(neap_server *server, server_key *key, const server_swap *swap,
                     uint64_t round) {
  server_turn turn = {.round = round,
                      .optimizer = swap->to.optimizer,
                      .migration = swap->type == NEAP_M_OPTIMIZER ? swap->to.migration : NULL,
                      .restored = swap->type == NEAP_M_ROLLBACK};
  server_turn *copy = neap_alloc(server->context, sizeof *copy);
  if (!copy) {
    hand_over(server, key, &turn);
    return;
  }
  neap_optimizer_retain(turn.optimizer);
  if (turn.migration) neap_program_retain(turn.migration);
  *copy = turn;
  server_turn **end = &key->turns;
  while (*end) end = &(*end)->next;
  *end = copy;
}

/* ---- Dropping -------------------------------------------------------------------------------- */

/* Under the lock: updates go on. */
static void let_go(neap_server *server) {
  server->scripts->swap->armed = false;
  if (!server->held) return;
  server->held = false;
  neap_server_recheck(server);
}

bool neap_swap_overdue(neap_server *server) {
  const server_swap *swap = server->scripts->swap;
  if (swap->armed && neap_now() - swap->armed_at > HOLD) let_go(server);
  const server_worker *owner = &server->workers[swap->rank];
  if (owner->incarnation != swap->incarnation) return true;
  if (neap_server_is_admin(server, swap->rank)) return owner->down > 0;
  const neap_node *node = neap_roster_worker(server->roster, swap->rank);
  return (node->incarnation == swap->incarnation &&
          (node->state == NEAP_DIED || node->state == NEAP_LEFT));
}

/* Ends the swap's turn; what it brought is closed unless it was taken. */
static void end_swap(neap_server *server) {
  neap_server_scripts *s = server->scripts;
  pthread_mutex_lock(&server->lock);
  server_swap *swap = s->swap;
  if (swap) {
    let_go(server);
    neap_scripts_place(server, swap->kept, false);
    s->swap = NULL;
  }
  pthread_mutex_unlock(&server->lock);
  if (!swap) return;
  if (swap->type == NEAP_M_OPTIMIZER) neap_scripts_end(server, &swap->to);
  neap_free(server->context, swap, sizeof *swap);
}

void neap_swap_drop(neap_server *server) {
  end_swap(server);
}

/* ---- Preparing ------------------------------------------------------------------------------- */

/* A migration that sums over the whole key cannot run on a part of one. */
static int check_migration(neap_server *server, const server_script *to, char *error, size_t size) {
  if (!to->migration || neap_program_passes(to->migration) <= 1) return NEAP_OK;
  bool split = false;
  pthread_mutex_lock(&server->lock);
  for (int i = 0; i < server->keys.count; i++) {
    const server_key *key = neap_keys_value_at(&server->keys, i);
    split = split || key->parts > 1;
  }
  pthread_mutex_unlock(&server->lock);
  if (!split) return NEAP_OK;
  snprintf(
      error, size,
      "%s: migrate sums over whole keys, and there are some that are split over servers: raise "
      "bigarray_bound (NEAP_BIGARRAY_BOUND), or have it compute element by element",
      to->name);
  return NEAP_ENOTSUP;
}

static int open_script(neap_server *server, const server_job *job, server_script *to, char *error,
                       size_t size) {
  const neap_scripts *scripts = server->options.scripts;
  const server_script *old = &server->scripts->current;
  NEAP_TRY(scripts->open(scripts->user, server->context, job->bytes, job->size, &to->script,
                         &to->optimizer, error, size));
  NEAP_TRY(neap_scripts_describe(server, to, error, size));
  if (old->script)
    NEAP_TRY(scripts->migrate(scripts->user, to->script, old->dump, old->dump_size - 1,
                              &to->migration, error, size));
  return check_migration(server, to, error, size);
}

void neap_swap_prepare(neap_server *server, server_job *job) {
  neap_server_scripts *s = server->scripts;
  char error[NEAP_SCRIPT_ERROR] = "";
  server_swap swap = {.type = job->type, .rank = job->rank, .incarnation = job->incarnation};
  int status = NEAP_OK;
  if (job->type == NEAP_M_OPTIMIZER) {
    status = open_script(server, job, &swap.to, error, sizeof error);
  } else {
    swap.to = s->before;
    if (!s->before.script) {
      status = NEAP_EINVAL;
      snprintf(error, sizeof error, "rollback_optimizer: there is no optimizer to go back to%s",
               s->current.script ? ": one step back is kept, and this is the oldest" : "");
    }
  }
  if (status == NEAP_OK)
    status = neap_scripts_bind_all(server, &swap.to, job->type == NEAP_M_OPTIMIZER, &swap.bound,
                                   &swap.kept, error, sizeof error);
  else
    pthread_mutex_lock(&server->lock);
  server_swap *copy = status == NEAP_OK ? neap_alloc(server->context, sizeof *copy) : NULL;
  if (copy) {
    *copy = swap;
    s->swap = copy;
  } else {
    if (status == NEAP_OK) {
      status = NEAP_ENOMEM;
      snprintf(error, sizeof error, "no memory");
    }
    neap_scripts_place(server, swap.kept, false);
    char who[NEAP_NODE_TEXT];
    neap_log(server->context, NEAP_LOG_WARN, "server %d: refused an optimizer of %s: %s",
             server->rank, neap_scripts_who(server, job->rank, who), error);
  }
  neap_job_finish(server, job, status, swap.to.version, error, strlen(error));
  pthread_mutex_unlock(&server->lock);
  if (!copy && job->type == NEAP_M_OPTIMIZER) neap_scripts_end(server, &swap.to);
}

/* ---- Arming ---------------------------------------------------------------------------------- */

/* The round from which on a key could switch, as this server sees it. */
static uint64_t limit_of(const neap_server *server, const server_key *key, int rank) {
  uint64_t limit = key->updates;
  if (neap_server_is_admin(server, rank)) return limit;
  if (!server->async)
    for (const server_push *push = key->clocks[rank].first; push; push = push->next) limit++;
  return limit;
}

/* Whether a message comes from who has the turn; else the reply to it. Under the lock. */
static bool has_turn(neap_server *server, const server_job *job) {
  const server_swap *swap = server->scripts->swap;
  if (swap && swap->rank == job->rank && swap->incarnation == job->incarnation) return true;
  const char *text = "its turn to change the optimizer is over";
  neap_job_finish(server, job, NEAP_EINVAL, 0, text, strlen(text));
  return false;
}

/* The limits of keys that other servers have parts of: key, u64, one after the other. */
static int write_limits(neap_server *server, char **out, size_t *room, size_t *size) {
  *room = 0;
  for (int i = 0; i < server->keys.count; i++) {
    const server_key *key = neap_keys_value_at(&server->keys, i);
    if (key->parts > 1) *room += key->key->length + 32;
  }
  if (*room == 0) return NEAP_OK;
  *out = neap_alloc(server->context, *room);
  if (!*out) return NEAP_ENOMEM;
  neap_writer w;
  neap_writer_open(&w, *out, *room);
  for (int i = 0; i < server->keys.count; i++) {
    const server_key *key = neap_keys_value_at(&server->keys, i);
    if (key->parts < 2) continue;
    neap_put_key(&w, key->key);
    neap_put_u64(&w, key->limit);
  }
  *size = neap_writer_size(&w);
  return NEAP_OK;
}

/* Binds keys that came since, and returns with the lock held. What does not fit them is told to
 * who pushes to them. */
static void bind_new(neap_server *server, server_swap *swap) {
  char error[NEAP_SCRIPT_ERROR];
  while (neap_scripts_bind_all(server, &swap->to, false, &swap->bound, &swap->kept, error,
                               sizeof error) != NEAP_OK)
    pthread_mutex_unlock(&server->lock); /* goes on behind the key that failed */
}

void neap_swap_arm(neap_server *server, server_job *job) {
  neap_server_scripts *s = server->scripts;
  pthread_mutex_lock(&server->lock);
  bool mine = has_turn(server, job);
  pthread_mutex_unlock(&server->lock);
  if (!mine) return;
  bind_new(server, s->swap);
  for (int i = 0; i < server->keys.count; i++) {
    server_key *key = neap_keys_value_at(&server->keys, i);
    key->limit = limit_of(server, key, job->rank);
  }
  char *text = NULL;
  size_t room = 0, size = 0;
  int status = write_limits(server, &text, &room, &size);
  if (status == NEAP_OK) {
    server->held = s->swap->armed = true;
    s->swap->armed_at = neap_now();
  }
  neap_job_finish(server, job, status, s->highest, status ? "no memory" : text,
                  status ? strlen("no memory") : size);
  pthread_mutex_unlock(&server->lock);
  neap_free(server->context, text, room);
}

/* ---- Deciding -------------------------------------------------------------------------------- */

/* What a SWITCH says beside `go` and the version: limits, as above. False: damaged. */
static bool take_limits(neap_server *server, neap_reader *r) {
  while (r->at != r->end && !r->bad) {
    neap_key name;
    neap_get_key(r, &name);
    uint64_t limit = neap_get_u64(r);
    server_key *key = r->bad ? NULL : neap_keys_find(&server->keys, &name);
    if (key && key->limit < limit) key->limit = limit;
  }
  return !r->bad;
}

/* Under the lock: what was is kept, for going back, and what was before that is left over. */
static server_script take_place(neap_server *server, server_swap *swap, int64_t version) {
  neap_server_scripts *s = server->scripts;
  server_script over;
  if (swap->type == NEAP_M_OPTIMIZER) {
    over = s->before;
    s->before = s->current;
    s->current = swap->to;
  } else {
    over = s->current;
    s->current = s->before;
    s->before = (server_script){0};
  }
  swap->to = (server_script){0};
  s->current.version = version;
  if (version > s->highest) s->highest = version;
  server->optimizer = s->current.optimizer;
  server->version = version;
  return over;
}

/* Under the lock. */
static server_script decide(neap_server *server, const server_job *job, neap_reader *r,
                            int64_t version) {
  server_swap *swap = server->scripts->swap;
  bool late = !swap->armed; /* updates were not held back for so long */
  for (int i = 0; i < server->keys.count; i++) {
    server_key *key = neap_keys_value_at(&server->keys, i);
    if (late || key->limit < key->updates) key->limit = key->updates;
  }
  (void)take_limits(server, r);
  for (int i = 0; i < server->keys.count; i++) {
    server_key *key = neap_keys_value_at(&server->keys, i);
    add_turn(server, key, swap, key->limit);
    neap_swap_key(server, key);
  }
  neap_scripts_place(server, swap->kept, true);
  swap->kept = NULL;
  server_script over = take_place(server, swap, version);
  neap_scripts_note(server, job->rank, swap->type == NEAP_M_ROLLBACK ? "rollback" : "set");
  return over;
}

void neap_swap_decide(neap_server *server, server_job *job) {
  neap_server_scripts *s = server->scripts;
  neap_reader r;
  neap_reader_open(&r, job->bytes, job->size);
  bool go = neap_get_u8(&r) != 0;
  int64_t version = (int64_t)neap_get_u64(&r);
  pthread_mutex_lock(&server->lock);
  bool mine = has_turn(server, job);
  if (mine && (!go || r.bad)) {
    neap_job_finish(server, job, NEAP_OK, server->version, NULL, 0);
    pthread_mutex_unlock(&server->lock);
    end_swap(server);
    return;
  }
  pthread_mutex_unlock(&server->lock);
  if (!mine) return;
  bind_new(server, s->swap);
  server_script over = decide(server, job, &r, version);
  neap_job_finish(server, job, NEAP_OK, version, NULL, 0);
  pthread_mutex_unlock(&server->lock);
  end_swap(server);
  neap_scripts_end(server, &over);
}
