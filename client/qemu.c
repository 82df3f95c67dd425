/* SPDX-License-Identifier: MIT */
/*
 * gpubroker-qemu(1): an emulator for libvirt's sessions. It becomes QEMU, or, where the arguments
 * give the machine functions of the host, `gpubroker run`, which claims them and becomes QEMU. So
 * the process that libvirt has started is the machine, with the descriptors that it was given.
 *
 * It has no privilege: it does what its user may do by hand. It must never look for a program in
 * PATH, which libvirt takes over from whoever started it, and never answer for QEMU.
 */
#include "config.h"

#include "client/host/pci.h"
#include "client/run/emulator.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#define STATUS_NOT_FOUND 127 /* as shells have it, and `run` */

/* Where distributions have the QEMU that is made for this processor; the first that exists. */
static const char *const qemus[] = {
#if defined(__x86_64__)
	"/usr/bin/qemu-system-x86_64",
#elif defined(__aarch64__)
	"/usr/bin/qemu-system-aarch64",
#elif defined(__powerpc64__)
	"/usr/bin/qemu-system-ppc64",
#elif defined(__s390x__)
	"/usr/bin/qemu-system-s390x",
#elif defined(__riscv)
	"/usr/bin/qemu-system-riscv64",
#elif defined(__loongarch__)
	"/usr/bin/qemu-system-loongarch64",
#endif
	"/usr/libexec/qemu-kvm",
	"/usr/bin/qemu-kvm",
};

/* Prints one line: libvirt shows the end of what its emulator wrote. */
static void __attribute__((format(printf, 1, 2))) complain(const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	fprintf(stderr, "gpubroker-qemu: %s\n", line);
}

/* Returns the path of the real QEMU, or NULL after it was said that there is none. */
static const char *find_qemu(void)
{
	const char *given = getenv("GPUBROKER_QEMU");

	if (given && *given != '/') {
		complain("GPUBROKER_QEMU is '%s'; it must be the whole path of a QEMU", given);
		return NULL;
	}
	if (given)
		return given;
	for (size_t i = 0; i < ARRAY_SIZE(qemus); i++)
		if (!access(qemus[i], X_OK))
			return qemus[i];
	complain("there is no %s; install QEMU, or put the path of one into GPUBROKER_QEMU",
		 qemus[0]);
	return NULL;
}

/* Finds the path of this program, and of the `gpubroker` beside it. */
static bool find_own(char own[PATH_MAX], char command[PATH_MAX + 16])
{
	ssize_t n = readlink("/proc/self/exe", own, PATH_MAX);
	char *name;

	if (n <= 0 || n == PATH_MAX)
		return false;
	own[n] = '\0';
	name = strrchr(own, '/');
	snprintf(command, PATH_MAX + 16, "%.*s/gpubroker", name ? (int)(name - own) : 0, own);
	return true;
}

/* Returns true if a path leads to this program, which would execute itself for ever. */
static bool is_itself(const char *path, const char *own)
{
	struct stat a, b;

	return !stat(path, &a) && !stat(own, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static uint32_t group_by_sysfs(void *userdata, const struct pci_address *address)
{
	const int *sys = userdata;
	uint32_t group;

	return *sys < 0 || sysfs_group_of(*sys, address, &group) ? UINT32_MAX : group;
}

int main(int argc, char **argv)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct emulator_ways ways = {
		.wait = getenv("GPUBROKER_WAIT"),
		.group_of = group_by_sysfs,
		.userdata = &sys,
	};
	struct emulator_command command;
	char own[PATH_MAX], gpubroker[PATH_MAX + 16];
	const char *path;
	int r;

	(void)argc;
	ways.qemu = find_qemu();
	if (!ways.qemu)
		return STATUS_NOT_FOUND;
	if (!find_own(own, gpubroker)) {
		complain("/proc/self/exe cannot be read, so there is no way to find gpubroker");
		return EX_OSERR;
	}
	if (is_itself(ways.qemu, own)) {
		complain("GPUBROKER_QEMU is gpubroker-qemu itself; it must be a QEMU");
		return EX_USAGE;
	}
	r = emulator_command_make(argv, &ways, &command);
	if (!r) {
		path = command.claims ? gpubroker : ways.qemu;
		execv(path, (char **)command.argv);
		r = -errno;
		complain("%s: cannot be executed: %s", path, strerror(-r));
	} else {
		complain("%s", strerror(-r));
	}
	emulator_command_done(&command);
	return r == -ENOENT ? STATUS_NOT_FOUND : EX_OSERR;
}
