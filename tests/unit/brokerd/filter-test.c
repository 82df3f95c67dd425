/* SPDX-License-Identifier: MIT */
/*
 * The filters' answers on the architecture that this was compiled for. libseccomp compiles each
 * filter, and this test interprets its program, so that nothing is killed and no kernel is needed. It
 * also runs cross-compiled, by a user-mode emulator (tests/vm/aarch64), which cannot load a filter.
 *
 * The compiler includes brokerd/process/filter.c before this file, for its tables: see tests.am.
 */
#include "config.h"

#include "tests/tap.h"

#include <linux/audit.h>
#include <string.h>

#define CALLS 1024 /* no architecture's numbers go so far; those of x32 and ARM's own are refused */

/* The filter under test. */
static struct confine_filter *filter;
static bool understood = true;

static uint32_t load(const struct seccomp_data *data, uint32_t at)
{
	uint32_t word = 0;

	if (at > sizeof(*data) - sizeof(word))
		understood = false;
	else
		memcpy(&word, (const char *)data + at, sizeof(word));
	return word;
}

static bool condition(uint16_t code, uint32_t a, uint32_t k)
{
	switch (BPF_OP(code)) {
	case BPF_JEQ:
		return a == k;
	case BPF_JGT:
		return a > k;
	case BPF_JGE:
		return a >= k;
	case BPF_JSET:
		return a & k;
	default:
		understood = false;
		return false;
	}
}

/* The answer to a call: an action, SECCOMP_RET_.... */
static uint32_t answer(const struct seccomp_data *data)
{
	const struct sock_filter *instructions = filter->program.filter;
	uint32_t a = 0;

	for (size_t at = 0; at < filter->program.len; at++) {
		const struct sock_filter *i = &instructions[at];

		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
			understood = understood && i->code == (BPF_LD | BPF_W | BPF_ABS);
			a = load(data, i->k);
			break;
		case BPF_ALU:
			understood = understood && i->code == (BPF_ALU | BPF_AND | BPF_K);
			a &= i->k;
			break;
		case BPF_JMP:
			if (BPF_OP(i->code) == BPF_JA)
				at += i->k;
			else
				at += condition(i->code, a, i->k) ? i->jt : i->jf;
			break;
		case BPF_RET:
			return i->k;
		default:
			understood = false;
			return SECCOMP_RET_KILL_PROCESS;
		}
	}
	understood = false;
	return SECCOMP_RET_KILL_PROCESS;
}

static uint32_t ask(long call, uint64_t first, uint64_t second, uint64_t third)
{
	const struct seccomp_data data = {
		.nr = (int)call,
		.arch = seccomp_arch_native(),
		.args = { first, second, third },
	};

	return answer(&data);
}

static bool allows(long call, uint64_t first, uint64_t second, uint64_t third)
{
	return ask(call, first, second, third) == SECCOMP_RET_ALLOW;
}

static bool kills(long call, uint64_t first, uint64_t second, uint64_t third)
{
	return ask(call, first, second, third) == SECCOMP_RET_KILL_PROCESS;
}

/* Calls that some architectures lack, and what the C library makes there in their place. */
static const struct replacement {
	const char *call, *instead;
} replacements[] = {
	{ "poll", "ppoll" },
	{ "epoll_wait", "epoll_pwait" },
	{ "readlink", "readlinkat" },
	{ "access", "faccessat" },
	{ "time", "clock_gettime" },
	{ "gettimeofday", "clock_gettime" },
	{ "epoll_pwait2", "epoll_pwait" },
};

static bool table_has(const struct syscall_rule *rows, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		char *is = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, rows[i].call);
		const bool same = is && !strcmp(is, name);

		free(is);
		if (same)
			return rows[i].call >= 0;
	}
	return false;
}

/* Each row is a call of this architecture, or the table has what is made in its place. */
static bool table_is_whole(const struct syscall_rule *rows, size_t n)
{
	bool whole = true;

	for (size_t i = 0; i < n; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, rows[i].call);
		bool found = rows[i].call >= 0;

		for (size_t j = 0; name && !found && j < ARRAY_SIZE(replacements); j++)
			found = !strcmp(name, replacements[j].call) &&
				table_has(rows, n, replacements[j].instead);
		if (!found)
			printf("# %s: this architecture lacks it\n", name ? name : "?");
		whole = whole && found;
		free(name);
	}
	return whole;
}

/* Each table kills the calls that open files and run programs, whatever their numbers are. */
static bool kills_the_worst(void)
{
	static const char *const calls[] = {
		"execve",
		"execveat",
		"open",
		"creat",
		"ptrace",
		"fork",
		"vfork",
		"clone3",
		"mount",
		"bpf",
		"keyctl",
		"chmod",
		"open_by_handle_at",
		"init_module",
		"process_vm_readv",
		"setresuid",
		"io_uring_setup",
		"kexec_load",
		"userfaultfd",
		"unshare",
	};
	bool all = true;

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		const int call = seccomp_syscall_resolve_name(calls[i]);

		if (call >= 0 && !kills(call, 0, 0, 0)) {
			printf("# %s is not killed\n", calls[i]);
			all = false;
		}
	}
	return all;
}

/* Calls that no row names are killed, also the number of a call that only another architecture has. */
static bool kills_the_rest(const struct syscall_rule *rows, size_t n)
{
	for (int call = 0; call < CALLS; call++)
		if (!has_call(rows, n, call) && !kills(call, 0, 0, 0)) {
			printf("# call %d is not killed\n", call);
			return false;
		}
	return true;
}

