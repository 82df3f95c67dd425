/* SPDX-License-Identifier: MIT */
/* SHA-256 (FIPS 180-4), for the checksums of files that root has put there. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32
#define SHA256_TEXT (2 * SHA256_SIZE + 1)

struct sha256 {
	uint32_t state[8];
	uint64_t length; /* in bytes */
	uint8_t block[64];
};

void sha256_init(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t len);
/* Ends it; sha256_init() begins another. */
void sha256_end(struct sha256 *sha, uint8_t ret_sum[SHA256_SIZE]);

/* Writes the sum in hexadecimal digits. Returns out. */
char *sha256_format(const uint8_t sum[SHA256_SIZE], char out[SHA256_TEXT]);
