/* SPDX-License-Identifier: MIT */
/* bench.h - figures of a benchmark: rounds, median, least, most, and ratios of two.
 *
 * Whoever measures two things measures them in turn, round by round, in one process: the machine
 * may be busy with other work, but then it is so for both. */
#ifndef NEAP_SPEC_BENCH_H
#define NEAP_SPEC_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BENCH_MAX = 64 };

typedef struct {
  const char *name;
  int count;
  double rounds[BENCH_MAX]; /* in order of measuring */
} bench;

static inline double bench_now(void) { /* seconds */
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void bench_add(bench *b, double value) {
  if (b->count < BENCH_MAX) b->rounds[b->count++] = value;
}

static inline int bench_compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Least, median and most of `count` values. */
static inline void bench_spread(const double *values, int count, double out[3]) {
  double sorted[BENCH_MAX];
  for (int i = 0; i < count; i++) sorted[i] = values[i];
  qsort(sorted, (size_t)count, sizeof(double), bench_compare);
  out[0] = sorted[0], out[1] = sorted[count / 2], out[2] = sorted[count - 1];
}

static inline double bench_median(const bench *b) {
  double s[3];
  bench_spread(b->rounds, b->count, s);
  return s[1];
}

/* One line: values times `scale`. */
static inline void bench_print(const bench *b, double scale) {
  double s[3];
  bench_spread(b->rounds, b->count, s);
  printf("  %-40s %10.1f   (%.1f .. %.1f, %d rounds)\n", b->name, s[1] * scale, s[0] * scale,
         s[2] * scale, b->count);
}

/* One line: a / b, round by round. */
static inline void bench_ratio(const char *name, const bench *a, const bench *b) {
  double ratios[BENCH_MAX], s[3];
  int count = a->count < b->count ? a->count : b->count;
  for (int i = 0; i < count; i++) ratios[i] = a->rounds[i] / b->rounds[i];
  bench_spread(ratios, count, s);
  printf("%s: %.2f (%.2f .. %.2f)\n", name, s[1], s[0], s[2]);
}

#endif
