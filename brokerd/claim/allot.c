/* SPDX-License-Identifier: MIT */
/*
 * Allotments, see allot.h. Owns the order of recording, and the timer for their ends; select.c
 * decides which devices the user may have. It must never promise what the policy would not let the
 * user claim, never report an allotment that is not recorded, and never forget one whose devices
 * the host does not have.
 */
#include "config.h"

#include "brokerd/claim/allot.h"
#include "brokerd/claim/asking.h"
#include "brokerd/claim/claim.h"
#include "brokerd/claim/select.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/restore.h"
#include "brokerd/process/log.h"
#include "brokerd/record/allotment-record.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLOCK_MAX 60 /* seconds: the wall clock may be set, and the host may sleep */

/* ---- reports ---- */

/* Writes a line for each device. `pid` is root's process; 0: the broker itself. */
static void audit_allotment(const struct claims *claims, const struct allotment *allotment,
			    const char *outcome, uint32_t pid)
{
	struct audit_line line = {
		.outcome = outcome,
		.level = LOG_NOTICE,
		.uid = allotment->damaged ? AUDIT_NOBODY : (int64_t)allotment->uid,
		.pid = pid,
		.name = allotment->label,
		.group = NO_GROUP,
		.by = pid ? 0 : AUDIT_NOBODY,
	};

	for (size_t i = 0; i < allotment->n_devices; i++) {
		line.device = &allotment->devices[i].address;
		line.group = allotment->devices[i].group;
		audit_act(claims->audit, 0, &line);
	}
	if (!allotment->n_devices)
		audit_act(claims->audit, 0, &line);
}

/* Tells those who watch, and has the claims that wait for the devices tried again. */
static void report_allotment(struct claims *claims, const struct allotment *allotment,
			     enum gpubroker_event_kind kind)
{
	for (size_t i = 0; i < allotment->n_devices; i++)
		queue_mark(&claims->queue, allotment->devices[i].group);
	/* The groups of a damaged one are not known; a part of a VF is waited for by its card. */
	if (allotment->damaged || kind == GPUBROKER_EVENT_RETRACTED)
		queue_mark_all(&claims->queue);
	if (claims->allotment)
		claims->allotment(claims->userdata, allotment, kind);
}

/* ---- the end of one ---- */

/*
 * Returns true if a lease whose record is damaged has a device of the allotment: whose it was, and
 * by which label, is not known any more.
 */
static bool may_be_of(const struct allotment *allotment, const struct lease *lease)
{
	for (size_t i = 0; lease->damaged[0] && i < allotment->n_devices; i++)
		if (lease_has_function(lease, &allotment->devices[i].address))
			return true;
	return false;
}

static bool allotment_has_lease(const struct claims *claims, const struct allotment *allotment,
				const struct lease *but)
{
	const struct lease *lease;

	TAILQ_FOREACH(lease, &claims->leases->table.list, link)
		if (lease != but &&
		    (allotment_is_of(allotment, lease) || may_be_of(allotment, lease)))
			return true;
	return false;
}

/* Removes an allotment that is being taken away, if it has no lease any more but this one. */
static void finish_end(struct claims *claims, struct allotment *allotment, const struct lease *but)
{
	struct allotment was;
	int r;

	if (!allotment->retracting || allotment_has_lease(claims, allotment, but))
		return;
	was = *allotment;
	/* First its socket: of one that has no record nobody would know. */
	if (claims->allotment_ends)
		claims->allotment_ends(claims->userdata, &was);
	r = allotment_record_remove(claims->leases->store, was.label);
	if (r) /* it says that it is being taken away, so the next daemon tries again */
		log_error("the record of allotment %s cannot be removed: %s", was.label,
			  strerror(-r));
	allotments_remove(claims->allotments, allotment);
	audit_allotment(claims, &was, "retracted", 0);
	report_allotment(claims, &was, GPUBROKER_EVENT_RETRACTED);
}

