/* SPDX-License-Identifier: MIT */
/* The core's side of its helpers. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "brokerd/helper/helper.h"
#include "brokerd/helper/intake.h"
#include "brokerd/helper/loader.h"
#include "brokerd/state/devices.h"
#include "brokerd/state/ender.h"
#include "brokerd/state/finding.h"
#include "brokerd/state/hooking.h"

/* Seconds to wait for the records of the helpers before the core serves without them. */
#define HELPERS_LIMIT 10
#define NEWCOMERS_MAX 6 /* connections that have not sent their greeting yet */

struct helpers_ops {
	/* The watcher has sent a record; devices_believe() has accepted it. */
	void (*device)(void *userdata, const struct watcher_record *record);
	/* Some records have been read, perhaps the last of a scan. */
	void (*devices_read)(void *userdata);
	/*
	 * The loader has sent a policy, which the callee takes over; NULL: the policy on disk has
	 * so many mistakes. With both it is a copy of the time `saved`, in seconds since the epoch.
	 */
	void (*policy)(void *userdata, struct policy *policy, uint64_t mistakes, uint64_t saved);
	/* The loader has sent whose the subordinate uids are, which the callee takes over. */
	void (*owners)(void *userdata, struct policy_owners *owners);
	/*
	 * The finder has answered; finding_believe() has accepted it. NULL: it is gone, and no
	 * other is expected.
	 */
	void (*found)(void *userdata, const struct finder_answer *answer);
	/* A finder has connected. It knows nothing of questions to the one before it. */
	void (*finder_came)(void *userdata);
	/* The ender has answered; ender_believe() has accepted it. NULL: it is gone. */
	void (*ended)(void *userdata, const struct ender_answer *answer);
	/*
	 * The runner of hooks has answered; hooking_believe() has accepted it. NULL: it is gone.
	 * Returns false if nobody has asked that.
	 */
	bool (*hooked)(void *userdata, const struct hook_answer *answer);
	void (*hooks_came)(void *userdata);
	/* The core must end with that exit status, to be started again. */
	void (*failed)(void *userdata, int status);
};

struct newcomer {
	struct helpers *helpers;
	int fd;
	uid_t uid;
	struct event *event; /* NULL: the slot is free */
};

struct helpers {
	struct event_base *base;
	struct closing *closing;
	const struct helpers_ops *ops;
	void *userdata;
	struct helper watcher, loader, finder, ender, hooks;
	int fd; /* the socket on which they connect; -1: the core forks them */
	uid_t uid;
	uid_t hooks_uid; /* of the runner of hooks: root; another one only in tests */
	struct newcomer newcomers[NEWCOMERS_MAX];
	struct event *on_helper, *on_helper_again, *on_missing;
	/* NULL while the helper is missing */
	struct event *on_watcher, *on_loader, *on_finder, *on_ender, *on_hooks;
	struct policy_intake intake;
	uint64_t loads_asked, loads_ended; /* of the policy, by the loader */
	bool has_policy;		   /* the loader has sent one */
	size_t unanswered;		   /* questions to the finder */
	uint64_t finder_left;		   /* when the last one went, see opened_now(); 0: never */
	bool missed_finder; /* a question could not be asked without it, and that is logged */
	bool full_finder;   /* it has not read its questions, and that is logged */
	bool closed;	    /* the daemon is ending, so a helper's end is ignored */
};

#define HELPERS_INIT                                                                               \
	{                                                                                          \
		.watcher = HELPER_NONE, .loader = HELPER_NONE, .finder = HELPER_NONE,              \
		.ender = HELPER_NONE, .hooks = HELPER_NONE, .fd = -1                               \
	}

/*
 * Looks up the helpers' account, and forks the helpers if they do not connect. To be called before
 * confinement. Returns 0, or -errno.
 */
int helpers_prepare(struct helpers *helpers, const struct loader_options *options);
/* Begins to read from the helpers, or to wait for their connections. Returns 0, or -errno. */
int helpers_listen(struct helpers *helpers);
/* Logs which of watcher and loader are missing. Returns false if none is. */
bool helpers_log_missing(struct helpers *helpers);
/*
 * Asks the loader to load the policy again. Returns the number of that load: it has ended when
 * `loads_ended` is as large.
 */
uint64_t helpers_reload(struct helpers *helpers);
/*
 * Asks the finder; found() gets the answer, perhaps never. Returns 0; -ECONNRESET if it has just
 * gone, and finder_came() is expected; or -errno: there is no answer.
 */
int helpers_find(struct helpers *helpers, const struct finder_question *question);
/*
 * Has the ender carry out an order; ended() gets the answer. Returns 0, or -errno: -ENOTCONN if
 * there is none.
 */
int helpers_end(struct helpers *helpers, const struct ender_order *order);
/* Asks the runner of hooks. Returns 0, or -errno: it cannot be asked now. */
int helpers_hook(struct helpers *helpers, const struct hook_question *question);
/* Closes the connection of the runner of hooks, which ends then. */
void helpers_drop_hooks(struct helpers *helpers);
void helpers_done(struct helpers *helpers);
