/* SPDX-License-Identifier: MIT */
/* Which processes have a VFIO group open, as /proc shows it to the caller. */
#pragma once

#include <stdint.h>

/*
 * Calls print with "held by pid 4711 (qemu-system-x86) of alice" for each of them, but only for the
 * first few. Root sees all processes, others their own.
 */
void holders_print(uint32_t group, void (*print)(const char *text));
