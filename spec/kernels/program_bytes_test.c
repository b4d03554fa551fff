/* SPDX-License-Identifier: MIT */
/* program_bytes_test.c - what the verifier makes of bytes: the format as it is written down in
 * program.h, byte by byte; each rule broken once; every byte of a program changed in turn. */
#include "program_builder.h"
#include "program_machine.h"

static char text[256];

/* Refused, and the reason has `part` in it. */
static void refused(const builder *b, const char *part) {
  neap_p_plan *plan = machine_plan(b->bytes, b->size, text, sizeof text);
  if (plan || !strstr(text, part)) fprintf(stderr, "wanted: %s\ngot: %s\n", part, text);
  CHECK(!plan && strstr(text, part));
}

/* w - rate * g, with a state that counts: s + 1. */
static void small(builder *b) {
  memset(b, 0, sizeof *b);
  uint32_t w = NODE(b, weight, 0), g = NODE(b, gradient, 0);
  uint32_t rate = b_setting(b, "learning_rate"), s = b_state(b, "n", 0.5, 0);
  b->states[0].result = NODE(b, add, s, b_constant(b, 1), 0);
  b->result = NODE(b, sub, w, NODE(b, mul, rate, g), 0);
}

static void bytes_are_as_written_down(void) {
  static builder b;
  small(&b);
  build(&b);
  /* clang-format off */
  static const unsigned char golden[] = {
      'N', 'P', 'R', 'G', 1, 0, 0, 0, 230, 0, 0, 0, 0, 0, 0, 0, /* magic, version, size, flags */
      1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,           /* settings states scalars constants */
      8, 0, 0, 0, 14, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,          /* nodes, strings, result */
      0, 0, 0, 0, 13, 0, 0, 0,                                  /* learning_rate */
      13, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0,          /* n: filled, new value node 5 */
      0, 0, 0, 0, 0, 0, 0xe0, 0x3f,                             /* at first 0.5 */
      0, 0, 0, 0, 0, 0, 0xf0, 0x3f,                             /* constant 1 */
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,           /* 0 weight */
      1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,           /* 1 gradient */
      3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,           /* 2 setting 0 */
      2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,           /* 3 state 0 */
      5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,           /* 4 constant 0 */
      6, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,           /* 5 add 3 4 */
      8, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,           /* 6 mul 2 1 */
      7, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,           /* 7 sub 0 6 */
      'l', 'e', 'a', 'r', 'n', 'i', 'n', 'g', '_', 'r', 'a', 't', 'e', 'n'};
  /* clang-format on */
  CHECK(b.size == sizeof golden && memcmp(b.bytes, golden, sizeof golden) == 0);
  neap_p_plan *plan = machine_plan(golden, sizeof golden, text, sizeof text);
  CHECK(plan && plan->num_passes == 1 && plan->num_settings == 1 && plan->num_states == 1);
  CHECK(strcmp(plan->settings[0], "learning_rate") == 0);
  CHECK(strcmp(plan->states[0].name, "n") == 0 && plan->states[0].value == 0.5);
  CHECK(plan->states[0].written && !plan->states[0].from_weight && !plan->uses_scalars);
  float weight[2] = {1, 2}, gradient[2] = {10, 20}, n[2] = {0.5f, 0.5f};
  neap_p_run run = {.plan = plan, .rows = 2, .row = 1, .inputs = {weight, gradient, n}};
  machine_run(&run, &(double){0.5}, NULL, 0);
  CHECK(weight[0] == -4 && weight[1] == -8 && n[0] == 1.5f && n[1] == 1.5f);
  free(plan);
}

