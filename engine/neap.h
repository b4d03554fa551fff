/* SPDX-License-Identifier: MIT */
/* neap.h - the one public header of Neap, and its manual.
 *
 * Neap is a parameter store that lives inside other programs: it keeps named
 * arrays ("keys"), adds up what is pushed to them, updates them by an optimizer
 * given as a recorded program, and hands the result back.
 *
 *   neap_context    owns everything below: memory, worker threads, the log
 *   neap_array      numbers in memory, dense or row-sparse
 *   neap_var        what the engine orders work by; each array has one
 *   neap_program    an update rule, recorded and verified
 *   neap_optimizer  programs, settings and states: what a store updates with
 *   neap_store      keys: init, push, pull
 *   neap_server     holds a share of the keys of stores across processes
 *   neap_scheduler  introduces workers and servers to each other
 *   neap_file       named arrays read from .npy, .npz or .safetensors
 *
 * Rules that hold for every function unless it says otherwise:
 *
 *   Status    Functions that can fail return a neap_status, 0 for success.
 *             neap_error() then gives the text for the calling thread. After a
 *             failure nothing was queued and nothing was changed; an out
 *             parameter is left as it was.
 *   Waiting   Work is queued on the context's engine, and the call returns at
 *             once. Functions that wait say "Waits". Who queues faster than the
 *             engine runs, by 65,536 operations, is held back and made to help.
 *   Order     Work on one array runs in the order in which it was queued, as if
 *             serially; results never depend on timing or on the number of
 *             threads.
 *   Late      A queued operation that fails marks what it would have written;
 *   errors    what depends on that is skipped and marked too. The error is
 *             returned once, where a marked array is read or by neap_wait_all().
 *             From then on its marks are void: what is queued later runs, on
 *             arrays whose contents are not defined until they are written.
 *   Threads   Any function may be called from any thread at any time, except
 *             that a handle must not be closed while another call uses it.
 *   Owning    A handle made by a function that returns it through `out` belongs
 *             to the caller, who closes it. It may be closed while queued work
 *             still uses it: the work completes first. NULL may be closed.
 *   Texts     Strings are UTF-8, ended by a zero byte, and copied by the callee.
 *
 * The library keeps no process-wide state, writes no output, installs no signal
 * handler, and never ends the process.
 */
#ifndef NEAP_H
#define NEAP_H

#include <stddef.h>
#include <stdint.h>

#if defined(NEAP_STATIC)
#define NEAP_API
#elif defined(_WIN32)
#define NEAP_API __declspec(dllimport)
#else
#define NEAP_API __attribute__((visibility("default")))
#endif

#define NEAP_VERSION_MAJOR 0
#define NEAP_VERSION_MINOR 1
#define NEAP_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* [declarations: the build hands what follows to LuaJIT; keep it plain C, free
 * of preprocessor lines up to the closing mark] */

typedef struct neap_context neap_context;
typedef struct neap_var neap_var;
typedef struct neap_array neap_array;
typedef struct neap_program neap_program;
typedef struct neap_optimizer neap_optimizer;
typedef struct neap_store neap_store;
typedef struct neap_file neap_file;
typedef struct neap_task neap_task;
typedef struct neap_scheduler neap_scheduler;
typedef struct neap_server neap_server;

enum neap_status {
  NEAP_OK = 0,
  NEAP_ENOMEM,   /* an allocation failed */
  NEAP_EINVAL,   /* an argument that makes no sense */
  NEAP_ESHAPE,   /* shapes that do not fit */
  NEAP_EDTYPE,   /* dtypes that do not fit */
  NEAP_ESTYPE,   /* dense where row-sparse is wanted, or the other way round */
  NEAP_EKEY,     /* no such key */
  NEAP_EEXIST,   /* the key is there already */
  NEAP_EIO,      /* reading or writing failed */
  NEAP_EFORMAT,  /* bytes that are not what they should be */
  NEAP_ENOTSUP,  /* not possible here */
  NEAP_ECLOSED,  /* the context or store was closed */
  NEAP_EFAILED,  /* a queued function of the caller's own failed */
  NEAP_ETIMEOUT, /* nothing came in time */
  NEAP_ELOST,    /* a process of the job died or left; the text names it */
  NEAP_EDENIED,  /* the other side does not let this process in */
  NEAP_NUM_STATUS
};

/* The text of the last error of a neap_ call on the calling thread; "" if there
 * was none. Valid until that thread's next failing call. */
NEAP_API const char *neap_error(void);

/* A short name, "NEAP_ESHAPE". Never NULL. */
NEAP_API const char *neap_status_name(int status);

/* "0.1.0", of the library that runs. */
NEAP_API const char *neap_version(void);

/* ---- Contexts ---------------------------------------------------------- */

enum neap_engine {
  NEAP_ENGINE_THREADED = 0, /* worker threads */
  NEAP_ENGINE_NAIVE         /* every operation runs inside the call that queues it */
};

enum neap_log_level { NEAP_LOG_ERROR = 0, NEAP_LOG_WARN, NEAP_LOG_INFO, NEAP_LOG_DEBUG };

