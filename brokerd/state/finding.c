/* SPDX-License-Identifier: MIT */
/*
 * Checks the finder's answers, see finding.h. No I/O. It must never let a text through that is not
 * terminated or not printable: it goes into the journal and to root's terminal.
 */
#include "config.h"

#include "brokerd/state/finding.h"

#include <stddef.h>
#include <string.h>

static bool is_text(const char text[FINDING_TEXT])
{
	const size_t n = strnlen(text, FINDING_TEXT);

	for (size_t i = 0; i < n; i++)
		if (text[i] < ' ' || text[i] > '~')
			return false;
	return n < FINDING_TEXT;
}

bool finding_believe(const struct finder_answer *answer)
{
	if (!answer->id || answer->n > FINDING_HOLDERS_MAX || answer->incomplete > 1)
		return false;
	for (uint32_t i = 0; i < answer->n; i++) {
		const struct finder_holder *holder = &answer->holders[i];

		if (!holder->pid || holder->pid > INT32_MAX || holder->address.device > 31 ||
		    holder->address.function > 7 || holder->address.reserved ||
		    !is_text(holder->node) || !holder->node[0] || !is_text(holder->program))
			return false;
	}
	return true;
}
