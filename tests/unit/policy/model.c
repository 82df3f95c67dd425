/* SPDX-License-Identifier: MIT */
/*
 * The slow evaluator answers each question from the start, in one plain loop. It must stay obvious.
 * If it and policy/ differ, the manual decides which of them is wrong.
 */
#include "config.h"

#include "tests/unit/policy/model.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool class_is(const char *class, unsigned int code)
{
	char hex[8];

	if (strcmp(class, "display") == 0)
		return code >> 16 == 3;
	if (strcmp(class, "audio") == 0)
		return code >> 8 == 0x401 || code >> 8 == 0x403;
	if (strcmp(class, "usb") == 0)
		return code >> 8 == 0xc03;
	if (strcmp(class, "network") == 0)
		return code >> 16 == 2;
	if (strncmp(class, "0x", 2) == 0)
		class += 2;
	snprintf(hex, sizeof(hex), "%06x", code);
	return strncasecmp(hex, class, strlen(class)) == 0;
}

/* Compares exactly, except that hex digits may be in either case. */
static bool serial_is(const char *said, const char *is)
{
	for (; *said && *is; said++, is++) {
		bool hex = isxdigit((unsigned char)*said) && isxdigit((unsigned char)*is);

		if (*said != *is && !(hex && tolower(*said) == tolower(*is)))
			return false;
	}
	return *said == *is;
}

static bool path_is(const char *said, const char *is)
{
	if (strncmp(said, "pci", 3) != 0)
		is = strchr(is, '/') + 1;
	return strcasecmp(said, is) == 0;
}

/* "any" matches any type; the type's name matches as well as the type. */
static bool profile_is(const char *said, const struct policy_facts *f)
{
	if (strcmp(f->profile, "") == 0)
		return false;
	return strcmp(said, "any") == 0 || strcmp(said, f->profile) == 0 ||
	       (f->profile_name && strcmp(said, f->profile_name) == 0);
}

static bool says(const struct statement *s, const struct policy_facts *f, bool denying)
{
	if (f->no_pci && (s->bus >= 0 || s->vendor >= 0 || s->device >= 0 || s->group >= 0 ||
			  s->subsystem_vendor >= 0 || s->subsystem_device >= 0 || s->class ||
			  s->driver || s->serial || s->path))
		return false;
	if (s->profile && !(f->profile ? profile_is(s->profile, f) : denying))
		return false;
	if (s->bus >= 0 && ((!(s->any & 1) && f->address.domain != 0) ||
			    (!(s->any & 2) && s->bus != f->address.bus) ||
			    (!(s->any & 4) && s->slot != f->address.device) ||
			    (!(s->any & 8) && s->function != f->address.function)))
		return false;
	if (s->vendor >= 0 && s->vendor != f->vendor)
		return false;
	if (s->device >= 0 && s->device != f->device)
		return false;
	if (s->subsystem_vendor >= 0 && s->subsystem_vendor != f->subsystem_vendor)
		return false;
	if (s->subsystem_device >= 0 && s->subsystem_device != f->subsystem_device)
		return false;
	if (s->group >= 0 && (uint32_t)s->group != f->iommu_group)
		return false;
	if (s->class && !class_is(s->class, f->class_code))
		return false;
	/*
	 * A driver that is "" is none, and NULL is not known. The same is true for the other texts.
	 */
	if (s->driver && !(f->driver ? strcmp(s->driver, f->driver) == 0 : denying))
		return false;
	if (s->serial && !(f->serial ? *f->serial && serial_is(s->serial, f->serial) : denying))
		return false;
	if (s->path && !(f->path ? *f->path && path_is(s->path, f->path) : denying))
		return false;
	return true;
}

bool model_covers(const struct statement *all, int n, const struct statement *s,
		  const struct policy_facts *facts, bool denying)
{
	bool named = s->name < 0;

	for (int i = 0; i < n; i++)
		if (all[i].verb == 'd' && all[i].name == s->name && says(&all[i], facts, denying))
			named = true;
	return named && says(s, facts, denying);
}

