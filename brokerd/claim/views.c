/* SPDX-License-Identifier: MIT */
/*
 * The groups that were read for one claim, see views.h. Owns them until they are handed over, and
 * counts what reading costs. It must never keep a view for another claim: a decision is made on
 * what sysfs shows now.
 */
#include "config.h"

#include "brokerd/claim/views.h"
#include "brokerd/claim/selecting.h"
#include "brokerd/state/users.h"
#include "client/common/util.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <stdlib.h>

static void free_view(struct view *view)
{
	free(view->group);
	free(view);
}

/* If there are too many, the last makes room: the others stay for the selectors that follow. */
static void keep_view(struct views *views, struct view *view)
{
	if (views->n == VIEWS_MAX)
		free_view(views->list[--views->n]);
	views->list[views->n++] = view;
}

int views_read(struct selecting *s, uint32_t group, struct view **ret_view)
{
	struct views *views = &s->views;
	struct view *view;
	int r;

	for (size_t i = 0; i < views->n; i++) {
		if (views->list[i]->group->group != group)
			continue;
		*ret_view = views->list[i];
		return (*ret_view)->is_whole ? 0 : -E2BIG;
	}
	view = calloc(1, sizeof(*view));
	if (view)
		view->group = calloc(1, sizeof(*view->group));
	if (!view || !view->group) {
		free(view);
		return -ENOMEM;
	}
	r = sysfs_group_read_ids(s->claims->kernel->sys, group, view->group);
	s->selection->cost += (view->group->n_functions + 1) * (COST_READ + COST_FUNCTION);
	if (r && r != -E2BIG) {
		free_view(view);
		return r;
	}
	view->is_whole = !r;
	if (!r)
		policy_judged_none(view->judged, view->group->n_functions);
	keep_view(views, view);
	*ret_view = view;
	return r;
}

int views_read_use(struct selecting *s, struct view *view)
{
	int r;

	if (view->has_use)
		return 0;
	s->selection->cost += view->group->n_functions * COST_USE;
	r = sysfs_group_read_use(s->claims->kernel->sys, view->group);
	view->has_use = !r;
	return r;
}

struct group_view *views_take(struct views *views, struct view *view)
{
	struct group_view *group = TAKE_PTR(view->group);

	for (size_t i = 0; i < views->n; i++)
		if (views->list[i] == view)
			views->list[i] = views->list[--views->n];
	free_view(view);
	return group;
}

void views_done(struct views *views)
{
	while (views->n)
		free_view(views->list[--views->n]);
}
