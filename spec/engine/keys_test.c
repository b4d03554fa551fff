/* SPDX-License-Identifier: MIT */
/* keys_test.c - the key table against a plain list that does the same slowly. */
#include "spec/check.h"
#include "engine/keys.h"
#include <string.h>

enum { UNIVERSE = 700, STEPS = 60000 };

static neap_context *context;

/* Key number `i` of the universe: the kinds of texts that break tables: empty, with zero bytes,
 * prefixes of each other, long. */
static neap_key nth_key(int i, char *buffer) {
  int length = i == 0 ? 0 : sprintf(buffer, "%0*d", 1 + i % 40, i);
  if (i % 7 == 0 && length > 1) buffer[0] = 0;
  return (neap_key){.text = buffer, .length = (size_t)length};
}

static void behaves_as_a_list_of_pairs(bool texts) {
  static int list[UNIVERSE]; /* what is in, by age */
  static int values[UNIVERSE];
  int count = 0;
  unsigned seed = 1;
  neap_keys keys = {.context = context};
  for (int step = 0; step < STEPS; step++) {
    seed = seed * 1664525u + 1013904223u;
    /* Phases of growing and of shrinking. */
    int i = (int)(seed >> 8) % UNIVERSE;
    bool add = ((seed >> 4) & 15) < (step / 4000 % 2 ? 5u : 11u);
    char buffer[64];
    neap_key key = texts ? nth_key(i, buffer) : (neap_key){.number = (int64_t)(i - 350) * 1048576};
    int at = 0;
    while (at < count && list[at] != i) at++;
    CHECK(neap_keys_find(&keys, &key) == (at < count ? &values[i] : NULL));
    if (add && at == count) {
      OK(neap_keys_add(&keys, &key, &values[i]));
      memset(buffer, 'x', sizeof buffer); /* the table has a copy */
      list[count++] = i;
    } else if (!add) {
      CHECK(neap_keys_remove(&keys, &key) == (at < count ? &values[i] : NULL));
      if (at < count) {
        count--;
        memmove(list + at, list + at + 1, (size_t)(count - at) * sizeof *list);
      }
    }
    CHECK(keys.count == count);
    if (step % 500) continue;
    for (int k = 0; k < count; k++) CHECK(neap_keys_value_at(&keys, k) == &values[list[k]]);
    for (int k = 0; k < UNIVERSE; k++) {
      key = texts ? nth_key(k, buffer) : (neap_key){.number = (int64_t)(k - 350) * 1048576};
      at = 0;
      while (at < count && list[at] != k) at++;
      CHECK(neap_keys_find(&keys, &key) == (at < count ? &values[k] : NULL));
    }
  }
  CHECK(neap_keys_at(&keys, count) == NULL && neap_keys_at(&keys, -1) == NULL);
  neap_keys_clear(&keys);
  CHECK(keys.count == 0 && neap_keys_at(&keys, 0) == NULL);
}

static void a_text_is_not_the_number_it_spells(void) {
  int a, b;
  neap_keys keys = {.context = context};
  neap_key text = {.text = "7", .length = 1}, number = {.number = 7};
  OK(neap_keys_add(&keys, &text, &a));
  CHECK(neap_keys_find(&keys, &number) == NULL);
  OK(neap_keys_add(&keys, &number, &b));
  CHECK(neap_keys_find(&keys, &text) == &a && neap_keys_find(&keys, &number) == &b);
  CHECK(neap_keys_at(&keys, 0)->text[1] == 0);
  neap_keys_clear(&keys);
}

static void keys_have_limits(void) {
  neap_key key = {.number = (int64_t)1 << 53};
  OK(neap_key_check(&key));
  key.number = -key.number;
  OK(neap_key_check(&key));
  key.number--;
  CHECK(neap_key_check(&key) == NEAP_EINVAL);
  static char text[NEAP_KEY_LENGTH + 1];
  key = (neap_key){.text = text, .length = NEAP_KEY_LENGTH};
  OK(neap_key_check(&key));
  key.length++;
  CHECK(neap_key_check(&key) == NEAP_EINVAL);
}

static void texts_for_errors_are_short_and_printable(void) {
  char buffer[NEAP_KEY_TEXT];
  neap_key key = {.text = "w1", .length = 2};
  CHECK(strcmp(neap_key_text(&key, buffer), "key 'w1'") == 0);
  key = (neap_key){.number = -7};
  CHECK(strcmp(neap_key_text(&key, buffer), "key -7") == 0);
  key = (neap_key){.text = "a\nb\0c", .length = 5};
  CHECK(strcmp(neap_key_text(&key, buffer), "key 'a?b?c'") == 0);
  /* Two-byte characters, at both parities: cut between two, never within one. */
  char text[401];
  for (int odd = 0; odd < 2; odd++) {
    memset(text, 'x', sizeof text);
    for (int i = odd; i + 1 < 400; i += 2) memcpy(text + i, "\xc3\xa9", 2);
    key = (neap_key){.text = text, .length = 400};
    size_t length = strlen(neap_key_text(&key, buffer));
    CHECK(length < NEAP_KEY_TEXT && strcmp(buffer + length - 4, "...'") == 0);
    CHECK((unsigned char)buffer[length - 5] == 0xa9);
  }
}

int main(void) {
  OK(neap_context_create(NULL, &context));
  behaves_as_a_list_of_pairs(true);
  behaves_as_a_list_of_pairs(false);
  a_text_is_not_the_number_it_spells();
  keys_have_limits();
  texts_for_errors_are_short_and_printable();
  neap_context_close(context);
  return 0;
}
