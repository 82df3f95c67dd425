/* SPDX-License-Identifier: MIT */
/*
 * Answers of a daemon that lies, as the library reads them. An input is a request and its answers:
 * packets of right and wrong sizes, with and without descriptors. Whatever comes, every call
 * returns, every struct that a caller gets is whole, and no descriptor is left that the caller does
 * not own.
 *
 * About: client/library/connection.c client/library/listing.c client/library/claim.c
 * client/library/answer.c client/library/refusal.c client/wire/passfd.c
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/gpubroker.h"
#include "client/wire/passfd.h"
#include "client/wire/protocol.h"
#include "tests/fuzz/descriptors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/wire-answers.h"

const char fuzz_name[] = "library";

#define FDS_MAX (PASSFD_MAX + 2)
#define ANSWERS_MAX 64

/* An answer begins with its kind: a type, which is sent in its size, or RAW, a packet as it is. */
#define N_KINDS (sizeof(wire_answers) / sizeof(*wire_answers))
#define RAW N_KINDS

enum {
	ASK_LIST,
	ASK_LEASES,
	ASK_WATCH,
	ASK_RELEASE,
	ASK_REVOKE,
	ASK_RESTORE,
	ASK_CLAIM,
	ASK_QUEUE,
	ASK_POLICY,
	ASK_USAGE,
	ASK_COUNTERS,
	ASK_ALLOTMENTS,
	N_ASKS
};
#define ASK_UNGREETED 0x80 /* the input's first answer answers the hello */
#define ASK_TWICE 0x40

static struct input answers;
static bool greets;
static int devnull = -1;
static size_t descriptors; /* at the start of this input; the fuzzer has some of its own */
static size_t told;

/* ---- the daemon ---- */

static void answer(int fd)
{
	union {
		uint32_t type;
		char bytes[PROTOCOL_MESSAGE_MAX + 64];
	} packet;
	uint8_t kind = input_byte(&answers) % (N_KINDS + 1),
		n_fds = input_byte(&answers) % (FDS_MAX + 1);
	int fds[FDS_MAX];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(fds))];
	} control = { 0 };
	struct iovec iov = { .iov_base = &packet };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (kind == RAW) {
		iov.iov_len = answers.left >= 2 ? answers.p[0] | (size_t)answers.p[1] << 8 : 0;
		if (iov.iov_len > sizeof(packet))
			iov.iov_len = sizeof(packet);
	} else {
		iov.iov_len = wire_answers[kind].size;
	}
	input_struct(&answers, &packet, sizeof(packet));
	if (kind != RAW)
		packet.type = wire_answers[kind].type;
	for (size_t i = 0; i < n_fds; i++)
		fds[i] = devnull;
	if (n_fds) {
		struct cmsghdr *cmsg;

		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg = CMSG_FIRSTHDR(&message);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
	}
	sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Sends all answers before the library asks, and then closes the socket, so no call waits. */
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t size);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t size)
{
	const struct message_hello welcome = { .type = MESSAGE_WELCOME,
					       .version = PROTOCOL_VERSION };
	int ends[2];

	(void)address;
	(void)size;
	must(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
	must(dup3(ends[0], fd, O_CLOEXEC) == fd);
	close(ends[0]);
	if (greets)
		must(send(ends[1], &welcome, sizeof(welcome), MSG_NOSIGNAL) == sizeof(welcome));
	for (int i = 0; i < ANSWERS_MAX && answers.left; i++)
		answer(ends[1]);
	shutdown(ends[1], SHUT_WR);
	/* Nobody reads the library's requests; its end of the socket lives on alone. */
	close(ends[1]);
	return 0;
}

/* Waiting is not what is tested. */
int __wrap_nanosleep(const struct timespec *time, struct timespec *left);
int __wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
	(void)time;
	(void)left;
	return 0;
}

/* Hides this machine's accounts, so that the result is the same everywhere. */
int __wrap_getpwuid_r(uid_t uid, struct passwd *entry, char *space, size_t size,
		      struct passwd **ret);
int __wrap_getpwuid_r(uid_t uid, struct passwd *entry, char *space, size_t size,
		      struct passwd **ret)
{
	*ret = NULL;
	if (uid % 2)
		return 0;
	snprintf(space, size, "alice");
	entry->pw_name = space;
	*ret = entry;
	return 0;
}

