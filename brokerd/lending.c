/* SPDX-License-Identifier: MIT */
/*
 * How a lease comes true and ends:
 *
 *	claim: resolve (which groups) -> decide (group.c) -> record -> worker binds -> check -> open
 *	       -> send -> close
 *	end:   inotify -> open, to have it alone -> worker restores -> check -> forget
 *
 * Owns claims and drives leases through lease.c's table. It must never change a function that is not recorded,
 * never keep a lent group open, and never wait: what may take time is a worker's, and comes back here as an
 * event. A claim is all or nothing: as soon as one of its groups fails, all are put back, and only then is
 * the peer told.
 */
#include "config.h"

#include "brokerd/daemon.h"
#include "brokerd/log.h"
#include "brokerd/record.h"
#include "brokerd/worker.h"
#include "client/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define VFIO_DRIVER "vfio-pci"

struct claim {
	TAILQ_ENTRY(claim) link;
	struct daemon *daemon;
	struct peer *peer; /* NULL: gone, and the claim with it */
	size_t n;
	struct lease *leases[PROTOCOL_SELECTORS_MAX];
	struct group_view *views[PROTOCOL_SELECTORS_MAX]; /* while it is decided */
	struct pci_address asked[PROTOCOL_SELECTORS_MAX];
	uint64_t memlock; /* to raise to; 0: not at all */
	char rules[PROTOCOL_SELECTORS_MAX][288]; /* which allowed it, as file:line */
	bool failed;
	struct message_refusal refusal;
};

static void claim_advance(struct claim *claim);
static void lease_restore(struct daemon *daemon, struct lease *lease);

/* ---- deciding ---- */

static int refuse_plain(struct message_refusal *ret_refusal, uint32_t reason, const struct selector *selector)
{
	struct message_refusal r = refusal_make(reason);

	if (selector->kind == SELECT_ADDRESS) {
		r.address = selector->address;
		r.has_address = 1;
	} else if (selector->kind == SELECT_GROUP) {
		r.group = selector->group;
	} else if (selector->kind == SELECT_NAME) {
		memcpy(r.name, selector->name, sizeof(r.name));
	}
	*ret_refusal = r;
	return (int)reason;
}

static int refuse_held(struct message_refusal *ret_refusal, const struct lease *lease,
		       const struct pci_address *address)
{
	bool stuck = lease->state == GPUBROKER_LEASE_STUCK;
	struct message_refusal r = refusal_make(stuck ? GPUBROKER_REFUSED_STUCK : GPUBROKER_REFUSED_BUSY);

	r.address = *address;
	r.has_address = 1;
	r.group = lease->group;
	r.holder_uid = lease->uid;
	r.holder_pid = lease->pid;
	r.since = lease->since;
	r.lease = lease->id;
	if (stuck)
		snprintf(r.detail, sizeof(r.detail), "%.*s", (int)sizeof(r.detail) - 1, lease->reason);
	else if (lease_is_leaving(lease))
		strcpy(r.detail, "releasing");
	*ret_refusal = r;
	return (int)r.reason;
}

static int refuse_fault(struct message_refusal *ret_refusal, const struct selector *selector, const char *what,
			int error)
{
	int reason = refuse_plain(ret_refusal, GPUBROKER_REFUSED_FAILED, selector);

	snprintf(ret_refusal->detail, sizeof(ret_refusal->detail), "%s", what);
	ret_refusal->error = -error;
	return reason;
}

