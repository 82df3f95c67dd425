/* SPDX-License-Identifier: MIT */
/*
 * The grammar: parses one statement word by word, up to its first mistake.
 *
 * It must never accept a statement in part: a rule without a restriction that was not understood
 * would grant more than was written. Users and groups are looked up through the parser's caller.
 */
#include "config.h"

#include "policy/statement.h"

#include <string.h>

#include "client/common/util.h"
#include "policy/findings.h"
#include "policy/keep.h"
#include "policy/units.h"
#include "policy/values.h"
#include "policy/words.h"

#define NAME_RULE                                                                                  \
	"a device name (a letter, then letters, digits, '_', '-' or '.', at most 31 in all)"

static void next(struct policy_parser *parser)
{
	lexer_next_word(&parser->lexer, &parser->token);
}

/* The current word if it is of one of these kinds, else NULL. */
static const struct word *here(const struct policy_parser *parser, unsigned int kinds)
{
	return parser->token.kind == TOKEN_WORD ? words_find(kinds, parser->token.text) : NULL;
}

/* Notes that the statement has an attribute or limit. False, with a finding: it had it already. */
static bool see(struct policy_parser *parser, const struct place *place, const char *text,
		uint32_t bit, uint32_t *seen)
{
	if (*seen & bit) {
		finding_report(parser, POLICY_KIND_MISTAKE, place,
			       "expected %s at most once in a statement", text);
		return false;
	}
	*seen |= bit;
	return true;
}

/* Reads the current word as the value of WORD. A pair of ids is the value of two words. */
static bool read_value(struct policy_parser *parser, const struct word *word, uint32_t *seen,
		       struct policy_rule *rule)
{
	const uint32_t before = rule->match.attributes;
	struct place place = finding_place(parser);
	char text[POLICY_TEXT_MAX];
	uint32_t index, also;
	bool taken = parser->token.kind == TOKEN_WORD &&
		     (word->spell ? word->spell(parser->token.text, text)
				  : word->read(parser->token.text, rule));

	if (!taken)
		return finding_value(parser, word);
	if (word->spell) {
		if (!keep_text(parser, text, &index))
			return false;
		memcpy((char *)rule + word->field, &index, sizeof(index));
	}
	also = rule->match.attributes & ~before;
	rule->match.attributes = before;
	if (also &&
	    !see(parser, &place, also & POLICY_VENDOR ? "vendor" : "subsystem-vendor", also, seen))
		return false;
	next(parser);
	return true;
}

/*
 * Parses WORD, and VALUE if it takes one; `seen` has the bits of the words before in this
 * statement.
 */
static bool parse_value(struct policy_parser *parser, const struct word *word, uint32_t *seen,
			struct policy_rule *rule)
{
	struct place place = finding_place(parser);
	char what[128];

	if (!see(parser, &place, word->text, word->value, seen))
		return false;
	if (word->optional && strlen(parser->token.text) > strlen(word->text)) {
		if (!word->read(parser->token.text + strlen(word->text) + 1, rule)) {
			snprintf(what, sizeof(what), "after \"%s=\" %s", word->text,
				 word->optional);
			return finding_expected(parser, what, 0);
		}
		next(parser);
		return true;
	}
	next(parser);
	if (!word->expected) {
		word->read(NULL, rule);
		return true;
	}
	return read_value(parser, word, seen, rule);
}

/* A pair of ids without a word before it, as "10de:1eb8": the same as behind `device`. */
static bool parse_pair(struct policy_parser *parser, uint32_t *seen, struct policy_rule *rule)
{
	const struct word *word = words_find(WORD_ATTRIBUTE, "device");
	struct place place = finding_place(parser);

	return see(parser, &place, word->text, word->value, seen) &&
	       read_value(parser, word, seen, rule);
}

/* ---- the parts of a statement ---- */

