/* SPDX-License-Identifier: MIT */
/*
 * Takes up what an earlier daemon has recorded, begins to serve, and ends, see serve.h. Owns the
 * order of these steps. It decides nothing, and must never serve before devices and policy are
 * known.
 */
#include "config.h"

#include "brokerd/serve.h"
#include "brokerd/claim/allot.h"
#include "brokerd/claim/begin.h"
#include "brokerd/claim/rejoin.h"
#include "brokerd/core.h"
#include "brokerd/lease/hooks.h"
#include "brokerd/lease/hotplug.h"
#include "brokerd/lease/recover.h"
#include "brokerd/peer/listener.h"
#include "brokerd/prepare/order.h"
#include "brokerd/prepare/prepare.h"
#include "brokerd/prepare/sriov-policy.h"
#include "brokerd/prepare/sriov.h"
#include "brokerd/process/filter.h"
#include "brokerd/process/log.h"
#include "client/common/util.h"

#include <errno.h>
#include <event2/event.h>
#include <sysexits.h>
#include <time.h>

int core_recover(struct core *core)
{
	int r = recover_leases(&core->leases);

	if (!r)
		r = allot_recover(&core->claims);
	if (!r)
		r = rejoin_recover(&core->claims);
	if (!lease_has_id(&core->leases.table)) /* a record has a higher number than is reserved */
		numbers_reserve(&core->numbers);
	if (!r)
		r = orders_recover(&core->orders);
	return r ? r : sriov_recover(&core->sriov);
}

void core_serve(struct core *core)
{
	if (core->serving || core->closed)
		return;
	if (recover_damaged(&core->leases) || listener_start(&core->peers)) {
		core->ops->failed(core->userdata, EX_OSERR);
		return;
	}
	core->serving = true;
	core->served_since = time(NULL);
	core->peers.started = (uint64_t)core->served_since;
	core->never_fresh = !core->kernel.late &&
			    kernel_vfio_check(&core->kernel, false) == -ESTALE;
	log_notice("serving: %zu functions, %zu rules, %zu leases taken up", core->devices.n,
		   core->policy.policy.n_rules, core->leases.table.n);
	if (core->devices.n && !devices_have_group(&core->devices))
		log_warning("no device has an IOMMU group, so nothing can be lent; 'gpubroker "
			    "doctor' says how to switch the IOMMU on");
	if (!core->ops->serving(core->userdata))
		return;
	sockets_serve(&core->peers); /* before the first of them ends */
	allot_serve(&core->claims);
	rejoin_serve(&core->claims);
	core->prepare.open = core->sriov.open = true;
	orders_take_up(&core->orders);
	prepare_look_at_all(&core->prepare);
	sriov_policy_look_at_all(&core->sriov);
	hotplug_look_at_all(&core->leases);
}

void core_close(struct core *core)
{
	if (core->closed)
		return;
	core->closed = core->claims.closed = core->helpers.closed = true;
	core->prepare.open = core->sriov.open = false;
	listener_stop(&core->peers);
	sockets_stop(&core->peers);
	while (!TAILQ_EMPTY(&core->peers.list))
		peer_free(TAILQ_FIRST(&core->peers.list));
	numbers_close(&core->numbers);
}

void core_done(struct core *core)
{
	listener_stop(&core->peers);
	sockets_stop(&core->peers);
	helpers_done(&core->helpers);
	if (core->on_inotify)
		event_free(TAKE_PTR(core->on_inotify));
	if (core->on_nodes)
		event_free(TAKE_PTR(core->on_nodes));
	audit_write_suppressed(&core->audit);
	if (core->on_suppressed)
		event_free(TAKE_PTR(core->on_suppressed));
	core->workers.idle = NULL;
	peers_abandon(&core->peers);
	listener_done(&core->peers);
	handover_done(&core->peers);
	sockets_done(&core->peers);
	closing_done(&core->closing);
	peers_done(&core->peers);
	allot_done(&core->claims);
	claims_done(&core->claims);
	allotments_done(&core->allotments);
	hooks_done(&core->leases);
	orders_done(&core->orders);
	prepare_done(&core->prepare);
	sriov_done(&core->sriov);
	policy_done(&core->policy.policy);
	intake_done(&core->helpers.intake);
	devices_done(&core->devices);
	kernel_done(&core->kernel);
	core->worker_filter = filter_free(core->worker_filter);
	numbers_done(&core->numbers);
	usage_done(&core->usage);
	core->history = fd_close(core->history);
	core->store.directory = fd_close(core->store.directory);
}
