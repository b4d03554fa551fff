/* SPDX-License-Identifier: MIT */
/* rendezvous.c - see rendezvous.h.
 *
 * Facts about a job (role, root, numbers, rank) may be given by three kinds of variables. NEAP_
 * and DMLC_ names say the same things: where both speak they must agree. A launcher gives a rank
 * in a world without roles. With a role its world is the processes of that role; without, roles are
 * dealt out by rank. Launchers are nested in practice (mpirun within an sbatch script, torchrun
 * under srun, all of them in a pod), so of several the innermost counts, which is the first in the
 * table below, and the log names it. But two that started the very same world must agree on the
 * rank in it, unless the outer one is a resource manager: that one's variables leak into what it
 * started. */
#include "rendezvous.h"
#include "../engine/base.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 1000000 }; /* processes of a kind */

typedef const char *const *environ_t;

/* A number and the variable that said it, NULL: nobody did. */
typedef struct number {
  int value;
  const char *by;
} number;

/* ---- Reading variables --------------------------------------------------------------------- */

/* NULL also for one that is set to nothing. */
static const char *get(environ_t env, const char *name) {
  size_t length = strlen(name);
  for (; *env; env++)
    if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
      return (*env)[length + 1] ? *env + length + 1 : NULL;
  return NULL;
}

static int get_number(environ_t env, const char *name, int low, int high, number *out) {
  const char *text = name ? get(env, name) : NULL;
  if (!text) return NEAP_OK;
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno || *end || value < low || value > high)
    return neap_fail(NEAP_EINVAL, "%s is '%s'; it can be a number from %d to %d", name, text, low,
                     high);
  *out = (number){(int)value, name};
  return NEAP_OK;
}

/* The number of the word that a variable holds; `words` are separated by single spaces. */
static int get_word(environ_t env, const char *name, const char *words, int *out) {
  const char *text = get(env, name);
  if (!text) return NEAP_OK;
  size_t length = strlen(text);
  int index = 0;
  for (const char *word = words; word; index++) {
    const char *next = strchr(word, ' ');
    size_t size = next ? (size_t)(next - word) : strlen(word);
    if (size == length && memcmp(word, text, size) == 0) {
      *out = index;
      return NEAP_OK;
    }
    word = next ? next + 1 : NULL;
  }
  return neap_fail(NEAP_EINVAL, "%s is '%s'; it can be one of: %s", name, text, words);
}

static int contradiction(const char *a, const char *is, const char *b, const char *but) {
  return neap_fail(NEAP_EINVAL, "%s is %s, but %s is %s: unset the one that does not hold", a, is,
                   b, but);
}

static int numbers_agree(number a, number b) {
  if (!a.by || !b.by || a.value == b.value) return NEAP_OK;
  char is[16], but[16];
  snprintf(is, sizeof is, "%d", a.value);
  snprintf(but, sizeof but, "%d", b.value);
  return contradiction(a.by, is, b.by, but);
}

/* By one of two names. */
static int get_either(environ_t env, const char *ours, const char *theirs, int low, number *out) {
  number other = {0};
  NEAP_TRY(get_number(env, ours, low, MOST, out));
  NEAP_TRY(get_number(env, theirs, low, MOST, &other));
  NEAP_TRY(numbers_agree(*out, other));
  if (!out->by) *out = other;
  return NEAP_OK;
}

/* ---- What is told by name ------------------------------------------------------------------ */

typedef struct facts {
  int role;
  const char *role_by;
  const char *root_by;
  number num_workers, num_servers, rank, local_rank;
} facts;

static const char *const role_names[] = {"", "worker", "server", "scheduler"};
static const char roles[] = "worker server scheduler";
static const char THIS[] = "this program";

