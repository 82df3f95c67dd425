/* SPDX-License-Identifier: MIT */
/*
 * Turns a refusal into one sentence. Pure. It never trusts that a string in the message ends, and
 * every sentence names the device, the reason and what would help: a user's first error message
 * should teach something true.
 */
#include "config.h"

#include "client/library/refusal.h"
#include "client/library/refusal-allotted.h"
#include "client/gpubroker.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A string of the message in a sentence: "%.*s" stops where its field ends. */
#define FIELD(field) (int)sizeof(field) - 1, field

struct subject {
	char text[192];
};

/* A sentence that is being made. */
struct sentence {
	const struct message_refusal *r;
	const struct refusal_names *names;
	char *out;
	size_t size;
	struct subject device;	      /* see device_of() */
	struct subject subject;	      /* see subject_of() */
	char other[PCI_ADDRESS_TEXT]; /* the function in the way, or "" */
};

__attribute__((format(printf, 2, 3))) static void say(const struct sentence *s, const char *format,
						      ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(s->out, s->size, format, args);
	va_end(args);
}

/* "0000:01:00.0", `device "a100"` or "IOMMU group 17": the most exact that is known. */
static struct subject device_of(const struct message_refusal *r)
{
	struct subject s = { "any GPU" };
	char address[PCI_ADDRESS_TEXT];

	if (r->has_address)
		snprintf(s.text, sizeof(s.text), "%s", pci_address_format(&r->address, address));
	else if (r->parent[0])
		snprintf(s.text, sizeof(s.text), "%.*s", FIELD(r->parent));
	else if (r->name[0])
		snprintf(s.text, sizeof(s.text), "device \"%.*s\"", FIELD(r->name));
	else if (r->group != UINT32_MAX)
		snprintf(s.text, sizeof(s.text), "IOMMU group %" PRIu32, r->group);
	return s;
}

/* The same, or `profile "mtty-1" of mtty`. */
static struct subject subject_of(const struct message_refusal *r)
{
	struct subject device = device_of(r), s;

	if (!r->profile[0])
		return device;
	snprintf(s.text, sizeof(s.text), "profile \"%.*s\" of %.100s", FIELD(r->profile),
		 device.text);
	return s;
}

static struct subject holder_of(const struct sentence *s)
{
	const struct message_refusal *r = s->r;
	struct subject holder;
	char name[64] = "";

	if (s->names && s->names->user)
		s->names->user(r->holder_uid, name, sizeof(name));
	if (!name[0])
		snprintf(name, sizeof(name), "uid %" PRIu32, r->holder_uid);
	snprintf(holder.text, sizeof(holder.text), "%s (pid %" PRIu32 ", lease %" PRIu64 ")", name,
		 r->holder_pid, r->lease);
	return holder;
}

/* ---- the policy and its limits ---- */

/* A refusal about an allotment: its sentences are in refusal-allotted.c. */
static void say_allotted(const struct sentence *s)
{
	char user[64] = "";

	if (s->names && s->names->user)
		s->names->user(s->r->holder_uid, user, sizeof(user));
	if (!user[0])
		snprintf(user, sizeof(user), "uid %" PRIu32, s->r->holder_uid);
	refusal_format_allotted(s->r, s->subject.text, s->other, user, s->out, s->size);
}

static void say_policy(const struct sentence *s)
{
	const struct message_refusal *r = s->r;

	if (r->detail == REFUSAL_NO_RULE || r->detail == REFUSAL_NOT_LENT ||
	    r->detail == REFUSAL_AT_SOCKET) {
		say_allotted(s);
		return;
	}
	if (r->rule[0] && r->has_other)
		say(s,
		    "%s shares IOMMU group %" PRIu32 " with %s, which the policy denies you (%.*s)",
		    s->subject.text, r->group, s->other, FIELD(r->rule));
	else if (r->rule[0])
		say(s, "the policy denies you %s (%.*s); only the administrator can change that",
		    s->subject.text, FIELD(r->rule));
	else if (r->has_other)
		say(s,
		    "%s shares IOMMU group %" PRIu32 " with %s, which no rule allows you to claim; "
		    "the administrator can add one to /etc/gpubroker/policy.d/",
		    s->subject.text, r->group, s->other);
	else
		say(s,
		    "no rule allows you to claim %s; the administrator can add one to "
		    "/etc/gpubroker/policy.d/",
		    s->subject.text);
}

