/* SPDX-License-Identifier: MIT */
/* store_local.c - stores of one process: local, local_allreduce_cpu, local_update_cpu, device and
 * local_allreduce_device.
 *
 * A value is an array of the store's own, so that nothing a caller does to the arrays it passed
 * shows in the store. Every call becomes work on the engine; the engine's order by variables is all
 * the synchronization there is.
 *
 * The types differ in where values and sums live: on cpu(0), or on the first device that brought a
 * value for the key. On CPU contexts that is the same memory and the same arithmetic. */
#include "store.h"
#include "array_work.h"
#include "work_list.h"
#include <string.h>

typedef struct local_entry {
  neap_store_entry base;
  /* Dense as a rule. Of a key that was row-sparse at init: row-sparse until an optimizer first
   * updates it; see settle(). */
  neap_array *value;
  /* Sums on their way to the optimizer, by storage type; made when first needed. Pushes take turns
   * in them, which costs nothing: the updates have to take turns as well. */
  neap_array *merge[2];
  /* With gradient compression, for the k-th array of a push: what was not sent yet, and what is
   * being sent. One block of 2 * num_senders; made when first needed. */
  neap_array **residuals, **packed;
  int num_senders;
} local_entry;

/* ---- Arrays of the store's own ---------------------------------------------------------- */

/* An empty array shaped like the key's value, where this type of store keeps things: cpu(0), or
 * the device of `like`. */
static int make_array(neap_store *store, const neap_array_info *info, int stype,
                      const neap_array_info *like, neap_array **out) {
  bool on_device = store->row->flags & NEAP_STORE_ON_DEVICE;
  int type = on_device ? like->device_type : NEAP_CPU, id = on_device ? like->device_id : 0;
  if (stype == NEAP_DENSE)
    return neap_array_create(store->context, info->dtype, info->ndim, info->shape, type, id, out);
  return neap_sparse_create(store->context, info->dtype, info->ndim, info->shape, type, id, out);
}

/* Optimizers update dense weights. A row-sparse value becomes a dense one, absent rows zero, the
 * first time that one comes by. It is the same value, so this need not be undone if the push fails
 * later on. */
static int settle(neap_store *store, local_entry *entry) {
  const neap_array_info *info = neap_array_get_info(entry->value);
  if (info->stype == NEAP_DENSE) return NEAP_OK;
  neap_array *dense = NULL;
  NEAP_TRY(make_array(store, info, NEAP_DENSE, info, &dense));
  neap_work *work = neap_copy_work(entry->value, dense);
  if (!work) {
    neap_array_close(dense);
    return NEAP_ENOMEM;
  }
  neap_work_submit(work);
  neap_array_close(entry->value);
  entry->value = dense;
  return NEAP_OK;
}

/* Whether this push is compressed. */
static bool compresses(const neap_store *store, const neap_store_item *item) {
  const neap_array_info *first = neap_array_get_info(item->arrays[0]);
  return store->codec && first->stype == NEAP_DENSE && first->dtype == NEAP_FLOAT32;
}

/* A residual of zeros beside an array that is pushed. */
static int make_residual(neap_store *store, const neap_array_info *like, neap_array **out) {
  neap_array *residual = NULL;
  NEAP_TRY(make_array(store, like, NEAP_DENSE, like, &residual));
  int status = neap_array_fill(residual, 0);
  if (status != NEAP_OK) {
    neap_array_close(residual);
    return status;
  }
  *out = residual;
  return NEAP_OK;
}

/* Room for what a sender packs. A codec of another size replaces it; the residual stays. */
static int make_packed(neap_store *store, const neap_array_info *like, neap_array **packed) {
  int64_t bytes = neap_codec_bytes(store->codec, like->size);
  if (*packed && neap_array_get_info(*packed)->size == bytes) return NEAP_OK;
  neap_array_info info = {.dtype = NEAP_UINT8, .ndim = 1, .shape = {bytes}};
  neap_array *made = NULL;
  NEAP_TRY(make_array(store, &info, NEAP_DENSE, like, &made));
  neap_array_close(*packed);
  *packed = made;
  return NEAP_OK;
}

static size_t senders_size(int num_senders) {
  return 2 * (size_t)num_senders * sizeof(neap_array *);
}

static int more_senders(neap_store *store, local_entry *entry, int count) {
  neap_array **block = neap_alloc(store->context, senders_size(count));
  if (!block) return NEAP_ENOMEM;
  memset(block, 0, senders_size(count));
  for (int k = 0; k < entry->num_senders; k++) {
    block[k] = entry->residuals[k];
    block[count + k] = entry->packed[k];
  }
  neap_free(store->context, entry->residuals, senders_size(entry->num_senders));
  entry->residuals = block;
  entry->packed = block + count;
  entry->num_senders = count;
  return NEAP_OK;
}

