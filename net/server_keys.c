/* SPDX-License-Identifier: MIT */
/* server_keys.c - keys of a server: how they come and go, and how pushes become updates.
 *
 * All of it runs under server->lock; see server_inside.h for the rules. */
#include "../engine/sparse.h"
#include "../engine/work_list.h"
#include "../engine/array_work.h"
#include "server_read.h"
#include <stdio.h>
#include <string.h>

/* A worker's pushes to one key that wait longer than the first of it are answered only when they
 * start: so a worker runs ahead of the others by no more than this and what it sends unanswered. */
enum { AHEAD = 1 << 20 };

static size_t key_size(const neap_server *server) {
  return sizeof(server_key) + (size_t)server->roster->num_workers * sizeof(server_clock);
}

/* ---- Keys ------------------------------------------------------------------------------------ */

server_key *neap_server_find(neap_server *server, const neap_key *key, uint64_t birth, char *text,
                             size_t size) {
  server_key *found = neap_keys_find(&server->keys, key);
  if (found && found->birth == birth) return found;
  char name[NEAP_KEY_TEXT];
  snprintf(text, size, "%s is not on the server any more: a worker deleted it%s",
           neap_key_text(key, name), found ? ", and it was made again; init first" : "");
  return NULL;
}

/* Whether what one process says of a key is what the others said. */
static bool fits(const server_key *key, const neap_init_head *head, char *text, size_t size) {
  const neap_array_info *is = &key->whole, *got = &head->whole;
  bool same = is->dtype == got->dtype && is->stype == got->stype && neap_same_shape(is, got) &&
              neap_same_shape(&key->info, &head->info) && key->begin == head->begin;
  if (same) return true;
  char name[NEAP_KEY_TEXT], a[NEAP_SHAPE_TEXT], b[NEAP_SHAPE_TEXT];
  snprintf(text, size, "init: %s is %s %s%s here where other workers have %s %s%s%s",
           neap_key_text(key->key, name), neap_dtype_name(got->dtype), neap_shape_text(got, a),
           got->stype == NEAP_DENSE ? "" : ", row_sparse", neap_dtype_name(is->dtype),
           neap_shape_text(is, b), is->stype == NEAP_DENSE ? "" : ", row_sparse",
           neap_same_shape(is, got) ? " (or split otherwise: bigarray_bound must be the same)"
                                    : "");
  return false;
}

void neap_server_init_reply(neap_server *server, int rank, uint64_t request, server_key *key) {
  uint8_t meta[24];
  neap_writer w;
  neap_writer_open(&w, meta, sizeof meta);
  neap_put_u64(&w, key->birth);
  neap_put_u64(&w, key->clocks[rank].accepted);
  neap_put_u64(&w, key->life);
  neap_server_reply(server, rank, request, NEAP_OK, NULL, meta, neap_writer_size(&w));
}

static void free_wait(neap_server *server, server_wait *wait) {
  if (wait->key.text)
    neap_free(server->context, (void *)(uintptr_t)wait->key.text, wait->key.length + 1);
  neap_free(server->context, wait, sizeof *wait);
}

/* An INIT without a value whose key is not there yet. */
static int add_wait(neap_server *server, int rank, uint64_t request, const neap_init_head *head) {
  for (server_wait *w = server->waits; w; w = w->next)
    if (w->rank == rank && w->request == request) return NEAP_OK; /* asked again */
  server_wait *wait = neap_alloc(server->context, sizeof *wait);
  if (!wait) return NEAP_ENOMEM;
  *wait = (server_wait){
      .key = head->key, .info = head->info, .whole = head->whole, .rank = rank, .request = request};
  if (head->key.text) {
    char *text = neap_alloc(server->context, head->key.length + 1);
    if (!text) {
      neap_free(server->context, wait, sizeof *wait);
      return NEAP_ENOMEM;
    }
    memcpy(text, head->key.text, head->key.length);
    text[head->key.length] = 0;
    wait->key.text = text;
  }
  wait->next = server->waits;
  server->waits = wait;
  return NEAP_OK;
}

