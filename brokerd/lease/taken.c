/* SPDX-License-Identifier: MIT */
/*
 * Functions that are taken from a lease, see taken.h.
 *
 * The kernel makes a function's link to its driver when it binds it, and removes the link when an
 * unbind begins. Each link has an inode number, which kernfs gives to no other file before four
 * thousand million more were made. So a link with another number shows that somebody has bound the
 * function anew, even to the same driver, which nothing else would show. The numbers are on record
 * while the lease lasts, and not while its functions are given back, which changes them.
 *
 * It reads only links. It must never believe what a helper reports: a record of the watcher is only
 * a reason to look.
 */
#include "config.h"

#include "brokerd/lease/taken.h"
#include "brokerd/process/log.h"
#include "brokerd/record/audit.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Returns the number of the function's link to its driver; 0: it has none, or cannot be read. */
static uint64_t binding_of(const struct lease *lease, const struct pci_address *address)
{
	cleanup_fd int fd = sysfs_function_open(leases_of(lease)->kernel->sys, address,
						O_PATH | O_NOFOLLOW, "driver");
	struct statx stx;

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_INO, &stx))
		return 0;
	return stx.stx_ino;
}

/* Reads the driver of a function that exists, in the lease's group. */
static bool read_now(const struct lease *lease, const struct pci_address *address,
		     char ret_driver[FUNCTION_NAME_MAX])
{
	const int sys = leases_of(lease)->kernel->sys;
	uint32_t group;

	return !sysfs_group_of(sys, address, &group) && group == lease->group &&
	       !sysfs_driver_read(sys, address, ret_driver);
}

/*
 * Without it a restart of the broker does not know what somebody takes, or takes for that what this
 * process does: then the function is the host's at the end, which is no harm.
 */
static void record_bindings(const struct lease *lease)
{
	int r = lease->recorded ? lease_record(lease) : 0;

	if (r)
		log_warning("lease %" PRIu64 ": cannot record who binds its functions: %s",
			    lease->id, strerror(-r));
}

void taken_note(struct lease *lease)
{
	char driver[FUNCTION_NAME_MAX];
	bool news = false;

	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *function = &lease->functions[i];

		if (function->binding || !read_now(lease, &function->address, driver) ||
		    !driver_is_vfio(driver) || strlen(driver) >= sizeof(function->lent_by))
			continue;
		function->binding = binding_of(lease, &function->address);
		strcpy(function->lent_by, driver);
		news = news || function->binding;
	}
	if (news)
		record_bindings(lease);
}

void taken_look(struct lease *lease, const struct pci_address *address)
{
	struct audit_line line = audit_line_of(lease, "taken-away");
	struct lease_function *function = NULL;
	char driver[FUNCTION_NAME_MAX], reason[128];

	for (size_t i = 0; i < lease->n_functions; i++)
		if (!pci_address_compare(&lease->functions[i].address, address))
			function = &lease->functions[i];
	if (!function || !function->binding || !read_now(lease, address, driver) ||
	    function->away == !driver_is_vfio(driver))
		return;
	function->away = !function->away;
	snprintf(reason, sizeof(reason),
		 function->away ? "not by the broker; %.40s has it now" : "%.40s has it again",
		 *driver ? driver : "no driver");
	if (!function->away)
		line.outcome = "brought-back";
	line.level = function->away ? LOG_WARNING : LOG_NOTICE;
	line.device = address;
	line.reason = reason;
	audit_write(&line);
}

void taken_decide(struct lease *lease)
{
	char driver[FUNCTION_NAME_MAX];
	bool news = false;

	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *function = &lease->functions[i];
		const uint64_t binding = function->binding;
		uint64_t now;

		function->written = function->differs = false;
		function->before = 0;
		function->binding = 0; /* from now on it is this process that binds it */
		news = news || binding || function->taken;
		if (!read_now(lease, &function->address, driver))
			continue; /* unplugged, which is no taking */
		now = function->before = binding_of(lease, &function->address);
		/* A link that cannot be read is no other one. */
		if (binding && binding != now && (now || !*driver))
			function->taken = true;
		if (function->taken && strlen(driver) < sizeof(function->driver))
			strcpy(function->driver, driver);
	}
	if (news)
		record_bindings(lease);
}

bool taken_for_host(const struct lease *lease)
{
	char driver[FUNCTION_NAME_MAX];

	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *function = &lease->functions[i];

		if (function->taken && !driver_is_vfio(function->driver) &&
		    read_now(lease, &function->address, driver))
			return true;
	}
	return false;
}

/* A function that is taken has no driver, and the override of one. */
static void look_at_bare(struct lease *lease, struct lease_function *function)
{
	/* Whoever has unbound it may be about to bind it. */
	if (!function->bare) {
		function->bare = lease->bare = true;
		return;
	}
	function->taken = false;
	strcpy(function->driver, LEASE_DRIVER_UNKNOWN);
}

void taken_compare(struct lease *lease, struct lease_function *function, const char *override)
{
	char driver[FUNCTION_NAME_MAX];

	function->differs = function->written && strcmp(override, function->override) != 0;
	if (!function->taken || function->driver[0] ||
	    !read_now(lease, &function->address, driver) || *driver)
		return;
	if (driver_is_vfio(override)) {
		look_at_bare(lease, function);
	} else if (function->probe == PROBE_NO) {
		function->probe = PROBE_DUE;
		lease->again = true;
	}
}

void taken_differs(struct lease *lease, const struct pci_address *address)
{
	for (size_t i = 0; i < lease->n_functions; i++)
		if (!pci_address_compare(&lease->functions[i].address, address))
			lease->functions[i].differs = true;
}

bool taken_while_waited(struct lease *lease)
{
	bool taken = false;

	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *function = &lease->functions[i];
		const uint64_t now = binding_of(lease, &function->address);

		if (!function->written || !now || now == function->before)
			continue;
		taken = function->differs = true;
	}
	return taken;
}

void taken_meanwhile(struct lease *lease)
{
	for (size_t i = 0; i < lease->n_functions; i++)
		if (lease->functions[i].differs)
			lease->functions[i].taken = lease->again = true;
}
