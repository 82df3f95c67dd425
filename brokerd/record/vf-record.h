/* SPDX-License-Identifier: MIT */
/*
 * Records of VFs that are being made: beside the leases' in the state directory, one for each
 * physical function at work, written before the first change and removed after the last.
 */
#pragma once

#include "client/host/function.h"

#define VFS_NOBODY UINT32_MAX /* by the policy, not by a user */
#define VFS_RECORD_NAME 32

struct vfs_record {
	struct pci_address pf;
	uint16_t vendor, device;
	/* how it was, and is to be again where it fails */
	bool autoprobe;
	bool before_on_vfio; /* all of those that there were */
	uint32_t before;
	/* what it is to become */
	uint32_t wanted;
	uint32_t by;			/* who asked for it; VFS_NOBODY */
	char driver[FUNCTION_NAME_MAX]; /* the VFIO driver of the rule, "": the kernel's choice */
};

/* Its file's name. */
void vfs_record_name(const struct pci_address *pf, char out[VFS_RECORD_NAME]);
/* Its text; the length, or -E2BIG. */
int vfs_record_format(const struct vfs_record *record, char *out, size_t size);
/* -EBADMSG: it is not exactly what vfs_record_format() writes; *ret_record is not to be used. */
int vfs_record_parse(const char *text, size_t len, struct vfs_record *ret_record);
