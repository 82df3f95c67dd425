/* SPDX-License-Identifier: MIT */
/*
 * A kernel of files with drivers that make mediated devices and vGPUs, for tests with world.h and
 * fake-worker.h: "card" and the function GPU make mdevs, the two VFs of PF become vGPUs. A worker's
 * step is done by do_step(). A test says who holds what in sim.mdevs[].held and sim.vfs[].held, and
 * links its own kernel_group_open(), which asks sim_open().
 */
#pragma once

#include "brokerd/lease/mdev.h"
#include "tests/unit/brokerd/fake-worker.h"
#include "tests/unit/brokerd/world.h"

#include <stdarg.h>

#define OTHER "83b8f4f2-509f-382f-3c1e-e6bfe0fa1034" /* an mdev of somebody else */
#define GPU "0000:01:00.0"			     /* makes mdevs too */
#define MDEVS_MAX 8
#define PF "0000:03:00.0" /* has two VFs, in groups 30 and 31, and room for two units */
#define VFS 2

/* ---- the kernel ---- */

static struct {
	unsigned left; /* instances of card-1; a card-2 takes two */
	struct {
		char uuid[PROTOCOL_UUID];
		uint32_t group;
		bool held;
		unsigned size;
	} mdevs[MDEVS_MAX];
	uint32_t next_group;
	int create_error;
	struct {
		unsigned type; /* 557 takes one unit, 558 both */
		bool held;
	} vfs[VFS];
	int vgpu_error;
	unsigned becomes; /* type that somebody else gives the first VF; 0: none */
	bool unrecorded;  /* an mdev without a record was created */
	bool half;	  /* creates the next mdev without its group and its remove file */
} sim;

static void path_of(char out[200], const char *format, ...) __attribute__((format(printf, 2, 3)));
static void path_of(char out[200], const char *format, ...)
{
	int n = snprintf(out, 200, "%s/", scratch_path);
	va_list args;

	va_start(args, format);
	vsnprintf(out + n, 200 - (size_t)n, format, args);
	va_end(args);
}

static void add_parent(const char *parent, const char *type, const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "sys/class/mdev_bus/%s/mdev_supported_types/%s/create", parent,
		 type);
	scratch_write(path, "");
	snprintf(path, sizeof(path),
		 "sys/class/mdev_bus/%s/mdev_supported_types/%s/available_instances", parent, type);
	scratch_write(path, "");
	snprintf(path, sizeof(path), "sys/class/mdev_bus/%s/mdev_supported_types/%s/name", parent,
		 type);
	scratch_write(path, name);
	path_of(path, "sys/class/mdev_bus/%s/mdev_supported_types/%s/devices", parent, type);
	need(!mkdir(path, 0700));
}

static int find(const char *uuid)
{
	for (int i = 0; i < MDEVS_MAX; i++)
		if (!strcmp(sim.mdevs[i].uuid, uuid))
			return i;
	return -1;
}

/* Makes the files of a complete mdev. */
static void complete(int i)
{
	char path[200], text[64];

	snprintf(path, sizeof(path), "sys/bus/mdev/devices/%s/remove", sim.mdevs[i].uuid);
	scratch_write(path, "");
	path_of(path, "sys/bus/mdev/devices/%s/iommu_group", sim.mdevs[i].uuid);
	snprintf(text, sizeof(text), "../groups/%u", (unsigned)sim.mdevs[i].group);
	need(!symlink(text, path));
}

/* Returns an errno or 0. `type` is the directory of a type below its parent's. */
static int sim_create(const char *type, const char *uuid)
{
	const unsigned size = strstr(type, "-2") ? 2 : 1;
	char path[300];
	FILE *file;
	int i;

	if (sim.create_error)
		return sim.create_error;
	if (find(uuid) >= 0)
		return EEXIST;
	if (sim.left < size)
		return ENOSPC;
	i = find("");
	need(i >= 0);
	sim.left -= size;
	strcpy(sim.mdevs[i].uuid, uuid);
	sim.mdevs[i].group = sim.next_group++;
	sim.mdevs[i].size = size;
	path_of(path, "sys/bus/mdev/devices/%s", uuid);
	need(!mkdir(path, 0700));
	snprintf(path, sizeof(path), "%s/devices/%s", type, uuid);
	file = fopen(path, "w");
	need(file && !fclose(file));
	if (!sim.half)
		complete(i);
	sim.half = false;
	return 0;
}

