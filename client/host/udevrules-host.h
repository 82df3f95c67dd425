/* SPDX-License-Identifier: MIT */
/*
 * The udev rules for a host, for gpubroker(1) to install and for the loader to compare with what is
 * installed. Reads only.
 */
#pragma once

#include "client/host/places.h"
#include "client/host/spared.h"
#include "policy/policy.h"

/* Before 80-drivers.rules, whose kmod would bring the host's driver. */
#define UDEVRULES_FILE "/etc/udev/rules.d/69-gpubroker-prepare.rules"
/* The file that the hooks in udev-rules/ made in the initramfs of this boot, if it has them. */
#define UDEVRULES_INITRAMFS_FILE "/run/gpubroker-initramfs.rules"

/* Makes the text of udevrules_text() with the aliases of this host. */
int udevrules_for_host(const struct policy *policy, const struct places *places,
		       const struct spared *spared, char **ret_text);

/*
 * Returns 0 if a file has the rules of this policy, with the places that the file names; 1 if it
 * has others; or -errno if it cannot be read. A file that is not there is right if nothing is to be
 * prepared.
 */
int udevrules_is_stale(const struct policy *policy, const struct spared *spared, const char *path);

/*
 * Compares a file with such a text. Returns 0 if the file has it, 1 if it has another one, or
 * -errno if it cannot be read.
 */
int udevrules_compare(const char *path, const char *text);
