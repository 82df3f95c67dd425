/* SPDX-License-Identifier: MIT */
/*
 * What the policy wants of virtual functions, see vfs.h: how many a prepare rule says a physical
 * function (PF) is to have. What an event says is only a reason to look, a little later, since the
 * kernel and udev are still at it when the event comes.
 *
 * It must never go against what root has said, never wait, and never go on for ever: what fails is
 * tried three times, and why a PF is left as it is is said once.
 */
#include "config.h"

#include "brokerd/process/log.h"
#include "brokerd/prepare/sriov-change.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define SETTLE_USEC 400000 /* the kernel and udev are still at it when an event comes */
#define RETRY_SECONDS 5

void pf_leave(struct pf *pf, const char *why, const char *detail)
{
	char reason[sizeof(pf->reason)];

	snprintf(reason, sizeof(reason), "%s%s%s", why, *detail ? ": " : "", detail);
	if (!strcmp(pf->reason, reason))
		return;
	memcpy(pf->reason, reason, sizeof(reason));
	pf->record.by = VFS_NOBODY;
	pf_tell(pf, "not-prepared", LOG_WARNING, NULL, reason);
}

/* ---- looking ---- */

uint32_t pf_policy(struct pf *pf, const struct function *f, size_t *ret_rule)
{
	const struct policy *policy = &pf->daemon->policy;
	const struct policy_facts facts = function_facts(f);
	uint32_t wanted = f->vfs_total ? policy_vfs(policy, &facts, ret_rule) : 0;

	pf->quotas = (struct vf_quotas){ 0 };
	if (wanted)
		pf->quotas = (struct vf_quotas){ policy->rules[*ret_rule].vf_exec_quantum_ms,
						 policy->rules[*ret_rule].vf_preempt_timeout_us };
	return wanted;
}

bool pf_wants_quotas(const struct pf *pf)
{
	return pf->quotas.exec_quantum_ms != pf->quotas_tried.exec_quantum_ms ||
	       pf->quotas.preempt_timeout_us != pf->quotas_tried.preempt_timeout_us;
}

static void look(struct pf *pf)
{
	struct daemon *daemon = pf->daemon;
	struct message_refusal refusal;
	struct function f;
	const char *driver;
	uint32_t wanted;
	char text[96];
	size_t rule;
	int r;

	if (pf->phase != VFS_IDLE)
		return;
	r = sysfs_function_read(daemon->kernel.sys, &pf->address, &f);
	if (r == -ENODEV) {
		pf_free(pf); /* another card may get its address */
		return;
	}
	if (r || pf->held)
		return;
	wanted = pf_policy(pf, &f, &rule);
	if (!wanted)
		return;
	if (!f.driver[0]) { /* it is looked at again when there is one */
		pf->tries = 0;
		return;
	}
	if (pf_guard(pf, &f, wanted, &refusal)) {
		if (refusal.reason == GPUBROKER_REFUSED_NO_VFS && refusal.limit) {
			snprintf(text, sizeof(text),
				 "it can have at most %" PRIu32 " virtual functions, not %" PRIu32,
				 f.vfs_total, wanted);
			pf_leave(pf, text, "");
		} else if (refusal.reason == GPUBROKER_REFUSED_NO_VFS) {
			pf_leave(pf, "it makes no virtual functions on its driver", f.driver);
		} else {
			pf_leave(pf, "it is lent, or on its way", "");
		}
		return;
	}
	if (pf_read_vfs(pf))
		return;
	pf->record = (struct vfs_record){
		.pf = f.address,
		.vendor = f.vendor,
		.device = f.device,
		.wanted = wanted,
		.by = VFS_NOBODY,
	};
	pf->changes = pf->n_vfs != wanted;
	if (!pf->changes && pf_next_unbound(pf, 0) == pf->n_vfs && !pf_wants_quotas(pf)) {
		pf->tries = 0;
		return;
	}
	if (pf->changes && pf_guard_vfs(pf, &refusal)) {
		snprintf(text, sizeof(text),
			 "it has %zu virtual functions, not %" PRIu32 ", of which one is %s",
			 pf->n_vfs, wanted,
			 refusal.reason == GPUBROKER_REFUSED_IN_USE ? "in use by the host"
								    : "lent");
		pf_leave(pf, text, "");
		return;
	}
	if (pf->tries >= VFS_TRIES)
		return;
	pf->tries++;
	driver = policy_text(&daemon->policy, daemon->policy.rules[rule].vfio_driver);
	if (driver)
		snprintf(pf->record.driver, sizeof(pf->record.driver), "%s", driver);
	pf_begin(pf);
}

/* ---- when to look ---- */

void pf_look_soon(struct pf *pf, bool soon)
{
	const struct timeval settle = { .tv_usec = SETTLE_USEC },
			     retry = { .tv_sec = RETRY_SECONDS };
	struct vfs *v = pf->daemon->vfs;

	pf->look = true;
	if (evtimer_pending(v->timer, NULL) && (v->soon || !soon))
		return;
	v->soon = soon;
	if (evtimer_add(v->timer, soon ? &settle : &retry))
		log_error("no memory for a timer: virtual functions are not looked after");
}

void vfs_on_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;
	struct pf *pf, *next;

	(void)fd;
	(void)what;
	if (!daemon->serving || daemon->quitting || !daemon->policy_good)
		return;
	for (pf = TAILQ_FIRST(&daemon->vfs->list); pf; pf = next) {
		next = TAILQ_NEXT(pf, link);
		if (!pf->look)
			continue;
		pf->look = false;
		look(pf);
	}
}

static void look_at(struct daemon *daemon, const struct pci_address *address)
{
	struct pf *pf;

	if (!daemon->vfs || !daemon->vfs->wanted || daemon->quitting)
		return;
	pf = pf_make(daemon, address);
	if (pf)
		pf_look_soon(pf, true);
}

void vfs_all(struct daemon *daemon)
{
	bool wanted = false;
	struct pf *pf;

	for (size_t i = 0; i < daemon->policy.n_rules && !wanted; i++)
		wanted = daemon->policy.rules[i].vfs;
	if (!wanted && !daemon->vfs)
		return;
	if (!vfs_of(daemon)) {
		log_error("no memory to make virtual functions");
		return;
	}
	daemon->vfs->wanted = wanted;
	TAILQ_FOREACH(pf, &daemon->vfs->list, link) {
		pf->held = false;
		pf->tries = 0;
		pf->quotas_tried = (struct vf_quotas){ 0 };
		pf->reason[0] = '\0';
	}
	for (size_t i = 0; i < daemon->devices.n; i++)
		if (daemon->devices.list[i].record.vfs_total)
			look_at(daemon, &daemon->devices.list[i].record.address);
}

void vfs_record(struct daemon *daemon, const struct watcher_record *record)
{
	const struct device *device;

	if (record->type == WATCHER_GONE) {
		device = devices_find(&daemon->devices, &record->address);
		if (!device)
			return;
		record = &device->record;
	} else if (record->type != WATCHER_DEVICE) {
		return;
	}
	if (!record->is_vf) {
		if (record->vfs_total)
			look_at(daemon, &record->address);
		return;
	}
	/* One that was not told is none, or is looked at when it is told. */
	device = devices_find(&daemon->devices, &record->physfn);
	if (device && device->record.vfs_total)
		look_at(daemon, &record->physfn);
}
