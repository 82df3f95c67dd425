/* SPDX-License-Identifier: MIT */
/*
 * A fuzz target has a name, a function that writes its seeds, and a function that takes bytes. The
 * same object is linked with libFuzzer, AFL++'s driver (tests/fuzz/run) and replay.c (`make
 * check`).
 *
 * A target keeps nothing from one input to the next, makes no decision by time or chance, and
 * aborts if what it promises does not hold.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name of the target; its seeds are in seeds/NAME. */
extern const char fuzz_name[];
typedef void (*fuzz_write)(const char *name, const void *data, size_t size);
/* Calls `write` for each seed. They are in the tree too: see replay.c. */
void fuzz_seeds(fuzz_write write);

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,          \
				#condition);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* ---- reading an input; bytes behind its end are 0 ---- */

struct input {
	const uint8_t *p;
	size_t left;
};

static inline uint8_t input_byte(struct input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->p++;
}

/* Reads a length of two bytes, the lower first, and limits it to the bytes that are left. */
static inline size_t input_length(struct input *input)
{
	size_t n = input_byte(input);

	n |= (size_t)input_byte(input) << 8;
	return n < input->left ? n : input->left;
}

/*
 * Reads a length, and that many bytes into `out`. The rest of `out` becomes 0; longer input is cut.
 */
static inline void input_struct(struct input *input, void *out, size_t size)
{
	size_t n = input_length(input), kept = n < size ? n : size;

	memset(out, 0, size);
	if (kept)
		memcpy(out, input->p, kept);
	input->p += n;
	input->left -= n;
}

/* ---- making an input ---- */

struct seed {
	size_t n;
	uint8_t data[16384];
};

static inline void seed_byte(struct seed *seed, unsigned byte)
{
	must(seed->n < sizeof(seed->data));
	seed->data[seed->n++] = (uint8_t)byte;
}

/* Writes what input_struct() reads, without the zeros at its end. */
static inline void seed_struct(struct seed *seed, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	while (size && !bytes[size - 1])
		size--;
	must(size < 65536 && size + 2 <= sizeof(seed->data) - seed->n);
	seed_byte(seed, size & 0xff);
	seed_byte(seed, (unsigned)(size >> 8));
	if (size)
		memcpy(seed->data + seed->n, data, size);
	seed->n += size;
}