static void sim_remove(const char *uuid)
{
	static const char *const types[] = { "card/mdev_supported_types/card-1",
					     "card/mdev_supported_types/card-2",
					     GPU "/mdev_supported_types/gpu-1" };
	char path[200];
	int i = find(uuid);

	need(i >= 0 && !sim.mdevs[i].held);
	sim.left += sim.mdevs[i].size;
	sim.mdevs[i].uuid[0] = '\0';
	path_of(path, "sys/bus/mdev/devices/%s", uuid);
	nftw(path, scratch_drop, 8, FTW_DEPTH | FTW_PHYS);
	for (size_t k = 0; k < ARRAY_SIZE(types); k++) {
		path_of(path, "sys/class/mdev_bus/%s/devices/%s", types[k], uuid);
		unlink(path);
	}
}

/* ---- the VFs ---- */

static const char *vf_text(int vf, char out[PCI_ADDRESS_TEXT])
{
	snprintf(out, PCI_ADDRESS_TEXT, "0000:03:00.%d", vf + 1);
	return out;
}

static unsigned units_left(void)
{
	unsigned left = 2;

	for (int i = 0; i < VFS; i++)
		left -= sim.vfs[i].type ? sim.vfs[i].type - 556 : 0;
	return left;
}

/* Writes as any writer to the file would. Returns an errno or 0. */
static int vf_write(int vf, unsigned type)
{
	char path[200];

	if (type && sim.vgpu_error)
		return sim.vgpu_error;
	if (!type && sim.vfs[vf].held)
		return EPERM;
	if (type && sim.vfs[vf].type)
		return EPERM;
	if (type && (type < 557 || type > 558 || type - 556 > units_left()))
		return EINVAL;
	sim.vfs[vf].type = type;
	path_of(path, "sys/bus/pci/devices/0000:03:00.%d/vfio-dev", vf + 1);
	if (type) {
		need(!mkdir(path, 0700));
		strcat(path, "/vfio0");
		need(!mkdir(path, 0700));
	} else {
		nftw(path, scratch_drop, 8, FTW_DEPTH | FTW_PHYS);
	}
	return 0;
}

static void add_vfs(void)
{
	char path[200], text[64], address[PCI_ADDRESS_TEXT];

	add_function(PF, "0x030200\n", 22);
	scratch_write("sys/bus/pci/devices/" PF "/sriov_totalvfs", "2\n");
	for (int i = 0; i < VFS; i++) {
		add_function(vf_text(i, address), "0x030200\n", 30 + i);
		snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/nvidia/current_vgpu_type",
			 address);
		scratch_write(path, "");
		snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/nvidia/creatable_vgpu_types",
			 address);
		scratch_write(path, "");
		path_of(path, "sys/bus/pci/devices/%s/physfn", address);
		need(!symlink("../" PF, path));
		path_of(path, "sys/bus/pci/devices/" PF "/virtfn%d", i);
		snprintf(text, sizeof(text), "../%s", address);
		need(!symlink(text, path));
		need(!devices_take(&broker.devices,
				   &(struct watcher_record){
					   .type = WATCHER_DEVICE,
					   .address = { .bus = 3, .function = (uint8_t)(i + 1) },
					   .vendor = 0x1234,
					   .device = 0x1111,
					   .class_code = 0x030200,
					   .group = (uint32_t)(30 + i),
					   .is_vf = 1,
					   .physfn = { .bus = 3 } }));
	}
}

static int vf_of_group(uint32_t group)
{
	return group >= 30 && group < 30 + VFS ? (int)group - 30 : -1;
}

static int by_group(uint32_t group)
{
	for (int i = 0; i < MDEVS_MAX; i++)
		if (sim.mdevs[i].uuid[0] && sim.mdevs[i].group == group)
			return i;
	return -1;
}

