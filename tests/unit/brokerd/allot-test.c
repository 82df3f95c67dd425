/* SPDX-License-Identifier: MIT */
/*
 * Allotments: their records, the table, the requests and who may make them, what they keep others
 * from, and their end. Claims are only asked for, so no device is bound.
 */
#include "config.h"

#include "brokerd/claim/allot.h"
#include "brokerd/record/allotment-record.h"
#include "client/library/refusal.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#define BOB 4242
#define CAROL 4243
#define BOBS 300000 /* the first of bob's subordinate uids */
#define GPU 1	    /* the bus of one, in group 11, and so on */

static struct policy_rule rules[3]; /* allotted; any, for bus 1; deny, for bus 3 */

/* ---- records ---- */

static struct allotment sample(void)
{
	struct allotment a = { .label = "slurm-17.0", .uid = BOB, .since = 1790000000 };

	a.n_devices = 2;
	a.devices[0] = (struct allotted_device){ { .bus = 1 }, 0x1234, 0x1111, 11 };
	a.devices[1] = (struct allotted_device){ { .bus = 2 }, 0x1234, 0x1111, 12 };
	return a;
}

static void test_record(void)
{
	static const char name[] = "allotment-slurm-17,0";
	char text[ALLOTMENT_RECORD_TEXT], own[ALLOTMENT_RECORD_NAME];
	struct allotment a = sample(), read;
	int len = allotment_record_format(&a, text, sizeof(text));
	unsigned taken = 0, served = 0, unreserved = 0;

	allotment_record_name(a.label, own);
	tap_ok(!strcmp(own, name), "a label with a dot has a file without: %s", own);
	tap_ok(len > 0 && !allotment_record_parse(name, text, (size_t)len, &read) &&
		       !memcmp(&read, &a, sizeof(a)),
	       "what is written is read");
	for (int i = 0; i < len; i++)
		taken += allotment_record_parse(name, text, (size_t)i, &read) != -EBADMSG;
	tap_ok(!taken, "a record that is cut is damaged, wherever");
	for (int i = 0; i < len; i++) {
		char broken[ALLOTMENT_RECORD_TEXT];
		int r;

		memcpy(broken, text, sizeof(broken));
		broken[i] ^= 0x20;
		r = allotment_record_parse(name, broken, (size_t)len, &read);
		/* A label or an address of another case is the only thing that may be left. */
		served += !r || read.uid != POLICY_NOBODY || !read.damaged;
		unreserved += r && !read.all && !read.n_devices;
	}
	tap_ok(!served, "a record with one bit changed serves nobody, whichever: %u", served);
	tap_ok(!unreserved, "... and keeps devices from others: what can be read, or all");
	allotment_record_parse(name, text, 0, &read);
	tap_ok(read.damaged && read.all && !strcmp(read.label, a.label),
	       "an empty record keeps all devices, under the label of its name");
	tap_ok(allotment_record_parse("allotment-slurm-18", text, (size_t)len, &read) == -EBADMSG,
	       "a record under another label's name is damaged");
	tap_ok(allotment_record_parse("allotment-a.new", text, (size_t)len, &read) == -EINVAL &&
		       allotment_record_parse("allotment-", text, (size_t)len, &read) == -EINVAL,
	       "a name that no broker makes is no record");
}

