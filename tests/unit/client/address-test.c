/* SPDX-License-Identifier: MIT */
/*
 * PCI addresses. An address that the parser accepts becomes part of a path below /sys, so the cases
 * are mostly about what it must refuse.
 */
#include "config.h"

#include "client/common/address.h"
#include "client/common/util.h"
#include "tests/tap.h"

#include <ctype.h>
#include <string.h>

static const struct {
	const char *text, *spelled;
	struct pci_address address;
} good[] = {
	{ "0000:01:00.0", "0000:01:00.0", { .bus = 1 } },
	{ "01:00.0", "0000:01:00.0", { .bus = 1 } },
	{ "00:00.0", "0000:00:00.0", { 0 } },
	{ "0000:ff:1f.7", "0000:ff:1f.7", { .bus = 255, .device = 31, .function = 7 } },
	{ "ABCD:EF:1A.3", "abcd:ef:1a.3", { 0xabcd, 0xef, 0x1a, 3, 0 } },
	{ "10000:00:02.0", "10000:00:02.0", { .domain = 0x10000, .device = 2 } },
	{ "00010000:00:02.0", "10000:00:02.0", { .domain = 0x10000, .device = 2 } },
	{ "ffffffff:ff:1f.7", "ffffffff:ff:1f.7", { UINT32_MAX, 0xff, 31, 7, 0 } },
};

static const struct {
	const char *text, *why;
} bad[] = {
	{ "", "nothing" },
	{ ":", "a separator alone" },
	{ "::", "separators alone" },
	{ "::.", "separators without digits" },
	{ "any", "a name" },
	{ "0000", "only a domain" },
	{ "01:00", "no function" },
	{ "01:00.", "an empty function, cut at its NUL" },
	{ "01:", "cut after the bus" },
	{ "0000:01:", "cut after the bus, with a domain" },
	{ "0000:01:00", "cut after the device" },
	{ "0000:01:00.", "cut before the function" },
	{ "01.00.0", "dots for colons" },
	{ "01:00:0", "colons for dots" },
	{ "0000:01:00:0", "a colon before the function" },
	{ "0000.01:00.0", "a dot after the domain" },
	{ "0:01:00.0", "a domain of 1 digit" },
	{ "000:01:00.0", "a domain of 3 digits" },
	{ "000000000:01:00.0", "a domain of 9 digits" },
	{ "100000000:01:00.0", "a domain past 32 bits" },
	{ ":01:00.0", "an empty domain" },
	{ "1:00.0", "a bus of 1 digit" },
	{ "001:00.0", "a bus of 3 digits" },
	{ "01:0.0", "a device of 1 digit" },
	{ "01:000.0", "a device of 3 digits" },
	{ "01:00.00", "a function of 2 digits" },
	{ "01:20.0", "device 32" },
	{ "01:ff.0", "device 255" },
	{ "01:00.8", "function 8" },
	{ "01:00.f", "function 15" },
	{ "01:00.0 ", "a space behind" },
	{ " 01:00.0", "a space before" },
	{ "01:00.0\n", "a newline behind" },
	{ "+1:00.0", "a plus sign" },
	{ "-1:00.0", "a minus sign" },
	{ "0x:00.0", "an x" },
	{ "0x00:01:00.0", "a 0x before the domain" },
	{ "01:0g.0", "a g" },
	{ "01:00.0/..", "a path behind" },
	{ "../:00.0", "a path before" },
	{ "0000:01:00.0:", "a colon behind" },
	{ "0000:0000:01:00.0", "two domains" },
	{ "0000:01:00.0.0", "two functions" },
	{ "\xef\xbc\x90\xef\xbc\x91:00.0", "full-width digits" },
	{ "\xd9\xa0\xd9\xa1:00.0", "Arabic digits" },
	{ "0\xb2:00.0", "a Latin-1 superscript two" },
	{ "01\xef\xbc\x9a"
	  "00.0",
	  "a full-width colon" },
	{ "\xff\xff:00.0", "bytes past 0x7f" },
};

/* Parses a copy in memory of exactly its size, so that a sanitizer sees a read past the NUL. */
static int parse(const char *text, struct pci_address *address)
{
	cleanup_free char *copy = strdup(text);

	return copy ? pci_address_parse(copy, address) : -ENOMEM;
}

static void test_good(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct pci_address a;
		char text[PCI_ADDRESS_TEXT];

		memset(&a, 0xee, sizeof(a));
		tap_ok(!parse(good[i].text, &a) && !memcmp(&a, &good[i].address, sizeof(a)),
		       "\"%s\" is taken, reserved byte and all", good[i].text);
		tap_ok(pci_address_format(&a, text) == text && !strcmp(text, good[i].spelled),
		       "and written as the kernel spells it: %s", good[i].spelled);
	}
}

static void test_bad(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct pci_address a, before;

		memset(&a, 0xee, sizeof(a));
		before = a;
		tap_ok(parse(bad[i].text, &a) == -EINVAL && !memcmp(&a, &before, sizeof(a)),
		       "refused, and the output left alone: %s", bad[i].why);
	}
}

