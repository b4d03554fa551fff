/* SPDX-License-Identifier: MIT */
/* reduce.c - sums, means, extremes and norms along an axis or over everything; softmax.
 *
 * Along an axis, each output is one kernel's affair, and parts are ranges of outputs. A single
 * output of many elements would be one part on one thread. So it is computed in two steps: the
 * parts reduce a grain each, and whoever finishes the last part combines what they found, in the
 * order of the grains. Grains depend on the size alone, hence so do the bits of the result.
 *
 *   step 1, for a grain g                     step 2
 *   float sum, mean, norm   partial (double)  added in float64, then mean or root, rounded once
 *   integer sum             partial (int64)   added
 *   max, min                one element       the same kernel over these
 *   argmax                  a position        argmax over the elements at these positions */
#include "call.h"
#include <math.h>
#include <string.h>

/* ---- One output of many elements ------------------------------------------------------------- */

typedef struct whole {
  int op, dtype, out_dtype;
  const char *in;
  void *out;
  int64_t size, grains;
  const neap_kernel_table *cpu;
  _Atomic int64_t left;
  /* Two slots a grain: partials, or elements and their positions. */
  _Alignas(16) int64_t slots[];
} whole;

static bool is_float(int dtype) {
  return dtype < NEAP_INT8;
}

/* Step 1. */
static int whole_grain(whole *w, int64_t g) {
  int64_t begin = g * NEAP_K_GRAIN, rest = w->size - begin;
  neap_kargs args = {.dtype = w->dtype, .out_dtype = w->dtype};
  switch (w->op) {
  case NEAP_K_OP_sum:
  case NEAP_K_OP_mean:
  case NEAP_K_OP_norm:
    args.in[0] = w->in;
    args.size = w->size;
    args.partial = w->slots;
    return w->op == NEAP_K_OP_norm ? w->cpu->partial_norm(&args, g, g + 1)
                                   : w->cpu->partial_sum(&args, g, g + 1);
  default: {
    size_t item = neap_k_itemsize(w->dtype);
    char *elements = (char *)w->slots;
    args.in[0] = w->in + (size_t)begin * item;
    args.outer = args.inner = 1;
    args.axis = rest < NEAP_K_GRAIN ? rest : NEAP_K_GRAIN;
    args.out = elements + (size_t)g * item;
    if (w->op != NEAP_K_OP_argmax) return neap_k_get(w->cpu, w->op)(&args, 0, 1);
    int64_t *position = &w->slots[w->grains + g];
    args.out = position;
    args.out_dtype = NEAP_INT64;
    int status = w->cpu->argmax(&args, 0, 1);
    *position += begin;
    memcpy(elements + (size_t)g * item, w->in + (size_t)*position * item, item);
    return status;
  }
  }
}

/* Step 2. */
static int whole_combine(whole *w) {
  neap_kargs args = {.dtype = w->dtype, .out_dtype = w->out_dtype, .out = w->out};
  args.in[0] = w->slots;
  args.outer = args.inner = 1;
  args.axis = w->grains;
  if (w->op == NEAP_K_OP_max || w->op == NEAP_K_OP_min)
    return neap_k_get(w->cpu, w->op)(&args, 0, 1);
  if (w->op == NEAP_K_OP_argmax) {
    int64_t g;
    args.out = &g;
    int status = w->cpu->argmax(&args, 0, 1);
    memcpy(w->out, &w->slots[w->grains + g], sizeof(int64_t));
    return status;
  }
  if (!is_float(w->dtype)) {
    uint64_t sum = 0; /* wraps */
    for (int64_t g = 0; g < w->grains; g++) sum += (uint64_t)w->slots[g];
    memcpy(w->out, &sum, sizeof sum);
    return NEAP_K_OK;
  }
  double sum = 0, partial;
  for (int64_t g = 0; g < w->grains; g++) {
    memcpy(&partial, &w->slots[g], sizeof partial);
    sum += partial;
  }
  if (w->op == NEAP_K_OP_mean) sum /= (double)w->size;
  if (w->op == NEAP_K_OP_norm) sum = sqrt(sum);
  args.dtype = NEAP_FLOAT64;
  args.in[0] = &sum;
  return w->cpu->cast(&args, 0, 1);
}

static int run_whole(neap_task *task, void *arg) {
  whole *w = arg;
  int status = whole_grain(w, neap_task_part(task));
  if (atomic_fetch_sub_explicit(&w->left, 1, memory_order_acq_rel) == 1 && !status)
    status = whole_combine(w);
  return status ? neap_task_fail(task, NEAP_ENOTSUP, "the kernel cannot do this (%d)", status)
                : NEAP_OK;
}

static neap_work *whole_work(int op, neap_array *array, neap_array *out) {
  neap_context *context = neap_array_context(array);
  int64_t grains = (array->info.size + NEAP_K_GRAIN - 1) / NEAP_K_GRAIN;
  size_t bytes;
  if (!neap_mul_size((size_t)grains, 2 * sizeof(int64_t), &bytes) || grains > INT32_MAX) {
    neap_fail(NEAP_ENOMEM, "%s: too many elements", neap_k_ops[op].name);
    return NULL;
  }
  neap_work *work =
      neap_work_new(context, neap_k_ops[op].name, run_whole, sizeof(whole) + bytes, 1, 1);
  if (!work) return NULL;
  whole *w = neap_work_payload(work);
  w->op = op;
  w->dtype = array->info.dtype;
  w->out_dtype = out->info.dtype;
  w->in = neap_array_at_data(array);
  w->out = neap_array_at_data(out);
  w->size = array->info.size;
  w->grains = grains;
  w->cpu = context->cpu;
  atomic_init(&w->left, grains);
  neap_work_set_parts(work, (int)grains);
  return work;
}

