/* SPDX-License-Identifier: MIT */
/*
 * The arguments that `gpubroker run --qemu` adds to a command. The groups are made up here;
 * tests/vm/cases/33-qemu.t runs QEMU with them.
 */
#include "config.h"

#include "client/run/qemu.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#define VGA 0x030000
#define DISPLAY 0x038000
#define CONTROLLER_3D 0x030200
#define ACCELERATOR 0x120000
#define AUDIO 0x040300
#define NETWORK 0x020000

static struct group_view group(uint32_t number)
{
	return (struct group_view){ .group = number };
}

static void put(struct group_view *view, const char *address, uint32_t class_code)
{
	struct function *f = &view->functions[view->n_functions++];

	f->class_code = class_code;
	f->iommu_group = view->group;
	need(!pci_address_parse(address, &f->address));
}

/* A card with its audio function, the usual case. */
static struct group_view card(void)
{
	struct group_view view = group(14);

	put(&view, "01:00.0", VGA);
	put(&view, "01:00.1", AUDIO);
	return view;
}

/* Splits a text into words, ended by NULL; a word has no space in it. */
static char **words(const char *text)
{
	static char buffer[1024];
	static char *list[64];
	size_t n = 0;

	need(strlen(text) < sizeof(buffer));
	strcpy(buffer, text);
	for (char *state, *p = strtok_r(buffer, " ", &state); p; p = strtok_r(NULL, " ", &state))
		list[n++] = p;
	list[n] = NULL;
	return list;
}

static char added[4096], left[256], why[256];

static bool iommufd;
static const char *drivers; /* the serial of the disk with them, or NULL */
static bool drivers_cd;
static const char *config; /* the text of a -readconfig file, or NULL */
static size_t n_mdevs;	   /* how many of them the lease has */

/* The added arguments, as one text; the rest is in `left` and `why`. */
static int make(const char *command, const struct group_view *const *groups, size_t n,
		const char *first, const char *rom, bool primary)
{
	static const char *const mdevs[] = { "u-1", "u-2" };
	static const struct qemu_cdev cdevs[] = {
		{ .address = { .bus = 1, .function = 1 }, .fd = 12 },
		{ .address = { .bus = 1 }, .fd = 11 },
	};
	const struct qemu_options options = {
		.rom = rom,
		.primary = primary,
		.mdevs = mdevs,
		.n_mdevs = n_mdevs,
		.iommufd = iommufd,
		.drivers = drivers,
		.drivers_cd = drivers_cd,
		.drivers_fd = 50,
		.fd = 10,
		.cdevs = cdevs,
		.n_cdevs = iommufd ? ARRAY_SIZE(cdevs) : 0,
		.configs = &config,
		.n_configs = config != NULL,
	};
	char **given = words(command), text[PCI_ADDRESS_TEXT];
	struct pci_address address;
	struct qemu_command made;
	size_t used = 0, count = 0;
	int r;

	need(!pci_address_parse(first, &address));
	while (given[count])
		count++;
	r = qemu_command_make(given, groups, n, &address, &options, &made);
	added[0] = left[0] = '\0';
	strcpy(why, made.why);
	if (made.n_given != count || memcmp(made.argv, given, count * sizeof(*given)) ||
	    made.argv[made.n])
		strcpy(added, "the command itself was changed");
	for (size_t i = made.n_given; !r && i < made.n; i++)
		used += (size_t)snprintf(added + used, sizeof(added) - used, "%s%s",
					 used ? " " : "", made.argv[i]);
	for (size_t i = 0; i < made.n_left; i++) {
		strcat(left, i ? " " : "");
		strcat(left, pci_address_format(&made.left[i], text));
	}
	qemu_command_done(&made);
	return r;
}

static void gives(const char *command, const struct group_view *view, const char *wanted,
		  const char *name)
{
	tap_ok(!make(command, &view, 1, "01:00.0", NULL, false) && !strcmp(added, wanted), "%s",
	       name);
	if (strcmp(added, wanted) != 0)
		printf("# got:    %s\n# wanted: %s\n", added, wanted);
}

