/* SPDX-License-Identifier: MIT */
/* Keeps podman's pause process out of the tree that `gpubroker run` supervises. */
#pragma once

/*
 * If the command, ended by NULL, is a rootless podman without its pause process, has podman start
 * that now, and says so if it does not. It takes at most half a minute.
 */
void podman_prepare(char *const *argv);
