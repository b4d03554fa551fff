/* SPDX-License-Identifier: MIT */
/* safetensors.c - .safetensors, the format of Hugging Face's library of that name.
 *
 * Eight bytes with the length of a header, the header, the elements of all tensors. The header
 * is JSON:
 *
 *     {"__metadata__": {"key": "value"},
 *      "name": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}}
 *
 * As strict as the library's own reader (tensors lie one after another, without holes, and fill
 * the file) and a little stricter: one name twice, no name, or a field that is none of the
 * three, is refused too, because it would mean something that this reader does not know.
 *
 * Written: the header in the order in which the tensors were given; their elements with the
 * largest items first, so that all are aligned in memory where a file is mapped. */
#include "file.h"
#include "json.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER = 100000000 }; /* the library's own limit */

static const struct {
  const char *name;
  int dtype;
} names[] = {
    {"F32", NEAP_FLOAT32},   {"F64", NEAP_FLOAT64}, {"F16", NEAP_FLOAT16},
    {"BF16", NEAP_BFLOAT16}, {"I8", NEAP_INT8},     {"U8", NEAP_UINT8},
    {"I32", NEAP_INT32},     {"I64", NEAP_INT64},   {"BOOL", NEAP_UINT8},
};

/* ---- Reading ------------------------------------------------------------ */

/* What all steps need: `json` reads the header, which begins at byte 8 of the source. */
typedef struct reader {
  const neap_source *source;
  neap_json json;
  uint64_t data; /* where the elements begin */
} reader;

static int bad_json(reader *r) {
  return neap_source_bad(r->source, 8 + r->json.at, "in the header: %s", r->json.problem);
}

static int read_dtype(reader *r, neap_tensor *tensor) {
  const char *text;
  size_t length;
  if (!neap_json_string(&r->json, &text, &length)) return bad_json(r);
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcmp(names[i].name, text) == 0) {
      tensor->dtype = names[i].dtype;
      return NEAP_OK;
    }
  return neap_source_fail(r->source, NEAP_EDTYPE, 8 + r->json.at,
                          "tensor '%.100s' has dtype '%.40s', which Neap has not", tensor->name,
                          text);
}

static int read_shape(reader *r, neap_tensor *tensor) {
  if (!neap_json_take(&r->json, '[')) return bad_json(r);
  if (neap_json_next(&r->json, ']')) return neap_json_take(&r->json, ']') ? NEAP_OK : bad_json(r);
  do {
    uint64_t value;
    if (!neap_json_uint(&r->json, &value)) return bad_json(r);
    if (tensor->ndim == NEAP_MAX_DIM)
      return neap_source_fail(r->source, NEAP_ENOTSUP, 8 + r->json.at,
                              "tensor '%.100s' has more than %d dimensions", tensor->name,
                              NEAP_MAX_DIM);
    if (value > INT64_MAX)
      return neap_source_bad(r->source, 8 + r->json.at, "tensor '%.100s': a dimension beyond 2^63",
                             tensor->name);
    tensor->shape[tensor->ndim++] = (int64_t)value;
  } while (neap_json_more(&r->json, ']'));
  return r->json.problem == NULL ? NEAP_OK : bad_json(r);
}

