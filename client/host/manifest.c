/* SPDX-License-Identifier: MIT */
/*
 * Parses manifests of driver bundles, see manifest.h. It owns no memory and opens nothing. It must
 * never read behind the text, nor accept a name that leads out of the bundle's directory.
 */
#include "config.h"

#include "client/host/manifest.h"
#include "client/common/nearness.h"
#include "client/common/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum word { KERNEL, RELEASE, DEVICE, IMAGE, FORMAT, SIZE, SHA256, WORDS };

/* The words that begin a line, and an example for the one who left a line out. */
static const struct {
	const char *name, *example;
} manifest_words[WORDS] = {
	[KERNEL] = { "kernel",
		     "kernel 6.12.117+deb13-amd64, which 'uname -r' prints in the guest" },
	[RELEASE] = { "version", "version 570.86.16, of the drivers" },
	[DEVICE] = { "device", "device 10de:2330, vendor and device as 'lspci -nn' prints them" },
	[IMAGE] = { "image", "image drivers.erofs, a file beside the manifest" },
	[FORMAT] = { "format", "format erofs, or format iso for Windows" },
	[SIZE] = { "size", "size 12345, of the image in bytes, as 'stat -c %s' prints it" },
	[SHA256] = { "sha256", "sha256 and 64 digits, as 'sha256sum' prints them for the image" },
};

static const char *const format_names[] = { [MANIFEST_EROFS] = "erofs", [MANIFEST_ISO] = "iso" };

struct parsing {
	struct manifest *manifest;
	unsigned line;
	unsigned seen[WORDS]; /* the line, 0: not yet */
	size_t faults;
	manifest_found_func found;
	void *userdata;
};

static void __attribute__((format(printf, 2, 3)))
say_fault(struct parsing *parsing, const char *format, ...)
{
	char text[256];
	va_list args;

	parsing->faults++;
	if (!parsing->found || parsing->faults > MANIFEST_FAULTS_MAX)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	parsing->found(parsing->userdata, parsing->line, text);
}

/* ---- values ---- */

char *manifest_sum_text(const uint8_t sum[SHA256_SIZE], char out[SHA256_TEXT])
{
	for (size_t i = 0; i < SHA256_SIZE; i++)
		snprintf(out + 2 * i, 3, "%02x", sum[i]);
	return out;
}

bool manifest_is_word(const char *text)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._+-~";
	const size_t n = strnlen(text, MANIFEST_TEXT);

	return n && n < MANIFEST_TEXT && *text != '.' && *text != '-' && strspn(text, allowed) == n;
}

/* Parses exactly n hexadecimal digits. */
static bool parse_hex(const char *text, size_t n, uint32_t *ret_value)
{
	uint32_t value = 0;

	for (size_t i = 0; i < n; i++) {
		const char *digits = "0123456789abcdef";
		const char c = text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] + 32) : text[i];
		const char *at = c ? strchr(digits, c) : NULL;

		if (!at)
			return false;
		value = value << 4 | (uint32_t)(at - digits);
	}
	*ret_value = value;
	return true;
}

bool manifest_device_parse(const char *text, struct manifest_device *ret_device)
{
	uint32_t vendor, device = 0;
	const bool any = strlen(text) == 6 && text[5] == '*';

	if ((!any && strlen(text) != 9) || text[4] != ':' || !parse_hex(text, 4, &vendor) ||
	    (!any && !parse_hex(text + 5, 4, &device)))
		return false;
	*ret_device = (struct manifest_device){
		.vendor = (uint16_t)vendor,
		.device = (uint16_t)device,
		.any = any,
	};
	return true;
}

char *manifest_device_format(const struct manifest_device *device, char out[MANIFEST_DEVICE_TEXT])
{
	if (device->any)
		snprintf(out, MANIFEST_DEVICE_TEXT, "%04x:*", device->vendor);
	else
		snprintf(out, MANIFEST_DEVICE_TEXT, "%04x:%04x", device->vendor, device->device);
	return out;
}

