/* SPDX-License-Identifier: MIT */
/* net_bench.c - what stores across processes make of the wire: pushes and pulls of large values
 * against raw TCP streams, small ones against a raw round trip, on loopback; and on a wire of
 * 1 Gbit/s between two network namespaces, where that is permitted.
 *
 * The raw figures are plain blocking sockets, send() and recv() with a buffer of 4 MiB, to another
 * process, in turn with the store. The server and the raw sockets' other end are this program
 * again; the scheduler and the workers live in this process. One worker in step and no optimizer:
 * a round is one push. */
#define _GNU_SOURCE
#include "bench.h"
#include "engine/neap.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define OK(call)                                                                                   \
  do {                                                                                             \
    if ((call) != NEAP_OK) {                                                                       \
      fprintf(stderr, "%s: %s\n", #call, neap_error());                                            \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

#define SYS(call)                                                                                  \
  do {                                                                                             \
    if ((call) < 0) {                                                                              \
      perror(#call);                                                                               \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

enum {
  KB = 1 << 10,
  MB = 1 << 20,
  VALUE = 4 * MB,
  KEYS = 8,   /* of that size, in flight at once */
  TIMES = 48, /* values that a round moves */
  SMALL = 64, /* bytes */
  MANY = 64,  /* keys of that size */
  TRIPS = 2000,
  PUSHES = 100000,
  ROUNDS = 9,
};

/* ---- Raw sockets ----------------------------------------------------------------------------- */

/* What the other end is asked for. Sockets: [0] carries orders, and bytes to it; [1] bytes back. */
typedef struct order {
  uint64_t sink, source; /* bytes to it, bytes back, both at once */
  uint64_t echoes, cpu;  /* round trips of SMALL; on this CPU, unless it is ANY */
} order;

enum { ANY = 1 << 16 };

/* Where this thread runs. */
static void run_on(uint64_t cpu) {
  static cpu_set_t all;
  cpu_set_t one;
  if (!CPU_COUNT(&all)) SYS(sched_getaffinity(0, sizeof all, &all));
  CPU_ZERO(&one);
  if (cpu != ANY) CPU_SET(cpu, &one);
  (void)sched_setaffinity(0, sizeof one, cpu == ANY ? &all : &one); /* not there: as before */
}

static void send_bytes(int fd, uint64_t bytes) {
  static char buffer[VALUE]; /* written to, so that it is memory and not one page of zeros */
  if (!buffer[0]) memset(buffer, 1, sizeof buffer);
  while (bytes) {
    ssize_t n = send(fd, buffer, bytes < sizeof buffer ? bytes : sizeof buffer, MSG_NOSIGNAL);
    SYS(n);
    bytes -= (uint64_t)n;
  }
}

static void receive_bytes(int fd, uint64_t bytes) {
  static char *buffer;
  if (!buffer) buffer = calloc(1, VALUE);
  while (bytes) {
    ssize_t n = recv(fd, buffer, bytes < VALUE ? bytes : VALUE, 0);
    SYS(n);
    if (!n) exit(0); /* the other side is through */
    bytes -= (uint64_t)n;
  }
}

typedef struct sending {
  int fd;
  uint64_t bytes;
} sending;

static void *send_main(void *arg) {
  const sending *s = arg;
  send_bytes(s->fd, s->bytes);
  return NULL;
}

static void both_ways(int out, uint64_t send, int in, uint64_t receive) {
  sending s = {out, send};
  pthread_t thread;
  bool two = send && receive;
  if (two && pthread_create(&thread, NULL, send_main, &s)) exit(1);
  if (!two) send_bytes(out, send);
  receive_bytes(in, receive);
  if (two) pthread_join(thread, NULL);
}

static int raw_main(const char *address, int port) {
  int fds[2];
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  inet_pton(AF_INET, address, &to.sin_addr);
  for (int i = 0; i < 2; i++) {
    SYS(fds[i] = socket(AF_INET, SOCK_STREAM, 0));
    SYS(connect(fds[i], (struct sockaddr *)&to, sizeof to));
    SYS(setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
  }
  for (order o;;) {
    char small[SMALL];
    if (recv(fds[0], &o, sizeof o, MSG_WAITALL) != sizeof o) return 0;
    both_ways(fds[1], o.source, fds[0], o.sink);
    if (o.sink) send_bytes(fds[0], 1); /* all is here */
    if (o.echoes) run_on(o.cpu);
    for (uint64_t i = 0; i < o.echoes; i++) {
      if (recv(fds[0], small, SMALL, MSG_WAITALL) != SMALL) return 0;
      if (send(fds[0], small, SMALL, MSG_NOSIGNAL) != SMALL) return 0;
    }
  }
}

/* Seconds. */
static double raw(const int *fds, uint64_t out, uint64_t back) {
  order o = {.sink = out, .source = back};
  double start = bench_now();
  SYS(send(fds[0], &o, sizeof o, MSG_NOSIGNAL));
  both_ways(fds[0], out, fds[1], back);
  if (out) receive_bytes(fds[0], 1);
  return bench_now() - start;
}

/* Seconds of the median round trip; with an end on each of two CPUs, or wherever the system puts
 * them: on one, as a rule, if there is nothing else to do. */
static double raw_trip(const int *fds, bool apart) {
  static double trips[TRIPS];
  order o = {.echoes = TRIPS, .cpu = apart ? 1 : ANY};
  run_on(apart ? 0 : ANY);
  SYS(send(fds[0], &o, sizeof o, MSG_NOSIGNAL));
  for (int i = 0; i < TRIPS; i++) {
    double start = bench_now();
    send_bytes(fds[0], SMALL);
    receive_bytes(fds[0], SMALL);
    trips[i] = bench_now() - start;
  }
  run_on(ANY);
  qsort(trips, TRIPS, sizeof *trips, bench_compare);
  return trips[TRIPS / 2];
}

/* ---- Other processes ------------------------------------------------------------------------- */

/* Starts this program again, by another one where that is needed: `before` is NULL-ended. */
static pid_t start(const char *const *before, const char *what, const char *address,
                   const char *number) {
  char self[4096];
  const char *args[16];
  int count = 0;
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  SYS(length);
  self[length] = 0;
  while (before && before[count]) {
    args[count] = before[count];
    count++;
  }
  args[count++] = self;
  args[count++] = what;
  args[count++] = address;
  args[count++] = number;
  args[count] = NULL;
  pid_t pid;
  if (posix_spawnp(&pid, args[0], NULL, NULL, (char *const *)(uintptr_t)args, environ)) {
    fprintf(stderr, "%s cannot be started\n", args[0]);
    exit(1);
  }
  return pid;
}

static pid_t start_raw(const char *const *before, const char *address, int fds[2]) {
  struct sockaddr_in at = {.sin_family = AF_INET};
  socklen_t size = sizeof at;
  char port[16];
  int listener;
  inet_pton(AF_INET, address, &at.sin_addr);
  SYS(listener = socket(AF_INET, SOCK_STREAM, 0));
  SYS(bind(listener, (struct sockaddr *)&at, size));
  SYS(listen(listener, 2));
  SYS(getsockname(listener, (struct sockaddr *)&at, &size));
  snprintf(port, sizeof port, "%d", ntohs(at.sin_port));
  pid_t pid = start(before, "raw", address, port);
  for (int i = 0; i < 2; i++) {
    SYS(fds[i] = accept(listener, NULL, NULL));
    SYS(setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
  }
  close(listener);
  return pid;
}

static neap_job_options job_options(const char *root, int workers) {
  neap_job_options options;
  neap_job_options_init(&options, sizeof options);
  options.root_uri = root;
  options.num_workers = workers;
  options.num_servers = 1;
  options.bigarray_bound = INT64_MAX;
  options.secret = "net_bench";
  return options;
}

static int server_main(const char *root, int workers) {
  neap_context *context = NULL;
  neap_server *server = NULL;
  neap_job_options options = job_options(root, workers);
  char listen_uri[128];
  if (getenv("NET_BENCH_LISTEN")) {
    snprintf(listen_uri, sizeof listen_uri, "tcp://%s:0", getenv("NET_BENCH_LISTEN"));
    options.listen_uri = listen_uri;
  }
  OK(neap_context_create(NULL, &context));
  OK(neap_server_start(context, &options, &server));
  OK(neap_server_wait(server, -1));
  neap_server_close(server);
  neap_context_close(context);
  return 0;
}

/* ---- A job ------------------------------------------------------------------------------------
 */

enum { WORKERS = 2 };

typedef struct job {
  int workers;
  neap_context *context;
  neap_scheduler *scheduler;
  neap_store *stores[WORKERS];
  pid_t server;
} job;

static void job_start(job *j, const char *const *before, const char *address, int workers) {
  char root[128], number[16];
  snprintf(root, sizeof root, "tcp://%s:0", address);
  snprintf(number, sizeof number, "%d", workers);
  neap_job_options options = job_options(root, workers);
  *j = (job){.workers = workers};
  OK(neap_context_create(NULL, &j->context));
  OK(neap_scheduler_start(j->context, &options, &j->scheduler));
  options.root_uri = neap_scheduler_uri(j->scheduler);
  j->server = start(before, "server", options.root_uri, number);
  for (int i = 0; i < workers; i++) {
    options.rank = i;
    OK(neap_store_join(j->context, "dist_sync", &options, &j->stores[i]));
  }
}

static void *leave_main(void *store) {
  neap_store_close(store);
  return NULL;
}

static void job_end(job *j) {
  pthread_t threads[WORKERS];
  for (int i = 0; i < j->workers; i++)
    if (pthread_create(&threads[i], NULL, leave_main, j->stores[i])) exit(1);
  for (int i = 0; i < j->workers; i++) pthread_join(threads[i], NULL);
  waitpid(j->server, NULL, 0);
  neap_scheduler_close(j->scheduler);
  neap_context_close(j->context);
}

static neap_array *make(job *j, int64_t bytes) {
  int64_t shape = bytes / (int64_t)sizeof(float);
  neap_array *array = NULL;
  OK(neap_array_create(j->context, NEAP_FLOAT32, 1, &shape, NEAP_CPU, 0, &array));
  OK(neap_array_fill(array, 1));
  return array;
}

/* Keys [first, first + count), with an array to push and one to pull into for each. */
static void make_keys(job *j, int first, int count, int64_t bytes, neap_key *keys, neap_array **in,
                      neap_array **out) {
  for (int i = 0; i < count; i++) {
    keys[i] = (neap_key){.number = first + i};
    in[i] = make(j, bytes);
    out[i] = make(j, bytes);
  }
  OK(neap_store_init(j->stores[0], count, keys, in));
}

static void close_all(neap_array **arrays, int count) {
  for (int i = 0; i < count; i++) neap_array_close(arrays[i]);
}

/* ---- Large values ---------------------------------------------------------------------------- */

static void push(job *j, const neap_key *key, neap_array *array, int priority) {
  OK(neap_store_push(j->stores[0], 1, key, NULL, &array, priority));
}

static void pull(job *j, const neap_key *key, neap_array *array, int priority) {
  OK(neap_store_pull(j->stores[0], 1, key, NULL, &array, priority, 1));
}

/* Seconds of TIMES values each way; all is acknowledged at the end, since an array that is pushed
 * is held as long. */
static double large(job *j, const neap_key *keys, neap_array **in, neap_array **out, int count,
                    bool pushes, bool pulls) {
  double start = bench_now();
  for (int i = 0; i < TIMES; i++) {
    if (pushes) push(j, &keys[i % count], in[i % count], 0);
    if (pulls) pull(j, &keys[pushes ? (i + count / 2) % count : i % count], out[i % count], 0);
  }
  OK(neap_wait_all(j->context));
  return bench_now() - start;
}

static void bench_large(job *j, const int *fds) {
  neap_key keys[KEYS];
  neap_array *in[KEYS], *out[KEYS];
  make_keys(j, 0, KEYS, VALUE, keys, in, out);
  bench one = {.name = "raw, one stream"}, two = {.name = "raw, two streams in two directions"};
  bench many_keys = {.name = "push, 8 keys"}, one_key = {.name = "push, one key"};
  bench pulls = {.name = "pull, 8 keys"}, both = {.name = "push and pull at once, 8 keys"};
  bench pair = {.name = "push and pull at once, 2 keys"}; /* as much memory as raw, nearly */
  const double mb = (double)TIMES * VALUE / 1e6;
  for (int i = 0; i < ROUNDS; i++) {
    bench_add(&one, mb / raw(fds, (uint64_t)TIMES * VALUE, 0));
    bench_add(&many_keys, mb / large(j, keys, in, out, KEYS, true, false));
    bench_add(&one_key, mb / large(j, keys, in, out, 1, true, false));
    bench_add(&pulls, mb / large(j, keys, in, out, KEYS, false, true));
    bench_add(&two, 2 * mb / raw(fds, (uint64_t)TIMES * VALUE, (uint64_t)TIMES * VALUE));
    bench_add(&both, 2 * mb / large(j, keys, in, out, KEYS, true, true));
    bench_add(&pair, 2 * mb / large(j, keys, in, out, 2, true, true));
  }
  printf("values of 4 MiB; MB/s:\n");
  bench *all[] = {&one, &many_keys, &one_key, &pulls, &two, &both, &pair};
  for (int i = 0; i < 7; i++) bench_print(all[i], 1);
  bench_ratio("push, 8 keys, against a raw stream (wanted: 0.85)", &many_keys, &one);
  bench_ratio("push, one key, against a raw stream (wanted: 0.85)", &one_key, &one);
  bench_ratio("pull, 8 keys, against a raw stream", &pulls, &one);
  bench_ratio("push and pull at once, 8 keys, against two raw streams (wanted: 0.8)", &both, &two);
  bench_ratio("push and pull at once, 2 keys, against two raw streams (wanted: 0.8)", &pair, &two);
  close_all(in, KEYS);
  close_all(out, KEYS);
}

/* ---- Small values ---------------------------------------------------------------------------- */

/* Seconds of the median: a push, and a pull that is answered when it is applied; or that pull. */
static double trip(job *j, const neap_key *key, neap_array *in, neap_array *out, bool pushes) {
  static double trips[TRIPS];
  for (int i = 0; i < TRIPS; i++) {
    double start = bench_now();
    if (pushes)
      OK(neap_store_pushpull(j->stores[0], 1, key, NULL, &in, NULL, &out, 0, 1));
    else
      pull(j, key, out, 0);
    OK(neap_array_wait(out));
    trips[i] = bench_now() - start;
  }
  qsort(trips, TRIPS, sizeof *trips, bench_compare);
  return trips[TRIPS / 2];
}

/* Pushes a second, all acknowledged at the end. */
static double flood(job *j, const neap_key *keys, neap_array **in, int count) {
  double start = bench_now();
  for (int i = 0; i < PUSHES; i++) push(j, &keys[i % count], in[i % count], 0);
  OK(neap_store_barrier(j->stores[0]));
  return PUSHES / (bench_now() - start);
}

static void bench_small(job *j, const int *fds) {
  neap_key keys[MANY];
  neap_array *in[MANY], *out[MANY];
  make_keys(j, 1000, MANY, SMALL, keys, in, out);
  bench echo = {.name = "raw round trip, us"}, apart = {.name = "raw round trip, two CPUs, us"};
  bench acked = {.name = "push and pull in one call, until pulled, us"};
  bench pulls = {.name = "pull, us"};
  bench one = {.name = "thousand pushes/s, one key"}, many = {.name = "the same, 64 keys"};
  for (int i = 0; i < ROUNDS; i++) {
    bench_add(&echo, raw_trip(fds, false));
    bench_add(&apart, raw_trip(fds, true));
    bench_add(&acked, trip(j, keys, in[0], out[0], true));
    bench_add(&pulls, trip(j, keys, in[0], out[0], false));
    bench_add(&one, flood(j, keys, in, 1));
    bench_add(&many, flood(j, keys, in, MANY));
  }
  printf("values of 64 bytes:\n");
  bench_print(&echo, 1e6);
  bench_print(&apart, 1e6);
  bench_print(&acked, 1e6);
  bench_print(&pulls, 1e6);
  bench_print(&one, 1e-3);
  bench_print(&many, 1e-3);
  bench_ratio("raw round trips a push and its acknowledgement take (wanted: at most 2)", &acked,
              &echo);
  bench_ratio("the same, in raw round trips on two CPUs", &acked, &apart);
  bench_ratio("raw round trips a pull takes", &pulls, &echo);
  bench_ratio("the same, in raw round trips on two CPUs", &pulls, &apart);
  bench million = {.name = ""};
  for (int i = 0; i < ROUNDS; i++) bench_add(&million, 500e3);
  bench_ratio("pushes against 500,000/s, one key (wanted: 1)", &one, &million);
  bench_ratio("pushes against 500,000/s, 64 keys (wanted: 1)", &many, &million);
  close_all(in, MANY);
  close_all(out, MANY);
}

/* ---- Two workers ----------------------------------------------------------------------------- */

static void bench_pulls(const int *fds) {
  job j;
  job_start(&j, NULL, "127.0.0.1", WORKERS);
  neap_key key = {.number = 1};
  neap_array *value = make(&j, 64 * (int64_t)MB), *outs[WORKERS];
  bench two = {.name = "raw, one stream"}, pulls = {.name = "two workers together"};
  for (int i = 0; i < WORKERS; i++) {
    OK(neap_store_init(j.stores[i], 1, &key, &value));
    outs[i] = make(&j, 64 * (int64_t)MB);
  }
  const double mb = WORKERS * 64.0 * MB / 1e6;
  for (int round = 0; round < ROUNDS; round++) {
    double begin = bench_now();
    for (int i = 0; i < WORKERS; i++)
      OK(neap_store_pull(j.stores[i], 1, &key, NULL, &outs[i], 0, 1));
    OK(neap_wait_all(j.context));
    bench_add(&pulls, mb / (bench_now() - begin));
    bench_add(&two, mb / raw(fds, WORKERS * 64 * (uint64_t)MB, 0));
  }
  printf("pull of 64 MiB by two workers; MB/s:\n");
  bench_print(&two, 1);
  bench_print(&pulls, 1);
  bench_ratio("two workers' pulls against a raw stream", &pulls, &two);
  close_all(&value, 1);
  close_all(outs, WORKERS);
  job_end(&j);
}

/* ---- A slow wire ----------------------------------------------------------------------------- */

#define NAMESPACE "neap-bench"
#define NEAR      "10.213.77.1"
#define FAR       "10.213.77.2"
#define RATE      "1gbit"

static bool make_wire(void) {
  const char *commands = "(ip netns add " NAMESPACE " &&"
                         " ip link add neap0 type veth peer name neap1 netns " NAMESPACE " &&"
                         " ip addr add " NEAR "/24 dev neap0 && ip link set neap0 up &&"
                         " tc qdisc add dev neap0 root tbf rate " RATE " burst 64kb latency 5ms &&"
                         " ip netns exec " NAMESPACE " sh -c '"
                         "ip addr add " FAR "/24 dev neap1 && ip link set neap1 up &&"
                         " tc qdisc add dev neap1 root tbf rate " RATE " burst 64kb latency 5ms')"
                         " 2>&1";
  return system(commands) == 0;
}

static void drop_wire(void) {
  if (system("ip netns del " NAMESPACE " 2>/dev/null; ip link del neap0 2>/dev/null")) return;
}

/* Seconds of a small pull of high priority, a moment after a large push or pull began, or alone. */
static double overtaking(job *j, const neap_key *keys, neap_array *in, neap_array *large,
                         neap_array *out) {
  if (in) push(j, &keys[0], in, 0);
  if (large) pull(j, &keys[0], large, 0);
  usleep(100000);
  double start = bench_now();
  pull(j, &keys[1], out, 10);
  OK(neap_array_wait(out));
  double seconds = bench_now() - start;
  OK(neap_wait_all(j->context));
  return seconds;
}

/* The same by raw sockets. */
static double raw_overtaking(const int *fds, const int *others) {
  order large = {.sink = 64 * (uint64_t)MB};
  sending s = {fds[0], large.sink};
  pthread_t thread;
  SYS(send(fds[0], &large, sizeof large, MSG_NOSIGNAL));
  if (pthread_create(&thread, NULL, send_main, &s)) exit(1);
  usleep(100000);
  double seconds = raw(others, 0, 64 * (uint64_t)KB);
  pthread_join(thread, NULL);
  receive_bytes(fds[0], 1);
  return seconds;
}

static void bench_wire(void) {
  const char *const there[] = {"ip", "netns", "exec", NAMESPACE, NULL};
  drop_wire();
  if (!make_wire()) {
    printf("no wire of 1 Gbit/s: network namespaces (ip, tc) are not permitted here\n");
    drop_wire();
    return;
  }
  setenv("NET_BENCH_LISTEN", FAR, 1);
  int fds[2], fds2[2];
  pid_t other = start_raw(there, NEAR, fds), other2 = start_raw(there, NEAR, fds2);
  job j;
  job_start(&j, there, NEAR, 1);
  neap_key keys[3];
  neap_array *in[3], *out[3];
  make_keys(&j, 0, 1, 64 * (int64_t)MB, keys, in, out);
  make_keys(&j, 1, 1, 64 * (int64_t)KB, keys + 1, in + 1, out + 1);
  make_keys(&j, 2, 1, 64 * (int64_t)MB, keys + 2, in + 2, out + 2);
  bench one = {.name = "raw, one stream"}, pushes = {.name = "push"}, pulls = {.name = "pull"};
  bench both = {.name = "push and pull at once"}, two = {.name = "raw, both ways"};
  bench behind = {.name = "pull of 64 KiB behind the push, ms"}, alone = {.name = "alone, ms"};
  bench behind_pull = {.name = "pull of 64 KiB behind the pull, ms"};
  bench raw_behind = {.name = "raw, by a socket of its own, ms"};
  const double mb = 64.0 * MB / 1e6;
  for (int i = 0; i < 3; i++) {
    bench_add(&one, mb / raw(fds, 64 * (uint64_t)MB, 0));
    double begin = bench_now();
    push(&j, &keys[0], in[0], 0);
    OK(neap_wait_all(j.context));
    bench_add(&pushes, mb / (bench_now() - begin));
    begin = bench_now();
    pull(&j, &keys[0], out[0], 0);
    OK(neap_wait_all(j.context));
    bench_add(&pulls, mb / (bench_now() - begin));
    bench_add(&two, 2 * mb / raw(fds, 64 * (uint64_t)MB, 64 * (uint64_t)MB));
    begin = bench_now();
    push(&j, &keys[0], in[0], 0);
    pull(&j, &keys[2], out[2], 0);
    OK(neap_wait_all(j.context));
    bench_add(&both, 2 * mb / (bench_now() - begin));
    bench_add(&alone, overtaking(&j, keys, NULL, NULL, out[1]));
    bench_add(&behind, overtaking(&j, keys, in[0], NULL, out[1]));
    bench_add(&behind_pull, overtaking(&j, keys, NULL, out[0], out[1]));
    bench_add(&raw_behind, raw_overtaking(fds, fds2));
  }
  printf("64 MiB over a wire of 1 Gbit/s; MB/s:\n");
  bench *all[] = {&one, &pushes, &pulls, &two, &both};
  for (int i = 0; i < 5; i++) bench_print(all[i], 1);
  bench_print(&alone, 1e3);
  bench_print(&behind, 1e3);
  bench_print(&behind_pull, 1e3);
  bench_print(&raw_behind, 1e3);
  bench_ratio("push against the wire (wanted: 0.95)", &pushes, &one);
  bench_ratio("pull against the wire (wanted: 0.95)", &pulls, &one);
  bench_ratio("both at once against the wire (wanted: 0.95)", &both, &two);
  close_all(in, 3);
  close_all(out, 3);
  job_end(&j);
  for (int i = 0; i < 2; i++) {
    close(fds[i]);
    close(fds2[i]);
  }
  waitpid(other, NULL, 0);
  waitpid(other2, NULL, 0);
  drop_wire();
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 4 && !strcmp(argv[1], "raw")) return raw_main(argv[2], atoi(argv[3]));
  if (argc == 4 && !strcmp(argv[1], "server")) return server_main(argv[2], atoi(argv[3]));
  const char *only = argc > 1 ? argv[1] : NULL; /* large, small, pulls or wire */
  int fds[2];
  pid_t other = start_raw(NULL, "127.0.0.1", fds);
  job j;
  job_start(&j, NULL, "127.0.0.1", 1);
  if (!only || !strcmp(only, "large")) bench_large(&j, fds);
  if (!only || !strcmp(only, "small")) bench_small(&j, fds);
  job_end(&j);
  if (!only || !strcmp(only, "pulls")) bench_pulls(fds);
  close(fds[0]);
  close(fds[1]);
  waitpid(other, NULL, 0);
  if (!only || !strcmp(only, "wire")) bench_wire();
  return 0;
}
