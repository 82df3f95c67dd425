/* SPDX-License-Identifier: MIT */
/*
 * The lease table: its states against a list written out here, its order, its numbers and its
 * cursors. The list says what should be, not what the code has: a change of one needs a change of
 * the other, and so a second thought.
 */
#include "config.h"

#include "brokerd/state/lease.h"
#include "client/common/util.h"
#include "tests/tap.h"

enum { NO, PREPARING, READY, LEASED, RELEASING, RESTORING, STUCK, HOST, ASKED };

static const char *const states[] = { "(0)",	   "preparing", "ready", "leased", "releasing",
				      "restoring", "stuck",	"host",	 "asked" };

static const struct {
	const char *name;
	/*
	 * The state that follows each state. NO: the event is a late hint there, and nothing
	 * changes.
	 */
	int from_preparing, from_ready, from_leased, from_releasing, from_restoring, from_stuck,
		from_host, from_asked;
} expected[LEASE_N_EVENTS] = {
	[LEASE_CLAIMED] = { "claimed", NO, NO, NO, NO, NO, NO, PREPARING, NO },
	[LEASE_BOUND] = { "bound", READY, NO, NO, NO, NO, NO, NO, NO },
	[LEASE_ABANDON] = { "abandon", RESTORING, RESTORING, RESTORING, NO, NO, RESTORING, NO,
			    RESTORING },
	[LEASE_SENT] = { "sent", LEASED, LEASED, NO, LEASED, NO, NO, NO, NO },
	[LEASE_RECALLED] = { "recalled", NO, NO, RESTORING, RESTORING, NO, NO, NO, NO },
	[LEASE_CLOSED] = { "closed", NO, NO, RELEASING, NO, NO, NO, NO, NO },
	[LEASE_REGAINED] = { "regained", RESTORING, NO, RESTORING, RESTORING, NO, NO, NO, NO },
	[LEASE_RESTORED] = { "restored", NO, NO, NO, NO, HOST, HOST, NO, HOST },
	[LEASE_FAILED] = { "failed", NO, NO, NO, STUCK, STUCK, STUCK, NO, STUCK },
	[LEASE_LATE] = { "late", STUCK, NO, STUCK, STUCK, STUCK, NO, NO, STUCK },
	[LEASE_WAITS] = { "waits", NO, NO, NO, NO, ASKED, ASKED, NO, NO },
};

/* The last call of events->state(), and the number of calls. */
static unsigned n_reports;
static const struct lease *reported;
static enum gpubroker_lease_state reported_state;

static void on_state(void *userdata, const struct lease *lease)
{
	*(unsigned *)userdata += 1;
	reported = lease;
	reported_state = lease->state;
}

static const struct lease_events events = { .state = on_state };
static struct lease_table owner = { .events = &events, .userdata = &n_reports };

static struct lease lease_in(size_t state)
{
	return (struct lease){ .table = &owner, .state = (enum gpubroker_lease_state)state };
}

static int expect(size_t state, unsigned event)
{
	const int row[] = { NO,
			    expected[event].from_preparing,
			    expected[event].from_ready,
			    expected[event].from_leased,
			    expected[event].from_releasing,
			    expected[event].from_restoring,
			    expected[event].from_stuck,
			    expected[event].from_host,
			    expected[event].from_asked };

	return row[state];
}

static void test_states(void)
{
	for (size_t state = PREPARING; state <= ASKED; state++) {
		for (unsigned event = 0; event < LEASE_N_EVENTS; event++) {
			struct lease lease = lease_in(state);
			int want = expect(state, event);
			bool moved = lease_transition(&lease, (enum lease_event)event);

			if (want == NO)
				tap_ok(!moved && lease.state == state,
				       "%s, %s: means nothing, and stays", states[state],
				       expected[event].name);
			else
				tap_ok(moved && (int)lease.state == want, "%s, %s: %s",
				       states[state], expected[event].name, states[want]);
		}
	}
}

