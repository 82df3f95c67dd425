/* SPDX-License-Identifier: MIT */
/*
 * Changes the number of virtual functions, see sriov-change.h: one change of a physical function
 * (PF) at a time, and a worker for each step but "wait":
 *
 *	ask:   read sriov_numvfs and sriov_drivers_autoprobe -> recorded
 *	make:  autoprobe off, so that no host driver takes the new VFs; the number to 0, to N
 *	wait:  until the watcher, which knows variant drivers, has reported them
 *	bind:  each to its VFIO driver
 *	end:   autoprobe as it was -> the record is removed
 *
 * If a step fails, the same steps restore the earlier number. A change that an earlier run has
 * recorded starts from the beginning: the read of sriov_numvfs waits until that run's worker has
 * left the kernel.
 *
 * It must never change the number while a VF is lent or the host is using one, never read an
 * attribute in this process that takes the device's lock, and never wait.
 */
#include "config.h"

#include "brokerd/prepare/sriov-change.h"
#include "brokerd/lease/driver.h"
#include "brokerd/prepare/sriov-guard.h"
#include "brokerd/process/log.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAKE_SECONDS 60 /* some drivers take a second for each VF */
#define BATCH 64	/* VFs that one worker binds */
#define WAIT_USEC 50000 /* between checks whether the watcher has reported the VFs */
#define WAITS 40

static const char step_numvfs[] = "sriov_numvfs";
/* files of sriov_admin */
static const char step_quantum[] = "exec_quantum_ms", step_timeout[] = "preempt_timeout_us";

static void make_vfs(struct pf *pf);
static void bind_next(struct pf *pf);
static void end_change(struct pf *pf);

static void note_failure(struct pf *pf, const struct pci_address *address, const char *what,
			 int error)
{
	struct message_refusal *r = &pf->failure;

	if (r->reason)
		return;
	pf_refuse(r, GPUBROKER_REFUSED_FAILED, &pf->address, what);
	r->error = error;
	r->has_other = address && pci_address_compare(address, &pf->address) != 0;
	if (r->has_other)
		r->other = *address;
}

/* ---- the end of a change ---- */

static void answer_request(struct pf *pf, const struct message_refusal *refusal)
{
	struct sriov_request *request = TAKE_PTR(pf->request);

	if (request)
		request->done(request, refusal);
}

static void finish_change(struct pf *pf)
{
	const struct sriov *sriov = pf->sriov;
	char reason[160], text[PCI_ADDRESS_TEXT];
	const bool changed = pf->recorded;

	pf_unrecord(pf);
	pf_set_phase(pf, SRIOV_IDLE);
	if (pf->failure.reason) {
		snprintf(reason, sizeof(reason), "%s%s%.80s%s%s",
			 pf->failure.has_other ? pci_address_format(&pf->failure.other, text) : "",
			 pf->failure.has_other ? ": " : "", pf->failure.text,
			 pf->failure.error ? ": " : "",
			 pf->failure.error ? strerror(pf->failure.error) : "");
		if (!pf->request && pf->record.by != VF_BY_POLICY)
			pf_log(pf, pf->record.by, "refused", LOG_ERROR, reason);
		else if (!pf->request)
			pf_leave(pf, reason, "");
		answer_request(pf, &pf->failure);
		if (pf->record.by == VF_BY_POLICY && pf->tries < SRIOV_TRIES)
			pf_look_soon(pf, false);
	} else {
		snprintf(reason, sizeof(reason), "%zu virtual function%s, %" PRIu32 " before",
			 pf->n_vfs, pf->n_vfs == 1 ? "" : "s", pf->record.before);
		if (pf->record.by != VF_BY_POLICY)
			pf->held = true;
		if (changed)
			pf_log(pf, pf->record.by,
			       pf->record.by == VF_BY_POLICY ? "prepared" : "vfs", LOG_INFO,
			       reason);
		pf->reason[0] = '\0';
		pf->tries = 0;
		answer_request(pf, NULL);
	}
	if (pf->recovered && pf->sriov->wanted)
		pf_look_soon(pf, true);
	pf->recovered = false;
	if (sriov->freed)
		sriov->freed(sriov->userdata); /* a claim may wait for a VF */
}

/* ---- workers ---- */

static void on_change_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct pf *pf = userdata;
	struct message_refusal refusal;
	char reason[96];

	pf_set_late(pf, true);
	snprintf(reason, sizeof(reason), "%s has not come back from the kernel", what);
	pf_refuse(&refusal, GPUBROKER_REFUSED_STUCK, address, reason);
	if (!pf->request)
		pf_log(pf, pf->record.by, "stuck", LOG_ERROR, reason);
	answer_request(pf, &refusal);
}

