/* SPDX-License-Identifier: MIT */
/* Changes the number of virtual functions. */
#pragma once

#include "brokerd/prepare/pf.h"

/*
 * Begins the change to pf->record.wanted. The PF must be SRIOV_IDLE and the guards must have
 * allowed the change. It may be over on return. At its end pf->request is answered, if there is
 * one.
 */
void sriov_change(struct pf *pf);
