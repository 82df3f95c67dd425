/* SPDX-License-Identifier: MIT */
/*
 * The library against a broker that answers what it likes: a forked child with a script, on a
 * socket of its own. The library must come back with the error that gpubroker.h promises, and
 * without a descriptor too many.
 */
#include "config.h"

#include "client/gpubroker.h"
#include "client/library/answer.h"
#include "client/wire/passfd.h"
#include "client/wire/protocol.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

/* ---- the fake broker ---- */

struct packet {
	uint32_t type; /* 0 ends the script */
	int more;      /* bytes more or less than the right size */
	size_t n_fds;
	uint32_t n_cdevs; /* in a grant; all in its last group */
	uint32_t value;	  /* version, reason, n_functions or n_groups, as the type has it */
	bool endless;	  /* strings without NUL */
	bool unread;	  /* sent before the broker reads the request that it answers */
};

static char socket_path[80];
static int listener = -1, spare = -1;
static pid_t child = -1;

static size_t make(const struct packet *p, union answer *m)
{
	memset(m, p->endless ? 'A' : 0, sizeof(*m));
	m->type = p->type;
	switch (p->type) {
	case MESSAGE_WELCOME:
		m->welcome.version = p->value;
		return sizeof(m->welcome);
	case MESSAGE_DEVICE:
		m->device.address = (struct pci_address){ .bus = (uint8_t)p->value };
		m->device.status = p->value;
		return sizeof(m->device);
	case MESSAGE_LEASE:
		m->lease.n_functions = p->value;
		m->lease.id = 3;
		return sizeof(m->lease);
	case MESSAGE_STEP:
		m->step.step = p->value;
		m->step.index = 1;
		m->step.total = 2;
		return sizeof(m->step);
	case MESSAGE_GRANT:
		m->grant.n_groups = p->value;
		m->grant.memlock = 1 << 20;
		m->grant.n_cdevs = p->n_cdevs;
		for (uint32_t i = 0; i < PROTOCOL_CDEVS_MAX; i++) {
			m->grant.cdevs[i].group = p->value - 1;
			m->grant.cdevs[i].number = 300 + i;
			m->grant.cdevs[i].address =
				(struct pci_address){ .bus = 7, .function = (uint8_t)(i % 8) };
		}
		for (uint32_t i = 0; i < PROTOCOL_SELECTORS_MAX; i++) {
			m->grant.groups[i].lease = 100 + i;
			m->grant.groups[i].group = 200 + i;
			m->grant.groups[i].address = (struct pci_address){ .bus = (uint8_t)i };
		}
		return sizeof(m->grant);
	case MESSAGE_REFUSAL:
		m->refusal.reason = p->value;
		m->refusal.group = 17;
		return sizeof(m->refusal);
	case MESSAGE_QUEUED:
		m->queued.place = p->value;
		m->queued.holder_uid = 5;
		m->queued.holder_pid = 6;
		m->queued.lease = 7;
		m->queued.ends = 8;
		m->queued.address = (struct pci_address){ .bus = 9 };
		if (p->value == UINT32_MAX) /* not a function's name, and its NUL is missing */
			memset(m->queued.parent, 'p', sizeof(m->queued.parent));
		return sizeof(m->queued);
	case MESSAGE_WAITING:
		m->waiting.id = 7;
		m->waiting.place = 2;
		m->waiting.n_selectors = p->value;
		m->waiting.selectors[0] =
			(struct selector){ .kind = SELECT_ADDRESS, .address = { .bus = 9 } };
		m->waiting.selectors[1].kind = SELECT_NAME;
		if (p->endless)
			return sizeof(m->waiting);
		strcpy(m->waiting.selectors[1].name, "card");
		strcpy(m->waiting.selectors[1].profile, "card-1");
		m->waiting.selectors[2] = (struct selector){ .kind = SELECT_GROUP, .group = 17 };
		m->waiting.selectors[3].kind = SELECT_ANY;
		return sizeof(m->waiting);
	case MESSAGE_EVENT:
		m->event.event = p->value;
		m->event.lease = 3;
		m->event.time = 4;
		m->event.ends = 5;
		m->event.group = 6;
		m->event.uid = 7;
		m->event.pid = 8;
		m->event.state = GPUBROKER_LEASE_LEASED;
		m->event.lost = 9;
		m->event.address = (struct pci_address){ .bus = 10 };
		return sizeof(m->event);
	default:
		return sizeof(m->end);
	}
}

static void wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	poll(&p, 1, 10000);
}

static void send_packet(int fd, const struct packet *p)
{
	int fds[PASSFD_MAX];
	union {
		union answer answer;
		char all[4 * PROTOCOL_MESSAGE_MAX]; /* more than any message may have */
	} m = { .all = "" };
	size_t size = make(p, &m.answer);

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = spare;
	while (passfd_send(fd, &m, (size_t)((ssize_t)size + p->more), fds, p->n_fds) == -EAGAIN)
		wait_for(fd, POLLOUT);
}

/*
 * Holds the client up, wherever it is, until the broker is gone: what the broker does before it
 * goes has then been done. gate[0] the client says that it is held, gate[1] it waits for the end
 * of.
 */
static int gate[2][2] = { { -1, -1 }, { -1, -1 } };

static void on_hold(int signal)
{
	char byte = 0;

	(void)signal;
	if (write(gate[0][1], &byte, 1) == 1)
		while (read(gate[1][0], &byte, 1) < 0 && errno == EINTR)
			;
}

static void hold_client(void)
{
	char byte;

	if (kill(getppid(), SIGUSR1) || read(gate[0][0], &byte, 1) != 1)
		_exit(1);
}

/*
 * Answers the hello with the script's first packet, and every further request with all the rest,
 * from the first on that is no answer to the hello; then waits until the client is gone, or closes
 * where `close_after` says so.
 */
static void serve(const struct packet *script, bool close_after)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	char request[PROTOCOL_MESSAGE_MAX];
	bool unread = script->unread;

	if (unread) {
		wait_for(fd, POLLIN); /* the request arrives, and nobody reads it */
		hold_client();
	} else if (recv(fd, request, sizeof(request), 0) <= 0) {
		_exit(0);
	}
	if (script->type)
		send_packet(fd, script++);
	if (!script->type && close_after) {
		close(fd);
		_exit(0);
	}
	while (recv(fd, request, sizeof(request), 0) > 0) {
		for (const struct packet *p = script; p->type; p++)
			send_packet(fd, p);
		if (close_after)
			break;
	}
	_exit(0);
}

static void start(const struct packet *script, bool close_after)
{
	if (script->unread)
		need(!pipe2(gate[0], O_CLOEXEC) && !pipe2(gate[1], O_CLOEXEC));
	child = fork();
	need(child >= 0);
	if (!child) {
		alarm(300);
		serve(script, close_after);
	}
	gate[1][1] = fd_close(gate[1][1]);
}

/* The client must have hung up before. */
static void stop(void)
{
	int status;

	need(waitpid(child, &status, 0) == child);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		printf("# the fake broker ended with status %#x\n", (unsigned)status);
	gate[0][0] = fd_close(gate[0][0]);
	gate[0][1] = fd_close(gate[0][1]);
	gate[1][0] = fd_close(gate[1][0]);
}

/* Starts a broker with this script, and opens a connection to it. */
static struct gpubroker *start_and_open(const struct packet *script, bool close_after)
{
	struct gpubroker *handle;

	start(script, close_after);
	need(!gpubroker_open(socket_path, &handle));
	return handle;
}

/* Closes the connection, and checks that only the descriptors of `before` are open. */
static void close_and_stop(struct gpubroker *handle, size_t before)
{
	gpubroker_close(handle);
	tap_ok(open_descriptors() == before, "and no descriptor is left");
	stop();
}

static struct gpubroker_claim *claim_of_any(void)
{
	struct gpubroker_claim *claim;

	need(!gpubroker_claim_new(&claim) && !gpubroker_claim_add(claim, "any"));
	return claim;
}

