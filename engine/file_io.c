/* SPDX-License-Identifier: MIT */
/* file_io.c - what all file formats share: bytes in, bytes out, bytes that grow, and lists of
 * what was found. See file.h. */
#include "file.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert((int)NEAP_PATH >= (int)PATH_MAX, "realpath() writes as much");

enum { PIECE = 1 << 30 }; /* the kernel moves less than 2 GiB in one call */

/* ---- Sources ------------------------------------------------------------ */

static int fail_at(const neap_source *source, int status, uint64_t at, const char *format,
                   va_list values) {
  char text[512];
  vsnprintf(text, sizeof text, format, values);
  if (source->part != NULL)
    return neap_fail(status, "%s: '%.100s': %s (byte %" PRIu64 " of it)", source->path,
                     source->part, text, at);
  return neap_fail(status, "%s: %s (byte %" PRIu64 ")", source->path, text, at);
}

int neap_source_bad(const neap_source *source, uint64_t at, const char *format, ...) {
  va_list values;
  va_start(values, format);
  int status = fail_at(source, NEAP_EFORMAT, at, format, values);
  va_end(values);
  return status;
}

int neap_source_fail(const neap_source *source, int status, uint64_t at, const char *format, ...) {
  va_list values;
  va_start(values, format);
  status = fail_at(source, status, at, format, values);
  va_end(values);
  return status;
}

