/* SPDX-License-Identifier: MIT */
/*
 * The order of candidates, and their memory and nodes, from lists and plain files. The claims that
 * follow are tested by tests/vm/cases/39-fit.t.
 */
#include "config.h"

#include "client/run/fit.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

/* A row, by its device's name. The first letter of the name is what the test checks. */
#define ROW(name, size, on, part, busy)                                                            \
	{                                                                                          \
		.device = (name), .memory = (size), .node = (on), .is_part = (part),               \
		.is_busy = (busy)                                                                  \
	}

/* Sorts the rows and returns the order of their letters. */
static const char *order(const struct fit_candidate *list, size_t n, uint64_t memory, int node)
{
	static char text[64];
	struct fit_candidate sorted[16];
	size_t used = 0;

	need(n <= ARRAY_SIZE(sorted));
	memcpy(sorted, list, n * sizeof(*list));
	fit_sort(sorted, n, memory, node);
	for (size_t i = 0; i < n; i++)
		text[used++] = sorted[i].device[0];
	text[used] = '\0';
	return text;
}

static void test_order(void)
{
	static const struct fit_candidate sizes[] = {
		ROW("a", 4 * GIB, -1, true, false),   ROW("b", 24 * GIB, -1, false, false),
		ROW("c", 16 * GIB, -1, false, false), ROW("d", 8 * GIB, -1, true, false),
		ROW("e", 2 * GIB, -1, true, false),
	};
	static const struct fit_candidate nodes[] = {
		ROW("a", 8 * GIB, 1, false, false),
		ROW("b", 8 * GIB, -1, false, false),
		ROW("c", 8 * GIB, 0, false, false),
		ROW("d", 4 * GIB, 1, false, false),
	};
	static const struct fit_candidate kinds[] = {
		ROW("a", GIB, -1, false, false),
		ROW("b", GIB, -1, true, true),
		ROW("c", GIB, -1, true, false),
		ROW("d", GIB, -1, false, true),
	};
	static const struct fit_candidate split[] = {
		ROW("a", GIB, 0, false, false),
		ROW("b", GIB, 1, true, false),
	};
	static const struct fit_candidate twins[] = {
		ROW("0000:02:00.0", GIB, 0, false, false),
		ROW("0000:01:00.0", GIB, 0, false, false),
	};
	struct fit_candidate two[2];

	tap_ok(!strcmp(order(sizes, 5, 6 * GIB, -1), "dcbae"),
	       "the smallest that has it comes first, and of what has it not the largest: %s",
	       order(sizes, 5, 6 * GIB, -1));
	tap_ok(!strcmp(order(sizes, 5, 8 * GIB, -1), "dcbae"), "what has just as much fits");
	tap_ok(!strcmp(order(sizes, 5, 8 * GIB + 1, -1), "cbdae"),
	       "... and one byte less does not");
	tap_ok(!strcmp(order(sizes, 5, 25 * GIB, -1), "bcdae"),
	       "where nothing fits, the largest is first");
	tap_ok(!strcmp(order(nodes, 4, 6 * GIB, 0), "cbad"),
	       "of equals the caller's node, then what is on none, then another");
	tap_ok(!strcmp(order(nodes, 4, 6 * GIB, 1), "abcd"), "... whichever the caller's is");
	tap_ok(!strcmp(order(nodes, 4, 2 * GIB, 0), "dcba"),
	       "a smaller one on another node is before a larger one on the caller's");
	tap_ok(!strncmp(order(kinds, 4, GIB, -1), "cb", 2), "a part is before a device whole");
	tap_ok(!strcmp(order(kinds, 4, GIB, -1), "cbad"),
	       "... and what is free before what is busy");
	tap_ok(!strcmp(order(split, 2, GIB, 0), "ab") && !strcmp(order(split, 2, GIB, 1), "ba"),
	       "the node counts more than that it is a part");
	memcpy(two, twins, sizeof(two));
	fit_sort(two, 2, GIB, 0);
	tap_ok(!strcmp(two[0].device, "0000:01:00.0"), "twins stand by their addresses");
}

