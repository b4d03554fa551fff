/* SPDX-License-Identifier: MIT */
/* cpu.c - which table of kernels runs on this processor, and what ops.def says of each operation.
 *
 * The choice is made at run time by asking the processor, not by ifuncs: those run before
 * sanitizers and the C library are set up. The tables' bits agree, so the choice is one of speed
 * only. */
#include "cpu/table.h"
#include <string.h>

const neap_k_op_info neap_k_ops[NEAP_K_NUM_OPS] = {
#define NEAP_OP(name, kind, inputs, numbers, flags)                                                \
  {#name, NEAP_K_##kind, inputs, numbers, NEAP_K_##flags, offsetof(neap_kernel_table, name)},
#include "ops.def"
#undef NEAP_OP
};

/* Each asks for what CMakeLists.txt lets the compiler use. F16C is in every processor with AVX2. */
#if NEAP_HAVE_sse2
static int runs_sse2(void) {
  return __builtin_cpu_supports("sse2");
}
#endif
#if NEAP_HAVE_avx2
static int runs_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif
#if NEAP_HAVE_avx512
static int runs_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("fma");
}
#endif
#if NEAP_HAVE_neon
static int runs_neon(void) { /* part of every 64-bit ARM */
  return 1;
}
#endif

static const struct {
  const neap_kernel_table *table;
  int (*runs)(void);
} tables[] = {
/* the best first */
#if NEAP_HAVE_avx512
    {&neap_cpu_avx512, runs_avx512},
#endif
#if NEAP_HAVE_avx2
    {&neap_cpu_avx2, runs_avx2},
#endif
#if NEAP_HAVE_sse2
    {&neap_cpu_sse2, runs_sse2},
#endif
#if NEAP_HAVE_neon
    {&neap_cpu_neon, runs_neon},
#endif
};

const neap_kernel_table *neap_k_cpu(const char *name) {
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
    if ((!name || strcmp(name, tables[i].table->name) == 0) && tables[i].runs())
      return tables[i].table;
  return NULL;
}
