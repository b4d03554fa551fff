/* SPDX-License-Identifier: MIT */
/* sparse.h - row-sparse arrays inside the engine: queued work, and the row lists it needs.
 *
 * What a row-sparse chunk holds (data, ids, rows) is read and changed inside running operations
 * only. Whoever changes it makes the new rows first and then hands them over at once
 * (neap_chunk_set_rows), so an operation that fails leaves the old ones, and one whose output is
 * its input needs no care. */
#ifndef NEAP_SPARSE_H
#define NEAP_SPARSE_H

#include "array.h"

/* ---- Row lists (rows.c): inside a running operation; errors by neap_fail ---- */

/* Elements in a row of an array of this shape. */
int64_t neap_row_size(const neap_array_info *info);
/* Where `id` is or would be among `count` ascending ids. */
int64_t neap_rows_find(const int64_t *ids, int64_t count, int64_t id);
/* ids = `count` indices (int32 or int64) from `from`. NEAP_EINVAL for one outside [0, rows). */
int neap_rows_load(int dtype, const void *from, int64_t count, int64_t rows, int64_t *ids);
/* Sorts ids in [0, rows), stable, and `beside` (may be NULL) along with them. */
int neap_rows_sort(neap_pool *pool, int64_t count, int64_t rows, int64_t *ids, const void **beside);

/* ---- Queued work, like that of array_work.h ---- */

int neap_check_ids(const char *name, const neap_array *ids); /* dense, int32 or int64 */
/* At least one of both row-sparse. */
neap_work *neap_sparse_copy_work(neap_array *from, neap_array *to);
/* arrays row-sparse, `to` either. */
neap_work *neap_sparse_add_n_work(int count, neap_array *const *arrays, neap_array *to);
/* Both row-sparse; converts dtypes. */
neap_work *neap_sparse_cast_work(neap_array *from, neap_array *to);
/* neap_array_fill: no rows are left. Another value than 0 is NEAP_ESTYPE. */
int neap_sparse_clear(neap_array *array, double value);

#endif
