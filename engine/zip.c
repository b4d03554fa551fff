/* SPDX-License-Identifier: MIT */
/* zip.c - as much of zip archives as .npz needs (PKWARE's APPNOTE 6.3.9).
 *
 * An archive is read from its end: the last record tells where the central directory is, the
 * directory tells all of each member (sizes, CRC, method) and where its local header is. Of the
 * local header only what places the data is used, so members whose sizes were unknown when
 * they were begun (data descriptors) need nothing of their own. Zip64 fields are read wherever
 * they may stand, and written where a number needs them.
 *
 * An archive that means harm declares sizes that are not there, or lets many members share the
 * same bytes. So: no member may be larger than deflate can make it of its bytes, none may
 * overlap another, and what is unpacked must have just the size and CRC declared. */
#include "file.h"
#include "json.h" /* neap_utf8_valid */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

enum {
  LOCAL = 0x04034b50,
  CENTRAL = 0x02014b50,
  END = 0x06054b50,
  END64 = 0x06064b50,
  LOCATOR64 = 0x07064b50,
  LOCAL_SIZE = 30,
  CENTRAL_SIZE = 46,
  END_SIZE = 22,
  END64_SIZE = 56,
  LOCATOR64_SIZE = 20,
  EXTRA64 = 1,         /* the extra field that holds zip64 numbers */
  DEFLATE_MOST = 1032, /* bytes out of one byte: 258 for two bits */
  MAX16 = 0xFFFF,
  INPUT = 1 << 14, /* packed bytes read at a time */
  PIECE = 1 << 18  /* unpacked ones, so that the CRC finds them in the cache */
};
#define MAX32 UINT32_C(0xFFFFFFFF)

/* Little-endian numbers of `size` bytes. */
static uint64_t get(const void *from, int size) {
  const unsigned char *bytes = from;
  uint64_t value = 0;
  for (int i = size - 1; i >= 0; i--) value = value << 8 | bytes[i];
  return value;
}

static void put(unsigned char *to, int size, uint64_t value) {
  for (int i = 0; i < size; i++, value >>= 8) to[i] = (unsigned char)value;
}

/* ---- The directory -------------------------------------------------------- */

typedef struct directory {
  uint64_t offset, size, count;
  uint64_t end; /* where the end records begin: all before may be members and directory */
} directory;

/* The zip64 end record, when there is one in front of the end record at `end`. */
static int find_end64(const neap_source *source, uint64_t end, directory *out) {
  unsigned char locator[LOCATOR64_SIZE], record[END64_SIZE];
  if (end < LOCATOR64_SIZE + END64_SIZE) return NEAP_OK;
  NEAP_TRY(neap_source_read(source, end - LOCATOR64_SIZE, locator, sizeof locator));
  if (get(locator, 4) != LOCATOR64) return NEAP_OK;
  uint64_t at = get(locator + 8, 8);
  if (at > end - LOCATOR64_SIZE - END64_SIZE)
    return neap_source_bad(source, end - LOCATOR64_SIZE, "the zip64 end record is not there");
  NEAP_TRY(neap_source_read(source, at, record, sizeof record));
  if (get(record, 4) != END64)
    return neap_source_bad(source, at, "the zip64 end record is not there");
  if (get(record + 16, 4) != 0 || get(record + 20, 4) != 0 ||
      get(record + 24, 8) != get(record + 32, 8))
    return neap_source_bad(source, at, "a zip archive of several files");
  out->count = get(record + 32, 8);
  out->size = get(record + 40, 8);
  out->offset = get(record + 48, 8);
  out->end = at;
  return NEAP_OK;
}

