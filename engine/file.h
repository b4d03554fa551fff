/* SPDX-License-Identifier: MIT */
/* file.h - the inside of reading and writing files of arrays.
 *
 * A format's reader works in two steps, so that the first can be tested and fuzzed by
 * itself: `list` reads only headers and gives a descriptor for each tensor, every number in
 * it checked against the size of the input; `read` then brings the elements of one tensor
 * straight to where they shall lie. Readers see a neap_source, which is an open file or
 * memory; file.c makes arrays of what they found.
 *
 * Who keeps what:
 *   F1  No memory is asked for that the input's size does not justify: at most a small
 *       multiple of it for headers, and for elements as many bytes as are there (1032 times
 *       as many in a deflated member: what deflate can reach). Each `list` checks.
 *   F2  Files are read, never mapped: one that shrinks meanwhile is an error, not a signal.
 *   F3  No byte of the input is believed before it is checked; errors name the path, the
 *       tensor and the byte.
 *   F4  The path that is written to holds the old file or the whole new one, never another:
 *       neap_sink_commit() renames what neap_sink_open() made beside it. */
#ifndef NEAP_FILE_H
#define NEAP_FILE_H

#include "base.h"

/* All three formats are written little-endian, and elements go to the file as they lie in
 * memory. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are written as memory is");

/* ---- Where bytes come from --------------------------------------------- */

typedef struct neap_source {
  const char *path;           /* for error texts */
  const char *part;           /* likewise: the member or tensor being read, or NULL */
  const unsigned char *bytes; /* memory; NULL: a file, */
  int fd;                     /* read by position */
  uint64_t size;
} neap_source;

/* All of [offset, offset + size), or NEAP_EFORMAT if the source ends before, NEAP_EIO if
 * reading fails. */
int neap_source_read(const neap_source *source, uint64_t offset, void *to, size_t size);
/* NEAP_EFORMAT with the text "path: part: <format> (byte <at>)". */
__attribute__((format(printf, 3, 4))) int neap_source_bad(const neap_source *source, uint64_t at,
                                                          const char *format, ...);
/* The same with a status of one's own. */
__attribute__((format(printf, 4, 5))) int neap_source_fail(const neap_source *source, int status,
                                                           uint64_t at, const char *format, ...);

/* ---- Where bytes go: a new file beside the one it shall replace --------- */

enum { NEAP_PATH = 4096 };
typedef struct neap_sink {
  const char *path;          /* as the caller wrote it, for error texts */
  char target[NEAP_PATH];    /* the file itself, links followed */
  char temporary[NEAP_PATH]; /* "" when there is none to remove */
  int fd;                    /* -1: not open */
  uint64_t at;               /* bytes written so far */
} neap_sink;

int neap_sink_open(neap_sink *sink, const char *path);
int neap_sink_write(neap_sink *sink, const void *bytes, size_t size);
/* Makes what was written durable and puts it in place. The sink is closed, also by failure. */
int neap_sink_commit(neap_sink *sink);
/* Instead of committing: nothing is left behind. Harmless after a commit. */
void neap_sink_abort(neap_sink *sink);

/* ---- Bytes that grow ---------------------------------------------------- */

typedef struct neap_buffer {
  neap_context *context;
  char *bytes;
  size_t size, capacity;
} neap_buffer;
int neap_buffer_add(neap_buffer *buffer, const void *bytes, size_t size);
int neap_buffer_text(neap_buffer *buffer, const char *text);
int neap_buffer_number(neap_buffer *buffer, uint64_t number); /* in decimal */
void neap_buffer_free(neap_buffer *buffer);

/* Makes room for one more item in a block of *capacity items, of which `count` are used. */
int neap_grow(neap_context *context, void **block, size_t item, size_t count, size_t *capacity);

/* ---- What a file holds --------------------------------------------------- */

/* A member of a zip archive: where its bytes are. */
typedef struct neap_member {
  const char *name; /* as in the archive, ended by a zero byte */
  uint64_t local;   /* offset of its local header */
  uint64_t offset;  /* of its first byte of data */
  uint64_t packed;  /* bytes in the archive */
  uint64_t size;    /* bytes unpacked */
  uint32_t crc;     /* of the unpacked bytes */
  bool deflated;
} neap_member;

typedef struct neap_tensor {
  const char *name;
  int dtype;
  int ndim;
  int64_t shape[NEAP_MAX_DIM];
  size_t bytes;       /* of all elements: the product of shape, times the item's size */
  uint64_t offset;    /* of the first element in the file; in the member for .npz */
  bool fortran;       /* first index runs fastest */
  bool swap;          /* big-endian */
  neap_member member; /* .npz only */
  const void *data;   /* when writing: the elements */
} neap_tensor;

