/* SPDX-License-Identifier: MIT */
/*
 * The watcher: reads PCI functions from sysfs, takes their names from libudev's hardware database,
 * receives the kernel's uevents through libnl, and sends the core fixed-size records. It runs as
 * the helpers' account and may only read.
 *
 * It must never trust an event to be true or complete: an event only says where to look, and after
 * a lost one it looks everywhere. It must not look while more events wait: what it reads is the
 * present state, so a thousand events for a function need only one look.
 */
#include "config.h"

#include "brokerd/helper/watcher.h"
#include "brokerd/helper/helper.h"
#include "brokerd/helper/uevent.h"
#include "brokerd/process/filter.h"
#include "brokerd/process/log.h"
#include "brokerd/state/devices.h"
#include "client/host/aliases.h"
#include "client/host/directory.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <libudev.h>
#include <linux/netlink.h>
#include <malloc.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sysexits.h>

#define KERNEL_GROUP 1 /* the kernel's own uevents; udevd's repetitions are group 2 */
#define BUFFER (8 << 20)
#define RESERVE (512 << 10) /* bytes of memory, for messages and kinds of devices */
/* Events read in a row, so that an endless stream does not keep the watcher from looking. */
#define EVENT_BURST 4096
#define EVENT_MAX 8192 /* the kernel's are at most 2 KiB and their path */
#define GATHER_MS 10
#define KINDS_MAX 1024 /* kinds that are remembered; others are looked up each time */

/*
 * The names and the variant driver of functions of one kind, from the databases; fixed while the
 * watcher runs.
 */
struct kind {
	char modalias[80];
	char vendor_name[sizeof(((struct watcher_record *)NULL)->vendor_name)];
	char model[sizeof(((struct watcher_record *)NULL)->model)];
	char vfio_driver[sizeof(((struct watcher_record *)NULL)->vfio_driver)];
};

struct watcher {
	int core;
	int sys;
	struct aliases aliases; /* read once; a new module needs a restart */
	struct udev *udev;
	struct udev_hwdb *hwdb; /* NULL: the system has none, so `list` shows ids as numbers */
	struct nl_sock *netlink;
	struct kind *kinds;
	size_t n_kinds;
	struct uevent_marks marks; /* events since the last look */
};

static void copy_property(char *out, size_t size, const char *text)
{
	snprintf(out, size, "%.*s", (int)size - 1, text ? text : "");
}

static void name_from_hwdb(const struct watcher *watcher, struct kind *kind)
{
	struct udev_list_entry *entry;

	if (!watcher->hwdb)
		return;
	udev_list_entry_foreach(entry, udev_hwdb_get_properties_list_entry(watcher->hwdb,
									   kind->modalias, 0)) {
		const char *key = udev_list_entry_get_name(entry);

		if (!strcmp(key, "ID_VENDOR_FROM_DATABASE"))
			copy_property(kind->vendor_name, sizeof(kind->vendor_name),
				      udev_list_entry_get_value(entry));
		else if (!strcmp(key, "ID_MODEL_FROM_DATABASE"))
			copy_property(kind->model, sizeof(kind->model),
				      udev_list_entry_get_value(entry));
	}
}

/*
 * Finds the kind of a function, by the alias that the kernel has for it (pci_uevent() in
 * pci-driver.c). The look-up costs more than reading the function, and a claim and its end make
 * four events, so kinds are remembered.
 */
