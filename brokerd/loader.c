/* SPDX-License-Identifier: MIT */
/*
 * The loader: reads the policy files, asks NSS who is meant, and sends the core numbers. Runs as
 * the helpers' account, so every policy file must be readable by all (there are no secrets in one).
 * It must never send a policy with a mistake in it, nor take a file that somebody other than root
 * could have written.
 */
#include "config.h"

#include "brokerd/helper.h"
#include "brokerd/log.h"
#include "client/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#define POLICY_SIZE_MAX (64 << 20)

struct source {
	char name[256];
	const char *directory;
};

struct loading {
	struct source *sources;
	size_t n_sources;
	int mistakes; /* in files as such; the parser counts those in the text */
};

static int ask_user(void *userdata, const char *name, uid_t *ret_uid)
{
	const struct passwd *entry;

	(void)userdata;
	errno = 0;
	entry = getpwnam(name);
	if (!entry)
		return errno && errno != ENOENT && errno != ESRCH ? -errno : 1;
	*ret_uid = entry->pw_uid;
	return 0;
}

static int ask_group(void *userdata, const char *name, gid_t *ret_gid)
{
	const struct group *entry;

	(void)userdata;
	errno = 0;
	entry = getgrnam(name);
	if (!entry)
		return errno && errno != ENOENT && errno != ESRCH ? -errno : 1;
	*ret_gid = entry->gr_gid;
	return 0;
}

static void tell_finding(void *userdata, const struct policy_finding *f)
{
	(void)userdata;
	log_line(f->severity == POLICY_MISTAKE ? LOG_ERROR : LOG_WARNING, "%s:%u:%u: %s", f->path,
		 (unsigned)f->line, (unsigned)f->column, f->text);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct source *)a)->name, ((const struct source *)b)->name);
}

static bool is_masked(const struct loading *loading, const char *name)
{
	for (size_t i = 0; i < loading->n_sources; i++)
		if (!strcmp(loading->sources[i].name, name))
			return true;
	return false;
}

/* Adds a directory's *.policy files but those whose namesake is in an earlier one. */
static int add_directory(struct loading *loading, const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		if (errno == ENOENT)
			return 0;
		r = -errno;
		log_error(
			"%s: cannot be read: %s; the policy's directories must be readable by all",
			path, strerror(errno));
		loading->mistakes++;
		return r == -ENOMEM ? r : 0;
	}
	while (!r && (entry = readdir(dir))) {
		size_t n = strlen(entry->d_name);
		struct source *sources;

		if (entry->d_name[0] == '.' || n < 8 ||
		    strcmp(entry->d_name + n - 7, ".policy") != 0 ||
		    is_masked(loading, entry->d_name))
			continue;
		sources = reallocarray(loading->sources, loading->n_sources + 1, sizeof(*sources));
		if (!sources) {
			r = -ENOMEM;
			break;
		}
		loading->sources = sources;
		strcpy(sources[loading->n_sources].name, entry->d_name);
		sources[loading->n_sources++].directory = path;
	}
	closedir(dir);
	return r;
}

/* Why a file may not be taken, or NULL. */
static const char *unfit(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return "is not a regular file";
	if (st->st_uid != 0)
		return "does not belong to root, so it could grant anything to anybody; chown it";
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return "can be written by others than root; chmod go-w it";
	if (st->st_size > POLICY_SIZE_MAX)
		return "is larger than 64 MiB";
	return NULL;
}

