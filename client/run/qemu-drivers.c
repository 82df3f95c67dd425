/* SPDX-License-Identifier: MIT */
/*
 * Chooses drivers for a VM, see qemu-drivers.h. It owns the descriptor of the image, which it has
 * checked, and which QEMU gets. It must never choose a bundle that lacks one of the devices, nor
 * one of several that the user could not have foreseen.
 */
#include "config.h"

#include "client/run/qemu-drivers.h"
#include "client/command/cli.h"
#include "client/common/nearness.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* Above what a script takes for itself by number, as 3 to 9. */
#define INHERITED_FIRST 50

/* ---- what needs drivers ---- */

static void add_need(struct drivers_needs *needs, const struct function *f)
{
	if (needs->n < DRIVERS_NEEDS_MAX)
		needs->list[needs->n++] = (struct drivers_need){
			.address = f->address,
			.vendor = f->vendor,
			.device = f->device,
		};
}

void drivers_add_needs(struct drivers_needs *needs, const struct group_view *view)
{
	bool has_gpu = false;

	for (size_t i = 0; i < view->n_functions; i++)
		has_gpu |= class_is_gpu(view->functions[i].class_code);
	for (size_t i = 0; i < view->n_functions; i++)
		if (!has_gpu || class_is_gpu(view->functions[i].class_code))
			add_need(needs, &view->functions[i]);
}

void drivers_add_parent(struct drivers_needs *needs, const struct function *parent)
{
	add_need(needs, parent);
}

/* Returns the first device for which it has none, or NULL. */
static const struct drivers_need *find_lacking(const struct bundle *bundle,
					       const struct drivers_needs *needs)
{
	for (size_t i = 0; i < needs->n; i++)
		if (!manifest_has(&bundle->manifest, needs->list[i].vendor, needs->list[i].device))
			return &needs->list[i];
	return NULL;
}

/* ---- which bundles there are ---- */

static void say_found(void *userdata, const char *path, unsigned line, const char *text)
{
	(void)userdata;
	if (line)
		cli_error("%s:%u: %s", path, line, text);
	else
		cli_error("%s: %s", path, text);
}

static struct bundles_source bundles_here(void)
{
	return (struct bundles_source){ .directory = bundles_installed, .found = say_found };
}

static void copy_bundle(struct qemu_drivers *drivers, const struct bundle *bundle)
{
	free(drivers->bundle);
	drivers->bundle = malloc(sizeof(*bundle));
	if (drivers->bundle)
		*drivers->bundle = *bundle;
}

static int say_no_memory(const char *end)
{
	cli_error("--drivers: %s; %s", strerror(ENOMEM), end);
	return EXIT_SOFTWARE;
}

/* Says that there is no bundle of that name, and which was perhaps meant. */
static int say_no_bundle(const char *name, const char *end)
{
	const struct bundles_source quiet = { .directory = bundles_installed };
	const char *names[BUNDLES_MAX], *near;
	struct bundles bundles;

	bundles_read(&quiet, &bundles);
	for (size_t i = 0; i < bundles.n; i++)
		names[i] = bundles.list[i].name;
	near = nearness_best(name, names, bundles.n);
	if (near)
		cli_error("--drivers=%s: there are no such drivers; did you mean '%s'? %s", name,
			  near, end);
	else
		cli_error("--drivers=%s: there are no such drivers in %s; 'gpubroker drivers' "
			  "shows those that there are; %s",
			  name, bundles_installed, end);
	bundles_done(&bundles);
	return EXIT_NO_DEVICE;
}

static int choose_named(struct qemu_drivers *drivers, const char *end)
{
	const struct bundles_source source = bundles_here();
	int r;

	free(drivers->bundle);
	drivers->bundle = malloc(sizeof(*drivers->bundle));
	if (!drivers->bundle)
		return say_no_memory(end);
	r = bundle_read(&source, drivers->name, drivers->bundle);
	if (!r)
		return 0;
	if (r == -ENOENT)
		return say_no_bundle(drivers->name, end);
	if (r < 0)
		cli_error("--drivers=%s: %s; %s", drivers->name, strerror(-r), end);
	else
		cli_error("--drivers=%s: the bundle has a mistake, see above; %s", drivers->name,
			  end);
	return EXIT_BAD_POLICY;
}

/* ---- the choice ---- */

static int say_lacking(const struct bundle *bundle, const struct drivers_need *need,
		       const char *end)
{
	char address[PCI_ADDRESS_TEXT];

	cli_error("--drivers: %s has no drivers for %s, %04x:%04x; 'gpubroker drivers' shows for "
		  "which devices each has some; %s",
		  bundle->name, pci_address_format(&need->address, address), need->vendor,
		  need->device, end);
	return EXIT_IN_USE;
}

