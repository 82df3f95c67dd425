/* SPDX-License-Identifier: MIT */
/*
 * Workers that fork nothing, for tests that are linked with $(fake_worker) of tests.am. The
 * functions below replace those of brokerd/process/worker.h that make and start a worker. A started
 * worker stays in fake.at_work until the test lets it run. Then the test's fake.answer() decides
 * the result of each step; everything else is as in worker.c: the order of the steps, what follows
 * a failure, what a worker reports, which workers count as busy, and which descriptors are open. So
 * any step can fail, and the daemon can die before it.
 */
#pragma once

#include "brokerd/process/worker.h"
#include "client/common/util.h"
#include "tests/scratch.h"

#include <sys/queue.h>

#define FAKE_TEXT_MAX 4096 /* for a table; other texts are shorter */

struct fake_step {
	int fd;
	enum { FAKE_WRITES, FAKE_READS, FAKE_EXPECTS, FAKE_LISTS, FAKE_OPENS, FAKE_AWAITS } does;
	char text[WORK_TEXT_MAX]; /* the text that it writes or expects */
	char path[300];		  /* the whole path of its file */
	work_row_func row;
	uint32_t group; /* the group that it opens */
	enum on_failure on_failure;
	bool shown;
	const char *what;
	struct pci_address address;
};

struct work {
	TAILQ_ENTRY(work) link; /* in fake.at_work, once it is started */
	struct work_ops ops;
	void *userdata;
	struct fake_step *steps;
	size_t n_steps, n_done;
	struct workers *workers;
	bool counted, late;
	enum {
		FAKE_RUNS,
		FAKE_AWAITING,
		FAKE_GOES,
		FAKE_GIVEN_UP
	} word; /* at the step that waits */
};

static struct {
	/*
	 * Set by the test: does a step as the kernel would, and puts what it reads into `text`.
	 * Returns 0 or an errno.
	 */
	int (*answer)(const struct fake_step *step, char text[FAKE_TEXT_MAX]);
	/*
	 * Set by the test: returns 0, or the -errno with which a worker cannot be started. NULL:
	 * all can.
	 */
	int (*start)(void);
	TAILQ_HEAD(works, work) at_work; /* in the order in which they were started */
	struct works awaiting;		 /* those that wait for their word */
	size_t n;			 /* workers that are made and not freed */
	unsigned n_steps;		 /* steps done, by all workers */
	unsigned dies_at, fails_at; /* the daemon dies before this step; this step fails; 0: none */
	bool died;
} fake = { .at_work = TAILQ_HEAD_INITIALIZER(fake.at_work),
	   .awaiting = TAILQ_HEAD_INITIALIZER(fake.awaiting) };

/* ---- in place of worker.c ---- */

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

int __wrap_work_add_wait(struct work *work, const struct pci_address *address);
int __wrap_work_add_wait(struct work *work, const struct pci_address *address)
{
	int r = __wrap_work_add(work, open("/dev/null", O_RDONLY | O_CLOEXEC), "",
				"waiting for the core", address, STOP);

	if (!r)
		work->steps[work->n_steps - 1].does = FAKE_AWAITS;
	return r;
}

void __wrap_work_cut(struct work *work, size_t n_steps);
void __wrap_work_cut(struct work *work, size_t n_steps)
{
	while (work->n_steps > n_steps)
		close(work->steps[--work->n_steps].fd);
}

static inline void fake_answer(struct work *work, bool go)
{
	if (work->word != FAKE_AWAITING)
		return;
	work->word = go ? FAKE_GOES : FAKE_GIVEN_UP;
	TAILQ_REMOVE(&fake.awaiting, work, link);
	TAILQ_INSERT_TAIL(&fake.at_work, work, link);
}

void __wrap_work_go(struct work *work);
void __wrap_work_go(struct work *work)
{
	fake_answer(work, true);
}

void __wrap_work_give_up(struct work *work);
void __wrap_work_give_up(struct work *work)
{
	fake_answer(work, false);
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

/* ---- the test's control of started workers ---- */

/* Returns the worker that was started first, or NULL. */
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

/* Does the next step. Returns its errno, as the worker would report it. */
static inline int fake_do(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	int error;

	text[0] = '\0';
	error = fake.n_steps == fake.fails_at ? EIO : fake.answer(step, text);
	if (!error && step->does == FAKE_EXPECTS && strcmp(text, "(null)") == 0)
		text[0] = '\0';
	if (!error && step->does == FAKE_EXPECTS && strcmp(text, step->text) != 0)
		error = ESTALE;
	if (step->on_failure == IGNORE_ERROR ||
	    (step->on_failure == IGNORE_ENOTTY && error == ENOTTY))
		return 0;
	return error;
}

/* Reports what a step read; for a table, line by line, as its function makes the lines. */
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

		if (step->does == FAKE_AWAITS && work->word == FAKE_RUNS) {
			work->word = FAKE_AWAITING; /* it is at work again when it has its word */
			TAILQ_INSERT_TAIL(&fake.awaiting, work, link);
			work->ops.awaits(work->userdata);
			return;
		}
		if (step->does == FAKE_AWAITS && work->word == FAKE_GIVEN_UP) {
			result = (struct work_result){ ECANCELED, step->what, step->address };
			break;
		}
		if (step->does == FAKE_AWAITS) {
			fake_tell_begun(work, ++work->n_done);
			continue;
		}
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

/* Lets all workers run, and those that they cause to start. */
static inline void fake_run_all(void)
{
	while (!fake.died && fake_first())
		fake_run(fake_first());
}

/* Marks a worker as late. It may still come back. */
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

/* Drops all workers, which die with the daemon. The next daemon starts without failures. */
static inline void fake_forget(void)
{
	struct work *work;

	TAILQ_CONCAT(&fake.at_work, &fake.awaiting, link);
	while ((work = fake_first())) {
		TAILQ_REMOVE(&fake.at_work, work, link);
		fake_stop_counting(work);
		__wrap_work_free(work);
	}
	fake.dies_at = fake.fails_at = 0;
	fake.died = false;
}
