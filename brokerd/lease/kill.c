/* SPDX-License-Identifier: MIT */
/*
 * Ends holders, see kill.h: SIGTERM when the lease has become asked or stuck, and after the grace
 * of its terms SIGKILL, again and again, since a holder may have passed the device on. The ender
 * (helper/ender.c) finds the processes and signals them; this file only names nodes and uids.
 *
 * It must never name root's uid, and never wait for the ender. The lease ends as any other, when
 * the kernel has taken the device from its last holder.
 */
#include "config.h"

#include "brokerd/lease/kill.h"
#include "brokerd/lease/cdev.h"
#include "brokerd/process/log.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define QUICK_KILLS 10 /* a second after each other; then every so many seconds */
#define SLOW_KILL_SECONDS 30
#define WAIT_USEC 50000
#define FEW_KILLS 5 /* orders after which what passes for a supervisor is not spared any more */

static bool is_same_node(const struct ender_node *a, const struct ender_node *b)
{
	return a->major == b->major && a->minor == b->minor;
}

/*
 * The kernel uses the number of a node again once nobody has that node: a lease that is stuck
 * without a holder would have the processes ended that have this lease.
 */
static void take_from_others(const struct lease *lease, const struct ender_node *node)
{
	struct lease *other;

	TAILQ_FOREACH(other, &lease->table->list, link)
		for (size_t i = 0; other != lease && i < other->n_nodes; i++)
			if (is_same_node(&other->nodes[i], node))
				other->nodes[i] = (struct ender_node){ 0 };
}

static bool kill_note_node(struct lease *lease, uint32_t key)
{
	struct ender_node *node = &lease->nodes[lease->n_nodes];

	if (lease->n_nodes == ENDER_NODES_MAX ||
	    kernel_node_number(leases_of(lease)->kernel, key, &node->major, &node->minor))
		return false;
	take_from_others(lease, node);
	lease->n_nodes++;
	return true;
}

void kill_note_nodes(struct lease *lease)
{
	uint32_t numbers[PROTOCOL_CDEVS_MAX];
	size_t n = cdevs_numbers(lease, numbers);

	lease->n_nodes = 0;
	lease->group_noted = kill_note_node(lease, lease->group);
	for (size_t i = 0; i < n; i++)
		kill_note_node(lease, numbers[i] | KERNEL_CDEV);
}

/* Adds the uids of the lease's owner, but for root's. */
static void add_uids(const struct lease *lease, struct ender_order *order)
{
	const struct policy *policy = &leases_of(lease)->policy->policy;
	const uint32_t owner = policy_owner(policy, lease->uid);

	if (lease->uid)
		order->uids[order->n_ranges++] = (struct ender_range){ lease->uid, lease->uid };
	if (owner == POLICY_NOBODY || !owner)
		return;
	if (owner != lease->uid)
		order->uids[order->n_ranges++] = (struct ender_range){ owner, owner };
	for (size_t i = 0; i < policy->owners.n_ranges && order->n_ranges < ENDER_RANGES_MAX; i++) {
		const struct policy_range *range = &policy->owners.ranges[i];

		if (range->owner == owner && range->first && range->count)
			order->uids[order->n_ranges++] =
				(struct ender_range){ range->first,
						      range->first + range->count - 1 };
	}
}

/*
 * Returns true if the group has lost the node by which it was lent. The kernel removes that with
 * the last function of the group, when nobody has any of them.
 */
static bool has_lost_group(const struct lease *lease)
{
	struct ender_node now;

	return lease->group_noted && (kernel_node_number(leases_of(lease)->kernel, lease->group,
							 &now.major, &now.minor) ||
				      !is_same_node(&now, &lease->nodes[0]));
}

static void add_nodes(const struct lease *lease, struct ender_order *order)
{
	for (size_t i = 0; i < lease->n_nodes; i++)
		if (lease->nodes[i].major || lease->nodes[i].minor)
			order->nodes[order->n_nodes++] = lease->nodes[i];
}

static int send_order(struct lease *lease, int signal)
{
	const struct leases *leases = leases_of(lease);
	struct ender_order order = {
		.lease = lease->id,
		.signal = (uint32_t)signal,
		.supervisors = lease->kills > FEW_KILLS,
	};

	if (!lease->n_nodes)
		kill_note_nodes(lease);
	if (has_lost_group(lease))
		return -ENODEV;
	add_nodes(lease, &order);
	add_uids(lease, &order);
	if (!order.n_ranges)
		return -EPERM;
	if (!order.n_nodes)
		return -ENOENT;
	return leases->end ? leases->end(leases->userdata, &order) : -ENOTCONN;
}

static void tell_kill(struct lease *lease, const char *what)
{
	lease_mark_stuck(lease, &lease->asked, what, "");
}

