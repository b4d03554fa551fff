/* SPDX-License-Identifier: MIT */
/* server_keys.c - keys of a server: how they come and go, and how pushes become updates.
 *
 * All of it runs under server->lock; see server_inside.h for the rules. */
#include "../engine/sparse.h"
#include "../engine/work_list.h"
#include "../engine/array_work.h"
#include "server_inside.h"
#include <stdio.h>
#include <string.h>

/* A worker's pushes to one key that wait longer than the first of it are answered only when they
 * start: so a worker runs ahead of the others by no more than this and what it sends unanswered. */
enum { AHEAD = 1 << 20 };

static size_t key_size(const neap_server *server) {
  return sizeof(server_key) + (size_t)server->roster->num_workers * sizeof(server_clock);
}

static size_t dense_bytes(const neap_array_info *info) {
  return (size_t)info->size * (size_t)info->itemsize;
}

/* ---- What messages bring --------------------------------------------------------------------- */

/* A row-sparse array out of its bytes: ids, then values. */
static int read_sparse(neap_server *server, const neap_array_info *info, uint64_t rows,
                       const void *bytes, size_t size, neap_array **out) {
  neap_context *context = server->context;
  size_t row = (size_t)neap_row_size(info) * (size_t)info->itemsize;
  if (rows > (uint64_t)info->shape[0] || size != rows * (sizeof(int64_t) + row) || (size && !bytes))
    return neap_fail(NEAP_EFORMAT, "rows and bytes do not fit together");
  size_t ids_bytes = (size_t)rows * sizeof(int64_t);
  for (uint64_t i = 0; i < rows; i++) {
    int64_t id, before = -1;
    memcpy(&id, (const char *)bytes + i * sizeof id, sizeof id);
    if (i) memcpy(&before, (const char *)bytes + (i - 1) * sizeof id, sizeof id);
    if (id <= before || id >= info->shape[0])
      return neap_fail(NEAP_EFORMAT, "row ids are not ascending, or out of range");
  }
  neap_array *array = NULL;
  NEAP_TRY(neap_sparse_create(context, info->dtype, info->ndim, info->shape, NEAP_CPU, 0, &array));
  if (rows > 0) {
    void *values = neap_pool_get(context->pool, rows * row);
    int64_t *copy = neap_pool_get(context->pool, ids_bytes);
    if (!values || !copy) {
      if (values) neap_pool_put(context->pool, values, rows * row);
      neap_array_close(array);
      return NEAP_ENOMEM;
    }
    memcpy(copy, bytes, ids_bytes);
    memcpy(values, (const char *)bytes + ids_bytes, rows * row);
    neap_chunk_set_rows(array->chunk, (int64_t)rows, values, rows * row, copy); /* nobody has it */
  }
  *out = array;
  return NEAP_OK;
}

typedef struct init_head {
  bool async, has_value;
  neap_key key;
  neap_array_info info, whole;
  int64_t begin;
  uint64_t rows, life;
  int home, parts, index;
} init_head;

static const char *read_init(neap_reader *r, init_head *head) {
  head->async = neap_get_u8(r) != 0;
  neap_get_key(r, &head->key);
  neap_get_info(r, &head->info);
  neap_get_info(r, &head->whole);
  head->begin = (int64_t)neap_get_u64(r);
  head->has_value = neap_get_u8(r) != 0;
  head->rows = neap_get_u64(r);
  head->life = neap_get_u64(r);
  head->home = (int)neap_get_u32(r);
  head->parts = (int)neap_get_u32(r);
  head->index = (int)neap_get_u32(r);
  if (!neap_reader_done(r) || head->home < 0 || head->parts < 1 || head->index < 0 ||
      head->index >= head->parts || head->parts > NEAP_NODES_MAX || head->home > NEAP_NODES_MAX)
    return "a damaged INIT";
  const neap_array_info *part = &head->info, *whole = &head->whole;
  bool fits = part->dtype == whole->dtype && part->stype == whole->stype &&
              part->ndim == whole->ndim && head->begin >= 0;
  for (int i = 1; fits && i < part->ndim; i++) fits = part->shape[i] == whole->shape[i];
  if (fits && part->ndim > 0)
    fits = head->begin <= whole->shape[0] && part->shape[0] <= whole->shape[0] - head->begin;
  return fits ? NULL : "an INIT whose part is no part of its whole";
}

enum { DENSE, SPARSE, CODED };

