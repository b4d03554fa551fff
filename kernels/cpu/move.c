/* SPDX-License-Identifier: MIT */
/* move.c - elements copied, filled, counted up, put in another order. */
#include "cpu.h"

int NEAP_KERNEL(copy)(const neap_kargs *args, int64_t begin, int64_t end) {
  if (begin < end)
    memcpy(neap_at_out(args->out, begin, args->dtype), neap_at(args->in[0], begin, args->dtype),
           (size_t)(end - begin) * neap_k_itemsize(args->dtype));
  return NEAP_K_OK;
}

int NEAP_KERNEL(fill)(const neap_kargs *args, int64_t begin, int64_t end) {
  double value;
  NEAP_KERNEL(number)(args->out_dtype, args->number[0], &value);
  NEAP_KERNEL(repeat)
  ((int)neap_k_itemsize(args->out_dtype), &value, neap_at_out(args->out, begin, args->out_dtype),
   end - begin);
  return NEAP_K_OK;
}

int NEAP_KERNEL(arange)(const neap_kargs *args, int64_t begin, int64_t end) {
  const double start = args->number[0], step = args->number[1];
  neap_block values;
  for (int64_t at = begin, n; at < end; at += n) {
    n = neap_min(NEAP_BLOCK_BYTES / 8, end - at);
    for (int64_t i = 0; i < n; i++) values.f64[i] = start + (double)(at + i) * step;
    NEAP_KERNEL(convert)
    (NEAP_K_F64, values.f64, args->out_dtype, neap_at_out(args->out, at, args->out_dtype), n);
  }
  return NEAP_K_OK;
}

/* ---- permute -------------------------------------------------------------------------------- */

/* Where the dimension next to the innermost is the one that lies contiguous in the input, rows of
 * out are columns of in. Read row by row, each line of the cache would be fetched once for every
 * element in it; in square tiles it is fetched once. */
enum { TILE = 16 };

#define TRANSPOSE(bits)                                                                            \
  static void transpose_##bits(const bits *restrict in, bits *restrict out, int64_t rows,          \
                               int64_t columns, int64_t stride) {                                  \
    for (int64_t r = 0; r < rows; r += TILE)                                                       \
      for (int64_t c = 0; c < columns; c += TILE) {                                                \
        int64_t r_end = neap_min(r + TILE, rows), c_end = neap_min(c + TILE, columns);             \
        for (int64_t i = r; i < r_end; i++)                                                        \
          for (int64_t j = c; j < c_end; j++) out[i * columns + j] = in[j * stride + i];           \
      }                                                                                            \
  }
TRANSPOSE(bits8)
TRANSPOSE(bits16)
TRANSPOSE(bits32)
TRANSPOSE(bits64)

int NEAP_KERNEL(permute)(const neap_kargs *args, int64_t begin, int64_t end) {
  const int item = (int)neap_k_itemsize(args->dtype);
  neap_walk walk;
  if (begin >= end) return NEAP_K_OK;
  NEAP_KERNEL(walk_init)(&walk, args, 1);
  const int64_t columns = walk.shape[0], stride = walk.stride[0][0];
  const int tiles = walk.dims > 1 && walk.stride[0][1] == 1 && stride != 1 && columns > 1;
  for (int64_t at = begin, n; at < end; at += n) {
    void *out = neap_at_out(args->out, at, args->dtype);
    n = end - at;
    if (tiles) {
      /* Whole rows of one plane go in tiles; what is left of a row at either end does not. */
      int64_t row = at / columns % walk.shape[1], column = at % columns;
      int64_t rows = neap_min(n / columns, walk.shape[1] - row);
      if (column == 0 && rows > 0) {
        int64_t offset = NEAP_KERNEL(walk_offset)(&walk, 0, at);
        const void *in = neap_at(args->in[0], offset, args->dtype);
        n = rows * columns;
        switch (item) {
        case 1:
          transpose_bits8(in, out, rows, columns, stride);
          break;
        case 2:
          transpose_bits16(in, out, rows, columns, stride);
          break;
        case 4:
          transpose_bits32(in, out, rows, columns, stride);
          break;
        default:
          transpose_bits64(in, out, rows, columns, stride);
        }
        continue;
      }
      n = neap_min(n, columns - column);
    }
    NEAP_KERNEL(walk_copy)(&walk, 0, item, args->in[0], out, at, n);
  }
  return NEAP_K_OK;
}
