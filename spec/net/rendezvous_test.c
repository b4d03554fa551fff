/* SPDX-License-Identifier: MIT */
/* rendezvous_test.c - who a process is, by the variables that launchers set: a table of
 * environments, as their manuals and `mpirun env` have them, and what they must give. */
#include "net/rendezvous.h"
#include "spec/check.h"
#include <stdbool.h>
#include <string.h>

enum { MOST = 16 };

/* ---- What must be understood --------------------------------------------------------------- */

typedef struct good {
  const char *name;
  const char *env[MOST];
  const char *is;         /* see describe() */
  const char *root, *how; /* NULL: not looked at; how: it must hold this */
} good;

#define FULL "NEAP_ROOT_URI=tcp://10.0.0.1:9091", "NEAP_NUM_WORKERS=4", "NEAP_NUM_SERVERS=2"
#define ROOT "tcp://10.0.0.1:9091"
#define DMLC                                                                                       \
  "DMLC_NUM_WORKER=3", "DMLC_NUM_SERVER=2", "DMLC_PS_ROOT_URI=10.0.0.2", "DMLC_PS_ROOT_PORT=8000"
#define OMPI(rank, size, local_size)                                                               \
  "OMPI_COMM_WORLD_RANK=" #rank, "OMPI_COMM_WORLD_SIZE=" #size,                                    \
      "OMPI_COMM_WORLD_LOCAL_SIZE=" #local_size, "OMPI_COMM_WORLD_LOCAL_RANK=" #rank,              \
      "OMPI_MCA_ess_base_jobid=786038785", "PMIX_NAMESPACE=786038785", "PMIX_RANK=" #rank
#define TORCH(rank, size)                                                                          \
  "RANK=" #rank, "WORLD_SIZE=" #size, "MASTER_ADDR=10.1.1.1", "MASTER_PORT=29500"
#define SLURM(rank, size, list)                                                                    \
  "SLURM_PROCID=" #rank, "SLURM_NTASKS=" #size, "SLURM_STEP_NODELIST=" list, "SLURM_JOB_ID=77",    \
      "SLURM_STEP_ID=0"