/* Those who waited for this key. */
static void answer_waits(neap_server *server, server_key *key) {
  for (server_wait **at = &server->waits; *at;) {
    server_wait *wait = *at;
    if (!neap_key_equal(&wait->key, key->key)) {
      at = &wait->next;
      continue;
    }
    *at = wait->next;
    neap_init_head head = {.info = wait->info, .whole = wait->whole, .begin = key->begin};
    char text[512];
    if (fits(key, &head, text, sizeof text))
      neap_server_init_reply(server, wait->rank, wait->request, key);
    else
      neap_server_reply(server, wait->rank, wait->request, NEAP_ESHAPE, text, NULL, 0);
    free_wait(server, wait);
  }
}

/* Those who wait for a rank 0 that died or left. */
static void fail_waits(neap_server *server) {
  if (!neap_server_is_lost(server, 0) && neap_server_counts(server, 0)) return;
  char name[NEAP_NODE_TEXT], text[NEAP_NODE_TEXT + 64];
  bool left = neap_roster_worker(server->roster, 0)->state == NEAP_LEFT;
  snprintf(text, sizeof text, "init: %s %s before it set this key",
           neap_node_text(server->roster, NEAP_WORKER, 0, name), left ? "left" : "died");
  while (server->waits) {
    server_wait *wait = server->waits;
    server->waits = wait->next;
    neap_server_reply(server, wait->rank, wait->request, NEAP_ELOST, text, NULL, 0);
    free_wait(server, wait);
  }
}

static int make_key(neap_server *server, const neap_init_head *head, neap_array *value,
                    server_key **out) {
  size_t size = key_size(server);
  server_key *key = neap_alloc(server->context, size);
  if (!key) return NEAP_ENOMEM;
  memset(key, 0, size);
  key->info = head->info;
  key->whole = head->whole;
  key->begin = head->begin;
  key->birth = ++server->births;
  key->life = head->life;
  key->home = head->home;
  key->parts = head->parts;
  key->index = head->index;
  key->started_end = &key->started;
  key->pulls_end = &key->pulls;
  int status = neap_split_open(server, key);
  if (status == NEAP_OK) status = neap_server_value_new(server, value, &key->value);
  if (status == NEAP_OK) {
    status = neap_keys_add(&server->keys, &head->key, key);
    if (status != NEAP_OK) {
      key->value->array = NULL; /* the caller's still */
      neap_server_value_drop(key->value);
    }
  }
  if (status != NEAP_OK) {
    neap_split_drop(server, key);
    neap_free(server->context, key, size);
    return status;
  }
  key->key = neap_keys_at(&server->keys, server->keys.count - 1);
  neap_swap_begin(server, key);
  *out = key;
  return NEAP_OK;
}

const char *neap_server_init(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  neap_init_head head;
  char text[512];
  const char *wrong = neap_read_init(r, &head);
  if (wrong) return wrong;
  uint64_t request = in->frame.id;
  if (server->mode_known && server->async != head.async) {
    snprintf(text, sizeof text, "init: this worker's store is %s where others are %s",
             head.async ? "dist_async" : "dist_sync", head.async ? "dist_sync" : "dist_async");
    neap_server_reply(server, rank, request, NEAP_EINVAL, text, NULL, 0);
    return NULL;
  }
  server->mode_known = true;
  server->async = head.async;
  server_key *key = neap_keys_find(&server->keys, &head.key);
  if (key) {
    if (fits(key, &head, text, sizeof text))
      neap_server_init_reply(server, rank, request, key);
    else
      neap_server_reply(server, rank, request, NEAP_ESHAPE, text, NULL, 0);
    return NULL;
  }
  int status;
  if (!head.has_value) {
    status = add_wait(server, rank, request, &head);
    if (status == NEAP_OK) {
      fail_waits(server);
      return NULL;
    }
  } else {
    neap_array *value = NULL;
    status = neap_read_init_value(server, in, &head, &value);
    if (status == NEAP_OK) {
      status = make_key(server, &head, value, &key);
      if (status != NEAP_OK) neap_array_close(value);
    }
  }
  if (status != NEAP_OK) {
    neap_server_reply(server, rank, request, status, neap_error(), NULL, 0);
    return NULL;
  }
  if (!neap_scripts_active(server) || !neap_scripts_bind(server, rank, request, key))
    neap_server_init_reply(server, rank, request, key);
  answer_waits(server, key);
  return NULL;
}

