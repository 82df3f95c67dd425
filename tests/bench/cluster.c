/* SPDX-License-Identifier: MIT */
/*
 * A cluster by simulation: `cluster [NODES [JOBS]]`, 1,000 nodes of 8 GPUs and 100,000 jobs unless
 * told, as root. On each node is the broker's core, whole, with its socket, its records and a tree
 * in the shape of sysfs, which all nodes share, since nothing here writes to it; the cores of all
 * nodes are in one process. A scheduler of a few lines gives the jobs out and takes them back by
 * libgpubroker, with the requests of Slurm's prolog and epilog. Jobs have one to eight GPUs, some
 * have whole nodes; the cluster is kept full.
 *
 * The scheduler is not what is tested, so it is not what is asked at the end: the cores' own log is
 * kept as accounts, from which no device was given to two at a time, and each was given back. Now
 * and then the scheduler errs on purpose, and a core is ended and started again by its records.
 */
#include "config.h"

#include "brokerd/claim/allot.h"
#include "brokerd/peer/listener.h"
#include "brokerd/process/log.h"
#include "client/gpubroker.h"
#include "tests/unit/brokerd/world.h"

#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define GPUS 8
#define USERS 50
#define FIRST_UID 20000
#define ERR_EVERY 50	  /* jobs, for one of whose devices the scheduler errs */
#define RESTART_EVERY 200 /* jobs, between which a core is ended and started again */

static unsigned n_nodes = 1000, n_jobs = 100000;

/* ---- the nodes, in a process of their own ---- */

/* The accounts that the cores' log makes. */
struct accounts {
	uint64_t given, taken; /* devices */
	unsigned twice;	       /* given while somebody had it */
	unsigned strange;      /* taken from who had it not */
	unsigned left;	       /* not taken */
	unsigned failed;       /* starts that failed */
	double seconds;	       /* of processor time since the start */
	uint64_t bytes;	       /* of memory, of all */
};

static struct core *cores;
static struct accounts accounts;
static unsigned (*has)[GPUS]; /* the job, by node and GPU; 0: none */
static struct policy_rule rule;

void __wrap_log_line(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void __wrap_log_line(enum log_level level, const char *format, ...)
{
	char line[1024], *device, *name, *outcome;
	unsigned bus, job, node, *holder;
	va_list args;

	(void)level;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	device = strstr(line, "device=0000:");
	name = strstr(line, "name=job-");
	outcome = strstr(line, "outcome=");
	if (!device || !name || !outcome || sscanf(device, "device=0000:%x", &bus) != 1 ||
	    sscanf(name, "name=job-%u.%u", &job, &node) != 2 || node >= n_nodes || !bus ||
	    bus > GPUS)
		return;
	holder = &has[node][bus - 1];
	if (!strncmp(outcome, "outcome=allotted ", 17)) {
		accounts.given++;
		accounts.twice += *holder != 0;
		*holder = job;
	} else if (!strncmp(outcome, "outcome=retracted ", 18)) {
		accounts.taken++;
		accounts.strange += *holder != job;
		*holder = 0;
	}
}

static struct sockaddr_un address_of_node(unsigned node)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/%u", scratch_path, node);
	return address;
}

static bool on_serving(void *userdata)
{
	(void)userdata;
	return true;
}

static void on_policy(void *userdata, bool kept)
{
	(void)userdata;
	(void)kept;
}

static void on_nothing(void *userdata)
{
	(void)userdata;
}

static void on_failed(void *userdata, int status)
{
	(void)userdata;
	(void)status;
	accounts.failed++;
}

static const struct core_ops node_ops = {
	.serving = on_serving,
	.policy = on_policy,
	.idle = on_nothing,
	.stale = on_nothing,
	.failed = on_failed,
};

static void start_node(struct event_base *base, unsigned node)
{
	static struct policy_file file = { "/etc/gpubroker/policy.d/60-slurm.policy" };
	const struct sockaddr_un address = address_of_node(node);
	struct core *core = &cores[node];
	char path[128];

	*core = (struct core)CORE_INIT;
	core->ops = &node_ops;
	core->base = base;
	snprintf(path, sizeof(path), "%s/sys", scratch_path);
	core->kernel.sys = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/state/%u", scratch_path, node);
	mkdir(path, 0700);
	core->store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(core->kernel.sys >= 0 && core->store.directory >= 0 && !core_init(core));
	for (unsigned gpu = 0; gpu < GPUS; gpu++) {
		const struct watcher_record record = {
			.type = WATCHER_DEVICE,
			.address = { .bus = (uint8_t)(gpu + 1) },
			.vendor = 0x1234,
			.device = 0x1111,
			.class_code = 0x030000,
			.group = 10 + gpu,
		};

		need(!devices_take(&core->devices, &record));
	}
	core->policy.policy =
		(struct policy){ .rules = &rule, .n_rules = 1, .files = &file, .n_files = 1 };
	core->policy.good = true;
	unlink(address.sun_path);
	core->peers.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	need(!bind(core->peers.listen_fd, (const struct sockaddr *)&address, sizeof(address)) &&
	     !chmod(address.sun_path, 0666) && !listen(core->peers.listen_fd, 8));
	core->peers.made_listener = true;
	need(!core_recover(core));
	need(!listener_start(&core->peers));
	allot_serve(&core->claims);
}

