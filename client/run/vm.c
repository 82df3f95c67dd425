/* SPDX-License-Identifier: MIT */
/*
 * Reads what a QEMU that runs has, see vm.h. It only asks, and changes nothing in it; it believes
 * nothing that is longer than it has room for. It must never send anything to another user's
 * process.
 *
 * Ports are found in QEMU's tree of objects, since query-pci shows what is behind one only after
 * the guest's firmware has numbered its bus.
 */
#include "config.h"

#include "client/run/vm.h"
#include "client/command/cli.h"
#include "client/common/util.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define PERIPHERAL "/machine/peripheral"
#define DEVICE_PREFIX "gpubroker-"
#define IOMMUFD_PREFIX "gpubroker-iommufd"

/* ---- the connection ---- */

/* Says why the socket could not be connected to. Returns the exit status. */
static int say_no_monitor(const char *path, int r, const char *end)
{
	switch (r) {
	case -ENOENT:
		cli_error("there is no socket %s; start QEMU with -qmp "
			  "unix:%s,server=on,wait=off; %s",
			  path, path, end);
		return EXIT_NO_DEVICE;
	case -ECONNREFUSED:
		cli_error("no QEMU listens at %s, or its monitor is not free: a QEMU serves one "
			  "client at a time; %s",
			  path, end);
		return EXIT_NO_BROKER;
	case -EAGAIN:
		cli_error("other clients wait for the monitor at %s already; a QEMU serves one at "
			  "a time; %s",
			  path, end);
		return EXIT_BUSY;
	case -EACCES:
	case -EPERM:
		cli_error("you may not open %s: %s; %s", path, strerror(-r), end);
		return EXIT_POLICY;
	case -EPROTOTYPE:
		cli_error("%s is no socket of QEMU's monitor (QMP); %s", path, end);
		return EXIT_PROTOCOL;
	default:
		cli_error("cannot connect to %s: %s; %s", path, strerror(-r), end);
		return EXIT_NO_BROKER;
	}
}

/* Says why the monitor could not be used. Returns the exit status. */
static int say_no_greeting(const struct qmp *qmp, const char *path, int r, const char *end)
{
	if (r == -ETIMEDOUT) {
		cli_error("the monitor at %s says nothing: another client has it, since a QEMU "
			  "serves one at a time, as libvirt its own; or QEMU is stopped. A second "
			  "monitor helps: -qmp unix:PATH,server=on,wait=off; %s",
			  path, end);
		return EXIT_BUSY;
	}
	if (r == -EPROTO) {
		cli_error("what answers at %s is no QMP monitor; it needs -qmp "
			  "unix:PATH,server=on,wait=off, not -monitor; %s",
			  path, end);
		return EXIT_PROTOCOL;
	}
	cli_error("the monitor at %s: %s; %s", path, qmp_error(qmp, r), end);
	return EXIT_PROTOCOL;
}

int vm_open(const char *path, const char *end, struct qmp **ret_qmp)
{
	struct qmp *qmp = NULL;
	int r = qmp_connect(path, &qmp), status;

	if (r)
		return say_no_monitor(path, r, end);
	if (qmp_uid(qmp) != geteuid()) {
		cli_error("the QEMU at %s runs as uid %" PRIu32 ", and a device that you claim is "
			  "for one of your own; %s",
			  path, (uint32_t)qmp_uid(qmp), end);
		/* Left open until this process ends: see inbox_connect(). */
		return EXIT_POLICY;
	}
	r = qmp_greet(qmp, QMP_SECONDS);
	if (!r) {
		*ret_qmp = qmp;
		return 0;
	}
	status = say_no_greeting(qmp, path, r, end);
	qmp_close(qmp);
	return status;
}

/* ---- QEMU's tree of objects ---- */

static struct json_object *argument(const char *name, const char *value)
{
	struct json_object *arguments = json_object_new_object();

	json_object_object_add(arguments, name, json_object_new_string(value));
	return arguments;
}

/* Asks for a list of objects; *ret_list is to be put, and may be of another type. */
static int ask_list(struct qmp *qmp, const char *command, const char *name, const char *value,
		    struct json_object **ret_list)
{
	int r = qmp_ask(qmp, command, argument(name, value), QMP_SECONDS, ret_list);

	if (!r && !json_object_is_type(*ret_list, json_type_array)) {
		json_object_put(*ret_list);
		return -EPROTO;
	}
	return r;
}

/* Returns true if an element of the list has that text, or begins with it, by that name. */
static bool list_has(struct json_object *list, const char *name, const char *text, size_t n)
{
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (!strncmp(qmp_text(json_object_array_get_idx(list, i), name), text, n))
			return true;
	return false;
}

static bool is_port(const char *type)
{
	static const char *const types[] = { "child<pcie-root-port>", "child<ioh3420>" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(type, types[i]))
			return true;
	return false;
}

/* Returns true if the id has the form of QEMU's, so that it can be a part of a path of objects. */
static bool is_id(const char *id)
{
	if (!isalpha((unsigned char)*id) || strlen(id) >= VM_ID)
		return false;
	for (; *id; id++)
		if (!isalnum((unsigned char)*id) && !strchr("-._", *id))
			return false;
	return true;
}

