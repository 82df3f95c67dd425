/* SPDX-License-Identifier: MIT */
/*
 * Reads the host for doctor: modules, nodes, memory, libvirt, and what the broker and the
 * policy's files say. Changes nothing, and writes no user's name where the facts are for a
 * snapshot.
 */
#include "config.h"

#include "client/command/facts.h"
#include "client/command/holders.h"
#include "client/common/util.h"
#include "client/host/policyfiles.h"

#include <dirent.h>
#include <pwd.h>
#include <string.h>

static void add_modules(struct json_object *facts)
{
	struct json_object *modules = json_object_new_object();

	facts_add_flag(modules, "vfio-pci", facts_path_exists("/sys/bus/pci/drivers/vfio-pci"));
	facts_add_flag(modules, "vfio", facts_path_exists("/dev/vfio/vfio"));
	facts_add_flag(modules, "vfio_iommu_type1",
		       facts_path_exists("/sys/module/vfio_iommu_type1"));
	facts_add_flag(modules, "iommufd", facts_path_exists("/sys/module/iommufd/parameters"));
	json_object_object_add(facts, "modules", modules);
}

static void add_open_node(struct json_object *list, const struct holders_node *node, bool anonymous)
{
	struct json_object *object = json_object_new_object();
	const struct passwd *user = anonymous ? NULL : getpwuid(node->owner);
	char text[24];

	facts_add_text(object, "path", node->path);
	snprintf(text, sizeof(text), "uid %u", (unsigned)node->owner);
	facts_add_text(object, "owner",
		       !node->owner ? "root"
		       : anonymous  ? "another user"
		       : user	    ? user->pw_name
				    : text);
	snprintf(text, sizeof(text), "%04o", (unsigned)node->mode);
	facts_add_text(object, "mode", text);
	json_object_array_add(list, object);
}

/* Adds the nodes that others than root may open, one of each group. */
static void add_open_nodes(struct json_object *facts, const struct facts_source *source)
{
	struct json_object *list = json_object_new_array();
	const struct inventory *inventory = source->inventory;

	for (size_t i = 0; i < inventory->n; i++) {
		const uint32_t group = inventory->functions[i].iommu_group;
		struct holders_node node;
		bool first = group != NO_GROUP;

		for (size_t k = 0; first && k < i; k++)
			first = inventory->functions[k].iommu_group != group;
		if (first && holders_node_find(group, &node))
			add_open_node(list, &node, source->anonymous);
	}
	json_object_object_add(facts, "nodes", list);
}

static void add_broker(struct json_object *facts, struct gpubroker *handle)
{
	struct json_object *broker = json_object_new_object();
	struct gpubroker_policy state = { 0 };

	facts_add_flag(broker, "answers", handle);
	if (handle && !gpubroker_policy(handle, &state)) {
		facts_add_flag(broker, "tells_policy", true);
		facts_add_flag(broker, "in_force", state.in_force);
		facts_add_flag(broker, "refused", state.refused);
		facts_add_flag(broker, "saved", state.saved);
		facts_add_number(broker, "rules", (int64_t)state.rules);
		facts_add_number(broker, "files", (int64_t)state.files);
		facts_add_number(broker, "mistakes", (int64_t)state.mistakes);
	}
	json_object_object_add(facts, "broker", broker);
}

static void count_finding(void *userdata, const struct policy_finding *finding)
{
	unsigned *mistakes = userdata;

	*mistakes += finding->severity == POLICY_MISTAKE;
}

/* Adds the mistakes of the files as they are now, which need not be what is in force. */
static void add_files(struct json_object *facts)
{
	unsigned mistakes = 0;
	const struct policyfiles request = {
		.directories = policyfiles_directories,
		.n_directories = POLICYFILES_DIRECTORIES,
		.reader = geteuid() ? NULL : "gpubroker",
		.found = count_finding,
		.userdata = &mistakes,
	};
	struct policy policy = { 0 };

	if (!policyfiles_load(&request, &policy))
		policy_done(&policy);
	facts_add_number(facts, "mistakes", mistakes);
}

/* ---- memory ---- */

/* Adds the hugepages of each size of which there are some, here or of a NUMA node. */
static void add_hugepages(struct json_object *facts)
{
	static const char directory[] = "/sys/kernel/mm/hugepages";
	struct json_object *list = json_object_new_array();
	DIR *dir = opendir(directory);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		struct json_object *object;
		unsigned long long kib;
		char path[320];
		int64_t n;

		if (sscanf(entry->d_name, "hugepages-%llukB", &kib) != 1)
			continue;
		snprintf(path, sizeof(path), "%s/%s/nr_hugepages", directory, entry->d_name);
		n = facts_read_number(path, 0);
		if (n <= 0)
			continue;
		object = json_object_new_object();
		facts_add_number(object, "size", (int64_t)(kib << 10));
		facts_add_number(object, "total", n);
		snprintf(path, sizeof(path), "%s/%s/free_hugepages", directory, entry->d_name);
		facts_add_number(object, "free", facts_read_number(path, 0));
		json_object_array_add(list, object);
	}
	if (dir)
		closedir(dir);
	json_object_object_add(facts, "hugepages", list);
}

static void add_memory(struct json_object *facts)
{
	cleanup_file FILE *file = fopen("/proc/meminfo", "re");
	unsigned long long kib;
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "MemTotal: %llu", &kib) == 1)
			facts_add_number(facts, "memory", (int64_t)(kib << 10));
		else if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			facts_add_number(facts, "memory_available", (int64_t)(kib << 10));
	add_hugepages(facts);
}

/* ---- libvirt ---- */

/* Adds what there is of libvirt's daemon for QEMU; nothing where that is not installed. */
static void add_libvirt(struct json_object *facts)
{
	struct json_object *libvirt;

	if (!facts_path_exists("/usr/sbin/libvirtd") && !facts_path_exists("/usr/sbin/virtqemud"))
		return;
	libvirt = json_object_new_object();
	facts_add_flag(libvirt, "system",
		       facts_path_exists("/run/libvirt/libvirt-sock") ||
			       facts_path_exists("/run/libvirt/virtqemud-sock"));
	facts_add_flag(libvirt, "hook",
		       !access("/etc/libvirt/hooks/qemu", X_OK) ||
			       !access("/etc/libvirt/hooks/qemu.d/gpubroker", X_OK));
	json_object_object_add(facts, "libvirt", libvirt);
}

void facts_add_host(struct json_object *facts, const struct facts_source *source)
{
	add_modules(facts);
	add_open_nodes(facts, source);
	add_broker(facts, source->handle);
	add_files(facts);
	add_memory(facts);
	add_libvirt(facts);
}
