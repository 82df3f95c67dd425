/* SPDX-License-Identifier: MIT */
/*
 * The device table, fed with records that a compromised watcher might send, and the status that it
 * gives a function.
 */
#include "config.h"

#include "brokerd/state/devices.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <errno.h>
#include <string.h>

static struct watcher_record at(uint8_t bus, uint8_t device, uint8_t function)
{
	return (struct watcher_record){
		.type = WATCHER_DEVICE,
		.address = { .bus = bus, .device = device, .function = function },
		.vendor = 0x1234,
		.device = 0x1111,
		.class_code = 0x030000,
		.group = 17,
	};
}

static int tell(struct devices *devices, enum watcher_record_type type, uint8_t bus)
{
	struct watcher_record record = at(bus, 0, 0);

	record.type = type;
	return devices_take(devices, &record);
}

static bool has(const struct devices *devices, uint8_t bus)
{
	struct watcher_record record = at(bus, 0, 0);
	const struct device *device = devices_find(devices, &record.address);

	return device && !pci_address_compare(&device->record.address, &record.address);
}

static bool in_order(const struct devices *devices)
{
	for (size_t i = 1; i < devices->n; i++)
		if (pci_address_compare(&devices->list[i - 1].record.address,
					&devices->list[i].record.address) >= 0)
			return false;
	return true;
}

static void test_hostile(void)
{
	static const uint32_t types[] = { 0, WATCHER_SCANNED + 1, 255, 256 + WATCHER_DEVICE,
					  UINT32_MAX };
	struct devices devices = { 0 };
	struct watcher_record record;
	const struct device *d;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		record = at(1, 0, 0);
		record.type = types[i];
		tap_ok(devices_take(&devices, &record) == -EBADMSG && !devices.n,
		       "type %u is refused", (unsigned)types[i]);
	}
	record = at(1, 32, 0);
	tap_ok(devices_take(&devices, &record) == -EBADMSG && !devices.n, "device 32 is refused");
	record = at(1, 0, 8);
	tap_ok(devices_take(&devices, &record) == -EBADMSG && !devices.n, "function 8 is refused");
	record = at(1, 0, 0);
	record.address.reserved = 1;
	tap_ok(devices_take(&devices, &record) == -EBADMSG && !devices.n,
	       "a reserved byte that is not 0 is refused");
	memset(&record, 0xff, sizeof(record));
	record.physfn = (struct pci_address){ 0 };
	record.type = WATCHER_GONE;
	tap_ok(!devices_take(&devices, &record) && !devices.n,
	       "a function that never was may be gone");

	memset(&record, 'A', sizeof(record));
	record.physfn = (struct pci_address){ 0 };
	record.type = WATCHER_DEVICE;
	record.address = (struct pci_address){ .bus = 1 };
	tap_ok(!devices_take(&devices, &record) && devices.n == 1, "strings without end are taken");
	d = &devices.list[0];
	tap_ok(strlen(d->record.driver) == sizeof(d->record.driver) - 1 &&
		       strlen(d->record.vendor_name) == sizeof(d->record.vendor_name) - 1 &&
		       strlen(d->record.model) == sizeof(d->record.model) - 1,
	       "and ended within their size");
	tap_ok(device_status(&devices, d, NULL) && !device_is_gpu(d),
	       "such a function can be looked at");
	devices_done(&devices);
	tap_ok(!devices.list && !devices.n && !devices.scanned, "an emptied table is empty");
}

