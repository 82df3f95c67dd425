/* SPDX-License-Identifier: MIT */
/*
 * gpubroker doctor: one line for each thing that must be so before a GPU can be lent, with the cure
 * of each that is not; or the facts of these checks, as a file for another machine. It changes
 * nothing on the host, and needs no broker; one that does not answer is a result.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/doctor.h"
#include "client/command/facts.h"
#include "client/command/json-out.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Raised where a member gets another meaning; new members need no other number. */
#define SNAPSHOT_FORMAT 1

struct wanted {
	const char *device;   /* or NULL */
	const char *snapshot; /* --snapshot FILE, or NULL */
	const char *from;     /* --from FILE, or NULL */
};

static void print_sum(const struct doctor *doctor)
{
	printf("\n%u passed, %u warning%s, %u failed\n",
	       doctor->count[DOCTOR_PASS] + doctor->count[DOCTOR_NOTE], doctor->count[DOCTOR_WARN],
	       doctor->count[DOCTOR_WARN] == 1 ? "" : "s", doctor->count[DOCTOR_FAIL]);
}

/* ---- this host ---- */

/* Gets the facts of this host, of the devices those of one or, for a snapshot, all. */
static void read_local(const struct cli *cli, const struct wanted *wanted, struct doctor *doctor)
{
	struct facts_source source = {
		.sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.inventory = &doctor->inventory,
		.anonymous = wanted->snapshot,
	};
	struct pci_address address;

	if (gpubroker_open(cli->socket, &source.handle))
		source.handle = gpubroker_close(source.handle);
	inventory_read_local(&doctor->inventory);
	doctor->host = json_object_new_object();
	facts_add_iommu(doctor->host, &source);
	facts_add_host(doctor->host, &source);
	facts_add_denials(doctor->host);
	doctor->caller = facts_of_caller(&source);
	if (wanted->snapshot)
		doctor->devices = facts_of_devices(&source, NULL);
	else if (wanted->device && !pci_address_parse(wanted->device, &address))
		doctor->devices = facts_of_devices(&source, &address);
	else
		doctor->devices = json_object_new_array();
	gpubroker_close(source.handle);
	fd_close(source.sys);
}

/* Writes a new file, so that nothing that another user has laid there is followed. */
static int write_snapshot(struct doctor *doctor, const char *path)
{
	const bool standard = !strcmp(path, "-");
	struct json_object *root = json_object_new_object();
	FILE *file = stdout;
	int r = 0;

	facts_add_number(root, "gpubroker_snapshot", SNAPSHOT_FORMAT);
	facts_add_text(root, "version", PACKAGE_VERSION);
	json_object_object_add(root, "host", json_object_get(doctor->host));
	json_object_object_add(root, "caller", json_object_get(doctor->caller));
	json_object_object_add(root, "devices", json_object_get(doctor->devices));
	if (standard) {
		json_out_print(root);
		return cli_finish_output();
	}
	file = fopen(path, "wxe");
	if (file) {
		fprintf(file, "%s\n",
			json_object_to_json_string_ext(
				root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
		r = fflush(file) || ferror(file);
		r = fclose(file) || r;
	}
	json_object_put(root);
	if (!file || r) {
		cli_error("%s cannot be written: %s", path, strerror(errno));
		return EXIT_CANNOT_CREATE;
	}
	printf("%s is written. It has no serial numbers and no names of users or of this host; "
	       "look at it before you send it.\n",
	       path);
	return cli_finish_output();
}

/* ---- a snapshot ---- */

static int read_snapshot(const char *path, struct doctor *doctor)
{
	struct json_object *root = NULL;
	const char *why = NULL;
	int r = inventory_parse(path, &root, &why);

	if (!r && facts_number(root, "gpubroker_snapshot", 0) < 1) {
		why = "it is no snapshot; 'gpubroker doctor --snapshot FILE' writes one";
		r = -EBADMSG;
	}
	if (!r)
		r = inventory_take(root, &doctor->inventory, &why);
	if (!r) {
		doctor->host = json_object_get(facts_part(root, "host"));
		doctor->caller = json_object_get(facts_part(root, "caller"));
		doctor->devices = json_object_get(facts_list(root, "devices"));
		doctor->saved = true;
		if (!doctor->json) {
			fputs("From a snapshot of gpubroker ", stdout);
			cli_print_text(stdout, facts_text(root, "version"), -1);
			fputs(", kernel ", stdout);
			cli_print_text(stdout, facts_text(doctor->host, "kernel"), -1);
			fputs("\n\n", stdout);
		}
	}
	json_object_put(root);
	if (!r)
		return 0;
	cli_error("%s: %s", path, why ? why : strerror(-r));
	return r == -EBADMSG ? EXIT_BAD_POLICY : EXIT_NO_DEVICE;
}

/* ---- the command ---- */

static int examine(struct doctor *doctor, const struct wanted *wanted)
{
	int r = 0;

	doctor_check_host(doctor);
	if (wanted->device)
		r = doctor_check_device(doctor, wanted->device);
	if (doctor->json) {
		json_out_print(doctor->json);
		doctor->json = NULL;
	} else if (!r) {
		print_sum(doctor);
	}
	if (!r)
		r = cli_finish_output();
	return r ? r : doctor->count[DOCTOR_FAIL] ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Takes the options. Returns 0, or an exit status with *ret_stop. */
static int take_doctor_options(int argc, char **argv, struct doctor *doctor, struct wanted *wanted,
			       bool *ret_stop)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "memory", required_argument, NULL, 'm' },
		{ "snapshot", required_argument, NULL, 's' },
		{ "from", required_argument, NULL, 'f' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "doctor", .mode = "" };
	int c;

	*ret_stop = true;
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		if (c == 's') {
			wanted->snapshot = optarg;
		} else if (c == 'f') {
			wanted->from = optarg;
		} else if (c == 'j') {
			doctor->json = doctor->json ? doctor->json : json_object_new_array();
		} else if (!cli_parse_size(optarg, &doctor->memory) ||
			   doctor->memory > INT64_MAX / 2) {
			cli_error("doctor: '%s' is no size; give it as 512M or 16G", optarg);
			return EXIT_BAD_USAGE;
		}
	}
	if (argc - optind > 1) {
		cli_error("doctor takes at most one DEVICE, and '%s' is another", argv[optind + 1]);
		return EXIT_BAD_USAGE;
	}
	wanted->device = argv[optind];
	if (wanted->snapshot && (wanted->from || wanted->device || doctor->json)) {
		cli_error("doctor --snapshot has all devices of this host, so it takes no DEVICE, "
			  "no --from and no --json");
		return EXIT_BAD_USAGE;
	}
	*ret_stop = false;
	return 0;
}

int cli_doctor(const struct cli *cli, int argc, char **argv)
{
	struct doctor doctor = { .colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR") };
	struct wanted wanted = { 0 };
	bool stop;
	int r = take_doctor_options(argc, argv, &doctor, &wanted, &stop);

	if (!stop) {
		if (wanted.from)
			r = read_snapshot(wanted.from, &doctor);
		else
			read_local(cli, &wanted, &doctor);
		if (!r)
			r = wanted.snapshot ? write_snapshot(&doctor, wanted.snapshot)
					    : examine(&doctor, &wanted);
	}
	json_object_put(doctor.host);
	json_object_put(doctor.caller);
	json_object_put(doctor.devices);
	json_object_put(doctor.json);
	inventory_done(&doctor.inventory);
	return r;
}
