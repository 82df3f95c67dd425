/* SPDX-License-Identifier: MIT */
/*
 * Root's orders to prepare, see order.h. Each is recorded before the first change: a daemon that is
 * killed in between leaves a record by which the next one finishes it. After a failure all is
 * undone: the overrides are cleared, and the host's drivers probe again. An order begins only if no
 * function of the group is on VFIO, so each that is found there later was put there by it.
 *
 * It must never touch a group that is leased, held, guarded or used by the host, and never wait.
 */
#include "config.h"

#include "brokerd/prepare/order.h"
#include "brokerd/lease/driver.h"
#include "brokerd/process/log.h"
#include "brokerd/record/audit.h"
#include "brokerd/record/prepare-record.h"
#include "brokerd/state/refuse.h"
#include "client/common/util.h"
#include "client/host/sysfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct order {
	TAILQ_ENTRY(order) link;
	struct orders *orders;
	struct preparing preparing;
	struct order_request *request; /* NULL: nobody waits for the answer */
	struct prepare_record record;
	bool recorded, begun;
	bool resumed; /* an earlier run has begun it, so the drivers before are not known */
	uint32_t group;
	bool undoing; /* a worker undoes it, and `hold` is among the holds */
	struct hold hold;
	struct message_refusal failure;
	size_t n;
	struct pci_address functions[FUNCTIONS_MAX];
	char drivers[FUNCTIONS_MAX][FUNCTION_NAME_MAX]; /* before; "": none */
};

static void log_order(const struct order *order, const char *outcome, int level, const char *reason)
{
	const struct audit_line line = {
		.outcome = outcome,
		.level = level,
		.uid = AUDIT_NOBODY,
		.device = &order->record.address,
		.group = order->group,
		.by = order->record.by,
		.reason = reason,
	};

	audit_write(&line);
}

static void answer_order(struct order *order, const struct message_refusal *refusal)
{
	struct order_request *request = TAKE_PTR(order->request);

	if (request)
		request->done(request, refusal);
}

/* Ends an order, which is gone on return. */
static void finish_order(struct order *order, const struct message_refusal *refusal)
{
	char name[PREPARE_RECORD_NAME];
	int r;

	prepare_record_name(&order->record.address, name);
	r = order->recorded ? store_drop(order->orders->store, name) : 0;
	if (r)
		log_error("record %s: cannot be removed: %s", name, strerror(-r));
	answer_order(order, refusal);
	TAILQ_REMOVE(&order->orders->list, order, link);
	free(order);
}

/* ---- undoing ---- */

static bool all_as_before(const struct order *order)
{
	char driver[FUNCTION_NAME_MAX];

	for (size_t i = 0; i < order->n; i++)
		if (sysfs_driver_read(order->orders->prepare->kernel->sys, &order->functions[i],
				      driver) ||
		    (order->resumed ? driver_is_vfio(driver)
				    : strcmp(driver, order->drivers[i]) != 0))
			return false;
	return true;
}

static void on_undone(void *userdata, const struct work_result *result)
{
	struct order *order = userdata;
	struct prepare *prepare = order->orders->prepare;

	(void)result;
	order->undoing = false;
	holds_remove(prepare->holds, &order->hold);
	if (!all_as_before(order))
		order->failure.detail = REFUSAL_NOT_RESTORED;
	finish_order(order, &order->failure);
	if (prepare->freed)
		prepare->freed(prepare->userdata); /* a claim may wait for the group */
}

static void on_undo_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct order *order = userdata;

	(void)what;
	(void)address;
	order->hold.late = true;
	order->failure.detail = REFUSAL_NOT_RESTORED;
	answer_order(order, &order->failure);
}

static int add_undo(const struct order *order, struct work *work, size_t i)
{
	const struct kernel *kernel = order->orders->prepare->kernel;
	const struct pci_address *address = &order->functions[i];
	char text[PCI_ADDRESS_TEXT], driver[FUNCTION_NAME_MAX];
	int r = sysfs_driver_read(kernel->sys, address, driver);

	if (r)
		return r == -ENODEV ? 0 : r;
	pci_address_format(address, text);
	r = work_add(work, kernel_open_override(kernel, address), "\n", "driver_override", address,
		     CONTINUE);
	if (!r && driver_is_vfio(driver))
		r = work_add(work, kernel_open_unbind(kernel, address), text, "unbind", address,
			     CONTINUE);
	if (!r && (order->resumed || strcmp(driver, order->drivers[i]) != 0))
		r = work_add(work, kernel_open_probe(kernel), text, "drivers_probe", address,
			     CONTINUE);
	return r;
}

