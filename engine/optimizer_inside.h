/* SPDX-License-Identifier: MIT */
/* optimizer_inside.h - what optimizer.c (settings, programs, updates) and optimizer_state.c (what
 * keys keep from update to update) and optimizer_carry.c (what one hands on to the next) share;
 * nobody else includes it. */
#ifndef NEAP_OPTIMIZER_INSIDE_H
#define NEAP_OPTIMIZER_INSIDE_H

#include "array.h"
#include "optimizer.h"
#include "../kernels/program.h"

#include <pthread.h>

/* A state of a key; the array is NULL until the first update. */
typedef struct opt_state {
  char *name;
  neap_array *array;
} opt_state;

/* A program, tied to where its settings and states are. */
typedef struct opt_binding {
  neap_program *program; /* NULL: not bound */
  int *settings;         /* for each, an index into the optimizer's, or one of `special` */
  int *states;           /* for each, an index into the key's */
} opt_binding;

typedef struct opt_key {
  opt_binding bound[2]; /* by storage type of the gradient */
  opt_state *states;
  int num_states;
  /* Numbers that live from update to update: their names, and a float64 array of them. */
  char **scalar_names;
  neap_array *scalars;
  int num_scalars;
  int64_t count; /* updates so far */
  double lr_mult, wd_mult;
  uint64_t hash; /* of the key: for random numbers */
} opt_key;

struct neap_optimizer {
  neap_context *context;
  atomic_int refs;
  pthread_mutex_t lock;
  char *name;
  char **names; /* settings; never taken out, so that indices hold */
  double *values;
  int num_settings, room;
  neap_program *schedule;
  int *schedule_settings;
  /* What schedules go by: `lead` + the highest count of a key. The lead is what keys that are gone,
   * or begin to count again, had more. */
  int64_t num_update, lead;
  neap_keys keys;
};

void neap_opt_free_text(neap_context *context, char *text);
void neap_opt_free_scalars(neap_context *context, opt_key *entry);

/* After counts changed: num_update stays what it is, and goes on from there. */
void neap_opt_set_lead(neap_optimizer *optimizer);

/* The key's entry, made if it is new. */
int neap_opt_get_key(neap_optimizer *optimizer, const neap_key *key, opt_key **out);
/* The place of a state, made (without an array) if the key has none of that name; -1: no memory. */
int neap_opt_get_state(neap_context *context, opt_key *entry, const char *name);

/* See to it that the key has the states and scalars that a program for it needs. */
int neap_opt_make_states(const neap_key *key, opt_key *entry, const opt_binding *bound,
                         neap_array *weight);
int neap_opt_make_scalars(neap_context *context, opt_key *entry, const neap_p_plan *plan);

/* A state as it is before a key's first update. */
int neap_opt_make_state(const neap_p_array_info *plan, neap_array *weight, neap_array **out);
/* Puts a copy of a state or of the scalars in place. Under the lock. */
int neap_opt_restore(neap_optimizer *optimizer, const neap_key *key, const char *name,
                     neap_array *value);
/* A state as it is before a key's first update. */
int neap_opt_make_state(const neap_p_array_info *plan, neap_array *weight, neap_array **out);
bool neap_opt_same_scalars(const opt_key *entry, const neap_p_plan *plan);
/* Puts a copy of a state or of the scalars in place. Under the lock. */
int neap_opt_restore(neap_optimizer *optimizer, const neap_key *key, const char *name,
                     neap_array *value);

#endif
