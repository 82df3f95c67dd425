/* SPDX-License-Identifier: MIT */
/*
 * Reads another process's memory, see memory.h. The bytes may change at once, and may be those of
 * a process which has the pid since: both are the caller's to think of. It must never allocate, nor
 * write there.
 */
#include "config.h"

#include "client/run/memory.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * For kernels without CONFIG_CROSS_MEMORY_ATTACH, as small ones are. It needs the same permission.
 */
static ssize_t read_by_proc(pid_t pid, uint64_t address, void *buffer, size_t size)
{
	cleanup_fd int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%ld/mem", (long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == EACCES ? -EPERM : -errno;
	n = pread(fd, buffer, size, (off_t)address); /* stops where the memory ends */
	return n < 0 ? -errno : n;
}

/*
 * The first part ends with its page, since a string may end there and the next page not exist: a
 * transfer is cut between parts, not within one. PATH_MAX is a page at most: two parts are enough.
 */
ssize_t memory_read(pid_t pid, uint64_t address, void *buffer, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t first = page - (size_t)(address & (page - 1));
	struct iovec local = { .iov_base = buffer, .iov_len = size };
	struct iovec remote[2];
	ssize_t n;

	if (first > size)
		first = size;
	remote[0] = (struct iovec){ (void *)(uintptr_t)address, first };
	remote[1] = (struct iovec){ (void *)(uintptr_t)(address + first), size - first };
	n = process_vm_readv(pid, &local, 1, remote, first < size ? 2 : 1, 0);
	if (n < 0 && errno == ENOSYS)
		return read_by_proc(pid, address, buffer, size);
	return n < 0 ? -errno : n;
}
