/* SPDX-License-Identifier: MIT */
/* file.c - neap_file_*: named arrays to and from files, whatever their format.
 *
 * Formats are rows of a table (file.h); this file knows arrays, and they do not. Loading reads
 * the elements straight into the memory of new arrays. Saving is one operation on the engine
 * that reads all the arrays: so the file holds them as they were at one point in the order
 * of work, also while other threads go on queueing updates. */
#include "file.h"
#include "array.h"
#include "json.h" /* neap_utf8_valid */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const neap_format *const formats[] = {&neap_format_npy, &neap_format_npz,
                                             &neap_format_safetensors};
enum { NUM_FORMATS = sizeof formats / sizeof formats[0] };
static const char *const endings = ".npy, .npz or .safetensors";

struct neap_file {
  neap_context *context;
  neap_listing listing;
  neap_array **arrays; /* as many as are listed; NULL: not read yet */
  size_t bytes;        /* of that block */
};

/* ---- Loading ------------------------------------------------------------ */

int neap_format_see(const neap_source *source, const neap_format **out) {
  unsigned char first[9] = {0};
  size_t size = source->size < sizeof first ? (size_t)source->size : sizeof first;
  NEAP_TRY(neap_source_read(source, 0, first, size));
  *out = memcmp(first, "\x93NUMPY", 6) == 0                                   ? &neap_format_npy
         : memcmp(first, "PK\3\4", 4) == 0 || memcmp(first, "PK\5\6", 4) == 0 ? &neap_format_npz
         : first[8] == '{' ? &neap_format_safetensors
                           : NULL;
  if (*out == NULL) return neap_source_bad(source, 0, "does not begin as %s do", endings);
  return NEAP_OK;
}

static void swap_bytes(char *bytes, size_t size, size_t item) {
  for (size_t at = 0; at < size; at += item)
    for (size_t i = 0, j = item - 1; i < j; i++, j--) {
      char kept = bytes[at + i];
      bytes[at + i] = bytes[at + j];
      bytes[at + j] = kept;
    }
}

/* Makes the array of one listed tensor. Elements in Fortran's order are those of the
 * transposed array in ours. */
static int read_array(neap_context *context, const neap_source *source, const neap_format *format,
                      const neap_tensor *tensor, neap_array **out) {
  int64_t shape[NEAP_MAX_DIM] = {0};
  neap_array *array, *transposed = NULL;
  void *data;
  for (int i = 0; i < tensor->ndim; i++)
    shape[i] = tensor->shape[tensor->fortran ? tensor->ndim - 1 - i : i];
  NEAP_TRY(neap_array_create(context, tensor->dtype, tensor->ndim, shape, NEAP_CPU, 0, &array));
  int status = neap_array_data(array, &data);
  if (status == NEAP_OK) status = format->read(context, source, tensor, data);
  if (status == NEAP_OK && tensor->swap)
    swap_bytes(data, tensor->bytes, neap_k_itemsize(tensor->dtype));
  if (status == NEAP_OK && tensor->fortran) {
    status = neap_transpose(array, NULL, &transposed);
    neap_array_close(array);
    array = transposed;
  }
  if (status != NEAP_OK) {
    neap_array_close(array);
    return status;
  }
  *out = array;
  return NEAP_OK;
}

static int read_all(neap_file *file, const neap_source *source) {
  const neap_format *format;
  neap_listing *listing = &file->listing;
  NEAP_TRY(neap_format_see(source, &format));
  NEAP_TRY(format->list(source, listing));
  if (listing->count == 0) return NEAP_OK;
  file->bytes = listing->count * sizeof(neap_array *); /* fits: a tensor is larger */
  file->arrays = neap_alloc(file->context, file->bytes);
  if (file->arrays == NULL) return NEAP_ENOMEM;
  for (size_t i = 0; i < listing->count; i++) file->arrays[i] = NULL;
  for (size_t i = 0; i < listing->count; i++)
    NEAP_TRY(read_array(file->context, source, format, &listing->tensors[i], &file->arrays[i]));
  return NEAP_OK;
}

