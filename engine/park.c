/* SPDX-License-Identifier: MIT */
/* park.c - threads that sleep until there is work, or until what they wait for is complete.
 *
 * Each has a parker of its own, on its stack, so that a particular one can be woken; the list of
 * those that sleep is under sched->sleep. The last one to fall asleep is woken first. */
#include "work.h"
#include <string.h>

void neap_parker_init(neap_parker *parker, neap_sched *sched) {
  memset(parker, 0, sizeof *parker);
  parker->sched = sched;
  pthread_cond_init(&parker->cond, NULL);
}

static void unlist(neap_sched *sched, neap_parker *parker) {
  for (neap_parker **at = &sched->parked; *at; at = &(*at)->next)
    if (*at == parker) {
      *at = parker->next;
      break;
    }
  parker->listed = false;
  atomic_fetch_sub(&sched->num_parked, 1);
}

void neap_park(neap_parker *parker) {
  neap_sched *sched = parker->sched;
  pthread_mutex_lock(&sched->sleep);
  parker->next = sched->parked;
  sched->parked = parker;
  parker->listed = true;
  parker->woken = false;
  atomic_fetch_add(&sched->num_parked, 1);
  if (neap_ready_any(&sched->ready) || atomic_load(&parker->done) || atomic_load(&sched->stopping))
    unlist(sched, parker);
  else
    while (!parker->woken) pthread_cond_wait(&parker->cond, &sched->sleep);
  pthread_mutex_unlock(&sched->sleep);
}

static void wake(neap_sched *sched, neap_parker *parker) {
  unlist(sched, parker);
  parker->woken = true;
  pthread_cond_signal(&parker->cond);
}

void neap_wake_one(neap_sched *sched) {
  if (atomic_load(&sched->num_parked) == 0) return;
  pthread_mutex_lock(&sched->sleep);
  if (sched->parked) wake(sched, sched->parked);
  pthread_mutex_unlock(&sched->sleep);
}

/* What `parker` waits for is complete. */
void neap_parker_wake_locked(neap_parker *parker) {
  atomic_store(&parker->done, true);
  if (parker->listed) wake(parker->sched, parker);
}

void neap_parker_wake(neap_parker *parker) {
  neap_sched *sched = parker->sched; /* the parker may be gone once it is woken */
  pthread_mutex_lock(&sched->sleep);
  neap_parker_wake_locked(parker);
  pthread_mutex_unlock(&sched->sleep);
}

/* Before a parker on the stack goes away: whoever woke it has let go of the lock by then. */
void neap_parker_leave(neap_parker *parker) {
  neap_sched *sched = parker->sched;
  pthread_mutex_lock(&sched->sleep);
  pthread_mutex_unlock(&sched->sleep);
  pthread_cond_destroy(&parker->cond);
}

void neap_wake_everybody(neap_sched *sched) {
  pthread_mutex_lock(&sched->sleep);
  while (sched->parked) wake(sched, sched->parked);
  pthread_mutex_unlock(&sched->sleep);
}
