/* SPDX-License-Identifier: MIT */
/* sparse.c - row-sparse arrays: what is queued, and the public calls.
 *
 * How many rows there are is known only once work has run, so the operations here are one part
 * each, as a rule; those that write a dense array know its rows and are cut by them. See sparse.h
 * for who may touch what. */
#include "sparse.h"
#include "call.h"
#include "pool.h"
#include <string.h>

/* The payload of all operations here. Dense arguments are pointers, row-sparse ones chunks, whose
 * pointers are read when the operation runs. */
typedef struct sparse_call {
  const neap_kernel_table *cpu;
  neap_pool *pool;
  int dtype, out_dtype, ids_dtype;
  int64_t rows, row;     /* of the whole array: rows, and elements in one */
  size_t row_bytes;      /* of the input */
  neap_chunk *from, *to; /* row-sparse */
  const void *from_dense;
  void *to_dense;
  const void *ids; /* given by the caller: `count`, of ids_dtype */
  int64_t count, grain;
  neap_chunk *many[]; /* add_n: `count` */
} sparse_call;

static neap_work *new_work(const char *name, neap_fn run, const neap_array *like, int reads,
                           int many, sparse_call **call) {
  neap_context *context = neap_array_context(like);
  size_t bytes = sizeof(sparse_call) + (size_t)many * sizeof(neap_chunk *);
  neap_work *work = neap_work_new(context, name, run, bytes, reads, 1);
  if (!work) return NULL;
  sparse_call *c = *call = neap_work_payload(work);
  c->cpu = context->cpu;
  c->pool = context->pool;
  c->dtype = c->out_dtype = like->info.dtype;
  c->rows = like->info.shape[0];
  c->row = neap_row_size(&like->info);
  c->row_bytes = (size_t)c->row * (size_t)like->info.itemsize;
  return work;
}

static void set_from(neap_work *work, sparse_call *c, neap_array *from) {
  if (from->info.stype == NEAP_DENSE)
    c->from_dense = neap_array_at_data(from);
  else
    c->from = from->chunk;
  neap_work_read(work, from->chunk->var);
}

static void set_to(neap_work *work, sparse_call *c, neap_array *to) {
  if (to->info.stype == NEAP_DENSE)
    c->to_dense = neap_array_at_data(to);
  else
    c->to = to->chunk;
  neap_work_write(work, to->chunk->var);
}

/* Late errors of what runs below. */
static int late(neap_task *task, int status) {
  return status == NEAP_OK ? NEAP_OK : neap_task_fail(task, status, "%s", neap_error());
}

/* ---- Rows in the making ---------------------------------------------------------------------- */

typedef struct fresh {
  int64_t *ids;
  void *data;
  size_t bytes;
} fresh;

static int fresh_open(fresh *f, neap_pool *pool, int64_t rows, size_t row_bytes) {
  memset(f, 0, sizeof *f);
  if (rows == 0) return NEAP_OK;
  if (!neap_mul_size((size_t)rows, row_bytes, &f->bytes))
    return neap_fail(NEAP_ENOMEM, "%lld rows are too many", (long long)rows);
  f->ids = neap_pool_get(pool, (size_t)rows * sizeof *f->ids);
  f->data = neap_pool_get(pool, f->bytes);
  if (f->ids && f->data) return NEAP_OK;
  neap_pool_put(pool, f->ids, (size_t)rows * sizeof *f->ids);
  neap_pool_put(pool, f->data, f->bytes);
  return NEAP_ENOMEM;
}

static void *row_at(const sparse_call *c, const void *base, int64_t row) {
  return (char *)base + (size_t)row * c->row_bytes;
}

/* `to` = the rows of `table` (which has table_rows) at `positions`. */
static void gather(const sparse_call *c, const void *table, int64_t table_rows,
                   const int64_t *positions, int64_t count, void *to) {
  neap_kargs args = {.dtype = c->dtype, .out_dtype = c->dtype, .rows = table_rows, .row = c->row};
  args.in[0] = table;
  args.ids = positions;
  args.out = to;
  c->cpu->gather(&args, 0, count); /* positions were checked */
}