/* The end record is the last thing in the file but for a comment, whose length it tells. */
static int find_directory(neap_context *context, const neap_source *source, directory *out) {
  size_t size = source->size < END_SIZE + MAX16 ? (size_t)source->size : END_SIZE + MAX16;
  uint64_t from = source->size - size;
  unsigned char *tail = neap_alloc(context, size + 1);
  if (tail == NULL) return NEAP_ENOMEM;
  int status = neap_source_read(source, from, tail, size);
  bool found = false;
  for (size_t at = size; status == NEAP_OK && !found && at-- > 0;) {
    const unsigned char *end = tail + at;
    if (size - at < END_SIZE || get(end, 4) != END || get(end + 20, 2) != size - at - END_SIZE)
      continue;
    found = true;
    *out = (directory){get(end + 16, 4), get(end + 12, 4), get(end + 10, 2), from + at};
    if (get(end + 4, 2) != get(end + 6, 2) || get(end + 8, 2) != out->count)
      status = neap_source_bad(source, from + at, "a zip archive of several files");
    else
      status = find_end64(source, from + at, out);
  }
  neap_free(context, tail, size + 1);
  NEAP_TRY(status);
  if (!found)
    return neap_source_bad(source, source->size,
                           "the zip archive's end record is missing: the file is cut short");
  if (out->offset > out->end || out->size > out->end - out->offset ||
      out->count > out->size / CENTRAL_SIZE)
    return neap_source_bad(source, out->end,
                           "the zip archive's directory (%" PRIu64 " members, %" PRIu64
                           " bytes at %" PRIu64 ") does not fit into the file",
                           out->count, out->size, out->offset);
  return NEAP_OK;
}

/* Numbers that did not fit into 32 bits stand in an extra field, in this order. */
static bool read_extra64(const unsigned char *extra, size_t size, neap_member *member) {
  uint64_t *wanted[3];
  int count = 0;
  if (member->size == MAX32) wanted[count++] = &member->size;
  if (member->packed == MAX32) wanted[count++] = &member->packed;
  if (member->local == MAX32) wanted[count++] = &member->local;
  while (size >= 4) {
    size_t id = (size_t)get(extra, 2), length = (size_t)get(extra + 2, 2);
    extra += 4;
    size -= 4;
    if (length > size) return false;
    if (id == EXTRA64) {
      if (length < 8 * (size_t)count) return false;
      for (int i = 0; i < count; i++) *wanted[i] = get(extra + 8 * i, 8);
      return true;
    }
    extra += length;
    size -= length;
  }
  return true; /* a size of just 2^32 - 1, perhaps: the checks to come will tell */
}

/* One entry of the directory, `room` bytes of which are left; gives the entry's size. */
static int read_central(const neap_source *source, unsigned char *entry, size_t room, uint64_t at,
                        neap_member *member, size_t *size) {
  if (room < CENTRAL_SIZE || get(entry, 4) != CENTRAL)
    return neap_source_bad(source, at, "no entry of the zip directory, where one should be");
  size_t name = (size_t)get(entry + 28, 2), extra = (size_t)get(entry + 30, 2);
  *size = CENTRAL_SIZE + name + extra + (size_t)get(entry + 32, 2);
  if (*size > room) return neap_source_bad(source, at, "an entry beyond the zip directory's end");
  unsigned flags = (unsigned)get(entry + 8, 2), method = (unsigned)get(entry + 10, 2);
  *member = (neap_member){.crc = (uint32_t)get(entry + 16, 4),
                          .packed = get(entry + 20, 4),
                          .size = get(entry + 24, 4),
                          .local = get(entry + 42, 4),
                          .deflated = method == Z_DEFLATED};
  bool fits = read_extra64(entry + CENTRAL_SIZE + name, extra, member);
  /* The name moves to the entry's start, which has been read, and so has room for its end. */
  memmove(entry, entry + CENTRAL_SIZE, name);
  entry[name] = 0;
  member->name = (const char *)entry;
  if (name == 0 || memchr(entry, 0, name) != NULL || !neap_utf8_valid(member->name, name))
    return neap_source_bad(source, at + CENTRAL_SIZE,
                           "a member's name is empty, or is not UTF-8 text");
  neap_source part = *source;
  part.part = member->name;
  if (!fits) return neap_source_bad(&part, 0, "an extra field that does not fit");
  if (flags & 1) return neap_source_fail(&part, NEAP_ENOTSUP, 0, "it is encrypted");
  if (method != 0 && method != Z_DEFLATED)
    return neap_source_fail(&part, NEAP_ENOTSUP, 0,
                            "compressed by method %u; stored and deflated are read", method);
  if (member->deflated ? member->size > 0 && (member->size - 1) / DEFLATE_MOST >= member->packed
                       : member->size != member->packed)
    return neap_source_bad(&part, 0,
                           "declared as %" PRIu64 " bytes, which %" PRIu64 " packed ones cannot be",
                           member->size, member->packed);
  return NEAP_OK;
}