/* The claim's own index of a group that an earlier selector brought, or SIZE_MAX. */
static size_t claim_group(const struct claim *claim, uint32_t group)
{
	for (size_t i = 0; i < claim->n; i++)
		if (claim->views[i]->group == group)
			return i;
	return SIZE_MAX;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Takes a group that was read into the claim, if the policy and the guards let it. */
static int claim_take(struct claim *claim, const struct policy_subject *subject, uint32_t flags,
		      struct group_view *view, size_t asked, struct message_refusal *ret_refusal)
{
	struct daemon *daemon = claim->daemon;
	struct pci_address address = view->functions[asked].facts.address;
	struct policy_verdict verdict;
	struct lease *lease;
	int r;

	r = group_decide(view, &daemon->policy, subject, asked, flags, &verdict, ret_refusal);
	if (r)
		return r;
	lease = lease_find_group(&daemon->leases, view->group);
	if (lease)
		return refuse_held(ret_refusal, lease, &address);
	claim->memlock = larger(claim->memlock, verdict.memlock);
	rule_origin(&daemon->policy, verdict.rule, claim->rules[claim->n]);
	claim->asked[claim->n] = address;
	claim->views[claim->n++] = view;
	return 0;
}

/*
 * The answer for a function that cannot be lent at all: by its reason only to those whom the policy would let have it.
 */
static int refuse_unlendable(const struct claim *claim, const struct policy_subject *subject,
			     const struct selector *selector, const struct pci_address *address,
			     uint32_t group, uint32_t reason, const char *detail,
			     struct message_refusal *ret_refusal)
{
	struct group_view *view = calloc(1, sizeof(*view));
	struct policy_verdict verdict;
	int r = 0;

	if (!view)
		return refuse_fault(ret_refusal, selector, "claim", -ENOMEM);
	view->group = group;
	if (!kernel_function_read(&claim->daemon->kernel, address, &view->functions[0])) {
		view->n_functions = 1;
		r = group_decide(view, &claim->daemon->policy, subject, 0, 0, &verdict, ret_refusal);
	}
	free(view);
	if (r == GPUBROKER_REFUSED_POLICY)
		return r;
	refuse_plain(ret_refusal, reason, selector);
	ret_refusal->group = group;
	snprintf(ret_refusal->detail, sizeof(ret_refusal->detail), "%s", detail);
	return (int)reason;
}

/* Reads a group and takes it. `address` is the function asked for, or NULL: the first one that is allowed. */
static int claim_group_by(struct claim *claim, const struct policy_subject *subject,
			  const struct message_claim *request, const struct selector *selector,
			  uint32_t group, const struct pci_address *address,
			  struct message_refusal *ret_refusal)
{
	struct message_refusal first;
	struct group_view *view;
	size_t asked = 0;
	int r, first_reason = 0;

	if (claim->n == PROTOCOL_SELECTORS_MAX)
		return refuse_fault(ret_refusal, selector, "too many groups in one claim", 0);
	view = calloc(1, sizeof(*view));
	if (!view)
		return refuse_fault(ret_refusal, selector, "claim", -ENOMEM);
	r = kernel_group_read(&claim->daemon->kernel, group, view);
	if (!r && address)
		asked = group_find(view, address);
	if (r || !view->n_functions || asked == SIZE_MAX) {
		free(view);
		if (r && r != -ENODEV)
			return refuse_fault(ret_refusal, selector, "reading its IOMMU group", r);
		if (r)
			return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
		if (address)
			return refuse_unlendable(claim, subject, selector, address, group,
						 GPUBROKER_REFUSED_NOT_VIABLE,
						 "lends only what is no bridge, and that is one", ret_refusal);
		refuse_plain(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, selector);
		ret_refusal->group = group;
		strcpy(ret_refusal->detail, "has only bridges");
		return GPUBROKER_REFUSED_NOT_VIABLE;
	}
	do {
		r = claim_take(claim, subject, request->flags, view, asked, ret_refusal);
		if (!first_reason) {
			first_reason = r;
			first = *ret_refusal;
		}
	} while (r == GPUBROKER_REFUSED_POLICY && !address && ++asked < view->n_functions);
	if (r) {
		free(view);
		*ret_refusal = first;
		return first_reason;
	}
	return 0;
}

static int claim_address(struct claim *claim, const struct policy_subject *subject,
			 const struct message_claim *request, const struct selector *selector,
			 const struct pci_address *address, struct message_refusal *ret_refusal)
{
	uint32_t group;
	size_t i;
	int r = kernel_group_of(&claim->daemon->kernel, address, &group);

	if (r == -ENODEV)
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
	if (r)
		return refuse_fault(ret_refusal, selector, "reading its IOMMU group", r);
	if (group == UINT32_MAX)
		return refuse_unlendable(claim, subject, selector, address, group,
					 GPUBROKER_REFUSED_NO_GROUP, "", ret_refusal);
	i = claim_group(claim, group);
	if (i != SIZE_MAX && group_find(claim->views[i], address) != SIZE_MAX)
		return 0; /* comes along already */
	return claim_group_by(claim, subject, request, selector, group, address, ret_refusal);
}

/*
 * The first free device that a name, or "any", may mean. Candidates come from the watcher's table; each is read
 * from sysfs before anything is decided. If none can be had, the answer is about the nearest miss: one that is
 * only held by somebody, before one that the policy refuses.
 */
static int claim_candidate(struct claim *claim, const struct policy_subject *subject,
			   const struct message_claim *request, const struct selector *selector,
			   uint32_t name, struct message_refusal *ret_refusal)
{
	struct daemon *daemon = claim->daemon;
	struct selector here = { .kind = SELECT_ADDRESS };
	int nearest = 0;

	for (size_t i = 0; i < daemon->devices.n; i++) {
		const struct device *device = &daemon->devices.list[i];
		struct policy_facts facts = device_facts(device);
		struct message_refusal refusal;
		int r;

		if (name == POLICY_NO_NAME ? !device_is_gpu(device) :
					     !policy_name_matches(&daemon->policy, name, &facts))
			continue;
		if (facts.iommu_group != UINT32_MAX && claim_group(claim, facts.iommu_group) != SIZE_MAX)
			continue; /* of two GPUs asked for, each is another one */
		here.address = facts.address;
		r = claim_address(claim, subject, request, &here, &here.address, &refusal);
		if (!r)
			return 0;
		if (!nearest || (nearest == GPUBROKER_REFUSED_POLICY && r != GPUBROKER_REFUSED_POLICY) ||
		    (r == GPUBROKER_REFUSED_BUSY && nearest != GPUBROKER_REFUSED_BUSY)) {
			nearest = r;
			*ret_refusal = refusal;
		}
	}
	if (!nearest)
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
	/* "No rule allows you any GPU" is true where it would be misleading to name just one. */
	if (nearest == GPUBROKER_REFUSED_POLICY && !ret_refusal->rule[0])
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_POLICY, selector);
	return nearest;
}

