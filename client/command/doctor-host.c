/* SPDX-License-Identifier: MIT */
/* The checks of the host and of the caller, for `gpubroker doctor`. Reads only. */
#include "config.h"

#include "client/command/doctor.h"
#include "client/command/account.h"
#include "client/command/cli.h"
#include "client/command/holders.h"
#include "client/command/inventory.h"
#include "client/command/policy-sources.h"
#include "client/common/util.h"
#include "client/host/interrupts.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool exists(const char *path)
{
	struct stat st;

	return !stat(path, &st);
}

/* ---- the IOMMU ---- */

static bool has_intel(void)
{
	char line[256];
	cleanup_file FILE *file = fopen("/proc/cpuinfo", "re");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "vendor_id", 9))
			return strstr(line, "GenuineIntel");
	return false;
}

/* How the kernel's command line is changed here, as far as the boot loader shows. */
static const char *boot_loader(void)
{
	if (exists("/etc/default/grub"))
		return exists("/usr/sbin/update-grub")
			       ? "in GRUB_CMDLINE_LINUX of /etc/default/grub, then 'update-grub'"
			       : "in GRUB_CMDLINE_LINUX of /etc/default/grub, then 'grub2-mkconfig "
				 "-o /boot/grub2/grub.cfg'";
	if (exists("/etc/kernel/cmdline"))
		return "in /etc/kernel/cmdline, then 'kernel-install add-all'";
	return "by your boot loader";
}

static void say_no_iommu(struct doctor *doctor)
{
	const bool tables = exists("/sys/firmware/acpi/tables/DMAR") ||
			    exists("/sys/firmware/acpi/tables/IVRS") ||
			    exists("/sys/firmware/acpi/tables/IORT");
	char cure[320];

	if (!tables)
		snprintf(
			cure, sizeof(cure),
			"Enable VT-d (Intel) or AMD-Vi (AMD) in the firmware's setup; the firmware "
			"offers the kernel none");
	else
		snprintf(cure, sizeof(cure),
			 "The firmware has it; put '%s' on the kernel's command line, %s, "
			 "and reboot",
			 has_intel() ? "intel_iommu=on" : "iommu=on", boot_loader());
	doctor_say(doctor, DOCTOR_FAIL, "iommu", cure,
		   "the IOMMU is off: there are no groups, so nothing can be lent");
}

static void check_iommu(struct doctor *doctor, const struct inventory *inventory)
{
	size_t n = 0;

	for (size_t i = 0; i < inventory->n; i++)
		n += inventory->functions[i].iommu_group != NO_GROUP;
	if (!n) {
		say_no_iommu(doctor);
		return;
	}
	doctor_say(doctor, DOCTOR_PASS, "iommu", NULL,
		   "the IOMMU is on, with %zu of %zu functions in its groups", n, inventory->n);
	if (doctor->sys < 0 || interrupts_are_remapped(doctor->sys))
		doctor_say(doctor, DOCTOR_PASS, "interrupts", NULL, "the IOMMU remaps interrupts");
	else if (interrupts_may_be_unsafe_somehow(doctor->sys, exists("/dev/iommu")))
		doctor_say(
			doctor, DOCTOR_WARN, "interrupts", NULL,
			"interrupts are not remapped, and root allows that: a VM could raise any "
			"interrupt of the host");
	else
		doctor_say(doctor, DOCTOR_FAIL, "interrupts",
			   "Switch interrupt remapping on in the firmware's setup (x2APIC), or see "
			   "allow_unsafe_interrupts in gpubrokerd(8)",
			   "the IOMMU does not remap interrupts, so the kernel attaches no device");
}

/* ---- modules and nodes ---- */

static void check_modules(struct doctor *doctor)
{
	static const struct {
		const char *module, *shown_by, *lacking;
	} modules[] = {
		{ "vfio-pci", "/sys/bus/pci/drivers/vfio-pci", "no device can be lent" },
		{ "vfio", "/dev/vfio/vfio", "no device can be opened" },
		{ "vfio_iommu_type1", "/sys/module/vfio_iommu_type1",
		  "QEMU says \"No available IOMMU models\"" },
	};
	unsigned missing = 0;

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		if (exists(modules[i].shown_by))
			continue;
		/* iommufd can stand for the last one. */
		if (i == 2 && exists("/sys/module/iommufd/parameters"))
			continue;
		missing++;
		doctor_say(doctor, DOCTOR_FAIL, "modules",
			   "Load it as root: 'systemctl restart systemd-modules-load.service'",
			   "%s is not loaded: %s", modules[i].module, modules[i].lacking);
	}
	if (!missing)
		doctor_say(doctor, DOCTOR_PASS, "modules", NULL, "VFIO's modules are loaded");
}