/* The same for one with a socket. */
static void test_socket_record(void)
{
	static const char name[] = "allotment-slurm-17,0";
	char text[ALLOTMENT_RECORD_TEXT], broken[ALLOTMENT_RECORD_TEXT];
	struct allotment a = sample(), read;
	unsigned served = 0, taken = 0;
	int len;

	strcpy(a.socket, "pod-17.x");
	a.gid = 1000;
	len = allotment_record_format(&a, text, sizeof(text));
	tap_ok(len > 0 && !allotment_record_parse(name, text, (size_t)len, &read) &&
		       !memcmp(&read, &a, sizeof(a)),
	       "a socket is on record, without groups");
	a.n_gids = PROTOCOL_GIDS_MAX;
	for (size_t i = 0; i < a.n_gids; i++)
		a.gids[i] = UINT32_MAX - 1;
	for (a.n_devices = 0; a.n_devices < PROTOCOL_SELECTORS_MAX; a.n_devices++)
		a.devices[a.n_devices] = (struct allotted_device){
			{ 0x7fffffff, 0xff, 31, 7, 0 }, 0xffff, 0xffff, UINT32_MAX - 1
		};
	memset(a.socket, 'a', sizeof(a.socket) - 1);
	memset(a.label, 'b', sizeof(a.label) - 1);
	tap_ok(allotment_record_format(&a, broken, sizeof(broken)) > 0,
	       "the longest that there can be has room");
	a = sample();
	strcpy(a.socket, "pod");
	a.n_gids = 2;
	a.gids[0] = 27;
	a.gids[1] = 44;
	len = allotment_record_format(&a, text, sizeof(text));
	tap_ok(!allotment_record_parse(name, text, (size_t)len, &read) &&
		       !memcmp(&read, &a, sizeof(a)),
	       "... with groups");
	for (int i = 0; i < len; i++) {
		int r;

		memcpy(broken, text, sizeof(broken));
		broken[i] ^= 0x01;
		r = allotment_record_parse(name, broken, (size_t)len, &read);
		/* Another number, or another name for it, is none that a look at the text can tell. */
		taken += !r && strcmp(read.label, a.label);
		served += r && (read.uid != POLICY_NOBODY || !read.damaged || read.socket[0]);
	}
	tap_ok(!taken && !served,
	       "one with a bit changed has no socket, unless it is as long and sound");
}

static void test_labels(void)
{
	static const struct {
		char text[PROTOCOL_LABEL_MAX];
		bool is;
	} labels[] = {
		{ "slurm-17", true },
		{ "a", true },
		{ "A_b.c:d@e-f", true },
		{ "", false },
		{ "a b", false },
		{ "a/b", false },
		{ "a\nb", false },
		{ "a,b", false },
		{ "a\0b", false },
		{ "\xc3\xa4", false },
		{ "12345678901234567890123456789012345678901234567", true },
	};
	char whole[PROTOCOL_LABEL_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(labels); i++)
		tap_ok(allotment_is_label(labels[i].text) == labels[i].is, "label %zu: %s", i,
		       labels[i].is ? "is one" : "is none");
	memset(whole, 'a', sizeof(whole));
	tap_ok(!allotment_is_label(whole), "a label that does not end is none");
}

/* ---- requests ---- */

static struct message_allot allot_of(uint32_t uid, const char *label, unsigned bus)
{
	struct message_allot m = { .type = MESSAGE_ALLOT, .uid = uid, .gid = uid, .n_selectors = 1 };

	snprintf(m.label, sizeof(m.label), "%s", label);
	m.selectors[0].kind = SELECT_ADDRESS;
	m.selectors[0].address.bus = (uint8_t)bus;
	return m;
}

/* Sends a packet as a user. Returns the refusal's reason, 0 for an end, -1: dropped. */
static int ask_as(uint32_t uid, const void *packet, size_t size,
		  struct message_refusal *ret_refusal)
{
	int fd = dial_in(0), result;
	union answer answer = { 0 };
	ssize_t n;

	last_is_user(uid);
	say(fd, packet, size);
	turn(TURNS);
	n = hear(fd, &answer);
	result = n <= 0 ? -1 : answer.type == MESSAGE_END ? 0 : (int)answer.refusal.reason;
	if (ret_refusal)
		*ret_refusal = answer.refusal;
	hang_up(fd);
	return result;
}

static int allot_as(uint32_t uid, const struct message_allot *m)
{
	return ask_as(uid, m, sizeof(*m), NULL);
}

static int allot(uint32_t uid, const char *label, unsigned bus)
{
	const struct message_allot m = allot_of(uid, label, bus);

	return allot_as(0, &m);
}

static int retract_as(uint32_t uid, const char *label)
{
	struct message_retract m = { .type = MESSAGE_RETRACT };

	snprintf(m.label, sizeof(m.label), "%s", label);
	return ask_as(uid, &m, sizeof(m), NULL);
}

/* The answer to the question whether a user might claim the device on a bus, or any. */
static struct message_refusal may_claim(uint32_t uid, enum selector_kind kind, unsigned bus)
{
	struct message_claim claim = claim_by(kind);
	struct message_refusal refusal;
	int r;

	claim.flags = CLAIM_ASK;
	claim.selectors[0].address.bus = (uint8_t)bus;
	r = ask_as(uid, &claim, sizeof(claim), &refusal);
	if (!r)
		refusal.reason = 0;
	return refusal;
}

