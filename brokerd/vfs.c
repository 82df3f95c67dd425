/* SPDX-License-Identifier: MIT */
/*
 * Makes virtual functions, see vfs.h. The course, one for a physical function (PF) at a time, each
 * step of it a worker's:
 *
 *	ask:   what sriov_numvfs and sriov_drivers_autoprobe say -> recorded
 *	make:  autoprobe off, so that no host driver sees the new ones; their number to 0, to N
 *	wait:  until the watcher has told of them, who knows of variant drivers
 *	bind:  each to its VFIO driver
 *	end:   autoprobe as it was -> the record goes
 *
 * Where a step fails, it goes the same way back to the number that there was. An earlier daemon's
 * record is gone through from the beginning: asking waits for what its worker is still at.
 *
 * It must never change their number while one is lent or the host is using one, never read here what
 * takes the device's lock, and never wait.
 */
#include "config.h"

#include "brokerd/audit.h"
#include "brokerd/claim.h"
#include "brokerd/group.h"
#include "brokerd/lending.h"
#include "brokerd/log.h"
#include "brokerd/prepare.h"
#include "brokerd/queue.h"
#include "brokerd/record.h"
#include "brokerd/vfs.h"
#include "brokerd/vfsrecord.h"
#include "brokerd/worker.h"
#include "client/sysfs.h"
#include "client/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define TRIES 3		   /* by the policy, until something changes */
#define SETTLE_USEC 400000 /* the kernel and udev are still at it when an event comes */
#define RETRY_SECONDS 5
#define MAKE_SECONDS 60 /* some drivers take a second for each */
#define BATCH 64	/* that are bound by one worker */
#define WAIT_USEC 50000 /* between looks whether the watcher has told */
#define WAITS 40

static const char step_numvfs[] = "sriov_numvfs";

enum phase { IDLE, ASKING, MAKING, WAITING, BINDING, ENDING };

struct pf {
	TAILQ_ENTRY(pf) link;
	struct daemon *daemon;
	struct pci_address address;
	/* what the policy wants of it */
	bool look; /* when the timer comes */
	bool held; /* root has said how many: so it stays until the policy is loaded anew */
	unsigned tries;
	char reason[192]; /* why it was left as it is, as it was said */
	/* the course, from here on */
	enum phase phase;
	struct vfs_record record;
	bool recorded;
	bool recovered;
	bool late;
	bool changes;	/* their number, so all of them are new */
	bool undoing;	/* going back to what was before */
	uint32_t told;	/* sriov_numvfs, when it was asked */
	bool autoprobe; /* likewise */
	unsigned n_told;
	struct pci_address *vfs;
	size_t n_vfs, bound;
	unsigned waits;
	struct event *timer;
	struct peer *peer;		/* who is to be answered, or NULL */
	struct message_refusal failure; /* the first; its reason is 0 while all is well */
};

struct vfs {
	TAILQ_HEAD(, pf) list;
	struct event *timer;
	bool soon;   /* the timer is not that of another try, but of an event */
	bool wanted; /* the policy has a rule with vfs */
};

static void on_timer(evutil_socket_t fd, short what, void *userdata);
static void begin(struct pf *pf);
static void make(struct pf *pf);
static void bind_next(struct pf *pf);
static void end(struct pf *pf);

/* ---- the list ---- */

static struct vfs *vfs_of(struct daemon *daemon)
{
	struct vfs *v = daemon->vfs;

	if (v)
		return v;
	v = calloc(1, sizeof(*v));
	if (!v)
		return NULL;
	TAILQ_INIT(&v->list);
	v->timer = evtimer_new(daemon->base, on_timer, daemon);
	if (!v->timer) {
		free(v);
		return NULL;
	}
	daemon->vfs = v;
	return v;
}

static struct pf *pf_find(const struct daemon *daemon, const struct pci_address *address)
{
	struct pf *pf;

	if (daemon->vfs)
		TAILQ_FOREACH(pf, &daemon->vfs->list, link)
			if (!pci_address_compare(&pf->address, address))
				return pf;
	return NULL;
}

static struct pf *pf_make(struct daemon *daemon, const struct pci_address *address)
{
	struct vfs *v = vfs_of(daemon);
	struct pf *pf = v ? pf_find(daemon, address) : NULL;

	if (pf || !v)
		return pf;
	pf = calloc(1, sizeof(*pf));
	if (!pf)
		return NULL;
	pf->daemon = daemon;
	pf->address = *address;
	TAILQ_INSERT_TAIL(&v->list, pf, link);
	return pf;
}

static void pf_free(struct pf *pf)
{
	TAILQ_REMOVE(&pf->daemon->vfs->list, pf, link);
	if (pf->timer)
		event_free(pf->timer);
	free(pf->vfs);
	free(pf);
}