/* `to` = the sum of the rows that `rows` points to, in this order. */
static void add_rows(const sparse_call *c, const void *const *rows, int64_t count, void *to) {
  if (count == 1) {
    memcpy(to, rows[0], c->row_bytes);
    return;
  }
  neap_kargs args = {.dtype = c->dtype, .out_dtype = c->dtype, .many = rows, .count = count};
  args.out = to;
  c->cpu->add_n(&args, 0, c->row);
}

/* ---- set: rows in any order ------------------------------------------------------------------ */

static int set_rows(const sparse_call *c, int64_t *ids, const void **rows) {
  NEAP_TRY(neap_rows_load(c->ids_dtype, c->ids, c->count, c->rows, ids));
  for (int64_t i = 0; i < c->count; i++) rows[i] = row_at(c, c->from_dense, i);
  NEAP_TRY(neap_rows_sort(c->pool, c->count, c->rows, ids, rows));
  int64_t unique = c->count > 0;
  for (int64_t i = 1; i < c->count; i++) unique += ids[i] != ids[i - 1];
  fresh f;
  NEAP_TRY(fresh_open(&f, c->pool, unique, c->row_bytes));
  for (int64_t i = 0, n = 0; i < c->count; n++) {
    int64_t begin = i;
    while (i < c->count && ids[i] == ids[begin]) i++;
    f.ids[n] = ids[begin];
    add_rows(c, rows + begin, i - begin, row_at(c, f.data, n));
  }
  neap_chunk_set_rows(c->to, unique, f.data, f.bytes, f.ids);
  return NEAP_OK;
}

static int run_set(neap_task *task, void *arg) {
  const sparse_call *c = arg;
  size_t bytes = (size_t)c->count * sizeof(int64_t); /* count ids lie in memory */
  int64_t *ids = neap_pool_get(c->pool, bytes);
  const void **rows = neap_pool_get(c->pool, bytes);
  int status = ids && rows ? set_rows(c, ids, rows) : NEAP_ENOMEM;
  neap_pool_put(c->pool, ids, bytes);
  neap_pool_put(c->pool, rows, bytes);
  return late(task, status);
}

int neap_check_ids(const char *name, const neap_array *ids) {
  NEAP_TRY(neap_check_dense(name, ids));
  if (ids->info.dtype == NEAP_INT32 || ids->info.dtype == NEAP_INT64) return NEAP_OK;
  return neap_fail(NEAP_EDTYPE, "%s: indices are int32 or int64, not %s; astype('int64') first",
                   name, neap_dtype_name(ids->info.dtype));
}

static int check_sparse(const char *name, const neap_array *array) {
  NEAP_TRY(neap_check_open(name, array));
  if (array->info.stype == NEAP_ROW_SPARSE) return NEAP_OK;
  return neap_fail(NEAP_ESTYPE,
                   "%s: wants a row_sparse array, not a dense one; "
                   "tostype('row_sparse') first",
                   name);
}

int neap_sparse_set(neap_array *sparse, neap_array *values, neap_array *ids) {
  static const char name[] = "row_sparse";
  NEAP_TRY(check_sparse(name, sparse));
  NEAP_TRY(neap_check_pair(name, sparse, values));
  NEAP_TRY(neap_check_ids(name, ids));
  NEAP_TRY(neap_check_context(name, sparse, ids));
  NEAP_TRY(neap_check_device(name, sparse, ids));
  neap_array_info want = sparse->info; /* what values must look like */
  want.shape[0] = ids->info.size;
  bool fits = values->info.ndim == want.ndim;
  for (int d = 0; d < want.ndim && fits; d++) fits = values->info.shape[d] == want.shape[d];
  if (!fits) {
    char one[NEAP_SHAPE_TEXT], two[NEAP_SHAPE_TEXT], three[NEAP_SHAPE_TEXT];
    return neap_fail(NEAP_ESHAPE,
                     "%s: for %lld row ids and shape %s, values must have shape %s, not %s", name,
                     (long long)ids->info.size, neap_shape_text(&sparse->info, one),
                     neap_shape_text(&want, two), neap_shape_text(&values->info, three));
  }
  sparse_call *c;
  neap_work *work = new_work(name, run_set, sparse, 2, 0, &c);
  if (!work) return neap_error_status();
  set_from(work, c, values);
  set_to(work, c, sparse);
  c->ids = neap_array_at_data(ids);
  c->ids_dtype = ids->info.dtype;
  c->count = ids->info.size;
  neap_work_read(work, ids->chunk->var);
  neap_work_set_quick(work, values->info.size <= 1024 && c->count <= 64);
  neap_work_submit(work);
  return NEAP_OK;
}

