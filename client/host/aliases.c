/* SPDX-License-Identifier: MIT */
/*
 * Reads modules.alias for variant drivers, see aliases.h. It must never take a pattern that means
 * something else to udev than to fnmatch(3): the patterns become part of udev rules.
 */
#include "config.h"

#include "client/host/aliases.h"
#include "client/common/util.h"

#include <dirent.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/utsname.h>

#define MODULES "/lib/modules"
#define ALIASES_MAX 4096

static unsigned count_wildcards(const char *pattern)
{
	unsigned n = 0;

	for (; *pattern; pattern++)
		n += *pattern == '*';
	return n;
}

static int compare_aliases(const void *left, const void *right)
{
	const struct alias *a = left, *b = right;
	unsigned m = count_wildcards(a->pattern), n = count_wildcards(b->pattern);
	int c = strcmp(a->pattern, b->pattern);

	return m != n ? (m > n) - (m < n) : c ? c : strcmp(a->module, b->module);
}

static void sort_aliases(struct aliases *aliases)
{
	size_t n = 0;

	if (!aliases->n)
		return;
	qsort(aliases->list, aliases->n, sizeof(*aliases->list), compare_aliases);
	for (size_t i = 1; i < aliases->n; i++)
		if (compare_aliases(&aliases->list[n], &aliases->list[i]) != 0)
			aliases->list[++n] = aliases->list[i];
	aliases->n = n + 1;
}

static bool has_only(const char *text, const char *more)
{
	for (; *text; text++)
		if (!(*text >= '0' && *text <= '9') && !(*text >= 'A' && *text <= 'Z') &&
		    !(*text >= 'a' && *text <= 'z') && !strchr(more, *text))
			return false;
	return true;
}

int aliases_add(struct aliases *aliases, FILE *file)
{
	struct alias alias;
	char line[1024];
	int r = 0;

	memset(&alias, 0, sizeof(alias));
	while (!r && fgets(line, sizeof(line), file)) {
		struct alias *list;

		if (sscanf(line, "alias vfio_pci:%127s %31s", alias.pattern, alias.module) != 2 ||
		    !driver_is_vfio(alias.module) || !has_only(alias.pattern, "*?[]") ||
		    !has_only(alias.module, "_-"))
			continue;
		if (aliases->n == ALIASES_MAX) {
			r = -E2BIG;
			break;
		}
		list = reallocarray(aliases->list, aliases->n + 1, sizeof(*list));
		if (!list) {
			r = -ENOMEM;
			break;
		}
		aliases->list = list;
		list[aliases->n++] = alias;
	}
	if (!r && ferror(file))
		r = -EIO;
	sort_aliases(aliases);
	return r;
}

static int add_kernel(struct aliases *aliases, const char *release)
{
	cleanup_file FILE *file = NULL;
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), MODULES "/%s/modules.alias", release) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	file = fopen(path, "re");
	if (!file)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	return aliases_add(aliases, file);
}

int aliases_add_running(struct aliases *aliases)
{
	struct utsname kernel;

	return uname(&kernel) ? -errno : add_kernel(aliases, kernel.release);
}

int aliases_add_installed(struct aliases *aliases)
{
	DIR *directory = opendir(MODULES);
	struct dirent *entry;
	int r = 0;

	if (!directory)
		return errno == ENOENT ? 0 : -errno;
	while (!r && (errno = 0, entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			r = add_kernel(aliases, entry->d_name);
	if (!r && errno)
		r = -errno;
	closedir(directory);
	return r;
}

void aliases_done(struct aliases *aliases)
{
	free(aliases->list);
	aliases->list = NULL;
	aliases->n = 0;
}

const char *aliases_find(const struct aliases *aliases, const char *modalias)
{
	if (!modalias || strncmp(modalias, "pci:", 4) != 0)
		return NULL;
	for (size_t i = 0; i < aliases->n; i++)
		if (!fnmatch(aliases->list[i].pattern, modalias + 4, 0))
			return aliases->list[i].module;
	return NULL;
}
