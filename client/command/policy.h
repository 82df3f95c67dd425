/* SPDX-License-Identifier: MIT */
/*
 * The commands below `gpubroker policy`: each takes the arguments of a main() and returns the exit
 * status.
 */
#pragma once

struct cli;

int policy_explain(const struct cli *cli, int argc, char **argv);
int policy_what(const struct cli *cli, int argc, char **argv);
int policy_install(int argc, char **argv);
int policy_reload(const struct cli *cli, int argc, char **argv);
int policy_add(const struct cli *cli, int argc, char **argv);
int policy_edit(const struct cli *cli, int argc, char **argv);

/*
 * Writes the udev rules anew, has the broker read the policy, and prints what came of it. Returns
 * the exit status.
 */
int policy_reload_now(const struct cli *cli);
