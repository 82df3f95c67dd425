/* SPDX-License-Identifier: MIT */
/* Which processes have a VFIO group open, as /proc shows it to the caller, and who else may. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Calls print with "held by pid 4711 (qemu-system-x86) of alice" for each of them, but only for the
 * first few. Root sees all processes, others their own.
 */
void holders_print(uint32_t group, void (*print)(const char *text));

/*
 * Writes a sentence into out if others than root may open the node of a group, or one of its
 * devices: then they need no lease. Returns false, and writes nothing, if only root may.
 */
bool holders_node_text(uint32_t group, char *out, size_t size);
