/* SPDX-License-Identifier: MIT */
/*
 * Parts of devices that drivers offer to make: mdev types (Linux, Documentation/ABI/testing/
 * sysfs-bus-vfio-mdev), and NVIDIA's vGPU types of virtual functions that stay on their driver. As
 * sysfs shows them at one moment, to every user.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROFILE_NAME_MAX 256 /* a file's name, with its NUL */
#define PROFILE_UNKNOWN UINT64_MAX

enum profile_mechanism {
	PROFILE_MDEV = 1,
	PROFILE_VENDOR_VFIO,
};

struct profile {
	enum profile_mechanism mechanism;
	char parent[PROFILE_NAME_MAX]; /* as in /sys/class/mdev_bus, or the function's address */
	char physfn[32];	       /* if the parent is a virtual function, else "" */
	char type[PROFILE_NAME_MAX];   /* its name in a claim */
	char name[128];		       /* "": it has none */
	char description[512];	       /* on one line; "" */
	char device_api[32];	       /* "vfio-pci"; "": not known */
	uint64_t memory;	       /* bytes, 0: not stated */
	/* Or PROFILE_UNKNOWN if it could not be read. */
	uint64_t available;
	uint64_t instances; /* existing ones, whoever made them */
	uint64_t others;    /* of these not the broker's; filled in by `gpubroker profiles` */
};

struct profiles {
	struct profile *list; /* by parent and type */
	size_t n;
};

/* Called for each file that could not be read or understood; `error` is positive. */
typedef void (*profile_problem_func)(void *userdata, const char *path, int error);

/*
 * Reads all profiles below `sys`, a descriptor of /sys. 0, or -errno if not even their directories
 * could be read. Call profiles_done() in either case.
 */
int profiles_read(int sys, profile_problem_func problem, void *userdata,
		  struct profiles *ret_profiles);
void profiles_done(struct profiles *profiles);

/*
 * The memory that a description states, in bytes; 0: none. NVIDIA's "framebuffer=8192M", GVT-g's
 * "low_gm_size: 128MB" (what the processor can see of it), and "16 MB video memory".
 */
uint64_t profile_stated_memory(const char *description);

/*
 * The memory that stands in a name alone, in bytes; 0: none. NVIDIA's "NVIDIA L40S-48Q" (GiB before
 * a letter for the kind), or a last word with a unit, "-16GB".
 */
uint64_t profile_named_memory(const char *name);

/*
 * Parses a line of nvidia/creatable_vgpu_types, "1147 : NVIDIA L40S-1B". False: it is none, as the
 * heading.
 */
bool profile_parse_creatable(const char *line, char ret_type[16], char ret_name[128]);
