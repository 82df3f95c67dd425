/* SPDX-License-Identifier: MIT */
/*
 * Measures how long a verdict takes, and how that grows: `make bench`. It is a figure to look at,
 * not a test: on a machine that does other things too, only the ratios within one run mean
 * something. With the argument `plain`, as tests/bench/run calls it, it measures for a shorter time
 * and prints the rules and the nanoseconds of a verdict, a line for each size.
 *
 * The policy is of the kind that gets long: device names for models and serial numbers, a rule for
 * each of many users, some for groups, a few for everybody. The machine has 1,000 functions, two to
 * a card.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/common/util.h"
#include "policy/policy.h"

#define FUNCTIONS 1000
#define GROUPS 16
#define MOST 100000

static double enough = 0.3; /* of measuring, in seconds, for each line */

static struct policy_facts functions[FUNCTIONS];
static char serials[FUNCTIONS][16], paths[FUNCTIONS][32];

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void make_functions(void)
{
	for (unsigned int i = 0; i < FUNCTIONS; i++) {
		snprintf(serials[i], sizeof(serials[i]), "%06x", i / 2);
		snprintf(paths[i], sizeof(paths[i]), "pci0000:%02x/%02x.0/00.%u", i / 64,
			 i / 2 % 32, i % 2);
		functions[i] = (struct policy_facts){
			.address = { .bus = (uint8_t)(i / 64),
				     .device = (uint8_t)(i / 2 % 32),
				     .function = (uint8_t)(i % 2) },
			.vendor = 0x10de,
			.device = (uint16_t)(0x2000 + i / 2 % 8),
			.class_code = i % 2 ? 0x040300 : 0x030000,
			.iommu_group = i / 2,
			.driver = "vfio-pci",
			.serial = serials[i],
			.path = paths[i],
		};
	}
}

static int no_account(void *userdata, const char *name, uint32_t *ret_id)
{
	(void)userdata;
	(void)name;
	(void)ret_id;
	return 1;
}

static void found(void *userdata, const struct policy_finding *finding)
{
	(void)userdata;
	if (finding->severity != POLICY_MISTAKE)
		return;
	fprintf(stderr, "%u:%u: %s\n", finding->line, finding->column, finding->text);
	exit(1);
}

static void print_rule(FILE *out, unsigned int i)
{
	switch (i % 10) {
	case 0:
		fprintf(out, "device card-%u serial %06x\n", i % 50000, i % (FUNCTIONS / 2));
		break;
	case 1:
		fprintf(out, "device card-%u vendor 10de device %04x\n", (i - 1) % 50000,
			0x2000 + i % 8);
		break;
	case 2:
		fprintf(out, "allow group %u claim vendor 10de device %04x limit 4\n", 100 + i,
			0x2000 + i % 8);
		break;
	case 3:
		fprintf(out, "deny user %u claim class storage\n", 2000 + i);
		break;
	case 4:
		fprintf(out, "allow user %u claim path %02x.0/00.0 for 8h\n", 2000 + i, i % 32);
		break;
	default:
		fprintf(out, "allow user %u claim card-%u memlock 64G limit 2\n", 2000 + i,
			(i - i % 10) % 50000);
	}
}

static void make_policy(unsigned int n_rules, struct policy *ret_policy, double *ret_seconds)
{
	const struct policy_parser_ops ops = { .user = no_account,
					       .group = no_account,
					       .found = found };
	struct policy_parser *parser;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	double start;

	if (!out || policy_parser_new(&ops, &parser) < 0)
		exit(1);
	for (unsigned int i = 0; i < n_rules; i++)
		print_rule(out, i);
	fclose(out);
	start = seconds();
	if (policy_parser_file(parser, "bench.policy", text, len) < 0 ||
	    policy_parser_finish(parser, ret_policy) != 0 || policy_index_build(ret_policy))
		exit(1);
	*ret_seconds = seconds() - start;
	policy_parser_free(parser);
	free(text);
}

static uint32_t leases(void *userdata, size_t rule)
{
	(void)userdata;
	return rule % 2;
}

/*
 * Returns the seconds that a verdict on a group of two functions takes, the mean over all groups.
 */
static double measure(const struct policy *policy)
{
	static gid_t groups[GROUPS];
	const struct policy_subject subject = {
		.uid = 2005, .gid = 2005, .groups = groups, .n_groups = GROUPS
	};
	const struct policy_usage usage = { .leases = leases };
	struct policy_verdict verdict;
	unsigned int verdicts = 0;
	double start, taken;

	for (unsigned int i = 0; i < GROUPS; i++)
		groups[i] = 102 + 10 * i;
	start = seconds();
	do {
		size_t pair = verdicts++ * 2 % FUNCTIONS;

		policy_decide(policy, &subject, functions + pair, 2, 0, &usage, &verdict);
		taken = seconds() - start;
	} while (taken < enough);
	return taken / verdicts;
}

static int print_plainly(void)
{
	enough = 0.1;
	for (unsigned int n = 10; n <= MOST; n *= 10) {
		struct policy policy;
		double parsing;

		make_policy(n, &policy, &parsing);
		printf("%u %.0f\n", n, measure(&policy) * 1e9);
		policy_done(&policy);
	}
	return 0;
}

int main(int argc, char **argv)
{
	double first = 0;

	make_functions();
	if (argc == 2 && !strcmp(argv[1], "plain"))
		return print_plainly();
	printf("A verdict on a group of two functions, out of %d functions:\n\n", FUNCTIONS);
	printf("%8s %12s %10s %10s %14s %12s\n", "rules", "a verdict", "ratio", "ns a rule",
	       "all functions", "parsing");
	for (unsigned int n = 10; n <= MOST; n *= 10) {
		struct policy policy;
		double parsing, taken;

		make_policy(n, &policy, &parsing);
		taken = measure(&policy);
		if (n == 10)
			first = taken;
		printf("%8u %9.2f us %9.1fx %10.1f %11.1f ms %9.2f ms\n", n, taken * 1e6,
		       taken / first, taken * 1e9 / n, taken * FUNCTIONS * 1e3, parsing * 1e3);
		if (n == MOST)
			printf("\nFrom 10 rules to %d, a verdict takes %.0f times as long; linear "
			       "would be %d times.\n",
			       MOST, taken / first, MOST / 10);
		policy_done(&policy);
	}
	return 0;
}
