/* SPDX-License-Identifier: MIT */
/*
 * Reads PCI functions and IOMMU groups from sysfs, see pci.h: for the core before it acts and for
 * gpubroker(1) when it explains. It copies everything into fixed sizes, or refuses.
 *
 * It must never wait: it reads no attribute for which the kernel takes the device's lock
 * (driver_override, sriov_numvfs, and in some versions uevent), since a driver that hangs in its
 * probe or remove holds that lock.
 */
#include "config.h"

#include "client/host/pci.h"
#include "client/host/directory.h"
#include "client/host/inuse.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

int sysfs_group_of(int sys, const struct pci_address *address, uint32_t *ret_group)
{
	cleanup_fd int dir = sysfs_function_open(sys, address, O_PATH | O_DIRECTORY, "");

	if (dir < 0)
		return dir == -ENOENT ? -ENODEV : dir;
	return sysfs_group_below(dir, ret_group);
}

int sysfs_cdev_of(int sys, const char *device, uint32_t *ret_number)
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "%s/vfio-dev", device);
	struct directory dir = DIRECTORY(fd);
	const char *name;

	if (fd < 0)
		return fd;
	while ((name = directory_next(&dir))) {
		unsigned long number;
		char *end;

		if (strncmp(name, "vfio", 4) != 0 || name[4] < '0' || name[4] > '9')
			continue;
		number = strtoul(name + 4, &end, 10);
		if (*end || number > UINT32_MAX)
			continue;
		*ret_number = (uint32_t)number;
		return 0;
	}
	return dir.error ? dir.error : -ENOENT;
}

static int driver_of(int dir, char *out, size_t size)
{
	int r = sysfs_read_link(dir, "driver", out, size);

	if (r == -ENOENT) {
		out[0] = '\0';
		return 0;
	}
	return r;
}

int sysfs_driver_read(int sys, const struct pci_address *address,
		      char ret_driver[FUNCTION_NAME_MAX])
{
	cleanup_fd int dir = sysfs_function_open(sys, address, O_PATH | O_DIRECTORY, "");
	int r;

	/* -ENODEV only for a function that does not exist, since callers forget it then. */
	if (dir == -ENOENT)
		return -ENODEV;
	r = dir < 0 ? dir : driver_of(dir, ret_driver, FUNCTION_NAME_MAX);
	return r == -ENODEV ? -EIO : r;
}

/*
 * Reads the path from the root bus: "../../../devices/pci0000:00/0000:00:10.0/0000:01:00.0" becomes
 * "pci0000:00/10.0/00.0", without bus numbers, since they change when a card is added.
 */
static void read_path(int sys, const struct pci_address *address, char *out, size_t size)
{
	char link[64], target[1024], text[PCI_ADDRESS_TEXT];
	char *part, *state = NULL;
	size_t used = 0;
	ssize_t n;

	out[0] = '\0';
	snprintf(link, sizeof(link), "bus/pci/devices/%s", pci_address_format(address, text));
	n = readlinkat(sys, link, target, sizeof(target) - 1);
	if (n <= 0)
		return;
	target[n] = '\0';
	for (part = strtok_r(target, "/", &state); part; part = strtok_r(NULL, "/", &state)) {
		struct pci_address step;
		int added = 0;

		if (!strncmp(part, "pci", 3)) {
			used = 0; /* with nested host bridges (VMD), the nearest */
			added = snprintf(out, size, "%s", part);
		} else if (used && !pci_address_parse(part, &step))
			added = snprintf(out + used, size - used, "/%02x.%x", step.device,
					 step.function);
		if (added < 0 || (size_t)added >= size - used) {
			out[0] = '\0'; /* a truncated path would name something else */
			return;
		}
		used += (size_t)added;
	}
}

/*
 * Reads the Device Serial Number, from the attribute that Linux has from 6.18 on, for root. To read
 * it from configuration space would take CAP_SYS_ADMIN. Vital product data is not read, since that
 * is slow in hardware and hangs on some.
 */
static void read_serial(int dir, struct function *f)
{
	int r = sysfs_read_text(sysfs_open(dir, O_RDONLY, "serial_number"), f->serial,
				sizeof(f->serial));

	if (r) {
		f->serial[0] = '\0';
		/* No file: an older kernel, or a function without a number; nothing tells which. */
		f->serial_unknown = true;
		return;
	}
	for (char *p = f->serial; *p; p++)
		if (*p >= 'A' && *p <= 'F')
			*p = (char)(*p - 'A' + 'a');
}