typedef struct push_head {
  neap_key key;
  uint64_t birth, clock, rows;
  unsigned kind;
  const neap_codec *codec;
  double threshold;
} push_head;

static const char *read_push(neap_reader *r, push_head *head) {
  char codec[32];
  *head = (push_head){0};
  neap_get_key(r, &head->key);
  head->birth = neap_get_u64(r);
  head->clock = neap_get_u64(r);
  head->kind = neap_get_u8(r);
  if (head->kind == SPARSE) head->rows = neap_get_u64(r);
  if (head->kind == CODED) {
    neap_get_text(r, codec, sizeof codec);
    head->threshold = neap_get_f64(r);
    if (neap_codec_find(codec, &head->threshold, &head->codec) != NEAP_OK)
      return "a PUSH in an unknown code";
  }
  return neap_reader_done(r) && head->kind <= CODED ? NULL : "a damaged PUSH";
}

static neap_array_info code_info(const push_head *head, const server_key *key) {
  int64_t bytes = neap_codec_bytes(head->codec, key->info.size);
  return (neap_array_info){.dtype = NEAP_UINT8,
                           .device_type = NEAP_CPU,
                           .ndim = 1,
                           .itemsize = 1,
                           .size = bytes,
                           .shape = {bytes}};
}

/* What is pushed, as an array of the kind that the head says. */
static int read_value(neap_server *server, neap_incoming *in, const push_head *head,
                      const server_key *key, neap_array **out) {
  neap_array_info info = key->info;
  info.stype = NEAP_DENSE;
  if (head->kind == SPARSE)
    return read_sparse(server, &key->info, head->rows, server_bytes(in), (size_t)in->frame.total,
                       out);
  if (head->kind == CODED) info = code_info(head, key);
  return neap_server_take_array(server, in, &info, out);
}

const char *neap_server_place_value(neap_server *server, int rank, neap_incoming *in,
                                    neap_reader *r, server_payload *payload) {
  (void)rank;
  neap_array_info info;
  bool block;
  if (in->frame.type == NEAP_M_INIT) {
    init_head head;
    const char *wrong = read_init(r, &head);
    if (wrong) return wrong;
    info = head.info;
    block = info.stype != NEAP_DENSE;
    size_t row = info.ndim ? (size_t)neap_row_size(&info) * (size_t)info.itemsize : 0;
    if (block && in->frame.total > (uint64_t)info.shape[0] * (row + sizeof(int64_t)))
      return "an INIT of more rows than there are";
  } else {
    push_head head;
    const char *wrong = read_push(r, &head);
    if (wrong) return wrong;
    server_key *key = neap_keys_find(&server->keys, &head.key);
    if (!key || key->birth != head.birth) return NULL; /* read and dropped; the reply says why */
    info = key->info;
    info.stype = NEAP_DENSE;
    if (head.kind == CODED) info = code_info(&head, key);
    block = head.kind == SPARSE;
    size_t row = info.ndim ? (size_t)neap_row_size(&info) * (size_t)info.itemsize : 0;
    if (block &&
        (!info.ndim || in->frame.total > (uint64_t)info.shape[0] * (row + sizeof(int64_t))))
      return "a PUSH of more rows than there are";
  }
  if (block) {
    payload->size = (size_t)in->frame.total;
    payload->block = neap_pool_get(server->context->pool, payload->size);
    return payload->block ? NULL : "no memory";
  }
  if (in->frame.total != dense_bytes(&info)) return NULL;
  return neap_array_new(server->context, &info, &payload->array) == NEAP_OK ? NULL : "no memory";
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
static bool fits(const server_key *key, const init_head *head, char *text, size_t size) {
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
  uint8_t meta[16];
  neap_writer w;
  neap_writer_open(&w, meta, sizeof meta);
  neap_put_u64(&w, key->birth);
  neap_put_u64(&w, key->clocks[rank].accepted);
  neap_server_reply(server, rank, request, NEAP_OK, NULL, meta, neap_writer_size(&w));
}

static void free_wait(neap_server *server, server_wait *wait) {
  if (wait->key.text)
    neap_free(server->context, (void *)(uintptr_t)wait->key.text, wait->key.length + 1);
  neap_free(server->context, wait, sizeof *wait);
}

/* An INIT without a value whose key is not there yet. */
static int add_wait(neap_server *server, int rank, uint64_t request, const init_head *head) {
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
    init_head head = {.info = wait->info, .whole = wait->whole, .begin = key->begin};
    char text[512];
    if (fits(key, &head, text, sizeof text))
      neap_server_init_reply(server, wait->rank, wait->request, key);
    else
      neap_server_reply(server, wait->rank, wait->request, NEAP_ESHAPE, text, NULL, 0);
    free_wait(server, wait);
  }
}