/* {"dtype": ..., "shape": ..., "data_offsets": [begin, end]}, in any order. */
static int read_tensor(reader *r, neap_tensor *tensor) {
  neap_json *json = &r->json;
  enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };
  static const char *const fields[] = {"dtype", "shape", "data_offsets"};
  uint64_t begin = 0, end = 0;
  int seen = 0;
  if (!neap_json_take(json, '{')) return bad_json(r);
  do {
    const char *field;
    size_t length;
    int which = 0;
    if (!neap_json_string(json, &field, &length)) return bad_json(r);
    while (which < 3 && strcmp(field, fields[which]) != 0) which++;
    if (which == 3 || (seen & 1 << which))
      return neap_source_bad(
          r->source, 8 + json->at, "tensor '%.100s': the field '%.40s' %s", tensor->name, field,
          which == 3 ? "is none of dtype, shape and data_offsets" : "stands there twice");
    seen |= 1 << which;
    if (!neap_json_take(json, ':')) return bad_json(r);
    if (which == 0) NEAP_TRY(read_dtype(r, tensor));
    if (which == 1) NEAP_TRY(read_shape(r, tensor));
    if (which == 2 &&
        (!neap_json_take(json, '[') || !neap_json_uint(json, &begin) ||
         !neap_json_take(json, ',') || !neap_json_uint(json, &end) || !neap_json_take(json, ']')))
      return bad_json(r);
  } while (neap_json_more(json, '}'));
  if (json->problem != NULL) return bad_json(r);
  uint64_t at = 8 + json->at, room = r->source->size - r->data;
  if (seen != (DTYPE | SHAPE | OFFSETS))
    return neap_source_bad(r->source, at, "tensor '%.100s' lacks dtype, shape or data_offsets",
                           tensor->name);
  if (begin > end || end > room)
    return neap_source_bad(r->source, at,
                           "tensor '%.100s': offsets %" PRIu64 " to %" PRIu64
                           " in a file with %" PRIu64 " bytes of elements",
                           tensor->name, begin, end, room);
  if (!neap_tensor_measure(tensor) || tensor->bytes != end - begin)
    return neap_source_bad(r->source, at,
                           "tensor '%.100s': %" PRIu64
                           " bytes of elements do not go with its dtype and shape",
                           tensor->name, end - begin);
  tensor->offset = r->data + begin;
  return NEAP_OK;
}

static int read_meta(reader *r, neap_listing *listing) {
  neap_json *json = &r->json;
  if (!neap_json_take(json, '{')) return bad_json(r);
  if (neap_json_next(json, '}')) return neap_json_take(json, '}') ? NEAP_OK : bad_json(r);
  do {
    size_t length;
    neap_pair pair;
    if (!neap_json_string(json, &pair.key, &length) || !neap_json_take(json, ':') ||
        !neap_json_string(json, &pair.value, &length))
      return bad_json(r);
    NEAP_TRY(neap_grow(listing->context, (void **)&listing->meta, sizeof pair, listing->num_meta,
                       &listing->meta_capacity));
    listing->meta[listing->num_meta++] = pair;
  } while (neap_json_more(json, '}'));
  return json->problem == NULL ? NEAP_OK : bad_json(r);
}

static int read_header(reader *r, neap_listing *listing) {
  neap_json *json = &r->json;
  bool meta = false;
  if (!neap_json_take(json, '{')) return bad_json(r);
  if (neap_json_next(json, '}')) {
    neap_json_take(json, '}');
  } else {
    do {
      neap_tensor tensor = {0};
      size_t length;
      if (!neap_json_string(json, &tensor.name, &length) || !neap_json_take(json, ':'))
        return bad_json(r);
      if (length == 0) return neap_source_bad(r->source, 8 + json->at, "a tensor without a name");
      if (strcmp(tensor.name, "__metadata__") == 0) {
        if (meta) return neap_source_bad(r->source, 8 + json->at, "two '__metadata__'");
        meta = true;
        NEAP_TRY(read_meta(r, listing));
      } else {
        NEAP_TRY(read_tensor(r, &tensor));
        NEAP_TRY(neap_listing_add(listing, &tensor));
      }
    } while (neap_json_more(json, '}'));
  }
  return json->problem == NULL && neap_json_end(json) ? NEAP_OK : bad_json(r);
}

static int by_offset(const void *a, const void *b) {
  const neap_tensor *x = *(const neap_tensor *const *)a, *y = *(const neap_tensor *const *)b;
  if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
  return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty ones first */
}