#define PACKET(...)                                                                                \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}
#define WELCOME PACKET(.type = MESSAGE_WELCOME, .value = PROTOCOL_VERSION)

/* ---- opening ---- */

static void test_open(void)
{
	static const struct {
		const char *name;
		struct packet script[2];
		int result;
		bool close_after;
	} cases[] = {
		{ "a welcome", .script = { WELCOME } },
		{ "a welcome and the end", .script = { WELCOME }, .close_after = true },
		{ "another version's welcome",
		  .script = { { .type = MESSAGE_WELCOME, .value = PROTOCOL_VERSION + 1 } },
		  .result = -EPROTO },
		{ "a welcome a byte too small",
		  .script = { { .type = MESSAGE_WELCOME, .more = -1, .value = PROTOCOL_VERSION } },
		  .result = -EPROTO },
		{ "a welcome a byte too large",
		  .script = { { .type = MESSAGE_WELCOME, .more = 1, .value = PROTOCOL_VERSION } },
		  .result = -EPROTO },
		{ "a welcome of 3 bytes",
		  .script = { { .type = MESSAGE_WELCOME, .more = -5, .value = PROTOCOL_VERSION } },
		  .result = -EPROTO },
		{ "a welcome larger than any message",
		  .script = { { .type = MESSAGE_WELCOME, .more = 4000, .value = PROTOCOL_VERSION } },
		  .result = -EPROTO },
		{ "a welcome with a descriptor",
		  .script = { { .type = MESSAGE_WELCOME, .n_fds = 1, .value = PROTOCOL_VERSION } },
		  .result = -EPROTO },
		{ "a welcome with 16 descriptors",
		  .script = { { .type = MESSAGE_WELCOME, .n_fds = 16, .value = PROTOCOL_VERSION } },
		  .result = -EPROTO },
		{ "an end", .script = { { .type = MESSAGE_END } }, .result = -EPROTO },
		{ "a device", .script = { { .type = MESSAGE_DEVICE } }, .result = -EPROTO },
		{ "a grant", .script = { { .type = MESSAGE_GRANT, .n_fds = 1, .value = 1 } },
		  .result = -EPROTO },
		{ "its own hello",
		  .script = { { .type = MESSAGE_HELLO, .value = PROTOCOL_VERSION } },
		  .result = -EPROTO },
		{ "an unknown type", .script = { { .type = 4711 } }, .result = -EPROTO },
		{ "nothing but the end", .result = -ECONNRESET, .close_after = true },
		{ "an empty packet",
		  .script = { { .type = MESSAGE_END, .more = -(int)sizeof(struct message_plain) } },
		  .result = -ECONNRESET },
		{ "a refusal without a reason",
		  .script = { { .type = MESSAGE_REFUSAL, .value = 0 } }, .result = -EPROTO },
		{ "a refusal with a negative reason",
		  .script = { { .type = MESSAGE_REFUSAL, .value = UINT32_MAX } },
		  .result = -EPROTO },
		{ "a refusal of a reason to come",
		  .script = { { .type = MESSAGE_REFUSAL, .value = 4711 } }, .result = 4711 },
		{ "a refusal of too many",
		  .script = { { .type = MESSAGE_REFUSAL, .value = GPUBROKER_REFUSED_QUOTA } },
		  .result = GPUBROKER_REFUSED_QUOTA },
		{ "a refusal and the end",
		  .script = { { .type = MESSAGE_REFUSAL, .value = GPUBROKER_REFUSED_QUOTA } },
		  .result = GPUBROKER_REFUSED_QUOTA, .close_after = true },
		{ "a refusal and the end, its hello unread",
		  .script = { { .type = MESSAGE_REFUSAL,
				.value = GPUBROKER_REFUSED_QUOTA,
				.unread = true } },
		  .result = GPUBROKER_REFUSED_QUOTA, .close_after = true },
		{ "a refusal without ends",
		  .script = { { .type = MESSAGE_REFUSAL,
				.value = GPUBROKER_REFUSED_VERSION,
				.endless = true } },
		  .result = GPUBROKER_REFUSED_VERSION },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct gpubroker *handle = NULL;
		size_t before;
		int r;

		start(cases[i].script, cases[i].close_after);
		before = open_descriptors();
		r = gpubroker_open(socket_path, &handle);
		tap_ok(r == cases[i].result, "opening meets %s: %d (%d)", cases[i].name,
		       cases[i].result, r);
		tap_ok((r < 0) == !handle, "and there is a handle only where one is promised");
		if (handle && r > 0)
			tap_ok(strlen(gpubroker_reason(handle)) > 20,
			       "whose reason can be read: %s", gpubroker_reason(handle));
		if (handle && !r)
			tap_ok(fcntl(gpubroker_fd(handle), F_GETFD) == FD_CLOEXEC &&
				       !gpubroker_reason(handle)[0],
			       "which is close-on-exec, and has no reason yet");
		tap_ok(!gpubroker_close(handle) && open_descriptors() == before,
		       "and no descriptor is left");
		stop();
	}
}

static void test_open_nobody(void)
{
	char longest[200];
	struct gpubroker *handle = NULL;
	size_t before = open_descriptors();

	tap_ok(gpubroker_open("/nonexistent/socket", &handle) == -ENOENT && !handle,
	       "no socket: -ENOENT");
	scratch_write("file", "");
	snprintf(longest, sizeof(longest), "%s/file", scratch_path);
	tap_ok(gpubroker_open(longest, &handle) == -ECONNREFUSED && !handle,
	       "a file that nobody listens at: -ECONNREFUSED");
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	tap_ok(gpubroker_open(longest, &handle) == -ENAMETOOLONG && !handle,
	       "a path too long: -ENAMETOOLONG, never cut");
	longest[sizeof(((struct sockaddr_un *)NULL)->sun_path)] = '\0';
	tap_ok(gpubroker_open(longest, &handle) == -ENAMETOOLONG, "also too long by its NUL only");
	tap_ok(!gpubroker_close(NULL) && open_descriptors() == before, "and no descriptor is left");
}

/* ---- listings ---- */

struct told {
	size_t n;
	int answer; /* what the function returns from the second call on */
	bool ended; /* all strings have their NUL */
};

static int on_device(void *userdata, const struct gpubroker_device *device)
{
	struct told *told = userdata;

	told->ended = strnlen(device->driver, sizeof(device->driver)) < sizeof(device->driver) &&
		      strnlen(device->vendor_name, sizeof(device->vendor_name)) <
			      sizeof(device->vendor_name) &&
		      strnlen(device->model, sizeof(device->model)) < sizeof(device->model) &&
		      strnlen(device->address, sizeof(device->address)) < sizeof(device->address) &&
		      strlen(gpubroker_status_name(device->status)) > 3;
	return ++told->n < 2 ? 0 : told->answer;
}

static int on_lease(void *userdata, const struct gpubroker_lease *lease)
{
	struct told *told = userdata;

	told->ended = strnlen(lease->reason, sizeof(lease->reason)) < sizeof(lease->reason) &&
		      strlen(gpubroker_lease_state_name(lease->state)) > 3;
	for (size_t i = 0; i < lease->n_devices; i++)
		told->ended = told->ended && strnlen(lease->devices[i], 20) < 20;
	return ++told->n < 2 ? 0 : told->answer;
}

#define DEVICE PACKET(.type = MESSAGE_DEVICE, .value = 1)
#define LEASE PACKET(.type = MESSAGE_LEASE, .value = 1)
#define END PACKET(.type = MESSAGE_END)

