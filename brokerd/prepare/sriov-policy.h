/* SPDX-License-Identifier: MIT */
/* How many virtual functions the policy wants. */
#pragma once

#include <event2/util.h>

#include "brokerd/prepare/pf.h"

/* Returns how many VFs the policy wants of a PF, and the rule (*ret_rule). Notes the quotas. */
uint32_t sriov_policy_wants(struct pf *pf, const struct function *f, size_t *ret_rule);
/*
 * The timer of struct sriov, which is the userdata: looks at those that pf_look_soon() has marked.
 */
void sriov_policy_on_timer(evutil_socket_t fd, short what, void *userdata);

/* There is a new policy, or the daemon begins to serve: looks at every physical function. */
void sriov_policy_look_at_all(struct sriov *sriov);
/* The watcher has sent this record, which the device table does not have yet. */
void sriov_policy_device_seen(struct sriov *sriov, const struct watcher_record *record);
