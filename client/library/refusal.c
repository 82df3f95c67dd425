/* SPDX-License-Identifier: MIT */
/*
 * Turns a refusal's numbers into one sentence. Pure. It never trusts that a string in the message
 * ends, and it must name the thing, the reason and what would help in every case: a user's first
 * error message should teach something true.
 */
#include "config.h"

#include "client/library/refusal.h"
#include "client/gpubroker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct subject {
	char text[192];
};

/* "0000:01:00.0", `device "a100"` or "IOMMU group 17": the most exact that is known. */
static struct subject device_of(const struct message_refusal *r)
{
	struct subject s = { "any GPU" };
	char address[PCI_ADDRESS_TEXT];

	if (r->has_address)
		snprintf(s.text, sizeof(s.text), "%s", pci_address_format(&r->address, address));
	else if (r->parent[0])
		snprintf(s.text, sizeof(s.text), "%.*s", PROTOCOL_NAME_MAX - 1, r->parent);
	else if (r->name[0])
		snprintf(s.text, sizeof(s.text), "device \"%.*s\"", PROTOCOL_NAME_MAX - 1, r->name);
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
	snprintf(s.text, sizeof(s.text), "profile \"%.*s\" of %.100s", PROTOCOL_PROFILE_MAX - 1,
		 r->profile, device.text);
	return s;
}

static struct subject holder_of(const struct message_refusal *r, const struct refusal_names *names)
{
	struct subject s;
	char name[64] = "";

	if (names && names->user)
		names->user(r->holder_uid, name, sizeof(name));
	if (name[0])
		snprintf(s.text, sizeof(s.text), "%s (pid %" PRIu32 ", lease %" PRIu64 ")", name,
			 r->holder_pid, r->lease);
	else
		snprintf(s.text, sizeof(s.text),
			 "uid %" PRIu32 " (pid %" PRIu32 ", lease %" PRIu64 ")", r->holder_uid,
			 r->holder_pid, r->lease);
	return s;
}

static void format_policy(const struct message_refusal *r, const char *what, char *out, size_t size)
{
	char other[PCI_ADDRESS_TEXT];
	const int rule_max = (int)sizeof(r->rule) - 1;

	pci_address_format(&r->other, other);
	if (r->rule[0] && r->has_other)
		snprintf(out, size,
			 "%s shares IOMMU group %" PRIu32
			 " with %s, which the policy denies you (%.*s)",
			 what, r->group, other, rule_max, r->rule);
	else if (r->rule[0])
		snprintf(out, size,
			 "the policy denies you %s (%.*s); only the administrator can change that",
			 what, rule_max, r->rule);
	else if (r->has_other)
		snprintf(out, size,
			 "%s shares IOMMU group %" PRIu32
			 " with %s, which no rule allows you to claim; "
			 "the administrator can add one to /etc/gpubroker/policy.d/",
			 what, r->group, other);
	else
		snprintf(out, size,
			 "no rule allows you to claim %s; the administrator can add one to "
			 "/etc/gpubroker/policy.d/",
			 what);
}

static void format_failed(const struct message_refusal *r, const char *what, char *out, size_t size)
{
	const int detail_max = (int)sizeof(r->detail) - 1;
	char other[PCI_ADDRESS_TEXT];

	if (r->has_other)
		what = pci_address_format(&r->other, other);
	snprintf(out, size, "%s: %.*s%s%s; %s", what, detail_max, r->detail, r->error ? ": " : "",
		 r->error ? strerror(r->error) : "",
		 r->limit ? "not everything could be put back as it was, see 'gpubroker list --all'"
			  : "everything was put back as it was");
}

/* Of a profile: what its device has not, or has no more. */
static void format_profile(const struct message_refusal *r, char *out, size_t size)
{
	const struct subject device = device_of(r), subject = subject_of(r);
	const int profile_max = PROTOCOL_PROFILE_MAX - 1, detail_max = (int)sizeof(r->detail) - 1;

	if (r->reason == GPUBROKER_REFUSED_NO_MDEVS)
		snprintf(
			out, size,
			"%s offers no profiles: its driver makes no mediated devices, nor vGPUs of it or its virtual functions, or is not loaded; "
			"'gpubroker profiles' shows what does; without --profile it is claimed whole",
			device.text);
	else if (r->reason == GPUBROKER_REFUSED_NO_PROFILE && r->limit)
		snprintf(
			out, size,
			"%s offers no profile \"%.*s\" while %" PRIu64
			" of its virtual functions %s in use%s%.*s; 'gpubroker profiles' shows what is, and "
			"what could be had instead",
			device.text, profile_max, r->profile, r->limit,
			r->limit == 1 ? "is" : "are", r->detail[0] ? ", but " : "", detail_max,
			r->detail);
	else if (r->reason == GPUBROKER_REFUSED_NO_PROFILE)
		snprintf(
			out, size,
			"%s has no profile \"%.*s\"; 'gpubroker profiles%s%s' shows those that there are",
			device.text, profile_max, r->profile,
			r->has_address || r->parent[0] ? " " : "",
			r->has_address || r->parent[0] ? device.text : "");
	else if (r->error)
		snprintf(
			out, size,
			"%s was still to be had when it was looked at, but then its driver did not make "
			"it (%s): somebody else was faster; try again",
			subject.text, strerror(r->error));
	else
		snprintf(out, size,
			 "none of %s is left: %" PRIu64
			 " of it %s in use%s%.*s; try again when one is free, "
			 "see 'gpubroker leases'",
			 subject.text, r->limit, r->limit == 1 ? "is" : "are",
			 r->detail[0] ? ", and left there is " : "", detail_max, r->detail);
}