static void test_lists(void)
{
	static const struct {
		const char *name;
		bool leases, close_after;
		int answer; /* what the function returns */
		struct packet script[6];
		int result;
		size_t n; /* calls */
	} cases[] = {
		{ "no device", .script = { WELCOME, END } },
		{ "three devices", .script = { WELCOME, DEVICE, DEVICE, DEVICE, END }, .n = 3 },
		{ "a function that has enough", .answer = 42,
		  .script = { WELCOME, DEVICE, DEVICE, DEVICE, END }, .result = 42, .n = 2 },
		{ "a function that fails", .answer = -ENOMEM,
		  .script = { WELCOME, DEVICE, DEVICE, DEVICE, END }, .result = -ENOMEM, .n = 2 },
		{ "strings without end",
		  .script = { WELCOME, { .type = MESSAGE_DEVICE, .endless = true }, END }, .n = 1 },
		{ "a status that is none",
		  .script = { WELCOME, { .type = MESSAGE_DEVICE, .value = UINT32_MAX }, END },
		  .n = 1 },
		{ "the end in the middle", .close_after = true,
		  .script = { WELCOME, DEVICE, DEVICE }, .result = -ECONNRESET, .n = 2 },
		{ "the end at once", .close_after = true, .script = { WELCOME },
		  .result = -ECONNRESET },
		{ "a device too small",
		  .script = { WELCOME, { .type = MESSAGE_DEVICE, .more = -1 }, END },
		  .result = -EPROTO },
		{ "a device too large",
		  .script = { WELCOME, { .type = MESSAGE_DEVICE, .more = 1 }, END },
		  .result = -EPROTO },
		{ "a device much too large",
		  .script = { WELCOME, { .type = MESSAGE_DEVICE, .more = 2000 }, END },
		  .result = -EPROTO },
		{ "a lease among devices", .script = { WELCOME, DEVICE, LEASE, END },
		  .result = -EPROTO, .n = 1 },
		{ "a grant among devices",
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .value = 0 }, END },
		  .result = -EPROTO },
		{ "a descriptor with a device",
		  .script = { WELCOME, { .type = MESSAGE_DEVICE, .n_fds = 1 }, END },
		  .result = -EPROTO },
		{ "descriptors with the end",
		  .script = { WELCOME, DEVICE, { .type = MESSAGE_END, .n_fds = 16 } },
		  .result = -EPROTO, .n = 1 },
		{ "a refusal",
		  .script = { WELCOME,
			      DEVICE,
			      { .type = MESSAGE_REFUSAL, .value = GPUBROKER_REFUSED_QUOTA } },
		  .result = GPUBROKER_REFUSED_QUOTA, .n = 1 },
		{ "no lease", .leases = true, .script = { WELCOME, END } },
		{ "two leases", .leases = true, .script = { WELCOME, LEASE, LEASE, END }, .n = 2 },
		{ "a lease of nothing", .leases = true,
		  .script = { WELCOME, { .type = MESSAGE_LEASE, .value = 0 }, END }, .n = 1 },
		{ "a full lease", .leases = true,
		  .script = { WELCOME,
			      { .type = MESSAGE_LEASE, .value = PROTOCOL_FUNCTIONS_MAX },
			      END },
		  .n = 1 },
		{ "a lease of more than there can be", .leases = true,
		  .script = { WELCOME,
			      { .type = MESSAGE_LEASE, .value = PROTOCOL_FUNCTIONS_MAX + 1 },
			      END },
		  .result = -EPROTO },
		{ "a lease of very many", .leases = true,
		  .script = { WELCOME, { .type = MESSAGE_LEASE, .value = UINT32_MAX }, END },
		  .result = -EPROTO },
		{ "a reason without end", .leases = true,
		  .script = { WELCOME,
			      { .type = MESSAGE_LEASE,
				.value = PROTOCOL_FUNCTIONS_MAX,
				.endless = true },
			      END },
		  .n = 1 },
		{ "a device among leases", .leases = true,
		  .script = { WELCOME, LEASE, DEVICE, END }, .result = -EPROTO, .n = 1 },
		{ "the end in the middle of leases", .leases = true, .close_after = true,
		  .script = { WELCOME, LEASE }, .result = -ECONNRESET, .n = 1 },
		{ "a lease too small", .leases = true,
		  .script = { WELCOME, { .type = MESSAGE_LEASE, .more = -8, .value = 1 }, END },
		  .result = -EPROTO },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t before = open_descriptors();
		struct told told = { .answer = cases[i].answer, .ended = true };
		struct gpubroker *handle;
		int r;

		handle = start_and_open(cases[i].script, cases[i].close_after);
		r = cases[i].leases ? gpubroker_leases(handle, on_lease, &told)
				    : gpubroker_list(handle, on_device, &told);
		tap_ok(r == cases[i].result && told.n == cases[i].n,
		       "a listing meets %s: %d (%d, %zu told)", cases[i].name, cases[i].result, r,
		       told.n);
		tap_ok(told.ended, "every string ends");
		close_and_stop(handle, before);
	}
}

static int on_waiting(void *userdata, const struct gpubroker_waiting *waiting)
{
	static const char *const wanted[] = { "0000:09:00.0", "card", "iommu-group:17", "any" };
	struct told *told = userdata;

	told->n++;
	told->ended = waiting->id == 7 && waiting->place == 2 && waiting->n_wanted <= 16;
	for (size_t i = 0; told->ended && i < waiting->n_wanted; i++) {
		const struct gpubroker_wanted *w = &waiting->wanted[i];

		told->ended = strnlen(w->device, sizeof(w->device)) < sizeof(w->device) &&
			      strnlen(w->profile, sizeof(w->profile)) < sizeof(w->profile);
		if (waiting->n_wanted == 4)
			told->ended = told->ended && !strcmp(w->device, wanted[i]) &&
				      !strcmp(w->profile, i == 1 ? "card-1" : "");
	}
	return told->answer;
}

#define WAITING PACKET(.type = MESSAGE_WAITING, .value = 4)

