/* SPDX-License-Identifier: MIT */
/* dist_ask.c - a request to a server or to the scheduler that its caller waits for. */
#include "dist_ask.h"
#include <stdio.h>
#include <string.h>

void neap_ask_drop(neap_ask *c) {
  if (atomic_fetch_sub(&c->refs, 1) != 1) return;
  neap_free(c->context, c->payload, c->room);
  pthread_mutex_destroy(&c->lock);
  pthread_cond_destroy(&c->cond);
  neap_free(c->context, c, sizeof *c);
}

/* The reply is there, and the request's message is out: what it was sent from is free (P3). */
static void call_free(neap_request *request) {
  neap_ask *c = (neap_ask *)request;
  pthread_mutex_lock(&c->lock);
  c->done = true;
  pthread_cond_signal(&c->cond);
  pthread_mutex_unlock(&c->lock);
  neap_ask_drop(c);
}

static uint8_t *call_place(neap_request *request, uint64_t total) {
  neap_ask *c = (neap_ask *)request;
  neap_free(c->context, c->payload, c->room);
  c->room = (size_t)total;
  c->payload = neap_alloc(c->context, c->room);
  if (!c->payload) c->room = 0;
  return c->payload;
}

static void call_done(neap_request *request, int status, const char *text, neap_reader *meta,
                      neap_incoming *in) {
  neap_ask *c = (neap_ask *)request;
  size_t meta_size = (size_t)(meta->end - meta->at), size = in ? (size_t)in->frame.total : 0;
  if (in && size && !in->placed && call_place(request, size)) memcpy(c->payload, in->payload, size);
  if (size && !c->payload) {
    status = NEAP_ENOMEM;
    text = "no memory for a reply";
  }
  c->status = status;
  snprintf(c->text, sizeof c->text, "%s", text ? text : "");
  if (meta_size) memcpy(c->meta, meta->at, meta_size);
  c->meta_size = meta_size;
  c->size = c->payload ? size : 0;
}

neap_ask *neap_ask_new(dist_store *store, int type) {
  neap_ask *c = neap_alloc(store->context, sizeof *c);
  if (!c) return NULL;
  memset(c, 0, sizeof *c);
  c->context = store->context;
  if (neap_locks_init(&c->lock, &c->cond) != NEAP_OK) {
    neap_free(store->context, c, sizeof *c);
    return NULL;
  }
  atomic_init(&c->refs, 2);
  neap_writer_open(&c->w, c->out_meta, sizeof c->out_meta);
  c->request = (neap_request){.place = call_place, .done = call_done, .free = call_free};
  c->request.message.frame.type = type;
  c->request.message.meta = c->out_meta;
  c->request.message.priority = INT32_MAX - 1;
  return c;
}

void neap_ask_send(neap_peer *peer, neap_ask *c) {
  c->request.message.frame.meta = (uint32_t)neap_writer_size(&c->w);
  neap_peer_request(peer, &c->request);
}

/* The reply's status. NEAP_ETIMEOUT when it is not there after `until`. */
int neap_ask_wait(neap_ask *c, double until) {
  pthread_mutex_lock(&c->lock);
  while (!c->done && neap_cond_wait(&c->cond, &c->lock, until)) {
  }
  bool done = c->done;
  pthread_mutex_unlock(&c->lock);
  if (!done) return neap_fail(NEAP_ETIMEOUT, "no answer in time");
  return c->status == NEAP_OK ? NEAP_OK : neap_fail(c->status, "%s", c->text);
}

void neap_ask_payload(neap_ask *c, const void *bytes, size_t size) {
  c->request.message.payload[0] = bytes;
  c->request.message.sizes[0] = size;
}
