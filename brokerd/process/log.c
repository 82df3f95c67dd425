/* SPDX-License-Identifier: MIT */
/*
 * The daemon's log. Owns a flag, and the socket of the journal. It must never wait for that
 * socket, never allocate, never use stdio's buffers (a helper
 * or a worker may be forked between two lines) and never write a byte of a text that could start a
 * new line.
 */
#include "config.h"

#include "brokerd/process/log.h"

#include "client/common/util.h"
#include "client/wire/passfd.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static bool terminal;
static int journal = -1;

void log_init(void)
{
	terminal = isatty(STDERR_FILENO);
}

/*
 * Copies a text with escapes for what is not printable ASCII, as far as it fits. Returns its
 * length.
 */
static size_t log_escape(const char *text, char *out, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (; *text && n + 5 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c >= 0x20 && c < 0x7f) {
			out[n++] = *text;
			continue;
		}
		out[n++] = '\\';
		out[n++] = 'x';
		out[n++] = hex[c >> 4];
		out[n++] = hex[c & 15];
	}
	return n;
}

void log_line(enum log_level level, const char *format, ...)
{
	char text[1536], line[sizeof(text) * 2];
	size_t n = 0;
	va_list args;
	ssize_t ignored;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	if (!terminal) {
		line[n++] = '<';
		line[n++] = (char)('0' + level);
		line[n++] = '>';
	}
	n += log_escape(text, line + n, sizeof(line) - n);
	line[n++] = '\n';
	ignored = write(STDERR_FILENO, line, n);
	(void)ignored;
}

/* ---- the journal's own protocol ---- */

void log_use_journal(int fd)
{
	journal = fd;
}

/* systemd names the file that standard error is, for a process to know that it still is. */
static bool is_journals(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       !fstat(STDERR_FILENO, &st) && st.st_dev == device && st.st_ino == inode;
}

void log_open_journal(void)
{
	const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };
	cleanup_fd int fd = -1;

	if (!is_journals())
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		log_use_journal(TAKE_FD(fd));
}

/* Adds "NAME=value" and a newline, if all of it fits. Returns the new length. */
static size_t log_add_field(char *out, size_t size, size_t n, const char *name, const char *value)
{
	const size_t name_len = strlen(name);

	if (!value || !*value || n + name_len + strlen(value) * 4 + 8 > size)
		return n;
	memcpy(out + n, name, name_len);
	n += name_len;
	out[n++] = '=';
	n += log_escape(value, out + n, size - n);
	out[n++] = '\n';
	return n;
}

bool log_fields(enum log_level level, const char *line, const struct log_field *fields, size_t n)
{
	const char priority[] = { (char)('0' + level), '\0' };
	char packet[8192];
	size_t len = 0;

	if (journal < 0)
		return false;
	len = log_add_field(packet, sizeof(packet), len, "MESSAGE", line);
	if (!len)
		return false;
	len = log_add_field(packet, sizeof(packet), len, "PRIORITY", priority);
	len = log_add_field(packet, sizeof(packet), len, "SYSLOG_IDENTIFIER", "gpubrokerd");
	/* The journal no longer finds out the unit of a process that has just ended. */
	len = log_add_field(packet, sizeof(packet), len, "OBJECT_SYSTEMD_UNIT",
			    "gpubroker.service");
	for (size_t i = 0; i < n; i++)
		len = log_add_field(packet, sizeof(packet), len, fields[i].name, fields[i].value);
	return !passfd_send(journal, packet, len, NULL, 0);
}
