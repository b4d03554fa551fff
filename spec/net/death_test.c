/* SPDX-License-Identifier: MIT */
/* death_test.c - processes of a job are killed or stopped: the others hear of it by name within
 * the time limit or go on, nothing hangs, and no push counts by half.
 *
 * The test starts itself again in each role. NEAP_SPEC_LONG=1: more of the random kills. */
#include "job.h"
#include "process.h"

static double timeout = 1.5; /* of the jobs */
enum { ROWS = 600, WIDTH = 1000 };
static const int64_t shape[2] = {ROWS, WIDTH};
static const neap_key key = {"w", 1, 0};

static void nap(double seconds) {
  nanosleep(&(struct timespec){.tv_sec = (time_t)seconds,
                               .tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds))},
            NULL);
}

static double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Roles: role uri workers rank policy what --------------------------------------------------
 */

static neap_job_options options_of(char **argv) {
  neap_job_options o;
  neap_job_options_init(&o, sizeof o);
  o.root_uri = argv[2];
  o.num_workers = atoi(argv[3]);
  o.rank = atoi(argv[4]);
  o.on_worker_lost = atoi(argv[5]);
  o.timeout = atof(argv[6]);
  o.bigarray_bound = 1 << 30; /* one part, so that a push is there wholly or not at all */
  o.secret = getenv("NEAP_SECRET");
  return o;
}

static int say(const char *what, int status) {
  if (status == NEAP_OK)
    printf("%s OK\n", what);
  else
    printf("%s %s %s\n", what, neap_status_name(status), neap_error());
  fflush(stdout);
  return status;
}

static int be_scheduler(char **argv) {
  neap_job_options o = options_of(argv);
  neap_context *context = job_context();
  neap_scheduler *scheduler = NULL;
  OK(neap_scheduler_start(context, &o, &scheduler));
  printf("at %s\n", neap_scheduler_uri(scheduler));
  fflush(stdout);
  say("over", neap_scheduler_wait(scheduler, 100));
  neap_scheduler_close(scheduler);
  neap_context_close(context);
  return 0;
}

static int be_server(char **argv) {
  neap_job_options o = options_of(argv);
  neap_context *context = job_context();
  neap_server *server = NULL;
  if (say("up", neap_server_start(context, &o, &server)) == NEAP_OK)
    say("over", neap_server_wait(server, 100));
  neap_server_close(server);
  neap_context_close(context);
  return 0;
}

/* Pushes `count` times the value rank + 1 (0: without end), each time waiting for the sum, which
 * it prints. */
static int be_worker(char **argv) {
  neap_job_options o = options_of(argv);
  int count = atoi(argv[7]);
  neap_context *context = job_context();
  neap_store *store = NULL;
  int status = say("joined", neap_store_join(context, "dist_sync", &o, &store));
  if (status != NEAP_OK) goto end;
  neap_array *value = filled(context, 2, shape, 0), *out = filled(context, 2, shape, 0);
  status = say("init", neap_store_init(store, 1, &key, &value));
  for (int i = 0; status == NEAP_OK && (!count || i < count); i++) {
    void *data;
    OK(neap_array_fill(value, neap_store_rank(store) + 1));
    status = neap_store_push(store, 1, &key, NULL, &value, 0);
    if (status == NEAP_OK) status = neap_store_pull(store, 1, &key, NULL, &out, 0, 1);
    if (status == NEAP_OK) status = neap_array_data(out, &data);
    if (status != NEAP_OK) break;
    float first = *(float *)data;
    CHECK(all_are(out, first)); /* no push by half */
    printf("sum %g.\n", first);
    fflush(stdout);
    if (strstr(argv[8], "slow")) nap(0.02); /* longer than the time-out, all told */
  }
  if (status != NEAP_OK || !strstr(argv[8], "stay")) say("trained", status);
  if (status == NEAP_OK && strstr(argv[8], "barrier")) say("barrier", neap_store_barrier(store));
  while (strstr(argv[8], "stay")) nap(1);
  neap_array_close(value);
  neap_array_close(out);
end:
  neap_store_close(store);
  neap_context_close(context);
  printf("closed\n");
  return 0;
}

/* ---- A job of processes ------------------------------------------------------------------------
 */

typedef struct cast {
  process scheduler, servers[2], workers[4];
  char uri[64], num_workers[8], policy[8], limit[16];
} cast;

