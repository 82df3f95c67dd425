/* SPDX-License-Identifier: MIT */
/*
 * The udev rules for this host, for gpubroker(1) to install and for the loader to compare with what
 * is installed.
 */
#pragma once

#include <stdbool.h>

#include "policy/policy.h"

/* Before 80-drivers.rules, whose kmod would bring the host's driver. */
#define UDEVRULES_FILE "/etc/udev/rules.d/69-gpubroker-prepare.rules"
/* The file that the hooks in udev-rules/ made in the initramfs of this boot, if it has them. */
#define UDEVRULES_INITRAMFS_FILE "/run/gpubroker-initramfs.rules"

/*
 * Makes the text of udevrules_text() with the aliases of this host. `here`: the rules are for the
 * machine that runs, so what it spares is read from sysfs; else they are for an image of another
 * one, whose devices are not known.
 */
int udevrules_for_host(const struct policy *policy, bool here, char **ret_text);

/*
 * Compares a file with such a text. Returns 0 if the file has it, 1 if it has another one, or
 * -errno if it cannot be read.
 */
int udevrules_compare(const char *path, const char *text);