/* Tensors must fill the file, one after another. */
static int check_offsets(reader *r, neap_listing *listing) {
  size_t bytes;
  uint64_t at = r->data;
  int status = NEAP_OK;
  if (!neap_mul_size(listing->count, sizeof(neap_tensor *), &bytes)) bytes = SIZE_MAX;
  const neap_tensor **order = neap_alloc(listing->context, bytes + (bytes == 0));
  if (order == NULL) return NEAP_ENOMEM;
  for (size_t i = 0; i < listing->count; i++) order[i] = &listing->tensors[i];
  qsort(order, listing->count, sizeof order[0], by_offset);
  for (size_t i = 0; i < listing->count && status == NEAP_OK; i++) {
    if (order[i]->offset != at)
      status = neap_source_bad(
          r->source, order[i]->offset < at ? order[i]->offset : at, "tensor '%.100s' %s",
          order[i]->name, order[i]->offset < at ? "overlaps another one" : "begins after a hole");
    at = order[i]->offset + order[i]->bytes; /* within the file: read_tensor() saw to it */
  }
  if (status == NEAP_OK && at != r->source->size)
    status = neap_source_bad(r->source, at, "%" PRIu64 " bytes at the end belong to no tensor",
                             r->source->size - at);
  neap_free(listing->context, order, bytes + (bytes == 0));
  return status;
}

static int list(const neap_source *source, neap_listing *listing) {
  unsigned char start[8];
  uint64_t length = 0;
  if (source->size < 8)
    return neap_source_bad(source, source->size, "too short for a .safetensors header");
  NEAP_TRY(neap_source_read(source, 0, start, 8));
  for (int i = 7; i >= 0; i--) length = length << 8 | start[i];
  if (length > MAX_HEADER)
    return neap_source_bad(source, 0, "a header of %" PRIu64 " bytes; at most %d are read", length,
                           MAX_HEADER);
  if (length > source->size - 8)
    return neap_source_bad(source, source->size, "ends within its header of %" PRIu64 " bytes",
                           length);
  listing->text_size = (size_t)length + 1;
  listing->text = neap_alloc(listing->context, listing->text_size);
  if (listing->text == NULL) return NEAP_ENOMEM;
  reader r = {source, {listing->text, (size_t)length, 0, NULL}, 8 + length};
  NEAP_TRY(neap_source_read(source, 8, listing->text, (size_t)length));
  if (length == 0 || listing->text[0] != '{')
    return neap_source_bad(source, 8, "the header does not begin with '{'");
  NEAP_TRY(read_header(&r, listing));
  NEAP_TRY(neap_listing_finish(source, listing));
  return check_offsets(&r, listing);
}

static int read_elements(neap_context *context, const neap_source *source,
                         const neap_tensor *tensor, void *to) {
  return neap_source_read(source, tensor->offset, to, tensor->bytes);
}

/* ---- Writing ------------------------------------------------------------ */

static int put_string(neap_buffer *out, const char *text) {
  static const char hex[] = "0123456789abcdef";
  NEAP_TRY(neap_buffer_add(out, "\"", 1));
  for (; *text != 0; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\') {
      char escape[2] = {'\\', *text};
      NEAP_TRY(neap_buffer_add(out, escape, 2));
    } else if (c < 0x20) {
      char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
      NEAP_TRY(neap_buffer_add(out, escape, 6));
    } else {
      NEAP_TRY(neap_buffer_add(out, text, 1));
    }
  }
  return neap_buffer_add(out, "\"", 1);
}

