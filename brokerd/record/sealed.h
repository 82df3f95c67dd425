/* SPDX-License-Identifier: MIT */
/*
 * Lines of one size, each sealed with a checksum. A line that a power cut or a full disk has cut
 * spoils no other: a reader finds the next one whatever stands before it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SEAL_SIZE 11 /* of a line: " #xxxxxxxx\n", behind its text and blanks */

/*
 * Writes a line of `size` bytes and a NUL: the text, blanks, the checksum, a newline. Returns false
 * if the text does not fit, or has a newline.
 */
bool sealed_make(char *out, size_t size, const char *text);

/* A position in a file's text. */
struct sealed {
	const char *text;
	size_t len, size; /* of the text; of a line */
	size_t at;
	size_t damaged; /* pieces that are no whole line; NULs, where nothing was written, aside */
};

/*
 * Returns the start of the next whole line, or NULL. Its text ends before size - SEAL_SIZE, perhaps
 * with blanks.
 */
const char *sealed_next(struct sealed *sealed);
