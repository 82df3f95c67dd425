/* SPDX-License-Identifier: MIT */
/*
 * Lease records. The text must come back exactly or be refused; among the files there may be
 * anything.
 */
#include "config.h"

#include "brokerd/record/lease-record.h"
#include "brokerd/record/vf-record.h"
#include "brokerd/record/waiting-record.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <inttypes.h>

static const char sample_text[] = "gpubroker lease 1\n"
				  "id 3\n"
				  "group 17\n"
				  "uid 1000\n"
				  "gid 1001\n"
				  "pid 4711\n"
				  "since 1790000000\n"
				  "rule /etc/gpubroker/policy.d/10-lab.policy:7\n"
				  "asked 0000:01:00.0\n"
				  "stuck 1790000100 0000:01:00.0: unbind: has not come back\n"
				  "lifetime 3600\n"
				  "ends 1790003600\n"
				  "require-reset 1\n"
				  "kill 30\n"
				  "group-id 44\n"
				  "group-id 109\n"
				  "function 0000:01:00.0 1234 1111\n"
				  "bound vfio-pci 4294967301\n"
				  "driver bochs-drm\n"
				  "override \n"
				  "function 0000:01:00.1 8086 2668\n"
				  "driver \n"
				  "override vfio-pci\n"
				  "end\n";

static const struct lease sample = {
	.id = 3,
	.group = 17,
	.uid = 1000,
	.gid = 1001,
	.pid = 4711,
	.since = 1790000000,
	.ends = 1790003600,
	.stuck_since = 1790000100,
	.reason = "0000:01:00.0: unbind: has not come back",
	.asked = { 0, 1, 0, 0, 0 },
	.terms = { .rule = "/etc/gpubroker/policy.d/10-lab.policy:7",
		   .lifetime = 3600,
		   .kill = 30,
		   .require_reset = true },
	.n_gids = 2,
	.gids = { 44, 109 },
	.n_functions = 2,
	.functions = {
		{ .address = { 0, 1, 0, 0, 0 },
		  .vendor = 0x1234,
		  .device = 0x1111,
		  .driver = "bochs-drm",
		  .binding = 4294967301,
		  .lent_by = "vfio-pci" },
		{ .address = { 0, 1, 0, 1, 0 },
		  .vendor = 0x8086,
		  .device = 0x2668,
		  .override = "vfio-pci" },
	},
};

/*
 * Parses a copy in memory of exactly its size and without a NUL, so that a sanitizer sees a read
 * past the end.
 */
static int parse(const char *text, size_t len, struct lease *lease, unsigned *line)
{
	cleanup_free char *copy = malloc(len ? len : 1);

	need(copy);
	memcpy(copy, text, len);
	return lease_record_parse(copy, len, lease, line);
}

static bool refused(const char *text, size_t len)
{
	unsigned line = 0;
	struct lease lease = { 0 };

	return parse(text, len, &lease, &line) == -EBADMSG && line >= 1;
}

/* Compares every recorded field, not the struct: strings may differ behind their NUL. */
static bool same(const struct lease *a, const struct lease *b)
{
	if (a->id != b->id || a->group != b->group || a->uid != b->uid || a->pid != b->pid ||
	    a->since != b->since || a->n_functions != b->n_functions || a->gid != b->gid ||
	    a->ends != b->ends || a->migration != b->migration ||
	    a->stuck_since != b->stuck_since || strcmp(a->reason, b->reason) != 0 ||
	    a->terms.require_reset != b->terms.require_reset ||
	    memcmp(&a->asked, &b->asked, sizeof(a->asked)) != 0 ||
	    a->terms.lifetime != b->terms.lifetime || a->terms.kill != b->terms.kill ||
	    strcmp(a->terms.rule, b->terms.rule) != 0 || a->n_gids != b->n_gids ||
	    memcmp(a->gids, b->gids, a->n_gids * sizeof(a->gids[0])) != 0)
		return false;
	if (strcmp(a->mdev.uuid, b->mdev.uuid) != 0 ||
	    strcmp(a->mdev.parent, b->mdev.parent) != 0 ||
	    strcmp(a->mdev.type, b->mdev.type) != 0 || strcmp(a->mdev.name, b->mdev.name) != 0 ||
	    a->mdev.vendor != b->mdev.vendor)
		return false;
	for (size_t i = 0; i < a->n_functions; i++) {
		const struct lease_function *f = &a->functions[i], *g = &b->functions[i];

		if (memcmp(&f->address, &g->address, sizeof(f->address)) != 0 ||
		    f->vendor != g->vendor || f->device != g->device ||
		    strcmp(f->driver, g->driver) != 0 || strcmp(f->override, g->override) != 0 ||
		    f->binding != g->binding || f->taken != g->taken ||
		    ((f->binding || f->taken) && strcmp(f->lent_by, g->lent_by) != 0))
			return false;
	}
	return true;
}

static void largest(struct lease *lease)
{
	*lease = (struct lease){
		.id = UINT64_MAX - 1,
		.group = UINT32_MAX - 1,
		.uid = UINT32_MAX,
		.pid = UINT32_MAX,
		.gid = UINT32_MAX,
		.since = UINT64_MAX,
		.ends = UINT64_MAX,
		.stuck_since = UINT64_MAX,
		.migration = GPUBROKER_MIGRATION_NO,
		.terms.lifetime = UINT32_MAX,
		.terms.require_reset = true,
		.n_gids = LEASE_GIDS_MAX,
		.n_functions = PROTOCOL_FUNCTIONS_MAX,
	};
	memset(lease->terms.rule, 'r', sizeof(lease->terms.rule) - 1);
	memset(lease->reason, 'w', sizeof(lease->reason) - 1);
	memset(lease->gids, 0xff, sizeof(lease->gids));
	for (size_t i = 0; i < lease->n_functions; i++) {
		struct lease_function *f = &lease->functions[i];

		f->address =
			(struct pci_address){ UINT32_MAX, 255, (uint8_t)(i >> 3 & 31), i & 7, 0 };
		f->vendor = f->device = UINT16_MAX;
		memset(f->driver, 'd', sizeof(f->driver) - 1);
		memset(f->override, 'o', sizeof(f->override) - 1);
		memset(f->lent_by, 'v', sizeof(f->lent_by) - 1);
		memcpy(f->lent_by, "vfio-pci", strlen("vfio-pci"));
		f->binding = UINT64_MAX;
	}
	lease->asked = lease->functions[lease->n_functions - 1].address;
}

