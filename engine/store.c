/* SPDX-License-Identifier: MIT */
/* store.c - the public face of stores: types by name, all checks of arguments, the table of keys.
 *
 * What every type shares is done here once, so that a wrong shape gives the same error with any of
 * them, and a type's own file holds nothing but its way of moving numbers (store.h). All checks of
 * a call come before its first effect; this and the types' all-or-nothing rule make good what
 * neap.h promises: a call that fails changed nothing and queued nothing. */
#include "store.h"
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define NEAP_STORE(name, implementation, flags)                                                    \
  extern const neap_store_ops neap_store_##implementation;
#include "stores.def"
#undef NEAP_STORE

const neap_store_row neap_store_rows[] = {
#define NEAP_STORE(name, implementation, flags) {#name, &neap_store_##implementation, flags},
#include "stores.def"
#undef NEAP_STORE
};

enum { NUM_ROWS = sizeof neap_store_rows / sizeof *neap_store_rows };

/* ---- Types --------------------------------------------------------------------------- */

const char *neap_store_type_name(int index) {
  return index >= 0 && index < NUM_ROWS ? neap_store_rows[index].name : NULL;
}

const char *neap_store_type(const neap_store *store) {
  return store->row->name;
}

static int unknown_type(const char *type) {
  char names[512];
  size_t used = 0;
  for (int i = 0; i < NUM_ROWS && used < sizeof names; i++)
    used += (size_t)snprintf(names + used, sizeof names - used, " %s", neap_store_rows[i].name);
  return neap_fail(NEAP_EINVAL, "unknown store type '%.80s'; valid are:%s", type, names);
}

int neap_store_create(neap_context *context, const char *type, neap_store **out) {
  return neap_store_make(context, type, NULL, out);
}

int neap_store_make(neap_context *context, const char *type, const neap_job_options *job,
                    neap_store **out) {
  if (!type) return neap_fail(NEAP_EINVAL, "the name of a store type must be a string");
  const neap_store_row *row = NULL;
  for (int i = 0; i < NUM_ROWS && !row; i++)
    if (strcmp(neap_store_rows[i].name, type) == 0) row = &neap_store_rows[i];
  if (!row) return unknown_type(type);
  if (atomic_load(&context->closed)) return neap_fail(NEAP_ECLOSED, "the context is closed");
  neap_store *store = neap_alloc(context, row->ops->store_size);
  if (!store) return NEAP_ENOMEM;
  memset(store, 0, row->ops->store_size);
  neap_context_retain(context);
  store->context = store->keys.context = context;
  store->row = row;
  int status = NEAP_OK;
  if (pthread_mutex_init(&store->lock, NULL) == 0)
    store->locked = true;
  else
    status = neap_fail(NEAP_ENOMEM, "a lock cannot be made");
  if (status == NEAP_OK && row->ops->open) status = row->ops->open(store, job);
  store->open = status == NEAP_OK;
  if (status != NEAP_OK)
    neap_store_close(store);
  else
    *out = store;
  return status;
}

/* Takes the newest key out again, or any other: the type's part first. */
static void drop_entry(neap_store *store, neap_store_entry *entry) {
  if (store->row->ops->drop) store->row->ops->drop(store, entry);
  neap_keys_remove(&store->keys, entry->key);
  neap_free(store->context, entry, store->row->ops->entry_size);
}

void neap_store_close(neap_store *store) {
  if (!store) return;
  neap_context *context = store->context;
  if (store->open && store->row->ops->leave) store->row->ops->leave(store);
  while (store->keys.count > 0)
    drop_entry(store, neap_keys_value_at(&store->keys, store->keys.count - 1));
  neap_keys_clear(&store->keys);
  if (store->row->ops->close) store->row->ops->close(store);
  neap_optimizer_close(store->optimizer);
  if (store->locked) pthread_mutex_destroy(&store->lock);
  neap_free(context, store, store->row->ops->store_size);
  neap_context_release(context);
}

/* ---- Checks -------------------------------------------------------------------------- */

/* What a public function was given, and what became of it. */
typedef struct request {
  neap_store *store;
  const char *name; /* of the function, as users of the stores know it */
  int num_keys;
  const neap_key *keys;
  neap_store_item *in, *out; /* num_keys each; NULL while there are none */
  neap_store_item small[8];  /* most calls are about one key: no allocation for them */
} request;

