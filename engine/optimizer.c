/* SPDX-License-Identifier: MIT */
/* optimizer.c - settings, and for each key programs, states and a count of updates.
 *
 * All numbers that an update uses (schedule, multipliers, t, settings) are put together when the
 * push is made, and travel with it. So "from the next push on" needs no further care, and results
 * do not depend on when a push runs.
 *
 * One lock guards everything; it is held for less than it takes to queue an update. */
#define _GNU_SOURCE
#include "optimizer_inside.h"
#include "program.h"
#include "work_list.h"

#include <string.h>

_Static_assert((int)NEAP_UPDATE_WORKS == (int)NEAP_PROGRAM_WORKS, "an update is one run");

/* Settings that are not simply looked up. */
enum special { LEARNING_RATE = -2, WD = -3, T = -4, NUM_UPDATE = -5 };

/* The first settings' places. */
enum { DEFAULT_LEARNING_RATE, DEFAULT_WD, BEGIN_NUM_UPDATE = 3 };

/* ---- Settings ------------------------------------------------------------------------------ */

static int find_setting(const neap_optimizer *optimizer, const char *name) {
  for (int i = 0; i < optimizer->num_settings; i++)
    if (strcmp(optimizer->names[i], name) == 0) return i;
  return -1;
}

static int grow_settings(neap_optimizer *optimizer) {
  neap_context *context = optimizer->context;
  int room = optimizer->room ? optimizer->room * 2 : 16;
  char **names = neap_alloc(context, (size_t)room * sizeof *names);
  double *values = neap_alloc(context, (size_t)room * sizeof *values);
  if (!names || !values) {
    neap_free(context, names, (size_t)room * sizeof *names);
    neap_free(context, values, (size_t)room * sizeof *values);
    return NEAP_ENOMEM;
  }
  for (int i = 0; i < optimizer->num_settings; i++) {
    names[i] = optimizer->names[i];
    values[i] = optimizer->values[i];
  }
  neap_free(context, optimizer->names, (size_t)optimizer->room * sizeof *names);
  neap_free(context, optimizer->values, (size_t)optimizer->room * sizeof *values);
  optimizer->names = names;
  optimizer->values = values;
  optimizer->room = room;
  return NEAP_OK;
}

static int set_locked(neap_optimizer *optimizer, const char *name, double value) {
  int i = find_setting(optimizer, name);
  if (i < 0) {
    if (optimizer->num_settings == optimizer->room) NEAP_TRY(grow_settings(optimizer));
    char *copy = neap_strdup(optimizer->context, name);
    if (!copy) return NEAP_ENOMEM;
    i = optimizer->num_settings++;
    optimizer->names[i] = copy;
  }
  optimizer->values[i] = value;
  if (i == BEGIN_NUM_UPDATE && value > (double)optimizer->num_update)
    optimizer->num_update = (int64_t)value;
  return NEAP_OK;
}

int neap_optimizer_set(neap_optimizer *optimizer, const char *name, double value) {
  if (!optimizer || !name) return neap_fail(NEAP_EINVAL, "neap_optimizer_set: NULL argument");
  size_t length = strnlen(name, NEAP_P_NAME + 1);
  if (length == 0 || length > NEAP_P_NAME)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_set: a setting's name has 1 to %d bytes",
                     NEAP_P_NAME);
  if (strcmp(name, "t") == 0 || strcmp(name, "num_update") == 0)
    return neap_fail(NEAP_EINVAL,
                     "setting '%s' counts updates and cannot be set; "
                     "begin_num_update says where counts start",
                     name);
  if (strcmp(name, "begin_num_update") == 0 && !(value >= 0 && value < 9007199254740992.0))
    return neap_fail(NEAP_EINVAL, "begin_num_update must be from 0 to 2^53, not %g", value);
  pthread_mutex_lock(&optimizer->lock);
  int status = set_locked(optimizer, name, value);
  pthread_mutex_unlock(&optimizer->lock);
  return status;
}

