/* SPDX-License-Identifier: MIT */
/*
 * Reads QEMU's arguments, see qemu-given.h. It owns the list of functions. It must never take for
 * free what may be in use, and never fail for an argument that it does not understand: QEMU will.
 */
#include "config.h"

#include "client/run/qemu-given.h"
#include "client/common/util.h"

#include <ctype.h>
#include <errno.h>
#include <json.h>
#include <string.h>

bool qemu_is_option(const char *argument, const char *name)
{
	if (argument[0] != '-')
		return false;
	return !strcmp(argument + 1 + (argument[1] == '-'), name);
}

/* ---- properties ---- */

/* A key and its value in "DRIVER,key=value,flag"; a comma within a value is doubled. */
struct property {
	const char *key; /* not terminated; NULL: the first word, which has none */
	size_t key_len;
	char *value; /* to be freed */
};

/* Moves *text past the next property. False at the end, and where there is no memory. */
static bool next_property(const char **text, bool is_first, struct property *ret_property)
{
	const char *t = *text;
	size_t n = strcspn(t, "=,"), used = 0;

	if (!*t)
		return false;
	*ret_property = (struct property){ .key = t, .key_len = n };
	if (t[n] == '=')
		t += n + 1;
	else if (is_first)
		ret_property->key = NULL;
	else
		t += n; /* a flag, as in "-machine q35,usb" */
	ret_property->value = malloc(strlen(t) + 1);
	if (!ret_property->value)
		return false;
	for (; *t && (*t != ',' || t[1] == ','); t++) {
		t += *t == ',';
		ret_property->value[used++] = *t;
	}
	ret_property->value[used] = '\0';
	*text = t + (*t == ',');
	return true;
}

static bool has_key(const struct property *property, const char *implied, const char *key)
{
	if (!property->key)
		return !strcmp(implied, key);
	return property->key_len == strlen(key) && !memcmp(property->key, key, property->key_len);
}

/*
 * Finds a key's value in "DRIVER,key=value,key=value" or the same in JSON; `implied` is the key of
 * a first word without one. As with QEMU, the last one counts. The caller frees it; NULL: it is not
 * there.
 */
static char *find_property(const char *text, const char *implied, const char *key)
{
	struct property property;
	char *found = NULL;

	if (*text == '{') {
		struct json_object *object = json_tokener_parse(text), *value;

		if (json_object_object_get_ex(object, key, &value) && value)
			found = strdup(json_object_get_string(value));
		json_object_put(object);
		return found;
	}
	for (bool is_first = true; next_property(&text, is_first, &property); is_first = false) {
		if (has_key(&property, implied, key)) {
			free(found);
			found = TAKE_PTR(property.value);
		}
		free(property.value);
	}
	return found;
}

