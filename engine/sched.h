/* SPDX-License-Identifier: MIT */
/* sched.h - the engine's inside: operations and variables.
 *
 * The rest of the engine queues work through neap_op_new() and neap_op_submit(): one
 * allocation from a pool holds the operation, its dependencies and its payload, and
 * nothing can fail once it is made. */
#ifndef NEAP_SCHED_H
#define NEAP_SCHED_H

#include "base.h"

typedef struct neap_work neap_work; /* a queued operation */

/* A new operation with a zeroed payload of `payload` bytes (16-byte aligned) and room
 * for `reads` and `writes` dependencies. NULL, with the error text set, if memory is
 * short. `run` gets the payload as its arg. `name` must outlive the operation.  */
neap_work *neap_work_new(neap_context *context, const char *name, neap_fn run, size_t payload,
                         int reads, int writes);
void *neap_work_payload(neap_work *work);
/* Add dependencies, at most as many as there is room for; repeats are fine, and a
 * variable that is both read and written counts as written. */
void neap_work_read(neap_work *work, neap_var *var);
void neap_work_write(neap_work *work, neap_var *var);
/* Called once with the payload when the operation is over, run or skipped: drops what
 * the payload holds. Called by neap_work_discard too. */
void neap_work_set_done(neap_work *work, void (*done)(void *payload));
void neap_work_set_priority(neap_work *work, int priority);
void neap_work_set_parts(neap_work *work, int parts);
void neap_work_set_quick(neap_work *work, bool quick);
/* For clean-up that must happen even when an input has failed: run() is called all the
 * same, and failures do not pass through it to what it writes. */
void neap_work_set_always(neap_work *work);
/* Complete only when run() has returned NEAP_OK and neap_work_complete() was called, once, from any
 * thread and maybe before; then it passes `status` on as a failure unless that is NEAP_OK. Not when
 * run() failed or was skipped. For work that others do: the network. One part only. */
void neap_work_set_async(neap_work *work);
void neap_work_complete(neap_work *work, int status, const char *text);
neap_work *neap_task_work(const neap_task *task);
/* Queues it. Cannot fail; `work` is gone. After neap_context_close it is discarded. */
void neap_work_submit(neap_work *work);
/* Instead of submitting. */
void neap_work_discard(neap_work *work);

/* True when nothing queued reads or writes the variable, so that the caller may touch
 * what it guards without waiting (as long as nobody else queues work on it). */
bool neap_var_idle(neap_var *var);
/* Whether it is marked by a failure; for who knows that nothing is queued on it. */
bool neap_var_failed(const neap_var *var);
/* Waits for everything queued that reads or writes; returns and clears the mark. */
int neap_var_wait_idle(neap_var *var);
/* Calls `dispose(arg)` once all that is queued on `var` is complete, at once if nothing
 * is, and closes the variable. Never fails. */
void neap_var_close_then(neap_var *var, void (*dispose)(void *arg), void *arg);

/* True on a thread that is inside one of this engine's operations, which must not wait. */
bool neap_sched_inside(const neap_sched *sched);

int neap_sched_create(neap_context *context, neap_sched **out);
void neap_sched_close(neap_sched *sched); /* drains, stops the workers */
void neap_sched_free(neap_sched *sched);  /* with the context's last reference */
int64_t neap_sched_counter(neap_sched *sched, int counter);

#endif
