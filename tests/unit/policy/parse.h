/* SPDX-License-Identifier: MIT */
/*
 * For tests of the policy: parses text with made-up users and groups, and keeps the findings as
 * lines "basename:line:column: text", warnings with "warning: " before their text.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

struct parsed {
	struct policy policy;
	char *findings;
	size_t findings_len;
	size_t n_findings;
	unsigned int kinds; /* kinds of findings, a bit each */
	char source[64];    /* the line of the last finding, cut */
	int result;	    /* returned by policy_parser_finish() */
	unsigned int asked; /* how often the parser looked up a name */

	struct policy_parser *parser;
	FILE *out;
};

static inline int parse_account(struct parsed *parsed, const char *name, const char *const *known,
				uint32_t first, uint32_t *ret_id)
{
	parsed->asked++;
	if (strcmp(name, "unreachable") == 0)
		return -EIO;
	for (uint32_t i = 0; known[i]; i++) {
		if (strcmp(name, known[i]) != 0)
			continue;
		*ret_id = first + i;
		return 0;
	}
	return 1;
}

static inline int parse_user(void *userdata, const char *name, uid_t *ret_uid)
{
	static const char *const known[] = { "alice", "bob", "carol", "mallory", "any", NULL };

	return parse_account(userdata, name, known, 1000, ret_uid);
}

static inline int parse_group(void *userdata, const char *name, gid_t *ret_gid)
{
	static const char *const known[] = { "render", "video", "students", "ops", "tutors", NULL };

	return parse_account(userdata, name, known, 100, ret_gid);
}

static inline void parse_found(void *userdata, const struct policy_finding *finding)
{
	struct parsed *parsed = userdata;
	const char *slash = strrchr(finding->path, '/');

	parsed->n_findings++;
	parsed->kinds |= 1U << finding->kind;
	if (finding->source)
		snprintf(parsed->source, sizeof(parsed->source), "%.*s", (int)finding->source_len,
			 finding->source);
	if (parsed->n_findings > 1000) /* no test reads more */
		return;
	fprintf(parsed->out, "%s:%u:%u: %s%s\n", slash ? slash + 1 : finding->path, finding->line,
		finding->column, finding->severity == POLICY_WARNING ? "warning: " : "",
		finding->text);
}

static inline void parse_start(struct parsed *ret_parsed)
{
	struct policy_parser_ops ops = {
		.user = parse_user,
		.group = parse_group,
		.found = parse_found,
		.userdata = ret_parsed,
	};

	*ret_parsed = (struct parsed){ 0 };
	ret_parsed->out = open_memstream(&ret_parsed->findings, &ret_parsed->findings_len);
	if (!ret_parsed->out || policy_parser_new(&ops, &ret_parsed->parser) < 0)
		exit(99);
}

static inline void parse_file(struct parsed *parsed, const char *path, const char *text, size_t len)
{
	if (policy_parser_file(parsed->parser, path, text, len) < 0)
		exit(99);
}

static inline void parse_finish(struct parsed *parsed)
{
	parsed->result = policy_parser_finish(parsed->parser, &parsed->policy);
	parsed->parser = policy_parser_free(parsed->parser);
	fclose(parsed->out);
}

static inline void parse_bytes(const char *path, const char *text, size_t len,
			       struct parsed *ret_parsed)
{
	parse_start(ret_parsed);
	parse_file(ret_parsed, path, text, len);
	parse_finish(ret_parsed);
}

static inline void parse_text(const char *text, struct parsed *ret_parsed)
{
	parse_bytes("test.policy", text, strlen(text), ret_parsed);
}

/* Parses a policy that must be right. */
static inline void parse_right(const char *text, struct parsed *ret_parsed)
{
	parse_text(text, ret_parsed);
	if (ret_parsed->result == 0)
		return;
	printf("Bail out! A policy of this test is wrong: %s", ret_parsed->findings);
	exit(99);
}

static inline void parse_done(struct parsed *parsed)
{
	policy_done(&parsed->policy);
	free(parsed->findings);
	*parsed = (struct parsed){ 0 };
}
