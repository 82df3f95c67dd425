/* SPDX-License-Identifier: MIT */
/*
 * Helpers: the unprivileged processes that parse for the core, and send it packets of one exact
 * size. systemd starts them in units of their own, as their own account, and they connect to the
 * core. So the core needs no privilege to start them, and a helper that ends is started again
 * alone. A core that is started by hand forks them before it is confined; if one of those ends, the
 * core ends.
 *
 * The watcher sends struct watcher_record (state/devices.h), the loader struct loader_record. The
 * finder answers a struct finder_question with a struct finder_answer (state/finding.h); the core
 * does without it if it is missing. So it does without the ender, which takes a struct ender_order
 * and answers with a struct ender_answer (state/ender.h).
 *
 * The runner of hooks (brokerd/hooks/) connects in the same way, but it is a program of its own and
 * is root, as what it executes needs to be. It answers a struct hook_question with a struct
 * hook_answer (state/hooking.h).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "policy/policy.h"

struct helper {
	const char *name;
	pid_t pid; /* if the core has forked it; else -1 */
	int fd;	   /* the core's end, non-blocking; -1: it is missing */
};

#define HELPER_NONE                                                                                \
	{                                                                                          \
		NULL, -1, -1                                                                       \
	}

enum helper_role {
	HELPER_WATCHER,
	HELPER_LOADER,
	HELPER_FINDER,
	HELPER_ENDER,
	HELPER_HOOKS,
	HELPER_ROLES
};

/* The first packet of a helper that connects. */
struct helper_hello {
	uint32_t version; /* HELPER_VERSION */
	uint32_t role;
	/* the size of its records: a core and a helper of different builds must not be mixed */
	uint32_t record_size;
	uint32_t reserved; /* 0 */
};

#define HELPER_VERSION 2U
#define HELPER_SOCKET "/run/gpubroker/helpers"

enum loader_record_type {
	LOADER_BEGIN = 1, /* counts: names, files, rules, texts */
	LOADER_NAME,
	LOADER_TEXT, /* sent before the rules that refer to it */
	LOADER_FILE,
	LOADER_RULE,
	LOADER_END, /* counts: mistakes of the files and when it was saved, of LOADER_LOAD_SAVED */
	LOADER_INVALID, /* counts[0] mistakes, so there is no policy */
	/*
	 * Whose the subordinate uids are: before a policy, and when that changes. In force at once,
	 * also if the policy has mistakes.
	 */
	LOADER_OWNERS, /* counts: ranges, members */
	LOADER_RANGE,
	LOADER_MEMBER,
	LOADER_OWNERS_END,
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
		struct policy_range range;
		struct policy_member member;
	};
};

/*
 * The only packets from the core to the loader: they ask the loader to load the policy, at the
 * start and at each reload. Where the core has no policy yet, the loader may send the copy of the
 * last one that had no mistake, if the files have one.
 */
#define LOADER_LOAD 1U
#define LOADER_LOAD_SAVED 2U

/*
 * Sends a packet to the core; waits until there is room. Returns 0, or -errno if the core has
 * ended.
 */
int helper_send(int socket, const void *packet, size_t size);