static const struct pf *at_work(const struct daemon *daemon, const struct group_view *view)
{
	for (size_t i = 0; i < view->n_functions; i++) {
		const struct function *f = &view->functions[i];
		const struct pf *pf = pf_find(daemon, f->is_vf ? &f->physfn : &f->address);

		if (pf && pf->phase != IDLE)
			return pf;
	}
	return NULL;
}

bool vfs_has_group(const struct daemon *daemon, const struct group_view *view)
{
	return at_work(daemon, view);
}

int vfs_refuse(const struct daemon *daemon, const struct group_view *view,
	       const struct pci_address *asked, struct message_refusal *ret_refusal)
{
	const struct pf *pf = at_work(daemon, view);

	if (!pf)
		return 0;
	refuse_prepared(ret_refusal, asked, view->group, pf->late);
	ret_refusal->other = pf->address;
	ret_refusal->has_other = 1;
	strcpy(ret_refusal->detail,
	       pf->late ? "its virtual functions do not go, or do not come" : "vfs");
	return (int)ret_refusal->reason;
}

bool vfs_is_busy(const struct daemon *daemon)
{
	const struct pf *pf;

	if (daemon->vfs)
		TAILQ_FOREACH(pf, &daemon->vfs->list, link)
			if (pf->phase != IDLE && !pf->late)
				return true;
	return false;
}

void vfs_forget(const struct peer *peer)
{
	struct pf *pf;

	if (peer->daemon->vfs)
		TAILQ_FOREACH(pf, &peer->daemon->vfs->list, link)
			if (pf->peer == peer)
				pf->peer = NULL;
}

/* ---- what is said ---- */

static int refuse(struct message_refusal *ret_refusal, uint32_t reason,
		  const struct pci_address *address, const char *detail)
{
	*ret_refusal = refusal_make(reason);
	ret_refusal->address = *address;
	ret_refusal->has_address = 1;
	snprintf(ret_refusal->detail, sizeof(ret_refusal->detail), "%s", detail);
	return (int)reason;
}

static void tell(const struct pf *pf, const char *outcome, int level, const char *rule,
		 const char *reason)
{
	const struct audit line = {
		.outcome = outcome,
		.level = level,
		.uid = AUDIT_NOBODY,
		.device = &pf->address,
		.group = NO_GROUP,
		.rule = rule,
		.by = pf->record.by == VFS_NOBODY ? AUDIT_NOBODY : (int64_t)pf->record.by,
		.reason = reason,
	};

	audit(&line);
}

/* It stays as it is, against the policy: said once. */
static void leave(struct pf *pf, const char *why, const char *detail)
{
	char reason[sizeof(pf->reason)];

	snprintf(reason, sizeof(reason), "%s%s%s", why, *detail ? ": " : "", detail);
	if (!strcmp(pf->reason, reason))
		return;
	memcpy(pf->reason, reason, sizeof(reason));
	pf->record.by = VFS_NOBODY;
	tell(pf, "not-prepared", LOG_WARNING, NULL, reason);
}

static void fail(struct pf *pf, const struct pci_address *address, const char *what, int error)
{
	struct message_refusal *r = &pf->failure;

	if (r->reason)
		return;
	refuse(r, GPUBROKER_REFUSED_FAILED, &pf->address, what);
	r->error = error;
	r->has_other = address && pci_address_compare(address, &pf->address) != 0;
	if (r->has_other)
		r->other = *address;
}

/* ---- guards ---- */

/* Reads which VFs there are. 0, or -errno. */
static int read_vfs(struct pf *pf)
{
	const int sys = pf->daemon->kernel.sys;
	int n = sysfs_vfs_read(sys, &pf->address, NULL, 0);
	struct pci_address *vfs;

	if (n < 0)
		return n;
	vfs = calloc((size_t)n + 1, sizeof(*vfs));
	if (!vfs)
		return -ENOMEM;
	free(pf->vfs);
	pf->vfs = vfs;
	pf->n_vfs = 0;
	n = sysfs_vfs_read(sys, &pf->address, vfs, (size_t)n);
	if (n > 0)
		pf->n_vfs = (size_t)n;
	return n < 0 ? n : 0;
}

static struct lease *lease_on(const struct daemon *daemon, const struct pci_address *address)
{
	uint32_t group;

	if (sysfs_group_of(daemon->kernel.sys, address, &group) || group == NO_GROUP)
		return NULL;
	return lease_find_group(&daemon->leases, group);
}

