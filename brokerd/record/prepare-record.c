/* SPDX-License-Identifier: MIT */
/*
 * The format of the records of root's orders to prepare, see prepare-record.h. No I/O. It must
 * never guess at a damaged record: each record that was read is formatted again, and refused if the
 * result differs in one byte.
 *
 *	gpubroker prepare 1
 *	function 0000:0c:00.0 1b36 0010
 *	by 0
 *	end
 */
#include "config.h"

#include "brokerd/record/prepare-record.h"
#include "brokerd/record/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The name is the address with '-' for its dot, since a dot begins a suffix. */
void prepare_record_name(const struct pci_address *address, char out[PREPARE_RECORD_NAME])
{
	char text[PCI_ADDRESS_TEXT];

	snprintf(out, PREPARE_RECORD_NAME, STORE_PREPARE_PREFIX "%s",
		 pci_address_format(address, text));
	*strrchr(out, '.') = '-';
}

size_t prepare_record_format(const struct prepare_record *record, char out[PREPARE_RECORD_TEXT])
{
	char text[PCI_ADDRESS_TEXT];

	return (size_t)snprintf(out, PREPARE_RECORD_TEXT,
				"gpubroker prepare 1\nfunction %s %04x %04x\nby %" PRIu32 "\nend\n",
				pci_address_format(&record->address, text), record->vendor,
				record->device, record->by);
}

int prepare_record_parse(const char *name, const char *text, size_t len,
			 struct prepare_record *ret_record)
{
	char copy[PREPARE_RECORD_TEXT], again[PREPARE_RECORD_TEXT], own[PREPARE_RECORD_NAME];
	char address[PCI_ADDRESS_TEXT];
	struct prepare_record r = { 0 };
	unsigned vendor, device;

	if (len >= sizeof(copy) || memchr(text, '\0', len))
		return -EBADMSG;
	memcpy(copy, text, len);
	copy[len] = '\0';
	_Static_assert(sizeof(address) == 20, "width below");
	if (sscanf(copy, "gpubroker prepare 1 function %19s %4x %4x by %" SCNu32 " end", address,
		   &vendor, &device, &r.by) != 4 ||
	    pci_address_parse(address, &r.address))
		return -EBADMSG;
	r.vendor = (uint16_t)vendor;
	r.device = (uint16_t)device;
	if (prepare_record_format(&r, again) != len || memcmp(again, text, len) != 0)
		return -EBADMSG;
	prepare_record_name(&r.address, own);
	if (strcmp(own, name) != 0)
		return -EBADMSG;
	*ret_record = r;
	return 0;
}
