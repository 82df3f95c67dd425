/* SPDX-License-Identifier: MIT */
/*
 * Functions that are taken from a lease, see taken.h.
 *
 * The kernel makes a function's link to its driver when it binds it, and removes the link when an
 * unbind begins. Each link has an inode number, which kernfs gives to no other file before four
 * thousand million more were made. So a link with another number shows that somebody has bound the
 * function anew, even to the same driver, which nothing else would show. After a restart of this
 * process the numbers are noted again, for a holder that is found.
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

void taken_note(struct lease *lease)
{
	char driver[FUNCTION_NAME_MAX];

	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *function = &lease->functions[i];

		if (function->binding || !read_now(lease, &function->address, driver) ||
		    !driver_is_vfio(driver) || strlen(driver) >= sizeof(function->lent_by))
			continue;
		function->binding = binding_of(lease, &function->address);
		strcpy(function->lent_by, driver);
	}
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

	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *function = &lease->functions[i];
		uint64_t now;

		if (!read_now(lease, &function->address,
			      driver)) { /* unplugged, which is no taking */
			function->binding = 0;
			continue;
		}
		now = binding_of(lease, &function->address);
		/* A link that cannot be read is no other one. */
		if (function->binding && function->binding != now && (now || !*driver))
			function->taken = true;
		function->binding = 0; /* from now on it is this process that binds it */
		if (function->taken && strlen(driver) < sizeof(function->driver))
			strcpy(function->driver, driver);
	}
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

bool taken_is_bare(struct lease *lease, const struct pci_address *address, const char *override)
{
	char driver[FUNCTION_NAME_MAX];

	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *function = &lease->functions[i];

		if (pci_address_compare(&function->address, address) || !function->taken ||
		    function->driver[0] || !driver_is_vfio(override) ||
		    !read_now(lease, address, driver) || *driver)
			continue;
		/* Whoever has unbound it may be about to bind it. */
		if (!function->bare)
			return function->bare = true;
		function->taken = false;
		strcpy(function->driver, LEASE_DRIVER_UNKNOWN);
	}
	return false;
}