int neap_optimizer_get(neap_optimizer *optimizer, const char *name, double *out) {
  if (!optimizer || !name || !out)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_get: NULL argument");
  pthread_mutex_lock(&optimizer->lock);
  int i = find_setting(optimizer, name);
  if (i >= 0) *out = optimizer->values[i];
  pthread_mutex_unlock(&optimizer->lock);
  if (i < 0)
    return neap_fail(NEAP_EINVAL, "optimizer '%s' has no setting '%s'", optimizer->name, name);
  return NEAP_OK;
}

/* Where a program finds its settings, as an array to be freed with free_indices(). */
static int find_settings(const neap_optimizer *optimizer, const neap_program *program,
                         bool schedule, int **out) {
  const neap_p_plan *plan = program->plan;
  size_t bytes = (size_t)plan->num_settings * sizeof(int);
  int *found = neap_alloc(optimizer->context, bytes ? bytes : 1);
  if (!found) return NEAP_ENOMEM;
  for (int i = 0; i < plan->num_settings; i++) {
    const char *name = plan->settings[i];
    if (strcmp(name, "t") == 0)
      found[i] = schedule ? NUM_UPDATE : T;
    else if (strcmp(name, "num_update") == 0)
      found[i] = NUM_UPDATE;
    else if (!schedule && strcmp(name, "learning_rate") == 0)
      found[i] = LEARNING_RATE;
    else if (!schedule && strcmp(name, "wd") == 0)
      found[i] = WD;
    else
      found[i] = find_setting(optimizer, name);
    if (found[i] == -1) {
      neap_free(optimizer->context, found, bytes ? bytes : 1);
      return neap_fail(NEAP_EINVAL, "optimizer '%s' has no setting '%s', which the program uses",
                       optimizer->name, name);
    }
  }
  *out = found;
  return NEAP_OK;
}

static void free_indices(neap_context *context, int *indices, int count) {
  neap_free(context, indices, count ? (size_t)count * sizeof *indices : 1);
}

/* ---- Keys ---------------------------------------------------------------------------------- */

static void unbind(neap_context *context, opt_binding *bound) {
  if (!bound->program) return;
  free_indices(context, bound->settings, bound->program->plan->num_settings);
  free_indices(context, bound->states, bound->program->plan->num_states);
  neap_program_close(bound->program);
  *bound = (opt_binding){0};
}

static void free_entry(neap_context *context, opt_key *entry) {
  for (int i = 0; i < 2; i++) unbind(context, &entry->bound[i]);
  for (int i = 0; i < entry->num_states; i++) {
    neap_opt_free_text(context, entry->states[i].name);
    neap_array_close(entry->states[i].array);
  }
  neap_free(context, entry->states, (size_t)entry->num_states * sizeof *entry->states);
  neap_opt_free_scalars(context, entry);
  neap_free(context, entry, sizeof *entry);
}

/* FNV-1a (Fowler, Noll and Vo): the same in every process, unlike the key table's. */
static uint64_t hash_key(const neap_key *key) {
  const unsigned char *bytes = (const unsigned char *)key->text;
  unsigned char number[8];
  size_t length = key->length;
  if (!bytes) {
    for (int i = 0; i < 8; i++) number[i] = (unsigned char)((uint64_t)key->number >> 8 * i);
    bytes = number;
    length = 8;
  }
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
  return hash;
}

int neap_opt_get_key(neap_optimizer *optimizer, const neap_key *key, opt_key **out) {
  *out = neap_keys_find(&optimizer->keys, key);
  if (*out) return NEAP_OK;
  NEAP_TRY(neap_key_check(key));
  opt_key *entry = neap_alloc(optimizer->context, sizeof *entry);
  if (!entry) return NEAP_ENOMEM;
  *entry = (opt_key){.lr_mult = 1,
                     .wd_mult = 1,
                     .count = (int64_t)optimizer->values[BEGIN_NUM_UPDATE],
                     .hash = hash_key(key)};
  int status = neap_keys_add(&optimizer->keys, key, entry);
  if (status != NEAP_OK) {
    neap_free(optimizer->context, entry, sizeof *entry);
    return status;
  }
  *out = entry;
  return NEAP_OK;
}

/* ---- Making and binding -------------------------------------------------------------------- */

