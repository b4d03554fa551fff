/* SPDX-License-Identifier: MIT */
/* map.c - what all element-wise operations share: broadcasting, numbers, 16-bit floats.
 *
 * The loops of map.h know one case: contiguous runs of one type. Everything is brought to that
 * case. An input that is contiguous like out is read where it lies. Any other goes, a block of a
 * few KiB at a time, through a buffer that stays in the first-level cache: repeated, gathered, or
 * widened to float32. If no input needs that, the whole range is one run. */
#include "map.h"

/* ---- Shapes --------------------------------------------------------------------------------- */

void NEAP_KERNEL(walk_init)(neap_walk *walk, const neap_kargs *args, int inputs) {
  int dims = 0;
  for (int d = args->ndim - 1; d >= 0; d--) {
    int64_t length = args->shape[d];
    if (length == 1) continue;
    /* Dimension d joins the one inside it if each input steps through both as through one. */
    int joins = dims > 0;
    for (int i = 0; i < inputs && joins; i++) {
      int64_t step = args->in[i] ? args->stride[i][d] : 0;
      joins = step == walk->stride[i][dims - 1] * walk->shape[dims - 1];
    }
    if (joins) {
      walk->shape[dims - 1] *= length;
      continue;
    }
    walk->shape[dims] = length;
    for (int i = 0; i < inputs; i++) walk->stride[i][dims] = args->in[i] ? args->stride[i][d] : 0;
    dims++;
  }
  if (dims == 0) { /* one element */
    walk->shape[0] = 1;
    for (int i = 0; i < inputs; i++) walk->stride[i][0] = args->in[i] ? 1 : 0;
    dims = 1;
  }
  walk->dims = dims;
}

int64_t NEAP_KERNEL(walk_offset)(const neap_walk *walk, int i, int64_t position) {
  int64_t offset = 0;
  for (int d = 0; d < walk->dims && position; d++) {
    offset += position % walk->shape[d] * walk->stride[i][d];
    position /= walk->shape[d];
  }
  return offset;
}

static int is_constant(const neap_walk *walk, int i) {
  for (int d = 0; d < walk->dims; d++)
    if (walk->stride[i][d] != 0) return 0;
  return 1;
}

static int is_contiguous(const neap_walk *walk, int i) {
  int64_t step = 1;
  for (int d = 0; d < walk->dims; d++) {
    if (walk->stride[i][d] != step) return 0;
    step *= walk->shape[d];
  }
  return 1;
}

#define WALK(bits)                                                                                 \
  static void repeat_##bits(const bits *value, bits *restrict out, int64_t n) {                    \
    const bits v = *value;                                                                         \
    for (int64_t k = 0; k < n; k++) out[k] = v;                                                    \
  }                                                                                                \
  static void walk_##bits(const neap_walk *w, int i, const bits *in, bits *restrict out,           \
                          int64_t begin, int64_t n) {                                              \
    int64_t at[NEAP_K_DIMS], offset = NEAP_KERNEL(walk_offset)(w, i, begin);                       \
    for (int d = 0; d < w->dims; d++) {                                                            \
      at[d] = begin % w->shape[d];                                                                 \
      begin /= w->shape[d];                                                                        \
    }                                                                                              \
    const int64_t *stride = w->stride[i], step = stride[0];                                        \
    while (n > 0) { /* one run of the innermost dimension */                                       \
      int64_t run = neap_min(n, w->shape[0] - at[0]);                                              \
      const bits *restrict from = in + offset;                                                     \
      if (step == 1) {                                                                             \
        for (int64_t k = 0; k < run; k++) out[k] = from[k];                                        \
      } else if (step == 0) {                                                                      \
        repeat_##bits(from, out, run);                                                             \
      } else {                                                                                     \
        for (int64_t k = 0; k < run; k++) out[k] = from[k * step];                                 \
      }                                                                                            \
      out += run, n -= run, at[0] += run, offset += run * step;                                    \
      for (int d = 0; d + 1 < w->dims && at[d] == w->shape[d]; d++) {                              \
        offset += stride[d + 1] - stride[d] * w->shape[d];                                         \
        at[d] = 0, at[d + 1]++;                                                                    \
      }                                                                                            \
    }                                                                                              \
  }
WALK(bits8)
WALK(bits16)
WALK(bits32)
WALK(bits64)

void NEAP_KERNEL(walk_copy)(const neap_walk *walk, int i, int itemsize, const void *in, void *out,
                            int64_t begin, int64_t n) {
  switch (itemsize) {
  case 1:
    walk_bits8(walk, i, in, out, begin, n);
    break;
  case 2:
    walk_bits16(walk, i, in, out, begin, n);
    break;
  case 4:
    walk_bits32(walk, i, in, out, begin, n);
    break;
  default:
    walk_bits64(walk, i, in, out, begin, n);
  }
}

void NEAP_KERNEL(repeat)(int itemsize, const void *value, void *out, int64_t n) {
  switch (itemsize) {
  case 1:
    repeat_bits8(value, out, n);
    break;
  case 2:
    repeat_bits16(value, out, n);
    break;
  case 4:
    repeat_bits32(value, out, n);
    break;
  default:
    repeat_bits64(value, out, n);
  }
}

