/* SPDX-License-Identifier: MIT */
/* table.c - the table of one instruction set, neap_cpu_<isa>. */
#include "cpu.h"
#include "table.h"

#define NEAP_TEXT_(name)      #name
#define NEAP_TEXT(name)       NEAP_TEXT_(name)
#define NEAP_TABLE_NAME_(isa) neap_cpu_##isa
#define NEAP_TABLE_NAME(isa)  NEAP_TABLE_NAME_(isa)

const neap_kernel_table NEAP_TABLE_NAME(NEAP_ISA) = {
    .abi = NEAP_KERNEL_ABI,
    .size = sizeof(neap_kernel_table),
    .name = NEAP_TEXT(NEAP_ISA),
    .gemm = NEAP_KERNEL(gemm),
    .program = NEAP_KERNEL(program),
#define NEAP_OP(op, kind, inputs, numbers, flags) .op = NEAP_KERNEL(op),
#include "../ops.def"
#undef NEAP_OP
};
