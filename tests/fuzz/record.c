/* SPDX-License-Identifier: MIT */
/*
 * A lease record, as the next start finds it. If the parser accepts it, it is byte for byte what
 * the broker would write, now and after reading it back, and says nothing that a lease cannot hold.
 * If not, the parser gives a line.
 *
 * About: brokerd/record/lease-record.c brokerd/record/allotment-record.c client/common/address.c
 */
#include "config.h"

#include <errno.h>

#include "brokerd/record/allotment-record.h"
#include "brokerd/record/lease-record.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "record";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static bool ends(const char *text, size_t size)
{
	return memchr(text, '\0', size);
}

static void check(const struct lease *lease)
{
	must(lease->id && lease->id != UINT64_MAX);
	must((lease->group == UINT32_MAX) == lease_is_made(lease));
	must(lease->n_gids <= LEASE_GIDS_MAX && lease->n_functions <= PROTOCOL_FUNCTIONS_MAX);
	must(ends(lease->terms.rule, sizeof(lease->terms.rule)) &&
	     ends(lease->terms.vfio_driver, sizeof(lease->terms.vfio_driver)) &&
	     ends(lease->reason, sizeof(lease->reason)));
	must(lease->stuck_since || !lease->reason[0]);
	for (size_t i = 0; i < lease->n_functions; i++) {
		const struct lease_function *f = &lease->functions[i];

		must(f->address.device < 32 && f->address.function < 8 && !f->address.reserved);
		must(ends(f->driver, sizeof(f->driver)) && ends(f->override, sizeof(f->override)));
		must(ends(f->lent_by, sizeof(f->lent_by)) && (!f->binding || f->lent_by[0]));
	}
}