int neap_optimizer_create(neap_context *context, const char *name, neap_optimizer **out) {
  if (!context || !name || !out)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_create: NULL argument");
  if (atomic_load(&context->closed))
    return neap_fail(NEAP_ECLOSED, "neap_optimizer_create: the context was closed");
  neap_optimizer *optimizer = neap_alloc(context, sizeof *optimizer);
  if (!optimizer) return NEAP_ENOMEM;
  memset(optimizer, 0, sizeof *optimizer);
  optimizer->context = context;
  optimizer->keys.context = context;
  atomic_init(&optimizer->refs, 1);
  if (pthread_mutex_init(&optimizer->lock, NULL)) {
    neap_free(context, optimizer, sizeof *optimizer);
    return neap_fail(NEAP_ENOMEM, "neap_optimizer_create: no mutex");
  }
  neap_context_retain(context);
  optimizer->name = neap_strdup(context, name);
  int status = optimizer->name ? NEAP_OK : NEAP_ENOMEM;
  if (status == NEAP_OK) status = set_locked(optimizer, "learning_rate", 0.01);
  if (status == NEAP_OK) status = set_locked(optimizer, "wd", 0);
  if (status == NEAP_OK) status = set_locked(optimizer, "rescale_grad", 1);
  if (status == NEAP_OK) status = set_locked(optimizer, "begin_num_update", 0);
  if (status != NEAP_OK) {
    neap_optimizer_close(optimizer);
    return status;
  }
  *out = optimizer;
  return NEAP_OK;
}

void neap_optimizer_retain(neap_optimizer *optimizer) {
  atomic_fetch_add_explicit(&optimizer->refs, 1, memory_order_relaxed);
}

static void set_schedule(neap_optimizer *optimizer, neap_program *program, int *settings) {
  if (optimizer->schedule) {
    free_indices(optimizer->context, optimizer->schedule_settings,
                 optimizer->schedule->plan->num_settings);
    neap_program_close(optimizer->schedule);
  }
  optimizer->schedule = program;
  optimizer->schedule_settings = settings;
}

void neap_optimizer_close(neap_optimizer *optimizer) {
  if (!optimizer || atomic_fetch_sub_explicit(&optimizer->refs, 1, memory_order_acq_rel) != 1)
    return;
  neap_context *context = optimizer->context;
  for (int i = 0; i < optimizer->keys.count; i++)
    free_entry(context, neap_keys_value_at(&optimizer->keys, i));
  neap_keys_clear(&optimizer->keys);
  set_schedule(optimizer, NULL, NULL);
  for (int i = 0; i < optimizer->num_settings; i++)
    neap_opt_free_text(context, optimizer->names[i]);
  neap_free(context, optimizer->names, (size_t)optimizer->room * sizeof(char *));
  neap_free(context, optimizer->values, (size_t)optimizer->room * sizeof(double));
  neap_opt_free_text(context, optimizer->name);
  pthread_mutex_destroy(&optimizer->lock);
  neap_free(context, optimizer, sizeof *optimizer);
  neap_context_release(context);
}

int neap_optimizer_multiplier(neap_optimizer *optimizer, const neap_key *key, double lr,
                              double wd) {
  if (!optimizer || !key) return neap_fail(NEAP_EINVAL, "neap_optimizer_multiplier: NULL argument");
  opt_key *entry;
  pthread_mutex_lock(&optimizer->lock);
  int status = neap_opt_get_key(optimizer, key, &entry);
  if (status == NEAP_OK) {
    entry->lr_mult = lr;
    entry->wd_mult = wd;
  }
  pthread_mutex_unlock(&optimizer->lock);
  return status;
}

int neap_optimizer_schedule(neap_optimizer *optimizer, neap_program *program) {
  if (!optimizer) return neap_fail(NEAP_EINVAL, "neap_optimizer_schedule: NULL optimizer");
  if (program && program->context != optimizer->context)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_schedule: the program is of another context");
  if (program && program->plan->num_passes)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_schedule: this program updates a weight; a "
                                  "schedule gives one number");
  int status = NEAP_OK, *settings = NULL;
  pthread_mutex_lock(&optimizer->lock);
  if (program) status = find_settings(optimizer, program, true, &settings);
  if (status == NEAP_OK) {
    if (program) neap_program_retain(program);
    set_schedule(optimizer, program, settings);
  }
  pthread_mutex_unlock(&optimizer->lock);
  return status;
}

