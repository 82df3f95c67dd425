/* SPDX-License-Identifier: MIT */
/*
 * Which vGPU a claim gets: a worker reads what a VF is and what could be made of it, one VF after another, until
 * one offers what is meant and allowed (mdevselect.c). The driver's table is text of its making: its lines
 * are read in the worker, and come here as a number and a name, which are looked at once more.
 *
 * It must never ask a driver itself, nor one of a VF that a lease has.
 */
#include "config.h"

#include "brokerd/lease/ending.h"
#include "brokerd/lease/mdev.h"
#include "client/common/name.h"
#include "client/host/profile.h"
#include "client/host/sysfs.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char what[] = "asking what its virtual functions can become";

/* ---- rows ---- */

/* In the worker: nothing here allocates or prints. */
bool vgpu_row(const char *line, char ret_text[WORK_TEXT_MAX])
{
	char type[VGPU_TYPE_MAX], name[128];
	size_t n;

	if (!profile_parse_creatable(line, type, name))
		return false;
	n = strlen(type);
	if (n > 10 || strlen(name) >= PROTOCOL_PROFILE_MAX)
		return false;
	memcpy(ret_text, type, n);
	ret_text[n] = ' ';
	strcpy(ret_text + n + 1, name);
	return true;
}

/* A number from 1 on that fits in 32 bits, as it would be written. */
static bool parse_number(const char *text, uint32_t *ret_number)
{
	uint64_t number = 0;
	size_t n = strspn(text, "0123456789");

	if (!n || n > 10 || text[n] || (*text == '0' && n > 1))
		return false;
	for (size_t i = 0; i < n; i++)
		number = number * 10 + (uint64_t)(text[i] - '0');
	*ret_number = (uint32_t)number;
	return number <= UINT32_MAX;
}

bool vgpu_row_parse(const char *text, struct vgpu_row *ret_row)
{
	size_t n = strcspn(text, " ");
	struct vgpu_row row = { .type = "" };
	uint32_t number;

	if (n >= sizeof(row.type) || text[n] != ' ')
		return false;
	memcpy(row.type, text, n);
	if (!parse_number(row.type, &number) || !number ||
	    !mdev_is_name(text + n + 1, sizeof(row.name)))
		return false;
	strcpy(row.name, text + n + 1);
	*ret_row = row;
	return true;
}

/* ---- asking ---- */

static void on_told(void *userdata, const struct pci_address *address, const char *text)
{
	struct mdev_choice *choice = mdev_choice_of(userdata);

	(void)address;
	if (!choice)
		return;
	if (!choice->current_told) {
		/* What is no number is something. */
		if (!parse_number(text, &choice->current))
			choice->current = UINT32_MAX;
		choice->current_told = true;
	} else if (choice->n_rows < ARRAY_SIZE(choice->rows) &&
		   vgpu_row_parse(text, &choice->rows[choice->n_rows])) {
		choice->n_rows++;
	}
}

/* Counts what is in use, and remembers what the first that is free offers. */
static void note(struct mdev_choice *choice)
{
	char type[VGPU_TYPE_MAX];
	size_t used = 0;

	snprintf(type, sizeof(type), "%" PRIu32, choice->current);
	choice->in_use += !!choice->current;
	choice->of_type += choice->current && !strcmp(type, choice->selector.profile);
	if (choice->current || choice->free)
		return;
	choice->free = true;
	for (size_t i = 0; i < choice->n_rows; i++) {
		const size_t room = sizeof(choice->left) - used;
		int n = snprintf(choice->left + used, room, "%s%s", used ? ", " : "",
				 choice->rows[i].type);

		if (n < 0 || (size_t)n >= room) {
			choice->left[used] = '\0';
			return;
		}
		used += (size_t)n;
	}
}

/* A VF that a lease has is no matter for its driver. */
static bool is_leased(const struct lease *lease, struct mdev_choice *choice,
		      const struct pci_address *vf)
{
	const struct daemon *daemon = lease->owner;
	const char *profile = choice->selector.profile;
	const struct lease *other;
	uint32_t group;

	if (sysfs_group_of(daemon->kernel.sys, vf, &group))
		return false;
	other = lease_find_group(&daemon->leases, group);
	if (!other || other == lease)
		return false;
	choice->in_use++;
	choice->of_type +=
		other->mdev.vendor && *profile &&
		(!strcmp(profile, other->mdev.type) || !strcmp(profile, other->mdev.name));
	if (choice->selector.kind == SELECT_ADDRESS &&
	    !pci_address_compare(vf, &choice->selector.address))
		refuse_held(&choice->nearest, other, vf);
	return true;
}

static void refuse(struct lease *lease, const struct mdev_choice *choice)
{
	struct claim *claim = lease->claim;

	if (claim->failed)
		return;
	claim->refusal = vgpu_refusal(lease, choice);
	claim->failed = true;
}

static void on_asked(void *userdata, const struct work_result *result)
{
	struct lease *lease = userdata;
	struct daemon *daemon = lease->owner;
	struct claim *claim = lease->claim;
	struct mdev_choice *choice;
	int r;

	lease->work = NULL;
	if (!lease_came_late(lease)) {
		choice = mdev_choice_of(lease);
		if (!result->error)
			note(choice);
		if (result->error && choice->at_vf + 1 == choice->n_vfs && !choice->free &&
		    !choice->in_use) {
			claim_fail(claim, lease, NULL, result->what, result->error);
		} else if (!claim->failed && claim->peer &&
			   (result->error || !vgpu_choose(lease, choice))) {
			choice->at_vf++;
			r = vgpu_ask(daemon, lease);
			if (r)
				claim_fail(claim, lease, NULL, what, -r);
		}
		claim_advance(claim);
	}
	daemon_quit_if_idle(daemon);
}

int vgpu_ask(struct daemon *daemon, struct lease *lease)
{
	static const struct work_ops ops = {
		.told = on_told,
		.done = on_asked,
		.late = on_work_late,
	};
	struct mdev_choice *choice = mdev_choice_of(lease);
	const struct pci_address *vf;
	struct work *work;
	int r;

	while (choice->at_vf < choice->n_vfs &&
	       is_leased(lease, choice, &choice->vfs[choice->at_vf]))
		choice->at_vf++;
	if (choice->at_vf == choice->n_vfs) {
		refuse(lease, choice);
		return 0;
	}
	vf = &choice->vfs[choice->at_vf];
	choice->current_told = false;
	choice->n_rows = 0;
	work = work_new(&ops, lease);
	r = work ? work_add_read(work, kernel_open_vgpu_read(&daemon->kernel, vf), what, vf)
		 : -ENOMEM;
	if (!r)
		r = work_add_table(work, kernel_open_vgpu_types(&daemon->kernel, vf), vgpu_row,
				   what, vf);
	if (!r)
		r = work_start(work, daemon->base, daemon->worker_filter, WORKER_SECONDS);
	if (r) {
		work_free(work);
		return r;
	}
	lease->work = work;
	return 0;
}