/* The same bytes as an allotment's record. */
static void check_allotment(const uint8_t *data, size_t size)
{
	static const char name[] = "allotment-slurm-17";
	static char text[ALLOTMENT_RECORD_TEXT];
	static struct allotment a;
	int r;

	memset(&a, 0x5a, sizeof(a));
	r = allotment_record_parse(name, (const char *)data, size, &a);
	must(!r || r == -EBADMSG);
	must(!strcmp(a.label, "slurm-17") && a.n_devices <= PROTOCOL_SELECTORS_MAX);
	if (r) {
		must(a.damaged && a.uid == POLICY_NOBODY && (a.all || a.n_devices));
		return;
	}
	must(!a.damaged && !a.all && a.n_devices);
	r = allotment_record_format(&a, text, sizeof(text));
	must(r > 0 && (size_t)r == size && !memcmp(text, data, size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Static, so that they hold data of the input before. */
	static struct lease lease, again;
	static char text[STORE_TEXT_MAX];
	unsigned line = 0, lines = 1;
	int n;

	check_allotment(data, size);
	memset(&lease, 0x5a, sizeof(lease));
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	if (lease_record_parse((const char *)data, size, &lease, &line)) {
		must(line && line <= lines);
		return 0;
	}
	check(&lease);
	n = lease_record_format(&lease, text, sizeof(text));
	must(n > 0 && (size_t)n == size && !memcmp(text, data, size));
	must(!lease_record_parse(text, (size_t)n, &again, &line));
	/* The buffer is a byte too small. */
	must(lease_record_format(&lease, text, size) == -E2BIG);
	return 0;
}

static struct lease lease_of(size_t n_gids, size_t n_functions)
{
	struct lease lease = {
		.id = 3,
		.group = 17,
		.uid = 1000,
		.gid = 1000,
		.pid = 4711,
		.since = 1790000000,
		.terms = { .rule = "/etc/gpubroker/policy.d/10-lab.policy:7" },
		.n_gids = n_gids,
		.n_functions = n_functions,
	};

	for (size_t i = 0; i < n_gids; i++)
		lease.gids[i] = 44 + (uint32_t)i;
	for (size_t i = 0; i < n_functions; i++)
		lease.functions[i] = (struct lease_function){
			.address = { .bus = 1, .device = (uint8_t)(i / 8), .function = i & 7 },
			.vendor = 0x1234,
			.device = 0x1111,
			.driver = "bochs-drm",
		};
	if (n_functions)
		lease.asked = lease.functions[0].address;
	return lease;
}

static void write_lease(fuzz_write write, const char *name, const struct lease *lease, int cut)
{
	char text[STORE_TEXT_MAX];
	int n = lease_record_format(lease, text, sizeof(text));
	struct lease back;
	unsigned line;

	/* A seed that is no record would fail at its first mistake and reach nothing behind it. */
	must(n > cut && !lease_record_parse(text, (size_t)n, &back, &line));
	write(name, text, (size_t)(n - cut));
}

void fuzz_seeds(fuzz_write write)
{
	struct lease lease = lease_of(1, 1);
	char text[STORE_TEXT_MAX];
	int n;

	write_lease(write, "plain", &lease, 0);
	write_lease(write, "cut", &lease, 20);
	/* Has the right length, but upper-case digits that the broker would not write. */
	lease.asked.bus = lease.functions[0].address.bus = 10;
	n = lease_record_format(&lease, text, sizeof(text));
	must(n > 0 && strstr(text, ":0a:"));
	memcpy(strstr(text, ":0a:"), ":0A:", 4);
	write("upper-case", text, (size_t)n);
	lease = lease_of(3, 2);
	lease.ends = 1790003600;
	lease.terms.lifetime = 3600;
	lease.terms.require_reset = true;
	strcpy(lease.functions[1].override, "vfio-pci");
	strcpy(lease.functions[1].driver, LEASE_DRIVER_UNKNOWN);
	lease.migration = GPUBROKER_MIGRATION_NO;
	write_lease(write, "ending", &lease, 0);
	lease.functions[0].binding = UINT64_MAX;
	strcpy(lease.functions[0].lent_by, "vfio-pci");
	lease.functions[1].taken = true;
	strcpy(lease.functions[1].lent_by, "mlx5_vfio_pci");
	write_lease(write, "taken", &lease, 0);
	lease = lease_of(0, 1);
	lease.stuck_since = 1790000100;
	strcpy(lease.reason, "0000:01:00.0: unbind: has not come back from the kernel");
	lease.asked.domain = lease.functions[0].address.domain = 0x10000;
	write_lease(write, "stuck", &lease, 0);
	lease = lease_of(LEASE_GIDS_MAX, PROTOCOL_FUNCTIONS_MAX);
	write_lease(write, "full", &lease, 0);
	lease = lease_of(1, 0);
	lease.mdev = (struct lease_mdev){ .parent = "mtty",
					  .type = "mtty-2",
					  .name = "Dual port serial",
					  .uuid = "8bf0c3d2-2f3b-8c11-9d52-0a6c5f0e7b41" };
	write_lease(write, "mdev", &lease, 0);
	lease = lease_of(1, 0);
	lease.asked = (struct pci_address){ .bus = 1, .function = 4 };
	lease.mdev = (struct lease_mdev){
		.parent = "0000:01:00.4", .type = "1147", .name = "NVIDIA L40S-1Q", .vendor = true
	};
	write_lease(write, "vgpu", &lease, 0);
	lease = lease_of(1, 1);
	strcpy(lease.label, "slurm-17");
	write_lease(write, "allotted", &lease, 0);
	n = allotment_record_format(
		&(struct allotment){ .label = "slurm-17",
				     .uid = 1000,
				     .since = 1790000000,
				     .until = 1790003600,
				     .n_devices = 1,
				     .devices = { { { .bus = 1 }, 0x1234, 0x1111, 17 } } },
		text, sizeof(text));
	write("allotment", text, (size_t)n);
	write("allotment-cut", text, (size_t)n - 5);
	write("nothing", "", 0);
}
