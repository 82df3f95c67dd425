/* SPDX-License-Identifier: MIT */
/*
 * The command that gpubroker-qemu makes of an emulator's arguments. Functions of one bus and slot are in one
 * group here; tests/vm/cases/59-libvirt-session.t has libvirt write the arguments.
 */
#include "config.h"

#include "client/run/emulator.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <string.h>

static uint32_t group_of_slot(void *userdata, const struct pci_address *address)
{
	(void)userdata;
	return address->bus == 0xff ? UINT32_MAX : address->bus * 32U + address->device;
}

static char made[1 << 17];

/* The command for these arguments, as one text. */
static const char *command_of(const char *const *argv, const char *wait)
{
	const struct emulator_ways ways = {
		.qemu = "/q",
		.wait = wait,
		.group_of = group_of_slot,
	};
	struct emulator_command command;
	size_t used = 0;

	need(!emulator_command_make((char *const *)argv, &ways, &command));
	need(command.claims == !strcmp(command.argv[0], "gpubroker"));
	made[0] = '\0';
	for (size_t i = 0; command.argv[i]; i++)
		used += (size_t)snprintf(made + used, sizeof(made) - used, "%s%s", i ? " " : "",
					 command.argv[i]);
	emulator_command_done(&command);
	return made;
}

static void is_string(const char *got, const char *wanted, const char *name)
{
	if (!tap_ok(!strcmp(got, wanted), "%s", name))
		printf("# got:    %s\n# wanted: %s\n", got, wanted);
}

static void is(bool good, const char *name)
{
	tap_ok(good, "%s", name);
}

#define COMMAND(...) command_of((const char *[]){ "gpubroker-qemu", __VA_ARGS__, NULL }, NULL)
#define RUN "gpubroker run --gpu="

static void check_devices(void)
{
	is_string(COMMAND("-m", "4G"), "/q -m 4G", "a machine without a device is QEMU alone");
	is_string(command_of((const char *[]){ "gpubroker-qemu", NULL }, NULL), "/q",
		  "so is one without arguments");
	is_string(command_of((const char *[]){ NULL }, NULL), "/q", "and without even a name");
	is_string(COMMAND("-device",
			  "{\"driver\":\"vfio-pci\",\"host\":\"0000:01:00.0\",\"id\":\"hostdev0\","
			  "\"bus\":\"pci.5\",\"addr\":\"0x0\"}"),
		  RUN "0000:01:00.0 -- /q -device "
		      "{\"driver\":\"vfio-pci\",\"host\":\"0000:01:00.0\",\"id\":\"hostdev0\","
		      "\"bus\":\"pci.5\",\"addr\":\"0x0\"}",
		  "libvirt's JSON names a device, and its id, bus and addr stay");
	is_string(COMMAND("-device", "vfio-pci,host=02:00.0,id=gpu,bus=pci.2,addr=0x0"),
		  RUN "0000:02:00.0 -- /q -device vfio-pci,host=02:00.0,id=gpu,bus=pci.2,addr=0x0",
		  "so does an option, also without a domain");
	is_string(COMMAND("--device", "host=2:0.0,driver=vfio-pci"),
		  RUN "0000:02:00.0 -- /q --device host=2:0.0,driver=vfio-pci",
		  "in any order, with two dashes and few digits");
	is_string(COMMAND("-device", "vfio-pci,sysfsdev=/sys/bus/pci/devices/0000:02:00.0"),
		  RUN "0000:02:00.0 -- /q -device "
		      "vfio-pci,sysfsdev=/sys/bus/pci/devices/0000:02:00.0",
		  "and one by its directory");
	is_string(COMMAND("-device", "vfio-pci,host=01:00.0", "-device", "vfio-pci,host=01:00.1"),
		  RUN "0000:01:00.0 -- /q -device vfio-pci,host=01:00.0 -device "
		      "vfio-pci,host=01:00.1",
		  "a card and its audio function are one group, claimed once");
	is_string(COMMAND("-device", "vfio-pci,host=01:00.0", "-device", "vfio-pci,host=02:00.0"),
		  RUN "0000:01:00.0 --gpu=0000:02:00.0 -- /q -device vfio-pci,host=01:00.0 -device "
		      "vfio-pci,host=02:00.0",
		  "two cards are in one claim");
	is_string(COMMAND("-device", "vfio-pci,host=ff:00.0", "-device",
			  "{\"driver\":\"vfio-pci\",\"host\":\"0000:ff:00.0\"}"),
		  RUN "0000:ff:00.0 -- /q -device vfio-pci,host=ff:00.0 -device "
		      "{\"driver\":\"vfio-pci\",\"host\":\"0000:ff:00.0\"}",
		  "a device that is named twice is claimed once, also without a group");
	is_string(COMMAND("-device", "vfio-pci,host=01:00.0,host=02:00.0"),
		  RUN "0000:02:00.0 -- /q -device vfio-pci,host=01:00.0,host=02:00.0",
		  "of a property that is given twice the last one counts, as with QEMU");
}