static int claim_select(struct claim *claim, const struct policy_subject *subject,
			const struct message_claim *request, const struct selector *selector,
			struct message_refusal *ret_refusal)
{
	uint32_t name = POLICY_NO_NAME;

	switch ((enum selector_kind)selector->kind) {
	case SELECT_ADDRESS:
		return claim_address(claim, subject, request, selector, &selector->address, ret_refusal);
	case SELECT_GROUP:
		if (claim_group(claim, selector->group) != SIZE_MAX)
			return 0;
		return claim_group_by(claim, subject, request, selector, selector->group, NULL, ret_refusal);
	case SELECT_NAME:
		if (policy_name_find(&claim->daemon->policy, selector->name, &name))
			return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_NAME, selector);
		return claim_candidate(claim, subject, request, selector, name, ret_refusal);
	case SELECT_ANY:
		return claim_candidate(claim, subject, request, selector, POLICY_NO_NAME, ret_refusal);
	}
	return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, selector);
}

static int claim_decide(struct claim *claim, const struct message_claim *request,
			struct message_refusal *ret_refusal)
{
	struct policy_subject subject;
	int r;

	if (!claim->daemon->policy_good || claim->daemon->quitting)
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_NOT_READY, &request->selectors[0]);
	/* Who cannot be looked up may have nothing. */
	r = peer_subject(claim->peer, &subject);
	if (r) {
		log_error("cannot tell the groups of uid %" PRIu32 ": %s", claim->peer->uid, strerror(-r));
		return refuse_plain(ret_refusal, GPUBROKER_REFUSED_POLICY, &request->selectors[0]);
	}
	for (uint32_t i = 0; i < request->n_selectors; i++) {
		r = claim_select(claim, &subject, request, &request->selectors[i], ret_refusal);
		if (r)
			return r;
	}
	if (request->memlock > claim->memlock) {
		refuse_plain(ret_refusal, GPUBROKER_REFUSED_MEMLOCK, &request->selectors[0]);
		ret_refusal->limit = claim->memlock;
		memcpy(ret_refusal->rule, claim->rules[0], sizeof(ret_refusal->rule));
		return GPUBROKER_REFUSED_MEMLOCK;
	}
	if (request->memlock)
		claim->memlock = request->memlock;
	if (claim->daemon->leases.n + claim->n > LEASES_MAX) {
		refuse_plain(ret_refusal, GPUBROKER_REFUSED_QUOTA, &request->selectors[0]);
		snprintf(ret_refusal->detail, sizeof(ret_refusal->detail),
			 "there are %d leases, which is as many as the broker keeps", LEASES_MAX);
		return GPUBROKER_REFUSED_QUOTA;
	}
	return 0;
}

/* ---- binding and restoring ---- */

/* Adds a function's steps on the way to its VFIO driver. */
static int add_bind_steps(const struct kernel *kernel, struct work *work, const struct function *f)
{
	const struct pci_address *address = &f->facts.address;
	char text[PCI_ADDRESS_TEXT];
	int r;

	if (driver_is_vfio(f->driver))
		return 0;
	pci_address_format(address, text);
	r = work_add(work, kernel_open_override(kernel, address), VFIO_DRIVER "\n", "driver_override", address);
	if (!r && f->driver[0])
		r = work_add(work, kernel_open_unbind(kernel, address), text, "unbind", address);
	if (!r)
		r = work_add(work, kernel_open_probe(kernel), text, "drivers_probe", address);
	return r;
}

/*
 * Adds the steps that are still missing to what was recorded. First all are taken off VFIO, then each is given back, since
 * a host driver may not bind while another function of its group is a user's.
 */