/* ---- Running a loop ------------------------------------------------------------------------- */

void NEAP_KERNEL(map_flat)(neap_map_loop *loop, int inputs, int dtype, void *out,
                           const void *const *in, const void *settings, int64_t n) {
  if (!neap_is_small_float(dtype)) {
    loop(out, in, settings, n);
    return;
  }
  neap_block block[NEAP_K_INPUTS], result;
  for (int64_t at = 0, most; at < n; at += most) {
    most = neap_min(NEAP_BLOCK, n - at);
    const void *wide[NEAP_K_INPUTS];
    for (int i = 0; i < inputs; i++)
      wide[i] = neap_load_f32(dtype, neap_at(in[i], at, dtype), most, block[i].f32);
    loop(result.f32, wide, settings, most);
    NEAP_KERNEL(narrow)(dtype, result.f32, neap_at_out(out, at, dtype), most);
  }
}

/* How an input comes to the loop. */
enum source {
  DIRECT,   /* contiguous like out */
  CONSTANT, /* one value: the buffer is filled once */
  ROW_RUN,  /* blocks stay within a row: a run from somewhere */
  ROW_ONE,  /* blocks stay within a row: one value a row */
  GATHER,   /* rows are short or strided: collected */
};

/* Rows of so many bytes are worth a block of their own. */
enum { LONG_ROW = 1024 };

int NEAP_KERNEL(map_run)(int op, neap_map_loop *const *loops, const neap_kargs *args, int64_t begin,
                         int64_t end) {
  const int dtype = args->dtype, inputs = neap_k_ops[op].inputs;
  neap_map_loop *loop = loops[dtype];
  if (!loop) return NEAP_K_EDTYPE;
  if (begin >= end) return NEAP_K_OK;
  const int item = (int)neap_k_itemsize(dtype), small = neap_is_small_float(dtype);
  const int wide = small ? (int)sizeof(float) : item; /* bytes an element while computing */

  double settings[2] = {0}; /* room for two of any type */
  for (int s = 0; s < neap_k_ops[op].numbers; s++)
    NEAP_KERNEL(number_wide)(dtype, args->number[inputs + s], (char *)settings + s * wide);

  neap_walk walk;
  NEAP_KERNEL(walk_init)(&walk, args, inputs);
  const int long_rows = walk.shape[0] * item >= LONG_ROW;
  int rows = 0, buffered = small;
  enum source source[NEAP_K_INPUTS];
  neap_block block[NEAP_K_INPUTS], result;
  int64_t most = NEAP_BLOCK_BYTES / wide;
  for (int i = 0; i < inputs; i++) {
    if (is_constant(&walk, i)) {
      source[i] = CONSTANT;
      double value;
      if (!args->in[i]) {
        NEAP_KERNEL(number_wide)(dtype, args->number[i], &value);
      } else if (small) {
        NEAP_KERNEL(widen)(dtype, args->in[i], (float *)&value, 1);
      } else {
        memcpy(&value, args->in[i], item);
      }
      NEAP_KERNEL(repeat)(wide, &value, &block[i], neap_min(most, end - begin));
    } else if (is_contiguous(&walk, i)) {
      source[i] = DIRECT;
    } else if (long_rows && (walk.stride[i][0] == 1 || walk.stride[i][0] == 0)) {
      source[i] = walk.stride[i][0] ? ROW_RUN : ROW_ONE;
      rows = 1;
    } else {
      source[i] = GATHER;
    }
    buffered |= source[i] != DIRECT;
  }
  if (!buffered) most = end - begin;

  for (int64_t at = begin, n; at < end; at += n) {
    n = neap_min(most, end - at);
    if (rows) n = neap_min(n, walk.shape[0] - at % walk.shape[0]);
    const void *in[NEAP_K_INPUTS];
    for (int i = 0; i < inputs; i++) {
      uint16_t raw[NEAP_BLOCK]; /* gathered, and still to be widened */
      const void *from = args->in[i];
      void *buffer = &block[i];
      switch (source[i]) {
      case DIRECT:
        in[i] = neap_at(from, at, dtype);
        break;
      case CONSTANT:
        in[i] = buffer;
        continue;
      case ROW_RUN:
        in[i] = neap_at(from, NEAP_KERNEL(walk_offset)(&walk, i, at), dtype);
        break;
      case ROW_ONE:
        in[i] = small ? (void *)raw : buffer;
        NEAP_KERNEL(repeat)
        (item, neap_at(from, NEAP_KERNEL(walk_offset)(&walk, i, at), dtype), (void *)in[i], n);
        break;
      case GATHER:
        in[i] = small ? (void *)raw : buffer;
        NEAP_KERNEL(walk_copy)(&walk, i, item, from, (void *)in[i], at, n);
        break;
      }
      if (small) in[i] = neap_load_f32(dtype, in[i], n, buffer);
    }
    void *out = neap_at_out(args->out, at, dtype);
    loop(small ? result.f32 : out, in, settings, n);
    if (small) NEAP_KERNEL(narrow)(dtype, result.f32, out, n);
  }
  return NEAP_K_OK;
}
