/* SPDX-License-Identifier: MIT */
/*
 * `gpubroker run --qemu --drivers`: the bundle of drivers that fits what is lent, see
 * host/bundle.h. All return 0, or an exit status after the reason was printed with `end` behind it,
 * as "nothing was claimed".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/host/bundle.h"
#include "client/host/function.h"

#define DRIVERS_NEEDS_MAX 1024 /* as many as a claim can have */

/* A device that the VM gets, and needs drivers for. */
struct drivers_need {
	struct pci_address address;
	uint16_t vendor, device;
};

struct drivers_needs {
	struct drivers_need list[DRIVERS_NEEDS_MAX];
	size_t n;
};

struct qemu_drivers {
	bool wanted;	       /* --drivers */
	const char *name;      /* =NAME, or NULL */
	struct bundle *bundle; /* that was chosen, or NULL */
	bool opened;	       /* fd is its image, checked */
	int fd;
};

/*
 * Adds what a group has that needs drivers: its GPUs, or, if it has none, all of its functions.
 */
void drivers_add_needs(struct drivers_needs *needs, const struct group_view *view);
/* Adds the device of which a part is lent, since a part's drivers are those of its device. */
void drivers_add_parent(struct drivers_needs *needs, const struct function *parent);

/*
 * Chooses the bundle for what is to be lent, and opens and checks its image. `needs` NULL: that is
 * not known before the claim; then the bundle is only chosen if it was named.
 */
int drivers_choose(struct qemu_drivers *drivers, const struct drivers_needs *needs,
		   const char *end);

/* Says what the VM gets. */
void drivers_tell(const struct qemu_drivers *drivers);

/* Lets the command inherit the image. */
int drivers_inherit(struct qemu_drivers *drivers, const char *end);

void drivers_done(struct qemu_drivers *drivers);
