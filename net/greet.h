/* SPDX-License-Identifier: MIT */
/* greet.h - how two processes of a job get to know each other on a new connection.
 *
 *   caller    HELLO      version, who it is, a number used once
 *   listener  CHALLENGE  another number used once
 *   caller    PROOF      HMAC-SHA256 over both by the job's secret; behind it, from who has that,
 *                        another one by the secret of those who may change the optimizer
 *   listener  WELCOME    the same from its side; or REFUSED, with the reason
 *
 * The secret itself is never sent. A job without one proves by the empty secret, which keeps
 * strangers out by nothing but the address: those are on this host then. The proofs say who speaks;
 * what is said afterwards is protected by tls+tcp only. */
#ifndef NEAP_GREET_H
#define NEAP_GREET_H

#include "wire.h"

/* An admin looks at a job, and may change its optimizer; it has no part in the work. */
enum neap_role { NEAP_SCHEDULER = 1, NEAP_SERVER, NEAP_WORKER, NEAP_ADMIN };
const char *neap_role_name(int role);

enum { NEAP_NONCE = 16, NEAP_PROOF = 32, NEAP_HOST_MAX = 256, NEAP_LANES = 2 };

/* Who calls. */
typedef struct neap_hello {
  int role, rank;       /* rank -1: not known yet */
  uint64_t incarnation; /* of the process: another one each time it is started */
  uint32_t epoch;       /* counts its connections to this listener */
  int lane, lanes;      /* one of so many connections at a time */
  char host[NEAP_HOST_MAX];
  uint8_t nonce[NEAP_NONCE];
} neap_hello;

void neap_hello_write(neap_writer *w, const neap_hello *hello);
/* NULL, or what is wrong with it; a wrong version is said as such. */
const char *neap_hello_read(neap_reader *r, neap_hello *hello);

/* Numbers that nobody can foretell. */
int neap_nonce(void *bytes, size_t size);
/* `side` 'c' or 'l': the caller's or the listener's proof; 'a': the caller's by the admins' secret.
 * False if it cannot be computed. */
bool neap_proof(const char *secret, char side, const neap_hello *hello,
                const uint8_t nonce[NEAP_NONCE], uint8_t proof[NEAP_PROOF]);
/* Whether they are the same, in a time that does not tell where they differ. */
bool neap_proof_equal(const uint8_t a[NEAP_PROOF], const uint8_t b[NEAP_PROOF]);

#endif
