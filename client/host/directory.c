/* SPDX-License-Identifier: MIT */
/*
 * See directory.h. Kernel ABI: openat2(2), getdents64(2).
 */
#include "config.h"

#include "client/host/directory.h"
#include "client/common/util.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int open_beneath(int directory, const char *path, uint64_t flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.mode = mode,
		.resolve = resolve,
	};
	long fd;

	do
		fd = syscall(SYS_openat2, directory, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : (int)fd;
}

ssize_t read_whole(int fd, char *out, size_t size)
{
	size_t used = 0;

	while (used < size) {
		ssize_t n = read(fd, out + used, size - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		used += (size_t)n;
	}
	return (ssize_t)used;
}

const char *directory_next(struct directory *directory)
{
	const struct dirent64 *entry;
	ssize_t n;

	do {
		if (directory->at == directory->used) {
			do
				n = getdents64(directory->fd, directory->entries,
					       sizeof(directory->entries));
			while (n < 0 && errno == EINTR);
			if (n <= 0) {
				directory->error = n ? -errno : 0;
				return NULL;
			}
			directory->at = 0;
			directory->used = (size_t)n;
		}
		entry = (const void *)(directory->entries + directory->at);
		directory->at += entry->d_reclen;
	} while (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."));
	return entry->d_name;
}
