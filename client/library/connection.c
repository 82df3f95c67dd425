/* SPDX-License-Identifier: MIT */
/*
 * libgpubroker: one connection to the broker and what can be asked over it.
 *
 * Owns the socket and what a claim was granted. It never logs, never exits, and closes every
 * descriptor that it does not hand over. It trusts the daemon no further than it must: sizes and
 * counts of answers are checked as the daemon checks requests.
 */
#include "config.h"

#include "client/gpubroker.h"
#include "client/library/migration.h"
#include "client/common/name.h"
#include "client/wire/passfd.h"
#include "client/wire/protocol.h"
#include "client/library/refusal.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct gpubroker {
	int fd;
	char reason[1024];
};

struct gpubroker_claim {
	struct message_claim request;
	struct gpubroker_grant grants[PROTOCOL_SELECTORS_MAX];
	int fds[PROTOCOL_SELECTORS_MAX];
	size_t n_groups;
	int iommufd; /* only where there are cdevs */
	struct gpubroker_cdev cdevs[PROTOCOL_CDEVS_MAX];
	int cdev_fds[PROTOCOL_CDEVS_MAX];
	size_t n_cdevs;
	uint64_t memlock;
};

_Static_assert(PASSFD_MAX >= PROTOCOL_SELECTORS_MAX + 1 + PROTOCOL_CDEVS_MAX,
	       "a grant's descriptors are too many for a packet");
_Static_assert(sizeof(struct message_grant) <= PROTOCOL_MESSAGE_MAX, "a grant is too large");

/* Every answer, so that a receive buffer fits any. */
union answer {
	uint32_t type;
	struct message_hello welcome;
	struct message_plain end;
	struct message_device device;
	struct message_lease lease;
	struct message_step step;
	struct message_grant grant;
	struct message_refusal refusal;
	struct message_queued queued;
	struct message_event event;
};

static size_t answer_size(uint32_t type)
{
	switch (type) {
	case MESSAGE_WELCOME:
		return sizeof(struct message_hello);
	case MESSAGE_DEVICE:
		return sizeof(struct message_device);
	case MESSAGE_LEASE:
		return sizeof(struct message_lease);
	case MESSAGE_END:
		return sizeof(struct message_plain);
	case MESSAGE_STEP:
		return sizeof(struct message_step);
	case MESSAGE_GRANT:
		return sizeof(struct message_grant);
	case MESSAGE_REFUSAL:
		return sizeof(struct message_refusal);
	case MESSAGE_QUEUED:
		return sizeof(struct message_queued);
	case MESSAGE_EVENT:
		return sizeof(struct message_event);
	default:
		return 0;
	}
}

static void user_name(uint32_t uid, char *out, size_t size)
{
	struct passwd entry, *found = NULL;
	char space[4096];

	if (!getpwuid_r((uid_t)uid, &entry, space, sizeof(space), &found) && found)
		snprintf(out, size, "%s", found->pw_name);
}

/* Keeps the sentence and returns the reason as a positive number. */
static int refused(struct gpubroker *handle, const struct message_refusal *refusal)
{
	static const struct refusal_names names = { .user = user_name };

	refusal_format(refusal, &names, handle->reason, sizeof(handle->reason));
	return refusal->reason && refusal->reason < INT32_MAX ? (int)refusal->reason : -EPROTO;
}

/*
 * One answer, of exact size, or -errno (-EAGAIN: none yet). Descriptors only where the caller has
 * room.
 */
static int receive(struct gpubroker *handle, union answer *answer, int *fds, size_t max_fds,
		   size_t *ret_n_fds)
{
	size_t n_fds = 0;
	ssize_t n = passfd_receive(handle->fd, answer, sizeof(*answer), fds, max_fds, &n_fds);

	/* A broker that went with a packet of ours unread; what it had said is still there. */
	if (n == -ECONNRESET)
		n = passfd_receive(handle->fd, answer, sizeof(*answer), fds, max_fds, &n_fds);
	if (n == -EBADMSG)
		return -EPROTO;
	if (n < 0)
		return (int)n;
	if (!n)
		return -ECONNRESET;
	if ((size_t)n < sizeof(uint32_t) || (size_t)n != answer_size(answer->type)) {
		while (n_fds)
			fd_close(fds[--n_fds]);
		return -EPROTO;
	}
	*ret_n_fds = n_fds;
	return 0;
}