static void format(const struct message_refusal *r, const struct refusal_names *names, char *out,
		   size_t size)
{
	const struct subject subject = subject_of(r);
	const char *what = subject.text;
	const int detail_max = (int)sizeof(r->detail) - 1;
	char other[PCI_ADDRESS_TEXT] = "";

	if (r->has_other)
		pci_address_format(&r->other, other);

	switch ((enum gpubroker_refusal)r->reason) {
	case GPUBROKER_REFUSED_POLICY:
		format_policy(r, what, out, size);
		return;
	case GPUBROKER_REFUSED_BUSY:
		if (!strncmp(r->detail, "preparing", sizeof(r->detail))) {
			snprintf(
				out, size,
				"%s is just being taken over from its host driver, as the policy prepares it; "
				"try again in a moment",
				what);
			return;
		}
		if (!strncmp(r->detail, "vfs", sizeof(r->detail))) {
			snprintf(out, size,
				 "the virtual functions of %s are just being made; try again in a "
				 "moment",
				 r->has_other ? other : what);
			return;
		}
		if (!strncmp(r->detail, "leased-vf", sizeof(r->detail))) {
			snprintf(
				out, size,
				"the virtual functions of %s stay as they are: %s is leased to %s; "
				"'gpubroker revoke %" PRIu64 "' asks for it back",
				what, other, holder_of(r, names).text, r->lease);
			return;
		}
		if (!strncmp(r->detail, "promised", sizeof(r->detail))) {
			snprintf(out, size,
				 "%s is promised to somebody who waits for it; add --wait to join "
				 "the queue",
				 what);
			return;
		}
		if (!strncmp(r->detail, "leased", sizeof(r->detail))) {
			snprintf(out, size,
				 "%s is leased to %s; 'gpubroker revoke %" PRIu64
				 "' asks for it back",
				 what, holder_of(r, names).text, r->lease);
			return;
		}
		snprintf(out, size,
			 "%s is %s %s; try again when it is free, see 'gpubroker leases', or wait "
			 "for it with --wait",
			 what, r->detail[0] ? "on its way back to the host from" : "leased to",
			 holder_of(r, names).text);
		return;
	case GPUBROKER_REFUSED_STUCK:
		snprintf(
			out, size,
			"%s is stuck (%.*s): the kernel has not finished with it, so nobody can have "
			"it; %s",
			what, detail_max, r->detail,
			r->lease ? "'gpubroker leases' shows since when"
				 : "'journalctl -u gpubroker' shows the administrator since when");
		return;
	case GPUBROKER_REFUSED_NO_DEVICE:
		snprintf(
			out, size,
			"there is no %s%s on this host; 'gpubroker list --all' shows what there is",
			r->has_address ? "PCI function "
			: r->name[0]   ? "PCI function that is "
				       : "",
			!strcmp(what, "any GPU") ? "GPU" : what);
		return;
	case GPUBROKER_REFUSED_NO_NAME:
		snprintf(out, size,
			 "the policy has no %s; ask the administrator for the names in "
			 "/etc/gpubroker/policy.d/, or give a PCI address from 'gpubroker list'",
			 what);
		return;
	case GPUBROKER_REFUSED_NO_GROUP:
		snprintf(
			out, size,
			"%s has no IOMMU group, so it cannot be lent safely; switch the IOMMU on in the "
			"firmware and kernel (intel_iommu=on, or AMD's default), or use another slot",
			what);
		return;
	case GPUBROKER_REFUSED_NOT_VIABLE:
		if (!strncmp(r->detail, "whole-and-part", sizeof(r->detail))) {
			snprintf(out, size,
				 "%s is asked for whole and in part by one claim; it is lent only "
				 "one way: leave out one of the two",
				 what);
			return;
		}
		snprintf(out, size,
			 "%s cannot be lent: its IOMMU group %" PRIu32
			 " %s%s%.*s; another slot may give it "
			 "a group of its own",
			 what, r->group, r->has_other ? "has " : "", other, detail_max, r->detail);
		return;
	case GPUBROKER_REFUSED_BOOT_VGA:
		if (r->has_other) /* a companion is it, not what was asked for */
			what = other;
		if (r->detail[0])
			snprintf(
				out, size,
				"%s is the boot VGA and shows the host's console; a rule allows it, add "
				"--force if you are sure",
				what);
		else
			snprintf(
				out, size,
				"%s is the boot VGA and shows the host's console; it takes a rule with "
				"boot-vga and --force to claim it",
				what);
		return;
	case GPUBROKER_REFUSED_IN_USE:
		snprintf(out, size, "%s is in use by the host: %s%s%.*s; stop that first", what,
			 r->has_other ? other : "", r->has_other ? ": " : "", detail_max,
			 r->detail);
		return;
	case GPUBROKER_REFUSED_MEMLOCK:
		if (!r->limit)
			snprintf(
				out, size,
				"no rule grants you locked memory with %s; leave --memlock out, or ask the "
				"administrator for a rule with memlock",
				what);
		else
			snprintf(
				out, size,
				"more locked memory was asked for than the rule for %s grants (%" PRIu64
				" MiB, %.*s); ask for less with --memlock",
				what, r->limit >> 20, (int)sizeof(r->rule) - 1, r->rule);
		return;
	case GPUBROKER_REFUSED_QUOTA:
		snprintf(out, size, "%.*s; end some and try again", detail_max,
			 r->detail[0] ? r->detail : "you have too many connections to the broker");
		return;
	case GPUBROKER_REFUSED_FAILED:
		format_failed(r, what, out, size);
		return;
	case GPUBROKER_REFUSED_NOT_READY:
		snprintf(
			out, size,
			"the broker has no valid policy, so it lends nothing; 'systemctl status gpubroker' "
			"shows the administrator why");
		return;
	case GPUBROKER_REFUSED_VERSION:
		snprintf(
			out, size,
			"the broker speaks another version of the protocol; restart it after the upgrade");
		return;
	case GPUBROKER_REFUSED_NO_LEASE:
		snprintf(out, size,
			 "there is no lease %" PRIu64 "; 'gpubroker leases' shows those there are",
			 r->lease);
		return;
	case GPUBROKER_REFUSED_NOT_YOURS:
		if (r->lease)
			snprintf(out, size,
				 "lease %" PRIu64
				 " is another user's; only that user and root can release it",
				 r->lease);
		else
			snprintf(out, size, "only root can %.*s", detail_max, r->detail);
		return;
	case GPUBROKER_REFUSED_NO_RESET:
		snprintf(
			out, size,
			"the rule for %s requires a reset between two users (%.*s), and the kernel "
			"has no way to reset %s; the administrator can allow it without "
			"require-reset",
			what, (int)sizeof(r->rule) - 1, r->rule, r->has_other ? other : what);
		return;
	case GPUBROKER_REFUSED_NO_VFS:
		if (r->limit)
			snprintf(out, size,
				 "%s can have at most %" PRIu64
				 " virtual functions; ask for that many or fewer",
				 what, r->limit);
		else if (r->driver[0])
			snprintf(
				out, size,
				"%s is on %.*s, which makes no virtual functions; 'gpubroker restore "
				"%s' gives it to its host driver, which may",
				what, (int)sizeof(r->driver) - 1, r->driver, what);
		else if (r->detail[0])
			snprintf(out, size, "%s %.*s", what, detail_max, r->detail);
		else
			snprintf(
				out, size,
				"%s can have no virtual functions: it has no SR-IOV, or the firmware "
				"has it switched off",
				what);
		return;
	case GPUBROKER_REFUSED_NO_MDEVS:
	case GPUBROKER_REFUSED_NO_PROFILE:
	case GPUBROKER_REFUSED_NONE_LEFT:
		format_profile(r, out, size);
		return;
	case GPUBROKER_REFUSED_LIMIT:
		snprintf(out, size,
			 "you have %" PRIu64
			 " lease%s already, which is the limit of the rule for %s (%.*s); "
			 "end one, see 'gpubroker leases'",
			 r->limit, r->limit == 1 ? "" : "s", what, (int)sizeof(r->rule) - 1,
			 r->rule);
		return;
	}
	snprintf(out, size,
		 "%s was refused for a reason that this version does not know (%" PRIu32 ")", what,
		 r->reason);
}

void refusal_format(const struct message_refusal *r, const struct refusal_names *names, char *out,
		    size_t size)
{
	if (!size)
		return;
	format(r, names, out, size);
	/* Names come from files, devices and the peer: none may start a line or steer a terminal. */
	for (char *p = out; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}
