/* SPDX-License-Identifier: MIT */
/* context.c - contexts, their options and memory, and the text of the last error.
 *
 * A context is held by its handle and by everything made in it, so handles may be closed in any
 * order; the engine stops with the context's own handle, the memory goes with the last. */
#define _GNU_SOURCE
#include "base.h"
#include "pool.h"
#include "sched.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Errors ------------------------------------------------------------------------------ */

/* As errno: each thread has its own, so that no call can spoil another thread's text. */
static _Thread_local struct {
  int status;
  char text[1024];
} last_error;

int neap_fail(int status, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(last_error.text, sizeof last_error.text, format, args);
  va_end(args);
  return last_error.status = status;
}

int neap_error_status(void) {
  return last_error.status;
}

const char *neap_error(void) {
  return last_error.text;
}

const char *neap_status_name(int status) {
  static const char *const names[NEAP_NUM_STATUS] = {
      [NEAP_OK] = "NEAP_OK",           [NEAP_ENOMEM] = "NEAP_ENOMEM",
      [NEAP_EINVAL] = "NEAP_EINVAL",   [NEAP_ESHAPE] = "NEAP_ESHAPE",
      [NEAP_EDTYPE] = "NEAP_EDTYPE",   [NEAP_ESTYPE] = "NEAP_ESTYPE",
      [NEAP_EKEY] = "NEAP_EKEY",       [NEAP_EEXIST] = "NEAP_EEXIST",
      [NEAP_EIO] = "NEAP_EIO",         [NEAP_EFORMAT] = "NEAP_EFORMAT",
      [NEAP_ENOTSUP] = "NEAP_ENOTSUP", [NEAP_ECLOSED] = "NEAP_ECLOSED",
      [NEAP_EFAILED] = "NEAP_EFAILED", [NEAP_ETIMEOUT] = "NEAP_ETIMEOUT",
      [NEAP_ELOST] = "NEAP_ELOST",     [NEAP_EDENIED] = "NEAP_EDENIED"};
  return status >= 0 && status < NEAP_NUM_STATUS ? names[status] : "unknown status";
}

#define TEXT(x)  TEXT_(x)
#define TEXT_(x) #x
const char *neap_version(void) {
  return TEXT(NEAP_VERSION_MAJOR) "." TEXT(NEAP_VERSION_MINOR) "." TEXT(NEAP_VERSION_PATCH);
}

/* ---- Memory -------------------------------------------------------------------------------- */

bool neap_mul_size(size_t a, size_t b, size_t *out) {
  return !__builtin_mul_overflow(a, b, out);
}

bool neap_add_size(size_t a, size_t b, size_t *out) {
  return !__builtin_add_overflow(a, b, out);
}

static void *default_alloc(void *user, size_t size, size_t align) {
  (void)user;
  void *block = NULL;
  if (align <= sizeof(max_align_t)) return malloc(size);
  return posix_memalign(&block, align, size) ? NULL : block;
}

static void default_free(void *user, void *block, size_t size) {
  (void)user, (void)size;
  free(block);
}

void *neap_alloc_aligned(neap_context *context, size_t size, size_t align) {
  const neap_options *options = &context->options;
  void *block = options->alloc(options->user, size ? size : 1, align);
  if (!block) {
    neap_fail(NEAP_ENOMEM, "out of memory: %zu bytes were asked for", size);
    return NULL;
  }
  atomic_fetch_add_explicit(&context->counters[NEAP_COUNT_ALLOCATIONS], 1, memory_order_relaxed);
  return block;
}

void *neap_alloc(neap_context *context, size_t size) {
  return neap_alloc_aligned(context, size, sizeof(max_align_t));
}

void neap_free(neap_context *context, void *block, size_t size) {
  const neap_options *options = &context->options;
  if (block) options->free(options->user, block, size ? size : 1);
}

char *neap_strdup(neap_context *context, const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = neap_alloc(context, size);
  return copy ? memcpy(copy, text, size) : NULL;
}

void neap_log(neap_context *context, int level, const char *format, ...) {
  const neap_options *options = &context->options;
  if (!options->log) return;
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  options->log(options->user, level, text);
}

/* ---- Options -----------------------------------------------------------------------------------
 */

enum { THREADS_MAX = 1024 };

