/* SPDX-License-Identifier: MIT */
/*
 * Listings of devices, leases and waiting claims, see listing.h. They are written as the socket
 * takes them, from a cursor, so a peer that never reads costs no more memory than its struct. It
 * must never store a whole listing.
 */
#include "config.h"

#include "brokerd/peer/listing.h"
#include "brokerd/claim/parts.h"
#include "client/host/interrupts.h"
#include "client/host/pci.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define VERDICT_BURST 1000000 /* rules that may be evaluated in a turn */

/*
 * Returns true if another program has the group of a device that is not leased: a claim has found
 * that, or the kernel shows it for a function of the device's slot. Nothing is opened for a
 * listing, since an open group is busy for others.
 */
static bool is_foreign(const struct peers *peers, const struct device *device)
{
	struct pci_address address = device->record.address;

	if (holds_find_foreign(peers->holds, device->record.group))
		return true;
	for (address.function = 0; address.function < 8; address.function++) {
		const struct device *other = devices_find(peers->devices, &address);

		if (other && other->record.group == device->record.group &&
		    driver_is_vfio(other->record.driver) &&
		    sysfs_opened(peers->kernel->sys, &address) > 0)
			return true;
	}
	return false;
}

static void format_device(const struct peer *peer, const struct device *device,
			  const struct policy_subject *subject, struct message_device *ret_message)
{
	const struct peers *peers = peer->peers;
	const struct watcher_record *record = &device->record;
	const struct lease *lease = lease_find_group(&peers->leases->table, record->group);
	struct policy_facts facts[PROTOCOL_FUNCTIONS_MAX];
	struct policy_verdict verdict = { .outcome = POLICY_NO_RULE };
	size_t asked, n = devices_group(peers->devices, device, facts, &asked);

	if (n && subject)
		policy_decide(&peers->policy->policy, subject, facts, n, asked, NULL, &verdict);
	*ret_message = (struct message_device){
		.type = MESSAGE_DEVICE,
		.status = device_status(peers->devices, device, lease),
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
		.vfs = devices_vfs(peers->devices, device),
	};
	if (ret_message->status <= GPUBROKER_BOOT_VGA && peers->kernel->no_remapping &&
	    !interrupts_may_be_unsafe(peers->kernel->sys, false))
		ret_message->status = GPUBROKER_NOT_VIABLE;
	if (ret_message->status == GPUBROKER_VFIO_READY && is_foreign(peers, device))
		ret_message->status = GPUBROKER_IN_USE;
	if (lease && ret_message->status != GPUBROKER_NOT_VIABLE) {
		ret_message->lease = lease->id;
		ret_message->holder_uid = lease->uid;
	}
	memcpy(ret_message->driver, record->driver, sizeof(ret_message->driver));
	memcpy(ret_message->vendor_name, record->vendor_name, sizeof(ret_message->vendor_name));
	memcpy(ret_message->model, record->model, sizeof(ret_message->model));
}

/*
 * Returns true if the policy in force would grant the lease. The result is only shown: a lease that
 * the policy would not grant stays.
 */
static bool lease_is_allowed(const struct peers *peers, const struct lease *lease)
{
	const struct policy *policy = &peers->policy->policy;
	const struct device *device = devices_find(peers->devices, &lease->asked);
	const struct policy_subject subject = lease_subject(lease);
	struct policy_facts facts[PROTOCOL_FUNCTIONS_MAX];
	struct policy_verdict verdict;
	size_t n, asked;

	/* Nobody asked the policy for these, so it is no news that it does not grant them. */
	if (!strcmp(lease->terms.rule, LEASE_RULE_RESTORE) ||
	    !strcmp(lease->terms.rule, LEASE_RULE_NONE))
		return true;
	if (lease_is_made(lease))
		return parts_allowed(policy, peers->devices, lease, &subject);
	if (!device)
		return false;
	n = devices_group(peers->devices, device, facts, &asked);
	policy_decide(policy, &subject, facts, n, asked, NULL, &verdict);
	return verdict.outcome == POLICY_ALLOWED;
}

static void format_lease(const struct peers *peers, const struct lease *lease,
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
	else if (lease->slow && lease->state != GPUBROKER_LEASE_RESTORING)
		snprintf(ret_message->reason, sizeof(ret_message->reason), "%s", lease->slow);
	memcpy(ret_message->rule, lease->terms.rule, sizeof(ret_message->rule));
	ret_message->allowed = lease_is_allowed(peers, lease);
	ret_message->expires = lease->ends;
	ret_message->stuck_since = lease->stuck_since;
	ret_message->released_at = lease->released_at;
	ret_message->migration = lease->migration;
	memcpy(ret_message->mdev.parent, lease->mdev.parent, sizeof(ret_message->mdev.parent));
	memcpy(ret_message->mdev.profile, lease->mdev.type, sizeof(ret_message->mdev.profile));
	memcpy(ret_message->mdev.uuid, lease->mdev.uuid, sizeof(ret_message->mdev.uuid));
}

