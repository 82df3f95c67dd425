/* SPDX-License-Identifier: MIT */
/*
 * gpubroker-policy-install: runs `gpubroker policy install --keep`, for the service. Only an
 * administrator may let the rules mean another device than they did. A system unit may run the
 * command itself, too, for example `gpubroker run`. SELinux tells the two apart by the file that
 * systemd executes, and by nothing else, so the service executes this one, which leads into the
 * domain that may write udev rules. It must never pass an argument or the environment's PATH on.
 */
#include "config.h"

#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

int main(void)
{
	execl(GPUBROKER_COMMAND, "gpubroker", "policy", "install", "--keep", (char *)NULL);
	perror(GPUBROKER_COMMAND);
	return EX_OSERR;
}