typedef struct neap_options {
  size_t size;       /* sizeof(neap_options) */
  int engine;        /* neap_engine */
  int num_threads;   /* workers; -1: as many as this process may use cores, less
                      * one for the thread that queues (which works while it
                      * waits), at least 1; 0: none, work then runs inside
                      * neap_poll() and waits */
  uint64_t seed;     /* of random numbers; see neap_seed() */
  size_t pool_limit; /* bytes of free array memory kept for reuse */
  /* Memory. Both or neither; called from any thread. `align` is a power of two,
   * at most 4096. free gets the size that was asked for. */
  void *(*alloc)(void *user, size_t size, size_t align);
  void (*free)(void *user, void *block, size_t size);
  /* Log lines, without a newline; NULL: no log. Called from any thread. */
  void (*log)(void *user, int level, const char *text);
  /* Called first thing on each worker thread, with its number; may be NULL. */
  void (*thread_start)(void *user, int worker);
  void *user;
} neap_options;

/* Fills in the defaults: a threaded engine, num_threads -1, malloc, no log. */
NEAP_API void neap_options_init(neap_options *options, size_t size);

/* Overrides `options` by NEAP_ENGINE (threaded | naive) and NEAP_NUM_THREADS.
 * NEAP_EINVAL, naming the variable, when one holds something else. */
NEAP_API int neap_options_env(neap_options *options);

/* Makes a context; NULL options are the defaults. */
NEAP_API int neap_context_create(const neap_options *options, neap_context **out);

/* Runs what is queued, stops the workers, and closes the context. Waits. Handles
 * made in it may be closed before or after; other calls on them then return
 * NEAP_ECLOSED. */
NEAP_API void neap_context_close(neap_context *context);

/* Waits until everything queued so far has run. Returns the first failure that
 * no reader and no earlier call has been told of. */
NEAP_API int neap_wait_all(neap_context *context);

/* Runs queued work on the calling thread for about `microseconds`, at least one
 * piece if there is one, and returns how many pieces it ran. For hosts with a
 * frame to draw. Never blocks. */
NEAP_API int neap_poll(neap_context *context, int64_t microseconds);

/* Stops the workers once what is queued has run. Waits. What is queued afterwards
 * stays queued until neap_start(), neap_poll() or a wait. */
NEAP_API int neap_stop(neap_context *context);
NEAP_API int neap_start(neap_context *context);

/* Restarts the random numbers: what is drawn after neap_seed(c, n) is the same in
 * every process and with any number of threads. */
NEAP_API int neap_seed(neap_context *context, uint64_t seed);

enum neap_counter {
  NEAP_COUNT_OPS = 0,      /* operations queued so far, but quick ones without variables */
  NEAP_COUNT_PENDING,      /* operations queued and not complete */
  NEAP_COUNT_BYTES,        /* bytes of array memory in use */
  NEAP_COUNT_BYTES_POOLED, /* bytes of array memory free, kept for reuse */
  NEAP_COUNT_BYTES_PEAK,   /* the most bytes in use and pooled at one time */
  NEAP_COUNT_ALLOCATIONS,  /* calls of the allocator so far */
  NEAP_COUNT_THREADS,      /* worker threads */
  NEAP_NUM_COUNTERS
};
NEAP_API int64_t neap_counter(const neap_context *context, int counter);

/* ---- The engine: queue functions of your own --------------------------- */

/* Runs on a worker, or on a thread that waits or polls. Returns NEAP_OK or what
 * neap_task_fail() returned. Must not wait on the engine; may queue more. */
typedef int (*neap_fn)(neap_task *task, void *arg);

typedef struct neap_op {
  size_t size;             /* sizeof(neap_op) */
  const char *name;        /* for error texts; must outlive the operation */
  neap_fn run;             /* called once for each part; see `parts` */
  void (*done)(void *arg); /* called once at the end, run or skipped; may be NULL */
  void *arg;
  neap_var *const *reads;  /* not changed by the operation; repeats are fine */
  neap_var *const *writes; /* changed; one that is read as well stands here only */
  int num_reads;
  int num_writes;
  int priority; /* higher first among operations that are ready */
  int parts;    /* run() is called for parts 0 .. parts-1, in any order,
                 * on several threads at once; 0 counts as 1 */
  int quick;    /* not 0: takes below a microsecond or two, and may run
                 * inside neap_push() when nothing holds it back */
} neap_op;

NEAP_API int neap_var_create(neap_context *context, neap_var **out);
NEAP_API void neap_var_close(neap_var *var);

/* Queues an operation: it runs when all operations queued before it that write
 * one of its variables, or read one that it writes, are complete. If one of its
 * variables is marked as failed, run() is not called, and its writes are marked. */
NEAP_API int neap_push(neap_context *context, const neap_op *op);

/* Within a neap_fn: which part this is, and the way to fail. neap_task_fail()
 * returns `status`, or NEAP_EFAILED if that is 0. */
NEAP_API int neap_task_part(const neap_task *task);
NEAP_API int neap_task_fail(neap_task *task, int status, const char *format, ...);

/* Waits until the operations queued so far that write `var` are complete. Returns
 * the failure `var` is marked with, and clears the mark. */
NEAP_API int neap_var_wait(neap_var *var);

/* ---- Arrays ------------------------------------------------------------ */

enum neap_dtype {
  NEAP_FLOAT32 = 0,
  NEAP_FLOAT64,
  NEAP_FLOAT16,
  NEAP_BFLOAT16,
  NEAP_INT8,
  NEAP_UINT8,
  NEAP_INT32,
  NEAP_INT64,
  NEAP_NUM_DTYPES
};

