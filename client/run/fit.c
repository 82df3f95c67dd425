/* SPDX-License-Identifier: MIT */
/*
 * The order of candidates and their facts, see fit.h. Only reads, and takes nothing but numbers
 * from a file.
 */
#include "config.h"

#include "client/run/fit.h"
#include "client/host/directory.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

#define BARS 6 /* lines of `resource` before the ROM and the windows of bridges */
/* Linux, include/linux/ioport.h; lspci reads the same. */
#define RESOURCE_MEM 0x200
#define RESOURCE_PREFETCH 0x2000
#define NODES_MAX 1024 /* the most that a kernel can be built for */

/* ---- the order ---- */

struct wish {
	uint64_t memory;
	int node;
};

static int node_distance(const struct fit_candidate *c, int node)
{
	if (node == FIT_NO_NODE || c->node == FIT_NO_NODE)
		return 1;
	return c->node == node ? 0 : 2;
}

static int compare_candidates(const void *a, const void *b, void *userdata)
{
	const struct fit_candidate *x = a, *y = b;
	const struct wish *wish = userdata;
	bool x_fits = x->memory >= wish->memory, y_fits = y->memory >= wish->memory;
	int r;

	if (x_fits != y_fits)
		return x_fits ? -1 : 1;
	if (x->memory != y->memory)
		return (x->memory < y->memory) == x_fits ? -1 : 1;
	r = node_distance(x, wish->node) - node_distance(y, wish->node);
	if (r)
		return r;
	if (x->is_part != y->is_part)
		return x->is_part ? -1 : 1;
	if (x->is_busy != y->is_busy)
		return x->is_busy ? 1 : -1;
	r = strcmp(x->device, y->device);
	return r ? r : strverscmp(x->profile, y->profile);
}

void fit_sort(struct fit_candidate *list, size_t n, uint64_t memory, int node)
{
	struct wish wish = { memory, node };

	if (n)
		qsort_r(list, n, sizeof(*list), compare_candidates, &wish);
}

/* ---- memory ---- */

uint64_t fit_largest_bar(const char *text)
{
	uint64_t largest = 0;

	for (int i = 0; i < BARS && *text; i++) {
		uint64_t start, end, flags;

		if (sscanf(text, "%" SCNx64 " %" SCNx64 " %" SCNx64, &start, &end, &flags) != 3)
			return 0;
		if (flags & RESOURCE_MEM && flags & RESOURCE_PREFETCH && end > start &&
		    end - start >= largest)
			largest = end - start + 1;
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return largest;
}

/* Reads a small file whole, "" if there is none. */
static void read_small_file(int fd, char *out, size_t size)
{
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);

	out[n > 0 ? n : 0] = '\0';
}

uint64_t fit_memory(int sys, const struct pci_address *address)
{
	cleanup_fd int told = sysfs_function_open(sys, address, O_RDONLY, "mem_info_vram_total");
	cleanup_fd int bars = sysfs_function_open(sys, address, O_RDONLY, "resource");
	char text[4096], *end;
	unsigned long long bytes;

	read_small_file(told, text, sizeof(text));
	bytes = strtoull(text, &end, 10);
	if (*text >= '0' && *text <= '9' && (!*end || *end == '\n') && bytes && bytes != ULLONG_MAX)
		return bytes;
	read_small_file(bars, text, sizeof(text));
	return fit_largest_bar(text);
}

/* ---- nodes ---- */

int fit_node(int sys, const struct pci_address *address)
{
	cleanup_fd int fd = sysfs_function_open(sys, address, O_RDONLY, "numa_node");
	char text[16], *end;
	long node;

	read_small_file(fd, text, sizeof(text));
	node = strtol(text, &end, 10);
	return end != text && node >= 0 && node < NODES_MAX ? (int)node : FIT_NO_NODE;
}

/* Bound by numactl --membind or --preferred: the VM's memory will be there, wherever it runs. */
static int bound_node(void)
{
	unsigned long nodes[NODES_MAX / (CHAR_BIT * sizeof(unsigned long))] = { 0 };
	int mode = MPOL_DEFAULT, found = FIT_NO_NODE;

	if (syscall(SYS_get_mempolicy, &mode, nodes, (unsigned long)NODES_MAX, NULL, 0UL) ||
	    (mode != MPOL_BIND && mode != MPOL_PREFERRED))
		return FIT_NO_NODE;
	for (int i = 0; i < NODES_MAX; i++) {
		if (!(nodes[(size_t)i / (CHAR_BIT * sizeof(*nodes))] >>
			      ((size_t)i % (CHAR_BIT * sizeof(*nodes))) &
		      1))
			continue;
		if (found != FIT_NO_NODE)
			return FIT_NO_NODE; /* several */
		found = i;
	}
	return found;
}

int fit_own_node(int sys)
{
	int node = bound_node(), cpu = sched_getcpu();
	cleanup_fd int fd = -1;
	struct directory dir;
	const char *name;

	if (node != FIT_NO_NODE || cpu < 0)
		return node;
	/* The CPU's directory has a link to its node. */
	fd = sysfs_open(sys, O_RDONLY | O_DIRECTORY, "devices/system/cpu/cpu%d", cpu);
	if (fd < 0)
		return FIT_NO_NODE;
	dir = (struct directory)DIRECTORY(fd);
	while ((name = directory_next(&dir)))
		if (sscanf(name, "node%d", &node) == 1 && node >= 0)
			return node;
	return FIT_NO_NODE;
}
