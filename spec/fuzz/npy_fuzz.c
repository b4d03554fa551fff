/* SPDX-License-Identifier: MIT */
/* npy_fuzz.c - fuzzes the reader of .npy; file_fuzz.h says what must hold. */
#include "file_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  return fuzz_file(&neap_format_npy, 0, bytes, size);
}
