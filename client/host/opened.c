/* SPDX-License-Identifier: MIT */
/*
 * Finds who has a function's nodes open, see opened.h. Nodes are compared by device number, since a
 * container has its own names for them. It must never open what a process has open, nor anything
 * but directories: what runs this may look into every process.
 */
#include "config.h"

#include "client/host/opened.h"
#include "client/common/util.h"
#include "client/host/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <time.h>

#define NVIDIA_MAJOR 195
#define NVIDIA_MINORS 250 /* those of cards; above them are /dev/nvidiactl and its like */
#define TARGET_MAX 512
#define PIDS_MAX 262144 /* processes; more are not looked at */
#define FDS_A_LOOK 256	/* descriptors between two looks at the clock */
#define HELD_MAX 16	/* functions of which one process is reported to have a node open */

uint64_t opened_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- nodes ---- */

static int open_directory(int at, const char *path)
{
	return openat(at, path, OPENED_FLAGS);
}

/* Reads a link. Returns false if it is none, or too long. */
static bool link_target(int at, const char *name, char target[TARGET_MAX])
{
	ssize_t n = readlinkat(at, name, target, TARGET_MAX - 1);

	if (n <= 0 || n == TARGET_MAX - 1)
		return false;
	target[n] = '\0';
	return true;
}

/* Returns what follows the last PCI function in a path, which it cuts up, or NULL. */
static char *after_function(char *path, struct pci_address *ret_address)
{
	char *found = NULL;

	for (char *at = path, *slash; (slash = strchr(at, '/')); at = slash + 1) {
		struct pci_address address;

		*slash = '\0';
		if (!pci_address_parse(at, &address) && strchr(at, ':')) {
			*ret_address = address;
			found = slash + 1;
		}
		*slash = '/';
	}
	return found;
}

/*
 * Returns the directory in /dev of a node, from its path below the function, or NULL for a node
 * that keeps no driver waiting: those of disks have guards of their own, those of USB devices go
 * with the device.
 */
static const char *directory_of(const char *below)
{
	static const struct {
		const char *begins, *directory;
	} kinds[] = {
		{ "drm/", "dri/" },	{ "accel/", "accel/" }, { "sound/", "snd/" },
		{ "input/", "input/" }, { "hdaudio", "snd/" },	{ "i2c-", "" },
	};
	const char *last = strrchr(below, '/');

	if (!last)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strncmp(below, kinds[i].begins, strlen(kinds[i].begins)))
			return !strncmp(last, "/event", 6)   ? "input/"
			       : strstr(below, "/i2c-dev/")  ? ""
			       : strstr(last, "/drm_dp_aux") ? ""
							     : kinds[i].directory;
	return NULL;
}

static void add_node(struct opened_nodes *nodes, uint32_t major, uint32_t minor,
		     const struct pci_address *address, const char *directory, const char *name)
{
	struct opened_node *node;

	if (nodes->n == OPENED_NODES_MAX) {
		nodes->has_more = true;
		return;
	}
	node = &nodes->list[nodes->n++];
	*node = (struct opened_node){ .major = major, .minor = minor, .address = *address };
	snprintf(node->name, sizeof(node->name), "%s%.20s", directory, name);
}

static bool is_asked(const struct pci_address *list, size_t n, const struct pci_address *address)
{
	for (size_t i = 0; i < n; i++)
		if (!pci_address_compare(&list[i], address))
			return true;
	return false;
}

/* Returns the only function of amdgpu; false if it has none, or several. */
static bool only_amdgpu(int sys, struct pci_address *ret_address)
{
	cleanup_fd int fd = open_directory(sys, "bus/pci/drivers/amdgpu");
	struct directory dir = DIRECTORY(fd);
	struct pci_address address;
	const char *name;
	size_t n = 0;

	while (fd >= 0 && (name = directory_next(&dir)))
		if (!pci_address_parse(name, &address)) {
			*ret_address = address;
			n++;
		}
	return n == 1;
}

/* Adds the nodes that sysfs lists: /sys/dev/char/MAJOR:MINOR is a link to the device. */
static void add_listed(int sys, const struct pci_address *list, size_t n,
		       struct opened_nodes *nodes)
{
	cleanup_fd int fd = open_directory(sys, "dev/char");
	struct directory dir = DIRECTORY(fd);
	struct pci_address address;
	const char *name, *directory;
	char target[TARGET_MAX], *below;
	unsigned major, minor;

