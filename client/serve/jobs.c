/* SPDX-License-Identifier: MIT */
/*
 * Orders under way, see jobs.h. An order that several ask for at once is executed once, but always
 * after the last of them has asked, so that nobody gets what was true before. It must never wait,
 * and never keep more of an output than a listing can have.
 */
#include "config.h"

#include "client/serve/jobs.h"
#include "client/common/util.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#define OUT_MAX (4u << 20)
#define ERR_MAX (64u << 10)
#define PIECE 65536

uint64_t jobs_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Returns true if the verb waits for more than the broker: it may take longer, and fewer run. */
static bool is_slow(uint32_t verb)
{
	switch ((enum spawn_verb)verb) {
	case SPAWN_RELEASE:
	case SPAWN_PREPARE:
	case SPAWN_RESTORE:
	case SPAWN_ATTACH:
	case SPAWN_DETACH:
	case SPAWN_STOP:
		return true;
	default:
		return false;
	}
}

static size_t count_streams(const struct jobs *jobs)
{
	const struct job *job;
	size_t n = 0;

	TAILQ_FOREACH(job, &jobs->list, link)
		n += job->streams;
	return n;
}

static struct job *find_to_share(struct jobs *jobs, const struct spawn_order *order)
{
	struct job *job;

	TAILQ_FOREACH(job, &jobs->list, link)
		if (!job->sent && job->order.verb == order->verb && spawn_is_shared(order->verb))
			return job;
	return NULL;
}

struct job *jobs_want(struct jobs *jobs, const struct spawn_order *order, bool streams)
{
	struct job *job = find_to_share(jobs, order);

	if (job) {
		job->users++;
		return job;
	}
	if (streams && count_streams(jobs) >= JOBS_STREAMS)
		return NULL;
	job = calloc(1, sizeof(*job));
	if (!job)
		return NULL;
	job->order = *order;
	job->order.id = ++jobs->next_id;
	job->streams = streams;
	job->users = 1;
	job->status = -1;
	job->fds[0] = job->fds[1] = job->fds[2] = -1;
	if (!streams)
		job->deadline = jobs_now() + (is_slow(order->verb) ? JOBS_SLOW_MS : JOBS_MS);
	TAILQ_INSERT_TAIL(&jobs->list, job, link);
	return job;
}

static void close_pipes(struct job *job)
{
	for (int i = 0; i < 3; i++)
		job->fds[i] = fd_close(job->fds[i]);
	job->done = true;
}

void jobs_drop(struct jobs *jobs, struct job *job)
{
	if (!job || --job->users)
		return;
	close_pipes(job);
	TAILQ_REMOVE(&jobs->list, job, link);
	free(job->text[0]);
	free(job->text[1]);
	free(job);
}

struct spawn_result job_result(const struct job *job)
{
	return (struct spawn_result){
		.status = job->status,
		.out = job->text[0] ? job->text[0] : "",
		.err = job->text[1] ? job->text[1] : "",
	};
}

char *job_line(struct job *job)
{
	char *end = job->text[0] ? memchr(job->text[0], '\n', job->size[0]) : NULL;
	size_t n = end ? (size_t)(end - job->text[0]) : 0;
	char *line = end ? strndup(job->text[0], n) : NULL;

	if (end) {
		job->size[0] -= n + 1;
		memmove(job->text[0], end + 1, job->size[0] + 1);
	}
	return line;
}

/* ---- reading ---- */

/* Reads what has come of one of the two outputs. */
static void read_output(struct job *job, int which)
{
	const size_t most = which ? ERR_MAX : OUT_MAX;
	char *text = realloc(job->text[which], job->size[which] + PIECE + 1);
	ssize_t n;

	if (!text) {
		close_pipes(job);
		return;
	}
	job->text[which] = text;
	n = read(job->fds[which], text + job->size[which], PIECE);
	if (n > 0)
		job->size[which] += (size_t)n;
	text[job->size[which]] = '\0';
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		job->fds[which] = fd_close(job->fds[which]);
	if (job->size[which] > most)
		close_pipes(job); /* its status stays -1 */
}

