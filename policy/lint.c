/* SPDX-License-Identifier: MIT */
/*
 * Checks a policy against the devices that exist: finds statements that can concern none of them.
 * For gpubroker(1); it decides nothing. A warning must be true of the given devices, so an unknown
 * serial number matches any, and so does a profile if profiles were not looked for.
 */
#include "config.h"

#include "policy/policy.h"

#include <inttypes.h>
#include <string.h>

#include "client/common/util.h"
#include "policy/match.h"

/* One attribute of a match as it is written. */
static void print_attribute(const struct policy *policy, const struct policy_match *match,
			    uint32_t attribute, char *out, size_t size)
{
	char address[PCI_ADDRESS_TEXT];

	switch ((enum policy_attribute)attribute) {
	case POLICY_ADDRESS:
		snprintf(out, size, "address %s",
			 pci_pattern_format(&match->address, match->address_any, address));
		break;
	case POLICY_VENDOR:
		snprintf(out, size, "vendor %04x", match->vendor);
		break;
	case POLICY_DEVICE_ID:
		snprintf(out, size, "device %04x", match->device);
		break;
	case POLICY_CLASS:
		if (match->class_mask == 0xff0000)
			snprintf(out, size, "class %02" PRIx32, match->class_code >> 16);
		else if (match->class_mask == 0xffffff)
			snprintf(out, size, "class %06" PRIx32, match->class_code);
		else if (match->class_mask == 0xffff00)
			snprintf(out, size, "class %04" PRIx32, match->class_code >> 8);
		else
			snprintf(out, size, "class audio"); /* the only class with another mask */
		break;
	case POLICY_IOMMU_GROUP:
		snprintf(out, size, "iommu-group %" PRIu32, match->iommu_group);
		break;
	case POLICY_SUBSYSTEM_VENDOR:
		snprintf(out, size, "subsystem-vendor %04x", match->subsystem_vendor);
		break;
	case POLICY_SUBSYSTEM_DEVICE:
		snprintf(out, size, "subsystem-device %04x", match->subsystem_device);
		break;
	case POLICY_DRIVER:
		snprintf(out, size, "driver %s", policy_text(policy, match->driver));
		break;
	case POLICY_SERIAL:
		snprintf(out, size, "serial %s", policy_text(policy, match->serial));
		break;
	case POLICY_PATH:
		snprintf(out, size, "path %s", policy_text(policy, match->path));
		break;
	case POLICY_PROFILE:
		snprintf(out, size, "profile %s", policy_text(policy, match->profile));
		break;
	}
}

static bool any_matches(const struct policy *policy, const struct policy_match *match,
			const struct policy_facts *devices, size_t n_devices)
{
	for (size_t i = 0; i < n_devices; i++)
		if (match_facts(policy, match, &devices[i], MATCH_MAYBE))
			return true;
	return false;
}

/* Writes why no device matches: one attribute alone, or else all of it together. */
static void explain_absence(const struct policy *policy, const struct policy_rule *rule,
			    const struct policy_facts *devices, size_t n_devices, char *out,
			    size_t size)
{
	char what[128];

	for (uint32_t bit = 1; bit & MATCH_ATTRIBUTES; bit <<= 1) {
		struct policy_match alone = rule->match;

		alone.attributes &= bit;
		if (!alone.attributes || any_matches(policy, &alone, devices, n_devices))
			continue;
		print_attribute(policy, &alone, bit, what, sizeof(what));
		snprintf(out, size, "no present device has %s", what);
		return;
	}
	if (rule->verb == POLICY_DEVICE || rule->name == POLICY_NO_NAME)
		snprintf(out, size, "no present device has all of this");
	else if (rule->match.attributes)
		snprintf(out, size, "no present device has all of this and the name \"%s\"",
			 policy->names[rule->name].text);
	else
		snprintf(out, size, "no present device has the name \"%s\"",
			 policy->names[rule->name].text);
}

int policy_lint(const struct policy *policy, const struct policy_facts *devices, size_t n_devices,
		void (*found)(void *userdata, const struct policy_finding *finding), void *userdata)
{
	cleanup_free bool *present = calloc(policy->n_rules + 1, sizeof(*present));
	cleanup_free struct name_set *set = malloc(sizeof(*set));
	char text[256];

	if (!present || !set)
		return -ENOMEM;
	for (size_t d = 0; d < n_devices; d++) {
		match_names(policy, &devices[d], MATCH_MAYBE, set);
		for (size_t i = 0; i < policy->n_rules; i++) {
			const struct policy_rule *rule = &policy->rules[i];

			if (present[i])
				continue;
			present[i] =
				rule->verb == POLICY_DEVICE
					? match_facts(policy, &rule->match, &devices[d],
						      MATCH_MAYBE)
					: match_rule(policy, rule, &devices[d], set, MATCH_MAYBE);
		}
	}
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];
		struct policy_finding finding = {
			.severity = POLICY_WARNING,
			.kind = POLICY_KIND_ABSENT,
			.path = policy->files[rule->file].path,
			.line = rule->line,
			.column = rule->column,
			.text = text,
		};

		if (present[i] || (rule->name == POLICY_NO_NAME && rule->match.attributes == 0))
			continue;
		explain_absence(policy, rule, devices, n_devices, text, sizeof(text));
		found(userdata, &finding);
	}
	return 0;
}

