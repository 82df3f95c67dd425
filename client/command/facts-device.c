/* SPDX-License-Identifier: MIT */
/*
 * Reads devices for doctor: all that `list --all --json` has of a function, but its serial
 * number, and what sysfs, /proc and the policy's files say besides. Changes nothing. A snapshot
 * gets no user's name: a holder is "another user".
 */
#include "config.h"

#include "client/command/facts.h"
#include "client/command/account.h"
#include "client/command/holders.h"
#include "client/command/policy-sources.h"
#include "client/common/util.h"

#include <dirent.h>
#include <pwd.h>
#include <string.h>

/* The answers that are the same for all devices, or asked once. */
struct survey {
	const struct facts_source *source;
	struct gpubroker_device *devices; /* of the broker */
	size_t n_devices;
	struct policy policy; /* the files, where they have no mistake */
	struct account account;
	bool has_policy;
};

static int add_device_of_broker(void *userdata, const struct gpubroker_device *device)
{
	struct survey *survey = userdata;
	struct gpubroker_device *devices =
		reallocarray(survey->devices, survey->n_devices + 1, sizeof(*devices));

	if (!devices)
		return -ENOMEM;
	survey->devices = devices;
	devices[survey->n_devices++] = *device;
	return 0;
}

static void survey_begin(struct survey *survey)
{
	struct policy_report report = { .quiet = true };
	struct policy_sources sources;

	if (survey->source->handle &&
	    gpubroker_list(survey->source->handle, add_device_of_broker, survey))
		survey->n_devices = 0;
	policy_sources_init(&sources);
	survey->has_policy = !account_find_uid(geteuid(), &survey->account) &&
			     !policy_sources_load(&sources, NULL, 0, &report, &survey->policy);
}

static void survey_end(struct survey *survey)
{
	policy_done(&survey->policy);
	account_done(&survey->account);
	free(survey->devices);
}

/* ---- of one function ---- */

/* Reads a line of an attribute of the function, "" if there is none. */
static void read_device_line(const char *address, const char *name, char out[128])
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, name);
	facts_read_line(path, out, 128);
}

static void add_hex(struct json_object *object, const char *key, int digits, unsigned value)
{
	char hex[16];

	snprintf(hex, sizeof(hex), "%0*x", digits, value);
	facts_add_text(object, key, hex);
}

static struct json_object *function_object(const struct function *f, const char *address)
{
	struct json_object *object = json_object_new_object();
	char physfn[PCI_ADDRESS_TEXT];

	facts_add_text(object, "address", address);
	add_hex(object, "vendor", 4, f->vendor);
	add_hex(object, "device", 4, f->device);
	add_hex(object, "subsystem_vendor", 4, f->subsystem_vendor);
	add_hex(object, "subsystem_device", 4, f->subsystem_device);
	add_hex(object, "class", 6, f->class_code & 0xffffff);
	facts_add_text(object, "driver", f->driver);
	json_object_object_add(object, "iommu_group",
			       f->iommu_group == NO_GROUP ? NULL
							  : json_object_new_int64(f->iommu_group));
	facts_add_text(object, "physfn", f->is_vf ? pci_address_format(&f->physfn, physfn) : "");
	facts_add_flag(object, "boot_vga", f->boot_vga);
	facts_add_flag(object, "bridge", f->is_bridge);
	facts_add_text(object, "console", f->console);
	facts_add_text(object, "in_use", f->in_use);
	facts_add_text(object, "path", f->path);
	return object;
}

static void add_of_broker(struct json_object *object, const struct survey *survey,
			  const char *address)
{
	const struct passwd *user = NULL;

	for (size_t i = 0; i < survey->n_devices; i++) {
		const struct gpubroker_device *d = &survey->devices[i];

		if (strcmp(d->address, address))
			continue;
		facts_add_text(object, "vendor_name", d->vendor_name);
		facts_add_text(object, "model", d->model);
		facts_add_text(object, "status", gpubroker_status_name(d->status));
		facts_add_flag(object, "allowed", d->allowed);
		if (d->vfs_total) {
			struct json_object *vfs = json_object_new_object();

			facts_add_number(vfs, "total", d->vfs_total);
			facts_add_number(vfs, "created", d->vfs);
			json_object_object_add(object, "vfs", vfs);
		}
		if (!d->lease)
			continue;
		facts_add_number(object, "lease", (int64_t)d->lease);
		if (!survey->source->anonymous)
			user = getpwuid((uid_t)d->holder_uid);
		facts_add_text(object, "holder", user ? user->pw_name : "another user");
	}
}