/* Gives what was changed back to the host; finish_order() follows. */
static void undo(struct order *order)
{
	static const struct work_ops ops = { .done = on_undone, .late = on_undo_late };
	struct prepare *prepare = order->orders->prepare;
	struct work *work = work_new(&ops, order);
	int r = work ? 0 : -ENOMEM;

	for (size_t i = 0; !r && i < order->n; i++)
		r = add_undo(order, work, i);
	if (!r)
		r = workers_start(prepare->workers, work);
	if (r) {
		work_free(work);
		order->failure.detail = REFUSAL_NOT_RESTORED;
		finish_order(order, &order->failure);
		return;
	}
	order->hold = (struct hold){ .kind = HOLD_PREPARING, .group = order->group };
	order->undoing = true;
	holds_add(prepare->holds, &order->hold);
}

/* ---- the preparation ---- */

static struct order *order_of(struct preparing *preparing)
{
	return (struct order *)(void *)((char *)preparing - offsetof(struct order, preparing));
}

static void on_order_late(struct preparing *preparing, const char *what,
			  const struct pci_address *address)
{
	struct order *order = order_of(preparing);
	struct message_refusal refusal;

	refuse_address(&refusal, GPUBROKER_REFUSED_STUCK, address);
	refusal.group = order->group;
	refusal_say(&refusal, "%s has not come back from the kernel", what);
	answer_order(order, &refusal);
}

static void on_order_ended(struct preparing *preparing, const char *what,
			   const struct pci_address *address, int error)
{
	struct order *order = order_of(preparing);

	if (!what) {
		finish_order(order, NULL);
		return;
	}
	refuse_fault(&order->failure, address, what, error);
	undo(order);
}

/*
 * Returns 0 if the group may be prepared, else the reason. The guards are those of a claim without
 * --force.
 */
static int check(const struct orders *orders, const struct group_view *view,
		 const struct pci_address *address, struct message_refusal *ret_refusal)
{
	static const struct policy_verdict nothing = { .boot_vga = false };
	const struct prepare *prepare = orders->prepare;
	const struct lease *lease = lease_find_group(prepare->leases, view->group);
	const struct hold *hold = holds_find_group(prepare->holds, view->group);
	const size_t asked = group_find(view, address);
	int r;

	if (!lease)
		lease = lease_find_below(prepare->leases, view);
	if (lease)
		return refuse_held_for_root(ret_refusal, lease, address);
	if (hold)
		return refuse_preparing(ret_refusal, hold, address);
	r = holds_refuse(prepare->holds, view, address, ret_refusal);
	if (r)
		return r;
	if (asked == SIZE_MAX) { /* a bridge */
		refuse_address(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, address);
		ret_refusal->group = view->group;
		refusal_say(ret_refusal, "has it as a bridge, which is never lent");
		return GPUBROKER_REFUSED_NOT_VIABLE;
	}
	return group_check(view, &nothing, asked, 0, ret_refusal);
}

static size_t count_on_vfio(const struct group_view *view)
{
	size_t n = 0;

	for (size_t i = 0; i < view->n_functions; i++)
		n += driver_is_vfio(view->functions[i].driver);
	return n;
}

static bool is_on_vfio_whole(const struct group_view *view)
{
	return count_on_vfio(view) == view->n_functions;
}

/* Returns 0, or the reason if a part of the group is on VFIO: to undo would take that off. */
static int check_parts(const struct group_view *view, const struct pci_address *address,
		       struct message_refusal *ret_refusal)
{
	if (!count_on_vfio(view) || is_on_vfio_whole(view))
		return 0;
	refuse_address(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, address);
	ret_refusal->group = view->group;
	refusal_say(ret_refusal, "is on VFIO in part; 'gpubroker restore' it first");
	return GPUBROKER_REFUSED_NOT_VIABLE;
}

