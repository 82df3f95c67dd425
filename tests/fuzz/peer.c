/* SPDX-License-Identifier: MIT */
/*
 * The core reads the wire: up to four connections of several users send, read, hang up and let go
 * of what they were lent, in any order, and workers come back, fail, or come late. The daemon is
 * that of tests/unit/brokerd/world.h, with all of the core's own code. This file stands in for the
 * kernel; a real last reference ends a lease.
 *
 * Whatever clients send: every answer has its type's size, descriptors come only with a grant and
 * only for devices that the policy gives that user. When all clients have gone and every worker has
 * come back, the host has every device, and no record and no descriptor is left.
 *
 * About: brokerd/peer/peer.c brokerd/peer/request.c brokerd/peer/listing.c brokerd/peer/release.c
 * brokerd/peer/watching.c brokerd/claim/claim.c brokerd/claim/begin.c brokerd/claim/claims.c brokerd/claim/grant.c
 * brokerd/claim/select.c brokerd/claim/selecting.c brokerd/claim/wanted.c brokerd/claim/queue.c
 * brokerd/lease/bringup.c brokerd/lease/functions.c brokerd/lease/ending.c brokerd/lease/restore.c
 * brokerd/lease/hotplug.c brokerd/state/lease.c brokerd/state/refuse.c brokerd/state/verdict.c
 * brokerd/state/users.c brokerd/lease/cdev.c brokerd/peer/handover.c brokerd/peer/sockets.c client/wire/passfd.c
 */
#include "config.h"

#include <errno.h>
#include <poll.h>

#include "brokerd/claim/allot.h"
#include "brokerd/claim/claim.h"
#include "brokerd/state/verdict.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/hotplug.h"
#include "brokerd/process/worker.h"
#include "tests/unit/brokerd/fake-worker.h"
#include "tests/unit/brokerd/last-log.h"
#include "tests/unit/brokerd/world.h"
#include "tests/fuzz/descriptors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/policy/parse.h"
#include "tests/unit/wire-answers.h"

const char fuzz_name[] = "peer";

enum op {
	OP_DIAL,
	OP_SEND,
	OP_READ,
	OP_HANG_UP,
	OP_LET_GO,
	OP_WORKER,
	OP_LATE,
	OP_CLOCK,
	OP_FAIL,
	OP_UNPLUG,
	OP_NODE,
	N_OPS
};

#define CLIENTS 4
#define OPS_MAX 64
#define HELD_MAX 24
#define TASKS_MAX 32
#define GROUPS 8 /* 101 to 107, of one function each, on bus 1 to 7; the last has two */
#define FIRST_GROUP 100
#define GROUP_DENIED 3
#define GROUP_ALICES 4
#define ALICE 1000

static const char text_of_policy[] = "device card vendor 1234\n"
				     "allow allotted claim card\n"
				     "allow any claim address 01:00.0\n"
				     "allow any claim address 02:00.0 limit 1 memlock 64M\n"
				     "allow any claim address 03:00.0\n"
				     "deny any claim address 03:00.0\n"
				     "allow user 1000 claim address 04:00.0 for 1h\n"
				     "allow any claim address 05:00.0\n"
				     "allow any claim address 06:00.0 require-reset\n";

static struct client {
	int fd;
	uint32_t uid;
	int held[HELD_MAX];
	size_t n_held;
} clients[CLIENTS];

static int ends_of[GROUPS];	  /* readable: the last holder is gone; -1: there was none */
static int watched[GROUPS];	  /* closes that inotify would report */
static bool gone[GROUPS];	  /* its last function is unplugged */
static bool moved[GROUPS][2];	  /* the function has changed its driver since the start */
static char nodes[GROUPS][2][24]; /* the name in its vfio-dev, as "vfio3"; "": none */
static bool node_closed;	  /* a node was closed, which inotify would report */
static int fail_next;		  /* errno for the next request to the kernel, or 0 */
static struct parsed policy;

/* ---- in place of the kernel ---- */

static int failure(void)
{
	int error = fail_next;

	fail_next = 0;
	return -error;
}

static bool is_held(size_t i)
{
	struct pollfd p = { .fd = ends_of[i] };

	if (ends_of[i] < 0)
		return false;
	if (poll(&p, 1, 0) == 1 && p.revents & POLLHUP) {
		ends_of[i] = fd_close(ends_of[i]);
		watched[i]++;
		return false;
	}
	return true;
}

/* Sometimes others than root may open the node. */
bool __wrap_kernel_node_is_open(int fd, struct kernel_node *ret_node);
bool __wrap_kernel_node_is_open(int fd, struct kernel_node *ret_node)
{
	(void)fd;
	*ret_node = (struct kernel_node){ .uid = 1234, .mode = 0640 };
	return failure();
}

/* Lends one end of a pipe: the other end shows when the last reference to it is gone. */
int __wrap_kernel_group_open(const struct kernel *kernel, uint32_t group);
int __wrap_kernel_group_open(const struct kernel *kernel, uint32_t group)
{
	size_t i = group - FIRST_GROUP;
	int pipes[2], r = failure();

	(void)kernel;
	must(i < GROUPS);
	if (r)
		return r;
	if (is_held(i))
		return -EBUSY;
	must(!pipe2(pipes, O_CLOEXEC));
	ends_of[i] = pipes[0];
	return pipes[1];
}

int __wrap_kernel_open_vfio(const struct kernel *kernel);
int __wrap_kernel_open_vfio(const struct kernel *kernel)
{
	int r = failure();

	return r ? r : fcntl(kernel->sys, F_DUPFD_CLOEXEC, 3);
}

