/* SPDX-License-Identifier: MIT */
/*
 * The sentences of refusals. For each reason, whatever a message holds or lacks, the result is one
 * line that names the device, and no string of the message needs a NUL at its end.
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
			    reason == GPUBROKER_REFUSED_FAILED)
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

static void test_content(void)
{
	struct message_refusal m = message(GPUBROKER_REFUSED_BUSY);
	const struct refusal_names nobody = { 0 };
	char out[1024];

	fill(&m);
	m.has_address = 1;
	m.text[0] = '\0';
	tap_ok(strstr(format(&m, alice), "leased to alice (pid 4711, lease 3)"),
	       "busy: names the holder");
	m.holder_uid = 1001;
	tap_ok(strstr(format(&m, alice), "uid 1001"), "by number where there is no name");
	refusal_format(&m, NULL, out, sizeof(out));
	tap_ok(strstr(out, "uid 1001"), "or nobody to ask");
	refusal_format(&m, &nobody, out, sizeof(out));
	tap_ok(strstr(out, "uid 1001"), "or nothing to ask with");
	tap_ok(is_sentence(format(&m, endless)), "a name without end is cut");
	m.detail = REFUSAL_RELEASING;
	tap_ok(strstr(format(&m, alice), "on its way back"), "busy: says that waiting helps");

	m = message(GPUBROKER_REFUSED_POLICY);
	m.has_address = 1;
	tap_ok(strstr(format(&m, alice), "no rule allows"), "policy: no rule is said as such");
	fill(&m);
	tap_ok(strstr(format(&m, alice), "10-lab.policy:7"),
	       "policy: the rule that denies is named");
	m.reason = GPUBROKER_REFUSED_MEMLOCK;
	tap_ok(strstr(format(&m, alice), "1024 MiB") &&
		       strstr(format(&m, alice), "10-lab.policy:7"),
	       "memlock: how much, and by which rule");
	m.reason = GPUBROKER_REFUSED_FAILED;
	tap_ok(strstr(format(&m, alice), strerror(5)), "failed: with the kernel's word");
	m.error = INT32_MIN;
	tap_ok(is_sentence(format(&m, alice)), "or with a number that is none of the kernel's");
	m.reason = GPUBROKER_REFUSED_BOOT_VGA;
	tap_ok(strstr(format(&m, alice), "--force"), "boot-vga: says what would help");
	m.reason = GPUBROKER_REFUSED_QUOTA;
	strcpy(m.text,
	       "you have 64 connections to the broker, which is the most one user may have");
	tap_ok(strstr(format(&m, alice), "64 connections"), "quota: says of what");
}

static void test_profiles(void)
{
	struct message_refusal m = message(GPUBROKER_REFUSED_NO_MDEVS);
	const char *text;

	strcpy(m.profile, "mtty-2");
	m.has_address = 1;
	m.address.bus = 1;
	text = format(&m, alice);
	tap_ok(!strncmp(text, "0000:01:00.0 offers no profiles: ", 33) &&
		       strstr(text, "'gpubroker profiles'"),
	       "no-mdevs: %s", text);
	m.has_address = 0;
	strcpy(m.parent, "mtty");
	m.reason = GPUBROKER_REFUSED_NO_PROFILE;
	text = format(&m, alice);
	tap_ok(strstr(text, "mtty has no profile \"mtty-2\"") &&
		       strstr(text, "'gpubroker profiles mtty'"),
	       "no-profile: %s", text);
	m.reason = GPUBROKER_REFUSED_NONE_LEFT;
	m.limit = 12;
	text = format(&m, alice);
	tap_ok(strstr(text, "profile \"mtty-2\" of mtty is left: 12 of it are in use; "),
	       "none-left: %s", text);
	strcpy(m.text, "mtty-1: 1");
	m.limit = 1;
	text = format(&m, alice);
	tap_ok(strstr(text, "1 of it is in use, and left there is mtty-1: 1; "),
	       "none-left, but others: %s", text);
	m.error = ENOSPC;
	text = format(&m, alice);
	tap_ok(strstr(text, "mtty") && strstr(text, strerror(ENOSPC)) && strstr(text, "try again"),
	       "none-left by the time it was made: %s", text);
	m = message(GPUBROKER_REFUSED_POLICY);
	strcpy(m.profile, "mtty-2");
	strcpy(m.name, "slice");
	text = format(&m, alice);
	tap_ok(strstr(text, "claim profile \"mtty-2\" of device \"slice\"; "), "policy: %s", text);
}

static void test_vfs(void)
{
	struct message_refusal m = message(GPUBROKER_REFUSED_NO_VFS);
	const char *text;

	m.has_address = 1;
	m.address.bus = 1;
	text = format(&m, alice);
	tap_ok(strstr(text, "0000:01:00.0") && strstr(text, "no SR-IOV"), "no-vfs: %s", text);
	m.limit = 64;
	text = format(&m, alice);
	tap_ok(strstr(text, "at most 64"), "no-vfs: how many there can be: %s", text);
	m.limit = 0;
	strcpy(m.driver, "vfio-pci");
	text = format(&m, alice);
	tap_ok(strstr(text, "is on vfio-pci") && strstr(text, "gpubroker restore 0000:01:00.0"),
	       "no-vfs: what would help: %s", text);

	m = message(GPUBROKER_REFUSED_BUSY);
	fill(&m);
	m.has_address = m.has_other = 1;
	m.address.bus = 1;
	m.other.bus = 2;
	m.detail = REFUSAL_LEASED_VF;
	text = format(&m, alice);
	tap_ok(strstr(text, "0000:01:00.0 stay") &&
		       strstr(text, "0000:02:00.0 is leased to alice") &&
		       strstr(text, "'gpubroker revoke 3'"),
	       "busy: which VF, whose, and what would help: %s", text);
	m.detail = REFUSAL_SRIOV;
	text = format(&m, alice);
	tap_ok(strstr(text, "functions of 0000:02:00.0 are just being made"),
	       "busy: of which PF they are being made: %s", text);

	m = message(GPUBROKER_REFUSED_FAILED);
	m.has_address = 1;
	m.error = 12;
	strcpy(m.text, "sriov_numvfs");
	text = format(&m, alice);
	tap_ok(strstr(text, "sriov_numvfs: Cannot allocate memory; everything was put back"),
	       "failed: names the step: %s", text);
	m.detail = REFUSAL_NOT_RESTORED;
	text = format(&m, alice);
	tap_ok(strstr(text, "not everything could be put back"),
	       "failed: and says if it stays so: %s", text);
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
 * Files, devices and a compromised broker can put control characters into a message; a terminal
 * would act on them.
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
	test_vfs();
	test_profiles();
	test_unterminated();
	test_sizes();
	test_control();
	return tap_done();
}
