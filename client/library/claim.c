/* SPDX-License-Identifier: MIT */
/*
 * A claim of libgpubroker: the request, and the grant. Owns the descriptors of the grant. It must
 * never accept a grant that was not requested, or whose descriptors do not fit it.
 */
#include "config.h"

#include "client/library/claim.h"
#include "client/library/connection.h"
#include "client/library/migration.h"
#include "client/common/name.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

struct gpubroker_claim {
	struct message_claim request;
	struct gpubroker_grant grants[PROTOCOL_SELECTORS_MAX];
	int fds[PROTOCOL_SELECTORS_MAX];
	size_t n_groups;
	int iommufd; /* only if there are cdevs */
	struct gpubroker_cdev cdevs[PROTOCOL_CDEVS_MAX];
	int cdev_fds[PROTOCOL_CDEVS_MAX];
	size_t n_cdevs;
	uint64_t memlock;
};

#define REJOIN_PAUSE_MS 100
#define REJOIN_TRIES 300
#define REJOINS_MOST 100 /* brokers that end on one claim; another would, too */

_Static_assert(PASSFD_MAX >= PROTOCOL_SELECTORS_MAX + 1 + PROTOCOL_CDEVS_MAX,
	       "a grant's descriptors are too many for a packet");
_Static_assert(sizeof(struct message_grant) <= PROTOCOL_MESSAGE_MAX, "a grant is too large");
_Static_assert(sizeof(struct message_refusal) == 616, "a peer of another version reads refusals");

int gpubroker_claim_new(struct gpubroker_claim **ret_claim)
{
	struct gpubroker_claim *claim = calloc(1, sizeof(*claim));

	if (!claim)
		return -ENOMEM;
	claim->request.type = MESSAGE_CLAIM;
	*ret_claim = claim;
	return 0;
}

const struct message_claim *claim_request(const struct gpubroker_claim *claim)
{
	return &claim->request;
}

void gpubroker_claim_drop_groups(struct gpubroker_claim *claim)
{
	for (size_t i = 0; i < claim->n_groups; i++)
		claim->fds[i] = fd_close(claim->fds[i]);
}

void gpubroker_claim_drop_cdevs(struct gpubroker_claim *claim)
{
	if (!claim->n_cdevs)
		return;
	claim->iommufd = fd_close(claim->iommufd);
	while (claim->n_cdevs)
		fd_close(claim->cdev_fds[--claim->n_cdevs]);
}

static void drop_grants(struct gpubroker_claim *claim)
{
	gpubroker_claim_drop_cdevs(claim);
	gpubroker_claim_drop_groups(claim);
	claim->n_groups = 0;
}

struct gpubroker_claim *gpubroker_claim_free(struct gpubroker_claim *claim)
{
	if (claim) {
		drop_grants(claim);
		free(claim);
	}
	return NULL;
}

/* Returns true for a device name of a policy, see gpubroker.policy(5). */
static bool is_name(const char *text)
{
	size_t n =
		strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");

	return n && !text[n] && n < PROTOCOL_NAME_MAX && !strchr("0123456789_-.", text[0]);
}

static bool parse_group(const char *text, uint32_t *ret_group)
{
	unsigned long value;
	char *end;

	if (strspn(text, "0123456789") != strlen(text) || !*text)
		return false;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || value >= UINT32_MAX)
		return false;
	*ret_group = (uint32_t)value;
	return true;
}

int gpubroker_claim_add(struct gpubroker_claim *claim, const char *device)
{
	return gpubroker_claim_add_profile(claim, device, NULL);
}

int gpubroker_claim_add_of(struct gpubroker_claim *claim, const char *name, const char *address,
			   const char *profile)
{
	struct pci_address parsed;
	int r;

	if (!is_name(name) || pci_address_parse(address, &parsed))
		return -EINVAL;
	r = gpubroker_claim_add_profile(claim, address, profile);
	if (!r)
		strcpy(claim->request.selectors[claim->request.n_selectors - 1].name, name);
	return r;
}

int gpubroker_claim_add_profile(struct gpubroker_claim *claim, const char *device,
				const char *profile)
{
	struct selector selector = { 0 };

	if (claim->request.n_selectors == PROTOCOL_SELECTORS_MAX)
		return -E2BIG;
	if (profile && !mdev_is_name(profile, PROTOCOL_PROFILE_MAX))
		return -EDOM;
	if (profile)
		strcpy(selector.profile, profile);
	if (!strncmp(device, "iommu-group:", 12)) {
		if (profile || !parse_group(device + 12, &selector.group))
			return -EINVAL;
		selector.kind = SELECT_GROUP;
	} else if (!strcmp(device, "any")) {
		selector.kind = SELECT_ANY;
	} else if (!pci_address_parse(device, &selector.address)) {
		selector.kind = SELECT_ADDRESS;
	} else if (is_name(device)) {
		selector.kind = SELECT_NAME;
		strcpy(selector.name, device);
	} else {
		return -EINVAL;
	}
	claim->request.selectors[claim->request.n_selectors++] = selector;
	return 0;
}

