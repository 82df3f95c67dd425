/* SPDX-License-Identifier: MIT */
/*
 * The format of lease records, see lease-record.h. It must never guess at a damaged record: each
 * record that was read is formatted again, and refused if the result differs in one byte.
 *
 *	gpubroker lease 1
 *	id 3
 *	group 17
 *	uid 1000
 *	gid 1000
 *	pid 4711
 *	since 1790000000
 *	rule /etc/gpubroker/policy.d/10-lab.policy:7
 *	asked 0000:01:00.0 (the function that was claimed, one of those below)
 *	stuck 0 (and a space; or the time since when, and the reason)
 *	lifetime 0
 *	ends 0
 *	require-reset 0
 *	kill 30 (seconds between the signals that end a holder which does not let go; only if it is)
 *	migration 1 (enum gpubroker_migration; only if the holder has reported)
 *	label slurm-17 (of the allotment that it was granted by; only if there is one)
 *	group-id 44 (a line for each supplementary group)
 *	function 0000:01:00.0 1234 1111
 *	bound vfio-pci 4711 (the number of its link to this driver; only if it is known)
 *	taken vfio-pci (or this: somebody has taken it from this driver, and `driver` is "?")
 *	driver bochs-drm
 *	override (and a space, if there was none)
 *	end
 *
 * or, for a mediated device instead of functions:
 *
 *	mdev 8bf0c3d2-2f3b-8c11-9d52-0a6c5f0e7b41 (its UUID, recorded before it is made)
 *	parent mtty (then `asked` is 0000:00:00.0), or the address in `asked`
 *	type mtty-2
 *	name Dual port serial
 *	end
 *
 * or, for a vendor's vGPU, whose VF is in `asked`:
 *
 *	vgpu 557 (the type that the VF's current_vgpu_type has while the vGPU exists)
 *	name NVIDIA RTX5880-Ada-1Q
 *	end
 *
 * The group of a mediated device or vGPU is known only once that has been made, and a restart reads
 * it from sysfs again. So the record says "group 4294967295", which is no group.
 */
#include "config.h"

#include "brokerd/record/lease-record.h"
#include "brokerd/state/allotments.h"
#include "client/common/name.h"
#include "client/common/util.h"
#include "client/host/function.h"
#include "policy/policy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int append(char *out, size_t size, size_t *used, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int append(char *out, size_t size, size_t *used, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(out + *used, size - *used, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= size - *used)
		return -E2BIG;
	*used += (size_t)n;
	return 0;
}

static int append_member(char *out, size_t size, size_t *used, const struct lease_function *f)
{
	char address[PCI_ADDRESS_TEXT];
	int r = append(out, size, used, "function %s %04x %04x\n",
		       pci_address_format(&f->address, address), f->vendor, f->device);

	if (!r && f->taken && f->lent_by[0])
		r = append(out, size, used, "taken %s\n", f->lent_by);
	else if (!r && f->binding)
		r = append(out, size, used, "bound %s %" PRIu64 "\n", f->lent_by, f->binding);
	return r ? r
		 : append(out, size, used, "driver %s\noverride %s\n",
			  f->taken ? LEASE_DRIVER_UNKNOWN : f->driver, f->override);
}