/* ---- retain: the rows that ids name ---------------------------------------------------------- */

static int retain_rows(const sparse_call *c, int64_t *ids) {
  NEAP_TRY(neap_rows_load(c->ids_dtype, c->ids, c->count, c->rows, ids));
  NEAP_TRY(neap_rows_sort(c->pool, c->count, c->rows, ids, NULL));
  /* Without repeats, and, of a row-sparse array, those that are there. */
  const neap_chunk *from = c->from;
  int64_t kept = 0;
  for (int64_t i = 0, at = 0; i < c->count; i++) {
    if (kept > 0 && ids[kept - 1] == ids[i]) continue;
    if (from) {
      at += neap_rows_find(from->ids + at, from->rows - at, ids[i]);
      if (at == from->rows) break;
      if (from->ids[at] != ids[i]) continue;
    }
    ids[kept++] = ids[i];
  }
  fresh f;
  NEAP_TRY(fresh_open(&f, c->pool, kept, c->row_bytes));
  if (kept > 0) {
    memcpy(f.ids, ids, (size_t)kept * sizeof *ids);
    for (int64_t i = 0, at = 0; i < kept && from; i++) { /* ids become positions */
      at += neap_rows_find(from->ids + at, from->rows - at, ids[i]);
      ids[i] = at;
    }
    gather(c, from ? from->data : c->from_dense, from ? from->rows : c->rows, ids, kept, f.data);
  }
  neap_chunk_set_rows(c->to, kept, f.data, f.bytes, f.ids);
  return NEAP_OK;
}

static int run_retain(neap_task *task, void *arg) {
  const sparse_call *c = arg;
  size_t bytes = (size_t)c->count * sizeof(int64_t);
  int64_t *ids = neap_pool_get(c->pool, bytes);
  int status = ids ? retain_rows(c, ids) : NEAP_ENOMEM;
  neap_pool_put(c->pool, ids, bytes);
  return late(task, status);
}

neap_work *neap_retain_work(neap_array *from, neap_array *ids, neap_array *to) {
  sparse_call *c;
  neap_work *work = new_work("retain", run_retain, from, 2, 0, &c);
  if (!work) return NULL;
  set_from(work, c, from);
  set_to(work, c, to);
  c->ids = neap_array_at_data(ids);
  c->ids_dtype = ids->info.dtype;
  c->count = ids->info.size;
  neap_work_read(work, ids->chunk->var);
  neap_work_set_quick(work, c->count <= 64 && c->count * c->row <= 4096);
  return work;
}

int neap_sparse_retain(neap_array *array, neap_array *ids, neap_array **out) {
  NEAP_TRY(neap_check_open("retain", array));
  NEAP_TRY(neap_check_ids("retain", ids));
  NEAP_TRY(neap_check_context("retain", array, ids));
  NEAP_TRY(neap_check_device("retain", array, ids));
  if (array->info.ndim == 0)
    return neap_fail(NEAP_ESHAPE, "retain: an array without dimensions has no rows");
  neap_array_info want = array->info;
  want.stype = NEAP_ROW_SPARSE;
  neap_output output;
  NEAP_TRY(neap_output_open(&output, "retain", neap_array_context(array), &want, out));
  return neap_output_close(&output, neap_retain_work(array, ids, output.array), out);
}

