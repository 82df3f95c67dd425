/* SPDX-License-Identifier: MIT */
/*
 * gpubroker policy edit and add: change one file of the policy as visudo changes sudoers. The
 * draft is checked first, together with the other files; the file is there whole, with the mode
 * that the loader needs, or as it was; and the broker's verdict is awaited. It must never leave a
 * file in the policy with a mistake that it has made.
 */
#include "config.h"

#include "client/command/policy.h"
#include "client/command/account.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/policy-sources.h"
#include "client/common/address.h"
#include "client/common/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DIRECTORY_OF_POLICY GPUBROKER_POLICY_DIR
#define DRAFTS "/etc/gpubroker"
/*
 * Not the directory: every user may open that, and who may open a file can keep it locked. It goes
 * with the boot.
 */
#define LOCK_OF_POLICY "/run/gpubroker-policy-edit.lock"
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

/* Removes a draft's directory, with whatever an editor has left there beside the draft. */
static void remove_draft(const char *directory)
{
	DIR *dir = opendir(directory);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (unlinkat(dirfd(dir), entry->d_name, 0))
			unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
	if (dir)
		closedir(dir);
	rmdir(directory);
}

/*
 * Makes a directory that every user may read, whatever the umask, unless it is there. 0 or an
 * errno.
 */
static int make_directory(const char *path)
{
	if (mkdir(path, 0755))
		return errno == EEXIST ? 0 : errno;
	return chmod(path, 0755) ? errno : 0;
}

/* Removes drafts that an editor, or a command that was killed, has left. The lock is held. */
static void remove_old_drafts(void)
{
	const struct dirent *entry;
	DIR *top = opendir(DRAFTS);

	while (top && (entry = readdir(top))) {
		char path[PATH_MAX];

		if (strncmp(entry->d_name, "edit.", 5) != 0)
			continue;
		snprintf(path, sizeof(path), DRAFTS "/%s", entry->d_name);
		remove_draft(path);
	}
	if (top)
		closedir(top);
}

/*
 * Makes sure that nobody else changes the policy by these commands meanwhile: two changes of a file
 * at once would lose one. Returns the lock, or -1 after saying why not.
 */
static int lock_policy(void)
{
	cleanup_fd int fd = -1;
	int r = make_directory(DRAFTS);

	if (!r)
		r = make_directory(DIRECTORY_OF_POLICY);
	if (r) {
		say_cannot_write(DIRECTORY_OF_POLICY, r);
		return -1;
	}
	fd = open(LOCK_OF_POLICY, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB)) {
		if (fd >= 0 && errno == EWOULDBLOCK)
			cli_error("somebody else is changing the policy by 'gpubroker policy "
				  "edit' or 'add'; try again");
		else
			say_cannot_write(LOCK_OF_POLICY, errno);
		return -1;
	}
	remove_old_drafts();
	return TAKE_FD(fd);
}

/* ---- the draft ---- */

/*
 * Returns true for what the policy's language takes as one word, whatever it means there: so nobody
 * who may pass a value on can write a second statement, or a comment.
 */
