/* SPDX-License-Identifier: MIT */
/* The broker's log in a file of its own, which is also the test's standard error. */
#pragma once

#include "tests/scratch.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int log_fd;

static inline void log_file_make(void)
{
	log_fd = memfd_create("log", MFD_CLOEXEC);
	need(log_fd >= 0 && dup2(log_fd, STDERR_FILENO) == STDERR_FILENO);
}

static inline void log_file_empty(void)
{
	need(!ftruncate(log_fd, 0) && !lseek(log_fd, 0, SEEK_SET));
}

/* Returns how often the text was logged since the file was empty. */
static inline unsigned said(const char *what)
{
	static char text[65536];
	ssize_t n = pread(log_fd, text, sizeof(text) - 1, 0);
	unsigned times = 0;

	need(n >= 0);
	text[n] = '\0';
	for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
		times++;
	return times;
}
