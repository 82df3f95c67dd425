/* SPDX-License-Identifier: MIT */
/*
 * Root's orders to prepare a free group now, whatever the policy's prepare rules say. The group
 * then stays on VFIO until the next boot, or until root restores it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/prepare/prepare.h"

/* A client's request, embedded in the peer. */
struct order_request {
	/* The group is prepared, or not, or its worker is late. `refusal` is NULL on success. */
	void (*done)(struct order_request *request, const struct message_refusal *refusal);
	uint32_t uid;
};

/* All but the list belongs to other parts, and outlives the struct. */
struct orders {
	struct prepare *prepare;
	const struct store *store;
	TAILQ_HEAD(order_list, order) list;
};

void orders_init(struct orders *orders, struct prepare *prepare, const struct store *store);
void orders_done(struct orders *orders);

/* At the daemon's start: reads which orders an earlier run has begun. Returns 0, or -errno. */
int orders_recover(struct orders *orders);
/* Once the daemon serves: carries these out. */
void orders_take_up(struct orders *orders);

/*
 * Begins root's request. Returns 0 if it has begun, or is done: then done() is called, perhaps
 * before this returns. Otherwise returns the reason, with *ret_refusal.
 */
int order_start(struct orders *orders, struct order_request *request,
		const struct pci_address *address, struct message_refusal *ret_refusal);
/* Forgets the request of a client that has gone; the order is carried out. */
void order_forget(struct orders *orders, const struct order_request *request);