/* Adds the port if devices can be plugged into it and none is. */
static int add_port(struct qmp *qmp, const char *id, struct vm *vm)
{
	struct json_object *list, *value = NULL, *arguments;
	char path[sizeof(PERIPHERAL) + 2 * VM_ID + 2];
	bool full, fixed;
	int r;

	snprintf(path, sizeof(path), PERIPHERAL "/%s", id);
	arguments = argument("path", path);
	json_object_object_add(arguments, "property", json_object_new_string("hotplug"));
	r = qmp_ask(qmp, "qom-get", arguments, QMP_SECONDS, &value);
	if (r && r != QMP_REFUSED)
		return r;
	fixed = !r && json_object_is_type(value, json_type_boolean) &&
		!json_object_get_boolean(value);
	json_object_put(value);
	snprintf(path, sizeof(path), PERIPHERAL "/%s/%s", id, id);
	r = ask_list(qmp, "qom-list", "path", path, &list);
	if (r)
		return r == QMP_REFUSED ? 0 : r;
	full = list_has(list, "name", "child[", strlen("child["));
	json_object_put(list);
	if (full)
		vm->n_full++;
	else if (!fixed && vm->n_ports < VM_PORTS_MAX)
		snprintf(vm->ports[vm->n_ports++], VM_ID, "%s", id);
	return 0;
}

static int look_for_ports(struct qmp *qmp, struct vm *vm)
{
	struct json_object *list;
	int r = ask_list(qmp, "qom-list", "path", PERIPHERAL, &list);

	if (r)
		return r;
	for (size_t i = 0;
	     !r && i < json_object_array_length(list) && vm->n_ports + vm->n_full < VM_PORTS_MAX;
	     i++) {
		struct json_object *one = json_object_array_get_idx(list, i);

		if (is_port(qmp_text(one, "type")) && is_id(qmp_text(one, "name")))
			r = add_port(qmp, qmp_text(one, "name"), vm);
	}
	json_object_put(list);
	return r;
}

/* Finds the bus of a device: the last part of a path. It stays "" where that is not known. */
static int find_bus(struct qmp *qmp, struct vm_device *device)
{
	char path[sizeof(PERIPHERAL) + VM_ID + 1];
	struct json_object *value = NULL, *arguments;
	const char *text, *name;
	int r;

	snprintf(path, sizeof(path), PERIPHERAL "/%s", device->id);
	arguments = argument("path", path);
	json_object_object_add(arguments, "property", json_object_new_string("parent_bus"));
	r = qmp_ask(qmp, "qom-get", arguments, QMP_SECONDS, &value);
	if (r)
		return r == QMP_REFUSED ? 0 : r;
	text = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
	name = strrchr(text, '/');
	if (name && strlen(name + 1) < VM_ID)
		strcpy(device->bus, name + 1);
	json_object_put(value);
	return 0;
}

int vm_look_devices(struct qmp *qmp, struct vm *vm)
{
	struct json_object *list;
	int r = ask_list(qmp, "qom-list", "path", PERIPHERAL, &list);

	vm->n_devices = 0;
	if (r)
		return r;
	for (size_t i = 0;
	     !r && i < json_object_array_length(list) && vm->n_devices < VM_DEVICES_MAX; i++) {
		const char *id = qmp_text(json_object_array_get_idx(list, i), "name");
		struct vm_device *device = &vm->devices[vm->n_devices];

		if (!vm_device_parse(id, device))
			continue;
		r = find_bus(qmp, device);
		vm->n_devices++;
	}
	json_object_put(list);
	return r;
}

static int look_for_iommufd(struct qmp *qmp, struct vm *vm)
{
	struct json_object *list;
	int r = ask_list(qmp, "qom-list-types", "implements", "iommufd", &list);

	if (r)
		return r == QMP_REFUSED ? 0 : r;
	vm->has_iommufd = list_has(list, "name", "iommufd", sizeof("iommufd"));
	json_object_put(list);
	r = ask_list(qmp, "device-list-properties", "typename", "vfio-pci", &list);
	if (r)
		return r == QMP_REFUSED ? 0 : r;
	vm->has_iommufd = vm->has_iommufd && list_has(list, "name", "iommufd", sizeof("iommufd")) &&
			  list_has(list, "name", "fd", sizeof("fd"));
	json_object_put(list);
	r = ask_list(qmp, "qom-list", "path", "/objects", &list);
	if (r)
		return r;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *one = json_object_array_get_idx(list, i);
		const char *id = qmp_text(one, "name");

		if (!strcmp(qmp_text(one, "type"), "child<iommufd>") && is_id(id) &&
		    !strncmp(id, IOMMUFD_PREFIX, strlen(IOMMUFD_PREFIX)))
			snprintf(vm->iommufd, VM_ID, "%s", id);
	}
	json_object_put(list);
	return 0;
}

/* ---- the guest ---- */

