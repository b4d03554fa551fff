/* SPDX-License-Identifier: MIT */
/* native_x86.c - machine code for AVX2 and AVX-512 (Intel SDM volume 2, System V calling).
 *
 *   rdi inputs -> element number   rsi values   rdx elements   rcx sums   INPUT_REGISTERS: pointers
 *
 * Vector registers, from 0: the plan's registers, then sums, then scalars kept in registers; the
 * last three are for intermediate results. Scalars beyond that are read from memory each time.
 *
 * Both instruction sets are written by one function, insn(): they differ in the prefix, and in
 * comparisons, which give a vector of masks with AVX2 and a mask register with AVX-512.
 * Weights of 16 bits are widened when they are loaded and rounded when they are stored.
 * The result is bit for bit what kernels/cpu/program_block.h computes: no contraction, and
 * minima and maxima that are NaN if either operand is. */
#include "native.h"

#if defined(__x86_64__)

#include <string.h>

enum { RDX = 2, RCX = 1, RSI = 6, RDI = 7 };
static const uint8_t INPUT_REGISTERS[NEAP_N_INPUTS] = {8, 9, 10, 11, 0, 3, 5, 12, 13, 14, 15};
static const uint8_t SAVED[] = {3, 5, 12, 13, 14, 15}; /* of these, what the caller keeps */

typedef struct emitter {
  unsigned char *code;
  size_t used;
  bool full, wide; /* wide: AVX-512 */
  bool real64;     /* elements are double */
  int dtype;       /* of weight and gradient; if of 16 bits, elements are float, as states are */
  int lanes;
  int scalars_kept, first_scalar, first_sum, temps; /* registers */
  neap_native *out;
  uint8_t home[NEAP_P_INPUTS]; /* the register an input was loaded into */
} emitter;

static void byte(emitter *e, unsigned value) {
  if (e->used < NEAP_N_ROOM)
    e->code[e->used++] = (unsigned char)value;
  else
    e->full = true;
}

static void word(emitter *e, uint32_t value) {
  for (int i = 0; i < 4; i++) byte(e, value >> (8 * i) & 255);
}

/* ---- One vector instruction --------------------------------------------------------------------
 */

/* The last operand: a register, or memory. */
typedef struct place {
  enum { REGISTER, ELEMENT_OF_INPUT, SMALL_OF_INPUT, SCALAR, SUM } what;
  int number; /* register, register of the pointer, byte offset of a scalar or a sum */
} place;

static place reg(int number) {
  return (place){REGISTER, number};
}

enum { MAP_0F = 1, MAP_0F38 = 2, MAP_0F3A = 3 };
enum { NO_PREFIX = 0, P66 = 1, PF3 = 2 };
enum { NO_IMM = -1 };

typedef struct insn {
  int map, prefix, opcode;
  bool w;       /* the W bit */
  int dst, src; /* ModRM.reg, vvvv */
  place last;   /* ModRM.rm */
  int imm;      /* NO_IMM, or a byte */
  int mask;     /* AVX-512: mask register, 0: none */
  bool zero;    /* and zeros where it is 0 */
  bool scalar;  /* memory holds one element, for all lanes (AVX-512) */
} insn;

static void modrm(emitter *e, const insn *in) {
  int r = in->dst & 7;
  switch (in->last.what) {
  case REGISTER:
    byte(e, (unsigned)(0xc0 | r << 3 | (in->last.number & 7)));
    break;
  case ELEMENT_OF_INPUT: /* [pointer + rdi * size + 0], the 0 because of rbp and r13 */
  case SMALL_OF_INPUT:
    byte(e, (unsigned)(0x44 | r << 3));
    byte(e, (in->last.what == SMALL_OF_INPUT ? 0x40u
             : e->real64                     ? 0xc0u
                                             : 0x80u) |
                RDI << 3 | (unsigned)(in->last.number & 7));
    byte(e, 0);
    break;
  case SCALAR:
  case SUM: /* [rsi or rcx + offset of 32 bits] */
    byte(e, (unsigned)(0x80 | r << 3 | (in->last.what == SCALAR ? RSI : RCX)));
    word(e, (uint32_t)in->last.number);
    break;
  }
  if (in->imm != NO_IMM) byte(e, (unsigned)in->imm);
}