int __wrap_kernel_group_viable(int group_fd);
int __wrap_kernel_group_viable(int group_fd)
{
	must(fcntl(group_fd, F_GETFD) == FD_CLOEXEC);
	return failure();
}

int __wrap_kernel_group_watch(const struct kernel *kernel, uint32_t group);
int __wrap_kernel_group_watch(const struct kernel *kernel, uint32_t group)
{
	int r = failure();

	(void)kernel;
	return r ? r : (int)group;
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
	for (size_t i = 0; i < GROUPS; i++)
		if (watched[i]) {
			watched[i] = 0;
			return FIRST_GROUP + (int)i;
		}
	if (!node_closed)
		return -EAGAIN;
	/* Which one, it need not say: inotify may lose events. */
	node_closed = false;
	return -EOVERFLOW;
}

int __wrap_kernel_cdev_watch(const struct kernel *kernel, uint32_t number);
int __wrap_kernel_cdev_watch(const struct kernel *kernel, uint32_t number)
{
	int r = failure();

	(void)kernel;
	must(number <= 2 * GROUPS);
	return r ? r : 1000 + (int)number;
}

int __wrap_kernel_memlock_raise(const struct kernel *kernel, int pidfd, int pid, uint64_t bytes);
int __wrap_kernel_memlock_raise(const struct kernel *kernel, int pidfd, int pid, uint64_t bytes)
{
	(void)kernel;
	(void)pidfd;
	must(pid > 0 && bytes <= 64 << 20);
	return failure();
}

/* ---- workers, which come back when the input says so ---- */

static struct {
	int error;	  /* of each step; 0: all succeed */
	const char *text; /* that a step reads; NULL: the state of this file */
} comes;

/* Returns the n-th of the workers at work; n wraps around. */
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

/*
 * Returns the override that a function had before its lease, and has again once a worker has
 * restored it.
 */
static const char *override_of(const struct pci_address *address)
{
	const struct lease *lease;

	TAILQ_FOREACH(lease, &broker.leases.table.list, link)
		for (size_t i = 0; i < lease->n_functions; i++)
			if (!pci_address_compare(&lease->functions[i].address, address))
				return lease->functions[i].override;
	return "(null)";
}

/* Only the kernel says whether a worker can open a group. */
static int answer_step(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	if (step->does == FAKE_OPENS) {
		must(step->group - FIRST_GROUP < GROUPS);
		return comes.error == ENOENT		    ? ENOENT
		       : is_held(step->group - FIRST_GROUP) ? EBUSY
							    : 0;
	}
	if (step->does == FAKE_READS || step->does == FAKE_EXPECTS)
		snprintf(text, FAKE_TEXT_MAX, "%s",
			 comes.text ? comes.text : override_of(&step->address));
	return comes.error;
}

/* Lets a worker run: each step succeeds, or fails with that errno. */
static void come_back(struct work *work, int error, const char *text)
{
	comes.error = error;
	comes.text = text;
	fake_run(work);
}

/* ---- clients ---- */

static void take_held(struct client *client, const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		must(fcntl(fds[i], F_GETFD) >= 0);
		if (client->n_held < HELD_MAX)
			client->held[client->n_held++] = fds[i];
		else
			close(fds[i]);
	}
}

static bool any_allotted; /* during this input */

static void check_grant(const struct client *client, const struct message_grant *grant)
{
	for (uint32_t i = 0; i < grant->n_groups; i++) {
		uint32_t group = grant->groups[i].group;
		const struct lease *lease = lease_find_group(&broker.leases.table, group);

		must(group > FIRST_GROUP && group < FIRST_GROUP + GROUPS);
		must(group != FIRST_GROUP + GROUP_DENIED);
		must(group != FIRST_GROUP + GROUP_ALICES || client->uid == ALICE || any_allotted);
		must(grant->groups[i].lease &&
		     grant->groups[i].lease < broker.leases.table.next_id);
		must(!lease || lease->id != grant->groups[i].lease || lease->uid == client->uid);
		for (uint32_t k = 0; k < i; k++)
			must(grant->groups[k].group != group);
	}
}

static bool is_reason(uint32_t reason)
{
	switch ((enum gpubroker_refusal)reason) {
#define IS_REASON(reason, number, word, status) case GPUBROKER_REFUSED_##reason:
		GPUBROKER_REFUSALS(IS_REASON)
#undef IS_REASON
		return true;
	}
	return false;
}

