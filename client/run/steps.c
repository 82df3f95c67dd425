/* SPDX-License-Identifier: MIT */
/*
 * The steps of a claim as JSON, see steps.h. Owns the descriptor that they are written to. A reader
 * that does not read loses steps; for the last line of a claim it has a few seconds.
 */
#include "config.h"

#include "client/run/steps.h"
#include "client/command/cli.h"
#include "client/command/json-out.h"
#include "client/command/refused.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LAST_MS 3000 /* for the reader to take the last line */

static int to = -1; /* -1: the option was not given, or all is written */

int steps_begin(const char *text)
{
	char *end = NULL;
	long fd = STDERR_FILENO;
	int flags;

	if (!strncmp(text, "json,", 5) && text[5] >= '0' && text[5] <= '9')
		fd = strtol(text + 5, &end, 10);
	if (strcmp(text, "json") != 0 && (!end || *end || fd > INT32_MAX)) {
		cli_error("--progress=%s: give it as --progress=json, or with the number of an "
			  "open descriptor, as --progress=json,3",
			  text);
		return EXIT_BAD_USAGE;
	}
	flags = fcntl((int)fd, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) {
		cli_error("--progress=%s: descriptor %ld is not open for writing", text, fd);
		return EXIT_BAD_USAGE;
	}
	to = (int)fd;
	if (to > STDERR_FILENO)
		fcntl(to, F_SETFD, FD_CLOEXEC);
	if (to == STDERR_FILENO)
		refused_begin_json();
	else
		refused_begin_copy();
	return 0;
}

bool steps_own_stderr(void)
{
	return to == STDERR_FILENO;
}

/* Writes the object, and frees it. */
static void write_line(struct json_object *object, int patience)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct pollfd p = { .fd = to, .events = POLLOUT };
	const char *text = json_object_to_json_string_ext(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	cleanup_free char *line = NULL;
	struct sigaction before;
	int n = asprintf(&line, "%s\n", text);

	json_object_put(object);
	if (n < 0) {
		line = NULL;
		return;
	}
	/* A line fits into what poll() promises of a pipe, so that write() does not wait. */
	if (poll(&p, 1, patience) <= 0 || !(p.revents & POLLOUT))
		return;
	sigaction(SIGPIPE, &ignore, &before);
	while (write(to, line, (size_t)n) < 0 && errno == EINTR)
		;
	sigaction(SIGPIPE, &before, NULL);
}

static struct json_object *event_new(const char *event)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "event", json_object_new_string(event));
	return o;
}

static void tell_waiting(const struct gpubroker_progress *p)
{
	struct json_object *o = event_new("waiting");

	json_object_object_add(o, "claim", json_out_number(p->id));
	json_object_object_add(o, "place", json_object_new_int64(p->index));
	json_object_object_add(o, "device", json_out_text(p->address[0] ? p->address : p->parent));
	json_object_object_add(o, "lease", json_out_number(p->lease));
	json_object_object_add(o, "uid", p->lease ? json_object_new_int64(p->holder_uid) : NULL);
	json_object_object_add(o, "user", p->lease ? json_out_user(p->holder_uid) : NULL);
	json_object_object_add(o, "ends", json_out_number(p->ends));
	write_line(o, 0);
}

void steps_tell(const struct gpubroker_progress *p)
{
	static const char *const names[] = {
		[GPUBROKER_STEP_BIND] = "bind",
		[GPUBROKER_STEP_OPEN] = "open",
		[GPUBROKER_STEP_RESTORE] = "restore",
	};
	struct json_object *o;

	if (to < 0)
		return;
	if (p->step == GPUBROKER_STEP_WAIT) {
		tell_waiting(p);
		return;
	}
	if ((size_t)p->step >= ARRAY_SIZE(names) || !names[p->step])
		return;
	o = event_new("step");
	json_object_object_add(o, "step", json_object_new_string(names[p->step]));
	json_object_object_add(o, "device", json_out_text(p->address[0] ? p->address : p->parent));
	json_object_object_add(
		o, "iommu_group",
		p->iommu_group == UINT32_MAX ? NULL : json_object_new_int64(p->iommu_group));
	json_object_object_add(o, "index", json_out_number(p->index));
	json_object_object_add(o, "total", json_out_number(p->total));
	write_line(o, 0);
}

static void tell_warnings(void)
{
	char *sentence;

	while ((sentence = refused_next_warning()) != NULL) {
		struct json_object *o = event_new("warning");

		json_object_object_add(o, "sentence", json_object_new_string(sentence));
		free(sentence);
		write_line(o, 0);
	}
}

void steps_granted(const struct gpubroker_claim *claim)
{
	struct json_object *o, *leases;

	if (to < 0)
		return;
	tell_warnings();
	o = event_new("granted");
	leases = json_object_new_array();
	for (size_t i = 0; i < gpubroker_claim_groups(claim); i++) {
		const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, i);
		struct json_object *lease = json_object_new_object();

		json_object_object_add(lease, "lease", json_out_number(grant->lease));
		json_object_object_add(lease, "device",
				       json_out_text(grant->address[0] ? grant->address
								       : grant->parent));
		json_object_object_add(lease, "iommu_group",
				       json_object_new_int64(grant->iommu_group));
		json_object_object_add(lease, "mdev", json_out_text(grant->uuid));
		json_object_array_add(leases, lease);
	}
	json_object_object_add(o, "leases", leases);
	json_object_object_add(o, "pid", json_object_new_int(getpid()));
	write_line(o, LAST_MS);
	/* The supervisor goes on for as long as the command, and would keep the reader waiting. */
	if (to > STDERR_FILENO)
		to = fd_close(to);
}

int steps_failed(int status)
{
	struct json_object *o;

	if (to < 0 || !status)
		return status;
	o = refused_object("refused", status);
	if (o)
		write_line(o, LAST_MS);
	return status;
}
