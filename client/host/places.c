/* SPDX-License-Identifier: MIT */
/*
 * The devices that were seen at places, see places.h. Pure, but for places_read(). It must never
 * take a line of a file for more than it says: what is not exactly as place_print() writes it is no
 * entry.
 */
#include "config.h"

#include "client/host/places.h"
#include "client/host/name-lines.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_ 256 /* longer lines are none of ours */
#define PREFIX "# at "
/* More would be more than UDEVRULES_SIZE_MAX bytes of rules. */
#define PLACES_MAX 131072
#define PAIRS_MAX 8388608

bool place_key(const struct policy_match *rule, const struct policy_match *name,
	       char ret_key[PLACE_KEY_MAX])
{
	const uint32_t ids = POLICY_VENDOR | POLICY_DEVICE_ID;
	uint32_t set = rule->attributes | (name ? name->attributes : 0);
	const struct policy_match *address = rule->attributes & POLICY_ADDRESS ? rule : name;
	const struct policy_match *group = rule->attributes & POLICY_IOMMU_GROUP ? rule : name;
	char text[PCI_ADDRESS_TEXT] = "", number[32] = "";

	if (!(set & (POLICY_ADDRESS | POLICY_IOMMU_GROUP)) || set & POLICY_SERIAL ||
	    (set & ids) == ids)
		return false;
	if (set & POLICY_ADDRESS)
		pci_pattern_format(&address->address, address->address_any, text);
	if (set & POLICY_IOMMU_GROUP)
		snprintf(number, sizeof(number), "%siommu-group %" PRIu32, *text ? " " : "",
			 group->iommu_group);
	snprintf(ret_key, PLACE_KEY_MAX, "%s%s%s", *text ? "address " : "", text, number);
	return true;
}

/* ---- an entry as text ---- */

void place_print(FILE *out, const struct place *place)
{
	char text[PCI_ADDRESS_TEXT];

	if (place->seen)
		fprintf(out, PREFIX "%s: %04x:%04x is %s\n", place->key, place->vendor,
			place->device, pci_address_format(&place->address, text));
	else
		fprintf(out, PREFIX "%s: nothing\n", place->key);
}

static bool take_id(const char *text, char end, uint16_t *ret_id)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++) {
		if (pci_hex_digit(text[i]) < 0)
			return false;
		value = value << 4 | (uint32_t)pci_hex_digit(text[i]);
	}
	*ret_id = (uint16_t)value;
	return text[4] == end;
}

static bool parse_place(const char *line, struct place *ret_place)
{
	struct place place = { 0 };
	const char *colon = strstr(line, ": ");
	size_t n;

	if (strncmp(line, PREFIX, strlen(PREFIX)) != 0 || !colon)
		return false;
	line += strlen(PREFIX);
	n = (size_t)(colon - line);
	if (colon < line || n >= sizeof(place.key))
		return false;
	memcpy(place.key, line, n);
	line = colon + 2;
	if (!strcmp(line, "nothing")) {
		*ret_place = place;
		return true;
	}
	if (strlen(line) < 13 || !take_id(line, ':', &place.vendor) ||
	    !take_id(line + 5, ' ', &place.device) || strncmp(line + 9, " is ", 4) != 0 ||
	    pci_address_parse(line + 13, &place.address))
		return false;
	place.seen = true;
	*ret_place = place;
	return true;
}

/* ---- the list ---- */

static int compare_places(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	int r = strcmp(x->key, y->key);

	if (!r && x->seen != y->seen)
		r = x->seen ? 1 : -1;
	return r ? r : pci_address_compare(&x->address, &y->address);
}

/* The list has room for a power of two. */
static int append_place(struct places *places, const struct place *place)
{
	if (places->n == PLACES_MAX)
		return -E2BIG;
	if (!(places->n & (places->n - 1))) {
		size_t room = places->n ? 2 * places->n : 1;
		struct place *list = reallocarray(places->list, room, sizeof(*list));

		if (!list)
			return -ENOMEM;
		places->list = list;
	}
	places->list[places->n++] = *place;
	return 0;
}

