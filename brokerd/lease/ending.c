/* SPDX-License-Identifier: MIT */
/*
 * How a lease comes true, and how its end is heard of:
 *
 *	ask:     a worker reads what takes the device's lock -> recorded by claim.c
 *	bind:    a worker takes the functions from their drivers and gives them to VFIO
 *	end:     inotify -> a worker has opened the group, so nobody else has it -> restore.c
 *	recall:  a release, a revocation, the end of a rule's time, a vanished function -> restore.c
 *
 * Drives leases through lease.c's table. It must never change a function that is not recorded, and
 * never wait: what may take time is a worker's, and comes back here as an event.
 */
#include "config.h"

#include "brokerd/record/audit.h"
#include "brokerd/lease/cdev.h"
#include "brokerd/claim/claim.h"
#include "brokerd/lease/ending.h"
#include "brokerd/process/log.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/process/worker.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define VFIO_DRIVER "vfio-pci"

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
	const struct device *device = devices_find(&daemon->devices, address);

	strcpy(out, VFIO_DRIVER);
	if (!device || !driver_is_vfio(device->record.vfio_driver))
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

int add_bind_steps(const struct daemon *daemon, struct work *work,
		   const struct pci_address *address, const char *bound, const char *wanted)
{
	char text[PCI_ADDRESS_TEXT], driver[PROTOCOL_NAME_MAX], override[PROTOCOL_NAME_MAX + 1];
	const struct kernel *kernel = &daemon->kernel;
	int r;

	if (driver_is_vfio(bound))
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
		     address, WORK_SHOWN);
	if (!r && bound[0])
		r = work_add(work, kernel_open_unbind(kernel, address), text, "unbind", address, 0);
	if (!r)
		r = work_add(work, kernel_open_probe(kernel), text, "drivers_probe", address, 0);
	return r;
}

bool lease_came_late(struct lease *lease)
{
	if (lease->state != GPUBROKER_LEASE_STUCK && lease->claim)
		return false;
	if (lease_go(lease, LEASE_ABANDON))
		lease_restore(lease->owner, lease);
	return true;
}

/* ---- asking ---- */

static void on_told(void *userdata, const struct pci_address *address, const char *text)
{
	struct lease *lease = userdata;

	if (!strcmp(text, "(null)")) /* how the kernel prints none */
		text = "";
	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *was = &lease->functions[i];

		if (pci_address_compare(&was->address, address) != 0)
			continue;
		if (strlen(text) < sizeof(was->override))
			strcpy(was->override, text);
		else
			lease->as_recorded = UINT64_MAX; /* cannot be: on_asked() says so */
	}
}

/* The drivers once more, since the first look is a worker's life ago. */
static int read_drivers(struct daemon *daemon, struct lease *lease)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *was = &lease->functions[i];
		int r = sysfs_driver_read(daemon->kernel.sys, &was->address, was->driver);

		if (r)
			return r;
	}
	return 0;
}

static void on_asked(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;
	struct claim *claim = lease->claim;
	int r;

	lease->work = NULL;
	if (!lease_came_late(lease)) {
		if (result->error)
			claim_fail(claim, lease, &result->address, result->what, result->error);
		else if (lease->as_recorded)
			claim_fail(claim, lease, NULL, "its driver override is too long", 0);
		else if ((r = read_drivers(daemon, lease)))
			claim_fail(claim, lease, NULL, "reading its driver", -r);
		claim_advance(claim);
	}
	daemon_quit_if_idle(daemon);
}

int lease_ask(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = {
		.told = on_told,
		.done = on_asked,
		.late = on_work_late,
	};
	struct work *work;
	int r;

	if (lease_is_mdev(lease))
		return mdev_ask(daemon, lease);
	work = work_new(&ops, lease);
	r = work ? 0 : -ENOMEM;
	for (size_t i = 0; !r && i < lease->n_functions; i++)
		r = work_add_read(work,
				  kernel_open_override_read(&daemon->kernel,
							    &lease->functions[i].address),
				  "reading driver_override", &lease->functions[i].address);
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (r) {
		work_free(work);
		return r;
	}
	lease->work = work;
	return 0;
}

