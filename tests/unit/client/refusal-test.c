/* SPDX-License-Identifier: MIT */
/*
 * The sentences: each reason, with all that a message may or may not hold, gives one line that
 * names the thing, and no string of the message is believed to end.
 */
#include "config.h"

#include "client/gpubroker.h"
#include "client/library/refusal.h"
#include "client/common/util.h"
#include "tests/tap.h"

#include <string.h>

static const char *const reasons[] = {
#define WORD_OF(reason, number, word, status) [number] = word,
	"0", GPUBROKER_REFUSALS(WORD_OF) "unknown", /* and a reason that does not exist */
#undef WORD_OF
};

#define REASONS (ARRAY_SIZE(reasons) - 1)

static void alice(uint32_t uid, char *out, size_t size)
{
	if (uid == 1000)
		snprintf(out, size, "alice");
}

/* Fills the whole buffer. */
static void endless(uint32_t uid, char *out, size_t size)
{
	(void)uid;
	memset(out, 'u', size - 1);
	out[size - 1] = '\0';
}

static struct message_refusal message(uint32_t reason)
{
	return (struct message_refusal){
		.type = MESSAGE_REFUSAL,
		.reason = reason,
		.group = UINT32_MAX,
	};
}

/*
 * Formats a copy in memory of exactly its size, so that a sanitizer sees reads past the end of a
 * string.
 */
static const char *format(const struct message_refusal *message,
			  void (*user)(uint32_t, char *, size_t))
{
	static char out[1024];
	cleanup_free struct message_refusal *copy = malloc(sizeof(*copy));
	const struct refusal_names names = { .user = user };

	if (!copy)
		exit(99);
	*copy = *message;
	memset(out, '\n', sizeof(out));
	refusal_format(copy, &names, out, sizeof(out));
	return out;
}

static bool is_sentence(const char *text)
{
	size_t n = strnlen(text, 1024);

	return n > 20 && n < 1000 && !strchr(text, '\n') && text[n - 1] != '.' &&
	       text[n - 1] != ' ' && text[0] != ' ' && !strstr(text, "  ") &&
	       !strstr(text, "(null)") && !strstr(text, "()");
}

/* Returns false for reasons that are about the connection or the broker. */
static bool is_about_device(uint32_t reason)
{
	return reason != GPUBROKER_REFUSED_QUOTA && reason != GPUBROKER_REFUSED_NOT_READY &&
	       reason != GPUBROKER_REFUSED_VERSION && reason != GPUBROKER_REFUSED_NO_LEASE &&
	       reason != GPUBROKER_REFUSED_NOT_YOURS;
}

static void fill(struct message_refusal *m)
{
	m->holder_uid = 1000;
	m->holder_pid = 4711;
	m->lease = 3;
	m->limit = 1ULL << 30;
	m->error = 5;
	strcpy(m->driver, "nvidia");
	strcpy(m->text, "disk sda is on it");
	strcpy(m->rule, "/etc/gpubroker/policy.d/10-lab.policy:7");
}

static void test_named(void)
{
	for (uint32_t reason = 1; reason <= REASONS; reason++) {
		for (int full = 0; full < 2; full++) {
			struct message_refusal m = message(reason);
			const char *text;
			bool plain;

			if (full)
				fill(&m);
			if (reason == GPUBROKER_REFUSED_STUCK ||
			    reason == GPUBROKER_REFUSED_IN_USE ||
			    reason == GPUBROKER_REFUSED_NOT_VIABLE ||
			    reason == GPUBROKER_REFUSED_NODE || reason == GPUBROKER_REFUSED_FAILED)
				strcpy(m.text,
				       "disk sda is on it"); /* these always have a detail */
			if (reason == GPUBROKER_REFUSED_MEMLOCK ||
			    reason == GPUBROKER_REFUSED_LIMIT ||
			    reason == GPUBROKER_REFUSED_NOT_YOURS ||
			    reason == GPUBROKER_REFUSED_NO_RESET)
				fill(&m);
			plain = is_sentence(format(&m, alice));
			tap_ok(plain, "%s, %s: a sentence without a device: %s", reasons[reason],
			       full ? "full" : "bare", format(&m, alice));
			if (!is_about_device(reason))
				continue;
			m.group = 17;
			text = format(&m, alice);
			tap_ok(is_sentence(text) && strstr(text, "IOMMU group 17"),
			       "%s, %s: names the group: %s", reasons[reason],
			       full ? "full" : "bare", text);
			strcpy(m.name, "a100");
			text = format(&m, alice);
			tap_ok(is_sentence(text) && strstr(text, "\"a100\""),
			       "%s, %s: names the device's name: %s", reasons[reason],
			       full ? "full" : "bare", text);
			m.has_address = 1;
			m.address.bus = 1;
			text = format(&m, alice);
			tap_ok(is_sentence(text) && strstr(text, "0000:01:00.0"),
			       "%s, %s: names the address: %s", reasons[reason],
			       full ? "full" : "bare", text);
		}
	}
}