static uint32_t reason_of(uint32_t uid, unsigned bus)
{
	return may_claim(uid, SELECT_ADDRESS, bus).reason;
}

static bool has_record(const char *label)
{
	char name[ALLOTMENT_RECORD_NAME];

	allotment_record_name(label, name);
	return !faccessat(broker.store.directory, name, F_OK, 0);
}

static void test_who(void)
{
	struct message_allot m = allot_of(BOB, "job", GPU);

	tap_ok(allot_as(BOB, &m) == GPUBROKER_REFUSED_NOT_YOURS, "a user cannot allot");
	tap_ok(retract_as(BOB, "job") == GPUBROKER_REFUSED_NOT_YOURS, "... nor retract");
	m.label[3] = '/';
	tap_ok(allot_as(0, &m) == -1, "a label that is none ends root's connection");
	m = allot_of(BOB, "job", GPU);
	m.n_gids = PROTOCOL_GIDS_MAX + 1;
	tap_ok(allot_as(0, &m) == -1, "... and so do too many groups");
	m = allot_of(BOB, "job", GPU);
	m.n_selectors = PROTOCOL_SELECTORS_MAX + 1;
	tap_ok(allot_as(0, &m) == -1, "... and too many devices");
	m = allot_of(UINT32_MAX, "job", GPU);
	tap_ok(allot_as(0, &m) == -1, "... and a uid that is nobody's");
	tap_ok(ask_as(0, &m, sizeof(m) - 1, NULL) == -1, "... and another size");
	tap_ok(!broker.allotments.n && !has_record("job"), "none of that has made one");
}

static void test_policy(void)
{
	struct message_allot m = allot_of(BOB, "job", GPU);
	struct message_refusal refusal;
	char text[512];

	broker.policy.policy.n_rules = 0;
	tap_ok(ask_as(0, &m, sizeof(m), &refusal) == GPUBROKER_REFUSED_POLICY &&
		       refusal.detail == REFUSAL_NOT_LENT,
	       "without a rule nothing is allotted");
	refusal_format(&refusal, NULL, text, sizeof(text));
	tap_ok(strstr(text, "'allow allotted claim address 0000:01:00.0'"),
	       "... and the answer says which line helps: %s", text);
	broker.policy.policy.n_rules = 2;
	rules[0].who = POLICY_WHO_USER;
	rules[0].id = BOB;
	tap_ok(ask_as(0, &m, sizeof(m), &refusal) == GPUBROKER_REFUSED_POLICY &&
		       refusal.detail == REFUSAL_NO_RULE,
	       "a rule by which bob may have it is not enough");
	rules[0].who = POLICY_WHO_ALLOTTED;
	rules[0].id = 0;
	broker.policy.policy.n_rules = 3;
	tap_ok(allot(BOB, "job", 3) == GPUBROKER_REFUSED_POLICY, "a deny wins");
	rules[2].who = POLICY_WHO_GROUP;
	rules[2].id = 77;
	m = allot_of(BOB, "job", 3);
	m.n_gids = 1;
	m.gids[0] = 77;
	tap_ok(allot_as(0, &m) == GPUBROKER_REFUSED_POLICY, "... for a group of bob's as well");
	m.gids[0] = 78;
	tap_ok(!allot_as(0, &m) && !retract_as(0, "job"), "... and not for another one");
	rules[2].who = POLICY_WHO_ANY;
	rules[2].id = 0;
	tap_ok(!broker.allotments.n, "nothing is left of that");
}

/* Returns true if a listing says that the user may have the device. */
static bool is_listed_as_allowed(uint32_t uid, unsigned bus)
{
	int fd = dial_in(0);
	union answer answer = { 0 };
	bool allowed = false;

	last_is_user(uid);
	say_plain(fd, MESSAGE_LIST);
	turn(TURNS);
	while (hear(fd, &answer) > 0 && answer.type == MESSAGE_DEVICE)
		allowed = allowed || (answer.device.address.bus == bus && answer.device.allowed);
	hang_up(fd);
	return allowed;
}

