/* SPDX-License-Identifier: MIT */
/* The number of virtual functions that the policy wants. */
#pragma once

#include <event2/util.h>

#include "brokerd/prepare/pf.h"

/*
 * Returns how many VFs the policy wants of a PF (0: it does not say), with *ret_rule. Notes the
 * quotas in the PF.
 */
uint32_t sriov_policy_wants(struct pf *pf, const struct function *f, size_t *ret_rule);
/*
 * The function of sriov->timer: looks at the PFs that pf_look_soon() has marked. The userdata is
 * the struct sriov.
 */
void sriov_policy_on_timer(evutil_socket_t fd, short what, void *userdata);

/*
 * Looks at every physical function: to be called when there is a new policy, or when the daemon
 * begins to serve.
 */
void sriov_policy_look_at_all(struct sriov *sriov);
/* Handles a record from the watcher. To be called before the device table takes the record. */
void sriov_policy_device_seen(struct sriov *sriov, const struct watcher_record *record);
