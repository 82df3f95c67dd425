/* SPDX-License-Identifier: MIT */
/* Parts of devices, see parts.h. Decides nothing, and asks nobody. */
#include "config.h"

#include "client/command/parts.h"
#include "client/command/cli.h"
#include "client/command/screen.h"

#include <inttypes.h>

bool part_facts(const struct inventory *inventory, const struct profile *p,
		struct policy_facts *ret_facts)
{
	struct pci_address address;
	const struct function *function;

	if (pci_address_parse(p->parent, &address)) {
		*ret_facts = (struct policy_facts){ .iommu_group = NO_GROUP,
						    .driver = "",
						    .serial = "",
						    .path = "",
						    .no_pci = true };
	} else {
		function = inventory_find(inventory, &address);
		if (!function)
			return false;
		*ret_facts = function_facts(function);
	}
	ret_facts->profile = p->type;
	ret_facts->profile_name = p->name;
	return true;
}

void part_print(const struct profile *p)
{
	fputs("  ", stdout);
	cli_print_text(stdout, p->type, -1);
	if (p->name[0]) {
		fputs(" (", stdout);
		cli_print_text(stdout, p->name, -1);
		putchar(')');
	}
	printf(" of %s", screen_address(p->parent));
	if (p->available != PROFILE_UNKNOWN)
		printf("  %" PRIu64 " left", p->available);
	putchar('\n');
}
