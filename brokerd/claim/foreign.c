/* SPDX-License-Identifier: MIT */
/*
 * Groups that other programs have, see foreign.h. Owns their holds. It must never open a group
 * itself, and has a worker do so only while a claim waits for it: the program that wants to open it
 * at the same moment would find it busy.
 */
#include "config.h"

#include "brokerd/claim/foreign.h"
#include "brokerd/process/log.h"
#include "client/common/util.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>

#define KEPT_SECONDS 3

struct foreign {
	TAILQ_ENTRY(foreign) link;
	struct claims *claims;
	struct hold hold;
	struct pci_address address;
	struct event *timer;
	struct work *work; /* looks whether it is over, or NULL */
};

static void free_foreign(struct foreign *foreign)
{
	holds_remove(foreign->claims->holds, &foreign->hold);
	TAILQ_REMOVE(&foreign->claims->foreign, foreign, link);
	event_free(foreign->timer);
	free(foreign);
}

/* Forgets it: the next claim finds out anew. */
static void forget_foreign(struct foreign *foreign)
{
	struct queue *queue = &foreign->claims->queue;
	const uint32_t group = foreign->hold.group;

	free_foreign(foreign);
	queue_mark(queue, group);
}

static void keep_foreign(struct foreign *foreign)
{
	const struct timeval after = { .tv_sec = KEPT_SECONDS };

	if (evtimer_add(foreign->timer, &after))
		forget_foreign(foreign);
}

static void on_foreign_probed(void *userdata, const struct work_result *result)
{
	struct foreign *foreign = userdata;

	foreign->work = NULL;
	if (result->error == EBUSY || result->error == -KERNEL_ATTACHED)
		keep_foreign(foreign);
	else
		forget_foreign(foreign);
}

static void on_foreign_timer(evutil_socket_t fd, short what, void *userdata)
{
	static const struct work_ops ops = { .done = on_foreign_probed, .may_be_left = true };
	struct foreign *foreign = userdata;
	struct claims *claims = foreign->claims;
	struct work *work;
	int r;

	(void)fd;
	(void)what;
	if (!queue_reserves_key(&claims->queue, NULL, foreign->hold.group)) {
		forget_foreign(foreign);
		return;
	}
	work = work_new(&ops, foreign);
	r = work ? work_add_open(work, kernel_open_vfio(claims->kernel), foreign->hold.group,
				 &foreign->address)
		 : -ENOMEM;
	if (!r)
		r = workers_start(claims->workers, work);
	if (!r) {
		foreign->work = work;
		return;
	}
	work_free(work);
	forget_foreign(foreign);
}

void foreign_init(struct claims *claims)
{
	TAILQ_INIT(&claims->foreign);
}

void foreign_done(struct claims *claims)
{
	struct foreign *foreign, *next;

	for (foreign = TAILQ_FIRST(&claims->foreign); foreign; foreign = next) {
		next = TAILQ_NEXT(foreign, link);
		if (!foreign->work) /* else the process ends before its worker */
			free_foreign(foreign);
	}
}

void foreign_note(struct claims *claims, uint32_t group, const struct pci_address *address)
{
	struct foreign *foreign;

	if (holds_find_foreign(claims->holds, group))
		return;
	foreign = calloc(1, sizeof(*foreign));
	if (foreign)
		foreign->timer = evtimer_new(claims->base, on_foreign_timer, foreign);
	if (!foreign || !foreign->timer) {
		free(foreign);
		return;
	}
	foreign->claims = claims;
	foreign->address = *address;
	foreign->hold = (struct hold){ .kind = HOLD_FOREIGN, .group = group };
	holds_add(claims->holds, &foreign->hold);
	TAILQ_INSERT_TAIL(&claims->foreign, foreign, link);
	log_notice("group %" PRIu32 ": another program has it open through VFIO", group);
	keep_foreign(foreign);
}
