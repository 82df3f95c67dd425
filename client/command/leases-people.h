/* SPDX-License-Identifier: MIT */
/*
 * The table of `gpubroker leases` for people: who has what since when and until when, with which
 * program; below each lease who waits for it, and what is wrong with it.
 */
#pragma once

#include "client/gpubroker.h"

/*
 * Prints all leases, and on a terminal the claims that wait for them. `columns` is a list as
 * "lease,user"; NULL: the usual ones. Asks the broker, and reads /proc for the programs. Claims
 * that wait for no lease that is shown go to other(), at the end; *ret_n is how many leases there
 * are by then. Returns the exit status, after the reason was printed.
 */
int leases_people(struct gpubroker *handle, const char *columns, gpubroker_waiting_func other,
		  void *userdata, size_t *ret_n);

#define LEASES_WIDE "lease,user,pid,state,held,since,ends,group,migrates,rule,device,command"
