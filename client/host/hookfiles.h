/* SPDX-License-Identifier: MIT */
/* Which files of a directory are the administrator's hooks, see gpubrokerd(8). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOOKFILES_MAX 64     /* hooks in one directory */
#define HOOKFILE_NAME_MAX 48 /* with the NUL */

struct hookfiles {
	size_t n;
	char names[HOOKFILES_MAX][HOOKFILE_NAME_MAX]; /* in the order in which they run */
	bool empty; /* the directory has no file at all, hidden ones apart, or does not exist */
};

/* Gets each file that is no hook, by its name ("" is the directory itself), and the reason. */
typedef void (*hookfiles_report)(void *userdata, const char *name, const char *why);

/* Returns true if a hook may have that name: run-parts' letters, digits, "_" and "-". */
bool hookfile_name_valid(const char *name);

/*
 * Reads the directory. A hook is an executable regular file. It, the directory and the directory
 * above must be `owner`'s, and nobody else may write to them: otherwise there is no hook, and
 * report(), which may be NULL, gets the reason. A link to /dev/null is no hook, and not reported.
 */
void hookfiles_read(const char *directory, uint32_t owner, struct hookfiles *ret_files,
		    hookfiles_report report, void *userdata);