static const good goods[] = {
    {"no job", {"PATH=/bin", "HOME=/"}, .is = "none"},
    {"no job: names alone that others use", {"RANK=3"}, .is = "none"},
    {"no job: empty is unset", {"NEAP_ROLE=", "NEAP_ROOT_URI="}, .is = "none"},

    /* NEAP_ */
    {"neap",
     {"NEAP_ROLE=worker", FULL, "NEAP_RANK=3"},
     .is = "worker 3: 4+2",
     .root = ROOT,
     .how = "worker 3 of 4 workers and 2 servers by NEAP_ROLE, rank by NEAP_RANK"},
    {"neap: the scheduler gives the rank", {"NEAP_ROLE=worker", FULL}, .is = "worker -1: 4+2"},
    {"neap: server", {"NEAP_ROLE=server", FULL, "NEAP_RANK=1"}, .is = "server 1: 4+2"},
    {"neap: scheduler", {"NEAP_ROLE=scheduler", FULL}, .is = "scheduler -1: 4+2"},
    {"neap: local rank",
     {"NEAP_ROLE=worker", FULL, "NEAP_LOCAL_RANK=1"},
     .is = "worker -1: 4+2, local 1"},

    /* DMLC_ */
    {"dmlc",
     {"DMLC_ROLE=worker", DMLC},
     .is = "worker -1: 3+2",
     .root = "tcp://10.0.0.2:8000",
     .how = "by DMLC_ROLE"},
    {"dmlc: server", {"DMLC_ROLE=server", DMLC}, .is = "server -1: 3+2"},
    {"dmlc: scheduler", {"DMLC_ROLE=scheduler", DMLC}, .is = "scheduler -1: 3+2"},
    {"dmlc: IPv6",
     {"DMLC_ROLE=worker", "DMLC_NUM_WORKER=1", "DMLC_NUM_SERVER=1", "DMLC_PS_ROOT_URI=::1",
      "DMLC_PS_ROOT_PORT=8000"},
     .is = "worker -1: 1+1",
     .root = "tcp://[::1]:8000"},
    {"both, agreeing",
     {"NEAP_ROLE=worker", "DMLC_ROLE=worker", "NEAP_NUM_WORKERS=3", DMLC},
     .is = "worker -1: 3+2",
     .how = "by NEAP_ROLE"},
    {"both, completing each other",
     {"NEAP_ROLE=server", DMLC, "NEAP_RANK=1"},
     .is = "server 1: 3+2",
     .root = "tcp://10.0.0.2:8000"},

    /* A role, and a launcher that gives ranks within it. */
    {"role and mpirun",
     {"NEAP_ROLE=worker", FULL, OMPI(2, 4, 4)},
     .is = "worker 2: 4+2, local 2",
     .root = ROOT,
     .how = "rank by OMPI_COMM_WORLD_RANK"},
    {"role and mpirun: servers",
     {"NEAP_ROLE=server", FULL, OMPI(1, 2, 2)},
     .is = "server 1: 4+2, local 1"},
    {"dmlc role and mpirun",
     {"DMLC_ROLE=worker", DMLC, OMPI(2, 3, 3)},
     .is = "worker 2: 3+2, local 2"},
    {"role and a pod", {"NEAP_ROLE=worker", FULL, "JOB_COMPLETION_INDEX=3"}, .is = "worker 3: 4+2"},
    {"role and srun", {"NEAP_ROLE=worker", FULL, SLURM(1, 4, "a")}, .is = "worker 1: 4+2"},
    {"role, within another srun",
     {"NEAP_ROLE=worker", FULL, SLURM(0, 1, "a")},
     .is = "worker -1: 4+2"},
    {"role and rank, within another srun",
     {"NEAP_ROLE=worker", FULL, "NEAP_RANK=3", SLURM(0, 4, "a")},
     .is = "worker 3: 4+2"},

    /* torchrun */
    {"torchrun",
     {TORCH(2, 4), "LOCAL_RANK=1"},
     .is = "worker 2: 4+1, local 1",
     .how = "worker 2 of 4 workers and 1 servers by torchrun: RANK is 2 of 4"},
    {"torchrun: rank 0", {TORCH(0, 4)}, .is = "worker 0: 4+1, scheduler, server"},
    {"torchrun: servers first",
     {TORCH(0, 4), "NEAP_NUM_SERVERS=2"},
     .is = "server 0: 2+2, scheduler"},
    {"torchrun: server 1", {TORCH(1, 4), "NEAP_NUM_SERVERS=2"}, .is = "server 1: 2+2"},
    {"torchrun: then workers", {TORCH(2, 4), "NEAP_NUM_SERVERS=2"}, .is = "worker 0: 2+2"},
    {"torchrun: a root",
     {TORCH(1, 4), "NEAP_ROOT_URI=tcp://x:1"},
     .is = "worker 1: 4+1",
     .root = "tcp://x:1"},
    {"torchrun: all agree",
     {TORCH(1, 4), "NEAP_RANK=1", "NEAP_NUM_WORKERS=3", "NEAP_NUM_SERVERS=1", OMPI(1, 4, 4)},
     .is = "worker 0: 3+1"},

    /* mpirun */
    {"mpirun", {OMPI(1, 2, 2)}, .is = "worker 1: 2+1, local 1", .how = "by Open MPI"},
    {"mpirun: rank 0", {OMPI(0, 2, 2)}, .is = "worker 0: 2+1, local 0, scheduler, server"},
    {"mpirun: none within",
     {OMPI(0, 2, 2), "NEAP_NUM_SERVERS=0"},
     .is = "worker 0: 2+1, local 0, scheduler, server"},
    {"mpirun: several hosts",
     {OMPI(5, 8, 4), "NEAP_ROOT_URI=tcp://h:1"},
     .is = "worker 5: 8+1, local 5",
     .root = "tcp://h:1"},
    {"prterun",
     {"PMIX_RANK=2", "PMIX_NAMESPACE=prterun-h-7@1", "NEAP_NUM_WORKERS=4"},
     .is = "worker 2: 4+1",
     .how = "by PMIx"},
    {"hydra",
     {"PMI_RANK=1", "PMI_SIZE=2", "PMI_FD=7", "MPI_LOCALNRANKS=2", "MPI_LOCALRANKID=1",
      "NEAP_ROOT_URI=tcp://127.0.0.1:9"},
     .is = "worker 1: 2+1, local 1",
     .how = "by PMI"},

    /* srun */
    {"srun",
     {SLURM(1, 2, "n7"), "SLURM_LOCALID=1"},
     .is = "worker 1: 2+1, local 1",
     .how = "by Slurm"},
    {"srun --mpi=pmi2",
     {SLURM(1, 2, "n7"), "PMI_RANK=1", "PMI_SIZE=2", "PMI_JOBID=77.0"},
     .is = "worker 1: 2+1",
     .how = "by PMI"},
    {"srun --mpi=pmix",
     {SLURM(1, 2, "n7"), "PMIX_RANK=1", "PMIX_NAMESPACE=slurm.pmix.77.0"},
     .is = "worker 1: 2+1",
     .how = "by PMIx"},

    /* One within the other: the innermost counts. */
    {"mpirun in sbatch",
     {OMPI(2, 4, 4), SLURM(0, 4, "n7")},
     .is = "worker 2: 4+1, local 2",
     .how = "by Open MPI"},
    {"torchrun under srun",
     {TORCH(9, 16), SLURM(1, 2, "n[7-8]")},
     .is = "worker 9: 16+1",
     .how = "by torchrun"},
    {"torchrun in mpirun", {TORCH(5, 8), OMPI(1, 2, 1)}, .is = "worker 5: 8+1"},
    {"torchrun in a pod", {TORCH(3, 4), "JOB_COMPLETION_INDEX=0"}, .is = "worker 3: 4+1"},

    /* Kubernetes */
    {"kubernetes",
     {"JOB_COMPLETION_INDEX=0", "NEAP_NUM_WORKERS=2", "NEAP_NUM_SERVERS=1",
      "NEAP_ROOT_URI=tcp://j-0.svc:9091"},
     .is = "server 0: 2+1, scheduler",
     .root = "tcp://j-0.svc:9091",
     .how = "by Kubernetes"},
    {"kubernetes: worker",
     {"JOB_COMPLETION_INDEX=2", "NEAP_NUM_WORKERS=2", "NEAP_NUM_SERVERS=1",
      "NEAP_ROOT_URI=tcp://j-0.svc:9091"},
     .is = "worker 1: 2+1"},
};

