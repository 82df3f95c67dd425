/* SPDX-License-Identifier: MIT */
/*
 * The core takes the watcher's records, each behind its length and filled up with zeros. The table
 * must be the same as a slow and simple one, and every function that lists it is called.
 *
 * About: brokerd/state/devices.c client/host/function.c
 */
#include "config.h"

#include <errno.h>

#include "brokerd/state/devices.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "watcher";

#define KNOWN_MAX 512

static struct known {
	struct pci_address address;
	uint32_t group;
	bool stale;
} known[KNOWN_MAX];
static size_t n_known;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void forget(size_t i)
{
	known[i] = known[--n_known];
}

static void model_take(const struct watcher_record *record)
{
	size_t i = 0;

	while (i < n_known && pci_address_compare(&known[i].address, &record->address))
		i++;
	switch (record->type) {
	case WATCHER_SCAN:
		for (i = 0; i < n_known; i++)
			known[i].stale = true;
		break;
	case WATCHER_DEVICE:
		if (i == n_known)
			n_known++;
		known[i] = (struct known){ record->address, record->group, false };
		break;
	case WATCHER_GONE:
		if (i < n_known)
			forget(i);
		break;
	case WATCHER_SCANNED:
		for (i = n_known; i--;)
			if (known[i].stale)
				forget(i);
		break;
	}
}

static bool ends(const char *text, size_t size)
{
	return memchr(text, '\0', size);
}

static void look_at(const struct devices *devices, const struct device *device)
{
	static const enum gpubroker_lease_state states[] = { GPUBROKER_LEASE_PREPARING,
							     GPUBROKER_LEASE_LEASED,
							     GPUBROKER_LEASE_RESTORING,
							     GPUBROKER_LEASE_STUCK };
	const struct watcher_record *r = &device->record;
	struct lease lease = { .group = r->group };
	struct device_group group;
	const struct policy_facts *facts = group.facts;
	enum gpubroker_status status;
	size_t asked, n;

	devices_group(devices, device, &group, &asked);
	n = group.n;
	must(n && n <= PROTOCOL_FUNCTIONS_MAX && asked < n);
	must(!pci_address_compare(&facts[asked].address, &r->address));
	for (size_t i = 0; i < n; i++) {
		must(facts[i].iommu_group == r->group);
		must(i == asked || !class_is_bridge(facts[i].class_code));
		for (size_t k = 0; k < i; k++)
			must(pci_address_compare(&facts[i].address, &facts[k].address));
	}
	must(!devices_same_group(&group, device, &n) || n == asked);
	must(ends(r->driver, sizeof(r->driver)) && ends(r->vfio_driver, sizeof(r->vfio_driver)) &&
	     ends(r->path, sizeof(r->path)) && ends(r->vendor_name, sizeof(r->vendor_name)) &&
	     ends(r->model, sizeof(r->model)));
	status = device_status(devices, device, NULL);
	must(status >= GPUBROKER_AVAILABLE && status <= GPUBROKER_NOT_VIABLE);
	must(r->group != UINT32_MAX || status == GPUBROKER_NOT_VIABLE);
	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
		lease.state = states[i];
		status = device_status(devices, device, &lease);
		must(status != GPUBROKER_AVAILABLE && status != GPUBROKER_VFIO_READY);
	}
	if (class_is_bridge(r->class_code))
		must(!device_is_gpu(device));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct devices devices = { 0 };
	struct input input = { data, size };

	n_known = 0;
	while (input.left && n_known < KNOWN_MAX) {
		struct watcher_record record;
		bool sane;
		int r;

		input_struct(&input, &record, sizeof(record));
		sane = record.type >= WATCHER_SCAN && record.type <= WATCHER_SCANNED &&
		       (record.type != WATCHER_DEVICE ||
			(record.address.device < 32 && record.address.function < 8 &&
			 !record.address.reserved && record.physfn.device < 32 &&
			 record.physfn.function < 8 && !record.physfn.reserved));
		r = devices_take(&devices, &record);
		must(sane ? r == 0 : r == -EBADMSG);
		if (r) /* the core drops the watcher here */
			break;
		model_take(&record);
	}
	must(devices.n == n_known);
	for (size_t i = 0; i < devices.n; i++) {
		const struct device *d = &devices.list[i];
		size_t k = 0;

		if (i)
			must(pci_address_compare(&devices.list[i - 1].record.address,
						 &d->record.address) < 0);
		while (k < n_known && pci_address_compare(&known[k].address, &d->record.address))
			k++;
		must(k < n_known && known[k].group == d->record.group &&
		     known[k].stale == d->stale);
		must(devices_from(&devices, &d->record.address) == d);
		look_at(&devices, d);
	}
	devices_done(&devices);
	return 0;
}

static void add(struct seed *seed, uint32_t type, uint8_t bus, uint8_t function,
		uint32_t class_code, uint32_t group, const char *driver)
{
	struct watcher_record record = {
		.type = type,
		.address = { .bus = bus, .function = function },
		.vendor = 0x1234,
		.device = 0x1111,
		.class_code = class_code,
		.group = group,
	};

	snprintf(record.driver, sizeof(record.driver), "%s", driver);
	seed_struct(seed, &record, sizeof(record));
}

void fuzz_seeds(fuzz_write write)
{
	static struct seed seed;
	struct watcher_record full;

	seed.n = 0;
	add(&seed, WATCHER_SCAN, 0, 0, 0, 0, "");
	add(&seed, WATCHER_DEVICE, 1, 0, 0x030000, 7, "bochs-drm");
	add(&seed, WATCHER_DEVICE, 1, 1, 0x040300, 7, "snd_hda_intel");
	add(&seed, WATCHER_DEVICE, 0, 2, 0x060400, 7, "pcieport");
	add(&seed, WATCHER_SCANNED, 0, 0, 0, 0, "");
	write("scan", seed.data, seed.n);
	add(&seed, WATCHER_DEVICE, 1, 0, 0x030000, 7, "vfio-pci");
	add(&seed, WATCHER_GONE, 1, 1, 0, 0, "");
	add(&seed, WATCHER_SCAN, 0, 0, 0, 0, "");
	add(&seed, WATCHER_SCANNED, 0, 0, 0, 0, "");
	write("twice", seed.data, seed.n);
	seed.n = 0;
	for (uint8_t i = 0; i < 70; i++)
		add(&seed, WATCHER_DEVICE, i, 0, 0x030000, 7, "");
	add(&seed, WATCHER_DEVICE, 80, 0, 0x060000, 7, "shpchp");
	write("crowd", seed.data, seed.n);
	seed.n = 0;
	memset(&full, 'x', sizeof(full));
	full.type = WATCHER_DEVICE;
	full.address = (struct pci_address){ .bus = 3 };
	full.physfn = (struct pci_address){ .bus = 2 };
	seed_struct(&seed, &full, sizeof(full));
	add(&seed, WATCHER_DEVICE, 4, 9, 0, 0, "");
	write("no-nul", seed.data, seed.n);
}
