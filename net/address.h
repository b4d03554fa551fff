/* SPDX-License-Identifier: MIT */
/* address.h - addresses of processes: what they may look like, and how they are opened. */
#ifndef NEAP_ADDRESS_H
#define NEAP_ADDRESS_H

#include "../engine/base.h"
#include <nng/nng.h>

enum { NEAP_URI_MAX = 512 };

/* NEAP_EINVAL, saying what is wrong, unless it is one of tcp://host:port, tls+tcp://host:port,
 * ipc:///path and inproc://name. */
int neap_uri_check(const char *uri);
/* Whether nobody but this host can reach it: loopback, a file, a name inside the process. */
bool neap_uri_is_local(const char *uri);
/* Like `uri`, but with a port, path or name of its own, for a process beside it. */
int neap_uri_beside(const char *uri, char out[NEAP_URI_MAX]);

/* Options give the TLS files and whether there is a secret. The listener listens; `actual` is where
 * it can be reached, with the port that was chosen. NEAP_EDENIED for an address that others can
 * reach when neither secret nor TLS certificates keep them out. */
int neap_dialer_open(const char *uri, const neap_job_options *options, nng_stream_dialer **out);
int neap_listener_open(const char *uri, const neap_job_options *options, nng_stream_listener **out,
                       char actual[NEAP_URI_MAX]);

#endif
