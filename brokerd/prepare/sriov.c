/* SPDX-License-Identifier: MIT */
/*
 * Virtual functions, see vfs.h: the list of physical functions (PFs), what is said of them and
 * recorded, what root asks, the start and the end. The rest is in vfscourse.c, which makes them,
 * vfsguard.c and vfspolicy.c; what they know of each other in vfscourse.h.
 *
 * It must never change a device, which is the course's, and never begin one for root unguarded.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/state/verdict.h"
#include "brokerd/process/log.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/prepare/sriov-change.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the list ---- */

struct vfs *vfs_of(struct daemon *daemon)
{
	struct vfs *v = daemon->vfs;

	if (v)
		return v;
	v = calloc(1, sizeof(*v));
	if (!v)
		return NULL;
	TAILQ_INIT(&v->list);
	v->timer = evtimer_new(daemon->base, vfs_on_timer, daemon);
	if (!v->timer) {
		free(v);
		return NULL;
	}
	daemon->vfs = v;
	return v;
}

struct pf *pf_find(const struct daemon *daemon, const struct pci_address *address)
{
	struct pf *pf;

	if (daemon->vfs)
		TAILQ_FOREACH(pf, &daemon->vfs->list, link)
			if (!pci_address_compare(&pf->address, address))
				return pf;
	return NULL;
}

struct pf *pf_make(struct daemon *daemon, const struct pci_address *address)
{
	struct vfs *v = vfs_of(daemon);
	struct pf *pf = v ? pf_find(daemon, address) : NULL;

	if (pf)
		return pf;
	if (v && v->n == VFS_PFS_MAX) {
		if (!v->full)
			log_error("more than %d functions that can have virtual ones: the others "
				  "are not looked after",
				  VFS_PFS_MAX);
		v->full = true;
		return NULL;
	}
	pf = v ? calloc(1, sizeof(*pf)) : NULL;
	if (!pf) {
		log_error("no memory to look after virtual functions");
		return NULL;
	}
	v->n++;
	pf->daemon = daemon;
	pf->address = *address;
	TAILQ_INSERT_TAIL(&v->list, pf, link);
	return pf;
}

void pf_free(struct pf *pf)
{
	TAILQ_REMOVE(&pf->daemon->vfs->list, pf, link);
	pf->daemon->vfs->n--;
	if (pf->timer)
		event_free(pf->timer);
	free(pf->vfs);
	free(pf);
}

void vfs_forget(const struct peer *peer)
{
	struct pf *pf;

	if (peer->daemon->vfs)
		TAILQ_FOREACH(pf, &peer->daemon->vfs->list, link)
			if (pf->peer == peer)
				pf->peer = NULL;
}

/* ---- what is said ---- */

int pf_refuse(struct message_refusal *ret_refusal, uint32_t reason,
	      const struct pci_address *address, const char *detail)
{
	*ret_refusal = refusal_make(reason);
	ret_refusal->address = *address;
	ret_refusal->has_address = 1;
	snprintf(ret_refusal->text, sizeof(ret_refusal->text), "%s", detail);
	return (int)reason;
}

void pf_tell(const struct pf *pf, const char *outcome, int level, const char *rule,
	     const char *reason)
{
	const struct audit line = {
		.outcome = outcome,
		.level = level,
		.uid = AUDIT_NOBODY,
		.device = &pf->address,
		.group = NO_GROUP,
		.rule = rule,
		.by = pf->record.by == VFS_NOBODY ? AUDIT_NOBODY : (int64_t)pf->record.by,
		.reason = reason,
	};

	audit(&line);
}

/* ---- its record ---- */

int pf_record(struct pf *pf)
{
	char text[512], name[VFS_RECORD_NAME];
	int n = vfs_record_format(&pf->record, text, sizeof(text));

	vfs_record_name(&pf->address, name);
	n = n < 0 ? n : record_put(pf->daemon->state_dir, name, text, (size_t)n);
	pf->recorded = pf->recorded || !n;
	return n;
}

void pf_unrecord(struct pf *pf)
{
	char name[VFS_RECORD_NAME];
	int r;

	if (!pf->recorded)
		return;
	vfs_record_name(&pf->address, name);
	r = record_drop(pf->daemon->state_dir, name);
	if (r)
		log_error("record %s: cannot be removed: %s; the next start goes by it", name,
			  strerror(-r));
	pf->recorded = false;
}

/* ---- root asks ---- */

int vfs_request(struct peer *peer, const struct message_vfs *request,
		struct message_refusal *ret_refusal)
{
	struct daemon *daemon = peer->daemon;
	struct function f;
	struct pf *pf;
	size_t rule;
	int r;