static int open_request(request *r, neap_store *store, const char *name, int num_keys,
                        const neap_key *keys, bool in, bool out) {
  r->store = store;
  r->name = name;
  r->num_keys = num_keys;
  r->keys = keys;
  r->in = r->out = NULL;
  if (atomic_load_explicit(&store->context->closed, memory_order_relaxed))
    return neap_fail(NEAP_ECLOSED, "%s: the context is closed", name);
  if (num_keys < 0 || num_keys > INT_MAX / 4)
    return neap_fail(NEAP_EINVAL, "%s: %d keys are not possible", name, num_keys);
  size_t sets = (size_t)in + (size_t)out;
  neap_store_item *items = r->small;
  if ((size_t)num_keys * sets > sizeof r->small / sizeof *r->small) {
    items = neap_alloc(store->context, (size_t)num_keys * sets * sizeof *items);
    if (!items) return NEAP_ENOMEM;
  }
  if (in) r->in = items;
  if (out) r->out = items + (in ? num_keys : 0);
  pthread_mutex_lock(&store->lock);
  return NEAP_OK;
}

static int close_request(request *r, int status) {
  pthread_mutex_unlock(&r->store->lock);
  neap_store_item *items = r->in ? r->in : r->out;
  size_t sets = (size_t)(r->in != NULL) + (size_t)(r->out != NULL);
  if (items && items != r->small)
    neap_free(r->store->context, items, (size_t)r->num_keys * sets * sizeof *items);
  return status;
}

/* Keys are all texts or all numbers: those of one call, and those of the store. */
static int check_kinds(const request *r) {
  int kind = r->store->kind;
  for (int i = 0; i < r->num_keys; i++) {
    char text[NEAP_KEY_TEXT];
    NEAP_TRY(neap_key_check(&r->keys[i]));
    int is = r->keys[i].text ? 't' : 'n';
    if (!kind) kind = is;
    if (is != kind)
      return neap_fail(NEAP_EINVAL, "%s: inconsistent types of keys: %s where %s are %s", r->name,
                       neap_key_text(&r->keys[i], text), r->store->kind ? "the store's" : "others",
                       kind == 't' ? "strings" : "numbers");
  }
  return NEAP_OK;
}

static const char *stype_name(int stype) {
  return stype == NEAP_DENSE ? "dense" : "row_sparse";
}

/* An array of a call: there, and of this context. */
static int check_array(const request *r, const neap_key *key, const neap_array *array) {
  char text[NEAP_KEY_TEXT];
  if (!array)
    return neap_fail(NEAP_EINVAL, "%s: %s: an array is missing", r->name, neap_key_text(key, text));
  if (neap_array_context(array) != r->store->context)
    return neap_fail(NEAP_EINVAL, "%s: %s: the array belongs to another context than the store",
                     r->name, neap_key_text(key, text));
  return NEAP_OK;
}

static int unknown_key(const request *r, const neap_key *key, const neap_array *array) {
  char text[NEAP_KEY_TEXT], shape[NEAP_SHAPE_TEXT];
  if (!array)
    return neap_fail(NEAP_EKEY, "%s: %s was not initialized", r->name, neap_key_text(key, text));
  return neap_fail(NEAP_EKEY, "%s: %s (array of shape %s) was not initialized: call init first",
                   r->name, neap_key_text(key, text),
                   neap_shape_text(neap_array_get_info(array), shape));
}

/* Shape and dtype as stored. */
static int check_fits(const request *r, const neap_store_entry *entry, const neap_array *array) {
  const neap_array_info *got = neap_array_get_info(array), *is = &entry->info;
  if (got->dtype == is->dtype && neap_same_shape(got, is)) return NEAP_OK;
  char text[NEAP_KEY_TEXT], a[NEAP_SHAPE_TEXT], b[NEAP_SHAPE_TEXT];
  neap_key_text(entry->key, text);
  neap_shape_text(got, a);
  neap_shape_text(is, b);
  if (!neap_same_shape(got, is))
    return neap_fail(NEAP_ESHAPE, "%s: %s: shape %s where %s is stored", r->name, text, a, b);
  return neap_fail(
      NEAP_EDTYPE,
      "%s: %s: dtype %s (shape %s) where %s (shape %s) is stored; astype('%s') converts", r->name,
      text, neap_dtype_name(got->dtype), a, neap_dtype_name(is->dtype), b,
      neap_dtype_name(is->dtype));
}

