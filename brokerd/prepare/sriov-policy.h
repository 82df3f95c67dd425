/* SPDX-License-Identifier: MIT */
/* How many virtual functions the policy wants. */
#pragma once

#include <event2/util.h>

#include "brokerd/prepare/pf.h"

/* Returns how many VFs the policy wants of a PF, and the rule (*ret_rule). Notes the quotas. */
uint32_t sriov_policy_wants(struct pf *pf, const struct function *f, size_t *ret_rule);
/* The timer of struct sriov, which is the userdata: looks at those that pf_look_soon() has marked. */
void sriov_policy_on_timer(evutil_socket_t fd, short what, void *userdata);
