/* SPDX-License-Identifier: MIT */
/* file_test.c - neap_file_*: what is saved comes back; files of NumPy and safetensors are read;
 * a save that fails leaves all as it was. (spec/engine/files.py compares with those libraries
 * themselves; file_bad_test.c is about damaged files.) */
#include "file_help.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

/* In memory where that can be had: hundreds of small files are each made durable. */
static char folder[40];

/* A path in the test's own folder; good until the fourth call after. */
static const char *at(const char *name) {
  static char paths[4][PATH_MAX];
  static int turn;
  char *path = paths[turn++ % 4];
  snprintf(path, PATH_MAX, "%s/%s", folder, name);
  return path;
}

static int files_in_folder(void) {
  DIR *d = opendir(folder);
  int count = 0;
  CHECK(d != NULL);
  for (struct dirent *e; (e = readdir(d)) != NULL;)
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) count++;
  closedir(d);
  return count;
}

static void empty_folder(void) {
  DIR *d = opendir(folder);
  CHECK(d != NULL);
  for (struct dirent *e; (e = readdir(d)) != NULL;)
    if (e->d_name[0] != '.') unlink(at(e->d_name));
  closedir(d);
  CHECK(files_in_folder() == 0); /* and so no temporary file was left */
}

/* An array whose byte i is seed + 7 * i: any bytes will do, they are copied. */
static neap_array *make(neap_context *context, int dtype, int ndim, const int64_t *shape,
                        int seed) {
  neap_array *array;
  void *data;
  OK(neap_array_create(context, dtype, ndim, shape, NEAP_CPU, 0, &array));
  OK(neap_array_data(array, &data));
  const neap_array_info *info = neap_array_get_info(array);
  for (int64_t i = 0; i < info->size * info->itemsize; i++)
    ((unsigned char *)data)[i] = (unsigned char)(seed + 7 * i);
  return array;
}

static void check_same(neap_array *a, neap_array *b) {
  const neap_array_info *x = neap_array_get_info(a), *y = neap_array_get_info(b);
  void *from, *to;
  CHECK(x->dtype == y->dtype && x->ndim == y->ndim && y->stype == NEAP_DENSE);
  CHECK(memcmp(x->shape, y->shape, sizeof x->shape[0] * (size_t)x->ndim) == 0);
  OK(neap_array_data(a, &from));
  OK(neap_array_data(b, &to));
  CHECK(memcmp(from, to, (size_t)(x->size * x->itemsize)) == 0);
}

/* Saves one array under `name`, loads it, and compares. */
static void round_trip(neap_context *context, const char *path, const char *name,
                       neap_array *array) {
  neap_file *file;
  neap_array *back;
  OK(neap_file_save(context, path, 1, &name, &array, NULL));
  OK(neap_file_load(context, path, &file));
  CHECK(neap_file_count(file) == 1);
  CHECK(strcmp(neap_file_name(file, 0), strstr(path, ".npy") != NULL ? "" : name) == 0);
  CHECK(neap_file_name(file, 1) == NULL && neap_file_name(file, -1) == NULL);
  OK(neap_file_array(file, 0, &back));
  neap_file_close(file); /* the array outlives the file */
  check_same(array, back);
  neap_array_close(back);
}

static void every_dtype_and_shape_comes_back_the_same(neap_context *context) {
  static const struct {
    int ndim;
    int64_t shape[8];
  } shapes[] = {{0, {0}},       {1, {1}},          {1, {13}},
                {2, {2, 3}},    {2, {0, 3}},       {3, {5, 0, 2}},
                {3, {4, 1, 3}}, {4, {2, 3, 4, 5}}, {8, {1, 2, 1, 2, 1, 2, 1, 2}}};
  for (int dtype = 0; dtype < NEAP_NUM_DTYPES; dtype++)
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
      neap_array *array = make(context, dtype, shapes[i].ndim, shapes[i].shape, dtype);
      round_trip(context, at("a.safetensors"), "layer.0.weight", array);
      if (dtype != NEAP_BFLOAT16) {
        round_trip(context, at("a.npy"), NULL, array);
        round_trip(context, at("a.npz"), "größe/x y", array);
      }
      neap_array_close(array);
    }
}

