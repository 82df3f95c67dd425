/* SPDX-License-Identifier: MIT */
/*
 * Reads subordinate ids, see subids.h. What newuidmap(1) would let nobody use is left out. It must
 * never give a uid to somebody who is not its only owner: such a uid becomes nobody's. It must
 * never give anybody root's, nor an account's to another one.
 */
#include "config.h"

#include "client/host/subids.h"
#include "client/common/util.h"
#include "client/host/ids.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#define LINE_MAX_BYTES 512
#define GROUPS_OF_USER_MAX 65536

/* One line: from `first` to before `end`. */
struct entry {
	char *name;
	uint64_t first, end;
	uint32_t line;
	uint32_t owner;
	gid_t gid;  /* of the owner's account */
	bool known; /* the account was found */
};

struct entries {
	struct entry *list;
	size_t n, room;
};

struct account {
	char *name;
	uid_t uid;
	gid_t gid;
};

/* The state of one run. */
struct reading {
	const struct subids *request;
	struct entries uids, gids;
	struct account *accounts; /* of the local file, by name */
	size_t n_accounts, accounts_room;
	uint32_t *points; /* uids that are accounts, sorted */
	size_t n_points;
};

__attribute__((format(printf, 4, 5))) static void
warn(const struct reading *reading, const char *file, uint32_t line, const char *format, ...)
{
	char path[256], text[256];
	const struct policy_finding finding = {
		.severity = POLICY_WARNING,
		.kind = POLICY_KIND_ACCOUNT,
		.path = path,
		.line = line,
		.column = 1,
		.text = text,
	};
	va_list arguments;

	if (!reading->request->found)
		return;
	snprintf(path, sizeof(path), "%s/%s", reading->request->directory, file);
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	for (char *p = text; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	reading->request->found(reading->request->userdata, &finding);
}

static void *room_for_one(void *list, size_t n, size_t *room, size_t size)
{
	size_t want = *room ? *room * 2 : 64;
	void *grown;

	if (n < *room)
		return list;
	grown = reallocarray(list, want, size);
	if (grown)
		*room = want;
	return grown;
}

/* Opens a file. Returns 0 with NULL if there is none, or -errno. */
static int open_file(const struct reading *reading, const char *name, FILE **ret_file)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", reading->request->directory, name);
	*ret_file = fopen(path, "re");
	return *ret_file || errno == ENOENT ? 0 : -errno;
}

/* ---- accounts ---- */

static int by_account_name(const void *a, const void *b)
{
	return strcmp(((const struct account *)a)->name, ((const struct account *)b)->name);
}

