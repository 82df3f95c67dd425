/* SPDX-License-Identifier: MIT */
/*
 * Reads policy files, see policyfiles.h. NSS is asked here and in subids.c. It must never accept a
 * file that somebody other than root could have written, nor half of a file that is being replaced.
 */
#include "config.h"

#include "client/host/policyfiles.h"
#include "client/host/directory.h"
#include "client/common/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define POLICY_SIZE_MAX (64 << 20)

/* How long a file must not have changed, in ms, and how often that is waited for. */
#define REST 20
#define TRIES 25

const char *const policyfiles_directories[POLICYFILES_DIRECTORIES] = {
	GPUBROKER_POLICY_DIR,
	GPUBROKER_VENDOR_POLICY_DIR,
};

const char *const policyfiles_saved[POLICYFILES_DIRECTORIES] = {
	POLICYFILES_SAVED "/admin",
	POLICYFILES_SAVED "/package",
};

struct source {
	char name[256];
	size_t directory; /* its index in the request */
};

struct loading {
	const struct policyfiles *request;
	struct policy_parser *parser;
	struct source *sources;
	size_t n_sources;
	int mistakes; /* of files as a whole; the parser counts those in the text */
	bool has_reader;
	uid_t uid; /* of the reader */
	gid_t gid;
};

static bool is_draft(const struct policyfiles *request, const char *path)
{
	for (size_t i = 0; i < request->n_files; i++)
		if (!strcmp(request->files[i], path))
			return true;
	return false;
}

/* Passes a finding on, or counts it if it is about another file than the drafts. */
static void pass_finding(void *userdata, const struct policy_finding *finding)
{
	const struct policyfiles *request = userdata;

	const bool other = request->n_files && !is_draft(request, finding->path);

	if (other && request->others && finding->severity == POLICY_MISTAKE)
		(*request->others)++;
	if (request->found && (!other || request->all)) {
		request->found(request->userdata, finding);
	}
}

/* Reports something about a file as a whole, with a path and no line. */
static void file_finding(struct loading *loading, enum policy_severity severity, const char *path,
			 const char *text)
{
	const struct policy_finding finding = {
		.severity = severity,
		.path = path,
		.text = text,
	};

	loading->mistakes += severity == POLICY_MISTAKE;
	pass_finding((void *)loading->request, &finding);
}

static void file_mistake(struct loading *loading, const char *path, const char *text)
{
	file_finding(loading, POLICY_MISTAKE, path, text);
}

/* ---- may the loader read it? ---- */

static void find_reader(struct loading *loading)
{
	const struct passwd *entry = loading->request->reader ? getpwnam(loading->request->reader)
							      : NULL;

	loading->has_reader = entry != NULL;
	if (entry) {
		loading->uid = entry->pw_uid;
		loading->gid = entry->pw_gid;
	}
}

/* Returns true if the mode keeps the reader out; `bits` are those of others that it needs. */
static bool is_closed(const struct loading *loading, const struct stat *st, mode_t bits)
{
	mode_t mode = st->st_mode;

	if (!loading->has_reader)
		return false;
	if (st->st_uid == loading->uid)
		mode >>= 6;
	else if (st->st_gid == loading->gid)
		mode >>= 3;
	return (mode & bits) != bits;
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

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct source *)a)->name, ((const struct source *)b)->name);
}

/* Returns true if a draft or a file of an earlier directory has the name. */
static bool is_masked(const struct loading *loading, const char *name)
{
	const struct policyfiles *request = loading->request;

	for (size_t i = 0; i < request->n_files; i++) {
		const char *slash = strrchr(request->files[i], '/');

		if (!strcmp(slash ? slash + 1 : request->files[i], name))
			return true;
	}
	for (size_t i = 0; i < loading->n_sources; i++)
		if (!strcmp(loading->sources[i].name, name))
			return true;
	return false;
}

/* Returns false if a directory above keeps the reader out. */
static bool may_come_to(const struct loading *loading, const char *path)
{
	cleanup_free char *above = strdup(path);
	struct stat st;

	for (char *end; above && (end = strrchr(above, '/')) && end != above;) {
		*end = '\0';
		if (!stat(above, &st) && is_closed(loading, &st, S_IXOTH))
			return false;
	}
	return true;
}

static bool is_policy_name(const char *name)
{
	const size_t n = strlen(name);

	return name[0] != '.' && n >= 8 && !strcmp(name + n - 7, ".policy");
}

