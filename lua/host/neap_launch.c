/* SPDX-License-Identifier: MIT */
/* neap_launch.c - `neap launch`: starts all processes of a job, and sees them end.
 *
 * This process has no threads and no part in the job: it starts the scheduler first, which tells it
 * the address, then servers and workers in any order. It ends when all of them have:
 *
 *   workers    end by themselves; or are told to, `grace` seconds after one of them failed, and
 *              killed another `grace` later. Signals are passed on to them, and after `grace` they
 *              are killed.
 *   servers    are told to end when there are no workers any more
 *   scheduler  when there are no servers any more */
#define _GNU_SOURCE
#include "neap_spawn.h"
#include "program.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
    "Usage: neap launch -n WORKERS [-s SERVERS] [OPTIONS] [--] COMMAND [ARGUMENT ...]\n"
    "\n"
    "Runs COMMAND as each worker of a job, with the job's servers and scheduler beside them:\n"
    "  neap launch -n 4 -s 2 luajit train.lua\n"
    "\n"
    "Options:\n"
    "  -n, --num-workers N   how many workers\n"
    "  -s, --num-servers N   how many servers; default 1\n"
    "      --hostfile FILE   deal workers and servers out to the hosts named in it, in turn, by\n"
    "                        `ssh HOST` without a password. A line: NAME [slots=N] "
    "[addr=ADDRESS];\n"
    "                        slots: processes in each turn; addr: where its servers listen, else\n"
    "                        NAME. The folder and Neap lie at the same place on all hosts\n"
    "  -r, --root-uri URI    the scheduler's address, on this host: else a port of 127.0.0.1, or\n"
    "                        with --hostfile of the address that faces the first host\n"
    "      --grace SECONDS   how long workers have to end before they are told to, or killed,\n"
    "                        when one has failed, or after a signal; default 5\n"
    "      --help\n"
    "\n"
    "COMMAND gets NEAP_ROLE, NEAP_RANK, NEAP_LOCAL_RANK, NEAP_NUM_WORKERS, NEAP_NUM_SERVERS,\n"
    "NEAP_ROOT_URI and NEAP_SECRET, made up here unless it is set. Its input is empty. Servers "
    "and\n"
    "workers heed NEAP_TIMEOUT, NEAP_ON_WORKER_LOST (fail or continue), NEAP_LOG and others.\n"
    "\n"
    "SIGINT, SIGTERM and SIGHUP are passed on to the workers; the second one kills all. The exit\n"
    "status is that of the first worker that failed: its own, or 128 and its signal.\n";

typedef struct job {
  /* What is asked for. */
  int num_workers, num_servers;
  double grace;
  const char *hostfile, *root_uri, *secret;
  char **command;
  bool goes_on; /* when a worker is lost */

  neap_places places; /* none: all is on this host */
  bool far;           /* the scheduler's address is for other hosts, too */
  char uri[512], made_secret[33];
  char here[256];

  neap_child *children; /* the scheduler, servers, workers */
  int count, first_worker;
  int status;             /* of the first that failed */
  double end_at, kill_at; /* when workers are told to end; when all are killed. INFINITY: not yet */
  int signals;            /* that came so far */
  bool workers_gone, servers_gone;
} job;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double least(double a, double b) {
  return a < b ? a : b;
}

/* ---- The command line --------------------------------------------------------------------- */

enum { LONG_HOSTFILE = 256, LONG_GRACE, LONG_HELP };

static const struct option long_options[] = {
    {"num-workers", required_argument, NULL, 'n'},
    {"num-servers", required_argument, NULL, 's'},
    {"root-uri", required_argument, NULL, 'r'},
    {"hostfile", required_argument, NULL, LONG_HOSTFILE},
    {"grace", required_argument, NULL, LONG_GRACE},
    {"help", no_argument, NULL, LONG_HELP},
    {0},
};

static bool read_count(const char *text, int *out) {
  double value;
  if (!neap_read_number(text, 1, 10000, &value) || value != floor(value)) return false;
  *out = (int)value;
  return true;
}