/* Adds what is connected to the card: "card1-DP-1". */
static void add_connectors(struct json_object *object, const char *address)
{
	struct json_object *list = json_object_new_array();
	char path[640], status[32];
	DIR *cards, *dir;
	struct dirent *card, *connector;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/drm", address);
	cards = opendir(path);
	while (cards && (card = readdir(cards))) {
		if (strncmp(card->d_name, "card", 4))
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/drm/%s", address,
			 card->d_name);
		dir = opendir(path);
		while (dir && (connector = readdir(dir))) {
			if (strncmp(connector->d_name, card->d_name, strlen(card->d_name)))
				continue;
			snprintf(path, sizeof(path),
				 "/sys/bus/pci/devices/%s/drm/%.16s/%.64s/status", address,
				 card->d_name, connector->d_name);
			facts_read_line(path, status, sizeof(status));
			if (!strcmp(status, "connected"))
				json_object_array_add(list,
						      json_object_new_string(connector->d_name));
		}
		if (dir)
			closedir(dir);
	}
	if (cards)
		closedir(cards);
	json_object_object_add(object, "connectors", list);
}

/* Adds how much memory the rule lets the caller lock; nothing where no rule allows the device. */
static void add_grant(struct json_object *object, const struct survey *survey,
		      const struct function *f, const struct group_view *view)
{
	struct policy_facts facts[FUNCTIONS_MAX];
	size_t asked = group_find(view, &f->address);
	struct policy_verdict v;

	if (!survey->has_policy || asked == SIZE_MAX)
		return;
	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	policy_decide(&survey->policy, &survey->account.subject, facts, view->n_functions, asked,
		      NULL, &v);
	if (v.outcome == POLICY_ALLOWED)
		facts_add_number(object, "memlock", (int64_t)v.memlock);
}

static void add_kernel_facts(struct json_object *object, const char *address)
{
	char line[128], path[96];
	int64_t node;

	read_device_line(address, "reset_method", line);
	facts_add_text(object, "reset_method", line);
	read_device_line(address, "numa_node", line);
	node = line[0] ? atoll(line) : -1;
	facts_add_number(object, "numa_node", node);
	if (node >= 0) {
		cleanup_file FILE *file = NULL;
		unsigned long long kib;

		read_device_line(address, "local_cpulist", line);
		facts_add_text(object, "cpus", line);
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", (int)node);
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file))
			if (sscanf(line, "Node %*d MemTotal: %llu", &kib) == 1)
				facts_add_number(object, "node_memory", (int64_t)(kib << 10));
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/mdev_supported_types", address);
	facts_add_flag(object, "vgpu", facts_path_exists(path));
}

static void add_text_to(void *userdata, const char *text)
{
	json_object_array_add(userdata, json_object_new_string(text));
}

/*
 * Adds who has a node of the device open. Each search looks at all processes, so a snapshot, which
 * has no names of users, has the answer for GPUs alone, and names no process.
 */
static void add_openers(struct json_object *object, const struct survey *survey,
			const struct function *f, const struct group_view *view)
{
	const bool anonymous = survey->source->anonymous;
	struct json_object *render;
	char text[320];

	if (f->iommu_group == NO_GROUP || (anonymous && !class_is_gpu(f->class_code)))
		return;
	if (!(anonymous ? holders_open_program(view, text, sizeof(text))
			: holders_open_text(view, text, sizeof(text))))
		return;
	facts_add_text(object, "opened_by", text);
	if (anonymous)
		return;
	render = json_object_new_array();
	holders_of_render(view, add_text_to, render);
	json_object_object_add(object, "render_opened_by", render);
}

static struct json_object *device_object(const struct survey *survey, const struct function *f)
{
	struct group_view *view = calloc(1, sizeof(*view));
	char address[PCI_ADDRESS_TEXT];
	struct json_object *object;

	pci_address_format(&f->address, address);
	object = function_object(f, address);
	add_of_broker(object, survey, address);
	add_kernel_facts(object, address);
	add_connectors(object, address);
	if (!view)
		return object;
	inventory_group(survey->source->inventory, f, view);
	add_openers(object, survey, f, view);
	add_grant(object, survey, f, view);
	free(view);
	return object;
}

struct json_object *facts_of_devices(const struct facts_source *source,
				     const struct pci_address *address)
{
	struct json_object *list = json_object_new_array();
	struct survey survey = { .source = source };

	survey_begin(&survey);
	for (size_t i = 0; i < source->inventory->n; i++) {
		const struct function *f = &source->inventory->functions[i];

		if (!address || !pci_address_compare(&f->address, address))
			json_object_array_add(list, device_object(&survey, f));
	}
	survey_end(&survey);
	return list;
}
