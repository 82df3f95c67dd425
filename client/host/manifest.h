/* SPDX-License-Identifier: MIT */
/*
 * The manifest of a driver bundle: for which guest kernel and which devices its image has drivers.
 * Each line is a word and its value; blank lines and those that begin with # say nothing. Pure:
 * text in, manifest out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32
#define SHA256_TEXT (2 * SHA256_SIZE + 1)
#define MANIFEST_SIZE_MAX 65536
#define MANIFEST_TEXT 65 /* room for a value with its NUL */
#define MANIFEST_DEVICES_MAX 1024
#define MANIFEST_DEVICE_TEXT 10
#define MANIFEST_FAULTS_MAX 20 /* more are not told */

struct manifest_device {
	uint16_t vendor, device;
	bool any; /* any device of the vendor */
};

enum manifest_format { MANIFEST_EROFS, MANIFEST_ISO };

struct manifest {
	char kernel[MANIFEST_TEXT], version[MANIFEST_TEXT];
	char image[MANIFEST_TEXT]; /* a file's name, beside the manifest */
	enum manifest_format format;
	uint64_t size; /* of the image, in bytes */
	uint8_t sha256[SHA256_SIZE];
	struct manifest_device devices[MANIFEST_DEVICES_MAX];
	size_t n_devices;
};

/* Told what is wrong, and what would help, in a line; 0: in the manifest as a whole. */
typedef void (*manifest_found_func)(void *userdata, unsigned line, const char *text);

/*
 * Parses a manifest. Returns how many mistakes it has; then *ret_manifest is of no use.
 * `found` may be NULL.
 */
size_t manifest_parse(const char *text, size_t len, manifest_found_func found, void *userdata,
		      struct manifest *ret_manifest);

/* Returns true if it has drivers for the device. */
bool manifest_has(const struct manifest *manifest, uint16_t vendor, uint16_t device);

/* Parses "10de:2330" or "10de:*". */
bool manifest_device_parse(const char *text, struct manifest_device *ret_device);
/* Writes that. Returns out. */
char *manifest_device_format(const struct manifest_device *device, char out[MANIFEST_DEVICE_TEXT]);

/*
 * Returns true for what a kernel, a version, an image's or a bundle's name may be: letters, digits
 * and . _ + - ~, not beginning with . or -, and short enough.
 */
bool manifest_is_word(const char *text);

const char *manifest_format_name(enum manifest_format format);

/* Writes a sum in hexadecimal digits. Returns out. */
char *manifest_sum_text(const uint8_t sum[SHA256_SIZE], char out[SHA256_TEXT]);
