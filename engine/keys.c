/* SPDX-License-Identifier: MIT */
/* keys.c - a table from keys to pointers.
 *
 * Open addressing with linear probing, at most half full, so that a lookup, which stands on
 * the way of every push and pull, is one hash and about one comparison. Entries are blocks of
 * their own: a key handed out stays where it is while the table grows. Deleting shifts the
 * entries behind back instead of leaving tombstones, so a table that keys come and go in does
 * not silt up. */
#include "keys.h"
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

struct neap_keys_entry {
  neap_key key; /* key.text points behind this struct */
  uint64_t hash;
  void *value;
};

enum { FIRST_SLOTS = 16 };

static size_t entry_size(const neap_key *key) {
  return sizeof(neap_keys_entry) + (key->text ? key->length + 1 : 0);
}

static uint64_t mix(uint64_t h) {
  h ^= h >> 32;
  h *= 0xd6e8feb86659fd93ull;
  h ^= h >> 32;
  return h;
}

/* Starts from the table's address: keys may come from others, who shall not be able to choose
 * texts that fall into one slot. Order is by age, so nothing visible depends on it. */
static uint64_t hash_key(const neap_keys *keys, const neap_key *key) {
  uint64_t h = (uint64_t)(uintptr_t)keys * 0x9e3779b97f4a7c15ull;
  if (!key->text) return mix(mix(h ^ (uint64_t)key->number) + 1);
  const char *text = key->text;
  size_t left = key->length;
  for (; left >= 8; left -= 8, text += 8) {
    uint64_t word;
    memcpy(&word, text, 8);
    h = mix(h ^ word);
  }
  uint64_t tail = 0;
  memcpy(&tail, text, left);
  return mix(mix(h ^ tail) ^ (uint64_t)key->length);
}

bool neap_key_equal(const neap_key *a, const neap_key *b) {
  if (!a->text || !b->text) return !a->text && !b->text && a->number == b->number;
  return a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
}

/* The slot that holds the key, or the free one where it belongs. */
static size_t find_slot(const neap_keys *keys, const neap_key *key, uint64_t hash) {
  size_t slot = hash & keys->mask;
  while (keys->slots[slot]) {
    const neap_keys_entry *entry = keys->slots[slot];
    if (entry->hash == hash && neap_key_equal(&entry->key, key)) break;
    slot = (slot + 1) & keys->mask;
  }
  return slot;
}

void *neap_keys_find(const neap_keys *keys, const neap_key *key) {
  if (!keys->slots) return NULL;
  const neap_keys_entry *entry = keys->slots[find_slot(keys, key, hash_key(keys, key))];
  return entry ? entry->value : NULL;
}

/* Makes room for one more. On failure the table is as it was. */
static int grow(neap_keys *keys) {
  size_t old = keys->slots ? keys->mask + 1 : 0;
  if (2 * ((size_t)keys->count + 1) <= old) return NEAP_OK;
  if (keys->count >= INT_MAX / 2) return neap_fail(NEAP_EINVAL, "too many keys");
  size_t size = old ? 2 * old : FIRST_SLOTS;
  neap_keys_entry **slots = neap_alloc(keys->context, size * sizeof *slots);
  if (!slots) return NEAP_ENOMEM;
  neap_keys_entry **order = neap_alloc(keys->context, size / 2 * sizeof *order);
  if (!order) {
    neap_free(keys->context, slots, size * sizeof *slots);
    return NEAP_ENOMEM;
  }
  memset(slots, 0, size * sizeof *slots);
  for (int i = 0; i < keys->count; i++) {
    order[i] = keys->order[i];
    size_t slot = order[i]->hash & (size - 1);
    while (slots[slot]) slot = (slot + 1) & (size - 1);
    slots[slot] = order[i];
  }
  neap_free(keys->context, keys->slots, old * sizeof *slots);
  neap_free(keys->context, keys->order, old / 2 * sizeof *order);
  keys->slots = slots;
  keys->order = order;
  keys->mask = size - 1;
  return NEAP_OK;
}

