/* SPDX-License-Identifier: MIT */
/*
 * Checks that a rule is one that the parser could have made. The core checks each rule that the
 * loader sends, so no field is trusted: a value out of range, or in a field that must be unused, is
 * refused.
 */
#include "config.h"

#include "policy/policy.h"

#include <string.h>

#include "client/common/util.h"
#include "policy/match.h"
#include "policy/values.h"

bool policy_text_valid(const struct policy_text *text)
{
	size_t len = strnlen(text->text, POLICY_TEXT_MAX);

	if (len == 0 || len == POLICY_TEXT_MAX)
		return false;
	for (size_t i = 0; i < POLICY_TEXT_MAX; i++)
		if (i < len ? text->text[i] <= ' ' || text->text[i] > '~' : text->text[i] != '\0')
			return false;
	return true;
}

/* An index, if there must be one, of a text that its reader would leave as it is. */
static bool index_valid(uint32_t index, bool needed, value_speller spell,
			const struct policy_text *texts, size_t n_texts)
{
	char spelled[POLICY_TEXT_MAX];

	if (index == POLICY_NO_TEXT)
		return !needed;
	return needed && index < n_texts && index < POLICY_TEXTS_MAX &&
	       spell(texts[index].text, spelled) && strcmp(texts[index].text, spelled) == 0;
}

static bool match_valid(const struct policy_match *match, const struct policy_text *texts,
			size_t n_texts)
{
	uint32_t attributes = match->attributes;

	if (attributes & ~MATCH_ATTRIBUTES)
		return false;
	if (!pci_pattern_valid(&match->address, match->address_any) ||
	    (match->address_any && !(attributes & POLICY_ADDRESS)))
		return false;
	if (match->class_mask > 0xffffff || (match->class_code & ~match->class_mask))
		return false;
	if ((attributes & POLICY_CLASS) && !match->class_mask)
		return false;
	return match->iommu_group != UINT32_MAX &&
	       index_valid(match->driver, attributes & POLICY_DRIVER, value_driver, texts,
			   n_texts) &&
	       index_valid(match->serial, attributes & POLICY_SERIAL, value_serial, texts,
			   n_texts) &&
	       index_valid(match->path, attributes & POLICY_PATH, value_path, texts, n_texts) &&
	       index_valid(match->profile, attributes & POLICY_PROFILE, value_profile, texts,
			   n_texts);
}

static bool limits_valid(const struct policy_rule *rule, const struct policy_text *texts,
			 size_t n_texts)
{
	bool allow = rule->verb == POLICY_ALLOW;
	bool may_drive = allow || rule->verb == POLICY_PREPARE;

	if (!allow && (rule->limit || rule->memlock || rule->boot_vga || rule->in_use ||
		       rule->lifetime || rule->kill || rule->require_reset))
		return false;
	if (rule->reserved || rule->kill > POLICY_KILL_MAX || (rule->kill && !rule->lifetime))
		return false;
	if (rule->limit > POLICY_LIMIT_MAX || rule->memlock > INT64_MAX || rule->boot_vga > 1 ||
	    rule->in_use > 1 || rule->require_reset > 1 || rule->vfs > POLICY_VFS_MAX ||
	    (rule->vfs && rule->verb != POLICY_PREPARE) ||
	    (!rule->vfs && (rule->vf_exec_quantum_ms || rule->vf_preempt_timeout_us)))
		return false;
	return rule->vfio_driver == POLICY_NO_TEXT ||
	       index_valid(rule->vfio_driver, may_drive, value_vfio_driver, texts, n_texts);
}

bool policy_rule_valid(const struct policy_rule *rule, size_t n_names, size_t n_files,
		       const struct policy_text *texts, size_t n_texts)
{
	bool id_needed = rule->who == POLICY_WHO_USER || rule->who == POLICY_WHO_GROUP;
	bool named = rule->name < n_names && rule->name < POLICY_NAMES_MAX;
	bool may_stand = named || rule->name == POLICY_NO_NAME;

	switch (rule->verb) {
	case POLICY_DEVICE:
		if (rule->who != POLICY_WHO_NONE || !named)
			return false;
		break;
	case POLICY_ALLOW:
	case POLICY_DENY:
		if (rule->who > POLICY_WHO_ALLOTTED || !may_stand)
			return false;
		break;
	case POLICY_PREPARE:
		if (rule->who != POLICY_WHO_NONE || !may_stand ||
		    rule->match.attributes & POLICY_PROFILE)
			return false;
		break;
	default:
		return false;
	}
	if (id_needed ? rule->id == UINT32_MAX : rule->id != 0)
		return false;
	return match_valid(&rule->match, texts, n_texts) && limits_valid(rule, texts, n_texts) &&
	       rule->file < n_files && rule->line > 0 && rule->column > 0;
}