void gpubroker_claim_set_force(struct gpubroker_claim *claim, bool force)
{
	claim->request.flags &= ~(uint32_t)CLAIM_FORCE;
	claim->request.flags |= force ? CLAIM_FORCE : 0;
}

void gpubroker_claim_set_wait(struct gpubroker_claim *claim, bool wait)
{
	claim->request.flags &= ~(uint32_t)CLAIM_WAIT;
	claim->request.flags |= wait ? CLAIM_WAIT : 0;
}

void gpubroker_claim_set_iommufd(struct gpubroker_claim *claim, bool iommufd)
{
	claim->request.flags &= ~(uint32_t)CLAIM_CDEVS;
	claim->request.flags |= iommufd ? CLAIM_CDEVS : 0;
}

void gpubroker_claim_set_memlock(struct gpubroker_claim *claim, uint64_t bytes)
{
	claim->request.memlock = bytes;
}

int gpubroker_claim_ask(struct gpubroker *handle, const struct gpubroker_claim *claim)
{
	struct message_claim request = claim->request;

	if (!request.n_selectors)
		return -EINVAL;
	request.flags |= CLAIM_ASK;
	return connection_ask(handle, &request, sizeof(request));
}

int gpubroker_claim_start(struct gpubroker *handle, const struct gpubroker_claim *claim)
{
	if (!claim->request.n_selectors)
		return -EINVAL;
	return connection_send(handle, &claim->request, sizeof(claim->request));
}

/* Returns true if the claim requested what is granted, and the number of descriptors is right. */
static bool valid_grant(const struct gpubroker_claim *claim, const struct message_grant *m,
			size_t n_fds)
{
	if (!m->n_groups || m->n_groups > PROTOCOL_SELECTORS_MAX ||
	    m->n_cdevs > PROTOCOL_CDEVS_MAX ||
	    (m->n_cdevs && !(claim->request.flags & CLAIM_CDEVS)) ||
	    n_fds != m->n_groups + (m->n_cdevs ? 1 + m->n_cdevs : 0))
		return false;
	for (size_t i = 0; i < m->n_cdevs; i++)
		if (m->cdevs[i].group >= m->n_groups)
			return false;
	return true;
}

static void take_cdevs(struct gpubroker_claim *claim, const struct message_grant *m, const int *fds)
{
	claim->iommufd = fds[0];
	for (size_t i = 0; i < m->n_cdevs; i++) {
		struct gpubroker_cdev *cdev = &claim->cdevs[i];

		*cdev = (struct gpubroker_cdev){ .group = m->cdevs[i].group };
		if (!claim->grants[cdev->group].uuid[0])
			pci_address_format(&m->cdevs[i].address, cdev->address);
		snprintf(cdev->node, sizeof(cdev->node), "/dev/vfio/devices/vfio%" PRIu32,
			 m->cdevs[i].number);
		claim->cdev_fds[i] = fds[1 + i];
	}
	claim->n_cdevs = m->n_cdevs;
}

static int take_grant(struct gpubroker_claim *claim, const struct message_grant *m, const int *fds)
{
	drop_grants(claim);
	for (size_t i = 0; i < m->n_groups; i++) {
		claim->grants[i] = (struct gpubroker_grant){
			.lease = m->groups[i].lease,
			.iommu_group = m->groups[i].group,
		};
		ANSWER_TEXT(claim->grants[i].parent, m->groups[i].parent);
		ANSWER_TEXT(claim->grants[i].uuid, m->groups[i].uuid);
		answer_address(&m->groups[i].address, claim->grants[i].parent,
			       claim->grants[i].address);
		claim->fds[i] = fds[i];
	}
	claim->n_groups = m->n_groups;
	if (m->n_cdevs)
		take_cdevs(claim, m, fds + m->n_groups);
	claim->memlock = m->memlock;
	return 0;
}

static void tell_step(const struct message_step *m, gpubroker_progress_func func, void *userdata)
{
	struct gpubroker_progress progress = {
		.step = (enum gpubroker_step)m->step,
		.iommu_group = m->group,
		.index = m->index,
		.total = m->total,
	};

	ANSWER_TEXT(progress.parent, m->parent);
	answer_address(&m->address, progress.parent, progress.address);
	if (func)
		func(userdata, &progress);
}

