/* SPDX-License-Identifier: MIT */
/*
 * QEMU's arguments for what a claim asks for or was granted, see qemu-run.h. Which functions a
 * group has is read from sysfs, as every user may: of a grant the broker names only the group and
 * the function that was asked for. It must never change an argument that the user wrote.
 */
#include "config.h"

#include "client/run/qemu-run.h"
#include "client/run/qemu-given.h"
#include "client/command/cli.h"
#include "client/host/pci.h"
#include "client/common/util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define CONFIG_MAX (1 << 20)
#define CONFIGS_MAX 8

/* The groups of a claim, as they are now. */
struct lent {
	struct group_view *views[REQUEST_DEVICES_MAX];
	size_t n;
};

static void lent_done(struct lent *lent)
{
	for (size_t i = 0; i < lent->n; i++)
		free(lent->views[i]);
}

#define cleanup_lent cleanup_(lent_done)

static int lent_add(struct lent *lent, int sys, uint32_t group)
{
	struct group_view *view;
	int r;

	for (size_t i = 0; i < lent->n; i++)
		if (lent->views[i]->group == group)
			return 0;
	view = malloc(sizeof(*view));
	if (!view)
		return -ENOMEM;
	r = sysfs_group_read(sys, group, view);
	if (r) {
		free(view);
		return r;
	}
	lent->views[lent->n++] = view;
	return 0;
}

static int open_sys(void)
{
	int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return sys < 0 ? -errno : sys;
}

/* Reads a configuration file of QEMU's. NULL: it is none that can be read twice, or too large. */
static char *read_config(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	cleanup_free char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > CONFIG_MAX)
		return NULL;
	text = malloc((size_t)st.st_size + 1);
	n = text ? read(fd, text, (size_t)st.st_size) : -1;
	if (n < 0)
		return NULL;
	text[n] = '\0';
	return TAKE_PTR(text);
}

/* Reads the files of the command's -readconfig: their devices have places too. */
static size_t read_configs(char **argv, char *ret_texts[CONFIGS_MAX])
{
	size_t n = 0;

	for (size_t i = 1; argv[0] && argv[i] && argv[i + 1] && n < CONFIGS_MAX; i++) {
		if (!qemu_is_option(argv[i], "readconfig"))
			continue;
		ret_texts[n] = read_config(argv[++i]);
		n += ret_texts[n] != NULL;
	}
	return n;
}

static int make_command(struct qemu_run *qemu, const struct lent *lent,
			const struct pci_address *first, char **argv, const char *end)
{
	char *configs[CONFIGS_MAX];
	int r;

	qemu->options.configs = (const char *const *)configs;
	qemu->options.n_configs = read_configs(argv, configs);
	r = qemu_command_make(argv, (const struct group_view *const *)lent->views, lent->n, first,
			      &qemu->options, &qemu->command);
	while (qemu->options.n_configs)
		free(configs[--qemu->options.n_configs]);
	qemu->options.configs = NULL;
	if (r == -EINVAL)
		cli_error("%s; %s", qemu->command.why, end);
	else if (r)
		cli_error("cannot make QEMU's arguments: %s; %s", strerror(-r), end);
	return r == -EINVAL ? EXIT_BAD_USAGE : r ? EXIT_SOFTWARE : 0;
}

/*
 * Returns true if the group of the device is known before the broker is asked, which that of a name
 * is not. The broker will say what is wrong with an address.
 */
static bool foresee_device(struct lent *lent, int sys, const char *device,
			   struct pci_address *ret_address)
{
	static const char prefix[] = "iommu-group:";
	uint32_t group;

	if (!strncmp(device, prefix, strlen(prefix))) {
		group = (uint32_t)strtoul(device + strlen(prefix), NULL, 10);
		memset(ret_address, 0, sizeof(*ret_address));
	} else if (pci_address_parse(device, ret_address) ||
		   sysfs_group_of(sys, ret_address, &group) || group == NO_GROUP)
		return false;
	return !lent_add(lent, sys, group);
}

