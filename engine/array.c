/* SPDX-License-Identifier: MIT */
/* array.c - how arrays come, share memory and go.
 *
 * An array is a handle: what it is (info), and where it lies in a chunk of memory. The views of
 * one array share its chunk, and the chunk has one engine variable: work is ordered by chunk, so
 * overlapping views need no analysis.
 *
 * Life of a chunk. Handles hold it. When the last is closed, queued work may still use it; the
 * engine then disposes of it behind that work (neap_var_close_then), on whatever thread completes
 * it. Until then it counts as dying memory, which is bounded: see pool.h.
 *
 * Small arrays are made and dropped by the million, so a chunk, its first handle and the elements
 * of a small array are one block from the pool. */
#include "array.h"
#include "call.h"
#include "pool.h"
#include <string.h>

enum { INLINE_BYTES = 128 }; /* arrays up to here live inside their chunk's block */

/* The first handle stays where it is until the chunk goes, though it may be closed before. */
typedef struct block {
  neap_chunk chunk;
  neap_array first;
  _Alignas(64) char elements[];
} block;

static size_t block_bytes(size_t bytes) {
  return sizeof(block) + (bytes <= INLINE_BYTES ? bytes : 0);
}

/* ---- Chunks ---------------------------------------------------------------------------------- */

/* Once nobody can see the chunk any more. */
static void dispose(void *arg) {
  block *b = arg;
  neap_chunk *chunk = &b->chunk;
  neap_pool *pool = chunk->context->pool; /* the variable holds the context until we return */
  bool inside = chunk->data == b->elements;
  if (chunk->dying) neap_pool_dying_add(pool, -(int64_t)chunk->dying);
  if (!inside) neap_pool_put(pool, chunk->data, chunk->bytes);
  neap_pool_put(pool, chunk->ids, chunk->ids_bytes);
  neap_pool_put(pool, b, inside ? block_bytes(chunk->bytes) : sizeof *b);
}

void neap_chunk_retain(neap_chunk *chunk) {
  atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);
}

void neap_chunk_release(neap_chunk *chunk) {
  if (atomic_fetch_sub_explicit(&chunk->refs, 1, memory_order_acq_rel) != 1) return;
  /* What a row-sparse chunk has may still change, on a worker: no business of this thread. */
  if (!chunk->sparse && chunk->bytes > INLINE_BYTES && !neap_var_idle(chunk->var)) {
    chunk->dying = chunk->bytes;
    neap_pool_dying_add(chunk->context->pool, (int64_t)chunk->dying);
  }
  neap_var_close_then(chunk->var, dispose, chunk);
}

void neap_chunk_set_rows(neap_chunk *chunk, int64_t rows, void *data, size_t bytes, int64_t *ids) {
  neap_pool *pool = chunk->context->pool;
  neap_pool_put(pool, chunk->data, chunk->bytes);
  neap_pool_put(pool, chunk->ids, chunk->ids_bytes);
  chunk->data = data;
  chunk->bytes = bytes;
  chunk->ids = ids;
  chunk->ids_bytes = (size_t)rows * sizeof *ids;
  chunk->rows = rows;
}

/* ---- Arrays ---------------------------------------------------------------------------------- */

/* `data` NULL: memory of its own. */
static int create(neap_context *context, const neap_array_info *info, void *data,
                  neap_array **out) {
  bool sparse = info->stype == NEAP_ROW_SPARSE;
  size_t bytes = sparse ? 0 : (size_t)info->size * (size_t)info->itemsize;
  bool inside = !sparse && !data && bytes <= INLINE_BYTES;
  size_t whole = inside ? block_bytes(bytes) : sizeof(block);
  block *b = neap_pool_get(context->pool, whole);
  if (!b) return NEAP_ENOMEM;
  memset(&b->chunk, 0, sizeof b->chunk);
  void *memory = sparse ? NULL : inside ? b->elements : data;
  if (!sparse && !memory) memory = neap_pool_get(context->pool, bytes);
  if (!sparse && !memory) {
    neap_pool_put(context->pool, b, whole);
    return NEAP_ENOMEM;
  }
  int status = neap_var_create(context, &b->chunk.var);
  if (status != NEAP_OK) {
    if (!inside && memory != data) neap_pool_put(context->pool, memory, bytes);
    neap_pool_put(context->pool, b, whole);
    return status;
  }
  b->chunk.context = context;
  atomic_init(&b->chunk.refs, 1);
  b->chunk.sparse = sparse;
  b->chunk.data = memory;
  b->chunk.bytes = bytes;
  b->first.info = *info;
  b->first.chunk = &b->chunk;
  b->first.offset = 0;
  *out = &b->first;
  return NEAP_OK;
}

