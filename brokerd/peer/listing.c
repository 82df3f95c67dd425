/* SPDX-License-Identifier: MIT */
/*
 * Listings of devices, leases and waiting claims, see listing.h. They are written as the socket
 * takes them, from a cursor, so a peer that never reads costs no more memory than its struct. It
 * must never store a whole listing.
 */
#include "config.h"

#include "brokerd/peer/listing.h"
#include "brokerd/peer/allotting.h"
#include "brokerd/claim/parts.h"
#include "client/host/interrupts.h"
#include "client/host/pci.h"
#include "client/wire/passfd.h"

#include "brokerd/record/usage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define USED_A_LINE 256 /* entries of others that are passed over for the cost of a line */

/*
 * The state of one call: the groups of the peer's process, and the functions of the group that the
 * last line was about. The functions of a group mostly follow each other, and each is judged
 * once.
 */
struct listing {
	struct peer *peer;
	struct policy_subject subject;
	struct policy_looked_up looked_up;
	bool known; /* the subject is */
	struct device_group group;
	struct policy_verdict judged[PROTOCOL_FUNCTIONS_MAX];
	uint64_t cost;
};

/*
 * Returns true if another program has the group of a device that is not leased: a claim has found
 * that, or the kernel shows it for a function of the device's slot. Nothing is opened for a
 * listing, since an open group is busy for others.
 */
static bool is_foreign(struct listing *listing, const struct device *device)
{
	const struct peers *peers = listing->peer->peers;
	struct pci_address address = device->record.address;

	if (holds_find_foreign(peers->holds, device->record.group))
		return true;
	for (address.function = 0; address.function < 8; address.function++) {
		const struct device *other = devices_find(peers->devices, &address);

		if (!other || other->record.group != device->record.group ||
		    !driver_is_vfio(other->record.driver))
			continue;
		listing->cost += COST_ATTRIBUTE;
		if (sysfs_opened(peers->kernel->sys, &address) > 0)
			return true;
	}
	return false;
}

/* Returns true if the device is allotted to the peer's user. */
static bool is_allotted_to_peer(const struct listing *listing, const struct device *device)
{
	const struct peers *peers = listing->peer->peers;
	const struct allotment *allotment = allotments_of(peers->claims->allotments, peers->devices,
							  &device->record.address,
							  device->record.group);

	return allotment &&
	       allotment_is_for(allotment, &peers->policy->policy, listing->peer->claimant.uid) &&
	       !allotment->retracting &&
	       allotment_is_unchanged(allotment, peers->devices, device->record.group);
}

/*
 * Returns true if the peer may know of what has this label: all, but at the socket of an allotment
 * only what is its own.
 */
static bool may_see(const struct peer *peer, const char *label)
{
	return !peer->claimant.through[0] || !strcmp(peer->claimant.through, label);
}

static bool may_see_device(const struct peer *peer, const struct device *device)
{
	const struct peers *peers = peer->peers;
	const struct allotment *allotment =
		peer->claimant.through[0]
			? allotments_of(peers->claims->allotments, peers->devices,
					&device->record.address, device->record.group)
			: NULL;

	return may_see(peer, allotment ? allotment->label : "");
}

/* Returns true if the policy allows the peer's user the device. */
static bool device_is_allowed(struct listing *listing, const struct device *device)
{
	const struct peers *peers = listing->peer->peers;
	struct policy_verdict verdict;
	size_t asked;

	if (!listing->known)
		return false;
	if (!devices_same_group(&listing->group, device, &asked)) {
		devices_group(peers->devices, device, &listing->group, &asked);
		policy_judged_none(listing->judged, listing->group.n);
		listing->subject.allotted = is_allotted_to_peer(listing, device);
		listing->cost += listing->group.n * COST_FUNCTION;
	}
	policy_decide_again(&peers->policy->policy, &listing->subject, listing->group.facts,
			    listing->group.n, asked, NULL, listing->judged, &verdict);
	listing->cost += verdict.cost;
	return verdict.outcome == POLICY_ALLOWED;
}

