/* SPDX-License-Identifier: MIT */
/* The grant: opens the files that are lent, sends them, and closes them. */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Opens all files of the claim, checks, sends and closes them; between open and close this process
 * does nothing else. Returns true if the claimant has them: then every lease is LEASED. Returns
 * false if the claim has failed.
 */
bool claim_grant(struct claim *claim);
