/* SPDX-License-Identifier: MIT */
/*
 * Machines from the field: tests/field has lists of their devices, as `gpubroker list --all --json`
 * writes them. Each becomes a tree in the shape of sysfs, for a core that is asked for every
 * function, while `policy explain --devices` is asked about the same function in the same list.
 * Both must give the same answer, by the machine's own policy, by one that allows all, and by none.
 */
#include "config.h"

#include "client/command/cli.h"
#include "client/command/inventory.h"
#include "client/host/interrupts.h"
#include "client/host/pci.h"
#include "tests/tap.h"
#include "tests/unit/brokerd/world.h"
#include "tests/unit/policy/parse.h"

#include <dirent.h>
#include <inttypes.h>

static const char *field; /* tests/field */

/* ---- a list becomes a tree ---- */

static void link_to(const char *target, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void link_to(const char *target, const char *format, ...)
{
	char path[256], full[400];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	snprintf(full, sizeof(full), "%s/%s", scratch_path, path);
	need(!symlink(target, full) || errno == EEXIST);
}

static void write_attribute(const char *address, const char *name, const char *format,
			    unsigned value)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "sys/bus/pci/devices/%s/%s", address, name);
	snprintf(text, sizeof(text), format, value);
	scratch_write(path, text);
}

/* Makes the directory where its path says, so that the core reads the same path. */
static void make_directory(const struct function *f, const char *address)
{
	char real[512], link[560], *hop, *state = NULL, path[FUNCTION_PATH_MAX];
	size_t n;

	if (!f->path[0]) {
		snprintf(real, sizeof(real), "sys/bus/pci/devices/%s/uevent", address);
		scratch_write(real, "");
		return;
	}
	strcpy(path, f->path);
	hop = strtok_r(path, "/", &state);
	n = (size_t)snprintf(real, sizeof(real), "sys/devices/%s", hop);
	for (hop = strtok_r(NULL, "/", &state); hop; hop = strtok_r(NULL, "/", &state)) {
		bool last = !*state;

		n += (size_t)snprintf(real + n, sizeof(real) - n, "/%s%s",
				      last ? address : "0000:77:", last ? "" : hop);
	}
	snprintf(link, sizeof(link), "../../../%s", real + strlen("sys/"));
	snprintf(real + n, sizeof(real) - n, "/uevent");
	scratch_write(real, "");
	link_to(link, "sys/bus/pci/devices/%s", address);
}

static void make_function(const struct function *f)
{
	char address[PCI_ADDRESS_TEXT], text[64];

	pci_address_format(&f->address, address);
	make_directory(f, address);
	write_attribute(address, "vendor", "0x%04x\n", f->vendor);
	write_attribute(address, "device", "0x%04x\n", f->device);
	write_attribute(address, "subsystem_vendor", "0x%04x\n", f->subsystem_vendor);
	write_attribute(address, "subsystem_device", "0x%04x\n", f->subsystem_device);
	write_attribute(address, "class", "0x%06x\n", f->class_code);
	if (f->class_code >> 8 == 0x0300)
		write_attribute(address, "boot_vga", "%u\n", f->boot_vga);
	/* The kernel makes it by the header, of which a list of an older version says nothing. */
	if (f->is_bridge && (f->class_code >> 8 == 0x0604 || !class_is_bridge(f->class_code)))
		write_attribute(address, "secondary_bus_number", "%u\n", 1);
	if (f->driver[0]) {
		snprintf(text, sizeof(text), "../../drivers/%s", f->driver);
		link_to(text, "sys/bus/pci/devices/%s/driver", address);
	}
	if (f->in_use[0]) {
		snprintf(text, sizeof(text), "../../devices/x/%s/block/d", address);
		scratch_write("sys/class/block/none", "");
		link_to(text, "sys/class/block/d-%s", address);
	}
	if (f->iommu_group == NO_GROUP)
		return;
	snprintf(text, sizeof(text), "../groups/%" PRIu32, f->iommu_group);
	link_to(text, "sys/bus/pci/devices/%s/iommu_group", address);
	snprintf(text, sizeof(text), "sys/kernel/iommu_groups/%" PRIu32 "/devices/%s",
		 f->iommu_group, address);
	scratch_write(text, "");
}