static void revoke_lease(struct lease *lease)
{
	if (lease->follower)
		claim_release(claim_of(lease), lease);
	else if (lease->state == GPUBROKER_LEASE_STUCK)
		lease_retry(lease);
	else
		lease_recall(lease, "revoked");
}

/* Revokes all leases by a label, of which each may be gone when its turn is over. */
static void revoke_all(struct claims *claims, const char *label)
{
	const struct lease_table *table = &claims->leases->table;
	struct lease *lease = lease_find_from(table, 1);

	while (lease) {
		const uint64_t id = lease->id;

		if (!strcmp(lease->label, label))
			revoke_lease(lease);
		lease = id == UINT64_MAX ? NULL : lease_find_from(table, id + 1);
	}
}

/* The second and the third step. The allotment may be gone when this returns. */
static void go_on_ending(struct claims *claims, const struct allotment *allotment)
{
	char label[PROTOCOL_LABEL_MAX];
	struct allotment *now;

	memcpy(label, allotment->label, sizeof(label));
	revoke_all(claims, label);
	now = allotments_find(claims->allotments, label);
	if (now)
		finish_end(claims, now, NULL);
}

/* Begins to take it away. `must_record`: else it ends by its time, which is recorded already. */
static int begin_end(struct claims *claims, struct allotment *allotment, uint32_t pid,
		     bool must_record)
{
	const bool before = allotment->retracting;
	int r = 0;

	allotment->retracting = true;
	if (!before && !allotment->damaged)
		r = allotment_record_write(claims->leases->store, allotment);
	if (r && must_record) {
		allotment->retracting = false;
		return r;
	}
	if (!before) {
		audit_allotment(claims, allotment, pid ? "retracting" : "expired", pid);
		report_allotment(claims, allotment, GPUBROKER_EVENT_RETRACTING);
	}
	go_on_ending(claims, allotment);
	return 0;
}

int allot_retract(struct claims *claims, uint32_t pid, const char label[PROTOCOL_LABEL_MAX],
		  struct message_refusal *ret_refusal)
{
	struct allotment *allotment = allotments_find(claims->allotments, label);
	int r;

	if (!allotment) {
		revoke_all(claims, label); /* if somebody has removed its record by hand */
		return 0;
	}
	r = begin_end(claims, allotment, pid, true);
	if (!r)
		return 0;
	*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
	refusal_say(ret_refusal, "recording that it is being taken away");
	ret_refusal->error = -r;
	return GPUBROKER_REFUSED_FAILED;
}

void allot_lease_freed(struct claims *claims, const struct lease *lease)
{
	struct allotment *allotment;

	TAILQ_FOREACH(allotment, &claims->allotments->list, link)
		if (allotment_is_of(allotment, lease) ||
		    (allotment->retracting && may_be_of(allotment, lease)))
			break;
	if (allotment)
		finish_end(claims, allotment, lease);
}

/* ---- its time ---- */

static bool has_end(const struct allotment *allotment)
{
	return allotment->until && !allotment->retracting && !allotment->damaged;
}

static void set_allotments_end(struct claims *claims)
{
	const uint64_t now = (uint64_t)time(NULL);
	struct timeval after = { .tv_sec = CLOCK_MAX };
	const struct allotment *allotment;
	bool any = false;

	TAILQ_FOREACH(allotment, &claims->allotments->list, link) {
		const uint64_t left = allotment->until > now ? allotment->until - now : 0;

		if (!has_end(allotment))
			continue;
		any = true;
		if (left < (uint64_t)after.tv_sec)
			after.tv_sec = (time_t)left;
	}
	if (any && (!claims->allotments_end || evtimer_add(claims->allotments_end, &after)))
		log_error("no memory for a timer; allotments last until root takes them away");
}

