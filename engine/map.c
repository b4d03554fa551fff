/* SPDX-License-Identifier: MIT */
/* map.c - operations by name and number, and those that work element by element.
 *
 * Broadcasting is a matter of strides: an input that lacks a dimension, or has 1 there, is read
 * with stride 0. Dimensions that lie behind each other in memory in every input are merged before
 * the kernel sees them, so nearly all calls come down to one or two dimensions. */
#include "call.h"
#include <math.h>
#include <string.h>

int neap_op_find(const char *name) {
  for (int i = 0; name && i < NEAP_K_NUM_OPS; i++)
    if (!strcmp(name, neap_k_ops[i].name)) return i;
  return -1;
}

const char *neap_op_name(int op) {
  return op >= 0 && op < NEAP_K_NUM_OPS ? neap_k_ops[op].name : NULL;
}

/* ---- Checking -------------------------------------------------------------------------------- */

/* All but shapes. *first: the first input that is an array. */
static int check_inputs(int op, neap_array *const *inputs, const double *numbers,
                        const neap_array **first) {
  const neap_k_op_info *row = &neap_k_ops[op];
  if (!inputs) return neap_fail(NEAP_EINVAL, "%s: no inputs", row->name);
  for (int i = 0; i < row->inputs; i++) {
    if (!inputs[i]) continue;
    if (*first) {
      NEAP_TRY(neap_check_pair(row->name, *first, inputs[i]));
    } else {
      NEAP_TRY(neap_check_dense(row->name, inputs[i]));
      *first = inputs[i];
    }
  }
  if (!*first) return neap_fail(NEAP_EINVAL, "%s: at least one input must be an array", row->name);
  NEAP_TRY(neap_check_flags(op, *first));
  int dtype = (*first)->info.dtype;
  for (int i = 0; i < row->inputs + row->numbers; i++) {
    if (i < row->inputs && inputs[i]) continue;
    if (!numbers)
      return neap_fail(NEAP_EINVAL, "%s: takes a number in place %d, and none is given", row->name,
                       i);
    /* A setting may lie beyond a dtype's values, as a bound that bounds nothing. */
    if (i < row->inputs || numbers[i] != trunc(numbers[i]))
      NEAP_TRY(neap_check_number(row->name, dtype, numbers[i]));
  }
  return NEAP_OK;
}

/* The shape that all inputs broadcast to. */
static int broadcast(int op, neap_array *const *inputs, neap_array_info *want) {
  const neap_k_op_info *row = &neap_k_ops[op];
  bool first = true;
  for (int i = 0; i < row->inputs; i++) {
    if (!inputs[i]) continue;
    neap_array_info other = inputs[i]->info, before = *want;
    if (first) {
      *want = other;
      first = false;
      continue;
    }
    if (neap_same_shape(want, &other)) continue;
    int ndim = before.ndim > other.ndim ? before.ndim : other.ndim;
    int64_t shape[NEAP_MAX_DIM];
    for (int d = 1; d <= ndim; d++) { /* from the last dimension on */
      int64_t a = d <= before.ndim ? before.shape[before.ndim - d] : 1;
      int64_t b = d <= other.ndim ? other.shape[other.ndim - d] : 1;
      if (a != b && a != 1 && b != 1) {
        char one[NEAP_SHAPE_TEXT], two[NEAP_SHAPE_TEXT];
        return neap_fail(NEAP_ESHAPE, "%s: shapes %s and %s do not broadcast", row->name,
                         neap_shape_text(&before, one), neap_shape_text(&other, two));
      }
      shape[ndim - d] = a == 1 ? b : a;
    }
    NEAP_TRY(neap_shape_check(row->name, ndim, shape, want));
  }
  return NEAP_OK;
}

/* ---- The kernel's arguments ------------------------------------------------------------------ */

/* Dimensions and strides, merged. True if every input has the output's own layout. */
static bool layout(neap_kargs *args, int count, neap_array *const *inputs,
                   const neap_array_info *out) {
  bool plain = true;
  for (int i = 0; i < count; i++) plain &= !inputs[i] || inputs[i]->info.size == out->size;
  if (plain) { /* one long dimension */
    args->ndim = 1;
    args->shape[0] = out->size;
    for (int i = 0; i < count; i++) args->stride[i][0] = 1;
    return true;
  }
  int64_t step[NEAP_K_INPUTS][NEAP_MAX_DIM]; /* of input i over out's dimension d */
  for (int i = 0; i < count; i++) {
    int64_t stride = 1;
    for (int d = out->ndim - 1; d >= 0; d--) {
      int own = inputs[i] ? d - (out->ndim - inputs[i]->info.ndim) : -1;
      int64_t length = own >= 0 ? inputs[i]->info.shape[own] : 1;
      step[i][d] = length == 1 ? 0 : stride;
      stride *= length;
    }
  }
  int n = 0;
  for (int d = 0; d < out->ndim; d++) {
    if (out->shape[d] == 1) continue;
    bool joins = n > 0; /* one step of the dimension before is the whole of this one */
    for (int i = 0; i < count && joins; i++)
      joins = args->stride[i][n - 1] == step[i][d] * out->shape[d];
    if (joins) {
      args->shape[n - 1] *= out->shape[d];
    } else {
      args->shape[n++] = out->shape[d];
    }
    for (int i = 0; i < count; i++) args->stride[i][n - 1] = step[i][d];
  }
  args->ndim = n;
  return false;
}

int neap_map(int op, neap_array *const *inputs, const double *numbers, neap_array **out) {
  if (op < 0 || op >= NEAP_K_NUM_OPS)
    return neap_fail(NEAP_EINVAL, "map: there is no operation %d", op);
  const neap_k_op_info *row = &neap_k_ops[op];
  if (row->kind != NEAP_K_MAP)
    return neap_fail(NEAP_EINVAL, "map: %s does not work element by element", row->name);
  const neap_array *first = NULL;
  NEAP_TRY(check_inputs(op, inputs, numbers, &first));
  neap_array_info want;
  NEAP_TRY(broadcast(op, inputs, &want));
  neap_context *context = neap_array_context(first);
  neap_output output;
  NEAP_TRY(neap_output_open(&output, row->name, context, &want, out));
  for (int i = 0; i < row->inputs; i++) {
    int status = inputs[i] ? neap_output_input(&output, inputs[i], true) : NEAP_OK;
    if (status != NEAP_OK) return neap_output_drop(&output, status);
  }
  neap_call *call;
  neap_work *work = neap_call_new(context, row->name, op, row->inputs, 1, &call);
  if (work) {
    neap_kargs *args = &call->args;
    args->dtype = args->out_dtype = want.dtype;
    args->out = neap_array_at_data(output.array);
    bool plain = layout(args, row->inputs, inputs, &want);
    for (int i = 0; i < row->inputs; i++) {
      if (!inputs[i]) continue;
      args->in[i] = neap_array_at_data(inputs[i]);
      neap_work_read(work, inputs[i]->chunk->var);
    }
    for (int i = 0; i < row->inputs + row->numbers; i++)
      if (i >= row->inputs || !inputs[i]) args->number[i] = numbers[i];
    neap_work_write(work, output.array->chunk->var);
    /* Functions take about four times as long as sums, strides twice. */
    neap_call_cut(work, call, want.size, (row->flags & NEAP_K_FLOAT ? 4 : 1) * (plain ? 1 : 2));
  }
  return neap_output_close(&output, work, out);
}