/* ---- both answers ---- */

/* Returns the status with which `gpubroker run` would end. */
static int ask_broker(int fd, const struct pci_address *address)
{
	struct message_claim claim = claim_by(SELECT_ADDRESS);
	union answer answer = { 0 };

	claim.selectors[0].address = *address;
	claim.flags = CLAIM_ASK | CLAIM_FORCE;
	need(say(fd, &claim, sizeof(claim)));
	for (int i = 0; i < 100 && hear(fd, &answer) <= 0; i++)
		turn(1);
	if (answer.type == MESSAGE_REFUSAL)
		return cli_refusal_status((int)answer.refusal.reason);
	return answer.type == MESSAGE_END ? 0 : -1;
}

/* Returns the status with which `gpubroker policy explain` ends. */
static int ask_explain(const char *list, const char *policies, const char *address)
{
	static const struct cli cli;
	char uid[16];
	char *argv[] = { (char *)"policy",    (char *)"explain",
			 (char *)"--devices", (char *)list,
			 (char *)"--policy",  (char *)policies,
			 (char *)"--user",    uid,
			 (char *)address,     NULL };
	FILE *shown = stdout;
	int r;

	snprintf(uid, sizeof(uid), "%u", (unsigned)getuid());
	stdout = fopen("/dev/null", "w");
	need(stdout);
	optind = 0;
	r = cli_policy(&cli, ARRAY_SIZE(argv) - 1, argv);
	fclose(stdout);
	stdout = shown;
	return r;
}

/* The core reads the same group from the tree as explain makes of the list. */
static bool same_group(const struct inventory *inventory, const struct function *f)
{
	struct group_view *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
	bool same = true;
	int r;

	need(a && b);
	if (f->iommu_group != NO_GROUP) {
		inventory_group(inventory, f, a);
		r = sysfs_group_read(broker.kernel.sys, f->iommu_group, b);
		same = (!r || r == -E2BIG) && a->n_functions == b->n_functions &&
		       a->has_blocker == b->has_blocker && !strcmp(a->not_viable, b->not_viable);
		for (size_t i = 0; same && i < a->n_functions; i++)
			same = !pci_address_compare(&a->functions[i].address,
						    &b->functions[i].address) &&
			       !strcmp(a->functions[i].driver, b->functions[i].driver) &&
			       !strcmp(a->functions[i].path, b->functions[i].path) &&
			       a->functions[i].is_bridge == b->functions[i].is_bridge;
	}
	free(a);
	free(b);
	return same;
}

struct expected {
	const char *address;
	int status;
};

static const struct expected *expected_of(const struct expected *expected, const char *address)
{
	for (; expected && expected->address; expected++)
		if (!strcmp(expected->address, address))
			return expected;
	return NULL;
}

/* Asks both about every function. `expected`, ended by NULL, says what some answers must be. */
static void compare(const char *name, const char *list, const struct inventory *inventory,
		    const char *policy, const struct expected *expected)
{
	char text[PCI_ADDRESS_TEXT], policies[128], path[] = "policies/test.policy";
	unsigned wrong = 0, refused = 0, unmet = 0;
	struct parsed parsed;
	int fd;

	scratch_write(path, policy);
	snprintf(policies, sizeof(policies), "%s/policies", scratch_path);
	parse_right(policy, &parsed);
	broker.policy.policy = parsed.policy;
	broker.policy.good = true;
	/* Not each one of a large list: explaining any reads it whole. */
	for (size_t i = 0; i < inventory->n; i += inventory->n / 100 + 1) {
		const struct function *f = &inventory->functions[i];
		const struct expected *must;
		int lent, explained;

		fd = dial_in(0);
		pci_address_format(&f->address, text);
		lent = ask_broker(fd, &f->address);
		explained = ask_explain(list, policies, text);
		hang_up(fd);
		refused += lent != 0;
		must = expected_of(expected, text);
		if (lent != explained || !same_group(inventory, f)) {
			wrong++;
			printf("# %s: run %d, explain %d\n", text, lent, explained);
		}
		if (must && must->status != lent) {
			unmet++;
			printf("# %s: run %d, not %d\n", text, lent, must->status);
		}
	}
	tap_ok(!wrong && !unmet && inventory->n,
	       "%s: run and explain agree on %zu functions, %u of them refused", name, inventory->n,
	       refused);
	broker.policy.policy = (struct policy){ 0 };
	parse_done(&parsed);
}

