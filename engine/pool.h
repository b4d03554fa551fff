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

/* Dying memory: of arrays that were closed while queued work still uses them. add() counts
 * it (negative: it is gone). relieve() runs queued work, or waits for others to run it, as
 * long as there is more of it than NEAP_DYING_LIMIT, so that a loop which makes and drops
 * arrays faster than they are computed runs in bounded memory. It gives up when nothing
 * happens for a second: the bound is a service, a deadlock would not be. */
enum { NEAP_DYING_LIMIT = 64 << 20 };
void neap_pool_dying_add(neap_pool *pool, int64_t bytes);
void neap_pool_relieve(neap_pool *pool);

#endif