int neap_array_new(neap_context *context, const neap_array_info *info, neap_array **out) {
  neap_pool_relieve(context->pool);
  return create(context, info, NULL, out);
}

int neap_array_adopt(neap_context *context, const neap_array_info *info, void *data,
                     neap_array **out) {
  return create(context, info, data, out);
}

static int create_checked(neap_context *context, int stype, int dtype, int ndim,
                          const int64_t *shape, int device_type, int device_id, neap_array **out) {
  if (!context || !out) return neap_fail(NEAP_EINVAL, "array: no context, or no place for it");
  if (atomic_load_explicit(&context->closed, memory_order_relaxed))
    return neap_fail(NEAP_ECLOSED, "array: the context was closed");
  if (!neap_dtype_name(dtype)) return neap_fail(NEAP_EDTYPE, "array: %d is no dtype", dtype);
  if (device_type == NEAP_GPU)
    return neap_fail(NEAP_ENOTSUP,
                     "array: gpu(%d) is not there: this build of Neap computes on CPUs only; "
                     "use a CPU context, cpu(%d)",
                     device_id, device_id);
  if (device_type != NEAP_CPU || device_id < 0)
    return neap_fail(NEAP_EINVAL, "array: device type %d, number %d is no device", device_type,
                     device_id);
  neap_array_info info = {
      .dtype = dtype, .stype = stype, .device_type = device_type, .device_id = device_id};
  NEAP_TRY(neap_shape_check("array", ndim, shape, &info));
  return neap_array_new(context, &info, out);
}

int neap_array_create(neap_context *context, int dtype, int ndim, const int64_t *shape,
                      int device_type, int device_id, neap_array **out) {
  return create_checked(context, NEAP_DENSE, dtype, ndim, shape, device_type, device_id, out);
}

int neap_sparse_create(neap_context *context, int dtype, int ndim, const int64_t *shape,
                       int device_type, int device_id, neap_array **out) {
  if (ndim < 1)
    return neap_fail(NEAP_ESHAPE, "array: a row-sparse array has at least one dimension");
  return create_checked(context, NEAP_ROW_SPARSE, dtype, ndim, shape, device_type, device_id, out);
}

void neap_array_close(neap_array *array) {
  if (!array) return;
  neap_chunk *chunk = array->chunk;
  if (array != &((block *)chunk)->first) /* the chunk comes first in its block */
    neap_pool_put(chunk->context->pool, array, sizeof *array);
  neap_chunk_release(chunk);
}

const neap_array_info *neap_array_get_info(const neap_array *array) {
  return array ? &array->info : NULL;
}

neap_var *neap_array_var(const neap_array *array) {
  return array ? array->chunk->var : NULL;
}

/* ---- Views ----------------------------------------------------------------------------------- */

int neap_array_share(neap_array *array, neap_array **out) {
  NEAP_TRY(neap_check_open("array", array));
  neap_array *view = neap_pool_get(neap_array_context(array)->pool, sizeof *view);
  if (!view) return NEAP_ENOMEM;
  *view = *array;
  neap_chunk_retain(view->chunk);
  *out = view;
  return NEAP_OK;
}

static int check_view(const char *name, neap_array *array, neap_array **out) {
  NEAP_TRY(neap_check_dense(name, array));
  return out ? NEAP_OK : neap_fail(NEAP_EINVAL, "%s: no place for the result", name);
}