static void write_insn(emitter *e, const insn *in) {
  bool register_last = in->last.what == REGISTER;
  int b = in->last.what == SCALAR || in->last.what == SUM ? 0 : in->last.number;
  unsigned not_r = !(in->dst & 8), not_b = !(b & 8);
  if (e->wide) {
    unsigned not_x = !(register_last && (b & 16)), not_r2 = !(in->dst & 16);
    byte(e, 0x62);
    byte(e, not_r << 7 | not_x << 6 | not_b << 5 | not_r2 << 4 | (unsigned)in->map);
    byte(e, (unsigned)in->w << 7 | (~(unsigned)in->src & 15) << 3 | 4 | (unsigned)in->prefix);
    byte(e, (unsigned)in->zero << 7 | 2u << 5 | (unsigned)in->scalar << 4 |
                (unsigned)!(in->src & 16) << 3 | (unsigned)in->mask);
  } else {
    byte(e, 0xc4);
    byte(e, not_r << 7 | 1u << 6 | not_b << 5 | (unsigned)in->map);
    byte(e, (unsigned)in->w << 7 | (~(unsigned)in->src & 15) << 3 | 4 | (unsigned)in->prefix);
  }
  byte(e, (unsigned)in->opcode);
  modrm(e, in);
}

/* An instruction on elements: packed single or double, by prefix and W. */
static insn element_insn(const emitter *e, int opcode, int dst, int src, place last) {
  return (insn){.map = MAP_0F,
                .prefix = e->real64 ? P66 : NO_PREFIX,
                .opcode = opcode,
                .w = e->wide && e->real64,
                .dst = dst,
                .src = src,
                .last = last,
                .imm = NO_IMM,
                .scalar = last.what == SCALAR};
}

static void op(emitter *e, int opcode, int dst, int src, place last) {
  insn in = element_insn(e, opcode, dst, src, last);
  write_insn(e, &in);
}

enum {
  MOVE_LOAD = 0x10,
  MOVE_STORE = 0x11,
  MOVE = 0x28,
  SQRT = 0x51,
  AND = 0x54,
  XOR = 0x57,
  ADD = 0x58,
  MUL = 0x59,
  SUB = 0x5c,
  MIN = 0x5d,
  DIV = 0x5e,
  MAX = 0x5f
};

/* ---- Operands
 * ------------------------------------------------------------------------------------ */

/* Where scalar `index` of the values is: its number in the code's own list. */
static int scalar_number(emitter *e, int index) {
  neap_native *out = e->out;
  for (int i = 0; i < out->num_values; i++)
    if (out->values[i] == index) return NEAP_N_FIXED + i;
  if (out->num_values == NEAP_N_VALUES) return -1;
  out->values[out->num_values++] = (uint16_t)index;
  return NEAP_N_FIXED + out->num_values - 1;
}

static place scalar_place(const emitter *e, int number) {
  return (place){SCALAR, number * (e->real64 ? 8 : 4)};
}

static void broadcast(emitter *e, int dst, int number) {
  insn in = {.map = MAP_0F38,
             .prefix = P66,
             .opcode = e->real64 ? 0x19 : 0x18,
             .w = e->wide && e->real64,
             .dst = dst,
             .last = scalar_place(e, number),
             .imm = NO_IMM};
  write_insn(e, &in);
}

/* A register with scalar `number` in all lanes: its own, or `temp`. */
static int scalar_register(emitter *e, int number, int temp) {
  if (number < e->scalars_kept) return e->first_scalar + number;
  broadcast(e, temp, number);
  return temp;
}

