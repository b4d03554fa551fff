/* SPDX-License-Identifier: MIT */
/* server_joint.c - updates of keys that are split over servers, by programs that sum over the whole
 * key (a norm, a mean).
 *
 * Each part sums over its own elements. The server of part 0, the key's home, gets the sums of all,
 * adds them up in the order of the parts, and gives the result to all, which then go on. A part
 * sends its sums as a request (SUM) and gets the totals as the reply; so a connection that breaks
 * costs nothing but time. All parts make the same updates in the same order: see server_split.c.
 *
 * Invariants:
 *   J1  A part is at one pass of one update at a time, and its next SUM comes only after it has the
 *       totals of the last. So a home needs to keep one set of sums and the totals before it.
 *   J2  joints->lock comes after server->lock, and is not held while anything is sent or completed.
 *   J3  Who waits for a server that died or left is told so. (neap_joints_lost) */
#include "server_inside.h"
#include "../kernels/program.h"
#include <stdio.h>
#include <string.h>

/* The sums of one part. */
typedef struct share {
  bool here;
  double sums[NEAP_P_SUMS];
  neap_session *session; /* held; whom to answer; NULL: this server's own */
  uint64_t request;
} share;

/* A key at its home. */
typedef struct home_sums {
  struct home_sums *next;
  neap_key key; /* text is ours */
  uint64_t life;
  int parts, here; /* how many shares are */
  uint64_t step;   /* of the shares */
  int pass, count;
  /* This server's own part. */
  double *own;
  void (*done)(void *arg, int status, const char *text);
  void *arg;
  /* The totals before, for who asks again. */
  uint64_t last_step;
  int last_pass, last_count;
  double last[NEAP_P_SUMS];
  share shares[];
} home_sums;

struct neap_joints {
  pthread_mutex_t lock;
  home_sums *homes;
};

static size_t home_size(int parts) {
  return sizeof(home_sums) + (size_t)parts * sizeof(share);
}

/* ---- At home --------------------------------------------------------------------------------- */

/* Under joints->lock: the key's, made if it is new. */
static home_sums *home_for(neap_server *server, const neap_key *key, uint64_t life, int parts) {
  neap_joints *joints = server->joints;
  for (home_sums *h = joints->homes; h; h = h->next)
    if (h->life == life && h->parts == parts && neap_key_equal(&h->key, key)) return h;
  home_sums *h = neap_alloc(server->context, home_size(parts));
  if (!h) return NULL;
  memset(h, 0, home_size(parts));
  h->key = *key;
  h->life = life;
  h->parts = parts;
  if (key->text) {
    char *text = neap_alloc(server->context, key->length + 1);
    if (!text) {
      neap_free(server->context, h, home_size(parts));
      return NULL;
    }
    memcpy(text, key->text, key->length);
    h->key.text = text;
  }
  h->next = joints->homes;
  joints->homes = h;
  return h;
}

/* What is to be told, once the lock is let go of. */
typedef struct news {
  int status, count;
  char text[256];
  double totals[NEAP_P_SUMS];
  double *own;
  void (*done)(void *arg, int status, const char *text);
  void *arg;
  int num_shares;
  share *shares; /* a copy */
} news;

/* Under the lock: takes what waits out of the home, so that it can be told. False: no memory. */
static bool take_news(neap_server *server, home_sums *h, int status, const char *text, news *n) {
  *n = (news){.status = status, .count = h->count, .num_shares = h->parts};
  size_t size = (size_t)h->parts * sizeof(share);
  n->shares = neap_alloc(server->context, size);
  if (!n->shares) return false;
  memcpy(n->shares, h->shares, size);
  snprintf(n->text, sizeof n->text, "%s", text);
  memcpy(n->totals, h->last, sizeof n->totals);
  n->own = h->own;
  n->done = h->done;
  n->arg = h->arg;
  memset(h->shares, 0, size);
  h->here = 0;
  h->own = NULL;
  h->done = NULL;
  return true;
}

static void reply_totals(neap_session *session, uint64_t request, const double *totals, int count) {
  uint8_t meta[NEAP_P_SUMS * sizeof(double)];
  neap_writer w;
  neap_writer_open(&w, meta, sizeof meta);
  for (int i = 0; i < count; i++) neap_put_f64(&w, totals[i]);
  neap_session_reply(session, request, INT32_MAX - 1, NEAP_OK, NULL, meta, neap_writer_size(&w));
}

static void tell(neap_server *server, news *n) {
  for (int i = 0; i < n->num_shares; i++) {
    share *s = &n->shares[i];
    if (!s->session) continue;
    if (n->status == NEAP_OK)
      reply_totals(s->session, s->request, n->totals, n->count);
    else
      neap_session_reply(s->session, s->request, 0, n->status, n->text, NULL, 0);
    neap_session_release(s->session);
  }
  neap_free(server->context, n->shares, (size_t)n->num_shares * sizeof(share));
  if (!n->done) return;
  if (n->status == NEAP_OK) memcpy(n->own, n->totals, (size_t)n->count * sizeof *n->own);
  n->done(n->arg, n->status, n->text);
}

