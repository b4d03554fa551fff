/* SPDX-License-Identifier: MIT */
/* table.h - what kernels/cpu.c and table.c agree on: one table an instruction set. */
#ifndef NEAP_TABLE_H
#define NEAP_TABLE_H

#include "../kernel.h"

extern const neap_kernel_table neap_cpu_sse2;
extern const neap_kernel_table neap_cpu_avx2;
extern const neap_kernel_table neap_cpu_avx512;
extern const neap_kernel_table neap_cpu_neon;

#endif
