/* SPDX-License-Identifier: MIT */
/* fuzz.h - what fuzzers share. */
#ifndef NEAP_SPEC_FUZZ_H
#define NEAP_SPEC_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Called for each input, any number of times; returns 0. Input that is refused is no failure:
 * a failure is to end the process, by a sanitizer or by FUZZ_CHECK. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* A property that must hold for every input. */
#define FUZZ_CHECK(condition)                                                                      \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                      \
      abort();                                                                                     \
    }                                                                                              \
  } while (0)

#endif
