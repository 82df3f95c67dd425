/* SPDX-License-Identifier: MIT */
/*
 * gpubroker prepare: root has a free device put onto its VFIO driver now. Asks the broker, which
 * answers when that is done. It looks itself for programs that have a node of the device open,
 * which the broker does for claims alone: root may see them all.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/holders.h"
#include "client/command/json-out.h"
#include "client/command/refused.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "client/host/sysfs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_TRIES 25 /* of 100 ms: the broker's list learns of the driver by an event */

struct look {
	const char *address;
	char driver[32];
	enum gpubroker_status status;
};

static int note_looked_at(void *userdata, const struct gpubroker_device *device)
{
	struct look *look = userdata;

	if (strcmp(device->address, look->address) != 0)
		return 0;
	look->status = device->status;
	snprintf(look->driver, sizeof(look->driver), "%s", device->driver);
	return 0;
}

/* Returns true, and says it, if a program has a node of the group open. */
static bool is_open(const char *device)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_free struct group_view *view = malloc(sizeof(*view));
	struct pci_address address;
	char text[320];
	uint32_t group;

	if (sys < 0 || !view || pci_address_parse(device, &address) ||
	    sysfs_group_of(sys, &address, &group) || group == NO_GROUP ||
	    sysfs_group_read(sys, group, view) || !holders_open_text(view, text, sizeof(text)))
		return false;
	cli_error("%s is in use by the host: %s; stop that, or add --force to take it from under "
		  "it",
		  device, text);
	return true;
}

static int print_prepared(struct gpubroker *handle, const char *address)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	struct look look = { .address = address };
	struct json_object *o;

	for (int i = 0; i < LOOK_TRIES; i++) {
		if (gpubroker_list(handle, note_looked_at, &look) ||
		    look.status == GPUBROKER_VFIO_READY)
			break;
		nanosleep(&pause, NULL);
	}
	if (refused_is_json()) {
		o = json_object_new_object();
		json_object_object_add(o, "device", json_object_new_string(address));
		json_object_object_add(o, "status",
				       json_object_new_string(gpubroker_status_name(look.status)));
		json_object_object_add(o, "driver", json_out_text(look.driver));
		json_out_print(o);
	} else if (cli_columns(stdout)) {
		printf("%s is on %s until the next boot; 'gpubroker restore %s' gives it back.\n",
		       address, look.driver[0] ? look.driver : "its VFIO driver", address);
	}
	return cli_finish_output();
}

int cli_prepare(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "force", no_argument, NULL, 'f' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "prepare", .mode = "" };
	struct gpubroker *handle;
	bool force = false;
	char address[20];
	int c, r;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		force = force || c == 'f';
	}
	if (argc - optind != 1) {
		cli_error("prepare needs one DEVICE, a PCI address, as in: gpubroker prepare "
			  "01:00.0");
		return EXIT_BAD_USAGE;
	}
	if (!force && !geteuid() && is_open(argv[optind]))
		return EXIT_IN_USE;
	r = cli_open(cli, &handle);
	if (r)
		return r;
	r = gpubroker_prepare(handle, argv[optind], address);
	if (r) {
		r = cli_failed_for(cli, handle, r, argv[optind]);
		cli_print_foreign(handle);
	} else {
		r = print_prepared(handle, address);
	}
	gpubroker_close(handle);
	return r;
}