/* Is anybody at the function, or is it somebody's? */
static int guard_one(const struct pf *pf, const struct pci_address *address,
		     struct message_refusal *ret_refusal)
{
	const struct daemon *daemon = pf->daemon;
	const struct lease *lease = lease_on(daemon, address);
	uint32_t group;
	bool late;
	int r;

	if (lease) {
		r = refuse_held(ret_refusal, lease, address);
		if (lease->state == GPUBROKER_LEASE_LEASED)
			strcpy(ret_refusal->detail, "leased");
		if (lease->state == GPUBROKER_LEASE_LEASED &&
		    pci_address_compare(address, &pf->address) != 0) {
			strcpy(ret_refusal->detail, "leased-vf");
			ret_refusal->address = pf->address;
			ret_refusal->other = *address;
			ret_refusal->has_other = 1;
		}
		return r;
	}
	if (!sysfs_group_of(daemon->kernel.sys, address, &group) && group != NO_GROUP &&
	    prepare_has_group(daemon, group, &late))
		return refuse_prepared(ret_refusal, address, group, late);
	return 0;
}

/* May the VFs that there are go? */
static int guard_vfs(const struct pf *pf, struct message_refusal *ret_refusal)
{
	struct function f;
	int r;

	for (size_t i = 0; i < pf->n_vfs; i++) {
		r = guard_one(pf, &pf->vfs[i], ret_refusal);
		if (r)
			return r;
		r = sysfs_function_read(pf->daemon->kernel.sys, &pf->vfs[i], &f);
		if (r == -ENODEV)
			continue;
		if (r || f.in_use[0]) {
			refuse(ret_refusal, GPUBROKER_REFUSED_IN_USE, &pf->address,
			       r ? strerror(-r) : f.in_use);
			ret_refusal->other = pf->vfs[i];
			ret_refusal->has_other = 1;
			return GPUBROKER_REFUSED_IN_USE;
		}
	}
	return 0;
}

/* Can this function have so many? */
static int guard_pf(const struct pf *pf, const struct function *f, uint32_t wanted,
		    struct message_refusal *ret_refusal)
{
	int r = guard_one(pf, &pf->address, ret_refusal);

	if (r)
		return r;
	if (!f->vfs_total || wanted > f->vfs_total) {
		r = refuse(ret_refusal, GPUBROKER_REFUSED_NO_VFS, &pf->address, "");
		ret_refusal->limit = f->vfs_total;
		return r;
	}
	if (!f->driver[0])
		return refuse(ret_refusal, GPUBROKER_REFUSED_NO_VFS, &pf->address,
			      "has no host driver, which is what makes virtual functions; load it "
			      "first");
	if (driver_is_vfio(f->driver)) {
		r = refuse(ret_refusal, GPUBROKER_REFUSED_NO_VFS, &pf->address, "");
		memcpy(ret_refusal->driver, f->driver, sizeof(ret_refusal->driver));
		return r;
	}
	return 0;
}

static bool on_vfio(const struct pf *pf, const struct pci_address *vf)
{
	char driver[FUNCTION_NAME_MAX];

	return !sysfs_driver_read(pf->daemon->kernel.sys, vf, driver) && driver_is_vfio(driver);
}

/* The first VF that is to be bound and is not, from `from` on. One that a lease has is the lease's. */
static size_t next_unbound(const struct pf *pf, size_t from)
{
	uint32_t group;

	for (; from < pf->n_vfs; from++) {
		if (on_vfio(pf, &pf->vfs[from]) || lease_on(pf->daemon, &pf->vfs[from]))
			continue;
		if (pf->record.by == VFS_NOBODY && !pf->changes &&
		    !sysfs_group_of(pf->daemon->kernel.sys, &pf->vfs[from], &group) &&
		    prepare_is_left(pf->daemon, group))
			continue; /* root has given it to the host */
		break;
	}
	return from;
}

/* ---- the end of a course ---- */

static void answer(struct pf *pf, const struct message_refusal *refusal)
{
	struct peer *peer = TAKE_PTR(pf->peer);

	if (peer && refusal) {
		audit_refused(peer, refusal);
		peer_refuse(peer, refusal);
	} else if (peer) {
		peer_end(peer);
	}
}

static void look_soon(struct pf *pf, bool soon)
{
	const struct timeval settle = { .tv_usec = SETTLE_USEC },
			     retry = { .tv_sec = RETRY_SECONDS };
	struct vfs *v = pf->daemon->vfs;

	pf->look = true;
	if (evtimer_pending(v->timer, NULL) && (v->soon || !soon))
		return;
	v->soon = soon;
	if (evtimer_add(v->timer, soon ? &settle : &retry))
		log_error("no memory for a timer: virtual functions are not looked after");
}

