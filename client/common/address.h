/* SPDX-License-Identifier: MIT */
/*
 * PCI addresses, as the kernel writes them: domain:bus:device.function.
 *
 * The wire, the policy and the daemon share this type. Pure: text in, numbers out. Only ASCII hex
 * digits are accepted, so an address that was parsed here is safe as a part of a path.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PCI_ADDRESS_TEXT 20 /* "ffffffff:ff:1f.7" and its NUL, with room to spare */

struct pci_address {
	uint32_t domain; /* VMD and Hyper-V use domains past 0xffff */
	uint8_t bus;
	uint8_t device;	  /* 0 to 31 */
	uint8_t function; /* 0 to 7 */
	uint8_t reserved; /* always 0, so that addresses compare by memcmp */
};

/* Takes "DDDD:BB:DD.F" (4 to 8 digits of domain) and "BB:DD.F" (domain 0). -EINVAL for all else. */
int pci_address_parse(const char *text, struct pci_address *ret_address);

/*
 * A set of addresses: `any` has a bit for each number that may be any one, and is 0 in `address`.
 */
enum pci_address_any {
	PCI_ANY_DOMAIN = 1 << 0,
	PCI_ANY_BUS = 1 << 1,
	PCI_ANY_DEVICE = 1 << 2,
	PCI_ANY_FUNCTION = 1 << 3,
	PCI_ANY_ADDRESS = (1 << 4) - 1, /* all of them: every function, which no pattern means */
};

/*
 * Takes an address, or one with "*" in place of numbers ("*:0a:00.*"), but not of all. A domain
 * that is left out is 0. -EINVAL for all else.
 */
int pci_pattern_parse(const char *text, struct pci_address *ret_address, uint32_t *ret_any);
/* Returns true if a pattern is one that the parser could have made. */
bool pci_pattern_valid(const struct pci_address *address, uint32_t any);
/* Returns true if the pattern has every address that the other one has. */
bool pci_pattern_covers(const struct pci_address *address, uint32_t any,
			const struct pci_address *other, uint32_t other_any);
char *pci_pattern_format(const struct pci_address *address, uint32_t any,
			 char out[PCI_ADDRESS_TEXT]);

/* Writes the kernel's own spelling, at least four digits of domain, into out. Returns out. */
char *pci_address_format(const struct pci_address *address, char out[PCI_ADDRESS_TEXT]);

/* The value of a hex digit, or -1. */
int pci_hex_digit(char c);

/* Orders as the kernel lists them: <0, 0, >0. */
int pci_address_compare(const struct pci_address *a, const struct pci_address *b);
