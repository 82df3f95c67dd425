/* SPDX-License-Identifier: MIT */
/*
 * Copies of the policy's files as they were when they had no mistake last, for a broker that starts
 * while they have one: see POLICYFILES_SAVED.
 */
#pragma once

#include <stddef.h>

/* The texts of the files, as the parser got them. Zeroed at first. */
struct policy_texts {
	size_t n;
	struct policy_text_file *list;
};

/* Adds a file of the index-th directory; copies both strings. Returns 0, or -ENOMEM. */
int policy_texts_add(struct policy_texts *texts, size_t index, const char *name, const char *text,
		     size_t len);
void policy_texts_done(struct policy_texts *texts);

/*
 * Makes these the copies, as root. The earlier ones stay whole if that fails, or if the power is
 * cut. Returns 0, or -errno.
 */
int policy_save(const struct policy_texts *texts);
