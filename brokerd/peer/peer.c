/* SPDX-License-Identifier: MIT */
/*
 * One connection: who it is, what it asks, what it is told.
 *
 * Owns the socket and the place in a listing. Listings are written as the socket takes them, from a
 * cursor, so a peer that never reads costs a struct and no more. It must never take a descriptor,
 * never wait for a peer, and never free a peer below a function that still uses it: who is to go is
 * marked, and goes in the next turn.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/claim/claim.h"
#include "brokerd/state/verdict.h"
#include "brokerd/process/log.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/prepare/sriov.h"
#include "client/common/name.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define REQUEST_BURST 8	      /* requests a turn; listings are longer than they are asked for */
#define LIST_BURST 8	      /* devices or leases a turn, of all connections of a user */
#define REQUEST_COST 4	      /* a request is as much as so many of them */
#define VERDICT_BURST 1000000 /* rules looked at in a turn */

union request {
	uint32_t type;
	struct message_hello hello;
	struct message_plain plain;
	struct message_claim claim;
	struct message_release release;
	struct message_restore restore;
	struct message_vfs vfs;
	struct message_migration migration;
};

/* ---- who it is ---- */

/* A descriptor of the process that connected, or -errno. -ENOPROTOOPT: a kernel before 6.5. */
static int process_of(int fd)
{
	socklen_t size = sizeof(int);
	int pidfd;

	return getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) ? -errno : pidfd;
}

/* The same for all sockets, so only the first is asked. */
static bool kernel_knows_process(int fd)
{
	static enum { NOT_ASKED, KNOWS, KNOWS_NOT } answer;

	if (answer == NOT_ASKED) {
		cleanup_fd int pidfd = process_of(fd);

		answer = pidfd == -ENOPROTOOPT ? KNOWS_NOT : KNOWS;
	}
	return answer == KNOWS;
}

static int identify(struct peer *peer)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERCRED, &cred, &size))
		return -errno;
	if (size != sizeof(cred) || cred.uid == (uid_t)-1 || cred.pid <= 0)
		return -EPERM; /* from outside our pid namespace: nobody whom we could name */
	peer->uid = cred.uid;
	peer->gid = cred.gid;
	peer->pid = (uint32_t)cred.pid;
	return 0;
}

/*
 * From 6.5 on the socket remembers the process itself, and can be asked when there is need: a
 * descriptor less for each who is only connected. Before, the pid is held as early as can be.
 */
static void hold_process(struct peer *peer)
{
	if (!kernel_knows_process(peer->fd))
		peer->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)peer->pid, 0);
}

int peer_memlock_raise(const struct peer *peer, uint64_t bytes)
{
	cleanup_fd int own = peer->pidfd < 0 ? process_of(peer->fd) : -1;

	return kernel_memlock_raise(&peer->daemon->kernel, peer->pidfd < 0 ? own : peer->pidfd,
				    (int)peer->pid, bytes);
}

int peer_subject(const struct peer *peer, struct policy_subject *ret_subject)
{
	static gid_t groups[65536]; /* NGROUPS_MAX: more a process cannot have */
	socklen_t size = sizeof(groups);

	if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size))
		return -errno;
	*ret_subject = (struct policy_subject){
		.uid = peer->uid,
		.gid = peer->gid,
		.groups = groups,
		.n_groups = size / sizeof(gid_t),
	};
	return 0;
}

/* ---- coming and going ---- */

static void on_writable(evutil_socket_t fd, short what, void *userdata);

static struct event *new_event(struct daemon *daemon, int fd, short what, event_callback_fn call,
			       void *userdata)
{
	struct event *event = event_new(daemon->base, fd, what, call, userdata);

	if (event && event_priority_set(event, PRIORITY_PEERS)) {
		event_free(event);
		return NULL;
	}
	return event;
}