static void say_no_name(const struct sentence *s)
{
	say(s,
	    "the policy has no %s; ask the administrator for the names in "
	    "/etc/gpubroker/policy.d/, or give a PCI address from 'gpubroker list'",
	    s->subject.text);
}

static void say_memlock(const struct sentence *s)
{
	const struct message_refusal *r = s->r;

	if (!r->limit)
		say(s,
		    "no rule grants you locked memory with %s; leave --memlock out, or ask the "
		    "administrator for a rule with memlock",
		    s->subject.text);
	else
		say(s,
		    "more locked memory was asked for than the rule for %s grants (%" PRIu64
		    " MiB, %.*s); ask for less with --memlock",
		    s->subject.text, r->limit >> 20, FIELD(r->rule));
}

static void say_limit(const struct sentence *s)
{
	const struct message_refusal *r = s->r;

	say(s,
	    "you have %" PRIu64
	    " lease%s already, which is the limit of the rule for %s (%.*s), or "
	    "your claims that wait keep as many from others; end one, see 'gpubroker leases'",
	    r->limit, r->limit == 1 ? "" : "s", s->subject.text, FIELD(r->rule));
}

static void say_quota(const struct sentence *s)
{
	if (s->r->text[0])
		say(s, "%.*s; end some and try again", FIELD(s->r->text));
	else
		say(s, "you have too many connections to the broker; end some and try again");
}

/* ---- others have it ---- */

/* A lease has it, or had it, and the host does not have it back yet. */
static void say_held(const struct sentence *s)
{
	const struct message_refusal *r = s->r;

	say(s,
	    "%s is %s %s%s; try again when it is free, see 'gpubroker leases', or wait for it with "
	    "--wait",
	    s->subject.text,
	    r->detail == REFUSAL_RELEASING ? "on its way back to the host from"
	    : r->detail == REFUSAL_ASKED   ? "asked back from"
					   : "leased to",
	    holder_of(s).text,
	    r->detail == REFUSAL_ASKED ? ", whose program has not let go of it yet" : "");
}

static void say_busy(const struct sentence *s)
{
	const struct message_refusal *r = s->r;
	const char *what = s->subject.text;

	switch ((enum refusal_detail)r->detail) {
	case REFUSAL_PREPARING:
		say(s,
		    "%s is just being taken over from its host driver, as the policy prepares it; "
		    "try again in a moment",
		    what);
		return;
	case REFUSAL_SRIOV:
		say(s,
		    "the virtual functions of %s are just being made; try again in a "
		    "moment",
		    r->has_other ? s->other : what);
		return;
	case REFUSAL_LEASED_VF:
		say(s,
		    "the virtual functions of %s stay as they are: %s is leased to %s; "
		    "'gpubroker revoke %" PRIu64 "' asks for it back",
		    what, s->other, holder_of(s).text, r->lease);
		return;
	case REFUSAL_RESERVED:
		say(s, "%s is reserved for somebody who waits for it; add --wait to join the queue",
		    what);
		return;
	case REFUSAL_LEASED:
		say(s, "%s is leased to %s; 'gpubroker revoke %" PRIu64 "' asks for it back", what,
		    holder_of(s).text, r->lease);
		return;
	case REFUSAL_ENDED:
		say(s, "%s ended this claim, number %" PRIu64 ", while it waited%s",
		    r->holder_uid ? "its user" : "root", r->lease,
		    r->holder_uid ? "" : "; ask the administrator, or claim again");
		return;
	case REFUSAL_FOREIGN:
		say(s,
		    "%s is in use by somebody else: a program that did not claim it has it open "
		    "through VFIO; stop that program, or wait for it with --wait",
		    what);
		return;
	default:
		break;
	}
	say_held(s);
}

static void say_stuck(const struct sentence *s)
{
	say(s, "%s is stuck (%.*s): the kernel has not finished with it, so nobody can have it; %s",
	    s->subject.text, FIELD(s->r->text),
	    s->r->lease ? "'gpubroker leases' shows since when"
			: "'journalctl -u gpubroker' shows the administrator since when");
}

