/* SPDX-License-Identifier: MIT */
/* var.c - variables: who may run when, and who is told of failures.
 *
 * A variable is a chain of epochs. An epoch is one write and the reads queued after it; the next
 * write closes it and opens another. Queueing an operation touches the current epoch of each of
 * its variables; completing one touches the epochs it belongs to, with no lock at all.
 *
 *   epoch 1          epoch 2           epoch 3 (current, open)
 *   write            write             write
 *     read read        read read read    read ...
 *
 * Invariants:
 *   I1  Operations are queued one at a time, under sched->submit, on all of their variables at
 *       once. So all variables agree on one order, and no cycle can form. (neap_work_enter)
 *   I2  epoch.holders counts the write until it is complete, each read until it is complete, and
 *       NEAP_OPEN until the next write is queued. Who takes it to 0 lets the next write go and
 *       retires the epoch; that happens once. (hold_drop)
 *   I3  epoch.waiting is a stack of reads that came before the write was complete. The write
 *       seals it with WRITTEN and lets those go; a read that finds it sealed does not wait.
 *   I4  work.waits counts edges not yet released, and 1 until all are made. Who takes it to 0
 *       makes the operation ready; that happens once.
 *   I5  An epoch lives in the memory of the operation that made it, which therefore stays until
 *       its own completion and until all of its epochs are retired. (neap_work_drop)
 *   I6  A mark (var.failure) is set only by an operation that writes the variable, between its
 *       predecessors and its successors, so what sees it never depends on timing. A failure that
 *       was told is void for what was queued afterwards, and for that only: told holds the number
 *       of the last operation queued before.
 */
#include "work.h"
#include <string.h>

#define WRITTEN ((neap_slot *)1)

static void epoch_init(neap_epoch *epoch, neap_work *owner, int writers) {
  atomic_init(&epoch->waiting, writers ? NULL : WRITTEN);
  atomic_init(&epoch->holders, NEAP_OPEN + writers);
  epoch->next = NULL;
  epoch->owner = owner;
}

void neap_var_init(neap_var *var, neap_context *context) {
  memset(var, 0, sizeof *var);
  var->context = context;
  epoch_init(&var->first, NULL, 0);
  var->current = &var->first;
  atomic_init(&var->failure, NULL);
}

/* ---- Queueing (under sched->submit) ----------------------------------------------------- */

/* True if the read must wait. */
static bool enter_read(neap_slot *slot) {
  neap_epoch *epoch = slot->epoch = slot->var->current;
  atomic_fetch_add_explicit(&epoch->holders, 1, memory_order_relaxed);
  neap_slot *head = atomic_load_explicit(&epoch->waiting, memory_order_acquire);
  while (head != WRITTEN) {
    slot->sibling = head;
    if (atomic_compare_exchange_weak_explicit(&epoch->waiting, &head, slot, memory_order_acq_rel,
                                              memory_order_acquire))
      return true;
  }
  return false;
}

static void retire(neap_epoch *epoch) {
  if (epoch->owner) neap_work_drop(epoch->owner);
}

/* True if the write must wait. */
static bool enter_write(neap_var *var, neap_work *work, neap_epoch *opened) {
  neap_epoch *epoch = var->current;
  epoch->next = work;
  var->current = opened;
  /* All that held it is complete, and nothing new can come while the lock is held. */
  if (atomic_load_explicit(&epoch->holders, memory_order_acquire) == NEAP_OPEN) {
    retire(epoch);
    return false;
  }
  if (atomic_fetch_sub_explicit(&epoch->holders, NEAP_OPEN, memory_order_acq_rel) != NEAP_OPEN)
    return true;
  retire(epoch);
  return false;
}

