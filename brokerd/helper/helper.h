/* SPDX-License-Identifier: MIT */
/*
 * Helpers: the unprivileged processes that parse for the core, and speak to it in packets of one
 * exact size. systemd starts them in units of their own, as their own account, and they connect to
 * the core: it needs no privilege to make them, and one that ends is started again alone. A core
 * that is started by hand forks them before it is confined. One of those that ends ends the core.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "brokerd/process/confine.h"
#include "policy/policy.h"

/* What a helper runs, with its end of the socket; its return value is its exit status. */
typedef int (*helper_main)(int socket, const void *argument);

struct helper {
	const char *name;
	pid_t pid; /* of a fork of ours, else -1 */
	int fd;	   /* the core's end, non-blocking; -1: there is none */
};

#define HELPER_NONE                                                                                \
	{                                                                                          \
		NULL, -1, -1                                                                       \
	}

enum helper_role { HELPER_WATCHER, HELPER_LOADER, HELPER_ROLES };

/* "watcher", "loader" */
const char *helper_role_name(enum helper_role role);

/* The first packet of a helper that connects. */
struct helper_hello {
	uint32_t version; /* HELPER_VERSION */
	uint32_t role;
	/* of its records: a core and a helper of two builds do not understand each other */
	uint32_t record_size;
	uint32_t reserved; /* 0 */
};

#define HELPER_VERSION 1U
#define HELPER_SOCKET "/run/gpubroker/helpers"

struct helper_hello helper_hello(enum helper_role role);
/* Is it one, of a helper that this core understands? */
bool helper_hello_valid(const struct helper_hello *hello);

/* Forks the helper and confines it. */
int helper_start(struct helper *helper, enum helper_role role, uid_t uid, gid_t gid,
		 const void *argument);
/*
 * What gpubrokerd --helper does: connects to the core, confines itself and runs. Takes no
 * privilege, and refuses to run with any. The exit status.
 */
int helper_run(enum helper_role role, const char *path, const void *argument);
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

/* What the core sends the loader: a packet of this number asks it to load, at first and again. */
#define LOADER_LOAD 1U

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
