/* SPDX-License-Identifier: MIT */
/*
 * The grant of a claim, see grant.h. It must never keep a descriptor longer than it takes to send
 * it: otherwise the group would stay busy after its holder has let go, and the end of the lease
 * could not be detected.
 */
#include "config.h"

#include "brokerd/claim/grant.h"
#include "brokerd/lease/cdev.h"
#include "brokerd/lease/kill.h"
#include "brokerd/lease/newcomers.h"
#include "brokerd/process/log.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A grant that is being prepared, and its current step. */
struct granting {
	struct message_grant message;
	int fds[PASSFD_MAX];
	size_t n_fds;
	size_t which;			/* the index of the item that the step is about */
	const char *what;		/* the name of the step */
	struct message_refusal refusal; /* why it is refused; reason 0: the step has failed */
};

static int refuse_open_node(struct granting *g, const struct lease *lease, const char *directory,
			    uint32_t number, const struct kernel_node *node)
{
	char path[48];

	snprintf(path, sizeof(path), "/dev/vfio/%s%" PRIu32, directory, number);
	refuse_node(&g->refusal, &lease->asked, lease->group, path, node->uid, node->mode);
	if (!lease_has_address(lease))
		refusal_name_lease(&g->refusal, lease);
	return -EACCES;
}

/*
 * Refuses a lease if others than root may open one of its nodes: they could do so the moment its
 * holder lets go of it, and a device's own node even before. Returns 0, or -EACCES.
 */
static int check_nodes(struct granting *g, const struct lease *lease)
{
	struct kernel_node node;
	uint32_t number;

	if (kernel_node_is_open(g->fds[g->n_fds - 1], &node))
		return refuse_open_node(g, lease, "", lease->group, &node);
	if (cdevs_are_open(lease, &number, &node))
		return refuse_open_node(g, lease, "devices/vfio", number, &node);
	return 0;
}

static int open_group(struct granting *g, struct lease *lease)
{
	const struct kernel *kernel = leases_of(lease)->kernel;
	struct kernel_node node;
	int r;

	g->what = "opening its IOMMU group";
	r = g->fds[g->n_fds] = kernel_group_open(kernel, lease->group);
	if (r == -EBUSY)
		refuse_foreign(&g->refusal, &lease->asked, lease->group);
	/* Root without capabilities cannot open a node that is another user's alone. */
	if (r == -EACCES && kernel_group_is_open(kernel, lease->group, &node))
		return refuse_open_node(g, lease, "", lease->group, &node);
	if (r < 0)
		return r;
	g->n_fds++;
	r = check_nodes(g, lease);
	if (r)
		return r;
	r = kernel_group_viable(g->fds[g->n_fds - 1]);
	if (r) {
		g->what = "the kernel finds its IOMMU group not viable: something in it is still "
			  "bound to a host driver";
		return r == -EPERM ? -EBUSY : r;
	}
	g->what = "watching its IOMMU group";
	lease->watch = r = kernel_group_watch(kernel, lease->group);
	return r < 0 ? r : 0;
}

/*
 * Checks that the group is still the one that the claim was decided on: a function that came
 * meanwhile has not been judged. Once the lease is lent, lease/hotplug.c judges what comes. Returns
 * 0, or -errno.
 */
static int check_members(struct granting *g, const struct lease *lease)
{
	int n = lease_newcomers(lease, NULL, 0);

	g->what = n > 0 ? "a function has come into its IOMMU group meanwhile; try again"
			: "reading its IOMMU group";
	return n > 0 ? -EAGAIN : n;
}

static int open_groups(struct claim *claim, struct granting *g)
{
	struct lease *leases[PROTOCOL_SELECTORS_MAX];
	int r = 0;

	for (size_t i = 0; !r && i < claim->n; i++) {
		leases[i] = claim->items[i].lease;
		g->which = i;
		r = check_members(g, leases[i]);
		if (r)
			break;
		lease_report_progress(leases[i], GPUBROKER_STEP_OPEN, &leases[i]->asked,
				      (uint32_t)i + 1, (uint32_t)claim->n);
		r = open_group(g, leases[i]);
	}
	if (r || !claim->cdevs)
		return r;
	g->what = "opening its device node";
	return cdevs_open(claim->claims->kernel, leases, claim->n, &g->message, g->fds, &g->n_fds,
			  &g->which);
}

/* Raises the claimant's limit of locked memory. Returns 0, or -errno. */
static int raise_memlock(struct claim *claim, struct granting *g)
{
	int r;

	g->message.memlock = claim->memlock;
	if (!claim->memlock)
		return 0;
	g->what = "raising the limit of locked memory";
	r = claim->claimant->ops->raise_memlock(claim->claimant, claim->memlock);
	if (r != -EPERM)
		return r;
	/*
	 * The broker was started without CAP_SYS_RESOURCE. The grant is useful without it; `run`
	 * warns about the limit.
	 */
	log_error("a rule grants memlock, but the broker has no CAP_SYS_RESOURCE to raise it");
	g->message.memlock = 0;
	return 0;
}

/*
 * Sends everything in one packet, so that the claimant gets all or nothing. Returns 0, or -errno.
 */
static int send_grant(struct claim *claim, struct granting *g)
{
	int r;

	g->which = 0;
	r = raise_memlock(claim, g);
	if (r)
		return r;
	for (size_t i = 0; i < claim->n; i++) {
		const struct lease *lease = claim->items[i].lease;
		struct granted_group *group = &g->message.groups[i];

		group->lease = lease->id;
		group->group = lease->group;
		group->address = lease->asked;
		memcpy(group->parent, lease->mdev.parent, sizeof(group->parent));
		memcpy(group->uuid, lease->mdev.uuid, sizeof(group->uuid));
	}
	g->what = "sending it";
	return claim->claimant->ops->grant(claim->claimant, &g->message, g->fds, g->n_fds);
}

static void unwatch_all(struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->items[i].lease;

		kernel_group_unwatch(claim->claims->kernel, lease->watch);
		lease->watch = -1;
		cdevs_unwatch(lease);
	}
}

bool claim_grant(struct claim *claim)
{
	struct granting g = {
		.message = { .type = MESSAGE_GRANT, .n_groups = (uint32_t)claim->n },
		.what = "",
	};
	int r = open_groups(claim, &g);

	if (!r)
		r = send_grant(claim, &g);
	if (r)
		unwatch_all(claim); /* our own close must not be taken for the end of a lease */
	for (size_t i = 0; !r && i < claim->n; i++) {
		claim->items[i].lease->lent = true;
		kill_note_nodes(claim->items[i].lease);
		lease_transition(claim->items[i].lease, LEASE_SENT);
	}
	while (g.n_fds)
		fd_close(g.fds[--g.n_fds]);
	if (r && g.refusal.reason)
		claim_refuse(claim, &g.refusal);
	else if (r)
		claim_fail(claim, claim->items[g.which].lease, NULL, g.what, -r);
	return !r;
}
