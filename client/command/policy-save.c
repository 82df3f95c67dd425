/* SPDX-License-Identifier: MIT */
/*
 * Saves a policy without mistakes, see policy-save.h. Owns /var/lib/gpubroker/policy. All copies
 * change at once, by one rename, so that a loader never reads files of two policies. It must never
 * save a text that was not parsed.
 */
#include "config.h"

#include "client/command/policy-save.h"
#include "client/common/util.h"
#include "client/host/policyfiles.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define NEW_COPIES POLICYFILES_SAVED ".new"
#define PATH_ROOM (sizeof(NEW_COPIES) + 300) /* with a directory and a file's name */

struct policy_text_file {
	size_t directory; /* its index */
	size_t len;
	char *name;
	char *text;
};

int policy_texts_add(struct policy_texts *texts, size_t index, const char *name, const char *text,
		     size_t len)
{
	struct policy_text_file *list =
		reallocarray(texts->list, texts->n + 1, sizeof(*texts->list));
	struct policy_text_file file = { .directory = index, .len = len };

	if (!list)
		return -ENOMEM;
	texts->list = list;
	file.name = strdup(name);
	file.text = malloc(len + 1);
	if (!file.name || !file.text) {
		free(file.name);
		free(file.text);
		return -ENOMEM;
	}
	memcpy(file.text, text, len);
	list[texts->n++] = file;
	return 0;
}

void policy_texts_done(struct policy_texts *texts)
{
	for (size_t i = 0; i < texts->n; i++) {
		free(texts->list[i].name);
		free(texts->list[i].text);
	}
	free(texts->list);
	*texts = (struct policy_texts){ 0 };
}

/* ---- what is there ---- */

/* Writes "PLACE/DIRECTORY" of the index-th directory. */
static const char *directory_in(const char *place, size_t index, char path[PATH_ROOM])
{
	snprintf(path, PATH_ROOM, "%s%s", place,
		 policyfiles_saved[index] + strlen(POLICYFILES_SAVED));
	return path;
}

static int file_in(const char *place, const struct policy_text_file *file, char path[PATH_ROOM])
{
	char directory[PATH_ROOM];
	int n = snprintf(path, PATH_ROOM, "%s/%s", directory_in(place, file->directory, directory),
			 file->name);

	return n < 0 || (size_t)n >= PATH_ROOM ? -ENAMETOOLONG : 0;
}

/* Returns true if the file's copy has the same text already. */
static bool is_saved(const struct policy_text_file *file)
{
	cleanup_free char *text = malloc(file->len + 2);
	char path[PATH_ROOM];
	cleanup_fd int fd = -1;
	size_t done = 0;
	ssize_t n = 1;

	if (!text || file_in(POLICYFILES_SAVED, file, path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	while (fd >= 0 && n > 0 && done <= file->len) {
		n = read(fd, text + done, file->len + 1 - done);
		done += n > 0 ? (size_t)n : 0;
	}
	return fd >= 0 && !n && done == file->len && !memcmp(text, file->text, file->len);
}

static size_t count_copies(size_t index)
{
	char path[PATH_ROOM];
	DIR *dir = opendir(directory_in(POLICYFILES_SAVED, index, path));
	const struct dirent *entry;
	size_t n = 0;

	while (dir && (entry = readdir(dir)))
		n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	if (dir)
		closedir(dir);
	return n;
}

static bool all_are_saved(const struct policy_texts *texts)
{
	size_t n = 0;

	for (size_t i = 0; i < POLICYFILES_DIRECTORIES; i++)
		n += count_copies(i);
	for (size_t i = 0; n == texts->n && i < texts->n; i++)
		if (!is_saved(&texts->list[i]))
			return false;
	return n == texts->n && !access(POLICYFILES_SAVED, F_OK);
}

/* ---- the new copies ---- */

static void remove_below(const char *place)
{
	char path[PATH_ROOM];

	for (size_t i = 0; i < POLICYFILES_DIRECTORIES; i++) {
		DIR *dir = opendir(directory_in(place, i, path));
		const struct dirent *entry;

		while (dir && (entry = readdir(dir)))
			unlinkat(dirfd(dir), entry->d_name, 0);
		if (dir)
			closedir(dir);
		rmdir(path);
	}
	rmdir(place);
}

/* A directory that every user may read, whatever the umask. */
static int make_readable_directory(const char *path)
{
	return mkdir(path, 0755) || chmod(path, 0755) ? -errno : 0;
}

static int sync_directory(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) ? -errno : 0;
}

static int write_copy(const struct policy_text_file *file)
{
	char path[PATH_ROOM];
	cleanup_fd int fd = -1;
	int r = file_in(NEW_COPIES, file, path);

	if (r)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < file->len;) {
		ssize_t n = write(fd, file->text + done, file->len - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	/* The loader, which is another user, reads it. */
	return fchmod(fd, 0644) || fsync(fd) ? -errno : 0;
}

static int write_copies(const struct policy_texts *texts)
{
	char path[PATH_ROOM];
	int r = make_readable_directory(NEW_COPIES);

	for (size_t i = 0; !r && i < POLICYFILES_DIRECTORIES; i++)
		r = make_readable_directory(directory_in(NEW_COPIES, i, path));
	for (size_t i = 0; !r && i < texts->n; i++)
		r = write_copy(&texts->list[i]);
	for (size_t i = 0; !r && i < POLICYFILES_DIRECTORIES; i++)
		r = sync_directory(directory_in(NEW_COPIES, i, path));
	return r ? r : sync_directory(NEW_COPIES);
}

/* Puts the new copies where the old ones are, and those where the new ones were. */
static int exchange_copies(void)
{
	if (!renameat2(AT_FDCWD, NEW_COPIES, AT_FDCWD, POLICYFILES_SAVED, RENAME_EXCHANGE))
		return 0;
	/* There are none yet; or the file system cannot, and for a moment there are none. */
	if (errno != ENOENT)
		remove_below(POLICYFILES_SAVED);
	return rename(NEW_COPIES, POLICYFILES_SAVED) ? -errno : 0;
}

int policy_save(const struct policy_texts *texts)
{
	cleanup_free char *parent = strdup(POLICYFILES_SAVED);
	cleanup_fd int lock = -1;
	int r;

	if (!parent)
		return -ENOMEM;
	*strrchr(parent, '/') = '\0';
	if (mkdir(parent, 0755) ? errno != EEXIST : chmod(parent, 0755))
		return -errno;
	/*
	 * For as long as this process lives: a reload and a start may come at once. The lock is a
	 * file of root's own, since every user may open the directory: who may open a file can keep
	 * it locked, and a start of the broker would wait.
	 */
	lock = open(POLICYFILES_SAVED ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock < 0 || flock(lock, LOCK_EX))
		return -errno;
	if (all_are_saved(texts))
		return 0;
	remove_below(NEW_COPIES);
	r = write_copies(texts);
	if (!r)
		r = exchange_copies();
	if (!r)
		r = sync_directory(parent);
	remove_below(NEW_COPIES);
	return r;
}