static void test_overlong(void)
{
	enum { LONG = 1 << 20 };
	cleanup_free char *text = malloc(LONG + 1);
	struct pci_address a;
	bool refused = true;

	if (!text)
		exit(99);
	for (const char *c = "0f:.x"; *c; c++) {
		memset(text, *c, LONG);
		text[LONG] = '\0';
		refused = refused && pci_address_parse(text, &a) == -EINVAL;
		memcpy(text, "0000:01:00.0", 12);
		refused = refused && pci_address_parse(text, &a) == -EINVAL;
	}
	tap_ok(refused, "a megabyte of one character, alone or behind an address, is refused");
}

/* Changes each byte: the parser refuses the text, or reads exactly what it says. */
static void test_mutations(void)
{
	static const char *const from[] = { "0000:01:00.0", "0a:1f.7", "deadbeef:10:0c.5" };
	unsigned wrong = 0, taken = 0;

	for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
		for (size_t at = 0; at < strlen(from[i]); at++) {
			for (int byte = 0; byte < 256; byte++) {
				char text[32], out[PCI_ADDRESS_TEXT], want[64];
				struct pci_address a;

				strcpy(text, from[i]);
				text[at] = (char)byte;
				if (parse(text, &a))
					continue;
				taken++;
				snprintf(want, sizeof(want), "%s%s",
					 strlen(text) == 7 ? "0000:" : "", text);
				for (char *p = want; *p; p++)
					*p = (char)tolower((unsigned char)*p);
				pci_address_format(&a, out);
				/* The input may have more zeros in its domain. */
				wrong += strcmp(out + strspn(out, "0"), want + strspn(want, "0")) !=
					 0;
			}
		}
	}
	tap_ok(!wrong && taken > 100,
	       "every byte in every place is refused or means itself (%u taken)", taken);
}

static void test_round_trip(void)
{
	static const uint32_t domains[] = { 0, 1, 0xffff, 0x10000, UINT32_MAX };
	struct pci_address a = { 0 }, b, last = { 0 };
	char text[PCI_ADDRESS_TEXT];
	unsigned wrong = 0, unordered = 0, n = 0;

	for (size_t d = 0; d < ARRAY_SIZE(domains); d++) {
		for (unsigned i = 0; i < 65536; i++) {
			a.domain = domains[d];
			a.bus = (uint8_t)(i >> 8);
			a.device = i >> 3 & 31;
			a.function = i & 7;
			memset(&b, 0xee, sizeof(b));
			if (pci_address_parse(pci_address_format(&a, text), &b) ||
			    memcmp(&a, &b, sizeof(a)) != 0 || pci_address_compare(&a, &b))
				wrong++;
			if (n++ && (pci_address_compare(&last, &a) >= 0 ||
				    pci_address_compare(&a, &last) <= 0))
				unordered++;
			last = a;
		}
	}
	tap_ok(!wrong, "every bus, device and function of %zu domains survives writing and reading",
	       ARRAY_SIZE(domains));
	tap_ok(!unordered, "and comes after the one before it");
}

static void test_order(void)
{
	static const struct pci_address ascending[] = {
		{ 0, 0, 0, 0, 0 },	    { 0, 0, 0, 7, 0 },
		{ 0, 0, 1, 0, 0 },	    { 0, 0, 31, 7, 0 },
		{ 0, 1, 0, 0, 0 },	    { 0, 255, 31, 7, 0 },
		{ 1, 0, 0, 0, 0 },	    { 0x7fffffff, 0, 0, 0, 0 },
		{ 0x80000000, 0, 0, 0, 0 }, { UINT32_MAX, 255, 31, 7, 0 },
	};
	unsigned wrong = 0;

	for (size_t i = 0; i < ARRAY_SIZE(ascending); i++)
		for (size_t k = 0; k < ARRAY_SIZE(ascending); k++) {
			int c = pci_address_compare(&ascending[i], &ascending[k]);

			wrong += (c > 0) != (i > k) || (c < 0) != (i < k);
		}
	tap_ok(!wrong, "domain, bus, device, function, in that order, and domains are unsigned");
}

/* The wire can carry a device and function that the parser never returns. */
static void test_format_hostile(void)
{
	const struct pci_address a = { UINT32_MAX, 255, 255, 255, 255 };
	char text[PCI_ADDRESS_TEXT + 4];

	memset(text, '#', sizeof(text));
	pci_address_format(&a, text);
	tap_ok(strlen(text) < PCI_ADDRESS_TEXT && text[PCI_ADDRESS_TEXT] == '#',
	       "an address out of range is written within its size");
	tap_ok(!strcmp(text, "ffffffff:ff:1f.7"), "and as one that is in range");
}

int main(void)
{
	test_good();
	test_bad();
	test_overlong();
	test_mutations();
	test_round_trip();
	test_order();
	test_format_hostile();
	return tap_done();
}
