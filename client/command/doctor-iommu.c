/* SPDX-License-Identifier: MIT */
/*
 * The checks of the IOMMU for `gpubroker doctor`: why it is off, and how it is switched on with
 * this processor, firmware, kernel and boot loader. It must never advise to switch on what is on.
 * Reads facts alone.
 */
#include "config.h"

#include "client/command/doctor.h"
#include "client/command/facts.h"
#include "client/common/util.h"

#include <string.h>

/* The table by which the firmware offers an IOMMU, and what has the kernel use it. */
static const struct iommu {
	const char *table, *name, *parameter, *config, *config_on, *on;
} iommus[] = {
	{ "DMAR", "VT-d", "intel_iommu", "CONFIG_INTEL_IOMMU", "CONFIG_INTEL_IOMMU_DEFAULT_ON",
	  "intel_iommu=on" },
	{ "IVRS", "AMD-Vi", "amd_iommu", "CONFIG_AMD_IOMMU", NULL, NULL },
	{ "VIOT", "virtio-iommu", "", "CONFIG_VIRTIO_IOMMU", NULL, NULL },
	{ "IORT", "SMMU", "", "CONFIG_ARM_SMMU_V3", NULL, NULL },
};

/* ---- the boot loader ---- */

/* Either commands with the word in them, or a place and what applies it. */
static const struct boot_loader {
	const char *word, *add, *remove, *place, *apply;
} loaders[] = {
	{ "update-grub", NULL, NULL, "GRUB_CMDLINE_LINUX in /etc/default/grub", "update-grub" },
	{ "grub2", NULL, NULL, "GRUB_CMDLINE_LINUX in /etc/default/grub",
	  "grub2-mkconfig -o /boot/grub2/grub.cfg" },
	{ "grub", NULL, NULL, "GRUB_CMDLINE_LINUX in /etc/default/grub",
	  "grub-mkconfig -o /boot/grub/grub.cfg" },
	{ "grubby", "grubby --update-kernel=ALL --args=",
	  "grubby --update-kernel=ALL --remove-args=", NULL, NULL },
	{ "ostree", "rpm-ostree kargs --append=", "rpm-ostree kargs --delete=", NULL, NULL },
	{ "proxmox", NULL, NULL, "/etc/kernel/cmdline", "proxmox-boot-tool refresh" },
	{ "kernel-install", NULL, NULL, "/etc/kernel/cmdline",
	  "kernel-install add $(uname -r) /boot/vmlinuz-$(uname -r)" },
	{ "entries", NULL, NULL,
	  "the line 'options' of the entry in loader/entries of the boot "
	  "partition",
	  NULL },
	{ "dracut", NULL, NULL, "kernel_cmdline in /etc/dracut.conf.d",
	  "dracut --force --regenerate-all" },
	{ "nixos", NULL, NULL, "boot.kernelParams", "nixos-rebuild boot" },
	{ "firmware", NULL, NULL, "/boot/firmware/cmdline.txt", NULL },
	{ "u-boot", NULL, NULL, "U_BOOT_PARAMETERS in /etc/default/u-boot", "u-boot-update" },
	{ "", NULL, NULL, "the kernel's command line in your boot loader's configuration", NULL },
};

/* Writes how a word comes into the kernel's command line here, or out of it. */
static void say_how(struct json_object *host, const char *word, bool remove, char *out, size_t size)
{
	const char *given = facts_text(host, "boot_loader");
	const struct boot_loader *loader = &loaders[ARRAY_SIZE(loaders) - 1];

	for (size_t i = 0; i < ARRAY_SIZE(loaders); i++)
		if (!strcmp(loaders[i].word, given))
			loader = &loaders[i];
	if (loader->add)
		snprintf(out, size, "As root: '%s%s', and reboot",
			 remove ? loader->remove : loader->add, word);
	else
		snprintf(out, size, "%s '%s' %s %s,%s%s%s reboot", remove ? "Take" : "Put", word,
			 remove ? "out of" : "into", loader->place,
			 loader->apply ? " run as root '" : "", loader->apply ? loader->apply : "",
			 loader->apply ? "', and" : " and");
}

/* ---- the command line ---- */

/* Returns true if a value as "on,sm_on" has an item. */
static bool has_item(const char *value, size_t n, const char *item)
{
	const size_t len = strlen(item);

	for (size_t i = 0; i + len <= n; i++)
		if ((!i || value[i - 1] == ',') && !strncmp(value + i, item, len) &&
		    (i + len == n || value[i + len] == ','))
			return true;
	return false;
}

