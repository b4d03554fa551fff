/* SPDX-License-Identifier: MIT */
/* ticker.c - a thread that wakes up by the clock, or when told to. */
#include "ticker.h"
#include <string.h>
#include <time.h>

struct neap_ticker {
  neap_context *context;
  double seconds;
  void (*tick)(void *user, double now);
  void *user;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t cond;
  bool woken, closing, started;
};

double neap_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct timespec moment(double at) {
  struct timespec t = {.tv_sec = (time_t)at};
  t.tv_nsec = (long)(1e9 * (at - (double)t.tv_sec));
  return t;
}

static void *run(void *arg) {
  neap_ticker *ticker = arg;
  pthread_mutex_lock(&ticker->lock);
  while (!ticker->closing) {
    ticker->woken = false;
    pthread_mutex_unlock(&ticker->lock);
    ticker->tick(ticker->user, neap_now());
    double until = neap_now() + ticker->seconds;
    pthread_mutex_lock(&ticker->lock);
    while (!ticker->woken && !ticker->closing &&
           neap_cond_wait(&ticker->cond, &ticker->lock, until)) {
    }
  }
  pthread_mutex_unlock(&ticker->lock);
  return NULL;
}

/* With the system's threads these need no memory and cannot fail; where they could, what is made of
 * zeros is a valid default, too. */
int neap_locks_init(pthread_mutex_t *lock, pthread_cond_t *cond) {
  pthread_condattr_t attributes;
  if (pthread_condattr_init(&attributes)) return neap_fail(NEAP_ENOMEM, "a lock cannot be made");
  bool ok = !pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) &&
            !pthread_mutex_init(lock, NULL) && !pthread_cond_init(cond, &attributes);
  pthread_condattr_destroy(&attributes);
  return ok ? NEAP_OK : neap_fail(NEAP_ENOMEM, "a lock cannot be made");
}

bool neap_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, double until) {
  if (until < 0) return pthread_cond_wait(cond, lock) == 0;
  struct timespec t = moment(until);
  return pthread_cond_timedwait(cond, lock, &t) == 0;
}

int neap_ticker_start(neap_ticker *ticker) {
  if (pthread_create(&ticker->thread, NULL, run, ticker))
    return neap_fail(NEAP_ENOMEM, "a thread cannot be started");
  ticker->started = true;
  return NEAP_OK;
}

int neap_ticker_create(neap_context *context, double seconds, void (*tick)(void *user, double now),
                       void *user, neap_ticker **out) {
  neap_ticker *ticker = neap_alloc(context, sizeof *ticker);
  if (!ticker) return NEAP_ENOMEM;
  memset(ticker, 0, sizeof *ticker);
  ticker->context = context;
  ticker->seconds = seconds;
  ticker->tick = tick;
  ticker->user = user;
  int status = neap_locks_init(&ticker->lock, &ticker->cond);
  if (status == NEAP_OK)
    *out = ticker;
  else
    neap_free(context, ticker, sizeof *ticker);
  return status;
}

void neap_ticker_wake(neap_ticker *ticker) {
  if (!ticker) return;
  pthread_mutex_lock(&ticker->lock);
  if (!ticker->woken) {
    ticker->woken = true;
    pthread_cond_signal(&ticker->cond);
  }
  pthread_mutex_unlock(&ticker->lock);
}

void neap_ticker_stop(neap_ticker *ticker) {
  if (!ticker || !ticker->started) return;
  pthread_mutex_lock(&ticker->lock);
  ticker->closing = true;
  pthread_cond_signal(&ticker->cond);
  pthread_mutex_unlock(&ticker->lock);
  pthread_join(ticker->thread, NULL);
  ticker->started = false;
}

void neap_ticker_close(neap_ticker *ticker) {
  if (!ticker) return;
  pthread_cond_destroy(&ticker->cond);
  pthread_mutex_destroy(&ticker->lock);
  neap_free(ticker->context, ticker, sizeof *ticker);
}
