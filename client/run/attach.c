/* SPDX-License-Identifier: MIT */
/*
 * gpubroker attach: claims a device for a QEMU that runs, hands the descriptors over its monitor,
 * and plugs the device behind a free root port. All that can be known before is asked before the
 * claim. It must leave nothing behind when a step fails: no descriptor and no device in QEMU, and
 * no lease, as far as QEMU answers.
 *
 * By iommufd where the kernel and QEMU have it, else by the group where a supervisor can serve
 * that. The steps with QEMU are in plug.c.
 *
 * A QEMU serves one client of its monitor at a time, so a claim that may wait for hours is made
 * without a connection, and what was seen before is looked at again after it.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/arguments.h"
#include "client/command/screen.h"
#include "client/run/claiming.h"
#include "client/run/inbox.h"
#include "client/run/memlock.h"
#include "client/run/plug.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#define LOOK_SECONDS 60
#define GUEST_SECONDS 20
#define GIB (1ULL << 30)

static const char nothing[] = "nothing was claimed";

/* ---- before the claim ---- */

/*
 * Looks for a supervisor that lets QEMU open a group. 0: a->lender is a socket; -ESRCH: there is
 * none; EXIT_BUSY: there is one, and it was said that it serves no one more.
 */
static int find_lender(struct attach *a)
{
	a->lender = inbox_connect(qmp_pid(a->qmp));
	if (a->lender >= 0)
		return 0;
	if (a->lender != -EBUSY && a->lender != -ETIMEDOUT)
		return -ESRCH;
	progress_clear(&a->progress);
	cli_error("%s; %s",
		  a->lender == -EBUSY
			  ? "another attach to this QEMU is under way"
			  : "the supervisor of the 'gpubroker run' that started this QEMU does not "
			    "answer",
		  a->end);
	return EXIT_BUSY;
}

/*
 * Finds out how QEMU can be given the device. 0, or an exit status after it was said that it
 * cannot.
 */
static int find_way(struct attach *a)
{
	const bool kernel = !access("/dev/iommu", F_OK);
	int r;

	if (kernel && a->vm.has_iommufd)
		return 0;
	r = find_lender(a);
	if (r != -ESRCH)
		return r;
	cli_error(
		"%s, so a QEMU that runs can be given a device only if 'gpubroker run' has started "
		"it; this one was started by itself: give it the device when it starts: gpubroker "
		"run --qemu; %s",
		kernel ? "this QEMU has no iommufd (9.0 and later do)"
		       : "this kernel has no /dev/iommu (iommufd)",
		a->end);
	return EXIT_IN_USE;
}

static int check_port(struct attach *a)
{
	struct vm *vm = &a->vm;

	for (size_t i = 0; a->port && i < vm->n_ports; i++) {
		if (strcmp(vm->ports[i], a->port))
			continue;
		memcpy(vm->ports[i], vm->ports[0], VM_ID);
		snprintf(vm->ports[0], VM_ID, "%.79s", a->port);
		return 0;
	}
	if (!a->port && vm->n_ports)
		return 0;
	if (a->port)
		cli_error("QEMU has no free root port '%s'%s%s; %s", a->port,
			  vm->n_ports ? "; one that it has: " : "", vm->n_ports ? vm->ports[0] : "",
			  a->end);
	else if (vm->n_full)
		cli_error("each of QEMU's %zu root ports has a device; detach one, or start QEMU "
			  "with more of them: -device pcie-root-port,id=spare1,chassis=101; %s",
			  vm->n_full, a->end);
	else
		cli_error("this QEMU has no PCI Express root port with an id, into which a device "
			  "could be plugged; start it with -machine q35 and one for each device: "
			  "-device pcie-root-port,id=spare1,chassis=101; %s",
			  a->end);
	return EXIT_IN_USE;
}

static int check_attached(const struct attach *a)
{
	struct pci_address address;

	if (pci_address_parse(a->device, &address))
		return 0;
	for (size_t i = 0; i < a->vm.n_devices; i++) {
		const struct vm_device *device = &a->vm.devices[i];

		if (device->is_mdev || pci_address_compare(&device->address, &address))
			continue;
		cli_error("this QEMU has %s already, by lease %" PRIu64 ", as its device %s; %s",
			  device->name, device->lease, device->id, a->end);
		return EXIT_BUSY;
	}
	return 0;
}

static bool names_qemu(pid_t pid)
{
	char path[64], name[32] = "";
	cleanup_file FILE *f = NULL;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = pid > 0 ? fopen(path, "re") : NULL;
	return f && fgets(name, sizeof(name), f) &&
	       (!strncmp(name, "qemu", 4) || !strncmp(name, "kvm", 3));
}

