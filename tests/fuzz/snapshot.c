/* SPDX-License-Identifier: MIT */
/*
 * Lists of another machine's devices, as `gpubroker list --all --json` writes them, or its
 * snapshot, as `policy check`, `policy explain`, `doctor` and `list` read them: an input is a file.
 * Whatever it holds, the commands end, each function of a list that is read has an answer, its
 * group's view is within its bounds, and what is printed is printable.
 *
 * About: client/command/inventory.c client/command/explain.c client/host/function.c
 * client/command/doctor-iommu.c client/command/doctor-host.c client/command/doctor-device.c
 * client/command/doctor-memory.c client/command/facts.c client/command/list-saved.c
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <sys/mman.h>

#include "client/command/cli.h"
#include "client/command/inventory.h"
#include "client/command/list-saved.h"
#include "client/common/util.h"
#include "tests/fuzz/fuzz.h"
#include "tests/scratch.h"

const char fuzz_name[] = "snapshot";

/* Functions that are explained one by one: each costs a parse of the whole list. */
#define EXPLAINED_MAX 3

static char policies[96];

static const char policy[] = "device gpu class display\n"
			     "device gpu path 01.0/00.0\n"
			     "allow any claim gpu boot-vga memlock 8G limit 2\n"
			     "allow any claim class 0680 for 8h\n"
			     "allow any claim vendor 15b3 vfio-driver mlx5_vfio_pci\n"
			     "allow user 4294967294 claim iommu-group 7 require-reset\n"
			     "deny any claim driver nvme\n"
			     "deny any claim serial 00-11-22-33-44-55-66-77 device 1eb8\n"
			     "prepare address 01:00.0\n";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	snprintf(policies, sizeof(policies), "%s/policies", scratch_make());
	scratch_write("policies/test.policy", policy);
	return 0;
}

/* Runs a command. Returns its status; it must print something, which must be printable. */
static int run(int (*command)(const struct cli *cli, int argc, char **argv), int argc, char **argv)
{
	static const struct cli cli;
	FILE *out = stdout, *err = stderr, *shown;
	char *text = NULL;
	size_t size = 0;
	int r;

	shown = open_memstream(&text, &size);
	must(shown);
	stdout = stderr = shown;
	optind = 0;
	r = command(&cli, argc, argv);
	must(!fclose(shown));
	stdout = out;
	stderr = err;
	must(size);
	for (size_t i = 0; i < size; i++)
		must(text[i] == '\n' || ((unsigned char)text[i] >= ' ' && text[i] != 0x7f));
	free(text);
	return r;
}

/* Runs `gpubroker policy ...`. */
static int run_policy(int argc, char **argv)
{
	return run(cli_policy, argc, argv);
}

/* Runs `gpubroker list --all` of the list, whose options are not of interest here. */
static int run_list(const struct cli *cli, int argc, char **argv)
{
	(void)cli;
	return list_saved(argv[argc - 1], true, false);
}

/* Runs doctor, for a device or none. */
static int examine(char *list, char *device)
{
	char *argv[] = { (char *)"doctor", (char *)"--from", list, (char *)"--memory",
			 (char *)"16G",	   device,	     NULL };

	return run(cli_doctor, device ? 6 : 5, argv);
}

static int explain(char *list, char *device)
{
	char *argv[] = { (char *)"policy",
			 (char *)"explain",
			 (char *)"--policy",
			 policies,
			 (char *)"--devices",
			 list,
			 (char *)"--user",
			 (char *)"4294967294",
			 device,
			 NULL };

	return run_policy(ARRAY_SIZE(argv) - 1, argv);
}

static void check(char *list)
{
	char *argv[] = { (char *)"policy",
			 (char *)"check",
			 (char *)"--policy",
			 policies,
			 (char *)"--devices",
			 list,
			 NULL };
	int r = run_policy(ARRAY_SIZE(argv) - 1, argv);

	must(!r || r == EXIT_BAD_POLICY);
}