static void take_manifest_device(struct parsing *parsing, const char *value)
{
	struct manifest *manifest = parsing->manifest;

	if (manifest->n_devices == MANIFEST_DEVICES_MAX)
		say_fault(parsing,
			  "is one device too many: a manifest has at most %d; "
			  "10de:* stands for all of a vendor",
			  MANIFEST_DEVICES_MAX);
	else if (!manifest_device_parse(value, &manifest->devices[manifest->n_devices]))
		say_fault(
			parsing,
			"'%.40s' is no device: give vendor:device as 10de:2330, or 10de:* for all "
			"of a vendor",
			value);
	else
		manifest->n_devices++;
}

static void take_image(struct parsing *parsing, const char *value)
{
	if (strchr(value, '/') || !strcmp(value, "."))
		say_fault(parsing,
			  "image '%.40s' leads out of the bundle: the image stands beside the "
			  "manifest, so give its name alone",
			  value);
	else if (!manifest_is_word(value) || !strcmp(value, "manifest"))
		say_fault(parsing,
			  "image '%.40s' is no name that an image may have, as "
			  "drivers.erofs has",
			  value);
	else
		strcpy(parsing->manifest->image, value);
}

static void take_format(struct parsing *parsing, const char *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(format_names); i++)
		if (!strcmp(format_names[i], value)) {
			parsing->manifest->format = (enum manifest_format)i;
			return;
		}
	say_fault(parsing, "there is no format '%.40s': it is erofs, or iso for Windows", value);
}

static void take_size(struct parsing *parsing, const char *value)
{
	const size_t n = strspn(value, "0123456789");

	parsing->manifest->size = 0;
	/* 18 digits are less than 2^63, and more than any disk has. */
	for (size_t i = 0; !value[n] && n <= 18 && i < n; i++)
		parsing->manifest->size = parsing->manifest->size * 10 + (uint64_t)(value[i] - '0');
	if (!parsing->manifest->size)
		say_fault(parsing,
			  "'%.40s' is no size: give the image's size in bytes, as 'stat -c %%s' "
			  "prints it",
			  value);
}

static void take_sha256(struct parsing *parsing, const char *value)
{
	uint32_t byte;

	for (size_t i = 0; i < SHA256_SIZE; i++) {
		if (strlen(value) != 2 * (size_t)SHA256_SIZE ||
		    !parse_hex(value + 2 * i, 2, &byte)) {
			say_fault(parsing,
				  "that is no SHA-256: give 64 hexadecimal digits, as 'sha256sum' "
				  "prints them for the image");
			return;
		}
		parsing->manifest->sha256[i] = (uint8_t)byte;
	}
}

static void take_word(struct parsing *parsing, enum word word, const char *value,
		      char out[MANIFEST_TEXT])
{
	if (manifest_is_word(value))
		strcpy(out, value);
	else
		say_fault(parsing,
			  "%s '%.40s' is none: give one word of at most %d letters, digits and "
			  ". _ + - ~",
			  manifest_words[word].name, value, MANIFEST_TEXT - 1);
}

/* ---- lines ---- */

static void take_value(struct parsing *parsing, enum word word, const char *value)
{
	if (word != DEVICE && parsing->seen[word]) {
		say_fault(parsing, "%s stands in line %u already; keep one of the two",
			  manifest_words[word].name, parsing->seen[word]);
		return;
	}
	parsing->seen[word] = parsing->line;
	switch (word) {
	case KERNEL:
		take_word(parsing, word, value, parsing->manifest->kernel);
		return;
	case RELEASE:
		take_word(parsing, word, value, parsing->manifest->version);
		return;
	case DEVICE:
		take_manifest_device(parsing, value);
		return;
	case IMAGE:
		take_image(parsing, value);
		return;
	case FORMAT:
		take_format(parsing, value);
		return;
	case SIZE:
		take_size(parsing, value);
		return;
	case SHA256:
		take_sha256(parsing, value);
		return;
	case WORDS:
		return;
	}
}

