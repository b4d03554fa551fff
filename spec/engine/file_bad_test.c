/* SPDX-License-Identifier: MIT */
/* file_bad_test.c - damaged and hostile files: every one is refused with a status and a text, and
 * none crashes, leaks, or makes the library ask for memory that the file does not justify.
 * What others wrote must not be trusted; the fuzzers in spec/fuzz look for more. */
#include "engine/file.h"
#include "file_help.h"
#include <zlib.h>

static ledger memory;
static neap_context *context;

/* Loads from memory that is just as large as the input, so that a sanitizer sees one byte too
 * many. The file must be closed again whatever comes. */
static int load(const void *data, size_t size) {
  unsigned char *exact = malloc(size > 0 ? size : 1);
  neap_file *file = NULL;
  long used = atomic_load(&memory.used);
  CHECK(exact != NULL);
  if (size > 0) memcpy(exact, data, size);
  neap_source source = {.path = "input", .bytes = exact, .size = size};
  int status = neap_file_load_source(context, &source, &file);
  CHECK((status == NEAP_OK) == (file != NULL));
  neap_file_close(file);
  (void)neap_wait_all(context);
  CHECK(atomic_load(&memory.used) <= used + 65536); /* operations are kept for reuse */
  free(exact);
  return status;
}

static const char *const golden[] = {"f4.npy",       "f8_fortran.npy", "scalar.npy",
                                     "version2.npy", "version3.npy",   "stored.npz",
                                     "streamed.npz", "all.safetensors"};
enum { GOLDEN = sizeof golden / sizeof golden[0] };

static bytes read_golden(const char *name) {
  char path[200];
  snprintf(path, sizeof path, "spec/engine/golden/%s", name);
  return read_file(path);
}

static void a_file_cut_short_anywhere_is_refused(void) {
  for (int g = 0; g < GOLDEN; g++) {
    bytes b = read_golden(golden[g]);
    OK(load(b.data, b.size));
    for (size_t n = 0; n < b.size; n++) FAILS(load(b.data, n), NEAP_EFORMAT, "input: ");
    free(b.data);
  }
  bytes b = read_golden("deflated.npz");
  for (size_t n = 0; n < b.size; n++) FAILS(load(b.data, n), NEAP_EFORMAT, "input: ");
  free(b.data);
}

static void bytes_behind_the_end_are_refused(void) {
  for (int g = 0; g < GOLDEN; g++) {
    bytes b = read_golden(golden[g]);
    unsigned char *longer = malloc(b.size + 3);
    CHECK(longer != NULL);
    memcpy(longer, b.data, b.size);
    memcpy(longer + b.size, "end", 3);
    FAILS(load(longer, b.size + 3), NEAP_EFORMAT, "input: ");
    free(longer);
    free(b.data);
  }
}

/* Any byte, anything: an error or not, but no crash; and where there is a CRC, no wrong element. */
static void one_damaged_byte_does_no_harm(void) {
  static const unsigned char flips[] = {0x01, 0x02, 0x10, 0x80, 0xFF, 0x20};
  for (int g = 0; g < GOLDEN; g++) {
    bytes b = read_golden(golden[g]);
    for (size_t at = 0; at < b.size; at++)
      for (size_t f = 0; f < sizeof flips; f++) {
        b.data[at] ^= flips[f];
        (void)load(b.data, b.size);
        b.data[at] ^= flips[f];
      }
    free(b.data);
  }
  bytes b = read_golden("stored.npz"); /* local header of 30 + 5 + 20 bytes, .npy of 152 */
  for (size_t at = 55; at < 55 + 152; at++) {
    b.data[at] ^= 4;
    CHECK(load(b.data, b.size) != NEAP_OK);
    b.data[at] ^= 4;
  }
  free(b.data);
}

/* ---- .safetensors ---------------------------------------------------------------- */

/* A file of this header and `elements` zero bytes. */
static int load_header(const char *header, size_t length, size_t elements) {
  unsigned char *data = calloc(1, 8 + length + elements);
  CHECK(data != NULL);
  for (int i = 0; i < 8; i++) data[i] = (unsigned char)((uint64_t)length >> (8 * i));
  memcpy(data + 8, header, length);
  int status = load(data, 8 + length + elements);
  free(data);
  return status;
}

#define T(fields) "{\"t\":{" fields "}}"
#define F32_2     "\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"