static int operand_register(emitter *e, uint32_t operand, int temp) {
  uint32_t number = operand & ~NEAP_P_TAG;
  switch (operand & NEAP_P_TAG) {
  case NEAP_P_REGISTER:
    return (int)number;
  case NEAP_P_INPUT:
    return e->home[number];
  default:
    return scalar_register(e, scalar_number(e, (int)number), temp);
  }
}

/* For the last operand, which AVX-512 may also read from memory for all lanes at once. */
static place operand_place(emitter *e, uint32_t operand, int temp) {
  if (e->wide && (operand & NEAP_P_TAG) == NEAP_P_VALUE) {
    int number = scalar_number(e, (int)(operand & ~NEAP_P_TAG));
    if (number >= e->scalars_kept) return scalar_place(e, number);
  }
  return reg(operand_register(e, operand, temp));
}

/* ---- Comparisons and choices
 * --------------------------------------------------------------------- */

enum { EQ = 0, LT = 1, LE = 2, UNORDERED = 3, NOT_EQUAL = 4, GE = 13, GT = 14 };

/* Compares into mask register 1, or into vector register `mask`. */
static void compare(emitter *e, int predicate, int mask, int a, place b) {
  insn in = element_insn(e, 0xc2, e->wide ? 1 : mask, a, b);
  in.imm = predicate;
  write_insn(e, &in);
}

/* dst = mask ? yes : no. */
static void choose(emitter *e, int dst, int mask, int yes, int no) {
  insn in = {.map = e->wide ? MAP_0F38 : MAP_0F3A,
             .prefix = P66,
             .opcode = e->wide     ? 0x65
                       : e->real64 ? 0x4b
                                   : 0x4a,
             .w = e->wide && e->real64,
             .dst = dst,
             .src = no,
             .last = reg(yes),
             .imm = e->wide ? NO_IMM : mask << 4,
             .mask = e->wide ? 1 : 0};
  write_insn(e, &in);
}

/* dst = mask ? 1 : 0. `one` has 1 in all lanes. */
static void one_or_zero(emitter *e, int dst, int mask, int one) {
  if (!e->wide) {
    op(e, AND, dst, mask, reg(one));
    return;
  }
  insn in = element_insn(e, MOVE, dst, 0, reg(one));
  in.mask = 1;
  in.zero = true;
  write_insn(e, &in);
}

/* ---- Instructions of a plan
 * ------------------------------------------------------------------------ */

static void emit_min_max(emitter *e, int opcode, const neap_p_instr *code) {
  int t0 = e->temps, t1 = t0 + 1, t2 = t0 + 2;
  int a = operand_register(e, code->a, t1);
  op(e, opcode, t0, a, operand_place(e, code->b, t2)); /* b if a is NaN: it must be a */
  compare(e, UNORDERED, t2, a, reg(a));
  choose(e, code->to, t2, a, t0);
}

static void emit_compare(emitter *e, int predicate, const neap_p_instr *code) {
  int t0 = e->temps, t1 = t0 + 1, t2 = t0 + 2;
  int a = operand_register(e, code->a, t0);
  compare(e, predicate, t1, a, operand_place(e, code->b, t2));
  one_or_zero(e, code->to, t1, scalar_register(e, NEAP_N_ONE, t2));
}

static void emit_sign(emitter *e, const neap_p_instr *code) {
  int t0 = e->temps, t1 = t0 + 1, t2 = t0 + 2;
  int a = operand_register(e, code->a, t0); /* an element: a scalar's sign is scalar code */
  op(e, XOR, t1, t1, reg(t1));
  compare(e, GT, t2, a, reg(t1));
  one_or_zero(e, t2, t2, scalar_register(e, NEAP_N_ONE, t0));
  if (e->wide) {
    compare(e, LT, 0, a, reg(t1));
    one_or_zero(e, t1, 0, scalar_register(e, NEAP_N_ONE, t0));
  } else {
    compare(e, LT, t1, a, reg(t1));
    one_or_zero(e, t1, t1, scalar_register(e, NEAP_N_ONE, t0));
  }
  op(e, SUB, t2, t2, reg(t1));
  compare(e, UNORDERED, t1, a, reg(a));
  choose(e, code->to, t1, a, t2);
}

