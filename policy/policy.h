/* SPDX-License-Identifier: MIT */
/*
 * The policy: text in, rules out, verdict out.
 *
 * Pure: nothing in policy/ logs, keeps globals or makes a system call. The loader (unprivileged)
 * calls the parser and turns user names into numbers; the core (root) holds only the fixed-size
 * rules below and calls policy_decide(). gpubroker(1) uses both halves, so that what it explains
 * is what the daemon does. The language is described in gpubroker.policy(5).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/common/address.h"

/* Limits of the language. Beyond them is a mistake with a place, never a truncation. */
#define POLICY_NAME_MAX 32   /* a device name with its NUL */
#define POLICY_LINE_MAX 4096 /* bytes in a line, without its newline */
#define POLICY_RULES_MAX 1000000
#define POLICY_NAMES_MAX 65535
#define POLICY_FILES_MAX 65535
#define POLICY_TEXT_MAX 64	 /* a driver, serial number or path with its NUL */
#define POLICY_TEXTS_MAX 65535	 /* different ones; each is kept once */
#define POLICY_LIMIT_MAX 65535	 /* leases */
#define POLICY_KILL_MAX 86400	 /* seconds between the two signals that end a holder */
#define POLICY_KILL_DEFAULT 30	 /* the same, if the policy does not say */
#define POLICY_VFS_MAX 65535	 /* SR-IOV counts them in 16 bits */
#define POLICY_RANGES_MAX 262144 /* ranges of subordinate uids */
#define POLICY_MEMBERS_MAX 65536
#define POLICY_BYTES_MAX (1U << 30) /* in a file: line numbers and columns cannot overflow */
#define POLICY_NO_NAME UINT32_MAX
#define POLICY_NO_TEXT UINT32_MAX

enum policy_verb {
	POLICY_DEVICE = 1, /* gives a device name its meaning; several lines of a name are ORed */
	POLICY_ALLOW,
	POLICY_DENY,
	POLICY_PREPARE, /* on a VFIO driver from boot on; concerns no user */
};

enum policy_who {
	POLICY_WHO_NONE = 0, /* a device or prepare line; or the account does not exist: nobody */
	POLICY_WHO_USER,
	POLICY_WHO_GROUP,
	POLICY_WHO_ANY,
	/* whoever root has allotted the device to, see policy_subject.allotted */
	POLICY_WHO_ALLOTTED,
};

/* Which fields of struct policy_match are set. They are ANDed; none set matches everything. */
enum policy_attribute {
	POLICY_ADDRESS = 1 << 0,
	POLICY_VENDOR = 1 << 1,
	POLICY_DEVICE_ID = 1 << 2,
	POLICY_CLASS = 1 << 3,
	POLICY_IOMMU_GROUP = 1 << 4,
	POLICY_SUBSYSTEM_VENDOR = 1 << 5,
	POLICY_SUBSYSTEM_DEVICE = 1 << 6,
	POLICY_DRIVER = 1 << 7,
	POLICY_SERIAL = 1 << 8,
	POLICY_PATH = 1 << 9,
	/*
	 * A part of the device, made by its driver. An allow without it grants the whole device and
	 * no part; a deny without it forbids both.
	 */
	POLICY_PROFILE = 1 << 10,
};

/* The word after `profile` that stands for every part. */
#define POLICY_ANY_PROFILE "any"

struct policy_match {
	uint32_t attributes; /* of enum policy_attribute */
	struct pci_address address;
	uint32_t address_any; /* enum pci_address_any: the numbers of `address` that do not count */
	uint16_t vendor;
	uint16_t device;
	uint16_t subsystem_vendor;
	uint16_t subsystem_device;
	uint32_t class_code; /* the 24-bit class code, as in sysfs' `class` */
	uint32_t class_mask; /* which of its bits count: "display" is 0x030000 under 0xff0000 */
	uint32_t iommu_group;
	/* Indexes into struct policy's texts; POLICY_NO_TEXT where the attribute is not set. */
	uint32_t driver;
	uint32_t serial; /* hex digits in lower case */
	uint32_t path;	 /* as in struct policy_facts; without a host bridge it is below any */
	uint32_t profile;
};

