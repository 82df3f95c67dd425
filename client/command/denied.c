/* SPDX-License-Identifier: MIT */
/*
 * After "no rule allows you": why, as far as the policy's files, the account and the session tell,
 * and what the caller may claim instead. Only hints: the broker has decided, by its own policy.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/account.h"
#include "client/command/inventory.h"
#include "client/common/util.h"
#include "client/host/policyfiles.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct denied {
	const char *device; /* as it was asked for */
	struct policy policy;
	struct inventory inventory;
};

/* Returns true if the device's name means the function. */
static bool function_is_meant(const struct denied *d, const struct function *f)
{
	struct policy_facts facts = function_facts(f);
	struct pci_address address;
	uint32_t name;
	char group[32];

	if (!pci_address_parse(d->device, &address))
		return !pci_address_compare(&address, &f->address);
	if (!strcmp(d->device, "any"))
		return class_is_gpu(f->class_code);
	snprintf(group, sizeof(group), "iommu-group:%" PRIu32, f->iommu_group);
	if (!strcmp(d->device, group))
		return true;
	/* A name that means a part is not judged here. */
	return !policy_name_find(&d->policy, d->device, &name) &&
	       !policy_name_has_part(&d->policy, name, NULL) &&
	       policy_name_matches(&d->policy, name, &facts, NULL);
}

/* Returns true if the files allow the subject one of the functions that are meant. */
static bool files_allow(const struct denied *d, const struct policy_subject *subject)
{
	struct group_view *view = calloc(1, sizeof(*view));
	struct policy_facts facts[FUNCTIONS_MAX];
	struct policy_verdict verdict = { .outcome = POLICY_NO_RULE };

	for (size_t i = 0; view && i < d->inventory.n; i++) {
		const struct function *f = &d->inventory.functions[i];
		size_t asked;

		if (!function_is_meant(d, f))
			continue;
		inventory_group(&d->inventory, f, view);
		asked = group_find(view, &f->address);
		if (asked == SIZE_MAX)
			continue;
		for (size_t k = 0; k < view->n_functions; k++)
			facts[k] = function_facts(&view->functions[k]);
		policy_decide(&d->policy, subject, facts, view->n_functions, asked, NULL, &verdict);
		if (verdict.outcome == POLICY_ALLOWED)
			break;
	}
	free(view);
	return verdict.outcome == POLICY_ALLOWED;
}

/* The files allow what the broker refused, to the account with all its groups: why? */
static void say_allowed(const struct denied *d, const struct account *account)
{
	struct policy_subject session = account->subject;
	char list[160];
	gid_t *own;
	int n = getgroups(0, NULL);

	own = calloc((size_t)(n > 0 ? n : 0) + 1, sizeof(*own));
	n = own ? getgroups(n, own) : -1;
	if (n < 0) {
		free(own);
		return;
	}
	session.gid = getegid();
	session.groups = own;
	session.n_groups = (size_t)n;
	if (!files_allow(d, &session) && account_missing_groups(account, list, sizeof(list)))
		cli_error("a rule for one of your groups allows it, and this session began before "
			  "you had that group (%s): log in again",
			  list);
	else
		cli_error("the policy's files allow it by now, and the broker has not loaded them "
			  "since; the "
			  "administrator can do that with 'gpubroker policy reload'");
	free(own);
}

/* Reads the policy's files. Returns false if they do not tell anything. */
static bool read_policy(struct policy *ret_policy)
{
	const struct policyfiles request = {
		.directories = policyfiles_directories,
		.n_directories = POLICYFILES_DIRECTORIES,
	};

	*ret_policy = (struct policy){ 0 };
	return !policyfiles_load(&request, ret_policy);
}

/* Returns true if it has said why. */
static bool say_by_files(const char *device)
{
	struct denied d = { .device = device };
	struct account account = { 0 };
	bool said = false;

	if (read_policy(&d.policy) && !inventory_read_local(&d.inventory) &&
	    !account_find_uid(geteuid(), &account) && files_allow(&d, &account.subject)) {
		say_allowed(&d, &account);
		said = true;
	}
	account_done(&account);
	inventory_done(&d.inventory);
	policy_done(&d.policy);
	return said;
}

/* ---- what one may claim ---- */

#define MOST_NAMED 8

struct allowed {
	char list[MOST_NAMED * 48];
	size_t len;
	unsigned n, gpus;
};

static int add_allowed(void *userdata, const struct gpubroker_device *device)
{
	struct allowed *allowed = userdata;
	const char *short_address = strncmp(device->address, "0000:", 5) ? device->address
									 : device->address + 5;

	if (!class_is_gpu(device->class_code))
		return 0;
	allowed->gpus++;
	if (!device->allowed || allowed->n++ >= MOST_NAMED)
		return 0;
	allowed->len += (size_t)snprintf(allowed->list + allowed->len,
					 sizeof(allowed->list) - allowed->len, "%s%s (%s)",
					 allowed->len ? ", " : "", short_address,
					 gpubroker_status_name(device->status));
	return 0;
}

static void say_allowed_devices(struct gpubroker *handle)
{
	struct allowed allowed = { .list = "" };

	if (gpubroker_list(handle, add_allowed, &allowed) || !allowed.gpus)
		return;
	if (!allowed.n)
		cli_error("no rule allows you any GPU of this host");
	else
		cli_error("you may claim %s%s", allowed.list,
			  allowed.n > MOST_NAMED ? ", and others that 'gpubroker list --json' shows"
						 : "");
}

void cli_explain_denied(struct gpubroker *handle, const char *device)
{
	const char *user = getenv("SUDO_USER");
	struct gpubroker_policy state = { 0 };

	if (!geteuid() && user && *user && strcmp(user, "root") != 0) {
		cli_error(
			"sudo makes you root, and rules for %s do not concern root: run it as %s, "
			"without sudo",
			user, user);
		return;
	}
	if (!gpubroker_policy(handle, &state) && state.refused) {
		cli_error("the policy's files have %" PRIu64
			  " mistake%s, so %s in force; 'gpubroker "
			  "policy check' shows %s",
			  state.mistakes, state.mistakes == 1 ? "" : "s",
			  state.in_force ? "an older policy is" : "no policy is",
			  state.mistakes == 1 ? "it" : "them");
	}
	if (!device || !say_by_files(device))
		say_allowed_devices(handle);
}