static int wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	while (poll(&p, 1, -1) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int receive_wait(struct gpubroker *handle, union answer *answer)
{
	size_t n_fds;
	int r;

	while ((r = receive(handle, answer, NULL, 0, &n_fds)) == -EAGAIN) {
		r = wait_for(handle->fd, POLLIN);
		if (r)
			return r;
	}
	return r;
}

static int send_request(struct gpubroker *handle, const void *request, size_t size)
{
	int r = passfd_send(handle->fd, request, size, NULL, 0);

	/*
	 * A broker that has dropped us may have said why before it did: that answer is still there.
	 */
	return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

int gpubroker_open(const char *socket_path, struct gpubroker **ret_handle)
{
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct gpubroker *handle;
	union answer answer;
	int r;

	if (!socket_path)
		socket_path = PROTOCOL_SOCKET;
	if (strlen(socket_path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, socket_path);

	handle = calloc(1, sizeof(*handle));
	if (!handle)
		return -ENOMEM;
	handle->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (handle->fd < 0 || connect(handle->fd, (struct sockaddr *)&address, sizeof(address))) {
		r = -errno;
		goto fail;
	}
	r = send_request(handle, &hello, sizeof(hello));
	if (!r)
		r = receive_wait(handle, &answer);
	if (!r && answer.type == MESSAGE_REFUSAL) {
		/*
		 * The handle lives on for its reason; whatever is asked of it meets a closed
		 * connection.
		 */
		r = refused(handle, &answer.refusal);
		if (r > 0)
			*ret_handle = TAKE_PTR(handle);
	} else if (!r &&
		   (answer.type != MESSAGE_WELCOME || answer.welcome.version != PROTOCOL_VERSION)) {
		r = -EPROTO;
	}
	if (!r) {
		*ret_handle = handle;
		return 0;
	}
fail:
	gpubroker_close(handle);
	return r;
}

struct gpubroker *gpubroker_close(struct gpubroker *handle)
{
	if (handle) {
		fd_close(handle->fd);
		free(handle);
	}
	return NULL;
}

int gpubroker_fd(const struct gpubroker *handle)
{
	return handle->fd;
}

const char *gpubroker_reason(const struct gpubroker *handle)
{
	return handle->reason;
}

const char *gpubroker_status_name(enum gpubroker_status status)
{
	static const char *const names[] = {
		[GPUBROKER_AVAILABLE] = "available",   [GPUBROKER_VFIO_READY] = "vfio-ready",
		[GPUBROKER_BOOT_VGA] = "boot-vga",     [GPUBROKER_LEASED] = "leased",
		[GPUBROKER_RELEASING] = "releasing",   [GPUBROKER_STUCK] = "stuck",
		[GPUBROKER_NOT_VIABLE] = "not-viable",
	};

	return (size_t)status < ARRAY_SIZE(names) && names[status] ? names[status] : "unknown";
}

const char *gpubroker_lease_state_name(enum gpubroker_lease_state state)
{
	static const char *const names[] = {
		[GPUBROKER_LEASE_PREPARING] = "preparing",
		[GPUBROKER_LEASE_READY] = "ready",
		[GPUBROKER_LEASE_LEASED] = "leased",
		[GPUBROKER_LEASE_RELEASING] = "releasing",
		[GPUBROKER_LEASE_RESTORING] = "restoring",
		[GPUBROKER_LEASE_STUCK] = "stuck",
		[GPUBROKER_LEASE_HOST] = "host",
	};

	return (size_t)state < ARRAY_SIZE(names) && names[state] ? names[state] : "unknown";
}

/* ---- what there is ---- */

/* The wire's strings may lack their NUL; the public ones never do. */
#define COPY_TEXT(to, from)                                                                        \
	do {                                                                                       \
		_Static_assert(sizeof(to) == sizeof(from), "wire and public text differ");         \
		memcpy(to, from, sizeof(to));                                                      \
		(to)[sizeof(to) - 1] = '\0';                                                       \
	} while (0)

/* Of an mdev whose parent is no PCI function there is no address. */
static void format_address(const struct pci_address *address, const char *parent, char out[20])
{
	struct pci_address own;

	if (*parent && (pci_address_parse(parent, &own) || pci_address_compare(&own, address)))
		out[0] = '\0';
	else
		pci_address_format(address, out);
}

static int tell_device(const struct message_device *m, gpubroker_device_func func, void *userdata)
{
	struct gpubroker_device device = {
		.vendor = m->vendor,
		.device = m->device,
		.subsystem_vendor = m->subsystem_vendor,
		.subsystem_device = m->subsystem_device,
		.class_code = m->class_code,
		.iommu_group = m->group == UINT32_MAX ? -1 : (int64_t)m->group,
		.status = (enum gpubroker_status)m->status,
		.allowed = m->allowed,
		.lease = m->lease,
		.holder_uid = m->holder_uid,
		.vfs_total = m->vfs_total,
		.vfs = m->vfs,
	};

	pci_address_format(&m->address, device.address);
	if (m->is_vf)
		pci_address_format(&m->physfn, device.physfn);
	COPY_TEXT(device.driver, m->driver);
	COPY_TEXT(device.vendor_name, m->vendor_name);
	COPY_TEXT(device.model, m->model);
	return func(userdata, &device);
}

static int tell_lease(const struct message_lease *m, gpubroker_lease_func func, void *userdata)
{
	char addresses[PROTOCOL_FUNCTIONS_MAX][PCI_ADDRESS_TEXT];
	struct gpubroker_lease lease = {
		.id = m->id,
		.iommu_group = m->group,
		.uid = m->uid,
		.pid = m->pid,
		.since = m->since,
		.state = (enum gpubroker_lease_state)m->state,
		.n_devices = m->n_functions,
		.devices = addresses,
	};

	if (m->n_functions > PROTOCOL_FUNCTIONS_MAX)
		return -EPROTO;
	for (size_t i = 0; i < m->n_functions; i++)
		pci_address_format(&m->functions[i], addresses[i]);
	lease.allowed = m->allowed;
	lease.expires = m->expires;
	lease.stuck_since = m->stuck_since;
	COPY_TEXT(lease.reason, m->reason);
	COPY_TEXT(lease.rule, m->rule);
	COPY_TEXT(lease.parent, m->mdev.parent);
	COPY_TEXT(lease.profile, m->mdev.profile);
	COPY_TEXT(lease.uuid, m->mdev.uuid);
	lease.migration = (enum gpubroker_migration)m->migration;
	return func(userdata, &lease);
}

static int list(struct gpubroker *handle, enum message_type request_type,
		gpubroker_device_func on_device, gpubroker_lease_func on_lease, void *userdata)
{
	const struct message_plain request = { .type = request_type };
	int r = send_request(handle, &request, sizeof(request)), result = 0;
	union answer answer;

	while (!r) {
		r = receive_wait(handle, &answer);
		if (r)
			return r;
		if (answer.type == MESSAGE_REFUSAL)
			return refused(handle, &answer.refusal);
		if (answer.type == MESSAGE_END)
			return result;
		if (answer.type == MESSAGE_DEVICE && on_device)
			result = result ? result : tell_device(&answer.device, on_device, userdata);
		else if (answer.type == MESSAGE_LEASE && on_lease)
			result = result ? result : tell_lease(&answer.lease, on_lease, userdata);
		else
			return -EPROTO;
	}
	return r;
}

int gpubroker_list(struct gpubroker *handle, gpubroker_device_func func, void *userdata)
{
	return list(handle, MESSAGE_LIST, func, NULL, userdata);
}

int gpubroker_leases(struct gpubroker *handle, gpubroker_lease_func func, void *userdata)
{
	return list(handle, MESSAGE_LEASES, NULL, func, userdata);
}

static int tell_event(const struct message_event *m, gpubroker_event_func func, void *userdata)
{
	struct gpubroker_event event = {
		.kind = (enum gpubroker_event_kind)m->event,
		.time = m->time,
		.lease = m->lease,
		.state = (enum gpubroker_lease_state)m->state,
		.uid = m->uid,
		.pid = m->pid,
		.iommu_group = m->group,
		.ends = m->ends,
		.lost = m->lost,
	};

	COPY_TEXT(event.parent, m->parent);
	format_address(&m->address, event.parent, event.address);
	COPY_TEXT(event.reason, m->reason);
	return func(userdata, &event);
}

int gpubroker_watch(struct gpubroker *handle, gpubroker_event_func func, void *userdata)
{
	const struct message_plain request = { .type = MESSAGE_WATCH };
	int r = send_request(handle, &request, sizeof(request));
	union answer answer;

	while (!r) {
		r = receive_wait(handle, &answer);
		if (r)
			return r;
		if (answer.type == MESSAGE_REFUSAL)
			return refused(handle, &answer.refusal);
		if (answer.type != MESSAGE_EVENT)
			return -EPROTO;
		r = tell_event(&answer.event, func, userdata);
	}
	return r;
}

/* ---- ending leases ---- */

static int ask(struct gpubroker *handle, const void *request, size_t size)
{
	union answer answer;
	int r = send_request(handle, request, size);

	if (!r)
		r = receive_wait(handle, &answer);
	if (r)
		return r;
	if (answer.type == MESSAGE_REFUSAL)
		return refused(handle, &answer.refusal);
	return answer.type == MESSAGE_END ? 0 : -EPROTO;
}

int gpubroker_release(struct gpubroker *handle, uint64_t lease)
{
	const struct message_release request = { .type = MESSAGE_RELEASE, .lease = lease };

	return ask(handle, &request, sizeof(request));
}

int gpubroker_revoke(struct gpubroker *handle, uint64_t lease, uint64_t after)
{
	const struct message_release request = {
		.type = MESSAGE_RELEASE,
		.flags = RELEASE_REVOKE,
		.lease = lease,
		.after = after,
	};

	if (after > INT32_MAX)
		return -EINVAL;
	return ask(handle, &request, sizeof(request));
}

int gpubroker_restore(struct gpubroker *handle, const char *device, char ret_address[20])
{
	struct message_restore request = { .type = MESSAGE_RESTORE };
	int r;

	if (pci_address_parse(device, &request.address))
		return -EINVAL;
	r = ask(handle, &request, sizeof(request));
	if (!r)
		pci_address_format(&request.address, ret_address);
	return r;
}

int gpubroker_vfs(struct gpubroker *handle, const char *device, uint32_t vfs, char ret_address[20])
{
	struct message_vfs request = { .type = MESSAGE_VFS, .vfs = vfs };
	int r;

	if (pci_address_parse(device, &request.address) || vfs > UINT16_MAX)
		return -EINVAL;
	r = ask(handle, &request, sizeof(request));
	if (!r)
		pci_address_format(&request.address, ret_address);
	return r;
}

/* ---- claiming ---- */

int gpubroker_claim_new(struct gpubroker_claim **ret_claim)
{
	struct gpubroker_claim *claim = calloc(1, sizeof(*claim));

	if (!claim)
		return -ENOMEM;
	claim->request.type = MESSAGE_CLAIM;
	*ret_claim = claim;
	return 0;
}

void gpubroker_claim_drop_groups(struct gpubroker_claim *claim)
{
	for (size_t i = 0; i < claim->n_groups; i++)
		claim->fds[i] = fd_close(claim->fds[i]);
}

void gpubroker_claim_drop_cdevs(struct gpubroker_claim *claim)
{
	if (!claim->n_cdevs)
		return;
	claim->iommufd = fd_close(claim->iommufd);
	while (claim->n_cdevs)
		fd_close(claim->cdev_fds[--claim->n_cdevs]);
}

static void drop_grants(struct gpubroker_claim *claim)
{
	gpubroker_claim_drop_cdevs(claim);
	gpubroker_claim_drop_groups(claim);
	claim->n_groups = 0;
}

struct gpubroker_claim *gpubroker_claim_free(struct gpubroker_claim *claim)
{
	if (claim) {
		drop_grants(claim);
		free(claim);
	}
	return NULL;
}

/* A policy's device name, see gpubroker.policy(5). */
static bool is_name(const char *text)
{
	size_t n =
		strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");

	return n && !text[n] && n < PROTOCOL_NAME_MAX && !strchr("0123456789_-.", text[0]);
}

static bool parse_group(const char *text, uint32_t *ret_group)
{
	unsigned long value;
	char *end;

	if (strspn(text, "0123456789") != strlen(text) || !*text)
		return false;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || value >= UINT32_MAX)
		return false;
	*ret_group = (uint32_t)value;
	return true;
}

int gpubroker_claim_add(struct gpubroker_claim *claim, const char *device)
{
	return gpubroker_claim_add_profile(claim, device, NULL);
}

int gpubroker_claim_add_of(struct gpubroker_claim *claim, const char *name, const char *address,
			   const char *profile)
{
	struct pci_address parsed;
	int r;

	if (!is_name(name) || pci_address_parse(address, &parsed))
		return -EINVAL;
	r = gpubroker_claim_add_profile(claim, address, profile);
	if (!r)
		strcpy(claim->request.selectors[claim->request.n_selectors - 1].name, name);
	return r;
}

int gpubroker_claim_add_profile(struct gpubroker_claim *claim, const char *device,
				const char *profile)
{
	struct selector selector = { 0 };

	if (claim->request.n_selectors == PROTOCOL_SELECTORS_MAX)
		return -E2BIG;
	if (profile && !mdev_is_name(profile, PROTOCOL_PROFILE_MAX))
		return -EDOM;
	if (profile)
		strcpy(selector.profile, profile);
	if (!strncmp(device, "iommu-group:", 12)) {
		if (profile || !parse_group(device + 12, &selector.group))
			return -EINVAL;
		selector.kind = SELECT_GROUP;
	} else if (!strcmp(device, "any")) {
		selector.kind = SELECT_ANY;
	} else if (!pci_address_parse(device, &selector.address)) {
		selector.kind = SELECT_ADDRESS;
	} else if (is_name(device)) {
		selector.kind = SELECT_NAME;
		strcpy(selector.name, device);
	} else {
		return -EINVAL;
	}
	claim->request.selectors[claim->request.n_selectors++] = selector;
	return 0;
}

void gpubroker_claim_set_force(struct gpubroker_claim *claim, bool force)
{
	claim->request.flags &= ~(uint32_t)CLAIM_FORCE;
	claim->request.flags |= force ? CLAIM_FORCE : 0;
}

void gpubroker_claim_set_wait(struct gpubroker_claim *claim, bool wait)
{
	claim->request.flags &= ~(uint32_t)CLAIM_WAIT;
	claim->request.flags |= wait ? CLAIM_WAIT : 0;
}

void gpubroker_claim_set_iommufd(struct gpubroker_claim *claim, bool iommufd)
{
	claim->request.flags &= ~(uint32_t)CLAIM_CDEVS;
	claim->request.flags |= iommufd ? CLAIM_CDEVS : 0;
}

void gpubroker_claim_set_memlock(struct gpubroker_claim *claim, uint64_t bytes)
{
	claim->request.memlock = bytes;
}

int gpubroker_claim_ask(struct gpubroker *handle, const struct gpubroker_claim *claim)
{
	struct message_claim request = claim->request;

	if (!request.n_selectors)
		return -EINVAL;
	request.flags |= CLAIM_ASK;
	return ask(handle, &request, sizeof(request));
}

int gpubroker_claim_start(struct gpubroker *handle, const struct gpubroker_claim *claim)
{
	if (!claim->request.n_selectors)
		return -EINVAL;
	return send_request(handle, &claim->request, sizeof(claim->request));
}

/* Is it what was asked for, and are its descriptors as many as it says? */
static bool valid_grant(const struct gpubroker_claim *claim, const struct message_grant *m,
			size_t n_fds)
{
	if (!m->n_groups || m->n_groups > PROTOCOL_SELECTORS_MAX ||
	    m->n_cdevs > PROTOCOL_CDEVS_MAX ||
	    (m->n_cdevs && !(claim->request.flags & CLAIM_CDEVS)) ||
	    n_fds != m->n_groups + (m->n_cdevs ? 1 + m->n_cdevs : 0))
		return false;
	for (size_t i = 0; i < m->n_cdevs; i++)
		if (m->cdevs[i].group >= m->n_groups)
			return false;
	return true;
}

static void granted_cdevs(struct gpubroker_claim *claim, const struct message_grant *m,
			  const int *fds)
{
	claim->iommufd = fds[0];
	for (size_t i = 0; i < m->n_cdevs; i++) {
		struct gpubroker_cdev *cdev = &claim->cdevs[i];

		*cdev = (struct gpubroker_cdev){ .group = m->cdevs[i].group };
		if (!claim->grants[cdev->group].uuid[0])
			pci_address_format(&m->cdevs[i].address, cdev->address);
		snprintf(cdev->node, sizeof(cdev->node), "/dev/vfio/devices/vfio%" PRIu32,
			 m->cdevs[i].number);
		claim->cdev_fds[i] = fds[1 + i];
	}
	claim->n_cdevs = m->n_cdevs;
}

static int granted(struct gpubroker_claim *claim, const struct message_grant *m, const int *fds)
{
	drop_grants(claim);
	for (size_t i = 0; i < m->n_groups; i++) {
		claim->grants[i] = (struct gpubroker_grant){
			.lease = m->groups[i].lease,
			.iommu_group = m->groups[i].group,
		};
		COPY_TEXT(claim->grants[i].parent, m->groups[i].parent);
		COPY_TEXT(claim->grants[i].uuid, m->groups[i].uuid);
		format_address(&m->groups[i].address, claim->grants[i].parent,
			       claim->grants[i].address);
		claim->fds[i] = fds[i];
	}
	claim->n_groups = m->n_groups;
	if (m->n_cdevs)
		granted_cdevs(claim, m, fds + m->n_groups);
	claim->memlock = m->memlock;
	return 0;
}

static void tell_step(const struct message_step *m, gpubroker_progress_func func, void *userdata)
{
	struct gpubroker_progress progress = {
		.step = (enum gpubroker_step)m->step,
		.iommu_group = m->group,
		.index = m->index,
		.total = m->total,
	};

	COPY_TEXT(progress.parent, m->parent);
	format_address(&m->address, progress.parent, progress.address);
	if (func)
		func(userdata, &progress);
}

static void tell_place(const struct message_queued *m, gpubroker_progress_func func, void *userdata)
{
	struct gpubroker_progress progress = {
		.step = GPUBROKER_STEP_WAIT,
		.index = m->place,
		.lease = m->lease,
		.holder_uid = m->holder_uid,
		.holder_pid = m->holder_pid,
		.ends = m->ends,
	};

	COPY_TEXT(progress.parent, m->parent);
	format_address(&m->address, progress.parent, progress.address);
	if (func)
		func(userdata, &progress);
}

int gpubroker_claim_continue(struct gpubroker *handle, struct gpubroker_claim *claim,
			     gpubroker_progress_func progress, void *userdata)
{
	union answer answer;
	int fds[PASSFD_MAX], r;
	size_t n_fds;

	while (!(r = receive(handle, &answer, fds, ARRAY_SIZE(fds), &n_fds))) {
		if (answer.type == MESSAGE_GRANT && valid_grant(claim, &answer.grant, n_fds))
			return granted(claim, &answer.grant, fds);
		while (n_fds)
			fd_close(fds[--n_fds]);
		if (answer.type == MESSAGE_REFUSAL)
			return refused(handle, &answer.refusal);
		if (answer.type == MESSAGE_QUEUED)
			tell_place(&answer.queued, progress, userdata);
		else if (answer.type == MESSAGE_STEP)
			tell_step(&answer.step, progress, userdata);
		else
			return -EPROTO;
	}
	return r;
}

int gpubroker_claim_run(struct gpubroker *handle, struct gpubroker_claim *claim,
			gpubroker_progress_func progress, void *userdata)
{
	int r = gpubroker_claim_start(handle, claim);

	while (!r) {
		r = gpubroker_claim_continue(handle, claim, progress, userdata);
		if (r != -EAGAIN)
			return r;
		r = wait_for(handle->fd, POLLIN);
	}
	return r;
}

size_t gpubroker_claim_groups(const struct gpubroker_claim *claim)
{
	return claim->n_groups;
}

const struct gpubroker_grant *gpubroker_claim_grant(const struct gpubroker_claim *claim, size_t i)
{
	return i < claim->n_groups ? &claim->grants[i] : NULL;
}

int gpubroker_claim_fd(const struct gpubroker_claim *claim, size_t i)
{
	return i < claim->n_groups ? claim->fds[i] : -1;
}

size_t gpubroker_claim_cdevs(const struct gpubroker_claim *claim)
{
	return claim->n_cdevs;
}

const struct gpubroker_cdev *gpubroker_claim_cdev(const struct gpubroker_claim *claim, size_t i)
{
	return i < claim->n_cdevs ? &claim->cdevs[i] : NULL;
}

int gpubroker_claim_cdev_fd(const struct gpubroker_claim *claim, size_t i)
{
	return i < claim->n_cdevs ? claim->cdev_fds[i] : -1;
}

int gpubroker_claim_iommufd(const struct gpubroker_claim *claim)
{
	return claim->n_cdevs ? claim->iommufd : -1;
}

uint64_t gpubroker_claim_memlock(const struct gpubroker_claim *claim)
{
	return claim->memlock;
}

int gpubroker_claim_migration(struct gpubroker *handle, const struct gpubroker_claim *claim,
			      size_t i, enum gpubroker_migration *ret_migration)
{
	const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, i);
	struct message_migration request = { .type = MESSAGE_MIGRATION };
	int r;

	if (!grant)
		return -EINVAL;
	request.lease = grant->lease;
	r = migration_probe(gpubroker_claim_fd(claim, i),
			    grant->uuid[0] ? grant->uuid : grant->address);
	if (r < 0)
		return r;
	*ret_migration = r ? GPUBROKER_MIGRATION_YES : GPUBROKER_MIGRATION_NO;
	request.migration = *ret_migration;
	return ask(handle, &request, sizeof(request));
}