static void check_wait(void)
{
	const char *const argv[] = { "gpubroker-qemu", "-device", "vfio-pci,host=01:00.0", NULL };
	const char *const none[] = { "gpubroker-qemu", "-m", "1G", NULL };

	is_string(command_of(argv, ""),
		  "gpubroker run --wait --gpu=0000:01:00.0 -- /q -device vfio-pci,host=01:00.0",
		  "it waits for a device");
	is_string(command_of(argv, "30m"),
		  "gpubroker run --wait=30m --gpu=0000:01:00.0 -- /q -device vfio-pci,host=01:00.0",
		  "for as long as it is to");
	is_string(command_of(argv, "1m --gpu=any"),
		  "gpubroker run --wait=1m --gpu=any --gpu=0000:01:00.0 -- /q -device "
		  "vfio-pci,host=01:00.0",
		  "a variable is one argument, whatever is in it");
	is_string(command_of(none, "30m"), "/q -m 1G",
		  "without a device there is nothing to wait "
		  "for");
}

/* Whatever QEMU will refuse is QEMU's to refuse. */
static void check_hostile(void)
{
	static char deep[4096], lots[1 << 16];
	static const char *const refused[] = {
		"vfio-pci",
		"vfio-pci,host=",
		"vfio-pci,host=any",
		"vfio-pci,host=0000:101:00.0",
		"vfio-pci,host=0000:01:20.0",
		"vfio-pci,host=0000:01:00.8",
		"vfio-pci,host=100000000:01:00.0",
		"vfio-pci,host=0000:01:00.0.0",
		"vfio-pci,host=0000:01:00.0 --gpu=any",
		"vfio-pci,host=-1:00.0",
		"vfio-pci,hosts=01:00.0",
		"vfio-pci,sysfsdev=/sys/bus/mdev/devices/8bf0c3d2-2f3b-8c11-9d52-0a6c5f0e7b41",
		"vfio-pci,sysfsdev=",
		"vfio-pci,sysfsdev=///",
		"virtio-net-pci,host=01:00.0",
		"{",
		"{}",
		"{\"driver\":\"vfio-pci\"",
		"{\"driver\":\"vfio-pci\",\"host\":\"0000:01:00.0\"",
		"{\"driver\":[\"vfio-pci\"],\"host\":\"0000:01:00.0\"}",
		"{\"driver\":\"vfio-pci\",\"host\":{\"a\":\"0000:01:00.0\"}}",
		"{\"driver\":\"vfio-pci\",\"host\":null}",
		"{\"driver\":null,\"host\":\"0000:01:00.0\"}",
		"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		char name[160];

		snprintf(name, sizeof(name), "no device, and none is claimed: %s", refused[i]);
		is(!strncmp(COMMAND("-device", refused[i]), "/q ", 3), name);
	}
	memset(deep, '[', sizeof(deep) - 1);
	memcpy(deep, "{\"driver\":", 10);
	is(!strncmp(COMMAND("-device", deep), "/q -device", 10), "JSON that is too deep is none");
	memset(lots, 'a', sizeof(lots) - 1);
	memcpy(lots, "vfio-pci,host=01:00.0,id=", 25);
	is(!strncmp(COMMAND("-device", lots), RUN "0000:01:00.0 -- /q -device vfio-pci,", 55) &&
		   strlen(made) == strlen(RUN "0000:01:00.0 -- /q -device ") + strlen(lots),
	   "an argument as long as a kernel takes it stays whole");
	is_string(COMMAND("-m", "1G", "-device"), "/q -m 1G -device",
		  "a -device without a value is QEMU's to refuse");
	is_string(COMMAND("-name", "vfio-pci,host=01:00.0"), "/q -name vfio-pci,host=01:00.0",
		  "what is no -device is no device");
}

static void check_questions(void)
{
	static char device[] = "{\"driver\":\"vfio-pci\",\"host\":\"0000:01:00.0\"}";

	is_string(COMMAND("-S", "-machine", "none,accel=kvm:tcg", "-device",
			  "vfio-pci,host=01:00.0"),
		  "/q -S -machine none,accel=kvm:tcg -device vfio-pci,host=01:00.0",
		  "libvirt's probe is QEMU's to answer, whatever is in it");
	is(!strncmp(COMMAND("-M", "none", "-device", device), "/q ", 3), "in its short form too");
	is(!strncmp(COMMAND("-machine", "type=none", "-device", device), "/q ", 3), "and by type=");
	is(!strncmp(COMMAND("-device", device, "-version"), "/q ", 3), "so is -version");
	is(!strncmp(COMMAND("-device", device, "--help"), "/q ", 3), "--help");
	is(!strncmp(COMMAND("-device", device, "-device", "vfio-pci,help"), "/q ", 3),
	   "-device vfio-pci,help");
	is(!strncmp(COMMAND("-device", device, "-cpu", "help"), "/q ", 3), "-cpu help");
	is(!strncmp(COMMAND("-device", device, "-machine", "nonesuch"), RUN, strlen(RUN)),
	   "a machine whose name begins so is one");
	is(!strncmp(COMMAND("-device", device, "-name", "help"), RUN, strlen(RUN)),
	   "and so is one with the name help");
}

int main(void)
{
	check_devices();
	check_wait();
	check_hostile();
	check_questions();
	return tap_done();
}
