/* SPDX-License-Identifier: MIT */
/*
 * The hot paths whose instructions tests/instructions.t counts: `paths PATH` walks one of them
 * many times, in a function of its name that callgrind watches.
 *
 *	path_verdict  a verdict on a group of two functions under 10,000 rules
 *	path_decode   the form of a request, a claim of as many devices as there can be
 *	path_event    a uevent of the kernel, and the record of its function in a table of 1,000
 *
 * `paths compiler` says by what it was built. It does no I/O of its own, and nothing in a path may
 * depend on time, addresses or chance: the same build walks the same instructions.
 */
#include "config.h"

#include "brokerd/helper/uevent.h"
#include "brokerd/peer/request.h"
#include "brokerd/state/devices.h"
#include "client/common/util.h"
#include "policy/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WALKS 1000
#define RULES 10000
#define FUNCTIONS 1000

void path_verdict(const struct policy *policy, const struct policy_facts *facts);
void path_decode(struct peer *peer, const union peer_packet *packet);
void path_event(struct uevent_marks *marks, struct devices *devices, struct watcher_record *record);

static void __attribute__((noreturn)) fail(const char *what)
{
	fprintf(stderr, "paths: %s\n", what);
	exit(1);
}

/* ---- a verdict ---- */

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
	if (finding->severity == POLICY_MISTAKE)
		fail(finding->text);
}

static void print_rule(FILE *out, unsigned i)
{
	if (i % 10 == 0)
		fprintf(out, "device card-%u vendor 10de device %04x\n", i, 0x2000 + i / 10 % 8);
	else if (i % 10 == 1)
		fprintf(out, "allow group %u claim vendor 10de device %04x limit 4\n", 100 + i,
			0x2000 + i % 8);
	else if (i % 10 == 2)
		fprintf(out, "deny user %u claim class storage\n", 2000 + i);
	else
		fprintf(out, "allow user %u claim card-%u memlock 64G limit 2\n", 2000 + i,
			i - i % 10);
}

static void make_policy(struct policy *ret_policy)
{
	const struct policy_parser_ops ops = { .user = no_account,
					       .group = no_account,
					       .found = found };
	struct policy_parser *parser;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out || policy_parser_new(&ops, &parser) < 0)
		fail("no memory");
	for (unsigned i = 0; i < RULES; i++)
		print_rule(out, i);
	fclose(out);
	if (policy_parser_file(parser, "paths.policy", text, len) < 0 ||
	    policy_parser_finish(parser, ret_policy) != 0 || policy_index_build(ret_policy))
		fail("the policy cannot be read");
	policy_parser_free(parser);
	free(text);
}

static struct policy_facts facts_of(unsigned i)
{
	return (struct policy_facts){
		.address = { .bus = (uint8_t)(i / 64), .device = (uint8_t)(i / 2 % 32) },
		.vendor = 0x10de,
		.device = (uint16_t)(0x2000 + i / 2 % 8),
		.class_code = i % 2 ? 0x040300 : 0x030000,
		.iommu_group = i / 2,
		.driver = "vfio-pci",
		.serial = "0123",
		.path = "pci0000:00/01.0/00.0",
		.profile = "",
	};
}

static uint32_t no_leases(void *userdata, size_t rule)
{
	(void)userdata;
	(void)rule;
	return 0;
}

void __attribute__((noinline))
path_verdict(const struct policy *policy, const struct policy_facts *facts)
{
	static const gid_t groups[] = { 101, 111, 121, 1001 };
	const struct policy_usage usage = { .leases = no_leases };
	struct policy_verdict verdict;

	for (unsigned i = 0; i < WALKS; i++) {
		const struct policy_subject subject = {
			.uid = 2000 + i * 7 % RULES,
			.gid = 2000,
			.groups = groups,
			.n_groups = ARRAY_SIZE(groups),
		};

		policy_decide(policy, &subject, facts + i % (FUNCTIONS / 2) * 2, 2, 0, &usage,
			      &verdict);
	}
}