/* Whether peer_continue() is called when the socket has room. False: there is no memory for it. */
static bool wait_for_room(struct peer *peer, bool wait)
{
	if (wait && !peer->on_writable)
		peer->on_writable =
			new_event(peer->daemon, peer->fd, EV_WRITE | EV_PERSIST, on_writable, peer);
	if (wait)
		return peer->on_writable && !event_add(peer->on_writable, NULL);
	if (peer->on_writable)
		event_free(TAKE_PTR(peer->on_writable));
	return true;
}

static void stop_watching(struct peer *peer)
{
	if (peer->busy == PEER_WATCHING)
		peer->daemon->n_watching--;
	peer->busy = PEER_IDLE;
}

/* Lets the peer go in the loop's next turn, when nobody is using it. */
static void doom(struct peer *peer)
{
	/* Before the close: the number may be another peer's before the next turn. */
	event_del(peer->on_readable);
	wait_for_room(peer, false);
	stop_watching(peer);
	peer->greeted = false;
	peer->fd = fd_close(peer->fd);
	event_active(peer->on_readable, EV_READ, 1);
}

static void on_readable(evutil_socket_t fd, short what, void *userdata);

static void on_writable(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	peer_continue(userdata);
}

static void turn_away(struct daemon *daemon, struct peer *peer)
{
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_QUOTA);
	union request ignored;
	size_t n_fds;

	if (daemon->n_peers >= PEERS_MAX)
		strcpy(refusal.text, "the broker has as many connections as it can serve");
	else
		snprintf(
			refusal.text, sizeof(refusal.text),
			"you have %d connections to the broker, which is the most one user may have",
			PEERS_PER_UID);
	passfd_send(peer->fd, &refusal, sizeof(refusal), NULL, 0);
	/*
	 * A socket that is closed with a packet unread resets the other side: its next receive says
	 * so once, and the one after that has the refusal (see library.c). So take what may be
	 * there.
	 */
	while (passfd_receive(peer->fd, &ignored, sizeof(ignored), NULL, 0, &n_fds) > 0)
		;
	audit_refused(peer, &refusal);
}

static void tell_dropped(const struct peer *peer, const char *why)
{
	const struct audit line = {
		.outcome = "dropped",
		.level = LOG_INFO,
		.uid = peer->uid,
		.pid = peer->pid,
		.group = NO_GROUP,
		.by = AUDIT_NOBODY,
		.reason = why,
	};

	audit_asked(peer->daemon, peer->uid, &line);
}

static void tell_unknown(struct daemon *daemon, int error)
{
	char reason[96];
	const struct audit line = {
		.outcome = "dropped",
		.level = LOG_INFO,
		.uid = AUDIT_NOBODY,
		.group = NO_GROUP,
		.by = AUDIT_NOBODY,
		.reason = reason,
	};

	snprintf(reason, sizeof(reason), "its user cannot be told: %s", strerror(-error));
	audit_asked(daemon, UINT32_MAX, &line);
}

/* May it have one more connection? Then that is counted. All else is told. */
static bool admit(struct daemon *daemon, struct peer *peer)
{
	int r = identify(peer);

	if (r) {
		tell_unknown(daemon, r);
		return false;
	}
	r = daemon->n_peers >= PEERS_MAX ? -EDQUOT
					 : usercount_take(&daemon->users, peer->uid, PEERS_PER_UID);
	if (r == -EDQUOT)
		turn_away(daemon, peer);
	return !r;
}

/*
 * What is done before admit() says yes is done for one who connects in a loop too, and others wait
 * for it.
 */
void peer_new(struct daemon *daemon, int fd)
{
	struct peer incoming = { .daemon = daemon, .fd = fd, .pidfd = -1 }, *peer;

	if (!admit(daemon, &incoming)) {
		fd_close(fd);
		return;
	}
	peer = malloc(sizeof(*peer));
	if (!peer)
		goto drop;
	*peer = incoming;
	hold_process(peer);
	peer->fd = incoming.fd = listener_out_of_the_way(fd);
	peer->on_readable = new_event(daemon, peer->fd, EV_READ | EV_PERSIST, on_readable, peer);
	if (!peer->on_readable || event_add(peer->on_readable, NULL)) {
		fd_close(peer->pidfd);
		goto drop;
	}
	TAILQ_INSERT_TAIL(&daemon->peers, peer, link);
	daemon->n_peers++;
	return;
drop:
	if (peer && peer->on_readable)
		event_free(peer->on_readable);
	free(peer);
	fd_close(incoming.fd);
	usercount_give(&daemon->users, incoming.uid);
}