/* ---- the caller ---- */

#define whole(text) (strnlen((text), sizeof(text)) < sizeof(text))

static int on_device(void *userdata, const struct gpubroker_device *d)
{
	(void)userdata;
	must(whole(d->address) && whole(d->driver) && whole(d->vendor_name) && whole(d->model));
	must(d->iommu_group >= -1 && d->iommu_group < (int64_t)UINT32_MAX);
	must(*gpubroker_status_name(d->status));
	told++;
	return (int)(d->vendor & 1);
}

static int on_lease(void *userdata, const struct gpubroker_lease *l)
{
	(void)userdata;
	must(l->n_devices <= PROTOCOL_FUNCTIONS_MAX && whole(l->reason) && whole(l->rule));
	for (size_t i = 0; i < l->n_devices; i++)
		must(whole(l->devices[i]) && l->devices[i][0]);
	must(*gpubroker_lease_state_name(l->state));
	told++;
	return 0;
}

static bool is_whole(const struct gpubroker_wanted *wanted)
{
	return whole(wanted->device) && whole(wanted->profile);
}

static int on_waiting(void *userdata, const struct gpubroker_waiting *w)
{
	(void)userdata;
	must(w->n_wanted <= PROTOCOL_SELECTORS_MAX);
	for (size_t i = 0; i < w->n_wanted; i++)
		must(is_whole(&w->wanted[i]));
	told++;
	return 0;
}

static int on_used(void *userdata, const struct gpubroker_used *u)
{
	(void)userdata;
	must(whole(u->device) && whole(u->profile));
	told++;
	return 0;
}

static int on_allotment(void *userdata, const struct gpubroker_allotment *a)
{
	(void)userdata;
	must(whole(a->label) && a->n_devices <= PROTOCOL_SELECTORS_MAX);
	for (size_t i = 0; i < a->n_devices; i++)
		must(whole(a->devices[i]) && a->devices[i][0]);
	told++;
	return 0;
}

static int on_event(void *userdata, const struct gpubroker_event *e)
{
	(void)userdata;
	must(whole(e->address) && whole(e->reason) && is_whole(&e->wanted));
	told++;
	return e->lost == 77 ? 5 : 0;
}

static void on_progress(void *userdata, const struct gpubroker_progress *p)
{
	(void)userdata;
	must(whole(p->address));
	told++;
}

static int claim(struct gpubroker *broker)
{
	struct gpubroker_claim *claim;
	size_t n;
	int r;

	must(!gpubroker_claim_new(&claim));
	must(!gpubroker_claim_add(claim, "01:00.0") && !gpubroker_claim_add(claim, "any"));
	r = gpubroker_claim_run(broker, claim, on_progress, NULL);
	n = gpubroker_claim_groups(claim);
	must(r ? n == 0 : n >= 1 && n <= PROTOCOL_SELECTORS_MAX);
	must(count_descriptors() == descriptors + 1 + n);
	for (size_t i = 0; i < n; i++) {
		must(fcntl(gpubroker_claim_fd(claim, i), F_GETFD) == FD_CLOEXEC);
		must(whole(gpubroker_claim_grant(claim, i)->address));
	}
	must(gpubroker_claim_fd(claim, n) == -1 && !gpubroker_claim_grant(claim, n));
	gpubroker_claim_free(claim);
	return r;
}

static int ask(struct gpubroker *broker, unsigned what)
{
	struct gpubroker_policy policy;
	struct gpubroker_counters counters;
	char address[20] = "";
	int r;

	switch (what) {
	case ASK_LIST:
		return gpubroker_list(broker, on_device, NULL);
	case ASK_LEASES:
		return gpubroker_leases(broker, on_lease, NULL);
	case ASK_WATCH:
		r = gpubroker_watch(broker, on_event, NULL);
		must(r);
		return r;
	case ASK_QUEUE:
		return gpubroker_queue(broker, on_waiting, NULL);
	case ASK_RELEASE:
		return gpubroker_release(broker, 3);
	case ASK_REVOKE:
		return gpubroker_revoke(broker, 3, 60);
	case ASK_RESTORE:
		r = gpubroker_restore(broker, "1:00.0", address);
		must(r == -EINVAL);
		r = gpubroker_restore(broker, "01:00.0", address);
		must(!r == !strcmp(address, "0000:01:00.0"));
		return r;
	case ASK_USAGE:
		return gpubroker_usage(broker, on_used, NULL);
	case ASK_ALLOTMENTS:
		return gpubroker_allotments(broker, on_allotment, NULL);
	case ASK_COUNTERS:
		return gpubroker_counters(broker, &counters);
	case ASK_POLICY:
		return gpubroker_policy_reload(broker, &policy);
	default:
		return claim(broker);
	}
}

