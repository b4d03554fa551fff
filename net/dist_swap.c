/* SPDX-License-Identifier: MIT */
/* dist_swap.c - a worker leads all servers from one optimizer to another; server_swap.c tells how.
 *
 * Server 0 is asked first, and holds the turn: so two workers that want to do this at once do it
 * one after the other, in the same order on all servers. */
#include "dist_ask.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

/* One exchange under way. */
typedef struct exchange {
  dist_store *store;
  neap_ask **calls; /* of the last step, one a server; NULL: none */
  int prepared;     /* servers that have to hear the end of it */
  int64_t version;
} exchange;

/* ---- What this worker has pushed before ------------------------------------------------------ */

static int nothing(neap_task *task, void *arg) {
  (void)task, (void)arg;
  return NEAP_OK;
}

static void drained(void *arg) {
  atomic_store((atomic_int *)arg, 1);
}

/* Waits until all that is queued on the keys is done, but takes no error off them. */
static int drain(dist_store *store) {
  for (int i = 0;; i++) {
    pthread_mutex_lock(&store->base.lock);
    dist_entry *entry = neap_keys_value_at(&store->base.keys, i);
    dist_key *key = entry ? neap_dist_key_hold(entry->key) : NULL;
    pthread_mutex_unlock(&store->base.lock);
    if (!key) return NEAP_OK;
    atomic_int done = 0;
    neap_var *var = neap_array_var(key->order);
    neap_op op = {.size = sizeof op,
                  .name = "set_optimizer",
                  .run = nothing,
                  .done = drained,
                  .arg = &done,
                  .reads = &var,
                  .num_reads = 1};
    int status = neap_push(store->context, &op);
    while (status == NEAP_OK && !atomic_load(&done))
      if (neap_poll(store->context, 1000) == 0)
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    neap_dist_key_drop(key);
    NEAP_TRY(status);
  }
}

/* The servers have accepted every push so far. */
static int flush(dist_store *store) {
  bool fenced;
  NEAP_TRY(drain(store));
  NEAP_TRY(neap_dist_settle(store, &fenced));
  return fenced ? neap_dist_fence(store, false) : NEAP_OK;
}

/* ---- Steps (under store->calls) -------------------------------------------------------------- */

static void drop_calls(exchange *x) {
  for (int i = 0; i < x->store->num_servers; i++)
    if (x->calls[i]) neap_ask_drop(x->calls[i]);
  memset(x->calls, 0, (size_t)x->store->num_servers * sizeof *x->calls);
}

/* Asks servers [first, last) at once and waits for all. The first failure counts; *good, where
 * wanted, is the number of those before it. */
static int step(exchange *x, int type, int first, int last, const void *bytes, size_t size) {
  dist_store *store = x->store;
  uint64_t number = ++store->controls;
  int status = NEAP_OK;
  for (int i = first; i < last; i++) {
    if (x->calls[i]) neap_ask_drop(x->calls[i]);
    x->calls[i] = neap_ask_new(store, type);
    if (!x->calls[i]) {
      status = NEAP_ENOMEM;
      break;
    }
    neap_put_u64(&x->calls[i]->w, number);
    neap_ask_payload(x->calls[i], bytes, size);
    neap_ask_send(store->servers[i], x->calls[i]);
  }
  for (int i = first; i < last && x->calls[i]; i++) {
    int one = neap_ask_wait(x->calls[i], -1);
    if (status == NEAP_OK) status = one;
  }
  return status;
}

static int read_number(const neap_ask *c, int64_t *out) {
  neap_reader r;
  neap_reader_open(&r, c->meta, c->meta_size);
  *out = (int64_t)neap_get_u64(&r);
  return neap_reader_done(&r) ? NEAP_OK : neap_fail(NEAP_EFORMAT, "a damaged answer");
}

/* Tells those who are prepared that nothing will come of it; `status` and its text stay. */
static int give_up(exchange *x, int status) {
  char text[1024];
  uint8_t no[9] = {0};
  snprintf(text, sizeof text, "%s", neap_error());
  (void)step(x, NEAP_M_SWITCH, 0, x->store->num_servers, no, sizeof no);
  return neap_fail(status, "%s", text);
}

/* ---- The round ------------------------------------------------------------------------------- */

/* The highest limit of each key that several servers have parts of. */
typedef struct limits {
  neap_context *context;
  neap_keys keys; /* -> uint64_t */
} limits;

static void free_limits(limits *all) {
  for (int i = 0; i < all->keys.count; i++)
    neap_free(all->context, neap_keys_value_at(&all->keys, i), sizeof(uint64_t));
  neap_keys_clear(&all->keys);
}

