/* SPDX-License-Identifier: MIT */
/* npz_fuzz.c - fuzzes the reader of .npz; file_fuzz.h says what must hold. */
#include "file_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  return fuzz_file(&neap_format_npz, 1, bytes, size);
}
