/* SPDX-License-Identifier: MIT */
/*
 * Connects the core's parts, see core.h. The only file that knows all of them. It decides nothing:
 * each callback calls the parts that are concerned, in an order that is part of the contract.
 */
#include "config.h"

#include "brokerd/core.h"
#include "brokerd/claim/allot.h"
#include "brokerd/claim/begin.h"
#include "brokerd/claim/claim.h"
#include "brokerd/claim/opening.h"
#include "brokerd/claim/rejoin.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/hooks.h"
#include "brokerd/lease/hotplug.h"
#include "brokerd/lease/kill.h"
#include "brokerd/lease/restore.h"
#include "brokerd/lease/taken.h"
#include "brokerd/peer/listener.h"
#include "brokerd/peer/reload.h"
#include "brokerd/peer/request.h"
#include "brokerd/peer/watching.h"
#include "brokerd/prepare/sriov-policy.h"
#include "brokerd/process/filter.h"
#include "brokerd/process/log.h"
#include "brokerd/process/loop.h"
#include "brokerd/serve.h"
#include "client/common/util.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define RENEWAL_PAUSE 60 /* seconds between two starts because of /dev/iommu */

static void report_change(struct core *core)
{
	if (core->ops->changed)
		core->ops->changed(core->userdata);
}

/* ---- reports of leases ---- */

static void on_lease_state(void *userdata, const struct lease *lease)
{
	struct core *core = userdata;

	watching_state(&core->peers, lease);
	report_change(core);
	/* Claims that wait for this lease are now refused, as new ones are. */
	if (lease->state == GPUBROKER_LEASE_STUCK)
		queue_mark(&core->claims.queue, lease->group);
}

static void on_lease_ending(void *userdata, const struct lease *lease)
{
	struct core *core = userdata;

	watching_ending(&core->peers, lease);
}

static void on_lease_function(void *userdata, const struct lease *lease,
			      const struct pci_address *address, bool came, const char *refused)
{
	struct core *core = userdata;

	watching_function(&core->peers, lease, address, came, refused);
}

static void on_lease_freed(void *userdata, const struct lease *lease)
{
	struct core *core = userdata;

	/* Nobody had a device that root only restores, or whose record was damaged. */
	if (lease->recorded && lease->lent && !lease->damaged[0] &&
	    strcmp(lease->terms.rule, LEASE_RULE_RESTORE) != 0)
		usage_add(&core->usage, lease);
	if (taken_for_host(lease)) /* as if root had restored it */
		prepare_leave(&core->prepare, lease->group);
	queue_mark_freed(&core->claims.queue, lease);
	allot_lease_freed(&core->claims, lease);
	report_change(core);
}

static void on_lease_resumed(void *userdata, struct lease *lease)
{
	(void)userdata;
	hotplug_look(lease);
}

static void on_few_numbers(void *userdata)
{
	struct core *core = userdata;

	numbers_reserve(&core->numbers);
}

static const struct lease_events lease_events = {
	.state = on_lease_state,
	.ending = on_lease_ending,
	.function = on_lease_function,
	.freed = on_lease_freed,
	.resumed = on_lease_resumed,
	.few_numbers = on_few_numbers,
};

/* ---- reports of the queue ---- */

static void on_claim_waits(void *userdata, const struct waiting *waiting)
{
	struct core *core = userdata;

	rejoin_note(&core->claims, waiting);
	watching_waiting(&core->peers, waiting, true);
	report_change(core);
}

static void on_claim_left(void *userdata, const struct waiting *waiting)
{
	struct core *core = userdata;

	rejoin_forget(&core->claims, waiting);
	watching_waiting(&core->peers, waiting, false);
	report_change(core);
}

static const struct queue_events queue_events = {
	.waits = on_claim_waits,
	.left = on_claim_left,
};

/* ---- reports of helpers ---- */

/*
 * The parts get a record before the device table does, while a function that has gone is still in
 * the table. The queue is last: claims that wait may get the function now.
 */
static void on_device_record(void *userdata, const struct watcher_record *record)
{
	struct core *core = userdata;
	bool came = record->type == WATCHER_DEVICE &&
		    !devices_find(&core->devices, &record->address);
	int r;

	prepare_device_seen(&core->prepare, record);
	sriov_policy_device_seen(&core->sriov, record);
	hotplug_device_seen(&core->leases, record);
	lease_device_seen(&core->leases, record);
	r = devices_take(&core->devices, record);
	if (r)
		log_error("a function cannot be listed: %s", strerror(-r));
	else if (came)
		queue_mark_all(&core->claims.queue); /* a claim may wait for it */
	report_change(core);
}

