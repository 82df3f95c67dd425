/* SPDX-License-Identifier: MIT */
/*
 * The udev rules for a host, and whether a file has them, see udevrules-host.h. Reads the modules'
 * aliases and that file; udevrules.c makes the text.
 */
#include "config.h"

#include "client/host/udevrules-host.h"
#include "client/host/udevrules.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int udevrules_for_host(const struct policy *policy, const struct places *places,
		       const struct spared *spared, char **ret_text)
{
	struct aliases aliases = { 0 };
	int r = udevrules_needed(policy) ? aliases_add_installed(&aliases) : 0;

	if (!r)
		r = udevrules_text(policy, &aliases, places, spared, ret_text);
	aliases_done(&aliases);
	return r;
}

int udevrules_is_stale(const struct policy *policy, const struct spared *spared, const char *path)
{
	struct places kept = { 0 }, places = { 0 };
	cleanup_free char *text = NULL;
	int r = places_read(path, &kept);

	if (!r)
		r = places_make(policy, &kept, NULL, 0, &places);
	if (!r)
		r = udevrules_for_host(policy, &places, spared, &text);
	if (!r)
		r = udevrules_compare(path, text);
	if (r == -ENOENT && text && !*text)
		r = 0;
	places_done(&kept);
	places_done(&places);
	return r;
}

int udevrules_compare(const char *path, const char *text)
{
	cleanup_file FILE *file = fopen(path, "re");
	size_t n = strlen(text), got;
	char block[4096];

	if (!file)
		return -errno;
	while ((got = fread(block, 1, sizeof(block), file))) {
		if (got > n || memcmp(block, text, got) != 0)
			return 1;
		text += got;
		n -= got;
	}
	return ferror(file) ? -EIO : n > 0;
}
