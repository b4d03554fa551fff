/* SPDX-License-Identifier: MIT */
/* call.c - what the operations on arrays share; see call.h. */
#include "call.h"
#include <math.h>

/* ---- Checking -------------------------------------------------------------------------------- */

int neap_check_open(const char *name, const neap_array *array) {
  if (!array) return neap_fail(NEAP_EINVAL, "%s: an array is missing (NULL)", name);
  if (atomic_load_explicit(&neap_array_context(array)->closed, memory_order_relaxed))
    return neap_fail(NEAP_ECLOSED, "%s: the array's context was closed", name);
  return NEAP_OK;
}

int neap_check_dense(const char *name, const neap_array *array) {
  NEAP_TRY(neap_check_open(name, array));
  if (array->info.stype != NEAP_DENSE)
    return neap_fail(NEAP_ESTYPE,
                     "%s: wants a dense array, not a row_sparse one; "
                     "tostype('default') first",
                     name);
  return NEAP_OK;
}

int neap_check_context(const char *name, const neap_array *a, const neap_array *b) {
  if (neap_array_context(a) != neap_array_context(b))
    return neap_fail(NEAP_EINVAL, "%s: the arrays belong to two contexts of the library", name);
  return NEAP_OK;
}

int neap_check_device(const char *name, const neap_array *a, const neap_array *b) {
  if (a->info.device_id != b->info.device_id || a->info.device_type != b->info.device_type) {
    static const char *const types[] = {"?", "cpu", "gpu"};
    return neap_fail(NEAP_EINVAL,
                     "%s: arrays on %s(%d) and %s(%d); bring them together with as_in_context",
                     name, types[a->info.device_type], a->info.device_id,
                     types[b->info.device_type], b->info.device_id);
  }
  return NEAP_OK;
}

int neap_check_dtype(const char *name, const neap_array *a, const neap_array *b) {
  if (a->info.dtype == b->info.dtype) return NEAP_OK;
  const char *first = neap_dtype_name(a->info.dtype);
  return neap_fail(NEAP_EDTYPE, "%s: %s and %s do not mix; astype('%s') the second", name, first,
                   neap_dtype_name(b->info.dtype), first);
}

int neap_check_pair(const char *name, const neap_array *a, const neap_array *b) {
  NEAP_TRY(neap_check_dense(name, b));
  NEAP_TRY(neap_check_context(name, a, b));
  NEAP_TRY(neap_check_device(name, a, b));
  return neap_check_dtype(name, a, b);
}

static bool is_float(int dtype) {
  return dtype < NEAP_INT8;
}

int neap_check_flags(int op, const neap_array *array) {
  if ((neap_k_ops[op].flags & NEAP_K_FLOAT) && !is_float(array->info.dtype))
    return neap_fail(NEAP_EDTYPE, "%s: wants floats, not %s; astype('float32') first",
                     neap_k_ops[op].name, neap_dtype_name(array->info.dtype));
  return NEAP_OK;
}

int neap_check_number(const char *name, int dtype, double x) {
  static const double low[] = {-0x1p7, 0, -0x1p31, -0x1p63};
  static const double high[] = {0x1p7, 0x1p8, 0x1p31, 0x1p63}; /* first one beyond */
  if (is_float(dtype)) return NEAP_OK;
  int i = dtype - NEAP_INT8;
  if (x >= low[i] && x < high[i] && x == trunc(x)) return NEAP_OK;
  return neap_fail(NEAP_EDTYPE, "%s: %g is no %s; astype('float32') the array first", name, x,
                   neap_dtype_name(dtype));
}

int neap_check_shape(const char *name, const neap_array_info *a, const neap_array_info *b) {
  if (neap_same_shape(a, b)) return NEAP_OK;
  char one[NEAP_SHAPE_TEXT], two[NEAP_SHAPE_TEXT];
  return neap_fail(NEAP_ESHAPE, "%s: shapes %s and %s differ", name, neap_shape_text(a, one),
                   neap_shape_text(b, two));
}

/* ---- The output ------------------------------------------------------------------------------ */

