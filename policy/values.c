/* SPDX-License-Identifier: MIT */
/*
 * Readers for the values that follow a word. They must never guess: a reader takes a value whole or
 * not at all, and two spellings of one thing become the same. valid.c uses those of texts too, in
 * the core, so they never write past what they are given.
 */
#include "config.h"

#include "policy/values.h"

#include <string.h>

#include "client/common/util.h"
#include "policy/classes.h"
#include "policy/units.h"

#define DRIVER_MAX 31

/* Hex digits, with 0x before them or without (sysfs has it, lspci does not). */
static bool read_hex(const char *text, size_t max_digits, uint32_t *ret_value, size_t *ret_digits)
{
	uint32_t value = 0;
	size_t digits;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		text += 2;
	for (digits = 0; text[digits]; digits++) {
		if (digits == max_digits || pci_hex_digit(text[digits]) < 0)
			return false;
		value = value << 4 | (uint32_t)pci_hex_digit(text[digits]);
	}
	if (digits == 0)
		return false;
	*ret_value = value;
	*ret_digits = digits;
	return true;
}

static bool read_id(const char *text, uint16_t *ret_id)
{
	uint32_t value;
	size_t digits;

	if (!read_hex(text, 4, &value, &digits))
		return false;
	*ret_id = (uint16_t)value;
	return true;
}

bool value_address(const char *text, struct policy_rule *rule)
{
	return pci_pattern_parse(text, &rule->match.address, &rule->match.address_any) == 0;
}

/* "10de:1eb8", as lspci -n prints it, or the second of both alone. */
static bool read_pair(const char *text, uint32_t vendor_bit, uint16_t *ret_vendor,
		      uint16_t *ret_device, struct policy_rule *rule)
{
	const char *colon = strchr(text, ':');
	char vendor[8];

	if (!colon)
		return read_id(text, ret_device);
	if (colon - text >= (ptrdiff_t)sizeof(vendor))
		return false;
	memcpy(vendor, text, (size_t)(colon - text));
	vendor[colon - text] = '\0';
	if (!read_id(vendor, ret_vendor) || !read_id(colon + 1, ret_device))
		return false;
	rule->match.attributes |= vendor_bit;
	return true;
}

bool value_is_pair(const char *text)
{
	return strlen(text) == 9 && strspn(text, "0123456789abcdefABCDEF") == 4 && text[4] == ':' &&
	       strspn(text + 5, "0123456789abcdefABCDEF") == 4;
}

bool value_vendor(const char *text, struct policy_rule *rule)
{
	return read_id(text, &rule->match.vendor);
}

bool value_device(const char *text, struct policy_rule *rule)
{
	return read_pair(text, POLICY_VENDOR, &rule->match.vendor, &rule->match.device, rule);
}

bool value_subsystem_vendor(const char *text, struct policy_rule *rule)
{
	return read_id(text, &rule->match.subsystem_vendor);
}

bool value_subsystem_device(const char *text, struct policy_rule *rule)
{
	return read_pair(text, POLICY_SUBSYSTEM_VENDOR, &rule->match.subsystem_vendor,
			 &rule->match.subsystem_device, rule);
}

bool value_class(const char *text, struct policy_rule *rule)
{
	const struct class_word *word = classes_find(text);
	uint32_t value;
	size_t digits;

	if (word) {
		rule->match.class_code = word->code;
		rule->match.class_mask = word->mask;
		return true;
	}
	/* Base class, base and subclass, or all three bytes: the missing ones do not count. */
	if (!read_hex(text, 6, &value, &digits) || digits % 2)
		return false;
	rule->match.class_code = value << (24 - 4 * digits);
	rule->match.class_mask = 0xffffffU << (24 - 4 * digits) & 0xffffffU;
	return true;
}

bool value_iommu_group(const char *text, struct policy_rule *rule)
{
	uint64_t value;

	if (!units_parse_number(text, UINT32_MAX - 1,
				&value)) /* UINT32_MAX means none in the facts */
		return false;
	rule->match.iommu_group = (uint32_t)value;
	return true;
}

bool value_limit(const char *text, struct policy_rule *rule)
{
	uint64_t value;

	if (!units_parse_number(text, POLICY_LIMIT_MAX, &value) || value == 0)
		return false;
	rule->limit = (uint32_t)value;
	return true;
}

bool value_vfs(const char *text, struct policy_rule *rule)
{
	uint64_t value;

	if (!units_parse_number(text, POLICY_VFS_MAX, &value) || value == 0)
		return false;
	rule->vfs = (uint32_t)value;
	return true;
}

static bool read_quota(const char *text, uint32_t *ret_value)
{
	uint64_t value;

	if (!units_parse_number(text, UINT32_MAX, &value) || value == 0)
		return false;
	*ret_value = (uint32_t)value;
	return true;
}

bool value_vf_exec_quantum(const char *text, struct policy_rule *rule)
{
	return read_quota(text, &rule->vf_exec_quantum_ms);
}

bool value_vf_preempt_timeout(const char *text, struct policy_rule *rule)
{
	return read_quota(text, &rule->vf_preempt_timeout_us);
}