void peer_free(struct peer *peer)
{
	struct claim *claim = TAKE_PTR(peer->claim);

	queue_leave(peer);
	vfs_forget(peer);
	stop_watching(peer);
	if (claim)
		claim_abandon(claim);
	event_free(peer->on_readable);
	wait_for_room(peer, false);
	fd_close(peer->fd);
	fd_close(peer->pidfd);
	TAILQ_REMOVE(&peer->daemon->peers, peer, link);
	peer->daemon->n_peers--;
	usercount_give(&peer->daemon->users, peer->uid);
	free(peer);
}

/* ---- answers ---- */

int peer_grant(struct peer *peer, const struct message_grant *grant, const int *fds, size_t n_fds)
{
	int r;

	if (peer->fd < 0)
		return -EPIPE;
	/* A peer that has not even read its steps is not given descriptors to leave unread. */
	r = passfd_send(peer->fd, grant, sizeof(*grant), fds, n_fds);
	if (!r)
		peer->busy = PEER_IDLE;
	return r;
}

void peer_refuse(struct peer *peer, const struct message_refusal *refusal)
{
	peer->busy = PEER_IDLE;
	if (peer->fd >= 0 && passfd_send(peer->fd, refusal, sizeof(*refusal), NULL, 0))
		doom(peer);
}

void peer_end(struct peer *peer)
{
	const struct message_plain end = { .type = MESSAGE_END };

	peer->busy = PEER_IDLE;
	if (peer->fd >= 0 && passfd_send(peer->fd, &end, sizeof(end), NULL, 0))
		doom(peer);
}

void peer_step(struct peer *peer, const struct message_step *step)
{
	if (peer->fd >= 0)
		passfd_send(peer->fd, step, sizeof(*step), NULL, 0);
}

static void format_device(const struct peer *peer, const struct device *device,
			  const struct policy_subject *subject, struct message_device *ret_message)
{
	const struct daemon *daemon = peer->daemon;
	const struct watcher_record *record = &device->record;
	const struct lease *lease = lease_find_group(&daemon->leases, record->group);
	struct policy_facts facts[PROTOCOL_FUNCTIONS_MAX];
	struct policy_verdict verdict = { .outcome = POLICY_NO_RULE };
	size_t asked, n = devices_group(&daemon->devices, device, facts, &asked);

	if (n && subject)
		policy_decide(&daemon->policy, subject, facts, n, asked, NULL, &verdict);
	*ret_message = (struct message_device){
		.type = MESSAGE_DEVICE,
		.status = device_status(&daemon->devices, device, lease),
		.address = record->address,
		.vendor = record->vendor,
		.device = record->device,
		.subsystem_vendor = record->subsystem_vendor,
		.subsystem_device = record->subsystem_device,
		.class_code = record->class_code,
		.group = record->group,
		.allowed = verdict.outcome == POLICY_ALLOWED,
		.is_vf = record->is_vf,
		.physfn = record->physfn,
		.vfs_total = record->vfs_total,
		.vfs = devices_vfs(&peer->daemon->devices, device),
	};
	if (lease && ret_message->status != GPUBROKER_NOT_VIABLE) {
		ret_message->lease = lease->id;
		ret_message->holder_uid = lease->uid;
	}
	memcpy(ret_message->driver, record->driver, sizeof(ret_message->driver));
	memcpy(ret_message->vendor_name, record->vendor_name, sizeof(ret_message->vendor_name));
	memcpy(ret_message->model, record->model, sizeof(ret_message->model));
}

/*
 * Would the policy in force grant the lease? What has changed since is told, and changes nothing.
 */
