/* SPDX-License-Identifier: MIT */
/* adding.h - a host of scripts without Lua, for tests: whatever the text, the optimizer adds what
 * is pushed to the weight. A text that begins with "bad" is refused, with what follows as the
 * reason; "unbindable" is refused when keys are bound. */
#ifndef SPEC_ADDING_H
#define SPEC_ADDING_H

#include "spec/kernels/program_builder.h"

typedef struct adding {
  neap_context *context;
  neap_optimizer *optimizer;
  bool unbindable;
} adding;

static int adding_open(void *user, neap_context *context, const char *dump, size_t length,
                       void **script, neap_optimizer **optimizer, char *error, size_t size) {
  (void)user, (void)length;
  if (strncmp(dump, "bad", 3) == 0) {
    snprintf(error, size, "%s", dump + 3);
    return NEAP_EINVAL;
  }
  int status = neap_optimizer_create(context, "adding", optimizer);
  adding *a = status == NEAP_OK ? calloc(1, sizeof *a) : NULL;
  if (!a) {
    snprintf(error, size, "no memory");
    return NEAP_ENOMEM;
  }
  *a = (adding){context, *optimizer, strcmp(dump, "unbindable") == 0};
  *script = a;
  return NEAP_OK;
}

static int adding_bind(void *user, void *script, const neap_key *key, const neap_array_info *like,
                       int stype, char *error, size_t size) {
  adding *a = script;
  (void)user, (void)like;
  if (a->unbindable) {
    snprintf(error, size, "it fits no key");
    return NEAP_EINVAL;
  }
  builder *b = calloc(1, sizeof *b);
  CHECK(b);
  if (stype == NEAP_ROW_SPARSE) b->flags = NEAP_P_LAZY;
  uint32_t w = NODE(b, weight, 0), g = NODE(b, gradient, 0);
  b->result = NODE(b, add, w, g);
  build(b);
  neap_program *program = NULL;
  int status = neap_program_create(a->context, b->bytes, b->size, &program);
  if (status == NEAP_OK) status = neap_optimizer_bind(a->optimizer, key, stype, program);
  neap_program_close(program);
  free(b);
  if (status != NEAP_OK) snprintf(error, size, "%s", neap_error());
  return status;
}

static int adding_set(void *user, void *script, const char *settings, size_t length, char *error,
                      size_t size) {
  (void)user, (void)script, (void)settings, (void)length;
  snprintf(error, size, "there is nothing to set");
  return NEAP_EINVAL;
}

static void adding_close(void *user, void *script) {
  (void)user;
  free(script);
}

static int adding_describe(void *user, void *script, neap_script_text *out, char *error,
                           size_t size) {
  (void)user, (void)script, (void)error, (void)size;
  *out = (neap_script_text){"adding", "0123456789abcdef", "add", 3};
  return NEAP_OK;
}

static int adding_migrate(void *user, void *script, const char *old, size_t length,
                          neap_program **out, char *error, size_t size) {
  (void)user, (void)script, (void)old, (void)length, (void)error, (void)size;
  *out = NULL;
  return NEAP_OK;
}

static const neap_scripts adding_scripts = {.size = sizeof adding_scripts,
                                            .open = adding_open,
                                            .bind = adding_bind,
                                            .set = adding_set,
                                            .close = adding_close,
                                            .describe = adding_describe,
                                            .migrate = adding_migrate};

#endif
