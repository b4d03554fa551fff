/* SPDX-License-Identifier: MIT */
/* file_fuzz.h - fuzzes a file format (engine/file.h). Checked of every input:
 *
 *   memory is asked for only in proportion to the input, and given back;
 *   an accepted list is true: sizes fit shapes, elements lie in the file, names are text, unique;
 *   what was accepted and read can be written, and is then read back the same. */
#ifndef NEAP_SPEC_FILE_FUZZ_H
#define NEAP_SPEC_FILE_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif

#include "fuzz.h"
#include "engine/file.h"
#include "engine/json.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct fuzz_memory {
  size_t used, most;
} fuzz_memory;

static void *fuzz_alloc(void *user, size_t size, size_t align) {
  fuzz_memory *memory = user;
  FUZZ_CHECK(size <= memory->most - memory->used);
  memory->used += size;
  return aligned_alloc(align, (size + align - 1) / align * align + (size == 0 ? align : 0));
}

static void fuzz_free(void *user, void *block, size_t size) {
  fuzz_memory *memory = user;
  FUZZ_CHECK(memory->used >= size);
  memory->used -= size;
  free(block);
}

/* The elements of all tensors, one allocation each, or NULL where that is much. */
static void **fuzz_read_all(neap_context *context, const neap_format *format,
                            const neap_source *source, neap_listing *listing, int *status) {
  size_t total = 0;
  for (size_t i = 0; i < listing->count; i++) total += listing->tensors[i].bytes;
  if (total > 1 << 22) return NULL;
  void **data = calloc(listing->count + 1, sizeof *data);
  FUZZ_CHECK(data != NULL);
  for (size_t i = 0; i < listing->count; i++) {
    neap_tensor *tensor = &listing->tensors[i];
    data[i] = malloc(tensor->bytes + 1);
    FUZZ_CHECK(data[i] != NULL);
    tensor->data = data[i];
    if (*status == NEAP_OK) *status = format->read(context, source, tensor, data[i]);
  }
  return data;
}

static void fuzz_check_list(const neap_source *source, const neap_listing *listing, int packs) {
  uint64_t total = 0;
  for (size_t i = 0; i < listing->count; i++) {
    const neap_tensor *tensor = &listing->tensors[i];
    FUZZ_CHECK(tensor->dtype >= 0 && tensor->dtype < NEAP_NUM_DTYPES);
    FUZZ_CHECK(tensor->ndim >= 0 && tensor->ndim <= NEAP_MAX_DIM);
    size_t bytes = neap_k_itemsize(tensor->dtype);
    for (int d = 0; d < tensor->ndim; d++) bytes *= (size_t)tensor->shape[d];
    FUZZ_CHECK(bytes == tensor->bytes);
    FUZZ_CHECK(neap_utf8_valid(tensor->name, strlen(tensor->name)));
    for (size_t j = 0; j < i && i < 100; j++)
      FUZZ_CHECK(strcmp(tensor->name, listing->tensors[j].name) != 0);
    if (!packs) FUZZ_CHECK(tensor->offset + bytes <= source->size);
    total += bytes;
  }
  FUZZ_CHECK(total <= source->size * (packs ? 1032 : 1));
}

/* Writes what was read to memory, lists it again, and compares. */
static void fuzz_round_trip(neap_context *context, const neap_format *format,
                            const neap_listing *listing) {
  for (size_t i = 0; i < listing->count; i++)
    if (strlen(listing->tensors[i].name) > 65000) return; /* neap_file_save() refuses these */
  neap_sink sink = {.path = "again", .fd = memfd_create("again", MFD_CLOEXEC)};
  neap_listing again = {.context = context};
  int status = NEAP_OK;
  FUZZ_CHECK(sink.fd >= 0);
  FUZZ_CHECK(format->write(context, &sink, listing->tensors, listing->count, listing->meta,
                           listing->num_meta) == NEAP_OK);
  neap_source source = {.path = "again", .fd = sink.fd, .size = sink.at};
  FUZZ_CHECK(format->list(&source, &again) == NEAP_OK);
  FUZZ_CHECK(again.count == listing->count && again.num_meta == listing->num_meta);
  void **data = fuzz_read_all(context, format, &source, &again, &status);
  FUZZ_CHECK(status == NEAP_OK);
  for (size_t i = 0; i < again.count; i++) {
    const neap_tensor *a = &listing->tensors[i], *b = &again.tensors[i];
    FUZZ_CHECK(strcmp(a->name, b->name) == 0 && a->dtype == b->dtype && a->ndim == b->ndim);
    FUZZ_CHECK(memcmp(a->shape, b->shape, sizeof a->shape[0] * (size_t)a->ndim) == 0);
    FUZZ_CHECK(a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0);
    free(data[i]);
  }
  for (size_t i = 0; i < again.num_meta; i++) {
    FUZZ_CHECK(strcmp(listing->meta[i].key, again.meta[i].key) == 0);
    FUZZ_CHECK(strcmp(listing->meta[i].value, again.meta[i].value) == 0);
  }
  free(data);
  neap_listing_free(&again);
  close(sink.fd);
}

static int fuzz_file(const neap_format *format, int packs, const uint8_t *bytes, size_t size) {
  static fuzz_memory memory;
  static neap_context *context;
  memory.most = SIZE_MAX;
  if (context == NULL) {
    neap_options options;
    neap_options_init(&options, sizeof options);
    options.num_threads = 0;
    options.alloc = fuzz_alloc;
    options.free = fuzz_free;
    options.user = &memory;
    FUZZ_CHECK(neap_context_create(&options, &context) == NEAP_OK);
  }
  /* A few blocks of fixed size (headers, zlib's window), and lists of what the input names. */
  size_t before = memory.used;
  memory.most = before + (256 << 10) + 64 * size;

  neap_source source = {.path = "input", .bytes = bytes, .size = size};
  neap_listing listing = {.context = context};
  int status = format->list(&source, &listing);
  if (status == NEAP_OK) {
    fuzz_check_list(&source, &listing, packs);
    void **data = fuzz_read_all(context, format, &source, &listing, &status);
    FUZZ_CHECK(data == NULL || packs || status == NEAP_OK);
    if (data != NULL && status == NEAP_OK) fuzz_round_trip(context, format, &listing);
    for (size_t i = 0; data != NULL && i < listing.count; i++) free(data[i]);
    free(data);
  }
  neap_listing_free(&listing);
  FUZZ_CHECK(memory.used == before);
  return 0;
}

#endif