static void end_node(unsigned node)
{
	core_close(&cores[node]); /* with its connections, whose events the loop has */
	cores[node].policy.policy = (struct policy){ 0 };
	core_done(&cores[node]);
}

static uint64_t memory(void)
{
	unsigned long pages = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	need(f && fscanf(f, "%lu %lu", &pages, &resident) == 2);
	fclose(f);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The scheduler asks to start a node again; or, by a number that no node has, for the accounts. */
static void on_command(evutil_socket_t fd, short what, void *userdata)
{
	struct timespec now;
	unsigned node;

	(void)what;
	if (read(fd, &node, sizeof(node)) != sizeof(node)) {
		event_base_loopbreak(userdata);
		return;
	}
	if (node < n_nodes) {
		end_node(node);
		start_node(userdata, node);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	accounts.seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	accounts.bytes = memory();
	accounts.left = 0;
	for (unsigned i = 0; i < n_nodes; i++)
		for (unsigned gpu = 0; gpu < GPUS; gpu++)
			accounts.left += has[i][gpu] != 0;
	need(write(fd, &accounts, sizeof(accounts)) == sizeof(accounts));
}

static void __attribute__((noreturn)) run_nodes(int fd)
{
	struct event_base *base = event_base_new();
	struct event *on_readable;
	char address[24];

	need(base && !event_base_priority_init(base, PRIORITY_PEERS + 1));
	for (unsigned gpu = 0; gpu < GPUS; gpu++) {
		snprintf(address, sizeof(address), "0000:%02x:00.0", gpu + 1);
		add_function(address, "0x030000\n", 10 + (int)gpu);
	}
	scratch_write("state/none", "");
	broker_allow_all(&rule);
	rule.who = POLICY_WHO_ALLOTTED;
	cores = calloc(n_nodes, sizeof(*cores));
	has = calloc(n_nodes, sizeof(*has));
	need(cores && has);
	for (unsigned node = 0; node < n_nodes; node++)
		start_node(base, node);
	on_readable = event_new(base, fd, EV_READ | EV_PERSIST, on_command, base);
	need(on_readable && !event_add(on_readable, NULL));
	event_base_loop(base, 0);
	_exit(accounts.failed != 0);
}

/* ---- the scheduler ---- */

struct job {
	unsigned id, ends, first, n_nodes; /* its nodes are next to each other */
	unsigned gpus;			   /* the same on each, by bits */
};

static unsigned *is_free;   /* GPUs of each node, by bits */
static struct job *running; /* a heap, by the time of their ends */
static unsigned n_running, clock_now;
static int nodes_fd;
static pid_t nodes_pid;
static unsigned n_errors, n_refused, n_wrong, n_restarts, n_asked;
static double *took_allot, *took_retract;
static size_t n_allots, n_retracts;

static double wall(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void swap_jobs(unsigned a, unsigned b)
{
	const struct job job = running[a];

	running[a] = running[b];
	running[b] = job;
}

static void add_job(const struct job *job)
{
	unsigned i = n_running++;

	running[i] = *job;
	for (; i && running[(i - 1) / 2].ends > running[i].ends; i = (i - 1) / 2)
		swap_jobs(i, (i - 1) / 2);
}

static struct job take_job(void)
{
	const struct job job = running[0];

	running[0] = running[--n_running];
	for (unsigned i = 0, least; 2 * i + 1 < n_running; i = least) {
		least = 2 * i + 1;
		if (least + 1 < n_running && running[least + 1].ends < running[least].ends)
			least++;
		if (running[i].ends <= running[least].ends)
			break;
		swap_jobs(i, least);
	}
	return job;
}

static struct gpubroker *open_node(unsigned node)
{
	const struct sockaddr_un address = address_of_node(node);
	struct gpubroker *handle = NULL;
	int r = gpubroker_open(address.sun_path, &handle);

	if (r) {
		int status = 0;

		fprintf(stderr, "node %u: %s\n", node,
			r < 0 ? strerror(-r) : gpubroker_reason(handle));
		if (waitpid(nodes_pid, &status, WNOHANG) > 0)
			fprintf(stderr, "the nodes' process has ended, %d\n", status);
		exit(1);
	}
	return handle;
}

static struct gpubroker_claim *claim_for(unsigned gpus)
{
	struct gpubroker_claim *claim;
	char address[24];

	need(!gpubroker_claim_new(&claim));
	for (unsigned gpu = 0; gpu < GPUS; gpu++) {
		snprintf(address, sizeof(address), "0000:%02x:00.0", gpu + 1);
		if (gpus & 1U << gpu)
			need(!gpubroker_claim_add(claim, address));
	}
	return claim;
}

static uint32_t user_of(unsigned job)
{
	return FIRST_UID + job % USERS;
}

/* As the prolog does. Returns what the broker says. */
static int allot(unsigned node, unsigned gpus, unsigned job, uint32_t uid)
{
	const struct gpubroker_user user = { .uid = uid, .gid = uid };
	struct gpubroker_claim *claim = claim_for(gpus);
	struct gpubroker *handle;
	char label[48];
	int r;

	snprintf(label, sizeof(label), "job-%u.%u", job, node);
	handle = open_node(node);
	r = gpubroker_allot(handle, claim, label, &user, 0);
	gpubroker_close(handle);
	gpubroker_claim_free(claim);
	return r;
}

/* As the epilog does. */
static int retract(unsigned node, unsigned job)
{
	struct gpubroker *handle = open_node(node);
	char label[48];
	int r;

	snprintf(label, sizeof(label), "job-%u.%u", job, node);
	r = gpubroker_retract(handle, label);
	gpubroker_close(handle);
	return r;
}

/* Asks as that user, by whom the connection is. */
static int ask(unsigned node, unsigned gpus, uint32_t uid)
{
	struct gpubroker_claim *claim = claim_for(gpus);
	struct gpubroker *handle;
	int r;

	need(!seteuid(uid));
	handle = open_node(node);
	r = gpubroker_claim_ask(handle, claim);
	gpubroker_close(handle);
	need(!seteuid(0));
	gpubroker_claim_free(claim);
	n_asked++;
	return r;
}

static int count_allotment(void *userdata, const struct gpubroker_allotment *allotment)
{
	unsigned *n = userdata;

	(void)allotment;
	++*n;
	return 0;
}

static unsigned allotments_on(unsigned node)
{
	struct gpubroker *handle = open_node(node);
	unsigned n = 0;

	need(!gpubroker_allotments(handle, count_allotment, &n));
	gpubroker_close(handle);
	return n;
}

static void command(unsigned node, struct accounts *ret_accounts)
{
	need(write(nodes_fd, &node, sizeof(node)) == sizeof(node) &&
	     read(nodes_fd, ret_accounts, sizeof(*ret_accounts)) == sizeof(*ret_accounts));
}

static void end_job(void)
{
	const struct job job = take_job();

	clock_now = job.ends;
	for (unsigned node = job.first; node < job.first + job.n_nodes; node++) {
		const double begun = wall();

		n_errors += retract(node, job.id) != 0;
		took_retract[n_retracts++] = wall() - begun;
		is_free[node] |= job.gpus;
	}
}

/* Finds room for n GPUs on each of so many nodes. Returns false if there is none. */
static bool find_room(struct job *job, unsigned n)
{
	const unsigned from = (unsigned)random() % n_nodes;
	unsigned fit = 0;

	for (unsigned i = 0; i < n_nodes; i++) {
		const unsigned node = (from + i) % n_nodes;

		if (!node) /* they are next to each other */
			fit = 0;
		if ((unsigned)__builtin_popcount(is_free[node]) < n ||
		    (job->n_nodes > 1 && is_free[node] != (1U << GPUS) - 1)) {
			fit = 0;
			continue;
		}
		if (++fit < job->n_nodes)
			continue;
		job->first = node + 1 - job->n_nodes;
		job->gpus = 0;
		for (unsigned gpu = 0; gpu < GPUS && n; gpu++)
			if (is_free[node] & 1U << gpu) {
				job->gpus |= 1U << gpu;
				n--;
			}
		return true;
	}
	return false;
}

/* Gives a device of the job to somebody else too, and asks who may claim it. */
static void err(const struct job *job)
{
	const unsigned one = job->gpus & -job->gpus;
	const uint32_t other = user_of(job->id + 1);

	n_refused++;
	n_wrong += allot(job->first, one, job->id + n_jobs, other) != GPUBROKER_REFUSED_ALLOTTED;
	n_wrong += ask(job->first, job->gpus, user_of(job->id)) != 0;
	n_wrong += ask(job->first, one, other) <= 0;
}

static void start_job(unsigned id)
{
	static const unsigned sizes[] = { 1, 1, 1, 1, 1, 1, 2, 2, 4, 8 };
	struct job job = { .id = id, .n_nodes = 1 };
	unsigned n = sizes[(unsigned)random() % ARRAY_SIZE(sizes)];

	if (!((unsigned)random() % 100) && n_nodes >= 4) {
		n = GPUS;
		job.n_nodes = 2 + (unsigned)random() % 3;
	}
	while (!find_room(&job, n))
		end_job();
	for (unsigned node = job.first; node < job.first + job.n_nodes; node++) {
		const double begun = wall();

		n_errors += allot(node, job.gpus, id, user_of(id)) != 0;
		took_allot[n_allots++] = wall() - begun;
		is_free[node] &= ~job.gpus;
	}
	job.ends = clock_now + 1 + (unsigned)random() % 1000;
	add_job(&job);
	if (!(id % ERR_EVERY))
		err(&job);
}

static void restart_some_node(void)
{
	const unsigned node = (unsigned)random() % n_nodes, before = allotments_on(node);
	struct accounts said;

	command(node, &said);
	n_restarts++;
	n_wrong += allotments_on(node) != before;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_times(const char *what, double *took, size_t n)
{
	qsort(took, n, sizeof(*took), compare);
	printf("  %-8s median %.0f us, 99 in 100 within %.0f us\n", what, took[n / 2],
	       took[n - 1 - n / 100]);
}

static int print(double seconds, const struct accounts *before, const struct accounts *after)
{
	unsigned left = 0;
	bool good;

	for (unsigned node = 0; node < n_nodes; node++)
		left += allotments_on(node);
	good = !n_errors && !n_wrong && !after->twice && !after->strange && !after->left && !left &&
	       !after->failed && after->given == after->taken;
	printf("%u nodes of %d GPUs, %u jobs in %.0f s:\n", n_nodes, GPUS, n_jobs, seconds / 1e6);
	printf("  given %llu times, taken back %llu times; given twice: %u; lost: %u; left: %u, of "
	       "which listed %u\n",
	       (unsigned long long)after->given, (unsigned long long)after->taken, after->twice,
	       after->strange, after->left, left);
	printf("  %u times to another job as well: all refused, and %u questions who may claim; "
	       "%u brokers started again; wrong: %u; failed: %u\n",
	       n_refused, n_asked, n_restarts, n_wrong, n_errors);
	print_times("allot", took_allot, n_allots);
	print_times("retract", took_retract, n_retracts);
	printf("  a broker's processor time for both: %.0f us; memory of a core: %.0f KiB\n",
	       (after->seconds - before->seconds) * 1e6 / (double)n_allots,
	       (double)after->bytes / 1024 / n_nodes);
	printf("%s\n", good ? "nothing was lost, and nothing given twice" : "WRONG");
	return good ? 0 : 1;
}

static int schedule(void)
{
	struct accounts before, after;
	double begun;

	is_free = calloc(n_nodes, sizeof(*is_free));
	running = calloc((size_t)n_nodes * GPUS + 1, sizeof(*running));
	took_allot = calloc((size_t)n_jobs * 4, sizeof(*took_allot));
	took_retract = calloc((size_t)n_jobs * 4, sizeof(*took_retract));
	need(is_free && running && took_allot && took_retract);
	for (unsigned node = 0; node < n_nodes; node++)
		is_free[node] = (1U << GPUS) - 1;
	command(UINT32_MAX, &before); /* they all serve */
	begun = wall();
	for (unsigned id = 1; id <= n_jobs; id++) {
		start_job(id);
		if (!(id % RESTART_EVERY))
			restart_some_node();
	}
	while (n_running)
		end_job();
	command(UINT32_MAX, &after);
	return print(wall() - begun, &before, &after);
}

int main(int argc, char **argv)
{
	struct rlimit files;
	int ends[2], status, r;

	n_nodes = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : n_nodes;
	n_jobs = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : n_jobs;
	if (argc > 3 || !n_nodes || !n_jobs || geteuid()) {
		fprintf(stderr, "usage: cluster [NODES [JOBS]], as root\n");
		return 64;
	}
	need(!getrlimit(RLIMIT_NOFILE, &files));
	files.rlim_cur = files.rlim_max;
	need(!setrlimit(RLIMIT_NOFILE, &files));
	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
	need(!chmod(scratch_make(), 0755));
	srandom(1);
	nodes_pid = fork();
	need(nodes_pid >= 0);
	if (!nodes_pid) {
		close(ends[1]);
		run_nodes(ends[0]);
	}
	close(ends[0]);
	nodes_fd = ends[1];
	r = schedule();
	close(nodes_fd);
	need(waitpid(nodes_pid, &status, 0) == nodes_pid);
	return r || status;
}