static void free_push(neap_server *server, server_push *push) {
  neap_array_close(push->array);
  neap_free(server->context, push, sizeof *push);
}

static void drop_key(neap_server *server, server_key *key) {
  for (int rank = 0; rank < server->roster->num_workers; rank++) {
    server_clock *clock = &key->clocks[rank];
    while (clock->first) {
      server_push *push = clock->first;
      clock->first = push->next;
      if (!push->replied)
        neap_server_reply(server, rank, push->request, NEAP_EKEY, "push: the key was deleted", NULL,
                          0);
      free_push(server, push);
    }
  }
  neap_server_drop_pulls(server, key, -1, NEAP_EKEY, "pull: the key was deleted");
  neap_joints_forget(server, key);
  neap_split_drop(server, key);
  neap_swap_forget(server, key);
  for (int i = 0; i < 2; i++)
    if (key->unbound[i]) neap_free(server->context, key->unbound[i], strlen(key->unbound[i]) + 1);
  neap_server_value_drop(key->value);
  neap_keys_remove(&server->keys, key->key);
  neap_free(server->context, key, key_size(server));
}

void neap_server_drop_keys(neap_server *server) {
  while (server->keys.count > 0) drop_key(server, neap_keys_value_at(&server->keys, 0));
  neap_keys_clear(&server->keys);
  while (server->waits) {
    server_wait *wait = server->waits;
    server->waits = wait->next;
    free_wait(server, wait);
  }
}

const char *neap_server_delete(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  neap_key name;
  neap_get_key(r, &name);
  uint64_t birth = neap_get_u64(r);
  if (!neap_reader_done(r)) return "a damaged DELETE";
  server_key *key = neap_keys_find(&server->keys, &name);
  if (key && key->birth == birth) drop_key(server, key); /* else somebody else was first */
  neap_server_reply(server, rank, in->frame.id, NEAP_OK, NULL, NULL, 0);
  return NULL;
}

/* ---- Updates --------------------------------------------------------------------------------- */

/* One update in the making. */
typedef struct update {
  neap_server *server;
  server_key *key;
  neap_work_list list;
  neap_array **arrays; /* what is summed: one a push, of one storage type */
  int count;
  neap_array **made; /* temporaries */
  int num_made;
} update;

/* An array of the update's own, shaped like the key. */
static int temporary(update *u, int stype, neap_array **out) {
  neap_array_info info = u->key->info;
  info.stype = stype;
  NEAP_TRY(neap_array_new(u->server->context, &info, out));
  u->made[u->num_made++] = *out;
  return NEAP_OK;
}

/* Pushes of several kinds are brought to one: what is coded is decoded, and row-sparse ones
 * become dense beside dense ones. */
static int gather(update *u, server_push *const *pushes) {
  bool dense = false;
  for (int i = 0; i < u->count; i++)
    dense = dense || pushes[i]->codec || neap_array_get_info(pushes[i]->array)->stype == NEAP_DENSE;
  for (int i = 0; i < u->count; i++) {
    server_push *push = pushes[i];
    neap_array *array = push->array;
    if (push->codec) {
      NEAP_TRY(temporary(u, NEAP_DENSE, &u->arrays[i]));
      NEAP_TRY(neap_list_add(
          &u->list, neap_decode_work(push->codec, push->threshold, 1, &array, u->arrays[i]), 0));
    } else if (dense && neap_array_get_info(array)->stype != NEAP_DENSE) {
      NEAP_TRY(temporary(u, NEAP_DENSE, &u->arrays[i]));
      NEAP_TRY(neap_list_add(&u->list, neap_copy_work(array, u->arrays[i]), 0));
    } else {
      u->arrays[i] = array;
    }
  }
  return NEAP_OK;
}

