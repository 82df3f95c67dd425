/* SPDX-License-Identifier: MIT */
/*
 * hostile-helpers: gpubrokerd --helper whose loader and watcher say to the core what they should not. The core is the real
 * one; only what runs behind confine_own() is replaced (--wrap), so what is sent comes from a confined, unprivileged process
 * in its unit.
 *
 * /run/gpubroker-hostile/scripts holds a line `loader SCRIPT` or `watcher SCRIPT` for each start to come. A helper that
 * starts takes the first line away if it is for it, and plays the script; otherwise it is honest.
 */
#include "brokerd/helper/loader.h"
#include "brokerd/helper/start.h"
#include "brokerd/helper/watcher.h"
#include "brokerd/process/log.h"
#include "brokerd/state/devices.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SCRIPTS "/run/gpubroker-hostile/scripts"

static char script[64]; /* "": it is honest */

static bool is(const char *name)
{
	return !strcmp(script, name);
}

static void __attribute__((noreturn)) until_the_end(int socket)
{
	struct pollfd p = { .fd = socket };

	while (!(p.revents & (POLLHUP | POLLERR)))
		poll(&p, 1, -1);
	_exit(0);
}

/* Waits for room; where the core is gone there is nothing left to do. */
static void say(int socket, const void *packet, size_t size)
{
	if (helper_send(socket, packet, size))
		_exit(0);
}

static void say_with_descriptors(int socket, const void *packet, size_t size)
{
	const int fds[] = { 0, 1, 2, 2, 2, 2 };

	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		union {
			struct cmsghdr header;
			char space[CMSG_SPACE(sizeof(fds))];
		} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(fds)),
					  .cmsg_level = SOL_SOCKET,
					  .cmsg_type = SCM_RIGHTS } };
		struct iovec iov = { (void *)packet, size };
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};

		memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
		sendmsg(socket, &message, MSG_NOSIGNAL);
	}
}

/* ---- a loader ---- */

static struct loader_record empty(enum loader_record_type type)
{
	struct loader_record record;

	memset(&record, 0, sizeof(record));
	record.type = type;
	return record;
}

static void begin(int socket, uint64_t names, uint64_t files, uint64_t rules, uint64_t texts)
{
	struct loader_record record = empty(LOADER_BEGIN);
	const uint64_t counts[] = { names, files, rules, texts };

	memcpy(record.counts, counts, sizeof(counts));
	say(socket, &record, sizeof(record));
}

static void say_file(int socket)
{
	struct loader_record record = empty(LOADER_FILE);

	strcpy(record.file.path, "/etc/gpubroker/policy.d/10-hostile.policy");
	say(socket, &record, sizeof(record));
}

/* Anybody may claim anything, the console's own display too. */
static struct loader_record allow_all(void)
{
	struct loader_record record = empty(LOADER_RULE);

	record.rule = (struct policy_rule){
		.verb = POLICY_ALLOW,
		.who = POLICY_WHO_ANY,
		.name = POLICY_NO_NAME,
		.match = { POLICY_MATCH_NO_TEXTS },
		.boot_vga = 1,
		.vfio_driver = POLICY_NO_TEXT,
		.line = 1,
		.column = 1,
	};
	return record;
}

static void say_whole(int socket)
{
	const struct loader_record rule = allow_all(), end = empty(LOADER_END);

	begin(socket, 0, 1, 1, 0);
	say_file(socket);
	say(socket, &rule, sizeof(rule));
	say(socket, &end, sizeof(end));
}

/* Reads the core's request of the start, and returns when there is another one to read. */
static void wait_for_reload(int socket)
{
	struct pollfd p = { .fd = socket, .events = POLLIN };
	uint32_t asked;

	for (int i = 0; i < 2; i++) {
		while (poll(&p, 1, -1) < 0)
			;
		if (!i && recv(socket, &asked, sizeof(asked), 0) <= 0)
			_exit(0); /* the core has ended */
	}
}