static void finish(struct pf *pf)
{
	struct daemon *daemon = pf->daemon;
	char name[VFS_RECORD_NAME], reason[160], text[PCI_ADDRESS_TEXT];
	const bool changed = pf->recorded;
	int r;

	vfs_record_name(&pf->address, name);
	r = pf->recorded ? record_drop(daemon->state_dir, name) : 0;
	if (r)
		log_error("record %s: cannot be removed: %s; the next start goes by it", name,
			  strerror(-r));
	pf->recorded = pf->late = false;
	pf->phase = IDLE;
	if (pf->failure.reason) {
		snprintf(reason, sizeof(reason), "%s%s%.80s%s%s",
			 pf->failure.has_other ? pci_address_format(&pf->failure.other, text) : "",
			 pf->failure.has_other ? ": " : "", pf->failure.detail,
			 pf->failure.error ? ": " : "",
			 pf->failure.error ? strerror(pf->failure.error) : "");
		if (!pf->peer && pf->record.by != VFS_NOBODY)
			tell(pf, "refused", LOG_ERROR, NULL, reason);
		else if (!pf->peer)
			leave(pf, reason, "");
		answer(pf, &pf->failure);
		if (pf->record.by == VFS_NOBODY && pf->tries < TRIES)
			look_soon(pf, false);
	} else {
		snprintf(reason, sizeof(reason), "%zu virtual function%s, %" PRIu32 " before",
			 pf->n_vfs, pf->n_vfs == 1 ? "" : "s", pf->record.before);
		if (pf->record.by != VFS_NOBODY)
			pf->held = true;
		if (changed)
			tell(pf, pf->record.by == VFS_NOBODY ? "prepared" : "vfs", LOG_INFO, NULL,
			     reason);
		pf->reason[0] = '\0';
		pf->tries = 0;
		answer(pf, NULL);
	}
	if (pf->recovered && daemon->vfs->wanted)
		look_soon(pf, true);
	pf->recovered = false;
	queue_look(daemon); /* who waits may have one now */
	daemon_quit_if_idle(daemon);
}

/* ---- workers ---- */

static void on_late(void *userdata, const char *what, const struct pci_address *address)
{
	struct pf *pf = userdata;
	struct message_refusal refusal;
	char reason[96];

	pf->late = true;
	snprintf(reason, sizeof(reason), "%s has not come back from the kernel", what);
	refuse(&refusal, GPUBROKER_REFUSED_STUCK, address, reason);
	if (!pf->peer)
		tell(pf, "stuck", LOG_ERROR, NULL, reason);
	answer(pf, &refusal);
	daemon_quit_if_idle(pf->daemon);
}

static void on_told(void *userdata, const struct pci_address *address, const char *text)
{
	struct pf *pf = userdata;
	const uint32_t value = (uint32_t)strtoul(text, NULL, 10);

	(void)address;
	if (!pf->n_told++)
		pf->told = value;
	else
		pf->autoprobe = value;
}

static struct work_ops work_ops_of(void (*done)(void *, const struct work_result *))
{
	return (struct work_ops){ .told = on_told, .done = done, .late = on_late };
}

/*
 * Starts a phase's worker. Where that cannot be (r is why not, or there is no step), it is as if it
 * had come back so.
 */
static void start(struct pf *pf, enum phase phase, struct work *work, int r, const char *what,
		  unsigned seconds, void (*done)(void *, const struct work_result *))
{
	struct work_result result = { .what = what, .address = pf->address };

	pf->phase = phase;
	if (!r && !work)
		r = -ENOMEM;
	if (!r && work_steps(work))
		r = work_start(work, pf->daemon->base, pf->daemon->worker_filter, seconds);
	else
		work = work_free(work);
	if (!r && work)
		return;
	if (r)
		work_free(work);
	result.error = -r;
	done(pf, &result);
}

/* ---- ask ---- */

static int record(struct pf *pf)
{
	char text[512], name[VFS_RECORD_NAME];
	int n = vfs_record_format(&pf->record, text, sizeof(text));

	vfs_record_name(&pf->address, name);
	n = n < 0 ? n : record_put(pf->daemon->state_dir, name, text, (size_t)n);
	pf->recorded = pf->recorded || !n;
	return n;
}

