/* SPDX-License-Identifier: MIT */
/* process.h - a test that starts itself again as scheduler, server or worker, so that these can be
 * killed. None is left behind: they die with the test, whatever ends it. */
#ifndef SPEC_PROCESS_H
#define SPEC_PROCESS_H

#include "spec/check.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_PROCESSES = 16, SAID = 4096 };

typedef struct process {
  pid_t pid;
  int from; /* its standard output */
  char said[SAID];
  size_t size;
} process;

static process *process_list[MOST_PROCESSES];

static void process_kill(process *p, int signal) {
  if (p->pid > 0) kill(p->pid, signal);
}

/* The exit status; -1: killed by a signal. */
static int process_wait(process *p) {
  int status = 0;
  if (p->pid <= 0) return -1;
  while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR) {
  }
  p->pid = 0;
  close(p->from);
  for (int i = 0; i < MOST_PROCESSES; i++)
    if (process_list[i] == p) process_list[i] = NULL;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void process_end_all(void) {
  for (int i = 0; i < MOST_PROCESSES; i++)
    if (process_list[i]) kill(process_list[i]->pid, SIGKILL);
}

/* In main(), first of all; seconds: the test's limit. */
static inline void process_limit(unsigned seconds) {
  alarm(seconds);
  atexit(process_end_all);
}

/* Starts this program with these arguments, ended by NULL. */
static inline void process_start(process *p, ...) {
  char *args[16] = {"/proc/self/exe"};
  va_list list;
  va_start(list, p);
  for (int i = 1; i < 15 && (args[i] = va_arg(list, char *)); i++) {
  }
  va_end(list);
  int ends[2];
  CHECK(pipe(ends) == 0);
  pid_t parent = getpid();
  fflush(NULL);
  p->pid = fork();
  CHECK(p->pid >= 0);
  if (p->pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(3);
    dup2(ends[1], 1);
    close(ends[0]);
    close(ends[1]);
    execv(args[0], args);
    _exit(3);
  }
  close(ends[1]);
  p->from = ends[0];
  p->size = 0;
  p->said[0] = 0;
  for (int i = 0; i < MOST_PROCESSES; i++)
    if (!process_list[i]) {
      process_list[i] = p;
      break;
    }
}

/* Waits until it has printed `text`; false when it ends or `seconds` pass before. */
static inline bool process_says(process *p, const char *text, double seconds) {
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (;;) {
    if (strstr(p->said, text)) return true;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double left = seconds - (double)(now.tv_sec - start.tv_sec) -
                  1e-9 * (double)(now.tv_nsec - start.tv_nsec);
    struct pollfd poll_in = {p->from, POLLIN, 0};
    if (left <= 0 || poll(&poll_in, 1, (int)(1000 * left) + 1) <= 0) return false;
    ssize_t n = read(p->from, p->said + p->size, SAID - 1 - p->size);
    if (n <= 0) return false;
    p->size += (size_t)n;
    p->said[p->size] = 0;
  }
}

/* What all of them have printed and not been asked for: when something went wrong. */
static inline void process_report(void) {
  for (int i = 0; i < MOST_PROCESSES; i++) {
    if (!process_list[i]) continue;
    (void)process_says(process_list[i], "\1", 0.05);
    fprintf(stderr, "-- process %d said:\n%s\n", (int)process_list[i]->pid, process_list[i]->said);
  }
}

static inline void process_forget(process *p) {
  p->size = 0;
  p->said[0] = 0;
}

#endif