/* A value that may be written (K3): the one there is, or a new one, a copy if `keep`. */
static int own_value(update *u, int stype, bool keep, server_value **out) {
  server_value *is = u->key->value;
  const neap_array_info *info = neap_array_get_info(is->array);
  if (atomic_load(&is->refs) == 1 && info->stype == stype) {
    *out = is;
    return NEAP_OK;
  }
  neap_array_info want = u->key->info;
  want.stype = stype;
  neap_array *array = NULL;
  server_value *fresh = NULL;
  NEAP_TRY(neap_array_new(u->server->context, &want, &array));
  int status = neap_server_value_new(u->server, array, &fresh);
  if (status == NEAP_OK && keep) {
    status = neap_list_add(&u->list, neap_copy_work(is->array, array), 0);
    if (status != NEAP_OK) neap_server_value_drop(fresh);
  } else if (status != NEAP_OK) {
    neap_array_close(array);
  }
  if (status == NEAP_OK) *out = fresh;
  return status;
}

/* Whether an update by such a gradient needs sums from other servers. */
static bool is_joint(neap_server *server, const server_key *key, int stype) {
  return key->parts > 1 && key->optimizer &&
         neap_optimizer_passes(key->optimizer, key->key, stype) > 1;
}

/* As stores of one process do it, so that the same bits come out. */
static int make_update(update *u, server_value **value) {
  neap_optimizer *optimizer = u->key->optimizer;
  int stype = neap_array_get_info(u->arrays[0])->stype;
  if (!optimizer) {
    int to = u->key->info.stype == NEAP_DENSE ? NEAP_DENSE : stype;
    NEAP_TRY(own_value(u, to, false, value));
    return neap_list_add(&u->list, neap_add_n_work(u->count, u->arrays, (*value)->array), 0);
  }
  NEAP_TRY(own_value(u, NEAP_DENSE, true, value));
  neap_array *gradient = u->arrays[0];
  if (u->count > 1) {
    NEAP_TRY(temporary(u, stype, &gradient));
    NEAP_TRY(neap_list_add(&u->list, neap_add_n_work(u->count, u->arrays, gradient), 0));
  }
  neap_joint *joint = NULL;
  if (is_joint(u->server, u->key, stype)) {
    joint = neap_server_joint(u->server, u->key);
    if (!joint) return NEAP_ENOMEM;
  }
  int status = neap_optimizer_prepare(optimizer, u->key->key, (*value)->array, gradient, joint, 0,
                                      u->list.works, &u->list.count);
  if (status != NEAP_OK && joint) joint->drop(joint);
  return status;
}

/* What is pushed alone, with nothing to update by, is the new value as it is. */
static bool is_value(const neap_server *server, const server_key *key, const server_push *push) {
  return !server->optimizer && !push->codec &&
         neap_array_get_info(push->array)->stype == key->info.stype;
}

static int become_value(neap_server *server, server_key *key, server_push *push) {
  server_value *value = NULL;
  NEAP_TRY(neap_server_value_new(server, push->array, &value));
  push->array = NULL;
  neap_server_value_drop(key->value);
  key->value = value;
  return NEAP_OK;
}

