/* SPDX-License-Identifier: MIT */
/*
 * Workers that fork nothing. For a test that is linked with $(fake_worker) of tests.am: then the functions of
 * brokerd/process/worker.h that make and start a worker are those below. What was started stays in fake.at_work until the
 * test lets it run; then the test's fake.answer() says what becomes of each step, and all else is as in worker.c: the
 * order of the steps, what follows when one fails, what is reported, what counts as busy, and which descriptors are
 * open. So a step can fail at any place, and the daemon die before it.
 */
#pragma once

#include "brokerd/process/worker.h"
#include "client/common/util.h"
#include "tests/scratch.h"

#include <sys/queue.h>

#define FAKE_TEXT_MAX 4096 /* of a table; other texts are shorter */

struct fake_step {
	int fd;
	enum { FAKE_WRITES, FAKE_READS, FAKE_EXPECTS, FAKE_LISTS, FAKE_OPENS } does;
	char text[WORK_TEXT_MAX]; /* that it writes, or expects */
	char path[300];		  /* of its file, whole */
	work_row_func row;
	uint32_t group; /* that it opens */
	enum on_failure on_failure;
	bool shown;
	const char *what;
	struct pci_address address;
};

struct work {
	TAILQ_ENTRY(work) link; /* once it is started */
	struct work_ops ops;
	void *userdata;
	struct fake_step *steps;
	size_t n_steps, n_done;
	struct workers *workers;
	bool counted, late;
};

static struct {
	/* The test's: does a step as the kernel would, with what it reads in `text`. Its errno, or 0. */
	int (*answer)(const struct fake_step *step, char text[FAKE_TEXT_MAX]);
	/* The test's: 0, or the -errno with which a worker cannot be started. NULL: each can. */
	int (*start)(void);
	TAILQ_HEAD(, work) at_work; /* in the order in which they were started */
	size_t n;		    /* that are made and not freed */
	unsigned n_steps;	    /* done, of all workers */
	unsigned dies_at, fails_at; /* before that step, of that step; 0: none */
	bool died;
} fake = { .at_work = TAILQ_HEAD_INITIALIZER(fake.at_work) };

/* ---- what replaces worker.c ---- */

struct work *__wrap_work_new(const struct work_ops *ops, void *userdata);
struct work *__wrap_work_new(const struct work_ops *ops, void *userdata)
{
	struct work *work = calloc(1, sizeof(*work));

	need(work);
	work->ops = *ops;
	work->userdata = userdata;
	fake.n++;
	return work;
}

struct work *__wrap_work_free(struct work *work);
struct work *__wrap_work_free(struct work *work)
{
	if (!work)
		return NULL;
	for (size_t i = 0; i < work->n_steps; i++)
		close(work->steps[i].fd);
	free(work->steps);
	free(work);
	fake.n--;
	return NULL;
}

int __wrap_work_add(struct work *work, int fd, const char *text, const char *what,
		    const struct pci_address *address, enum on_failure on_failure);
int __wrap_work_add(struct work *work, int fd, const char *text, const char *what,
		    const struct pci_address *address, enum on_failure on_failure)
{
	struct fake_step *step;
	char link[64];
	ssize_t n;

	if (fd < 0)
		return fd;
	if (work->n_steps == WORK_STEPS_MAX || strlen(text) >= sizeof(step->text)) {
		close(fd);
		return -E2BIG;
	}
	work->steps = realloc(work->steps, (work->n_steps + 1) * sizeof(*work->steps));
	need(work->steps);
	step = &work->steps[work->n_steps++];
	*step = (struct fake_step){
		.fd = fd, .what = what, .address = *address, .on_failure = on_failure
	};
	strcpy(step->text, text);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, step->path, sizeof(step->path) - 1);
	need(n > 0);
	return 0;
}

int __wrap_work_add_read(struct work *work, int fd, const char *what,
			 const struct pci_address *address);
int __wrap_work_add_read(struct work *work, int fd, const char *what,
			 const struct pci_address *address)
{
	int r = __wrap_work_add(work, fd, "", what, address, STOP);

	if (!r)
		work->steps[work->n_steps - 1].does = FAKE_READS;
	return r;
}

int __wrap_work_add_table(struct work *work, int fd, work_row_func row, const char *what,
			  const struct pci_address *address);
int __wrap_work_add_table(struct work *work, int fd, work_row_func row, const char *what,
			  const struct pci_address *address)
{
	int r = __wrap_work_add(work, fd, "", what, address, STOP);

	if (!r) {
		work->steps[work->n_steps - 1].does = FAKE_LISTS;
		work->steps[work->n_steps - 1].row = row;
	}
	return r;
}

int __wrap_work_add_expect(struct work *work, int fd, const char *text, const char *what,
			   const struct pci_address *address);
int __wrap_work_add_expect(struct work *work, int fd, const char *text, const char *what,
			   const struct pci_address *address)
{
	int r = __wrap_work_add(work, fd, text, what, address, STOP);

	if (!r)
		work->steps[work->n_steps - 1].does = FAKE_EXPECTS;
	return r;
}

int __wrap_work_add_open(struct work *work, int directory, uint32_t group,
			 const struct pci_address *address);
