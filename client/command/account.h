/* SPDX-License-Identifier: MIT */
/*
 * An account that a question about the policy is about, with all groups that it has in the
 * directory.
 */
#pragma once

#include "policy/policy.h"

struct account {
	struct policy_subject subject;
	gid_t *groups; /* the subject's */
};

/*
 * Looks up a name or a uid. 0, or an exit status after the reason was printed. account_done() is
 * due.
 */
int account_find(const char *name, struct account *ret_account);
/* The same by a uid, which nobody's name can be taken for. Prints nothing. */
int account_find_uid(uid_t uid, struct account *ret_account);
/*
 * Writes "gpu, kvm": the groups that the account has in the directory, and this process, whose
 * session is older, has not. Returns how many there are.
 */
unsigned account_missing_groups(const struct account *account, char *out, size_t size);
/*
 * Refuses the name of a new rule's subject that is nobody's: a file may have a rule for an account
 * that is to come, but here it was mistyped. A number is taken as it is. 0, or an exit status after
 * the reason was printed.
 */
int account_check_name(bool group, const char *name);
void account_done(struct account *account);