/* Reads the local accounts, since a look-up for each of many users would read the file again. */
static int read_accounts(struct reading *reading)
{
	cleanup_file FILE *file = NULL;
	const struct passwd *entry;
	int r = open_file(reading, "passwd", &file);

	while (!r && file && (entry = fgetpwent(file))) {
		struct account *grown = room_for_one(reading->accounts, reading->n_accounts,
						     &reading->accounts_room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		reading->accounts = grown;
		grown += reading->n_accounts;
		grown->name = strdup(entry->pw_name);
		if (!grown->name)
			return -ENOMEM;
		grown->uid = entry->pw_uid;
		grown->gid = entry->pw_gid;
		reading->n_accounts++;
	}
	if (reading->n_accounts)
		qsort(reading->accounts, reading->n_accounts, sizeof(*reading->accounts),
		      by_account_name);
	return r;
}

/* Looks up an entry's owner, by its name or number. */
static void look_up_owner(const struct reading *reading, const char *file, struct entry *entry)
{
	const struct account key = { .name = entry->name }, *account = NULL;
	const struct passwd *found = NULL;
	char *end;
	unsigned long uid = strtoul(entry->name, &end, 10);

	if (isdigit((unsigned char)entry->name[0]) && !*end && uid < UINT32_MAX) {
		found = getpwuid((uid_t)uid);
		entry->known = true;
		entry->owner = (uint32_t)uid;
		entry->gid = found ? found->pw_gid : UINT32_MAX;
		return;
	}
	if (reading->n_accounts)
		account = bsearch(&key, reading->accounts, reading->n_accounts, sizeof(key),
				  by_account_name);
	errno = 0;
	if (!account)
		found = getpwnam(entry->name);
	if (!account && !found && errno && errno != ENOENT && errno != ESRCH)
		warn(reading, file, entry->line,
		     "the user '%.64s' cannot be looked up (%s): no rule allows these ids anything",
		     entry->name, strerror(errno));
	entry->known = account || found;
	if (!entry->known)
		return;
	entry->owner = account ? account->uid : found->pw_uid;
	entry->gid = account ? account->gid : found->pw_gid;
}

static int by_entry_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* Each name is looked up once. */
static void look_up_owners(const struct reading *reading, const char *file, struct entries *entries)
{
	if (entries->n)
		qsort(entries->list, entries->n, sizeof(*entries->list), by_entry_name);
	for (size_t i = 0; i < entries->n; i++) {
		struct entry *entry = &entries->list[i];

		if (i && !strcmp(entry->name, entry[-1].name)) {
			entry->known = entry[-1].known;
			entry->owner = entry[-1].owner;
			entry->gid = entry[-1].gid;
		} else {
			look_up_owner(reading, file, entry);
		}
	}
}

/* ---- lines ---- */

/* Returns false unless it is a number without a sign, at most the number of ids. */
static bool scan_number(const char *text, uint64_t *ret_number)
{
	char *end;

	errno = 0;
	*ret_number = strtoull(text, &end, 10);
	return isdigit((unsigned char)*text) && !*end && !errno && *ret_number <= UINT32_MAX;
}

/* Takes "name:first:count". Returns false if it is no such line. */
static bool take_line(char *text, struct entry *ret_entry)
{
	char *first = strchr(text, ':'), *count = first ? strchr(first + 1, ':') : NULL;
	uint64_t n;

	if (!count || first == text)
		return false;
	*first++ = *count++ = '\0';
	if (!scan_number(first, &ret_entry->first) || !scan_number(count, &n) || !n)
		return false;
	ret_entry->end = ret_entry->first + n;
	if (ret_entry->end > UINT32_MAX) /* the last id means "none" */
		ret_entry->end = UINT32_MAX;
	ret_entry->name = text;
	return ret_entry->first < ret_entry->end;
}

static int add_entry(struct entries *entries, const struct entry *entry)
{
	struct entry *grown =
		room_for_one(entries->list, entries->n, &entries->room, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	entries->list = grown;
	grown[entries->n] = *entry;
	grown[entries->n].name = strdup(entry->name);
	if (!grown[entries->n].name)
		return -ENOMEM;
	entries->n++;
	return 0;
}

static int read_entries(struct reading *reading, const char *name, struct entries *entries)
{
	cleanup_file FILE *file = NULL;
	cleanup_free char *text = NULL;
	size_t size = 0;
	int r = open_file(reading, name, &file);

	for (uint32_t line = 1; !r && file && getline(&text, &size, file) >= 0; line++) {
		struct entry entry = { .line = line };

		text[strcspn(text, "\n")] = '\0';
		if (!*text || *text == '#')
			continue;
		if (strlen(text) > LINE_MAX_BYTES || !take_line(text, &entry))
			warn(reading, name, line,
			     "expected USER:FIRST:COUNT; the line is left out");
		else if (entries->n == POLICY_RANGES_MAX)
			r = -E2BIG;
		else
			r = add_entry(entries, &entry);
	}
	if (!r && file && ferror(file))
		r = -EIO;
	if (!r)
		look_up_owners(reading, name, entries);
	return r;
}

/* ---- whose each uid is ---- */

/* Adds the accounts that a policy names and that are among the subordinate uids. */
static size_t add_named(const struct reading *reading, const struct subids_named *named, size_t n)
{
	uint64_t first = UINT64_MAX, end = 0;

	for (size_t i = 0; i < reading->uids.n; i++) {
		const struct entry *entry = &reading->uids.list[i];

		first = entry->first < first ? entry->first : first;
		end = entry->end > end ? entry->end : end;
	}
	for (size_t i = 0; named && i < named->n_users; i++)
		if (named->users[i] >= first && named->users[i] < end && getpwuid(named->users[i]))
			reading->points[n++] = named->users[i];
	return n;
}

/*
 * Lists the uids that are accounts, as far as they can be known: the local ones, the owners, and
 * those of the policy. A name service need not list its accounts, and asking for each uid of a
 * range would take too long.
 */
static int find_points(struct reading *reading)
{
	const struct subids_named *const *named = reading->request->named;
	size_t room = reading->n_accounts + reading->uids.n + 1, n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(reading->request->named); i++)
		room += named[i] ? named[i]->n_users : 0;
	reading->points = calloc(room, sizeof(*reading->points));
	if (!reading->points)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(reading->request->named); i++)
		n = add_named(reading, named[i], n);
	for (size_t i = 0; i < reading->n_accounts; i++)
		reading->points[n++] = reading->accounts[i].uid;
	for (size_t i = 0; i < reading->uids.n; i++)
		if (reading->uids.list[i].known)
			reading->points[n++] = reading->uids.list[i].owner;
	reading->n_points = ids_sort(reading->points, n);
	return 0;
}