/* Views are saved as what they show, not as the memory they stand on. */
static void a_view_is_saved_as_what_it_shows(neap_context *context) {
  neap_array *whole = make(context, NEAP_INT32, 2, (int64_t[]){4, 3}, 1), *row, *back;
  neap_file *file;
  int32_t *all, *shown;
  OK(neap_array_at(whole, 2, &row));
  round_trip(context, at("view.npz"), "row", row);
  OK(neap_file_load(context, at("view.npz"), &file));
  OK(neap_file_array(file, 0, &back));
  OK(neap_array_data(whole, (void **)&all));
  OK(neap_array_data(back, (void **)&shown));
  CHECK(neap_array_get_info(back)->size == 3 && memcmp(shown, all + 6, 12) == 0);
  neap_array_close(whole);
  neap_array_close(row);
  neap_array_close(back);
  neap_file_close(file);
}

static void order_names_and_metadata_come_back(neap_context *context) {
  static const char *const names[] = {"z", "a", "with \"quotes\" and \\", "ünïcödé €\n\x01", "m"};
  static const char *const meta[] = {"format", "pt", "quote \"\\\n", "zwölf \xf0\x9f\x8c\x99",
                                     NULL};
  static const int dtypes[] = {NEAP_INT8, NEAP_FLOAT64, NEAP_BFLOAT16, NEAP_FLOAT32, NEAP_UINT8};
  neap_array *arrays[5], *back;
  neap_file *file;
  for (int i = 0; i < 5; i++) arrays[i] = make(context, dtypes[i], 1, (int64_t[]){i + 1}, i);
  OK(neap_file_save(context, at("m.safetensors"), 5, names, arrays, meta));
  OK(neap_file_load(context, at("m.safetensors"), &file));
  CHECK(neap_file_count(file) == 5);
  for (int i = 0; i < 5; i++) {
    CHECK(strcmp(neap_file_name(file, i), names[i]) == 0);
    OK(neap_file_array(file, i, &back));
    check_same(arrays[i], back);
    neap_array_close(back);
  }
  CHECK(strcmp(neap_file_meta(file, "format"), "pt") == 0);
  CHECK(strcmp(neap_file_meta(file, meta[2]), meta[3]) == 0);
  CHECK(neap_file_meta(file, "other") == NULL);
  CHECK(strcmp(neap_file_meta_key(file, 0), "format") == 0);
  CHECK(strcmp(neap_file_meta_key(file, 1), meta[2]) == 0);
  CHECK(neap_file_meta_key(file, 2) == NULL && neap_file_meta_key(file, -1) == NULL);
  FAILS(neap_file_array(file, 5, &back), NEAP_EINVAL, "5");
  neap_file_close(file);

  OK(neap_array_create(context, NEAP_FLOAT16, 0, NULL, NEAP_CPU, 0, &back));
  neap_array_close(arrays[2]);
  arrays[2] = back; /* NumPy has no bfloat16 */
  OK(neap_file_save(context, at("m.npz"), 5, names, arrays, NULL));
  OK(neap_file_load(context, at("m.npz"), &file));
  for (int i = 0; i < 5; i++) CHECK(strcmp(neap_file_name(file, i), names[i]) == 0);
  neap_file_close(file);
  for (int i = 0; i < 5; i++) neap_array_close(arrays[i]);
}

static void none_at_all_is_a_file_too(neap_context *context) {
  neap_file *file;
  const char *meta[] = {"only", "this", NULL};
  OK(neap_file_save(context, at("none.npz"), 0, NULL, NULL, NULL));
  OK(neap_file_load(context, at("none.npz"), &file));
  CHECK(neap_file_count(file) == 0);
  neap_file_close(file);
  OK(neap_file_save(context, at("none.safetensors"), 0, NULL, NULL, meta));
  OK(neap_file_load(context, at("none.safetensors"), &file));
  CHECK(neap_file_count(file) == 0 && strcmp(neap_file_meta(file, "only"), "this") == 0);
  neap_file_close(file);
}

/* ---- Files that NumPy and safetensors made (golden/make.py) ------------------- */

