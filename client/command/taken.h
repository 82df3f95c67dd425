/* SPDX-License-Identifier: MIT */
/*
 * Functions of a lease that no VFIO driver has any more, as sysfs shows them: root, or a program of
 * the host, has taken them from its holder, or is doing so.
 */
#pragma once

#include <json.h>
#include <stdint.h>

#include "client/gpubroker.h"

/*
 * Calls print with a sentence for each such function. For a lease in another state than LEASED,
 * whose functions are on their way, there is none.
 */
void taken_print(enum gpubroker_lease_state state, char (*devices)[20], size_t n,
		 void (*print)(const char *text));
/* Returns them as an array of objects, with `device` and `driver`, a string or null. */
struct json_object *taken_json(const struct gpubroker_lease *lease);
