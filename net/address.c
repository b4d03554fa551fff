/* SPDX-License-Identifier: MIT */
/* address.c - addresses, and NNG's dialers and listeners for them. */
#include "address.h"
#include "greet.h"
#include <nng/supplemental/tls/tls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *after(const char *uri, const char *scheme) {
  size_t length = strlen(scheme);
  return strncmp(uri, scheme, length) == 0 ? uri + length : NULL;
}

/* host:port of a TCP address; NULL of others. */
static const char *tcp_part(const char *uri) {
  const char *part = after(uri, "tcp://");
  return part ? part : after(uri, "tls+tcp://");
}

static int wrong(const char *uri, const char *what) {
  return neap_fail(NEAP_EINVAL,
                   "the address '%.200s' %s; addresses look like tcp://127.0.0.1:9091, "
                   "tls+tcp://host:9091, ipc:///tmp/job or inproc://job",
                   uri, what);
}

int neap_uri_check(const char *uri) {
  if (!uri || !*uri) return neap_fail(NEAP_EINVAL, "an address is missing: root_uri is not given");
  if (strlen(uri) >= NEAP_URI_MAX / 2) return wrong(uri, "is too long");
  const char *part = tcp_part(uri);
  if (part) {
    const char *colon = strrchr(part, ':');
    if (!colon || colon == part) return wrong(uri, "has no host and port");
    char *end;
    long port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end || port < 0 || port > 65535)
      return wrong(uri, "has no valid port");
    return NEAP_OK;
  }
  part = after(uri, "ipc://");
  if (part) return *part == '/' ? NEAP_OK : wrong(uri, "has no absolute path");
  part = after(uri, "inproc://");
  if (part) return *part && strlen(part) < 64 ? NEAP_OK : wrong(uri, "has no name");
  return wrong(uri, "has no known transport");
}

bool neap_uri_is_local(const char *uri) {
  const char *part = tcp_part(uri);
  if (!part) return true;
  const char *number = after(part, "127.");
  if (number) return number[strspn(number, "0123456789.")] == ':'; /* no name that begins so */
  return after(part, "localhost:") || after(part, "[::1]:");
}

