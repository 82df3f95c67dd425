/* SPDX-License-Identifier: MIT */
/*
 * Input of senders that the core does not trust: the loader's records, and packets with
 * descriptors. After every packet the test counts the descriptors of this process.
 */
#include "config.h"

#include "brokerd/helper/helper.h"
#include "brokerd/helper/intake.h"
#include "brokerd/helper/start.h"
#include "client/wire/passfd.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* ---- the loader's records ---- */

static struct loader_record begin(uint64_t names, uint64_t n_files, uint64_t rules, uint64_t texts)
{
	return (struct loader_record){
		.type = LOADER_BEGIN,
		.counts = { names, n_files, rules, texts },
	};
}

static struct loader_record name(const char *text)
{
	struct loader_record record = { .type = LOADER_NAME };

	strcpy(record.name.text, text);
	return record;
}

static struct loader_record file(const char *path)
{
	struct loader_record record = { .type = LOADER_FILE };

	strcpy(record.file.path, path);
	return record;
}

static struct loader_record text(const char *value)
{
	struct loader_record record = { .type = LOADER_TEXT };

	strcpy(record.text.text, value);
	return record;
}

static struct loader_record rule(void)
{
	return (struct loader_record){
		.type = LOADER_RULE,
		.rule = {
			.verb = POLICY_ALLOW,
			.who = POLICY_WHO_USER,
			.id = 1000,
			.name = 0,
			.match = {
				.attributes = POLICY_DRIVER,
				.driver = 0,
				.serial = POLICY_NO_TEXT,
				.path = POLICY_NO_TEXT,
			.profile = POLICY_NO_TEXT,
			},
			.vfio_driver = POLICY_NO_TEXT,
			.line = 1,
			.column = 1,
		},
	};
}

static struct policy got;
static struct policy_owners got_owners;

static enum intake_result take(struct policy_intake *intake, struct loader_record record)
{
	return intake_take(intake, &record, &got, &got_owners);
}

static enum intake_result end(struct policy_intake *intake)
{
	return take(intake, (struct loader_record){ .type = LOADER_END });
}

/* Sends a whole policy with one of each record, without its end. */
static bool one_of_each(struct policy_intake *intake)
{
	return !take(intake, begin(1, 1, 1, 1)) && !take(intake, name("a100")) &&
	       !take(intake, text("bochs-drm")) && !take(intake, file("/a.policy")) &&
	       !take(intake, rule());
}

static struct loader_record range(uint32_t first, uint32_t count, uint32_t owner)
{
	return (struct loader_record){ .type = LOADER_RANGE, .range = { first, count, owner } };
}

static struct loader_record member(uint32_t uid, uint32_t gid)
{
	return (struct loader_record){ .type = LOADER_MEMBER, .member = { uid, gid } };
}

static struct loader_record owners(uint64_t ranges, uint64_t members)
{
	return (struct loader_record){ .type = LOADER_OWNERS, .counts = { ranges, members } };
}

static enum intake_result end_owners(struct policy_intake *intake)
{
	return take(intake, (struct loader_record){ .type = LOADER_OWNERS_END });
}

