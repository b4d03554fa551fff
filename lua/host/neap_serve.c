/* SPDX-License-Identifier: MIT */
/* neap_serve.c - `neap server` and `neap scheduler`: one process of a job.
 *
 * Options are names of environment variables: what is given is put into the environment, and all
 * is read from there (neap_job_options_env), so that both ways mean the same. */
#define _GNU_SOURCE
#include "neap.h"
#include "neap_host.h"
#include "program.h"
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OPTIONS                                                                                    \
  "Options, and the environment variables that do the same:\n"                                     \
  "  -r, --root-uri URI     NEAP_ROOT_URI     where the scheduler is: tcp://10.0.0.1:9091\n"       \
  "  -n, --num-workers N    NEAP_NUM_WORKERS\n"                                                    \
  "  -s, --num-servers N    NEAP_NUM_SERVERS\n"                                                    \
  "      --timeout SECONDS  NEAP_TIMEOUT      without a sign of life a process counts as dead: "   \
  "60\n"                                                                                           \
  "      --log LEVEL        NEAP_LOG          error, warn (the default), info or debug\n"
#define REST                                                                                       \
  "                         NEAP_SECRET       what all processes of a job know; needed unless "    \
  "all\n"                                                                                          \
  "                                           addresses are on this host\n"                        \
  "                         NEAP_TLS_CA, NEAP_TLS_CERT   files, for tls+tcp://\n"                  \
  "      --help\n"                                                                                 \
  "\n"                                                                                             \
  "SIGTERM and SIGINT end it in order, with status 0.\n"

static const char server_help[] =
    "Usage: neap server [OPTIONS]\n"
    "\n"
    "A server of a job: holds a share of the keys. Ends when all workers have left.\n"
    "\n" OPTIONS
    "      --rank N           NEAP_RANK         of this server; else the scheduler gives one\n"
    "  -l, --listen-uri URI   NEAP_LISTEN_URI   where workers reach it: like the root, any "
    "port\n" REST "\n"
    "Commands of send_command_to_servers() are refused; for a controller of your own start the\n"
    "server from Lua: neap.server.start { controller = ... }.\n";

static const char scheduler_help[] =
    "Usage: neap scheduler [OPTIONS]\n"
    "\n"
    "The scheduler of a job: introduces servers and workers to each other. Ends when all workers\n"
    "have left. Prints NEAP_ROOT_URI=, its address; with port 0 the system chooses one.\n"
    "\n" OPTIONS REST;

enum { LONG_TIMEOUT = 256, LONG_LOG, LONG_RANK, LONG_HELP };

static const struct option long_options[] = {
    {"root-uri", required_argument, NULL, 'r'},
    {"num-workers", required_argument, NULL, 'n'},
    {"num-servers", required_argument, NULL, 's'},
    {"listen-uri", required_argument, NULL, 'l'},
    {"timeout", required_argument, NULL, LONG_TIMEOUT},
    {"log", required_argument, NULL, LONG_LOG},
    {"rank", required_argument, NULL, LONG_RANK},
    {"help", no_argument, NULL, LONG_HELP},
    {0},
};

static const char *variable_of(int option) {
  switch (option) {
  case 'r':
    return "NEAP_ROOT_URI";
  case 'n':
    return "NEAP_NUM_WORKERS";
  case 's':
    return "NEAP_NUM_SERVERS";
  case 'l':
    return "NEAP_LISTEN_URI";
  case LONG_TIMEOUT:
    return "NEAP_TIMEOUT";
  case LONG_LOG:
    return "NEAP_LOG";
  case LONG_RANK:
    return "NEAP_RANK";
  default:
    return NULL;
  }
}

