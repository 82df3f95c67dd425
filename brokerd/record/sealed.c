/* SPDX-License-Identifier: MIT */
/*
 * Lines with a checksum, see sealed.h. Pure. The checksum is against damage, not against somebody
 * who may write the file: that is root alone. It must never take a part of a line for a whole one.
 */
#include "config.h"

#include "brokerd/record/sealed.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* FNV-1a. */
static uint32_t checksum(const char *text, size_t len)
{
	uint32_t sum = 2166136261U;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ (unsigned char)text[i]) * 16777619U;
	return sum;
}

static void write_seal(char out[SEAL_SIZE + 1], const char *text, size_t len)
{
	snprintf(out, SEAL_SIZE + 1, " #%08x\n", (unsigned)checksum(text, len));
}

bool sealed_make(char *out, size_t size, const char *text)
{
	const size_t len = strlen(text);

	if (size < SEAL_SIZE || len > size - SEAL_SIZE || strchr(text, '\n'))
		return false;
	memcpy(out, text, len);
	memset(out + len, ' ', size - SEAL_SIZE - len);
	write_seal(out + size - SEAL_SIZE, out, size - SEAL_SIZE);
	return true;
}

static bool is_whole(const char *line, size_t size)
{
	char seal[SEAL_SIZE + 1];

	write_seal(seal, line, size - SEAL_SIZE);
	return !memcmp(line + size - SEAL_SIZE, seal, SEAL_SIZE);
}

static bool has_bytes(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i])
			return true;
	return false;
}

const char *sealed_next(struct sealed *s)
{
	while (s->at < s->len) {
		const char *from = s->text + s->at;
		const char *newline = memchr(from, '\n', s->len - s->at);
		const size_t n = newline ? (size_t)(newline - from) + 1 : s->len - s->at;
		const bool whole = newline && n >= s->size &&
				   is_whole(newline + 1 - s->size, s->size);

		s->at += n;
		s->damaged += has_bytes(from, whole ? n - s->size : n);
		if (whole)
			return newline + 1 - s->size;
	}
	return NULL;
}
