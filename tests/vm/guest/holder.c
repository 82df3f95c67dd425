/* SPDX-License-Identifier: MIT */
/*
 * holder ADDRESS FILE yields|keeps: a VMM without a machine. Takes the function at ADDRESS as QEMU
 * does (group, container, IOMMU, device), writes "has" to FILE, and waits. Where the kernel asks for
 * the device back, FILE gets "asked"; `yields` then lets go of all and ends, as a QEMU whose guest
 * agrees, `keeps` does not, as one whose guest does not. Started by `gpubroker run`, whose
 * descriptors come in place of its own opens.
 */
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char *file;

static void say(const char *text)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0666);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		exit(3);
	close(fd);
}

static void need(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(2);
}

static int group_of(const char *address)
{
	char path[128], target[256], node[64];
	const char *name;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	n = readlink(path, target, sizeof(target) - 1);
	need(n > 0, path);
	target[n] = '\0';
	name = strrchr(target, '/') + 1;
	snprintf(node, sizeof(node), "/dev/vfio/%.20s", name);
	fd = open(node, O_RDWR);
	need(fd >= 0, node);
	return fd;
}

int main(int argc, char **argv)
{
	char space[sizeof(struct vfio_irq_set) + sizeof(int32_t)] = "";
	struct vfio_irq_set *set = (struct vfio_irq_set *)space;
	struct pollfd asked = { .events = POLLIN };
	int container, group, device;

	need(argc == 4, "usage: holder ADDRESS FILE yields|keeps");
	file = argv[2];
	container = open("/dev/vfio/vfio", O_RDWR);
	need(container >= 0, "/dev/vfio/vfio");
	group = group_of(argv[1]);
	need(!ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "VFIO_GROUP_SET_CONTAINER");
	need(!ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "VFIO_SET_IOMMU");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[1]);
	need(device >= 0, "VFIO_GROUP_GET_DEVICE_FD");

	asked.fd = eventfd(0, EFD_CLOEXEC);
	set->argsz = sizeof(space);
	set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	set->index = VFIO_PCI_REQ_IRQ_INDEX;
	set->count = 1;
	memcpy(set->data, &asked.fd, sizeof(int32_t));
	need(!ioctl(device, VFIO_DEVICE_SET_IRQS, set), "VFIO_DEVICE_SET_IRQS");
	say("has\n");
	while (poll(&asked, 1, -1) <= 0)
		;
	say("asked\n");
	if (!strcmp(argv[3], "yields"))
		return 0;
	for (;;)
		pause();
}
