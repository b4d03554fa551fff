/* SPDX-License-Identifier: MIT */
/* base.h - what every file of the engine uses: errors, memory, the context.
 *
 * Names that begin with neap_ and stand in neap.h are public; all else is hidden
 * by the build (-fvisibility=hidden). */
#ifndef NEAP_BASE_H
#define NEAP_BASE_H

#include "neap.h"
#include "../kernels/kernel.h"
#include <stdatomic.h>
#include <stdbool.h>

/* ---- Errors: one idiom. A function that can fail returns a status; fail() sets the
 * calling thread's text and gives the status back; TRY() passes it on. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int neap_fail(int status, const char *format, ...);
int neap_error_status(void); /* of the calling thread's last neap_fail() */

#define NEAP_TRY(call)                                                                             \
  do {                                                                                             \
    int status_ = (call);                                                                          \
    if (status_ != NEAP_OK) return status_;                                                        \
  } while (0)

/* ---- Memory: all of it comes from the context's allocator. */
void *neap_alloc(neap_context *context, size_t size); /* NULL, with the error text set */
void *neap_alloc_aligned(neap_context *context, size_t size, size_t align);
void neap_free(neap_context *context, void *block, size_t size); /* NULL is fine */
char *neap_strdup(neap_context *context, const char *text);      /* free: strlen + 1 */

/* Overflow-checked size_t arithmetic: false when it does not fit. */
bool neap_mul_size(size_t a, size_t b, size_t *out);
bool neap_add_size(size_t a, size_t b, size_t *out);

/* A log line, when the context has a log. */
void neap_log(neap_context *context, int level, const char *format, ...);

/* ---- The context. Everything made in it holds a reference, so that handles may be
 * closed after it. */
typedef struct neap_sched neap_sched; /* sched.h */
typedef struct neap_pool neap_pool;   /* pool.h */
struct neap_context {
  neap_options options;
  atomic_int refs;
  atomic_bool closed;
  neap_sched *sched;
  neap_pool *pool;
  const neap_kernel_table *cpu;
  _Atomic uint64_t seed;
  _Atomic uint64_t draws; /* random operations queued since the seed was set */
  _Atomic int64_t counters[NEAP_NUM_COUNTERS];
};
void neap_context_retain(neap_context *context);
void neap_context_release(neap_context *context);

#endif
