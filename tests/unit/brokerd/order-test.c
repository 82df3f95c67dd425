/* SPDX-License-Identifier: MIT */
/*
 * Root's orders to prepare, beside a kernel of files: a group of two functions goes onto VFIO,
 * whole or not at all, whichever step fails, and at whichever the daemon dies.
 * tests/vm/cases/62-prepare.t does the same on a real kernel.
 */
#include "config.h"

#include "brokerd/prepare/order.h"
#include "brokerd/process/worker.h"
#include "brokerd/record/prepare-record.h"
#include "tests/unit/brokerd/fake-worker.h"
#include "tests/unit/brokerd/last-log.h"
#include "tests/unit/brokerd/world.h"
#include "tests/tap.h"

#define GPU "0000:01:00.0"
#define AUDIO "0000:01:00.1"
#define CONSOLE "0000:02:00.0"
#define LOOSE "0000:03:00.0"

/* ---- the kernel ---- */

static struct {
	char driver[2][32], override[2][32];
	bool no_vfio; /* no VFIO driver binds the second function */
} sim;

static const char *const hosts[] = { "nouveau", "snd_hda" };

static void set_driver(unsigned i, const char *driver)
{
	char path[200], target[64];

	snprintf(sim.driver[i], sizeof(sim.driver[i]), "%s", driver);
	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/driver", scratch_path,
		 i ? AUDIO : GPU);
	snprintf(target, sizeof(target), "../../drivers/%s", driver);
	unlink(path);
	if (*driver)
		need(!symlink(target, path));
}

static int do_step(const struct fake_step *step, char text[FAKE_TEXT_MAX])
{
	const unsigned i = step->address.function;

	(void)text;
	need(step->address.bus == 1 && i < 2);
	if (!strcmp(step->what, "driver_override")) {
		snprintf(sim.override[i], sizeof(sim.override[i]), "%.*s",
			 (int)strcspn(step->text, "\n"), step->text);
	} else if (!strcmp(step->what, "unbind")) {
		set_driver(i, "");
	} else {
		need(!strcmp(step->what, "drivers_probe"));
		if (!sim.driver[i][0] && !sim.override[i][0])
			set_driver(i, hosts[i]);
		else if (!sim.driver[i][0] && !(i && sim.no_vfio))
			set_driver(i, sim.override[i]);
	}
	return 0;
}

static void reset(void)
{
	for (unsigned i = 0; i < 2; i++) {
		sim.override[i][0] = '\0';
		set_driver(i, hosts[i]);
	}
	sim.no_vfio = false;
	fake.fails_at = fake.dies_at = fake.n_steps = 0;
	fake.died = false;
}

static bool on_vfio(void)
{
	return !strcmp(sim.driver[0], "vfio-pci") && !strcmp(sim.driver[1], "vfio-pci");
}

static bool on_host(void)
{
	return !strcmp(sim.driver[0], hosts[0]) && !strcmp(sim.driver[1], hosts[1]) &&
	       !sim.override[0][0] && !sim.override[1][0];
}

static bool recorded(void)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/leases", scratch_path);
	return count_entries(path);
}

static bool nothing_is_left(void)
{
	return !recorded() && TAILQ_EMPTY(&broker.orders.list) && TAILQ_EMPTY(&broker.holds.list) &&
	       !broker.workers.busy;
}

/* ---- requests ---- */

static union answer answer;

static void ask(int fd, const char *address)
{
	struct message_restore request = { .type = MESSAGE_PREPARE };

	need(!pci_address_parse(address, &request.address));
	say(fd, &request, sizeof(request));
	turn(TURNS);
}

static bool told_done(int fd)
{
	return hear(fd, &answer) == sizeof(struct message_plain) && answer.type == MESSAGE_END;
}

static bool told_no(int fd, uint32_t reason)
{
	return hear(fd, &answer) == sizeof(struct message_refusal) &&
	       answer.type == MESSAGE_REFUSAL && answer.refusal.reason == reason;
}

static int dial_root(void)
{
	int fd = dial_in(0);

	last_is_user(0);
	return fd;
}

static void test_prepares(int fd)
{
	reset();
	ask(fd, GPU);
	tap_ok(recorded() && on_host() && holds_find_group(&broker.holds, 11),
	       "it is recorded before anything is changed, and its group is held");
	fake_run_all();
	tap_ok(told_done(fd) && on_vfio() && nothing_is_left(),
	       "both functions of the group are on VFIO, and then it is answered");
	fake.n_steps = 0;
	ask(fd, AUDIO);
	tap_ok(told_done(fd) && !fake.n_steps && on_vfio(), "what is there already stays");
	prepare_leave(&broker.prepare, 11);
	ask(fd, GPU);
	tap_ok(told_done(fd) && !prepare_is_left(&broker.prepare, 11),
	       "rules may prepare again what root had restored");
}

