/* SPDX-License-Identifier: MIT */
/* pool.h - array memory, kept for reuse by size class. */
#ifndef NEAP_POOL_H
#define NEAP_POOL_H

#include "base.h"

int neap_pool_create(neap_context *context, neap_pool **out);
void neap_pool_free_all(neap_pool *pool);
/* Memory for array elements: 64-byte aligned, large blocks staggered within their page.
 * `bytes` 0 gives a valid block too. NULL, with the error text set. From any thread. */
void *neap_pool_get(neap_pool *pool, size_t bytes);
void neap_pool_put(neap_pool *pool, void *block, size_t bytes);

#endif