char *qemu_device_json(const char *device)
{
	static const char *const numbers[] = { "chassis", "slot" };
	static const char *const flags[] = { "multifunction", "x-vga" };
	struct json_object *object = json_object_new_object();
	struct property property;
	char *text;

	for (bool is_first = true; next_property(&device, is_first, &property); is_first = false) {
		cleanup_free char *key = property.key ? strndup(property.key, property.key_len)
						      : strdup("driver");
		struct json_object *value = NULL;

		for (size_t i = 0; !value && i < ARRAY_SIZE(numbers); i++)
			if (has_key(&property, "driver", numbers[i]))
				value = json_object_new_int(atoi(property.value));
		for (size_t i = 0; !value && i < ARRAY_SIZE(flags); i++)
			if (has_key(&property, "driver", flags[i]))
				value = json_object_new_boolean(!strcmp(property.value, "on"));
		if (!value)
			value = json_object_new_string(property.value);
		if (key)
			json_object_object_add(object, key, value);
		free(property.value);
	}
	text = strdup(json_object_to_json_string_ext(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
	return text;
}

/* ---- what a -device uses ---- */

/*
 * Parses an address as QEMU does: one digit is enough for each number, and the domain may be
 * missing.
 */
static bool parse_host(const char *text, struct pci_address *ret_address)
{
	unsigned long parts[4];
	size_t n = 0;
	char *end;

	for (; n < ARRAY_SIZE(parts); n++, text = end + 1) {
		if (!isxdigit((unsigned char)*text))
			return false;
		parts[n] = strtoul(text, &end, 16);
		if (*end != ':' && *end != '.')
			break;
	}
	if (n < 2 || n == ARRAY_SIZE(parts) || *end)
		return false;
	/* QEMU refuses larger numbers, which cut down would be another function's. */
	if ((n == 3 && parts[0] > UINT32_MAX) || parts[n - 2] > 0xff || parts[n - 1] > 0x1f ||
	    parts[n] > 7)
		return false;
	*ret_address = (struct pci_address){
		.domain = n == 3 ? (uint32_t)parts[0] : 0,
		.bus = (uint8_t)parts[n - 2],
		.device = (uint8_t)parts[n - 1],
		.function = (uint8_t)parts[n],
	};
	return true;
}

/* The function of the host that a -device gives to the VM. */
static bool host_of(const char *device, struct pci_address *ret_address)
{
	cleanup_free char *driver = find_property(device, "driver", "driver");
	cleanup_free char *host = find_property(device, "driver", "host");
	cleanup_free char *path = find_property(device, "driver", "sysfsdev");
	const char *name;

	if (!driver ||
	    (strcmp(driver, "vfio-pci") != 0 && strcmp(driver, "vfio-pci-nohotplug") != 0))
		return false;
	if (!path)
		return host && parse_host(host, ret_address);
	for (size_t n = strlen(path); n && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
	name = strrchr(path, '/');
	return parse_host(name ? name + 1 : path, ret_address);
}

static void note_chassis(const char *device, struct qemu_given *given)
{
	cleanup_free char *text = find_property(device, "driver", "chassis");
	unsigned long value;
	char *end;

	if (!text)
		return;
	value = strtoul(text, &end, 0);
	if (end != text && value <= QEMU_CHASSIS_MAX)
		given->chassis[value] = true;
}

/* Returns true if JSON has a number there, which QEMU takes as slot and function in one. */
static bool is_json_number(const char *device, const char *key)
{
	struct json_object *object, *value;
	bool is_number;

	if (*device != '{')
		return false;
	object = json_tokener_parse(device);
	is_number = json_object_object_get_ex(object, key, &value) &&
		    json_object_is_type(value, json_type_int);
	json_object_put(object);
	return is_number;
}

/* Marks the slot of a device of the root bus. Slots of other buses do not matter. */
static void note_slot(const char *device, struct qemu_given *given)
{
	cleanup_free char *text = find_property(device, "driver", "addr");
	cleanup_free char *bus = find_property(device, "driver", "bus");
	unsigned long value;
	char *end;

	if (!text || (bus && strcmp(bus, "pci.0") != 0 && strcmp(bus, "pcie.0") != 0 &&
		      strcmp(bus, "pci") != 0 && strcmp(bus, "pcie") != 0))
		return;
	if (is_json_number(device, "addr"))
		value = strtoul(text, &end, 10) >> 3;
	else
		value = strtoul(text, &end, 16);
	if (end != text && value < ARRAY_SIZE(given->slots))
		given->slots[value] = true;
}

static int note_device(const char *device, struct qemu_given *given)
{
	struct pci_address address, *hosts;

	given->json |= *device == '{';
	note_chassis(device, given);
	note_slot(device, given);
	if (!host_of(device, &address))
		return 0;
	hosts = reallocarray(given->hosts, given->n_hosts + 1, sizeof(*hosts));
	if (!hosts)
		return -ENOMEM;
	given->hosts = hosts;
	hosts[given->n_hosts++] = address;
	return 0;
}

static void note_machine(const char *text, struct qemu_given *given)
{
	cleanup_free char *type = find_property(text, "type", "type");

	if (type)
		given->pcie = strstr(type, "q35") || !strcmp(type, "virt") ||
			      !strncmp(type, "virt-", 5);
}

/* ---- -readconfig ---- */

/* A section of a configuration file: its kind, and its lines as the properties of an option. */
struct section {
	char kind[32];
	char *text;
	size_t size;
	FILE *out;
};

static int end_section(struct section *section, struct qemu_given *given)
{
	int r = 0;

	if (!section->out)
		return 0;
	if (fclose(TAKE_PTR(section->out)))
		r = -ENOMEM;
	else if (!strcmp(section->kind, "device"))
		r = note_device(section->text, given);
	else if (!strcmp(section->kind, "machine"))
		note_machine(section->text, given);
	free(TAKE_PTR(section->text));
	return r;
}

/* "[device "id"]" or "[machine]" */
static int begin_section(struct section *section, const char *line)
{
	size_t n = strcspn(line, " \t]\"");

	snprintf(section->kind, sizeof(section->kind), "%.*s", (int)n, line);
	section->out = open_memstream(&section->text, &section->size);
	return section->out ? 0 : -ENOMEM;
}

/* "  key = "value"": added as ",key=value", with its commas doubled. */
static void add_line(struct section *section, const char *line)
{
	size_t n = strcspn(line, " \t=");
	const char *value = strchr(line, '"');

	if (!section->out || !n || !value)
		return;
	fprintf(section->out, ",%.*s=", (int)n, line);
	for (value++; *value && *value != '"' && *value != '\n'; value++) {
		if (*value == ',')
			fputc(',', section->out);
		fputc(*value, section->out);
	}
}

static int look_at_config(const char *text, struct qemu_given *given)
{
	struct section section = { 0 };
	int r = 0;

	while (!r && *text) {
		size_t n = strcspn(text, "\n");
		cleanup_free char *line = strndup(text, n);
		const char *first = line ? line + strspn(line, " \t") : NULL;

		text += n + (text[n] == '\n');
		if (!first)
			r = -ENOMEM;
		else if (*first == '[')
			(void)((r = end_section(&section, given)) ||
			       (r = begin_section(&section, first + 1)));
		else if (*first != '#')
			add_line(&section, first);
	}
	if (!r)
		return end_section(&section, given);
	end_section(&section, given);
	return r;
}

/* ---- the whole ---- */

int qemu_given_look(char *const *argv, const char *const *configs, size_t n_configs,
		    struct qemu_given *ret_given)
{
	int r = 0;

	*ret_given = (struct qemu_given){ 0 };
	for (size_t i = 0; !r && i < n_configs; i++)
		r = look_at_config(configs[i], ret_given);
	for (size_t i = 1; !r && argv[0] && argv[i]; i++) {
		const char *value = argv[i + 1];

		ret_given->vga |= qemu_is_option(argv[i], "vga");
		if (!value)
			break;
		if (qemu_is_option(argv[i], "M") || qemu_is_option(argv[i], "machine"))
			note_machine(value, ret_given);
		if (qemu_is_option(argv[i], "device"))
			r = note_device(argv[++i], ret_given);
	}
	return r;
}

void qemu_given_done(struct qemu_given *given)
{
	free(given->hosts);
	*given = (struct qemu_given){ 0 };
}
