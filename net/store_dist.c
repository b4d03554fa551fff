/* SPDX-License-Identifier: MIT */
/* store_dist.c - stores across processes, on a worker: dist_sync, dist_device_sync, dist_async and
 * their other names.
 *
 * Values live on servers. What a call gives is summed up over this process's devices, coded if the
 * store compresses, cut into the key's parts, and sent from where it lies; what is asked for comes
 * straight into the arrays it is asked for in. See dist_inside.h for how that is ordered. */
#include "dist_inside.h"
#include <string.h>

enum {
  COPIED = 16 << 10,  /* pushes up to this are copied, so that the array is free at once */
  MOST_COPIES = 65536 /* as long as there are not too many of those */
};

static dist_key *key_of(const neap_store_item *item) {
  return ((dist_entry *)item->entry)->key;
}

/* ---- Keys ------------------------------------------------------------------------------------ */

static int dist_open(neap_store *base, const neap_job_options *job) {
  if (!job)
    return neap_fail(NEAP_ENOTSUP,
                     "a '%s' store works inside a launched job only, and this process is outside "
                     "of one. A job is started by:\n"
                     "  neap launch -n 2 -s 1 luajit train.lua",
                     base->row->name);
  dist_store *store = dist_of(base);
  store->context = base->context;
  store->async = base->row->flags & NEAP_STORE_ASYNC;
  return neap_dist_join(store, job);
}

static void dist_drop(neap_store *base, neap_store_entry *entry) {
  dist_entry *dist = (dist_entry *)entry;
  (void)base;
  neap_array_close(dist->residual);
  neap_dist_key_drop(dist->key);
}

static int dist_forget(neap_store *base, neap_store_entry *entry) {
  return neap_dist_delete(dist_of(base), ((dist_entry *)entry)->key);
}

static int dist_written(neap_store *base, neap_store_entry *entry, neap_array **out) {
  (void)base;
  return neap_array_share(((dist_entry *)entry)->key->order, out);
}

/* ---- Init ------------------------------------------------------------------------------------ */

/* The part's rows of a row-sparse array: [*first, *first + count). */
static int64_t part_rows(const dist_part *part, const neap_chunk *chunk, int64_t *first) {
  *first = neap_rows_find(chunk->ids, chunk->rows, part->begin);
  return neap_rows_find(chunk->ids, chunk->rows, part->end) - *first;
}

/* The payload of a row-sparse push or init: ids from the part's first row on, then values. When the
 * part does not begin at row 0, ids are shifted into the request's copy. */
static size_t ids_copy(const dist_part *part, int64_t count) {
  return part->begin ? (size_t)count * sizeof(int64_t) : 0;
}

static void sparse_payload(dist_request *request, const neap_chunk *chunk, int64_t first,
                           int64_t count) {
  const dist_part *part = request->part;
  const int64_t *ids = chunk->ids + first;
  if (part->begin && count) {
    for (int64_t i = 0; i < count; i++) {
      int64_t id = ids[i] - part->begin;
      memcpy(request->copy + (size_t)i * sizeof id, &id, sizeof id);
    }
    ids = (const int64_t *)(const void *)request->copy;
  }
  neap_dist_payload(request, ids, (size_t)count * sizeof *ids,
                    (const char *)chunk->data + (size_t)first * part->row_bytes,
                    (size_t)count * part->row_bytes);
}

typedef struct init_work {
  dist_key *key; /* held */
  const char *data;
  const neap_chunk *chunk;
} init_work;

