/* SPDX-License-Identifier: MIT */
/*
 * How a lease's functions go back: one worker takes all of them off VFIO, resets what has to be
 * reset, gives each back, and reads what is now; then it is compared with the record, and the
 * record goes last. What could not be put back is stuck, says why, and is tried again.
 *
 * It must never change a function that is not recorded, never say that something is restored
 * without having looked, and never wait.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/lease/cdev.h"
#include "brokerd/claim/claim.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/log.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/claim/queue.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/process/worker.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define RETRY_SECONDS 10 /* between tries to give back what would not go */

static const char step_reset[] = "reset";

static bool is_unknown(const char *driver)
{
	return !strcmp(driver, LEASE_DRIVER_UNKNOWN);
}

/* ---- what is to be done ---- */

/*
 * Has somebody had the function whom the next one must be safe from? What goes back to a host
 * driver is unbound from VFIO, which makes an old descriptor worthless; what stays on VFIO is
 * unbound and bound again for the same end.
 */
static bool comes_off(const struct lease *lease, const struct lease_function *was, const char *now)
{
	return driver_is_vfio(now) &&
	       (lease->lent || is_unknown(was->driver) || strcmp(now, was->driver) != 0);
}

/*
 * A function that stays on VFIO is reset where the kernel can, since no host driver will; any other
 * where its rule asks for it.
 */
static int add_reset(const struct kernel *kernel, struct work *work, const struct lease *lease,
		     const struct lease_function *was)
{
	int fd;

	if (!lease->lent || lease->forced ||
	    (!lease->terms.require_reset && !driver_is_vfio(was->driver)))
		return 0;
	fd = kernel_open_reset(kernel, &was->address);
	if (fd == -ENOENT)
		return lease->terms.require_reset ? -EOPNOTSUPP : 0;
	/*
	 * Of a card's first function the kernel believes, from before it saw the second, that the
	 * slot's reset is its own; asked, it says ENOTTY.
	 */
	return work_add(work, fd, "1", step_reset, &was->address,
			lease->terms.require_reset ? 0 : WORK_MAY_LACK);
}

static int add_take_off(const struct kernel *kernel, struct work *work, const struct lease *lease,
			const struct lease_function *was, const char *now)
{
	char text[PCI_ADDRESS_TEXT], override[PROTOCOL_NAME_MAX + 1];
	int r;

	/* A newline alone clears it; an empty write would not. */
	snprintf(override, sizeof(override), "%s\n", was->override);
	r = work_add(work, kernel_open_override(kernel, &was->address), override, "driver_override",
		     &was->address, WORK_SOFT);
	/* What stays on VFIO looks as before without its unbind, which is the barrier: so not soft. */
	if (!r && comes_off(lease, was, now))
		r = work_add(work, kernel_open_unbind(kernel, &was->address),
			     pci_address_format(&was->address, text), "unbind", &was->address,
			     driver_is_vfio(was->driver) ? 0 : WORK_SOFT);
	return r ? r : add_reset(kernel, work, lease, was);
}

static int add_give_back(const struct kernel *kernel, struct work *work, const struct lease *lease,
			 const struct lease_function *was, const char *now)
{
	const char *driver = comes_off(lease, was, now) ? "" : now;
	char text[PCI_ADDRESS_TEXT];
	int fd;

	/*
	 * The kernel shows the driver before its probe has answered. Binding what is bound waits
	 * until it has, and does nothing else.
	 */
	if (*driver && !strcmp(driver, was->driver))
		return work_add(work, kernel_open_bind(kernel, driver),
				pci_address_format(&was->address, text), "bind", &was->address,
				WORK_QUIET);
	/* A driver that is neither ours nor the recorded one is somebody's wish: leave it. */
	if (*driver || !was->driver[0])
		return 0;
	fd = is_unknown(was->driver) ? -ENOENT : kernel_open_bind(kernel, was->driver);
	if (fd == -ENOENT) /* its module was unloaded: whoever wants it may have it */
		fd = kernel_open_probe(kernel);
	return work_add(work, fd, pci_address_format(&was->address, text), "bind", &was->address,
			WORK_SOFT | WORK_SHOWN);
}

/*
 * First all are taken off VFIO, then each is given back, since a host driver may not bind while
 * another function of its group is a user's. The overrides are read by the worker too: see
 * kernel.h.
 */
