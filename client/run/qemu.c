/* SPDX-License-Identifier: MIT */
/*
 * QEMU's arguments for lent groups, see qemu.h. It owns only what it adds. It must never change or
 * reorder what it was given, nor do I/O: QEMU is not asked what it knows, so all that is assumed of
 * it stands here and in gpubroker(1).
 *
 * A function takes the place that it has on the host, since a driver finds a card's audio function
 * by its number: the functions of one slot come to one slot of the VM, each slot behind a root port
 * of its own. A port, not the root bus, because only from there can QEMU unplug a PCI Express
 * device, which is how a lease is taken back. A machine without PCI Express has no such port; there
 * a slot of the first PCI bus is taken from the top, while QEMU gives out its own from the bottom.
 * Nothing is named there but the slot, so that this also does where the machine is one that these
 * arguments do not tell.
 */
#include "config.h"

#include "client/run/qemu.h"
#include "client/run/qemu-given.h"
#include "client/common/util.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#define SLOT_MIN 4    /* below are those of chipsets and of QEMU's own display and network */
#define SLOT_MAX 0x1e /* at 1f is the south bridge of a q35 */
#define PORT_NAME "gpubroker-port"
#define IOMMUFD_NAME "gpubroker-iommufd"
#define DRIVERS_NAME "gpubroker-drivers"
#define FDSET_FIRST 900 /* of QEMU's sets of descriptors; users number theirs from 0 or 1 */

static int leave_function(struct qemu_command *command, const struct pci_address *address)
{
	struct pci_address *left = reallocarray(command->left, command->n_left + 1, sizeof(*left));

	if (!left)
		return -ENOMEM;
	command->left = left;
	left[command->n_left++] = *address;
	return 0;
}

static bool is_left(const struct qemu_command *command, const struct pci_address *address)
{
	for (size_t i = 0; i < command->n_left; i++)
		if (!pci_address_compare(&command->left[i], address))
			return true;
	return false;
}

/* Leaves out what the given arguments have already. */
static int leave_given(struct qemu_command *command, const struct group_view *const *groups,
		       size_t n_groups, const struct qemu_given *given)
{
	int r = 0;

	for (size_t i = 0; i < given->n_hosts; i++)
		for (size_t g = 0; !r && g < n_groups; g++)
			if (group_find(groups[g], &given->hosts[i]) != SIZE_MAX)
				r = leave_function(command, &given->hosts[i]);
	return r;
}

/* Returns true if a given argument has that word, as an id that the user chose. */
static bool is_mentioned(const struct qemu_command *command, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i < command->n_given; i++)
		for (const char *p = command->argv[i]; (p = strstr(p, word)); p += n)
			if (!isdigit((unsigned char)p[n]))
				return true;
	return false;
}

static int __attribute__((format(printf, 2, 3)))
add_argument(struct qemu_command *command, const char *format, ...)
{
	char **argv = reallocarray(command->argv, command->n + 2, sizeof(*argv));
	va_list args;
	int n;

	if (!argv)
		return -ENOMEM;
	command->argv = argv;
	argv[command->n] = NULL;
	va_start(args, format);
	n = vasprintf(&argv[command->n], format, args);
	va_end(args);
	if (n < 0) {
		argv[command->n] = NULL;
		return -ENOMEM;
	}
	argv[++command->n] = NULL;
	return 0;
}

/* Makes the argument that was added last JSON. */
static int make_json(struct qemu_command *command)
{
	char *json = qemu_device_json(command->argv[command->n - 1]);

	if (!json)
		return -ENOMEM;
	free(command->argv[command->n - 1]);
	command->argv[command->n - 1] = json;
	return 0;
}

/*
 * Adds -device with the argument that was added last: in JSON if the given ones have JSON, since
 * QEMU makes devices written so after all others, and a port without an address must take its place
 * last, when the others have theirs.
 */
static int end_device(struct qemu_command *command, const struct qemu_given *taken)
{
	return taken->json ? make_json(command) : 0;
}

/* Makes a name for an id that the given arguments do not have. */
static void make_name(const struct qemu_command *command, const char *stem, unsigned *number,
		      char name[32])
{
	do
		snprintf(name, 32, "%s%u", stem, (*number)++);
	while (is_mentioned(command, name));
}

/* Adds a root port, or takes a slot: *place is the bus and slot of a function, up to its number. */
static int add_place(struct qemu_command *command, struct qemu_given *taken, unsigned *number,
		     char place[64])
{
	char name[32];
	int r;

	if (!taken->pcie) {
		int slot = SLOT_MAX;

		while (slot >= SLOT_MIN && taken->slots[slot])
			slot--;
		if (slot < SLOT_MIN) {
			strcpy(command->why,
			       "--qemu finds no free slot for it on the VM's PCI bus; "
			       "a machine with PCI Express has more: -machine q35");
			return -EINVAL;
		}
		taken->slots[slot] = true;
		snprintf(place, 64, "addr=0x%x", (unsigned)slot);
		return 0;
	}
	make_name(command, PORT_NAME, number, name);
	for (int chassis = QEMU_CHASSIS_MAX; chassis; chassis--) {
		if (taken->chassis[chassis])
			continue;
		taken->chassis[chassis] = true;
		snprintf(place, 64, "bus=%s,addr=0x0", name);
		r = add_argument(command, "-device");
		if (!r)
			r = add_argument(command,
					 "pcie-root-port,id=%s,bus=pcie.0,chassis=%d,slot=%d", name,
					 chassis, chassis);
		return r ? r : end_device(command, taken);
	}
	strcpy(command->why, "--qemu finds no free chassis number for its root port");
	return -EINVAL;
}