static void each_rule_has_its_text(void) {
  static builder b;
#define BROKEN(part, ...)                                                                          \
  do {                                                                                             \
    small(&b);                                                                                     \
    __VA_ARGS__;                                                                                   \
    build(&b);                                                                                     \
    refused(&b, part);                                                                             \
  } while (0)
  BROKEN("node 6 (mul): operand 2 is node 6, which does not come before it", b.nodes[6][2] = 6);
  BROKEN("node 7 (sub): operand 1 is node 4000000000", b.nodes[7][1] = 4000000000u);
  BROKEN("node 5: there is no operation 999", b.nodes[5][0] = 999);
  BROKEN("node 6 (mul): operand 3 must be zero", b.nodes[6][3] = 1);
  BROKEN("node 0 (weight): operand 1 must be zero", b.nodes[0][1] = 1);
  BROKEN("node 2 (setting): index 1, but the table has 1 entries", b.nodes[2][1] = 1);
  BROKEN("node 3 (state): index 7", b.nodes[3][1] = 7);
  BROKEN("node 4 (constant): index 1", b.nodes[4][1] = 1);
  BROKEN("node 8 (scalar): index 0, but the table has 0 entries", NODE(&b, scalar, 0));
  BROKEN("node 8 (weight): the same as node 0", NODE(&b, weight, 0));
  BROKEN("node 8 (norm): its operand is one number for the key", NODE(&b, norm, 2));
  BROKEN("node 9 (sum): its operand is one number a row", NODE(&b, sum, NODE(&b, row_sum, 0)));
  BROKEN("the result is node 8 of 8", b.result = 8);
  BROKEN("the result, node 2, is one number for the key", b.result = 2);
  BROKEN("state 0: its new value is node 9 of 8", b.states[0].result = 9);
  BROKEN("state 0: there is no start 2", b.states[0].from_weight = 2);
  BROKEN("setting 0: its name has a byte 0x27", b.settings[0] = "it's");
  BROKEN("setting 0: a name of 0 bytes", b.settings[0] = "");
  BROKEN("setting 1: the name 'learning_rate' stands there twice", b_setting(&b, "learning_rate"));
  BROKEN("scalar 0: its new value, node 0, is an element", b_scalar(&b, "x", 0);
         b.scalars[0].result = 0);
  BROKEN("unknown flags 0x4", b.flags = 4);
  BROKEN("a schedule has no weight", b.flags = NEAP_P_SCHEDULE);
  BROKEN("a schedule has no states", b.flags = NEAP_P_SCHEDULE; b.num_nodes = 1;
         memcpy(b.nodes[0], b.nodes[2], sizeof b.nodes[0]); b.result = 0);
  BROKEN("more than 32 sums", for (int i = 0; i < 33; i++) NODE(&b, sum, 0));
  BROKEN(
      "33 states; at most 32", static char name[40][4]; for (int i = 0; i < 32; i++) {
        snprintf(name[i], sizeof name[i], "s%d", i);
        b_state(&b, name[i], 0, 0);
      });
#undef BROKEN
}

static void headers_are_checked(void) {
  static builder b;
  small(&b);
  build(&b);
  for (size_t size = 0; size < b.size; size++) {
    neap_p_plan *plan = machine_plan(b.bytes, size, text, sizeof text);
    CHECK(!plan); /* cut short anywhere */
  }
  b.bytes[b.size++] = 0;
  refused(&b, "231 bytes were given, its counts make 230");
  b.size--;
  b.bytes[4] = 2;
  refused(&b, "version 2; this library knows version 1");
  b.bytes[0] = 'n';
  refused(&b, "these bytes are no program");
  for (int word = 4; word < 10; word++) { /* counts that would overflow a sum of sizes */
    small(&b);
    build(&b);
    memset(b.bytes + word * 4, 0xff, 4);
    CHECK(!machine_plan(b.bytes, b.size, text, sizeof text));
  }
}

