/* SPDX-License-Identifier: MIT */
/* conformance.h - running one operation in every way that must not matter. */
#ifndef NEAP_SPEC_CONFORMANCE_H
#define NEAP_SPEC_CONFORMANCE_H

#include "spec/kernels/reference.h"

enum { MOST = 70000, ROOM = MOST * 8 + 4096, GUARD = 64 };

/* Memory for inputs and output; 64-byte aligned, so that an offset makes it unaligned. */
static _Alignas(64) char input_room[10][ROOM], out_room[ROOM];
static _Alignas(64) char out_before[ROOM], out_first[ROOM];

static const neap_kernel_table *tables[4];
static int num_tables;

static void find_tables(void) {
  static const char *const names[] = {"sse2", "avx2", "avx512", "neon"};
  for (int i = 0; i < 4; i++) {
    const neap_kernel_table *table = neap_k_cpu(names[i]);
    if (!table) continue;
    CHECK(table->abi == NEAP_KERNEL_ABI && table->size == sizeof *table);
    CHECK(strcmp(table->name, names[i]) == 0);
    tables[num_tables++] = table;
  }
  CHECK(num_tables > 0 && neap_k_cpu(NULL) == tables[num_tables - 1]); /* the best is the last */
  CHECK(!neap_k_cpu("abacus"));
}

/* An element in the middle of nowhere: room for `n` elements of it, guards on both sides. */
static void *out_at(int dtype, int64_t offset) {
  return out_room + GUARD + offset * (int64_t)neap_k_itemsize(dtype);
}
static void *input_at(int i, int dtype, int64_t offset) {
  return input_room[i] + GUARD + offset * (int64_t)neap_k_itemsize(dtype);
}
static void fill_with(enum data data, int dtype, void *at, int64_t n) {
  for (int64_t i = 0; i < n; i++) put(dtype, at, i, draw_number(dtype, data));
}

/* The same bits, but for those inside a NaN. */
static int same_bits(int dtype, const char *a, const char *b, size_t bytes) {
  if (memcmp(a, b, bytes) == 0) return 1;
  const int64_t n = (int64_t)(bytes / neap_k_itemsize(dtype));
  for (int64_t i = 0; i < n; i++) {
    const size_t item = neap_k_itemsize(dtype);
    if (memcmp(a + (size_t)i * item, b + (size_t)i * item, item) == 0) continue;
    if (!is_float(dtype) || !isnan(get(dtype, a, i).f) || !isnan(get(dtype, b, i).f)) return 0;
  }
  return 1;
}

/* Runs `op` on the range [0, work) with every table, in one piece and cut into several, and wants
 * the same from all: `status`, and if that is 0, the same bits in the `bytes` after args->out (in
 * out_room, elements of `dtype`), and nothing written around them. They stay there. */
static void run(int op, const neap_kargs *args, int64_t work, int dtype, size_t bytes, int status) {
  char *out = args->out ? args->out : args->partial;
  const size_t begin = (size_t)(out - out_room) - GUARD, all = bytes + 2 * GUARD;
  CHECK(out >= out_room + GUARD && begin + all <= ROOM);
  memcpy(out_before, out_room + begin, all);
  for (int t = 0; t < num_tables; t++)
    for (int pieces = 1; pieces <= 4; pieces += 3) {
      memcpy(out_room + begin, out_before, all);
      int got = 0;
      for (int64_t at = 0, piece = 0, end; piece < pieces; piece++, at = end) {
        end = piece + 1 == pieces ? work : at + below(work - at + 1);
        int result = neap_k_get(tables[t], op)(args, at, end);
        if (!got) got = result;
      }
      if (got != status) {
        fprintf(stderr, "%s: %s: status %d instead of %d\n", tables[t]->name, neap_k_ops[op].name,
                got, status);
        exit(1);
      }
      if (status) continue;
      if (t == 0 && pieces == 1) memcpy(out_first, out_room + begin, all);
      if (memcmp(out_room + begin, out_before, GUARD) ||
          memcmp(out_room + begin + GUARD + bytes, out_before + GUARD + bytes, GUARD) ||
          !same_bits(dtype, out_first + GUARD, out_room + begin + GUARD, bytes)) {
        fprintf(stderr, "%s: %s: dtype %d, work %lld: not the bits of %s in one piece\n",
                tables[t]->name, neap_k_ops[op].name, args->dtype, (long long)work,
                tables[0]->name);
        exit(1);
      }
    }
}

/* Element i of what run() left is `expected`, give or take `tolerance`. */
static void expect(int op, const neap_kargs *args, int dtype, int64_t i, number expected,
                   double tolerance) {
  number got = get(dtype, args->out, i);
  if (same(dtype, got, expected)) return;
  if (is_float(dtype) && fabs(got.f - expected.f) <= tolerance) return;
  fprintf(stderr, "%s: dtype %d, element %lld: %.17g %lld instead of %.17g %lld\n",
          neap_k_ops[op].name, args->dtype, (long long)i, got.f, (long long)got.i, expected.f,
          (long long)expected.i);
  exit(1);
}

#endif