/* Queues the update by these pushes; fails for want of memory only. */
static int run_update(neap_server *server, server_key *key, server_push *const *pushes, int count) {
  if (count == 1 && is_value(server, key, pushes[0])) return become_value(server, key, pushes[0]);
  update u = {.server = server, .key = key, .count = count};
  size_t arrays = (size_t)count * sizeof(neap_array *), made = arrays + 2 * sizeof(neap_array *);
  u.arrays = neap_alloc(server->context, arrays);
  u.made = neap_alloc(server->context, made);
  server_value *value = key->value;
  int status = u.arrays && u.made
                   ? neap_list_open(&u.list, server->context, (size_t)count + 2 + NEAP_UPDATE_WORKS)
                   : NEAP_ENOMEM;
  if (status == NEAP_OK) {
    status = gather(&u, pushes);
    if (status == NEAP_OK) status = make_update(&u, &value);
    status = neap_list_close(&u.list, status);
  }
  for (int i = 0; i < u.num_made; i++) neap_array_close(u.made[i]);
  neap_free(server->context, u.arrays, arrays);
  neap_free(server->context, u.made, made);
  if (value != key->value && status == NEAP_OK) {
    neap_server_value_drop(key->value);
    key->value = value;
  } else if (value != key->value) {
    neap_server_value_drop(value);
  }
  return status;
}

/* Takes the oldest push of `rank` out of its queue; its clock has started. */
static server_push *take_push(server_clock *clock) {
  server_push *push = clock->first;
  clock->first = push->next;
  if (!clock->first) clock->last = NULL;
  clock->bytes -= push->bytes;
  clock->started = push->clock;
  return push;
}

static void reply_push(neap_server *server, int rank, server_push *push, int status,
                       const char *text) {
  if (push->replied) return;
  push->replied = true;
  neap_server_reply(server, rank, push->request, status, text, NULL, 0);
}

/* Starts one update by the oldest pushes of these ranks. */
static void start(neap_server *server, server_key *key, const int *ranks, int count) {
  server_push **pushes = server->starting; /* memory for one of each worker */
  for (int i = 0; i < count; i++) pushes[i] = take_push(&key->clocks[ranks[i]]);
  neap_swap_key(server, key);
  int status = run_update(server, key, pushes, count);
  key->updates++;
  if (status != NEAP_OK)
    neap_log(server->context, NEAP_LOG_ERROR, "server %d: an update failed: %s", server->rank,
             neap_error());
  for (int i = 0; i < count; i++) {
    reply_push(server, ranks[i], pushes[i], status, status ? neap_error() : NULL);
    free_push(server, pushes[i]);
  }
}

/* The ranks whose pushes make the next update: a round in step, or `rank` alone (K2). */
static int next_round(const neap_server *server, const server_key *key, int *ranks) {
  int count = 0;
  for (int rank = 0; rank < server->roster->num_workers; rank++) {
    if (key->clocks[rank].first)
      ranks[count++] = rank;
    else if (neap_server_counts(server, rank))
      return 0;
  }
  return count;
}

static void start_rounds(neap_server *server, server_key *key) {
  int ranks[NEAP_NODES_MAX], count;
  while (neap_server_may_start(server, key) && (count = next_round(server, key, ranks)) > 0)
    start(server, key, ranks, count);
}

/* Out of step: a push is an update by itself, unless updates are held back just then. */
static void start_alone(neap_server *server, server_key *key, int rank) {
  while (neap_server_may_start(server, key) && key->clocks[rank].first)
    start(server, key, &rank, 1);
}

static void start_waiting(neap_server *server, server_key *key) {
  for (int rank = 0; rank < server->roster->num_workers; rank++) start_alone(server, key, rank);
}

void neap_server_start_update(neap_server *server, server_key *key, const int *ranks, int count) {
  int there[NEAP_NODES_MAX], num = 0;
  for (int i = 0; i < count; i++)
    if (key->clocks[ranks[i]].first) there[num++] = ranks[i];
  if (num > 0) start(server, key, there, num);
}

