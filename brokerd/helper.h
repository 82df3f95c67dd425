/* SPDX-License-Identifier: MIT */
/*
 * Helpers: the unprivileged children that parse for the core. Forked before the core is confined,
 * they live as long as it does and speak to it in packets of one exact size. A helper that ends
 * ends the core: it is started again as a whole, and takes up every lease.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "brokerd/confine.h"
#include "policy/policy.h"

/* What a helper runs, with its end of the socket; its return value is its exit status. */
typedef int (*helper_main)(int socket, const void *argument);

struct helper {
	const char *name;
	pid_t pid;
	int fd; /* the core's end, non-blocking */
};

#define HELPER_NONE                                                                                \
	{                                                                                          \
		NULL, -1, -1                                                                       \
	}

/* Forks the helper and confines it. */
int helper_start(struct helper *helper, const char *name, enum confine_part part, uid_t uid,
		 gid_t gid, helper_main run, const void *argument);
/* Closes the core's end, at which the helper ends. */
void helper_stop(struct helper *helper);

/* Sends a packet to the core and waits until there is room. 0, or -errno when the core is gone. */
int helper_send(int socket, const void *packet, size_t size);

/*
 * Looks up the helpers' account in /etc/passwd itself: NSS modules, which getpwnam() would load,
 * have no business in a root process. -ENOENT: there is no such account.
 */
int helper_account(const char *name, uid_t *ret_uid, gid_t *ret_gid);

/* ---- the watcher: devices ---- */

int watcher_run(int socket, const void *unused);

/* ---- the loader: policy ---- */

struct loader_options {
	const char *const *directories; /* in order of precedence; the first one's namesake masks */
	size_t n_directories;
};

enum loader_record_type {
	LOADER_BEGIN = 1, /* counts: names, files, rules, texts */
	LOADER_NAME,
	LOADER_TEXT, /* before the rules that refer to it */
	LOADER_FILE,
	LOADER_RULE,
	LOADER_END,
	LOADER_INVALID, /* counts[0]: that many mistakes; there is no policy */
};

struct loader_record {
	uint32_t type;
	uint32_t reserved;
	uint64_t counts[4];
	union {
		struct policy_name name;
		struct policy_text text;
		struct policy_file file;
		struct policy_rule rule;
	};
};

/* What the core sends the loader: a packet of this number asks it to load again. */
#define LOADER_RELOAD 1U

int loader_run(int socket, const void *options);

/*
 * gpubrokerd --check: reads the policy as the loader does and says what is wrong. The number of
 * mistakes.
 */
int loader_check(const struct loader_options *options);

/* What the core puts together from the loader's records, checked one by one. */
struct policy_intake {
	struct policy policy;
	size_t names, files, rules, texts; /* announced */
};

/*
 * Takes a record. 1: a whole policy is there and is the caller's, in *ret_policy; 2: the loader
 * found mistakes; 0: more to come; -EBADMSG: it makes no sense, the loader is not to be trusted
 * further.
 */
int policy_take(struct policy_intake *intake, const struct loader_record *record,
		struct policy *ret_policy);
void policy_intake_done(struct policy_intake *intake);
