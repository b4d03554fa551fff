/* SPDX-License-Identifier: MIT */
/* rows.c - rows by their ids: what row-sparse arrays are made of. Every id is checked before it
 * is used, for ids are data. */
#include "map.h"

static int id_is_bad(const neap_kargs *args, int64_t id) {
  return id < 0 || id >= args->rows;
}

int NEAP_KERNEL(gather)(const neap_kargs *args, int64_t begin, int64_t end) {
  const size_t bytes = (size_t)args->row * neap_k_itemsize(args->dtype);
  for (int64_t i = begin; i < end; i++) {
    const int64_t id = args->ids[i];
    if (id_is_bad(args, id)) return NEAP_K_EINDEX;
    if (bytes) memcpy((char *)args->out + i * bytes, (const char *)args->in[0] + id * bytes, bytes);
  }
  return NEAP_K_OK;
}

int NEAP_KERNEL(scatter)(const neap_kargs *args, int64_t begin, int64_t end) {
  const size_t bytes = (size_t)args->row * neap_k_itemsize(args->dtype);
  for (int64_t i = begin; i < end; i++) {
    const int64_t id = args->ids[i];
    if (id_is_bad(args, id)) return NEAP_K_EINDEX;
    if (bytes) memcpy((char *)args->out + id * bytes, (const char *)args->in[0] + i * bytes, bytes);
  }
  return NEAP_K_OK;
}

NEAP_LOOPS_ALL(add_row, 2, ((U)a + (U)b))
static neap_map_loop *const add_row_loops[NEAP_K_NUM_DTYPES] = {NEAP_LOOP_TABLE_ALL(add_row)};

int NEAP_KERNEL(scatter_add)(const neap_kargs *args, int64_t begin, int64_t end) {
  const double settings[2] = {0};
  for (int64_t i = begin; i < end; i++) {
    const int64_t id = args->ids[i];
    if (id_is_bad(args, id)) return NEAP_K_EINDEX;
    void *out = neap_at_out(args->out, id * args->row, args->dtype);
    const void *in[] = {out, neap_at(args->in[0], i * args->row, args->dtype)};
    NEAP_KERNEL(map_flat)
    (add_row_loops[args->dtype], 2, args->dtype, out, in, settings, args->row);
  }
  return NEAP_K_OK;
}

/* ---- row_nonzero ---------------------------------------------------------------------------- */

/* By their bits, those of all elements of a stretch or-ed together; the mask hides the sign, for
 * -0.0 is 0. */

#define ANY(bits)                                                                                  \
  static int any_##bits(const bits *in, int64_t n, bits mask) {                                    \
    bits any = 0;                                                                                  \
    for (int64_t i = 0; i < n; i++) any |= in[i] & mask;                                           \
    return any != 0;                                                                               \
  }
ANY(bits8)
ANY(bits16)
ANY(bits32)
ANY(bits64)

static int any(int dtype, const void *in, int64_t n) {
  const int is_float = neap_is_float(dtype);
  switch (neap_k_itemsize(dtype)) {
  case 1:
    return any_bits8(in, n, UINT8_MAX);
  case 2:
    return any_bits16(in, n, UINT16_MAX >> is_float);
  case 4:
    return any_bits32(in, n, UINT32_MAX >> is_float);
  default:
    return any_bits64(in, n, UINT64_MAX >> is_float);
  }
}

int NEAP_KERNEL(row_nonzero)(const neap_kargs *args, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; r++) {
    int found = 0;
    /* In stretches, as most rows that are not zero show it at once. */
    for (int64_t at = 0, n; at < args->row && !found; at += n) {
      n = neap_min(at ? NEAP_BLOCK : 16, args->row - at);
      found = any(args->dtype, neap_at(args->in[0], r * args->row + at, args->dtype), n);
    }
    ((uint8_t *)args->out)[r] = (uint8_t)found;
  }
  return NEAP_K_OK;
}