/* Fills in who and id from the current word, a number or a name to look up. */
static bool parse_account(struct policy_parser *parser, bool group, struct policy_rule *rule)
{
	enum name_kind kind = group ? NAME_GROUP : NAME_USER;
	const char *what = group ? "group" : "user", *text = parser->token.text;
	struct place place = finding_place(parser);
	struct name *name;
	uint64_t number;

	if (strspn(text, "0123456789") == strlen(text)) {
		/* (uid_t)-1 is nobody's: the kernel takes it for "leave as it is". */
		if (!units_parse_number(text, UINT32_MAX - 1, &number)) {
			finding_report(parser, POLICY_KIND_MISTAKE, &place,
				       "expected a number of at most 4294967294 for a %s, "
				       "found " FINDING_WORD,
				       what, text);
			return false;
		}
		rule->id = (uint32_t)number;
		return true;
	}

	name = names_find(&parser->names, kind, text);
	if (!name) {
		uid_t uid = 0;
		gid_t gid = 0;

		if (names_add(&parser->names, kind, text, &name) < 0) {
			parser->error = -ENOMEM;
			return false;
		}
		name->answer = group ? parser->ops.group(parser->ops.userdata, text, &gid)
				     : parser->ops.user(parser->ops.userdata, text, &uid);
		name->id = group ? gid : uid;
		if (name->answer == 0 && name->id == UINT32_MAX)
			name->answer = -ERANGE;
	}

	if (name->answer == 0) {
		rule->id = name->id;
		return true;
	}
	rule->who = POLICY_WHO_NONE;
	if (name->answer > 0)
		finding_report(parser, POLICY_KIND_ACCOUNT, &place,
			       "there is no %s " FINDING_WORD ", so this rule matches nobody", what,
			       text);
	else if (rule->verb == POLICY_ALLOW)
		finding_report(parser, POLICY_KIND_ACCOUNT, &place,
			       "%s " FINDING_WORD
			       " could not be looked up (%s), so this rule matches nobody",
			       what, text, strerror(-name->answer));
	else
		finding_report(parser, POLICY_KIND_MISTAKE, &place,
			       "%s " FINDING_WORD
			       " could not be looked up (%s), and a deny must not be lost; "
			       "expected a name that can be looked up, or a number",
			       what, text, strerror(-name->answer));
	return name->answer > 0 || rule->verb == POLICY_ALLOW;
}

/* user NAME|UID, group NAME|GID, any, or allotted */
static bool parse_who(struct policy_parser *parser, struct policy_rule *rule)
{
	const struct word *word = here(parser, WORD_WHO);
	bool group;

	if (!word)
		return finding_expected(parser, "user, group, any or allotted", WORD_WHO);
	rule->who = word->value;
	next(parser);
	if (rule->who == POLICY_WHO_ANY || rule->who == POLICY_WHO_ALLOTTED)
		return true;

	group = rule->who == POLICY_WHO_GROUP;
	if (parser->token.kind != TOKEN_WORD)
		return finding_expected(
			parser, group ? "a group's name or gid" : "a user's name or uid", 0);
	if (!parse_account(parser, group, rule))
		return false;
	next(parser);
	return true;
}

/* Warns of an id that is unique only within a vendor, with nothing else to pin it down. */
static void warn_wide(struct policy_parser *parser, const struct policy_rule *rule,
		      const struct place *device, const struct place *subsystem)
{
	const uint32_t pinned = POLICY_ADDRESS | POLICY_SERIAL | POLICY_PATH;
	const uint32_t model = POLICY_VENDOR | POLICY_DEVICE_ID;
	uint32_t seen = rule->match.attributes;

	if ((seen & pinned) || (rule->verb != POLICY_DEVICE && rule->name != POLICY_NO_NAME))
		return;
	if ((seen & POLICY_DEVICE_ID) && !(seen & POLICY_VENDOR))
		finding_report(parser, POLICY_KIND_WIDE, device,
			       "\"device\" without \"vendor\" matches this id of every vendor");
	if ((seen & POLICY_SUBSYSTEM_DEVICE) && !(seen & POLICY_SUBSYSTEM_VENDOR) &&
	    (seen & model) != model)
		finding_report(parser, POLICY_KIND_WIDE, subsystem,
			       "\"subsystem-device\" without \"subsystem-vendor\" matches this id "
			       "of every vendor");
}