/* ---- binding ---- */

static const char *why_not_bound(const struct kernel *kernel)
{
	int fd = kernel_open_bind(kernel, VFIO_DRIVER);

	fd_close(fd);
	return fd == -ENOENT ? "the driver vfio-pci is not there; 'modprobe vfio-pci' loads it"
			     : "vfio-pci did not take it";
}

/* Is every function of the lease on a VFIO driver? The one that is not, in *ret_address. */
static bool all_on_vfio(const struct kernel *kernel, const struct lease *lease,
			struct pci_address *ret_address)
{
	char driver[FUNCTION_NAME_MAX];

	for (size_t i = 0; i < lease->n_functions; i++) {
		*ret_address = lease->functions[i].address;
		if (sysfs_driver_read(kernel->sys, ret_address, driver) || !driver_is_vfio(driver))
			return false;
	}
	return true;
}

static void lease_bound(struct lease *lease)
{
	const struct daemon *daemon = lease->owner;
	struct claim *claim = lease->claim;
	struct pci_address address;

	if (!all_on_vfio(&daemon->kernel, lease, &address))
		claim_fail(claim, lease, &address, why_not_bound(&daemon->kernel), 0);
	else
		lease_go(lease, LEASE_BOUND);
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
	if (!lease_came_late(lease)) {
		if (result->error) {
			claim_fail(claim, lease, &result->address, result->what, result->error);
			claim_advance(claim);
		} else {
			lease_bound(lease);
		}
	}
	daemon_quit_if_idle(daemon);
}

int lease_bind(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = {
		.begun = on_bind_begun,
		.done = on_bind_done,
		.late = on_work_late,
	};
	struct work *work;
	int r;

	if (lease_is_mdev(lease))
		return mdev_make(daemon, lease);
	work = work_new(&ops, lease);
	r = work ? 0 : -ENOMEM;
	for (size_t i = 0; !r && i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];
		bool asked = !pci_address_compare(&was->address, &lease->asked);

		r = add_bind_steps(daemon, work, &was->address, was->driver,
				   asked ? lease->terms.vfio_driver : "");
	}
	if (!r && !work_steps(work)) {
		work_free(work);
		lease_go(lease, LEASE_BOUND);
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

/* ---- the end of a lease ---- */

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
	if (lease->state == GPUBROKER_LEASE_LEASED && lease->tries > 60 && lease->watch >= 0)
		return;
	lease->tries++;
	if (!lease->timer)
		lease->timer = evtimer_new(daemon->base, on_look_again, lease);
	if (!lease->timer || evtimer_add(lease->timer, &after))
		log_error("lease %" PRIu64 ": no memory for a timer", lease->id);
}

/* Nobody has it any more, and nobody can get it: it goes back. */
static void lease_regained(struct daemon *daemon, struct lease *lease)
{
	kernel_group_unwatch(&daemon->kernel, lease->watch);
	lease->watch = -1;
	cdevs_unwatch(daemon, lease);
	if (lease_go(lease, LEASE_REGAINED))
		lease_restore(daemon, lease);
}

void lease_work_was_done(struct daemon *daemon, struct lease *lease)
{
	if (lease->recall)
		lease_recall(lease, lease->recall);
	else if (lease->state == GPUBROKER_LEASE_LEASED)
		arrivals_look(daemon, lease);
}

/*
 * No node: then no function of it is on VFIO, and there is nothing that anybody could hold. Where
 * one is all the same, the error was another thing's.
 */
static bool is_let_go(const struct daemon *daemon, const struct lease *lease, int error)
{
	char driver[FUNCTION_NAME_MAX];
	int r;

	if (error && error != ENOENT && error != ENODEV && error != ENXIO)
		return false;
	for (size_t i = 0; error && i < lease->n_functions; i++) {
		r = sysfs_driver_read(daemon->kernel.sys, &lease->functions[i].address, driver);
		if (r != -ENODEV && (r || driver_is_vfio(driver)))
			return false;
	}
	return true;
}

