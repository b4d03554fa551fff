/* SPDX-License-Identifier: MIT */
/* npy.c - .npy, NumPy's file of one array.
 *
 * Six bytes of magic, two of version, the length of a header, the header, the elements. The
 * header is a Python dict of three entries, as text:
 *
 *     {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
 *
 * Described in NumPy's "NEP 1"; versions 1.0, 2.0 (a longer length) and 3.0 (UTF-8) are read.
 * Written is 1.0, byte for byte what numpy.save writes: with eight dimensions at most, no
 * header comes near the length that needs 2.0. */
#include "file.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char magic[6] = "\x93NUMPY";

/* NumPy's letters for what Neap can hold. bfloat16 has none. */
static const struct {
  char code[3];
  int dtype;
} codes[] = {
    {"f4", NEAP_FLOAT32}, {"f8", NEAP_FLOAT64}, {"f2", NEAP_FLOAT16}, {"i1", NEAP_INT8},
    {"u1", NEAP_UINT8},   {"i4", NEAP_INT32},   {"i8", NEAP_INT64},   {"b1", NEAP_UINT8},
};

/* ---- Reading ------------------------------------------------------------ */

int neap_npy_header_size(const neap_source *source, const unsigned char *start, size_t size,
                         size_t *out) {
  if (size < 10) return neap_source_bad(source, size, "too short for a .npy header");
  if (memcmp(start, magic, 6) != 0)
    return neap_source_bad(source, 0, "does not begin as a .npy does");
  if (start[6] < 1 || start[6] > 3 || start[7] != 0)
    return neap_source_bad(source, 6, ".npy version %d.%d; known are 1.0, 2.0 and 3.0", start[6],
                           start[7]);
  size_t before = start[6] == 1 ? 10 : 12;
  if (size < before) return neap_source_bad(source, size, "too short for a .npy header");
  size_t length = start[8] | (size_t)start[9] << 8;
  if (before == 12) length |= (size_t)start[10] << 16 | (size_t)start[11] << 24;
  if (length + before > NEAP_NPY_MAX_HEADER)
    return neap_source_bad(source, 8, "a .npy header of %zu bytes; at most %d are read", length,
                           NEAP_NPY_MAX_HEADER);
  *out = length + before;
  return NEAP_OK;
}

/* The header's text as it is read. */
typedef struct scan {
  const neap_source *source;
  const char *text;
  size_t size, at;
} scan;

static char next(scan *s) { /* 0 at the end */
  while (s->at < s->size && strchr(" \t\n\r\f", s->text[s->at]) != NULL && s->text[s->at] != 0)
    s->at++;
  return s->at < s->size ? s->text[s->at] : 0;
}

static bool take(scan *s, char want) {
  if (next(s) != want || s->at >= s->size) return false;
  s->at++;
  return true;
}

static bool take_word(scan *s, const char *word) {
  size_t n = strlen(word);
  next(s);
  if (s->size - s->at < n || memcmp(s->text + s->at, word, n) != 0) return false;
  s->at += n;
  return true;
}

/* A quoted text without escapes: keys and dtypes have none. */
static bool take_quoted(scan *s, const char **out, size_t *length) {
  char quote = next(s);
  if (quote != '\'' && quote != '"') return false;
  const char *begin = s->text + s->at + 1;
  const char *end = memchr(begin, quote, s->size - s->at - 1);
  if (end == NULL) return false;
  *out = begin;
  *length = (size_t)(end - begin);
  s->at += *length + 2;
  return true;
}

static int bad(scan *s, const char *what) {
  return neap_source_bad(s->source, s->at, "in the .npy header: %s", what);
}

