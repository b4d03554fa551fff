/* SPDX-License-Identifier: MIT */
/* server_read.h - what INIT and PUSH say, read and checked, and the arrays that they bring.
 *
 * Foreign bytes: nothing is taken for a size or an index before it was checked. */
#ifndef NEAP_SERVER_READ_H
#define NEAP_SERVER_READ_H

#include "server_inside.h"

typedef struct neap_init_head {
  bool async, has_value;
  neap_key key; /* its text lies in the message */
  neap_array_info info, whole;
  int64_t begin;
  uint64_t rows, life;
  int home, parts, index;
} neap_init_head;

enum { NEAP_PUSH_DENSE, NEAP_PUSH_SPARSE, NEAP_PUSH_CODED };

typedef struct neap_push_head {
  neap_key key;
  uint64_t birth, clock, rows;
  unsigned kind;
  const neap_codec *codec;
  double threshold;
} neap_push_head;

/* NULL, or what is wrong with the message. */
const char *neap_read_init(neap_reader *r, neap_init_head *head);
const char *neap_read_push(neap_reader *r, neap_push_head *head);

/* The arrays: new ones, of the kind that the head says. NEAP_EFORMAT if the bytes are not that. */
int neap_read_init_value(neap_server *server, neap_incoming *in, const neap_init_head *head,
                         neap_array **out);
int neap_read_push_value(neap_server *server, neap_incoming *in, const neap_push_head *head,
                         const server_key *key, neap_array **out);

#endif
