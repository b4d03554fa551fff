/* SPDX-License-Identifier: MIT */
/* rendezvous.h - who a process is in its job, by its environment.
 *
 * One pure function: the same environment gives the same answer, on every rank and host, so that
 * the ranks of a launcher find each other without having talked. What it reads and what it makes
 * of it stands in neap.h, at neap_job_options_env(), which is this function for the process's own
 * environment. */
#ifndef NEAP_RENDEZVOUS_H
#define NEAP_RENDEZVOUS_H

#include "../engine/neap.h"

int neap_rendezvous(const char *const *environment, neap_job_options *options,
                    neap_job_place *place);

#endif