/* '<f4': byte order and code. */
static int take_descr(scan *s, neap_tensor *tensor) {
  const char *text;
  size_t length;
  if (next(s) == '[')
    return neap_source_fail(s->source, NEAP_EDTYPE, s->at,
                            "a structured dtype; save its fields one by one");
  if (!take_quoted(s, &text, &length)) return bad(s, "'descr' should be a dtype in quotes");
  const char *code = text;
  size_t n = length;
  char order = '=';
  if (n > 0 && strchr("<>=|", code[0]) != NULL && code[0] != 0) {
    order = code[0];
    code++;
    n--;
  }
  for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
    if ((n == 2 && memcmp(code, codes[i].code, 2) == 0) ||
        (n == 1 && code[0] == '?' && codes[i].code[0] == 'b')) {
      tensor->dtype = codes[i].dtype;
      tensor->swap = order == '>' && neap_k_itemsize(tensor->dtype) > 1;
      return NEAP_OK;
    }
  return neap_source_fail(s->source, NEAP_EDTYPE, s->at,
                          "dtype '%.*s' is none that Neap has; save as float32, float64, float16, "
                          "int8, uint8, int32 or int64",
                          (int)(length < 40 ? length : 40), text);
}

/* (3, 4) or (3,) or (); Python 2 wrote long numbers as 3L. */
static int take_shape(scan *s, neap_tensor *tensor) {
  tensor->ndim = 0;
  if (!take(s, '(')) return bad(s, "'shape' should be a tuple");
  bool comma = true;
  while (!take(s, ')')) {
    if (!comma) return bad(s, "a comma is missing in 'shape'");
    if (tensor->ndim == NEAP_MAX_DIM)
      return neap_source_fail(s->source, NEAP_ENOTSUP, s->at, "more than %d dimensions",
                              NEAP_MAX_DIM);
    int64_t value = 0;
    next(s);
    size_t begin = s->at;
    for (; s->at < s->size && s->text[s->at] >= '0' && s->text[s->at] <= '9'; s->at++) {
      int digit = s->text[s->at] - '0';
      if (value > (INT64_MAX - digit) / 10) return bad(s, "a dimension beyond 2^63");
      value = value * 10 + digit;
    }
    if (s->at == begin) return bad(s, "a dimension should be a whole number from 0");
    take_word(s, "L");
    tensor->shape[tensor->ndim++] = value;
    comma = take(s, ',');
  }
  if (tensor->ndim == 1 && !comma) return bad(s, "'shape' should be a tuple");
  return NEAP_OK;
}

int neap_npy_parse(const neap_source *source, const unsigned char *header, size_t size,
                   neap_tensor *tensor) {
  scan s = {source, (const char *)header, size, header[6] == 1 ? 10 : 12};
  enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
  int seen = 0;
  if (!take(&s, '{')) return bad(&s, "a dict ('{') should begin here");
  bool comma = true;
  while (!take(&s, '}')) {
    const char *key;
    size_t length;
    if (!comma) return bad(&s, "a comma is missing");
    if (!take_quoted(&s, &key, &length)) return bad(&s, "a key in quotes should stand here");
    int which = length == 5 && memcmp(key, "descr", 5) == 0             ? DESCR
                : length == 13 && memcmp(key, "fortran_order", 13) == 0 ? ORDER
                : length == 5 && memcmp(key, "shape", 5) == 0           ? SHAPE
                                                                        : 0;
    if (which == 0) return bad(&s, "a key other than 'descr', 'fortran_order' and 'shape'");
    if (seen & which) return bad(&s, "a key stands there twice");
    seen |= which;
    if (!take(&s, ':')) return bad(&s, "a colon is missing");
    if (which == DESCR) NEAP_TRY(take_descr(&s, tensor));
    if (which == SHAPE) NEAP_TRY(take_shape(&s, tensor));
    if (which == ORDER) {
      tensor->fortran = take_word(&s, "True");
      if (!tensor->fortran && !take_word(&s, "False"))
        return bad(&s, "'fortran_order' should be True or False");
    }
    comma = take(&s, ',');
  }
  if (seen != (DESCR | ORDER | SHAPE))
    return bad(&s, "'descr', 'fortran_order' or 'shape' is missing");
  next(&s);
  if (s.at < s.size) return bad(&s, "something follows the dict");
  if (tensor->ndim < 2) tensor->fortran = false; /* the same order either way */
  if (!neap_tensor_measure(tensor)) return bad(&s, "'shape' is larger than any memory");
  tensor->offset = size;
  return NEAP_OK;
}

