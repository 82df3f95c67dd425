/* SPDX-License-Identifier: MIT */
/*
 * All hooks of one event, see event.h. It must never run a file that hookfiles.c does not take for
 * a hook at this moment, and never pass a hook a text: all of its arguments are made here, of
 * numbers.
 */
#include "config.h"

#include "brokerd/hooks/event.h"
#include "brokerd/hooks/execute.h"
#include "client/common/util.h"
#include "client/host/hookfiles.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ADDRESSES_MAX (PROTOCOL_FUNCTIONS_MAX * PCI_ADDRESS_TEXT)

/* The arguments and the environment of every hook of the event. */
struct hook_input {
	char addresses[PROTOCOL_FUNCTIONS_MAX][PCI_ADDRESS_TEXT];
	char event[32], group[40], lease[48], uid[40], devices[ADDRESSES_MAX + 32];
	char *arguments[PROTOCOL_FUNCTIONS_MAX + 3];
	char *environment[8];
};

static char *name_of_event(const struct hook_question *question)
{
	static char bind[] = "bind", restore[] = "restore";

	return question->event == HOOK_BIND ? bind : restore;
}

static void make_input(const struct hook_question *question, struct hook_input *ret_input)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	static char locale[] = "LANG=C.UTF-8";
	struct hook_input *in = ret_input;
	size_t used;

	memset(in, 0, sizeof(*in));
	snprintf(in->event, sizeof(in->event), "GPUBROKER_EVENT=%s", name_of_event(question));
	snprintf(in->group, sizeof(in->group), "GPUBROKER_GROUP=%" PRIu32, question->group);
	snprintf(in->lease, sizeof(in->lease), "GPUBROKER_LEASE=%" PRIu64, question->lease);
	snprintf(in->uid, sizeof(in->uid), "GPUBROKER_UID=%" PRIu32, question->uid);
	used = (size_t)snprintf(in->devices, sizeof(in->devices), "GPUBROKER_DEVICES=");
	in->arguments[1] = name_of_event(question);
	for (uint32_t i = 0; i < question->n; i++) {
		pci_address_format(&question->functions[i], in->addresses[i]);
		in->arguments[i + 2] = in->addresses[i];
		used += (size_t)snprintf(in->devices + used, sizeof(in->devices) - used, "%s%s",
					 i ? " " : "", in->addresses[i]);
	}
	in->environment[0] = path;
	in->environment[1] = locale;
	in->environment[2] = in->event;
	in->environment[3] = in->group;
	in->environment[4] = in->lease;
	in->environment[5] = in->uid;
	in->environment[6] = in->devices;
}

void event_run(const struct hook_question *question, const char *directory, uint32_t owner,
	       int cgroup, struct event_shared *shared)
{
	/* One for the process. */
	static struct hook_input input;
	static struct hookfiles files;
	struct hook_answer *answer = &shared->answer;
	struct execution execution = {
		.directory = directory,
		.arguments = input.arguments,
		.environment = input.environment,
		.cgroup = cgroup,
		.until = execute_now() + HOOKS_SECONDS * 1000,
		.hook = &shared->hook,
	};

	*answer = (struct hook_answer){ .id = question->id, .result = HOOK_DONE };
	make_input(question, &input);
	hookfiles_read(directory, owner, &files, NULL, NULL);
	for (size_t i = 0; i < files.n; i++) {
		enum hook_result result;
		uint32_t value;

		execution.name = input.arguments[0] = files.names[i];
		result = execute_hook(&execution, &value);
		if (result == HOOK_DONE)
			continue;
		if (answer->result == HOOK_DONE) {
			answer->result = result;
			answer->value = value;
			strcpy(answer->hook, files.names[i]);
		}
		if (question->event == HOOK_BIND || result == HOOK_LATE)
			return;
	}
}
