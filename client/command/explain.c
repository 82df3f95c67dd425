/* SPDX-License-Identifier: MIT */
/*
 * gpubroker policy explain: whether a user may have a device or a profile of it, by which rule,
 * with which limits, which functions come along, and whether the host's use of it forbids it now.
 * It decides with the functions with which the daemon decides. It needs no daemon, nor for a saved
 * list of devices the host that it is about, and changes nothing.
 */
#include "config.h"

#include "client/command/policy.h"
#include "client/command/parts.h"
#include "client/command/policy-what.h"
#include "client/command/account.h"
#include "client/command/arguments.h"
#include "client/command/cli.h"
#include "client/command/holders.h"
#include "client/command/inventory.h"
#include "client/command/policy-sources.h"
#include "client/command/screen.h"
#include "client/host/interrupts.h"
#include "client/host/profile.h"
#include "client/common/util.h"
#include "policy/units.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

struct question {
	const char *user_name;
	struct account user;
	struct policy policy;
	struct inventory inventory;
	bool saved;	     /* the inventory is a file, perhaps another host's */
	const char *profile; /* --profile, or NULL */
	unsigned asked;
	int status; /* of the best answer so far */
};

/* ---- the answer ---- */

static void print_rule(const struct question *q, size_t rule)
{
	const struct policy_rule *r = &q->policy.rules[rule];

	printf("%s:%u", q->policy.files[r->file].path, (unsigned)r->line);
}

static void print_limits(const struct question *q, const struct policy_verdict *v, bool is_part)
{
	const struct policy_rule *r = &q->policy.rules[v->rule];
	const char *driver = policy_text(&q->policy, v->vfio_driver);
	char text[UNITS_TEXT];

	fputs("  rule      ", stdout);
	print_rule(q, v->rule);
	putchar('\n');
	fputs("  limit     ", stdout);
	if (r->limit)
		printf("%u lease%s at once by this rule\n", (unsigned)r->limit,
		       r->limit == 1 ? "" : "s");
	else
		puts("none");
	fputs("  for       ", stdout);
	fputs(v->lifetime ? units_time(v->lifetime, text) : "as long as it is held", stdout);
	if (v->kill)
		printf(", then kill, with %s between the signals", units_time(v->kill, text));
	putchar('\n');
	fputs("  memlock   ", stdout);
	puts(v->memlock ? units_size(v->memlock, text) : "none: the user's own limit stays");
	if (is_part) /* its driver makes it for the lease, and has its own way to VFIO */
		return;
	printf("  reset     %s\n", v->require_reset
					   ? "required of each function, before the next has it"
					   : "not required");
	printf("  driver    %s\n",
	       driver ? driver : "vfio-pci, or the variant that the kernel names");
}

/* Prints that the rules are about another uid than the one that was asked about. */
static void print_owner(const struct question *q)
{
	const uint32_t owner = policy_owner(&q->policy, q->user.subject.uid);

	if (owner == POLICY_NOBODY)
		printf("  user      uid %u is a subordinate uid of several users, so no rule "
		       "allows it anything\n",
		       (unsigned)q->user.subject.uid);
	else if (owner != q->user.subject.uid)
		printf("  user      uid %u is a subordinate uid of user %u, whose rules count\n",
		       (unsigned)q->user.subject.uid, (unsigned)owner);
}