int neap_array_reshape(neap_array *array, int ndim, const int64_t *shape, neap_array **out) {
  NEAP_TRY(check_view("reshape", array, out));
  neap_array_info info = array->info;
  int64_t full[NEAP_MAX_DIM];
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < ndim && i < NEAP_MAX_DIM && shape; i++) {
    full[i] = shape[i];
    if (shape[i] == -1) {
      if (unknown >= 0) return neap_fail(NEAP_ESHAPE, "reshape: more than one dimension is -1");
      unknown = i;
    } else if (shape[i] < 0 || __builtin_mul_overflow(known, shape[i], &known)) {
      known = -1; /* neap_shape_check says what is wrong */
      break;
    }
  }
  if (unknown >= 0 && known > 0) full[unknown] = array->info.size / known;
  if (unknown >= 0 && known == 0)
    return neap_fail(NEAP_ESHAPE, "reshape: beside a dimension of 0, -1 has no one value");
  NEAP_TRY(neap_shape_check("reshape", ndim, known < 0 ? shape : full, &info));
  if (info.size != array->info.size) {
    char from[NEAP_SHAPE_TEXT], to[NEAP_SHAPE_TEXT];
    for (int i = 0; i < ndim; i++) info.shape[i] = shape[i]; /* as it was asked for */
    return neap_fail(NEAP_ESHAPE, "reshape: shape %s does not become %s",
                     neap_shape_text(&array->info, from), neap_shape_text(&info, to));
  }
  NEAP_TRY(neap_array_share(array, out));
  (*out)->info = info;
  return NEAP_OK;
}

/* Elements in one row of the first dimension. */
static int64_t row_size(const neap_array_info *info) {
  int64_t row = 1;
  for (int i = 1; i < info->ndim; i++) row *= info->shape[i];
  return row;
}

/* Rows [begin, begin + rows) as a view of `ndim` dimensions. */
static int view_rows(neap_array *array, int64_t begin, int64_t rows, bool drop, neap_array **out) {
  NEAP_TRY(neap_array_share(array, out));
  neap_array *view = *out;
  int64_t row = row_size(&array->info);
  view->offset += (size_t)(begin * row) * (size_t)array->info.itemsize;
  view->info.size = rows * row;
  view->info.shape[0] = rows;
  if (!drop) return NEAP_OK;
  view->info.ndim--;
  memmove(view->info.shape, view->info.shape + 1, (NEAP_MAX_DIM - 1) * sizeof(int64_t));
  view->info.shape[NEAP_MAX_DIM - 1] = 0;
  return NEAP_OK;
}

int neap_array_slice(neap_array *array, int64_t begin, int64_t end, neap_array **out) {
  NEAP_TRY(check_view("slice", array, out));
  char text[NEAP_SHAPE_TEXT];
  if (array->info.ndim == 0)
    return neap_fail(NEAP_ESHAPE, "slice: an array without dimensions has no rows");
  int64_t rows = array->info.shape[0];
  int64_t from = begin < 0 ? begin + rows : begin, to = end < 0 ? end + rows : end;
  if (from < 0 || to > rows || from > to)
    return neap_fail(NEAP_EINVAL, "slice: [%lld, %lld) does not lie in the first dimension of %s",
                     (long long)begin, (long long)end, neap_shape_text(&array->info, text));
  return view_rows(array, from, to - from, false, out);
}

int neap_array_at(neap_array *array, int64_t index, neap_array **out) {
  NEAP_TRY(check_view("at", array, out));
  char text[NEAP_SHAPE_TEXT];
  if (array->info.ndim == 0)
    return neap_fail(NEAP_ESHAPE, "at: an array without dimensions has no rows");
  int64_t rows = array->info.shape[0], row = index < 0 ? index + rows : index;
  if (row < 0 || row >= rows)
    return neap_fail(NEAP_EINVAL, "at: row %lld of shape %s", (long long)index,
                     neap_shape_text(&array->info, text));
  return view_rows(array, row, 1, true, out);
}