static int sim_open(uint32_t group)
{
	int i = vf_of_group(group);

	if (i >= 0)
		return !sim.vfs[i].type ? ENOENT : sim.vfs[i].held ? EBUSY : 0;
	i = by_group(group);
	return i < 0 ? ENOENT : sim.mdevs[i].held ? EBUSY : 0;
}

/* ---- its workers ---- */

static bool record_has(const char *uuid)
{
	cleanup_free char *text = NULL;
	char path[200];
	size_t size = 0;
	struct dirent *entry;
	bool has = false;
	DIR *dir;

	path_of(path, "state");
	dir = opendir(path);
	need(dir);
	while ((entry = readdir(dir))) {
		FILE *file;

		path_of(path, "state/%s", entry->d_name);
		file = fopen(path, "r");
		if (file && getdelim(&text, &size, '\0', file) > 0)
			has = has || strstr(text, uuid);
		if (file)
			fclose(file);
	}
	closedir(dir);
	return has;
}

/* Prints the types that a VF can get. */
static void print_table(int vf, char text[FAKE_TEXT_MAX])
{
	static const char *const lines[] = { "ID    : vGPU Name", "557   : NVIDIA X-1Q",
					     "558   : NVIDIA X-2Q", "", "x" };

	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++)
		if ((i != 1 && i != 2) || (!sim.vfs[vf].type && i <= units_left()))
			text += sprintf(text, "%s\n", lines[i]);
	if (sim.becomes && !vf) {
		need(!vf_write(0, sim.becomes));
		sim.becomes = 0;
	}
}

static int do_vf_step(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	const int vf = step->address.function - 1;
	char made[WORK_TEXT_MAX + 8];

	need(vf >= 0 && vf < VFS);
	if (step->does == FAKE_LISTS) {
		print_table(vf, text);
		return 0;
	}
	if (step->does != FAKE_WRITES) {
		sprintf(text, "%u", sim.vfs[vf].type);
		return 0;
	}
	if (strcmp(step->text, "0") != 0) {
		snprintf(made, sizeof(made), "vgpu %s\n", step->text);
		sim.unrecorded = sim.unrecorded || !record_has(made);
	}
	return vf_write(vf, (unsigned)atoi(step->text));
}

/* Does one step, as the kernel would. Returns its errno. */
static int do_step(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	char path[300], *name;

	strcpy(path, step->path);
	name = strrchr(path, '/');
	need(name);
	*name++ = '\0';
	if (step->does == FAKE_OPENS)
		return sim_open(step->group);
	if (!strcmp(name, "available_instances")) {
		sprintf(text, "%u", sim.left / (strstr(path, "-2") ? 2 : 1));
	} else if (!strcmp(name, "current_vgpu_type") || !strcmp(name, "creatable_vgpu_types")) {
		return do_vf_step(step, text);
	} else if (!strcmp(name, "create")) {
		sim.unrecorded = sim.unrecorded || !record_has(step->text);
		return sim_create(path, step->text);
	} else if (!strcmp(name, "remove")) {
		need(!strcmp(step->text, "1"));
		sim_remove(strrchr(path, '/') + 1);
	} else {
		need(!strcmp(name, "a step that is known"));
	}
	return 0;
}

/* ---- the host ---- */

static void make_host(void)
{
	char path[200];

	add_function(GPU, "0x030000\n", 20);
	add_function("0000:02:00.0", "0x030000\n", 21);
	add_vfs();
	add_parent("card", "card-1", "A part\n");
	add_parent("card", "card-2", "Two\n");
	add_parent(GPU, "gpu-1", "");
	scratch_write("sys/bus/mdev/devices/none", "");
	path_of(path, "sys/bus/mdev/devices/none");
	need(!unlink(path));
	path_of(path, "state");
	need(!mkdir(path, 0700));
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	path_of(path, "dev/vfio");
	scratch_write("dev/vfio/vfio", "");
	path_of(path, "dev");
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(broker.store.directory >= 0 && broker.kernel.dev >= 0 && !mdev_seed(&broker.leases));
	sim.left = 4;
	sim.next_group = 50;
	path_of(path, "sys/class/mdev_bus/card/mdev_supported_types/card-1");
	need(!sim_create(path, OTHER)); /* leaves 3 */
}
