/* SPDX-License-Identifier: MIT */
/* server_states.c - states of a server's optimizer, to a worker and from one; and its statistics.
 *
 * A worker asks for entry 0, 1, ... until there is none:
 *
 *   'a'   key, name, info   a state or the scalars of a key's part; the elements are the payload
 *   'c'   key, count        a key's number of updates
 *   't'   count             the whole's
 *   0                       no more
 *
 * and sends entries of the same form. */
#include "server_inside.h"
#include <stdio.h>
#include <string.h>

static int count_arrays(neap_optimizer *optimizer) {
  int count = 0;
  neap_key key;
  const char *name;
  neap_array *array;
  while (neap_optimizer_state(optimizer, count, &key, &name, &array) == NEAP_OK) {
    neap_array_close(array);
    count++;
  }
  return count;
}

static void send_count(neap_server *server, int rank, uint64_t request, const neap_key *key) {
  uint8_t meta[NEAP_META_MAX];
  neap_writer w;
  neap_writer_open(&w, meta, sizeof meta);
  int64_t count = 0;
  (void)neap_optimizer_count(server->optimizer, key, &count);
  neap_put_u8(&w, key ? 'c' : 't');
  if (key) neap_put_key(&w, key);
  neap_put_u64(&w, (uint64_t)count);
  neap_server_reply(server, rank, request, NEAP_OK, NULL, meta, neap_writer_size(&w));
}

const char *neap_server_get_state(neap_server *server, int rank, neap_incoming *in,
                                  neap_reader *r) {
  uint64_t request = in->frame.id, index = neap_get_u32(r);
  if (!neap_reader_done(r)) return "a damaged request";
  neap_key key;
  const char *name;
  neap_array *array;
  uint8_t meta[NEAP_META_MAX];
  neap_writer w;
  neap_writer_open(&w, meta, sizeof meta);
  if (!server->optimizer) {
    neap_server_reply(server, rank, request, NEAP_EINVAL, "the servers have no optimizer", NULL, 0);
    return NULL;
  }
  if (neap_optimizer_state(server->optimizer, (int)index, &key, &name, &array) == NEAP_OK) {
    neap_put_u8(&w, 'a');
    neap_put_key(&w, &key);
    neap_put_text(&w, name);
    neap_put_info(&w, neap_array_get_info(array));
    neap_server_send_array(server, rank, request, array, meta, neap_writer_size(&w));
    neap_array_close(array);
    return NULL;
  }
  uint64_t rest = index - (uint64_t)count_arrays(server->optimizer);
  if (rest < (uint64_t)server->keys.count) {
    send_count(server, rank, request, neap_keys_at(&server->keys, (int)rest));
  } else if (rest == (uint64_t)server->keys.count) {
    send_count(server, rank, request, NULL);
  } else {
    neap_put_u8(&w, 0);
    neap_server_reply(server, rank, request, NEAP_OK, NULL, meta, neap_writer_size(&w));
  }
  return NULL;
}

static int put_array(neap_server *server, neap_incoming *in, const neap_key *key, const char *name,
                     const neap_array_info *info) {
  neap_array *array;
  NEAP_TRY(neap_server_take_array(server, in, info, &array));
  int status = neap_optimizer_restore(server->optimizer, key, name, array);
  neap_array_close(array);
  return status;
}

const char *neap_server_put_state(neap_server *server, int rank, neap_incoming *in,
                                  neap_reader *r) {
  unsigned kind = neap_get_u8(r);
  neap_key key = {0};
  char name[128] = "";
  neap_array_info info = {0};
  int64_t count = 0;
  if (kind != 't') neap_get_key(r, &key);
  if (kind == 'a') {
    neap_get_text(r, name, sizeof name);
    neap_get_info(r, &info);
  } else {
    count = (int64_t)neap_get_u64(r);
  }
  if (!neap_reader_done(r) || !strchr("act", (int)kind) || !kind || info.stype != NEAP_DENSE ||
      count < 0)
    return "a damaged state";
  int status = NEAP_OK;
  if (!server->optimizer)
    status = neap_fail(NEAP_EINVAL, "the servers have no optimizer: set_optimizer first");
  else if (kind == 'a')
    status = put_array(server, in, &key, name, &info);
  else
    status = neap_optimizer_set_count(server->optimizer, kind == 't' ? NULL : &key, count);
  neap_server_reply(server, rank, in->frame.id, status, status ? neap_error() : NULL, NULL, 0);
  return NULL;
}