#define PORT(name, n) "-device pcie-root-port,id=" name ",bus=pcie.0,chassis=" n ",slot=" n " "
#define ON_PORT                                                                                    \
	PORT("gpubroker-port0", "255")                                                             \
	"-device vfio-pci,host=0000:01:00.0,bus=gpubroker-port0,addr=0x0.0,multifunction=on "      \
	"-device vfio-pci,host=0000:01:00.1,bus=gpubroker-port0,addr=0x0.1"
#define ON_SLOT(slot)                                                                              \
	"-device vfio-pci,host=0000:01:00.0,addr=0x" slot ".0,multifunction=on "                   \
	"-device vfio-pci,host=0000:01:00.1,addr=0x" slot ".1"

static void test_machines(void)
{
	static const char *const pcie[] = {
		"q35",	"pc-q35-9.2", "ubuntu-q35",	    "q35,accel=kvm", "accel=kvm,type=q35",
		"virt", "virt-9.2",   "virt,gic-version=3", "type=q35",	     "{\"type\":\"q35\"}",
	};
	static const char *const pci[] = {
		"pc", "pc-i440fx-9.2", "accel=kvm", "pc,nvdimm=on", "none", "virtual", "pc,x=q35",
	};
	const struct group_view view = card();
	char command[128], name[160];

	for (size_t i = 0; i < ARRAY_SIZE(pcie); i++) {
		snprintf(command, sizeof(command), "qemu -m 64 -machine %s -nodefaults", pcie[i]);
		snprintf(name, sizeof(name), "-machine %s: a root port", pcie[i]);
		gives(command, &view, ON_PORT, name);
	}
	for (size_t i = 0; i < ARRAY_SIZE(pci); i++) {
		snprintf(command, sizeof(command), "qemu -M %s -m 64", pci[i]);
		snprintf(name, sizeof(name), "-M %s: a slot of the first bus", pci[i]);
		gives(command, &view, ON_SLOT("1e"), name);
	}
	gives("qemu --machine q35", &view, ON_PORT, "two dashes are an option of QEMU's too");
	gives("qemu", &view, ON_SLOT("1e"),
	      "no machine: QEMU's usual one, which has no PCI Express");
	gives("qemu -M pc -M q35", &view, ON_PORT, "the last machine counts");
	gives("qemu -M q35 -M accel=tcg", &view, ON_PORT, "... of those that name one");
	gives("qemu -M", &view, ON_SLOT("1e"), "an option without its value is QEMU's to refuse");
	gives("./start-vm q35", &view, ON_SLOT("1e"), "a word that is no machine's name is none");
	gives("q35", &view, ON_SLOT("1e"), "nor is the command's own name");
}

static void test_collisions(void)
{
	const struct group_view view = card();
	char command[1024] = "qemu -M pc", name[32];
	const struct group_view *views = &view;

	gives("qemu -M pc -device e1000,addr=1e.0 -device VGA,addr=0x1d", &view, ON_SLOT("1c"),
	      "a slot that a -device has is not taken");
	gives("qemu -M pc -device e1000,addr=1e.0,bus=pci.0 -device VGA,addr=0x1d,bus=pci.7", &view,
	      ON_SLOT("1d"), "one that it has on another bus is");
	gives("qemu -M q35 -device pcie-root-port,id=a,chassis=255 -device "
	      "ioh3420,chassis=254 -device pcie-root-port,chassis=0xfd,id=b",
	      &view,
	      PORT("gpubroker-port0",
		   "252") "-device vfio-pci,host=0000:01:00.0,bus=gpubroker-port0,addr=0x0.0,multifunction=on "
			  "-device vfio-pci,host=0000:01:00.1,bus=gpubroker-port0,addr=0x0.1",
	      "nor a chassis number, in any spelling");
	gives("qemu -M q35 -device pcie-root-port,id=gpubroker-port0 -netdev user,id=gpubroker-port1 -name "
	      "gpubroker-port22",
	      &view,
	      PORT("gpubroker-port2",
		   "255") "-device vfio-pci,host=0000:01:00.0,bus=gpubroker-port2,addr=0x0.0,multifunction=on "
			  "-device vfio-pci,host=0000:01:00.1,bus=gpubroker-port2,addr=0x0.1",
	      "nor an id; a longer one is another");
	for (unsigned slot = 4; slot <= 0x1e; slot++) {
		snprintf(name, sizeof(name), " -device e1000,addr=%x", slot);
		strcat(command, name);
	}
	tap_ok(make(command, &views, 1, "01:00.0", NULL, false) == -EINVAL && strstr(why, "q35"),
	       "no slot is left: a sentence that says what would help");
}