/* Under the lock: all shares are there: adds them up, in the order of the parts. */
static void add_shares(home_sums *h) {
  for (int k = 0; k < h->count; k++) {
    double total = 0;
    for (int i = 0; i < h->parts; i++) total += h->shares[i].sums[k];
    h->last[k] = total;
  }
  h->last_step = h->step;
  h->last_pass = h->pass;
  h->last_count = h->count;
}

/* Under the lock: where part `index` puts its sums; NULL and why not. */
static share *share_for(home_sums *h, int index, uint64_t step, int pass, int count,
                        const char **wrong) {
  if (!h->here) {
    h->step = step;
    h->pass = pass;
    h->count = count;
  }
  if (step == h->step && pass == h->pass && count == h->count) return &h->shares[index];
  *wrong = "the parts of a key are at different updates: was an optimizer set while workers "
           "pushed?";
  return NULL;
}

/* ---- Joint updates (neap_joint) -------------------------------------------------------------- */

typedef struct server_joint {
  neap_joint base;
  neap_server *server;
  neap_key key; /* text is behind this */
  uint64_t life, step;
  int parts, index, home;
  size_t size;
  char text[];
} server_joint;

static void joint_drop(neap_joint *base) {
  server_joint *joint = (server_joint *)base;
  neap_free(joint->server->context, joint, joint->size);
}

static void add_up_at_home(server_joint *joint, int pass, double *sums, int count,
                           void (*done)(void *, int, const char *), void *arg) {
  neap_server *server = joint->server;
  const char *wrong = "no memory";
  news n;
  bool complete = false;
  pthread_mutex_lock(&server->joints->lock);
  home_sums *h = home_for(server, &joint->key, joint->life, joint->parts);
  share *s = h ? share_for(h, 0, joint->step, pass, count, &wrong) : NULL;
  if (s) {
    memcpy(s->sums, sums, (size_t)count * sizeof *sums);
    s->here = true;
    h->own = sums;
    h->done = done;
    h->arg = arg;
    if (++h->here == h->parts) {
      add_shares(h);
      complete = take_news(server, h, NEAP_OK, "", &n);
    }
  }
  pthread_mutex_unlock(&server->joints->lock);
  if (complete) tell(server, &n);
  if (!s) done(arg, NEAP_EFAILED, wrong);
}

static void totals_came(neap_outgoing *o, int status, const char *text, neap_reader *meta) {
  for (int i = 0; status == NEAP_OK && i < o->count; i++) o->sums[i] = neap_get_f64(meta);
  if (status == NEAP_OK && !neap_reader_done(meta)) {
    status = NEAP_EFORMAT;
    text = "damaged totals of another server";
  }
  o->told(o->arg, status, text);
}

static void joint_add_up(neap_joint *base, int pass, double *sums, int count,
                         void (*done)(void *arg, int status, const char *text), void *arg) {
  server_joint *joint = (server_joint *)base;
  neap_server *server = joint->server;
  if (joint->index == 0) {
    add_up_at_home(joint, pass, sums, count, done, arg);
    return;
  }
  neap_outgoing *o = neap_outgoing_new(server, NEAP_M_SUM, &joint->key, joint->life);
  if (!o) {
    done(arg, NEAP_ENOMEM, "no memory");
    return;
  }
  o->done = totals_came;
  o->sums = sums;
  o->count = count;
  o->told = done;
  o->arg = arg;
  neap_put_u32(&o->w, (uint32_t)joint->parts);
  neap_put_u32(&o->w, (uint32_t)joint->index);
  neap_put_u64(&o->w, joint->step);
  neap_put_u32(&o->w, (uint32_t)pass);
  neap_put_u32(&o->w, (uint32_t)count);
  for (int i = 0; i < count; i++) neap_put_f64(&o->w, sums[i]);
  neap_outgoing_send(server, joint->home, o);
}

neap_joint *neap_server_joint(neap_server *server, server_key *key) {
  size_t length = key->key->text ? key->key->length : 0;
  size_t size = sizeof(server_joint) + length + 1;
  server_joint *joint = neap_alloc(server->context, size);
  if (!joint) return NULL;
  memset(joint, 0, size);
  joint->base.first = key->begin * (key->info.shape[0] ? key->info.size / key->info.shape[0] : 0);
  joint->base.add_up = joint_add_up;
  joint->base.drop = joint_drop;
  joint->server = server;
  joint->key = *key->key;
  if (key->key->text) {
    memcpy(joint->text, key->key->text, length);
    joint->key.text = joint->text;
  }
  joint->life = key->life;
  joint->step = ++key->joint_updates;
  joint->parts = key->parts;
  joint->index = key->index;
  joint->home = key->home;
  joint->size = size;
  return &joint->base;
}

