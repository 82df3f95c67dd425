/* SPDX-License-Identifier: MIT */
/*
 * Finds who has a function's nodes open, in directories in the shape of /sys and /proc. Links of
 * /proc/PID/fd lead to the devices that every machine has, under whose numbers the tree of devices
 * has a function's nodes.
 */
#include "config.h"

#include "client/host/opened.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <sys/sysmacros.h>

#define GPU "0000:01:00.0"
#define AUDIO "0000:01:00.1"
#define OTHER "0000:02:00.0"

static int sys, proc;
static struct pci_address asked[2]; /* GPU and AUDIO */
static struct nvidia_cards cards;
static struct opened_nodes nodes;
static struct opened_holder found[256];
static size_t n_found;

static void make_link(const char *path, const char *target)
{
	char full[256];

	snprintf(full, sizeof(full), "%s/%s", scratch_path, path);
	unlink(full);
	need(!symlink(target, full));
}

/* Gives a node of a device tree the number of a device of this machine. */
static void make_node(const char *device, const char *below)
{
	char path[64], target[160];
	struct stat st;

	need(!stat(device, &st));
	snprintf(path, sizeof(path), "sys/dev/char/%u:%u", major(st.st_rdev), minor(st.st_rdev));
	snprintf(target, sizeof(target), "../../devices/pci0000:00/0000:00:01.0/%s", below);
	make_link(path, target);
}

static void make_process(unsigned pid, const char *program)
{
	char path[64];

	snprintf(path, sizeof(path), "proc/%u/fd/.keep", pid);
	scratch_write(path, "");
	snprintf(path, sizeof(path), "proc/%u/exe", pid);
	make_link(path, program);
}

static void make_fd(unsigned pid, unsigned fd, const char *file)
{
	char path[64];

	snprintf(path, sizeof(path), "proc/%u/fd/%u", pid, fd);
	make_link(path, file);
}

static void on_holder(void *userdata, const struct opened_holder *holder)
{
	(void)userdata;
	for (size_t i = 0; i < n_found; i++)
		if (found[i].pid == holder->pid &&
		    !pci_address_compare(&found[i].address, &holder->address))
			return; /* a later round has found it again */
	need(n_found < sizeof(found) / sizeof(found[0]));
	found[n_found++] = *holder;
}

static bool search(void)
{
	n_found = 0;
	return opened_search(proc, &nodes, opened_now() + 10000, on_holder, NULL);
}

static bool is_found(unsigned pid, const struct pci_address *address, const char *node,
		     const char *program)
{
	for (size_t i = 0; i < n_found; i++)
		if (found[i].pid == pid && !pci_address_compare(&found[i].address, address) &&
		    !strcmp(found[i].node, node) && !strcmp(found[i].program, program))
			return true;
	return false;
}

static bool has_node(const char *name)
{
	for (size_t i = 0; i < nodes.n; i++)
		if (!strcmp(nodes.list[i].name, name))
			return true;
	return false;
}

static bool look_at(size_t n)
{
	opened_nodes_clear(&nodes);
	return opened_nodes_add(sys, &cards, asked, n, &nodes);
}

static void test_nodes(void)
{
	make_node("/dev/null", GPU "/drm/card1");
	make_node("/dev/zero", AUDIO "/sound/card0/controlC0");
	make_node("/dev/full", OTHER "/drm/card2");
	make_link("sys/dev/char/13:65",
		  "../../devices/pci0000:00/0000:00:01.0/" AUDIO "/sound/card0/input5/event1");
	make_link("sys/dev/char/89:3",
		  "../../devices/pci0000:00/0000:00:01.0/" GPU "/i2c-3/i2c-dev/i2c-3");
	make_link("sys/dev/char/189:1",
		  "../../devices/pci0000:00/0000:00:01.0/" GPU "/usb1/1-1/1-1:1.0/hidraw/hidraw0");
	make_link("sys/dev/char/511:1",
		  "../../devices/pci0000:00/0000:00:01.0/" GPU "/vfio-dev/vfio0");
	make_link("sys/dev/char/not-a-number", "../../devices/" GPU "/drm/card7");
	tap_ok(look_at(2) && nodes.n == 4, "the nodes that keep a driver waiting");
	tap_ok(has_node("dri/card1") && has_node("snd/controlC0") && has_node("input/event1") &&
		       has_node("i2c-3"),
	       "... by their names in /dev");
	tap_ok(look_at(1) && nodes.n == 2 && !has_node("snd/controlC0"),
	       "... of the functions that were asked about");
}

