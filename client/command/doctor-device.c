/* SPDX-License-Identifier: MIT */
/* The checks of one device, for `gpubroker doctor DEVICE`. Reads only. */
#include "config.h"

#include "client/command/doctor.h"
#include "client/command/cli.h"
#include "client/command/holders.h"
#include "client/command/inventory.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads a line of an attribute of the function, "" if there is none. */
static void read_line_of(const char *address, const char *name, char out[128])
{
	char path[96];
	cleanup_file FILE *file = NULL;

	out[0] = '\0';
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, name);
	file = fopen(path, "re");
	if (file && fgets(out, 128, file))
		out[strcspn(out, "\n")] = '\0';
	else
		out[0] = '\0';
}

/* Which functions are lent together. */
static void tell_members(struct doctor *doctor, const struct group_view *view)
{
	char list[512] = "", text[PCI_ADDRESS_TEXT];
	size_t len = 0;

	if (view->group == NO_GROUP) {
		doctor_say(doctor, DOCTOR_FAIL, "group", "See iommu above",
			   "the device is in no IOMMU group, so it cannot be lent");
		return;
	}
	for (size_t i = 0; i < view->n_functions && len < sizeof(list) - 40; i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "",
					pci_address_format(&view->functions[i].address, text));
	doctor_say(doctor, DOCTOR_NOTE, "group", NULL, "IOMMU group %" PRIu32 " is lent whole: %s",
		   view->group, list);
}

/* Tells whether anything keeps it from being lent now, whatever the policy says. */
static void check_guard(struct doctor *doctor, const struct group_view *view)
{
	char text[PCI_ADDRESS_TEXT], opener[320];
	const struct function *f;
	size_t which = 0;

	switch (group_guard(view, false, &which)) {
	case GUARD_NONE:
		if (holders_open_text(view, opener, sizeof(opener)))
			doctor_say(
				doctor, DOCTOR_FAIL, "use",
				"End that program, or claim it with --force and a rule with in-use",
				"%s", opener);
		else
			doctor_say(doctor, DOCTOR_PASS, "use", NULL, "the host does not use it");
		return;
	case GUARD_NOT_VIABLE:
		doctor_say(doctor, DOCTOR_FAIL, "use",
			   "Another slot of the board may have a group of its own",
			   "its group cannot be lent: the group %s", view->not_viable);
		return;
	case GUARD_BOOT_VGA:
		f = &view->functions[which];
		doctor_say(doctor, DOCTOR_FAIL, "use",
			   "Use another card for the console, or a rule with boot-vga and --force",
			   "%s shows the host's console", pci_address_format(&f->address, text));
		return;
	case GUARD_IN_USE:
		f = &view->functions[which];
		doctor_say(doctor, DOCTOR_FAIL, "use", "End that use first", "the host uses %s: %s",
			   pci_address_format(&f->address, text), f->in_use);
		return;
	}
}

static void check_hardware(struct doctor *doctor, const struct function *f, const char *address)
{
	char text[128];

	doctor_say(doctor, DOCTOR_NOTE, "driver", NULL, "its driver on the host is %s",
		   f->driver[0] ? f->driver : "none");
	read_line_of(address, "reset_method", text);
	if (text[0])
		doctor_say(doctor, DOCTOR_PASS, "reset", NULL, "the kernel can reset it by: %s",
			   text);
	else
		doctor_say(
			doctor, DOCTOR_WARN, "reset",
			"A VM that is killed may leave it unusable until the host is switched off; "
			"for some AMD cards there is the module vendor-reset",
			"the kernel knows no way to reset it");
	read_line_of(address, "numa_node", text);
	if (text[0] && text[0] != '-') {
		char cpus[128];

		read_line_of(address, "local_cpulist", cpus);
		doctor_say(doctor, DOCTOR_NOTE, "node", NULL,
			   "it is at NUMA node %s: pin the VM to its processors, %s", text, cpus);
	}
	if (f->vendor == 0x10de)
		doctor_say(
			doctor, DOCTOR_NOTE, "nvidia", NULL,
			"a GeForce in Windows that shows Code 43 needs driver 465 or later; vGPUs "
			"need a licence server in the guest");
}

struct wanted_device {
	const char *address;
	struct gpubroker_device found;
	bool is_found;
};

static int find_device(void *userdata, const struct gpubroker_device *device)
{
	struct wanted_device *wanted = userdata;

	if (!strcmp(device->address, wanted->address)) {
		wanted->found = *device;
		wanted->is_found = true;
	}
	return 0;
}

/* Tells whether the caller may have it, and who has it, as the broker says. */
static void check_claim(struct doctor *doctor, const char *address)
{
	struct wanted_device wanted = { .address = address };
	const struct passwd *user;
	char cure[128];

	if (!doctor->handle || gpubroker_list(doctor->handle, find_device, &wanted) ||
	    !wanted.is_found)
		return;
	snprintf(cure, sizeof(cure), "As root: 'gpubroker policy add --user NAME %s'", address);
	if (!geteuid())
		doctor_say(
			doctor, DOCTOR_NOTE, "rule", NULL,
			"you are root: 'gpubroker policy explain --user NAME %s' says who may have "
			"it",
			address);
	else if (wanted.found.allowed)
		doctor_say(doctor, DOCTOR_PASS, "rule", NULL, "the policy allows you to claim it");
	else
		doctor_say(doctor, DOCTOR_FAIL, "rule", cure,
			   "the policy does not allow you to claim it");
	if (!wanted.found.lease)
		return;
	user = getpwuid((uid_t)wanted.found.holder_uid);
	doctor_say(doctor, DOCTOR_WARN, "lease", "'gpubroker run --wait' waits for it",
		   "%s has it now (%s)", user ? user->pw_name : "another user",
		   gpubroker_status_name(wanted.found.status));
}

int doctor_check_device(struct doctor *doctor, const char *device)
{
	struct group_view *view = calloc(1, sizeof(*view));
	struct inventory inventory = { 0 };
	char text[PCI_ADDRESS_TEXT];
	struct pci_address address;
	const struct function *f;
	int r = 0;

	if (pci_address_parse(device, &address)) {
		cli_error("doctor needs a PCI address as 01:00.0, and '%s' is none", device);
		free(view);
		return EXIT_BAD_USAGE;
	}
	inventory_read_local(&inventory);
	f = inventory_find(&inventory, &address);
	if (!f) {
		cli_error("there is no PCI function %s; 'gpubroker list --all' shows them", device);
		r = EXIT_NO_DEVICE;
	} else if (view) {
		pci_address_format(&address, text);
		inventory_group(&inventory, f, view);
		tell_members(doctor, view);
		if (view->group != NO_GROUP)
			check_guard(doctor, view);
		check_hardware(doctor, f, text);
		check_claim(doctor, text);
	}
	inventory_done(&inventory);
	free(view);
	return r;
}
