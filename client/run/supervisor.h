/* SPDX-License-Identifier: MIT */
/*
 * The forked half of `gpubroker run`: the process that answers the command's opens. supervise.c,
 * the half that stays with the command, starts it.
 */
#pragma once

#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <sys/types.h>

struct supervise_file {
	const char *path; /* the exact path that the program opens, as "/dev/vfio/17" */
	int fd;		  /* what it gets; stays the caller's */
	const char *what; /* for messages: "0000:01:00.0 (IOMMU group 17)" */
	/*
	 * The lease's number, or 0. For each lease the program gets either groups or device nodes,
	 * whichever it opens first; the supervisor then closes the others, without which the kernel
	 * would bind no device.
	 */
	unsigned lease;
	bool given; /* gpubroker has given QEMU the arguments for it: that is no advice then */
};

/*
 * Only opens with O_RDWR, of these flags, are answered: a VFIO node is useless otherwise, and a
 * command makes few of them. Flags that no open of a VFIO node has exclude more: O_PATH opens
 * nothing, O_DIRECTORY (part of O_TMPFILE) cannot succeed, O_EXCL is for temporary files.
 */
#define SUPERVISOR_FLAGS (O_ACCMODE | O_PATH | O_DIRECTORY | O_EXCL)

/* Lines to say about the leases meanwhile, see notice.c. None of these functions waits. */
struct supervise_notices {
	int (*fd)(void *userdata); /* to be polled for reading, or -1 */
	/* Takes what has arrived. Returns true with one line to say; call it again. */
	bool (*next)(void *userdata, char *text, size_t size);
	int (*wait)(void *userdata); /* milliseconds after which next() is called anyway, or -1 */
	void *userdata;
};

struct lent {
	struct supervise_file file;
	bool is_group;	 /* a legacy group node, /dev/vfio/N */
	bool is_cdev;	 /* a device node, /dev/vfio/devices/vfioN */
	bool handed_out; /* the program got it at least once */
	bool given_up;	 /* the program opened the other kind: it is closed */
	bool followed;	 /* a device node that is closed when the device is taken back */
	bool taken;	 /* it was, and is closed */
};

struct supervisor {
	struct lent *lent;
	size_t n_lent;
	size_t path_size; /* of the longest path, with its terminator */
	char *path;	  /* room for one of that size */

	int listener; /* what the filter reports to */
	int command;  /* a pidfd; readable when the command has ended */
	pid_t pid;    /* of the command */

	/* Where we are the command's parent, see children.h; else -1. */
	int parent;   /* a socket to the process that waits; -1 also when it knows the end */
	int children; /* a signalfd of SIGCHLD */
	pid_t parent_pid;

	int nodes; /* an inotify where the lent device nodes are, see nodes.h; else -1 */

	/* What `attach` brings, see inbox.h; else -1. */
	int inbox;	    /* where it connects */
	int visitor;	    /* who has */
	unsigned sent_away; /* strangers who came */
	struct lent added;
	char added_path[32];

	const char *mark; /* in the environment of the command's tree, see host/marked.h */
	const struct supervise_notices *notices; /* NULL: nothing is said of the leases */
	bool has_stderr;
	bool warned_unreadable, warned_refused, warned_kind;

	/*
	 * One at a time is under way. The sizes are the kernel's where they are larger than ours.
	 */
	struct seccomp_notif *request;
	size_t request_size;
	struct seccomp_notif_resp *response;
	size_t response_size;
};

/*
 * Allocates all that will ever be needed; the strings of `files` stay the caller's, fork copies
 * them.
 */
int supervisor_init(struct supervisor *s, const struct supervise_file *files, size_t n_files,
		    const char **ret_what);
/* Frees what supervisor_init() allocated; closes no descriptor. */
void supervisor_done(struct supervisor *s);

/* Takes over listener, and answers until no task is under the filter any more. Never fails. */
void supervisor_serve(struct supervisor *s, int listener);
