/* SPDX-License-Identifier: MIT */
/*
 * The policy's prepare rules as udev rules, which hold before any daemon runs: text out. Pure;
 * udevrules-host.h is about the host.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/host/aliases.h"
#include "client/host/places.h"
#include "client/host/spared.h"
#include "policy/policy.h"

#define UDEVRULES_SIZE_MAX (8 << 20)

/*
 * Returns true if the policy prepares anything at boot. Virtual functions need nothing then: the
 * daemon makes them.
 */
bool udevrules_needed(const struct policy *policy);

/*
 * Makes the text, "" if the policy prepares nothing; it is the caller's. `places` is what was
 * where, see places.h; NULL: rules by a place mean whatever is there. `spared` is left alone,
 * whatever a rule says. -E2BIG: it would be larger than UDEVRULES_SIZE_MAX; -ENOMEM. The same
 * arguments always give the same text. The aliases are those of all installed kernels, so the text
 * does not depend on which one runs.
 */
int udevrules_text(const struct policy *policy, const struct aliases *aliases,
		   const struct places *places, const struct spared *spared, char **ret_text);
