/* SPDX-License-Identifier: MIT */
/* One `gpubroker attach`: what attach.c decides, and plug.c does. */
#pragma once

#include <json.h>
#include <signal.h>

#include "client/gpubroker.h"
#include "client/run/progress.h"
#include "client/run/vm.h"

struct attach {
	const char *device; /* as given */
	const char *socket; /* of QEMU's monitor */
	const char *port;   /* --port, or NULL */
	const char *end;    /* of a message that refuses: "nothing was claimed" */
	struct qmp *qmp;
	struct vm vm;
	int lender; /* to the supervisor that lets QEMU open a group, -1: by iommufd, see inbox.h */
	struct progress progress;
	struct gpubroker_claim *claim;
	const struct gpubroker_grant *grant;
	size_t n_slots;	   /* ports that were taken */
	char first[VM_ID]; /* the device that the guest is expected to use */
	char first_port[VM_ID];
	struct json_object *plugged; /* what was, for --json */
	sigset_t signals;	     /* which are blocked until all is done or undone */
};

/* Hands over what was claimed, and has QEMU plug it. 0, or an exit status after it was said why. */
int plug_all(struct attach *a);

/* A step has failed: takes back what QEMU has got, and says what becomes of the device. */
void plug_undo(struct attach *a, struct gpubroker *handle);

/* Returns true if the lease is there; an answer that does not come counts as one that says so. */
bool plug_is_leased(struct gpubroker *handle, uint64_t lease);
