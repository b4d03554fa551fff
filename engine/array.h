/* SPDX-License-Identifier: MIT */
/* array.h - the inside of arrays: memory, views, and how operations are queued on them. */
#ifndef NEAP_ARRAY_H
#define NEAP_ARRAY_H

#include "base.h"
#include "sched.h"

/* Memory shared by an array and its views; the unit the engine orders work by. Held by
 * arrays and by queued work; freed when the last lets go. */
typedef struct neap_chunk {
  neap_context *context;
  atomic_int refs;
  neap_var *var;
  void *data;   /* dense: the elements; row-sparse: values, capacity `rows` rows */
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
/* "(2,3)" into a buffer the caller gives; returns it. */
enum { NEAP_SHAPE_TEXT = 160 };
const char *neap_shape_text(const neap_array_info *info, char *buffer);
bool neap_same_shape(const neap_array_info *a, const neap_array_info *b);

void neap_chunk_retain(neap_chunk *chunk);
void neap_chunk_release(neap_chunk *chunk); /* the memory goes once queued work is done */

/* Row-sparse chunks, from inside a running operation that writes the chunk: makes room
 * for `rows` rows of `row_bytes` (what was there is lost). NEAP_ENOMEM. */
int neap_chunk_resize_rows(neap_chunk *chunk, int64_t rows, size_t row_bytes);

#endif