/*
 * The kernel counts what is pinned against the limit of the process that has it pinned, which is
 * QEMU's own, set when it started. Memory that is pinned for another device through the same
 * iommufd or container is not pinned again. A socket that another process has made, as libvirt
 * does, says nothing about QEMU.
 */
static int check_memory(const struct attach *a)
{
	uint64_t limit, pinned, needs;
	char has[CLI_SIZE_TEXT], guest[CLI_SIZE_TEXT], grants[CLI_SIZE_TEXT];

	if (!names_qemu(qmp_pid(a->qmp)) || memlock_of_process(qmp_pid(a->qmp), &limit, &pinned) ||
	    ((a->vm.iommufd[0] || a->lender >= 0) && pinned >= a->vm.memory))
		return 0;
	if (__builtin_add_overflow(a->vm.memory, pinned, &needs) || limit >= needs)
		return 0;
	cli_error("QEMU (pid %d) may lock only %s of memory, and a device needs all %s of its "
		  "guest locked; the limit of a process that runs stays, so start it with one of "
		  "%s: below 'gpubroker run' by a rule with memlock, or by a line in "
		  "/etc/security/limits.d; %s",
		  (int)qmp_pid(a->qmp), cli_size_text(limit, has),
		  cli_size_text(a->vm.memory, guest),
		  cli_size_text((needs + 2 * GIB - 1) / GIB * GIB, grants), a->end);
	return EXIT_POLICY;
}

static int foresee(struct attach *a)
{
	struct json_object *name;
	int r;

	qmp_limit(a->qmp, LOOK_SECONDS);
	r = vm_look(a->qmp, &a->vm);

	if (r) {
		cli_error("cannot ask QEMU what it has: %s; %s", qmp_error(a->qmp, r), a->end);
		return EXIT_PROTOCOL;
	}
	/* One that was left by an attach that was killed would keep its lease for good. */
	name = json_object_new_object();
	json_object_object_add(name, "fdname", json_object_new_string(VM_FD));
	r = qmp_ask(a->qmp, "closefd", name, QMP_SECONDS, NULL);
	if (r < 0) {
		cli_error("the monitor: %s; %s", qmp_error(a->qmp, r), a->end);
		return EXIT_PROTOCOL;
	}
	qmp_limit(a->qmp, 0);
	r = find_way(a);
	if (!r)
		r = check_attached(a);
	if (!r)
		r = check_port(a);
	return r ? r : check_memory(a);
}

/* Connects to QEMU, and checks all that can be known of it. */
static int look(struct attach *a)
{
	int r = vm_open(a->socket, a->end, &a->qmp);

	return r ? r : foresee(a);
}

static void look_away(struct attach *a)
{
	a->qmp = qmp_close(a->qmp);
	a->lender = fd_close(a->lender);
}

/* ---- the guest ---- */

static const char *lent_name(const struct attach *a)
{
	return *a->grant->uuid ? a->grant->uuid : screen_address(a->grant->address);
}

static void say_outcome(const struct attach *a, bool used, int r)
{
	if (r)
		cli_error("%s is attached, but the monitor does not tell what the guest does: %s",
			  lent_name(a), qmp_error(a->qmp, r));
	else if (!a->vm.runs)
		cli_error("%s is attached; the guest is paused, and finds it when it goes on",
			  lent_name(a));
	else if (!used)
		cli_error("%s is attached; the guest has not begun to use it within %d seconds: it "
			  "does when it has a driver for it, can hot-plug (Linux: pciehp or "
			  "acpiphp), and the port keeps address space for it "
			  "(pref64-reserve=)",
			  lent_name(a), GUEST_SECONDS);
}

static void print_attached(struct attach *a, bool used)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "lease", json_object_new_int64((int64_t)a->grant->lease));
	json_object_object_add(object, "devices", json_object_get(a->plugged));
	json_object_object_add(object, "used", json_object_new_boolean(used));
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
							    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}

/* Waits until the guest uses the device, and says what is known. */
static int tell_guest(struct attach *a, struct gpubroker *handle, bool json)
{
	bool used = false;
	int r = 0;

	progress_say(&a->progress, "waiting for the guest");
	qmp_limit(a->qmp, GUEST_SECONDS + QMP_SECONDS);
	for (int i = 0; a->vm.runs && !r && !used && i < GUEST_SECONDS * 5; i++) {
		r = vm_is_used(a->qmp, a->first, &used);
		if (!r && !used)
			r = qmp_listen(a->qmp, 200);
	}
	progress_clear(&a->progress);
	/* One that has plugged nothing says so too; the broker sees that it has let go. */
	for (int i = 0; !used && i < 20 && plug_is_leased(handle, a->grant->lease); i++)
		poll(NULL, 0, 100);
	if (!plug_is_leased(handle, a->grant->lease)) {
		cli_error("QEMU has plugged %s and let go of it since; the device goes back to the "
			  "host",
			  lent_name(a));
		return EXIT_SOFTWARE;
	}
	say_outcome(a, used, r);
	if (json)
		print_attached(a, used);
	else if (cli_columns(stdout))
		printf("%s is attached behind %s (lease %" PRIu64 ")%s.\n", lent_name(a),
		       a->first_port, a->grant->lease, used ? ", and the guest uses it" : "");
	return cli_finish_output();
}

