/* SPDX-License-Identifier: MIT */
/*
 * gpubroker-policy-install: runs `gpubroker policy install --keep` for the service, or with
 * --reload `gpubroker policy reload`, which does that too. Only an administrator may let the rules
 * mean another device than they did. A system unit may run the command itself, too, for example
 * `gpubroker run`. SELinux tells the two apart by the file that systemd executes, and by nothing
 * else, so the service executes this one, which leads into the domain that may write udev rules. It
 * must never pass an argument or the environment's PATH on.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--reload"))
		execl(GPUBROKER_COMMAND, "gpubroker", "policy", "reload", (char *)NULL);
	else
		execl(GPUBROKER_COMMAND, "gpubroker", "policy", "install", "--keep", (char *)NULL);
	perror(GPUBROKER_COMMAND);
	return EX_OSERR;
}
