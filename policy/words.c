/* SPDX-License-Identifier: MIT */
/*
 * The vocabulary: every word of the language in one table, and readers for the values that follow
 * a word. To add an attribute or a limit is to add a line and its reader here. It must never guess:
 * a reader takes a value whole or not at all, and a word that this version does not know stays a
 * mistake, since a restriction that is accepted and ignored is a hole.
 */
#include "config.h"

#include "policy/words.h"

#include <string.h>

#include "client/util.h"

#define NEAR_MAX 31 /* longer words are near nothing */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Hex digits, with 0x before them or without (sysfs has it, lspci does not). */
static bool read_hex(const char *text, size_t max_digits, uint32_t *ret_value, size_t *ret_digits)
{
	uint32_t value = 0;
	size_t digits;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		text += 2;
	for (digits = 0; text[digits]; digits++) {
		if (digits == max_digits || hex_digit(text[digits]) < 0)
			return false;
		value = value << 4 | (uint32_t)hex_digit(text[digits]);
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

bool words_number(const char *text, uint64_t max, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		uint64_t digit = (uint64_t)(*text - '0');

		if (*text < '0' || *text > '9')
			return false;
		if (value > max / 10 || value * 10 > max - digit)
			return false;
		value = value * 10 + digit;
	}
	*ret_value = value;
	return true;
}

static bool read_address(const char *text, struct policy_rule *rule)
{
	return pci_address_parse(text, &rule->match.address) == 0;
}

static bool read_vendor(const char *text, struct policy_rule *rule)
{
	return read_id(text, &rule->match.vendor);
}

static bool read_device(const char *text, struct policy_rule *rule)
{
	return read_id(text, &rule->match.device);
}

static bool read_class(const char *text, struct policy_rule *rule)
{
	const struct word *word = words_find(WORD_CLASS, text);
	uint32_t value;
	size_t digits;

	if (word) {
		rule->match.class_code = word->value;
		rule->match.class_mask = word->mask;
		return true;
	}
	/* Base class, base and subclass, or all three bytes: what is left out does not count. */
	if (!read_hex(text, 6, &value, &digits) || digits % 2)
		return false;
	rule->match.class_code = value << (24 - 4 * digits);
	rule->match.class_mask = 0xffffffU << (24 - 4 * digits) & 0xffffffU;
	return true;
}

static bool read_iommu_group(const char *text, struct policy_rule *rule)
{
	uint64_t value;

	if (!words_number(text, UINT32_MAX - 1, &value)) /* UINT32_MAX means none in the facts */
		return false;
	rule->match.iommu_group = (uint32_t)value;
	return true;
}

static bool read_memlock(const char *text, struct policy_rule *rule)
{
	static const char suffixes[] = "KMGT";
	char digits[24];
	const char *suffix;
	unsigned int shift = 0;
	size_t len = strlen(text);
	uint64_t value;

	if (len == 0 || len >= sizeof(digits))
		return false;
	suffix = strchr(suffixes, text[len - 1]);
	if (suffix) {
		shift = 10 * (unsigned int)(suffix - suffixes + 1);
		len--;
	}
	memcpy(digits, text, len);
	digits[len] = '\0';
	/* Below 2^63, so that nobody can come by RLIM_INFINITY by way of a sum. */
	if (!words_number(digits, INT64_MAX >> shift, &value) || value == 0)
		return false;
	rule->memlock = value << shift;
	return true;
}

static bool read_boot_vga(const char *text, struct policy_rule *rule)
{
	(void)text;
	rule->boot_vga = 1;
	return true;
}

#define HEX_ID "an id of 1 to 4 hex digits, such as 10de or 0x10de"

static const struct word words[] = {
	{ .text = "device", .kind = WORD_STATEMENT, .value = POLICY_DEVICE },
	{ .text = "allow", .kind = WORD_STATEMENT, .value = POLICY_ALLOW },
	{ .text = "deny", .kind = WORD_STATEMENT, .value = POLICY_DENY },
	{ .text = "prepare", .kind = WORD_STATEMENT, .later = true },

	{ .text = "user", .kind = WORD_WHO, .value = POLICY_WHO_USER },
	{ .text = "group", .kind = WORD_WHO, .value = POLICY_WHO_GROUP },
	{ .text = "any", .kind = WORD_WHO, .value = POLICY_WHO_ANY },

	{ .text = "claim", .kind = WORD_CLAIM },
	{ .text = "any", .kind = WORD_ANY },

	{ .text = "address",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_ADDRESS,
	  .read = read_address,
	  .expected = "a PCI address, such as 0000:01:00.0 or 01:00.0" },
	{ .text = "vendor",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_VENDOR,
	  .read = read_vendor,
	  .expected = HEX_ID },
	{ .text = "device",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_DEVICE_ID,
	  .read = read_device,
	  .expected = HEX_ID },
	{ .text = "class",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_CLASS,
	  .read = read_class,
	  .expected =
		  "2, 4 or 6 hex digits, or display, audio, usb, network, storage or accelerator" },
	{ .text = "iommu-group",
	  .kind = WORD_ATTRIBUTE,
	  .value = POLICY_IOMMU_GROUP,
	  .read = read_iommu_group,
	  .expected = "a decimal group number" },
	{ .text = "subsystem-vendor", .kind = WORD_ATTRIBUTE, .later = true },
	{ .text = "subsystem-device", .kind = WORD_ATTRIBUTE, .later = true },
	{ .text = "driver", .kind = WORD_ATTRIBUTE, .later = true },
	{ .text = "serial", .kind = WORD_ATTRIBUTE, .later = true },
	{ .text = "path", .kind = WORD_ATTRIBUTE, .later = true },

	{ .text = "memlock",
	  .kind = WORD_LIMIT,
	  .value = WORD_MEMLOCK,
	  .read = read_memlock,
	  .expected = "a size from 1 byte to below 8388608T, such as 512M or 64G" },
	{ .text = "boot-vga", .kind = WORD_LIMIT, .value = WORD_BOOT_VGA, .read = read_boot_vga },
	{ .text = "limit", .kind = WORD_LIMIT, .later = true },
	{ .text = "for", .kind = WORD_LIMIT, .later = true },
	{ .text = "vfio-driver", .kind = WORD_LIMIT, .later = true },

	/* PCI Code and ID Assignment Specification, chapter 1. */
	{ .text = "display", .kind = WORD_CLASS, .value = 0x030000, .mask = 0xff0000 },
	/* 0401 (audio device) and 0403 (HD audio), which differ in one bit; 0400 is video. */
	{ .text = "audio", .kind = WORD_CLASS, .value = 0x040100, .mask = 0xfffd00 },
	{ .text = "usb", .kind = WORD_CLASS, .value = 0x0c0300, .mask = 0xffff00 },
	{ .text = "network", .kind = WORD_CLASS, .value = 0x020000, .mask = 0xff0000 },
	{ .text = "storage", .kind = WORD_CLASS, .value = 0x010000, .mask = 0xff0000 },
	{ .text = "accelerator", .kind = WORD_CLASS, .value = 0x120000, .mask = 0xff0000 },
};

const struct word *words_find(unsigned int kinds, const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if ((words[i].kind & kinds) && words[i].text[0] == text[0] &&
		    strcmp(words[i].text, text) == 0)
			return &words[i];
	return NULL;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static unsigned int min3(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int least = a < b ? a : b;

	return least < c ? least : c;
}

/* Edits from a to b, a swap of neighbours being one; both at most NEAR_MAX long. */
static unsigned int distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned int rows[3][NEAR_MAX + 1];
	unsigned int *before = rows[0], *above = rows[1], *row = rows[2];

	for (unsigned int j = 0; j <= b_len; j++) {
		before[j] = 0;
		above[j] = j;
	}
	for (size_t i = 1; i <= a_len; i++) {
		unsigned int *spare = before;

		row[0] = (unsigned int)i;
		for (size_t j = 1; j <= b_len; j++) {
			unsigned int change = lower(a[i - 1]) != lower(b[j - 1]);

			row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + change);
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
			    lower(a[i - 2]) == lower(b[j - 1]) && before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		before = above;
		above = row;
		row = spare;
	}
	return above[b_len];
}

/* 0 is the same but for case; UINT32_MAX is not near. Short words must differ in less. */
static unsigned int nearness(const char *a, const char *b)
{
	size_t a_len = strlen(a), b_len = strlen(b);
	size_t shorter = a_len < b_len ? a_len : b_len, longer = a_len < b_len ? b_len : a_len;
	unsigned int most = shorter < 3 ? 0 : shorter < 6 ? 1 : 2, edits;

	if (longer > NEAR_MAX || longer - shorter > most)
		return UINT32_MAX;
	edits = distance(a, a_len, b, b_len);
	return edits <= most ? edits : UINT32_MAX;
}

bool words_are_near(const char *a, const char *b)
{
	return nearness(a, b) != UINT32_MAX;
}

const struct word *words_near(unsigned int kinds, const char *text)
{
	const struct word *near = NULL;
	unsigned int least = UINT32_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		unsigned int edits;

		if (!(words[i].kind & kinds) || words[i].later)
			continue;
		edits = nearness(text, words[i].text);
		if (edits < least) {
			least = edits;
			near = &words[i];
		}
	}
	return near;
}

char *words_list(unsigned int kinds, char *out, size_t size)
{
	size_t count = 0, done = 0, len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		count += (words[i].kind & kinds) && !words[i].later;

	out[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(words) && len < size; i++) {
		const char *separator = done == 0 ? "" : done + 1 == count ? " or " : ", ";

		if (!(words[i].kind & kinds) || words[i].later)
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
		char c = lower(text[len]);
		bool letter = c >= 'a' && c <= 'z';
		bool other = (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';

		if (len + 1 == POLICY_NAME_MAX || !(letter || (len > 0 && other)))
			return false;
	}
	return len > 0 && !words_find(WORD_RESERVED, text);
}
