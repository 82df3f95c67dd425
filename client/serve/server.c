/* SPDX-License-Identifier: MIT */
/*
 * Connections of `gpubroker serve`, see server.h: one request each, with a time for all of it, and
 * an answer, or a stream of events. It must never wait for a client, nor keep one that does not
 * read or write in time, nor more than its room.
 */
#include "config.h"

#include "client/serve/server.h"
#include "client/command/cli.h"
#include "client/common/util.h"
#include "client/serve/jobs.h"
#include "client/serve/routes.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECTIONS_MAX 256
#define TCP_MAX 64		 /* of these: any user of the host can connect there */
#define STREAM_ROOM (256u << 10) /* unread bytes of a stream, after which its client is dropped */
#define LIFE_MS 30000		 /* to send a request, and again to read the answer */
#define DRAIN_MS 2000		 /* to close, after the answer */
#define BEAT_MS 15000		 /* a stream without events has a comment */

enum phase { READING, WORKING, STREAMING, WRITING, DRAINING, OVER };

struct connection {
	TAILQ_ENTRY(connection) link;
	int fd;
	bool tcp, half_closed; /* half_closed: the client sends nothing more, and may still read */
	enum phase phase;
	uint64_t deadline;
	struct pollfd *polled;
	char in[REQUEST_MAX + 2];
	size_t n_in;
	struct http_request request;
	struct exchange x;
	struct job *jobs[EXCHANGE_WANTS];
	struct job *stream;
	char *out;
	size_t n_out, at;
};

static struct {
	const struct server_setup *setup;
	struct jobs jobs;
	TAILQ_HEAD(, connection) list;
	size_t n, n_tcp;
} server;

/* ---- the answer ---- */

/* Adds bytes to what the client is to get. Returns false if it reads too slowly, or for memory. */
static bool add_out(struct connection *c, const char *text, size_t n)
{
	char *out;

	if (c->at) {
		memmove(c->out, c->out + c->at, c->n_out - c->at);
		c->n_out -= c->at;
		c->at = 0;
	}
	if (c->phase == STREAMING && c->n_out + n > STREAM_ROOM)
		return false;
	out = realloc(c->out, c->n_out + n + 1);
	if (!out)
		return false;
	memcpy(out + c->n_out, text, n);
	c->out = out;
	c->n_out += n;
	return true;
}

static void drop_jobs(struct connection *c)
{
	for (size_t i = 0; i < EXCHANGE_WANTS; i++) {
		jobs_drop(&server.jobs, c->jobs[i]);
		c->jobs[i] = NULL;
	}
	jobs_drop(&server.jobs, c->stream);
	c->stream = NULL;
}

static void begin_writing(struct connection *c)
{
	drop_jobs(c);
	free(c->out);
	c->out = TAKE_PTR(c->x.response);
	c->n_out = c->x.size;
	c->at = 0;
	c->deadline = jobs_now() + LIFE_MS;
	c->phase = c->out ? WRITING : OVER;
}

static void write_some(struct connection *c)
{
	ssize_t n;

	if (c->at < c->n_out) {
		n = send(c->fd, c->out + c->at, c->n_out - c->at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0)
			c->at += (size_t)n;
		else if (n < 0 && errno != EAGAIN && errno != EINTR)
			c->phase = OVER;
	}
	if (c->phase == WRITING && c->at == c->n_out) {
		/* To close at once would take the answer from a client that still sends. */
		shutdown(c->fd, SHUT_WR);
		c->phase = c->half_closed ? OVER : DRAINING;
		c->deadline = jobs_now() + DRAIN_MS;
	}
}

/* ---- the request ---- */

static void begin_stream(struct connection *c)
{
	c->stream = jobs_want(&server.jobs, &c->x.stream, true);
	if (!c->stream) {
		reply_problem(&c->x, 503, "there are as many streams of events as there can be");
		begin_writing(c);
		return;
	}
	c->phase = STREAMING;
	c->deadline = jobs_now() + BEAT_MS;
	if (!add_out(c, reply_events_head(), strlen(reply_events_head())))
		c->phase = OVER;
}

