/* SPDX-License-Identifier: MIT */
/* server_values.c - what a server sends: values, and rows of them.
 *
 * A value that nothing is queued on is sent from where it lies; the update that comes next finds it
 * held and works on a copy (K3). Otherwise the engine is asked to send it when its turn has come.
 */
#include "../engine/array_work.h"
#include "../engine/sparse.h"
#include "server_inside.h"
#include <stdio.h>
#include <string.h>

enum { COPIED = 8 << 10 /* values up to this are copied instead of held */ };

/* ---- Values ---------------------------------------------------------------------------------- */

int neap_server_value_new(neap_server *server, neap_array *array, server_value **out) {
  server_value *value = neap_alloc(server->context, sizeof *value);
  if (!value) return NEAP_ENOMEM;
  value->context = server->context;
  value->array = array;
  atomic_init(&value->refs, 1);
  *out = value;
  return NEAP_OK;
}

void neap_server_value_drop(server_value *value) {
  if (!value || atomic_fetch_sub_explicit(&value->refs, 1, memory_order_acq_rel) != 1) return;
  neap_array_close(value->array);
  neap_free(value->context, value, sizeof *value);
}

/* ---- Replies with a payload ------------------------------------------------------------------ */

/* A reply on its way, and what it is sent from: a value, an array of its own, or bytes behind it.
 */
typedef struct answer {
  neap_message message;
  neap_context *context;
  atomic_int *counter;
  neap_session *session; /* held until it is sent */
  server_value *value;
  neap_array *array;
  size_t size;  /* of this block: */
  size_t extra; /* bytes of meta behind the status, which stand first, */
  size_t room;  /* and a copy of the payload, if there is room for one */
  uint8_t bytes[];
} answer;

enum { STATUS_META = 16 };

static void answer_free(answer *a) {
  neap_server_value_drop(a->value);
  neap_array_close(a->array);
  if (a->session) neap_session_release(a->session);
  atomic_int *counter = a->counter;
  neap_free(a->context, a, a->size);
  atomic_fetch_sub(counter, 1);
}

static void answer_done(neap_message *message, bool sent) {
  (void)sent;
  answer_free((answer *)message);
}

static answer *answer_new(neap_server *server, neap_session *session, uint64_t request,
                          int priority, size_t extra, size_t room) {
  size_t size = sizeof(answer) + STATUS_META + extra + room;
  answer *a = neap_alloc(server->context, size);
  if (!a) return NULL;
  memset(a, 0, sizeof *a);
  a->context = server->context;
  a->size = size;
  a->extra = extra;
  a->room = room;
  a->session = session;
  a->counter = &server->answers;
  atomic_fetch_add(a->counter, 1);
  neap_session_hold(session);
  a->message.frame.type = NEAP_M_REPLY;
  a->message.frame.id = request;
  a->message.priority = priority;
  a->message.done = answer_done;
  a->message.meta = a->bytes;
  return a;
}

static uint8_t *answer_extra(answer *a) {
  return a->bytes + STATUS_META;
}

/* Fills in the payload: where it lies, or a copy of what is small, when there is room for one. */
static void answer_point(answer *a, const void *bytes, size_t size) {
  if (size && a->room >= size) {
    uint8_t *copy = a->bytes + STATUS_META + a->extra;
    memcpy(copy, bytes, size);
    bytes = copy;
  }
  a->message.payload[0] = bytes;
  a->message.sizes[0] = size;
}

/* The status, and what stands behind it already. */
static void answer_send(answer *a) {
  neap_writer w;
  neap_writer_open(&w, a->bytes, STATUS_META);
  neap_put_u32(&w, NEAP_OK);
  neap_put_text(&w, NULL);
  size_t status = neap_writer_size(&w);
  memmove(a->bytes + status, answer_extra(a), a->extra);
  a->message.frame.meta = (uint32_t)(status + a->extra);
  neap_session_send(a->session, &a->message);
}

static size_t bytes_of(const neap_array *array) {
  const neap_array_info *info = neap_array_get_info(array);
  return (size_t)info->size * (size_t)info->itemsize;
}

/* ---- Through the engine ---------------------------------------------------------------------- */

/* An operation that reads an array and sends it. Skipped, it says why. */
typedef struct sending {
  answer *answer; /* NULL once sent */
  neap_array *array;
} sending;

static int run_send(neap_task *task, void *arg) {
  sending *s = arg;
  const neap_array *array = s->array;
  (void)task;
  if (neap_array_get_info(array)->stype == NEAP_DENSE) {
    answer_point(s->answer, neap_array_at_data(array), bytes_of(array));
    answer_send(s->answer);
  } else {
    const neap_chunk *chunk = array->chunk;
    uint64_t rows = (uint64_t)chunk->rows;
    const neap_array_info *info = neap_array_get_info(array);
    s->answer->message.payload[0] = chunk->ids;
    s->answer->message.sizes[0] = (size_t)rows * sizeof(int64_t);
    s->answer->message.payload[1] = chunk->data;
    s->answer->message.sizes[1] =
        (size_t)rows * (size_t)neap_row_size(info) * (size_t)info->itemsize;
    neap_writer w;
    neap_writer_open(&w, answer_extra(s->answer), s->answer->extra);
    neap_put_u64(&w, rows);
    answer_send(s->answer);
  }
  s->answer = NULL;
  return NEAP_OK;
}