static void test_round_trip(void)
{
	struct lease lease, back = { 0 };
	char text[STORE_TEXT_MAX];
	unsigned line;
	int n = lease_record_format(&sample, text, sizeof(text));

	tap_ok(n == (int)sizeof(sample_text) - 1 && !strcmp(text, sample_text),
	       "a record is written as it is documented");
	tap_ok(!parse(sample_text, sizeof(sample_text) - 1, &back, &line) && same(&sample, &back),
	       "and read back as it was");

	largest(&lease);
	n = lease_record_format(&lease, text, sizeof(text));
	tap_ok(n > 0, "the largest lease fits into STORE_TEXT_MAX (%d bytes)", n);
	memset(&back, 0xee, sizeof(back));
	tap_ok(n > 0 && !parse(text, (size_t)n, &back, &line) && same(&lease, &back),
	       "and is read back as it was");

	for (unsigned i = 0; i <= GPUBROKER_MIGRATION_NO; i++) {
		lease.migration = (enum gpubroker_migration)i;
		n = lease_record_format(&lease, text, sizeof(text));
		tap_ok(n > 0 && !parse(text, (size_t)n, &back, &line) && same(&lease, &back),
		       "whether it migrates: %u", i);
	}

	lease.functions[1].taken = true;
	lease.functions[1].binding = 0;
	n = lease_record_format(&lease, text, sizeof(text));
	strcpy(lease.functions[1].driver, LEASE_DRIVER_UNKNOWN);
	tap_ok(n > 0 && !parse(text, (size_t)n, &back, &line) && same(&lease, &back),
	       "so is one that somebody has taken a function from, of which the driver is not");

	lease.n_functions = 0;
	n = lease_record_format(&lease, text, sizeof(text));
	tap_ok(n > 0 && !parse(text, (size_t)n, &back, &line) && same(&lease, &back),
	       "so is one without a function");
}

static void test_format_room(void)
{
	struct lease lease;
	char text[STORE_TEXT_MAX];
	int n;
	bool good = true;

	largest(&lease);
	n = lease_record_format(&lease, text, sizeof(text));
	for (size_t size = 1; n > 0 && size <= (size_t)n + 1; size++) {
		cleanup_free char *out = malloc(size);
		int r;

		need(out);
		r = lease_record_format(&lease, out, size);
		good = good && r == (size == (size_t)n + 1 ? n : -E2BIG);
	}
	tap_ok(good, "a record that does not fit is refused, whatever the size, and none is cut");
}

/*
 * The parser accepts every record that the formatter writes; otherwise the next start would forget
 * a lease. The loader chose the name of a rule's file and the kernel that of a driver.
 */
static void test_format_hostile(void)
{
	static const char *const values[] = {
		"\n", "a\nb", "a\n",  "\na",  "a\nend\n", "a\nlifetime 0\ngroup-id 0",
		" ",  "a b",  "\033", "\377",
	};

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct lease lease[4] = { sample, sample, sample, sample };
		bool good = true;

		strcpy(lease[0].terms.rule, values[i]);
		strcpy(lease[1].functions[0].driver, values[i]);
		strcpy(lease[2].functions[1].override, values[i]);
		strcpy(lease[3].reason, values[i]);
		for (size_t k = 0; k < ARRAY_SIZE(lease); k++) {
			struct lease back = { 0 };
			char text[STORE_TEXT_MAX];
			unsigned line;
			int n = lease_record_format(&lease[k], text, sizeof(text));

			good = good && (n < 0 || (!parse(text, (size_t)n, &back, &line) &&
						  same(&lease[k], &back)));
		}
		tap_ok(good, "a record is written only if it can be read back: strange text %zu",
		       i);
	}
}

/*
 * Returns true if the byte at this place may be another one: in the value of a line, but not its
 * first byte.
 */
static bool is_value(size_t at)
{
	const char *line = sample_text + at;

	while (line > sample_text && line[-1] != '\n')
		line--;
	return line > sample_text && sample_text[at] != '\n' &&
	       memchr(line, ' ', (size_t)(sample_text + at - line));
}

static void test_changes(void)
{
	size_t len = sizeof(sample_text) - 1;
	unsigned strange = 0, changed_key = 0, newline = 0, taken = 0;
	char text[sizeof(sample_text)], again[STORE_TEXT_MAX];

	for (size_t at = 0; at < len; at++) {
		for (int byte = 0; byte < 256; byte++) {
			struct lease lease = { 0 };
			unsigned line;

			if ((char)byte == sample_text[at])
				continue;
			memcpy(text, sample_text, sizeof(text));
			text[at] = (char)byte;
			if (parse(text, len, &lease, &line))
				continue;
			taken++;
			changed_key += !is_value(at);
			newline += !byte || byte == '\n';
			strange += lease_record_format(&lease, again, sizeof(again)) != (int)len ||
				   memcmp(again, text, len) != 0 || same(&lease, &sample);
		}
	}
	tap_ok(!changed_key, "every change of one byte outside a value is refused (%u taken)",
	       changed_key);
	tap_ok(!newline, "every byte that becomes NUL or a newline is refused");
	tap_ok(!strange && taken > 100, "a changed value is refused or is just what it says now");
}