/* -1 to go on, or the exit status. */
static int read_options(int argc, char **argv, job *j) {
  argv[0] = "neap launch"; /* for getopt's own complaints */
  for (int option; (option = getopt_long(argc, argv, "+n:s:r:h", long_options, NULL)) != -1;)
    switch (option) {
    case 'n':
      if (!read_count(optarg, &j->num_workers))
        return neap_misuse("launch", "-n %s: a number of workers from 1 is wanted", optarg);
      break;
    case 's':
      if (!read_count(optarg, &j->num_servers))
        return neap_misuse("launch", "-s %s: a number of servers from 1 is wanted", optarg);
      break;
    case 'r':
      j->root_uri = optarg;
      break;
    case LONG_HOSTFILE:
      j->hostfile = optarg;
      break;
    case LONG_GRACE:
      if (!neap_read_number(optarg, 0, 86400, &j->grace))
        return neap_misuse("launch", "--grace %s: a number of seconds from 0 is wanted", optarg);
      break;
    case 'h':
    case LONG_HELP:
      fputs(help, stdout);
      return 0;
    default:
      fputs("Try: neap launch --help\n", stderr);
      return NEAP_EXIT_USAGE;
    }
  j->command = argv + optind;
  if (!j->num_workers) return neap_misuse("launch", "how many workers? -n 4");
  if (!*j->command) return neap_misuse("launch", "which command shall the workers run?");
  return -1;
}

/* ---- Starting ----------------------------------------------------------------------------- */

static int make_secret(job *j) {
  unsigned char bytes[16];
  const char *given = getenv("NEAP_SECRET");
  j->secret = given && *given ? given : j->made_secret;
  if (j->secret == given) return 0;
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    return neap_complain("launch", "no random numbers for a secret: %s", strerror(errno));
  for (size_t i = 0; i < sizeof bytes; i++) snprintf(j->made_secret + 2 * i, 3, "%02x", bytes[i]);
  return 0;
}

static int find_places(job *j) {
  char error[512];
  if (j->hostfile && !neap_places_read(j->hostfile, &j->places, error, sizeof error))
    return neap_complain("launch", "--hostfile: %s", error);
  snprintf(j->here, sizeof j->here, "127.0.0.1");
  if (j->hostfile) neap_own_address(&j->places, j->here, sizeof j->here);
  if (j->root_uri)
    snprintf(j->uri, sizeof j->uri, "%s", j->root_uri);
  else
    snprintf(j->uri, sizeof j->uri, "tcp://%s:0", j->here);
  return 0;
}

static const char *text_of(char *out, size_t size, const char *name, int number) {
  snprintf(out, size, "%s=%d", name, number);
  return out;
}

static const char *title(const neap_child *child, char out[64]) {
  if (child->rank < 0)
    snprintf(out, 64, "the %s", child->role);
  else
    snprintf(out, 64, "%s %d", child->role, child->rank);
  return out;
}

/* The turn'th process of servers or workers; host NULL: this one. */
static int spawn(job *j, const char *role, int rank, char *const *argv, int turn, int output) {
  char texts[7][640];
  char *variables[8] = {0};
  neap_place *place = NULL;
  if (j->hostfile && turn >= 0)
    place = &j->places.hosts[j->places.turns[turn % j->places.num_turns]];
  int local = place ? place->processes++ : rank, n = 0;
  snprintf(texts[n++], sizeof texts[0], "NEAP_ROLE=%s", role);
  snprintf(texts[n++], sizeof texts[0], "NEAP_ROOT_URI=%s", j->uri);
  text_of(texts[n++], sizeof texts[0], "NEAP_NUM_WORKERS", j->num_workers);
  text_of(texts[n++], sizeof texts[0], "NEAP_NUM_SERVERS", j->num_servers);
  text_of(texts[n++], sizeof texts[0], "NEAP_RANK", rank < 0 ? 0 : rank);
  text_of(texts[n++], sizeof texts[0], "NEAP_LOCAL_RANK", local < 0 ? 0 : local);
  if (place && j->far && strcmp(role, "server") == 0 && !getenv("NEAP_LISTEN_URI"))
    snprintf(texts[n++], sizeof texts[0], "NEAP_LISTEN_URI=%.*s%s:0",
             (int)(strstr(j->uri, "//") + 2 - j->uri), j->uri, place->address);
  for (int i = 0; i < n; i++) variables[i] = texts[i];
  neap_order order = {role,      rank,
                      argv,      variables,
                      j->secret, place ? place->name : NULL,
                      output,    (int)ceil(j->grace)};
  int why = neap_spawn(&order, &j->children[j->count]);
  if (why == 0) {
    j->count++;
    return 0;
  }
  neap_complain("launch", "cannot run %s: %s", place ? "ssh" : argv[0], strerror(why));
  return NEAP_EXIT_CANNOT_RUN;
}