static void scheduler_at(cast *c, const char *uri) {
  process_start(&c->scheduler, "scheduler", uri, c->num_workers, "-1", c->policy, c->limit, NULL);
  CHECK(process_says(&c->scheduler, "\n", 30));
  CHECK(sscanf(c->scheduler.said, "at %63s", c->uri) == 1);
}

static void server_of(cast *c) {
  process_start(&c->servers[0], "server", c->uri, c->num_workers, "-1", c->policy, c->limit, NULL);
}

static void worker_of(cast *c, int i, int rank, const char *count, const char *then) {
  char text[12];
  snprintf(text, sizeof text, "%d", rank);
  process_start(&c->workers[i], "worker", c->uri, c->num_workers, text, c->policy, c->limit, count,
                then, NULL);
}

static void begin(cast *c, int workers, int policy) {
  memset(c, 0, sizeof *c);
  snprintf(c->num_workers, sizeof c->num_workers, "%d", workers);
  snprintf(c->policy, sizeof c->policy, "%d", policy);
  snprintf(c->limit, sizeof c->limit, "%g", timeout);
  scheduler_at(c, "tcp://127.0.0.1:0");
  server_of(c);
}

static void kill_one(process *p) {
  process_kill(p, SIGKILL);
  process_wait(p);
}

static void end(cast *c) {
  for (int i = 0; i < 4; i++) kill_one(&c->workers[i]);
  kill_one(&c->servers[0]);
  kill_one(&c->scheduler);
}

