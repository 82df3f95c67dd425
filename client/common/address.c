/* SPDX-License-Identifier: MIT */
/*
 * PCI addresses: parsing, writing, order. Owns no state and makes no system call. It must never
 * accept a character that is not an ASCII hex digit or one of the three separators, since the
 * daemon makes paths below /sys out of what comes from here.
 */
#include "config.h"

#include "client/common/address.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int pci_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Reads min to max hex digits up to the terminator, and steps over the terminator. */
static bool read_hex(const char **text, int min, int max, char terminator, uint32_t *ret_value)
{
	const char *p = *text;
	uint32_t value = 0;
	int digits = 0;

	for (; pci_hex_digit(*p) >= 0; p++, digits++) {
		if (digits == max)
			return false;
		value = value << 4 | (uint32_t)pci_hex_digit(*p);
	}
	if (digits < min || *p != terminator)
		return false;
	*text = terminator ? p + 1 : p;
	*ret_value = value;
	return true;
}

int pci_address_parse(const char *text, struct pci_address *ret_address)
{
	const char *first = strchr(text, ':');
	uint32_t domain = 0, bus, device, function;

	if (!first)
		return -EINVAL;
	if (strchr(first + 1, ':') && !read_hex(&text, 4, 8, ':', &domain))
		return -EINVAL;
	if (!read_hex(&text, 2, 2, ':', &bus) || !read_hex(&text, 2, 2, '.', &device) ||
	    !read_hex(&text, 1, 1, '\0', &function))
		return -EINVAL;
	if (device > 31 || function > 7)
		return -EINVAL;

	*ret_address = (struct pci_address){
		.domain = domain,
		.bus = (uint8_t)bus,
		.device = (uint8_t)device,
		.function = (uint8_t)function,
	};
	return 0;
}

char *pci_address_format(const struct pci_address *address, char out[PCI_ADDRESS_TEXT])
{
	snprintf(out, PCI_ADDRESS_TEXT, "%04x:%02x:%02x.%x", (unsigned)address->domain,
		 (unsigned)address->bus, (unsigned)address->device & 31U,
		 (unsigned)address->function & 7U);
	return out;
}

int pci_address_compare(const struct pci_address *a, const struct pci_address *b)
{
	if (a->domain != b->domain)
		return a->domain < b->domain ? -1 : 1;
	if (a->bus != b->bus)
		return a->bus < b->bus ? -1 : 1;
	if (a->device != b->device)
		return a->device < b->device ? -1 : 1;
	return (int)a->function - (int)b->function;
}