static void test_owners(void)
{
	struct policy_intake intake = { 0 };

	tap_ok(!take(&intake, owners(2, 1)) && !take(&intake, range(100000, 65536, 1000)) &&
		       !take(&intake, range(165536, 65536, 1001)) &&
		       !take(&intake, member(1000, 102)) && end_owners(&intake) == INTAKE_OWNERS,
	       "ranges and members are taken");
	tap_ok(got_owners.n_ranges == 2 && got_owners.n_members == 1 &&
		       got_owners.ranges[1].owner == 1001 && got_owners.members[0].gid == 102 &&
		       !intake.owners.ranges,
	       "and are what was told");
	policy_owners_done(&got_owners);
	tap_ok(!take(&intake, owners(0, 0)) && end_owners(&intake) == INTAKE_OWNERS,
	       "no ranges are some too");
	policy_owners_done(&got_owners);
	tap_ok(end_owners(&intake) == INTAKE_NONSENSE, "an end without a beginning is nonsense");
	tap_ok(take(&intake, owners(POLICY_RANGES_MAX + 1, 0)) == INTAKE_NONSENSE &&
		       take(&intake, owners(0, UINT64_MAX)) == INTAKE_NONSENSE,
	       "more than there may be are nonsense");
	take(&intake, owners(1, 0));
	tap_ok(end_owners(&intake) == INTAKE_NONSENSE && !take(&intake, range(100000, 1, 1000)) &&
		       take(&intake, range(100001, 1, 1000)) == INTAKE_NONSENSE &&
		       take(&intake, member(1000, 102)) == INTAKE_NONSENSE,
	       "and fewer or more than were told");
	take(&intake, owners(1, 0));
	take(&intake, range(100000, 65536, 0));
	tap_ok(end_owners(&intake) == INTAKE_NONSENSE, "a range of root's is nonsense");
	take(&intake, owners(1, 0));
	take(&intake, range(0, 65536, 1000));
	tap_ok(end_owners(&intake) == INTAKE_NONSENSE, "and one with root in it");
	take(&intake, owners(2, 0));
	take(&intake, range(100000, 65536, 1000));
	take(&intake, range(165535, 65536, 1001));
	tap_ok(end_owners(&intake) == INTAKE_NONSENSE, "and ranges that overlap");
	intake_done(&intake);
}

static void test_intake(void)
{
	struct policy_intake intake = { 0 };

	tap_ok(one_of_each(&intake) && end(&intake) == INTAKE_POLICY, "a policy is taken");
	tap_ok(got.n_names == 1 && got.n_files == 1 && got.n_rules == 1 && got.n_texts == 1 &&
		       !strcmp(got.names[0].text, "a100") &&
		       !strcmp(got.files[0].path, "/a.policy") &&
		       !strcmp(got.texts[0].text, "bochs-drm") && got.rules[0].id == 1000,
	       "and is what was told");
	tap_ok(!intake.policy.rules && !intake.rules && end(&intake) == INTAKE_NONSENSE,
	       "a second end makes no sense");
	policy_done(&got);
	tap_ok(!take(&intake, begin(0, 0, 0, 0)) && end(&intake) == INTAKE_POLICY && !got.n_rules,
	       "an empty policy is one");
	policy_done(&got);
	tap_ok(!take(&intake, begin(1, 1, 1, 1)) && !take(&intake, text("x")) &&
		       !take(&intake, rule()) && !take(&intake, file("/a")) &&
		       !take(&intake, name("a")) && end(&intake) == INTAKE_POLICY,
	       "rules may come before the names and files that they mean");
	policy_done(&got);

	take(&intake, begin(1, 1, 1, 1));
	take(&intake, name("old"));
	tap_ok(one_of_each(&intake) && end(&intake) == INTAKE_POLICY && got.n_names == 1 &&
		       !strcmp(got.names[0].text, "a100"),
	       "a second beginning forgets what came before it");
	policy_done(&got);

	one_of_each(&intake);
	tap_ok(take(&intake, (struct loader_record){ .type = LOADER_INVALID, .counts = { 3 } }) ==
			       2 &&
		       !intake.policy.rules && end(&intake) == INTAKE_NONSENSE,
	       "a policy with mistakes is none, and what was told of it is gone");
	intake_done(&intake);
	intake_done(&intake);
}

