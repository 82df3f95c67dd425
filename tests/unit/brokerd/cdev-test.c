/* SPDX-License-Identifier: MIT */
/*
 * Leases by the device nodes of functions (cdevs): the descriptors that a claim gets, and the end
 * of the lease. Files stand in for the nodes, with locks as the kernel keeps them for any file.
 * Workers only count how often they would open the group, and the test makes up the events of
 * inotify.
 */
#include "config.h"

#include "brokerd/lease/cdev.h"
#include "brokerd/claim/claim.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/ending.h"
#include "brokerd/lease/recover.h"
#include "brokerd/process/worker.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#define GROUP_WATCH 1000
#define CDEV_WATCH 2000 /* plus the node's number */

static unsigned looks; /* times that a worker would have opened the group */
static int spoken = -EAGAIN;

int __wrap_kernel_cdev_watch(const struct kernel *kernel, uint32_t number);
int __wrap_kernel_cdev_watch(const struct kernel *kernel, uint32_t number)
{
	(void)kernel;
	return CDEV_WATCH + (int)number;
}

void __wrap_kernel_group_unwatch(const struct kernel *kernel, int watch);
void __wrap_kernel_group_unwatch(const struct kernel *kernel, int watch)
{
	(void)kernel;
	(void)watch;
}

int __wrap_kernel_watch_read(const struct kernel *kernel);
int __wrap_kernel_watch_read(const struct kernel *kernel)
{
	int watch = spoken;

	(void)kernel;
	spoken = -EAGAIN;
	return watch;
}

int __wrap_workers_start(struct workers *workers, struct work *work);
int __wrap_workers_start(struct workers *workers, struct work *work)
{
	(void)workers;
	(void)work;
	looks++;
	return -EBUSY;
}

static void add_cdev(const char *address, unsigned number)
{
	char path[128];

	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/vfio-dev/vfio%u/dev", address, number);
	scratch_write(path, "511:3\n");
	snprintf(path, sizeof(path), "dev/vfio/devices/vfio%u", number);
	scratch_write(path, "");
}

static void drop_cdev(unsigned number)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/dev/vfio/devices/vfio%u", scratch_path, number);
	need(!unlink(path));
}

static struct lease *lend(uint32_t group, size_t n, uint8_t bus)
{
	struct lease *lease = lease_new(&broker.leases.table, 0, group);

	need(lease);
	lease->watch = GROUP_WATCH;
	lease->n_functions = n;
	for (size_t i = 0; i < n; i++)
		lease->functions[i].address =
			(struct pci_address){ .bus = bus, .function = (uint8_t)i };
	lease->asked = lease->functions[0].address;
	lease_set_kind(lease);
	return lease;
}

static void end(struct lease *lease)
{
	cdevs_unwatch(lease);
	if (lease->timer)
		event_free(lease->timer);
	lease_free(lease);
}

static void test_open(void)
{
	struct lease *leases[] = { lend(1, 2, 1), lend(2, 1, 2) };
	struct message_grant grant = { 0 };
	int fds[PASSFD_MAX], again[PASSFD_MAX], passed;
	size_t n = 0, m = 0, which = 9, before = open_descriptors();

	fds[0] = fds[1] = -1; /* those of the groups */
	n = 2;
	tap_ok(!cdevs_open(&broker.kernel, leases, 2, &grant, fds, &n, &which) && n == 6 &&
		       grant.n_cdevs == 3 && open_descriptors() == before + 4,
	       "a claim gets /dev/iommu and the nodes of all its functions");
	tap_ok(grant.cdevs[0].number == 30 && grant.cdevs[1].number == 31 &&
		       grant.cdevs[2].number == 32 && !grant.cdevs[1].group &&
		       grant.cdevs[2].group == 1 && grant.cdevs[1].address.function == 1 &&
		       grant.cdevs[2].address.bus == 2,
	       "... and is told which is which");
	tap_ok(leases[0]->n_cdev_watches == 2 && leases[1]->n_cdev_watches == 1 &&
		       lease_find_watch(&broker.leases.table, CDEV_WATCH + 32) == leases[1],
	       "... and they are watched");
	tap_ok(cdevs_are_held(leases[0]) && cdevs_are_held(leases[1]), "what is open is held");
	cdevs_unwatch(leases[0]);
	cdevs_unwatch(leases[1]);
	grant = (struct message_grant){ 0 };
	tap_ok(cdevs_open(&broker.kernel, leases, 2, &grant, again, &m, &which) == -EBUSY && !m &&
		       !which && !grant.n_cdevs && open_descriptors() == before + 4,
	       "nobody else gets any of it, and nothing stays open");

	/*
	 * Stands for a descriptor passed to another process: the open file counts, not its holder.
	 */
	passed = fcntl(fds[4], F_DUPFD_CLOEXEC, 3);
	while (n > 2)
		close(fds[--n]);
	tap_ok(cdevs_are_held(leases[0]) && !cdevs_are_held(leases[1]),
	       "a copy of one function's keeps its lease, and no other");
	close(passed);
	tap_ok(!cdevs_are_held(leases[0]) && open_descriptors() == before,
	       "when the last copy is closed nobody has it");

	drop_cdev(32);
	tap_ok(!cdevs_open(&broker.kernel, leases, 2, &grant, fds, &n, &which) && n == 2 &&
		       !grant.n_cdevs && !leases[0]->n_cdev_watches &&
		       open_descriptors() == before && !cdevs_are_held(leases[0]),
	       "where one function has none, the claim goes by its groups, and nothing stays open");
	add_cdev("0000:02:00.0", 32);
	broker.kernel.cdevs = false;
	tap_ok(!cdevs_open(&broker.kernel, leases, 2, &grant, fds, &n, &which) && n == 2 &&
		       !cdevs_are_held(leases[0]),
	       "a kernel that had no iommufd at the start is not asked");
	broker.kernel.cdevs = true;
	leases[1]->n_functions = PROTOCOL_CDEVS_MAX - 1;
	tap_ok(!cdevs_open(&broker.kernel, leases, 2, &grant, fds, &n, &which) && n == 2 &&
		       open_descriptors() == before,
	       "more than a grant holds go by groups");
	end(leases[0]);
	end(leases[1]);
}