static bool lease_is_allowed(const struct daemon *daemon, const struct lease *lease)
{
	const struct device *device = devices_find(&daemon->devices, &lease->asked);
	const struct policy_subject subject = {
		.uid = lease->uid,
		.gid = lease->gid,
		.groups = lease->gids,
		.n_groups = lease->n_gids,
	};
	struct policy_facts facts[PROTOCOL_FUNCTIONS_MAX];
	struct policy_verdict verdict;
	size_t n, asked;

	if (lease_is_mdev(lease))
		return mdev_is_allowed(daemon, lease, &subject);
	if (!device)
		return false;
	n = devices_group(&daemon->devices, device, facts, &asked);
	policy_decide(&daemon->policy, &subject, facts, n, asked, NULL, &verdict);
	return verdict.outcome == POLICY_ALLOWED;
}

static void format_lease(const struct daemon *daemon, const struct lease *lease,
			 struct message_lease *ret_message)
{
	*ret_message = (struct message_lease){
		.type = MESSAGE_LEASE,
		.state = lease->state,
		.id = lease->id,
		.since = lease->since,
		.group = lease->group,
		.uid = lease->uid,
		.pid = lease->pid,
		.n_functions = (uint32_t)lease->n_functions,
	};
	for (size_t i = 0; i < lease->n_functions; i++)
		ret_message->functions[i] = lease->functions[i].address;
	if (lease->state == GPUBROKER_LEASE_STUCK)
		memcpy(ret_message->reason, lease->reason, sizeof(ret_message->reason));
	memcpy(ret_message->rule, lease->terms.rule, sizeof(ret_message->rule));
	ret_message->allowed = lease_is_allowed(daemon, lease);
	ret_message->expires = lease->ends;
	ret_message->stuck_since = lease->stuck_since;
	ret_message->migration = lease->migration;
	memcpy(ret_message->mdev.parent, lease->mdev.parent, sizeof(ret_message->mdev.parent));
	memcpy(ret_message->mdev.profile, lease->mdev.type, sizeof(ret_message->mdev.profile));
	memcpy(ret_message->mdev.uuid, lease->mdev.uuid, sizeof(ret_message->mdev.uuid));
}

/*
 * Sends the listing's next message and moves the cursor past it. 1: that was the end; 0: sent;
 * -errno.
 */
static int send_next(struct peer *peer, const struct policy_subject *subject)
{
	const struct message_plain end = { .type = MESSAGE_END };
	struct daemon *daemon = peer->daemon;
	int r;

	if (peer->busy == PEER_LISTING) {
		const struct device *device =
			peer->devices_done ? NULL
					   : devices_from(&daemon->devices, &peer->next_device);
		struct message_device message;

		if (device) {
			struct pci_address next = device->record.address;

			format_device(peer, device, subject, &message);
			r = passfd_send(peer->fd, &message, sizeof(message), NULL, 0);
			if (r)
				return r;
			/* The next address there can be, counted as the digits of one number. */
			if (++next.function == 8 && !(next.function = 0) && ++next.device == 32 &&
			    !(next.device = 0) && !++next.bus && !++next.domain)
				peer->devices_done = true;
			peer->next_device = next;
			return 0;
		}
	} else {
		const struct lease *lease = lease_find_from(&daemon->leases, peer->next_lease);
		struct message_lease message;

		if (lease) {
			format_lease(daemon, lease, &message);
			r = passfd_send(peer->fd, &message, sizeof(message), NULL, 0);
			if (!r)
				peer->next_lease = lease->id + 1;
			return r;
		}
	}
	r = passfd_send(peer->fd, &end, sizeof(end), NULL, 0);
	return r ? r : 1;
}

/*
 * Made active by the first who does something in a turn, so it comes behind all that are active
 * with it. (libevent's own time of a turn is of a coarse clock, the same for hundreds of turns.)
 */
static void on_turn_end(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)what;
	daemon->turn++;
	daemon->in_turn = false;
}

/*
 * What a turn does is bounded for each user, not for each connection: who has 128 of them and keeps
 * them busy makes others wait no longer than with one. Who may do no more is heard in the next
 * turn, since its socket is still ready then.
 */