/* If another function is in the way, the sentence must name that one. */
static void test_other(void)
{
	static const uint32_t with_other[] = {
		GPUBROKER_REFUSED_POLICY, GPUBROKER_REFUSED_NOT_VIABLE, GPUBROKER_REFUSED_IN_USE,
		GPUBROKER_REFUSED_FAILED, GPUBROKER_REFUSED_BOOT_VGA,
	};

	for (size_t i = 0; i < ARRAY_SIZE(with_other); i++) {
		struct message_refusal m = message(with_other[i]);
		const char *text;

		m.has_address = m.has_other = 1;
		m.address.bus = 1;
		m.other.bus = 2;
		m.group = 17;
		strcpy(m.text,
		       with_other[i] == GPUBROKER_REFUSED_BOOT_VGA ? "" : "disk sda is on it");
		text = format(&m, alice);
		tap_ok(is_sentence(text) && strstr(text, "0000:02:00.0"),
		       "%s: names the function in the way: %s", reasons[with_other[i]], text);
	}
}

#define AT .group = UINT32_MAX, .has_address = 1, .address = { .bus = 1 }
#define OTHER .has_other = 1, .other = { .bus = 2 }
#define HELD .holder_uid = 1000, .holder_pid = 4711, .lease = 3
#define RULE .rule = "/etc/gpubroker/policy.d/10-lab.policy:7"
#define PART .group = UINT32_MAX, .parent = "mtty", .profile = "mtty-2"