static void test_table(void)
{
	static const uint8_t order[] = { 9, 1, 200, 5, 0, 255, 7, 3 };
	struct watcher_record record;
	struct devices devices = { 0 };
	struct pci_address from = { 0 };
	size_t n = 0, found = 0;

	tap_ok(!devices_from(&devices, &from) && !devices_find(&devices, &from),
	       "an empty table has no first device, and none to be found");
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		tell(&devices, WATCHER_DEVICE, order[i]);
	tap_ok(devices.n == ARRAY_SIZE(order) && in_order(&devices),
	       "told in any order, it stands by address");
	record = at(5, 0, 0);
	record.vendor = 0x10de;
	devices_take(&devices, &record);
	tap_ok(devices.n == ARRAY_SIZE(order) &&
		       devices_from(&devices, &record.address)->record.vendor == 0x10de,
	       "told again, a function is replaced and not doubled");
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		record = at(order[i], 0, 0);
		found += devices_find(&devices, &record.address) ==
			 devices_from(&devices, &record.address);
	}
	tap_ok(found == ARRAY_SIZE(order), "each is found by its address");
	record = at(4, 0, 0);
	from = at(5, 0, 1).address;
	tap_ok(devices_from(&devices, &record.address) &&
		       !devices_find(&devices, &record.address) && devices_from(&devices, &from) &&
		       !devices_find(&devices, &from),
	       "the next one is not taken for one that is not there");
	from = (struct pci_address){ 0 };
	for (const struct device *d; (d = devices_from(&devices, &from)) && n < 100; n++) {
		from = d->record.address;
		from.bus++; /* 255 wraps to 0: that was the last one */
		if (!from.bus)
			from.domain++;
	}
	tap_ok(n == ARRAY_SIZE(order), "a cursor meets each once");
	tell(&devices, WATCHER_GONE, 5);
	tap_ok(devices.n == ARRAY_SIZE(order) - 1 && !has(&devices, 5) && in_order(&devices),
	       "what is gone is gone");
	tell(&devices, WATCHER_GONE, 5);
	tap_ok(devices.n == ARRAY_SIZE(order) - 1, "twice gone is gone");
	from = (struct pci_address){ UINT32_MAX, 255, 31, 7, 0 };
	tap_ok(!devices_from(&devices, &from) && !devices_find(&devices, &from),
	       "past the last there is none");
	devices_done(&devices);
}

static void test_scan(void)
{
	struct devices devices = { 0 };

	tell(&devices, WATCHER_SCAN, 0);
	tell(&devices, WATCHER_DEVICE, 1);
	tell(&devices, WATCHER_DEVICE, 2);
	tell(&devices, WATCHER_DEVICE, 3);
	tap_ok(!devices.scanned, "a scan under way is not complete");
	tell(&devices, WATCHER_SCANNED, 0);
	tap_ok(devices.scanned && devices.n == 3, "a scan that is done is");

	tell(&devices, WATCHER_SCAN, 0);
	tap_ok(devices.n == 3, "while another is under way, nothing is missing");
	tell(&devices, WATCHER_DEVICE, 2);
	tell(&devices, WATCHER_DEVICE, 4);
	tell(&devices, WATCHER_SCANNED, 0);
	tap_ok(devices.n == 2 && has(&devices, 2) && has(&devices, 4) && in_order(&devices),
	       "after it, what it did not tell is dropped");

	tell(&devices, WATCHER_SCAN, 0);
	tell(&devices, WATCHER_DEVICE, 2);
	tell(&devices, WATCHER_SCAN, 0);
	tell(&devices, WATCHER_DEVICE, 4);
	tell(&devices, WATCHER_SCANNED, 0);
	tap_ok(devices.n == 1 && has(&devices, 4),
	       "a scan begun again forgets what the first had told");

	tell(&devices, WATCHER_DEVICE, 6);
	tell(&devices, WATCHER_SCANNED, 0);
	tap_ok(devices.n == 2, "an end without a beginning drops nothing");
	tell(&devices, WATCHER_SCAN, 0);
	tell(&devices, WATCHER_GONE, 4);
	tell(&devices, WATCHER_SCANNED, 0);
	tap_ok(!devices.n && devices.scanned, "a scan that tells nothing leaves nothing");
	devices_done(&devices);
}

static void test_max(void)
{
	struct devices devices = { .list = calloc(DEVICES_MAX, sizeof(struct device)),
				   .n = DEVICES_MAX - 1 };
	struct watcher_record record = at(0, 0, 0);

	if (!devices.list)
		exit(99);
	for (size_t i = 0; i < devices.n; i++) {
		devices.list[i].record = record;
		devices.list[i].record.address.domain = (uint32_t)i;
	}
	record.address.domain = DEVICES_MAX - 1;
	tap_ok(!devices_take(&devices, &record) && devices.n == DEVICES_MAX,
	       "DEVICES_MAX are taken");
	record.address.domain = DEVICES_MAX;
	tap_ok(devices_take(&devices, &record) == -E2BIG && devices.n == DEVICES_MAX,
	       "and not one more");
	record.address.domain = DEVICES_MAX + 1;
	tap_ok(!devices_take(&devices, &record) && devices.n == DEVICES_MAX,
	       "which is said once, not for each of a hundred thousand");
	record.type = WATCHER_SCAN;
	devices_take(&devices, &record);
	record.type = WATCHER_DEVICE;
	tap_ok(devices_take(&devices, &record) == -E2BIG && devices.n == DEVICES_MAX,
	       "and again in the next scan");
	record.address.domain = 7;
	record.vendor = 0x8086;
	tap_ok(!devices_take(&devices, &record) && devices.list[7].record.vendor == 0x8086,
	       "but those that are there can change");
	record.type = WATCHER_GONE;
	devices_take(&devices, &record);
	record.type = WATCHER_DEVICE;
	record.address.domain = DEVICES_MAX;
	tap_ok(!devices_take(&devices, &record) && in_order(&devices),
	       "and when one goes, another has room");
	devices_done(&devices);
}