static int prepare_senders(neap_store *store, const neap_store_item *item) {
  local_entry *entry = (local_entry *)item->entry;
  if (entry->num_senders < item->count) NEAP_TRY(more_senders(store, entry, item->count));
  for (int k = 0; k < item->count; k++) {
    const neap_array_info *like = neap_array_get_info(item->arrays[k]);
    if (!entry->residuals[k]) NEAP_TRY(make_residual(store, like, &entry->residuals[k]));
    NEAP_TRY(make_packed(store, like, &entry->packed[k]));
  }
  return NEAP_OK;
}

/* Whatever a push needs and a key keeps. None of it shows, so that it may stay where the push
 * fails later on. */
static int prepare_entry(neap_store *store, const neap_store_item *item) {
  local_entry *entry = (local_entry *)item->entry;
  bool coded = compresses(store, item);
  if (coded) NEAP_TRY(prepare_senders(store, item));
  if (!store->optimizer) return NEAP_OK;
  NEAP_TRY(settle(store, entry));
  const neap_array_info *first = neap_array_get_info(item->arrays[0]);
  if ((item->count == 1 && !coded) || entry->merge[first->stype]) return NEAP_OK;
  return make_array(store, &entry->base.info, first->stype, first, &entry->merge[first->stype]);
}

static void local_drop(neap_store *store, neap_store_entry *base) {
  local_entry *entry = (local_entry *)base;
  for (int k = 0; k < entry->num_senders; k++) {
    neap_array_close(entry->residuals[k]);
    neap_array_close(entry->packed[k]);
  }
  neap_free(store->context, entry->residuals, senders_size(entry->num_senders));
  neap_array_close(entry->value);
  neap_array_close(entry->merge[NEAP_DENSE]);
  neap_array_close(entry->merge[NEAP_ROW_SPARSE]);
}

/* ---- Calls ------------------------------------------------------------------------------ */

static size_t num_outs(const neap_store_call *call) {
  size_t n = 0;
  for (int i = 0; i < call->num_out; i++) n += (size_t)call->out[i].count;
  return n;
}

static int add_pulls(neap_work_list *list, const neap_store_call *call) {
  for (int i = 0; i < call->num_out; i++) {
    const neap_store_item *item = &call->out[i];
    neap_array *value = ((local_entry *)item->entry)->value;
    for (int k = 0; k < item->count; k++) {
      neap_array *to = item->arrays[k];
      if (call->ignore_sparse && neap_array_get_info(to)->stype != NEAP_DENSE) continue;
      NEAP_TRY(neap_list_add(list, neap_copy_work(value, to), call->priority));
    }
  }
  return NEAP_OK;
}

static int add_inits(neap_store *store, neap_work_list *list, const neap_store_call *call) {
  for (int i = 0; i < call->num_in; i++) {
    local_entry *entry = (local_entry *)call->in[i].entry;
    neap_array *from = call->in[i].arrays[0];
    const neap_array_info *info = neap_array_get_info(from);
    NEAP_TRY(make_array(store, info, info->stype, info, &entry->value));
    NEAP_TRY(neap_list_add(list, neap_copy_work(from, entry->value), call->priority));
  }
  return NEAP_OK;
}

static int local_init(neap_store *store, const neap_store_call *call) {
  neap_work_list list;
  NEAP_TRY(neap_list_open(&list, store->context, (size_t)call->num_in + num_outs(call)));
  int status = add_inits(store, &list, call);
  if (status == NEAP_OK) status = add_pulls(&list, call);
  return neap_list_close(&list, status);
}

/* Adds up a key's arrays: as they are, or what is left of them after compression. */
static int add_sum(neap_store *store, neap_work_list *list, const neap_store_item *item,
                   neap_array *to, int priority) {
  if (!compresses(store, item))
    return neap_list_add(list, neap_add_n_work(item->count, item->arrays, to), priority);
  const local_entry *entry = (local_entry *)item->entry;
  for (int k = 0; k < item->count; k++)
    NEAP_TRY(neap_list_add(list,
                           neap_encode_work(store->codec, store->threshold, item->arrays[k],
                                            entry->residuals[k], entry->packed[k]),
                           priority));
  return neap_list_add(
      list, neap_decode_work(store->codec, store->threshold, item->count, entry->packed, to),
      priority);
}

/* How much work add_sum() makes at most. */
static size_t sum_works(const neap_store_call *call) {
  size_t works = 0;
  for (int i = 0; i < call->num_in; i++) works += 1 + (size_t)call->in[i].count;
  return works;
}

