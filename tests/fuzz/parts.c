/* SPDX-License-Identifier: MIT */
/*
 * Mediated devices and vGPUs: three users claim parts of devices, wait, release and let go, and
 * workers come back with what a driver may say: the truth, an error, any number of instances, any
 * table of types. Other programs make vGPUs and use up instances meanwhile. The daemon is that of
 * tests/unit/brokerd/world.h, with all of the core's own code, beside the kernel of mdev-kernel.h.
 *
 * Whatever drivers say: a user gets only parts of a type that the policy gives that user, nobody
 * gets one that somebody holds, nothing is made before it is recorded, and what others have made
 * stays. When all have let go, nothing of ours is left.
 *
 * About: brokerd/claim/parts.c brokerd/claim/ask-mdev.c brokerd/claim/ask-vgpu.c
 * brokerd/claim/claims.c brokerd/claim/wanted.c brokerd/lease/mdev.c brokerd/lease/vgpu.c
 * client/host/mdev.c
 */
#include "config.h"

#include <poll.h>

#include "brokerd/claim/claim.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/worker.h"
#include "tests/fuzz/descriptors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/brokerd/last-log.h"
#include "tests/unit/brokerd/mdev-kernel.h"
#include "tests/unit/policy/parse.h"
#include "tests/unit/wire-answers.h"

const char fuzz_name[] = "parts";

enum op {
	OP_DIAL,
	OP_CLAIM,
	OP_ASK, /* any request but a claim */
	OP_READ,
	OP_HANG_UP,
	OP_LET_GO,
	OP_WORKER,
	OP_LATE,
	OP_CLOCK,
	OP_OTHERS,
	OP_ALL, /* all workers, without lies */
	N_OPS
};

#define CLIENTS 3
#define OPS_MAX 48
#define HELD_MAX 32
#define GROUPS 160 /* more than an input can make */
#define ALICE 1000
#define BOB 1001

static const char text_of_policy[] = "device slice profile card-2\n"
				     "device small vendor 1234 profile 557\n"
				     "device both profile card-1\n"
				     "device both profile card-2\n"
				     "allow user 1000 claim profile any memlock 4M\n"
				     "allow user 1001 claim profile card-1 limit 2 memlock 1M\n"
				     "allow user 1001 claim profile 557 limit 1 for 1h\n"
				     "allow user 1001 claim address 0000:03:00.2 profile 558\n"
				     "deny any claim profile gpu-1\n"
				     "allow user 1002 claim any\n";

static struct client {
	int fd;
	uint32_t uid;
	int held[HELD_MAX];
	size_t n_held;
} clients[CLIENTS];

static int ends_of[GROUPS];  /* readable: the last holder is gone; -1: there was none */
static bool watched[GROUPS]; /* a close that inotify would report */
static unsigned others[VFS]; /* the type that somebody else gave a VF; 0: none */
static bool lied;	     /* a worker has reported what is not true */
static struct input *now;    /* the input that is being read */
static struct parsed policy;

/* ---- in place of the kernel ---- */

static bool is_held(uint32_t group)
{
	struct pollfd p = { .fd = ends_of[group] };

	if (ends_of[group] < 0)
		return false;
	if (poll(&p, 1, 0) == 1 && p.revents & POLLHUP) {
		ends_of[group] = fd_close(ends_of[group]);
		watched[group] = true;
		return false;
	}
	return true;
}

static void look_who_holds(void)
{
	for (int i = 0; i < MDEVS_MAX; i++)
		sim.mdevs[i].held = sim.mdevs[i].uuid[0] && is_held(sim.mdevs[i].group);
	for (int i = 0; i < VFS; i++)
		sim.vfs[i].held = is_held((uint32_t)(30 + i));
}

/* Lends one end of a pipe: the other end shows when the last reference to it is gone. */
int __wrap_kernel_group_open(const struct kernel *kernel, uint32_t group);
int __wrap_kernel_group_open(const struct kernel *kernel, uint32_t group)
{
	int pipes[2], error;

	(void)kernel;
	must(group < GROUPS);
	look_who_holds();
	error = sim_open(group);
	if (error)
		return -error;
	must(!is_held(group) && !pipe2(pipes, O_CLOEXEC));
	ends_of[group] = pipes[0];
	return pipes[1];
}

