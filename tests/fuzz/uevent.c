/* SPDX-License-Identifier: MIT */
/*
 * The watcher reads uevents: messages, each behind its length. Its marks must be the same as those
 * of a slow and simple reading of the messages.
 *
 * About: brokerd/helper/uevent.c client/common/address.c
 */
#include "config.h"

#include <ctype.h>

#include "brokerd/helper/uevent.h"
#include "client/common/util.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "uevent";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static bool digits(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isxdigit((unsigned char)text[i]))
			return false;
	return true;
}

/* Returns true if the text is [DOMAIN:]BB:DD.F, as sysfs names functions, and nothing else. */
static bool is_address(const char *text)
{
	size_t n = strlen(text);
	const char *bdf = text + (n > 7 ? n - 7 : 0);
	size_t domain = (size_t)(bdf - text);

	if (n != 7 &&
	    (domain < 5 || domain > 9 || text[domain - 1] != ':' || !digits(text, domain - 1)))
		return false;
	return strlen(bdf) == 7 && digits(bdf, 2) && bdf[2] == ':' && digits(bdf + 3, 2) &&
	       bdf[5] == '.' && digits(bdf + 6, 1) && strtoul(bdf + 3, NULL, 16) < 32 &&
	       strtoul(bdf + 6, NULL, 16) < 8;
}

/*
 * Returns the last PCI_SLOT_NAME, if it is an address and the message names the subsystem anywhere.
 */
static const char *model(const char *text, size_t size)
{
	const char *slot = NULL;
	bool pci = false;

	for (size_t start = 0, i = 0; i < size; i++) {
		if (text[i])
			continue;
		if (i - start == 13 && !memcmp(text + start, "SUBSYSTEM=pci", 13))
			pci = true;
		if (i - start >= 14 && !memcmp(text + start, "PCI_SLOT_NAME=", 14))
			slot = text + start + 14;
		start = i + 1;
	}
	return pci && slot && is_address(slot) ? slot : NULL;
}

static bool is_marked(const struct uevent_marks *marks, const char *slot)
{
	unsigned domain = 0, bus, device, function;

	if (sscanf(slot, "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4) {
		domain = 0;
		must(sscanf(slot, "%x:%x.%x", &bus, &device, &function) == 3);
	}
	for (size_t i = 0; i < marks->n; i++) {
		const struct pci_address *a = &marks->list[i];

		if (a->domain == domain && a->bus == bus && a->device == device &&
		    a->function == function)
			return true;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct uevent_marks marks;
	struct input input = { data, size };

	marks = (struct uevent_marks){ 0 };
	while (input.left) {
		size_t n = input_length(&input), before = marks.n;
		/* Memory of exactly its size, so that ASan sees reads past the end. */
		cleanup_free char *text = malloc(n ? n : 1);
		bool everything = marks.everything;
		const char *slot;

		must(text);
		memcpy(text, input.p, n);
		input.p += n;
		input.left -= n;
		uevent_take(&marks, text, n);
		slot = model(text, n);
		if (slot)
			must(marks.everything || is_marked(&marks, slot));
		else
			must(marks.n == before && marks.everything == everything);
		must(marks.n <= UEVENT_MARKS_MAX && marks.n <= before + 1);
		must(everything <= marks.everything);
		must(!marks.everything || marks.n == UEVENT_MARKS_MAX);
	}
	for (size_t i = 0; i < marks.n; i++) {
		must(marks.list[i].device < 32 && marks.list[i].function < 8 &&
		     !marks.list[i].reserved);
		for (size_t k = 0; k < i; k++)
			must(pci_address_compare(&marks.list[i], &marks.list[k]));
	}
	return 0;
}

static void add(struct seed *seed, const char *text, size_t n)
{
	seed_byte(seed, n & 0xff);
	seed_byte(seed, (unsigned)(n >> 8));
	must(n <= sizeof(seed->data) - seed->n);
	memcpy(seed->data + seed->n, text, n);
	seed->n += n;
}

#define ADD(seed, text) add(seed, text, sizeof(text)) /* with its NUL */
#define ADD_CUT(seed, text) add(seed, text, sizeof(text) - 1)
#define BIND                                                                                       \
	"bind@/devices/pci0000:00/0000:00:02.0/0000:01:00.0\0ACTION=bind\0"                        \
	"DEVPATH=/devices/pci0000:00/0000:00:02.0/0000:01:00.0\0SUBSYSTEM=pci\0DRIVER=vfio-pci\0"  \
	"PCI_CLASS=30000\0PCI_ID=1234:1111\0PCI_SUBSYS_ID=1AF4:1100\0PCI_SLOT_NAME=0000:01:00.0\0" \
	"MODALIAS=pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00\0SEQNUM=2711"

void fuzz_seeds(fuzz_write write)
{
	static struct seed seed;

	seed.n = 0;
	ADD(&seed, BIND);
	write("bind", seed.data, seed.n);
	ADD(&seed, "remove@/devices/x\0ACTION=remove\0SUBSYSTEM=pci\0PCI_SLOT_NAME=10000:e1:1f.7");
	ADD(&seed, BIND);
	write("three", seed.data, seed.n);
	seed.n = 0;
	ADD(&seed, "add@/devices/virtual/net/x\0SUBSYSTEM=net\0PCI_SLOT_NAME=0000:01:00.0");
	ADD(&seed, "add@/x\0SUBSYSTEM=pci\0PCI_SLOT_NAME=0000:01:00.0/../..");
	ADD(&seed, "add@/x\0SUBSYSTEM=pci\0PCI_SLOT_NAME=");
	ADD(&seed, "");
	ADD_CUT(&seed, "add@/x\0SUBSYSTEM=pci\0PCI_SLOT_NAME=0000:01:00.0"); /* without its NUL */
	write("none", seed.data, seed.n);
	seed.n = 0;
	for (unsigned i = 0; i < 260; i++) {
		char text[64];
		int n = snprintf(text, sizeof(text), "SUBSYSTEM=pci%cPCI_SLOT_NAME=%02x:%02x.%x", 0,
				 i >> 8, i >> 3 & 31, i & 7);

		add(&seed, text, (size_t)n + 1);
	}
	write("many", seed.data, seed.n);
}