static double element(neap_array *array, int64_t i) {
  void *data;
  OK(neap_array_data(array, &data));
  switch (neap_array_get_info(array)->dtype) {
  case NEAP_FLOAT32:
    return ((float *)data)[i];
  case NEAP_FLOAT64:
    return ((double *)data)[i];
  case NEAP_INT8:
    return ((int8_t *)data)[i];
  case NEAP_UINT8:
    return ((uint8_t *)data)[i];
  case NEAP_INT32:
    return ((int32_t *)data)[i];
  case NEAP_INT64:
    return (double)((int64_t *)data)[i];
  case NEAP_FLOAT16: { /* -3 to 2, by IEEE 754 binary16 */
    static const uint16_t halves[] = {0xC200, 0xC000, 0xBC00, 0x0000, 0x3C00, 0x4000};
    for (int v = 0; v < 6; v++)
      if (((uint16_t *)data)[i] == halves[v]) return v - 3;
    return 1e9;
  }
  default:
    return 1e9;
  }
}

/* What make.py says of element i. */
static double expected(const char *name, int dtype, int64_t i) {
  if (strstr(name, "bool") != NULL) return i % 2 == 0;
  return dtype == NEAP_UINT8 ? (double)i : (double)(i - 3);
}

static void golden_files_are_read(neap_context *context) {
  static const struct {
    const char *path, *name; /* NULL: the only one */
    int dtype, ndim;
    int64_t shape[3];
  } golden[] = {
      {"f4.npy", NULL, NEAP_FLOAT32, 2, {2, 3}},
      {"f8_fortran.npy", NULL, NEAP_FLOAT64, 3, {2, 3, 4}},
      {"i4_big.npy", NULL, NEAP_INT32, 1, {5}},
      {"f2_big_fortran.npy", NULL, NEAP_FLOAT16, 2, {3, 2}},
      {"scalar.npy", NULL, NEAP_INT64, 0, {0}},
      {"empty.npy", NULL, NEAP_FLOAT32, 2, {0, 3}},
      {"bool.npy", NULL, NEAP_UINT8, 1, {3}},
      {"version2.npy", NULL, NEAP_INT8, 2, {2, 2}},
      {"version3.npy", NULL, NEAP_INT8, 2, {2, 2}},
      {"stored.npz", "w", NEAP_FLOAT32, 2, {2, 3}},
      {"stored.npz", "b", NEAP_INT64, 1, {4}},
      {"deflated.npz", "w", NEAP_FLOAT32, 2, {40, 50}},
      {"deflated.npz", "größe/x", NEAP_UINT8, 1, {3}},
      {"streamed.npz", "w", NEAP_FLOAT32, 2, {2, 3}},
      {"all.safetensors", "f32", NEAP_FLOAT32, 2, {2, 3}},
      {"all.safetensors", "f64", NEAP_FLOAT64, 1, {2}},
      {"all.safetensors", "f16", NEAP_FLOAT16, 1, {3}},
      {"all.safetensors", "i8", NEAP_INT8, 1, {3}},
      {"all.safetensors", "u8", NEAP_UINT8, 1, {3}},
      {"all.safetensors", "i32", NEAP_INT32, 2, {1, 2}},
      {"all.safetensors", "i64", NEAP_INT64, 0, {0}},
      {"all.safetensors", "bool", NEAP_UINT8, 1, {2}},
      {"all.safetensors", "empty", NEAP_FLOAT32, 2, {0, 4}},
  };
  for (size_t g = 0; g < sizeof golden / sizeof golden[0]; g++) {
    char path[200];
    neap_file *file;
    neap_array *array;
    int index = 0;
    snprintf(path, sizeof path, "spec/engine/golden/%s", golden[g].path);
    OK(neap_file_load(context, path, &file));
    if (golden[g].name != NULL)
      while (index < neap_file_count(file) &&
             strcmp(neap_file_name(file, index), golden[g].name) != 0)
        index++;
    OK(neap_file_array(file, index, &array));
    const neap_array_info *info = neap_array_get_info(array);
    CHECK(info->dtype == golden[g].dtype && info->ndim == golden[g].ndim);
    for (int d = 0; d < info->ndim; d++) CHECK(info->shape[d] == golden[g].shape[d]);
    for (int64_t i = 0; i < info->size; i++)
      CHECK(element(array, i) ==
            expected(golden[g].name ? golden[g].name : golden[g].path, info->dtype, i));
    if (strstr(path, "all.safetensors") != NULL)
      CHECK(strcmp(neap_file_meta(file, "quote \"\\/\n"), "zwölf €") == 0);
    neap_array_close(array);
    neap_file_close(file);
  }
}

