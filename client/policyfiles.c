/* SPDX-License-Identifier: MIT */
/*
 * Reads policy files, see policyfiles.h. NSS is asked here and nowhere else. It must never take a
 * file that somebody other than root could have written, nor half of a file that is being replaced.
 */
#include "config.h"

#include "client/policyfiles.h"
#include "client/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#define POLICY_SIZE_MAX (64 << 20)

struct source {
	char name[256];
	const char *directory;
};

struct loading {
	const struct policyfiles *request;
	struct policy_parser *parser;
	struct source *sources;
	size_t n_sources;
	int mistakes; /* in files as such; the parser counts those in the text */
};

/* A mistake of a file as a whole: it has a path and no line. */
static void file_mistake(struct loading *loading, const char *path, const char *text)
{
	const struct policy_finding finding = {
		.severity = POLICY_MISTAKE,
		.path = path,
		.text = text,
	};

	loading->mistakes++;
	if (loading->request->found)
		loading->request->found(loading->request->userdata, &finding);
}

static int ask_user(void *userdata, const char *name, uid_t *ret_uid)
{
	const struct policyfiles *request = userdata;
	const struct passwd *entry;

	if (request->without_accounts) {
		*ret_uid = 0;
		return 0;
	}
	errno = 0;
	entry = getpwnam(name);
	if (!entry)
		return errno && errno != ENOENT && errno != ESRCH ? -errno : 1;
	*ret_uid = entry->pw_uid;
	return 0;
}

static int ask_group(void *userdata, const char *name, gid_t *ret_gid)
{
	const struct policyfiles *request = userdata;
	const struct group *entry;

	if (request->without_accounts) {
		*ret_gid = 0;
		return 0;
	}
	errno = 0;
	entry = getgrnam(name);
	if (!entry)
		return errno && errno != ENOENT && errno != ESRCH ? -errno : 1;
	*ret_gid = entry->gr_gid;
	return 0;
}

static void found(void *userdata, const struct policy_finding *finding)
{
	const struct policyfiles *request = userdata;

	if (request->found)
		request->found(request->userdata, finding);
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
	struct stat st;
	int r = 0;

	if (!dir) {
		if (errno == ENOENT)
			return 0;
		r = -errno;
		if (r == -ENOMEM)
			return r;
		file_mistake(loading, path,
			     r == -EACCES ? "cannot be read; chmod a+rx it" : strerror(-r));
		return 0;
	}
	if (fstat(dirfd(dir), &st) || st.st_uid != 0 || st.st_mode & (S_IWGRP | S_IWOTH)) {
		file_mistake(
			loading, path,
			"is not root's alone, so others could put files there; chown root and chmod "
			"go-w it");
		closedir(dir);
		return 0;
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

/* Why a file of the policy may not be taken, or NULL. */
static const char *unfit(const struct stat *st)
{
	if (st->st_uid != 0)
		return "does not belong to root, so it could grant anything to anybody; chown it";
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return "can be written by others than root; chmod go-w it";
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

/*
 * Reads it, again if it was changed meanwhile, so that no half of two versions is taken. -EBUSY: it
 * keeps changing.
 */
static int read_steadily(int fd, struct stat *st, char **ret_text, size_t *ret_len)
{
	for (int tries = 0; tries < 3; tries++) {
		cleanup_free char *text = NULL;
		struct stat after;
		size_t len = 0;
		int r;

		if (lseek(fd, 0, SEEK_SET) < 0)
			return -errno;
		r = read_file(fd, &text, &len);
		if (r)
			return r;
		if (fstat(fd, &after))
			return -errno;
		if (after.st_size == st->st_size && (size_t)after.st_size == len &&
		    !memcmp(&after.st_mtim, &st->st_mtim, sizeof(after.st_mtim))) {
			*ret_text = TAKE_PTR(text);
			*ret_len = len;
			return 0;
		}
		*st = after;
	}
	return -EBUSY;
}

/* A link to /dev/null is how a file of the package is masked. */
static bool is_mask(const char *path)
{
	char target[16] = "";

	return readlink(path, target, sizeof(target) - 1) == 9 && !strcmp(target, "/dev/null");
}

static const char *why_not_opened(int error)
{
	switch (error) {
	case ELOOP:
		return "is a symbolic link; a policy file must be a file of its own (or a link to /dev/null, "
		       "to mask its namesake)";
	case EACCES:
		return "cannot be read by the loader, which is not root; chmod a+r it";
	default:
		return strerror(error);
	}
}

static int load_file(struct loading *loading, const char *path, bool trusted)
{
	cleanup_free char *text = NULL;
	cleanup_fd int fd = -1;
	const char *why = NULL;
	struct stat st;
	size_t len = 0;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (trusted ? 0 : O_NOFOLLOW));
	if (fd < 0 || fstat(fd, &st)) {
		r = errno;
		if (r != ELOOP || !is_mask(path))
			file_mistake(loading, path, why_not_opened(r));
		return 0;
	}
	if (!S_ISREG(st.st_mode))
		why = "is not a regular file";
	else if (st.st_size > POLICY_SIZE_MAX)
		why = "is larger than 64 MiB";
	else if (!trusted)
		why = unfit(&st);
	if (why) {
		file_mistake(loading, path, why);
		return 0;
	}
	r = read_steadily(fd, &st, &text, &len);
	if (r == -EBUSY || r == -EFBIG || r == -EIO) {
		file_mistake(loading, path,
			     r == -EBUSY ? "changes while it is read; reload when it is finished"
					 : strerror(-r));
		return 0;
	}
	return r ? r : policy_parser_file(loading->parser, path, text, len);
}

static int load_source(struct loading *loading, const struct source *source)
{
	cleanup_free char *path = NULL;

	if (asprintf(&path, "%s/%s", source->directory, source->name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	return load_file(loading, path, false);
}

int policyfiles_load(const struct policyfiles *request, struct policy *ret_policy)
{
	const struct policy_parser_ops ops = {
		.user = ask_user,
		.group = ask_group,
		.found = found,
		.userdata = (void *)request,
	};
	struct loading loading = { .request = request };
	struct policy policy = { 0 };
	int r = policy_parser_new(&ops, &loading.parser);

	if (r)
		return r;
	for (size_t i = 0; !r && i < request->n_directories; i++)
		r = add_directory(&loading, request->directories[i]);
	if (loading.n_sources)
		qsort(loading.sources, loading.n_sources, sizeof(*loading.sources), by_name);
	for (size_t i = 0; !r && i < loading.n_sources; i++)
		r = load_source(&loading, &loading.sources[i]);
	for (size_t i = 0; !r && i < request->n_files; i++)
		r = load_file(&loading, request->files[i], true);
	if (!r)
		r = policy_parser_finish(loading.parser, &policy);
	if (r >= 0)
		r += loading.mistakes;
	if (r)
		policy_done(&policy);
	else
		*ret_policy = policy;
	policy_parser_free(loading.parser);
	free(loading.sources);
	return r;
}
