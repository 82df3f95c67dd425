/* SPDX-License-Identifier: MIT */
/* The options of a command, see arguments.h. */
#include "config.h"

#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/help.h"
#include "client/command/refused.h"
#include "client/common/nearness.h"
#include "client/common/util.h"

#include <stdbool.h>
#include <string.h>

#define OPTIONS_MAX 16
#define HELP 0x4000 /* no character, so that no command has it */

/*
 * Returns true if --json is among the arguments, before one that ends them: then what is wrong with
 * others is JSON too.
 */
static bool asks_for_json(int argc, char **argv, const struct option *options)
{
	bool has = false;

	for (; options->name && !has; options++)
		has = !strcmp(options->name, "json");
	for (int i = 1; has && i < argc && strcmp(argv[i], "--") != 0; i++)
		if (!strcmp(argv[i], "--json"))
			return true;
	return false;
}

/* Copies the options of a command to `out`, with --help behind them. Returns how many there are. */
static size_t with_help(const struct option *options, struct option out[OPTIONS_MAX + 2])
{
	size_t n = 0;

	for (; options[n].name && n < OPTIONS_MAX; n++)
		out[n] = options[n];
	out[n++] = (struct option){ "help", no_argument, NULL, HELP };
	out[n] = (struct option){ 0 };
	return n;
}

static const char *option_name(const struct option *options, int value)
{
	for (; options->name; options++)
		if (options->val == value)
			return options->name;
	return "";
}

/* The names that other programs have for it. */
static const struct {
	const char *given, *meant;
} foreign[] = {
	{ "device", "gpu" },	    { "dev", "gpu" },	     { "card", "gpu" },
	{ "pci", "gpu" },	    { "host", "gpu" },	     { "timeout", "wait" },
	{ "hugepages", "memlock" }, { "ulimit", "memlock" },
};

/*
 * Finds the option that was meant by `given`, which stands without its hyphens: the nearest, or the
 * first that begins alike. NULL: none.
 */
static const char *option_meant(const char *given, const struct option *options, size_t n)
{
	const char *names[OPTIONS_MAX + 1];
	const char *near;

	for (size_t i = 0; i < n; i++)
		names[i] = options[i].name;
	near = nearness_best(given, names, n);
	for (size_t k = 0; !near && k < ARRAY_SIZE(foreign); k++)
		for (size_t i = 0; !strcmp(given, foreign[k].given) && i < n; i++)
			if (!strcmp(names[i], foreign[k].meant))
				near = names[i];
	for (size_t i = 0; *given && !near && i < n; i++)
		if (!strncmp(names[i], given, strlen(given)) ||
		    !strncmp(names[i], given, strlen(names[i])))
			near = names[i];
	return near;
}

/* Says that there is no such option, or that it may be several. */
static int say_unknown(const struct arguments *arguments, const char *given,
		       const struct option *options, size_t n)
{
	char name[64];
	const char *near, *bare = given + strspn(given, "-");

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(bare, "="), bare);
	near = option_meant(name, options, n);
	if (near)
		cli_error("%s has no option '%s'; did you mean '--%s'? See 'gpubroker %s --help'",
			  arguments->command, given, near, arguments->command);
	else
		cli_error("%s has no option '%s'; 'gpubroker %s --help' shows those it has",
			  arguments->command, given, arguments->command);
	return EXIT_BAD_USAGE;
}

/* Says why getopt_long() has returned c. */
static int say_wrong(const struct arguments *arguments, int c, char **argv,
		     const struct option *options, size_t n)
{
	const char *given = argv[optind - 1];
	char letter[] = { '-', (char)optopt, '\0' };

	if (c == ':') {
		cli_error("%s: --%s needs a value; 'gpubroker %s --help' has an example",
			  arguments->command, option_name(options, optopt), arguments->command);
		return EXIT_BAD_USAGE;
	}
	if (!strncmp(given, "--", 2) && strchr(given, '=') && optopt) {
		cli_error("%s: --%s takes no value", arguments->command,
			  option_name(options, optopt));
		return EXIT_BAD_USAGE;
	}
	return say_unknown(arguments, optopt ? letter : given, options, n);
}

/* Returns true for an option that must have a value, where the next option was taken for it. */
static bool took_option(const struct option *options, int value)
{
	for (; options->name; options++)
		if (options->val == value)
			return options->has_arg == required_argument && !strncmp(optarg, "--", 2);
	return false;
}

int arguments_next(struct arguments *arguments, int argc, char **argv, const struct option *options)
{
	struct option all[OPTIONS_MAX + 2];
	size_t n = with_help(options, all);
	char letters[8];
	int c;

	if (asks_for_json(argc, argv, options))
		refused_begin_json();
	snprintf(letters, sizeof(letters), "%s:h", arguments->mode);
	opterr = 0;
	optopt = 0;
	c = getopt_long(argc, argv, letters, all, NULL);
	if (c == -1)
		return ARGUMENTS_END;
	if (c == 'h' || c == HELP) {
		help_print(stdout, arguments->command);
		arguments->status = cli_finish_output();
		return ARGUMENTS_STOP;
	}
	if (c != '?' && c != ':' && !took_option(all, c))
		return c;
	if (c != '?' && c != ':') {
		optopt = c;
		c = ':';
	}
	arguments->status = say_wrong(arguments, c, argv, all, n);
	return ARGUMENTS_STOP;
}

bool arguments_only_json(struct arguments *arguments, int argc, char **argv,
			 const struct option *options)
{
	int c;

	while ((c = arguments_next(arguments, argc, argv, options)) != ARGUMENTS_END)
		if (c == ARGUMENTS_STOP)
			return true;
	return false;
}