/* Looks at each function's group as explain does. */
static void look_at_groups(const struct inventory *inventory)
{
	struct group_view *view = malloc(sizeof(*view));

	must(view);
	for (size_t i = 0; i < inventory->n; i++) {
		const struct function *f = &inventory->functions[i];
		size_t which;

		must(inventory_find(inventory, &f->address) == f);
		must(strlen(f->driver) < sizeof(f->driver) && strlen(f->path) < sizeof(f->path));
		inventory_group(inventory, f, view);
		must(view->n_functions <= FUNCTIONS_MAX);
		must(strlen(view->not_viable) < sizeof(view->not_viable));
		must(f->is_bridge || view->not_viable[0] ||
		     group_find(view, &f->address) < view->n_functions);
		for (size_t k = 0; k < view->n_functions; k++)
			must(!view->functions[k].is_bridge &&
			     view->functions[k].iommu_group == f->iommu_group);
		group_guard(view, i & 1, &which);
		must(which == SIZE_MAX || which < view->n_functions);
	}
	free(view);
}

static void explain_some(const struct inventory *inventory, char *list)
{
	size_t step = inventory->n / EXPLAINED_MAX + 1;
	char text[PCI_ADDRESS_TEXT];

	for (size_t i = 0; i < inventory->n; i += step) {
		int r;

		pci_address_format(&inventory->functions[i].address, text);
		r = explain(list, text);
		must(!r || r == EXIT_POLICY || r == EXIT_NO_GROUP || r == EXIT_IN_USE);
		r = examine(list, text);
		must(!r || r == EXIT_FAILURE || r == EXIT_BAD_POLICY);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct inventory inventory = { 0 };
	const char *why = NULL;
	char list[32], *lists[] = { list };
	int fd = memfd_create("list", MFD_CLOEXEC), r;

	must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(list, sizeof(list), "/proc/self/fd/%d", fd);
	r = inventory_read_json(list, &inventory, &why);
	must(!r || why || r != -EBADMSG);
	if (!r) {
		look_at_groups(&inventory);
		explain_some(&inventory, list);
	}
	check(list);
	r = examine(list, NULL);
	must(!r || r == EXIT_FAILURE || r == EXIT_BAD_POLICY);
	r = run(run_list, 1, lists);
	must(!r || r == EXIT_BAD_POLICY);
	r = explain(list, (char *)"any");
	must(!r || r == EXIT_POLICY || r == EXIT_NO_GROUP || r == EXIT_IN_USE ||
	     r == EXIT_BAD_POLICY || r == EXIT_NO_DEVICE);
	explain(list, (char *)"iommu-group:7");
	explain(list, (char *)"gpu");
	inventory_done(&inventory);
	close(fd);
	return 0;
}

/* ---- seeds ---- */

static void write_device(FILE *out, const char *address, const char *class, const char *rest)
{
	fprintf(out,
		"{\"address\": \"%s\", \"vendor\": \"10de\", \"device\": \"1eb8\", "
		"\"subsystem_vendor\": \"1028\", \"subsystem_device\": \"0000\", "
		"\"class\": \"%s\", %s}",
		address, class, rest);
}

static void write_group(fuzz_write write, const char *name, unsigned n)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	must(out);
	for (unsigned i = 0; i < n; i++) {
		char address[32];

		fputs(i ? ",\n" : "[", out);
		snprintf(address, sizeof(address), "0000:%02x:%02x.%x", 1 + (i >> 8), i >> 3 & 31,
			 i & 7);
		write_device(out, address, i ? "020000" : "030000",
			     "\"driver\": null, \"iommu_group\": 7");
	}
	fputs("]\n", out);
	must(!fclose(out));
	write(name, text, size);
	write("cut", text, size - 40);
	free(text);
}

static void write_kinds(fuzz_write write)
{
	static const struct {
		const char *address, *class, *rest;
	} kinds[] = {
		{ "01:00.0", "030000",
		  "\"driver\": \"nouveau\", \"iommu_group\": 1, \"boot_vga\": true, "
		  "\"path\": \"pci0000:00/01.0/00.0\", \"serial\": \"00-11-22-33-44-55-66-77\"" },
		{ "0000:01:00.1", "040300",
		  "\"driver\": \"snd_hda_intel\", \"iommu_group\": 1, \"in_use\": null" },
		{ "0000:00:01.0", "060400", "\"driver\": \"pcieport\", \"iommu_group\": 1" },
		{ "10001:02:00.0", "068000",
		  "\"driver\": null, \"iommu_group\": 7, \"bridge\": true" },
		{ "10001:02:00.1", "068000",
		  "\"driver\": null, \"iommu_group\": 7, \"bridge\": false" },
		{ "ffffffff:ff:1f.7", "ffffff", "\"driver\": null, \"iommu_group\": null" },
		{ "0000:05:00.0", "010802",
		  "\"driver\": \"nvme\", \"iommu_group\": 4294967294, "
		  "\"in_use\": \"disk nvme0n1 is on it\"" },
		{ "0000:00:1f.0", "060100", "\"driver\": \"lpc_ich\", \"iommu_group\": 7" },
	};
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	must(out);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		fputs(i ? ",\n" : "[", out);
		write_device(out, kinds[i].address, kinds[i].class, kinds[i].rest);
	}
	fputs("]\n", out);
	must(!fclose(out));
	write("kinds", text, size);
	free(text);
}

