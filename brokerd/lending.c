/* SPDX-License-Identifier: MIT */
/*
 * How a lease comes true and ends:
 *
 *	bind:    a worker takes the functions from their drivers and gives them to VFIO
 *	end:     inotify -> open, to have the group alone -> restore
 *	restore: a worker takes them off VFIO, another gives each back -> check -> forget the record
 *
 * Drives leases through lease.c's table. It must never change a function that is not recorded, and
 * never wait: what may take time is a worker's, and comes back here as an event. While a group is
 * taken back it is held open here, so that nobody else can have it.
 */
#include "config.h"

#include "brokerd/claim.h"
#include "brokerd/lending.h"
#include "brokerd/log.h"
#include "brokerd/record.h"
#include "brokerd/worker.h"
#include "client/sysfs.h"
#include "client/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define VFIO_DRIVER "vfio-pci"
#define RETRY_SECONDS 10 /* between tries to give back what would not go */

/* ---- binding and restoring ---- */

static bool driver_is_loaded(const struct daemon *daemon, const char *driver)
{
	int fd = kernel_open_bind(&daemon->kernel, driver);

	fd_close(fd);
	return fd >= 0;
}

/*
 * The watcher reads modules.alias and names a module; a driver may spell its own name with '-'
 * where the module has '_'. Whatever it said, only a VFIO driver is taken, and only one that is
 * there.
 */
static void choose_driver(const struct daemon *daemon, const struct pci_address *address,
			  char out[PROTOCOL_NAME_MAX])
{
	const struct device *device = devices_from(&daemon->devices, address);

	strcpy(out, VFIO_DRIVER);
	if (!device || pci_address_compare(&device->record.address, address) != 0 ||
	    !driver_is_vfio(device->record.vfio_driver))
		return;
	if (driver_is_loaded(daemon, device->record.vfio_driver)) {
		memcpy(out, device->record.vfio_driver, PROTOCOL_NAME_MAX);
		return;
	}
	memcpy(out, device->record.vfio_driver, PROTOCOL_NAME_MAX);
	for (char *p = out; *p; p++)
		if (*p == '_')
			*p = '-';
	if (!driver_is_loaded(daemon, out))
		strcpy(out, VFIO_DRIVER);
}

int add_bind_steps(const struct daemon *daemon, struct work *work, const struct function *f,
		   const char *wanted)
{
	char text[PCI_ADDRESS_TEXT], driver[PROTOCOL_NAME_MAX], override[PROTOCOL_NAME_MAX + 1];
	const struct kernel *kernel = &daemon->kernel;
	const struct pci_address *address = &f->address;
	int r;

	if (driver_is_vfio(f->driver))
		return 0;
	if (*wanted && !driver_is_loaded(daemon, wanted))
		return -ENOENT;
	if (*wanted)
		snprintf(driver, sizeof(driver), "%s", wanted);
	else
		choose_driver(daemon, address, driver);
	pci_address_format(address, text);
	snprintf(override, sizeof(override), "%s\n", driver);
	r = work_add(work, kernel_open_override(kernel, address), override, "driver_override",
		     address);
	if (!r && f->driver[0])
		r = work_add(work, kernel_open_unbind(kernel, address), text, "unbind", address);
	if (!r)
		r = work_add(work, kernel_open_probe(kernel), text, "drivers_probe", address);
	return r;
}

/*
 * Adds the steps that are still missing to what was recorded. First all are taken off VFIO, then
 * each is given back, since a host driver may not bind while another function of its group is a
 * user's.
 */
static int add_restore_steps(const struct kernel *kernel, struct work *work,
			     const struct lease *lease, bool give_back)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];
		char text[PCI_ADDRESS_TEXT], override[PROTOCOL_NAME_MAX + 1];
		struct function now;
		int r = sysfs_function_read(kernel->sys, &was->address, &now), fd;

		if (r == -ENODEV)
			continue; /* unplugged: nothing to give back */
		if (r)
			return r;
		pci_address_format(&was->address, text);
		if (!give_back) {
			if (strcmp(now.override, was->override) != 0) {
				/* A newline alone clears it; an empty write would not. */
				snprintf(override, sizeof(override), "%s\n", was->override);
				r = work_add(work, kernel_open_override(kernel, &was->address),
					     override, "driver_override", &was->address);
			}
			/*
			 * A driver that is neither ours nor the recorded one is somebody's wish:
			 * leave it.
			 */
			if (!r && strcmp(now.driver, was->driver) != 0 &&
			    driver_is_vfio(now.driver))
				r = work_add(work, kernel_open_unbind(kernel, &was->address), text,
					     "unbind", &was->address);
		} else if (was->driver[0] && strcmp(now.driver, was->driver) != 0 &&
			   (!now.driver[0] || driver_is_vfio(now.driver))) {
			fd = kernel_open_bind(kernel, was->driver);
			if (fd ==
			    -ENOENT) /* its module was unloaded: whoever wants it may have it */
				fd = kernel_open_probe(kernel);
			r = work_add(work, fd, text, "bind", &was->address);
		}
		if (r)
			return r;
	}
	return 0;
}