static void test_cuts(void)
{
	size_t len = sizeof(sample_text) - 1;
	unsigned taken = 0;
	char text[2 * sizeof(sample_text)];

	for (size_t n = 0; n < len; n++)
		taken += !refused(sample_text, n);
	tap_ok(!taken, "every truncation is refused");
	taken = 0;
	for (size_t n = 1; n < len; n++)
		taken += !refused(sample_text + n, len - n);
	tap_ok(!taken, "every record without its beginning is refused");
	taken = 0;
	for (size_t at = 0; at < len; at++) {
		memcpy(text, sample_text, at);
		memcpy(text + at, sample_text + at + 1, len - at - 1);
		if (!is_value(at))
			taken += !refused(text, len - 1);
	}
	tap_ok(!taken, "every byte left out of what is no value is refused");
	taken = 0;
	for (int byte = 0; byte < 256; byte++) {
		memcpy(text, sample_text, len);
		text[len] = (char)byte;
		taken += !refused(text, len + 1);
	}
	tap_ok(!taken, "any byte after the end is refused");
	memcpy(text + len, sample_text, len);
	tap_ok(refused(text, 2 * len), "two records in one are refused");
}

/* Returns the start of line n of the sample, and its length with the newline. */
static const char *line_at(size_t n, size_t *ret_len)
{
	const char *p = sample_text;

	while (n--)
		p = strchr(p, '\n') + 1;
	*ret_len = (size_t)(strchr(p, '\n') + 1 - p);
	return p;
}

/* A record may have any number of these lines, in any order. */
static bool may_vary(const char *line)
{
	return !strncmp(line, "group-id ", 9);
}

static void test_lines(void)
{
	size_t total = sizeof(sample_text) - 1, n_lines = 0, len, next_len;
	unsigned doubled = 0, missing = 0, swapped = 0;
	char text[2 * sizeof(sample_text)];

	for (size_t i = 0; i < total; i++)
		n_lines += sample_text[i] == '\n';
	for (size_t i = 0; i < n_lines; i++) {
		const char *line = line_at(i, &len);
		size_t before = (size_t)(line - sample_text), after = total - before - len;

		memcpy(text, sample_text, before + len);
		memcpy(text + before + len, line, len + after);
		doubled += !may_vary(line) && !refused(text, total + len);
		memcpy(text + before, line + len, after);
		missing += !may_vary(line) && strncmp(line, "kill ", 5) != 0 &&
			   strncmp(line, "bound ", 6) != 0 && !refused(text, total - len);
		if (i + 1 == n_lines || (may_vary(line) && may_vary(line + len)))
			continue;
		line_at(i + 1, &next_len);
		memcpy(text, sample_text, total);
		memcpy(text + before, line + len, next_len);
		memcpy(text + before + next_len, line, len);
		swapped += !refused(text, total);
	}
	tap_ok(!doubled, "each line twice is refused");
	tap_ok(!missing, "each line left out is refused");
	tap_ok(!swapped, "each two lines in the other order are refused");
}

struct replacement {
	const char *from, *to;
};