/* Checks a result: 0, an errno, or a refusal with its sentence. */
static void check(struct gpubroker *broker, int r, bool returns_callbacks)
{
	const char *reason = gpubroker_reason(broker);

	must(r > -4096);
	must(strlen(reason) < 1024);
	if (r > 0 && !returns_callbacks)
		must(*reason);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	devnull = open("/dev/null", O_RDWR | O_CLOEXEC);
	must(devnull >= 0);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gpubroker *broker = NULL;
	uint8_t first;
	unsigned what;
	int r;

	descriptors = count_descriptors();
	answers = (struct input){ data, size };
	first = input_byte(&answers);
	what = (first & 0x3fU) % N_ASKS;
	greets = !(first & ASK_UNGREETED);
	told = 0;
	r = gpubroker_open("/nonexistent", &broker);
	must(r < 0 ? !broker : broker != NULL);
	if (!r) {
		r = ask(broker, what);
		check(broker, r, what <= ASK_WATCH);
		if (first & ASK_TWICE)
			check(broker, ask(broker, what), what <= ASK_WATCH);
	} else if (broker) {
		check(broker, r, false);
		must(*gpubroker_reason(broker));
		ask(broker, what);
	}
	must(told <= ANSWERS_MAX);
	gpubroker_close(broker);
	must(count_descriptors() == descriptors);
	return 0;
}

/* ---- seeds ---- */

static void add(struct seed *seed, unsigned kind, unsigned n_fds, const void *message, size_t size)
{
	seed_byte(seed, kind);
	seed_byte(seed, n_fds);
	seed_struct(seed, message, size);
}

static void add_plain(struct seed *seed, unsigned kind)
{
	add(seed, kind, 0, "", 0);
}

static void seed_lists(struct seed *seed, fuzz_write write)
{
	struct message_allotment allotment = { .uid = 1000, .n_devices = 2 };
	struct message_device device = {
		.vendor = 0x1234, .group = 7, .status = GPUBROKER_LEASED, .model = "A card"
	};
	struct message_lease lease = {
		.id = 3, .n_functions = 2, .state = GPUBROKER_LEASE_LEASED, .rule = "x:7"
	};
	struct message_event event = { .event = GPUBROKER_EVENT_STATE,
				       .lease = 3,
				       .state = GPUBROKER_LEASE_STUCK };
	struct message_waiting waiting = { .id = 7, .place = 1 };

	seed->n = 0;
	seed_byte(seed, ASK_LIST);
	add(seed, 1, 0, &device, sizeof(device));
	memset(device.model, 'x', sizeof(device.model));
	device.group = UINT32_MAX;
	add(seed, 1, 0, &device, sizeof(device));
	add_plain(seed, 3);
	write("list", seed->data, seed->n);
	seed->n = 0;
	seed_byte(seed, ASK_LEASES | ASK_TWICE);
	add(seed, 2, 0, &lease, sizeof(lease));
	add_plain(seed, 3);
	lease.n_functions = PROTOCOL_FUNCTIONS_MAX + 1;
	add(seed, 2, 0, &lease, sizeof(lease));
	write("leases", seed->data, seed->n);
	seed->n = 0;
	seed_byte(seed, ASK_WATCH);
	add(seed, 8, 0, &event, sizeof(event));
	event.lost = 77;
	add(seed, 8, 0, &event, sizeof(event));
	write("watch", seed->data, seed->n);
	seed->n = 0;
	seed_byte(seed, ASK_QUEUE);
	for (uint32_t kind = SELECT_ADDRESS; kind <= SELECT_ANY; kind++) {
		memset(&waiting.selectors[1], 'x', sizeof(waiting.selectors[1]));
		waiting.selectors[0].kind = waiting.selectors[1].kind = kind;
		waiting.n_selectors = kind == SELECT_ANY ? PROTOCOL_SELECTORS_MAX + 1 : 2;
		add(seed, 9, 0, &waiting, sizeof(waiting));
	}
	write("queue", seed->data, seed->n);
	seed->n = 0;
	seed_byte(seed, ASK_WATCH);
	event = (struct message_event){ .event = GPUBROKER_EVENT_WAITING, .n_selectors = 2 };
	event.first.kind = SELECT_NAME;
	memset(event.first.name, 'x', sizeof(event.first.name));
	add(seed, 8, 0, &event, sizeof(event));
	write("watch-queue", seed->data, seed->n);
	seed->n = 0;
	seed_byte(seed, ASK_ALLOTMENTS);
	memset(allotment.label, 'x', sizeof(allotment.label)); /* without an end */
	add(seed, N_KINDS - 1, 0, &allotment, sizeof(allotment));
	add_plain(seed, 3);
	write("allotments", seed->data, seed->n);
	allotment.n_devices = PROTOCOL_SELECTORS_MAX + 1;
	seed->n = 0;
	seed_byte(seed, ASK_ALLOTMENTS);
	add(seed, N_KINDS - 1, 0, &allotment, sizeof(allotment));
	write("allotments-many", seed->data, seed->n);
}