static int add_restore_steps(const struct kernel *kernel, struct work *work, const struct lease *lease,
			     bool give_back)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];
		char text[PCI_ADDRESS_TEXT], override[PROTOCOL_NAME_MAX + 1];
		struct function now;
		int r = kernel_function_read(kernel, &was->address, &now), fd;

		if (r == -ENODEV)
			continue; /* unplugged: nothing to give back */
		if (r)
			return r;
		pci_address_format(&was->address, text);
		if (!give_back) {
			if (strcmp(now.override, was->override) != 0) {
				/* A newline alone clears it; an empty write would not. */
				snprintf(override, sizeof(override), "%s\n", was->override);
				r = work_add(work, kernel_open_override(kernel, &was->address), override,
					     "driver_override", &was->address);
			}
			/* A driver that is neither ours nor the recorded one is somebody's wish: leave it. */
			if (!r && strcmp(now.driver, was->driver) != 0 && driver_is_vfio(now.driver))
				r = work_add(work, kernel_open_unbind(kernel, &was->address), text, "unbind",
					     &was->address);
		} else if (was->driver[0] && strcmp(now.driver, was->driver) != 0 &&
			   (!now.driver[0] || driver_is_vfio(now.driver))) {
			fd = kernel_open_bind(kernel, was->driver);
			if (fd == -ENOENT) /* its module was unloaded: whoever wants it may have it */
				fd = kernel_open_probe(kernel);
			r = work_add(work, fd, text, "bind", &was->address);
		}
		if (r)
			return r;
	}
	return 0;
}

static void tell_step(struct lease *lease, enum gpubroker_step step, const struct pci_address *address,
		      uint32_t index, uint32_t total)
{
	const struct message_step message = {
		.type = MESSAGE_STEP,
		.step = step,
		.address = *address,
		.group = lease->group,
		.index = index,
		.total = total,
	};

	if (lease->claim && lease->claim->peer)
		peer_step(lease->claim->peer, &message);
}

static void claim_fail(struct claim *claim, const struct lease *lease, const struct pci_address *address,
		       const char *what, int error)
{
	if (claim->failed)
		return;
	claim->failed = true;
	claim->refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
	claim->refusal.group = lease->group;
	claim->refusal.address = lease->asked;
	claim->refusal.has_address = 1;
	if (address && pci_address_compare(address, &lease->asked) != 0) {
		claim->refusal.other = *address;
		claim->refusal.has_other = 1;
	}
	snprintf(claim->refusal.detail, sizeof(claim->refusal.detail), "%s", what);
	claim->refusal.error = error;
}

/* Forgets a lease that is over: the host has everything back. */
static void lease_end(struct daemon *daemon, struct lease *lease)
{
	int r = record_remove(daemon->state_dir, lease->id);

	if (r) /* it would be taken up at the next start, found restored, and removed then */
		log_error("lease %" PRIu64 ": its record cannot be removed: %s", lease->id, strerror(-r));
	log_info("lease=%" PRIu64 " uid=%" PRIu32 " group=%" PRIu32 " outcome=ended", lease->id, lease->uid,
		 lease->group);
	kernel_group_unwatch(&daemon->kernel, lease->watch);
	fd_close(lease->regained);
	if (lease->timer)
		event_free(lease->timer);
	lease_free(&daemon->leases, lease);
}

/* Says why a lease is stuck: "0000:01:00.0: unbind: Device or resource busy". */
static void lease_stick(struct lease *lease, const struct pci_address *address, const char *what, const char *why)
{
	char text[PCI_ADDRESS_TEXT];

	snprintf(lease->reason, sizeof(lease->reason), "%s: %s%s%s", pci_address_format(address, text), what,
		 *why ? ": " : "", why);
	log_error("lease=%" PRIu64 " group=%" PRIu32 " outcome=stuck reason=\"%s\"", lease->id, lease->group,
		  lease->reason);
}

static void on_work_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct lease *lease = userdata;
	struct claim *claim = lease->claim;

	if (!lease_advance(lease, LEASE_LATE))
		return;
	lease_stick(lease, address, what, "has not come back from the kernel");
	if (!claim)
		return;
	if (!claim->failed) {
		claim->failed = true;
		refuse_held(&claim->refusal, lease, address);
	}
	claim_advance(claim);
}

static const char *why_not_bound(const struct kernel *kernel)
{
	int fd = kernel_open_bind(kernel, VFIO_DRIVER);

	fd_close(fd);
	return fd == -ENOENT ? "the driver vfio-pci is not there; 'modprobe vfio-pci' loads it" :
			       "vfio-pci did not take it";
}

/* Is every function of the lease on a VFIO driver? The one that is not, in *ret_function. */
static bool all_on_vfio(const struct kernel *kernel, const struct lease *lease, struct function *ret_function)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		*ret_function = (struct function){ .facts.address = lease->functions[i].address };
		if (kernel_function_read(kernel, &lease->functions[i].address, ret_function) ||
		    !driver_is_vfio(ret_function->driver))
			return false;
	}
	return true;
}

