/* SPDX-License-Identifier: MIT */
/* See spared.h. Changes nothing. */
#include "config.h"

#include "client/host/spared.h"
#include "client/host/directory.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>

#define MEMBERS_MAX 256

static int append_function(struct spared *spared, const struct function *function)
{
	struct function *list = reallocarray(spared->list, spared->n + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	spared->list = list;
	list[spared->n++] = *function;
	return 0;
}

/* Keeps the order by address. */
static int insert_spared(struct spared *spared, const struct function *function)
{
	size_t i;
	int r;

	for (i = spared->n; i; i--) {
		r = pci_address_compare(&spared->list[i - 1].address, &function->address);
		if (!r)
			return 0;
		if (r < 0)
			break;
	}
	r = append_function(spared, function);
	if (r)
		return r;
	for (size_t k = spared->n - 1; k > i; k--)
		spared->list[k] = spared->list[k - 1];
	spared->list[i] = *function;
	return 0;
}

static bool is_boot_display(const struct function *f)
{
	return f->boot_vga && class_is_display(f->class_code) && f->iommu_group != NO_GROUP;
}

int spared_find(const struct function *functions, size_t n, struct spared *ret_spared)
{
	struct spared spared = { 0 };
	int r = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; !r && is_boot_display(&functions[i]) && k < n; k++) {
			if (functions[k].is_bridge ||
			    functions[k].iommu_group != functions[i].iommu_group)
				continue;
			/* udev sees the display itself by its boot_vga, unless it has none. */
			if (k != i || functions[k].console[0])
				r = insert_spared(&spared, &functions[k]);
		}
	if (r) {
		spared_done(&spared);
		return r;
	}
	*ret_spared = spared;
	return 0;
}

/* Reads a display and the functions of its group. */
static int append_group_of(int sys, struct spared *group, const struct function *display)
{
	struct pci_address members[MEMBERS_MAX];
	int n = sysfs_group_members(sys, display->iommu_group, members, ARRAY_SIZE(members)),
	    r = append_function(group, display);

	for (int i = 0; !r && i < n && i < MEMBERS_MAX; i++) {
		struct function member;

		/* One that cannot be read has gone, or is the daemon's to judge. */
		if (pci_address_compare(&members[i], &display->address) &&
		    !sysfs_function_read(sys, &members[i], &member))
			r = append_function(group, &member);
	}
	return r;
}

int spared_read(int sys, struct spared *ret_spared)
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "bus/pci/devices");
	struct directory dir = DIRECTORY(fd);
	struct spared groups = { 0 };
	const char *name;
	int r = 0;

	*ret_spared = (struct spared){ 0 };
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while (!r && (name = directory_next(&dir))) {
		struct pci_address address;
		struct function display;
		uint32_t class_code;

		/* Most functions are no displays, and need not be read whole. */
		if (!pci_address_parse(name, &address) &&
		    !sysfs_read_number(sys, &address, "class", 16, &class_code) &&
		    class_is_display(class_code) && !sysfs_function_read(sys, &address, &display) &&
		    is_boot_display(&display))
			r = append_group_of(sys, &groups, &display);
	}
	if (!r)
		r = dir.error;
	if (!r)
		r = spared_find(groups.list, groups.n, ret_spared);
	spared_done(&groups);
	return r;
}

void spared_done(struct spared *spared)
{
	free(spared->list);
	*spared = (struct spared){ 0 };
}
