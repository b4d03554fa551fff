/* SPDX-License-Identifier: MIT */
/* optimizer.h - what stores use of optimizers. */
#ifndef NEAP_OPTIMIZER_H
#define NEAP_OPTIMIZER_H

#include "keys.h"
#include "sched.h"

void neap_optimizer_retain(neap_optimizer *optimizer); /* neap_optimizer_close lets go */

/* Before a push: whether this key can be updated by a gradient of `stype`. NEAP_EINVAL, saying
 * which key and what to do, if no program is bound. Changes nothing. */
int neap_optimizer_check(neap_optimizer *optimizer, const neap_key *key, int stype);

/* Makes one update of `weight` (the stored value, dense) by `gradient` (dense or row-sparse) ready
 * and counts it, but queues nothing: a push of many keys that runs short of memory at its last one
 * must have queued none. Appends to `works` from *count on, at most NEAP_UPDATE_WORKS operations
 * that the caller submits in that order, or discards. Makes the key's states at its first update.
 * Fails for want of memory only, when neap_optimizer_check() has passed; *count is then as before.
 * A caller that discards takes the counts back by neap_optimizer_set_count(). Devices may differ.
 * `joint` (program.h): NULL, or the weight is a part; it is the works' on success, to drop. */
enum { NEAP_UPDATE_WORKS = 7 };
typedef struct neap_joint neap_joint;
int neap_optimizer_prepare(neap_optimizer *optimizer, const neap_key *key, neap_array *weight,
                           neap_array *gradient, neap_joint *joint, int priority, neap_work **works,
                           int *count);

/* How many passes the key's program makes over the weight: each but the last ends in sums over all
 * of it. 0: none is bound. */
int neap_optimizer_passes(neap_optimizer *optimizer, const neap_key *key, int stype);

/* Drops the key's programs, states and count. */
void neap_optimizer_forget(neap_optimizer *optimizer, const neap_key *key);

/* Gives `to`, which is bound, what it has in common with `from` for this key, and what `migration`
 * (NULL: none) makes of the rest: a program whose states and scalars are called old.x and new.x.
 * `weight` is the stored value. Copies; `from` stays as it is. */
int neap_optimizer_carry_key(neap_optimizer *from, neap_optimizer *to, const neap_key *key,
                             neap_array *weight, neap_program *migration);

/* Runs the program that is bound for this key and storage type of gradient once, on small arrays of
 * its own, and waits. Changes nothing. */
int neap_optimizer_try(neap_optimizer *optimizer, const neap_key *key, int stype,
                       const neap_array_info *like);

#endif