int lease_record_format(const struct lease *lease, char *out, size_t size)
{
	char address[PCI_ADDRESS_TEXT];
	size_t used = 0;
	int r;

	if (strchr(lease->terms.rule, '\n') || strchr(lease->reason, '\n'))
		return -EINVAL;
	for (size_t i = 0; i < lease->n_functions; i++)
		if (strchr(lease->functions[i].driver, '\n') ||
		    strchr(lease->functions[i].override, '\n') ||
		    strchr(lease->functions[i].lent_by, '\n'))
			return -EINVAL;
	if (strchr(lease->mdev.parent, '\n') || strchr(lease->mdev.type, '\n') ||
	    strchr(lease->mdev.name, '\n'))
		return -EINVAL;
	r = append(out, size, &used,
		   "gpubroker lease 1\nid %" PRIu64 "\ngroup %" PRIu32 "\nuid %" PRIu32
		   "\ngid %" PRIu32 "\npid %" PRIu32 "\nsince %" PRIu64
		   "\nrule %s\nasked %s\nstuck %" PRIu64 " %s\nlifetime %" PRIu64 "\nends %" PRIu64
		   "\nrequire-reset %d\n",
		   lease->id, lease_is_made(lease) ? UINT32_MAX : lease->group, lease->uid,
		   lease->gid, lease->pid, lease->since, lease->terms.rule,
		   pci_address_format(&lease->asked, address), lease->stuck_since,
		   lease->stuck_since ? lease->reason : "", lease->terms.lifetime, lease->ends,
		   (int)lease->terms.require_reset);
	if (!r && lease->terms.kill)
		r = append(out, size, &used, "kill %" PRIu64 "\n", lease->terms.kill);
	if (!r && lease->migration)
		r = append(out, size, &used, "migration %u\n", (unsigned)lease->migration);
	if (!r && lease->label[0])
		r = append(out, size, &used, "label %s\n", lease->label);
	for (size_t i = 0; !r && i < lease->n_gids; i++)
		r = append(out, size, &used, "group-id %" PRIu32 "\n", lease->gids[i]);
	for (size_t i = 0; !r && i < lease->n_functions; i++)
		r = append_member(out, size, &used, &lease->functions[i]);
	if (!r && lease->mdev.vendor)
		r = append(out, size, &used, "vgpu %s\nname %s\n", lease->mdev.type,
			   lease->mdev.name);
	else if (!r && lease_is_made(lease))
		r = append(out, size, &used, "mdev %s\nparent %s\ntype %s\nname %s\n",
			   lease->mdev.uuid, lease->mdev.parent, lease->mdev.type,
			   lease->mdev.name);
	if (!r)
		r = append(out, size, &used, "end\n");
	return r ? r : (int)used;
}

/*
 * Returns the rest of the next line after `key` and a space, NUL-terminated in place; NULL if the
 * line has another key.
 */
static char *next_line(char **text, const char *key, unsigned *line)
{
	size_t n = strlen(key);
	char *start = *text, *end = strchr(start, '\n');

	if (!end || strncmp(start, key, n) != 0 || start[n] != ' ')
		return NULL;
	*end = '\0';
	*text = end + 1;
	(*line)++;
	return start + n + 1;
}

static bool take_number(char **text, const char *key, unsigned *line, uint64_t max,
			uint64_t *ret_value)
{
	const char *value = next_line(text, key, line);
	unsigned long long number;
	char *end;

	if (!value || *value < '0' || *value > '9')
		return false;
	errno = 0;
	number = strtoull(value, &end, 10);
	if (errno || *end || number > max)
		return false;
	*ret_value = number;
	return true;
}

static bool take_text(char **text, const char *key, unsigned *line, char *out, size_t size)
{
	const char *value = next_line(text, key, line);

	if (!value || strlen(value) >= size)
		return false;
	strcpy(out, value);
	return true;
}

/* Takes "0 ", or the time since when the lease is stuck, and the reason. */
static bool take_stuck(char **text, unsigned *line, struct lease *lease)
{
	const char *value = next_line(text, "stuck", line);
	unsigned long long since;
	char *end;

	if (!value || *value < '0' || *value > '9')
		return false;
	errno = 0;
	since = strtoull(value, &end, 10);
	if (errno || *end != ' ' || strlen(end + 1) >= sizeof(lease->reason))
		return false;
	lease->stuck_since = since;
	strcpy(lease->reason, end + 1);
	return true;
}

static bool take_address(char **text, const char *key, unsigned *line, struct pci_address *address)
{
	const char *value = next_line(text, key, line);

	return value && !pci_address_parse(value, address);
}

static bool has_asked(const struct lease *lease)
{
	for (size_t i = 0; i < lease->n_functions; i++)
		if (!pci_address_compare(&lease->functions[i].address, &lease->asked))
			return true;
	return !lease->n_functions;
}

/* Takes a line with a VFIO driver, and a number unless that is NULL. */
static bool take_vfio(char **text, const char *key, unsigned *line, struct lease_function *f,
		      uint64_t *ret_number)
{
	char *value = next_line(text, key, line), *space;
	unsigned long long number;
	char *end;

	if (!value)
		return false;
	space = ret_number ? strchr(value, ' ') : NULL;
	if (ret_number && (!space || space[1] < '1' || space[1] > '9'))
		return false;
	if (space) {
		*space = '\0';
		errno = 0;
		number = strtoull(space + 1, &end, 10);
		if (errno || *end)
			return false;
		*ret_number = number;
	}
	if (!driver_is_vfio(value) || strchr(value, ' ') || strlen(value) >= sizeof(f->lent_by))
		return false;
	strcpy(f->lent_by, value);
	return true;
}