/* For an initializer of struct policy_match: none of the attributes that have a text is set. */
#define POLICY_MATCH_NO_TEXTS                                                                      \
	.driver = POLICY_NO_TEXT, .serial = POLICY_NO_TEXT, .path = POLICY_NO_TEXT,                \
	.profile = POLICY_NO_TEXT

/* One statement, numbers only, of fixed size: this is what goes from the loader to the core. */
struct policy_rule {
	uint32_t verb; /* enum policy_verb */
	uint32_t who;  /* enum policy_who */
	uint32_t id;   /* uid or gid, by `who` */
	/*
	 * An index into struct policy's names: for POLICY_DEVICE the name that it defines, else a
	 * name that must match too, or POLICY_NO_NAME.
	 */
	uint32_t name;
	struct policy_match match;
	/* The rest is for POLICY_ALLOW, and vfio_driver for POLICY_PREPARE too. */
	uint32_t limit;		/* leases at once, for each user by this rule; 0: no limit */
	uint64_t memlock;	/* bytes, below 2^63; 0 grants none */
	uint16_t boot_vga;	/* 0 or 1 */
	uint16_t in_use;	/* 0 or 1 */
	uint32_t lifetime;	/* seconds that a lease may last; 0: no end */
	uint32_t kill;		/* only with lifetime: seconds between the two signals; 0: none */
	uint32_t reserved;	/* 0 */
	uint32_t vfio_driver;	/* index into struct policy's texts, or POLICY_NO_TEXT */
	uint32_t require_reset; /* 0 or 1 */
	uint32_t vfs;		/* POLICY_PREPARE only: create so many virtual functions; 0: none */
	/* Only with vfs: the quotas of each VF, as the kernel's xe takes them; 0: unchanged. */
	uint32_t vf_exec_quantum_ms;
	uint32_t vf_preempt_timeout_us;
	/* The rule's place; all fields before this are its contents. */
	uint32_t file; /* index into struct policy's files */
	uint32_t line; /* from 1 */
	uint32_t column;
};

struct policy_name {
	char text[POLICY_NAME_MAX];
};

/*
 * The driver, serial, path or profile of some rules; in a table, since a million rules should stay
 * small.
 */
struct policy_text {
	char text[POLICY_TEXT_MAX];
};

#define POLICY_FILE_MAX 256
struct policy_file {
	char path[POLICY_FILE_MAX];
};

/*
 * Subordinate uids (subuid(5)): `owner` may run processes as any of them, in a user namespace. So
 * they are all one user to a policy.
 */
struct policy_range {
	uint32_t first, count;
	uint32_t owner; /* or POLICY_NOBODY: of several users, so no rule allows it anything */
};

/* The uids below belong to the system, so they are nobody's subordinates. */
#define POLICY_RANGE_FIRST 1000U
#define POLICY_NOBODY UINT32_MAX

/*
 * The accounts have `uid` in group `gid`, which a deny rule names. A user with subordinate gids can
 * leave her groups, in a user namespace, but not such a rule.
 */
struct policy_member {
	uint32_t uid, gid;
};

struct policy_owners {
	struct policy_range *ranges; /* sorted, none overlaps another */
	size_t n_ranges;
	struct policy_member *members; /* sorted by uid, then gid */
	size_t n_members;
};

struct policy_index; /* makes a verdict's cost independent of the number of rules */

struct policy {
	struct policy_rule *rules;
	size_t n_rules;
	struct policy_name *names;
	size_t n_names;
	struct policy_text *texts;
	size_t n_texts;
	struct policy_file *files;
	size_t n_files;
	struct policy_owners owners; /* empty: each uid is a user of its own */
	struct policy_index *index;  /* NULL: every rule is looked at */
};

