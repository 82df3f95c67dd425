/* SPDX-License-Identifier: MIT */
/*
 * gpubroker doctor: one line for each thing that must be so before a GPU can be lent, with the cure
 * of each that is not. It changes nothing, and needs no broker; one that does not answer is a
 * result.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/doctor.h"
#include "client/command/json-out.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void print_sum(const struct doctor *doctor)
{
	printf("\n%u passed, %u warning%s, %u failed\n",
	       doctor->count[DOCTOR_PASS] + doctor->count[DOCTOR_NOTE], doctor->count[DOCTOR_WARN],
	       doctor->count[DOCTOR_WARN] == 1 ? "" : "s", doctor->count[DOCTOR_FAIL]);
}

int cli_doctor(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "doctor", .mode = "" };
	struct doctor doctor = {
		.sys = -1,
		.colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR"),
	};
	int c, r = 0;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		doctor.json = doctor.json ? doctor.json : json_object_new_array();
	}
	if (argc - optind > 1) {
		cli_error("doctor takes at most one DEVICE, and '%s' is another", argv[optind + 1]);
		return EXIT_BAD_USAGE;
	}
	doctor.sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (gpubroker_open(cli->socket, &doctor.handle))
		doctor.handle = gpubroker_close(doctor.handle);
	doctor_check_host(&doctor);
	if (optind < argc)
		r = doctor_check_device(&doctor, argv[optind]);
	if (doctor.json)
		json_out_print(doctor.json);
	else if (!r)
		print_sum(&doctor);
	gpubroker_close(doctor.handle);
	fd_close(doctor.sys);
	if (!r)
		r = cli_finish_output();
	return r ? r : doctor.count[DOCTOR_FAIL] ? EXIT_FAILURE : EXIT_SUCCESS;
}
