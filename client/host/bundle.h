/* SPDX-License-Identifier: MIT */
/*
 * Driver bundles: directories of root's, each with a manifest and an image that a VM gets as a
 * read-only disk. Root alone may have written them, since a VM executes what is in the image.
 */
#pragma once

#include <stddef.h>
#include <sys/stat.h>

#include "client/host/manifest.h"

#define BUNDLES_MAX 256
#define BUNDLE_PATH 4096
#define BUNDLE_SERIAL "GPUBROKERDRIVERS"    /* of the VM's disk */
extern const char *const bundles_installed; /* the directory that has them all */

struct bundle {
	char name[MANIFEST_TEXT];
	struct manifest manifest;
};

struct bundles {
	struct bundle *list; /* by name */
	size_t n, n_bad;
};

/* Where bundles are, and whom to tell what is wrong with one. */
struct bundles_source {
	const char *directory;
	/* `line` 0: with the file or directory as a whole. May be NULL. */
	void (*found)(void *userdata, const char *path, unsigned line, const char *text);
	void *userdata;
};

/*
 * Reads all that are good; n_bad says how many are not. A directory that is not there has none.
 * 0 or -errno; call bundles_done() in each case.
 */
int bundles_read(const struct bundles_source *source, struct bundles *ret_bundles);
void bundles_done(struct bundles *bundles);

/* Reads one. 0; 1 after it was told what is wrong; -ENOENT: there is none; or -errno. */
int bundle_read(const struct bundles_source *source, const char *name, struct bundle *ret_bundle);

/*
 * Opens the image and checks its owner, size and checksum, by this descriptor alone: what is in it
 * then is what was checked, whatever happens to its name. 0; 1 after it was told what is wrong; or
 * -errno. Takes seconds for each gigabyte.
 */
int bundle_open_image(const struct bundles_source *source, const struct bundle *bundle,
		      int *ret_fd);

/*
 * The SHA-256 of what is behind the descriptor, from its start, and how many bytes these are. 0 or
 * -errno.
 */
int bundle_sum(int fd, uint8_t ret_sha256[SHA256_SIZE], uint64_t *ret_size);

/* Why others than root could change a file or directory of this status, or NULL. Pure. */
const char *bundle_why_unfit(const struct stat *st);

/* Returns true for the name of a bundle. */
bool bundle_is_name(const char *name);
