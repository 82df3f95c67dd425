/* SPDX-License-Identifier: MIT */
/*
 * The loader: reads the policy files, looks up users and groups with NSS, and sends the core the
 * policy with numeric ids. It does so only when the core asks: a policy that was read earlier could
 * be out of date. It runs as the helpers' account, so all users must be able to read the policy
 * files (they hold no secrets). It must never send a policy that has a mistake.
 */
#include "config.h"

#include "brokerd/helper/loader.h"
#include "brokerd/helper/helper.h"
#include "brokerd/process/filter.h"
#include "brokerd/process/log.h"
#include "client/host/policyfiles.h"
#include "client/host/udevrules-host.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

/* Lines in the journal about one policy; 'gpubroker policy check' shows all. */
#define FINDINGS_MAX 100

struct findings {
	unsigned told;
};

static void tell_finding(void *userdata, const struct policy_finding *f)
{
	struct findings *findings = userdata;
	const enum log_level level = f->severity == POLICY_MISTAKE ? LOG_ERROR : LOG_WARNING;

	if (findings->told == FINDINGS_MAX)
		log_warning(
			"there are more mistakes and warnings; 'gpubroker policy check' shows all");
	if (findings->told++ >= FINDINGS_MAX)
		return;
	if (f->line)
		log_line(level, "%s:%u:%u: %s", f->path, (unsigned)f->line, (unsigned)f->column,
			 f->text);
	else
		log_line(level, "%s: %s", f->path, f->text);
}

/* Loads the policy. Returns 0, the number of mistakes, or -errno. */
static int load_files(const struct loader_options *options, struct policy *ret_policy)
{
	struct findings findings = { 0 };
	const struct policyfiles request = {
		.directories = options->directories,
		.n_directories = options->n_directories,
		.found = tell_finding,
		.userdata = &findings,
	};

	return policyfiles_load(&request, ret_policy);
}

/* Compares what is installed, and what the initramfs had. */
static void compare_files(const struct policy *policy, const struct spared *spared)
{
	int r = udevrules_is_stale(policy, spared, UDEVRULES_FILE);

	if (r == -ENOMEM || r == -E2BIG) {
		log_warning("loader: cannot make the udev rules to compare: %s", strerror(-r));
		return;
	}
	if (r)
		log_warning(UDEVRULES_FILE " is stale; 'gpubroker policy install' renews it");
	if (access(UDEVRULES_INITRAMFS_FILE, F_OK) && errno == ENOENT)
		return;
	r = udevrules_is_stale(policy, spared, UDEVRULES_INITRAMFS_FILE);
	if (r)
		log_warning("the initramfs of this boot used a stale copy of the udev rules; "
			    "'update-initramfs -u' or 'dracut -f' renews it");
}

/* Warns if the udev rules that prepare devices at boot are not those that would be made now. */
static void compare_installed(const struct policy *policy)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct spared spared = { 0 };
	int r = sys < 0 ? -errno : spared_read(sys, &spared);

	if (r)
		log_warning("loader: cannot read what the udev rules are to spare: %s",
			    strerror(-r));
	else
		compare_files(policy, &spared);
	spared_done(&spared);
}

static int send_policy(int socket, const struct policy *policy)
{
	struct loader_record record = {
		.type = LOADER_BEGIN,
		.counts = { policy->n_names, policy->n_files, policy->n_rules, policy->n_texts },
	};
	int r = helper_send(socket, &record, sizeof(record));

	memset(&record, 0, sizeof(record));
	record.type = LOADER_NAME;
	for (size_t i = 0; !r && i < policy->n_names; i++) {
		record.name = policy->names[i];
		r = helper_send(socket, &record, sizeof(record));
	}
	memset(&record, 0, sizeof(record));
	record.type = LOADER_TEXT;
	for (size_t i = 0; !r && i < policy->n_texts; i++) {
		record.text = policy->texts[i];
		r = helper_send(socket, &record, sizeof(record));
	}
	record.type = LOADER_FILE;
	for (size_t i = 0; !r && i < policy->n_files; i++) {
		record.file = policy->files[i];
		r = helper_send(socket, &record, sizeof(record));
	}
	record.type = LOADER_RULE;
	for (size_t i = 0; !r && i < policy->n_rules; i++) {
		record.rule = policy->rules[i];
		r = helper_send(socket, &record, sizeof(record));
	}
	record.type = LOADER_END;
	return r ? r : helper_send(socket, &record, sizeof(record));
}

/* Loads the policy and sends it once. Returns 0, or an exit status. */
static int load_and_send(int socket, const struct loader_options *options)
{
	struct loader_record invalid = { .type = LOADER_INVALID };
	struct policy policy = { 0 };
	int r = load_files(options, &policy);

	if (r < 0) {
		log_error("loader: cannot load the policy: %s", strerror(-r));
		invalid.counts[0] = 1;
	} else if (r) {
		log_error("the policy has %d mistake%s and is not loaded", r, r == 1 ? "" : "s");
		invalid.counts[0] = (uint64_t)r;
	}
	if (r)
		return helper_send(socket, &invalid, sizeof(invalid)) ? EX_SOFTWARE : 0;
	compare_installed(&policy);
	r = send_policy(socket, &policy);
	policy_done(&policy);
	return r ? EX_SOFTWARE : 0;
}

int loader_run(int socket, struct confine_filter *settled, const void *options)
{
	struct pollfd p = { .fd = socket, .events = POLLIN };
	uint32_t asked;
	int r = 0;

	filter_free(settled); /* not used: each reload needs name services again */
	while (!r) {
		ssize_t n;

		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return EX_SOFTWARE;
		n = recv(socket, &asked, sizeof(asked), MSG_DONTWAIT);
		if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
			return 0; /* the core has ended */
		if (n == sizeof(asked) && asked == LOADER_LOAD)
			r = load_and_send(socket, options);
	}
	return r;
}

int loader_check(const struct loader_options *options)
{
	struct policy policy = { 0 };
	int r = load_files(options, &policy);

	if (r < 0)
		log_error("the policy cannot be loaded: %s", strerror(-r));
	if (!r) {
		log_info("the policy is good: %zu statements in %zu files", policy.n_rules,
			 policy.n_files);
		policy_done(&policy);
	}
	return r;
}