static void serve_when_ready(struct core *core)
{
	if (core->policy.known && core->devices.scanned)
		core_serve(core);
}

static void on_devices_read(void *userdata)
{
	serve_when_ready(userdata);
}

/*
 * Takes over a policy that was loaded, or a copy that was saved while the files have mistakes;
 * NULL: they have, and there is no copy.
 */
static void on_policy_loaded(void *userdata, struct policy *policy, uint64_t mistakes,
			     uint64_t saved)
{
	struct core *core = userdata;

	core->policy.mistakes = policy ? mistakes : mistakes + !mistakes;
	if (!policy && core->policy.good) {
		log_error("the policy in force stays");
		reload_ended(&core->peers, core->helpers.loads_ended);
		core->ops->policy(core->userdata, true);
		return;
	}
	if (policy) {
		if (core->policy.known)
			log_notice("the policy was loaded again: %zu rules", policy->n_rules);
		policy->owners = core->policy.policy.owners;
		core->policy.policy.owners = (struct policy_owners){ 0 };
		policy_done(&core->policy.policy);
		core->policy.policy = *policy;
	} else {
		log_error("there is no valid policy: nothing is lent");
	}
	core->policy.good = policy;
	core->policy.known = true;
	core->policy.saved = policy && mistakes;
	core->policy.loaded = core->policy.saved ? saved : (uint64_t)time(NULL);
	/* First, since the daemon may end now, to be started again with a capability. */
	reload_ended(&core->peers, core->helpers.loads_ended);
	core->ops->policy(core->userdata, false);
	if (core->serving) {
		prepare_look_at_all(&core->prepare);
		sriov_policy_look_at_all(&core->sriov);
		hotplug_look_at_all(&core->leases); /* it may have waited for a valid policy */
	}
	queue_mark_all(&core->claims.queue); /* the policy may allow waiting claims more or less */
	serve_when_ready(core);
}

/* Takes over whose the subordinate uids are. Whatever is counted for a user is counted anew. */
static void on_owners_loaded(void *userdata, struct policy_owners *owners)
{
	struct core *core = userdata;

	policy_owners_done(&core->policy.policy.owners);
	core->policy.policy.owners = *owners;
	peers_count_again(&core->peers);
	queue_mark_all(&core->claims.queue); /* a claim that waits may be denied now */
}

/* Has the policy read again, for a peer. */
static uint64_t on_reload_asked(void *userdata)
{
	struct core *core = userdata;

	return helpers_reload(&core->helpers);
}

static uint32_t owner_of(void *userdata, uint32_t uid)
{
	const struct core *core = userdata;

	return policy_owner(&core->policy.policy, uid);
}

static void on_found(void *userdata, const struct finder_answer *answer)
{
	struct core *core = userdata;

	opening_answered(&core->claims, answer);
}

static void on_finder_came(void *userdata)
{
	struct core *core = userdata;

	opening_finder_came(&core->claims);
}

static int find(void *userdata, const struct finder_question *question)
{
	struct core *core = userdata;

	return helpers_find(&core->helpers, question);
}

static bool on_hooked(void *userdata, const struct hook_answer *answer)
{
	struct core *core = userdata;

	if (answer)
		return hooks_answered(&core->leases, answer);
	hooks_left(&core->leases);
	return true;
}

static void on_hooks_came(void *userdata)
{
	struct core *core = userdata;

	hooks_came(&core->leases);
}

static int ask_for_hooks(void *userdata, const struct hook_question *question)
{
	struct core *core = userdata;

	return helpers_hook(&core->helpers, question);
}

static void drop_hooks(void *userdata)
{
	struct core *core = userdata;

	helpers_drop_hooks(&core->helpers);
}

static void on_holders_ended(void *userdata, const struct ender_answer *answer)
{
	struct core *core = userdata;

	kill_answered(&core->leases, answer);
}

static int end_holders(void *userdata, const struct ender_order *order)
{
	struct core *core = userdata;

	return helpers_end(&core->helpers, order);
}

static bool has_ender(void *userdata)
{
	const struct core *core = userdata;

	return core->helpers.ender.fd >= 0;
}

static void on_helpers_failed(void *userdata, int status)
{
	struct core *core = userdata;

	core->ops->failed(core->userdata, status);
}

