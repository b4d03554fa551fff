/* SPDX-License-Identifier: MIT */
/* optimizer.h - what stores use of optimizers. */
#ifndef NEAP_OPTIMIZER_H
#define NEAP_OPTIMIZER_H

#include "keys.h"

void neap_optimizer_retain(neap_optimizer *optimizer); /* neap_optimizer_close lets go */

/* Before a push: whether this key can be updated by a gradient of `stype`. NEAP_EINVAL, saying
 * which key and what to do, if no program is bound. Changes nothing. */
int neap_optimizer_check(neap_optimizer *optimizer, const neap_key *key, int stype);

/* Queues one update of `weight` (the stored value, dense) by `gradient` (dense or row-sparse),
 * and counts it. Makes the key's states at its first update. Fails for want of memory only,
 * when neap_optimizer_check() has passed. */
int neap_optimizer_update(neap_optimizer *optimizer, const neap_key *key, neap_array *weight,
                          neap_array *gradient, int priority);

/* Drops the key's programs, states and count. */
void neap_optimizer_forget(neap_optimizer *optimizer, const neap_key *key);

#endif
