/* SPDX-License-Identifier: MIT */
/*
 * Starting helpers, as forks of a core that is started by hand or as what systemd runs in a unit of
 * their own, and taking what the loader sends. A child must never keep a descriptor of the core's
 * but its socket and the log, and the core must never believe a count, an index or a string in a
 * record.
 */
#include "config.h"

#include "brokerd/state/devices.h"
#include "brokerd/helper/helper.h"
#include "brokerd/process/log.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sysexits.h>

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
};

const char *helper_role_name(enum helper_role role)
{
	return roles[role].name;
}

/* Everything that is open goes, but for the log and the socket, which moves to 3. */
static int keep_only(int socket)
{
	if (socket != 3 && dup3(socket, 3, O_CLOEXEC) < 0)
		return -errno;
	return syscall(SYS_close_range, 4, ~0U, 0) ? -errno : 0;
}

/* ---- as a fork of the core ---- */

static void __attribute__((noreturn))
child(enum helper_role role, int socket, uid_t uid, gid_t gid, const void *argument)
{
	int r;

	prctl(PR_SET_NAME, roles[role].process);
	if (keep_only(socket))
		_exit(71);
	/*
	 * ^C on a terminal is for the core, which finishes what is at work; this ends when the core
	 * does.
	 */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	r = confine_helper(roles[role].part, uid, gid);
	if (r) {
		log_error("%s: cannot be confined: %s", roles[role].name, strerror(-r));
		_exit(71);
	}
	/*
	 * It ends with its socket. The kernel would not kill it with the core: that takes the
	 * core's right to, which it has not, over another user's process. One that a name service
	 * keeps waiting ends when that answers.
	 */
	_exit(roles[role].run(3, argument));
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
		child(role, theirs, uid, gid, argument);
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

static int dial(const char *path)
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
	int fd = dial(path), r = fd < 0 ? fd : 0;

	if (r) {
		log_error("%s: %s: cannot reach the core there: %s", roles[role].name, path,
			  strerror(-r));
		return EX_UNAVAILABLE;
	}
	prctl(PR_SET_NAME, roles[role].process);
	r = keep_only(fd);
	if (!r)
		r = confine_own(roles[role].part);
	if (r) {
		log_error("%s: cannot be confined: %s; it is for its unit to start it, with no "
			  "privilege",
			  roles[role].name, strerror(-r));
		return EX_OSERR;
	}
	/* Last, so that the core never waits for one that is not confined yet. */
	r = helper_send(3, &hello, sizeof(hello));
	return r ? EX_UNAVAILABLE : roles[role].run(3, argument);
}

void helper_stop(struct helper *helper)
{
	helper->fd = fd_close(helper->fd);
}

int helper_send(int socket, const void *packet, size_t size)
{
	int r;

	while ((r = passfd_send(socket, packet, size, NULL, 0)) == -EAGAIN) {
		struct pollfd p = { .fd = socket, .events = POLLOUT };

		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return -errno;
	}
	return r;
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

/* ---- the loader's records ---- */

void policy_intake_done(struct policy_intake *intake)
{
	policy_done(&intake->policy);
	*intake = (struct policy_intake){ 0 };
}

static int begin(struct policy_intake *intake, const struct loader_record *record)
{
	struct policy *p = &intake->policy;

	policy_intake_done(intake);
	if (record->counts[0] > POLICY_NAMES_MAX || record->counts[1] > POLICY_FILES_MAX ||
	    record->counts[2] > POLICY_RULES_MAX || record->counts[3] > POLICY_TEXTS_MAX)
		return -EBADMSG;
	intake->names = record->counts[0];
	intake->files = record->counts[1];
	intake->rules = record->counts[2];
	intake->texts = record->counts[3];
	p->names = calloc(intake->names + 1, sizeof(*p->names));
	p->texts = calloc(intake->texts + 1, sizeof(*p->texts));
	p->files = calloc(intake->files + 1, sizeof(*p->files));
	p->rules = calloc(intake->rules + 1, sizeof(*p->rules));
	return p->names && p->texts && p->files && p->rules ? 0 : -ENOMEM;
}

int policy_take(struct policy_intake *intake, const struct loader_record *record,
		struct policy *ret_policy)
{
	struct policy *p = &intake->policy;

	switch ((enum loader_record_type)record->type) {
	case LOADER_BEGIN:
		return begin(intake, record);
	case LOADER_NAME:
		if (p->n_names >= intake->names || record->name.text[sizeof(record->name.text) - 1])
			return -EBADMSG;
		p->names[p->n_names++] = record->name;
		return 0;
	case LOADER_TEXT:
		if (p->n_texts >= intake->texts || !policy_text_valid(&record->text))
			return -EBADMSG;
		p->texts[p->n_texts++] = record->text;
		return 0;
	case LOADER_FILE:
		if (p->n_files >= intake->files || record->file.path[sizeof(record->file.path) - 1])
			return -EBADMSG;
		p->files[p->n_files++] = record->file;
		return 0;
	case LOADER_RULE:
		if (p->n_rules >= intake->rules ||
		    !policy_rule_valid(&record->rule, intake->names, intake->files, p->texts,
				       p->n_texts))
			return -EBADMSG;
		p->rules[p->n_rules++] = record->rule;
		return 0;
	case LOADER_END:
		if (!p->rules || p->n_names != intake->names || p->n_files != intake->files ||
		    p->n_rules != intake->rules || p->n_texts != intake->texts)
			return -EBADMSG;
		*ret_policy = intake->policy;
		*intake = (struct policy_intake){ 0 };
		return 1;
	case LOADER_INVALID:
		policy_intake_done(intake);
		return 2;
	}
	return -EBADMSG;
}
