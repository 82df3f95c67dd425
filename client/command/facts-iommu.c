/* SPDX-License-Identifier: MIT */
/*
 * Reads for doctor what it says of the IOMMU, and what switches it on: the firmware's tables, the
 * kernel's configuration and command line, the boot loader. It
 * keeps only words about drivers and the IOMMU of the command line, since others may be secrets.
 */
#include "config.h"

#include "client/command/facts.h"
#include "client/common/util.h"
#include "client/host/interrupts.h"

#include <dirent.h>
#include <string.h>
#include <sys/utsname.h>

static void add_firmware(struct json_object *facts)
{
	static const char *const tables[] = { "DMAR", "IVRS", "IORT", "VIOT" };
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/firmware/acpi/tables/%s", tables[i]);
		if (facts_path_exists(path))
			json_object_array_add(list, json_object_new_string(tables[i]));
	}
	json_object_object_add(facts, "tables", list);
	facts_add_flag(facts, "devicetree", facts_path_exists("/sys/firmware/devicetree/base"));
}

static void add_processor(struct json_object *facts)
{
	cleanup_file FILE *file = fopen("/proc/cpuinfo", "re");
	const char *processor = "";
	bool hypervisor = false;
	char line[4096];

	/* The first processor tells. */
	while (file && fgets(line, sizeof(line), file) && line[0] != '\n') {
		if (!strncmp(line, "vendor_id", 9))
			processor = strstr(line, "GenuineIntel")   ? "intel"
				    : strstr(line, "AuthenticAMD") ? "amd"
				    : strstr(line, "HygonGenuine") ? "amd"
								   : "";
		else if (!strncmp(line, "flags", 5))
			hypervisor = strstr(line, " hypervisor");
	}
	facts_add_text(facts, "processor", processor);
	facts_add_flag(facts, "hypervisor", hypervisor);
}

/* Adds of the kernel's configuration what decides about the IOMMU; nothing where there is none. */
static void add_config(struct json_object *facts, const char *release)
{
	static const char *const wanted[] = {
		"CONFIG_INTEL_IOMMU",
		"CONFIG_INTEL_IOMMU_DEFAULT_ON",
		"CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF",
		"CONFIG_AMD_IOMMU",
		"CONFIG_ARM_SMMU_V3",
		"CONFIG_VIRTIO_IOMMU",
		"CONFIG_IRQ_REMAP",
	};
	struct json_object *config = NULL;
	cleanup_file FILE *file = NULL;
	char path[128], line[256];

	snprintf(path, sizeof(path), "/boot/config-%.65s", release);
	file = fopen(path, "re");
	if (!file) {
		snprintf(path, sizeof(path), "/lib/modules/%.65s/config", release);
		file = fopen(path, "re");
	}
	if (!file)
		return;
	config = json_object_new_object();
	while (fgets(line, sizeof(line), file))
		for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
			const size_t n = strlen(wanted[i]);

			if (!strncmp(line, wanted[i], n) && line[n] == '=' &&
			    (line[n + 1] == 'y' || line[n + 1] == 'm'))
				facts_add_flag(config, wanted[i], true);
		}
	json_object_object_add(facts, "config", config);
}