/* Sums of sums: planning must not take for ever, nor a plan all of memory. */
static void towers_of_sums_are_planned_or_refused(void) {
  static builder b;
  for (int rows = 0; rows < 2; rows++) {
    memset(&b, 0, sizeof b);
    uint32_t x = NODE(&b, weight, 0);
    for (int i = 0; i < 32; i++) {
      for (int k = 0; k < 12; k++) x = NODE(&b, tanh, x);
      uint32_t sum = rows && i % 2 ? NODE(&b, row_mean, x) : NODE(&b, mean, x);
      x = NODE(&b, mul, x, sum);
    }
    b.result = x;
    build(&b);
    neap_p_plan *plan = machine_plan(b.bytes, b.size, text, sizeof text);
    if (!plan) CHECK(strstr(text, "its plan would take more than"));
    double weight[6] = {1, 2, 3, 4, 5, 6};
    neap_p_run run = {
        .plan = plan, .dtype = NEAP_K_F64, .rows = 2, .row = 3, .inputs = {weight, weight}};
    if (plan) machine_run(&run, NULL, NULL, 0);
    if (plan) CHECK(plan->num_passes == (rows ? 17 : 33));
    free(plan);
  }
}

/* Runs what was accepted on a few shapes, in memory of just the right size. */
static void run_accepted(neap_p_plan *plan) {
  static const int64_t ids[2] = {0, 2};
  double settings[NEAP_P_SETTINGS] = {0};
  double scalars[NEAP_P_SCALARS] = {0};
  for (int shape = 0; shape < 3; shape++) {
    neap_p_run run = {.plan = plan, .rows = 3, .row = shape == 2 ? 1000 : 2, .scalars = scalars};
    run.dtype = shape ? NEAP_K_F32 : NEAP_K_F64;
    if (shape == 1) run.ids = ids, run.num_ids = 2;
    const size_t item = neap_k_itemsize(run.dtype);
    for (int i = 0; i < 2 + plan->num_states; i++)
      run.inputs[i] = calloc((size_t)((i == 1 && shape == 1 ? 2 : 3) * run.row), item);
    for (int i = 0; i < plan->num_states; i++) run.state_dtype[i] = (unsigned char)run.dtype;
    machine_run(&run, settings, NULL, 0);
    for (int i = 0; i < 2 + plan->num_states; i++) free(run.inputs[i]);
  }
}

static void changed_bytes_are_refused_or_run_within_bounds(void) {
  static builder b;
  memset(&b, 0, sizeof b);
  uint32_t w = NODE(&b, weight, 0), g = NODE(&b, gradient, 0), s = b_state(&b, "mean", 0, 1);
  uint32_t rate = b_setting(&b, "rate"), x = b_scalar(&b, "x", 1);
  uint32_t c = NODE(&b, where, NODE(&b, lt, g, w), g, rate);
  uint32_t r = NODE(&b, mul, NODE(&b, row_mean, c), NODE(&b, normal, 1));
  uint32_t n = NODE(&b, div, NODE(&b, norm, r), b_constant(&b, 3));
  b.states[0].result = NODE(&b, add, s, r);
  b.scalars[0].result = NODE(&b, add, x, n);
  b.result = NODE(&b, sub, w, NODE(&b, mul, n, NODE(&b, sqrt, NODE(&b, abs, r))));
  b.flags = NEAP_P_LAZY;
  build(&b);
  neap_p_plan *plan = machine_plan(b.bytes, b.size, text, sizeof text);
  if (!plan) fprintf(stderr, "%s\n", text);
  CHECK(plan);
  run_accepted(plan);
  free(plan);
  int accepted = 0;
  for (size_t i = 0; i < b.size; i++) {
    static const unsigned char flips[] = {1, 2, 4, 8, 16, 32, 64, 128, 255, 3, 0x7f};
    for (size_t k = 0; k < sizeof flips; k++) {
      b.bytes[i] ^= flips[k];
      plan = machine_plan(b.bytes, b.size, text, sizeof text);
      if (plan) {
        accepted++;
        run_accepted(plan);
        free(plan);
      }
      b.bytes[i] ^= flips[k];
    }
  }
  CHECK(accepted > 100); /* other operations, names and constants are programs too */
}

int main(void) {
  bytes_are_as_written_down();
  each_rule_has_its_text();
  headers_are_checked();
  towers_of_sums_are_planned_or_refused();
  changed_bytes_are_refused_or_run_within_bounds();
  return 0;
}