static void begin_request(struct connection *c)
{
	c->x.request = &c->request;
	c->x.body = c->in + c->request.body_at;
	c->in[c->n_in] = '\0';
	if (gate_lets_in(&server.setup->gate, c->tcp, &c->x))
		routes_begin(&c->x);
	if (c->x.response) {
		begin_writing(c);
		return;
	}
	if (c->x.streams) {
		begin_stream(c);
		return;
	}
	for (size_t i = 0; i < c->x.n_wants; i++) {
		c->jobs[i] = jobs_want(&server.jobs, &c->x.wants[i], false);
		if (!c->jobs[i]) {
			reply_problem(&c->x, 503, "there is no memory for that");
			begin_writing(c);
			return;
		}
	}
	c->phase = WORKING;
	c->deadline = 0; /* a job has one of its own */
}

static void read_some(struct connection *c)
{
	ssize_t n = recv(c->fd, c->in + c->n_in, REQUEST_MAX + 1 - c->n_in, MSG_DONTWAIT);
	const char *why;
	int r;

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		c->phase = OVER;
	if (n <= 0)
		return;
	c->n_in += (size_t)n;
	r = request_parse(c->in, c->n_in, &c->request, &why);
	if (r == -EAGAIN)
		return;
	if (!r) {
		begin_request(c);
		return;
	}
	reply_problem(&c->x, r, why);
	begin_writing(c);
}

/* Throws away what a client sends behind its request, or sees that it is gone. */
static void drain(struct connection *c, bool is_gone)
{
	char away[4096];
	ssize_t n = recv(c->fd, away, sizeof(away), MSG_DONTWAIT);

	if (is_gone || (n == 0 && c->phase == DRAINING) ||
	    (n < 0 && errno != EAGAIN && errno != EINTR)) {
		c->phase = OVER;
	} else if (n == 0) {
		c->half_closed = true;
		if (c->phase == STREAMING) /* a comment shows whether it still reads */
			c->deadline = jobs_now();
	}
}

/* ---- what has come of it ---- */

static void look_at_jobs(struct connection *c)
{
	for (size_t i = 0; i < c->x.n_wants; i++)
		if (!c->jobs[i]->done)
			return;
	for (size_t i = 0; i < c->x.n_wants; i++)
		c->x.results[i] = job_result(c->jobs[i]);
	c->x.finish(&c->x);
	if (!c->x.response)
		reply_problem(&c->x, 500, "there is no answer to that");
	begin_writing(c);
}

static void add_events(struct connection *c)
{
	char *line;
	bool good = true;

	while (good && (line = job_line(c->stream)) != NULL) {
		good = add_out(c, "data: ", 6) && add_out(c, line, strlen(line)) &&
		       add_out(c, "\n\n", 2);
		free(line);
		c->deadline = jobs_now() + BEAT_MS;
	}
	if (!good) {
		c->phase = OVER;
		return;
	}
	if (!c->stream->done)
		return;
	/* Its end: of the claim's steps, or of the broker. The client connects again for others. */
	if (c->stream->status > 0) {
		reply_failure(&c->x, &(struct spawn_result){ c->stream->status, "",
							     job_result(c->stream).err });
		line = c->x.response ? strstr(c->x.response, "\r\n\r\n") : NULL;
		add_out(c, "event: end\ndata: ", 17);
		for (char *p = line; p && *(p += strspn(p, "\r\n ")); p += strcspn(p, "\n"))
			add_out(c, p, strcspn(p, "\n"));
		add_out(c, "\n\n", 2);
		free(TAKE_PTR(c->x.response));
	}
	drop_jobs(c);
	c->phase = WRITING;
	c->deadline = jobs_now() + LIFE_MS;
}