/* Prints for each function of the group why it comes along: its slot, or a rule of its own. */
static void print_group(const struct question *q, const struct group_view *view, size_t asked)
{
	const struct pci_address *slot = &view->functions[asked].address;
	char text[PCI_ADDRESS_TEXT];

	if (view->group == NO_GROUP)
		return;
	printf("  group     %" PRIu32 "\n", view->group);
	for (size_t i = 0; i < view->n_functions; i++) {
		const struct pci_address *a = &view->functions[i].address;
		struct policy_facts alone = function_facts(&view->functions[i]);
		struct policy_verdict own;

		printf("    %s  ", pci_address_format(a, text));
		policy_decide(&q->policy, &q->user.subject, &alone, 1, 0, NULL, &own);
		if (own.outcome == POLICY_DENIED) {
			fputs("denied by ", stdout);
			print_rule(q, own.rule);
		} else if (i == asked) {
			fputs("asked for", stdout);
		} else if (a->domain == slot->domain && a->bus == slot->bus &&
			   a->device == slot->device) {
			fputs("comes along, the same slot", stdout);
		} else if (own.outcome == POLICY_ALLOWED) {
			fputs("comes along by ", stdout);
			print_rule(q, own.rule);
		} else {
			fputs("in another slot, and no rule allows it", stdout);
		}
		putchar('\n');
	}
}

/*
 * Returns true if the kernel can reset the function. Only for this host: a saved list does not
 * tell.
 */
static bool can_reset(const struct function *f)
{
	char path[64], text[PCI_ADDRESS_TEXT];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset",
		 pci_address_format(&f->address, text));
	return !access(path, F_OK);
}

/* Returns false if VFIO would attach no group of this host. */
static bool has_safe_interrupts(void)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return sys < 0 || interrupts_are_remapped(sys) ||
	       interrupts_may_be_unsafe_somehow(sys, !access("/dev/iommu", F_OK));
}

/* Prints whether the group can be lent now, if no guard forbids it. Returns the exit status. */
static int print_unguarded(const struct question *q, const struct group_view *view,
			   const struct policy_verdict *v)
{
	char text[PCI_ADDRESS_TEXT], node[320];
	const struct function *f;

	if (!q->saved && holders_node_text(view->group, node, sizeof(node))) {
		printf("refused: %s\n", node);
		return EXIT_IN_USE;
	}
	for (size_t i = 0; i < view->n_functions; i++) {
		f = &view->functions[i];
		if (!is_console(f))
			continue;
		fputs("could be lent with --force: ", stdout);
		cli_print_text(stdout, f->console[0] ? f->console : "it shows the host's console",
			       -1);
		putchar('\n');
		return 0;
	}
	for (size_t i = 0; i < view->n_functions; i++) {
		if (!view->functions[i].opened)
			continue;
		printf("in use: a process has %s open through VFIO, by a lease or without; see "
		       "'gpubroker list' and 'gpubroker leases'\n",
		       pci_address_format(&view->functions[i].address, text));
		return EXIT_BUSY;
	}
	if (!q->saved && !v->in_use && holders_open_text(view, node, sizeof(node))) {
		printf("refused without --force: %s\n", node);
		return EXIT_IN_USE;
	}
	puts("could be lent, if nobody has it");
	return 0;
}

/* Prints whether the guards permit it now. Returns the exit status. */
static int print_now(const struct question *q, const struct group_view *view,
		     const struct policy_verdict *v)
{
	const struct function *f;
	char text[PCI_ADDRESS_TEXT];
	size_t which;

	fputs("  now       ", stdout);
	if (view->group == NO_GROUP) {
		puts("refused: it has no IOMMU group");
		return EXIT_NO_GROUP;
	}
	switch (group_guard(view, v->boot_vga, &which)) {
	case GUARD_NONE:
		break;
	case GUARD_NOT_VIABLE:
		printf("refused: its group %s%s", view->has_blocker ? "has " : "",
		       view->has_blocker ? pci_address_format(&view->blocker, text) : "");
		cli_print_text(stdout, view->not_viable, -1); /* has a driver's name */
		putchar('\n');
		return EXIT_NO_GROUP;
	case GUARD_BOOT_VGA:
		f = &view->functions[which];
		printf("refused: %s is ", pci_address_format(&f->address, text));
		fputs(f->console[0] ? "part of the host's console (" : "the boot VGA", stdout);
		cli_print_text(stdout, f->console, -1);
		printf("%s and no rule has boot-vga\n", f->console[0] ? ")" : "");
		return EXIT_IN_USE;
	case GUARD_IN_USE:
		f = &view->functions[which];
		printf("refused: %s: ", pci_address_format(&f->address, text));
		cli_print_text(stdout, f->in_use, -1);
		putchar('\n');
		return EXIT_IN_USE;
	}
	if (!q->saved && !has_safe_interrupts()) {
		puts("refused: this host does not remap interrupts; see gpubrokerd(8)");
		return EXIT_NO_GROUP;
	}
	for (size_t i = 0; v->require_reset && !q->saved && i < view->n_functions; i++) {
		f = &view->functions[i];
		if (can_reset(f))
			continue;
		printf("refused: a rule has require-reset, and the kernel cannot reset %s\n",
		       pci_address_format(&f->address, text));
		return EXIT_NO_GROUP;
	}
	return print_unguarded(q, view, v);
}

