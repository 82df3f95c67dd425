/* SPDX-License-Identifier: MIT */
/*
 * The table of endpoints, see routes.h, and what each makes of a request and of results. No I/O. It
 * must never hand on a text of a request that spawn_order_valid() has not seen.
 *
 * openapi.json describes the same; tests/serve.t compares the two.
 */
#include "config.h"

#include "client/serve/routes.h"
#include "client/serve/foreign.h"
#include "client/common/address.h"
#include "client/common/util.h"

#include <string.h>

/* ---- results ---- */

/* The result as JSON, of which every command prints one value; NULL after a failure, answered. */
static struct json_object *json_of(struct exchange *x, size_t i)
{
	const struct spawn_result *result = &x->results[i];
	/* doctor exits with 1 if a check failed, and has printed all of them. */
	const bool is_good = !result->status ||
			     (x->wants[i].verb == SPAWN_DOCTOR && result->status == 1);
	struct json_object *value = is_good ? json_tokener_parse(result->out) : NULL;

	if (!value && !x->response)
		reply_failure(x, result);
	return value;
}

static void give_result(struct exchange *x)
{
	struct json_object *value = json_of(x, 0);

	if (value)
		reply_json(x, 200, value);
}

static void give_started(struct exchange *x)
{
	struct json_object *value = json_of(x, 0);

	if (value)
		reply_json(x, 202, value);
}

static void give_nothing(struct exchange *x)
{
	struct json_object *value = json_of(x, 0);

	if (value)
		reply_text(x, 204, "application/json", NULL);
	json_object_put(value);
}

/* The address of the path as listings have it. */
static bool is_addressed(const struct exchange *x, struct json_object *device)
{
	struct json_object *value = NULL;
	struct pci_address a, b;

	return json_object_object_get_ex(device, "address", &value) &&
	       !pci_address_parse(x->argument, &a) &&
	       !pci_address_parse(json_object_get_string(value), &b) &&
	       !pci_address_compare(&a, &b);
}

static void give_gpus(struct exchange *x)
{
	struct json_object *value = json_of(x, 0), *array;

	if (!value)
		return;
	array = json_object_new_array();
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		struct json_object *device = json_object_array_get_idx(value, i);

		if (foreign_is_gpu(device))
			json_object_array_add(array, foreign_device(device));
	}
	json_object_put(value);
	reply_json(x, 200, array);
}

static struct json_object *find_meant(const struct exchange *x, struct json_object *devices)
{
	for (size_t i = 0; devices && i < json_object_array_length(devices); i++)
		if (is_addressed(x, json_object_array_get_idx(devices, i)))
			return json_object_array_get_idx(devices, i);
	return NULL;
}

static void give_one(struct exchange *x, struct json_object *(*shape)(struct json_object *))
{
	struct json_object *value = json_of(x, 0), *device = find_meant(x, value);

	if (device)
		reply_json(x, 200, shape ? shape(device) : json_object_get(device));
	else if (value)
		reply_problem(x, 404, "there is no such PCI function on this host");
	json_object_put(value);
}

static void give_device(struct exchange *x)
{
	give_one(x, NULL);
}

static void give_gpu(struct exchange *x)
{
	give_one(x, foreign_device);
}

/* The functions of the device's group. */
static void give_group(struct exchange *x)
{
	struct json_object *value = json_of(x, 0), *device = find_meant(x, value);
	struct json_object *group = NULL, *other, *o, *array;

	if (!device) {
		if (value)
			reply_problem(x, 404, "there is no such PCI function on this host");
		json_object_put(value);
		return;
	}
	json_object_object_get_ex(device, "iommu_group", &group);
	array = json_object_new_array();
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		device = json_object_array_get_idx(value, i);
		if (group && json_object_object_get_ex(device, "iommu_group", &other) && other &&
		    json_object_get_int64(other) == json_object_get_int64(group))
			json_object_array_add(array, foreign_device(device));
	}
	o = json_object_new_object();
	json_object_object_add(o, "iommu_group", json_object_get(group));
	json_object_object_add(o, "devices", array);
	json_object_put(value);
	reply_json(x, 200, o);
}