/* ---- Copies between storage types ------------------------------------------------------------ */

/* Row-sparse to row-sparse, of another dtype perhaps. */
static int run_cast(neap_task *task, void *arg) {
  const sparse_call *c = arg;
  const neap_chunk *from = c->from;
  if (from == c->to) return NEAP_OK;
  fresh f;
  int status = fresh_open(&f, c->pool, from->rows, (size_t)c->row * neap_k_itemsize(c->out_dtype));
  if (status != NEAP_OK) return late(task, status);
  if (from->rows > 0) {
    memcpy(f.ids, from->ids, (size_t)from->rows * sizeof *f.ids);
    neap_kargs args = {.dtype = c->dtype, .out_dtype = c->out_dtype, .out = f.data};
    args.in[0] = from->data;
    neap_kernel kernel = c->dtype == c->out_dtype ? c->cpu->copy : c->cpu->cast;
    kernel(&args, 0, from->rows * c->row);
  }
  neap_chunk_set_rows(c->to, from->rows, f.data, f.bytes, f.ids);
  return NEAP_OK;
}

neap_work *neap_sparse_cast_work(neap_array *from, neap_array *to) {
  sparse_call *c;
  const char *name = from->info.dtype == to->info.dtype ? "copy" : "astype";
  neap_work *work = new_work(name, run_cast, from, 1, 0, &c);
  if (!work) return NULL;
  c->out_dtype = to->info.dtype;
  set_from(work, c, from);
  set_to(work, c, to);
  return work;
}

/* Dense to row-sparse: the rows that are not all zeros. */
static int nonzero_rows(const sparse_call *c, uint8_t *flags) {
  neap_kargs args = {.dtype = c->dtype, .out_dtype = c->dtype, .rows = c->rows, .row = c->row};
  args.in[0] = c->from_dense;
  args.out = flags;
  if (c->rows > 0) c->cpu->row_nonzero(&args, 0, c->rows);
  int64_t count = 0, n = 0;
  for (int64_t r = 0; r < c->rows; r++) count += flags[r];
  fresh f;
  NEAP_TRY(fresh_open(&f, c->pool, count, c->row_bytes));
  for (int64_t r = 0; r < c->rows; r++)
    if (flags[r]) f.ids[n++] = r;
  if (count > 0) gather(c, c->from_dense, c->rows, f.ids, count, f.data);
  neap_chunk_set_rows(c->to, count, f.data, f.bytes, f.ids);
  return NEAP_OK;
}

static int run_to_sparse(neap_task *task, void *arg) {
  const sparse_call *c = arg;
  uint8_t *flags = neap_pool_get(c->pool, (size_t)c->rows);
  int status = flags ? nonzero_rows(c, flags) : NEAP_ENOMEM;
  neap_pool_put(c->pool, flags, (size_t)c->rows);
  return late(task, status);
}

/* ---- Sums of row-sparse arrays, and copies to dense ones ------------------------------------- */

/* Walks through several arrays' rows by ascending id. */
typedef struct walk {
  const sparse_call *c;
  int64_t *at;       /* the next row of each array */
  const void **rows; /* those that have the current id, in the order of the arrays */
  int64_t few_at[16];
  const void *few_rows[16];
} walk;

static int walk_open(walk *w, const sparse_call *c) {
  w->c = c;
  w->at = w->few_at;
  w->rows = w->few_rows;
  if (c->count <= 16) return NEAP_OK;
  w->at = neap_pool_get(c->pool, (size_t)c->count * sizeof *w->at);
  w->rows = neap_pool_get(c->pool, (size_t)c->count * sizeof *w->rows);
  return w->at && w->rows ? NEAP_OK : NEAP_ENOMEM;
}

static void walk_close(walk *w) {
  if (w->c->count <= 16) return;
  neap_pool_put(w->c->pool, w->at, (size_t)w->c->count * sizeof *w->at);
  neap_pool_put(w->c->pool, w->rows, (size_t)w->c->count * sizeof *w->rows);
}

