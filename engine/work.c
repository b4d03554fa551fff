/* SPDX-License-Identifier: MIT */
/* work.c - the memory of operations, and how they are made.
 *
 * Operations come from lists of spare ones by size, filled by whoever completes them: the list that
 * is taken from is for one thread at a time (a second one does not wait, it allocates), giving back
 * to the other is one compare-and-swap. One block holds an operation, its dependencies and its
 * payload. */
#include "pool.h"
#include "work.h"
#include <string.h>

static const size_t class_bytes[4] = {256, 512, 1024, 2048};
enum { NO_CLASS = 255 };

/* NULL if there is none, or if another thread is just taking one. */
static neap_work *spare_take(neap_sched *sched, int size_class) {
  if (atomic_exchange_explicit(&sched->spare_taken, true, memory_order_acquire)) return NULL;
  neap_work *work = sched->spare[size_class];
  if (!work && atomic_load_explicit(&sched->returned[size_class], memory_order_relaxed))
    work = atomic_exchange_explicit(&sched->returned[size_class], NULL, memory_order_acquire);
  if (work) {
    neap_work *next = sched->spare[size_class] = work->link;
    if (next) { /* another core used it last: have it here by the time it is taken */
      __builtin_prefetch(next, 1);
      __builtin_prefetch((char *)next + 64, 1);
      __builtin_prefetch((char *)next + 128, 1);
    }
  }
  atomic_store_explicit(&sched->spare_taken, false, memory_order_release);
  return work;
}

static void spare_return(neap_sched *sched, neap_work *work) {
  _Atomic(neap_work *) *list = &sched->returned[work->size_class];
  neap_work *head = atomic_load_explicit(list, memory_order_relaxed);
  do {
    work->link = head;
  } while (!atomic_compare_exchange_weak_explicit(list, &head, work, memory_order_release,
                                                  memory_order_relaxed));
}

neap_work *neap_work_new(neap_context *context, const char *name, neap_fn run, size_t payload,
                         int reads, int writes) {
  neap_sched *sched = context->sched;
  if (atomic_load_explicit(&context->closed, memory_order_relaxed)) {
    neap_fail(NEAP_ECLOSED, "%s: the context was closed", name);
    return NULL;
  }
  size_t links = sizeof(neap_slot) * (size_t)reads + sizeof(neap_write) * (size_t)writes;
  size_t head = (sizeof(neap_work) + links + 15) & ~(size_t)15, bytes = head + payload;
  int size_class = 0;
  while (size_class < 4 && class_bytes[size_class] < bytes) size_class++;
  neap_work *work = size_class < 4 ? spare_take(sched, size_class) : NULL;
  if (!work) {
    if (size_class < 4) bytes = class_bytes[size_class];
    work = neap_alloc_aligned(context, bytes, 64);
    if (!work) return NULL;
    work->bytes = bytes;
    work->size_class = size_class < 4 ? (unsigned char)size_class : NO_CLASS;
  }
  atomic_init(&work->refs, 1);
  work->parts = 1;
  work->sched = sched;
  work->run = run;
  work->done = NULL;
  work->arg = (char *)work + head;
  work->name = name;
  work->slots = (neap_slot *)(work + 1);
  work->writes = (neap_write *)(work->slots + reads);
  work->failure = NULL;
  work->num_slots = work->num_writes = work->next_part = work->priority = 0;
  atomic_init(&work->failed_part, 0);
  work->kind = NEAP_WORK_POOLED;
  work->quick = work->always = work->skip = work->counted = work->async = false;
  memset(work->arg, 0, payload);
  return work;
}

void *neap_work_payload(neap_work *work) {
  return work->arg;
}

void neap_work_read(neap_work *work, neap_var *var) {
  neap_slot *slot = &work->slots[work->num_slots++];
  slot->work = work;
  slot->var = var;
}

void neap_work_write(neap_work *work, neap_var *var) {
  work->writes[work->num_writes++].var = var;
}

void neap_work_set_done(neap_work *work, void (*done)(void *payload)) {
  work->done = done;
}
void neap_work_set_priority(neap_work *work, int priority) {
  work->priority = priority;
}
void neap_work_set_parts(neap_work *work, int parts) {
  work->parts = parts > 1 ? parts : 1;
}
void neap_work_set_quick(neap_work *work, bool quick) {
  work->quick = quick;
}
void neap_work_set_always(neap_work *work) {
  work->always = true;
}

void neap_work_set_async(neap_work *work) {
  work->async = true;
}

/* Straight back to where the next one is taken from; false if another thread is just there. */
static bool spare_keep(neap_sched *sched, neap_work *work) {
  if (atomic_exchange_explicit(&sched->spare_taken, true, memory_order_acquire)) return false;
  work->link = sched->spare[work->size_class];
  sched->spare[work->size_class] = work;
  atomic_store_explicit(&sched->spare_taken, false, memory_order_release);
  return true;
}

/* What ran on the spot is over in the thread that made it, and will make the next. */
static void work_free(neap_sched *sched, neap_work *work) {
  if (work->size_class == NO_CLASS)
    neap_free(sched->context, work, work->bytes);
  else if (work->counted || !spare_keep(sched, work))
    spare_return(sched, work);
}

void neap_work_discard(neap_work *work) {
  if (work->done) work->done(work->arg);
  work_free(work->sched, work);
}

void neap_work_dispose(neap_work *work) {
  neap_sched *sched = work->sched;
  switch (work->kind) {
  case NEAP_WORK_POOLED:
    work_free(sched, work);
    break;
  case NEAP_WORK_WAIT:
    neap_parker_wake(work->target);
    break;
  case NEAP_WORK_CLOSE: {
    neap_var *var = work->target;
    neap_context *context = var->context;
    neap_failure_drop(sched, atomic_load_explicit(&var->failure, memory_order_relaxed));
    void (*dispose)(void *) = var->dispose;
    void *arg = var->dispose_arg;
    neap_pool_put(context->pool, var, sizeof *var);
    if (dispose) dispose(arg);
    neap_context_release(context);
    break;
  }
  }
}
