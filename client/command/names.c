/* SPDX-License-Identifier: MIT */
/* The names that the policy gives devices, see names.h. */
#include "config.h"

#include "client/command/names.h"
#include "client/command/cli.h"
#include "client/common/nearness.h"
#include "client/common/util.h"
#include "client/host/policyfiles.h"

#define MOST_NAMES 12 /* in one message */

void names_read(struct policy *ret_policy)
{
	const struct policyfiles request = {
		.directories = policyfiles_directories,
		.n_directories = POLICYFILES_DIRECTORIES,
		.without_accounts = true,
	};

	*ret_policy = (struct policy){ 0 };
	if (policyfiles_load(&request, ret_policy))
		*ret_policy = (struct policy){ 0 };
}

void cli_hint_name(const char *given)
{
	struct policy policy;
	const char *near = NULL;
	unsigned int least = NEARNESS_NONE;
	char list[MOST_NAMES * (POLICY_NAME_MAX + 2) + 8] = "";
	size_t len = 0;

	names_read(&policy);
	for (size_t i = 0; i < policy.n_names; i++) {
		unsigned int edits = nearness(given, policy.names[i].text);

		if (edits < least) {
			least = edits;
			near = policy.names[i].text;
		}
		if (i < MOST_NAMES)
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s",
						i ? ", " : "", policy.names[i].text);
	}
	if (near)
		cli_error("did you mean '%s'?", near);
	else if (policy.n_names)
		cli_error("the policy's names are %s%s", list,
			  policy.n_names > MOST_NAMES ? ", ..." : "");
	policy_done(&policy);
}
