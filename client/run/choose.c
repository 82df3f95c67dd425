/* SPDX-License-Identifier: MIT */
/*
 * See runfit.h. What there is comes from the broker's list and from sysfs; whether a candidate may be had the
 * broker is asked, in the order in which they fit, until it says yes. It must never claim anything: between
 * the answer and the claim somebody else may be faster, and then run.c chooses anew.
 */
#include "config.h"

#include "client/host/function.h"
#include "client/common/name.h"
#include "client/host/profile.h"
#include "client/run/choose.h"
#include "client/host/pci.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

struct search {
	const struct cli *cli;
	struct gpubroker *handle;
	struct run_fit *fit;
	int sys, node;
	size_t at; /* which of the --gpu */
	struct fit_candidate *list;
	size_t n;
	/* What was asked of it: an address, or a name, or neither, which is any. */
	bool is_address, is_name;
	char address[PCI_ADDRESS_TEXT];
	bool no_name;	 /* the policy has not the name */
	bool is_allowed; /* something of it is, whatever else is against it */
	bool is_chosen;	 /* what fits is asked for by this command already */
	/* The nearest refusal that is about a candidate and not about who may have it. */
	int refusal;
	char reason[1024];
};

/* ---- the claim ---- */

static int add_asked(struct gpubroker_claim *claim, const struct run_qemu *asked, size_t i)
{
	const char *device = asked->devices[i], *profile = asked->profiles[i];

	switch (profile ? gpubroker_claim_add_profile(claim, device, profile)
			: gpubroker_claim_add(claim, device)) {
	case 0:
		return 0;
	case -EDOM:
		cli_error(
			"--profile '%s' is no profile by its form; 'gpubroker profiles' shows the "
			"TYPE and NAME of those that there are",
			profile);
		return EXIT_BAD_USAGE;
	default:
		if (profile && !strncmp(device, "iommu-group:", 12)) {
			cli_error("--profile is of a device, not of %s; give the device's address",
				  device);
			return EXIT_BAD_USAGE;
		}
		cli_error(
			"'%s' is no device: give a PCI address as 0000:01:00.0 or 01:00.0, iommu-group:N, a "
			"name from the policy, or any; 'gpubroker list' shows the addresses",
			device);
		return EXIT_BAD_USAGE;
	}
}

static bool is_any(const char *device)
{
	return !strcmp(device, "any");
}

static bool is_address(const char *device)
{
	struct pci_address address;

	return !pci_address_parse(device, &address);
}

/* Where a name was asked for, what is added is what it means, too. */
static int add_candidate(struct gpubroker_claim *claim, const char *asked,
			 const struct fit_candidate *c)
{
	const char *profile = c->profile[0] ? c->profile : NULL;

	if (is_any(asked) || is_address(asked))
		return profile ? gpubroker_claim_add_profile(claim, c->device, profile)
			       : gpubroker_claim_add(claim, c->device);
	if (is_address(c->device))
		return gpubroker_claim_add_of(claim, asked, c->device, profile);
	return gpubroker_claim_add_profile(claim, asked, profile);
}

/* `candidate` is one more, for that --gpu; or NULL. */
static int make_claim(const struct run_fit *fit, size_t at, const struct fit_candidate *candidate,
		      struct gpubroker_claim **ret_claim)
{
	const struct run_qemu *asked = fit->asked;
	struct gpubroker_claim *claim;
	int r = gpubroker_claim_new(&claim);

	for (size_t i = 0; !r && i < asked->n_devices; i++) {
		if (fit->is_chosen[i])
			r = add_candidate(claim, asked->devices[i], &fit->chosen[i]);
		else if (candidate && i == at)
			r = add_candidate(claim, asked->devices[i], candidate);
	}
	if (r) {
		cli_error("%s", strerror(-r));
		return EXIT_SOFTWARE;
	}
	for (size_t i = 0; !r && i < asked->n_devices; i++)
		if (!asked->memories[i])
			r = add_asked(claim, asked, i);
	if (r) {
		gpubroker_claim_free(claim);
		return r;
	}
	gpubroker_claim_set_iommufd(claim,
				    true); /* which way the command takes is seen when it opens */
	gpubroker_claim_set_force(claim, fit->force);
	gpubroker_claim_set_wait(claim, fit->wait);
	gpubroker_claim_set_memlock(claim, fit->memlock);
	*ret_claim = claim;
	return 0;
}

int run_fit_claim(const struct run_fit *fit, struct gpubroker_claim **ret_claim)
{
	return make_claim(fit, 0, NULL, ret_claim);
}

