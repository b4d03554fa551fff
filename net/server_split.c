/* SPDX-License-Identifier: MIT */
/* server_split.c - keys whose parts lie on several servers.
 *
 * All parts must make the same updates in the same order: a push counts on all of them or on none,
 * also when its worker died in the middle of it, and sums over the whole key (server_joint.c) are
 * of one moment. So the server of part 0, the key's home, decides:
 *
 *   HAVE   a part to the home: a push of this worker is here
 *   START  the home to the parts: the next update takes the oldest waiting push of these workers
 *   DROP   the home to the parts: of what an earlier process of this worker pushed, only the first
 *          so many are on all parts, and will count; the others will not
 *
 * Messages of one server to another arrive in the order in which they were sent, perhaps twice
 * (peer.h); their numbers tell.
 *
 * Invariants:
 *   S1  have[part][rank] counts pushes that the part told of and no START took. An update takes a
 *       push of a worker only when all parts have one. (conduct)
 *   S2  On each part, the oldest waiting push of a worker is the same one.
 *   S3  From from[rank] on, incarnations of a worker count; what an earlier one pushed in halves
 * was dropped. (forget_halves) S4  Servers admit workers only when they are connected to all other
 * servers, so whoever may push to a split key can be heard of. (neap_split_connect) */
#include "server_inside.h"
#include <stdio.h>
#include <string.h>

struct neap_others {
  pthread_mutex_t lock; /* guards peers; comes after server->lock */
  neap_peer **peers;
  int count;
  bool closing;
};

struct neap_split {
  int parts, workers;
  uint64_t step;
  uint64_t *heard; /* of each part: the number of its last HAVE */
  uint64_t *from;  /* of each worker: S3 */
  uint32_t *have;  /* [part * workers + rank] */
};

/* A START that came while updates are held back here. */
struct split_start {
  split_start *next;
  size_t size;
  int count, ranks[];
};

/* ---- Other servers --------------------------------------------------------------------------- */

static void outgoing_done(neap_request *request, int status, const char *text, neap_reader *meta,
                          neap_incoming *in) {
  neap_outgoing *o = (neap_outgoing *)request;
  (void)in;
  if (o->done)
    o->done(o, status, text, meta); /* otherwise, when it fails, the job is over anyway */
}

static void outgoing_free(neap_request *request) {
  neap_outgoing *o = (neap_outgoing *)request;
  neap_free(o->context, o, sizeof *o);
}

neap_outgoing *neap_outgoing_new(neap_server *server, int type, const neap_key *key,
                                 uint64_t life) {
  neap_outgoing *o = neap_alloc(server->context, sizeof *o);
  if (!o) return NULL;
  memset(o, 0, sizeof *o);
  o->context = server->context;
  neap_writer_open(&o->w, o->meta, sizeof o->meta);
  neap_put_key(&o->w, key);
  neap_put_u64(&o->w, life);
  o->request = (neap_request){.done = outgoing_done, .free = outgoing_free};
  o->request.message.frame.type = type;
  o->request.message.meta = o->meta;
  o->request.message.priority = INT32_MAX - 1;
  return o;
}

void neap_outgoing_send(neap_server *server, int rank, neap_outgoing *o) {
  neap_others *others = server->others;
  pthread_mutex_lock(&others->lock);
  neap_peer *peer = rank < others->count ? others->peers[rank] : NULL;
  pthread_mutex_unlock(&others->lock);
  o->request.message.frame.meta = (uint32_t)neap_writer_size(&o->w);
  if (peer) {
    neap_peer_request(peer, &o->request);
    return;
  }
  neap_reader nothing;
  neap_reader_open(&nothing, NULL, 0);
  outgoing_done(&o->request, NEAP_ELOST, "a server that has a part of the key is gone", &nothing,
                NULL);
  outgoing_free(&o->request);
}

static int make_peers(neap_server *server) {
  neap_others *others = server->others;
  int count = server->roster->num_servers;
  if (others->peers) return NEAP_OK;
  others->peers = neap_alloc(server->context, (size_t)count * sizeof *others->peers);
  if (!others->peers) return NEAP_ENOMEM;
  memset(others->peers, 0, (size_t)count * sizeof *others->peers);
  others->count = count;
  return NEAP_OK;
}

