/* SPDX-License-Identifier: MIT */
/* garbage_test.c - strangers send rubbish to the scheduler and a server, before and after a correct
 * greeting: a real worker is served all the while, and memory stays bounded.
 *
 * NEAP_SPEC_LONG=1: more of it. NEAP_SPEC_SEED: other rubbish. */
#include "job.h"
#include "net/greet.h"
#include "proxy.h"
#include <netinet/tcp.h>
#include <stdatomic.h>

static uint64_t random_state = 88172645463325252u;

static uint32_t chance(uint32_t below) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(random_state >> 33) % below;
}

static void random_bytes(uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)chance(256);
}

/* ---- A client made by hand ---------------------------------------------------------------------
 */

static int connect_to(int port) {
  int fd = socket_for(port, false);
  if (fd < 0) return -1;
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct timeval limit = {.tv_sec = 20};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  return fd;
}

static bool put(int fd, const void *bytes, size_t size) {
  return send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static bool take(int fd, void *bytes, size_t size) {
  return recv(fd, bytes, size, MSG_WAITALL) == (ssize_t)size;
}

static bool put_frame(int fd, neap_frame frame, const void *meta, const void *body) {
  uint8_t header[NEAP_FRAME_HEADER];
  neap_frame_write(&frame, header);
  return put(fd, header, sizeof header) && (!frame.meta || put(fd, meta, frame.meta)) &&
         (!frame.body || put(fd, body, frame.body));
}

/* Its type; 0 when the connection ends. */
static int take_frame(int fd, neap_frame *frame, uint8_t *meta) {
  uint8_t header[NEAP_FRAME_HEADER], body[4096];
  if (!take(fd, header, sizeof header) || neap_frame_read(header, frame)) return 0;
  if (frame->meta && !take(fd, meta, frame->meta)) return 0;
  for (uint32_t left = frame->body; left > 0;) {
    size_t some = left < sizeof body ? left : sizeof body;
    if (!take(fd, body, some)) return 0;
    left -= (uint32_t)some;
  }
  return frame->type;
}

/* The other side is through with us; what it still says does not matter. */
static void expect_end(int fd) {
  uint8_t rest[4096];
  ssize_t n;
  while ((n = recv(fd, rest, sizeof rest, 0)) > 0) {
  }
  CHECK(n == 0 || errno == ECONNRESET); /* and not because time is up */
  close(fd);
}

static neap_hello hello_of(int role, int rank, uint64_t incarnation) {
  neap_hello hello = {
      .role = role, .rank = rank, .incarnation = incarnation, .epoch = 1, .lanes = 1};
  snprintf(hello.host, sizeof hello.host, "nowhere");
  return hello;
}

/* The connection once it is welcome; -1 if it is not. */
static int greeted(int port, const neap_hello *hello) {
  int fd = connect_to(port);
  if (fd < 0) return -1;
  uint8_t meta[NEAP_META_MAX], proof[NEAP_PROOF];
  neap_writer w;
  neap_frame frame;
  neap_writer_open(&w, meta, sizeof meta);
  neap_hello_write(&w, hello);
  bool good = put_frame(
      fd, (neap_frame){.type = NEAP_M_HELLO, .meta = (uint32_t)neap_writer_size(&w)}, meta, NULL);
  good = good && take_frame(fd, &frame, meta) == NEAP_M_CHALLENGE && frame.meta == NEAP_NONCE &&
         neap_proof(NULL, 'c', hello, meta, proof) &&
         put_frame(fd, (neap_frame){.type = NEAP_M_PROOF, .meta = NEAP_PROOF}, proof, NULL);
  if (good && take_frame(fd, &frame, meta) == NEAP_M_WELCOME) return fd;
  close(fd);
  return -1;
}

/* ---- Rubbish before the greeting ---------------------------------------------------------------
 */

static void noise(int port) {
  uint8_t bytes[3000];
  int fd = connect_to(port);
  if (fd < 0) return;
  random_bytes(bytes, sizeof bytes);
  (void)put(fd, bytes, 1 + chance(sizeof bytes - 1));
  if (chance(2)) shutdown(fd, SHUT_WR);
  close(fd);
}

static void oversized(int port) {
  static const neap_frame frames[] = {
      {.type = NEAP_M_HELLO, .meta = 65535},
      {.type = NEAP_M_HELLO, .meta = 10, .body = UINT32_MAX, .total = UINT32_MAX},
      {.type = NEAP_M_HELLO, .meta = 10, .body = 100, .total = UINT64_MAX},
      {.type = NEAP_M_PUSH, .meta = 10, .body = 1 << 20, .total = (uint64_t)1 << 40},
      {.type = NEAP_M_HELLO, .meta = 0, .body = 5, .total = 3, .offset = UINT64_MAX},
      {.type = NEAP_M_PUSH, .meta = 100, .body = 1 << 20, .total = 1 << 21},
      {.type = 200},
      {.type = NEAP_M_BARRIER},
      {.type = NEAP_M_PROOF, .meta = 5},
      {.type = NEAP_M_PUSH, .body = 10, .total = 100000, .offset = 50},
  };
  uint8_t bytes[NEAP_FRAME_HEADER + 100] = {0};
  for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
    int fd = connect_to(port);
    CHECK(fd >= 0);
    neap_frame_write(&frames[i], bytes);
    (void)put(fd, bytes, sizeof bytes);
    expect_end(fd);
  }
}