static void give_iommu(struct exchange *x)
{
	struct json_object *value = json_of(x, 0);

	if (value)
		reply_json(x, 200, foreign_iommu(value));
	json_object_put(value);
}

static void give_available(struct exchange *x)
{
	struct json_object *value = json_of(x, 0);

	if (value)
		reply_json(x, 200, foreign_available(value));
	json_object_put(value);
}

static void give_resources(struct exchange *x)
{
	struct json_object *devices = json_of(x, 0), *profiles = devices ? json_of(x, 1) : NULL;

	if (profiles)
		reply_json(x, 200, foreign_resources(devices, profiles));
	json_object_put(devices);
	json_object_put(profiles);
}

/* One object of an array, by the key that the path names. */
static void give_entry(struct exchange *x, const char *key, const char *none)
{
	struct json_object *value = json_of(x, 0), *found = NULL, *entry;

	for (size_t i = 0; value && !found && i < json_object_array_length(value); i++) {
		struct json_object *o = json_object_array_get_idx(value, i);

		if (json_object_object_get_ex(o, key, &entry) &&
		    !strcmp(json_object_get_string(entry), x->argument))
			found = o;
	}
	if (found)
		reply_json(x, 200, json_object_get(found));
	else if (value)
		reply_problem(x, 404, none);
	json_object_put(value);
}

static void give_lease(struct exchange *x)
{
	give_entry(x, "id", "there is no such lease; GET /v1/leases has those there are");
}

static void give_claim(struct exchange *x)
{
	give_entry(x, "name", "there is no such claim; GET /v1/claims has those there are");
}

static void give_openapi(struct exchange *x)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "description",
			       json_object_new_string(GPUBROKER_DATA_DIR "/openapi.json"));
	json_object_object_add(o, "version", json_object_new_string(PACKAGE_VERSION));
	reply_json(x, 200, o);
}

/* ---- bodies ---- */