static void emit_where(emitter *e, const neap_p_instr *code) {
  int t0 = e->temps, t1 = t0 + 1;
  op(e, XOR, t0, t0, reg(t0));
  compare(e, NOT_EQUAL, t1, operand_register(e, code->a, t0), reg(t0));
  choose(e, code->to, t1, operand_register(e, code->b, t0), operand_register(e, code->c, t0));
}

static void emit_floor(emitter *e, const neap_p_instr *code) {
  insn in = {.map = MAP_0F3A,
             .prefix = P66,
             .opcode = e->real64 ? 0x09 : 0x08,
             .w = e->wide && e->real64,
             .dst = code->to,
             .last = reg(operand_register(e, code->a, e->temps)),
             .imm = 0x09};
  write_insn(e, &in);
}

/* Half of a vector of floats as doubles, into dst. */
static void half_as_double(emitter *e, int dst, int from, bool upper) {
  if (upper) {
    insn extract = {.map = MAP_0F3A,
                    .prefix = P66,
                    .opcode = e->wide ? 0x1b : 0x19,
                    .w = e->wide,
                    .dst = from,
                    .last = reg(dst),
                    .imm = 1};
    write_insn(e, &extract);
    from = dst;
  }
  insn convert = {.map = MAP_0F, .opcode = 0x5a, .dst = dst, .last = reg(from), .imm = NO_IMM};
  write_insn(e, &convert);
}

static void double_op(emitter *e, int opcode, int dst, int src, int last) {
  insn in = {.map = MAP_0F,
             .prefix = P66,
             .opcode = opcode,
             .w = e->wide,
             .dst = dst,
             .src = src,
             .last = reg(last),
             .imm = NO_IMM};
  write_insn(e, &in);
}

/* Eight lanes: one register with AVX-512, two with AVX2. */
static void emit_add_up(emitter *e, const neap_p_instr *code, bool squares) {
  int t = e->temps, a = operand_register(e, code->a, t + 1);
  int sum = e->first_sum + (e->wide ? 1 : 2) * (int)code->b;
  for (int half = 0; half < 2; half++) {
    if (e->real64 && half == 1) break; /* AVX-512: eight doubles are all lanes */
    int from = a;
    if (!e->real64) half_as_double(e, from = t, a, half);
    if (squares) double_op(e, MUL, t, from, from), from = t;
    double_op(e, ADD, sum + (e->wide ? 0 : half), sum + (e->wide ? 0 : half), from);
  }
}

static int input_number(emitter *e, int input) {
  neap_native *out = e->out;
  for (int i = 0; i < out->num_inputs; i++)
    if (out->inputs[i] == input) return i;
  if (out->num_inputs == NEAP_N_INPUTS) return -1;
  out->inputs[out->num_inputs++] = (uint8_t)input;
  return out->num_inputs - 1;
}

/* ---- Loads and stores ------------------------------------------------------------------------ */

static bool is_small(const emitter *e, int input) {
  return input < 2 && (e->dtype == NEAP_K_F16 || e->dtype == NEAP_K_BF16);
}

static place input_place(emitter *e, int input) {
  return (place){is_small(e, input) ? SMALL_OF_INPUT : ELEMENT_OF_INPUT,
                 INPUT_REGISTERS[input_number(e, input)]};
}

/* On elements of 32 bits as integers, or on memory of 16 bits. */
static void bits_op(emitter *e, int map, int prefix, int opcode, int dst, int src, place last,
                    int imm) {
  insn in = {.map = map,
             .prefix = prefix,
             .opcode = opcode,
             .dst = dst,
             .src = src,
             .last = last,
             .imm = imm};
  write_insn(e, &in);
}

static void shift_left(emitter *e, int dst, int from, int count) {
  bits_op(e, MAP_0F, P66, 0x72, 6, dst, reg(from), count);
}

static void shift_right(emitter *e, int dst, int from, int count) {
  bits_op(e, MAP_0F, P66, 0x72, 2, dst, reg(from), count);
}