/* The ROM's name with its commas doubled. */
static char *escape_commas(const char *text)
{
	char *out = malloc(2 * strlen(text) + 1), *p = out;

	if (!out)
		return NULL;
	for (; *text; *p++ = *text++)
		if (*text == ',')
			*p++ = ',';
	*p = '\0';
	return out;
}

static bool is_gpu(const struct function *f)
{
	return class_is_gpu(f->class_code);
}

/* Returns true for what x-vga takes: only VGA controllers have the legacy ranges. */
static bool is_vga(const struct function *f)
{
	return f->class_code >> 8 == 0x0300;
}

/* The function that was asked for if it is of that kind, else the first one that is. */
static const struct function *choose_target(const struct group_view *const *groups, size_t n_groups,
					    const struct pci_address *first,
					    bool (*is_one)(const struct function *))
{
	for (size_t g = 0; g < n_groups; g++) {
		size_t asked = group_find(groups[g], first);

		if (asked != SIZE_MAX && is_one(&groups[g]->functions[asked]))
			return &groups[g]->functions[asked];
		for (size_t i = 0; i < groups[g]->n_functions; i++)
			if (is_one(&groups[g]->functions[i]))
				return &groups[g]->functions[i];
	}
	return NULL;
}

static int check_target(struct qemu_command *command, const struct function *f, const char *option,
			const char *kind, const char *property_name)
{
	char text[PCI_ADDRESS_TEXT];

	if (f && !is_left(command, &f->address))
		return 0;
	if (f)
		snprintf(command->why, sizeof(command->why),
			 "%s: the command's own arguments have %s already; give it %s there",
			 option, pci_address_format(&f->address, text), property_name);
	else
		snprintf(command->why, sizeof(command->why),
			 "%s is for a %s, and this command claims none", option, kind);
	return -EINVAL;
}

static bool same_slot(const struct pci_address *a, const struct pci_address *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->device == b->device;
}

/* Writes which device it is: "host=0000:01:00.0", or its descriptors. */
static void make_source(const struct qemu_options *options, const char *iommufd,
			const struct pci_address *address, char source[64])
{
	int fd = -1;

	/* Older QEMUs take no domain of more than four digits (VMD) there. */
	strcpy(source, address->domain > 0xffff ? "sysfsdev=/sys/bus/pci/devices/" : "host=");
	if (!options->iommufd) {
		pci_address_format(address, source + strlen(source));
		return;
	}
	for (size_t i = 0; i < options->n_cdevs; i++)
		if (!pci_address_compare(&options->cdevs[i].address, address))
			fd = options->cdevs[i].fd;
	snprintf(source, 64, "fd=%d,iommufd=%s", fd, iommufd);
}

/* The options that all functions share. */
struct all {
	const struct qemu_options *options;
	char iommufd[32];	    /* the id of QEMU's object, with options->iommufd */
	const struct function *rom; /* the function that gets it, or NULL */
	const char *romfile;
	const struct function *primary; /* the function that gets it, or NULL */
};

/*
 * Adds the functions of one slot of a group, from `at` on; *ret_next is where the next slot begins.
 */
static int add_slot(struct qemu_command *command, struct qemu_given *taken, unsigned *number,
		    const struct group_view *group, size_t at, const struct all *all,
		    size_t *ret_next)
{
	size_t next = at, n = 0, done = 0;
	bool has_zero = false;
	char place[64];
	int r;

	for (; next < group->n_functions &&
	       same_slot(&group->functions[next].address, &group->functions[at].address);
	     next++) {
		const struct pci_address *address = &group->functions[next].address;

		if (is_left(command, address))
			continue;
		n++;
		has_zero |= !address->function;
	}
	*ret_next = next;
	r = n ? add_place(command, taken, number, place) : 0;
	for (size_t i = at; !r && i < next; i++) {
		const struct function *f = &group->functions[i];
		char source[64];
		unsigned function = f->address.function;

		if (is_left(command, &f->address))
			continue;
		/* A VM does not look into a slot without a function 0. */
		if (!done++ && !has_zero)
			function = 0;
		make_source(all->options, all->iommufd, &f->address, source);
		r = add_argument(command, "-device");
		if (!r)
			r = add_argument(command, "vfio-pci,%s,%s.%u%s%s%s%s", source, place,
					 function, !function && n > 1 ? ",multifunction=on" : "",
					 f == all->primary ? ",x-vga=on" : "",
					 f == all->rom ? ",romfile=" : "",
					 f == all->rom ? all->romfile : "");
		if (!r)
			r = end_device(command, taken);
	}
	return r;
}