void neap_options_init(neap_options *options, size_t size) {
  neap_options defaults = {.size = size, .num_threads = -1, .pool_limit = (size_t)256 << 20};
  memset(options, 0, size);
  memcpy(options, &defaults, size < sizeof defaults ? size : sizeof defaults);
}

int neap_options_env(neap_options *options) {
  const char *engine = getenv("NEAP_ENGINE"), *threads = getenv("NEAP_NUM_THREADS");
  int kind = options->engine;
  long count = options->num_threads;
  if (engine && *engine) {
    if (strcmp(engine, "naive") == 0)
      kind = NEAP_ENGINE_NAIVE;
    else if (strcmp(engine, "threaded") == 0)
      kind = NEAP_ENGINE_THREADED;
    else
      return neap_fail(NEAP_EINVAL, "NEAP_ENGINE is '%s'; it can be 'threaded' or 'naive'", engine);
  }
  if (threads && *threads) {
    char *end;
    errno = 0;
    count = strtol(threads, &end, 10);
    if (errno || *end || count < 0 || count > THREADS_MAX)
      return neap_fail(NEAP_EINVAL, "NEAP_NUM_THREADS is '%s'; it can be a number from 0 to %d",
                       threads, THREADS_MAX);
  }
  options->engine = kind;
  options->num_threads = (int)count;
  return NEAP_OK;
}

static int check_options(const neap_options *options) {
  if (!options->alloc != !options->free)
    return neap_fail(NEAP_EINVAL, "neap_options: give both alloc and free, or neither");
  if (options->engine != NEAP_ENGINE_THREADED && options->engine != NEAP_ENGINE_NAIVE)
    return neap_fail(NEAP_EINVAL, "neap_options: engine %d is none", options->engine);
  if (options->num_threads < -1 || options->num_threads > THREADS_MAX)
    return neap_fail(NEAP_EINVAL, "neap_options: num_threads %d is not within -1 .. %d",
                     options->num_threads, THREADS_MAX);
  return NEAP_OK;
}

/* ---- Contexts
 * ------------------------------------------------------------------------------------ */

int neap_context_create(const neap_options *given, neap_context **out) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  if (given) {
    if (given->size < sizeof(size_t) + 2 * sizeof(int))
      return neap_fail(NEAP_EINVAL, "neap_options: size is %zu; call neap_options_init first",
                       given->size);
    memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    options.size = sizeof options;
  }
  NEAP_TRY(check_options(&options));
  if (!options.alloc) {
    options.alloc = default_alloc;
    options.free = default_free;
  }
  neap_context *context = options.alloc(options.user, sizeof *context, sizeof(max_align_t));
  if (!context)
    return neap_fail(NEAP_ENOMEM, "out of memory: %zu bytes were asked for", sizeof *context);
  memset(context, 0, sizeof *context);
  context->options = options;
  atomic_init(&context->refs, 1);
  atomic_init(&context->seed, options.seed);
  context->cpu = neap_k_cpu(NULL);
  int status = neap_pool_create(context, &context->pool);
  if (status == NEAP_OK) status = neap_sched_create(context, &context->sched);
  if (status != NEAP_OK) {
    neap_context_release(context);
    return status;
  }
  *out = context;
  return NEAP_OK;
}

void neap_context_retain(neap_context *context) {
  atomic_fetch_add_explicit(&context->refs, 1, memory_order_relaxed);
}

void neap_context_release(neap_context *context) {
  if (atomic_fetch_sub_explicit(&context->refs, 1, memory_order_acq_rel) != 1) return;
  neap_options options = context->options;
  if (context->sched) neap_sched_free(context->sched);
  if (context->pool) neap_pool_free_all(context->pool);
  options.free(options.user, context, sizeof *context);
}

void neap_context_close(neap_context *context) {
  if (!context) return;
  neap_sched_close(context->sched);
  neap_context_release(context);
}

int neap_seed(neap_context *context, uint64_t seed) {
  atomic_store(&context->seed, seed);
  atomic_store(&context->draws, 0);
  return NEAP_OK;
}

int64_t neap_counter(const neap_context *context, int counter) {
  switch (counter) {
  case NEAP_COUNT_OPS:
  case NEAP_COUNT_PENDING:
  case NEAP_COUNT_THREADS:
    return neap_sched_counter(context->sched, counter);
  default:
    if (counter < 0 || counter >= NEAP_NUM_COUNTERS) return -1;
    return atomic_load_explicit(&context->counters[counter], memory_order_relaxed);
  }
}
