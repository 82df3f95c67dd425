/* SPDX-License-Identifier: MIT */
/*
 * The policy's prepare rules as udev rules, which hold before any daemon runs: text out, for
 * gpubroker(1) to install and for the loader to compare with what is installed. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/host/aliases.h"
#include "client/host/places.h"
#include "policy/policy.h"

/* Before 80-drivers.rules, whose kmod would bring the host's driver. */
#define UDEVRULES_FILE "/etc/udev/rules.d/69-gpubroker-prepare.rules"
/* The file that the hooks in udev-rules/ made in the initramfs of this boot, if it has them. */
#define UDEVRULES_INITRAMFS_FILE "/run/gpubroker-initramfs.rules"
#define UDEVRULES_SIZE_MAX (8 << 20)

/*
 * Makes the text, "" if the policy prepares nothing; it is the caller's. `places` is what was
 * where, see places.h; NULL: rules by a place mean whatever is there. -E2BIG: it would be larger
 * than UDEVRULES_SIZE_MAX; -ENOMEM. The same policy, aliases and places always give the same text.
 * The aliases are those of all installed kernels, so the text does not depend on which one runs.
 */
int udevrules_text(const struct policy *policy, const struct aliases *aliases,
		   const struct places *places, char **ret_text);

/* Returns true if the policy prepares anything at boot. */
bool udevrules_prepares_any(const struct policy *policy);