/* A compromised watcher sends more functions than the table may hold. */
static void test_flood(void)
{
	struct devices devices = { 0 };
	struct watcher_record record = at(0, 0, 0);
	unsigned told = 0, wrong = 0;

	for (unsigned round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 100000; i++) {
			int r;

			record.type = WATCHER_DEVICE;
			record.address.domain = i;
			r = devices_take(&devices, &record);
			told += r == -E2BIG;
			wrong += r && r != -E2BIG;
		}
	}
	tap_ok(devices.n == DEVICES_MAX && devices.room == DEVICES_MAX && told == 1 && !wrong,
	       "of 100,000 functions, told twice, DEVICES_MAX are kept, and that is said once");
	for (uint32_t i = 0; i < 100000; i++) {
		record.type = WATCHER_GONE;
		record.address.domain = 99999 - i;
		wrong += !!devices_take(&devices, &record);
	}
	tap_ok(!devices.n && !wrong, "and when all are said to have gone, they have");
	devices_done(&devices);
}

static bool is_asked(const struct devices *devices, const struct device *device)
{
	struct device_group group;
	size_t asked = SIZE_MAX;

	devices_group(devices, device, &group, &asked);
	return group.n <= PROTOCOL_FUNCTIONS_MAX && asked < group.n &&
	       !pci_address_compare(&group.facts[asked].address, &device->record.address);
}

static void test_group(void)
{
	struct device_group group = { 0 };
	const struct policy_facts *facts = group.facts;
	struct devices devices = { 0 };
	struct watcher_record record;
	size_t asked;
	bool right = true;

	record = at(0, 1, 0);
	record.class_code = 0x060400;
	devices_take(&devices, &record);
	for (uint8_t i = 0; i < 2; i++) {
		record = at(1, 0, i);
		devices_take(&devices, &record);
		record = at(2, 0, i);
		record.group = 18;
		devices_take(&devices, &record);
		record = at(3, 0, i);
		record.group = UINT32_MAX;
		devices_take(&devices, &record);
	}
	devices_group(&devices, &devices.list[2], &group, &asked);
	tap_ok(group.n == 2 && asked == 1 && facts[0].address.bus == 1 &&
		       facts[1].address.function == 1,
	       "a group is its functions without bridges, and the asked one is known in it");
	tap_ok(devices_same_group(&group, &devices.list[1], &asked) && asked == 0 &&
		       devices_same_group(&group, &devices.list[2], &asked) && asked == 1,
	       "it is the other function's group too");
	tap_ok(!devices_same_group(&group, &devices.list[3], &asked) &&
		       !devices_same_group(&group, &devices.list[5], &asked) &&
		       !devices_same_group(&group, &devices.list[0], &asked),
	       "and not that of others, nor of its bridge");
	devices_group(&devices, &devices.list[0], &group, &asked);
	tap_ok(group.n == 3 && asked == 0 && facts[0].class_code == 0x060400,
	       "a bridge that is asked for is in it");
	tap_ok(!devices_same_group(&group, &devices.list[1], &asked), "which is its group alone");
	tap_ok(device_status(&devices, &devices.list[1], NULL) == GPUBROKER_AVAILABLE,
	       "a function behind it can be lent");
	record = at(0, 1, 0);
	record.class_code = 0x068000;
	record.is_bridge = true;
	devices_take(&devices, &record);
	devices_group(&devices, &devices.list[1], &group, &asked);
	tap_ok(group.n == 2 &&
		       device_status(&devices, &devices.list[0], NULL) == GPUBROKER_NOT_VIABLE,
	       "a bridge may be one by its header, whatever its class");
	tap_ok(!devices_same_group(&group, &devices.list[0], &asked), "and is in no other's group");
	devices_group(&devices, &devices.list[5], &group, &asked);
	tap_ok(group.n == 1 && asked == 0 && facts[0].iommu_group == UINT32_MAX,
	       "a function without a group is alone, also where there are others");
	tap_ok(!devices_same_group(&group, &devices.list[6], &asked), "and they are alone too");
	devices_done(&devices);

	for (unsigned i = 0; i < PROTOCOL_FUNCTIONS_MAX + 6; i++) {
		record = at(1, (uint8_t)(i >> 3), i & 7);
		devices_take(&devices, &record);
	}
	for (size_t i = 0; i < PROTOCOL_FUNCTIONS_MAX; i++)
		right = right && is_asked(&devices, &devices.list[i]);
	tap_ok(right,
	       "in a group of more than can go along, the first are known as the asked ones");
	for (size_t i = PROTOCOL_FUNCTIONS_MAX; i < devices.n; i++)
		right = right && is_asked(&devices, &devices.list[i]);
	tap_ok(right, "and the others are not taken for another function");
	tap_ok(device_status(&devices, &devices.list[0], NULL) == GPUBROKER_NOT_VIABLE &&
		       device_status(&devices, &devices.list[devices.n - 1], NULL) ==
			       GPUBROKER_NOT_VIABLE,
	       "none of them can be lent");
	devices_done(&devices);
}