static bool may_go_on(struct peer *peer, unsigned cost, size_t budget)
{
	struct daemon *daemon = peer->daemon;

	if (!daemon->in_turn) {
		if (!daemon->on_turn_end)
			daemon->on_turn_end = new_event(daemon, -1, 0, on_turn_end, daemon);
		if (!daemon->on_turn_end)
			return true;
		event_active(daemon->on_turn_end, EV_TIMEOUT, 1);
		daemon->in_turn = true;
	}
	return usercount_spend(&daemon->users, peer->uid, daemon->turn, cost, (unsigned)budget);
}

void peer_continue(struct peer *peer)
{
	struct policy_subject subject;
	size_t burst;
	bool known;
	int r = 0;

	if (peer->busy != PEER_LISTING && peer->busy != PEER_LEASES)
		return;
	known = !peer_subject(peer, &subject);
	/*
	 * Each device costs a verdict: of a policy of a million rules, one a turn is what others
	 * can wait for.
	 */
	burst = VERDICT_BURST / (peer->daemon->policy.n_rules + 1);
	burst = burst > LIST_BURST ? LIST_BURST : burst ? burst : 1;
	while (!r && may_go_on(peer, 1, burst))
		r = send_next(peer, known ? &subject : NULL);
	if (r == 1) {
		wait_for_room(peer, false);
		peer->busy = PEER_IDLE;
	} else if ((r && r != -EAGAIN) || !wait_for_room(peer, true)) {
		/* else: the rest when there is room, or in the next turn */
		doom(peer);
	}
}

/* ---- requests ---- */

static bool is_plain(const void *packet, size_t size, enum message_type type)
{
	const struct message_plain *plain = packet;

	return size == sizeof(*plain) && plain->type == type && !plain->reserved;
}

static bool valid_claim(const struct message_claim *claim)
{
	if (claim->flags & ~(uint32_t)(CLAIM_FORCE | CLAIM_WAIT | CLAIM_CDEVS | CLAIM_ASK) ||
	    claim->reserved || !claim->n_selectors || claim->n_selectors > PROTOCOL_SELECTORS_MAX)
		return false;
	for (uint32_t i = 0; i < claim->n_selectors; i++) {
		const struct selector *s = &claim->selectors[i];

		if (s->profile[sizeof(s->profile) - 1] ||
		    (s->profile[0] &&
		     (s->kind == SELECT_GROUP || !mdev_is_name(s->profile, sizeof(s->profile)))))
			return false;
		if (s->kind < SELECT_ADDRESS || s->kind > SELECT_ANY || s->address.device > 31 ||
		    s->address.function > 7 || s->address.reserved || s->name[sizeof(s->name) - 1])
			return false;
	}
	return true;
}

static bool greet(struct peer *peer, const struct message_hello *hello)
{
	const struct message_hello welcome = { .type = MESSAGE_WELCOME,
					       .version = PROTOCOL_VERSION };
	struct message_refusal refusal = refusal_make(GPUBROKER_REFUSED_VERSION);

	if (hello->version != PROTOCOL_VERSION) {
		passfd_send(peer->fd, &refusal, sizeof(refusal), NULL, 0);
		audit_refused(peer, &refusal);
		return false;
	}
	peer->greeted = true;
	return !passfd_send(peer->fd, &welcome, sizeof(welcome), NULL, 0);
}

static bool valid_release(const struct message_release *release)
{
	return !(release->flags & ~(uint32_t)RELEASE_REVOKE) && release->after <= INT32_MAX &&
	       (!release->after || release->flags & RELEASE_REVOKE);
}

static bool valid_restore(const struct message_restore *restore)
{
	return !restore->reserved && restore->address.device <= 31 &&
	       restore->address.function <= 7 && !restore->address.reserved;
}

static bool valid_vfs(const struct message_vfs *vfs)
{
	return vfs->vfs <= UINT16_MAX && vfs->address.device <= 31 && vfs->address.function <= 7 &&
	       !vfs->address.reserved;
}

