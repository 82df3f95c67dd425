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

/* ---- patterns ---- */

/* The same as read_hex(), or "*", which sets the bit. */
static bool read_part(const char **text, int min, int max, char terminator, uint32_t bit,
		      uint32_t *any, uint32_t *ret_value)
{
	if ((*text)[0] != '*')
		return read_hex(text, min, max, terminator, ret_value);
	if ((*text)[1] != terminator)
		return false;
	*text += terminator ? 2 : 1;
	*any |= bit;
	*ret_value = 0;
	return true;
}

int pci_pattern_parse(const char *text, struct pci_address *ret_address, uint32_t *ret_any)
{
	const char *first = strchr(text, ':');
	uint32_t domain = 0, bus, device, function, any = 0;

	if (!first)
		return -EINVAL;
	if (strchr(first + 1, ':') && !read_part(&text, 4, 8, ':', PCI_ANY_DOMAIN, &any, &domain))
		return -EINVAL;
	if (!read_part(&text, 2, 2, ':', PCI_ANY_BUS, &any, &bus) ||
	    !read_part(&text, 2, 2, '.', PCI_ANY_DEVICE, &any, &device) ||
	    !read_part(&text, 1, 1, '\0', PCI_ANY_FUNCTION, &any, &function))
		return -EINVAL;
	if (device > 31 || function > 7 || any == PCI_ANY_ADDRESS)
		return -EINVAL;
	*ret_address = (struct pci_address){
		.domain = domain,
		.bus = (uint8_t)bus,
		.device = (uint8_t)device,
		.function = (uint8_t)function,
	};
	*ret_any = any;
	return 0;
}

bool pci_pattern_valid(const struct pci_address *address, uint32_t any)
{
	return address->device <= 31 && address->function <= 7 && !address->reserved &&
	       any < PCI_ANY_ADDRESS && !(any & PCI_ANY_DOMAIN && address->domain) &&
	       !(any & PCI_ANY_BUS && address->bus) && !(any & PCI_ANY_DEVICE && address->device) &&
	       !(any & PCI_ANY_FUNCTION && address->function);
}

bool pci_pattern_covers(const struct pci_address *address, uint32_t any,
			const struct pci_address *other, uint32_t other_any)
{
	return !(other_any & ~any) && (any & PCI_ANY_DOMAIN || address->domain == other->domain) &&
	       (any & PCI_ANY_BUS || address->bus == other->bus) &&
	       (any & PCI_ANY_DEVICE || address->device == other->device) &&
	       (any & PCI_ANY_FUNCTION || address->function == other->function);
}

char *pci_pattern_format(const struct pci_address *address, uint32_t any,
			 char out[PCI_ADDRESS_TEXT])
{
	char domain[9] = "*", bus[3] = "*", device[3] = "*", function[2] = "*";

	if (!(any & PCI_ANY_DOMAIN))
		snprintf(domain, sizeof(domain), "%04x", (unsigned)address->domain);
	if (!(any & PCI_ANY_BUS))
		snprintf(bus, sizeof(bus), "%02x", (unsigned)address->bus);
	if (!(any & PCI_ANY_DEVICE))
		snprintf(device, sizeof(device), "%02x", (unsigned)address->device & 31U);
	if (!(any & PCI_ANY_FUNCTION))
		snprintf(function, sizeof(function), "%x", (unsigned)address->function & 7U);
	snprintf(out, PCI_ADDRESS_TEXT, "%s:%s:%s.%s", domain, bus, device, function);
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
