/* SPDX-License-Identifier: MIT */
/*
 * The sentence of the supervisor when its command has ended, see farewell.h. It says only what the
 * supervisor knows: whether processes go on that could use the device, and not whether the host has
 * it back.
 */
#include "config.h"

#include "client/run/farewell.h"
#include "client/command/moments.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

void farewell_text(const struct supervisor *s, time_t seconds, bool goes_on,
		   char out[FAREWELL_TEXT])
{
	const char *given = s->n_lent ? s->lent[0].file.what : ""; /* "0000:01:00.0 (IOMMU ..." */
	const char *what = strncmp(given, "0000:", 5) ? given : given + 5;
	const int n = (int)strcspn(what, " ");
	char span[MOMENT_TEXT], more[24] = "";
	unsigned leases = 0;

	for (size_t i = 0; i < s->n_lent; i++)
		leases = s->lent[i].file.lease > leases ? s->lent[i].file.lease : leases;
	if (leases > 1)
		snprintf(more, sizeof(more), " and %u more", leases - 1);
	moment_length((uint64_t)(seconds > 0 ? seconds : 0), span);
	if (goes_on)
		snprintf(out, FAREWELL_TEXT,
			 "gpubroker: the command has ended after %s, but not all that it started, "
			 "so %.*s%s stay%s lent; see 'gpubroker leases'.\n",
			 span, n, what, more, leases > 1 ? "" : "s");
	else
		snprintf(out, FAREWELL_TEXT,
			 "gpubroker: %.*s%s go%s back to the host. You had %s for %s.\n", n, what,
			 more, leases > 1 ? "" : "es", leases > 1 ? "them" : "it", span);
}