static void compare_list(const char *name, const char *list, const char *own,
			 const struct expected *expected)
{
	struct inventory inventory = { 0 };
	const char *why = NULL;
	char label[80];

	if (inventory_read_json(list, &inventory, &why)) {
		tap_ok(false, "%s can be read: %s", name, why ? why : "");
		return;
	}
	broker_make();
	for (size_t i = 0; i < inventory.n; i++)
		make_function(&inventory.functions[i]);
	if (own)
		compare(name, list, &inventory, own, expected);
	snprintf(label, sizeof(label), "%s, all allowed", name);
	compare(label, list, &inventory, "allow any claim any\n", own ? NULL : expected);
	snprintf(label, sizeof(label), "%s, nothing allowed", name);
	compare(label, list, &inventory, "allow user 4294967294 claim any\n", NULL);
	broker_drop();
	scratch_remove();
	inventory_done(&inventory);
}

/* ---- the lists ---- */

static const struct expected nvswitch[] = {
	{ "0000:05:00.0", 0 },
	{ "0000:08:00.0", 0 },
	{ "0000:18:00.0", 0 },
	{ NULL, 0 },
};
static const struct expected big[] = {
	{ "0000:3b:02.0", EXIT_NO_GROUP },
	{ "0000:3b:0a.5", EXIT_NO_GROUP },
	{ "0000:5e:00.0", EXIT_NO_GROUP },
	{ NULL, 0 },
};
static const struct expected ucsi[] = {
	{ "0000:01:00.0", 0 }, /* with its USB-C functions */
	{ "0000:01:00.2", EXIT_POLICY },
	{ "0000:00:01.0", EXIT_POLICY },
	{ NULL, 0 },
};
static const struct expected domains[] = {
	{ "0000:89:00.0", 0 },
	{ "0001:89:00.0", 0 },		  /* by its path, below any host bridge */
	{ "10001:8a:00.0", EXIT_POLICY }, /* shares its group with another slot's */
	{ NULL, 0 },
};
static const struct expected edges[] = {
	{ "0000:00:01.0", EXIT_POLICY },   /* no class that a rule has */
	{ "0000:01:00.0", 0 },		   /* behind it */
	{ "0000:00:02.0", EXIT_NO_GROUP }, /* class 0680, a bridge's header */
	{ "0000:02:00.1", 0 },		   /* class 0680, none */
	{ "0000:00:03.0", 0 },
	{ "0000:00:04.0", EXIT_NO_GROUP },
	{ "0000:00:05.0", EXIT_NO_GROUP },
	{ "0000:00:06.0", EXIT_NO_GROUP },
	{ "0000:00:1f.3", EXIT_NO_GROUP }, /* beside a bridge with a host driver */
	{ "0000:80:01.0", 0 },
	{ "0000:03:00.0", EXIT_NO_GROUP },
	{ "0000:04:00.0", EXIT_POLICY },
	{ "0000:05:00.0", EXIT_IN_USE },
	{ "0000:06:00.0", 0 },
	{ "10001:8a:00.0", 0 },
	{ "ffffffff:ff:1f.7", 0 },
	{ "0000:07:00.0", EXIT_POLICY },
	{ NULL, 0 },
};
static const struct {
	const char *name;
	const struct expected *expected;
} known[] = {
	{ "nvswitch", nvswitch }, { "nvswitch-on-vfio", nvswitch }, { "big-group", big },
	{ "ucsi", ucsi },	  { "domains", domains },	    { "edges", edges },
};

static char *read_text(const char *path)
{
	cleanup_file FILE *file = fopen(path, "re");
	char *text = calloc(1, 65536);

	need(file && text);
	need(fread(text, 1, 65535, file) > 0);
	return text;
}

static void test_list(const char *name)
{
	cleanup_free char *list = NULL, *path = NULL, *own = NULL;
	const struct expected *expected = NULL;

	need(asprintf(&list, "%s/%s.json", field, name) > 0);
	need(asprintf(&path, "%s/%s.policy", field, name) > 0);
	own = read_text(path);
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(known[i].name, name))
			expected = known[i].expected;
	compare_list(name, list, own, expected);
}

