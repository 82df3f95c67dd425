/* SPDX-License-Identifier: MIT */
/*
 * Reads driver bundles, see bundle.h. It must never follow a link, use what others than root could
 * have written, nor look at a name twice: what was checked is what its descriptor has.
 */
#include "config.h"

#include "client/host/bundle.h"
#include "client/host/directory.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUNDLE_RESOLVE (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
#define SUM_ROOM (256 << 10)

const char *const bundles_installed = GPUBROKER_DRIVERS_DIR;

bool bundle_is_name(const char *name)
{
	return manifest_is_word(name);
}

/* ---- what is told ---- */

struct told {
	const struct bundles_source *source;
	char path[BUNDLE_PATH];
};

/* Begins to tell of DIRECTORY, DIRECTORY/NAME or DIRECTORY/NAME/FILE. */
static struct told tell_of(const struct bundles_source *source, const char *name, const char *file)
{
	struct told told = { .source = source };

	snprintf(told.path, sizeof(told.path), "%s%s%s%s%s", source->directory, name ? "/" : "",
		 name ? name : "", file ? "/" : "", file ? file : "");
	return told;
}

static int tell_wrong(const struct told *told, const char *text)
{
	if (told->source->found)
		told->source->found(told->source->userdata, told->path, 0, text);
	return 1;
}

static void tell_line(void *userdata, unsigned line, const char *text)
{
	const struct told *told = userdata;

	if (told->source->found)
		told->source->found(told->source->userdata, told->path, line, text);
}

static int tell_not_opened(const struct told *told, int error)
{
	switch (error) {
	case -ELOOP:
		return tell_wrong(told, "is a symbolic link; a bundle is a directory and files of "
					"its own");
	case -EACCES:
		return tell_wrong(told, "cannot be read by you; as root, chmod a+rX it");
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
		return error;
	default:
		return tell_wrong(told, strerror(-error));
	}
}

const char *bundle_why_unfit(const struct stat *st)
{
	if (st->st_uid)
		return "does not belong to root, so that somebody else could choose what a VM "
		       "executes; chown it, or copy it as root";
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return "can be written by others than root; chmod go-w it";
	return NULL;
}

/* Checks what a descriptor is. 0, or 1 after it was told what is wrong. */
static int check_opened(const struct told *told, int fd, bool directory, struct stat *ret_st)
{
	const char *why;

	if (fstat(fd, ret_st))
		return -errno;
	why = bundle_why_unfit(ret_st);
	if (!why && !directory && !S_ISREG(ret_st->st_mode))
		why = "is no regular file";
	return why ? tell_wrong(told, why) : 0;
}

/* ---- directories and files ---- */