/*
 * Finds the last word as "KEY=VALUE" with one of the items; a later one with an item of `undone`
 * takes it back. Returns true, and writes the word.
 */
static bool find_word(const char *line, const char *key, const char *item, const char *undone,
		      char out[64])
{
	const size_t len = strlen(key);
	bool found = false;

	for (const char *word = line; *word; word += strspn(word, " ")) {
		const size_t n = strcspn(word, " ");

		if (len && n > len && !strncmp(word, key, len) && word[len] == '=') {
			const char *value = word + len + 1;

			if (has_item(value, n - len - 1, item)) {
				found = true;
				snprintf(out, 64, "%.*s", (int)n, word);
			} else if (undone && has_item(value, n - len - 1, undone)) {
				found = false;
			}
		}
		word += n;
	}
	return found;
}

/* ---- why it is off ---- */

/* Returns the IOMMU that the firmware offers, or NULL. */
static const struct iommu *find_iommu(struct json_object *host)
{
	struct json_object *tables = facts_list(host, "tables");

	for (size_t i = 0; i < ARRAY_SIZE(iommus); i++)
		for (size_t k = 0; tables && k < json_object_array_length(tables); k++) {
			struct json_object *name = json_object_array_get_idx(tables, k);

			if (json_object_is_type(name, json_type_string) &&
			    !strcmp(json_object_get_string(name), iommus[i].table))
				return &iommus[i];
		}
	return NULL;
}

static bool is_arm(struct json_object *host)
{
	return !strcmp(facts_text(host, "machine"), "aarch64");
}

static void say_no_firmware(struct doctor *doctor)
{
	const char *processor = facts_text(doctor->host, "processor");
	const char *text = "the firmware offers the kernel no IOMMU, so nothing can be lent", *cure;

	if (facts_flag(doctor->host, "hypervisor")) {
		text = "this host is a VM without an IOMMU, so it can lend nothing";
		cure = "Give the VM one: QEMU's '-M q35,kernel-irqchip=split -device "
		       "intel-iommu,intremap=on', or <iommu model='intel'> in libvirt";
	} else if (!strcmp(processor, "intel")) {
		cure = "Enable VT-d (Intel Virtualization Technology for Directed I/O) in the "
		       "firmware's set-up, often below Advanced, System Agent or Chipset";
	} else if (!strcmp(processor, "amd")) {
		cure = "Enable IOMMU and SVM in the firmware's set-up, often below Advanced, CPU, "
		       "or AMD CBS, NBIO; 'Auto' may mean off";
	} else if (is_arm(doctor->host)) {
		cure = facts_flag(doctor->host, "devicetree")
			       ? "The device tree must describe an SMMU; this board may have none "
				 "for its PCI bus"
			       : "Enable the SMMU in the firmware's set-up";
	} else {
		cure = "Enable the IOMMU in the firmware's set-up";
	}
	doctor_say(doctor, DOCTOR_FAIL, "iommu", cure, "%s", text);
}

static void say_why_off(struct doctor *doctor)
{
	struct json_object *host = doctor->host, *config = facts_part(host, "config");
	const char *line = facts_text(host, "command_line");
	const struct iommu *iommu = find_iommu(host);
	char word[64], cure[320];

	if (find_word(line, "iommu", "off", NULL, word) ||
	    (iommu && find_word(line, iommu->parameter, "off", "on", word))) {
		say_how(host, word, true, cure, sizeof(cure));
		doctor_say(doctor, DOCTOR_FAIL, "iommu", cure,
			   "the kernel's command line switches the IOMMU off ('%s'), so nothing "
			   "can be lent",
			   word);
		return;
	}
	if (!iommu) {
		say_no_firmware(doctor);
		return;
	}
	if (config && !facts_flag(config, iommu->config)) {
		doctor_say(doctor, DOCTOR_FAIL, "iommu",
			   "Boot your distribution's own kernel, or build one with that",
			   "this kernel was built without a driver for the firmware's IOMMU "
			   "(%s, %s), so nothing can be lent",
			   iommu->name, iommu->config);
		return;
	}
	if (iommu->on && !find_word(line, iommu->parameter, "on", "off", word)) {
		say_how(host, iommu->on, false, cure, sizeof(cure));
		doctor_say(doctor, DOCTOR_FAIL, "iommu", cure,
			   "the firmware has an IOMMU (%s), and the kernel leaves it off by "
			   "default, so nothing can be lent",
			   iommu->name);
		return;
	}
	doctor_say(doctor, DOCTOR_FAIL, "iommu",
		   "As root: 'dmesg | grep -iE \"dmar|amd-vi|iommu|smmu\"' shows what the kernel "
		   "said; an update of the firmware may help",
		   "the firmware has an IOMMU (%s), and the kernel does not use it, so nothing can "
		   "be lent",
		   iommu->name);
}

