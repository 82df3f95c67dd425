/* SPDX-License-Identifier: MIT */
/*
 * Rules and texts from elsewhere that are valid or not, and the warnings about a policy on given
 * devices.
 */
#include "config.h"

#include "client/common/util.h"
#include "tests/unit/policy/card.h"
#include "tests/unit/policy/parse.h"
#include "tests/tap.h"

/* ---- rules and texts from elsewhere ---- */

static void check_valid(void)
{
	struct policy_text text = { "x" };
	struct policy_rule rule;
	struct parsed parsed;
	struct policy *p = &parsed.policy;

	parse_right(
		"allow any claim driver nouveau serial 12/34 path 01.0 vfio-driver vfio-pci limit 2\n"
		"prepare class 03\ndeny any claim any",
		&parsed);
	for (size_t i = 0; i < p->n_rules; i++)
		tap_ok(policy_rule_valid(&p->rules[i], 0, 1, p->texts, p->n_texts),
		       "rule %zu is valid", i);

#define INVALID(number, what, ...)                                                                 \
	do {                                                                                       \
		rule = p->rules[number];                                                           \
		__VA_ARGS__;                                                                       \
		tap_ok(!policy_rule_valid(&rule, 0, 1, p->texts, p->n_texts), "invalid: %s",       \
		       what);                                                                      \
	} while (0)
	INVALID(0, "a limit too high", rule.limit = POLICY_LIMIT_MAX + 1);
	INVALID(0, "an unknown attribute", rule.match.attributes |= 1 << 11);
	INVALID(0, "a text that is not there", rule.match.driver = (uint32_t)p->n_texts);
	INVALID(0, "an attribute without its text", rule.match.path = POLICY_NO_TEXT);
	INVALID(0, "a text without its attribute", rule.match.attributes &= ~(uint32_t)POLICY_PATH);
	INVALID(0, "a driver with a slash", rule.match.driver = rule.match.serial);
	INVALID(0, "a VFIO driver that is none", rule.vfio_driver = rule.match.driver);
	INVALID(0, "a path that is none", rule.match.path = rule.match.driver);
	INVALID(0, "a profile with a slash", rule.match.attributes |= POLICY_PROFILE,
		rule.match.profile = rule.match.serial);
	INVALID(0, "what is reserved", rule.match.address.reserved = 1);
	INVALID(0, "a pattern of no address", rule.match.address_any = PCI_ANY_BUS,
		rule.match.attributes &= ~(uint32_t)POLICY_ADDRESS);
	INVALID(0, "a quantum of no virtual functions", rule.vf_exec_quantum_ms = 1);
	INVALID(0, "a timeout of no virtual functions", rule.vf_preempt_timeout_us = 1);
	INVALID(1, "prepare with a profile", rule.match.attributes |= POLICY_PROFILE,
		rule.match.profile = p->rules[0].match.driver);
	INVALID(1, "prepare with a user", rule.who = POLICY_WHO_ANY);
	INVALID(1, "prepare with a limit", rule.limit = 1);
	INVALID(1, "prepare with a time", rule.lifetime = 1);
	INVALID(0, "kill without a time", rule.kill = 1);
	INVALID(1, "prepare with memory", rule.memlock = 1);
	INVALID(1, "another verb", rule.verb = POLICY_PREPARE + 1);
	INVALID(2, "deny with a limit", rule.limit = 1);
	INVALID(2, "deny with a driver", rule.vfio_driver = p->rules[0].vfio_driver);
	parse_done(&parsed);

	tap_ok(policy_text_valid(&text), "a text");
	text.text[POLICY_TEXT_MAX - 1] = 'x';
	tap_ok(!policy_text_valid(&text), "not one with something behind its end");
	memset(text.text, 'x', sizeof(text.text));
	tap_ok(!policy_text_valid(&text), "nor one without an end");
	memset(text.text, 0, sizeof(text.text));
	tap_ok(!policy_text_valid(&text), "nor an empty one");
	text.text[0] = '\n';
	tap_ok(!policy_text_valid(&text), "nor one with a line end");
}

