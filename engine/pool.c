/* SPDX-License-Identifier: MIT */
/* pool.c - array memory, kept for reuse by size class.
 *
 * Asking the system for large memory is slow: its pages are zeroed and mapped one by one at
 * the first touch, which takes longer than most operations on them. So memory that arrays let
 * go stays here, in lists by size class, until options.pool_limit bytes are kept; beyond that
 * the block that lay unused for the longest time goes back first, so that a program whose
 * sizes change does not keep what it no longer asks for.
 *
 * Classes are 64, 128, 192 and 256 bytes, then four steps to each doubling, so at most a
 * fifth of a block is unused.
 *
 * Large blocks begin 0, 1, 2 or 3 KiB behind a page boundary, in turn at each get. Loops that
 * read and write several arrays whose bases agree in their low 12 bits run at a half to a
 * third of their speed: the processor takes a load for one that depends on an earlier store.
 *
 * One lock guards all; it is held for a few list operations, never during an allocation. */
#include "pool.h"
#include "sched.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(block, bytes)   __asan_poison_memory_region(block, bytes)
#define UNPOISON(block, bytes) __asan_unpoison_memory_region(block, bytes)
#else
#define POISON(block, bytes)   ((void)(block), (void)(bytes))
#define UNPOISON(block, bytes) ((void)(block), (void)(bytes))
#endif

enum {
  ALIGN = 64,
  PAGE = 4096,
  STAGGER = 1024,
  STAGGERED = 65536, /* from this class size on */
  MAX_SHIFT = 46,    /* nobody has 2^47 bytes */
  CLASSES = 4 + 4 * (MAX_SHIFT - 7),
};

/* A block that nobody uses. */
typedef struct spare {
  struct spare *next, *previous; /* in its class; newest first */
  struct spare *newer, *older;   /* among all */
  int class;
} spare;
_Static_assert(sizeof(spare) <= ALIGN, "the smallest block holds the links");

struct neap_pool {
  neap_context *context;
  pthread_mutex_t lock; /* guards what follows, up to the blank line */
  spare *classes[CLASSES];
  spare *newest, *oldest;
  size_t kept; /* bytes */
  size_t used; /* bytes */
  size_t peak; /* of both */
  unsigned turn;

  _Atomic int64_t dying;
  pthread_mutex_t wake; /* only for sleeping on `relieved` */
  pthread_cond_t relieved;
  atomic_int sleepers;
};

/* The class of a size, and the bytes its blocks have. False: too large. */
static bool class_of(size_t bytes, int *class, size_t *size) {
  if (bytes <= 4 * ALIGN) {
    *class = bytes ? (int)((bytes - 1) / ALIGN) : 0;
    *size = (size_t)(*class + 1) * ALIGN;
    return true;
  }
  int shift = 63 - __builtin_clzll((unsigned long long)bytes - 1); /* 8 or more */
  if (shift > MAX_SHIFT) return false;
  size_t step = (size_t)1 << (shift - 2), base = (size_t)1 << shift;
  size_t steps = (bytes - base + step - 1) / step; /* 1 to 4 */
  *class = 4 + 4 * (shift - 8) + (int)steps - 1;
  *size = base + steps * step;
  return true;
}

static size_t class_size(int class) {
  if (class < 4) return (size_t)(class + 1) * ALIGN;
  int shift = 8 + (class - 4) / 4;
  return ((size_t)1 << shift) + (size_t)((class - 4) % 4 + 1) * ((size_t)1 << (shift - 2));
}

