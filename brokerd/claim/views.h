/* SPDX-License-Identifier: MIT */
/*
 * The groups that were read for one claim, for select.c. Several of its selectors may have the same
 * candidates, and several candidates may be in one group: each group is read once, and each
 * function that comes along is judged once. A group is read again only if a claim looks at more
 * than VIEWS_MAX.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/host/function.h"
#include "policy/policy.h"

#define VIEWS_MAX 64

struct selecting;

struct view {
	struct group_view *group;
	bool is_whole; /* else it has too many functions, see sysfs_group_read() */
	bool has_use;  /* sysfs_group_read_use() was done */
	struct policy_verdict judged[FUNCTIONS_MAX];
};

/* All zero: none. */
struct views {
	size_t n;
	struct view *list[VIEWS_MAX];
};

/*
 * Finds a group, or reads it. Returns as sysfs_group_read_ids(), with *ret_view if that is 0 or
 * -E2BIG. It is valid until the next call.
 */
int views_read(struct selecting *s, uint32_t group, struct view **ret_view);
/* Reads how the host uses the group's functions, unless that was done. Returns 0, or -errno. */
int views_read_use(struct selecting *s, struct view *view);
/* Hands the group of a view over to the caller, and forgets the view. */
struct group_view *views_take(struct views *views, struct view *view);
void views_done(struct views *views);