static bool take_binding(char **text, unsigned *line, struct lease_function *f)
{
	if (!strncmp(*text, "bound ", 6))
		return take_vfio(text, "bound", line, f, &f->binding);
	if (strncmp(*text, "taken ", 6) != 0)
		return true;
	f->taken = true;
	return take_vfio(text, "taken", line, f, NULL);
}

static bool take_function(char **text, unsigned *line, struct lease_function *f)
{
	char address[PCI_ADDRESS_TEXT];
	const char *value = next_line(text, "function", line);
	unsigned vendor, device;

	if (!value || sscanf(value, "%19s %4x %4x", address, &vendor, &device) != 3 ||
	    pci_address_parse(address, &f->address))
		return false;
	*f = (struct lease_function){ .address = f->address,
				      .vendor = (uint16_t)vendor,
				      .device = (uint16_t)device };
	return take_binding(text, line, f) &&
	       take_text(text, "driver", line, f->driver, sizeof(f->driver)) &&
	       take_text(text, "override", line, f->override, sizeof(f->override));
}

/* Returns true only for a text as mdev_new_uuid() writes it: the UUID becomes part of a path. */
static bool is_uuid(const char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-'
							    : !strchr("0123456789abcdef", text[i]))
			return false;
	return n == 36;
}

/*
 * Takes a mediated device. `asked` must be its parent if that is a PCI function, and zero
 * otherwise.
 */
static bool take_mdev(char **text, unsigned *line, const struct pci_address *asked,
		      struct lease_mdev *mdev)
{
	struct pci_address parent;

	return take_text(text, "mdev", line, mdev->uuid, sizeof(mdev->uuid)) &&
	       is_uuid(mdev->uuid) &&
	       take_text(text, "parent", line, mdev->parent, sizeof(mdev->parent)) &&
	       mdev_is_name(mdev->parent, sizeof(mdev->parent)) &&
	       take_text(text, "type", line, mdev->type, sizeof(mdev->type)) &&
	       mdev_is_name(mdev->type, sizeof(mdev->type)) &&
	       take_text(text, "name", line, mdev->name, sizeof(mdev->name)) &&
	       (!mdev->name[0] || mdev_is_name(mdev->name, sizeof(mdev->name))) &&
	       !pci_address_compare(asked, pci_address_parse(mdev->parent, &parent)
						   ? &(struct pci_address){ 0 }
						   : &parent);
}

/*
 * Takes a vGPU. `asked` is its VF. The type must be a number: restore compares it with sysfs, and
 * bring-up writes it.
 */
static bool take_vgpu(char **text, unsigned *line, const struct pci_address *asked,
		      struct lease_mdev *mdev)
{
	uint64_t type;

	if (!take_number(text, "vgpu", line, UINT32_MAX, &type) || !type ||
	    !take_text(text, "name", line, mdev->name, sizeof(mdev->name)) ||
	    !mdev_is_name(mdev->name, sizeof(mdev->name)))
		return false;
	snprintf(mdev->type, sizeof(mdev->type), "%" PRIu64, type);
	pci_address_format(asked, mdev->parent);
	mdev->vendor = true;
	return true;
}

/* Takes the lines that every record has. */
static bool take_head(char **text, unsigned *line, struct lease *lease)
{
	uint64_t version, group, uid, gid, pid, lifetime, reset;

	if (!take_number(text, "gpubroker lease", line, 1, &version) ||
	    !take_number(text, "id", line, UINT64_MAX - 1, &lease->id) || !lease->id ||
	    !take_number(text, "group", line, UINT32_MAX, &group) ||
	    !take_number(text, "uid", line, UINT32_MAX, &uid) ||
	    !take_number(text, "gid", line, UINT32_MAX, &gid) ||
	    !take_number(text, "pid", line, UINT32_MAX, &pid) ||
	    !take_number(text, "since", line, UINT64_MAX, &lease->since) ||
	    !take_text(text, "rule", line, lease->terms.rule, sizeof(lease->terms.rule)) ||
	    !take_address(text, "asked", line, &lease->asked) || !take_stuck(text, line, lease) ||
	    !take_number(text, "lifetime", line, UINT32_MAX, &lifetime) ||
	    !take_number(text, "ends", line, UINT64_MAX, &lease->ends) ||
	    !take_number(text, "require-reset", line, 1, &reset))
		return false;
	lease->group = (uint32_t)group;
	lease->uid = (uint32_t)uid;
	lease->gid = (uint32_t)gid;
	lease->pid = (uint32_t)pid;
	lease->terms.lifetime = lifetime;
	lease->terms.require_reset = reset;
	lease->terms.vfio_driver[0] = '\0';
	return true;
}

