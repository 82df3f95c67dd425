/* SPDX-License-Identifier: MIT */
/*
 * Reads how the host uses a function, and which are part of its console, from a directory in the
 * shape of sysfs: a tree of devices with the links of /sys/class into it. Each case is a function
 * of its own, so that none sees another's.
 */
#include "config.h"

#include "client/host/function.h"
#include "client/host/pci.h"
#include "client/host/spared.h"
#include "tests/scratch.h"
#include "tests/tap.h"

static int sys;
static unsigned next_bus = 1;
static char here[PCI_ADDRESS_TEXT]; /* the function of the case */

static void in_sys(char out[320], const char *path)
{
	snprintf(out, 320, "%.60s/sys/%.240s", scratch_path, path);
}

static void put(const char *path, const char *text)
{
	char whole[320];

	snprintf(whole, sizeof(whole), "sys/%.300s", path);
	scratch_write(whole, text);
}

static void make_link(const char *path, const char *target)
{
	char whole[320];

	in_sys(whole, path);
	need(!symlink(target, whole));
}

/* Makes a function, with a driver unless that is "". */
static void function(const char *class_code, const char *driver)
{
	const struct {
		const char *name, *text;
	} attributes[] = { { "vendor", "0x1234\n" },
			   { "device", "0x1111\n" },
			   { "subsystem_vendor", "0x0\n" },
			   { "subsystem_device", "0x0\n" },
			   { "class", class_code } };
	char path[200], target[200];

	snprintf(here, sizeof(here), "0000:%02x:00.0", next_bus++);
	for (size_t i = 0; i < sizeof(attributes) / sizeof(*attributes); i++) {
		snprintf(path, sizeof(path), "devices/pci0000:00/%s/%s", here, attributes[i].name);
		put(path, attributes[i].text);
	}
	snprintf(path, sizeof(path), "bus/pci/devices/%s", here);
	snprintf(target, sizeof(target), "../../../devices/pci0000:00/%s", here);
	make_link(path, target);
	if (!*driver)
		return;
	snprintf(path, sizeof(path), "devices/pci0000:00/%s/driver", here);
	snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
	make_link(path, target);
}

/* Makes a file below the function. */
static void below(const char *file, const char *text)
{
	char path[240];

	snprintf(path, sizeof(path), "devices/pci0000:00/%s/%s", here, file);
	put(path, text);
}

/* Makes a link of a class, as class/net/eth0, to a device below the function. */
static void in_class(const char *link, const char *device)
{
	char path[240], target[240];

	below(device, ""); /* its attributes are read through the link where there are any */
	snprintf(path, sizeof(path), "%s/sys/devices/pci0000:00/%s/%s", scratch_path, here, device);
	need(!unlink(path) && !mkdir(path, 0755));
	snprintf(target, sizeof(target), "%s../../devices/pci0000:00/%s/%s",
		 strncmp(link, "bus/", 4) ? "" : "../", here, device);
	make_link(link, target);
}

/* An empty directory below the function. */
static void empty(const char *directory)
{
	char path[240];

	snprintf(path, sizeof(path), "%s/x", directory);
	below(path, "");
	snprintf(path, sizeof(path), "%s/sys/devices/pci0000:00/%s/%s/x", scratch_path, here,
		 directory);
	need(!unlink(path));
}

static struct function look(void)
{
	struct function f = { 0 };
	struct pci_address address;

	need(!pci_address_parse(here, &address));
	if (sysfs_function_read(sys, &address, &f))
		strcpy(f.in_use, "(cannot be read)");
	return f;
}

static bool is_free(const char *name)
{
	const struct function f = look();

	return tap_ok(!f.boot_vga && !f.console[0] && !f.in_use[0], "%s: %s%s", name, f.console,
		      f.in_use);
}

static bool is_in_use(const char *text, const char *name)
{
	const struct function f = look();

	return tap_ok(!strcmp(f.in_use, text) && !f.console[0], "%s: %s%s", name, f.in_use,
		      f.console);
}