/* ---- Statistics ------------------------------------------------------------------------------ */

/* Who is awaited for the next round of a key, when others have pushed: "2 1,3". */
static void write_late(neap_server *server, const server_key *key, char *text, size_t size) {
  bool begun = false;
  size_t used = 0;
  text[0] = 0;
  for (int rank = 0; rank < server->roster->num_workers; rank++) {
    if (key->clocks[rank].first)
      begun = true;
    else if (neap_server_counts(server, rank) && used < size)
      used += (size_t)snprintf(text + used, size - used, used ? ",%d" : "%d", rank);
  }
  if (!begun) text[0] = 0;
}

void neap_server_log_stalls(neap_server *server, double now) {
  char late[256], name[NEAP_KEY_TEXT];
  pthread_mutex_lock(&server->lock);
  for (int i = 0; server->roster && i < server->keys.count; i++) {
    const server_key *key = neap_keys_value_at(&server->keys, i);
    int waiting = 0;
    for (server_pull *pull = key->pulls; pull; pull = pull->next) {
      if (now - pull->since < NEAP_STALL) continue;
      waiting++;
      pull->since = now;
    }
    if (!waiting) continue;
    write_late(server, key, late, sizeof late);
    neap_log(server->context, NEAP_LOG_WARN,
             "server %d: %d pulls of %s wait for %d s for pushes of worker %s", server->rank,
             waiting, neap_key_text(key->key, name), NEAP_STALL,
             late[0] ? late : "(unknown: another server has the rest of the key)");
  }
  for (server_wait *wait = server->waits; wait; wait = wait->next) {
    if (now - wait->since < NEAP_STALL) continue;
    wait->since = now;
    neap_log(server->context, NEAP_LOG_WARN,
             "server %d: worker %d waits for %d s for worker 0 to init %s", server->rank,
             wait->rank, NEAP_STALL, neap_key_text(&wait->key, name));
  }
  pthread_mutex_unlock(&server->lock);
}

const char *neap_server_stats(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  if (!neap_reader_done(r)) return "a damaged request";
  enum { SIZE = 32 << 10 };
  char *text = neap_alloc(server->context, SIZE);
  if (!text) return "no memory";
  uint64_t updates = 0, waiting = 0;
  for (int i = 0; i < server->keys.count; i++) {
    const server_key *key = neap_keys_value_at(&server->keys, i);
    updates += key->updates;
    for (const server_pull *pull = key->pulls; pull; pull = pull->next) waiting++;
  }
  size_t used = (size_t)snprintf(
      text, SIZE, "keys %d\nupdates %llu\npulls_waiting %llu\noptimizer %lld\n", server->keys.count,
      (unsigned long long)updates, (unsigned long long)waiting, (long long)server->version);
  for (int i = 0; i < server->keys.count && !server->async; i++) {
    const server_key *key = neap_keys_value_at(&server->keys, i);
    char late[256], name[NEAP_KEY_TEXT];
    write_late(server, key, late, sizeof late);
    if (late[0] && SIZE - used > 512)
      used += (size_t)snprintf(text + used, SIZE - used, "late %s of %s\n", late,
                               neap_key_text(key->key, name));
  }
  neap_server_reply_bytes(server, rank, in->frame.id, 0, text, used);
  neap_free(server->context, text, SIZE);
  return NULL;
}