/* Opens the directory of all bundles. A descriptor, -ENOENT, or -EBADMSG after it was told. */
static int open_bundles(const struct bundles_source *source)
{
	const struct told told = tell_of(source, NULL, NULL);
	cleanup_fd int fd = open(source->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	r = fd < 0 ? tell_not_opened(&told, -errno) : check_opened(&told, fd, true, &st);
	return r < 0 ? r : r ? -EBADMSG : TAKE_FD(fd);
}

/* Opens the directory of a bundle. 0, 1 after it was told, -ENOENT, -ENOTDIR or -errno. */
static int open_bundle(const struct bundles_source *source, int bundles, const char *name,
		       int *ret_fd)
{
	const struct told told = tell_of(source, name, NULL);
	cleanup_fd int fd = open_beneath(bundles, name, O_RDONLY | O_DIRECTORY, 0, BUNDLE_RESOLVE);
	struct stat st;
	int r;

	if (fd == -ENOENT || fd == -ENOTDIR)
		return fd;
	r = fd < 0 ? tell_not_opened(&told, fd) : check_opened(&told, fd, true, &st);
	if (!r)
		*ret_fd = TAKE_FD(fd);
	return r;
}

/* Opens a file of a bundle. 0, 1 after it was told, or -errno. */
static int open_member(const struct told *told, int bundle, const char *name, int *ret_fd,
		       struct stat *ret_st)
{
	cleanup_fd int fd =
		open_beneath(bundle, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, BUNDLE_RESOLVE);
	int r = fd < 0 ? 0 : check_opened(told, fd, false, ret_st);

	if (fd < 0)
		return fd;
	if (!r)
		*ret_fd = TAKE_FD(fd);
	return r;
}

static int read_manifest(const struct bundles_source *source, int directory, const char *name,
			 struct manifest *ret_manifest)
{
	const struct told told = tell_of(source, name, "manifest");
	cleanup_free char *text = NULL;
	cleanup_fd int fd = -1;
	struct stat st;
	ssize_t n;
	int r = open_member(&told, directory, "manifest", &fd, &st);

	if (r == -ENOENT)
		return tell_wrong(&told, "is not there; 'gpubroker drivers make' writes it");
	if (r < 0)
		return tell_not_opened(&told, r);
	if (r)
		return r;
	text = malloc(MANIFEST_SIZE_MAX + 1);
	if (!text)
		return -ENOMEM;
	n = read_whole(fd, text, MANIFEST_SIZE_MAX + 1);
	if (n < 0)
		return tell_wrong(&told, strerror((int)-n));
	return manifest_parse(text, (size_t)n, tell_line, (void *)&told, ret_manifest) ? 1 : 0;
}

static int read_bundle(const struct bundles_source *source, int bundles, const char *name,
		       struct bundle *ret_bundle)
{
	cleanup_fd int fd = -1;
	int r;

	if (!bundle_is_name(name)) {
		const struct told told = tell_of(source, name, NULL);

		return tell_wrong(&told, "has no name that a bundle may have: letters, digits and "
					 ". _ + - ~");
	}
	r = open_bundle(source, bundles, name, &fd);
	if (!r)
		r = read_manifest(source, fd, name, &ret_bundle->manifest);
	if (!r)
		strcpy(ret_bundle->name, name);
	return r;
}

int bundle_read(const struct bundles_source *source, const char *name, struct bundle *ret_bundle)
{
	cleanup_fd int fd = bundle_is_name(name) ? open_bundles(source) : -ENOENT;
	int r = fd == -EBADMSG ? 1 : fd < 0 ? fd : read_bundle(source, fd, name, ret_bundle);

	return r == -ENOTDIR ? -ENOENT : r;
}

static int compare_bundles(const void *a, const void *b)
{
	return strcmp(((const struct bundle *)a)->name, ((const struct bundle *)b)->name);
}

static int add_bundle(const struct bundles_source *source, int bundles, const char *name,
		      struct bundles *list)
{
	struct bundle *more = reallocarray(list->list, list->n + 1, sizeof(*more));
	int r;

	if (!more)
		return -ENOMEM;
	list->list = more;
	r = read_bundle(source, bundles, name, &more[list->n]);
	if (!r)
		list->n++;
	/* A file, as a README, is no bundle; one that has gone meanwhile is none any more. */
	if (r == -ENOTDIR || r == -ENOENT)
		return 0;
	list->n_bad += r == 1;
	return r < 0 ? r : 0;
}

int bundles_read(const struct bundles_source *source, struct bundles *ret_bundles)
{
	cleanup_fd int fd = open_bundles(source);
	struct directory dir = DIRECTORY(fd);
	const char *name;
	int r = 0;

	*ret_bundles = (struct bundles){ 0 };
	if (fd == -ENOENT)
		return 0;
	if (fd < 0) {
		ret_bundles->n_bad = 1;
		return fd == -EBADMSG ? 0 : fd;
	}
	while (!r && (name = directory_next(&dir))) {
		if (*name == '.')
			continue;
		if (ret_bundles->n + ret_bundles->n_bad == BUNDLES_MAX) {
			const struct told told = tell_of(source, NULL, NULL);

			ret_bundles->n_bad++;
			tell_wrong(&told, "has more than 256 bundles; the others are left out");
			break;
		}
		r = add_bundle(source, fd, name, ret_bundles);
	}
	if (ret_bundles->n)
		qsort(ret_bundles->list, ret_bundles->n, sizeof(*ret_bundles->list),
		      compare_bundles);
	return r ? r : dir.error;
}

void bundles_done(struct bundles *bundles)
{
	free(bundles->list);
	*bundles = (struct bundles){ 0 };
}

/* ---- images ---- */

int bundle_sum(int fd, uint8_t ret_sha256[SHA256_SIZE], uint64_t *ret_size)
{
	cleanup_free char *room = malloc(SUM_ROOM);
	uint64_t size = 0;
	SHA2_CTX sha;
	ssize_t n = 0;

	if (!room)
		return -ENOMEM;
	SHA256Init(&sha);
	do {
		n = pread(fd, room, SUM_ROOM, (off_t)size);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n <= 0)
			continue;
		SHA256Update(&sha, (const uint8_t *)room, (size_t)n);
		size += (uint64_t)n;
	} while (n);
	*ret_size = size;
	SHA256Final(ret_sha256, &sha);
	return 0;
}

/* Compares the image with the manifest. 0, or 1 after it was told how they differ, or -errno. */
static int check_image(const struct told *told, const struct manifest *manifest, int fd,
		       const struct stat *st)
{
	char text[200], was[SHA256_TEXT], is[SHA256_TEXT];
	uint8_t sum[SHA256_SIZE];
	uint64_t size;
	int r;

	if ((uint64_t)st->st_size != manifest->size) {
		snprintf(text, sizeof(text),
			 "has %lld bytes, and by the manifest %llu: it is not what was made; make "
			 "the bundle again, or copy it again",
			 (long long)st->st_size, (unsigned long long)manifest->size);
		return tell_wrong(told, text);
	}
	r = bundle_sum(fd, sum, &size);
	if (r)
		return tell_wrong(told, strerror(-r));
	if (!memcmp(sum, manifest->sha256, sizeof(sum)) && size == manifest->size)
		return 0;
	snprintf(text, sizeof(text),
		 "has the SHA-256 %.16s..., and by the manifest %.16s...: it is not what was made; "
		 "make the bundle again, or copy it again",
		 manifest_sum_text(sum, is), manifest_sum_text(manifest->sha256, was));
	return tell_wrong(told, text);
}

int bundle_open_image(const struct bundles_source *source, const struct bundle *bundle, int *ret_fd)
{
	const struct manifest *manifest = &bundle->manifest;
	const struct told told = tell_of(source, bundle->name, manifest->image);
	cleanup_fd int bundles = open_bundles(source), directory = -1, fd = -1;
	struct stat st;
	int r;

	if (bundles < 0)
		return bundles == -EBADMSG ? 1 : bundles;
	r = open_bundle(source, bundles, bundle->name, &directory);
	if (r)
		return r;
	r = open_member(&told, directory, manifest->image, &fd, &st);
	if (r == -ENOENT)
		return tell_wrong(&told, "is not there, and the manifest names it");
	if (r < 0)
		return tell_not_opened(&told, r);
	if (!r)
		r = check_image(&told, manifest, fd, &st);
	if (!r)
		*ret_fd = TAKE_FD(fd);
	return r;
}