static int send_init(const init_work *w, dist_transfer *transfer, dist_part *part, bool value) {
  dist_store *store = w->key->store;
  int64_t first = 0, count = 0;
  bool sparse = part->info.stype != NEAP_DENSE;
  if (value && sparse) count = part_rows(part, w->chunk, &first);
  dist_request *request =
      neap_dist_request(transfer, part, NEAP_M_INIT, 0, sparse ? ids_copy(part, count) : 0);
  if (!request) return NEAP_ENOMEM;
  neap_writer m;
  neap_dist_meta_open(request, &m);
  neap_put_u8(&m, store->async);
  neap_put_key(&m, &w->key->key);
  neap_put_info(&m, &part->info);
  neap_put_info(&m, &w->key->info);
  neap_put_u64(&m, (uint64_t)part->begin);
  neap_put_u8(&m, value);
  neap_put_u64(&m, (uint64_t)count);
  neap_put_u64(&m, w->key->life);
  neap_put_u32(&m, (uint32_t)w->key->parts[0].server);
  neap_put_u32(&m, (uint32_t)w->key->num_parts);
  neap_put_u32(&m, (uint32_t)(part - w->key->parts));
  neap_dist_meta_close(request, &m);
  if (value && sparse)
    sparse_payload(request, w->chunk, first, count);
  else if (value)
    neap_dist_payload(request, w->data + part->offset,
                      (size_t)part->info.size * (size_t)part->info.itemsize, NULL, 0);
  neap_dist_send(request);
  return NEAP_OK;
}

/* The parts from `first` on. */
static void send_inits(const init_work *w, dist_transfer *transfer, int first, int end) {
  bool value = w->key->store->rank == 0;
  for (int i = first; i < end; i++)
    if (send_init(w, transfer, &w->key->parts[i], value) != NEAP_OK)
      neap_dist_end(transfer, NEAP_ENOMEM, "no memory");
}

static void init_others(dist_transfer *transfer, int status, const char *text) {
  const init_work *w = transfer->owner;
  if (status == NEAP_OK)
    send_inits(w, transfer, 1, w->key->num_parts);
  else
    for (int i = 1; i < w->key->num_parts; i++) neap_dist_end(transfer, status, text);
}

/* Who brings the value asks the key's home first: the key may be there already, made by an earlier
 * process of this rank that did not get to the other parts, and these must be of the same life. */
static int run_init(neap_task *task, void *arg) {
  init_work *w = arg;
  dist_transfer *transfer = neap_dist_transfer(w->key, w->key->num_parts + 1);
  if (!transfer) return neap_task_fail(task, NEAP_ENOMEM, "no memory");
  transfer->work = neap_task_work(task);
  transfer->owner = w;
  bool home_first = w->key->store->rank == 0 && w->key->num_parts > 1;
  if (home_first) transfer->go_on = init_others;
  send_inits(w, transfer, 0, home_first ? 1 : w->key->num_parts);
  neap_dist_end(transfer, NEAP_OK, "");
  return NEAP_OK;
}

static void init_over(void *arg) {
  init_work *w = arg;
  dist_store *store = w->key->store;
  neap_dist_key_drop(w->key);
  neap_dist_work_over(store);
}

static neap_work *init_make(dist_key *key, const neap_array *array) {
  neap_work *work = neap_work_new(key->store->context, "init", run_init, sizeof(init_work), 1, 1);
  if (!work) return NULL;
  init_work *w = neap_work_payload(work);
  atomic_fetch_add(&key->store->works, 1);
  w->key = neap_dist_key_hold(key);
  if (neap_array_get_info(array)->stype == NEAP_DENSE) w->data = neap_array_at_data(array);
  w->chunk = array->chunk;
  neap_work_read(work, neap_array_var(array));
  neap_work_write(work, neap_array_var(key->order));
  neap_work_set_done(work, init_over);
  neap_work_set_async(work);
  return work;
}

static int dist_pull(neap_store *base, const neap_store_call *call);

static int dist_init(neap_store *base, const neap_store_call *call) {
  dist_store *store = dist_of(base);
  neap_work_list list;
  NEAP_TRY(neap_list_open(&list, store->context, (size_t)call->num_in));
  int status = NEAP_OK;
  for (int i = 0; i < call->num_in && status == NEAP_OK; i++) {
    dist_entry *entry = (dist_entry *)call->in[i].entry;
    status = neap_dist_key_create(store, &entry->base, &entry->key);
    if (status == NEAP_OK)
      status = neap_list_add(&list, init_make(entry->key, call->in[i].arrays[0]), 0);
  }
  NEAP_TRY(neap_list_close(&list, status));
  for (int i = 0; i < call->num_in; i++) {
    int one = neap_array_wait(key_of(&call->in[i])->order);
    if (status == NEAP_OK) status = one;
  }
  return status == NEAP_OK && call->num_out ? dist_pull(base, call) : status;
}

