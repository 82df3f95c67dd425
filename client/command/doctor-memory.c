/* SPDX-License-Identifier: MIT */
/*
 * The checks of memory for `gpubroker doctor`: what the host, the session and the rule let a VM
 * have, all of which is locked while a device is in it. Reads facts alone.
 */
#include "config.h"

#include "client/command/doctor.h"
#include "client/command/cli.h"
#include "client/command/facts.h"
#include "client/common/util.h"

#include <inttypes.h>

#define GIB (UINT64_C(1) << 30)

/* Writes bytes as people say them: "7.7G", "64M". */
static const char *say_size(uint64_t bytes, char out[CLI_SIZE_TEXT])
{
	if (bytes < GIB)
		snprintf(out, CLI_SIZE_TEXT, "%" PRIu64 "M", bytes >> 20);
	else if (bytes % GIB)
		snprintf(out, CLI_SIZE_TEXT, "%.1fG", (double)bytes / (double)GIB);
	else
		snprintf(out, CLI_SIZE_TEXT, "%" PRIu64 "G", bytes / GIB);
	return out;
}

/* Returns a number of bytes; 0: it is not known, or there is none. */
static uint64_t bytes_of(struct json_object *facts, const char *key)
{
	const int64_t value = facts_number(facts, key, -1);

	return value > 0 ? (uint64_t)value : 0;
}

static void check_hugepages(struct doctor *doctor)
{
	struct json_object *list = facts_list(doctor->host, "hugepages");

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *pages = json_object_array_get_idx(list, i);
		const uint64_t size = bytes_of(pages, "size"), n = bytes_of(pages, "free");
		const uint64_t total = bytes_of(pages, "total");
		char one[CLI_SIZE_TEXT], room[CLI_SIZE_TEXT], vm[CLI_SIZE_TEXT], cure[160];
		uint64_t bytes, wanted = doctor->memory;

		if (!size || !total || __builtin_mul_overflow(size, n, &bytes))
			continue;
		say_size(size, one);
		if (wanted <= bytes) {
			doctor_say(doctor, DOCTOR_NOTE, "hugepages", NULL,
				   "%" PRIu64 " of %" PRIu64 " hugepages of %s are free: %s", n,
				   total, one, say_size(bytes, room));
			continue;
		}
		snprintf(cure, sizeof(cure),
			 "As root: raise vm.nr_hugepages by %" PRIu64 ", best at boot",
			 (wanted - bytes - 1) / size + 1);
		doctor_say(doctor, DOCTOR_WARN, "hugepages", cure,
			   "%" PRIu64 " of %" PRIu64 " hugepages of %s are free, %s: a VM of %s "
			   "does not fit into them",
			   n, total, one, say_size(bytes, room), say_size(wanted, vm));
	}
}

void doctor_check_memory(struct doctor *doctor)
{
	const uint64_t all = bytes_of(doctor->host, "memory");
	const uint64_t now = bytes_of(doctor->host, "memory_available");
	const uint64_t most = bytes_of(doctor->caller, "cgroup_max");
	char vm[CLI_SIZE_TEXT], text[CLI_SIZE_TEXT];

	say_size(doctor->memory, vm);
	if (most && (doctor->memory ? most < doctor->memory : most < GIB))
		doctor_say(doctor, doctor->memory ? DOCTOR_FAIL : DOCTOR_WARN, "session",
			   "As root: raise MemoryMax of the session's slice or unit, see "
			   "systemd.resource-control(5)",
			   "this session may have only %s of memory (memory.max)",
			   say_size(most, text));
	if (doctor->memory && all) {
		if (all < doctor->memory)
			doctor_say(doctor, DOCTOR_FAIL, "memory", "Give the VM less",
				   "a VM of %s does not fit into the host, which has %s", vm,
				   say_size(all, text));
		else if (now && now < doctor->memory)
			doctor_say(doctor, DOCTOR_WARN, "memory",
				   "End other programs first, or give the VM less",
				   "a VM of %s, which is locked whole, does not fit into what is "
				   "available now, %s",
				   vm, say_size(now, text));
		else
			doctor_say(doctor, DOCTOR_PASS, "memory", NULL,
				   "the host has memory for a VM of %s", vm);
	}
	check_hugepages(doctor);
}

