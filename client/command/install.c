/* SPDX-License-Identifier: MIT */
/*
 * gpubroker policy install: turns the prepare rules of the policy into a file of udev rules, so
 * that they hold from the next boot on, before the daemon runs. It must never leave half a file,
 * nor change anything for a policy with a mistake.
 */
#include "config.h"

#include "client/command/policy.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/inventory.h"
#include "client/command/policy-save.h"
#include "client/command/policy-sources.h"
#include "client/host/policyfiles.h"
#include "client/host/udevrules-host.h"
#include "client/host/udevrules.h"
#include "client/common/util.h"

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

/* The options of the command line, beside the policy. */
struct install_options {
	const char *root;
	const char *devices; /* another host's list, or NULL */
	bool keep;	     /* what the installed rules say of places */
};

/* Prints that another device is now where the rules were made for one; they leave it alone. */
static void say_moved(const struct places *places, const struct inventory *inventory)
{
	char text[PCI_ADDRESS_TEXT];

	for (size_t i = 0; i < places->n; i++) {
		const struct place *p = &places->list[i];
		const struct function *f = p->seen ? inventory_find(inventory, &p->address) : NULL;

		if (f && (f->vendor != p->vendor || f->device != p->device))
			cli_error("%s is %04x:%04x, and was %04x:%04x when the udev rules were "
				  "made, so they leave it to the host at boot; if the policy "
				  "means it, run 'gpubroker policy install'",
				  pci_address_format(&p->address, text), f->vendor, f->device,
				  p->vendor, p->device);
	}
}

/* Finds out what is where, and what is spared. 0 or an exit status. */
static int look_at_host(const struct policy *policy, const struct install_options *options,
			struct places *ret_places, struct spared *ret_spared)
{
	struct inventory inventory = { 0 };
	struct places kept = { 0 };
	const char *why = NULL;
	int r;

	r = options->devices ? inventory_read_json(options->devices, &inventory, &why)
			     : inventory_read_local(&inventory);
	/* A system that is being built may have no devices. */
	if (r && (options->devices || r != -ENOENT)) {
		cli_error("%s: %s", options->devices ? options->devices : "/sys/bus/pci/devices",
			  why ? why : strerror(-r));
		return options->devices ? EXIT_BAD_POLICY : EXIT_SOFTWARE;
	}
	r = options->keep ? places_read(UDEVRULES_FILE, &kept) : 0;
	if (!r)
		r = places_make(policy, &kept, inventory.functions, inventory.n, ret_places);
	if (!r && options->keep)
		say_moved(ret_places, &inventory);
	if (!r)
		r = spared_find(inventory.functions, inventory.n, ret_spared);
	places_done(&kept);
	inventory_done(&inventory);
	if (r)
		cli_error("the places of devices cannot be found out: %s", strerror(-r));
	return r ? EXIT_SOFTWARE : 0;
}

static int make_rules(const struct policy *policy, const struct install_options *options,
		      char **ret_text)
{
	struct places places = { 0 };
	struct spared spared = { 0 };
	int r = look_at_host(policy, options, &places, &spared);

	if (!r) {
		r = udevrules_for_host(policy, &places, &spared, ret_text);
		if (r == -E2BIG)
			cli_error("the prepare rules make more than %d MB of udev rules; nothing "
				  "was changed",
				  UDEVRULES_SIZE_MAX >> 20);
		else if (r)
			cli_error("the udev rules cannot be made: %s", strerror(-r));
		if (r)
			r = r == -E2BIG ? EXIT_BAD_POLICY : EXIT_SOFTWARE;
	}
	places_done(&places);
	spared_done(&spared);
	return r;
}

static int install_rules(const struct policy *policy, const struct install_options *options)
{
	cleanup_free char *text = NULL;
	const char *root = options->root;
	char path[PATH_MAX];
	int r;

	/* First, since other things may be closed to this user too, but this message helps. */
	if (!*root && geteuid() && access("/etc/udev/rules.d", W_OK) && errno == EACCES)
		return say_cannot("write", UDEVRULES_FILE, EACCES);
	r = make_rules(policy, options, &text);
	if (r)
		return r;
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

/* Saves the policy of this host for a broker that starts while its files have a mistake. */
static void save(const struct policy_sources *sources, const struct install_options *options,
		 const struct policy_texts *texts)
{
	int r;

	if (sources->n_given || *options->root || geteuid())
		return;
	r = policy_save(texts);
	if (r)
		cli_error("the policy cannot be saved in " POLICYFILES_SAVED ": %s; should a later "
			  "one have a mistake, a restart of the broker has none to lend by",
			  strerror(-r));
}

int policy_install(int argc, char **argv)
{
	static const struct option options[] = {
		{ "policy", required_argument, NULL, 'p' },
		{ "root", required_argument, NULL, 'r' },
		{ "devices", required_argument, NULL, 'd' },
		{ "keep", no_argument, NULL, 'k' },
		{ NULL, 0, NULL, 0 },
	};
	struct policy_sources sources;
	struct policy_texts texts = { 0 };
	/* Warnings are for `check`. */
	struct policy_report report = { .mistakes_only = true, .texts = &texts };
	struct policy policy = { 0 };
	struct install_options install = { .root = "" };
	struct arguments arguments = { .command = "policy install", .mode = "" };
	int c, r;

	policy_sources_init(&sources);
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		r = 0;
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		if (c == 'r')
			install.root = optarg;
		else if (c == 'd')
			install.devices = optarg;
		else if (c == 'k')
			install.keep = true;
		else
			r = policy_sources_add(&sources, optarg);
		if (r)
			return r;
	}
	if (optind != argc) {
		cli_error("policy install takes no arguments, only --policy DIR, --root DIR, "
			  "--devices FILE and --keep");
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
		policy_texts_done(&texts);
		return r < 0 ? EXIT_SOFTWARE : EXIT_BAD_POLICY;
	}
	save(&sources, &install, &texts);
	policy_texts_done(&texts);
	r = install_rules(&policy, &install);
	policy_done(&policy);
	c = cli_finish_output();
	return r ? r : c;
}