static void on_deadline(struct connection *c)
{
	if (c->phase == STREAMING) {
		c->deadline = jobs_now() + BEAT_MS;
		if (!add_out(c, ":\n\n", 3))
			c->phase = OVER;
	} else if (c->phase == READING && c->n_in) {
		reply_problem(&c->x, 408, "the request was not there within 30 seconds");
		begin_writing(c);
	} else {
		c->phase = OVER;
	}
}

static void serve_one(struct connection *c, uint64_t now)
{
	const short got = c->polled ? c->polled->revents : 0;

	if (c->phase == READING && got)
		read_some(c);
	else if ((c->phase == WORKING || c->phase == STREAMING || c->phase == DRAINING) &&
		 got & (POLLIN | POLLHUP | POLLERR))
		drain(c, got & (POLLHUP | POLLERR));
	if (c->phase == WORKING)
		look_at_jobs(c);
	else if (c->phase == STREAMING)
		add_events(c);
	if (c->phase == WRITING || c->phase == STREAMING)
		write_some(c);
	if (c->phase != OVER && c->deadline && now >= c->deadline)
		on_deadline(c);
}

/* ---- the loop ---- */

static bool is_for_us(int fd, bool tcp)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return tcp || (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
		       (peer.uid == server.setup->uid || !peer.uid));
}

static bool has_room(bool tcp)
{
	return server.n < CONNECTIONS_MAX && (!tcp || server.n_tcp < TCP_MAX);
}

static void take_connection(int listener, bool tcp)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct connection *c = fd < 0 || !is_for_us(fd, tcp) ? NULL : calloc(1, sizeof(*c));

	if (!c) {
		fd_close(fd);
		return;
	}
	c->fd = fd;
	c->tcp = tcp;
	c->deadline = jobs_now() + LIFE_MS;
	TAILQ_INSERT_TAIL(&server.list, c, link);
	server.n++;
	server.n_tcp += tcp;
}

static void free_connection(struct connection *c)
{
	drop_jobs(c);
	fd_close(c->fd);
	TAILQ_REMOVE(&server.list, c, link);
	server.n--;
	server.n_tcp -= c->tcp;
	free(c->out);
	free(c->x.response);
	free(c);
}

static short wanted_events(const struct connection *c)
{
	return (short)((c->phase != WRITING && !c->half_closed ? POLLIN : 0) |
		       (c->at < c->n_out ? POLLOUT : 0));
}

static size_t poll_all(struct pollfd *p, size_t *ret_n_jobs)
{
	size_t n = jobs_poll(&server.jobs, p);
	struct connection *c;

	*ret_n_jobs = n;
	for (unsigned i = 0; i < server.setup->n_listeners; i++)
		p[n++] = (struct pollfd){
			.fd = has_room(server.setup->tcp[i]) ? server.setup->listeners[i] : -1,
			.events = POLLIN,
		};
	TAILQ_FOREACH(c, &server.list, link) {
		c->polled = &p[n];
		p[n++] = (struct pollfd){ .fd = c->fd, .events = wanted_events(c) };
	}
	return n;
}

int server_run(const struct server_setup *setup)
{
	static struct pollfd p[JOBS_FDS + SERVER_LISTENERS + CONNECTIONS_MAX];
	struct connection *c, *next;
	size_t n, n_jobs;

	server.setup = setup;
	server.jobs.spawner = setup->spawner;
	TAILQ_INIT(&server.jobs.list);
	TAILQ_INIT(&server.list);
	while (!server.jobs.lost) {
		n = poll_all(p, &n_jobs);
		if (poll(p, n, server.n ? 250 : -1) < 0)
			continue;
		jobs_serve(&server.jobs, p, n_jobs);
		for (c = TAILQ_FIRST(&server.list); c; c = next) {
			next = TAILQ_NEXT(c, link);
			serve_one(c, jobs_now());
			if (c->phase == OVER)
				free_connection(c);
		}
		for (unsigned i = 0; i < setup->n_listeners; i++)
			if (p[n_jobs + i].revents && has_room(setup->tcp[i]))
				take_connection(setup->listeners[i], setup->tcp[i]);
	}
	return EXIT_SOFTWARE;
}