static void on_asked(void *userdata, const struct work_result *result)
{
	struct pf *pf = userdata;
	struct vfs_record *r = &pf->record;
	struct message_refusal refusal;
	int error = result->error;

	pf->late = false;
	if (!error)
		error = -read_vfs(pf);
	if (!error && pf->n_told < 2)
		error = EIO;
	if (error) {
		fail(pf, &result->address, result->what, error);
		end(pf);
		return;
	}
	pf->changes = pf->told != r->wanted || pf->n_vfs != r->wanted;
	if (!pf->recovered) {
		r->before = pf->told;
		r->autoprobe = pf->autoprobe;
		r->before_on_vfio = true;
		for (size_t i = 0; i < pf->n_vfs; i++)
			r->before_on_vfio = r->before_on_vfio && on_vfio(pf, &pf->vfs[i]);
		if (!pf->changes && next_unbound(pf, 0) == pf->n_vfs) {
			finish(pf); /* as it is wanted already */
			return;
		}
		error = -record(pf);
		if (error) {
			fail(pf, NULL, "recording it", error);
			finish(pf);
			return;
		}
	}
	/* Nobody could claim one meanwhile, but an earlier run's record is of long ago. */
	if (pf->changes && guard_vfs(pf, &refusal)) {
		fail(pf, &refusal.other, "is lent or in use", 0);
		end(pf);
		return;
	}
	make(pf);
}

static void begin(struct pf *pf)
{
	const struct work_ops ops = work_ops_of(on_asked);
	const struct kernel *kernel = &pf->daemon->kernel;
	struct work *work = work_new(&ops, pf);
	int r = work ? 0 : -ENOMEM;

	pf->undoing = pf->late = pf->changes = false;
	pf->n_told = 0;
	pf->failure = (struct message_refusal){ 0 };
	if (!r)
		r = work_add_read(work, kernel_open_numvfs_read(kernel, &pf->address),
				  "reading sriov_numvfs", &pf->address);
	if (!r)
		r = work_add_read(work, kernel_open_autoprobe_read(kernel, &pf->address),
				  "reading sriov_drivers_autoprobe", &pf->address);
	start(pf, ASKING, work, r, "reading sriov_numvfs", WORKER_SECONDS, on_asked);
}

/* ---- make ---- */

static uint32_t target(const struct pf *pf)
{
	return pf->undoing ? pf->record.before : pf->record.wanted;
}

/* Are the new ones to be bound to VFIO? Going back, only if they were. */
static bool binds(const struct pf *pf)
{
	return !pf->undoing || pf->record.before_on_vfio;
}

/* Back to what was before; where that fails as well, it is left as it is. */
static void go_back(struct pf *pf, const struct pci_address *address, const char *what, int error)
{
	fail(pf, address, what, error);
	if (pf->undoing)
		pf->failure.limit = 1;
	if (pf->undoing || !pf->changes) {
		end(pf);
		return;
	}
	pf->undoing = true;
	make(pf);
}

static void on_wait(evutil_socket_t fd, short what, void *userdata)
{
	const struct timeval after = { .tv_usec = WAIT_USEC };
	struct pf *pf = userdata;
	const struct device *device;
	size_t i;

	(void)fd;
	(void)what;
	for (i = 0; i < pf->n_vfs; i++) {
		device = devices_from(&pf->daemon->devices, &pf->vfs[i]);
		if (!device || pci_address_compare(&device->record.address, &pf->vfs[i]) != 0)
			break;
	}
	if (i < pf->n_vfs && ++pf->waits < WAITS && !evtimer_add(pf->timer, &after))
		return;
	bind_next(pf);
}

/* Variant drivers are the watcher's knowledge; one that does not tell in time is not waited for. */
static void wait_for_watcher(struct pf *pf)
{
	pf->phase = WAITING;
	pf->bound = 0;
	pf->waits = 0;
	if (!pf->timer)
		pf->timer = evtimer_new(pf->daemon->base, on_wait, pf);
	if (pf->timer)
		on_wait(-1, 0, pf);
	else
		bind_next(pf);
}

static void on_made(void *userdata, const struct work_result *result)
{
	struct pf *pf = userdata;
	int error = result->error, r = read_vfs(pf);

	pf->late = false;
	if (error == ENOENT && !pf->undoing && result->what == step_numvfs) {
		refuse(&pf->failure, GPUBROKER_REFUSED_NO_VFS, &pf->address,
		       "has a host driver that makes no virtual functions");
		end(pf);
	} else if (error || r || pf->n_vfs != target(pf))
		go_back(pf, &result->address, error ? result->what : step_numvfs,
			error ? error
			: r   ? -r
			      : EIO);
	else if (binds(pf))
		wait_for_watcher(pf);
	else
		end(pf);
}

/*
 * To N, always by way of 0: from one number to another the kernel says EBUSY. With host drivers kept
 * from what is to be bound to VFIO.
 */