/* Frees what a policy holds and leaves it empty. An empty policy (all zero) is valid. */
void policy_done(struct policy *policy);

void policy_owners_done(struct policy_owners *owners);

/*
 * Makes an empty index with room for so many names and rules. Each is then added when it is in its
 * place in policy->names or rules, at a cost that does not depend on the others. Returns 0, or
 * -ENOMEM with the policy unchanged.
 */
int policy_index_new(struct policy *policy, size_t n_names, size_t n_rules);
void policy_index_add_name(struct policy *policy, size_t name);
void policy_index_add_rule(struct policy *policy, size_t rule);
/* Makes the index of a policy that is complete. */
int policy_index_build(struct policy *policy);

/* The text of an index, or NULL if it is out of range (POLICY_NO_TEXT is). It is the policy's. */
const char *policy_text(const struct policy *policy, uint32_t text);

/* ---- parsing: the loader and gpubroker(1), never the core ---- */

enum policy_severity { POLICY_MISTAKE, POLICY_WARNING };

/* The kind of a finding, so that its receiver can leave some out. */
enum policy_kind {
	POLICY_KIND_MISTAKE = 0, /* the only kind of that severity */
	POLICY_KIND_ACCOUNT,	 /* the user or group does not exist, or could not be looked up */
	POLICY_KIND_WIDE,	 /* matches more than may have been meant */
	POLICY_KIND_UNUSED,	 /* no rule uses this device name; `run --gpu NAME` still may */
	POLICY_KIND_DUPLICATE,	 /* the same rule once more */
	POLICY_KIND_SHADOWED,	 /* an allow that a deny beats wherever it matches */
	POLICY_KIND_ABSENT,	 /* no present device matches; only from policy_lint() */
	POLICY_KIND_SPARED,	 /* prepares what is spared; only from gpubroker(1) */
	POLICY_KIND_IN_USE,	 /* a place where the host's own is; from policy_lint_in_use() */
	POLICY_KIND_CARD,	 /* a function brings a display along; from policy_lint_cards() */
};

/*
 * One finding. `text` is a sentence without a final stop: what was found and what was expected. It
 * is printable ASCII whatever the file holds; `source` is the file's own bytes, control characters
 * included.
 */
struct policy_finding {
	enum policy_severity severity;
	enum policy_kind kind;
	const char *path;
	uint32_t line;	 /* from 1 */
	uint32_t column; /* from 1, in bytes */
	const char *text;
	const char *source; /* the line, not NUL-terminated, for a caret line; or NULL */
	size_t source_len;  /* at most POLICY_LINE_MAX */
};

/*
 * The parser's callbacks. `user` and `group` turn a name into a number: 0 with the number; 1 if
 * there is no such name (a warning, and the rule matches nobody); or -errno if it could not be
 * looked up: a warning in an allow rule, which then matches nobody, but a mistake in a deny rule,
 * since a deny that is lost while a directory server is down would let somebody in. Each name is
 * looked up once in a parser's life; all-digit names are numbers, and not looked up.
 *
 * `found` is called once per finding, in the order of the text. Findings that only the end of the
 * text can show (names never defined, then names never used, then duplicate or shadowed rules) come
 * from policy_parser_finish(). The finding is valid only during the call. All three must be set.
 */
struct policy_parser_ops {
	int (*user)(void *userdata, const char *name, uid_t *ret_uid);
	int (*group)(void *userdata, const char *name, gid_t *ret_gid);
	void (*found)(void *userdata, const struct policy_finding *finding);
	void *userdata;
};

struct policy_parser;

int policy_parser_new(const struct policy_parser_ops *ops, struct policy_parser **ret_parser);
struct policy_parser *policy_parser_free(struct policy_parser *parser);

