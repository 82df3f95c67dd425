/* SPDX-License-Identifier: MIT */
/*
 * The state directory as a start finds it: files, byte 0xff before each, its name up to a newline,
 * then its text. The real recovery runs over it and over a few files in the shape of sysfs; only
 * starting workers is left out. Whatever the records hold: no recovered lease differs from its
 * record, no group has two leases, no record is lost, and a device that a damaged record may be
 * about is not lent.
 *
 * About: brokerd/record/lease-record.c brokerd/record/store.c brokerd/lease/recover.c
 */
#include "config.h"

#include <inttypes.h>

#include "brokerd/state/verdict.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/recover.h"
#include "brokerd/lease/restore.h"
#include "brokerd/record/lease-record.h"
#include "brokerd/process/worker.h"
#include "tests/unit/brokerd/last-log.h"
#include "tests/unit/brokerd/world.h"
#include "tests/fuzz/descriptors.h"
#include "tests/fuzz/fuzz.h"

const char fuzz_name[] = "recover";

#define FILES_MAX 8
#define ON_VFIO 3 /* functions of bus 1 to 3, group 101 to 103; that of bus 4 has no driver */

/* ---- in place of workers ---- */

/* A group of functions has one lease. The record of a mediated device does not hold its group. */
static void must_have_its_group(const struct lease *lease)
{
	must(lease_find_group(&broker.leases.table, lease->group) ==
	     (lease_is_made(lease) ? NULL : lease));
}

/* Stands in for the worker that asks the kernel whether somebody holds the group. */
void __wrap_lease_probe_holder(struct lease *lease);
void __wrap_lease_probe_holder(struct lease *lease)
{
	must(lease->recorded && !lease->stuck_since);
	must_have_its_group(lease);
}

/* Stands in for the worker that restores a stuck lease. */
void __wrap_lease_restore(struct lease *lease);
void __wrap_lease_restore(struct lease *lease)
{
	must(lease->recorded && lease->state == GPUBROKER_LEASE_STUCK && lease->stuck_since);
	must_have_its_group(lease);
}

int __wrap_workers_start(struct workers *workers, struct work *work);
int __wrap_workers_start(struct workers *workers, struct work *work)
{
	(void)workers;
	(void)work;
	return -EAGAIN;
}

/* ---- the host ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char address[24], path[128];

	(void)argc;
	(void)argv;
	broker_make();
	for (unsigned bus = 1; bus <= ON_VFIO + 1; bus++) {
		snprintf(address, sizeof(address), "0000:%02x:00.0", bus);
		add_function(address, "0x030000\n", 100 + (int)bus);
		if (bus > ON_VFIO)
			continue;
		snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/driver", scratch_path,
			 address);
		need(!symlink("../../drivers/vfio-pci", path));
	}
	snprintf(path, sizeof(path), "%s/state", scratch_path);
	need(!mkdir(path, 0700));
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(broker.store.directory >= 0);
	return 0;
}

static void forget(void)
{
	while (!TAILQ_EMPTY(&broker.leases.table.list)) {
		struct lease *lease = TAILQ_FIRST(&broker.leases.table.list);

		must(!lease->work);
		if (lease->timer)
			event_free(lease->timer);
		if (lease->expiry)
			event_free(lease->expiry);
		lease_free(lease);
	}
	lease_table_init(&broker.leases.table, broker.leases.table.events,
			 broker.leases.table.userdata);
}

static DIR *state(void)
{
	int fd = openat(broker.store.directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	must(dir);
	return dir;
}

static void empty(void)
{
	struct dirent *entry;
	DIR *dir = state();

	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			must(!unlinkat(broker.store.directory, entry->d_name, 0));
	closedir(dir);
}

/* ---- checks ---- */

static bool is_number(const char *name)
{
	return *name && strspn(name, "0123456789") == strlen(name) && strlen(name) <= 20;
}

static size_t read_file(const char *name, char *out, size_t size)
{
	int fd = openat(broker.store.directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size);

	must(n >= 0);
	close(fd);
	return (size_t)n;
}

