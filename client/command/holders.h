/* SPDX-License-Identifier: MIT */
/*
 * Processes that have a VFIO group, or nodes of host drivers, open, as /proc shows it to the
 * caller, and who else may open the group.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/host/function.h"

/*
 * Calls print with "held by pid 4711 (qemu-system-x86) of alice" for each that has the group, or
 * else nodes of its host drivers, but only for the first few. Root sees all processes, others their
 * own.
 */
void holders_print(uint32_t group, void (*print)(const char *text));

/* Returns true if a process that the caller may look at has the group or a device of it open. */
bool holders_have(uint32_t group);

/* A node that others than root may open. */
struct holders_node {
	char path[48];
	uid_t owner;
	mode_t mode;
};

/* Finds the first such node of a group or its devices. Returns false if there is none. */
bool holders_node_find(uint32_t group, struct holders_node *ret_node);

/*
 * Writes a sentence into out if others than root may open the node of a group, or one of its
 * devices: then they need no lease. Returns false, and writes nothing, if only root may.
 */
bool holders_node_text(uint32_t group, char *out, size_t size);

/*
 * Writes "Xorg (pid 812 of root) has /dev/dri/card0 open" into out for the first process that has a
 * node of a function's host driver open. Returns false, and writes nothing, if none has.
 */
bool holders_open_text(const struct group_view *view, char *out, size_t size);
/* The same without the process and its user: "Xorg has /dev/dri/card0 open". */
bool holders_open_program(const struct group_view *view, char *out, size_t size);

/*
 * Calls found() with "python3 (pid 99 of alice) has /dev/dri/renderD128 open" for the first few
 * processes that have a render node of the functions open.
 */
void holders_of_render(const struct group_view *view,
		       void (*found)(void *userdata, const char *text), void *userdata);
