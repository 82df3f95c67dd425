/* SPDX-License-Identifier: MIT */
/*
 * Records that cannot be read. The broker does not lend what such a record may be about, until the
 * kernel shows that the host has it or root gives it back; it holds nothing else. Workers read
 * files in the shape of sysfs.
 */
#include "config.h"

#include "brokerd/claim/claim.h"
#include "brokerd/state/verdict.h"
#include "brokerd/lease/bringup.h"
#include "brokerd/lease/recover.h"
#include "brokerd/record/lease-record.h"
#include "tests/unit/brokerd/real-worker.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

static struct policy_rule rule;

/* Adds a function on that bus, in group 100 + bus, with a driver and an override; "" for none. */
static void add(uint8_t bus, const char *driver, const char *override)
{
	char address[16], path[160], text[64];

	snprintf(address, sizeof(address), "0000:%02x:00.0", bus);
	add_function(address, "0x030000\n", 100 + bus);
	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/driver_override", address);
	snprintf(text, sizeof(text), "%s\n", override);
	scratch_write(path, text);
	if (!*driver)
		return;
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/driver", scratch_path, address);
	snprintf(text, sizeof(text), "../../drivers/%s", driver);
	need(!symlink(text, path));
}

static void make_host(void)
{
	char path[128];

	add(1, "bochs-drm", "");	 /* belongs to the host */
	add(2, "vfio-pci", "vfio-pci");	 /* as a lease leaves it */
	add(3, "", "");			 /* as a crash may leave it */
	add(4, "bochs-drm", "vfio-pci"); /* as a crash may leave it */
	add(5, "bochs-drm", "(null)");	 /* belongs to the host */
	add(6, "vfio-pci", "");		 /* bound by somebody else, or prepared */
	add_function("10000:07:00.0", "0x030000\n", 107);
	snprintf(path, sizeof(path), "%s/state", scratch_path);
	need(!mkdir(path, 0700));
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/dev", scratch_path);
	need(!mkdir(path, 0700));
	broker.kernel.dev = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(broker.store.directory >= 0 && broker.kernel.dev >= 0);
}

static bool exists(const char *name)
{
	return !faccessat(broker.store.directory, name, F_OK, AT_SYMLINK_NOFOLLOW);
}

static void damaged(const char *name, const char *text)
{
	char path[80];

	snprintf(path, sizeof(path), "state/%s", name);
	scratch_write(path, text);
}

/* Recovers damaged records, and waits for the workers. */
static void recover(void)
{
	recover_damaged(&broker.leases);
	wait_for_workers();
}

static const struct lease *kept(uint32_t group)
{
	const struct lease *lease = lease_find_group(&broker.leases.table, group);

	return lease && lease->state == GPUBROKER_LEASE_STUCK && lease->damaged[0] ? lease : NULL;
}

/* Forgets everything, as a restart does. */
static void restart(void)
{
	while (!TAILQ_EMPTY(&broker.leases.table.list)) {
		struct lease *lease = TAILQ_FIRST(&broker.leases.table.list);

		need(!lease->work);
		if (lease->timer)
			event_free(lease->timer);
		lease_free(lease);
	}
}

static void clean(void)
{
	static const char *const names[] = { "1", "2", "3", "4", "5", "6", "7" };
	static const char *const suffixes[] = { "", ".damaged", ".settled", ".damaged.1" };
	char name[24];

	restart();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		for (size_t k = 0; k < ARRAY_SIZE(suffixes); k++) {
			snprintf(name, sizeof(name), "%s%s", names[i], suffixes[k]);
			unlinkat(broker.store.directory, name, 0);
		}
}

