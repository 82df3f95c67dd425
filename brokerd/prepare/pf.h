/* SPDX-License-Identifier: MIT */
/*
 * Physical functions (PFs) whose virtual functions (VFs) the broker makes, and their records. For
 * the files of SR-IOV; others include sriov.h.
 *
 *	sriov.c         root's requests, start and end
 *	sriov-change.c  changes the number of VFs: ask, make, wait, bind, end
 *	sriov-guard.c   checks whether it may be changed; only reads
 *	sriov-policy.c  makes the VFs that the policy wants
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "brokerd/prepare/prepare.h"
#include "brokerd/prepare/sriov.h"
#include "brokerd/record/vf-record.h"

/*
 * Attempts to make the VFs that the policy wants. The count starts again when the policy is loaded
 * again, when the PF loses its driver, and after a success.
 */
#define SRIOV_TRIES 3

/* Quotas of each VF of the card; 0: unchanged. */
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
	/* ---- what the policy wants ---- */
	bool look; /* the timer's function will look at this PF */
	bool held; /* root has set the number, which holds until the policy is loaded again */
	unsigned tries;
	char reason[192];	       /* the last logged reason for leaving it unchanged */
	struct vf_quotas quotas;       /* what the policy wants */
	struct vf_quotas quotas_tried; /* the last that a worker has tried to write */
	/* ---- the change ---- */
	enum sriov_phase phase;
	struct hold hold; /* listed while the phase is not idle; knows whether a worker is late */
	bool counted;	  /* counted in workers->busy: not idle, and not late */
	struct vf_record record;
	bool recorded;
	bool recovered;
	bool changes;	/* the number of VFs changes, so that all of them are new */
	bool undoing;	/* the earlier number is being restored */
	uint32_t told;	/* sriov_numvfs, as a worker has read it */
	bool autoprobe; /* sriov_drivers_autoprobe, as a worker has read it */
	unsigned n_told;
	struct pci_address *vfs;
	size_t n_vfs, bound;
	unsigned waits;
	struct event *timer;
	struct sriov_request *request;	/* the client's request, or NULL */
	struct message_refusal failure; /* the first failure; reason 0: none */
};

/* Returns the function's entry, or NULL. */
struct pf *pf_find(const struct sriov *sriov, const struct pci_address *address);
/*
 * The same, but makes an entry if there is none. Returns NULL, after logging it, if there is no
 * memory or there are SRIOV_PFS_MAX.
 */
struct pf *pf_make(struct sriov *sriov, const struct pci_address *address);
/* Removes the entry from the list and frees it. It must have no worker. */
void pf_free(struct pf *pf);

/*
 * Sets the phase. While it is not SRIOV_IDLE, the hold is listed and the daemon's end waits for the
 * PF.
 */
void pf_set_phase(struct pf *pf, enum sriov_phase phase);
/* Notes whether the worker is late. */
void pf_set_late(struct pf *pf, bool late);

/* Fills a refusal about a function, with a text. Returns its reason. */
int pf_refuse(struct message_refusal *ret_refusal, uint32_t reason,
	      const struct pci_address *address, const char *text);
/* Writes a line to the journal. `by` is a uid, or VF_BY_POLICY. */
void pf_log(const struct pf *pf, uint32_t by, const char *outcome, int level, const char *reason);
/* Logs once why the PF stays as it is, against the policy. */
void pf_leave(struct pf *pf, const char *why, const char *detail);

/* Returns true if the policy wants quotas that no worker has tried to write yet. */
bool pf_wants_quotas(const struct pf *pf);
/*
 * Marks the PF for sriov-policy.c to look at: `soon`, after an event; otherwise later, for another
 * attempt.
 */
void pf_look_soon(struct pf *pf, bool soon);

/* Writes pf->record to the state directory. Returns 0, or -errno. */
int pf_record(struct pf *pf);
/* Removes the record, if it was written. Logs a failure. */
void pf_unrecord(struct pf *pf);
