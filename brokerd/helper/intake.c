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
	return p->names && p->texts && p->files && p->rules ? INTAKE_MORE : INTAKE_NO_MEMORY;
}

enum intake_result intake_take(struct policy_intake *intake, const struct loader_record *record,
			       struct policy *ret_policy)
{
	struct policy *p = &intake->policy;

	switch ((enum loader_record_type)record->type) {
	case LOADER_BEGIN:
		return begin_policy(intake, record);
	case LOADER_NAME:
		if (p->n_names >= intake->names || record->name.text[sizeof(record->name.text) - 1])
			return INTAKE_NONSENSE;
		p->names[p->n_names++] = record->name;
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
		p->rules[p->n_rules++] = record->rule;
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
	}
	return INTAKE_NONSENSE;
}
