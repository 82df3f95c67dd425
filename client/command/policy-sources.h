/* SPDX-License-Identifier: MIT */
/* Where the `gpubroker policy` commands read the policy from. */
#pragma once

#include "client/host/policyfiles.h"

struct policy_sources {
	const char *given[16]; /* --policy DIR; none: the installed ones */
	size_t n_given;
	bool without_accounts; /* see policyfiles.h */
};

struct policy_texts;

struct policy_report {
	bool mistakes_only;	     /* warnings are left out */
	bool quiet;		     /* nothing is printed */
	unsigned mistakes, warnings; /* so many were printed */
	unsigned others;	     /* mistakes in other files than those that were given */
	unsigned caused;	     /* of these, so many that the given ones cause */
	bool all;		     /* findings about the others are printed, too */
	/* If not NULL, findings about other files are left out. */
	const char *const *files;
	size_t n_files;
	const char *shown;	    /* the name of the first of them in findings; NULL: its path */
	struct policy_texts *texts; /* gets the texts of all files; NULL: they are not kept */
};

void policy_sources_init(struct policy_sources *sources);

/* Adds a directory. 0, or an exit status after the reason was printed. */
int policy_sources_add(struct policy_sources *sources, const char *directory);

/*
 * As policyfiles_load(): the directories, or these files as drafts among them; prints each finding.
 */
int policy_sources_load(const struct policy_sources *sources, const char *const *files,
			size_t n_files, struct policy_report *report, struct policy *ret_policy);

/*
 * As policy_sources_load(). If drafts have no mistake, but the others have more with them than
 * without, prints those, and counts them in `caused`.
 */
int policy_sources_check(const struct policy_sources *sources, const char *const *files,
			 size_t n_files, struct policy_report *report, struct policy *ret_policy);

/* Prints one finding and counts it in the struct policy_report that is userdata. */
void policy_sources_print(void *userdata, const struct policy_finding *f);