/* ---- Push ------------------------------------------------------------------------------------ */

/* What is pushed, and how: a dense array, a row-sparse one, or the codes of each part. */
typedef struct push_source {
  const char *data;
  const neap_chunk *chunk; /* row-sparse */
  const neap_codec *codec;
  float threshold;
  neap_array **packed; /* one a part; closed by who made them */
} push_source;

typedef struct push_work {
  dist_store *store;
  dist_transfer *transfer; /* one end for each part, ours to make */
  int parts;
  push_source from;
  const char **codes; /* behind this: packed data of each part */
  int priority;
  bool copy, ran;
} push_work;

static int send_push(const push_work *w, dist_part *part, const char *codes) {
  const push_source *from = &w->from;
  size_t dense = (size_t)part->info.size * (size_t)part->info.itemsize;
  size_t bytes = codes ? (size_t)neap_codec_bytes(from->codec, part->info.size) : dense;
  int64_t first = 0, count = 0;
  if (from->chunk) count = part_rows(part, from->chunk, &first);
  size_t copy = from->chunk ? ids_copy(part, count) : w->copy ? bytes : 0;
  dist_request *request = neap_dist_request(w->transfer, part, NEAP_M_PUSH, w->priority, copy);
  if (!request) return NEAP_ENOMEM;
  neap_writer m;
  neap_dist_meta_open(request, &m);
  neap_put_key(&m, &request->key->key);
  neap_put_u64(&m, part->birth);
  neap_put_u64(&m, ++part->clock);
  neap_put_u8(&m, from->chunk ? 1 : codes ? 2 : 0);
  if (from->chunk) neap_put_u64(&m, (uint64_t)count);
  if (codes) {
    neap_put_text(&m, from->codec->name);
    neap_put_f64(&m, from->threshold);
  }
  neap_dist_meta_close(request, &m);
  const void *bytes_at = codes ? codes : from->data ? from->data + part->offset : NULL;
  if (from->chunk) {
    sparse_payload(request, from->chunk, first, count);
  } else if (w->copy && bytes) {
    memcpy(request->copy, bytes_at, bytes);
    neap_dist_payload(request, request->copy, bytes, NULL, 0);
  } else {
    neap_dist_payload(request, bytes_at, bytes, NULL, 0);
  }
  neap_dist_send(request);
  return NEAP_OK;
}

static int run_push(neap_task *task, void *arg) {
  push_work *w = arg;
  (void)task;
  w->ran = true;
  dist_key *key = neap_dist_key_hold(w->transfer->key);
  dist_transfer *transfer = w->transfer; /* may be over with the last part */
  for (int i = 0; i < key->num_parts; i++)
    if (send_push(w, &key->parts[i], w->codes ? w->codes[i] : NULL) != NEAP_OK)
      neap_dist_end(transfer, NEAP_ENOMEM, "push: no memory");
  neap_dist_key_drop(key);
  return NEAP_OK;
}

/* Skipped or given up: the transfer must end all the same. */
static void push_over(void *arg) {
  push_work *w = arg;
  dist_store *store = w->store;
  for (int left = w->ran ? 0 : w->parts; left > 0; left--) neap_dist_end(w->transfer, NEAP_OK, "");
  neap_dist_work_over(store);
}

/* The operation that keeps what is sent until it has arrived. */
typedef struct hold_work {
  dist_store *store;
  dist_transfer *transfer; /* one end is ours */
  bool ran;
} hold_work;

static int run_hold(neap_task *task, void *arg) {
  hold_work *w = arg;
  w->ran = true;
  w->transfer->work = neap_task_work(task);
  neap_dist_end(w->transfer, NEAP_OK, "");
  return NEAP_OK;
}

