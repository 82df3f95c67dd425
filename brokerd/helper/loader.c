/* SPDX-License-Identifier: MIT */
/*
 * The loader: reads the policy files, looks up users and groups with NSS, and sends the core the
 * policy with numeric ids. It does so only when the core asks: a policy that was read earlier could
 * be out of date. It also sends whose the subordinate uids are, and again when the files change. It
 * runs as the helpers' account, so all users must be able to read the policy files (they hold no
 * secrets). It must never send a policy that has a mistake.
 */
#include "config.h"

#include "brokerd/helper/loader.h"
#include "brokerd/helper/helper.h"
#include "brokerd/process/filter.h"
#include "brokerd/process/log.h"
#include "client/host/policyfiles.h"
#include "client/host/udevrules-host.h"
#include "client/host/subids.h"
#include "client/common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* Lines in the journal about one policy; 'gpubroker policy check' shows all. */
#define FINDINGS_MAX 100

struct findings {
	unsigned told;
};

struct loader {
	int socket;
	const struct loader_options *options;
	int watch;		   /* inotify's, of the directory of /etc/subuid, or -1 */
	struct subids_named named; /* by the policy that was sent last */
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

/* Loads the policy, and logs what is wrong. Returns 0, the number of mistakes, or -errno. */
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

/*
 * Loads the copies of the last policy without a mistake. *ret_when is when they were made, in
 * seconds since the epoch. Returns true if there are any, and they are good.
 */
static bool load_saved(const struct loader_options *options, struct policy *ret_policy,
		       uint64_t *ret_when)
{
	const struct policyfiles request = {
		.directories = options->saved,
		.n_directories = options->n_directories,
		.called = options->directories,
		.must_exist = true,
	};
	struct stat st;
	int r;

	if (!options->saved || stat(options->saved_in, &st))
		return false;
	r = policyfiles_load(&request, ret_policy);
	if (r)
		log_error("loader: the policy saved in %s cannot be used either: %s",
			  options->saved_in, r < 0 ? strerror(-r) : "it has a mistake");
	*ret_when = (uint64_t)st.st_mtim.tv_sec;
	return !r;
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

/* A saved policy is sent with the mistakes of the files, and when it was saved. */
static int send_policy(int socket, const struct policy *policy, uint64_t mistakes, uint64_t saved)
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
	memset(&record, 0, sizeof(record));
	record.type = LOADER_END;
	record.counts[0] = mistakes;
	record.counts[1] = saved;
	return r ? r : helper_send(socket, &record, sizeof(record));
}

static int send_owners(int socket, const struct policy_owners *owners)
{
	struct loader_record record = {
		.type = LOADER_OWNERS,
		.counts = { owners->n_ranges, owners->n_members },
	};
	int r = helper_send(socket, &record, sizeof(record));

	memset(&record, 0, sizeof(record));
	record.type = LOADER_RANGE;
	for (size_t i = 0; !r && i < owners->n_ranges; i++) {
		record.range = owners->ranges[i];
		r = helper_send(socket, &record, sizeof(record));
	}
	record.type = LOADER_MEMBER;
	for (size_t i = 0; !r && i < owners->n_members; i++) {
		record.member = owners->members[i];
		r = helper_send(socket, &record, sizeof(record));
	}
	record.type = LOADER_OWNERS_END;
	return r ? r : helper_send(socket, &record, sizeof(record));
}

/*
 * Loads whose the subordinate uids are, and sends that. `next` is of the policy that comes next, or
 * NULL. Returns 0, 1 if they cannot be read, or -errno of the socket.
 */
static int refresh_owners(const struct loader *loader, const struct subids_named *next)
{
	struct findings findings = { 0 };
	const struct subids request = {
		.directory = SUBIDS_DIRECTORY,
		/* The last one is in force until the next is whole. */
		.named = { next, &loader->named },
		.found = tell_finding,
		.userdata = &findings,
	};
	struct policy_owners owners = { 0 };
	int r = subids_load(&request, &owners);

	if (r) {
		log_error("loader: " SUBIDS_DIRECTORY "/" SUBIDS_UIDS " or " SUBIDS_GIDS
			  " cannot be read: %s",
			  strerror(-r));
		return 1;
	}
	r = send_owners(loader->socket, &owners);
	policy_owners_done(&owners);
	return r;
}

/*
 * Sends whose the subordinate uids are, and then the policy. A policy without its owners is not
 * sent: a deny rule would forbid less than it says. Returns 0, 1 if it was not sent, or -errno of
 * the socket.
 */
static int send_with_owners(struct loader *loader, const struct policy *policy, uint64_t mistakes,
			    uint64_t saved)
{
	struct subids_named next = { 0 };
	int r = subids_named_find(policy, &next) ? 1 : refresh_owners(loader, &next);

	if (!r) {
		compare_installed(policy);
		r = send_policy(loader->socket, policy, mistakes, saved);
	}
	if (r) {
		subids_named_done(&next);
		return r;
	}
	subids_named_done(&loader->named);
	loader->named = next;
	return 0;
}

/*
 * Loads the policy and sends it once; if it has mistakes, the saved one, if it may. Returns 0,
 * or an exit status.
 */
static int load_and_send(struct loader *loader, bool may_use_saved)
{
	struct loader_record invalid = { .type = LOADER_INVALID, .counts = { 1 } };
	struct policy policy = { 0 };
	uint64_t saved = 0;
	int r = load_files(loader->options, &policy), sent;

	if (r < 0) {
		log_error("loader: cannot load the policy: %s", strerror(-r));
	} else if (r) {
		log_error("the policy has %d mistake%s and is not loaded", r, r == 1 ? "" : "s");
		invalid.counts[0] = (uint64_t)r;
	}
	if (r && may_use_saved && load_saved(loader->options, &policy, &saved)) {
		log_warning("loader: the policy of %s is used, which had no mistake",
			    loader->options->saved_in);
		sent = send_with_owners(loader, &policy, invalid.counts[0], saved);
		r = 0;
	} else if (r) {
		/* A policy with mistakes leaves the last one in force, with today's owners. */
		sent = refresh_owners(loader, NULL);
	} else {
		sent = send_with_owners(loader, &policy, 0, 0);
	}
	policy_done(&policy);
	if (sent >= 0 && (r || sent))
		sent = helper_send(loader->socket, &invalid, sizeof(invalid));
	return sent ? EX_SOFTWARE : 0;
}

/*
 * Begins to watch for changes of /etc/subuid and of the accounts, which useradd makes: an account
 * is its own owner, even in somebody's range.
 */
static void watch_subids(struct loader *loader)
{
	const uint32_t events = IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE | IN_ONLYDIR;

	loader->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (loader->watch >= 0 && inotify_add_watch(loader->watch, SUBIDS_DIRECTORY, events) >= 0)
		return;
	log_notice("loader: cannot watch " SUBIDS_DIRECTORY "/" SUBIDS_UIDS
		   " (%s), so a change of it needs a reload",
		   strerror(errno));
	loader->watch = fd_close(loader->watch);
}

/* Reads what changed. Returns true if the owners may be others now. */
static bool read_changes(const struct loader *loader)
{
	_Alignas(struct inotify_event) char events[4096];
	bool changed = false;
	ssize_t n;

	while ((n = read(loader->watch, events, sizeof(events))) > 0) {
		const char *p = events;

		while (p < events + n) {
			const struct inotify_event *event = (const void *)p;

			changed = changed || event->mask & IN_Q_OVERFLOW ||
				  (event->len && subids_is_source(event->name));
			p += sizeof(*event) + event->len;
		}
	}
	return changed;
}

int loader_run(int socket, struct confine_filter *settled, const void *options)
{
	struct loader loader = { .socket = socket, .options = options };
	struct pollfd p[2] = { { .fd = socket, .events = POLLIN }, { .events = POLLIN } };
	bool loaded = false;
	uint32_t asked;
	int r = 0;

	filter_free(settled); /* not used: each reload needs name services again */
	watch_subids(&loader);
	p[1].fd = loader.watch;
	while (!r) {
		ssize_t n;

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return EX_SOFTWARE;
		if (p[1].revents && read_changes(&loader) && loaded &&
		    refresh_owners(&loader, NULL) < 0)
			return EX_SOFTWARE;
		n = recv(socket, &asked, sizeof(asked), MSG_DONTWAIT);
		if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
			return 0; /* the core has ended */
		if (n == sizeof(asked) && (asked == LOADER_LOAD || asked == LOADER_LOAD_SAVED)) {
			r = load_and_send(&loader, asked == LOADER_LOAD_SAVED);
			loaded = true;
		}
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