static void send_over(void *arg) {
  sending *s = arg;
  if (!s->answer) return;
  neap_session_reply(s->answer->session, s->answer->message.frame.id, 0, NEAP_EFAILED,
                     "pull: an update of this key failed on the server", NULL, 0);
  answer_free(s->answer);
}

/* Sends `array` when its turn has come; takes the answer over. */
static bool queue_send(neap_server *server, answer *a, neap_array *array) {
  neap_work *work = neap_work_new(server->context, "send", run_send, sizeof(sending), 1, 0);
  if (!work) return false;
  sending *s = neap_work_payload(work);
  *s = (sending){a, array};
  neap_work_set_done(work, send_over);
  neap_work_read(work, neap_array_var(array));
  neap_work_set_quick(work, true);
  neap_work_submit(work);
  return true;
}

/* ---- Pulls ----------------------------------------------------------------------------------- */

static bool no_memory(neap_server *server, const server_pull *pull, answer *a) {
  if (a) answer_free(a);
  neap_server_reply(server, pull->rank, pull->request, NEAP_ENOMEM, "pull: no memory", NULL, 0);
  return false;
}

/* A temporary array of the key's shape, and the work that fills it. */
static int fill_temporary(neap_server *server, const server_key *key, int stype, neap_array *ids,
                          neap_array **out) {
  neap_array_info info = key->info;
  info.stype = stype;
  neap_array *array = NULL;
  NEAP_TRY(neap_array_new(server->context, &info, &array));
  neap_work *work = ids ? neap_retain_work(key->value->array, ids, array)
                        : neap_copy_work(key->value->array, array);
  if (!work) {
    neap_array_close(array);
    return NEAP_ENOMEM;
  }
  neap_work_submit(work);
  *out = array;
  return NEAP_OK;
}

static bool send_dense(neap_server *server, server_key *key, const server_pull *pull) {
  neap_session *session = server->workers[pull->rank].session;
  neap_array *array = key->value->array;
  size_t size = (size_t)key->info.size * (size_t)key->info.itemsize;
  size_t copy = size <= COPIED ? size : 0;
  answer *a = answer_new(server, session, pull->request, pull->priority, 0, copy);
  if (!a) return no_memory(server, pull, NULL);
  if (neap_array_get_info(array)->stype != NEAP_DENSE) {
    if (fill_temporary(server, key, NEAP_DENSE, NULL, &a->array) != NEAP_OK)
      return no_memory(server, pull, a);
    return queue_send(server, a, a->array) || no_memory(server, pull, a);
  }
  if (!copy) {
    a->value = key->value;
    atomic_fetch_add(&a->value->refs, 1);
  }
  if (neap_var_idle(neap_array_var(array)) && !neap_var_failed(neap_array_var(array))) {
    answer_point(a, neap_array_at_data(array), size);
    answer_send(a);
    return true;
  }
  return queue_send(server, a, array) || no_memory(server, pull, a);
}

static bool send_rows(neap_server *server, server_key *key, const server_pull *pull) {
  neap_session *session = server->workers[pull->rank].session;
  answer *a = answer_new(server, session, pull->request, pull->priority, sizeof(uint64_t), 0);
  if (!a) return no_memory(server, pull, NULL);
  neap_array *ids = NULL;
  int status = NEAP_OK;
  if (pull->ids) {
    int64_t shape[1] = {pull->num_ids};
    status = neap_array_create(server->context, NEAP_INT64, 1, shape, NEAP_CPU, 0, &ids);
    if (status == NEAP_OK)
      memcpy(neap_array_at_data(ids), pull->ids, (size_t)pull->num_ids * sizeof(int64_t));
  }
  if (status == NEAP_OK) status = fill_temporary(server, key, NEAP_ROW_SPARSE, ids, &a->array);
  neap_array_close(ids);
  if (status != NEAP_OK) return no_memory(server, pull, a);
  return queue_send(server, a, a->array) || no_memory(server, pull, a);
}

void neap_server_send_array(neap_server *server, int rank, uint64_t request, neap_array *array,
                            const void *meta, size_t size) {
  neap_session *session = server->workers[rank].session;
  answer *a = session ? answer_new(server, session, request, 0, size, 0) : NULL;
  const server_pull pull = {.rank = rank, .request = request};
  if (!a) {
    no_memory(server, &pull, NULL);
    return;
  }
  memcpy(answer_extra(a), meta, size);
  if (neap_array_share(array, &a->array) != NEAP_OK || !queue_send(server, a, a->array))
    no_memory(server, &pull, a);
}

/* Never 0, as no ids are not all rows. */
static size_t ids_bytes(int64_t count) {
  return (size_t)(count ? count : 1) * sizeof(int64_t);
}

static void free_pull(neap_server *server, server_pull *pull) {
  neap_free(server->context, pull->ids, ids_bytes(pull->num_ids));
  neap_free(server->context, pull, sizeof *pull);
}

