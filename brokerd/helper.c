/* SPDX-License-Identifier: MIT */
/*
 * Starting helpers and taking what the loader sends. A child must never keep a descriptor of the
 * core's but its socket and the log, and the core must never believe a count, an index or a string
 * in a record.
 */
#include "config.h"

#include "brokerd/helper.h"
#include "brokerd/log.h"
#include "client/passfd.h"
#include "client/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static void __attribute__((noreturn))
child(const char *name, int socket, enum confine_part part, uid_t uid, gid_t gid, helper_main run,
      const void *argument)
{
	int r;

	prctl(PR_SET_NAME, name);
	/*
	 * ^C on a terminal is for the core, which finishes what is at work; this ends when the core
	 * does.
	 */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	/* Everything of the core's goes; the socket moves to 3. */
	if (socket != 3 && dup3(socket, 3, O_CLOEXEC) < 0)
		_exit(71);
	syscall(SYS_close_range, 4, ~0U, 0);
	r = confine_helper(part, uid, gid);
	if (r) {
		log_error("%s: cannot be confined: %s", name, strerror(-r));
		_exit(71);
	}
	/*
	 * It ends with its socket. The kernel would not kill it with the core: that takes the core's
	 * right to, which it has not, over another user's process. One that a name service keeps waiting
	 * ends when that answers.
	 */
	_exit(run(3, argument));
}

int helper_start(struct helper *helper, const char *name, enum confine_part part, uid_t uid,
		 gid_t gid, helper_main run, const void *argument)
{
	cleanup_fd int ours = -1, theirs = -1;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return -errno;
	ours = ends[0];
	theirs = ends[1];
	helper->name = name;
	helper->pid = fork();
	if (helper->pid < 0)
		return -errno;
	if (!helper->pid)
		child(name, theirs, part, uid, gid, run, argument);
	helper->fd = TAKE_FD(ours);
	return 0;
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
