/* SPDX-License-Identifier: MIT */
/*
 * A host's functions, see inventory.h. Reads sysfs or JSON into an array and owns it. It must never
 * read beyond what a file contains, nor accept a number that does not fit.
 */
#include "config.h"

#include "client/command/inventory.h"
#include "client/host/pci.h"
#include "client/common/util.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json.h>
#include <string.h>

#define FILE_MAX (64 << 20)
/* A file may list so many: an answer about each takes a look at all. */
#define DEVICES_MAX 16384

static int compare_functions(const void *a, const void *b)
{
	return pci_address_compare(&((const struct function *)a)->address,
				   &((const struct function *)b)->address);
}

static int add_function(struct inventory *inventory, const struct function *function)
{
	struct function *functions =
		reallocarray(inventory->functions, inventory->n + 1, sizeof(*functions));

	if (!functions)
		return -ENOMEM;
	inventory->functions = functions;
	functions[inventory->n++] = *function;
	return 0;
}

static void sort_functions(struct inventory *inventory)
{
	if (inventory->n)
		qsort(inventory->functions, inventory->n, sizeof(*inventory->functions),
		      compare_functions);
}

void inventory_done(struct inventory *inventory)
{
	free(inventory->functions);
	*inventory = (struct inventory){ 0 };
}

int inventory_read_local(struct inventory *ret_inventory)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct inventory inventory = { 0 };
	DIR *dir = opendir("/sys/bus/pci/devices");
	struct dirent *entry;
	int r = 0;

	if (!dir || sys < 0) {
		r = -errno;
		if (dir)
			closedir(dir);
		return r;
	}
	while (!r && (entry = readdir(dir))) {
		struct pci_address address;
		struct function function;

		if (pci_address_parse(entry->d_name, &address))
			continue;
		r = sysfs_function_read(sys, &address, &function);
		if (r == -ENODEV)
			r = 0; /* unplugged just now */
		else if (!r)
			r = add_function(&inventory, &function);
	}
	closedir(dir);
	if (r) {
		inventory_done(&inventory);
		return r;
	}
	sort_functions(&inventory);
	*ret_inventory = inventory;
	return 0;
}

/* ---- JSON ---- */

/* The text of a member, "" for null; NULL if it is missing or no text. */
static const char *text_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value))
		return NULL;
	if (!value)
		return "";
	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

static bool hex_of(struct json_object *object, const char *key, uint32_t max, uint32_t *ret_value)
{
	const char *text = text_of(object, key);
	unsigned long value;
	char *end;

	if (!text || !*text || strspn(text, "0123456789abcdefABCDEF") != strlen(text))
		return false;
	errno = 0;
	value = strtoul(text, &end, 16);
	if (errno || value > max)
		return false;
	*ret_value = (uint32_t)value;
	return true;
}

static bool copy_text(char *out, size_t size, const char *text)
{
	if (!text || strlen(text) >= size)
		return false;
	strcpy(out, text);
	return true;
}

static bool flag_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) && json_object_get_boolean(value);
}

static const char *take_object(struct json_object *object, struct function *f)
{
	uint32_t vendor, device, subsystem_vendor = 0, subsystem_device = 0;
	struct json_object *group;
	const char *address = text_of(object, "address"), *text;

	if (!address || pci_address_parse(address, &f->address))
		return "a device has no \"address\" that is a PCI address";
	if (!hex_of(object, "vendor", 0xffff, &vendor) ||
	    !hex_of(object, "device", 0xffff, &device))
		return "a device has no \"vendor\" and \"device\" in hex";
	if (!hex_of(object, "class", 0xffffff, &f->class_code))
		return "a device has no \"class\" in hex";
	hex_of(object, "subsystem_vendor", 0xffff, &subsystem_vendor);
	hex_of(object, "subsystem_device", 0xffff, &subsystem_device);
	f->vendor = (uint16_t)vendor;
	f->device = (uint16_t)device;
	f->subsystem_vendor = (uint16_t)subsystem_vendor;
	f->subsystem_device = (uint16_t)subsystem_device;
	if (!json_object_object_get_ex(object, "iommu_group", &group))
		return "a device has no \"iommu_group\"";
	f->iommu_group = NO_GROUP;
	if (group) {
		int64_t number = json_object_get_int64(group);

		if (!json_object_is_type(group, json_type_int) || number < 0 || number >= NO_GROUP)
			return "an \"iommu_group\" is no number";
		f->iommu_group = (uint32_t)number;
	}
	if (!copy_text(f->driver, sizeof(f->driver), text_of(object, "driver")))
		return "a device has no \"driver\", or one of more than 31 characters";
	text = text_of(object, "in_use");
	/* Cut if it is long: that it is used is what matters. */
	snprintf(f->in_use, sizeof(f->in_use), "%.*s", (int)sizeof(f->in_use) - 1,
		 text ? text : "");
	f->boot_vga = flag_of(object, "boot_vga");
	f->is_bridge = class_is_bridge(f->class_code) || !strcmp(f->driver, "pcieport") ||
		       flag_of(object, "bridge");
	text = text_of(object, "console");
	copy_text(f->console, sizeof(f->console), text ? text : "");
	text = text_of(object, "path");
	copy_text(f->path, sizeof(f->path), text ? text : "");
	text = text_of(object, "serial");
	if (!text || !*text || !copy_text(f->serial, sizeof(f->serial), text))
		f->serial_unknown = true;
	return NULL;
}

