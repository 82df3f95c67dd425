/* SPDX-License-Identifier: MIT */
/*
 * Profiles that drivers offer, parsed from a tree of plain files. tests/vm/cases/34-profiles.t
 * looks at real drivers.
 */
#include "config.h"

#include "client/host/profile.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <limits.h>

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

static char problems[4096];

static void on_problem(void *userdata, const char *path, int error)
{
	(void)userdata;
	(void)error;
	strncat(problems, path, sizeof(problems) - strlen(problems) - 1);
	strncat(problems, "\n", sizeof(problems) - strlen(problems) - 1);
}

static void link_to(const char *target, const char *path)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s/%s", scratch_path, path);
	need(!symlink(target, full));
}

/* Makes a type as the kernel does; without a file for each argument that is NULL. */
static void make_type(const char *parent, const char *type, const char *name,
		      const char *description, const char *available, const char *api,
		      unsigned instances)
{
	const char *const files[][2] = { { "name", name },
					 { "description", description },
					 { "available_instances", available },
					 { "device_api", api } };
	char path[512];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/mdev_supported_types/%s/%s", parent, type,
			 files[i][0]);
		if (files[i][1])
			scratch_write(path, files[i][1]);
	}
	/* The kernel has a directory of links here; the parser ignores where they lead. */
	snprintf(path, sizeof(path), "%s/%s/mdev_supported_types/%s/devices", scratch_path, parent,
		 type);
	need(!mkdir(path, 0755));
	for (unsigned i = 0; i < instances; i++) {
		snprintf(path, sizeof(path),
			 "%s/mdev_supported_types/%s/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa100%u",
			 parent, type, i);
		link_to("../../../x", path);
	}
}

static const struct profile *find(const struct profiles *profiles, const char *parent,
				  const char *type)
{
	for (size_t i = 0; i < profiles->n; i++)
		if (!strcmp(profiles->list[i].parent, parent) &&
		    !strcmp(profiles->list[i].type, type))
			return &profiles->list[i];
	return NULL;
}

static int read_all(struct profiles *ret_profiles)
{
	int sys = open(scratch_path, O_PATH | O_DIRECTORY | O_CLOEXEC), r;

	need(sys >= 0);
	problems[0] = '\0';
	r = profiles_read(sys, on_problem, NULL, ret_profiles);
	close(sys);
	return r;
}