static void check_lease(const struct lease *lease)
{
	static char text[STORE_TEXT_MAX], file[STORE_TEXT_MAX + 1];
	char name[24];
	int n;

	/* The record of a mediated device does not hold its group. */
	must(lease->id && lease_find_group(&broker.leases.table, lease->group) ==
				  (lease_is_made(lease) ? NULL : lease));
	if (lease->damaged[0]) {
		must(lease->state == GPUBROKER_LEASE_STUCK && lease->stuck_since &&
		     lease->n_functions);
		must(!faccessat(broker.store.directory, lease->damaged, F_OK, AT_SYMLINK_NOFOLLOW));
		return;
	}
	must(lease_is_made(lease) ? !lease->n_functions : lease->n_functions > 0);
	n = lease_record_format(lease, text, sizeof(text));
	snprintf(name, sizeof(name), "%" PRIu64, lease->id);
	must(n > 0 && read_file(name, file, sizeof(file)) == (size_t)n &&
	     !memcmp(text, file, (size_t)n));
}

/* Checks every file that is there now, and returns how many files of the input are left. */
static size_t check_files(void)
{
	struct dirent *entry;
	DIR *dir = state();
	size_t n = 0;

	while ((entry = readdir(dir))) {
		const struct lease *lease;

		if (entry->d_name[0] == '.')
			continue;
		n++;
		if (!is_number(entry->d_name))
			continue;
		/* A file under a lease's name belongs to a lease. */
		lease = lease_find_from(&broker.leases.table, strtoull(entry->d_name, NULL, 10));
		must(lease && !lease->damaged[0] && lease->id == strtoull(entry->d_name, NULL, 10));
	}
	closedir(dir);
	return n;
}

static bool contains(const uint8_t *data, size_t size, const char *text)
{
	return memmem(data, size, text, strlen(text));
}

/* ---- */