static void test_named(void)
{
	const struct lease *lease;

	recover();
	tap_ok(!broker.leases.table.n, "without a damaged record nothing is kept");

	damaged("1.damaged", "gpubroker lease 1\nid 1\nfunction 0000:01:00.0 1234 1111\ndri");
	recover_damaged(&broker.leases);
	tap_ok(kept(101) && kept(101)->work && exists("1.damaged"),
	       "what a damaged record names is kept, until it was looked at");
	wait_for_workers();
	tap_ok(!broker.leases.table.n && exists("1.settled") && !exists("1.damaged"),
	       "the host has it: it is settled by itself");
	clean();

	damaged("5.damaged", "function 0000:05:00.0");
	recover();
	tap_ok(!broker.leases.table.n && exists("5.settled"),
	       "an override that is none is none, and a record may end in an address");
	clean();

	damaged("2.damaged", "xxx function 0000:02:00.0 yyy");
	recover();
	lease = kept(102);
	tap_ok(lease && broker.leases.table.n == 1 && exists("2.damaged") &&
		       !strcmp(lease->damaged, "2.damaged") && lease->stuck_since &&
		       strstr(lease->reason, "2.damaged") &&
		       strstr(lease->reason, "gpubroker restore 0000:02:00.0"),
	       "one on VFIO is kept, and says why and what settles it");
	restart();
	recover();
	tap_ok(kept(102) && exists("2.damaged"), "also after the next start");
	clean();

	damaged("3.damaged", "function 0000:03:00.0 1234 1111\nfunction 0000:04:00.0 1234");
	recover();
	tap_ok(broker.leases.table.n == 2 && kept(103), "one without a driver is kept");
	tap_ok(kept(104), "and one that has an override still");
	clean();

	damaged("3.damaged", "function 0000:01:00.0\nfunction 0000:03:00.0");
	recover();
	tap_ok(broker.leases.table.n == 1 && kept(103) && exists("3.damaged"),
	       "of several, those that are the host's are free, and the record stays");
	clean();

	damaged("4.damaged", "function 0000:99:00.0 1234 1111");
	recover();
	tap_ok(!broker.leases.table.n && exists("4.settled"),
	       "one that is not there any more is settled");
	clean();

	damaged("7.damaged", "function 10000:07:00.0 1234 1111");
	recover();
	tap_ok(broker.leases.table.n == 1 && kept(107),
	       "a domain of more than four digits is read");
	clean();
	tap_ok(quiet(), "and nothing is left");
}

static void test_unnamed(void)
{
	static const char *const texts[] = { "",
					     "\n",
					     "function ",
					     "function 0000:0",
					     "garbage",
					     "function 0000:zz:00.0",
					     "gpubroker lease 1\nid 6\n" };

	damaged("6.damaged",
		"gpubroker lease 1\nid 6\nmdev 8bf0c3d2-2f3b-8c11-9d52-0a6c5f0e7b41\nparent ..\n");
	recover();
	tap_ok(!broker.leases.table.n && exists("6.settled"),
	       "a damaged record of an mdev is about no group, and keeps none");
	clean();
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		damaged("6.damaged", texts[i]);
		recover();
		tap_ok(broker.leases.table.n == 2 && kept(102) && kept(106) && exists("6.damaged"),
		       "where no address can be read (%zu), all on VFIO is kept, and nothing else",
		       i);
		clean();
	}
	{
		struct policy_rule prepare = rule;
		struct policy before = broker.policy.policy;

		prepare.verb = POLICY_PREPARE;
		prepare.who = POLICY_WHO_NONE;
		need(policy_rule_valid(&prepare, 0, 1, NULL, 0));
		broker.policy.policy.rules = &prepare;
		damaged("6.damaged", "");
		recover();
		tap_ok(!broker.leases.table.n && exists("6.settled"),
		       "what the policy prepares is on VFIO without any lease");
		broker.policy.policy = before;
		clean();
	}
	tap_ok(quiet(), "and nothing is left");
}

/* A record that gets damaged now: recovery sets it aside first, then keeps it. */
static void test_both(void)
{
	struct lease *lease = lease_new(&broker.leases.table, 0, 102);
	char text[STORE_TEXT_MAX], cut[STORE_TEXT_MAX];
	int n;

	need(lease);
	lease->n_functions = 1;
	lease->functions[0] = (struct lease_function){ .address = { .bus = 2 },
						       .vendor = 0x1234,
						       .device = 0x1111 };
	lease_set_kind(lease);
	n = lease_record_format(lease, text, sizeof(text));
	need(n > 0);
	memcpy(cut, text, (size_t)n);
	cut[n - 5] = '\0';
	lease_free(lease);
	damaged("2", cut);
	tap_ok(!recover_leases(&broker.leases) && !broker.leases.table.n && exists("2.damaged") &&
		       !exists("2"),
	       "a record that is cut is set aside");
	recover();
	tap_ok(kept(102) && broker.leases.table.n == 1, "and what it names is kept");
	restart();

	/* A later, readable record of the same group. */
	lease = lease_new(&broker.leases.table, 9, 102);
	need(lease);
	recover();
	tap_ok(broker.leases.table.n == 1 && !lease->damaged[0] && exists("2.settled"),
	       "a lease that is known has the group, and the damaged record says nothing");
	lease_free(lease);
	clean();
	tap_ok(quiet(), "and nothing is left");
}

