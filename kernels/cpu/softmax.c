/* SPDX-License-Identifier: MIT */
/* softmax.c - exp(x - m) / sum exp(x - m) along an axis, and its logarithm; m, the largest,
 * keeps exp from overflowing. Sums run in float64, one element after the other; the quotient
 * and the logarithm are computed in float64 too, and rounded once.
 *
 * An axis that is not the last is read with a stride. The exponentials cost more than that. */
#include "cpu.h"
#include "../elementary.h"

/* One row: element i lies at i * stride, in and out. */
typedef struct row {
  int dtype;
  int64_t n, stride;
  const void *in;
  void *out;
} row;

/* Blocks come and go in the type they are computed in. */
static const void *load(const row *r, int64_t at, int64_t n, neap_block *wide) {
  const void *in = neap_at(r->in, at * r->stride, r->dtype);
  const int item = (int)neap_k_itemsize(r->dtype);
  const neap_walk walk = {.dims = 1, .shape = {n}, .stride = {{r->stride}}};
  if (!neap_is_small_float(r->dtype)) {
    if (r->stride == 1) return in;
    NEAP_KERNEL(walk_copy)(&walk, 0, item, in, wide->bytes, 0, n);
    return wide->bytes;
  }
  uint16_t raw[NEAP_BLOCK];
  if (r->stride != 1) {
    NEAP_KERNEL(walk_copy)(&walk, 0, item, in, raw, 0, n);
    in = raw;
  }
  NEAP_KERNEL(widen)(r->dtype, in, wide->f32, n);
  return wide->f32;
}

static void store(const row *r, int64_t at, int64_t n, const void *wide) {
  const size_t item = neap_k_itemsize(r->dtype);
  char *out = neap_at_out(r->out, at * r->stride, r->dtype);
  uint16_t raw[NEAP_BLOCK];
  if (neap_is_small_float(r->dtype)) {
    NEAP_KERNEL(narrow)(r->dtype, wide, raw, n);
    wide = raw;
  }
  if (r->stride == 1) {
    memcpy(out, wide, (size_t)n * item);
  } else {
    for (int64_t i = 0; i < n; i++)
      memcpy(out + i * r->stride * (int64_t)item, (const char *)wide + i * (int64_t)item, item);
  }
}

/* A row of one block keeps its exponentials for the last pass; a longer one computes them again:
 * the same bits, and no memory. */
#define SOFTMAX(suffix, type, wrap)                                                                \
  static void softmax_##suffix(const row *r, int logarithm) {                                      \
    enum { BLOCK = NEAP_BLOCK_BYTES / sizeof(type) };                                              \
    neap_block buffer, result;                                                                     \
    type *y = (type *)result.bytes, largest = -(type)INFINITY;                                     \
    double sum = 0;                                                                                \
    for (int64_t at = 0, n; at < r->n; at += n) {                                                  \
      n = neap_min(BLOCK, r->n - at);                                                              \
      const type *x = load(r, at, n, &buffer);                                                     \
      for (int64_t i = 0; i < n; i++)                                                              \
        largest = ((x[i] > largest) | (x[i] != x[i])) ? x[i] : largest;                            \
    }                                                                                              \
    for (int64_t at = 0, n; at < r->n; at += n) {                                                  \
      n = neap_min(BLOCK, r->n - at);                                                              \
      const type *x = load(r, at, n, &buffer);                                                     \
      for (int64_t i = 0; i < n; i++) y[i] = NEAP_EXP(x[i] - largest);                             \
      for (int64_t i = 0; i < n; i++) sum += (double)y[i];                                         \
    }                                                                                              \
    const double log_sum = log(sum);                                                               \
    for (int64_t at = 0, n; at < r->n; at += n) {                                                  \
      n = neap_min(BLOCK, r->n - at);                                                              \
      if (logarithm) {                                                                             \
        const type *x = load(r, at, n, &buffer);                                                   \
        for (int64_t i = 0; i < n; i++) y[i] = (type)(((double)x[i] - (double)largest) - log_sum); \
      } else {                                                                                     \
        if (r->n > BLOCK) {                                                                        \
          const type *x = load(r, at, n, &buffer);                                                 \
          for (int64_t i = 0; i < n; i++) y[i] = NEAP_EXP(x[i] - largest);                         \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++) y[i] = (type)((double)y[i] / sum);                         \
      }                                                                                            \
      store(r, at, n, y);                                                                          \
    }                                                                                              \
  }
NEAP_FLOATS(SOFTMAX)

static int along(const neap_kargs *args, int64_t begin, int64_t end, int logarithm) {
  if (!neap_is_float(args->dtype)) return NEAP_K_EDTYPE;
  for (int64_t at = begin; at < end; at++) {
    int64_t first = at / args->inner * args->axis * args->inner + at % args->inner;
    row r = {args->dtype, args->axis, args->inner, neap_at(args->in[0], first, args->dtype),
             neap_at_out(args->out, first, args->dtype)};
    if (args->dtype == NEAP_K_F64) {
      softmax_f64(&r, logarithm);
    } else {
      softmax_f32(&r, logarithm);
    }
  }
  return NEAP_K_OK;
}

int NEAP_KERNEL(softmax)(const neap_kargs *args, int64_t begin, int64_t end) {
  return along(args, begin, end, 0);
}
int NEAP_KERNEL(log_softmax)(const neap_kargs *args, int64_t begin, int64_t end) {
  return along(args, begin, end, 1);
}