/* Makes a file, unless its name cannot be in the state directory or is taken. */
static bool put(const uint8_t *data, size_t size, bool *ret_temporary, bool *ret_damaged)
{
	const uint8_t *end = memchr(data, '\n', size);
	size_t len = end ? (size_t)(end - data) : 0;
	char name[48];
	int fd;

	if (!len || len >= sizeof(name) || memchr(data, '/', len) || memchr(data, '\0', len) ||
	    data[0] == '.')
		return false;
	memcpy(name, data, len);
	name[len] = '\0';
	size -= len + 1;
	fd = openat(broker.store.directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	must(write(fd, end + 1, size) == (ssize_t)size);
	close(fd);
	len = strspn(name, "0123456789");
	*ret_temporary = len && len <= 20 && !strcmp(name + len, ".new");
	*ret_damaged = len && len <= 20 && !strncmp(name + len, ".damaged", 8);
	return true;
}

/* Returns true if the file is a whole record under its own name. */
static bool is_record(const uint8_t *data, size_t size, uint64_t *ret_id, uint32_t *ret_group)
{
	static struct lease lease;
	const char *text = memchr(data, '\n', size);
	char name[24];
	unsigned line;

	text++;
	if (lease_record_parse(text, size - (size_t)((const uint8_t *)text - data), &lease,
			       &line) ||
	    !lease.n_functions)
		return false;
	snprintf(name, sizeof(name), "%" PRIu64 "\n", lease.id);
	if (size < strlen(name) || memcmp(data, name, strlen(name)) != 0)
		return false;
	*ret_id = lease.id;
	*ret_group = lease.group;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t descriptors = count_descriptors();
	const uint8_t *damaged[FILES_MAX], *start;
	static struct named {
		uint64_t id;
		uint32_t group;
	} named[FILES_MAX];
	size_t files = 0, n_named = 0, n_damaged = 0, damaged_size[FILES_MAX], tries = 0;
	const struct lease *lease;

	empty();
	forget();
	while (size && tries++ < FILES_MAX && (start = memchr(data, 0xff, size))) {
		const uint8_t *end;
		bool temporary = false, is_damaged = false;
		size_t n;

		size -= (size_t)(start + 1 - data);
		data = start + 1;
		end = memchr(data, 0xff, size);
		n = end ? (size_t)(end - data) : size;
		if (!put(data, n, &temporary, &is_damaged))
			continue;
		files += !temporary;
		n_named += is_record(data, n, &named[n_named].id, &named[n_named].group);
		if (is_damaged) {
			damaged[n_damaged] = memchr(data, '\n', n);
			damaged_size[n_damaged] = n - (size_t)(damaged[n_damaged] - data);
			n_damaged++;
		}
	}

	must(!recover_leases(&broker.leases));
	must(check_files() == files);
	TAILQ_FOREACH(lease, &broker.leases.table.list, link)
		check_lease(lease);
	/* If two leases name one group, the later one has it. */
	for (size_t i = 0; i < n_named; i++) {
		lease = lease_find_group(&broker.leases.table, named[i].group);
		must(!lease || lease->id >= named[i].id);
	}
	recover_damaged(&broker.leases);
	must(check_files() == files);
	TAILQ_FOREACH(lease, &broker.leases.table.list, link)
		check_lease(lease);
	for (size_t i = 0; i < n_damaged; i++)
		for (unsigned bus = 1; bus <= ON_VFIO + 1; bus++) {
			char text[40];

			snprintf(text, sizeof(text), "function 0000:%02x:00.0", bus);
			/* read_all() stops at the size limit of a record */
			if (contains(damaged[i],
				     damaged_size[i] > STORE_TEXT_MAX ? STORE_TEXT_MAX
								      : damaged_size[i],
				     text))
				must(lease_find_group(&broker.leases.table, 100 + bus));
		}
	forget();
	must(count_descriptors() == descriptors);
	return 0;
}

/* ---- seeds ---- */

static void add(struct seed *seed, const char *name, const void *text, size_t len)
{
	seed_byte(seed, 0xff);
	must(strlen(name) + 1 + len < sizeof(seed->data) - seed->n);
	memcpy(seed->data + seed->n, name, strlen(name));
	seed->n += strlen(name);
	seed_byte(seed, '\n');
	memcpy(seed->data + seed->n, text, len);
	seed->n += len;
}

static void add_lease(struct seed *seed, const char *name, uint64_t id, uint8_t bus, size_t cut)
{
	const struct lease lease = {
		.id = id,
		.group = 100 + bus,
		.uid = 1000,
		.since = 1790000000,
		.terms = { .rule = "/etc/gpubroker/policy.d/10-lab.policy:7" },
		.n_gids = 1,
		.gids = { 44 },
		.n_functions = 1,
		.functions = { { .address = { .bus = bus },
				 .vendor = 0x1234,
				 .device = 0x1111,
				 .driver = "bochs-drm" } },
	};
	char text[STORE_TEXT_MAX];
	int n = lease_record_format(&lease, text, sizeof(text));

	must(n > (int)cut);
	add(seed, name, text, (size_t)n - cut);
}

static void add_mdev(struct seed *seed, const char *name, uint64_t id)
{
	const struct lease lease = {
		.id = id,
		.uid = 1000,
		.since = 1790000000,
		.terms = { .rule = "/etc/gpubroker/policy.d/10-lab.policy:7" },
		.mdev = { .parent = "mtty",
			  .type = "mtty-2",
			  .name = "Dual port serial",
			  .uuid = "8bf0c3d2-2f3b-8c11-9d52-0a6c5f0e7b41" },
	};
	char text[STORE_TEXT_MAX];
	int n = lease_record_format(&lease, text, sizeof(text));

	must(n > 0);
	add(seed, name, text, (size_t)n);
}

void fuzz_seeds(fuzz_write write)
{
	static struct seed seed;

	seed.n = 0;
	add_lease(&seed, "3", 3, 1, 0);
	write("one", seed.data, seed.n);
	add_lease(&seed, "7", 7, 2, 0);
	add_lease(&seed, "9", 9, 2, 0); /* the same group */
	add_lease(&seed, "10.new", 10, 3, 30);
	write("two-of-a-group", seed.data, seed.n);
	seed.n = 0;
	add_lease(&seed, "9", 9, 2, 0);
	add_lease(&seed, "7", 7, 2, 0);
	write("the-other-way-round", seed.data, seed.n);
	seed.n = 0;
	add_lease(&seed, "4", 4, 1, 4); /* cut: recovery sets it aside, and then keeps it */
	add_lease(&seed, "5.damaged", 5, 2, 30);
	add(&seed, "6.settled", "function 0000:03:00.0", 21);
	write("damaged", seed.data, seed.n);
	seed.n = 0;
	add(&seed, "1.damaged", "", 0); /* may be about any device */
	add(&seed, "2.damaged.1", "function 0000:04:00.0 1234", 26);
	write("unreadable", seed.data, seed.n);
	seed.n = 0;
	add_lease(&seed, "8", 3, 1, 0); /* the number of another lease */
	add(&seed, "lock", "", 0);
	add_lease(&seed, "11.damaged", 11, 9, 0); /* no such function */
	write("strange", seed.data, seed.n);
	seed.n = 0;
	/* The text ends in an address; only its name keeps this function from being lent. */
	add(&seed, "12.damaged", "function 0000:04:00.0", 21);
	write("cut-in-address", seed.data, seed.n);
	seed.n = 0;
	add_mdev(&seed, "13", 13);
	add_mdev(&seed, "14", 14); /* the same mediated device: both leases find that it is gone */
	add_mdev(&seed, "15.damaged", 15);
	write("mdev", seed.data, seed.n);
}