/* ---- interrupts ---- */

static void check_interrupts(struct doctor *doctor)
{
	char word[64], cure[320];
	struct json_object *host = doctor->host;

	if (facts_flag(host, "remapped")) {
		doctor_say(doctor, DOCTOR_PASS, "interrupts", NULL, "the IOMMU remaps interrupts");
		return;
	}
	if (facts_flag(host, "unsafe_interrupts")) {
		doctor_say(doctor, DOCTOR_WARN, "interrupts", NULL,
			   "interrupts are not remapped, and root allows that: a VM could raise "
			   "any interrupt of the host");
		return;
	}
	if (find_word(facts_text(host, "command_line"), "intremap", "off", "on", word)) {
		say_how(host, word, true, cure, sizeof(cure));
		doctor_say(doctor, DOCTOR_FAIL, "interrupts", cure,
			   "the kernel's command line has the IOMMU not remap interrupts ('%s'), "
			   "so the kernel attaches no device",
			   word);
		return;
	}
	doctor_say(doctor, DOCTOR_FAIL, "interrupts",
		   "Switch interrupt remapping on in the firmware's set-up (x2APIC), or see "
		   "allow_unsafe_interrupts in gpubrokerd(8)",
		   "the IOMMU does not remap interrupts, so the kernel attaches no device");
}

/* ---- all ---- */

static bool is_left_out(const struct function *f)
{
	return class_is_gpu(f->class_code) && f->iommu_group == NO_GROUP;
}

/* Names GPUs that the IOMMU leaves out: mostly the processor's own. */
static void say_left_out(struct doctor *doctor)
{
	char text[PCI_ADDRESS_TEXT], word[64], cure[320];
	const struct function *first = NULL;
	size_t n = 0;

	for (size_t i = 0; i < doctor->inventory.n; i++)
		if (is_left_out(&doctor->inventory.functions[i]) && !n++)
			first = &doctor->inventory.functions[i];
	if (!first)
		return;
	pci_address_format(&first->address, text);
	if (first->vendor == 0x8086 && !first->address.bus && first->address.device == 2 &&
	    facts_flag(facts_part(doctor->host, "config"),
		       "CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF") &&
	    !find_word(facts_text(doctor->host, "command_line"), "intel_iommu", "on", "off",
		       word)) {
		say_how(doctor->host, "intel_iommu=on", false, cure, sizeof(cure));
		doctor_say(doctor, DOCTOR_NOTE, "iommu", cure,
			   "the kernel leaves the processor's own GPU, %s, out of the IOMMU by "
			   "default: it cannot be lent, other GPUs can",
			   text);
		return;
	}
	doctor_say(doctor, DOCTOR_NOTE, "iommu", NULL,
		   "the IOMMU does not cover %s%s: it cannot be lent", text,
		   n > 1 ? " and other GPUs" : "");
}

void doctor_check_iommu(struct doctor *doctor)
{
	const struct inventory *inventory = &doctor->inventory;
	size_t n = 0;

	for (size_t i = 0; i < inventory->n; i++)
		n += inventory->functions[i].iommu_group != NO_GROUP;
	if (n) {
		doctor_say(doctor, DOCTOR_PASS, "iommu", NULL,
			   "the IOMMU is on, with %zu of %zu functions in its groups", n,
			   inventory->n);
		say_left_out(doctor);
		check_interrupts(doctor);
	} else {
		say_why_off(doctor);
	}
	if (facts_flag(doctor->host, "noiommu"))
		doctor_say(doctor, DOCTOR_WARN, "noiommu",
			   "Remove enable_unsafe_noiommu_mode from /etc/modprobe.d and from the "
			   "kernel's command line, and reboot; it is no cure for a missing IOMMU",
			   "VFIO may give devices out without an IOMMU "
			   "(enable_unsafe_noiommu_mode), and such a device can write to all "
			   "memory; the broker lends none so");
}