/* Reads a file whole through one descriptor, so that what was checked is what was read. */
static int read_file(int fd, char **ret_text, size_t *ret_len)
{
	cleanup_free char *text = NULL;
	size_t len = 0, room = 0;

	for (;;) {
		ssize_t n;

		if (len == room) {
			char *more;

			room = room ? room * 2 : 65536;
			if (room > 2UL * POLICY_SIZE_MAX)
				return -EFBIG;
			more = realloc(text, room);
			if (!more)
				return -ENOMEM;
			text = more;
		}
		n = read(fd, text + len, room - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		len += (size_t)n;
	}
	*ret_text = TAKE_PTR(text);
	*ret_len = len;
	return 0;
}

static int load_file(struct loading *loading, struct policy_parser *parser,
		     const struct source *source)
{
	cleanup_free char *path = NULL, *text = NULL;
	cleanup_fd int fd = -1;
	const char *why;
	struct stat st;
	size_t len = 0;
	int r;

	if (asprintf(&path, "%s/%s", source->directory, source->name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st)) {
		/* A link to /dev/null is how a file of the package is masked. */
		if (errno == ELOOP) {
			char target[16] = "";

			if (readlink(path, target, sizeof(target) - 1) == 9 &&
			    !strcmp(target, "/dev/null"))
				return 0;
			errno = ELOOP;
		}
		log_error(
			"%s: %s", path,
			errno == ELOOP
				? "is a symbolic link; a policy file must be a file of its own (or a "
				  "link to /dev/null, to mask its namesake)"
			: errno == EACCES
				? "cannot be read by the loader, which is not root; chmod a+r it"
				: strerror(errno));
		loading->mistakes++;
		return 0;
	}
	why = unfit(&st);
	if (why) {
		log_error("%s: %s", path, why);
		loading->mistakes++;
		return 0;
	}
	r = read_file(fd, &text, &len);
	if (r)
		return r;
	return policy_parser_file(parser, path, text, len);
}

/* 0 with a policy; the number of mistakes; or -errno. */
static int load(const struct loader_options *options, struct policy *ret_policy)
{
	const struct policy_parser_ops ops = {
		.user = ask_user,
		.group = ask_group,
		.found = tell_finding,
	};
	struct loading loading = { 0 };
	struct policy policy = { 0 };
	struct policy_parser *parser;
	int r = policy_parser_new(&ops, &parser);

	if (r)
		return r;
	for (size_t i = 0; !r && i < options->n_directories; i++)
		r = add_directory(&loading, options->directories[i]);
	if (loading.n_sources)
		qsort(loading.sources, loading.n_sources, sizeof(*loading.sources), by_name);
	for (size_t i = 0; !r && i < loading.n_sources; i++)
		r = load_file(&loading, parser, &loading.sources[i]);
	if (!r)
		r = policy_parser_finish(parser, &policy);
	if (r >= 0)
		r += loading.mistakes;
	if (r)
		policy_done(&policy);
	else
		*ret_policy = policy;
	policy_parser_free(parser);
	free(loading.sources);
	return r;
}

static int send_policy(int socket, const struct policy *policy)
{
	struct loader_record record = {
		.type = LOADER_BEGIN,
		.counts = { policy->n_names, policy->n_files, policy->n_rules },
	};
	int r = helper_send(socket, &record, sizeof(record));

	memset(&record, 0, sizeof(record));
	record.type = LOADER_NAME;
	for (size_t i = 0; !r && i < policy->n_names; i++) {
		record.name = policy->names[i];
		r = helper_send(socket, &record, sizeof(record));
	}
	record.type = LOADER_FILE;
	for (size_t i = 0; !r && i < policy->n_files; i++) {
		record.file = policy->files[i];
		r = helper_send(socket, &record, sizeof(record));
	}
	record.type = LOADER_RULE;
	for (size_t i = 0; !r && i < policy->n_rules; i++) {
		record.rule = policy->rules[i];
		r = helper_send(socket, &record, sizeof(record));
	}
	record.type = LOADER_END;
	return r ? r : helper_send(socket, &record, sizeof(record));
}

int loader_run(int socket, const void *options)
{
	struct loader_record invalid = { .type = LOADER_INVALID };
	struct pollfd p = { .fd = socket, .events = POLLIN };
	struct policy policy = { 0 };
	int r = load(options, &policy);

	if (r < 0) {
		log_error("loader: cannot load the policy: %s", strerror(-r));
		return 71;
	}
	if (r) {
		log_error(
			"the policy has %d mistake%s and is not taken; nothing is lent until it is mended",
			r, r == 1 ? "" : "s");
		invalid.counts[0] = (uint64_t)r;
		r = helper_send(socket, &invalid, sizeof(invalid));
	} else {
		r = send_policy(socket, &policy);
		policy_done(&policy);
	}
	/* Nothing is left to do but to end with the core. */
	while (!r && poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	return r ? 70 : 0;
}

int loader_check(const struct loader_options *options)
{
	struct policy policy = { 0 };
	int r = load(options, &policy);

	if (!r) {
		log_info("the policy is good: %zu statements in %zu files", policy.n_rules,
			 policy.n_files);
		policy_done(&policy);
	}
	return r;
}
