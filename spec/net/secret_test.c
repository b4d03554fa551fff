/* SPDX-License-Identifier: MIT */
/* Who is let in: jobs over TLS, jobs with a secret, and who has the wrong one or none. */
#include "job.h"
#include <netdb.h>

static const char CA[] = "spec/net/golden/ca.pem", CERT[] = "spec/net/golden/localhost.pem";

static void push_and_pull(worker *w) {
  neap_key key = {.text = "w", .length = 1};
  int64_t shape[2] = {300, 200};
  neap_array *value = filled(w->context, 2, shape, 1);
  OK(neap_store_init(w->store, 1, &key, &value));
  OK(neap_store_push(w->store, 1, &key, NULL, &value, 0));
  OK(neap_store_pull(w->store, 1, &key, NULL, &value, 0, 1));
  CHECK(all_are(value, (float)w->job->options.num_workers));
  neap_array_close(value);
}

/* A worker with these options is refused, in words with `words` in them. */
static void refused(const job *j, const neap_job_options *options, int status, const char *words) {
  neap_context *context = job_context();
  neap_store *store = NULL;
  int is = neap_store_join(context, j->type, options, &store);
  if (is != status || !strstr(neap_error(), words)) {
    fprintf(stderr, "%s: %s\n  wanted: %s\n", neap_status_name(is), neap_error(), words);
    exit(1);
  }
  neap_context_close(context);
}

static void over_tls(void) {
  struct addrinfo *found = NULL;
  if (getaddrinfo("localhost", NULL, NULL, &found)) { /* a system without /etc/hosts */
    printf("localhost, which the certificate is for, has no address here: nothing over TLS\n");
    return;
  }
  freeaddrinfo(found);
  job j;
  job_options(&j, 2, 2);
  j.options.root_uri = "tls+tcp://localhost:0";
  j.options.tls_ca = CA;
  j.options.tls_cert = CERT; /* both sides show one: mutual TLS */
  job_start(&j);
  neap_job_options other = j.options;
  other.timeout = 1;
  other.tls_cert = NULL;
  refused(&j, &other, NEAP_ELOST, "the scheduler at tls+tcp://localhost");
  job_run(&j, push_and_pull);
  job_end(&j);
}

static void with_a_secret(void) {
  job j;
  job_options(&j, 2, 1);
  j.options.secret = "the moon pulls";
  job_start(&j);
  neap_job_options other = j.options;
  other.secret = "the moon pushes";
  refused(&j, &other, NEAP_EDENIED, "NEAP_SECRET");
  other.secret = NULL;
  refused(&j, &other, NEAP_EDENIED, "NEAP_SECRET");
  job_run(&j, push_and_pull);
  job_end(&j);
}

/* Addresses of other hosts want a secret or mutual TLS. */
static void refuses_to_listen(void) {
  neap_context *context = job_context();
  neap_scheduler *scheduler = NULL;
  neap_server *server = NULL;
  job j;
  job_options(&j, 1, 1);
  neap_job_options options = j.options;
  options.root_uri = "tcp://0.0.0.0:0";
  CHECK(neap_scheduler_start(context, &options, &scheduler) == NEAP_EDENIED);
  CHECK(strstr(neap_error(), "NEAP_SECRET"));
  options.root_uri = "tcp://127.0.0.1:1";
  options.listen_uri = "tcp://0.0.0.0:0";
  CHECK(neap_server_start(context, &options, &server) == NEAP_EDENIED);
  CHECK(strstr(neap_error(), "NEAP_SECRET"));
  options.listen_uri = "tls+tcp://0.0.0.0:0"; /* a certificate alone lets everybody in */
  options.tls_cert = CERT;
  CHECK(neap_server_start(context, &options, &server) == NEAP_EDENIED);
  options.root_uri = "tcp://127.0.0.2.example.org:0"; /* a name that looks like loopback */
  CHECK(neap_scheduler_start(context, &options, &scheduler) == NEAP_EDENIED);
  neap_context_close(context);
}

int main(void) {
  refuses_to_listen();
  with_a_secret();
  over_tls();
  return 0;
}