static void play_loader(int socket, const void *options)
{
	struct loader_record record = allow_all(), end = empty(LOADER_END);
	char large[sizeof(record) + 1] = "";

	if (is("short"))
		say(socket, &record, sizeof(record) - 1);
	else if (is("long"))
		say(socket, large, sizeof(large));
	else if (is("byte"))
		say(socket, large, 1);
	else if (is("type"))
		record.type = 99, say(socket, &record, sizeof(record));
	else if (is("counts"))
		begin(socket, 0, 1, UINT64_MAX / sizeof(record.rule) + 2, 0);
	else if (is("many-begin")) { /* each announces as much as there may be; then an end */
		for (int i = 0; i < 500; i++)
			begin(socket, POLICY_NAMES_MAX, POLICY_FILES_MAX, POLICY_RULES_MAX,
			      POLICY_TEXTS_MAX);
		say(socket, &end, sizeof(end));
	} else if (is("end-first"))
		say(socket, &end, sizeof(end));
	else if (is("rule-first"))
		say(socket, &record, sizeof(record));
	else if (is("after-end")) {
		say_whole(socket);
		say(socket, &record, sizeof(record));
	} else if (is("too-many-rules")) {
		begin(socket, 0, 1, 1, 0);
		say_file(socket);
		say(socket, &record, sizeof(record));
		say(socket, &record, sizeof(record));
	} else if (is("bad-index")) {
		begin(socket, 0, 1, 1, 0);
		say_file(socket);
		record.rule.vfio_driver = 0x7fffffff;
		say(socket, &record, sizeof(record));
	} else if (is("bad-rule")) {
		begin(socket, 0, 1, 1, 0);
		say_file(socket);
		record.rule.verb = 77;
		say(socket, &record, sizeof(record));
	} else if (is("endless-path")) {
		begin(socket, 0, 1, 1, 0);
		record = empty(LOADER_FILE);
		memset(record.file.path, '/', sizeof(record.file.path));
		say(socket, &record, sizeof(record));
	} else if (is("descriptors"))
		say_with_descriptors(socket, &record, sizeof(record));
	else if (is("half")) {
		begin(socket, 0, 1, 1, 0);
		say_file(socket);
		_exit(0);
	} else if (is("late")) {
		/* A million rules are announced, nothing comes; from the next reload on it is honest. */
		begin(socket, 0, 1, POLICY_RULES_MAX, 0);
		wait_for_reload(socket);
		return;
	} else if (is("all-to-all")) {
		say_whole(socket);
	} else if (is("contradicts")) { /* good, none, good, none ... and in the end the honest one's */
		struct loader_record invalid = empty(LOADER_INVALID);

		for (int i = 0; i < 50; i++) {
			say_whole(socket);
			say(socket, &invalid, sizeof(invalid));
		}
		return;
	}
	(void)options;
	until_the_end(socket);
}

/* ---- a watcher ---- */

static struct watcher_record plain(enum watcher_record_type type)
{
	struct watcher_record record;

	memset(&record, 0, sizeof(record));
	record.type = type;
	return record;
}

static void tell(int socket, enum watcher_record_type type)
{
	const struct watcher_record record = plain(type);

	say(socket, &record, sizeof(record));
}

/* An idle GPU, as far as this watcher is concerned. */
static struct watcher_record gpu(uint32_t bus, uint32_t device, uint32_t function, uint32_t group)
{
	struct watcher_record record = plain(WATCHER_DEVICE);

	record.address.bus = (uint8_t)bus;
	record.address.device = (uint8_t)device;
	record.address.function = (uint8_t)function;
	record.vendor = 0x10de;
	record.device = 0x20b0;
	record.class_code = 0x030000;
	record.group = group;
	strcpy(record.driver, "vfio-pci");
	return record;
}

static uint32_t group_of(const char *address)
{
	char path[96], target[256];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return UINT32_MAX;
	target[n] = '\0';
	return (uint32_t)strtoul(strrchr(target, '/') + 1, NULL, 10);
}

/*
 * The boot VGA (00:01.0), the disk (04:00.0) and what is not there are idle GPUs on VFIO, and gpu2
 * (02:00.0) is of the group of the disk.
 */
static void tell_lies(int socket)
{
	const uint32_t of_disk = group_of("0000:04:00.0");
	struct watcher_record record;

	tell(socket, WATCHER_SCAN);
	record = gpu(0, 1, 0, group_of("0000:00:01.0"));
	say(socket, &record, sizeof(record));
	record = gpu(4, 0, 0, of_disk);
	say(socket, &record, sizeof(record));
	record = gpu(2, 0, 0, of_disk);
	say(socket, &record, sizeof(record));
	record = gpu(0x77, 3, 1, 4711);
	say(socket, &record, sizeof(record));
	/* Strings without an end. */
	record = gpu(0x78, 0, 0, UINT32_MAX);
	memset(record.driver, 'd', sizeof(record.driver));
	memset(record.vfio_driver, '/', sizeof(record.vfio_driver));
	memset(record.path, '.', sizeof(record.path));
	memset(record.vendor_name, '\n', sizeof(record.vendor_name));
	memset(record.model, 0x1b, sizeof(record.model));
	say(socket, &record, sizeof(record));
	/* The lent functions have gone, and new ones have come to their group. */
	record = plain(WATCHER_GONE);
	record.address.bus = 1;
	say(socket, &record, sizeof(record));
	record.address.function = 1;
	say(socket, &record, sizeof(record));
	record = gpu(4, 0, 0, group_of("0000:01:00.0"));
	say(socket, &record, sizeof(record));
	record = gpu(0x79, 0, 0, group_of("0000:01:00.0"));
	say(socket, &record, sizeof(record));
	record = gpu(4, 0, 0, of_disk);
	say(socket, &record, sizeof(record));
	tell(socket, WATCHER_SCANNED);
}