#define JSON_PORT(n)                                                                               \
	"-device {\"driver\":\"pcie-root-port\",\"id\":\"gpubroker-port0\",\"bus\":\"pcie.0\","    \
	"\"chassis\":" n ",\"slot\":" n "} "                                                       \
	"-device {\"driver\":\"vfio-pci\",\"host\":\"0000:01:00.0\",\"bus\":\"gpubroker-port0\","  \
	"\"addr\":\"0x0.0\",\"multifunction\":true} "                                              \
	"-device {\"driver\":\"vfio-pci\",\"host\":\"0000:01:00.1\",\"bus\":\"gpubroker-port0\","  \
	"\"addr\":\"0x0.1\"}"
#define JSON_SLOT(slot)                                                                            \
	"-device {\"driver\":\"vfio-pci\",\"host\":\"0000:01:00.0\",\"addr\":\"0x" slot            \
	".0\",\"multifunction\":true} "                                                            \
	"-device {\"driver\":\"vfio-pci\",\"host\":\"0000:01:00.1\",\"addr\":\"0x" slot ".1\"}"

/* QEMU makes devices that are written in JSON after all others, so ours are written so too. */
static void test_json(void)
{
	const struct group_view view = card(), *views = &view;

	gives("qemu -M q35 -device {\"driver\":\"pcie-root-port\",\"id\":\"pci.1\",\"bus\":"
	      "\"pcie.0\",\"chassis\":1,\"addr\":\"0x1\"}",
	      &view, JSON_PORT("255"), "behind devices in JSON, ours are in JSON");
	gives("qemu -M q35 -device e1000 -device {\"driver\":\"ioh3420\",\"chassis\":255} "
	      "-device pcie-root-port,chassis=0xfe,id=b",
	      &view, JSON_PORT("253"), "also if others are options; chassis numbers are seen");
	gives("qemu -M pc -device {\"driver\":\"VGA\",\"addr\":\"0x1e\"}", &view, JSON_SLOT("1d"),
	      "a slot that JSON has is not taken");
	gives("qemu -M pc -device {\"driver\":\"VGA\",\"addr\":\"0x1e.0x1\",\"multifunction\":true}",
	      &view, JSON_SLOT("1d"), "nor with a function behind it");
	gives("qemu -M pc -device {\"driver\":\"VGA\",\"addr\":241}", &view, JSON_SLOT("1d"),
	      "nor as the number that holds both");
	gives("qemu -M pc -device {\"driver\":\"VGA\",\"addr\":\"0x1e\",\"bus\":\"pci.3\"}", &view,
	      JSON_SLOT("1e"), "on another bus it is");
	tap_ok(!make("qemu -M q35 -device {\"driver\":\"VGA\"}", &views, 1, "01:00.0", "/a,b\"c",
		     true) &&
		       strstr(added, "\"x-vga\":true,\"romfile\":\"/a,b\\\"c\"}") &&
		       strstr(added, "-vga none "),
	       "a ROM's name has its commas once, and its quotes escaped: %s", added);
	n_mdevs = 1;
	tap_ok(!make("qemu -device {}", NULL, 0, "01:00.0", NULL, false) &&
		       !strcmp(added, "-device {\"driver\":\"vfio-pci\",\"sysfsdev\":"
				      "\"/sys/bus/mdev/devices/u-1\",\"addr\":\"0x1e.0\"}"),
	       "an mdev in JSON: %s", added);
	n_mdevs = 0;
	iommufd = true;
	tap_ok(!make("qemu -device {}", &views, 1, "01:00.0", NULL, false) &&
		       strstr(added, "-object iommufd,id=gpubroker-iommufd0,fd=10 ") &&
		       strstr(added, "\"fd\":\"11\",\"iommufd\":\"gpubroker-iommufd0\""),
	       "a descriptor's number is a text to QEMU: %s", added);
	iommufd = false;
}