/* A line that counts: root may be everybody anyway, and its ranges are for containers. */
static bool counts(const struct entry *entry)
{
	return entry->known && entry->owner;
}

static int by_line(const void *a, const void *b)
{
	const uint32_t x = ((const struct entry *)a)->line, y = ((const struct entry *)b)->line;

	return x < y ? -1 : x > y;
}

static void warn_of_range(void *userdata, enum id_fault fault, size_t which, uint32_t uid)
{
	const struct reading *reading = userdata;
	const struct entry *entry = &reading->uids.list[which];

	switch (fault) {
	case ID_OF_SYSTEM:
		warn(reading, SUBIDS_UIDS, entry->line,
		     "the uids below %u are the system's, and no subordinates of '%.64s'",
		     POLICY_RANGE_FIRST, entry->name);
		break;
	case ID_IS_ACCOUNT:
		warn(reading, SUBIDS_UIDS, entry->line,
		     "uid %u is an account of its own, which '%.64s' can use", (unsigned)uid,
		     entry->name);
		break;
	case ID_SHARED:
		warn(reading, SUBIDS_UIDS, entry->line,
		     "uid %u of '%.64s', and perhaps more, is somebody else's too: no rule allows "
		     "it anything",
		     (unsigned)uid, entry->name);
		break;
	}
}

static int find_ranges(struct reading *reading, struct policy_owners *owners)
{
	struct entries *uids = &reading->uids;
	cleanup_free struct id_range *ranges = calloc(uids->n + 1, sizeof(*ranges));
	int r = ranges ? find_points(reading) : -ENOMEM;

	if (r)
		return r;
	if (uids->n) /* for the warnings: the later line is the one that is wrong */
		qsort(uids->list, uids->n, sizeof(*uids->list), by_line);
	for (size_t i = 0; i < uids->n; i++)
		if (counts(&uids->list[i]))
			ranges[i] = (struct id_range){ uids->list[i].first, uids->list[i].end,
						       uids->list[i].owner };
		else if (!uids->list[i].known) /* somebody's, who may be denied */
			ranges[i] = (struct id_range){ uids->list[i].first, uids->list[i].end,
						       POLICY_NOBODY };
	return ids_join(ranges, uids->n, reading->points, reading->n_points, warn_of_range, reading,
			owners);
}

/* ---- groups ---- */

static bool is_denied(const struct reading *reading, uint32_t gid)
{
	for (size_t i = 0; i < ARRAY_SIZE(reading->request->named); i++) {
		const struct subids_named *named = reading->request->named[i];

		if (named && named->n_denied &&
		    bsearch(&gid, named->denied, named->n_denied, sizeof(gid), ids_compare))
			return true;
	}
	return false;
}

/* Adds the denied groups of one user, by the accounts. */
static int add_members(const struct reading *reading, const struct entry *entry,
		       struct policy_owners *owners)
{
	cleanup_free gid_t *groups = calloc(GROUPS_OF_USER_MAX, sizeof(*groups));
	const struct passwd *account = getpwuid(entry->owner);
	int n = GROUPS_OF_USER_MAX;

	if (!groups)
		return -ENOMEM;
	if (!account || getgrouplist(account->pw_name, account->pw_gid, groups, &n) < 0)
		return 0;
	n = (int)ids_sort(groups, (size_t)n);
	for (int i = 0; i < n; i++) {
		if (!is_denied(reading, groups[i]))
			continue;
		if (owners->n_members == POLICY_MEMBERS_MAX)
			return -E2BIG;
		owners->members[owners->n_members++] =
			(struct policy_member){ entry->owner, groups[i] };
	}
	return 0;
}

static int by_owner(const void *a, const void *b)
{
	const uint32_t x = ((const struct entry *)a)->owner, y = ((const struct entry *)b)->owner;

	return x < y ? -1 : x > y;
}

/*
 * Finds the members of denied groups among the users with subordinate gids: only they can leave
 * their groups.
 */
static int find_members(struct reading *reading, struct policy_owners *owners)
{
	const struct subids *request = reading->request;
	struct entries *gids = &reading->gids;
	bool any = false;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(request->named); i++)
		any = any || (request->named[i] && request->named[i]->n_denied);
	if (!any || !gids->n)
		return 0;
	owners->members = calloc(POLICY_MEMBERS_MAX, sizeof(*owners->members));
	if (!owners->members)
		return -ENOMEM;
	qsort(gids->list, gids->n, sizeof(*gids->list), by_owner);
	for (size_t i = 0; !r && i < gids->n; i++)
		if (counts(&gids->list[i]) &&
		    (!i || gids->list[i].owner != gids->list[i - 1].owner))
			r = add_members(reading, &gids->list[i], owners);
	return r;
}