/* ---- against the devices that are there ---- */

static void found(void *userdata, const struct policy_finding *finding)
{
	fprintf(userdata, "%s%u:%u: %s\n",
		finding->kind == POLICY_KIND_ABSENT && finding->severity == POLICY_WARNING
			? ""
			: "another kind: ",
		finding->line, finding->column, finding->text);
}

static void found_card(void *userdata, const struct policy_finding *finding)
{
	fprintf(userdata, "%s%u ",
		finding->kind == POLICY_KIND_CARD && strstr(finding->text, "display 0000:01:00.0")
			? ""
			: "another kind: ",
		finding->line);
}

static void found_in_use(void *userdata, const struct policy_finding *finding)
{
	fprintf(userdata, "%s%u ",
		finding->kind == POLICY_KIND_IN_USE &&
				strstr(finding->text, "0000:01:00.0 (disk sda")
			? ""
			: "another kind: ",
		finding->line);
}

static bool lint(const char *text, const struct policy_facts *devices, size_t n,
		 const char *expected)
{
	cleanup_free char *findings = NULL;
	struct parsed parsed;
	size_t len;
	FILE *out = open_memstream(&findings, &len);
	bool same;

	parse_right(text, &parsed);
	if (!out || policy_lint(&parsed.policy, devices, n, found, out) < 0)
		exit(99);
	fclose(out);
	same = strcmp(findings, expected) == 0;
	if (!same)
		printf("# found:\n%s", findings);
	parse_done(&parsed);
	return same;
}

/* Rules that mean by its place alone a device that the host uses. */
static bool lint_in_use(const char *text, const char *expected)
{
	cleanup_free char *findings = NULL;
	struct parsed parsed;
	size_t len;
	FILE *out = open_memstream(&findings, &len);
	bool same;

	parse_right(text, &parsed);
	if (!out || policy_lint_in_use(&parsed.policy, &card[0], "disk sda is on it", found_in_use,
				       out) < 0)
		exit(99);
	fclose(out);
	same = strcmp(findings, expected) == 0;
	if (!same)
		printf("# found:\n%s", findings);
	parse_done(&parsed);
	return same;
}

/* Rules that lend a display with another function of its card. */
static void check_cards(void)
{
	static const struct {
		const char *text, *lines, *name;
	} cases[] = {
		{ "allow any claim class audio\n", "1 ", "by its class, the card's audio" },
		{ "allow any claim address 01:00.1\n", "1 ", "by its address" },
		{ "device a class audio\nallow any claim a\n", "2 ", "by a name" },
		{ "allow any claim any\nallow any claim address 01:00.*\nallow any claim vendor 10de\n",
		  "", "what matches the display itself says so" },
		{ "deny any claim class audio\nprepare class audio\n", "",
		  "neither deny nor prepare lends" },
	};
	struct policy_facts devices[2] = { card[0], card[0] };

	devices[1].address.function = 1;
	devices[1].class_code = 0x040300;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		cleanup_free char *lines = NULL;
		struct parsed parsed;
		size_t len;
		FILE *out = open_memstream(&lines, &len);

		parse_right(cases[i].text, &parsed);
		if (!out || policy_lint_cards(&parsed.policy, devices, 2, found_card, out) < 0)
			exit(99);
		fclose(out);
		tap_ok(!strcmp(lines, cases[i].lines), "cards: %s", cases[i].name);
		parse_done(&parsed);
	}
}

