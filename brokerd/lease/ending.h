/* SPDX-License-Identifier: MIT */
/*
 * Leases come true and end: binding, restoring, and hearing from the kernel that a group was let
 * go.
 */
#pragma once

#include "brokerd/daemon.h"

struct work;

/*
 * Starts a worker that reads what must be recorded and may hang: the overrides. claim_advance()
 * hears when it is over. 0, or -errno when none could be started.
 */
int lease_ask(struct daemon *daemon, struct lease *lease);

/*
 * Starts a worker that binds the lease's functions to VFIO; claim_advance() hears when it is over.
 * A group that is on VFIO already is ready at once. 0, or -errno when none could be started.
 */
int lease_bind(struct daemon *daemon, struct lease *lease);

/*
 * Starts the clock of a lease that ends some time; then it is taken back, held or not.
 */
void lease_set_clock(struct daemon *daemon, struct lease *lease);

/* Its holder is letting go, or nobody has it: it goes back as soon as that is so. */
void lease_closed(struct daemon *daemon, struct lease *lease);

/*
 * Takes a lease back whose holder still has it; `why` (static) is for the log. Nothing where it is
 * on its way back already. It may be gone on return.
 */
void lease_recall(struct lease *lease, const char *why);

/*
 * Adds the writes that bring a function to a VFIO driver; none where `bound`, its driver, is one.
 * `wanted` is the rule's, or "" for the kernel's choice: the most specific variant driver that is
 * loaded, else vfio-pci. -ENOENT: the wanted one is not loaded.
 */
int add_bind_steps(const struct daemon *daemon, struct work *work,
		   const struct pci_address *address, const char *bound, const char *wanted);

/* inotify has something. */
void lending_watch(struct daemon *daemon);
/* A lease known from the records: is it held, or does its group go back? */
void lending_take_up(struct daemon *daemon, struct lease *lease);
struct group_view;
/* Makes the group's functions the lease's, without knowing what they were before. */
void lease_of_unknown(struct lease *lease, const struct group_view *view);
/* Is any worker at work? */
bool lending_is_busy(const struct daemon *daemon);

/* Has the group been let go? A worker tries to open it. */
void lease_look(struct daemon *daemon, struct lease *lease);
/* The worker is done of a lease that somebody has: what had to wait for it is seen to now. */
void lease_work_was_done(struct daemon *daemon, struct lease *lease);
/* A worker came back late, after its claim was answered: puts things right. False: it did not. */
bool lease_came_late(struct lease *lease);

/* ---- arrivals.c ---- */

/* What the watcher says, before the table takes it: functions of lent groups that come and go. */
void arrivals_record(struct daemon *daemon, const struct watcher_record *record);
/* Functions that came into the lease's group while nobody looked. */
void arrivals_look(struct daemon *daemon, struct lease *lease);

/* ---- restore.c ---- */

/*
 * Gives the lease's functions back, as recorded; the lease is in state RESTORING, or STUCK. May be
 * over, and the lease gone, on return.
 */
void lease_restore(struct daemon *daemon, struct lease *lease);
/*
 * It is over where `what` is NULL; else `what` failed, of that function, and it is stuck. The lease may be gone
 * on return.
 */
void lease_restored(struct daemon *daemon, struct lease *lease, const char *what,
		    const struct pci_address *address, int error);
/* The same for a lease that is stuck and has no worker; else nothing. */
void lease_retry(struct lease *lease);
/* Says why a lease is stuck, as "0000:01:00.0: unbind: Device or resource busy", and records it. */
void lease_stick(struct lease *lease, const struct pci_address *address, const char *what,
		 const char *why);
/* A worker's late(). */
void on_work_late(void *userdata, const char *what, const struct pci_address *address);
