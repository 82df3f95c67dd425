/* SPDX-License-Identifier: MIT */
/* Finds out which processes' memory Yama lets the supervisor of `gpubroker run` read. */
#pragma once

#include <stdbool.h>

#include "client/run/supervise.h"

/*
 * Returns where the supervisor has to be for this kernel.yama.ptrace_scope; `capable`: it has
 * CAP_SYS_PTRACE. Pure. Returns false if it can serve nobody, wherever it is.
 */
bool reach_decide(int scope, bool capable, enum supervise_place *ret_place);

/* Returns the host's kernel.yama.ptrace_scope, 0 where the kernel has no Yama. */
int reach_scope(void);

/* Returns true if this process has CAP_SYS_PTRACE in effect. */
bool reach_capable(void);
