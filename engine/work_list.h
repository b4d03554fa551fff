/* SPDX-License-Identifier: MIT */
/* work_list.h - a list of work that is first made ready, then queued: all of it, or nothing. */
#ifndef NEAP_WORK_LIST_H
#define NEAP_WORK_LIST_H

#include "sched.h"

typedef struct neap_work_list {
  neap_context *context;
  neap_work **works;
  int count;
  size_t room;
  neap_work *small[16];
} neap_work_list;

static inline int neap_list_open(neap_work_list *list, neap_context *context, size_t room) {
  list->context = context;
  list->works = list->small;
  list->count = 0;
  list->room = room;
  if (room <= sizeof list->small / sizeof *list->small) return NEAP_OK;
  list->works = neap_alloc(context, room * sizeof *list->works);
  return list->works ? NEAP_OK : NEAP_ENOMEM;
}

/* NULL: memory ran out, and the error text is set. */
static inline int neap_list_add(neap_work_list *list, neap_work *work, int priority) {
  if (!work) return NEAP_ENOMEM;
  neap_work_set_priority(work, priority);
  list->works[list->count++] = work;
  return NEAP_OK;
}

/* The end: queues all when all went well, or nothing. Gives `status` back. */
static inline int neap_list_close(neap_work_list *list, int status) {
  for (int i = 0; i < list->count; i++) {
    if (status == NEAP_OK)
      neap_work_submit(list->works[i]);
    else
      neap_work_discard(list->works[i]);
  }
  if (list->works && list->works != list->small)
    neap_free(list->context, list->works, list->room * sizeof *list->works);
  return status;
}

#endif