static void sort_places(struct places *places)
{
	size_t n = 0;

	if (!places->n)
		return;
	qsort(places->list, places->n, sizeof(*places->list), compare_places);
	for (size_t i = 1; i < places->n; i++)
		if (compare_places(&places->list[n], &places->list[i]) != 0)
			places->list[++n] = places->list[i];
	places->n = n + 1;
}

void places_done(struct places *places)
{
	free(places->list);
	*places = (struct places){ 0 };
}

int places_read(const char *path, struct places *ret_places)
{
	cleanup_file FILE *file = fopen(path, "re");
	struct places places = { 0 };
	char line[LINE_MAX_];
	struct place place;
	int r = 0;

	if (!file && errno != ENOENT && errno != ENOTDIR)
		return -errno;
	while (!r && file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (parse_place(line, &place))
			r = append_place(&places, &place);
	}
	if (r) {
		places_done(&places);
		return r;
	}
	sort_places(&places);
	*ret_places = places;
	return 0;
}

const struct place *places_find(const struct places *places, const char *key, size_t *ret_n)
{
	size_t low = 0, high = places->n, end;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(places->list[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (end = low; end < places->n && !strcmp(places->list[end].key, key); end++)
		;
	*ret_n = end - low;
	return *ret_n ? &places->list[low] : NULL;
}

/* ---- for a policy ---- */

/* Where a key's functions come from. */
struct look {
	const struct places *kept;
	const struct function *functions;
	size_t n_functions;
	struct places *made;
	size_t pairs; /* of a rule and a line, looked at so far */
};

static bool is_at_place(const struct function *f, const struct policy_match *match)
{
	return (!(match->attributes & POLICY_ADDRESS) ||
		pci_pattern_covers(&match->address, match->address_any, &f->address, 0)) &&
	       (!(match->attributes & POLICY_IOMMU_GROUP) || f->iommu_group == match->iommu_group);
}

static int look_at_key(const struct look *look, const char *key, const struct policy_match *rule,
		       const struct policy_match *name)
{
	struct place place = { 0 };
	const struct place *kept;
	size_t n;
	int r = 0;

	strcpy(place.key, key);
	kept = look->kept ? places_find(look->kept, key, &n) : NULL;
	for (size_t i = 0; kept && !r && i < n; i++)
		r = append_place(look->made, &kept[i]);
	if (kept)
		return r;
	for (size_t i = 0; !r && i < look->n_functions; i++) {
		const struct function *f = &look->functions[i];

		if (f->is_bridge || !is_at_place(f, rule) || (name && !is_at_place(f, name)))
			continue;
		place.seen = true;
		place.address = f->address;
		place.vendor = f->vendor;
		place.device = f->device;
		r = append_place(look->made, &place);
	}
	return r || place.seen ? r : append_place(look->made, &place);
}

/* One prepare rule: with each line of its name, or alone. */
static int look_at_rule(struct look *look, const struct policy *policy,
			const struct name_lines *lines, const struct policy_rule *rule)
{
	char key[PLACE_KEY_MAX];
	int r = 0;

	if (rule->verb != POLICY_PREPARE || rule->vfs)
		return 0;
	if (rule->name >= policy->n_names)
		return place_key(&rule->match, NULL, key)
			       ? look_at_key(look, key, &rule->match, NULL)
			       : 0;
	for (uint32_t i = name_lines_of(lines, policy, rule); !r && i != NO_LINE;
	     i = lines->next[i]) {
		const struct policy_match *line = &policy->rules[i].match;

		if (look->pairs++ == PAIRS_MAX)
			return -E2BIG;
		if (place_key(&rule->match, line, key))
			r = look_at_key(look, key, &rule->match, line);
	}
	return r;
}

int places_make(const struct policy *policy, const struct places *kept,
		const struct function *functions, size_t n_functions, struct places *ret_places)
{
	struct places places = { 0 };
	struct look look = { kept, functions, n_functions, &places, 0 };
	struct name_lines lines = { 0 };
	int r = name_lines_make(&lines, policy);

	for (size_t i = 0; !r && i < policy->n_rules; i++)
		r = look_at_rule(&look, policy, &lines, &policy->rules[i]);
	name_lines_done(&lines);
	if (r) {
		places_done(&places);
		return r;
	}
	sort_places(&places);
	*ret_places = places;
	return 0;
}
