/* SPDX-License-Identifier: MIT */
/* The memory that a VM locks, by QEMU's arguments. */
#include "config.h"

#include "client/common/util.h"
#include "client/run/memlock.h"
#include "tests/tap.h"

#include <string.h>
#include <sys/resource.h>

#define G (1ULL << 30)

static const struct {
	const char *argv[8];
	uint64_t groups, locked, granted;
} commands[] = {
	{ { "qemu", "-m", "512" }, 1, G / 2, G / 2 + G },
	{ { "qemu", "-m", "16G" }, 1, 16 * G, 17 * G },
	{ { "qemu", "-m", "size=16777216k" }, 2, 16 * G, 17 * G },
	{ { "qemu", "-m", "4G,slots=2,maxmem=8G" }, 1, 4 * G, 5 * G },
	{ { "qemu", "-m", "slots=2,size=4096m,maxmem=8G" }, 1, 4 * G, 5 * G },
	{ { "qemu", "-m", "1G", "-m", "2G" }, 1, 2 * G, 3 * G },
	{ { "qemu", "-device", "intel-iommu", "-m", "8G" }, 3, 24 * G, 27 * G },
	{ { "qemu", "-m", "8G", "-device", "{\"driver\":\"virtio-iommu\",\"id\":\"i\"}" },
	  2,
	  16 * G,
	  18 * G },
	{ { "qemu", "-M", "virt,iommu=smmuv3", "-m", "8G" }, 2, 16 * G, 18 * G },
	{ { "qemu", "-m" }, 1, 0, G },
	{ { "qemu" }, 1, 0, G },
	{ { NULL }, 1, 0, G },
	{ { "qemu", "-m", "" }, 1, 0, G },
	{ { "qemu", "-m", "1.5G" }, 1, 0, G },
	{ { "qemu", "-m", "4GB" }, 1, 0, G },
	{ { "qemu", "-m", "99999999999999999999T" }, 1, 0, G },
	{ { "qemu", "-m", "9999999T" }, 1, 0, G },
	{ { "qemu", "-m", "maxmem=8G" }, 1, 0, G },
};

static void test_process(void)
{
	const struct rlimit some = { .rlim_cur = 123 << 10, .rlim_max = 123 << 10 };
	uint64_t limit = 0, pinned = 1;

	tap_ok(!setrlimit(RLIMIT_MEMLOCK, &some) &&
		       !memlock_of_process(getpid(), &limit, &pinned) && limit == 123 << 10 &&
		       !pinned,
	       "the limit of a process that runs is read, and what devices have pinned of it");
	tap_ok(memlock_of_process(-1, &limit, &pinned) < 0,
	       "... of one that is not there it is not");
}

int main(void)
{
	test_process();
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		char *const *argv = (char *const *)commands[i].argv;
		uint64_t locked = memlock_of_command(argv, commands[i].groups);

		tap_ok(locked == commands[i].locked, "command %zu locks %llu MiB", i,
		       (unsigned long long)locked >> 20);
		tap_ok(memlock_to_grant(locked, commands[i].groups, argv) == commands[i].granted,
		       "and a rule grants that and more");
	}
	return tap_done();
}