static void test_reserves(void)
{
	struct message_refusal refusal;
	char text[512];

	tap_ok(!reason_of(CAROL, GPU), "carol may claim it");
	tap_ok(reason_of(BOB, 2) == GPUBROKER_REFUSED_POLICY, "bob may not claim the other");
	tap_ok(!allot(BOB, "job", GPU) && has_record("job"), "root allots it, which is recorded");
	tap_ok(!allot(BOB, "job", GPU) && broker.allotments.n == 1,
	       "... and once more is the same");
	refusal = may_claim(CAROL, SELECT_ADDRESS, GPU);
	refusal_format(&refusal, NULL, text, sizeof(text));
	tap_ok(refusal.reason == GPUBROKER_REFUSED_ALLOTTED && strstr(text, "uid 4242 (job)"),
	       "it is kept from carol: %s", text);
	tap_ok(reason_of(0, GPU) == GPUBROKER_REFUSED_ALLOTTED, "... and from root");
	tap_ok(!reason_of(BOB, GPU), "bob may claim it");
	tap_ok(!reason_of(BOBS + 5, GPU), "... as a subordinate uid, too");
	tap_ok(!allot(BOB, "job", 2) && broker.allotments.n == 1 && !reason_of(BOB, 2),
	       "the same label gives him another");
	tap_ok(allot(CAROL, "job", 2) == GPUBROKER_REFUSED_ALLOTTED, "it is no label for carol");
	tap_ok(allot(CAROL, "job-2", 2) == GPUBROKER_REFUSED_ALLOTTED &&
		       allot(BOB, "job-2", 2) == GPUBROKER_REFUSED_ALLOTTED,
	       "what it has is allotted under no other label");
	tap_ok(may_claim(CAROL, SELECT_ANY, 0).reason == GPUBROKER_REFUSED_ALLOTTED,
	       "'any' is neither of the two");
	rules[0].who = POLICY_WHO_NONE;
	rules[1].who = POLICY_WHO_NONE;
	tap_ok(reason_of(BOB, GPU) == GPUBROKER_REFUSED_POLICY,
	       "what the policy does not allow any more, bob may not claim");
	rules[0].who = POLICY_WHO_ALLOTTED;
	rules[1].who = POLICY_WHO_ANY;
	allotments_find(&broker.allotments, "job")->devices[0].device = 0x2222;
	refusal = may_claim(BOB, SELECT_ADDRESS, GPU);
	tap_ok(refusal.reason == GPUBROKER_REFUSED_ALLOTTED && refusal.detail == REFUSAL_CHANGED,
	       "another device at its address is not his");
	tap_ok(reason_of(CAROL, GPU) == GPUBROKER_REFUSED_ALLOTTED, "... nor carol's");
	rules[1].who = POLICY_WHO_NONE;
	refusal = may_claim(BOB, SELECT_ADDRESS, GPU);
	tap_ok(refusal.reason == GPUBROKER_REFUSED_ALLOTTED && refusal.detail == REFUSAL_CHANGED,
	       "... which he is told, too, if he has no other rule");
	tap_ok(!is_listed_as_allowed(BOB, GPU), "... and a listing does not call it his");
	rules[1].who = POLICY_WHO_ANY;
	allotments_find(&broker.allotments, "job")->devices[0].device = 0x1111;
	tap_ok(is_listed_as_allowed(BOB, GPU), "as it was allotted, it is listed as his");
	allotments_find(&broker.allotments, "job")->devices[0].address.bus = 9;
	tap_ok(!reason_of(CAROL, GPU),
	       "a device that has got the number of its group is not reserved");
	allotments_find(&broker.allotments, "job")->devices[0].address.bus = GPU;
	tap_ok(retract_as(0, "none") == 0, "what is not there can be retracted");
	tap_ok(!retract_as(0, "job") && !broker.allotments.n && !has_record("job"),
	       "retract takes it away, with its record");
	tap_ok(!reason_of(CAROL, GPU), "... and carol may claim it");
}

static struct lease *lend(const char *label, uint32_t group)
{
	struct lease *lease = lease_new(&broker.leases.table, 0, group);

	need(lease);
	lease->state = GPUBROKER_LEASE_RESTORING;
	lease->uid = BOB;
	snprintf(lease->label, sizeof(lease->label), "%s", label);
	return lease;
}