bool neap_work_enter(neap_work *work) {
  int edges = work->num_slots + work->num_writes, needless = 0;
  atomic_store_explicit(&work->waits, edges + 1, memory_order_relaxed);
  uint64_t seq = work->seq;
  if (work->kind == NEAP_WORK_CLOSE) {
    neap_var *var = work->target;
    atomic_store_explicit(&work->waits, 2, memory_order_relaxed);
    needless += !enter_write(var, work, NULL);
  }
  int refs = 1 + work->num_writes;
  for (int i = 0; i < work->num_writes; i++) /* counted before the first can be seen */
    if (work->writes[i].var->mark == seq) {  /* named before */
      work->writes[i].var = NULL;
      needless++;
      refs--;
    } else {
      work->writes[i].var->mark = seq;
    }
  atomic_store_explicit(&work->refs, refs, memory_order_relaxed);
  for (int i = 0; i < work->num_writes; i++) {
    neap_write *write = &work->writes[i];
    if (!write->var) continue;
    epoch_init(&write->epoch, work, 1);
    needless += !enter_write(write->var, work, &write->epoch);
  }
  for (int i = 0; i < work->num_slots; i++) {
    neap_slot *slot = &work->slots[i];
    if (slot->var->mark == seq) {
      slot->var = NULL;
      needless++;
      continue;
    }
    slot->var->mark = seq;
    needless += !enter_read(slot);
  }
  /* Often there is no edge, or all are released by now: nobody else will touch it. */
  if (atomic_load_explicit(&work->waits, memory_order_acquire) == needless + 1) return true;
  return atomic_fetch_sub_explicit(&work->waits, needless + 1, memory_order_acq_rel) ==
         needless + 1;
}

bool neap_var_is_written(const neap_var *var) {
  return atomic_load_explicit(&var->current->waiting, memory_order_acquire) == WRITTEN;
}

bool neap_var_is_idle(const neap_var *var) {
  return atomic_load_explicit(&var->current->holders, memory_order_acquire) == NEAP_OPEN;
}

/* ---- Completing (no lock) ---------------------------------------------------------------- */

typedef struct {
  void (*ready)(void *context, neap_work *work);
  void *context;
} let_go;

static void release(neap_work *work, const let_go *go) {
  if (atomic_fetch_sub_explicit(&work->waits, 1, memory_order_acq_rel) == 1)
    go->ready(go->context, work);
}

static void hold_drop(neap_epoch *epoch, const let_go *go) {
  if (atomic_fetch_sub_explicit(&epoch->holders, 1, memory_order_acq_rel) != 1) return;
  neap_work *owner = epoch->owner; /* a variable's own epoch may go with it once the next runs */
  release(epoch->next, go);
  if (owner) neap_work_drop(owner);
}

static void set_mark(neap_sched *sched, neap_var *var, neap_failure *failure) {
  if (!failure && !atomic_load_explicit(&var->failure, memory_order_relaxed)) return;
  pthread_mutex_lock(&sched->failures);
  neap_failure *old = atomic_load_explicit(&var->failure, memory_order_relaxed);
  if (failure) atomic_fetch_add_explicit(&failure->refs, 1, memory_order_relaxed);
  atomic_store_explicit(&var->failure, failure, memory_order_relaxed);
  pthread_mutex_unlock(&sched->failures);
  neap_failure_drop(sched, old);
}

void neap_work_leave(neap_work *work, void (*ready)(void *context, neap_work *work),
                     void *context) {
  let_go go = {ready, context};
  neap_sched *sched = work->sched;
  neap_failure *failure = work->failure;
  work->failure = NULL;
  for (int i = 0; i < work->num_writes; i++)
    if (work->writes[i].var) set_mark(sched, work->writes[i].var, failure);
  neap_failure_drop(sched, failure);
  for (int i = 0; i < work->num_writes; i++) {
    if (!work->writes[i].var) continue;
    neap_epoch *epoch = &work->writes[i].epoch;
    neap_slot *slot = atomic_exchange_explicit(&epoch->waiting, WRITTEN, memory_order_acq_rel);
    while (slot) {
      neap_slot *sibling = slot->sibling; /* gone once its work runs */
      release(slot->work, &go);
      slot = sibling;
    }
    hold_drop(epoch, &go);
  }
  for (int i = 0; i < work->num_slots; i++)
    if (work->slots[i].var) hold_drop(work->slots[i].epoch, &go);
  neap_work_drop(work);
}

void neap_work_drop(neap_work *work) {
  /* The last reference is nobody else's to drop, and nobody takes new ones. */
  if (atomic_load_explicit(&work->refs, memory_order_acquire) == 1 ||
      atomic_fetch_sub_explicit(&work->refs, 1, memory_order_acq_rel) == 1)
    neap_work_dispose(work);
}

/* ---- Failures ------------------------------------------------------------------------------ */

int neap_sched_prepare_failures(neap_sched *sched) {
  static const char text[] = "memory ran out, and there was none to say what for";
  size_t size = sizeof(neap_failure) + sizeof text;
  neap_failure *failure = neap_alloc(sched->context, size);
  if (!failure) return NEAP_ENOMEM;
  memset(failure, 0, sizeof *failure);
  atomic_init(&failure->refs, 1);
  atomic_init(&failure->told, 0);
  failure->status = NEAP_ENOMEM;
  failure->size = size;
  strcpy(failure->text, text);
  sched->no_memory = failure;
  return NEAP_OK;
}