int neap_pool_create(neap_context *context, neap_pool **out) {
  neap_pool *pool = neap_alloc(context, sizeof *pool);
  if (!pool) return NEAP_ENOMEM;
  memset(pool, 0, sizeof *pool);
  pool->context = context;
  pthread_condattr_t attributes;
  bool lock = !pthread_mutex_init(&pool->lock, NULL);
  bool wake = !pthread_mutex_init(&pool->wake, NULL);
  bool cond = false;
  if (!pthread_condattr_init(&attributes)) {
    cond = !pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) &&
           !pthread_cond_init(&pool->relieved, &attributes);
    pthread_condattr_destroy(&attributes);
  }
  if (!lock || !wake || !cond) {
    if (lock) pthread_mutex_destroy(&pool->lock);
    if (wake) pthread_mutex_destroy(&pool->wake);
    if (cond) pthread_cond_destroy(&pool->relieved);
    neap_free(context, pool, sizeof *pool);
    return neap_fail(NEAP_ENOMEM, "context: no memory for a lock");
  }
  *out = pool;
  return NEAP_OK;
}

/* ---- Lists (under pool->lock) ----------------------------------------------------------- */

static void keep(neap_pool *pool, spare *block, int class) {
  block->class = class;
  block->previous = NULL;
  block->next = pool->classes[class];
  if (block->next) block->next->previous = block;
  pool->classes[class] = block;
  block->newer = NULL;
  block->older = pool->newest;
  *(pool->newest ? &pool->newest->newer : &pool->oldest) = block;
  pool->newest = block;
  pool->kept += class_size(class);
}

static void unkeep(neap_pool *pool, spare *block) {
  *(block->previous ? &block->previous->next : &pool->classes[block->class]) = block->next;
  if (block->next) block->next->previous = block->previous;
  *(block->newer ? &block->newer->older : &pool->newest) = block->older;
  *(block->older ? &block->older->newer : &pool->oldest) = block->newer;
  pool->kept -= class_size(block->class);
}

static void count(neap_pool *pool) {
  if (pool->used + pool->kept > pool->peak) pool->peak = pool->used + pool->kept;
  _Atomic int64_t *counters = pool->context->counters;
  atomic_store_explicit(&counters[NEAP_COUNT_BYTES], (int64_t)pool->used, memory_order_relaxed);
  atomic_store_explicit(&counters[NEAP_COUNT_BYTES_POOLED], (int64_t)pool->kept,
                        memory_order_relaxed);
  atomic_store_explicit(&counters[NEAP_COUNT_BYTES_PEAK], (int64_t)pool->peak,
                        memory_order_relaxed);
}

/* Unlinks the oldest blocks until at most `limit` bytes are kept; they are chained by next. */
static spare *evict(neap_pool *pool, size_t limit) {
  spare *gone = NULL;
  while (pool->kept > limit) {
    spare *block = pool->oldest;
    unkeep(pool, block);
    block->next = gone;
    gone = block;
  }
  return gone;
}

/* ---- The system's memory (without the lock) ----------------------------------------------- */

static size_t span_of(size_t size) {
  return size < STAGGERED ? size : size + PAGE;
}

static void *system_get(neap_pool *pool, size_t size) {
  return neap_alloc_aligned(pool->context, span_of(size), size < STAGGERED ? ALIGN : PAGE);
}

static void system_put(neap_pool *pool, void *block, size_t size) {
  UNPOISON(block, span_of(size));
  neap_free(pool->context, block, span_of(size));
}

static void system_put_all(neap_pool *pool, spare *gone) {
  while (gone) {
    spare *next = gone->next;
    system_put(pool, gone, class_size(gone->class));
    gone = next;
  }
}

void neap_pool_free_all(neap_pool *pool) {
  if (!pool) return;
  system_put_all(pool, evict(pool, 0));
  pthread_mutex_destroy(&pool->lock);
  pthread_mutex_destroy(&pool->wake);
  pthread_cond_destroy(&pool->relieved);
  neap_free(pool->context, pool, sizeof *pool);
}

/* ---- Get and put --------------------------------------------------------------------------- */

