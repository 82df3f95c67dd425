/* SPDX-License-Identifier: MIT */
/*
 * Warns of prepare rules whose devices are spared, see spared-check.h. It decides as the daemon
 * does, by client/host/function.h. It does not warn of what the host is using now: at the next boot
 * a prepare rule is earlier than the host's driver.
 */
#include "config.h"

#include "client/command/spared-check.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Reports that a rule prepares `function`, although a guard spares the group. */
static void report_spared(const struct policy *policy, size_t index, const struct group_view *view,
			  size_t function, size_t display, struct policy_report *report)
{
	const struct policy_rule *rule = &policy->rules[index];
	char address[PCI_ADDRESS_TEXT], other[PCI_ADDRESS_TEXT], text[256];
	const struct policy_finding finding = {
		.severity = POLICY_WARNING,
		.kind = POLICY_KIND_SPARED,
		.path = policy->files[rule->file].path,
		.line = rule->line,
		.column = rule->column,
		.text = text,
	};

	pci_address_format(&view->functions[function].address, address);
	if (display == SIZE_MAX)
		snprintf(text, sizeof(text),
			 "prepares %s, but its IOMMU group %u cannot be lent, so nothing of it is "
			 "prepared",
			 address, (unsigned)view->group);
	else
		snprintf(text, sizeof(text),
			 "prepares %s, but its IOMMU group %u has the console's own display, %s, "
			 "so nothing of it is prepared",
			 address, (unsigned)view->group,
			 pci_address_format(&view->functions[display].address, other));
	policy_sources_print(report, &finding);
}

/* Warns once for each rule that means a function of the group. */
static void check_group(const struct policy *policy, const struct group_view *view, size_t display,
			struct policy_report *report)
{
	struct policy_facts facts[FUNCTIONS_MAX];
	size_t rules[FUNCTIONS_MAX], n = 0;

	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	for (size_t i = 0; i < view->n_functions; i++) {
		size_t rule, k = 0;

		if (!policy_prepares(policy, &facts[i], facts, view->n_functions, &rule))
			continue;
		while (k < n && rules[k] != rule)
			k++;
		if (k < n)
			continue;
		rules[n++] = rule;
		report_spared(policy, rule, view, i, display, report);
	}
}

int spared_check(const struct policy *policy, const struct inventory *inventory,
		 struct policy_report *report)
{
	cleanup_free struct group_view *view = malloc(sizeof(*view));

	if (!view)
		return -ENOMEM;
	for (size_t i = 0; i < inventory->n; i++) {
		const struct function *function = &inventory->functions[i];
		enum guard guard;
		size_t which;

		if (function->iommu_group == NO_GROUP || function->is_bridge)
			continue;
		inventory_group(inventory, function, view);
		/* Each group once, at its first function. */
		if (pci_address_compare(&view->functions[0].address, &function->address))
			continue;
		/* Use by the host comes and goes, and must not hide the display. */
		for (size_t k = 0; k < view->n_functions; k++)
			view->functions[k].in_use[0] = view->functions[k].console[0] = '\0';
		guard = group_guard(view, false, &which);
		if (guard == GUARD_BOOT_VGA || guard == GUARD_NOT_VIABLE)
			check_group(policy, view, which, report);
	}
	return 0;
}