static void test_intake_order(void)
{
	static const char *const what[] = { "name", "text", "file", "rule" };
	struct policy_intake intake = { 0 };
	bool refused = true;

	for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
		const struct loader_record records[] = { name("a"), text("a"), file("/a"), rule() };

		tap_ok(take(&intake, records[i]) == INTAKE_NONSENSE,
		       "a %s without a beginning is refused", what[i]);
	}
	tap_ok(end(&intake) == INTAKE_NONSENSE, "so is an end");

	for (size_t left_out = 0; left_out < ARRAY_SIZE(what); left_out++) {
		struct loader_record records[] = { name("a"), text("a"), file("/a"), rule() };

		records[3].rule.match.attributes = 0; /* the rule no longer needs the text */
		records[3].rule.match.driver = POLICY_NO_TEXT;
		take(&intake, begin(1, 1, 1, 1));
		for (size_t i = 0; i < ARRAY_SIZE(what); i++)
			need(i == left_out || !take(&intake, records[i]));
		tap_ok(end(&intake) == INTAKE_NONSENSE, "an end before the announced %s is refused",
		       what[left_out]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
		const struct loader_record records[] = { name("a"), text("a"), file("/a"), rule() };

		tap_ok(one_of_each(&intake) && take(&intake, records[i]) == INTAKE_NONSENSE,
		       "a %s too many is refused", what[i]);
	}
	for (uint32_t type = 0; type < 1000; type++)
		refused = refused && ((type >= LOADER_BEGIN && type <= LOADER_OWNERS_END) ||
				      take(&intake, (struct loader_record){ .type = type }) ==
					      INTAKE_NONSENSE);
	tap_ok(refused && take(&intake, (struct loader_record){ .type = UINT32_MAX }) ==
				  INTAKE_NONSENSE,
	       "types that are none are refused");
	intake_done(&intake);
}

static void test_intake_counts(void)
{
	static const uint64_t many[] = {
		1 << 20, UINT32_MAX, 1ULL << 32, 1ULL << 63, UINT64_MAX - 1, UINT64_MAX,
	};
	struct policy_intake intake = { 0 };
	bool refused = true;

	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		refused = refused && take(&intake, begin(many[i], 1, 1, 1)) == INTAKE_NONSENSE &&
			  take(&intake, begin(1, many[i], 1, 1)) == INTAKE_NONSENSE &&
			  take(&intake, begin(1, 1, many[i], 1)) == INTAKE_NONSENSE &&
			  take(&intake, begin(1, 1, 1, many[i])) == INTAKE_NONSENSE &&
			  end(&intake) == INTAKE_NONSENSE &&
			  take(&intake, name("a")) == INTAKE_NONSENSE &&
			  take(&intake, text("a")) == INTAKE_NONSENSE &&
			  take(&intake, rule()) == INTAKE_NONSENSE;
	tap_ok(refused,
	       "counts past the language's limits are refused, and nothing goes on from there");
	one_of_each(&intake);
	tap_ok(take(&intake, begin(UINT64_MAX, 1, 1, 1)) == INTAKE_NONSENSE &&
		       end(&intake) == INTAKE_NONSENSE,
	       "also where a policy was under way");
	intake_done(&intake);
}

static void test_intake_strings(void)
{
	static const char *const bad[] = { "", "a b", " a", "a\n", "\033", "caf\303\251", "\177" };
	struct policy_intake intake = { 0 };
	struct loader_record record;

	take(&intake, begin(1, 1, 1, 1));
	record = name("");
	memset(record.name.text, 'A', sizeof(record.name.text));
	tap_ok(take(&intake, record) == INTAKE_NONSENSE, "a name without end is refused");
	record = file("");
	memset(record.file.path, 'A', sizeof(record.file.path));
	tap_ok(take(&intake, record) == INTAKE_NONSENSE, "a path without end is refused");
	record = text("");
	memset(record.text.text, 'A', sizeof(record.text.text));
	tap_ok(take(&intake, record) == INTAKE_NONSENSE, "a text without end is refused");
	record = text("a");
	record.text.text[sizeof(record.text.text) - 1] = 'A';
	tap_ok(take(&intake, record) == INTAKE_NONSENSE,
	       "a text with something behind its end is refused");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		tap_ok(take(&intake, text(bad[i])) == INTAKE_NONSENSE && !intake.policy.n_texts,
		       "a text that no policy can have is refused (%zu)", i);
	intake_done(&intake);
}