/* The words that each sentence must have, beside the subject that test_named() checks. */
static const struct {
	const char *name;
	struct message_refusal m;
	const char *says[3];
} cases[] = {
	{ "allotted: to whom, under which label, and what helps",
	  { .reason = GPUBROKER_REFUSED_ALLOTTED, AT, HELD, .text = "slurm-17" },
	  { "0000:01:00.0 is allotted to alice (slurm-17)", "--wait", "'gpubroker allotments'" } },
	{ "allotted: that it is being taken away",
	  { .reason = GPUBROKER_REFUSED_ALLOTTED,
	    AT,
	    HELD,
	    .text = "slurm-17",
	    .detail = REFUSAL_RETRACTING },
	  { "alice (slurm-17), and that is just being taken away" } },
	{ "allotted: how root settles a damaged record",
	  { .reason = GPUBROKER_REFUSED_ALLOTTED,
	    AT,
	    .text = "slurm-17",
	    .detail = REFUSAL_DAMAGED },
	  { "nobody's", "'gpubroker retract slurm-17'" } },
	{ "allotted: that another device has come",
	  { .reason = GPUBROKER_REFUSED_ALLOTTED,
	    AT,
	    .text = "slurm-17",
	    .detail = REFUSAL_CHANGED },
	  { "not the device that was allotted to you (slurm-17)" } },
	{ "allotted: whose the label is",
	  { .reason = GPUBROKER_REFUSED_ALLOTTED,
	    AT,
	    HELD,
	    .text = "slurm-17",
	    .detail = REFUSAL_LABEL },
	  { "slurm-17 is the label of what is allotted to alice" } },
	{ "policy: the line that lets root allot it",
	  { .reason = GPUBROKER_REFUSED_POLICY, AT, HELD, .detail = REFUSAL_NO_RULE },
	  { "'allow allotted claim address 0000:01:00.0'" } },
	{ "policy: the rule that denies it to the user whom it is for",
	  { .reason = GPUBROKER_REFUSED_POLICY, AT, HELD, RULE, .detail = REFUSAL_NOT_LENT },
	  { "cannot be allotted to alice", "10-lab.policy:7" } },
	{ "no-mdevs: that profiles cannot be allotted",
	  { .reason = GPUBROKER_REFUSED_NO_MDEVS, AT, .detail = REFUSAL_NOT_LENT },
	  { "only whole devices and virtual functions can be allotted" } },
	{ "busy: the holder",
	  { .reason = GPUBROKER_REFUSED_BUSY, AT, HELD },
	  { "leased to alice (pid 4711, lease 3)", "--wait" } },
	{ "busy: the holder's uid where it has no name",
	  { .reason = GPUBROKER_REFUSED_BUSY, AT, .holder_uid = 1001 },
	  { "uid 1001" } },
	{ "busy: a device on its way back, and that waiting helps",
	  { .reason = GPUBROKER_REFUSED_BUSY, AT, HELD, .detail = REFUSAL_RELEASING },
	  { "on its way back to the host from alice", "--wait" } },
	{ "busy: that the policy prepares it",
	  { .reason = GPUBROKER_REFUSED_BUSY, AT, .detail = REFUSAL_PREPARING },
	  { "as the policy prepares it", "in a moment" } },
	{ "busy: the PF whose VFs are being made",
	  { .reason = GPUBROKER_REFUSED_BUSY, AT, OTHER, .detail = REFUSAL_SRIOV },
	  { "functions of 0000:02:00.0 are" } },
	{ "busy: which VF is leased, to whom, and what would help",
	  { .reason = GPUBROKER_REFUSED_BUSY, AT, OTHER, HELD, .detail = REFUSAL_LEASED_VF },
	  { "0000:01:00.0 stay", "0000:02:00.0 is leased to alice", "'gpubroker revoke 3'" } },
	{ "busy: for root, how to end the lease",
	  { .reason = GPUBROKER_REFUSED_BUSY, AT, HELD, .detail = REFUSAL_LEASED },
	  { "is leased to alice", "'gpubroker revoke 3'" } },
	{ "busy: that others wait for it, and how to wait too",
	  { .reason = GPUBROKER_REFUSED_BUSY, AT, .detail = REFUSAL_RESERVED },
	  { "is reserved for", "--wait" } },
	{ "busy: that root ended a claim that waited",
	  { .reason = GPUBROKER_REFUSED_BUSY, .lease = 7, .detail = REFUSAL_ENDED },
	  { "root ended", "number 7", "administrator" } },
	{ "busy: that its user did",
	  { .reason = GPUBROKER_REFUSED_BUSY,
	    .lease = 7,
	    .holder_uid = 1001,
	    .detail = REFUSAL_ENDED },
	  { "its user ended", "number 7" } },
	{ "policy: that no rule allows it",
	  { .reason = GPUBROKER_REFUSED_POLICY, AT },
	  { "no rule allows" } },
	{ "policy: the rule that denies it",
	  { .reason = GPUBROKER_REFUSED_POLICY, AT, RULE },
	  { "denies you 0000:01:00.0", "10-lab.policy:7" } },
	{ "policy: the part of a device",
	  { .reason = GPUBROKER_REFUSED_POLICY, .profile = "mtty-2", .name = "slice" },
	  { "claim profile \"mtty-2\" of device \"slice\"; " } },
	{ "memlock: how much the rule grants",
	  { .reason = GPUBROKER_REFUSED_MEMLOCK, AT, RULE, .limit = 1ULL << 30 },
	  { "1024 MiB", "10-lab.policy:7" } },
	{ "memlock: that no rule grants any",
	  { .reason = GPUBROKER_REFUSED_MEMLOCK, AT },
	  { "leave --memlock out" } },
	{ "failed: the step and the kernel's word",
	  { .reason = GPUBROKER_REFUSED_FAILED, AT, .error = ENOMEM, .text = "sriov_numvfs" },
	  { "sriov_numvfs: Cannot allocate memory; everything was put back" } },
	{ "failed: that not everything is as before",
	  { .reason = GPUBROKER_REFUSED_FAILED, AT, .text = "bind", .detail = REFUSAL_NOT_RESTORED },
	  { "not everything could be put back" } },
	{ "boot-vga: that it takes a rule",
	  { .reason = GPUBROKER_REFUSED_BOOT_VGA, AT },
	  { "a rule with boot-vga and --force" } },
	{ "boot-vga: that a rule allows it",
	  { .reason = GPUBROKER_REFUSED_BOOT_VGA, AT, .detail = REFUSAL_FORCE },
	  { "a rule allows it, add --force" } },
	{ "not-viable: one claim wants it whole and in part",
	  { .reason = GPUBROKER_REFUSED_NOT_VIABLE, AT, .detail = REFUSAL_WHOLE_AND_PART },
	  { "leave out one of the two" } },
	{ "not-viable: that interrupts are not remapped, and the two ways out",
	  { .reason = GPUBROKER_REFUSED_NOT_VIABLE, AT, .detail = REFUSAL_INTERRUPTS },
	  { "switch interrupt remapping on", "allow_unsafe_interrupts=1" } },
	{ "quota: of what there are too many",
	  { .reason = GPUBROKER_REFUSED_QUOTA, .text = "you have 64 connections to the broker" },
	  { "64 connections" } },
	{ "no-vfs: that it has no SR-IOV",
	  { .reason = GPUBROKER_REFUSED_NO_VFS, AT },
	  { "0000:01:00.0", "no SR-IOV" } },
	{ "no-vfs: how many there can be",
	  { .reason = GPUBROKER_REFUSED_NO_VFS, AT, .limit = 64 },
	  { "at most 64" } },
	{ "no-vfs: the driver in the way, and what would help",
	  { .reason = GPUBROKER_REFUSED_NO_VFS, AT, .driver = "vfio-pci" },
	  { "is on vfio-pci", "gpubroker restore 0000:01:00.0" } },
	{ "no-mdevs: where to look",
	  { .reason = GPUBROKER_REFUSED_NO_MDEVS, AT, .profile = "mtty-2" },
	  { "0000:01:00.0 offers no profiles: ", "'gpubroker profiles'" } },
	{ "no-profile: what the device has",
	  { .reason = GPUBROKER_REFUSED_NO_PROFILE, PART },
	  { "mtty has no profile \"mtty-2\"", "'gpubroker profiles mtty'" } },
	{ "none-left: how many are in use",
	  { .reason = GPUBROKER_REFUSED_NONE_LEFT, PART, .limit = 12 },
	  { "profile \"mtty-2\" of mtty is left: 12 of it are in use; " } },
	{ "none-left: what is left instead",
	  { .reason = GPUBROKER_REFUSED_NONE_LEFT, PART, .limit = 1, .text = "mtty-1: 1" },
	  { "1 of it is in use, and left there is mtty-1: 1; " } },
	{ "none-left: another was faster",
	  { .reason = GPUBROKER_REFUSED_NONE_LEFT, PART, .limit = 1, .error = ENOSPC },
	  { "mtty", "No space left on device", "try again" } },
};