static int wrong_storage(const request *r, const neap_store_entry *entry, const neap_array *array,
                         const char *where) {
  char text[NEAP_KEY_TEXT], a[NEAP_SHAPE_TEXT], b[NEAP_SHAPE_TEXT];
  const neap_array_info *got = neap_array_get_info(array);
  return neap_fail(NEAP_ESTYPE, "%s: %s: a %s array (shape %s) %s (stored: %s, shape %s)", r->name,
                   neap_key_text(entry->key, text), stype_name(got->stype), neap_shape_text(got, a),
                   where, stype_name(entry->info.stype), neap_shape_text(&entry->info, b));
}

/* Splits `arrays` over the keys and looks these up. */
static int find_items(const request *r, neap_store_item *items, const int *counts,
                      neap_array *const *arrays, neap_array *const *ids) {
  NEAP_TRY(check_kinds(r));
  for (int i = 0; i < r->num_keys; i++) {
    const neap_key *key = &r->keys[i];
    int count = counts ? counts[i] : 1;
    if (count < 1 || count > INT_MAX / 64) {
      char text[NEAP_KEY_TEXT];
      return neap_fail(NEAP_EINVAL, "%s: %s: at least one array is needed, %d are given", r->name,
                       neap_key_text(key, text), count);
    }
    neap_store_entry *entry = neap_keys_find(&r->store->keys, key);
    for (int k = 0; k < count; k++) {
      NEAP_TRY(check_array(r, key, arrays[k]));
      if (!entry) return unknown_key(r, key, arrays[k]);
      NEAP_TRY(check_fits(r, entry, arrays[k]));
    }
    items[i] = (neap_store_item){entry, count, arrays, ids};
    arrays += count;
    if (ids) ids += count;
  }
  return NEAP_OK;
}

/* Values to push: of one storage type, and one that the key can take. `optimizer`: what will update
 * by their sum, NULL for nothing. */
static int check_values(const request *r, const neap_store_item *items, neap_optimizer *optimizer) {
  for (int i = 0; i < r->num_keys; i++) {
    const neap_store_entry *entry = items[i].entry;
    int stype = neap_array_get_info(items[i].arrays[0])->stype;
    for (int k = 1; k < items[i].count; k++)
      if (neap_array_get_info(items[i].arrays[k])->stype != stype)
        return wrong_storage(r, entry, items[i].arrays[k],
                             stype == NEAP_DENSE ? "among dense ones" : "among row_sparse ones");
    if (stype == NEAP_DENSE && entry->info.stype != NEAP_DENSE)
      return wrong_storage(r, entry, items[i].arrays[0], "where row_sparse is stored");
    if (r->store->optimizer) NEAP_TRY(neap_optimizer_check(r->store->optimizer, entry->key, stype));
  }
  return NEAP_OK;
}

/* Outs of a pull: a dense value does not go into a row-sparse array. */
static int check_outs(const request *r, const neap_store_item *items, bool ignore_sparse) {
  for (int i = 0; i < r->num_keys && !ignore_sparse; i++)
    for (int k = 0; k < items[i].count; k++)
      if (neap_array_get_info(items[i].arrays[k])->stype != NEAP_DENSE &&
          items[i].entry->info.stype == NEAP_DENSE)
        return wrong_storage(r, items[i].entry, items[i].arrays[k],
                             "cannot hold a dense value; use row_sparse_pull");
  return NEAP_OK;
}

/* ---- Keys ---------------------------------------------------------------------------- */

static int already_there(const request *r, const neap_store_entry *entry, const neap_array *array) {
  char text[NEAP_KEY_TEXT], a[NEAP_SHAPE_TEXT], b[NEAP_SHAPE_TEXT];
  return neap_fail(NEAP_EEXIST, "%s: %s (shape %s) is initialized already (shape %s)", r->name,
                   neap_key_text(entry->key, text), neap_shape_text(neap_array_get_info(array), a),
                   neap_shape_text(&entry->info, b));
}