static void lease_bound(struct lease *lease)
{
	struct claim *claim = lease->claim;
	struct function f;

	if (!all_on_vfio(&claim->daemon->kernel, lease, &f))
		claim_fail(claim, lease, &f.facts.address, why_not_bound(&claim->daemon->kernel), 0);
	else
		lease_advance(lease, LEASE_BOUND);
	claim_advance(claim);
}

static void on_bind_begun(void *userdata, const struct pci_address *address, uint32_t index, uint32_t total)
{
	tell_step(userdata, GPUBROKER_STEP_BIND, address, index, total);
}

static void on_bind_done(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;
	struct claim *claim = lease->claim;

	lease->work = NULL;
	if (lease->state == GPUBROKER_LEASE_STUCK || !claim) {
		/* Late, but back: the claim was answered long ago. */
		if (lease_advance(lease, LEASE_ABANDON))
			lease_restore(daemon, lease);
	} else if (result->error) {
		claim_fail(claim, lease, &result->address, result->what, result->error);
		claim_advance(claim);
	} else {
		lease_bound(lease);
	}
	daemon_quit_if_idle(daemon);
}

/* Compares with the record. NULL: as it was; else what is wrong. */
static const char *not_as_before(const struct kernel *kernel, const struct lease *lease,
				 struct pci_address *ret_address)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];
		struct function now;
		int r = kernel_function_read(kernel, &was->address, &now);

		*ret_address = was->address;
		if (r == -ENODEV)
			continue;
		if (r)
			return "cannot be read";
		if (strcmp(now.override, was->override) != 0)
			return "its driver override could not be put back";
		if (strcmp(now.driver, was->driver) != 0 && (!now.driver[0] || driver_is_vfio(now.driver)))
			return "did not go back to its driver";
	}
	return NULL;
}

static void restore_over(struct daemon *daemon, struct lease *lease, const char *what,
			 const struct pci_address *address, int error)
{
	struct claim *claim = lease->claim;

	if (what) {
		lease_advance(lease, LEASE_FAILED);
		lease_stick(lease, address, what, error ? strerror(error) : "");
	} else {
		lease->claim = NULL;
		for (size_t i = 0; claim && i < claim->n; i++)
			if (claim->leases[i] == lease)
				claim->leases[i] = NULL;
		lease_end(daemon, lease);
	}
	if (claim)
		claim_advance(claim);
	daemon_quit_if_idle(daemon);
}

static void on_restore_begun(void *userdata, const struct pci_address *address, uint32_t index, uint32_t total)
{
	tell_step(userdata, GPUBROKER_STEP_RESTORE, address, index, total);
}

static void on_give_back_done(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;
	struct pci_address address = result->address;
	const char *what;

	lease->work = NULL;
	what = not_as_before(&daemon->kernel, lease, &address);
	if (what && result->error)
		restore_over(daemon, lease, result->what, &result->address, result->error);
	else
		restore_over(daemon, lease, what, &address, 0);
}

/* The second half: each function is given back. What of it failed is judged by looking, when it is over. */
static void on_take_off_done(void *userdata, const struct work_result *result)
{
	static const struct work_ops ops = {
		.begun = on_restore_begun,
		.done = on_give_back_done,
		.late = on_work_late,
	};
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;
	struct pci_address address = lease->functions[0].address;
	struct work *work;
	int r;

	lease->work = NULL;
	if (result->error) {
		restore_over(daemon, lease, result->what, &result->address, result->error);
		return;
	}
	work = work_new(&ops, lease);
	r = work ? add_restore_steps(&daemon->kernel, work, lease, true) : -ENOMEM;
	if (!r && !work_steps(work)) {
		work_free(work);
		restore_over(daemon, lease, not_as_before(&daemon->kernel, lease, &address), &address, 0);
		return;
	}
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (r) {
		work_free(work);
		restore_over(daemon, lease, "giving it back", &address, -r);
		return;
	}
	lease->work = work;
}

/* The first half of RESTORING: overrides as they were, and off VFIO. */
static void lease_restore(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = {
		.done = on_take_off_done,
		.late = on_work_late,
	};
	static const struct work_result nothing_to_do;
	struct work *work = work_new(&ops, lease);
	int r = work ? add_restore_steps(&daemon->kernel, work, lease, false) : -ENOMEM;

	lease->reason[0] = '\0';
	if (!r && !work_steps(work)) {
		work_free(work);
		on_take_off_done(lease, &nothing_to_do);
		return;
	}
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (r) {
		work_free(work);
		restore_over(daemon, lease, "taking it off VFIO", &lease->functions[0].address, -r);
		return;
	}
	lease->work = work;
}

/* ---- the end of a lease ---- */

static void lease_look(struct daemon *daemon, struct lease *lease);