static void half_a_greeting(int port) {
  uint8_t meta[NEAP_META_MAX], bytes[NEAP_FRAME_HEADER + NEAP_META_MAX];
  neap_hello hello = hello_of(NEAP_WORKER, 0, 7);
  neap_writer w;
  neap_writer_open(&w, meta, sizeof meta);
  neap_hello_write(&w, &hello);
  size_t size = neap_writer_size(&w);
  neap_frame_write(&(neap_frame){.type = NEAP_M_HELLO, .meta = (uint32_t)size}, bytes);
  memcpy(bytes + NEAP_FRAME_HEADER, meta, size);
  size += NEAP_FRAME_HEADER;
  for (size_t cut = 1; cut < size; cut += 1 + chance(20)) {
    int fd = connect_to(port);
    CHECK(fd >= 0 && put(fd, bytes, cut));
    close(fd);
  }
  /* The wrong version, and a proof that is none: both are told why. */
  uint8_t reason[NEAP_META_MAX];
  neap_frame frame;
  int fd = connect_to(port);
  bytes[NEAP_FRAME_HEADER] ^= 64;
  CHECK(fd >= 0 && put(fd, bytes, size));
  CHECK(take_frame(fd, &frame, reason) == NEAP_M_REFUSED);
  reason[frame.meta < NEAP_META_MAX ? frame.meta : NEAP_META_MAX - 1] = 0;
  CHECK(strstr((char *)reason + 8, "another version of Neap's protocol"));
  expect_end(fd);
  bytes[NEAP_FRAME_HEADER] ^= 64;
  fd = connect_to(port);
  CHECK(fd >= 0 && put(fd, bytes, size) && take_frame(fd, &frame, reason) == NEAP_M_CHALLENGE);
  CHECK(put_frame(fd, (neap_frame){.type = NEAP_M_PROOF, .meta = NEAP_PROOF}, reason, NULL));
  CHECK(take_frame(fd, &frame, reason) == NEAP_M_REFUSED);
  expect_end(fd);
}

/* ---- And after it ------------------------------------------------------------------------------
 */