	while (fd >= 0 && (name = directory_next(&dir))) {
		if (sscanf(name, "%u:%u", &major, &minor) != 2 || !link_target(fd, name, target))
			continue;
		/*
		 * One /dev/kfd is for all of AMD's cards. With several, it does not tell which one
		 * a process uses; the card's own render node does, which it has open as well.
		 */
		if (strstr(target, "/virtual/kfd/kfd") && only_amdgpu(sys, &address) &&
		    is_asked(list, n, &address)) {
			add_node(nodes, major, minor, &address, "", "kfd");
			continue;
		}
		below = after_function(target, &address);
		directory = below && is_asked(list, n, &address) ? directory_of(below) : NULL;
		if (directory)
			add_node(nodes, major, minor, &address, directory, strrchr(below, '/') + 1);
	}
}

/* ---- NVIDIA's cards ---- */

/* Returns the inode of the link by which NVIDIA's driver has the function; 0: it has it not. */
static uint64_t nvidia_link(int sys, const struct pci_address *address)
{
	char path[64], text[PCI_ADDRESS_TEXT];
	struct statx st;

	snprintf(path, sizeof(path), "bus/pci/drivers/nvidia/%s",
		 pci_address_format(address, text));
	return statx(sys, path, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_INO, &st)
		       ? 0
		       : st.stx_ino;
}

void nvidia_cards_read(int sys, int proc, struct nvidia_cards *ret_cards)
{
	cleanup_fd int fd = open_directory(proc, "driver/nvidia/gpus");
	struct directory dir = DIRECTORY(fd);
	const char *name, *at;
	char path[64], text[2048];

	ret_cards->n = 0;
	while (fd >= 0 && ret_cards->n < NVIDIA_CARDS_MAX && (name = directory_next(&dir))) {
		struct nvidia_card *card = &ret_cards->list[ret_cards->n];
		cleanup_fd int file = -1;
		ssize_t size;

		if (pci_address_parse(name, &card->address))
			continue;
		snprintf(path, sizeof(path), "%.32s/information", name);
		card->link = nvidia_link(sys, &card->address);
		file = openat(fd, path, O_RDONLY | O_CLOEXEC);
		size = file < 0 ? -1 : read_whole(file, text, sizeof(text) - 1);
		if (size < 0)
			continue;
		text[size] = '\0';
		at = strstr(text, "Device Minor:");
		if (at && sscanf(at, "Device Minor: %u", &card->minor) == 1)
			ret_cards->n++;
	}
}

static const struct nvidia_card *find_card(const struct nvidia_cards *cards, int sys,
					   const struct pci_address *address)
{
	uint64_t link = nvidia_link(sys, address);

	for (size_t i = 0; i < cards->n; i++)
		if (!pci_address_compare(&cards->list[i].address, address) &&
		    cards->list[i].link == link)
			return &cards->list[i];
	return NULL;
}

static bool add_nvidia(int sys, const struct nvidia_cards *cards, const struct pci_address *list,
		       size_t n, struct opened_nodes *nodes)
{
	bool known = true;

	for (size_t i = 0; i < n; i++) {
		const struct nvidia_card *card;
		char name[24];

		if (!nvidia_link(sys, &list[i]))
			continue;
		card = find_card(cards, sys, &list[i]);
		if (card) {
			snprintf(name, sizeof(name), "nvidia%u", card->minor);
			add_node(nodes, NVIDIA_MAJOR, card->minor, &list[i], "", name);
		} else {
			known = false;
			nodes->has_unknown_nvidia = true;
			nodes->unknown_nvidia = list[i];
		}
	}
	nodes->others.n = 0;
	for (size_t i = 0; i < cards->n; i++)
		if (find_card(cards, sys, &cards->list[i].address) == &cards->list[i])
			nodes->others.list[nodes->others.n++] = cards->list[i];
	return known;
}

void opened_nodes_clear(struct opened_nodes *nodes)
{
	nodes->n = 0;
	nodes->has_more = false;
	nodes->has_unknown_nvidia = false;
	nodes->looks_at_threads = NULL;
}

void opened_nodes_keep(struct opened_nodes *nodes, const char *prefix)
{
	size_t n = 0;

	for (size_t i = 0; i < nodes->n; i++)
		if (!strncmp(nodes->list[i].name, prefix, strlen(prefix)))
			nodes->list[n++] = nodes->list[i];
	nodes->n = n;
	nodes->has_unknown_nvidia = false;
}

