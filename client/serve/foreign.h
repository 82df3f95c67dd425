/* SPDX-License-Identifier: MIT */
/* Listings in the shapes that other systems' APIs have, made of our own. No I/O. */
#pragma once

#include <json.h>
#include <stdbool.h>

/* Returns true for a display or a processing accelerator. */
bool foreign_is_gpu(struct json_object *device);
/* Horcrux' object of a device. */
struct json_object *foreign_device(struct json_object *device);
/* Horcrux' status of the IOMMU, of all functions. */
struct json_object *foreign_iommu(struct json_object *devices);
/* hypeman's lists: what is free, and how many there are. */
struct json_object *foreign_available(struct json_object *devices);
struct json_object *foreign_resources(struct json_object *devices, struct json_object *profiles);