static neap_job_options fresh(void) {
  return (neap_job_options){
      .size = sizeof(neap_job_options), .timeout = 60, .rank = -1, .bigarray_bound = 1000000};
}

static int resolve(const char *const *env, neap_job_options *o, neap_job_place *p) {
  *o = fresh();
  *p = (neap_job_place){.size = sizeof *p};
  return neap_job_options_env(o, env, p);
}

/* .is = "worker 2: 4+1, local 0, scheduler, server": rank, numbers of workers and servers, local
 * rank where it is known, and what lives inside the process. */
static void describe(const neap_job_options *o, const neap_job_place *p, char *out, size_t size) {
  static const char *const roles[] = {"none", "worker", "server", "scheduler"};
  char local[32] = "";
  if (p->local_rank >= 0) snprintf(local, sizeof local, ", local %d", p->local_rank);
  if (p->role == NEAP_ROLE_NONE)
    snprintf(out, size, "none%s", o->root_uri || *p->how ? ", but told of a job" : "");
  else
    snprintf(out, size, "%s %d: %d+%d%s%s%s", roles[p->role], o->rank, o->num_workers,
             o->num_servers, local, p->host_scheduler ? ", scheduler" : "",
             p->host_server ? ", server" : "");
}

static void check_good(const good *c) {
  neap_job_options o;
  neap_job_place p;
  char is[128];
  if (resolve(c->env, &o, &p) != NEAP_OK) {
    fprintf(stderr, "%s: %s\n", c->name, neap_error());
    exit(1);
  }
  describe(&o, &p, is, sizeof is);
  if (strcmp(is, c->is) != 0 || (c->root && strcmp(c->root, p.root_uri) != 0) ||
      (c->how && !strstr(p.how, c->how))) {
    fprintf(stderr, "%s: is '%s' at '%s', how: %s\n", c->name, is, p.root_uri, p.how);
    exit(1);
  }
  CHECK(p.role == NEAP_ROLE_NONE || (o.root_uri == p.root_uri && strstr(p.root_uri, "://")));
}

