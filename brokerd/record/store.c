/* SPDX-License-Identifier: MIT */
/*
 * The files in the state directory, see store.h. It must never leave half a file under a record's
 * name, and never lose the text of a record that cannot be read. It does not know the records'
 * formats.
 */
#include "config.h"

#include "brokerd/record/store.h"
#include "client/common/util.h"
#include "client/host/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A record is never a symbolic link, nor on another file system. */
#define IN_STATE (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)

static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/*
 * A direct system call: glibc's renameat2() without flags makes renameat(), which the filter does
 * not allow.
 */
static int rename_in(const struct store *store, const char *from, const char *to, unsigned flags)
{
	return syscall(SYS_renameat2, store->directory, from, store->directory, to, flags) ? -errno
											   : 0;
}

int store_put(const struct store *store, const char *name, const char *text, size_t len)
{
	char temporary[72];
	cleanup_fd int fd = -1;
	int r;

	if (snprintf(temporary, sizeof(temporary), "%s.new", name) >= (int)sizeof(temporary))
		return -ENAMETOOLONG;
	fd = open_beneath(store->directory, temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600,
			  IN_STATE);
	if (fd < 0)
		return fd;
	r = write_all(fd, text, len);
	if (!r)
		r = rename_in(store, temporary, name, 0);
	if (r)
		unlinkat(store->directory, temporary, 0);
	return r;
}

int store_drop(const struct store *store, const char *name)
{
	return unlinkat(store->directory, name, 0) && errno != ENOENT ? -errno : 0;
}

/*
 * Renames a record to NUMBER.WORD, or NUMBER.WORD.1 and so on. It never overwrites another text: a
 * number may be used again once nothing of its lease is left. Nobody else writes here, so a free
 * name stays free.
 */
static int rename_to(const struct store *store, const char *name, int number_len, const char *word)
{
	char to[64];
	int r = 0;

	for (unsigned i = 0; i < 1000; i++) {
		if (snprintf(to, sizeof(to), i ? "%.*s.%s.%u" : "%.*s.%s", number_len, name, word,
			     i) >= (int)sizeof(to))
			return -ENAMETOOLONG;
		r = rename_in(store, name, to, RENAME_NOREPLACE);
		if (r != -EEXIST)
			break;
	}
	return r;
}

int store_set_aside(const struct store *store, const char *name)
{
	return rename_to(store, name, (int)strlen(name), "damaged");
}

static ssize_t read_all(const struct store *store, const char *name, char *out, size_t size)
{
	cleanup_fd int fd =
		open_beneath(store->directory, name, O_RDONLY | O_NONBLOCK, 0, IN_STATE);

	return fd < 0 ? fd : read_whole(fd, out, size);
}

int store_settle(const struct store *store, const char *damaged)
{
	const char *suffix = strstr(damaged, ".damaged");
	char settled[64];
	int r;

	if (!suffix || snprintf(settled, sizeof(settled), "%.*s.settled%s", (int)(suffix - damaged),
				damaged, suffix + strlen(".damaged")) >= (int)sizeof(settled))
		return -EINVAL;
	r = rename_in(store, damaged, settled, RENAME_NOREPLACE);
	return r == -EEXIST ? rename_to(store, damaged, (int)(suffix - damaged), "settled") : r;
}

/* Returns the length of a name up to its suffix; 0 if it is not a record of this kind. */
static size_t own_name(const char *entry, enum store_kind kind)
{
	static const char label[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789_:@,-";
	const char *prefix = kind == STORE_VFS		? STORE_VF_PREFIX
			     : kind == STORE_WAITING	? STORE_WAITING_PREFIX
			     : kind == STORE_PREPARE	? STORE_PREPARE_PREFIX
			     : kind == STORE_ALLOTMENTS ? STORE_ALLOTMENT_PREFIX
							: "";
	const size_t n = strlen(prefix);
	size_t own;

	if (strncmp(entry, prefix, n) != 0)
		return 0;
	if (kind == STORE_VFS || kind == STORE_PREPARE)
		return n + strspn(entry + n, "0123456789abcdef:-");
	own = strspn(entry + n, kind == STORE_ALLOTMENTS ? label : "0123456789");
	if (kind == STORE_ALLOTMENTS)
		return own && own < 48 ? n + own : 0;
	return own && own <= 20 ? n + own : 0;
}

int store_each(const struct store *store, enum store_kind kind,
	       void (*found)(void *userdata, const char *name, const char *text, size_t len),
	       void *userdata)
{
	cleanup_fd int fd =
		open_beneath(store->directory, ".", O_RDONLY | O_DIRECTORY, 0, IN_STATE);
	struct directory dir = DIRECTORY(fd);
	const char *entry;
	int r = 0;

	if (fd < 0)
		return fd;
	while (!r && (entry = directory_next(&dir))) {
		char text[STORE_TEXT_MAX + 1]; /* one byte more: shows a text that is too long */
		size_t own = own_name(entry, kind);
		ssize_t n;

		if (!own)
			continue;
		if (!strcmp(entry + own, ".new")) {
			unlinkat(store->directory, entry, 0);
			continue;
		}
		if (kind == STORE_DAMAGED ? strncmp(entry + own, ".damaged", 8) != 0
					  : entry[own] != '\0')
			continue;
		n = read_all(store, entry, text, sizeof(text));
		if (n >= 0 || n == -ELOOP || n == -EISDIR) /* not a file of ours */
			found(userdata, entry, text, n < 0 ? 0 : (size_t)n);
		else
			r = (int)n;
	}
	/* An unread record would be a forgotten lease, and its id would be used again. */
	return r ? r : dir.error;
}