/* Forgets a lease that is over: the host has everything back. */
static void lease_end(struct daemon *daemon, struct lease *lease)
{
	int r = record_remove(daemon->state_dir, lease->id);

	if (r) /* it would be taken up at the next start, found restored, and removed then */
		log_error("lease %" PRIu64 ": its record cannot be removed: %s", lease->id,
			  strerror(-r));
	log_info("lease=%" PRIu64 " uid=%" PRIu32 " group=%" PRIu32 " outcome=ended", lease->id,
		 lease->uid, lease->group);
	kernel_group_unwatch(&daemon->kernel, lease->watch);
	fd_close(lease->regained);
	if (lease->timer)
		event_free(lease->timer);
	if (lease->expiry)
		event_free(lease->expiry);
	lease_free(&daemon->leases, lease);
}

/* Says why a lease is stuck: "0000:01:00.0: unbind: Device or resource busy". */
static void lease_stick(struct lease *lease, const struct pci_address *address, const char *what,
			const char *why)
{
	char text[PCI_ADDRESS_TEXT], reason[sizeof(lease->reason)];

	snprintf(reason, sizeof(reason), "%s: %s%s%s", pci_address_format(address, text), what,
		 *why ? ": " : "", why);
	if (!strcmp(lease->reason, reason))
		return; /* tried again, and no news */
	memcpy(lease->reason, reason, sizeof(reason));
	log_error("lease=%" PRIu64 " group=%" PRIu32 " outcome=stuck reason=\"%s\"", lease->id,
		  lease->group, lease->reason);
}

static void on_work_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct lease *lease = userdata;

	if (!lease_advance(lease, LEASE_LATE))
		return;
	lease_stick(lease, address, what, "has not come back from the kernel");
	if (lease->claim)
		claim_stuck(lease->claim, lease, address);
}

static const char *why_not_bound(const struct kernel *kernel)
{
	int fd = kernel_open_bind(kernel, VFIO_DRIVER);

	fd_close(fd);
	return fd == -ENOENT ? "the driver vfio-pci is not there; 'modprobe vfio-pci' loads it"
			     : "vfio-pci did not take it";
}

/* Is every function of the lease on a VFIO driver? The one that is not, in *ret_function. */
static bool all_on_vfio(const struct kernel *kernel, const struct lease *lease,
			struct function *ret_function)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		*ret_function = (struct function){ .address = lease->functions[i].address };
		if (sysfs_function_read(kernel->sys, &lease->functions[i].address, ret_function) ||
		    !driver_is_vfio(ret_function->driver))
			return false;
	}
	return true;
}

static void lease_bound(struct lease *lease)
{
	const struct daemon *daemon = lease->owner;
	struct claim *claim = lease->claim;
	struct function f;

	if (!all_on_vfio(&daemon->kernel, lease, &f))
		claim_fail(claim, lease, &f.address, why_not_bound(&daemon->kernel), 0);
	else
		lease_advance(lease, LEASE_BOUND);
	claim_advance(claim);
}

static void on_bind_begun(void *userdata, const struct pci_address *address, uint32_t index,
			  uint32_t total)
{
	claim_step(userdata, GPUBROKER_STEP_BIND, address, index, total);
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

int lease_bind(struct daemon *daemon, struct lease *lease, const struct group_view *view)
{
	static const struct work_ops ops = {
		.begun = on_bind_begun,
		.done = on_bind_done,
		.late = on_work_late,
	};
	struct work *work = work_new(&ops, lease);
	int r = work ? 0 : -ENOMEM;

	for (size_t i = 0; !r && i < view->n_functions; i++) {
		const struct function *f = &view->functions[i];
		bool asked = !pci_address_compare(&f->address, &lease->asked);

		r = add_bind_steps(daemon, work, f, asked ? lease->terms.vfio_driver : "");
	}
	if (!r && !work_steps(work)) {
		work_free(work);
		lease_advance(lease, LEASE_BOUND);
		return 0;
	}
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (r) {
		work_free(work);
		return r;
	}
	lease->work = work;
	return 0;
}

/* Compares with the record. NULL: as it was; else what is wrong. */
static const char *not_as_before(const struct kernel *kernel, const struct lease *lease,
				 struct pci_address *ret_address)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];
		struct function now;
		int r = sysfs_function_read(kernel->sys, &was->address, &now);

		*ret_address = was->address;
		if (r == -ENODEV)
			continue;
		if (r)
			return "cannot be read";
		if (strcmp(now.override, was->override) != 0)
			return "its driver override could not be put back";
		if (strcmp(now.driver, was->driver) != 0 &&
		    (!now.driver[0] || driver_is_vfio(now.driver)))
			return "did not go back to its driver";
	}
	return NULL;
}

