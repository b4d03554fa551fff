/* SPDX-License-Identifier: MIT */
/* dist_request.c - keys and their parts, requests about them, and when they leave; see
 * dist_inside.h for the rules. */
#include "dist_inside.h"
#include <stdio.h>
#include <string.h>

enum {
  FLYING_BYTES = 4 << 20, /* of one part on their way, */
  FLYING = 8192,          /* and at most so many pushes; */
  FLYING_LARGE = 2,       /* but so many in any case */
  META = NEAP_KEY_LENGTH + 128,
};

/* ---- Keys ------------------------------------------------------------------------------------ */

static uint64_t hash_of(const neap_key *key) {
  uint64_t hash = 0xcbf29ce484222325u;
  const uint8_t *bytes = key->text ? (const uint8_t *)key->text : (const uint8_t *)&key->number;
  size_t size = key->text ? key->length : sizeof key->number;
  for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
  return hash ^ hash >> 32;
}

/* Rows [begin, end) of the key, for `server`. */
static void make_part(const dist_key *key, dist_part *part, int server, int64_t begin,
                      int64_t end) {
  *part = (dist_part){.server = server, .begin = begin, .end = end, .info = key->info};
  part->held_end = &part->held;
  part->row_bytes =
      (size_t)(key->info.ndim ? neap_row_size(&key->info) : 1) * (size_t)key->info.itemsize;
  part->offset = (size_t)begin * part->row_bytes;
  if (key->info.ndim == 0) return;
  part->info.shape[0] = end - begin;
  part->info.size = (end - begin) * neap_row_size(&key->info);
}

int neap_dist_key_create(dist_store *store, const neap_store_entry *entry, dist_key **out) {
  const neap_array_info *info = &entry->info;
  int64_t rows = info->ndim ? info->shape[0] : 1;
  bool split = info->size > store->job.bigarray_bound && rows > 1;
  int parts = !split ? 1 : rows < store->num_servers ? (int)rows : store->num_servers;
  size_t size = sizeof(dist_key) + (size_t)parts * sizeof(dist_part);
  dist_key *key = neap_alloc(store->context, size);
  if (!key) return NEAP_ENOMEM;
  memset(key, 0, size);
  key->store = store;
  key->context = store->context;
  atomic_init(&key->refs, 1);
  key->size = size;
  key->info = *info;
  key->info.device_type = NEAP_CPU;
  key->info.device_id = 0;
  key->num_parts = parts;
  key->life = store->incarnation << 32 | (atomic_fetch_add(&store->lives, 1) & 0xffffffffu);
  key->key = *entry->key;
  int64_t one[1] = {1};
  int status = neap_array_create(store->context, NEAP_UINT8, 1, one, NEAP_CPU, 0, &key->order);
  if (status == NEAP_OK && key->key.text) {
    char *text = neap_alloc(store->context, key->key.length + 1);
    key->key.text = text;
    if (text)
      memcpy(text, entry->key->text, key->key.length);
    else
      status = NEAP_ENOMEM;
  } else if (status != NEAP_OK) {
    key->key.text = NULL;
  }
  if (status != NEAP_OK) {
    neap_dist_key_drop(key);
    return status;
  }
  int first = (int)(hash_of(&key->key) % (uint64_t)store->num_servers);
  for (int i = 0; i < parts; i++)
    make_part(key, &key->parts[i], (first + i) % store->num_servers, rows * i / parts,
              rows * (i + 1) / parts);
  *out = key;
  return NEAP_OK;
}

void neap_dist_key_drop(dist_key *key) {
  if (!key || atomic_fetch_sub_explicit(&key->refs, 1, memory_order_acq_rel) != 1) return;
  neap_context *context = key->context;
  if (key->key.text) neap_free(context, (void *)(uintptr_t)key->key.text, key->key.length + 1);
  neap_array_close(key->order);
  neap_free(context, key, key->size);
}

/* ---- Transfers ------------------------------------------------------------------------------- */

dist_transfer *neap_dist_transfer(dist_key *key, int left) {
  dist_transfer *transfer = neap_pool_get(key->store->context->pool, sizeof *transfer);
  if (!transfer) return NULL;
  memset(transfer, 0, offsetof(dist_transfer, text));
  transfer->text[0] = 0;
  transfer->store = key->store;
  transfer->key = neap_dist_key_hold(key);
  atomic_init(&transfer->left, left);
  return transfer;
}

/* A failure that no operation waits for: the key's order is marked with it, so that it is raised
 * where the key is read next. */
typedef struct failed_push {
  int status;
  char text[sizeof((dist_transfer *)0)->text];
} failed_push;