/* Ends one a turn: many may be due at one moment, as at the end of a course. */
static void on_allotments_end(evutil_socket_t fd, short what, void *userdata)
{
	struct claims *claims = userdata;
	struct allotment *allotment;

	(void)fd;
	(void)what;
	TAILQ_FOREACH(allotment, &claims->allotments->list, link)
		if (has_end(allotment) && allotment->until <= (uint64_t)time(NULL))
			break;
	if (allotment)
		begin_end(claims, allotment, 0, false);
	set_allotments_end(claims);
}

/* ---- making one ---- */

/* The user whom the devices are for, as select.c asks for who claims. */
struct meant {
	struct claimant claimant;
	gid_t gids[PROTOCOL_GIDS_MAX];
	size_t n_gids;
};

static int meant_subject(const struct claimant *claimant, struct policy_subject *ret_subject)
{
	const struct meant *meant =
		(const void *)((const char *)claimant - offsetof(struct meant, claimant));

	*ret_subject = (struct policy_subject){
		.uid = claimant->uid,
		.gid = claimant->gid,
		.groups = meant->gids,
		.n_groups = meant->n_gids,
	};
	return 0;
}

static int refuse_label(struct message_refusal *ret_refusal, const struct allotment *allotment)
{
	refuse_allotted(ret_refusal, allotment, &allotment->devices[0].address,
			allotment->devices[0].group);
	ret_refusal->has_address = allotment->n_devices > 0;
	if (ret_refusal->detail == REFUSAL_PLAIN)
		ret_refusal->detail = REFUSAL_LABEL;
	return GPUBROKER_REFUSED_ALLOTTED;
}

static int refuse_full(struct message_refusal *ret_refusal, const char *format, int most)
{
	char text[sizeof(ret_refusal->text)];

	*ret_refusal = refusal_make(GPUBROKER_REFUSED_QUOTA);
	snprintf(text, sizeof(text), format, most);
	refusal_say(ret_refusal, "%s", text);
	return GPUBROKER_REFUSED_QUOTA;
}

static bool allotment_has_group(const struct allotment *allotment, uint32_t group)
{
	for (size_t i = 0; i < allotment->n_devices; i++)
		if (allotment->devices[i].group == group)
			return true;
	return false;
}

/* Adds the devices that were selected. Returns false if there is no room. */
static bool add_selected(struct allotment *allotment, const struct selection *selection)
{
	for (size_t i = 0; i < selection->n; i++) {
		const struct selected *item = &selection->items[i];
		const size_t at = group_find(item->view, &item->asked);
		struct allotted_device *device = &allotment->devices[allotment->n_devices];

		if (allotment_has_group(allotment, item->view->group))
			continue;
		if (allotment->n_devices == ARRAY_SIZE(allotment->devices))
			return false;
		*device = (struct allotted_device){
			.address = item->asked,
			.vendor = item->view->functions[at].vendor,
			.device = item->view->functions[at].device,
			.group = item->view->group,
		};
		allotment->n_devices++;
	}
	return true;
}

/* The leases by an allotment end with it, unless their rule's time, or root, ends them before. */
static void set_leases_end(struct claims *claims, const struct allotment *allotment,
			   uint64_t before)
{
	struct lease *lease;
	int r;

	TAILQ_FOREACH(lease, &claims->leases->table.list, link) {
		uint64_t ends = lease->ends;

		if (!allotment_is_of(allotment, lease))
			continue;
		if (before && ends == before)
			ends = lease->terms.lifetime ? lease->since + lease->terms.lifetime : 0;
		if (allotment->until && (!ends || allotment->until < ends))
			ends = allotment->until;
		if (ends == lease->ends)
			continue;
		lease->ends = ends;
		lease->warned = false;
		lease->warn_at = 0;
		r = lease->recorded ? lease_record(lease) : 0;
		if (r)
			log_error("lease %" PRIu64 ": recording its end: %s", lease->id,
				  strerror(-r));
		lease_set_clock(lease);
	}
}

/*
 * Records the allotment as it is to be, and then changes the table. Returns 0, or the reason, and
 * then neither has changed.
 */