static void walk_from(walk *w, int64_t begin) {
  for (int64_t i = 0; i < w->c->count; i++)
    w->at[i] = begin ? neap_rows_find(w->c->many[i]->ids, w->c->many[i]->rows, begin) : 0;
}

/* How many arrays have the next id, which must be below `end`; 0: there is none. */
static int64_t walk_next(walk *w, int64_t end, int64_t *id) {
  neap_chunk *const *many = w->c->many;
  *id = end;
  for (int64_t i = 0; i < w->c->count; i++)
    if (w->at[i] < many[i]->rows && many[i]->ids[w->at[i]] < *id) *id = many[i]->ids[w->at[i]];
  int64_t n = 0;
  for (int64_t i = 0; i < w->c->count && *id < end; i++)
    if (w->at[i] < many[i]->rows && many[i]->ids[w->at[i]] == *id)
      w->rows[n++] = row_at(w->c, many[i]->data, w->at[i]++);
  return n;
}

/* A part is a range of the dense array's rows. */
static int run_sum_dense(neap_task *task, void *arg) {
  const sparse_call *c = arg;
  int64_t id, n, end, begin = neap_part_range(task, c->rows, c->grain, &end);
  if (begin >= end) return NEAP_OK;
  walk w;
  int status = walk_open(&w, c);
  if (status == NEAP_OK) {
    memset(row_at(c, c->to_dense, begin), 0, (size_t)(end - begin) * c->row_bytes);
    walk_from(&w, begin);
    while ((n = walk_next(&w, end, &id)) > 0) add_rows(c, w.rows, n, row_at(c, c->to_dense, id));
  }
  walk_close(&w);
  return late(task, status);
}

/* Once to count the rows, once to make them. */
static int sum_sparse(const sparse_call *c, walk *w) {
  int64_t id, n, count = 0;
  walk_from(w, 0);
  while (walk_next(w, c->rows, &id) > 0) count++;
  fresh f;
  NEAP_TRY(fresh_open(&f, c->pool, count, c->row_bytes));
  walk_from(w, 0);
  for (int64_t i = 0; (n = walk_next(w, c->rows, &id)) > 0; i++) {
    f.ids[i] = id;
    add_rows(c, w->rows, n, row_at(c, f.data, i));
  }
  neap_chunk_set_rows(c->to, count, f.data, f.bytes, f.ids);
  return NEAP_OK;
}

static int run_sum_sparse(neap_task *task, void *arg) {
  const sparse_call *c = arg;
  walk w;
  int status = walk_open(&w, c);
  if (status == NEAP_OK) status = sum_sparse(c, &w);
  walk_close(&w);
  return late(task, status);
}

neap_work *neap_sparse_add_n_work(int count, neap_array *const *arrays, neap_array *to) {
  sparse_call *c;
  bool dense = to->info.stype == NEAP_DENSE;
  neap_work *work = new_work(count == 1 ? "copy" : "add_n", dense ? run_sum_dense : run_sum_sparse,
                             to, count, count, &c);
  if (!work) return NULL;
  c->count = count;
  for (int i = 0; i < count; i++) {
    c->many[i] = arrays[i]->chunk;
    neap_work_read(work, arrays[i]->chunk->var);
  }
  set_to(work, c, to);
  if (dense) c->grain = neap_work_cut(work, c->rows, c->row);
  return work;
}

neap_work *neap_sparse_copy_work(neap_array *from, neap_array *to) {
  if (from->info.stype == NEAP_DENSE) {
    sparse_call *c;
    neap_work *work = new_work("copy", run_to_sparse, from, 1, 0, &c);
    if (!work) return NULL;
    set_from(work, c, from);
    set_to(work, c, to);
    return work;
  }
  if (to->info.stype == NEAP_DENSE) return neap_sparse_add_n_work(1, &from, to);
  return neap_sparse_cast_work(from, to);
}

