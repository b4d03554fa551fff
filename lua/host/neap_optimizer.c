/* SPDX-License-Identifier: MIT */
/* neap_optimizer.c - `neap optimizer`: a Lua program that comes with Neap,
 * neap/optimizer_command.lua, since what reads and makes optimizers is there. */
#include "program.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

int neap_command_optimizer(int argc, char **argv) {
  char file[PATH_MAX];
  const char *folder = neap_at_hand();
  if (!*folder || snprintf(file, sizeof file, "%s/neap/optimizer_command.lua", folder) >= PATH_MAX)
    return neap_complain("optimizer", "Neap's Lua files were not found");
  char **words = calloc((size_t)argc + 2, sizeof *words);
  if (!words) return neap_complain("optimizer", "no memory");
  words[0] = "run";
  words[1] = file;
  for (int i = 1; i < argc; i++) words[i + 1] = argv[i];
  int status = neap_command_run(argc + 1, words);
  free(words);
  return status;
}
