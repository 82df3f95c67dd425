/* SPDX-License-Identifier: MIT */
/*
 * The line for `systemctl status`, see summary.h. It counts and never changes anything. The local
 * time needs no file, since daemon.c has read the time zone before its confinement.
 */
#include "config.h"

#include "brokerd/claim/summary.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct counts {
	size_t gpus, lent, others, waiting, stuck;
};

static void count_gpus(const struct claims *claims, struct counts *counts)
{
	const struct lease_table *table = &claims->leases->table;

	for (size_t i = 0; i < claims->devices->n; i++) {
		const struct device *device = &claims->devices->list[i];
		const struct lease *lease;

		if (!device_is_gpu(device))
			continue;
		lease = lease_find_group(table, device->record.group);
		counts->gpus++;
		counts->lent += lease && lease->state != GPUBROKER_LEASE_STUCK;
	}
}

/* Returns true if one of the lease's functions is a GPU, which count_gpus() has counted. */
static bool has_gpu(const struct claims *claims, const struct lease *lease)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct device *device =
			devices_find(claims->devices, &lease->functions[i].address);

		if (device && device_is_gpu(device))
			return true;
	}
	return false;
}

static struct counts count_all(const struct claims *claims)
{
	struct counts counts = { 0 };
	const struct waiting *waiting;
	const struct lease *lease;

	count_gpus(claims, &counts);
	TAILQ_FOREACH(lease, &claims->leases->table.list, link) {
		const bool stuck = lease->state == GPUBROKER_LEASE_STUCK;

		counts.stuck += stuck;
		counts.others += !stuck && !has_gpu(claims, lease);
	}
	for (uint64_t id = 1; (waiting = queue_find_from(&claims->queue, id)); id = waiting->id + 1)
		counts.waiting++;
	return counts;
}

static void summary_add(char out[SUMMARY_TEXT], const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void summary_add(char out[SUMMARY_TEXT], const char *format, ...)
{
	const size_t n = strlen(out);
	va_list args;

	va_start(args, format);
	vsnprintf(out + n, SUMMARY_TEXT - n, format, args);
	va_end(args);
}

static void add_policy(const struct policy_state *policy, char out[SUMMARY_TEXT])
{
	const time_t loaded = (time_t)policy->loaded;
	char text[24];
	struct tm tm;

	if (!policy->known)
		summary_add(out, "; no policy yet");
	else if (!policy->good)
		summary_add(out, "; no valid policy: nothing is lent");
	else if (localtime_r(&loaded, &tm) && strftime(text, sizeof(text), "%F %H:%M", &tm))
		summary_add(out, "; %s of %s", policy->saved ? "copy of the policy" : "policy",
			    text);
	if (policy->good && policy->mistakes)
		summary_add(out, ", the one on disk has mistakes and is not in force");
}

void summary_format(const struct claims *claims, char out[SUMMARY_TEXT])
{
	const struct counts counts = count_all(claims);

	out[0] = '\0';
	summary_add(out, "%zu of %zu GPU%s lent", counts.lent, counts.gpus,
		    counts.gpus == 1 ? "" : "s");
	if (counts.others)
		summary_add(out, ", %zu other lease%s", counts.others,
			    counts.others == 1 ? "" : "s");
	if (counts.waiting)
		summary_add(out, ", %zu wait%s", counts.waiting, counts.waiting == 1 ? "s" : "");
	if (counts.stuck)
		summary_add(out, ", %zu stuck", counts.stuck);
	add_policy(claims->policy, out);
}