#define SAYS(p, text)                                                                              \
  do {                                                                                             \
    if (!process_says(p, text, 8 * timeout + 20)) {                                                \
      fprintf(stderr, "%s:%d: instead of '%s':\n%s\n", __FILE__, __LINE__, text, (p)->said);       \
      process_report();                                                                            \
      if (getenv("NEAP_SPEC_HOLD")) nap(1e6); /* for a debugger */                                 \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

/* ---- What happens ------------------------------------------------------------------------------
 */

/* A worker dies at some moment of its pushes; the other one is told who it was. */
static void a_dead_worker_is_named(int times) {
  for (int i = 0; i < times; i++) {
    cast c;
    begin(&c, 2, NEAP_LOST_FAIL);
    worker_of(&c, 0, 0, "0", "");
    worker_of(&c, 1, 1, "0", "");
    SAYS(&c.workers[0], "sum 3.");
    nap(0.003 * (i % 20));
    process_forget(&c.workers[0]);
    double start = seconds_now();
    kill_one(&c.workers[1]);
    SAYS(&c.workers[0], "NEAP_ELOST");
    SAYS(&c.workers[0], "which died");
    CHECK(seconds_now() - start < 4 * timeout); /* with room for slow machines */
    char host[64] = "", text[96];
    gethostname(host, sizeof host - 1);
    snprintf(text, sizeof text, "worker 1 on host %s", host);
    CHECK(strstr(c.workers[0].said, text));
    SAYS(&c.workers[0], "closed");
    CHECK(process_wait(&c.workers[0]) == 0);
    SAYS(&c.servers[0], "over OK");
    end(&c);
  }
}

/* The others go on; each sum holds the dead one's push wholly or not at all, which the worker
 * itself checks. A new process of the rank joins and takes part. */
static void others_go_on_and_a_new_one_joins(int times) {
  cast c;
  begin(&c, 3, NEAP_LOST_CONTINUE);
  for (int i = 0; i < 3; i++) worker_of(&c, i, i, "0", "");
  for (int i = 0; i < times; i++) {
    SAYS(&c.workers[0], "sum 6.");
    SAYS(&c.workers[2], "sum 6."); /* it takes part in a round */
    nap(0.004 * (i % 10));
    kill_one(&c.workers[2]);
    process_forget(&c.workers[0]);
    SAYS(&c.workers[0], "sum 3.");
    process_forget(&c.workers[0]);
    process_forget(&c.workers[1]);
    worker_of(&c, 2, 2, "0", "");
  }
  SAYS(&c.workers[0], "sum 6.");
  CHECK(!strstr(c.workers[0].said, "ELOST"));
  end(&c);
}

static void a_dead_server_is_named(void) {
  cast c;
  begin(&c, 2, NEAP_LOST_FAIL);
  for (int i = 0; i < 2; i++) worker_of(&c, i, i, "0", "");
  SAYS(&c.workers[0], "sum 3.");
  double start = seconds_now();
  kill_one(&c.servers[0]);
  for (int i = 0; i < 2; i++) {
    SAYS(&c.workers[i], "NEAP_ELOST");
    CHECK(strstr(c.workers[i].said, "server 0"));
    SAYS(&c.workers[i], "closed");
  }
  CHECK(seconds_now() - start < 6 * timeout);
  end(&c);
}

static void training_goes_on_without_the_scheduler(void) {
  cast c;
  begin(&c, 2, NEAP_LOST_FAIL);
  for (int i = 0; i < 2; i++) worker_of(&c, i, i, "100", "slow barrier");
  SAYS(&c.workers[0], "sum 3.");
  kill_one(&c.scheduler);
  for (int i = 0; i < 2; i++) {
    process_forget(&c.workers[i]);
    for (int k = 0; k < 100 && !strstr(c.workers[i].said, "trained"); k++) {
      process_forget(&c.workers[i]);
      SAYS(&c.workers[i], "\n");
    }
    SAYS(&c.workers[i], "trained OK");
    SAYS(&c.workers[i], "barrier NEAP_ELOST the scheduler");
    SAYS(&c.workers[i], "closed");
  }
  SAYS(&c.servers[0], "over NEAP_ELOST"); /* when the last worker has gone */
  end(&c);
}

static void fewer_batches_end_cleanly(void) {
  cast c;
  begin(&c, 3, NEAP_LOST_FAIL);
  worker_of(&c, 0, 0, "4", "");
  worker_of(&c, 1, 1, "2", "");
  worker_of(&c, 2, 2, "6", "");
  for (int i = 0; i < 3; i++) {
    SAYS(&c.workers[i], "trained OK");
    SAYS(&c.workers[i], "closed");
    CHECK(process_wait(&c.workers[i]) == 0);
  }
  CHECK(strstr(c.workers[2].said, "sum 3.")); /* alone, at last */
  SAYS(&c.servers[0], "over OK");
  SAYS(&c.scheduler, "over OK");
  end(&c);
}

static void a_barrier_names_the_dead(void) {
  cast c;
  begin(&c, 2, NEAP_LOST_FAIL);
  worker_of(&c, 0, 0, "1", "barrier");
  worker_of(&c, 1, 1, "1", "stay");
  SAYS(&c.workers[0], "trained OK");
  SAYS(&c.workers[1], "sum 3.");
  nap(0.2);
  CHECK(!strstr(c.workers[0].said, "barrier"));
  kill_one(&c.workers[1]);
  SAYS(&c.workers[0], "barrier NEAP_ELOST barrier: worker 1");
  SAYS(&c.workers[0], "closed");
  end(&c);
}

static void they_start_in_any_order(void) {
  cast c;
  begin(&c, 2, NEAP_LOST_FAIL); /* for an address */
  kill_one(&c.servers[0]);
  kill_one(&c.scheduler);
  snprintf(c.limit, sizeof c.limit, "20");
  for (int i = 0; i < 2; i++) worker_of(&c, i, i, "2", "");
  nap(0.5);
  server_of(&c);
  nap(0.3);
  char uri[64];
  snprintf(uri, sizeof uri, "%s", c.uri);
  scheduler_at(&c, uri);
  for (int i = 0; i < 2; i++) {
    SAYS(&c.workers[i], "trained OK");
    SAYS(&c.workers[i], "closed");
  }
  SAYS(&c.scheduler, "over OK");
  end(&c);
}

static void a_rank_is_given_once(void) {
  cast c;
  begin(&c, 2, NEAP_LOST_FAIL);
  worker_of(&c, 0, 0, "0", "");
  worker_of(&c, 1, 1, "0", "");
  SAYS(&c.workers[0], "sum 3.");
  worker_of(&c, 2, 1, "0", "");
  SAYS(&c.workers[2], "joined NEAP_EEXIST");
  CHECK(strstr(c.workers[2].said, "worker 1 is here already, on host"));
  worker_of(&c, 3, -1, "0", "");
  SAYS(&c.workers[3], "joined NEAP_EEXIST");
  CHECK(strstr(c.workers[3].said, "all 2 workers of this job are here already"));
  process_forget(&c.workers[0]);
  SAYS(&c.workers[0], "sum 3."); /* nobody else noticed */
  end(&c);
}

static void secrets_are_checked(void) {
  cast c;
  setenv("NEAP_SECRET", "right", 1);
  begin(&c, 1, NEAP_LOST_FAIL);
  SAYS(&c.servers[0], "up OK");
  setenv("NEAP_SECRET", "wrong", 1);
  worker_of(&c, 0, 0, "1", "");
  SAYS(&c.workers[0], "joined NEAP_EDENIED");
  CHECK(strstr(c.workers[0].said, "refuses this process: it does not know the job's secret"));
  setenv("NEAP_SECRET", "right", 1);
  worker_of(&c, 1, 0, "1", "");
  SAYS(&c.workers[1], "trained OK");
  end(&c);
  unsetenv("NEAP_SECRET");
  neap_job_options o;
  neap_job_options_init(&o, sizeof o);
  o.root_uri = "tcp://0.0.0.0:0";
  neap_context *context = job_context();
  neap_scheduler *scheduler = NULL;
  CHECK(neap_scheduler_start(context, &o, &scheduler) == NEAP_EDENIED);
  CHECK(strstr(neap_error(), "NEAP_SECRET"));
  o.root_uri = "tcp://127.0.0.1:1";
  o.listen_uri = "tcp://0.0.0.0:0";
  neap_server *server = NULL;
  CHECK(neap_server_start(context, &o, &server) == NEAP_EDENIED);
  neap_context_close(context);
}

static void stopped_for_a_while(void) {
  cast c;
  begin(&c, 2, NEAP_LOST_FAIL);
  for (int i = 0; i < 2; i++) worker_of(&c, i, i, "0", "");
  process *three[] = {&c.workers[1], &c.servers[0], &c.scheduler};
  for (int i = 0; i < 3; i++) {
    process_forget(&c.workers[0]);
    SAYS(&c.workers[0], "sum 3.");
    process_kill(three[i], SIGSTOP);
    nap(timeout / 4);
    process_kill(three[i], SIGCONT);
    process_forget(&c.workers[0]);
    SAYS(&c.workers[0], "sum 3.");
  }
  end(&c);
}

static void stopped_for_too_long(void) {
  cast c;
  begin(&c, 3, NEAP_LOST_CONTINUE);
  for (int i = 0; i < 3; i++) worker_of(&c, i, i, "0", "");
  SAYS(&c.workers[0], "sum 6.");
  process_kill(&c.workers[2], SIGSTOP);
  process_forget(&c.workers[0]);
  SAYS(&c.workers[0], "sum 3.");
  process_kill(&c.workers[2], SIGCONT);
  process_forget(&c.workers[2]);
  for (int k = 0; k < 10 && !strstr(c.workers[2].said, "NEAP_ELOST"); k++)
    SAYS(&c.workers[2], "trained NEAP_ELOST");
  CHECK(strstr(c.workers[2].said, "worker 2 was given up: no sign of life"));
  SAYS(&c.workers[2], "closed");
  for (int k = 0; k < 5; k++) {
    process_forget(&c.workers[0]);
    SAYS(&c.workers[0], "sum 3.");
  }
  CHECK(!strstr(c.workers[0].said, "sum 6."));
  end(&c);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "scheduler") == 0) return be_scheduler(argv);
  if (argc > 1 && strcmp(argv[1], "server") == 0) return be_server(argv);
  if (argc > 1 && strcmp(argv[1], "worker") == 0) return be_worker(argv);
  bool thorough = getenv("NEAP_SPEC_LONG") != NULL;
  process_limit(thorough ? 900 : 280);
  setvbuf(stdout, NULL, _IOLBF, 0);
  double start = seconds_now();
#define RUN(what)                                                                                  \
  do {                                                                                             \
    double begun = seconds_now();                                                                  \
    what;                                                                                          \
    printf("%.1f s: %s\n", seconds_now() - begun, #what);                                          \
  } while (0)
  RUN(a_dead_worker_is_named(thorough ? 30 : 2));
  RUN(others_go_on_and_a_new_one_joins(thorough ? 40 : 2));
  RUN(a_dead_server_is_named());
  RUN(training_goes_on_without_the_scheduler());
  RUN(fewer_batches_end_cleanly());
  RUN(a_barrier_names_the_dead());
  RUN(they_start_in_any_order());
  RUN(a_rank_is_given_once());
  RUN(secrets_are_checked());
  RUN(stopped_for_a_while());
  RUN(stopped_for_too_long());
  printf("%.1f s\n", seconds_now() - start);
  return 0;
}
