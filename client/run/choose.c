/* SPDX-License-Identifier: MIT */
/*
 * Chooses devices for --memory, see choose.h. The candidates come from the broker's list and from
 * sysfs; the broker is asked for them one after the other, the best first, until it says that the
 * user may have one. It must never claim anything: between that answer and the claim another client
 * may be faster, and then run.c chooses again.
 */
#include "config.h"

#include "client/run/choose.h"
#include "client/host/function.h"
#include "client/common/name.h"
#include "client/host/profile.h"
#include "client/host/pci.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

struct fit_search {
	const struct cli *cli;
	struct gpubroker *handle;
	struct request *request;
	int sys, node;
	size_t at; /* which of the request's devices */
	struct fit_candidate *list;
	size_t n;
	/* --gpu is an address, or a name, or neither, which is any. */
	bool is_address, is_name;
	char address[PCI_ADDRESS_TEXT];
	bool no_name;	 /* the policy does not have the name */
	bool is_allowed; /* the policy allows some candidate, which may be refused otherwise */
	bool is_chosen;	 /* this command has a candidate that fits already */
	/* The first refusal that is about a candidate, and not about the user. */
	int refusal;
	char reason[1024];
};

/* The --gpu that is being chosen for. */
static const struct request_device *asked(const struct fit_search *search)
{
	return &search->request->devices[search->at];
}

/* ---- candidates ---- */

/* Returns true if this command asks for the device's group already, so that it is no other one. */
static bool is_taken(const struct fit_search *search, const struct fit_candidate *c)
{
	const struct request *request = search->request;
	uint32_t group;

	if (c->group == NO_GROUP)
		return false;
	for (size_t i = 0; i < request->n_devices; i++) {
		const struct request_device *device = &request->devices[i];
		struct pci_address address;

		if (device->is_chosen) {
			/* A device can have two parts, but not a part and be whole. */
			if (device->chosen.group == c->group &&
			    (!c->profile[0] || !device->chosen.profile[0]))
				return true;
		} else if (!device->memory && (!device->profile || !c->profile[0])) {
			if (!pci_address_parse(device->name, &address) &&
			    !sysfs_group_of(search->sys, &address, &group) && group == c->group)
				return true;
			if (!strncmp(device->name, "iommu-group:", 12) &&
			    strtoul(device->name + 12, NULL, 10) == c->group)
				return true;
		}
	}
	return false;
}

static int add_candidate(struct fit_search *search, const struct fit_candidate *candidate)
{
	struct fit_candidate *list;

	if (!candidate->memory)
		return 0;
	if (is_taken(search, candidate)) {
		search->is_chosen |= candidate->memory >= asked(search)->memory;
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
	struct fit_search *search = userdata;
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
		if (!search->request->force)
			return 0;
		break;
	case GPUBROKER_LEASED:
	case GPUBROKER_RELEASING:
	case GPUBROKER_IN_USE:
		c.is_busy = true;
		break;
	default:
		return 0;
	}
	snprintf(c.device, sizeof(c.device), "%s", device->address);
	c.group = device->iommu_group < 0 ? NO_GROUP : (uint32_t)device->iommu_group;
	c.memory = fit_memory(search->sys, &address);
	c.node = fit_node(search->sys, &address);
	return add_candidate(search, &c);
}

/* A file that cannot be read makes no candidate; `gpubroker profiles` prints why. */
static void skip_unreadable(void *userdata, const char *path, int error)
{
	(void)userdata;
	(void)path;
	(void)error;
}

/* How many of the profile this command has chosen already. */
static uint64_t chosen_of(const struct fit_search *search, const struct profile *p)
{
	const struct request *request = search->request;
	uint64_t n = 0;

	for (size_t i = 0; i < request->n_devices; i++)
		n += request->devices[i].is_chosen &&
		     !strcmp(request->devices[i].chosen.device, p->parent) &&
		     !strcmp(request->devices[i].chosen.profile, p->type);
	return n;
}

static int add_profile(struct fit_search *search, const struct profile *p)
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
	return add_candidate(search, &c);
}

