/* SPDX-License-Identifier: MIT */
/*
 * Turns what the user asked for into a claim, see request.h. It prints what is wrong with the form
 * of it, and asks nobody.
 */
#include "config.h"

#include "client/run/request.h"
#include "client/command/cli.h"
#include "client/common/address.h"
#include "client/run/hint.h"

#include <errno.h>
#include <string.h>

bool request_has_memory(const struct request *request)
{
	for (size_t i = 0; i < request->n_devices; i++)
		if (request->devices[i].memory)
			return true;
	return false;
}

/* Adds a device by the name and profile that the user gave. */
static int add_asked(struct gpubroker_claim *claim, const struct request_device *device)
{
	char hint[HINT_TEXT];

	switch (device->profile ? gpubroker_claim_add_profile(claim, device->name, device->profile)
				: gpubroker_claim_add(claim, device->name)) {
	case 0:
		return 0;
	case -EDOM:
		cli_error("--profile '%s' does not have the form of a profile; 'gpubroker "
			  "profiles' shows the TYPE and NAME of those that there are",
			  device->profile);
		return EXIT_BAD_USAGE;
	default:
		if (device->profile && !strncmp(device->name, "iommu-group:", 12)) {
			cli_error("--profile needs a device, not %s; give the device's address",
				  device->name);
			return EXIT_BAD_USAGE;
		}
		if (hint_device(device->name, hint)) {
			cli_error("'%s' is no device; %s", device->name, hint);
			return EXIT_BAD_USAGE;
		}
		cli_error("'%s' is no device: give a PCI address as 0000:01:00.0 or 01:00.0, "
			  "iommu-group:N, a name from the policy, or any; 'gpubroker list' shows "
			  "the addresses",
			  device->name);
		return EXIT_BAD_USAGE;
	}
}

static bool is_address(const char *name)
{
	struct pci_address address;

	return !pci_address_parse(name, &address);
}

/* Adds a candidate for the name that the user gave; a name of the policy must mean it as well. */
static int add_candidate(struct gpubroker_claim *claim, const char *name,
			 const struct fit_candidate *c)
{
	const char *profile = c->profile[0] ? c->profile : NULL;

	if (!strcmp(name, "any") || is_address(name))
		return profile ? gpubroker_claim_add_profile(claim, c->device, profile)
			       : gpubroker_claim_add(claim, c->device);
	if (is_address(c->device))
		return gpubroker_claim_add_of(claim, name, c->device, profile);
	return gpubroker_claim_add_profile(claim, name, profile);
}

static int claim_new(struct gpubroker_claim **ret_claim)
{
	int r = gpubroker_claim_new(ret_claim);

	if (r)
		cli_error("%s", strerror(-r));
	return r ? EXIT_SOFTWARE : 0;
}

int request_check(const struct request *request)
{
	struct gpubroker_claim *claim;
	int r = claim_new(&claim);

	if (r)
		return r;
	for (size_t i = 0; !r && i < request->n_devices; i++) {
		const struct request_device *device = &request->devices[i];

		r = add_asked(claim, device);
		if (r || !device->memory)
			continue;
		r = EXIT_BAD_USAGE;
		if (device->profile)
			cli_error("--memory chooses a profile by itself, so it does not go with "
				  "--profile %s",
				  device->profile);
		else if (!strncmp(device->name, "iommu-group:", 12))
			cli_error("--memory needs a device, not %s; give an address, a name from "
				  "the policy, or any",
				  device->name);
		else
			r = 0;
	}
	gpubroker_claim_free(claim);
	return r;
}

int request_claim_with(const struct request *request, size_t at,
		       const struct fit_candidate *candidate, struct gpubroker_claim **ret_claim)
{
	struct gpubroker_claim *claim;
	int r = claim_new(&claim);

	if (r)
		return r;
	for (size_t i = 0; !r && i < request->n_devices; i++) {
		const struct request_device *device = &request->devices[i];

		if (candidate && i == at)
			r = add_candidate(claim, device->name, candidate);
		else if (device->is_chosen)
			r = add_candidate(claim, device->name, &device->chosen);
	}
	if (r) {
		cli_error("%s", strerror(-r));
		gpubroker_claim_free(claim);
		return EXIT_SOFTWARE;
	}
	for (size_t i = 0; !r && i < request->n_devices; i++)
		if (!request->devices[i].memory)
			r = add_asked(claim, &request->devices[i]);
	if (r) {
		gpubroker_claim_free(claim);
		return r;
	}
	/* With both groups and device nodes, the command shows by its first open which it takes. */
	gpubroker_claim_set_iommufd(claim, true);
	gpubroker_claim_set_force(claim, request->force);
	gpubroker_claim_set_wait(claim, request->wait);
	gpubroker_claim_set_memlock(claim, request->memlock);
	*ret_claim = claim;
	return 0;
}

int request_claim(const struct request *request, struct gpubroker_claim **ret_claim)
{
	return request_claim_with(request, 0, NULL, ret_claim);
}