void neap_server_drop_pushes(neap_server *server, server_key *key, int rank, uint64_t keep,
                             uint64_t incarnation) {
  server_clock *clock = &key->clocks[rank];
  uint64_t *before = &clock->started; /* the clock that stands for what is dropped, too */
  for (server_push **at = &clock->first; *at;) {
    server_push *push = *at;
    bool kept = push->incarnation >= incarnation || keep > 0;
    if (kept) {
      if (push->incarnation < incarnation) keep--;
      before = &push->clock;
      at = &push->next;
      continue;
    }
    *at = push->next;
    *before = push->clock;
    clock->bytes -= push->bytes;
    free_push(server, push);
  }
  clock->last = NULL;
  for (server_push *push = clock->first; push; push = push->next) clock->last = push;
}

/* Why this push cannot be applied; NEAP_OK if it can. */
static int check_push(neap_server *server, const server_key *key, const neap_push_head *head,
                      char *text, size_t size) {
  char name[NEAP_KEY_TEXT];
  int stype = head->kind == NEAP_PUSH_SPARSE ? NEAP_ROW_SPARSE : NEAP_DENSE;
  if (stype == NEAP_DENSE && key->info.stype != NEAP_DENSE) {
    snprintf(text, size, "push: %s: a dense array where row_sparse is stored",
             neap_key_text(key->key, name));
    return NEAP_ESTYPE;
  }
  if (!server->optimizer && server->async) {
    snprintf(text, size, "push: %s: a dist_async store needs an optimizer: set_optimizer first",
             neap_key_text(key->key, name));
    return NEAP_EINVAL;
  }
  if (!server->optimizer) return NEAP_OK;
  if (key->unbound[stype]) {
    snprintf(text, size, "push: %s: %s", neap_key_text(key->key, name), key->unbound[stype]);
    return NEAP_EINVAL;
  }
  int status = neap_optimizer_check(server->optimizer, key->key, stype);
  if (status != NEAP_OK) snprintf(text, size, "push: %s", neap_error());
  return status;
}

/* While somebody is lost, nothing starts: nobody may run ahead without end, nor wait for a reply
 * without end. */
static int check_ahead(neap_server *server, const server_key *key, int rank, uint64_t bytes,
                       char *text, size_t size) {
  const server_clock *clock = &key->clocks[rank];
  if (server->async || !clock->first || clock->bytes + bytes <= AHEAD) return NEAP_OK;
  for (int i = 0; i < server->roster->num_workers; i++) {
    if (key->clocks[i].first || !neap_server_is_lost(server, i)) continue;
    char name[NEAP_KEY_TEXT], node[NEAP_NODE_TEXT];
    snprintf(text, size, "push: %s waits for a push of %s, which died",
             neap_key_text(key->key, name), neap_node_text(server->roster, NEAP_WORKER, i, node));
    return NEAP_ELOST;
  }
  return NEAP_OK;
}

/* A push that is new is accepted: its reply says that it will be applied, and its array is ours. In
 * step it is answered at once; out of step when its update starts, which is soon, so that whoever
 * meets others at a barrier sees their pushes. */
static int accept_push(neap_server *server, int rank, neap_incoming *in, const neap_push_head *head,
                       server_key *key) {
  neap_array *array = NULL;
  NEAP_TRY(neap_read_push_value(server, in, head, key, &array));
  server_push *push = neap_alloc(server->context, sizeof *push);
  if (!push) {
    neap_array_close(array);
    return NEAP_ENOMEM;
  }
  server_clock *clock = &key->clocks[rank];
  *push = (server_push){.clock = head->clock,
                        .request = in->frame.id,
                        .incarnation = server->workers[rank].incarnation,
                        .array = array,
                        .codec = head->codec,
                        .threshold = (float)head->threshold,
                        .bytes = (size_t)in->frame.total};
  bool ahead = clock->first && clock->bytes + push->bytes > AHEAD;
  *(clock->last ? &clock->last->next : &clock->first) = push;
  clock->last = push;
  clock->bytes += push->bytes;
  clock->accepted = head->clock;
  if (!server->async && (!ahead || server->workers[rank].hurried))
    reply_push(server, rank, push, NEAP_OK, NULL);
  if (key->parts > 1)
    neap_split_accepted(server, key, rank);
  else if (server->async)
    start_alone(server, key, rank);
  else
    start_rounds(server, key);
  return NEAP_OK;
}