static void on_look_again(evutil_socket_t fd, short what, void *userdata)
{
	struct lease *lease = userdata;

	(void)fd;
	(void)what;
	lease_look(lease->owner, lease);
}

/*
 * inotify speaks at the beginning of the kernel's release of the file, so the group may be busy a moment longer: ten times
 * in the first second, then every second for as long as it takes. Only a lease that was closed, or was found in a record,
 * is looked at so; the record's for a minute, since for it the close may lie in the past.
 */
static void look_again(struct daemon *daemon, struct lease *lease)
{
	const unsigned quick = 10;
	struct timeval after = { .tv_usec = 20000 << (lease->tries < 4 ? lease->tries : 4) };

	if (lease->tries >= quick)
		after = (struct timeval){ .tv_sec = 1 };
	if (lease->state == GPUBROKER_LEASE_LEASED && lease->tries > 60)
		return;
	lease->tries++;
	if (!lease->timer)
		lease->timer = evtimer_new(daemon->base, on_look_again, lease);
	if (!lease->timer || evtimer_add(lease->timer, &after))
		log_error("lease %" PRIu64 ": no memory for a timer", lease->id);
}

/* Tries to have the group alone. If so, nobody has it any more, nobody can get it, and it goes back. */
static void lease_look(struct daemon *daemon, struct lease *lease)
{
	int fd;

	if (lease->work || lease->state == GPUBROKER_LEASE_RESTORING || lease->state == GPUBROKER_LEASE_STUCK)
		return;
	fd = kernel_group_open(&daemon->kernel, lease->group);
	/* -ENOENT, -ENODEV: no function of it is on VFIO, so there is nothing that anybody could hold. */
	if (fd < 0 && fd != -ENOENT && fd != -ENODEV && fd != -ENXIO) {
		look_again(daemon, lease);
		return;
	}
	lease->regained = fd >= 0 ? fd : -1;
	kernel_group_unwatch(&daemon->kernel, lease->watch);
	lease->watch = -1;
	if (lease_advance(lease, LEASE_REGAINED))
		lease_restore(daemon, lease);
}

static void lease_closed(struct daemon *daemon, struct lease *lease)
{
	if (!lease_advance(lease, LEASE_CLOSED))
		return;
	lease->tries = 0;
	lease_look(daemon, lease);
}

void lending_watch(struct daemon *daemon)
{
	int watch;

	while ((watch = kernel_watch_read(&daemon->kernel)) != -EAGAIN) {
		struct lease *lease, *next;

		if (watch >= 0) {
			lease = lease_find_watch(&daemon->leases, watch);
			if (lease)
				lease_closed(daemon, lease);
			continue;
		}
		/* Events were lost: any lease may have ended. */
		log_warning("inotify: %s; looking at every lease", strerror(-watch));
		for (lease = TAILQ_FIRST(&daemon->leases.list); lease; lease = next) {
			next = TAILQ_NEXT(lease, link);
			if (lease->state == GPUBROKER_LEASE_LEASED) {
				lease->tries = 0;
				lease_look(daemon, lease);
			}
		}
		if (watch != -EOVERFLOW)
			return;
	}
}

void lending_take_up(struct daemon *daemon, struct lease *lease)
{
	struct function f;
	int watch;

	lease->owner = daemon;
	/* Watch first, look then: a close in between is heard. */
	watch = kernel_group_watch(&daemon->kernel, lease->group);
	lease->watch = watch >= 0 ? watch : -1;
	if (all_on_vfio(&daemon->kernel, lease, &f))
		lease_advance(lease, LEASE_SENT); /* perhaps still held; if not, lease_look() finds out */
	lease_look(daemon, lease);
}

bool lending_is_busy(const struct daemon *daemon)
{
	const struct lease *lease;

	TAILQ_FOREACH(lease, &daemon->leases.list, link)
		if (lease->work && lease->state != GPUBROKER_LEASE_STUCK)
			return true;
	return false;
}

/* ---- claims ---- */

static void log_refused(const struct peer *peer, const struct message_refusal *r)
{
	char address[PCI_ADDRESS_TEXT] = "-";

	if (r->has_address)
		pci_address_format(&r->address, address);
	log_info("uid=%" PRIu32 " pid=%" PRIu32 " device=%s name=%.*s rule=%s outcome=refused reason=%s",
		 peer->uid, peer->pid, address, PROTOCOL_NAME_MAX - 1, r->name[0] ? r->name : "-",
		 r->rule[0] ? r->rule : "-", refusal_name(r->reason));
}

static void claim_free(struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		free(claim->views[i]);
		if (claim->leases[i])
			claim->leases[i]->claim = NULL;
	}
	if (claim->peer)
		claim->peer->claim = NULL;
	TAILQ_REMOVE(&claim->daemon->claims, claim, link);
	free(claim);
}