static void format_device(struct listing *listing, const struct device *device,
			  struct message_device *ret_message)
{
	const struct peer *peer = listing->peer;
	const struct peers *peers = peer->peers;
	const struct watcher_record *record = &device->record;
	const struct lease *lease = lease_find_group(&peers->leases->table, record->group);
	const struct allotment *allotment;

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
		.allowed = device_is_allowed(listing, device),
		.is_vf = record->is_vf,
		.physfn = record->physfn,
		.vfs_total = record->vfs_total,
		.vfs = devices_vfs(peers->devices, device),
	};
	if (ret_message->status <= GPUBROKER_BOOT_VGA && peers->kernel->no_remapping &&
	    !interrupts_may_be_unsafe_somehow(peers->kernel->sys, peers->kernel->cdevs))
		ret_message->status = GPUBROKER_NOT_VIABLE;
	if (ret_message->status == GPUBROKER_VFIO_READY && is_foreign(listing, device))
		ret_message->status = GPUBROKER_IN_USE;
	if (lease && ret_message->status != GPUBROKER_NOT_VIABLE) {
		ret_message->lease = lease->id;
		ret_message->holder_uid = lease->uid;
	}
	allotment = allotments_of(peers->claims->allotments, peers->devices, &record->address,
				  record->group);
	if (allotment) {
		memcpy(ret_message->allotment, allotment->label, sizeof(ret_message->allotment));
		ret_message->allotted_uid = allotment->uid;
	}
	memcpy(ret_message->driver, record->driver, sizeof(ret_message->driver));
	memcpy(ret_message->vendor_name, record->vendor_name, sizeof(ret_message->vendor_name));
	memcpy(ret_message->model, record->model, sizeof(ret_message->model));
}

/*
 * Returns true if the policy in force would grant the lease. The result is only shown: a lease that
 * the policy would not grant stays.
 */
static bool lease_is_allowed(const struct peers *peers, const struct lease *lease,
			     uint64_t *ret_cost)
{
	const struct policy *policy = &peers->policy->policy;
	const struct device *device = devices_find(peers->devices, &lease->asked);
	const struct policy_subject subject = lease_subject(lease);
	struct policy_verdict verdict;
	struct device_group group;
	size_t asked;

	/* Nobody asked the policy for these, so it is no news that it does not grant them. */
	if (!strcmp(lease->terms.rule, LEASE_RULE_RESTORE) ||
	    !strcmp(lease->terms.rule, LEASE_RULE_NONE))
		return true;
	if (lease_is_made(lease))
		return parts_allowed(policy, peers->devices, lease, &subject);
	if (!device)
		return false;
	devices_group(peers->devices, device, &group, &asked);
	policy_decide(policy, &subject, group.facts, group.n, asked, NULL, &verdict);
	*ret_cost = group.n * COST_FUNCTION + COST_GROUPS(subject.n_groups) + verdict.cost;
	return verdict.outcome == POLICY_ALLOWED;
}

static void format_lease(struct listing *listing, const struct lease *lease,
			 struct message_lease *ret_message)
{
	uint64_t cost = 0;