/* ---- What must be refused, and the words it must be refused with --------------------------- */

static const struct bad {
  const char *env[MOST];
  const char *words[3];
} bads[] = {
    /* Values. */
    {{"NEAP_ROLE=boss", FULL}, {"NEAP_ROLE is 'boss'", "worker server scheduler"}},
    {{"DMLC_ROLE=boss", DMLC}, {"DMLC_ROLE is 'boss'", "worker server scheduler"}},
    {{"NEAP_ROLE=work", FULL}, {"NEAP_ROLE is 'work'"}},
    {{"NEAP_NUM_WORKERS=0"}, {"NEAP_NUM_WORKERS is '0'", "from 1"}},
    {{"NEAP_NUM_WORKERS=two"}, {"NEAP_NUM_WORKERS is 'two'"}},
    {{"NEAP_NUM_WORKERS=99999999999999999999"}, {"NEAP_NUM_WORKERS is '99999999999999999999'"}},
    {{"NEAP_NUM_SERVERS=-1"}, {"NEAP_NUM_SERVERS is '-1'", "from 0"}},
    {{"NEAP_RANK=1.5"}, {"NEAP_RANK is '1.5'"}},
    {{"NEAP_TIMEOUT=0"}, {"NEAP_TIMEOUT is '0'", "seconds above 0"}},
    {{"NEAP_TIMEOUT=soon"}, {"NEAP_TIMEOUT is 'soon'"}},
    {{"NEAP_TIMEOUT=nan"}, {"NEAP_TIMEOUT is 'nan'"}},
    {{"NEAP_TIMEOUT=inf"}, {"NEAP_TIMEOUT is 'inf'"}},
    {{"NEAP_ON_WORKER_LOST=retry"}, {"NEAP_ON_WORKER_LOST is 'retry'", "fail continue"}},
    {{"NEAP_BIGARRAY_BOUND=0"}, {"NEAP_BIGARRAY_BOUND is '0'", "from 1"}},
    {{"NEAP_BIGARRAY_BOUND=1e6"}, {"NEAP_BIGARRAY_BOUND is '1e6'"}},
    {{"NEAP_LOG=loud"}, {"NEAP_LOG is 'loud'", "error warn info debug"}},
    {{"DMLC_ROLE=worker", "DMLC_NUM_WORKER=1", "DMLC_NUM_SERVER=1", "DMLC_PS_ROOT_URI=h",
      "DMLC_PS_ROOT_PORT=70000"},
     {"DMLC_PS_ROOT_PORT is '70000'"}},
    {{TORCH(x, 4)}, {"RANK is 'x'"}},
    {{OMPI(1, many, 1)}, {"OMPI_COMM_WORLD_SIZE is 'many'"}},

    /* Ranks beyond the number. */
    {{"NEAP_ROLE=worker", FULL, "NEAP_RANK=4"}, {"NEAP_RANK is 4", "NEAP_NUM_WORKERS is 4"}},
    {{"NEAP_ROLE=server", FULL, "NEAP_RANK=2"}, {"NEAP_RANK is 2", "NEAP_NUM_SERVERS is 2"}},
    {{TORCH(4, 4)}, {"RANK is 4", "WORLD_SIZE is 4"}},
    {{"JOB_COMPLETION_INDEX=2", "NEAP_NUM_WORKERS=2", "NEAP_ROOT_URI=tcp://h:1"},
     {"JOB_COMPLETION_INDEX is 2", "NEAP_NUM_WORKERS", "2 processes"}},
    {{TORCH(0, 2), "NEAP_NUM_SERVERS=2"},
     {"NEAP_NUM_SERVERS is 2", "WORLD_SIZE is 2", "no workers"}},

    /* What is missing. */
    {{"NEAP_ROLE=worker"}, {"NEAP_ROOT_URI is not set", "NEAP_ROLE makes this a worker"}},
    {{"NEAP_ROLE=worker", "NEAP_ROOT_URI=tcp://h:1"}, {"NEAP_NUM_WORKERS is not set"}},
    {{"DMLC_ROLE=server", "NEAP_ROOT_URI=tcp://h:1", "NEAP_NUM_WORKERS=1"},
     {"NEAP_NUM_SERVERS is not set", "DMLC_ROLE makes this a server"}},
    {{"NEAP_ROLE=worker", "NEAP_ROOT_URI=tcp://h:1", "NEAP_NUM_WORKERS=1", "NEAP_NUM_SERVERS=0"},
     {"NEAP_NUM_SERVERS is 0"}},
    {{FULL}, {"NEAP_ROOT_URI is set", "NEAP_ROLE is not", "worker server scheduler"}},
    {{DMLC}, {"DMLC_PS_ROOT_URI is set", "DMLC_ROLE is not"}},
    {{"DMLC_PS_ROOT_URI=h"}, {"DMLC_PS_ROOT_PORT is not"}},
    {{"JOB_COMPLETION_INDEX=0"}, {"NEAP_NUM_WORKERS is not set", "JOB_COMPLETION_INDEX"}},
    {{"JOB_COMPLETION_INDEX=0", "NEAP_NUM_WORKERS=2"}, {"Kubernetes", "NEAP_ROOT_URI"}},
    {{"RANK=0", "WORLD_SIZE=2"}, {"torchrun", "MASTER_ADDR", "NEAP_ROOT_URI"}},
    {{OMPI(0, 4, 2)}, {"Open MPI", "several hosts", "NEAP_ROOT_URI"}},
    {{"PMI_RANK=0", "PMI_SIZE=2"}, {"PMI", "NEAP_ROOT_URI"}},
    {{"SLURM_PROCID=0", "SLURM_NTASKS=2", "SLURM_STEP_NODELIST=a"}, {"Slurm", "SLURM_JOB_ID"}},
    {{SLURM(0, 2, "a[1")}, {"Slurm", "SLURM_STEP_NODELIST"}},
    {{SLURM(0, 2, ",")}, {"Slurm", "SLURM_STEP_NODELIST"}},

    /* Two that contradict each other: both are named. */
    {{"NEAP_ROLE=worker", "DMLC_ROLE=server", DMLC},
     {"NEAP_ROLE is worker", "DMLC_ROLE is server", "unset"}},
    {{"NEAP_ROLE=worker", "NEAP_ROOT_URI=tcp://h:1", DMLC},
     {"NEAP_ROOT_URI is tcp://h:1", "DMLC_PS_ROOT_URI", "tcp://10.0.0.2:8000"}},
    {{"NEAP_ROLE=worker", "NEAP_NUM_WORKERS=4", DMLC},
     {"NEAP_NUM_WORKERS is 4", "DMLC_NUM_WORKER is 3"}},
    {{"NEAP_ROLE=worker", "NEAP_NUM_SERVERS=4", DMLC},
     {"NEAP_NUM_SERVERS is 4", "DMLC_NUM_SERVER is 2"}},
    {{"NEAP_ROLE=worker", FULL, "NEAP_RANK=1", OMPI(2, 4, 4)},
     {"NEAP_RANK is 1", "OMPI_COMM_WORLD_RANK is 2"}},
    {{"NEAP_ROLE=worker", FULL, OMPI(1, 3, 3)},
     {"NEAP_NUM_WORKERS is 4", "OMPI_COMM_WORLD_SIZE is 3"}},
    {{TORCH(1, 4), "NEAP_RANK=2"}, {"NEAP_RANK is 2", "RANK is 1"}},
    {{TORCH(1, 4), "NEAP_NUM_WORKERS=4", "NEAP_NUM_SERVERS=2"},
     {"NEAP_NUM_WORKERS is 4", "WORLD_SIZE is 4", "start 6 processes"}},
    {{TORCH(1, 4), OMPI(2, 4, 4)}, {"RANK is 1", "OMPI_COMM_WORLD_RANK is 2"}},
    {{"OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "PMIX_RANK=0", "PMIX_NAMESPACE=7"},
     {"OMPI_COMM_WORLD_RANK is 1", "PMIX_RANK is 0"}},
};

static void check_bad(const struct bad *c) {
  neap_job_options o;
  neap_job_place p;
  int status = resolve(c->env, &o, &p);
  if (status == NEAP_OK) {
    fprintf(stderr, "%s ... was taken: %s\n", c->env[0], p.how);
    exit(1);
  }
  CHECK(status == NEAP_EINVAL && o.rank == -1 && !o.root_uri && !*p.root_uri);
  for (int i = 0; i < 3 && c->words[i]; i++)
    if (!strstr(neap_error(), c->words[i])) {
      fprintf(stderr, "%s ...: '%s' is not in: %s\n", c->env[0], c->words[i], neap_error());
      exit(1);
    }
}

/* ---- Roots that are derived ---------------------------------------------------------------- */

typedef const char *const environment[MOST];

static const char *root_of(const char *const *env) {
  static char last[4][256]; /* of the last calls */
  static int turn;
  neap_job_options o;
  neap_job_place p;
  OK(resolve(env, &o, &p));
  turn = (turn + 1) % 4;
  snprintf(last[turn], sizeof last[turn], "%s", p.root_uri);
  return last[turn];
}

static bool begins(const char *text, const char *with) {
  return strncmp(text, with, strlen(with)) == 0;
}

static void check_roots(void) {
  /* Every rank of a job derives the same; another job another. */
  environment mpi0 = {OMPI(0, 2, 2)}, mpi1 = {OMPI(1, 2, 2)};
  environment other = {"OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2",
                       "OMPI_MCA_ess_base_jobid=786038786"};
  CHECK(strcmp(root_of(mpi0), root_of(mpi1)) == 0);
  CHECK(strcmp(root_of(mpi0), root_of(other)) != 0);
  CHECK(begins(root_of(mpi0), "tcp://127.0.0.1:"));

  /* Its port is free of the system's own choice, and not the one that torchrun listens at. */
  for (int job = 0; job < 1000; job++) {
    char id[64];
    snprintf(id, sizeof id, "OMPI_MCA_ess_base_jobid=%d", job);
    environment env = {"OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2", id};
    int port = atoi(strrchr(root_of(env), ':') + 1);
    CHECK(port >= 20000 && port < 32768);
  }
  environment torch = {TORCH(0, 2)}, torch_here = {TORCH(1, 2), "LOCAL_WORLD_SIZE=2"};
  CHECK(begins(root_of(torch), "tcp://10.1.1.1:") && !strstr(root_of(torch), ":29500"));
  CHECK(begins(root_of(torch_here), "tcp://127.0.0.1:"));
  environment six = {"RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=fd00::1", "MASTER_PORT=29500"};
  CHECK(begins(root_of(six), "tcp://[fd00::1]:"));

  /* Slurm's lists of hosts. */
  static const struct {
    const char *list, *host;
  } lists[] = {
      {"n7", "127.0.0.1"},
      {"n[7]", "127.0.0.1"},
      {"n7,n8", "n7"},
      {"n[07-12]", "n07"},
      {"n[3,5-9]", "n3"},
      {"rack[1-2]n[4-5]", "rack1n4"},
      {"n[1-2].cluster", "n1.cluster"},
      {"login,n[1-64]", "login"},
      {"a-b[10-11],c", "a-b10"},
  };
  for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
    char list[64], wanted[64];
    snprintf(list, sizeof list, "SLURM_STEP_NODELIST=%s", lists[i].list);
    snprintf(wanted, sizeof wanted, "tcp://%s:", lists[i].host);
    environment env = {"SLURM_PROCID=1", "SLURM_NTASKS=2", list, "SLURM_JOB_ID=5",
                       "SLURM_STEP_ID=0"};
    if (!begins(root_of(env), wanted)) {
      fprintf(stderr, "%s gives %s\n", list, root_of(env));
      exit(1);
    }
  }
  environment step0 = {SLURM(0, 2, "n7")};
  environment step1 = {"SLURM_PROCID=0", "SLURM_NTASKS=2", "SLURM_STEP_NODELIST=n7",
                       "SLURM_JOB_ID=77", "SLURM_STEP_ID=1"};
  CHECK(strcmp(root_of(step0), root_of(step1)) != 0);

  /* mpirun over several hosts of an allocation: the steps of its daemons differ. */
  environment far0 = {OMPI(0, 4, 2), "SLURM_JOB_NODELIST=n[7-8]", SLURM(0, 4, "n7")};
  environment far3 = {OMPI(3, 4, 2),    "SLURM_JOB_NODELIST=n[7-8]", "SLURM_PROCID=1",
                      "SLURM_NTASKS=2", "SLURM_STEP_NODELIST=n8",    "SLURM_JOB_ID=77",
                      "SLURM_STEP_ID=5"};
  CHECK(begins(root_of(far0), "tcp://n7:"));
  CHECK(strcmp(root_of(far0), root_of(far3)) == 0);
}