static void safetensors_headers_are_read_strictly(void) {
  static const struct {
    const char *header;
    size_t elements;
    int status;
    const char *text;
  } cases[] = {
      /* the shape of it */
      {T(F32_2), 8, NEAP_OK, ""},
      {"{\"t\": {\"shape\" :[ 2 ],\n\"data_offsets\":[0,8] ,\"dtype\":\"F32\"}\t} \r\n ", 8,
       NEAP_OK, ""},
      {"{}", 0, NEAP_OK, ""},
      {"{\"__metadata__\":{}}", 0, NEAP_OK, ""},
      {"[]", 0, NEAP_EFORMAT, "does not begin"},
      {" {}", 0, NEAP_EFORMAT, "does not begin"},
      {"{", 0, NEAP_EFORMAT, "string"},
      {"{}{}", 0, NEAP_EFORMAT, "something follows"},
      {"{},", 0, NEAP_EFORMAT, "something follows"},
      {"{\"t\"", 0, NEAP_EFORMAT, "colon"},
      {"{\"t\":1}", 0, NEAP_EFORMAT, "object"},
      {"{\"t\":null}", 0, NEAP_EFORMAT, "object"},
      {"{\"t\":{}}", 0, NEAP_EFORMAT, "string"},
      {T("\"dtype\":\"F32\",\"shape\":[2]"), 8, NEAP_EFORMAT, "lacks"},
      {T(F32_2 ",\"strides\":[1]"), 8, NEAP_EFORMAT, "'strides'"},
      {T(F32_2 ",\"dtype\":\"F32\""), 8, NEAP_EFORMAT, "twice"},
      {T(F32_2 ","), 8, NEAP_EFORMAT, "string"},
      {"{\"t\":{" F32_2 "},}", 8, NEAP_EFORMAT, "string"},
      {"{'t':{" F32_2 "}}", 8, NEAP_EFORMAT, "string"},
      {"{\"t\":{" F32_2 "}/**/}", 8, NEAP_EFORMAT, "end here"},
      /* names */
      {"{\"\":{" F32_2 "}}", 8, NEAP_EFORMAT, "without a name"},
      {"{\"t\":{" F32_2 "},\"t\":{" F32_2 "}}", 8, NEAP_EFORMAT, "'t'"},
      {"{\"\\u0074\":{" F32_2 "},\"t\":{" F32_2 "}}", 8, NEAP_EFORMAT, "two tensors"},
      {"{\"\\ud83c\\udf19\":{" F32_2 "}}", 8, NEAP_OK, ""},
      {"{\"\\ud83c\":{" F32_2 "}}", 8, NEAP_EFORMAT, "surrogate"},
      {"{\"\\udf19\":{" F32_2 "}}", 8, NEAP_EFORMAT, "surrogate"},
      {"{\"\\ud83cx\":{" F32_2 "}}", 8, NEAP_EFORMAT, "surrogate"},
      {"{\"\\u0000\":{" F32_2 "}}", 8, NEAP_EFORMAT, "zero byte"},
      {"{\"\\u12g4\":{" F32_2 "}}", 8, NEAP_EFORMAT, "hexadecimal"},
      {"{\"\\x41\":{" F32_2 "}}", 8, NEAP_EFORMAT, "escape"},
      {"{\"\n\":{" F32_2 "}}", 8, NEAP_EFORMAT, "control"},
      {"{\"\xff\":{" F32_2 "}}", 8, NEAP_EFORMAT, "UTF-8"},
      {"{\"\xc0\xaf\":{" F32_2 "}}", 8, NEAP_EFORMAT, "UTF-8"},     /* overlong '/' */
      {"{\"\xed\xa0\x80\":{" F32_2 "}}", 8, NEAP_EFORMAT, "UTF-8"}, /* a surrogate */
      {"{\"\xf4\x90\x80\x80\":{" F32_2 "}}", 8, NEAP_EFORMAT, "UTF-8"},
      {"{\"\xe2\x82\":{" F32_2 "}}", 8, NEAP_EFORMAT, "UTF-8"},
      {"{\"t", 0, NEAP_EFORMAT, "does not end"},
      {"{\"t\\", 0, NEAP_EFORMAT, "does not end"},
      {"{\"t\\u00", 0, NEAP_EFORMAT, "does not end"},
      /* metadata: a map from text to text, once */
      {"{\"__metadata__\":{\"a\":\"b\"},\"t\":{" F32_2 "}}", 8, NEAP_OK, ""},
      {"{\"__metadata__\":{\"a\":1}}", 0, NEAP_EFORMAT, "string"},
      {"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, NEAP_EFORMAT, "string"},
      {"{\"__metadata__\":\"a\"}", 0, NEAP_EFORMAT, "object"},
      {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, NEAP_EFORMAT, "'a'"},
      {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, NEAP_EFORMAT, "two '__metadata__'"},
      /* dtypes */
      {T("\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]"), 4, NEAP_OK, ""},
      {T("\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[0,2]"), 2, NEAP_EDTYPE, "F8_E4M3"},
      {T("\"dtype\":\"U64\",\"shape\":[1],\"data_offsets\":[0,8]"), 8, NEAP_EDTYPE, "'t'"},
      {T("\"dtype\":\"f32\",\"shape\":[2],\"data_offsets\":[0,8]"), 8, NEAP_EDTYPE, "f32"},
      {T("\"dtype\":0,\"shape\":[2],\"data_offsets\":[0,8]"), 8, NEAP_EFORMAT, "string"},
      /* shapes */
      {T("\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[0,1]"), 1, NEAP_OK, ""},
      {T("\"dtype\":\"I8\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]"), 1, NEAP_OK, ""},
      {T("\"dtype\":\"I8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]"), 1, NEAP_ENOTSUP,
       "8 dimensions"},
      {T("\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]"), 8, NEAP_EFORMAT,
       "do not go with"},
      {T("\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]"), 8, NEAP_EFORMAT,
       "whole number"},
      {T("\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]"), 8, NEAP_EFORMAT,
       "whole number"},
      {T("\"dtype\":\"F32\",\"shape\":[2e0],\"data_offsets\":[0,8]"), 8, NEAP_EFORMAT,
       "whole number"},
      {T("\"dtype\":\"F32\",\"shape\":[02],\"data_offsets\":[0,8]"), 8, NEAP_EFORMAT,
       "leading zero"},
      {T("\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]"), 8, NEAP_EFORMAT,
       "whole number"},
      {T("\"dtype\":\"F32\",\"shape\":[2,],\"data_offsets\":[0,8]"), 8, NEAP_EFORMAT,
       "whole number"},
      {T("\"dtype\":\"F32\",\"shape\":[[2]],\"data_offsets\":[0,8]"), 8, NEAP_EFORMAT,
       "whole number"},
      {T("\"dtype\":\"F32\",\"shape\":[9223372036854775808],\"data_offsets\":[0,8]"), 8,
       NEAP_EFORMAT, "2^63"},
      {T("\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,8]"), 8,
       NEAP_EFORMAT, "2^64"},
      /* products that wrap to 8, and one that is 0 only if nobody looks */
      {T("\"dtype\":\"F32\",\"shape\":[4611686018427387906],\"data_offsets\":[0,8]"), 8,
       NEAP_EFORMAT, "do not go with"},
      {T("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]"), 0,
       NEAP_EFORMAT, "do not go with"},
      {T("\"dtype\":\"F32\",\"shape\":[4611686018427387904,8,0],\"data_offsets\":[0,0]"), 0,
       NEAP_EFORMAT, "do not go with"},
      {T("\"dtype\":\"F32\",\"shape\":[1099511627776],\"data_offsets\":[0,4398046511104]"), 8,
       NEAP_EFORMAT, "offsets"},
      /* offsets */
      {T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]"), 8, NEAP_EFORMAT,
       "offsets 8 to 0"},
      {T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]"), 8, NEAP_EFORMAT, "comma"},
      {T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,16]"), 8, NEAP_EFORMAT, "end here"},
      {T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]"), 12, NEAP_EFORMAT, "hole"},
      {T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[18446744073709551608,"
         "18446744073709551615]"),
       8, NEAP_EFORMAT, "offsets"},
      {T(F32_2), 7, NEAP_EFORMAT, "offsets 0 to 8"},
      {T(F32_2), 9, NEAP_EFORMAT, "1 bytes at the end"},
      {"{\"a\":{" F32_2 "},\"b\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8,
       NEAP_EFORMAT, "overlap"},
      {"{\"a\":{" F32_2 "},\"b\":{" F32_2 "}}", 8, NEAP_EFORMAT, "overlap"},
      {"{\"b\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[8,12]},\"a\":{" F32_2 "}}", 12,
       NEAP_OK, ""},
      {"{\"b\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[8,8]},\"a\":{" F32_2 "}}", 8,
       NEAP_OK, ""},
      {"{\"b\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[4,4]},\"a\":{" F32_2 "}}", 8,
       NEAP_EFORMAT, "overlap"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int status = load_header(cases[i].header, strlen(cases[i].header), cases[i].elements);
    if (status != cases[i].status ||
        (status != NEAP_OK && strstr(neap_error(), cases[i].text) == NULL)) {
      fprintf(stderr, "%s\n    gave %s: %s\n    where %s with '%s' was wanted\n", cases[i].header,
              neap_status_name(status), neap_error(), neap_status_name(cases[i].status),
              cases[i].text);
      exit(1);
    }
  }
}

static void deep_nesting_is_refused_without_recursion(void) {
  enum { DEEP = 1000000 };
  char *header = malloc(DEEP + 1);
  CHECK(header != NULL);
  memset(header, '[', DEEP);
  memcpy(header, "{\"t\":", 5);
  FAILS(load_header(header, DEEP, 0), NEAP_EFORMAT, "object");
  for (int i = 0; i + 5 <= DEEP; i += 5) memcpy(header + i, "{\"t\":", 5);
  FAILS(load_header(header, DEEP, 0), NEAP_EFORMAT, "'t'");
  free(header);
}

static void a_header_length_beyond_the_file_or_100_mb_is_refused(void) {
  unsigned char data[16] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
  static const struct {
    uint64_t length;
    const char *text;
  } cases[] = {
      {9, "ends within"},      {100000000, "ends within"},  {100000001, "at most 100000000"},
      {UINT64_MAX, "at most"}, {UINT64_MAX - 7, "at most"}, {1, "string"},
      {0, "does not begin"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    memcpy(data, &cases[i].length, 8);
    FAILS(load(data, sizeof data), NEAP_EFORMAT, cases[i].text);
  }
}

/* ---- .npy ---------------------------------------------------------------------- */

/* A file of version 1.0 with this dict and `elements` zero bytes; gives its size. */
static size_t make_npy(unsigned char *to, const char *dict, size_t elements) {
  size_t length = strlen(dict);
  memcpy(to, "\x93NUMPY\1\0", 8);
  to[8] = (unsigned char)length;
  to[9] = (unsigned char)(length >> 8);
  memcpy(to + 10, dict, length);
  memset(to + 10 + length, 0, elements);
  return 10 + length + elements;
}

#define D(descr, order, shape)                                                                     \
  "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }\n"

static void npy_headers_are_read_strictly(void) {
  static const struct {
    const char *dict;
    size_t elements;
    int status;
    const char *text;
  } cases[] = {
      {D("'<f4'", "False", "(2,)"), 8, NEAP_OK, ""},
      {D("'=f4'", "False", "(2L, 1L)"), 8, NEAP_OK, ""},
      {D("'f4'", "True", "( 2 ,1 )"), 8, NEAP_OK, ""},
      {D("'|b1'", "False", "()"), 1, NEAP_OK, ""},
      {D("'?'", "False", "(2, 0)"), 0, NEAP_OK, ""},
      {"{\"shape\":(2,),\"fortran_order\":False,\"descr\":\">i8\"}", 16, NEAP_OK, ""},
      /* dtypes */
      {D("'<f4x'", "False", "(2,)"), 8, NEAP_EDTYPE, "'<f4x'"},
      {D("'<c8'", "False", "(1,)"), 8, NEAP_EDTYPE, "'<c8'"},
      {D("'<u4'", "False", "(2,)"), 8, NEAP_EDTYPE, "'<u4'"},
      {D("'<i2'", "False", "(2,)"), 4, NEAP_EDTYPE, "'<i2'"},
      {D("'|O'", "False", "(2,)"), 8, NEAP_EDTYPE, "'|O'"},
      {D("'<U5'", "False", "(2,)"), 40, NEAP_EDTYPE, "'<U5'"},
      {D("'<V2'", "False", "(2,)"), 4, NEAP_EDTYPE, "'<V2'"},
      {D("''", "False", "(2,)"), 8, NEAP_EDTYPE, "''"},
      {D("[('a', '<f4')]", "False", "(2,)"), 8, NEAP_EDTYPE, "structured"},
      {D("4", "False", "(2,)"), 8, NEAP_EFORMAT, "quotes"},
      /* shapes */
      {D("'<f4'", "False", "(2)"), 8, NEAP_EFORMAT, "tuple"},
      {D("'<f4'", "False", "2"), 8, NEAP_EFORMAT, "tuple"},
      {D("'<f4'", "False", "[2]"), 8, NEAP_EFORMAT, "tuple"},
      {D("'<f4'", "False", "(-2,)"), 8, NEAP_EFORMAT, "whole number"},
      {D("'<f4'", "False", "(2 1)"), 8, NEAP_EFORMAT, "comma"},
      {D("'<f4'", "False", "(2,,1)"), 8, NEAP_EFORMAT, "whole number"},
      {D("'i1'", "False", "(1,1,1,1,1,1,1,1)"), 1, NEAP_OK, ""},
      {D("'i1'", "False", "(1,1,1,1,1,1,1,1,1)"), 1, NEAP_ENOTSUP, "8 dimensions"},
      {D("'<f4'", "False", "(9223372036854775808,)"), 8, NEAP_EFORMAT, "2^63"},
      {D("'<f4'", "False", "(4611686018427387906,)"), 8, NEAP_EFORMAT, "larger than any memory"},
      {D("'<f4'", "False", "(4294967296, 4294967296)"), 0, NEAP_EFORMAT, "larger than any memory"},
      {D("'<f4'", "False", "(0, 4294967296, 4294967296)"), 0, NEAP_EFORMAT, "larger than any"},
      {D("'<f4'", "False", "(1099511627776,)"), 8, NEAP_EFORMAT, "8 bytes of elements"},
      {D("'<f4'", "False", "(3,)"), 8, NEAP_EFORMAT, "tells of 12"},
      {D("'<f4'", "False", "(1,)"), 8, NEAP_EFORMAT, "tells of 4"},
      /* the dict */
      {D("'<f4'", "false", "(2,)"), 8, NEAP_EFORMAT, "True or False"},
      {D("'<f4'", "1", "(2,)"), 8, NEAP_EFORMAT, "True or False"},
      {"{'descr': '<f4', 'fortran_order': False}\n", 8, NEAP_EFORMAT, "missing"},
      {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 8, NEAP_EFORMAT,
       "twice"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", 8, NEAP_EFORMAT,
       "a key other than"},
      {"{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}", 8, NEAP_EFORMAT, "comma"},
      {"{'descr' '<f4', 'fortran_order': False, 'shape': (2,)}", 8, NEAP_EFORMAT, "colon"},
      {D("'<f4'", "False", "(2,)") "x", 8, NEAP_EFORMAT, "something follows"},
      {"{'descr': '<f4", 8, NEAP_EFORMAT, "quotes"},
      {"{'descr", 8, NEAP_EFORMAT, "quotes"},
      {"{", 8, NEAP_EFORMAT, "quotes"},
      {"", 8, NEAP_EFORMAT, "a dict"},
      {"__import__('os').system('true')", 8, NEAP_EFORMAT, "a dict"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    unsigned char data[1000];
    int status = load(data, make_npy(data, cases[i].dict, cases[i].elements));
    if (status != cases[i].status ||
        (status != NEAP_OK && strstr(neap_error(), cases[i].text) == NULL)) {
      fprintf(stderr, "%s\n    gave %s: %s\n    where %s with '%s' was wanted\n", cases[i].dict,
              neap_status_name(status), neap_error(), neap_status_name(cases[i].status),
              cases[i].text);
      exit(1);
    }
  }
  unsigned char other[] = "\x93NUMPY\4\0\2\0{}";
  FAILS(load(other, 12), NEAP_EFORMAT, "version 4.0");
  unsigned char large[] = "\x93NUMPY\2\0\xff\xff\xff\x7f{}";
  FAILS(load(large, 14), NEAP_EFORMAT, "at most 65536");
}

/* ---- .npz ---------------------------------------------------------------------- */

/* An archive of one or two members, written by hand from APPNOTE 4.3 so that each field can be
 * made to lie. */
typedef struct lies {
  const char *names[2];
  const unsigned char *data[2];
  size_t packed[2], size[2]; /* of data, and as declared */
  uint32_t crc[2];
  int method, flags, count;
  bool share; /* the second entry points to the first member */
} lies;

static void put(unsigned char **to, int size, uint64_t value) {
  for (int i = 0; i < size; i++, value >>= 8) *(*to)++ = (unsigned char)value;
}

static size_t make_zip(unsigned char *to, const lies *z) {
  unsigned char *start = to;
  size_t local[2];
  for (int i = 0; i < z->count && !(z->share && i > 0); i++) {
    local[i] = (size_t)(to - start);
    put(&to, 4, 0x04034b50);
    put(&to, 2, 20), put(&to, 2, (uint64_t)z->flags), put(&to, 2, (uint64_t)z->method);
    put(&to, 4, 0), put(&to, 4, z->crc[i]);
    put(&to, 4, z->packed[i]), put(&to, 4, z->size[i]);
    put(&to, 2, strlen(z->names[i])), put(&to, 2, 0);
    memcpy(to, z->names[i], strlen(z->names[i])), to += strlen(z->names[i]);
    memcpy(to, z->data[i], z->packed[i]), to += z->packed[i];
  }
  if (z->share) local[1] = local[0];
  unsigned char *directory = to;
  for (int i = 0; i < z->count; i++) {
    put(&to, 4, 0x02014b50);
    put(&to, 2, 20), put(&to, 2, 20);
    put(&to, 2, (uint64_t)z->flags), put(&to, 2, (uint64_t)z->method);
    put(&to, 4, 0), put(&to, 4, z->crc[i]);
    put(&to, 4, z->packed[i]), put(&to, 4, z->size[i]);
    put(&to, 2, strlen(z->names[i])), put(&to, 2, 0), put(&to, 2, 0);
    put(&to, 2, 0), put(&to, 2, 0), put(&to, 4, 0), put(&to, 4, local[i]);
    memcpy(to, z->names[i], strlen(z->names[i])), to += strlen(z->names[i]);
  }
  size_t size = (size_t)(to - directory), offset = (size_t)(directory - start);
  put(&to, 4, 0x06054b50);
  put(&to, 4, 0), put(&to, 2, (uint64_t)z->count), put(&to, 2, (uint64_t)z->count);
  put(&to, 4, size), put(&to, 4, offset), put(&to, 2, 0);
  return (size_t)(to - start);
}

static unsigned char archive[1 << 20];
static int load_zip(const lies *z) {
  return load(archive, make_zip(archive, z));
}

static size_t deflate_raw(const void *from, size_t size, unsigned char *to, size_t room) {
  z_stream stream = {0};
  CHECK(deflateInit2(&stream, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  stream.next_in = (unsigned char *)(uintptr_t)from;
  stream.avail_in = (uInt)size;
  stream.next_out = to;
  stream.avail_out = (uInt)room;
  CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  CHECK(deflateEnd(&stream) == Z_OK);
  return room - stream.avail_out;
}

static void archives_are_read_strictly(void) {
  static unsigned char npy[1000], packed[1000];
  size_t size = make_npy(npy, D("'<f4'", "False", "(20,)"), 80);
  size_t small = deflate_raw(npy, size, packed, sizeof packed);
  uint32_t crc = (uint32_t)crc32(0, npy, (uInt)size);
  const lies stored = {.names = {"a.npy", "b.npy"},
                       .data = {npy, npy},
                       .packed = {size, size},
                       .size = {size, size},
                       .crc = {crc, crc},
                       .count = 2};
  const lies deflated = {.names = {"a.npy", "b.npy"},
                         .data = {packed, packed},
                         .packed = {small, small},
                         .size = {size, size},
                         .crc = {crc, crc},
                         .count = 2,
                         .method = 8};
  lies z;
  OK(load_zip(&stored));
  OK(load_zip(&deflated));

  z = stored, z.names[1] = "a.npy";
  FAILS(load_zip(&z), NEAP_EFORMAT, "two tensors named 'a'");
  z = stored, z.names[1] = "a"; /* would be the same name */
  FAILS(load_zip(&z), NEAP_EFORMAT, "two tensors named 'a'");
  z = stored, z.names[1] = "";
  FAILS(load_zip(&z), NEAP_EFORMAT, "name");
  z = stored, z.names[1] = "\xff";
  FAILS(load_zip(&z), NEAP_EFORMAT, "UTF-8");
  z = stored, z.share = true;
  FAILS(load_zip(&z), NEAP_EFORMAT, "header has another name");
  z = stored, z.share = true, z.names[1] = "a.npy";
  FAILS(load_zip(&z), NEAP_EFORMAT, "overlap");
  z = stored, z.flags = 1;
  FAILS(load_zip(&z), NEAP_ENOTSUP, "encrypted");
  z = stored, z.method = 12;
  FAILS(load_zip(&z), NEAP_ENOTSUP, "method 12");
  z = stored, z.crc[1] ^= 1;
  FAILS(load_zip(&z), NEAP_EFORMAT, "'b': damaged: CRC");
  z = stored, z.size[0]++;
  FAILS(load_zip(&z), NEAP_EFORMAT, "'a.npy': declared as");
  z = stored, z.data[1] = (const unsigned char *)"no .npy at all", z.packed[1] = z.size[1] = 14;
  FAILS(load_zip(&z), NEAP_EFORMAT, "'b.npy': does not begin as a .npy");
  z = stored, z.packed[1] = z.size[1] = 0;
  FAILS(load_zip(&z), NEAP_EFORMAT, "'b.npy': too short");
  z = stored, z.packed[1] = z.size[1] = size - 1;
  FAILS(load_zip(&z), NEAP_EFORMAT, "'b.npy': 79 bytes of elements");

  z = deflated, z.crc[0] ^= 1;
  FAILS(load_zip(&z), NEAP_EFORMAT, "damaged: CRC");
  z = deflated, z.size[0]++;
  FAILS(load_zip(&z), NEAP_EFORMAT, "'a.npy': 81 bytes of elements");
  z = deflated, z.size[0] = size - 80;
  FAILS(load_zip(&z), NEAP_EFORMAT, "'a.npy': 0 bytes of elements");
  z = deflated, z.packed[0]--;
  FAILS(load_zip(&z), NEAP_EFORMAT, "end before the deflate stream");
  z = deflated, z.size[0] = small * 1032 + 1;
  FAILS(load_zip(&z), NEAP_EFORMAT, "declared as");
  packed[small] = 0;
  z = deflated, z.packed[1] = small + 1;
  FAILS(load_zip(&z), NEAP_EFORMAT, "behind the deflate stream");
  packed[2] ^= 0x55;
  z = deflated, z.count = 1;
  CHECK(load_zip(&z) == NEAP_EFORMAT);
}

/* A header that agrees with the declared size, and a stream that gives more: the elements are
 * read, no more, and then it is seen. */
static void a_member_that_unpacks_to_more_than_declared_is_refused(void) {
  static unsigned char npy[100000], packed[2000];
  size_t size = make_npy(npy, D("'<f4'", "False", "(20,)"), 80);
  size_t small = deflate_raw(npy, sizeof npy, packed, sizeof packed);
  lies z = {.names = {"a.npy"},
            .data = {packed},
            .packed = {small},
            .size = {size},
            .count = 1,
            .crc = {(uint32_t)crc32(0, npy, (uInt)size)},
            .method = 8};
  FAILS(load_zip(&z), NEAP_EFORMAT, "other than");
}

/* ---- Memory ----------------------------------------------------------------------- */

static void sizes_that_are_not_there_ask_for_no_memory(void) {
  static unsigned char data[1000], packed[1000];
  size_t size = make_npy(data, D("'<f8'", "False", "(137438953472,)"), 8); /* 1 TiB */
  size_t small = deflate_raw(data, size, packed, sizeof packed);
  lies z = {.names = {"a.npy"},
            .data = {packed},
            .packed = {small},
            .size = {1 << 16},
            .count = 1,
            .method = 8};
  atomic_store(&memory.largest, 0);
  FAILS(load(data, size), NEAP_EFORMAT, "8 bytes of elements");
  FAILS(load_zip(&z), NEAP_EFORMAT, "bytes of elements");
  const char *header =
      T("\"dtype\":\"F64\",\"shape\":[137438953472],\"data_offsets\":[0,1099511627776]");
  FAILS(load_header(header, strlen(header), 8), NEAP_EFORMAT, "offsets");
  CHECK(atomic_load(&memory.largest) < 1 << 20);
}

int main(void) {
  context = counted_context(&memory);
  a_file_cut_short_anywhere_is_refused();
  bytes_behind_the_end_are_refused();
  one_damaged_byte_does_no_harm();
  safetensors_headers_are_read_strictly();
  deep_nesting_is_refused_without_recursion();
  a_header_length_beyond_the_file_or_100_mb_is_refused();
  npy_headers_are_read_strictly();
  archives_are_read_strictly();
  a_member_that_unpacks_to_more_than_declared_is_refused();
  sizes_that_are_not_there_ask_for_no_memory();
  neap_context_close(context);
  CHECK(atomic_load(&memory.used) == 0);
  return 0;
}