/* Finds the member's data behind its local header; it must end before `end`. */
static int read_local(const neap_source *source, neap_member *member, uint64_t end) {
  unsigned char header[LOCAL_SIZE], piece[256];
  neap_source part = *source;
  part.part = member->name;
  if (end < LOCAL_SIZE || member->local > end - LOCAL_SIZE)
    return neap_source_bad(&part, 0, "its local header is not there");
  NEAP_TRY(neap_source_read(source, member->local, header, sizeof header));
  uint64_t name = get(header + 26, 2);
  member->offset = member->local + LOCAL_SIZE + name + get(header + 28, 2);
  if (get(header, 4) != LOCAL || name != strlen(member->name) ||
      get(header + 8, 2) != (member->deflated ? Z_DEFLATED : 0))
    return neap_source_bad(&part, 0, "its local header is not there, or tells of another member");
  if (member->offset > end || member->packed > end - member->offset)
    return neap_source_bad(&part, 0, "%" PRIu64 " bytes at %" PRIu64 " do not fit into the file",
                           member->packed, member->offset);
  for (uint64_t at = 0; at < name; at += sizeof piece) {
    size_t n = name - at < sizeof piece ? (size_t)(name - at) : sizeof piece;
    NEAP_TRY(neap_source_read(source, member->local + LOCAL_SIZE + at, piece, n));
    if (memcmp(piece, member->name + at, n) != 0)
      return neap_source_bad(&part, 0, "its local header has another name");
  }
  return NEAP_OK;
}

static int by_place(const void *a, const void *b) {
  const neap_member *x = *(const neap_member *const *)a, *y = *(const neap_member *const *)b;
  return x->local < y->local ? -1 : x->local > y->local;
}

static int check_apart(const neap_source *source, const neap_zip *zip) {
  size_t bytes = zip->count * sizeof(neap_member *) + 1; /* fits: members are larger */
  const neap_member **order = neap_alloc(zip->context, bytes);
  int status = NEAP_OK;
  if (order == NULL) return NEAP_ENOMEM;
  for (size_t i = 0; i < zip->count; i++) order[i] = &zip->members[i];
  qsort(order, zip->count, sizeof order[0], by_place);
  for (size_t i = 1; i < zip->count && status == NEAP_OK; i++)
    if (order[i]->local < order[i - 1]->offset + order[i - 1]->packed)
      status = neap_source_bad(source, order[i]->local, "members '%.100s' and '%.100s' overlap",
                               order[i - 1]->name, order[i]->name);
  neap_free(zip->context, order, bytes);
  return status;
}

int neap_zip_list(neap_context *context, const neap_source *source, neap_zip *zip) {
  directory dir = {0};
  *zip = (neap_zip){.context = context};
  NEAP_TRY(find_directory(context, source, &dir));
  size_t bytes; /* the count is no larger than the directory: find_directory() */
  if (dir.size > SIZE_MAX - 1 || !neap_mul_size((size_t)dir.count, sizeof(neap_member), &bytes))
    return neap_source_bad(source, dir.offset, "a zip directory larger than any memory");
  zip->text = neap_alloc(context, (size_t)dir.size + 1);
  if (zip->text == NULL) return NEAP_ENOMEM;
  zip->text_size = (size_t)dir.size + 1;
  if (dir.count > 0 && (zip->members = neap_alloc(context, bytes)) == NULL) return NEAP_ENOMEM;
  NEAP_TRY(neap_source_read(source, dir.offset, zip->text, (size_t)dir.size));
  zip->count = (size_t)dir.count;
  size_t at = 0, size = 0;
  for (size_t i = 0; i < zip->count; i++, at += size) {
    NEAP_TRY(read_central(source, (unsigned char *)zip->text + at, (size_t)dir.size - at,
                          dir.offset + at, &zip->members[i], &size));
    NEAP_TRY(read_local(source, &zip->members[i], dir.offset));
  }
  return check_apart(source, zip);
}

