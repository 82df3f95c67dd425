/* SPDX-License-Identifier: MIT */
/*
 * Makes the virtual functions that the policy wants, see sriov-policy.h: a prepare rule says how
 * many a physical function (PF) is to have. An event is only a reason to look, a little later, when
 * the kernel and udev have finished.
 *
 * It must never undo what root has set, never wait, and never retry for ever: a change that fails
 * is tried three times, and the log says once why a PF is left as it is.
 */
#include "config.h"

#include "brokerd/prepare/sriov-policy.h"
#include "brokerd/prepare/sriov-change.h"
#include "brokerd/prepare/sriov-guard.h"
#include "client/host/function.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

uint32_t sriov_policy_wants(struct pf *pf, const struct function *f, size_t *ret_rule)
{
	const struct policy *policy = &pf->sriov->policy->policy;
	const struct policy_facts facts = function_facts(f);
	uint32_t wanted = f->vfs_total ? policy_vfs(policy, &facts, ret_rule) : 0;

	pf->quotas = (struct vf_quotas){ 0 };
	if (wanted)
		pf->quotas = (struct vf_quotas){ policy->rules[*ret_rule].vf_exec_quantum_ms,
						 policy->rules[*ret_rule].vf_preempt_timeout_us };
	return wanted;
}

/* Logs which guard keeps the PF as it is. */
static void leave_guarded(struct pf *pf, const struct function *f, uint32_t wanted,
			  const struct message_refusal *refusal)
{
	char text[96];

	if (refusal->reason == GPUBROKER_REFUSED_NO_VFS && refusal->limit) {
		snprintf(text, sizeof(text),
			 "it can have at most %" PRIu32 " virtual functions, not %" PRIu32,
			 f->vfs_total, wanted);
		pf_leave(pf, text, "");
	} else if (refusal->reason == GPUBROKER_REFUSED_NO_VFS) {
		pf_leave(pf, "it makes no virtual functions on its driver", f->driver);
	} else {
		pf_leave(pf, "it is lent, or on its way", "");
	}
}

/* Logs why the existing VFs stay. */
static void leave_vfs(struct pf *pf, uint32_t wanted, const struct message_refusal *refusal)
{
	char text[96];

	snprintf(text, sizeof(text),
		 "it has %zu virtual functions, not %" PRIu32 ", of which one is %s", pf->n_vfs,
		 wanted,
		 refusal->reason == GPUBROKER_REFUSED_IN_USE ? "in use by the host" : "lent");
	pf_leave(pf, text, "");
}

/* Changes the number of VFs, unless all is as the rule wants it, or it was tried too often. */
static void change_to(struct pf *pf, const struct function *f, uint32_t wanted, size_t rule)
{
	const struct policy *policy = &pf->sriov->policy->policy;
	struct message_refusal refusal;
	const char *driver;

	pf->record = (struct vf_record){
		.pf = f->address,
		.vendor = f->vendor,
		.device = f->device,
		.wanted = wanted,
		.by = VF_BY_POLICY,
	};
	pf->changes = pf->n_vfs != wanted;
	if (!pf->changes && guard_next_unbound(pf, 0) == pf->n_vfs && !pf_wants_quotas(pf)) {
		pf->tries = 0;
		return;
	}
	if (pf->changes && guard_vfs(pf, &refusal)) {
		leave_vfs(pf, wanted, &refusal);
		return;
	}
	if (pf->tries >= SRIOV_TRIES)
		return;
	pf->tries++;
	driver = policy_text(policy, policy->rules[rule].vfio_driver);
	if (driver)
		snprintf(pf->record.driver, sizeof(pf->record.driver), "%s", driver);
	sriov_change(pf);
}

static void look_at_pf(struct pf *pf)
{
	struct message_refusal refusal;
	struct function f;
	uint32_t wanted;
	size_t rule;
	int r;

	if (pf->phase != SRIOV_IDLE)
		return;
	r = sysfs_function_read(pf->sriov->kernel->sys, &pf->address, &f);
	if (r == -ENODEV) {
		pf_free(pf); /* another card may get the address */
		return;
	}
	if (r || pf->held)
		return;
	wanted = sriov_policy_wants(pf, &f, &rule);
	if (!wanted)
		return;
	if (!f.driver[0]) { /* an event comes when it gets one */
		pf->tries = 0;
		return;
	}
	if (guard_pf(pf, &f, wanted, &refusal))
		leave_guarded(pf, &f, wanted, &refusal);
	else if (!guard_read_vfs(pf))
		change_to(pf, &f, wanted, rule);
}

/* ---- when to look ---- */

void sriov_policy_on_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct sriov *sriov = userdata;
	struct pf *pf, *next;

	(void)fd;
	(void)what;
	if (!sriov->open || !sriov->policy->good)
		return;
	for (pf = TAILQ_FIRST(&sriov->list); pf; pf = next) {
		next = TAILQ_NEXT(pf, link);
		if (!pf->look)
			continue;
		pf->look = false;
		look_at_pf(pf);
	}
}

static void mark_pf(struct sriov *sriov, const struct pci_address *address)
{
	struct pf *pf;

	if (!sriov->wanted || !sriov->open)
		return;
	pf = pf_make(sriov, address);
	if (pf)
		pf_look_soon(pf, true);
}

void sriov_policy_look_at_all(struct sriov *sriov)
{
	const struct policy *policy = &sriov->policy->policy;
	const struct devices *devices = sriov->devices;
	struct pf *pf;

	sriov->wanted = false;
	for (size_t i = 0; i < policy->n_rules && !sriov->wanted; i++)
		sriov->wanted = policy->rules[i].vfs;
	TAILQ_FOREACH(pf, &sriov->list, link) {
		pf->held = false;
		pf->tries = 0;
		pf->quotas_tried = (struct vf_quotas){ 0 };
		pf->reason[0] = '\0';
	}
	for (size_t i = 0; i < devices->n; i++)
		if (devices->list[i].record.vfs_total)
			mark_pf(sriov, &devices->list[i].record.address);
}

void sriov_policy_device_seen(struct sriov *sriov, const struct watcher_record *record)
{
	const struct device *device;

	if (record->type == WATCHER_GONE) {
		device = devices_find(sriov->devices, &record->address);
		if (!device)
			return;
		record = &device->record;
	} else if (record->type != WATCHER_DEVICE) {
		return;
	}
	if (!record->is_vf) {
		if (record->vfs_total)
			mark_pf(sriov, &record->address);
		return;
	}
	/* If the table does not have the PF yet, its own record will come. */
	device = devices_find(sriov->devices, &record->physfn);
	if (device && device->record.vfs_total)
		mark_pf(sriov, &record->physfn);
}