/* By its links, since reading sriov_numvfs takes the device's lock. */
int sysfs_vfs_read(int sys, const struct pci_address *physfn, struct pci_address *ret_vfs,
		   size_t max)
{
	cleanup_fd int fd = sysfs_function_open(sys, physfn, O_RDONLY | O_DIRECTORY, "");
	struct directory dir = DIRECTORY(fd);
	const char *entry;
	char name[32];
	int n = 0;

	if (fd < 0)
		return fd == -ENOENT ? -ENODEV : fd;
	while (n < INT_MAX && (entry = directory_next(&dir))) {
		struct pci_address vf;

		if (strncmp(entry, "virtfn", 6) != 0 ||
		    sysfs_read_link(fd, entry, name, sizeof(name)) || pci_address_parse(name, &vf))
			continue;
		if ((size_t)n < max)
			ret_vfs[n] = vf;
		n++;
	}
	return dir.error ? dir.error : n;
}

/* Reads its part in SR-IOV: its PF if it is a VF, or how many VFs it has and can have. */
static int read_sriov(int sys, int dir, struct function *f)
{
	char name[32];
	int r = sysfs_read_link(dir, "physfn", name, sizeof(name)), n;

	if (!r) {
		f->is_vf = true;
		return pci_address_parse(name, &f->physfn);
	}
	if (r != -ENOENT)
		return r;
	r = sysfs_number_below(dir, "sriov_totalvfs", 10, &f->vfs_total);
	if (r || !f->vfs_total)
		return r == -ENOENT ? 0 : r;
	n = sysfs_vfs_read(sys, &f->address, NULL, 0);
	if (n < 0)
		return n;
	f->vfs = (uint32_t)n;
	return 0;
}

/*
 * Returns 1 if the kernel has found the header of a bridge in its configuration space: only then it
 * makes this file (pci_bridge_attrs_are_visible() in pci-sysfs.c). VFIO takes no such function.
 * Reading the header itself would wake the device, and wait for a driver that hangs.
 */
static int has_bridge_header(int dir)
{
	cleanup_fd int fd = sysfs_open(dir, O_PATH, "secondary_bus_number");

	return fd == -ENOENT ? 0 : fd < 0 ? fd : 1;
}

static int read_bridge(int dir, struct function *f)
{
	int r = class_is_bridge(f->class_code) ? 1 : has_bridge_header(dir);

	f->is_bridge = r > 0;
	return r < 0 ? r : 0;
}

/* vfio-pci enables a function for its first holder, and disables it after the last. */
int sysfs_opened(int sys, const struct pci_address *address)
{
	uint32_t enabled = 0;
	int r = sysfs_read_number(sys, address, "enable", 10, &enabled);

	return r == -ENOENT ? 0 : r ? r : enabled > 0;
}

/* Reads how the host uses a function, or who else does. Its ids are known. */
static int read_users(int sys, struct function *f)
{
	int r = inuse_read(sys, f);

	if (!r && driver_is_vfio(f->driver))
		r = sysfs_opened(sys, &f->address);
	f->opened = r > 0;
	return r < 0 ? r : 0;
}

/* Takes a number of so many digits after a word. Returns what follows; NULL if they differ. */
static const char *take_hex(const char *text, const char *word, unsigned digits, uint32_t *ret)
{
	const size_t n = strlen(word);
	uint32_t value = 0;

	if (!text || strncmp(text, word, n) != 0)
		return NULL;
	for (text += n; digits--; text++) {
		const char c = *text;

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint32_t)(c - '0');
		else if (c >= 'A' && c <= 'F')
			value = value << 4 | (uint32_t)(c - 'A' + 10);
		else
			return NULL;
	}
	*ret = value;
	return text;
}

struct ids {
	uint32_t vendor, device, subsystem_vendor, subsystem_device;
	uint32_t class_code;
};

/*
 * Reads all ids from `modalias`, one file for five: modalias_show() in pci-sysfs.c prints the same
 * fields. Returns false for another form, and for a tree that does not have it.
 */