static void test_queue(void)
{
	static const struct {
		const char *name;
		struct packet script[5];
		int answer, result;
		size_t n;
	} cases[] = {
		{ "claims that wait", .script = { WELCOME, WAITING, WAITING, END }, .n = 2 },
		{ "none", .script = { WELCOME, END } },
		{ "names without end",
		  .script = { WELCOME,
			      { .type = MESSAGE_WAITING, .value = 16, .endless = true },
			      END },
		  .n = 1 },
		{ "more than a claim may ask for",
		  .script = { WELCOME, { .type = MESSAGE_WAITING, .value = 17 }, END },
		  .result = -EPROTO },
		{ "a claim too small",
		  .script = { WELCOME, { .type = MESSAGE_WAITING, .more = -1, .value = 1 } },
		  .result = -EPROTO },
		{ "a lease", .script = { WELCOME, LEASE, END }, .result = -EPROTO },
		{ "the caller's end", .script = { WELCOME, WAITING, WAITING, END }, .answer = 5,
		  .result = 5, .n = 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct told told = { .answer = cases[i].answer, .ended = true };
		size_t before = open_descriptors();
		struct gpubroker *handle = start_and_open(cases[i].script, false);
		int r = gpubroker_queue(handle, on_waiting, &told);

		tap_ok(r == cases[i].result && told.n == cases[i].n && told.ended,
		       "who lists the queue meets %s: %d (%d, %zu told)", cases[i].name,
		       cases[i].result, r, told.n);
		close_and_stop(handle, before);
	}
}

static void test_list_again(void)
{
	static const struct packet script[] = { WELCOME, DEVICE, END, { 0 } };
	struct told told = { 0 };
	struct gpubroker *handle;
	bool good = true;

	handle = start_and_open(script, false);
	for (int i = 0; i < 50; i++)
		good = good && !gpubroker_list(handle, on_device, &told);
	tap_ok(good && told.n == 50, "a handle lists as often as it is asked");
	gpubroker_close(handle);
	stop();
}

/* ---- claiming ---- */

static unsigned n_steps;

static void on_progress(void *userdata, const struct gpubroker_progress *progress)
{
	(void)userdata;
	n_steps += strnlen(progress->address, sizeof(progress->address)) <
		   sizeof(progress->address);
}

#define STEP PACKET(.type = MESSAGE_STEP, .value = GPUBROKER_STEP_BIND)

static void test_claims(void)
{
	static const struct {
		const char *name;
		bool close_after;
		struct packet script[6];
		int result;
		size_t groups;
		unsigned steps;
	} cases[] = {
		{ "a grant",
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .n_fds = 1, .value = 1 } },
		  .groups = 1 },
		{ "steps and a grant",
		  .script = { WELCOME,
			      STEP,
			      STEP,
			      STEP,
			      { .type = MESSAGE_GRANT, .n_fds = 1, .value = 1 } },
		  .groups = 1, .steps = 3 },
		{ "a grant of 16 groups",
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .n_fds = 16, .value = 16 } },
		  .groups = 16 },
		{ "a grant and the end", .close_after = true,
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .n_fds = 2, .value = 2 } },
		  .groups = 2 },
		{ "a grant without descriptors",
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .value = 1 } }, .result = -EPROTO },
		{ "a grant of nothing",
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .value = 0 } }, .result = -EPROTO },
		{ "more descriptors than groups",
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .n_fds = 3, .value = 2 } },
		  .result = -EPROTO },
		{ "fewer descriptors than groups",
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .n_fds = 1, .value = 2 } },
		  .result = -EPROTO },
		{ "16 descriptors for no group",
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .n_fds = 16, .value = 0 } },
		  .result = -EPROTO },
		{ "more groups than there can be",
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .n_fds = 16, .value = 17 } },
		  .result = -EPROTO },
		{ "very many groups",
		  .script = { WELCOME, { .type = MESSAGE_GRANT, .n_fds = 1, .value = UINT32_MAX } },
		  .result = -EPROTO },
		{ "a grant too small",
		  .script = { WELCOME,
			      { .type = MESSAGE_GRANT, .more = -1, .n_fds = 1, .value = 1 } },
		  .result = -EPROTO },
		{ "a grant too large",
		  .script = { WELCOME,
			      { .type = MESSAGE_GRANT, .more = 1, .n_fds = 1, .value = 1 } },
		  .result = -EPROTO },
		{ "a grant much too large",
		  .script = { WELCOME,
			      { .type = MESSAGE_GRANT, .more = 4000, .n_fds = 4, .value = 4 } },
		  .result = -EPROTO },
		{ "a grant of 4 bytes",
		  .script = { WELCOME,
			      { .type = MESSAGE_GRANT,
				.more = 4 - (int)sizeof(struct message_grant),
				.n_fds = 2,
				.value = 2 } },
		  .result = -EPROTO },
		{ "an empty packet with descriptors",
		  .script = { WELCOME,
			      { .type = MESSAGE_GRANT,
				.more = -(int)sizeof(struct message_grant),
				.n_fds = 2,
				.value = 2 } },
		  .result = -EPROTO },
		{ "an end", .script = { WELCOME, END }, .result = -EPROTO },
		{ "a device", .script = { WELCOME, DEVICE }, .result = -EPROTO },
		{ "a second welcome", .script = { WELCOME, WELCOME }, .result = -EPROTO },
		{ "an end with descriptors",
		  .script = { WELCOME, { .type = MESSAGE_END, .n_fds = 5 } }, .result = -EPROTO },
		{ "the end after steps", .close_after = true, .script = { WELCOME, STEP, STEP },
		  .result = -ECONNRESET, .steps = 2 },
		{ "the end at once", .close_after = true, .script = { WELCOME },
		  .result = -ECONNRESET },
		{ "a refusal",
		  .script = { WELCOME,
			      STEP,
			      { .type = MESSAGE_REFUSAL, .value = GPUBROKER_REFUSED_BUSY } },
		  .result = GPUBROKER_REFUSED_BUSY, .steps = 1 },
		{ "a refusal with descriptors",
		  .script = { WELCOME,
			      { .type = MESSAGE_REFUSAL,
				.n_fds = 3,
				.value = GPUBROKER_REFUSED_POLICY } },
		  .result = GPUBROKER_REFUSED_POLICY },
		{ "a refusal without ends",
		  .script = { WELCOME,
			      { .type = MESSAGE_REFUSAL,
				.value = GPUBROKER_REFUSED_POLICY,
				.endless = true } },
		  .result = GPUBROKER_REFUSED_POLICY },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t before = open_descriptors();
		struct gpubroker_claim *claim;
		enum gpubroker_migration migration = GPUBROKER_MIGRATION_UNKNOWN;
		struct gpubroker *handle;
		bool usable = true;
		int r;

		handle = start_and_open(cases[i].script, cases[i].close_after);
		claim = claim_of_any();
		n_steps = 0;
		r = gpubroker_claim_run(handle, claim, on_progress, NULL);
		tap_ok(r == cases[i].result && gpubroker_claim_groups(claim) == cases[i].groups &&
			       n_steps == cases[i].steps,
		       "a claim meets %s: %d (%d, %zu groups, %u steps)", cases[i].name,
		       cases[i].result, r, gpubroker_claim_groups(claim), n_steps);
		tap_ok(open_descriptors() == before + 1 + cases[i].groups,
		       "and has a descriptor for each group");
		for (size_t k = 0; k < gpubroker_claim_groups(claim); k++)
			usable = usable &&
				 fcntl(gpubroker_claim_fd(claim, k), F_GETFD) == FD_CLOEXEC &&
				 gpubroker_claim_grant(claim, k)->iommu_group == 200 + k &&
				 gpubroker_claim_grant(claim, k)->lease == 100 + k;
		usable = usable && gpubroker_claim_fd(claim, cases[i].groups) == -1 &&
			 !gpubroker_claim_grant(claim, cases[i].groups) &&
			 gpubroker_claim_fd(claim, SIZE_MAX) == -1 &&
			 !gpubroker_claim_grant(claim, SIZE_MAX);
		tap_ok(usable && gpubroker_claim_memlock(claim) == (cases[i].groups ? 1 << 20 : 0),
		       "close-on-exec, in order, and none past the last");
		tap_ok(gpubroker_claim_migration(handle, claim, cases[i].groups, &migration) ==
				       -EINVAL &&
			       gpubroker_claim_migration(handle, claim, SIZE_MAX, &migration) ==
				       -EINVAL &&
			       migration == GPUBROKER_MIGRATION_UNKNOWN,
		       "a group past the last cannot be asked about migration");
		gpubroker_close(handle);
		tap_ok(open_descriptors() == before + cases[i].groups,
		       "which outlive the connection");
		tap_ok(!gpubroker_claim_free(claim) && open_descriptors() == before,
		       "and not the claim");
		stop();
	}
}

static void test_claim_again(void)
{
	static const struct packet script[] = { WELCOME,
						{ .type = MESSAGE_GRANT, .n_fds = 3, .value = 3 },
						{ 0 } };
	size_t before = open_descriptors();
	struct gpubroker_claim *claim;
	struct gpubroker *handle;

	handle = start_and_open(script, false);
	claim = claim_of_any();
	for (int i = 0; i < 3; i++)
		need(!gpubroker_claim_run(handle, claim, NULL, NULL));
	tap_ok(gpubroker_claim_groups(claim) == 3 && open_descriptors() == before + 4,
	       "a claim that is run again lets go of what it had; progress may be NULL");
	tap_ok(gpubroker_claim_continue(handle, claim, NULL, NULL) == -EAGAIN,
	       "and continue does not wait");
	gpubroker_claim_free(claim);
	gpubroker_close(handle);
	stop();
	tap_ok(open_descriptors() == before, "no descriptor is left");
}

