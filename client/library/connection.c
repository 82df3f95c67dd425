/* SPDX-License-Identifier: MIT */
/*
 * The connection of libgpubroker: owns its socket, sends requests and receives answers, and makes
 * the requests that one message answers. It never logs, never exits, and closes every descriptor
 * that it does not hand over. It trusts the daemon no further than it must: sizes and counts of
 * answers are checked as the daemon checks requests.
 */
#include "config.h"

#include "client/library/connection.h"
#include "client/library/refusal.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <string.h>

static void user_name(uint32_t uid, char *out, size_t size)
{
	struct passwd entry, *found = NULL;
	char space[4096];

	if (!getpwuid_r((uid_t)uid, &entry, space, sizeof(space), &found) && found)
		snprintf(out, size, "%s", found->pw_name);
}

int connection_refused(struct gpubroker *handle, const struct message_refusal *refusal)
{
	static const struct refusal_names names = { .user = user_name };

	refusal_format(refusal, &names, handle->reason, sizeof(handle->reason));
	refusal_facts(refusal, &handle->refused);
	return refusal->reason && refusal->reason < INT32_MAX ? (int)refusal->reason : -EPROTO;
}

int connection_receive(struct gpubroker *handle, union answer *answer, int *fds, size_t max_fds,
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

int connection_wait(const struct gpubroker *handle)
{
	struct pollfd p = { .fd = handle->fd, .events = POLLIN };

	while (poll(&p, 1, -1) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int connection_receive_wait(struct gpubroker *handle, union answer *answer)
{
	size_t n_fds;
	int r;

	while ((r = connection_receive(handle, answer, NULL, 0, &n_fds)) == -EAGAIN) {
		r = connection_wait(handle);
		if (r)
			return r;
	}
	return r;
}

int connection_send(struct gpubroker *handle, const void *request, size_t size)
{
	int r = passfd_send(handle->fd, request, size, NULL, 0);

	/*
	 * A broker that has dropped us may have said why before it did: that answer is still there.
	 */
	return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

int connection_ask(struct gpubroker *handle, const void *request, size_t size)
{
	union answer answer;
	int r = connection_send(handle, request, size);

	if (!r)
		r = connection_receive_wait(handle, &answer);
	if (r)
		return r;
	if (answer.type == MESSAGE_REFUSAL)
		return connection_refused(handle, &answer.refusal);
	return answer.type == MESSAGE_END ? 0 : -EPROTO;
}

/* Connects to the broker, and agrees with it about the version. 0, a refusal, or -errno. */
static int connect_and_greet(struct gpubroker *handle)
{
	const struct message_hello hello = { .type = MESSAGE_HELLO, .version = PROTOCOL_VERSION };
	union answer answer;
	int r;

	handle->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (handle->fd < 0 ||
	    connect(handle->fd, (const struct sockaddr *)&handle->address, sizeof(handle->address)))
		return -errno;
	r = connection_send(handle, &hello, sizeof(hello));
	if (!r)
		r = connection_receive_wait(handle, &answer);
	if (r)
		return r;
	if (answer.type == MESSAGE_REFUSAL)
		return connection_refused(handle, &answer.refusal);
	return answer.type == MESSAGE_WELCOME && answer.welcome.version == PROTOCOL_VERSION
		       ? 0
		       : -EPROTO;
}

int gpubroker_open(const char *socket_path, struct gpubroker **ret_handle)
{
	struct gpubroker *handle;
	int r;

	if (!socket_path)
		socket_path = PROTOCOL_SOCKET;
	if (strlen(socket_path) >= sizeof(handle->address.sun_path))
		return -ENAMETOOLONG;
	handle = calloc(1, sizeof(*handle));
	if (!handle)
		return -ENOMEM;
	handle->address.sun_family = AF_UNIX;
	strcpy(handle->address.sun_path, socket_path);
	r = connect_and_greet(handle);
	/*
	 * After a refusal the handle lives on for its reason; whatever is asked of it meets a
	 * closed connection.
	 */
	if (r < 0)
		gpubroker_close(handle);
	else
		*ret_handle = handle;
	return r;
}

int connection_reopen(struct gpubroker *handle)
{
	handle->fd = fd_close(handle->fd);
	return connect_and_greet(handle);
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

const struct gpubroker_refused *gpubroker_refused(const struct gpubroker *handle)
{
	return handle->refused.number ? &handle->refused : NULL;
}

const char *gpubroker_status_name(enum gpubroker_status status)
{
	static const char *const names[] = {
		[GPUBROKER_AVAILABLE] = "available",   [GPUBROKER_VFIO_READY] = "vfio-ready",
		[GPUBROKER_BOOT_VGA] = "boot-vga",     [GPUBROKER_LEASED] = "leased",
		[GPUBROKER_RELEASING] = "releasing",   [GPUBROKER_STUCK] = "stuck",
		[GPUBROKER_NOT_VIABLE] = "not-viable", [GPUBROKER_IN_USE] = "in-use",
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
		[GPUBROKER_LEASE_ASKED] = "asked",
	};

	return (size_t)state < ARRAY_SIZE(names) && names[state] ? names[state] : "unknown";
}

/* ---- ending leases ---- */

int gpubroker_release(struct gpubroker *handle, uint64_t lease)
{
	const struct message_release request = { .type = MESSAGE_RELEASE, .lease = lease };

	return connection_ask(handle, &request, sizeof(request));
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
	return connection_ask(handle, &request, sizeof(request));
}

int gpubroker_revoke_kill(struct gpubroker *handle, uint64_t lease, uint64_t after, uint64_t grace)
{
	const struct message_release request = {
		.type = MESSAGE_RELEASE,
		.flags = RELEASE_REVOKE | RELEASE_KILL,
		.lease = lease,
		.after = after,
		.grace = grace,
	};

	if (after > INT32_MAX || !grace || grace > PROTOCOL_GRACE_MAX)
		return -EINVAL;
	return connection_ask(handle, &request, sizeof(request));
}

static int move_group(struct gpubroker *handle, enum message_type type, const char *device,
		      char ret_address[20])
{
	struct message_restore request = { .type = type };
	int r;

	if (pci_address_parse(device, &request.address))
		return -EINVAL;
	r = connection_ask(handle, &request, sizeof(request));
	if (!r)
		pci_address_format(&request.address, ret_address);
	return r;
}

int gpubroker_restore(struct gpubroker *handle, const char *device, char ret_address[20])
{
	return move_group(handle, MESSAGE_RESTORE, device, ret_address);
}

int gpubroker_prepare(struct gpubroker *handle, const char *device, char ret_address[20])
{
	return move_group(handle, MESSAGE_PREPARE, device, ret_address);
}

static int ask_policy(struct gpubroker *handle, uint32_t flags, struct gpubroker_policy *ret_policy)
{
	const struct message_policy request = { .type = MESSAGE_POLICY, .flags = flags };
	union answer answer;
	int r = connection_send(handle, &request, sizeof(request));

	if (!r)
		r = connection_receive_wait(handle, &answer);
	if (r)
		return r;
	if (answer.type == MESSAGE_REFUSAL)
		return connection_refused(handle, &answer.refusal);
	if (answer.type != MESSAGE_POLICY_STATE)
		return -EPROTO;
	*ret_policy = (struct gpubroker_policy){
		.in_force = answer.policy.flags & POLICY_IN_FORCE,
		.refused = answer.policy.flags & POLICY_REFUSED,
		.saved = answer.policy.flags & POLICY_SAVED,
		.loaded = answer.policy.loaded,
		.rules = answer.policy.rules,
		.files = answer.policy.files,
		.mistakes = answer.policy.mistakes,
	};
	return 0;
}

int gpubroker_policy(struct gpubroker *handle, struct gpubroker_policy *ret_policy)
{
	return ask_policy(handle, POLICY_WAIT, ret_policy);
}

int gpubroker_policy_reload(struct gpubroker *handle, struct gpubroker_policy *ret_policy)
{
	return ask_policy(handle, POLICY_RELOAD, ret_policy);
}

int gpubroker_vfs(struct gpubroker *handle, const char *device, uint32_t vfs, char ret_address[20])
{
	struct message_vfs request = { .type = MESSAGE_VFS, .vfs = vfs };
	int r;

	if (pci_address_parse(device, &request.address) || vfs > UINT16_MAX)
		return -EINVAL;
	r = connection_ask(handle, &request, sizeof(request));
	if (!r)
		pci_address_format(&request.address, ret_address);
	return r;
}