static int put_allotment(struct claims *claims, struct allotment *now,
			 const struct allotment *wanted, struct message_refusal *ret_refusal)
{
	struct allotment *added = now;
	struct allotment was;
	int r;

	if (!now && claims->allotments->n == ALLOTMENTS_MAX)
		return refuse_full(ret_refusal,
				   "there are %d allotments, which is as many as the broker keeps",
				   ALLOTMENTS_MAX);
	if (!now)
		added = allotments_add(claims->allotments, wanted);
	if (!added)
		return asking_no_memory(ret_refusal);
	was = *added;
	r = allotment_record_write(claims->leases->store, wanted);
	if (r) {
		if (!now)
			allotments_remove(claims->allotments, added);
		return refuse_fault(ret_refusal, &wanted->devices[0].address, "recording it", -r);
	}
	memcpy(added->devices, wanted->devices, sizeof(added->devices));
	added->n_devices = wanted->n_devices;
	added->until = wanted->until;
	set_leases_end(claims, added, was.until);
	was = *added;
	report_allotment(claims, &was, GPUBROKER_EVENT_ALLOTTED);
	return 0;
}

/* Decides which devices are meant, and whether the user may have them. Returns 0, or the reason. */
static int decide_allot(struct claims *claims, uint32_t pid, const struct message_allot *request,
			struct selection *selection, struct message_refusal *ret_refusal)
{
	static const struct claimant_ops ops = { .subject = meant_subject };
	struct meant meant = {
		.claimant = { .ops = &ops,
			      .uid = request->uid,
			      .gid = request->gid,
			      .pid = pid,
			      .allots = request->label },
		.n_gids = request->n_gids,
	};
	cleanup_free struct message_claim *claim = calloc(1, sizeof(*claim));

	if (!claim)
		return asking_no_memory(ret_refusal);
	for (size_t i = 0; i < request->n_gids; i++)
		meant.gids[i] = request->gids[i];
	claim->type = MESSAGE_CLAIM;
	claim->n_selectors = request->n_selectors;
	memcpy(claim->selectors, request->selectors, sizeof(claim->selectors));
	return selection_decide(claims, &meant.claimant, claim, selection, ret_refusal);
}

int allot_make(struct claims *claims, uint32_t pid, const struct message_allot *request,
	       struct message_refusal *ret_refusal)
{
	cleanup_(asking_selection_freep) struct selection *selection =
		calloc(1, sizeof(*selection));
	struct allotment *now = allotments_find(claims->allotments, request->label);
	const struct policy *policy = &claims->policy->policy;
	struct allotment wanted = { .uid = request->uid, .since = (uint64_t)time(NULL) };
	int r;

	if (!selection)
		return asking_no_memory(ret_refusal);
	if (now && (now->damaged || now->retracting ||
		    policy_owner(policy, now->uid) != policy_owner(policy, request->uid)))
		return refuse_label(ret_refusal, now);
	r = decide_allot(claims, pid, request, selection, ret_refusal);
	if (r)
		return r;
	if (now)
		wanted = *now;
	memcpy(wanted.label, request->label, sizeof(wanted.label));
	if (request->until)
		wanted.until = request->until;
	if (!add_selected(&wanted, selection))
		return refuse_full(ret_refusal, "an allotment has at most %d devices",
				   PROTOCOL_SELECTORS_MAX);
	r = put_allotment(claims, now, &wanted, ret_refusal);
	if (r)
		return r;
	audit_allotment(claims, &wanted, "allotted", pid);
	set_allotments_end(claims);
	return 0;
}

/* ---- its socket ---- */

static int refuse_no_socket(struct message_refusal *ret_refusal, const char *format,
			    const char *label)
{
	char text[sizeof(ret_refusal->text) + PROTOCOL_SOCKET_NAME];

	*ret_refusal = refusal_make(GPUBROKER_REFUSED_FAILED);
	ret_refusal->detail = REFUSAL_SOCKET;
	snprintf(text, sizeof(text), format, label);
	refusal_say(ret_refusal, "%.*s", (int)sizeof(ret_refusal->text) - 1, text);
	return GPUBROKER_REFUSED_FAILED;
}