static int read_stream(FILE *file, char **ret_text, size_t *ret_len)
{
	cleanup_free char *text = NULL;
	size_t room = 0, len = 0;

	while (!feof(file)) {
		if (len == room) {
			char *more;

			room = room ? 2 * room : 65536;
			more = room > FILE_MAX ? NULL : realloc(text, room);
			if (!more)
				return room > FILE_MAX ? -EFBIG : -ENOMEM;
			text = more;
		}
		len += fread(text + len, 1, room - len, file);
		if (ferror(file))
			return errno ? -errno : -EIO;
	}
	*ret_text = TAKE_PTR(text);
	*ret_len = len;
	return 0;
}

static const char *take_array(struct json_object *array, struct inventory *inventory,
			      int *ret_error)
{
	if (!json_object_is_type(array, json_type_array))
		return "it is no JSON array of devices; 'gpubroker list --all --json' writes one";
	if (json_object_array_length(array) > DEVICES_MAX)
		return "it has more devices than any host";
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		struct json_object *object = json_object_array_get_idx(array, i);
		struct function function = { 0 };
		const char *why;

		if (!json_object_is_type(object, json_type_object))
			return "an element of the array is no object";
		why = take_object(object, &function);
		if (why)
			return why;
		*ret_error = add_function(inventory, &function);
		if (*ret_error)
			return "no memory";
	}
	return NULL;
}

/* Returns true if a sorted inventory has an address twice: an answer would be about one of them. */
static bool has_twins(const struct inventory *inventory)
{
	for (size_t i = 1; i < inventory->n; i++)
		if (!compare_functions(&inventory->functions[i - 1], &inventory->functions[i]))
			return true;
	return false;
}

int inventory_parse(const char *path, struct json_object **ret_root, const char **ret_why)
{
	bool standard = !strcmp(path, "-");
	cleanup_file FILE *opened = standard ? NULL : fopen(path, "re");
	cleanup_free char *text = NULL;
	struct json_tokener *tokener;
	struct json_object *root;
	bool unfinished;
	size_t len = 0, end;
	int r;

	if (!standard && !opened)
		return -errno;
	r = read_stream(standard ? stdin : opened, &text, &len);
	if (r)
		return r;
	tokener = json_tokener_new();
	if (!tokener)
		return -ENOMEM;
	root = json_tokener_parse_ex(tokener, text ? text : "", (int)len);
	unfinished = json_tokener_get_error(tokener) == json_tokener_continue;
	end = json_tokener_get_parse_end(tokener);
	json_tokener_free(tokener);
	while (root && end < len && (isspace((unsigned char)text[end])))
		end++;
	if (root && end < len) {
		*ret_why = "something follows its JSON, as if two files were one";
		json_object_put(root);
		return -EBADMSG;
	}
	if (!root) {
		*ret_why = unfinished ? "it is no whole JSON: it ends too early" : "it is no JSON";
		return -EBADMSG;
	}
	*ret_root = root;
	return 0;
}

int inventory_take(struct json_object *root, struct inventory *ret_inventory, const char **ret_why)
{
	struct inventory inventory = { 0 };
	struct json_object *array = root;
	const char *why;
	int r = 0;

	/* A snapshot has the list as a member. */
	if (json_object_is_type(root, json_type_object) &&
	    !json_object_object_get_ex(root, "devices", &array))
		array = root;
	why = take_array(array, &inventory, &r);
	if (!why) {
		sort_functions(&inventory);
		if (has_twins(&inventory))
			why = "two devices have the same \"address\"";
	}
	if (why) {
		inventory_done(&inventory);
		*ret_why = why;
		return r ? r : -EBADMSG;
	}
	*ret_inventory = inventory;
	return 0;
}

int inventory_read_json(const char *path, struct inventory *ret_inventory, const char **ret_why)
{
	struct json_object *root;
	int r = inventory_parse(path, &root, ret_why);

	if (r)
		return r;
	r = inventory_take(root, ret_inventory, ret_why);
	json_object_put(root);
	return r;
}

const struct function *inventory_find(const struct inventory *inventory,
				      const struct pci_address *address)
{
	const struct function key = { .address = *address };

	return inventory->n ? bsearch(&key, inventory->functions, inventory->n,
				      sizeof(*inventory->functions), compare_functions)
			    : NULL;
}

void inventory_group(const struct inventory *inventory, const struct function *function,
		     struct group_view *ret_view)
{
	size_t n = 0;

	memset(ret_view, 0, sizeof(*ret_view));
	ret_view->group = function->iommu_group;
	for (size_t i = 0; i < inventory->n; i++) {
		const struct function *f = &inventory->functions[i];

		if (f != function &&
		    (function->iommu_group == NO_GROUP || f->iommu_group != function->iommu_group))
			continue;
		if (!f->is_bridge && n++ < FUNCTIONS_MAX) {
			ret_view->functions[ret_view->n_functions++] = *f;
		} else if (f->is_bridge && bridge_spoils_group(f->driver)) {
			snprintf(ret_view->not_viable, sizeof(ret_view->not_viable),
				 ", a bridge that the host runs with %s", f->driver);
			ret_view->blocker = f->address;
			ret_view->has_blocker = true;
		}
	}
	if (n > FUNCTIONS_MAX)
		group_say_too_many(ret_view, n);
}