int neap_tostype(neap_array *array, int stype, neap_array **out) {
  NEAP_TRY(neap_check_open("tostype", array));
  if (stype != NEAP_DENSE && stype != NEAP_ROW_SPARSE)
    return neap_fail(NEAP_EINVAL, "tostype: %d is no storage type", stype);
  if (array->info.ndim == 0 && stype == NEAP_ROW_SPARSE)
    return neap_fail(NEAP_ESHAPE, "tostype: an array without dimensions has no rows");
  neap_array_info want = array->info;
  want.stype = stype; /* a dense one may be too large, which a row-sparse one never is */
  NEAP_TRY(neap_shape_check("tostype", array->info.ndim, array->info.shape, &want));
  neap_output output;
  NEAP_TRY(neap_output_open(&output, "tostype", neap_array_context(array), &want, out));
  return neap_output_close(&output, neap_copy_work(array, output.array), out);
}

/* ---- The rest -------------------------------------------------------------------------------- */

static int run_clear(neap_task *task, void *arg) {
  (void)task;
  neap_chunk_set_rows(((const sparse_call *)arg)->to, 0, NULL, 0, NULL);
  return NEAP_OK;
}

int neap_sparse_clear(neap_array *array, double value) {
  if (value != 0)
    return neap_fail(NEAP_ESTYPE, "fill: a row_sparse array can be filled with 0 only; "
                                  "tostype('default') first");
  sparse_call *c;
  neap_work *work = new_work("fill", run_clear, array, 0, 0, &c);
  if (!work) return neap_error_status();
  set_to(work, c, array);
  neap_work_set_quick(work, true);
  neap_work_submit(work);
  return NEAP_OK;
}

/* What a waiting call takes out of a row-sparse array. */
typedef struct taken {
  neap_chunk *chunk;
  bool values;
  int64_t rows;
  size_t bytes;
  void *data; /* from the pool */
} taken;

static int run_taken(neap_task *task, void *arg) {
  taken *t = *(taken **)arg;
  neap_chunk *chunk = t->chunk;
  t->bytes = t->values ? chunk->bytes : chunk->ids_bytes;
  t->data = neap_pool_get(chunk->context->pool, t->bytes);
  if (!t->data) return late(task, NEAP_ENOMEM);
  t->rows = chunk->rows;
  if (t->bytes) memcpy(t->data, t->values ? chunk->data : (void *)chunk->ids, t->bytes);
  return NEAP_OK;
}

/* Queues it and waits for it alone; its shape is known then. */
static int take_out(const char *name, neap_array *sparse, bool values, neap_array **out) {
  NEAP_TRY(check_sparse(name, sparse));
  if (!out) return neap_fail(NEAP_EINVAL, "%s: no place for the result", name);
  neap_context *context = neap_array_context(sparse);
  neap_var *done;
  NEAP_TRY(neap_var_create(context, &done));
  taken t = {.chunk = sparse->chunk, .values = values};
  neap_work *work = neap_work_new(context, name, run_taken, sizeof(taken *), 1, 1);
  int status = work ? NEAP_OK : neap_error_status();
  if (work) {
    *(taken **)neap_work_payload(work) = &t;
    neap_work_read(work, sparse->chunk->var);
    neap_work_write(work, done);
    status = neap_work_wait(work, done);
  }
  neap_var_close(done);
  neap_array_info want = sparse->info;
  int64_t shape[NEAP_MAX_DIM];
  memcpy(shape, want.shape, sizeof shape);
  shape[0] = t.rows;
  want.stype = NEAP_DENSE;
  if (!values) want.dtype = NEAP_INT64;
  if (status == NEAP_OK) status = neap_shape_check(name, values ? want.ndim : 1, shape, &want);
  if (status == NEAP_OK) status = neap_array_adopt(context, &want, t.data, out);
  if (status != NEAP_OK) neap_pool_put(context->pool, t.data, t.bytes);
  return status;
}

int neap_sparse_values(neap_array *sparse, neap_array **out) {
  return take_out("values", sparse, true, out);
}

int neap_sparse_indices(neap_array *sparse, neap_array **out) {
  return take_out("indices", sparse, false, out);
}
