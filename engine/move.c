/* SPDX-License-Identifier: MIT */
/* move.c - operations that put elements elsewhere: transpose, concat, stack, take, astype. */
#include "call.h"
#include "sparse.h"
#include <string.h>

/* ---- transpose ------------------------------------------------------------------------------- */

/* One long dimension, or several with the strides of the input, merged where they can be. */
static void permuted(neap_kargs *args, const neap_array_info *from, const int *axes) {
  int64_t stride[NEAP_MAX_DIM], step = 1;
  for (int d = from->ndim - 1; d >= 0; d--) {
    stride[d] = step;
    step *= from->shape[d];
  }
  int n = 0;
  for (int d = 0; d < from->ndim; d++) {
    int64_t length = from->shape[axes[d]], s = stride[axes[d]];
    if (length == 1) continue;
    if (n > 0 && args->stride[0][n - 1] == s * length) {
      args->shape[n - 1] *= length;
    } else {
      args->shape[n++] = length;
    }
    args->stride[0][n - 1] = s;
  }
  args->ndim = n;
}

int neap_transpose(neap_array *array, const int *axes, neap_array **out) {
  NEAP_TRY(neap_check_dense("transpose", array));
  neap_array_info want = array->info;
  int order[NEAP_MAX_DIM], ndim = want.ndim;
  unsigned seen = 0;
  for (int d = 0; d < ndim; d++) {
    int axis = axes ? axes[d] : ndim - 1 - d;
    if (axis < 0) axis += ndim;
    if (axis < 0 || axis >= ndim || (seen & 1u << axis)) {
      char text[NEAP_SHAPE_TEXT];
      return neap_fail(NEAP_EINVAL,
                       "transpose: the axes of shape %s must be named once each; axis %d is not",
                       neap_shape_text(&array->info, text), axes ? axes[d] : axis);
    }
    seen |= 1u << axis;
    order[d] = axis;
    want.shape[d] = array->info.shape[axis];
  }
  neap_output output;
  NEAP_TRY(neap_output_open(&output, "transpose", neap_array_context(array), &want, out));
  int status = neap_output_input(&output, array, false);
  if (status != NEAP_OK) return neap_output_drop(&output, status);
  neap_call *call;
  neap_work *work =
      neap_call_new(neap_array_context(array), "transpose", NEAP_K_OP_permute, 1, 1, &call);
  if (work) {
    call->args.dtype = call->args.out_dtype = want.dtype;
    call->args.in[0] = neap_array_at_data(array);
    call->args.out = neap_array_at_data(output.array);
    permuted(&call->args, &array->info, order);
    neap_work_read(work, array->chunk->var);
    neap_work_write(work, output.array->chunk->var);
    neap_call_cut(work, call, want.size, 2);
  }
  return neap_output_close(&output, work, out);
}

/* ---- concat and stack ------------------------------------------------------------------------ */

/* The output is `outer` rows; in each, the inputs' pieces lie one behind the other. */
typedef struct joined {
  neap_kernel copy;
  int dtype, count;
  size_t item;
  int64_t size, row, grain; /* of the output, in elements */
  char *out;
  struct piece {
    const char *from;
    int64_t begin, length; /* in each row */
  } pieces[];
} joined;

/* Copies elements [begin, end) of the output, piece by piece. */
static int run_joined(neap_task *task, void *arg) {
  const joined *j = arg;
  int64_t end, at = neap_part_range(task, j->size, j->grain, &end);
  if (at >= end) return NEAP_OK;
  int64_t row = at / j->row, within = at % j->row;
  int low = 0, high = j->count - 1; /* the last piece that begins at or before `within` */
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (j->pieces[middle].begin <= within)
      low = middle;
    else
      high = middle - 1;
  }
  neap_kargs args = {.dtype = j->dtype, .out_dtype = j->dtype};
  for (int i = low; at < end;) {
    const struct piece *piece = &j->pieces[i];
    int64_t skip = within - piece->begin, n = piece->length - skip;
    if (n > end - at) n = end - at;
    if (n > 0) {
      args.in[0] = piece->from + (size_t)(row * piece->length + skip) * j->item;
      args.out = j->out + (size_t)at * j->item;
      j->copy(&args, 0, n);
      at += n;
      within += n;
    }
    if (++i == j->count) {
      i = 0;
      row++;
      within = 0;
    }
  }
  return NEAP_OK;
}