/* A program has a node of it open, "/dev/dri/card0". Only root and its user learn which. */
static void say_open(const struct sentence *s)
{
	const struct message_refusal *r = s->r;
	const bool is_nvidia = !strncmp(r->text, "/dev/nvidia", 11);
	char user[64] = "", program[128] = "a program of the host";

	if (s->names && s->names->user)
		s->names->user(r->holder_uid, user, sizeof(user));
	if (!user[0])
		snprintf(user, sizeof(user), "uid %" PRIu32, r->holder_uid);
	if (r->holder_pid)
		snprintf(program, sizeof(program), "%.*s (pid %" PRIu32 " of %s)", FIELD(r->driver),
			 r->holder_pid, user);
	say(s,
	    "%s is in use by the host: %s%s%s has %.*s open; stop it%s, or add --force to take %s "
	    "from under it",
	    s->subject.text, s->other, s->other[0] ? ": " : "", program, FIELD(r->text),
	    is_nvidia ? ", since NVIDIA's driver waits for it without end" : "",
	    s->other[0] ? "both" : "it");
}

static void say_in_use(const struct sentence *s)
{
	if (s->r->detail == REFUSAL_OPEN) {
		say_open(s);
		return;
	}
	say(s, "%s is in use by the host: %s%s%.*s; stop that first", s->subject.text, s->other,
	    s->other[0] ? ": " : "", FIELD(s->r->text));
}

/* ---- the device is not there, or cannot be lent ---- */

static void say_no_device(const struct sentence *s)
{
	say(s, "there is no %s%s on this host; 'gpubroker list --all' shows what there is",
	    s->r->has_address ? "PCI function "
	    : s->r->name[0]   ? "PCI function that is "
			      : "",
	    !strcmp(s->subject.text, "any GPU") ? "GPU" : s->subject.text);
}

static void say_no_group(const struct sentence *s)
{
	say(s,
	    "%s has no IOMMU group, so it cannot be lent safely; switch the IOMMU on in the "
	    "firmware and kernel (intel_iommu=on, or AMD's default), or use another slot; "
	    "'gpubroker doctor' with its address says more",
	    s->subject.text);
}

static void say_not_viable(const struct sentence *s)
{
	if (s->r->detail == REFUSAL_WHOLE_AND_PART)
		say(s,
		    "%s is asked for whole and in part by one claim; it is lent only one way: "
		    "leave out one of the two",
		    s->subject.text);
	else if (s->r->detail == REFUSAL_INTERRUPTS)
		say(s,
		    "%s cannot be lent: this host does not remap interrupts, so a VM with a device "
		    "could raise any interrupt of the host; switch interrupt remapping on in the "
		    "firmware and kernel, or, if every user's VM is trusted with the host, set "
		    "vfio_iommu_type1.allow_unsafe_interrupts=1; see gpubrokerd(8)",
		    s->subject.text);
	else
		say(s,
		    "%s cannot be lent: its IOMMU group %" PRIu32
		    " %s%s%.*s; another slot may give it a group of its own",
		    s->subject.text, s->r->group, s->other[0] ? "has " : "", s->other,
		    FIELD(s->r->text));
}

static void say_boot_vga(const struct sentence *s)
{
	/* The boot VGA may be another function of the group than the one asked for. */
	const char *what = s->other[0] ? s->other : s->subject.text;
	const bool is_vga = !s->r->text[0];

	say(s, "%s is %s%.*s; %s", what,
	    is_vga ? "the boot VGA and shows the host's console" : "part of the host's console: ",
	    FIELD(s->r->text),
	    s->r->detail == REFUSAL_FORCE
		    ? "a rule allows it, add --force if you are sure"
		    : "it takes a rule with boot-vga and --force to claim it");
}

static void say_no_reset(const struct sentence *s)
{
	say(s,
	    "the rule for %s requires a reset between two users (%.*s), and the kernel has no way "
	    "to reset %s; the administrator can allow it without require-reset",
	    s->subject.text, FIELD(s->r->rule), s->other[0] ? s->other : s->subject.text);
}

static void say_node(const struct sentence *s)
{
	const struct message_refusal *r = s->r;
	char owner[64] = "";

	if (s->names && s->names->user)
		s->names->user(r->holder_uid, owner, sizeof(owner));
	if (!owner[0])
		snprintf(owner, sizeof(owner), "uid %" PRIu32, r->holder_uid);
	say(s,
	    "%s is not lent: others than root may open %.*s (owner %s, mode %04" PRIo64
	    "), and so take it past the policy; the administrator removes the udev rule that gives "
	    "it away, as the broker needs none: grep -rl vfio /etc/udev/rules.d "
	    "/run/udev/rules.d /usr/lib/udev/rules.d",
	    s->subject.text, FIELD(r->text), owner, r->limit);
}