static void make(struct pf *pf)
{
	const struct work_ops ops = work_ops_of(on_made);
	const struct kernel *kernel = &pf->daemon->kernel;
	struct work *work = work_new(&ops, pf);
	const bool off = binds(pf) || !pf->record.autoprobe;
	int r = work ? 0 : -ENOMEM;
	char number[16];

	if (pf->undoing && !r)
		r = read_vfs(pf);
	if (!r && pf->changes && (!pf->undoing || pf->n_vfs != target(pf))) {
		snprintf(number, sizeof(number), "%" PRIu32, target(pf));
		r = work_add(work, kernel_open_autoprobe(kernel, &pf->address), off ? "0" : "1",
			     "sriov_drivers_autoprobe", &pf->address, 0);
		/* Whatever it is now, 0 to 0 does nothing. */
		if (!r)
			r = work_add(work, kernel_open_numvfs(kernel, &pf->address), "0",
				     step_numvfs, &pf->address, 0);
		if (!r && target(pf))
			r = work_add(work, kernel_open_numvfs(kernel, &pf->address), number,
				     step_numvfs, &pf->address, 0);
	}
	start(pf, MAKING, work, r, step_numvfs, MAKE_SECONDS, on_made);
}

/* ---- bind ---- */

static void on_bound(void *userdata, const struct work_result *result)
{
	struct pf *pf = userdata;
	size_t unbound = next_unbound(pf, 0);

	pf->late = false;
	if (unbound < pf->bound || (result->error && unbound < pf->n_vfs))
		go_back(pf, result->error ? &result->address : &pf->vfs[unbound],
			result->error ? result->what : "no VFIO driver took it", result->error);
	else
		bind_next(pf);
}

/* The driver that the rule names, where it is there; else "", as for what is prepared. */
static const char *driver_for(const struct pf *pf)
{
	int fd;

	if (!pf->record.driver[0])
		return "";
	fd = kernel_open_bind(&pf->daemon->kernel, pf->record.driver);
	fd_close(fd);
	return fd < 0 ? "" : pf->record.driver;
}

static void bind_next(struct pf *pf)
{
	const struct work_ops ops = work_ops_of(on_bound);
	struct work *work;
	char driver[FUNCTION_NAME_MAX];
	size_t i = next_unbound(pf, 0);
	int r = 0;

	if (i == pf->n_vfs) {
		end(pf);
		return;
	}
	work = work_new(&ops, pf);
	r = work ? 0 : -ENOMEM;
	for (size_t n = 0; !r && n < BATCH && i < pf->n_vfs; n++, i = next_unbound(pf, i + 1)) {
		r = sysfs_driver_read(pf->daemon->kernel.sys, &pf->vfs[i], driver);
		if (!r)
			r = add_bind_steps(pf->daemon, work, &pf->vfs[i], driver, driver_for(pf));
		pf->bound = i + 1;
	}
	start(pf, BINDING, work, r, "driver_override", WORKER_SECONDS, on_bound);
}

/* ---- end ---- */

static void on_ended(void *userdata, const struct work_result *result)
{
	struct pf *pf = userdata;

	pf->late = false;
	if (result->error && !pf->failure.reason)
		fail(pf, &result->address, result->what, result->error);
	if (result->error)
		pf->failure.limit = 1;
	finish(pf);
}

/* What was to be bound and was not goes back to whatever driver wants it. */
static int add_give_back(struct pf *pf, struct work *work)
{
	const struct kernel *kernel = &pf->daemon->kernel;
	char text[PCI_ADDRESS_TEXT];
	int r = 0;

	for (size_t i = next_unbound(pf, 0), n = 0; !r && i < pf->n_vfs && n < BATCH;
	     i = next_unbound(pf, i + 1), n++) {
		r = work_add(work, kernel_open_override(kernel, &pf->vfs[i]), "\n",
			     "driver_override", &pf->vfs[i], WORK_SOFT);
		if (!r)
			r = work_add(work, kernel_open_probe(kernel),
				     pci_address_format(&pf->vfs[i], text), "drivers_probe",
				     &pf->vfs[i], WORK_QUIET | WORK_SOFT);
		if (r == -ENOENT || r == -ENODEV)
			r = 0; /* it is gone */
	}
	return r;
}

static void end(struct pf *pf)
{
	const struct work_ops ops = work_ops_of(on_ended);
	struct function f;
	struct work *work;
	int r;

	/* Unplugged, or nothing was changed. */
	if (!pf->recorded ||
	    sysfs_function_read(pf->daemon->kernel.sys, &pf->address, &f) == -ENODEV) {
		finish(pf);
		return;
	}
	work = work_new(&ops, pf);
	r = work ? work_add(work, kernel_open_autoprobe(&pf->daemon->kernel, &pf->address),
			    pf->record.autoprobe ? "1" : "0", "sriov_drivers_autoprobe",
			    &pf->address, WORK_SOFT)
		 : -ENOMEM;
	if (!r && pf->failure.reason && !pf->changes)
		r = add_give_back(pf, work);
	start(pf, ENDING, work, r, "sriov_drivers_autoprobe", WORKER_SECONDS, on_ended);
}

