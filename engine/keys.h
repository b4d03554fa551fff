/* SPDX-License-Identifier: MIT */
/* keys.h - a table from keys to pointers, in the order in which they were added.
 *
 * Holds copies of the texts. Locks nothing: whoever owns a table guards it. */
#ifndef NEAP_KEYS_H
#define NEAP_KEYS_H

#include "base.h"

typedef struct neap_keys_entry neap_keys_entry; /* keys.c */

/* Zeroed memory with `context` set is an empty table. Must not be moved: hashes start from its
 * address. */
typedef struct neap_keys {
  neap_context *context;   /* whose allocator is used */
  neap_keys_entry **slots; /* by hash; `mask` + 1 of them, NULL when there are none */
  neap_keys_entry **order; /* by age; room for half as many as there are slots */
  size_t mask;
  int count;
} neap_keys;

/* Frees the table's own memory; the values are the owner's. Leaves an empty table. */
void neap_keys_clear(neap_keys *keys);

/* The value of a key, NULL if it is not there. Allocates nothing. */
void *neap_keys_find(const neap_keys *keys, const neap_key *key);

/* Adds a key that is not there yet, with a value that is not NULL. NEAP_ENOMEM, or
 * NEAP_EINVAL when the table holds INT_MAX / 2 keys; then nothing changed. Taking what was
 * added last out again gives the very table from before. */
int neap_keys_add(neap_keys *keys, const neap_key *key, void *value);

/* Takes a key out and gives its value, NULL if it was not there. Cannot fail; what is left
 * keeps its order. */
void *neap_keys_remove(neap_keys *keys, const neap_key *key);

/* By age, from 0; NULL past the last. The key is the table's own copy, valid until it is
 * removed. */
const neap_key *neap_keys_at(const neap_keys *keys, int index);
void *neap_keys_value_at(const neap_keys *keys, int index);

bool neap_key_equal(const neap_key *a, const neap_key *b);

/* NEAP_EINVAL for a number beyond 2^53 either way, or a text longer than NEAP_KEY_LENGTH. */
enum { NEAP_KEY_LENGTH = 4096 };
int neap_key_check(const neap_key *key);

/* "key 'w1'" or "key 7" into a buffer; returns it. For error texts: control characters show
 * as '?', long texts are shortened, at a character's boundary. */
enum { NEAP_KEY_TEXT = 80 };
const char *neap_key_text(const neap_key *key, char *buffer);

#endif