static void read_status(struct job *job)
{
	int status;
	ssize_t n = read(job->fds[2], &status, sizeof(status));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == (ssize_t)sizeof(status))
		job->status = status;
	job->fds[2] = fd_close(job->fds[2]);
}

static void note_pipes(struct job *job)
{
	if (job->begun && !job->done && job->fds[0] < 0 && job->fds[1] < 0 && job->fds[2] < 0)
		job->done = true;
}

static struct job *find_id(struct jobs *jobs, uint32_t id)
{
	struct job *job;

	TAILQ_FOREACH(job, &jobs->list, link)
		if (job->order.id == id)
			return job;
	return NULL;
}

static void take_answers(struct jobs *jobs)
{
	struct spawn_answer answer;
	int fds[3];
	size_t n_fds = 0;
	ssize_t n;

	while ((n = passfd_receive(jobs->spawner, &answer, sizeof(answer), fds, 3, &n_fds)) > 0) {
		struct job *job = n == (ssize_t)sizeof(answer) ? find_id(jobs, answer.id) : NULL;

		if (!job || job->done || n_fds != 3) {
			while (n_fds)
				close(fds[--n_fds]);
			if (job)
				close_pipes(job);
			continue;
		}
		memcpy(job->fds, fds, sizeof(fds));
		job->begun = true;
		for (int i = 0; i < 3; i++)
			fcntl(fds[i], F_SETFL, O_NONBLOCK);
	}
	jobs->lost = n != -EAGAIN;
}

/* ---- the loop ---- */

static void send_waiting(struct jobs *jobs)
{
	struct job *job;
	size_t n = 0, n_slow = 0;

	TAILQ_FOREACH(job, &jobs->list, link) {
		n += job->sent && !job->done && !job->streams;
		n_slow += job->sent && !job->done && is_slow(job->order.verb);
	}
	TAILQ_FOREACH(job, &jobs->list, link) {
		const bool slow = is_slow(job->order.verb);

		if (job->sent || job->done || (!job->streams && n >= JOBS_AT_ONCE) ||
		    (slow && n_slow >= JOBS_SLOW))
			continue;
		if (passfd_send(jobs->spawner, &job->order, sizeof(job->order), NULL, 0))
			return;
		job->sent = true;
		n += !job->streams;
		n_slow += slow;
	}
}

size_t jobs_poll(struct jobs *jobs, struct pollfd *p)
{
	struct job *job;
	size_t n = 0;

	send_waiting(jobs);
	p[n++] = (struct pollfd){ .fd = jobs->spawner, .events = POLLIN };
	TAILQ_FOREACH(job, &jobs->list, link)
		for (int i = 0; i < 3 && n < JOBS_FDS; i++)
			if (job->fds[i] >= 0)
				p[n++] = (struct pollfd){ .fd = job->fds[i], .events = POLLIN };
	return n;
}

void jobs_serve(struct jobs *jobs, const struct pollfd *p, size_t n)
{
	const uint64_t now = jobs_now();
	struct job *job;

	for (size_t k = 1; k < n; k++) {
		if (!p[k].revents)
			continue;
		TAILQ_FOREACH(job, &jobs->list, link) {
			if (job->fds[2] == p[k].fd)
				read_status(job);
			else if (job->fds[0] == p[k].fd)
				read_output(job, 0);
			else if (job->fds[1] == p[k].fd)
				read_output(job, 1);
			else
				continue;
			break;
		}
	}
	if (p[0].revents)
		take_answers(jobs);
	TAILQ_FOREACH(job, &jobs->list, link) {
		note_pipes(job);
		if (!job->done && job->deadline && now >= job->deadline) {
			job->status = -1;
			close_pipes(job);
		}
	}
}