/* peer-test.c tests the broker's side of this; this checks what the library sends. */
static void test_request(void)
{
	static const struct {
		const char *device;
		int result;
		struct selector selector;
	} cases[] = {
		{ "any", 0, { .kind = SELECT_ANY } },
		{ "01:00.0", 0, { .kind = SELECT_ADDRESS, .address = { .bus = 1 } } },
		{ "0000:01:00.1",
		  0,
		  { .kind = SELECT_ADDRESS, .address = { .bus = 1, .function = 1 } } },
		{ "iommu-group:0", 0, { .kind = SELECT_GROUP } },
		{ "iommu-group:4294967294", 0, { .kind = SELECT_GROUP, .group = UINT32_MAX - 1 } },
		{ "iommu-group:4294967295", -EINVAL, { 0 } },
		{ "iommu-group:4294967296", -EINVAL, { 0 } },
		{ "iommu-group:18446744073709551616", -EINVAL, { 0 } },
		{ "iommu-group:99999999999999999999999999", -EINVAL, { 0 } },
		{ "iommu-group:-1", -EINVAL, { 0 } },
		{ "iommu-group:+1", -EINVAL, { 0 } },
		{ "iommu-group: 1", -EINVAL, { 0 } },
		{ "iommu-group:1 ", -EINVAL, { 0 } },
		{ "iommu-group:0x1", -EINVAL, { 0 } },
		{ "iommu-group:", -EINVAL, { 0 } },
		{ "iommu-group", 0, { .kind = SELECT_NAME, .name = "iommu-group" } },
		{ "a100", 0, { .kind = SELECT_NAME, .name = "a100" } },
		{ "anyone", 0, { .kind = SELECT_NAME, .name = "anyone" } },
		{ "lab.gpu_0-x", 0, { .kind = SELECT_NAME, .name = "lab.gpu_0-x" } },
		{ "abcdefghijklmnopqrstuvwxyz01234",
		  0,
		  { .kind = SELECT_NAME, .name = "abcdefghijklmnopqrstuvwxyz01234" } },
		{ "abcdefghijklmnopqrstuvwxyz012345", -EINVAL, { 0 } },
		{ "", -EINVAL, { 0 } },
		{ " any", -EINVAL, { 0 } },
		{ "0100.0", -EINVAL, { 0 } },
		{ "-x", -EINVAL, { 0 } },
		{ ".x", -EINVAL, { 0 } },
		{ "a/b", -EINVAL, { 0 } },
		{ "a b", -EINVAL, { 0 } },
		{ "a\nb", -EINVAL, { 0 } },
		{ "caf\xc3\xa9", -EINVAL, { 0 } },
		{ "01:00.8", -EINVAL, { 0 } },
		{ "01:20.0", -EINVAL, { 0 } },
		{ "1:0.0", -EINVAL, { 0 } },
	};
	const struct message_hello hello = { .type = MESSAGE_WELCOME, .version = PROTOCOL_VERSION };
	struct message_claim request;
	struct gpubroker_claim *claim;
	struct gpubroker *handle;
	int fd, answer[2];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		need(!gpubroker_claim_new(&claim));
		tap_ok(gpubroker_claim_add(claim, cases[i].device) == cases[i].result, "'%s' is %s",
		       strchr(cases[i].device, '\n') ? "a~b" : cases[i].device,
		       cases[i].result ? "no device" : "a device");
		gpubroker_claim_free(claim);
	}

	need(!pipe(answer));
	child = fork();
	need(child >= 0);
	if (!child) {
		alarm(300);
		fd = accept(listener, NULL, NULL);
		if (recv(fd, &request, sizeof(request), 0) <= 0 ||
		    send(fd, &hello, sizeof(hello), 0) <= 0 ||
		    recv(fd, &request, sizeof(request), 0) != sizeof(request) ||
		    write(answer[1], &request, sizeof(request)) != sizeof(request))
			_exit(1);
		_exit(0);
	}
	close(answer[1]);
	need(!gpubroker_open(socket_path, &handle) && !gpubroker_claim_new(&claim));
	tap_ok(gpubroker_claim_start(handle, claim) == -EINVAL, "a claim of nothing is not sent");
	for (size_t i = 0, n = 0; i < ARRAY_SIZE(cases) && n < PROTOCOL_SELECTORS_MAX; i++)
		n += !gpubroker_claim_add(claim, cases[i].device);
	{
		const char *bad[] = {
			"",	"..",
			"a/b",	"a..b",
			"a\nb", "0123456789012345678901234567890123456789012345678901234567890123"
		};
		bool right = true;

		for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
			right = right && gpubroker_claim_add_profile(claim, "any", bad[i]) == -EDOM;
		tap_ok(right, "what is no profile by its form is not sent");
		tap_ok(gpubroker_claim_add_profile(claim, "iommu-group:1", "x") == -EINVAL &&
			       gpubroker_claim_add_profile(claim, "../x", "x") == -EINVAL,
		       "... nor one of a group, or of no device");
	}
	tap_ok(gpubroker_claim_add_of(claim, "any/", "01:00.0", NULL) == -EINVAL &&
		       gpubroker_claim_add_of(claim, "card", "card", NULL) == -EINVAL &&
		       gpubroker_claim_add_of(claim, "card", "01:00.0", "..") == -EDOM,
	       "nor what is no name, or no address behind one");
	while (!gpubroker_claim_add(claim, "any"))
		;
	tap_ok(gpubroker_claim_add(claim, "any") == -E2BIG, "more than 16 are refused");
	gpubroker_claim_set_force(claim, true);
	gpubroker_claim_set_memlock(claim, 1ULL << 40);
	need(!gpubroker_claim_start(handle, claim));
	need(read(answer[0], &request, sizeof(request)) == sizeof(request));
	tap_ok(request.type == MESSAGE_CLAIM && request.flags == CLAIM_FORCE &&
		       request.memlock == 1ULL << 40 &&
		       request.n_selectors == PROTOCOL_SELECTORS_MAX && !request.reserved,
	       "a claim is sent as it was made");
	for (size_t i = 0, n = 0; i < ARRAY_SIZE(cases); i++)
		if (!cases[i].result && memcmp(&request.selectors[n++], &cases[i].selector,
					       sizeof(struct selector)) != 0)
			tap_ok(false, "'%s' is sent as what it is", cases[i].device);
	gpubroker_claim_free(claim);
	gpubroker_close(handle);
	close(answer[0]);
	stop();
}

/* A dry run: the client asks whether the broker would begin a claim. */
static void test_ask(void)
{
	static const struct {
		struct packet script[3];
		int result;
	} cases[] = {
		{ { WELCOME, { .type = MESSAGE_END } }, 0 },
		{ { WELCOME, { .type = MESSAGE_REFUSAL, .value = GPUBROKER_REFUSED_BUSY } },
		  GPUBROKER_REFUSED_BUSY },
		{ { WELCOME, { .type = MESSAGE_GRANT, .value = 1 } }, -EPROTO },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct gpubroker_claim *claim;
		struct gpubroker *handle;

		handle = start_and_open(cases[i].script, false);
		need(!gpubroker_claim_new(&claim));
		tap_ok(gpubroker_claim_ask(handle, claim) == -EINVAL, "nothing is not asked for");
		need(!gpubroker_claim_add_of(claim, "card", "01:00.0", "part"));
		tap_ok(gpubroker_claim_ask(handle, claim) == cases[i].result,
		       "what it would be: %d", cases[i].result);
		gpubroker_claim_free(claim);
		gpubroker_close(handle);
		stop();
	}
}

/* ---- waiting ---- */

struct waits {
	unsigned n, n_other;
	struct gpubroker_progress last;
};

static void on_wait(void *userdata, const struct gpubroker_progress *progress)
{
	struct waits *waits = userdata;

	if (progress->step != GPUBROKER_STEP_WAIT) {
		waits->n_other++;
		return;
	}
	waits->n++;
	waits->last = *progress;
}

#define QUEUED(place_) PACKET(.type = MESSAGE_QUEUED, .value = place_)
#define GRANT PACKET(.type = MESSAGE_GRANT, .n_fds = 1, .value = 1)

