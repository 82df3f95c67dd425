/* SPDX-License-Identifier: MIT */
/*
 * Orders of `gpubroker serve` under way: how long each may take, and that those which wait for a
 * guest leave room for listings. The other process is the end of a socket, which only counts.
 */
#include "config.h"

#include "client/serve/jobs.h"
#include "client/common/util.h"
#include "tests/tap.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* For detach the guest has 30 seconds, and then the lease 15. */
static const uint32_t slow[] = { SPAWN_ATTACH,	SPAWN_DETACH,  SPAWN_PREPARE,
				 SPAWN_RESTORE, SPAWN_RELEASE, SPAWN_STOP };
static const uint32_t fast[] = { SPAWN_LIST, SPAWN_LEASES, SPAWN_CLAIMS, SPAWN_START };

static struct job *want(struct jobs *jobs, uint32_t verb)
{
	return jobs_want(jobs, &(struct spawn_order){ .verb = verb }, false);
}

/* How many of these have at least so long from now, less the time that the test takes. */
static unsigned count_longer(struct jobs *jobs, const uint32_t *verbs, size_t n, uint64_t ms)
{
	unsigned longer = 0;

	for (size_t i = 0; i < n; i++) {
		const uint64_t before = jobs_now();
		struct job *job = want(jobs, verbs[i]);

		longer += job->deadline >= before + ms;
		jobs_drop(jobs, job);
	}
	return longer;
}

static unsigned count_sent(struct job *const *jobs, size_t n)
{
	unsigned sent = 0;

	for (size_t i = 0; i < n; i++)
		sent += jobs[i]->sent;
	return sent;
}

int main(void)
{
	static struct pollfd p[JOBS_FDS];
	struct job *many[2 * JOBS_AT_ONCE], *listing, *stream;
	struct jobs jobs = { 0 };
	int ends[2];

	TAILQ_INIT(&jobs.list);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends))
		return 99;
	jobs.spawner = ends[0];
	tap_ok(count_longer(&jobs, slow, ARRAY_SIZE(slow), 120000) == ARRAY_SIZE(slow),
	       "what waits for a guest, a driver or a unit has 120 seconds");
	tap_ok(count_longer(&jobs, fast, ARRAY_SIZE(fast), 30000) == ARRAY_SIZE(fast) &&
		       !count_longer(&jobs, fast, ARRAY_SIZE(fast), 110000),
	       "what asks the broker alone has 30");
	stream = jobs_want(&jobs, &(struct spawn_order){ .verb = SPAWN_WATCH }, true);
	tap_ok(stream && !stream->deadline, "a stream has no end");
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = want(&jobs, SPAWN_DETACH);
	listing = want(&jobs, SPAWN_LIST);
	jobs_poll(&jobs, p);
	tap_ok(listing->sent && count_sent(many, ARRAY_SIZE(many)) == JOBS_SLOW,
	       "a listing goes before orders that wait for guests");
	many[0]->done = true;
	jobs_poll(&jobs, p);
	tap_ok(count_sent(many, ARRAY_SIZE(many)) == JOBS_SLOW + 1,
	       "... and when one of them is done, the next begins");
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		jobs_drop(&jobs, many[i]);
	jobs_drop(&jobs, listing);
	jobs_drop(&jobs, stream);
	close(ends[0]);
	close(ends[1]);
	return tap_done();
}