static const struct helpers_ops helpers_ops = {
	.device = on_device_record,
	.devices_read = on_devices_read,
	.policy = on_policy_loaded,
	.owners = on_owners_loaded,
	.found = on_found,
	.finder_came = on_finder_came,
	.hooked = on_hooked,
	.hooks_came = on_hooks_came,
	.ended = on_holders_ended,
	.failed = on_helpers_failed,
};

/* ---- other reports ---- */

static void on_freed(void *userdata)
{
	struct core *core = userdata;

	queue_mark_all(&core->claims.queue);
}

#define STALE_LOOK_MS 20
#define STALE_LOOKS 100

/* The claim that found it out is answered first, once its worker has given up. */
static void report_stale(evutil_socket_t fd, short what, void *userdata)
{
	const struct timeval again = { .tv_usec = STALE_LOOK_MS * 1000 };
	struct core *core = userdata;

	(void)fd;
	(void)what;
	if (core->closed)
		return;
	if (claims_are_failing(&core->claims) && core->stale_looks++ < STALE_LOOKS &&
	    !event_base_once(core->base, -1, EV_TIMEOUT, report_stale, core, &again))
		return;
	core->ops->stale(core->userdata);
}

/*
 * Reports it in the next turn of the loop, since the claim that noticed it is still being refused.
 * Not if another start would not help: otherwise each such claim would cause one. What may be
 * opened of /dev/vfio is known from the start; /dev/iommu, the open of which may load a module, is
 * not opened only to find out.
 */
static void on_claims_stale(void *userdata, bool iommu)
{
	const struct timeval now = { 0 };
	struct core *core = userdata;

	if (iommu ? time(NULL) - core->served_since < RENEWAL_PAUSE : core->never_fresh)
		return;
	if (event_base_once(core->base, -1, EV_TIMEOUT, report_stale, core, &now))
		log_error("no memory for a timer; the next claim tries again");
}

static void on_allotment(void *userdata, const struct allotment *allotment,
			 enum gpubroker_event_kind kind)
{
	struct core *core = userdata;

	watching_allotment(&core->peers, allotment, kind);
	report_change(core);
}

static void on_allotment_ends(void *userdata, const struct allotment *allotment)
{
	struct core *core = userdata;

	sockets_end(&core->peers, allotment);
}

static void on_workers_idle(void *userdata)
{
	struct core *core = userdata;

	core->ops->idle(core->userdata);
}

static void on_inotify(evutil_socket_t fd, short what, void *userdata)
{
	struct core *core = userdata;

	(void)fd;
	(void)what;
	ending_read_inotify(&core->leases);
}

static void on_nodes(evutil_socket_t fd, short what, void *userdata)
{
	struct core *core = userdata;

	(void)fd;
	(void)what;
	kernel_nodes_read(&core->claims.touches, &core->kernel);
	claims_look_at_nodes(&core->claims);
}

static void on_suppressed(evutil_socket_t fd, short what, void *userdata)
{
	struct core *core = userdata;

	(void)fd;
	(void)what;
	audit_write_suppressed(&core->audit);
}

static bool write_suppressed_later(void *userdata, unsigned seconds)
{
	const struct timeval after = { .tv_sec = (time_t)seconds };
	struct core *core = userdata;

	if (!core->on_suppressed)
		core->on_suppressed = evtimer_new(core->base, on_suppressed, core);
	return core->on_suppressed && !evtimer_add(core->on_suppressed, &after);
}

static void on_connection_closed(void *userdata, int64_t counted)
{
	struct core *core = userdata;

	peers_closed(&core->peers, counted);
}

/* ---- the parts ---- */

static void connect_lower(struct core *core)
{
	core->workers.base = core->base;
	core->workers.filter = core->worker_filter;
	core->workers.idle = on_workers_idle;
	core->workers.userdata = core;
	core->audit.later = write_suppressed_later;
	core->audit.owner = owner_of;
	core->audit.userdata = core;
	holds_init(&core->holds);
	allotments_init(&core->allotments);
	lease_table_init(&core->leases.table, &lease_events, core);
	core->usage.workers = &core->workers;
	core->usage.owner = owner_of;
	core->usage.userdata = core;
	numbers_attach(&core->numbers, &core->workers, &core->leases.table);
	core->leases.base = core->base;
	core->leases.kernel = &core->kernel;
	core->leases.workers = &core->workers;
	core->leases.store = &core->store;
	core->leases.devices = &core->devices;
	core->leases.policy = &core->policy;
	core->leases.hooks.ask = ask_for_hooks;
	core->leases.hooks.drop = drop_hooks;
	core->leases.hooks.userdata = core;
	core->leases.end = end_holders;
	core->leases.has_ender = has_ender;
	core->leases.userdata = core;
	core->closing.workers = &core->workers;
	core->closing.closed = on_connection_closed;
	core->closing.userdata = core;
	core->helpers.base = core->base;
	core->helpers.closing = &core->closing;
	core->helpers.ops = &helpers_ops;
	core->helpers.userdata = core;
}

