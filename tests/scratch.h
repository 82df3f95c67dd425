/* SPDX-License-Identifier: MIT */
/*
 * Helpers of several tests: they count open descriptors, and make a directory that goes when the
 * test ends. Nothing here speaks TAP.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Ends the test with a "hard error" of automake, 99, if it cannot go on. */
#define need(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("Bail out! %s:%d: %s: %s\n", __FILE__, __LINE__, #condition,        \
			       strerror(errno));                                                   \
			exit(99);                                                                  \
		}                                                                                  \
	} while (0)

/* Returns how many entries the directory has. */
static inline size_t count_entries(const char *path)
{
	DIR *dir = opendir(path);
	size_t n = 0;

	need(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2; /* "." and ".." */
}

/* Counts the descriptors of this process, without the one that counting takes. */
static inline size_t open_descriptors(void)
{
	return count_entries("/proc/self/fd") - 1;
}

static inline int scratch_drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/*
 * The directory belongs to the process that made it: a forked child that exits does not remove it.
 */
static char scratch_path[64];
static pid_t scratch_owner;

static inline void scratch_remove(void)
{
	if (getpid() == scratch_owner)
		nftw(scratch_path, scratch_drop, 8, FTW_DEPTH | FTW_PHYS);
}

/*
 * Makes the directory and returns its path, of at most 40 characters, so that a socket's path fits.
 */
static inline const char *scratch_make(void)
{
	const char *tmp = getenv("TMPDIR");

	if (!tmp || strlen(tmp) > 18)
		tmp = "/tmp";
	snprintf(scratch_path, sizeof(scratch_path), "%s/gpubroker-test.XXXXXX", tmp);
	need(mkdtemp(scratch_path));
	scratch_owner = getpid();
	need(!atexit(scratch_remove));
	return scratch_path;
}

/* Writes a file, with the directories above it; `path` is relative to the scratch directory. */
static inline void scratch_write(const char *path, const char *text)
{
	char full[512];
	FILE *file;

	need(snprintf(full, sizeof(full), "%s/%s", scratch_path, path) < (int)sizeof(full));
	for (char *p = full + strlen(scratch_path) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		need(!mkdir(full, 0755) || errno == EEXIST);
	}
	file = fopen(full, "w");
	need(file && fputs(text, file) >= 0 && !fclose(file));
}