/*
 * Adds the disk with drivers. QEMU gets the descriptor in a set of its own, and opens no name.
 * In JSON in each case: a disk of the VM that is written as -drive if=virtio becomes a device after
 * all -device that are not, and must keep the first place, as /dev/vda and for the firmware.
 */
static int add_drivers(struct qemu_command *command, const struct qemu_options *options)
{
	unsigned number = 0, set = FDSET_FIRST;
	char name[32], word[32];
	int r;

	make_name(command, DRIVERS_NAME, &number, name);
	make_name(command, "set=", &set, word);
	r = add_argument(command, "-add-fd");
	if (!r)
		r = add_argument(command, "fd=%d,%s", options->drivers_fd, word);
	if (!r)
		r = add_argument(command, "-blockdev");
	if (!r)
		r = add_argument(command,
				 "driver=raw,node-name=%s,read-only=on,file.driver=file,"
				 "file.read-only=on,file.locking=off,file.filename=/dev/fdset/%s",
				 name, word + strlen("set="));
	if (!r)
		r = add_argument(command, "-device");
	if (!r)
		r = add_argument(command, "%s,drive=%s,serial=%s",
				 options->drivers_cd ? "ide-cd" : "virtio-blk-pci", name,
				 options->drivers);
	return r ? r : make_json(command);
}

static int fill_command(struct qemu_command *command, const struct group_view *const *groups,
			size_t n_groups, const struct pci_address *first,
			const struct qemu_options *options)
{
	cleanup_free char *romfile = options->rom ? escape_commas(options->rom) : NULL;
	struct all all = { .options = options, .romfile = romfile };
	cleanup_(qemu_given_done) struct qemu_given taken = { 0 };
	unsigned number = 0, objects = 0;
	int r = options->rom && !romfile ? -ENOMEM : 0;

	if (!r)
		r = qemu_given_look(command->argv, options->configs, options->n_configs, &taken);
	if (!r)
		r = leave_given(command, groups, n_groups, &taken);
	if (!r && options->rom) {
		all.rom = choose_target(groups, n_groups, first, is_gpu);
		r = check_target(command, all.rom, "--rom", "GPU", "romfile=");
	}
	if (!r && options->primary) {
		all.primary = choose_target(groups, n_groups, first, is_vga);
		r = check_target(command, all.primary, "--primary", "VGA controller (class 0300)",
				 "x-vga=on");
	}
	/* Otherwise QEMU would add a display of its own, as the VM's first. */
	if (!r && all.primary && !taken.vga) {
		r = add_argument(command, "-vga");
		if (!r)
			r = add_argument(command, "none");
	}
	if (!r && options->iommufd) {
		make_name(command, IOMMUFD_NAME, &objects, all.iommufd);
		r = add_argument(command, "-object");
		if (!r)
			r = add_argument(command, "iommufd,id=%s,fd=%d", all.iommufd, options->fd);
	}
	for (size_t g = 0; !r && g < n_groups; g++)
		for (size_t i = 0; !r && i < groups[g]->n_functions;)
			r = add_slot(command, &taken, &number, groups[g], i, &all, &i);
	for (size_t i = 0; !r && i < options->n_mdevs; i++) {
		char place[64];

		r = add_place(command, &taken, &number, place);
		if (!r)
			r = add_argument(command, "-device");
		if (!r)
			/*
			 * By path, since QEMU would not know from a descriptor that it is an mdev.
			 */
			r = add_argument(command,
					 "vfio-pci,sysfsdev=/sys/bus/mdev/devices/%s%s%s,%s.0",
					 options->mdevs[i], options->iommufd ? ",iommufd=" : "",
					 all.iommufd, place);
		if (!r)
			r = end_device(command, &taken);
	}
	return r;
}

int qemu_command_make(char *const *given, const struct group_view *const *groups, size_t n_groups,
		      const struct pci_address *first, const struct qemu_options *options,
		      struct qemu_command *ret_command)
{
	size_t n = 0;
	int r;

	*ret_command = (struct qemu_command){ 0 };
	while (given[n])
		n++;
	ret_command->argv = calloc(n + 1, sizeof(*given));
	if (!ret_command->argv)
		return -ENOMEM;
	memcpy(ret_command->argv, given, n * sizeof(*given));
	ret_command->n = ret_command->n_given = n;
	r = fill_command(ret_command, groups, n_groups, first, options);
	return r || !options->drivers ? r : add_drivers(ret_command, options);
}

void qemu_command_done(struct qemu_command *command)
{
	for (size_t i = command->n_given; i < command->n; i++)
		free(command->argv[i]);
	free(command->argv);
	free(command->left);
	*command = (struct qemu_command){ 0 };
}