static void add_integers(emitter *e, int dst, int a, int b) {
  bits_op(e, MAP_0F, P66, 0xfe, dst, a, reg(b), NO_IMM);
}

static void all_ones(emitter *e, int dst) {
  if (e->wide)
    bits_op(e, MAP_0F3A, P66, 0x25, dst, dst, reg(dst), 0xff); /* vpternlogd */
  else
    bits_op(e, MAP_0F, P66, 0x76, dst, dst, reg(dst), NO_IMM); /* vpcmpeqd */
}

/* Asks for what this input's loads will want some turns from now. Where the processor does not look
 * ahead by itself, a long loop body would wait for each line of memory; elsewhere it costs nothing.
 * An address behind the end of an array is no fault. */
static void prefetch(emitter *e, place from) {
  enum { AHEAD = 1024 }; /* bytes */
  if (from.number >= 8) byte(e, 0x41);
  byte(e, 0x0f), byte(e, 0x18); /* prefetcht0 [pointer + rdi * size + AHEAD] */
  byte(e, 0x80 | 1 << 3 | 4);
  byte(e, (from.what == SMALL_OF_INPUT ? 0x40u
           : e->real64                 ? 0xc0u
                                       : 0x80u) |
              RDI << 3 | (unsigned)(from.number & 7));
  word(e, AHEAD);
}

static void emit_load(emitter *e, int to, int input) {
  place from = input_place(e, input);
  prefetch(e, from);
  if (!is_small(e, input)) {
    op(e, MOVE_LOAD, to, 0, from);
  } else if (e->dtype == NEAP_K_F16) {
    bits_op(e, MAP_0F38, P66, 0x13, to, 0, from, NO_IMM); /* vcvtph2ps */
  } else {
    bits_op(e, MAP_0F38, P66, 0x33, to, 0, from, NO_IMM); /* vpmovzxwd */
    shift_left(e, to, to, 16);
  }
}

/* As neap_bfloat_from_float(): 0x7fff and the last bit that stays are added, and the upper half is
 * taken. Of a NaN it is x + x, which makes it quiet and changes nothing else. */
static void store_bfloat(emitter *e, int x, place to) {
  int t0 = e->temps, t1 = t0 + 1, t2 = t0 + 2; /* x may be t0 */
  shift_left(e, t1, x, 15);
  shift_right(e, t1, t1, 31);
  all_ones(e, t2);
  shift_right(e, t2, t2, 17);
  add_integers(e, t1, t1, t2);
  add_integers(e, t1, t1, x);
  op(e, ADD, t2, x, reg(x));
  compare(e, UNORDERED, t0, x, reg(x));
  choose(e, t1, t0, t2, t1);
  shift_right(e, t1, t1, 16);
  if (e->wide) {
    bits_op(e, MAP_0F38, PF3, 0x33, t1, 0, to, NO_IMM); /* vpmovdw */
    return;
  }
  bits_op(e, MAP_0F38, P66, 0x2b, t1, t1, reg(t1), NO_IMM); /* vpackusdw, within each half */
  insn permute = {
      .map = MAP_0F3A, .prefix = P66, .w = true, .dst = t1, .last = reg(t1), .imm = 0xd8};
  write_insn(e, &permute);                       /* vpermq: both halves' results to the lower */
  bits_op(e, MAP_0F3A, P66, 0x39, t1, 0, to, 0); /* vextracti128 */
}

static void emit_store(emitter *e, int from, int input) {
  place to = input_place(e, input);
  if (!is_small(e, input))
    op(e, MOVE_STORE, from, 0, to);
  else if (e->dtype == NEAP_K_F16)
    bits_op(e, MAP_0F3A, P66, 0x1d, from, 0, to, 0); /* vcvtps2ph, to nearest even */
  else
    store_bfloat(e, from, to);
}