static int add_restore_steps(const struct kernel *kernel, struct work *work,
			     const struct lease *lease)
{
	char now[PROTOCOL_FUNCTIONS_MAX][FUNCTION_NAME_MAX];
	bool there[PROTOCOL_FUNCTIONS_MAX];
	int r = 0;

	for (size_t i = 0; !r && i < lease->n_functions; i++) {
		r = sysfs_driver_read(kernel->sys, &lease->functions[i].address, now[i]);
		there[i] = r != -ENODEV; /* unplugged: nothing to give back */
		if (there[i] && !r)
			r = add_take_off(kernel, work, lease, &lease->functions[i], now[i]);
		/* Unplugged in between? An error of another kind must not pass for that. */
		if (there[i] && r &&
		    sysfs_driver_read(kernel->sys, &lease->functions[i].address, now[i]) == -ENODEV)
			there[i] = false;
		if (!there[i])
			r = 0;
	}
	for (size_t i = 0; !r && i < lease->n_functions; i++)
		if (there[i])
			r = add_give_back(kernel, work, lease, &lease->functions[i], now[i]);
	for (size_t i = 0; !r && i < lease->n_functions; i++)
		if (there[i])
			r = work_add_read(work,
					  kernel_open_override_read(kernel,
								    &lease->functions[i].address),
					  "reading driver_override", &lease->functions[i].address);
	return r;
}

/* ---- how it ends ---- */

/* The damaged record has no more to say once all that it kept from being lent is the host's. */
static void settle(const struct daemon *daemon, const struct lease *lease)
{
	const struct lease *other;
	int r;

	TAILQ_FOREACH(other, &daemon->leases.list, link)
		if (other != lease && !strcmp(other->damaged, lease->damaged))
			return;
	r = record_settle(daemon->state_dir, lease->damaged);
	if (r)
		log_error("lease record %s: cannot be renamed: %s", lease->damaged, strerror(-r));
	else
		log_notice("lease record %s: settled, its devices are the host's", lease->damaged);
}

/* Forgets a lease that is over: the host has everything back, and the record is gone. */
static void lease_end(struct daemon *daemon, struct lease *lease)
{
	const struct audit line = audit_of(lease, "ended");

	if (lease->damaged[0])
		settle(daemon, lease);
	if (lease->recorded)
		audit(&line);
	kernel_group_unwatch(&daemon->kernel, lease->watch);
	cdevs_unwatch(daemon, lease);
	if (lease->timer)
		event_free(lease->timer);
	if (lease->expiry)
		event_free(lease->expiry);
	lease_free(&daemon->leases, lease);
}

void lease_stick(struct lease *lease, const struct pci_address *address, const char *what,
		 const char *why)
{
	char text[PCI_ADDRESS_TEXT], reason[sizeof(lease->reason)];
	const struct daemon *daemon = lease->owner;
	struct audit line;
	int r;

	snprintf(reason, sizeof(reason), "%s: %s%s%s",
		 lease_has_address(lease) ? pci_address_format(address, text) : lease->mdev.parent,
		 what, *why ? ": " : "", why);
	if (lease->stuck_since && !strcmp(lease->reason, reason))
		return; /* tried again, and no news */
	memcpy(lease->reason, reason, sizeof(reason));
	if (!lease->stuck_since)
		lease->stuck_since = (uint64_t)time(NULL);
	line = audit_of(lease, "stuck");
	line.level = LOG_ERROR;
	line.reason = lease->reason;
	audit(&line);
	/* So that a restart takes it up as stuck. */
	r = lease->recorded ? record_write(daemon->state_dir, lease) : 0;
	if (r)
		log_error("lease %" PRIu64 ": that it is stuck cannot be recorded: %s", lease->id,
			  strerror(-r));
	event_state(lease);
	queue_look_group(lease->owner, lease->group); /* who waits for it is told, as others are */
}

void on_work_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct lease *lease = userdata;

	if (!lease_go(lease, LEASE_LATE))
		return;
	lease_stick(lease, address, what, "has not come back from the kernel");
	if (lease->claim)
		claim_stuck(lease->claim, lease, address);
	daemon_quit_if_idle(lease->owner);
}

/* Compares with the record. NULL: as it was; else what is wrong. */
static const char *not_as_before(const struct kernel *kernel, const struct lease *lease,
				 struct pci_address *ret_address)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];
		char now[FUNCTION_NAME_MAX];
		int r = sysfs_driver_read(kernel->sys, &was->address, now);

		*ret_address = was->address;
		if (r == -ENODEV)
			continue;
		if (r)
			return "cannot be read";
		if (!(lease->as_recorded & UINT64_C(1) << i))
			return "its driver override could not be put back";
		if (is_unknown(was->driver)
			    ? driver_is_vfio(now)
			    : strcmp(now, was->driver) != 0 && (!*now || driver_is_vfio(now)))
			return "did not go back to its driver";
	}
	return NULL;
}

