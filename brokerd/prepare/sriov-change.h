/* SPDX-License-Identifier: MIT */
/*
 * What the parts of virtual functions' making know of each other, and nobody else does; all others
 * include vfs.h.
 *
 *	vfs.c        the list, its records, root's requests, start and stop
 *	vfscourse.c  the course: ask, make, wait, bind, end
 *	vfsguard.c   the guards, which only look
 *	vfspolicy.c  what the policy wants
 */
#pragma once

#include "brokerd/prepare/sriov.h"
#include "brokerd/record/vf-record.h"

#define VFS_TRIES                                                                                  \
	3 /* by the policy, until it is loaded anew, the driver goes, or root has made some */

#define VFS_PFS_MAX 4096

/* What each of them may have of the card; 0: as it is. */
struct vf_quotas {
	uint32_t exec_quantum_ms;
	uint32_t preempt_timeout_us;
};

enum vfs_phase { VFS_IDLE, VFS_ASKING, VFS_MAKING, VFS_WAITING, VFS_BINDING, VFS_ENDING };

struct pf {
	TAILQ_ENTRY(pf) link;
	struct daemon *daemon;
	struct pci_address address;
	/* what the policy wants of it */
	bool look; /* when the timer comes */
	bool held; /* root has said how many: so it stays until the policy is loaded anew */
	unsigned tries;
	char reason[192]; /* why it was left as it is, as it was said */
	struct vf_quotas quotas,
		quotas_tried; /* by the policy; that a worker has written, or could not */
	/* the course, from here on */
	enum vfs_phase phase;
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
	size_t n;  /* of it, at most VFS_PFS_MAX: the watcher names them */
	bool full; /* that was said */
	struct event *timer;
	bool soon;   /* the timer is not that of another try, but of an event */
	bool wanted; /* the policy has a rule with vfs */
};

/* ---- vfs.c ---- */

/* The daemon's, made where there is none yet; NULL: there is no memory for it. */
struct vfs *vfs_of(struct daemon *daemon);
/* The function's entry, or NULL. */
struct pf *pf_find(const struct daemon *daemon, const struct pci_address *address);
/* The same, made where there is none yet; NULL, said in the log: no memory, or VFS_PFS_MAX. */
struct pf *pf_make(struct daemon *daemon, const struct pci_address *address);
/* Takes it off the list and frees it. No worker of its may be at work that is still heard. */
void pf_free(struct pf *pf);
/* A refusal about a function, of any reason and with any detail. Its reason. */
int pf_refuse(struct message_refusal *ret_refusal, uint32_t reason,
	      const struct pci_address *address, const char *detail);
/* A line in the journal, as audit() writes it, on behalf of whom the record names. */
void pf_tell(const struct pf *pf, const char *outcome, int level, const char *rule,
	     const char *reason);
/* Writes pf->record, and notes that it is written. 0, or -errno. */
int pf_record(struct pf *pf);
/* Removes it, where it is written. Says itself where that fails. */
void pf_unrecord(struct pf *pf);

/* ---- vfscourse.c ---- */

/*
 * Begins the course, by what pf->record says is wanted; it must be VFS_IDLE, and guarded. May be
 * over on return. At its end pf->peer is answered, if there is one.
 */
void pf_begin(struct pf *pf);

/* ---- vfsguard.c ---- */

/* Reads into pf->vfs which VFs there are. 0, or -errno. */
int pf_read_vfs(struct pf *pf);
/* May the VFs go that pf_read_vfs() found? 0, or the reason, with *ret_refusal. */
int pf_guard_vfs(const struct pf *pf, struct message_refusal *ret_refusal);
/* Can the PF, of which f was just read, have so many? 0, or the reason, with *ret_refusal. */
int pf_guard(const struct pf *pf, const struct function *f, uint32_t wanted,
	     struct message_refusal *ret_refusal);
/* Has the watcher told of all of pf->vfs? */
bool pf_all_known(const struct pf *pf);
/* Is this VF on a VFIO driver? */
bool pf_on_vfio(const struct pf *pf, const struct pci_address *vf);
/*
 * The index of the first of pf->vfs, from `from` on, that is to be bound and is not; pf->n_vfs
 * where there is none. One that a lease has is the lease's.
 */
size_t pf_next_unbound(const struct pf *pf, size_t from);

/* ---- vfspolicy.c ---- */

/* What the policy says of a PF: how many it wants, and the rule (*ret_rule). Notes the quotas. */
uint32_t pf_policy(struct pf *pf, const struct function *f, size_t *ret_rule);
/* Are there quotas that nobody has tried to set yet? */
bool pf_wants_quotas(const struct pf *pf);

/* It stays as it is, against the policy, and why: said once. */
void pf_leave(struct pf *pf, const char *why, const char *detail);
/* Has it looked at by the policy: soon, after an event; else for another try, later. */
void pf_look_soon(struct pf *pf, bool soon);
/* The timer of struct vfs; userdata is the daemon. */
void vfs_on_timer(evutil_socket_t fd, short what, void *userdata);