void fuzz_seeds(fuzz_write write)
{
	static const uint32_t reasons[] = {
#define NUMBER_OF(reason, number, word, status) number,
		GPUBROKER_REFUSALS(NUMBER_OF)
#undef NUMBER_OF
	};
	static struct seed seed;
	struct message_step step = { .step = GPUBROKER_STEP_BIND, .index = 1, .total = 2 };
	struct message_queued queued = { .place = 2, .lease = 3, .holder_uid = 1000 };
	struct message_grant grant = { .n_groups = 2, .memlock = 1 << 30 };
	struct message_refusal refusal = { .reason = GPUBROKER_REFUSED_POLICY,
					   .has_address = 1,
					   .group = 7 };

	seed_lists(&seed, write);
	seed.n = 0;
	seed_byte(&seed, ASK_CLAIM);
	add(&seed, 7, 0, &queued, sizeof(queued));
	add(&seed, 4, 0, &step, sizeof(step));
	add(&seed, 5, 2, &grant, sizeof(grant));
	write("claim", seed.data, seed.n);
	seed.n = 0;
	seed_byte(&seed, ASK_CLAIM);
	add(&seed, 4, 3, &step, sizeof(step)); /* descriptors do not belong there */
	add(&seed, 5, 18, &grant, sizeof(grant));
	write("too-many", seed.data, seed.n);
	seed.n = 0;
	seed_byte(&seed, ASK_CLAIM | ASK_TWICE);
	add(&seed, 5, 1, &grant, sizeof(grant)); /* two groups, one descriptor */
	add(&seed, RAW, 2, &grant, 100);
	write("short", seed.data, seed.n);
	for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++) {
		const uint32_t reason = reasons[i];
		char name[20];

		seed.n = 0;
		seed_byte(&seed, reason % 2 ? ASK_CLAIM : ASK_RESTORE);
		refusal.reason = reason;
		snprintf(refusal.text, sizeof(refusal.text), "%s", reason % 3 ? "bind" : "");
		refusal.detail = reason % REFUSAL_N_DETAILS;
		snprintf(refusal.rule, sizeof(refusal.rule), "%s",
			 reason % 2 ? "/etc/x.policy:7" : "");
		snprintf(refusal.name, sizeof(refusal.name), "%s", reason % 4 ? "card" : "");
		refusal.has_other = reason % 3 == 0;
		refusal.error = reason % 2 ? 16 : 0;
		refusal.since = 1790000000;
		add(&seed, 6, 0, &refusal, sizeof(refusal));
		snprintf(name, sizeof(name), "refusal-%u", (unsigned)reason);
		write(name, seed.data, seed.n);
	}
	seed.n = 0;
	seed_byte(&seed, ASK_LIST | ASK_UNGREETED);
	refusal.reason = GPUBROKER_REFUSED_VERSION;
	add(&seed, 6, 0, &refusal, sizeof(refusal));
	write("not-greeted", seed.data, seed.n);
	seed.n = 0;
	seed_byte(&seed, ASK_RELEASE);
	add_plain(&seed, 3);
	write("release", seed.data, seed.n);
	seed.n = 0;
	seed_byte(&seed, ASK_REVOKE);
	write("gone", seed.data, seed.n);
}