static void npy_is_written_byte_for_byte_as_numpy_writes_it(neap_context *context) {
  static const char *const names[] = {"f4.npy", "scalar.npy", "empty.npy"};
  for (int i = 0; i < 3; i++) {
    char path[200];
    neap_file *file;
    neap_array *array;
    snprintf(path, sizeof path, "spec/engine/golden/%s", names[i]);
    OK(neap_file_load(context, path, &file));
    OK(neap_file_array(file, 0, &array));
    OK(neap_file_save(context, at("same.npy"), 1, NULL, &array, NULL));
    bytes theirs = read_file(path), ours = read_file(at("same.npy"));
    CHECK(ours.size == theirs.size && memcmp(ours.data, theirs.data, ours.size) == 0);
    free(theirs.data);
    free(ours.data);
    neap_array_close(array);
    neap_file_close(file);
  }
}

/* More members than 16 bits count: the archive then ends with zip64 records. */
static void an_npz_may_hold_70000_arrays(neap_context *context) {
  enum { COUNT = 70000 };
  neap_array *array = make(context, NEAP_UINT8, 1, (int64_t[]){3}, 5), *back;
  neap_array **arrays = malloc(COUNT * sizeof *arrays);
  char(*names)[8] = malloc(COUNT * sizeof *names);
  const char **pointers = malloc(COUNT * sizeof *pointers);
  neap_file *file;
  CHECK(arrays != NULL && names != NULL && pointers != NULL);
  for (int i = 0; i < COUNT; i++) {
    snprintf(names[i], sizeof names[i], "%d", i);
    pointers[i] = names[i];
    arrays[i] = array;
  }
  OK(neap_file_save(context, at("many.npz"), COUNT, pointers, arrays, NULL));
  OK(neap_file_load(context, at("many.npz"), &file));
  CHECK(neap_file_count(file) == COUNT);
  CHECK(strcmp(neap_file_name(file, COUNT - 1), "69999") == 0);
  OK(neap_file_array(file, COUNT - 1, &back));
  check_same(array, back);
  neap_array_close(back);
  neap_array_close(array);
  neap_file_close(file);
  free(arrays);
  free(names);
  free(pointers);
}

/* ---- When things are saved and what of ------------------------------------------ */

static void a_file_holds_what_was_queued_before_it_was_saved(neap_context *context) {
  neap_array *array, *back;
  neap_file *file;
  OK(neap_array_create(context, NEAP_FLOAT32, 1, (int64_t[]){100000}, NEAP_CPU, 0, &array));
  for (int i = 0; i <= 100; i++) OK(neap_array_fill(array, i));
  OK(neap_file_save(context, at("late.npy"), 1, NULL, &array, NULL));
  OK(neap_array_fill(array, -1));
  OK(neap_file_load(context, at("late.npy"), &file));
  OK(neap_file_array(file, 0, &back));
  CHECK(element(back, 0) == 100 && element(back, 99999) == 100);
  neap_array_close(array);
  neap_array_close(back);
  neap_file_close(file);
}

typedef struct filler {
  neap_array *first, *second;
  atomic_bool stop;
} filler;

static void *fill_on(void *arg) {
  filler *f = arg;
  for (int i = 0; !atomic_load(&f->stop); i++) {
    OK(neap_array_fill(f->first, i));
    OK(neap_array_fill(f->second, i));
    if (i % 8 == 0) OK(neap_array_wait(f->second)); /* a save waits for all that is queued */
  }
  return NULL;
}

/* No element of a later step beside one of an earlier: within an array, and of two arrays that
 * are always set one after the other. */