static int read_role(environ_t env, facts *f, int is) {
  int ours = -1, theirs = -1;
  NEAP_TRY(get_word(env, "NEAP_ROLE", roles, &ours));
  NEAP_TRY(get_word(env, "DMLC_ROLE", roles, &theirs));
  if (ours >= 0 && theirs >= 0 && ours != theirs)
    return contradiction("NEAP_ROLE", role_names[ours + 1], "DMLC_ROLE", role_names[theirs + 1]);
  f->role_by = ours >= 0 ? "NEAP_ROLE" : theirs >= 0 ? "DMLC_ROLE" : NULL;
  f->role = 1 + (ours >= 0 ? ours : theirs);
  if (is == NEAP_ROLE_NONE) return NEAP_OK;
  if (f->role_by && f->role != is)
    return contradiction(f->role_by, role_names[f->role], "the role of this program",
                         role_names[is]);
  f->role_by = f->role_by ? f->role_by : THIS;
  f->role = is;
  return NEAP_OK;
}

/* "tcp://host:port"; a host with colons is an IPv6 address. */
static int write_tcp(char *out, size_t size, const char *host, int port) {
  bool bare = strchr(host, ':') && host[0] != '[';
  int length = snprintf(out, size, bare ? "tcp://[%s]:%d" : "tcp://%s:%d", host, port);
  if (length < 0 || (size_t)length >= size)
    return neap_fail(NEAP_EINVAL, "the host name '%.40s...' is too long", host);
  return NEAP_OK;
}

static int read_root(environ_t env, facts *f, neap_job_place *place) {
  const char *ours = get(env, "NEAP_ROOT_URI"), *host = get(env, "DMLC_PS_ROOT_URI");
  char theirs[sizeof place->root_uri];
  if (host) {
    number port = {0};
    NEAP_TRY(get_number(env, "DMLC_PS_ROOT_PORT", 1, 65535, &port));
    if (!port.by)
      return neap_fail(NEAP_EINVAL, "DMLC_PS_ROOT_URI is set, and DMLC_PS_ROOT_PORT is not");
    NEAP_TRY(write_tcp(theirs, sizeof theirs, host, port.value));
    if (ours && strcmp(ours, theirs) != 0)
      return contradiction("NEAP_ROOT_URI", ours, "DMLC_PS_ROOT_URI with its port", theirs);
  }
  if (!ours && !host) return NEAP_OK;
  f->root_by = ours ? "NEAP_ROOT_URI" : "DMLC_PS_ROOT_URI";
  if (ours && strlen(ours) >= sizeof place->root_uri)
    return neap_fail(NEAP_EINVAL, "NEAP_ROOT_URI has more than %zu bytes",
                     sizeof place->root_uri - 1);
  snprintf(place->root_uri, sizeof place->root_uri, "%s", ours ? ours : theirs);
  return NEAP_OK;
}

static int read_facts(environ_t env, facts *f, neap_job_place *place) {
  NEAP_TRY(read_role(env, f, place->role));
  NEAP_TRY(read_root(env, f, place));
  NEAP_TRY(get_either(env, "NEAP_NUM_WORKERS", "DMLC_NUM_WORKER", 1, &f->num_workers));
  NEAP_TRY(get_either(env, "NEAP_NUM_SERVERS", "DMLC_NUM_SERVER", 0, &f->num_servers));
  NEAP_TRY(get_number(env, "NEAP_RANK", 0, MOST, &f->rank));
  return get_number(env, "NEAP_LOCAL_RANK", 0, MOST, &f->local_rank);
}

/* ---- Launchers ----------------------------------------------------------------------------- */

typedef struct launcher launcher;

/* What one has set. */
typedef struct world {
  const launcher *by; /* NULL: there is none */
  number rank, size, local_rank;
} world;

struct launcher {
  const char *name;
  const char *rank; /* variables; it counts as there when this one is set */
  const char *size, *or_size;
  const char *local_rank;
  bool needs_size; /* its names are so common that one alone proves nothing */
  bool manages;    /* starts other launchers, too */
  /* The scheduler's address, the same on all ranks. */
  int (*root)(environ_t env, const world *w, char *out, size_t size);
};

