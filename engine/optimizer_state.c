/* SPDX-License-Identifier: MIT */
/* optimizer_state.c - states and scalars of keys: made, saved and restored.
 *
 * A state belongs to its key and its name, not to a program: the programs for dense and for
 * row-sparse gradients share it, and a program that replaces another finds it. States are made at
 * a key's first update, when the weight's shape is known; what was restored from a file waits
 * until then. Making them is queued at once, before the update that needs them is submitted: if
 * that is discarded, the states have their first values, as if they had not been made. */
#include "optimizer_inside.h"
#include "program.h"

#include <string.h>

void neap_opt_free_text(neap_context *context, char *text) {
  if (text) neap_free(context, text, strlen(text) + 1);
}

void neap_opt_free_scalars(neap_context *context, opt_key *entry) {
  for (int i = 0; i < entry->num_scalars; i++) neap_opt_free_text(context, entry->scalar_names[i]);
  neap_free(context, entry->scalar_names, (size_t)entry->num_scalars * sizeof(char *));
  neap_array_close(entry->scalars);
  entry->scalar_names = NULL;
  entry->scalars = NULL;
  entry->num_scalars = 0;
}

int neap_opt_get_state(neap_context *context, opt_key *entry, const char *name) {
  for (int i = 0; i < entry->num_states; i++)
    if (strcmp(entry->states[i].name, name) == 0) return i;
  size_t bytes = (size_t)entry->num_states * sizeof(opt_state);
  opt_state *states = neap_alloc(context, bytes + sizeof *states);
  char *copy = neap_strdup(context, name);
  if (!states || !copy) {
    neap_free(context, states, bytes + sizeof *states);
    neap_opt_free_text(context, copy);
    return -1;
  }
  if (bytes) memcpy(states, entry->states, bytes);
  neap_free(context, entry->states, bytes);
  entry->states = states;
  states[entry->num_states] = (opt_state){copy, NULL};
  return entry->num_states++;
}

/* ---- Making -------------------------------------------------------------------------------- */

/* A state as it is before the key's first update. */
int neap_opt_make_state(const neap_p_array_info *plan, neap_array *weight, neap_array **out) {
  const neap_array_info *info = &weight->info;
  int dtype = neap_program_state_dtype(info->dtype);
  if (plan->from_weight && dtype != info->dtype) return neap_astype(weight, dtype, out);
  neap_array *made = NULL;
  NEAP_TRY(neap_array_create(neap_array_context(weight), dtype, info->ndim, info->shape,
                             info->device_type, info->device_id, &made));
  int status =
      plan->from_weight ? neap_array_copy(weight, made) : neap_array_fill(made, plan->value);
  if (status != NEAP_OK)
    neap_array_close(made);
  else
    *out = made;
  return status;
}

/* A restored state was saved with the shape and dtype that the weight had then. */
static int check_restored(const neap_key *key, const char *name, const neap_array *state,
                          const neap_array *weight) {
  char k[NEAP_KEY_TEXT], a[NEAP_SHAPE_TEXT], b[NEAP_SHAPE_TEXT];
  if (!neap_same_shape(&state->info, &weight->info))
    return neap_fail(NEAP_ESHAPE, "state '%s' of %s has shape %s, the stored value %s", name,
                     neap_key_text(key, k), neap_shape_text(&state->info, a),
                     neap_shape_text(&weight->info, b));
  int dtype = neap_program_state_dtype(weight->info.dtype);
  if (state->info.dtype != dtype)
    return neap_fail(NEAP_EDTYPE, "state '%s' of %s is %s; for a stored value of %s it must be %s",
                     name, neap_key_text(key, k), neap_dtype_name(state->info.dtype),
                     neap_dtype_name(weight->info.dtype), neap_dtype_name(dtype));
  return NEAP_OK;
}

int neap_opt_make_states(const neap_key *key, opt_key *entry, const opt_binding *bound,
                         neap_array *weight) {
  const neap_p_plan *plan = bound->program->plan;
  for (int i = 0; i < plan->num_states; i++) {
    opt_state *state = &entry->states[bound->states[i]];
    if (state->array)
      NEAP_TRY(check_restored(key, state->name, state->array, weight));
    else
      NEAP_TRY(neap_opt_make_state(&plan->states[i], weight, &state->array));
  }
  return NEAP_OK;
}

bool neap_opt_same_scalars(const opt_key *entry, const neap_p_plan *plan) {
  if (entry->num_scalars != plan->num_scalars || (plan->num_scalars && !entry->scalars))
    return false;
  for (int i = 0; i < plan->num_scalars; i++)
    if (strcmp(entry->scalar_names[i], plan->scalars[i].name) != 0) return false;
  return true;
}

/* Scalar i of a program whose scalars differ from the key's: as it was by that name, or as it
 * begins. */
static int carry_scalar(const opt_key *entry, const neap_p_array_info *plan, int i,
                        neap_array *scalars) {
  neap_array *to = NULL, *from = NULL;
  int status = neap_array_slice(scalars, i, i + 1, &to);
  int old = -1;
  for (int k = 0; k < entry->num_scalars; k++)
    if (strcmp(entry->scalar_names[k], plan->name) == 0) old = k;
  if (status == NEAP_OK && old >= 0) {
    status = neap_array_slice(entry->scalars, old, old + 1, &from);
    if (status == NEAP_OK) status = neap_array_copy(from, to);
  } else if (status == NEAP_OK) {
    status = neap_array_fill(to, plan->value);
  }
  neap_array_close(to);
  neap_array_close(from);
  return status;
}