int neap_output_open(neap_output *output, const char *name, neap_context *context,
                     const neap_array_info *want, neap_array **out) {
  output->name = name;
  output->array = output->given = NULL;
  if (!out) return neap_fail(NEAP_EINVAL, "%s: no place for the result", name);
  if (!*out) return neap_array_new(context, want, &output->array);
  neap_array *given = *out;
  const neap_array_info *has = &given->info;
  NEAP_TRY(neap_check_open(name, given));
  if (has->stype != want->stype)
    return neap_fail(NEAP_ESTYPE, "%s: the output is %s, the result is not", name,
                     has->stype == NEAP_DENSE ? "dense" : "row_sparse");
  if (neap_array_context(given) != context)
    return neap_fail(NEAP_EINVAL, "%s: the output belongs to another context of the library", name);
  if (!neap_same_shape(has, want)) {
    char one[NEAP_SHAPE_TEXT], two[NEAP_SHAPE_TEXT];
    return neap_fail(NEAP_ESHAPE, "%s: the output has shape %s, the result %s", name,
                     neap_shape_text(has, one), neap_shape_text(want, two));
  }
  if (has->dtype != want->dtype)
    return neap_fail(NEAP_EDTYPE, "%s: the output is %s, the result %s", name,
                     neap_dtype_name(has->dtype), neap_dtype_name(want->dtype));
  if (has->device_type != want->device_type || has->device_id != want->device_id)
    return neap_fail(NEAP_EINVAL,
                     "%s: the output is on cpu(%d), the inputs on cpu(%d); bring them together "
                     "with as_in_context",
                     name, has->device_id, want->device_id);
  output->array = output->given = given;
  return NEAP_OK;
}

int neap_output_input(neap_output *output, const neap_array *input, bool same) {
  const neap_array *given = output->given;
  if (!given || output->array != given || input->chunk != given->chunk) return NEAP_OK;
  size_t in_bytes = (size_t)input->info.size * (size_t)input->info.itemsize;
  size_t out_bytes = (size_t)given->info.size * (size_t)given->info.itemsize;
  if (input->offset >= given->offset + out_bytes || given->offset >= input->offset + in_bytes)
    return NEAP_OK;
  /* Of one size and at one place: then element i is the same memory in both. */
  if (same && input->offset == given->offset && in_bytes == out_bytes) return NEAP_OK;
  return neap_array_new(neap_array_context(given), &given->info, &output->array);
}

int neap_output_drop(neap_output *output, int status) {
  if (output->array != output->given) neap_array_close(output->array);
  return status;
}

int neap_output_close(neap_output *output, neap_work *work, neap_array **out) {
  if (!work) return neap_output_drop(output, neap_error_status());
  if (output->given && output->array != output->given) {
    neap_work *back = neap_copy_work(output->array, output->given);
    if (!back) {
      neap_work_discard(work);
      return neap_output_drop(output, neap_error_status());
    }
    neap_work_submit(work);
    neap_work_submit(back);
    neap_array_close(output->array);
    return NEAP_OK;
  }
  neap_work_submit(work);
  *out = output->array;
  return NEAP_OK;
}

/* ---- Queueing a kernel ----------------------------------------------------------------------- */

static int run_kernel(neap_task *task, void *arg) {
  const neap_call *call = arg;
  int64_t end, begin = neap_part_range(task, call->work, call->grain, &end);
  if (begin >= end) return NEAP_OK; /* nothing in an array without elements */
  int status = call->kernel(&call->args, begin, end);
  /* Calls are checked, so this would be a mistake here, and not the user's. */
  return status ? neap_task_fail(task, NEAP_ENOTSUP, "the kernel cannot do this (%d)", status)
                : NEAP_OK;
}

neap_work *neap_call_new(neap_context *context, const char *name, int op, int reads, int writes,
                         neap_call **call) {
  neap_work *work = neap_work_new(context, name, run_kernel, sizeof(neap_call), reads, writes);
  if (!work) return NULL;
  *call = neap_work_payload(work);
  (*call)->kernel = neap_k_get(context->cpu, op);
  return work;
}

int64_t neap_work_cut(neap_work *work, int64_t units, int64_t cost) {
  /* An addition of floats from memory in the cache takes about a quarter of a nanosecond. */
  enum { QUICK = 4096 };
  if (cost < 1) cost = 1;
  int64_t grain = cost < NEAP_K_GRAIN ? NEAP_K_GRAIN / cost : 1;
  if (units <= grain) {
    neap_work_set_quick(work, units <= QUICK / cost);
    return grain;
  }
  int64_t parts = (units + grain - 1) / grain;
  if (parts > INT32_MAX) { /* not on machines of today */
    grain = (units + INT32_MAX - 1) / INT32_MAX;
    parts = (units + grain - 1) / grain;
  }
  neap_work_set_parts(work, (int)parts);
  return grain;
}

void neap_call_cut(neap_work *work, neap_call *call, int64_t units, int64_t cost) {
  call->work = units;
  call->grain = neap_work_cut(work, units, cost);
}

int neap_work_wait(neap_work *work, neap_var *var) {
  neap_work_submit(work);
  return neap_var_wait(var);
}
