/* SPDX-License-Identifier: MIT */
/* job.c - rosters, and options of jobs. */
#include "job.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void neap_job_options_init(neap_job_options *options, size_t size) {
  neap_job_options defaults = {.size = sizeof defaults,
                               .num_workers = 1,
                               .num_servers = 1,
                               .rank = -1,
                               .timeout = 60,
                               .on_worker_lost = NEAP_LOST_FAIL,
                               .bigarray_bound = 1000000};
  if (!options) return;
  if (size > sizeof defaults) size = sizeof defaults;
  memcpy(options, &defaults, size);
  options->size = size;
}

int neap_job_check(const neap_job_options *options, int role) {
  const char *name = neap_role_name(role);
  if (!options || options->size < sizeof *options)
    return neap_fail(NEAP_EINVAL, "%s: options must be filled by neap_job_options_init()", name);
  NEAP_TRY(neap_uri_check(options->root_uri));
  if (options->num_workers < 1 || options->num_servers < 1 ||
      options->num_workers + options->num_servers > NEAP_NODES_MAX)
    return neap_fail(NEAP_EINVAL,
                     "%s: %d workers and %d servers; a job has at least one of each, and at most "
                     "%d altogether",
                     name, options->num_workers, options->num_servers, NEAP_NODES_MAX);
  int count = role == NEAP_WORKER ? options->num_workers : options->num_servers;
  if (role != NEAP_SCHEDULER && (options->rank < -1 || options->rank >= count))
    return neap_fail(NEAP_EINVAL, "%s: rank %d is not possible; there are %d, from 0", name,
                     options->rank, count);
  if (!(options->timeout >= 0.1) || options->timeout > 1e6)
    return neap_fail(NEAP_EINVAL, "%s: timeout is %g; 0.1 to 1000000 seconds are possible", name,
                     options->timeout);
  if (options->on_worker_lost != NEAP_LOST_FAIL && options->on_worker_lost != NEAP_LOST_CONTINUE)
    return neap_fail(NEAP_EINVAL, "%s: on_worker_lost is %d; there are fail (0) and continue (1)",
                     name, options->on_worker_lost);
  if (options->advertise_uri) NEAP_TRY(neap_uri_check(options->advertise_uri));
  if (options->bigarray_bound < 1)
    return neap_fail(NEAP_EINVAL, "%s: bigarray_bound is below 1", name);
  return NEAP_OK;
}

/* The texts of options, by address. */
static const char **texts_of(neap_job_options *options, int i) {
  const char **texts[] = {&options->root_uri,    &options->secret,   &options->listen_uri,
                          &options->tls_ca,      &options->tls_cert, &options->advertise_uri,
                          &options->admin_secret};
  return i < (int)(sizeof texts / sizeof *texts) ? texts[i] : NULL;
}

int neap_job_copy(neap_context *context, const neap_job_options *from, neap_job_options *to) {
  *to = *from;
  int status = NEAP_OK;
  for (int i = 0; texts_of(to, i); i++) {
    const char **text = texts_of(to, i);
    if (*text && status == NEAP_OK) {
      *text = neap_strdup(context, *text);
      if (!*text) status = NEAP_ENOMEM;
    } else {
      *text = NULL;
    }
  }
  return status;
}

void neap_job_free(neap_context *context, neap_job_options *options) {
  for (int i = 0; texts_of(options, i); i++) {
    const char *text = *texts_of(options, i);
    if (text) neap_free(context, (void *)(uintptr_t)text, strlen(text) + 1);
  }
}

void neap_host_name(char *buffer) {
  if (gethostname(buffer, NEAP_HOST_MAX)) snprintf(buffer, NEAP_HOST_MAX, "?");
  buffer[NEAP_HOST_MAX - 1] = 0;
}

const char *neap_node_text(const neap_roster *roster, int role, int rank, char *buffer) {
  const neap_node *node =
      role == NEAP_WORKER ? neap_roster_worker(roster, rank) : neap_roster_server(roster, rank);
  if (node->host[0])
    snprintf(buffer, NEAP_NODE_TEXT, "%s %d on host %s", neap_role_name(role), rank, node->host);
  else
    snprintf(buffer, NEAP_NODE_TEXT, "%s %d", neap_role_name(role), rank);
  return buffer;
}