void neap_zip_free(neap_zip *zip) {
  neap_free(zip->context, zip->members, zip->count * sizeof(neap_member));
  neap_free(zip->context, zip->text, zip->text_size);
  *zip = (neap_zip){.context = zip->context};
}

/* ---- Unpacking -------------------------------------------------------------- */

struct neap_unzip {
  neap_context *context;
  neap_source source; /* its part: the member's name */
  neap_member member;
  uint64_t in, out; /* bytes read of the archive, bytes given */
  uLong crc;
  z_stream stream;
  bool begun, ended; /* the deflate stream */
  unsigned char input[INPUT];
};

/* zlib's memory comes from the context as well; its free function is not told the size, so
 * that stands in front of each block. */
enum { PREFIX = 16 };
static voidpf zlib_alloc(voidpf context, uInt items, uInt size) {
  size_t bytes;
  if (!neap_mul_size(items, size, &bytes) || !neap_add_size(bytes, PREFIX, &bytes)) return Z_NULL;
  char *block = neap_alloc(context, bytes);
  if (block == NULL) return Z_NULL;
  memcpy(block, &bytes, sizeof bytes);
  return block + PREFIX;
}

static void zlib_free(voidpf context, voidpf address) {
  size_t bytes;
  if (address == Z_NULL) return;
  char *block = (char *)address - PREFIX;
  memcpy(&bytes, block, sizeof bytes);
  neap_free(context, block, bytes);
}

int neap_unzip_open(neap_context *context, const neap_source *source, const neap_member *member,
                    neap_unzip **out) {
  neap_unzip *unzip = neap_alloc(context, sizeof *unzip);
  if (unzip == NULL) return NEAP_ENOMEM;
  unzip->context = context;
  unzip->source = *source;
  unzip->source.part = member->name;
  unzip->member = *member;
  unzip->in = unzip->out = 0;
  unzip->crc = crc32_z(0, Z_NULL, 0);
  unzip->stream = (z_stream){.zalloc = zlib_alloc, .zfree = zlib_free, .opaque = context};
  unzip->begun = unzip->ended = false;
  if (member->deflated) {
    if (inflateInit2(&unzip->stream, -MAX_WBITS) != Z_OK) { /* raw: no zlib header */
      neap_unzip_close(unzip);
      return neap_fail(NEAP_ENOMEM, "%s: no memory to unpack with", source->path);
    }
    unzip->begun = true;
  }
  *out = unzip;
  return NEAP_OK;
}

/* Runs the deflate stream until `to` is full or the stream ends. */
static int inflate_to(neap_unzip *unzip, unsigned char *to, size_t size, size_t *given) {
  z_stream *stream = &unzip->stream;
  *given = 0;
  while (*given < size && !unzip->ended) {
    if (stream->avail_in == 0) {
      uint64_t left = unzip->member.packed - unzip->in;
      if (left == 0)
        return neap_source_bad(&unzip->source, unzip->out,
                               "its packed bytes end before the deflate stream does");
      size_t n = left < INPUT ? (size_t)left : INPUT;
      NEAP_TRY(neap_source_read(&unzip->source, unzip->member.offset + unzip->in, unzip->input, n));
      unzip->in += n;
      stream->next_in = unzip->input;
      stream->avail_in = (uInt)n;
    }
    size_t most = size - *given; /* at most PIECE */
    stream->next_out = to + *given;
    stream->avail_out = (uInt)most;
    int code = inflate(stream, Z_NO_FLUSH);
    *given += most - stream->avail_out;
    if (code == Z_STREAM_END)
      unzip->ended = true;
    else if (code == Z_MEM_ERROR)
      return neap_fail(NEAP_ENOMEM, "%s: no memory to unpack with", unzip->source.path);
    else if (code != Z_OK && code != Z_BUF_ERROR)
      return neap_source_bad(&unzip->source, unzip->out + *given, "damaged packed bytes (%s)",
                             stream->msg != NULL ? stream->msg : "zlib gives no reason");
  }
  return NEAP_OK;
}

