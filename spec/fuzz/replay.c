/* SPDX-License-Identifier: MIT */
/* replay.c - the main program of a fuzzer where there is no libFuzzer: runs it on the files
 * given, and on those in the folders given. Fails if that is not a single one, so that a lost
 * corpus is noticed. */
#include "fuzz.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int run_file(const char *path) {
  FILE *file = fopen(path, "rb");
  struct stat about;
  FUZZ_CHECK(file != NULL && fstat(fileno(file), &about) == 0);
  /* Of just the right size, so that a sanitizer sees reading beyond. */
  size_t size = (size_t)about.st_size;
  uint8_t *bytes = malloc(size > 0 ? size : 1);
  FUZZ_CHECK(bytes != NULL && fread(bytes, 1, size, file) == size);
  fclose(file);
  LLVMFuzzerTestOneInput(bytes, size);
  free(bytes);
  return 1;
}

static int run_folder(const char *path) {
  DIR *folder = opendir(path);
  FUZZ_CHECK(folder != NULL);
  int count = 0;
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    char name[4096];
    if (entry->d_name[0] == '.') continue;
    FUZZ_CHECK((size_t)snprintf(name, sizeof name, "%s/%s", path, entry->d_name) < sizeof name);
    count += run_file(name);
  }
  closedir(folder);
  return count;
}

int main(int argc, char **argv) {
  int count = 0;
  for (int i = 1; i < argc; i++) {
    struct stat about;
    if (stat(argv[i], &about) != 0)
      fprintf(stderr, "%s is not there\n", argv[i]);
    else
      count += S_ISDIR(about.st_mode) ? run_folder(argv[i]) : run_file(argv[i]);
  }
  printf("%d inputs\n", count);
  return count > 0 ? 0 : 1;
}