/* Says why none fits: there is none at all, or none for this device, or none for all of them. */
static int say_none_fits(const struct bundles *bundles, const struct drivers_needs *needs,
			 const char *end)
{
	char address[PCI_ADDRESS_TEXT];

	for (size_t i = 0; i < needs->n; i++) {
		const struct drivers_need *need = &needs->list[i];
		size_t n = 0;

		while (n < bundles->n &&
		       !manifest_has(&bundles->list[n].manifest, need->vendor, need->device))
			n++;
		if (n < bundles->n)
			continue;
		cli_error("--drivers: no bundle in %s has drivers for %s, %04x:%04x%s; %s",
			  bundles_installed, pci_address_format(&need->address, address),
			  need->vendor, need->device,
			  bundles->n_bad ? ", or only one with a mistake, see above" : "", end);
		return EXIT_IN_USE;
	}
	cli_error("--drivers: no bundle has drivers for all of these devices at once; claim those "
		  "of different vendors for a VM each, or make a bundle for all; %s",
		  end);
	return EXIT_IN_USE;
}

static int say_several(const struct bundles *bundles, const struct drivers_needs *needs,
		       const char *end)
{
	char list[512] = "";
	size_t used = 0;

	for (size_t i = 0; i < bundles->n; i++) {
		const struct bundle *bundle = &bundles->list[i];

		if (!find_lacking(bundle, needs) && used < sizeof(list) - 150)
			used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s (for %s)",
						 used ? ", " : "", bundle->name,
						 bundle->manifest.kernel);
	}
	cli_error("--drivers: several bundles have drivers for what is claimed: %s; say which, as "
		  "--drivers=NAME; %s",
		  list, end);
	return EXIT_BAD_USAGE;
}

/* Chooses the only one that fits. */
static int choose_fitting(struct qemu_drivers *drivers, const struct drivers_needs *needs,
			  const char *end)
{
	const struct bundles_source source = bundles_here();
	struct bundles bundles;
	size_t n = 0, which = 0;
	int r, status;

	if (!needs->n) {
		cli_error("--drivers: nothing tells which drivers this device needs; name them, as "
			  "--drivers=NAME; %s",
			  end);
		return EXIT_BAD_USAGE;
	}
	r = bundles_read(&source, &bundles);
	for (size_t i = 0; i < bundles.n; i++)
		if (!find_lacking(&bundles.list[i], needs)) {
			which = i;
			n++;
		}
	if (r) {
		cli_error("--drivers: cannot read %s: %s; %s", bundles_installed, strerror(-r),
			  end);
		status = EXIT_KERNEL;
	} else if (n == 1) {
		copy_bundle(drivers, &bundles.list[which]);
		status = drivers->bundle ? 0 : say_no_memory(end);
	} else {
		status = n ? say_several(&bundles, needs, end)
			   : say_none_fits(&bundles, needs, end);
	}
	bundles_done(&bundles);
	return status;
}

static int open_image(struct qemu_drivers *drivers, const char *end)
{
	const struct bundles_source source = bundles_here();
	int r;

	if (drivers->opened)
		return 0;
	r = bundle_open_image(&source, drivers->bundle, &drivers->fd);
	drivers->opened = !r;
	if (!r)
		return 0;
	if (r < 0)
		cli_error("--drivers: %s: %s; %s", drivers->bundle->name, strerror(-r), end);
	else
		cli_error("--drivers: %s cannot be used, see above; %s", drivers->bundle->name,
			  end);
	return EXIT_BAD_POLICY;
}

int drivers_choose(struct qemu_drivers *drivers, const struct drivers_needs *needs, const char *end)
{
	const struct drivers_need *lacking;
	int r = 0;

	if (!drivers->wanted || (!needs && !drivers->name))
		return 0;
	/* A choice that was checked before the claim stays. */
	if (!drivers->bundle)
		r = drivers->name ? choose_named(drivers, end)
				  : choose_fitting(drivers, needs, end);
	if (r)
		return r;
	lacking = needs ? find_lacking(drivers->bundle, needs) : NULL;
	return lacking ? say_lacking(drivers->bundle, lacking, end) : open_image(drivers, end);
}

void drivers_tell(const struct qemu_drivers *drivers)
{
	const struct manifest *manifest = &drivers->bundle->manifest;

	cli_error("the VM gets the drivers %s: version %s, for the kernel %s",
		  drivers->bundle->name, manifest->version, manifest->kernel);
}

int drivers_inherit(struct qemu_drivers *drivers, const char *end)
{
	/* Without close-on-exec, and read-only as it was opened. */
	int fd = fcntl(drivers->fd, F_DUPFD, INHERITED_FIRST);

	if (fd < 0) /* a low limit of open files */
		fd = fcntl(drivers->fd, F_DUPFD, STDERR_FILENO + 1);
	if (fd < 0) {
		cli_error("--drivers: %s; %s", strerror(errno), end);
		return EXIT_SOFTWARE;
	}
	fd_close(drivers->fd);
	drivers->fd = fd;
	return 0;
}

void drivers_done(struct qemu_drivers *drivers)
{
	free(drivers->bundle);
	drivers->bundle = NULL;
	if (drivers->opened)
		fd_close(drivers->fd);
	drivers->opened = false;
}