/* Reads the address that the scheduler prints. 0, or an exit status when it prints none. */
static int read_uri(job *j, int from) {
  static const char name[] = "NEAP_ROOT_URI=";
  char line[sizeof j->uri + sizeof name];
  size_t n = 0;
  double until = now() + 30;
  while (n + 1 < sizeof line && !memchr(line, '\n', n)) {
    struct pollfd wait = {from, POLLIN, 0};
    double left = until - now();
    if (left <= 0) return neap_complain("launch", "the scheduler has not started within 30 s");
    if (poll(&wait, 1, (int)(left * 1000) + 1) < 0 && errno != EINTR) break;
    if (!wait.revents) continue;
    ssize_t got = read(from, line + n, sizeof line - 1 - n);
    if (got <= 0) break;
    n += (size_t)got;
  }
  line[n] = 0;
  char *end = strchr(line, '\n');
  if (!end || strncmp(line, name, sizeof name - 1) != 0)
    return neap_complain("launch", "the scheduler has not started");
  *end = 0;
  snprintf(j->uri, sizeof j->uri, "%.*s", (int)sizeof j->uri - 1, line + sizeof name - 1);
  return 0;
}

static int start_scheduler(job *j) {
  char *argv[] = {(char *)neap_program_file(), "scheduler", NULL};
  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0) return neap_complain("launch", "pipe: %s", strerror(errno));
  int status = spawn(j, "scheduler", -1, argv, -1, out[1]);
  close(out[1]);
  if (status == 0) status = read_uri(j, out[0]);
  close(out[0]);
  return status;
}

static bool others_reach(const char *uri) {
  const char *host = strstr(uri, "tcp://");
  if (!host) return false;
  host += strlen("tcp://");
  return strncmp(host, "127.", 4) != 0 && strncmp(host, "localhost:", 10) != 0 &&
         strncmp(host, "[::1]", 5) != 0;
}

/* Each host gets its turns of workers first, so that servers begin where workers left off. */
static int start_all(job *j) {
  char *server[] = {(char *)neap_program_file(), "server", NULL};
  int status = start_scheduler(j);
  j->far = others_reach(j->uri);
  for (int i = 0; i < j->num_servers && status == 0; i++)
    status = spawn(j, "server", i, server, j->num_workers + i, -1);
  for (int i = 0; i < j->places.num_hosts; i++) j->places.hosts[i].processes = 0;
  j->first_worker = j->count;
  for (int i = 0; i < j->num_workers && status == 0; i++)
    status = spawn(j, "worker", i, j->command, i, -1);
  return status;
}

/* ---- Ending ------------------------------------------------------------------------------- */

static void tell(job *j, int first, int end, int signal) {
  for (int i = first; i < end; i++) neap_child_signal(&j->children[i], signal);
}

static bool alive(const job *j, int first, int end) {
  for (int i = first; i < end; i++)
    if (j->children[i].pid) return true;
  return false;
}

static void say_how(const job *j, const neap_child *child, int status, const char *then) {
  char who[64], how[64];
  if (status > 128 && status < 128 + NSIG && sigabbrev_np(status - 128))
    snprintf(how, sizeof how, "status %d (SIG%s)", status, sigabbrev_np(status - 128));
  else
    snprintf(how, sizeof how, "status %d", status);
  neap_complain("launch", "%s ended with %s%s", title(child, who), how, then);
}

