/* SPDX-License-Identifier: MIT */
/*
 * gpubroker run: claims devices, then becomes COMMAND, whose own opens get the leased descriptors.
 *
 * The process that claims is the one that becomes COMMAND, since a raised memory-lock limit belongs
 * to the claimer, and since COMMAND then is the process that was started: its pid, its parent, its
 * terminal, its exit status. Nothing of ours stands between it and its signals. Where Yama does not
 * let that be served (reach.h), a child becomes COMMAND, which inherits the limit, and
 * supervise_start() returns in that child alone. After it this file does nothing but exec.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/run/claiming.h"
#include "client/run/container.h"
#include "client/run/elsewhere.h"
#include "client/run/hint.h"
#include "client/run/memlock.h"
#include "client/run/notice.h"
#include "client/run/options.h"
#include "client/run/podman.h"
#include "client/run/qemu-run.h"
#include "client/run/reach.h"
#include "client/run/steps.h"
#include "client/run/supervise.h"
#include "client/run/unclaimed.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Checks that COMMAND can be found, so that a typing mistake does not take a GPU from the host
 * first. Follows execvp(): 0, EXIT_NOT_FOUND or EXIT_CANNOT_EXEC.
 */
static int check_command(const char *command)
{
	const char *path = getenv("PATH");
	bool denied = false;

	if (strchr(command, '/')) {
		struct stat st;

		if (!stat(command, &st) && !S_ISREG(st.st_mode))
			return EXIT_CANNOT_EXEC;
		if (!access(command, X_OK))
			return 0;
		return errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_EXEC;
	}
	for (const char *p = path ? path : "/bin:/usr/bin", *end; *command; p = end + 1) {
		char candidate[4096];
		struct stat st;

		end = strchrnul(p, ':');
		if (snprintf(candidate, sizeof(candidate), "%.*s%s%s", (int)(end - p), p,
			     end > p ? "/" : "", command) < (int)sizeof(candidate) &&
		    !stat(candidate, &st) && S_ISREG(st.st_mode)) {
			if (!access(candidate, X_OK))
				return 0;
			denied = true;
		}
		if (!*end)
			break;
	}
	return denied ? EXIT_CANNOT_EXEC : EXIT_NOT_FOUND;
}

/* Puts what `of` returns for each grant into an environment variable, in the order of --gpu. */
static int put_variable(const struct gpubroker_claim *claim, const char *variable,
			const char *(*of)(const struct gpubroker_grant *grant))
{
	char list[REQUEST_DEVICES_MAX * 40] = "";
	size_t used = 0;

	for (size_t i = 0; i < gpubroker_claim_groups(claim); i++) {
		const char *text = of(gpubroker_claim_grant(claim, i));

		if (*text)
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
						 used ? " " : "", text);
	}
	return (used ? setenv(variable, list, 1) : unsetenv(variable)) ? -errno : 0;
}

static const char *mdev_of(const struct gpubroker_grant *grant)
{
	return grant->uuid;
}

/* The numbers of the leases, by which the tree of the command is known later. */
static int tell_leases(const struct gpubroker_claim *claim)
{
	char list[REQUEST_DEVICES_MAX * 21] = "";
	size_t used = 0;

	for (size_t i = 0; i < gpubroker_claim_groups(claim); i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%" PRIu64,
					 used ? "," : "", gpubroker_claim_grant(claim, i)->lease);
	return setenv("GPUBROKER_LEASE", list, 1) ? -errno : 0;
}

/* The virtual function of a vGPU. */
static const char *vgpu_of(const struct gpubroker_grant *grant)
{
	return grant->parent[0] && !grant->uuid[0] ? grant->address : "";
}

/*
 * Puts the parts that were made into the environment, since a VMM needs the directory or address of
 * each, which are not known before.
 */
static int tell_parts(const struct gpubroker_claim *claim)
{
	int r = put_variable(claim, "GPUBROKER_MDEV", mdev_of);

	if (!r)
		r = put_variable(claim, "GPUBROKER_VGPU", vgpu_of);
	return r ? r : tell_leases(claim);
}