	if (peer->uid != 0) {
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_NOT_YOURS);
		strcpy(ret_refusal->text, "make virtual functions, or remove them");
		return GPUBROKER_REFUSED_NOT_YOURS;
	}
	if (daemon->quitting)
		return pf_refuse(ret_refusal, GPUBROKER_REFUSED_NOT_READY, &request->address, "");
	r = sysfs_function_read(daemon->kernel.sys, &request->address, &f);
	if (r == -ENODEV)
		return pf_refuse(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, &request->address, "");
	pf = r ? NULL : pf_make(daemon, &request->address);
	if (!pf) {
		pf_refuse(ret_refusal, GPUBROKER_REFUSED_FAILED, &request->address, "reading it");
		ret_refusal->error = r ? -r : ENOMEM;
		return GPUBROKER_REFUSED_FAILED;
	}
	if (pf->phase != VFS_IDLE) {
		r = pf_refuse(ret_refusal,
			      pf->late ? GPUBROKER_REFUSED_STUCK : GPUBROKER_REFUSED_BUSY,
			      &pf->address,
			      pf->late ? "its virtual functions do not go, or do not come" : "");
		ret_refusal->detail = pf->late ? REFUSAL_PLAIN : REFUSAL_SRIOV;
		return r;
	}
	r = pf_guard(pf, &f, request->vfs, ret_refusal);
	if (!r && f.vfs != request->vfs) {
		r = pf_read_vfs(pf);
		if (r) {
			pf_refuse(ret_refusal, GPUBROKER_REFUSED_FAILED, &pf->address,
				  "reading which virtual functions it has");
			ret_refusal->error = -r;
			return GPUBROKER_REFUSED_FAILED;
		}
		r = pf_guard_vfs(pf, ret_refusal);
	}
	if (r)
		return r;
	pf->record = (struct vfs_record){
		.pf = f.address,
		.vendor = f.vendor,
		.device = f.device,
		.wanted = request->vfs,
		.by = peer->uid,
	};
	pf->peer = peer;
	/* How many is root's word; what each may have is still the policy's. */
	pf_policy(pf, &f, &rule);
	pf_begin(pf);
	return 0;
}

/* ---- start and stop ---- */

struct recovery {
	struct daemon *daemon;
	int error;
};

static void found(void *userdata, const char *name, const char *text, size_t len)
{
	struct recovery *recovery = userdata;
	struct daemon *daemon = recovery->daemon;
	char own_name[VFS_RECORD_NAME];
	struct vfs_record read;
	struct function now;
	struct pf *pf;
	int r;

	if (!vfs_record_parse(text, len, &read))
		vfs_record_name(&read.pf, own_name);
	else
		own_name[0] = '\0';
	r = own_name[0] ? sysfs_function_read(daemon->kernel.sys, &read.pf, &now) : 0;
	if (r == -ENODEV) {
		record_drop(daemon->state_dir, name); /* unplugged, and its VFs with it */
		return;
	}
	if (strcmp(own_name, name) != 0 ||
	    (!r && (now.vendor != read.vendor || now.device != read.device))) {
		log_error("record %s: %s; it is set aside as %s.damaged", name,
			  own_name[0] ? "it is another device's" : "damaged", name);
		if (record_set_aside(daemon->state_dir, name))
			log_error("record %s: cannot be set aside", name);
		return;
	}
	pf = pf_make(daemon, &read.pf);
	if (!pf) {
		recovery->error = -ENOMEM;
		return;
	}
	pf->record = read;
	pf->recorded = pf->recovered = true;
	pf_tell(pf, "taken-up", LOG_INFO, NULL, "its virtual functions are not all made");
	pf_begin(pf);
}

int vfs_recover(struct daemon *daemon)
{
	struct recovery recovery = { .daemon = daemon };
	int r = record_each(daemon->state_dir, RECORD_VFS, found, &recovery);

	if (!r)
		r = recovery.error;
	if (r)
		log_error("the records of virtual functions cannot be read: %s; ending, to be "
			  "started again",
			  strerror(-r));
	return r;
}

void vfs_done(struct daemon *daemon)
{
	struct pf *pf, *next;

	if (!daemon->vfs)
		return;
	/* Of those at work too: the loop has ended, so no worker is heard any more. */
	for (pf = TAILQ_FIRST(&daemon->vfs->list); pf; pf = next) {
		next = TAILQ_NEXT(pf, link);
		pf_free(pf);
	}
	event_free(daemon->vfs->timer);
	free(daemon->vfs);
	daemon->vfs = NULL;
}
