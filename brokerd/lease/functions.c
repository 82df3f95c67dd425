/* SPDX-License-Identifier: MIT */
/*
 * Leases of whole functions, by workers:
 *
 *	ask:   look whether another program has the group, if it is on VFIO; read each
 *	       driver_override, which is recorded together with the driver
 *	make:  take each function from its host driver and bind it to VFIO
 *	end:   take all off VFIO, reset those that need it, let others come first who waited for
 *	       them, give each back, read its override
 *
 * It must never change a function that is not recorded, nor report a restore without having checked
 * it: sysfs accepts writes that do nothing.
 */
#include "config.h"

#include "brokerd/lease/functions.h"
#include "brokerd/lease/driver.h"
#include "brokerd/lease/leases.h"
#include "brokerd/lease/newcomers.h"
#include "brokerd/lease/taken.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define NEWCOMERS_PROBED 16 /* functions; more wait for root's own drivers_probe */

static const char step_reset[] = "reset", step_override[] = "driver_override";
static const char step_compare[] = "comparing its driver_override";

static bool is_unknown(const char *driver)
{
	return !strcmp(driver, LEASE_DRIVER_UNKNOWN);
}

const char *functions_override_text(const char *text)
{
	return strcmp(text, "(null)") != 0 ? text : "";
}

/* ---- ask ---- */

int functions_add_override_reads(struct lease *lease, struct work *work)
{
	int r = 0;

	for (size_t i = 0; !r && i < lease->n_functions; i++)
		r = work_add_read(work,
				  kernel_open_override_read(leases_of(lease)->kernel,
							    &lease->functions[i].address),
				  "reading driver_override", &lease->functions[i].address);
	return r;
}

/*
 * Returns true if the group can be another program's: a VMM can use it only if no function of it
 * has a host driver.
 */
static bool may_be_foreign(const struct lease *lease)
{
	bool on_vfio = false;

	for (size_t i = 0; i < lease->n_functions; i++) {
		const char *driver = lease->functions[i].driver;

		if (*driver && !driver_is_vfio(driver))
			return false;
		on_vfio = on_vfio || *driver;
	}
	return on_vfio;
}

/*
 * Before anything is recorded or changed, looks whether another program has the group. If its node
 * cannot be opened at all, the claim is refused for that later: see check_vfio() in claim.c.
 */
static int add_ask(struct lease *lease, struct work *work)
{
	int r = 0;

	if (may_be_foreign(lease) && !kernel_vfio_check(leases_of(lease)->kernel, false))
		r = work_add_open(work, kernel_open_vfio(leases_of(lease)->kernel), lease->group,
				  &lease->asked);
	return r ? r : functions_add_override_reads(lease, work);
}

static void note_override(struct lease *lease, const struct pci_address *address, const char *text)
{
	text = functions_override_text(text);
	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *was = &lease->functions[i];

		if (pci_address_compare(&was->address, address) != 0)
			continue;
		if (strlen(text) < sizeof(was->override))
			strcpy(was->override, text);
		else
			lease->too_long = true;
	}
}

/* Reads the drivers again: the claim read them before the worker was started. */
static void check_overrides(struct lease *lease)
{
	if (lease->too_long)
		lease_fail(lease, NULL, "its driver override is too long", 0);
	for (size_t i = 0; !lease->failure.what && i < lease->n_functions; i++) {
		struct lease_function *was = &lease->functions[i];
		char now[FUNCTION_NAME_MAX];
		int r = sysfs_driver_read(leases_of(lease)->kernel->sys, &was->address, now);

		if (r) {
			lease_fail(lease, NULL, "reading its driver", -r);
		} else if (strcmp(now, was->driver) != 0) {
			lease->made_otherwise = true;
			strcpy(was->driver, now);
		}
	}
}

/* ---- make ---- */

/*
 * Returns the indexes of the lease's functions in the order in which host drivers lose them: a
 * card's display is the last, since the driver of its sound card asks that of the display for power
 * and for the monitors. They get them back in the opposite order.
 */
static void order_functions(const struct lease *lease, size_t order[PROTOCOL_FUNCTIONS_MAX])
{
	size_t n = 0;

	for (int displays = 0; displays < 2; displays++) {
		for (size_t i = 0; i < lease->n_functions; i++) {
			const struct device *device = devices_find(leases_of(lease)->devices,
								   &lease->functions[i].address);

			if ((device && class_is_display(device->record.class_code)) == displays)
				order[n++] = i;
		}
	}
}