static int bind_locked(neap_optimizer *optimizer, const neap_key *key, int stype,
                       neap_program *program) {
  neap_context *context = optimizer->context;
  const neap_p_plan *plan = program->plan;
  opt_key *entry;
  NEAP_TRY(neap_opt_get_key(optimizer, key, &entry));
  opt_binding bound = {.program = program};
  NEAP_TRY(find_settings(optimizer, program, false, &bound.settings));
  size_t bytes = (size_t)plan->num_states * sizeof(int);
  bound.states = neap_alloc(context, bytes ? bytes : 1);
  for (int i = 0; i < plan->num_states; i++) {
    if (!bound.states) break;
    bound.states[i] = neap_opt_get_state(context, entry, plan->states[i].name);
    if (bound.states[i] >= 0) continue;
    neap_free(context, bound.states, bytes);
    bound.states = NULL;
  }
  if (!bound.states) {
    free_indices(context, bound.settings, plan->num_settings);
    return NEAP_ENOMEM;
  }
  neap_program_retain(program);
  unbind(context, &entry->bound[stype]);
  entry->bound[stype] = bound;
  return NEAP_OK;
}

int neap_optimizer_bind(neap_optimizer *optimizer, const neap_key *key, int stype,
                        neap_program *program) {
  if (!optimizer || !key || !program)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_bind: NULL argument");
  if (stype != NEAP_DENSE && stype != NEAP_ROW_SPARSE)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_bind: there is no storage type %d", stype);
  if (program->context != optimizer->context)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_bind: the program is of another context");
  if (program->plan->num_passes == 0)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_bind: this program is a schedule; it updates "
                                  "no weight");
  pthread_mutex_lock(&optimizer->lock);
  int status = bind_locked(optimizer, key, stype, program);
  pthread_mutex_unlock(&optimizer->lock);
  return status;
}

static bool is_bound(neap_optimizer *optimizer, const neap_key *key, int stype) {
  if (stype != NEAP_DENSE && stype != NEAP_ROW_SPARSE) return false;
  pthread_mutex_lock(&optimizer->lock);
  const opt_key *entry = neap_keys_find(&optimizer->keys, key);
  bool bound = entry && entry->bound[stype].program;
  pthread_mutex_unlock(&optimizer->lock);
  return bound;
}

int neap_optimizer_bound(const neap_optimizer *optimizer, const neap_key *key, int stype) {
  if (!optimizer || !key) return 0;
  return is_bound((neap_optimizer *)optimizer, key, stype); /* the lock is not the value */
}

int neap_optimizer_check(neap_optimizer *optimizer, const neap_key *key, int stype) {
  if (is_bound(optimizer, key, stype)) return NEAP_OK;
  char text[NEAP_KEY_TEXT];
  return neap_fail(NEAP_EINVAL,
                   "optimizer '%s' has no program for %s gradients of %s: "
                   "neap_optimizer_bind() first",
                   optimizer->name, stype == NEAP_ROW_SPARSE ? "row-sparse" : "dense",
                   neap_key_text(key, text));
}

/* After counts were set or dropped: num_update stays what it is, and goes on from there. */
void neap_opt_set_lead(neap_optimizer *optimizer) {
  int64_t highest = (int64_t)optimizer->values[BEGIN_NUM_UPDATE];
  for (int i = 0; i < optimizer->keys.count; i++) {
    const opt_key *entry = neap_keys_value_at(&optimizer->keys, i);
    if (entry->count > highest) highest = entry->count;
  }
  optimizer->lead = optimizer->num_update > highest ? optimizer->num_update - highest : 0;
}

void neap_optimizer_forget(neap_optimizer *optimizer, const neap_key *key) {
  pthread_mutex_lock(&optimizer->lock);
  opt_key *entry = neap_keys_remove(&optimizer->keys, key);
  neap_opt_set_lead(optimizer);
  pthread_mutex_unlock(&optimizer->lock);
  if (entry) free_entry(optimizer->context, entry);
}

