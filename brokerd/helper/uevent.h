/* SPDX-License-Identifier: MIT */
/*
 * What the kernel's uevents say of PCI functions: which ones to look at. Text in, addresses out; no
 * I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/common/address.h"

#define UEVENT_MARKS_MAX 256 /* functions to look at; more, and all are looked at */

/* What the events since the last look were about; all zero: nothing. */
struct uevent_marks {
	struct pci_address list[UEVENT_MARKS_MAX]; /* different ones */
	size_t n;
	bool everything;
};

/* Takes one message, as it came from the socket: not NUL-terminated, and not believed. */
void uevent_take(struct uevent_marks *marks, const char *text, size_t size);
