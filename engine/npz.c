/* SPDX-License-Identifier: MIT */
/* npz.c - .npz, NumPy's archive of arrays: a zip file (zip.c) whose members are .npy files
 * (npy.c). A tensor's name is its member's without the ending ".npy". Members are read stored
 * or deflated (savez, savez_compressed), and written stored. */
#include "file.h"
#include <inttypes.h>
#include <string.h>

/* ---- Reading ------------------------------------------------------------ */

/* Reads a member's header and checks that the elements it tells of are what the member has
 * room for: after this, tensor->bytes is a size that may be asked for. */
static int read_header(neap_unzip *unzip, const neap_source *part, unsigned char *header,
                       neap_tensor *tensor) {
  uint64_t whole = tensor->member.size;
  size_t start = whole < NEAP_NPY_START ? (size_t)whole : NEAP_NPY_START, size;
  NEAP_TRY(neap_unzip_read(unzip, header, start));
  NEAP_TRY(neap_npy_header_size(part, header, start, &size));
  if (size > whole)
    return neap_source_bad(part, whole, "ends within its header of %zu bytes", size);
  if (size > start) NEAP_TRY(neap_unzip_read(unzip, header + start, size - start));
  NEAP_TRY(neap_npy_parse(part, header, size, tensor));
  if (whole - size != tensor->bytes)
    return neap_source_bad(part, size,
                           "%" PRIu64 " bytes of elements, where the header tells of %zu",
                           whole - size, tensor->bytes);
  return NEAP_OK;
}

static int list_member(neap_context *context, const neap_source *source, neap_tensor *tensor) {
  neap_source part = *source;
  part.part = tensor->member.name;
  neap_unzip *unzip = NULL;
  size_t room = NEAP_NPY_MAX_HEADER;
  if (tensor->member.size < room) room = (size_t)tensor->member.size;
  if (room < NEAP_NPY_START) room = NEAP_NPY_START;
  unsigned char *header = neap_alloc(context, room);
  if (header == NULL) return NEAP_ENOMEM;
  int status = neap_unzip_open(context, source, &tensor->member, &unzip);
  if (status == NEAP_OK) status = read_header(unzip, &part, header, tensor);
  neap_unzip_close(unzip);
  neap_free(context, header, room);
  return status;
}

static int list(const neap_source *source, neap_listing *listing) {
  neap_zip zip;
  int status = neap_zip_list(listing->context, source, &zip);
  for (size_t i = 0; i < zip.count && status == NEAP_OK; i++) {
    neap_tensor tensor = {.member = zip.members[i]};
    status = list_member(listing->context, source, &tensor);
    tensor.name = tensor.member.name;
    if (status == NEAP_OK) status = neap_listing_add(listing, &tensor);
  }
  /* Errors above speak of members; now that all is read, names lose their endings. */
  for (size_t i = 0; i < listing->count; i++) {
    char *name = zip.text + (listing->tensors[i].member.name - zip.text);
    size_t length = strlen(name);
    if (length > 4 && strcmp(name + length - 4, ".npy") == 0) name[length - 4] = 0;
  }
  listing->text = zip.text;
  listing->text_size = zip.text_size;
  zip.text = NULL;
  zip.text_size = 0;
  neap_zip_free(&zip);
  return status == NEAP_OK ? neap_listing_finish(source, listing) : status;
}

static int read_elements(neap_context *context, const neap_source *source,
                         const neap_tensor *tensor, void *to) {
  unsigned char header[256];
  neap_unzip *unzip;
  NEAP_TRY(neap_unzip_open(context, source, &tensor->member, &unzip));
  int status = NEAP_OK;
  /* The header again, for the CRC's sake and to get past it. */
  for (uint64_t left = tensor->offset; left > 0 && status == NEAP_OK;) {
    size_t n = left < sizeof header ? (size_t)left : sizeof header;
    status = neap_unzip_read(unzip, header, n);
    left -= n;
  }
  if (status == NEAP_OK) status = neap_unzip_read(unzip, to, tensor->bytes);
  if (status == NEAP_OK) status = neap_unzip_finish(unzip);
  neap_unzip_close(unzip);
  return status;
}

/* ---- Writing ------------------------------------------------------------ */

static int write_members(neap_context *context, neap_sink *sink, const neap_tensor *tensors,
                         size_t count, neap_member *members, neap_buffer *names) {
  for (size_t i = 0; i < count; i++) {
    NEAP_TRY(neap_buffer_text(names, tensors[i].name));
    NEAP_TRY(neap_buffer_add(names, ".npy", 5)); /* with the zero byte */
  }
  const char *name = names->bytes;
  for (size_t i = 0; i < count; i++, name += strlen(name) + 1) {
    char header[NEAP_NPY_WRITTEN];
    size_t size = neap_npy_header(&tensors[i], header);
    members[i].name = name;
    NEAP_TRY(neap_zip_write(sink, &members[i], header, size, tensors[i].data, tensors[i].bytes));
  }
  return neap_zip_write_end(context, sink, members, count);
}

static int write_file(neap_context *context, neap_sink *sink, const neap_tensor *tensors,
                      size_t count, const neap_pair *meta, size_t num_meta) {
  neap_buffer names = {.context = context};
  size_t bytes = count * sizeof(neap_member) + 1; /* fits: a tensor is larger than a member */
  neap_member *members = neap_alloc(context, bytes);
  if (members == NULL) return NEAP_ENOMEM;
  int status = write_members(context, sink, tensors, count, members, &names);
  neap_free(context, members, bytes);
  neap_buffer_free(&names);
  return status;
}

const neap_format neap_format_npz = {".npz", list, read_elements, write_file};