/* A restored array has no names: it is taken as it is if the number of elements is right. */
int neap_opt_make_scalars(neap_context *context, opt_key *entry, const neap_p_plan *plan) {
  if (plan->num_scalars == 0 || neap_opt_same_scalars(entry, plan)) return NEAP_OK;
  opt_key fresh = {.num_scalars = plan->num_scalars};
  int64_t shape[1] = {plan->num_scalars};
  size_t bytes = (size_t)plan->num_scalars * sizeof(char *);
  fresh.scalar_names = neap_alloc(context, bytes);
  if (!fresh.scalar_names) return NEAP_ENOMEM;
  memset(fresh.scalar_names, 0, bytes);
  int status = NEAP_OK;
  for (int i = 0; status == NEAP_OK && i < plan->num_scalars; i++) {
    fresh.scalar_names[i] = neap_strdup(context, plan->scalars[i].name);
    if (!fresh.scalar_names[i]) status = NEAP_ENOMEM;
  }
  bool restored =
      entry->scalars && entry->num_scalars == 0 && entry->scalars->info.size == plan->num_scalars;
  if (status == NEAP_OK && restored) {
    fresh.scalars = entry->scalars;
    entry->scalars = NULL;
  } else if (status == NEAP_OK) {
    status = neap_array_create(context, NEAP_FLOAT64, 1, shape, NEAP_CPU, 0, &fresh.scalars);
    for (int i = 0; status == NEAP_OK && i < plan->num_scalars; i++)
      status = carry_scalar(entry, &plan->scalars[i], i, fresh.scalars);
  }
  if (status != NEAP_OK) {
    neap_opt_free_scalars(context, &fresh);
    return status;
  }
  neap_opt_free_scalars(context, entry);
  entry->scalar_names = fresh.scalar_names;
  entry->scalars = fresh.scalars;
  entry->num_scalars = fresh.num_scalars;
  return NEAP_OK;
}

/* ---- Saving and restoring ------------------------------------------------------------------ */

/* Entry `index` of all arrays: a key's states that have been made, then its scalars. */
static bool find_saved(const neap_optimizer *optimizer, int index, const neap_key **key,
                       const char **name, neap_array **array) {
  for (int k = 0; k < optimizer->keys.count; k++) {
    const opt_key *entry = neap_keys_value_at(&optimizer->keys, k);
    for (int i = 0; i <= entry->num_states; i++) {
      bool state = i < entry->num_states;
      neap_array *found = state ? entry->states[i].array : entry->scalars;
      if (!found || index-- > 0) continue;
      *key = neap_keys_at(&optimizer->keys, k);
      *name = state ? entry->states[i].name : "scalars";
      *array = found;
      return true;
    }
  }
  return false;
}

int neap_optimizer_state(neap_optimizer *optimizer, int index, neap_key *key, const char **name,
                         neap_array **out) {
  if (!optimizer || !key || !name || !out)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_state: NULL argument");
  const neap_key *found_key = NULL;
  const char *found_name = NULL;
  neap_array *array = NULL;
  pthread_mutex_lock(&optimizer->lock);
  int status = index >= 0 && find_saved(optimizer, index, &found_key, &found_name, &array)
                   ? neap_array_share(array, out)
                   : neap_fail(NEAP_EINVAL, "neap_optimizer_state: there is no entry %d", index);
  if (status == NEAP_OK) {
    *key = *found_key;
    *name = found_name;
  }
  pthread_mutex_unlock(&optimizer->lock);
  return status;
}

int neap_opt_restore(neap_optimizer *optimizer, const neap_key *key, const char *name,
                     neap_array *value) {
  neap_context *context = optimizer->context;
  const neap_array_info *info = &value->info;
  opt_key *entry;
  NEAP_TRY(neap_opt_get_key(optimizer, key, &entry));
  neap_array **place = &entry->scalars;
  if (strcmp(name, "scalars") == 0) {
    if (info->dtype != NEAP_FLOAT64)
      return neap_fail(NEAP_EDTYPE, "scalars are float64, not %s", neap_dtype_name(info->dtype));
  } else {
    int i = neap_opt_get_state(context, entry, name);
    if (i < 0) return NEAP_ENOMEM;
    place = &entry->states[i].array;
  }
  if (*place && !neap_same_shape(&(*place)->info, info)) {
    char k[NEAP_KEY_TEXT], a[NEAP_SHAPE_TEXT], b[NEAP_SHAPE_TEXT];
    return neap_fail(NEAP_ESHAPE, "state '%s' of %s has shape %s, what is restored %s", name,
                     neap_key_text(key, k), neap_shape_text(&(*place)->info, a),
                     neap_shape_text(info, b));
  }
  if (*place) return neap_array_copy(value, *place);
  neap_array *copy = NULL;
  NEAP_TRY(neap_array_create(context, info->dtype, info->ndim, info->shape, info->device_type,
                             info->device_id, &copy));
  int status = neap_array_copy(value, copy);
  if (status != NEAP_OK)
    neap_array_close(copy);
  else
    *place = copy;
  return status;
}

int neap_optimizer_restore(neap_optimizer *optimizer, const neap_key *key, const char *name,
                           neap_array *value) {
  if (!optimizer || !key || !name || !value)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_restore: NULL argument");
  if (value->info.stype != NEAP_DENSE)
    return neap_fail(NEAP_ESTYPE, "neap_optimizer_restore: state '%s' must be dense", name);
  pthread_mutex_lock(&optimizer->lock);
  int status = neap_opt_restore(optimizer, key, name, value);
  pthread_mutex_unlock(&optimizer->lock);
  return status;
}
