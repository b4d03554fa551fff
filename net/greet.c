/* SPDX-License-Identifier: MIT */
/* greet.c - greetings as bytes, and the proofs in them; see greet.h. */
#include "greet.h"
#include <mbedtls/md.h>
#include <string.h>
#include <unistd.h>

const char *neap_role_name(int role) {
  static const char *const names[] = {"process", "scheduler", "server", "worker", "admin"};
  return names[role >= NEAP_SCHEDULER && role <= NEAP_ADMIN ? role : 0];
}

void neap_hello_write(neap_writer *w, const neap_hello *hello) {
  neap_put_u32(w, NEAP_WIRE_VERSION);
  neap_put_u8(w, (unsigned)hello->role);
  neap_put_u32(w, (uint32_t)hello->rank);
  neap_put_u64(w, hello->incarnation);
  neap_put_u32(w, hello->epoch);
  neap_put_u8(w, (unsigned)hello->lane);
  neap_put_u8(w, (unsigned)hello->lanes);
  neap_put_text(w, hello->host);
  neap_put_bytes(w, hello->nonce, NEAP_NONCE);
}

const char *neap_hello_read(neap_reader *r, neap_hello *hello) {
  if (neap_get_u32(r) != NEAP_WIRE_VERSION) return "another version of Neap's protocol";
  hello->role = (int)neap_get_u8(r);
  hello->rank = (int)(int32_t)neap_get_u32(r);
  hello->incarnation = neap_get_u64(r);
  hello->epoch = neap_get_u32(r);
  hello->lane = (int)neap_get_u8(r);
  hello->lanes = (int)neap_get_u8(r);
  neap_get_text(r, hello->host, sizeof hello->host);
  const uint8_t *nonce = neap_get_bytes(r, NEAP_NONCE);
  if (!neap_reader_done(r)) return "a damaged greeting";
  memcpy(hello->nonce, nonce, NEAP_NONCE);
  if (hello->role < NEAP_SERVER || hello->role > NEAP_ADMIN || hello->rank < -1 ||
      hello->lanes < 1 || hello->lanes > NEAP_LANES || hello->lane >= hello->lanes)
    return "an impossible greeting";
  return NULL;
}

int neap_nonce(void *bytes, size_t size) {
  if (getentropy(bytes, size)) return neap_fail(NEAP_EIO, "the system gives no random numbers");
  return NEAP_OK;
}

bool neap_proof(const char *secret, char side, const neap_hello *hello,
                const uint8_t nonce[NEAP_NONCE], uint8_t proof[NEAP_PROOF]) {
  uint8_t text[NEAP_HOST_MAX + 128];
  neap_writer w;
  neap_writer_open(&w, text, sizeof text);
  neap_put_u8(&w, (unsigned)side);
  neap_hello_write(&w, hello);
  neap_put_bytes(&w, nonce, NEAP_NONCE);
  const mbedtls_md_info_t *sha = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
  if (!sha || w.full) return false;
  if (!secret) secret = "";
  return mbedtls_md_hmac(sha, (const uint8_t *)secret, strlen(secret), text, neap_writer_size(&w),
                         proof) == 0;
}

bool neap_proof_equal(const uint8_t a[NEAP_PROOF], const uint8_t b[NEAP_PROOF]) {
  unsigned differ = 0;
  for (int i = 0; i < NEAP_PROOF; i++) differ |= (unsigned)(a[i] ^ b[i]);
  return differ == 0;
}