/* Writes the record of a lease of 0000:02:00.0, in that group. */
static void recorded(uint64_t id, uint32_t group)
{
	struct lease *lease = lease_new(&broker.leases.table, id, group);
	char text[STORE_TEXT_MAX] = "", name[24];

	need(lease);
	lease->asked.bus = 2;
	lease->n_functions = 1;
	lease->functions[0] = (struct lease_function){ .address = { .bus = 2 },
						       .vendor = 0x1234,
						       .device = 0x1111 };
	lease->since = 1;
	strcpy(lease->terms.rule, "test:1");
	strcpy(lease->functions[0].driver, "bochs-drm");
	lease_set_kind(lease);
	need(lease_record_format(lease, text, sizeof(text)) > 0);
	snprintf(name, sizeof(name), "%u", (unsigned)id);
	damaged(name, text);
	lease_free(lease);
}

/* A function that was removed and has come back in another group. */
static void test_moved(void)
{
	recorded(2, 99);
	tap_ok(!recover_leases(&broker.leases) && !broker.leases.table.n && exists("2.damaged"),
	       "a record of a function that is in another group now is set aside");
	recover();
	tap_ok(kept(102), "... and the function is kept until root has looked");
	clean();
	recorded(2, 102);
	need(!recover_leases(&broker.leases));
	tap_ok(!exists("2.damaged"), "one of a function that is in its group is taken up");
	wait_for_workers();
	clean();
}

static struct message_refusal claim_of_bus(uint8_t bus)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	union answer answer = { 0 };
	int fd = dial_in(0);

	claim.selectors[0].address.bus = bus;
	say(fd, &claim, sizeof(claim));
	turn(TURNS);
	if (hear(fd, &answer) != sizeof(answer.refusal) || answer.type != MESSAGE_REFUSAL)
		answer.refusal.reason = 0;
	hang_up(fd);
	return answer.refusal;
}

static int restore(uint8_t bus)
{
	const struct message_restore request = { .type = MESSAGE_RESTORE,
						 .address = { .bus = bus } };
	union answer answer = { 0 };
	int fd = dial_in(0), r = -1;

	last_is_user(0);
	say(fd, &request, sizeof(request));
	turn(TURNS);
	if (hear(fd, &answer) > 0)
		r = answer.type == MESSAGE_END ? 0 : (int)answer.refusal.reason;
	hang_up(fd);
	return r;
}

static void test_settled_by_root(void)
{
	struct message_refusal r;
	uint64_t id;
	char name[24];

	damaged("3.damaged", "function 0000:03:00.0 1234 1111\nfunction 0000:02:00.0 1234 1111");
	recover();
	need(kept(103) && kept(102));
	r = claim_of_bus(3);
	tap_ok(r.reason == GPUBROKER_REFUSED_STUCK && strstr(r.text, "damaged"),
	       "what is kept is not lent, and it is said why");
	id = kept(103)->id;
	snprintf(name, sizeof(name), "%u", (unsigned)id);
	tap_ok(!restore(3), "root restores it");
	wait_for_workers();
	tap_ok(!lease_find_group(&broker.leases.table, 103) && !exists(name), "it is the host's");
	tap_ok(exists("3.damaged") && kept(102), "the record stays for what else it keeps");
	unlinkat(broker.kernel.sys, "bus/pci/devices/0000:02:00.0/driver", 0);
	{
		scratch_write("sys/bus/pci/drivers_probe", "");
		scratch_write("sys/bus/pci/devices/0000:02:00.0/driver_override", "\n");
	}
	tap_ok(!restore(2), "the other one");
	wait_for_workers();
	tap_ok(!broker.leases.table.n && exists("3.settled") && !exists("3.damaged"),
	       "and with the last the record is settled");
	clean();
	tap_ok(quiet(), "and nothing is left");
}

int main(void)
{
	alarm(300);
	broker_make_with_workers(&rule);
	make_host();
	scratch_write("sys/bus/pci/drivers_probe", "");
	fds_at_start = open_descriptors();

	test_named();
	test_unnamed();
	test_both();
	test_moved();
	test_settled_by_root();

	broker_drop();
	return tap_done();
}