#define SET(field, value)                                                                          \
	offsetof(struct policy_rule, field), sizeof(((struct policy_rule *)NULL)->field), value

static void set(struct policy_rule *rule, size_t offset, size_t size, uint64_t value)
{
	uint8_t *at = (uint8_t *)rule + offset;

	if (size == 1)
		memcpy(at, &(uint8_t){ (uint8_t)value }, size);
	else if (size == 4)
		memcpy(at, &(uint32_t){ (uint32_t)value }, size);
	else
		memcpy(at, &value, size);
}

static void test_intake_rules(void)
{
	static const struct {
		const char *what;
		size_t offset, size;
		uint64_t value;
		uint32_t verb; /* 0: allow */
	} cases[] = {
		{ "verb 0", SET(verb, 0), 0 },
		{ "a verb that is none", SET(verb, POLICY_PREPARE + 1), 0 },
		{ "a who that is none", SET(who, POLICY_WHO_ANY + 1), 0 },
		{ "a user in a device line", SET(verb, POLICY_DEVICE), 0 },
		{ "a user in a prepare line", SET(verb, POLICY_PREPARE), 0 },
		{ "the uid -1", SET(id, UINT32_MAX), 0 },
		{ "an id beside 'any'", SET(who, POLICY_WHO_ANY), 0 },
		{ "a name past the announced ones", SET(name, 1), 0 },
		{ "a name far past them", SET(name, UINT32_MAX - 1), 0 },
		{ "a file past the announced ones", SET(file, 1), 0 },
		{ "a file far past them", SET(file, UINT32_MAX), 0 },
		{ "line 0", SET(line, 0), 0 },
		{ "column 0", SET(column, 0), 0 },
		{ "a boot-vga that is neither 0 nor 1", SET(boot_vga, 2), 0 },
		{ "an in-use that is neither 0 nor 1", SET(in_use, 2), 0 },
		{ "a require-reset that is neither 0 nor 1", SET(require_reset, 2), 0 },
		{ "virtual functions in an allow", SET(vfs, 1), 0 },
		{ "virtual functions in a deny", SET(vfs, 1), POLICY_DENY },
		{ "more memory than there can be", SET(memlock, 1ULL << 63), 0 },
		{ "more leases than there can be", SET(limit, POLICY_LIMIT_MAX + 1), 0 },
		{ "an attribute that is none", SET(match.attributes, POLICY_PROFILE << 1), 0 },
		{ "all attributes that there can be", SET(match.attributes, UINT32_MAX), 0 },
		{ "device 32", SET(match.address.device, 32), 0 },
		{ "function 8", SET(match.address.function, 8), 0 },
		{ "a reserved byte in its address", SET(match.address.reserved, 1), 0 },
		{ "a class mask of 25 bits", SET(match.class_mask, 0x1000000), 0 },
		{ "a class outside its mask", SET(match.class_code, 0x030000), 0 },
		{ "the group that means none", SET(match.iommu_group, UINT32_MAX), 0 },
		{ "a driver past the texts told", SET(match.driver, 1), 0 },
		{ "a driver far past them", SET(match.driver, UINT32_MAX - 1), 0 },
		{ "a driver that is missing", SET(match.driver, POLICY_NO_TEXT), 0 },
		{ "a serial number without the attribute", SET(match.serial, 0), 0 },
		{ "a path without the attribute", SET(match.path, 0), 0 },
		{ "a host driver as its vfio-driver", SET(vfio_driver, 0), 0 },
		{ "a vfio-driver past the texts told", SET(vfio_driver, 1), 0 },
		{ "memory in a deny", SET(memlock, 1), POLICY_DENY },
		{ "boot-vga in a deny", SET(boot_vga, 1), POLICY_DENY },
		{ "in-use in a deny", SET(in_use, 1), POLICY_DENY },
		{ "require-reset in a deny", SET(require_reset, 1), POLICY_DENY },
		{ "a limit in a deny", SET(limit, 1), POLICY_DENY },
		{ "a time in a deny", SET(lifetime, 1), POLICY_DENY },
	};
	struct policy_intake intake = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct loader_record record = rule();

		take(&intake, begin(1, 1, 1, 1));
		take(&intake, text("bochs-drm"));
		if (cases[i].verb)
			record.rule.verb = cases[i].verb;
		set(&record.rule, cases[i].offset, cases[i].size, cases[i].value);
		tap_ok(take(&intake, record) == INTAKE_NONSENSE && !intake.policy.n_rules,
		       "a rule with %s is refused", cases[i].what);
	}
	take(&intake, begin(1, 1, 1, 1));
	tap_ok(take(&intake, rule()) == INTAKE_NONSENSE,
	       "a rule whose text has not been told is refused");
	intake_done(&intake);
}

