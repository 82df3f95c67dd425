/* SPDX-License-Identifier: MIT */
/*
 * The steps of a claim on a terminal, see progress.h. It only shows: what it cannot find out, it
 * leaves out, and no failure of its own ends a claim.
 */
#include "config.h"

#include "client/run/progress.h"
#include "client/command/cli.h"
#include "client/command/moments.h"
#include "client/command/screen.h"
#include "client/run/steps.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t progress_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A line that is rewritten must not be longer than the terminal, since that would wrap it. */
bool progress_say(struct progress *progress, const char *sentence)
{
	const char *term = getenv("TERM");
	const int room = cli_columns(stderr) - 1;
	const bool dumb = !term || !strcmp(term, "dumb");

	if (room <= 0 || steps_own_stderr())
		return false;
	if (!dumb)
		fputs("\r\033[K", stderr);
	if (!dumb && strlen(sentence) > (size_t)room) {
		cli_print_text(stderr, sentence, room - 3);
		fputs("...", stderr);
	} else {
		cli_print_text(stderr, sentence, -1);
	}
	if (dumb)
		fputc('\n', stderr);
	progress->drawn = !dumb;
	return true;
}

__attribute__((format(printf, 2, 3))) static void draw(struct progress *progress,
						       const char *format, ...)
{
	cleanup_free char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (text)
		progress_say(progress, text);
}

void progress_clear(struct progress *progress)
{
	if (progress->drawn)
		fputs("\r\033[K", stderr);
	progress->drawn = false;
}

void progress_end(struct progress *progress)
{
	progress_clear(progress);
	progress->ended_at = progress_now();
}

/* The ending of an ordinal number: "1st". */
static const char *ordinal(uint32_t n)
{
	if (n % 100 / 10 == 1)
		return "th";
	return n % 10 == 1 ? "st" : n % 10 == 2 ? "nd" : n % 10 == 3 ? "rd" : "th";
}

static void draw_place(struct progress *progress, const struct gpubroker_progress *p)
{
	char user[SCREEN_USER], until[MOMENT_TEXT];
	const bool ends = p->ends && moment_clock(p->ends, until);

	if (p->lease)
		draw(progress,
		     "waiting, %" PRIu32 "%s in the queue: %s is leased to %s (lease %" PRIu64
		     ")%s%s",
		     p->index, ordinal(p->index),
		     p->parent[0] ? p->parent : screen_address(p->address),
		     screen_user(p->holder_uid, user), p->lease, ends ? ", until " : "",
		     ends ? until : "");
	else
		draw(progress, "waiting, %" PRIu32 "%s in the queue", p->index, ordinal(p->index));
}

void progress_step(void *userdata, const struct gpubroker_progress *p)
{
	const char *what = p->address[0] ? screen_address(p->address) : p->parent;
	struct progress *progress = userdata;

	steps_tell(p);
	if (p->step == GPUBROKER_STEP_WAIT) {
		draw_place(progress, p);
		return;
	}
	if (!progress->begun)
		progress->began_at = progress_now();
	progress->begun = true;
	switch (p->step) {
	case GPUBROKER_STEP_BIND:
		progress->n_bound++;
		draw(progress, "%s: binding %" PRIu32 " of %" PRIu32 " to its VFIO driver", what,
		     p->index, p->total);
		break;
	case GPUBROKER_STEP_OPEN:
		draw(progress, "%s: opening IOMMU group %" PRIu32, what, p->iommu_group);
		break;
	case GPUBROKER_STEP_RESTORE:
		draw(progress, "%s: giving back %" PRIu32 " of %" PRIu32 " to the host", what,
		     p->index, p->total);
		break;
	default:
		break;
	}
}

/* ---- what was got ---- */

/* A group that was granted, as far as the broker tells. */
struct got {
	const struct gpubroker_grant *grant;
	struct screen_text model;
	char along[64]; /* what comes along: "+audio, " */
	size_t along_len;
	uint64_t ends;
};

static int add_to_got(void *userdata, const struct gpubroker_device *device)
{
	struct got *got = userdata;

	if (device->iommu_group != got->grant->iommu_group)
		return 0;
	if (!strcmp(device->address, got->grant->address))
		screen_model(device, &got->model);
	else if (got->along_len < sizeof(got->along) - 16)
		got->along_len += (size_t)snprintf(got->along + got->along_len,
						   sizeof(got->along) - got->along_len, "+%s, ",
						   screen_companion(device->class_code));
	return 0;
}

static int add_end_of(void *userdata, const struct gpubroker_lease *lease)
{
	struct got *got = userdata;

	if (lease->id == got->grant->lease)
		got->ends = lease->expires;
	return 0;
}

/* "01:00.0 GeForce RTX 3090 (+audio, group 14): bound and opened in 0.4s; yours until 06:05" */
static void print_got(const struct progress *progress, const struct got *got)
{
	const struct gpubroker_grant *grant = got->grant;
	const uint64_t took = progress->begun ? (progress->ended_at - progress->began_at + 50) / 100
					      : 0;
	char until[MOMENT_TEXT];

	cli_print_text(stderr, grant->address[0] ? screen_address(grant->address) : grant->parent,
		       -1);
	if (got->model.text) {
		fputc(' ', stderr);
		cli_print_text(stderr, got->model.text, -1);
	}
	fprintf(stderr, " (%sgroup %" PRIu32 "): %s in %" PRIu64 ".%" PRIu64 "s", got->along,
		grant->iommu_group,
		grant->uuid[0]	    ? "made and opened"
		: progress->n_bound ? "bound and opened"
				    : "opened",
		took / 10, took % 10);
	if (got->ends && moment_clock(got->ends, until))
		fprintf(stderr, "; yours until %s", until);
	fputc('\n', stderr);
}

void progress_granted(const struct progress *progress, struct gpubroker *handle,
		      const struct gpubroker_claim *claim)
{
	if (!cli_columns(stderr) || steps_own_stderr())
		return;
	for (size_t i = 0; i < gpubroker_claim_groups(claim); i++) {
		struct got got = { .grant = gpubroker_claim_grant(claim, i) };

		if (!gpubroker_list(handle, add_to_got, &got))
			gpubroker_leases(handle, add_end_of, &got);
		print_got(progress, &got);
		free(got.model.text);
	}
}
