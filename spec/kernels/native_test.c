/* SPDX-License-Identifier: MIT */
/* native_test.c - machine code for random programs, against the executor of blocks.
 *
 * The two share a plan and nothing else; whatever the program, the size, the alignment and the
 * values (infinities, NaNs and both zeros among them), they must agree in every bit. */
#include "kernels/half.h"
#include "kernels/native.h"
#include "spec/check.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

enum {
  STATES = 2,
  SETTINGS = 3,
  CONSTANTS = 4,
  MOST_NODES = 60,
  MOST = 10000,
  SHIFTS = 16,
  ROUNDS = 1500
};

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static uint32_t below(uint64_t *random, uint32_t limit) {
  return (uint32_t)(next_random(random) % limit);
}

/* ---- Random programs ------------------------------------------------------------------------- */

typedef struct {
  unsigned char bytes[8192];
  size_t size;
} buffer;

static void put_word(buffer *b, uint32_t value) {
  for (int i = 0; i < 4; i++) b->bytes[b->size++] = (unsigned char)(value >> (8 * i));
}

static void put_real(buffer *b, double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  put_word(b, (uint32_t)bits);
  put_word(b, (uint32_t)(bits >> 32));
}

typedef struct {
  uint32_t op, a, b, c;
} node;

static bool is_scalar_rule(int rule) {
  return rule == NEAP_P_SETTING || rule == NEAP_P_CONSTANT || rule == NEAP_P_WHOLE;
}

/* Operations that machine code has; `exotic` adds one it does not have. */
static uint32_t random_op(uint64_t *random, bool exotic) {
  static const uint32_t ops[] = {NEAP_P_OP_add,   NEAP_P_OP_sub,  NEAP_P_OP_mul,  NEAP_P_OP_div,
                                 NEAP_P_OP_min,   NEAP_P_OP_max,  NEAP_P_OP_lt,   NEAP_P_OP_le,
                                 NEAP_P_OP_gt,    NEAP_P_OP_ge,   NEAP_P_OP_eq,   NEAP_P_OP_neg,
                                 NEAP_P_OP_abs,   NEAP_P_OP_sign, NEAP_P_OP_sqrt, NEAP_P_OP_floor,
                                 NEAP_P_OP_where, NEAP_P_OP_mul,  NEAP_P_OP_add,  NEAP_P_OP_sub};
  if (exotic && below(random, 8) == 0) return NEAP_P_OP_exp;
  return ops[below(random, sizeof ops / sizeof *ops)];
}

/* A program of all inputs and some random operations; the last ones are its results. */
static void make_program(buffer *b, uint64_t *random, bool lazy, int sums, bool exotic) {
  node nodes[MOST_NODES + 16];
  int count = 0, elements[MOST_NODES + 16], num_elements = 0;
  nodes[count++] = (node){NEAP_P_OP_weight, 0, 0, 0};
  nodes[count++] = (node){NEAP_P_OP_gradient, 0, 0, 0};
  for (uint32_t i = 0; i < STATES; i++) nodes[count++] = (node){NEAP_P_OP_state, i, 0, 0};
  for (int i = 0; i < count; i++) elements[num_elements++] = i;
  for (uint32_t i = 0; i < SETTINGS; i++) nodes[count++] = (node){NEAP_P_OP_setting, i, 0, 0};
  for (uint32_t i = 0; i < CONSTANTS; i++) nodes[count++] = (node){NEAP_P_OP_constant, i, 0, 0};
  int operations = 1 + (int)below(random, MOST_NODES - 20);
  for (int i = 0; i < operations; i++) {
    node n = {0};
    if (sums && below(random, 10) == 0) {
      static const uint32_t wholes[] = {NEAP_P_OP_sum, NEAP_P_OP_mean, NEAP_P_OP_norm};
      n.op = wholes[below(random, 3)];
      n.a = (uint32_t)elements[below(random, (uint32_t)num_elements)];
      sums--;
    } else {
      n.op = random_op(random, exotic);
      int operands = neap_p_ops[n.op].operands;
      n.a = below(random, (uint32_t)count);
      n.b = operands > 1 ? below(random, (uint32_t)count) : 0;
      n.c = operands > 2 ? below(random, (uint32_t)count) : 0;
    }
    bool scalar = is_scalar_rule(neap_p_ops[n.op].rule);
    if (neap_p_ops[n.op].rule == NEAP_P_MAP) { /* an element if an operand is */
      const uint32_t operands[3] = {n.a, n.b, n.c};
      scalar = true;
      for (int k = 0; k < neap_p_ops[n.op].operands; k++)
        for (int j = 0; j < num_elements; j++)
          if (elements[j] == (int)operands[k]) scalar = false;
    }
    if (!scalar) elements[num_elements++] = count;
    nodes[count++] = n;
  }
  uint32_t results[1 + STATES];
  for (int i = 0; i <= STATES; i++) {
    int back = num_elements < 6 ? num_elements : 6;
    results[i] = (uint32_t)elements[num_elements - 1 - (int)below(random, (uint32_t)back)];
  }
  const char strings[] = "abcde";
  const uint32_t header[12] = {NEAP_P_MAGIC,
                               NEAP_P_VERSION,
                               0,
                               lazy ? NEAP_P_LAZY : 0,
                               SETTINGS,
                               STATES,
                               0,
                               CONSTANTS,
                               (uint32_t)count,
                               8,
                               results[0],
                               0};
  b->size = 0;
  for (int i = 0; i < 12; i++) put_word(b, header[i]);
  for (uint32_t i = 0; i < SETTINGS; i++) put_word(b, i), put_word(b, 1);
  for (uint32_t i = 0; i < STATES; i++) {
    put_word(b, SETTINGS + i), put_word(b, 1), put_word(b, 0), put_word(b, results[1 + i]);
    put_real(b, 0);
  }
  const double constants[CONSTANTS] = {1, -0.5, 3, 0};
  for (int i = 0; i < CONSTANTS; i++) put_real(b, constants[i]);
  for (int i = 0; i < count; i++) {
    put_word(b, nodes[i].op), put_word(b, nodes[i].a);
    put_word(b, nodes[i].b), put_word(b, nodes[i].c);
  }
  memcpy(b->bytes + b->size, strings, 5);
  memset(b->bytes + b->size + 5, 0, 3);
  b->size += 8;
  uint32_t size = (uint32_t)b->size;
  for (int i = 0; i < 4; i++) b->bytes[8 + i] = (unsigned char)(size >> (8 * i));
}

