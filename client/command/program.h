/* SPDX-License-Identifier: MIT */
/* The program that a process runs, as /proc shows it to everybody. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PROGRAM_TEXT 96

/*
 * Writes `qemu-system-x86 "ml-train"` (a QEMU's -name) or "train.sh". False: the process has ended,
 * or its number is another user's or a later process's by now. `since` is a time at which it ran.
 */
bool program_text(uint32_t pid, uint32_t uid, uint64_t since, char out[PROGRAM_TEXT]);