static void test_wait(void)
{
	static const struct {
		const char *name;
		bool close_after;
		struct packet script[7];
		int result;
		unsigned n, n_other;
		uint32_t place;
	} cases[] = {
		{ "places, a step and a grant",
		  .script = { WELCOME, QUEUED(3), QUEUED(2), QUEUED(1), STEP, GRANT }, .n = 3,
		  .n_other = 1, .place = 1 },
		{ "a place and a refusal",
		  .script = { WELCOME,
			      QUEUED(2),
			      { .type = MESSAGE_REFUSAL, .value = GPUBROKER_REFUSED_POLICY } },
		  .result = GPUBROKER_REFUSED_POLICY, .n = 1, .place = 2 },
		{ "a place and the end", .close_after = true, .script = { WELCOME, QUEUED(2) },
		  .result = -ECONNRESET, .n = 1, .place = 2 },
		{ "a very large place", .script = { WELCOME, QUEUED(UINT32_MAX), GRANT }, .n = 1,
		  .place = UINT32_MAX },
		{ "a place too small",
		  .script = { WELCOME, { .type = MESSAGE_QUEUED, .more = -1, .value = 1 }, GRANT },
		  .result = -EPROTO },
		{ "a place too large",
		  .script = { WELCOME, { .type = MESSAGE_QUEUED, .more = 1, .value = 1 }, GRANT },
		  .result = -EPROTO },
		{ "a place with descriptors",
		  .script = { WELCOME, { .type = MESSAGE_QUEUED, .n_fds = 2, .value = 1 }, GRANT },
		  .n = 1, .place = 1 },
		{ "an event among places",
		  .script = { WELCOME, QUEUED(1), { .type = MESSAGE_EVENT, .value = 1 }, GRANT },
		  .result = -EPROTO, .n = 1, .place = 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t before = open_descriptors();
		struct waits waits = { 0 };
		struct gpubroker_claim *claim;
		struct gpubroker *handle;
		int r;

		handle = start_and_open(cases[i].script, cases[i].close_after);
		claim = claim_of_any();
		gpubroker_claim_set_wait(claim, true);
		r = gpubroker_claim_run(handle, claim, on_wait, &waits);
		tap_ok(r == cases[i].result && waits.n == cases[i].n &&
			       waits.n_other == cases[i].n_other &&
			       waits.last.index == cases[i].place,
		       "who waits meets %s: %d (%d, %u told)", cases[i].name, cases[i].result, r,
		       waits.n);
		if (waits.n)
			tap_ok(waits.last.lease == 7 && waits.last.holder_uid == 5 &&
				       waits.last.holder_pid == 6 && waits.last.ends == 8 &&
				       (waits.last.index == UINT32_MAX
						? !waits.last.address[0] &&
							  strlen(waits.last.parent) == 31
						: !strcmp(waits.last.address, "0000:09:00.0") &&
							  !waits.last.parent[0]),
			       "and is told by whom, and until when");
		gpubroker_claim_free(claim);
		close_and_stop(handle, before);
	}
}

/* ---- ending leases ---- */

enum ending { RELEASE, REVOKE, RESTORE };

static int end_by(struct gpubroker *handle, enum ending how, char address[20])
{
	switch (how) {
	case RELEASE:
		return gpubroker_release(handle, 3);
	case REVOKE:
		return gpubroker_revoke(handle, 4, 60);
	case RESTORE:
		return gpubroker_restore(handle, "01:00.1", address);
	}
	return 0;
}

static void test_ending(void)
{
	static const char *const names[] = { "a release", "a revocation", "a restore" };
	static const struct {
		const char *name;
		bool close_after;
		struct packet script[3];
		int result;
	} cases[] = {
		{ "an end", .script = { WELCOME, END } },
		{ "a refusal",
		  .script = { WELCOME,
			      { .type = MESSAGE_REFUSAL, .value = GPUBROKER_REFUSED_NOT_YOURS } },
		  .result = GPUBROKER_REFUSED_NOT_YOURS },
		{ "a refusal without ends",
		  .script = { WELCOME,
			      { .type = MESSAGE_REFUSAL,
				.value = GPUBROKER_REFUSED_NO_LEASE,
				.endless = true } },
		  .result = GPUBROKER_REFUSED_NO_LEASE },
		{ "a refusal without a reason", .script = { WELCOME, { .type = MESSAGE_REFUSAL } },
		  .result = -EPROTO },
		{ "an end too small", .script = { WELCOME, { .type = MESSAGE_END, .more = -1 } },
		  .result = -EPROTO },
		{ "an end too large", .script = { WELCOME, { .type = MESSAGE_END, .more = 1 } },
		  .result = -EPROTO },
		{ "an end with a descriptor",
		  .script = { WELCOME, { .type = MESSAGE_END, .n_fds = 1 } }, .result = -EPROTO },
		{ "a grant", .script = { WELCOME, GRANT }, .result = -EPROTO },
		{ "an event", .script = { WELCOME, { .type = MESSAGE_EVENT, .value = 1 } },
		  .result = -EPROTO },
		{ "a device", .script = { WELCOME, DEVICE }, .result = -EPROTO },
		{ "an unknown type", .script = { WELCOME, { .type = 4711 } }, .result = -EPROTO },
		{ "nothing but the end", .close_after = true, .script = { WELCOME },
		  .result = -ECONNRESET },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned how = RELEASE; how <= RESTORE; how++) {
			size_t before = open_descriptors();
			char address[20] = "untouched";
			struct gpubroker *handle;
			int r;

			handle = start_and_open(cases[i].script, cases[i].close_after);
			r = end_by(handle, (enum ending)how, address);
			tap_ok(r == cases[i].result, "%s meets %s: %d (%d)", names[how],
			       cases[i].name, cases[i].result, r);
			tap_ok(!strcmp(address,
				       how == RESTORE && !r ? "0000:01:00.1" : "untouched"),
			       "and has an address only where one is promised");
			tap_ok(r <= 0 || gpubroker_reason(handle)[0],
			       "and a sentence where it is refused");
			close_and_stop(handle, before);
		}
	}
}