/* -1 to go on, or the exit status. */
static int read_options(int argc, char **argv, bool is_server) {
  const char *name = argv[0];
  argv[0] = is_server ? "neap server" : "neap scheduler"; /* for getopt's own complaints */
  for (int option; (option = getopt_long(argc, argv, "r:n:s:l:h", long_options, NULL)) != -1;) {
    if (option == LONG_HELP || option == 'h') {
      fputs(is_server ? server_help : scheduler_help, stdout);
      return 0;
    }
    const char *variable = variable_of(option);
    if (!variable) {
      fprintf(stderr, "Try: neap %s --help\n", name);
      return NEAP_EXIT_USAGE;
    }
    setenv(variable, optarg, 1);
  }
  if (optind < argc) return neap_misuse(name, "what is '%s'?", argv[optind]);
  return -1;
}

/* ---- Running ----------------------------------------------------------------------------- */

typedef struct process {
  const char *name; /* of the command */
  neap_host_lines log;
  neap_context *context;
  neap_host *host;
  neap_server *server; /* one of these */
  neap_scheduler *scheduler;
} process;

static int failed(const process *p) {
  return neap_complain(p->name, "%s", neap_error());
}

static int start(process *p, neap_job_options *job, bool is_server) {
  neap_options options;
  neap_options_init(&options, sizeof options);
  options.log = neap_host_log;
  options.user = &p->log;
  if (neap_options_env(&options) != NEAP_OK) return failed(p);
  if (!is_server) options.num_threads = 0; /* it computes nothing */
  if (neap_context_create(&options, &p->context) != NEAP_OK) return failed(p);
  if (!is_server) {
    if (neap_scheduler_start(p->context, job, &p->scheduler) != NEAP_OK) return failed(p);
    printf("NEAP_ROOT_URI=%s\n", neap_scheduler_uri(p->scheduler));
    fflush(stdout);
    return 0;
  }
  char error[512];
  if (neap_host_create(NULL, &p->host, error, sizeof error) != NEAP_OK)
    return neap_complain(p->name, "%s", error);
  job->scripts = neap_host_scripts(p->host);
  if (neap_server_start(p->context, job, &p->server) != NEAP_OK) return failed(p);
  return 0;
}

/* One step of at most `seconds`: NEAP_ETIMEOUT while there is more to come. */
static int step(process *p, double seconds) {
  return p->scheduler ? neap_scheduler_wait(p->scheduler, seconds)
                      : neap_server_wait(p->server, seconds);
}

/* Until the job is over or a signal comes; these are blocked, so that no thread gets them. */
static int wait_for_end(process *p, const sigset_t *signals) {
  const struct timespec at_once = {0, 0};
  for (;;) {
    int status = step(p, 0.05);
    if (status == NEAP_OK) return 0;
    if (status != NEAP_ETIMEOUT) return failed(p);
    int signal = sigtimedwait(signals, NULL, &at_once);
    if (signal > 0) {
      char text[64];
      snprintf(text, sizeof text, "ends: %s", strsignal(signal));
      neap_host_log(&p->log, NEAP_LOG_INFO, text);
      return 0;
    }
  }
}

static void close_all(process *p) {
  neap_server_close(p->server);
  neap_scheduler_close(p->scheduler);
  neap_host_close(p->host);
  neap_context_close(p->context);
}

int neap_command_serve(int argc, char **argv) {
  bool is_server = strcmp(argv[0], "server") == 0;
  process p = {.name = argv[0], .log = {.level = NEAP_LOG_WARN}};
  snprintf(p.log.name, sizeof p.log.name, "neap %s", argv[0]);
  int status = read_options(argc, argv, is_server);
  if (status >= 0) return status;

  neap_job_options job;
  neap_job_place place = {.size = sizeof place,
                          .role = is_server ? NEAP_ROLE_SERVER : NEAP_ROLE_SCHEDULER};
  neap_job_options_init(&job, sizeof job);
  if (neap_job_options_env(&job, NULL, &place) != NEAP_OK) return failed(&p);
  p.log.level = place.log_level;
  neap_host_log(&p.log, NEAP_LOG_INFO, place.how);

  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigprocmask(SIG_BLOCK, &signals, NULL); /* before there are threads */
  status = start(&p, &job, is_server);
  if (status == 0) status = wait_for_end(&p, &signals);
  close_all(&p);
  return status;
}