/* libvirt sets the limit to the machine's memory and 1 GiB, before it executes an emulator. */
void doctor_check_session(struct doctor *doctor)
{
	static const char cure[] =
		"As root: 'echo \"NAME - memlock unlimited\" "
		">/etc/security/limits.d/gpubroker.conf', "
		"and log in again; by <qemu:commandline> gpubroker-qemu needs no such limit";
	const int64_t own = facts_number(doctor->caller, "memlock_max", -1);
	const uint64_t limit = own < 0 ? UINT64_MAX : (uint64_t)own;
	const uint64_t all = bytes_of(doctor->host, "memory"), wanted = doctor->memory;
	char vm[CLI_SIZE_TEXT], text[CLI_SIZE_TEXT];

	if (facts_flag(doctor->caller, "root") || own < 0 || (all && limit >= all + GIB) ||
	    (wanted && limit - GIB >= wanted && limit >= GIB))
		return;
	say_size(limit, text);
	if (wanted)
		doctor_say(doctor, DOCTOR_NOTE, "libvirt", cure,
			   "your session may lock %s, so a hostdev of a machine of %s in "
			   "qemu:///session fails with 'cannot limit locked memory': that takes "
			   "1G more than the machine has",
			   text, say_size(wanted, vm));
	else if (limit <= GIB)
		doctor_say(doctor, DOCTOR_NOTE, "libvirt", cure,
			   "your session may lock only %s, so a hostdev of qemu:///session fails "
			   "with 'cannot limit locked memory'",
			   text);
	else
		doctor_say(doctor, DOCTOR_NOTE, "libvirt", NULL,
			   "your session may lock %s, so a machine with a hostdev in "
			   "qemu:///session may have at most %s",
			   text, say_size(limit - GIB, vm));
}

void doctor_check_memlock(struct doctor *doctor, struct json_object *device, const char *address)
{
	const int64_t own = facts_number(doctor->caller, "memlock", INT64_MIN);
	const int64_t grant = facts_number(device, "memlock", -1);
	const uint64_t most = (uint64_t)(own > grant ? own : grant);
	const uint64_t all = bytes_of(doctor->host, "memory"), wanted = doctor->memory;
	char vm[CLI_SIZE_TEXT], text[CLI_SIZE_TEXT], cure[160];

	/* Without a rule the user has another worry, and root's programs have no limit. */
	if (grant < 0 || own < -1 || facts_flag(doctor->caller, "root"))
		return;
	if (own < 0 || (all && most >= all) || (wanted && most >= wanted)) {
		doctor_say(doctor, DOCTOR_PASS, "memlock", NULL,
			   wanted && all > wanted ? "a VM of that size may be locked in memory"
						  : "a VM of any size may be locked in memory");
		return;
	}
	snprintf(cure, sizeof(cure), "As root: 'gpubroker policy add --user NAME %s --memlock %s'",
		 address,
		 say_size(wanted ? (wanted / GIB + (wanted % GIB != 0) + 1) * GIB : 17 * GIB,
			  text));
	say_size(most, text);
	if (wanted)
		doctor_say(doctor, DOCTOR_FAIL, "memlock", cure,
			   "you may lock %s, and a VM of %s locks more: QEMU fails with \"-12 "
			   "(Cannot allocate memory)\"",
			   text, say_size(wanted, vm));
	else
		doctor_say(doctor, most < GIB ? DOCTOR_WARN : DOCTOR_NOTE, "memlock",
			   most < GIB ? cure : NULL,
			   "a VM with it may have at most %s, which %s lets you lock", text,
			   grant >= own ? "the rule" : "your session");
}