/* Warns of groups in allow rules that somebody can join. */
static void warn_of_gids(const struct reading *reading)
{
	const struct subids_named *named = reading->request->named[0];

	for (size_t i = 0; named && i < reading->gids.n; i++) {
		const struct entry *entry = &reading->gids.list[i];

		for (size_t k = 0; counts(entry) && k < named->n_allowed; k++) {
			if (named->allowed[k] < entry->first || named->allowed[k] >= entry->end)
				continue;
			warn(reading, SUBIDS_GIDS, entry->line,
			     "a rule allows group %u something, and '%.64s' can join it",
			     (unsigned)named->allowed[k], entry->name);
			break;
		}
	}
}

/* ---- all of it ---- */

static void add_id(uint32_t *list, size_t *n, uint32_t id)
{
	if (id != UINT32_MAX)
		list[(*n)++] = id;
}

int subids_named_find(const struct policy *policy, struct subids_named *ret_named)
{
	struct subids_named named = {
		.users = calloc(policy->n_rules + 1, sizeof(*named.users)),
		.denied = calloc(policy->n_rules + 1, sizeof(*named.denied)),
		.allowed = calloc(policy->n_rules + 1, sizeof(*named.allowed)),
	};

	if (!named.users || !named.denied || !named.allowed) {
		subids_named_done(&named);
		return -ENOMEM;
	}
	for (size_t i = 0; i < policy->n_rules; i++) {
		const struct policy_rule *rule = &policy->rules[i];

		if (rule->who == POLICY_WHO_USER)
			add_id(named.users, &named.n_users, rule->id);
		else if (rule->who == POLICY_WHO_GROUP && rule->verb == POLICY_DENY)
			add_id(named.denied, &named.n_denied, rule->id);
		else if (rule->who == POLICY_WHO_GROUP)
			add_id(named.allowed, &named.n_allowed, rule->id);
	}
	named.n_users = ids_sort(named.users, named.n_users);
	named.n_denied = ids_sort(named.denied, named.n_denied);
	named.n_allowed = ids_sort(named.allowed, named.n_allowed);
	*ret_named = named;
	return 0;
}

void subids_named_done(struct subids_named *named)
{
	free(named->users);
	free(named->denied);
	free(named->allowed);
	*named = (struct subids_named){ 0 };
}

/* Warns where newuidmap(1) asks another source than the file. */
static void warn_of_sources(const struct reading *reading)
{
	cleanup_file FILE *file = NULL;
	cleanup_free char *text = NULL;
	size_t size = 0;

	if (open_file(reading, "nsswitch.conf", &file) || !file)
		return;
	for (uint32_t line = 1; getline(&text, &size, file) >= 0; line++) {
		char *word = text + strspn(text, " \t");

		if (strncmp(word, "subid:", 6) != 0)
			continue;
		word += 6;
		word += strspn(word, " \t");
		if (strcspn(word, " \t\n") != 5 || strncmp(word, "files", 5) != 0)
			warn(reading, "nsswitch.conf", line,
			     "subordinate ids of other sources than the file subuid are not known; "
			     "what getsubids(1) prints can be put there");
	}
}

static void free_entries(struct entries *entries)
{
	for (size_t i = 0; i < entries->n; i++)
		free(entries->list[i].name);
	free(entries->list);
}

bool subids_is_source(const char *name)
{
	static const char *const names[] = { SUBIDS_UIDS, SUBIDS_GIDS, "passwd", "group" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

int subids_load(const struct subids *request, struct policy_owners *ret_owners)
{
	struct reading reading = { .request = request };
	struct policy_owners owners = { 0 };
	int r = read_accounts(&reading);

	warn_of_sources(&reading);
	if (!r)
		r = read_entries(&reading, SUBIDS_UIDS, &reading.uids);
	if (!r)
		r = read_entries(&reading, SUBIDS_GIDS, &reading.gids);
	if (!r)
		r = find_ranges(&reading, &owners);
	if (!r)
		r = find_members(&reading, &owners);
	if (!r)
		warn_of_gids(&reading);
	if (r)
		policy_owners_done(&owners);
	else
		*ret_owners = owners;
	free_entries(&reading.uids);
	free_entries(&reading.gids);
	for (size_t i = 0; i < reading.n_accounts; i++)
		free(reading.accounts[i].name);
	free(reading.accounts);
	free(reading.points);
	return r;
}