/* A new entry in the table, its value still to come. */
static int add_entry(const request *r, const neap_key *key, const neap_array *array,
                     neap_store_entry **out) {
  neap_store *store = r->store;
  size_t size = store->row->ops->entry_size;
  NEAP_TRY(check_array(r, key, array));
  neap_store_entry *entry = neap_keys_find(&store->keys, key);
  if (entry) return already_there(r, entry, array);
  entry = neap_alloc(store->context, size);
  if (!entry) return NEAP_ENOMEM;
  memset(entry, 0, size);
  int status = neap_keys_add(&store->keys, key, entry);
  if (status != NEAP_OK) {
    neap_free(store->context, entry, size);
    return status;
  }
  entry->key = neap_keys_at(&store->keys, store->keys.count - 1);
  entry->info = *neap_array_get_info(array);
  *out = entry;
  return NEAP_OK;
}

/* init and broadcast. Entries stand in the table before they have a value, so that the list is
 * checked against itself as well; nobody sees them, the lock is held. */
static int add_keys(request *r, const int *out_counts, neap_array *const *arrays,
                    neap_array *const *outs, int priority, bool ignore_sparse) {
  neap_store *store = r->store;
  NEAP_TRY(check_kinds(r));
  int added = 0, status = NEAP_OK;
  for (; added < r->num_keys; added++) {
    neap_store_entry *entry = NULL;
    status = add_entry(r, &r->keys[added], arrays[added], &entry);
    if (status != NEAP_OK) break;
    r->in[added] = (neap_store_item){entry, 1, arrays + added, NULL};
  }
  if (status == NEAP_OK && outs) status = find_items(r, r->out, out_counts, outs, NULL);
  if (status == NEAP_OK && outs) status = check_outs(r, r->out, ignore_sparse);
  if (status == NEAP_OK) {
    neap_store_call call = {r->in,    r->num_keys,  r->out, outs ? r->num_keys : 0,
                            priority, ignore_sparse};
    status = store->row->ops->init(store, &call);
  }
  if (status != NEAP_OK)
    while (added > 0) drop_entry(store, r->in[--added].entry);
  else if (added > 0)
    store->kind = r->keys[0].text ? 't' : 'n';
  return status;
}

int neap_store_init(neap_store *store, int num_keys, const neap_key *keys,
                    neap_array *const *arrays) {
  request r;
  NEAP_TRY(open_request(&r, store, "init", num_keys, keys, true, false));
  return close_request(&r, add_keys(&r, NULL, arrays, NULL, 0, true));
}

int neap_store_broadcast(neap_store *store, int num_keys, const neap_key *keys,
                         neap_array *const *arrays, const int *out_counts, neap_array *const *outs,
                         int priority, int ignore_sparse) {
  request r;
  NEAP_TRY(open_request(&r, store, "broadcast", num_keys, keys, true, true));
  return close_request(&r, add_keys(&r, out_counts, arrays, outs, priority, ignore_sparse != 0));
}

int neap_store_delete(neap_store *store, const neap_key *key) {
  request r;
  NEAP_TRY(open_request(&r, store, "delete", 1, key, false, false));
  int status = check_kinds(&r);
  neap_store_entry *entry = status == NEAP_OK ? neap_keys_find(&store->keys, key) : NULL;
  if (entry && store->row->ops->forget) status = store->row->ops->forget(store, entry);
  if (entry && status == NEAP_OK) {
    if (store->optimizer) neap_optimizer_forget(store->optimizer, key);
    drop_entry(store, entry);
  } else if (status == NEAP_OK) {
    status = unknown_key(&r, key, NULL);
  }
  return close_request(&r, status);
}

int neap_store_contains(const neap_store *store, const neap_key *key) {
  pthread_mutex_t *lock = (pthread_mutex_t *)&store->lock; /* a lock is no part of the value */
  pthread_mutex_lock(lock);
  int found = neap_keys_find(&store->keys, key) != NULL;
  pthread_mutex_unlock(lock);
  return found;
}

