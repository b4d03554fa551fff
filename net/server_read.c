/* SPDX-License-Identifier: MIT */
/* server_read.c - INIT and PUSH as a server reads them; see server_read.h. */
#include "server_read.h"
#include "../engine/sparse.h"
#include <string.h>

static size_t dense_bytes(const neap_array_info *info) {
  return (size_t)info->size * (size_t)info->itemsize;
}

/* A row-sparse array out of its bytes: ids, then values. */
static int read_sparse(neap_server *server, const neap_array_info *info, uint64_t rows,
                       const void *bytes, size_t size, neap_array **out) {
  neap_context *context = server->context;
  size_t row = (size_t)neap_row_size(info) * (size_t)info->itemsize;
  if (rows > (uint64_t)info->shape[0] || rows > size / sizeof(int64_t) ||
      size != rows * (sizeof(int64_t) + row))
    return neap_fail(NEAP_EFORMAT, "rows and bytes do not fit together");
  if (size && !bytes) return neap_fail(NEAP_ENOMEM, "the server has no memory for %zu bytes", size);
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
      if (copy) neap_pool_put(context->pool, copy, ids_bytes);
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

const char *neap_read_init(neap_reader *r, neap_init_head *head) {
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

const char *neap_read_push(neap_reader *r, neap_push_head *head) {
  char codec[32];
  *head = (neap_push_head){0};
  neap_get_key(r, &head->key);
  head->birth = neap_get_u64(r);
  head->clock = neap_get_u64(r);
  head->kind = neap_get_u8(r);
  if (head->kind == NEAP_PUSH_SPARSE) head->rows = neap_get_u64(r);
  if (head->kind == NEAP_PUSH_CODED) {
    neap_get_text(r, codec, sizeof codec);
    head->threshold = neap_get_f64(r);
    if (neap_codec_find(codec, &head->threshold, &head->codec) != NEAP_OK)
      return "a PUSH in an unknown code";
  }
  return neap_reader_done(r) && head->kind <= NEAP_PUSH_CODED ? NULL : "a damaged PUSH";
}

static neap_array_info code_info(const neap_push_head *head, const server_key *key) {
  int64_t bytes = neap_codec_bytes(head->codec, key->info.size);
  return (neap_array_info){.dtype = NEAP_UINT8,
                           .device_type = NEAP_CPU,
                           .ndim = 1,
                           .itemsize = 1,
                           .size = bytes,
                           .shape = {bytes}};
}

/* What is pushed, as an array of the kind that the head says. */
int neap_read_push_value(neap_server *server, neap_incoming *in, const neap_push_head *head,
                         const server_key *key, neap_array **out) {
  neap_array_info info = key->info;
  info.stype = NEAP_DENSE;
  if (head->kind == NEAP_PUSH_SPARSE)
    return read_sparse(server, &key->info, head->rows, server_bytes(in), (size_t)in->frame.total,
                       out);
  if (head->kind == NEAP_PUSH_CODED) info = code_info(head, key);
  return neap_server_take_array(server, in, &info, out);
}

const char *neap_server_place_value(neap_server *server, int rank, neap_incoming *in,
                                    neap_reader *r, server_payload *payload) {
  (void)rank;
  neap_array_info info;
  bool block;
  if (in->frame.type == NEAP_M_INIT) {
    neap_init_head head;
    const char *wrong = neap_read_init(r, &head);
    if (wrong) return wrong;
    info = head.info;
    block = info.stype != NEAP_DENSE;
    size_t row = info.ndim ? (size_t)neap_row_size(&info) * (size_t)info.itemsize : 0;
    if (block && in->frame.total > (uint64_t)info.shape[0] * (row + sizeof(int64_t)))
      return "an INIT of more rows than there are";
  } else {
    neap_push_head head;
    const char *wrong = neap_read_push(r, &head);
    if (wrong) return wrong;
    server_key *key = neap_keys_find(&server->keys, &head.key);
    if (!key || key->birth != head.birth) return NULL; /* read and dropped; the reply says why */
    info = key->info;
    info.stype = NEAP_DENSE;
    if (head.kind == NEAP_PUSH_CODED) info = code_info(&head, key);
    block = head.kind == NEAP_PUSH_SPARSE;
    size_t row = info.ndim ? (size_t)neap_row_size(&info) * (size_t)info.itemsize : 0;
    if (block &&
        (!info.ndim || in->frame.total > (uint64_t)info.shape[0] * (row + sizeof(int64_t))))
      return "a PUSH of more rows than there are";
  }
  if (block) {
    payload->size = (size_t)in->frame.total;
    payload->block = neap_pool_get(server->context->pool, payload->size);
  } else if (in->frame.total == dense_bytes(&info)) {
    (void)neap_array_new(server->context, &info, &payload->array);
  }
  return NULL; /* without memory, the reply says so */
}

int neap_read_init_value(neap_server *server, neap_incoming *in, const neap_init_head *head,
                         neap_array **out) {
  if (head->info.stype == NEAP_DENSE) return neap_server_take_array(server, in, &head->info, out);
  return read_sparse(server, &head->info, head->rows, server_bytes(in), (size_t)in->frame.total,
                     out);
}