/* Returns true if a rule, with the line of its name, says where a device is, and not which. */
static bool is_place(uint32_t attributes)
{
	const uint32_t ids = POLICY_VENDOR | POLICY_DEVICE_ID;

	return attributes & (POLICY_ADDRESS | POLICY_IOMMU_GROUP) &&
	       !(attributes & (POLICY_SERIAL | POLICY_PROFILE)) && (attributes & ids) != ids;
}

/* The same for each line by which the facts have the rule's name. */
static bool means_place(const struct policy *policy, const struct policy_rule *rule,
			const struct policy_facts *facts)
{
	if (rule->name == POLICY_NO_NAME)
		return is_place(rule->match.attributes);
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *line = &policy->rules[i];

		if (line->verb == POLICY_DEVICE && line->name == rule->name &&
		    is_place(rule->match.attributes | line->match.attributes) &&
		    match_facts(policy, &line->match, facts, MATCH_SURE))
			return true;
	}
	return false;
}

int policy_lint_in_use(const struct policy *policy, const struct policy_facts *facts,
		       const char *in_use,
		       void (*found)(void *userdata, const struct policy_finding *finding),
		       void *userdata)
{
	cleanup_free struct name_set *set = malloc(sizeof(*set));
	char text[256], address[PCI_ADDRESS_TEXT];

	if (!set)
		return -ENOMEM;
	match_names(policy, facts, MATCH_SURE, set);
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];
		struct policy_finding finding = {
			.severity = POLICY_WARNING,
			.kind = POLICY_KIND_IN_USE,
			.path = policy->files[rule->file].path,
			.line = rule->line,
			.column = rule->column,
			.text = text,
		};

		if ((rule->verb != POLICY_ALLOW && rule->verb != POLICY_PREPARE) || rule->vfs ||
		    !match_rule(policy, rule, facts, set, MATCH_SURE) ||
		    !means_place(policy, rule, facts))
			continue;
		snprintf(text, sizeof(text),
			 "the host is using %s (%s); if another device is meant, which had this "
			 "place before a card was added, correct it, or add its vendor and device",
			 pci_address_format(&facts->address, address), in_use);
		found(userdata, &finding);
	}
	return 0;
}

/* Returns the display that a claim of devices[i] brings along, or NULL. */
static const struct policy_facts *display_with(const struct policy_facts *devices, size_t n_devices,
					       size_t i)
{
	if (devices[i].class_code >> 16 == 0x03)
		return NULL;
	for (size_t k = 0; k < n_devices; k++)
		if (devices[k].class_code >> 16 == 0x03 &&
		    devices[k].iommu_group == devices[i].iommu_group &&
		    match_same_slot(&devices[k], &devices[i]))
			return &devices[k];
	return NULL;
}

int policy_lint_cards(const struct policy *policy, const struct policy_facts *devices,
		      size_t n_devices,
		      void (*found)(void *userdata, const struct policy_finding *finding),
		      void *userdata)
{
	cleanup_free bool *told = calloc(policy->n_rules + 1, sizeof(*told));
	cleanup_free struct name_set *set = malloc(sizeof(*set)), *others = malloc(sizeof(*others));
	char text[256], small[PCI_ADDRESS_TEXT], display[PCI_ADDRESS_TEXT];

	if (!told || !set || !others)
		return -ENOMEM;
	for (size_t d = 0; d < n_devices; d++) {
		const struct policy_facts *card = display_with(devices, n_devices, d);

		if (!card)
			continue;
		match_names(policy, &devices[d], MATCH_SURE, set);
		match_names(policy, card, MATCH_MAYBE, others);
		for (size_t i = 0; i < policy->n_rules; i++) {
			const struct policy_rule *rule = &policy->rules[i];
			struct policy_finding finding = {
				.severity = POLICY_WARNING,
				.kind = POLICY_KIND_CARD,
				.path = policy->files[rule->file].path,
				.line = rule->line,
				.column = rule->column,
				.text = text,
			};

			if (told[i] || rule->verb != POLICY_ALLOW || rule->vfs ||
			    !match_rule(policy, rule, &devices[d], set, MATCH_SURE) ||
			    match_rule(policy, rule, card, others, MATCH_MAYBE))
				continue;
			told[i] = true;
			snprintf(text, sizeof(text),
				 "also lends the display %s, which comes along with %s of the same "
				 "card; if the card is meant, match its display, or else deny that",
				 pci_address_format(&card->address, display),
				 pci_address_format(&devices[d].address, small));
			found(userdata, &finding);
		}
	}
	return 0;
}