bool run_fit_is_meant(const struct run_fit *fit)
{
	for (size_t i = 0; i < fit->asked->n_devices; i++)
		if (fit->asked->memories[i])
			return true;
	return false;
}

/* ---- candidates ---- */

/* Is the device's group asked for already, by this command? Then it is no other one. */
static bool is_taken(const struct search *search, const struct fit_candidate *c)
{
	const struct run_fit *fit = search->fit;
	uint32_t group;

	if (c->group == NO_GROUP)
		return false;
	for (size_t i = 0; i < fit->asked->n_devices; i++) {
		const char *device = fit->asked->devices[i];
		struct pci_address address;

		if (fit->is_chosen[i]) {
			/* Two parts of one device are two; a part and the whole cannot be had. */
			if (fit->chosen[i].group == c->group &&
			    (!c->profile[0] || !fit->chosen[i].profile[0]))
				return true;
		} else if (!fit->asked->memories[i] &&
			   (!fit->asked->profiles[i] || !c->profile[0])) {
			if (!pci_address_parse(device, &address) &&
			    !sysfs_group_of(search->sys, &address, &group) && group == c->group)
				return true;
			if (!strncmp(device, "iommu-group:", 12) &&
			    strtoul(device + 12, NULL, 10) == c->group)
				return true;
		}
	}
	return false;
}

