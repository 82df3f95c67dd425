/* SPDX-License-Identifier: MIT */
/*
 * Parses the options of `gpubroker run`, see options.h. It prints what is wrong, and asks nobody.
 */
#include "config.h"

#include "client/run/options.h"
#include "client/command/cli.h"
#include "client/run/steps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int add_device(struct request *request, const char *name)
{
	if (request->n_devices == REQUEST_DEVICES_MAX) {
		cli_error("more than %d devices in one claim", REQUEST_DEVICES_MAX);
		return EXIT_BAD_USAGE;
	}
	request->devices[request->n_devices++] = (struct request_device){ .name = name };
	return 0;
}

/* The --gpu that the option follows; where there is none yet, `any`. */
static struct request_device *last_device(struct request *request)
{
	if (!request->n_devices)
		add_device(request, "any");
	return &request->devices[request->n_devices - 1];
}

static int given_twice(const char *option, const struct request_device *device)
{
	cli_error("%s is given twice for --gpu %s; give each its own --gpu", option, device->name);
	return EXIT_BAD_USAGE;
}

static int set_profile(struct request *request, const char *profile)
{
	struct request_device *device = last_device(request);

	if (device->profile)
		return given_twice("--profile", device);
	device->profile = profile;
	return 0;
}

static int set_size(const char *option, const char *text, uint64_t *ret_bytes)
{
	if (cli_parse_size(text, ret_bytes))
		return 0;
	cli_error("%s '%s' is no size: give a number of bytes above 0, or with K, M, G or T, as 8G",
		  option, text);
	return EXIT_BAD_USAGE;
}

static int set_memory(struct request *request, const char *text)
{
	struct request_device *device = last_device(request);

	return device->memory ? given_twice("--memory", device)
			      : set_size("--memory", text, &device->memory);
}

static int set_wait(struct request *request, const char *text)
{
	request->wait = true;
	request->wait_seconds = 0;
	if (!text || cli_parse_time(text, &request->wait_seconds))
		return 0;
	cli_error("--wait=%s: that is no time; give it as 30s, 10m or 1h30m", text);
	return EXIT_BAD_USAGE;
}

static int take_option(int option, struct request *request, struct qemu_run *qemu)
{
	switch (option) {
	case 'g':
		return add_device(request, optarg);
	case 'P':
		return set_profile(request, optarg);
	case 'M':
		return set_memory(request, optarg);
	case 'm':
		return set_size("--memlock", optarg, &request->memlock);
	case 'w':
		return set_wait(request, optarg);
	case 'A':
		request->allotment = optarg;
		return 0;
	case 'f':
		request->force = true;
		return 0;
	case 'q':
		qemu->wanted = true;
		return 0;
	case 'r':
		qemu->rom = optarg;
		return 0;
	case 'p':
		qemu->options.primary = true;
		return 0;
	case 'D':
		qemu->drivers.wanted = true;
		qemu->drivers.name = optarg;
		return 0;
	case 'i':
		qemu->iommufd = true;
		return 0;
	case 'v':
		qemu->verbose = true;
		return 0;
	case 'J':
		return steps_begin(optarg);
	default:
		return EXIT_BAD_USAGE;
	}
}

/* Checks that the options for QEMU go together, and the ROM file. */
static int check_qemu(struct qemu_run *qemu)
{
	struct stat st;

	if (!qemu->wanted && (qemu->rom || qemu->options.primary || qemu->drivers.wanted)) {
		cli_error("%s needs --qemu, which adds QEMU's arguments", qemu->rom ? "--rom"
									  : qemu->options.primary
										  ? "--primary"
										  : "--drivers");
		return EXIT_BAD_USAGE;
	}
	if (!qemu->rom)
		return 0;
	/* Absolute, since a script may go elsewhere before it starts QEMU. */
	qemu->options.rom = realpath(qemu->rom, NULL);
	if (!qemu->options.rom || stat(qemu->options.rom, &st) || access(qemu->options.rom, R_OK)) {
		cli_error("--rom %s: cannot be read: %s; nothing was claimed", qemu->rom,
			  strerror(errno));
		return EXIT_BAD_USAGE;
	}
	if (!S_ISREG(st.st_mode) || !st.st_size) {
		cli_error("--rom %s: is %s; nothing was claimed", qemu->rom,
			  S_ISREG(st.st_mode) ? "empty" : "no regular file");
		return EXIT_BAD_USAGE;
	}
	return 0;
}

/* Without a device, `any` is meant, or what is allotted: see allotted.h. */
static int imply_device(struct request *request)
{
	const char *label = getenv("GPUBROKER_ALLOTMENT");

	request->implied = !request->n_devices;
	if (!request->implied && request->allotment) {
		cli_error("--allotment %s names the devices itself, so it does not go with --gpu, "
			  "--profile or --memory",
			  request->allotment);
		return EXIT_BAD_USAGE;
	}
	if (!request->allotment && label && *label)
		request->allotment = label;
	last_device(request);
	return 0;
}

int options_parse(int argc, char **argv, struct request *request, struct qemu_run *qemu)
{
	static const struct option options[] = {
		{ "gpu", required_argument, NULL, 'g' },
		{ "profile", required_argument, NULL, 'P' },
		{ "memory", required_argument, NULL, 'M' },
		{ "allotment", required_argument, NULL, 'A' },
		{ "wait", optional_argument, NULL, 'w' },
		{ "force", no_argument, NULL, 'f' },
		{ "memlock", required_argument, NULL, 'm' },
		{ "qemu", no_argument, NULL, 'q' },
		{ "rom", required_argument, NULL, 'r' },
		{ "primary", no_argument, NULL, 'p' },
		{ "drivers", optional_argument, NULL, 'D' },
		{ "iommufd", no_argument, NULL, 'i' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "progress", required_argument, NULL, 'J' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "run", .mode = "+" };
	int c, r = 0;

	while (!r && (c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		r = take_option(c, request, qemu);
	}
	if (r)
		return r;
	if (optind == argc) {
		cli_error("run needs a COMMAND, as in: gpubroker run --gpu 01:00.0 -- "
			  "qemu-system-x86_64 ...");
		return EXIT_BAD_USAGE;
	}
	r = imply_device(request);
	if (!r)
		r = request_check(request);
	if (!r)
		r = check_qemu(qemu);
	return r ? r : ARGUMENTS_END;
}