/* Under both locks. */
static neap_peer *connect_one(neap_server *server, int rank, const neap_node *node) {
  char name[32];
  neap_peer *peer = NULL;
  snprintf(name, sizeof name, "server %d", rank);
  neap_peer_options options = {.uri = node->uri,
                               .job = &server->options,
                               .name = name,
                               .hello = {.role = NEAP_SERVER,
                                         .rank = server->rank,
                                         .incarnation = server->registered,
                                         .lanes = 1},
                               .timeout = server->options.timeout,
                               .ticker = server->ticker};
  neap_host_name(options.hello.host);
  return neap_peer_create(server->context, &options, &peer) == NEAP_OK ? peer : NULL;
}

bool neap_split_connect(neap_server *server) {
  neap_others *others = server->others;
  const neap_roster *roster = server->roster;
  bool all = server->rank >= 0;
  char lost[NEAP_NODE_TEXT + 64] = "";
  pthread_mutex_lock(&others->lock);
  if (!all || others->closing || make_peers(server) != NEAP_OK) all = false;
  for (int i = 0; i < others->count && all; i++) {
    const neap_node *node = neap_roster_server(roster, i);
    if (i == server->rank) continue;
    if (node->state == NEAP_AWAITED) {
      all = false;
    } else if (!others->peers[i]) {
      others->peers[i] = connect_one(server, i, node);
      if (!others->peers[i]) all = false;
    } else if (node->state != NEAP_ALIVE) {
      char name[NEAP_NODE_TEXT];
      snprintf(lost, sizeof lost, "%s %s, which has a part of the key",
               neap_node_text(roster, NEAP_SERVER, i, name),
               node->state == NEAP_DIED ? "died" : "left");
      neap_peer_fail(others->peers[i], NEAP_ELOST, lost);
    }
  }
  pthread_mutex_unlock(&others->lock);
  if (lost[0]) neap_joints_lost(server, lost);
  return all;
}

void neap_split_tick(neap_server *server, double now) {
  neap_others *others = server->others;
  for (int i = 0;; i++) {
    pthread_mutex_lock(&others->lock);
    bool over = i >= others->count;
    neap_peer *peer = over ? NULL : others->peers[i];
    pthread_mutex_unlock(&others->lock);
    if (over) return;
    if (peer) neap_peer_tick(peer, now);
  }
}

int neap_split_start(neap_server *server) {
  neap_others *others = neap_alloc(server->context, sizeof *others);
  if (!others) return NEAP_ENOMEM;
  memset(others, 0, sizeof *others);
  if (pthread_mutex_init(&others->lock, NULL)) {
    neap_free(server->context, others, sizeof *others);
    return neap_fail(NEAP_ENOMEM, "a lock cannot be made");
  }
  server->others = others;
  return NEAP_OK;
}

void neap_split_disconnect(neap_server *server) {
  neap_others *others = server->others;
  if (!others) return;
  pthread_mutex_lock(&others->lock);
  others->closing = true;
  neap_peer **peers = others->peers;
  int count = others->count;
  others->peers = NULL;
  others->count = 0;
  pthread_mutex_unlock(&others->lock);
  for (int i = 0; i < count; i++) neap_peer_close(peers[i]);
  neap_free(server->context, peers, (size_t)count * sizeof *peers);
}

void neap_split_close(neap_server *server) {
  if (!server->others) return;
  pthread_mutex_destroy(&server->others->lock);
  neap_free(server->context, server->others, sizeof *server->others);
  server->others = NULL;
}

/* ---- At the home ----------------------------------------------------------------------------- */

static size_t split_size(int parts, int workers) {
  size_t p = (size_t)parts, w = (size_t)workers;
  return sizeof(neap_split) + (p + w) * sizeof(uint64_t) + p * w * sizeof(uint32_t);
}

int neap_split_open(neap_server *server, server_key *key) {
  if (key->parts < 2 || key->index != 0) return NEAP_OK;
  int workers = server->roster->num_workers;
  neap_split *split = neap_alloc(server->context, split_size(key->parts, workers));
  if (!split) return NEAP_ENOMEM;
  memset(split, 0, split_size(key->parts, workers));
  split->parts = key->parts;
  split->workers = workers;
  split->heard = (uint64_t *)(split + 1);
  split->from = split->heard + key->parts;
  split->have = (uint32_t *)(split->from + workers);
  key->split = split;
  return NEAP_OK;
}

void neap_split_drop(neap_server *server, server_key *key) {
  neap_split *split = key->split;
  while (key->started) {
    split_start *start = key->started;
    key->started = start->next;
    neap_free(server->context, start, start->size);
  }
  key->split = NULL;
  if (split) neap_free(server->context, split, split_size(split->parts, split->workers));
}