static void kind_of(struct watcher *watcher, const struct function *f, struct kind *ret_kind)
{
	struct kind kind = { 0 }, *kinds;

	snprintf(kind.modalias, sizeof(kind.modalias),
		 "pci:v%08Xd%08Xsv%08Xsd%08Xbc%02Xsc%02Xi%02X", (unsigned)f->vendor,
		 (unsigned)f->device, (unsigned)f->subsystem_vendor, (unsigned)f->subsystem_device,
		 (unsigned)(f->class_code >> 16 & 0xff), (unsigned)(f->class_code >> 8 & 0xff),
		 (unsigned)(f->class_code & 0xff));
	for (size_t i = 0; i < watcher->n_kinds; i++) {
		if (!strcmp(watcher->kinds[i].modalias, kind.modalias)) {
			*ret_kind = watcher->kinds[i];
			return;
		}
	}
	name_from_hwdb(watcher, &kind);
	copy_property(kind.vfio_driver, sizeof(kind.vfio_driver),
		      aliases_find(&watcher->aliases, kind.modalias));
	*ret_kind = kind;
	if (watcher->n_kinds == KINDS_MAX)
		return;
	kinds = reallocarray(watcher->kinds, watcher->n_kinds + 1, sizeof(*kinds));
	if (!kinds)
		return;
	watcher->kinds = kinds;
	kinds[watcher->n_kinds++] = kind;
}

static int send_type(const struct watcher *watcher, enum watcher_record_type type)
{
	const struct watcher_record record = { .type = type };

	return helper_send(watcher->core, &record, sizeof(record));
}

static void fill_record(struct watcher *watcher, const struct function *f,
			struct watcher_record *record)
{
	struct kind kind;

	record->type = WATCHER_DEVICE;
	record->vendor = f->vendor;
	record->device = f->device;
	record->subsystem_vendor = f->subsystem_vendor;
	record->subsystem_device = f->subsystem_device;
	record->class_code = f->class_code;
	record->group = f->iommu_group;
	record->boot_vga = f->boot_vga || (class_is_display(f->class_code) && f->console[0]);
	record->is_bridge = f->is_bridge;
	record->is_vf = f->is_vf;
	record->physfn = f->physfn;
	record->vfs_total = f->vfs_total;
	memcpy(record->driver, f->driver, sizeof(record->driver));
	memcpy(record->path, f->path, sizeof(record->path));
	kind_of(watcher, f, &kind);
	memcpy(record->vendor_name, kind.vendor_name, sizeof(record->vendor_name));
	memcpy(record->model, kind.model, sizeof(record->model));
	memcpy(record->vfio_driver, kind.vfio_driver, sizeof(record->vfio_driver));
}

/* Reads one function and sends the core its record. */
static int look_at_function(struct watcher *watcher, const struct pci_address *address)
{
	struct watcher_record record = { .type = WATCHER_GONE, .address = *address };
	struct function function;
	int r = sysfs_function_read(watcher->sys, address, &function);

	if (!r) {
		fill_record(watcher, &function, &record);
	} else if (r != -ENODEV) {
		char text[PCI_ADDRESS_TEXT];

		log_warning("watcher: %s cannot be read: %s", pci_address_format(address, text),
			    strerror(-r));
	}
	return helper_send(watcher->core, &record, sizeof(record));
}

static int scan_all(struct watcher *watcher)
{
	cleanup_fd int fd = sysfs_open(watcher->sys, O_RDONLY | O_DIRECTORY, "bus/pci/devices");
	struct directory dir = DIRECTORY(fd);
	struct pci_address address;
	const char *name;
	int r;

	if (fd < 0 && fd != -ENOENT)
		return fd;
	r = send_type(watcher, WATCHER_SCAN);
	while (!r && fd >= 0 && (name = directory_next(&dir)))
		if (!pci_address_parse(name, &address))
			r = look_at_function(watcher, &address);
	if (!r)
		r = dir.error;
	return r ? r : send_type(watcher, WATCHER_SCANNED);
}

/*
 * Reads the events that wait. After an error all functions are looked at. Not nl_recv(), which
 * allocates and clears a buffer of the largest size for each of them.
 */
