/* SPDX-License-Identifier: MIT */
/*
 * Mediated devices (mdevs) in sysfs, as far as the daemon needs them: their parents, the types that
 * these offer, and which mdevs exist. Linux, Documentation/ABI/testing/sysfs-bus-vfio-mdev. All
 * return 0 or what is said, or -errno. profile.c reads what `gpubroker profiles` shows.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/common/address.h"

#define MDEV_PARENT_MAX 32 /* names with their NUL; longer ones are ignored */
#define MDEV_TYPE_MAX 64
#define MDEV_UUID_MAX 40

/* A value other than 0 ends the calls, and is returned. */
typedef int (*mdev_func)(void *userdata, const char *name);

/* Calls func for each parent: its name is a function's address, or another device's name. */
int mdev_each_parent(int sys, mdev_func func, void *userdata);
/* Calls func for each type of a parent. -ENODEV: it is no parent. */
int mdev_each_type(int sys, const char *parent, mdev_func func, void *userdata);
/* The driver's name for a type; "": it has none, or no valid one. The driver is not asked. */
void mdev_type_name(int sys, const char *parent, const char *type, char ret_name[MDEV_TYPE_MAX]);
/* How many mdevs of a type exist, whoever made them. */
int mdev_count(int sys, const char *parent, const char *type);
/* Returns 1 if the function has an mdev, else 0. */
int mdev_has_any(int sys, const struct pci_address *address);
/* The IOMMU group of an mdev, NO_GROUP where it has none yet. -ENODEV: there is no such mdev. */
int mdev_group_of(int sys, const char *uuid, uint32_t *ret_group);