static void test_search(void)
{
	look_at(2);
	make_process(100, "/usr/bin/Xorg");
	make_fd(100, 0, "/dev/full");
	make_fd(100, 7, "/dev/null");
	make_process(101, "/usr/bin/pipewire (deleted)");
	make_fd(101, 3, "/dev/zero");
	make_fd(101, 4, "/dev/zero");
	make_fd(101, 5, "/nonexistent");
	make_process(102, "/opt/a\nb\x1b[m\xff");
	make_fd(102, 3, "/dev/null");
	make_fd(102, 4, "/dev/zero");
	make_process(103, "/usr/bin/true");
	make_fd(103, 1, "/dev/full");
	scratch_write("proc/self/fd/9", "");
	tap_ok(search() && n_found == 4, "processes and functions, each once");
	tap_ok(is_found(100, &asked[0], "dri/card1", "Xorg"), "one with the display");
	tap_ok(is_found(101, &asked[1], "snd/controlC0", "pipewire"), "one with the sound");
	tap_ok(is_found(102, &asked[0], "dri/card1", "a?b?[m?") &&
		       is_found(102, &asked[1], "snd/controlC0", "a?b?[m?"),
	       "one with both, whose name has no byte that steers a terminal");
	tap_ok(found[0].uid == geteuid(), "... and whose they are");
}

static void test_limits(void)
{
	make_process(104, "/usr/bin/many");
	for (unsigned fd = 100; fd < 3000; fd++)
		make_fd(104, fd, "/nonexistent");
	make_fd(104, 3000, "/dev/null");
	tap_ok(search() && is_found(104, &asked[0], "dri/card1", "many") && n_found >= 5,
	       "descriptors after the first thousand are looked at");
	n_found = 0;
	tap_ok(!opened_search(proc, &nodes, opened_now() - 1, on_holder, NULL) && !n_found,
	       "without time it says that it has not seen all");
	look_at(0);
	tap_ok(search() && !n_found, "without nodes there is nothing to look for");
}

/* Processes that have many descriptors open come after others. */
static void test_rounds(void)
{
	bool other_first = false, first_differs = false, as_expected = true;
	uint32_t first = 0;

	look_at(2);
	for (unsigned pid = 200; pid < 208; pid++) {
		make_process(pid, "/usr/bin/few");
		make_fd(pid, 3, "/dev/null");
	}
	for (unsigned i = 0; i < 32; i++) {
		as_expected = search() && as_expected;
		first_differs = first_differs || (first && found[0].pid != first);
		first = found[0].pid;
		other_first = other_first || found[0].pid >= 200;
		as_expected = as_expected && found[n_found - 1].pid == 104;
	}
	tap_ok(as_expected, "a process with many descriptors is looked at in the last round");
	tap_ok(first_differs && other_first, "nobody can tell which process is the first");
}

static void test_too_many(void)
{
	char path[256];

	look_at(2);
	tap_ok(search(), "all is seen");
	nodes.n = 0;
	for (unsigned i = 0; i < 17; i++) {
		nodes.list[nodes.n] = (struct opened_node){ .major = 1, .minor = 3 };
		nodes.list[nodes.n++].address.bus = (uint8_t)i;
	}
	tap_ok(!search(), "not all is if one process has nodes of too many functions");
	look_at(2);
	for (unsigned i = 0; i <= OPENED_NODES_MAX; i++) {
		snprintf(path, sizeof(path), "sys/dev/char/600:%u", i);
		make_link(path, "../../devices/pci0000:00/" GPU "/drm/card9");
	}
	look_at(2);
	tap_ok(nodes.n == OPENED_NODES_MAX && nodes.has_more && !search(),
	       "nor if there are too many nodes");
	for (unsigned i = 0; i <= OPENED_NODES_MAX; i++) {
		snprintf(path, sizeof(path), "%s/sys/dev/char/600:%u", scratch_path, i);
		need(!unlink(path));
	}
	look_at(2);
	tap_ok(search(), "what there was no room for is forgotten");
}