/* Stands in for inotify: the last descriptor of a file with this watch was closed. */
static void hear_close(int watch)
{
	spoken = watch;
	ending_read_inotify(&broker.leases);
}

static struct lease *lent(int fds[PASSFD_MAX], size_t *n)
{
	struct lease *lease = lend(1, 2, 1);
	struct message_grant grant = { 0 };
	size_t which;

	*n = 0;
	need(!cdevs_open(&broker.kernel, &lease, 1, &grant, fds, n, &which) && *n == 3);
	lease->state = GPUBROKER_LEASE_LEASED;
	looks = 0;
	return lease;
}

static void test_end(void)
{
	int fds[PASSFD_MAX];
	struct lease *lease;
	size_t n;

	lease = lent(fds, &n);
	while (n)
		close(fds[--n]);
	hear_close(CDEV_WATCH + 30);
	hear_close(CDEV_WATCH + 31);
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && !looks && !lease->timer,
	       "who uses the group and closes the nodes has his lease, and nobody looks");
	hear_close(GROUP_WATCH);
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && looks == 1,
	       "... until the group is closed: then a worker looks whether a device is in use");
	end(lease);

	lease = lent(fds, &n);
	hear_close(GROUP_WATCH);
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && !looks,
	       "who uses the nodes and closes the group has his lease, and the group is not opened: "
	       "the kernel would bind no node meanwhile");
	lease_probe_holder(lease);
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && !looks,
	       "... however often it is looked at");
	close(fds[1]);
	hear_close(CDEV_WATCH + 30);
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && !looks,
	       "... also while he has but one of them");
	close(fds[2]);
	hear_close(CDEV_WATCH + 31);
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && looks == 1,
	       "... until the last is closed: then it is, since a device may be in use still");
	close(fds[0]);
	end(lease);

	/* The event arrives a moment before the kernel releases the lock. */
	lease = lent(fds, &n);
	hear_close(GROUP_WATCH);
	hear_close(CDEV_WATCH + 30);
	hear_close(CDEV_WATCH + 31);
	while (n)
		close(fds[--n]);
	for (int i = 0; i < 3000 && !looks; i++) {
		turn(1);
		usleep(10000);
	}
	tap_ok(looks, "what inotify says too early is looked at again");
	end(lease);
}

/* After a restart the broker knows neither which nodes it lent nor which are open. */
static void test_take_up(void)
{
	int fds[PASSFD_MAX];
	struct lease *lease;
	size_t n;

	lease = lent(fds, &n);
	cdevs_unwatch(lease);
	lease->state = GPUBROKER_LEASE_PREPARING;
	recover_lease(lease);
	tap_ok(lease->state == GPUBROKER_LEASE_LEASED && !looks && lease->n_cdev_watches == 2,
	       "a lease of a record whose node is open is held, and watched");
	while (n > 1)
		close(fds[--n]);
	hear_close(CDEV_WATCH + 31);
	tap_ok(looks == 1 && lease->state == GPUBROKER_LEASE_LEASED,
	       "... and when that is closed a worker asks for the group, which may be open");
	close(fds[0]);
	end(lease);
}

int main(void)
{
	char path[128];

	alarm(300);
	need(freopen("/dev/null", "w", stderr)); /* the log */
	broker_make();
	add_function("0000:01:00.0", "0x030000\n", 1);
	add_function("0000:01:00.1", "0x040300\n", 1);
	add_function("0000:02:00.0", "0x030000\n", 2);
	add_cdev("0000:01:00.0", 30);
	add_cdev("0000:01:00.1", 31);
	add_cdev("0000:02:00.0", 32);
	scratch_write("dev/iommu", "");
	snprintf(path, sizeof(path), "%s/dev", scratch_path);
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(broker.kernel.dev >= 0);
	broker.kernel.cdevs = true;
	test_open();
	test_end();
	test_take_up();
	broker_drop();
	return tap_done();
}