/* ---- Updates ------------------------------------------------------------------------------- */

/* The schedule's rate, or the one that was set. */
static int base_rate(const neap_optimizer *optimizer, int64_t num_update, double *out) {
  *out = optimizer->values[DEFAULT_LEARNING_RATE];
  if (!optimizer->schedule) return NEAP_OK;
  double settings[NEAP_P_SETTINGS];
  for (int i = 0; i < optimizer->schedule->plan->num_settings; i++) {
    int place = optimizer->schedule_settings[i];
    settings[i] = place == NUM_UPDATE ? (double)num_update : optimizer->values[place];
  }
  return neap_program_value(optimizer->schedule, settings, out);
}

static int prepare_locked(neap_optimizer *optimizer, const neap_key *key, opt_key *entry,
                          neap_array *weight, neap_array *gradient, neap_joint *joint, int priority,
                          neap_work **works, int *count) {
  const opt_binding *bound = entry ? &entry->bound[gradient->info.stype] : NULL;
  if (!bound || !bound->program)
    return neap_fail(NEAP_EINVAL, "optimizer '%s': not bound", optimizer->name);
  const neap_p_plan *plan = bound->program->plan;
  NEAP_TRY(neap_opt_make_states(key, entry, bound, weight));
  NEAP_TRY(neap_opt_make_scalars(optimizer->context, entry, plan));

  int64_t t = entry->count + 1;
  int64_t num_update = optimizer->lead + t;
  if (num_update < optimizer->num_update) num_update = optimizer->num_update;
  double rate = 0, settings[NEAP_P_SETTINGS];
  for (int i = 0; i < plan->num_settings; i++) {
    int place = bound->settings[i];
    switch (place) {
    case LEARNING_RATE:
      NEAP_TRY(base_rate(optimizer, num_update, &rate));
      settings[i] = rate * entry->lr_mult;
      break;
    case WD:
      settings[i] = optimizer->values[DEFAULT_WD] * entry->wd_mult;
      break;
    case T:
      settings[i] = (double)t;
      break;
    case NUM_UPDATE:
      settings[i] = (double)num_update;
      break;
    default:
      settings[i] = optimizer->values[place];
    }
  }
  neap_array *states[NEAP_P_STATES];
  for (int i = 0; i < plan->num_states; i++) states[i] = entry->states[bound->states[i]].array;
  neap_program_call call = {.program = bound->program,
                            .weight = weight,
                            .gradient = gradient,
                            .states = states,
                            .scalars = plan->num_scalars ? entry->scalars : NULL,
                            .settings = settings,
                            .key = entry->hash,
                            .t = (uint64_t)t,
                            .priority = priority,
                            .joint = joint};
  NEAP_TRY(neap_program_prepare(&call, works, count));
  entry->count = t;
  optimizer->num_update = num_update;
  return NEAP_OK;
}

int neap_optimizer_prepare(neap_optimizer *optimizer, const neap_key *key, neap_array *weight,
                           neap_array *gradient, neap_joint *joint, int priority, neap_work **works,
                           int *count) {
  pthread_mutex_lock(&optimizer->lock);
  int status = prepare_locked(optimizer, key, neap_keys_find(&optimizer->keys, key), weight,
                              gradient, joint, priority, works, count);
  pthread_mutex_unlock(&optimizer->lock);
  return status;
}

int neap_optimizer_passes(neap_optimizer *optimizer, const neap_key *key, int stype) {
  pthread_mutex_lock(&optimizer->lock);
  const opt_key *entry = neap_keys_find(&optimizer->keys, key);
  const neap_program *program = entry ? entry->bound[stype].program : NULL;
  int passes = program ? program->plan->num_passes : 0;
  pthread_mutex_unlock(&optimizer->lock);
  return passes;
}

/* ---- A trial ------------------------------------------------------------------------------- */

enum { TRIAL = 4096 /* elements */ };