/*
 * Parses one whole file, given as bytes (NUL bytes and all; not NUL-terminated), and keeps no
 * pointer into them. Reports every mistake, not only the first. Returns 0 even if there are
 * mistakes, or -ENOMEM.
 */
int policy_parser_file(struct policy_parser *parser, const char *path, const char *text,
		       size_t len);

/*
 * To be called once after the last file: reports names that are used and never defined (mistakes)
 * or defined and never used (warnings), and if there is no mistake also duplicate and shadowed
 * rules (warnings, only where it is certain); then hands the policy over. Returns the number of
 * mistakes in all files (*ret_policy is untouched then: a policy with a mistake is never used), or
 * 0 with *ret_policy owned by the caller, or -errno.
 */
int policy_parser_finish(struct policy_parser *parser, struct policy *ret_policy);

/* ---- deciding: pure, no allocation ---- */

/*
 * Returns the user that a uid stands for: the owner of its range, or itself. By this number go
 * rules about users, and whatever is counted for each user.
 */
uint32_t policy_owner(const struct policy *policy, uint32_t uid);

/*
 * Returns true if the core may trust it: 0 is in no range and owns none, the ranges and members are
 * sorted, and no range overlaps another.
 */
bool policy_owners_valid(const struct policy_owners *owners);

/*
 * The user who asks, as the kernel reports it. Rules are about the owner of the uid; a deny rule is
 * also about the uid itself.
 */
struct policy_subject {
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* supplementary */
	size_t n_groups;
	/*
	 * The functions that are judged are allotted to this user, so that rules with `allotted`
	 * count. It is the same for all functions of a group.
	 */
	bool allotted;
	/* No other rule that allows counts: it is an allotment that asks, not its user. */
	bool only_allotted;
	/*
	 * The result of policy_look_up() with the same policy; or NULL: then each verdict looks the
	 * subject up, which costs time for each group.
	 */
	const struct policy_looked_up *looked_up;
};

#define POLICY_LOOKED_UP 64 /* groups */

/* The part of the policy that a subject needs. */
struct policy_looked_up {
	uint32_t owner; /* of the uid */
	/* the groups that the owner is in by the accounts, whatever the process has left */
	const struct policy_member *members;
	size_t n_members;
	/* with an index: the groups that have rules; more than there is room for: `many` */
	uint32_t groups[POLICY_LOOKED_UP];
	size_t n_groups;
	bool indexed, many;
};

void policy_look_up(const struct policy *policy, const struct policy_subject *subject,
		    struct policy_looked_up *ret_looked_up);

/* Returns true if a rule of this verb is for the group. Adds the rules it looked at to *cost. */
bool policy_group_has(const struct policy *policy, uint32_t gid, enum policy_verb verb,
		      uint64_t *cost);

/*
 * One PCI function, as sysfs shows it. A string is NULL if it could not be found out, and "" if
 * there is none. An unknown string matches in a deny rule, also through a device name, and nowhere
 * else: a serial number that cannot be read must let nobody in.
 */
struct policy_facts {
	struct pci_address address;
	uint16_t vendor;
	uint16_t device;
	uint16_t subsystem_vendor; /* 0, like the next, if there is none */
	uint16_t subsystem_device;
	uint32_t class_code;
	uint32_t iommu_group; /* UINT32_MAX: none */
	const char *driver;   /* of the host, the name of its directory */
	const char *serial;   /* upper or lower case hex digits */
	/*
	 * "pci0000:00/10.0/00.0": the host bridge's directory (the first one if they are nested, as
	 * VMD does), then device.function of every bridge and of the function itself. A path that
	 * is too long to be kept is unknown, not "".
	 */
	const char *path;
	/*
	 * For a part of the device, an mdev or vGPU, its type, and what its driver calls that (""
	 * or NULL: nothing); "": the whole device.
	 */
	const char *profile;
	const char *profile_name;
	/*
	 * The parent of the part is no PCI function: no field above is set, and only `profile`
	 * matches it.
	 */
	bool no_pci;
};

