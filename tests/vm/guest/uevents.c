/* SPDX-License-Identifier: MIT */
/*
 * The kernel's events by the thousand, and whether the broker's view is the kernel's afterwards.
 *
 *	uevents storm COUNT ADDRESS...             COUNT "change" events of these functions, as fast as it goes
 *	uevents toggle COUNT DRIVER ADDRESS...     takes functions off their driver and puts them back, at random
 *	uevents compare SECONDS [PID]              until `list` says of every function what sysfs says;
 *	                                           the process PID, which is stopped, goes on first
 *
 * One program and no script: what it measures is milliseconds, and in an emulated host a process costs a
 * hundred of them. It must never take the broker's word for what sysfs says, nor the other way round.
 */
#include "client/gpubroker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define FUNCTIONS_MAX 4096
#define LINE 160

struct view {
	char (*lines)[LINE];
	size_t n;
};

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ 0, ms * 1000000 }, NULL);
}

static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* ---- storm, toggle ---- */

static int storm(unsigned long count, char **addresses, size_t n)
{
	int fds[64];
	double start;

	for (size_t i = 0; i < n; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), DEVICES "/%s/uevent", addresses[i]);
		fds[i] = open(path, O_WRONLY | O_CLOEXEC);
		if (fds[i] < 0)
			die(path);
	}
	start = now();
	for (unsigned long i = 0; i < count; i++)
		if (pwrite(fds[i % n], "change", 6, 0) != 6)
			die("uevent");
	printf("events=%lu ms=%.0f\n", count, (now() - start) * 1e3);
	return 0;
}

/* Ends with some of them without a driver: a view that was never made anew shows. */
static int toggle(unsigned long count, const char *driver, char **addresses, size_t n)
{
	char bind[PATH_MAX], unbind[PATH_MAX];
	unsigned bound = 0, unbound = 0;

	snprintf(bind, sizeof(bind), "/sys/bus/pci/drivers/%s/bind", driver);
	snprintf(unbind, sizeof(unbind), "/sys/bus/pci/drivers/%s/unbind", driver);
	srandom((unsigned)getpid());
	for (unsigned long i = 0; i < count; i++) {
		const char *address = addresses[(size_t)random() % n];

		if (put(unbind, address))
			unbound++;
		else if (put(bind, address))
			bound++;
		pause_ms(5);
	}
	put(bind, addresses[0]);
	put(unbind, addresses[n - 1]);
	printf("bound=%u unbound=%u\n", bound, unbound);
	return !bound || !unbound;
}

/* ---- compare ---- */

static void read_line(const char *address, const char *name, char *out, size_t size)
{
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), DEVICES "/%s/%s", address, name);
	*out = '\0';
	file = fopen(path, "re");
	if (file && !fgets(out, (int)size, file))
		*out = '\0';
	out[strcspn(out, "\n")] = '\0';
	if (file)
		fclose(file);
}

static void read_name(const char *address, const char *name, char *out, size_t size)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), DEVICES "/%s/%s", address, name);
	n = readlink(path, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = '\0';
	snprintf(out, size, "%s", n < 0 ? "-" : strrchr(target, '/') + 1);
}

static void add(struct view *view, const char *address, unsigned long vendor, unsigned long device,
		unsigned long sub_vendor, unsigned long sub_device, unsigned long class,
		const char *driver, const char *group)
{
	if (view->n == FUNCTIONS_MAX)
		exit(2);
	snprintf(view->lines[view->n++], LINE,
		 "%.12s %04lx:%04lx %04lx:%04lx %06lx driver=%.40s group=%.20s", address, vendor,
		 device, sub_vendor, sub_device, class, driver, group);
}

static unsigned long number(const char *address, const char *name)
{
	char text[64];

	read_line(address, name, text, sizeof(text));
	return strtoul(text, NULL, 16);
}

static void look_at_sysfs(struct view *view)
{
	DIR *dir = opendir(DEVICES);
	struct dirent *entry;

	if (!dir)
		die(DEVICES);
	view->n = 0;
	while ((entry = readdir(dir))) {
		const char *a = entry->d_name;
		char driver[64], group[64];

		if (*a == '.')
			continue;
		read_name(a, "driver", driver, sizeof(driver));
		read_name(a, "iommu_group", group, sizeof(group));
		add(view, a, number(a, "vendor"), number(a, "device"),
		    number(a, "subsystem_vendor"), number(a, "subsystem_device"),
		    number(a, "class"), driver, group);
	}
	closedir(dir);
	/* "dddd:bb:dd.f": in the order of the text as in that of the numbers. */
	qsort(view->lines, view->n, LINE, (int (*)(const void *, const void *))strcmp);
}

static int take(void *userdata, const struct gpubroker_device *d)
{
	char group[24] = "-";

	if (d->iommu_group >= 0)
		snprintf(group, sizeof(group), "%lld", (long long)d->iommu_group);
	add(userdata, d->address, d->vendor, d->device, d->subsystem_vendor, d->subsystem_device,
	    d->class_code, d->driver[0] ? d->driver : "-", group);
	return 0;
}

static bool same(const struct view *a, const struct view *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->lines[i], b->lines[i]) != 0)
			return false;
	return true;
}

static void print_differences(const struct view *sysfs, const struct view *broker)
{
	for (size_t i = 0, k = 0; i < sysfs->n || k < broker->n;) {
		const char *a = i < sysfs->n ? sysfs->lines[i] : "~",
			   *b = k < broker->n ? broker->lines[k] : "~";
		int order = strncmp(a, b, 12);

		if (order || strcmp(a, b) != 0)
			printf("sysfs: %s\nbroker: %s\n", order > 0 ? "-" : a, order < 0 ? "-" : b);
		i += order <= 0;
		k += order >= 0;
	}
}

static int compare(double seconds, pid_t stopped)
{
	struct view sysfs = { calloc(FUNCTIONS_MAX, LINE), 0 },
		    broker = { calloc(FUNCTIONS_MAX, LINE), 0 };
	double start, asked;
	struct gpubroker *handle;
	unsigned looks = 0;

	if (!sysfs.lines || !broker.lines || gpubroker_open(NULL, &handle))
		die("compare");
	start = now();
	if (stopped && kill(stopped, SIGCONT))
		die("SIGCONT");
	do {
		if (looks++)
			pause_ms(5);
		asked = now(); /* what the broker says is as old as the question */
		broker.n = 0;
		if (gpubroker_list(handle, take, &broker))
			die("gpubroker_list");
		look_at_sysfs(&sysfs);
	} while (!same(&sysfs, &broker) && now() - start < seconds);
	if (!same(&sysfs, &broker)) {
		print_differences(&sysfs, &broker);
		return 1;
	}
	printf("functions=%zu looks=%u ms=%.0f\n", sysfs.n, looks, (asked - start) * 1e3);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 4 && argc - 3 <= 64 && !strcmp(argv[1], "storm"))
		return storm(strtoul(argv[2], NULL, 10), argv + 3, (size_t)argc - 3);
	if (argc >= 5 && !strcmp(argv[1], "toggle"))
		return toggle(strtoul(argv[2], NULL, 10), argv[3], argv + 4, (size_t)argc - 4);
	if ((argc == 3 || argc == 4) && !strcmp(argv[1], "compare"))
		return compare(strtod(argv[2], NULL),
			       argc == 4 ? (pid_t)strtol(argv[3], NULL, 10) : 0);
	fprintf(stderr, "usage: uevents storm|toggle|compare ...\n");
	return 2;
}