int __wrap_work_add_open(struct work *work, int directory, uint32_t group,
			 const struct pci_address *address)
{
	int r = __wrap_work_add(work, directory, "", "opening its IOMMU group", address, STOP);

	if (!r) {
		work->steps[work->n_steps - 1].does = FAKE_OPENS;
		work->steps[work->n_steps - 1].group = group;
	}
	return r;
}

void __wrap_work_show(struct work *work);
void __wrap_work_show(struct work *work)
{
	if (work->n_steps)
		work->steps[work->n_steps - 1].shown = true;
}

size_t __wrap_work_steps(const struct work *work);
size_t __wrap_work_steps(const struct work *work)
{
	return work->n_steps;
}

static inline void fake_tell_begun(const struct work *work, size_t step)
{
	uint32_t index = 0, total = 0;

	if (!work->ops.begun || step >= work->n_steps || !work->steps[step].shown)
		return;
	for (size_t i = 0; i < work->n_steps; i++) {
		total += work->steps[i].shown;
		if (i == step)
			index = total;
	}
	work->ops.begun(work->userdata, &work->steps[step].address, index, total);
}

int __wrap_workers_start_within(struct workers *workers, struct work *work, unsigned seconds);
int __wrap_workers_start_within(struct workers *workers, struct work *work, unsigned seconds)
{
	int r = fake.start ? fake.start() : 0;

	(void)seconds;
	if (r)
		return r;
	TAILQ_INSERT_TAIL(&fake.at_work, work, link);
	work->workers = workers;
	work->counted = !work->ops.may_be_left;
	if (work->counted)
		workers_enter(workers);
	fake_tell_begun(work, 0);
	return 0;
}

int __wrap_workers_start(struct workers *workers, struct work *work);
int __wrap_workers_start(struct workers *workers, struct work *work)
{
	return __wrap_workers_start_within(workers, work, WORKER_SECONDS);
}

/* ---- what the test does with those that were started ---- */

/* Returns the one that was started first, or NULL. */
static inline struct work *fake_first(void)
{
	return TAILQ_FIRST(&fake.at_work);
}

static inline void fake_stop_counting(struct work *work)
{
	if (work->counted)
		workers_leave(work->workers);
	work->counted = false;
}

/* Does the next step. Its errno, as the worker would report it. */
static inline int fake_do(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	int error;

	text[0] = '\0';
	error = fake.n_steps == fake.fails_at ? EIO : fake.answer(step, text);
	if (!error && step->does == FAKE_EXPECTS && strcmp(text, step->text) != 0)
		error = ESTALE;
	if (step->on_failure == IGNORE_ERROR ||
	    (step->on_failure == IGNORE_ENOTTY && error == ENOTTY))
		return 0;
	return error;
}

/* A table is told line by line, as its function makes them. */
static inline void fake_tell(const struct work *work, const struct fake_step *step, char *text)
{
	char row[WORK_TEXT_MAX], *line;

	if (step->does == FAKE_READS && work->ops.told)
		work->ops.told(work->userdata, &step->address, text);
	while (step->does == FAKE_LISTS && *text) {
		line = text;
		text += strcspn(text, "\n");
		if (*text)
			*text++ = '\0';
		if (step->row(line, row) && work->ops.told)
			work->ops.told(work->userdata, &step->address, row);
	}
}

/* Lets a worker run to its end, or until the daemon dies. */
static inline void fake_run(struct work *work)
{
	struct work_result result = { 0 };
	char text[FAKE_TEXT_MAX];

	TAILQ_REMOVE(&fake.at_work, work, link);
	while (work->n_done < work->n_steps) {
		const struct fake_step *step = &work->steps[work->n_done];
		int error;

		if (++fake.n_steps == fake.dies_at) {
			fake.died = true;
			break;
		}
		error = fake_do(step, text);
		if (error && !result.error)
			result = (struct work_result){ error, step->what, step->address };
		if (error && step->on_failure != CONTINUE)
			break;
		if (!error)
			fake_tell(work, step, text);
		fake_tell_begun(work, ++work->n_done);
	}
	if (!fake.died)
		work->ops.done(work->userdata, &result);
	fake_stop_counting(work);
	__wrap_work_free(work);
}

/* The same for all, and for those that these start. */
static inline void fake_run_all(void)
{
	while (!fake.died && fake_first())
		fake_run(fake_first());
}

/* It has not come back in time; it still may. */
static inline void fake_be_late(struct work *work)
{
	const struct fake_step *step =
		&work->steps[work->n_done < work->n_steps ? work->n_done : work->n_steps - 1];

	if (work->late)
		return;
	work->late = true;
	if (work->ops.late)
		work->ops.late(work->userdata, step->what, &step->address);
	fake_stop_counting(work);
}

/* The daemon's death takes them with it; another begins, at which nothing fails. */
static inline void fake_forget(void)
{
	struct work *work;

	while ((work = fake_first())) {
		TAILQ_REMOVE(&fake.at_work, work, link);
		fake_stop_counting(work);
		__wrap_work_free(work);
	}
	fake.dies_at = fake.fails_at = 0;
	fake.died = false;
}