static int connect_claims(struct core *core)
{
	struct claims *claims = &core->claims;

	claims->base = core->base;
	claims->leases = &core->leases;
	claims->policy = &core->policy;
	claims->devices = &core->devices;
	claims->holds = &core->holds;
	claims->kernel = &core->kernel;
	claims->workers = &core->workers;
	claims->audit = &core->audit;
	claims->queue.events = &queue_events;
	claims->queue.userdata = core;
	claims->stale = on_claims_stale;
	claims->find = find;
	claims->allotments = &core->allotments;
	claims->allotment = on_allotment;
	claims->allotment_ends = on_allotment_ends;
	claims->userdata = core;
	return claims_init(claims);
}

static int connect_prepare(struct core *core)
{
	struct prepare *prepare = &core->prepare;

	prepare->base = core->base;
	prepare->kernel = &core->kernel;
	prepare->workers = &core->workers;
	prepare->devices = &core->devices;
	prepare->leases = &core->leases.table;
	prepare->holds = &core->holds;
	prepare->policy = &core->policy;
	prepare->freed = on_freed;
	prepare->userdata = core;
	orders_init(&core->orders, prepare, &core->store);
	return prepare_init(prepare);
}

static int connect_sriov(struct core *core)
{
	struct sriov *sriov = &core->sriov;

	sriov->base = core->base;
	sriov->kernel = &core->kernel;
	sriov->workers = &core->workers;
	sriov->store = &core->store;
	sriov->devices = &core->devices;
	sriov->leases = &core->leases.table;
	sriov->allotments = &core->allotments;
	sriov->prepare = &core->prepare;
	sriov->holds = &core->holds;
	sriov->policy = &core->policy;
	sriov->freed = on_freed;
	sriov->userdata = core;
	return sriov_init(sriov);
}

static int connect_peers(struct core *core)
{
	struct peers *peers = &core->peers;
	int r;

	peers->base = core->base;
	peers->ops = &request_ops;
	peers->closing = &core->closing;
	peers->audit = &core->audit;
	peers->kernel = &core->kernel;
	peers->policy = &core->policy;
	peers->devices = &core->devices;
	peers->leases = &core->leases;
	peers->claims = &core->claims;
	peers->prepare = &core->prepare;
	peers->orders = &core->orders;
	peers->sriov = &core->sriov;
	peers->holds = &core->holds;
	peers->usage = &core->usage;
	peers->reload = on_reload_asked;
	peers->userdata = core;
	if (!peers->sockets.list.tqh_last) /* the service manager's are there already */
		TAILQ_INIT(&peers->sockets.list);
	r = peers_init(peers);
	return r ? r : handover_init(peers);
}

int core_init(struct core *core)
{
	int r;

	connect_lower(core);
	r = hooks_init(&core->leases);
	if (!r)
		r = closing_init(&core->closing);
	if (!r)
		r = connect_claims(core);
	if (!r)
		r = connect_prepare(core);
	if (!r)
		r = connect_sriov(core);
	return r ? r : connect_peers(core);
}

int core_start(struct core *core)
{
	core->on_inotify =
		event_new(core->base, core->kernel.inotify, EV_READ | EV_PERSIST, on_inotify, core);
	if (!core->on_inotify || event_add(core->on_inotify, NULL))
		return -ENOMEM;
	core->on_nodes =
		event_new(core->base, core->kernel.nodes, EV_READ | EV_PERSIST, on_nodes, core);
	/* Anybody may touch /dev/vfio/vfio in a loop: so with the peers' priority, and in turn. */
	if (!core->on_nodes || event_priority_set(core->on_nodes, PRIORITY_PEERS) ||
	    event_add(core->on_nodes, NULL))
		return -ENOMEM;
	return helpers_listen(&core->helpers);
}