static int list(const neap_source *source, neap_listing *listing) {
  unsigned char start[NEAP_NPY_START];
  size_t size = source->size < sizeof start ? (size_t)source->size : sizeof start;
  NEAP_TRY(neap_source_read(source, 0, start, size));
  NEAP_TRY(neap_npy_header_size(source, start, size, &size));
  if (size > source->size)
    return neap_source_bad(source, source->size, "ends within its header of %zu bytes", size);
  listing->text = neap_alloc(listing->context, size);
  if (listing->text == NULL) return NEAP_ENOMEM;
  listing->text_size = size;
  neap_tensor tensor = {.name = ""};
  NEAP_TRY(neap_source_read(source, 0, listing->text, size));
  NEAP_TRY(neap_npy_parse(source, (const unsigned char *)listing->text, size, &tensor));
  /* numpy.load would leave further arrays behind these elements unread, and say nothing. */
  if (source->size - size != tensor.bytes)
    return neap_source_bad(source,
                           source->size < size + tensor.bytes ? source->size : size + tensor.bytes,
                           "%" PRIu64 " bytes of elements, where the header tells of %zu",
                           source->size - size, tensor.bytes);
  return neap_listing_add(listing, &tensor);
}

static int read_elements(neap_context *context, const neap_source *source,
                         const neap_tensor *tensor, void *to) {
  return neap_source_read(source, tensor->offset, to, tensor->bytes);
}

/* ---- Writing ------------------------------------------------------------ */

size_t neap_npy_header(const neap_tensor *tensor, char to[NEAP_NPY_WRITTEN]) {
  const char *code = "";
  for (size_t i = 0; i < sizeof codes / sizeof codes[0] && code[0] == 0; i++)
    if (codes[i].dtype == tensor->dtype) code = codes[i].code;
  char order = neap_k_itemsize(tensor->dtype) == 1 ? '|' : '<';
  memcpy(to, magic, 6);
  to[6] = 1;
  to[7] = 0;
  size_t at = 10, most = NEAP_NPY_WRITTEN;
  at += (size_t)snprintf(to + at, most - at, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                         order, code);
  int digits = 0;
  for (int i = 0; i < tensor->ndim; i++) {
    int n = snprintf(to + at, most - at, "%s%" PRId64, i > 0 ? ", " : "", tensor->shape[i]);
    if (i == 0) digits = n;
    at += (size_t)n;
  }
  at += (size_t)snprintf(to + at, most - at, "%s), }", tensor->ndim == 1 ? "," : "");
  /* NumPy leaves room for the first dimension to grow to 21 digits in place, then fills up
   * to a multiple of 64 bytes, by 64 where there is nothing to fill. */
  if (tensor->ndim > 0)
    for (int i = digits; i < 21; i++) to[at++] = ' ';
  do to[at++] = ' ';
  while ((at + 1) % 64 != 0);
  to[at++] = '\n';
  to[8] = (char)((at - 10) & 0xFF);
  to[9] = (char)((at - 10) >> 8);
  return at;
}

static int write_file(neap_context *context, neap_sink *sink, const neap_tensor *tensors,
                      size_t count, const neap_pair *meta, size_t num_meta) {
  char header[NEAP_NPY_WRITTEN];
  NEAP_TRY(neap_sink_write(sink, header, neap_npy_header(&tensors[0], header)));
  return neap_sink_write(sink, tensors[0].data, tensors[0].bytes);
}

const neap_format neap_format_npy = {".npy", list, read_elements, write_file};