static void a_file_saved_while_others_work_is_of_one_moment(neap_context *context) {
  static const char *const names[] = {"first", "second"};
  filler f = {.stop = false};
  pthread_t thread;
  OK(neap_array_create(context, NEAP_FLOAT64, 1, (int64_t[]){200000}, NEAP_CPU, 0, &f.first));
  OK(neap_array_create(context, NEAP_FLOAT64, 1, (int64_t[]){200000}, NEAP_CPU, 0, &f.second));
  OK(neap_array_fill(f.first, 0));
  OK(neap_array_fill(f.second, 0));
  CHECK(pthread_create(&thread, NULL, fill_on, &f) == 0);
  for (int i = 0; i < 5; i++) {
    neap_array *arrays[2] = {f.first, f.second};
    neap_file *file;
    OK(neap_file_save(context, at("while.safetensors"), 2, names, arrays, NULL));
    OK(neap_file_load(context, at("while.safetensors"), &file));
    OK(neap_file_array(file, 0, &arrays[0]));
    OK(neap_file_array(file, 1, &arrays[1]));
    double ahead = element(arrays[0], 0) - element(arrays[1], 0);
    CHECK(ahead == 0 || ahead == 1);
    for (int j = 1; j < 200000; j += 997)
      for (int a = 0; a < 2; a++) CHECK(element(arrays[a], j) == element(arrays[a], 0));
    neap_array_close(arrays[0]);
    neap_array_close(arrays[1]);
    neap_file_close(file);
  }
  atomic_store(&f.stop, true);
  CHECK(pthread_join(thread, NULL) == 0);
  neap_array_close(f.first);
  neap_array_close(f.second);
}

static int fail_task(neap_task *task, void *arg) {
  return neap_task_fail(task, NEAP_EINVAL, "what went wrong before");
}

static void a_late_error_is_raised_and_nothing_is_written(neap_context *context) {
  neap_array *array = make(context, NEAP_INT8, 1, (int64_t[]){2}, 0);
  neap_var *var = neap_array_var(array);
  neap_op op = {
      .size = sizeof op, .name = "bad", .run = fail_task, .writes = &var, .num_writes = 1};
  OK(neap_push(context, &op));
  FAILS(neap_file_save(context, at("never.npy"), 1, NULL, &array, NULL), NEAP_EINVAL,
        "what went wrong before");
  CHECK(access(at("never.npy"), F_OK) != 0);
  OK(neap_file_save(context, at("never.npy"), 1, NULL, &array, NULL)); /* told once */
  neap_array_close(array);
}

/* ---- What is refused ------------------------------------------------------------- */

static void what_cannot_be_saved_is_refused_with_its_name(neap_context *context) {
  neap_array *two[2] = {make(context, NEAP_FLOAT32, 1, (int64_t[]){2}, 0),
                        make(context, NEAP_BFLOAT16, 1, (int64_t[]){2}, 0)};
  neap_array *sparse, *foreign;
  neap_context *other;
  const char *names[] = {"weight", "weight"}, *bad[] = {"ok", "\xff\xfe"}, *none[] = {"ok", ""},
             *reserved[] = {"__metadata__"}, *meta[] = {"k", "v", NULL},
             *twice[] = {"k", "1", "k", "2", NULL};
  FAILS(neap_file_save(context, at("x.txt"), 1, names, two, NULL), NEAP_EINVAL, ".safetensors");
  FAILS(neap_file_save(context, ".npy", 1, names, two, NULL), NEAP_EINVAL, "should end in");
  FAILS(neap_file_save(context, at("x.npy"), 2, names, two, NULL), NEAP_EINVAL, "one array");
  FAILS(neap_file_save(context, at("x.npy"), 1, NULL, two + 1, NULL), NEAP_EDTYPE, "bfloat16");
  FAILS(neap_file_save(context, at("x.npz"), 1, names, two + 1, NULL), NEAP_EDTYPE, "'weight'");
  FAILS(neap_file_save(context, at("x.safetensors"), 2, names, two, NULL), NEAP_EINVAL, "'weight'");
  FAILS(neap_file_save(context, at("x.safetensors"), 2, bad, two, NULL), NEAP_EINVAL, "UTF-8");
  FAILS(neap_file_save(context, at("x.safetensors"), 2, none, two, NULL), NEAP_EINVAL, "name");
  FAILS(neap_file_save(context, at("x.safetensors"), 2, NULL, two, NULL), NEAP_EINVAL, "name");
  FAILS(neap_file_save(context, at("x.safetensors"), 1, reserved, two, NULL), NEAP_EINVAL,
        "__metadata__");
  FAILS(neap_file_save(context, at("x.safetensors"), 1, names, two, twice), NEAP_EINVAL, "'k'");
  FAILS(neap_file_save(context, at("x.npz"), 1, names, two, meta), NEAP_EINVAL, "metadata");
  OK(neap_sparse_create(context, NEAP_FLOAT32, 2, (int64_t[]){4, 2}, NEAP_CPU, 0, &sparse));
  FAILS(neap_file_save(context, at("x.npz"), 1, names, &sparse, NULL), NEAP_ESTYPE, "row-sparse");
  OK(neap_context_create(NULL, &other));
  foreign = make(other, NEAP_INT8, 1, (int64_t[]){2}, 0);
  FAILS(neap_file_save(context, at("x.npy"), 1, NULL, &foreign, NULL), NEAP_EINVAL, "context");
  neap_array_close(foreign);
  neap_context_close(other);
  neap_array_close(sparse);
  neap_array_close(two[0]);
  neap_array_close(two[1]);
  CHECK(files_in_folder() == 0);
}

