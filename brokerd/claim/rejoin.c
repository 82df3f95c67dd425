/* SPDX-License-Identifier: MIT */
/*
 * Records the places of waiting claims, and takes them up again, see rejoin.h. It must never keep
 * claims waiting for longer than REJOIN_SECONDS for those that do not come.
 */
#include "config.h"

#include "brokerd/claim/rejoin.h"
#include "brokerd/process/log.h"
#include "brokerd/record/store.h"
#include "brokerd/record/waiting-record.h"
#include "client/common/util.h"

#include <errno.h>
#include <event2/event.h>
#include <string.h>

#define REJOIN_SECONDS 2

static void drop_record(const struct claims *claims, uint64_t id)
{
	char name[WAITING_RECORD_NAME];

	waiting_record_name(id, name);
	store_drop(claims->leases->store, name);
}

/* A record that cannot be read costs somebody a place, and no device. */
static void on_waiting_record(void *userdata, const char *name, const char *text, size_t len)
{
	struct claims *claims = userdata;
	struct lease_table *leases = &claims->leases->table;
	struct waiting_record record;
	struct queue_place place;
	int r = waiting_record_parse(name, text, len, &record);

	if (!r) {
		place = (struct queue_place){ record.id, record.since, record.uid, "" };
		memcpy(place.through, record.through, sizeof(place.through));
	}
	if (r || record.id == UINT64_MAX || queue_keep(&claims->queue, &place)) {
		log_warning("the record %s of a claim that waited cannot be used, and is removed",
			    name);
		store_drop(claims->leases->store, name);
		return;
	}
	if (leases->next_id <= record.id)
		leases->next_id = record.id + 1;
}

int rejoin_recover(struct claims *claims)
{
	return store_each(claims->leases->store, STORE_WAITING, on_waiting_record, claims);
}

/* Those that have not come by now have ended, and keep nothing from others. */
static void on_late(evutil_socket_t fd, short what, void *userdata)
{
	struct claims *claims = userdata;
	const struct queue_place *place;

	(void)fd;
	(void)what;
	while ((place = queue_next_kept(&claims->queue))) {
		drop_record(claims, place->id);
		queue_drop_kept(&claims->queue, place->id);
	}
}

void rejoin_serve(struct claims *claims)
{
	const struct timeval limit = { .tv_sec = REJOIN_SECONDS };

	if (!queue_next_kept(&claims->queue))
		return;
	claims->late_places = evtimer_new(claims->base, on_late, claims);
	if (!claims->late_places || evtimer_add(claims->late_places, &limit))
		on_late(-1, 0, claims);
}

void rejoin_note(struct claims *claims, const struct waiting *waiting)
{
	struct waiting_record record = {
		.id = waiting->id,
		.since = waiting->since,
		.uid = waiting->claimant->uid,
	};
	char name[WAITING_RECORD_NAME], text[WAITING_RECORD_TEXT];
	int r;

	memcpy(record.through, waiting->claimant->through, sizeof(record.through));
	waiting_record_name(record.id, name);
	r = store_put(claims->leases->store, name, text, waiting_record_format(&record, text));
	if (r && !claims->place_lost)
		log_warning("a waiting claim cannot be recorded, and would lose its place with the "
			    "daemon: %s",
			    strerror(-r));
	claims->place_lost = r;
}

void rejoin_forget(struct claims *claims, const struct waiting *waiting)
{
	if (!claims->closed)
		drop_record(claims, waiting->id);
}

void rejoin_done(struct claims *claims)
{
	queue_done(&claims->queue);
	if (claims->late_places)
		event_free(TAKE_PTR(claims->late_places));
}