static void say_no_vfs(const struct sentence *s)
{
	const struct message_refusal *r = s->r;
	const char *what = s->subject.text;

	if (r->limit)
		say(s,
		    "%s can have at most %" PRIu64 " virtual functions; ask for that many or fewer",
		    what, r->limit);
	else if (r->driver[0])
		say(s,
		    "%s is on %.*s, which makes no virtual functions; 'gpubroker restore %s' gives "
		    "it to its host driver, which may",
		    what, FIELD(r->driver), what);
	else if (r->text[0])
		say(s, "%s %.*s", what, FIELD(r->text));
	else
		say(s,
		    "%s can have no virtual functions: it has no SR-IOV, or the firmware has it "
		    "switched off",
		    what);
}

/* ---- profiles ---- */

static void say_no_mdevs(const struct sentence *s)
{
	if (s->r->detail == REFUSAL_NOT_LENT) {
		say_allotted(s);
		return;
	}
	say(s,
	    "%s offers no profiles: its driver makes no mediated devices, nor vGPUs of it or its "
	    "virtual functions, or is not loaded; 'gpubroker profiles' shows what does; without "
	    "--profile it is claimed whole",
	    s->device.text);
}

static void say_no_profile(const struct sentence *s)
{
	const struct message_refusal *r = s->r;
	const bool is_one = r->has_address || r->parent[0];

	if (r->limit)
		say(s,
		    "%s offers no profile \"%.*s\" while %" PRIu64
		    " of its virtual functions %s in use%s%.*s; 'gpubroker profiles' shows what "
		    "is, and what could be had instead",
		    s->device.text, FIELD(r->profile), r->limit, r->limit == 1 ? "is" : "are",
		    r->text[0] ? ", but " : "", FIELD(r->text));
	else
		say(s,
		    "%s has no profile \"%.*s\"; 'gpubroker profiles%s%s' shows those that there "
		    "are",
		    s->device.text, FIELD(r->profile), is_one ? " " : "",
		    is_one ? s->device.text : "");
}

static void say_none_left(const struct sentence *s)
{
	const struct message_refusal *r = s->r;

	if (r->error)
		say(s,
		    "%s was free when the broker looked, but then its driver did not make it (%s): "
		    "somebody else was faster; try again",
		    s->subject.text, strerror(r->error));
	else
		say(s,
		    "none of %s is left: %" PRIu64
		    " of it %s in use%s%.*s; try again when one is free, see 'gpubroker leases'",
		    s->subject.text, r->limit, r->limit == 1 ? "is" : "are",
		    r->text[0] ? ", and left there is " : "", FIELD(r->text));
}

/* ---- the broker ---- */

static void say_failed(const struct sentence *s)
{
	const struct message_refusal *r = s->r;

	if (r->detail == REFUSAL_SOCKET) {
		say_allotted(s);
		return;
	}
	say(s, "%s: %.*s%s%s; %s", s->other[0] ? s->other : s->subject.text, FIELD(r->text),
	    r->error ? ": " : "", r->error ? strerror(r->error) : "",
	    r->detail == REFUSAL_NOT_RESTORED
		    ? "not everything could be put back as it was, see 'gpubroker list --all'"
		    : "everything was put back as it was");
}

static void say_hook(const struct sentence *s)
{
	const struct message_refusal *r = s->r;

	if (r->text[0])
		say(s,
		    "%s was not taken from its host driver: %.*s; the administrator finds what it "
		    "said by 'journalctl -u gpubroker-hooks'",
		    s->subject.text, FIELD(r->text));
	else
		say(s,
		    "%s was not taken from its host driver: the hooks that come first cannot run, "
		    "since gpubroker-hooks.service is missing; 'systemctl status gpubroker-hooks' "
		    "shows the administrator why",
		    s->subject.text);
}

static void say_not_ready(const struct sentence *s)
{
	say(s, "the broker has no valid policy, so it lends nothing; 'systemctl status gpubroker' "
	       "shows the administrator why");
}

static void say_version(const struct sentence *s)
{
	say(s, "the broker speaks another version of the protocol; restart it after the upgrade");
}

static void say_no_lease(const struct sentence *s)
{
	say(s, "there is no lease %" PRIu64 "; 'gpubroker leases' shows those there are",
	    s->r->lease);
}

static void say_not_yours(const struct sentence *s)
{
	if (s->r->detail == REFUSAL_AT_SOCKET)
		say_allotted(s);
	else if (s->r->lease)
		say(s,
		    "lease %" PRIu64 " is another user's; only that user and root can release it",
		    s->r->lease);
	else
		say(s, "only root can %.*s", FIELD(s->r->text));
}

