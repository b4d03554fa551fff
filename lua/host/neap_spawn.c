/* SPDX-License-Identifier: MIT */
/* neap_spawn.c - see neap_spawn.h.
 *
 * Invariants:
 *  1. A child dies with this process, however that ends: the kernel sees to it here
 *     (PR_SET_PDEATHSIG), and on another host the end of ssh's input does (REMOTE).
 *  2. A child leads a process group, and what is left of that when it ends is ended too, while its
 *     number cannot be another's yet: before it is reaped (neap_child_reap).
 *  3. No secret is on a command line: here it is in the environment, over ssh the first line of the
 *     input. */
#define _GNU_SOURCE
#include "neap_spawn.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What launchers say of the process that they started, which is not so of those it starts. */
static const char *const outer[] = {
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "PMI_SIZE",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "JOB_COMPLETION_INDEX",
    "DMLC_ROLE",
    "DMLC_NUM_WORKER",
    "DMLC_NUM_SERVER",
    "DMLC_PS_ROOT_URI",
    "DMLC_PS_ROOT_PORT",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
};

/* For sh on the other host; $1 is the folder, $2 the seconds of grace, then comes the command,
 * which keeps the number $$ that sh had. The first line of the input is the secret, each other one
 * the name of a signal, and the end of input the end of the command. What is left of the process
 * group then (kill 0: of the one that reads the input, too) is killed. */
static const char REMOTE[] =
    "IFS= read -r NEAP_SECRET; export NEAP_SECRET; cd \"$1\" || exit 127; exec 3<&0 </dev/null; "
    "(trap '' INT TERM HUP; grace=$2; while read -r s <&3; do kill -s \"$s\" $$; done; "
    "kill -s TERM $$ && while [ $grace -gt 0 ] && kill -0 $$; do sleep 1; grace=$((grace - 1)); "
    "done; kill -s KILL 0) >/dev/null 2>&1 & exec 3<&-; shift 2; exec \"$@\"";

/* ---- Texts -------------------------------------------------------------------------------- */

/* A growing list of words. */
typedef struct words {
  char **at;
  int count;
} words;

static void add(words *w, char *word) {
  char **more = realloc(w->at, (size_t)(w->count + 2) * sizeof *more);
  if (!more || !word) _exit(127); /* only called in children */
  w->at = more;
  w->at[w->count++] = word;
  w->at[w->count] = NULL;
}

/* As a shell has to be told it. */
static char *quote(const char *word) {
  static const char plain[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=+@%-,";
  if (*word && strspn(word, plain) == strlen(word)) return strdup(word);
  char *out = malloc(4 * strlen(word) + 3), *o = out;
  if (!out) return NULL;
  *o++ = '\'';
  for (; *word; word++) {
    if (*word == '\'')
      o = stpcpy(o, "'\\''");
    else
      *o++ = *word;
  }
  *o++ = '\'';
  *o = 0;
  return out;
}

/* Neap's own variables that a process on another host gets too. */
static bool travels(const char *variable) {
  return strncmp(variable, "NEAP_", 5) == 0 && strncmp(variable, "NEAP_SECRET=", 12) != 0 &&
         strncmp(variable, "NEAP_ADMIN_SECRET=", 18) != 0 &&
         strncmp(variable, "NEAP_LIBRARY=", 13) != 0;
}

/* ssh HOST env NEAP_ROLE=... sh -c REMOTE neap FOLDER GRACE COMMAND ... */
static char **ssh_command(const neap_order *order) {
  words w = {0};
  char grace[16], *folder = getcwd(NULL, 0);
  snprintf(grace, sizeof grace, "%d", order->grace);
  add(&w, "ssh");
  add(&w, strdup(order->host));
  add(&w, "env");
  for (char **variable = environ; *variable; variable++)
    if (travels(*variable)) add(&w, quote(*variable));
  add(&w, "sh");
  add(&w, "-c");
  add(&w, quote(REMOTE));
  add(&w, "neap");
  add(&w, quote(folder ? folder : "."));
  add(&w, strdup(grace));
  for (char *const *word = order->argv; *word; word++) add(&w, quote(*word));
  return w.at;
}

/* ---- In the child ------------------------------------------------------------------------- */

static void set_environment(const neap_order *order) {
  for (size_t i = 0; i < sizeof outer / sizeof outer[0]; i++) unsetenv(outer[i]);
  for (char **variable = order->variables; *variable; variable++) putenv(*variable);
  setenv("NEAP_SECRET", order->secret, 1);
}

static void become(const neap_order *order, pid_t parent, int input) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127); /* it ended before that call */
  for (int s = 1; s < NSIG; s++)
    if (s != SIGKILL && s != SIGSTOP) signal(s, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  if (input < 0) input = open("/dev/null", O_RDONLY);
  dup2(input, 0);
  if (order->output >= 0) dup2(order->output, 1);
  set_environment(order);
  char *const *argv = order->argv;
  if (order->host) {
    argv = ssh_command(order);
    unsetenv("NEAP_SECRET");
  }
  execvp(argv[0], argv);
}

/* ---- In the parent ------------------------------------------------------------------------ */

static void say(int fd, const char *text) {
  if (write(fd, text, strlen(text)) < 0) return; /* its reader has ended, which is noticed anyway */
}

int neap_spawn(const neap_order *order, neap_child *out) {
  int failure[2], input[2] = {-1, -1};
  if (pipe2(failure, O_CLOEXEC) != 0) return errno;
  if (order->host && pipe2(input, O_CLOEXEC) != 0) return errno;
  pid_t parent = getpid(), pid = fork();
  if (pid < 0) return errno;
  if (pid == 0) {
    become(order, parent, input[0]);
    int why = errno;
    if (write(failure[1], &why, sizeof why) < 0) _exit(126);
    _exit(127);
  }
  setpgid(pid, pid); /* as the child does: whoever comes first */
  close(failure[1]);
  int why = 0;
  ssize_t got;
  do got = read(failure[0], &why, sizeof why);
  while (got < 0 && errno == EINTR);
  close(failure[0]);
  if (input[0] >= 0) close(input[0]);
  if (got > 0) {
    waitpid(pid, NULL, 0);
    if (input[1] >= 0) close(input[1]);
    return why;
  }
  *out = (neap_child){order->role, order->rank, pid, input[1]};
  if (order->host) {
    say(input[1], order->secret);
    say(input[1], "\n");
  }
  return 0;
}

static void close_lifeline(neap_child *child) {
  if (child->lifeline >= 0) close(child->lifeline);
  child->lifeline = -1;
}

void neap_child_signal(neap_child *child, int signal) {
  if (!child->pid) return;
  if (child->lifeline >= 0) {
    char line[16];
    snprintf(line, sizeof line, "%s\n", sigabbrev_np(signal));
    say(child->lifeline, line);
    if (signal != SIGKILL) return;
    close_lifeline(child);
  }
  kill(-child->pid, signal);
}

int neap_child_reap(neap_child *children, int count, neap_child **who) {
  siginfo_t info = {0};
  if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return -1;
  *who = NULL;
  for (int i = 0; i < count; i++)
    if (children[i].pid == info.si_pid) *who = &children[i];
  if (*who) kill(-info.si_pid, SIGKILL);
  waitpid(info.si_pid, NULL, 0);
  if (*who) {
    (*who)->pid = 0;
    close_lifeline(*who);
  }
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}
