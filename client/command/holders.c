/* SPDX-License-Identifier: MIT */
/*
 * Finds the processes that have /dev/vfio/N open, or the node of a device of that group, or one
 * that the kernel is taking off VFIO, by reading /proc/PID/fd; and those that have nodes of host
 * drivers open, as the daemon's finder does. It only informs an administrator: nothing is decided
 * by it, since a descriptor may be on its way between two processes. It skips what it may not read.
 */
#include "config.h"

#include "client/command/holders.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/opened.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct holder {
	int pid;
	char command[64]; /* printable */
	char user[64];
};

#define HOLDERS_TEXT 160
#define HOLDERS_MAX 8  /* more are not printed */
#define SEARCH_MS 5000 /* for which processes are looked at */
#define NODES_MAX 64   /* of the devices of a group; more are not looked for */

/* The nodes of a group, and of its devices. */
struct nodes {
	size_t n;
	char path[1 + NODES_MAX][48];
};

/* Adds the nodes of one device, which has one, or none. */
static void add_device_nodes(int devices, const char *device, struct nodes *nodes)
{
	char path[320];
	struct dirent *entry;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "%s/vfio-dev", device);
	fd = openat(devices, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		fd_close(fd);
		return;
	}
	while (nodes->n < ARRAY_SIZE(nodes->path) && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, "vfio", 4))
			snprintf(nodes->path[nodes->n++], sizeof(nodes->path[0]),
				 "/dev/vfio/devices/%.16s", entry->d_name);
	closedir(dir);
}

static void nodes_of_group(uint32_t group, struct nodes *nodes)
{
	char path[64];
	struct dirent *entry;
	DIR *dir;

	snprintf(nodes->path[0], sizeof(nodes->path[0]), "/dev/vfio/%" PRIu32, group);
	nodes->n = 1;
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%" PRIu32 "/devices", group);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			add_device_nodes(dirfd(dir), entry->d_name, nodes);
	closedir(dir);
}

/*
 * Returns true for a node of the group, or for a device node that is deleted, since the kernel
 * waits to take its device off VFIO: nothing tells which device that was, but there is seldom more
 * than one. /proc shows only the end of the path if a broker that has ended since, with its mounts,
 * opened the node.
 */
static bool is_held_node(const char *target, const struct nodes *nodes)
{
	const char *cdev = strstr(target, "/devices/vfio");

	for (size_t i = 0; i < nodes->n; i++)
		if (!strcmp(target, nodes->path[i]) ||
		    !strcmp(target, nodes->path[i] + strlen("/dev")))
			return true;
	if (!cdev)
		return false;
	cdev += strlen("/devices/vfio");
	return *cdev && !strcmp(cdev + strspn(cdev, "0123456789"), " (deleted)");
}

/*
 * Returns true for a display's or sound card's node that is deleted: its driver has given up the
 * function already, and waits for the process. Nothing tells which function that was.
 */
static bool is_left_node(const char *target)
{
	const char *end = strstr(target, " (deleted)");

	if (!strncmp(target, "/dev/", 5))
		target += strlen("/dev");
	return end && (!strncmp(target, "/dri/", 5) || !strncmp(target, "/snd/", 5));
}

/* `nodes` may be NULL: then deleted nodes of host drivers count. */
static bool has_open(int proc, const char *pid, const struct nodes *nodes)
{
	char name[320], target[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;
	int fd;

	snprintf(name, sizeof(name), "%s/fd", pid);
	fd = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	dir = fdopendir(fd);
	if (!dir) {
		fd_close(fd);
		return false;
	}
	while (!found && (entry = readdir(dir))) {
		ssize_t n = readlinkat(fd, entry->d_name, target, sizeof(target) - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		found = nodes ? is_held_node(target, nodes) : is_left_node(target);
	}
	closedir(dir);
	return found;
}

static void describe_process(int proc, const char *pid, struct holder *holder)
{
	const struct passwd *user = NULL;
	cleanup_fd int fd = -1;
	struct stat st;
	char name[320];
	ssize_t n = 0;

	holder->pid = atoi(pid);
	snprintf(name, sizeof(name), "%s/comm", pid);
	fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, holder->command, sizeof(holder->command) - 1);
	holder->command[n > 0 ? n : 0] = '\0';
	for (char *p = holder->command; *p; p++) {
		if (*p == '\n')
			*p = '\0';
		else if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
		if (!*p)
			break;
	}
	if (!fstatat(proc, pid, &st, 0)) {
		user = getpwuid(st.st_uid);
		snprintf(holder->user, sizeof(holder->user), "uid %u", (unsigned)st.st_uid);
	}
	if (user)
		snprintf(holder->user, sizeof(holder->user), "%s", user->pw_name);
}

static void print_process(int proc, const char *pid, void (*print)(const char *text))
{
	struct holder holder = { 0 };
	char text[160];

	describe_process(proc, pid, &holder);
	snprintf(text, sizeof(text), "held by pid %d (%s) of %s", holder.pid, holder.command,
		 holder.user);
	print(text);
}

/* Prints the processes that have one of the nodes open, see has_open(). Returns how many. */
static size_t print_with(const struct nodes *nodes, void (*print)(const char *text))
{
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = proc < 0 ? NULL : fdopendir(proc);
	struct dirent *entry;
	size_t n = 0;

	if (!dir) {
		fd_close(proc);
		return 0;
	}
	while (n < HOLDERS_MAX && (entry = readdir(dir))) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' ||
		    !has_open(proc, entry->d_name, nodes))
			continue;
		print_process(proc, entry->d_name, print);
		n++;
	}
	closedir(dir);
	return n;
}

/* ---- nodes of host drivers ---- */