/*
 * Makes the view that the daemon decides on, and returns the function's index in it. A function
 * that can never be lent, a bridge or one of too many, is judged by itself: see refuse_unlendable()
 * in brokerd/claim/select.c.
 */
static size_t view_group(const struct question *q, const struct function *function,
			 struct group_view *ret_view)
{
	size_t asked;

	inventory_group(&q->inventory, function, ret_view);
	asked = group_find(ret_view, &function->address);
	if (asked != SIZE_MAX)
		return asked;
	if (function->is_bridge) {
		strcpy(ret_view->not_viable, GROUP_LENDS_NO_BRIDGE);
		ret_view->has_blocker = false;
	}
	ret_view->functions[0] = *function;
	ret_view->n_functions = 1;
	return 0;
}

/* Says whether root could allot the function to the user, whom no rule allows it otherwise. */
static void print_allottable(const struct question *q, const struct policy_facts *facts, size_t n,
			     size_t asked)
{
	struct policy_subject subject = q->user.subject;
	struct policy_verdict v;

	subject.allotted = true;
	policy_decide(&q->policy, &subject, facts, n, asked, NULL, &v);
	if (v.outcome != POLICY_ALLOWED || !v.allotted)
		return;
	fputs("  allot     root can allot it, by ", stdout);
	print_rule(q, v.rule);
	puts("; 'gpubroker allotments' shows what is");
}

static void explain_function(struct question *q, const struct function *function)
{
	struct policy_facts facts[FUNCTIONS_MAX];
	char text[PCI_ADDRESS_TEXT], other[PCI_ADDRESS_TEXT];
	struct policy_verdict v;
	struct group_view *view = calloc(1, sizeof(*view));
	size_t asked;
	int status;

	if (!view) {
		cli_error("no memory");
		q->status = EXIT_SOFTWARE;
		return;
	}
	asked = view_group(q, function, view);
	for (size_t i = 0; i < view->n_functions; i++)
		facts[i] = function_facts(&view->functions[i]);
	policy_decide(&q->policy, &q->user.subject, facts, view->n_functions, asked, NULL, &v);
	pci_address_format(&function->address, text);
	if (q->asked++)
		putchar('\n');
	printf("%s: %s for %s\n", text, v.outcome == POLICY_ALLOWED ? "allowed" : "refused",
	       q->user_name);
	print_owner(q);
	if (v.outcome == POLICY_ALLOWED) {
		print_limits(q, &v, false);
		print_group(q, view, asked);
		status = print_now(q, view, &v);
	} else {
		fputs("  because   ", stdout);
		pci_address_format(&view->functions[v.function].address, other);
		if (v.outcome == POLICY_DENIED) {
			print_rule(q, v.rule);
			printf(" denies %s\n", other);
		} else {
			printf("no rule allows %s\n", other);
			print_allottable(q, facts, view->n_functions, asked);
		}
		print_group(q, view, asked);
		status = EXIT_POLICY;
	}
	if (q->asked == 1 || !status)
		q->status = status;
	free(view);
}