bool opened_nodes_add(int sys, const struct nvidia_cards *cards, const struct pci_address *list,
		      size_t n, struct opened_nodes *nodes)
{
	add_listed(sys, list, n, nodes);
	return add_nvidia(sys, cards, list, n, nodes);
}

void opened_nodes_add_number(struct opened_nodes *nodes, uint32_t major, uint32_t minor)
{
	add_node(nodes, major, minor, &(struct pci_address){ 0 }, "", "");
}

/* ---- processes ---- */

struct search {
	int proc;
	const struct opened_nodes *nodes;
	uint64_t deadline;
	void (*on_holder)(void *userdata, const struct opened_holder *holder);
	void *userdata;
	bool overflown; /* a process has nodes of more functions than are reported */
	/* the process that is being looked at */
	char pid[16];
	size_t n_held;
	struct pci_address held[HELD_MAX];
};

/* Takes the program's name from the link to its file, which is a directory entry of any bytes. */
static void read_program(const struct search *s, char out[OPENED_TEXT])
{
	char path[32], target[TARGET_MAX], *name, *end;

	out[0] = '\0';
	snprintf(path, sizeof(path), "%.16s/exe", s->pid);
	if (!link_target(s->proc, path, target))
		return;
	name = strrchr(target, '/');
	name = name ? name + 1 : target;
	end = strstr(name, " (deleted)");
	if (end)
		*end = '\0';
	snprintf(out, OPENED_TEXT, "%.31s", name);
	for (char *p = out; *p; p++)
		if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
			*p = '?';
}

static void report_holder(struct search *s, const struct pci_address *address, const char *node)
{
	struct opened_holder holder = { .pid = (uint32_t)strtoul(s->pid, NULL, 10),
					.address = *address };
	struct statx st;

	if (is_asked(s->held, s->n_held, address))
		return;
	if (s->n_held == HELD_MAX) {
		s->overflown = true;
		return;
	}
	s->held[s->n_held++] = *address;
	if (!statx(s->proc, s->pid, AT_STATX_DONT_SYNC, STATX_UID, &st))
		holder.uid = st.stx_uid;
	snprintf(holder.node, sizeof(holder.node), "%s", node);
	read_program(s, holder.program);
	s->on_holder(s->userdata, &holder);
}

static void take_device(struct search *s, uint32_t major, uint32_t minor)
{
	const struct opened_nodes *nodes = s->nodes;
	char name[24];

	for (size_t i = 0; i < nodes->n; i++)
		if (nodes->list[i].major == major && nodes->list[i].minor == minor)
			report_holder(s, &nodes->list[i].address, nodes->list[i].name);
	if (!nodes->has_unknown_nvidia || major != NVIDIA_MAJOR || minor >= NVIDIA_MINORS)
		return;
	for (size_t i = 0; i < nodes->others.n; i++)
		if (nodes->others.list[i].minor == minor)
			return;
	snprintf(name, sizeof(name), "nvidia%u", minor);
	report_holder(s, &nodes->unknown_nvidia, name);
}

/*
 * Looks at a table of descriptors, at most `most`. The look goes through the link's file, not its
 * name; what the kernel remembers of the file is enough (AT_STATX_DONT_SYNC), so neither FUSE nor a
 * network file system is asked. Returns false if there are more, or the time is over.
 */
static bool look_at_table(struct search *s, const char *path, size_t most)
{
	cleanup_fd int fd = open_directory(s->proc, path);
	struct directory dir = DIRECTORY(fd);
	const char *name;

	if (fd < 0)
		return true; /* it has ended, or this caller may not see it */
	for (size_t i = 0; (name = directory_next(&dir)); i++) {
		struct statx st;

		if (i == most || (i % FDS_A_LOOK == FDS_A_LOOK - 1 && opened_now() >= s->deadline))
			return false;
		if (!statx(fd, name, AT_STATX_DONT_SYNC, STATX_TYPE, &st) && S_ISCHR(st.stx_mode))
			take_device(s, st.stx_rdev_major, st.stx_rdev_minor);
	}
	return true;
}

static bool has_threads_to_look_at(const struct search *s)
{
	struct statx st;

	return s->nodes->looks_at_threads &&
	       !statx(s->proc, s->pid, AT_STATX_DONT_SYNC, STATX_UID, &st) &&
	       s->nodes->looks_at_threads(st.stx_uid);
}

