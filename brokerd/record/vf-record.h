/* SPDX-License-Identifier: MIT */
/*
 * Records of SR-IOV changes, in the state directory beside the lease records. There is one for each
 * physical function whose VFs are being made or removed. It is written before the first change and
 * removed after the last.
 */
#pragma once

#include "client/host/function.h"

#define VF_BY_POLICY UINT32_MAX /* `by`: the policy, not a user */
#define VF_RECORD_NAME 32

struct vf_record {
	struct pci_address pf;
	uint16_t vendor, device;
	/* how the function was before; restored if the change fails */
	bool autoprobe;
	bool before_on_vfio; /* all VFs were on VFIO */
	uint32_t before;
	/* the change */
	uint32_t wanted;
	uint32_t by;			/* the asking uid, or VF_BY_POLICY */
	char driver[FUNCTION_NAME_MAX]; /* the rule's VFIO driver; "": the kernel's choice */
};

/* Writes the name of the record's file. */
void vf_record_name(const struct pci_address *pf, char out[VF_RECORD_NAME]);
/* Writes the record's text. Returns its length, or -E2BIG. */
int vf_record_format(const struct vf_record *record, char *out, size_t size);
/*
 * Parses a record's text. Returns 0; or -EBADMSG if it is not exactly what vf_record_format()
 * writes, and then *ret_record is unchanged.
 */
int vf_record_parse(const char *text, size_t len, struct vf_record *ret_record);
