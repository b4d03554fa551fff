/* SPDX-License-Identifier: MIT */
/* optimizer_carry.c - from one optimizer to the next: states that both have, states that a script's
 * migrate makes of others, and a trial of what is new.
 *
 * A migration is a program as updates are. It runs over the weight, which it leaves as it is, and
 * its states are those of both optimizers: "old.mom", "new.mean". So what it computes is verified,
 * and ordered with the updates before and after it, like everything else. */
#include "optimizer_inside.h"
#include "program.h"
#include "work_list.h"

#include <string.h>

/* A key's programs in `to`: what they call their states is what they take over. */
static bool wants(const opt_key *to, const char *name) {
  for (int k = 0; k < 2; k++) {
    const neap_program *program = to->bound[k].program;
    for (int i = 0; program && i < program->plan->num_states; i++)
      if (strcmp(program->plan->states[i].name, name) == 0) return true;
  }
  return false;
}

static bool wants_scalars(const opt_key *to, const opt_key *from) {
  for (int k = 0; k < 2; k++)
    if (to->bound[k].program && to->bound[k].program->plan->num_scalars &&
        neap_opt_same_scalars(from, to->bound[k].program->plan))
      return true;
  return false;
}

/* ---- Migrating ----------------------------------------------------------------------------- */

/* The array by which a migration reads or writes state `full`; *made: it is a temporary. */
static int find_state(const opt_key *from, neap_optimizer *to, opt_key *entry,
                      const neap_p_array_info *plan, neap_array *weight, neap_array **out,
                      bool *made) {
  const char *name = strchr(plan->name, '.');
  if (!name) return neap_fail(NEAP_EFORMAT, "migrate: state '%s' is of no optimizer", plan->name);
  name++;
  *made = false;
  if (strncmp(plan->name, "new.", 4) == 0) {
    int i = neap_opt_get_state(to->context, entry, name);
    if (i < 0) return NEAP_ENOMEM;
    if (!entry->states[i].array)
      NEAP_TRY(neap_opt_make_state(plan, weight, &entry->states[i].array));
    *out = entry->states[i].array;
    return NEAP_OK;
  }
  for (int i = 0; i < from->num_states; i++)
    if (strcmp(from->states[i].name, name) == 0 && from->states[i].array) {
      *out = from->states[i].array;
      return NEAP_OK;
    }
  *made = true;
  return neap_opt_make_state(plan, weight, out);
}

/* One scalar, from an array of them to another. */
static int copy_scalar(neap_array *from, int i, neap_array *to, int k) {
  neap_array *a = NULL, *b = NULL;
  int status = neap_array_slice(from, i, i + 1, &a);
  if (status == NEAP_OK) status = neap_array_slice(to, k, k + 1, &b);
  if (status == NEAP_OK) status = neap_array_copy(a, b);
  neap_array_close(a);
  neap_array_close(b);
  return status;
}

static int find_scalar(const opt_key *entry, const char *full, const char *prefix) {
  size_t length = strlen(prefix);
  if (strncmp(full, prefix, length) != 0 || !entry->scalars) return -1;
  for (int i = 0; i < entry->num_scalars; i++)
    if (strcmp(entry->scalar_names[i], full + length) == 0) return i;
  return -1;
}

/* The scalars of both as the migration has them: as they are, or as they begin. */
static int join_scalars(neap_context *context, const opt_key *from, const opt_key *to,
                        const neap_p_plan *plan, neap_array **out) {
  NEAP_TRY(neap_array_create(context, NEAP_FLOAT64, 1, (int64_t[]){plan->num_scalars}, NEAP_CPU, 0,
                             out));
  for (int i = 0; i < plan->num_scalars; i++) {
    const char *name = plan->scalars[i].name;
    int old = find_scalar(from, name, "old."), new = find_scalar(to, name, "new.");
    neap_array *one = NULL;
    if (old >= 0) {
      NEAP_TRY(copy_scalar(from->scalars, old, *out, i));
    } else if (new >= 0) {
      NEAP_TRY(copy_scalar(to->scalars, new, *out, i));
    } else {
      NEAP_TRY(neap_array_slice(*out, i, i + 1, &one));
      int status = neap_array_fill(one, plan->scalars[i].value);
      neap_array_close(one);
      NEAP_TRY(status);
    }
  }
  return NEAP_OK;
}

