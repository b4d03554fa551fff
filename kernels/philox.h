/* SPDX-License-Identifier: MIT */
/* philox.h - Philox 4x32-10, the counter-based random numbers of Salmon, Moraes, Dror and Shaw,
 * "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
 *
 * A block of four 32-bit words is a pure function of a key and a counter, so any thread can make
 * any element without having made those before it. Neap's use of it:
 *
 *   key      the seed, low word first
 *   counter  words 0 and 1: the number of the block; words 2 and 3: the stream, that is which
 *            draw since the seed was set
 *   element  floats of up to 32 bits: words 0..3 of block i make elements 4i .. 4i+3;
 *            doubles: words 0,1 and words 2,3 of block i make elements 2i and 2i+1
 */
#ifndef NEAP_PHILOX_H
#define NEAP_PHILOX_H

#include <stdint.h>

/* Replaces the counter by its block of random words. */
static inline void neap_philox(uint32_t word[4], uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53 * word[0], p1 = (uint64_t)0xCD9E8D57 * word[2];
    word[0] = (uint32_t)(p1 >> 32) ^ word[1] ^ key0;
    word[1] = (uint32_t)p1;
    word[2] = (uint32_t)(p0 >> 32) ^ word[3] ^ key1;
    word[3] = (uint32_t)p0;
    key0 += 0x9E3779B9; /* the golden ratio, and the square root of 3 less 1 */
    key1 += 0xBB67AE85;
  }
}

/* Block `block` of a stream. */
static inline void neap_philox_block(uint32_t word[4], uint64_t seed, uint64_t stream,
                                     uint64_t block) {
  word[0] = (uint32_t)block;
  word[1] = (uint32_t)(block >> 32);
  word[2] = (uint32_t)stream;
  word[3] = (uint32_t)(stream >> 32);
  neap_philox(word, (uint32_t)seed, (uint32_t)(seed >> 32));
}

/* In [0, 1): from one word with 24 bits, all that a float has, or with 32; from two with 53. */
static inline double neap_unit24(uint32_t word) {
  return (word >> 8) * 0x1p-24;
}
static inline double neap_unit32(uint32_t word) {
  return word * 0x1p-32;
}
static inline double neap_unit53(uint32_t low, uint32_t high) {
  return (double)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

#endif