static void on_number(void *userdata, const struct pci_address *address, const char *text)
{
	struct pf *pf = userdata;
	const uint32_t value = (uint32_t)strtoul(text, NULL, 10);

	(void)address;
	if (!pf->n_told++)
		pf->told = value;
	else
		pf->autoprobe = value;
}

static struct work_ops work_ops_of(void (*done)(void *, const struct work_result *))
{
	return (struct work_ops){ .told = on_number, .done = done, .late = on_change_late };
}

/*
 * Starts a phase's worker. If it cannot be started (because of r, or because it has no step), calls
 * done() as if it had ended with that result.
 */
static void start_phase(struct pf *pf, enum sriov_phase phase, struct work *work, int r,
			const char *what, unsigned seconds,
			void (*done)(void *, const struct work_result *))
{
	struct work_result result = { .what = what, .address = pf->address };

	pf_set_phase(pf, phase);
	if (!r && !work)
		r = -ENOMEM;
	if (!r && work_steps(work))
		r = workers_start_within(pf->sriov->workers, work, seconds);
	else
		work = work_free(work);
	if (!r && work)
		return;
	if (r)
		work_free(work);
	result.error = -r;
	done(pf, &result);
}

/* ---- ask ---- */

static void on_numvfs_read(void *userdata, const struct work_result *result)
{
	struct pf *pf = userdata;
	struct vf_record *r = &pf->record;
	struct message_refusal refusal;
	int error = result->error;

	pf_set_late(pf, false);
	if (!error)
		error = -guard_read_vfs(pf);
	if (!error && pf->n_told < 2)
		error = EIO;
	if (error) {
		note_failure(pf, &result->address, result->what, error);
		end_change(pf);
		return;
	}
	pf->changes = pf->told != r->wanted || pf->n_vfs != r->wanted;
	if (!pf->recovered) {
		r->before = pf->told;
		r->autoprobe = pf->autoprobe;
		r->before_on_vfio = true;
		for (size_t i = 0; i < pf->n_vfs; i++)
			r->before_on_vfio = r->before_on_vfio && guard_on_vfio(pf, &pf->vfs[i]);
		if (!pf->changes && guard_next_unbound(pf, 0) == pf->n_vfs) {
			if (pf_wants_quotas(pf))
				make_vfs(pf); /* only the quotas */
			else
				finish_change(pf); /* all is as wanted already */
			return;
		}
		error = -pf_record(pf);
		if (error) {
			note_failure(pf, NULL, "recording it", error);
			finish_change(pf);
			return;
		}
	}
	/* The guards have just been checked, except for a record of an earlier run. */
	if (pf->changes && guard_vfs(pf, &refusal)) {
		note_failure(pf, refusal.has_other ? &refusal.other : &refusal.address,
			     "is lent or in use", 0);
		end_change(pf);
		return;
	}
	make_vfs(pf);
}

void sriov_change(struct pf *pf)
{
	const struct work_ops ops = work_ops_of(on_numvfs_read);
	const struct kernel *kernel = pf->sriov->kernel;
	struct work *work = work_new(&ops, pf);
	int r = work ? 0 : -ENOMEM;

	pf->undoing = pf->changes = false;
	pf->n_told = 0;
	pf->failure = (struct message_refusal){ 0 };
	if (!r)
		r = work_add_read(work, kernel_open_numvfs_read(kernel, &pf->address),
				  "reading sriov_numvfs", &pf->address);
	if (!r)
		r = work_add_read(work, kernel_open_autoprobe_read(kernel, &pf->address),
				  "reading sriov_drivers_autoprobe", &pf->address);
	start_phase(pf, SRIOV_ASKING, work, r, "reading sriov_numvfs", WORKER_SECONDS,
		    on_numvfs_read);
}

/* ---- make ---- */

static uint32_t target_number(const struct pf *pf)
{
	return pf->undoing ? pf->record.before : pf->record.wanted;
}

/*
 * Returns true if the new VFs are to be bound to VFIO. When the earlier number is restored, only if
 * they were before.
 */
static bool binds_to_vfio(const struct pf *pf)
{
	return !pf->undoing || pf->record.before_on_vfio;
}

/*
 * Returns true if this run, or an earlier one that ended in between, has changed the number of VFs.
 */
static bool changes_number(const struct pf *pf)
{
	return pf->changes || (pf->recovered && pf->record.before != pf->record.wanted);
}

/*
 * Notes the failure and restores the earlier number of VFs. If that has failed as well, leaves it
 * as it is.
 */