/* A push that was here before: its reply was lost, or is still to come. */
static void reply_again(neap_server *server, int rank, const neap_push_head *head, server_key *key,
                        uint64_t request) {
  for (server_push *push = key->clocks[rank].first; push; push = push->next)
    if (push->clock == head->clock && !push->replied) {
      push->request = request;
      return;
    }
  neap_server_reply(server, rank, request, NEAP_OK, NULL, NULL, 0);
}

const char *neap_server_push(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  neap_push_head head;
  char text[1024];
  const char *wrong = neap_read_push(r, &head);
  if (wrong) return wrong;
  server_key *key = neap_server_find(server, &head.key, head.birth, text, sizeof text);
  int status = key ? NEAP_OK : NEAP_EKEY;
  if (key) {
    server_clock *clock = &key->clocks[rank];
    if (head.clock <= clock->accepted) {
      reply_again(server, rank, &head, key, in->frame.id);
      return NULL;
    }
    if (head.clock != clock->accepted + 1) return "a PUSH before its predecessor";
    status = check_push(server, key, &head, text, sizeof text);
    if (status == NEAP_OK)
      status = check_ahead(server, key, rank, in->frame.total, text, sizeof text);
    if (status == NEAP_OK) {
      status = accept_push(server, rank, in, &head, key);
      if (status == NEAP_OK) {
        neap_server_answer_pulls(server, key);
        return NULL;
      }
      snprintf(text, sizeof text, "push: %s", neap_error());
    }
    /* Refused for good: it counts as one that changed nothing, so that later ones are in turn. */
    clock->accepted = head.clock;
    *(clock->last ? &clock->last->clock : &clock->started) = head.clock;
    neap_server_answer_pulls(server, key);
  }
  neap_server_reply(server, rank, in->frame.id, status, text, NULL, 0);
  return NULL;
}

/* ---- Who comes and goes ---------------------------------------------------------------------- */

void neap_server_recheck(neap_server *server) {
  for (int rank = 0; rank < server->roster->num_workers; rank++)
    for (int other = 0; neap_server_is_lost(server, rank) && other < server->roster->num_workers;
         other++)
      neap_server_hurry(server, other); /* what waits for a reply is here, and stays */
  for (int i = 0; i < server->keys.count; i++) {
    server_key *key = neap_keys_value_at(&server->keys, i);
    if (key->parts > 1)
      neap_split_recheck(server, key);
    else if (server->async)
      start_waiting(server, key);
    else
      start_rounds(server, key);
    neap_server_answer_pulls(server, key);
  }
  fail_waits(server);
}

void neap_server_hurry(neap_server *server, int rank) {
  for (int i = 0; i < server->keys.count && !server->async; i++) {
    server_key *key = neap_keys_value_at(&server->keys, i);
    for (server_push *push = key->clocks[rank].first; push; push = push->next)
      reply_push(server, rank, push, NEAP_OK, NULL);
  }
}

void neap_server_forget_worker(neap_server *server, int rank) {
  for (int i = 0; i < server->keys.count; i++) {
    server_key *key = neap_keys_value_at(&server->keys, i);
    neap_server_drop_pulls(server, key, rank, NEAP_OK, NULL);
    for (server_push *push = key->clocks[rank].first; push; push = push->next)
      push->replied = true; /* who asked is gone; the push counts */
  }
  for (server_wait **at = &server->waits; *at;) {
    server_wait *wait = *at;
    if (wait->rank != rank) {
      at = &wait->next;
      continue;
    }
    *at = wait->next;
    free_wait(server, wait);
  }
}
