/* SPDX-License-Identifier: MIT */
/* json.c - see json.h. Strings are decoded in place, because no escape is shorter than what it
 * stands for; so reading a header of a million names needs no memory but the header's. */
#include "json.h"
#include <string.h>

static bool refuse(neap_json *json, const char *problem) {
  if (json->problem == NULL) json->problem = problem;
  return false;
}

static void skip_space(neap_json *json) {
  while (json->at < json->size) {
    char c = json->text[json->at];
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') break;
    json->at++;
  }
}

bool neap_json_next(neap_json *json, char want) {
  skip_space(json);
  return json->problem == NULL && json->at < json->size && json->text[json->at] == want;
}

bool neap_json_take(neap_json *json, char want) {
  if (!neap_json_next(json, want)) {
    switch (want) {
    case '{':
      return refuse(json, "an object ('{') should begin here");
    case '}':
      return refuse(json, "the object should end here ('}')");
    case '[':
      return refuse(json, "a list ('[') should begin here");
    case ']':
      return refuse(json, "the list should end here (']')");
    case ':':
      return refuse(json, "a colon is missing");
    case ',':
      return refuse(json, "a comma is missing");
    default:
      return refuse(json, "a string should begin here");
    }
  }
  json->at++;
  return true;
}

bool neap_json_more(neap_json *json, char close) {
  if (neap_json_next(json, ',')) {
    json->at++;
    return true;
  }
  neap_json_take(json, close);
  return false;
}

/* The length of the UTF-8 sequence at `text`, 0 if it is not well-formed: the second byte's
 * range is what rules out overlong forms, surrogates and numbers beyond U+10FFFF. */
static size_t utf8_length(const unsigned char *text, size_t size) {
  unsigned char first = text[0], low = 0x80, high = 0xBF;
  if (first < 0x80) return 1;
  size_t length = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
  if (length == 0 || length > size) return 0;
  if (first == 0xE0) low = 0xA0;
  if (first == 0xED) high = 0x9F;
  if (first == 0xF0) low = 0x90;
  if (first == 0xF4) high = 0x8F;
  if (text[1] < low || text[1] > high) return 0;
  for (size_t i = 2; i < length; i++)
    if ((text[i] & 0xC0) != 0x80) return 0;
  return length;
}

bool neap_utf8_valid(const char *text, size_t size) {
  const unsigned char *bytes = (const unsigned char *)text;
  for (size_t at = 0; at < size;) {
    size_t length = utf8_length(bytes + at, size - at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

/* Four hexadecimal digits at json->at, which moves past them. */
static bool take_hex(neap_json *json, unsigned *out) {
  unsigned value = 0;
  for (int i = 0; i < 4; i++, json->at++) {
    if (json->at >= json->size) return refuse(json, "the string does not end");
    char c = json->text[json->at];
    unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                            : 16;
    if (digit == 16) return refuse(json, "\\u wants four hexadecimal digits");
    value = value * 16 + digit;
  }
  *out = value;
  return true;
}

/* What follows "\u": one unit, or two that make a pair. Writes UTF-8 at `to`. */
static bool take_unicode(neap_json *json, char *to, size_t *length) {
  unsigned code, low;
  if (!take_hex(json, &code)) return false;
  if (code >= 0xDC00 && code <= 0xDFFF) return refuse(json, "half of a surrogate pair");
  if (code >= 0xD800 && code <= 0xDBFF) {
    if (json->size - json->at < 2 || memcmp(json->text + json->at, "\\u", 2) != 0)
      return refuse(json, "half of a surrogate pair");
    json->at += 2;
    if (!take_hex(json, &low)) return false;
    if (low < 0xDC00 || low > 0xDFFF) return refuse(json, "half of a surrogate pair");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  if (code == 0) return refuse(json, "a string with a zero byte inside");
  if (code < 0x80) {
    to[0] = (char)code;
    *length = 1;
    return true;
  }
  size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (size_t i = n - 1; i > 0; i--, code >>= 6) to[i] = (char)(0x80 | (code & 0x3F));
  to[0] = (char)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | code);
  *length = n;
  return true;
}

/* What follows a backslash. */
static bool take_escape(neap_json *json, char *to, size_t *length) {
  static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
  if (json->at >= json->size) return refuse(json, "the string does not end");
  char c = json->text[json->at];
  if (c == 'u') {
    json->at++;
    return take_unicode(json, to, length);
  }
  const char *found = c != 0 ? strchr(from, c) : NULL;
  if (found == NULL) return refuse(json, "no such escape");
  json->at++;
  to[0] = into[found - from];
  *length = 1;
  return true;
}

bool neap_json_string(neap_json *json, const char **out, size_t *length) {
  if (!neap_json_take(json, '"')) return false;
  size_t begin = json->at, to = begin;
  for (;;) {
    if (json->at >= json->size) return refuse(json, "the string does not end");
    unsigned char c = (unsigned char)json->text[json->at];
    size_t n;
    if (c == '"') break;
    if (c < 0x20) return refuse(json, "a control character in a string");
    if (c == '\\') {
      char decoded[4];
      json->at++;
      if (!take_escape(json, decoded, &n)) return false;
      memcpy(json->text + to, decoded, n);
    } else {
      n = utf8_length((const unsigned char *)json->text + json->at, json->size - json->at);
      if (n == 0) return refuse(json, "not UTF-8");
      memmove(json->text + to, json->text + json->at, n);
      json->at += n;
    }
    to += n;
  }
  json->text[to] = 0; /* at the latest over the closing quote */
  json->at++;
  *out = json->text + begin;
  *length = to - begin;
  return true;
}

bool neap_json_uint(neap_json *json, uint64_t *out) {
  skip_space(json);
  if (json->problem != NULL) return false;
  uint64_t value = 0;
  size_t begin = json->at;
  while (json->at < json->size && json->text[json->at] >= '0' && json->text[json->at] <= '9') {
    uint64_t digit = (uint64_t)(json->text[json->at] - '0');
    if (value > (UINT64_MAX - digit) / 10) return refuse(json, "a number beyond 2^64");
    value = value * 10 + digit;
    json->at++;
  }
  if (json->at == begin) return refuse(json, "a whole number from 0 should stand here");
  if (json->text[begin] == '0' && json->at > begin + 1) return refuse(json, "a leading zero");
  if (json->at < json->size && strchr(".eE", json->text[json->at]) != NULL &&
      json->text[json->at] != 0)
    return refuse(json, "not a whole number");
  *out = value;
  return true;
}

bool neap_json_end(neap_json *json) {
  skip_space(json);
  if (json->problem != NULL) return false;
  return json->at == json->size || refuse(json, "something follows the header's end");
}