static void what_is_no_file_of_arrays_is_not_loaded(neap_context *context) {
  neap_file *file = NULL;
  FAILS(neap_file_load(context, at("absent.npy"), &file), NEAP_EIO, "absent.npy");
  FAILS(neap_file_load(context, folder, &file), NEAP_EIO, "not a plain file");
  CHECK(mkfifo(at("pipe.npy"), 0600) == 0); /* opening one for reading could wait for ever */
  FAILS(neap_file_load(context, at("pipe.npy"), &file), NEAP_EIO, "not a plain file");
  neap_array *array = make(context, NEAP_INT8, 1, (int64_t[]){2}, 0);
  FAILS(neap_file_save(context, at("pipe.npy"), 1, NULL, &array, NULL), NEAP_EIO, "not a plain");
  neap_array_close(array);
  write_file(at("nothing.npz"), "", 0);
  FAILS(neap_file_load(context, at("nothing.npz"), &file), NEAP_EFORMAT, "does not begin");
  write_file(at("text.npz"), "once upon a time", 16);
  FAILS(neap_file_load(context, at("text.npz"), &file), NEAP_EFORMAT, "does not begin");
  CHECK(file == NULL);
  empty_folder();
}

/* ---- Failing to write ------------------------------------------------------------- */

static void a_failed_save_leaves_the_old_file_and_nothing_else(neap_context *context) {
  static const char *const paths[] = {"old.npy", "old.npz", "old.safetensors"};
  const char *name = "w";
  neap_array *old = make(context, NEAP_INT32, 1, (int64_t[]){5}, 1);
  neap_array *new = make(context, NEAP_INT32, 2, (int64_t[]){10, 10}, 2);
  struct rlimit before;
  FAILS(neap_file_save(context, at("no/such/folder.npy"), 1, NULL, &new, NULL), NEAP_EIO,
        "No such file");
  CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
  signal(SIGXFSZ, SIG_IGN); /* write() then fails with EFBIG */
  for (int i = 0; i < 3; i++) {
    OK(neap_file_save(context, at(paths[i]), 1, &name, &old, NULL));
    bytes was = read_file(at(paths[i]));
    OK(neap_file_save(context, at(paths[i]), 1, &name, &new, NULL));
    struct stat about;
    CHECK(stat(at(paths[i]), &about) == 0);
    OK(neap_file_save(context, at(paths[i]), 1, &name, &old, NULL));
    for (size_t limit = 0; limit < (size_t)about.st_size; limit++) {
      CHECK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, before.rlim_max}) == 0);
      FAILS(neap_file_save(context, at(paths[i]), 1, &name, &new, NULL), NEAP_EIO, paths[i]);
    }
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    bytes is = read_file(at(paths[i]));
    CHECK(is.size == was.size && memcmp(is.data, was.data, is.size) == 0);
    CHECK(files_in_folder() == 1);
    unlink(at(paths[i]));
    free(was.data);
    free(is.data);
  }
  neap_array_close(old);
  neap_array_close(new);
}

