/* SPDX-License-Identifier: MIT */
/* proxy.h - stands between the processes of a job and spoils their connections: after some bytes
 * each is closed, reset or held up. One thread serves all addresses. */
#ifndef SPEC_PROXY_H
#define SPEC_PROXY_H

#include "spec/check.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DOORS = 8, PAIRS = 64, PIPE = 64 << 10 };

typedef struct pipe_buffer {
  size_t begin, end;
  char bytes[PIPE];
} pipe_buffer;

typedef struct pair {
  int fd[2]; /* the caller's and the target's; -1: free */
  int64_t budget;
  double held; /* until then nothing moves */
  pipe_buffer way[2];
} pair;

typedef struct proxy {
  pthread_t thread;
  int listeners[DOORS], doors;
  char uris[DOORS][64];
  atomic_int targets[DOORS]; /* ports */
  pair *pairs;
  uint64_t random;
  atomic_int cuts, wanted;
  atomic_int long_stalls; /* still wanted, */
  double long_stall;      /* of so many seconds */
  atomic_bool closing;
} proxy;

static double proxy_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t proxy_random(proxy *p, uint32_t below) {
  p->random = p->random * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(p->random >> 33) % below;
}

static int socket_for(int port, bool listens) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int bad = listens ? bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 64)
                    : connect(fd, (struct sockaddr *)&at, sizeof at);
  if (bad) {
    close(fd);
    return -1;
  }
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  return fd;
}

static int port_of_uri(const char *uri) {
  return atoi(strrchr(uri, ':') + 1);
}

/* Another address; its target is set when it is known. */
static inline const char *proxy_door(proxy *p) {
  struct sockaddr_in at;
  socklen_t size = sizeof at;
  CHECK(p->doors < DOORS);
  int fd = socket_for(0, true);
  CHECK(fd >= 0 && getsockname(fd, (struct sockaddr *)&at, &size) == 0);
  p->listeners[p->doors] = fd;
  snprintf(p->uris[p->doors], sizeof p->uris[0], "tcp://127.0.0.1:%d", ntohs(at.sin_port));
  return p->uris[p->doors++];
}

static void pair_close(pair *c, bool reset) {
  struct linger hard = {.l_onoff = 1, .l_linger = 0};
  for (int i = 0; i < 2; i++) {
    if (reset) setsockopt(c->fd[i], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(c->fd[i]);
  }
  c->fd[0] = c->fd[1] = -1;
}

/* A third of the accidents come early, within the greeting and the first frames. */
static int64_t some_budget(proxy *p) {
  return proxy_random(p, 3) ? proxy_random(p, 8 << 20) : proxy_random(p, 2000);
}

static void accident(proxy *p, pair *c) {
  c->budget = some_budget(p);
  if (atomic_load(&p->cuts) >= atomic_load(&p->wanted)) return;
  uint32_t kind = proxy_random(p, 5);
  if (kind == 4 && atomic_load(&p->long_stalls) > 0) {
    atomic_fetch_sub(&p->long_stalls, 1);
    c->held = proxy_now() + p->long_stall;
  } else if (kind == 4) {
    c->held = proxy_now() + 0.02;
  } else {
    pair_close(c, kind & 1);
    atomic_fetch_add(&p->cuts, 1);
  }
}

static void proxy_accept(proxy *p, int door) {
  int fd = accept(p->listeners[door], NULL, NULL);
  if (fd < 0) return;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  int port = atomic_load(&p->targets[door]);
  for (int i = 0; port && i < PAIRS; i++) {
    pair *c = &p->pairs[i];
    if (c->fd[0] >= 0) continue;
    int other = socket_for(port, false);
    if (other < 0) break;
    c->fd[0] = fd;
    c->fd[1] = other;
    c->held = 0;
    c->budget = some_budget(p);
    for (int k = 0; k < 2; k++) c->way[k].begin = c->way[k].end = 0;
    return;
  }
  close(fd);
}

/* Moves bytes from one side to the other; false when the pair is gone. */
static bool proxy_move(proxy *p, pair *c, int from) {
  pipe_buffer *b = &c->way[from];
  if (b->end < PIPE) {
    ssize_t n = recv(c->fd[from], b->bytes + b->end, PIPE - b->end, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
      pair_close(c, false);
      return false;
    }
    if (n > 0) b->end += (size_t)n;
  }
  size_t size = b->end - b->begin;
  bool last = (int64_t)size > c->budget;
  if (last) size = (size_t)c->budget;
  if (size) {
    ssize_t n = send(c->fd[1 - from], b->bytes + b->begin, size, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
      pair_close(c, false);
      return false;
    }
    if (n > 0) {
      b->begin += (size_t)n;
      c->budget -= n;
      last = last && (size_t)n == size;
    } else {
      last = false;
    }
  }
  if (b->begin == b->end) b->begin = b->end = 0;
  if (last) accident(p, c);
  return c->fd[0] >= 0;
}

static void *proxy_run(void *arg) {
  proxy *p = arg;
  static struct pollfd polls[DOORS + 2 * PAIRS];
  while (!atomic_load(&p->closing)) {
    int n = 0;
    double now = proxy_now();
    for (int i = 0; i < p->doors; i++) polls[n++] = (struct pollfd){p->listeners[i], POLLIN, 0};
    for (int i = 0; i < PAIRS; i++)
      for (int k = 0; k < 2 && p->pairs[i].fd[0] >= 0 && p->pairs[i].held <= now; k++) {
        const pair *c = &p->pairs[i];
        short events = c->way[k].end < PIPE ? POLLIN : 0;
        if (c->way[1 - k].end > c->way[1 - k].begin) events |= POLLOUT;
        polls[n++] = (struct pollfd){c->fd[k], events, 0};
      }
    poll(polls, (nfds_t)n, 5);
    for (int i = 0; i < p->doors; i++)
      if (polls[i].revents) proxy_accept(p, i);
    for (int i = 0; i < PAIRS; i++)
      for (int k = 0; k < 2; k++)
        if (p->pairs[i].fd[0] >= 0 && p->pairs[i].held <= now) proxy_move(p, &p->pairs[i], k);
  }
  return NULL;
}

static inline void proxy_start(proxy *p) {
  p->pairs = calloc(PAIRS, sizeof *p->pairs);
  CHECK(p->pairs);
  for (int i = 0; i < PAIRS; i++) p->pairs[i].fd[0] = p->pairs[i].fd[1] = -1;
  if (!p->random) p->random = 88172645463325252u;
  CHECK(pthread_create(&p->thread, NULL, proxy_run, p) == 0);
}

static inline void proxy_end(proxy *p) {
  atomic_store(&p->closing, true);
  pthread_join(p->thread, NULL);
  for (int i = 0; i < PAIRS; i++)
    if (p->pairs[i].fd[0] >= 0) pair_close(&p->pairs[i], false);
  for (int i = 0; i < p->doors; i++) close(p->listeners[i]);
  free(p->pairs);
}

#endif
