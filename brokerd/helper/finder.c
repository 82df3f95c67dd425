/* SPDX-License-Identifier: MIT */
/*
 * The finder, see finder.h. It answers questions of one exact size by answers of one exact size,
 * which can only keep a device from being lent.
 *
 * CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH would let it read every file and every process' memory. So
 * after its start its filter lets it open directories only: it can learn names and numbers, and
 * nothing that is in a file. It must never need more than that, nor wait for another process.
 */
#include "config.h"

#include "brokerd/helper/finder.h"
#include "brokerd/helper/helper.h"
#include "brokerd/process/filter.h"
#include "brokerd/state/finding.h"
#include "client/common/util.h"
#include "client/host/opened.h"
#include "client/wire/passfd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sysexits.h>

#define BATCH 16	  /* questions that one look at all processes answers */
#define LOOK_LIMIT_MS 800 /* of one look: the core waits for two, see FINDING_LIMIT_MS */

struct finder {
	int core;
	int sys, proc;
	struct nvidia_cards cards;
	size_t n; /* questions that one look is for, and their answers */
	struct finder_question questions[BATCH];
	struct finder_answer answers[BATCH];
	struct opened_nodes nodes; /* of all their functions */
};

/* One for the process: it is too large for a stack, and the heap may not grow. */
static struct finder finder;

static bool asks_for(const struct finder_question *question, const struct pci_address *address)
{
	for (uint32_t i = 0; i < question->n; i++)
		if (!pci_address_compare(&question->functions[i], address))
			return true;
	return false;
}

static void note_holder(struct finder_answer *answer, const struct opened_holder *found)
{
	struct finder_holder *holder;

	for (uint32_t i = 0; i < answer->n; i++)
		if (answer->holders[i].pid == found->pid)
			return;
	if (answer->n == FINDING_HOLDERS_MAX)
		return;
	holder = &answer->holders[answer->n++];
	holder->address = found->address;
	holder->pid = found->pid;
	holder->uid = found->uid;
	memcpy(holder->node, found->node, sizeof(holder->node));
	memcpy(holder->program, found->program, sizeof(holder->program));
}

_Static_assert(FINDING_TEXT == OPENED_TEXT, "texts are copied");

static void on_holder(void *userdata, const struct opened_holder *found)
{
	struct finder *f = userdata;

	for (size_t i = 0; i < f->n; i++)
		if (asks_for(&f->questions[i], &found->address))
			note_holder(&f->answers[i], found);
}

/*
 * Answers the questions that were read. Returns 0; -ESTALE if NVIDIA's cards have to be read again,
 * which only a new finder can; or -errno of the core's socket.
 */
static int answer_all(struct finder *f)
{
	bool known = true, all;
	int r = 0;

	opened_nodes_clear(&f->nodes);
	for (size_t i = 0; i < f->n; i++) {
		const struct finder_question *question = &f->questions[i];

		f->answers[i] = (struct finder_answer){ .id = question->id };
		known = opened_nodes_add(f->sys, &f->cards, question->functions, question->n,
					 &f->nodes) &&
			known;
	}
	all = opened_search(f->proc, &f->nodes, opened_now() + LOOK_LIMIT_MS, on_holder, f);
	for (size_t i = 0; !r && i < f->n; i++) {
		f->answers[i].incomplete = !all;
		r = helper_send(f->core, &f->answers[i], sizeof(f->answers[i]));
	}
	return r ? r : known ? 0 : -ESTALE;
}

/* Reads the questions that wait, and answers them. Returns as answer_all(). */
static int serve(struct finder *f)
{
	f->n = 0;
	while (f->n < BATCH) {
		struct finder_question *question = &f->questions[f->n];
		ssize_t size = passfd_receive_plain(f->core, question, sizeof(*question));

		if (size == -EAGAIN)
			break;
		if (size != sizeof(*question) || question->n > ARRAY_SIZE(question->functions))
			return -EPIPE; /* the core has ended */
		f->n++;
	}
	return answer_all(f);
}

static int find_loop(struct finder *f)
{
	struct pollfd core = { .fd = f->core, .events = POLLIN };
	int r = 0;

	while (!r) {
		if (poll(&core, 1, -1) < 0) {
			if (errno != EINTR)
				return -errno;
			continue;
		}
		r = serve(f);
	}
	return r;
}

int finder_run(int socket, struct confine_filter *settled, const void *unused)
{
	int r;

	(void)unused;
	finder.core = socket;
	finder.sys = open("/sys", OPENED_FLAGS);
	finder.proc = open("/proc", OPENED_FLAGS);
	if (finder.sys < 0 || finder.proc < 0)
		return EX_OSERR;
	nvidia_cards_read(finder.sys, finder.proc, &finder.cards);
	r = filter_apply(settled);
	filter_free(settled);
	if (!r)
		r = find_loop(&finder);
	fd_close(finder.sys);
	fd_close(finder.proc);
	return r == -EPIPE || r == -ECONNRESET || r == -ESTALE ? 0 : EX_SOFTWARE;
}