/* An array of the same kind, with fewer elements; all 0, or no rows. */
static int trial_array(neap_optimizer *optimizer, const neap_array_info *like, int stype,
                       neap_array **out) {
  neap_array_info info = *like;
  info.stype = stype;
  info.size = 1;
  for (int i = info.ndim - 1; i >= 0; i--) {
    int64_t most = TRIAL / info.size;
    if (info.shape[i] > most) info.shape[i] = most;
    if (info.shape[i] > 0) info.size *= info.shape[i];
  }
  for (int i = 0; i < info.ndim; i++)
    if (info.shape[i] == 0) info.size = 0;
  NEAP_TRY(neap_array_new(optimizer->context, &info, out));
  int status = neap_array_fill(*out, 0);
  if (status != NEAP_OK) neap_array_close(*out);
  return status;
}

/* As if it were the first update of a key that has these programs, and nothing else. */
static int try_locked(neap_optimizer *optimizer, const neap_key *key, opt_key *trial,
                      neap_array *weight, neap_array *gradient) {
  neap_work_list list;
  NEAP_TRY(neap_list_open(&list, optimizer->context, NEAP_UPDATE_WORKS));
  int64_t num_update = optimizer->num_update;
  int status =
      prepare_locked(optimizer, key, trial, weight, gradient, NULL, 0, list.works, &list.count);
  optimizer->num_update = num_update;
  return neap_list_close(&list, status);
}

int neap_optimizer_try(neap_optimizer *optimizer, const neap_key *key, int stype,
                       const neap_array_info *like) {
  neap_array *weight = NULL, *gradient = NULL;
  NEAP_TRY(trial_array(optimizer, like, NEAP_DENSE, &weight));
  int status = trial_array(optimizer, like, stype, &gradient);
  if (status != NEAP_OK) {
    neap_array_close(weight);
    return status;
  }
  pthread_mutex_lock(&optimizer->lock);
  const opt_key *entry = neap_keys_find(&optimizer->keys, key);
  opt_key trial = entry ? *entry : (opt_key){.num_states = 0};
  size_t bytes = (size_t)trial.num_states * sizeof *trial.states;
  trial.states = neap_alloc(optimizer->context, bytes ? bytes : 1);
  if (!trial.states) status = NEAP_ENOMEM;
  for (int i = 0; trial.states && i < trial.num_states; i++)
    trial.states[i] = (opt_state){entry->states[i].name, NULL};
  trial.scalar_names = NULL;
  trial.scalars = NULL;
  trial.num_scalars = 0;
  if (status == NEAP_OK) status = try_locked(optimizer, key, &trial, weight, gradient);
  pthread_mutex_unlock(&optimizer->lock);
  if (status == NEAP_OK) status = neap_array_wait(weight);
  for (int i = 0; trial.states && i < trial.num_states; i++)
    neap_array_close(trial.states[i].array);
  if (trial.states) neap_free(optimizer->context, trial.states, bytes ? bytes : 1);
  neap_opt_free_scalars(optimizer->context, &trial);
  neap_array_close(weight);
  neap_array_close(gradient);
  return status;
}

/* ---- Counts -------------------------------------------------------------------------------- */

int neap_optimizer_count(neap_optimizer *optimizer, const neap_key *key, int64_t *out) {
  if (!optimizer || !out) return neap_fail(NEAP_EINVAL, "neap_optimizer_count: NULL argument");
  pthread_mutex_lock(&optimizer->lock);
  const opt_key *entry = key ? neap_keys_find(&optimizer->keys, key) : NULL;
  *out = !key    ? optimizer->num_update
         : entry ? entry->count
                 : (int64_t)optimizer->values[BEGIN_NUM_UPDATE];
  pthread_mutex_unlock(&optimizer->lock);
  return NEAP_OK;
}

int neap_optimizer_set_count(neap_optimizer *optimizer, const neap_key *key, int64_t count) {
  if (!optimizer || count < 0)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_set_count: a count from 0 is wanted");
  opt_key *entry;
  pthread_mutex_lock(&optimizer->lock);
  int status = key ? neap_opt_get_key(optimizer, key, &entry) : NEAP_OK;
  if (status == NEAP_OK) {
    if (key) {
      entry->count = count;
    } else {
      optimizer->num_update = count;
      neap_opt_set_lead(optimizer);
    }
  }
  pthread_mutex_unlock(&optimizer->lock);
  return status;
}
