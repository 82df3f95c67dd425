/* SPDX-License-Identifier: MIT */
/* Counts what the broker does now, in a line for `systemctl status`. */
#pragma once

#include "brokerd/claim/claims.h"

#define SUMMARY_TEXT 160

/* Writes "2 of 4 GPUs lent, 1 waits, 1 stuck; policy of 2026-11-30 22:01". Changes nothing. */
void summary_format(const struct claims *claims, char out[SUMMARY_TEXT]);