/*
 * How many leases of the subject count against this rule (an index). Not called for a rule without
 * limit.
 */
struct policy_usage {
	uint32_t (*leases)(void *userdata, size_t rule);
	void *userdata;
};

enum policy_outcome {
	POLICY_ALLOWED = 0,
	POLICY_NO_RULE, /* no allow rule matches `function`, and no deny rule any of them */
	POLICY_DENIED,	/* `rule` is the deny rule that matches `function` */
	POLICY_LIMIT,	/* rules allow it, and the limits of all of them are used up */
};

struct policy_verdict {
	enum policy_outcome outcome;
	size_t function; /* the function that decided a refusal; if allowed, the asked one */
	/*
	 * The rule that decided, or SIZE_MAX with POLICY_NO_RULE. If allowed, the rule that the
	 * lease counts against: the first without a limit, or else the first that is not used up.
	 * With POLICY_LIMIT, the first that matches.
	 */
	size_t rule;
	/*
	 * Only if allowed: the most that all the allow rules grant that match the asked function
	 * and are not used up.
	 */
	uint64_t memlock;
	bool boot_vga;
	bool in_use;   /* also while programs of the host have it open */
	bool allotted; /* one of these rules is for users whom the device is allotted to */
	/*
	 * The kernel must be able to reset every function of the group, and does so before anybody
	 * else has it. True if any of these rules requires it: not the most that is granted, but
	 * the most that is required, since the author of that rule relies on it.
	 */
	bool require_reset;
	uint32_t lifetime; /* seconds; 0: no end, which is the most */
	/*
	 * If the holder does not let go at the end, its processes are ended, with so many seconds
	 * between the two signals. 0: they are not, which is the most; so all of these rules say
	 * it.
	 */
	uint32_t kill;
	/*
	 * For the asked function, by `rule`, or else by the first of them that names one; index
	 * into texts, or POLICY_NO_TEXT: the kernel's choice.
	 */
	uint32_t vfio_driver;
	/* Not the verdict, but its cost: the rules that were looked at, for all functions. */
	uint64_t cost;
};

/*
 * Decides whether this subject may have functions[asked], with all the others of its IOMMU group,
 * which come along. functions[] are the members of the group that can be lent. Functions in the
 * slot of the asked one (same domain, bus and device) come along without a rule; one in another
 * slot needs an allow rule of its own, whose limit does not count. A deny rule that matches any of
 * them refuses the whole. `usage` is asked about the rules that match functions[asked]; NULL: the
 * subject holds nothing. The reason that lasts longest is returned: POLICY_DENIED, then
 * POLICY_NO_RULE, then POLICY_LIMIT.
 *
 * Never reads outside what it was given, whatever the rules contain (a rule whose `name` or text is
 * out of range matches nothing); an `asked` out of range is POLICY_NO_RULE. Takes 24 KiB of stack.
 * A rule with an attribute that this version does not know matches nothing, even a deny: so check
 * every rule with policy_rule_valid() before.
 */
void policy_decide(const struct policy *policy, const struct policy_subject *subject,
		   const struct policy_facts *functions, size_t n_functions, size_t asked,
		   const struct policy_usage *usage, struct policy_verdict *ret_verdict);

/*
 * The same for several functions of one group, one after another: `judged` keeps the verdicts on
 * the functions that come along, n_functions of them, so that each is judged once. The first call
 * needs policy_judged_none(). The subject and the functions must be the same in all calls.
 */
void policy_decide_again(const struct policy *policy, const struct policy_subject *subject,
			 const struct policy_facts *functions, size_t n_functions, size_t asked,
			 const struct policy_usage *usage, struct policy_verdict *judged,
			 struct policy_verdict *ret_verdict);
void policy_judged_none(struct policy_verdict *judged, size_t n_functions);

/*
 * Returns true if some rule may allow this subject some part of this function. If not, the driver
 * need not be asked for its parts. Deny rules do not count. Adds the rules that it looked at to
 * *cost, unless that is NULL.
 */
