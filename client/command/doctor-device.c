/* SPDX-License-Identifier: MIT */
/*
 * The checks of one device, for `gpubroker doctor DEVICE`. Reads facts alone, of this host or of a
 * snapshot.
 */
#include "config.h"

#include "client/command/doctor.h"
#include "client/command/cli.h"
#include "client/command/facts.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Says why a function is in no group. Where a device tree or ACPI's table of ARM describes the
 * IOMMU, Linux before 6.15 gives a function its group no earlier than its first driver.
 */
static void tell_no_group(struct doctor *doctor, const struct function *f)
{
	const struct inventory *inventory = &doctor->inventory;
	bool others = false;

	for (size_t i = 0; i < inventory->n; i++)
		others = others || inventory->functions[i].iommu_group != NO_GROUP;
	if (others && !f->driver[0])
		doctor_say(doctor, DOCTOR_FAIL, "group",
			   "A prepare rule has VFIO's driver take it at boot: see "
			   "gpubroker.policy(5)",
			   "the device is in no IOMMU group, though others are: on ARM a function "
			   "gets its group with its first driver");
	else
		doctor_say(doctor, DOCTOR_FAIL, "group", "See iommu above",
			   "the device is in no IOMMU group, so it cannot be lent");
}

/* Which functions are lent together. */
static void tell_members(struct doctor *doctor, const struct group_view *view)
{
	char list[512] = "", text[PCI_ADDRESS_TEXT];
	size_t len = 0;

	for (size_t i = 0; i < view->n_functions && len < sizeof(list) - 40; i++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "",
					pci_address_format(&view->functions[i].address, text));
	doctor_say(doctor, DOCTOR_NOTE, "group", NULL, "IOMMU group %" PRIu32 " is lent whole: %s",
		   view->group, list);
}

/* Tells whether anything keeps it from being lent now, whatever the policy says. */
static void check_guard(struct doctor *doctor, const struct group_view *view,
			struct json_object *device)
{
	const char *opener = facts_text(device, "opened_by");
	char text[PCI_ADDRESS_TEXT];
	const struct function *f;
	size_t which = 0;

	switch (group_guard(view, false, &which)) {
	case GUARD_NONE:
		if (opener[0])
			doctor_say(
				doctor, DOCTOR_FAIL, "use",
				"End that program, or claim it with --force and a rule with in-use",
				"%s", opener);
		else if (!strcmp(facts_text(device, "status"),
				 gpubroker_status_name(GPUBROKER_IN_USE)))
			doctor_say(doctor, DOCTOR_FAIL, "use",
				   "As root: 'gpubroker list' names it; end it, perhaps a VM of "
				   "libvirt's",
				   "a program has it open through VFIO, past the broker");
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

/* Names who has a render node open: any number of processes may, and 'use' names the first. */
static void tell_render(struct doctor *doctor, struct json_object *device)
{
	struct json_object *list = facts_list(device, "render_opened_by");

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *one = json_object_array_get_idx(list, i);

		if (json_object_is_type(one, json_type_string))
			doctor_say(
				doctor, DOCTOR_WARN, "render",
				"End that process before the card is lent; to share the card, use "
				"virtio-gpu with Venus, see gpubroker(7)",
				"%.200s, and the card's driver waits for it",
				json_object_get_string(one));
	}
}

/* ---- the hardware ---- */

static void check_reset(struct doctor *doctor, struct json_object *device)
{
	const char *methods = facts_text(device, "reset_method");

	if (methods[0])
		doctor_say(doctor, DOCTOR_PASS, "reset", NULL, "the kernel can reset it by: %s",
			   methods);
	else
		doctor_say(
			doctor, DOCTOR_WARN, "reset",
			"A VM that is killed may leave it unusable until the host is switched off; "
			"for some AMD cards there is the module vendor-reset",
			"the kernel knows no way to reset it");
}

static void check_node(struct doctor *doctor, struct json_object *device)
{
	const int64_t node = facts_number(device, "numa_node", -1);
	const int64_t memory = facts_number(device, "node_memory", 0);

	if (node < 0)
		return;
	doctor_say(doctor, DOCTOR_NOTE, "node", NULL,
		   "it is at NUMA node %" PRId64 ": pin the VM to its processors, %s", node,
		   facts_text(device, "cpus"));
	if (memory > 0 && doctor->memory > (uint64_t)memory)
		doctor_say(doctor, DOCTOR_WARN, "node",
			   "Give the VM less, or expect it to be slower",
			   "node %" PRId64 " has %" PRId64 "M of memory, less than the VM", node,
			   memory >> 20);
}

/* Hints where they apply: a GeForce (VGA, not 3D controller), a card that makes vGPUs. */
static void tell_nvidia(struct doctor *doctor, const struct function *f, struct json_object *device)
{
	if (f->vendor != 0x10de)
		return;
	if (facts_flag(device, "vgpu") || facts_part(device, "vfs"))
		doctor_say(doctor, DOCTOR_NOTE, "nvidia", NULL,
			   "its vGPUs need a licence server that the guest can reach, or they "
			   "become slow after 20 minutes");
	else if (f->class_code >> 8 == 0x0300)
		doctor_say(doctor, DOCTOR_NOTE, "nvidia", NULL,
			   "a GeForce that shows Code 43 in Windows needs driver 465 or later in "
			   "the guest");
}

static void tell_connectors(struct doctor *doctor, struct json_object *device)
{
	struct json_object *list = facts_list(device, "connectors");
	char text[256] = "";
	size_t len = 0;

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *name = json_object_array_get_idx(list, i);

		if (json_object_is_type(name, json_type_string) && len < sizeof(text) - 80)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%.64s",
						len ? ", " : "", json_object_get_string(name));
	}
	if (len)
		doctor_say(doctor, DOCTOR_NOTE, "screens", NULL,
			   "a screen is connected to %s, which the VM gets with it", text);
}