int __wrap_kernel_group_viable(int fd);
int __wrap_kernel_group_viable(int fd)
{
	must(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	return 0;
}

int __wrap_kernel_group_watch(const struct kernel *kernel, uint32_t group);
int __wrap_kernel_group_watch(const struct kernel *kernel, uint32_t group)
{
	(void)kernel;
	return by_group(group) < 0 && vf_of_group(group) < 0 ? -ENOENT : (int)group;
}

void __wrap_kernel_group_unwatch(const struct kernel *kernel, int watch);
void __wrap_kernel_group_unwatch(const struct kernel *kernel, int watch)
{
	(void)kernel;
	(void)watch;
}

int __wrap_kernel_watch_read(const struct kernel *kernel);
int __wrap_kernel_watch_read(const struct kernel *kernel)
{
	(void)kernel;
	for (int i = 0; i < GROUPS; i++)
		if (watched[i]) {
			watched[i] = false;
			return i;
		}
	return -EAGAIN;
}

int __wrap_kernel_memlock_raise(const struct kernel *kernel, int pidfd, int pid, uint64_t bytes);
int __wrap_kernel_memlock_raise(const struct kernel *kernel, int pidfd, int pid, uint64_t bytes)
{
	(void)kernel;
	(void)pidfd;
	must(pid > 0 && (bytes == 4 << 20 || bytes == 1 << 20));
	return 0;
}

/* ---- workers ---- */

static struct {
	int error;   /* of each step; 0: as the kernel does it */
	bool claims; /* what a step reads comes from the input */
} comes;

/* Reads a text from the input that is of the kind that the step reads. */
static void lie(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	const size_t room = step->does == FAKE_LISTS ? FAKE_TEXT_MAX : WORK_TEXT_MAX;
	char any[FAKE_TEXT_MAX];

	input_struct(now, any, sizeof(any));
	any[room - 1] = '\0';
	snprintf(text, room, "%s", any);
	lied = true;
}

static bool removes_held(const struct fake_step *step)
{
	for (int i = 0; i < MDEVS_MAX; i++)
		if (sim.mdevs[i].held && strstr(step->path, sim.mdevs[i].uuid) &&
		    strstr(step->path, "/remove"))
			return true;
	return false;
}

static int answer_step(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	const int vf = step->address.bus == 3 ? step->address.function - 1 : -1;
	const bool reads = step->does == FAKE_READS || step->does == FAKE_LISTS;
	int error;

	look_who_holds();
	if (comes.error && step->does != FAKE_OPENS)
		return comes.error;
	/* A claim of a whole function gets no further here. */
	if (strstr(step->path, "driver_override"))
		return EIO;
	if (comes.claims && reads) {
		lie(step, text);
		return 0;
	}
	/* The kernel would wait for the holder of a revoked lease. */
	if (step->does == FAKE_WRITES && removes_held(step))
		return EBUSY;
	error = do_step(step, text);
	/* It may clear a vGPU of others only if it was told that it is its own. */
	must(step->does != FAKE_WRITES || vf < 0 || vf >= VFS || !others[vf] || lied ||
	     sim.vfs[vf].type == others[vf]);
	return error;
}

static struct work *started(size_t n)
{
	struct work *work;
	size_t all = 0;

	TAILQ_FOREACH(work, &fake.at_work, link)
		all++;
	n = all ? n % all : 0;
	TAILQ_FOREACH(work, &fake.at_work, link)
		if (!n--)
			return work;
	return NULL;
}

static void come_back(struct work *work, int error, bool claims)
{
	comes.error = error;
	comes.claims = claims;
	fake_run(work);
	comes.error = 0;
	comes.claims = false;
}

/* ---- clients ---- */

static void must_be_allowed(const struct client *client, const struct lease *lease)
{
	const char *type = lease->mdev.type;

	must(lease->uid == client->uid && lease->recorded && lease_is_made(lease));
	must(client->uid == ALICE || client->uid == BOB);
	must(strcmp(type, "gpu-1") != 0);
	if (client->uid == BOB)
		must(!strcmp(type, "card-1") || !strcmp(type, "557") ||
		     (!strcmp(type, "558") && lease->asked.function == 2));
}

static void check_grant(const struct client *client, const struct message_grant *grant)
{
	must(grant->n_groups && grant->n_groups <= PROTOCOL_SELECTORS_MAX);
	must(!grant->memlock || grant->memlock <= (client->uid == ALICE ? 4U << 20 : 1U << 20));
	for (uint32_t i = 0; i < grant->n_groups; i++) {
		const struct granted_group *group = &grant->groups[i];
		const struct lease *lease = lease_find_id(&broker.leases.table, group->lease);

		must(memchr(group->uuid, 0, sizeof(group->uuid)));
		must(group->group < GROUPS && strcmp(group->uuid, OTHER) != 0);
		must(vf_of_group(group->group) >= 0 ? !group->uuid[0] : !!group->uuid[0]);
		for (uint32_t k = 0; k < i; k++)
			must(grant->groups[k].group != group->group);
		/* It may have ended since it was sent. */
		if (lease)
			must_be_allowed(client, lease);
	}
}

static void check_answer(const struct client *client, const union answer *a, size_t n, size_t n_fds)
{
	struct message_grant grant;
	size_t i = 0;

	must(n >= sizeof(uint32_t));
	while (i < ARRAY_SIZE(wire_answers) && wire_answers[i].type != a->type)
		i++;
	must(i < ARRAY_SIZE(wire_answers) && wire_answers[i].size == n);
	must(a->type == MESSAGE_GRANT ? n_fds > 0 : n_fds == 0);
	if (a->type == MESSAGE_GRANT) {
		memcpy(&grant, a, sizeof(grant));
		must(grant.n_groups == n_fds);
		check_grant(client, &grant);
	} else if (a->type == MESSAGE_REFUSAL) {
		must(memchr(a->refusal.text, 0, sizeof(a->refusal.text)) &&
		     memchr(a->refusal.rule, 0, sizeof(a->refusal.rule)) &&
		     memchr(a->refusal.profile, 0, sizeof(a->refusal.profile)));
	} else if (a->type == MESSAGE_LEASE) {
		must(memchr(a->lease.mdev.profile, 0, sizeof(a->lease.mdev.profile)) &&
		     memchr(a->lease.reason, 0, sizeof(a->lease.reason)));
	}
}

static void read_all(struct client *client)
{
	union answer answer;
	int fds[PASSFD_MAX];
	size_t n_fds = 0;
	ssize_t n;

	if (client->fd < 0)
		return;
	while ((n = passfd_receive(client->fd, &answer, sizeof(answer), fds, PASSFD_MAX, &n_fds)) >
	       0) {
		check_answer(client, &answer, (size_t)n, n_fds);
		for (size_t i = 0; i < n_fds; i++)
			if (client->n_held < HELD_MAX)
				client->held[client->n_held++] = fds[i];
			else
				close(fds[i]);
		n_fds = 0;
	}
}

static void let_go(struct client *client)
{
	while (client->n_held)
		close(client->held[--client->n_held]);
	for (uint32_t i = 0; i < GROUPS; i++)
		is_held(i);
	look_who_holds();
	ending_read_inotify(&broker.leases);
}

static void call(struct client *client, uint8_t how)
{
	static const uint32_t uids[] = { ALICE, BOB, 1002, 0 };
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };

	if (client->fd >= 0)
		return;
	client->fd = dial(0);
	client->uid = uids[how & 3];
	last_is_user(client->uid);
	say(client->fd, &hello, sizeof(hello));
	turn(1);
}

