/* SPDX-License-Identifier: MIT */
/*
 * Reads for doctor what concerns the caller: groups that the session lacks, KVM, and the limits of
 * memory. Changes nothing. A snapshot has how many groups, and not their names, which often are
 * those of users.
 */
#include "config.h"

#include "client/command/facts.h"
#include "client/command/account.h"
#include "client/common/util.h"

#include <grp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void add_groups(struct json_object *facts, bool anonymous)
{
	struct account account = { 0 };
	char list[160] = "";
	unsigned n = 0;

	if (!account_find_uid(geteuid(), &account))
		n = account_missing_groups(&account, list, sizeof(list));
	account_done(&account);
	facts_add_number(facts, "missing_groups", n);
	facts_add_text(facts, "missing", anonymous ? "" : list);
}

static void add_kvm(struct json_object *facts)
{
	const struct group *group;
	struct stat st;

	if (stat("/dev/kvm", &st)) {
		facts_add_text(facts, "kvm", "absent");
		return;
	}
	group = getgrgid(st.st_gid);
	facts_add_text(facts, "kvm", access("/dev/kvm", R_OK | W_OK) ? "forbidden" : "allowed");
	/* Only the usual one: another may be a user's name. */
	facts_add_text(facts, "kvm_group",
		       group && !strcmp(group->gr_name, "kvm") ? group->gr_name : "");
}

/* Adds a limit in bytes; -1: there is none. */
static void add_rlimit(struct json_object *facts, const char *key, rlim_t limit)
{
	facts_add_number(facts, key,
			 limit == RLIM_INFINITY || limit > INT64_MAX ? -1 : (int64_t)limit);
}

/* Adds the least memory.max of the control groups above this process; -1: there is none. */
static void add_cgroup(struct json_object *facts)
{
	char line[1024], path[1200], *end;
	int64_t least = -1;

	/* cgroup v2: one line, "0::/user.slice/..." */
	facts_read_line("/proc/self/cgroup", line, sizeof(line));
	while (!strncmp(line, "0::/", 4) && line[4]) {
		int64_t max;

		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", line + 3);
		max = facts_read_number(path, -1); /* "max" is no number */
		if (max >= 0 && (least < 0 || max < least))
			least = max;
		end = strrchr(line + 3, '/');
		*end = '\0';
		if (end == line + 3)
			break;
	}
	facts_add_number(facts, "cgroup_max", least);
}

static int count_allowed(void *userdata, const struct gpubroker_device *device)
{
	int64_t *allowed = userdata;

	*allowed += device->allowed;
	return 0;
}

struct json_object *facts_of_caller(const struct facts_source *source)
{
	struct json_object *facts = json_object_new_object();
	int64_t allowed = 0;
	struct rlimit limit;

	facts_add_flag(facts, "root", !geteuid());
	if (source->handle && !gpubroker_list(source->handle, count_allowed, &allowed))
		facts_add_number(facts, "may_claim", allowed);
	add_groups(facts, source->anonymous);
	add_kvm(facts);
	if (!getrlimit(RLIMIT_MEMLOCK, &limit)) {
		add_rlimit(facts, "memlock", limit.rlim_cur);
		add_rlimit(facts, "memlock_max", limit.rlim_max);
	}
	add_cgroup(facts);
	return facts;
}
