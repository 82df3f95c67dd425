/* SPDX-License-Identifier: MIT */
/*
 * Parses uevents, see uevent.h. Owns nothing. It must never read past a message, even a malformed
 * one, and never take from it more than where to look: the facts about a function are read from
 * sysfs.
 */
#include "config.h"

#include "brokerd/helper/uevent.h"

#include <string.h>

static const char subsystem[] = "SUBSYSTEM=pci";
static const char slot_key[] = "PCI_SLOT_NAME=";

static void mark_address(struct uevent_marks *marks, const struct pci_address *address)
{
	for (size_t i = 0; i < marks->n; i++)
		if (!pci_address_compare(&marks->list[i], address))
			return;
	if (marks->n < UEVENT_MARKS_MAX)
		marks->list[marks->n++] = *address;
	else
		marks->everything = true;
}

/*
 * A message is "ACTION@DEVPATH", then KEY=VALUE strings, each with its NUL. Only the addresses of
 * PCI functions matter. A last string without NUL is ignored: the kernel sends none.
 */
void uevent_take(struct uevent_marks *marks, const char *text, size_t size)
{
	const char *slot = NULL, *end;
	struct pci_address address;
	bool pci = false;

	for (; size && (end = memchr(text, '\0', size)); text = end + 1) {
		if (!strcmp(text, subsystem))
			pci = true;
		else if (!strncmp(text, slot_key, sizeof(slot_key) - 1))
			slot = text + sizeof(slot_key) - 1;
		size -= (size_t)(end + 1 - text);
	}
	if (pci && slot && !pci_address_parse(slot, &address))
		mark_address(marks, &address);
}
