/* SPDX-License-Identifier: MIT */
/*
 * Reads from the kernel's uevents which PCI functions have changed. Text in, addresses out; no I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/common/address.h"

/* Addresses in a list; if there are more, all functions are looked at. */
#define UEVENT_MARKS_MAX 256

/* The functions that events have named since the last look. All zero: none. */
struct uevent_marks {
	struct pci_address list[UEVENT_MARKS_MAX]; /* without duplicates */
	size_t n;
	bool everything;
};

/* Takes one message from the socket, which need not be NUL-terminated and is not trusted. */
void uevent_take(struct uevent_marks *marks, const char *text, size_t size);