static void say_unknown_word(struct parsing *parsing, const char *given)
{
	const char *names[WORDS], *near;

	for (size_t i = 0; i < WORDS; i++)
		names[i] = manifest_words[i].name;
	near = nearness_best(given, names, WORDS);
	if (near)
		say_fault(parsing, "there is no '%.40s'; did you mean '%s'?", given, near);
	else
		say_fault(parsing,
			  "there is no '%.40s'; a line begins with kernel, version, device, image, "
			  "format, size or sha256",
			  given);
}

/* Takes a line, which is ended by a NUL and has no other. */
static void take_manifest_line(struct parsing *parsing, char *line)
{
	char *value, *end;
	size_t word = 0;

	line += strspn(line, " \t");
	if (!*line || *line == '#')
		return;
	for (end = line + strlen(line); end[-1] == ' ' || end[-1] == '\t';)
		*--end = '\0';
	value = line + strcspn(line, " \t");
	if (*value)
		*value++ = '\0';
	value += strspn(value, " \t");
	while (word < WORDS && strcmp(manifest_words[word].name, line) != 0)
		word++;
	if (word == WORDS)
		say_unknown_word(parsing, line);
	else if (!*value)
		say_fault(parsing, "%s needs a value, as in: %s", line,
			  manifest_words[word].example);
	else
		take_value(parsing, (enum word)word, value);
}

/* Returns true if the line is text, or says what it has that is none. */
static bool check_bytes(struct parsing *parsing, const char *line, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (line[i] == '\r' && i == n - 1) {
			say_fault(parsing, "ends in CR LF, as on Windows; 'dos2unix' mends that");
			return false;
		}
		if (line[i] == '\0') {
			say_fault(parsing, "has a NUL byte, so this is no text");
			return false;
		}
		if ((line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f) {
			say_fault(parsing, "has a control character (0x%02x), so this is no text",
				  (unsigned)(unsigned char)line[i]);
			return false;
		}
	}
	return true;
}

#define MANIFEST_LINE 256 /* of a line with something to say */

size_t manifest_parse(const char *text, size_t len, manifest_found_func found, void *userdata,
		      struct manifest *ret_manifest)
{
	struct parsing parsing = { .manifest = ret_manifest, .found = found, .userdata = userdata };
	const char *end = text + len;
	bool complete;

	memset(ret_manifest, 0, sizeof(*ret_manifest));
	if (len > MANIFEST_SIZE_MAX) {
		say_fault(&parsing, "is larger than 64 KiB, so it is no manifest");
		return parsing.faults;
	}
	while (text < end && parsing.faults < MANIFEST_FAULTS_MAX) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		const size_t n = (size_t)((stop ? stop : end) - text);
		char line[MANIFEST_LINE];

		parsing.line++;
		if (!check_bytes(&parsing, text, n)) {
			;
		} else if (n >= sizeof(line)) {
			if (*text != '#')
				say_fault(&parsing, "is longer than %d characters",
					  MANIFEST_LINE - 1);
		} else {
			memcpy(line, text, n);
			line[n] = '\0';
			take_manifest_line(&parsing, line);
		}
		text = stop ? stop + 1 : end;
	}
	complete = !parsing.faults;
	parsing.line = 0;
	/* A word that was misspelled would be said twice. */
	for (size_t i = 0; complete && i < WORDS; i++)
		if (!parsing.seen[i])
			say_fault(&parsing, "has no line '%s'; add one as in: %s",
				  manifest_words[i].name, manifest_words[i].example);
	return parsing.faults;
}

bool manifest_has(const struct manifest *manifest, uint16_t vendor, uint16_t device)
{
	for (size_t i = 0; i < manifest->n_devices; i++)
		if (manifest->devices[i].vendor == vendor &&
		    (manifest->devices[i].any || manifest->devices[i].device == device))
			return true;
	return false;
}

const char *manifest_format_name(enum manifest_format format)
{
	return format_names[format];
}