static void test_leases(void)
{
	struct lease *lease = lend("", 10 + GPU);

	tap_ok(allot(BOB, "job", GPU) == GPUBROKER_REFUSED_BUSY,
	       "what is leased is not allotted, not to the same user either");
	lease_free(lease);
	need(!allot(BOB, "job", GPU));
	lease = lend("job", 10 + GPU);
	tap_ok(!retract_as(0, "job") && broker.allotments.n == 1 && has_record("job"),
	       "while there is a lease by it, an allotment is only being taken away");
	tap_ok(reason_of(BOB, GPU) == GPUBROKER_REFUSED_ALLOTTED, "... bob claims nothing by it");
	tap_ok(allot(BOB, "job", 2) == GPUBROKER_REFUSED_ALLOTTED, "... and it gets no device");
	allot_lease_freed(&broker.claims, lease);
	lease_free(lease);
	tap_ok(!broker.allotments.n && !has_record("job"), "it ends with the lease");

	need(!allot(BOB, "job", GPU));
	lease = lend("", 10 + GPU);
	lease->functions[lease->n_functions++].address.bus = GPU;
	snprintf(lease->damaged, sizeof(lease->damaged), "7.damaged");
	tap_ok(!retract_as(0, "job") && broker.allotments.n == 1 && has_record("job"),
	       "a lease whose record is damaged may be by it, so it stays");
	allot_lease_freed(&broker.claims, lease);
	lease_free(lease);
	tap_ok(!broker.allotments.n && !has_record("job"), "... until that one is settled");
}

/* A lease ends with its allotment, so that its holder is warned in time. */
static void test_leases_end(void)
{
	struct message_allot m = allot_of(BOB, "job", GPU);
	const uint64_t now = (uint64_t)time(NULL);
	struct lease *lease;

	need(!allot(BOB, "job", GPU));
	lease = lend("job", 10 + GPU);
	m.until = now + 3600;
	tap_ok(!allot_as(0, &m) && lease->ends == m.until && lease->warn_at == m.until - 60,
	       "a lease by it gets its end, and the moment of the warning");
	lease->warned = true;
	m.until = now + 7200;
	tap_ok(!allot_as(0, &m) && lease->ends == m.until && !lease->warned, "... and a later one");
	lease->terms.lifetime = 1800;
	lease->since = now;
	m.until = now + 3600;
	tap_ok(!allot_as(0, &m) && lease->ends == now + 1800, "its rule's time may end it before");
	lease->ends = now + 100;
	m.until = now + 7200;
	tap_ok(!allot_as(0, &m) && lease->ends == now + 100, "... and what root has set");
	event_free(TAKE_PTR(lease->expiry));
	lease_free(lease);
	need(!retract_as(0, "job"));
}

static void test_fault(void)
{
	int store = broker.store.directory;

	broker.store.directory = -1;
	tap_ok(allot(BOB, "job", GPU) == GPUBROKER_REFUSED_FAILED && !broker.allotments.n,
	       "what cannot be recorded is not allotted");
	broker.store.directory = store;
	need(!allot(BOB, "job", GPU));
	broker.store.directory = -1;
	tap_ok(allot(BOB, "job", 2) == GPUBROKER_REFUSED_FAILED && reason_of(BOB, 2),
	       "... nor added");
	tap_ok(retract_as(0, "job") == GPUBROKER_REFUSED_FAILED && !reason_of(BOB, GPU),
	       "... nor taken away");
	broker.store.directory = store;
	need(!retract_as(0, "job"));
}

static void test_bounds(void)
{
	unsigned made = 0;
	char label[16];

	for (unsigned i = 0; i < ALLOTMENTS_MAX; i++) {
		struct allotment a = { .uid = BOB };

		snprintf(a.label, sizeof(a.label), "n%u", i);
		made += allotments_add(&broker.allotments, &a) != NULL;
	}
	tap_ok(made == ALLOTMENTS_MAX && allot(BOB, "job", GPU) == GPUBROKER_REFUSED_QUOTA,
	       "there are so many, and no more");
	for (unsigned i = 0; i < ALLOTMENTS_MAX; i++) {
		snprintf(label, sizeof(label), "n%u", i);
		allotments_remove(&broker.allotments, allotments_find(&broker.allotments, label));
	}
	tap_ok(!broker.allotments.n, "none of these is left");
}

static void test_end(void)
{
	struct message_allot m = allot_of(BOB, "job", GPU);

	m.until = (uint64_t)time(NULL) + 3600;
	need(!allot_as(0, &m));
	tap_ok(!reason_of(BOB, GPU), "before its time it is there");
	m.until = 1;
	need(!allot_as(0, &m));
	for (int n = 0; n < 30000 && broker.allotments.n; n++) {
		turn(TURNS);
		poll(NULL, 0, 1);
	}
	tap_ok(!broker.allotments.n && !has_record("job"), "when its time is over, it goes");
}

