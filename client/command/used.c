/* SPDX-License-Identifier: MIT */
/*
 * Collects the usage of devices, see used.h. A lease that ends while it is being asked for is there
 * once: numbers are never used twice. Prints nothing.
 */
#include "config.h"

#include "client/command/used.h"
#include "client/common/util.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static int used_add(struct used_list *list, const struct used *used)
{
	if (list->n == list->room) {
		const size_t room = list->room ? list->room * 2 : 64;
		struct used *larger = reallocarray(list->list, room, sizeof(*larger));

		if (!larger)
			return -ENOMEM;
		list->list = larger;
		list->room = room;
	}
	list->list[list->n++] = *used;
	return 0;
}

static int on_running(void *userdata, const struct gpubroker_lease *lease)
{
	struct used used = {
		.lease = lease->id,
		.since = lease->since,
		.until = (uint64_t)time(NULL),
		.uid = lease->uid,
		.running = true,
	};

	/* One that is not granted yet, or is only restored; and one whose record was damaged. */
	if (lease->state == GPUBROKER_LEASE_PREPARING || lease->state == GPUBROKER_LEASE_READY ||
	    !strcmp(lease->rule, "gpubroker restore") || lease->uid == UINT32_MAX ||
	    (geteuid() && geteuid() != (uid_t)lease->uid))
		return 0;
	snprintf(used.device, sizeof(used.device), "%s",
		 lease->n_devices ? lease->devices[0] : lease->parent);
	snprintf(used.profile, sizeof(used.profile), "%s", lease->profile);
	return used_add(userdata, &used);
}

static int on_ended(void *userdata, const struct gpubroker_used *ended)
{
	const uint64_t most = INT64_MAX;
	struct used used = {
		.lease = ended->lease,
		.since = ended->since < most ? ended->since : most,
		.uid = ended->uid,
	};

	used.until = used.since + (ended->seconds < most ? ended->seconds : most);
	snprintf(used.device, sizeof(used.device), "%s", ended->device);
	snprintf(used.profile, sizeof(used.profile), "%s", ended->profile);
	return used_add(userdata, &used);
}

static int by_lease(const void *a, const void *b)
{
	const struct used *x = a, *y = b;

	if (x->lease != y->lease)
		return x->lease < y->lease ? -1 : 1;
	return (int)x->running - (int)y->running;
}

static int by_since(const void *a, const void *b)
{
	const struct used *x = a, *y = b;

	return x->since != y->since ? (x->since < y->since ? -1 : 1) : by_lease(a, b);
}

static int by_user_and_device(const void *a, const void *b)
{
	const struct used_sum *x = a, *y = b;
	int r;

	if (x->uid != y->uid)
		return x->uid < y->uid ? -1 : 1;
	r = strcmp(x->device, y->device);
	return r ? r : strcmp(x->profile, y->profile);
}

int used_read(struct gpubroker *handle, uint64_t from, struct used_list *ret_list)
{
	struct used_list list = { 0 };
	uint64_t last = 0;
	size_t n = 0;
	/* First those that run: one that ends meanwhile is in both, and none is missed. */
	int r = gpubroker_leases(handle, on_running, &list);

	if (!r)
		r = gpubroker_usage(handle, on_ended, &list);
	if (r) {
		used_done(&list);
		return r;
	}
	if (list.n)
		qsort(list.list, list.n, sizeof(*list.list), by_lease);
	for (size_t i = 0; i < list.n; i++) {
		const struct used *used = &list.list[i];
		const bool again = i && used->lease == last;

		last = used->lease;
		if (!again && used->until >= from)
			list.list[n++] = *used;
	}
	list.n = n;
	if (n)
		qsort(list.list, n, sizeof(*list.list), by_since);
	*ret_list = list;
	return 0;
}

void used_done(struct used_list *list)
{
	free(TAKE_PTR(list->list));
	list->n = list->room = 0;
}

uint64_t used_seconds(const struct used *used, uint64_t from)
{
	const uint64_t start = used->since > from ? used->since : from;

	return used->until > start ? used->until - start : 0;
}

struct used_sum *used_add_up(const struct used_list *list, uint64_t from, size_t *ret_n)
{
	struct used_sum *sums = calloc(list->n + 1, sizeof(*sums));
	size_t n = 0;

	if (!sums)
		return NULL;
	for (size_t i = 0; i < list->n; i++) {
		const struct used *used = &list->list[i];

		sums[i] = (struct used_sum){
			.uid = used->uid,
			.device = used->device,
			.profile = used->profile,
			.leases = 1,
			.seconds = used_seconds(used, from),
			.last = used->running ? 0 : used->until,
		};
	}
	qsort(sums, list->n, sizeof(*sums), by_user_and_device);
	for (size_t i = 0; i < list->n; i++) {
		struct used_sum *sum = n ? &sums[n - 1] : NULL;

		if (!sum || by_user_and_device(sum, &sums[i])) {
			sums[n++] = sums[i];
			continue;
		}
		sum->leases++;
		sum->seconds += sums[i].seconds;
		if (!sums[i].last || (sum->last && sums[i].last > sum->last))
			sum->last = sums[i].last;
	}
	*ret_n = n;
	return sums;
}
