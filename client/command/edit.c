/* SPDX-License-Identifier: MIT */
/*
 * gpubroker policy edit and add: change one file of the policy as visudo changes sudoers. The
 * draft is checked first, together with the other files; the file is there whole, with the mode
 * that the loader needs, or as it was; and the broker's verdict is awaited. It must never leave a
 * file in the policy with a mistake that it has made.
 */
#include "config.h"

#include "client/command/policy.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/policy-sources.h"
#include "client/common/address.h"
#include "client/common/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DIRECTORY_OF_POLICY GPUBROKER_POLICY_DIR
#define DEFAULT_FILE "50-local.policy"
#define MOST_BYTES (1 << 20)

/* A draft of a policy file, in a directory of its own, which the loader does not read. */
struct draft {
	char directory[64];
	char path[PATH_MAX];
	char target[PATH_MAX];
};

static int say_cannot_write(const char *path, int error)
{
	cli_error("cannot write %s: %s", path, strerror(error));
	return EXIT_CANNOT_CREATE;
}

static int take_root(const char *command)
{
	if (!geteuid())
		return 0;
	cli_error("%s takes root: it changes what others may claim", command);
	return EXIT_POLICY;
}

/* ---- the draft ---- */

/* A name, with or without .policy, or the path of a file in the directory. */
static int name_file(const char *given, char out[PATH_MAX])
{
	const size_t n = strlen(given), ending = strlen(".policy");
	const char *slash = strrchr(given, '/');

	if (slash && (strlen(DIRECTORY_OF_POLICY) != (size_t)(slash - given) ||
		      strncmp(given, DIRECTORY_OF_POLICY, (size_t)(slash - given)) != 0)) {
		cli_error("%s is not in " DIRECTORY_OF_POLICY ", where the policy is", given);
		return EXIT_BAD_USAGE;
	}
	given = slash ? slash + 1 : given;
	if (!*given || *given == '.' || n > 200) {
		cli_error("'%s' is no name of a policy file; give one as alice or 50-alice.policy",
			  given);
		return EXIT_BAD_USAGE;
	}
	snprintf(out, PATH_MAX, DIRECTORY_OF_POLICY "/%s%s", given,
		 n > ending && !strcmp(given + strlen(given) - ending, ".policy") ? "" : ".policy");
	return 0;
}

static void draft_done(const struct draft *draft)
{
	const struct dirent *entry;
	DIR *dir;

	if (!draft->directory[0])
		return;
	/* An editor may have left more than the draft there. */
	dir = opendir(draft->directory);
	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(draft->directory);
}

static int write_text(int fd, const char *text, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, text, n);

		if (done < 0 && errno != EINTR)
			return errno;
		if (done > 0) {
			text += done;
			n -= (size_t)done;
		}
	}
	return 0;
}

/* Reads a file, which need not be there. The text is the caller's. 0, or an errno. */
static int read_text(const char *path, char **ret_text)
{
	cleanup_free char *text = calloc(1, MOST_BYTES + 1);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = 1;

	if (!text)
		return ENOMEM;
	if (fd < 0 && errno != ENOENT)
		return errno;
	for (size_t len = 0; fd >= 0 && n > 0; len += (size_t)n) {
		n = read(fd, text + len, MOST_BYTES - len);
		if (n < 0)
			return errno;
		if (len + (size_t)n == MOST_BYTES)
			return EFBIG;
	}
	*ret_text = TAKE_PTR(text);
	return 0;
}

