/* SPDX-License-Identifier: MIT */
/* array_work.h - operations on arrays, made ready but not queued.
 *
 * A call that does several things must do all of them or none. So it first makes all its work
 * ready, which is where memory can run out, and then submits it, which cannot fail. Stores work
 * like this; neap_array_copy(), neap_add_n() and neap_sparse_retain() are one of these each.
 *
 * All return NULL, with the error text set, if memory is short, and hold what they need of their
 * arrays until they have run. Arguments are the caller's to check: one shape, one dtype. Devices
 * may differ. The caller sets the priority, and submits or discards. */
#ifndef NEAP_ARRAY_WORK_H
#define NEAP_ARRAY_WORK_H

#include "array.h"

/* to = from, between any storage types: a dense `to` gets zeros for absent rows, a row-sparse `to`
 * of a dense `from` the rows that are not all zeros. From an array to itself: nothing. */
neap_work *neap_copy_work(neap_array *from, neap_array *to);

/* to = ((arrays[0] + arrays[1]) + ...): all dense, to dense; or all row-sparse, to either storage
 * type. `to` may be one of the dense arrays. One array: a copy. */
neap_work *neap_add_n_work(int count, neap_array *const *arrays, neap_array *to);

/* `to` (row-sparse) gets the rows of `from` (either storage type) that `ids` names: int32 or int64,
 * any shape, order and repeats. A late error, naming id and rows, if one is out of range. */
neap_work *neap_retain_work(neap_array *from, neap_array *ids, neap_array *to);

#endif
