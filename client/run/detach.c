/* SPDX-License-Identifier: MIT */
/*
 * gpubroker detach: has a QEMU that runs unplug what `attach` has plugged, waits for the guest and
 * for QEMU, and then for the end of the lease. It ends no lease by itself: QEMU closes the
 * descriptors, and with the last one the lease ends.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/screen.h"
#include "client/run/progress.h"
#include "client/run/vm.h"
#include "client/common/util.h"
#include "client/host/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define UNPLUG_SECONDS 30
#define LEASE_SECONDS 15

static const char unchanged[] = "nothing was changed";

struct detach {
	const char *device; /* as given */
	struct qmp *qmp;
	struct vm vm;
	struct progress progress;
	uint64_t lease;
	bool refused; /* the guest said that it does not let go */
	bool closed;  /* QEMU has closed the monitor: it ends, or has ended */
	bool json;
};

/* ---- which ---- */

static bool names_device(const struct detach *d, const struct vm_device *device)
{
	static const char prefix[] = "iommu-group:";
	struct pci_address address;
	uint32_t group;

	if (!strcmp(d->device, "any"))
		return true;
	if (device->is_mdev)
		return !strcmp(d->device, device->name);
	if (!strncmp(d->device, prefix, strlen(prefix))) {
		const char *number = d->device + strlen(prefix);
		cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);

		return sys >= 0 && *number && !number[strspn(number, "0123456789")] &&
		       !sysfs_group_of(sys, &device->address, &group) &&
		       group == strtoul(number, NULL, 10);
	}
	return !pci_address_parse(d->device, &address) &&
	       !pci_address_compare(&address, &device->address);
}

/* Says which devices there are. */
static void say_attached(const struct detach *d, const char *what)
{
	char list[512] = "";
	size_t used = 0;

	for (size_t i = 0; i < d->vm.n_devices && used < sizeof(list) - 48; i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "",
					 d->vm.devices[i].name);
	if (used)
		cli_error("%s; it has %s; %s", what, list, unchanged);
	else
		cli_error("QEMU has nothing that 'gpubroker attach' has plugged; 'gpubroker "
			  "release LEASE' asks for a device that QEMU was started with; %s",
			  unchanged);
}

/* Finds the lease. 0, or an exit status. */
static int find_lease(struct detach *d)
{
	char what[160];
	int r = vm_look_devices(d->qmp, &d->vm);

	if (r) {
		cli_error("cannot ask QEMU what it has: %s; %s", qmp_error(d->qmp, r), unchanged);
		return EXIT_PROTOCOL;
	}
	for (size_t i = 0; i < d->vm.n_devices; i++) {
		const struct vm_device *device = &d->vm.devices[i];

		if (!names_device(d, device))
			continue;
		if (d->lease && d->lease != device->lease) {
			say_attached(d, "QEMU has several devices that were attached; name one");
			return EXIT_BAD_USAGE;
		}
		d->lease = device->lease;
	}
	if (d->lease)
		return 0;
	snprintf(what, sizeof(what), "QEMU has no device %.80s that was attached", d->device);
	say_attached(d, what);
	return EXIT_NO_DEVICE;
}

/* ---- unplugged ---- */

static void note_unplug(void *userdata, const char *event, struct json_object *data)
{
	struct detach *d = userdata;
	struct vm_device device;

	if ((!strcmp(event, "DEVICE_UNPLUG_GUEST_ERROR") ||
	     !strcmp(event, "DEVICE_UNPLUG_ERROR")) &&
	    vm_device_parse(qmp_text(data, "device"), &device) && device.lease == d->lease)
		d->refused = true;
}

/* Returns true if QEMU has the device no more: the guest has let go of it meanwhile. */
static bool is_gone(struct detach *d, const char *id)
{
	struct vm now;
	int r = vm_look_devices(d->qmp, &now);

	d->closed = r == -ECONNRESET;
	if (r)
		return d->closed;
	for (size_t i = 0; i < now.n_devices; i++)
		if (!strcmp(now.devices[i].id, id))
			return false;
	return true;
}

/* Has QEMU ask for a device. A request that is under way already is as good. */
static int ask_for(struct detach *d, const char *id)
{
	struct json_object *arguments = json_object_new_object();
	char why[256];
	int r;

	json_object_object_add(arguments, "id", json_object_new_string(id));
	r = qmp_ask(d->qmp, "device_del", arguments, QMP_SECONDS, NULL);
	if (!r || (d->closed = r == -ECONNRESET))
		return 0;
	snprintf(why, sizeof(why), "%s", qmp_error(d->qmp, r));
	if (r == QMP_REFUSED && (strstr(why, "already") || is_gone(d, id)))
		return 0;
	cli_error("QEMU cannot unplug %s: %s", id, why);
	return EXIT_SOFTWARE;
}

