/* SPDX-License-Identifier: MIT */
/*
 * The PCI functions of a host, for `policy check` and `policy explain`: of this one, from sysfs, or
 * of another, from what its `gpubroker list --all --json` wrote.
 */
#pragma once

#include <json.h>
#include <stddef.h>

#include "client/host/function.h"

struct inventory {
	struct function *functions; /* by address */
	size_t n;
};

/* 0, or -errno. */
int inventory_read_local(struct inventory *ret_inventory);

/*
 * Reads a JSON file, such a list or a snapshot of `gpubroker doctor`; "-" is standard input. 0;
 * -errno of the file; or -EBADMSG, with a static sentence in *ret_why that says what is missing or
 * wrong.
 */
int inventory_read_json(const char *path, struct inventory *ret_inventory, const char **ret_why);

/* The two halves of that: the file, which json_object_put() frees; and the devices in it. */
int inventory_parse(const char *path, struct json_object **ret_root, const char **ret_why);
int inventory_take(struct json_object *root, struct inventory *ret_inventory, const char **ret_why);

void inventory_done(struct inventory *inventory);

/* The function at an address, or NULL. */
const struct function *inventory_find(const struct inventory *inventory,
				      const struct pci_address *address);

/*
 * The view of a function's group, as sysfs_group_read() would make it: without bridges, also if the
 * function is one, and empty if it has too many functions. A function without a group is alone.
 */
void inventory_group(const struct inventory *inventory, const struct function *function,
		     struct group_view *ret_view);