int neap_keys_add(neap_keys *keys, const neap_key *key, void *value) {
  NEAP_TRY(grow(keys));
  neap_keys_entry *entry = neap_alloc(keys->context, entry_size(key));
  if (!entry) return NEAP_ENOMEM;
  entry->key = *key;
  if (key->text) {
    char *copy = (char *)(entry + 1);
    memcpy(copy, key->text, key->length);
    copy[key->length] = 0;
    entry->key.text = copy;
  }
  entry->hash = hash_key(keys, key);
  entry->value = value;
  keys->slots[find_slot(keys, key, entry->hash)] = entry;
  keys->order[keys->count++] = entry;
  return NEAP_OK;
}

/* Closes the gap at `slot`: an entry further on may move up when its home does not lie behind
 * the gap, that is, when probing for it passes the gap. */
static void shift_back(neap_keys *keys, size_t slot) {
  size_t next = slot;
  for (;;) {
    next = (next + 1) & keys->mask;
    neap_keys_entry *entry = keys->slots[next];
    if (!entry) break;
    size_t home = entry->hash & keys->mask;
    if (((next - home) & keys->mask) < ((next - slot) & keys->mask)) continue;
    keys->slots[slot] = entry;
    slot = next;
  }
  keys->slots[slot] = NULL;
}

void *neap_keys_remove(neap_keys *keys, const neap_key *key) {
  if (!keys->slots) return NULL;
  size_t slot = find_slot(keys, key, hash_key(keys, key));
  neap_keys_entry *entry = keys->slots[slot];
  if (!entry) return NULL;
  shift_back(keys, slot);
  int index = keys->count - 1; /* from the end: what was added last is found at once */
  while (keys->order[index] != entry) index--;
  keys->count--;
  memmove(keys->order + index, keys->order + index + 1,
          (size_t)(keys->count - index) * sizeof *keys->order);
  void *value = entry->value;
  neap_free(keys->context, entry, entry_size(&entry->key)); /* `key` may have been its own */
  return value;
}

void neap_keys_clear(neap_keys *keys) {
  for (int i = 0; i < keys->count; i++)
    neap_free(keys->context, keys->order[i], entry_size(&keys->order[i]->key));
  size_t size = keys->slots ? keys->mask + 1 : 0;
  neap_free(keys->context, keys->slots, size * sizeof *keys->slots);
  neap_free(keys->context, keys->order, size / 2 * sizeof *keys->order);
  *keys = (neap_keys){.context = keys->context};
}

const neap_key *neap_keys_at(const neap_keys *keys, int index) {
  return index >= 0 && index < keys->count ? &keys->order[index]->key : NULL;
}

void *neap_keys_value_at(const neap_keys *keys, int index) {
  return index >= 0 && index < keys->count ? keys->order[index]->value : NULL;
}

int neap_key_check(const neap_key *key) {
  const int64_t most = (int64_t)1 << 53; /* beyond it Lua's numbers are not exact */
  if (key->text) {
    if (key->length > NEAP_KEY_LENGTH)
      return neap_fail(NEAP_EINVAL, "a key of %zu bytes; at most %d are possible", key->length,
                       NEAP_KEY_LENGTH);
  } else if (key->number < -most || key->number > most) {
    return neap_fail(NEAP_EINVAL, "key %" PRId64 ": numbers go from -2^53 to 2^53", key->number);
  }
  return NEAP_OK;
}

const char *neap_key_text(const neap_key *key, char *buffer) {
  if (!key->text) {
    snprintf(buffer, NEAP_KEY_TEXT, "key %" PRId64, key->number);
    return buffer;
  }
  enum { MOST = NEAP_KEY_TEXT - sizeof "key '...'" };
  size_t length = key->length;
  if (length > MOST) {
    length = MOST;
    while (length > 0 && ((unsigned char)key->text[length] & 0xc0) == 0x80) length--;
  }
  char *to = buffer + sprintf(buffer, "key '");
  for (size_t i = 0; i < length; i++) {
    unsigned char c = (unsigned char)key->text[i];
    *to++ = (c < 0x20 || c == 0x7f) ? '?' : (char)c;
  }
  sprintf(to, length < key->length ? "...'" : "'");
  return buffer;
}