static void drain_events(struct watcher *watcher)
{
	static char text[EVENT_MAX];

	for (int i = 0; i < EVENT_BURST; i++) {
		struct sockaddr_nl from = { 0 };
		struct iovec data = { text, sizeof(text) };
		struct msghdr message = { .msg_name = &from,
					  .msg_namelen = sizeof(from),
					  .msg_iov = &data,
					  .msg_iovlen = 1 };
		ssize_t n = recvmsg(nl_socket_get_fd(watcher->netlink), &message, MSG_DONTWAIT);

		if (!n || (n < 0 && errno == EAGAIN))
			return;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || message.msg_flags & MSG_TRUNC) {
			const char *why = n >= 0	     ? "one is too long"
					  : errno == ENOBUFS ? "more than the socket holds"
							     : strerror(errno);

			if (!watcher->marks.everything)
				log_notice("watcher: uevents were lost (%s), looking at all again",
					   why);
			watcher->marks.everything = true;
			continue;
		}
		if (!from.nl_pid) /* from the kernel; root could forge others */
			uevent_take(&watcher->marks, text, (size_t)n);
	}
}

/* Looks at the functions that events have named. Returns 0, or -errno of the core's socket. */
static int look_at_marked(struct watcher *watcher)
{
	int r = 0;

	if (watcher->marks.everything)
		r = scan_all(watcher);
	else
		for (size_t i = 0; !r && i < watcher->marks.n; i++)
			r = look_at_function(watcher, &watcher->marks.list[i]);
	watcher->marks.n = 0;
	watcher->marks.everything = false;
	return r;
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
	 * As much as net.core.rmem_max allows. More needs a capability, and a lost event only costs
	 * a scan.
	 */
	nl_socket_set_buffer_size(watcher->netlink, BUFFER, 0);
	return 0;
}

static int watch_loop(struct watcher *watcher)
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
		if (polls[0].revents) /* the core sends nothing, so it has ended */
			return 0;
		if (polls[1].revents) {
			/*
			 * A claim or its end makes several events of one function, and loading a
			 * driver many: those of a moment are one look.
			 */
			if (poll(polls, 1, GATHER_MS) > 0)
				return 0;
			drain_events(watcher);
			r = look_at_marked(watcher);
		}
	}
	return r;
}

/*
 * Gives back the pages of the hardware database that the first look has read. Devices that come
 * later need few of them, and read these again. libudev does not say where it maps the file.
 */
static void drop_database_pages(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		const char *name = strrchr(line, '/');
		unsigned long from, to;

		if (name && !strcmp(name, "/hwdb.bin\n") &&
		    sscanf(line, "%lx-%lx", &from, &to) == 2)
			madvise((void *)from, to - from, MADV_DONTNEED);
	}
	if (maps)
		fclose(maps);
}

int watcher_run(int socket, struct confine_filter *settled, const void *unused)
{
	struct watcher watcher = { .core = socket };
	void *volatile reserve; /* volatile, so that the compiler does not drop both calls */
	int r;

	(void)unused;
	watcher.udev = udev_new();
	watcher.sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (!watcher.udev || watcher.sys < 0)
		return EX_OSERR;
	r = aliases_add_running(&watcher.aliases);
	if (r)
		log_warning("watcher: the kernel's variant drivers are not all known: %s",
			    strerror(-r));
	watcher.hwdb = udev_hwdb_new(watcher.udev);
	/* Listen first, then look, so that no event in between is missed. */
	r = listen_to_kernel(&watcher);
	if (!r)
		r = scan_all(&watcher);
	drop_database_pages();
	/*
	 * The heap keeps this much and gets no more: devices that are plugged in must not make it
	 * grow.
	 */
	mallopt(M_TRIM_THRESHOLD, 2 * RESERVE);
	reserve = malloc(RESERVE);
	free(reserve);
	if (!r)
		r = filter_apply(settled);
	filter_free(settled);
	if (!r)
		r = watch_loop(&watcher);
	if (r && r != -EPIPE && r != -ECONNRESET)
		log_error("watcher: %s", strerror(-r));
	nl_socket_free(watcher.netlink);
	udev_hwdb_unref(watcher.hwdb);
	udev_unref(watcher.udev);
	fd_close(watcher.sys);
	aliases_done(&watcher.aliases);
	free(watcher.kinds);
	return r ? EX_SOFTWARE : 0;
}
