/* SPDX-License-Identifier: MIT */
/*
 * Physical functions (PFs) whose virtual functions (VFs) are looked after, and their records.
 *Shared by the files of SR-IOV; others include sriov.h.
 *
 *	sriov.c         what root asks, start and stop
 *	sriov-change.c  how the number of VFs is changed: ask, make, wait, bind, end
 *	sriov-guard.c   what keeps it from being changed; only looks
 *	sriov-policy.c  what the policy wants
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/prepare/prepare.h"
#include "brokerd/prepare/sriov.h"
#include "brokerd/record/vf-record.h"

/* By the policy, until it is loaded again, the driver goes, or root has made some. */
#define SRIOV_TRIES 3

/* What each VF may have of the card; 0: as it is. */
struct vf_quotas {
	uint32_t exec_quantum_ms;
	uint32_t preempt_timeout_us;
};

enum sriov_phase {
	SRIOV_IDLE,
	SRIOV_ASKING,
	SRIOV_MAKING,
	SRIOV_WAITING,
	SRIOV_BINDING,
	SRIOV_ENDING
};

struct pf {
	TAILQ_ENTRY(pf) link;
	struct sriov *sriov;
	struct pci_address address;
	/* what the policy wants of it */
	bool look; /* when the timer comes */
	bool held; /* root has said how many: so it stays until the policy is loaded again */
	unsigned tries;
	char reason[192];	       /* why it was left as it is, as it was logged */
	struct vf_quotas quotas;       /* by the policy */
	struct vf_quotas quotas_tried; /* that a worker has written, or could not */
	/* the change, from here on */
	enum sriov_phase phase;
	struct hold hold; /* in the holds while the phase is not idle; it says whether a worker is
			     late */
	bool counted;	  /* among the workers' busy ones: not idle, and not late */
	struct vf_record record;
	bool recorded;
	bool recovered;
	bool changes;	/* their number, so all of them are new */
	bool undoing;	/* going back to what was before */
	uint32_t told;	/* sriov_numvfs, when it was read */
	bool autoprobe; /* likewise */
	unsigned n_told;
	struct pci_address *vfs;
	size_t n_vfs, bound;
	unsigned waits;
	struct event *timer;
	struct sriov_request *request;	/* whose client is to be answered, or NULL */
	struct message_refusal failure; /* the first; its reason is 0 while all is well */
};

/* Returns the function's entry, or NULL. */
struct pf *pf_find(const struct sriov *sriov, const struct pci_address *address);
/* The same, made where there is none yet; NULL, and logged: no memory, or SRIOV_PFS_MAX. */
struct pf *pf_make(struct sriov *sriov, const struct pci_address *address);
/* Takes it off the list and frees it. No worker of it may be at work. */
void pf_free(struct pf *pf);

/* Enters a phase; outside of SRIOV_IDLE its group is held, and the daemon's end waits for it. */
void pf_set_phase(struct pf *pf, enum sriov_phase phase);
/* Its worker is late, or has come back after all. */
void pf_set_late(struct pf *pf, bool late);

/* Fills a refusal about a function, with a text. Returns its reason. */
int pf_refuse(struct message_refusal *ret_refusal, uint32_t reason,
	      const struct pci_address *address, const char *text);
/* Writes a line in the journal. `by` is a uid, or VF_BY_POLICY. */
void pf_log(const struct pf *pf, uint32_t by, const char *outcome, int level, const char *reason);
/* It stays as it is, against the policy: logs why, once. */
void pf_leave(struct pf *pf, const char *why, const char *detail);

/* Returns true if there are quotas that nobody has tried to set yet. */
bool pf_wants_quotas(const struct pf *pf);
/* Has sriov-policy.c look at it: soon, after an event; else for another try, later. */
void pf_look_soon(struct pf *pf, bool soon);

/* Writes pf->record, and notes that it is written. 0, or -errno. */
int pf_record(struct pf *pf);
/* Removes it, where it is written. Logs where that fails. */
void pf_unrecord(struct pf *pf);