static int add_limits(limits *all, const neap_ask *reply) {
  neap_reader r;
  neap_reader_open(&r, reply->payload, reply->size);
  while (r.at != r.end && !r.bad) {
    neap_key key;
    neap_get_key(&r, &key);
    uint64_t limit = neap_get_u64(&r);
    if (r.bad) break;
    uint64_t *is = neap_keys_find(&all->keys, &key);
    if (!is) {
      is = neap_alloc(all->context, sizeof *is);
      if (!is) return NEAP_ENOMEM;
      *is = 0;
      int status = neap_keys_add(&all->keys, &key, is);
      if (status != NEAP_OK) {
        neap_free(all->context, is, sizeof *is);
        return status;
      }
    }
    if (*is < limit) *is = limit;
  }
  return r.bad ? neap_fail(NEAP_EFORMAT, "a damaged answer to ARM") : NEAP_OK;
}

/* The SWITCH that says what has been agreed on. */
static int send_switch(exchange *x, const limits *all) {
  size_t room = 16;
  for (int i = 0; i < all->keys.count; i++) room += neap_keys_at(&all->keys, i)->length + 32;
  uint8_t *bytes = neap_alloc(x->store->context, room);
  if (!bytes) return give_up(x, NEAP_ENOMEM);
  neap_writer w;
  neap_writer_open(&w, bytes, room);
  neap_put_u8(&w, 1);
  neap_put_u64(&w, (uint64_t)x->version);
  for (int i = 0; i < all->keys.count; i++) {
    neap_put_key(&w, neap_keys_at(&all->keys, i));
    neap_put_u64(&w, *(uint64_t *)neap_keys_value_at(&all->keys, i));
  }
  int status = step(x, NEAP_M_SWITCH, 0, x->store->num_servers, bytes, neap_writer_size(&w));
  neap_free(x->store->context, bytes, room);
  return status;
}

/* Once all are prepared. */
static int agree(exchange *x, bool rollback) {
  dist_store *store = x->store;
  int status = step(x, NEAP_M_ARM, 0, store->num_servers, NULL, 0);
  limits all = {.context = store->context, .keys = {.context = store->context}};
  int64_t highest = 0;
  for (int i = 0; status == NEAP_OK && i < store->num_servers; i++) {
    int64_t is = 0;
    status = read_number(x->calls[i], &is);
    if (is > highest) highest = is;
    if (status == NEAP_OK) status = add_limits(&all, x->calls[i]);
  }
  if (!rollback) x->version = highest + 1;
  status = status == NEAP_OK ? send_switch(x, &all) : give_up(x, status);
  free_limits(&all);
  return status;
}

static int lead(exchange *x, int type, const void *bytes, size_t size) {
  int servers = x->store->num_servers;
  NEAP_TRY(step(x, type, 0, 1, bytes, size));
  int status = read_number(x->calls[0], &x->version);
  if (status == NEAP_OK && servers > 1) status = step(x, type, 1, servers, bytes, size);
  return status == NEAP_OK ? agree(x, type == NEAP_M_ROLLBACK) : give_up(x, status);
}

static int change(dist_store *store, int type, const void *bytes, size_t size, int64_t *version) {
  exchange x = {.store = store};
  size_t room = (size_t)store->num_servers * sizeof *x.calls;
  NEAP_TRY(flush(store));
  x.calls = neap_alloc(store->context, room);
  if (!x.calls) return NEAP_ENOMEM;
  memset(x.calls, 0, room);
  pthread_mutex_lock(&store->calls);
  int status = lead(&x, type, bytes, size);
  drop_calls(&x);
  pthread_mutex_unlock(&store->calls);
  neap_free(store->context, x.calls, room);
  NEAP_TRY(status);
  atomic_store(&store->version, x.version > INT32_MAX ? INT32_MAX : (int)x.version);
  *version = x.version;
  return NEAP_OK;
}

int neap_store_send_optimizer(neap_store *base, const char *dump, size_t size, int64_t *version) {
  dist_store *store = NULL;
  NEAP_TRY(neap_dist_need(base, "set_optimizer", &store));
  return change(store, NEAP_M_OPTIMIZER, dump, size, version);
}

int neap_store_rollback_optimizer(neap_store *base, int64_t *version) {
  dist_store *store = NULL;
  NEAP_TRY(neap_dist_need(base, "rollback_optimizer", &store));
  return change(store, NEAP_M_ROLLBACK, NULL, 0, version);
}