static void test_content(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *text = format(&cases[i].m, alice);
		bool all = is_sentence(text);

		for (size_t k = 0; k < ARRAY_SIZE(cases[i].says) && cases[i].says[k]; k++)
			all = all && strstr(text, cases[i].says[k]);
		tap_ok(all, "%s: %s", cases[i].name, text);
	}
}

static void test_holder(void)
{
	const struct message_refusal busy = { .reason = GPUBROKER_REFUSED_BUSY,
					      AT,
					      .holder_uid = 1001 };
	const struct message_refusal failed = {
		.reason = GPUBROKER_REFUSED_FAILED, AT, .text = "bind", .error = INT32_MIN
	};
	const struct refusal_names nobody = { 0 };
	char out[1024];

	refusal_format(&busy, NULL, out, sizeof(out));
	tap_ok(strstr(out, "uid 1001"), "the uid of a holder where there are no names");
	refusal_format(&busy, &nobody, out, sizeof(out));
	tap_ok(strstr(out, "uid 1001"), "or no function to ask for them");
	tap_ok(is_sentence(format(&busy, endless)), "a name without end is cut");
	tap_ok(is_sentence(format(&failed, alice)), "an error that is none of the kernel's");
}

static void test_unterminated(void)
{
	for (uint32_t reason = 0; reason <= REASONS; reason++) {
		for (unsigned bits = 0; bits < 16; bits++) {
			struct message_refusal m;
			const char *text;

			memset(&m, 'A', sizeof(m));
			m.reason = reason;
			m.has_address = bits & 1;
			m.has_other = bits & 2;
			m.group = bits & 4 ? 17 : UINT32_MAX;
			if (bits & 8 && reason != GPUBROKER_REFUSED_LIMIT &&
			    reason != GPUBROKER_REFUSED_NO_RESET) /* these always have a detail */
				m.rule[0] = '\0';
			text = format(&m, endless);
			if (!is_sentence(text))
				tap_ok(false,
				       "%s without ends, %u: one sentence within its size: %s",
				       reason < ARRAY_SIZE(reasons) ? reasons[reason] : "?", bits,
				       text);
		}
	}
	tap_ok(true, "strings without ends never leave their fields");
}

static void test_sizes(void)
{
	bool inside = true;

	for (uint32_t reason = 0; reason <= REASONS; reason++) {
		struct message_refusal m = message(reason);

		fill(&m);
		for (size_t size = 0; size < 400; size++) {
			char out[401];

			memset(out, '#', sizeof(out));
			refusal_format(&m, NULL, out, size);
			inside = inside && out[size] == '#' && (!size || strnlen(out, size) < size);
		}
	}
	tap_ok(inside, "whatever room there is, the text ends in it");
}

/*
 * Text that a terminal would take for more than a line can come from files, devices and a broker
 * that has gone bad.
 */
static void test_control(void)
{
	unsigned forged = 0;

	for (uint32_t reason = 0; reason <= REASONS; reason++) {
		struct message_refusal m = message(reason);
		const char *text;

		fill(&m);
		strcpy(m.name, "a\n\033[2Jb");
		strcpy(m.text, "d\n\033[2Je");
		strcpy(m.rule, "r\n\033[2Js:7");
		text = format(&m, alice);
		forged += strchr(text, '\n') || strchr(text, '\033');
	}
	tap_ok(!forged,
	       "no string of the message can start a line or talk to the terminal (%u reasons let one)",
	       forged);
}

int main(void)
{
	test_named();
	test_other();
	test_content();
	test_holder();
	test_unterminated();
	test_sizes();
	test_control();
	return tap_done();
}
