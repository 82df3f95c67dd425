/* SPDX-License-Identifier: MIT */
/*
 * Makes the command of gpubroker-qemu, see emulator.h. A function is claimed for each vfio-pci that
 * names one, once for each IOMMU group: the broker lends groups, and a claim has at most 16
 * devices.
 *
 * It must never change, add or leave out an argument of QEMU's: libvirt has chosen all of them, and
 * will ask the machine about each.
 */
#include "config.h"

#include "client/run/emulator.h"
#include "client/run/qemu-given.h"
#include "client/common/util.h"

#include <string.h>

#define OPTION "--gpu="
#define OPTION_TEXT (sizeof(OPTION) + PCI_ADDRESS_TEXT)

/* "help", "?", and "vfio-pci,help" list what there is. */
static bool asks_for_help(const char *value)
{
	const char *last = strrchr(value, ',');

	last = last ? last + 1 : value;
	return *value != '{' && (!strcmp(last, "help") || !strcmp(last, "?"));
}

/* libvirt asks a machine without hardware, by its monitor. */
static bool is_no_machine(const char *value)
{
	static const char type[] = "type=";

	if (!strncmp(value, type, strlen(type)))
		value += strlen(type);
	return !strncmp(value, "none", 4) && (!value[4] || value[4] == ',');
}

bool emulator_is_asked(char *const *argv)
{
	static const char *const alone[] = { "version", "h", "help" };
	static const char *const listed[] = { "machine", "M", "cpu", "device", "accel" };

	for (size_t i = 1; argv[0] && argv[i]; i++) {
		const char *value = argv[i + 1];

		for (size_t k = 0; k < ARRAY_SIZE(alone); k++)
			if (qemu_is_option(argv[i], alone[k]))
				return true;
		for (size_t k = 0; value && k < ARRAY_SIZE(listed); k++)
			if (qemu_is_option(argv[i], listed[k]) &&
			    (asks_for_help(value) || (k < 2 && is_no_machine(value))))
				return true;
	}
	return false;
}

/* Returns true if a function before the n-th has the same address, or is in the same group. */
static bool is_there_already(const struct qemu_given *given, size_t n,
			     const struct emulator_ways *ways)
{
	const uint32_t group = ways->group_of(ways->userdata, &given->hosts[n]);

	for (size_t i = 0; i < n; i++)
		if (!pci_address_compare(&given->hosts[i], &given->hosts[n]) ||
		    (group != UINT32_MAX &&
		     ways->group_of(ways->userdata, &given->hosts[i]) == group))
			return true;
	return false;
}

/* Adds `gpubroker run` with its options. Returns how many words. */
static size_t add_run(const struct qemu_given *given, const struct emulator_ways *ways,
		      const char **words, char *texts)
{
	size_t n = 0;

	words[n++] = "gpubroker";
	words[n++] = "run";
	if (ways->wait && *ways->wait) {
		strcpy(texts, "--wait=");
		strcat(texts, ways->wait);
		words[n++] = texts;
		texts += strlen(texts) + 1;
	} else if (ways->wait) {
		words[n++] = "--wait";
	}
	for (size_t i = 0; i < given->n_hosts; i++) {
		if (is_there_already(given, i, ways))
			continue;
		strcpy(texts, OPTION);
		pci_address_format(&given->hosts[i], texts + strlen(OPTION));
		words[n++] = texts;
		texts += OPTION_TEXT;
	}
	words[n++] = "--";
	return n;
}

int emulator_command_make(char *const *argv, const struct emulator_ways *ways,
			  struct emulator_command *ret_command)
{
	struct qemu_given given;
	size_t given_words = 1, n = 0;
	int r = qemu_given_look(argv, NULL, 0, &given);

	*ret_command = (struct emulator_command){ 0 };
	while (argv[0] && argv[given_words])
		given_words++;
	if (!r) {
		ret_command->claims = given.n_hosts && !emulator_is_asked(argv);
		ret_command->argv = calloc(given_words + given.n_hosts + 5, sizeof(char *));
		ret_command->texts = malloc(given.n_hosts * OPTION_TEXT + sizeof("--wait=") +
					    strlen(ways->wait ? ways->wait : ""));
		r = ret_command->argv && ret_command->texts ? 0 : -ENOMEM;
	}
	if (!r && ret_command->claims)
		n = add_run(&given, ways, ret_command->argv, ret_command->texts);
	if (!r) {
		ret_command->argv[n++] = ways->qemu;
		for (size_t i = 1; i < given_words; i++)
			ret_command->argv[n++] = argv[i];
	}
	qemu_given_done(&given);
	return r;
}

void emulator_command_done(struct emulator_command *command)
{
	free(command->argv);
	free(command->texts);
	*command = (struct emulator_command){ 0 };
}