static int run_failed(neap_task *task, void *arg) {
  const failed_push *failed = arg;
  return neap_task_fail(task, failed->status, "%s", failed->text);
}

static void tell_by_order(dist_transfer *transfer) {
  neap_work *work =
      neap_work_new(transfer->store->context, "push", run_failed, sizeof(failed_push), 0, 1);
  if (!work) return;
  failed_push *failed = neap_work_payload(work);
  failed->status = atomic_load(&transfer->status);
  memcpy(failed->text, transfer->text, sizeof failed->text);
  neap_work_write(work, neap_array_var(transfer->key->order));
  neap_work_submit(work);
}

void neap_dist_end(dist_transfer *transfer, int status, const char *text) {
  int none = NEAP_OK;
  if (status != NEAP_OK && atomic_compare_exchange_strong(&transfer->status, &none, status))
    snprintf(transfer->text, sizeof transfer->text, "%s", text);
  if (atomic_fetch_sub_explicit(&transfer->left, 1, memory_order_acq_rel) != 1) return;
  if (transfer->finish) transfer->finish(transfer);
  status = atomic_load(&transfer->status);
  if (transfer->work)
    neap_work_complete(transfer->work, status, transfer->text);
  else if (status != NEAP_OK)
    tell_by_order(transfer);
  neap_context *context = transfer->store->context;
  neap_dist_key_drop(transfer->key);
  neap_pool_put(context->pool, transfer, sizeof *transfer);
}

/* ---- Flow ------------------------------------------------------------------------------------ */

/* Whether the first of the held pushes may leave (D2). Under store->flow. */
static bool may_leave(const dist_part *part) {
  const dist_request *request = part->held;
  if (!request) return false;
  if (!part->flying) return true;
  if (request->request.message.priority != part->priority || request->lane != part->lane)
    return false;
  return part->flying < FLYING_LARGE ||
         (part->flying < FLYING && part->flying_bytes + request->bytes <= FLYING_BYTES);
}

/* Under store->flow: sends what may leave, and unlocks. One thread at a time, so that the order
 * stays; not under store->flow while sending, since a peer that is lost replies at once. */
static void pump(dist_store *store, dist_part *part) {
  bool mine = !part->pumping;
  part->pumping = true;
  while (mine && may_leave(part)) {
    dist_request *request = part->held;
    part->held = request->next;
    if (!part->held) part->held_end = &part->held;
    part->flying++;
    part->flying_bytes += request->bytes;
    part->priority = request->request.message.priority;
    part->lane = request->lane;
    pthread_mutex_unlock(&store->flow);
    neap_peer_request(store->servers[part->server], &request->request);
    pthread_mutex_lock(&store->flow);
  }
  if (mine) part->pumping = false;
  pthread_mutex_unlock(&store->flow);
}

static void push_answered(dist_request *request) {
  dist_store *store = request->key->store;
  pthread_mutex_lock(&store->flow);
  request->part->flying--;
  request->part->flying_bytes -= request->bytes;
  pump(store, request->part);
}

/* A push is through; after the last, whoever waits for that is woken. */
static void push_over(dist_store *store) {
  if (atomic_fetch_sub(&store->pushes, 1) != 1) return;
  pthread_mutex_lock(&store->lock);
  pthread_cond_broadcast(&store->changed);
  pthread_mutex_unlock(&store->lock);
}

/* ---- Requests -------------------------------------------------------------------------------- */

static uint8_t *place_reply(neap_request *base, uint64_t total) {
  dist_request *request = (dist_request *)base;
  if (!request->wants_rows) return total == request->expected ? request->to : NULL;
  if (total > request->expected) return NULL;
  neap_pool *pool = request->key->store->context->pool;
  if (request->block) neap_pool_put(pool, request->block, request->block_size);
  request->block = neap_pool_get(pool, (size_t)total); /* on a second try, another one */
  request->block_size = total;
  return request->block;
}

/* The payload of a reply: where it belongs. */
static const char *take_reply(dist_request *request, neap_reader *meta, neap_incoming *in) {
  uint64_t total = in->frame.total;
  if (request->wants_rows) {
    request->rows = neap_get_u64(meta);
    uint64_t row = sizeof(int64_t) + request->part->row_bytes;
    if (!neap_reader_done(meta) || total > request->expected || total != request->rows * row)
      return "rows and bytes of a reply do not fit together";
    if (in->placed) return in->payload ? NULL : "no memory for rows";
    if (total && !place_reply(&request->request, total)) return "no memory for rows";
    if (total) memcpy(request->block, in->payload, (size_t)total);
    return NULL;
  }
  if (!request->to) return NULL;
  if (total != request->expected) return "a value of another size came";
  if (!in->placed && total) memcpy(request->to, in->payload, (size_t)total);
  return NULL;
}

