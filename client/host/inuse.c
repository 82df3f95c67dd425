/* SPDX-License-Identifier: MIT */
/*
 * How the host uses a function, see inuse.h: as its console, or by what the function's driver has
 * made of it (a network interface, a disk). sysfs shows that as devices below the function, which
 * are found by the links in /sys/class.
 *
 * It must never ask a driver: reading a port's state, for example, makes an InfiniBand driver ask
 * its firmware. And no error may pass for "not in use".
 */
#include "config.h"

#include "client/host/inuse.h"
#include "client/host/directory.h"
#include "client/host/mdev.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#define TARGET_MAX 1024
#define CLASS_USB 0x0c03

/* A search below /sys/class, or another directory of links to devices. */
struct search {
	int sys;
	const char *directory;			   /* "class/net" */
	char component[PCI_ADDRESS_TEXT + 2];	   /* "/0000:01:00.0/" */
	bool (*counts)(int sys, const char *name); /* NULL: every entry counts */
};

/*
 * Reads where a link of a directory leads. Returns 1; 0 if it is no link, or has gone; or -errno,
 * since another error may hide what the host uses.
 */
static int read_target(int directory, const char *name, char target[TARGET_MAX])
{
	ssize_t n = readlinkat(directory, name, target, TARGET_MAX - 1);

	if (n < 0)
		return errno == EINVAL || errno == ENOENT ? 0 : -errno;
	target[n] = '\0';
	return n > 0;
}

/*
 * Finds a device below the function, also behind a USB controller or an NVMe namespace: the target
 * of its link then has the function's address as a component. Returns 1 with its name, 0, or
 * -errno.
 */
static int find_below(const struct search *search, char *out, size_t size)
{
	cleanup_fd int fd =
		sysfs_open(search->sys, O_RDONLY | O_DIRECTORY, "%s", search->directory);
	struct directory dir = DIRECTORY(fd);
	char target[TARGET_MAX];
	const char *entry;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while ((entry = directory_next(&dir))) {
		int r = read_target(fd, entry, target);

		if (r < 0)
			return r;
		if (!r || !strstr(target, search->component) ||
		    (search->counts && !search->counts(search->sys, entry)))
			continue;
		snprintf(out, size, "%.*s", (int)size - 1, entry);
		return 1;
	}
	return dir.error;
}

/* Reads a small attribute. Returns false if it cannot be read: then it is not known. */
static bool attribute_of(int sys, char *out, size_t size, const char *directory, const char *name,
			 const char *attribute)
{
	return !sysfs_read_text(sysfs_open(sys, O_RDONLY, "%s/%s/%s", directory, name, attribute),
				out, size);
}

/* ---- the console's display ---- */

/* Reads an attribute of the function that is 1 or 0. Without the attribute it is 0. */
static int read_flag(int sys, const struct function *f, const char *attribute, bool *ret_flag)
{
	uint32_t value = 0;
	int r = sysfs_read_number(sys, &f->address, attribute, 10, &value);

	*ret_flag = !r && value;
	return r == -ENOENT ? 0 : r;
}

static bool connector_is_on(int sys, const char *name)
{
	char text[16];

	/* Cards and render nodes are in the same directory, and have no status. */
	if (!attribute_of(sys, text, sizeof(text), "class/drm", name, "status") ||
	    strcmp(text, "connected") != 0)
		return false;
	return !attribute_of(sys, text, sizeof(text), "class/drm", name, "enabled") ||
	       !strcmp(text, "enabled");
}

static bool is_fbcon(int sys, const char *name)
{
	char text[64];

	/* "(M) frame buffer device", and 1 while the consoles are on it. */
	return attribute_of(sys, text, sizeof(text), "class/vtconsole", name, "name") &&
	       strstr(text, "frame buffer") &&
	       (!attribute_of(sys, text, sizeof(text), "class/vtconsole", name, "bind") ||
		strcmp(text, "0") != 0);
}

/* Returns 1 if the kernel shows its consoles on a framebuffer, 0, or -errno. */
static int has_fbcon(int sys)
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "class/vtconsole");
	struct directory dir = DIRECTORY(fd);
	const char *entry;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while ((entry = directory_next(&dir)))
		if (is_fbcon(sys, entry))
			return 1;
	return dir.error;
}

