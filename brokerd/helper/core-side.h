/* SPDX-License-Identifier: MIT */
/* The core's side of its helpers. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "brokerd/helper/helper.h"
#include "brokerd/helper/intake.h"
#include "brokerd/helper/loader.h"
#include "brokerd/state/devices.h"

#define HELPERS_LIMIT                                                                              \
	10 /* seconds in which helpers should have sent all; then the core serves without */
#define NEWCOMERS_MAX 4 /* connections that have not sent their greeting yet */

struct helpers_ops {
	/* The watcher has sent a record; devices_believe() has accepted it. */
	void (*device)(void *userdata, const struct watcher_record *record);
	/* Some records have been read, perhaps the last of a scan. */
	void (*devices_read)(void *userdata);
	/*
	 * The loader has loaded a policy, which is the callee's; NULL: there is none without
	 * mistakes.
	 */
	void (*policy)(void *userdata, struct policy *policy);
	/* The core must end with that exit status, to be started again. */
	void (*failed)(void *userdata, int status);
};

struct newcomer {
	struct helpers *helpers;
	int fd;
	struct event *event; /* NULL: the place is free */
};

struct helpers {
	struct event_base *base;
	const struct helpers_ops *ops;
	void *userdata;
	struct helper watcher, loader;
	int fd; /* the socket on which they connect; -1: they are forks of ours */
	uid_t uid;
	struct newcomer newcomers[NEWCOMERS_MAX];
	struct event *on_helper, *on_helper_again, *on_missing;
	struct event *on_watcher, *on_loader; /* NULL where there is none */
	struct policy_intake intake;
	bool closed; /* the daemon is ending: a helper's end means nothing any more */
};

#define HELPERS_INIT                                                                               \
	{                                                                                          \
		.watcher = HELPER_NONE, .loader = HELPER_NONE, .fd = -1                            \
	}

/*
 * Before confinement: looks up the helpers' account, and forks them where they do not connect. 0,
 * or -errno.
 */
int helpers_prepare(struct helpers *helpers, const struct loader_options *options);
/* Begins to read from them, or to wait for their connections. 0, or -errno. */
int helpers_listen(struct helpers *helpers);
/* Logs which are missing. False: none is. */
bool helpers_log_missing(struct helpers *helpers);
/* Has the loader load the policy again. */
void helpers_reload(struct helpers *helpers);
void helpers_done(struct helpers *helpers);