/* ---- Along an axis --------------------------------------------------------------------------- */

static neap_work *axis_work(int op, neap_array *array, neap_array *out, int64_t outer, int64_t axis,
                            int64_t inner) {
  neap_call *call;
  neap_work *work = neap_call_new(neap_array_context(array), neap_k_ops[op].name, op, 1, 1, &call);
  if (!work) return NULL;
  call->args.dtype = array->info.dtype;
  call->args.out_dtype = out->info.dtype;
  call->args.in[0] = neap_array_at_data(array);
  call->args.out = neap_array_at_data(out);
  call->args.outer = outer;
  call->args.axis = axis;
  call->args.inner = inner;
  /* One unit is an output, or a line of softmax, which costs about ten sums an element. */
  int64_t cost = axis > NEAP_K_GRAIN ? NEAP_K_GRAIN : axis;
  neap_call_cut(work, call, outer * inner, neap_k_ops[op].kind == NEAP_K_ALONG ? 10 * cost : cost);
  /* Narrower strips of columns than this would read each cache line more than once. */
  enum { STRIP = 64 };
  int64_t strip = inner < STRIP ? inner : STRIP;
  if (call->grain < strip) {
    call->grain = strip;
    neap_work_set_parts(work, (int)((outer * inner + strip - 1) / strip));
  }
  return work;
}

/* ---- The call -------------------------------------------------------------------------------- */

/* The axis as [outer, axis, inner]; `want`: the result's shape. */
static int split(const char *name, const neap_array_info *info, int axis, bool reduces, bool keep,
                 int64_t dims[3], neap_array_info *want) {
  dims[0] = dims[2] = 1;
  if (axis == NEAP_ALL_AXES) {
    dims[1] = info->size;
    if (!reduces) return NEAP_OK;
    want->size = 1;
    if (!keep) want->ndim = 0;
    for (int i = 0; i < NEAP_MAX_DIM; i++) want->shape[i] = i < want->ndim;
    return NEAP_OK;
  }
  int at = axis < 0 ? axis + info->ndim : axis;
  if (at < 0 || at >= info->ndim) {
    char text[NEAP_SHAPE_TEXT];
    return neap_fail(NEAP_ESHAPE, "%s: shape %s has no axis %d", name, neap_shape_text(info, text),
                     axis);
  }
  for (int i = 0; i < at; i++) dims[0] *= info->shape[i];
  dims[1] = info->shape[at];
  for (int i = at + 1; i < info->ndim; i++) dims[2] *= info->shape[i];
  if (!reduces) return NEAP_OK;
  want->size = dims[0] * dims[2];
  if (keep) {
    want->shape[at] = 1;
  } else {
    want->ndim--;
    memmove(&want->shape[at], &want->shape[at + 1],
            (size_t)(NEAP_MAX_DIM - 1 - at) * sizeof(int64_t));
    want->shape[NEAP_MAX_DIM - 1] = 0;
  }
  return NEAP_OK;
}

int neap_reduce(int op, neap_array *array, int axis, int keep, neap_array **out) {
  const char *name = neap_op_name(op);
  if (!name) return neap_fail(NEAP_EINVAL, "reduce: there is no operation %d", op);
  int kind = neap_k_ops[op].kind, flags = neap_k_ops[op].flags;
  if (kind != NEAP_K_REDUCE && kind != NEAP_K_ALONG)
    return neap_fail(NEAP_EINVAL, "reduce: %s does not work along an axis", name);
  NEAP_TRY(neap_check_dense(name, array));
  NEAP_TRY(neap_check_flags(op, array));
  neap_array_info want = array->info;
  int64_t dims[3] = {0};
  bool reduces = kind == NEAP_K_REDUCE;
  NEAP_TRY(split(name, &array->info, axis, reduces, keep, dims, &want));
  if (dims[1] == 0 && (op == NEAP_K_OP_max || op == NEAP_K_OP_min || op == NEAP_K_OP_argmax)) {
    char text[NEAP_SHAPE_TEXT];
    return neap_fail(NEAP_ESHAPE, "%s: of shape %s along an axis without elements there is none",
                     name, neap_shape_text(&array->info, text));
  }
  if ((flags & NEAP_K_INDEX) || ((flags & NEAP_K_WIDE) && !is_float(want.dtype))) {
    want.dtype = NEAP_INT64;
    want.itemsize = sizeof(int64_t);
  }
  neap_output output;
  NEAP_TRY(neap_output_open(&output, name, neap_array_context(array), &want, out));
  int status = neap_output_input(&output, array, !reduces);
  if (status != NEAP_OK) return neap_output_drop(&output, status);
  bool one = reduces && dims[0] * dims[2] == 1 && dims[1] > NEAP_K_GRAIN;
  neap_work *work = one ? whole_work(op, array, output.array)
                        : axis_work(op, array, output.array, dims[0], dims[1], dims[2]);
  if (work) {
    neap_work_read(work, array->chunk->var);
    neap_work_write(work, output.array->chunk->var);
  }
  return neap_output_close(&output, work, out);
}