/* Looks at all threads but the first. Returns false if the time is over. */
static bool look_at_threads(struct search *s)
{
	char path[64];
	cleanup_fd int fd = -1;
	struct directory dir;
	const char *name;

	snprintf(path, sizeof(path), "%.16s/task", s->pid);
	fd = open_directory(s->proc, path);
	dir = (struct directory)DIRECTORY(fd);
	while (fd >= 0 && (name = directory_next(&dir))) {
		if (!strcmp(name, s->pid))
			continue;
		snprintf(path, sizeof(path), "%.16s/task/%.16s/fd", s->pid, name);
		if (opened_now() >= s->deadline || !look_at_table(s, path, SIZE_MAX))
			return false;
	}
	return true;
}

/*
 * Looks at the descriptors of a process, at most `most`; at those of threads only if that is no
 * limit. Returns false if there are more, or the time is over.
 */
static bool look_at(struct search *s, size_t most)
{
	char path[32];

	s->n_held = 0;
	snprintf(path, sizeof(path), "%.16s/fd", s->pid);
	if (!look_at_table(s, path, most))
		return false;
	return !has_threads_to_look_at(s) || (most == SIZE_MAX && look_at_threads(s));
}

void opened_look_at(int proc, uint32_t pid, const struct opened_nodes *nodes,
		    void (*on_holder)(void *userdata, const struct opened_holder *holder),
		    void *userdata)
{
	struct search s = { .proc = proc,
			    .nodes = nodes,
			    .deadline = UINT64_MAX,
			    .on_holder = on_holder,
			    .userdata = userdata };

	snprintf(s.pid, sizeof(s.pid), "%" PRIu32, pid);
	look_at(&s, SIZE_MAX);
}

/* How many descriptors of each process are looked at before more of any other. */
static const size_t rounds[] = { 64, 1024, SIZE_MAX };

/* Reads the numbers of all processes. Returns false if there may be more. */
static bool read_pids(int proc, uint32_t *list, size_t size, size_t *ret_n)
{
	cleanup_fd int fd = open_directory(proc, ".");
	struct directory dir = DIRECTORY(fd);
	const char *name = NULL;
	size_t n = 0;

	while (fd >= 0 && (name = directory_next(&dir))) {
		if (*name < '1' || *name > '9')
			continue;
		if (n == size)
			break;
		list[n++] = (uint32_t)strtoul(name, NULL, 10);
	}
	*ret_n = n;
	return fd >= 0 && !name && !dir.error;
}

/*
 * Returns a number that no user can foretell: the kernel gives each process 16 random bytes when it
 * starts, and getrandom() would be one more row in the finder's filter.
 */
static size_t random_below(size_t n)
{
	static uint64_t state;
	uint64_t x;

	if (!state)
		memcpy(&state, (const void *)getauxval(AT_RANDOM), sizeof(state));
	x = state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return (size_t)((x ^ x >> 31) % n);
}

/*
 * Looks at `most` descriptors of each process, beginning with any. Leaves those that have more in
 * the list. Returns false if the time is over.
 */
static bool look_round(struct search *s, uint32_t *pids, size_t *n, size_t most)
{
	static bool has_more[PIDS_MAX];
	const size_t first = *n ? random_below(*n) : 0;
	size_t n_more = 0;

	for (size_t i = 0; i < *n; i++) {
		const size_t at = (first + i) % *n;

		if (opened_now() >= s->deadline)
			return false;
		snprintf(s->pid, sizeof(s->pid), "%" PRIu32, pids[at]);
		has_more[at] = !look_at(s, most);
	}
	for (size_t i = 0; i < *n; i++)
		if (has_more[i])
			pids[n_more++] = pids[i];
	*n = n_more;
	return true;
}

bool opened_search(int proc, const struct opened_nodes *nodes, uint64_t deadline,
		   void (*on_holder)(void *userdata, const struct opened_holder *holder),
		   void *userdata)
{
	struct search s = { .proc = proc,
			    .nodes = nodes,
			    .deadline = deadline,
			    .on_holder = on_holder,
			    .userdata = userdata };
	static uint32_t pids[PIDS_MAX];
	size_t n;
	bool all;

	if (!nodes->n && !nodes->has_unknown_nvidia)
		return true;
	all = read_pids(proc, pids, PIDS_MAX, &n);
	for (size_t i = 0; n && i < ARRAY_SIZE(rounds); i++)
		if (!look_round(&s, pids, &n, rounds[i]))
			return false;
	return all && !n && !s.overflown && !nodes->has_more;
}
