/* SPDX-License-Identifier: MIT */
/* The change of the number of virtual functions. */
#pragma once

#include "brokerd/prepare/pf.h"

/*
 * Begins the change that pf->record says is wanted; the PF must be SRIOV_IDLE, and guarded. May be
 * over on return. At its end pf->request is answered, if there is one.
 */
void sriov_change(struct pf *pf);