static int add(struct search *search, const struct fit_candidate *candidate)
{
	struct fit_candidate *list;

	if (!candidate->memory)
		return 0;
	if (is_taken(search, candidate)) {
		search->is_chosen |= candidate->memory >= search->fit->asked->memories[search->at];
		return 0;
	}
	list = reallocarray(search->list, search->n + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	search->list = list;
	list[search->n++] = *candidate;
	return 0;
}

static int on_device(void *userdata, const struct gpubroker_device *device)
{
	struct search *search = userdata;
	struct fit_candidate c = { .node = FIT_NO_NODE, .is_part = device->physfn[0] };
	struct pci_address address;

	if (!device->allowed || class_is_bridge(device->class_code) ||
	    (!search->is_address && !search->is_name && !class_is_gpu(device->class_code)) ||
	    (search->is_address && strcmp(search->address, device->address) != 0 &&
	     strcmp(search->address, device->physfn) != 0) ||
	    pci_address_parse(device->address, &address))
		return 0;
	search->is_allowed |= !search->is_name;
	switch (device->status) {
	case GPUBROKER_AVAILABLE:
	case GPUBROKER_VFIO_READY:
		break;
	case GPUBROKER_BOOT_VGA:
		if (!search->fit->force)
			return 0;
		break;
	case GPUBROKER_LEASED:
	case GPUBROKER_RELEASING:
		c.is_busy = true;
		break;
	default:
		return 0;
	}
	snprintf(c.device, sizeof(c.device), "%s", device->address);
	c.group = device->iommu_group < 0 ? NO_GROUP : (uint32_t)device->iommu_group;
	c.memory = fit_memory(search->sys, &address);
	c.node = fit_node(search->sys, &address);
	return add(search, &c);
}

/* A file that cannot be read makes no candidate. `gpubroker profiles` tells of it. */
static void on_problem(void *userdata, const char *path, int error)
{
	(void)userdata;
	(void)path;
	(void)error;
}

/* How many of them this command has chosen already. */
static uint64_t chosen_of(const struct search *search, const struct profile *p)
{
	const struct run_fit *fit = search->fit;
	uint64_t n = 0;

	for (size_t i = 0; i < fit->asked->n_devices; i++)
		n += fit->is_chosen[i] && !strcmp(fit->chosen[i].device, p->parent) &&
		     !strcmp(fit->chosen[i].profile, p->type);
	return n;
}

static int add_profile(struct search *search, const struct profile *p)
{
	struct fit_candidate c = {
		.memory = p->memory,
		.node = FIT_NO_NODE,
		.group = NO_GROUP,
		.is_part = true,
		.is_busy = p->available <= chosen_of(search, p),
	};
	struct pci_address address;

	if (!mdev_is_name(p->parent, sizeof(c.device)) ||
	    !mdev_is_name(p->type, sizeof(c.profile)) ||
	    (search->is_address && strcmp(search->address, p->parent) != 0 &&
	     strcmp(search->address, p->physfn) != 0))
		return 0;
	strcpy(c.device, p->parent);
	strcpy(c.profile, p->type);
	if (!pci_address_parse(p->parent, &address)) {
		c.node = fit_node(search->sys, &address);
		if (sysfs_group_of(search->sys, &address, &c.group))
			c.group = NO_GROUP;
	}
	return add(search, &c);
}

/* All that the --gpu may mean, whether it fits or not. 0, or -errno, or a refusal. */
static int find(struct search *search)
{
	const char *device = search->fit->asked->devices[search->at];
	struct pci_address address;
	struct profiles profiles;
	int r;

	search->is_address = !pci_address_parse(device, &address);
	search->is_name = !search->is_address && !is_any(device);
	if (search->is_address)
		pci_address_format(&address, search->address);
	r = gpubroker_list(search->handle, on_device, search);
	if (r)
		return r;
	/* What could not be read of it is missing, no more. */
	profiles_read(search->sys, on_problem, NULL, &profiles);
	for (size_t i = 0; !r && i < profiles.n; i++)
		r = add_profile(search, &profiles.list[i]);
	profiles_done(&profiles);
	return r;
}

/* ---- the broker's word ---- */

/* May it be had, beside what was chosen so far? 0, or the refusal; the status of a fault in *ret_status. */
static int may_have(struct search *search, const struct fit_candidate *c, int *ret_status)
{
	struct gpubroker_claim *claim = NULL;
	int r;

	/* A name that is none of the policy's may still be that of what makes parts. */
	if (search->no_name && is_address(c->device))
		return GPUBROKER_REFUSED_NO_NAME;
	*ret_status = make_claim(search->fit, search->at, c, &claim);
	if (*ret_status)
		return -EINVAL;
	r = gpubroker_claim_ask(search->handle, claim);
	gpubroker_claim_free(claim);
	if (r < 0)
		*ret_status = cli_failed(search->cli, search->handle, r);
	switch (r) {
	case GPUBROKER_REFUSED_NO_NAME:
		search->no_name = true;
		break;
	case GPUBROKER_REFUSED_POLICY:
	case GPUBROKER_REFUSED_NO_DEVICE:
	case GPUBROKER_REFUSED_NO_PROFILE:
	case GPUBROKER_REFUSED_NO_MDEVS:
		break;
	default:
		search->is_allowed |= r >= 0;
		if (r == GPUBROKER_REFUSED_BUSY)
			break;
		if (r <= 0 || search->refusal)
			break;
		search->refusal = r;
		snprintf(search->reason, sizeof(search->reason), "%s",
			 gpubroker_reason(search->handle));
	}
	return r;
}

/* "mbochs-medium of mbochs (16M)" */
static const char *name_of(const struct fit_candidate *c, char out[160])
{
	char size[CLI_SIZE_TEXT];

	cli_size_text(c->memory, size);
	snprintf(out, 160, "%s%s%s (%s)", c->profile, c->profile[0] ? " of " : "", c->device, size);
	return out;
}

/* Which, and why. `busy`: what would have been better; or NULL. */
static void say(const struct search *search, const struct fit_candidate *c,
		const struct fit_candidate *busy)
{
	char name[160], better[160], size[CLI_SIZE_TEXT], where[96] = "";
	int own = search->node;

	if (!cli_columns(stderr))
		return;
	cli_size_text(search->fit->asked->memories[search->at], size);
	if (own != FIT_NO_NODE && c->node == own)
		snprintf(where, sizeof(where), ", on your NUMA node %d", own);
	else if (own != FIT_NO_NODE && c->node != FIT_NO_NODE)
		snprintf(where, sizeof(where), ", on NUMA node %d, while you are on %d", c->node,
			 own);
	if (c->is_busy)
		cli_error("%s is the smallest that has %s%s; it is in use, and waited for",
			  name_of(c, name), size, where);
	else if (busy)
		cli_error("%s is the smallest free one that has %s%s; %s is in use",
			  name_of(c, name), size, where, name_of(busy, better));
	else
		cli_error("%s is the smallest that has %s%s", name_of(c, name), size, where);
}

/* There is nothing that fits. What there is instead, the largest first. An exit status. */
static int say_none(struct search *search, size_t first, const struct fit_candidate *busy)
{
	const char *device = search->fit->asked->devices[search->at];
	const struct fit_candidate *largest = NULL;
	char name[160], other[160], size[CLI_SIZE_TEXT];
	int r = 0, status = 0;

	cli_size_text(search->fit->asked->memories[search->at], size);
	for (size_t i = first; !largest && i < search->n; i++) {
		if (search->list[i].is_busy)
			continue;
		r = may_have(search, &search->list[i], &status);
		if (status)
			return status;
		if (!r)
			largest = &search->list[i];
	}
	if (busy && largest) {
		cli_error("all that has %s and that you may have is in use, as %s; the largest "
			  "that is free is %s; --wait waits",
			  size, name_of(busy, name), name_of(largest, other));
		return EXIT_BUSY;
	}
	if (busy) {
		cli_error("all that has %s and that you may have is in use, as %s; try again, or "
			  "use --wait",
			  size, name_of(busy, name));
		return EXIT_BUSY;
	}
	if (search->is_chosen) {
		cli_error(
			"'%s' has not as many with %s as are asked for: what fits stands in this command "
			"already",
			device, size);
		return EXIT_NO_DEVICE;
	}
	/* A rule's limit, a group that cannot be lent: the broker's own words. */
	if (search->refusal) {
		cli_error("%s", search->reason);
		return cli_refusal_status(search->refusal);
	}
	if (largest) {
		cli_error("nothing of '%s' that you may have has %s; the largest that is free is "
			  "%s; ask for no more than that",
			  device, size, name_of(largest, name));
		return EXIT_NO_DEVICE;
	}
	if (search->no_name) {
		cli_error(
			"the policy has no device \"%s\", and nothing of that name makes parts of "
			"devices; give a PCI address, a name from the policy, or any",
			device);
		return EXIT_NO_NAME;
	}
	if (!search->is_allowed) {
		cli_error(
			"no rule allows you anything of '%s' that says how much memory it has; ask the "
			"administrator for a rule in /etc/gpubroker/policy.d/",
			device);
		return EXIT_POLICY;
	}
	cli_error(
		"nothing of '%s' that you may have says how much memory it has; 'gpubroker list' and "
		"'gpubroker profiles' show what there is, and --gpu with --profile takes it by name",
		device);
	return EXIT_NO_DEVICE;
}

/* Chooses for one --gpu. 0, or an exit status. */
static int choose(struct search *search)
{
	struct run_fit *fit = search->fit;
	const uint64_t memory = fit->asked->memories[search->at];
	const struct fit_candidate *busy = NULL, *found = NULL;
	int r = find(search), status = 0;
	size_t i;

	if (r)
		return cli_failed(search->cli, search->handle, r);
	fit_sort(search->list, search->n, memory, search->node);
	for (i = 0; !found && i < search->n && search->list[i].memory >= memory; i++) {
		const struct fit_candidate *c = &search->list[i];

		if (busy && c->is_busy)
			continue; /* one is enough to be told of, or waited for */
		r = may_have(search, c, &status);
		if (status)
			return status;
		if (!r && !c->is_busy)
			found = c;
		else if (!busy && (!r || r == GPUBROKER_REFUSED_BUSY))
			busy = c;
	}
	if (!found && busy && fit->wait) {
		fit->chosen[search->at] = *busy;
		fit->chosen[search->at].is_busy = true;
		say(search, &fit->chosen[search->at], NULL);
	} else if (!found) {
		return say_none(search, i, busy);
	} else {
		fit->chosen[search->at] = *found;
		say(search, found, busy);
	}
	fit->is_chosen[search->at] = true;
	return 0;
}

/*
 * What is asked for beside: where that cannot be had, no choice helps, and what is said of it is about that. 0, or an
 * exit status.
 */
static int check_others(struct search *search)
{
	const struct run_fit *fit = search->fit;
	struct gpubroker_claim *claim;
	size_t n = 0;
	int r, status;

	for (size_t i = 0; i < fit->asked->n_devices; i++)
		n += !fit->asked->memories[i];
	if (!n)
		return 0;
	status = make_claim(fit, 0, NULL, &claim);
	if (status)
		return status;
	r = gpubroker_claim_ask(search->handle, claim);
	gpubroker_claim_free(claim);
	return !r || (r == GPUBROKER_REFUSED_BUSY && fit->wait)
		       ? 0
		       : cli_failed(search->cli, search->handle, r);
}

int run_fit_choose(const struct cli *cli, struct gpubroker *handle, struct run_fit *fit)
{
	struct search search = { .cli = cli, .handle = handle, .fit = fit };
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (sys < 0) {
		cli_error("cannot open /sys: %s", strerror(errno));
		return EXIT_KERNEL;
	}
	search.sys = sys;
	search.node = fit_own_node(sys);
	memset(fit->is_chosen, 0, sizeof(fit->is_chosen));
	r = check_others(&search);
	for (size_t i = 0; !r && i < fit->asked->n_devices; i++) {
		if (!fit->asked->memories[i])
			continue;
		search.at = i;
		search.n = 0;
		search.no_name = search.is_allowed = search.is_chosen = false;
		search.refusal = 0;
		r = choose(&search);
	}
	free(search.list);
	return r;
}