static void test_memory(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {
		{ "num_heads=4, frl_config=60, framebuffer=8192M, max_resolution=5120x2880, max_instance=2",
		  8 * GIB },
		{ "low_gm_size: 128MB\nhigh_gm_size: 512MB\nfence: 4\nresolution: 1920x1200\nweight: 4",
		  128 * MIB },
		{ "virtual display, 16 MB video memory", 16 * MIB },
		{ "16 MB video memory", 16 * MIB },
		{ "framebuffer=8G", 8 * GIB },
		{ "framebuffer: 8 GiB", 8 * GIB },
		{ "framebuffer=512K", 512 * KIB },
		{ "framebuffer=1T,x", 1024 * GIB },
		/* The text states no size, or an invalid one. */
		{ "", 0 },
		{ "virtual display, 640x480 framebuffer", 0 },
		{ "framebuffer", 0 },
		{ "framebuffer=", 0 },
		{ "framebuffer=8192", 0 },
		{ "framebuffer=M", 0 },
		{ "framebuffer=-8M", 0 },
		{ "framebuffer=8192Mx", 0 },
		{ "framebuffer=8192MBit", 0 },
		{ "framebuffer=0M", 0 },
		{ "framebuffer=99999999999999999999M", 0 },
		{ "framebuffer=18446744073709551615G", 0 },
		{ "noframebuffer=8G", 0 },
		{ "max_framebuffer=8G", 0 },
		{ " video memory", 0 },
		{ "MB video memory", 0 },
		{ "x16 MB video memory", 0 },
		{ "some video memory", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		tap_ok(profile_stated_memory(cases[i].text) == cases[i].bytes,
		       "'%.40s': %llu bytes",
		       cases[i].text[0] == 'l' ? "low_gm_size: 128MB" : cases[i].text,
		       (unsigned long long)cases[i].bytes);
}

static void test_named_memory(void)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} cases[] = {
		{ "L40S-48Q", 48 * GIB },
		{ "NVIDIA L40S-1B", 1 * GIB },
		{ "NVIDIA A100-4-20C", 20 * GIB },
		{ "NVIDIA A100-1-5CME", 5 * GIB },
		{ "GRID M60-0Q", GIB / 2 },
		{ "GRID T4-2A", 2 * GIB },
		{ "NVIDIA RTX Pro 6000 Blackwell DC-4-96Q", 96 * GIB },
		{ "MxGPU V710-16G", 16 * GIB },
		{ "MxGPU 512MB", 512 * MIB },
		{ "some_8GiB", 8 * GIB },
		{ "i915-GVTg_V5_4", 0 },
		{ "nvidia-222", 0 },
		{ "mbochs-medium", 0 },
		{ "mtty-2", 0 },
		{ "vfio_ap-passthrough", 0 },
		{ "display-4K", 0 },
		{ "L40S-48", 0 },
		{ "L40S-48Z", 0 },
		{ "L40S-48QX", 0 },
		{ "L40S-48Q2", 0 },
		{ "L40S-Q", 0 },
		{ "L40S-99999Q", 0 },
		{ "L40S 48Q", 0 },
		{ "48Q", 0 },
		{ "8G", 0 },
		{ "-", 0 },
		{ "", 0 },
		{ "x-99999999999999999999G", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		tap_ok(profile_named_memory(cases[i].name) == cases[i].bytes,
		       "the name '%s' has %llu MiB", cases[i].name,
		       (unsigned long long)cases[i].bytes >> 20);
}

static void test_creatable(void)
{
	static const char *const bad[] = {
		"ID    : vGPU Name",
		"",
		"1147",
		"1147 NVIDIA",
		":",
		" : name",
		"1147 :",
		"1147 :   ",
		"-1 : name",
		"1234567890123456 : name",
	};
	char type[16], name[128];

	tap_ok(profile_parse_creatable("1147  : NVIDIA L40S-1B", type, name) &&
		       !strcmp(type, "1147") && !strcmp(name, "NVIDIA L40S-1B"),
	       "a line of creatable_vgpu_types is a type and its name");
	tap_ok(profile_parse_creatable("\t7:a : b\033[2J  ", type, name) && !strcmp(type, "7") &&
		       !strcmp(name, "a : b?[2J"),
	       "a name may have a colon, and never a control character");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		tap_ok(!profile_parse_creatable(bad[i], type, name), "'%s' is no such line",
		       bad[i]);
}

static void test_mdev(void)
{
	struct profiles profiles;
	const struct profile *p;
	char full[PATH_MAX], big[5001];

	make_type("devices/pci0000:00/0000:00:02.0", "i915-GVTg_V5_4", "GVTg_V5_4\n",
		  "low_gm_size: 128MB\nhigh_gm_size: 512MB\nfence: 4\n", "1\n", "vfio-pci\n", 0);
	make_type("devices/pci0000:00/0000:00:03.0", "nvidia-222", "GRID A100-8C\n",
		  "num_heads=1, framebuffer=8192M\n", "2\n", "vfio-pci\n", 3);
	make_type("devices/pci0000:00/0000:00:03.0", "nvidia-35", NULL, NULL, "0\n", "vfio-pci\n",
		  0);
	make_type("devices/virtual/mtty/mtty", "mtty-2", "Dual\033[2J \001port\n", NULL, "12",
		  "vfio-pci", 1);
	/* Each of these types has one wrong file. */
	make_type("devices/virtual/mtty/mtty", "bad-count", "a", NULL, "many\n", "vfio-pci", 0);
	make_type("devices/virtual/mtty/mtty", "bad-minus", "a", NULL, "-1\n", "vfio-pci", 0);
	make_type("devices/virtual/mtty/mtty", "bad-huge", "a", NULL, "4294967296\n", "vfio-pci",
		  0);
	make_type("devices/virtual/mtty/mtty", "bad-none", "a", NULL, NULL, "vfio-pci", 0);
	make_type("devices/virtual/mtty/mtty", "bad-api", "a", NULL, "7", NULL, 0);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	make_type("devices/virtual/mtty/mtty", "bad-long", big, NULL, "7", "vfio-pci", 0);
	make_type("devices/virtual/mtty/mtty", "bad-name", NULL, NULL, "7", "vfio-pci", 0);
	/* Even root cannot read a directory as a file. */
	snprintf(full, sizeof(full),
		 "%s/devices/virtual/mtty/mtty/mdev_supported_types/bad-name/name", scratch_path);
	need(!mkdir(full, 0755));
	/* The parser never follows a link out of the tree. */
	make_type("devices/virtual/mtty/mtty", "bad-link", "a", NULL, NULL, "vfio-pci", 0);
	link_to("/proc/sys/kernel/pid_max",
		"devices/virtual/mtty/mtty/mdev_supported_types/bad-link/available_instances");
	scratch_write("class/mdev_bus/.keep", "");
	snprintf(full, sizeof(full), "%s/class/mdev_bus/.keep", scratch_path);
	need(!unlink(full));
	link_to("../../devices/pci0000:00/0000:00:02.0", "class/mdev_bus/0000:00:02.0");
	link_to("../../devices/pci0000:00/0000:00:03.0", "class/mdev_bus/0000:00:03.0");
	link_to("../0000:00:01.0", "devices/pci0000:00/0000:00:03.0/physfn");
	link_to("../../devices/virtual/mtty/mtty", "class/mdev_bus/mtty");
	link_to("../../devices/gone", "class/mdev_bus/gone");

	tap_ok(!read_all(&profiles), "the tree is read, whatever is wrong in it");
	tap_ok(profiles.n == 12, "each type is listed, also one with a bad file");
	p = find(&profiles, "0000:00:02.0", "i915-GVTg_V5_4");
	tap_ok(p && p->mechanism == PROFILE_MDEV && !strcmp(p->name, "GVTg_V5_4") &&
		       !strcmp(p->description,
			       "low_gm_size: 128MB, high_gm_size: 512MB, fence: 4") &&
		       p->memory == 128 * MIB && p->available == 1 && !p->instances &&
		       !strcmp(p->device_api, "vfio-pci") && !p->physfn[0],
	       "a type has its name, its description on one line, memory, counts and API");
	p = find(&profiles, "0000:00:03.0", "nvidia-222");
	tap_ok(p && p->available == 2 && p->instances == 3 && p->memory == 8 * GIB &&
		       !strcmp(p->physfn, "0000:00:01.0"),
	       "those that exist are counted; a virtual function's physical one is known");
	tap_ok(p && p > &profiles.list[0] && !strcmp(p[-1].type, "nvidia-35") && !p[-1].name[0] &&
		       !p[-1].description[0] && !p[-1].memory && !p[-1].available,
	       "35 is before 222; a name and a description need not be there");
	p = find(&profiles, "mtty", "mtty-2");
	tap_ok(p && !strcmp(p->name, "Dual?[2J ?port") && p->available == 12 && p->instances == 1,
	       "a parent that is no PCI function is one; a name has no control characters");
	for (const char *const *type = (const char *const[]){ "bad-count", "bad-minus", "bad-huge",
							      "bad-none", "bad-link", NULL };
	     *type; type++) {
		p = find(&profiles, "mtty", *type);
		snprintf(full, sizeof(full),
			 "class/mdev_bus/mtty/mdev_supported_types/%s/available_instances\n",
			 *type);
		tap_ok(p && p->available == PROFILE_UNKNOWN && strstr(problems, full),
		       "%s: what is available is not known, and the file is told", *type);
	}
	p = find(&profiles, "mtty", "bad-api");
	tap_ok(p && p->available == 7 && !p->device_api[0] &&
		       strstr(problems, "bad-api/device_api\n"),
	       "a device_api that is not there is told");
	p = find(&profiles, "mtty", "bad-long");
	tap_ok(p && p->available == 7 && !p->name[0] && strstr(problems, "bad-long/name\n"),
	       "a file that is longer than any of sysfs is told, and not cut");
	p = find(&profiles, "mtty", "bad-name");
	tap_ok(p && p->available == 7 && !p->name[0] && strstr(problems, "bad-name/name\n"),
	       "a name that cannot be read is told");
	tap_ok(!strstr(problems, "nvidia-35") && !strstr(problems, "gone"),
	       "what need not be there is not told, nor a parent that has gone");
	profiles_done(&profiles);
}

static void make_vf(const char *address, const char *creatable, const char *current)
{
	char path[256], target[256];

	snprintf(path, sizeof(path), "devices/pci0000:00/%s/nvidia/creatable_vgpu_types", address);
	scratch_write(path, creatable);
	snprintf(path, sizeof(path), "devices/pci0000:00/%s/nvidia/current_vgpu_type", address);
	if (current)
		scratch_write(path, current);
	snprintf(path, sizeof(path), "devices/pci0000:00/%s/physfn", address);
	link_to("../0000:41:00.0", path);
	snprintf(path, sizeof(path), "bus/pci/devices/%s", address);
	snprintf(target, sizeof(target), "../../../devices/pci0000:00/%s", address);
	link_to(target, path);
}

static void test_vendor(void)
{
	static const char list[] =
		"ID    : vGPU Name\n1147  : NVIDIA L40S-1B\n1155  : NVIDIA L40S-48Q\n";
	struct profiles profiles;
	const struct profile *p;

	scratch_write("bus/pci/devices/not-an-address/nvidia/creatable_vgpu_types", list);
	scratch_write("bus/pci/devices/0000:40:00.0/vendor", "0x10de\n");
	make_vf("0000:41:00.4", list, "0\n");
	make_vf("0000:41:00.5", list, "1155\n");
	make_vf("0000:41:00.6", "ID    : vGPU Name\n", "1147\n");
	make_vf("0000:41:00.7", "ID    : vGPU Name\nnonsense\n1147 : a\n", "?\n");
	make_vf("0000:41:01.0", "", "0\n");
	make_vf("0000:41:01.1", list, NULL);

	tap_ok(!read_all(&profiles) && profiles.n == 8,
	       "the types of each virtual function are listed");
	p = find(&profiles, "0000:41:00.4", "1147");
	tap_ok(p && p->mechanism == PROFILE_VENDOR_VFIO && !strcmp(p->name, "NVIDIA L40S-1B") &&
		       p->available == 1 && !p->instances && !strcmp(p->physfn, "0000:41:00.0"),
	       "a virtual function that is of no type can be made one of each");
	p = find(&profiles, "0000:41:00.5", "1147");
	tap_ok(p && !p->available && !p->instances, "one that has a type cannot be made another");
	p = find(&profiles, "0000:41:00.5", "1155");
	tap_ok(p && !p->available && p->instances == 1, "... and the one that it is exists once");
	p = find(&profiles, "0000:41:00.6", "1147");
	tap_ok(p && !p->available && p->instances == 1 && !p->name[0],
	       "the type that it is need not be among those that could be made");
	p = find(&profiles, "0000:41:00.7", "1147");
	tap_ok(p && p->available == PROFILE_UNKNOWN && p->instances == PROFILE_UNKNOWN &&
		       strstr(problems, "0000:41:00.7/nvidia/current_vgpu_type\n"),
	       "where the current type is no number, nothing is known of what is available");
	tap_ok(strstr(problems, "0000:41:00.7/nvidia/creatable_vgpu_types\n") != NULL,
	       "a line that is none is told, and the rest is listed");
	p = find(&profiles, "0000:41:01.1", "1155");
	tap_ok(p && p->available == PROFILE_UNKNOWN &&
		       strstr(problems, "0000:41:01.1/nvidia/current_vgpu_type\n"),
	       "a current type that is not there is told");
	tap_ok(!strstr(problems, "41:00.4") && !strstr(problems, "40:00.0"),
	       "the heading is no mistake, nor is a function without types");
	profiles_done(&profiles);
}

int main(void)
{
	struct profiles profiles;

	scratch_make();
	test_memory();
	test_named_memory();
	test_creatable();
	tap_ok(!read_all(&profiles) && !profiles.n && !problems[0],
	       "a host whose drivers offer nothing has no profiles, and that is no problem");
	profiles_done(&profiles);
	test_vendor();
	scratch_remove();
	scratch_make();
	test_mdev();
	return tap_done();
}