static void on_retry(evutil_socket_t fd, short what, void *userdata)
{
	struct lease *lease = userdata;

	(void)fd;
	(void)what;
	lease_retry(lease);
}

void lease_retry(struct lease *lease)
{
	if (!lease->work && lease_go(lease, LEASE_ABANDON))
		lease_restore(lease->owner, lease);
}

/*
 * What could not be given back may be had later: a driver that is loaded again, memory that is free
 * again.
 */
static void retry_later(struct daemon *daemon, struct lease *lease)
{
	const struct timeval after = { .tv_sec = RETRY_SECONDS };

	if (lease->timer)
		event_free(lease->timer);
	lease->timer = evtimer_new(daemon->base, on_retry, lease);
	if (!lease->timer || evtimer_add(lease->timer, &after))
		log_error("lease %" PRIu64 ": no memory for a timer; a restart tries again",
			  lease->id);
}

void lease_restored(struct daemon *daemon, struct lease *lease, const char *what,
		    const struct pci_address *address, int error)
{
	struct claim *claim = lease->claim;
	/* Of a part that was there another can be made now; of one that was not, nothing came free. */
	const uint32_t group = lease->group, part = lease_is_mdev(lease) && group != NO_GROUP
							    ? queue_part(daemon, lease->mdev.parent)
							    : NO_GROUP;
	int r = !what && lease->recorded ? record_remove(daemon->state_dir, lease->id) : 0;

	if (r) { /* or the next start would take it up, perhaps beside another lease of the group */
		what = "its record cannot be removed";
		address = &lease->asked;
		error = -r;
	}
	if (what) {
		lease_go(lease, LEASE_FAILED);
		lease_stick(lease, address, what, error ? strerror(error) : "");
		retry_later(daemon, lease);
	} else {
		lease_go(lease, LEASE_RESTORED);
		if (claim)
			claim_forget(claim, lease);
		lease_end(daemon, lease);
	}
	if (claim)
		claim_advance(claim);
	if (!what) {
		queue_look_group(daemon, group);
		queue_look_group(daemon, part);
	}
	daemon_quit_if_idle(daemon);
}

/* ---- the worker ---- */

static void on_begun(void *userdata, const struct pci_address *address, uint32_t index,
		     uint32_t total)
{
	claim_step(userdata, GPUBROKER_STEP_RESTORE, address, index, total);
}

static void on_told(void *userdata, const struct pci_address *address, const char *text)
{
	struct lease *lease = userdata;

	if (!strcmp(text, "(null)")) /* how the kernel prints none */
		text = "";
	for (size_t i = 0; i < lease->n_functions; i++)
		if (!pci_address_compare(&lease->functions[i].address, address) &&
		    !strcmp(lease->functions[i].override, text))
			lease->as_recorded |= UINT64_C(1) << i;
}

static void on_done(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;
	struct pci_address address = lease->functions[0].address;
	const char *what;

	lease->work = NULL;
	what = not_as_before(&daemon->kernel, lease, &address);
	if (result->error && (what || result->what == step_reset))
		lease_restored(daemon, lease, result->what, &result->address, result->error);
	else
		lease_restored(daemon, lease, what, &address, 0);
}

void lease_restore(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = {
		.begun = on_begun,
		.told = on_told,
		.done = on_done,
		.late = on_work_late,
	};
	struct work *work;
	int r;

	if (lease_is_mdev(lease)) {
		lease->tries = 0;
		mdev_restore(daemon, lease);
		return;
	}
	if (!lease->recorded) { /* so nothing was changed */
		lease_restored(daemon, lease, NULL, NULL, 0);
		return;
	}
	lease->as_recorded = 0;
	work = work_new(&ops, lease);
	r = work ? add_restore_steps(&daemon->kernel, work, lease) : -ENOMEM;
	if (!r && !work_steps(work)) { /* all of it was unplugged */
		work_free(work);
		lease_restored(daemon, lease, NULL, NULL, 0);
		return;
	}
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (r) {
		work_free(work);
		lease_restored(daemon, lease,
			       r == -EOPNOTSUPP
				       ? "its rule requires a reset, and the kernel has none"
				       : "giving it back",
			       &lease->functions[0].address, r == -EOPNOTSUPP ? 0 : -r);
		return;
	}
	lease->work = work;
}