/* Takes the optional lines before the functions. */
static bool take_options(char **text, unsigned *line, struct lease *lease)
{
	uint64_t migration, gid;

	lease->migration = GPUBROKER_MIGRATION_UNKNOWN;
	lease->n_gids = 0;
	lease->terms.kill = 0;
	if (!strncmp(*text, "kill ", 5) &&
	    (!take_number(text, "kill", line, POLICY_KILL_MAX, &lease->terms.kill) ||
	     !lease->terms.kill))
		return false;
	if (!strncmp(*text, "migration ", 10)) {
		if (!take_number(text, "migration", line, GPUBROKER_MIGRATION_NO, &migration))
			return false;
		lease->migration = (enum gpubroker_migration)migration;
	}
	memset(lease->label, 0, sizeof(lease->label));
	if (!strncmp(*text, "label ", 6) &&
	    (!take_text(text, "label", line, lease->label, sizeof(lease->label)) ||
	     !allotment_is_label(lease->label)))
		return false;
	while (!strncmp(*text, "group-id ", 9)) {
		if (lease->n_gids == ARRAY_SIZE(lease->gids) ||
		    !take_number(text, "group-id", line, UINT32_MAX, &gid))
			return false;
		lease->gids[lease->n_gids++] = (uint32_t)gid;
	}
	return true;
}

/* Takes the lease's functions, or its mediated device, or its vGPU. */
static bool take_devices(char **text, unsigned *line, struct lease *lease)
{
	lease->n_functions = 0;
	lease->mdev = (struct lease_mdev){ 0 };
	while (!strncmp(*text, "function ", 9)) {
		if (lease->n_functions == ARRAY_SIZE(lease->functions) ||
		    !take_function(text, line, &lease->functions[lease->n_functions]))
			return false;
		lease->n_functions++;
	}
	if (!lease->n_functions && !strncmp(*text, "mdev ", 5))
		return take_mdev(text, line, &lease->asked, &lease->mdev);
	if (!lease->n_functions && !strncmp(*text, "vgpu ", 5))
		return take_vgpu(text, line, &lease->asked, &lease->mdev);
	return true;
}

int lease_record_parse(const char *text, size_t len, struct lease *lease, unsigned *ret_line)
{
	char copy[STORE_TEXT_MAX + 1], again[STORE_TEXT_MAX], *p = copy;
	unsigned line = 1;

	*ret_line = 1;
	if (len > STORE_TEXT_MAX || memchr(text, '\0', len))
		return -EBADMSG;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (!take_head(&p, &line, lease) || !take_options(&p, &line, lease) ||
	    !take_devices(&p, &line, lease) || strcmp(p, "end\n") != 0 || !has_asked(lease) ||
	    (lease->group == UINT32_MAX) != lease_is_made(lease)) {
		*ret_line = line;
		return -EBADMSG;
	}
	if (lease_record_format(lease, again, sizeof(again)) == (int)len &&
	    !memcmp(again, text, len))
		return 0;
	return -EBADMSG;
}

int lease_record_write(const struct store *store, const struct lease *lease)
{
	char text[STORE_TEXT_MAX], name[24];
	int len = lease_record_format(lease, text, sizeof(text));

	snprintf(name, sizeof(name), "%" PRIu64, lease->id);
	return len < 0 ? len : store_put(store, name, text, (size_t)len);
}

int lease_record_remove(const struct store *store, uint64_t id)
{
	char name[24];

	snprintf(name, sizeof(name), "%" PRIu64, id);
	return store_drop(store, name);
}
