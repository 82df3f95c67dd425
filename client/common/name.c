/* SPDX-License-Identifier: MIT */
/*
 * Checks names, see name.h. Daemon and library call the same function, so the daemon accepts what
 * the library sends. It must never accept a name that leads out of a directory.
 */
#include "config.h"

#include "client/common/name.h"

#include <string.h>

bool mdev_is_name(const char *text, size_t size)
{
	size_t n = strnlen(text, size);

	if (!n || n == size || memchr(text, '/', n) || strstr(text, "..") || !strcmp(text, "."))
		return false;
	for (size_t i = 0; i < n; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return true;
}