int neap_store_key(const neap_store *store, int index, neap_key *out) {
  pthread_mutex_t *lock = (pthread_mutex_t *)&store->lock;
  pthread_mutex_lock(lock);
  const neap_key *key = neap_keys_at(&store->keys, index);
  if (key) *out = *key;
  pthread_mutex_unlock(lock);
  return key ? NEAP_OK : neap_fail(NEAP_EINVAL, "there is no key of index %d", index);
}

/* ---- Values -------------------------------------------------------------------------- */

static int run_push(request *r, const int *counts, neap_array *const *arrays, const int *out_counts,
                    neap_array *const *outs, int priority, bool ignore_sparse) {
  NEAP_TRY(find_items(r, r->in, counts, arrays, NULL));
  NEAP_TRY(check_values(r, r->in, r->store->optimizer));
  if (outs) {
    NEAP_TRY(find_items(r, r->out, out_counts, outs, NULL));
    NEAP_TRY(check_outs(r, r->out, ignore_sparse));
  }
  neap_store_call call = {r->in,    r->num_keys,  r->out, outs ? r->num_keys : 0,
                          priority, ignore_sparse};
  return r->store->row->ops->push(r->store, &call);
}

int neap_store_push(neap_store *store, int num_keys, const neap_key *keys, const int *counts,
                    neap_array *const *arrays, int priority) {
  request r;
  NEAP_TRY(open_request(&r, store, "push", num_keys, keys, true, false));
  return close_request(&r, run_push(&r, counts, arrays, NULL, NULL, priority, true));
}

int neap_store_pushpull(neap_store *store, int num_keys, const neap_key *keys, const int *counts,
                        neap_array *const *arrays, const int *out_counts, neap_array *const *outs,
                        int priority, int ignore_sparse) {
  request r;
  NEAP_TRY(open_request(&r, store, "pushpull", num_keys, keys, true, true));
  return close_request(
      &r, run_push(&r, counts, arrays, out_counts, outs, priority, ignore_sparse != 0));
}

static int run_pull(request *r, const int *counts, neap_array *const *arrays, int priority,
                    bool ignore_sparse) {
  NEAP_TRY(find_items(r, r->out, counts, arrays, NULL));
  NEAP_TRY(check_outs(r, r->out, ignore_sparse));
  neap_store_call call = {NULL, 0, r->out, r->num_keys, priority, ignore_sparse};
  return r->store->row->ops->pull(r->store, &call);
}

int neap_store_pull(neap_store *store, int num_keys, const neap_key *keys, const int *counts,
                    neap_array *const *arrays, int priority, int ignore_sparse) {
  request r;
  NEAP_TRY(open_request(&r, store, "pull", num_keys, keys, false, true));
  return close_request(&r, run_pull(&r, counts, arrays, priority, ignore_sparse != 0));
}

static int check_ids(const request *r, const neap_store_item *item) {
  char text[NEAP_KEY_TEXT];
  neap_key_text(item->entry->key, text);
  for (int k = 0; k < item->count; k++) {
    if (neap_array_get_info(item->arrays[k])->stype == NEAP_DENSE)
      return wrong_storage(r, item->entry, item->arrays[k], "where a row_sparse one is wanted");
    NEAP_TRY(check_array(r, item->entry->key, item->ids[k]));
    const neap_array_info *ids = neap_array_get_info(item->ids[k]);
    if (ids->stype != NEAP_DENSE)
      return neap_fail(NEAP_ESTYPE, "%s: %s: row ids must be a dense array", r->name, text);
    if (ids->dtype != NEAP_INT32 && ids->dtype != NEAP_INT64)
      return neap_fail(NEAP_EDTYPE, "%s: %s: row ids of dtype %s; astype('int64') converts",
                       r->name, text, neap_dtype_name(ids->dtype));
  }
  return NEAP_OK;
}

static int run_pull_rows(request *r, const int *counts, neap_array *const *arrays,
                         neap_array *const *ids, int priority) {
  NEAP_TRY(find_items(r, r->out, counts, arrays, ids));
  for (int i = 0; i < r->num_keys; i++) NEAP_TRY(check_ids(r, &r->out[i]));
  neap_store_call call = {NULL, 0, r->out, r->num_keys, priority, false};
  return r->store->row->ops->pull_rows(r->store, &call);
}

