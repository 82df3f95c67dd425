/* SPDX-License-Identifier: MIT */
/*
 * The prepare rules of a policy as udev rules: each attribute, names, and what must not get
 * through.
 */
#include "config.h"

#include "client/host/aliases.h"
#include "client/host/places.h"
#include "client/host/spared.h"
#include "client/host/udevrules.h"
#include "client/host/udevrules-host.h"
#include "client/common/util.h"
#include "tests/unit/policy/parse.h"
#include "tests/tap.h"

#define IDS "pci:v0000????d0000????sv0000????sd0000????bc??sc??i??"
#define THEN "ENV{.GPUBROKER_DRIVER}=\"vfio-pci\"\n"

static struct aliases aliases;
static struct spared spared;
static const struct places *places; /* NULL: rules by a place mean whatever is there */

static char *rules_of(const char *text)
{
	struct parsed parsed;
	char *out = NULL;

	parse_right(text, &parsed);
	if (udevrules_text(&parsed.policy, &aliases, places, &spared, &out))
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

/* An APU: the display, its audio and a USB controller in one group, with a bridge. */
static void finds_spared(void)
{
	static const struct function apu[] = {
		{ .address = { .bus = 4, .function = 3 }, .class_code = 0x0c0330, .iommu_group = 8 },
		{ .address = { .bus = 4, .function = 1 }, .class_code = 0x040300, .iommu_group = 8 },
		{ .address = { .bus = 4 },
		  .class_code = 0x030000,
		  .iommu_group = 8,
		  .boot_vga = true },
		{ .address = { .bus = 0 }, .iommu_group = 8, .is_bridge = true },
		{ .address = { .bus = 6 }, .class_code = 0x030000, .iommu_group = 9 },
		{ .address = { .bus = 6, .function = 1 }, .iommu_group = 9 },
		{ .address = { .bus = 7 },
		  .class_code = 0x030000,
		  .iommu_group = NO_GROUP,
		  .boot_vga = true },
		{ .address = { .bus = 8 }, .iommu_group = NO_GROUP },
		{ .address = { .bus = 4, .function = 1 }, .class_code = 0x040300, .iommu_group = 8 },
	};
	struct spared found;

	if (spared_find(apu, ARRAY_SIZE(apu), &found))
		exit(99);
	tap_ok(found.n == 2 && found.list[0].address.function == 1 &&
		       found.list[1].address.function == 3 && found.list[0].address.bus == 4,
	       "spared is what shares a group with the boot display, in order, once, but no bridge");
	spared_done(&found);
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

/* ---- places ---- */

static const struct function host[] = {
	{ .address = { .bus = 7 }, .vendor = 0x10de, .device = 0x1eb8, .iommu_group = 17 },
	{ .address = { .bus = 7, .function = 1 },
	  .vendor = 0x10de,
	  .device = 0x10f8,
	  .iommu_group = 17 },
	{ .address = { .bus = 8 }, .vendor = 0x144d, .device = 0xa808, .iommu_group = 18 },
	{ .address = { .domain = 1, .bus = 7 },
	  .vendor = 0x10de,
	  .device = 0x1eb8,
	  .iommu_group = 19 },
	{ .address = { .bus = 6 },
	  .vendor = 0x8086,
	  .device = 1,
	  .iommu_group = 17,
	  .is_bridge = true },
};

/* The rules of a policy, at a host with these functions and an installed file with `kept`. */
static char *rules_at(const char *text, const struct function *functions, size_t n,
		      const struct places *kept)
{
	struct places made;
	struct parsed parsed;
	char *out = NULL;

	parse_right(text, &parsed);
	if (places_make(&parsed.policy, kept, functions, n, &made) ||
	    udevrules_text(&parsed.policy, &aliases, &made, &spared, &out))
		exit(99);
	places_done(&made);
	parse_done(&parsed);
	return out;
}

static unsigned count_of(const char *text, const char *what)
{
	unsigned n = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		n++;
	}
	return n;
}

static void at(const char *policy, const char *want, unsigned rules, const char *name)
{
	char *text = rules_at(policy, host, ARRAY_SIZE(host), NULL);
	bool found = strstr(text, want);

	if (!tap_ok(found && count_of(text, "GPUBROKER_FUNCTIONS}==") == rules, "%s", name)) {
		char *rest = strstr(text, "# test");

		printf("# wanted: %s\n# got %u: %s\n", want,
		       count_of(text, "GPUBROKER_FUNCTIONS}=="), rest ? rest : text);
	}
	free(text);
}

static char *file_with(const char *text)
{
	static char path[32];
	FILE *file;
	int fd;

	strcpy(path, "/tmp/gpubroker-rules.XXXXXX");
	fd = mkstemp(path);
	file = fd < 0 ? NULL : fdopen(fd, "w");
	if (!file || fputs(text, file) < 0 || fclose(file))
		exit(99);
	return path;
}

/* A card was added since: the disk has the address of the card. */
static void renumbered(void)
{
	static const struct function moved[] = {
		{ .address = { .bus = 7 }, .vendor = 0x144d, .device = 0xa808, .iommu_group = 17 },
		{ .address = { .bus = 9 }, .vendor = 0x10de, .device = 0x1eb8, .iommu_group = 18 },
	};
	static const char policy[] = "prepare address 07:00.0\n";
	static const char more[] = "prepare address 07:00.0\nprepare address 09:00.0\n";
	char *before = rules_at(policy, host, ARRAY_SIZE(host), NULL), *path = file_with(before);
	struct places kept;
	char *after, *anew;
	FILE *file;

	if (places_read(path, &kept))
		exit(99);
	after = rules_at(policy, moved, ARRAY_SIZE(moved), &kept);
	tap_ok(!strcmp(before, after),
	       "a renewal keeps the ids, so the disk that has the address now is left alone");
	free(after);
	after = rules_at(more, moved, ARRAY_SIZE(moved), &kept);
	tap_ok(strstr(after, "# at address 0000:07:00.0: 10de:1eb8 is 0000:07:00.0\n") &&
		       strstr(after, "# at address 0000:09:00.0: 10de:1eb8 is 0000:09:00.0\n"),
	       "a place that is new in the policy is looked at");
	anew = rules_at(policy, moved, ARRAY_SIZE(moved), NULL);
	tap_ok(strstr(anew, "v0000144Dd0000A808"), "and by hand what is there now is taken");
	free(anew);
	places_done(&kept);

	unlink(path);

	/* Lines that place_print() does not write. */
	path = file_with("# at address 0000:07:00.0: 10de:1eb8 is 0000:07:00.8\n"
			 "# at address 0000:07:00.0: 10de:1eb is 0000:07:00.0\n"
			 "# at address 0000:07:00.0:10de:1eb8 is 0000:07:00.0\n"
			 "# at : \n# at \n# at x: nothin\n# at x: nothing else\n"
			 "at address 0000:07:00.0: 10de:1eb8 is 0000:07:00.0\n"
			 "# at y: nothing\n# at y: nothing\n# at y: 1234:5678 is 01:00.0");
	if (places_read(path, &kept))
		exit(99);
	tap_ok(kept.n == 2 && !strcmp(kept.list[0].key, "y") && !kept.list[0].seen &&
		       kept.list[1].seen && kept.list[1].vendor == 0x1234,
	       "what is damaged is no entry, and none is there twice");
	places_done(&kept);
	file = fopen(path, "w");
	for (int i = 0; file && i < 100000; i++)
		fputc('#', file);
	if (!file || fclose(file) || places_read(path, &kept))
		exit(99);
	tap_ok(!kept.n, "nor is a line that is too long");
	unlink(path);
	free(before);
	free(after);
}

/* What is installed is right for its places, whatever is there now, and for what is spared. */
static void stale(void)
{
	static const char policy[] = "prepare address 07:00.0\n";
	struct function neighbour = { .address = { .bus = 7, .function = 1 } };
	const struct spared none = { 0 }, one = { &neighbour, 1 };
	struct places made;
	struct parsed parsed;
	char *text, *path;

	parse_right(policy, &parsed);
	if (places_make(&parsed.policy, NULL, host, ARRAY_SIZE(host), &made) ||
	    udevrules_for_host(&parsed.policy, &made, &none, &text))
		exit(99);
	path = file_with(text);
	tap_ok(!udevrules_is_stale(&parsed.policy, &none, path),
	       "the file is not stale, whatever moved");
	tap_ok(udevrules_is_stale(&parsed.policy, &one, path) == 1,
	       "... but if something else is spared by now");
	places_done(&made);
	parse_done(&parsed);
	parse_right("prepare address 07:00.0\nprepare address 09:00.0\n", &parsed);
	tap_ok(udevrules_is_stale(&parsed.policy, &none, path) == 1, "for another policy it is");
	parse_done(&parsed);
	parse_right("allow any claim any\n", &parsed);
	tap_ok(udevrules_is_stale(&parsed.policy, &none, path) == 1 &&
		       !udevrules_is_stale(&parsed.policy, &none, "/nonexistent/rules"),
	       "if nothing is to be prepared, there should be none");
	parse_done(&parsed);
	unlink(path);
	free(text);
}

static void test_places(void)
{
	at("prepare address 07:00.0\n",
	   "# at address 0000:07:00.0: 10de:1eb8 is 0000:07:00.0\n# test.policy:1\n"
	   "ENV{.GPUBROKER_DRIVER}==\"\", KERNEL==\"0000:07:00.?\", "
	   "ENV{.GPUBROKER_FUNCTIONS}==\"*;0pci:v000010DEd00001EB8sv",
	   1, "a rule by address holds the ids of what is there");
	at("prepare address 05:00.0\n", "# at address 0000:05:00.0: nothing\n", 0,
	   "where nothing was, nothing is taken");
	at("prepare address *:07:00.*\n", "KERNEL==\"0001:07:00.?\"", 3,
	   "a pattern means each function that it has now");
	at("prepare iommu-group 17\n",
	   "TEST==\"/sys/kernel/iommu_groups/17/devices/$env{.GPUBROKER_SLOT}.0\", "
	   "ENV{.GPUBROKER_FUNCTIONS}==\"*;0pci:v000010DEd00001EB8",
	   16, "a group the ids of its functions, but no bridge");
	at("device x address 07:00.0\nprepare x vfio-driver mlx5_vfio_pci\n",
	   "KERNEL==\"0000:07:00.0\", ENV{MODALIAS}==\"pci:v000010DEd00001EB8", 1,
	   "so does one by a name, and by the driver that it names");
	at("device x vendor 1002\nprepare x address 07:00.0\n", "# at address 0000:07:00.0: ", 0,
	   "if what is there is not what is meant, nothing is taken");
	at("prepare address 07:00.0 device 1eb8 vendor 10de\n", "v000010DEd00001EB8", 1,
	   "ids that the rule has are enough");
	at("prepare path 01.0/00.0\n", "DEVPATH==", 1, "a path is no such place");
	at("prepare address 07:00.0 vfs 4\nprepare address 07:00.0\n",
	   "KERNEL==\"0000:07:00.0\", ENV{MODALIAS}==\"pci:v0000????d0000????", 1,
	   "what is left alone for its virtual functions is so whatever it is");
	renumbered();
	stale();
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
			if (udevrules_text(&policy, &aliases, NULL, &spared, &out)) {
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
	finds_spared();
	test_places();
	forged();
	variants();
	return tap_done();
}
