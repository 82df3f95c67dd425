/* SPDX-License-Identifier: MIT */
/*
 * The udev rules for this host, and whether a file has them, see udevrules-host.h. Reads the
 * modules' aliases, sysfs and that file.
 */
#include "config.h"

#include "client/host/udevrules-host.h"
#include "client/host/udevrules.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int udevrules_for_host(const struct policy *policy, bool here, char **ret_text)
{
	const bool any = udevrules_needed(policy);
	cleanup_fd int sys = any && here ? open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	struct aliases aliases = { 0 };
	struct spared spared = { 0 };
	int r = any ? aliases_add_installed(&aliases) : 0;

	if (!r && sys >= 0)
		r = spared_read(sys, &spared);
	if (!r)
		r = udevrules_text(policy, &aliases, &spared, ret_text);
	spared_done(&spared);
	aliases_done(&aliases);
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
