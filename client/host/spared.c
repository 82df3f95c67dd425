/* SPDX-License-Identifier: MIT */
/* See spared.h. Reads sysfs and changes nothing. */
#include "config.h"

#include "client/host/spared.h"
#include "client/host/directory.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define MEMBERS_MAX 256

static int add_spared(struct spared *spared, const struct function *function)
{
	struct function *list = reallocarray(spared->list, spared->n + 1, sizeof(*list));
	size_t i;

	if (!list)
		return -ENOMEM;
	spared->list = list;
	for (i = spared->n++;
	     i && pci_address_compare(&list[i - 1].address, &function->address) > 0; i--)
		list[i] = list[i - 1];
	list[i] = *function;
	return 0;
}

/* Adds the functions of a group that has this display. */
static int add_group_of(int sys, struct spared *spared, const struct function *display)
{
	struct pci_address members[MEMBERS_MAX];
	int n = sysfs_group_members(sys, display->iommu_group, members, ARRAY_SIZE(members)), r = 0;

	for (int i = 0; !r && i < n && i < MEMBERS_MAX; i++) {
		struct function member;

		/* One that cannot be read has gone, or is the daemon's to judge. */
		if (pci_address_compare(&members[i], &display->address) &&
		    !sysfs_is_bridge(sys, &members[i]) &&
		    !sysfs_function_read(sys, &members[i], &member))
			r = add_spared(spared, &member);
	}
	return r;
}

int spared_read(int sys, struct spared *spared)
{
	cleanup_fd int fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "bus/pci/devices");
	struct directory dir = DIRECTORY(fd);
	const char *name;
	int r = 0;

	*spared = (struct spared){ 0 };
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while (!r && (name = directory_next(&dir))) {
		struct pci_address address;
		struct function display;
		uint32_t class_code;

		if (pci_address_parse(name, &address) ||
		    sysfs_read_number(sys, &address, "class", 16, &class_code) ||
		    !class_is_display(class_code) || sysfs_function_read(sys, &address, &display) ||
		    !display.boot_vga || display.iommu_group == NO_GROUP)
			continue;
		if (display.console[0]) /* else udev sees it by its boot_vga */
			r = add_spared(spared, &display);
		if (!r)
			r = add_group_of(sys, spared, &display);
	}
	if (!r)
		r = dir.error;
	if (r)
		spared_done(spared);
	return r;
}

void spared_done(struct spared *spared)
{
	free(spared->list);
	*spared = (struct spared){ 0 };
}