static void test_config(void)
{
	const struct group_view view = card(), *views = &view;

	config = "# a comment\n[machine]\n  type = \"q35\"\n\n[device \"a\"]\n"
		 "  driver = \"pcie-root-port\"\n  chassis = \"255\"\n  addr = \"1c.0\"\n";
	gives("qemu -readconfig a.cfg", &view,
	      PORT("gpubroker-port0",
		   "254") "-device vfio-pci,host=0000:01:00.0,bus=gpubroker-port0,addr=0x0.0,multifunction=on "
			  "-device vfio-pci,host=0000:01:00.1,bus=gpubroker-port0,addr=0x0.1",
	      "the machine and the chassis of a configuration file are known");
	config = "[device]\ndriver = \"e1000\"\naddr = \"1e.0\"\n[device \"x\"]\n"
		 "\tdriver=\"vfio-pci\"\n\thost=\"01:00.1\"";
	tap_ok(!make("qemu -readconfig a.cfg -M pc", &views, 1, "01:00.0", NULL, false) &&
		       !strcmp(added, "-device vfio-pci,host=0000:01:00.0,addr=0x1d.0") &&
		       !strcmp(left, "0000:01:00.1"),
	       "... and the places and functions of its devices: %s", added);
	config = "[device \"x\"\naddr=\n=\n[\n]\n  \"\n[device]\naddr=\"1e";
	gives("qemu -M pc -readconfig a.cfg", &view, ON_SLOT("1d"),
	      "one that is damaged is QEMU's to refuse");
	config = "";
	gives("qemu -M pc -readconfig a.cfg", &view, ON_SLOT("1e"), "an empty one says nothing");
	config = NULL;
}

static void test_places(void)
{
	struct group_view view = group(3), second = group(4);
	const struct group_view *const both[] = { &view, &second };

	put(&view, "10000:01:00.0", DISPLAY);
	gives("qemu -M q35", &view,
	      PORT("gpubroker-port0",
		   "255") "-device vfio-pci,sysfsdev=/sys/bus/pci/devices/10000:01:00.0,"
			  "bus=gpubroker-port0,addr=0x0.0",
	      "a function alone is no multifunction device; a domain is not lost, also a long one "
	      "that an older QEMU takes in no host=");

	view = group(3);
	put(&view, "01:00.0", DISPLAY);
	put(&view, "01:00.3", NETWORK);
	put(&view, "01:00.7", AUDIO);
	gives("qemu -M pc", &view,
	      "-device vfio-pci,host=0000:01:00.0,addr=0x1e.0,multifunction=on -device "
	      "vfio-pci,host=0000:01:00.3,addr=0x1e.3 -device vfio-pci,host=0000:01:00.7,addr=0x1e.7",
	      "functions keep their numbers, gaps and all");

	/* The functions of a VF, or of a card whose functions the host can keep apart. */
	view = group(3);
	put(&view, "01:10.2", DISPLAY);
	put(&view, "01:10.3", AUDIO);
	gives("qemu -M pc", &view,
	      "-device vfio-pci,host=0000:01:10.2,addr=0x1e.0,multifunction=on -device "
	      "vfio-pci,host=0000:01:10.3,addr=0x1e.3",
	      "a slot whose function 0 is not lent has one: else nobody would look into it");

	view = group(3);
	put(&view, "07:01.0", DISPLAY);
	put(&view, "07:02.0", NETWORK);
	put(&second, "08:00.0", DISPLAY);
	tap_ok(!make("qemu -M q35", both, 2, "07:01.0", NULL, false) &&
		       !strcmp(added,
			       PORT("gpubroker-port0", "255") "-device vfio-pci,host=0000:07:01.0,bus=gpubroker-port0,addr=0x0.0 " PORT(
				       "gpubroker-port1",
				       "254") "-device vfio-pci,host=0000:07:02.0,bus=gpubroker-port1,addr=0x0.0 " PORT("gpubroker-port2",
															"253") "-device vfio-pci,host=0000:08:00.0,bus=gpubroker-port2,addr=0x0.0"),
	       "each slot of a group, and each group, has a port of its own");
	tap_ok(!make("qemu", both, 2, "07:01.0", NULL, false) &&
		       !strcmp(added, "-device vfio-pci,host=0000:07:01.0,addr=0x1e.0 -device "
				      "vfio-pci,host=0000:07:02.0,addr=0x1d.0 -device "
				      "vfio-pci,host=0000:08:00.0,addr=0x1c.0"),
	       "... or a slot");
}