/* Copies a text of the body. Returns false if it is no text, or too long. */
static bool take_string(struct json_object *body, const char *key, char *out, size_t size)
{
	struct json_object *value = NULL;

	if (!json_object_object_get_ex(body, key, &value) || !value)
		return true;
	if (!json_object_is_type(value, json_type_string) ||
	    (size_t)json_object_get_string_len(value) >= size ||
	    strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
		return false;
	strcpy(out, json_object_get_string(value));
	return true;
}

static bool is_known(const char *key, const char *const *keys)
{
	while (*keys && strcmp(*keys, key) != 0)
		keys++;
	return *keys != NULL;
}

static bool has_known_keys(struct json_object *body, const char *const *keys)
{
	bool known = true;

	json_object_object_foreach(body, key, value) {
		(void)value;
		known = known && is_known(key, keys);
	}
	return known;
}

/*
 * Parses the body, an object with these keys alone. NULL: it is not, and that is answered.
 */
static struct json_object *take_body(struct exchange *x, const char *const *keys)
{
	struct json_tokener *tokener = json_tokener_new_ex(4);
	struct json_object *body = NULL;
	bool good;

	if (!x->request->has_json) {
		json_tokener_free(tokener);
		reply_problem(x, 415, "a body is an object, with Content-Type: application/json");
		return NULL;
	}
	if (tokener) {
		json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
		body = json_tokener_parse_ex(tokener, x->body, (int)x->request->body + 1);
	}
	good = body && json_object_is_type(body, json_type_object) &&
	       strlen(x->body) == x->request->body;
	json_tokener_free(tokener);
	if (good && has_known_keys(body, keys))
		return body;
	json_object_put(body);
	reply_problem(x, 422, "the body is no JSON object, or has a key that is not known");
	return NULL;
}

/* Wants the order, if its texts have the form of what they are. */
static void want(struct exchange *x, struct spawn_order *order)
{
	if (spawn_order_valid(order))
		x->wants[x->n_wants++] = *order;
	else
		reply_problem(x, 422,
			      "a name, device, profile or time has not the form of one: see "
			      "gpubroker-serve(1)");
}

static void begin_machine(struct exchange *x)
{
	static const char *const keys[] = { "machine", "device", "profile", "wait", "qemu", NULL };
	struct spawn_order order = { .verb = SPAWN_START, .device = "any" };
	struct json_object *body = take_body(x, keys), *qemu = NULL;

	if (!body)
		return;
	if (json_object_object_get_ex(body, "qemu", &qemu))
		order.qemu = json_object_get_boolean(qemu) ? 1 : 0;
	if (take_string(body, "machine", order.name, sizeof(order.name)) &&
	    take_string(body, "device", order.device, sizeof(order.device)) &&
	    take_string(body, "profile", order.profile, sizeof(order.profile)) &&
	    take_string(body, "wait", order.wait, sizeof(order.wait)))
		want(x, &order);
	else
		reply_problem(x, 422, "a value of the body is no text, or too long");
	json_object_put(body);
}

static void begin_attach(struct exchange *x)
{
	static const char *const keys[] = { "device", "profile", NULL };
	struct spawn_order order = { .verb = SPAWN_ATTACH, .device = "any" };
	struct json_object *body = take_body(x, keys);

	if (!body)
		return;
	snprintf(order.name, sizeof(order.name), "%.39s", x->argument);
	if (take_string(body, "device", order.device, sizeof(order.device)) &&
	    take_string(body, "profile", order.profile, sizeof(order.profile)))
		want(x, &order);
	else
		reply_problem(x, 422, "a value of the body is no text, or too long");
	json_object_put(body);
}

/* ---- the table ---- */

struct route {
	const char *method, *path; /* '*' in place of a segment is the argument */
	enum spawn_verb verb;
	/* Where the argument goes: to `device`, to `name`, or only to finish(). */
	enum { TO_NONE, TO_DEVICE, TO_NAME } argument;
	void (*finish)(struct exchange *x);
	void (*begin)(struct exchange *x); /* with a body; else NULL */
	enum spawn_verb second;
	bool streams;
};

static const struct route routes[] = {
	{ "GET", "/v1/devices", SPAWN_LIST, TO_NONE, give_result, NULL, 0, false },
	{ "GET", "/v1/devices/*", SPAWN_LIST, TO_NONE, give_device, NULL, 0, false },
	{ "POST", "/v1/devices/*/prepare", SPAWN_PREPARE, TO_DEVICE, give_result, NULL, 0, false },
	{ "POST", "/v1/devices/*/restore", SPAWN_RESTORE, TO_DEVICE, give_result, NULL, 0, false },
	{ "GET", "/v1/leases", SPAWN_LEASES, TO_NONE, give_result, NULL, 0, false },
	{ "GET", "/v1/leases/*", SPAWN_LEASES, TO_NONE, give_lease, NULL, 0, false },
	{ "DELETE", "/v1/leases/*", SPAWN_RELEASE, TO_DEVICE, give_result, NULL, 0, false },
	{ "GET", "/v1/queue", SPAWN_QUEUE, TO_NONE, give_result, NULL, 0, false },
	{ "DELETE", "/v1/queue/*", SPAWN_RELEASE, TO_DEVICE, give_result, NULL, 0, false },
	{ "GET", "/v1/profiles", SPAWN_PROFILES, TO_NONE, give_result, NULL, 0, false },
	{ "GET", "/v1/usage", SPAWN_USAGE, TO_NONE, give_result, NULL, 0, false },
	{ "GET", "/v1/doctor", SPAWN_DOCTOR, TO_NONE, give_result, NULL, 0, false },
	{ "GET", "/v1/events", SPAWN_WATCH, TO_NONE, NULL, NULL, 0, true },
	{ "GET", "/v1/claims", SPAWN_CLAIMS, TO_NONE, give_result, NULL, 0, false },
	{ "POST", "/v1/claims", SPAWN_START, TO_NONE, give_started, begin_machine, 0, false },
	{ "GET", "/v1/claims/*", SPAWN_CLAIMS, TO_NONE, give_claim, NULL, 0, false },
	{ "DELETE", "/v1/claims/*", SPAWN_STOP, TO_NAME, give_nothing, NULL, 0, false },
	{ "GET", "/v1/claims/*/events", SPAWN_STEPS, TO_NAME, NULL, NULL, 0, true },
	{ "GET", "/v1/openapi", 0, TO_NONE, NULL, give_openapi, 0, false },
	/* Horcrux */
	{ "GET", "/api/gpu/devices", SPAWN_LIST, TO_NONE, give_gpus, NULL, 0, false },
	{ "POST", "/api/gpu/devices/scan", SPAWN_LIST, TO_NONE, give_gpus, NULL, 0, false },
	{ "GET", "/api/gpu/devices/*", SPAWN_LIST, TO_NONE, give_gpu, NULL, 0, false },
	{ "POST", "/api/gpu/devices/*/bind-vfio", SPAWN_PREPARE, TO_DEVICE, give_result, NULL, 0,
	  false },
	{ "POST", "/api/gpu/devices/*/unbind-vfio", SPAWN_RESTORE, TO_DEVICE, give_result, NULL, 0,
	  false },
	{ "GET", "/api/gpu/devices/*/iommu-group", SPAWN_LIST, TO_NONE, give_group, NULL, 0,
	  false },
	{ "GET", "/api/gpu/iommu-status", SPAWN_LIST, TO_NONE, give_iommu, NULL, 0, false },
	{ "GET", "/api/vgpu/devices", SPAWN_PROFILES, TO_NONE, give_result, NULL, 0, false },
	{ "GET", "/api/vgpu/profiles", SPAWN_PROFILES, TO_NONE, give_result, NULL, 0, false },
	{ "POST", "/api/vms/*/vgpu", SPAWN_ATTACH, TO_NAME, give_result, begin_attach, 0, false },
	{ "DELETE", "/api/vms/*/vgpu", SPAWN_DETACH, TO_NAME, give_result, NULL, 0, false },
	/* hypeman */
	{ "GET", "/devices", SPAWN_LIST, TO_NONE, give_gpus, NULL, 0, false },
	{ "GET", "/devices/available", SPAWN_LIST, TO_NONE, give_available, NULL, 0, false },
	{ "GET", "/resources", SPAWN_LIST, TO_NONE, give_resources, NULL, SPAWN_PROFILES, false },
};

/* Returns true if the path has the form, with the argument. */
static bool path_matches(const char *form, const char *path, char argument[64])
{
	argument[0] = '\0';
	while (*form && *path) {
		if (*form == '*') {
			const size_t n = strcspn(path, "/");

			if (n >= 64)
				return false;
			snprintf(argument, 64, "%.*s", (int)n, path);
			path += n;
			form++;
		} else if (*form++ != *path++) {
			return false;
		}
	}
	return !*form && !*path;
}

static void take_route(struct exchange *x, const struct route *route)
{
	struct spawn_order order = { .verb = route->verb };

	if (route->argument == TO_DEVICE)
		snprintf(order.device, sizeof(order.device), "%.47s", x->argument);
	if (route->argument == TO_NAME)
		snprintf(order.name, sizeof(order.name), "%.39s", x->argument);
	if (route->verb == SPAWN_DETACH)
		strcpy(order.device, "any");
	x->finish = route->finish;
	x->streams = route->streams;
	if (route->argument == TO_NAME && strlen(x->argument) >= sizeof(order.name)) {
		reply_problem(x, 404, "there is nothing of that name");
	} else if (route->begin) {
		route->begin(x);
	} else if (x->request->body) {
		reply_problem(x, 400, "this request has no body");
	} else if (strlen(x->argument) >= sizeof(order.device) || !spawn_order_valid(&order)) {
		reply_problem(x, 404, "there is nothing of that name");
	} else if (route->streams) {
		x->stream = order;
	} else {
		want(x, &order);
		order = (struct spawn_order){ .verb = route->second };
		if (route->second)
			want(x, &order);
	}
}

void routes_begin(struct exchange *x)
{
	const struct route *other = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (!path_matches(routes[i].path, x->request->path, x->argument))
			continue;
		if (!strcmp(routes[i].method, x->request->method)) {
			take_route(x, &routes[i]);
			return;
		}
		other = &routes[i];
	}
	if (other)
		reply_problem(x, 405, "this path has no such method; see gpubroker-serve(1)");
	else
		reply_problem(x, 404, "there is no such path; see gpubroker-serve(1)");
}
