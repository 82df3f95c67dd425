/* SPDX-License-Identifier: MIT */
/*
 * The commands below `gpubroker policy`: each takes the arguments of a main() and returns the exit
 * status.
 */
#pragma once

int policy_explain(int argc, char **argv);
int policy_install(int argc, char **argv);