/*
 * Finds the framebuffer with the lowest number, which fbcon takes unless root has told it otherwise
 * (a connector that is on shows that). Returns 1 with its number and its device, 0, or -errno.
 */
static int first_framebuffer(int sys, unsigned *ret_number, char target[TARGET_MAX])
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "class/graphics");
	struct directory dir = DIRECTORY(fd);
	char other[TARGET_MAX];
	const char *entry;
	int found = 0;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while ((entry = directory_next(&dir))) {
		unsigned long number;
		char *end;
		int r;

		if (strncmp(entry, "fb", 2) != 0)
			continue;
		number = strtoul(entry + 2, &end, 10);
		if (end == entry + 2 || *end || number > UINT32_MAX ||
		    (found && number > *ret_number))
			continue;
		r = read_target(fd, entry, other);
		if (r < 0)
			return r;
		if (!r)
			continue;
		*ret_number = (unsigned)number;
		strcpy(target, other);
		found = 1;
	}
	return dir.error ? dir.error : found;
}

static uint32_t little_endian(const unsigned char *bytes)
{
	return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	       (uint32_t)bytes[3] << 24;
}

/*
 * Reads where the firmware's framebuffer is in memory: struct screen_info, at the beginning of
 * x86's boot_params (Linux, Documentation/arch/x86/zero-page.rst). Returns 0 where the kernel does
 * not show it.
 */
static uint64_t firmware_framebuffer(int sys)
{
	const unsigned lfb_base = 0x18, ext_lfb_base = 0x3a;
	unsigned char info[0x40];
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY, "kernel/boot_params/data");

	if (fd < 0 || read_whole(fd, (char *)info, sizeof(info)) != sizeof(info))
		return 0;
	return little_endian(info + lfb_base) | (uint64_t)little_endian(info + ext_lfb_base) << 32;
}

/* Returns true if one of the function's memory ranges has an address, or if that is not known. */
static bool has_memory_at(int sys, const struct function *f, uint64_t address)
{
	char text[4096], *line, *state = NULL;
	int r = sysfs_read_text(sysfs_function_open(sys, &f->address, O_RDONLY, "resource"), text,
				sizeof(text));

	if (r)
		return true;
	for (line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		char *end;
		const uint64_t first = strtoull(line, &end, 16);
		const uint64_t last = strtoull(end, NULL, 16);

		if (last > first && address >= first && address <= last)
			return true;
	}
	return false;
}

/*
 * Says whether the console's framebuffer is the function's: a driver's of its own, or the
 * firmware's (efifb, simpledrm), which the kernel puts below the function from 6.9 on.
 */
static int read_framebuffer(int sys, struct function *f, const char *component)
{
	char target[TARGET_MAX];
	uint64_t firmware;
	unsigned number;
	int r = has_fbcon(sys);

	if (r > 0)
		r = first_framebuffer(sys, &number, target);
	if (r <= 0)
		return r;
	if (strstr(target, component)) {
		snprintf(f->console, sizeof(f->console), "the console is on its framebuffer fb%u",
			 number);
	} else if (!f->driver[0] && strstr(target, "/platform/")) {
		/* A driver of the function's own would have removed the firmware's framebuffer. */
		firmware = firmware_framebuffer(sys);
		if (firmware && has_memory_at(sys, f, firmware)) {
			f->boot_vga = true;
			snprintf(f->console, sizeof(f->console),
				 "the console is on the firmware's framebuffer fb%u in its memory",
				 number);
		}
	}
	return 0;
}

static int read_display(int sys, struct function *f, const struct search *below)
{
	struct search connectors = *below;
	bool boot_display;
	char name[48];
	int r = read_flag(sys, f, "boot_vga", &f->boot_vga);

	if (r || f->boot_vga)
		return r;
	r = read_flag(sys, f, "boot_display", &boot_display); /* Linux 6.17 */
	if (r)
		return r;
	if (boot_display) {
		f->boot_vga = true;
		strcpy(f->console, "it is the boot display");
		return 0;
	}
	connectors.directory = "class/drm";
	connectors.counts = connector_is_on;
	r = find_below(&connectors, name, sizeof(name));
	if (r > 0) {
		const char *dash = strchr(name, '-'); /* "card0-eDP-1" */

		snprintf(f->console, sizeof(f->console), "its connector %.40s is connected and on",
			 dash ? dash + 1 : name);
	}
	return r ? (r < 0 ? r : 0) : read_framebuffer(sys, f, below->component);
}