/* ---- packets with descriptors ---- */

static int pair[2];
static int spare; /* the descriptor that tests pass, as often as they want */

static void open_pair(void)
{
	need(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
}

static void close_pair(void)
{
	pair[0] = fd_close(pair[0]);
	pair[1] = fd_close(pair[1]);
}

/* Sends up to 253 descriptors, the kernel's limit; passfd_send() would refuse so many. */
static bool send_raw(const void *packet, size_t size, size_t n_fds)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * 253)];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)packet, .iov_len = size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		for (size_t i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &spare, sizeof(int));
	}
	return sendmsg(pair[0], &message, MSG_NOSIGNAL) == (ssize_t)size;
}

static void test_pass(void)
{
	char in[8] = "", out[8] = "packet";
	int fds[PASSFD_MAX], sent[PASSFD_MAX];
	size_t n_fds = 99, before;
	ssize_t n;

	open_pair();
	before = open_descriptors();
	tap_ok(passfd_receive(pair[1], in, sizeof(in), fds, 1, &n_fds) == -EAGAIN && n_fds == 99,
	       "with no packet there is nothing to wait for, and no count");
	tap_ok(!passfd_send(pair[0], out, sizeof(out), NULL, 0) &&
		       passfd_receive(pair[1], in, sizeof(in), NULL, 0, &n_fds) == sizeof(in) &&
		       !n_fds && !memcmp(in, out, sizeof(in)),
	       "a packet without descriptors arrives");
	for (size_t k = 1; k <= PASSFD_MAX; k++) {
		bool cloexec = true;

		for (size_t i = 0; i < k; i++)
			sent[i] = spare;
		need(!passfd_send(pair[0], out, k % sizeof(out) + 1, sent, k));
		n = passfd_receive(pair[1], in, sizeof(in), fds, PASSFD_MAX, &n_fds);
		for (size_t i = 0; i < n_fds && n_fds == k; i++) {
			cloexec = cloexec && fcntl(fds[i], F_GETFD) == FD_CLOEXEC;
			fd_close(fds[i]);
		}
		if (n != (ssize_t)(k % sizeof(out) + 1) || n_fds != k || !cloexec ||
		    open_descriptors() != before)
			tap_ok(false, "%zu descriptors arrive, close-on-exec", k);
	}
	tap_ok(open_descriptors() == before, "1 to %d descriptors arrive, close-on-exec",
	       PASSFD_MAX);
	tap_ok(passfd_send(pair[0], out, sizeof(out), sent, PASSFD_MAX + 1) == -E2BIG &&
		       passfd_send(pair[0], out, sizeof(out), sent, SIZE_MAX) == -E2BIG &&
		       passfd_receive(pair[1], in, sizeof(in), fds, 1, &n_fds) == -EAGAIN,
	       "more are not sent");
	sent[0] = -1;
	tap_ok(passfd_send(pair[0], out, sizeof(out), sent, 1) == -EBADF, "nor one that is none");
	close_pair();
}

