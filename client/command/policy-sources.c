/* SPDX-License-Identifier: MIT */
/*
 * Loads the policy for the `gpubroker policy` commands, and prints what is wrong with it, each
 * finding with its line and a caret.
 */
#include "config.h"

#include "client/command/policy-sources.h"
#include "client/command/cli.h"
#include "client/command/policy-save.h"
#include "client/common/util.h"
#include "client/host/subids.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void policy_sources_init(struct policy_sources *sources)
{
	*sources = (struct policy_sources){ 0 };
}

int policy_sources_add(struct policy_sources *sources, const char *directory)
{
	if (sources->n_given == ARRAY_SIZE(sources->given)) {
		cli_error("more than %zu policy directories", ARRAY_SIZE(sources->given));
		return EXIT_BAD_USAGE;
	}
	sources->given[sources->n_given++] = directory;
	return 0;
}

/* Prints the line, with its control characters replaced, and a caret below the column. */
static void print_source(const struct policy_finding *f)
{
	const size_t width = 72;
	size_t column = f->column ? f->column - 1 : 0, from = 0, n;

	if (!f->source || !f->line)
		return;
	/* For a long line, only the part around the column. */
	if (column > width - 8)
		from = column - (width - 8);
	n = f->source_len > from ? f->source_len - from : 0;
	if (n > width)
		n = width;
	fputs("    ", stdout);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)f->source[from + i];

		putchar(c < ' ' || c >= 0x7f ? (c == '\t' ? ' ' : '?') : c);
	}
	printf("\n    %*s^\n", (int)(column - from), "");
}

static bool is_asked_for(const struct policy_report *report, const char *path)
{
	for (size_t i = 0; i < report->n_files; i++)
		if (!strcmp(report->files[i], path))
			return true;
	return !report->n_files || report->all;
}

void policy_sources_print(void *userdata, const struct policy_finding *f)
{
	struct policy_report *report = userdata;

	if (report->quiet || !is_asked_for(report, f->path))
		return;
	if (f->severity == POLICY_MISTAKE)
		report->mistakes++;
	else if (report->mistakes_only)
		return;
	else
		report->warnings++;
	cli_print_text(
		stdout,
		report->shown && !strcmp(f->path, report->files[0]) ? report->shown : f->path, -1);
	if (f->line)
		printf(":%u:%u", (unsigned)f->line, (unsigned)f->column);
	fputs(f->severity == POLICY_MISTAKE ? ": error: " : ": warning: ", stdout);
	cli_print_text(stdout, f->text, -1);
	putchar('\n');
	print_source(f);
}

static int keep_text(void *userdata, size_t index, const char *name, const char *text, size_t len)
{
	const struct policy_report *report = userdata;

	return policy_texts_add(report->texts, index, name, text, len);
}

/* Adds whose the subordinate uids are, as the daemon's loader does. */
static int load_owners(struct policy_report *report, struct policy *policy)
{
	struct subids_named named = { 0 };
	const struct subids request = {
		.directory = SUBIDS_DIRECTORY,
		.named = { &named },
		.found = policy_sources_print,
		.userdata = report,
	};
	int r = subids_named_find(policy, &named);

	if (!r)
		r = subids_load(&request, &policy->owners);
	subids_named_done(&named);
	return r;
}

int policy_sources_load(const struct policy_sources *sources, const char *const *files,
			size_t n_files, struct policy_report *report, struct policy *ret_policy)
{
	struct policyfiles request = {
		.files = files,
		.n_files = n_files,
		.without_accounts = sources->without_accounts,
		.directories = sources->n_given ? sources->given : policyfiles_directories,
		.n_directories = sources->n_given ? sources->n_given : POLICYFILES_DIRECTORIES,
		.must_exist = sources->n_given > 0,
		/* Root can read all, so an open file shows nothing. */
		.reader = geteuid() || sources->n_given ? NULL : "gpubroker",
		.others = &report->others,
		.all = report->all,
		.found = policy_sources_print,
		.text = report->texts ? keep_text : NULL,
		.userdata = report,
	};
	int r;

	report->files = files;
	report->n_files = n_files;
	r = policyfiles_load(&request, ret_policy);
	if (!r && !sources->without_accounts)
		r = load_owners(report, ret_policy);
	if (r < 0)
		policy_done(ret_policy);
	return r;
}

int policy_sources_check(const struct policy_sources *sources, const char *const *files,
			 size_t n_files, struct policy_report *report, struct policy *ret_policy)
{
	struct policy_report before = { .mistakes_only = true, .quiet = true };
	struct policy policy = { 0 };
	int r = policy_sources_load(sources, files, n_files, report, ret_policy), without;

	if (r <= 0 || report->mistakes || !n_files)
		return r;
	without = policy_sources_load(sources, NULL, 0, &before, &policy);
	if (!without)
		policy_done(&policy);
	if (without < 0 || r <= without)
		return r;
	*report = (struct policy_report){ .mistakes_only = true, .all = true };
	r = policy_sources_load(sources, files, n_files, report, ret_policy);
	report->caused = r > without ? (unsigned)(r - without) : 0;
	return r;
}