bool value_memlock(const char *text, struct policy_rule *rule)
{
	/* Below 2^63, so that nobody can come by RLIM_INFINITY by way of a sum. */
	return units_parse_size(text, INT64_MAX, &rule->memlock);
}

bool value_boot_vga(const char *text, struct policy_rule *rule)
{
	(void)text;
	rule->boot_vga = 1;
	return true;
}

bool value_in_use(const char *text, struct policy_rule *rule)
{
	(void)text;
	rule->in_use = 1;
	return true;
}

bool value_require_reset(const char *text, struct policy_rule *rule)
{
	(void)text;
	rule->require_reset = 1;
	return true;
}

bool value_lifetime(const char *text, struct policy_rule *rule)
{
	uint64_t seconds;

	if (!units_parse_time(text, UINT32_MAX, &seconds))
		return false;
	rule->lifetime = (uint32_t)seconds;
	return true;
}

bool value_kill(const char *text, struct policy_rule *rule)
{
	uint64_t seconds = POLICY_KILL_DEFAULT;

	if (text && !units_parse_time(text, POLICY_KILL_MAX, &seconds))
		return false;
	rule->kill = (uint32_t)seconds;
	return true;
}

/* ---- texts ---- */

static bool is_letter_or_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A driver's directory in sysfs. The core makes it part of a path, so it must be just a name. */
bool value_driver(const char *text, char out[POLICY_TEXT_MAX])
{
	size_t len;

	for (len = 0; text[len]; len++)
		if (len == DRIVER_MAX ||
		    !(is_letter_or_digit(text[len]) || strchr("_.:-", text[len])))
			return false;
	if (len == 0 || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
		return false;
	memcpy(out, text, len + 1);
	return true;
}

/*
 * All VFIO drivers of the kernel have such names; on any other driver a leased device would be the
 * host's.
 */
bool value_vfio_driver(const char *text, char out[POLICY_TEXT_MAX])
{
	return (strstr(text, "vfio-pci") || strstr(text, "vfio_pci")) && value_driver(text, out);
}

bool value_serial(const char *text, char out[POLICY_TEXT_MAX])
{
	size_t len = strlen(text);

	if (len == 0 || len >= POLICY_TEXT_MAX)
		return false;
	for (size_t i = 0; i <= len; i++)
		out[i] = text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] - 'A' + 'a') : text[i];
	return true;
}

/* Reads "DD.F" of hex digits, and moves *text past it. */
static bool read_hop(const char **text, uint8_t *ret_device, uint8_t *ret_function)
{
	const char *t = *text;
	int high = pci_hex_digit(t[0]), low = high < 0 ? -1 : pci_hex_digit(t[1]);

	if (high < 0 || high > 1 || low < 0 || t[2] != '.' || t[3] < '0' || t[3] > '7')
		return false;
	*ret_device = (uint8_t)(high << 4 | low);
	*ret_function = (uint8_t)(t[3] - '0');
	*text = t + 4;
	return true;
}

/* Reads "pciDDDD:BB/", writes it in the kernel's spelling, and moves *text past it. */
static bool read_bridge(const char **text, char out[POLICY_TEXT_MAX])
{
	char address[PCI_ADDRESS_TEXT];
	const char *slash = strchr(*text, '/');
	struct pci_address bus;
	size_t len = slash ? (size_t)(slash - *text) - 3 : 0;

	/* DDDD:BB, made an address by the smallest device: it needs a domain, so one colon each. */
	if (len < 7 || len > 11 || (*text)[3 + len - 3] != ':')
		return false;
	snprintf(address, sizeof(address), "%.*s:00.0", (int)len, *text + 3);
	if (pci_address_parse(address, &bus) < 0)
		return false;
	snprintf(out, POLICY_TEXT_MAX, "pci%04x:%02x/", (unsigned int)bus.domain,
		 (unsigned int)bus.bus);
	*text = slash + 1;
	return true;
}

bool value_path(const char *text, char out[POLICY_TEXT_MAX])
{
	char path[POLICY_TEXT_MAX] = "";
	size_t len;

	if (strncmp(text, "pci", 3) == 0 && !read_bridge(&text, path))
		return false;
	for (len = strlen(path);; len += 5) {
		uint8_t device, function;
		char hop[8];

		if (!read_hop(&text, &device, &function) || len + 5 >= sizeof(path))
			return false;
		snprintf(hop, sizeof(hop), "%02x.%x", device, function);
		memcpy(path + len, hop, 4);
		path[len + 4] = *text; /* '/', or the end */
		if (!*text)
			break;
		if (*text++ != '/')
			return false;
	}
	memcpy(out, path, sizeof(path));
	return true;
}

/* An mdev type's directory in sysfs, or what its driver calls it, which may be nearly anything. */
bool value_profile(const char *text, char out[POLICY_TEXT_MAX])
{
	size_t len = strlen(text);

	if (len == 0 || len >= POLICY_TEXT_MAX || strchr(text, '/') || strstr(text, ".."))
		return false;
	memcpy(out, text, len + 1);
	return true;
}