static int run_migration(const opt_key *from, neap_optimizer *to, opt_key *entry,
                         neap_array *weight, neap_program *program) {
  const neap_p_plan *plan = program->plan;
  neap_array *states[NEAP_P_STATES] = {NULL}, *scalars = NULL, *copy = NULL;
  bool made[NEAP_P_STATES] = {false};
  int status = NEAP_OK;
  for (int i = 0; i < plan->num_states && status == NEAP_OK; i++)
    status = find_state(from, to, entry, &plan->states[i], weight, &states[i], &made[i]);
  for (int k = 0; k < 2 && status == NEAP_OK; k++)
    if (entry->bound[k].program)
      status = neap_opt_make_scalars(to->context, entry, entry->bound[k].program->plan);
  if (status == NEAP_OK && plan->num_scalars)
    status = join_scalars(to->context, from, entry, plan, &scalars);
  /* A program writes a weight and reads a gradient; this one needs neither to change or be. */
  if (status == NEAP_OK) status = neap_array_new(to->context, &weight->info, &copy);
  if (status == NEAP_OK) status = neap_array_copy(weight, copy);
  if (status == NEAP_OK) status = neap_program_run(program, copy, weight, states, scalars, NULL, 0);
  for (int i = 0; i < plan->num_scalars && status == NEAP_OK; i++) {
    int k = find_scalar(entry, plan->scalars[i].name, "new.");
    if (k >= 0) status = copy_scalar(scalars, i, entry->scalars, k);
  }
  for (int i = 0; i < plan->num_states; i++)
    if (made[i]) neap_array_close(states[i]);
  neap_array_close(scalars);
  neap_array_close(copy);
  return status;
}

/* ---- One key, and all ---------------------------------------------------------------------- */

/* Under both locks. */
static int carry_key(const neap_key *key, const opt_key *from, neap_optimizer *to,
                     neap_array *weight, neap_program *migration) {
  opt_key *entry = neap_keys_find(&to->keys, key);
  if (!entry || (!entry->bound[0].program && !entry->bound[1].program)) return NEAP_OK;
  bool any = from->count > 0 || from->scalars;
  for (int i = 0; i < from->num_states; i++) {
    if (!from->states[i].array) continue;
    any = true;
    if (wants(entry, from->states[i].name))
      NEAP_TRY(neap_opt_restore(to, key, from->states[i].name, from->states[i].array));
  }
  if (from->scalars && wants_scalars(entry, from))
    NEAP_TRY(neap_opt_restore(to, key, "scalars", from->scalars));
  if (migration && any && weight->info.stype == NEAP_DENSE)
    NEAP_TRY(run_migration(from, to, entry, weight, migration));
  bool whole = true;
  for (int i = 0; i < entry->num_states; i++)
    whole = whole && (entry->states[i].array || !wants(entry, entry->states[i].name));
  if (whole) entry->count = from->count;
  return NEAP_OK;
}

/* Under both locks: schedules go on. */
static void carry_total(const neap_optimizer *from, neap_optimizer *to) {
  if (to->num_update < from->num_update) to->num_update = from->num_update;
  neap_opt_set_lead(to);
}

int neap_optimizer_carry_key(neap_optimizer *from, neap_optimizer *to, const neap_key *key,
                             neap_array *weight, neap_program *migration) {
  pthread_mutex_lock(&from->lock);
  pthread_mutex_lock(&to->lock);
  const opt_key *entry = neap_keys_find(&from->keys, key);
  int status = entry ? carry_key(key, entry, to, weight, migration) : NEAP_OK;
  carry_total(from, to);
  pthread_mutex_unlock(&to->lock);
  pthread_mutex_unlock(&from->lock);
  return status;
}

int neap_optimizer_carry_over(neap_optimizer *from, neap_optimizer *to) {
  if (!from || !to || from == to)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_carry_over: two optimizers are wanted");
  if (from->context != to->context)
    return neap_fail(NEAP_EINVAL, "neap_optimizer_carry_over: optimizers of two contexts");
  int status = NEAP_OK;
  pthread_mutex_lock(&from->lock);
  pthread_mutex_lock(&to->lock);
  for (int i = 0; status == NEAP_OK && i < from->keys.count; i++)
    status =
        carry_key(neap_keys_at(&from->keys, i), neap_keys_value_at(&from->keys, i), to, NULL, NULL);
  carry_total(from, to);
  pthread_mutex_unlock(&to->lock);
  pthread_mutex_unlock(&from->lock);
  return status;
}
