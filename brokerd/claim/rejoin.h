/* SPDX-License-Identifier: MIT */
/*
 * The places of waiting claims over the end of the daemon. Each claim that waits has a record. Its
 * client connects to the next daemon and names the place that it had; until all have, or a moment
 * has passed, nothing is granted.
 */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Reads the places that claims had with the daemon before this one, and keeps their ids from being
 * used again. To be called before lease ids are given out. Returns 0, or -errno.
 */
int rejoin_recover(struct claims *claims);
/* The daemon serves: from now on the claims may come. */
void rejoin_serve(struct claims *claims);
/* A claim waits: records its place. */
void rejoin_note(struct claims *claims, const struct waiting *waiting);
/* It waits no longer, but for the end of the daemon: removes the record. */
void rejoin_forget(struct claims *claims, const struct waiting *waiting);
void rejoin_done(struct claims *claims);