static void hold_over(void *arg) {
  hold_work *w = arg;
  dist_store *store = w->store;
  if (!w->ran) neap_dist_end(w->transfer, NEAP_OK, "");
  neap_dist_work_over(store);
}

static void read_source(neap_work *work, neap_array *array, neap_array *const *packed, int parts) {
  if (packed)
    for (int i = 0; i < parts; i++) neap_work_read(work, neap_array_var(packed[i]));
  else
    neap_work_read(work, neap_array_var(array));
}

/* Sends `array`, or the codes of its parts. */
static int add_send(neap_work_list *list, dist_key *key, neap_array *array,
                    const push_source *source, int priority) {
  dist_store *store = key->store;
  int parts = key->num_parts, reads = source->packed ? parts : 1;
  bool sparse = neap_array_get_info(array)->stype != NEAP_DENSE;
  size_t bytes = (size_t)key->info.size * (size_t)key->info.itemsize;
  bool copy = !sparse && bytes <= COPIED && atomic_load(&store->copies) < MOST_COPIES;
  dist_transfer *transfer = neap_dist_transfer(key, parts + !copy);
  if (!transfer) return NEAP_ENOMEM;
  neap_work *work = neap_work_new(store->context, "push", run_push,
                                  sizeof(push_work) + (size_t)parts * sizeof(char *), reads, 1);
  neap_work *hold =
      work && !copy ? neap_work_new(store->context, "push", run_hold, sizeof(hold_work), reads, 0)
                    : NULL;
  if (!work || (!copy && !hold)) {
    if (work) neap_work_discard(work);
    for (int left = parts + !copy; left > 0; left--) neap_dist_end(transfer, NEAP_OK, "");
    return NEAP_ENOMEM;
  }
  push_work *w = neap_work_payload(work);
  *w = (push_work){.store = store,
                   .transfer = transfer,
                   .parts = parts,
                   .from = *source,
                   .priority = priority,
                   .copy = copy};
  atomic_fetch_add(&store->works, 1 + (hold != NULL));
  if (source->packed) {
    w->codes = (const char **)(w + 1);
    for (int i = 0; i < parts; i++) w->codes[i] = neap_array_at_data(source->packed[i]);
  } else if (sparse) {
    w->from.chunk = array->chunk;
  } else {
    w->from.data = neap_array_at_data(array);
  }
  read_source(work, array, source->packed, parts);
  neap_work_write(work, neap_array_var(key->order));
  neap_work_set_done(work, push_over);
  neap_work_set_quick(work, true);
  NEAP_TRY(neap_list_add(list, work, priority));
  if (!hold) return NEAP_OK;
  hold_work *h = neap_work_payload(hold);
  h->store = store;
  h->transfer = transfer;
  read_source(hold, array, source->packed, parts);
  neap_work_set_done(hold, hold_over);
  neap_work_set_async(hold);
  neap_work_set_quick(hold, true);
  return neap_list_add(list, hold, priority);
}

/* Arrays that one call makes and lets go of. */
typedef struct scrap {
  neap_context *context;
  neap_array **arrays;
  int count;
  size_t room;
} scrap;

static int scrap_array(scrap *s, const neap_array_info *info, int stype, neap_array **out) {
  neap_array_info want = *info;
  want.stype = stype;
  want.device_type = NEAP_CPU;
  want.device_id = 0;
  NEAP_TRY(neap_array_new(s->context, &want, out));
  s->arrays[s->count++] = *out;
  return NEAP_OK;
}

static int scrap_view(scrap *s, neap_array *array, const dist_part *part, neap_array **out) {
  if (neap_array_get_info(array)->ndim == 0)
    NEAP_TRY(neap_array_share(array, out));
  else
    NEAP_TRY(neap_array_slice(array, part->begin, part->end, out));
  s->arrays[s->count++] = *out;
  return NEAP_OK;
}

static bool compresses(const neap_store *store, const neap_array_info *info) {
  return store->codec && info->stype == NEAP_DENSE && info->dtype == NEAP_FLOAT32;
}

