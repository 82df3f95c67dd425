/* SPDX-License-Identifier: MIT */
/*
 * Locked memory of VMs, see memlock.h. It only reads other processes' limits, as everybody may; it
 * owns nothing, and must never refuse a command: only QEMU and the kernel know what is needed.
 */
#include "config.h"

#include "client/run/memlock.h"
#include "client/command/cli.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <sys/resource.h>

#define GIB (1ULL << 30)

/* Parses "4096" (MiB), "4G", "size=4096M,slots=2"; 0: it is none of these. */
static uint64_t parse_size(const char *text)
{
	static const char units[] = "bkmgt";
	const char *unit, *size = strstr(text, "size=");
	uint64_t value = 0;

	if (size && (size == text || size[-1] == ','))
		text = size + strlen("size=");
	if (*text < '0' || *text > '9')
		return 0;
	for (; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return 0;
	unit = *text && *text != ',' ? strchr(units, *text | 0x20) : units + 2;
	if (!unit || (*text && *text != ',' && text[1] && text[1] != ','))
		return 0;
	if (__builtin_mul_overflow(value, 1ULL << 10 * (unit - units), &value) ||
	    value > INT64_MAX / 2)
		return 0;
	return value;
}

/* With an IOMMU of the VM's own, each group has its own mappings, and each is counted. */
static bool has_iommu(char *const *argv)
{
	static const char *const words[] = { "intel-iommu", "amd-iommu", "virtio-iommu",
					     "iommu=smmuv3" };

	for (; *argv; argv++)
		for (size_t i = 0; i < ARRAY_SIZE(words); i++)
			if (strstr(*argv, words[i]))
				return true;
	return false;
}

uint64_t memlock_of_command(char *const *argv, uint64_t n)
{
	uint64_t memory = 0;

	for (size_t i = 1; argv[0] && argv[i] && argv[i + 1]; i++)
		if (!strcmp(argv[i], "-m") || !strcmp(argv[i], "--m"))
			memory = parse_size(argv[++i]);
	if (has_iommu(argv) && n && __builtin_mul_overflow(memory, n, &memory))
		return 0;
	return memory;
}

uint64_t memlock_to_grant(uint64_t locked, uint64_t n, char *const *argv)
{
	return locked + GIB * (has_iommu(argv) && n ? n : 1);
}

void memlock_warn(const struct gpubroker_claim *claim, char *const *argv)
{
	const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, 0);
	const struct passwd *user = getpwuid(getuid());
	uint64_t n = gpubroker_claim_groups(claim), locked = memlock_of_command(argv, n), grants;
	char size[CLI_SIZE_TEXT], needs[96] = "so a VM with more than that";
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return;
	if (locked ? limit.rlim_cur >= locked : gpubroker_claim_memlock(claim) != 0)
		return;
	if (pages > 0 && page > 0 && limit.rlim_cur / (rlim_t)page >= (rlim_t)pages)
		return;
	if (locked)
		snprintf(needs, sizeof(needs), "and this VM locks %s%s, so it",
			 cli_size_text(locked, size),
			 has_iommu(argv) ? ", its memory for each device behind its own IOMMU"
					 : "");
	grants = memlock_to_grant(locked ? locked : 16 * GIB, n, argv);
	cli_error("warning: only %" PRIu64 " KiB of memory may be locked, %s will fail with \"-12 "
		  "(Cannot allocate memory)\"; a rule in /etc/gpubroker/policy.d/ lifts that, "
		  "with the VM's memory and 1 GiB, as libvirt wants: allow user %s claim %s %s "
		  "memlock %s",
		  (uint64_t)limit.rlim_cur >> 10, needs, user ? user->pw_name : "NAME",
		  grant->parent[0] ? "profile" : "address",
		  grant->parent[0] ? "PROFILE" : grant->address, cli_size_text(grants, size));
}

/* Reads the number behind a word that a line of a file in /proc/PID begins with. */
static int proc_number(pid_t pid, const char *name, const char *word, uint64_t *ret_number)
{
	char path[64], line[256];
	cleanup_file FILE *file = NULL;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		const char *at = line + strlen(word);
		char *end;

		if (strncmp(line, word, strlen(word)))
			continue;
		at += strspn(at, " \t");
		if (!strncmp(at, "unlimited", strlen("unlimited"))) {
			*ret_number = UINT64_MAX;
			return 0;
		}
		errno = 0;
		*ret_number = strtoull(at, &end, 10);
		return end == at || errno ? -EIO : 0;
	}
	return -ENODATA;
}

int memlock_of_process(pid_t pid, uint64_t *ret_limit, uint64_t *ret_pinned)
{
	uint64_t pinned;
	int r = proc_number(pid, "limits", "Max locked memory", ret_limit);

	if (!r)
		r = proc_number(pid, "status", "VmPin:", &pinned); /* in KiB */
	if (!r)
		*ret_pinned = pinned << 10;
	return r;
}
