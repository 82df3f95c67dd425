/* SPDX-License-Identifier: MIT */
/* Finds the kind of a lease, see kind.h. No other file distinguishes the kinds. */
#include "config.h"

#include "brokerd/lease/kind.h"
#include "brokerd/lease/functions.h"
#include "brokerd/lease/mdev.h"
#include "brokerd/lease/vgpu.h"

const struct lease_kind *lease_kind_of(const struct lease *lease)
{
	if (!lease_is_made(lease))
		return &lease_of_functions;
	return lease->mdev.vendor ? &lease_of_vgpu : &lease_of_mdev;
}