static void on_looked(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;

	lease->work = NULL;
	lease->looking = false;
	if (is_let_go(daemon, lease, result->error)) {
		lease_regained(daemon, lease);
	} else {
		/* Of a record it is not known whether it was ever held: now it is. */
		if (result->error == EBUSY && lease->state == GPUBROKER_LEASE_PREPARING)
			lease_go(lease, LEASE_SENT);
		look_again(daemon, lease);
		lease_work_was_done(daemon, lease);
	}
	daemon_quit_if_idle(daemon);
}

/* It may take as long as unpinning all of a VM's memory does, and is no news. */
static void on_look_late(void *userdata, const char *what, const struct pci_address *address)
{
	(void)userdata;
	(void)what;
	(void)address;
}

void lease_look(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = { .done = on_looked, .late = on_look_late };
	struct work *work;
	int r;

	if (lease->work || lease->state == GPUBROKER_LEASE_RESTORING ||
	    lease->state == GPUBROKER_LEASE_STUCK)
		return;
	/* Somebody removed it, which waits for whoever has it; its group's number may be another's now. */
	if (lease_is_mdev(lease) && !mdev_is_there(daemon, lease)) {
		lease_regained(daemon, lease);
		return;
	}
	/* The group is not even opened then: the kernel would bind no cdev meanwhile. */
	if (cdevs_are_held(daemon, lease)) {
		bool news = lease->state == GPUBROKER_LEASE_PREPARING;

		look_again(daemon, lease);
		if (news && lease_go(lease, LEASE_SENT))
			lease_work_was_done(daemon, lease);
		return;
	}
	work = work_new(&ops, lease);
	r = work ? work_add_open(work, kernel_open_vfio(&daemon->kernel), lease->group,
				 &lease->asked)
		 : -ENOMEM;
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (!r) {
		lease->work = work;
		lease->looking = true;
		return;
	}
	work_free(work);
	if (is_let_go(daemon, lease, -r))
		lease_regained(daemon, lease);
	else
		look_again(daemon, lease);
}

void lease_closed(struct daemon *daemon, struct lease *lease)
{
	lease->group_file = GROUP_CLOSED;
	lease->tries = 0;
	/* A VMM that uses cdevs has no use for it; or both are going, then a look in a moment will tell. */
	if (lease->state == GPUBROKER_LEASE_LEASED && cdevs_are_held(daemon, lease))
		look_again(daemon, lease);
	else if (lease_go(lease, LEASE_CLOSED))
		lease_look(daemon, lease);
}

/* A VMM that uses the group has no use for cdevs; else one that closes may be the last of all. */
static void cdev_closed(struct daemon *daemon, struct lease *lease)
{
	if (lease->state != GPUBROKER_LEASE_LEASED || lease->group_file == GROUP_OPEN)
		return;
	if (lease->group_file == GROUP_CLOSED) {
		lease_closed(daemon, lease);
	} else {
		lease->tries = 0;
		lease_look(daemon, lease);
	}
}

/* ---- taking it back ---- */

/*
 * Taking a function from VFIO makes the kernel ask its holder to let go (QEMU unplugs the device
 * from its guest) and then wait, in a worker: a holder that does not answer has a stuck lease to
 * its name until it ends.
 */
void lease_recall(struct lease *lease, const char *why)
{
	struct audit line;

	/* When its worker is done, or it is known whether anybody has it: lease_work_was_done(). */
	if (lease->state == GPUBROKER_LEASE_PREPARING ||
	    (lease->work && lease->state == GPUBROKER_LEASE_LEASED))
		lease->recall = why;
	if (lease->work || !lease_go(lease, LEASE_RECALLED))
		return;
	line = audit_of(lease, why);
	line.level = LOG_NOTICE;
	audit(&line);
	lease_restore(lease->owner, lease);
}