static uint32_t *have_of(neap_split *split, int part, int rank) {
  return &split->have[(size_t)part * (size_t)split->workers + (size_t)rank];
}

/* How many pushes of a worker are on all parts. */
static uint32_t on_all(neap_split *split, int rank) {
  uint32_t least = UINT32_MAX;
  for (int part = 0; part < split->parts; part++) {
    uint32_t have = *have_of(split, part, rank);
    if (have < least) least = have;
  }
  return least;
}

/* One message to each of the other parts. */
static void tell_parts(neap_server *server, const server_key *key, int type,
                       void (*write)(neap_writer *w, const void *what), const void *what) {
  for (int part = 1; part < key->parts; part++) {
    neap_outgoing *o = neap_outgoing_new(server, type, key->key, key->life);
    if (!o) {
      neap_log(server->context, NEAP_LOG_ERROR, "server %d: no memory to tell other servers",
               server->rank);
      return;
    }
    write(&o->w, what);
    neap_outgoing_send(server, (key->home + part) % server->roster->num_servers, o);
  }
}

/* START: the number of the update, and a bit for each worker. */
typedef struct start_message {
  uint64_t step;
  const int *ranks;
  int count, workers;
} start_message;

static void write_start(neap_writer *w, const void *what) {
  const start_message *m = what;
  uint8_t bits[NEAP_NODES_MAX / 8 + 1] = {0};
  for (int i = 0; i < m->count; i++) bits[m->ranks[i] / 8] |= (uint8_t)(1 << m->ranks[i] % 8);
  neap_put_u64(w, m->step);
  neap_put_bytes(w, bits, (size_t)m->workers / 8 + 1);
}

static void start_everywhere(neap_server *server, server_key *key, const int *ranks, int count) {
  neap_split *split = key->split;
  for (int part = 0; part < split->parts; part++)
    for (int i = 0; i < count; i++) --*have_of(split, part, ranks[i]);
  start_message m = {++split->step, ranks, count, split->workers};
  tell_parts(server, key, NEAP_M_START, write_start, &m);
  neap_server_start_update(server, key, ranks, count);
}

/* The workers whose pushes make the next update: a round in step, one alone out of step (S1). */
static int next_update(neap_server *server, server_key *key, int *ranks) {
  int count = 0;
  for (int rank = 0; rank < key->split->workers; rank++) {
    if (on_all(key->split, rank) > 0) {
      ranks[count++] = rank;
      if (server->async) return count;
    } else if (!server->async && neap_server_counts(server, rank)) {
      return 0;
    }
  }
  return count;
}

static void conduct(neap_server *server, server_key *key) {
  int ranks[NEAP_NODES_MAX], count;
  while (neap_server_may_start(server, key) && (count = next_update(server, key, ranks)) > 0)
    start_everywhere(server, key, ranks, count);
}

/* At a part: what the home has started, as far as updates may start here. */
static void follow(neap_server *server, server_key *key) {
  while (key->started && neap_server_may_start(server, key)) {
    split_start *start = key->started;
    key->started = start->next;
    if (!key->started) key->started_end = &key->started;
    neap_server_start_update(server, key, start->ranks, start->count);
    neap_free(server->context, start, start->size);
  }
}

/* DROP */
typedef struct drop_message {
  int rank;
  uint64_t keep, incarnation;
} drop_message;

static void write_drop(neap_writer *w, const void *what) {
  const drop_message *m = what;
  neap_put_u32(w, (uint32_t)m->rank);
  neap_put_u64(w, m->keep);
  neap_put_u64(w, m->incarnation);
}

/* From now on, only incarnations from this one on count; of earlier ones, what all parts have. */
static void forget_halves(neap_server *server, server_key *key, int rank, uint64_t incarnation) {
  neap_split *split = key->split;
  drop_message m = {rank, on_all(split, rank), incarnation};
  for (int part = 0; part < split->parts; part++) *have_of(split, part, rank) = (uint32_t)m.keep;
  split->from[rank] = incarnation;
  tell_parts(server, key, NEAP_M_DROP, write_drop, &m);
  neap_server_drop_pushes(server, key, rank, m.keep, incarnation);
}

static void count_push(neap_server *server, server_key *key, int part, int rank,
                       uint64_t incarnation) {
  neap_split *split = key->split;
  if (incarnation < split->from[rank]) return;
  if (!split->from[rank])
    split->from[rank] = incarnation;
  else if (incarnation > split->from[rank])
    forget_halves(server, key, rank, incarnation);
  ++*have_of(split, part, rank);
  conduct(server, key);
}