/* Whoever ends with a status other than 0 has failed, unless it was told to end. */
static void ended(job *j, const neap_child *child, int status) {
  bool is_worker = child - j->children >= j->first_worker;
  bool told = j->kill_at == -INFINITY || (is_worker ? j->end_at == -INFINITY : j->workers_gone);
  if (status == 0 || (told && j->status)) return;
  if (told && status == 128 + SIGTERM) return; /* it had hardly begun */
  if (!j->status) j->status = status;
  if (is_worker && j->signals) return; /* as it was told */
  char then[64] = "";
  bool others = alive(j, is_worker ? j->first_worker : 0, j->count);
  if (j->goes_on && is_worker)
    snprintf(then, sizeof then, others ? "; the others go on" : "");
  else if (!isfinite(j->kill_at) && j->kill_at > 0) {
    j->end_at = now() + j->grace;
    j->kill_at = j->end_at + j->grace;
    if (others) snprintf(then, sizeof then, "; the others have %g s to end", j->grace);
  }
  say_how(j, child, status, then);
}

static void reap(job *j) {
  neap_child *child;
  for (int status; (status = neap_child_reap(j->children, j->count, &child)) >= 0;)
    if (child) ended(j, child, status);
}

static void pass_on(job *j, int signal) {
  if (signal == SIGCHLD) return;
  j->signals++;
  tell(j, j->first_worker, j->count, signal);
  j->kill_at = j->signals > 1 ? now() : least(j->kill_at, now() + j->grace);
}

/* What is due by now. */
static void advance(job *j) {
  double t = now();
  if (!j->workers_gone && !alive(j, j->first_worker, j->count)) {
    j->workers_gone = true;
    j->end_at = INFINITY;
    if (j->kill_at != -INFINITY) j->kill_at = t + j->grace + 1;
    tell(j, 1, j->first_worker, SIGTERM);
  }
  if (j->workers_gone && !j->servers_gone && !alive(j, 1, j->first_worker)) {
    j->servers_gone = true;
    tell(j, 0, 1, SIGTERM);
  }
  if (j->end_at <= t && j->end_at > 0) {
    j->end_at = -INFINITY;
    tell(j, j->first_worker, j->count, SIGTERM);
  }
  if (j->kill_at <= t && j->kill_at > 0) {
    j->kill_at = -INFINITY;
    tell(j, 0, j->count, SIGKILL);
  }
}

/* Waits for a signal, at most until something is due. */
static void wait_for_signal(job *j, const sigset_t *signals) {
  double due = INFINITY, seconds = 60;
  if (j->end_at > 0) due = least(due, j->end_at);
  if (j->kill_at > 0) due = least(due, j->kill_at);
  seconds = least(seconds, due - now());
  if (seconds < 0) seconds = 0;
  struct timespec wait = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
  int signal = sigtimedwait(signals, NULL, &wait);
  if (signal > 0) pass_on(j, signal);
}

int neap_command_launch(int argc, char **argv) {
  job j = {.num_servers = 1, .grace = 5, .end_at = INFINITY, .kill_at = INFINITY};
  const char *lost = getenv("NEAP_ON_WORKER_LOST");
  int status = read_options(argc, argv, &j);
  if (status >= 0) return status;
  j.goes_on = lost && strcmp(lost, "continue") == 0;
  neap_at_hand();
  if ((status = make_secret(&j)) || (status = find_places(&j))) return status;
  j.children = calloc((size_t)(1 + j.num_servers + j.num_workers), sizeof *j.children);
  if (!j.children) return neap_complain("launch", "no memory");

  sigset_t signals;
  sigemptyset(&signals);
  int wanted[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
  bool nohup = signal(SIGHUP, SIG_IGN) == SIG_IGN;
  for (int i = 0; i < (nohup ? 3 : 4); i++) sigaddset(&signals, wanted[i]);
  sigprocmask(SIG_BLOCK, &signals, NULL); /* they wait until they are asked for */
  signal(SIGCHLD, SIG_DFL);
  signal(SIGPIPE, SIG_IGN);

  j.status = start_all(&j);
  if (j.status) { /* nothing that has begun goes on */
    j.first_worker = j.first_worker ? j.first_worker : j.count;
    j.kill_at = now();
  }
  for (;;) {
    reap(&j);
    advance(&j);
    if (!alive(&j, 0, j.count)) break;
    wait_for_signal(&j, &signals);
  }
  free(j.children);
  neap_places_free(&j.places);
  return j.status;
}