/* Those who wait for a rank 0 that died. */
static void fail_waits(neap_server *server) {
  if (!neap_server_is_lost(server, 0)) return;
  char name[NEAP_NODE_TEXT], text[NEAP_NODE_TEXT + 64];
  snprintf(text, sizeof text, "init: %s died before it set this key",
           neap_node_text(server->roster, NEAP_WORKER, 0, name));
  while (server->waits) {
    server_wait *wait = server->waits;
    server->waits = wait->next;
    neap_server_reply(server, wait->rank, wait->request, NEAP_ELOST, text, NULL, 0);
    free_wait(server, wait);
  }
}

static int make_key(neap_server *server, const init_head *head, neap_array *value,
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
  key->orders_end = &key->orders;
  key->pulls_end = &key->pulls;
  int status = neap_server_value_new(server, value, &key->value);
  if (status == NEAP_OK) {
    status = neap_keys_add(&server->keys, &head->key, key);
    if (status != NEAP_OK) {
      key->value->array = NULL; /* the caller's still */
      neap_server_value_drop(key->value);
    }
  }
  if (status != NEAP_OK) {
    neap_free(server->context, key, size);
    return status;
  }
  key->key = neap_keys_at(&server->keys, server->keys.count - 1);
  neap_swap_begin(server, key);
  *out = key;
  return NEAP_OK;
}

static int init_value(neap_server *server, neap_incoming *in, const init_head *head,
                      neap_array **out) {
  if (head->info.stype == NEAP_DENSE) return neap_server_take_array(server, in, &head->info, out);
  return read_sparse(server, &head->info, head->rows, server_bytes(in), (size_t)in->frame.total,
                     out);
}

