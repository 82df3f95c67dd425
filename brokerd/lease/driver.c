/* SPDX-License-Identifier: MIT */
/*
 * Chooses VFIO drivers, see driver.h. It writes nothing itself: a worker does. The watcher reads
 * modules.alias and proposes a variant driver. A proposal is accepted only if it is a VFIO driver
 * that the kernel has.
 */
#include "config.h"

#include "brokerd/lease/driver.h"
#include "client/common/util.h"
#include "client/host/function.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define VFIO_DRIVER "vfio-pci"

static bool driver_is_loaded(const struct kernel *kernel, const char *driver)
{
	int fd = kernel_open_bind(kernel, driver);

	fd_close(fd);
	return fd >= 0;
}

const char *driver_or_any(const struct kernel *kernel, const char *driver)
{
	return driver && *driver && driver_is_loaded(kernel, driver) ? driver : "";
}

/*
 * Chooses the proposed variant driver, or vfio-pci. modules.alias names a module; a driver's own
 * name may have '-' where the module's has '_'.
 */
static void choose_driver(const struct kernel *kernel, const struct devices *devices,
			  const struct pci_address *address, char out[PROTOCOL_NAME_MAX])
{
	const struct device *device = devices_find(devices, address);

	strcpy(out, VFIO_DRIVER);
	if (!device || !driver_is_vfio(device->record.vfio_driver))
		return;
	memcpy(out, device->record.vfio_driver, PROTOCOL_NAME_MAX);
	if (driver_is_loaded(kernel, out))
		return;
	for (char *p = out; *p; p++)
		if (*p == '_')
			*p = '-';
	if (!driver_is_loaded(kernel, out))
		strcpy(out, VFIO_DRIVER);
}

int driver_add_bind(const struct kernel *kernel, const struct devices *devices, struct work *work,
		    const struct pci_address *address, const char *bound, const char *wanted)
{
	char text[PCI_ADDRESS_TEXT], driver[PROTOCOL_NAME_MAX], override[PROTOCOL_NAME_MAX + 1];
	int fd, r;

	if (driver_is_vfio(bound))
		return 0;
	if (*wanted)
		snprintf(driver, sizeof(driver), "%s", wanted);
	else
		choose_driver(kernel, devices, address, driver);
	if (!driver_is_loaded(kernel, driver))
		return -ENOENT;
	pci_address_format(address, text);
	snprintf(override, sizeof(override), "%s\n", driver);
	r = work_add(work, kernel_open_override(kernel, address), override, "driver_override",
		     address, STOP);
	if (!r)
		work_show(work);
	fd = !r && bound[0] ? kernel_open_unbind(kernel, address) : -ENOENT;
	if (!r && fd != -ENOENT) /* a hook may have taken it from its driver already */
		r = work_add(work, fd, text, "unbind", address, STOP);
	if (!r)
		r = work_add(work, kernel_open_probe(kernel), text, "drivers_probe", address, STOP);
	return r;
}

const char *driver_why_not_bound(const struct kernel *kernel)
{
	return driver_is_loaded(kernel, VFIO_DRIVER)
		       ? "vfio-pci did not take it"
		       : "the driver vfio-pci is not there; 'modprobe vfio-pci' loads it";
}