/* Sends all groups in one packet, so that a peer has all or none. 0, or what failed for which lease. */
static int claim_send(struct claim *claim, const int *fds, size_t *ret_which, const char **ret_what)
{
	struct message_grant grant = {
		.type = MESSAGE_GRANT,
		.n_groups = (uint32_t)claim->n,
		.memlock = claim->memlock,
	};
	struct peer *peer = claim->peer;
	int r;

	*ret_which = 0;
	if (claim->memlock) {
		*ret_what = "raising the limit of locked memory";
		r = kernel_memlock_raise(peer->pidfd, (int)peer->pid, claim->memlock);
		if (r == -EPERM) {
			/* Started without CAP_SYS_RESOURCE. The device is as good; `run` will warn of the limit. */
			log_error("a rule grants memlock, but the broker has no CAP_SYS_RESOURCE to raise it");
			grant.memlock = 0;
		} else if (r) {
			return r;
		}
	}
	for (size_t i = 0; i < claim->n; i++) {
		grant.groups[i].lease = claim->leases[i]->id;
		grant.groups[i].group = claim->leases[i]->group;
		grant.groups[i].address = claim->asked[i];
	}
	*ret_what = "sending it";
	return peer_grant(peer, &grant, fds, claim->n);
}

/* Opens every group, sends, closes. Between open and close nothing else happens in this process. */
static void claim_grant(struct claim *claim)
{
	struct daemon *daemon = claim->daemon;
	int fds[PROTOCOL_SELECTORS_MAX], r = 0;
	size_t n = 0, which = 0;
	const char *what = "";

	for (; !r && n < claim->n; n++) {
		struct lease *lease = claim->leases[n];

		which = n;
		what = "opening its IOMMU group";
		tell_step(lease, GPUBROKER_STEP_OPEN, &claim->asked[n], (uint32_t)n + 1, (uint32_t)claim->n);
		r = fds[n] = kernel_group_open(&daemon->kernel, lease->group);
		if (r < 0)
			break;
		r = kernel_group_viable(fds[n]);
		if (r) {
			what = "the kernel finds its IOMMU group not viable: something in it is still bound to a "
			       "host driver";
			r = r == -EPERM ? -EBUSY : r;
		} else {
			what = "watching its IOMMU group";
			lease->watch = r = kernel_group_watch(&daemon->kernel, lease->group);
			r = r < 0 ? r : 0;
		}
	}
	if (!r)
		r = claim_send(claim, fds, &which, &what);
	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->leases[i];

		if (!r) {
			lease_advance(lease, LEASE_SENT);
		} else {
			/* What we close ourselves is no end of a lease. */
			kernel_group_unwatch(&daemon->kernel, lease->watch);
			lease->watch = -1;
		}
		if (i < n)
			fd_close(fds[i]);
	}
	if (r)
		claim_fail(claim, claim->leases[which], NULL, what, -r);
}

static void claim_granted(struct claim *claim)
{
	for (size_t i = 0; i < claim->n; i++) {
		char text[PCI_ADDRESS_TEXT];

		log_info("lease=%" PRIu64 " uid=%" PRIu32 " pid=%" PRIu32 " device=%s group=%" PRIu32
			 " rule=%s outcome=granted",
			 claim->leases[i]->id, claim->peer->uid, claim->peer->pid,
			 pci_address_format(&claim->asked[i], text), claim->leases[i]->group, claim->rules[i]);
	}
	claim_free(claim);
}

/*
 * Looks where the claim stands and does what is next: nothing while a worker is at it, the grant when all groups are
 * ready, and after a failure first the way back, then the answer.
 */
static void claim_advance(struct claim *claim)
{
	struct daemon *daemon = claim->daemon;
	size_t ready = 0, under_way = 0;
	struct peer *peer;

	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->leases[i];

		if (!lease || lease->state == GPUBROKER_LEASE_STUCK)
			continue;
		if (lease->state == GPUBROKER_LEASE_READY)
			ready++;
		else if (lease->work)
			under_way++;
	}
	if (!claim->peer && !claim->failed)
		claim_fail(claim, claim->leases[0], NULL, "the claimer is gone", 0);
	if (!claim->failed && ready == claim->n) {
		claim_grant(claim);
		if (!claim->failed) {
			claim_granted(claim);
			return;
		}
	}
	if (!claim->failed || under_way)
		return;

	/* Failed, and no worker is at it: each group that is not on its way back goes now. */
	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->leases[i];

		if (lease && !lease->work && lease->state != GPUBROKER_LEASE_RESTORING &&
		    lease->state != GPUBROKER_LEASE_STUCK && lease_advance(lease, LEASE_ABANDON)) {
			/* Comes back here when it is over, perhaps at once, and then the claim may be gone. */
			lease_restore(daemon, lease);
			return;
		}
	}
	for (size_t i = 0; i < claim->n; i++) {
		struct lease *lease = claim->leases[i];

		if (lease && lease->state != GPUBROKER_LEASE_STUCK)
			return; /* on its way back */
		if (lease) /* what could not be put back is the worse news */
			refuse_held(&claim->refusal, lease, &lease->asked);
	}
	peer = claim->peer;
	if (peer) {
		struct message_refusal refusal = claim->refusal;

		log_refused(peer, &refusal);
		claim_free(claim);
		peer_refuse(peer, &refusal);
	} else {
		claim_free(claim);
	}
}