static bool kills_other_architectures(const struct syscall_rule *rows, size_t n)
{
	static const uint32_t others[] = { AUDIT_ARCH_X86_64, AUDIT_ARCH_I386,	AUDIT_ARCH_AARCH64,
					   AUDIT_ARCH_ARM,    AUDIT_ARCH_S390X, 0 };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		for (size_t j = 0; others[i] != seccomp_arch_native() && j < n; j++) {
			const struct seccomp_data data = { .nr = rows[j].call, .arch = others[i] };

			if (answer(&data) != SECCOMP_RET_KILL_PROCESS)
				return false;
		}
	return true;
}

static bool make_filter(const char *part, const struct syscall_rule *rows, size_t n)
{
	filter = filter_free(filter);
	if (!tap_ok(!compile(rows, n, &filter), "%s: the filter is made", part))
		return false;
	tap_ok(table_is_whole(rows, n), "%s: each row means a call of this architecture", part);
	tap_ok(kills_the_worst(), "%s: kills calls that open files and run programs", part);
	tap_ok(kills_the_rest(rows, n), "%s: kills each call that has no row", part);
	tap_ok(kills_other_architectures(rows, n), "%s: kills calls of other architectures", part);
	return true;
}

static void test_core(void)
{
	if (!make_filter("core", core_rows, ARRAY_SIZE(core_rows)))
		return;
	tap_ok(allows(__NR_clone, CLONE_PIDFD | SIGCHLD, 0, 0) &&
		       allows(__NR_clone, CLONE_FILES | CLONE_PIDFD | SIGCHLD, 0, 0),
	       "core: may fork a worker, by the flags in clone's first argument");
	tap_ok(kills(__NR_clone, 0, CLONE_PIDFD | SIGCHLD, 0) &&
		       kills(__NR_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, 0, 0),
	       "core: may not make a thread, nor fork by another argument's flags");
	tap_ok(allows(__SNR_EPOLL_WAIT, 0, 0, 0), "core: may wait for events");
	tap_ok(allows(__NR_openat2, 0, 0, 0) && kills(__NR_openat, 0, 0, O_RDONLY),
	       "core: may open below a descriptor, and by no other call");
	tap_ok(allows(__NR_unlinkat, 0, 0, 0) && kills(__NR_unlinkat, 0, 0, AT_REMOVEDIR),
	       "core: may remove files, but no directories");
	tap_ok((ask(__NR_mmap, 0, 4096, PROT_READ) & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO,
	       "core: gets no memory by mmap");
}

static bool test_directories(const char *part, const struct syscall_rule *rows, size_t n)
{
	if (!make_filter(part, rows, n))
		return false;
	tap_ok(allows(__NR_openat, 0, 0, OPENED_FLAGS), "%s: may read a directory", part);
	tap_ok(kills(__NR_openat, 0, 0, O_RDONLY | O_CLOEXEC) &&
		       kills(__NR_openat, 0, 0, O_RDWR | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK) &&
		       kills(__NR_openat, 0, 0, O_PATH | O_CLOEXEC) && kills(__NR_read, 0, 0, 0),
	       "%s: may open no file, and read none", part);
	return true;
}

static void test_ender(void)
{
	if (!test_directories("ender", ender_rows, ARRAY_SIZE(ender_rows)))
		return;
	tap_ok(allows(__NR_pidfd_send_signal, 0, SIGTERM, 0) &&
		       allows(__NR_pidfd_send_signal, 0, SIGKILL, 0) &&
		       kills(__NR_pidfd_send_signal, 0, SIGSTOP, 0) &&
		       kills(__NR_pidfd_send_signal, 0, 0, 0),
	       "ender: may send two signals");
}

static void test_helpers(void)
{
	if (make_filter("watcher", watcher_rows, ARRAY_SIZE(watcher_rows)))
		tap_ok(kills(__NR_socket, AF_UNIX, SOCK_STREAM, 0) && allows(__SNR_POLL, 0, 0, 0),
		       "watcher: makes no socket, and may wait");
	if (make_filter("loader", loader_rows, ARRAY_SIZE(loader_rows)))
		tap_ok(allows(__NR_socket, AF_UNIX, SOCK_STREAM, 0) &&
			       !allows(__NR_socket, AF_INET, SOCK_STREAM, 0) &&
			       allows(__NR_openat, 0, 0, O_RDONLY | O_CLOEXEC),
		       "loader: reads files and asks by Unix sockets");
}

static void test_worker(void)
{
	unsigned allowed = 0;

	if (!make_filter("worker", worker_rows, ARRAY_SIZE(worker_rows)))
		return;
	for (int call = 0; call < CALLS; call++)
		allowed += allows(call, 0, 0, 0);
	tap_ok(allowed == 3 && allows(__NR_read, 0, 0, 0) && allows(__NR_write, 0, 0, 0) &&
		       allows(__NR_exit_group, 0, 0, 0),
	       "worker: read, write, exit, and nothing else");
}

int main(void)
{
	/* Else libseccomp asks the kernel for this action, and a user-mode emulator has no answer. */
	seccomp_api_set(3);
	test_core();
	test_directories("finder", finder_rows, ARRAY_SIZE(finder_rows));
	test_ender();
	test_helpers();
	test_worker();
	tap_ok(table_is_whole(watcher_start_rows, ARRAY_SIZE(watcher_start_rows)) &&
		       table_is_whole(finder_start_rows, ARRAY_SIZE(finder_start_rows)) &&
		       table_is_whole(ender_start_rows, ARRAY_SIZE(ender_start_rows)) &&
		       table_is_whole(core_cdev_rows, ARRAY_SIZE(core_cdev_rows)),
	       "what only a start needs are calls of this architecture");
	tap_ok(understood, "each instruction of the filters was understood");
	filter = filter_free(filter);
	return tap_done();
}
