/* SPDX-License-Identifier: MIT */
/*
 * Holds: which rows concern a group, and what a claimer gets to read about them. If a row is
 * missed, the broker lends a device in the middle of a change; if a row matches too much, nobody
 * gets the devices.
 */
#include "config.h"

#include "brokerd/state/holds.h"
#include "client/common/util.h"
#include "client/gpubroker.h"
#include "tests/tap.h"

#include <string.h>

/* A card 01:00.0 and its virtual functions 01:00.4 and 01:00.5. */
static const struct pci_address card = { .bus = 1 }, vf = { .bus = 1, .function = 4 },
				vf2 = { .bus = 1, .function = 5 }, elsewhere = { .bus = 2 };

static struct function function_of(const struct pci_address *address, const struct pci_address *pf)
{
	struct function f = { .address = *address };

	f.is_vf = pf;
	if (pf)
		f.physfn = *pf;
	return f;
}

static struct group_view view_of(uint32_t group, const struct function *functions, size_t n)
{
	struct group_view view = { .group = group, .n_functions = n };

	for (size_t i = 0; i < n; i++)
		view.functions[i] = functions[i];
	return view;
}

static struct group_view alone(uint32_t group, const struct pci_address *address,
			       const struct pci_address *pf)
{
	const struct function f = function_of(address, pf);

	return view_of(group, &f, 1);
}

static void test_groups(void)
{
	struct hold a = { .kind = HOLD_PREPARING, .group = 17 },
		    b = { .kind = HOLD_PREPARING, .group = 18 },
		    c = { .kind = HOLD_SRIOV, .group = 19, .function = card };
	struct holds holds;

	holds_init(&holds);
	tap_ok(!holds_find_group(&holds, 0) && !holds_find_group(&holds, 17),
	       "where nothing is held no group is");
	holds_add(&holds, &a);
	holds_add(&holds, &b);
	holds_add(&holds, &c);
	tap_ok(holds_find_group(&holds, 17) == &a && holds_find_group(&holds, 18) == &b,
	       "a group that is prepared is found, of several");
	tap_ok(!holds_find_group(&holds, 20), "another is not");
	tap_ok(!holds_find_group(&holds, 19), "nor is one for a change of virtual functions");
	holds_remove(&holds, &a);
	tap_ok(!holds_find_group(&holds, 17) && holds_find_group(&holds, 18) == &b,
	       "one that is removed holds nothing, and the others stay");
	holds_remove(&holds, &c);
	holds_remove(&holds, &b);
	tap_ok(!holds_find_group(&holds, 18), "the last can go as well");
	holds_add(&holds, &a);
	tap_ok(holds_find_group(&holds, 17) == &a, "and come again");
}

static void test_sriov(void)
{
	const struct function both[] = { function_of(&elsewhere, NULL), function_of(&vf, &card) };
	const struct group_view itself = alone(17, &card, NULL), of_it = alone(18, &vf, &card),
				other = alone(19, &elsewhere, NULL),
				foreign = alone(20, &vf, &elsewhere),
				at_second = view_of(21, both, 2), nothing = view_of(22, NULL, 0);
	struct hold hold = { .kind = HOLD_SRIOV, .function = card },
		    preparing = { .kind = HOLD_PREPARING, .group = 17, .function = elsewhere };
	struct holds holds;

	holds_init(&holds);
	tap_ok(!holds_find_sriov(&holds, &itself), "where nothing is held no function is");
	holds_add(&holds, &preparing);
	holds_add(&holds, &hold);
	tap_ok(holds_find_sriov(&holds, &itself) == &hold, "a change concerns the function itself");
	tap_ok(holds_find_sriov(&holds, &of_it) == &hold, "and each of its virtual functions");
	tap_ok(!holds_find_sriov(&holds, &other),
	       "no other function, also where a group's hold names it");
	tap_ok(!holds_find_sriov(&holds, &foreign), "nor another's virtual functions");
	tap_ok(holds_find_sriov(&holds, &at_second) == &hold,
	       "it concerns a group by any of its functions");
	tap_ok(!holds_find_sriov(&holds, &nothing),
	       "a group without functions is concerned by none");
	hold.function = vf;
	tap_ok(!holds_find_sriov(&holds, &of_it),
	       "what a virtual function is looked up by is its physical function");
	holds_remove(&holds, &hold);
	tap_ok(!holds_find_sriov(&holds, &itself), "one that is removed holds nothing");
}

static bool is_about(const struct message_refusal *r, uint32_t reason, uint32_t group,
		     const struct pci_address *asked)
{
	return r->type == MESSAGE_REFUSAL && r->reason == reason && r->group == group &&
	       r->has_address && !pci_address_compare(&r->address, asked) && !r->lease &&
	       !r->error && !r->rule[0];
}

static void test_refusals(void)
{
	const struct function pair[] = { function_of(&vf, &card), function_of(&vf2, &card) };
	const struct group_view view = view_of(17, pair, 2);
	struct hold preparing = { .kind = HOLD_PREPARING, .group = 17 },
		    sriov = { .kind = HOLD_SRIOV, .function = card };
	struct message_refusal r, untouched;
	struct holds holds;

	holds_init(&holds);
	memset(&untouched, 0xee, sizeof(untouched));
	r = untouched;
	tap_ok(!holds_refuse(&holds, &view, &vf2, &r) && !memcmp(&r, &untouched, sizeof(r)),
	       "what is not held is not refused, and no refusal is written");

	holds_add(&holds, &sriov);
	tap_ok(holds_refuse(&holds, &view, &vf2, &r) == GPUBROKER_REFUSED_BUSY &&
		       is_about(&r, GPUBROKER_REFUSED_BUSY, 17, &vf2) &&
		       r.detail == REFUSAL_SRIOV && !r.text[0],
	       "while virtual functions are changed it is busy, and waiting helps");
	tap_ok(r.has_other && !pci_address_compare(&r.other, &card),
	       "and the physical function is named");
	sriov.late = true;
	memset(&r, 0xee, sizeof(r));
	tap_ok(holds_refuse(&holds, &view, &vf2, &r) == GPUBROKER_REFUSED_STUCK &&
		       is_about(&r, GPUBROKER_REFUSED_STUCK, 17, &vf2) && !r.detail && r.text[0] &&
		       r.has_other && !pci_address_compare(&r.other, &card),
	       "when that is late it is stuck, and the text says at what");

	holds_add(&holds, &preparing);
	memset(&r, 0xee, sizeof(r));
	tap_ok(holds_refuse(&holds, &view, &vf2, &r) == GPUBROKER_REFUSED_BUSY &&
		       is_about(&r, GPUBROKER_REFUSED_BUSY, 17, &vf2) &&
		       r.detail == REFUSAL_PREPARING && !r.text[0] && !r.has_other,
	       "its own group's preparation comes first, and is busy");
	preparing.late = true;
	tap_ok(holds_refuse(&holds, &view, &vf2, &r) == GPUBROKER_REFUSED_STUCK &&
		       is_about(&r, GPUBROKER_REFUSED_STUCK, 17, &vf2) && !r.detail && r.text[0] &&
		       !r.has_other,
	       "when that is late it is stuck as well");
	memset(&r, 0xee, sizeof(r));
	tap_ok(refuse_sriov(&r, &sriov, 18, &card) == GPUBROKER_REFUSED_STUCK &&
		       is_about(&r, GPUBROKER_REFUSED_STUCK, 18, &card) && !r.has_other,
	       "asked for the physical function itself, no other one is named");
}

int main(void)
{
	test_groups();
	test_sriov();
	test_refusals();
	return tap_done();
}
