/* SPDX-License-Identifier: MIT */
/*
 * Checks orders to the ender and its answers, see ender.h. No I/O. It must never let an order
 * through by which a process of root's could be ended, or a text that is not printable.
 */
#include "config.h"

#include "brokerd/state/ender.h"

#include <signal.h>
#include <string.h>

bool ender_order_valid(const struct ender_order *order)
{
	if (!order->lease || (order->signal != SIGTERM && order->signal != SIGKILL) ||
	    !order->n_nodes || order->n_nodes > ENDER_NODES_MAX || !order->n_ranges ||
	    order->n_ranges > ENDER_RANGES_MAX || order->supervisors > 1)
		return false;
	for (uint32_t i = 0; i < order->n_ranges; i++)
		if (!order->uids[i].first || order->uids[i].last < order->uids[i].first)
			return false;
	return true;
}

bool ender_believe(const struct ender_answer *answer)
{
	const size_t n = strnlen(answer->program, ENDER_TEXT);

	if (!answer->lease || answer->incomplete > 1 || answer->pid > INT32_MAX ||
	    answer->reserved || n == ENDER_TEXT ||
	    !answer->pid != !(answer->signalled || answer->spared))
		return false;
	for (size_t i = 0; i < n; i++)
		if (answer->program[i] < ' ' || answer->program[i] > '~')
			return false;
	return true;
}