static void tell_place(const struct message_queued *m, gpubroker_progress_func func, void *userdata)
{
	struct gpubroker_progress progress = {
		.step = GPUBROKER_STEP_WAIT,
		.index = m->place,
		.lease = m->lease,
		.holder_uid = m->holder_uid,
		.holder_pid = m->holder_pid,
		.ends = m->ends,
		.id = m->id,
	};

	ANSWER_TEXT(progress.parent, m->parent);
	answer_address(&m->address, progress.parent, progress.address);
	if (func)
		func(userdata, &progress);
}

int gpubroker_claim_continue(struct gpubroker *handle, struct gpubroker_claim *claim,
			     gpubroker_progress_func progress, void *userdata)
{
	union answer answer;
	int fds[PASSFD_MAX], r;
	size_t n_fds;

	while (!(r = connection_receive(handle, &answer, fds, ARRAY_SIZE(fds), &n_fds))) {
		if (answer.type == MESSAGE_GRANT && valid_grant(claim, &answer.grant, n_fds))
			return take_grant(claim, &answer.grant, fds);
		while (n_fds)
			fd_close(fds[--n_fds]);
		if (answer.type == MESSAGE_REFUSAL)
			return connection_refused(handle, &answer.refusal);
		if (answer.type == MESSAGE_QUEUED) {
			claim->request.place = answer.queued.id;
			tell_place(&answer.queued, progress, userdata);
		} else if (answer.type == MESSAGE_STEP) {
			tell_step(&answer.step, progress, userdata);
		} else {
			return -EPROTO;
		}
	}
	return r;
}

int gpubroker_claim_rejoin(struct gpubroker *handle, const struct gpubroker_claim *claim)
{
	int r = claim->request.place ? connection_reopen(handle) : -EINVAL;

	return r ? r : gpubroker_claim_start(handle, claim);
}

/* The broker has ended: tries for some time to find the next one. */
static int join_again(struct gpubroker *handle, const struct gpubroker_claim *claim)
{
	const struct timespec pause = { .tv_nsec = REJOIN_PAUSE_MS * 1000000L };
	int r = claim->request.place ? -ECONNREFUSED : -ECONNRESET;

	for (int i = 0; claim->request.place && r < 0 && i < REJOIN_TRIES; i++) {
		nanosleep(&pause, NULL);
		r = gpubroker_claim_rejoin(handle, claim);
	}
	return r;
}

int gpubroker_claim_run(struct gpubroker *handle, struct gpubroker_claim *claim,
			gpubroker_progress_func progress, void *userdata)
{
	int r = gpubroker_claim_start(handle, claim);
	unsigned joined = 0;

	while (!r) {
		r = gpubroker_claim_continue(handle, claim, progress, userdata);
		if (r == -EAGAIN)
			r = connection_wait(handle);
		else if (r == -ECONNRESET && joined++ < REJOINS_MOST)
			r = join_again(handle, claim);
		else
			break;
	}
	return r;
}

size_t gpubroker_claim_groups(const struct gpubroker_claim *claim)
{
	return claim->n_groups;
}

const struct gpubroker_grant *gpubroker_claim_grant(const struct gpubroker_claim *claim, size_t i)
{
	return i < claim->n_groups ? &claim->grants[i] : NULL;
}

int gpubroker_claim_fd(const struct gpubroker_claim *claim, size_t i)
{
	return i < claim->n_groups ? claim->fds[i] : -1;
}

size_t gpubroker_claim_cdevs(const struct gpubroker_claim *claim)
{
	return claim->n_cdevs;
}

const struct gpubroker_cdev *gpubroker_claim_cdev(const struct gpubroker_claim *claim, size_t i)
{
	return i < claim->n_cdevs ? &claim->cdevs[i] : NULL;
}

int gpubroker_claim_cdev_fd(const struct gpubroker_claim *claim, size_t i)
{
	return i < claim->n_cdevs ? claim->cdev_fds[i] : -1;
}

int gpubroker_claim_iommufd(const struct gpubroker_claim *claim)
{
	return claim->n_cdevs ? claim->iommufd : -1;
}

uint64_t gpubroker_claim_memlock(const struct gpubroker_claim *claim)
{
	return claim->memlock;
}

int gpubroker_claim_migration(struct gpubroker *handle, const struct gpubroker_claim *claim,
			      size_t i, enum gpubroker_migration *ret_migration)
{
	const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, i);
	struct message_migration request = { .type = MESSAGE_MIGRATION };
	int r;

	if (!grant)
		return -EINVAL;
	request.lease = grant->lease;
	r = migration_probe(gpubroker_claim_fd(claim, i),
			    grant->uuid[0] ? grant->uuid : grant->address);
	if (r < 0)
		return r;
	*ret_migration = r ? GPUBROKER_MIGRATION_YES : GPUBROKER_MIGRATION_NO;
	request.migration = *ret_migration;
	return connection_ask(handle, &request, sizeof(request));
}