static void on_retry(evutil_socket_t fd, short what, void *userdata)
{
	struct lease *lease = userdata;

	(void)fd;
	(void)what;
	if (!lease->work && lease_advance(lease, LEASE_ABANDON))
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

static void restore_over(struct daemon *daemon, struct lease *lease, const char *what,
			 const struct pci_address *address, int error)
{
	struct claim *claim = lease->claim;

	if (what) {
		lease_advance(lease, LEASE_FAILED);
		lease_stick(lease, address, what, error ? strerror(error) : "");
		retry_later(daemon, lease);
	} else {
		if (claim)
			claim_forget(claim, lease);
		lease_end(daemon, lease);
	}
	if (claim)
		claim_advance(claim);
	daemon_quit_if_idle(daemon);
}

static void on_restore_begun(void *userdata, const struct pci_address *address, uint32_t index,
			     uint32_t total)
{
	claim_step(userdata, GPUBROKER_STEP_RESTORE, address, index, total);
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

/*
 * The second half: each function is given back. What of it failed is judged by looking, when it is
 * over.
 */
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
		restore_over(daemon, lease, not_as_before(&daemon->kernel, lease, &address),
			     &address, 0);
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
void lease_restore(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = {
		.done = on_take_off_done,
		.late = on_work_late,
	};
	static const struct work_result nothing_to_do;
	struct work *work = work_new(&ops, lease);
	int r = work ? add_restore_steps(&daemon->kernel, work, lease, false) : -ENOMEM;

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
 * inotify speaks at the beginning of the kernel's release of the file, so the group may be busy a
 * moment longer: ten times in the first second, then every second for as long as it takes. Only a
 * lease that was closed, or was found in a record, is looked at so; the record's for a minute,
 * since for it the close may lie in the past.
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

/*
 * Tries to have the group alone. If so, nobody has it any more, nobody can get it, and it goes
 * back.
 */
static void lease_look(struct daemon *daemon, struct lease *lease)
{
	int fd;

	if (lease->work || lease->state == GPUBROKER_LEASE_RESTORING ||
	    lease->state == GPUBROKER_LEASE_STUCK)
		return;
	fd = kernel_group_open(&daemon->kernel, lease->group);
	/*
	 * -ENOENT, -ENODEV: no function of it is on VFIO, so there is nothing that anybody could
	 * hold.
	 */
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

/*
 * The rule's time is up. Taking a function from VFIO makes the kernel ask its holder to let go
 * (QEMU unplugs the device from its guest) and then wait, in a worker: a holder that does not
 * answer has a stuck lease to its name until it ends.
 */
static void on_expired(evutil_socket_t fd, short what, void *userdata)
{
	struct lease *lease = userdata;

	(void)fd;
	(void)what;
	if (!lease_advance(lease, LEASE_RECALLED))
		return;
	log_notice("lease=%" PRIu64 " uid=%" PRIu32 " group=%" PRIu32 " outcome=expired rule=%s",
		   lease->id, lease->uid, lease->group, lease->terms.rule);
	lease_restore(lease->owner, lease);
}

void lease_set_expiry(struct daemon *daemon, struct lease *lease)
{
	const uint64_t now = (uint64_t)time(NULL), end = lease->since + lease->terms.lifetime;
	const struct timeval left = { .tv_sec = end > now ? (time_t)(end - now) : 0 };

	if (!lease->terms.lifetime)
		return;
	lease->expiry = evtimer_new(daemon->base, on_expired, lease);
	if (!lease->expiry || evtimer_add(lease->expiry, &left))
		log_error("lease %" PRIu64
			  ": no memory for its timer; it lasts until it is released",
			  lease->id);
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
		/* Perhaps it is still held; if not, lease_look() finds out. */
		lease_advance(lease, LEASE_SENT);
	lease_set_expiry(daemon, lease);
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