/* What INIT's reply brings. */
static const char *take_birth(dist_request *request, neap_reader *meta) {
  request->part->birth = neap_get_u64(meta);
  request->part->clock = neap_get_u64(meta);
  uint64_t life = neap_get_u64(meta);
  if (request->part == request->key->parts) request->key->life = life;
  return neap_reader_done(meta) ? NULL : "a damaged reply to INIT";
}

static void on_reply(neap_request *base, int status, const char *text, neap_reader *meta,
                     neap_incoming *in) {
  dist_request *request = (dist_request *)base;
  dist_store *store = request->key->store;
  const char *wrong = NULL;
  if (status == NEAP_OK && in)
    wrong = base->message.frame.type == NEAP_M_INIT ? take_birth(request, meta)
                                                    : take_reply(request, meta, in);
  dist_transfer *transfer = request->transfer;
  bool push = request->push;
  if (push) push_answered(request);
  if (wrong) {
    status = NEAP_EFORMAT;
    text = wrong;
  }
  if (transfer->go_on && request->part == request->key->parts)
    transfer->go_on(transfer, status, text);
  neap_dist_end(transfer, status, text);
  if (push) push_over(store);
}

void neap_dist_request_drop(dist_request *request) {
  if (atomic_fetch_sub_explicit(&request->refs, 1, memory_order_acq_rel) != 1) return;
  dist_store *store = request->key->store;
  if (request->copy) atomic_fetch_sub(&store->copies, 1);
  if (request->block) neap_pool_put(store->context->pool, request->block, request->block_size);
  neap_dist_key_drop(request->key);
  neap_pool_put(store->context->pool, request, request->size);
}

static void free_request(neap_request *base) {
  neap_dist_request_drop((dist_request *)base);
}

dist_request *neap_dist_request(dist_transfer *transfer, dist_part *part, int type, int priority,
                                size_t copy) {
  dist_store *store = transfer->store;
  size_t shapes = type == NEAP_M_INIT ? (size_t)(16 * NEAP_MAX_DIM) : 0;
  size_t meta = transfer->key->key.length + 192 + shapes;
  size_t size = sizeof(dist_request) + meta + copy;
  dist_request *request = neap_pool_get(store->context->pool, size);
  if (!request) return NULL;
  memset(request, 0, sizeof *request);
  atomic_init(&request->refs, 1);
  request->key = neap_dist_key_hold(transfer->key);
  request->part = part;
  request->transfer = transfer;
  request->size = size;
  request->push = type == NEAP_M_PUSH;
  if (copy) {
    request->copy = request->meta + meta;
    atomic_fetch_add(&store->copies, 1);
  }
  request->request.message.frame.type = type;
  request->request.message.priority = priority;
  request->request.message.meta = request->meta;
  request->request.place = place_reply;
  request->request.done = on_reply;
  request->request.free = free_request;
  return request;
}

void neap_dist_meta_open(dist_request *request, neap_writer *w) {
  size_t room =
      (request->copy ? (size_t)(request->copy - request->meta) : request->size - sizeof *request);
  neap_writer_open(w, request->meta, room);
}

void neap_dist_meta_close(dist_request *request, const neap_writer *w) {
  request->request.message.frame.meta = (uint32_t)neap_writer_size(w);
}

void neap_dist_payload(dist_request *request, const void *a, size_t a_size, const void *b,
                       size_t b_size) {
  neap_message *message = &request->request.message;
  message->payload[0] = a;
  message->sizes[0] = a_size;
  message->payload[1] = b;
  message->sizes[1] = b_size;
  request->bytes = a_size + b_size;
}

void neap_dist_send(dist_request *request) {
  dist_store *store = request->key->store;
  const neap_message *message = &request->request.message;
  if (!request->push) {
    neap_peer_request(store->servers[request->part->server], &request->request);
    return;
  }
  request->lane = !neap_message_light(message);
  atomic_fetch_add(&store->pushes, 1);
  dist_part *part = request->part;
  dist_key *key = neap_dist_key_hold(request->key); /* keeps the part, whoever sends it */
  pthread_mutex_lock(&store->flow);
  request->next = NULL;
  *part->held_end = request;
  part->held_end = &request->next;
  pump(store, part);
  neap_dist_key_drop(key);
}

void neap_dist_gather(dist_store *store, bool on) {
  for (int i = 0; i < store->num_servers; i++) neap_peer_gather(store->servers[i], on);
}