static int put_tensor(neap_buffer *out, const neap_tensor *tensor, uint64_t offset) {
  const char *dtype = "";
  for (size_t i = 0; i < sizeof names / sizeof names[0] && dtype[0] == 0; i++)
    if (names[i].dtype == tensor->dtype) dtype = names[i].name;
  NEAP_TRY(put_string(out, tensor->name));
  NEAP_TRY(neap_buffer_text(out, ":{\"dtype\":\""));
  NEAP_TRY(neap_buffer_text(out, dtype));
  NEAP_TRY(neap_buffer_text(out, "\",\"shape\":["));
  for (int i = 0; i < tensor->ndim; i++) {
    if (i > 0) NEAP_TRY(neap_buffer_add(out, ",", 1));
    NEAP_TRY(neap_buffer_number(out, (uint64_t)tensor->shape[i]));
  }
  NEAP_TRY(neap_buffer_text(out, "],\"data_offsets\":["));
  NEAP_TRY(neap_buffer_number(out, offset));
  NEAP_TRY(neap_buffer_add(out, ",", 1));
  NEAP_TRY(neap_buffer_number(out, offset + tensor->bytes));
  return neap_buffer_text(out, "]}");
}

/* The bytes of all tensors with items of `item` bytes. */
static uint64_t bytes_of(const neap_tensor *tensors, size_t count, size_t item) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < count; i++)
    if (neap_k_itemsize(tensors[i].dtype) == item) bytes += tensors[i].bytes;
  return bytes;
}

static int put_header(neap_buffer *out, const neap_tensor *tensors, size_t count,
                      const neap_pair *meta, size_t num_meta) {
  /* Where the next tensor with items of 1, 2, 4, 8 bytes goes. */
  uint64_t offset[9] = {0};
  for (size_t item = 4; item >= 1; item /= 2)
    offset[item] = offset[item * 2] + bytes_of(tensors, count, item * 2);
  const char *comma = "";
  NEAP_TRY(neap_buffer_add(out, "{", 1));
  if (num_meta > 0) {
    NEAP_TRY(neap_buffer_text(out, "\"__metadata__\":{"));
    for (size_t i = 0; i < num_meta; i++) {
      if (i > 0) NEAP_TRY(neap_buffer_add(out, ",", 1));
      NEAP_TRY(put_string(out, meta[i].key));
      NEAP_TRY(neap_buffer_add(out, ":", 1));
      NEAP_TRY(put_string(out, meta[i].value));
    }
    NEAP_TRY(neap_buffer_add(out, "}", 1));
    comma = ",";
  }
  for (size_t i = 0; i < count; i++) {
    size_t item = neap_k_itemsize(tensors[i].dtype);
    NEAP_TRY(neap_buffer_text(out, comma));
    NEAP_TRY(put_tensor(out, &tensors[i], offset[item]));
    offset[item] += tensors[i].bytes;
    comma = ",";
  }
  NEAP_TRY(neap_buffer_add(out, "}", 1));
  while (out->size % 8 != 0) NEAP_TRY(neap_buffer_add(out, " ", 1));
  return NEAP_OK;
}

static int write_file(neap_context *context, neap_sink *sink, const neap_tensor *tensors,
                      size_t count, const neap_pair *meta, size_t num_meta) {
  neap_buffer header = {.context = context};
  unsigned char start[8];
  int status = put_header(&header, tensors, count, meta, num_meta);
  if (status == NEAP_OK && header.size > MAX_HEADER)
    status =
        neap_fail(NEAP_EINVAL, "%s: names and metadata of %zu bytes; at most %d fit in a header",
                  sink->path, header.size, MAX_HEADER);
  for (int i = 0; i < 8; i++) start[i] = (unsigned char)((uint64_t)header.size >> (8 * i));
  if (status == NEAP_OK) status = neap_sink_write(sink, start, 8);
  if (status == NEAP_OK) status = neap_sink_write(sink, header.bytes, header.size);
  neap_buffer_free(&header);
  for (size_t item = 8; item >= 1; item /= 2)
    for (size_t i = 0; i < count && status == NEAP_OK; i++)
      if (neap_k_itemsize(tensors[i].dtype) == item)
        status = neap_sink_write(sink, tensors[i].data, tensors[i].bytes);
  return status;
}

const neap_format neap_format_safetensors = {".safetensors", list, read_elements, write_file};
