/* SPDX-License-Identifier: MIT */
/* How near a misspelled word is to another, see nearness.h. */
#include "config.h"

#include "client/common/nearness.h"

#include <string.h>

#define NEAR_MAX 31 /* longer words are near nothing */

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static unsigned int min3(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int least = a < b ? a : b;

	return least < c ? least : c;
}

/* The number of edits from a to b, a swap of neighbours being one; both at most NEAR_MAX long. */
static unsigned int edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned int rows[3][NEAR_MAX + 1];
	unsigned int *before = rows[0], *above = rows[1], *row = rows[2];

	for (unsigned int j = 0; j <= b_len; j++) {
		before[j] = 0;
		above[j] = j;
	}
	for (size_t i = 1; i <= a_len; i++) {
		unsigned int *spare = before;

		row[0] = (unsigned int)i;
		for (size_t j = 1; j <= b_len; j++) {
			unsigned int change = lower(a[i - 1]) != lower(b[j - 1]);

			row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + change);
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
			    lower(a[i - 2]) == lower(b[j - 1]) && before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		before = above;
		above = row;
		row = spare;
	}
	return above[b_len];
}

unsigned int nearness(const char *a, const char *b)
{
	size_t a_len = strlen(a), b_len = strlen(b);
	size_t shorter = a_len < b_len ? a_len : b_len, longer = a_len < b_len ? b_len : a_len;
	unsigned int most = shorter < 3 ? 0 : shorter < 6 ? 1 : 2, edits;

	if (longer > NEAR_MAX || longer - shorter > most)
		return NEARNESS_NONE;
	edits = edit_distance(a, a_len, b, b_len);
	return edits <= most ? edits : NEARNESS_NONE;
}

const char *nearness_best(const char *text, const char *const *words, size_t n)
{
	const char *best = NULL;
	unsigned int least = NEARNESS_NONE;

	for (size_t i = 0; i < n; i++) {
		unsigned int edits = nearness(text, words[i]);

		if (edits < least) {
			least = edits;
			best = words[i];
		}
	}
	return best;
}
