/* SPDX-License-Identifier: MIT */
/* json.h - a small strict reader of JSON (RFC 8259), for headers of known structure.
 *
 * It builds no tree: the caller says what must come next, so nesting is as deep as the
 * caller's own code and no deeper. Each function skips white space first, and returns false
 * with `problem` set and `at` at the place when something else stands there. */
#ifndef NEAP_JSON_H
#define NEAP_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct neap_json {
  char *text; /* changed: strings are decoded in place */
  size_t size, at;
  const char *problem;
} neap_json;

/* Exactly this character; it is taken. */
bool neap_json_take(neap_json *json, char want);
/* Whether this character stands next; it is not taken. Sets no problem. */
bool neap_json_next(neap_json *json, char want);
/* After an item of a list or an object that `close` ends: true if another follows (the comma
 * is taken), false at the end (`close` is taken) or with a problem set. */
bool neap_json_more(neap_json *json, char close);
/* A string, decoded where it stands and ended by a zero byte; refused if it holds one itself
 * or is not UTF-8. The pointer is good as long as the text. */
bool neap_json_string(neap_json *json, const char **out, size_t *length);
/* A whole number from 0 to 2^64 - 1, without sign, fraction, exponent or leading zeros. */
bool neap_json_uint(neap_json *json, uint64_t *out);
/* Nothing but white space is left. */
bool neap_json_end(neap_json *json);

/* Whether the bytes are well-formed UTF-8 (Unicode 15, table 3-7). */
bool neap_utf8_valid(const char *text, size_t size);

#endif