static bool has_console(bool display, const char *text, const char *name)
{
	const struct function f = look();

	return tap_ok(f.boot_vga == display && !strcmp(f.console, text) && !f.in_use[0], "%s: %s%s",
		      name, f.console, f.in_use);
}

static void test_network(void)
{
	function("0x020000\n", "e1000");
	is_free("a network function without an interface");
	in_class("class/net/eth0", "net/eth0");
	below("net/eth0/flags", "0x1002\n");
	is_free("an interface that is down");
	below("net/eth0/flags", "0x1003\n");
	is_in_use("network interface eth0 is up", "one that is up");

	function("0x020000\n", "e1000");
	empty("net");
	is_in_use("a network interface of it is in another network namespace",
		  "one in a container's namespace");
	function("0x020000\n", "virtio-pci");
	below("virtio3/device", "0x0001\n");
	is_free("a virtio function");
	empty("virtio3/net");
	is_in_use("a network interface of it is in another network namespace",
		  "virtio's in a namespace");
	function("0x028000\n", "iwlwifi");
	empty("ieee80211");
	is_in_use("a network interface of it is in another network namespace",
		  "a radio in a namespace");
	function("0x0c0330\n", "xhci_hcd");
	in_class("bus/usb/devices/1-2:1.0", "usb1/1-2/1-2:1.0");
	is_free("a USB controller");
	empty("usb1/1-2/1-2:1.0/net");
	is_in_use("a network interface of it is in another network namespace",
		  "a USB adapter's in a namespace");
	function("0x020000\n", "vfio-pci");
	empty("net");
	is_free("what is on VFIO has nothing of the host's below it");
}