static void on_kill_timer(evutil_socket_t fd, short what, void *userdata);

static void next_kill(struct lease *lease, uint64_t seconds)
{
	const struct timeval after = { .tv_sec = (time_t)seconds };

	if (!lease->kill_timer)
		lease->kill_timer = evtimer_new(leases_of(lease)->base, on_kill_timer, lease);
	if (!lease->kill_timer || evtimer_add(lease->kill_timer, &after))
		log_error("lease %" PRIu64 ": no memory for a timer; its holder is not ended",
			  lease->id);
}

static void order_signal(struct lease *lease, int signal)
{
	int r = lease->kill_unanswered ? -EAGAIN : send_order(lease, signal);

	if (!r)
		lease->kill_unanswered = true;
	else if (r == -EPERM)
		tell_kill(lease, "its user is root, whose processes are not ended");
	else if (r == -ENOTCONN)
		tell_kill(lease,
			  "its holder is not ended, since gpubroker-end.service does not run");
	else if (r == -EAGAIN)
		tell_kill(lease,
			  "its holder is not ended, since gpubroker-end.service does not answer");
	else if (r != -ENODEV) /* then it has no holder, and something else keeps it */
		tell_kill(lease, "its holder cannot be looked for, since its nodes are gone");
	if (r == -EPERM)
		return;
	if (!r && signal == SIGTERM)
		next_kill(lease, lease->terms.kill);
	else if (!r && lease->kills < QUICK_KILLS)
		next_kill(lease, 1);
	else
		next_kill(lease, r && lease->kills < QUICK_KILLS ? 2 : SLOW_KILL_SECONDS);
	if (lease->kills < UINT32_MAX)
		lease->kills++;
}

static void on_kill_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct lease *lease = userdata;

	(void)fd;
	(void)what;
	if (lease->hook.event || lease->kill_waits || lease->gives_way)
		next_kill(lease, 1); /* it is over, unless that comes to nothing */
	else if (lease_is_overdue(lease))
		order_signal(lease, lease->term_sent ? SIGKILL : SIGTERM);
	else if (lease->state == GPUBROKER_LEASE_RESTORING) /* it is being tried again */
		next_kill(lease, 1);
}

void kill_begin(struct lease *lease)
{
	if (lease->terms.kill && !lease->kills && lease->state == GPUBROKER_LEASE_ASKED)
		order_signal(lease, SIGTERM);
}

void kill_again(struct lease *lease)
{
	lease->kills = 0;
	lease->term_sent = false;
	if (!lease_is_overdue(lease))
		return;
	if (lease->kill_unanswered) /* the answer to what was ordered before begins the grace */
		next_kill(lease, lease->terms.kill);
	else
		order_signal(lease, SIGTERM);
}

bool kill_is_under_way(struct lease *lease, void (*then)(struct lease *lease))
{
	const struct timeval after = { .tv_usec = WAIT_USEC };

	if (!lease->kill_unanswered || lease->kill_waits == KILL_WAITS ||
	    !lease_later(lease, &after, then))
		return false;
	lease->kill_waits++;
	return true;
}

bool kill_is_possible(const struct leases *leases)
{
	return leases->has_ender && leases->has_ender(leases->userdata);
}

static void tell_answer(struct lease *lease, const struct ender_answer *answer)
{
	const char *name = answer->program[0] ? answer->program : "?";
	char what[112];

	if (answer->signalled) {
		snprintf(what, sizeof(what), "%s was sent to pid %" PRIu32 " (%s)",
			 lease->term_sent ? "SIGKILL" : "SIGTERM", answer->pid, name);
		if (answer->signalled > 1)
			snprintf(what + strlen(what), sizeof(what) - strlen(what),
				 " and %" PRIu32 " more", answer->signalled - 1);
	} else if (answer->spared) {
		snprintf(what, sizeof(what),
			 "pid %" PRIu32 " (%s) of uid %" PRIu32
			 " has it open, which is not its user's",
			 answer->pid, name, answer->uid);
	} else {
		snprintf(what, sizeof(what), "no process of its user has it open%s",
			 answer->incomplete ? ", as far as there was time to look" : "");
	}
	tell_kill(lease, what);
}

void kill_answered(struct leases *leases, const struct ender_answer *answer)
{
	struct lease *lease;

	TAILQ_FOREACH(lease, &leases->table.list, link) {
		if (!lease->kill_unanswered || (answer && answer->lease != lease->id))
			continue;
		lease->kill_unanswered = false;
		if (!answer)
			continue; /* asked again at its time, or said to be missing */
		if (lease_is_overdue(lease))
			tell_answer(lease, answer);
		/* An ender that was slow must not make the grace shorter. */
		if (!lease->term_sent)
			next_kill(lease, lease->terms.kill);
		lease->term_sent = true;
		return;
	}
}