static int add_bind(struct lease *lease, struct work *work)
{
	const struct leases *leases = leases_of(lease);
	size_t order[PROTOCOL_FUNCTIONS_MAX];
	int r = 0;

	order_functions(lease, order);
	for (size_t i = 0; !r && i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[order[i]];
		bool asked = !pci_address_compare(&was->address, &lease->asked);

		r = driver_add_bind(leases->kernel, leases->devices, work, &was->address,
				    was->driver, asked ? lease->terms.vfio_driver : "");
	}
	return r;
}

static void check_bound(struct lease *lease, const struct work_result *result)
{
	const struct kernel *kernel = leases_of(lease)->kernel;
	char driver[FUNCTION_NAME_MAX];

	if (result->error) {
		lease_fail(lease, &result->address, result->what, result->error);
		return;
	}
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct pci_address *address = &lease->functions[i].address;

		if (sysfs_driver_read(kernel->sys, address, driver) || !driver_is_vfio(driver)) {
			lease_fail(lease, address, driver_why_not_bound(kernel), 0);
			return;
		}
	}
	taken_note(lease);
	lease_transition(lease, LEASE_BOUND);
}

static const char *why_not_bound(const struct lease *lease, int error)
{
	if (error != -ENOENT)
		return "binding to VFIO";
	return lease->terms.vfio_driver[0] ? "the VFIO driver that its rule names is not loaded"
					   : driver_why_not_bound(leases_of(lease)->kernel);
}

static int recorded_group(const struct lease *lease, uint32_t *ret_group)
{
	*ret_group = lease->group;
	return 0;
}

/* ---- end ---- */

/*
 * Returns true if the function has to be unbound from VFIO: it goes back to a host driver, or a
 * holder has had it. The unbind makes the holder's descriptors useless. A function that stays on
 * VFIO is unbound and bound again for that reason alone.
 */
static bool comes_off(const struct lease *lease, const struct lease_function *was, const char *now)
{
	return driver_is_vfio(now) &&
	       (lease->lent || is_unknown(was->driver) || strcmp(now, was->driver) != 0);
}

/*
 * Adds the reset of a function. One that stays on VFIO is reset if the kernel can, since no host
 * driver will reset it; others only if their rule requires it.
 */
static int add_reset(const struct kernel *kernel, struct work *work, const struct lease *lease,
		     const struct lease_function *was, const char *now)
{
	int fd;

	/* The host uses it: it was reset before, or somebody has bound it unasked. */
	if (*now && !driver_is_vfio(now))
		return 0;
	if (!lease->lent || lease->forced ||
	    (!lease->terms.require_reset && !driver_is_vfio(was->driver)))
		return 0;
	fd = kernel_open_reset(kernel, &was->address);
	if (fd == -ENOENT)
		return lease->terms.require_reset ? -EOPNOTSUPP : 0;
	/*
	 * The kernel may offer a slot reset for a card's first function if it has not seen the
	 * second yet; the write then fails with ENOTTY.
	 */
	return work_add(work, fd, "1", step_reset, &was->address,
			lease->terms.require_reset ? STOP : IGNORE_ENOTTY);
}

/*
 * Somebody's unbind may still wait for the holder, who must not keep the function after the lease.
 * If the driver has been unloaded, no unbind is under way.
 */
static int add_wait_for_unbind(const struct kernel *kernel, struct work *work,
			       const struct lease_function *was, const char *now)
{
	char text[PCI_ADDRESS_TEXT];
	int fd;

	if (!was->taken || *now || !was->lent_by[0])
		return 0;
	fd = kernel_open_unbind_of(kernel, was->lent_by);
	return fd == -ENOENT ? 0
			     : work_add(work, fd, pci_address_format(&was->address, text), "unbind",
					&was->address, IGNORE_ERROR);
}

static int add_take_off(const struct kernel *kernel, struct work *work, const struct lease *lease,
			struct lease_function *was, const char *now)
{
	char text[PCI_ADDRESS_TEXT], override[PROTOCOL_NAME_MAX + 1];
	int r = 0;

	/* A newline alone clears it; an empty write would not. */
	snprintf(override, sizeof(override), "%s\n", was->override);
	if (!was->taken)
		r = work_add(work, kernel_open_override(kernel, &was->address), override,
			     step_override, &was->address, CONTINUE);
	was->written = !was->taken && !r;
	if (!r)
		r = add_wait_for_unbind(kernel, work, was, now);
	/*
	 * The unbind of a function that stays on VFIO is the barrier between tenants: it must not
	 * fail.
	 */
	if (!r && comes_off(lease, was, now))
		r = work_add(work, kernel_open_unbind(kernel, &was->address),
			     pci_address_format(&was->address, text), "unbind", &was->address,
			     driver_is_vfio(was->driver) ? STOP : CONTINUE);
	return r ? r : add_reset(kernel, work, lease, was, now);
}

