/* SPDX-License-Identifier: MIT */
/*
 * gpubroker policy install: turns the prepare rules of the policy into a file of udev rules, so
 * that they hold from the next boot on, before the daemon runs. It must never leave half a file,
 * nor change anything for a policy with a mistake.
 */
#include "config.h"

#include "client/command/policy.h"
#include "client/command/cli.h"
#include "client/command/policy-sources.h"
#include "client/host/udevrules-host.h"
#include "client/host/udevrules.h"
#include "client/common/util.h"

#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

static int say_cannot(const char *what, const char *path, int error)
{
	cli_error("cannot %s %s: %s%s", what, path, strerror(error),
		  (error == EACCES || error == EPERM) && geteuid() ? "; this takes root" : "");
	return EXIT_CANNOT_CREATE;
}

static int make_parents(char *path)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		int r;

		*p = '\0';
		r = mkdir(path, 0755);
		*p = '/';
		if (r && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/*
 * udevd reads any file whose name ends in .rules, at any time: so the file is there whole or not at
 * all.
 */
static int replace_file(char *path, const char *text)
{
	const size_t n = strlen(text);
	char temporary[PATH_MAX];
	int fd, r = make_parents(path);

	if (r)
		return say_cannot("make the directory of", path, -r);
	if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary))
		return say_cannot("write", path, ENAMETOOLONG);
	fd = mkstemp(temporary);
	if (fd < 0)
		return say_cannot("write", path, errno);
	for (size_t done = 0; done < n && !r;) {
		ssize_t written = write(fd, text + done, n - done);

		if (written >= 0)
			done += (size_t)written;
		else if (errno != EINTR)
			r = errno;
	}
	/* The loader, which is another user, compares with it. */
	if (!r && (fchmod(fd, 0644) || fsync(fd)))
		r = errno;
	if (close(fd) && !r)
		r = errno;
	if (!r && rename(temporary, path))
		r = errno;
	if (r) {
		unlink(temporary);
		return say_cannot("write", path, r);
	}
	printf("%s: written\n", path);
	return 0;
}

static int install_rules(const struct policy *policy, const char *root)
{
	cleanup_free char *text = NULL;
	char path[PATH_MAX];
	int r;

	/* First, since other things may be closed to this user too, but this message helps. */
	if (!*root && geteuid() && access("/etc/udev/rules.d", W_OK) && errno == EACCES)
		return say_cannot("write", UDEVRULES_FILE, EACCES);
	r = udevrules_for_host(policy, !*root, &text);
	if (r == -E2BIG) {
		cli_error(
			"the prepare rules make more than %d MB of udev rules; nothing was changed",
			UDEVRULES_SIZE_MAX >> 20);
		return EXIT_BAD_POLICY;
	}
	if (r) {
		cli_error("the udev rules cannot be made: %s", strerror(-r));
		return EXIT_SOFTWARE;
	}
	if (snprintf(path, sizeof(path), "%s%s", root, UDEVRULES_FILE) >= (int)sizeof(path))
		return say_cannot("write below", root, ENAMETOOLONG);
	if (!*text) {
		if (!unlink(path))
			printf("%s: removed, the policy prepares nothing\n", path);
		else if (errno != ENOENT && errno != ENOTDIR)
			return say_cannot("remove", path, errno);
		return 0;
	}
	return udevrules_compare(path, text) ? replace_file(path, text) : 0;
}

int policy_install(int argc, char **argv)
{
	static const struct option options[] = {
		{ "policy", required_argument, NULL, 'p' },
		{ "root", required_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	struct policy_sources sources;
	struct policy_report report = { .mistakes_only = true }; /* warnings are for `check` */
	struct policy policy = { 0 };
	const char *root = "";
	int c, r;

	policy_sources_init(&sources);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'r')
			root = optarg;
		r = c == 'p' ? policy_sources_add(&sources, optarg) : c == 'r' ? 0 : EXIT_BAD_USAGE;
		if (r)
			return r;
	}
	if (optind != argc) {
		cli_error("policy install takes no arguments, only --policy DIR and --root DIR");
		return EXIT_BAD_USAGE;
	}
	sources.without_accounts = true; /* prepare rules concern no user, and this is root */
	r = policy_sources_load(&sources, NULL, 0, &report, &policy);
	if (r) {
		if (r < 0)
			cli_error("the policy cannot be read: %s; nothing was changed",
				  strerror(-r));
		else
			cli_error("the policy has %d mistake%s: nothing was changed", r,
				  r == 1 ? "" : "s");
		cli_finish_output();
		return r < 0 ? EXIT_SOFTWARE : EXIT_BAD_POLICY;
	}
	r = install_rules(&policy, root);
	policy_done(&policy);
	c = cli_finish_output();
	return r ? r : c;
}