/*
 * Puts into the environment whether each group can be migrated, and has the broker list it. A
 * device that cannot be asked is no reason to fail.
 */
static int tell_migration(struct gpubroker *handle, const struct gpubroker_claim *claim)
{
	static const char *const words[] = {
		[GPUBROKER_MIGRATION_UNKNOWN] = "unknown",
		[GPUBROKER_MIGRATION_YES] = "yes",
		[GPUBROKER_MIGRATION_NO] = "no",
	};
	char list[REQUEST_DEVICES_MAX * 8] = "";
	size_t used = 0;

	for (size_t i = 0; i < gpubroker_claim_groups(claim); i++) {
		enum gpubroker_migration migration = GPUBROKER_MIGRATION_UNKNOWN;

		gpubroker_claim_migration(handle, claim, i, &migration);
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", used ? " " : "",
					 words[migration]);
	}
	return setenv("GPUBROKER_MIGRATION", list, 1) ? -errno : 0;
}

static int lend_and_exec(struct gpubroker_claim *claim, struct notice *notice,
			 const struct qemu_run *qemu, enum supervise_place place, char **argv)
{
	const struct supervise_notices notices = notice_calls(notice);
	struct supervise_file files[REQUEST_DEVICES_MAX + REQUEST_CDEVS_MAX + 1];
	char paths[REQUEST_DEVICES_MAX][32], whats[REQUEST_DEVICES_MAX][64];
	const char *failed = NULL, *leases = getenv("GPUBROKER_LEASE");
	char mark[64];
	size_t n = 0;
	int r;

	for (size_t i = 0; i < gpubroker_claim_groups(claim); i++) {
		const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, i);

		snprintf(paths[i], sizeof(paths[i]), "/dev/vfio/%" PRIu32, grant->iommu_group);
		snprintf(whats[i], sizeof(whats[i]), "%s (IOMMU group %" PRIu32 ")",
			 grant->uuid[0] ? grant->uuid : grant->address, grant->iommu_group);
		if (gpubroker_claim_fd(claim, i) >= 0)
			files[n++] = (struct supervise_file){
				.path = paths[i],
				.fd = gpubroker_claim_fd(claim, i),
				.what = whats[i],
				.lease = (unsigned)i + 1,
				.given = qemu->wanted,
			};
	}
	for (size_t i = 0; i < gpubroker_claim_cdevs(claim) && i < REQUEST_CDEVS_MAX; i++) {
		const struct gpubroker_cdev *cdev = gpubroker_claim_cdev(claim, i);

		files[n++] = (struct supervise_file){
			.path = cdev->node,
			.fd = gpubroker_claim_cdev_fd(claim, i),
			.what = whats[cdev->group],
			.lease = (unsigned)cdev->group + 1,
			.given = qemu->wanted,
		};
	}
	if (gpubroker_claim_iommufd(claim) >= 0)
		files[n++] = (struct supervise_file){
			.path = "/dev/iommu",
			.fd = gpubroker_claim_iommufd(claim),
			.what = "/dev/iommu",
		};
	/* The first of them is in the same list as the others. */
	snprintf(mark, sizeof(mark), "GPUBROKER_LEASE=%.*s", leases ? (int)strcspn(leases, ",") : 0,
		 leases ? leases : "");
	r = supervise_start(files, n, mark, notice->handle ? &notices : NULL, place, &failed);
	notice_done(notice);
	if (r) {
		cli_error("cannot %s: %s; the device goes back",
			  failed ? failed : "start the supervisor", strerror(-r));
		return EXIT_SOFTWARE;
	}
	if (!qemu->iommufd) /* with --iommufd the command uses them, and exec closes the others */
		gpubroker_claim_free(claim);
	execvp(argv[0], argv);
	r = errno;
	cli_error("cannot execute %s: %s; the device goes back", argv[0], strerror(r));
	return r == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXEC;
}

/* COMMAND, argv[0], cannot be run. */
static void say_not_run(int status, char **argv)
{
	char hint[HINT_TEXT] = "";

	if (status != EXIT_NOT_FOUND)
		cli_error("%s: cannot be executed; nothing was claimed", argv[0]);
	else if (hint_command(argv[0], argv[-1], hint))
		cli_error("%s: no such command; nothing was claimed; %s", argv[0], hint);
	else
		cli_error("%s: no such command; nothing was claimed", argv[0]);
}