/* Explains one part of a device. */
static void explain_part(struct question *q, const struct profile *p,
			 const struct policy_facts *facts)
{
	struct policy_verdict v;
	int status = 0;

	policy_decide(&q->policy, &q->user.subject, facts, 1, 0, NULL, &v);
	if (q->asked++)
		putchar('\n');
	cli_print_text(stdout, p->type, -1);
	printf(" of %s: %s for %s\n", p->parent,
	       v.outcome == POLICY_ALLOWED ? "allowed" : "refused", q->user_name);
	print_owner(q);
	if (v.outcome == POLICY_ALLOWED) {
		print_limits(q, &v, true);
		fputs("  now       ", stdout);
		if (p->available == PROFILE_UNKNOWN) {
			puts("how many are left cannot be read");
		} else if (p->available) {
			printf("could be lent: %" PRIu64 " of it can be made\n", p->available);
		} else {
			puts("refused: none is left");
			status = EXIT_BUSY;
		}
	} else {
		fputs("  because   ", stdout);
		if (v.outcome == POLICY_DENIED) {
			print_rule(q, v.rule);
			puts(" denies it");
		} else {
			puts("no rule with this profile allows it; one without allows the device "
			     "whole");
		}
		status = EXIT_POLICY;
	}
	if (q->asked == 1 || !status)
		q->status = status;
}

/* ---- which ---- */

/*
 * Returns true if the part is meant: by its device with --profile, or by a name of the policy
 * alone.
 */
static bool part_is_meant(const struct question *q, const struct profile *p, const char *device,
			  uint32_t name, const struct policy_facts *facts)
{
	struct pci_address wanted, own;

	if (q->profile && strcmp(q->profile, p->type) != 0 && strcmp(q->profile, p->name) != 0)
		return false;
	if (name != POLICY_NO_NAME)
		return q->profile ? policy_name_matches(&q->policy, name, facts, NULL)
				  : policy_name_means_part(&q->policy, name, facts, NULL);
	if (!q->profile)
		return false;
	if (!pci_address_parse(device, &wanted))
		return !pci_address_parse(p->parent, &own) && !pci_address_compare(&own, &wanted);
	return !strcmp(device, "any") || !strcmp(device, p->parent);
}

/* A file that cannot be read makes no part; `gpubroker profiles` prints why. */
static void on_problem(void *userdata, const char *path, int error)
{
	(void)userdata;
	(void)path;
	(void)error;
}

/* Explains each part of this host's devices that is meant. */
static void explain_parts(struct question *q, const char *device)
{
	cleanup_fd int sys = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	uint32_t name = POLICY_NO_NAME;
	struct policy_facts facts;
	struct profiles profiles;

	if (sys < 0 || q->saved)
		return;
	if (policy_name_find(&q->policy, device, &name))
		name = POLICY_NO_NAME;
	profiles_read(sys, on_problem, NULL, &profiles);
	for (size_t i = 0; i < profiles.n; i++)
		if (part_facts(&q->inventory, &profiles.list[i], &facts) &&
		    part_is_meant(q, &profiles.list[i], device, name, &facts))
			explain_part(q, &profiles.list[i], &facts);
	profiles_done(&profiles);
}

/* Explains every function that DEVICE means. 0, or an exit status where it means none. */
static int explain_device(struct question *q, const char *device)
{
	bool any = !strcmp(device, "any"), group = !strncmp(device, "iommu-group:", 12);
	uint32_t name = POLICY_NO_NAME;
	struct pci_address address;
	const struct function *found;

	explain_parts(q, device);
	if (q->asked)
		return q->status;
	if (q->profile) {
		cli_error("no device under '%s' has a profile \"%s\"; 'gpubroker profiles' shows "
			  "those that there are",
			  device, q->profile);
		return EXIT_NO_DEVICE;
	}
	if (!pci_address_parse(device, &address)) {
		found = inventory_find(&q->inventory, &address);
		if (!found) {
			cli_error("there is no PCI function %s in the list of devices", device);
			return EXIT_NO_DEVICE;
		}
		explain_function(q, found);
		return q->status;
	}
	if (!any && !group && policy_name_find(&q->policy, device, &name)) {
		cli_error("'%s' is neither a PCI address, nor iommu-group:N, nor any, nor a "
			  "device name of the policy",
			  device);
		return EXIT_NO_NAME;
	}
	for (size_t i = 0; i < q->inventory.n; i++) {
		const struct function *f = &q->inventory.functions[i];
		struct policy_facts facts = function_facts(f);
		char number[16];

		snprintf(number, sizeof(number), "%" PRIu32, f->iommu_group);
		if (any	    ? class_is_gpu(f->class_code)
		    : group ? f->iommu_group != NO_GROUP && !strcmp(number, device + 12) &&
				      !f->is_bridge
			    : policy_name_matches(&q->policy, name, &facts, NULL))
			explain_function(q, f);
	}
	if (!q->asked) {
		cli_error("no function in the list of devices is '%s'", device);
		return EXIT_NO_DEVICE;
	}
	return q->status;
}