static void check_hardware(struct doctor *doctor, const struct function *f,
			   struct json_object *device)
{
	doctor_say(doctor, DOCTOR_NOTE, "driver", NULL, "its driver on the host is %s",
		   f->driver[0] ? f->driver : "none");
	check_reset(doctor, device);
	check_node(doctor, device);
	tell_connectors(doctor, device);
	tell_nvidia(doctor, f, device);
}

/* ---- the broker ---- */

/* Tells whether the caller may have it, and who has it, as the broker says. */
static void check_claim(struct doctor *doctor, const char *address, struct json_object *device)
{
	const char *holder = facts_text(device, "holder");
	char cure[128];

	if (!facts_text(device, "status")[0])
		return;
	snprintf(cure, sizeof(cure), "As root: 'gpubroker policy add --user NAME %s'", address);
	if (facts_flag(doctor->caller, "root"))
		doctor_say(
			doctor, DOCTOR_NOTE, "rule", NULL,
			"you are root: 'gpubroker policy explain --user NAME %s' says who may have "
			"it",
			address);
	else if (facts_flag(device, "allowed"))
		doctor_say(doctor, DOCTOR_PASS, "rule", NULL, "the policy allows you to claim it");
	else
		doctor_say(doctor, DOCTOR_FAIL, "rule", cure,
			   "the policy does not allow you to claim it");
	if (holder[0])
		doctor_say(doctor, DOCTOR_WARN, "lease", "'gpubroker run --wait' waits for it",
			   "%s has it now (%s)", holder, facts_text(device, "status"));
}

/* Returns what is known of the device at an address, or NULL. */
static struct json_object *find_facts(struct doctor *doctor, const char *address)
{
	for (size_t i = 0; i < json_object_array_length(doctor->devices); i++) {
		struct json_object *device = json_object_array_get_idx(doctor->devices, i);
		struct pci_address parsed;
		char text[PCI_ADDRESS_TEXT];

		if (!pci_address_parse(facts_text(device, "address"), &parsed) &&
		    !strcmp(pci_address_format(&parsed, text), address))
			return device;
	}
	return NULL;
}

static void check_all(struct doctor *doctor, const struct function *f)
{
	struct group_view *view = calloc(1, sizeof(*view));
	struct json_object *device;
	char text[PCI_ADDRESS_TEXT];

	pci_address_format(&f->address, text);
	device = find_facts(doctor, text);
	if (view) {
		inventory_group(&doctor->inventory, f, view);
		if (view->group != NO_GROUP) {
			tell_members(doctor, view);
			check_guard(doctor, view, device);
		} else {
			tell_no_group(doctor, f);
		}
		tell_render(doctor, device);
	}
	free(view);
	check_hardware(doctor, f, device);
	check_claim(doctor, text, device);
	doctor_check_memlock(doctor, device, text);
}

int doctor_check_device(struct doctor *doctor, const char *device)
{
	struct pci_address address;
	const struct function *f;

	if (pci_address_parse(device, &address)) {
		cli_error("doctor needs a PCI address as 01:00.0, and '%s' is none", device);
		return EXIT_BAD_USAGE;
	}
	f = inventory_find(&doctor->inventory, &address);
	if (!f) {
		cli_error("there is no PCI function %s; 'gpubroker list --all' shows them", device);
		return EXIT_NO_DEVICE;
	}
	check_all(doctor, f);
	return 0;
}