int neap_store_pull_rows(neap_store *store, int num_keys, const neap_key *keys, const int *counts,
                         neap_array *const *arrays, neap_array *const *ids, int priority) {
  request r;
  NEAP_TRY(open_request(&r, store, "row_sparse_pull", num_keys, keys, false, true));
  return close_request(&r, run_pull_rows(&r, counts, arrays, ids, priority));
}

static int run_sum(request *r, int count, neap_array *const *arrays, int priority,
                   neap_array **out) {
  NEAP_TRY(find_items(r, r->in, &count, arrays, NULL));
  NEAP_TRY(check_values(r, r->in, NULL));
  if (!r->store->row->ops->sum)
    return neap_fail(NEAP_ENOTSUP,
                     "a %s store takes no updater: its values are elsewhere; "
                     "send a script by set_optimizer",
                     neap_store_type(r->store));
  return r->store->row->ops->sum(r->store, r->in, priority, out);
}

int neap_store_sum(neap_store *store, const neap_key *key, int count, neap_array *const *arrays,
                   int priority, neap_array **out) {
  request r;
  NEAP_TRY(open_request(&r, store, "push", 1, key, true, false));
  return close_request(&r, run_sum(&r, count, arrays, priority, out));
}

static int run_value(request *r, neap_array **out) {
  NEAP_TRY(check_kinds(r));
  neap_store_entry *entry = neap_keys_find(&r->store->keys, r->keys);
  if (!entry) return unknown_key(r, r->keys, NULL);
  if (!r->store->row->ops->value)
    return neap_fail(NEAP_ENOTSUP, "the values of a %s store are elsewhere",
                     neap_store_type(r->store));
  return r->store->row->ops->value(r->store, entry, out);
}

int neap_store_value(neap_store *store, const neap_key *key, neap_array **out) {
  request r;
  NEAP_TRY(open_request(&r, store, "value", 1, key, false, false));
  return close_request(&r, run_value(&r, out));
}

/* ---- The rest ------------------------------------------------------------------------ */

int neap_store_set_optimizer(neap_store *store, neap_optimizer *optimizer) {
  if (!store->row->ops->value)
    return neap_fail(NEAP_ENOTSUP,
                     "a %s store updates on its servers: neap_store_send_optimizer() sends one",
                     neap_store_type(store));
  request r;
  NEAP_TRY(open_request(&r, store, "set_optimizer", 0, NULL, false, false));
  neap_optimizer *old = store->optimizer;
  if (optimizer) neap_optimizer_retain(optimizer);
  store->optimizer = optimizer;
  close_request(&r, NEAP_OK);
  neap_optimizer_close(old);
  return NEAP_OK;
}

int neap_store_set_compression(neap_store *store, const char *type, double threshold) {
  if (!(store->row->flags & NEAP_STORE_COMPRESSES))
    return neap_fail(NEAP_ENOTSUP,
                     "gradient compression does nothing in a '%s' store, which sends nothing; "
                     "device and dist stores compress",
                     store->row->name);
  const neap_codec *codec = NULL;
  NEAP_TRY(neap_codec_find(type, &threshold, &codec));
  request r;
  NEAP_TRY(open_request(&r, store, "set_gradient_compression", 0, NULL, false, false));
  store->codec = codec;
  store->threshold = (float)threshold;
  return close_request(&r, NEAP_OK);
}

int neap_store_barrier(neap_store *store) {
  for (int i = 0;; i++) {
    request r;
    neap_array *value = NULL;
    NEAP_TRY(open_request(&r, store, "barrier", 0, NULL, false, false));
    neap_store_entry *entry = neap_keys_value_at(&store->keys, i);
    int status = NEAP_OK;
    if (entry) status = store->row->ops->written(store, entry, &value);
    close_request(&r, status); /* waiting is for those who hold no lock */
    NEAP_TRY(status);
    if (!value) return store->row->ops->barrier ? store->row->ops->barrier(store) : NEAP_OK;
    status = neap_array_wait(value);
    neap_array_close(value);
    NEAP_TRY(status);
  }
}
