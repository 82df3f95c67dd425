/* SPDX-License-Identifier: MIT */
/*
 * The format of allotments' records, see allotment-record.h. It must never guess at a damaged
 * record: each record that was read is formatted again, and serves nobody if the result differs in
 * one byte. The addresses in it only keep devices from others.
 *
 *	gpubroker allotment 1
 *	label slurm-17
 *	uid 1000
 *	since 1790000000
 *	until 0
 *	retracting 0
 *	device 0000:01:00.0 1234 1111 group 17 (a line for each)
 *	socket pod-17 gid 1000 groups 27,44 (if it has one; "groups -": none)
 *	end
 *
 * The file's name has the label with ',' for each '.', which a label cannot have, so that no label
 * looks like a temporary file or a damaged record.
 */
#include "config.h"

#include "brokerd/record/allotment-record.h"
#include "client/common/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ADDRESS_SHORTEST 12 /* "0000:01:00.0" */

static void replace_char(char *text, char from, char to)
{
	for (; *text; text++)
		if (*text == from)
			*text = to;
}

void allotment_record_name(const char *label, char out[ALLOTMENT_RECORD_NAME])
{
	snprintf(out, ALLOTMENT_RECORD_NAME, STORE_ALLOTMENT_PREFIX "%.*s", PROTOCOL_LABEL_MAX - 1,
		 label);
	replace_char(out, '.', ',');
}

bool allotment_record_label(const char *name, char ret_label[PROTOCOL_LABEL_MAX])
{
	const size_t prefix = strlen(STORE_ALLOTMENT_PREFIX);
	char label[PROTOCOL_LABEL_MAX] = "";

	if (strncmp(name, STORE_ALLOTMENT_PREFIX, prefix) != 0 ||
	    strlen(name + prefix) >= sizeof(label) || strchr(name, '.'))
		return false;
	strcpy(label, name + prefix);
	replace_char(label, ',', '.');
	if (!allotment_is_label(label))
		return false;
	memcpy(ret_label, label, sizeof(label));
	return true;
}

__attribute__((format(printf, 4, 5))) static int append_line(char *out, size_t size, size_t *used,
							     const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(out + *used, size - *used, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= size - *used)
		return -E2BIG;
	*used += (size_t)n;
	return 0;
}

static int append_socket(const struct allotment *allotment, char *out, size_t size, size_t *used)
{
	int r = append_line(out, size, used, "socket %s gid %" PRIu32 " groups%s",
			    allotment->socket, allotment->gid, allotment->n_gids ? "" : " -");

	for (size_t i = 0; !r && i < allotment->n_gids; i++)
		r = append_line(out, size, used, "%c%" PRIu32, i ? ',' : ' ',
				(uint32_t)allotment->gids[i]);
	return r ? r : append_line(out, size, used, "\n");
}

int allotment_record_format(const struct allotment *allotment, char *out, size_t size)
{
	char address[PCI_ADDRESS_TEXT];
	size_t used = 0;
	int r = append_line(out, size, &used,
			    "gpubroker allotment 1\nlabel %s\nuid %" PRIu32 "\nsince %" PRIu64
			    "\nuntil %" PRIu64 "\nretracting %d\n",
			    allotment->label, allotment->uid, allotment->since, allotment->until,
			    (int)allotment->retracting);

	for (size_t i = 0; !r && i < allotment->n_devices; i++) {
		const struct allotted_device *device = &allotment->devices[i];

		r = append_line(out, size, &used, "device %s %04x %04x group %" PRIu32 "\n",
				pci_address_format(&device->address, address), device->vendor,
				device->device, device->group);
	}
	if (!r && allotment->socket[0])
		r = append_socket(allotment, out, size, &used);
	if (!r)
		r = append_line(out, size, &used, "end\n");
	return r ? r : (int)used;
}

static bool take_device_line(const char *line, struct allotted_device *ret_device)
{
	char address[PCI_ADDRESS_TEXT];
	unsigned vendor, device;
	uint32_t group;

	if (sscanf(line, "device %19s %4x %4x group %" SCNu32, address, &vendor, &device, &group) !=
		    4 ||
	    pci_address_parse(address, &ret_device->address))
		return false;
	ret_device->vendor = (uint16_t)vendor;
	ret_device->device = (uint16_t)device;
	ret_device->group = group;
	return true;
}

