/* SPDX-License-Identifier: MIT */
/* rows.c - lists of row ids: loaded, checked, searched and sorted. */
#include "pool.h"
#include "sparse.h"
#include <string.h>

int64_t neap_row_size(const neap_array_info *info) {
  int64_t row = 1;
  for (int i = 1; i < info->ndim; i++) row *= info->shape[i];
  return row;
}

int64_t neap_rows_find(const int64_t *ids, int64_t count, int64_t id) {
  int64_t low = 0, high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (ids[middle] < id)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

int neap_rows_load(int dtype, const void *from, int64_t count, int64_t rows, int64_t *ids) {
  if (dtype == NEAP_INT64)
    memcpy(ids, from, (size_t)count * sizeof *ids);
  else
    for (int64_t i = 0; i < count; i++) ids[i] = ((const int32_t *)from)[i];
  for (int64_t i = 0; i < count; i++)
    if (ids[i] < 0 || ids[i] >= rows)
      return neap_fail(NEAP_EINVAL,
                       "row id %lld at position %lld is out of range: there are %lld "
                       "rows",
                       (long long)ids[i], (long long)i, (long long)rows);
  return NEAP_OK;
}

/* One pass of a radix sort: by the 11 bits from `shift` on. */
static void pass(int64_t count, int shift, const int64_t *ids, const void **beside, int64_t *to_ids,
                 const void **to_beside) {
  enum { DIGITS = 2048 };
  int64_t place[DIGITS] = {0}, sum = 0;
  for (int64_t i = 0; i < count; i++) place[ids[i] >> shift & (DIGITS - 1)]++;
  for (int d = 0; d < DIGITS; d++) {
    int64_t n = place[d];
    place[d] = sum;
    sum += n;
  }
  for (int64_t i = 0; i < count; i++) {
    int64_t at = place[ids[i] >> shift & (DIGITS - 1)]++;
    to_ids[at] = ids[i];
    if (beside) to_beside[at] = beside[i];
  }
}

/* A few ids, as most calls have: straight insertion needs no memory. */
static void insertion(int64_t count, int64_t *ids, const void **beside) {
  for (int64_t i = 1; i < count; i++) {
    int64_t id = ids[i], k = i;
    const void *with = beside ? beside[i] : NULL;
    for (; k > 0 && ids[k - 1] > id; k--) {
      ids[k] = ids[k - 1];
      if (beside) beside[k] = beside[k - 1];
    }
    ids[k] = id;
    if (beside) beside[k] = with;
  }
}

int neap_rows_sort(neap_pool *pool, int64_t count, int64_t rows, int64_t *ids,
                   const void **beside) {
  bool sorted = true;
  for (int64_t i = 1; i < count && sorted; i++) sorted = ids[i - 1] <= ids[i];
  if (sorted) return NEAP_OK;
  if (count <= 64) {
    insertion(count, ids, beside);
    return NEAP_OK;
  }
  size_t ids_bytes = (size_t)count * sizeof *ids, bytes = ids_bytes;
  if (beside) bytes += (size_t)count * sizeof *beside;
  char *scratch = neap_pool_get(pool, bytes);
  if (!scratch) return NEAP_ENOMEM;
  int64_t *to_ids = (int64_t *)scratch;
  const void **to_beside = beside ? (const void **)(scratch + ids_bytes) : NULL;
  for (int shift = 0; shift < 63 && (rows - 1) >> shift > 0; shift += 11) {
    pass(count, shift, ids, beside, to_ids, to_beside);
    memcpy(ids, to_ids, ids_bytes);
    if (beside) memcpy(beside, to_beside, (size_t)count * sizeof *beside);
  }
  neap_pool_put(pool, scratch, bytes);
  return NEAP_OK;
}