typedef struct neap_pair {
  const char *key, *value;
} neap_pair;

typedef struct neap_listing {
  neap_context *context;
  neap_tensor *tensors; /* in the file's order */
  neap_pair *meta;      /* by key */
  char *text;           /* what names, keys and values point into */
  size_t count, capacity, num_meta, meta_capacity, text_size;
} neap_listing;

void neap_listing_free(neap_listing *listing); /* also of a half-made one */
int neap_listing_add(neap_listing *listing, const neap_tensor *tensor);
/* When all is listed: NEAP_EFORMAT if two tensors, or two keys of the metadata, have one name.
 * Sorts the metadata by key. */
int neap_listing_finish(const neap_source *source, neap_listing *listing);
/* The entry of that key, or NULL. */
const neap_pair *neap_listing_meta(const neap_listing *listing, const char *key);

/* Fills in tensor->bytes from dtype and shape. False if a dimension is negative or the size
 * does not fit in memory, dimensions of 0 not counted: so that a shape is refused or not
 * whatever the order of its dimensions. */
bool neap_tensor_measure(neap_tensor *tensor);

/* ---- Formats -------------------------------------------------------------- */

typedef struct neap_format {
  const char *ending; /* ".npy" */
  /* Lists what the source holds. The listing was zeroed but for its context; the caller
   * frees it, also after a failure. */
  int (*list)(const neap_source *source, neap_listing *listing);
  /* Brings the elements of one listed tensor to `to`, as they lie in the file. */
  int (*read)(neap_context *context, const neap_source *source, const neap_tensor *tensor,
              void *to);
  /* Writes tensors whose names, dtypes and sizes are checked. Runs on a worker. */
  int (*write)(neap_context *context, neap_sink *sink, const neap_tensor *tensors, size_t count,
               const neap_pair *meta, size_t num_meta);
} neap_format;

extern const neap_format neap_format_npy, neap_format_npz, neap_format_safetensors;

/* The format that the source's first bytes show; NULL with NEAP_EFORMAT's text set. */
int neap_format_see(const neap_source *source, const neap_format **out);

/* neap_file_load() of any source. */
int neap_file_load_source(neap_context *context, const neap_source *source, neap_file **out);

/* ---- .npy headers, which .npz uses as well -------------------------------- */

enum {
  NEAP_NPY_START = 12,          /* so many first bytes tell the header's size */
  NEAP_NPY_MAX_HEADER = 1 << 16 /* larger ones are refused: eight dimensions need 300 bytes */
};

/* The size of the whole header (magic, version, length and text) from a file's first bytes;
 * `size` of them are there, at most NEAP_NPY_START are looked at. */
int neap_npy_header_size(const neap_source *source, const unsigned char *start, size_t size,
                         size_t *out);
/* Reads the whole header. Sets all of the tensor but its name, member and data. */
int neap_npy_parse(const neap_source *source, const unsigned char *header, size_t size,
                   neap_tensor *tensor);
/* The header NumPy would write, into `to`; returns its size. */
enum { NEAP_NPY_WRITTEN = 512 };
size_t neap_npy_header(const neap_tensor *tensor, char to[NEAP_NPY_WRITTEN]);

/* ---- Zip archives --------------------------------------------------------- */

typedef struct neap_zip {
  neap_context *context;
  neap_member *members; /* in the order of the central directory */
  char *text;           /* their names */
  size_t count, text_size;
} neap_zip;

/* Reads the central directory and checks it: members lie inside the file, one after another
 * and apart from each other, and are stored or deflated. */
int neap_zip_list(neap_context *context, const neap_source *source, neap_zip *zip);
void neap_zip_free(neap_zip *zip); /* also after a failure */

/* Reads a member from its start. `read` gives exactly so many next bytes; `finish` says
 * whether the member ended there, with the size and the CRC it declared. */
typedef struct neap_unzip neap_unzip;
int neap_unzip_open(neap_context *context, const neap_source *source, const neap_member *member,
                    neap_unzip **out);
int neap_unzip_read(neap_unzip *unzip, void *to, size_t size);
int neap_unzip_finish(neap_unzip *unzip);
void neap_unzip_close(neap_unzip *unzip);

/* Writes stored members, each in two pieces, and the directory of `zip`'s members at last.
 * `member` is filled in (its name is given). */
int neap_zip_write(neap_sink *sink, neap_member *member, const void *head, size_t head_size,
                   const void *body, size_t body_size);
int neap_zip_write_end(neap_context *context, neap_sink *sink, const neap_member *members,
                       size_t count);

#endif
