/* SPDX-License-Identifier: MIT */
/*
 * Decides where the supervisor of `gpubroker run` has to be so that Yama lets it read the memory of
 * the command's processes, see reach.h. It reads two files of /proc and must never change anything.
 *
 * security/yama/yama_lsm.c, for PTRACE_MODE_ATTACH, which process_vm_readv() and /proc/PID/mem ask
 * for. Scope 0: whoever else may. Scope 1: an ancestor, by the chain of real parents, or the
 * process that PR_SET_PTRACER names, which fork does not pass on; or CAP_SYS_PTRACE. Scope 2:
 * CAP_SYS_PTRACE alone. Scope 3: nobody, and no value below it until the host starts again.
 */
#include "config.h"

#include "client/run/reach.h"
#include "client/common/util.h"

#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool reach_decide(int scope, bool capable, enum supervise_place *ret_place)
{
	*ret_place = scope == 1 && !capable ? SUPERVISE_ABOVE : SUPERVISE_BESIDE;
	return scope <= 1 || (scope == 2 && capable);
}

int reach_scope(void)
{
	cleanup_file FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	char line[16];

	return f && fgets(line, sizeof(line), f) ? atoi(line) : 0;
}

bool reach_capable(void)
{
	static const char field[] = "CapEff:";
	cleanup_file FILE *f = fopen("/proc/self/status", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			return strtoull(line + strlen(field), NULL, 16) >> CAP_SYS_PTRACE & 1;
	return false;
}