static void play_watcher(int socket)
{
	struct watcher_record record = gpu(1, 0, 0, 1);
	char large[sizeof(record) + 1] = "";

	if (is("short"))
		say(socket, &record, sizeof(record) - 1);
	else if (is("long"))
		say(socket, large, sizeof(large));
	else if (is("type"))
		record.type = UINT32_MAX, say(socket, &record, sizeof(record));
	else if (is("address"))
		record.address.device = 32, say(socket, &record, sizeof(record));
	else if (is("descriptors"))
		say_with_descriptors(socket, &record, sizeof(record));
	else if (is("half")) {
		tell(socket, WATCHER_SCAN);
		say(socket, &record, sizeof(record));
		_exit(0);
	} else if (is("lies"))
		tell_lies(socket);
	else if (is("too-many")) {
		tell(socket, WATCHER_SCAN);
		for (uint32_t i = 0; i < 20000; i++) {
			record = gpu(i >> 8 & 0xff, i >> 3 & 31, i & 7, i);
			record.address.domain = 1 + (i >> 16);
			say(socket, &record, sizeof(record));
		}
		tell(socket, WATCHER_SCANNED);
		log_notice("hostile watcher: told");
	} else if (is("flood")) { /* the lent function and one that is not there, coming and going */
		tell(socket, WATCHER_SCANNED);
		for (uint32_t i = 0; i < 3000; i++) {
			record = gpu(i & 1 ? 0x77 : 1, 0, 0, group_of("0000:01:00.0"));
			say(socket, &record, sizeof(record));
			record.type = WATCHER_GONE;
			say(socket, &record, sizeof(record));
		}
		log_notice("hostile watcher: flooded");
	}
	until_the_end(socket);
}

/* ---- in place of the honest ones ---- */

int __real_loader_run(int socket, struct confine_filter *settled, const void *options);
int __wrap_loader_run(int socket, struct confine_filter *settled, const void *options);
int __real_watcher_run(int socket, struct confine_filter *settled, const void *unused);
int __wrap_watcher_run(int socket, struct confine_filter *settled, const void *unused);
int __real_helper_run(enum helper_role, const char *path, const void *);
int __wrap_helper_run(enum helper_role, const char *path, const void *);

int __wrap_loader_run(int socket, struct confine_filter *settled, const void *options)
{
	if (*script)
		play_loader(socket, options);
	return __real_loader_run(socket, settled, options);
}

int __wrap_watcher_run(int socket, struct confine_filter *settled, const void *unused)
{
	if (*script)
		play_watcher(socket);
	return __real_watcher_run(socket, settled, unused);
}

/* The first line of the file, where it is for that helper: then it goes from the file. Else "". */
static void take_line(const char *role)
{
	char all[4096] = "", who[16] = "";
	FILE *file = fopen(SCRIPTS, "r+e");
	size_t n = file ? fread(all, 1, sizeof(all) - 1, file) : 0;
	const char *rest = strchr(all, '\n');

	if (rest && sscanf(all, "%15s %63s", who, script) == 2 && !strcmp(who, role)) {
		rewind(file);
		fwrite(rest + 1, 1, n - (size_t)(rest + 1 - all), file);
		fflush(file);
		if (ftruncate(fileno(file), (off_t)(n - (size_t)(rest + 1 - all))))
			abort();
	} else
		script[0] = '\0';
	if (file)
		fclose(file);
}

/* Not confined yet. */
int __wrap_helper_run(enum helper_role role, const char *path, const void *argument)
{
	take_line(helper_role_name(role));
	if (*script)
		log_notice("hostile %s: %s", helper_role_name(role), script);
	return __real_helper_run(role, path, argument);
}
