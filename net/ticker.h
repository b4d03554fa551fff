/* SPDX-License-Identifier: MIT */
/* ticker.h - one thread of a process of a job, which does by the clock what nothing else brings
 * about: connecting again, signs of life, time limits, and freeing connections that are closed. */
#ifndef NEAP_TICKER_H
#define NEAP_TICKER_H

#include "../engine/base.h"
#include <pthread.h>

typedef struct neap_ticker neap_ticker;

/* Seconds on a clock that never goes back. */
double neap_now(void);

/* A lock and a condition that neap_cond_wait() works with; both usable even on failure. */
int neap_locks_init(pthread_mutex_t *lock, pthread_cond_t *cond);
/* Waits to be signalled; false when it is `until` (neap_now(); -1: never). */
bool neap_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, double until);

/* A ticker that does not tick yet. It is made before whatever wakes it, and closed after that. */
int neap_ticker_create(neap_context *context, double seconds, void (*tick)(void *user, double now),
                       void *user, neap_ticker **out);
/* Calls tick(user, now) every `seconds`, and soon after each neap_ticker_wake(). */
int neap_ticker_start(neap_ticker *ticker);
void neap_ticker_wake(neap_ticker *ticker); /* from any thread, at any time */
/* Returns when the last tick has. Not from inside a tick. NULL, and one that never began, are
 * fine. */
void neap_ticker_stop(neap_ticker *ticker);
void neap_ticker_close(neap_ticker *ticker); /* stopped */

#endif