static void test_bars(void)
{
	/*
	 * A card with a BAR for all its memory, and a smaller prefetchable one: as lspci -v of
	 * such.
	 */
	static const char card[] = "0x0000004000000000 0x00000047ffffffff 0x000000000014220c\n"
				   "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				   "0x0000004800000000 0x0000004801ffffff 0x000000000014220c\n"
				   "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
				   "0x00000000fb000000 0x00000000fbffffff 0x0000000000040200\n"
				   "0x000000000000e000 0x000000000000e07f 0x0000000000040101\n"
				   "0x00000000fc000000 0x00000fffffffffff 0x0000000000042200\n";

	tap_ok(fit_largest_bar(card) == 32 * GIB,
	       "the largest prefetchable BAR is the memory, the ROM is not");
	tap_ok(fit_largest_bar("0x00000000fb000000 0x00000000fbffffff 0x0000000000040200\n") == 0,
	       "registers are no memory");
	tap_ok(fit_largest_bar("0x000000000000e000 0x000000000000e07f 0x0000000000002101\n") == 0,
	       "nor are ports");
	tap_ok(fit_largest_bar("0x1000 0x0fff 0x2200\n") == 0, "an end before its start is none");
	tap_ok(fit_largest_bar("") == 0 && fit_largest_bar("x\n") == 0 &&
		       fit_largest_bar("0x1 0x2") == 0,
	       "nor is what is no such file");
}

static int sys_fd(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open(scratch_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(fd >= 0);
	return fd;
}

static void test_function(void)
{
	static const char bar[] = "0x0000004000000000 0x000000400fffffff 0x000000000014220c\n";
	static const struct {
		const char *told;
		uint64_t bytes;
	} drivers[] = {
		{ "17163091968\n", 17163091968ULL },
		{ "0\n", 256 * MIB },
		{ "-1\n", 256 * MIB },
		{ "much\n", 256 * MIB },
		{ "99999999999999999999999\n", 256 * MIB },
		{ "12 apples\n", 256 * MIB },
	};
	static const struct {
		const char *text;
		int node;
	} nodes[] = { { "0\n", 0 },	   { "3\n", 3 },	 { "-1\n", FIT_NO_NODE },
		      { "", FIT_NO_NODE }, { "x", FIT_NO_NODE }, { "99999\n", FIT_NO_NODE } };
	struct pci_address address;

	need(!pci_address_parse("0000:03:00.0", &address));
	tap_ok(!fit_memory(sys_fd(), &address) && fit_node(sys_fd(), &address) == FIT_NO_NODE,
	       "of what is not there nothing is known");
	scratch_write("bus/pci/devices/0000:03:00.0/resource", bar);
	tap_ok(fit_memory(sys_fd(), &address) == 256 * MIB, "a function has what its BAR shows");
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		scratch_write("bus/pci/devices/0000:03:00.0/mem_info_vram_total", drivers[i].told);
		tap_ok(fit_memory(sys_fd(), &address) == drivers[i].bytes,
		       "... or what its driver says, where that is a number: %zu", i);
	}
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		scratch_write("bus/pci/devices/0000:03:00.0/numa_node", nodes[i].text);
		tap_ok(fit_node(sys_fd(), &address) == nodes[i].node, "the node of a function: %zu",
		       i);
	}
}

/*
 * This machine may have one node: so the links are plain files here, of the CPU that the test stays
 * on.
 */
static void test_own_node(void)
{
	const unsigned long first = 1;
	char path[96];
	cpu_set_t set;
	int cpu = sched_getcpu();

	need(cpu >= 0);
	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	need(!sched_setaffinity(0, sizeof(set), &set));
	tap_ok(fit_own_node(sys_fd()) == FIT_NO_NODE,
	       "a kernel without nodes has none for the caller");
	snprintf(path, sizeof(path), "devices/system/cpu/cpu%d/node5/x", cpu);
	scratch_write(path, "");
	tap_ok(fit_own_node(sys_fd()) == 5, "the caller's node is that of its CPU");
	if (syscall(SYS_set_mempolicy, MPOL_BIND, &first, 64UL)) {
		tap_ok(true, "binding memory # SKIP no set_mempolicy here: %s", strerror(errno));
		return;
	}
	tap_ok(fit_own_node(sys_fd()) == 0,
	       "... but where its memory is bound to a node, that one");
}

int main(void)
{
	scratch_make();
	test_order();
	test_bars();
	test_function();
	test_own_node();
	return tap_done();
}
