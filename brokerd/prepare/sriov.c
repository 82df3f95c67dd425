/* SPDX-License-Identifier: MIT */
/*
 * SR-IOV, see sriov.h: root's requests, the start and the end. It must never change a device itself
 * (sriov-change.c does), and never begin a change for root that the guards have not allowed.
 */
#include "config.h"

#include "brokerd/prepare/sriov.h"
#include "brokerd/prepare/pf.h"
#include "brokerd/prepare/sriov-change.h"
#include "brokerd/prepare/sriov-guard.h"
#include "brokerd/prepare/sriov-policy.h"
#include "brokerd/process/log.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>

/* ---- root's requests ---- */

/* Returns 0 if so many VFs can be made, and the existing ones may be removed; else the reason. */
static int guard_all(struct pf *pf, const struct function *f, uint32_t wanted,
		     struct message_refusal *ret_refusal)
{
	int r = guard_pf(pf, f, wanted, ret_refusal);

	if (r || f->vfs == wanted)
		return r;
	r = guard_read_vfs(pf);
	if (r)
		return refuse_fault(ret_refusal, &pf->address,
				    "reading which virtual functions it has", -r);
	return guard_vfs(pf, ret_refusal);
}

int sriov_start(struct sriov *sriov, struct sriov_request *request,
		const struct message_vfs *message, struct message_refusal *ret_refusal)
{
	struct function f;
	struct pf *pf;
	size_t rule;
	int r;

	if (request->uid != 0) {
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_NOT_YOURS);
		refusal_say(ret_refusal, "make virtual functions, or remove them");
		return GPUBROKER_REFUSED_NOT_YOURS;
	}
	if (!sriov->open)
		return refuse_address(ret_refusal, GPUBROKER_REFUSED_NOT_READY, &message->address);
	r = sysfs_function_read(sriov->kernel->sys, &message->address, &f);
	if (r == -ENODEV)
		return refuse_address(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, &message->address);
	pf = r ? NULL : pf_make(sriov, &message->address);
	if (!pf)
		return refuse_fault(ret_refusal, &message->address, "reading it", r ? -r : ENOMEM);
	if (pf->phase != SRIOV_IDLE)
		return refuse_sriov(ret_refusal, &pf->hold, NO_GROUP, &pf->address);
	r = guard_all(pf, &f, message->vfs, ret_refusal);
	if (r)
		return r;
	pf->record = (struct vf_record){
		.pf = f.address,
		.vendor = f.vendor,
		.device = f.device,
		.wanted = message->vfs,
		.by = request->uid,
	};
	pf->request = request;
	/* Root sets the number; the quotas still come from the policy. */
	sriov_policy_wants(pf, &f, &rule);
	sriov_change(pf);
	return 0;
}

void sriov_forget(struct sriov *sriov, const struct sriov_request *request)
{
	struct pf *pf;

	TAILQ_FOREACH(pf, &sriov->list, link)
		if (pf->request == request)
			pf->request = NULL;
}

/* ---- start and stop ---- */

struct pf_recovery {
	struct sriov *sriov;
	int error;
};

static void take_vf_record(void *userdata, const char *name, const char *text, size_t len)
{
	struct pf_recovery *recovery = userdata;
	struct sriov *sriov = recovery->sriov;
	char own_name[VF_RECORD_NAME] = "";
	struct vf_record read;
	struct function now;
	struct pf *pf;
	int r = 0;

	if (!vf_record_parse(text, len, &read)) {
		vf_record_name(&read.pf, own_name);
		r = sysfs_function_read(sriov->kernel->sys, &read.pf, &now);
	}
	if (r == -ENODEV) {
		store_drop(sriov->store, name); /* the PF was unplugged, and its VFs with it */
		return;
	}
	if (strcmp(own_name, name) != 0 ||
	    (!r && (now.vendor != read.vendor || now.device != read.device))) {
		log_error("record %s: %s; it is set aside as %s.damaged", name,
			  own_name[0] ? "it is another device's" : "damaged", name);
		if (store_set_aside(sriov->store, name))
			log_error("record %s: cannot be set aside", name);
		return;
	}
	pf = pf_make(sriov, &read.pf);
	if (!pf) {
		recovery->error = -ENOMEM;
		return;
	}
	pf->record = read;
	pf->recorded = pf->recovered = true;
	pf_log(pf, read.by, "taken-up", LOG_INFO, "its virtual functions are not all made");
	sriov_change(pf);
}

int sriov_recover(struct sriov *sriov)
{
	struct pf_recovery recovery = { .sriov = sriov };
	int r = store_each(sriov->store, STORE_VFS, take_vf_record, &recovery);

	if (!r)
		r = recovery.error;
	if (r)
		log_error("the records of virtual functions cannot be read: %s; ending, to be "
			  "started again",
			  strerror(-r));
	return r;
}

int sriov_init(struct sriov *sriov)
{
	TAILQ_INIT(&sriov->list);
	sriov->timer = evtimer_new(sriov->base, sriov_policy_on_timer, sriov);
	return sriov->timer ? 0 : -ENOMEM;
}

void sriov_done(struct sriov *sriov)
{
	struct pf *pf, *next;

	if (!sriov->timer)
		return;
	/* Including those with a worker: the loop has ended, so no worker reports any more. */
	for (pf = TAILQ_FIRST(&sriov->list); pf; pf = next) {
		next = TAILQ_NEXT(pf, link);
		pf_free(pf);
	}
	event_free(TAKE_PTR(sriov->timer));
}
