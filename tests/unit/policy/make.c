/* SPDX-License-Identifier: MIT */
/*
 * Random numbers for the random tests, and what they choose: statements, devices, and the text of a
 * policy in a random spelling. The pools of values are small, so that many match.
 */
#include "config.h"

#include "tests/unit/policy/make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/common/util.h"

static uint64_t state;

/* xorshift64*: unlike rand(), the same everywhere. */
uint32_t make_roll(uint32_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)(state * 0x2545f4914f6cdd1dULL >> 33) % below;
}

void make_seed(uint64_t number)
{
	state = number * 0x9e3779b97f4a7c15ULL + 1;
	for (int i = 0; i < 8; i++)
		make_roll(2);
}

/* ---- a statement as a person thinks of it ---- */

static const unsigned int class_codes[] = { 0x030000, 0x030200, 0x040000, 0x040100,
					    0x040300, 0x0c0330, 0x020000 };
static const char *const classes[] = { "display", "audio", "usb",  "network", "03",	 "0x0403",
				       "040300",  "0C",	   "0c03", "0302",    "0x030000" };

/* For devices: the first two of the texts are "not known" and "none". */
static const char *const driver_facts[] = { NULL, "", "nouveau", "vfio-pci", "snd_hda_intel" };
static const char *const serial_facts[] = { NULL, "", "00-aa-1f", "00-AA-1F", "zz", "ZZ", "z" };
static const char *const path_facts[] = { NULL,
					  "",
					  "pci0000:00/01.0/00.0",
					  "pci0000:20/01.0/00.0",
					  "pci0000:00/01.0",
					  "pci10000:e0/1f.7" };
static const char *const drivers[] = { "nouveau", "vfio-pci", "amdgpu" };
static const char *const serials[] = { "00-aa-1f", "00-aA-1F", "zz", "0" };
static const char *const paths[] = {
	"01.0/00.0",	    "01.0", "pci0000:00/01.0/00.0", "pci0000:20/01.0/00.0", "1F.7",
	"pci10000:E0/1f.7", "00.0"
};
/* Half of all devices are whole ones, for which this is "". */
static const char *const profile_facts[] = { "", "", "", NULL, "mtty-1", "mtty-2" };
static const char *const profile_name_facts[] = { NULL, "", "Dual" };
static const char *const profiles[] = { "mtty-1", "mtty-2", "Dual", "any", "Any", "mtty" };
static const char *const vfio_drivers[] = { "vfio-pci", "mlx5_vfio_pci", "xe-vfio-pci" };

static const char *pick(const char *const *pool, size_t n)
{
	return pool[make_roll((uint32_t)n)];
}

/* One value of the pool in one of `times` cases, else NULL. */
#define MAYBE(times, pool) (make_roll(times) ? NULL : pick(pool, ARRAY_SIZE(pool)))

static void make_limits(struct statement *s)
{
	if (make_roll(2)) {
		s->limit = 1 + make_roll(3);
		s->held = make_roll(5);
	}
	if (make_roll(2))
		s->memlock = (1ULL + make_roll(2000)) << 10 * make_roll(5);
	s->boot_vga = make_roll(4) == 0;
	s->in_use = make_roll(4) == 0;
	s->require_reset = make_roll(4) == 0;
	if (make_roll(3))
		s->lifetime = 1 + make_roll(200000);
	if (s->lifetime && make_roll(2))
		s->kill = 1 + make_roll(86400);
	s->vfio_driver = MAYBE(3, vfio_drivers);
}

struct statement make_statement(int i)
{
	bool definition = i < MAKE_NAMES || make_roll(5) == 0;
	struct statement s = {
		.verb = definition ? 'd' : "aaaaaannpp"[make_roll(10)],
		.name = i < MAKE_NAMES ? i
			: definition   ? (int)make_roll(MAKE_NAMES)
				       : (int)make_roll(9) - 5,
		.bus = -1,
		.vendor = make_roll(3) ? -1 : (int)make_roll(2) + 0x10de,
		.device = make_roll(5) ? -1 : (int)make_roll(2) + 1,
		.group = make_roll(5) ? -1 : (int)make_roll(3),
		.subsystem_vendor = make_roll(8) ? -1 : (int)make_roll(2) + 0x10de,
		.subsystem_device = make_roll(8) ? -1 : (int)make_roll(2) + 1,
		.class = MAYBE(4, classes),
		.driver = MAYBE(8, drivers),
		.serial = MAYBE(8, serials),
		.path = MAYBE(8, paths),
		.profile = MAYBE(4, profiles),
	};