int allot_check_socket(struct claims *claims, const struct message_socket *request,
		       struct message_refusal *ret_refusal)
{
	const struct allotment *allotment = allotments_find(claims->allotments, request->label);
	const struct allotment *other = allotments_find_socket(claims->allotments, request->name);
	const struct policy *policy = &claims->policy->policy;

	if (!allotment)
		return refuse_no_socket(ret_refusal, "nothing is allotted under %s",
					request->label);
	if (allotment->damaged || allotment->retracting)
		return refuse_label(ret_refusal, allotment);
	/* Root has retracted it meanwhile, and allotted to somebody else. */
	if (policy_owner(policy, allotment->uid) != policy_owner(policy, request->uid))
		return refuse_no_socket(ret_refusal, "%s is another user's now", request->label);
	/* A socket that others get must not have root's identity. */
	if (policy_owner(policy, allotment->uid) == 0 || !allotment->uid)
		return refuse_no_socket(ret_refusal,
					"%s is root's, and has to be another account's",
					request->label);
	if (other && other != allotment)
		return refuse_no_socket(ret_refusal, "that one is of %s", other->label);
	if (allotment->socket[0] && other != allotment)
		return refuse_no_socket(ret_refusal, "it has %s already", allotment->socket);
	return 0;
}

int allot_set_socket(struct claims *claims, uint32_t pid, const struct message_socket *request,
		     const struct allotment **ret_allotment, struct message_refusal *ret_refusal)
{
	struct allotment *allotment, wanted;
	int r = allot_check_socket(claims, request, ret_refusal);

	if (r)
		return r;
	allotment = allotments_find(claims->allotments, request->label);
	wanted = *allotment;
	memcpy(wanted.socket, request->name, sizeof(wanted.socket));
	wanted.gid = request->gid;
	wanted.n_gids = request->n_gids;
	for (size_t i = 0; i < request->n_gids; i++)
		wanted.gids[i] = request->gids[i];
	r = allotment_record_write(claims->leases->store, &wanted);
	if (r)
		return refuse_fault(ret_refusal, &wanted.devices[0].address, "recording it", -r);
	*allotment = wanted; /* the list's links are the same */
	audit_allotment(claims, allotment, "socket", pid);
	*ret_allotment = allotment;
	return 0;
}

/* ---- the daemon's start and end ---- */

static void on_allotment_record(void *userdata, const char *name, const char *text, size_t len)
{
	struct claims *claims = userdata;
	struct allotment allotment;
	int r = allotment_record_parse(name, text, len, &allotment);

	if (r == -EINVAL)
		return; /* no broker has made such a name */
	if (r)
		log_error("the record %s is damaged: %s nobody's until 'gpubroker retract %s'",
			  name, allotment.all ? "all devices are" : "its devices are",
			  allotment.label);
	if (!allotments_add(claims->allotments, &allotment))
		claims->allotments_lost = true;
}

int allot_recover(struct claims *claims)
{
	int r = store_each(claims->leases->store, STORE_ALLOTMENTS, on_allotment_record, claims);

	if (!r && claims->allotments_lost)
		r = -ENOMEM;
	if (r)
		log_error("the records of allotments cannot be read: %s; ending, to be started "
			  "again",
			  strerror(-r));
	allotments_sort(claims->allotments);
	return r;
}

void allot_serve(struct claims *claims)
{
	uint64_t number = 1;
	const struct allotment *next;

	claims->allotments_end = evtimer_new(claims->base, on_allotments_end, claims);
	while ((next = allotments_from(claims->allotments, number))) {
		number = next->number + 1;
		if (next->retracting)
			go_on_ending(claims, next);
	}
	set_allotments_end(claims);
}

void allot_done(struct claims *claims)
{
	if (claims->allotments_end)
		event_free(TAKE_PTR(claims->allotments_end));
}