/* `any`, which stands for all devices. */
static void parse_any(struct policy_parser *parser, const struct policy_rule *rule)
{
	const struct place place = finding_place(parser);
	const struct word *word;

	next(parser);
	word = here(parser, WORD_OPTION);
	if (rule->verb == POLICY_PREPARE && !(word && word->value == WORD_VFS))
		finding_report(parser, POLICY_KIND_WIDE, &place,
			       "\"prepare any\" takes every device from the host at boot, "
			       "its disks and network too");
}

/* A device name in place of attributes, or among them. */
static bool parse_use(struct policy_parser *parser, struct policy_rule *rule)
{
	const struct place place = finding_place(parser);
	struct name *name = keep_device_name(parser);

	if (!name || !keep_use(parser, name, &place))
		return false;
	name->used = true;
	rule->name = name->index;
	next(parser);
	return true;
}

/* Returns true if the current word can be the name of a device that the rule is about. */
static bool is_use(const struct policy_parser *parser, const struct policy_rule *rule)
{
	return rule->verb != POLICY_DEVICE && rule->name == POLICY_NO_NAME &&
	       parser->token.kind == TOKEN_WORD && words_is_name(parser->token.text);
}

static bool is_pair(const struct policy_parser *parser)
{
	return parser->token.kind == TOKEN_WORD && value_is_pair(parser->token.text);
}

/*
 * `any`, or attributes, and among these a device name unless the statement defines one. Stops at
 * the first other word; *ret_kinds are the kinds that could have followed.
 */
static bool parse_what(struct policy_parser *parser, struct policy_rule *rule,
		       unsigned int *ret_kinds)
{
	struct place device = { 0 }, subsystem = { 0 };
	const struct word *word;
	uint32_t seen = 0;

	*ret_kinds = 0;
	if (here(parser, WORD_ANY)) {
		parse_any(parser, rule);
		return true;
	}
	while ((word = here(parser, WORD_ATTRIBUTE)) || is_use(parser, rule) || is_pair(parser)) {
		if (is_pair(parser)) {
			if (!parse_pair(parser, &seen, rule))
				return false;
			continue;
		}
		if (!word) {
			if (!parse_use(parser, rule))
				return false;
			continue;
		}
		/* Only a device that keeps its host driver has parts, so none can be prepared. */
		if (word->value == POLICY_PROFILE && rule->verb == POLICY_PREPARE)
			return finding_expected(parser,
						"an attribute of the device whole, since no part "
						"of it can be prepared",
						0);
		if (word->value == POLICY_DEVICE_ID)
			device = finding_place(parser);
		if (word->value == POLICY_SUBSYSTEM_DEVICE)
			subsystem = finding_place(parser);
		if (!parse_value(parser, word, &seen, rule))
			return false;
	}
	if (!seen && (rule->verb == POLICY_DEVICE || rule->name == POLICY_NO_NAME)) {
		char list[128], what[256];

		words_list(WORD_ATTRIBUTE, list, sizeof(list));
		snprintf(what, sizeof(what), "%sattributes (%s) or any",
			 rule->verb == POLICY_DEVICE ? "" : "a device name, ", list);
		return finding_expected(parser, what, WORD_ATTRIBUTE | WORD_ANY);
	}
	rule->match.attributes = seen;
	warn_wide(parser, rule, &device, &subsystem);
	*ret_kinds = WORD_ATTRIBUTE;
	return true;
}

/* The current word if it is one of these kinds, or one with its value, as "kill=30s"; else NULL. */
static const struct word *here_with_value(const struct policy_parser *parser, unsigned int kinds)
{
	const struct word *word = here(parser, kinds);
	const char *text = parser->token.text, *equals = strchr(text, '=');
	char cut[POLICY_NAME_MAX];

	if (word || parser->token.kind != TOKEN_WORD || !equals ||
	    equals - text >= (ptrdiff_t)sizeof(cut))
		return word;
	memcpy(cut, text, (size_t)(equals - text));
	cut[equals - text] = '\0';
	word = words_find(kinds, cut);
	return word && word->optional ? word : NULL;
}

