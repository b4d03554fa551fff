/* SPDX-License-Identifier: MIT */
/* wire.c - frames and meta as bytes; wire.h says what they look like. */
#include "wire.h"
#include <string.h>

static const char *const names[NEAP_NUM_MESSAGES] = {
#define NEAP_MESSAGE(name) [NEAP_M_##name] = #name,
#include "messages.def"
#undef NEAP_MESSAGE
};

const char *neap_message_name(int type) {
  return type > 0 && type < NEAP_NUM_MESSAGES && names[type] ? names[type] : "?";
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static void store(uint8_t *to, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) to[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t load(const uint8_t *from, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; i++) value |= (uint64_t)from[i] << (8 * i);
  return value;
}

/* ---- Frames ---------------------------------------------------------------------------------- */

void neap_frame_write(const neap_frame *frame, uint8_t bytes[NEAP_FRAME_HEADER]) {
  bytes[0] = (uint8_t)frame->type;
  bytes[1] = (uint8_t)frame->flags;
  store(bytes + 2, frame->meta, 2);
  store(bytes + 4, frame->body, 4);
  store(bytes + 8, frame->id, 8);
  store(bytes + 16, frame->offset, 8);
  store(bytes + 24, frame->total, 8);
}

const char *neap_frame_read(const uint8_t bytes[NEAP_FRAME_HEADER], neap_frame *frame) {
  frame->type = bytes[0];
  frame->flags = bytes[1];
  frame->meta = (uint32_t)load(bytes + 2, 2);
  frame->body = (uint32_t)load(bytes + 4, 4);
  frame->id = load(bytes + 8, 8);
  frame->offset = load(bytes + 16, 8);
  frame->total = load(bytes + 24, 8);
  if (frame->type >= NEAP_NUM_MESSAGES || !names[frame->type]) return "no such type of message";
  if (frame->flags) return "unknown flags";
  if (frame->meta > NEAP_META_MAX) return "too much meta";
  if (frame->body > NEAP_SLICE_MAX) return "too large a slice";
  if (frame->total > NEAP_TOTAL_MAX) return "too large a payload";
  if (frame->offset > frame->total || frame->body > frame->total - frame->offset)
    return "a slice beyond its payload";
  if (frame->offset && frame->meta) return "meta in a later slice";
  if (!frame->body && frame->total) return "an empty slice";
  return NULL;
}

/* ---- Writing --------------------------------------------------------------------------------- */

void neap_writer_open(neap_writer *w, void *memory, size_t size) {
  w->start = w->at = memory;
  w->end = size ? w->start + size : w->start;
  w->full = false;
}

static uint8_t *room(neap_writer *w, size_t size) {
  if (w->full || (size_t)(w->end - w->at) < size) {
    w->full = true;
    return NULL;
  }
  uint8_t *at = w->at;
  w->at += size;
  return at;
}

static void put(neap_writer *w, uint64_t value, int bytes) {
  uint8_t *at = room(w, (size_t)bytes);
  if (at) store(at, value, bytes);
}

void neap_put_bytes(neap_writer *w, const void *bytes, size_t size) {
  uint8_t *at = room(w, size);
  if (at && size) memcpy(at, bytes, size);
}

void neap_put_u8(neap_writer *w, unsigned value) {
  put(w, value, 1);
}
void neap_put_u32(neap_writer *w, uint32_t value) {
  put(w, value, 4);
}
void neap_put_u64(neap_writer *w, uint64_t value) {
  put(w, value, 8);
}
void neap_put_f64(neap_writer *w, double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  put(w, bits, 8);
}

void neap_put_text(neap_writer *w, const char *text) {
  size_t length = text ? strnlen(text, NEAP_META_MAX / 2) : 0;
  neap_put_u32(w, (uint32_t)length);
  neap_put_bytes(w, text, length);
}

void neap_put_key(neap_writer *w, const neap_key *key) {
  neap_put_u8(w, key->text != NULL);
  if (key->text) {
    neap_put_u32(w, (uint32_t)key->length);
    neap_put_bytes(w, key->text, key->length);
  } else {
    neap_put_u64(w, (uint64_t)key->number);
  }
}

void neap_put_info(neap_writer *w, const neap_array_info *info) {
  neap_put_u8(w, (unsigned)info->dtype);
  neap_put_u8(w, (unsigned)info->stype);
  neap_put_u8(w, (unsigned)info->ndim);
  for (int i = 0; i < info->ndim; i++) neap_put_u64(w, (uint64_t)info->shape[i]);
}

/* ---- Reading --------------------------------------------------------------------------------- */

void neap_reader_open(neap_reader *r, const void *memory, size_t size) {
  r->at = memory;
  r->end = size ? r->at + size : r->at; /* memory may be NULL */
  r->bad = false;
}

const uint8_t *neap_get_bytes(neap_reader *r, size_t size) {
  if (r->bad || (size_t)(r->end - r->at) < size) {
    r->bad = true;
    return NULL;
  }
  const uint8_t *at = r->at;
  r->at += size;
  return at;
}

static uint64_t get(neap_reader *r, int bytes) {
  const uint8_t *at = neap_get_bytes(r, (size_t)bytes);
  return at ? load(at, bytes) : 0;
}

unsigned neap_get_u8(neap_reader *r) {
  return (unsigned)get(r, 1);
}
uint32_t neap_get_u32(neap_reader *r) {
  return (uint32_t)get(r, 4);
}
uint64_t neap_get_u64(neap_reader *r) {
  return get(r, 8);
}

double neap_get_f64(neap_reader *r) {
  uint64_t bits = get(r, 8);
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

void neap_get_text(neap_reader *r, char *buffer, size_t size) {
  buffer[0] = 0;
  uint32_t length = neap_get_u32(r);
  const uint8_t *at = length < size ? neap_get_bytes(r, length) : NULL;
  if (!at || memchr(at, 0, length)) {
    r->bad = true;
    return;
  }
  memcpy(buffer, at, length);
  buffer[length] = 0;
}

void neap_get_key(neap_reader *r, neap_key *key) {
  *key = (neap_key){0};
  unsigned kind = neap_get_u8(r);
  if (kind == 0) {
    key->number = (int64_t)neap_get_u64(r);
    if (key->number > (int64_t)1 << 53 || key->number < -((int64_t)1 << 53)) r->bad = true;
  } else {
    uint32_t length = neap_get_u32(r);
    const uint8_t *at = kind == 1 && length <= NEAP_KEY_LENGTH ? neap_get_bytes(r, length) : NULL;
    if (at) {
      key->text = (const char *)at;
      key->length = length;
    } else {
      r->bad = true;
    }
  }
}

void neap_get_info(neap_reader *r, neap_array_info *info) {
  *info = (neap_array_info){.device_type = NEAP_CPU};
  info->dtype = (int)neap_get_u8(r);
  info->stype = (int)neap_get_u8(r);
  int ndim = (int)neap_get_u8(r);
  int64_t shape[NEAP_MAX_DIM] = {0};
  if (info->dtype >= NEAP_NUM_DTYPES || info->stype > NEAP_ROW_SPARSE || ndim > NEAP_MAX_DIM)
    r->bad = true;
  for (int i = 0; i < ndim && !r->bad; i++) shape[i] = (int64_t)neap_get_u64(r);
  if (!r->bad && neap_shape_check("frame", ndim, shape, info) != NEAP_OK) r->bad = true;
  if (!r->bad && info->stype == NEAP_ROW_SPARSE && ndim == 0) r->bad = true;
  /* Bytes of all rows, and of their ids, can be counted (W1). */
  int64_t bytes = info->itemsize + (int64_t)sizeof(int64_t);
  for (int i = 0; i < ndim && !r->bad; i++)
    if (shape[i] && __builtin_mul_overflow(bytes, shape[i], &bytes)) r->bad = true;
}