/* ---- Two ways -----------------------------------------------------------------------------------
 */

typedef union {
  float f32[SHIFTS + MOST];
  double f64[SHIFTS + MOST];
  uint16_t small[SHIFTS + MOST];
} array;

/* Of array i (weight, gradient, states) of a weight of `dtype`. */
static int dtype_of(int i, int dtype) {
  return i < 2 || dtype == NEAP_K_F64 ? dtype : NEAP_K_F32;
}

static double element(const array *a, int dtype, int64_t i) {
  switch (dtype) {
  case NEAP_K_F64:
    return a->f64[i];
  case NEAP_K_F32:
    return a->f32[i];
  case NEAP_K_F16:
    return neap_half_to_float(a->small[i]);
  default:
    return neap_bfloat_to_float(a->small[i]);
  }
}

static double special(uint64_t *random) {
  static const double values[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e-42, -1, 1};
  return values[below(random, 8)];
}

static void fill(array *a, int dtype, int64_t size, bool specials, uint64_t *random) {
  for (int64_t i = 0; i < size; i++) {
    double x = (double)(int64_t)next_random(random) * 0x1p-62;
    if (specials && below(random, 16) == 0) x = special(random);
    if (dtype == NEAP_K_F64)
      a->f64[i] = x;
    else if (dtype == NEAP_K_F32)
      a->f32[i] = (float)x;
    else if (specials && below(random, 8) == 0) /* any bits, signalling NaNs too */
      a->small[i] = (uint16_t)next_random(random);
    else if (dtype == NEAP_K_F16)
      a->small[i] = neap_half_from_double(x);
    else
      a->small[i] = neap_bfloat_from_double(x);
  }
}

typedef struct {
  array arrays[2 + STATES];
  double values[NEAP_P_NODES + 600], partials[64];
} memory;

static void run_all(memory *m, const neap_p_plan *plan, const neap_native *natives,
                    const neap_kernel_table *table, int dtype, int64_t rows, int64_t row,
                    const int64_t *ids, int64_t num_ids, int shift) {
  neap_p_run run = {.plan = plan,
                    .natives = natives,
                    .block = table->program,
                    .dtype = dtype,
                    .rows = rows,
                    .row = row,
                    .ids = ids,
                    .num_ids = num_ids,
                    .values = m->values,
                    .partials = m->partials};
  for (int i = 0; i < 2 + STATES; i++) {
    const int own = dtype_of(i, dtype);
    run.inputs[i] = (char *)&m->arrays[i] + (size_t)shift * neap_k_itemsize(own);
    if (i >= 2) run.state_dtype[i - 2] = (unsigned char)own;
  }
  m->values[0] = 0.25, m->values[1] = -1.75, m->values[2] = 0.1;
  neap_p_run_scalars(&run, 0);
  for (int pass = 0; pass < plan->num_passes; pass++) {
    for (int64_t g = 0; g < neap_p_run_grains(&run); g++) neap_p_run_part(&run, pass, g);
    neap_p_run_scalars(&run, pass + 1);
  }
}