static int read_devices(struct question *q, const char *file)
{
	const char *why = NULL;
	int r = file ? inventory_read_json(file, &q->inventory, &why)
		     : inventory_read_local(&q->inventory);

	if (!r)
		return 0;
	if (why)
		cli_error("%s: %s", file, why);
	else
		cli_error("%s: %s", file ? file : "/sys/bus/pci/devices", strerror(-r));
	return EXIT_BAD_POLICY;
}

/* Writes the caller's name, or uid. Returns out. */
static const char *caller_name(char out[SCREEN_USER])
{
	if (getpwuid(geteuid()))
		return screen_user((uint32_t)geteuid(), out);
	snprintf(out, SCREEN_USER, "%u", (unsigned)geteuid());
	return out;
}

static int answer_question(struct question *q, const struct policy_sources *sources,
			   const char *user, const char *devices, const char *device)
{
	struct policy_report report = { .mistakes_only = true };
	char own[SCREEN_USER];
	int r;

	if (!user)
		user = caller_name(own);
	r = account_find(user, &q->user);
	if (r)
		return r;
	q->user_name = user;
	r = policy_sources_load(sources, NULL, 0, &report, &q->policy);
	if (r) {
		cli_error("the policy cannot be explained before its mistakes are corrected");
		return EXIT_BAD_POLICY;
	}
	q->saved = devices;
	r = read_devices(q, devices);
	return r ? r : explain_device(q, device);
}

int policy_explain(const struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "policy", required_argument, NULL, 'p' },
		{ "devices", required_argument, NULL, 'd' },
		{ "user", required_argument, NULL, 'u' },
		{ "profile", required_argument, NULL, 'P' },
		{ NULL, 0, NULL, 0 },
	};
	const char *user = NULL, *devices = NULL;
	struct policy_sources sources;
	struct question q = { 0 };
	struct arguments arguments = { .command = "policy explain", .mode = "" };
	int c, r;

	policy_sources_init(&sources);
	while ((c = arguments_next(&arguments, argc, argv, options)) != ARGUMENTS_END) {
		switch (c) {
		case 'p':
			r = policy_sources_add(&sources, optarg);
			if (r)
				return r;
			break;
		case 'd':
			devices = optarg;
			break;
		case 'u':
			user = optarg;
			break;
		case 'P':
			q.profile = optarg;
			break;
		default:
			return arguments.status;
		}
	}
	if (optind == argc && !devices && !q.profile && !sources.n_given)
		return policy_what_show(cli, user);
	if (optind + 1 != argc) {
		cli_error("explain takes one DEVICE, as in: gpubroker policy explain --user alice "
			  "01:00.0");
		return EXIT_BAD_USAGE;
	}
	if (q.profile && devices) {
		cli_error(
			"--profile does not go with --devices: a list of devices has no profiles");
		return EXIT_BAD_USAGE;
	}
	r = answer_question(&q, &sources, user, devices, argv[optind]);
	policy_done(&q.policy);
	inventory_done(&q.inventory);
	account_done(&q.user);
	c = cli_finish_output();
	return r ? r : c;
}