static bool valid_migration(const struct message_migration *migration)
{
	return migration->migration == GPUBROKER_MIGRATION_YES ||
	       migration->migration == GPUBROKER_MIGRATION_NO;
}

/* The answer to what is begun at once. */
static void answer(struct peer *peer, int r, const struct message_refusal *refusal)
{
	if (r) {
		audit_refused(peer, refusal);
		peer_refuse(peer, refusal);
	} else {
		peer_end(peer);
	}
}

bool peer_request(struct peer *peer, const void *packet, size_t size)
{
	const union request *request = packet;
	struct message_refusal refusal;

	if (size < sizeof(request->type) || peer->busy != PEER_IDLE)
		return false;
	if (!peer->greeted)
		return request->type == MESSAGE_HELLO && size == sizeof(request->hello) &&
		       greet(peer, &request->hello);

	if (is_plain(packet, size, MESSAGE_LIST)) {
		peer->busy = PEER_LISTING;
		peer->next_device = (struct pci_address){ 0 };
		peer->devices_done = false;
		peer_continue(peer);
	} else if (is_plain(packet, size, MESSAGE_LEASES)) {
		peer->busy = PEER_LEASES;
		peer->next_lease = 1;
		peer_continue(peer);
	} else if (request->type == MESSAGE_CLAIM && size == sizeof(request->claim) &&
		   valid_claim(&request->claim)) {
		if (request->claim.flags & CLAIM_ASK) {
			if (claim_ask(peer, &request->claim, &refusal))
				peer_refuse(peer, &refusal);
			else
				peer_end(peer);
			return true;
		}
		peer->busy = PEER_CLAIMING;
		if (claim_start(peer, &request->claim, &refusal) && !peer->waiting)
			peer_refuse(peer, &refusal);
	} else if (request->type == MESSAGE_RELEASE && size == sizeof(request->release) &&
		   valid_release(&request->release)) {
		answer(peer, release_lease(peer, &request->release, &refusal), &refusal);
	} else if (request->type == MESSAGE_RESTORE && size == sizeof(request->restore) &&
		   valid_restore(&request->restore)) {
		answer(peer, restore_device(peer, &request->restore, &refusal), &refusal);
	} else if (request->type == MESSAGE_VFS && size == sizeof(request->vfs) &&
		   valid_vfs(&request->vfs)) {
		peer->busy = PEER_MAKING_VFS;
		if (vfs_request(peer, &request->vfs, &refusal))
			answer(peer, 1, &refusal);
	} else if (request->type == MESSAGE_MIGRATION && size == sizeof(request->migration) &&
		   valid_migration(&request->migration)) {
		answer(peer, note_migration(peer, &request->migration, &refusal), &refusal);
	} else if (is_plain(packet, size, MESSAGE_WATCH)) {
		peer->busy = PEER_WATCHING;
		peer->daemon->n_watching++;
		peer->lost = 0;
	} else {
		return false;
	}
	return true;
}

static void on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct peer *peer = userdata;

	(void)fd;
	(void)what;
	for (int i = 0; i < REQUEST_BURST; i++) {
		union request request;
		size_t n_fds;
		ssize_t n;

		if (peer->fd < 0)
			break; /* doomed */
		/* To leave costs nothing: the queue must not lend to those who have. */
		if (!may_go_on(peer, 0, LIST_BURST))
			return;
		/* Room for no descriptor: what comes with one is closed and drops the peer. */
		n = passfd_receive(peer->fd, &request, sizeof(request), NULL, 0, &n_fds);
		if (n == -EAGAIN)
			return;
		if (n > 0) {
			may_go_on(peer, REQUEST_COST, LIST_BURST);
			if (peer_request(peer, &request, (size_t)n))
				continue;
		}
		if (n && n != -ECONNRESET)
			tell_dropped(peer, n > 0 ? "protocol" : strerror((int)-n));
		peer_free(peer);
		return;
	}
	if (peer->fd < 0)
		peer_free(peer);
}
