/* SPDX-License-Identifier: MIT */
/*
 * A close that may wait, in a process that does nothing else, see closer.h. The last close of a
 * connection closes all that a stranger has sent by it, such as a socket that lingers; that of a
 * device's node may reset the device. The child must keep nothing but that descriptor, or it would
 * keep a lease.
 */
#include "config.h"

#include "client/run/closer.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* In the child: keeps the descriptor until the caller has closed its copy. */
_Noreturn static void hold_and_exit(int fd, int closed)
{
	const unsigned low = (unsigned)(fd < closed ? fd : closed);
	const unsigned high = (unsigned)(fd < closed ? closed : fd);
	char byte;

	if (low)
		close_range(0, low - 1, 0);
	if (low + 1 < high)
		close_range(low + 1, high - 1, 0);
	close_range(high + 1, ~0U, 0);
	while (read(closed, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

bool closer_close(int fd)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC))
		return false;
	child = fork();
	if (!child) {
		close(ends[1]);
		hold_and_exit(fd, ends[0]);
	}
	if (child > 0)
		close(fd);
	close(ends[0]);
	close(ends[1]);
	return child > 0;
}
