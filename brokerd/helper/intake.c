/* SPDX-License-Identifier: MIT */
/*
 * Puts a policy together from the loader's records, see intake.h. It must never trust a count, an
 * index or a string in a record.
 */
#include "config.h"

#include "brokerd/helper/intake.h"

#include <stdlib.h>

void intake_done(struct policy_intake *intake)
{
	policy_done(&intake->policy);
	policy_owners_done(&intake->owners);
	*intake = (struct policy_intake){ 0 };
}

static enum intake_result begin_policy(struct policy_intake *intake,
				       const struct loader_record *record)
{
	struct policy *p = &intake->policy;

	intake_done(intake);
	if (record->counts[0] > POLICY_NAMES_MAX || record->counts[1] > POLICY_FILES_MAX ||
	    record->counts[2] > POLICY_RULES_MAX || record->counts[3] > POLICY_TEXTS_MAX)
		return INTAKE_NONSENSE;
	intake->names = record->counts[0];
	intake->files = record->counts[1];
	intake->rules = record->counts[2];
	intake->texts = record->counts[3];
	p->names = calloc(intake->names + 1, sizeof(*p->names));
	p->texts = calloc(intake->texts + 1, sizeof(*p->texts));
	p->files = calloc(intake->files + 1, sizeof(*p->files));
	p->rules = calloc(intake->rules + 1, sizeof(*p->rules));
	/* Each record is put into the index when it comes, so no turn of the loop takes long. */
	return p->names && p->texts && p->files && p->rules &&
			       !policy_index_new(p, intake->names, intake->rules)
		       ? INTAKE_MORE
		       : INTAKE_NO_MEMORY;
}

static enum intake_result begin_owners(struct policy_intake *intake,
				       const struct loader_record *record)
{
	struct policy_owners *o = &intake->owners;

	intake_done(intake);
	if (record->counts[0] > POLICY_RANGES_MAX || record->counts[1] > POLICY_MEMBERS_MAX)
		return INTAKE_NONSENSE;
	intake->ranges = record->counts[0];
	intake->members = record->counts[1];
	o->ranges = calloc(intake->ranges + 1, sizeof(*o->ranges));
	o->members = calloc(intake->members + 1, sizeof(*o->members));
	return o->ranges && o->members ? INTAKE_MORE : INTAKE_NO_MEMORY;
}

static enum intake_result take_owners(struct policy_intake *intake,
				      const struct loader_record *record,
				      struct policy_owners *ret_owners)
{
	struct policy_owners *o = &intake->owners;

	switch ((enum loader_record_type)record->type) {
	case LOADER_OWNERS:
		return begin_owners(intake, record);
	case LOADER_RANGE:
		if (o->n_ranges >= intake->ranges)
			return INTAKE_NONSENSE;
		o->ranges[o->n_ranges++] = record->range;
		return INTAKE_MORE;
	case LOADER_MEMBER:
		if (o->n_members >= intake->members)
			return INTAKE_NONSENSE;
		o->members[o->n_members++] = record->member;
		return INTAKE_MORE;
	case LOADER_OWNERS_END:
		if (!o->ranges || o->n_ranges != intake->ranges ||
		    o->n_members != intake->members || !policy_owners_valid(o))
			return INTAKE_NONSENSE;
		*ret_owners = intake->owners;
		*intake = (struct policy_intake){ 0 };
		return INTAKE_OWNERS;
	default:
		return INTAKE_NONSENSE;
	}
}

enum intake_result intake_take(struct policy_intake *intake, const struct loader_record *record,
			       struct policy *ret_policy, struct policy_owners *ret_owners)
{
	struct policy *p = &intake->policy;

	switch ((enum loader_record_type)record->type) {
	case LOADER_BEGIN:
		return begin_policy(intake, record);
	case LOADER_NAME:
		if (p->n_names >= intake->names || record->name.text[sizeof(record->name.text) - 1])
			return INTAKE_NONSENSE;
		p->names[p->n_names] = record->name;
		policy_index_add_name(p, p->n_names++);
		return INTAKE_MORE;
	case LOADER_TEXT:
		if (p->n_texts >= intake->texts || !policy_text_valid(&record->text))
			return INTAKE_NONSENSE;
		p->texts[p->n_texts++] = record->text;
		return INTAKE_MORE;
	case LOADER_FILE:
		if (p->n_files >= intake->files || record->file.path[sizeof(record->file.path) - 1])
			return INTAKE_NONSENSE;
		p->files[p->n_files++] = record->file;
		return INTAKE_MORE;
	case LOADER_RULE:
		if (p->n_rules >= intake->rules ||
		    !policy_rule_valid(&record->rule, intake->names, intake->files, p->texts,
				       p->n_texts))
			return INTAKE_NONSENSE;
		p->rules[p->n_rules] = record->rule;
		policy_index_add_rule(p, p->n_rules++);
		return INTAKE_MORE;
	case LOADER_END:
		if (!p->rules || p->n_names != intake->names || p->n_files != intake->files ||
		    p->n_rules != intake->rules || p->n_texts != intake->texts)
			return INTAKE_NONSENSE;
		*ret_policy = intake->policy;
		*intake = (struct policy_intake){ 0 };
		return INTAKE_POLICY;
	case LOADER_INVALID:
		intake_done(intake);
		return INTAKE_MISTAKES;
	case LOADER_OWNERS:
	case LOADER_RANGE:
	case LOADER_MEMBER:
	case LOADER_OWNERS_END:
		return take_owners(intake, record, ret_owners);
	}
	return INTAKE_NONSENSE;
}