void neap_split_accepted(neap_server *server, server_key *key, int rank) {
  uint64_t incarnation = server->workers[rank].incarnation;
  if (key->split) {
    count_push(server, key, 0, rank, incarnation);
    return;
  }
  neap_outgoing *o = neap_outgoing_new(server, NEAP_M_HAVE, key->key, key->life);
  if (!o) {
    neap_log(server->context, NEAP_LOG_ERROR, "server %d: no memory to tell other servers",
             server->rank);
    return;
  }
  neap_put_u32(&o->w, (uint32_t)key->index);
  neap_put_u64(&o->w, ++key->haves);
  neap_put_u32(&o->w, (uint32_t)rank);
  neap_put_u64(&o->w, incarnation);
  neap_outgoing_send(server, key->home, o);
}

void neap_split_recheck(neap_server *server, server_key *key) {
  neap_split *split = key->split;
  follow(server, key);
  if (!split) return;
  for (int rank = 0; rank < split->workers; rank++) {
    const neap_node *node = neap_roster_worker(server->roster, rank);
    bool died = node->state == NEAP_DIED;
    uint64_t incarnation = node->incarnation + died;
    if (incarnation <= split->from[rank]) continue;
    if (died || split->from[rank])
      forget_halves(server, key, rank, incarnation);
    else
      split->from[rank] = incarnation;
  }
  conduct(server, key);
}

/* ---- Messages -------------------------------------------------------------------------------- */

static const char *take_have(neap_server *server, server_key *key, neap_reader *r) {
  uint32_t part = neap_get_u32(r);
  uint64_t number = neap_get_u64(r);
  uint32_t rank = neap_get_u32(r);
  uint64_t incarnation = neap_get_u64(r);
  if (!neap_reader_done(r) || part < 1) return "a damaged HAVE";
  if (!key || !key->split) return NULL; /* the key was deleted */
  neap_split *split = key->split;
  if (part >= (uint32_t)split->parts || rank >= (uint32_t)split->workers) return "a damaged HAVE";
  if (number <= split->heard[part]) return NULL; /* sent again */
  split->heard[part] = number;
  count_push(server, key, (int)part, (int)rank, incarnation);
  return NULL;
}

static const char *take_start(neap_server *server, server_key *key, neap_reader *r) {
  int workers = server->roster->num_workers, count = 0;
  uint64_t step = neap_get_u64(r);
  const uint8_t *bits = neap_get_bytes(r, (size_t)workers / 8 + 1);
  if (!neap_reader_done(r)) return "a damaged START";
  if (!key || step <= key->starts) return NULL;
  size_t size = sizeof(split_start) + (size_t)workers * sizeof(int);
  split_start *start = neap_alloc(server->context, size);
  if (!start) return "no memory"; /* it comes again */
  *start = (split_start){.size = size};
  for (int rank = 0; rank < workers; rank++)
    if (bits[rank / 8] & 1 << rank % 8 && key->clocks[rank].first) start->ranks[count++] = rank;
  start->count = count;
  *key->started_end = start;
  key->started_end = &start->next;
  key->starts = step;
  follow(server, key);
  return NULL;
}

static const char *take_drop(neap_server *server, server_key *key, neap_reader *r) {
  uint32_t rank = neap_get_u32(r);
  uint64_t keep = neap_get_u64(r), incarnation = neap_get_u64(r);
  if (!neap_reader_done(r) || rank >= (uint32_t)server->roster->num_workers)
    return "a damaged DROP";
  if (!key) return NULL;
  for (const split_start *start = key->started; start; start = start->next)
    for (int i = 0; i < start->count; i++) keep += start->ranks[i] == (int)rank; /* these count */
  neap_server_drop_pushes(server, key, (int)rank, keep, incarnation);
  return NULL;
}

const char *neap_split_message(neap_server *server, neap_incoming *in, neap_reader *r) {
  neap_key name;
  neap_get_key(r, &name);
  uint64_t life = neap_get_u64(r);
  if (r->bad || !server->roster) return "a damaged message of a server";
  server_key *key = neap_keys_find(&server->keys, &name);
  if (key && key->life != life) key = NULL;
  const char *wrong = "a message that no server sends";
  if (in->frame.type == NEAP_M_HAVE) wrong = take_have(server, key, r);
  if (in->frame.type == NEAP_M_START) wrong = take_start(server, key, r);
  if (in->frame.type == NEAP_M_DROP) wrong = take_drop(server, key, r);
  if (!wrong && key) neap_server_answer_pulls(server, key);
  return wrong;
}
