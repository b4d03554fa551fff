/* SPDX-License-Identifier: MIT */
/* wire.h - the bytes that processes of a job exchange: frames, and what stands in them.
 *
 * A connection carries frames in both directions. A message is one frame, or several when it is
 * large: its payload then travels in slices, and frames of other messages may come between.
 *
 *   bytes 0      type, one of neap_message_type
 *         1      flags, by type; 0 as yet
 *         2..3   bytes of meta                    only in the first frame of a message
 *         4..7   bytes of payload in this frame   at most NEAP_SLICE_MAX
 *         8..15  id: a reply has the id of its request; 0 where none is expected
 *        16..23  where in the payload this frame's bytes belong
 *        24..31  bytes of payload of the whole message
 *   then meta, then payload
 *
 * Numbers are little-endian. Meta is written and read by the functions below; a payload is raw
 * array memory, or text. Frames of one message come in the order of their offsets. A frame that
 * keeps none of this is a broken peer, whose connection is closed.
 *
 * Invariants:
 *   W1  Nothing read from a frame is used as a size or index before neap_frame_read() or a
 *       neap_get_ function has checked it against what is there and against a limit.
 *   W2  A reader that ran past its end, or saw something impossible, stays `bad`: callers check
 *       once, at the end. */
#ifndef NEAP_WIRE_H
#define NEAP_WIRE_H

#include "../engine/array.h"
#include "../engine/keys.h"

enum {
  NEAP_WIRE_VERSION = 1,
  NEAP_FRAME_HEADER = 32,
  NEAP_META_MAX = 8192,
  NEAP_TEXT_MAX = 1024, /* of a reply, with a zero byte */
  NEAP_SLICE_MAX = 1 << 20,
  NEAP_SMALL_MAX = 64 << 10, /* a message up to this, all told, is taken from the read buffer */
  NEAP_LIGHT_MAX = 64 << 10, /* a payload up to this goes by a lane that large ones do not block */
};
#define NEAP_TOTAL_MAX ((uint64_t)1 << 40) /* bytes of one payload */

enum neap_message_type {
  NEAP_M_NONE = 0,
#define NEAP_MESSAGE(name) NEAP_M_##name,
#include "messages.def"
#undef NEAP_MESSAGE
  NEAP_NUM_MESSAGES
};
const char *neap_message_name(int type); /* "PUSH"; "?" for none */

typedef struct neap_frame {
  int type, flags;
  uint32_t meta, body; /* bytes in this frame */
  uint64_t id, offset, total;
} neap_frame;

void neap_frame_write(const neap_frame *frame, uint8_t bytes[NEAP_FRAME_HEADER]);
/* Reads and checks a header. NULL, or what is wrong with it. */
const char *neap_frame_read(const uint8_t bytes[NEAP_FRAME_HEADER], neap_frame *frame);

/* ---- Meta ---- */

/* Writes into memory of the caller's; `full` when it was not enough. */
typedef struct neap_writer {
  uint8_t *start, *at, *end;
  bool full;
} neap_writer;

void neap_writer_open(neap_writer *w, void *memory, size_t size);
static inline size_t neap_writer_size(const neap_writer *w) {
  return (size_t)(w->at - w->start);
}
void neap_put_bytes(neap_writer *w, const void *bytes, size_t size);
void neap_put_u8(neap_writer *w, unsigned value);
void neap_put_u32(neap_writer *w, uint32_t value);
void neap_put_u64(neap_writer *w, uint64_t value);
void neap_put_f64(neap_writer *w, double value);
/* With its length in front; NULL is "". Cut at `NEAP_META_MAX / 2`. */
void neap_put_text(neap_writer *w, const char *text);
void neap_put_key(neap_writer *w, const neap_key *key);
/* dtype, stype and shape. */
void neap_put_info(neap_writer *w, const neap_array_info *info);

typedef struct neap_reader {
  const uint8_t *at, *end;
  bool bad;
} neap_reader;

void neap_reader_open(neap_reader *r, const void *memory, size_t size);
/* 0 and empty when the reader is or becomes bad. */
unsigned neap_get_u8(neap_reader *r);
uint32_t neap_get_u32(neap_reader *r);
uint64_t neap_get_u64(neap_reader *r);
double neap_get_f64(neap_reader *r);
/* `size` bytes where they lie; NULL when they are not there. */
const uint8_t *neap_get_bytes(neap_reader *r, size_t size);
/* Into a buffer, ended by a zero byte; a longer text, or one with a zero byte, is bad. */
void neap_get_text(neap_reader *r, char *buffer, size_t size);
/* The text stays where it lies and has no zero byte at its end. */
void neap_get_key(neap_reader *r, neap_key *key);
/* A shape that an array can have, checked; on cpu(0). */
void neap_get_info(neap_reader *r, neap_array_info *info);
/* Whether all was there, and nothing is left. */
static inline bool neap_reader_done(const neap_reader *r) {
  return !r->bad && r->at == r->end;
}

#endif