/* `want` is checked; inputs have outer rows of lengths that add up to want's rows. */
static int join(const char *name, int count, neap_array *const *arrays, int64_t outer,
                const neap_array_info *want, neap_array **out) {
  neap_context *context = neap_array_context(arrays[0]);
  neap_output output;
  NEAP_TRY(neap_output_open(&output, name, context, want, out));
  for (int i = 0; i < count; i++) {
    int status = neap_output_input(&output, arrays[i], false);
    if (status != NEAP_OK) return neap_output_drop(&output, status);
  }
  size_t bytes = sizeof(joined) + (size_t)count * sizeof(struct piece); /* count is an int */
  neap_work *work = neap_work_new(context, name, run_joined, bytes, count, 1);
  if (work) {
    joined *j = neap_work_payload(work);
    j->copy = context->cpu->copy;
    j->dtype = want->dtype;
    j->item = (size_t)want->itemsize;
    j->count = count;
    j->size = want->size;
    j->out = neap_array_at_data(output.array);
    for (int i = 0; i < count; i++) {
      j->pieces[i].from = neap_array_at_data(arrays[i]);
      j->pieces[i].begin = j->row;
      j->pieces[i].length = outer ? arrays[i]->info.size / outer : 0;
      j->row += j->pieces[i].length;
      neap_work_read(work, arrays[i]->chunk->var);
    }
    neap_work_write(work, output.array->chunk->var);
    j->grain = neap_work_cut(work, j->size, 2);
  }
  return neap_output_close(&output, work, out);
}

/* What concat and stack check alike. */
static int check_list(const char *name, int count, neap_array *const *arrays, neap_array **out) {
  if (count < 1 || !arrays) return neap_fail(NEAP_EINVAL, "%s: no arrays", name);
  if (!out) return neap_fail(NEAP_EINVAL, "%s: no place for the result", name);
  NEAP_TRY(neap_check_dense(name, arrays[0]));
  for (int i = 1; i < count; i++) NEAP_TRY(neap_check_pair(name, arrays[0], arrays[i]));
  return NEAP_OK;
}

int neap_concat(int count, neap_array *const *arrays, int axis, neap_array **out) {
  NEAP_TRY(check_list("concat", count, arrays, out));
  neap_array_info want = arrays[0]->info;
  char one[NEAP_SHAPE_TEXT], two[NEAP_SHAPE_TEXT];
  int at = axis < 0 ? axis + want.ndim : axis;
  if (at < 0 || at >= want.ndim)
    return neap_fail(NEAP_ESHAPE, "concat: shape %s has no axis %d", neap_shape_text(&want, one),
                     axis);
  for (int i = 1; i < count; i++) {
    const neap_array_info *info = &arrays[i]->info;
    bool fits = info->ndim == want.ndim;
    for (int d = 0; d < want.ndim && fits; d++) fits = d == at || info->shape[d] == want.shape[d];
    if (!fits)
      return neap_fail(NEAP_ESHAPE, "concat: shapes %s and %s differ off axis %d",
                       neap_shape_text(&arrays[0]->info, one), neap_shape_text(info, two), axis);
    if (__builtin_add_overflow(want.shape[at], info->shape[at], &want.shape[at]))
      return neap_fail(NEAP_ESHAPE, "concat: too many elements");
  }
  int64_t shape[NEAP_MAX_DIM], outer = 1;
  memcpy(shape, want.shape, sizeof shape);
  NEAP_TRY(neap_shape_check("concat", want.ndim, shape, &want));
  for (int d = 0; d < at; d++) outer *= shape[d];
  return join("concat", count, arrays, outer, &want, out);
}

int neap_stack(int count, neap_array *const *arrays, int axis, neap_array **out) {
  NEAP_TRY(check_list("stack", count, arrays, out));
  neap_array_info want = arrays[0]->info;
  for (int i = 1; i < count; i++) NEAP_TRY(neap_check_shape("stack", &want, &arrays[i]->info));
  int ndim = want.ndim + 1, at = axis < 0 ? axis + ndim : axis;
  if (at < 0 || at >= ndim) {
    char text[NEAP_SHAPE_TEXT];
    return neap_fail(NEAP_ESHAPE, "stack: arrays of shape %s have no place for a new axis %d",
                     neap_shape_text(&want, text), axis);
  }
  int64_t shape[NEAP_MAX_DIM + 1], outer = 1;
  for (int d = 0; d < ndim; d++)
    shape[d] = d < at ? want.shape[d] : d == at ? count : want.shape[d - 1];
  NEAP_TRY(neap_shape_check("stack", ndim, shape, &want));
  for (int d = 0; d < at; d++) outer *= shape[d];
  return join("stack", count, arrays, outer, &want, out);
}

/* ---- take ------------------------------------------------------------------------------------ */

typedef struct taken {
  neap_kernel gather;
  int dtype;
  bool wide; /* int64 indices */
  size_t row_bytes;
  int64_t rows, row, count, grain;
  const char *from;
  const void *ids;
  char *out;
} taken;

