/* SPDX-License-Identifier: MIT */
/* The grant: opens what is lent, sends it, closes it. */
#pragma once

#include "brokerd/claim/claims.h"

/*
 * Opens all that the claim is lent, checks, sends and closes it: between open and close nothing
 * else happens in this process. True: the claimant has it, and every lease is LEASED. False: the
 * claim has failed.
 */
bool claim_grant(struct claim *claim);
