/* SPDX-License-Identifier: MIT */
/*
 * The vocabulary: every word of the language in one table. To add an attribute or a limit, add a
 * line here and its reader in values.c. A word that is not here must stay a mistake, since a
 * restriction that is accepted and ignored is a hole.
 */
#include "config.h"

#include "policy/words.h"

#include <string.h>

#include "client/common/nearness.h"
#include "client/common/util.h"
#include "policy/classes.h"
#include "policy/values.h"

#define HEX_ID "an id of 1 to 4 hex digits, such as 10de or 0x10de"
#define PAIR HEX_ID ", or with its vendor 10de:1eb8"
#define VFIO_DRIVER "a VFIO driver's name, such as vfio-pci or mlx5_vfio_pci"

static const struct word words[] = {
	{ .text = "device", .kind = WORD_STATEMENT, .value = POLICY_DEVICE },
	{ .text = "allow", .kind = WORD_STATEMENT, .value = POLICY_ALLOW },
	{ .text = "deny", .kind = WORD_STATEMENT, .value = POLICY_DENY },
	{ .text = "prepare", .kind = WORD_STATEMENT, .value = POLICY_PREPARE },

	{ .text = "user", .kind = WORD_WHO, .value = POLICY_WHO_USER },
	{ .text = "group", .kind = WORD_WHO, .value = POLICY_WHO_GROUP },
	{ .text = "any", .kind = WORD_WHO, .value = POLICY_WHO_ANY },
	{ .text = "allotted", .kind = WORD_WHO, .value = POLICY_WHO_ALLOTTED },

	{ .text = "claim", .kind = WORD_CLAIM },
	{ .text = "any", .kind = WORD_ANY },

	{ .text = "address",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_ADDRESS,
	  .read = value_address,
	  .expected = "a PCI address, such as 0000:01:00.0 or 01:00.0, or * for some of its "
		      "numbers, such as *:0a:00.*" },
	{ .text = "vendor",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_VENDOR,
	  .read = value_vendor,
	  .expected = HEX_ID " (a pair, such as 10de:1eb8, stands alone)" },
	{ .text = "device",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_DEVICE_ID,
	  .read = value_device,
	  .expected = PAIR },
	{ .text = "subsystem-vendor",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_SUBSYSTEM_VENDOR,
	  .read = value_subsystem_vendor,
	  .expected = HEX_ID },
	{ .text = "subsystem-device",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_SUBSYSTEM_DEVICE,
	  .read = value_subsystem_device,
	  .expected = PAIR },
	{ .text = "class",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_CLASS,
	  .read = value_class,
	  .expected =
		  "2, 4 or 6 hex digits, or display, audio, usb, network, storage or accelerator" },
	{ .text = "iommu-group",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_IOMMU_GROUP,
	  .read = value_iommu_group,
	  .expected = "a decimal group number" },
	{ .text = "driver",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_DRIVER,
	  .spell = value_driver,
	  .field = offsetof(struct policy_rule, match.driver),
	  .expected = "a driver's name, such as nouveau, of at most 31 characters" },
	{ .text = "serial",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_SERIAL,
	  .spell = value_serial,
	  .field = offsetof(struct policy_rule, match.serial),
	  .expected = "a serial number of at most 63 characters" },
	{ .text = "path",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_PATH,
	  .spell = value_path,
	  .field = offsetof(struct policy_rule, match.path),
	  .expected = "a path of device.function, such as 01.0/00.0 or pci0000:00/01.0/00.0" },
	{ .text = "profile",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_PROFILE,
	  .spell = value_profile,
	  .field = offsetof(struct policy_rule, match.profile),
	  .expected = "a profile's type or name, such as nvidia-222, or any" },

	{ .text = "limit",
	  .kind = WORD_LIMIT,
	  .value = WORD_LEASES,
	  .read = value_limit,
	  .expected = "a number of leases from 1 to 65535" },
	{ .text = "memlock",
	  .kind = WORD_LIMIT,
	  .value = WORD_MEMLOCK,
	  .read = value_memlock,
	  .near = units_near_size,
	  .expected = "a size from 1 byte to below 8388608T, such as 512M or 64G" },
	{ .text = "boot-vga", .kind = WORD_LIMIT, .value = WORD_BOOT_VGA, .read = value_boot_vga },
	{ .text = "in-use", .kind = WORD_LIMIT, .value = WORD_IN_USE, .read = value_in_use },
	{ .text = "require-reset",
	  .kind = WORD_LIMIT,
	  .value = WORD_REQUIRE_RESET,
	  .read = value_require_reset },
	{ .text = "for",
	  .kind = WORD_LIMIT,
	  .value = WORD_LIFETIME,
	  .read = value_lifetime,
	  .near = units_near_time,
	  .expected = "a time, such as 30s, 10m, 8h, 7d or 1h30m" },
	{ .text = "kill",
	  .kind = WORD_LIMIT,
	  .value = WORD_KILL,
	  .read = value_kill,
	  .optional = "a time from 1s to 1d, such as kill=30s" },
	{ .text = "vfio-driver",
	  .kind = WORD_LIMIT,
	  .value = WORD_VFIO_DRIVER,
	  .spell = value_vfio_driver,
	  .field = offsetof(struct policy_rule, vfio_driver),
	  .expected = VFIO_DRIVER },
	{ .text = "vfs",
	  .kind = WORD_OPTION,
	  .value = WORD_VFS,
	  .read = value_vfs,
	  .expected = "a number of virtual functions from 1 to 65535" },
	{ .text = "vf-exec-quantum-ms",
	  .kind = WORD_OPTION,
	  .value = WORD_VF_EXEC_QUANTUM,
	  .read = value_vf_exec_quantum,
	  .expected = "milliseconds from 1 to 4294967295" },
	{ .text = "vf-preempt-timeout-us",
	  .kind = WORD_OPTION,
	  .value = WORD_VF_PREEMPT_TIMEOUT,
	  .read = value_vf_preempt_timeout,
	  .expected = "microseconds from 1 to 4294967295" },
	/* The same once more, for prepare. */
	{ .text = "vfio-driver",
	  .kind = WORD_OPTION,
	  .value = WORD_VFIO_DRIVER,
	  .spell = value_vfio_driver,
	  .field = offsetof(struct policy_rule, vfio_driver),
	  .expected = VFIO_DRIVER },
};