/* A daemon that starts: its table is empty, and the records are those of the one before. */
static void start_again(void)
{
	allotments_done(&broker.allotments);
	need(!allot_recover(&broker.claims));
}

static void test_restart(void)
{
	need(!allot(BOB, "b", GPU) && !allot(CAROL, "a.new", 2));
	start_again();
	tap_ok(broker.allotments.n == 2 && !reason_of(BOB, GPU) && !reason_of(CAROL, 2) &&
		       reason_of(CAROL, GPU) == GPUBROKER_REFUSED_ALLOTTED,
	       "a start takes up what there was");
	scratch_write("state/allotment-b", "gpubroker allotment 1\nlabel b\nuid 0\n"
					   "device 0000:01:00.0 1234 1111 group 11\nend\n");
	start_again();
	tap_ok(reason_of(BOB, GPU) == GPUBROKER_REFUSED_ALLOTTED &&
		       reason_of(CAROL, GPU) == GPUBROKER_REFUSED_ALLOTTED &&
		       reason_of(0, GPU) == GPUBROKER_REFUSED_ALLOTTED && !reason_of(CAROL, 2),
	       "what a damaged record names is nobody's");
	need(!unlinkat(broker.store.directory, "allotment-b", 0));
	scratch_write("state/allotment-b", "");
	start_again();
	tap_ok(reason_of(CAROL, GPU) == GPUBROKER_REFUSED_ALLOTTED && !reason_of(CAROL, 2) &&
		       allotments_find(&broker.allotments, "b")->all,
	       "one that names nothing keeps all that no other one names");
	tap_ok(allot(BOB, "b", GPU) == GPUBROKER_REFUSED_ALLOTTED, "... until root retracts it");
	tap_ok(!retract_as(0, "b") && !has_record("b") && !reason_of(CAROL, 2),
	       "... which frees them");
	allotments_find(&broker.allotments, "a.new")->retracting = true;
	need(!allotment_record_write(&broker.store, allotments_find(&broker.allotments, "a.new")));
	start_again();
	allot_done(&broker.claims);
	allot_serve(&broker.claims);
	tap_ok(!broker.allotments.n && !has_record("a.new"),
	       "one that was being taken away is taken away");
}

static void make_world(void)
{
	static const struct policy_range range = { BOBS, 65536, BOB };
	struct policy_owners owners = { .ranges = malloc(sizeof(range)), .n_ranges = 1 };
	char path[128], address[24];

	need(freopen("/dev/null", "w", stderr)); /* the log */
	broker_make();
	for (unsigned bus = GPU; bus <= 3; bus++) {
		snprintf(address, sizeof(address), "0000:%02x:00.0", bus);
		add_function(address, "0x030000\n", 10 + (int)bus);
		add_device((uint8_t)bus, 0, 0x030000, 10 + bus);
	}
	scratch_write("state/none", "");
	snprintf(path, sizeof(path), "%s/state", scratch_path);
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(broker.store.directory >= 0);
	broker_allow_all(&rules[0]);
	rules[1] = rules[2] = rules[0];
	rules[0].who = POLICY_WHO_ALLOTTED;
	rules[1].match.attributes |= POLICY_ADDRESS;
	rules[1].match.address.bus = GPU;
	rules[2].verb = POLICY_DENY;
	rules[2].match.attributes |= POLICY_ADDRESS;
	rules[2].match.address.bus = 3;
	need(policy_rule_valid(&rules[0], 0, 1, NULL, 0));
	broker.policy.policy.n_rules = 3;
	need(owners.ranges);
	*owners.ranges = range;
	broker.policy.policy.owners = owners;
	allot_serve(&broker.claims);
}

int main(void)
{
	struct policy_owners owners;

	test_record();
	test_socket_record();
	test_labels();
	make_world();
	test_who();
	test_policy();
	/* carol's rule is for the first alone, and the second is allotted to her by its label. */
	test_reserves();
	test_leases();
	test_leases_end();
	test_fault();
	test_bounds();
	test_end();
	test_restart();
	owners = broker.policy.policy.owners;
	policy_owners_done(&owners);
	broker_drop();
	return tap_done();
}