/*
 * Sends a claim. The input chooses among the names that there are, since to find them by mutation
 * takes long.
 */
static void claim(struct client *client, struct input *input)
{
	static const char *const names[] = { "slice", "small", "both", "card", "mtty", "any" };
	static const char *const profiles[] = { "",	  "card-1", "card-2", "gpu-1",
						"A_part", "557",    "558",    "NVIDIA X-2Q" };
	static const struct pci_address addresses[] = {
		{ .bus = 1 }, { .bus = 3 }, { .bus = 3, .function = 1 }, { .bus = 3, .function = 2 }
	};
	struct message_claim claim = { .type = MESSAGE_CLAIM };
	uint8_t n = input_byte(input);

	claim.flags = n & 16 ? CLAIM_WAIT : n & 32 ? CLAIM_ASK : 0;
	claim.memlock = n & 64 ? 1 << 20 : n & 128 ? 1 << 30 : 0;
	claim.n_selectors = 1 + (n & 3);
	for (uint32_t i = 0; i < claim.n_selectors; i++) {
		struct selector *s = &claim.selectors[i];
		uint8_t what = input_byte(input), which = input_byte(input);

		s->kind = what & 1 ? SELECT_ADDRESS : what & 2 ? SELECT_ANY : SELECT_NAME;
		s->address = addresses[which & 3];
		snprintf(s->name, sizeof(s->name), "%s",
			 s->kind == SELECT_NAME || what & 4 ? names[which / 4 % 6] : "");
		snprintf(s->profile, sizeof(s->profile), "%s", profiles[what >> 3 & 7]);
	}
	if (client->fd >= 0)
		say(client->fd, &claim, sizeof(claim));
	turn(2);
}