/* ---- the console's keyboard ---- */

static bool is_keyboard(int sys, const char *name)
{
	char text[256];
	const char *last;

	/* The lowest word has the keys 0 to 31: a keyboard has all but 0, as udev finds, too. */
	if (strncmp(name, "input", 5) != 0 ||
	    !attribute_of(sys, text, sizeof(text), "class/input", name, "capabilities/key"))
		return false;
	last = strrchr(text, ' ');
	return (strtoull(last ? last + 1 : text, NULL, 16) & 0xfffffffe) == 0xfffffffe;
}

/*
 * Says whether all keyboards of the host are behind this USB controller. One that a program made
 * (below /sys/devices/virtual, uinput) counts for none. A host without a keyboard loses none.
 */
static int read_keyboard(int sys, struct function *f, const char *component)
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "class/input");
	struct directory dir = DIRECTORY(fd);
	char target[TARGET_MAX];
	bool here = false;
	const char *entry;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while ((entry = directory_next(&dir))) {
		int r = read_target(fd, entry, target);

		if (r < 0)
			return r;
		if (!r || strstr(target, "/virtual/") || !is_keyboard(sys, entry))
			continue;
		if (!strstr(target, component))
			return 0;
		here = true;
	}
	if (here)
		strcpy(f->console, "the host's only keyboard is behind it");
	return dir.error;
}

/* ---- what its driver has made of it ---- */

static bool net_is_up(int sys, const char *name)
{
	char text[32];

	if (!attribute_of(sys, text, sizeof(text), "class/net", name, "flags"))
		return true; /* not known: refuse rather than cut off the host */
	return strtoul(text, NULL, 16) & IFF_UP;
}

/*
 * Returns true if a port of an RDMA device is InfiniBand's or Omni-Path's. One on Ethernet is as
 * much in use as its network interface. The port's state would say more, but only its firmware
 * knows that, and its driver waits for the answer.
 */
static bool is_infiniband(int sys, const char *name)
{
	char text[32];

	for (unsigned port = 1; port <= 4; port++) {
		int r = sysfs_read_text(sysfs_open(sys, O_RDONLY,
						   "class/infiniband/%s/ports/%u/link_layer", name,
						   port),
					text, sizeof(text));

		if (r == -ENOENT)
			break;
		if (r || strcmp(text, "Ethernet") != 0)
			return true;
	}
	return false;
}

/* Block devices count whether mounted or not, which sysfs does not show. */
static const struct use {
	const char *directory;
	bool (*counts)(int sys, const char *name);
	const char *before, *after; /* of the device's name */
} uses[] = {
	{ "class/net", net_is_up, "network interface ", " is up" },
	{ "class/block", NULL, "disk ", " is on it" },
	{ "class/scsi_tape", NULL, "tape drive ", " is on it" },
	{ "class/scsi_changer", NULL, "tape library ", " is on it" },
	{ "class/enclosure", NULL, "disk enclosure ", " is on it" },
	{ "bus/dax/devices", NULL, "memory device ", " is on it" },
	{ "bus/cxl/devices", NULL, "memory device ", " is on it" },
	{ "class/infiniband", is_infiniband, "InfiniBand device ", " is on it" },
};

/*
 * Returns 1 if the directory is there and shows nothing: then all that is in it belongs to another
 * network namespace, since the kernel removes the directory with its last entry. Else 0, or -errno.
 */
static int is_elsewhere(int root, const char *path)
{
	cleanup_fd int fd = sysfs_open(root, O_RDONLY | O_DIRECTORY, "%s", path);
	struct directory dir = DIRECTORY(fd);

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd;
	return directory_next(&dir) ? 0 : dir.error ? dir.error : 1;
}