/* False: no machine code for this operation. */
static bool emit_instr(emitter *e, const neap_p_instr *code) {
  int t0 = e->temps, t1 = t0 + 1;
  switch (code->op) {
  case NEAP_P_OP_load:
    e->home[code->a] = (uint8_t)code->to;
    emit_load(e, code->to, (int)code->a);
    break;
  case NEAP_P_OP_store:
    emit_store(e, operand_register(e, code->a, t0), (int)code->b);
    break;
  case NEAP_P_OP_copy:
    op(e, MOVE, code->to, 0, reg(operand_register(e, code->a, t0)));
    break;
  case NEAP_P_OP_add:
    op(e, ADD, code->to, operand_register(e, code->a, t0), operand_place(e, code->b, t1));
    break;
  case NEAP_P_OP_sub:
    op(e, SUB, code->to, operand_register(e, code->a, t0), operand_place(e, code->b, t1));
    break;
  case NEAP_P_OP_mul:
    op(e, MUL, code->to, operand_register(e, code->a, t0), operand_place(e, code->b, t1));
    break;
  case NEAP_P_OP_div:
    op(e, DIV, code->to, operand_register(e, code->a, t0), operand_place(e, code->b, t1));
    break;
  case NEAP_P_OP_sqrt:
    op(e, SQRT, code->to, 0, operand_place(e, code->a, t0));
    break;
  case NEAP_P_OP_neg:
    op(e, XOR, code->to, operand_register(e, code->a, t0),
       reg(scalar_register(e, NEAP_N_SIGN, t1)));
    break;
  case NEAP_P_OP_abs:
    op(e, AND, code->to, operand_register(e, code->a, t0),
       reg(scalar_register(e, NEAP_N_MAGNITUDE, t1)));
    break;
  case NEAP_P_OP_min:
    emit_min_max(e, MIN, code);
    break;
  case NEAP_P_OP_max:
    emit_min_max(e, MAX, code);
    break;
  case NEAP_P_OP_lt:
    emit_compare(e, LT, code);
    break;
  case NEAP_P_OP_le:
    emit_compare(e, LE, code);
    break;
  case NEAP_P_OP_gt:
    emit_compare(e, GT, code);
    break;
  case NEAP_P_OP_ge:
    emit_compare(e, GE, code);
    break;
  case NEAP_P_OP_eq:
    emit_compare(e, EQ, code);
    break;
  case NEAP_P_OP_sign:
    emit_sign(e, code);
    break;
  case NEAP_P_OP_where:
    emit_where(e, code);
    break;
  case NEAP_P_OP_floor:
    emit_floor(e, code);
    break;
  case NEAP_P_OP_add_up:
    emit_add_up(e, code, false);
    break;
  case NEAP_P_OP_add_squares:
    emit_add_up(e, code, true);
    break;
  default:
    return false;
  }
  return true;
}

/* ---- A pass
 * ------------------------------------------------------------------------------------------ */

/* Notes which inputs and scalars the pass uses, in the order of use. */
static bool find_uses(emitter *e, const neap_p_instr *code, int count) {
  for (int i = 0; i < count; i++) {
    int input = code[i].op == NEAP_P_OP_load    ? (int)code[i].a
                : code[i].op == NEAP_P_OP_store ? (int)code[i].b
                                                : -1;
    if (input >= 0 && input_number(e, input) < 0) return false;
    if (code[i].op == NEAP_P_OP_load) continue;
    const uint32_t operands[3] = {code[i].a, code[i].b, code[i].c};
    int used = code[i].op < NEAP_P_NUM_OPS ? neap_p_ops[code[i].op].operands : 1;
    for (int k = 0; k < used; k++)
      if ((operands[k] & NEAP_P_TAG) == NEAP_P_VALUE &&
          scalar_number(e, (int)(operands[k] & ~NEAP_P_TAG)) < 0)
        return false;
  }
  return true;
}

