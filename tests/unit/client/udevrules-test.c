/* SPDX-License-Identifier: MIT */
/*
 * The prepare rules of a policy as udev rules: each attribute, names, and what must not get
 * through.
 */
#include "config.h"

#include "client/host/aliases.h"
#include "client/host/udevrules.h"
#include "client/common/util.h"
#include "tests/unit/policy/parse.h"
#include "tests/tap.h"

#define IDS "pci:v0000????d0000????sv0000????sd0000????bc??sc??i??"
#define THEN "ENV{.GPUBROKER_DRIVER}=\"vfio-pci\"\n"

static struct aliases aliases;
static struct spared spared;

static char *rules_of(const char *text)
{
	struct parsed parsed;
	char *out = NULL;

	parse_right(text, &parsed);
	if (udevrules_text(&parsed.policy, &aliases, &spared, &out))
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

/* udev leaves alone the functions that share a group with the boot display, as on an APU. */
static void spares(void)
{
	struct function list[] = {
		{ .address = { .bus = 4, .function = 3 }, .path = "pci0000:00/08.1/00.3" },
		{ .address = { .bus = 5 }, .path = "" },
	};
	char *text;

	spared = (struct spared){ list, ARRAY_SIZE(list) };
	text = rules_of("prepare address 04:00.0\n");
	{
		const char *left = strstr(text, ", DEVPATH==\"*/pci0000:00/0000:??:08.1/"
						"0000:??:00.3\", GOTO=\"gpubroker_end\"\n"),
			   *taken = strstr(text, THEN);

		tap_ok(left && taken && left < taken,
		       "what shares a group with the boot display is left alone before any rule");
		tap_ok(strstr(text, ", KERNEL==\"0000:05:00.0\", GOTO=\"gpubroker_end\"\n"),
		       "... by its address, if its path is too deep");
	}
	free(text);
	spared = (struct spared){ 0 };
}

/* The parser never makes such a policy, but a compromised loader can. */
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
	struct policy policy = { .rules = &rule,
				 .n_rules = 1,
				 .texts = &text,
				 .n_texts = 1,
				 .files = &file,
				 .n_files = 1 };
	bool kept = true;
	char *out;

	rule.line = 1;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text.text, sizeof(text.text), "%s", bad[i]);
		for (int what = 0; what < 3; what++) {
			static const uint32_t attributes[] = { POLICY_SERIAL, POLICY_PATH, 0 };

			rule.match = (struct policy_match){ .attributes = attributes[what] };
			rule.vfio_driver = what == 2 ? 0 : POLICY_NO_TEXT;
			if (udevrules_text(&policy, &aliases, &spared, &out)) {
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

/* Two kernels' modules.alias; the second has no hisi driver and a newer one for the ConnectX. */
static const char first_kernel[] =
	"# Aliases extracted from modules themselves.\n"
	"alias pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_core\n"
	"alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n"
	"alias vfio_pci:v000015B3d*sv*sd*bc*sc*i* fallback_vfio_pci\n"
	"alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci\n"
	"alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci\n"
	"alias vfio_pci:v000019E5d0000A250sv*sd*bc*sc*i* hisi_acc_vfio_pci\n"
	"alias vfio_pci:v00001AF4d00001041sv*sd*bc*sc*i* evil_vfio_pci\"\n"
	"alias vfio_pci:v00001AF4d00001041sv*sd*bc*sc*i*\",RUN+=\"x virtio_vfio_pci\n"
	"alias vfio_pci:v00001AF4|d00001041sv*sd*bc*sc*i* virtio_vfio_pci\n"
	"alias vfio_pci:v00001AF4d00001041sv*sd*bc*sc*i* not_of_ours\n";
static const char second_kernel[] =
	"alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci\n"
	"alias vfio_pci:v000015B3d0000101Esv000015B3sd*bc*sc*i* newer_vfio_pci\n"
	"alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n";

static void add(struct aliases *to, const char *kernel)
{
	cleanup_file FILE *file = fmemopen((char *)(uintptr_t)kernel, strlen(kernel), "r");

	if (!file || aliases_add(to, file))
		exit(99);
}

static bool is_found(const struct aliases *from, const char *modalias, const char *want)
{
	const char *module = aliases_find(from, modalias);

	return module && !strcmp(module, want);
}

#define CONNECTX "pci:v000015B3d0000101Esv000015B3sd00000001bc02sc00i00"

static void variants(void)
{
	struct aliases other = { 0 };
	char *text, *again;
	const char *newer, *mlx5, *fallback, *slot, *bind;

	add(&aliases, first_kernel);
	tap_ok(aliases.n == 5, "aliases of other forms, and what would end a string, are none");
	tap_ok(is_found(&aliases, CONNECTX, "mlx5_vfio_pci"), "the most specific alias wins");
	tap_ok(is_found(&aliases, "pci:v000015B3d00000001sv00000000sd00000000bc02sc00i00",
			"fallback_vfio_pci"),
	       "... a less specific one where no other matches");
	tap_ok(is_found(&aliases, "pci:v00001234d00001111sv00000000sd00000000bc03sc00i00",
			"vfio_pci"),
	       "... and vfio-pci's own for all else");
	tap_ok(!aliases_find(&aliases, NULL) && !aliases_find(&aliases, "usb:v15B3"),
	       "what is no PCI function has none");
	add(&aliases, second_kernel);
	tap_ok(is_found(&aliases, CONNECTX, "newer_vfio_pci") && aliases.n == 6,
	       "two kernels' are one list, without what both have");
	add(&other, second_kernel);
	add(&other, first_kernel);
	text = rules_of("prepare vendor 15b3\nprepare vendor 8086 vfio-driver vfio-pci\n");
	aliases_done(&aliases);
	aliases = other;
	again = rules_of("prepare vendor 15b3\nprepare vendor 8086 vfio-driver vfio-pci\n");
	tap_ok(!strcmp(text, again), "the same text in whatever order the kernels are read");
	free(again);

	gives("prepare any\n",
	      "ENV{.GPUBROKER_DRIVER}==\"vfio-pci\", "
	      "ENV{MODALIAS}==\"pci:v000010DEd00002342sv*sd*bc*sc*i*\", "
	      "IMPORT{builtin}=\"kmod load nvgrace_gpu_vfio_pci\"\n",
	      "a variant driver is loaded for what its alias matches");
	gives("prepare any\n",
	      "ENV{MODALIAS}==\"pci:v000010DEd00002342sv*sd*bc*sc*i*\", "
	      "TEST==\"/sys/bus/pci/drivers/nvgrace_gpu_vfio_pci\", "
	      "ENV{.GPUBROKER_DRIVER}=\"nvgrace_gpu_vfio_pci\"\n",
	      "... and taken if the kernel has it");
	gives("prepare any\n",
	      "TEST==\"/sys/bus/pci/drivers/hisi-acc-vfio-pci\", "
	      "ENV{.GPUBROKER_DRIVER}=\"hisi-acc-vfio-pci\"\n",
	      "... by the name that the driver gives itself");
	newer = strstr(text, "kmod load newer_vfio_pci");
	mlx5 = strstr(text, "kmod load mlx5_vfio_pci");
	fallback = strstr(text, "kmod load fallback_vfio_pci");
	tap_ok(newer && mlx5 && fallback && newer < mlx5 && mlx5 < fallback,
	       "the most specific comes first");
	bind = strstr(text, "GOTO=\"gpubroker_bind\"");
	slot = strstr(text, "*\", " THEN);
	tap_ok(bind && slot && bind < slot && slot < newer,
	       "a driver that a rule names, even vfio-pci, is none of theirs");
	tap_ok(!strstr(text, "RUN") && !strstr(text, "PROGRAM"), "no process is started");
	tap_ok(!strstr(text, "pci:v*d*"), "vfio-pci's own alias is left out");
	free(text);
	aliases_done(&aliases);
}

int main(void)
{
	char *text = rules_of("allow user alice claim any\n");

	tap_ok(!*text, "without a prepare rule there is nothing");
	free(text);
	text = rules_of("prepare vendor 10de vfs 4\n");
	tap_ok(!*text, "nor for what is to have virtual functions alone");
	free(text);
	text = rules_of("prepare class network\nprepare vendor 10de address 01:00.0 vfs 4\n");
	{
		const char *left = strstr(
				   text,
				   "KERNEL==\"0000:01:00.0\", ENV{MODALIAS}==\"pci:v000010DEd"),
			   *end = left ? strstr(left, "GOTO=\"gpubroker_end\"\n") : NULL,
			   *taken = strstr(text, "bc02sc??i??*\", " THEN);

		tap_ok(end && taken && end < taken && !memchr(left, '\n', (size_t)(end - left)),
		       "a PF that is to have them is left alone before any rule takes its like");
		tap_ok(!strstr(left ? left : "",
			       "v000010DEd0000????sv0000????sd0000????bc??sc??i??*"),
		       "... and its own rule takes nothing of its slot");
	}
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
	gives("prepare any\n",
	      "TEST==\"iommu_group/devices/$env{.GPUBROKER_SLOT}.3\", "
	      "IMPORT{file}=\"/sys/bus/pci/devices/$env{.GPUBROKER_SLOT}.3/uevent\"",
	      "of the slot, only what is in the own group comes along");
	spares();
	forged();
	variants();
	return tap_done();
}