/* Messages that are right but for some bytes. */
static size_t some_meta(int type, uint8_t *meta) {
  neap_writer w;
  neap_array_info info = {.dtype = NEAP_FLOAT32, .ndim = 2, .shape = {4, 5}};
  info.stype = chance(2);
  neap_key key = {"w", 1, 0};
  if (chance(4) == 0) key = (neap_key){"strange", 7, 0};
  neap_writer_open(&w, meta, NEAP_META_MAX);
  switch (type) {
  case NEAP_M_INIT:
    if (chance(3) == 0) info.shape[0] = (int64_t)1 << (20 + chance(40));
    neap_put_u8(&w, 0);
    neap_put_key(&w, &key);
    neap_put_info(&w, &info);
    neap_put_info(&w, &info);
    neap_put_u64(&w, 0);
    neap_put_u8(&w, 1);
    neap_put_u64(&w, chance(3) ? 2 : (uint64_t)1 << chance(64));
    break;
  case NEAP_M_PUSH:
    neap_put_key(&w, &key);
    neap_put_u64(&w, 1 + chance(3));
    neap_put_u64(&w, 1 + chance(3));
    neap_put_u8(&w, chance(3));
    neap_put_u64(&w, chance(2) ? 2 : (uint64_t)1 << chance(64));
    break;
  case NEAP_M_PULL:
  case NEAP_M_PULL_ROWS:
    neap_put_key(&w, &key);
    neap_put_u64(&w, 1 + chance(3));
    neap_put_u64(&w, chance(2));
    neap_put_u32(&w, 0);
    if (type == NEAP_M_PULL_ROWS) neap_put_u8(&w, chance(2));
    break;
  case NEAP_M_PUT_STATE:
    neap_put_u8(&w, (unsigned)"act"[chance(3)]);
    neap_put_key(&w, &key);
    neap_put_text(&w, "mom");
    neap_put_info(&w, &info);
    break;
  case NEAP_M_REGISTER:
    neap_put_u32(&w, 1);
    neap_put_u32(&w, 1);
    neap_put_u8(&w, 0);
    neap_put_text(&w, "tcp://127.0.0.1:1");
    break;
  default:
    neap_put_u64(&w, chance(5));
  }
  size_t size = neap_writer_size(&w);
  if (chance(2)) meta[chance((uint32_t)size)] = (uint8_t)chance(256);
  if (chance(8) == 0) size = chance((uint32_t)size + 1);
  return size;
}

/* A damaged message or several; the connection may be closed for it. */
static void damaged(int fd) {
  static uint8_t meta[NEAP_META_MAX], body[200000];
  for (int i = 0; i < 8; i++) {
    int type = NEAP_M_PING + (int)chance(NEAP_NUM_MESSAGES - NEAP_M_PING);
    if (type == NEAP_M_DELETE || type == NEAP_M_LEAVE) continue; /* are what they say */
    static const uint32_t sizes[] = {0, 8, 16, 56, 80, 96, 200, 70000, 131072};
    uint32_t size = sizes[chance(9)];
    random_bytes(body, size < 100 ? size : 100);
    neap_frame frame = {.type = type, .id = i, .body = size, .total = size};
    frame.meta = (uint32_t)some_meta(type, meta);
    if (size && chance(6) == 0) frame.total += chance(100000);
    if (!put_frame(fd, frame, meta, body)) return;
  }
}

static void rubbish_after_greeting(int port, int role, int rank, uint64_t incarnation) {
  neap_hello hello = hello_of(role, rank, incarnation);
  int fd = greeted(port, &hello);
  CHECK(fd >= 0);
  damaged(fd);
  close(fd);
}

/* ---- Memory ------------------------------------------------------------------------------------
 */

static _Atomic int64_t in_use;

static void *counting_alloc(void *user, size_t size, size_t align) {
  (void)user;
  void *block = NULL;
  if (size > (size_t)1 << 32) return NULL;
  if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size)) return NULL;
  atomic_fetch_add(&in_use, (int64_t)size);
  return block;
}

static void counting_free(void *user, void *block, size_t size) {
  (void)user;
  atomic_fetch_sub(&in_use, (int64_t)size);
  free(block);
}

static neap_context *counting_context(void) {
  neap_options options;
  neap_context *context = NULL;
  neap_options_init(&options, sizeof options);
  options.num_threads = 1;
  options.alloc = counting_alloc;
  options.free = counting_free;
  OK(neap_context_create(&options, &context));
  return context;
}

/* ---- A worker that trains all the while --------------------------------------------------------
 */

static atomic_bool stop;
static atomic_int trained;

static void train(worker *w) {
  static const int64_t shape[1] = {1000};
  neap_key key = {"mine", 4, 0};
  neap_array *value = filled(w->context, 1, shape, 0), *out = filled(w->context, 1, shape, 0);
  OK(neap_store_init(w->store, 1, &key, &value));
  for (int round = 1; !atomic_load(&stop); round++) {
    OK(neap_array_fill(value, round % 1000));
    OK(neap_store_pushpull(w->store, 1, &key, NULL, &value, NULL, &out, 0, 1));
    CHECK(all_are(out, (float)(round % 1000)));
    atomic_fetch_add(&trained, 1);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
  }
  neap_array_close(value);
  neap_array_close(out);
}