static uint64_t count_of(struct json_object *value, const char *name)
{
	struct json_object *n = NULL;
	int64_t i;

	if (!json_object_is_type(value, json_type_object) ||
	    !json_object_object_get_ex(value, name, &n) || !json_object_is_type(n, json_type_int))
		return 0;
	i = json_object_get_int64(n);
	return i > 0 ? (uint64_t)i : 0;
}

static int look_at_guest(struct qmp *qmp, struct vm *vm)
{
	struct json_object *value = NULL, *runs = NULL;
	int r = qmp_ask(qmp, "query-memory-size-summary", NULL, QMP_SECONDS, &value);

	if (r && r != QMP_REFUSED)
		return r;
	vm->memory = count_of(value, "base-memory") + count_of(value, "plugged-memory");
	json_object_put(value);
	value = NULL;
	r = qmp_ask(qmp, "query-status", NULL, QMP_SECONDS, &value);
	if (r && r != QMP_REFUSED)
		return r;
	vm->runs = json_object_is_type(value, json_type_object) &&
		   json_object_object_get_ex(value, "running", &runs) &&
		   json_object_get_boolean(runs);
	json_object_put(value);
	return 0;
}

int vm_look(struct qmp *qmp, struct vm *ret_vm)
{
	int r;

	memset(ret_vm, 0, sizeof(*ret_vm));
	r = look_for_iommufd(qmp, ret_vm);
	if (!r)
		r = look_for_ports(qmp, ret_vm);
	if (!r)
		r = vm_look_devices(qmp, ret_vm);
	if (!r)
		r = look_at_guest(qmp, ret_vm);
	return r;
}

/* Returns true if a region of the device is mapped: QEMU writes -1 for one that is not. */
static bool has_mapped_region(struct json_object *device)
{
	struct json_object *regions = NULL;

	if (!json_object_object_get_ex(device, "regions", &regions) ||
	    !json_object_is_type(regions, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(regions); i++)
		if (count_of(json_object_array_get_idx(regions, i), "address"))
			return true;
	return false;
}

#define BUSES_DEEP 8 /* bridges behind bridges that are looked behind */

/* Looks for the device on a bus, and behind its bridges. */
static bool bus_uses(struct json_object *bus, const char *id, int depth)
{
	struct json_object *devices = NULL;

	if (!depth || !json_object_is_type(bus, json_type_object) ||
	    !json_object_object_get_ex(bus, "devices", &devices) ||
	    !json_object_is_type(devices, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		struct json_object *device = json_object_array_get_idx(devices, i), *bridge = NULL;

		if (!strcmp(qmp_text(device, "qdev_id"), id))
			return has_mapped_region(device);
		if (json_object_is_type(device, json_type_object) &&
		    json_object_object_get_ex(device, "pci_bridge", &bridge) &&
		    bus_uses(bridge, id, depth - 1))
			return true;
	}
	return false;
}

int vm_is_used(struct qmp *qmp, const char *id, bool *ret_used)
{
	struct json_object *buses = NULL;
	int r = qmp_ask(qmp, "query-pci", NULL, QMP_SECONDS, &buses);

	*ret_used = false;
	if (r)
		return r;
	for (size_t i = 0; json_object_is_type(buses, json_type_array) && !*ret_used &&
			   i < json_object_array_length(buses);
	     i++)
		*ret_used = bus_uses(json_object_array_get_idx(buses, i), id, BUSES_DEEP);
	json_object_put(buses);
	return 0;
}

/* ---- ids ---- */

static bool has_uuid_form(const char *text)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	for (size_t i = 0; i < sizeof(form); i++)
		if (form[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != form[i])
			return false;
	return true;
}

bool vm_device_make(uint64_t lease, const char *name, struct vm_device *ret_device)
{
	struct vm_device device = { .lease = lease, .is_mdev = has_uuid_form(name) };
	char text[PCI_ADDRESS_TEXT];

	if (!device.is_mdev && pci_address_parse(name, &device.address))
		return false;
	snprintf(device.name, sizeof(device.name), "%s",
		 device.is_mdev ? name : pci_address_format(&device.address, text));
	snprintf(device.id, sizeof(device.id), DEVICE_PREFIX "%" PRIu64 "-%s", lease, device.name);
	for (char *c = device.id; *c; c++)
		if (*c == ':') /* which QEMU does not allow */
			*c = '-';
	*ret_device = device;
	return true;
}

bool vm_device_parse(const char *id, struct vm_device *ret_device)
{
	struct vm_device device;
	char text[VM_ID], *at;
	uint64_t lease;

	if (strncmp(id, DEVICE_PREFIX, strlen(DEVICE_PREFIX)) || strlen(id) >= sizeof(text))
		return false;
	strcpy(text, id + strlen(DEVICE_PREFIX));
	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	lease = strtoull(text, &at, 10);
	if (errno || *at != '-' || !lease)
		return false;
	at++;
	for (char *c = at; !has_uuid_form(at) && *c; c++)
		if (*c == '-')
			*c = ':';
	/* One of another spelling is not ours, and would not be found by ours. */
	if (!vm_device_make(lease, at, &device) || strcmp(device.id, id))
		return false;
	*ret_device = device;
	return true;
}
