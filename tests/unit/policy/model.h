/* SPDX-License-Identifier: MIT */
/*
 * For the random test of the policy: statements as a person thinks of them, and an evaluator that
 * is slow and follows the manual. It shares only the facts with policy/.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "policy/policy.h"

struct statement {
	char verb; /* 'd'evice, 'a'llow, 'n'o, 'p'repare */
	char who;  /* 'u'ser, 'g'roup, 'e'verybody, '-' */
	unsigned int id;
	int name;					/* -1: none */
	int bus, slot, function, vendor, device, group; /* -1: not said */
	unsigned int any; /* 1: any domain, 2: any bus, 4: any slot, 8: any function */
	bool pair;	  /* vendor and device are written as one word */
	int subsystem_vendor, subsystem_device;
	const char *class, *driver, *serial, *path, *profile; /* NULL: not said */

	unsigned int limit; /* 0: none */
	unsigned long long memlock;
	bool boot_vga, in_use, require_reset;
	unsigned int lifetime; /* seconds, 0: not said */
	unsigned int kill;     /* the same; only with lifetime */
	const char *vfio_driver;

	unsigned int held; /* leases of the subject by this rule; not part of the text */
};

struct answer {
	char outcome; /* 'd'enied, 'n'o rule, 'l'imit, 'a'llowed */
	unsigned long long memlock;
	bool boot_vga, in_use, require_reset;
	unsigned int lifetime, kill;
	int rule; /* with 'a' and 'l' */
	const char *vfio_driver;
};

/* Returns true if the statement covers this function. With `denying`, an unknown fact matches. */
bool model_covers(const struct statement *all, int n, const struct statement *s,
		  const struct policy_facts *facts, bool denying);
/* Returns true unless this is a mediated device or vGPU and the covering allow has no profile. */
bool model_grants(const struct statement *all, int n, const struct statement *s,
		  const struct policy_facts *facts);
bool model_is_for(const struct statement *s, const struct policy_subject *subject);
bool model_same_slot(const struct policy_facts *a, const struct policy_facts *b);

struct answer model_decide(const struct statement *all, int n, const struct policy_subject *subject,
			   const struct policy_facts *functions, size_t n_functions, size_t asked);

/*
 * Returns true if a prepare covers the function itself; *ret_named tells whether one names a
 * driver.
 */
bool model_prepares(const struct statement *all, int n, const struct policy_facts *facts,
		    bool *ret_named);
