/* SPDX-License-Identifier: MIT */
/* log.c - the library's log as lines on standard error, for programs. The library itself writes
 * nothing. */
#include "neap_host.h"
#include <stdio.h>
#include <time.h>

void neap_host_log(void *lines, int level, const char *text) {
  static const char *const names[] = {"error", "warn", "info", "debug"};
  const neap_host_lines *to = lines;
  if (level > to->level) return;
  struct timespec now;
  struct tm local;
  clock_gettime(CLOCK_REALTIME, &now);
  localtime_r(&now.tv_sec, &local);
  fprintf(stderr, "%02d:%02d:%02d.%03ld %s: %s: %s\n", local.tm_hour, local.tm_min, local.tm_sec,
          now.tv_nsec / 1000000, to->name, level >= 0 && level <= 3 ? names[level] : "?", text);
}