	s.who = s.verb == 'd' || s.verb == 'p' ? '-' : "ugge"[make_roll(4)];
	if (s.name < 0)
		s.name = -1;
	if (s.who == 'u')
		s.id = 1000 + make_roll(2);
	if (s.who == 'g')
		s.id = 100 + make_roll(4);
	if (make_roll(6) == 0) {
		s.bus = (int)make_roll(2);
		s.slot = (int)make_roll(2);
		s.function = (int)make_roll(2);
		s.any = make_roll(2) ? make_roll(15) : 0;
	}
	s.pair = s.vendor >= 0 && s.device >= 0 && make_roll(2);
	if (s.verb == 'a')
		make_limits(&s);
	if (s.verb == 'p')
		s.profile = NULL; /* a prepare takes none */
	if (s.verb == 'p')
		s.vfio_driver = MAYBE(2, vfio_drivers);
	return s;
}

void make_functions(struct policy_facts *functions, size_t n)
{
	for (size_t i = 0; i < n; i++)
		functions[i] = (struct policy_facts){
			.address = { .domain = make_roll(6) == 0,
				     .bus = (uint8_t)make_roll(2),
				     .device = (uint8_t)make_roll(2),
				     .function = (uint8_t)make_roll(2) },
			.vendor = (uint16_t)(0x10de + make_roll(2)),
			.device = (uint16_t)(1 + make_roll(2)),
			.subsystem_vendor = (uint16_t)(0x10de + make_roll(2)),
			.subsystem_device = (uint16_t)(1 + make_roll(2)),
			.class_code = class_codes[make_roll(ARRAY_SIZE(class_codes))],
			.iommu_group = make_roll(8) ? make_roll(3) : UINT32_MAX,
			.driver = pick(driver_facts, ARRAY_SIZE(driver_facts)),
			.serial = pick(serial_facts, ARRAY_SIZE(serial_facts)),
			.path = pick(path_facts, ARRAY_SIZE(path_facts)),
			.profile = pick(profile_facts, ARRAY_SIZE(profile_facts)),
			.profile_name = pick(profile_name_facts, ARRAY_SIZE(profile_name_facts)),
			.no_pci = make_roll(8) == 0,
		};
}

void make_shuffle(struct statement *all, int n)
{
	for (int i = n - 1; i > 0; i--) {
		uint32_t j = make_roll((uint32_t)i + 1);
		struct statement spare = all[i];

		all[i] = all[j];
		all[j] = spare;
	}
}

/* ---- its text ---- */

static const char *blank(void)
{
	static const char *const blanks[] = { " ", "  ", "\t", " \t " };

	return blanks[make_roll(4)];
}

static void print_hex(FILE *out, const char *word, int value)
{
	fprintf(out, make_roll(2) ? "%s%s %x" : "%s%s 0x%04X", blank(), word, (unsigned int)value);
}

static void print_number(FILE *out, const char *format, int number, bool any, const char *after)
{
	if (any)
		fputc('*', out);
	else
		fprintf(out, format, (unsigned int)number);
	fputs(after, out);
}

static void print_address(FILE *out, const struct statement *s)
{
	fprintf(out, "%saddress ", blank());
	if (s->any & 1 || make_roll(2))
		fputs(s->any & 1 ? "*:" : "0000:", out);
	print_number(out, "%02x", s->bus, s->any & 2, ":");
	print_number(out, "%02x", s->slot, s->any & 4, ".");
	print_number(out, "%x", s->function, s->any & 8, "");
}

/*
 * Prints one attribute or the name, by its number. Returns false if the statement does not have it.
 */
#define WHATS 11
static bool print_part(FILE *out, const struct statement *s, uint32_t part)
{
	if (part == 0 && s->name >= 0 && s->verb != 'd')
		fprintf(out, "%sname-%d", blank(), s->name);
	else if (part == 1 && s->bus >= 0)
		print_address(out, s);
	else if (part == 2 && s->pair)
		fprintf(out, make_roll(2) ? "%s%04x:%04x" : "%sdevice %04X:%04X", blank(),
			(unsigned int)s->vendor, (unsigned int)s->device);
	else if (part == 3 && s->pair)
		return false;
	else if (part == 2 && s->vendor >= 0)
		print_hex(out, "vendor", s->vendor);
	else if (part == 3 && s->device >= 0)
		print_hex(out, "device", s->device);
	else if (part == 4 && s->group >= 0)
		fprintf(out, "%siommu-group %d", blank(), s->group);
	else if (part == 5 && s->class)
		fprintf(out, "%sclass %s", blank(), s->class);
	else if (part == 6 && s->subsystem_vendor >= 0)
		print_hex(out, "subsystem-vendor", s->subsystem_vendor);
	else if (part == 7 && s->subsystem_device >= 0)
		print_hex(out, "subsystem-device", s->subsystem_device);
	else if (part == 8 && s->driver)
		fprintf(out, "%sdriver %s", blank(), s->driver);
	else if (part == 9 && (s->serial || s->path))
		fprintf(out, "%s%s%s%s%s%s", blank(), s->serial ? "serial " : "",
			s->serial ? s->serial : "", s->serial && s->path ? " " : "",
			s->path ? "path " : "", s->path ? s->path : "");
	else if (part == 10 && s->profile)
		fprintf(out, "%sprofile %s", blank(), s->profile);
	else
		return false;
	return true;
}