/* Returns true for a word of the kernel's command line that is about drivers or the IOMMU. */
static bool is_ours(const char *word, size_t n)
{
	static const char *const prefixes[] = {
		"intel_iommu=", "amd_iommu=", "iommu=",	      "iommu.",	    "intremap=",
		"nox2apic",	"x2apic",     "vfio",	      "rd.driver.", "module_blacklist=",
		"modprobe.",	"pci=",	      "pcie_",	      "nomodeset",  "video=",
		"i915.",	"xe.",	      "nouveau.",     "nvidia",	    "amdgpu.",
		"radeon.",	"hugepages",  "default_huge", "kvm",	    "mem_encrypt=",
		"arm-smmu",	"selinux=",   "apparmor=",    "lsm=",	    "enforcing=",
	};
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789_.,:;=+-@*";

	if (n > 128 || strspn(word, allowed) < n)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(word, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

static void add_command_line(struct json_object *facts)
{
	char line[4096], kept[2048] = "";
	size_t len = 0;

	facts_read_line("/proc/cmdline", line, sizeof(line));
	for (const char *word = line; *word; word += strspn(word, " ")) {
		const size_t n = strcspn(word, " ");

		if (is_ours(word, n) && len + n + 2 < sizeof(kept))
			len += (size_t)snprintf(kept + len, sizeof(kept) - len, "%s%.*s",
						len ? " " : "", (int)n, word);
		word += n;
	}
	facts_add_text(facts, "command_line", kept);
}

/* ---- the boot loader ---- */

/* Returns true if systemd-boot has started this kernel, by the variable that it leaves. */
static bool has_systemd_boot(void)
{
	static const char path[] = "/sys/firmware/efi/efivars/"
				   "LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
	static const char name[] = "systemd-boot";
	cleanup_file FILE *file = fopen(path, "re");
	char text[64];
	size_t n = file ? fread(text, 1, sizeof(text), file) : 0;

	/* Four bytes of attributes, then UTF-16. */
	for (size_t i = 0; i < sizeof(name) - 1; i++)
		if (4 + 2 * i >= n || text[4 + 2 * i] != name[i])
			return false;
	return true;
}

/* Returns true if a file of dracut makes the command line of an image that has the kernel in it. */
static bool has_dracut_line(void)
{
	DIR *dir = opendir("/etc/dracut.conf.d");
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		char path[300], line[512];
		cleanup_file FILE *file = NULL;

		snprintf(path, sizeof(path), "/etc/dracut.conf.d/%.255s", entry->d_name);
		file = fopen(path, "re");
		while (file && !found && fgets(line, sizeof(line), file))
			found = !strncmp(line, "kernel_cmdline", strlen("kernel_cmdline"));
	}
	if (dir)
		closedir(dir);
	return found;
}

/* The word of it; doctor-iommu.c says what to do for each. "": it cannot be told. */
static const char *find_boot_loader(void)
{
	if (facts_path_exists("/etc/NIXOS"))
		return "nixos";
	if (facts_path_exists("/run/ostree-booted"))
		return "ostree";
	if (facts_path_exists("/etc/kernel/proxmox-boot-uuids"))
		return "proxmox";
	if (!has_systemd_boot() && facts_path_exists("/etc/default/grub")) {
		if (facts_path_exists("/usr/sbin/update-grub"))
			return "update-grub";
		if (facts_path_exists("/usr/sbin/grubby") || facts_path_exists("/usr/bin/grubby"))
			return "grubby";
		return facts_path_exists("/boot/grub2") ? "grub2" : "grub";
	}
	if (has_dracut_line())
		return "dracut";
	if (facts_path_exists("/etc/kernel/cmdline"))
		return "kernel-install";
	if (has_systemd_boot() || facts_path_exists("/boot/loader/entries") ||
	    facts_path_exists("/efi/loader/entries"))
		return "entries";
	if (facts_path_exists("/boot/firmware/cmdline.txt"))
		return "firmware";
	return facts_path_exists("/etc/default/u-boot") ? "u-boot" : "";
}

void facts_add_iommu(struct json_object *facts, const struct facts_source *source)
{
	struct utsname name = { 0 };
	char line[16];

	uname(&name);
	facts_add_text(facts, "kernel", name.release);
	facts_add_text(facts, "machine", name.machine);
	add_processor(facts);
	add_firmware(facts);
	add_config(facts, name.release);
	add_command_line(facts);
	facts_add_text(facts, "boot_loader", find_boot_loader());
	facts_add_flag(facts, "remapped", source->sys < 0 || interrupts_are_remapped(source->sys));
	facts_add_flag(facts, "unsafe_interrupts",
		       source->sys >= 0 && interrupts_may_be_unsafe_somehow(
						   source->sys, facts_path_exists("/dev/iommu")));
	facts_read_line("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", line,
			sizeof(line));
	facts_add_flag(facts, "noiommu", line[0] == 'Y' || line[0] == '1');
}