	*ret_message = (struct message_lease){
		.type = MESSAGE_LEASE,
		.state = lease->state,
		.id = lease->id,
		.since = lease->since,
		.group = lease->group,
		.uid = lease->uid,
		.pid = lease->pid,
	};
	/* The command says of one that is not on VFIO that somebody has taken it. */
	for (size_t i = 0; i < lease->n_functions; i++)
		if (!lease_function_comes(lease, &lease->functions[i]))
			ret_message->functions[ret_message->n_functions++] =
				lease->functions[i].address;
	if (lease_is_overdue(lease))
		memcpy(ret_message->reason, lease->reason, sizeof(ret_message->reason));
	else if (lease->slow && lease->state != GPUBROKER_LEASE_RESTORING)
		snprintf(ret_message->reason, sizeof(ret_message->reason), "%s", lease->slow);
	memcpy(ret_message->rule, lease->terms.rule, sizeof(ret_message->rule));
	ret_message->allowed = lease_is_allowed(listing->peer->peers, lease, &cost);
	listing->cost += cost;
	ret_message->expires = lease->ends;
	ret_message->stuck_since = lease->stuck_since;
	ret_message->released_at = lease->released_at;
	ret_message->migration = lease->migration;
	memcpy(ret_message->mdev.parent, lease->mdev.parent, sizeof(ret_message->mdev.parent));
	memcpy(ret_message->mdev.profile, lease->mdev.type, sizeof(ret_message->mdev.profile));
	memcpy(ret_message->mdev.uuid, lease->mdev.uuid, sizeof(ret_message->mdev.uuid));
	memcpy(ret_message->label, lease->label, sizeof(ret_message->label));
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
static int send_next_device(struct listing *listing)
{
	struct peer *peer = listing->peer;
	const struct device *device =
		peer->devices_done ? NULL : devices_from(peer->peers->devices, &peer->next_device);
	struct message_device message;
	struct pci_address next;
	int r;

	if (!device)
		return 1;
	next = device->record.address;
	if (may_see_device(peer, device)) {
		format_device(listing, device, &message);
		r = passfd_send(peer->fd, &message, sizeof(message), NULL, 0);
		if (r)
			return r;
	}
	peer->devices_done = !next_address(&next);
	peer->next_device = next;
	return 0;
}

static int send_next_lease(struct listing *listing)
{
	struct peer *peer = listing->peer;
	const struct lease *lease = lease_find_from(&peer->peers->leases->table, peer->next_id);
	struct message_lease message;
	int r = 0;

	if (!lease)
		return 1;
	if (may_see(peer, lease->label)) {
		format_lease(listing, lease, &message);
		r = passfd_send(peer->fd, &message, sizeof(message), NULL, 0);
	}
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

static int send_next_waiting(struct listing *listing)
{
	struct peer *peer = listing->peer;
	const struct waiting *waiting = queue_find_from(&peer->peers->claims->queue, peer->next_id);
	struct message_waiting message;
	int r = 0;

	if (!waiting)
		return 1;
	if (may_see(peer, waiting->claimant->through)) {
		format_waiting(waiting, &message);
		r = passfd_send(peer->fd, &message, sizeof(message), NULL, 0);
	}
	if (!r)
		peer->next_id = waiting->id + 1;
	return r;
}

/* Sends the next lease that has ended, of those that the peer may know of: all, or its user's. */
static int send_next_used(struct listing *listing)
{
	struct peer *peer = listing->peer;
	const struct peers *peers = peer->peers;
	const uint32_t owner = peers_owner(peers, peer->claimant.uid);
	struct message_used message = { .type = MESSAGE_USED };
	struct usage_entry entry;
	bool found;
	int r;

	if (peer->claimant.through[0])
		return 1; /* the past is its user's, not the allotment's */
	found = usage_from(peers->usage, peer->next_id, &entry);
	while (found && peer->claimant.uid && peers_owner(peers, entry.uid) != owner) {
		/* A turn of the loop looks at so many. */
		if (entry.number - peer->next_id >= USED_A_LINE) {
			peer->next_id = entry.number;
			return 0;
		}
		found = usage_from(peers->usage, entry.number + 1, &entry);
	}
	if (!found)
		return 1;
	message.uid = entry.uid;
	message.lease = entry.lease;
	message.since = entry.since;
	message.seconds = entry.seconds;
	memcpy(message.device, entry.device, sizeof(message.device));
	memcpy(message.profile, entry.profile, sizeof(message.profile));
	r = passfd_send(peer->fd, &message, sizeof(message), NULL, 0);
	if (!r)
		peer->next_id = entry.number + 1;
	return r;
}

static int send_next_allotment(struct listing *listing)
{
	struct peer *peer = listing->peer;
	const struct allotment *allotment =
		allotments_from(peer->peers->claims->allotments, peer->next_id);
	struct message_allotment message;
	int r = 0;

	if (!allotment)
		return 1;
	if (may_see(peer, allotment->label)) {
		message = allotting_message(peer, allotment);
		r = passfd_send(peer->fd, &message, sizeof(message), NULL, 0);
	}
	if (!r)
		peer->next_id = allotment->number + 1;
	return r;
}

/*
 * Sends the listing's next message, or its end, and moves the cursor. Returns 1 after the end, 0
 * after a message, or -errno.
 */
static int send_next(struct listing *listing)
{
	const struct message_plain end = { .type = MESSAGE_END };
	const struct peer *peer = listing->peer;
	int r = peer->busy == PEER_LISTING	? send_next_device(listing)
		: peer->busy == PEER_LEASES	? send_next_lease(listing)
		: peer->busy == PEER_USAGE	? send_next_used(listing)
		: peer->busy == PEER_ALLOTMENTS ? send_next_allotment(listing)
						: send_next_waiting(listing);

	if (r != 1)
		return r;
	r = passfd_send(peer->fd, &end, sizeof(end), NULL, 0);
	return r ? r : 1;
}

/* Sends messages while the peer's user may cause work in this turn. Returns as send_next(). */
static int send_some(struct peer *peer)
{
	struct listing listing = { .peer = peer };
	int r = 0;

	listing.known = !peer_subject(peer, &listing.subject);
	if (listing.known) {
		policy_look_up(&peer->peers->policy->policy, &listing.subject, &listing.looked_up);
		listing.subject.looked_up = &listing.looked_up;
		peer_owe(peer, COST_GROUPS(listing.subject.n_groups));
	}
	do {
		listing.cost = 0;
		r = send_next(&listing);
		peer_owe(peer, listing.cost);
	} while (!r && peer_spend(peer, COST_LINE));
	return r;
}

void listing_continue(struct peer *peer)
{
	int r;

	if (peer->busy != PEER_LISTING && peer->busy != PEER_LEASES && peer->busy != PEER_QUEUE &&
	    peer->busy != PEER_USAGE && peer->busy != PEER_ALLOTMENTS)
		return;
	r = peer_spend(peer, COST_LINE) ? send_some(peer) : 0;
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

void listing_usage(struct peer *peer)
{
	peer->busy = PEER_USAGE;
	peer->next_id = 1;
	listing_continue(peer);
}

void listing_allotments(struct peer *peer)
{
	peer->busy = PEER_ALLOTMENTS;
	peer->next_id = 1;
	listing_continue(peer);
}