/* Parses limits, then the end of the line. `kinds` are those that could have been here instead. */
static bool parse_rest(struct policy_parser *parser, unsigned int kinds, struct policy_rule *rule)
{
	unsigned int own = rule->verb == POLICY_ALLOW	  ? WORD_LIMIT
			   : rule->verb == POLICY_PREPARE ? WORD_OPTION
							  : 0;
	char attributes[128], limits[128], what[384];
	const struct word *word;
	uint32_t seen = 0;

	while ((word = here_with_value(parser, own))) {
		kinds = 0;
		if (!parse_value(parser, word, &seen, rule))
			return false;
	}
	if (parser->token.kind == TOKEN_END && rule->kill && !rule->lifetime)
		return finding_expected(parser,
					"for and a time: without it a lease has no end at which "
					"its processes could be killed",
					WORD_LIMIT);
	if (parser->token.kind == TOKEN_END && !rule->vfs &&
	    (rule->vf_exec_quantum_ms || rule->vf_preempt_timeout_us))
		return finding_expected(parser,
					"vfs and a number: without it there are no virtual "
					"functions that could have a quota",
					WORD_OPTION);
	if (parser->token.kind == TOKEN_END)
		return true;
	if (here(parser, WORD_LIMIT)) {
		snprintf(what, sizeof(what), "%sthe end of the line, since only allow has limits",
			 own && !seen
				 ? "an option (vfs, vf-exec-quantum-ms, vf-preempt-timeout-us or "
				   "vfio-driver) or "
				 : "");
		return finding_expected(parser, what, 0);
	}

	words_list(WORD_ATTRIBUTE, attributes, sizeof(attributes));
	words_list(own, limits, sizeof(limits));
	snprintf(what, sizeof(what), "%s%s%s%s%s%sthe end of the line",
		 kinds ? "an attribute (" : "", kinds ? attributes : "", kinds ? ") or " : "",
		 own == WORD_LIMIT    ? "a limit ("
		 : own == WORD_OPTION ? "an option ("
				      : "",
		 limits, own ? ") or " : "");
	return finding_expected(parser, what, kinds | own);
}

/* device NAME ATTRIBUTES */
static bool parse_device(struct policy_parser *parser, struct policy_rule *rule)
{
	struct name *name;

	if (parser->token.kind == TOKEN_WORD && words_find(WORD_RESERVED, parser->token.text))
		return finding_expected(parser, "a device name that is not a word of the language",
					0);
	if (parser->token.kind != TOKEN_WORD || !words_is_name(parser->token.text))
		return finding_expected(parser, NAME_RULE, 0);

	name = keep_device_name(parser);
	if (!name)
		return false;
	/* Defined even if the rest is a mistake: that one is enough, without one for every use. */
	if (!name->defined)
		name->place = finding_place(parser);
	name->defined = true;
	rule->name = name->index;
	next(parser);
	return true;
}

/* allow WHO claim WHAT, deny WHO claim WHAT: up to WHAT */
static bool parse_grant(struct policy_parser *parser, struct policy_rule *rule)
{
	if (!parse_who(parser, rule))
		return false;
	if (!here(parser, WORD_CLAIM))
		return finding_expected(parser, "claim", WORD_CLAIM);
	next(parser);
	return true;
}

bool statement_parse(struct policy_parser *parser)
{
	const struct word *word = here(parser, WORD_STATEMENT);
	struct place place = finding_place(parser);
	struct policy_rule rule = {
		.name = POLICY_NO_NAME,
		.match = { POLICY_MATCH_NO_TEXTS },
		.vfio_driver = POLICY_NO_TEXT,
		.file = (uint32_t)parser->policy.n_files - 1,
		.line = place.number,
		.column = place.column,
	};
	unsigned int kinds = 0;
	char list[128];

	if (!word) {
		words_list(WORD_STATEMENT, list, sizeof(list));
		return finding_expected(parser, list, WORD_STATEMENT);
	}
	rule.verb = word->value;
	next(parser);

	if (rule.verb == POLICY_DEVICE && !parse_device(parser, &rule))
		return false;
	if ((rule.verb == POLICY_ALLOW || rule.verb == POLICY_DENY) && !parse_grant(parser, &rule))
		return false;
	return parse_what(parser, &rule, &kinds) && parse_rest(parser, kinds, &rule) &&
	       keep_rule(parser, &rule, &place);
}
