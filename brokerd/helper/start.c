/* SPDX-License-Identifier: MIT */
/*
 * Starts helpers, see start.h: as forks of a core that is started by hand, or as processes that
 * systemd runs in units of their own. A helper must never keep a descriptor of the core but its
 * socket and the log.
 */
#include "config.h"

#include "brokerd/helper/start.h"
#include "brokerd/helper/ender.h"
#include "brokerd/helper/finder.h"
#include "brokerd/helper/loader.h"
#include "brokerd/helper/watcher.h"
#include "brokerd/process/confine.h"
#include "brokerd/process/log.h"
#include "brokerd/state/devices.h"
#include "brokerd/state/ender.h"
#include "brokerd/state/finding.h"
#include "brokerd/state/hooking.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

/*
 * The main function of a helper. It gets its end of the socket and the filter for after its start,
 * which it frees. Returns the exit status.
 */
typedef int (*helper_main)(int socket, struct confine_filter *settled, const void *argument);

static const struct {
	const char *name, *process;
	enum confine_part part;
	helper_main run;
	uint32_t record_size;
} roles[HELPER_ROLES] = {
	[HELPER_WATCHER] = { "watcher", "gpubroker-watch", CONFINE_WATCHER, watcher_run,
			     sizeof(struct watcher_record) },
	[HELPER_LOADER] = { "loader", "gpubroker-load", CONFINE_LOADER, loader_run,
			    sizeof(struct loader_record) },
	[HELPER_FINDER] = { "finder", "gpubroker-find", CONFINE_FINDER, finder_run,
			    sizeof(struct finder_answer) },
	[HELPER_ENDER] = { "ender", "gpubroker-end", CONFINE_ENDER, ender_run,
			   sizeof(struct ender_answer) },
	/* A program of its own, never started here: see brokerd/hooks/. */
	[HELPER_HOOKS] = { .name = "runner of hooks", .record_size = sizeof(struct hook_answer) },
};

const char *helper_role_name(enum helper_role role)
{
	return roles[role].name;
}

/* Closes all descriptors but the standard ones and the socket, which becomes 3. */
static int keep_only_socket(int socket)
{
	if (socket != 3 && dup3(socket, 3, O_CLOEXEC) < 0)
		return -errno;
	return syscall(SYS_close_range, 4, ~0U, 0) ? -errno : 0;
}

/* ---- as a fork of the core ---- */

static void __attribute__((noreturn))
run_fork(enum helper_role role, int socket, uid_t uid, gid_t gid, const void *argument)
{
	struct confine_filter *settled = NULL;
	int r;

	prctl(PR_SET_NAME, roles[role].process);
	if (keep_only_socket(socket))
		_exit(EX_OSERR);
	/*
	 * ^C on a terminal is for the core, which waits for its workers. The helper ends when the
	 * core does.
	 */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	r = confine_helper(roles[role].part, uid, gid, &settled);
	if (r) {
		log_error("%s: cannot be confined: %s", roles[role].name, strerror(-r));
		_exit(EX_OSERR);
	}
	/*
	 * The helper ends when its socket is closed. PR_SET_PDEATHSIG would not kill it with the
	 * core, which may not signal another user's process. A helper that waits for a name service
	 * ends when the name service answers.
	 */
	_exit(roles[role].run(3, settled, argument));
}

int helper_start(struct helper *helper, enum helper_role role, uid_t uid, gid_t gid,
		 const void *argument)
{
	cleanup_fd int ours = -1, theirs = -1;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -errno;
	ours = ends[0];
	theirs = ends[1];
	helper->name = roles[role].name;
	helper->pid = fork();
	if (helper->pid < 0)
		return -errno;
	if (!helper->pid)
		run_fork(role, theirs, uid, gid, argument);
	helper->fd = TAKE_FD(ours);
	return 0;
}

/* ---- as a unit's process ---- */

struct helper_hello helper_hello(enum helper_role role)
{
	return (struct helper_hello){
		.version = HELPER_VERSION,
		.role = role,
		.record_size = roles[role].record_size,
	};
}

bool helper_hello_valid(const struct helper_hello *hello)
{
	return hello->version == HELPER_VERSION && hello->role < HELPER_ROLES &&
	       hello->record_size == roles[hello->role].record_size && !hello->reserved;
}

static int connect_to_core(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = -1;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return -errno;
	return TAKE_FD(fd);
}

int helper_run(enum helper_role role, const char *path, const void *argument)
{
	const struct helper_hello hello = helper_hello(role);
	struct confine_filter *settled = NULL;
	int fd = connect_to_core(path), r = fd < 0 ? fd : 0;

	if (r) {
		log_error("%s: %s: cannot reach the core there: %s", roles[role].name, path,
			  strerror(-r));
		return EX_UNAVAILABLE;
	}
	prctl(PR_SET_NAME, roles[role].process);
	r = keep_only_socket(fd);
	if (!r)
		r = confine_own(roles[role].part, &settled);
	if (r) {
		log_error("%s: cannot be confined: %s; only its unit may start it, without "
			  "privilege",
			  roles[role].name, strerror(-r));
		return EX_OSERR;
	}
	/* Sent last, so that the core never reads from a helper that is not confined yet. */
	r = helper_send(3, &hello, sizeof(hello));
	return r ? EX_UNAVAILABLE : roles[role].run(3, settled, argument);
}

int helper_account(const char *name, uid_t *ret_uid, gid_t *ret_gid)
{
	cleanup_file FILE *file = fopen("/etc/passwd", "re");
	const struct passwd *entry;

	if (!file)
		return -errno;
	while ((entry = fgetpwent(file))) {
		if (strcmp(entry->pw_name, name) != 0)
			continue;
		*ret_uid = entry->pw_uid;
		*ret_gid = entry->pw_gid;
		return 0;
	}
	return -ENOENT;
}