static void test_storage(void)
{
	static const struct {
		const char *link, *device, *text;
	} cases[] = {
		{ "class/block/sda", "host0/block/sda", "disk sda is on it" },
		{ "class/scsi_tape/st0", "host0/scsi_tape/st0", "tape drive st0 is on it" },
		{ "class/scsi_changer/sch0", "host0/scsi_changer/sch0",
		  "tape library sch0 is on it" },
		{ "class/enclosure/0:0:1:0", "host0/enclosure/0:0:1:0",
		  "disk enclosure 0:0:1:0 is on it" },
		{ "bus/dax/devices/dax0.0", "virtio0/ndbus0/dax0.0",
		  "memory device dax0.0 is on it" },
		{ "bus/cxl/devices/mem0", "mem0", "memory device mem0 is on it" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		function("0x010700\n", "mpt3sas");
		is_free("an adapter with nothing on it");
		in_class(cases[i].link, cases[i].device);
		is_in_use(cases[i].text, cases[i].device);
	}
}

static void test_infiniband(void)
{
	function("0x020700\n", "mlx5_core");
	in_class("class/infiniband/mlx5_0", "infiniband/mlx5_0");
	below("infiniband/mlx5_0/ports/1/link_layer", "Ethernet\n");
	is_free("an RDMA device on Ethernet");
	below("infiniband/mlx5_0/ports/2/link_layer", "InfiniBand\n");
	is_in_use("InfiniBand device mlx5_0 is on it", "one with a port of InfiniBand");
}

static void test_display(void)
{
	function("0x030000\n", "bochs-drm");
	below("boot_vga", "0\n");
	is_free("a display that is not the boot VGA");
	below("boot_vga", "1\n");
	has_console(true, "", "the boot VGA");

	function("0x038000\n", "amdgpu");
	is_free("a display controller without boot_vga");
	below("boot_display", "1\n");
	has_console(true, "it is the boot display", "the boot display of Linux 6.17");

	function("0x038000\n", "amdgpu");
	in_class("class/drm/card1", "drm/card1");
	in_class("class/drm/card1-eDP-1", "drm/card1/card1-eDP-1");
	below("drm/card1/card1-eDP-1/status", "disconnected\n");
	below("drm/card1/card1-eDP-1/enabled", "disabled\n");
	is_free("connectors with nothing at them");
	below("drm/card1/card1-eDP-1/status", "connected\n");
	is_free("one that is connected and off");
	below("drm/card1/card1-eDP-1/enabled", "enabled\n");
	has_console(false, "its connector eDP-1 is connected and on", "one that is on");
	below("drm/card1/card1-eDP-1/status", "disconnected\n");
	is_free("one that is on with nothing at it");
}

/* The last of the displays: the framebuffers are the host's, and not of one case. */
static void test_framebuffer(void)
{
	unsigned char params[4096] = { 0 };
	char path[320];
	FILE *file;

	function("0x038000\n", "bochs-drm");
	in_class("class/graphics/fb3", "graphics/fb3");
	is_free("a framebuffer without a console");
	put("devices/virtual/vtconsole/vtcon1/name", "(M) frame buffer device\n");
	put("devices/virtual/vtconsole/vtcon1/bind", "0\n");
	put("class/vtconsole/none", "");
	make_link("class/vtconsole/vtcon1", "../../devices/virtual/vtconsole/vtcon1");
	is_free("... nor while fbcon has no console");
	put("devices/virtual/vtconsole/vtcon1/bind", "1\n");
	has_console(false, "the console is on its framebuffer fb3",
		    "the first framebuffer, fbcon's");
	put("devices/platform/efi-framebuffer.0/graphics/fb0/name", "EFI VGA\n");
	make_link("class/graphics/fb0", "../../devices/platform/efi-framebuffer.0/graphics/fb0");
	is_free("another one, since fbcon has the first");

	function("0x038000\n", "");
	is_free("a display without a driver, and nothing tells where the firmware's is");
	below("resource", "0x00000000c0000000 0x00000000cfffffff 0x0000000000140204\n"
			  "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
			  "0x0000000480000000 0x000000048fffffff 0x0000000000140204\n");
	params[0x1b] = 0x90; /* lfb_base: 0x90000000 */
	put("kernel/boot_params/data", "");
	in_sys(path, "kernel/boot_params/data");
	file = fopen(path, "w");
	need(file && fwrite(params, sizeof(params), 1, file) == 1 && !fclose(file));
	is_free("the firmware's framebuffer in another's memory");
	params[0x1b] = 0x81;
	params[0x3a] = 0x04; /* 0x481000000 */
	file = fopen(path, "w");
	need(file && fwrite(params, sizeof(params), 1, file) == 1 && !fclose(file));
	has_console(true, "the console is on the firmware's framebuffer fb0 in its memory",
		    "... and in its own");
	function("0x020000\n", "");
	is_free("what is no display has no framebuffer");
}

static void keyboard(const char *device, const char *input, const char *keys)
{
	char link[80], path[200];

	snprintf(link, sizeof(link), "class/input/%s", input);
	in_class(link, device);
	snprintf(path, sizeof(path), "%s/capabilities/key", device);
	below(path, keys);
}

static void test_keyboard(void)
{
	static const char all[] = "10000 7 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe\n";
	char usb[PCI_ADDRESS_TEXT];

	function("0x0c0330\n", "xhci_hcd");
	memcpy(usb, here, sizeof(usb));
	keyboard("usb1/1-1/input/input4", "input4", "70000 0 0 0 0\n");
	is_free("a controller with a mouse");
	keyboard("usb1/1-2/input/input5", "input5", all);
	has_console(false, "the host's only keyboard is behind it", "one with the only keyboard");
	put("devices/virtual/input/input6/capabilities/key", all);
	make_link("class/input/input6", "../../devices/virtual/input/input6");
	has_console(false, "the host's only keyboard is behind it",
		    "... beside one that a program made");
	function("0x0c0330\n", "xhci_hcd");
	is_free("a controller without a keyboard");
	keyboard("usb2/2-1/input/input7", "input7", all);
	is_free("one with the second keyboard");
	memcpy(here, usb, sizeof(usb));
	is_free("... which is also the first's second");
}

static void test_opened(void)
{
	function("0x030000\n", "vfio-pci");
	tap_ok(!look().opened, "without the attribute nobody has it");
	below("enable", "0\n");
	tap_ok(!look().opened, "what is not enabled is not open");
	below("enable", "1\n");
	tap_ok(look().opened, "what vfio-pci has enabled is open");
	function("0x030000\n", "bochs-drm");
	below("enable", "1\n");
	tap_ok(!look().opened, "a host driver enables its device for itself");
}

static void test_guard(void)
{
	struct group_view view = { .n_functions = 1 };
	size_t which;

	strcpy(view.functions[0].console, "the host's only keyboard is behind it");
	tap_ok(group_guard(&view, false, &which) == GUARD_BOOT_VGA && !which,
	       "what is part of the console is guarded as the boot VGA");
	tap_ok(group_guard(&view, true, &which) == GUARD_NONE,
	       "... and lent by a rule with boot-vga and --force");
	strcpy(view.functions[0].driver, "vfio-pci");
	tap_ok(group_guard(&view, false, &which) == GUARD_NONE,
	       "... and by any rule once it is on a VFIO driver");
}

/* Puts the function into an IOMMU group. */
static void put_into(unsigned group)
{
	char path[200], target[320];

	snprintf(path, sizeof(path), "kernel/iommu_groups/%u/devices/none", group);
	put(path, "");
	in_sys(target, path);
	need(!unlink(target));
	snprintf(path, sizeof(path), "kernel/iommu_groups/%u/devices/%s", group, here);
	snprintf(target, sizeof(target), "../../../../devices/pci0000:00/%s", here);
	make_link(path, target);
	snprintf(path, sizeof(path), "devices/pci0000:00/%s/iommu_group", here);
	snprintf(target, sizeof(target), "../../../kernel/iommu_groups/%u", group);
	make_link(path, target);
}

static bool is_spared(const struct spared *spared, const char *address)
{
	struct pci_address parsed;

	need(!pci_address_parse(address, &parsed));
	for (size_t i = 0; i < spared->n; i++)
		if (!pci_address_compare(&spared->list[i].address, &parsed))
			return true;
	return false;
}

/* udev's rules spare what stays part of the console at the next boot. */
static void test_spared(void)
{
	char chosen[PCI_ADDRESS_TEXT], beside[PCI_ADDRESS_TEXT], on[PCI_ADDRESS_TEXT];
	struct spared spared;

	function("0x038000\n", "amdgpu");
	below("boot_display", "1\n");
	put_into(40);
	memcpy(chosen, here, sizeof(chosen));
	function("0x040300\n", "snd_hda_intel");
	put_into(40);
	memcpy(beside, here, sizeof(beside));
	function("0x038000\n", "amdgpu");
	in_class("class/drm/card7-DP-1", "drm/card7/card7-DP-1");
	below("drm/card7/card7-DP-1/status", "connected\n");
	below("drm/card7/card7-DP-1/enabled", "enabled\n");
	put_into(41);
	memcpy(on, here, sizeof(on));
	need(look().console[0]);
	need(!spared_read(sys, &spared));
	tap_ok(is_spared(&spared, chosen) && is_spared(&spared, beside),
	       "a display that was chosen for the console is spared, with its group");
	tap_ok(!is_spared(&spared, on) && spared.n == 2,
	       "... but not one that only shows something now");
	spared_done(&spared);
}

int main(void)
{
	static const char *const classes[] = {
		"class/net/none",	   "class/block/none",	    "class/scsi_tape/none",
		"class/scsi_changer/none", "class/enclosure/none",  "bus/dax/devices/none",
		"bus/cxl/devices/none",	   "class/infiniband/none", "class/drm/version",
		"class/graphics/fbcon",	   "class/input/mice",	    "bus/usb/devices/none",
	};
	char path[128];

	scratch_make();
	put("bus/none", "");
	put("bus/pci/devices/none", "");
	for (size_t i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		put(classes[i], "");
	snprintf(path, sizeof(path), "%s/sys", scratch_path);
	sys = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(sys >= 0);
	test_network();
	test_storage();
	test_infiniband();
	test_display();
	test_framebuffer();
	test_keyboard();
	test_opened();
	test_guard();
	test_spared();
	close(sys);
	return tap_done();
}