/* Has the kernel look for a driver that may have the function, which finds none for some. */
static int add_probe(const struct kernel *kernel, struct work *work,
		     const struct pci_address *address)
{
	char text[PCI_ADDRESS_TEXT];

	return work_add(work, kernel_open_probe(kernel), pci_address_format(address, text),
			"drivers_probe", address, IGNORE_ERROR);
}

static int add_bind_back(const struct kernel *kernel, struct work *work, const struct lease *lease,
			 struct lease_function *was, const char *now)
{
	const char *driver = comes_off(lease, was, now) ? "" : now;
	char text[PCI_ADDRESS_TEXT];
	int fd, r;

	/*
	 * The kernel shows the driver before its probe has finished. Binding a function that is
	 * already bound waits for the probe, and does nothing else.
	 */
	if (*driver && !strcmp(driver, was->driver))
		return work_add(work, kernel_open_bind(kernel, driver),
				pci_address_format(&was->address, text), "bind", &was->address,
				IGNORE_ERROR);
	if (was->probe == PROBE_DUE && !*now) {
		was->probe = PROBE_DONE;
		return add_probe(kernel, work, &was->address);
	}
	/*
	 * Another driver than VFIO's or the recorded one was bound by somebody on purpose, so it
	 * stays.
	 */
	if (*driver || !was->driver[0])
		return 0;
	fd = is_unknown(was->driver) ? -ENOENT : kernel_open_bind(kernel, was->driver);
	if (fd == -ENOENT) /* its module was unloaded, so any driver may have the function */
		fd = kernel_open_probe(kernel);
	r = work_add(work, fd, pci_address_format(&was->address, text), "bind", &was->address,
		     CONTINUE);
	if (!r)
		work_show(work);
	return r;
}

/*
 * Has the kernel look for a driver for each function that came into the group and that the lease
 * does not have: as long as a holder had the group attached, the kernel bound no host driver to it,
 * and it does not try again by itself. The lease is over without it, so an error means nothing.
 */
static void add_newcomers(struct lease *lease, struct work *work)
{
	const struct kernel *kernel = leases_of(lease)->kernel;
	struct pci_address newcomers[NEWCOMERS_PROBED];
	char driver[FUNCTION_NAME_MAX];
	int n = lease_newcomers(lease, newcomers, ARRAY_SIZE(newcomers));

	for (int i = 0; i < n && i < (int)ARRAY_SIZE(newcomers); i++)
		if (!sysfs_driver_read(kernel->sys, &newcomers[i], driver) && !*driver)
			add_probe(kernel, work, &newcomers[i]);
}

/*
 * Reads the driver that a function of the lease has now. -ENODEV: it does not exist, or it is in
 * another group: then it was removed and has come back since, and may be another lease's.
 */
static int read_driver(const struct lease *lease, const struct lease_function *was,
		       char ret_driver[FUNCTION_NAME_MAX])
{
	const int sys = leases_of(lease)->kernel->sys;
	uint32_t group;
	int r = sysfs_group_of(sys, &was->address, &group);

	if (!r && group != lease->group)
		return -ENODEV;
	return r ? r : sysfs_driver_read(sys, &was->address, ret_driver);
}

/*
 * The unbind waits in the kernel for the holder, with the function's lock, and whoever would change
 * the function meanwhile waits for that lock. They are to come first: the worker waits a moment
 * when the holder has let go, and gives nothing back if an override is then another one than it has
 * written.
 */
static int add_give_way(const struct lease *lease, struct work *work,
			const bool there[PROTOCOL_FUNCTIONS_MAX])
{
	const struct kernel *kernel = leases_of(lease)->kernel;
	int r;

	if (!lease_has_holder(lease) || !work_steps(work))
		return 0;
	r = work_add_wait(work, &lease->asked);
	for (size_t i = 0; !r && i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];

		if (there[i] && was->written)
			r = work_add_expect(work, kernel_open_override_read(kernel, &was->address),
					    was->override, step_compare, &was->address);
	}
	return r;
}

/*
 * Takes all functions off VFIO first, then gives each back, the display first, since a host driver
 * may not be bound while another function of the group is a user's. The worker reads the overrides
 * too: see kernel.h.
 */