/* Divides the vector registers up; false if there are too few. */
static bool place_registers(emitter *e, const neap_p_stage *stage) {
  int registers = e->wide ? 32 : 16;
  e->temps = registers - 3;
  e->first_sum = stage->registers;
  e->first_scalar = e->first_sum + stage->num_totals * (e->wide ? 1 : 2);
  e->scalars_kept = e->temps - e->first_scalar;
  if (e->scalars_kept < 0) return false;
  int scalars = NEAP_N_FIXED + e->out->num_values;
  if (e->scalars_kept > scalars) e->scalars_kept = scalars;
  return true;
}

static void push_or_pop(emitter *e, bool push) {
  for (size_t k = 0; k < sizeof SAVED; k++) {
    int r = SAVED[push ? k : sizeof SAVED - 1 - k];
    if (r >= 8) byte(e, 0x41);
    byte(e, (unsigned)((push ? 0x50 : 0x58) | (r & 7)));
  }
}

static void sums_move(emitter *e, int opcode, int num_totals) {
  for (int k = 0; k < num_totals * (e->wide ? 1 : 2); k++) {
    insn in = {.map = MAP_0F,
               .prefix = P66,
               .opcode = opcode,
               .w = e->wide,
               .dst = e->first_sum + k,
               .last = {SUM, k * (e->wide ? 64 : 32)},
               .imm = NO_IMM};
    write_insn(e, &in);
  }
}

static bool emit_pass(emitter *e, const neap_p_stage *stage) {
  int count = (int)stage->ends[0];
  if (!find_uses(e, stage->code, count) || !place_registers(e, stage)) return false;
  push_or_pop(e, true);
  for (int k = 0; k < e->out->num_inputs; k++) { /* mov pointer, [rdi + 8 k] */
    int r = INPUT_REGISTERS[k];
    byte(e, r >= 8 ? 0x4c : 0x48);
    byte(e, 0x8b);
    byte(e, (unsigned)(0x40 | (r & 7) << 3 | RDI));
    byte(e, (unsigned)(8 * k));
  }
  for (int k = 0; k < e->scalars_kept; k++) broadcast(e, e->first_scalar + k, k);
  sums_move(e, MOVE_LOAD, stage->num_totals);
  byte(e, 0x31), byte(e, 0xff); /* xor edi, edi */
  size_t loop = e->used;
  for (int i = 0; i < count; i++)
    if (!emit_instr(e, &stage->code[i])) return false;
  byte(e, 0x48), byte(e, 0x83), byte(e, 0xc7), byte(e, (unsigned)e->lanes); /* add rdi, lanes */
  byte(e, 0x48), byte(e, 0x39), byte(e, 0xd7);                              /* cmp rdi, rdx */
  byte(e, 0x0f), byte(e, 0x82);                                             /* jb loop */
  word(e, (uint32_t)(loop - (e->used + 4)));
  sums_move(e, MOVE_STORE, stage->num_totals);
  byte(e, 0xc5), byte(e, 0xf8), byte(e, 0x77); /* vzeroupper */
  push_or_pop(e, false);
  byte(e, 0xc3);
  return !e->full;
}

size_t neap_native_emit(const neap_p_plan *plan, int pass, int dtype, const char *isa,
                        unsigned char *code, neap_native *out) {
  const neap_p_stage *stage = &plan->stages[pass];
  neap_native made = {0};
  emitter e = {.code = code, .out = &made, .real64 = dtype == NEAP_K_F64, .dtype = dtype};
  e.wide = strcmp(isa, "avx512") == 0;
  if (!e.wide && strcmp(isa, "avx2") != 0) return 0;
  if (stage->subs != 1 || stage->row_slots || stage->registers > 28) return 0;
  if (!e.wide && e.real64 && stage->num_totals) return 0; /* eight lanes are two turns */
  e.lanes = made.lanes = (e.wide ? 64 : 32) / (e.real64 ? 8 : 4);
  if (!emit_pass(&e, stage)) return 0;
  *out = made;
  return e.used;
}

#else

size_t neap_native_emit(const neap_p_plan *plan, int pass, int dtype, const char *isa,
                        unsigned char *code, neap_native *out) {
  (void)plan, (void)pass, (void)dtype, (void)isa, (void)code, (void)out;
  return 0;
}

#endif