enum neap_device_type { NEAP_CPU = 1, NEAP_GPU = 2 };
enum neap_stype { NEAP_DENSE = 0, NEAP_ROW_SPARSE = 1 };
enum { NEAP_MAX_DIM = 8 };

/* What an array is; does not change while it lives. */
typedef struct neap_array_info {
  int dtype;
  int stype;
  int device_type;
  int device_id;    /* logical for NEAP_CPU: any number from 0 */
  int ndim;         /* 0: one number, without dimensions */
  int itemsize;     /* bytes of one element */
  int64_t size;     /* the number of elements, the product of shape */
  int64_t shape[8]; /* NEAP_MAX_DIM */
} neap_array_info;

NEAP_API const neap_array_info *neap_array_get_info(const neap_array *array);

/* "float32"; NULL for a number that is no dtype. */
NEAP_API const char *neap_dtype_name(int dtype);
/* The dtype of that name, or -1. */
NEAP_API int neap_dtype_find(const char *name);
NEAP_API int neap_dtype_size(int dtype);

/* A dense array in row-major order; what it holds is not defined.
 *
 * Memory of an array that was closed comes back when the last queued operation that uses
 * it is complete. As long as more than 64 MiB wait for that, functions that make arrays
 * first run queued work, or wait for others to run it, so that a loop which makes and
 * drops arrays runs in bounded memory. Inside a neap_fn they never wait. */
NEAP_API int neap_array_create(neap_context *context, int dtype, int ndim, const int64_t *shape,
                               int device_type, int device_id, neap_array **out);
NEAP_API void neap_array_close(neap_array *array);

/* The variable the engine orders this array's work by; shared by all views of the
 * same memory. Belongs to the array. */
NEAP_API neap_var *neap_array_var(const neap_array *array);

/* Views: another array on the same memory. reshape: one dimension may be -1. slice:
 * [begin, end) of the first dimension; negative ones count from the end; NEAP_EINVAL if
 * they do not lie within it. at: row `index` of the first dimension, one dimension less.
 * Dense only. */
NEAP_API int neap_array_reshape(neap_array *array, int ndim, const int64_t *shape,
                                neap_array **out);
NEAP_API int neap_array_slice(neap_array *array, int64_t begin, int64_t end, neap_array **out);
NEAP_API int neap_array_at(neap_array *array, int64_t index, neap_array **out);

/* Copies `bytes` (all of the array: NEAP_EINVAL otherwise) in from or out to the
 * caller's memory, which is free on return. Waits. Dense only. */
NEAP_API int neap_array_write(neap_array *array, const void *from, size_t bytes);
NEAP_API int neap_array_read(neap_array *array, void *to, size_t bytes);

/* The memory itself. Waits for everything queued that reads or writes it; valid
 * while the array lives and until the next operation that uses it is queued. */
NEAP_API int neap_array_data(neap_array *array, void **out);

/* Waits until the array's value is there; returns its late error, once. */
NEAP_API int neap_array_wait(neap_array *array);

/* Queued assignments to an array. fill converts (integers saturate; a row-sparse array
 * takes 0 only, and has no rows then); copy converts neither dtype (NEAP_EDTYPE) nor
 * shape, but crosses devices, and from row-sparse to row-sparse. */
NEAP_API int neap_array_fill(neap_array *array, double value);
NEAP_API int neap_array_copy(neap_array *from, neap_array *to);
/* array[i] = start + i * step, by element. */
NEAP_API int neap_array_arange(neap_array *array, double start, double step);
/* Counter-based (Philox 4x32-10, Salmon et al. 2011); float dtypes. uniform: in
 * [low, high). normal: by Box and Muller. */
NEAP_API int neap_array_uniform(neap_array *array, double low, double high);
NEAP_API int neap_array_normal(neap_array *array, double mean, double deviation);

/* ---- Arithmetic -------------------------------------------------------- */

/* Operations are known by name and number; kernels/ops.def lists them. Returns
 * -1 if there is none of that name. Numbers hold for one version of the library. */
NEAP_API int neap_op_find(const char *name);
/* The name of operation `op`, NULL past the last. */
NEAP_API const char *neap_op_name(int op);

/* Everywhere below, *out is NULL for a new array, or an array to write to, of the
 * very shape and dtype of the result. It may be an input, or overlap one: all inputs
 * are read as they were. Inputs and outputs are dense, of one context and one device
 * (add_n crosses devices; row-sparse where it says so).
 *
 * Element by element, with broadcasting as in NumPy: `inputs` has as many places
 * as the operation takes arrays; NULL stands for the number at the same place of
 * `numbers`. Operations with settings (clip: low, high) take them from `numbers`
 * after the inputs' places. `numbers` may be NULL if none is needed. Arrays must
 * share one dtype (NEAP_EDTYPE otherwise), and numbers must be values of it (0.5 is no
 * int32: NEAP_EDTYPE); at least one input is an array. */
NEAP_API int neap_map(int op, neap_array *const *inputs, const double *numbers, neap_array **out);

/* Along one axis (negative: from the end), or NEAP_ALL_AXES. Reductions (sum mean
 * max min argmax norm) drop the axis, or keep it with length 1; softmax and
 * log_softmax keep the shape. Sums of integers and argmax are int64. An axis without
 * elements has no max, min or argmax: NEAP_ESHAPE. */
enum { NEAP_ALL_AXES = 1000 };
NEAP_API int neap_reduce(int op, neap_array *array, int axis, int keep, neap_array **out);