/* ---- root asks ---- */

int vfs_request(struct peer *peer, const struct message_vfs *request,
		struct message_refusal *ret_refusal)
{
	struct daemon *daemon = peer->daemon;
	struct function f;
	struct pf *pf;
	int r;

	if (peer->uid != 0) {
		*ret_refusal = refusal_make(GPUBROKER_REFUSED_NOT_YOURS);
		strcpy(ret_refusal->detail, "make virtual functions, or remove them");
		return GPUBROKER_REFUSED_NOT_YOURS;
	}
	r = sysfs_function_read(daemon->kernel.sys, &request->address, &f);
	if (r == -ENODEV)
		return refuse(ret_refusal, GPUBROKER_REFUSED_NO_DEVICE, &request->address, "");
	pf = r ? NULL : pf_make(daemon, &request->address);
	if (!pf) {
		refuse(ret_refusal, GPUBROKER_REFUSED_FAILED, &request->address, "reading it");
		ret_refusal->error = r ? -r : ENOMEM;
		return GPUBROKER_REFUSED_FAILED;
	}
	if (pf->phase != IDLE)
		return refuse(ret_refusal,
			      pf->late ? GPUBROKER_REFUSED_STUCK : GPUBROKER_REFUSED_BUSY,
			      &pf->address,
			      pf->late ? "its virtual functions do not go, or do not come" : "vfs");
	r = guard_pf(pf, &f, request->vfs, ret_refusal);
	if (!r && f.vfs != request->vfs) {
		r = read_vfs(pf);
		if (r) {
			refuse(ret_refusal, GPUBROKER_REFUSED_FAILED, &pf->address,
			       "reading which virtual functions it has");
			ret_refusal->error = -r;
			return GPUBROKER_REFUSED_FAILED;
		}
		r = guard_vfs(pf, ret_refusal);
	}
	if (r)
		return r;
	pf->record = (struct vfs_record){
		.pf = f.address,
		.vendor = f.vendor,
		.device = f.device,
		.wanted = request->vfs,
		.by = peer->uid,
	};
	pf->peer = peer;
	begin(pf);
	return 0;
}

/* ---- the policy asks ---- */

static void look(struct pf *pf)
{
	struct daemon *daemon = pf->daemon;
	struct message_refusal refusal;
	struct policy_facts facts;
	struct function f;
	const char *driver;
	uint32_t wanted;
	char text[96];
	size_t rule;
	int r;

	if (pf->phase != IDLE)
		return;
	r = sysfs_function_read(daemon->kernel.sys, &pf->address, &f);
	if (r == -ENODEV) {
		pf_free(pf); /* another card may get its address */
		return;
	}
	if (r || pf->held)
		return;
	facts = function_facts(&f);
	wanted = f.vfs_total ? policy_vfs(&daemon->policy, &facts, &rule) : 0;
	if (!wanted)
		return;
	if (!f.driver[0]) { /* it is looked at again when there is one */
		pf->tries = 0;
		return;
	}
	if (guard_pf(pf, &f, wanted, &refusal)) {
		if (refusal.reason == GPUBROKER_REFUSED_NO_VFS && refusal.limit) {
			snprintf(text, sizeof(text),
				 "it can have at most %" PRIu32 " virtual functions, not %" PRIu32,
				 f.vfs_total, wanted);
			leave(pf, text, "");
		} else if (refusal.reason == GPUBROKER_REFUSED_NO_VFS) {
			leave(pf, "it makes no virtual functions on its driver", f.driver);
		} else {
			leave(pf, "it is lent, or on its way", "");
		}
		return;
	}
	if (read_vfs(pf))
		return;
	pf->record = (struct vfs_record){
		.pf = f.address,
		.vendor = f.vendor,
		.device = f.device,
		.wanted = wanted,
		.by = VFS_NOBODY,
	};
	pf->changes = pf->n_vfs != wanted;
	if (!pf->changes && next_unbound(pf, 0) == pf->n_vfs) {
		pf->tries = 0;
		return;
	}
	if (pf->changes && guard_vfs(pf, &refusal)) {
		snprintf(text, sizeof(text),
			 "it has %zu virtual functions, not %" PRIu32 ", of which one is %s",
			 pf->n_vfs, wanted,
			 refusal.reason == GPUBROKER_REFUSED_IN_USE ? "in use by the host"
								    : "lent");
		leave(pf, text, "");
		return;
	}
	if (pf->tries >= TRIES)
		return;
	pf->tries++;
	driver = policy_text(&daemon->policy, daemon->policy.rules[rule].vfio_driver);
	if (driver)
		snprintf(pf->record.driver, sizeof(pf->record.driver), "%s", driver);
	begin(pf);
}

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;
	struct pf *pf, *next;

	(void)fd;
	(void)what;
	if (!daemon->serving || daemon->quitting || !daemon->policy_good)
		return;
	for (pf = TAILQ_FIRST(&daemon->vfs->list); pf; pf = next) {
		next = TAILQ_NEXT(pf, link);
		if (!pf->look)
			continue;
		pf->look = false;
		look(pf);
	}
}