void *neap_pool_get(neap_pool *pool, size_t bytes) {
  int class;
  size_t size;
  if (!class_of(bytes, &class, &size)) {
    neap_fail(NEAP_ENOMEM, "no memory: %zu bytes are too many for one array", bytes);
    return NULL;
  }
  pthread_mutex_lock(&pool->lock);
  unsigned turn = size < STAGGERED ? 0 : pool->turn++ % (PAGE / STAGGER);
  void *block = pool->classes[class];
  if (block) {
    unkeep(pool, block);
    pool->used += size;
    count(pool);
  }
  pthread_mutex_unlock(&pool->lock);
  if (!block) {
    block = system_get(pool, size);
    pthread_mutex_lock(&pool->lock);
    spare *gone = block ? NULL : evict(pool, 0);
    pthread_mutex_unlock(&pool->lock);
    if (gone) { /* the system is short of memory that we only keep: give back, try again */
      system_put_all(pool, gone);
      block = system_get(pool, size);
    }
    pthread_mutex_lock(&pool->lock);
    if (block) pool->used += size;
    count(pool);
    pthread_mutex_unlock(&pool->lock);
    if (!block) return NULL;
  }
  char *memory = (char *)block + turn * STAGGER;
  POISON(block, span_of(size)); /* so that a sanitizer sees steps beyond what was asked for */
  UNPOISON(memory, bytes);
  return memory;
}

void neap_pool_put(neap_pool *pool, void *memory, size_t bytes) {
  int class;
  size_t size;
  if (!memory || !class_of(bytes, &class, &size)) return;
  uintptr_t mask = size < STAGGERED ? 0 : PAGE - 1;
  spare *block = (void *)((uintptr_t)memory & ~mask);
  bool worth = size <= pool->context->options.pool_limit;
  POISON(block, span_of(size));
  UNPOISON(block, sizeof *block);
  spare *gone = NULL;
  pthread_mutex_lock(&pool->lock);
  pool->used -= size;
  if (worth) {
    keep(pool, block, class);
    gone = evict(pool, pool->context->options.pool_limit);
  }
  count(pool);
  pthread_mutex_unlock(&pool->lock);
  if (gone) system_put_all(pool, gone);
  if (!worth) system_put(pool, block, size);
}

/* ---- Dying memory -------------------------------------------------------------------------- */

void neap_pool_dying_add(neap_pool *pool, int64_t bytes) {
  atomic_fetch_add(&pool->dying, bytes);
  if (bytes < 0 && atomic_load(&pool->sleepers) > 0) {
    pthread_mutex_lock(&pool->wake);
    pthread_cond_broadcast(&pool->relieved);
    pthread_mutex_unlock(&pool->wake);
  }
}

/* Sleeps until some dying memory is gone, 10 ms at most. */
static void nap(neap_pool *pool, int64_t seen) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += 10 * 1000 * 1000;
  if (until.tv_nsec >= 1000 * 1000 * 1000) {
    until.tv_nsec -= 1000 * 1000 * 1000;
    until.tv_sec++;
  }
  pthread_mutex_lock(&pool->wake);
  atomic_fetch_add(&pool->sleepers, 1);
  if (atomic_load(&pool->dying) >= seen)
    pthread_cond_timedwait(&pool->relieved, &pool->wake, &until);
  atomic_fetch_sub(&pool->sleepers, 1);
  pthread_mutex_unlock(&pool->wake);
}

void neap_pool_relieve(neap_pool *pool) {
  if (atomic_load_explicit(&pool->dying, memory_order_relaxed) <= NEAP_DYING_LIMIT) return;
  if (neap_sched_inside(pool->context->sched)) return; /* an operation must not wait */
  int idle = 0;
  while (idle < 100) {
    int64_t seen = atomic_load(&pool->dying);
    if (seen <= NEAP_DYING_LIMIT) return;
    bool ran = neap_poll(pool->context, 0) > 0;
    if (!ran) nap(pool, seen);
    idle = ran || atomic_load(&pool->dying) < seen ? 0 : idle + 1;
  }
}
