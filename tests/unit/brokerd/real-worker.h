/* SPDX-License-Identifier: MIT */
/* A broker whose workers are processes, which write to the files in the shape of sysfs. */
#pragma once

#include "brokerd/process/filter.h"
#include "tests/unit/brokerd/world.h"

#include <poll.h>
#include <sys/prctl.h>

/* Makes a broker, its loop and what its workers need, and lets anybody claim, by that rule. */
static inline void broker_make_with_workers(struct policy_rule *rule)
{
	need(freopen("/dev/null", "w", stderr)); /* the log */
	broker_make();
	need(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); /* for the workers' filter, without root */
	need(!filter_new(CONFINE_WORKER, &broker.worker_filter));
	broker.workers.filter = broker.worker_filter;
	broker_allow_all(rule);
}

/* Waits until no worker is at work, for at most half a minute. */
static inline void wait_for_workers(void)
{
	for (int n = 0; n < 30000; n++) {
		const struct lease *lease;
		bool work = false;

		turn(TURNS);
		TAILQ_FOREACH(lease, &broker.leases.table.list, link)
			work = work || lease->work;
		if (!work)
			return;
		poll(NULL, 0, 1);
	}
}