static const struct {
	const char *name;
	uint32_t class_code, group;
	const char *driver;
	bool boot_vga;
	enum gpubroker_lease_state lease; /* 0: none */
	const char *bridge;		  /* the driver of a bridge in the group; NULL: no bridge */
	enum gpubroker_status status;
} statuses[] = {
	{ "on its host driver: available", 0x030000, 17, "bochs-drm", false, 0, NULL,
	  GPUBROKER_AVAILABLE },
	{ "on no driver: available", 0x030000, 17, "", false, 0, NULL, GPUBROKER_AVAILABLE },
	{ "on vfio-pci: ready", 0x030000, 17, "vfio-pci", false, 0, NULL, GPUBROKER_VFIO_READY },
	{ "on a variant driver: ready", 0x030000, 17, "mlx5_vfio_pci", false, 0, NULL,
	  GPUBROKER_VFIO_READY },
	{ "on nvgrace's: ready", 0x030000, 17, "nvgrace-gpu-vfio-pci", false, 0, NULL,
	  GPUBROKER_VFIO_READY },
	{ "on vfio's own name: no PCI driver", 0x030000, 17, "vfio", false, 0, NULL,
	  GPUBROKER_AVAILABLE },
	{ "the boot VGA", 0x030000, 17, "bochs-drm", true, 0, NULL, GPUBROKER_BOOT_VGA },
	{ "the boot VGA on vfio-pci shows nothing", 0x030000, 17, "vfio-pci", true, 0, NULL,
	  GPUBROKER_VFIO_READY },
	{ "no group: not viable", 0x030000, UINT32_MAX, "bochs-drm", false, 0, NULL,
	  GPUBROKER_NOT_VIABLE },
	{ "no group, boot VGA: not viable", 0x030000, UINT32_MAX, "", true, 0, NULL,
	  GPUBROKER_NOT_VIABLE },
	{ "a bridge: not viable", 0x060400, 17, "pcieport", false, 0, NULL, GPUBROKER_NOT_VIABLE },
	{ "class 0680 without a bridge's header: an endpoint", 0x068000, 17, "", false, 0, NULL,
	  GPUBROKER_AVAILABLE },
	{ "a bridge of its group is pcieport's", 0x030000, 17, "", false, 0, "pcieport",
	  GPUBROKER_AVAILABLE },
	{ "a bridge of its group has no driver", 0x030000, 17, "", false, 0, "",
	  GPUBROKER_AVAILABLE },
	{ "a bridge of its group is pci-stub's", 0x030000, 17, "", false, 0, "pci-stub",
	  GPUBROKER_AVAILABLE },
	{ "a bridge of its group is on VFIO", 0x030000, 17, "", false, 0, "vfio-pci",
	  GPUBROKER_AVAILABLE },
	{ "a bridge of its group has a driver", 0x030000, 17, "", false, 0, "i2c_x",
	  GPUBROKER_NOT_VIABLE },
	{ "being claimed: leased", 0x030000, 17, "bochs-drm", false, GPUBROKER_LEASE_PREPARING,
	  NULL, GPUBROKER_LEASED },
	{ "ready to be sent: leased", 0x030000, 17, "vfio-pci", false, GPUBROKER_LEASE_READY, NULL,
	  GPUBROKER_LEASED },
	{ "leased", 0x030000, 17, "vfio-pci", false, GPUBROKER_LEASE_LEASED, NULL,
	  GPUBROKER_LEASED },
	{ "a leased boot VGA: leased", 0x030000, 17, "vfio-pci", true, GPUBROKER_LEASE_LEASED, NULL,
	  GPUBROKER_LEASED },
	{ "a companion, leased with it", 0x040300, 17, "vfio-pci", false, GPUBROKER_LEASE_LEASED,
	  NULL, GPUBROKER_LEASED },
	{ "let go: releasing", 0x030000, 17, "vfio-pci", false, GPUBROKER_LEASE_RELEASING, NULL,
	  GPUBROKER_RELEASING },
	{ "on its way back: releasing", 0x030000, 17, "", false, GPUBROKER_LEASE_RESTORING, NULL,
	  GPUBROKER_RELEASING },
	{ "stuck", 0x030000, 17, "", false, GPUBROKER_LEASE_STUCK, NULL, GPUBROKER_STUCK },
	{ "stuck, and the boot VGA: stuck", 0x030000, 17, "", true, GPUBROKER_LEASE_STUCK, NULL,
	  GPUBROKER_STUCK },
	{ "a bridge in a leased group is not leased", 0x060400, 17, "pcieport", false,
	  GPUBROKER_LEASE_LEASED, NULL, GPUBROKER_NOT_VIABLE },
};