static void ask(struct client *client, uint8_t how)
{
	static const uint32_t plain[] = { MESSAGE_LIST, MESSAGE_LEASES, MESSAGE_QUEUE,
					  MESSAGE_WATCH };
	const struct message_release release = { .type = MESSAGE_RELEASE,
						 .lease = how >> 2,
						 .flags = how & 2 ? RELEASE_REVOKE : 0 };

	if (client->fd < 0)
		return;
	if (how & 1)
		say(client->fd, &release, sizeof(release));
	else
		say_plain(client->fd, plain[how >> 1 & 3]);
	turn(2);
}

/* An mdev that is half made becomes whole. */
static void complete_all(void)
{
	char path[200];

	for (int i = 0; i < MDEVS_MAX; i++) {
		path_of(path, "sys/bus/mdev/devices/%s/remove", sim.mdevs[i].uuid);
		if (sim.mdevs[i].uuid[0] && strcmp(sim.mdevs[i].uuid, OTHER) != 0 &&
		    access(path, F_OK))
			complete(i);
	}
}

/* Does what other programs do, and lets a driver fail. */
static void others_act(uint8_t how)
{
	const int vf = how >> 4 & 1;

	switch (how & 7) {
	case 0:
		if (sim.left)
			sim.left--;
		break;
	case 1:
		sim.left++;
		break;
	case 2:
		sim.create_error = how & 8 ? ENOSPC : how & 16 ? EIO : 0;
		break;
	case 3:
		sim.half = how & 8;
		complete_all();
		break;
	case 4:
		sim.vgpu_error = how & 8 ? EINVAL : how & 16 ? EIO : 0;
		break;
	case 5: /* a vGPU of somebody else */
		if (!sim.vfs[vf].type && !vf_write(vf, 557 + (how >> 3 & 1)))
			others[vf] = sim.vfs[vf].type;
		break;
	case 6:
		if (others[vf] && sim.vfs[vf].type == others[vf] && !is_held((uint32_t)(30 + vf)))
			must(!vf_write(vf, 0));
		others[vf] = 0;
		break;
	case 7:
		queue_mark_all(&broker.claims.queue);
		break;
	}
}

static void come_back_somehow(uint8_t how)
{
	struct work *work = started(how & 7);

	if (work)
		come_back(work, how & 64 ? EIO : how & 32 ? ENOSPC : 0, how & 128);
}

static void act(struct input *input)
{
	uint8_t op = input_byte(input), how = input_byte(input);
	struct client *client = &clients[(op >> 5) % CLIENTS];
	struct lease *lease;

	switch ((enum op)((op & 31) % N_OPS)) {
	case OP_DIAL:
		call(client, how);
		break;
	case OP_CLAIM:
		claim(client, input);
		break;
	case OP_ASK:
		ask(client, how);
		break;
	case OP_READ:
		read_all(client);
		break;
	case OP_HANG_UP:
		client->fd = fd_close(client->fd);
		break;
	case OP_LET_GO:
		let_go(client);
		break;
	case OP_WORKER:
		come_back_somehow(how);
		break;
	case OP_LATE:
		if (started(how & 7))
			fake_be_late(started(how & 7));
		break;
	case OP_CLOCK:
		lease = lease_find_from(&broker.leases.table, how);
		if (lease && lease->expiry && evtimer_pending(lease->expiry, NULL))
			event_active(lease->expiry, EV_TIMEOUT, 1);
		if (lease && lease->timer && evtimer_pending(lease->timer, NULL))
			event_active(lease->timer, EV_TIMEOUT, 1);
		break;
	case OP_OTHERS:
		others_act(how);
		break;
	case OP_ALL:
		for (int i = 0; i < 16 && fake_first(); i++)
			come_back(fake_first(), 0, false);
		break;
	case N_OPS:
		break;
	}
	turn(2);
}