int neap_unzip_read(neap_unzip *unzip, void *to, size_t size) {
  const neap_member *member = &unzip->member;
  if (size > member->size - unzip->out)
    return neap_source_bad(&unzip->source, member->size, "it ends too early");
  for (size_t done = 0; done < size;) {
    unsigned char *piece = (unsigned char *)to + done;
    size_t n = size - done < PIECE ? size - done : PIECE, given = n;
    if (member->deflated)
      NEAP_TRY(inflate_to(unzip, piece, n, &given));
    else
      NEAP_TRY(neap_source_read(&unzip->source, member->offset + unzip->out, piece, n));
    unzip->crc = crc32_z(unzip->crc, piece, given);
    unzip->out += given;
    done += given;
    if (given < n)
      return neap_source_bad(&unzip->source, unzip->out,
                             "unpacks to less than the %" PRIu64 " bytes declared", member->size);
  }
  return NEAP_OK;
}

int neap_unzip_finish(neap_unzip *unzip) {
  unsigned char more;
  size_t given = 0;
  if (unzip->member.deflated) {
    NEAP_TRY(inflate_to(unzip, &more, 1, &given));
    if (given > 0 || unzip->out != unzip->member.size)
      return neap_source_bad(&unzip->source, unzip->out,
                             "unpacks to other than the %" PRIu64 " bytes declared",
                             unzip->member.size);
    if (unzip->in != unzip->member.packed || unzip->stream.avail_in > 0)
      return neap_source_bad(&unzip->source, unzip->out, "packed bytes behind the deflate stream");
  }
  if (unzip->crc != unzip->member.crc)
    return neap_source_bad(&unzip->source, unzip->out,
                           "damaged: CRC %08lx, where %08" PRIx32 " was declared", unzip->crc,
                           unzip->member.crc);
  return NEAP_OK;
}

void neap_unzip_close(neap_unzip *unzip) {
  if (unzip == NULL) return;
  if (unzip->begun) inflateEnd(&unzip->stream);
  neap_free(unzip->context, unzip, sizeof *unzip);
}

/* ---- Writing ------------------------------------------------------------------ */

/* The fields that local and central headers share, from "version needed" to "extra length":
 * 26 bytes. The date is the first that zip knows, so that equal arrays make equal files. */
static void put_common(unsigned char to[26], const neap_member *member, size_t extra) {
  size_t name = strlen(member->name);
  bool ascii = true;
  for (size_t i = 0; i < name; i++) ascii = ascii && (unsigned char)member->name[i] < 0x80;
  put(to, 2, extra > 0 ? 45 : 20);
  put(to + 2, 2, ascii ? 0 : 1 << 11); /* the name is UTF-8 */
  put(to + 4, 2, 0);                   /* stored */
  put(to + 6, 2, 0);
  put(to + 8, 2, 1 << 5 | 1); /* 1980-01-01 */
  put(to + 10, 4, member->crc);
  put(to + 14, 4, member->size < MAX32 ? member->size : MAX32);
  put(to + 18, 4, member->size < MAX32 ? member->size : MAX32);
  put(to + 22, 2, name);
  put(to + 24, 2, extra);
}