/*
 * lease.c calls events->state() once for each move to another state, after the move;
 * lease_mark_stuck() reports STUCK and ASKED.
 */
static void test_reports(void)
{
	struct lease_table silent = { 0 };
	struct lease lease;

	for (size_t state = PREPARING; state <= ASKED; state++) {
		bool good = true;

		for (unsigned event = 0; event < LEASE_N_EVENTS; event++) {
			int want = expect(state, event);
			bool is_reported = want != NO && want != STUCK && want != ASKED &&
					   (size_t)want != state;

			lease = lease_in(state);
			n_reports = 0;
			lease_transition(&lease, (enum lease_event)event);
			good = good && n_reports == is_reported &&
			       (!is_reported ||
				(reported == &lease && (int)reported_state == want));
		}
		tap_ok(good, "each move of one that is %s is reported once, and nothing else is",
		       states[state]);
	}
	lease = lease_in(LEASED);
	lease.table = &silent;
	tap_ok(lease_transition(&lease, LEASE_CLOSED) && lease.state == GPUBROKER_LEASE_RELEASING,
	       "a table without events moves its leases all the same");
}

static void test_states_hostile(void)
{
	static const unsigned out_of_range[] = { 0, ASKED + 1, 255, UINT32_MAX };
	bool still = true;

	for (size_t i = 0; i < ARRAY_SIZE(out_of_range); i++) {
		for (unsigned event = 0; event < LEASE_N_EVENTS; event++) {
			struct lease lease = lease_in(out_of_range[i]);

			still = still && !lease_transition(&lease, (enum lease_event)event) &&
				lease.state == out_of_range[i];
		}
	}
	tap_ok(still, "a state that is none goes nowhere");
	for (size_t state = PREPARING; state <= ASKED; state++) {
		struct lease lease = lease_in(state);

		still = still && !lease_transition(&lease, LEASE_N_EVENTS) &&
			!lease_transition(&lease, (enum lease_event)UINT32_MAX) &&
			lease.state == state;
	}
	tap_ok(still, "an event that is none does nothing");
}

/* Checks the one property that the table exists for. */
static void test_no_way_around(void)
{
	bool around = false;

	for (size_t state = PREPARING; state <= ASKED; state++)
		for (unsigned event = 0; event < LEASE_N_EVENTS; event++) {
			struct lease lease = lease_in(state);

			if (!lease_transition(&lease, (enum lease_event)event) || state <= READY ||
			    state == HOST)
				continue;
			around = around || lease.state == GPUBROKER_LEASE_PREPARING ||
				 lease.state == GPUBROKER_LEASE_READY;
		}
	tap_ok(!around, "what has been lent, restored or stuck never becomes ready to lend again");
}

static void test_leaving(void)
{
	static const bool leaving[] = {
		[PREPARING] = false, [READY] = false, [LEASED] = false, [RELEASING] = true,
		[RESTORING] = true,  [STUCK] = false, [HOST] = false,	[ASKED] = true
	};

	for (size_t state = PREPARING; state <= ASKED; state++) {
		const struct lease lease = lease_in(state);

		tap_ok(lease_is_leaving(&lease) == leaving[state], "waiting %s for one that is %s",
		       leaving[state] ? "helps" : "does not help", states[state]);
	}
}

/* Returns true if the list is in order, has no number twice, and is as long as the table says. */
static bool sound(const struct lease_table *table)
{
	const struct lease *lease, *last = NULL;
	size_t n = 0;

	TAILQ_FOREACH(lease, &table->list, link) {
		if (!lease->id || (last && last->id >= lease->id))
			return false;
		last = lease;
		n++;
	}
	return n == table->n;
}

static void empty(struct lease_table *table)
{
	while (!TAILQ_EMPTY(&table->list))
		lease_free(TAILQ_FIRST(&table->list));
}