static bool read_modalias(int dir, struct ids *ids)
{
	uint32_t base, sub, interface;
	char text[96];
	const char *rest = text;

	if (sysfs_read_text(sysfs_open(dir, O_RDONLY, "modalias"), text, sizeof(text)))
		return false;
	rest = take_hex(rest, "pci:v", 8, &ids->vendor);
	rest = take_hex(rest, "d", 8, &ids->device);
	rest = take_hex(rest, "sv", 8, &ids->subsystem_vendor);
	rest = take_hex(rest, "sd", 8, &ids->subsystem_device);
	rest = take_hex(rest, "bc", 2, &base);
	rest = take_hex(rest, "sc", 2, &sub);
	rest = take_hex(rest, "i", 2, &interface);
	if (!rest || *rest)
		return false;
	ids->class_code = base << 16 | sub << 8 | interface;
	return true;
}

static int read_ids(int dir, struct function *f)
{
	struct ids ids;
	int r;

	if (!read_modalias(dir, &ids) &&
	    ((r = sysfs_number_below(dir, "vendor", 16, &ids.vendor)) ||
	     (r = sysfs_number_below(dir, "device", 16, &ids.device)) ||
	     (r = sysfs_number_below(dir, "subsystem_vendor", 16, &ids.subsystem_vendor)) ||
	     (r = sysfs_number_below(dir, "subsystem_device", 16, &ids.subsystem_device)) ||
	     (r = sysfs_number_below(dir, "class", 16, &ids.class_code))))
		return r;
	f->vendor = (uint16_t)ids.vendor;
	f->device = (uint16_t)ids.device;
	f->subsystem_vendor = (uint16_t)ids.subsystem_vendor;
	f->subsystem_device = (uint16_t)ids.subsystem_device;
	f->class_code = ids.class_code;
	return 0;
}

int sysfs_function_read_ids(int sys, const struct pci_address *address,
			    struct function *ret_function)
{
	cleanup_fd int dir = sysfs_function_open(sys, address, O_PATH | O_DIRECTORY, "");
	struct function f = { .address = *address };
	int r;

	if (dir < 0)
		return dir == -ENOENT ? -ENODEV : dir;
	if ((r = read_ids(dir, &f)) || (r = sysfs_group_below(dir, &f.iommu_group)) ||
	    (r = driver_of(dir, f.driver, sizeof(f.driver))))
		return r;
	read_path(sys, address, f.path, sizeof(f.path));
	read_serial(dir, &f);
	r = read_bridge(dir, &f);
	if (!r)
		r = read_sriov(sys, dir, &f);
	if (r)
		return r;
	*ret_function = f;
	return 0;
}

int sysfs_function_read(int sys, const struct pci_address *address, struct function *ret_function)
{
	struct function f;
	int r = sysfs_function_read_ids(sys, address, &f);

	if (!r)
		r = read_users(sys, &f);
	if (!r)
		*ret_function = f;
	return r;
}

/*
 * Inserts a function in the order of addresses. Not qsort(), which for more than a kilobyte asks
 * glibc's sysinfo() how much memory there is, and so would need a row in the core's filter.
 */
static void insert_function(struct group_view *view, const struct function *function)
{
	size_t i = view->n_functions++;

	for (; i && pci_address_compare(&view->functions[i - 1].address, &function->address) > 0;
	     i--)
		view->functions[i] = view->functions[i - 1];
	view->functions[i] = *function;
}

/* Counts a member of a group that has too many: what it is does not matter any more. */
static int count_member(int sys, const struct pci_address *address, size_t *n)
{
	cleanup_fd int dir = sysfs_function_open(sys, address, O_PATH | O_DIRECTORY, "");
	struct function f = { .address = *address };
	int r = dir < 0 ? dir : sysfs_number_below(dir, "class", 16, &f.class_code);

	if (!r)
		r = read_bridge(dir, &f);
	if (!r && !f.is_bridge)
		++*n;
	return r;
}

