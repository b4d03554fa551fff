/* SPDX-License-Identifier: MIT */
/* codec.c - gradient compression: floats to codes of one or two bits, and back.
 *
 * In two steps, a block at a time, so that the compiler makes vectors of both: one code a byte,
 * which is arithmetic on elements; and bytes of codes to packed bits, which moves the codes of one
 * byte to their places all at once, by shifts of a whole word. Codes are packed most significant
 * first; the last byte is filled up with zeros. */
#include "cpu.h"
#include <math.h>

/* A block's codes, one a byte; those behind the last element are zeros. Each block asks for the
 * floats of the next one. */
enum { BLOCK = 256, BLOCK_BYTES = BLOCK * sizeof(float) };
typedef union codes {
  uint8_t one[BLOCK];
  bits32 four[BLOCK / 4]; /* of one packed byte, for codes of two bits */
  bits64 eight[BLOCK / 8];
} codes;
_Static_assert(BLOCK % NEAP_K_CODES == 0, "blocks end where bytes of codes do");

/* The first code is the word's lowest byte only where bytes are in that order. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "kernels/cpu/codec.c is written for little-endian processors"
#endif

/* ---- Packing -------------------------------------------------------------------------------- */

static void pack_2bit(const codes *in, uint8_t *restrict out, int64_t bytes) {
  for (int64_t k = 0; k < bytes; k++) {
    const uint32_t w = in->four[k];
    out[k] = (uint8_t)(w << 6 | w >> 4 | w >> 14 | w >> 24);
  }
}

static void unpack_2bit(const uint8_t *restrict in, codes *out, int64_t bytes) {
  for (int64_t k = 0; k < bytes; k++) {
    const uint32_t b = in[k];
    out->four[k] = (b >> 6 | b << 4 | b << 14 | b << 24) & 0x03030303;
  }
}

/* Each bit to its place by one multiplication: no two of the products meet, so nothing carries. */
static void pack_1bit(const codes *in, uint8_t *restrict out, int64_t bytes) {
  for (int64_t k = 0; k < bytes; k++) out[k] = (uint8_t)(in->eight[k] * 0x8040201008040201u >> 56);
}

/* Of the eight copies of a byte, copy i keeps bit 7 - i alone; what is added carries it to bit 7.
 */
static void unpack_1bit(const uint8_t *restrict in, codes *out, int64_t bytes) {
  for (int64_t k = 0; k < bytes; k++) {
    const uint64_t bits = in[k] * (uint64_t)0x0101010101010101u & 0x0102040810204080u;
    out->eight[k] = (bits + 0x7f7e7c7870604000u) >> 7 & 0x0101010101010101u;
  }
}

/* ---- Elements --------------------------------------------------------------------------------
 *
 * By the bits of floats, for what is sent is made without a choice: a threshold with a sign. */

enum { SIGN = 31 };

/* Codes 3, 2 and 0: +t, -t, nothing, for t above 0. Negative numbers that are sent are those with
 * the sign bit; a NaN is never sent. */
static void quantise_2bit(float t, float *restrict residual, const float *restrict gradient,
                          uint8_t *restrict code, int64_t n) {
  const uint32_t size = neap_float_bits(t);
  for (int64_t i = 0; i < n; i++) {
    const float r = residual[i] + gradient[i];
    const uint32_t sent = fabsf(r) >= t ? ~0u : 0, sign = neap_float_bits(r) & 1u << 31;
    residual[i] = r - neap_float_of_bits((size | sign) & sent);
    code[i] = (uint8_t)((((3u << 30) - (sign >> 1)) & sent) >> 30);
  }
}

static void add_2bit(float t, const uint8_t *restrict code, float *restrict sum, int64_t n) {
  const uint32_t size = neap_float_bits(t);
  for (int64_t i = 0; i < n; i++) {
    const uint32_t c = code[i], sent = 0 - (c >> 1); /* nobody sends 01 */
    sum[i] += neap_float_of_bits((size | (c ^ 1) << SIGN) & sent);
  }
}

/* Codes 1 and 0: +1, -1. */
static void quantise_1bit(float t, float *restrict residual, const float *restrict gradient,
                          uint8_t *restrict code, int64_t n) {
  const uint32_t one = neap_float_bits(1);
  for (int64_t i = 0; i < n; i++) {
    const float r = residual[i] + gradient[i];
    const uint32_t up = r > t ? 1 : 0;
    residual[i] = r - neap_float_of_bits(one | (up ^ 1) << SIGN);
    code[i] = (uint8_t)up;
  }
}

static void add_1bit(float t, const uint8_t *restrict code, float *restrict sum, int64_t n) {
  const uint32_t one = neap_float_bits(1);
  (void)t;
  for (int64_t i = 0; i < n; i++)
    sum[i] += neap_float_of_bits(one | (uint32_t)(code[i] ^ 1) << SIGN);
}

/* ---- Blocks --------------------------------------------------------------------------------- */

#define CODEC(name, bits)                                                                          \
  int NEAP_KERNEL(encode_##name)(const neap_kargs *args, int64_t begin, int64_t end) {             \
    const int64_t last = neap_min(end * NEAP_K_CODES, args->size);                                 \
    if (args->dtype != NEAP_K_F32) return NEAP_K_EDTYPE;                                           \
    for (int64_t at = begin * NEAP_K_CODES, n; at < last; at += n) {                               \
      codes block;                                                                                 \
      float *residual = (float *)args->out + at;                                                   \
      const float *gradient = (const float *)args->in[0] + at;                                     \
      n = neap_min(BLOCK, last - at);                                                              \
      neap_prefetch(residual + BLOCK, BLOCK_BYTES);                                                \
      neap_prefetch(gradient + BLOCK, BLOCK_BYTES);                                                \
      quantise_##name((float)args->number[0], residual, gradient, block.one, n);                   \
      memset(block.one + n, 0, (size_t)(-n & (NEAP_K_CODES - 1)));                                 \
      pack_##name(&block, args->codes + at * bits / 8, (n * bits + 7) / 8);                        \
    }                                                                                              \
    return NEAP_K_OK;                                                                              \
  }                                                                                                \
  int NEAP_KERNEL(decode_##name)(const neap_kargs *args, int64_t begin, int64_t end) {             \
    const int64_t last = neap_min(end * NEAP_K_CODES, args->size);                                 \
    if (args->dtype != NEAP_K_F32) return NEAP_K_EDTYPE;                                           \
    for (int64_t at = begin * NEAP_K_CODES, n; at < last; at += n) {                               \
      codes block;                                                                                 \
      float *sum = (float *)args->out + at;                                                        \
      n = neap_min(BLOCK, last - at);                                                              \
      neap_prefetch(sum + BLOCK, BLOCK_BYTES);                                                     \
      unpack_##name((const uint8_t *)args->in[0] + at * bits / 8, &block, (n * bits + 7) / 8);     \
      add_##name((float)args->number[0], block.one, sum, n);                                       \
    }                                                                                              \
    return NEAP_K_OK;                                                                              \
  }

CODEC(2bit, 2)
CODEC(1bit, 1)