static void walk_verdict(void)
{
	static struct policy_facts facts[FUNCTIONS];
	struct policy policy;

	for (unsigned i = 0; i < FUNCTIONS; i++)
		facts[i] = facts_of(i);
	make_policy(&policy);
	path_verdict(&policy, facts);
	policy_done(&policy);
}

/* ---- a request ---- */

void __attribute__((noinline)) path_decode(struct peer *peer, const union peer_packet *packet)
{
	for (unsigned i = 0; i < WALKS; i++)
		if (request_ops.request(peer, packet, sizeof(packet->claim)))
			fail("the request was taken");
}

/* All is right but for the last byte that is looked at, so that it is checked and not begun. */
static void walk_decode(void)
{
	static struct peer peer = { .greeted = true };
	static union peer_packet packet = { .claim = { .type = MESSAGE_CLAIM,
						       .n_selectors = PROTOCOL_SELECTORS_MAX } };

	for (unsigned i = 0; i < PROTOCOL_SELECTORS_MAX; i++) {
		struct selector *selector = &packet.claim.selectors[i];

		selector->kind = SELECT_ADDRESS;
		selector->address.bus = (uint8_t)i;
		strcpy(selector->profile, "nvidia-63");
	}
	memset(packet.claim.selectors[PROTOCOL_SELECTORS_MAX - 1].name, 'x',
	       sizeof(packet.claim.selectors[0].name));
	path_decode(&peer, &packet);
}

/* ---- an event ---- */

void __attribute__((noinline))
path_event(struct uevent_marks *marks, struct devices *devices, struct watcher_record *record)
{
	static const char event[] =
		"bind@/devices/pci0000:00/0000:00:10.0/0000:01:00.0\0"
		"ACTION=bind\0"
		"DEVPATH=/devices/pci0000:00/0000:00:10.0/0000:01:00.0\0"
		"SUBSYSTEM=pci\0"
		"DRIVER=vfio-pci\0"
		"PCI_CLASS=30000\0"
		"PCI_ID=1234:1111\0"
		"PCI_SUBSYS_ID=1AF4:1100\0"
		"PCI_SLOT_NAME=0000:01:00.0\0"
		"MODALIAS=pci:v00001234d00001111sv00001AF4sd00001100bc03sc80i00\0"
		"SEQNUM=1234";

	for (unsigned i = 0; i < WALKS; i++) {
		marks->n = 0;
		uevent_take(marks, event, sizeof(event));
		record->address.bus = (uint8_t)(i % FUNCTIONS / 32);
		record->address.device = (uint8_t)(i % 32);
		if (marks->n != 1 || devices_take(devices, record) < 0)
			fail("the event was not taken");
	}
}

static void walk_event(void)
{
	static struct uevent_marks marks;
	struct watcher_record record = {
		.type = WATCHER_DEVICE,
		.vendor = 0x1234,
		.device = 0x1111,
		.class_code = 0x030000,
		.driver = "vfio-pci",
		.path = "pci0000:00/10.0/00.0",
		.model = "a display",
	};
	struct devices devices = { 0 };

	for (unsigned i = 0; i < FUNCTIONS; i++) {
		record.address.bus = (uint8_t)(i / 32);
		record.address.device = (uint8_t)(i % 32);
		record.group = i;
		if (devices_take(&devices, &record) < 0)
			fail("a device was not taken");
	}
	path_event(&marks, &devices, &record);
	devices_done(&devices);
}

static void print_compiler(void)
{
#ifdef __clang__
	printf("clang %d.%d.%d", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
	printf("gcc %d.%d.%d", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
#ifdef __x86_64__
	puts(" x86_64");
#else
	puts(" other");
#endif
}

int main(int argc, char **argv)
{
	const char *path = argc == 2 ? argv[1] : "";

	if (!strcmp(path, "verdict"))
		walk_verdict();
	else if (!strcmp(path, "decode"))
		walk_decode();
	else if (!strcmp(path, "event"))
		walk_event();
	else if (!strcmp(path, "compiler"))
		print_compiler();
	else
		fail("usage: paths verdict|decode|event|compiler");
	return 0;
}
