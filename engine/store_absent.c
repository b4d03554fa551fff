/* SPDX-License-Identifier: MIT */
/* store_absent.c - types of store that this build has by name only: creating one says what is
 * missing, and what to use instead. */
#include "store.h"

static int no_nccl(neap_store *store, const neap_job_options *job) {
  (void)job;
  return neap_fail(
      NEAP_ENOTSUP,
      "a '%s' store needs a GPU and NCCL, and this build of Neap supports neither CUDA "
      "nor NCCL; a 'device' store does the same on CPU contexts",
      store->row->name);
}

const neap_store_ops neap_store_no_nccl = {.store_size = sizeof(neap_store), .open = no_nccl};