static int compiled, passes_seen;

static void one_round(uint64_t seed, const neap_kernel_table *table) {
  static char scratch[NEAP_P_SCRATCH] __attribute__((aligned(64)));
  static memory native, block;
  static int64_t ids[MOST];
  uint64_t random = seed;
  buffer program;
  bool lazy = below(&random, 3) == 0;
  make_program(&program, &random, lazy, (int)below(&random, 3), below(&random, 4) == 0);
  char text[256] = "";
  size_t bytes;
  if (neap_p_check(program.bytes, program.size, scratch, &bytes, text, sizeof text)) {
    fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, text);
    exit(1);
  }
  void *plan_memory = malloc(bytes);
  neap_p_plan *plan = neap_p_make(program.bytes, program.size, scratch, plan_memory);
  CHECK(plan->num_passes <= 8 && plan->num_values < NEAP_P_NODES);
  static const int dtypes[] = {NEAP_K_F32, NEAP_K_F64, NEAP_K_F16, NEAP_K_BF16};
  static const char *const dtype_names[] = {"f32", "f64", "f16", "bf16"};
  const int dtype = dtypes[below(&random, 4)];
  neap_native natives[8] = {0};
  unsigned char *code =
      mmap(NULL, 8 * NEAP_N_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(code != MAP_FAILED);
  for (int pass = 0; pass < plan->num_passes; pass++) {
    passes_seen++;
    compiled += neap_native_emit(plan, pass, dtype, table->name, code + pass * NEAP_N_ROOM,
                                 &natives[pass]) > 0;
  }
  CHECK(mprotect(code, 8 * NEAP_N_ROOM, PROT_READ | PROT_EXEC) == 0);
  for (int pass = 0; pass < plan->num_passes; pass++) {
    unsigned char *at = code + pass * NEAP_N_ROOM;
    if (natives[pass].lanes) memcpy(&natives[pass].run, &at, sizeof at);
  }
  for (int turn = 0; turn < 4; turn++) {
    int64_t row = 1 + below(&random, turn == 0 ? 5 : 70);
    const int64_t most = MOST >> below(&random, 7); /* small ones more often */
    int64_t rows = below(&random, (uint32_t)(most / row) + 1) + 1, num_ids = 0;
    if (rows * row > MOST) rows = MOST / row;
    const int64_t used = SHIFTS + rows * row; /* with what lies around them */
    bool sparse = below(&random, 2);
    for (int64_t r = 0; sparse && r < rows; r++)
      if (below(&random, 3)) ids[num_ids++] = r;
    for (int i = 0; i < 2 + STATES; i++)
      fill(&native.arrays[i], dtype_of(i, dtype), used, turn & 1, &random);
    block = native;
    int shift = (int)below(&random, SHIFTS);
    const int64_t *present = sparse ? ids : NULL;
    run_all(&native, plan, natives, table, dtype, rows, row, present, num_ids, shift);
    run_all(&block, plan, NULL, table, dtype, rows, row, present, num_ids, shift);
    for (int i = 0; i < 2 + STATES; i++) {
      const int own = dtype_of(i, dtype);
      size_t size = neap_k_itemsize(own);
      for (int64_t k = 0; k < used; k++) {
        const char *x = (char *)&native.arrays[i] + (size_t)k * size;
        const char *y = (char *)&block.arrays[i] + (size_t)k * size;
        if (memcmp(x, y, size) == 0) continue;
        double p = element(&native.arrays[i], own, k), q = element(&block.arrays[i], own, k);
        /* Which NaN comes of two is not said, neither by C nor here. */
        if (!isnan(p) || !isnan(q)) {
          fprintf(stderr,
                  "seed %llu, %s, %s, array %d, element %lld of %lld x %lld: %a is not %a\n",
                  (unsigned long long)seed, table->name, dtype_names[dtype], i,
                  (long long)k - shift, (long long)rows, (long long)row, p, q);
          exit(1);
        }
      }
    }
  }
  munmap(code, 8 * NEAP_N_ROOM);
  free(plan_memory);
}

int main(int argc, char **argv) {
  const char *const isas[] = {"avx2", "avx512"};
  uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
  for (int i = 0; i < 2; i++) {
    const neap_kernel_table *table = neap_k_cpu(isas[i]);
    if (!table) continue;
    compiled = passes_seen = 0;
    for (uint64_t seed = first; seed < first + ROUNDS; seed++) one_round(seed, table);
    printf("%s: %d of %d passes became machine code\n", isas[i], compiled, passes_seen);
    CHECK(compiled > passes_seen / 3);
  }
  return 0;
}
