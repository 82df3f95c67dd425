/* SPDX-License-Identifier: MIT */
/*
 * Policy files: which are read, who must own them, and which accounts their names mean. For the
 * loader (never the core) and for gpubroker(1), so that gpubroker(1) checks what the loader uses.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "policy/policy.h"

/* The installed directories, in order of precedence: the administrator's and the package's. */
#define POLICYFILES_DIRECTORIES 2
extern const char *const policyfiles_directories[POLICYFILES_DIRECTORIES];

/*
 * Copies of the files as they were when they had no mistake last, a directory for each of the above
 * in the same order. The command makes them, see policy-save.h. The loader uses them if the files
 * have mistakes and no policy is in force, as after a reboot.
 */
#define POLICYFILES_SAVED "/var/lib/gpubroker/policy"
extern const char *const policyfiles_saved[POLICYFILES_DIRECTORIES];

struct policyfiles {
	/* Directories, in order of precedence: the first one's namesake masks the others'. */
	const char *const *directories;
	size_t n_directories;
	/*
	 * The directories' names in findings and in rules, as many: for copies, whose leases and
	 * limits are counted by the names of the originals. NULL: their own.
	 */
	const char *const *called;
	/*
	 * Drafts, whoever owns them: each stands for the file of its name in the directories, whose
	 * others are read for the names that they define. Then only findings about the drafts are
	 * passed on, and *others counts the mistakes of the rest.
	 */
	const char *const *files;
	size_t n_files;
	unsigned *others;
	bool all;	 /* findings about the others are passed on, too */
	bool must_exist; /* a directory that is not there is a mistake */
	/*
	 * An account that must be able to read the files, as the loader must: by their modes, for a
	 * caller who can read all. NULL: it need not.
	 */
	const char *reader;
	/*
	 * Does not ask NSS: users and groups get any id. For a root process that needs only rules
	 * that concern no user, since NSS modules have no business in one.
	 */
	bool without_accounts;
	/*
	 * Called for each mistake and warning; those about a file as a whole have line 0. The
	 * finding is valid only during the call. May be NULL.
	 */
	void (*found)(void *userdata, const struct policy_finding *finding);
	/*
	 * Called with the text of each file, of the index-th directory, before it is parsed. The
	 * text is valid only during the call. Returns 0, or -errno, which ends the load. May be
	 * NULL.
	 */
	int (*text)(void *userdata, size_t index, const char *name, const char *text, size_t len);
	void *userdata;
};

/*
 * Reads all files. 0 with the policy, which is the caller's; or the number of mistakes, and no
 * policy; or -errno. May take as long as NSS does.
 */
int policyfiles_load(const struct policyfiles *request, struct policy *ret_policy);
