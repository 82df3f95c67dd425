/* SPDX-License-Identifier: MIT */
/* The prepare rules of a policy as udev rules: each attribute, names, and what must not get through. */
#include "config.h"

#include "client/udevrules.h"
#include "client/util.h"
#include "tests/policy-parse.h"
#include "tests/tap.h"

#define IDS "pci:v0000????d0000????sv0000????sd0000????bc??sc??i??"
#define THEN "ENV{.GPUBROKER_DRIVER}=\"vfio-pci\"\n"

static char *rules_of(const char *text)
{
	struct parsed parsed;
	char *out = NULL;

	parse_right(text, &parsed);
	if (udevrules_text(&parsed.policy, &out))
		exit(99);
	parse_done(&parsed);
	return out;
}

static void gives(const char *policy, const char *want, const char *name)
{
	char *text = rules_of(policy);
	bool found = strstr(text, want);

	if (!tap_ok(found, "%s", name)) {
		char *rest = strstr(text, "# test");

		printf("# wanted: %s\n# got: %s\n", want, rest ? rest : text);
	}
	free(text);
}

static void gives_none(const char *policy, const char *name)
{
	char *text = rules_of(policy);

	tap_ok(!strstr(text, "ENV{.GPUBROKER_DRIVER}==\"\", ENV") &&
		       !strstr(text, "ENV{.GPUBROKER_DRIVER}==\"\", A"),
	       "%s", name);
	free(text);
}

/* A policy that no parser makes: the loader is not to be trusted to have. */
static void forged(void)
{
	static const char *const bad[] = {
		"a\"b", "a$kernel", "a\\", "a|b", "a*", "a b", "a\nb", ""
	};
	struct policy_rule rule = { .verb = POLICY_PREPARE,
				    .name = POLICY_NO_NAME,
				    .vfio_driver = POLICY_NO_TEXT };
	struct policy_text text = { 0 };
	struct policy_file file = { .path = "/x/a\\\n\"RUN\\" };
	struct policy policy = { &rule, 1, NULL, 0, &text, 1, &file, 1 };
	bool kept = true;
	char *out;

	rule.line = 1;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text.text, sizeof(text.text), "%s", bad[i]);
		for (int what = 0; what < 3; what++) {
			static const uint32_t attributes[] = { POLICY_SERIAL, POLICY_PATH, 0 };

			rule.match = (struct policy_match){ .attributes = attributes[what] };
			rule.vfio_driver = what == 2 ? 0 : POLICY_NO_TEXT;
			if (udevrules_text(&policy, &out)) {
				kept = false;
				continue;
			}
			if (strstr(out, "a\"b") || strstr(out, "a$k") || strstr(out, "a\\") ||
			    strstr(out, "a|b") || strstr(out, "a*") || strstr(out, "a b\"") ||
			    strstr(out, "a\nb") || strstr(out, "\n\"RUN"))
				kept = false;
			free(out);
		}
	}
	tap_ok(kept, "no text ends a string, is a pattern, or is substituted");
}

int main(void)
{
	char *text = rules_of("allow user alice claim any\n");

	tap_ok(!*text, "without a prepare rule there is nothing");
	free(text);
	gives("prepare any\n", "ENV{.GPUBROKER_FUNCTIONS}==\"*;?" IDS "*\", " THEN, "any");
	gives("prepare vendor 10de device 20B2\n",
	      "==\"*;?pci:v000010DEd000020B2sv0000????sd0000????bc??sc??i??*\", " THEN,
	      "vendor and device");
	gives("prepare vendor 10de subsystem-vendor 1 subsystem-device 2\n",
	      "v000010DEd0000????sv00000001sd00000002bc", "subsystem");
	gives("prepare class display\n", "bc03sc??i??*\"", "a base class");
	gives("prepare class audio\n", "bc04sc0[13]i??*\"", "a class of two values");
	gives("prepare class 0c0330\n", "bc0Csc03i30*\"", "a whole class");
	gives("prepare address 01:00.1\n",
	      "KERNEL==\"0000:01:00.?\", ENV{.GPUBROKER_FUNCTIONS}==\"*;1" IDS "*\"",
	      "an address means its slot, if that function is there");
	gives("prepare path 01.0/00.0\n",
	      "DEVPATH==\"*/pci????:??"
	      "/????:??:01.0/????:??:00.?|"
	      "*/pci?????:??"
	      "/?????:??:01.0/?????:??:00.?\", ENV{.GPUBROKER_FUNCTIONS}==\"*;0pci",
	      "a path below any host bridge");
	gives("prepare path pci0000:20/01.0/00.0\n",
	      "DEVPATH==\"*/pci0000:20/0000:??:01.0/0000:??:00.?\"", "a path below a certain one");
	gives("prepare iommu-group 17 address 01:00.1\n",
	      "KERNEL==\"0000:01:00.?\", "
	      "TEST==\"/sys/kernel/iommu_groups/17/devices/$env{.GPUBROKER_SLOT}.1\", "
	      "ENV{.GPUBROKER_FUNCTIONS}==\"*;1pci",
	      "an IOMMU group, asked for the function that is meant");
	gives("prepare serial 48-AB\n", "ATTR{serial_number}==\"48-[aA][bB]\"",
	      "a serial number, in either case");
	gives("device x vendor 10de device 1\ndevice x vendor 10de device 2\nprepare x\n",
	      "d00000002sv", "every line of a name");
	gives("device x vendor 10de\nprepare x class display\n",
	      "v000010DEd0000????sv0000????sd0000????bc03", "a name and attributes");
	gives_none("device x vendor 10de\nprepare x vendor 1002\n",
		   "what excludes itself is left out");
	gives_none("prepare driver nvidia\n", "what goes by the driver is the daemon's");
	gives("prepare vendor 15b3 vfio-driver mlx5_vfio_pci\n",
	      "ENV{MODALIAS}==\"pci:v000015B3d0000????sv0000????sd0000????bc??sc??i??\", "
	      "ENV{.GPUBROKER_DRIVER}=\"mlx5_vfio_pci\"\n",
	      "the driver that a rule names is for what it matches itself");
	gives("prepare vendor 15b3 vfio-driver mlx5_vfio_pci\n",
	      "*;?pci:v000015B3d0000????sv0000????sd0000????bc??sc??i??*\", " THEN,
	      "... and other functions get vfio-pci");
	forged();
	return tap_done();
}