static int add_restore(struct lease *lease, struct work *work)
{
	const struct kernel *kernel = leases_of(lease)->kernel;
	char now[PROTOCOL_FUNCTIONS_MAX][FUNCTION_NAME_MAX];
	bool there[PROTOCOL_FUNCTIONS_MAX];
	size_t order[PROTOCOL_FUNCTIONS_MAX];
	int r = 0;

	lease->as_recorded = 0;
	lease->bare = lease->again = false;
	taken_decide(lease);
	for (size_t i = 0; !r && i < lease->n_functions; i++) {
		struct lease_function *was = &lease->functions[i];

		r = read_driver(lease, was, now[i]);
		there[i] = r != -ENODEV; /* unplugged: nothing to give back */
		if (there[i] && !r)
			r = add_take_off(kernel, work, lease, was, now[i]);
		/*
		 * An error may mean that the function was unplugged in between; any other error
		 * must not pass for that.
		 */
		if (there[i] && r && read_driver(lease, was, now[i]) == -ENODEV)
			there[i] = false;
		if (!there[i])
			r = 0;
	}
	r = r ? r : add_give_way(lease, work, there);
	order_functions(lease, order);
	for (size_t i = lease->n_functions; !r && i--;)
		if (there[order[i]])
			r = add_bind_back(kernel, work, lease, &lease->functions[order[i]],
					  now[order[i]]);
	for (size_t i = 0; !r && i < lease->n_functions; i++)
		if (there[i])
			r = work_add_read(work,
					  kernel_open_override_read(kernel,
								    &lease->functions[i].address),
					  "reading driver_override", &lease->functions[i].address);
	if (!r && work_steps(work))
		add_newcomers(lease, work);
	return r;
}

static void compare_override(struct lease *lease, const struct pci_address *address,
			     const char *text)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *function = &lease->functions[i];

		if (pci_address_compare(&function->address, address))
			continue;
		taken_compare(lease, function, functions_override_text(text));
		if (!strcmp(function->override, functions_override_text(text)))
			lease->as_recorded |= UINT64_C(1) << i;
	}
}

/* Returns true if the kernel has the driver. Where that cannot be read, it may have it. */
static bool is_loaded(int sys, const char *driver)
{
	cleanup_fd int fd = sysfs_open(sys, O_PATH | O_DIRECTORY, "bus/pci/drivers/%s", driver);

	return fd != -ENOENT;
}

/*
 * Compares the functions with the record. Returns NULL if all are as they were, else what is wrong,
 * with its address and, if it is not loaded, the driver in *ret_end.
 */
static const char *not_as_before(const struct lease *lease, struct lease_end *ret_end)
{
	int sys = leases_of(lease)->kernel->sys;

	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];
		char now[FUNCTION_NAME_MAX];
		int r = read_driver(lease, was, now);

		ret_end->address = was->address;
		if (r == -ENODEV)
			continue;
		if (r)
			return "cannot be read";
		if (was->taken) { /* what it has is right, if no holder can have it */
			if (driver_is_vfio(now) && strcmp(now, was->driver) != 0)
				return "was bound to VFIO again meanwhile";
			if (!*now && lease->bare)
				return "was unbound, and has the driver override of its lease";
			continue;
		}
		if (!(lease->as_recorded & UINT64_C(1) << i))
			return "its driver override could not be put back";
		if (is_unknown(was->driver)
			    ? driver_is_vfio(now)
			    : strcmp(now, was->driver) != 0 && (!*now || driver_is_vfio(now))) {
			if (!*now && !is_unknown(was->driver) && !is_loaded(sys, was->driver))
				ret_end->unloaded = was->driver;
			return "did not go back to its driver";
		}
	}
	return NULL;
}

static enum lease_end_result functions_ended(struct lease *lease, const struct work_result *result,
					     struct lease_end *ret_end)
{
	struct lease_end end = { .address = lease->functions[0].address };

	end.what = not_as_before(lease, &end);
	if (result->error && !end.unloaded && (end.what || result->what == step_reset))
		end = (struct lease_end){ result->what, result->address, result->error, NULL };
	if (result->error == ESTALE && result->what == step_compare)
		taken_differs(lease, &result->address);
	if (!result->error || result->what != step_override)
		taken_meanwhile(lease);
	if (lease->again && !end.what)
		end.what = "was changed meanwhile, and not by the broker";
	*ret_end = end;
	return lease->again ? END_TRY_AGAIN : end.what ? END_STAYS : END_OVER;
}

static enum lease_end_result functions_not_begun(struct lease *lease, int error,
						 struct lease_end *ret_end)
{
	const bool no_reset = error == EOPNOTSUPP;

	*ret_end = (struct lease_end){
		.what = no_reset ? "its rule requires a reset, and the kernel has none"
				 : "giving it back",
		.address = lease->functions[0].address,
		.error = no_reset ? 0 : error,
	};
	return END_STAYS;
}

const struct lease_kind lease_of_functions = {
	.add_ask = add_ask,
	.asked_text = note_override,
	.asked = check_overrides,
	.add_make = add_bind,
	.makes_at_once = true,
	.made = check_bound,
	.why_not_begun = why_not_bound,
	.group_of = recorded_group,
	.add_end = add_restore,
	.ended_text = compare_override,
	.how_ended = functions_ended,
	.end_not_begun = functions_not_begun,
	.needs = lease_has_function,
};