static const struct replacement replacements[] = {
	{ "gpubroker lease 1", "gpubroker lease 0" },
	{ "gpubroker lease 1", "gpubroker lease 2" },
	{ "gpubroker lease 1", "gpubroker lease 01" },
	{ "gpubroker lease 1", "gpubroker lease" },
	{ "id 3", "id 0" },
	{ "id 3", "id +3" },
	{ "id 3", "id -3" },
	{ "id 3", "id  3" },
	{ "id 3", "id \t3" },
	{ "id 3", "id 3 " },
	{ "id 3", "id 03" },
	{ "id 3", "id 0x3" },
	{ "id 3", "id 3.0" },
	{ "id 3", "id 3e0" },
	{ "id 3", "id" },
	{ "id 3", "id " },
	{ "id 3", "ID 3" },
	{ "id 3", "id=3" },
	{ "id 3", "id 18446744073709551615" },
	{ "id 3", "id 18446744073709551616" },
	{ "id 3", "id 18446744073709551619" },
	{ "id 3", "id 99999999999999999999999999999999" },
	{ "id 3\n", "id 3\r\n" },
	{ "group 17", "group 4294967295" },
	{ "group 17", "group 4294967296" },
	{ "group 17", "group 4294967313" },
	{ "group 17\n", "group 17\ngroup-id 44\n" },
	{ "group 17", "group -1" },
	{ "group 17", "group 017" },
	{ "uid 1000", "uid 4294967296" },
	{ "uid 1000", "uid 4294968296" },
	{ "uid 1000", "uid -1" },
	{ "uid 1000", "uid root" },
	{ "gid 1001", "gid 4294967296" },
	{ "gid 1001", "gid 01001" },
	{ "group-id 44", "group-id 4294967296" },
	{ "group-id 44", "group-id -1" },
	{ "group-id 44", "group-id 044" },
	{ "group-id 44", "group-id" },
	{ "lifetime 3600", "lifetime 4294967296" },
	{ "lifetime 3600", "lifetime +3600" },
	{ "lifetime 3600", "lifetime 3600s" },
	{ "kill 30", "kill 0" },
	{ "kill 30", "kill 86401" },
	{ "kill 30", "kill 030" },
	{ "kill 30", "kill" },
	{ "ends 1790003600", "ends 18446744073709551616" },
	{ "ends 1790003600", "ends never" },
	{ "require-reset 1", "require-reset 2" },
	{ "require-reset 1", "require-reset yes" },
	{ "stuck 1790000100 ", "stuck 1790000100" },
	{ "stuck 1790000100", "stuck 0" },
	{ "stuck 1790000100", "stuck -1" },
	{ "rule /etc", "rule\n/etc" },
	{ "rule /etc",
	  "rule /a:1\nlifetime 0\nfunction 0000:99:00.0 1234 1111\ndriver x\noverride \n/etc" },
	{ "asked 0000:01:00.0", "asked 0000:01:00.2" },
	{ "asked 0000:01:00.0", "asked 01:00.0" },
	{ "asked 0000:01:00.0", "asked " },
	{ "pid 4711", "pid 4294967296" },
	{ "pid 4711", "pid +4711" },
	{ "pid 4711", "pid 4711 4711" },
	{ "since 1790000000", "since 18446744073709551616" },
	{ "since 1790000000", "since -1790000000" },
	{ "since 1790000000", "since 01790000000" },
	{ "0000:01:00.0 1234", "01:00.0 1234" },
	{ "0000:01:00.0 1234", "00000:01:00.0 1234" },
	{ "0000:01:00.0 1234", "0000:01:20.0 1234" },
	{ "0000:01:00.0 1234", "0000:01:00.8 1234" },
	{ "0000:01:00.0 1234", " 0000:01:00.0 1234" },
	{ "0000:01:00.0 1234", "0000:01:00.0  1234" },
	{ "0000:01:00.0 1234", "0000:01:00.0\t1234" },
	{ "0000:01:00.0 1234", "0000:01:00.01234" },
	{ "0000:01:00.0 1234", "0000:01:00.0 234" },
	{ "0000:01:00.0 1234", "0000:01:00.0 0x12" },
	{ "0000:01:00.0 1234", "0000:01:00.0 12345" },
	{ "0000:01:00.0 1234", "0000:01:00.0 -123" },
	{ "0000:01:00.0 1234", "0000:01:00.0" },
	{ "8086 2668", "8086 266A" },
	{ "8086 2668", "8086 2668 " },
	{ "8086 2668", "8086 2668 0" },
	{ "8086 2668", "8086" },
	{ "driver bochs-drm", "driver" },
	{ "driver bochs-drm", "driver bochs\ndrm" },
	{ "driver bochs-drm", "driver 0123456789012345678901234567890X" },
	{ "override vfio-pci", "override" },
	{ "override vfio-pci", "override 0123456789012345678901234567890X" },
	{ "bound vfio-pci 4294967301", "bound vfio-pci" },
	{ "bound vfio-pci 4294967301", "bound 4294967301" },
	{ "bound vfio-pci 4294967301", "bound vfio-pci 0" },
	{ "bound vfio-pci 4294967301", "bound vfio-pci 01" },
	{ "bound vfio-pci 4294967301", "bound vfio-pci -1" },
	{ "bound vfio-pci 4294967301", "bound vfio-pci 18446744073709551616" },
	{ "bound vfio-pci 4294967301", "bound nvidia 4294967301" },
	{ "bound vfio-pci 4294967301", "bound ../vfio-pci/x 1 " },
	{ "bound vfio-pci 4294967301", "bound vfio-pci 1\nbound vfio-pci 1" },
	{ "bound vfio-pci 4294967301", "taken vfio-pci" }, /* then its driver is not known */
	{ "bound vfio-pci 4294967301\ndriver bochs-drm", "taken nvidia\ndriver ?" },
	{ "bound vfio-pci 4294967301\ndriver bochs-drm", "taken vfio-pci 1\ndriver ?" },
	{ "end\n", "end" },
	{ "end\n", "end \n" },
	{ "end\n", "END\n" },
	{ "end\n", "\nend\n" },
	{ "end\n", "end\nend\n" },
};

/* Returns true if the record is refused once it has another text in the place of one. */
static bool refused_with(const char *text, const struct replacement *replacement)
{
	const char *at = strstr(text, replacement->from);
	char changed[STORE_TEXT_MAX];
	int n;

	need(at);
	n = snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, replacement->to,
		     at + strlen(replacement->from));
	return refused(changed, (size_t)n);
}

static void test_replacements(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(replacements); i++) {
		const char *to = replacements[i].to;
		char shown[64] = "";

		for (size_t k = 0; to[k] && k < sizeof(shown) - 1; k++)
			shown[k] = (char)(to[k] >= ' ' ? to[k] : '~');
		tap_ok(refused_with(sample_text, &replacements[i]), "refused: '%s'", shown);
	}
}

/* The record of a mediated device has no functions. */
static void test_mdev(void)
{
	static const struct replacement wrong[] = {
		{ "mdev 8b", "mdev 8B" },
		{ "mdev 8b", "mdev b" },
		{ "mdev 8bf0c3d2-2f3b-8c11-9d52-0a6c5f0e7b41",
		  "mdev ../../../../class/x/y/z-aaaaaaaaaaaaaaa" },
		{ "-2f3b-8c11-9d52-", "-2f3b-8c11-9d-52" },
		{ "parent mtty", "parent " },
		{ "parent mtty", "parent .." },
		{ "parent mtty", "parent a/b" },
		{ "parent mtty", "parent 01234567890123456789012345678901" },
		{ "parent mtty", "parent 0000:01:00.0" }, /* not the device that was asked for */
		{ "asked 0000:00:00.0", "asked 0000:01:00.0" },
		{ "group 4294967295", "group 50" },
		{ "type mtty-2", "type a/b" },
		{ "type mtty-2", "type " },
		{ "type mtty-2\n", "" },
		{ "name Dual", "name a/b" },
		{ "name Dual", "name ../Dual" },
		{ "mdev 8b", "function 0000:00:00.0 1234 1111\ndriver \noverride \nmdev 8b" },
	};
	struct lease lease = { .id = 4,
			       .group = UINT32_MAX,
			       .mdev = { .parent = "mtty",
					 .type = "mtty-2",
					 .name = "Dual port serial",
					 .uuid = "8bf0c3d2-2f3b-8c11-9d52-0a6c5f0e7b41" } },
		     back = { 0 };
	char text[STORE_TEXT_MAX];
	int n = lease_record_format(&lease, text, sizeof(text));
	unsigned line;

	tap_ok(n > 0 && !parse(text, (size_t)n, &back, &line) && same(&lease, &back),
	       "an mdev's record comes back, its group not being known");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		tap_ok(refused_with(text, &wrong[i]),
		       "an mdev's record is refused: '%.20s' for '%.20s'", wrong[i].to,
		       wrong[i].from);
	lease.mdev.name[0] = '\0';
	strcpy(lease.mdev.parent, "0000:01:00.0");
	lease.asked.bus = 1;
	n = lease_record_format(&lease, text, sizeof(text));
	tap_ok(n > 0 && !parse(text, (size_t)n, &back, &line) && same(&lease, &back),
	       "so does one of a PCI function's, whose type has no name");
	lease.group = 50;
	n = lease_record_format(&lease, text, sizeof(text));
	tap_ok(n > 0 && !parse(text, (size_t)n, &back, &line) && back.group == UINT32_MAX,
	       "its group is not recorded: the number may be another's by then");
	strcpy(lease.mdev.type, "a\nb");
	tap_ok(lease_record_format(&lease, text, sizeof(text)) == -EINVAL,
	       "none is written that is two lines");
}