static void on_clock(evutil_socket_t fd, short what, void *userdata)
{
	struct lease *lease = userdata;
	struct audit line;
	char reason[32];

	(void)fd;
	(void)what;
	if ((uint64_t)time(NULL) >= lease->ends) {
		lease_recall(lease, "expired");
		return;
	}
	if (!lease->warned && (uint64_t)time(NULL) >= lease->warn_at) {
		lease->warned = true;
		line = audit_of(lease, "ending");
		line.level = LOG_NOTICE;
		snprintf(reason, sizeof(reason), "at %" PRIu64, lease->ends);
		line.reason = reason;
		audit(&line);
		event_ending(lease);
	}
	lease_set_clock(lease->owner, lease);
}

/*
 * A minute before the end its holder is warned, or half-way through what is left of a shorter time.
 * The clock is the wall's, so it is looked at again now and then: it may be set, and the host may
 * sleep.
 */
void lease_set_clock(struct daemon *daemon, struct lease *lease)
{
	const uint64_t now = (uint64_t)time(NULL);
	const uint64_t left = lease->ends > now ? lease->ends - now : 0;
	uint64_t next;
	struct timeval after;

	if (!lease->ends)
		return;
	if (!lease->warn_at)
		lease->warn_at = left > 120 ? lease->ends - 60 : now + left / 2;
	next = lease->warned ? lease->ends : lease->warn_at;
	next = next > now ? next - now : 0;
	after = (struct timeval){ .tv_sec = (time_t)(next < 60 ? next : 60) };
	if (!lease->expiry)
		lease->expiry = evtimer_new(daemon->base, on_clock, lease);
	if (!lease->expiry || evtimer_add(lease->expiry, &after))
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
			if (lease && lease->watch == watch)
				lease_closed(daemon, lease);
			else if (lease)
				cdev_closed(daemon, lease);
			continue;
		}
		/* Events were lost: any lease may have ended. */
		log_warning("inotify: %s; looking at every lease", strerror(-watch));
		for (lease = TAILQ_FIRST(&daemon->leases.list); lease; lease = next) {
			next = TAILQ_NEXT(lease, link);
			if (lease->state == GPUBROKER_LEASE_LEASED) {
				lease->tries = 0;
				if (lease->group_file == GROUP_OPEN)
					lease->group_file = GROUP_UNKNOWN;
				lease_look(daemon, lease);
			}
		}
		if (watch != -EOVERFLOW)
			return;
	}
}

void lending_take_up(struct daemon *daemon, struct lease *lease)
{
	int watch;

	lease->owner = daemon;
	/* Whether it was ever sent is not known, so it was. */
	lease->recorded = lease->lent = true;
	if (lease->stuck_since) {
		/* The worker waits in the kernel, as the one of the run before did. */
		lease_go(lease, LEASE_LATE);
		lease_restore(daemon, lease);
		return;
	}
	if (lease_is_mdev(lease)) {
		mdev_take_up(daemon, lease);
		return;
	}
	/* Watch first, look then: a close in between is heard. */
	watch = kernel_group_watch(&daemon->kernel, lease->group);
	lease->watch = watch >= 0 ? watch : -1;
	cdevs_watch(daemon, lease);
	lease->group_file = GROUP_UNKNOWN;
	lease_set_clock(daemon, lease);
	lease_look(daemon, lease);
}

void lease_of_unknown(struct lease *lease, const struct group_view *view)
{
	lease->n_functions = view->n_functions;
	for (size_t i = 0; i < view->n_functions; i++)
		lease->functions[i] = (struct lease_function){
			.address = view->functions[i].address,
			.vendor = view->functions[i].vendor,
			.device = view->functions[i].device,
			.driver = LEASE_DRIVER_UNKNOWN,
		};
	lease->asked = lease->functions[0].address;
}

bool lending_is_busy(const struct daemon *daemon)
{
	const struct lease *lease;

	TAILQ_FOREACH(lease, &daemon->leases.list, link)
		if (lease->work && !lease->looking && lease->state != GPUBROKER_LEASE_STUCK)
			return true;
	return false;
}