/* Lists all that the --gpu may mean, whether it fits or not. 0, or -errno, or a refusal. */
static int find_candidates(struct fit_search *search)
{
	const char *device = asked(search)->name;
	struct pci_address address;
	struct profiles profiles;
	int r;

	search->is_address = !pci_address_parse(device, &address);
	search->is_name = !search->is_address && strcmp(device, "any") != 0;
	if (search->is_address)
		pci_address_format(&address, search->address);
	r = gpubroker_list(search->handle, on_device, search);
	if (r)
		return r;
	/* A profile that cannot be read is no candidate. */
	profiles_read(search->sys, skip_unreadable, NULL, &profiles);
	for (size_t i = 0; !r && i < profiles.n; i++)
		r = add_profile(search, &profiles.list[i]);
	profiles_done(&profiles);
	return r;
}

/* ---- what the broker allows ---- */

/*
 * Asks whether the candidate could be claimed together with those chosen so far. 0, or the refusal;
 * a fault is an exit status in *ret_status.
 */
static int may_have(struct fit_search *search, const struct fit_candidate *c, int *ret_status)
{
	struct gpubroker_claim *claim = NULL;
	struct pci_address address;
	int r;

	/* A name that the policy does not have may still be that of a device that makes parts. */
	if (search->no_name && !pci_address_parse(c->device, &address))
		return GPUBROKER_REFUSED_NO_NAME;
	*ret_status = request_claim_with(search->request, search->at, c, &claim);
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

/* Returns true if others have it, so that waiting helps. */
static bool is_others(int r)
{
	return r == GPUBROKER_REFUSED_BUSY || r == GPUBROKER_REFUSED_ALLOTTED;
}

/* "mbochs-medium of mbochs (16M)" */
static const char *name_of(const struct fit_candidate *c, char out[160])
{
	char size[CLI_SIZE_TEXT];

	cli_size_text(c->memory, size);
	snprintf(out, 160, "%s%s%s (%s)", c->profile, c->profile[0] ? " of " : "", c->device, size);
	return out;
}

/* Prints the choice, and why. `busy` would have been better, or is NULL. */
static void say_choice(const struct fit_search *search, const struct fit_candidate *c,
		       const struct fit_candidate *busy)
{
	char name[160], better[160], size[CLI_SIZE_TEXT], where[96] = "";
	int own = search->node;

	if (!cli_columns(stderr))
		return;
	cli_size_text(asked(search)->memory, size);
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

/*
 * Finds the largest free candidate from list[first] on that the user may have; NULL: none. Returns
 * 0, or an exit status.
 */
static int find_largest(struct fit_search *search, size_t first,
			const struct fit_candidate **ret_largest)
{
	int status = 0;

	*ret_largest = NULL;
	for (size_t i = first; !*ret_largest && i < search->n; i++) {
		if (search->list[i].is_busy)
			continue;
		if (!may_have(search, &search->list[i], &status))
			*ret_largest = &search->list[i];
		if (status)
			return status;
	}
	return 0;
}

/* Prints that all that fits is in use, and what is free instead, if anything is. */
static int say_busy(const struct fit_search *search, const struct fit_candidate *busy,
		    const struct fit_candidate *largest)
{
	char name[160], other[160], size[CLI_SIZE_TEXT];

	cli_size_text(asked(search)->memory, size);
	if (largest)
		cli_error("all that has %s and that you may have is in use, as %s; the largest "
			  "that is free is %s; --wait waits",
			  size, name_of(busy, name), name_of(largest, other));
	else
		cli_error("all that has %s and that you may have is in use, as %s; try again, or "
			  "use --wait",
			  size, name_of(busy, name));
	return EXIT_BUSY;
}

/* Prints that nothing fits, or has a size at all, and what is there instead. An exit status. */
static int say_nothing_fits(const struct fit_search *search, const struct fit_candidate *largest)
{
	const char *device = asked(search)->name;
	char name[160], size[CLI_SIZE_TEXT];

	cli_size_text(asked(search)->memory, size);
	if (largest) {
		cli_error("nothing of '%s' that you may have has %s; the largest that is free is "
			  "%s; ask for no more than that",
			  device, size, name_of(largest, name));
		return EXIT_NO_DEVICE;
	}
	if (search->no_name) {
		cli_error("the policy has no device \"%s\", and nothing of that name makes parts "
			  "of devices; give a PCI address, a name from the policy, or any",
			  device);
		return EXIT_NO_NAME;
	}
	if (!search->is_allowed) {
		cli_error("no rule allows you anything of '%s' that says how much memory it has; "
			  "ask the administrator for a rule in /etc/gpubroker/policy.d/",
			  device);
		return EXIT_POLICY;
	}
	cli_error("nothing of '%s' that you may have says how much memory it has; 'gpubroker list' "
		  "and 'gpubroker profiles' show what there is, and --gpu with --profile takes it "
		  "by name",
		  device);
	return EXIT_NO_DEVICE;
}

/*
 * Prints why nothing is chosen: nothing from list[0] to list[first - 1], which fit, can be had,
 * or `busy` could be, but is in use. Returns an exit status.
 */
static int say_none(struct fit_search *search, size_t first, const struct fit_candidate *busy)
{
	const struct fit_candidate *largest;
	char size[CLI_SIZE_TEXT];
	int status = find_largest(search, first, &largest);

	if (status)
		return status;
	if (busy)
		return say_busy(search, busy, largest);
	if (search->is_chosen) {
		cli_error("not enough devices under '%s' with %s: the ones that fit are already "
			  "used by this command",
			  asked(search)->name, cli_size_text(asked(search)->memory, size));
		return EXIT_NO_DEVICE;
	}
	/* A rule's limit, or a group that cannot be lent: the broker has said why. */
	if (search->refusal) {
		cli_error("%s", search->reason);
		return cli_refusal_status(search->refusal);
	}
	return say_nothing_fits(search, largest);
}

/* Chooses for one --gpu. 0, or an exit status. */
static int choose_one(struct fit_search *search)
{
	struct request_device *device = &search->request->devices[search->at];
	const struct fit_candidate *busy = NULL, *found = NULL;
	int r = find_candidates(search), status = 0;
	size_t i;

	if (r)
		return cli_failed(search->cli, search->handle, r);
	fit_sort(search->list, search->n, device->memory, search->node);
	for (i = 0; !found && i < search->n && search->list[i].memory >= device->memory; i++) {
		const struct fit_candidate *c = &search->list[i];

		if (busy && c->is_busy)
			continue; /* one is enough to wait for, or to name */
		r = may_have(search, c, &status);
		if (status)
			return status;
		if (!r && !c->is_busy)
			found = c;
		else if (!busy && (!r || is_others(r)))
			busy = c;
	}
	if (!found && busy && search->request->wait) {
		device->chosen = *busy;
		device->chosen.is_busy = true;
		say_choice(search, &device->chosen, NULL);
	} else if (!found) {
		return say_none(search, i, busy);
	} else {
		device->chosen = *found;
		say_choice(search, found, busy);
	}
	device->is_chosen = true;
	return 0;
}

/*
 * First asks the broker whether everything without --memory could be claimed: if not, no choice
 * helps, so that refusal is reported. 0, or an exit status.
 */
static int check_others(struct fit_search *search)
{
	const struct request *request = search->request;
	struct gpubroker_claim *claim;
	size_t n = 0;
	int r, status;

	for (size_t i = 0; i < request->n_devices; i++)
		n += !request->devices[i].memory;
	if (!n)
		return 0;
	status = request_claim(request, &claim);
	if (status)
		return status;
	r = gpubroker_claim_ask(search->handle, claim);
	gpubroker_claim_free(claim);
	return !r || (is_others(r) && request->wait) ? 0
						     : cli_failed(search->cli, search->handle, r);
}

int choose_devices(const struct cli *cli, struct gpubroker *handle, struct request *request)
{
	struct fit_search search = { .cli = cli, .handle = handle, .request = request };
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (sys < 0) {
		cli_error("cannot open /sys: %s", strerror(errno));
		return EXIT_KERNEL;
	}
	search.sys = sys;
	search.node = fit_own_node(sys);
	for (size_t i = 0; i < request->n_devices; i++)
		request->devices[i].is_chosen = false;
	r = check_others(&search);
	for (size_t i = 0; !r && i < request->n_devices; i++) {
		if (!request->devices[i].memory)
			continue;
		search.at = i;
		search.n = 0;
		search.no_name = search.is_allowed = search.is_chosen = false;
		search.refusal = 0;
		r = choose_one(&search);
	}
	free(search.list);
	return r;
}