/* The record of a vendor's vGPU has its type's number. */
static void test_vgpu(void)
{
	static const struct replacement wrong[] = {
		{ "vgpu 557", "vgpu 0" },
		{ "vgpu 557", "vgpu 0557" },
		{ "vgpu 557", "vgpu -1" },
		{ "vgpu 557", "vgpu 4294967296" },
		{ "vgpu 557", "vgpu " },
		{ "vgpu 557\n", "" },
		{ "group 4294967295", "group 50" },
		{ "name NVIDIA", "name a/b" },
		{ "name NVIDIA X-1Q", "name " },
		{ "name NVIDIA X-1Q\n", "" },
		{ "vgpu 557", "mdev 8bf0c3d2-2f3b-8c11-9d52-0a6c5f0e7b41\nvgpu 557" },
		{ "vgpu 557", "function 0000:01:00.1 1234 1111\ndriver \noverride \nvgpu 557" },
	};
	struct lease lease = { .id = 4,
			       .group = UINT32_MAX,
			       .asked = { .bus = 1, .function = 1 },
			       .mdev = { .parent = "0000:01:00.1",
					 .type = "557",
					 .name = "NVIDIA X-1Q",
					 .vendor = true } },
		     back = { 0 };
	char text[STORE_TEXT_MAX];
	int n = lease_record_format(&lease, text, sizeof(text));
	unsigned line;

	tap_ok(n > 0 && strstr(text, "\nvgpu 557\nname NVIDIA X-1Q\nend\n") &&
		       !parse(text, (size_t)n, &back, &line) && same(&lease, &back),
	       "a vGPU's record comes back, its group not being known");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		tap_ok(refused_with(text, &wrong[i]),
		       "a vGPU's record is refused: '%.20s' for '%.20s'", wrong[i].to,
		       wrong[i].from);
}

static void test_too_much(void)
{
	cleanup_free char *text = malloc(4 * STORE_TEXT_MAX);
	struct lease lease;
	size_t used;
	int n;

	need(text);
	largest(&lease);
	n = lease_record_format(&lease, text, STORE_TEXT_MAX);
	used = (size_t)n - strlen("end\n");
	used += (size_t)sprintf(text + used,
				"function 0000:09:00.0 1234 1111\ndriver a\noverride \nend\n");
	tap_ok(refused(text, used), "more functions than a group can have are refused");

	largest(&lease);
	n = lease_record_format(&lease, text, STORE_TEXT_MAX);
	{
		static const char line[] = "group-id 1\n";
		char *at = strstr(text, "group-id ");

		memmove(at + strlen(line), at, (size_t)n - (size_t)(at - text));
		memcpy(at, line, strlen(line));
		tap_ok(refused(text, (size_t)n + strlen(line)),
		       "more groups than are remembered are refused");
	}

	memset(text, 'a', 4 * STORE_TEXT_MAX);
	tap_ok(refused(text, STORE_TEXT_MAX) && refused(text, STORE_TEXT_MAX + 1) &&
		       refused(text, 4 * STORE_TEXT_MAX),
	       "a record as large as may be, or larger, is refused");
	memcpy(text, sample_text, sizeof(sample_text));
	tap_ok(refused(text, sizeof(sample_text)), "a record with its NUL is refused");
}

/* ---- files ---- */

static const struct store no_store = { -1 };

struct found {
	size_t n, n_good, n_empty;
	char names[32][32];
	size_t lengths[32];
};

static void on_found(void *userdata, const char *name, const char *text, size_t len)
{
	struct found *found = userdata;
	struct lease lease;
	unsigned line;

	need(found->n < ARRAY_SIZE(found->names) && strlen(name) < sizeof(found->names[0]));
	strcpy(found->names[found->n], name);
	found->lengths[found->n++] = len;
	found->n_empty += !len;
	found->n_good += !lease_record_parse(text, len, &lease, &line);
}

static struct found look(const struct store *store)
{
	struct found found = { 0 };

	need(!store_each(store, STORE_LEASES, on_found, &found));
	return found;
}

/* Returns the index of a name, or SIZE_MAX. */
static size_t named(const struct found *found, const char *name)
{
	for (size_t i = 0; i < found->n; i++)
		if (!strcmp(found->names[i], name))
			return i;
	return SIZE_MAX;
}

static bool holds(const struct store *store, const char *name, const char *text)
{
	char is[STORE_TEXT_MAX + 1];
	cleanup_fd int fd = openat(store->directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, is, sizeof(is));

	return n == (ssize_t)strlen(text) && !memcmp(is, text, (size_t)n);
}

static bool exists(const struct store *store, const char *name)
{
	struct stat st;

	return !fstatat(store->directory, name, &st, AT_SYMLINK_NOFOLLOW);
}

