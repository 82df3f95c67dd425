/* SPDX-License-Identifier: MIT */
/*
 * The control groups in which hooks run, one for each event at work, below that of the unit. By
 * them all that a hook has started can be ended. Without them, as where the runner is started by
 * hand, its process group must do.
 */
#pragma once

/*
 * Opens the unit's own control group. Returns a descriptor; -1: there are no control groups here.
 */
int cgroup_open_own(void);
/* Opens the control group of an event, and makes it if need be. Returns a descriptor, or -1. */
int cgroup_open_event(int own, unsigned slot);
/* Moves this process into it. */
void cgroup_enter(int cgroup);
/* Ends all processes in it, at once. */
void cgroup_kill(int cgroup);