static void links_and_modes_stay(neap_context *context) {
  neap_array *array = make(context, NEAP_INT32, 1, (int64_t[]){5}, 1);
  struct stat about;
  write_file(at("real.npy"), "old", 3);
  CHECK(chmod(at("real.npy"), 0640) == 0 && symlink("real.npy", at("link.npy")) == 0);
  OK(neap_file_save(context, at("link.npy"), 1, NULL, &array, NULL));
  CHECK(lstat(at("link.npy"), &about) == 0 && S_ISLNK(about.st_mode));
  CHECK(lstat(at("real.npy"), &about) == 0 && (about.st_mode & 0777) == 0640);
  CHECK(about.st_size == 148);
  neap_array_close(array);
  empty_folder();
}

/* ---- Failing to allocate ------------------------------------------------------------ */

static void every_failing_allocation_is_an_error_without_a_leak(void) {
  static const char *const paths[] = {"m.npy", "m.npz", "m.safetensors", "deflated.npz",
                                      "f8_fortran.npy"};
  const char *names[] = {"one", "two"}, *meta[] = {"k", "v", NULL};
  for (int i = 0; i < 5; i++) {
    ledger l;
    neap_context *context = counted_context(&l);
    neap_array *two[2] = {make(context, NEAP_FLOAT32, 2, (int64_t[]){3, 2}, 0),
                          make(context, NEAP_INT8, 1, (int64_t[]){2}, 0)};
    char path[PATH_MAX];
    neap_file *file = NULL;
    long used = atomic_load(&l.used);
    int status = NEAP_ENOMEM, failures = 0;
    snprintf(path, sizeof path, "%s/%s", i < 3 ? folder : "spec/engine/golden", paths[i]);
    for (; i < 3 && status != NEAP_OK; failures++) {
      atomic_store(&l.fail_at, failures);
      status = neap_file_save(context, path, i == 0 ? 1 : 2, names, two, i == 2 ? meta : NULL);
      atomic_store(&l.fail_at, -1);
      CHECK(status == NEAP_OK || (status == NEAP_ENOMEM && neap_error()[0] != 0));
      CHECK(files_in_folder() == (status == NEAP_OK));
    }
    CHECK(i >= 3 || failures > 1);
    for (failures = 0, status = NEAP_ENOMEM; status != NEAP_OK; failures++) {
      atomic_store(&l.fail_at, failures);
      status = neap_file_load(context, path, &file);
      if (status == NEAP_OK) status = neap_wait_all(context); /* transposing */
      atomic_store(&l.fail_at, -1);
      CHECK(status == NEAP_OK || (status == NEAP_ENOMEM && neap_error()[0] != 0));
      if (file != NULL && status != NEAP_OK) neap_file_close(file), file = NULL;
    }
    CHECK(failures > 4);
    neap_file_close(file);
    neap_array_close(two[0]);
    neap_array_close(two[1]);
    neap_context_close(context);
    CHECK(used > 0 && atomic_load(&l.used) == 0);
    empty_folder();
  }
}

int main(void) {
  neap_context *context;
  strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/neap-XXXXXX" : "/tmp/neap-XXXXXX");
  CHECK(mkdtemp(folder) != NULL);
  OK(neap_context_create(NULL, &context));
  every_dtype_and_shape_comes_back_the_same(context);
  a_view_is_saved_as_what_it_shows(context);
  order_names_and_metadata_come_back(context);
  none_at_all_is_a_file_too(context);
  golden_files_are_read(context);
  npy_is_written_byte_for_byte_as_numpy_writes_it(context);
  an_npz_may_hold_70000_arrays(context);
  a_file_holds_what_was_queued_before_it_was_saved(context);
  a_file_saved_while_others_work_is_of_one_moment(context);
  a_late_error_is_raised_and_nothing_is_written(context);
  empty_folder();
  what_cannot_be_saved_is_refused_with_its_name(context);
  what_is_no_file_of_arrays_is_not_loaded(context);
  a_failed_save_leaves_the_old_file_and_nothing_else(context);
  links_and_modes_stay(context);
  neap_context_close(context);
  every_failing_allocation_is_an_error_without_a_leak();
  rmdir(folder);
  return 0;
}