static void test_own(void)
{
	static const char *const spellings[] = {
		"vfio-pci,host=01:00.0",
		"vfio-pci,host=0000:01:00.0,bus=rp1",
		"vfio-pci,id=g,host=1:0.0",
		"driver=vfio-pci,host=0:1:0.0",
		"vfio-pci-nohotplug,host=01:00.0,display=on",
		"vfio-pci,romfile=a,,b,host=01:00.0",
		"vfio-pci,sysfsdev=/sys/bus/pci/devices/0000:01:00.0",
		"vfio-pci,sysfsdev=/sys/bus/pci/devices/0000:01:00.0/",
		"{\"driver\":\"vfio-pci\",\"host\":\"0000:01:00.0\"}",
	};
	static const char *const others[] = {
		"vfio-pci,host=02:00.0",
		"vfio-pci,host=01:01.0",
		"vfio-pci,host=1:01:00.0",
		"vfio-pci,romfile=a,,host=01:00.0",
		"virtio-gpu-pci,host=01:00.0",
		"vfio-pci",
		"vfio-pci,host=",
		"vfio-pci,host=01:00.0.0",
		"vfio-pci,host=01:00",
		"{\"driver\":\"vfio-pci\"}",
		"{\"driver\":\"vfio-pci\",",
		"vfio-pci,host=01:00.0x",
		"{\"driver\":null,\"host\":null}",
		"vfio-pci,sysfsdev=",
		"vfio-pci,host=:01:00.0",
		",,,=,=",
		"[]",
		"{}",
	};
	const struct group_view view = card(), *views = &view;
	char command[256];

	for (size_t i = 0; i < ARRAY_SIZE(spellings); i++) {
		snprintf(command, sizeof(command), "qemu -M pc -device %s", spellings[i]);
		tap_ok(!make(command, &views, 1, "01:00.0", NULL, false) &&
			       !strcmp(added, *spellings[i] == '{'
						      ? "-device {\"driver\":\"vfio-pci\",\"host\":"
							"\"0000:01:00.1\",\"addr\":\"0x1e.0\"}"
						      : "-device vfio-pci,host=0000:01:00.1,"
							"addr=0x1e.0") &&
			       !strcmp(left, "0000:01:00.0"),
		       "-device %s: that function is left to it", spellings[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		snprintf(command, sizeof(command), "qemu -M pc -device %s", others[i]);
		tap_ok(!make(command, &views, 1, "01:00.0", NULL, false) &&
			       !strcmp(added,
				       *others[i] == '{' ? JSON_SLOT("1e") : ON_SLOT("1e")) &&
			       !left[0],
		       "-device %s: it is another thing", others[i]);
	}
	tap_ok(!make("qemu -device vfio-pci,host=01:00.1 --device vfio-pci,host=01:00.0", &views, 1,
		     "01:00.0", NULL, false) &&
		       !added[0] && !strcmp(left, "0000:01:00.1 0000:01:00.0"),
	       "where all are there already, nothing is added");
	tap_ok(!make("qemu -M pc -device vfio-pci,host=01:00.1", &views, 1, "01:00.0", NULL,
		     false) &&
		       !strcmp(added, "-device vfio-pci,host=0000:01:00.0,addr=0x1e.0"),
	       "what is left of two functions is no multifunction device");
	tap_ok(make("qemu -device vfio-pci,host=01:00.0", &views, 1, "01:00.0", "/rom", false) ==
			       -EINVAL &&
		       strstr(why, "--rom") && strstr(why, "romfile="),
	       "a ROM for a function that the command has already: refused, and it is said where to give it");
	tap_ok(make("qemu -device vfio-pci,host=01:00.0", &views, 1, "01:00.0", NULL, true) ==
			       -EINVAL &&
		       strstr(why, "--primary") && strstr(why, "x-vga=on"),
	       "... and so is x-vga");
}

static void test_options(void)
{
	struct group_view view = card(), second = group(2), pair = group(5);
	const struct group_view *const both[] = { &second, &view }, *views = &view,
				       *others = &second;

	tap_ok(!make("qemu -M q35", &views, 1, "01:00.0", "/a b,c,", false) &&
		       strstr(added,
			      "host=0000:01:00.0,bus=gpubroker-port0,addr=0x0.0,multifunction=on,"
			      "romfile=/a b,,c,, ") &&
		       !strstr(added, "x-vga") && !strstr(strstr(added, "01:00.1"), "romfile"),
	       "the ROM is the GPU's alone, and its name's commas are doubled");
	tap_ok(!make("qemu -M q35", &views, 1, "01:00.1", NULL, true) &&
		       !strncmp(added, "-vga none ", 10) &&
		       strstr(added, "addr=0x0.0,multifunction=on,x-vga=on -device") &&
		       !strstr(strstr(added, "01:00.1"), "x-vga"),
	       "--primary: x-vga of the VGA controller alone, and QEMU adds no display");
	tap_ok(!make("qemu -vga std", &views, 1, "01:00.0", NULL, true) &&
		       !strstr(added, "-vga none") && strstr(added, ",x-vga=on"),
	       "a -vga of the user's own stays");

	put(&second, "02:00.0", NETWORK);
	tap_ok(!make("qemu", both, 2, "02:00.0", "/rom", true) &&
		       strstr(added,
			      "host=0000:01:00.0,addr=0x1d.0,multifunction=on,x-vga=on,romfile=/rom"),
	       "both are for the first such device, be it the second --gpu");
	tap_ok(make("qemu", &others, 1, "02:00.0", NULL, true) == -EINVAL &&
		       strstr(why, "--primary"),
	       "--primary without a display is refused");
	tap_ok(make("qemu", &others, 1, "02:00.0", "/rom", false) == -EINVAL &&
		       strstr(why, "--rom"),
	       "--rom without a GPU is refused");
	second.functions[0].class_code = DISPLAY;
	tap_ok(make("qemu", &others, 1, "02:00.0", NULL, true) == -EINVAL &&
		       strstr(why, "VGA controller"),
	       "a display that is no VGA controller has no x-vga: refused");
	second.functions[0].class_code = CONTROLLER_3D;
	tap_ok(make("qemu", &others, 1, "02:00.0", NULL, true) == -EINVAL,
	       "... nor has a 3D controller");
	second.functions[0].class_code = ACCELERATOR;
	tap_ok(!make("qemu", &others, 1, "02:00.0", "/rom", false) && strstr(added, "romfile=/rom"),
	       "an accelerator may have a ROM");

	put(&pair, "03:00.0", VGA);
	put(&pair, "04:00.0", VGA);
	others = &pair;
	tap_ok(!make("qemu", &others, 1, "04:00.0", "/rom", true) &&
		       !strstr(added, "03:00.0,addr=0x1e.0,") &&
		       strstr(added, "04:00.0,addr=0x1d.0,x-vga=on,romfile=/rom"),
	       "of two GPUs in a group the options are for the one that was asked for");
}

static void test_mdevs(void)
{
	const struct group_view view = card(), *views = &view;

	n_mdevs = 2;
	tap_ok(!make("qemu", NULL, 0, "01:00.0", NULL, false) &&
		       !strcmp(added,
			       "-device vfio-pci,sysfsdev=/sys/bus/mdev/devices/u-1,addr=0x1e.0 "
			       "-device vfio-pci,sysfsdev=/sys/bus/mdev/devices/u-2,addr=0x1d.0"),
	       "each mdev is a device by its number: %s", added);
	tap_ok(!make("qemu -M q35", &views, 1, "01:00.0", NULL, false) &&
		       strstr(added, ON_PORT " ") &&
		       strstr(added, "devices/u-1,bus=gpubroker-port1,addr=0x0.0 "),
	       "... behind a port of its own, beside a card");
	tap_ok(make("qemu", NULL, 0, "01:00.0", NULL, true) == -EINVAL,
	       "... and of an mdev it is not known whether it is a display");
	n_mdevs = 0;
}

static void test_iommufd(void)
{
	const struct group_view view = card(), *views = &view;

	iommufd = true;
	gives("qemu -M q35", &view,
	      "-object iommufd,id=gpubroker-iommufd0,fd=10 " PORT(
		      "gpubroker-port0",
		      "255") "-device vfio-pci,fd=11,iommufd=gpubroker-iommufd0,bus=gpubroker-port0,addr=0x0.0,multifunction=on "
			     "-device vfio-pci,fd=12,iommufd=gpubroker-iommufd0,bus=gpubroker-port0,addr=0x0.1",
	      "by iommufd each function is told by its number");
	tap_ok(!make("qemu -object iommufd,id=gpubroker-iommufd0", &views, 1, "01:00.0", "/rom",
		     true) &&
		       strstr(added, "iommufd,id=gpubroker-iommufd1,fd=10") &&
		       strstr(added,
			      "fd=11,iommufd=gpubroker-iommufd1,addr=0x1e.0,multifunction=on,x-vga=on,romfile=/rom"),
	       "an id of the user's own stays his, and the options are the GPU's: %s", added);
	n_mdevs = 1;
	tap_ok(!make("qemu", NULL, 0, "01:00.0", NULL, false) &&
		       strstr(added,
			      "sysfsdev=/sys/bus/mdev/devices/u-1,iommufd=gpubroker-iommufd0,addr=0x1e.0"),
	       "an mdev is told by its directory, since QEMU has to know what it is");
	n_mdevs = 0;
	iommufd = false;
}

static void test_drivers(void)
{
	const struct group_view view = card(), *views = &view;
	static const char disk[] =
		"-add-fd fd=50,set=900 -blockdev driver=raw,node-name=gpubroker-drivers0,"
		"read-only=on,file.driver=file,file.read-only=on,file.locking=off,"
		"file.filename=/dev/fdset/900 -device "
		"{\"driver\":\"virtio-blk-pci\",\"drive\":\"gpubroker-drivers0\",\"serial\":\"S\"}";

	drivers = "S";
	tap_ok(!make("qemu -M pc", &views, 1, "01:00.0", NULL, false) && strstr(added, disk),
	       "a disk with drivers, in JSON also where nothing else is: behind -drive if=virtio");
	tap_ok(strstr(added, disk) > strstr(added, "vfio-pci"), "... and behind the card");
	tap_ok(!make("qemu -M pc -add-fd fd=3,set=900 -blockdev "
		     "driver=raw,node-name=gpubroker-drivers0,file=x",
		     &views, 1, "01:00.0", NULL, false) &&
		       strstr(added, "fd=50,set=901") && strstr(added, "/dev/fdset/901") &&
		       strstr(added, "\"drive\":\"gpubroker-drivers1\""),
	       "... with a number and a name that the user has not taken");
	drivers_cd = true;
	tap_ok(!make("qemu -M q35", &views, 1, "01:00.0", NULL, false) &&
		       strstr(added, "{\"driver\":\"ide-cd\",\"drive\":\"gpubroker-drivers0\""),
	       "an ISO is a CD");
	drivers = NULL;
	drivers_cd = false;
	tap_ok(!make("qemu -M q35", &views, 1, "01:00.0", NULL, false) && !strstr(added, "add-fd"),
	       "without drivers there is nothing of it");
}

int main(void)
{
	test_drivers();
	test_iommufd();
	test_machines();
	test_collisions();
	test_json();
	test_config();
	test_places();
	test_own();
	test_options();
	test_mdevs();
	return tap_done();
}