/* `n` counts the functions that are no bridges, also those for which the view has no room. */
static int add_member(int sys, const char *name, struct group_view *view, size_t *n)
{
	struct pci_address address;
	struct function f;
	int r;

	if (pci_address_parse(name, &address)) {
		snprintf(view->not_viable, sizeof(view->not_viable),
			 "has %.40s, which is no PCI function", name);
		return 0;
	}
	if (*n >= FUNCTIONS_MAX)
		return count_member(sys, &address, n);
	r = sysfs_function_read_ids(sys, &address, &f);
	if (r)
		return r;
	if (f.is_bridge) {
		if (bridge_spoils_group(f.driver)) {
			snprintf(view->not_viable, sizeof(view->not_viable),
				 ", a bridge that the host runs with %s", f.driver);
			view->blocker = address;
			view->has_blocker = true;
		}
		return 0;
	}
	insert_function(view, &f);
	++*n;
	return 0;
}

int sysfs_group_read_ids(int sys, uint32_t group, struct group_view *ret_view)
{
	cleanup_fd int fd =
		sysfs_open(sys, O_RDONLY | O_DIRECTORY, "kernel/iommu_groups/%u/devices", group);
	struct directory dir = DIRECTORY(fd);
	const char *entry;
	char name[32];
	size_t n = 0;
	int r;

	if (fd < 0)
		return fd == -ENOENT ? -ENODEV : fd;
	memset(ret_view, 0, sizeof(*ret_view));
	ret_view->group = group;
	/* enable_unsafe_noiommu_mode makes groups that isolate nothing; only this name shows it. */
	r = sysfs_read_text(sysfs_open(sys, O_RDONLY, "kernel/iommu_groups/%u/name", group), name,
			    sizeof(name));
	if (!r && !strcmp(name, "vfio-noiommu"))
		strcpy(ret_view->not_viable, "is a no-IOMMU group, which isolates nothing");
	if (r == -ENOENT || r == -E2BIG) /* no name, or another one */
		r = 0;
	while (!r && (entry = directory_next(&dir)))
		r = add_member(sys, entry, ret_view, &n);
	if (r || dir.error)
		return r ? r : dir.error;
	if (n > FUNCTIONS_MAX) {
		group_say_too_many(ret_view, n);
		return -E2BIG;
	}
	return 0;
}

int sysfs_group_members(int sys, uint32_t group, struct pci_address *ret_members, size_t max)
{
	cleanup_fd int fd =
		sysfs_open(sys, O_RDONLY | O_DIRECTORY, "kernel/iommu_groups/%u/devices", group);
	struct directory dir = DIRECTORY(fd);
	const char *entry;
	int n = 0;

	if (fd < 0)
		return fd == -ENOENT ? -ENODEV : fd;
	while (n < INT_MAX && (entry = directory_next(&dir))) {
		struct pci_address address;

		if (pci_address_parse(entry, &address))
			continue;
		if ((size_t)n < max)
			ret_members[n] = address;
		n++;
	}
	return dir.error ? dir.error : n;
}

int sysfs_is_bridge(int sys, const struct pci_address *address)
{
	cleanup_fd int dir = sysfs_function_open(sys, address, O_PATH | O_DIRECTORY, "");
	uint32_t class_code;
	int r = dir < 0 ? dir : sysfs_number_below(dir, "class", 16, &class_code);

	if (r)
		return r == -ENOENT ? -ENODEV : r;
	return class_is_bridge(class_code) ? 1 : has_bridge_header(dir);
}

int sysfs_group_read_use(int sys, struct group_view *view)
{
	int r = 0;

	for (size_t i = 0; !r && i < view->n_functions; i++)
		r = read_users(sys, &view->functions[i]);
	return r;
}

int sysfs_group_read(int sys, uint32_t group, struct group_view *ret_view)
{
	int r = sysfs_group_read_ids(sys, group, ret_view);

	return r ? r : sysfs_group_read_use(sys, ret_view);
}

int sysfs_groups(int sys, uint32_t *ret_groups, size_t max)
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "kernel/iommu_groups");
	struct directory dir = DIRECTORY(fd);
	const char *entry;
	int n = 0;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while (n < INT_MAX && (entry = directory_next(&dir))) {
		char *end;
		unsigned long group = strtoul(entry, &end, 10);

		if (*end || end == entry || group >= NO_GROUP)
			continue;
		if ((size_t)n < max)
			ret_groups[n] = (uint32_t)group;
		n++;
	}
	return dir.error ? dir.error : n;
}
