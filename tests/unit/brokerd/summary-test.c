/* SPDX-License-Identifier: MIT */
/* The line for `systemctl status`: what is lent, waits and is stuck, and which policy is in force. */
#include "config.h"

#include "brokerd/claim/summary.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#include <string.h>

static struct policy_rule rule;
static unsigned changes;

static void on_changed(void *userdata)
{
	(void)userdata;
	changes++;
}

static bool says(const char *text)
{
	char out[SUMMARY_TEXT];

	summary_format(&broker.claims, out);
	if (!strstr(out, text))
		printf("# %s\n", out);
	return strstr(out, text);
}

/* Makes a lease of the function on that bus, in this state. */
static struct lease *lend(uint8_t bus, enum gpubroker_lease_state state)
{
	struct lease *lease = lease_new(&broker.leases.table, 0, 100U + bus);

	need(lease);
	lease->state = state;
	lease->asked.bus = bus;
	lease->n_functions = 1;
	lease->functions[0].address.bus = bus;
	return lease;
}

int main(void)
{
	struct core_ops ops;
	struct lease *lease, *mdev;

	broker_make();
	ops = *broker.ops;
	ops.changed = on_changed;
	broker.ops = &ops;
	tap_ok(says("0 of 0 GPUs lent; no policy yet"), "at the start there is nothing");
	broker_allow_all(&rule);
	broker.policy.known = true;
	broker.policy.loaded = 1764540000;
	for (uint8_t bus = 1; bus <= 4; bus++)
		add_device(bus, 0, 0x030000, 100U + bus);
	add_device(1, 1, 0x040300, 101); /* its audio function */
	add_device(5, 0, 0x020000, 105); /* a network card */
	lease = lend(1, GPUBROKER_LEASE_LEASED);
	lend(2, GPUBROKER_LEASE_RESTORING);
	lend(3, GPUBROKER_LEASE_STUCK);
	tap_ok(says("2 of 4 GPUs lent, 1 stuck; policy of 20") && !says("wait"),
	       "GPUs are counted, not their companions, and stuck ones apart");
	lend(5, GPUBROKER_LEASE_LEASED);
	mdev = lend(4, GPUBROKER_LEASE_LEASED);
	mdev->n_functions = 0;
	mdev->group = 900;
	strcpy(mdev->mdev.parent, "mtty");
	tap_ok(says("2 of 4 GPUs lent, 2 other leases, 1 stuck; policy"),
	       "what is no GPU, or a part of one, is another lease");
	broker.policy.mistakes = 1;
	tap_ok(says(", the one on disk has mistakes and is not in force"),
	       "a policy that is not in force is told");
	broker.policy.good = false;
	tap_ok(says("; no valid policy: nothing is lent"), "so is that there is none");
	changes = 0;
	lease_transition(lease, LEASE_CLOSED);
	tap_ok(changes == 1, "a lease that changes is reported");
	add_device(9, 0, 0x030000, 109);
	while (!TAILQ_EMPTY(&broker.leases.table.list))
		lease_free(TAILQ_FIRST(&broker.leases.table.list));
	broker_drop();
	return tap_done();
}