int neap_zip_write(neap_sink *sink, neap_member *member, const void *head, size_t head_size,
                   const void *body, size_t body_size) {
  unsigned char header[LOCAL_SIZE], extra[20];
  uLong crc = crc32_z(crc32_z(0, Z_NULL, 0), head, head_size);
  member->crc = (uint32_t)(body_size > 0 ? crc32_z(crc, body, body_size) : crc);
  member->size = member->packed = (uint64_t)head_size + body_size;
  member->local = sink->at;
  size_t extra_size = member->size < MAX32 ? 0 : sizeof extra;
  put(header, 4, LOCAL);
  put_common(header + 4, member, extra_size);
  put(extra, 2, EXTRA64);
  put(extra + 2, 2, 16);
  put(extra + 4, 8, member->size);
  put(extra + 12, 8, member->packed);
  NEAP_TRY(neap_sink_write(sink, header, sizeof header));
  NEAP_TRY(neap_sink_write(sink, member->name, strlen(member->name)));
  NEAP_TRY(neap_sink_write(sink, extra, extra_size));
  NEAP_TRY(neap_sink_write(sink, head, head_size));
  return neap_sink_write(sink, body, body_size);
}

static int put_central(neap_buffer *out, const neap_member *member) {
  unsigned char header[CENTRAL_SIZE] = {0}, extra[28];
  size_t extra_size = 4;
  if (member->size >= MAX32) {
    put(extra + 4, 8, member->size);
    put(extra + 12, 8, member->packed);
    extra_size = 20;
  }
  if (member->local >= MAX32) {
    put(extra + extra_size, 8, member->local);
    extra_size += 8;
  }
  if (extra_size == 4) extra_size = 0;
  put(extra, 2, EXTRA64);
  put(extra + 2, 2, extra_size - 4);
  put(header, 4, CENTRAL);
  put_common(header + 6, member, extra_size);
  put(header + 4, 2, 3 << 8 | get(header + 6, 2)); /* made on Unix */
  put(header + 38, 4, (uint64_t)0100644 << 16);    /* a plain file, rw-r--r-- */
  put(header + 42, 4, member->local < MAX32 ? member->local : MAX32);
  NEAP_TRY(neap_buffer_add(out, header, sizeof header));
  NEAP_TRY(neap_buffer_text(out, member->name));
  return neap_buffer_add(out, extra, extra_size);
}

int neap_zip_write_end(neap_context *context, neap_sink *sink, const neap_member *members,
                       size_t count) {
  neap_buffer dir = {.context = context};
  unsigned char end64[END64_SIZE] = {0}, locator[LOCATOR64_SIZE] = {0}, end[END_SIZE] = {0};
  uint64_t offset = sink->at;
  int status = NEAP_OK;
  for (size_t i = 0; i < count && status == NEAP_OK; i++) status = put_central(&dir, &members[i]);
  uint64_t size = dir.size;
  if (status == NEAP_OK && (count >= MAX16 || size >= MAX32 || offset >= MAX32)) {
    put(end64, 4, END64);
    put(end64 + 4, 8, END64_SIZE - 12);
    put(end64 + 12, 2, 3 << 8 | 45);
    put(end64 + 14, 2, 45);
    put(end64 + 24, 8, count);
    put(end64 + 32, 8, count);
    put(end64 + 40, 8, size);
    put(end64 + 48, 8, offset);
    put(locator, 4, LOCATOR64);
    put(locator + 8, 8, offset + size);
    put(locator + 16, 4, 1);
    status = neap_buffer_add(&dir, end64, sizeof end64);
    if (status == NEAP_OK) status = neap_buffer_add(&dir, locator, sizeof locator);
  }
  put(end, 4, END);
  put(end + 8, 2, count < MAX16 ? count : MAX16);
  put(end + 10, 2, count < MAX16 ? count : MAX16);
  put(end + 12, 4, size < MAX32 ? size : MAX32);
  put(end + 16, 4, offset < MAX32 ? offset : MAX32);
  if (status == NEAP_OK) status = neap_buffer_add(&dir, end, sizeof end);
  if (status == NEAP_OK) status = neap_sink_write(sink, dir.bytes, dir.size);
  neap_buffer_free(&dir);
  return status;
}
