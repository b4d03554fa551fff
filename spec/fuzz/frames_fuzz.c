/* SPDX-License-Identifier: MIT */
/* frames_fuzz.c - fuzzes what reads bytes of other processes. The first byte says what the rest is:
 *
 *   0      a frame's header     1  a greeting     2  a roster
 *   other  messages of workers and servers to a server: each a type, a worker, two bytes of meta's
 *          size and two of the payload's, then these
 *
 * Checked: what was read and written again is the same, and a server survives all messages and
 * gives all memory back. */
#include "fuzz.h"
#include "net/server_inside.h"
#include <string.h>

/* ---- Memory, with a limit ----------------------------------------------------------------------
 */

static size_t in_use;

static void *limited_alloc(void *user, size_t size, size_t align) {
  void *block = NULL;
  (void)user;
  if (size > (size_t)64 << 20 || in_use + size > (size_t)128 << 20) return NULL;
  if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size)) return NULL;
  in_use += size;
  return block;
}

static void limited_free(void *user, void *block, size_t size) {
  (void)user;
  in_use -= size;
  free(block);
}

static neap_context *small_context(void) {
  neap_options options;
  neap_context *context = NULL;
  neap_options_init(&options, sizeof options);
  options.engine = NEAP_ENGINE_NAIVE;
  options.pool_limit = 0;
  options.alloc = limited_alloc;
  options.free = limited_free;
  FUZZ_CHECK(neap_context_create(&options, &context) == NEAP_OK);
  return context;
}

/* ---- Small things ------------------------------------------------------------------------------
 */

static void read_header(const uint8_t *bytes, size_t size) {
  neap_frame frame;
  uint8_t again[NEAP_FRAME_HEADER];
  if (size < NEAP_FRAME_HEADER || neap_frame_read(bytes, &frame)) return;
  neap_frame_write(&frame, again);
  FUZZ_CHECK(memcmp(again, bytes, sizeof again) == 0);
}

static void read_greeting(const uint8_t *bytes, size_t size) {
  neap_hello hello;
  neap_reader r;
  neap_writer w;
  uint8_t again[NEAP_HOST_MAX + 128];
  neap_reader_open(&r, bytes, size);
  if (neap_hello_read(&r, &hello)) return;
  neap_writer_open(&w, again, sizeof again);
  neap_hello_write(&w, &hello);
  FUZZ_CHECK(!w.full && neap_writer_size(&w) == size && memcmp(again, bytes, size) == 0);
}

static void read_roster(const uint8_t *bytes, size_t size) {
  neap_context *context = small_context();
  neap_roster *roster = NULL;
  if (neap_roster_read(context, bytes, size, &roster) == NEAP_OK) {
    uint8_t *again = NULL;
    size_t written;
    char text[NEAP_NODE_TEXT];
    if (neap_roster_write(context, roster, &again, &written) == NEAP_OK) {
      FUZZ_CHECK(written == size);
      neap_free(context, again, written);
    }
    (void)neap_node_text(roster, NEAP_WORKER, roster->num_workers - 1, text);
    neap_roster_close(context, roster);
  }
  neap_context_close(context);
  FUZZ_CHECK(in_use == 0);
}

/* ---- A server without connections --------------------------------------------------------------
 */

enum { WORKERS = 3, RANKS = WORKERS + 1 /* the admin is behind the workers */ };

static neap_server *server_new(neap_context *context) {
  neap_server *server = neap_alloc(context, sizeof *server);
  FUZZ_CHECK(server);
  memset(server, 0, sizeof *server);
  neap_context_retain(context);
  server->context = server->keys.context = context;
  neap_job_options_init(&server->options, sizeof server->options);
  server->options.num_workers = WORKERS;
  server->options.num_servers = 2;
  FUZZ_CHECK(neap_locks_init(&server->lock, &server->changed) == NEAP_OK &&
             neap_roster_create(context, WORKERS, 2, &server->roster) == NEAP_OK &&
             neap_split_start(server) == NEAP_OK && neap_joints_start(server) == NEAP_OK &&
             neap_scripts_start(server) == NEAP_OK);
  for (int i = 0; i < WORKERS + 2; i++) server->roster->nodes[i].state = NEAP_ALIVE;
  FUZZ_CHECK(neap_server_make_workers(server, WORKERS) == NEAP_OK);
  return server;
}

/* As a link would hand it over. */
static const char *take_message(neap_server *server, int rank, neap_incoming *in, bool large,
                                const uint8_t *body) {
  neap_reader r;
  server_payload *payload = NULL;
  const char *wrong = NULL;
  if (large) {
    payload = neap_alloc(server->context, sizeof *payload);
    if (!payload) return "no memory";
    memset(payload, 0, sizeof *payload);
    in->placed = true;
    in->payload = NULL;
    wrong = neap_server_place(server, rank, in, payload);
    if (!wrong) {
      in->token = payload;
      in->payload = payload->array ? neap_array_at_data(payload->array) : payload->block;
      if (in->payload) memcpy(in->payload, body, (size_t)in->frame.total);
    }
  }
  neap_reader_open(&r, in->meta, in->frame.meta);
  if (!wrong && in->frame.type >= NEAP_M_HAVE)
    wrong = neap_split_message(server, in, &r);
  else if (!wrong)
    wrong = neap_server_handle(server, rank, in, &r);
  if (payload) neap_server_payload_free(server, payload);
  return wrong;
}

static void serve(const uint8_t *bytes, size_t size) {
  neap_context *context = small_context();
  neap_server *server = server_new(context);
  neap_reader r;
  neap_reader_open(&r, bytes, size);
  pthread_mutex_lock(&server->lock);
  while (!r.bad && r.at < r.end) {
    unsigned type = neap_get_u8(&r), rank = neap_get_u8(&r);
    size_t meta = neap_get_u8(&r) | neap_get_u8(&r) << 8;
    size_t total = neap_get_u8(&r) | neap_get_u8(&r) << 8;
    const uint8_t *m = neap_get_bytes(&r, meta), *b = neap_get_bytes(&r, total);
    if (r.bad) break;
    /* Exactly as large as they are, so that a sanitizer sees what is read beyond. */
    uint8_t *copy = malloc(meta ? meta : 1), *body = malloc(total ? total : 1);
    FUZZ_CHECK(copy && body);
    if (meta) memcpy(copy, m, meta);
    if (total) memcpy(body, b, total);
    neap_incoming in = {.frame = {.type = (int)type % NEAP_NUM_MESSAGES,
                                  .meta = (uint32_t)meta,
                                  .body = (uint32_t)total,
                                  .id = 1,
                                  .total = total},
                        .meta = copy,
                        .payload = body};
    (void)take_message(server, (int)(rank & 127) % RANKS, &in, rank & 128, body);
    free(copy);
    free(body);
  }
  neap_server_recheck(server);
  pthread_mutex_unlock(&server->lock);
  (void)neap_wait_all(context);
  neap_server_close(server);
  neap_context_close(context);
  FUZZ_CHECK(in_use == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size == 0) return 0;
  switch (bytes[0]) {
  case 0:
    read_header(bytes + 1, size - 1);
    break;
  case 1:
    read_greeting(bytes + 1, size - 1);
    break;
  case 2:
    read_roster(bytes + 1, size - 1);
    break;
  default:
    serve(bytes + 1, size - 1);
  }
  return 0;
}
