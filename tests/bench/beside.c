/* SPDX-License-Identifier: MIT */
/*
 * The bare programs beside which the broker is measured (tests/bench/run). They do what cannot be
 * left out, and nothing else: no policy, no record, no confinement, no check.
 *
 *	beside bind ADDRESS...  takes functions to vfio-pci and gives them back, by the writes to
 *	                        sysfs that a claim and its restore make; prints the microseconds of
 *	                        both
 *	beside pass GROUP       one program opens /dev/vfio/GROUP and sends the descriptor to
 *	                        another; prints the microseconds from its connect to its receipt
 *	beside touch            touches each new node below /dev/vfio at once, until it is ended: a
 *	                        udev that takes no time, where the real one would be all that is
 *	                        measured
 *
 * They run as root in tests/vm's emulated host, and must never be installed.
 */
#include "tests/bench/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define DEVICES "/sys/bus/pci/devices/"
#define SOCKET "/run/gpubroker-bench"

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die(path);
	close(fd);
}

static void put_of(const char *address, const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), DEVICES "%s/%s", address, file);
	put(path, text);
}

static int bind_all(char **addresses, int n)
{
	uint64_t start, bound;

	settle();
	start = now_us();
	for (int i = 0; i < n; i++) {
		put_of(addresses[i], "driver_override", "vfio-pci\n");
		put_of(addresses[i], "driver/unbind", addresses[i]);
		put("/sys/bus/pci/drivers_probe", addresses[i]);
	}
	bound = now_us() - start;
	settle();
	start = now_us();
	for (int i = 0; i < n; i++) {
		put_of(addresses[i], "driver_override", "\n");
		put_of(addresses[i], "driver/unbind", addresses[i]);
	}
	for (int i = 0; i < n; i++)
		put("/sys/bus/pci/drivers_probe", addresses[i]);
	printf("%llu %llu\n", (unsigned long long)bound, (unsigned long long)(now_us() - start));
	return 0;
}

/* ---- a descriptor from one program to another ---- */

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

static void serve(int listener, const char *group)
{
	char byte, path[64];
	struct iovec data = { &byte, 1 };
	union control control = { 0 };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC), fd;

	if (peer < 0 || read(peer, &byte, 1) != 1)
		die("accept");
	snprintf(path, sizeof(path), "/dev/vfio/%s", group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die(path);
	control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
					   .cmsg_level = SOL_SOCKET,
					   .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	if (sendmsg(peer, &message, 0) != 1)
		die("sendmsg");
	close(fd);
}

static int pass(const char *group)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), fd;
	char byte = 0;
	struct iovec data = { &byte, 1 };
	union control control;
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	uint64_t start;

	unlink(SOCKET);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 1))
		die(SOCKET);
	if (!fork()) {
		serve(listener, group);
		_exit(0);
	}
	settle();
	start = now_us();
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) || write(fd, &byte, 1) != 1 ||
	    recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&message))
		die("connect");
	printf("%llu\n", (unsigned long long)(now_us() - start));
	wait(NULL);
	unlink(SOCKET);
	return 0;
}

/* ---- in place of udev ---- */

#define NODES "/dev/vfio"
#define CDEVS NODES "/devices"

/* Within the tick of its making, today's time would be the one that it has. */
static void touch(const char *directory, const char *name)
{
	static const struct timespec long_ago[2] = { { 1, 0 }, { 1, 0 } };
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	utimensat(AT_FDCWD, path, long_ago, 0);
}

/*
 * The kernel makes the directory of devices' own nodes with the first, and removes it with the
 * last. Watches a new one, and touches what came into it before.
 */
static void watch_cdevs(int events)
{
	const struct dirent *entry;
	DIR *dir;

	inotify_add_watch(events, CDEVS, IN_CREATE);
	dir = opendir(CDEVS);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			touch(CDEVS, entry->d_name);
	if (dir)
		closedir(dir);
}

static int touch_all(void)
{
	int events = inotify_init1(IN_CLOEXEC), nodes = inotify_add_watch(events, NODES, IN_CREATE);
	union {
		struct inotify_event event;
		char space[4096];
	} news;
	ssize_t n;

	if (nodes < 0)
		die(NODES);
	watch_cdevs(events);
	while ((n = read(events, &news, sizeof(news))) > 0)
		for (char *at = news.space; at < news.space + n;) {
			const struct inotify_event *event = (const void *)at;

			at += sizeof(*event) + event->len;
			if (!event->len)
				continue; /* a watch that has ended */
			if (event->wd == nodes && event->mask & IN_ISDIR)
				watch_cdevs(events);
			else
				touch(event->wd == nodes ? NODES : CDEVS, event->name);
		}
	die("inotify");
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "bind"))
		return bind_all(argv + 2, argc - 2);
	if (argc == 3 && !strcmp(argv[1], "pass"))
		return pass(argv[2]);
	if (argc == 2 && !strcmp(argv[1], "touch"))
		return touch_all();
	fprintf(stderr, "usage: beside bind ADDRESS... | beside pass GROUP | beside touch\n");
	return 2;
}
