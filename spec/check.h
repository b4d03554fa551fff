/* SPDX-License-Identifier: MIT */
/* check.h - the little that a C test needs: CHECK(condition) names the place and ends the
 * program with 1; OK(call) wants NEAP_OK and prints neap_error() otherwise. */
#ifndef NEAP_SPEC_CHECK_H
#define NEAP_SPEC_CHECK_H

#include "engine/neap.h"
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                      \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

#define OK(call)                                                                                   \
  do {                                                                                             \
    int status_ = (call);                                                                          \
    if (status_ != NEAP_OK) {                                                                      \
      fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call, neap_status_name(status_), \
              neap_error());                                                                       \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

#endif