/* A port that all ranks of a job derive from what they have in common (FNV-1a). Below 32768, where
 * Linux begins to hand out ports for outgoing connections, any of which might hold it. */
static int port_of(const char *kind, const char *a, const char *b) {
  const char *texts[] = {kind, a, b ? b : ""};
  uint32_t hash = 2166136261u;
  for (int i = 0; i < 3; i++) {
    for (const char *c = texts[i]; *c; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    hash = (hash ^ ' ') * 16777619u;
  }
  return 20000 + (int)(hash % 12768);
}

static int need_root(const world *w, const char *why) {
  return neap_fail(NEAP_EINVAL,
                   "%s started this job, and %s: set NEAP_ROOT_URI to an address of rank 0's host, "
                   "as tcp://host:9091, the same for all ranks",
                   w->by->name, why);
}

/* MASTER_PORT itself belongs to torchrun. */
static int root_torchrun(environ_t env, const world *w, char *out, size_t size) {
  const char *host = get(env, "MASTER_ADDR"), *port = get(env, "MASTER_PORT");
  if (!host || !port) return need_root(w, "MASTER_ADDR or MASTER_PORT is not set");
  number local_size = {0};
  NEAP_TRY(get_number(env, "LOCAL_WORLD_SIZE", 1, MOST, &local_size));
  bool one_host = local_size.by && local_size.value == w->size.value;
  return write_tcp(out, size, one_host ? "127.0.0.1" : host, port_of("torchrun", host, port));
}

/* The first host of a list as "a[3-5,8],b" -> "a3". False: there is none, or no room. */
static bool first_host(const char *list, char *out, size_t size) {
  size_t n = 0;
  for (; *list && *list != ','; list++) {
    if (*list == '[') { /* of each range its first number */
      for (list++; *list && !strchr(",-]", *list); list++) {
        if (n + 1 >= size) return false;
        out[n++] = *list;
      }
      list += strcspn(list, "]");
      if (!*list) return false;
    } else {
      if (n + 1 >= size) return false;
      out[n++] = *list;
    }
  }
  out[n] = 0;
  return n > 0;
}

/* Whether a list names more hosts than one. */
static bool several_hosts(const char *list) {
  for (const char *open = strchr(list, '['); open; open = strchr(open + 1, '[')) {
    size_t inside = strcspn(open, "]");
    if (memchr(open, '-', inside) || memchr(open, ',', inside)) return true;
  }
  return strchr(list, ',') != NULL;
}

static int root_slurm(environ_t env, const world *w, char *out, size_t size) {
  const char *list = get(env, "SLURM_STEP_NODELIST"), *job = get(env, "SLURM_JOB_ID");
  char host[200];
  if (!list) list = get(env, "SLURM_JOB_NODELIST");
  if (!job) return need_root(w, "SLURM_JOB_ID is not set");
  if (!list || !first_host(list, host, sizeof host))
    return need_root(w, "SLURM_STEP_NODELIST names no host");
  return write_tcp(out, size, several_hosts(list) ? host : "127.0.0.1",
                   port_of("slurm", job, get(env, "SLURM_STEP_ID")));
}

/* Of a job that mpirun started. On several hosts of a Slurm allocation the first one has rank 0;
 * steps are not looked at, since mpirun's own daemons are other steps than its ranks here. */
static int root_mpirun(environ_t env, const world *w, char *out, size_t size) {
  static const char *const here_names[] = {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"};
  static const char *const id_names[] = {"OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE",
                                         "SLURM_JOB_ID"};
  const char *list = get(env, "SLURM_JOB_NODELIST"), *id = NULL;
  char host[200] = "127.0.0.1";
  for (int i = 0; i < 2; i++) {
    number here = {0};
    NEAP_TRY(get_number(env, here_names[i], 1, MOST, &here));
    if (!here.by || !w->size.by || here.value >= w->size.value) continue;
    if (!list || !first_host(list, host, sizeof host))
      return need_root(w, "it is on several hosts");
  }
  for (int i = 0; i < 3 && !id; i++) id = get(env, id_names[i]);
  if (!id) return need_root(w, "gave the job no number that an address could be derived from");
  return write_tcp(out, size, host, port_of("mpirun", id, NULL));
}

/* The protocols of mpirun and srun alike. */
static int root_pmi(environ_t env, const world *w, char *out, size_t size) {
  bool srun = get(env, "SLURM_PROCID") && !get(env, "MPI_LOCALNRANKS");
  return srun ? root_slurm(env, w, out, size) : root_mpirun(env, w, out, size);
}

static int root_kubernetes(environ_t env, const world *w, char *out, size_t size) {
  return need_root(w, "the name of the pod of index 0 is not known here");
}

/* The innermost first. */
static const launcher launchers[] = {
    {"torchrun", "RANK", "WORLD_SIZE", NULL, "LOCAL_RANK", true, false, root_torchrun},
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", NULL, "OMPI_COMM_WORLD_LOCAL_RANK",
     true, false, root_mpirun},
    {"PMIx", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_LOCAL_RANK",
     false, false, root_pmi},
    {"PMI", "PMI_RANK", "PMI_SIZE", NULL, "MPI_LOCALRANKID", true, false, root_pmi},
    {"Slurm", "SLURM_PROCID", "SLURM_NTASKS", NULL, "SLURM_LOCALID", true, true, root_slurm},
    {"Kubernetes", "JOB_COMPLETION_INDEX", NULL, NULL, NULL, false, true, root_kubernetes},
};
enum { NUM_LAUNCHERS = sizeof launchers / sizeof launchers[0] };

/* w->by stays NULL if this launcher has set nothing. */
static int read_world(environ_t env, const launcher *by, world *w) {
  if (!get(env, by->rank)) return NEAP_OK;
  if (by->needs_size && !get(env, by->size)) return NEAP_OK;
  NEAP_TRY(get_number(env, by->rank, 0, MOST, &w->rank));
  NEAP_TRY(get_number(env, by->size, 1, MOST, &w->size));
  if (!w->size.by) NEAP_TRY(get_number(env, by->or_size, 1, MOST, &w->size));
  NEAP_TRY(get_number(env, by->local_rank, 0, MOST, &w->local_rank));
  if (w->size.by && w->rank.value >= w->size.value)
    return neap_fail(NEAP_EINVAL, "%s is %d, but %s is %d: ranks are below it", w->rank.by,
                     w->rank.value, w->size.by, w->size.value);
  w->by = by;
  return NEAP_OK;
}

/* The innermost world. Another one of the same size must have the same rank. */
static int find_world(environ_t env, world *out) {
  for (int i = 0; i < NUM_LAUNCHERS; i++) {
    world w = {0};
    if (out->by && launchers[i].manages) break;
    NEAP_TRY(read_world(env, &launchers[i], &w));
    if (!w.by) continue;
    if (!out->by)
      *out = w;
    else if (w.size.by && w.size.value == out->size.value)
      NEAP_TRY(numbers_agree(out->rank, w.rank));
  }
  return NEAP_OK;
}

/* ---- Putting it together ------------------------------------------------------------------- */

static int missing(const char *what, const char *because) {
  return neap_fail(NEAP_EINVAL, "%s is not set, and is needed because %s", what, because);
}

/* The role is told: a launcher's world, where there is one, is made of processes of that role. */
static int place_by_role(const facts *f, const world *w, neap_job_options *o, neap_job_place *p) {
  char because[64];
  if (strcmp(f->role_by, THIS) == 0)
    snprintf(because, sizeof because, "this is a %s", role_names[f->role]);
  else
    snprintf(because, sizeof because, "%s makes this a %s", f->role_by, role_names[f->role]);
  if (!f->root_by) return missing("NEAP_ROOT_URI", because);
  if (!f->num_workers.by) return missing("NEAP_NUM_WORKERS", because);
  if (!f->num_servers.by) return missing("NEAP_NUM_SERVERS", because);
  if (f->num_servers.value == 0)
    return neap_fail(NEAP_EINVAL, "%s is 0; where %s there is at least one", f->num_servers.by,
                     because);
  p->role = f->role;
  o->num_workers = f->num_workers.value;
  o->num_servers = f->num_servers.value;
  o->rank = -1;
  snprintf(p->how, sizeof p->how, "a %s of %d workers and %d servers by %s", role_names[p->role],
           o->num_workers, o->num_servers, f->role_by);
  if (f->role == NEAP_ROLE_SCHEDULER) return NEAP_OK;

  number all = f->role == NEAP_ROLE_WORKER ? f->num_workers : f->num_servers, rank = f->rank;
  if (w->by && !w->by->manages) {
    NEAP_TRY(numbers_agree(all, w->size));
    NEAP_TRY(numbers_agree(f->rank, w->rank));
  }
  bool same_world = w->by && (!w->size.by || w->size.value == all.value);
  if (!rank.by && same_world) {
    rank = w->rank;
    if (p->local_rank < 0 && w->local_rank.by) p->local_rank = w->local_rank.value;
  }
  if (!rank.by) return NEAP_OK;
  if (rank.value >= all.value)
    return neap_fail(NEAP_EINVAL, "%s is %d, but %s is %d: ranks are below it", rank.by, rank.value,
                     all.by, all.value);
  o->rank = rank.value;
  snprintf(p->how, sizeof p->how, "%s %d of %d workers and %d servers by %s, rank by %s",
           role_names[p->role], o->rank, o->num_workers, o->num_servers, f->role_by, rank.by);
  return NEAP_OK;
}

/* No role is told: it follows from the rank. */
static int place_by_world(environ_t env, const facts *f, const world *w, neap_job_options *o,
                          neap_job_place *p) {
  int servers = f->num_servers.by ? f->num_servers.value : 0, all = w->size.value;
  NEAP_TRY(numbers_agree(f->rank, w->rank));
  if (!w->size.by) {
    if (!f->num_workers.by) {
      char because[64];
      snprintf(because, sizeof because, "%s says nothing of how many there are", w->rank.by);
      return missing("NEAP_NUM_WORKERS", because);
    }
    all = f->num_workers.value + servers;
    if (w->rank.value >= all)
      return neap_fail(NEAP_EINVAL, "%s is %d, but by %s there are %d processes", w->rank.by,
                       w->rank.value, f->num_workers.by, all);
  }
  if (servers >= all)
    return neap_fail(NEAP_EINVAL, "%s is %d, but %s is %d: that leaves no workers",
                     f->num_servers.by, servers, w->size.by, all);
  if (f->num_workers.by && f->num_workers.value != all - servers)
    return neap_fail(NEAP_EINVAL,
                     "%s is %d, but %s is %d, less %d servers: start %d processes, or "
                     "leave it unset",
                     f->num_workers.by, f->num_workers.value, w->size.by, all, servers,
                     f->num_workers.value + servers);
  if (!f->root_by) NEAP_TRY(w->by->root(env, w, p->root_uri, sizeof p->root_uri));
  int rank = w->rank.value;
  p->role = rank < servers ? NEAP_ROLE_SERVER : NEAP_ROLE_WORKER;
  p->host_scheduler = rank == 0;
  p->host_server = rank == 0 && servers == 0;
  if (p->local_rank < 0 && w->local_rank.by) p->local_rank = w->local_rank.value;
  o->rank = rank < servers ? rank : rank - servers;
  o->num_workers = all - servers;
  o->num_servers = servers ? servers : 1;
  snprintf(p->how, sizeof p->how, "%s %d of %d workers and %d servers by %s: %s is %d of %d",
           role_names[p->role], o->rank, o->num_workers, o->num_servers, w->by->name, w->rank.by,
           rank, all);
  return NEAP_OK;
}

static int find_place(environ_t env, neap_job_options *o, neap_job_place *p) {
  facts f = {0};
  world w = {0};
  NEAP_TRY(read_facts(env, &f, p));
  NEAP_TRY(find_world(env, &w));
  p->local_rank = f.local_rank.by ? f.local_rank.value : -1;
  if (f.role_by)
    NEAP_TRY(place_by_role(&f, &w, o, p));
  else if (w.by)
    NEAP_TRY(place_by_world(env, &f, &w, o, p));
  else if (f.root_by)
    return neap_fail(NEAP_EINVAL, "%s is set, and %s is not: it can be one of: %s", f.root_by,
                     f.root_by[0] == 'N' ? "NEAP_ROLE" : "DMLC_ROLE", roles);
  return NEAP_OK;
}

/* ---- Other options ------------------------------------------------------------------------- */

static int read_options(environ_t env, neap_job_options *o) {
  const char *timeout = get(env, "NEAP_TIMEOUT"), *bound = get(env, "NEAP_BIGARRAY_BOUND"), *text;
  char *end;
  if (timeout) {
    o->timeout = strtod(timeout, &end);
    if (*end || !(o->timeout > 0) || !isfinite(o->timeout))
      return neap_fail(NEAP_EINVAL, "NEAP_TIMEOUT is '%s'; it can be a number of seconds above 0",
                       timeout);
  }
  if (bound) {
    errno = 0;
    o->bigarray_bound = strtoll(bound, &end, 10);
    if (errno || *end || o->bigarray_bound < 1)
      return neap_fail(NEAP_EINVAL,
                       "NEAP_BIGARRAY_BOUND is '%s'; it can be a number of elements from 1", bound);
  }
  NEAP_TRY(get_word(env, "NEAP_ON_WORKER_LOST", "fail continue", &o->on_worker_lost));
  if ((text = get(env, "NEAP_SECRET"))) o->secret = text;
  if ((text = get(env, "NEAP_ADMIN_SECRET"))) o->admin_secret = text;
  if ((text = get(env, "NEAP_LISTEN_URI"))) o->listen_uri = text;
  if ((text = get(env, "NEAP_ADVERTISE_URI"))) o->advertise_uri = text;
  if ((text = get(env, "NEAP_TLS_CA"))) o->tls_ca = text;
  if ((text = get(env, "NEAP_TLS_CERT"))) o->tls_cert = text;
  return NEAP_OK;
}

int neap_rendezvous(const char *const *environment, neap_job_options *options,
                    neap_job_place *place) {
  neap_job_options o = *options;
  NEAP_TRY(read_options(environment, &o));
  if (place) {
    neap_job_place p = {.size = sizeof p, .role = place->role, .log_level = NEAP_LOG_WARN};
    NEAP_TRY(get_word(environment, "NEAP_LOG", "error warn info debug", &p.log_level));
    NEAP_TRY(find_place(environment, &o, &p));
    *place = p;
    if (*place->root_uri) o.root_uri = place->root_uri;
  }
  *options = o;
  return NEAP_OK;
}

int neap_job_options_env(neap_job_options *options, const char *const *environment,
                         neap_job_place *place) {
  extern char **environ;
  if (!options || options->size != sizeof *options)
    return neap_fail(NEAP_EINVAL, "neap_job_options: call neap_job_options_init first");
  if (place && place->size != sizeof *place)
    return neap_fail(NEAP_EINVAL, "neap_job_place: size is %zu, not %zu", place->size,
                     sizeof *place);
  if (place && (place->role < NEAP_ROLE_NONE || place->role > NEAP_ROLE_SCHEDULER))
    return neap_fail(NEAP_EINVAL, "neap_job_place: role %d is none", place->role);
  return neap_rendezvous(environment ? environment : (const char *const *)environ, options, place);
}