/* Asks for each slot once: the guest gives all functions of one up together. */
static int ask_guest(struct detach *d)
{
	for (size_t i = 0; i < d->vm.n_devices && !d->closed; i++) {
		const struct vm_device *device = &d->vm.devices[i];
		bool again = device->lease != d->lease;
		int r;

		for (size_t k = 0; k < i && *device->bus; k++)
			again = again || (d->vm.devices[k].lease == d->lease &&
					  !strcmp(d->vm.devices[k].bus, device->bus));
		r = again ? 0 : ask_for(d, device->id);
		if (r)
			return r;
	}
	return 0;
}

static size_t count_left(const struct detach *d)
{
	size_t n = 0;

	for (size_t i = 0; i < d->vm.n_devices; i++)
		n += d->vm.devices[i].lease == d->lease;
	return n;
}

/* Waits until QEMU has none of them, or has ended. 0, or an exit status. */
static int wait_unplugged(struct detach *d)
{
	const uint64_t begun = progress_now();
	int r = 0;

	progress_say(&d->progress, "waiting for the guest to let go of it");
	while (!r && !d->closed && !d->refused && progress_now() - begun < UNPLUG_SECONDS * 1000) {
		r = vm_look_devices(d->qmp, &d->vm);
		if (!r && !count_left(d))
			return 0;
		if (!r)
			r = qmp_listen(d->qmp, 200);
		d->closed = r == -ECONNRESET;
	}
	if (d->closed)
		return 0;
	progress_clear(&d->progress);
	if (r) {
		cli_error("QEMU was asked to unplug %s, and then the monitor failed: %s; lease "
			  "%" PRIu64 " ends when QEMU lets go",
			  d->device, qmp_error(d->qmp, r), d->lease);
		return EXIT_PROTOCOL;
	}
	if (d->refused)
		cli_error("the guest does not let go of %s; lease %" PRIu64 " goes on", d->device,
			  d->lease);
	else
		cli_error("the guest has not let go of %s within %d seconds; a guest that boots, "
			  "is paused, or has no hot-plug driver does not; lease %" PRIu64
			  " goes on, and ends as soon as the guest lets go",
			  d->device, UNPLUG_SECONDS, d->lease);
	return EXIT_BUSY;
}

/* ---- the lease ---- */

static int note_if_there(void *userdata, const struct gpubroker_lease *lease)
{
	return lease->id == *(const uint64_t *)userdata;
}

/* Waits until the host has it back. Returns the exit status. */
static int wait_ended(const struct cli *cli, struct detach *d)
{
	const struct timespec pause = { .tv_nsec = 200000000 };
	struct gpubroker *handle = NULL;
	int r = cli_open(cli, &handle), status;

	if (r) {
		progress_clear(&d->progress);
		return r;
	}
	progress_say(&d->progress, "waiting for the end of the lease");
	for (int i = 0; i < LEASE_SECONDS * 5; i++) {
		r = gpubroker_leases(handle, note_if_there, &d->lease);
		if (r != 1)
			break;
		nanosleep(&pause, NULL);
	}
	progress_clear(&d->progress);
	status = r && r != 1 ? cli_failed(cli, handle, r) : r ? EXIT_BUSY : 0;
	gpubroker_close(handle);
	if (status == EXIT_BUSY)
		cli_error("QEMU has %s, but lease %" PRIu64 " is not over yet; 'gpubroker leases' "
			  "shows its state",
			  d->closed ? "closed the monitor" : "unplugged it", d->lease);
	if (status)
		return status;
	if (d->json)
		printf("{\n  \"lease\":%" PRIu64 "\n}\n", d->lease);
	else if (cli_columns(stdout))
		printf("%s is %s, and the host's again.\n", d->device,
		       d->closed ? "let go of" : "unplugged");
	return cli_finish_output();
}

int cli_detach(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "qmp", required_argument, NULL, 'q' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "detach", .mode = "" };
	struct detach d = { 0 };
	const char *socket = NULL;
	int c, r;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		if (c == 'j')
			d.json = true;
		else
			socket = optarg;
	}
	if (!socket || argc - optind != 1) {
		cli_error("detach needs the socket of QEMU's monitor and one DEVICE, as in: "
			  "gpubroker detach --qmp vm.qmp 01:00.0");
		return EXIT_BAD_USAGE;
	}
	d.device = argv[optind];
	r = vm_open(socket, unchanged, &d.qmp);
	if (r)
		return r;
	qmp_on_event(d.qmp, note_unplug, &d);
	r = find_lease(&d);
	if (!r)
		r = ask_guest(&d);
	if (!r)
		r = wait_unplugged(&d);
	d.qmp = qmp_close(d.qmp);
	return r ? r : wait_ended(cli, &d);
}