/* Checks that every answer has the size of its type, and that its strings end. */
static void check_answer(const struct client *client, const union answer *a, size_t n, size_t n_fds)
{
	struct message_grant grant;
	size_t i = 0;

	must(n >= sizeof(uint32_t));
	while (i < ARRAY_SIZE(wire_answers) && wire_answers[i].type != a->type)
		i++;
	must(i < ARRAY_SIZE(wire_answers) && wire_answers[i].size == n);
	must(a->type == MESSAGE_GRANT ? n_fds > 0 : n_fds == 0);
	switch (a->type) {
	case MESSAGE_GRANT:
		memcpy(&grant, a, sizeof(grant));
		must(grant.n_cdevs <= PROTOCOL_CDEVS_MAX);
		must(n_fds == grant.n_groups + (grant.n_cdevs ? 1 + grant.n_cdevs : 0));
		check_grant(client, &grant);
		break;
	case MESSAGE_REFUSAL:
		must(is_reason(a->refusal.reason) && a->refusal.detail < REFUSAL_N_DETAILS);
		must(memchr(a->refusal.text, 0, sizeof(a->refusal.text)) &&
		     memchr(a->refusal.rule, 0, sizeof(a->refusal.rule)));
		break;
	case MESSAGE_LEASE:
		must(a->lease.id && a->lease.n_functions &&
		     a->lease.n_functions <= PROTOCOL_FUNCTIONS_MAX);
		must(a->lease.state >= GPUBROKER_LEASE_PREPARING &&
		     a->lease.state <= GPUBROKER_LEASE_ASKED &&
		     a->lease.state != GPUBROKER_LEASE_HOST);
		break;
	case MESSAGE_ALLOTMENT:
		must(a->allotment.n_devices && a->allotment.n_devices <= PROTOCOL_SELECTORS_MAX);
		must(allotment_is_label(a->allotment.label));
		break;
	case MESSAGE_WAITING:
		must(a->waiting.id && a->waiting.id < broker.leases.table.next_id);
		must(a->waiting.place && a->waiting.n_selectors &&
		     a->waiting.n_selectors <= PROTOCOL_SELECTORS_MAX);
		break;
	case MESSAGE_USED:
		must(a->used.lease && memchr(a->used.device, 0, sizeof(a->used.device)) &&
		     memchr(a->used.profile, 0, sizeof(a->used.profile)));
		break;
	case MESSAGE_DEVICE:
		must(a->device.status && a->device.status <= GPUBROKER_NOT_VIABLE);
		must(!a->device.allowed || a->device.group != FIRST_GROUP + GROUP_DENIED);
		break;
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
		take_held(client, fds, n_fds);
		n_fds = 0;
	}
	must(n == 0 || n == -EAGAIN || n == -ECONNRESET);
}

/* Closes what the client holds; `every` 2 leaves each second one open. */
static void let_go_of(struct client *client, size_t every)
{
	size_t kept = 0;

	for (size_t i = 0; i < client->n_held; i++)
		if (i % every)
			client->held[kept++] = client->held[i];
		else
			close(client->held[i]);
	client->n_held = kept;
	node_closed = true;
	for (size_t i = 0; i < GROUPS; i++)
		is_held(i);
	ending_read_inotify(&broker.leases);
}

static void let_go(struct client *client)
{
	let_go_of(client, 1);
}

static void hang_up_all(struct client *client)
{
	client->fd = fd_close(client->fd);
}

/* Connects at the socket of the first allotment that has one. False: there is none. */
static bool call_at_socket(struct client *client)
{
	const struct allotment *allotment;
	int ends[2];

	TAILQ_FOREACH(allotment, &broker.allotments.list, link)
		if (sockets_has(&broker.peers, allotment->label))
			break;
	if (!allotment)
		return false;
	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
	client->fd = ends[1];
	client->uid = allotment->uid;
	admit_to(&broker.peers, ends[0], allotment);
	return true;
}

/* Waits for the processes that receive what root hands over. */
static void wait_for_takers(void)
{
	bool any = true;

	for (int i = 0; i < 10000 && any; i++) {
		any = false;
		turn(2);
		for (size_t slot = 0; slot < HANDOVERS_MAX; slot++)
			any = any || broker.peers.handovers.list[slot].on_exit;
		if (any)
			poll(NULL, 0, 1);
	}
	must(!any);
}

/* Sends a packet with a listening socket. */
static void hand_over(struct client *client, const void *packet, size_t n)
{
	const struct sockaddr address = { .sa_family = AF_UNIX }; /* the kernel names it */
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	need(fd >= 0 && !bind(fd, &address, sizeof(address.sa_family)) && !listen(fd, 1));
	passfd_send(client->fd, packet, n, &fd, 1);
	close(fd);
	wait_for_takers();
}

static void call(struct client *client, uint8_t how)
{
	static const uint32_t uids[] = { ALICE, 1001, 0, 65534 };
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };

	if (client->fd >= 0)
		return;
	if (!(how & 16) || !call_at_socket(client)) {
		client->fd = dial(how & 4 ? 4096 : 0);
		client->uid = uids[how & 3];
		last_is_user(client->uid);
	}
	if (how & 8)
		return; /* the client says hello itself, or does not */
	say(client->fd, &hello, sizeof(hello));
	turn(1);
}

/*
 * Sends a request of a size of the protocol, filled up with zeros, or any bytes; now and then with
 * descriptors.
 */