/* Sends each of these as one packet. */
static void test_ending_requests(void)
{
	const struct message_hello hello = { .type = MESSAGE_WELCOME, .version = PROTOCOL_VERSION };
	const struct message_plain end = { .type = MESSAGE_END };
	union {
		uint32_t type;
		struct message_release release;
		struct message_restore restore;
		struct message_vfs vfs;
		struct message_plain plain;
		struct message_claim claim;
		char all[2048];
	} request;
	struct gpubroker_claim *claim;
	char address[20] = "untouched";
	struct gpubroker *handle;
	int fd, sent[2];
	uint32_t size;

	need(!pipe(sent));
	child = fork();
	need(child >= 0);
	if (!child) {
		alarm(300);
		fd = accept(listener, NULL, NULL);
		if (recv(fd, &request, sizeof(request), 0) <= 0 ||
		    send(fd, &hello, sizeof(hello), 0) <= 0)
			_exit(1);
		for (;;) {
			ssize_t n = recv(fd, &request, sizeof(request), 0);

			size = (uint32_t)n;
			if (n <= 0)
				_exit(0);
			if (write(sent[1], &size, sizeof(size)) != sizeof(size) ||
			    write(sent[1], &request, size) != n ||
			    send(fd, &end, sizeof(end), 0) <= 0)
				_exit(1);
		}
	}
	close(sent[1]);
	need(!gpubroker_open(socket_path, &handle));
#define SENT(what)                                                                                 \
	(read(sent[0], &size, sizeof(size)) == sizeof(size) && size == sizeof(request.what) &&     \
	 read(sent[0], &request, size) == (ssize_t)size)
	tap_ok(!gpubroker_release(handle, UINT64_MAX - 1) && SENT(release) &&
		       request.type == MESSAGE_RELEASE && !request.release.flags &&
		       request.release.lease == UINT64_MAX - 1 && !request.release.after,
	       "a release is sent as one");
	tap_ok(!gpubroker_revoke(handle, 3, INT32_MAX) && SENT(release) &&
		       request.release.flags == RELEASE_REVOKE && request.release.lease == 3 &&
		       request.release.after == INT32_MAX,
	       "a revocation with its time");
	tap_ok(gpubroker_revoke(handle, 3, 1ULL << 31) == -EINVAL,
	       "a time that no broker would take is not sent");
	tap_ok(!gpubroker_revoke(handle, 3, 0) && SENT(release) &&
		       request.release.flags == RELEASE_REVOKE && !request.release.after,
	       "and without");
	tap_ok(!gpubroker_restore(handle, "10000:e1:1f.7", address) && SENT(restore) &&
		       request.type == MESSAGE_RESTORE && !request.restore.reserved &&
		       request.restore.address.domain == 0x10000 &&
		       request.restore.address.bus == 0xe1 &&
		       request.restore.address.device == 31 &&
		       request.restore.address.function == 7 && !request.restore.address.reserved &&
		       !strcmp(address, "10000:e1:1f.7"),
	       "a restore with its address, which is told");
	strcpy(address, "untouched");
	for (size_t i = 0; i < 4; i++) {
		static const char *const none[] = { "any", "iommu-group:3", "", "01:00.8" };

		tap_ok(gpubroker_restore(handle, none[i], address) == -EINVAL &&
			       !strcmp(address, "untouched"),
		       "'%s' is nothing to restore, and nothing is sent", none[i]);
	}
	tap_ok(!gpubroker_prepare(handle, "3b:00.0", address) && SENT(restore) &&
		       request.type == MESSAGE_PREPARE && request.restore.address.bus == 0x3b &&
		       !strcmp(address, "0000:3b:00.0") &&
		       gpubroker_prepare(handle, "any", address) == -EINVAL,
	       "prepare asks for the function of an address");
	tap_ok(!gpubroker_vfs(handle, "3b:00.0", 65535, address) && SENT(vfs) &&
		       request.type == MESSAGE_VFS && request.vfs.vfs == 65535 &&
		       request.vfs.address.bus == 0x3b && !strcmp(address, "0000:3b:00.0"),
	       "virtual functions with their number");
	tap_ok(gpubroker_vfs(handle, "3b:00.0", 65536, address) == -EINVAL &&
		       gpubroker_vfs(handle, "any", 1, address) == -EINVAL,
	       "what cannot be asked for is not sent");
	claim = claim_of_any();
	for (int i = 0; i < 3; i++) {
		static const uint32_t flags[] = { CLAIM_WAIT, CLAIM_WAIT | CLAIM_FORCE,
						  CLAIM_FORCE };

		gpubroker_claim_set_wait(claim, i < 2);
		gpubroker_claim_set_force(claim, i > 0);
		tap_ok(gpubroker_claim_run(handle, claim, NULL, NULL) == -EPROTO && SENT(claim) &&
			       request.type == MESSAGE_CLAIM && request.claim.flags == flags[i],
		       "a claim that %s is sent as one%s", i < 2 ? "waits" : "waits no more",
		       i ? ", beside force" : "");
	}
	gpubroker_claim_free(claim);
	gpubroker_close(handle);
	close(sent[0]);
	stop();
}

/* ---- watching ---- */

struct heard {
	unsigned n, enough;
	bool good, ended;
};

static int on_event(void *userdata, const struct gpubroker_event *event)
{
	struct heard *heard = userdata;

	heard->n++;
	heard->good = event->lease == 3 && event->time == 4 && event->ends == 5 &&
		      event->iommu_group == 6 && event->uid == 7 && event->pid == 8 &&
		      event->state == GPUBROKER_LEASE_LEASED && event->lost == 9 &&
		      /* an event about no PCI function has no address */
		      !strcmp(event->address, event->parent[0] ? "" : "0000:0a:00.0");
	heard->ended = strnlen(event->reason, sizeof(event->reason)) < sizeof(event->reason) &&
		       strnlen(event->parent, sizeof(event->parent)) < sizeof(event->parent);
	return heard->n == heard->enough ? 42 : 0;
}

#define EVENT PACKET(.type = MESSAGE_EVENT, .value = GPUBROKER_EVENT_ENDING)

static void test_watch(void)
{
	static const struct {
		const char *name;
		bool close_after;
		unsigned enough; /* the function stops after so many; 0: never */
		struct packet script[5];
		int result;
		unsigned n;
	} cases[] = {
		{ "events until it has enough", .enough = 2,
		  .script = { WELCOME, EVENT, EVENT, EVENT }, .result = 42, .n = 2 },
		{ "events and the end", .close_after = true, .script = { WELCOME, EVENT, EVENT },
		  .result = -ECONNRESET, .n = 2 },
		{ "the end at once", .close_after = true, .script = { WELCOME },
		  .result = -ECONNRESET },
		{ "an event of a kind to come", .close_after = true,
		  .script = { WELCOME, { .type = MESSAGE_EVENT, .value = 4711 } },
		  .result = -ECONNRESET, .n = 1 },
		{ "a reason without end", .enough = 1,
		  .script = { WELCOME, { .type = MESSAGE_EVENT, .value = 1, .endless = true } },
		  .result = 42, .n = 1 },
		{ "a refusal",
		  .script = { WELCOME,
			      EVENT,
			      { .type = MESSAGE_REFUSAL, .value = GPUBROKER_REFUSED_QUOTA } },
		  .result = GPUBROKER_REFUSED_QUOTA, .n = 1 },
		{ "an end", .script = { WELCOME, EVENT, END }, .result = -EPROTO, .n = 1 },
		{ "a lease", .script = { WELCOME, LEASE }, .result = -EPROTO },
		{ "an event too small",
		  .script = { WELCOME, { .type = MESSAGE_EVENT, .more = -4, .value = 1 } },
		  .result = -EPROTO },
		{ "an event too large",
		  .script = { WELCOME, { .type = MESSAGE_EVENT, .more = 4, .value = 1 } },
		  .result = -EPROTO },
		{ "an event with a descriptor",
		  .script = { WELCOME, { .type = MESSAGE_EVENT, .n_fds = 1, .value = 1 } },
		  .result = -EPROTO },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct heard heard = { .enough = cases[i].enough, .good = true, .ended = true };
		size_t before = open_descriptors();
		struct gpubroker *handle;
		int r;

		handle = start_and_open(cases[i].script, cases[i].close_after);
		r = gpubroker_watch(handle, on_event, &heard);
		tap_ok(r == cases[i].result && heard.n == cases[i].n,
		       "who watches meets %s: %d (%d, %u told)", cases[i].name, cases[i].result, r,
		       heard.n);
		tap_ok(heard.good && heard.ended, "every event is whole, and every string ends");
		close_and_stop(handle, before);
	}
}

/* A program with a loop of its own: it polls, and is never kept. */
static void test_watch_in_a_loop(void)
{
	static const struct packet script[] = { WELCOME, EVENT, EVENT, { 0 } };
	struct heard heard = { .enough = 1, .good = true, .ended = true };
	size_t before = open_descriptors();
	struct gpubroker *handle = start_and_open(script, false);
	struct pollfd p = { .fd = gpubroker_fd(handle), .events = POLLIN };
	unsigned turns = 0, in_vain = 0;
	int r;

	tap_ok(gpubroker_watch_continue(handle, on_event, &heard) == -EAGAIN && !heard.n,
	       "watch_continue() without events: -EAGAIN at once");
	r = gpubroker_watch_start(handle);
	while ((!r || r == -EAGAIN || r == 42) && heard.n < 2 && turns++ < 1000) {
		if (poll(&p, 1, 60000) != 1)
			break;
		r = gpubroker_watch_continue(handle, on_event, &heard);
		in_vain += r == -EAGAIN;
	}
	tap_ok(heard.n == 2 && heard.good && heard.ended,
	       "poll() and watch_continue() hear each event (%u, %u turns)", heard.n, turns);
	tap_ok(gpubroker_watch_continue(handle, on_event, &heard) == -EAGAIN && heard.n == 2,
	       "... one that func has stopped at leaves the next for the next call, and then "
	       "-EAGAIN");
	tap_ok(!in_vain || turns > in_vain, "... and the descriptor is readable for a reason");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	need(poll(&p, 1, 60000) == 1);
	tap_ok(gpubroker_watch_continue(handle, on_event, &heard) == -ECONNRESET,
	       "a broker that is gone makes it readable, and watch_continue() says so");
	gpubroker_close(handle);
	tap_ok(open_descriptors() == before, "and no descriptor is left");
}

