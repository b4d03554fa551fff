/* SPDX-License-Identifier: MIT */
/* assign.c - what goes into arrays and out of them: the caller's memory, constants, random
 * numbers, copies and sums of arrays.
 *
 * The caller's memory is read and written by a queued operation too, and the call waits for just
 * that one. A plain memcpy after a wait would do while one thread uses the array, but another may
 * queue work on it between the two. */
#include "call.h"
#include "sparse.h"
#include <math.h>
#include <string.h>

/* ---- The caller's memory --------------------------------------------------------------------- */

static int check_bytes(const char *name, const neap_array *array, const void *memory,
                       size_t bytes) {
  NEAP_TRY(neap_check_dense(name, array));
  size_t has = (size_t)array->info.size * (size_t)array->info.itemsize;
  char text[NEAP_SHAPE_TEXT];
  if (bytes != has)
    return neap_fail(NEAP_EINVAL, "%s: %zu bytes given, but %s %s has %zu", name, bytes,
                     neap_dtype_name(array->info.dtype), neap_shape_text(&array->info, text), has);
  if (!memory && bytes) return neap_fail(NEAP_EINVAL, "%s: no memory given (NULL)", name);
  return NEAP_OK;
}

/* Copies between the array and memory of the caller. Waits for this one operation, by a variable
 * of its own that it writes. */
static int transfer(const char *name, neap_array *array, const void *from, void *to) {
  neap_context *context = neap_array_context(array);
  neap_var *done;
  NEAP_TRY(neap_var_create(context, &done));
  neap_call *call;
  neap_work *work = neap_call_new(context, name, NEAP_K_OP_copy, 1, 2, &call);
  int status = work ? NEAP_OK : neap_error_status();
  if (work) {
    call->args.dtype = call->args.out_dtype = array->info.dtype;
    call->args.in[0] = from ? from : neap_array_at_data(array);
    call->args.out = to ? to : neap_array_at_data(array);
    if (to)
      neap_work_read(work, array->chunk->var);
    else
      neap_work_write(work, array->chunk->var);
    neap_work_write(work, done);
    neap_call_cut(work, call, array->info.size, 1);
    status = neap_work_wait(work, done);
  }
  neap_var_close(done);
  return status;
}

int neap_array_write(neap_array *array, const void *from, size_t bytes) {
  NEAP_TRY(check_bytes("write", array, from, bytes));
  return bytes ? transfer("write", array, from, NULL) : NEAP_OK;
}

int neap_array_read(neap_array *array, void *to, size_t bytes) {
  NEAP_TRY(check_bytes("read", array, to, bytes));
  return bytes ? transfer("read", array, NULL, to) : neap_var_wait(array->chunk->var);
}

int neap_array_data(neap_array *array, void **out) {
  NEAP_TRY(neap_check_dense("data", array));
  if (!out) return neap_fail(NEAP_EINVAL, "data: no place for the pointer");
  NEAP_TRY(neap_var_wait_idle(array->chunk->var));
  *out = neap_array_at_data(array);
  return NEAP_OK;
}

int neap_array_wait(neap_array *array) {
  NEAP_TRY(neap_check_open("wait", array));
  return neap_var_wait(array->chunk->var);
}

/* ---- Constants and random numbers ------------------------------------------------------------ */

/* Operations without inputs. `random`: takes the next draw. */
static int generate(int op, neap_array *array, double first, double second, bool random,
                    int64_t cost) {
  neap_context *context = neap_array_context(array);
  neap_call *call;
  neap_work *work = neap_call_new(context, neap_k_ops[op].name, op, 0, 1, &call);
  if (!work) return neap_error_status();
  call->args.dtype = call->args.out_dtype = array->info.dtype;
  call->args.out = neap_array_at_data(array);
  call->args.number[0] = first;
  call->args.number[1] = second;
  if (random) {
    call->args.seed = atomic_load(&context->seed);
    call->args.stream = atomic_fetch_add(&context->draws, 1);
  }
  neap_work_write(work, array->chunk->var);
  neap_call_cut(work, call, array->info.size, cost);
  neap_work_submit(work);
  return NEAP_OK;
}

int neap_array_fill(neap_array *array, double value) {
  NEAP_TRY(neap_check_open("fill", array));
  if (array->info.stype == NEAP_ROW_SPARSE) return neap_sparse_clear(array, value);
  return generate(NEAP_K_OP_fill, array, value, 0, false, 1);
}