/* Prints WHAT of the manual's syntax, in a random order. */
static void print_what(FILE *out, const struct statement *s)
{
	bool said = false;

	for (uint32_t start = make_roll(WHATS), i = start; i < start + WHATS; i++)
		said = print_part(out, s, i % WHATS) || said;
	if (!said)
		fprintf(out, "%sany", blank());
}

static void print_size(FILE *out, unsigned long long size)
{
	static const char suffixes[] = "KMGT";
	int i = -1;

	while (i < 3 && size % 1024 == 0 && make_roll(4)) {
		size /= 1024;
		i++;
	}
	fprintf(out, "%smemlock %llu%.*s", blank(), size, i >= 0, i >= 0 ? suffixes + i : "");
}

static void print_time(FILE *out, unsigned int seconds)
{
	static const unsigned int units[] = { 86400, 3600, 60, 1 };

	fprintf(out, "%sfor ", blank());
	for (int i = 0; i < 4 && seconds; i++) {
		unsigned int count = seconds / units[i];

		if (!count || (i < 3 && make_roll(3) == 0)) /* 90m is 1h30m */
			continue;
		fprintf(out, "%u%c", count, "dhms"[i]);
		seconds %= units[i];
	}
}

static void print_kill(FILE *out, unsigned int seconds)
{
	if (seconds == 30 && make_roll(2))
		fprintf(out, "%skill", blank());
	else
		fprintf(out, "%skill=%us", blank(), seconds);
}

static void print_limits(FILE *out, const struct statement *s)
{
	for (uint32_t start = make_roll(8), i = start; i < start + 8; i++) {
		if (i % 8 == 0 && s->limit)
			fprintf(out, "%slimit %u", blank(), s->limit);
		else if (i % 8 == 1 && s->memlock)
			print_size(out, s->memlock);
		else if (i % 8 == 2 && s->boot_vga)
			fprintf(out, "%sboot-vga", blank());
		else if (i % 8 == 3 && s->lifetime)
			print_time(out, s->lifetime);
		else if (i % 8 == 4 && s->vfio_driver)
			fprintf(out, "%svfio-driver %s", blank(), s->vfio_driver);
		else if (i % 8 == 5 && s->require_reset)
			fprintf(out, "%srequire-reset", blank());
		else if (i % 8 == 7 && s->kill)
			print_kill(out, s->kill);
		else if (i % 8 == 6 && s->in_use)
			fprintf(out, "%sin-use", blank());
	}
}

static void print_statement(FILE *out, const struct statement *s)
{
	static const char *const users[] = { "alice", "bob" };
	static const char *const groups[] = { "render", "video", "students", "ops" };
	const char *verb = s->verb == 'a' ? "allow" : "deny";

	if (s->verb == 'd')
		fprintf(out, "device name-%d", s->name);
	else if (s->verb == 'p')
		fputs("prepare", out);
	else if (s->who == 'e')
		fprintf(out, "%s any claim", verb);
	else if (make_roll(2))
		fprintf(out, "%s %s %u claim", verb, s->who == 'u' ? "user" : "group", s->id);
	else
		fprintf(out, "%s%s%s %s claim", verb, blank(), s->who == 'u' ? "user" : "group",
			s->who == 'u' ? users[s->id - 1000] : groups[s->id - 100]);
	print_what(out, s);
	print_limits(out, s);
	fputs(make_roll(4) ? "" : "# deny any claim any", out);
	fputs(make_roll(4) ? "\n" : "\r\n", out);
}

char *make_text(const struct statement *all, int n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		exit(99);
	for (int i = 0; i < n; i++)
		print_statement(out, &all[i]);
	fclose(out);
	return text;
}