/* ---- Rosters --------------------------------------------------------------------------------- */

static size_t nodes_size(int num_workers, int num_servers) {
  return ((size_t)num_workers + (size_t)num_servers) * sizeof(neap_node);
}

int neap_roster_create(neap_context *context, int num_workers, int num_servers, neap_roster **out) {
  neap_roster *roster = neap_alloc(context, sizeof *roster);
  if (!roster) return NEAP_ENOMEM;
  *roster = (neap_roster){.num_workers = num_workers, .num_servers = num_servers};
  roster->nodes = neap_alloc(context, nodes_size(num_workers, num_servers));
  if (!roster->nodes) {
    neap_free(context, roster, sizeof *roster);
    return NEAP_ENOMEM;
  }
  memset(roster->nodes, 0, nodes_size(num_workers, num_servers));
  *out = roster;
  return NEAP_OK;
}

void neap_roster_close(neap_context *context, neap_roster *roster) {
  if (!roster) return;
  neap_free(context, roster->nodes, nodes_size(roster->num_workers, roster->num_servers));
  neap_free(context, roster, sizeof *roster);
}

static void write_roster(neap_writer *w, const neap_roster *roster) {
  neap_put_u32(w, (uint32_t)roster->num_workers);
  neap_put_u32(w, (uint32_t)roster->num_servers);
  neap_put_u8(w, (unsigned)roster->policy);
  neap_put_u8(w, roster->over);
  neap_put_u64(w, roster->version);
  for (int i = 0; i < roster->num_workers + roster->num_servers; i++) {
    const neap_node *node = &roster->nodes[i];
    neap_put_u8(w, (unsigned)node->state);
    neap_put_u64(w, node->incarnation);
    neap_put_text(w, node->host);
    neap_put_text(w, node->uri);
  }
}

int neap_roster_write(neap_context *context, const neap_roster *roster, uint8_t **bytes,
                      size_t *size) {
  size_t room = 32 + nodes_size(roster->num_workers, roster->num_servers);
  uint8_t *block = neap_alloc(context, room);
  if (!block) return NEAP_ENOMEM;
  neap_writer w;
  neap_writer_open(&w, block, room);
  write_roster(&w, roster);
  size_t used = neap_writer_size(&w);
  *bytes = neap_alloc(context, used);
  if (*bytes) memcpy(*bytes, block, used);
  neap_free(context, block, room);
  *size = used;
  return *bytes ? NEAP_OK : NEAP_ENOMEM;
}

int neap_roster_read(neap_context *context, const void *bytes, size_t size, neap_roster **out) {
  neap_reader r;
  neap_reader_open(&r, bytes, size);
  uint32_t workers = neap_get_u32(&r), servers = neap_get_u32(&r);
  if (r.bad || workers < 1 || servers < 1 || workers > NEAP_NODES_MAX || servers > NEAP_NODES_MAX)
    return neap_fail(NEAP_EFORMAT, "a damaged roster");
  neap_roster *roster;
  NEAP_TRY(neap_roster_create(context, (int)workers, (int)servers, &roster));
  roster->policy = (int)neap_get_u8(&r);
  roster->over = neap_get_u8(&r) != 0;
  roster->version = neap_get_u64(&r);
  for (uint32_t i = 0; i < workers + servers; i++) {
    neap_node *node = &roster->nodes[i];
    node->state = (int)neap_get_u8(&r);
    node->incarnation = neap_get_u64(&r);
    neap_get_text(&r, node->host, sizeof node->host);
    neap_get_text(&r, node->uri, sizeof node->uri);
    if (node->state > NEAP_LEFT) r.bad = true;
  }
  if (!neap_reader_done(&r)) {
    neap_roster_close(context, roster);
    return neap_fail(NEAP_EFORMAT, "a damaged roster");
  }
  *out = roster;
  return NEAP_OK;
}
