/* SPDX-License-Identifier: MIT */
/*
 * Which files are hooks, see hookfiles.h: read by the process that runs them, and by the daemon
 * before it is confined. It must never take a file for a hook that somebody but its owner could
 * have written: hooks are run by root, with all rights.
 */
#include "config.h"

#include "client/host/hookfiles.h"
#include "client/common/util.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define SHARED_WRITE (S_IWGRP | S_IWOTH)

bool hookfile_name_valid(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_-";
	const size_t n = strspn(name, letters);

	return n && !name[n] && n < HOOKFILE_NAME_MAX && name[0] != '-';
}

/* Returns why the directory cannot be trusted, or NULL. */
static const char *directory_fault(int fd, uint32_t owner)
{
	struct stat own, above;

	if (fstat(fd, &own) || fstatat(fd, "..", &above, 0))
		return "it cannot be looked at";
	if (own.st_uid != owner || above.st_uid != owner)
		return "it, or the directory above it, is not root's, so no hook runs";
	if ((own.st_mode | above.st_mode) & SHARED_WRITE)
		return "others than root may write to it, or to the directory above it, so no hook "
		       "runs";
	return NULL;
}

static bool is_masking_link(int fd, const char *name)
{
	char target[sizeof("/dev/null")];
	const ssize_t n = readlinkat(fd, name, target, sizeof(target));

	return n == sizeof(target) - 1 && !memcmp(target, "/dev/null", (size_t)n);
}

/* Returns why a file is no hook; NULL: it is one; "": it is none, and that is nobody's mistake. */
static const char *hookfile_fault(int fd, const char *name, uint32_t owner)
{
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? "" : "it cannot be looked at";
	if (S_ISLNK(st.st_mode))
		return is_masking_link(fd, name) ? "" : "it is a link: copy the file";
	if (!hookfile_name_valid(name))
		return "a hook's name has only letters, digits, '_' and '-', at most 47";
	if (!S_ISREG(st.st_mode))
		return "it is not a regular file";
	if (st.st_uid != owner)
		return "it is not root's";
	if (st.st_mode & SHARED_WRITE)
		return "others than root may write to it";
	if (!(st.st_mode & S_IXUSR))
		return "it is not executable";
	return NULL;
}

/* Inserts a name where it belongs. The last name goes if there are too many. */
static void hookfiles_insert(struct hookfiles *files, const char *name, hookfiles_report report,
			     void *userdata)
{
	static const char why[] = "there are more than 64 hooks, and those after it do not run";
	size_t at = 0;

	while (at < files->n && strcmp(files->names[at], name) < 0)
		at++;
	if (files->n == HOOKFILES_MAX) {
		if (report)
			report(userdata, files->names[HOOKFILES_MAX - 1], why);
		if (at == HOOKFILES_MAX)
			return;
		files->n--;
	}
	memmove(files->names[at + 1], files->names[at], (files->n - at) * HOOKFILE_NAME_MAX);
	strcpy(files->names[at], name);
	files->n++;
}

void hookfiles_read(const char *directory, uint32_t owner, struct hookfiles *ret_files,
		    hookfiles_report report, void *userdata)
{
	const int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	const char *untrusted, *why;
	const struct dirent *entry;
	DIR *open_directory;

	*ret_files = (struct hookfiles){ .empty = true };
	if (fd < 0) {
		ret_files->empty = errno == ENOENT;
		if (errno != ENOENT && report)
			report(userdata, "",
			       "it is no directory, or cannot be opened, so no hook runs");
		return;
	}
	untrusted = directory_fault(fd, owner);
	open_directory = fdopendir(fd);
	if (!open_directory) {
		fd_close(fd);
		return;
	}
	while ((entry = readdir(open_directory))) {
		if (entry->d_name[0] == '.')
			continue;
		ret_files->empty = false;
		if (untrusted)
			break;
		why = hookfile_fault(fd, entry->d_name, owner);
		if (!why)
			hookfiles_insert(ret_files, entry->d_name, report, userdata);
		else if (*why && report)
			report(userdata, entry->d_name, why);
	}
	if (untrusted && !ret_files->empty && report)
		report(userdata, "", untrusted);
	closedir(open_directory);
}
