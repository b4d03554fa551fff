/* SPDX-License-Identifier: MIT */
/* cpu.h - what the files of this folder share.
 *
 * Every .c file here is compiled once for each instruction set, with NEAP_ISA naming it. So all
 * names with external linkage go through NEAP_KERNEL, and nothing here may be called unless the
 * processor has that set: kernels/cpu.c sees to it, choosing among the tables of table.c.
 *
 * The loops are plain C that the compiler vectorises. Bits do not depend on the vector length
 * because nothing is reordered: where a sum needs lanes, their number and the order in which they
 * are added up stand in the source (reduce.c), and -ffp-contract=off keeps a*b+c two roundings. */
#ifndef NEAP_CPU_H
#define NEAP_CPU_H

#include "../kernel.h"
#include "../half.h"

#define NEAP_PASTE_(isa, name) neap_##isa##_##name
#define NEAP_PASTE(isa, name)  NEAP_PASTE_(isa, name)
#define NEAP_KERNEL(name)      NEAP_PASTE(NEAP_ISA, name)

/* One prototype a row of ops.def. */
#define NEAP_OP(name, kind, inputs, numbers, flags)                                                \
  int NEAP_KERNEL(name)(const neap_kargs *args, int64_t begin, int64_t end);
#include "../ops.def"
#undef NEAP_OP
int NEAP_KERNEL(gemm)(int dtype, int ta, int tb, int64_t m, int64_t n, int64_t k, double alpha,
                      const void *a, int64_t lda, const void *b, int64_t ldb, double beta, void *c,
                      int64_t ldc);
void NEAP_KERNEL(program)(struct neap_p_frame *frame, const struct neap_p_instr *code, int count);

/* The loop has no dependence from one turn to another, though out may be the same memory as an
 * input (element i is read, then written). `restrict` would forbid that; this does not. */
#if defined(__clang__)
#define NEAP_IVDEP     _Pragma("clang loop vectorize(assume_safety)")
#define NEAP_UNROLL    _Pragma("clang loop unroll(full)")
#define NEAP_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define NEAP_IVDEP     _Pragma("GCC ivdep")
#define NEAP_UNROLL    _Pragma("GCC unroll 32")
#define NEAP_NO_UNROLL _Pragma("GCC unroll 1")
#endif

/* Elements moved by their size, whatever they mean. */
typedef uint8_t bits8 __attribute__((may_alias));
typedef uint16_t bits16 __attribute__((may_alias));
typedef uint32_t bits32 __attribute__((may_alias));
typedef uint64_t bits64 __attribute__((may_alias));

/* The types that loops compute in; 16-bit floats use f32. R(suffix, type, the type in which
 * integers wrap without undefined behaviour). */
#define NEAP_FLOATS(R) R(f32, float, float) R(f64, double, double)
#define NEAP_INTS(R)                                                                               \
  R(i8, int8_t, uint8_t)                                                                           \
  R(u8, uint8_t, uint8_t)                                                                          \
  R(i32, int32_t, uint32_t)                                                                        \
  R(i64, int64_t, uint64_t)

/* Work that goes through a buffer on the stack goes in blocks of so many bytes of the type it is
 * computed in: small enough that a few of them stay in the first-level cache. */
enum { NEAP_BLOCK_BYTES = 4096, NEAP_BLOCK = NEAP_BLOCK_BYTES / 4 /* floats */ };
typedef union neap_block {
  float f32[NEAP_BLOCK];
  unsigned char bytes[NEAP_BLOCK_BYTES];
  _Alignas(64) double f64[NEAP_BLOCK_BYTES / 8];
} neap_block;

/* Asks for memory that will be wanted soon: loops that compute much with each element would wait
 * for every line of it where the processor does not look ahead by itself. An address behind the
 * end of an array is no fault. */
static inline void neap_prefetch(const void *at, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)at + i);
}

static inline int64_t neap_min(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int neap_is_small_float(int dtype) { /* 16 bits */
  return dtype == NEAP_K_F16 || dtype == NEAP_K_BF16;
}
static inline int neap_is_float(int dtype) {
  return dtype <= NEAP_K_BF16;
}
static inline const void *neap_at(const void *base, int64_t index, int dtype) {
  return (const char *)base + index * (int64_t)neap_k_itemsize(dtype);
}
static inline void *neap_at_out(void *base, int64_t index, int dtype) {
  return (char *)base + index * (int64_t)neap_k_itemsize(dtype);
}

/* ---- convert.c ---- */

/* out[0 .. n) (dtype `to`) = in[0 .. n) (dtype `from`), as cast does it. */
void NEAP_KERNEL(convert)(int from, const void *in, int to, void *out, int64_t n);
/* 16-bit floats to and from float32. */
void NEAP_KERNEL(widen)(int dtype, const uint16_t *in, float *out, int64_t n);
void NEAP_KERNEL(narrow)(int dtype, const float *in, uint16_t *out, int64_t n);
/* One number, converted as cast does it, to the type that `dtype` is computed in (wide), or to
 * `dtype` itself. */
void NEAP_KERNEL(number_wide)(int dtype, double number, void *out);
void NEAP_KERNEL(number)(int dtype, double number, void *out);

/* `n` elements (at most NEAP_BLOCK) as float32, in place if that is what they are. */
static inline const float *neap_load_f32(int dtype, const void *in, int64_t n, float *buffer) {
  if (dtype == NEAP_K_F32) return in;
  NEAP_KERNEL(widen)(dtype, in, buffer, n);
  return buffer;
}

/* ---- map.c, shapes ---- */

/* Shape and strides with dimensions merged where that changes nothing: innermost first, `dims` at
 * least 1. */
typedef struct neap_walk {
  int dims;
  int64_t shape[NEAP_K_DIMS];
  int64_t stride[NEAP_K_INPUTS][NEAP_K_DIMS];
} neap_walk;
void NEAP_KERNEL(walk_init)(neap_walk *walk, const neap_kargs *args, int inputs);
/* Where place `position` of out lies in input i. */
int64_t NEAP_KERNEL(walk_offset)(const neap_walk *walk, int i, int64_t position);
/* out[0 .. n) = in at the places begin .. begin+n of input i, elements of `itemsize` bytes. */
void NEAP_KERNEL(walk_copy)(const neap_walk *walk, int i, int itemsize, const void *in, void *out,
                            int64_t begin, int64_t n);
/* `n` copies of the element at `value`. */
void NEAP_KERNEL(repeat)(int itemsize, const void *value, void *out, int64_t n);

#endif