static int make_residual(dist_store *store, dist_entry *entry) {
  if (entry->residual) return NEAP_OK;
  neap_array *residual = NULL;
  neap_array_info info = entry->key->info;
  info.stype = NEAP_DENSE;
  NEAP_TRY(neap_array_new(store->context, &info, &residual));
  int status = neap_array_fill(residual, 0);
  if (status == NEAP_OK)
    entry->residual = residual;
  else
    neap_array_close(residual);
  return status;
}

/* Codes of each part, made by the engine. */
static int add_codes(dist_store *store, neap_work_list *list, scrap *s, dist_entry *entry,
                     neap_array *array, neap_array **packed, int priority) {
  const neap_codec *codec = store->base.codec;
  NEAP_TRY(make_residual(store, entry));
  for (int i = 0; i < entry->key->num_parts; i++) {
    const dist_part *part = &entry->key->parts[i];
    neap_array *from, *rest;
    int64_t bytes = neap_codec_bytes(codec, part->info.size);
    neap_array_info info = {
        .dtype = NEAP_UINT8, .ndim = 1, .itemsize = 1, .size = bytes, .shape = {bytes}};
    NEAP_TRY(scrap_view(s, array, part, &from));
    NEAP_TRY(scrap_view(s, entry->residual, part, &rest));
    NEAP_TRY(scrap_array(s, &info, NEAP_DENSE, &packed[i]));
    NEAP_TRY(neap_list_add(
        list, neap_encode_work(codec, store->base.threshold, from, rest, packed[i]), priority));
  }
  return NEAP_OK;
}

static int add_push(dist_store *store, neap_work_list *list, scrap *s, neap_array **packed,
                    const neap_store_item *item, int priority) {
  dist_entry *entry = (dist_entry *)item->entry;
  neap_array *array = item->arrays[0];
  const neap_array_info *info = neap_array_get_info(array);
  if (item->count > 1) {
    NEAP_TRY(scrap_array(s, info, info->stype, &array));
    NEAP_TRY(neap_list_add(list, neap_add_n_work(item->count, item->arrays, array), priority));
  }
  push_source source = {0};
  if (compresses(&store->base, info)) {
    source.codec = store->base.codec;
    source.threshold = store->base.threshold;
    source.packed = packed;
    NEAP_TRY(add_codes(store, list, s, entry, array, packed, priority));
  }
  return add_send(list, entry->key, array, &source, priority);
}

static int add_pulls(neap_work_list *list, const neap_store_call *call);
static size_t pull_works(const neap_store_call *call);

static int dist_push(neap_store *base, const neap_store_call *call) {
  dist_store *store = dist_of(base);
  if (store->async) NEAP_TRY(neap_dist_check_optimizer(store));
  size_t works = pull_works(call), most = 0, scraps = 0;
  for (int i = 0; i < call->num_in; i++) {
    size_t parts = (size_t)key_of(&call->in[i])->num_parts;
    works += 3 + parts;
    scraps += 1 + 3 * parts;
    if (parts > most) most = parts;
  }
  neap_array *few[16], **arrays = few; /* scraps, then the codes of one key */
  size_t size = (scraps + most) * sizeof *arrays;
  if (size > sizeof few) arrays = neap_alloc(store->context, size);
  if (!arrays) return NEAP_ENOMEM;
  scrap s = {store->context, arrays, 0, scraps};
  neap_work_list list;
  int status = neap_list_open(&list, store->context, works);
  if (status == NEAP_OK) {
    for (int i = 0; i < call->num_in && status == NEAP_OK; i++)
      status = add_push(store, &list, &s, arrays + scraps, &call->in[i], call->priority);
    if (status == NEAP_OK) status = add_pulls(&list, call);
    bool several = call->num_in + call->num_out > 1;
    if (several) neap_dist_gather(store, true);
    status = neap_list_close(&list, status);
    if (several) neap_dist_gather(store, false);
  }
  for (int i = 0; i < s.count; i++) neap_array_close(s.arrays[i]);
  if (arrays != few) neap_free(store->context, arrays, size);
  return status;
}

/* ---- Pull ------------------------------------------------------------------------------------ */

typedef struct pull_work {
  dist_key *key; /* held */
  char *to;
  int priority;
} pull_work;

