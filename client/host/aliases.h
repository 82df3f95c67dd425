/* SPDX-License-Identifier: MIT */
/*
 * The vfio_pci: aliases in a kernel's modules.alias, which tell for which functions it has a
 * variant driver. The daemon and udev at boot choose in the same way.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

#include "client/host/function.h"

struct alias {
	char pattern[128]; /* "pci:%s" matches a modalias: "v000015B3d0000101Esv*sd*bc*sc*i*" */
	char module[FUNCTION_NAME_MAX];
};

/*
 * All zero: none. In order of precedence: of those that match, the one with the fewest wildcards
 * says most about a device. None is there twice.
 */
struct aliases {
	struct alias *list;
	size_t n;
};

/* Adds the aliases of a modules.alias, and ignores other lines. 0 or -errno. */
int aliases_add(struct aliases *aliases, FILE *file);

/* Adds those of the running kernel, or of every kernel that is installed. 0 or -errno. */
int aliases_add_running(struct aliases *aliases);
int aliases_add_installed(struct aliases *aliases);

void aliases_done(struct aliases *aliases);

/* The module for a function by its modalias, "pci:v..."; NULL: none. */
const char *aliases_find(const struct aliases *aliases, const char *modalias);