static void test_refuses(int fd)
{
	struct hold hold = { .kind = HOLD_PREPARING, .group = 11 };
	struct lease *lease;

	reset();
	TAILQ_LAST(&broker.peers.list, peer_list)->order.uid = 1000;
	ask(fd, GPU);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NOT_YOURS) &&
		       strstr(answer.refusal.text, "gpubroker run"),
	       "not for a user");
	ask(fd, "0000:77:00.0");
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NOT_YOURS), "... who learns so nothing");
	TAILQ_LAST(&broker.peers.list, peer_list)->order.uid = 0;
	ask(fd, "0000:77:00.0");
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NO_DEVICE), "not what is not there");
	ask(fd, LOOSE);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NO_GROUP), "not what has no group");
	ask(fd, CONSOLE);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_BOOT_VGA), "not the console");
	lease = lease_new(&broker.leases.table, 0, 11);
	lease->uid = 1000;
	lease->state = GPUBROKER_LEASE_LEASED;
	ask(fd, GPU);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_BUSY) && answer.refusal.detail == REFUSAL_LEASED &&
		       answer.refusal.holder_uid == 1000,
	       "not what is leased, and whose it is");
	lease_free(lease);
	holds_add(&broker.holds, &hold);
	ask(fd, GPU);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_BUSY) && answer.refusal.detail == REFUSAL_PREPARING,
	       "not what is being prepared");
	holds_remove(&broker.holds, &hold);
	broker.prepare.open = false;
	ask(fd, GPU);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NOT_READY), "not by a daemon that ends");
	broker.prepare.open = true;
	set_driver(1, "vfio-pci");
	ask(fd, GPU);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_NOT_VIABLE) &&
		       strstr(answer.refusal.text, "gpubroker restore"),
	       "not what is on VFIO in part, which undoing would take off");
	set_driver(1, hosts[1]);
	tap_ok(on_host() && nothing_is_left() && !fake_first(), "and nothing was begun for any");
}

static unsigned freed_free; /* calls of prepare->freed with the group in nobody's hands */

static void count_freed(void *userdata)
{
	(void)userdata;
	freed_free += !holds_find_group(&broker.holds, 11);
}

static void test_fails(int fd)
{
	void (*freed)(void *userdata) = broker.prepare.freed;
	unsigned whole = 0, told = 0, step;

	for (step = 1; step < 20; step++) {
		reset();
		fake.fails_at = step;
		ask(fd, GPU);
		fake_run_all();
		if (told_done(fd))
			break;
		told += answer.type == MESSAGE_REFUSAL &&
			answer.refusal.reason == GPUBROKER_REFUSED_FAILED;
		whole += on_host() && nothing_is_left();
	}
	tap_ok(step > 5 && whole == step - 1 && told == step - 1,
	       "whichever of its steps fails, the host has all of it as before (%u)", step - 1);
	reset();
	sim.no_vfio = true;
	freed_free = 0;
	broker.prepare.freed = count_freed;
	ask(fd, GPU);
	fake_run_all();
	broker.prepare.freed = freed;
	tap_ok(told_no(fd, GPUBROKER_REFUSED_FAILED) && on_host() && nothing_is_left() &&
		       answer.refusal.detail == REFUSAL_PLAIN,
	       "one that vfio-pci does not take goes back with all of its group");
	tap_ok(freed_free, "... and then claims that wait for it are tried");
	reset();
	ask(fd, GPU);
	fake_be_late(fake_first());
	tap_ok(told_no(fd, GPUBROKER_REFUSED_STUCK) && recorded(),
	       "one that the kernel keeps is answered, and stays on record");
	ask(fd, GPU);
	tap_ok(told_no(fd, GPUBROKER_REFUSED_STUCK) || answer.type == MESSAGE_REFUSAL,
	       "... and is refused meanwhile");
	fake_run_all();
	tap_ok(on_vfio() && nothing_is_left(), "... until it comes back");
}

static void test_gone(void)
{
	int fd = dial_root();

	reset();
	ask(fd, GPU);
	hang_up(fd);
	fake_run_all();
	tap_ok(on_vfio() && nothing_is_left(), "a client that goes leaves it going on");
}

/* Only the kernel's state and the records are left, and what a process would leave to its end. */
static void die_and_start(void)
{
	static struct preparation_list left[64];
	static size_t n_left;

	need(n_left < ARRAY_SIZE(left));
	left[n_left++] = broker.prepare.at_work;
	orders_done(&broker.orders);
	prepare_done(&broker.prepare);
	fake_forget();
	holds_init(&broker.holds);
	TAILQ_INIT(&broker.prepare.at_work);
	need(!prepare_init(&broker.prepare));
	orders_init(&broker.orders, &broker.prepare, &broker.store);
	need(!orders_recover(&broker.orders));
	orders_take_up(&broker.orders);
	fake_run_all();
}