/* y += alpha * x, in place. */
NEAP_API int neap_axpy(neap_array *y, double alpha, neap_array *x);

/* Matrix product by BLAS, of float32 or float64: (m,k) x (k,n); ta, tb: transposed
 * first. Vectors: (k) x (k) is a number, (m,k) x (k) and (k) x (k,n) vectors. */
NEAP_API int neap_dot(neap_array *a, neap_array *b, int ta, int tb, neap_array **out);

/* Reordered axes, as a copy; NULL axes: reversed. */
NEAP_API int neap_transpose(neap_array *array, const int *axes, neap_array **out);
/* Along an axis that is there (concat), or a new one (stack). */
NEAP_API int neap_concat(int count, neap_array *const *arrays, int axis, neap_array **out);
NEAP_API int neap_stack(int count, neap_array *const *arrays, int axis, neap_array **out);
/* Rows of the first dimension by int32 or int64 indices of any shape; the result
 * has shape indices.shape + array.shape[1:]. An index out of range, such as one below
 * 0, is a late error. */
NEAP_API int neap_take(neap_array *array, neap_array *indices, neap_array **out);
/* Converted to another dtype; as a C cast, floats to integers saturating. Dense or
 * row-sparse. */
NEAP_API int neap_astype(neap_array *array, int dtype, neap_array **out);
/* The sum of `count` arrays, dense or all row-sparse, in the order given. */
NEAP_API int neap_add_n(int count, neap_array *const *arrays, neap_array **out);

/* ---- Row-sparse arrays ------------------------------------------------- */

/* Of a large array, only the rows that are present: values of shape (n, rest of
 * shape) and n row ids, int64, ascending, unique. n changes as work runs. */
NEAP_API int neap_sparse_create(neap_context *context, int dtype, int ndim, const int64_t *shape,
                                int device_type, int device_id, neap_array **out);
/* From values (n, ...) and n ids in any order; repeated ids add up. Ids out of
 * range are a late error. */
NEAP_API int neap_sparse_set(neap_array *sparse, neap_array *values, neap_array *ids);
/* Copies of what is there now. Waits, because n must be known. */
NEAP_API int neap_sparse_values(neap_array *sparse, neap_array **out);
NEAP_API int neap_sparse_indices(neap_array *sparse, neap_array **out);
/* The rows of `array` (dense or row-sparse) that `ids` names, as a row-sparse
 * array: ids in any shape, order, repeats; rows absent from a row-sparse `array`
 * stay absent. */
NEAP_API int neap_sparse_retain(neap_array *array, neap_array *ids, neap_array **out);
/* Converted; to row-sparse, rows that are all zeros are left out. A copy always. */
NEAP_API int neap_tostype(neap_array *array, int stype, neap_array **out);

/* ---- Files ------------------------------------------------------------- */

/* Writes named arrays. The path's ending is the format: .npy (one array, no name
 * needed), .npz, .safetensors (`meta`: pairs of strings, key then value, ended by
 * NULL; may be NULL; other formats take none). Row-sparse arrays are not saved
 * (NEAP_ESTYPE). bfloat16 goes to .safetensors only. The file appears whole or not
 * at all. Waits. */
NEAP_API int neap_file_save(neap_context *context, const char *path, int count,
                            const char *const *names, neap_array *const *arrays,
                            const char *const *meta);
/* Reads all of a file, whatever its name: the format is seen from its first bytes. */
NEAP_API int neap_file_load(neap_context *context, const char *path, neap_file **out);
NEAP_API void neap_file_close(neap_file *file);
NEAP_API int neap_file_count(const neap_file *file);
/* In the file's order; "" for a .npy. NULL past the end. */
NEAP_API const char *neap_file_name(const neap_file *file, int index);
/* A handle of its own for the caller. */
NEAP_API int neap_file_array(neap_file *file, int index, neap_array **out);
/* The value of a safetensors __metadata__ entry, or NULL. */
NEAP_API const char *neap_file_meta(const neap_file *file, const char *key);
/* The keys of these entries, in the order of strcmp(). NULL past the end. */
NEAP_API const char *neap_file_meta_key(const neap_file *file, int index);

/* ---- Programs ---------------------------------------------------------- */

/* An update rule as recorded from a script: plain bytes, described in
 * kernels/program.h. Every byte is checked; NEAP_EFORMAT says what is wrong where. */
NEAP_API int neap_program_create(neap_context *context, const void *bytes, size_t size,
                                 neap_program **out);
NEAP_API void neap_program_close(neap_program *program);

/* The number that stands for an operation in a program's bytes ("add", "where", "norm", ...:
 * kernels/program_ops.def); -1 if there is none of that name. */
NEAP_API int neap_program_op(const char *name);

/* What a program names: its settings (numbers given at each run), its states
 * (arrays shaped like the weight), its scalars (numbers kept for each key). */
enum neap_program_table { NEAP_SETTINGS = 0, NEAP_STATES, NEAP_SCALARS };
NEAP_API int neap_program_count(const neap_program *program, int table);
NEAP_API const char *neap_program_name(const neap_program *program, int table, int index);

/* Runs a program by itself: weight and states are read and written, the gradient
 * (dense or row-sparse) is read. Arrays share the weight's shape and dtype; states of
 * 16-bit weights may be float32 instead. `scalars` is a float64 array of as many
 * elements as the program has scalars, or NULL. */
