/* SPDX-License-Identifier: MIT */
/* array.h - the inside of arrays: memory, views, and how operations are queued on them. */
#ifndef NEAP_ARRAY_H
#define NEAP_ARRAY_H

#include "base.h"
#include "sched.h"

/* Memory shared by an array and its views; the unit the engine orders work by. Held by
 * arrays; freed when the last lets go and what is queued on `var` is complete. So queued
 * work that names `var` needs no hold of its own. */
typedef struct neap_chunk {
  neap_context *context;
  atomic_int refs;
  bool sparse;
  size_t dying; /* bytes told to neap_pool_dying_add() */
  neap_var *var;
  void *data;   /* dense: the elements; row-sparse: values, `rows` rows */
  size_t bytes; /* of data */
  int64_t *ids; /* row-sparse: ascending, unique */
  int64_t rows; /* row-sparse: rows present */
  size_t ids_bytes;
} neap_chunk;

struct neap_array {
  neap_array_info info; /* first: neap_array_get_info is a cast */
  neap_chunk *chunk;
  size_t offset; /* bytes from chunk->data, views */
};

static inline void *neap_array_at_data(const neap_array *array) {
  return (char *)array->chunk->data + array->offset;
}
static inline neap_context *neap_array_context(const neap_array *array) {
  return array->chunk->context;
}

/* Another handle on the same memory. */
int neap_array_share(neap_array *array, neap_array **out);
/* A new array that is what `info` says, which must come from neap_shape_check() or another
 * array. Row-sparse: no rows. May wait for memory, see pool.h. */
int neap_array_new(neap_context *context, const neap_array_info *info, neap_array **out);
/* The same around `data`, from the pool, of info's size; taken over on success only. */
int neap_array_adopt(neap_context *context, const neap_array_info *info, void *data,
                     neap_array **out);

/* "(2,3)" into a buffer the caller gives; returns it. */
enum { NEAP_SHAPE_TEXT = 192 };
const char *neap_shape_text(const neap_array_info *info, char *buffer);
bool neap_same_shape(const neap_array_info *a, const neap_array_info *b);
/* Fills ndim, shape, size and itemsize (of info->dtype, which is set). NEAP_ESHAPE, beginning
 * with `name`, if there is no such array; bytes of dense ones fit a ptrdiff_t. */
int neap_shape_check(const char *name, int ndim, const int64_t *shape, neap_array_info *info);

void neap_chunk_retain(neap_chunk *chunk);
void neap_chunk_release(neap_chunk *chunk); /* the memory goes once queued work is done */

/* Row-sparse chunks, from inside a running operation that writes the chunk: gives it `rows` rows,
 * `data` of `bytes` and ids, both from the pool, or NULL for no rows. The chunk takes them over and
 * lets go of its old ones. */
void neap_chunk_set_rows(neap_chunk *chunk, int64_t rows, void *data, size_t bytes, int64_t *ids);

#endif
