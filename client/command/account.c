/* SPDX-License-Identifier: MIT */
/* An account that a question about the policy is about, see account.h. Asks NSS. */
#include "config.h"

#include "client/command/account.h"
#include "client/command/cli.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fill(const struct passwd *entry, struct account *a)
{
	int n = 0;

	a->subject.uid = entry->pw_uid;
	a->subject.gid = entry->pw_gid;
	getgrouplist(entry->pw_name, entry->pw_gid, NULL, &n);
	a->groups = calloc((size_t)n + 1, sizeof(*a->groups));
	if (!a->groups || getgrouplist(entry->pw_name, entry->pw_gid, a->groups, &n) < 0)
		return -ENOENT;
	a->subject.groups = a->groups;
	a->subject.n_groups = (size_t)n;
	return 0;
}

int account_find(const char *name, struct account *ret_account)
{
	struct account *a = ret_account;
	const struct passwd *entry;
	char *end;

	*a = (struct account){ 0 };
	errno = 0;
	entry = getpwnam(name);
	if (!entry && *name >= '0' && *name <= '9') {
		unsigned long uid = strtoul(name, &end, 10);

		if (!*end && uid < UINT32_MAX) {
			entry = getpwuid((uid_t)uid);
			if (!entry) { /* a uid without a name can have rules */
				a->subject.uid = a->subject.gid = (uid_t)uid;
				return 0;
			}
		}
	}
	if (!entry) {
		cli_error("there is no user '%s'; give a name or a uid that this host knows", name);
		return EXIT_NO_NAME;
	}
	if (fill(entry, a)) {
		cli_error("the groups of '%s' cannot be found out", name);
		return EXIT_SOFTWARE;
	}
	return 0;
}

int account_find_uid(uid_t uid, struct account *ret_account)
{
	const struct passwd *entry = getpwuid(uid);

	*ret_account = (struct account){ 0 };
	return entry && !fill(entry, ret_account) ? 0 : EXIT_NO_NAME;
}

unsigned account_missing_groups(const struct account *account, char *out, size_t size)
{
	const int n = getgroups(0, NULL);
	gid_t *own = calloc((size_t)(n > 0 ? n : 0) + 1, sizeof(*own));
	const int has = own ? getgroups(n, own) : -1;
	unsigned missing = 0;
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; has >= 0 && i < account->subject.n_groups; i++) {
		bool found = account->groups[i] == getegid();
		const struct group *entry;

		for (int k = 0; k < has; k++)
			found = found || own[k] == account->groups[i];
		entry = found ? NULL : getgrgid(account->groups[i]);
		if (entry && len + 40 < size)
			len += (size_t)snprintf(out + len, size - len, "%s%.32s", len ? ", " : "",
						entry->gr_name);
		missing += entry != NULL;
	}
	free(own);
	return missing;
}

void account_done(struct account *account)
{
	free(account->groups);
	account->groups = NULL;
}

int account_check_name(bool group, const char *name)
{
	errno = 0;
	if (strspn(name, "0123456789") == strlen(name) ||
	    (group ? getgrnam(name) != NULL : getpwnam(name) != NULL))
		return 0;
	/* Where the directory does not answer, the parser says so. */
	if (errno && errno != ENOENT && errno != ESRCH)
		return 0;
	cli_error("there is no %s '%s', so the rule was not added (for an account that is yet to "
		  "come, give its %s)",
		  group ? "group" : "user", name, group ? "gid" : "uid");
	return EXIT_NO_NAME;
}