NEAP_API int neap_program_run(neap_program *program, neap_array *weight, neap_array *gradient,
                              neap_array *const *states, neap_array *scalars,
                              const double *settings, int priority);

/* The value of a program without weight (a schedule), on the spot. NEAP_EINVAL for others. */
NEAP_API int neap_program_value(neap_program *program, const double *settings, double *out);

/* ---- Keys -------------------------------------------------------------- */

/* A key is a text or a number. */
typedef struct neap_key {
  const char *text; /* NULL: the key is `number` */
  size_t length;    /* of text, in bytes */
  int64_t number;   /* -2^53 .. 2^53 */
} neap_key;

/* ---- Optimizers -------------------------------------------------------- */

/* Holds what updating needs: numbers by name ("learning_rate", "momentum", ...), for
 * each key a program for dense and one for row-sparse gradients, its states and
 * its count of updates. May be used by one store at a time. */
NEAP_API int neap_optimizer_create(neap_context *context, const char *name, neap_optimizer **out);
NEAP_API void neap_optimizer_close(neap_optimizer *optimizer);

/* Settings, from the next push on. set makes the name if it is new. There from the
 * start: learning_rate 0.01, wd 0, rescale_grad 1, begin_num_update 0 (where counts
 * of updates start from). A program that asks for `learning_rate` gets the schedule's
 * value times the key's multiplier; for `wd`, times the key's multiplier; for `t`, the
 * key's count of updates, 1 at the first; for `num_update`, the largest count of all
 * keys. These two cannot be set. A program that names a setting that does not exist
 * cannot be bound. */
NEAP_API int neap_optimizer_set(neap_optimizer *optimizer, const char *name, double value);
NEAP_API int neap_optimizer_get(neap_optimizer *optimizer, const char *name, double *out);
NEAP_API int neap_optimizer_multiplier(neap_optimizer *optimizer, const neap_key *key, double lr,
                                       double wd);
/* A program without weight: settings `t` (the optimizer's number of updates) and
 * others by name (`learning_rate` is the one that was set); its result is the rate.
 * NULL: none. */
NEAP_API int neap_optimizer_schedule(neap_optimizer *optimizer, neap_program *program);
/* The program for pushes of this storage type to this key. Binding again replaces
 * it; states of the same name stay. */
NEAP_API int neap_optimizer_bind(neap_optimizer *optimizer, const neap_key *key, int stype,
                                 neap_program *program);
/* Whether bind was called for this key and storage type. */
NEAP_API int neap_optimizer_bound(const neap_optimizer *optimizer, const neap_key *key, int stype);

/* What it holds, for saving: entry i of all states of all keys, ordered by key,
 * with a handle for the caller. NEAP_EINVAL past the last. A key's scalars are
 * one more entry, named "scalars", float64. `key` and `name` are valid until the
 * key is deleted. */
NEAP_API int neap_optimizer_state(neap_optimizer *optimizer, int index, neap_key *key,
                                  const char **name, neap_array **out);
/* Puts a saved state in place (copied); for a key not bound yet it is kept until
 * it is. */
NEAP_API int neap_optimizer_restore(neap_optimizer *optimizer, const neap_key *key,
                                    const char *name, neap_array *value);
/* Counts of updates: of a key, or of the whole (NULL key), which schedules go by and which
 * never goes back by itself. Who sets both sets the keys' first. */
NEAP_API int neap_optimizer_count(neap_optimizer *optimizer, const neap_key *key, int64_t *out);
NEAP_API int neap_optimizer_set_count(neap_optimizer *optimizer, const neap_key *key,
                                      int64_t count);
/* Gives `to`, which is bound, what it has in common with `from`: a key's states of the same name,
 * its scalars if all names are the same, and its count where that is all of its states. The count
 * of the whole goes on. Copies; `from` stays as it is. */
NEAP_API int neap_optimizer_carry_over(neap_optimizer *from, neap_optimizer *to);

/* ---- Stores ------------------------------------------------------------ */

/* Types by exact name: local local_allreduce_cpu local_update_cpu device
 * local_allreduce_device; NEAP_EINVAL lists them. Those of jobs, dist_sync and its like, are
 * made by neap_store_join(); here they, and nccl, are NEAP_ENOTSUP, with what is missing. */
NEAP_API int neap_store_create(neap_context *context, const char *type, neap_store **out);
/* Closing waits for nothing: queued work completes by itself. A store of a job waits until its
 * pushes are with the servers, and leaves the job. */
NEAP_API void neap_store_close(neap_store *store);
NEAP_API const char *neap_store_type(const neap_store *store);
/* The valid names, by index; NULL past the last. */
NEAP_API const char *neap_store_type_name(int index);

/* In the calls below, `keys` has `num_keys` places, `counts[i]` says how many arrays
 * belong to keys[i] (one for each device), and `arrays` holds them all, key after
 * key. counts may be NULL: one each. All is checked first: a call that fails
 * changed nothing and queued nothing. */

/* The first value of each key: copied. NEAP_EEXIST if one is there. Keys of one
 * store are all texts or all numbers (NEAP_EINVAL). */
NEAP_API int neap_store_init(neap_store *store, int num_keys, const neap_key *keys,
                             neap_array *const *arrays);
/* init, then pull into `outs`, counted by out_counts; nothing is set if either is wrong. */
NEAP_API int neap_store_broadcast(neap_store *store, int num_keys, const neap_key *keys,
                                  neap_array *const *arrays, const int *out_counts,
                                  neap_array *const *outs, int priority, int ignore_sparse);
