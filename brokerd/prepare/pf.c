/* SPDX-License-Identifier: MIT */
/*
 * The list of physical functions, see pf.h: their entries, records and lines in the journal. It
 * must never change a device.
 */
#include "config.h"

#include "brokerd/prepare/pf.h"
#include "brokerd/process/log.h"
#include "brokerd/record/audit.h"
#include "brokerd/state/refuse.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_USEC 400000 /* the kernel and udev are still working when an event comes */
#define RETRY_SECONDS 5

/* ---- the list ---- */

struct pf *pf_find(const struct sriov *sriov, const struct pci_address *address)
{
	struct pf *pf;

	TAILQ_FOREACH(pf, &sriov->list, link)
		if (!pci_address_compare(&pf->address, address))
			return pf;
	return NULL;
}

struct pf *pf_make(struct sriov *sriov, const struct pci_address *address)
{
	struct pf *pf = pf_find(sriov, address);

	if (pf)
		return pf;
	if (sriov->n == SRIOV_PFS_MAX) {
		if (!sriov->full)
			log_error("more than %d functions with SR-IOV: the others "
				  "are ignored",
				  SRIOV_PFS_MAX);
		sriov->full = true;
		return NULL;
	}
	pf = calloc(1, sizeof(*pf));
	if (!pf) {
		log_error("no memory to manage virtual functions");
		return NULL;
	}
	sriov->n++;
	pf->sriov = sriov;
	pf->address = *address;
	TAILQ_INSERT_TAIL(&sriov->list, pf, link);
	return pf;
}

void pf_free(struct pf *pf)
{
	TAILQ_REMOVE(&pf->sriov->list, pf, link);
	pf->sriov->n--;
	pf_set_phase(pf, SRIOV_IDLE);
	if (pf->timer)
		event_free(pf->timer);
	free(pf->vfs);
	free(pf);
}

/* ---- the change ---- */

/*
 * Counts the PF among the work that the daemon's end waits for, unless it is idle or its worker is
 * late.
 */
static void pf_count(struct pf *pf)
{
	const bool counts = pf->phase != SRIOV_IDLE && !pf->hold.late;

	if (counts == pf->counted)
		return;
	pf->counted = counts;
	if (counts)
		workers_enter(pf->sriov->workers);
	else
		workers_leave(pf->sriov->workers);
}

void pf_set_phase(struct pf *pf, enum sriov_phase phase)
{
	const bool was_idle = pf->phase == SRIOV_IDLE, idle = phase == SRIOV_IDLE;

	pf->phase = phase;
	if (was_idle && !idle) {
		pf->hold = (struct hold){ .kind = HOLD_SRIOV, .function = pf->address };
		holds_add(pf->sriov->holds, &pf->hold);
	} else if (!was_idle && idle) {
		holds_remove(pf->sriov->holds, &pf->hold);
		pf->hold.late = false;
	}
	pf_count(pf);
}

void pf_set_late(struct pf *pf, bool late)
{
	pf->hold.late = late;
	pf_count(pf);
}

/* ---- refusals and the journal ---- */

int pf_refuse(struct message_refusal *ret_refusal, uint32_t reason,
	      const struct pci_address *address, const char *text)
{
	refuse_address(ret_refusal, reason, address);
	refusal_say(ret_refusal, "%s", text);
	return (int)reason;
}

void pf_log(const struct pf *pf, uint32_t by, const char *outcome, int level, const char *reason)
{
	const struct audit_line line = {
		.outcome = outcome,
		.level = level,
		.uid = AUDIT_NOBODY,
		.device = &pf->address,
		.group = NO_GROUP,
		.by = by == VF_BY_POLICY ? AUDIT_NOBODY : (int64_t)by,
		.reason = reason,
	};

	audit_write(&line);
}

void pf_leave(struct pf *pf, const char *why, const char *detail)
{
	char reason[sizeof(pf->reason)];

	snprintf(reason, sizeof(reason), "%s%s%s", why, *detail ? ": " : "", detail);
	if (!strcmp(pf->reason, reason))
		return;
	memcpy(pf->reason, reason, sizeof(reason));
	pf_log(pf, VF_BY_POLICY, "not-prepared", LOG_WARNING, reason);
}

/* ---- the policy ---- */

bool pf_wants_quotas(const struct pf *pf)
{
	return pf->quotas.exec_quantum_ms != pf->quotas_tried.exec_quantum_ms ||
	       pf->quotas.preempt_timeout_us != pf->quotas_tried.preempt_timeout_us;
}

void pf_look_soon(struct pf *pf, bool soon)
{
	const struct timeval settle = { .tv_usec = SETTLE_USEC },
			     retry = { .tv_sec = RETRY_SECONDS };
	struct sriov *sriov = pf->sriov;

	pf->look = true;
	if (evtimer_pending(sriov->timer, NULL) && (sriov->soon || !soon))
		return;
	sriov->soon = soon;
	if (evtimer_add(sriov->timer, soon ? &settle : &retry))
		log_error("no memory for a timer: virtual functions are not managed");
}

/* ---- the record ---- */

int pf_record(struct pf *pf)
{
	char text[512], name[VF_RECORD_NAME];
	int n = vf_record_format(&pf->record, text, sizeof(text));

	vf_record_name(&pf->address, name);
	n = n < 0 ? n : store_put(pf->sriov->store, name, text, (size_t)n);
	pf->recorded = pf->recorded || !n;
	return n;
}

void pf_unrecord(struct pf *pf)
{
	char name[VF_RECORD_NAME];
	int r;

	if (!pf->recorded)
		return;
	vf_record_name(&pf->address, name);
	r = store_drop(pf->sriov->store, name);
	if (r)
		log_error("record %s: cannot be removed: %s; the next start will use it", name,
			  strerror(-r));
	pf->recorded = false;
}