/* ---- the claim ---- */

/* Without device nodes, as of an mdev whose driver has none, only the group is left. */
static int choose_way(struct attach *a)
{
	int r = a->lender >= 0 || gpubroker_claim_cdevs(a->claim) ? 0 : find_lender(a);

	if (r != -ESRCH)
		return r;
	cli_error("the kernel has no device node for %s (iommufd), so only a QEMU that 'gpubroker "
		  "run' has started can be given it",
		  lent_name(a));
	return EXIT_IN_USE;
}

/* Signals wait, so that nothing is left half done. */
static int use_claim(struct attach *a, struct gpubroker *handle, bool waited)
{
	sigset_t before;
	int r = 0;

	a->grant = gpubroker_claim_grant(a->claim, 0);
	a->end = "the device is not used";
	sigprocmask(SIG_BLOCK, &a->signals, &before);
	progress_granted(&a->progress, handle, a->claim);
	if (waited) {
		progress_clear(&a->progress);
		r = look(a);
	}
	if (!r)
		r = choose_way(a);
	if (!r)
		r = plug_all(a);
	if (r)
		plug_undo(a, handle);
	gpubroker_claim_drop_groups(a->claim);
	gpubroker_claim_drop_cdevs(a->claim); /* those that QEMU has are the lease */
	a->lender = fd_close(a->lender);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return r;
}

static int attach_device(const struct cli *cli, struct attach *a, struct request *request,
			 bool json)
{
	struct gpubroker *handle = NULL;
	int r = cli_open(cli, &handle);

	if (r)
		return r;
	if (request->wait)
		look_away(a);
	r = claiming_run(cli, handle, request, &a->progress, &a->claim);
	if (!r)
		r = use_claim(a, handle, request->wait);
	if (!r)
		r = tell_guest(a, handle, json);
	gpubroker_close(handle);
	return r;
}

static void signals_init(sigset_t *signals)
{
	static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction now;

	sigemptyset(signals);
	for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
		/* One that is ignored, as by nohup, would stay pending when it is blocked. */
		if (!sigaction(ending[i], NULL, &now) && now.sa_handler != SIG_IGN)
			sigaddset(signals, ending[i]);
}

/* ---- the command ---- */

/* Takes the options. ARGUMENTS_END, or an exit status. */
static int attach_options(int argc, char **argv, struct attach *a, struct request *request,
			  bool *ret_json)
{
	static const struct option options[] = {
		{ "qmp", required_argument, NULL, 'q' },
		{ "port", required_argument, NULL, 'p' },
		{ "profile", required_argument, NULL, 'P' },
		{ "wait", optional_argument, NULL, 'w' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "attach", .mode = "" };
	int c;

	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END)
		switch (c) {
		case 'q':
			a->socket = optarg;
			break;
		case 'p':
			a->port = optarg;
			break;
		case 'P':
			request->devices[0].profile = optarg;
			break;
		case 'w':
			request->wait = true;
			if (!optarg || cli_parse_time(optarg, &request->wait_seconds))
				break;
			cli_error("--wait=%s: that is no time; give it as 30s, 10m or 1h30m",
				  optarg);
			return EXIT_BAD_USAGE;
		case 'j':
			*ret_json = true;
			break;
		default:
			return arguments.status;
		}
	if (a->socket && argc - optind == 1)
		return ARGUMENTS_END;
	cli_error("attach needs the socket of QEMU's monitor and one DEVICE, as in: "
		  "gpubroker attach --qmp vm.qmp 01:00.0");
	return EXIT_BAD_USAGE;
}

int cli_attach(const struct cli *cli, int argc, char **argv)
{
	struct request request = { .n_devices = 1 };
	struct attach a = { .end = nothing, .lender = -1 };
	bool json = false;
	int r = attach_options(argc, argv, &a, &request, &json);

	if (r != ARGUMENTS_END)
		return r;
	a.device = request.devices[0].name = argv[optind];
	a.plugged = json_object_new_array();
	r = request_check(&request);
	if (!r) {
		signals_init(&a.signals);
		r = look(&a);
	}
	if (!r)
		r = attach_device(cli, &a, &request, json);
	gpubroker_claim_free(a.claim);
	look_away(&a);
	json_object_put(a.plugged);
	return r;
}