static void (*const sentences[])(const struct sentence *s) = {
	[GPUBROKER_REFUSED_POLICY] = say_policy,
	[GPUBROKER_REFUSED_BUSY] = say_busy,
	[GPUBROKER_REFUSED_STUCK] = say_stuck,
	[GPUBROKER_REFUSED_NO_DEVICE] = say_no_device,
	[GPUBROKER_REFUSED_NO_NAME] = say_no_name,
	[GPUBROKER_REFUSED_NO_GROUP] = say_no_group,
	[GPUBROKER_REFUSED_NOT_VIABLE] = say_not_viable,
	[GPUBROKER_REFUSED_BOOT_VGA] = say_boot_vga,
	[GPUBROKER_REFUSED_IN_USE] = say_in_use,
	[GPUBROKER_REFUSED_MEMLOCK] = say_memlock,
	[GPUBROKER_REFUSED_QUOTA] = say_quota,
	[GPUBROKER_REFUSED_FAILED] = say_failed,
	[GPUBROKER_REFUSED_NOT_READY] = say_not_ready,
	[GPUBROKER_REFUSED_VERSION] = say_version,
	[GPUBROKER_REFUSED_LIMIT] = say_limit,
	[GPUBROKER_REFUSED_NO_LEASE] = say_no_lease,
	[GPUBROKER_REFUSED_NOT_YOURS] = say_not_yours,
	[GPUBROKER_REFUSED_NO_RESET] = say_no_reset,
	[GPUBROKER_REFUSED_NO_VFS] = say_no_vfs,
	[GPUBROKER_REFUSED_NO_MDEVS] = say_no_mdevs,
	[GPUBROKER_REFUSED_NO_PROFILE] = say_no_profile,
	[GPUBROKER_REFUSED_NONE_LEFT] = say_none_left,
	[GPUBROKER_REFUSED_NODE] = say_node,
	[GPUBROKER_REFUSED_HOOK] = say_hook,
	[GPUBROKER_REFUSED_ALLOTTED] = say_allotted,
};

void refusal_format(const struct message_refusal *r, const struct refusal_names *names, char *out,
		    size_t size)
{
	struct sentence s = {
		.r = r,
		.names = names,
		.out = out,
		.size = size,
		.device = device_of(r),
		.subject = subject_of(r),
	};

	if (!size)
		return;
	if (r->has_other)
		pci_address_format(&r->other, s.other);
	if (r->reason < ARRAY_SIZE(sentences) && sentences[r->reason])
		sentences[r->reason](&s);
	else
		say(&s, "%s was refused for a reason that this version does not know (%" PRIu32 ")",
		    s.subject.text, r->reason);
	/*
	 * Names come from files, devices and the peer: none may start a line or steer a terminal.
	 */
	for (char *p = out; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}

static const char *word_of(uint32_t reason)
{
	switch (reason) {
#define WORD_OF(reason, number, word, status)                                                      \
	case number:                                                                               \
		return word;
		GPUBROKER_REFUSALS(WORD_OF)
#undef WORD_OF
	default:
		return "unknown";
	}
}

void refusal_facts(const struct message_refusal *r, struct gpubroker_refused *ret_refused)
{
	struct gpubroker_refused facts = {
		.number = (enum gpubroker_refusal)r->reason,
		.iommu_group = r->group == UINT32_MAX ? -1 : (int64_t)r->group,
		.lease = r->lease,
		.holder_uid = r->holder_uid,
		.holder_pid = r->holder_pid,
	};

	snprintf(facts.name, sizeof(facts.name), "%s", word_of(r->reason));
	if (r->has_address)
		pci_address_format(&r->address, facts.device);
	else if (r->parent[0])
		snprintf(facts.device, sizeof(facts.device), "%.*s", FIELD(r->parent));
	else if (r->name[0])
		snprintf(facts.device, sizeof(facts.device), "%.*s", FIELD(r->name));
	else if (r->group != UINT32_MAX)
		snprintf(facts.device, sizeof(facts.device), "iommu-group:%" PRIu32, r->group);
	if (r->has_other)
		pci_address_format(&r->other, facts.other);
	snprintf(facts.profile, sizeof(facts.profile), "%.*s", FIELD(r->profile));
	snprintf(facts.rule, sizeof(facts.rule), "%.*s", FIELD(r->rule));
	*ret_refused = facts;
}