static void write_pull(dist_request *request, int priority) {
  neap_writer m;
  const dist_part *part = request->part;
  neap_dist_meta_open(request, &m);
  neap_put_key(&m, &request->key->key);
  neap_put_u64(&m, part->birth);
  neap_put_u64(&m, part->clock);
  neap_put_u32(&m, (uint32_t)priority);
  if (request->wants_rows) neap_put_u8(&m, request->request.message.payload[0] == NULL);
  neap_dist_meta_close(request, &m);
}

static int run_pull(neap_task *task, void *arg) {
  pull_work *w = arg;
  dist_key *key = w->key;
  dist_transfer *transfer = neap_dist_transfer(key, key->num_parts + 1);
  if (!transfer) return neap_task_fail(task, NEAP_ENOMEM, "no memory");
  transfer->work = neap_task_work(task);
  for (int i = 0; i < key->num_parts; i++) {
    dist_part *part = &key->parts[i];
    dist_request *request = neap_dist_request(transfer, part, NEAP_M_PULL, w->priority, 0);
    if (!request) {
      neap_dist_end(transfer, NEAP_ENOMEM, "pull: no memory");
      continue;
    }
    request->to = w->to + part->offset;
    request->expected = (uint64_t)part->info.size * (uint64_t)part->info.itemsize;
    write_pull(request, w->priority);
    neap_dist_send(request);
  }
  neap_dist_end(transfer, NEAP_OK, "");
  return NEAP_OK;
}

static void pull_over(void *arg) {
  pull_work *w = arg;
  dist_store *store = w->key->store;
  neap_dist_key_drop(w->key);
  neap_dist_work_over(store);
}