void neap_sched_drop_failures(neap_sched *sched) {
  while (sched->untold) {
    neap_failure *failure = sched->untold;
    sched->untold = failure->next;
    neap_failure_drop(sched, failure);
  }
  neap_failure_drop(sched, sched->no_memory);
}

neap_failure *neap_failure_new(neap_sched *sched, int status, const char *name, const char *text) {
  enum { UNTOLD_MAX = 64 }; /* beyond that, only the marks remember */
  size_t size = sizeof(neap_failure) + strlen(name) + strlen(text) + 3;
  neap_failure *failure = neap_alloc(sched->context, size);
  if (failure) {
    memset(failure, 0, sizeof *failure);
    failure->size = size;
    atomic_init(&failure->refs, 1);
    strcpy(failure->text, name);
    strcat(failure->text, ": ");
    strcat(failure->text, text);
    failure->status = status;
    atomic_init(&failure->told, UINT64_MAX);
  }
  pthread_mutex_lock(&sched->failures);
  if (!failure) {
    failure = sched->no_memory;
    atomic_fetch_add_explicit(&failure->refs, 1, memory_order_relaxed);
    atomic_store(&failure->told, UINT64_MAX);
  }
  if (sched->num_untold < UNTOLD_MAX && !failure->next && sched->untold_end != &failure->next) {
    atomic_fetch_add_explicit(&failure->refs, 1, memory_order_relaxed);
    *sched->untold_end = failure;
    sched->untold_end = &failure->next;
    sched->num_untold++;
  }
  pthread_mutex_unlock(&sched->failures);
  return failure;
}

void neap_failure_drop(neap_sched *sched, neap_failure *failure) {
  if (failure && atomic_fetch_sub_explicit(&failure->refs, 1, memory_order_acq_rel) == 1)
    neap_free(sched->context, failure, failure->size);
}

/* A reference on the variable's failure, or NULL. */
static neap_failure *take_mark(neap_sched *sched, neap_var *var) {
  if (!atomic_load_explicit(&var->failure, memory_order_relaxed)) return NULL;
  pthread_mutex_lock(&sched->failures);
  neap_failure *failure = atomic_load_explicit(&var->failure, memory_order_relaxed);
  if (failure) atomic_fetch_add_explicit(&failure->refs, 1, memory_order_relaxed);
  pthread_mutex_unlock(&sched->failures);
  return failure;
}

bool neap_work_inherit(neap_work *work) {
  if (work->always) return false;
  for (int i = 0; i < work->num_slots + work->num_writes; i++) {
    neap_var *var =
        i < work->num_slots ? work->slots[i].var : work->writes[i - work->num_slots].var;
    neap_failure *failure = var ? take_mark(work->sched, var) : NULL;
    if (!failure) continue;
    if (work->seq <= atomic_load(&failure->told)) {
      work->failure = failure;
      return true;
    }
    neap_failure_drop(work->sched, failure);
  }
  return false;
}

/* Under sched->failures: remembers that what is queued from now on is not concerned. */
static int tell(neap_sched *sched, neap_failure *failure) {
  pthread_mutex_lock(&sched->submit);
  atomic_store(&failure->told, sched->seq);
  pthread_mutex_unlock(&sched->submit);
  return neap_fail(failure->status, "%s", failure->text);
}

int neap_var_tell(neap_var *var) {
  neap_sched *sched = var->context->sched;
  if (!atomic_load_explicit(&var->failure, memory_order_relaxed)) return NEAP_OK;
  int status = NEAP_OK;
  pthread_mutex_lock(&sched->failures);
  neap_failure *failure = atomic_load_explicit(&var->failure, memory_order_relaxed);
  if (failure && atomic_load(&failure->told) == UINT64_MAX) status = tell(sched, failure);
  pthread_mutex_unlock(&sched->failures);
  return status;
}

int neap_sched_tell(neap_sched *sched) {
  int status = NEAP_OK;
  pthread_mutex_lock(&sched->failures);
  while (sched->untold && status == NEAP_OK) {
    neap_failure *failure = sched->untold;
    sched->untold = failure->next;
    failure->next = NULL;
    if (!sched->untold) sched->untold_end = &sched->untold;
    sched->num_untold--;
    if (atomic_load(&failure->told) == UINT64_MAX) status = tell(sched, failure);
    neap_failure_drop(sched, failure);
  }
  pthread_mutex_unlock(&sched->failures);
  return status;
}