static void go_back(struct pf *pf, const struct pci_address *address, const char *what, int error)
{
	note_failure(pf, address, what, error);
	if (pf->undoing)
		pf->failure.detail = REFUSAL_NOT_RESTORED;
	if (pf->undoing || !changes_number(pf)) {
		end_change(pf);
		return;
	}
	pf->undoing = true;
	make_vfs(pf);
}

static void on_wait_over(evutil_socket_t fd, short what, void *userdata)
{
	const struct timeval after = { .tv_usec = WAIT_USEC };
	struct pf *pf = userdata;

	(void)fd;
	(void)what;
	if (!guard_all_known(pf) && ++pf->waits < WAITS && !evtimer_add(pf->timer, &after))
		return;
	bind_next(pf);
}

/*
 * Waits until the watcher has reported the new VFs, since only it knows their variant drivers; but
 * not for long.
 */
static void wait_for_watcher(struct pf *pf)
{
	pf_set_phase(pf, SRIOV_WAITING);
	pf->bound = 0;
	pf->waits = 0;
	if (!pf->timer)
		pf->timer = evtimer_new(pf->sriov->base, on_wait_over, pf);
	if (pf->timer)
		on_wait_over(-1, 0, pf);
	else
		bind_next(pf);
}

/* Logs that a quota was not set. The virtual functions are useful without it, so they stay. */
static void tell_no_quota(const struct pf *pf, const char *what, int error)
{
	char reason[160];

	if (error == ENOENT)
		snprintf(reason, sizeof(reason),
			 "%s is not set: its driver has no sriov_admin, as xe has since Linux 6.19",
			 what);
	else
		snprintf(reason, sizeof(reason), "%s is not set: %s", what, strerror(error));
	pf_log(pf, pf->record.by, "no-quota", LOG_WARNING, reason);
}

static int add_quota(struct pf *pf, struct work *work, const char *file, uint32_t value)
{
	char text[16];
	int r;

	if (!value)
		return 0;
	snprintf(text, sizeof(text), "%" PRIu32, value);
	r = work_add(work, kernel_open_vf_quota(pf->sriov->kernel, &pf->address, file), text, file,
		     &pf->address, CONTINUE);
	if (r == -ENOENT || r == -EACCES) {
		tell_no_quota(pf, file, -r);
		return 0;
	}
	return r;
}

static int add_quotas(struct pf *pf, struct work *work)
{
	int r = add_quota(pf, work, step_quantum, pf->quotas.exec_quantum_ms);

	if (!r)
		r = add_quota(pf, work, step_timeout, pf->quotas.preempt_timeout_us);
	pf->quotas_tried = pf->quotas;
	return r;
}

static void on_vfs_made(void *userdata, const struct work_result *result)
{
	struct pf *pf = userdata;
	int error = result->error, r = guard_read_vfs(pf);

	pf_set_late(pf, false);
	/* The quotas are written last, so the VFs have been made. */
	if (error && (result->what == step_quantum || result->what == step_timeout)) {
		tell_no_quota(pf, result->what, error);
		error = 0;
	}
	if (error == ENOENT && !pf->undoing && result->what == step_numvfs) {
		pf_refuse(&pf->failure, GPUBROKER_REFUSED_NO_VFS, &pf->address,
			  "has a host driver that makes no virtual functions");
		end_change(pf);
	} else if (error || r || pf->n_vfs != target_number(pf))
		go_back(pf, &result->address, error ? result->what : step_numvfs,
			error ? error
			: r   ? -r
			      : EIO);
	else if (binds_to_vfio(pf))
		wait_for_watcher(pf);
	else
		end_change(pf);
}

/*
 * Starts the worker that sets the number, always by way of 0: the kernel refuses other changes with
 * EBUSY. Autoprobe is off for VFs that are to be bound to VFIO.
 */
static void make_vfs(struct pf *pf)
{
	const struct work_ops ops = work_ops_of(on_vfs_made);
	const struct kernel *kernel = pf->sriov->kernel;
	struct work *work = work_new(&ops, pf);
	const bool off = binds_to_vfio(pf) || !pf->record.autoprobe;
	int r = work ? 0 : -ENOMEM;
	char number[16];

	if (pf->undoing && !r)
		r = guard_read_vfs(pf);
	if (!r && (pf->undoing ? pf->n_vfs != target_number(pf) : pf->changes)) {
		snprintf(number, sizeof(number), "%" PRIu32, target_number(pf));
		r = work_add(work, kernel_open_autoprobe(kernel, &pf->address), off ? "0" : "1",
			     "sriov_drivers_autoprobe", &pf->address, STOP);
		/* Writing 0 when the number is 0 does nothing. */
		if (!r)
			r = work_add(work, kernel_open_numvfs(kernel, &pf->address), "0",
				     step_numvfs, &pf->address, STOP);
		if (!r && target_number(pf))
			r = work_add(work, kernel_open_numvfs(kernel, &pf->address), number,
				     step_numvfs, &pf->address, STOP);
	}
	if (!r && !pf->undoing && target_number(pf))
		r = add_quotas(pf, work);
	start_phase(pf, SRIOV_MAKING, work, r, step_numvfs, MAKE_SECONDS, on_vfs_made);
}