static neap_work *pull_make(dist_key *key, neap_array *out, int priority) {
  neap_work *work = neap_work_new(key->store->context, "pull", run_pull, sizeof(pull_work), 1, 1);
  if (!work) return NULL;
  pull_work *w = neap_work_payload(work);
  atomic_fetch_add(&key->store->works, 1);
  *w = (pull_work){neap_dist_key_hold(key), neap_array_at_data(out), priority};
  neap_work_read(work, neap_array_var(key->order));
  neap_work_write(work, neap_array_var(out));
  neap_work_set_done(work, pull_over);
  neap_work_set_async(work);
  neap_work_set_quick(work, true);
  return work;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

/* Rows on their way: each part's request, until all are there. */
typedef struct rows_work {
  dist_key *key; /* held */
  neap_chunk *out;
  const void *ids; /* NULL: all rows */
  int ids_dtype;
  int64_t num_ids;
  int priority;
  int64_t *wanted; /* ascending, unique; from the pool */
  size_t wanted_size;
  dist_request **requests; /* behind this; each kept by one more hold than it has */
} rows_work;

/* The replies, put together: runs when the last is there, before `out` may be read. */
static void assemble_rows(dist_transfer *transfer) {
  rows_work *w = transfer->owner;
  neap_pool *pool = transfer->store->context->pool;
  int64_t rows = 0;
  size_t row = w->key->parts[0].row_bytes;
  for (int i = 0; i < w->key->num_parts; i++)
    if (w->requests[i]) rows += (int64_t)w->requests[i]->rows;
  bool good = atomic_load(&transfer->status) == NEAP_OK;
  void *values = good && rows ? neap_pool_get(pool, (size_t)rows * row) : NULL;
  int64_t *ids = values ? neap_pool_get(pool, (size_t)rows * sizeof *ids) : NULL;
  if (good && rows && !ids) {
    if (values) neap_pool_put(pool, values, (size_t)rows * row);
    atomic_store(&transfer->status, NEAP_ENOMEM);
    memcpy(transfer->text, "no memory for rows", sizeof "no memory for rows");
    good = false;
  }
  int64_t at = 0;
  for (int i = 0; i < w->key->num_parts; i++) {
    dist_request *request = w->requests[i];
    if (!request) continue;
    int64_t count = (int64_t)request->rows;
    if (good && count) {
      const char *block = request->block;
      memcpy(ids + at, block, (size_t)count * sizeof *ids);
      memcpy((char *)values + (size_t)at * row, block + (size_t)count * sizeof *ids,
             (size_t)count * row);
      for (int64_t k = at; k < at + count; k++) ids[k] += request->part->begin;
      at += count;
    }
    neap_dist_request_drop(request);
  }
  if (good) neap_chunk_set_rows(w->out, rows, values, (size_t)rows * row, ids);
}

static int load_wanted(rows_work *w) {
  neap_pool *pool = w->key->store->context->pool;
  int64_t rows = w->key->info.shape[0];
  w->wanted_size = (size_t)w->num_ids * sizeof *w->wanted;
  w->wanted = neap_pool_get(pool, w->wanted_size);
  if (!w->wanted) return NEAP_ENOMEM;
  NEAP_TRY(neap_rows_load(w->ids_dtype, w->ids, w->num_ids, rows, w->wanted));
  NEAP_TRY(neap_rows_sort(pool, w->num_ids, rows, w->wanted, NULL));
  int64_t unique = 0;
  for (int64_t i = 0; i < w->num_ids; i++)
    if (i == 0 || w->wanted[i] != w->wanted[i - 1]) w->wanted[unique++] = w->wanted[i];
  w->num_ids = unique;
  return NEAP_OK;
}

/* Asks one part for its share; nothing where it has none. */
static int send_rows(rows_work *w, dist_transfer *transfer, int i) {
  dist_part *part = &w->key->parts[i];
  int64_t first = 0, count = part->end - part->begin;
  if (w->wanted) {
    first = neap_rows_find(w->wanted, w->num_ids, part->begin);
    count = neap_rows_find(w->wanted, w->num_ids, part->end) - first;
  }
  if (!count) {
    neap_dist_end(transfer, NEAP_OK, "");
    return NEAP_OK;
  }
  size_t copy = w->wanted ? (size_t)count * sizeof(int64_t) : 0;
  dist_request *request = neap_dist_request(transfer, part, NEAP_M_PULL_ROWS, w->priority, copy);
  if (!request) return NEAP_ENOMEM;
  for (int64_t k = 0; w->wanted && k < count; k++) {
    int64_t id = w->wanted[first + k] - part->begin;
    memcpy(request->copy + (size_t)k * sizeof id, &id, sizeof id);
  }
  if (copy) neap_dist_payload(request, request->copy, copy, NULL, 0);
  request->wants_rows = true;
  request->expected = (uint64_t)count * (sizeof(int64_t) + part->row_bytes);
  write_pull(request, w->priority);
  neap_dist_request_hold(request);
  w->requests[i] = request;
  neap_dist_send(request);
  return NEAP_OK;
}

static int run_rows(neap_task *task, void *arg) {
  rows_work *w = arg;
  if (w->ids && w->num_ids && load_wanted(w) != NEAP_OK)
    return neap_task_fail(task, neap_error_status(), "%s", neap_error());
  dist_transfer *transfer = neap_dist_transfer(w->key, w->key->num_parts + 1);
  if (!transfer) return neap_task_fail(task, NEAP_ENOMEM, "no memory");
  transfer->work = neap_task_work(task);
  transfer->finish = assemble_rows;
  transfer->owner = w;
  bool none = w->ids && w->num_ids == 0;
  for (int i = 0; i < w->key->num_parts; i++) {
    if (none)
      neap_dist_end(transfer, NEAP_OK, "");
    else if (send_rows(w, transfer, i) != NEAP_OK)
      neap_dist_end(transfer, NEAP_ENOMEM, "row_sparse_pull: no memory");
  }
  neap_dist_end(transfer, NEAP_OK, "");
  return NEAP_OK;
}

static void rows_over(void *arg) {
  rows_work *w = arg;
  dist_store *store = w->key->store;
  if (w->wanted) neap_pool_put(store->context->pool, w->wanted, w->wanted_size);
  neap_dist_key_drop(w->key);
  neap_dist_work_over(store);
}

/* `ids` NULL: all rows. */
static neap_work *rows_make(dist_key *key, neap_array *ids, neap_array *out, int priority) {
  size_t size = sizeof(rows_work) + (size_t)key->num_parts * sizeof(dist_request *);
  neap_work *work = neap_work_new(key->store->context, "row_sparse_pull", run_rows, size, 2, 1);
  if (!work) return NULL;
  rows_work *w = neap_work_payload(work);
  atomic_fetch_add(&key->store->works, 1);
  *w = (rows_work){.key = neap_dist_key_hold(key), .out = out->chunk, .priority = priority};
  w->requests = (dist_request **)(w + 1);
  if (ids) {
    const neap_array_info *info = neap_array_get_info(ids);
    w->ids = neap_array_at_data(ids);
    w->ids_dtype = info->dtype;
    w->num_ids = info->size;
    neap_work_read(work, neap_array_var(ids));
  }
  neap_work_read(work, neap_array_var(key->order));
  neap_work_write(work, neap_array_var(out));
  neap_work_set_done(work, rows_over);
  neap_work_set_async(work);
  return work;
}

/* ---- Calls ----------------------------------------------------------------------------------- */

static size_t pull_works(const neap_store_call *call) {
  size_t works = 0;
  for (int i = 0; i < call->num_out; i++) works += (size_t)call->out[i].count;
  return works;
}

/* Each key's value comes once, into the first dense out; the others are copies of that. */
static int add_pulls(neap_work_list *list, const neap_store_call *call) {
  for (int i = 0; i < call->num_out; i++) {
    const neap_store_item *item = &call->out[i];
    neap_array *first = NULL;
    for (int k = 0; k < item->count; k++) {
      neap_array *out = item->arrays[k];
      bool dense = neap_array_get_info(out)->stype == NEAP_DENSE;
      if (!dense && call->ignore_sparse) continue;
      if (!dense) {
        NEAP_TRY(neap_list_add(list, rows_make(key_of(item), NULL, out, call->priority),
                               call->priority));
      } else if (first) {
        NEAP_TRY(neap_list_add(list, neap_copy_work(first, out), call->priority));
      } else {
        NEAP_TRY(neap_list_add(list, pull_make(key_of(item), out, call->priority), call->priority));
        first = out;
      }
    }
  }
  return NEAP_OK;
}

static int dist_pull(neap_store *base, const neap_store_call *call) {
  neap_work_list list;
  NEAP_TRY(neap_list_open(&list, base->context, pull_works(call)));
  return neap_list_close(&list, add_pulls(&list, call));
}

static int dist_pull_rows(neap_store *base, const neap_store_call *call) {
  neap_work_list list;
  NEAP_TRY(neap_list_open(&list, base->context, pull_works(call)));
  int status = NEAP_OK;
  for (int i = 0; i < call->num_out; i++) {
    const neap_store_item *item = &call->out[i];
    for (int k = 0; k < item->count && status == NEAP_OK; k++)
      status = neap_list_add(&list,
                             rows_make(key_of(item), item->ids[k], item->arrays[k], call->priority),
                             call->priority);
  }
  return neap_list_close(&list, status);
}

const neap_store_ops neap_store_dist = {
    .store_size = sizeof(dist_store),
    .entry_size = sizeof(dist_entry),
    .open = dist_open,
    .leave = neap_dist_leave,
    .close = neap_dist_close,
    .init = dist_init,
    .drop = dist_drop,
    .forget = dist_forget,
    .push = dist_push,
    .pull = dist_pull,
    .pull_rows = dist_pull_rows,
    .written = dist_written,
    .barrier = neap_dist_barrier,
};

int neap_store_rank(const neap_store *store) {
  return store->row->ops == &neap_store_dist ? ((const dist_store *)store)->rank : 0;
}
int neap_store_num_workers(const neap_store *store) {
  return store->row->ops == &neap_store_dist ? ((const dist_store *)store)->job.num_workers : 1;
}
int neap_store_num_servers(const neap_store *store) {
  return store->row->ops == &neap_store_dist ? ((const dist_store *)store)->num_servers : 0;
}