/* ---- the host ---- */

static void forget(void)
{
	for (int i = 0; i < GROUPS; i++)
		ends_of[i] = -1;
	for (size_t i = 0; i < CLIENTS; i++)
		clients[i] = (struct client){ .fd = -1 };
	lease_table_init(&broker.leases.table, broker.leases.table.events,
			 broker.leases.table.userdata);
	memset(watched, 0, sizeof(watched));
	memset(others, 0, sizeof(others));
	lied = false;
	sim.create_error = sim.vgpu_error = 0;
	sim.half = sim.unrecorded = false;
	sim.left = 3;
	sim.next_group = 52;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fake.answer = answer_step;
	broker_make();
	make_host();
	parse_right(text_of_policy, &policy);
	broker.policy.policy = policy.policy;
	broker.policy.good = broker.policy.known = true;
	forget();
	call(&clients[0], 0);
	clients[0].fd = fd_close(clients[0].fd);
	turn(TURNS);
	return 0;
}

/* Lets everything that a lease waits for happen now. */
static void hurry(void)
{
	struct lease *lease, *next;

	complete_all();
	while (fake_first())
		come_back(fake_first(), 0, false);
	for (size_t i = 0; i < CLIENTS; i++)
		let_go(&clients[i]);
	for (lease = TAILQ_FIRST(&broker.leases.table.list); lease; lease = next) {
		next = TAILQ_NEXT(lease, link);
		if (lease->timer && evtimer_pending(lease->timer, NULL))
			event_active(lease->timer, EV_TIMEOUT, 1);
		else if (lease->state == GPUBROKER_LEASE_LEASED && !is_held(lease->group))
			lease_closed(lease); /* the core could not watch it */
	}
	turn(4);
}

/* Prints the leases that have not ended, which is what most findings are about. */
static void print_leases(void)
{
	const struct lease *lease;

	TAILQ_FOREACH(lease, &broker.leases.table.list, link)
		fprintf(stderr, "lease %u of group %d: state %d, %s, last log: %s\n",
			(unsigned)lease->id, (int)lease->group, (int)lease->state, lease->reason,
			last_log);
}

static size_t records(void)
{
	char path[200];

	path_of(path, "state");
	return count_entries(path);
}

/* Undoes what lies have led to, for the next input: mdevs and vGPUs that nobody knows of. */
static void clean_up(void)
{
	for (int i = 0; i < MDEVS_MAX; i++)
		if (sim.mdevs[i].uuid[0] && strcmp(sim.mdevs[i].uuid, OTHER) != 0)
			sim_remove(sim.mdevs[i].uuid);
	for (int i = 0; i < VFS; i++)
		if (sim.vfs[i].type)
			must(!vf_write(i, 0));
}

static void must_be_as_before(void)
{
	unsigned ours = 0;

	for (int i = 0; i < MDEVS_MAX; i++)
		ours += sim.mdevs[i].uuid[0] && strcmp(sim.mdevs[i].uuid, OTHER) != 0;
	for (int i = 0; i < VFS; i++)
		ours += sim.vfs[i].type && sim.vfs[i].type != others[i];
	must(find(OTHER) >= 0 && !sim.unrecorded);
	must(!ours);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t descriptors = count_descriptors();
	struct input input = { data, size };

	now = &input;
	forget();
	for (int i = 0; i < OPS_MAX && input.left; i++)
		act(&input);

	sim.create_error = sim.vgpu_error = 0;
	sim.half = false;
	for (size_t i = 0; i < CLIENTS; i++) {
		read_all(&clients[i]);
		clients[i].fd = fd_close(clients[i].fd);
	}
	turn(TURNS);
	for (int i = 0; i < 100 && broker.leases.table.n; i++) /* more than the core looks */
		hurry();
	for (size_t i = 0; i < CLIENTS; i++)
		let_go(&clients[i]);
	print_leases();
	must(!broker.leases.table.n && TAILQ_EMPTY(&broker.leases.table.list));
	must(TAILQ_EMPTY(&broker.claims.list) && TAILQ_EMPTY(&broker.claims.queue.list) &&
	     TAILQ_EMPTY(&broker.peers.list));
	must(!records() && !fake.n && !broker.workers.busy);
	must_be_as_before();
	clean_up();
	must(count_descriptors() == descriptors);
	return 0;
}