int neap_array_arange(neap_array *array, double start, double step) {
  NEAP_TRY(neap_check_dense("arange", array));
  return generate(NEAP_K_OP_arange, array, start, step, false, 1);
}

static int check_random(int op, neap_array *array, double a, double b, bool sound) {
  const char *name = neap_k_ops[op].name;
  NEAP_TRY(neap_check_dense(name, array));
  if (array->info.dtype >= NEAP_INT8)
    return neap_fail(NEAP_EDTYPE, "%s: draws floats, not %s; draw float32, then astype", name,
                     neap_dtype_name(array->info.dtype));
  if (!isfinite(a) || !isfinite(b) || !sound)
    return neap_fail(NEAP_EINVAL, "%s: %g, %g is no range to draw from", name, a, b);
  return NEAP_OK;
}

int neap_array_uniform(neap_array *array, double low, double high) {
  NEAP_TRY(check_random(NEAP_K_OP_uniform, array, low, high, low <= high));
  return generate(NEAP_K_OP_uniform, array, low, high, true, 4);
}

int neap_array_normal(neap_array *array, double mean, double deviation) {
  NEAP_TRY(check_random(NEAP_K_OP_normal, array, mean, deviation, deviation >= 0));
  return generate(NEAP_K_OP_normal, array, mean, deviation, true, 16);
}

/* ---- Copies ---------------------------------------------------------------------------------- */

static size_t dense_bytes(const neap_array *array) {
  return (size_t)array->info.size * (size_t)array->info.itemsize;
}

/* What queued copies within one chunk carry. */
typedef struct shifted {
  const void *from;
  void *to;
  size_t bytes;
} shifted;

static int run_shifted(neap_task *task, void *arg) {
  (void)task;
  const shifted *s = arg;
  if (s->from != s->to) memmove(s->to, s->from, s->bytes);
  return NEAP_OK;
}

/* Between views of one array: they may overlap, so one memmove does it. */
static neap_work *shift_work(neap_array *from, neap_array *to) {
  neap_work *work =
      neap_work_new(neap_array_context(to), "copy", run_shifted, sizeof(shifted), 1, 1);
  if (!work) return NULL;
  *(shifted *)neap_work_payload(work) =
      (shifted){neap_array_at_data(from), neap_array_at_data(to), dense_bytes(to)};
  if (from->offset == to->offset) /* to itself: nothing is written */
    neap_work_read(work, from->chunk->var);
  else
    neap_work_write(work, to->chunk->var);
  neap_work_set_quick(work, dense_bytes(to) <= 16384 || from->offset == to->offset);
  return work;
}

neap_work *neap_copy_work(neap_array *from, neap_array *to) {
  if (from->info.stype != NEAP_DENSE || to->info.stype != NEAP_DENSE)
    return neap_sparse_copy_work(from, to);
  if (from->chunk == to->chunk) return shift_work(from, to);
  neap_call *call;
  neap_work *work = neap_call_new(neap_array_context(to), "copy", NEAP_K_OP_copy, 1, 1, &call);
  if (!work) return NULL;
  call->args.dtype = call->args.out_dtype = to->info.dtype;
  call->args.in[0] = neap_array_at_data(from);
  call->args.out = neap_array_at_data(to);
  neap_work_read(work, from->chunk->var);
  neap_work_write(work, to->chunk->var);
  neap_call_cut(work, call, to->info.size, 1);
  return work;
}

int neap_array_copy(neap_array *from, neap_array *to) {
  NEAP_TRY(neap_check_open("copy", from));
  NEAP_TRY(neap_check_open("copy", to));
  NEAP_TRY(neap_check_context("copy", from, to));
  NEAP_TRY(neap_check_shape("copy", &from->info, &to->info));
  NEAP_TRY(neap_check_dtype("copy", from, to));
  if (from->info.stype != to->info.stype)
    return neap_fail(NEAP_ESTYPE,
                     "copy: one array is dense, the other row_sparse; "
                     "tostype('%s') the first",
                     to->info.stype == NEAP_DENSE ? "default" : "row_sparse");
  neap_work *work = neap_copy_work(from, to);
  if (!work) return neap_error_status();
  neap_work_submit(work);
  return NEAP_OK;
}

/* ---- Sums ------------------------------------------------------------------------------------ */

