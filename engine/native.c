/* SPDX-License-Identifier: MIT */
/* native.c - makes a program's machine code executable.
 *
 * The code is written into pages that are writable, which then become executable and stay as they
 * are: never both at once. Where the system allows no such pages, or memory is short, programs run
 * without: the executor of blocks gives the same bits. */
#define _GNU_SOURCE
#include "program.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The code of all passes for one dtype behind what is there already. */
static size_t emit_passes(neap_program *program, int dtype, neap_native *passes,
                          unsigned char *room, unsigned char *code, size_t used) {
  for (int pass = 0; pass < program->plan->num_passes; pass++) {
    size_t size = neap_native_emit(program->plan, pass, dtype, program->context->cpu->name, room,
                                   &passes[pass]);
    if (!size) continue;
    passes[pass].offset = used;
    if (code) memcpy(code + used, room, size);
    used += (size + 63) & ~(size_t)63;
  }
  return used;
}

/* Machine code cannot be data: ISO C has no conversion, POSIX demands that this one works. */
static neap_native_fn as_function(unsigned char *code) {
  neap_native_fn function;
  memcpy(&function, &code, sizeof function);
  return function;
}

static void link_passes(neap_program *program, neap_native *passes, unsigned char *code) {
  for (int pass = 0; pass < program->plan->num_passes; pass++)
    if (passes[pass].lanes) passes[pass].run = as_function(code + passes[pass].offset);
}

/* Weights that there is code for: sets of passes in this order. */
static const int dtypes[] = {NEAP_K_F32, NEAP_K_F64, NEAP_K_F16, NEAP_K_BF16};
enum { SETS = sizeof dtypes / sizeof *dtypes };

static size_t emit_sets(neap_program *program, neap_native *natives, unsigned char *room,
                        unsigned char *code) {
  size_t used = 0;
  for (int set = 0; set < SETS; set++)
    used = emit_passes(program, dtypes[set], natives + set * program->plan->num_passes, room, code,
                       used);
  return used;
}

static size_t natives_bytes(const neap_program *program) {
  return SETS * (size_t)program->plan->num_passes * sizeof(neap_native);
}

void neap_program_compile(neap_program *program) {
  neap_context *context = program->context;
  size_t bytes = natives_bytes(program), size = 0;
  if (!bytes) return;
  neap_native *natives = neap_alloc(context, bytes);
  unsigned char *room = natives ? neap_alloc(context, NEAP_N_ROOM) : NULL;
  if (room) {
    memset(natives, 0, bytes);
    size = emit_sets(program, natives, room, NULL);
  }
  unsigned char *code = MAP_FAILED;
  if (size) code = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code != MAP_FAILED) {
    emit_sets(program, natives, room, code);
    if (mprotect(code, size, PROT_READ | PROT_EXEC) == 0) {
      for (int set = 0; set < SETS; set++)
        link_passes(program, natives + set * program->plan->num_passes, code);
      program->natives = natives;
      program->code = code;
      program->code_bytes = size;
    } else {
      munmap(code, size);
    }
  }
  neap_free(context, room, NEAP_N_ROOM);
  if (!program->natives) neap_free(context, natives, bytes);
}

void neap_program_drop_code(neap_program *program) {
  if (!program->natives) return;
  munmap(program->code, program->code_bytes);
  neap_free(program->context, program->natives, natives_bytes(program));
}

const neap_native *neap_program_natives(const neap_program *program, int dtype) {
  if (!program->natives) return NULL;
  for (int set = 0; set < SETS; set++)
    if (dtypes[set] == dtype) return program->natives + set * program->plan->num_passes;
  return NULL;
}