static void check_permissions(struct doctor *doctor, const struct inventory *inventory)
{
	char text[320];
	unsigned n = 0;

	for (size_t i = 0; i < inventory->n; i++) {
		const uint32_t group = inventory->functions[i].iommu_group;

		if (group == NO_GROUP || !holders_node_text(group, text, sizeof(text)))
			continue;
		n++;
		doctor_say(doctor, DOCTOR_FAIL, "nodes",
			   "Remove the udev rule that does so, and give the node back to root",
			   "%s", text);
	}
	if (!n)
		doctor_say(doctor, DOCTOR_PASS, "nodes", NULL,
			   "only root may open the nodes below /dev/vfio");
}

/* ---- the broker and its policy ---- */

static void check_broker(struct doctor *doctor)
{
	struct gpubroker_policy state = { 0 };

	if (!doctor->handle) {
		doctor_say(doctor, DOCTOR_FAIL, "broker",
			   "Start it as root: 'systemctl enable --now gpubroker.socket "
			   "gpubroker.service'",
			   "no broker answers");
		return;
	}
	doctor_say(doctor, DOCTOR_PASS, "broker", NULL, "the broker answers");
	if (gpubroker_policy(doctor->handle, &state)) {
		doctor_say(
			doctor, DOCTOR_WARN, "policy", "Restart it: 'systemctl restart gpubroker'",
			"the broker does not say which policy is in force; it may be an older one");
		return;
	}
	if (state.refused)
		doctor_say(
			doctor, DOCTOR_FAIL, "policy",
			"'gpubroker policy check' shows them; 'gpubroker policy reload' loads it "
			"then",
			"the files have %" PRIu64 " mistake%s; %s in force", state.mistakes,
			state.mistakes == 1 ? "" : "s",
			state.saved	 ? "a copy that was saved before is"
			: state.in_force ? "an older policy is"
					 : "no policy is");
	else if (!state.rules)
		doctor_say(doctor, DOCTOR_FAIL, "policy",
			   "'gpubroker policy add --help' shows how to let a user have a device",
			   "the policy is empty, so nobody may claim anything");
	else
		doctor_say(doctor, DOCTOR_PASS, "policy", NULL,
			   "%" PRIu64 " statement%s in %" PRIu64 " file%s are in force",
			   state.rules, state.rules == 1 ? "" : "s", state.files,
			   state.files == 1 ? "" : "s");
}

static void count_finding(void *userdata, const struct policy_finding *finding)
{
	unsigned *mistakes = userdata;

	*mistakes += finding->severity == POLICY_MISTAKE;
}

/* The files as they are now, which need not be what is in force. */
static void check_files(struct doctor *doctor)
{
	unsigned mistakes = 0;
	const struct policyfiles request = {
		.directories = policyfiles_directories,
		.n_directories = POLICYFILES_DIRECTORIES,
		.reader = geteuid() ? NULL : "gpubroker",
		.found = count_finding,
		.userdata = &mistakes,
	};
	struct policy policy = { 0 };

	if (!policyfiles_load(&request, &policy))
		policy_done(&policy);
	if (mistakes)
		doctor_say(doctor, DOCTOR_FAIL, "files", "'gpubroker policy check' shows them",
			   "the policy's files have %u mistake%s", mistakes,
			   mistakes == 1 ? "" : "s");
}

/* ---- the caller ---- */

static void check_groups(struct doctor *doctor)
{
	struct account account = { 0 };
	char list[160];
	unsigned n = 0;

	if (!account_find_uid(geteuid(), &account))
		n = account_missing_groups(&account, list, sizeof(list));
	if (n)
		doctor_say(doctor, DOCTOR_WARN, "session", "Log out of everything, and in again",
			   "this session began before you were in the group%s %s",
			   n == 1 ? "" : "s", list);
	account_done(&account);
}

static void check_kvm(struct doctor *doctor)
{
	struct stat st;
	const struct group *group;

	if (stat("/dev/kvm", &st)) {
		doctor_say(
			doctor, DOCTOR_WARN, "kvm",
			"Enable virtualization (VT-x, AMD-V) in the firmware's setup; a VM works "
			"without it, but slowly",
			"this host has no /dev/kvm");
	} else if (access("/dev/kvm", R_OK | W_OK)) {
		char cure[128];

		group = getgrgid(st.st_gid);
		snprintf(cure, sizeof(cure), "As root: 'usermod -aG %.32s NAME'; then log in again",
			 group ? group->gr_name : "kvm");
		doctor_say(doctor, DOCTOR_FAIL, "kvm", cure, "you may not use /dev/kvm");
	} else {
		doctor_say(doctor, DOCTOR_PASS, "kvm", NULL, "you may use /dev/kvm");
	}
}

void doctor_check_host(struct doctor *doctor)
{
	struct inventory inventory = { 0 };

	inventory_read_local(&inventory);
	check_iommu(doctor, &inventory);
	check_modules(doctor);
	check_permissions(doctor, &inventory);
	check_broker(doctor);
	check_files(doctor);
	check_groups(doctor);
	check_kvm(doctor);
	inventory_done(&inventory);
}
