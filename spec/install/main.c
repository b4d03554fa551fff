/* SPDX-License-Identifier: MIT */
/* main.c - a user's first program: one array, filled and read back. */
#include <neap.h>
#include <stdio.h>

int main(void) {
  neap_context *context = NULL;
  neap_array *array = NULL;
  int64_t shape[] = {2, 3};
  float values[6] = {0};
  int status = neap_context_create(NULL, &context);
  if (!status) {
    status = neap_array_create(context, NEAP_FLOAT32, 2, shape, NEAP_CPU, 0, &array);
  }
  if (!status) status = neap_array_fill(array, 7);
  if (!status) status = neap_array_read(array, values, sizeof values);
  if (status) fprintf(stderr, "%s\n", neap_error());
  neap_array_close(array);
  neap_context_close(context);
  return status || values[0] != 7 || values[5] != 7;
}