static void test_lists(void)
{
	struct dirent **entries;
	int n = scandir(field, &entries, NULL, alphasort);

	need(n > 0);
	for (int i = 0; i < n; i++) {
		char *dot = strrchr(entries[i]->d_name, '.');

		if (dot && !strcmp(dot, ".json")) {
			*dot = '\0';
			test_list(entries[i]->d_name);
		}
		free(entries[i]);
	}
	free(entries);
}

/* A GPU among n - 1 virtual functions, all in one group, with a bridge. */
static void test_size(unsigned n, int status)
{
	const struct expected expected[] = { { "0000:5e:00.0", status },
					     { "0000:3b:00.1", status },
					     { "0000:3a:00.0", EXIT_NO_GROUP },
					     { NULL, 0 } };
	char name[64], list[] = "/tmp/gpubroker-list.XXXXXX";
	int fd = mkstemp(list);
	FILE *file = fdopen(fd, "w");

	need(file);
	fputs("[{\"address\": \"0000:3a:00.0\", \"vendor\": \"8086\", \"device\": \"2030\", "
	      "\"class\": \"060400\", \"iommu_group\": 7, \"driver\": \"pcieport\"}",
	      file);
	for (unsigned i = 0; i < n; i++)
		fprintf(file,
			",\n{\"address\": \"0000:%s:%02x.%x\", \"vendor\": \"15b3\", "
			"\"device\": \"101e\", \"class\": \"020000\", \"iommu_group\": 7, "
			"\"driver\": null}",
			i ? i > 255 ? "3c" : "3b" : "5e", i >> 3 & 31, i & 7);
	fputs("]\n", file);
	need(!fclose(file));
	snprintf(name, sizeof(name), "a group of %u", n);
	compare_list(name, list, NULL, expected);
	unlink(list);
}

/* ---- interrupts ---- */

static int ask_without_remapping(const struct pci_address *address)
{
	int fd = dial_in(0), status;

	broker.kernel.no_remapping = !interrupts_are_remapped(broker.kernel.sys);
	status = ask_broker(fd, address);
	hang_up(fd);
	return status;
}

static void test_interrupts(void)
{
	static const char parameter[] = "sys/module/vfio_iommu_type1/parameters/"
					"allow_unsafe_interrupts";
	const struct function card = {
		.address = { .bus = 1 }, .vendor = 0x1234, .class_code = 0x030000, .iommu_group = 1
	};
	struct policy_rule rule;

	broker_make();
	make_function(&card);
	broker_allow_all(&rule);
	tap_ok(!ask_without_remapping(&card.address), "a kernel that tells nothing is believed");
	scratch_write("sys/kernel/irq/0/chip_name", "XT-PIC\n");
	scratch_write("sys/kernel/irq/1/chip_name", "GICv3\n");
	scratch_write("sys/kernel/irq/2/chip_name", "(null)\n");
	scratch_write(parameter, "N\n");
	tap_ok(!ask_without_remapping(&card.address), "and one of another kind of machine");
	scratch_write("sys/kernel/irq/9/chip_name", "IO-APIC\n");
	scratch_write("sys/kernel/irq/24/chip_name", "PCI-MSIX-0000:01:00.0\n");
	tap_ok(ask_without_remapping(&card.address) == EXIT_NO_GROUP,
	       "one that does not remap interrupts lends nothing");
	scratch_write(parameter, "Y\n");
	tap_ok(!ask_without_remapping(&card.address), "unless root allows that");
	scratch_write(parameter, "N\n");
	scratch_write("sys/kernel/irq/24/chip_name", "IR-PCI-MSIX-0000:01:00.0\n");
	tap_ok(!ask_without_remapping(&card.address), "one that remaps them does");
	broker_drop();
	scratch_remove();
}

int main(void)
{
	const char *top = getenv("top_srcdir");
	char path[256];

	snprintf(path, sizeof(path), "%s/tests/field", top ? top : ".");
	field = path;
	test_lists();
	test_size(63, 0);
	test_size(64, 0);
	test_size(65, EXIT_NO_GROUP);
	test_size(300, EXIT_NO_GROUP);
	test_interrupts();
	return tap_done();
}