bool policy_may_grant_part(const struct policy *policy, const struct policy_subject *subject,
			   const struct policy_facts *facts, uint64_t *cost);

/*
 * Returns true if this function should be on a VFIO driver from boot on: by a prepare rule (without
 * vfs) that matches it, or else one that matches another function of its slot. functions[] are the
 * others (also itself, and ones of other slots, which do not count). *ret_rule is the rule; if
 * several match the function, the first that names a vfio_driver. That driver is only for what the
 * rule itself matches, not for the slot's other functions: ask with n_functions 0 to tell them
 * apart.
 */
bool policy_prepares(const struct policy *policy, const struct policy_facts *facts,
		     const struct policy_facts *functions, size_t n_functions, size_t *ret_rule);

/*
 * Returns how many virtual functions this physical function should have: the most of all prepare
 * rules with vfs that match it itself, *ret_rule; 0: none does. A device that such a rule matches
 * stays on its host driver, which makes them, so policy_prepares() returns false for it whatever
 * other rules say.
 */
uint32_t policy_vfs(const struct policy *policy, const struct policy_facts *facts,
		    size_t *ret_rule);

/*
 * Returns true if the named device (index into names) matches these facts. Unknown facts do not
 * match. Adds the rules that it looked at to *cost, unless that is NULL.
 */
bool policy_name_matches(const struct policy *policy, uint32_t name,
			 const struct policy_facts *facts, uint64_t *cost);

/* The same, but only by a line with `profile`: a claim for the name alone then means this part. */
bool policy_name_means_part(const struct policy *policy, uint32_t name,
			    const struct policy_facts *facts, uint64_t *cost);

/* Returns true if some line of the name has `profile`. */
bool policy_name_has_part(const struct policy *policy, uint32_t name, uint64_t *cost);

/* Finds a name's index. -ENOENT: there is no such name. */
int policy_name_find(const struct policy *policy, const char *text, uint32_t *ret_name);

/*
 * Checks that a rule or a text from elsewhere is one that the parser could have made (every field
 * in range, what must be 0 is 0, a driver's name is one), so that the core need not trust the
 * loader. n_names and n_files are the counts that the rule may refer to; texts[] are valid ones.
 */
bool policy_rule_valid(const struct policy_rule *rule, size_t n_names, size_t n_files,
		       const struct policy_text *texts, size_t n_texts);
bool policy_text_valid(const struct policy_text *text);

/* ---- looking it over: gpubroker(1), never the core ---- */

/*
 * Reports every statement that no given device can match, as a warning of POLICY_KIND_ABSENT
 * without `source`, and names the attribute if one alone is the reason. An unknown fact matches
 * anything. `found` is called as the parser's is. Cost: rules times devices. 0 or -ENOMEM.
 */
int policy_lint(const struct policy *policy, const struct policy_facts *devices, size_t n_devices,
		void (*found)(void *userdata, const struct policy_finding *finding),
		void *userdata);

/*
 * Reports every allow and prepare that means a device by its address or IOMMU group alone, if that
 * is one which the host uses now: since a card was added, another device may be there. `in_use`
 * says how, as in "disk sda is on it". Linear in the number of rules. 0 or -ENOMEM.
 */
int policy_lint_in_use(const struct policy *policy, const struct policy_facts *facts,
		       const char *in_use,
		       void (*found)(void *userdata, const struct policy_finding *finding),
		       void *userdata);

/*
 * Reports every allow that matches another function of a card, but not its display, which comes
 * along with it: "class audio" lends every graphics card that has an audio function. Each is
 * reported once. Cost: rules times devices. 0 or -ENOMEM.
 */
int policy_lint_cards(const struct policy *policy, const struct policy_facts *devices,
		      size_t n_devices,
		      void (*found)(void *userdata, const struct policy_finding *finding),
		      void *userdata);