/*
 * Looks for network interfaces in another network namespace, a container's: class/net shows those
 * of this process' own. They are below the function or below its virtio device.
 */
static int find_elsewhere(int sys, const struct function *f)
{
	cleanup_fd int own = sysfs_function_open(sys, &f->address, O_RDONLY | O_DIRECTORY, "");
	struct directory dir = DIRECTORY(own);
	const char *entry;
	char path[48];
	int r;

	if (own < 0)
		return own;
	r = is_elsewhere(own, "net");
	if (!r) /* wireless: the radio itself is in a namespace, with or without interfaces */
		r = is_elsewhere(own, "ieee80211");
	while (!r && (entry = directory_next(&dir))) {
		if (strncmp(entry, "virtio", 6) != 0 || strlen(entry) > 32)
			continue;
		snprintf(path, sizeof(path), "%.32s/net", entry);
		r = is_elsewhere(own, path);
	}
	return r ? r : dir.error;
}

/* The same behind a USB controller. */
static int find_elsewhere_usb(int sys, const char *component)
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "bus/usb/devices");
	struct directory dir = DIRECTORY(fd);
	char target[TARGET_MAX], path[80];
	const char *entry;
	int r = 0;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while (!r && (entry = directory_next(&dir))) {
		if (!strchr(entry, ':') || strlen(entry) > 32) /* the interfaces, "1-2:1.0" */
			continue;
		r = read_target(fd, entry, target);
		if (r < 0)
			return r;
		snprintf(path, sizeof(path), "bus/usb/devices/%.32s/net", entry);
		r = r && strstr(target, component) ? is_elsewhere(sys, path) : 0;
	}
	return r ? r : dir.error;
}

/* Reads what is below a function that a host driver has. */
static int read_made(int sys, struct function *f, const struct search *below)
{
	char name[48];
	int r = 0;

	for (size_t i = 0; !r && i < ARRAY_SIZE(uses); i++) {
		struct search search = *below;

		search.directory = uses[i].directory;
		search.counts = uses[i].counts;
		r = find_below(&search, name, sizeof(name));
		if (r > 0)
			snprintf(f->in_use, sizeof(f->in_use), "%s%s%s", uses[i].before, name,
				 uses[i].after);
	}
	if (r)
		return r;
	r = find_elsewhere(sys, f);
	if (!r && f->class_code >> 8 == CLASS_USB)
		r = find_elsewhere_usb(sys, below->component);
	if (r > 0)
		strcpy(f->in_use, "a network interface of it is in another network namespace");
	return r;
}

/* ---- all of it ---- */

int inuse_read(int sys, struct function *f)
{
	struct search below = { .sys = sys };
	char text[PCI_ADDRESS_TEXT], name[64];
	cleanup_fd int dir = -1;
	int r = 0;

	snprintf(below.component, sizeof(below.component), "/%s/",
		 pci_address_format(&f->address, text));
	if (class_is_display(f->class_code))
		r = read_display(sys, f, &below);
	else if (f->class_code >> 8 == CLASS_USB)
		r = read_keyboard(sys, f, below.component);
	/* Without a driver of the host's, nothing is below the function. */
	if (!r && f->driver[0] && !driver_is_vfio(f->driver))
		r = read_made(sys, f, &below);
	if (r)
		return r < 0 ? r : 0;
	/* Not sriov_numvfs: reading it takes the device's lock. */
	dir = sysfs_function_open(sys, &f->address, O_PATH | O_DIRECTORY, "");
	if (dir < 0)
		return dir;
	r = sysfs_read_link(dir, "virtfn0", name, sizeof(name));
	if (!r)
		strcpy(f->in_use, "it has virtual functions");
	if (r != -ENOENT)
		return r;
	/* Its driver would wait for the holder of one of them. */
	r = mdev_has_any(sys, &f->address);
	if (r > 0)
		strcpy(f->in_use, "it has mediated devices");
	if (r || !f->driver[0] || driver_is_vfio(f->driver))
		return r < 0 ? r : 0;
	r = sysfs_has_vfio(sys, &f->address);
	if (r > 0)
		strcpy(f->in_use, "its driver has made a vGPU of it");
	return r < 0 ? r : 0;
}
