/* SPDX-License-Identifier: MIT */
/*
 * Measures the longest turn of the core's loop that one user can cause with a policy of a million
 * rules and groups of 64 functions: `make bench`. So long may everybody else wait for an answer. A
 * figure to look at, not a test.
 *
 * The sysfs is a few files on disk, and there is no device: claims are only asked about.
 */
#include "config.h"

#include "tests/unit/brokerd/world.h"

#include <time.h>

#define RULES 1000000
#define GROUPS 8 /* of 64 functions each */
#define CLIENTS 32
#define SECONDS 2

/* Returns processor time, so that other programs on this machine do not count. */
static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void make_devices(void)
{
	char address[32];

	for (unsigned bus = 1; bus <= GROUPS; bus++)
		for (unsigned i = 0; i < 64; i++) {
			const struct watcher_record record = {
				.type = WATCHER_DEVICE,
				.address = { .bus = (uint8_t)bus,
					     .device = (uint8_t)(i / 8),
					     .function = (uint8_t)(i % 8) },
				.vendor = 0x1234,
				.device = 0x1111,
				.class_code = 0x030000,
				.group = bus,
			};

			need(!devices_take(&broker.devices, &record));
			snprintf(address, sizeof(address), "0000:%02x:%02x.%u", bus, i / 8, i % 8);
			add_function(address, "0x030000\n", (int)bus);
		}
	broker.devices.scanned = true;
}

/* Rules of every kind that get many: for users, for models, for groups, and a few for everybody. */
static void make_rule(unsigned i, struct policy_rule *rule)
{
	*rule = (struct policy_rule){
		.verb = POLICY_ALLOW,
		.who = i % 4 == 3   ? POLICY_WHO_GROUP
		       : i % 4 == 2 ? POLICY_WHO_ANY
				    : POLICY_WHO_USER,
		.id = 200000 + i,
		.name = POLICY_NO_NAME,
		.vfio_driver = POLICY_NO_TEXT,
		.line = i + 1,
		.match = { POLICY_MATCH_NO_TEXTS },
	};
	rule->match.attributes = POLICY_VENDOR | POLICY_DEVICE_ID;
	rule->match.vendor = (uint16_t)(i >> 16);
	rule->match.device = (uint16_t)i;
	if (i % 1000 == 0) { /* allows the asking user each slot's own function */
		rule->who = POLICY_WHO_ANY;
		rule->match.vendor = 0x1234;
		rule->match.device = 0x2222;
	}
}

static void make_policy(void)
{
	struct policy *policy = &broker.policy.policy;

	policy->rules = calloc(RULES, sizeof(*policy->rules));
	policy->files = calloc(1, sizeof(*policy->files));
	need(policy->rules && policy->files);
	for (unsigned i = 0; i < RULES; i++)
		make_rule(i, &policy->rules[i]);
	policy->n_rules = RULES;
	policy->n_files = 1;
#ifdef POLICY_NOBODY
	need(!policy_index_build(policy));
#endif
	broker.policy.good = broker.policy.known = true;
}

/* Keeps all clients busy, and returns the longest turn. */
static double longest_turn(const int *fds, const void *packet, size_t size, unsigned *ret_answers)
{
	const double start = seconds();
	double longest = 0, before, after = start;

	*ret_answers = 0;
	while (after - start < SECONDS) {
		for (size_t i = 0; i < CLIENTS; i++) {
			union answer answer;

			while (hear(fds[i], &answer) > 0)
				if (answer.type == MESSAGE_END || answer.type == MESSAGE_REFUSAL) {
					++*ret_answers;
					say(fds[i], packet, size);
				}
		}
		before = seconds();
		event_base_loop(broker.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		after = seconds();
		if (after - before > longest)
			longest = after - before;
	}
	return longest;
}

static void measure(const char *what, const void *packet, size_t size)
{
	unsigned answers;
	int fds[CLIENTS];
	double longest;

	for (size_t i = 0; i < CLIENTS; i++) {
		fds[i] = dial_in(0);
		say(fds[i], packet, size);
	}
	longest = longest_turn(fds, packet, size, &answers);
	printf("%-34s %12.2f ms %12.0f\n", what, longest * 1e3, answers / (double)SECONDS);
	for (size_t i = 0; i < CLIENTS; i++)
		hang_up(fds[i]);
}

int main(void)
{
	const struct message_plain list = { .type = MESSAGE_LIST };
	struct message_claim claim = claim_by(SELECT_ADDRESS);

	broker_make();
	make_devices();
	make_policy();
	printf("%d clients of one user, %d rules, %d groups of 64 functions:\n\n", CLIENTS, RULES,
	       GROUPS);
	printf("%-34s %15s %12s\n", "all clients", "longest turn", "answers/s");
	measure("list all devices", &list, sizeof(list));
	claim.flags = CLAIM_ASK;
	claim.selectors[0].address = (struct pci_address){ .bus = 1 };
	measure("ask about one function's claim", &claim, sizeof(claim));
	claim.selectors[0].kind = SELECT_GROUP;
	claim.selectors[0].group = 2;
	measure("ask about a group", &claim, sizeof(claim));
	claim.selectors[0].kind = SELECT_ANY;
	measure("ask about any device", &claim, sizeof(claim));
	core_done(&broker);
	event_base_free(broker.base);
	return 0;
}
