/* SPDX-License-Identifier: MIT */
/*
 * At start: the records of leases that an earlier run left. Each is taken up, whatever ended that
 * run; whether it is held is asked of the kernel (lending.c). What cannot be read is set aside with
 * a message, never guessed at.
 */
#include "config.h"

#include "brokerd/lending.h"
#include "brokerd/log.h"
#include "brokerd/record.h"
#include "client/sysfs.h"

#include <inttypes.h>
#include <string.h>

struct recovery {
	struct daemon *daemon;
	int error;
};

/* The record speaks of these very cards, not of others that came to their addresses since. */
static bool same_functions(const struct kernel *kernel, const struct lease *lease)
{
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *was = &lease->functions[i];
		struct function now;

		if (!sysfs_function_read(kernel->sys, &was->address, &now) &&
		    (now.vendor != was->vendor || now.device != was->device))
			return false;
	}
	return true;
}

static void damaged(struct daemon *daemon, const char *name, const char *why)
{
	log_error(
		"lease record %s: %s; it is set aside as %s.damaged, look there for the drivers that its "
		"functions had",
		name, why, name);
	if (record_set_aside(daemon->state_dir, name))
		log_error("lease record %s: cannot be set aside", name);
}

static void found(void *userdata, const char *name, const char *text, size_t len)
{
	struct recovery *recovery = userdata;
	struct daemon *daemon = recovery->daemon;
	struct lease read, *lease;
	char own_name[24], why[64];
	unsigned line;

	if (record_parse(text, len, &read, &line)) {
		snprintf(why, sizeof(why), "damaged in line %u", line);
		damaged(daemon, name, why);
		return;
	}
	snprintf(own_name, sizeof(own_name), "%" PRIu64, read.id);
	if (strcmp(own_name, name) != 0 || !read.n_functions ||
	    lease_find_group(&daemon->leases, read.group)) {
		damaged(daemon, name, "another lease's, or a second one of its group");
		return;
	}
	if (!same_functions(&daemon->kernel, &read)) {
		damaged(daemon, name, "other devices are at its addresses now");
		return;
	}
	lease = lease_new(&daemon->leases, read.id, read.group);
	if (!lease) {
		recovery->error = -ENOMEM;
		return;
	}
	lease->uid = read.uid;
	lease->pid = read.pid;
	lease->gid = read.gid;
	lease->since = read.since;
	lease->terms = read.terms;
	lease->n_gids = read.n_gids;
	memcpy(lease->gids, read.gids, sizeof(lease->gids));
	lease->n_functions = read.n_functions;
	memcpy(lease->functions, read.functions, sizeof(lease->functions));
	lease->asked = lease->functions[0].address;
}

int recover_leases(struct daemon *daemon)
{
	struct recovery recovery = { .daemon = daemon };
	struct lease *lease, *next;
	int r = record_each(daemon->state_dir, found, &recovery);

	if (!r)
		r = recovery.error;
	if (r) {
		log_error("the lease records cannot be read: %s; ending, to be started again",
			  strerror(-r));
		return r;
	}
	for (lease = TAILQ_FIRST(&daemon->leases.list); lease; lease = next) {
		next = TAILQ_NEXT(lease, link); /* it may end at once */
		log_info("lease=%" PRIu64 " uid=%" PRIu32 " group=%" PRIu32 " outcome=taken-up",
			 lease->id, lease->uid, lease->group);
		lending_take_up(daemon, lease);
	}
	return 0;
}
