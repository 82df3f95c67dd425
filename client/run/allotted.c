/* SPDX-License-Identifier: MIT */
/*
 * Chooses the devices of an allotment, see allotted.h. It only saves the user from naming them: the
 * broker decides whom they are for.
 */
#include "config.h"

#include "client/run/allotted.h"
#include "client/common/util.h"

#include <string.h>

struct search {
	struct request *request;
	const char *label;	/* NULL: the only one */
	unsigned n;		/* that are the user's */
	bool found, retracting; /* the one that is meant */
	char labels[256];	/* "slurm-17, slurm-18" */
};

static void put_allotted(struct request *request, const struct gpubroker_allotment *allotment)
{
	request->n_devices = 0;
	for (size_t i = 0; i < allotment->n_devices && i < REQUEST_DEVICES_MAX; i++) {
		memcpy(request->allotted[i], allotment->devices[i], sizeof(request->allotted[i]));
		request->devices[request->n_devices++] =
			(struct request_device){ .name = request->allotted[i] };
	}
}

static int look_at_allotment(void *userdata, const struct gpubroker_allotment *allotment)
{
	struct search *search = userdata;
	const size_t len = strlen(search->labels);

	if (!allotment->own)
		return 0;
	if (search->label ? strcmp(search->label, allotment->label) != 0 : allotment->retracting)
		return 0;
	search->n++;
	snprintf(search->labels + len, sizeof(search->labels) - len, "%s%s", len ? ", " : "",
		 allotment->label);
	search->found = true;
	search->retracting = allotment->retracting;
	if (search->n == 1)
		put_allotted(search->request, allotment);
	return 0;
}

int allotted_take(const struct cli *cli, struct gpubroker *handle, struct request *request)
{
	struct search search = { .request = request, .label = request->allotment };
	int r;

	if (!request->implied)
		return 0;
	r = gpubroker_allotments(handle, look_at_allotment, &search);
	if (r)
		return cli_failed(cli, handle, r);
	if (search.label && !search.found) {
		cli_error("nothing is allotted to you under '%s'; 'gpubroker allotments' shows "
			  "what is",
			  search.label);
		return EXIT_NO_DEVICE;
	}
	if (search.retracting) {
		cli_error("%s is being taken away, so nothing can be claimed by it any more",
			  search.label);
		return EXIT_BUSY;
	}
	if (search.n < 2)
		return 0;
	cli_error("several allotments are yours (%s); say which by --allotment LABEL or by "
		  "GPUBROKER_ALLOTMENT in the environment, or give --gpu",
		  search.labels);
	return EXIT_BAD_USAGE;
}
