/* SPDX-License-Identifier: MIT */
/*
 * Other systems' shapes of our listings, see foreign.h. It adds nothing that our own do not have.
 */
#include "config.h"

#include "client/serve/foreign.h"
#include "client/common/util.h"

#include <string.h>

/* The text of a key; "" where it is null or missing. */
static const char *string_of(struct json_object *o, const char *key)
{
	struct json_object *value = NULL;

	return json_object_object_get_ex(o, key, &value) && value ? json_object_get_string(value)
								  : "";
}

static void copy_as(struct json_object *to, const char *as, struct json_object *from,
		    const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(from, key, &value);
	json_object_object_add(to, as, json_object_get(value));
}

bool foreign_is_gpu(struct json_object *device)
{
	const char *class_code = string_of(device, "class");

	return !strncmp(class_code, "03", 2) || !strncmp(class_code, "12", 2);
}

static bool is_lendable(struct json_object *device)
{
	const char *status = string_of(device, "status");

	return !strcmp(status, "available") || !strcmp(status, "vfio-ready");
}

struct json_object *foreign_device(struct json_object *device)
{
	struct json_object *o = json_object_new_object();

	copy_as(o, "pci_address", device, "address");
	copy_as(o, "vendor_id", device, "vendor");
	copy_as(o, "device_id", device, "device");
	copy_as(o, "vendor_name", device, "vendor_name");
	copy_as(o, "device_name", device, "model");
	copy_as(o, "driver", device, "driver");
	copy_as(o, "iommu_group", device, "iommu_group");
	json_object_object_add(o, "in_use", json_object_new_boolean(!is_lendable(device)));
	json_object_object_add(
		o, "bound_to_vfio",
		json_object_new_boolean(strstr(string_of(device, "driver"), "vfio") != NULL));
	copy_as(o, "status", device, "status");
	copy_as(o, "allowed", device, "allowed");
	copy_as(o, "holder", device, "holder");
	return o;
}

struct json_object *foreign_iommu(struct json_object *devices)
{
	struct json_object *o = json_object_new_object();
	const size_t n = json_object_array_length(devices);
	bool has_group = false;

	for (size_t i = 0; i < n; i++)
		has_group = has_group ||
			    *string_of(json_object_array_get_idx(devices, i), "iommu_group");
	json_object_object_add(o, "enabled", json_object_new_boolean(has_group));
	json_object_object_add(o, "message",
			       json_object_new_string(has_group ? "the IOMMU is on"
								: "no function has an IOMMU group; "
								  "GET /v1/doctor says why"));
	return o;
}

struct json_object *foreign_available(struct json_object *devices)
{
	struct json_object *array = json_object_new_array();
	const size_t n = json_object_array_length(devices);

	for (size_t i = 0; i < n; i++) {
		struct json_object *device = json_object_array_get_idx(devices, i);

		if (foreign_is_gpu(device) && is_lendable(device))
			json_object_array_add(array, foreign_device(device));
	}
	return array;
}

struct json_object *foreign_resources(struct json_object *devices, struct json_object *profiles)
{
	struct json_object *o = json_object_new_object(), *gpus = json_object_new_object();
	const size_t n = json_object_array_length(devices);
	int all = 0, left = 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *device = json_object_array_get_idx(devices, i);

		all += foreign_is_gpu(device);
		left += foreign_is_gpu(device) && is_lendable(device);
	}
	json_object_object_add(gpus, "total", json_object_new_int(all));
	json_object_object_add(gpus, "available", json_object_new_int(left));
	json_object_object_add(o, "gpu", gpus);
	json_object_object_add(o, "profiles", json_object_get(profiles));
	return o;
}
