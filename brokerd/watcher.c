/* SPDX-License-Identifier: MIT */
/*
 * The watcher: looks at PCI functions through libudev, hears the kernel's uevents through libnl,
 * and tells the core in fixed records. Runs as the helpers' account, may read and nothing else. It
 * must never trust an event to be true or complete: an event only says where to look, and a lost
 * one makes it look everywhere.
 */
#include "config.h"

#include "brokerd/devices.h"
#include "brokerd/helper.h"
#include "brokerd/log.h"
#include "client/aliases.h"
#include "client/sysfs.h"
#include "client/util.h"

#include <errno.h>
#include <fcntl.h>
#include <libudev.h>
#include <linux/netlink.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <poll.h>
#include <string.h>

#define KERNEL_GROUP 1 /* the kernel's own uevents; udevd's repetitions are group 2 */
#define BUFFER (8 << 20)

struct watcher {
	int core;
	int sys;
	struct aliases
		aliases; /* read once; a module that is installed later is known after a restart */
	struct udev *udev;
	struct udev_hwdb *hwdb; /* NULL where the system has none: ids are shown as numbers then */
	struct nl_sock *netlink;
};

static void copy_text(char *out, size_t size, const char *text)
{
	snprintf(out, size, "%.*s", (int)size - 1, text ? text : "");
}

static void name_from_hwdb(const struct watcher *watcher, const char *modalias,
			   struct watcher_record *record)
{
	struct udev_list_entry *entry;

	if (!watcher->hwdb || !modalias)
		return;
	udev_list_entry_foreach(entry,
				udev_hwdb_get_properties_list_entry(watcher->hwdb, modalias, 0)) {
		const char *key = udev_list_entry_get_name(entry);

		if (!strcmp(key, "ID_VENDOR_FROM_DATABASE"))
			copy_text(record->vendor_name, sizeof(record->vendor_name),
				  udev_list_entry_get_value(entry));
		else if (!strcmp(key, "ID_MODEL_FROM_DATABASE"))
			copy_text(record->model, sizeof(record->model),
				  udev_list_entry_get_value(entry));
	}
}

static int tell(const struct watcher *watcher, enum watcher_record_type type)
{
	const struct watcher_record record = { .type = type };

	return helper_send(watcher->core, &record, sizeof(record));
}

static void fill(const struct watcher *watcher, const struct function *f,
		 struct watcher_record *record)
{
	char name[PCI_ADDRESS_TEXT];
	struct udev_device *device;

	record->type = WATCHER_DEVICE;
	record->vendor = f->vendor;
	record->device = f->device;
	record->subsystem_vendor = f->subsystem_vendor;
	record->subsystem_device = f->subsystem_device;
	record->class_code = f->class_code;
	record->group = f->iommu_group;
	record->boot_vga = f->boot_vga;
	memcpy(record->driver, f->driver, sizeof(record->driver));
	memcpy(record->path, f->path, sizeof(record->path));
	/* A fresh one, since libudev remembers what it has read. */
	device = udev_device_new_from_subsystem_sysname(watcher->udev, "pci",
							pci_address_format(&f->address, name));
	if (device) {
		const char *modalias = udev_device_get_sysattr_value(device, "modalias");

		name_from_hwdb(watcher, modalias, record);
		copy_text(record->vfio_driver, sizeof(record->vfio_driver),
			  aliases_find(&watcher->aliases, modalias));
	}
	udev_device_unref(device);
}

/* Looks at one function anew and tells the core what there is. */
static int look(const struct watcher *watcher, const char *name)
{
	struct watcher_record record = { .type = WATCHER_GONE };
	struct function function;
	int r;

	if (pci_address_parse(name, &record.address))
		return 0;
	r = sysfs_function_read(watcher->sys, &record.address, &function);
	if (!r)
		fill(watcher, &function, &record);
	else if (r != -ENODEV)
		log_warning("watcher: %s cannot be read: %s", name, strerror(-r));
	return helper_send(watcher->core, &record, sizeof(record));
}

static int scan(const struct watcher *watcher)
{
	struct udev_enumerate *enumerate = udev_enumerate_new(watcher->udev);
	struct udev_list_entry *entry;
	int r;

	if (!enumerate)
		return -ENOMEM;
	r = udev_enumerate_add_match_subsystem(enumerate, "pci");
	if (r >= 0)
		r = udev_enumerate_scan_devices(enumerate);
	if (r >= 0)
		r = tell(watcher, WATCHER_SCAN);
	if (r >= 0) {
		udev_list_entry_foreach(entry, udev_enumerate_get_list_entry(enumerate)) {
			const char *path = udev_list_entry_get_name(entry),
				   *name = strrchr(path, '/');

			r = name ? look(watcher, name + 1) : 0;
			if (r)
				break;
		}
	}
	udev_enumerate_unref(enumerate);
	return r < 0 ? r : tell(watcher, WATCHER_SCANNED);
}