static void send_one(struct client *client, struct input *input)
{
	static const size_t sizes[] = {
		[MESSAGE_HELLO] = sizeof(struct message_hello),
		[MESSAGE_LIST] = sizeof(struct message_plain),
		[MESSAGE_LEASES] = sizeof(struct message_plain),
		[MESSAGE_CLAIM] = sizeof(struct message_claim),
		[MESSAGE_RELEASE] = sizeof(struct message_release),
		[MESSAGE_RESTORE] = sizeof(struct message_restore),
		[MESSAGE_WATCH] = sizeof(struct message_plain),
		[MESSAGE_VFS] = sizeof(struct message_vfs),
		[MESSAGE_MIGRATION] = sizeof(struct message_migration),
		[MESSAGE_QUEUE] = sizeof(struct message_plain),
		[MESSAGE_POLICY] = sizeof(struct message_policy),
		[MESSAGE_USAGE] = sizeof(struct message_plain),
		[MESSAGE_COUNTERS] = sizeof(struct message_plain),
		[MESSAGE_PREPARE] = sizeof(struct message_restore),
		[MESSAGE_ALLOT] = sizeof(struct message_allot),
		[MESSAGE_RETRACT] = sizeof(struct message_retract),
		[MESSAGE_ALLOTMENTS] = sizeof(struct message_plain),
		[MESSAGE_SOCKET] = sizeof(struct message_socket),
		[MESSAGE_LISTENER] = sizeof(struct message_plain),
	};
	uint8_t kind = input_byte(input) % 32;
	union {
		uint32_t type;
		char bytes[PROTOCOL_MESSAGE_MAX + 64];
	} packet;
	size_t n = input->left >= 2 ? input->p[0] | (size_t)input->p[1] << 8 : 0;
	const int fds[] = { client->fd, client->fd };

	input_struct(input, &packet, sizeof(packet));
	if (kind && kind < ARRAY_SIZE(sizes)) {
		packet.type = kind;
		n = sizes[kind];
	} else if (n > sizeof(packet)) {
		n = sizeof(packet);
	}
	if (client->fd < 0)
		return;
	if (kind == MESSAGE_LISTENER)
		hand_over(client, &packet, n);
	else
		passfd_send(client->fd, &packet, n, fds, kind == 31 ? 2 : 0);
	turn(2);
	any_allotted = any_allotted || broker.allotments.n;
}

static void function_name(unsigned bus, unsigned function, char out[16])
{
	snprintf(out, 16, "0000:%02x:00.%x", bus, function);
}

/* Unplugs the last function of that bus or plugs it in, and sends the watcher's record of it. */
static void unplug(unsigned bus, bool goes)
{
	struct watcher_record record = {
		.type = goes ? WATCHER_GONE : WATCHER_DEVICE,
		.address = { .bus = (uint8_t)bus, .function = bus == GROUPS - 1 },
		.class_code = 0x030000,
		.vendor = 0x1234,
		.group = FIRST_GROUP + bus,
	};
	char name[16], here[64], there[64];

	if (gone[bus] != goes) {
		function_name(bus, bus == GROUPS - 1, name);
		snprintf(here, sizeof(here), "bus/pci/devices/%s", name);
		snprintf(there, sizeof(there), "gone-%s", name);
		must(!renameat(broker.kernel.sys, goes ? here : there, broker.kernel.sys,
			       goes ? there : here));
		gone[bus] = goes;
	}
	hotplug_device_seen(&broker.leases, &record);
	must(!devices_take(&broker.devices, &record));
}

static void move_to(unsigned bus, unsigned function, const char *driver)
{
	char name[16], path[64], target[40];

	function_name(bus, function, name);
	snprintf(path, sizeof(path), "bus/pci/devices/%s/driver", name);
	snprintf(target, sizeof(target), "../../drivers/%s", driver);
	must(!unlinkat(broker.kernel.sys, path, 0) && !symlinkat(target, broker.kernel.sys, path));
}

/* ---- the nodes of functions ---- */

static void set_node(unsigned bus, unsigned function, const char *name)
{
	char address[16], before[64], after[64], *now = nodes[bus][function];

	if (!strcmp(now, name))
		return;
	function_name(bus, function, address);
	snprintf(before, sizeof(before), "%s-%s/%s", "nodes", address, *now ? now : "none");
	snprintf(after, sizeof(after), "%s-%s/%s", "nodes", address, *name ? name : "none");
	must(!renameat(broker.kernel.sys, before, broker.kernel.sys, after));
	snprintf(now, sizeof(nodes[0][0]), "%s", name);
}

static void own_node(unsigned bus, unsigned function)
{
	char name[16];

	snprintf(name, sizeof(name), "vfio%u", bus + function);
	set_node(bus, function, name);
}

/* Gives a function's node a name that the kernel might use, or one that it would not. */
static void rename_node(uint8_t how)
{
	static const char *const names[] = { "",       "vfio1", "vfio2", "vfio9", "vfio99999999999",
					     "vfio4x", "vfio-1" };
	unsigned bus = 1 + how % (GROUPS - 1), function = how >> 7 && bus == GROUPS - 1;

	if ((how >> 3 & 7) == 7)
		own_node(bus, function);
	else
		set_node(bus, function, names[how >> 3 & 7]);
}

/*
 * Removes what an earlier process left in the files. AFL++ forks again after a crash or a timeout,
 * and the new process does not know what the old one changed.
 */