const char *neap_server_init(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  init_head head;
  char text[512];
  const char *wrong = read_init(r, &head);
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
    status = init_value(server, in, &head, &value);
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
  while (key->orders) {
    server_order *order = key->orders;
    key->orders = order->next;
    neap_free(server->context, order, sizeof *order);
  }
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

/* Queues the update by these pushes; fails for want of memory only. */
static int run_update(neap_server *server, server_key *key, server_push *const *pushes, int count) {
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
  server_push *few[16], **pushes = few;
  size_t size = (size_t)count * sizeof *pushes;
  if (count > 16) pushes = neap_alloc(server->context, size);
  if (!pushes) return; /* at the next push, or change of the roster */
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
  if (pushes != few) neap_free(server->context, pushes, size);
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
  int few[64], *ranks = few, count;
  size_t size = (size_t)server->roster->num_workers * sizeof *ranks;
  if (size > sizeof few) ranks = neap_alloc(server->context, size);
  if (!ranks) return;
  while (neap_server_may_start(server, key) && (count = next_round(server, key, ranks)) > 0)
    start(server, key, ranks, count);
  if (ranks != few) neap_free(server->context, ranks, size);
}

/* Starts what the key's home has ordered, as far as it is here. */
static void start_ordered(neap_server *server, server_key *key) {
  while (key->orders && key->clocks[key->orders->rank].first &&
         neap_server_may_start(server, key)) {
    server_order *order = key->orders;
    key->orders = order->next;
    if (!key->orders) key->orders_end = &key->orders;
    int rank = order->rank;
    neap_free(server->context, order, sizeof *order);
    start(server, key, &rank, 1);
  }
}

/* Out of step: a push is an update by itself, as soon as it is here; unless sums of other servers
 * are needed, and another one has to say when. */
static void start_alone(neap_server *server, server_key *key, int rank, int stype) {
  if (!neap_server_may_start(server, key)) return;
  neap_swap_key(server, key);
  if (!is_joint(server, key, stype)) {
    start(server, key, &rank, 1);
  } else if (key->index == 0) {
    neap_server_order(server, key, rank, key->joint_updates + 1);
    start(server, key, &rank, 1);
  } else {
    start_ordered(server, key);
  }
}

/* Out of step: all pushes that had to wait. */
static void start_waiting(neap_server *server, server_key *key) {
  for (int rank = 0; rank < server->roster->num_workers; rank++) {
    server_push *push = NULL, **at = &key->clocks[rank].first;
    while (*at && *at != push) {
      push = *at;
      int stype = push->codec ? NEAP_DENSE : neap_array_get_info(push->array)->stype;
      start_alone(server, key, rank, stype);
    }
  }
}

const char *neap_server_take_order(neap_server *server, neap_reader *r) {
  neap_key name;
  neap_get_key(r, &name);
  uint64_t life = neap_get_u64(r), step = neap_get_u64(r);
  int rank = (int)neap_get_u32(r);
  if (!neap_reader_done(r) || rank < 0 || rank >= server->roster->num_workers)
    return "a damaged ORDER";
  server_key *key = neap_keys_find(&server->keys, &name);
  if (!key || key->life != life || step <= key->orders_told) return NULL;
  server_order *order = neap_alloc(server->context, sizeof *order);
  if (!order) return "no memory";
  *order = (server_order){NULL, rank};
  *key->orders_end = order;
  key->orders_end = &order->next;
  key->orders_told = step;
  start_ordered(server, key);
  neap_server_answer_pulls(server, key);
  return NULL;
}

/* Why this push cannot be applied; NEAP_OK if it can. */
static int check_push(neap_server *server, const server_key *key, const push_head *head, char *text,
                      size_t size) {
  char name[NEAP_KEY_TEXT];
  neap_key_text(key->key, name);
  int stype = head->kind == SPARSE ? NEAP_ROW_SPARSE : NEAP_DENSE;
  if (stype == NEAP_DENSE && key->info.stype != NEAP_DENSE) {
    snprintf(text, size, "push: %s: a dense array where row_sparse is stored", name);
    return NEAP_ESTYPE;
  }
  if (!server->optimizer && server->async) {
    snprintf(text, size, "push: %s: a dist_async store needs an optimizer: set_optimizer first",
             name);
    return NEAP_EINVAL;
  }
  if (!server->optimizer) return NEAP_OK;
  if (key->unbound[stype]) {
    snprintf(text, size, "push: %s: %s", name, key->unbound[stype]);
    return NEAP_EINVAL;
  }
  int status = neap_optimizer_check(server->optimizer, key->key, stype);
  if (status != NEAP_OK) snprintf(text, size, "push: %s", neap_error());
  return status;
}

/* A push that is new is accepted: its reply says that it will be applied, and its array is ours. */
static int accept_push(neap_server *server, int rank, neap_incoming *in, const push_head *head,
                       server_key *key) {
  neap_array *array = NULL;
  NEAP_TRY(read_value(server, in, head, key, &array));
  server_push *push = neap_alloc(server->context, sizeof *push);
  if (!push) {
    neap_array_close(array);
    return NEAP_ENOMEM;
  }
  server_clock *clock = &key->clocks[rank];
  *push = (server_push){.clock = head->clock,
                        .request = in->frame.id,
                        .array = array,
                        .codec = head->codec,
                        .threshold = (float)head->threshold,
                        .bytes = (size_t)in->frame.total};
  bool ahead = clock->first && clock->bytes + push->bytes > AHEAD;
  *(clock->last ? &clock->last->next : &clock->first) = push;
  clock->last = push;
  clock->bytes += push->bytes;
  clock->accepted = head->clock;
  if (!ahead || server->workers[rank].hurried) reply_push(server, rank, push, NEAP_OK, NULL);
  if (server->async)
    start_alone(server, key, rank, head->kind == SPARSE ? NEAP_ROW_SPARSE : NEAP_DENSE);
  else
    start_rounds(server, key);
  return NEAP_OK;
}

/* A push that was here before: its reply was lost, or is still to come. */
static void reply_again(neap_server *server, int rank, const push_head *head, server_key *key,
                        uint64_t request) {
  for (server_push *push = key->clocks[rank].first; push; push = push->next)
    if (push->clock == head->clock && !push->replied) {
      push->request = request;
      return;
    }
  neap_server_reply(server, rank, request, NEAP_OK, NULL, NULL, 0);
}

const char *neap_server_push(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  push_head head;
  char text[1024] = "";
  const char *wrong = read_push(r, &head);
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
  for (int i = 0; i < server->keys.count; i++) {
    server_key *key = neap_keys_value_at(&server->keys, i);
    (server->async ? start_waiting : start_rounds)(server, key);
    neap_server_answer_pulls(server, key);
  }
  fail_waits(server);
}

void neap_server_hurry(neap_server *server, int rank) {
  for (int i = 0; i < server->keys.count; i++) {
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
