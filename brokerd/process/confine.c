/* SPDX-License-Identifier: MIT */
/*
 * The stages in which each process gives up privilege: capabilities, no_new_privs, Landlock and its
 * filter. The only file that uses libcap-ng. Nothing here is optional, and every failure is
 * reported.
 */
#include "config.h"

#include "brokerd/process/confine.h"
#include "brokerd/process/landlock.h"
#include "client/common/util.h"

#include <cap-ng.h>
#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The capabilities that a part keeps. Finder and ender see the descriptors of every process:
 * CAP_SYS_PTRACE lets them look through the links in /proc/PID/fd, and CAP_DAC_READ_SEARCH into
 * that directory, which only the process' own user may read (mode 0500). The ender may signal too.
 */
static uint64_t caps_of(enum confine_part part)
{
	const uint64_t look = UINT64_C(1) << CAP_SYS_PTRACE | UINT64_C(1) << CAP_DAC_READ_SEARCH;

	return part == CONFINE_FINDER  ? look
	       : part == CONFINE_ENDER ? look | UINT64_C(1) << CAP_KILL
				       : 0;
}

/*
 * Has libcap-ng take these sets away but for the part's capabilities, as far as the process has
 * them; the caller applies it. Returns 0, or -EINVAL.
 */
static int select_caps(enum confine_part part, capng_select_t sets)
{
	uint64_t keep = 0;

	if (capng_get_caps_process())
		return -EINVAL;
	for (unsigned c = 0; c <= CAP_LAST_CAP; c++)
		if (capng_have_capability(CAPNG_PERMITTED, c))
			keep |= caps_of(part) & UINT64_C(1) << c;
	capng_clear(sets);
	for (unsigned c = 0; c <= CAP_LAST_CAP; c++)
		if (keep & UINT64_C(1) << c &&
		    capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, c))
			return -EINVAL;
	return 0;
}

/*
 * Confines a process that already runs as the helpers' account. Also makes the filter for after its
 * start, while the process may still make the calls that this takes.
 */
static int confine_unprivileged(enum confine_part part, struct confine_filter **ret_settled)
{
	int r;

	/* The helpers share an account, and must not be able to read each other's memory. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return -errno;
	/*
	 * Finder and ender have no Landlock: the kernel lets no process of a Landlock domain look
	 * at one outside of it, as with ptrace(), whatever its capabilities. Their filters allow
	 * less.
	 */
	r = caps_of(part) ? 0 : landlock_helper();
	if (!r)
		r = filter_new(part, ret_settled);
	return r ? r : filter_load(part);
}

int confine_helper(enum confine_part part, uid_t uid, gid_t gid,
		   struct confine_filter **ret_settled)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	if (select_caps(part, CAPNG_SELECT_BOTH))
		return -EINVAL;
	/*
	 * Drops supplementary groups, sets all six ids, empties the bounding set, then the
	 * capabilities.
	 */
	if (capng_change_id((int)uid, (int)gid,
			    CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT))
		return -EPERM;
	return confine_unprivileged(part, ret_settled);
}

/*
 * Returns true if the sets that capng_get_caps_process() has read contain at most `allowed`, a
 * bit for each capability.
 */
static bool hold_only(const capng_type_t *sets, size_t n_sets, uint64_t allowed)
{
	for (size_t i = 0; i < n_sets; i++)
		for (int c = 0; c <= CAP_LAST_CAP; c++)
			if (!(allowed & UINT64_C(1) << c) &&
			    capng_have_capability(sets[i], (unsigned)c))
				return false;
	return true;
}

int confine_own(enum confine_part part, struct confine_filter **ret_settled)
{
	static const capng_type_t sets[] = { CAPNG_PERMITTED, CAPNG_EFFECTIVE, CAPNG_INHERITABLE,
					     CAPNG_BOUNDING_SET, CAPNG_AMBIENT };
	gid_t groups[2];
	uid_t uids[3];
	gid_t gids[3];
	int n;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	if (getresuid(&uids[0], &uids[1], &uids[2]) || getresgid(&gids[0], &gids[1], &gids[2]))
		return -errno;
	for (size_t i = 0; i < 3; i++)
		if (!uids[i] || uids[i] != uids[0] || !gids[i] || gids[i] != gids[0])
			return -EPERM;
	/* initgroups() makes the account's own group one of its supplementary ones. */
	n = getgroups(ARRAY_SIZE(groups), groups);
	if (n > 1 || n < 0 || (n == 1 && groups[0] != gids[0]))
		return -EPERM;
	if (capng_get_caps_process())
		return -EINVAL;
	if (!hold_only(sets, ARRAY_SIZE(sets), caps_of(part)))
		return -EPERM;
	/* No program that it could start would inherit them; and it starts none. */
	if (caps_of(part) &&
	    (select_caps(part, CAPNG_SELECT_CAPS) || capng_apply(CAPNG_SELECT_CAPS)))
		return -EPERM;
	return confine_unprivileged(part, ret_settled);
}

int confine_core(bool keep_sys_resource, bool cdevs, int state_dir, int history_dir,
		 int sockets_dir)
{
	static const capng_type_t bounding_set = CAPNG_BOUNDING_SET;
	bool have, can_empty;
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	if (capng_get_caps_process())
		return -EINVAL;
	have = capng_have_capability(CAPNG_PERMITTED, CAP_SYS_RESOURCE);
	/*
	 * Emptying the bounding set takes CAP_SETPCAP, which the unit does not grant. There the set
	 * is small from the start, and has no effect on a process that may not execute a program.
	 */
	can_empty = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
	if (!can_empty && !hold_only(&bounding_set, 1, UINT64_C(1) << CAP_SYS_RESOURCE))
		return -EPERM;
	capng_clear(can_empty ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS);
	/*
	 * CAP_SYS_RESOURCE: prlimit() on the claimer, above its hard limit. It is kept only while a
	 * rule grants memlock.
	 */
	if (have && keep_sys_resource &&
	    capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_SYS_RESOURCE))
		return -EINVAL;
	if (capng_apply(can_empty ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS))
		return -EPERM;
	r = landlock_core(state_dir, history_dir, sockets_dir);
	return r ? r : filter_load_core(cdevs);
}

/*
 * A direct system call, since libcap-ng first reads the present capabilities, for which the filter
 * has no row.
 */
int confine_drop_sys_resource(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return syscall(SYS_capset, &header, none) ? -errno : 0;
}
