/* SPDX-License-Identifier: MIT */
/* kernel.h - what a device can do: one table of functions on raw pointers.
 *
 * A kernel knows no arrays, threads, errors or allocation. It gets one argument
 * record and a range of work, and may be called for disjoint ranges from several
 * threads at once; the union of all ranges is the whole operation, and the result
 * is the same bits wherever the range was cut (partial_sum and partial_norm count
 * their work in grains) and whichever table runs it. Only the bits inside a NaN are
 * not promised.
 *
 * Floats of 16 bits are computed in float32 and rounded once, to nearest even.
 * Integers wrap.
 *
 * The table is versioned, because it crosses a library boundary (the CUDA plugin).
 * Fill `abi` and `size` first; a reader checks both.
 */
#ifndef NEAP_KERNEL_H
#define NEAP_KERNEL_H

#include <stddef.h>
#include <stdint.h>

enum {
  NEAP_KERNEL_ABI = 1,
  NEAP_K_DIMS = 8,   /* most dimensions */
  NEAP_K_INPUTS = 3, /* most array inputs of an element-wise operation */
  NEAP_K_CODES = 8,  /* elements whose codes fill whole bytes */
};

/* Same numbers as neap_dtype in neap.h (a static assertion in the engine ties them). */
enum neap_k_dtype {
  NEAP_K_F32 = 0,
  NEAP_K_F64,
  NEAP_K_F16,
  NEAP_K_BF16,
  NEAP_K_I8,
  NEAP_K_U8,
  NEAP_K_I32,
  NEAP_K_I64,
  NEAP_K_NUM_DTYPES
};

/* What kind of operation a row of ops.def is; it says how the fields below are used. */
enum neap_k_kind {
  NEAP_K_MAP,    /* element by element with broadcasting; work: elements of out */
  NEAP_K_REDUCE, /* [outer, axis, inner] -> [outer, inner]; work: outer * inner */
  NEAP_K_ALONG,  /* [outer, axis, inner] -> the same shape; work: outer * inner */
  NEAP_K_MOVE,   /* copies and fills, each described at its row of ops.def */
};

/* The arguments of one operation. Pointers are to the first element, aligned for their
 * dtype; strides count elements; a kernel reads only the fields its kind uses.
 *
 * out is contiguous. In MAP, ALONG, axpy and add_n it may be the very memory of an input
 * that has out's shape and strides; apart from that no input overlaps it.
 *
 * dtype and out_dtype are both set. They are equal except in cast, and where the flags say
 * otherwise: INDEX, or WIDE with integers, have out_dtype NEAP_K_I64. Operations without
 * inputs (fill, arange, uniform, normal) look at out_dtype alone. */
typedef struct neap_kargs {
  int dtype;     /* of the inputs */
  int out_dtype; /* of the output */
  void *out;
  const void *in[NEAP_K_INPUTS]; /* MAP: NULL: number[i] stands for input i */
  /* MAP: numbers in the inputs' places, then settings (clip: low is number[1]). MOVE:
   * settings from number[0] on. Floats of 16 bits take them as float32; integers as cast
   * would convert them, so the caller refuses what does not fit. */
  double number[NEAP_K_INPUTS + 4];
  int ndim;                                   /* MAP, permute; 0: one element */
  int64_t shape[NEAP_K_DIMS];                 /* of out */
  int64_t stride[NEAP_K_INPUTS][NEAP_K_DIMS]; /* of inputs, over out's dimensions; 0: broadcast */
  int64_t outer, axis, inner; /* REDUCE, ALONG; axis above 0 for max, min and argmax */
  const void *const *many;    /* add_n: `count` inputs, at least one */
  int64_t count;
  int64_t size;          /* partial_sum, partial_norm: elements of in[0]; encode, decode: of out */
  uint8_t *codes;        /* encode: where they go */
  int64_t rows, row;     /* rows of the table that ids point into; elements in a row */
  const int64_t *ids;    /* row ids */
  uint64_t seed, stream; /* random numbers: key, and number of the draw */
  void *partial;         /* 8 bytes a grain: a double for floats, an int64_t for integers */
} neap_kargs;

/* 0, or what is wrong; nothing else can go wrong in a kernel. After an error, out holds
 * anything. */
enum {
  NEAP_K_OK = 0,
  NEAP_K_EDTYPE, /* this operation does not know this dtype */
  NEAP_K_EINDEX, /* a row id outside [0, rows) */
  NEAP_K_ESIZE,  /* too large for BLAS, which counts in int */
};
typedef int (*neap_kernel)(const neap_kargs *args, int64_t begin, int64_t end);

/* C = alpha A B + beta C by BLAS, row-major, one dtype (f32, f64), leading dimensions in
 * elements, at least the row length of the matrix as it lies in memory. beta 0: C is not read.
 * One thread: the engine cuts large products itself. */
typedef int (*neap_kernel_gemm)(int dtype, int ta, int tb, int64_t m, int64_t n, int64_t k,
                                double alpha, const void *a, int64_t lda, const void *b,
                                int64_t ldb, double beta, void *c, int64_t ldc);

/* One block of an update program; see program.h. */
struct neap_p_frame;
struct neap_p_instr;
typedef void (*neap_kernel_program)(struct neap_p_frame *frame, const struct neap_p_instr *code,
                                    int count);

typedef struct neap_kernel_table {
  uint32_t abi;     /* NEAP_KERNEL_ABI */
  uint32_t size;    /* sizeof(neap_kernel_table) */
  const char *name; /* "sse2", "avx2", "avx512", "neon" */
  neap_kernel_gemm gemm;
  neap_kernel_program program;
#define NEAP_OP(name, kind, inputs, numbers, flags) neap_kernel name;
#include "ops.def"
#undef NEAP_OP
} neap_kernel_table;

/* Rows of ops.def by number. */
enum neap_k_op {
#define NEAP_OP(name, kind, inputs, numbers, flags) NEAP_K_OP_##name,
#include "ops.def"
#undef NEAP_OP
  NEAP_K_NUM_OPS
};

enum neap_k_flags {
  NEAP_K_0 = 0,     /* none */
  NEAP_K_FLOAT = 1, /* float dtypes only */
  NEAP_K_INDEX = 2, /* the output is int64 */
  NEAP_K_WIDE = 4,  /* integers give int64 (sum) */
};

typedef struct neap_k_op_info {
  const char *name;
  int kind, inputs, numbers, flags;
  size_t offset; /* of its pointer in neap_kernel_table */
} neap_k_op_info;
extern const neap_k_op_info neap_k_ops[NEAP_K_NUM_OPS];

/* How many units of work (see kind) make one part, whatever the number of threads:
 * results that depend on where a range is cut depend on this alone. */
enum { NEAP_K_GRAIN = 65536 };

/* The best table for this processor, or the one named (NULL if it cannot run here).
 * Tables are constant and live as long as the library. */
const neap_kernel_table *neap_k_cpu(const char *name);

static inline neap_kernel neap_k_get(const neap_kernel_table *table, int op) {
  return *(const neap_kernel *)((const char *)table + neap_k_ops[op].offset);
}

static inline size_t neap_k_itemsize(int dtype) {
  static const unsigned char size[NEAP_K_NUM_DTYPES] = {4, 8, 2, 2, 1, 1, 4, 8};
  return size[dtype];
}

#endif