static void note_functions(struct order *order, const struct group_view *view)
{
	order->group = view->group;
	order->n = view->n_functions;
	for (size_t i = 0; i < view->n_functions; i++) {
		order->functions[i] = view->functions[i].address;
		memcpy(order->drivers[i], view->functions[i].driver, sizeof(order->drivers[i]));
	}
}

/* Records the order and begins it. Returns 0; or the reason, and then nothing is changed. */
static int begin(struct order *order, const struct group_view *view,
		 struct message_refusal *ret_refusal)
{
	static const struct preparing calls = { .late = on_order_late, .ended = on_order_ended };
	const struct pci_address *address = &order->record.address;
	struct prepare *prepare = order->orders->prepare;
	char name[PREPARE_RECORD_NAME], text[PREPARE_RECORD_TEXT];
	int r;

	order->preparing = calls;
	note_functions(order, view);
	if (!order->recorded) {
		prepare_record_name(address, name);
		r = store_put(order->orders->store, name, text,
			      prepare_record_format(&order->record, text));
		if (r)
			return refuse_fault(ret_refusal, address, "recording it", -r);
		order->recorded = true;
	}
	log_order(order, "preparing", LOG_NOTICE, NULL);
	r = prepare_group(prepare, view, &order->preparing);
	if (!r)
		order->begun = true;
	else if (r == -ENOENT)
		refuse_fault(ret_refusal, address, driver_why_not_bound(prepare->kernel), 0);
	else
		refuse_fault(ret_refusal, address, "binding it", -r);
	return r ? GPUBROKER_REFUSED_FAILED : 0;
}

static struct order *order_new(struct orders *orders, const struct prepare_record *record)
{
	struct order *order = calloc(1, sizeof(*order));

	if (!order)
		return NULL;
	order->orders = orders;
	order->record = *record;
	TAILQ_INSERT_TAIL(&orders->list, order, link);
	return order;
}

/* Reads the group of a function. Returns 0, or the reason. */
static int read_group_of(const struct orders *orders, const struct pci_address *address,
			 struct group_view *ret_view, struct message_refusal *ret_refusal)
{
	const int sys = orders->prepare->kernel->sys;
	uint32_t group;
	int r = sysfs_group_of(sys, address, &group);

	if (r || group == NO_GROUP)
		return refuse_address(ret_refusal,
				      r ? GPUBROKER_REFUSED_NO_DEVICE : GPUBROKER_REFUSED_NO_GROUP,
				      address);
	r = sysfs_group_read(sys, group, ret_view);
	if (r == -E2BIG) {
		refuse_address(ret_refusal, GPUBROKER_REFUSED_NOT_VIABLE, address);
		ret_refusal->group = group;
		refusal_say(ret_refusal, "%s", ret_view->not_viable);
		return GPUBROKER_REFUSED_NOT_VIABLE;
	}
	return r ? refuse_fault(ret_refusal, address, "reading its IOMMU group", -r) : 0;
}

int order_start(struct orders *orders, struct order_request *request,
		const struct pci_address *address, struct message_refusal *ret_refusal)
{
	cleanup_free struct group_view *view = NULL;
	struct prepare_record record = { .address = *address, .by = request->uid };
	struct order *order;
	int r;

	if (request->uid != 0) {
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_NOT_YOURS);
		refusal_say(ret_refusal,
			    "prepare a device; 'gpubroker run' puts what you claim onto VFIO");
		return GPUBROKER_REFUSED_NOT_YOURS;
	}
	if (!orders->prepare->open)
		return refuse_address(ret_refusal, GPUBROKER_REFUSED_NOT_READY, address);
	view = malloc(sizeof(*view));
	if (!view)
		return refuse_fault(ret_refusal, address, "reading its IOMMU group", ENOMEM);
	r = read_group_of(orders, address, view, ret_refusal);
	if (!r)
		r = check(orders, view, address, ret_refusal);
	if (!r)
		r = check_parts(view, address, ret_refusal);
	if (r)
		return r;
	prepare_return(orders->prepare, view->group);
	if (is_on_vfio_whole(view)) {
		request->done(request, NULL);
		return 0;
	}
	record.vendor = view->functions[group_find(view, address)].vendor;
	record.device = view->functions[group_find(view, address)].device;
	order = order_new(orders, &record);
	if (!order)
		return refuse_fault(ret_refusal, address, "recording it", ENOMEM);
	r = begin(order, view, ret_refusal);
	if (r)
		finish_order(order, NULL);
	else
		order->request = request;
	return r;
}