/* Chooses the drivers for what is to be lent, or is lent by the claim (NULL: there is none yet). */
static int choose_drivers(struct qemu_run *qemu, const struct lent *lent, int sys,
			  const struct gpubroker_claim *claim, const char *end)
{
	struct drivers_needs needs = { 0 };
	int r;

	if (!qemu->drivers.wanted)
		return 0;
	for (size_t i = 0; i < lent->n; i++)
		drivers_add_needs(&needs, lent->views[i]);
	for (size_t i = 0; claim && i < gpubroker_claim_groups(claim); i++) {
		const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, i);
		struct pci_address address;
		struct function parent;

		if (grant->uuid[0] && !pci_address_parse(grant->parent, &address) &&
		    !sysfs_function_read_ids(sys, &address, &parent))
			drivers_add_parent(&needs, &parent);
	}
	r = drivers_choose(&qemu->drivers, &needs, end);
	if (r)
		return r;
	qemu->options.drivers = BUNDLE_SERIAL;
	qemu->options.drivers_cd = qemu->drivers.bundle->manifest.format == MANIFEST_ISO;
	if (claim)
		r = drivers_inherit(&qemu->drivers, end);
	qemu->options.drivers_fd = qemu->drivers.fd;
	return r;
}

int qemu_run_foresee(struct qemu_run *qemu, const struct request *request, char **argv)
{
	static const char end[] = "nothing was claimed";
	cleanup_lent struct lent lent = { 0 };
	struct pci_address address, first = { 0 };
	cleanup_fd int sys = -1;
	int r;

	if (qemu->iommufd && access("/dev/iommu", F_OK) && errno == ENOENT) {
		cli_error("--iommufd: this kernel has no /dev/iommu; without the option a VMM "
			  "gets IOMMU groups; nothing was claimed");
		return EXIT_IN_USE;
	}
	if (!qemu->wanted)
		return 0;
	qemu->options.iommufd = qemu->iommufd;
	sys = open_sys();
	for (size_t i = 0; i < request->n_devices; i++) {
		const struct request_device *device = &request->devices[i];

		if (sys < 0 || device->profile || device->memory ||
		    !foresee_device(&lent, sys, device->name, &address))
			return drivers_choose(&qemu->drivers, NULL, end);
		if (!i)
			first = address;
	}
	r = choose_drivers(qemu, &lent, sys, NULL, end);
	if (!r)
		r = make_command(qemu, &lent, &first, argv, end);
	qemu_command_done(&qemu->command);
	return r;
}

/* Makes the argument one word of a shell. NULL: no memory. */
static char *quote_argument(const char *argument)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "@%+=:,./_-";
	char *quoted = malloc(4 * strlen(argument) + 3), *out = quoted;

	if (!quoted)
		return NULL;
	if (*argument && argument[strspn(argument, plain)] == '\0')
		return strcpy(quoted, argument);
	*out++ = '\'';
	for (const char *c = argument; *c; c++) {
		if (*c == '\'')
			out = stpcpy(out, "'\\'");
		*out++ = *c;
	}
	strcpy(out, "'");
	return quoted;
}

/* Writes the arguments as a shell would take them. NULL: no memory. */
static char *quote_arguments(const struct qemu_command *command)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);

	for (size_t i = command->n_given; file && i < command->n; i++) {
		cleanup_free char *quoted = quote_argument(command->argv[i]);

		fprintf(file, "%s%s", i > command->n_given ? " " : "", quoted ? quoted : "");
	}
	if (file && !fclose(file))
		return text;
	free(text);
	return NULL;
}

/*
 * Shows the arguments on a terminal, as far as a line has room for them, or with --verbose all,
 * also where there is no terminal.
 */
static void show_arguments(const struct qemu_command *command, bool verbose)
{
	static const char begin[] = "QEMU gets: ", more[] = "... (--verbose for all)";
	const int columns = cli_columns(stderr), room = columns - (int)strlen(begin);
	cleanup_free char *text = NULL;

	if (!columns && !verbose)
		return;
	text = quote_arguments(command);
	if (!text)
		return;
	fputs(begin, stderr);
	if (verbose || (int)strlen(text) <= room || room <= (int)strlen(more)) {
		cli_print_text(stderr, text, -1);
	} else {
		cli_print_text(stderr, text, room - (int)strlen(more));
		fputs(more, stderr);
	}
	fputc('\n', stderr);
}