/*
 * Moves a cursor to the next possible address, counting its fields as the digits of one number.
 * Returns false if there is none.
 */
static bool next_address(struct pci_address *address)
{
	return ++address->function < 8 || (address->function = 0, ++address->device < 32) ||
	       (address->device = 0, ++address->bus) || ++address->domain;
}

/*
 * Each sends the listing's next message. Returns 1 if there is none, 0 if it was sent, or -errno.
 */
static int send_next_device(struct peer *peer, const struct policy_subject *subject)
{
	const struct device *device =
		peer->devices_done ? NULL : devices_from(peer->peers->devices, &peer->next_device);
	struct message_device message;
	struct pci_address next;
	int r;

	if (!device)
		return 1;
	next = device->record.address;
	format_device(peer, device, subject, &message);
	r = passfd_send(peer->fd, &message, sizeof(message), NULL, 0);
	if (r)
		return r;
	peer->devices_done = !next_address(&next);
	peer->next_device = next;
	return 0;
}

static int send_next_lease(struct peer *peer)
{
	const struct lease *lease = lease_find_from(&peer->peers->leases->table, peer->next_id);
	struct message_lease message;
	int r;

	if (!lease)
		return 1;
	format_lease(peer->peers, lease, &message);
	r = passfd_send(peer->fd, &message, sizeof(message), NULL, 0);
	if (!r)
		peer->next_id = lease->id + 1;
	return r;
}

static void format_waiting(const struct waiting *waiting, struct message_waiting *ret_message)
{
	*ret_message = (struct message_waiting){
		.type = MESSAGE_WAITING,
		.place = waiting->now.place,
		.id = waiting->id,
		.since = waiting->since,
		.lease = waiting->now.lease,
		.ends = waiting->now.ends,
		.holder_uid = waiting->now.holder_uid,
		.holder_pid = waiting->now.holder_pid,
		.uid = waiting->claimant->uid,
		.pid = waiting->claimant->pid,
		.keeps = !waiting->own,
		.n_selectors = waiting->request.n_selectors,
	};
	memcpy(ret_message->selectors, waiting->request.selectors,
	       waiting->request.n_selectors * sizeof(ret_message->selectors[0]));
}

static int send_next_waiting(struct peer *peer)
{
	const struct waiting *waiting = queue_find_from(&peer->peers->claims->queue, peer->next_id);
	struct message_waiting message;
	int r;

	if (!waiting)
		return 1;
	format_waiting(waiting, &message);
	r = passfd_send(peer->fd, &message, sizeof(message), NULL, 0);
	if (!r)
		peer->next_id = waiting->id + 1;
	return r;
}

/*
 * Sends the listing's next message, or its end, and moves the cursor. Returns 1 after the end, 0
 * after a message, or -errno.
 */
static int send_next(struct peer *peer, const struct policy_subject *subject)
{
	const struct message_plain end = { .type = MESSAGE_END };
	int r = peer->busy == PEER_LISTING  ? send_next_device(peer, subject)
		: peer->busy == PEER_LEASES ? send_next_lease(peer)
					    : send_next_waiting(peer);

	if (r != 1)
		return r;
	r = passfd_send(peer->fd, &end, sizeof(end), NULL, 0);
	return r ? r : 1;
}

static unsigned burst_of(const struct peers *peers)
{
	/*
	 * Each device costs a verdict, which evaluates all rules. With a million rules, other peers
	 * can wait for one verdict in a turn.
	 */
	size_t burst = VERDICT_BURST / (peers->policy->policy.n_rules + 1);

	return burst > LIST_BURST ? LIST_BURST : burst ? (unsigned)burst : 1;
}

void listing_continue(struct peer *peer)
{
	struct policy_subject subject;
	unsigned burst = burst_of(peer->peers);
	bool known;
	int r = 0;

	if (peer->busy != PEER_LISTING && peer->busy != PEER_LEASES && peer->busy != PEER_QUEUE)
		return;
	known = !peer_subject(peer, &subject);
	while (!r && peer_spend(peer, 1, burst))
		r = send_next(peer, known ? &subject : NULL);
	if (r == 1) {
		peer_wait_for_room(peer, false);
		peer->busy = PEER_IDLE;
	} else if ((r && r != -EAGAIN) || !peer_wait_for_room(peer, true)) {
		/* otherwise the rest follows when there is room, or in the next turn */
		peer_doom(peer);
	}
}

void listing_devices(struct peer *peer)
{
	peer->busy = PEER_LISTING;
	peer->next_device = (struct pci_address){ 0 };
	peer->devices_done = false;
	listing_continue(peer);
}

void listing_leases(struct peer *peer)
{
	peer->busy = PEER_LEASES;
	peer->next_id = 1;
	listing_continue(peer);
}

void listing_queue(struct peer *peer)
{
	peer->busy = PEER_QUEUE;
	peer->next_id = 1;
	listing_continue(peer);
}