/* Whose death this pull waits for: the text for it, or false. */
static bool waits_for_lost(neap_server *server, const server_key *key, const server_pull *pull,
                           char *text, size_t size) {
  for (int rank = 0; !server->async && rank < server->roster->num_workers; rank++) {
    if (rank == pull->rank || key->clocks[rank].first || !neap_server_is_lost(server, rank))
      continue;
    char name[NEAP_NODE_TEXT], k[NEAP_KEY_TEXT];
    snprintf(text, size, "pull: %s waits for a push of %s, which died", neap_key_text(key->key, k),
             neap_node_text(server->roster, NEAP_WORKER, rank, name));
    return true;
  }
  return false;
}

void neap_server_answer_pulls(neap_server *server, server_key *key) {
  for (server_pull **at = &key->pulls; *at;) {
    server_pull *pull = *at;
    char text[512];
    bool ready = key->clocks[pull->rank].started >= pull->after;
    if (!ready && !waits_for_lost(server, key, pull, text, sizeof text)) {
      at = &pull->next;
      continue;
    }
    *at = pull->next;
    if (!pull->next) key->pulls_end = at;
    if (!ready)
      neap_server_reply(server, pull->rank, pull->request, NEAP_ELOST, text, NULL, 0);
    else if (!server->workers[pull->rank].session)
      ; /* nobody is there to hear it */
    else if (pull->type == NEAP_M_PULL)
      send_dense(server, key, pull);
    else
      send_rows(server, key, pull);
    free_pull(server, pull);
  }
}

void neap_server_drop_pulls(neap_server *server, server_key *key, int rank, int status,
                            const char *text) {
  for (server_pull **at = &key->pulls; *at;) {
    server_pull *pull = *at;
    if (rank >= 0 && pull->rank != rank) {
      at = &pull->next;
      continue;
    }
    *at = pull->next;
    if (!pull->next) key->pulls_end = at;
    if (status != NEAP_OK)
      neap_server_reply(server, pull->rank, pull->request, status, text, NULL, 0);
    free_pull(server, pull);
  }
}

static void drop_pull(neap_server *server, server_key *key, int rank, uint64_t request) {
  for (server_pull **at = &key->pulls; *at; at = &(*at)->next) {
    server_pull *pull = *at;
    if (pull->rank != rank || pull->request != request) continue;
    *at = pull->next;
    if (!pull->next) key->pulls_end = at;
    free_pull(server, pull);
    return;
  }
}

/* ---- The message ----------------------------------------------------------------------------- */

/* Ids as they came: ascending and in range, or NEAP_EFORMAT. */
static int read_ids(neap_server *server, const server_key *key, neap_incoming *in,
                    server_pull *pull) {
  size_t size = (size_t)in->frame.total, count = size / sizeof(int64_t);
  if (size % sizeof(int64_t) || key->info.ndim == 0 || (size && !in->payload) ||
      count > (size_t)key->info.shape[0])
    return neap_fail(NEAP_EFORMAT, "damaged row ids");
  int64_t *ids = neap_alloc(server->context, ids_bytes((int64_t)count));
  if (!ids) return NEAP_ENOMEM;
  pull->ids = ids;
  pull->num_ids = (int64_t)count;
  if (size) memcpy(ids, server_bytes(in), size);
  for (size_t i = 0; i < count; i++)
    if (ids[i] < 0 || ids[i] >= key->info.shape[0] || (i && ids[i] <= ids[i - 1]))
      return neap_fail(NEAP_EFORMAT, "row ids are not ascending, or out of range");
  return NEAP_OK;
}

const char *neap_server_pull(neap_server *server, int rank, neap_incoming *in, neap_reader *r) {
  neap_key name;
  neap_get_key(r, &name);
  uint64_t birth = neap_get_u64(r), after = neap_get_u64(r);
  int priority = (int)(int32_t)neap_get_u32(r);
  bool all = in->frame.type == NEAP_M_PULL || neap_get_u8(r) != 0;
  if (!neap_reader_done(r)) return "a damaged PULL";
  char text[512];
  server_key *key = neap_server_find(server, &name, birth, text, sizeof text);
  if (!key) {
    neap_server_reply(server, rank, in->frame.id, NEAP_EKEY, text, NULL, 0);
    return NULL;
  }
  server_pull *pull = neap_alloc(server->context, sizeof *pull);
  if (!pull) return "no memory";
  *pull = (server_pull){.type = in->frame.type,
                        .rank = rank,
                        .priority = priority,
                        .request = in->frame.id,
                        .after = after};
  int status = all ? NEAP_OK : read_ids(server, key, in, pull);
  if (status != NEAP_OK) {
    free_pull(server, pull);
    neap_server_reply(server, rank, in->frame.id, status, neap_error(), NULL, 0);
    return NULL;
  }
  drop_pull(server, key, rank, in->frame.id); /* asked again, on another connection */
  *key->pulls_end = pull;
  key->pulls_end = &pull->next;
  if (key->clocks[rank].started < after) pull->since = neap_now();
  neap_server_answer_pulls(server, key);
  return NULL;
}
