/* SPDX-License-Identifier: MIT */
/* file_help.h - what the specs of files share: memory that is counted and can be made to fail,
 * and files as bytes. */
#ifndef NEAP_SPEC_FILE_HELP_H
#define NEAP_SPEC_FILE_HELP_H

#include "spec/check.h"
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

/* Counts bytes in use, and fails the allocation numbered `fail_at` (the next one is 0). */
typedef struct ledger {
  atomic_long used, largest, fail_at;
} ledger;

static void *ledger_alloc(void *user, size_t size, size_t align) {
  ledger *l = user;
  if (atomic_fetch_sub(&l->fail_at, 1) == 0) return NULL;
  if ((long)size > atomic_load(&l->largest)) atomic_store(&l->largest, (long)size);
  atomic_fetch_add(&l->used, (long)size);
  void *block = NULL;
  if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size + 1) != 0)
    return NULL;
  return block;
}

static void ledger_free(void *user, void *block, size_t size) {
  ledger *l = user;
  atomic_fetch_sub(&l->used, (long)size);
  free(block);
}

/* A context whose memory `l` counts, with no threads and nothing kept for reuse: so that what
 * fails and what is in use is the same in every run. */
static inline neap_context *counted_context(ledger *l) {
  neap_options options;
  neap_context *context;
  *l = (ledger){.fail_at = -1};
  neap_options_init(&options, sizeof options);
  options.num_threads = 0;
  options.pool_limit = 0;
  options.alloc = ledger_alloc;
  options.free = ledger_free;
  options.user = l;
  OK(neap_context_create(&options, &context));
  return context;
}

typedef struct bytes {
  unsigned char *data;
  size_t size;
} bytes;

static inline bytes read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  struct stat about;
  if (file == NULL) fprintf(stderr, "%s: not there\n", path);
  CHECK(file != NULL && fstat(fileno(file), &about) == 0);
  bytes b = {malloc((size_t)about.st_size + 1), (size_t)about.st_size};
  CHECK(b.data != NULL && fread(b.data, 1, b.size, file) == b.size);
  fclose(file);
  return b;
}

static inline void write_file(const char *path, const void *data, size_t size) {
  FILE *file = fopen(path, "wb");
  CHECK(file != NULL && fwrite(data, 1, size, file) == size);
  CHECK(fclose(file) == 0);
}

/* That a call fails, with this status and a text that holds `part`. */
#define FAILS(call, status, part)                                                                  \
  do {                                                                                             \
    int got_ = (call);                                                                             \
    if (got_ != (status) || strstr(neap_error(), part) == NULL) {                                  \
      fprintf(stderr, "%s:%d: %s gave %s: %s\n    where %s with '%s' was wanted\n", __FILE__,      \
              __LINE__, #call, neap_status_name(got_), neap_error(), neap_status_name(status),     \
              part);                                                                               \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

#endif