int neap_file_load_source(neap_context *context, const neap_source *source, neap_file **out) {
  neap_file *file = neap_alloc(context, sizeof *file);
  if (file == NULL) return NEAP_ENOMEM;
  *file = (neap_file){.context = context, .listing = {.context = context}};
  neap_context_retain(context);
  int status = read_all(file, source);
  if (status != NEAP_OK) {
    neap_file_close(file);
    return status;
  }
  *out = file;
  return NEAP_OK;
}

int neap_file_load(neap_context *context, const char *path, neap_file **out) {
  if (context == NULL || path == NULL || out == NULL)
    return neap_fail(NEAP_EINVAL, "neap_file_load: context, path or out is NULL");
  neap_source source = {.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat about;
  if (source.fd < 0) return neap_fail(NEAP_EIO, "%s: cannot open: %s", path, strerror(errno));
  int status;
  if (fstat(source.fd, &about) != 0)
    status = neap_fail(NEAP_EIO, "%s: cannot read: %s", path, strerror(errno));
  else if (!S_ISREG(about.st_mode)) /* no size to check against, perhaps no end */
    status = neap_fail(NEAP_EIO, "%s: not a plain file", path);
  else {
    source.size = (uint64_t)about.st_size;
    status = neap_file_load_source(context, &source, out);
  }
  close(source.fd);
  return status;
}

void neap_file_close(neap_file *file) {
  if (file == NULL) return;
  neap_context *context = file->context;
  if (file->arrays != NULL)
    for (size_t i = 0; i < file->listing.count; i++) neap_array_close(file->arrays[i]);
  neap_free(context, file->arrays, file->bytes);
  neap_listing_free(&file->listing);
  neap_free(context, file, sizeof *file);
  neap_context_release(context);
}

int neap_file_count(const neap_file *file) {
  return file == NULL ? 0 : (int)file->listing.count;
}

const char *neap_file_name(const neap_file *file, int index) {
  if (index < 0 || index >= neap_file_count(file)) return NULL;
  return file->listing.tensors[index].name;
}

int neap_file_array(neap_file *file, int index, neap_array **out) {
  if (file == NULL || out == NULL || index < 0 || index >= neap_file_count(file))
    return neap_fail(NEAP_EINVAL, "neap_file_array: no array %d in a file of %d", index,
                     neap_file_count(file));
  return neap_array_share(file->arrays[index], out);
}

const char *neap_file_meta(const neap_file *file, const char *key) {
  if (file == NULL || key == NULL) return NULL;
  const neap_pair *pair = neap_listing_meta(&file->listing, key);
  return pair == NULL ? NULL : pair->value;
}

const char *neap_file_meta_key(const neap_file *file, int index) {
  if (file == NULL || index < 0 || (size_t)index >= file->listing.num_meta) return NULL;
  return file->listing.meta[index].key;
}

/* ---- Saving ------------------------------------------------------------- */

/* One call of neap_file_save(). */
typedef struct save {
  neap_context *context;
  const neap_format *format;
  neap_sink sink;
  neap_tensor *tensors;
  neap_array *const *arrays;
  neap_pair *meta;
  const void **scratch; /* room for `count` pointers */
  size_t count, num_meta;
  bool ran;       /* and then: */
  int status;     /* of writing */
  char text[512]; /* its error; neap_error() belongs to the worker's thread */
} save;

static int by_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_name(const save *s, const char *name) {
  if (name == NULL || name[0] == 0)
    return neap_fail(NEAP_EINVAL, "%s: each array in %s file needs a name", s->sink.path,
                     s->format == &neap_format_npz ? "an .npz" : "a .safetensors");
  if (!neap_utf8_valid(name, strlen(name)))
    return neap_fail(NEAP_EINVAL, "%s: the name '%.100s' is not UTF-8", s->sink.path, name);
  if (s->format == &neap_format_npz && strlen(name) + strlen(".npy") > UINT16_MAX)
    return neap_fail(NEAP_EINVAL, "%s: the name '%.100s...' is too long for a zip archive",
                     s->sink.path, name);
  if (s->format == &neap_format_safetensors && strcmp(name, "__metadata__") == 0)
    return neap_fail(NEAP_EINVAL, "%s: no array can be named __metadata__ in .safetensors",
                     s->sink.path);
  return NEAP_OK;
}

static int check_array(save *s, size_t index, const char *name) {
  neap_array *array = s->arrays[index];
  if (array == NULL) return neap_fail(NEAP_EINVAL, "%s: array '%s' is NULL", s->sink.path, name);
  const neap_array_info *info = neap_array_get_info(array);
  if (neap_array_context(array) != s->context)
    return neap_fail(NEAP_EINVAL, "%s: array '%s' belongs to another context", s->sink.path, name);
  if (info->stype != NEAP_DENSE)
    return neap_fail(NEAP_ESTYPE,
                     "%s: array '%s' is row-sparse; save tostype('default') of it, or its values "
                     "and indices",
                     s->sink.path, name);
  if (info->device_type != NEAP_CPU)
    return neap_fail(NEAP_ENOTSUP, "%s: array '%s' is not on a CPU; copy it to one first",
                     s->sink.path, name);
  if (info->dtype == NEAP_BFLOAT16 && s->format != &neap_format_safetensors)
    return neap_fail(NEAP_EDTYPE,
                     "%s: array '%s' is bfloat16, which NumPy has not; save as .safetensors, or "
                     "astype('float32') of it",
                     s->sink.path, name);
  neap_tensor *tensor = &s->tensors[index];
  *tensor = (neap_tensor){.name = name, .dtype = info->dtype, .ndim = info->ndim};
  memcpy(tensor->shape, info->shape, sizeof tensor->shape);
  tensor->bytes = (size_t)info->size * (size_t)info->itemsize;
  return NEAP_OK;
}

static int check_unique(const save *s, const char **names, size_t count, const char *what) {
  qsort(names, count, sizeof names[0], by_text);
  for (size_t i = 1; i < count; i++)
    if (strcmp(names[i - 1], names[i]) == 0)
      return neap_fail(NEAP_EINVAL, "%s: two %s named '%.100s'", s->sink.path, what, names[i]);
  return NEAP_OK;
}

static int check_meta(save *s, const char *const *meta) {
  for (size_t i = 0; i < s->num_meta; i++) {
    s->meta[i] = (neap_pair){meta[2 * i], meta[2 * i + 1]};
    for (int j = 0; j < 2; j++)
      if (!neap_utf8_valid(meta[2 * i + j], strlen(meta[2 * i + j])))
        return neap_fail(NEAP_EINVAL, "%s: the metadata of '%.100s' is not UTF-8", s->sink.path,
                         meta[2 * i]);
    s->scratch[i] = meta[2 * i];
  }
  return check_unique(s, (const char **)s->scratch, s->num_meta, "entries of metadata");
}

static int check_all(save *s, const char *const *names, const char *const *meta) {
  bool named = s->format != &neap_format_npy;
  if (!named && s->count != 1)
    return neap_fail(NEAP_EINVAL, "%s: a .npy holds one array, not %zu; use .npz or .safetensors",
                     s->sink.path, s->count);
  if (named && names == NULL && s->count > 0) return check_name(s, NULL);
  for (size_t i = 0; i < s->count; i++) {
    const char *name = named ? names[i] : "";
    if (named) NEAP_TRY(check_name(s, name));
    NEAP_TRY(check_array(s, i, name));
    s->scratch[i] = name;
  }
  NEAP_TRY(check_unique(s, (const char **)s->scratch, s->count, "arrays"));
  return check_meta(s, meta);
}

/* On the engine: all arrays are as the work queued before left them. */
static int write_arrays(neap_task *task, void *arg) {
  save *s = arg;
  for (size_t i = 0; i < s->count; i++) s->tensors[i].data = neap_array_at_data(s->arrays[i]);
  s->ran = true;
  s->status = s->format->write(s->context, &s->sink, s->tensors, s->count, s->meta, s->num_meta);
  if (s->status != NEAP_OK) snprintf(s->text, sizeof s->text, "%s", neap_error());
  return NEAP_OK;
}

static int queue_and_wait(save *s) {
  neap_var *done;
  NEAP_TRY(neap_var_create(s->context, &done));
  for (size_t i = 0; i < s->count; i++) s->scratch[i] = neap_array_var(s->arrays[i]);
  neap_op op = {.size = sizeof op,
                .name = "save",
                .run = write_arrays,
                .arg = s,
                .reads = (neap_var *const *)s->scratch,
                .writes = &done,
                .num_reads = (int)s->count,
                .num_writes = 1};
  int status = neap_push(s->context, &op);
  if (status == NEAP_OK) status = neap_var_wait(done);
  if (status == NEAP_OK && !s->ran)
    status = neap_fail(NEAP_ECLOSED, "%s: not written: the context was closed", s->sink.path);
  if (status == NEAP_OK && s->status != NEAP_OK) status = neap_fail(s->status, "%s", s->text);
  neap_var_close(done);
  return status;
}

static int save_checked(save *s) {
  /* Late errors of the arrays first: told here, once, and no file is begun. */
  for (size_t i = 0; i < s->count; i++) NEAP_TRY(neap_array_wait(s->arrays[i]));
  NEAP_TRY(neap_sink_open(&s->sink, s->sink.path));
  int status = queue_and_wait(s);
  if (status == NEAP_OK) return neap_sink_commit(&s->sink);
  neap_sink_abort(&s->sink);
  return status;
}

static int find_format(const char *path, const neap_format **out) {
  size_t length = strlen(path);
  for (int i = 0; i < NUM_FORMATS; i++) {
    size_t n = strlen(formats[i]->ending);
    if (length > n && strcmp(path + length - n, formats[i]->ending) == 0) {
      *out = formats[i];
      return NEAP_OK;
    }
  }
  return neap_fail(NEAP_EINVAL, "%s: the name should end in %s", path, endings);
}

int neap_file_save(neap_context *context, const char *path, int count, const char *const *names,
                   neap_array *const *arrays, const char *const *meta) {
  if (context == NULL || path == NULL || count < 0 || (arrays == NULL && count > 0))
    return neap_fail(NEAP_EINVAL, "neap_file_save: context, path or arrays is NULL");
  const neap_format *format = NULL;
  NEAP_TRY(find_format(path, &format));
  save s = {.context = context, .format = format, .arrays = arrays, .count = (size_t)count};
  s.sink.path = path;
  for (; meta != NULL && meta[2 * s.num_meta] != NULL; s.num_meta++)
    if (meta[2 * s.num_meta + 1] == NULL)
      return neap_fail(NEAP_EINVAL, "%s: the metadata '%.100s' has no value", path,
                       meta[2 * s.num_meta]);
  if (s.num_meta > 0 && format != &neap_format_safetensors)
    return neap_fail(NEAP_EINVAL, "%s: metadata goes to .safetensors only", path);

  /* One block for all: tensors, metadata, pointers. `count` is an int, and num_meta what
   * the caller has in memory: the sizes fit. */
  size_t most = s.count > s.num_meta ? s.count : s.num_meta;
  size_t of_tensors = s.count * sizeof(neap_tensor), of_meta = s.num_meta * sizeof(neap_pair);
  size_t bytes = of_tensors + of_meta + most * sizeof(void *) + 1;
  char *block = neap_alloc(context, bytes);
  if (block == NULL) return NEAP_ENOMEM;
  s.tensors = (neap_tensor *)block;
  s.meta = (neap_pair *)(block + of_tensors);
  s.scratch = (const void **)(block + of_tensors + of_meta);
  int status = check_all(&s, names, meta);
  if (status == NEAP_OK) status = save_checked(&s);
  neap_free(context, block, bytes);
  return status;
}