/* Adds up each key's arrays; then the optimizer updates the stored value by the
 * sum, or, without one, the sum becomes the stored value. Arrays are all dense or
 * all row-sparse, of the key's shape and dtype. A key that was row-sparse at init
 * takes row-sparse arrays only; one that was dense takes both, and rows absent from
 * a sum that becomes its value are zeros. A key that stands in `keys` twice is
 * pushed twice. */
NEAP_API int neap_store_push(neap_store *store, int num_keys, const neap_key *keys,
                             const int *counts, neap_array *const *arrays, int priority);
/* push, then pull into `outs`; if either is wrong, nothing is pushed. */
NEAP_API int neap_store_pushpull(neap_store *store, int num_keys, const neap_key *keys,
                                 const int *counts, neap_array *const *arrays,
                                 const int *out_counts, neap_array *const *outs, int priority,
                                 int ignore_sparse);
/* Only adds up: the sum as a new array, for updaters written in the host's
 * language. */
NEAP_API int neap_store_sum(neap_store *store, const neap_key *key, int count,
                            neap_array *const *arrays, int priority, neap_array **out);
/* A handle on the stored value itself, the same array from init to delete, except that
 * the first update by an optimizer makes a row-sparse value a dense one. */
NEAP_API int neap_store_value(neap_store *store, const neap_key *key, neap_array **out);
/* Copies the stored values out, also between devices. A row-sparse array is left
 * alone if ignore_sparse, else NEAP_ESTYPE unless the key was row-sparse at init. A
 * dense array gets zeros for rows that are absent. */
NEAP_API int neap_store_pull(neap_store *store, int num_keys, const neap_key *keys,
                             const int *counts, neap_array *const *arrays, int priority,
                             int ignore_sparse);
/* Row-sparse arrays get the rows of the ids given beside them, one ids array for
 * each; see neap_sparse_retain(). */
NEAP_API int neap_store_pull_rows(neap_store *store, int num_keys, const neap_key *keys,
                                  const int *counts, neap_array *const *arrays,
                                  neap_array *const *ids, int priority);
NEAP_API int neap_store_delete(neap_store *store, const neap_key *key);
NEAP_API int neap_store_contains(const neap_store *store, const neap_key *key);
/* The keys in the order of their init, by index; NEAP_EINVAL past the last. Valid until
 * the key is deleted. */
NEAP_API int neap_store_key(const neap_store *store, int index, neap_key *out);
/* What pushes update with from now on; NULL for none. The store holds on to it. Every
 * key pushed later must be bound (neap_optimizer_bind); pushes say so otherwise. */
NEAP_API int neap_store_set_optimizer(neap_store *store, neap_optimizer *optimizer);
/* Compresses dense float32 pushes from now on: each array is quantised by "2bit" or
 * "1bit", what is sent is added up, and the rest of the k-th array of a key stays for
 * that key's next push. A threshold of NaN is the type's own, 0.5 and 0. NEAP_EINVAL
 * for an unknown type, with the valid ones, and for a threshold that makes no sense;
 * NEAP_ENOTSUP in local stores. */
NEAP_API int neap_store_set_compression(neap_store *store, const char *type, double threshold);
/* Until every init and push of this process so far is done. Waits. Returns the late
 * error of a key, once. */
NEAP_API int neap_store_barrier(neap_store *store);

/* ---- Jobs: stores across processes ------------------------------------- */

/* A job is one scheduler, servers that hold the keys, and workers, each with a store of a dist
 * type. They may start in any order and live in any processes, several in one too. Of a worker's
 * store, the functions above do what they say there, and:
 *
 *   init      Waits until the key is there. Rank 0's value counts; others wait for it. What is
 *             there already stays, so that a worker that died may come back and init again.
 *   push      dist_sync: in rounds. A key's round takes one push of each worker, sums them in
 *             order of rank, and updates; a worker that pushes again before that is a round
 *             ahead. dist_async: each push is an update.
 *             Each push counts exactly once, whatever connection breaks meanwhile; of a worker
 *             that died in the middle of one, it counts wholly or not at all.
 *   pull      Waits on the engine, not in the call: `outs` are there when the value after all
 *             earlier pushes of this worker is, which in dist_sync is that of their rounds.
 *   barrier   Waits for all workers of the job.
 *   close     From then on, nobody waits for this worker's pushes. A worker with fewer batches
 *             than the others closes when it is through: at a barrier it would wait for them,
 *             and they, in dist_sync, for its pushes.
 *
 * Keys of more than bigarray_bound elements are split over all servers, by rows; results are the
 * same. A worker or server counts as dead when there was no sign of life of it for options.timeout
 * seconds: who waits for it gets NEAP_ELOST, with its rank and host, as a late error. */

enum neap_lost {
  NEAP_LOST_FAIL = 0, /* a worker that dies fails whatever waits for it, naming it */
  NEAP_LOST_CONTINUE  /* the others go on without it */
};

/* What a script is, for logs and for who asks. */
typedef struct neap_script_text {
  const char *name, *hash; /* 16 hexadecimal digits of the source */
  const char *dump;        /* with the settings that it has now */
  size_t dump_size;
} neap_script_text;

