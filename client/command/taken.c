/* SPDX-License-Identifier: MIT */
/*
 * Finds functions of a lease that no VFIO driver has, see taken.h. It only reads links in /sys, as
 * every user may. The kernel reports an unbind when that has ended, which may wait for the holder,
 * so the broker cannot say this in time.
 */
#include "config.h"

#include "client/command/taken.h"
#include "client/command/json-out.h"
#include "client/common/util.h"
#include "client/host/pci.h"

#include <fcntl.h>

/* Returns true if a function that exists is on no VFIO driver. */
static bool is_off_vfio(const char *device, char ret_driver[FUNCTION_NAME_MAX])
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct pci_address address;

	return sys >= 0 && !pci_address_parse(device, &address) &&
	       !sysfs_driver_read(sys, &address, ret_driver) && !driver_is_vfio(ret_driver);
}

void taken_print(enum gpubroker_lease_state state, char (*devices)[20], size_t n,
		 void (*print)(const char *text))
{
	char driver[FUNCTION_NAME_MAX], text[160];

	for (size_t i = 0; state == GPUBROKER_LEASE_LEASED && i < n; i++) {
		if (!is_off_vfio(devices[i], driver))
			continue;
		if (*driver)
			snprintf(text, sizeof(text),
				 "%s was taken from this lease, and not by the broker: %.32s has "
				 "it",
				 devices[i], driver);
		else
			snprintf(text, sizeof(text),
				 "%s is being taken from this lease, and not by the broker: it has "
				 "no driver, or the kernel waits until its holder lets go",
				 devices[i]);
		print(text);
	}
}

struct json_object *taken_json(const struct gpubroker_lease *lease)
{
	struct json_object *array = json_object_new_array();
	char driver[FUNCTION_NAME_MAX];

	for (size_t i = 0; lease->state == GPUBROKER_LEASE_LEASED && i < lease->n_devices; i++) {
		struct json_object *one;

		if (!is_off_vfio(lease->devices[i], driver))
			continue;
		one = json_object_new_object();
		json_object_object_add(one, "device", json_object_new_string(lease->devices[i]));
		json_object_object_add(one, "driver", json_out_text(driver));
		json_object_array_add(array, one);
	}
	return array;
}