int neap_axpy(neap_array *y, double alpha, neap_array *x) {
  NEAP_TRY(neap_check_dense("axpy", y));
  NEAP_TRY(neap_check_pair("axpy", y, x));
  NEAP_TRY(neap_check_shape("axpy", &y->info, &x->info));
  NEAP_TRY(neap_check_number("axpy", y->info.dtype, alpha));
  neap_array *from = x, *copy = NULL;
  if (x->chunk == y->chunk && x->offset != y->offset) {
    /* Views of one array: what y gets must not show in x on the way. */
    NEAP_TRY(neap_array_new(neap_array_context(x), &x->info, &copy));
    from = copy;
  }
  neap_call *call;
  neap_work *first = copy ? neap_copy_work(x, copy) : NULL;
  neap_work *work = neap_call_new(neap_array_context(y), "axpy", NEAP_K_OP_axpy, 1, 1, &call);
  int status = work && (first || !copy) ? NEAP_OK : neap_error_status();
  if (status == NEAP_OK) {
    call->args.dtype = call->args.out_dtype = y->info.dtype;
    call->args.out = neap_array_at_data(y);
    call->args.in[0] = neap_array_at_data(from);
    call->args.number[0] = alpha;
    neap_work_read(work, from->chunk->var);
    neap_work_write(work, y->chunk->var);
    neap_call_cut(work, call, y->info.size, 1);
    if (first) neap_work_submit(first);
    neap_work_submit(work);
  } else {
    if (first) neap_work_discard(first);
    if (work) neap_work_discard(work);
  }
  neap_array_close(copy);
  return status;
}

/* The kernel's list of inputs lies behind its arguments. */
typedef struct sum {
  neap_call call;
  const void *many[];
} sum;

static int run_sum(neap_task *task, void *arg) {
  sum *s = arg;
  int64_t end, begin = neap_part_range(task, s->call.work, s->call.grain, &end);
  if (begin >= end) return NEAP_OK;
  return s->call.kernel(&s->call.args, begin, end)
             ? neap_task_fail(task, NEAP_ENOTSUP, "the kernel cannot do this")
             : NEAP_OK;
}

neap_work *neap_add_n_work(int count, neap_array *const *arrays, neap_array *to) {
  if (count == 1) return neap_copy_work(arrays[0], to);
  if (arrays[0]->info.stype != NEAP_DENSE) return neap_sparse_add_n_work(count, arrays, to);
  neap_context *context = neap_array_context(to);
  neap_work *work = neap_work_new(context, "add_n", run_sum,
                                  sizeof(sum) + (size_t)count * sizeof(void *), count, 1);
  if (!work) return NULL;
  sum *s = neap_work_payload(work);
  s->call.kernel = context->cpu->add_n;
  neap_kargs *args = &s->call.args;
  args->dtype = args->out_dtype = to->info.dtype;
  args->out = neap_array_at_data(to);
  args->many = s->many;
  args->count = count;
  for (int i = 0; i < count; i++) {
    s->many[i] = neap_array_at_data(arrays[i]);
    neap_work_read(work, arrays[i]->chunk->var);
  }
  neap_work_write(work, to->chunk->var);
  /* Smaller parts for more inputs, so that a part of each stays in the cache. */
  neap_call_cut(work, &s->call, to->info.size, (count + 1) / 2);
  return work;
}

int neap_add_n(int count, neap_array *const *arrays, neap_array **out) {
  if (count < 1 || !arrays) return neap_fail(NEAP_EINVAL, "add_n: no arrays");
  NEAP_TRY(neap_check_open("add_n", arrays[0]));
  neap_array *first = arrays[0];
  for (int i = 1; i < count; i++) {
    NEAP_TRY(neap_check_open("add_n", arrays[i]));
    NEAP_TRY(neap_check_context("add_n", first, arrays[i]));
    if (arrays[i]->info.stype != first->info.stype)
      return neap_fail(NEAP_ESTYPE, "add_n: dense and row_sparse arrays do not mix");
    NEAP_TRY(neap_check_dtype("add_n", first, arrays[i]));
    NEAP_TRY(neap_check_shape("add_n", &first->info, &arrays[i]->info));
  }
  neap_array_info want = first->info;
  if (out && *out) { /* the sum may go to another device */
    want.device_type = (*out)->info.device_type;
    want.device_id = (*out)->info.device_id;
  }
  neap_output output;
  NEAP_TRY(neap_output_open(&output, "add_n", neap_array_context(first), &want, out));
  for (int i = 0; i < count && want.stype == NEAP_DENSE; i++) {
    int status = neap_output_input(&output, arrays[i], true);
    if (status != NEAP_OK) return neap_output_drop(&output, status);
  }
  return neap_output_close(&output, neap_add_n_work(count, arrays, output.array), out);
}
