/* SPDX-License-Identifier: MIT */
/*
 * The vfio_pci: aliases in a kernel's modules.alias, which say for what functions it has a variant
 * driver: one way to choose, for the daemon and for what udev does at boot.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

#include "client/host/function.h"

struct alias {
	char pattern[128]; /* as in "pci:%s" against a modalias: "v000015B3d0000101Esv*sd*bc*sc*i*" */
	char module[FUNCTION_NAME_MAX];
};

/*
 * All zero: none. In the order in which they count: of those that match, the one with the fewest
 * wildcards says most about a device. None is there twice.
 */
struct aliases {
	struct alias *list;
	size_t n;
};

/* Adds what a modules.alias has. Lines of another form are no concern of ours. 0 or -errno. */
int aliases_add(struct aliases *aliases, FILE *file);

/* Adds what the running kernel has, or every kernel that is installed. 0 or -errno. */
int aliases_add_running(struct aliases *aliases);
int aliases_add_installed(struct aliases *aliases);

void aliases_done(struct aliases *aliases);

/* The module for a function by its modalias, "pci:v..."; NULL: none. */
const char *aliases_find(const struct aliases *aliases, const char *modalias);