/* Eight letters that nobody else has. */
static int unique(char text[17]) {
  uint8_t bytes[8];
  NEAP_TRY(neap_nonce(bytes, sizeof bytes));
  for (int i = 0; i < 8; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
  return NEAP_OK;
}

int neap_uri_beside(const char *uri, char out[NEAP_URI_MAX]) {
  const char *part = tcp_part(uri);
  if (part) {
    snprintf(out, NEAP_URI_MAX, "%.*s:0", (int)(strrchr(uri, ':') - uri), uri);
    return NEAP_OK;
  }
  char name[17];
  NEAP_TRY(unique(name));
  snprintf(out, NEAP_URI_MAX, "%s.%s", uri, name);
  return NEAP_OK;
}

/* As NNG knows it. It has no byte streams inside a process: those go by an abstract socket, whose
 * name holds the number of the process. */
static const char *for_nng(const char *uri, char buffer[NEAP_URI_MAX]) {
  const char *name = after(uri, "inproc://");
  if (!name) return uri;
  snprintf(buffer, NEAP_URI_MAX, "abstract://neap-%ld-%s", (long)getpid(), name);
  return buffer;
}

static int nng_failed(const char *uri, const char *what, int error) {
  return neap_fail(error == NNG_ENOMEM ? NEAP_ENOMEM : NEAP_EIO, "%s: cannot %s: %s", uri, what,
                   nng_strerror(error));
}

static int read_tls(nng_tls_config *config, const neap_job_options *options, bool listens) {
  int error = 0;
  if (listens && !options->tls_cert)
    return neap_fail(NEAP_EINVAL, "tls+tcp needs a certificate to listen with: tls_cert, a file "
                                  "that holds it and its key");
  if (options->tls_ca) error = nng_tls_config_ca_file(config, options->tls_ca);
  if (!error && options->tls_cert)
    error = nng_tls_config_cert_key_file(config, options->tls_cert, NULL);
  if (!error && options->tls_ca)
    error = nng_tls_config_auth_mode(config, NNG_TLS_AUTH_MODE_REQUIRED);
  if (error)
    return neap_fail(NEAP_EIO, "tls: %s or %s cannot be used: %s",
                     options->tls_ca ? options->tls_ca : "(no tls_ca)",
                     options->tls_cert ? options->tls_cert : "(no tls_cert)", nng_strerror(error));
  return NEAP_OK;
}

static int tls_config(const char *uri, const neap_job_options *options, bool listens,
                      nng_tls_config **out) {
  *out = NULL;
  if (!after(uri, "tls+")) return NEAP_OK;
  nng_tls_config *config;
  int error = nng_tls_config_alloc(&config, listens ? NNG_TLS_MODE_SERVER : NNG_TLS_MODE_CLIENT);
  if (error) return nng_failed(uri, "use TLS", error);
  int status = read_tls(config, options, listens);
  if (status == NEAP_OK)
    *out = config;
  else
    nng_tls_config_free(config);
  return status;
}

/* NNG leaves it to the system to hold small packets back until others are acknowledged, which costs
 * 40 ms whenever two messages follow each other. */
static bool is_tcp(const char *uri) {
  return strncmp(uri, "tcp", 3) == 0 || strncmp(uri, "tls+tcp", 7) == 0;
}

int neap_dialer_open(const char *uri, const neap_job_options *options, nng_stream_dialer **out) {
  char buffer[NEAP_URI_MAX];
  NEAP_TRY(neap_uri_check(uri));
  nng_tls_config *tls;
  NEAP_TRY(tls_config(uri, options, false, &tls));
  nng_stream_dialer *dialer = NULL;
  int error = nng_stream_dialer_alloc(&dialer, for_nng(uri, buffer));
  if (!error && is_tcp(uri)) error = nng_stream_dialer_set_bool(dialer, NNG_OPT_TCP_NODELAY, true);
  if (!error && tls) error = nng_stream_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, tls);
  if (tls) nng_tls_config_free(tls); /* the dialer holds it */
  if (error) {
    if (dialer) nng_stream_dialer_free(dialer);
    return nng_failed(uri, "connect there", error);
  }
  *out = dialer;
  return NEAP_OK;
}

/* With the real port where any was asked for. */
static void actual_uri(const char *uri, nng_stream_listener *listener, char actual[NEAP_URI_MAX]) {
  int port = 0;
  if (tcp_part(uri) && nng_stream_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) == 0)
    snprintf(actual, NEAP_URI_MAX, "%.*s:%d", (int)(strrchr(uri, ':') - uri), uri, port);
  else
    snprintf(actual, NEAP_URI_MAX, "%s", uri);
}

int neap_listener_open(const char *uri, const neap_job_options *options, nng_stream_listener **out,
                       char actual[NEAP_URI_MAX]) {
  char buffer[NEAP_URI_MAX];
  NEAP_TRY(neap_uri_check(uri));
  bool guarded = (options->secret && *options->secret) || (after(uri, "tls+") && options->tls_ca);
  if (!neap_uri_is_local(uri) && !guarded)
    return neap_fail(NEAP_EDENIED,
                     "%s can be reached from other hosts, and nothing keeps strangers out: give "
                     "all processes of the job one secret (NEAP_SECRET), or TLS certificates",
                     uri);
  nng_tls_config *tls;
  NEAP_TRY(tls_config(uri, options, true, &tls));
  nng_stream_listener *listener = NULL;
  int error = nng_stream_listener_alloc(&listener, for_nng(uri, buffer));
  if (!error && is_tcp(uri))
    error = nng_stream_listener_set_bool(listener, NNG_OPT_TCP_NODELAY, true);
  if (!error && tls) error = nng_stream_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG, tls);
  if (tls) nng_tls_config_free(tls);
  if (!error) error = nng_stream_listener_listen(listener);
  if (error) {
    if (listener) nng_stream_listener_free(listener);
    return nng_failed(uri, "listen there", error);
  }
  actual_uri(uri, listener, actual);
  *out = listener;
  return NEAP_OK;
}
