/* SPDX-License-Identifier: MIT */
/* call.h - what the operations on arrays share: checking arguments, the output, and queueing a
 * kernel over a range of work. Used by the files that implement neap.h's arithmetic.
 *
 * Every operation goes the same way:
 *
 *   check      all that can be known at the call; each failure names the operation
 *   open       the output: a new array, the caller's, or a temporary (neap_output_open)
 *   new        the queued work with its payload; the last thing that can fail
 *   fill in    the kernel's arguments, the range and how to cut it
 *   close      queue it and hand the output over (neap_output_close) */
#ifndef NEAP_CALL_H
#define NEAP_CALL_H

#include "array_work.h"

/* ---- Checking ---- */

int neap_check_open(const char *name, const neap_array *array);  /* not NULL, not closed */
int neap_check_dense(const char *name, const neap_array *array); /* and dense */
int neap_check_context(const char *name, const neap_array *a, const neap_array *b);
int neap_check_device(const char *name, const neap_array *a, const neap_array *b);
int neap_check_dtype(const char *name, const neap_array *a, const neap_array *b);
/* One context, device and dtype; both dense. */
int neap_check_pair(const char *name, const neap_array *a, const neap_array *b);
/* That NEAP_K_FLOAT of kernels/ops.def holds. */
int neap_check_flags(int op, const neap_array *array);
/* That `x` is a value of an integer dtype. */
int neap_check_number(const char *name, int dtype, double x);
int neap_check_shape(const char *name, const neap_array_info *a, const neap_array_info *b);

/* ---- The output ---- */

/* Where the result goes. `array` is written by the queued work. It is the caller's (`given`),
 * new, or a temporary that is copied to the caller's afterwards, because the caller's overlaps
 * an input in a way the kernel cannot work with. */
typedef struct neap_output {
  const char *name;
  neap_array *array, *given;
} neap_output;

/* `want` is what the result must be. *out NULL: makes it. */
int neap_output_open(neap_output *output, const char *name, neap_context *context,
                     const neap_array_info *want, neap_array **out);
/* Tells of an input. `same`: the kernel can write where it reads, element by element. */
int neap_output_input(neap_output *output, const neap_array *input, bool same);
/* Queues `work` (NULL: it could not be made) and sets *out, or drops the output. */
int neap_output_close(neap_output *output, neap_work *work, neap_array **out);
/* Instead of closing; returns `status`. */
int neap_output_drop(neap_output *output, int status);

/* ---- Queueing a kernel ---- */

/* The payload of a work that runs one kernel over [0, work), cut at multiples of `grain`. */
typedef struct neap_call {
  neap_kernel kernel;
  int64_t work, grain;
  neap_kargs args;
} neap_call;

/* A work for the kernel `op`; args are zeroed. NULL with the error text set. */
neap_work *neap_call_new(neap_context *context, const char *name, int op, int reads, int writes,
                         neap_call **call);
/* How much there is to do. `cost` is what one unit of work costs, in elements added; parts
 * are cut by it, and little work is marked quick. */
void neap_call_cut(neap_work *work, neap_call *call, int64_t units, int64_t cost);
/* The same for works with a payload of their own: the number of units in a part. */
int64_t neap_work_cut(neap_work *work, int64_t units, int64_t cost);
/* [begin, end) of this part; for `run` functions. */
static inline int64_t neap_part_range(const neap_task *task, int64_t units, int64_t grain,
                                      int64_t *end) {
  int64_t begin = neap_task_part(task) * grain;
  *end = units - begin < grain ? units : begin + grain;
  return begin;
}

/* Queues `work`, which must be a write of the variable `var` too, and waits for it alone. */
int neap_work_wait(neap_work *work, neap_var *var);

#endif