static void test_surplus(void)
{
	static const size_t counts[] = { 0,  1,	 2,  3,	 4,  8,	 15, 16, 17,  18,  19,
					 20, 21, 24, 31, 32, 33, 63, 64, 100, 252, 253 };
	char in[8], out[8] = "packet";
	int fds[PASSFD_MAX];
	bool all = true;

	open_pair();
	for (size_t max = 0; max <= PASSFD_MAX; max += max ? 15 : 1) {
		for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
			size_t before = open_descriptors(), n_fds = 0, left;
			ssize_t n;

			need(send_raw(out, sizeof(out), counts[i]));
			n = passfd_receive(pair[1], in, sizeof(in), fds, max, &n_fds);
			left = open_descriptors() - before - (n > 0 ? n_fds : 0);
			if (counts[i] <= max ? n == sizeof(in) && n_fds == counts[i] && !left
					     : n == -EBADMSG && !left) {
				while (n > 0 && n_fds)
					fd_close(fds[--n_fds]);
				continue;
			}
			all = false;
			tap_ok(false,
			       "%zu descriptors where %zu may come: refused, and all closed (%zu are left, result %zd)",
			       counts[i], max, left, n);
			close_pair();
			open_pair();
		}
	}
	tap_ok(all,
	       "up to 253 descriptors where none, one or %d may come: all or a refusal, and none is left",
	       PASSFD_MAX);
	close_pair();
}

static void test_cut(void)
{
	static const char out[4096];
	char in[8];
	int fds[PASSFD_MAX];
	size_t n_fds = 99, before;

	open_pair();
	before = open_descriptors();
	need(send_raw(out, sizeof(in) + 1, 0));
	tap_ok(passfd_receive(pair[1], in, sizeof(in), fds, 1, &n_fds) == -EBADMSG,
	       "a packet one byte too large is refused");
	need(send_raw(out, sizeof(out), 3));
	tap_ok(passfd_receive(pair[1], in, sizeof(in), fds, PASSFD_MAX, &n_fds) == -EBADMSG &&
		       open_descriptors() == before,
	       "one too large with descriptors is refused, and they are closed");
	need(send_raw(out, 0, 2));
	tap_ok(passfd_receive(pair[1], in, sizeof(in), fds, PASSFD_MAX, &n_fds) == -EBADMSG &&
		       open_descriptors() == before,
	       "an empty packet with descriptors is refused, and they are closed");
	need(send_raw(out, 0, 20));
	tap_ok(passfd_receive(pair[1], in, sizeof(in), fds, 0, &n_fds) == -EBADMSG &&
		       open_descriptors() == before,
	       "so is an empty one with many");
	tap_ok(n_fds == 99, "and no count is given");
	need(send_raw(out, sizeof(in), 0));
	tap_ok(passfd_receive(pair[1], in, sizeof(in), fds, 0, &n_fds) == sizeof(in) && !n_fds,
	       "the packet after such a one arrives");
	fd_close(pair[0]);
	tap_ok(passfd_receive(pair[1], in, sizeof(in), fds, 1, &n_fds) == 0, "the end is 0");
	close(pair[1]);

	open_pair();
	need(send_raw(out, sizeof(in), 16));
	before = open_descriptors();
	close(pair[0]);
	tap_ok(passfd_receive(pair[1], in, sizeof(in), fds, 1, &n_fds) == -EBADMSG &&
		       open_descriptors() == before - 1,
	       "a surplus from one who is gone is closed too");
	close(pair[1]);
}

/*
 * If the process is out of descriptors, the kernel truncates the list; the receiver must close
 * those that it got.
 */
