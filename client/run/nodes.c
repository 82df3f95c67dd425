/* SPDX-License-Identifier: MIT */
/*
 * Follows the devices' own nodes that the supervisor has open, see nodes.h.
 *
 * The kernel's unbind waits for each open file of a device's node, also for one that nobody has
 * bound to an iommufd, and has no way to ask for those. Before it waits, it removes the node from
 * /dev, so the open file has no link any more. That tells of every end: a release, a revocation,
 * root's own unbind, a card that is pulled out; and it needs neither the broker, which may be
 * starting again, nor one more of the user's connections to it.
 *
 * inotify only says when to look. Where /dev/vfio/devices is not that of the host, as in a
 * container, a clock does. It must never wait, so another process does the last close.
 */
#include "config.h"

#include "client/run/nodes.h"
#include "client/run/closer.h"
#include "client/common/util.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS 1000 /* where nothing tells of a node's end */

/* Watches the directory that a node is in. Returns false if the node is not there. */
static bool watch_directory_of(int inotify, const struct supervise_file *file)
{
	const int length = (int)(strrchr(file->path, '/') - file->path);
	char directory[PATH_MAX];
	struct stat ours, there;

	snprintf(directory, sizeof(directory), "%.*s", length, file->path);
	/* Watched first: whatever happens to the node between the two is reported, or seen. */
	return inotify_add_watch(inotify, directory, IN_DELETE | IN_ONLYDIR) >= 0 &&
	       !stat(file->path, &there) && !fstat(file->fd, &ours) &&
	       there.st_dev == ours.st_dev && there.st_ino == ours.st_ino;
}

void nodes_begin(struct supervisor *s)
{
	cleanup_fd int inotify = -1;
	bool all_watched = true;
	struct stat st;

	for (size_t i = 0; i < s->n_lent; i++) {
		struct lent *lent = &s->lent[i];

		/* Only a node may have lost its link already; another file never had one. */
		lent->followed = lent->is_cdev && !fstat(lent->file.fd, &st) &&
				 (S_ISCHR(st.st_mode) || st.st_nlink);
		if (!lent->followed)
			continue;
		if (inotify < 0)
			inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		all_watched &= inotify >= 0 && watch_directory_of(inotify, &lent->file);
	}
	if (all_watched)
		s->nodes = TAKE_FD(inotify);
}

void nodes_look(struct supervisor *s)
{
	char events[1024];
	struct stat st;

	while (s->nodes >= 0 && read(s->nodes, events, sizeof(events)) > 0)
		;
	for (size_t i = 0; i < s->n_lent; i++) {
		struct lent *lent = &s->lent[i];

		if (!lent->followed || lent->file.fd < 0 || fstat(lent->file.fd, &st) ||
		    st.st_nlink)
			continue;
		lent->taken = true;
		if (!closer_close(lent->file.fd))
			close(lent->file.fd);
		lent->file.fd = -1;
	}
}

int nodes_wait(const struct supervisor *s)
{
	for (size_t i = 0; s->nodes < 0 && i < s->n_lent; i++)
		if (s->lent[i].followed && s->lent[i].file.fd >= 0)
			return LOOK_MS;
	return -1;
}