static void look_at(struct daemon *daemon, const struct pci_address *address)
{
	struct pf *pf;

	if (!daemon->vfs || !daemon->vfs->wanted || daemon->quitting)
		return;
	pf = pf_make(daemon, address);
	if (pf)
		look_soon(pf, true);
	else
		log_error("no memory to look after virtual functions");
}

void vfs_all(struct daemon *daemon)
{
	bool wanted = false;
	struct pf *pf;

	for (size_t i = 0; i < daemon->policy.n_rules && !wanted; i++)
		wanted = daemon->policy.rules[i].vfs;
	if (!wanted && !daemon->vfs)
		return;
	if (!vfs_of(daemon)) {
		log_error("no memory to make virtual functions");
		return;
	}
	daemon->vfs->wanted = wanted;
	TAILQ_FOREACH(pf, &daemon->vfs->list, link) {
		pf->held = false;
		pf->tries = 0;
		pf->reason[0] = '\0';
	}
	for (size_t i = 0; i < daemon->devices.n; i++)
		if (daemon->devices.list[i].record.vfs_total)
			look_at(daemon, &daemon->devices.list[i].record.address);
}

void vfs_record(struct daemon *daemon, const struct watcher_record *record)
{
	const struct device *device;

	if (record->type == WATCHER_GONE) {
		device = devices_from(&daemon->devices, &record->address);
		if (!device || pci_address_compare(&device->record.address, &record->address) != 0)
			return;
		record = &device->record;
	} else if (record->type != WATCHER_DEVICE) {
		return;
	}
	if (record->is_vf)
		look_at(daemon, &record->physfn);
	else if (record->vfs_total)
		look_at(daemon, &record->address);
}

/* ---- start and stop ---- */

struct recovery {
	struct daemon *daemon;
	int error;
};

static void found(void *userdata, const char *name, const char *text, size_t len)
{
	struct recovery *recovery = userdata;
	struct daemon *daemon = recovery->daemon;
	char own_name[VFS_RECORD_NAME];
	struct vfs_record read;
	struct function now;
	struct pf *pf;
	int r;

	if (!vfs_record_parse(text, len, &read))
		vfs_record_name(&read.pf, own_name);
	else
		own_name[0] = '\0';
	r = own_name[0] ? sysfs_function_read(daemon->kernel.sys, &read.pf, &now) : 0;
	if (r == -ENODEV) {
		record_drop(daemon->state_dir, name); /* unplugged, and its VFs with it */
		return;
	}
	if (strcmp(own_name, name) != 0 ||
	    (!r && (now.vendor != read.vendor || now.device != read.device))) {
		log_error("record %s: %s; it is set aside as %s.damaged", name,
			  own_name[0] ? "it is another device's" : "damaged", name);
		if (record_set_aside(daemon->state_dir, name))
			log_error("record %s: cannot be set aside", name);
		return;
	}
	pf = pf_make(daemon, &read.pf);
	if (!pf) {
		recovery->error = -ENOMEM;
		return;
	}
	pf->record = read;
	pf->recorded = pf->recovered = true;
	tell(pf, "taken-up", LOG_INFO, NULL, "its virtual functions are not all made");
	begin(pf);
}

int vfs_recover(struct daemon *daemon)
{
	struct recovery recovery = { .daemon = daemon };
	int r = record_each(daemon->state_dir, RECORD_VFS, found, &recovery);

	if (!r)
		r = recovery.error;
	if (r)
		log_error("the records of virtual functions cannot be read: %s; ending, to be "
			  "started again",
			  strerror(-r));
	return r;
}

void vfs_done(struct daemon *daemon)
{
	struct pf *pf, *next;

	if (!daemon->vfs)
		return;
	/* Of those at work too: the loop has ended, so no worker is heard any more. */
	for (pf = TAILQ_FIRST(&daemon->vfs->list); pf; pf = next) {
		next = TAILQ_NEXT(pf, link);
		pf_free(pf);
	}
	event_free(daemon->vfs->timer);
	free(daemon->vfs);
	daemon->vfs = NULL;
}