static bool is_word(const char *text)
{
	if (!*text)
		return false;
	for (; *text; text++)
		if (*text <= ' ' || *text >= 0x7f || *text == '#' || *text == '"')
			return false;
	return true;
}

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
	if (!is_word(given) || *given == '.' || n > 200) {
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
	if (draft->directory[0])
		remove_draft(draft->directory);
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

/*
 * Prints what is wrong with the draft, or with other files because of it. Returns the number of
 * mistakes, or -errno.
 */
static int draft_check(const struct draft *draft)
{
	const char *const files[] = { draft->path };
	/* The draft is gone when the user looks for what is named. */
	struct policy_report report = { .shown = draft->target };
	struct policy_sources sources;
	struct policy policy = { 0 };
	int r;

	policy_sources_init(&sources);
	r = policy_sources_check(&sources, files, 1, &report, &policy);
	if (!r)
		policy_done(&policy);
	fflush(stdout);
	if (r < 0)
		cli_error("the draft cannot be checked: %s", strerror(-r));
	return r < 0 ? r : (int)(report.mistakes + report.caused);
}

/* Puts the draft in the file's place, and has the broker read it. */
static int draft_install(const struct cli *cli, const struct draft *draft)
{
	cleanup_fd int fd = open(draft->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

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
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	cleanup_free char *command = NULL;
	struct sigaction before[2];
	int status = -1;
	pid_t pid;

	if (!editor || !*editor)
		editor = getenv("EDITOR");
	if (!editor || !*editor)
		editor = access("/usr/bin/editor", X_OK) ? "vi" : "editor";
	/* As everybody does it: the variable may have arguments. */
	if (asprintf(&command, "exec %s \"$1\"", editor) < 0)
		return EXIT_SOFTWARE;
	fflush(stdout);
	/* They are the editor's, as with system(3): ^C in one must not end this. */
	sigaction(SIGINT, &ignore, &before[0]);
	sigaction(SIGQUIT, &ignore, &before[1]);
	pid = fork();
	if (!pid) {
		sigaction(SIGINT, &before[0], NULL);
		sigaction(SIGQUIT, &before[1], NULL);
		execl("/bin/sh", "sh", "-c", command, "sh", path, (char *)NULL);
		_exit(EXIT_NOT_FOUND);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	sigaction(SIGINT, &before[0], NULL);
	sigaction(SIGQUIT, &before[1], NULL);
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

/*
 * Reads the file that is to be changed; "" if there is none. A file of the package with that name
 * would not be read any more: an edit begins with its text, and a rule is not added beside it. 0 or
 * an exit status.
 */
static int read_before(const char *target, bool edit, char **ret_text)
{
	char vendor[PATH_MAX];
	int r = read_text(target, ret_text);

	if (r) {
		cli_error("cannot read %s: %s", target,
			  r == ELOOP
				  ? "it is a symbolic link, which may mask a file of the package; "
				    "remove it first"
				  : strerror(r));
		return EXIT_SOFTWARE;
	}
	snprintf(vendor, sizeof(vendor), GPUBROKER_VENDOR_POLICY_DIR "%s", strrchr(target, '/'));
	if (**ret_text || access(target, F_OK) == 0 || access(vendor, F_OK) != 0)
		return 0;
	if (!edit) {
		cli_error("%s is a file of the package, and %s would hide it; give another --file",
			  vendor, target);
		return EXIT_BAD_USAGE;
	}
	free(*ret_text);
	*ret_text = NULL;
	r = read_text(vendor, ret_text);
	if (r) {
		cli_error("cannot read %s: %s", vendor, strerror(r));
		return EXIT_SOFTWARE;
	}
	printf("This begins with the text of %s, which the new file hides.\n", vendor);
	return 0;
}

static int edit_file(const struct cli *cli, const char *target, struct draft *draft)
{
	cleanup_free char *before = NULL, *after = NULL;
	struct stat st;
	int r = read_before(target, true, &before), mistakes;

	if (r)
		return r;
	if (!*before) {
		free(before);
		before = strdup("# See gpubroker.policy(5). For example:\n"
				"# allow user alice claim address 01:00.0 memlock 20G\n");
	}
	r = before ? draft_new(target, before, draft) : EXIT_SOFTWARE;
	if (r)
		return r;
	do {
		r = run_editor(draft->path);
		if (r)
			return r;
		if (lstat(draft->path, &st) || !S_ISREG(st.st_mode)) {
			cli_error("the editor has left no file; nothing was changed");
			return EXIT_SOFTWARE;
		}
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
	cleanup_fd int lock = -1;
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
	lock = r ? -1 : lock_policy();
	if (!r)
		r = lock < 0 ? EXIT_CANNOT_CREATE : edit_file(cli, target, &draft);
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

	if (!is_word(value)) {
		cli_error("--%s '%s' is no value: it has a blank, or a character that a policy "
			  "cannot have",
			  word, value);
		return EXIT_BAD_USAGE;
	}
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
	if (!is_word(device) || !is_word(rule->name)) {
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
	int r = read_before(target, false, &before), mistakes;
	const char *there;

	if (r)
		return r;
	there = strstr(before, statement);
	while (there && there != before && there[-1] != '\n')
		there = strstr(there + 1, statement);
	if (there) {
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
	return draft_install(cli, draft);
}

int policy_add(const struct cli *cli, int argc, char **argv)
{
	struct rule_asked rule = { .file = DEFAULT_FILE };
	cleanup_free char *statement = NULL;
	cleanup_fd int lock = -1;
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
		r = account_check_name(!strcmp(rule.who, "group"), rule.name);
	if (!r)
		r = take_root("policy add");
	lock = r ? -1 : lock_policy();
	if (!r)
		r = lock < 0 ? EXIT_CANNOT_CREATE : add_statement(cli, target, statement, &draft);
	draft_done(&draft);
	return r;
}