static struct lease *lease_begin(struct claim *claim, size_t i)
{
	const struct group_view *view = claim->views[i];
	struct daemon *daemon = claim->daemon;
	struct lease *lease = lease_new(&daemon->leases, 0, view->group);

	if (!lease)
		return NULL;
	lease->uid = claim->peer->uid;
	lease->pid = claim->peer->pid;
	lease->since = (uint64_t)time(NULL);
	lease->asked = claim->asked[i];
	lease->claim = claim;
	lease->owner = daemon;
	lease->n_functions = view->n_functions;
	for (size_t k = 0; k < view->n_functions; k++) {
		const struct function *f = &view->functions[k];
		struct lease_function *was = &lease->functions[k];

		was->address = f->facts.address;
		was->vendor = f->facts.vendor;
		was->device = f->facts.device;
		memcpy(was->driver, f->driver, sizeof(was->driver));
		memcpy(was->override, f->override, sizeof(was->override));
	}
	return lease;
}

/* Starts the worker that binds the lease's functions; a group that is on VFIO already is ready as it is. */
static void lease_bind(struct claim *claim, struct lease *lease, const struct group_view *view)
{
	static const struct work_ops ops = {
		.begun = on_bind_begun,
		.done = on_bind_done,
		.late = on_work_late,
	};
	struct work *work = work_new(&ops, lease);
	int r = work ? 0 : -ENOMEM;

	for (size_t i = 0; !r && i < view->n_functions; i++)
		r = add_bind_steps(&claim->daemon->kernel, work, &view->functions[i]);
	if (!r && !work_steps(work)) {
		work_free(work);
		lease_advance(lease, LEASE_BOUND);
		return;
	}
	if (!r)
		r = work_start(work, claim->daemon->base, claim->daemon->worker_filter, WORKER_SECONDS);
	if (r) {
		work_free(work);
		claim_fail(claim, lease, NULL, "binding to vfio-pci", -r);
		return;
	}
	lease->work = work;
}

/* Records every group first, then begins with the first: what is not recorded is not touched. */
static int claim_begin(struct claim *claim, struct message_refusal *ret_refusal)
{
	struct daemon *daemon = claim->daemon;
	const char *what = "recording the lease";
	int r = 0;

	for (size_t i = 0; !r && i < claim->n; i++) {
		claim->leases[i] = lease_begin(claim, i);
		r = claim->leases[i] ? record_write(daemon->state_dir, claim->leases[i]) : -ENOMEM;
	}
	if (r) {
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
		ret_refusal->address = claim->asked[0];
		ret_refusal->has_address = 1;
		strcpy(ret_refusal->detail, what);
		ret_refusal->error = -r;
		for (size_t i = 0; i < claim->n; i++) {
			if (!claim->leases[i])
				continue;
			record_remove(daemon->state_dir, claim->leases[i]->id);
			claim->leases[i] = lease_free(&daemon->leases, claim->leases[i]);
		}
		log_error("a lease cannot be recorded in the state directory: %s", strerror(-r));
		return GPUBROKER_REFUSED_FAILED;
	}
	for (size_t i = 0; !claim->failed && i < claim->n; i++)
		lease_bind(claim, claim->leases[i], claim->views[i]);
	return 0;
}

int lending_claim(struct peer *peer, const struct message_claim *request,
		  struct message_refusal *ret_refusal)
{
	struct claim *claim = calloc(1, sizeof(*claim));
	int r;

	if (!claim) {
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
		strcpy(ret_refusal->detail, "claim");
		ret_refusal->error = ENOMEM;
		return GPUBROKER_REFUSED_FAILED;
	}
	claim->daemon = peer->daemon;
	claim->peer = peer;
	TAILQ_INSERT_TAIL(&peer->daemon->claims, claim, link);
	r = claim_decide(claim, request, ret_refusal);
	if (!r)
		r = claim_begin(claim, ret_refusal);
	if (r) {
		log_refused(peer, ret_refusal);
		claim_free(claim);
		return r;
	}
	peer->claim = claim;
	claim_advance(claim);
	return 0;
}

void lending_abandon(struct claim *claim)
{
	claim->peer = NULL;
	claim_advance(claim);
}