/*
 * "ACTION@DEVPATH", then KEY=VALUE strings, each with its NUL. Only PCI functions matter here, and
 * of those only which: what is true of it is read from sysfs. A message that does not end in NUL is
 * cut there.
 */
static int take_uevent(const struct watcher *watcher, char *text, size_t size)
{
	const char *slot = NULL;
	bool pci = false;

	if (!size)
		return 0;
	text[size - 1] = '\0';
	for (char *p = text; p < text + size; p += strlen(p) + 1) {
		if (!strcmp(p, "SUBSYSTEM=pci"))
			pci = true;
		else if (!strncmp(p, "PCI_SLOT_NAME=", 14))
			slot = p + 14;
	}
	return pci && slot ? look(watcher, slot) : 0;
}

/*
 * 0, or -errno of the core's socket: what goes wrong with an event is answered by looking at
 * everything.
 */
static int drain(const struct watcher *watcher)
{
	for (;;) {
		struct sockaddr_nl from = { 0 };
		unsigned char *message = NULL;
		int n = nl_recv(watcher->netlink, &from, &message, NULL), r = 0;

		if (n == -NLE_AGAIN || !n)
			return 0;
		if (n < 0) {
			log_notice(
				"watcher: uevents were lost (%s), looking at every function again",
				nl_geterror(n));
			return scan(watcher);
		}
		if (!from.nl_pid) /* the kernel; root could forge others */
			r = take_uevent(watcher, (char *)message, (size_t)n);
		free(message);
		if (r)
			return r;
	}
}

static int listen_to_kernel(struct watcher *watcher)
{
	int r;

	watcher->netlink = nl_socket_alloc();
	if (!watcher->netlink)
		return -ENOMEM;
	nl_socket_disable_seq_check(watcher->netlink);
	nl_join_groups(watcher->netlink, KERNEL_GROUP);
	r = nl_connect(watcher->netlink, NETLINK_KOBJECT_UEVENT);
	if (!r)
		r = nl_socket_set_nonblocking(watcher->netlink);
	if (r) {
		log_error("watcher: cannot listen to uevents: %s", nl_geterror(r));
		return -EIO;
	}
	/*
	 * As much as net.core.rmem_max lets us have; more needs a capability, and a lost event only
	 * costs a scan.
	 */
	nl_socket_set_buffer_size(watcher->netlink, BUFFER, 0);
	nl_socket_set_msg_buf_size(watcher->netlink, 16384);
	return 0;
}

static int loop(const struct watcher *watcher)
{
	struct pollfd polls[] = {
		{ .fd = watcher->core, .events = POLLIN },
		{ .fd = nl_socket_get_fd(watcher->netlink), .events = POLLIN },
	};
	int r = 0;

	while (!r) {
		if (poll(polls, ARRAY_SIZE(polls), -1) < 0) {
			if (errno != EINTR)
				return -errno;
			continue;
		}
		if (polls[0].revents) /* the core says nothing, so this is its end */
			return 0;
		if (polls[1].revents)
			r = drain(watcher);
	}
	return r;
}

int watcher_run(int socket, const void *unused)
{
	struct watcher watcher = { .core = socket };
	int r;

	(void)unused;
	watcher.udev = udev_new();
	watcher.sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (!watcher.udev || watcher.sys < 0)
		return 71;
	r = aliases_add_running(&watcher.aliases);
	if (r)
		log_warning("watcher: the kernel's variant drivers are not all known: %s",
			    strerror(-r));
	watcher.hwdb = udev_hwdb_new(watcher.udev);
	/* Listen first, look then: nothing that happens in between is missed. */
	r = listen_to_kernel(&watcher);
	if (!r)
		r = scan(&watcher);
	if (!r)
		r = loop(&watcher);
	if (r && r != -EPIPE && r != -ECONNRESET)
		log_error("watcher: %s", strerror(-r));
	nl_socket_free(watcher.netlink);
	udev_hwdb_unref(watcher.hwdb);
	udev_unref(watcher.udev);
	fd_close(watcher.sys);
	aliases_done(&watcher.aliases);
	return r ? 70 : 0;
}