/* What turns the text of an optimizer script into programs: a server holds no Lua of its own.
 * All functions are called from one thread of the server's, whose stack has 128 MiB, and may
 * take a second; none may end the process, whatever the text holds. Each returns a status and
 * sets nothing on failure; `error` (of `size` bytes) then gets the text for the worker. */
typedef struct neap_scripts {
  size_t size; /* sizeof(neap_scripts) */
  void *user;
  /* `dump` is what neap.optim's o:dump() gives: source, settings, multipliers, schedule. Makes
   * the optimizer that it describes, with nothing bound yet; both are the caller's to close. */
  int (*open)(void *user, neap_context *context, const char *dump, size_t length, void **script,
              neap_optimizer **optimizer, char *error, size_t error_size);
  /* Records the script for a key and a storage type of gradient, and binds the program. */
  int (*bind)(void *user, void *script, const neap_key *key, const neap_array_info *like, int stype,
              char *error, size_t error_size);
  /* New values of settings, as text of the form that dump has them in, or as a whole dump. May
   * outdate what is bound: the caller binds all keys again. */
  int (*set)(void *user, void *script, const char *settings, size_t length, char *error,
             size_t error_size);
  void (*close)(void *user, void *script);
  /* Texts that are valid until the script's next call. */
  int (*describe)(void *user, void *script, neap_script_text *out, char *error, size_t error_size);
  /* The program that makes states of this script from those of the one that it replaces, given by
   * its dump: its states and scalars are called old.x and new.x. *out stays NULL where the script
   * has no migrate, and where both are the same. */
  int (*migrate)(void *user, void *script, const char *old, size_t length, neap_program **out,
                 char *error, size_t error_size);
} neap_scripts;

typedef struct neap_job_options {
  size_t size;          /* sizeof(neap_job_options) */
  const char *root_uri; /* the scheduler's address: tcp://127.0.0.1:9091, tls+tcp://host:port,
                         * ipc:///path, inproc://name. Port 0, for the scheduler itself: any */
  int num_workers;
  int num_servers;
  int rank;                 /* of this worker or server; -1: the scheduler gives one */
  double timeout;           /* seconds without a sign of life until a process counts as dead: 60 */
  int on_worker_lost;       /* neap_lost; the same for all workers of a job */
  int64_t bigarray_bound;   /* a key of more elements is split over all servers: 1,000,000 */
  const char *secret;       /* proves to the others that this process is of the job; NULL: none,
                             * and then addresses must be on this host */
  const char *admin_secret; /* servers: who does not prove that it knows it, too, may not change
                             * the optimizer nor send commands; NULL: all of the job may */
  int observer;             /* not 0: a store that looks on, and may change the optimizer; it has no
                             * keys and no rank, and the job tells it how many workers and servers
                             * there are. One at a time */
  const char *listen_uri;   /* servers: where it listens; NULL: like root_uri, any port */
  const char *tls_ca;       /* files, for tls+tcp: certificates to trust, */
  const char *tls_cert;     /* this side's certificate with its key (servers, scheduler) */
  const neap_scripts *scripts; /* servers; NULL: optimizers are refused */
  int controller;              /* servers: not 0 if neap_server_command() is called; else commands
                                * are refused */
  const char *advertise_uri;   /* servers: where workers reach it, if that is another address than
                                * it listens at: behind NAT, a proxy, a container's port */
} neap_job_options;

NEAP_API void neap_job_options_init(neap_job_options *options, size_t size);

enum neap_job_role { NEAP_ROLE_NONE = 0, NEAP_ROLE_WORKER, NEAP_ROLE_SERVER, NEAP_ROLE_SCHEDULER };

/* What the environment says of this process and its job, beside the options. */
typedef struct neap_job_place {
  size_t size;        /* sizeof(neap_job_place) */
  int role;           /* neap_job_role. Set it before the call to what this process is anyway, or to
                       * NEAP_ROLE_NONE; that again afterwards: it is in no job */
  int local_rank;     /* among the job's processes on this host; -1: not known */
  int host_scheduler; /* 1: nobody else is the scheduler, it has to run inside this process */
  int host_server;    /* 1: so does the job's one server */
  int log_level;      /* neap_log_level, by NEAP_LOG (error | warn | info | debug); else warn */
  char root_uri[256]; /* where options.root_uri points to */
  char how[256];      /* which variables decided, for the log */
} neap_job_place;

/* Overrides `options` by an environment: NULL-terminated "NAME=value" texts, which must outlive
 * them; NULL: the process's own. NEAP_EINVAL, naming the variable, when one holds what it cannot
 * hold, when two contradict each other, and when one is missing.
 *
 * Who this process is comes from the first of: NEAP_ROLE NEAP_ROOT_URI NEAP_NUM_WORKERS
 * NEAP_NUM_SERVERS NEAP_RANK NEAP_LOCAL_RANK; DMLC_ROLE DMLC_NUM_WORKER DMLC_NUM_SERVER
 * DMLC_PS_ROOT_URI DMLC_PS_ROOT_PORT; the ranks that torchrun, Open MPI, PMIx, PMI, Slurm and
 * Kubernetes give. These know no roles: the first NEAP_NUM_SERVERS ranks are servers, the others
 * workers; without NEAP_NUM_SERVERS all are workers, and rank 0 has the server inside it. Rank 0
 * has the scheduler, at an address that all can derive unless NEAP_ROOT_URI is given. `place` may
 * be NULL: then nothing of all that is looked at, but only
 *
 *   NEAP_TIMEOUT NEAP_ON_WORKER_LOST (fail | continue) NEAP_BIGARRAY_BOUND NEAP_SECRET
 *   NEAP_ADMIN_SECRET NEAP_LISTEN_URI NEAP_ADVERTISE_URI NEAP_TLS_CA NEAP_TLS_CERT: the options of
 *   these names */