/* A push without an optimizer sums straight into the value. With one, a single array is what the
 * optimizer reads, and only several go through a sum. */
static int add_push(neap_store *store, neap_work_list *list, const neap_store_item *item,
                    int priority) {
  local_entry *entry = (local_entry *)item->entry;
  if (!store->optimizer) return add_sum(store, list, item, entry->value, priority);
  neap_array *gradient = item->arrays[0];
  if (item->count > 1 || compresses(store, item)) {
    gradient = entry->merge[neap_array_get_info(gradient)->stype];
    NEAP_TRY(add_sum(store, list, item, gradient, priority));
  }
  return neap_optimizer_prepare(store->optimizer, entry->base.key, entry->value, gradient, NULL,
                                priority, list->works, &list->count);
}

/* Takes back what neap_optimizer_prepare() counted for the first `count` items, which are not to
 * run after all. */
static void uncount(neap_optimizer *optimizer, const neap_store_item *items, int count,
                    int64_t num_updates) {
  for (int i = 0; i < count; i++) {
    int64_t updates = 0;
    if (neap_optimizer_count(optimizer, items[i].entry->key, &updates) == NEAP_OK)
      (void)neap_optimizer_set_count(optimizer, items[i].entry->key, updates - 1);
  }
  (void)neap_optimizer_set_count(optimizer, NULL, num_updates);
}

static int local_push(neap_store *store, const neap_store_call *call) {
  neap_optimizer *optimizer = store->optimizer;
  for (int i = 0; i < call->num_in; i++) NEAP_TRY(prepare_entry(store, &call->in[i]));
  int64_t num_updates = 0;
  if (optimizer) NEAP_TRY(neap_optimizer_count(optimizer, NULL, &num_updates));
  neap_work_list list;
  size_t updates = optimizer ? (size_t)call->num_in * NEAP_UPDATE_WORKS : 0;
  NEAP_TRY(neap_list_open(&list, store->context, sum_works(call) + updates + num_outs(call)));
  int status = NEAP_OK, done = 0;
  while (done < call->num_in && status == NEAP_OK) {
    status = add_push(store, &list, &call->in[done], call->priority);
    if (status == NEAP_OK) done++;
  }
  if (status == NEAP_OK) status = add_pulls(&list, call);
  if (status != NEAP_OK && optimizer) uncount(optimizer, call->in, done, num_updates);
  return neap_list_close(&list, status);
}

static int local_pull(neap_store *store, const neap_store_call *call) {
  neap_work_list list;
  NEAP_TRY(neap_list_open(&list, store->context, num_outs(call)));
  return neap_list_close(&list, add_pulls(&list, call));
}

static int local_pull_rows(neap_store *store, const neap_store_call *call) {
  neap_work_list list;
  NEAP_TRY(neap_list_open(&list, store->context, num_outs(call)));
  int status = NEAP_OK;
  for (int i = 0; i < call->num_out && status == NEAP_OK; i++) {
    const neap_store_item *item = &call->out[i];
    neap_array *value = ((local_entry *)item->entry)->value;
    for (int k = 0; k < item->count && status == NEAP_OK; k++)
      status = neap_list_add(&list, neap_retain_work(value, item->ids[k], item->arrays[k]),
                             call->priority);
  }
  return neap_list_close(&list, status);
}

static int local_sum(neap_store *store, const neap_store_item *item, int priority,
                     neap_array **out) {
  if (compresses(store, item)) NEAP_TRY(prepare_senders(store, item));
  const neap_array_info *first = neap_array_get_info(item->arrays[0]);
  neap_array *sum = NULL;
  NEAP_TRY(make_array(store, first, first->stype, first, &sum));
  neap_work_list list;
  int status = neap_list_open(&list, store->context, 1 + (size_t)item->count);
  if (status == NEAP_OK)
    status = neap_list_close(&list, add_sum(store, &list, item, sum, priority));
  if (status == NEAP_OK)
    *out = sum;
  else
    neap_array_close(sum);
  return status;
}

static int local_value(neap_store *store, neap_store_entry *entry, neap_array **out) {
  (void)store;
  return neap_array_share(((local_entry *)entry)->value, out);
}

const neap_store_ops neap_store_local = {
    .store_size = sizeof(neap_store),
    .entry_size = sizeof(local_entry),
    .init = local_init,
    .drop = local_drop,
    .push = local_push,
    .pull = local_pull,
    .pull_rows = local_pull_rows,
    .sum = local_sum,
    .value = local_value,
    .written = local_value,
};
