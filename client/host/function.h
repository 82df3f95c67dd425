/* SPDX-License-Identifier: MIT */
/*
 * PCI functions and IOMMU groups as sysfs shows them at one moment, and the guards that hold
 * whatever a policy says. Pure; pci.h reads them. The daemon and gpubroker(1) share both, so that
 * gpubroker(1) explains what the daemon does.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/common/address.h"
#include "policy/policy.h"

#define FUNCTION_NAME_MAX 32 /* a driver's name with its NUL */
#define FUNCTION_PATH_MAX 64
#define FUNCTION_SERIAL_MAX 64
/*
 * Functions of one IOMMU group that go along with a lease. A lease, its record and the message that
 * lists it name each one, and all of a group are taken from their drivers before any is lent, so
 * there is a bound; boards with 64 functions behind one missing ACS isolate nothing worth lending.
 */
#define FUNCTIONS_MAX 64
#define NO_GROUP UINT32_MAX

struct function {
	struct pci_address address;
	uint16_t vendor, device, subsystem_vendor, subsystem_device;
	uint32_t class_code;
	uint32_t iommu_group;		/* NO_GROUP: none */
	char driver[FUNCTION_NAME_MAX]; /* "": none */
	/*
	 * The display that the firmware or the kernel has chosen for the console: the boot VGA. It
	 * stays that at the next boot.
	 */
	bool boot_vga;
	char console[88]; /* why it is part of the console; "": it is not, or it is the boot VGA */
	bool is_bridge;	  /* stays with the host, see class_is_bridge() */
	char in_use[88];  /* how the host uses it, "": it does not */
	bool opened;	  /* on VFIO, and a process seems to have it open: a lease's, or another */
	/* root bus, bridges, itself: "pci0000:00/10.0/00.0"; "": too deep */
	char path[FUNCTION_PATH_MAX];
	char serial[FUNCTION_SERIAL_MAX]; /* lower case; "": it has none, or see serial_unknown */
	bool serial_unknown;		  /* could not be read: an older kernel, or not as root */
	bool is_vf;
	struct pci_address physfn; /* of a VF */
	uint32_t vfs_total;	   /* how many VFs it can have; 0: it has no SR-IOV */
	uint32_t vfs;		   /* how many it has */
};

struct group_view {
	uint32_t group;
	size_t n_functions; /* functions that go along with a lease; bridges do not */
	struct function functions[FUNCTIONS_MAX];
	char not_viable[88]; /* why the group can never be lent, "": it can */
	bool has_blocker;
	struct pci_address blocker; /* the function that spoils it */
};

/* The facts for a policy. They point into the function, so they live as long as that does. */
struct policy_facts function_facts(const struct function *function);

/* True for vfio-pci and the variant drivers, none of which needs to be unbound before lending. */
bool driver_is_vfio(const char *driver);

/*
 * Return true for what is part of the host's console now. On a VFIO driver nothing is, not even the
 * boot VGA, since the kernel takes the console from a display that VFIO gets.
 */
bool shows_console(bool on_console, const char *driver);
bool is_console(const struct function *function);

bool class_is_display(uint32_t class_code);

/* A display controller or a processing accelerator: what "any" may choose. */
bool class_is_gpu(uint32_t class_code);

/*
 * Bridges stay with the host: pcieport does not spoil a group, nor does a bridge without a driver.
 * Any other driver on one does, since the group could then not be attached.
 *
 * Returns true for the classes that are bridges whatever their header says. The others of base
 * class 06 (0680: NVSwitch, NTB, capture cards; 0609) may be endpoints, which VFIO takes: there the
 * header's type decides, see is_bridge in struct function.
 */
bool class_is_bridge(uint32_t class_code);
bool bridge_spoils_group(const char *driver);

/* Why a bridge is not lent, as what its group does. */
#define GROUP_LENDS_NO_BRIDGE "lends only what is no bridge, and that is one"

/* Empties the view of a group that has n functions, more than FUNCTIONS_MAX, and says so in it. */
void group_say_too_many(struct group_view *view, size_t n);

/* The index of an address in a view, or SIZE_MAX. */
size_t group_find(const struct group_view *view, const struct pci_address *address);

enum guard {
	GUARD_NONE, /* may be lent */
	GUARD_NOT_VIABLE,
	GUARD_BOOT_VGA, /* part of the console, see struct function */
	GUARD_IN_USE,
};

/*
 * Returns what forbids lending the group now, whatever the policy says; *ret_which is the function
 * in the way, or SIZE_MAX if it is the group as a whole. boot_vga_too: a rule has boot-vga and the
 * user gives --force.
 */
enum guard group_guard(const struct group_view *view, bool boot_vga_too, size_t *ret_which);