static void test_status(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		struct watcher_record record = at(1, 0, 0), bridge = at(0, 1, 0);
		struct lease lease = { .group = 17, .state = statuses[i].lease };
		struct devices devices = { 0 };
		enum gpubroker_status status;

		record.class_code = statuses[i].class_code;
		record.group = statuses[i].group;
		record.boot_vga = statuses[i].boot_vga;
		strcpy(record.driver, statuses[i].driver);
		devices_take(&devices, &record);
		if (statuses[i].bridge) {
			bridge.class_code = 0x060400;
			strcpy(bridge.driver, statuses[i].bridge);
			devices_take(&devices, &bridge);
		}
		status = device_status(&devices, devices_from(&devices, &record.address),
				       statuses[i].lease ? &lease : NULL);
		tap_ok(status == statuses[i].status, "status %d: %s", (int)status,
		       statuses[i].name);
		devices_done(&devices);
	}
}

/* The kernel sends no event about a PF when its VFs go. */
static void test_vfs(void)
{
	struct watcher_record pf = at(1, 0, 0), vf = at(1, 0, 1), other = at(2, 0, 0);
	struct devices devices = { 0 };
	const struct device *device;

	pf.vfs_total = other.vfs_total = 4;
	vf.is_vf = 1;
	vf.physfn = pf.address;
	need(!devices_take(&devices, &pf) && !devices_take(&devices, &other));
	for (vf.address.function = 1; vf.address.function < 4; vf.address.function++)
		need(!devices_take(&devices, &vf));
	device = devices_from(&devices, &pf.address);
	tap_ok(devices_vfs(&devices, device) == 3 &&
		       device_status(&devices, device, NULL) == GPUBROKER_NOT_VIABLE,
	       "a PF has the VFs that were told, and is not lent");
	tap_ok(!devices_vfs(&devices, devices_from(&devices, &other.address)), "another has none");
	vf.type = WATCHER_GONE;
	for (vf.address.function = 1; vf.address.function < 4; vf.address.function++)
		need(!devices_take(&devices, &vf));
	device = devices_from(&devices, &pf.address);
	tap_ok(!devices_vfs(&devices, device) &&
		       device_status(&devices, device, NULL) == GPUBROKER_AVAILABLE,
	       "when they have gone it has none, though nothing was said of the PF");
	devices_done(&devices);
}

static void test_gpu(void)
{
	static const struct {
		uint32_t class_code;
		bool gpu;
	} classes[] = {
		{ 0x030000, true },  { 0x030200, true },  { 0x038000, true },  { 0x120000, true },
		{ 0x040300, false }, { 0x060400, false }, { 0x020000, false }, { 0x130000, false },
		{ 0, false },	     { 0x000300, false }, { 0x000003, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		const struct device device = { .record.class_code = classes[i].class_code };

		tap_ok(device_is_gpu(&device) == classes[i].gpu, "class %06x is %s",
		       (unsigned)classes[i].class_code,
		       classes[i].gpu ? "what 'any' may choose" : "nothing that 'any' may choose");
	}
}

int main(void)
{
	test_hostile();
	test_table();
	test_scan();
	test_max();
	test_flood();
	test_group();
	test_status();
	test_vfs();
	test_gpu();
	return tap_done();
}
