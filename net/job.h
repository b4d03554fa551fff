/* SPDX-License-Identifier: MIT */
/* job.h - who is in a job, as the scheduler tells everybody whenever that changes.
 *
 * The roster is always told whole, so that it does not matter which one a process missed. */
#ifndef NEAP_JOB_H
#define NEAP_JOB_H

#include "address.h"
#include "greet.h"

enum { NEAP_NODES_MAX = 4096 /* workers and servers together */ };

enum neap_node_state {
  NEAP_AWAITED = 0, /* not seen yet */
  NEAP_ALIVE,
  NEAP_DIED, /* no sign of life within the time-out */
  NEAP_LEFT, /* said good-bye */
};

typedef struct neap_node {
  int state;
  uint64_t incarnation; /* counts registrations of the job: larger is later */
  char host[NEAP_HOST_MAX];
  char uri[NEAP_URI_MAX]; /* servers */
} neap_node;

typedef struct neap_roster {
  int num_workers, num_servers;
  int policy;       /* neap_lost */
  bool over;        /* all workers have left */
  uint64_t version; /* grows with each change: copies for one process may overtake each other */
  neap_node *nodes; /* workers, then servers */
} neap_roster;

static inline neap_node *neap_roster_worker(const neap_roster *roster, int rank) {
  return &roster->nodes[rank];
}
static inline neap_node *neap_roster_server(const neap_roster *roster, int rank) {
  return &roster->nodes[roster->num_workers + rank];
}
/* Makes one of awaited nodes. */
int neap_roster_create(neap_context *context, int num_workers, int num_servers, neap_roster **out);
void neap_roster_close(neap_context *context, neap_roster *roster);
/* As the payload of a ROSTER message: bytes of the context's allocator. */
int neap_roster_write(neap_context *context, const neap_roster *roster, uint8_t **bytes,
                      size_t *size);
int neap_roster_read(neap_context *context, const void *bytes, size_t size, neap_roster **out);

/* "worker 3 on host apollo" into a buffer; returns it. */
enum { NEAP_NODE_TEXT = NEAP_HOST_MAX + 64 };
const char *neap_node_text(const neap_roster *roster, int role, int rank, char *buffer);

/* This host's name into a buffer of NEAP_HOST_MAX bytes. */
void neap_host_name(char *buffer);
/* A copy with texts of its own; free: also after a failure, and of zeros. */
int neap_job_copy(neap_context *context, const neap_job_options *from, neap_job_options *to);
void neap_job_free(neap_context *context, neap_job_options *options);
/* Checks the options that all processes of a job share. `role` for texts. */
int neap_job_check(const neap_job_options *options, int role);

#endif