/* Makes a draft with that text, for the file. 0, or an exit status. */
static int draft_new(const char *target, const char *text, struct draft *ret_draft)
{
	cleanup_fd int fd = -1;
	int r;

	*ret_draft = (struct draft){ 0 };
	if (mkdir("/etc/gpubroker", 0755) && errno != EEXIST)
		return say_cannot_write("/etc/gpubroker", errno);
	if (mkdir(DIRECTORY_OF_POLICY, 0755) && errno != EEXIST)
		return say_cannot_write(DIRECTORY_OF_POLICY, errno);
	/* On the file system of the policy, so that the draft can be renamed. */
	strcpy(ret_draft->directory, "/etc/gpubroker/edit.XXXXXX");
	if (!mkdtemp(ret_draft->directory)) {
		ret_draft->directory[0] = '\0';
		return say_cannot_write("/etc/gpubroker", errno);
	}
	snprintf(ret_draft->target, sizeof(ret_draft->target), "%s", target);
	snprintf(ret_draft->path, sizeof(ret_draft->path), "%s%s", ret_draft->directory,
		 strrchr(target, '/'));
	fd = open(ret_draft->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	r = fd < 0 ? errno : write_text(fd, text, strlen(text));
	if (!r && fchmod(fd, 0644))
		r = errno;
	return r ? say_cannot_write(ret_draft->path, r) : 0;
}

/* Prints what is wrong with the draft. Returns the number of mistakes, or -errno. */
static int draft_check(const struct draft *draft)
{
	const char *const files[] = { draft->path };
	struct policy_report report = { 0 };
	struct policy_sources sources;
	struct policy policy = { 0 };
	int r;

	policy_sources_init(&sources);
	r = policy_sources_load(&sources, files, 1, &report, &policy);
	if (!r)
		policy_done(&policy);
	fflush(stdout);
	return r < 0 ? r : (int)report.mistakes;
}

/* Puts the draft in the file's place, and has the broker read it. */
static int draft_install(const struct cli *cli, const struct draft *draft)
{
	cleanup_fd int fd = open(draft->path, O_RDONLY | O_CLOEXEC);

	/* An editor may have made it anew, with another mode. */
	if (fd < 0 || fchown(fd, 0, 0) || fchmod(fd, 0644) || fsync(fd) ||
	    rename(draft->path, draft->target))
		return say_cannot_write(draft->target, errno);
	printf("%s: written\n", draft->target);
	fflush(stdout);
	return policy_reload_now(cli);
}

/* ---- edit ---- */

static int run_editor(const char *path)
{
	const char *editor = getenv("VISUAL");
	cleanup_free char *command = NULL;
	int status;
	pid_t pid;

	if (!editor || !*editor)
		editor = getenv("EDITOR");
	if (!editor || !*editor)
		editor = access("/usr/bin/editor", X_OK) ? "vi" : "editor";
	/* As everybody does it: the variable may have arguments. */
	if (asprintf(&command, "%s \"$1\"", editor) < 0)
		return EXIT_SOFTWARE;
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return EXIT_SOFTWARE;
	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, "sh", path, (char *)NULL);
		_exit(EXIT_NOT_FOUND);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_SOFTWARE;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	cli_error("the editor '%s' failed; nothing was changed", editor);
	return EXIT_SOFTWARE;
}

/* Asks whether to edit again. False: the draft is thrown away, or there is nobody to ask. */
static bool ask_again(void)
{
	char answer[16] = "";

	if (!isatty(STDIN_FILENO))
		return false;
	for (;;) {
		fputs("Edit again (e), or leave the policy as it was (x)? ", stdout);
		fflush(stdout);
		if (!fgets(answer, sizeof(answer), stdin) || answer[0] == 'x')
			return false;
		if (answer[0] == 'e')
			return true;
	}
}

static int edit_file(const struct cli *cli, const char *target, struct draft *draft)
{
	cleanup_free char *before = NULL, *after = NULL;
	int r = read_text(target, &before), mistakes;

	if (r) {
		cli_error("cannot read %s: %s", target, strerror(r));
		return EXIT_SOFTWARE;
	}
	r = draft_new(target,
		      *before ? before
			      : "# See gpubroker.policy(5). For example:\n"
				"# allow user alice claim address 01:00.0 memlock 20G\n",
		      draft);
	if (r)
		return r;
	do {
		r = run_editor(draft->path);
		if (r)
			return r;
		mistakes = draft_check(draft);
	} while (mistakes && ask_again());
	if (mistakes) {
		cli_error("%s was left as it was", target);
		return EXIT_BAD_POLICY;
	}
	if (!read_text(draft->path, &after) && !strcmp(before, after)) {
		printf("%s: not changed\n", target);
		return cli_finish_output();
	}
	return draft_install(cli, draft);
}

int policy_edit(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { NULL, 0, NULL, 0 } };
	struct arguments arguments = { .command = "policy edit", .mode = "" };
	struct draft draft = { 0 };
	char target[PATH_MAX];
	int r;

	if (arguments_next(&arguments, argc, argv, options) != ARGUMENTS_END)
		return arguments.status;
	if (argc - optind > 1) {
		cli_error("policy edit takes one FILE, and '%s' is another", argv[optind + 1]);
		return EXIT_BAD_USAGE;
	}
	r = name_file(optind < argc ? argv[optind] : DEFAULT_FILE, target);
	if (!r)
		r = take_root("policy edit");
	if (!r)
		r = edit_file(cli, target, &draft);
	draft_done(&draft);
	return r;
}

/* ---- add ---- */

struct rule_asked {
	const char *who, *name; /* "user", "alice" */
	const char *file;
	char limits[96];
};