int neap_source_read(const neap_source *source, uint64_t offset, void *to, size_t size) {
  if (offset > source->size || size > source->size - offset)
    return neap_source_bad(source, source->size,
                           "ends before the %zu bytes that should stand at %" PRIu64, size, offset);
  if (source->bytes != NULL) {
    if (size > 0) memcpy(to, source->bytes + offset, size);
    return NEAP_OK;
  }
  for (size_t done = 0; done < size;) {
    size_t n = size - done < PIECE ? size - done : PIECE;
    ssize_t got = pread(source->fd, (char *)to + done, n, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return neap_fail(NEAP_EIO, "%s: cannot read: %s", source->path, strerror(errno));
    if (got == 0)
      return neap_fail(NEAP_EIO, "%s: became shorter while it was read: no byte %" PRIu64,
                       source->path, offset + done);
    done += (size_t)got;
  }
  return NEAP_OK;
}

/* ---- Sinks --------------------------------------------------------------- */

static int cannot(const neap_sink *sink, const char *what) {
  return neap_fail(NEAP_EIO, "%s: cannot %s: %s", sink->path, what, strerror(errno));
}

/* The length of the target's folder, with the slash; 0: the current one. */
static size_t folder_length(const neap_sink *sink) {
  const char *slash = strrchr(sink->target, '/');
  return slash == NULL ? 0 : (size_t)(slash - sink->target) + 1;
}

/* A file of a name that nobody has: the same folder, because rename() stays within one file
 * system. Hidden, so that a `*.npz` finds no half of a file that a killed process left. */
static int open_temporary(neap_sink *sink) {
  size_t folder = folder_length(sink);
  for (int attempt = 0; attempt < 100; attempt++) {
    uint64_t number;
    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
      return cannot(sink, "make a name");
    int n = snprintf(sink->temporary, sizeof sink->temporary, "%.*s.neap-%016" PRIx64 ".tmp",
                     (int)folder, sink->target, number);
    if (n < 0 || (size_t)n >= sizeof sink->temporary)
      errno = ENAMETOOLONG;
    else
      sink->fd = open(sink->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (sink->fd >= 0) return NEAP_OK;
    if (errno != EEXIST && errno != EINTR) break;
  }
  sink->temporary[0] = 0;
  return cannot(sink, "write a new file beside it");
}

int neap_sink_open(neap_sink *sink, const char *path) {
  struct stat old;
  sink->path = path;
  sink->temporary[0] = 0;
  sink->fd = -1;
  sink->at = 0;
  if (strlen(path) >= sizeof sink->target) {
    errno = ENAMETOOLONG;
    return cannot(sink, "write");
  }
  bool exists = stat(path, &old) == 0;
  if (exists && !S_ISREG(old.st_mode))
    return neap_fail(NEAP_EIO, "%s: not a plain file, and so not replaced", path);
  /* A link stays, and what it points to is replaced, as by a program that writes in place. */
  if (!exists || realpath(path, sink->target) == NULL) strcpy(sink->target, path);
  NEAP_TRY(open_temporary(sink));
  /* The new file may be read and written by whom the old one could. */
  if (exists && fchmod(sink->fd, old.st_mode & 0777) != 0) {
    int status = cannot(sink, "set its mode");
    neap_sink_abort(sink);
    return status;
  }
  return NEAP_OK;
}

int neap_sink_write(neap_sink *sink, const void *bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    size_t n = size - done < PIECE ? size - done : PIECE;
    ssize_t put = write(sink->fd, (const char *)bytes + done, n);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return cannot(sink, "write");
    done += (size_t)put;
  }
  sink->at += size;
  return NEAP_OK;
}

int neap_sink_commit(neap_sink *sink) {
  int status = NEAP_OK;
  if (fsync(sink->fd) != 0) status = cannot(sink, "write");
  if (close(sink->fd) != 0 && status == NEAP_OK) status = cannot(sink, "write");
  sink->fd = -1;
  if (status == NEAP_OK && rename(sink->temporary, sink->target) != 0)
    status = cannot(sink, "put the new file in place");
  if (status != NEAP_OK) {
    neap_sink_abort(sink);
    return status;
  }
  sink->temporary[0] = 0;
  /* The new name is durable once its folder is. Not all file systems can tell, and the file
   * is in place by now: no reason to fail. */
  size_t folder = folder_length(sink);
  sink->target[folder] = 0;
  int fd = open(folder > 0 ? sink->target : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    (void)fsync(fd);
    close(fd);
  }
  return NEAP_OK;
}

void neap_sink_abort(neap_sink *sink) {
  if (sink->fd >= 0) close(sink->fd);
  sink->fd = -1;
  if (sink->temporary[0] != 0) unlink(sink->temporary);
  sink->temporary[0] = 0;
}

/* ---- Things that grow ----------------------------------------------------- */

int neap_buffer_add(neap_buffer *buffer, const void *bytes, size_t size) {
  size_t need;
  if (!neap_add_size(buffer->size, size, &need))
    return neap_fail(NEAP_ENOMEM, "a header larger than any memory");
  if (need > buffer->capacity) {
    size_t capacity = buffer->capacity < 128 ? 256 : buffer->capacity * 2;
    if (capacity < need) capacity = need;
    char *block = neap_alloc(buffer->context, capacity);
    if (block == NULL) return NEAP_ENOMEM;
    if (buffer->size > 0) memcpy(block, buffer->bytes, buffer->size);
    neap_free(buffer->context, buffer->bytes, buffer->capacity);
    buffer->bytes = block;
    buffer->capacity = capacity;
  }
  if (size > 0) memcpy(buffer->bytes + buffer->size, bytes, size);
  buffer->size = need;
  return NEAP_OK;
}

int neap_buffer_text(neap_buffer *buffer, const char *text) {
  return neap_buffer_add(buffer, text, strlen(text));
}

int neap_buffer_number(neap_buffer *buffer, uint64_t number) {
  char digits[24];
  int n = snprintf(digits, sizeof digits, "%" PRIu64, number);
  return neap_buffer_add(buffer, digits, (size_t)n);
}

void neap_buffer_free(neap_buffer *buffer) {
  neap_free(buffer->context, buffer->bytes, buffer->capacity);
  buffer->bytes = NULL;
  buffer->size = buffer->capacity = 0;
}

int neap_grow(neap_context *context, void **block, size_t item, size_t count, size_t *capacity) {
  if (count < *capacity) return NEAP_OK;
  size_t more = *capacity == 0 ? 8 : *capacity, bytes;
  if (!neap_add_size(more, *capacity, &more) || !neap_mul_size(more, item, &bytes))
    return neap_fail(NEAP_ENOMEM, "a list larger than any memory");
  void *grown = neap_alloc(context, bytes);
  if (grown == NULL) return NEAP_ENOMEM;
  if (count > 0) memcpy(grown, *block, count * item);
  neap_free(context, *block, *capacity * item);
  *block = grown;
  *capacity = more;
  return NEAP_OK;
}

/* ---- Listings ------------------------------------------------------------- */

bool neap_tensor_measure(neap_tensor *tensor) {
  size_t most = neap_k_itemsize(tensor->dtype);
  bool empty = false;
  for (int i = 0; i < tensor->ndim; i++) {
    if (tensor->shape[i] < 0) return false;
    if (tensor->shape[i] == 0)
      empty = true;
    else if (!neap_mul_size(most, (size_t)tensor->shape[i], &most))
      return false;
  }
  if (most > PTRDIFF_MAX) return false;
  tensor->bytes = empty ? 0 : most;
  return true;
}

int neap_listing_add(neap_listing *listing, const neap_tensor *tensor) {
  if (listing->count >= INT_MAX) return neap_fail(NEAP_ENOTSUP, "more than 2^31 tensors");
  NEAP_TRY(neap_grow(listing->context, (void **)&listing->tensors, sizeof *tensor, listing->count,
                     &listing->capacity));
  listing->tensors[listing->count++] = *tensor;
  return NEAP_OK;
}

void neap_listing_free(neap_listing *listing) {
  neap_free(listing->context, listing->tensors, listing->capacity * sizeof(neap_tensor));
  neap_free(listing->context, listing->meta, listing->meta_capacity * sizeof(neap_pair));
  neap_free(listing->context, listing->text, listing->text_size);
  *listing = (neap_listing){.context = listing->context};
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int by_key(const void *a, const void *b) {
  return strcmp(((const neap_pair *)a)->key, ((const neap_pair *)b)->key);
}

int neap_listing_finish(const neap_source *source, neap_listing *listing) {
  size_t bytes = listing->count * sizeof(char *) + 1; /* fits: a tensor is larger */
  const char **names = neap_alloc(listing->context, bytes), *twice = NULL;
  if (names == NULL) return NEAP_ENOMEM;
  for (size_t i = 0; i < listing->count; i++) names[i] = listing->tensors[i].name;
  qsort(names, listing->count, sizeof names[0], by_text);
  for (size_t i = 1; i < listing->count && twice == NULL; i++)
    if (strcmp(names[i - 1], names[i]) == 0) twice = names[i];
  neap_free(listing->context, names, bytes);
  if (twice != NULL)
    return neap_fail(NEAP_EFORMAT, "%s: two tensors named '%.100s'", source->path, twice);

  neap_pair *meta = listing->meta;
  if (listing->num_meta > 0) qsort(meta, listing->num_meta, sizeof meta[0], by_key);
  for (size_t i = 1; i < listing->num_meta; i++)
    if (strcmp(meta[i - 1].key, meta[i].key) == 0)
      return neap_fail(NEAP_EFORMAT, "%s: two entries of __metadata__ named '%.100s'", source->path,
                       meta[i].key);
  return NEAP_OK;
}

const neap_pair *neap_listing_meta(const neap_listing *listing, const char *key) {
  neap_pair wanted = {.key = key};
  if (listing->num_meta == 0) return NULL;
  return bsearch(&wanted, listing->meta, listing->num_meta, sizeof wanted, by_key);
}
