/* SPDX-License-Identifier: MIT */
/*
 * Records of VFs that are being made: beside the leases' in the state directory, one for each
 * physical function at work, written before the first change and removed after the last.
 */
#pragma once

#include "client/host/function.h"

#define VF_BY_POLICY UINT32_MAX /* the policy asked, not a user */
#define VF_RECORD_NAME 32

struct vf_record {
	struct pci_address pf;
	uint16_t vendor, device;
	/* how it was, and is to be again where it fails */
	bool autoprobe;
	bool before_on_vfio; /* all of those that there were */
	uint32_t before;
	/* what it is to become */
	uint32_t wanted;
	uint32_t by;			/* the uid that asked for it, or VF_BY_POLICY */
	char driver[FUNCTION_NAME_MAX]; /* the VFIO driver of the rule, "": the kernel's choice */
};

/* Its file's name. */
void vf_record_name(const struct pci_address *pf, char out[VF_RECORD_NAME]);
/* Its text; the length, or -E2BIG. */
int vf_record_format(const struct vf_record *record, char *out, size_t size);
/* -EBADMSG: it is not exactly what vf_record_format() writes; *ret_record is not to be used. */
int vf_record_parse(const char *text, size_t len, struct vf_record *ret_record);