/* `fails`: the next daemon cannot carry it out. Returns the steps at which this one died. */
static unsigned die_at_each(bool fails, unsigned *ret_whole)
{
	unsigned step;

	*ret_whole = 0;

	for (step = 1; step < 20; step++) {
		int fd = dial_root();
		bool died;

		reset();
		fake.dies_at = step;
		ask(fd, GPU);
		fake_run_all();
		died = fake.died;
		hang_up(fd);
		fake.died = false;
		fake.dies_at = 0;
		if (!died)
			break;
		sim.no_vfio = fails;
		die_and_start();
		*ret_whole += (fails ? on_host() : on_vfio()) && nothing_is_left();
	}
	return step - 1;
}

static void test_deaths(void)
{
	unsigned whole, steps = die_at_each(false, &whole);

	tap_ok(steps > 4 && whole == steps,
	       "before whichever of its steps the daemon dies, the next finishes it (%u)", steps);
	steps = die_at_each(true, &whole);
	tap_ok(steps > 4 && whole == steps,
	       "... and if the next cannot, the host has all of it again (%u of %u)", whole, steps);
}

static void put(const char *name, const char *text)
{
	need(!store_put(&broker.store, name, text, strlen(text)));
}

static void test_records(void)
{
	char path[200];

	reset();
	put("prepare-0000:01:00-0",
	    "gpubroker prepare 1\nfunction 0000:01:00.0 10de 1111\nby 0\nend\n");
	die_and_start();
	tap_ok(on_host() && nothing_is_left(), "another card in its place is left alone");
	put("prepare-0000:77:00-0",
	    "gpubroker prepare 1\nfunction 0000:77:00.0 1234 1111\nby 0\nend\n");
	die_and_start();
	tap_ok(on_host() && nothing_is_left(), "one that is gone is forgotten");
	put("prepare-0000:01:00-0", "gpubroker prepare 1\nfunction 0000:01:00.0\n");
	die_and_start();
	snprintf(path, sizeof(path), "%s/leases/prepare-0000:01:00-0.damaged", scratch_path);
	tap_ok(on_host() && !access(path, F_OK), "half a record is set aside, and nothing is done");
	need(!unlink(path));
}

static void test_format(void)
{
	static const char good[] =
		"gpubroker prepare 1\nfunction 0000:0c:00.0 1b36 0010\nby 0\nend\n";
	static const char name[] = "prepare-0000:0c:00-0";
	struct prepare_record r = { 0 };
	char text[PREPARE_RECORD_TEXT];
	const size_t len = sizeof(good) - 1;
	size_t taken = 0;

	tap_ok(!prepare_record_parse(name, good, len, &r) && r.address.bus == 12 &&
		       r.vendor == 0x1b36 && r.device == 0x10 && !r.by &&
		       prepare_record_format(&r, text) == len && !strcmp(text, good),
	       "a record is read, and written the same");
	memcpy(text, good, sizeof(good));
	for (size_t i = 0; i < len; i++) {
		taken += !prepare_record_parse(name, text, i, &r);
		text[i] = good[i] == ' ' ? '\n' : ' ';
		taken += !prepare_record_parse(name, text, len, &r);
		text[i] = '\0';
		taken += !prepare_record_parse(name, text, len, &r);
		text[i] = good[i];
	}
	tap_ok(!taken, "... which is refused when it is cut or damaged");
	tap_ok(prepare_record_parse("prepare-0000:0d:00-0", good, len, &r) == -EBADMSG,
	       "... or has another's name");
}

int main(void)
{
	struct policy_rule all;
	char path[160];
	int fd;

	broker_make();
	fake.answer = do_step;
	broker_allow_all(&all);
	broker.prepare.open = true;
	snprintf(path, sizeof(path), "%s/leases", scratch_path);
	need(!mkdir(path, 0755));
	broker.store.directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	add_function(GPU, "0x030000\n", 11);
	add_function(AUDIO, "0x040300\n", 11);
	add_function(CONSOLE, "0x030000\n", 12);
	add_function(LOOSE, "0x030000\n", -1);
	scratch_write("sys/bus/pci/devices/" CONSOLE "/boot_vga", "1\n");
	scratch_write("sys/bus/pci/drivers_probe", "");
	scratch_write("sys/bus/pci/drivers/nouveau/unbind", "");
	scratch_write("sys/bus/pci/drivers/snd_hda/unbind", "");
	scratch_write("sys/bus/pci/drivers/vfio-pci/bind", "");
	scratch_write("sys/bus/pci/drivers/vfio-pci/unbind", "");
	fd = dial_root();
	test_format();
	test_prepares(fd);
	test_refuses(fd);
	test_fails(fd);
	test_gone();
	test_deaths();
	test_records();
	hang_up(fd);
	broker_drop();
	return tap_done();
}
