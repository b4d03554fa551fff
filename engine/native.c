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

void neap_program_compile(neap_program *program) {
  neap_context *context = program->context;
  int passes = program->plan->num_passes;
  size_t bytes = 2 * (size_t)passes * sizeof(neap_native);
  if (!passes) return;
  neap_native *natives = neap_alloc(context, bytes);
  unsigned char *room = natives ? neap_alloc(context, NEAP_N_ROOM) : NULL;
  size_t size = 0;
  if (room) {
    memset(natives, 0, bytes);
    size = emit_passes(program, NEAP_K_F32, natives, room, NULL, 0);
    size = emit_passes(program, NEAP_K_F64, natives + passes, room, NULL, size);
  }
  unsigned char *code = MAP_FAILED;
  if (size) code = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code != MAP_FAILED) {
    size_t half = emit_passes(program, NEAP_K_F32, natives, room, code, 0);
    emit_passes(program, NEAP_K_F64, natives + passes, room, code, half);
    if (mprotect(code, size, PROT_READ | PROT_EXEC) == 0) {
      link_passes(program, natives, code);
      link_passes(program, natives + passes, code);
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
  neap_free(program->context, program->natives,
            2 * (size_t)program->plan->num_passes * sizeof(neap_native));
}

const neap_native *neap_program_natives(const neap_program *program, int dtype) {
  if (!program->natives) return NULL;
  if (dtype == NEAP_FLOAT32) return program->natives;
  return dtype == NEAP_FLOAT64 ? program->natives + program->plan->num_passes : NULL;
}