/* Warns of a file that somebody may take for a part of the policy. Backups and README are not. */
static void say_not_read(struct loading *loading, const char *directory, const char *name)
{
	const size_t n = strlen(name);
	cleanup_free char *path = NULL;

	if (name[0] == '.' || name[n - 1] == '~' || name[0] == '#' || !strncmp(name, "README", 6) ||
	    strstr(name, ".policy."))
		return;
	if (asprintf(&path, "%s/%s", directory, name) < 0)
		path = NULL;
	file_finding(loading, POLICY_WARNING, path ? path : directory,
		     "is not read, since its name does not end in .policy; rename it");
}

/* Adds a directory's *.policy files, except those whose name a file of an earlier one has. */
static int add_directory(struct loading *loading, size_t index)
{
	const char *path = loading->request->directories[index];
	DIR *dir = opendir(path);
	struct dirent *entry;
	struct stat st;
	int r = 0;

	if (!dir) {
		if (errno == ENOENT && !loading->request->must_exist)
			return 0;
		r = -errno;
		if (r == -ENOMEM)
			return r;
		file_mistake(loading, path,
			     r == -EACCES ? "cannot be read; chmod a+rx it" : strerror(-r));
		return 0;
	}
	if (fstat(dirfd(dir), &st) || st.st_uid != 0 || st.st_mode & (S_IWGRP | S_IWOTH)) {
		file_mistake(loading, path,
			     "is not root's alone, so others could put files there; chown root and "
			     "chmod go-w it");
		closedir(dir);
		return 0;
	}
	if (is_closed(loading, &st, S_IROTH | S_IXOTH) || !may_come_to(loading, path))
		file_mistake(loading, path,
			     "cannot be read by the loader, which is not root; chmod a+rx it");
	while (!r && (entry = readdir(dir))) {
		struct source *sources;

		if (!is_policy_name(entry->d_name)) {
			say_not_read(loading, path, entry->d_name);
			continue;
		}
		if (is_masked(loading, entry->d_name))
			continue;
		sources = reallocarray(loading->sources, loading->n_sources + 1, sizeof(*sources));
		if (!sources) {
			r = -ENOMEM;
			break;
		}
		loading->sources = sources;
		strcpy(sources[loading->n_sources].name, entry->d_name);
		sources[loading->n_sources++].directory = index;
	}
	closedir(dir);
	return r;
}

static const char *why_not_opened(int error)
{
	switch (error) {
	case ELOOP:
		return "is a symbolic link; a policy file must be a file of its own (or a link "
		       "to /dev/null, to mask its namesake)";
	case EACCES:
		return "cannot be read by the loader, which is not root; chmod a+r it";
	default:
		return strerror(error);
	}
}

/* Why a file must not be used, or NULL. */
static const char *why_unfit(const struct loading *loading, const struct stat *st, bool trusted)
{
	if (!S_ISREG(st->st_mode))
		return "is not a regular file";
	if (st->st_size > POLICY_SIZE_MAX)
		return "is larger than 64 MiB";
	if (trusted)
		return NULL;
	if (st->st_uid != 0)
		return "does not belong to root, so it could grant anything to anybody; chown it";
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return "can be written by others than root; chmod go-w it";
	if (is_closed(loading, st, S_IROTH))
		return why_not_opened(EACCES);
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
		n = read_whole(fd, text + len, room - len);
		if (n < 0)
			return (int)n;
		len += (size_t)n;
		if (len < room)
			break;
	}
	*ret_text = TAKE_PTR(text);
	*ret_len = len;
	return 0;
}

/*
 * Returns true if it was changed a moment before `now`: a next change may then leave all its times
 * as they are, since the kernel's clock for them has ticks, and nobody would notice. Also, a writer
 * may be in the middle. A time in the future means that the clock was put back, and does not count.
 */
static bool is_fresh(const struct stat *st, const struct timespec *now)
{
	int64_t age = (int64_t)(now->tv_sec - st->st_ctim.tv_sec) * 1000 +
		      (now->tv_nsec - st->st_ctim.tv_nsec) / 1000000;

	return age > -1000 && age < REST;
}

