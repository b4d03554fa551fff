/* SPDX-License-Identifier: MIT */
/* store_absent.c - types of store that this build has by name only: creating one says what is
 * missing, and what to use instead. */
#include "store.h"

static int no_nccl(neap_store *store) {
  return neap_fail(
      NEAP_ENOTSUP,
      "a '%s' store needs a GPU and NCCL, and this build of Neap supports neither CUDA "
      "nor NCCL; a 'device' store does the same on CPU contexts",
      store->row->name);
}

static int no_dist(neap_store *store) {
  return neap_fail(NEAP_ENOTSUP,
                   "a '%s' store works inside a launched job only, and this process is outside of "
                   "one. A job is started by:\n"
                   "  neap launch -n 2 -s 1 luajit train.lua\n"
                   "But this version of Neap has no stores across processes yet: use 'local' or "
                   "'device'",
                   store->row->name);
}

const neap_store_ops neap_store_no_nccl = {.store_size = sizeof(neap_store), .open = no_nccl};
const neap_store_ops neap_store_no_dist = {.store_size = sizeof(neap_store), .open = no_dist};