static void test_write(const struct store *store)
{
	struct lease changed = sample;
	struct found found;
	struct stat st;

	tap_ok(!lease_record_write(store, &sample) && holds(store, "3", sample_text),
	       "a record is written to its file");
	tap_ok(!fstatat(store->directory, "3", &st, 0) && (st.st_mode & 07777) == 0600,
	       "which is its owner's alone");
	changed.pid = 1;
	tap_ok(!lease_record_write(store, &changed) && !holds(store, "3", sample_text) &&
		       !exists(store, "3.new"),
	       "written again it is replaced, and nothing else is left");
	found = look(store);
	tap_ok(found.n == 1 && found.n_good == 1 && !strcmp(found.names[0], "3"),
	       "it is found, once");
	tap_ok(!lease_record_remove(store, 3) && !look(store).n, "and removed");
	tap_ok(!lease_record_remove(store, 3), "removing one that is not there is no fault");
}

static void test_write_fails(const struct store *store)
{
	tap_ok(lease_record_write(&no_store, &sample) == -EBADF,
	       "no directory: the error is passed up");
	scratch_write("precious", "precious\n");
	need(!symlinkat("precious", store->directory, "3.new"));
	lease_record_write(store, &sample);
	tap_ok(holds(store, "precious", "precious\n"),
	       "a link in the temporary file's place is not written through");
	unlinkat(store->directory, "3.new", 0);
	unlinkat(store->directory, "3", 0);

	scratch_write(
		"3.new",
		"left over, and longer than what comes\n"
		"...................................................................................\n"
		"...................................................................................\n"
		"...................................................................................\n");
	tap_ok(!lease_record_write(store, &sample) && holds(store, "3", sample_text),
	       "a longer file left in the temporary one's place leaves nothing behind");
	unlinkat(store->directory, "3", 0);

	need(!mkdirat(store->directory, "3", 0755));
	tap_ok(lease_record_write(store, &sample) == -EISDIR && !exists(store, "3.new"),
	       "where the rename fails, the temporary file goes");
	unlinkat(store->directory, "3", AT_REMOVEDIR);
	unlinkat(store->directory, "precious", 0);
}

static void test_each(const struct store *store)
{
	static const char *const foreign[] = { "README", "3.damaged", "3x",
					       "x3",	 "3.newer",   "3.new.new",
					       ".3",	 "-3",	      "+3",
					       " 3",	 "3 ",	      "000000000000000000003",
					       "3~" };
	char text[STORE_TEXT_MAX + 100];
	struct found found;
	size_t i;

	need(!lease_record_write(store, &sample));
	for (i = 0; i < ARRAY_SIZE(foreign); i++)
		scratch_write(foreign[i], sample_text);
	scratch_write("4.new", sample_text);
	scratch_write("18446744073709551615.new", sample_text);
	scratch_write("target", sample_text);
	need(!symlinkat("target", store->directory, "5") &&
	     !symlinkat("nowhere", store->directory, "6") &&
	     !mkdirat(store->directory, "7", 0755) && !mkfifoat(store->directory, "8", 0644));
	scratch_write("9", "");
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	scratch_write("10", text);
	need(!symlinkat("target", store->directory, "11.new") &&
	     !mkdirat(store->directory, "12.new", 0755));

	found = look(store);
	tap_ok(named(&found, "3") != SIZE_MAX && found.n_good == 1,
	       "among others, the one good record is found");
	tap_ok(!exists(store, "4.new") && !exists(store, "18446744073709551615.new"),
	       "left over temporary files go");
	tap_ok(!exists(store, "11.new") && holds(store, "target", sample_text),
	       "of a temporary file that is a link, the link");
	tap_ok(exists(store, "12.new"), "a directory with such a name does not stop the rest");
	for (i = 0; i < ARRAY_SIZE(foreign); i++)
		tap_ok(named(&found, foreign[i]) == SIZE_MAX &&
			       holds(store, foreign[i], sample_text),
		       "'%s' is not a record's name, and is left alone", foreign[i]);
	i = named(&found, "5");
	tap_ok(i != SIZE_MAX && !found.lengths[i], "a link is told of and not followed");
	i = named(&found, "6");
	tap_ok(i != SIZE_MAX && !found.lengths[i], "so is one that leads nowhere");
	i = named(&found, "7");
	tap_ok(i != SIZE_MAX && !found.lengths[i], "a directory is told of as unreadable");
	i = named(&found, "8");
	tap_ok(i != SIZE_MAX && !found.lengths[i], "a FIFO is not waited for");
	i = named(&found, "9");
	tap_ok(i != SIZE_MAX && !found.lengths[i], "an empty file is told of");
	i = named(&found, "10");
	tap_ok(i != SIZE_MAX && found.lengths[i] > STORE_TEXT_MAX,
	       "a file that is too long is told of as too long");
	tap_ok(found.n == 7, "and nothing else");
}

