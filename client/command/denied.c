/* SPDX-License-Identifier: MIT */
/*
 * After "no rule allows you": why, as far as the policy's files, the account and the session tell,
 * and what the caller may claim instead. Only hints: the broker has decided, by its own policy.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/account.h"
#include "client/command/inventory.h"
#include "client/command/names.h"
#include "client/command/screen.h"
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

/* A device that one may claim, or all those of a name of the policy. */
struct claimable {
	char name[POLICY_NAME_MAX]; /* "": none */
	char address[20];	    /* of the first */
	enum gpubroker_status status;
	unsigned n, n_free;
};

struct allowed {
	struct policy policy; /* for the names */
	struct inventory inventory;
	struct claimable list[MOST_NAMED];
	unsigned n, gpus;
	bool more;
};

/* Finds the first name of the policy that means the device. Returns "" if none does. */
static const char *name_of_device(const struct allowed *allowed, const char *device)
{
	const struct function *f;
	struct pci_address address;
	struct policy_facts facts;

	f = pci_address_parse(device, &address) ? NULL
						: inventory_find(&allowed->inventory, &address);
	if (!f)
		return "";
	facts = function_facts(f);
	for (uint32_t i = 0; i < allowed->policy.n_names; i++)
		if (policy_name_matches(&allowed->policy, i, &facts, NULL))
			return allowed->policy.names[i].text;
	return "";
}

static int add_allowed(void *userdata, const struct gpubroker_device *device)
{
	const bool is_free = device->status == GPUBROKER_AVAILABLE ||
			     device->status == GPUBROKER_VFIO_READY;
	struct allowed *allowed = userdata;
	const char *name;
	unsigned i = 0;

	if (!class_is_gpu(device->class_code))
		return 0;
	allowed->gpus++;
	if (!device->allowed)
		return 0;
	name = name_of_device(allowed, device->address);
	while (i < allowed->n && (!*name || strcmp(allowed->list[i].name, name)))
		i++;
	if (i == MOST_NAMED) {
		allowed->more = true;
		return 0;
	}
	if (i == allowed->n) {
		allowed->list[i] = (struct claimable){ .status = device->status };
		snprintf(allowed->list[i].name, sizeof(allowed->list[i].name), "%s", name);
		snprintf(allowed->list[i].address, sizeof(allowed->list[i].address), "%s",
			 screen_address(device->address));
		allowed->n++;
	}
	allowed->list[i].n++;
	allowed->list[i].n_free += is_free;
	return 0;
}

/* "spare (01:00.0, available)", "teaching (2 of 4 free)", or "01:00.0 (leased)" */
static size_t write_claimable(const struct claimable *c, char *out, size_t size)
{
	int n;

	if (c->n > 1)
		n = snprintf(out, size, "%s (%u of %u free)", c->name, c->n_free, c->n);
	else if (c->name[0])
		n = snprintf(out, size, "%s (%s, %s)", c->name, c->address,
			     gpubroker_status_name(c->status));
	else
		n = snprintf(out, size, "%s (%s)", c->address, gpubroker_status_name(c->status));
	return n < 0 || (size_t)n >= size ? size - 1 : (size_t)n;
}

static void say_allowed_devices(struct gpubroker *handle)
{
	struct allowed allowed = { 0 };
	char list[MOST_NAMED * 96] = "";
	size_t len = 0;

	names_read(&allowed.policy);
	inventory_read_local(&allowed.inventory);
	if (gpubroker_list(handle, add_allowed, &allowed))
		allowed.gpus = 0;
	for (unsigned i = 0; i < allowed.n; i++) {
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s", i ? ", " : "");
		len += write_claimable(&allowed.list[i], list + len, sizeof(list) - len);
	}
	if (allowed.n)
		cli_error("you may claim %s%s", list,
			  allowed.more ? ", and others that 'gpubroker list' shows" : "");
	else if (allowed.gpus)
		cli_error("no rule allows you any GPU of this host");
	inventory_done(&allowed.inventory);
	policy_done(&allowed.policy);
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