static void check_in_use(void)
{
	static const struct {
		const char *text, *lines, *name;
	} cases[] = {
		{ "prepare address 01:00.0\n", "1 ", "a prepare by address" },
		{ "allow any claim address 01:00.0\n", "1 ", "an allow by address" },
		{ "allow any claim address *:01:*.*\n", "1 ", "by a pattern" },
		{ "allow any claim iommu-group 7\nallow any claim iommu-group 8\n", "1 ",
		  "by group, but not by another" },
		{ "device x address 01:00.0\ndevice x class usb\nallow any claim x\nprepare x\n",
		  "3 4 ", "by a name" },
		{ "device x class display\nallow any claim x address 01:00.0\n", "2 ",
		  "by a name and an address" },
		{ "deny any claim address 01:00.0\nprepare address 01:00.0 vfs 4\n"
		  "allow any claim address 01:00.0 profile x\n",
		  "", "a deny, virtual functions and profiles take nothing from the host" },
		{ "allow any claim class display\nallow any claim path 01.0/00.0\n"
		  "allow any claim address 02:00.0\n",
		  "", "nor what is no such place, or another one" },
		{ "device x 10de:20b0\nallow any claim x address 01:00.0\n"
		  "allow any claim address 01:00.0 10de:20b0\n",
		  "", "nor what says which device it means" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		tap_ok(lint_in_use(cases[i].text, cases[i].lines), "in use: %s", cases[i].name);
}

static void check_lint(void)
{
	struct policy_facts unknown = card[0];

	unknown.serial = NULL;
	tap_ok(lint("device x serial 00-aa\nallow any claim x class 03\nprepare x driver nouveau\n"
		    "deny any claim any\ndeny any claim path 01.0/02.0",
		    card, 3, ""),
	       "all of it is there");
	unknown.profile = NULL;
	tap_ok(lint("device x vendor 10de profile nvidia-222\nallow any claim x\n"
		    "deny any claim profile any",
		    &unknown, 1, ""),
	       "where profiles were not looked for, none is said to be missing");
	tap_ok(lint("device x vendor 10de serial 12\nallow any claim x\n"
		    "allow any claim x vendor 10de\nprepare class audio vendor 8086\n"
		    " deny any claim class storage address 01:00.0",
		    card, 3,
		    "1:1: no present device has serial 12\n"
		    "2:1: no present device has the name \"x\"\n"
		    "3:1: no present device has all of this and the name \"x\"\n"
		    "4:1: no present device has all of this\n"
		    "5:2: no present device has class 01\n"),
	       "what is not there is said");
	tap_ok(lint("allow any claim class audio\nallow any claim class usb\n"
		    "allow any claim class 030001\nallow any claim address ffff:01:02.3\n"
		    "allow any claim vendor 1\nallow any claim vendor 10de device 1\n"
		    "allow any claim subsystem-vendor 1\nprepare iommu-group 8\n"
		    "prepare subsystem-device 1 vendor 10de\nprepare driver x\n"
		    "prepare path pci0000:01/01.0/00.0\n",
		    card, 1,
		    "1:1: no present device has class audio\n"
		    "2:1: no present device has class 0c03\n"
		    "3:1: no present device has class 030001\n"
		    "4:1: no present device has address ffff:01:02.3\n"
		    "5:1: no present device has vendor 0001\n"
		    "6:1: no present device has device 0001\n"
		    "7:1: no present device has subsystem-vendor 0001\n"
		    "8:1: no present device has iommu-group 8\n"
		    "9:1: no present device has subsystem-device 0001\n"
		    "10:1: no present device has driver x\n"
		    "11:1: no present device has path pci0000:01/01.0/00.0\n"),
	       "each attribute is named");
	tap_ok(lint("allow any claim serial 12\nallow any claim serial 12 vendor 8086", &unknown, 1,
		    "2:1: no present device has vendor 8086\n"),
	       "what is not known may be anything");
	tap_ok(lint("allow any claim any\nprepare class 03", NULL, 0,
		    "2:1: no present device has class 03\n"),
	       "with no device at all");
}

int main(void)
{
	check_valid();
	check_lint();
	check_in_use();
	check_cards();
	return tap_done();
}
