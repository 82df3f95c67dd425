/* SPDX-License-Identifier: MIT */
/*
 * The policy's prepare rules as udev rules, which hold before any daemon runs: text out, for
 * gpubroker(1) to install and for the loader to compare with what is installed. Pure, but for
 * udevrules_for_host() and udevrules_compare().
 */
#pragma once

#include <stddef.h>

#include "client/host/aliases.h"
#include "policy/policy.h"

/* Before 80-drivers.rules, whose kmod would bring the host's driver. */
#define UDEVRULES_FILE "/etc/udev/rules.d/69-gpubroker-prepare.rules"
/* The file that the hooks in udev-rules/ made in the initramfs of this boot, if it has them. */
#define UDEVRULES_INITRAMFS_FILE "/run/gpubroker-initramfs.rules"
#define UDEVRULES_SIZE_MAX (8 << 20)

/*
 * Makes the text, "" if the policy prepares nothing; it is the caller's. -E2BIG: it would be larger
 * than UDEVRULES_SIZE_MAX; -ENOMEM. The same policy and aliases always give the same text. The
 * aliases are those of all installed kernels, so the text does not depend on which one runs.
 */
int udevrules_text(const struct policy *policy, const struct aliases *aliases, char **ret_text);

/* The same, with the aliases of this host. */
int udevrules_for_host(const struct policy *policy, char **ret_text);

/*
 * Compares a file with such a text. Returns 0 if the file has it, 1 if it has another one, or
 * -errno if it cannot be read.
 */
int udevrules_compare(const char *path, const char *text);
