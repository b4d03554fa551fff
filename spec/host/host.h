/* SPDX-License-Identifier: MIT */
/* host.h - what the tests of libneap_host share: dumps as o:dump() writes them, and the table's
 * functions by short names. */
#ifndef NEAP_SPEC_HOST_H
#define NEAP_SPEC_HOST_H

#include "lua/host/neap_host.h"
#include "spec/check.h"
#include <stdarg.h>
#include <string.h>

typedef struct text {
  char *bytes;
  size_t size;
} text;

static inline void add(text *t, const char *bytes, size_t size) {
  t->bytes = realloc(t->bytes, t->size + size + 1);
  CHECK(t->bytes);
  memcpy(t->bytes + t->size, bytes, size);
  t->size += size;
  t->bytes[t->size] = 0;
}

/* Lengths before strings are written by itself: "sNAME" is a string up to the next blank. */
static inline void add_string(text *t, const char *bytes, size_t size) {
  char head[32];
  add(t, head, (size_t)snprintf(head, sizeof head, "s%zu:", size));
  add(t, bytes, size);
}

/* The dump of an optimizer with this source; `settings` and `schedule` as text, NULL for none. */
static inline text dump_of(const char *source, size_t size, const char *settings,
                           const char *schedule) {
  text t = {0};
  add(&t, "{", 1);
  add_string(&t, "format", 6);
  add_string(&t, "neap optimizer 1", 16);
  add_string(&t, "name", 4);
  add_string(&t, "x", 1);
  add_string(&t, "source", 6);
  add_string(&t, source, size);
  add_string(&t, "settings", 8);
  if (!settings) settings = "{}";
  add(&t, settings, strlen(settings));
  add_string(&t, "schedule", 8);
  if (schedule) {
    add(&t, "{", 1);
    add_string(&t, "source", 6);
    add_string(&t, schedule, strlen(schedule));
    add_string(&t, "settings", 8);
    add(&t, "{}}", 3);
  } else {
    add(&t, "F", 1);
  }
  add(&t, "}", 1);
  return t;
}

/* An opened script, and what there is to say if it could not be. */
typedef struct opened {
  const neap_scripts *table;
  void *script;
  neap_optimizer *optimizer;
  int status;
  char error[2048];
} opened;

static inline opened open_dump(neap_host *host, neap_context *context, const char *dump,
                               size_t size) {
  opened o = {.table = neap_host_scripts(host)};
  o.status = o.table->open(o.table->user, context, dump, size, &o.script, &o.optimizer, o.error,
                           sizeof o.error);
  CHECK((o.status == NEAP_OK) == (o.script != NULL) && !o.script == !o.optimizer);
  return o;
}

static inline opened open_source(neap_host *host, neap_context *context, const char *source) {
  text t = dump_of(source, strlen(source), NULL, NULL);
  opened o = open_dump(host, context, t.bytes, t.size);
  free(t.bytes);
  return o;
}

static inline int bind_as(opened *o, const neap_key *key, int stype, int dtype, int ndim,
                          const int64_t *shape) {
  neap_array_info like = {.dtype = dtype, .ndim = ndim};
  memcpy(like.shape, shape, (size_t)ndim * sizeof *shape);
  o->status =
      o->table->bind(o->table->user, o->script, key, &like, stype, o->error, sizeof o->error);
  return o->status;
}

static inline int bind_key(opened *o, const char *key) {
  return bind_as(o, &(neap_key){key, strlen(key), 0}, NEAP_DENSE, NEAP_FLOAT32, 1, (int64_t[]){3});
}

static inline int set_text(opened *o, const char *settings) {
  o->status = o->table->set(o->table->user, o->script, settings, strlen(settings), o->error,
                            sizeof o->error);
  return o->status;
}

static inline void close_opened(opened *o) {
  if (o->script) o->table->close(o->table->user, o->script);
  neap_optimizer_close(o->optimizer);
}

/* NEAP_OK, or the text of what is wrong. */
#define FINE(o, call)                                                                              \
  do {                                                                                             \
    if ((call) != NEAP_OK) {                                                                       \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, (o).error);                    \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

static inline neap_host *make_host(const neap_host_options *options) {
  neap_host *host = NULL;
  char error[1024] = "";
  int status = neap_host_create(options, &host, error, sizeof error);
  if (status) fprintf(stderr, "%s: %s\n", neap_status_name(status), error);
  CHECK(status == NEAP_OK && host);
  return host;
}

static inline neap_context *make_context(void) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.engine = NEAP_ENGINE_NAIVE;
  neap_context *context = NULL;
  OK(neap_context_create(&options, &context));
  return context;
}

#endif