static void test_refused(void)
{
	static const struct packet script[] = {
		WELCOME, { .type = MESSAGE_REFUSAL, .value = GPUBROKER_REFUSED_BUSY }, { 0 }
	};
	static const struct packet endless[] = {
		WELCOME,
		{ .type = MESSAGE_REFUSAL, .value = GPUBROKER_REFUSED_POLICY, .endless = true },
		{ 0 }
	};
	struct gpubroker *handle = start_and_open(script, false);
	const struct gpubroker_refused *refused;

	tap_ok(!gpubroker_refused(handle), "nothing was refused: no facts");
	need(gpubroker_release(handle, 3) == GPUBROKER_REFUSED_BUSY);
	refused = gpubroker_refused(handle);
	tap_ok(refused && refused->number == GPUBROKER_REFUSED_BUSY &&
		       !strcmp(refused->name, "busy") &&
		       !strcmp(refused->device, "iommu-group:17") && !refused->other[0] &&
		       refused->iommu_group == 17 && !refused->lease,
	       "a refusal's facts are for programs");
	gpubroker_close(handle);
	stop();
	handle = start_and_open(endless, false);
	need(gpubroker_release(handle, 3) == GPUBROKER_REFUSED_POLICY);
	refused = gpubroker_refused(handle);
	tap_ok(refused && memchr(refused->device, 0, sizeof(refused->device)) &&
		       memchr(refused->profile, 0, sizeof(refused->profile)) &&
		       memchr(refused->rule, 0, sizeof(refused->rule)),
	       "... and each string of them ends, whatever the broker sends");
	gpubroker_close(handle);
	stop();
}

static void test_names(void)
{
	static const uint32_t none[] = { 0, 9, 255, INT32_MAX, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		tap_ok(!strcmp(gpubroker_status_name((enum gpubroker_status)none[i]), "unknown") &&
			       !strcmp(gpubroker_lease_state_name(
					       (enum gpubroker_lease_state)none[i]),
				       "unknown"),
		       "%u is no status and no state", (unsigned)none[i]);
	tap_ok(!strcmp(gpubroker_status_name(GPUBROKER_IN_USE), "in-use") &&
		       !strcmp(gpubroker_status_name(GPUBROKER_AVAILABLE), "available") &&
		       !strcmp(gpubroker_lease_state_name(GPUBROKER_LEASE_PREPARING),
			       "preparing") &&
		       !strcmp(gpubroker_lease_state_name(GPUBROKER_LEASE_STUCK), "stuck"),
	       "the first and the last have their names");
}

static void test_cdevs(void)
{
	static const struct {
		const char *name;
		bool asked;
		struct packet grant;
		int result;
		size_t cdevs;
	} cases[] = {
		{ "devices' own nodes", .asked = true,
		  .grant = { .type = MESSAGE_GRANT, .value = 2, .n_cdevs = 3, .n_fds = 6 },
		  .cdevs = 3 },
		{ "as many as there can be", .asked = true,
		  .grant = { .type = MESSAGE_GRANT,
			     .value = PROTOCOL_SELECTORS_MAX,
			     .n_cdevs = PROTOCOL_CDEVS_MAX,
			     .n_fds = PROTOCOL_SELECTORS_MAX + 1 + PROTOCOL_CDEVS_MAX },
		  .cdevs = PROTOCOL_CDEVS_MAX },
		{ "none where the kernel has none", .asked = true,
		  .grant = { .type = MESSAGE_GRANT, .value = 2, .n_fds = 2 } },
		{ "nodes that it did not ask for",
		  .grant = { .type = MESSAGE_GRANT, .value = 2, .n_cdevs = 3, .n_fds = 6 },
		  .result = -EPROTO },
		{ "nodes without /dev/iommu", .asked = true,
		  .grant = { .type = MESSAGE_GRANT, .value = 2, .n_cdevs = 3, .n_fds = 5 },
		  .result = -EPROTO },
		{ "/dev/iommu without nodes", .asked = true,
		  .grant = { .type = MESSAGE_GRANT, .value = 2, .n_fds = 3 }, .result = -EPROTO },
		{ "more nodes than there can be", .asked = true,
		  .grant = { .type = MESSAGE_GRANT,
			     .value = 1,
			     .n_cdevs = PROTOCOL_CDEVS_MAX + 1,
			     .n_fds = 3 + PROTOCOL_CDEVS_MAX },
		  .result = -EPROTO },
		{ "very many nodes", .asked = true,
		  .grant = { .type = MESSAGE_GRANT, .value = 1, .n_cdevs = UINT32_MAX, .n_fds = 1 },
		  .result = -EPROTO },
		{ "nodes of a group that is none of the grant's", .asked = true,
		  .grant = { .type = MESSAGE_GRANT, .value = 0, .n_cdevs = 1, .n_fds = 2 },
		  .result = -EPROTO },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct packet script[] = { WELCOME, cases[i].grant, { 0 } };
		size_t before = open_descriptors();
		struct gpubroker *handle = NULL;
		struct gpubroker_claim *claim;
		bool all = true;
		int r;

		claim = claim_of_any();
		gpubroker_claim_set_iommufd(claim, cases[i].asked);
		handle = start_and_open(script, false);
		r = gpubroker_claim_run(handle, claim, NULL, NULL);
		tap_ok(r == cases[i].result && gpubroker_claim_cdevs(claim) == cases[i].cdevs,
		       "a claim that is granted %s: %d, %zu", cases[i].name, r,
		       gpubroker_claim_cdevs(claim));
		for (size_t k = 0; k < cases[i].cdevs; k++) {
			const struct gpubroker_cdev *cdev = gpubroker_claim_cdev(claim, k);
			char node[48];

			snprintf(node, sizeof(node), "/dev/vfio/devices/vfio%zu", 300 + k);
			all = all &&
			      fcntl(gpubroker_claim_cdev_fd(claim, k), F_GETFD) == FD_CLOEXEC &&
			      !strcmp(cdev->node, node) && cdev->group == cases[i].grant.value - 1;
		}
		all = all && !gpubroker_claim_cdev(claim, cases[i].cdevs) &&
		      gpubroker_claim_cdev_fd(claim, cases[i].cdevs) == -1 &&
		      (fcntl(gpubroker_claim_iommufd(claim), F_GETFD) >= 0) == !!cases[i].cdevs;
		if (cases[i].cdevs && i) {
			gpubroker_claim_drop_cdevs(claim);
			all = all && gpubroker_claim_iommufd(claim) == -1 &&
			      fcntl(gpubroker_claim_fd(claim, 0), F_GETFD) >= 0;
		} else if (cases[i].cdevs) {
			gpubroker_claim_drop_groups(claim);
			all = all && gpubroker_claim_fd(claim, 0) == -1 &&
			      gpubroker_claim_groups(claim) == 2 &&
			      fcntl(gpubroker_claim_cdev_fd(claim, 0), F_GETFD) >= 0;
		}
		tap_ok(all, "... each told what it is, and one way can be closed");
		gpubroker_claim_free(claim);
		gpubroker_close(handle);
		tap_ok(open_descriptors() == before, "... and no descriptor is left");
		stop();
	}
}

int main(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t before;

	alarm(300);
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = on_hold }, NULL);
	spare = open("/dev/null", O_RDWR | O_CLOEXEC);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(socket_path, sizeof(socket_path), "%s/socket", scratch_make());
	strcpy(address.sun_path, socket_path);
	need(spare >= 0 && listener >= 0 &&
	     !bind(listener, (struct sockaddr *)&address, sizeof(address)) && !listen(listener, 8));
	before = open_descriptors();
	test_open();
	test_open_nobody();
	test_lists();
	test_queue();
	test_list_again();
	test_claims();
	test_cdevs();
	test_claim_again();
	test_request();
	test_ask();
	test_wait();
	test_ending();
	test_ending_requests();
	test_watch();
	test_watch_in_a_loop();
	test_refused();
	test_names();
	tap_ok(open_descriptors() == before, "in the end, no descriptor is left");
	return tap_done();
}