/* ---- bind ---- */

static void on_vfs_bound(void *userdata, const struct work_result *result)
{
	struct pf *pf = userdata;
	size_t unbound = guard_next_unbound(pf, 0);

	pf_set_late(pf, false);
	if (unbound < pf->bound || (result->error && unbound < pf->n_vfs))
		go_back(pf, result->error ? &result->address : &pf->vfs[unbound],
			result->error ? result->what : "no VFIO driver took it", result->error);
	else
		bind_next(pf);
}

static void bind_next(struct pf *pf)
{
	const struct work_ops ops = work_ops_of(on_vfs_bound);
	struct work *work;
	char driver[FUNCTION_NAME_MAX];
	size_t i = guard_next_unbound(pf, 0);
	int r = 0;

	if (i == pf->n_vfs) {
		end_change(pf);
		return;
	}
	work = work_new(&ops, pf);
	r = work ? 0 : -ENOMEM;
	for (size_t n = 0; !r && n < BATCH && i < pf->n_vfs;
	     n++, i = guard_next_unbound(pf, i + 1)) {
		r = sysfs_driver_read(pf->sriov->kernel->sys, &pf->vfs[i], driver);
		if (!r)
			r = driver_add_bind(pf->sriov->kernel, pf->sriov->devices, work,
					    &pf->vfs[i], driver,
					    driver_or_any(pf->sriov->kernel, pf->record.driver));
		pf->bound = i + 1;
	}
	start_phase(pf, SRIOV_BINDING, work, r, "driver_override", WORKER_SECONDS, on_vfs_bound);
}

/* ---- end ---- */

static void on_change_ended(void *userdata, const struct work_result *result)
{
	struct pf *pf = userdata;

	pf_set_late(pf, false);
	if (result->error && !pf->failure.reason)
		note_failure(pf, &result->address, result->what, result->error);
	if (result->error)
		pf->failure.detail = REFUSAL_NOT_RESTORED;
	finish_change(pf);
}

/* Adds the steps that give VFs that could not be bound to whatever driver wants them. */
static int add_release_unbound(struct pf *pf, struct work *work)
{
	const struct kernel *kernel = pf->sriov->kernel;
	char text[PCI_ADDRESS_TEXT];
	int r = 0;

	for (size_t i = guard_next_unbound(pf, 0), n = 0; !r && i < pf->n_vfs && n < BATCH;
	     i = guard_next_unbound(pf, i + 1), n++) {
		r = work_add(work, kernel_open_override(kernel, &pf->vfs[i]), "\n",
			     "driver_override", &pf->vfs[i], CONTINUE);
		if (!r)
			r = work_add(work, kernel_open_probe(kernel),
				     pci_address_format(&pf->vfs[i], text), "drivers_probe",
				     &pf->vfs[i], IGNORE_ERROR);
		if (r == -ENOENT || r == -ENODEV)
			r = 0; /* the VF is gone */
	}
	return r;
}

static void end_change(struct pf *pf)
{
	const struct work_ops ops = work_ops_of(on_change_ended);
	struct function f;
	struct work *work;
	int r;

	/* The PF was unplugged, or nothing was changed. */
	if (!pf->recorded ||
	    sysfs_function_read(pf->sriov->kernel->sys, &pf->address, &f) == -ENODEV) {
		finish_change(pf);
		return;
	}
	work = work_new(&ops, pf);
	r = work ? work_add(work, kernel_open_autoprobe(pf->sriov->kernel, &pf->address),
			    pf->record.autoprobe ? "1" : "0", "sriov_drivers_autoprobe",
			    &pf->address, CONTINUE)
		 : -ENOMEM;
	if (!r && pf->failure.reason && !changes_number(pf))
		r = add_release_unbound(pf, work);
	start_phase(pf, SRIOV_ENDING, work, r, "sriov_drivers_autoprobe", WORKER_SECONDS,
		    on_change_ended);
}