static void *train_thread(void *arg) {
  worker *w = arg;
  worker_join(w);
  train(w);
  worker_leave(w);
  return NULL;
}

/* Waits until the worker has trained on. */
static void still_trains(void) {
  int before = atomic_load(&trained);
  double until = proxy_now() + 30;
  while (atomic_load(&trained) < before + 3 && proxy_now() < until)
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  CHECK(atomic_load(&trained) >= before + 3);
}

int main(void) {
  bool thorough = getenv("NEAP_SPEC_LONG") != NULL;
  const char *seed = getenv("NEAP_SPEC_SEED");
  if (seed) random_state = strtoull(seed, NULL, 10);
  setvbuf(stdout, NULL, _IOLBF, 0);
  alarm(280);
  int many = thorough ? 5000 : 400, some = thorough ? 3000 : 200;
  job j;
  job_options(&j, 1, 1);
  j.contexts[0] = counting_context();
  j.contexts[1] = counting_context();
  OK(neap_scheduler_start(j.contexts[0], &j.options, &j.scheduler));
  j.options.root_uri = neap_scheduler_uri(j.scheduler);
  OK(neap_server_start(j.contexts[1], &j.options, &j.servers[0]));
  worker *w = &j.workers[0];
  w->job = &j;
  CHECK(pthread_create(&w->thread, NULL, train_thread, w) == 0);
  still_trains();
  int ports[2] = {port_of_uri(j.options.root_uri), port_of_uri(neap_server_uri(j.servers[0]))};
  int64_t before = atomic_load(&in_use), most = 0;
  double start = proxy_now();
  for (int k = 0; k < 2; k++) {
    oversized(ports[k]);
    half_a_greeting(ports[k]);
    still_trains();
    for (int i = 0; i < many; i++) {
      int64_t now = atomic_load(&in_use);
      if (now > most) most = now;
      if (chance(2)) {
        noise(ports[k]);
        continue;
      }
      int fd = connect_to(ports[k]);
      if (fd >= 0) close(fd);
    }
    still_trains();
  }
  printf("%d connections, %.1f s; %.1f MB in use before, %.1f at most\n", 2 * many,
         proxy_now() - start, 1e-6 * (double)before, 1e-6 * (double)most);
  CHECK(most - before < 60 << 20);
  /* Strangers that say nothing: others get in beside them. */
  int idle[200];
  for (int i = 0; i < 200; i++) idle[i] = connect_to(ports[i % 2]);
  for (int k = 0; k < 2; k++) {
    neap_hello hello = hello_of(NEAP_WORKER, -1, 77);
    if (k) continue; /* a server knows its workers */
    int fd = greeted(ports[k], &hello);
    CHECK(fd >= 0);
    close(fd);
  }
  still_trains();
  for (int i = 0; i < 200; i++)
    if (idle[i] >= 0) close(idle[i]);
  /* Who greets well and then talks rubbish harms nobody else. To the server it is the one worker of
   * the job, so that one must have left its rank to it. */
  for (int i = 0; i < some; i++) rubbish_after_greeting(ports[0], NEAP_WORKER, -1, 1000 + i);
  still_trains();
  printf("strangers and a talkative process: %.1f s\n", proxy_now() - start);
  atomic_store(&stop, true);
  /* A second worker's session on the server is made by hand while the first is there still; it
   * takes the rank over, as a process does that was started again. */
  pthread_join(w->thread, NULL);
  OK(neap_server_wait(j.servers[0], 20));
  for (int i = 0; i < some; i++) rubbish_after_greeting(ports[1], NEAP_WORKER, 0, 1000 + i);
  int64_t after = atomic_load(&in_use);
  printf("rubbish from a worker: %.1f s, %.1f MB in use\n", proxy_now() - start,
         1e-6 * (double)after);
  neap_server_close(j.servers[0]);
  neap_scheduler_close(j.scheduler);
  for (int i = 0; i < 2; i++) neap_context_close(j.contexts[i]);
  CHECK(atomic_load(&in_use) == 0);
  return 0;
}