/* ---- Options ------------------------------------------------------------------------------- */

static void check_options(void) {
  neap_job_options o;
  neap_job_place p;
  environment env = {"NEAP_TIMEOUT=2.5",
                     "NEAP_ON_WORKER_LOST=continue",
                     "NEAP_BIGARRAY_BOUND=100",
                     "NEAP_SECRET=word of ours",
                     "NEAP_LOG=debug",
                     "NEAP_LISTEN_URI=tcp://0.0.0.0:0",
                     "NEAP_TLS_CA=ca.pem",
                     "NEAP_TLS_CERT=me.pem",
                     "NEAP_ADVERTISE_URI=tcp://far:5"};
  OK(resolve(env, &o, &p));
  CHECK(o.timeout == 2.5 && o.on_worker_lost == NEAP_LOST_CONTINUE && o.bigarray_bound == 100);
  CHECK(strcmp(o.secret, "word of ours") == 0 && strcmp(o.listen_uri, "tcp://0.0.0.0:0") == 0);
  CHECK(strcmp(o.tls_ca, "ca.pem") == 0 && strcmp(o.tls_cert, "me.pem") == 0);
  CHECK(strcmp(o.advertise_uri, "tcp://far:5") == 0);
  CHECK(p.log_level == NEAP_LOG_DEBUG && p.role == NEAP_ROLE_NONE);

  /* What is not said stays. */
  environment nothing = {NULL};
  o = fresh();
  o.timeout = 7;
  o.secret = "mine";
  p = (neap_job_place){.size = sizeof p};
  OK(neap_job_options_env(&o, nothing, &p));
  CHECK(o.timeout == 7 && strcmp(o.secret, "mine") == 0 && p.log_level == NEAP_LOG_WARN);

  /* Without a place, who this is does not matter, even if it makes no sense. */
  environment nonsense = {"NEAP_ROLE=boss", "NEAP_TIMEOUT=3"};
  o = fresh();
  OK(neap_job_options_env(&o, nonsense, NULL));
  CHECK(o.timeout == 3 && o.rank == -1 && !o.root_uri);
  OK(neap_job_options_env(&o, NULL, NULL)); /* the process's own */

  /* A program that is a server anyway needs no NEAP_ROLE, and bears no other. */
  environment full = {FULL, "NEAP_RANK=1"}, worker = {"NEAP_ROLE=worker", FULL};
  p = (neap_job_place){.size = sizeof p, .role = NEAP_ROLE_SERVER};
  OK(neap_job_options_env(&o, full, &p));
  CHECK(p.role == NEAP_ROLE_SERVER && o.rank == 1 && o.num_servers == 2);
  CHECK(neap_job_options_env(&o, worker, &p) == NEAP_EINVAL);
  CHECK(strstr(neap_error(), "NEAP_ROLE is worker") && strstr(neap_error(), "server"));
  environment bare = {NULL};
  CHECK(neap_job_options_env(&o, bare, &p) == NEAP_EINVAL);
  CHECK(strstr(neap_error(), "NEAP_ROOT_URI is not set") && strstr(neap_error(), "a server"));

  /* A root that does not fit is refused, not cut. */
  char longest[300] = "NEAP_ROOT_URI=tcp://";
  memset(longest + strlen(longest), 'h', sizeof longest - 1 - strlen(longest));
  environment far = {"NEAP_ROLE=worker", longest, "NEAP_NUM_WORKERS=1", "NEAP_NUM_SERVERS=1"};
  CHECK(resolve(far, &o, &p) == NEAP_EINVAL && strstr(neap_error(), "255"));

  neap_job_options unset = {0};
  CHECK(neap_job_options_env(&unset, nothing, NULL) == NEAP_EINVAL);
}

int main(void) {
  for (size_t i = 0; i < sizeof goods / sizeof goods[0]; i++) check_good(&goods[i]);
  for (size_t i = 0; i < sizeof bads / sizeof bads[0]; i++) check_bad(&bads[i]);
  check_roots();
  check_options();
  return 0;
}
