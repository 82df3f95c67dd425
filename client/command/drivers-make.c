/* SPDX-License-Identifier: MIT */
/*
 * gpubroker drivers make: builds a bundle, an image of a directory and its manifest, so that the
 * same directory gives the same bytes. The programs that build images are children of the user who
 * calls, and get a copy with fixed times. It must never replace a bundle, nor leave half of one:
 * everything is made in a directory that gets its name last.
 */
#include "config.h"

#include "client/command/drivers.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/common/util.h"
#include "client/host/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define EROFS_UUID "00000000-0000-0000-0000-000000000000"

struct making {
	const char *name, *kernel, *version;
	const char *given;   /* --output */
	char *output;	     /* the same, absolute */
	const char *program; /* that makes the image */
	char *directory;     /* absolute */
	bool iso;
	struct manifest_device devices[MANIFEST_DEVICES_MAX];
	size_t n_devices;
	char stage[PATH_MAX]; /* "": there is none yet */
};

static volatile sig_atomic_t make_interrupted, make_child;

static void on_interrupt(int number)
{
	make_interrupted = number;
	if (make_child)
		kill(make_child, SIGTERM);
}

static int say_errno(const char *path, int error)
{
	cli_error("%s: %s; nothing was made", path, strerror(error));
	return EXIT_CANNOT_CREATE;
}

/* ---- children ---- */

static bool is_in_path(const char *program)
{
	for (const char *at = getenv("PATH"), *end; at && *at; at = *end ? end + 1 : end) {
		char path[PATH_MAX];

		end = strchrnul(at, ':');
		if (snprintf(path, sizeof(path), "%.*s/%s", (int)(end - at), at, program) <
			    (int)sizeof(path) &&
		    !access(path, X_OK))
			return true;
	}
	return false;
}

/* Fixes what the programs would take from their surroundings. 0, or -errno. */
static int set_environment(void)
{
	const char *path = getenv("PATH");
	cleanup_free char *longer = NULL;

	if (asprintf(&longer, "%s:/usr/sbin:/sbin", path ? path : "/usr/bin:/bin") < 0)
		return -ENOMEM;
	return setenv("PATH", longer, 1) || setenv("SOURCE_DATE_EPOCH", "0", 1) ||
			       setenv("TZ", "UTC", 1) || setenv("LC_ALL", "C", 1)
		       ? -errno
		       : 0;
}

/* Runs a program to its end; what it prints goes to standard error. 0, or an exit status. */
static int run_builder(const char *const *argv)
{
	posix_spawn_file_actions_t actions;
	int r, status = 0;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	r = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r) {
		cli_error("%s: %s; nothing was made", argv[0], strerror(r));
		return EXIT_SOFTWARE;
	}
	make_child = pid;
	/* It may have come before the handler knew the child. */
	if (make_interrupted)
		kill(pid, SIGTERM);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	make_child = 0;
	if (make_interrupted) {
		cli_error("interrupted; nothing was made");
		return 128 + make_interrupted;
	}
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	cli_error("%s failed; nothing was made", argv[0]);
	return EXIT_SOFTWARE;
}

static int find_builder(struct making *making)
{
	static const char *const isos[] = { "xorriso", "genisoimage", "mkisofs" };

	if (!making->iso && is_in_path("mkfs.erofs"))
		making->program = "mkfs.erofs";
	for (size_t i = 0; making->iso && !making->program && i < ARRAY_SIZE(isos); i++)
		if (is_in_path(isos[i]))
			making->program = isos[i];
	if (making->program)
		return 0;
	cli_error("%s", making->iso
				? "--iso needs the program xorriso or genisoimage; a package of "
				  "that name has it"
				: "drivers make needs the program mkfs.erofs, of the package "
				  "erofs-utils; nothing was made");
	return EXIT_NOT_FOUND;
}

/* ---- the copy ---- */

