/* SPDX-License-Identifier: MIT */
/* dtype.c - names and sizes of dtypes; shapes: checked, compared and printed. */
#include "array.h"
#include <stdio.h>
#include <string.h>

/* The engine hands dtypes on to kernels as they are. */
_Static_assert((int)NEAP_FLOAT32 == NEAP_K_F32 && (int)NEAP_FLOAT64 == NEAP_K_F64 &&
                   (int)NEAP_FLOAT16 == NEAP_K_F16 && (int)NEAP_BFLOAT16 == NEAP_K_BF16 &&
                   (int)NEAP_INT8 == NEAP_K_I8 && (int)NEAP_UINT8 == NEAP_K_U8 &&
                   (int)NEAP_INT32 == NEAP_K_I32 && (int)NEAP_INT64 == NEAP_K_I64 &&
                   (int)NEAP_NUM_DTYPES == NEAP_K_NUM_DTYPES && (int)NEAP_MAX_DIM == NEAP_K_DIMS,
               "neap.h and kernel.h number dtypes alike");

static const char *const names[NEAP_NUM_DTYPES] = {"float32", "float64", "float16", "bfloat16",
                                                   "int8",    "uint8",   "int32",   "int64"};

const char *neap_dtype_name(int dtype) {
  return dtype >= 0 && dtype < NEAP_NUM_DTYPES ? names[dtype] : NULL;
}

int neap_dtype_find(const char *name) {
  for (int i = 0; name && i < NEAP_NUM_DTYPES; i++)
    if (!strcmp(name, names[i])) return i;
  return -1;
}

int neap_dtype_size(int dtype) {
  return dtype >= 0 && dtype < NEAP_NUM_DTYPES ? (int)neap_k_itemsize(dtype) : 0;
}

const char *neap_shape_text(const neap_array_info *info, char *buffer) {
  size_t used = 0;
  buffer[used++] = '(';
  for (int i = 0; i < info->ndim; i++) /* 8 numbers of up to 20 characters fit */
    used += (size_t)snprintf(buffer + used, NEAP_SHAPE_TEXT - used, "%s%lld", i ? "," : "",
                             (long long)info->shape[i]);
  if (info->ndim == 1) buffer[used++] = ',';
  buffer[used++] = ')';
  buffer[used] = 0;
  return buffer;
}

bool neap_same_shape(const neap_array_info *a, const neap_array_info *b) {
  if (a->ndim != b->ndim || a->size != b->size) return false;
  for (int i = 0; i < a->ndim; i++)
    if (a->shape[i] != b->shape[i]) return false;
  return true;
}

int neap_shape_check(const char *name, int ndim, const int64_t *shape, neap_array_info *info) {
  if (ndim < 0 || ndim > NEAP_MAX_DIM)
    return neap_fail(NEAP_ESHAPE, "%s: %d dimensions; arrays have 0 to %d", name, ndim,
                     NEAP_MAX_DIM);
  if (ndim > 0 && !shape) return neap_fail(NEAP_EINVAL, "%s: no shape given", name);
  info->ndim = ndim;
  memset(info->shape, 0, sizeof info->shape);
  for (int i = 0; i < ndim; i++) info->shape[i] = shape[i];
  info->itemsize = neap_dtype_size(info->dtype);
  char text[NEAP_SHAPE_TEXT];
  int64_t size = 1; /* of dimensions that are not 0, so that strides fit as well */
  bool empty = false;
  for (int i = 0; i < ndim; i++) {
    if (shape[i] < 0)
      return neap_fail(NEAP_ESHAPE, "%s: shape %s has a negative dimension", name,
                       neap_shape_text(info, text));
    if (shape[i] == 0)
      empty = true;
    else if (__builtin_mul_overflow(size, shape[i], &size))
      return neap_fail(NEAP_ESHAPE, "%s: shape %s has too many elements", name,
                       neap_shape_text(info, text));
  }
  int64_t bytes;
  if (info->stype == NEAP_DENSE && __builtin_mul_overflow(size, info->itemsize, &bytes))
    return neap_fail(NEAP_ESHAPE, "%s: shape %s has too many elements", name,
                     neap_shape_text(info, text));
  info->size = empty ? 0 : size;
  return NEAP_OK;
}