const struct word *words_find(unsigned int kinds, const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if ((words[i].kind & kinds) && words[i].text[0] == text[0] &&
		    strcmp(words[i].text, text) == 0)
			return &words[i];
	return NULL;
}

static char small_letter(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* The nearer of the two to text, where *near is as near as *least. */
static void take_nearer(const char *text, const char *word, const char **near, unsigned int *least)
{
	unsigned int edits = nearness(text, word);

	if (edits < *least) {
		*least = edits;
		*near = word;
	}
}

/* Words of other languages, and what they are here. */
static const struct {
	unsigned int kind;
	const char *text, *here;
} foreign_words[] = {
	{ WORD_WHO, "all", "any" },
	{ WORD_WHO, "everyone", "any" },
	{ WORD_WHO, "everybody", "any" },
	{ WORD_WHO, "anyone", "any" },
	{ WORD_WHO, "*", "any" },
	{ WORD_WHO, "allocated", "allotted" },
	{ WORD_WHO, "alloted", "allotted" },
	{ WORD_ANY, "all", "any" },
	{ WORD_ANY, "*", "any" },
	{ WORD_CLASS, "gpu", "display" },
	{ WORD_CLASS, "vga", "display" },
	{ WORD_CLASS, "video", "display" },
	{ WORD_CLASS, "graphics", "display" },
	{ WORD_CLASS, "3d", "display" },
	{ WORD_CLASS, "sound", "audio" },
	{ WORD_CLASS, "nic", "network" },
	{ WORD_VENDOR, "nvidia", "10de" },
	{ WORD_VENDOR, "amd", "1002" },
	{ WORD_VENDOR, "ati", "1002" },
	{ WORD_VENDOR, "intel", "8086" },
};

const char *words_near(unsigned int kinds, const char *text)
{
	const char *near = NULL, *word;
	unsigned int least = UINT32_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(foreign_words); i++)
		if ((foreign_words[i].kind & kinds) && !nearness(text, foreign_words[i].text))
			return foreign_words[i].here;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i].kind & kinds)
			take_nearer(text, words[i].text, &near, &least);
	for (size_t i = 0; kinds & WORD_CLASS && (word = classes_text(i)); i++)
		take_nearer(text, word, &near, &least);
	return near;
}

char *words_list(unsigned int kinds, char *out, size_t size)
{
	size_t count = 0, done = 0, len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		count += (words[i].kind & kinds) != 0;

	out[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(words) && len < size; i++) {
		const char *separator = done == 0 ? "" : done + 1 == count ? " or " : ", ";

		if (!(words[i].kind & kinds))
			continue;
		len += (size_t)snprintf(out + len, size - len, "%s%s", separator, words[i].text);
		done++;
	}
	return out;
}

bool words_is_name(const char *text)
{
	size_t len;

	for (len = 0; text[len]; len++) {
		char c = small_letter(text[len]);
		bool letter = c >= 'a' && c <= 'z';
		bool other = (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';

		if (len + 1 == POLICY_NAME_MAX || !(letter || (len > 0 && other)))
			return false;
	}
	return len > 0 && !words_find(WORD_RESERVED, text);
}