static void test_aside(const struct store *store)
{
	static const char *const names[] = { "5", "6", "7", "8", "9", "10" };
	char longest[80];
	struct found found;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		tap_ok(!store_set_aside(store, names[i]) && !exists(store, names[i]),
		       "'%s' is set aside", names[i]);
	found = look(store);
	tap_ok(found.n == 1 && found.n_good == 1, "what was set aside is not found again");
	tap_ok(holds(store, "target", sample_text), "a link was set aside, not what it led to");
	tap_ok(store_set_aside(store, "999") == -ENOENT, "one that is not there cannot be");
	memset(longest, '1', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	tap_ok(store_set_aside(store, longest) == -ENAMETOOLONG, "a name is never cut");

	scratch_write("20", "the first\n");
	need(!store_set_aside(store, "20"));
	scratch_write("20", "the second\n");
	store_set_aside(store, "20");
	tap_ok(holds(store, "20.damaged", "the first\n") ||
		       holds(store, "20.damaged.1", "the first\n"),
	       "a second damaged record of a number does not lose the first");
}

/* The store lists exactly the records that were set aside, and settles them. */
static void test_damaged(const struct store *store)
{
	static const char *const aside[] = { "40.damaged", "41.damaged.1", "42.damaged.999" };
	static const char *const other[] = { "43",	    "44.settled",
					     "x45.damaged", ".damaged",
					     "46.new",	    "000000000000000000047.damaged" };
	struct found before = { 0 }, found = { 0 };
	char longest[80];

	need(!store_each(store, STORE_DAMAGED, on_found, &before));
	for (size_t i = 0; i < ARRAY_SIZE(aside); i++)
		scratch_write(aside[i], "what is left\n");
	for (size_t i = 0; i < ARRAY_SIZE(other); i++)
		scratch_write(other[i], "something else\n");
	need(!symlinkat("43", store->directory, "48.damaged"));
	need(!store_each(store, STORE_DAMAGED, on_found, &found));
	for (size_t i = 0; i < ARRAY_SIZE(aside); i++)
		tap_ok(named(&found, aside[i]) != SIZE_MAX &&
			       found.lengths[named(&found, aside[i])] == strlen("what is left\n"),
		       "'%s' is found among the damaged, with its text", aside[i]);
	for (size_t i = 0; i < ARRAY_SIZE(other); i++)
		tap_ok(named(&found, other[i]) == SIZE_MAX, "'%s' is not", other[i]);
	tap_ok(found.n == before.n + ARRAY_SIZE(aside) + 1 &&
		       !found.lengths[named(&found, "48.damaged")],
	       "a link is told of, and not followed");
	tap_ok(!exists(store, "46.new"), "left over temporary files go here too");

	tap_ok(!store_settle(store, "40.damaged") && holds(store, "40.settled", "what is left\n") &&
		       !exists(store, "40.damaged"),
	       "a damaged record is settled under its name");
	tap_ok(!store_settle(store, "41.damaged.1") &&
		       holds(store, "41.settled.1", "what is left\n"),
	       "a second one under its own");
	scratch_write("40.damaged", "of another lease\n");
	tap_ok(!store_settle(store, "40.damaged") && holds(store, "40.settled", "what is left\n") &&
		       holds(store, "40.settled.1", "of another lease\n"),
	       "and where the number was settled before, both are kept");
	tap_ok(store_settle(store, "43") == -EINVAL &&
		       store_settle(store, "44.settled") == -EINVAL &&
		       holds(store, "43", "something else\n"),
	       "what is not damaged cannot be settled");
	tap_ok(store_settle(store, "999.damaged") == -ENOENT, "nor what is not there");
	memset(longest, '1', sizeof(longest));
	strcpy(longest + 60, ".damaged");
	tap_ok(store_settle(store, longest) == -EINVAL, "and a name is never cut");
	found = (struct found){ 0 };
	need(!store_each(store, STORE_DAMAGED, on_found, &found));
	tap_ok(named(&found, "40.damaged") == SIZE_MAX && named(&found, "40.settled") == SIZE_MAX &&
		       named(&found, "42.damaged.999") != SIZE_MAX,
	       "what is settled is not found again");
	tap_ok(store_each(&no_store, STORE_DAMAGED, on_found, NULL) == -EBADF,
	       "no directory to look in: the error is passed up");
}

/* ---- records of an earlier build ---- */

/*
 * tests/unit/brokerd/records/ holds records as the broker wrote them before its sources were sorted into folders. An
 * update must take up the leases of the broker before it, so these bytes stay readable and are written again unchanged.
 */
static int read_again(const char *name, const char *text, size_t len, char *again, size_t size)
{
	struct lease lease = { 0 };
	struct vf_record vfs = { 0 };
	unsigned line = 0;

	if (!strncmp(name, "vfs-", 4))
		return vf_record_parse(text, len, &vfs) ? -1 : vf_record_format(&vfs, again, size);
	if (parse(text, len, &lease, &line)) {
		printf("# %s:%u\n", name, line);
		return -1;
	}
	return lease_record_format(&lease, again, size);
}

static void test_records_of_the_build_before(void)
{
	static const char *const names[] = { "3", "4", "5", "6", "vfs-0000:0c:00-0" };
	const char *top = getenv("top_srcdir");
	char path[512], text[STORE_TEXT_MAX], again[STORE_TEXT_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t len;
		FILE *file;
		int n;

		need(snprintf(path, sizeof(path), "%s/tests/unit/brokerd/records/%s",
			      top ? top : ".", names[i]) < (int)sizeof(path));
		file = fopen(path, "r");
		need(file);
		len = fread(text, 1, sizeof(text), file);
		need(len && !ferror(file) && !fclose(file));
		n = read_again(names[i], text, len, again, sizeof(again));
		tap_ok(n == (int)len && !memcmp(again, text, len),
		       "a record of the build before is read as it was written: %s", names[i]);
	}
}

/* ---- records of VFs ---- */

static const char vfs_text[] = "gpubroker vfs 1\n"
			       "function 0000:0c:00.0 1b36 0010\n"
			       "autoprobe 1\n"
			       "before 2\n"
			       "before-on-vfio 0\n"
			       "wanted 64\n"
			       "by 4294967295\n"
			       "driver mlx5_vfio_pci\n"
			       "end\n";

static unsigned n_found;

static void found_vfs(void *userdata, const char *name, const char *text, size_t len)
{
	char own[VF_RECORD_NAME];
	struct vf_record r;

	(void)userdata;
	if (vf_record_parse(text, len, &r))
		return;
	vf_record_name(&r.pf, own);
	n_found += !strcmp(own, name) ? 1 : 100;
}

static void found_lease(void *userdata, const char *name, const char *text, size_t len)
{
	(void)userdata;
	(void)name;
	(void)text;
	(void)len;
	n_found++;
}

static void test_vfs(void)
{
	struct vf_record r = { 0 };
	char again[512], name[VF_RECORD_NAME], path[160];
	const size_t len = sizeof(vfs_text) - 1;
	struct store store;
	unsigned taken = 0;
	int n;

	tap_ok(!vf_record_parse(vfs_text, len, &r) && r.pf.bus == 12 && r.vendor == 0x1b36 &&
		       r.device == 0x10 && r.autoprobe && r.before == 2 && !r.before_on_vfio &&
		       r.wanted == 64 && r.by == VF_BY_POLICY && !strcmp(r.driver, "mlx5_vfio_pci"),
	       "vfs: every field is read");
	n = vf_record_format(&r, again, sizeof(again));
	tap_ok(n == (int)len && !memcmp(again, vfs_text, len), "vfs: and written the same");
	r.driver[0] = '\0';
	n = vf_record_format(&r, again, sizeof(again));
	tap_ok(!vf_record_parse(again, (size_t)n, &r) && !r.driver[0],
	       "vfs: no driver is one that none is named");
	/* Half a record, or a record with one changed byte, is refused. */
	for (size_t i = 0; i < len; i++)
		taken += !vf_record_parse(vfs_text, i, &r);
	tap_ok(!taken, "vfs: half a record is none");
	for (size_t i = 0; i < len; i++) {
		char damaged[sizeof(vfs_text)];

		memcpy(damaged, vfs_text, len);
		damaged[i] = vfs_text[i] == ' ' ? '\n' : ' ';
		taken += !vf_record_parse(damaged, len, &r);
		damaged[i] = '\0';
		taken += !vf_record_parse(damaged, len, &r);
	}
	tap_ok(!taken, "vfs: one with a damaged byte is none");

	store.directory = open(scratch_make(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(store.directory >= 0);
	need(!vf_record_parse(vfs_text, len, &r));
	vf_record_name(&r.pf, name);
	tap_ok(!strcmp(name, "vfs-0000:0c:00-0"), "vfs: its file is called after its function");
	tap_ok(!store_put(&store, name, vfs_text, len), "vfs: it is written");
	snprintf(path, sizeof(path), "%s.new", name);
	scratch_write(path, "half");
	tap_ok(!store_each(&store, STORE_VFS, found_vfs, NULL) && n_found == 1,
	       "vfs: it is found, and what was not renamed is not");
	tap_ok(faccessat(store.directory, path, F_OK, 0) && errno == ENOENT,
	       "vfs: which is removed");
	n_found = 0;
	tap_ok(!store_each(&store, STORE_LEASES, found_lease, NULL) && !n_found,
	       "vfs: it is no lease's");
	tap_ok(!store_set_aside(&store, name) && !store_each(&store, STORE_VFS, found_vfs, NULL) &&
		       !n_found && !store_each(&store, STORE_DAMAGED, found_lease, NULL) &&
		       !n_found,
	       "vfs: set aside, it is neither read again nor taken for a lease's");
	close(store.directory);
}

/* ---- claims that wait ---- */

static unsigned n_waiting;

static void found_waiting(void *userdata, const char *name, const char *text, size_t len)
{
	struct waiting_record r;

	(void)userdata;
	n_waiting += !waiting_record_parse(name, text, len, &r) && r.id == 17 && r.uid == 1000 &&
		     r.since == 1764500000;
}

static void test_waiting(const struct store *store)
{
	static const char good[] = "gpubroker waiting 1\nid 17\nuid 1000\nsince 1764500000\nend\n";
	struct waiting_record r = { 17, 1764500000, 1000, "" };
	char text[WAITING_RECORD_TEXT], name[WAITING_RECORD_NAME];
	char at[WAITING_RECORD_TEXT];
	size_t len = waiting_record_format(&r, text), taken = 0, at_len;

	waiting_record_name(17, name);
	tap_ok(len == strlen(good) && !strcmp(text, good) && !strcmp(name, "waiting-17"),
	       "a waiting claim's record has this text and name");
	for (size_t i = 0; i < len; i++) {
		taken += !waiting_record_parse(name, text, i, &r);
		text[i] ^= 1;
		taken += !waiting_record_parse(name, text, len, &r) && r.uid == 1000 &&
			 r.since == 1764500000;
		text[i] ^= 1;
	}
	tap_ok(!taken, "... which is refused when it is cut, or has another letter");
	r = (struct waiting_record){ 17, 1764500000, 1000, "pod" };
	at_len = waiting_record_format(&r, at);
	r = (struct waiting_record){ 0 };
	tap_ok(!waiting_record_parse(name, at, at_len, &r) && !strcmp(r.through, "pod") &&
		       strstr(at, "\nat pod\nend\n"),
	       "... and says at which allotment's socket it waits");
	tap_ok(waiting_record_parse("waiting-18", text, len, &r) == -EBADMSG,
	       "... or has another's name");
	n_waiting = 0;
	need(!store_put(store, name, text, len) && !store_put(store, "waiting-", text, len) &&
	     !store_put(store, "waiting-0x11", text, len));
	tap_ok(!store_each(store, STORE_WAITING, found_waiting, NULL) && n_waiting == 1,
	       "... and is found among others by its kind");
	need(!store_drop(store, name) && !store_drop(store, "waiting-") &&
	     !store_drop(store, "waiting-0x11"));
}

int main(void)
{
	cleanup_fd int dir = open(scratch_make(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct store store = { dir };
	size_t before = open_descriptors();

	need(dir >= 0);
	umask(022);
	test_round_trip();
	test_format_room();
	test_format_hostile();
	test_changes();
	test_cuts();
	test_lines();
	test_replacements();
	test_too_much();
	test_mdev();
	test_vgpu();
	test_write(&store);
	test_write_fails(&store);
	test_each(&store);
	test_aside(&store);
	test_damaged(&store);
	test_waiting(&store);
	tap_ok(store_each(&no_store, STORE_LEASES, on_found, NULL) == -EBADF,
	       "no directory to look in: the error is passed up");
	tap_ok(open_descriptors() == before, "and no descriptor was left open");
	test_records_of_the_build_before();
	test_vfs();
	return tap_done();
}