/* Adds " memlock 20G" and the like; the policy's parser checks the value. */
static int add_limit(struct rule_asked *rule, const char *word, const char *value)
{
	const size_t n = strlen(rule->limits);

	if (strlen(value) > 24 || n + strlen(word) + strlen(value) + 3 > sizeof(rule->limits)) {
		cli_error("--%s '%s' is too long", word, value);
		return EXIT_BAD_USAGE;
	}
	snprintf(rule->limits + n, sizeof(rule->limits) - n, " %s %s", word, value);
	return 0;
}

static int set_subject(struct rule_asked *rule, const char *who, const char *name)
{
	if (rule->who) {
		cli_error(
			"a rule is for one --user or one --group; call 'policy add' once for each");
		return EXIT_BAD_USAGE;
	}
	rule->who = who;
	rule->name = name;
	return 0;
}

static int add_options(int argc, char **argv, struct rule_asked *rule)
{
	static const struct option options[] = {
		{ "user", required_argument, NULL, 'u' },
		{ "group", required_argument, NULL, 'g' },
		{ "memlock", required_argument, NULL, 'm' },
		{ "limit", required_argument, NULL, 'l' },
		{ "for", required_argument, NULL, 'f' },
		{ "file", required_argument, NULL, 'F' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "policy add", .mode = "" };
	int c, r = 0;

	while (!r && (c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		if (c == 'u' || c == 'g')
			r = set_subject(rule, c == 'u' ? "user" : "group", optarg);
		else if (c == 'F')
			rule->file = optarg;
		else
			r = add_limit(rule,
				      c == 'm'	 ? "memlock"
				      : c == 'l' ? "limit"
						 : "for",
				      optarg);
	}
	return r ? r : ARGUMENTS_END;
}

/* Writes the statement. The parser judges it: here only its words are put together. */
static int make_statement(const struct rule_asked *rule, const char *device, char **ret_text)
{
	struct pci_address address;
	const char *kind = "";

	if (!pci_address_parse(device, &address))
		kind = "address ";
	else if (strspn(device, "0123456789abcdefABCDEF") == 4 && device[4] == ':')
		kind = "device "; /* a pair of ids */
	if (strpbrk(device, " \t\n#\"") || strpbrk(rule->name, " \t\n#")) {
		cli_error("'%s' or '%s' has a character that a policy cannot have", rule->name,
			  device);
		return EXIT_BAD_USAGE;
	}
	if (asprintf(ret_text, "allow %s %s claim %s%s%s\n", rule->who, rule->name, kind, device,
		     rule->limits) < 0) {
		*ret_text = NULL;
		return EXIT_SOFTWARE;
	}
	return 0;
}

static int add_statement(const struct cli *cli, const char *target, const char *statement,
			 struct draft *draft)
{
	cleanup_free char *before = NULL, *after = NULL;
	int r = read_text(target, &before), mistakes;
	const char *there;

	if (r) {
		cli_error("cannot read %s: %s", target, strerror(r));
		return EXIT_SOFTWARE;
	}
	there = strstr(before, statement);
	if (there && (there == before || there[-1] == '\n')) {
		printf("%s has that rule already\n", target);
		fflush(stdout);
		return policy_reload_now(cli);
	}
	if (asprintf(&after, "%s%s%s", before,
		     *before && before[strlen(before) - 1] != '\n' ? "\n" : "", statement) < 0) {
		after = NULL;
		return EXIT_SOFTWARE;
	}
	r = draft_new(target, after, draft);
	if (r)
		return r;
	mistakes = draft_check(draft);
	if (mistakes) {
		cli_error("the rule was not added");
		return EXIT_BAD_POLICY;
	}
	printf("added: %s", statement);
	return draft_install(cli, draft);
}

int policy_add(const struct cli *cli, int argc, char **argv)
{
	struct rule_asked rule = { .file = DEFAULT_FILE };
	cleanup_free char *statement = NULL;
	struct draft draft = { 0 };
	char target[PATH_MAX];
	int r = add_options(argc, argv, &rule);

	if (r != ARGUMENTS_END)
		return r;
	if (!rule.who || argc - optind != 1) {
		cli_error("policy add needs --user USER or --group GROUP, and one DEVICE, as in: "
			  "gpubroker policy add --user alice 01:00.0 --memlock 20G");
		return EXIT_BAD_USAGE;
	}
	r = name_file(rule.file, target);
	if (!r)
		r = make_statement(&rule, argv[optind], &statement);
	if (!r)
		r = take_root("policy add");
	if (!r)
		r = add_statement(cli, target, statement, &draft);
	draft_done(&draft);
	return r;
}