static int age_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	const struct timespec times[2] = { { 0, 0 }, { 0, 0 } };

	(void)st;
	(void)type;
	(void)ftw;
	return utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) ? errno : 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	/* A copy may have directories that even their owner must not change. */
	if (type == FTW_D || type == FTW_DNR)
		chmod(path, 0700);
	else
		remove(path);
	return 0;
}

/* Removes a directory with all that is in it. */
static void remove_tree(const char *path)
{
	nftw(path, remove_entry, 16, FTW_PHYS);
	nftw(path, remove_entry, 16, FTW_PHYS | FTW_DEPTH);
}

static bool make_path(const struct making *making, const char *name, char out[PATH_MAX])
{
	return snprintf(out, PATH_MAX, "%s/%s", making->stage, name) < PATH_MAX;
}

/* Writes the devices, a line each. */
static void write_make_devices(FILE *file, const struct making *making)
{
	for (size_t i = 0; i < making->n_devices; i++) {
		char text[MANIFEST_DEVICE_TEXT];

		fprintf(file, "device %s\n", manifest_device_format(&making->devices[i], text));
	}
}

/* Writes what the guest reads. */
static int write_guest_file(const struct making *making, const char *tree)
{
	char path[PATH_MAX + sizeof(DRIVERS_GUEST_FILE) + 1];
	FILE *file;

	snprintf(path, sizeof(path), "%s/" DRIVERS_GUEST_FILE, tree);
	file = fopen(path, "wxe");
	if (!file && errno == EEXIST) {
		cli_error("%s has a file " DRIVERS_GUEST_FILE " already, which the bundle gets of "
			  "its own; remove it; nothing was made",
			  making->directory);
		return EXIT_BAD_USAGE;
	}
	if (!file)
		return say_errno(path, errno);
	fprintf(file, "kernel %s\nversion %s\n", making->kernel, making->version);
	write_make_devices(file, making);
	return fclose(file) ? say_errno(path, errno) : 0;
}

static int make_copy(const struct making *making, char tree[PATH_MAX])
{
	char from[PATH_MAX];
	const char *const argv[] = {
		"cp", "-R", "-P", "--preserve=mode,links", "--", from, tree, NULL,
	};
	int r;

	if (!make_path(making, "tree", tree) ||
	    snprintf(from, sizeof(from), "%s/.", making->directory) >= (int)sizeof(from))
		return say_errno(making->directory, ENAMETOOLONG);
	if (mkdir(tree, 0755))
		return say_errno(tree, errno);
	r = run_builder(argv);
	if (r)
		return r;
	/* It has the mode of the directory now. */
	chmod(tree, 0755);
	r = write_guest_file(making, tree);
	if (r)
		return r;
	r = nftw(tree, age_entry, 16, FTW_PHYS | FTW_DEPTH);
	return r ? say_errno(tree, r < 0 ? errno : r) : 0;
}

/* ---- the image ---- */

#define ISO_SECTOR 2048
#define ISO_FIRST 16  /* the first volume descriptor */
#define ISO_LAST 64   /* there are seldom more than four */
#define ISO_DATES 813 /* four dates of 16 digits and an offset */
#define ISO_DATES_SIZE 68

/* Takes the time at which it was made from an ISO's volume descriptors, ECMA-119, 8.4.26. */
static int fix_iso_dates(const char *path)
{
	static const char date[] = "0000000000000000"; /* not specified */
	cleanup_fd int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned char head[6] = { 0 };

	for (off_t i = ISO_FIRST; fd >= 0 && i < ISO_LAST; i++) {
		if (pread(fd, head, sizeof(head), i * ISO_SECTOR) != sizeof(head) ||
		    memcmp(head + 1, "CD001", 5) != 0 || head[0] == 255)
			break;
		for (off_t at = 0; head[0] < 3 && head[0] && at < ISO_DATES_SIZE;
		     at += (off_t)sizeof(date))
			if (pwrite(fd, date, sizeof(date), i * ISO_SECTOR + ISO_DATES + at) !=
			    sizeof(date))
				return -EIO;
	}
	return fd < 0 ? -errno : 0;
}