struct openers {
	size_t n;
	struct opened_holder list[HOLDERS_MAX];
};

static void add_opener(void *userdata, const struct opened_holder *holder)
{
	struct openers *openers = userdata;

	for (size_t i = 0; i < openers->n; i++)
		if (openers->list[i].pid == holder->pid)
			return;
	if (openers->n < HOLDERS_MAX)
		openers->list[openers->n++] = *holder;
}

static void find_openers(const struct pci_address *list, size_t n, bool render,
			 struct openers *ret_openers)
{
	cleanup_fd int sys = open("/sys", OPENED_FLAGS), proc = open("/proc", OPENED_FLAGS);
	static struct nvidia_cards cards;
	static struct opened_nodes nodes;

	ret_openers->n = 0;
	if (sys < 0 || proc < 0)
		return;
	opened_nodes_clear(&nodes);
	nvidia_cards_read(sys, proc, &cards);
	opened_nodes_add(sys, &cards, list, n, &nodes);
	if (render)
		opened_nodes_keep(&nodes, "dri/renderD");
	if (!render || nodes.n)
		opened_search(proc, &nodes, opened_now() + SEARCH_MS, add_opener, ret_openers);
}

/* Prints the processes that have nodes of the group's host drivers open. Returns how many. */
static size_t print_openers(uint32_t group, void (*print)(const char *text))
{
	int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct pci_address list[FUNCTIONS_MAX];
	struct openers openers;
	struct dirent *entry;
	char text[64];
	size_t n = 0;
	DIR *dir;

	snprintf(text, sizeof(text), "/sys/kernel/iommu_groups/%" PRIu32 "/devices", group);
	dir = opendir(text);
	while (dir && n < ARRAY_SIZE(list) && (entry = readdir(dir)))
		if (!pci_address_parse(entry->d_name, &list[n]))
			n++;
	if (dir)
		closedir(dir);
	find_openers(list, n, false, &openers);
	for (size_t i = 0; proc >= 0 && i < openers.n; i++) {
		snprintf(text, sizeof(text), "%" PRIu32, openers.list[i].pid);
		print_process(proc, text, print);
	}
	fd_close(proc);
	return openers.n;
}

/* Finds the processes that have nodes of the view's host drivers open, or render nodes alone. */
static void find_openers_of(const struct group_view *view, bool render, struct openers *ret_openers)
{
	struct pci_address list[FUNCTIONS_MAX];

	for (size_t i = 0; i < view->n_functions; i++)
		list[i] = view->functions[i].address;
	find_openers(list, view->n_functions, render, ret_openers);
}

static void write_opener(const struct opened_holder *holder, char *out, size_t size)
{
	const struct passwd *user = getpwuid(holder->uid);
	char uid[16];

	snprintf(uid, sizeof(uid), "uid %u", (unsigned)holder->uid);
	snprintf(out, size, "%s (pid %u of %s) has /dev/%s open", holder->program,
		 (unsigned)holder->pid, user ? user->pw_name : uid, holder->node);
}

bool holders_open_text(const struct group_view *view, char *out, size_t size)
{
	struct openers openers;

	find_openers_of(view, false, &openers);
	if (openers.n)
		write_opener(&openers.list[0], out, size);
	return openers.n;
}

bool holders_open_program(const struct group_view *view, char *out, size_t size)
{
	struct openers openers;

	find_openers_of(view, false, &openers);
	if (openers.n)
		snprintf(out, size, "%s has /dev/%s open", openers.list[0].program,
			 openers.list[0].node);
	return openers.n;
}

void holders_of_render(const struct group_view *view,
		       void (*found)(void *userdata, const char *text), void *userdata)
{
	struct openers openers;
	char text[HOLDERS_TEXT];

	find_openers_of(view, true, &openers);
	for (size_t i = 0; i < openers.n; i++) {
		write_opener(&openers.list[i], text, sizeof(text));
		found(userdata, text);
	}
}

void holders_print(uint32_t group, void (*print)(const char *text))
{
	struct nodes nodes = { 0 };

	nodes_of_group(group, &nodes);
	/* Who has it through VFIO; or else what the host driver waits for. */
	if (!print_with(&nodes, print) && !print_openers(group, print))
		print_with(NULL, print);
}

static void print_nothing(const char *text)
{
	(void)text;
}

bool holders_have(uint32_t group)
{
	struct nodes nodes = { 0 };

	nodes_of_group(group, &nodes);
	return print_with(&nodes, print_nothing) > 0;
}

bool holders_node_find(uint32_t group, struct holders_node *ret_node)
{
	struct nodes nodes = { 0 };

	nodes_of_group(group, &nodes);
	for (size_t i = 0; i < nodes.n; i++) {
		struct stat st;

		if (lstat(nodes.path[i], &st) || (!st.st_uid && !(st.st_mode & 077)))
			continue;
		ret_node->owner = st.st_uid;
		ret_node->mode = st.st_mode & 07777;
		snprintf(ret_node->path, sizeof(ret_node->path), "%s", nodes.path[i]);
		return true;
	}
	return false;
}

bool holders_node_text(uint32_t group, char *out, size_t size)
{
	struct holders_node node;
	const struct passwd *user;
	char uid[16];

	if (!holders_node_find(group, &node))
		return false;
	user = getpwuid(node.owner);
	snprintf(uid, sizeof(uid), "uid %u", (unsigned)node.owner);
	snprintf(out, size,
		 "others than root may open %s (owner %s, mode %04o), past the policy; "
		 "grep -rl vfio /etc/udev/rules.d /run/udev/rules.d /usr/lib/udev/rules.d "
		 "finds the rule that gives it away",
		 node.path, user ? user->pw_name : uid, (unsigned)node.mode);
	return true;
}
