/* SPDX-License-Identifier: MIT */
/*
 * Which names are taken, see mdevname.h. Daemon and library ask the same function, so that what one sends
 * the other takes. It must never say yes to what leads out of a directory.
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