static bool take_socket_line(const char *line, struct allotment *a)
{
	int at = 0;
	uint32_t gid;

	if (sscanf(line, "socket %55s gid %" SCNu32 " groups%n", a->socket, &a->gid, &at) != 2 ||
	    !at || !allotment_is_socket(a->socket))
		return false;
	for (line += at; a->n_gids < ARRAY_SIZE(a->gids) && (*line == ' ' || *line == ',') &&
			 sscanf(line + 1, "%" SCNu32 "%n", &gid, &at) == 1;
	     line += 1 + at)
		a->gids[a->n_gids++] = gid;
	return true;
}

/* Parses a text that ends in a NUL. Whatever it leaves out or adds is found by formatting again. */
static bool parse_allotment(const char *text, struct allotment *a)
{
	char label[PROTOCOL_LABEL_MAX];
	unsigned retracting;
	const char *line;

	if (sscanf(text,
		   "gpubroker allotment 1 label %47s uid %" SCNu32 " since %" SCNu64
		   " until %" SCNu64 " retracting %u",
		   label, &a->uid, &a->since, &a->until, &retracting) != 5 ||
	    strcmp(label, a->label) != 0 || retracting > 1)
		return false;
	a->retracting = retracting;
	for (line = strstr(text, "\ndevice "); line; line = strstr(line + 1, "\ndevice "))
		if (a->n_devices == ARRAY_SIZE(a->devices) ||
		    !take_device_line(line + 1, &a->devices[a->n_devices++]))
			return false;
	line = strstr(text, "\nsocket ");
	if (line && !take_socket_line(line + 1, a))
		return false;
	return a->n_devices;
}

/* Parses the address that a text begins with; its domain may have more than four digits. */
static bool salvage_address(const char *text, size_t len, struct pci_address *ret_address)
{
	char copy[PCI_ADDRESS_TEXT];

	for (size_t n = ADDRESS_SHORTEST; n <= len && n < sizeof(copy); n++) {
		memcpy(copy, text, n);
		copy[n] = '\0';
		if (!pci_address_parse(copy, ret_address))
			return true;
	}
	return false;
}

/* Keeps the devices whose addresses can still be read; if there is none, it may mean any. */
static void salvage(const char *text, size_t len, struct allotment *a)
{
	static const char word[] = "device ";
	const size_t n = sizeof(word) - 1;

	for (size_t i = 0; i + n + ADDRESS_SHORTEST <= len; i++) {
		struct allotted_device device = { .group = NO_GROUP };

		if (memcmp(text + i, word, n) != 0 ||
		    !salvage_address(text + i + n, len - i - n, &device.address))
			continue;
		if (a->n_devices == ARRAY_SIZE(a->devices)) /* no broker wrote so many */
			a->all = true;
		else
			a->devices[a->n_devices++] = device;
	}
	a->all = a->all || !a->n_devices;
}

int allotment_record_parse(const char *name, const char *text, size_t len,
			   struct allotment *ret_allotment)
{
	char copy[ALLOTMENT_RECORD_TEXT], again[ALLOTMENT_RECORD_TEXT];
	struct allotment a = { 0 };

	if (!allotment_record_label(name, a.label))
		return -EINVAL;
	if (len < sizeof(copy) && !memchr(text, '\0', len)) {
		memcpy(copy, text, len);
		copy[len] = '\0';
		if (parse_allotment(copy, &a) &&
		    allotment_record_format(&a, again, sizeof(again)) == (int)len &&
		    !memcmp(again, text, len)) {
			*ret_allotment = a;
			return 0;
		}
	}
	*ret_allotment = (struct allotment){ .uid = POLICY_NOBODY, .damaged = true };
	memcpy(ret_allotment->label, a.label, sizeof(a.label));
	salvage(text, len, ret_allotment);
	return -EBADMSG;
}

int allotment_record_write(const struct store *store, const struct allotment *allotment)
{
	char text[ALLOTMENT_RECORD_TEXT], name[ALLOTMENT_RECORD_NAME];
	int len = allotment_record_format(allotment, text, sizeof(text));

	allotment_record_name(allotment->label, name);
	return len < 0 ? len : store_put(store, name, text, (size_t)len);
}

int allotment_record_remove(const struct store *store, const char *label)
{
	char name[ALLOTMENT_RECORD_NAME];

	allotment_record_name(label, name);
	return store_drop(store, name);
}