static bool is_unchanged(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/*
 * Returns true if the file that was just read, as *st says, may have been cut off to be written
 * anew. ext4 makes a file smaller before it dates that (ext4_setattr()), so for a moment an empty
 * file has the times of what was in it.
 */
static bool is_cut_off(int fd, const struct stat *st)
{
	struct stat after;

	if (st->st_size)
		return false;
	poll(NULL, 0, REST);
	return fstat(fd, &after) || !is_unchanged(st, &after);
}

/*
 * Checks and reads it, again if it was changed meanwhile, so that neither half of a version nor a
 * mix of two is used. A file that was replaced by another of its name can still be read whole here.
 * 0; or 1 and why it must not be used; or -errno. A writer that stops half-way for longer than REST
 * cannot be told from one that has finished: hence "rename".
 */
static int read_steadily(const struct loading *loading, int fd, bool trusted, const char **ret_why,
			 char **ret_text, size_t *ret_len)
{
	for (int tries = 0; tries < TRIES; tries++) {
		cleanup_free char *text = NULL;
		struct stat st, after;
		struct timespec now;
		const char *why;
		size_t len = 0;
		int r;

		/* The clock of file times, so that a late tick does not matter. */
		if (clock_gettime(CLOCK_REALTIME_COARSE, &now) || fstat(fd, &st))
			return -errno;
		why = why_unfit(loading, &st, trusted);
		if (why) {
			*ret_why = why;
			return 1;
		}
		if (is_fresh(&st, &now)) {
			/* Not nanosleep(), which would be one more system call for the loader. */
			poll(NULL, 0, REST);
			continue;
		}
		if (lseek(fd, 0, SEEK_SET) < 0)
			return -errno;
		r = read_file(fd, &text, &len);
		if (r)
			return r;
		if (fstat(fd, &after))
			return -errno;
		if ((size_t)st.st_size == len && is_unchanged(&st, &after) &&
		    !is_cut_off(fd, &st)) {
			*ret_text = TAKE_PTR(text);
			*ret_len = len;
			return 0;
		}
	}
	*ret_why = "keeps changing while it is read; write it under another name and rename it to "
		   "this one";
	return 1;
}

/* A link to /dev/null masks a file of the package. */
static bool is_mask(const char *path)
{
	char target[16] = "";

	return readlink(path, target, sizeof(target) - 1) == 9 && !strcmp(target, "/dev/null");
}

/* Loads a file from a directory, or a draft, which has no `source`. Findings name `called`. */
static int load_file(struct loading *loading, const struct source *source, const char *path,
		     const char *called)
{
	const struct policyfiles *request = loading->request;
	const bool trusted = !source;
	cleanup_free char *text = NULL;
	cleanup_fd int fd = -1;
	const char *why = NULL;
	size_t len = 0;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (trusted ? 0 : O_NOFOLLOW));
	if (fd < 0) {
		r = errno;
		if (r != ELOOP || !is_mask(path))
			file_mistake(loading, called, why_not_opened(r));
		return 0;
	}
	r = read_steadily(loading, fd, trusted, &why, &text, &len);
	if (r == -ENOMEM)
		return r;
	if (r) {
		file_mistake(loading, called, r > 0 ? why : strerror(-r));
		return 0;
	}
	r = source && request->text
		    ? request->text(request->userdata, source->directory, source->name, text, len)
		    : 0;
	return r ? r : policy_parser_file(loading->parser, called, text, len);
}

static int load_source(struct loading *loading, const struct source *source)
{
	const struct policyfiles *request = loading->request;
	const char *const *names = request->called ? request->called : request->directories;
	cleanup_free char *path = NULL, *called = NULL;

	if (asprintf(&path, "%s/%s", request->directories[source->directory], source->name) < 0)
		path = NULL;
	if (asprintf(&called, "%s/%s", names[source->directory], source->name) < 0)
		called = NULL;
	return path && called ? load_file(loading, source, path, called) : -ENOMEM;
}

int policyfiles_load(const struct policyfiles *request, struct policy *ret_policy)
{
	const struct policy_parser_ops ops = {
		.user = ask_user,
		.group = ask_group,
		.found = pass_finding,
		.userdata = (void *)request,
	};
	struct loading loading = { .request = request };
	struct policy policy = { 0 };
	int r = policy_parser_new(&ops, &loading.parser);

	if (r)
		return r;
	find_reader(&loading);
	for (size_t i = 0; !r && i < request->n_directories; i++)
		r = add_directory(&loading, i);
	if (loading.n_sources)
		qsort(loading.sources, loading.n_sources, sizeof(*loading.sources), by_name);
	for (size_t i = 0; !r && i < loading.n_sources; i++)
		r = load_source(&loading, &loading.sources[i]);
	for (size_t i = 0; !r && i < request->n_files; i++)
		r = load_file(&loading, NULL, request->files[i], request->files[i]);
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