static int run_take(neap_task *task, void *arg) {
  const taken *t = arg;
  int64_t end, begin = neap_part_range(task, t->count, t->grain, &end);
  neap_kargs args = {.dtype = t->dtype, .out_dtype = t->dtype, .rows = t->rows, .row = t->row};
  args.in[0] = t->from;
  int64_t ids[512];
  for (int64_t i = begin; i < end;) {
    int64_t n = end - i < 512 ? end - i : 512;
    args.ids = ids;
    args.out = t->out + (size_t)i * t->row_bytes;
    if (t->wide)
      args.ids = (const int64_t *)t->ids + i;
    else
      for (int64_t k = 0; k < n; k++) ids[k] = ((const int32_t *)t->ids)[i + k];
    if (t->gather(&args, 0, n))
      for (int64_t k = 0; k < n; k++)
        if (args.ids[k] < 0 || args.ids[k] >= t->rows)
          return neap_task_fail(task, NEAP_EINVAL,
                                "index %lld at position %lld is out of range: there are %lld rows",
                                (long long)args.ids[k], (long long)(i + k), (long long)t->rows);
    i += n;
  }
  return NEAP_OK;
}

int neap_take(neap_array *array, neap_array *indices, neap_array **out) {
  NEAP_TRY(neap_check_dense("take", array));
  NEAP_TRY(neap_check_dense("take", indices));
  NEAP_TRY(neap_check_context("take", array, indices));
  NEAP_TRY(neap_check_device("take", array, indices));
  NEAP_TRY(neap_check_ids("take", indices));
  if (array->info.ndim == 0)
    return neap_fail(NEAP_ESHAPE, "take: an array without dimensions has no rows");
  const neap_array_info *ids = &indices->info;
  neap_array_info want = array->info;
  int64_t shape[2 * NEAP_MAX_DIM], row = 1;
  int ndim = 0;
  for (int d = 0; d < ids->ndim; d++) shape[ndim++] = ids->shape[d];
  for (int d = 1; d < array->info.ndim; d++) {
    shape[ndim++] = array->info.shape[d];
    row *= array->info.shape[d];
  }
  NEAP_TRY(neap_shape_check("take", ndim, shape, &want));
  neap_context *context = neap_array_context(array);
  neap_output output;
  NEAP_TRY(neap_output_open(&output, "take", context, &want, out));
  int status = neap_output_input(&output, array, false);
  if (status == NEAP_OK) status = neap_output_input(&output, indices, false);
  if (status != NEAP_OK) return neap_output_drop(&output, status);
  neap_work *work = neap_work_new(context, "take", run_take, sizeof(taken), 2, 1);
  if (work) {
    taken *t = neap_work_payload(work);
    *t = (taken){
        .gather = context->cpu->gather,
        .dtype = want.dtype,
        .wide = ids->dtype == NEAP_INT64,
        .row_bytes = (size_t)row * (size_t)want.itemsize,
        .rows = array->info.shape[0],
        .row = row,
        .count = ids->size,
        .from = neap_array_at_data(array),
        .ids = neap_array_at_data(indices),
        .out = neap_array_at_data(output.array),
    };
    t->grain = neap_work_cut(work, ids->size, row < NEAP_K_GRAIN ? row + 4 : row);
    neap_work_read(work, array->chunk->var);
    neap_work_read(work, indices->chunk->var);
    neap_work_write(work, output.array->chunk->var);
  }
  return neap_output_close(&output, work, out);
}

/* ---- astype ---------------------------------------------------------------------------------- */

int neap_astype(neap_array *array, int dtype, neap_array **out) {
  NEAP_TRY(neap_check_open("astype", array));
  if (!neap_dtype_name(dtype)) return neap_fail(NEAP_EDTYPE, "astype: %d is no dtype", dtype);
  neap_array_info want = array->info;
  want.dtype = dtype;
  NEAP_TRY(neap_shape_check("astype", array->info.ndim, array->info.shape, &want));
  neap_context *context = neap_array_context(array);
  neap_output output;
  NEAP_TRY(neap_output_open(&output, "astype", context, &want, out));
  if (array->info.stype == NEAP_ROW_SPARSE)
    return neap_output_close(&output, neap_sparse_cast_work(array, output.array), out);
  int status = neap_output_input(&output, array, false);
  if (status != NEAP_OK) return neap_output_drop(&output, status);
  neap_call *call;
  neap_work *work = neap_call_new(context, "astype", NEAP_K_OP_cast, 1, 1, &call);
  if (work) {
    call->args.dtype = array->info.dtype;
    call->args.out_dtype = dtype;
    call->args.in[0] = neap_array_at_data(array);
    call->args.out = neap_array_at_data(output.array);
    neap_work_read(work, array->chunk->var);
    neap_work_write(work, output.array->chunk->var);
    neap_call_cut(work, call, want.size, 1);
  }
  return neap_output_close(&output, work, out);
}