static void test_no_room(void)
{
	char in[8], out[8] = "packet";
	struct rlimit limit, low;
	int fds[PASSFD_MAX], lowest;
	size_t n_fds = 0, before;
	ssize_t r;

	open_pair();
	before = open_descriptors();
	need(send_raw(out, sizeof(out), PASSFD_MAX));
	lowest = dup(spare);
	need(lowest >= 0 && !close(lowest) && !getrlimit(RLIMIT_NOFILE, &limit));
	low = limit;
	low.rlim_cur = (rlim_t)lowest + 3; /* room for at most three */
	need(!setrlimit(RLIMIT_NOFILE, &low));
	r = passfd_receive(pair[1], in, sizeof(in), fds, PASSFD_MAX, &n_fds);
	need(!setrlimit(RLIMIT_NOFILE, &limit));
	tap_ok(r == -EBADMSG && open_descriptors() == before,
	       "where there is no room for all, none is taken, and none is left");
	close_pair();
}

static void test_full(void)
{
	char in[1024], out[1024] = { 0 };
	size_t sent = 0, received = 0, n_fds;
	int r;

	open_pair();
	while (!(r = passfd_send(pair[0], out, sizeof(out), &spare, 1)) && sent < 100000)
		sent++;
	tap_ok((r == -EAGAIN || r == -ETOOMANYREFS) && sent,
	       "one who does not read is not waited for (%zu packets)", sent);
	while (passfd_receive(pair[1], in, sizeof(in), NULL, 0, &n_fds) == -EBADMSG)
		received++;
	tap_ok(received == sent, "and what was sent is there, whole");
	tap_ok(!passfd_send(pair[0], out, sizeof(out), NULL, 0), "after which there is room");
	need(passfd_receive(pair[1], in, sizeof(in), NULL, 0, &n_fds) == sizeof(in));
	fd_close(pair[1]);
	tap_ok(passfd_send(pair[0], out, sizeof(out), &spare, 1) == -EPIPE,
	       "one who is gone is an error, no signal");
	fd_close(pair[0]);
}

static void test_helper_send(void)
{
	struct loader_record record = begin(1, 2, 3, 4), back;
	size_t n_fds, n = 0;
	pid_t pid;

	open_pair();
	pid = fork();
	need(pid >= 0);
	if (!pid) {
		close(pair[0]);
		for (int i = 0; i < 1000; i++) {
			record.counts[0] = (uint64_t)i;
			if (helper_send(pair[1], &record, sizeof(record)))
				_exit(1);
		}
		_exit(0);
	}
	close(pair[1]);
	for (;;) {
		ssize_t r = passfd_receive(pair[0], &back, sizeof(back), NULL, 0, &n_fds);

		if (r == -EAGAIN) {
			usleep(100);
			continue;
		}
		if (r != sizeof(back) || back.counts[0] != n)
			break;
		n++;
	}
	tap_ok(n == 1000, "a helper waits for a core that is slow, and loses nothing (%zu)", n);
	close(pair[0]);

	open_pair();
	close(pair[0]);
	tap_ok(helper_send(pair[1], &record, sizeof(record)) == -EPIPE,
	       "and learns that the core is gone");
	close(pair[1]);
}

static void test_account(void)
{
	uid_t uid = 12345;
	gid_t gid = 12345;

	tap_ok(!helper_account("root", &uid, &gid) && !uid && !gid, "an account is found");
	uid = gid = 12345;
	tap_ok(helper_account("no such account", &uid, &gid) == -ENOENT && uid == 12345 &&
		       gid == 12345,
	       "and one that is not there is not");
	tap_ok(helper_account("", &uid, &gid) == -ENOENT, "nor is none");
}

int main(void)
{
	size_t before;

	alarm(300);
	spare = open("/dev/null", O_RDWR | O_CLOEXEC);
	need(spare >= 0);
	before = open_descriptors();
	test_intake();
	test_owners();
	test_intake_order();
	test_intake_counts();
	test_intake_strings();
	test_intake_rules();
	test_pass();
	test_surplus();
	test_cut();
	test_no_room();
	test_full();
	test_helper_send();
	test_account();
	tap_ok(open_descriptors() == before, "no descriptor was left open");
	return tap_done();
}