static int let_inherit(int fd)
{
	return fcntl(fd, F_SETFD, 0) ? -errno : 0;
}

int qemu_run_inherit(struct qemu_run *qemu, struct gpubroker_claim *claim)
{
	char list[REQUEST_CDEVS_MAX * 64] = "", number[16];
	size_t n = gpubroker_claim_cdevs(claim), used = 0;
	int r;

	if (!qemu->iommufd)
		return unsetenv("GPUBROKER_IOMMUFD") || unsetenv("GPUBROKER_CDEVS") ? EXIT_SOFTWARE
										    : 0;
	if (!n || n > REQUEST_CDEVS_MAX) {
		cli_error("--iommufd: the kernel has no device nodes for the leased devices, or "
			  "too many for one claim; without the option a VMM gets IOMMU groups; the "
			  "device goes back");
		return EXIT_IN_USE;
	}
	gpubroker_claim_drop_groups(claim);
	qemu->options.fd = gpubroker_claim_iommufd(claim);
	r = let_inherit(qemu->options.fd);
	for (size_t i = 0; !r && i < n; i++) {
		const struct gpubroker_cdev *cdev = gpubroker_claim_cdev(claim, i);
		const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, cdev->group);
		struct qemu_cdev *own = &qemu->cdevs[qemu->options.n_cdevs];

		own->fd = gpubroker_claim_cdev_fd(claim, i);
		if (*cdev->address && !pci_address_parse(cdev->address, &own->address))
			qemu->options.n_cdevs++;
		r = let_inherit(own->fd);
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s=%d",
					 used ? " " : "",
					 *cdev->address ? cdev->address : grant->uuid, own->fd);
	}
	qemu->options.cdevs = qemu->cdevs;
	snprintf(number, sizeof(number), "%d", qemu->options.fd);
	if (!r && (setenv("GPUBROKER_IOMMUFD", number, 1) || setenv("GPUBROKER_CDEVS", list, 1)))
		r = -errno;
	if (r)
		cli_error("cannot hand its descriptors to the command: %s; the device goes back",
			  strerror(-r));
	return r ? EXIT_SOFTWARE : 0;
}

int qemu_run_command(struct qemu_run *qemu, const struct gpubroker_claim *claim, char ***argv)
{
	static const char end[] = "the device goes back";
	cleanup_lent struct lent lent = { 0 };
	const char *mdevs[REQUEST_DEVICES_MAX];
	char text[PCI_ADDRESS_TEXT];
	struct pci_address first = { 0 };
	cleanup_fd int sys = -1;
	int r;

	if (!qemu->wanted)
		return 0;
	qemu->options.mdevs = mdevs;
	sys = open_sys();
	r = sys < 0 ? sys : 0;
	for (size_t i = 0; !r && i < gpubroker_claim_groups(claim); i++) {
		const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, i);

		if (grant->uuid[0]) {
			mdevs[qemu->options.n_mdevs++] = grant->uuid;
			continue;
		}
		r = lent_add(&lent, sys, grant->iommu_group);
		if (!i && !r)
			r = pci_address_parse(grant->address, &first);
	}
	if (r) {
		cli_error("cannot read the leased devices from /sys: %s; %s", strerror(-r), end);
		return EXIT_SOFTWARE;
	}
	r = choose_drivers(qemu, &lent, sys, claim, end);
	if (!r)
		r = make_command(qemu, &lent, &first, *argv, end);
	qemu->options.mdevs = NULL;
	qemu->options.n_mdevs = 0;
	if (r)
		return r;
	for (size_t i = 0; i < qemu->command.n_left; i++)
		cli_error("%s: the command's own arguments have it already, so --qemu adds "
			  "nothing for it",
			  pci_address_format(&qemu->command.left[i], text));
	if (qemu->drivers.wanted)
		drivers_tell(&qemu->drivers);
	show_arguments(&qemu->command, qemu->verbose);
	*argv = qemu->command.argv;
	return 0;
}

void qemu_run_done(struct qemu_run *qemu)
{
	qemu_command_done(&qemu->command);
	drivers_done(&qemu->drivers);
	free((char *)qemu->options.rom);
}
