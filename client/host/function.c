/* SPDX-License-Identifier: MIT */
/*
 * Functions, groups and the guards, see function.h. No I/O, no state: it decides on what it gets.
 */
#include "config.h"

#include "client/host/function.h"

#include <stdio.h>
#include <string.h>

struct policy_facts function_facts(const struct function *function)
{
	return (struct policy_facts){
		.address = function->address,
		.vendor = function->vendor,
		.device = function->device,
		.subsystem_vendor = function->subsystem_vendor,
		.subsystem_device = function->subsystem_device,
		.class_code = function->class_code,
		.iommu_group = function->iommu_group,
		.driver = function->driver,
		.serial = function->serial_unknown ? NULL : function->serial,
		.path = function->path[0] ? function->path : NULL,
		.profile = "",
	};
}

bool driver_is_vfio(const char *driver)
{
	/*
	 * Every variant driver in the kernel is named so: mlx5_vfio_pci, nvgrace_gpu_vfio_pci,
	 * xe_vfio_pci ...
	 */
	return strstr(driver, "vfio-pci") || strstr(driver, "vfio_pci");
}

bool shows_console(bool on_console, const char *driver)
{
	return on_console && !driver_is_vfio(driver);
}

bool is_console(const struct function *function)
{
	return shows_console(function->boot_vga || function->console[0], function->driver);
}

bool class_is_display(uint32_t class_code)
{
	return class_code >> 16 == 0x03;
}

bool class_is_gpu(uint32_t class_code)
{
	return class_is_display(class_code) || class_code >> 16 == 0x12;
}

bool class_is_bridge(uint32_t class_code)
{
	/* From host bridge to CardBus bridge. */
	return class_code >> 16 == 0x06 && (class_code >> 8 & 0xff) <= 0x07;
}

bool bridge_spoils_group(const char *driver)
{
	return *driver && strcmp(driver, "pcieport") != 0 && strcmp(driver, "pci-stub") != 0 &&
	       !driver_is_vfio(driver);
}

void group_say_too_many(struct group_view *view, size_t n)
{
	view->n_functions = 0;
	view->has_blocker = false;
	snprintf(view->not_viable, sizeof(view->not_viable),
		 "has %zu functions, more than the %d that can be lent together", n, FUNCTIONS_MAX);
}

size_t group_find(const struct group_view *view, const struct pci_address *address)
{
	for (size_t i = 0; i < view->n_functions; i++)
		if (!pci_address_compare(&view->functions[i].address, address))
			return i;
	return SIZE_MAX;
}

enum guard group_guard(const struct group_view *view, bool boot_vga_too, size_t *ret_which)
{
	*ret_which = SIZE_MAX;
	if (view->not_viable[0])
		return GUARD_NOT_VIABLE;
	for (size_t i = 0; i < view->n_functions; i++) {
		const struct function *f = &view->functions[i];

		*ret_which = i;
		if (is_console(f) && !boot_vga_too)
			return GUARD_BOOT_VGA;
		if (f->in_use[0])
			return GUARD_IN_USE;
	}
	return GUARD_NONE;
}
