/* SPDX-License-Identifier: MIT */
/*
 * The format of the records of SR-IOV changes, see vf-record.h. No I/O. It must never guess at a
 * damaged record: each record that was read is formatted again, and refused if the result differs
 * in one byte.
 *
 *	gpubroker vfs 1
 *	function 0000:0c:00.0 1b36 0010
 *	autoprobe 1
 *	before 2
 *	before-on-vfio 1
 *	wanted 4
 *	by 0
 *	driver - (the rule names none)
 *	end
 */
#include "config.h"

#include "brokerd/record/vf-record.h"
#include "brokerd/record/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX 512

/* The name is the address with '-' for its dot, since a dot begins a suffix. */
void vf_record_name(const struct pci_address *pf, char out[VF_RECORD_NAME])
{
	char text[PCI_ADDRESS_TEXT];

	snprintf(out, VF_RECORD_NAME, STORE_VF_PREFIX "%s", pci_address_format(pf, text));
	*strrchr(out, '.') = '-';
}

int vf_record_format(const struct vf_record *record, char *out, size_t size)
{
	char text[PCI_ADDRESS_TEXT];
	int n;

	n = snprintf(out, size,
		     "gpubroker vfs 1\nfunction %s %04x %04x\nautoprobe %d\nbefore %" PRIu32
		     "\nbefore-on-vfio %d\nwanted %" PRIu32 "\nby %" PRIu32 "\ndriver %s\nend\n",
		     pci_address_format(&record->pf, text), record->vendor, record->device,
		     record->autoprobe, record->before, record->before_on_vfio, record->wanted,
		     record->by, record->driver[0] ? record->driver : "-");
	return n < 0 || (size_t)n >= size ? -E2BIG : n;
}

int vf_record_parse(const char *text, size_t len, struct vf_record *ret_record)
{
	char copy[TEXT_MAX], again[TEXT_MAX], address[PCI_ADDRESS_TEXT];
	struct vf_record r = { 0 };
	unsigned vendor, device, autoprobe, on_vfio;
	int n;

	if (len >= sizeof(copy) || memchr(text, '\0', len))
		return -EBADMSG;
	memcpy(copy, text, len);
	copy[len] = '\0';
	_Static_assert(sizeof(address) == 20 && sizeof(r.driver) == 32, "widths below");
	if (sscanf(copy,
		   "gpubroker vfs 1 function %19s %4x %4x autoprobe %1u before %" SCNu32
		   " before-on-vfio %1u wanted %" SCNu32 " by %" SCNu32 " driver %31s end",
		   address, &vendor, &device, &autoprobe, &r.before, &on_vfio, &r.wanted, &r.by,
		   r.driver) != 9 ||
	    pci_address_parse(address, &r.pf) || autoprobe > 1 || on_vfio > 1)
		return -EBADMSG;
	r.vendor = (uint16_t)vendor;
	r.device = (uint16_t)device;
	r.autoprobe = autoprobe;
	r.before_on_vfio = on_vfio;
	if (!strcmp(r.driver, "-"))
		r.driver[0] = '\0';
	n = vf_record_format(&r, again, sizeof(again));
	if (n != (int)len || memcmp(again, text, len) != 0)
		return -EBADMSG;
	*ret_record = r;
	return 0;
}