static void write_card(const char *address, const char *minor)
{
	char path[128], text[128];

	snprintf(path, sizeof(path), "proc/driver/nvidia/gpus/%s/information", address);
	snprintf(text, sizeof(text), "Model: \t X\nDevice Minor: \t %s\nGPU Excluded:\t No\n",
		 minor);
	scratch_write(path, text);
	snprintf(path, sizeof(path), "sys/bus/pci/drivers/nvidia/%s", address);
	make_link(path, "../../../../devices/x");
}

static void test_nvidia(void)
{
	scratch_write("sys/bus/pci/drivers/nvidia/bind", "");
	write_card(GPU, "3");
	write_card(OTHER, "0");
	nvidia_cards_read(sys, proc, &cards);
	tap_ok(cards.n == 2, "NVIDIA's cards are read");
	tap_ok(look_at(1) && has_node("nvidia3") && !has_node("nvidia0"), "... each has its node");
	tap_ok(nodes.list[nodes.n - 1].major == 195 && nodes.list[nodes.n - 1].minor == 3,
	       "... by its number");
	tap_ok(nodes.others.n == 2, "... and the others' nodes are known");
	cards.n = 0;
	tap_ok(!look_at(1) && nodes.has_unknown_nvidia &&
		       !pci_address_compare(&nodes.unknown_nvidia, &asked[0]),
	       "one that came later is not known yet");
	nvidia_cards_read(sys, proc, &cards);
	cards.list[0].link++;
	cards.list[1].link++;
	tap_ok(!look_at(1) && !nodes.others.n, "nor is one that was given up and taken again");
}

static void test_kfd(void)
{
	make_link("sys/dev/char/234:0", "../../devices/virtual/kfd/kfd");
	scratch_write("sys/bus/pci/drivers/amdgpu/bind", "");
	cards.n = 0;
	look_at(2);
	tap_ok(!has_node("kfd"), "/dev/kfd is not that of another driver's cards");
	make_link("sys/bus/pci/drivers/amdgpu/" GPU, "../../../../devices/x");
	look_at(2);
	tap_ok(has_node("kfd"), "it is the node of the only card");
	make_link("sys/bus/pci/drivers/amdgpu/" OTHER, "../../../../devices/x");
	look_at(2);
	tap_ok(!has_node("kfd"), "... and of several it tells nothing");
}

/* Comes last, since the card has one node more then. */
static void test_render(void)
{
	make_node("/dev/random", GPU "/drm/renderD128");
	look_at(2);
	make_process(900, "/usr/bin/python3");
	make_fd(900, 3, "/dev/null");
	make_fd(900, 4, "/dev/random");
	make_process(901, "/usr/bin/Xwayland");
	make_fd(901, 3, "/dev/null");
	make_process(902, "/usr/bin/blender");
	make_fd(902, 3, "/dev/random");
	opened_nodes_keep(&nodes, "dri/renderD");
	tap_ok(nodes.n == 1 && has_node("dri/renderD128"), "the render nodes alone");
	tap_ok(search() && n_found == 2, "... and who has one open");
	tap_ok(is_found(900, &asked[0], "dri/renderD128", "python3"),
	       "... also one who has the card's own node, by the render node");
	tap_ok(is_found(902, &asked[0], "dri/renderD128", "blender"), "... and the other");
}

int main(void)
{
	char path[128];

	scratch_make();
	scratch_write("sys/dev/char/.keep", "");
	scratch_write("proc/.keep", "");
	snprintf(path, sizeof(path), "%s/sys", scratch_path);
	sys = open(path, OPENED_FLAGS);
	snprintf(path, sizeof(path), "%s/proc", scratch_path);
	proc = open(path, OPENED_FLAGS);
	need(sys >= 0 && proc >= 0);
	need(!pci_address_parse(GPU, &asked[0]) && !pci_address_parse(AUDIO, &asked[1]));
	test_nodes();
	test_search();
	test_limits();
	test_rounds();
	test_too_many();
	test_nvidia();
	test_kfd();
	test_render();
	return tap_done();
}