bool model_grants(const struct statement *all, int n, const struct statement *s,
		  const struct policy_facts *facts)
{
	if (!facts->profile || strcmp(facts->profile, "") == 0 || s->profile)
		return true;
	for (int i = 0; i < n; i++)
		if (all[i].verb == 'd' && s->name >= 0 && all[i].name == s->name &&
		    all[i].profile && says(&all[i], facts, false))
			return true;
	return false;
}

bool model_is_for(const struct statement *s, const struct policy_subject *subject)
{
	bool member = s->id == subject->gid;

	for (size_t i = 0; i < subject->n_groups; i++)
		member = member || s->id == subject->groups[i];
	return s->who == 'e' || (s->who == 'u' && s->id == subject->uid) ||
	       (s->who == 'g' && member);
}

bool model_same_slot(const struct policy_facts *a, const struct policy_facts *b)
{
	return a->address.domain == b->address.domain && a->address.bus == b->address.bus &&
	       a->address.device == b->address.device;
}

/* Returns true if there is a rule of this verb for this subject and this function. */
static bool any_rule(const struct statement *all, int n, char verb,
		     const struct policy_subject *subject, const struct policy_facts *facts)
{
	for (int i = 0; i < n; i++)
		if (all[i].verb == verb && model_is_for(&all[i], subject) &&
		    model_covers(all, n, &all[i], facts, verb == 'n') &&
		    (verb == 'n' || model_grants(all, n, &all[i], facts)))
			return true;
	return false;
}

static bool used_up(const struct statement *s)
{
	return s->limit && s->held >= s->limit;
}

struct answer model_decide(const struct statement *all, int n, const struct policy_subject *subject,
			   const struct policy_facts *functions, size_t n_functions, size_t asked)
{
	struct answer answer = { .outcome = 'l', .rule = -1 };
	bool endless = false, spared = false, unlimited = false;

	for (size_t f = 0; f < n_functions; f++)
		if (any_rule(all, n, 'n', subject, &functions[f]))
			return (struct answer){ .outcome = 'd' };
	for (size_t f = 0; f < n_functions; f++)
		if ((f == asked || !model_same_slot(&functions[f], &functions[asked])) &&
		    !any_rule(all, n, 'a', subject, &functions[f]))
			return (struct answer){ .outcome = 'n' };

	for (int i = 0; i < n; i++) {
		const struct statement *s = &all[i];

		if (s->verb != 'a' || !model_is_for(s, subject) ||
		    !model_covers(all, n, s, &functions[asked], false) ||
		    !model_grants(all, n, s, &functions[asked]))
			continue;
		if (used_up(s)) {
			if (answer.rule < 0)
				answer.rule = i;
			continue;
		}
		if (answer.outcome == 'l' || (!s->limit && !unlimited))
			answer.rule = i;
		unlimited = unlimited || !s->limit;
		answer.outcome = 'a';
		if (s->memlock > answer.memlock)
			answer.memlock = s->memlock;
		answer.boot_vga = answer.boot_vga || s->boot_vga;
		answer.in_use = answer.in_use || s->in_use;
		answer.require_reset = answer.require_reset || s->require_reset;
		if (s->kill == 0 || s->lifetime == 0)
			spared = true;
		if (s->kill > answer.kill)
			answer.kill = s->kill;
		if (s->lifetime == 0)
			endless = true;
		if (s->lifetime > answer.lifetime)
			answer.lifetime = s->lifetime;
		if (!answer.vfio_driver)
			answer.vfio_driver = s->vfio_driver;
	}
	if (answer.outcome == 'a' && all[answer.rule].vfio_driver)
		answer.vfio_driver = all[answer.rule].vfio_driver;
	if (endless)
		answer.lifetime = 0;
	if (spared)
		answer.kill = 0;
	return answer;
}

bool model_prepares(const struct statement *all, int n, const struct policy_facts *facts,
		    bool *ret_named)
{
	bool prepared = false;

	*ret_named = false;
	for (int i = 0; i < n; i++) {
		if (all[i].verb != 'p' || !model_covers(all, n, &all[i], facts, false))
			continue;
		prepared = true;
		*ret_named = *ret_named || all[i].vfio_driver;
	}
	return prepared;
}
