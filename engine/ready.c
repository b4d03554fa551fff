/* SPDX-License-Identifier: MIT */
/* ready.c - operations whose turn has come.
 *
 * Who adds must never wait: adding is one compare-and-swap on a stack. Who takes first moves that
 * stack into an ordered store of its own, under a lock that only takers meet. The order is the
 * priority, then the order of queueing: a list for priority 0, which nearly all have, and a
 * pairing heap (Fredman et al. 1986) for the rest; both link the operations themselves, so
 * nothing here allocates.
 *
 * An operation in several parts stays first in line until all of them are taken. Half of the
 * threads take them from the end: so a thread tends to get the same part of an array each time, and
 * finds it in its own cache.
 */
#include "work.h"

int neap_ready_init(neap_ready *ready) {
  atomic_init(&ready->inbox, NULL);
  atomic_init(&ready->stored, 0);
  atomic_init(&ready->prioritised, 0);
  ready->first = ready->last = ready->heap = NULL;
  return pthread_mutex_init(&ready->pick, NULL) ? NEAP_ENOMEM : NEAP_OK;
}

void neap_ready_destroy(neap_ready *ready) {
  pthread_mutex_destroy(&ready->pick);
}

void neap_ready_add(neap_ready *ready, neap_work *work) {
  if (work->priority != 0) atomic_fetch_add(&ready->prioritised, 1);
  neap_work *head = atomic_load_explicit(&ready->inbox, memory_order_relaxed);
  do {
    work->link = head;
  } while (!atomic_compare_exchange_weak(&ready->inbox, &head, work));
}

static bool goes_before(const neap_work *a, const neap_work *b) {
  return a->priority > b->priority || (a->priority == b->priority && a->seq < b->seq);
}

static neap_work *meld(neap_work *a, neap_work *b) {
  if (!a) return b;
  if (!b) return a;
  if (goes_before(b, a)) {
    neap_work *other = a;
    a = b;
    b = other;
  }
  b->link = a->child;
  a->child = b;
  return a;
}

/* What is left of a heap without its root: children melded in pairs, then from the back. */
static neap_work *without_root(neap_work *root) {
  neap_work *pairs = NULL, *next = root->child;
  while (next) {
    neap_work *a = next, *b = a->link;
    next = b ? b->link : NULL;
    neap_work *pair = meld(a, b);
    pair->link = pairs;
    pairs = pair;
  }
  neap_work *heap = NULL;
  while (pairs) {
    neap_work *pair = pairs;
    pairs = pair->link;
    heap = meld(heap, pair);
  }
  return heap;
}

static void sort_in(neap_ready *ready, neap_work *newest) {
  neap_work *oldest = NULL;
  int count = 0;
  for (; newest; count++) {
    neap_work *work = newest;
    newest = work->link;
    work->link = oldest;
    oldest = work;
  }
  while (oldest) {
    neap_work *work = oldest;
    oldest = work->link;
    work->link = work->child = NULL;
    if (work->priority != 0)
      ready->heap = meld(ready->heap, work);
    else if (ready->last)
      ready->last = ready->last->link = work;
    else
      ready->first = ready->last = work;
  }
  atomic_fetch_add(&ready->stored, count);
}

neap_work *neap_ready_take(neap_ready *ready, bool last, int *part) {
  if (!neap_ready_any(ready)) return NULL;
  pthread_mutex_lock(&ready->pick);
  /* What is in the inbox came later, so it matters only if it may have a higher priority. Not to
   * look at it leaves its cache line to those who add. */
  if ((!ready->first || atomic_load(&ready->prioritised) > 0) &&
      atomic_load_explicit(&ready->inbox, memory_order_relaxed))
    sort_in(ready, atomic_exchange(&ready->inbox, NULL));
  bool from_heap = ready->heap && (!ready->first || ready->heap->priority > 0);
  neap_work *work = from_heap ? ready->heap : ready->first;
  if (work) {
    *part = last ? --work->end_part : work->next_part++;
    if (work->next_part == work->end_part) {
      if (from_heap) {
        ready->heap = without_root(work);
        atomic_fetch_sub(&ready->prioritised, 1);
      } else {
        ready->first = work->link;
        if (ready->first)
          __builtin_prefetch(ready->first, 1);
        else
          ready->last = NULL;
      }
      /* Only takers write it, under `pick`. Who reads a number too high looks in vain, once. */
      int stored = atomic_load_explicit(&ready->stored, memory_order_relaxed);
      atomic_store_explicit(&ready->stored, stored - 1, memory_order_relaxed);
    }
  }
  pthread_mutex_unlock(&ready->pick);
  return work;
}