static void take_over(void)
{
	DIR *dir =
		fdopendir(openat(broker.store.directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;
	char name[16], here[64], there[64];

	must(dir);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			must(!unlinkat(broker.store.directory, entry->d_name, 0));
	closedir(dir);
	for (unsigned bus = 1; bus < GROUPS; bus++) {
		function_name(bus, bus == GROUPS - 1, name);
		snprintf(here, sizeof(here), "gone-%s", name);
		snprintf(there, sizeof(there), "bus/pci/devices/%s", name);
		must(!renameat(broker.kernel.sys, here, broker.kernel.sys, there) ||
		     errno == ENOENT);
		for (unsigned f = 0; f < 2; f++)
			moved[bus][f] = bus != 5 && (!f || bus == GROUPS - 1);
	}
}

/* Puts the files back to the state after LLVMFuzzerInitialize(). */
static void host_as_it_was(void)
{
	static pid_t process;

	if (process != getpid())
		take_over();
	process = getpid();
	for (unsigned bus = 1; bus < GROUPS; bus++) {
		if (gone[bus])
			unplug(bus, false);
		own_node(bus, 0);
		if (bus == GROUPS - 1)
			own_node(bus, 1);
		for (unsigned f = 0; f < 2; f++)
			if (moved[bus][f]) {
				move_to(bus, f, "vfio-pci");
				moved[bus][f] = false;
			}
	}
}

static void act(struct input *input)
{
	uint8_t op = input_byte(input), how = input_byte(input);
	struct client *client = &clients[op >> 6];
	struct work *work;

	switch ((enum op)((op & 63) % N_OPS)) {
	case OP_DIAL:
		call(client, how);
		break;
	case OP_SEND:
		if (how & 1) /* and two of them at once */
			send_one(client, input);
		send_one(client, input);
		break;
	case OP_READ:
		read_all(client);
		break;
	case OP_HANG_UP:
		hang_up_all(client);
		break;
	case OP_LET_GO:
		let_go_of(client, how & 1 ? 2 : 1);
		break;
	case OP_WORKER:
		work = started(how & 31);
		if (work)
			come_back(work,
				  how & 64   ? EIO
				  : how & 32 ? ENOENT
					     : 0,
				  how & 128 ? "bochs" : "(null)");
		break;
	case OP_LATE:
		work = started(how & 31);
		if (work)
			fake_be_late(work);
		break;
	case OP_CLOCK: {
		struct lease *lease = lease_find_from(&broker.leases.table, how);

		if (lease && lease->expiry && evtimer_pending(lease->expiry, NULL))
			event_active(lease->expiry, EV_TIMEOUT, 1);
		if (lease && lease->timer && evtimer_pending(lease->timer, NULL))
			event_active(lease->timer, EV_TIMEOUT, 1);
		break;
	}
	case OP_FAIL:
		fail_next = how % 3 == 0 ? ENOENT : how % 3 == 1 ? EPERM : ENOMEM;
		break;
	case OP_UNPLUG:
		unplug(1 + how % (GROUPS - 1), !(how & 128));
		break;
	case OP_NODE:
		rename_node(how);
		break;
	case N_OPS:
		break;
	}
	turn(2);
}

/* ---- the host ---- */

static void add_host_function(unsigned bus, unsigned function)
{
	char address[24], path[128], target[64];

	snprintf(address, sizeof(address), "0000:%02x:00.%x", bus, function);
	add_function(address, "0x030000\n", FIRST_GROUP + (int)bus);
	add_device((uint8_t)bus, (uint8_t)function, 0x030000, FIRST_GROUP + bus);
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/driver", scratch_path, address);
	/*
	 * One function is on a host driver. Here, a bind to vfio-pci has no effect on it, and the
	 * core must restore it.
	 */
	need(!symlink(bus == 5 ? "../../drivers/bochs" : "../../drivers/vfio-pci", path));
	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/reset", address);
	if (bus != 2)
		scratch_write(path, "");
	/* Beside the function's own directory, which is unplugged whole. */
	snprintf(path, sizeof(path), "sys/nodes-%s/none", address);
	scratch_write(path, "");
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/vfio-dev", scratch_path, address);
	snprintf(target, sizeof(target), "../../../../nodes-%s", address);
	need(!symlink(target, path));
	snprintf(path, sizeof(path), "dev/vfio/devices/vfio%u", bus + function);
	scratch_write(path, "");
}

static void clear_leases(void)
{
	lease_table_init(&broker.leases.table, broker.leases.table.events,
			 broker.leases.table.userdata);
	for (size_t i = 0; i < GROUPS; i++)
		ends_of[i] = -1;
	for (size_t i = 0; i < CLIENTS; i++)
		clients[i] = (struct client){ .fd = -1 };
	memset(watched, 0, sizeof(watched));
	node_closed = false;
	fail_next = 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const drivers[] = { "vfio-pci", "bochs" };
	char path[128];

	(void)argc;
	(void)argv;
	fake.answer = answer_step;
	fake.start = failure;
	broker_make();
	for (unsigned bus = 1; bus < GROUPS; bus++)
		add_host_function(bus, 0);
	add_host_function(GROUPS - 1, 1);
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		snprintf(path, sizeof(path), "sys/bus/pci/drivers/%s/bind", drivers[i]);
		scratch_write(path, "");
		snprintf(path, sizeof(path), "sys/bus/pci/drivers/%s/unbind", drivers[i]);
		scratch_write(path, "");
	}
	scratch_write("sys/bus/pci/drivers_probe", "");
	scratch_write("dev/iommu", "");
	snprintf(path, sizeof(path), "%s/dev", scratch_path);
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(broker.kernel.dev >= 0);
	broker.kernel.cdevs = true;
	snprintf(path, sizeof(path), "%s/state", scratch_path);
	need(!mkdir(path, 0700));
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(broker.store.directory >= 0);
	parse_right(text_of_policy, &policy);
	broker.policy.policy = policy.policy;
	broker.policy.good = broker.policy.known = true;
	clear_leases();
	/* Creates the loop's own event, and what the first connection creates. */
	call(&clients[0], 0);
	hang_up_all(&clients[0]);
	turn(TURNS);
	fds_at_start = open_descriptors();
	return 0;
}

static void give_to_host(const struct lease_function *f)
{
	unsigned bus = f->address.bus, function = f->address.function;

	must(bus < GROUPS && function < 2);
	if (strcmp(f->driver, LEASE_DRIVER_UNKNOWN) != 0 || moved[bus][function] || bus == 5 ||
	    (gone[bus] && function == (bus == GROUPS - 1)))
		return;
	move_to(bus, function, "bochs");
	moved[bus][function] = true;
}

/* Lets everything that a lease waits for happen now. */
static void hurry(void)
{
	struct lease *lease, *next;
	struct work *work;

	/* Recovery may not know which driver a function had; here the host has one for each. */
	TAILQ_FOREACH(lease, &broker.leases.table.list, link)
		for (size_t i = 0; i < lease->n_functions; i++)
			give_to_host(&lease->functions[i]);
	while ((work = fake_first()))
		come_back(work, 0, NULL);
	for (size_t i = 0; i < GROUPS; i++)
		is_held(i);
	ending_read_inotify(&broker.leases);
	for (lease = TAILQ_FIRST(&broker.leases.table.list); lease; lease = next) {
		next = TAILQ_NEXT(lease, link);
		if (lease->timer && evtimer_pending(lease->timer, NULL))
			event_active(lease->timer, EV_TIMEOUT, 1);
		else if (lease->state == GPUBROKER_LEASE_LEASED &&
			 !is_held(lease->group - FIRST_GROUP))
			lease_closed(lease); /* the core could not watch it */
	}
	turn(4);
}

static bool no_records(void)
{
	DIR *dir =
		fdopendir(openat(broker.store.directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	size_t n = 0;

	must(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n == 2;
}

static void retract_all(void)
{
	uint64_t number = 1;
	const struct allotment *allotment;

	while ((allotment = allotments_from(&broker.allotments, number))) {
		struct message_refusal refusal;

		number = allotment->number + 1;
		must(!allot_retract(&broker.claims, 1, allotment->label, &refusal));
	}
	any_allotted = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t descriptors = count_descriptors();
	struct input input = { data, size };

	host_as_it_was();
	clear_leases();
	for (int i = 0; i < OPS_MAX && input.left; i++)
		act(&input);

	fail_next = 0;
	for (size_t i = 0; i < CLIENTS; i++) {
		read_all(&clients[i]);
		hang_up_all(&clients[i]);
	}
	turn(TURNS);
	retract_all();
	for (size_t i = 0; i < CLIENTS; i++)
		let_go(&clients[i]);
	for (int i = 0; i < 24 && broker.leases.table.n; i++)
		hurry();
	must(!broker.leases.table.n && TAILQ_EMPTY(&broker.leases.table.list));
	must(!broker.allotments.n); /* it ends with the last lease by it */
	wait_for_takers();
	must(TAILQ_EMPTY(&broker.peers.sockets.list) && !broker.peers.sockets.n_ended);
	must(TAILQ_EMPTY(&broker.claims.list) && TAILQ_EMPTY(&broker.claims.queue.list) &&
	     TAILQ_EMPTY(&broker.peers.list));
	/* A connection that was dropped with packets unread is closed by a process of its own. */
	if (broker.closing.n)
		event_active(broker.closing.on_due, EV_TIMEOUT, 1);
	must(all_closed());
	must(!broker.peers.n && !broker.peers.n_watching);
	must(no_records() && !fake.n && !broker.workers.busy);
	for (size_t i = 0; i < GROUPS; i++)
		must(!is_held(i));
	for (size_t i = 0; i < USERS_BUCKETS; i++)
		must(!broker.peers.users.buckets[i]);
	must(count_descriptors() == descriptors);
	return 0;
}

/* ---- seeds ---- */

static void op(struct seed *seed, unsigned client, enum op op, unsigned how)
{
	seed_byte(seed, client << 6 | op);
	seed_byte(seed, how);
}

static void plug(struct seed *seed, unsigned bus, bool goes)
{
	unsigned how = goes ? 0 : 128;

	while (1 + how % (GROUPS - 1) != bus)
		how++;
	op(seed, 0, OP_UNPLUG, how);
}

static void request(struct seed *seed, unsigned client, uint32_t type, const void *packet,
		    size_t size)
{
	op(seed, client, OP_SEND, 0);
	seed_byte(seed, type);
	seed_struct(seed, packet, size);
}

static void claim(struct seed *seed, unsigned client, uint8_t bus, uint32_t flags)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);

	claim.flags = flags;
	claim.selectors[0].address.bus = bus;
	request(seed, client, MESSAGE_CLAIM, &claim, sizeof(claim));
	op(seed, client, OP_WORKER, 0); /* reads its override */
	op(seed, client, OP_READ, 0);
}

static void plain(struct seed *seed, unsigned client, uint32_t type)
{
	const struct message_plain plain = { .type = type };

	request(seed, client, type, &plain, sizeof(plain));
	op(seed, client, OP_READ, 0);
}

static struct message_allot allot_of(uint32_t uid, uint8_t bus)
{
	struct message_allot m = {
		.type = MESSAGE_ALLOT, .label = "job-1", .uid = uid, .gid = uid, .n_selectors = 1
	};

	m.selectors[0] = (struct selector){ .kind = SELECT_ADDRESS, .address = { .bus = bus } };
	return m;
}

/* Root allots a device, its user claims it, another one does not, and it is retracted. */
static void seed_allotments(struct seed *seed, fuzz_write write)
{
	const struct message_allot allot = allot_of(1001, 1), forged = allot_of(1001, 2);
	const struct message_retract retract = { .type = MESSAGE_RETRACT, .label = "job-1" };

	seed->n = 0;
	op(seed, 0, OP_DIAL, 2);
	op(seed, 1, OP_DIAL, 1);
	op(seed, 2, OP_DIAL, 0);
	request(seed, 1, MESSAGE_ALLOT, &forged, sizeof(forged));
	request(seed, 0, MESSAGE_ALLOT, &allot, sizeof(allot));
	op(seed, 0, OP_READ, 0);
	plain(seed, 0, MESSAGE_ALLOTMENTS);
	claim(seed, 2, 1, 0);
	claim(seed, 1, 1, 0);
	op(seed, 1, OP_WORKER, 0);
	op(seed, 1, OP_READ, 0);
	plain(seed, 2, MESSAGE_LEASES);
	write("allot", seed->data, seed->n);
	request(seed, 0, MESSAGE_RETRACT, &retract, sizeof(retract));
	op(seed, 0, OP_READ, 0);
	plain(seed, 0, MESSAGE_ALLOTMENTS);
	op(seed, 1, OP_LET_GO, 0);
	op(seed, 1, OP_WORKER, 0);
	write("retract", seed->data, seed->n);
}

/*
 * Root gives an allotment a socket; who connects there claims, asks for what is not its own, and is
 * there when it is retracted. Others send no listening socket, or no descriptor.
 */
static void seed_sockets(struct seed *seed, fuzz_write write)
{
	const struct message_allot allot = allot_of(1001, 1);
	const struct message_retract retract = { .type = MESSAGE_RETRACT, .label = "job-1" };
	const struct message_plain listener = { .type = MESSAGE_LISTENER };
	struct message_socket m = { .type = MESSAGE_SOCKET,
				    .uid = 1001,
				    .label = "job-1",
				    .name = "pod",
				    .gid = 1001,
				    .n_gids = 1,
				    .gids = { 44 } };

	seed->n = 0;
	op(seed, 0, OP_DIAL, 2);
	request(seed, 0, MESSAGE_ALLOT, &allot, sizeof(allot));
	request(seed, 0, MESSAGE_SOCKET, &m, sizeof(m));
	op(seed, 0, OP_READ, 0);
	request(seed, 0, MESSAGE_LISTENER, &listener, sizeof(listener));
	op(seed, 0, OP_READ, 0);
	op(seed, 1, OP_DIAL, 16);
	claim(seed, 1, 1, 0);
	op(seed, 1, OP_WORKER, 0);
	op(seed, 1, OP_READ, 0);
	claim(seed, 1, 2, 0);
	plain(seed, 1, MESSAGE_LIST);
	plain(seed, 1, MESSAGE_ALLOTMENTS);
	request(seed, 1, MESSAGE_RETRACT, &retract, sizeof(retract));
	op(seed, 1, OP_READ, 0);
	write("socket", seed->data, seed->n);
	op(seed, 2, OP_DIAL, 16);
	plain(seed, 2, MESSAGE_WATCH);
	request(seed, 0, MESSAGE_RETRACT, &retract, sizeof(retract));
	op(seed, 1, OP_LET_GO, 0);
	op(seed, 1, OP_WORKER, 0);
	op(seed, 2, OP_READ, 0);
	write("socket-end", seed->data, seed->n);
	seed->n = 0;
	op(seed, 0, OP_DIAL, 2);
	request(seed, 0, MESSAGE_ALLOT, &allot, sizeof(allot));
	request(seed, 0, MESSAGE_SOCKET, &m, sizeof(m));
	op(seed, 1, OP_DIAL, 2);
	request(seed, 1, MESSAGE_RETRACT, &retract, sizeof(retract));
	m.uid = 1000;
	request(seed, 1, MESSAGE_SOCKET, &m, sizeof(m));
	request(seed, 1, MESSAGE_LISTENER, &listener, sizeof(listener));
	request(seed, 0, MESSAGE_LISTENER, &listener, sizeof(listener));
	op(seed, 0, OP_READ, 0);
	write("socket-late", seed->data, seed->n);
}

static void seed_claims(struct seed *seed, fuzz_write write)
{
	const struct message_restore prepare = { .type = MESSAGE_PREPARE, .address = { .bus = 5 } };
	const struct message_release release = { .type = MESSAGE_RELEASE, .lease = 1 };
	const struct message_release revoke = {
		.type = MESSAGE_RELEASE, .flags = RELEASE_REVOKE, .lease = 1, .after = 5
	};
	struct message_release ended = revoke;
	struct message_claim two = claim_by(SELECT_ANY);

	seed->n = 0;
	op(seed, 0, OP_DIAL, 0);
	claim(seed, 0, 1, 0);
	plain(seed, 0, MESSAGE_LEASES);
	op(seed, 0, OP_LET_GO, 0);
	op(seed, 0, OP_WORKER, 0);
	write("claim", seed->data, seed->n);
	op(seed, 1, OP_DIAL, 1);
	claim(seed, 1, 1, CLAIM_WAIT);
	op(seed, 0, OP_WORKER, 0);
	op(seed, 0, OP_WORKER, 0);
	op(seed, 1, OP_READ, 0);
	write("wait", seed->data, seed->n);
	seed->n = 0;
	op(seed, 0, OP_DIAL, 0);
	claim(seed, 0, 1, 0);
	op(seed, 1, OP_DIAL, 1);
	claim(seed, 1, 1, CLAIM_WAIT);
	op(seed, 2, OP_DIAL, 2);
	plain(seed, 2, MESSAGE_QUEUE);
	ended.lease = 2;
	request(seed, 2, MESSAGE_RELEASE, &ended, sizeof(ended));
	op(seed, 1, OP_READ, 0);
	write("ended", seed->data, seed->n);
	seed->n = 0;
	op(seed, 0, OP_DIAL, 0);
	plain(seed, 0, MESSAGE_POLICY);
	op(seed, 0, OP_READ, 0);
	write("policy", seed->data, seed->n);
	seed->n = 0;
	op(seed, 0, OP_DIAL, 0);
	claim(seed, 0, 1, 0);
	op(seed, 0, OP_LET_GO, 1);
	op(seed, 0, OP_WORKER, 0);
	op(seed, 2, OP_DIAL, 2);
	plain(seed, 2, MESSAGE_USAGE);
	op(seed, 2, OP_READ, 0);
	plain(seed, 2, MESSAGE_COUNTERS);
	op(seed, 2, OP_READ, 0);
	write("usage", seed->data, seed->n);
	seed->n = 0;
	op(seed, 2, OP_DIAL, 2);
	request(seed, 2, MESSAGE_PREPARE, &prepare, sizeof(prepare));
	op(seed, 2, OP_WORKER, 0);
	op(seed, 2, OP_READ, 0);
	op(seed, 0, OP_DIAL, 0);
	request(seed, 0, MESSAGE_PREPARE, &prepare, sizeof(prepare));
	op(seed, 0, OP_READ, 0);
	write("prepare", seed->data, seed->n);
	seed->n = 0;
	op(seed, 0, OP_DIAL, 0);
	claim(seed, 0, 1, CLAIM_CDEVS);
	op(seed, 0, OP_LET_GO, 1);
	op(seed, 0, OP_WORKER, 0);
	op(seed, 0, OP_NODE, 4 << 3 | 1);
	claim(seed, 0, 2, CLAIM_CDEVS);
	op(seed, 0, OP_CLOCK, 1);
	op(seed, 0, OP_LET_GO, 0);
	claim(seed, 0, GROUPS - 1, CLAIM_CDEVS);
	write("cdevs", seed->data, seed->n);
	seed->n = 0;
	op(seed, 0, OP_DIAL, 0);
	claim(seed, 0, 4, 0);
	request(seed, 0, MESSAGE_RELEASE, &release, sizeof(release));
	op(seed, 1, OP_DIAL, 2);
	request(seed, 1, MESSAGE_RELEASE, &revoke, sizeof(revoke));
	op(seed, 0, OP_CLOCK, 1);
	op(seed, 0, OP_LATE, 0);
	op(seed, 0, OP_WORKER, 0);
	write("release", seed->data, seed->n);
	seed->n = 0;
	op(seed, 0, OP_DIAL, 1);
	two.n_selectors = 3;
	two.selectors[1] = (struct selector){ .kind = SELECT_NAME, .name = "card" };
	two.selectors[2] = (struct selector){ .kind = SELECT_GROUP, .group = FIRST_GROUP + 6 };
	request(seed, 0, MESSAGE_CLAIM, &two, sizeof(two));
	for (int i = 0; i < 3; i++)
		op(seed, 0, OP_WORKER, 0);
	op(seed, 0, OP_READ, 0);
	write("three", seed->data, seed->n);
	seed->n = 0;
	op(seed, 0, OP_DIAL, 1);
	claim(seed, 0, 5, 0); /* on a host driver: vfio-pci does not bind */
	op(seed, 0, OP_WORKER, 0);
	op(seed, 0, OP_WORKER, 64);
	claim(seed, 0, 3, CLAIM_FORCE);
	claim(seed, 0, 4, 0);
	claim(seed, 0, 99, 0);
	write("refused", seed->data, seed->n);
	seed->n = 0;
	op(seed, 0, OP_DIAL, 0);
	claim(seed, 0, 1, 0);
	op(seed, 0, OP_HANG_UP, 0);
	plug(seed, 1, true);
	op(seed, 0, OP_FAIL, 2);
	op(seed, 0, OP_LET_GO, 0);
	write("hang-up", seed->data, seed->n);
	seed->n = 0;
	op(seed, 0, OP_DIAL, 0);
	plug(seed, GROUPS - 1, true);
	claim(seed, 0, GROUPS - 1, 0);
	plug(seed, GROUPS - 1, false);
	op(seed, 0, OP_WORKER, 0);
	write("arrival", seed->data, seed->n);
}

void fuzz_seeds(fuzz_write write)
{
	const struct message_hello old = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION + 1 };
	const struct message_restore restore = { .type = MESSAGE_RESTORE, .address = { .bus = 1 } };
	static struct seed seed;

	seed_claims(&seed, write);
	seed_allotments(&seed, write);
	seed_sockets(&seed, write);
	seed.n = 0;
	op(&seed, 0, OP_DIAL, 0);
	plain(&seed, 0, MESSAGE_LIST);
	plain(&seed, 0, MESSAGE_LEASES);
	op(&seed, 1, OP_DIAL, 2);
	plain(&seed, 1, MESSAGE_WATCH);
	claim(&seed, 0, 2, 0);
	op(&seed, 1, OP_READ, 0);
	write("lists", seed.data, seed.n);
	seed.n = 0;
	op(&seed, 0, OP_DIAL, 2);
	request(&seed, 0, MESSAGE_RESTORE, &restore, sizeof(restore));
	op(&seed, 0, OP_WORKER, 0);
	op(&seed, 0, OP_WORKER, 0);
	op(&seed, 0, OP_READ, 0);
	write("restore", seed.data, seed.n);
	seed.n = 0;
	op(&seed, 0, OP_DIAL, 8);
	request(&seed, 0, MESSAGE_HELLO, &old, sizeof(old));
	op(&seed, 0, OP_READ, 0);
	op(&seed, 1, OP_DIAL, 8);
	request(&seed, 1, 0, &old, 5);
	request(&seed, 1, 31, &old, 8);
	write("nonsense", seed.data, seed.n);
}
