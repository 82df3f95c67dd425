/* SPDX-License-Identifier: MIT */
/* The stages of the core's life after core_init() and core_start(). */
#pragma once

struct core;

/*
 * Takes up the leases and SR-IOV changes that an earlier run has recorded. To be called after
 * confinement. Returns 0, or -errno.
 */
int core_recover(struct core *core);
/* Begins to serve, if it does not yet: accepts peers, and prepares devices as the policy wants. */
void core_serve(struct core *core);
/*
 * Stops serving: accepts no peers, and undoes claims that have begun. Leases stay with their
 * holders.
 */
void core_close(struct core *core);
/* Frees the parts and closes their files. To be called after the loop. */
void core_done(struct core *core);