/*
 * Finds out how the command can be served. 0, or an exit status after it was said why it cannot.
 * With --iommufd QEMU needs no supervisor: it inherits its descriptors.
 */
static int find_place(const struct qemu_run *qemu, enum supervise_place *ret_place)
{
	const int scope = reach_scope();

	if (reach_decide(scope, reach_capable(), ret_place) || qemu->iommufd)
		return 0;
	cli_error("kernel.yama.ptrace_scope is %d, so gpubroker cannot see which files COMMAND "
		  "opens, and COMMAND would get no device; nothing was claimed; %s",
		  scope,
		  scope == 2 ? "the administrator can set it to 1, or QEMU take the device by "
			       "--iommufd"
			     : "a host that starts with 1 in its place can lend, or QEMU can take "
			       "the device by --iommufd");
	return EXIT_KERNEL;
}

/*
 * All that can be wrong with the command before anything is claimed. 0, or an exit status after the
 * reason was printed.
 */
static int foresee_run(struct qemu_run *qemu, const struct request *request, char **argv,
		       enum supervise_place *ret_place)
{
	int r = check_command(argv[0]);

	if (r) {
		say_not_run(r, argv);
		return r;
	}
	if (geteuid() && hint_privilege(argv[0])) {
		cli_error("%s cannot change the user below 'gpubroker run', so it would fail; "
			  "nothing was claimed; leave it out: what needs the device needs no root",
			  hint_privilege(argv[0]));
		return EXIT_CANNOT_EXEC;
	}
	r = elsewhere_check(argv);
	if (!r)
		r = find_place(qemu, ret_place);
	if (!r)
		r = qemu_run_foresee(qemu, request, argv);
	if (!r)
		podman_prepare(argv);
	return r;
}

/* Says what may keep the command from using what it got. */
static void warn_of_command(const struct qemu_run *qemu, const struct gpubroker_claim *claim,
			    char **argv)
{
	memlock_warn(claim, argv);
	unclaimed_warn(claim, argv);
	if (!qemu->iommufd && gpubroker_claim_fd(claim, 0) >= 0 && !gpubroker_claim_cdevs(claim))
		container_warn();
}

int cli_run(const struct cli *cli, int argc, char **argv)
{
	struct gpubroker_claim *claim = NULL;
	struct gpubroker *handle = NULL;
	struct qemu_run qemu = { 0 };
	struct request request = { 0 };
	struct progress progress = { 0 };
	enum supervise_place place;
	struct notice notice;
	int r;

	r = options_parse(argc, argv, &request, &qemu);
	if (r != ARGUMENTS_END)
		goto out;
	argv += optind;
	r = foresee_run(&qemu, &request, argv, &place);
	if (r)
		goto out;
	r = cli_open(cli, &handle);
	if (r)
		goto out;
	r = claiming_run(cli, handle, &request, &progress, &claim);
	if (r)
		goto out;
	progress_granted(&progress, handle, claim);
	r = tell_migration(handle, claim);
	if (notice_begin(&notice, handle, claim))
		handle = NULL;
	handle = gpubroker_close(handle);
	warn_of_command(&qemu, claim, argv);
	if (!r)
		r = tell_parts(claim);
	if (r) {
		cli_error("cannot put the leased devices into the environment: %s; the device "
			  "goes back",
			  strerror(-r));
		r = EXIT_SOFTWARE;
		goto out;
	}
	r = qemu_run_inherit(&qemu, claim);
	if (!r)
		r = qemu_run_command(&qemu, claim, &argv);
	if (!r)
		steps_granted(claim);
	/*
	 * On success this does not return; after a failure, the process is under the filter and
	 * only exits.
	 */
	if (!r)
		return steps_failed(lend_and_exec(claim, &notice, &qemu, place, argv));
out:
	steps_failed(r);
	qemu_run_done(&qemu);
	gpubroker_close(handle);
	gpubroker_claim_free(claim);
	return r;
}