/* A host with something wrong in each part. */
static void write_snapshot(fuzz_write write)
{
	static const char head[] =
		"{\"gpubroker_snapshot\":1,\"version\":\"0.1\",\"host\":{\"kernel\":\"6.12\","
		"\"machine\":\"x86_64\",\"processor\":\"intel\",\"hypervisor\":false,"
		"\"tables\":[\"DMAR\",1,null],\"config\":{\"CONFIG_INTEL_IOMMU\":true,"
		"\"CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF\":true},"
		"\"command_line\":\"iommu=pt intel_iommu=off intremap=off\","
		"\"boot_loader\":\"update-grub\",\"remapped\":false,\"noiommu\":true,"
		"\"modules\":{\"vfio\":true},\"nodes\":[{\"path\":\"/dev/vfio/1\","
		"\"owner\":\"another user\",\"mode\":\"0666\"},7],\"broker\":{\"answers\":true,"
		"\"tells_policy\":true,\"refused\":true,\"mistakes\":9223372036854775807},"
		"\"mistakes\":-1,\"memory\":1,\"memory_available\":1,\"hugepages\":["
		"{\"size\":2097152,\"total\":9,\"free\":9223372036854775807},{\"size\":1,"
		"\"total\":1,\"free\":0}],\"libvirt\":{\"system\":true},\"denials\":"
		"{\"module\":\"SELinux\",\"count\":2,\"last\":\"\\u001b\"}},"
		"\"caller\":{\"missing_groups\":2,\"kvm\":\"forbidden\",\"memlock\":8388608,"
		"\"memlock_max\":8388608,\"cgroup_max\":1},\"devices\":[";
	static const char rest[] =
		"\"driver\":\"nvidia\",\"iommu_group\":1,\"reset_method\":null,\"numa_node\":0,"
		"\"cpus\":\"0-7\",\"node_memory\":1,\"connectors\":[\"card1-DP-1\",3],"
		"\"vfs\":{\"total\":4},\"opened_by\":\"Xorg has /dev/dri/card1 open\","
		"\"status\":\"leased\",\"holder\":\"another user\",\"memlock\":1,"
		"\"model\":\"GA102\"";
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	must(out);
	fputs(head, out);
	write_device(out, "0000:01:00.0", "030000", rest);
	fputs(",", out);
	write_device(out, "0000:00:02.0", "030000", "\"driver\":null,\"iommu_group\":null");
	fputs("]}\n", out);
	must(!fclose(out));
	write("snapshot", text, size);
	free(text);
}

void fuzz_seeds(fuzz_write write)
{
	static const char twins[] =
		"[{\"address\":\"01:00.0\",\"vendor\":\"1\",\"device\":\"1\","
		"\"class\":\"0\",\"iommu_group\":0,\"driver\":\"\"},"
		"{\"address\":\"0000:01:00.0\",\"vendor\":\"1\",\"device\":\"1\","
		"\"class\":\"0\",\"iommu_group\":0,\"driver\":\"\"}]";

	static const char control[] =
		"[{\"address\":\"01:00.0\",\"vendor\":\"1\",\"device\":\"1\","
		"\"class\":\"030000\",\"iommu_group\":7,\"driver\":null},"
		"{\"address\":\"00:1f.0\",\"vendor\":\"1\",\"device\":\"1\","
		"\"class\":\"060100\",\"iommu_group\":7,\"driver\":\"\\u001b[2J\"}]";

	write("control-characters", control, sizeof(control) - 1);
	write_group(write, "group-of-65", 65);
	write_kinds(write);
	write_snapshot(write);
	write("twins", twins, sizeof(twins) - 1);
	write("no-array", "{\"address\": 1}", 14);
	write("empty", "[]", 2);
	write("nothing", "", 0);
}