static int make_image(const struct making *making, const char *tree, const char *image)
{
	const char *const erofs[] = {
		"mkfs.erofs", "--quiet", "-x-1", "-T0", "-U" EROFS_UUID,
		"--all-root", image,	 tree,	 NULL,
	};
	const char *const xorriso[] = {
		"xorriso", "-as",	  "mkisofs", "-quiet", "-r", "-J", "-joliet-long",
		"-V",	   BUNDLE_SERIAL, "-o",	     image,    tree, NULL,
	};
	/* Without Rock Ridge, in which it would write more times. */
	const char *const genisoimage[] = {
		making->program, "-quiet", "-J",  "-joliet-long", "-iso-level", "3", "-V",
		BUNDLE_SERIAL,	 "-o",	   image, tree,		  NULL,
	};
	int r;

	if (!making->iso)
		return run_builder(erofs);
	r = run_builder(strcmp(making->program, "xorriso") ? genisoimage : xorriso);
	if (r)
		return r;
	r = fix_iso_dates(image);
	return r ? say_errno(image, -r) : 0;
}

/* Adds up the image, and writes the manifest about it. */
static int make_manifest(const struct making *making, const char *image, uint64_t *ret_size)
{
	char path[PATH_MAX], text[SHA256_TEXT];
	uint8_t sum[SHA256_SIZE];
	cleanup_fd int fd = open(image, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	FILE *file;
	int r;

	if (fd < 0 || fchmod(fd, 0644) || fsync(fd))
		return say_errno(image, errno);
	r = bundle_sum(fd, sum, ret_size);
	if (r)
		return say_errno(image, -r);
	if (!make_path(making, "manifest", path))
		return say_errno(making->stage, ENAMETOOLONG);
	file = fopen(path, "wxe");
	if (!file)
		return say_errno(path, errno);
	fprintf(file, "# Drivers for a guest, by 'gpubroker drivers make'.\n");
	fprintf(file, "kernel %s\nversion %s\n", making->kernel, making->version);
	write_make_devices(file, making);
	fprintf(file, "image %s\nformat %s\nsize %llu\nsha256 %s\n", strrchr(image, '/') + 1,
		making->iso ? "iso" : "erofs", (unsigned long long)*ret_size,
		manifest_sum_text(sum, text));
	r = ferror(file) || fflush(file) || fchmod(fileno(file), 0644) || fsync(fileno(file));
	if (fclose(file) || r)
		return say_errno(path, errno);
	return 0;
}

/* ---- the whole ---- */

static void warn_of_modules(const struct making *making)
{
	char path[PATH_MAX], usr[PATH_MAX];

	if (making->iso ||
	    snprintf(path, sizeof(path), "%s/lib/modules/%s", making->directory, making->kernel) >=
		    (int)sizeof(path) ||
	    snprintf(usr, sizeof(usr), "%s/usr/lib/modules/%s", making->directory,
		     making->kernel) >= (int)sizeof(usr))
		return;
	if (access(path, F_OK) && access(usr, F_OK)) {
		cli_error("warning: there is no %s, where the guest's kernel would find modules",
			  path);
		return;
	}
	strcat(path, strlen(path) + 13 < sizeof(path) ? "/modules.dep" : "");
	strcat(usr, strlen(usr) + 13 < sizeof(usr) ? "/modules.dep" : "");
	if (access(path, F_OK) && access(usr, F_OK))
		cli_error("warning: there is no %s, so no module is found by its device; 'depmod "
			  "-b %s %s' writes it",
			  path, making->directory, making->kernel);
}

static int stage_begin(struct making *making)
{
	char target[PATH_MAX];

	if (snprintf(target, sizeof(target), "%s/%s", making->output, making->name) >=
		    (int)sizeof(target) ||
	    strlen(target) + 9 > sizeof(making->stage))
		return say_errno(making->output, ENAMETOOLONG);
	if (!access(target, F_OK)) {
		cli_error("%s is there already; give the new one another name, such as with its "
			  "version, or remove that one; nothing was made",
			  target);
		return EXIT_CANNOT_CREATE;
	}
	snprintf(making->stage, sizeof(making->stage), "%s/.%s.XXXXXX", making->output,
		 making->name);
	if (mkdtemp(making->stage))
		return 0;
	making->stage[0] = '\0';
	if (errno == EACCES && geteuid() && !strcmp(making->output, bundles_installed))
		cli_error("only root can write to %s; '--output DIR' makes the bundle elsewhere, "
			  "for root to copy; nothing was made",
			  making->output);
	else
		return say_errno(making->output, errno);
	return EXIT_CANNOT_CREATE;
}

/* Gives the bundle its name. */
static int stage_end(struct making *making, const char *tree)
{
	char target[PATH_MAX];

	snprintf(target, sizeof(target), "%s/%s", making->output, making->name);
	remove_tree(tree);
	if (chmod(making->stage, 0755) ||
	    renameat2(AT_FDCWD, making->stage, AT_FDCWD, target, RENAME_NOREPLACE))
		return say_errno(target, errno);
	making->stage[0] = '\0';
	return 0;
}

static int make_bundle(struct making *making)
{
	char tree[PATH_MAX], image[PATH_MAX];
	uint64_t size = 0;
	int r = stage_begin(making);

	if (r)
		return r;
	if (!make_path(making, making->iso ? "drivers.iso" : "drivers.erofs", image))
		return say_errno(making->output, ENAMETOOLONG);
	r = make_copy(making, tree);
	if (!r)
		r = make_image(making, tree, image);
	if (!r)
		r = make_manifest(making, image, &size);
	if (!r)
		r = stage_end(making, tree);
	if (!r)
		printf("%s/%s: %llu bytes, version %s, for the kernel %s\n", making->output,
		       making->name, (unsigned long long)size, making->version, making->kernel);
	return r ? r : cli_finish_output();
}

/* ---- arguments ---- */

static int add_device_argument(struct making *making, const char *text)
{
	if (making->n_devices == MANIFEST_DEVICES_MAX) {
		cli_error("more than %d devices; --device 10de:* stands for all of a vendor",
			  MANIFEST_DEVICES_MAX);
		return EXIT_BAD_USAGE;
	}
	if (manifest_device_parse(text, &making->devices[making->n_devices])) {
		making->n_devices++;
		return 0;
	}
	cli_error("--device '%s' is no device: give vendor:device as 10de:2330, or 10de:* for all "
		  "of a vendor; 'lspci -nn' prints them",
		  text);
	return EXIT_BAD_USAGE;
}

static int take_make_option(struct making *making, int option)
{
	switch (option) {
	case 'k':
		making->kernel = optarg;
		return 0;
	case 'v':
		making->version = optarg;
		return 0;
	case 'd':
		return add_device_argument(making, optarg);
	case 'i':
		making->iso = true;
		return 0;
	case 'o':
		making->given = optarg;
		return 0;
	default:
		return EXIT_BAD_USAGE;
	}
}

static int check_word(const char *what, const char *text, const char *example)
{
	if (!text) {
		cli_error("drivers make needs %s; 'gpubroker drivers make --help' has an example",
			  example);
		return EXIT_BAD_USAGE;
	}
	if (manifest_is_word(text))
		return 0;
	cli_error("%s '%s' is none: give one word of at most %d letters, digits and . _ + - ~",
		  what, text, MANIFEST_TEXT - 1);
	return EXIT_BAD_USAGE;
}

/*
 * Refuses a directory in which another user could put something else in the place of what is being
 * made: root would follow that. In a directory with the sticky bit, as /tmp, nobody can.
 */
static int check_output(const char *output)
{
	const mode_t bits = S_IWOTH | S_IWGRP;
	cleanup_free char *path = strdup(output);
	struct stat st;

	while (path) {
		char *end = strrchr(path, '/');

		if (stat(path, &st))
			return say_errno(path, errno);
		if ((st.st_uid && st.st_uid != geteuid()) ||
		    (st.st_mode & bits && !(st.st_mode & S_ISVTX)))
			break;
		if (!end || !path[1])
			return 0;
		end[end == path] = '\0';
	}
	cli_error(
		"--output %s: others than you can write to %s, and so replace what is made there; "
		"nothing was made",
		output, path ? path : "it");
	return EXIT_CANNOT_CREATE;
}

static int check_making(struct making *making, int argc, char **argv)
{
	struct stat st;
	int r;

	if (argc - optind != 2) {
		cli_error(
			"drivers make needs a NAME and a DIRECTORY, as in: gpubroker drivers make "
			"nvidia-570 ./tree --kernel ... --version ... --device 10de:*");
		return EXIT_BAD_USAGE;
	}
	making->name = argv[optind];
	r = check_word("the name", making->name, "");
	if (!r)
		r = check_word("--kernel", making->kernel,
			       "--kernel, as 'uname -r' prints it in "
			       "the guest");
	if (!r)
		r = check_word("--version", making->version, "--version, of the drivers");
	if (r)
		return r;
	if (!making->n_devices) {
		cli_error("drivers make needs --device, at least once, as --device 10de:2330");
		return EXIT_BAD_USAGE;
	}
	making->directory = realpath(argv[optind + 1], NULL);
	if (!making->directory || stat(making->directory, &st) || !S_ISDIR(st.st_mode)) {
		cli_error("%s: %s; nothing was made", argv[optind + 1],
			  making->directory ? "is no directory" : strerror(errno));
		return EXIT_NO_DEVICE;
	}
	making->output = realpath(making->given, NULL);
	if (making->output)
		return check_output(making->output);
	cli_error("--output %s: %s; nothing was made", making->given, strerror(errno));
	return EXIT_CANNOT_CREATE;
}

/* Parses the arguments. Returns ARGUMENTS_END, or the exit status. */
static int make_arguments(int argc, char **argv, struct making *making)
{
	static const struct option options[] = {
		{ "kernel", required_argument, NULL, 'k' },
		{ "version", required_argument, NULL, 'v' },
		{ "device", required_argument, NULL, 'd' },
		{ "iso", no_argument, NULL, 'i' },
		{ "output", required_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	struct arguments arguments = { .command = "drivers make", .mode = "" };
	int c, r = 0;

	while (!r && (c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		if (c == ARGUMENTS_STOP)
			return arguments.status;
		r = take_make_option(making, c);
	}
	if (!r)
		r = check_making(making, argc, argv);
	return r ? r : ARGUMENTS_END;
}

int drivers_make(int argc, char **argv)
{
	static const int ending[] = { SIGINT, SIGTERM, SIGHUP };
	const struct sigaction interrupt = { .sa_handler = on_interrupt };
	struct sigaction before;
	struct making making = { .given = bundles_installed };
	int r = make_arguments(argc, argv, &making);

	if (r == ARGUMENTS_END) {
		r = set_environment() ? EXIT_SOFTWARE : find_builder(&making);
		if (!r)
			warn_of_modules(&making);
		umask(022);
		for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
			if (!sigaction(ending[i], NULL, &before) && before.sa_handler != SIG_IGN)
				sigaction(ending[i], &interrupt, NULL); /* not below nohup */
		r = r ? r : make_bundle(&making);
		if (making.stage[0])
			remove_tree(making.stage);
	}
	free(making.directory);
	free(making.output);
	return r;
}