void order_forget(struct orders *orders, const struct order_request *request)
{
	struct order *order;

	TAILQ_FOREACH(order, &orders->list, link)
		if (order->request == request)
			order->request = NULL;
}

/* ---- start and stop ---- */

struct order_recovery {
	struct orders *orders;
	int error;
};

static void take_order_record(void *userdata, const char *name, const char *text, size_t len)
{
	struct order_recovery *recovery = userdata;
	struct orders *orders = recovery->orders;
	struct prepare_record record;
	struct order *order;

	if (prepare_record_parse(name, text, len, &record)) {
		log_error("record %s: damaged; it is set aside as %s.damaged", name, name);
		if (store_set_aside(orders->store, name))
			log_error("record %s: cannot be set aside", name);
		return;
	}
	order = order_new(orders, &record);
	if (order)
		order->recorded = order->resumed = true;
	else
		recovery->error = -ENOMEM;
}

int orders_recover(struct orders *orders)
{
	struct order_recovery recovery = { .orders = orders };
	int r = store_each(orders->store, STORE_PREPARE, take_order_record, &recovery);

	if (!r)
		r = recovery.error;
	if (r)
		log_error("the records of what is to be prepared cannot be read: %s; ending, to "
			  "be started again",
			  strerror(-r));
	return r;
}

/* Returns true if a lease, whose record says what to restore, or something else has the group. */
static bool group_is_others(const struct prepare *prepare, const struct group_view *view)
{
	return lease_find_group(prepare->leases, view->group) ||
	       lease_find_below(prepare->leases, view) ||
	       holds_find_group(prepare->holds, view->group);
}

/* Undoes what an earlier run has done of an order that cannot be carried out now. */
static void give_up(struct order *order, const struct group_view *view,
		    const struct message_refusal *refusal)
{
	order->failure = *refusal;
	log_order(order, "failed", LOG_WARNING, "it cannot be carried out after the restart");
	if (!count_on_vfio(view)) {
		finish_order(order, NULL);
		return;
	}
	note_functions(order, view);
	undo(order);
}

/* Goes on with an order of an earlier run. The order may be gone on return. */
static void take_up_order(struct order *order, struct group_view *view)
{
	const struct pci_address *address = &order->record.address;
	struct message_refusal refusal;
	int r = read_group_of(order->orders, address, view, &refusal);
	size_t at = r ? SIZE_MAX : group_find(view, address);

	if (at != SIZE_MAX && (view->functions[at].vendor != order->record.vendor ||
			       view->functions[at].device != order->record.device))
		at = SIZE_MAX; /* another card has its place */
	if (r || at == SIZE_MAX) {
		finish_order(order, NULL);
		return;
	}
	r = check(order->orders, view, address, &refusal);
	if ((!r && is_on_vfio_whole(view)) || group_is_others(order->orders->prepare, view)) {
		finish_order(order, NULL);
		return;
	}
	if (!r)
		r = begin(order, view, &refusal);
	if (r)
		give_up(order, view, &refusal);
}

void orders_take_up(struct orders *orders)
{
	cleanup_free struct group_view *view = malloc(sizeof(*view));
	struct order *order, *next;

	for (order = TAILQ_FIRST(&orders->list); view && order; order = next) {
		next = TAILQ_NEXT(order, link);
		if (!order->begun)
			take_up_order(order, view);
	}
}

void orders_init(struct orders *orders, struct prepare *prepare, const struct store *store)
{
	orders->prepare = prepare;
	orders->store = store;
	TAILQ_INIT(&orders->list);
}

void orders_done(struct orders *orders)
{
	struct order *order;

	if (!orders->store)
		return;
	/* The loop has ended, so no worker reports any more. */
	while ((order = TAILQ_FIRST(&orders->list)) != NULL) {
		TAILQ_REMOVE(&orders->list, order, link);
		if (order->undoing)
			holds_remove(orders->prepare->holds, &order->hold);
		free(order);
	}
}