NEAP_API int neap_job_options_env(neap_job_options *options, const char *const *environment,
                                  neap_job_place *place);

/* The scheduler: listens at root_uri, on threads of its own. It forgets the job when all workers
 * have left, and is then done. */
NEAP_API int neap_scheduler_start(neap_context *context, const neap_job_options *options,
                                  neap_scheduler **out);
/* The address, with the port that was chosen. */
NEAP_API const char *neap_scheduler_uri(const neap_scheduler *scheduler);
/* Waits until the job is over, NEAP_ETIMEOUT after `seconds` (negative: however long). */
NEAP_API int neap_scheduler_wait(neap_scheduler *scheduler, double seconds);
NEAP_API void neap_scheduler_close(neap_scheduler *scheduler);

/* A server: registers with the scheduler and serves workers, on threads of its own and on the
 * context's engine. Returns before it has found the scheduler. */
NEAP_API int neap_server_start(neap_context *context, const neap_job_options *options,
                               neap_server **out);
NEAP_API const char *neap_server_uri(const neap_server *server);
/* -1 until the scheduler gave one. */
NEAP_API int neap_server_rank(const neap_server *server);
/* As above. NEAP_ELOST when the scheduler is gone for longer than the time-out. */
NEAP_API int neap_server_wait(neap_server *server, double seconds);
NEAP_API void neap_server_close(neap_server *server);
/* The next command of neap_store_command(); NEAP_ETIMEOUT if there is none after `seconds`. *body
 * is valid until neap_server_answer(), which must come before the next; one thread at a time. */
NEAP_API int neap_server_command(neap_server *server, double seconds, double *head,
                                 const char **body, size_t *size);
NEAP_API int neap_server_answer(neap_server *server, const char *answer, size_t size);

/* A store of a dist type, as a worker of a job. Waits until the scheduler and all servers are
 * there, for about options.timeout seconds: NEAP_ELOST then says that the scheduler cannot be
 * reached, and why, NEAP_ETIMEOUT that servers are missing. */
NEAP_API int neap_store_join(neap_context *context, const char *type,
                             const neap_job_options *options, neap_store **out);
/* Of other stores: 0, 1 and 0. */
NEAP_API int neap_store_rank(const neap_store *store);
NEAP_API int neap_store_num_workers(const neap_store *store);
NEAP_API int neap_store_num_servers(const neap_store *store);
/* dist: sends an optimizer (what o:dump() gives) to all servers, and waits until all have checked
 * it and decided to switch to it, or one has refused: then nothing changed. *version: of the
 * optimizer, from 1; it only grows. Each key switches between two updates, in step at the same
 * round on all servers: at the first that this worker's pushes from now on are part of. */
NEAP_API int neap_store_send_optimizer(neap_store *store, const char *dump, size_t size,
                                       int64_t *version);
/* dist: back to the optimizer before, in the same way. It goes on with the version, settings and
 * states that it had when it was replaced. NEAP_EINVAL if there is none: one step back is kept. */
NEAP_API int neap_store_rollback_optimizer(neap_store *store, int64_t *version);
/* dist: the last changes of the servers' optimizer, oldest first, a line each: version, hash,
 * "set", "settings" or "rollback", seconds since 1970, the script's name, who sent it. Valid until
 * the next call of these functions on this store. Waits. */
NEAP_API int neap_store_optimizer_history(neap_store *store, const char **out);
/* dist: new settings for the servers' optimizer, as text. Waits like the above. */
NEAP_API int neap_store_send_settings(neap_store *store, const char *settings, size_t size);
/* dist: the optimizer the servers have: its dump of `size` bytes, "" for none, and version. Valid
 * until the next call of these functions on this store. Waits. */
NEAP_API int neap_store_get_optimizer(neap_store *store, const char **dump, size_t *size,
                                      int64_t *version);
/* dist: to each server's controller (neap_server_command). Waits until all have answered;
 * answers[i] of sizes[i] bytes is server i's, valid until the next call on this store. */
NEAP_API int neap_store_command(neap_store *store, double head, const char *body, size_t size,
                                const char **answers, size_t *sizes);
/* dist: the optimizer's states of all servers, put together as for one: entry i is named
 * "<key>/<state>" as neap_optimizer_state() gives them. Waits. */
NEAP_API int neap_store_fetch_states(neap_store *store, neap_optimizer **out);
/* dist: gives the servers the states and counts that `optimizer` holds. Waits. */
NEAP_API int neap_store_send_states(neap_store *store, neap_optimizer *optimizer);
/* What is going on, as lines of text "name value": rounds, bytes, queue lengths, who is late on
 * which key. Valid until the next call of these functions on this store. Waits. */
NEAP_API int neap_store_stats(neap_store *store, const char **out);

/* [end of declarations] */

/* The text between the two marks, as this library was built with it, for hosts that
 * read C declarations at run time: hand it to LuaJIT's ffi.cdef(). Constant. */
NEAP_API const char *neap_declarations(void);

#ifdef __cplusplus
}
#endif
#endif