/* ---- seeds ---- */

static void op(struct seed *seed, unsigned client, enum op op, unsigned how)
{
	seed_byte(seed, client << 5 | op);
	seed_byte(seed, how);
}

static void claim_one(struct seed *seed, unsigned client, unsigned flags, unsigned what,
		      unsigned which)
{
	op(seed, client, OP_CLAIM, 0);
	seed_byte(seed, flags);
	seed_byte(seed, what);
	seed_byte(seed, which);
}

static void lying_worker(struct seed *seed, unsigned n, const char *const *texts)
{
	op(seed, 0, OP_WORKER, 128);
	for (unsigned i = 0; i < n; i++)
		seed_struct(seed, texts[i], strlen(texts[i]));
}

void fuzz_seeds(fuzz_write write)
{
	static const char *const counts[] = { "7\n", "18446744073709551615", "-1", "x" };
	static const char *const tables[] = {
		"0\n",
		"ID    : vGPU Name\n557   : NVIDIA X-1Q\n558 : NVIDIA X-2Q\n99999999999 : x\n"
	};
	static struct seed seed;

	op(&seed, 0, OP_DIAL, 0);
	claim_one(&seed, 0, 0, 1 << 3, 3 * 4); /* card, card-1 */
	op(&seed, 0, OP_ALL, 0);
	op(&seed, 0, OP_READ, 0);
	op(&seed, 0, OP_LET_GO, 0);
	op(&seed, 0, OP_ALL, 0);
	write("mdev", seed.data, seed.n);
	seed.n = 0;
	op(&seed, 0, OP_DIAL, 0);
	claim_one(&seed, 0, 0, 1 | 6 << 3, 1); /* the PF, 558 */
	op(&seed, 0, OP_ALL, 0);
	op(&seed, 0, OP_READ, 0);
	op(&seed, 1, OP_DIAL, 1);
	claim_one(&seed, 1, 16, 1 | 5 << 3, 1); /* waits for 557 */
	op(&seed, 0, OP_LET_GO, 0);
	op(&seed, 0, OP_ALL, 0);
	op(&seed, 1, OP_ALL, 0);
	op(&seed, 1, OP_READ, 0);
	write("vgpu", seed.data, seed.n);
	seed.n = 0;
	op(&seed, 0, OP_DIAL, 0);
	claim_one(&seed, 0, 0, 0, 2 * 4); /* both */
	lying_worker(&seed, 4, counts);
	op(&seed, 0, OP_ALL, 0);
	op(&seed, 0, OP_READ, 0);
	write("counts", seed.data, seed.n);
	seed.n = 0;
	op(&seed, 1, OP_DIAL, 1);
	claim_one(&seed, 1, 0, 1 | 5 << 3, 2);
	lying_worker(&seed, 2, tables);
	op(&seed, 0, OP_OTHERS, 5);
	op(&seed, 0, OP_WORKER, 0);
	op(&seed, 0, OP_LATE, 0);
	op(&seed, 0, OP_CLOCK, 1);
	write("tables", seed.data, seed.n);
	seed.n = 0;
	for (unsigned i = 0; i < 3; i++) {
		op(&seed, i, OP_DIAL, i < 2 ? 0 : 3);
		op(&seed, i, OP_OTHERS, i);
		if (i < 2)
			claim_one(&seed, i, 16, 2 << 3, 3 * 4); /* card, card-2, waits */
		op(&seed, i, OP_WORKER, i * 32);
	}
	op(&seed, 2, OP_ASK, 4 | 0);
	op(&seed, 2, OP_ASK, 2 << 2 | 3);
	write("queue", seed.data, seed.n);
}