/* ---- Messages of other servers --------------------------------------------------------------- */

const char *neap_server_sum(neap_server *server, neap_session *session, neap_incoming *in,
                            neap_reader *r) {
  neap_key key;
  double sums[NEAP_P_SUMS];
  neap_get_key(r, &key);
  uint64_t life = neap_get_u64(r);
  uint32_t parts = neap_get_u32(r), index = neap_get_u32(r);
  uint64_t step = neap_get_u64(r);
  uint32_t pass = neap_get_u32(r), count = neap_get_u32(r);
  for (uint32_t i = 0; !r->bad && count <= NEAP_P_SUMS && i < count; i++) sums[i] = neap_get_f64(r);
  if (!neap_reader_done(r) || count < 1 || count > NEAP_P_SUMS || pass > 64 || index < 1 ||
      index >= parts || parts > NEAP_NODES_MAX)
    return "a damaged SUM";
  const char *wrong = "no memory";
  news n;
  bool complete = false, again = false;
  double last[NEAP_P_SUMS];
  pthread_mutex_lock(&server->joints->lock);
  home_sums *h = home_for(server, &key, life, (int)parts);
  share *s = NULL;
  if (h && h->last_count && step == h->last_step && (int)pass == h->last_pass &&
      (int)count == h->last_count) {
    again = true;
    memcpy(last, h->last, sizeof last);
  } else if (h) {
    s = share_for(h, (int)index, step, (int)pass, (int)count, &wrong);
  }
  if (s) {
    neap_session_hold(session);
    if (s->session) neap_session_release(s->session); /* asked again */
    s->session = session;
    s->request = in->frame.id;
    if (!s->here) {
      memcpy(s->sums, sums, count * sizeof *sums);
      s->here = true;
      h->here++;
    }
    if (h->here == h->parts) {
      add_shares(h);
      complete = take_news(server, h, NEAP_OK, "", &n);
    }
  }
  pthread_mutex_unlock(&server->joints->lock);
  if (complete) tell(server, &n);
  if (again)
    reply_totals(session, in->frame.id, last, (int)count);
  else if (!s)
    neap_session_reply(session, in->frame.id, 0, NEAP_EFAILED, wrong, NULL, 0);
  return NULL;
}

/* ---- Life ------------------------------------------------------------------------------------ */

/* Fails whatever waits at homes; all, or one key's. */
static void fail_homes(neap_server *server, const neap_key *key, uint64_t life, int status,
                       const char *text, bool remove) {
  neap_joints *joints = server->joints;
  for (bool more = true; more;) {
    news n;
    more = false;
    pthread_mutex_lock(&joints->lock);
    for (home_sums **at = &joints->homes; *at && !more;) {
      home_sums *h = *at;
      bool meant = !key || (h->life == life && neap_key_equal(&h->key, key));
      if (meant && h->here) more = take_news(server, h, status, text, &n);
      if (meant && !more && remove) {
        *at = h->next;
        if (h->key.text)
          neap_free(server->context, (void *)(uintptr_t)h->key.text, h->key.length + 1);
        neap_free(server->context, h, home_size(h->parts));
      } else {
        at = &h->next;
      }
    }
    pthread_mutex_unlock(&joints->lock);
    if (more) tell(server, &n);
  }
}

void neap_joints_forget(neap_server *server, const server_key *key) {
  if (key->parts > 1)
    fail_homes(server, key->key, key->life, NEAP_EKEY, "the key was deleted", true);
}

void neap_joints_lost(neap_server *server, const char *text) {
  fail_homes(server, NULL, 0, NEAP_ELOST, text, false);
}

int neap_joints_start(neap_server *server) {
  neap_joints *joints = neap_alloc(server->context, sizeof *joints);
  if (!joints) return NEAP_ENOMEM;
  memset(joints, 0, sizeof *joints);
  if (pthread_mutex_init(&joints->lock, NULL)) {
    neap_free(server->context, joints, sizeof *joints);
    return neap_fail(NEAP_ENOMEM, "a lock cannot be made");
  }
  server->joints = joints;
  return NEAP_OK;
}

void neap_joints_end(neap_server *server) {
  if (server->joints) fail_homes(server, NULL, 0, NEAP_ECLOSED, "the server ends", true);
}

void neap_joints_close(neap_server *server) {
  if (!server->joints) return;
  neap_joints_end(server);
  pthread_mutex_destroy(&server->joints->lock);
  neap_free(server->context, server->joints, sizeof *server->joints);
  server->joints = NULL;
}
