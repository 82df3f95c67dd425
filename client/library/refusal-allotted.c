/* SPDX-License-Identifier: MIT */
/*
 * Turns refusals about allotments into sentences, for refusal.c. Pure. It must never trust that a
 * string in the message ends.
 */
#include "config.h"

#include "client/library/refusal-allotted.h"
#include "client/gpubroker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A string of the message in a sentence: "%.*s" stops where its field ends. */
#define FIELD(field) (int)sizeof(field) - 1, field

/* The policy keeps root from allotting a device. */
static void format_not_allowed(const struct message_refusal *r, const char *what, const char *other,
			       const char *user, char *out, size_t size)
{
	char line[96] = "class display";

	if (r->has_address)
		snprintf(line, sizeof(line), "address %s", what);
	else if (r->name[0])
		snprintf(line, sizeof(line), "%.*s", FIELD(r->name));
	if (r->rule[0])
		snprintf(out, size,
			 "%s cannot be allotted to %s, to whom the policy denies %s (%.*s); only a "
			 "change of the policy helps",
			 what, user, r->has_other ? other : "it", FIELD(r->rule));
	else if (r->has_other)
		snprintf(out, size,
			 "%s cannot be allotted: it shares IOMMU group %" PRIu32
			 " with %s, which no rule allows %s; add 'allow allotted claim address %s' "
			 "to /etc/gpubroker/policy.d/",
			 what, r->group, other, user, other);
	else
		snprintf(
			out, size,
			"%s cannot be allotted, since no rule with \"allotted\" is about it; add a "
			"line as 'allow allotted claim %s' to /etc/gpubroker/policy.d/",
			what, line);
}

void refusal_format_allotted(const struct message_refusal *r, const char *what, const char *other,
			     const char *user, char *out, size_t size)
{
	const char *label = "an unknown label";
	char copy[sizeof(r->text)];

	snprintf(copy, sizeof(copy), "%.*s", FIELD(r->text));
	if (copy[0])
		label = copy;
	if (r->reason == GPUBROKER_REFUSED_POLICY && r->detail != REFUSAL_AT_SOCKET)
		format_not_allowed(r, what, other, user, out, size);
	else if (r->reason == GPUBROKER_REFUSED_NO_MDEVS)
		snprintf(out, size,
			 "%s is a profile, or means one, and only whole devices and virtual "
			 "functions can be allotted; give the address of one",
			 what);
	else if (r->detail == REFUSAL_DAMAGED)
		snprintf(out, size,
			 "%s is reserved by the allotment %s, whose record is damaged, so it is "
			 "nobody's; root settles that with 'gpubroker retract %s'",
			 what, label, label);
	else if (r->detail == REFUSAL_RETRACTING)
		snprintf(out, size,
			 "%s is allotted to %s (%s), and that is just being taken away; 'gpubroker "
			 "allotments' shows when it is gone",
			 what, user, label);
	else if (r->detail == REFUSAL_CHANGED)
		snprintf(out, size,
			 "%s is not the device that was allotted to you (%s): another one has come "
			 "to its place; ask the administrator to retract it and to allot it again",
			 what, label);
	else if (r->detail == REFUSAL_AT_SOCKET && r->reason == GPUBROKER_REFUSED_POLICY)
		snprintf(out, size,
			 "%s is not of the allotment %s, and nothing else can be claimed at its "
			 "socket",
			 what, label);
	else if (r->detail == REFUSAL_AT_SOCKET)
		snprintf(out, size,
			 "this was asked at the socket of the allotment %s, where nobody can do "
			 "that; what is allotted can be claimed, listed and released there",
			 label);
	else if (r->detail == REFUSAL_SOCKET)
		snprintf(out, size, "the allotment gets no socket: %s", label);
	else if (r->detail == REFUSAL_LABEL)
		snprintf(
			out, size,
			"%s is the label of what is allotted to %s; give another label, or retract "
			"that first",
			label, user);
	else
		snprintf(out, size,
			 "%s is allotted to %s (%s), and so reserved; 'gpubroker allotments' shows "
			 "until when; wait for it with --wait, or have root retract it",
			 what, user, label);
}