static void test_table(void)
{
	struct lease_table table;
	struct lease *a, *b, *c, *old;

	lease_table_init(&table, NULL, NULL);
	tap_ok(!lease_find_from(&table, 0) && !lease_find_group(&table, 0) && !table.n,
	       "an empty table has nothing");

	a = lease_new(&table, 0, 17);
	b = lease_new(&table, 0, 18);
	tap_ok(a && b && a->id == 1 && b->id == 2, "numbers start at 1 and count");
	tap_ok(a->state == GPUBROKER_LEASE_PREPARING && a->watch == -1 && !a->recorded &&
		       !a->work && !a->timer && !a->follower && !a->n_functions && !a->reason[0],
	       "a new lease is being prepared and owns nothing");

	old = lease_new(&table, 10, 19);
	c = lease_new(&table, 0, 20);
	tap_ok(old->id == 10 && c->id == 11,
	       "a number from a record is kept, and the next is past it");
	old = lease_new(&table, 5, 21);
	tap_ok(old->id == 5 && sound(&table), "a smaller one goes to its place in the order");
	tap_ok(lease_new(&table, 0, 22)->id == 12, "and does not set the count back");
	lease_free(lease_find_from(&table, 12));
	tap_ok(lease_new(&table, 0, 23)->id == 13, "a number is not used again after its lease");
	tap_ok(sound(&table) && table.n == 6, "the table is in order and counted");

	tap_ok(lease_find_group(&table, 21) == old && lease_find_group(&table, 17) == a,
	       "a group's lease is found");
	tap_ok(!lease_find_group(&table, 99) && !lease_find_group(&table, 22), "and only that");
	b->watch = 3;
	c->watch = 4;
	tap_ok(lease_find_watch(&table, 3) == b && lease_find_watch(&table, 4) == c &&
		       !lease_find_watch(&table, 5),
	       "a watch's lease is found");
	a->cdev_watches[0] = 6;
	a->cdev_watches[1] = 7;
	a->n_cdev_watches = 1;
	tap_ok(lease_find_watch(&table, 6) == a && !lease_find_watch(&table, 7),
	       "... also by that of a device's own node");
	tap_ok(!lease_free(NULL) && table.n == 6, "freeing none is allowed");
	empty(&table);
	tap_ok(!table.n && sound(&table), "all can be freed");
}

static void test_cursor(void)
{
	struct lease_table table;
	uint64_t cursor = 1, told = 0;
	bool in_order = true;
	struct lease *lease;

	lease_table_init(&table, NULL, NULL);
	for (uint32_t i = 1; i <= 100; i++)
		lease_new(&table, 0, i);
	/*
	 * After each lease that the cursor returns, that one and the next go, and one comes at the
	 * end.
	 */
	while ((lease = lease_find_from(&table, cursor)) && told < 1000) {
		struct lease *next = TAILQ_NEXT(lease, link);

		in_order = in_order && lease->id >= cursor;
		cursor = lease->id + 1;
		told++;
		lease_free(lease);
		if (next)
			lease_free(next);
		if (told <= 10)
			lease_new(&table, 0, 1000 + (uint32_t)told);
	}
	tap_ok(in_order && told == 55 && sound(&table),
	       "a cursor goes on where leases come and go below it, and ends (%llu told)",
	       (unsigned long long)told);
	empty(&table);
}

/* A record may hold the largest number but one, see lease_record_parse(). */
static void test_numbers_end(void)
{
	struct lease_table table;
	struct lease *lease;
	bool good = true;

	lease_table_init(&table, NULL, NULL);
	lease_new(&table, UINT64_MAX - 1, 1);
	for (uint32_t i = 0; i < 3; i++) {
		lease = lease_new(&table, 0, 2 + i);
		/*
		 * If no number is left, no lease is better than 0, which means "not lent", or a
		 * number in use.
		 */
		good = good && (!lease || lease->id);
	}
	tap_ok(good && sound(&table), "numbers never come round to 0 or to one that is taken");
	empty(&table);
}

int main(void)
{
	test_states();
	test_reports();
	test_states_hostile();
	test_no_way_around();
	test_leaving();
	test_table();
	test_cursor();
	test_numbers_end();
	return tap_done();
}
