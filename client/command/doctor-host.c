/* SPDX-License-Identifier: MIT */
/*
 * The checks of the host and of the caller, for `gpubroker doctor`: modules, nodes, broker, policy,
 * libvirt, denials, session, KVM. Reads facts alone, of this host or of a snapshot.
 */
#include "config.h"

#include "client/command/doctor.h"
#include "client/command/facts.h"
#include "client/common/util.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void check_modules(struct doctor *doctor)
{
	static const struct {
		const char *module, *lacking;
	} modules[] = {
		{ "vfio-pci", "no device can be lent" },
		{ "vfio", "no device can be opened" },
		{ "vfio_iommu_type1", "QEMU says \"No available IOMMU models\"" },
	};
	struct json_object *facts = facts_part(doctor->host, "modules");
	unsigned missing = 0;

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		if (facts_flag(facts, modules[i].module))
			continue;
		/* iommufd can stand for the last one. */
		if (i == 2 && facts_flag(facts, "iommufd"))
			continue;
		missing++;
		doctor_say(doctor, DOCTOR_FAIL, "modules",
			   "Load it as root: 'systemctl restart systemd-modules-load.service'",
			   "%s is not loaded: %s", modules[i].module, modules[i].lacking);
	}
	if (!missing)
		doctor_say(doctor, DOCTOR_PASS, "modules", NULL, "VFIO's modules are loaded");
}

static void check_open_nodes(struct doctor *doctor)
{
	struct json_object *list = facts_list(doctor->host, "nodes");
	const size_t n = list ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *node = json_object_array_get_idx(list, i);

		doctor_say(doctor, DOCTOR_FAIL, "nodes",
			   "'grep -rl vfio /etc/udev/rules.d /run/udev/rules.d "
			   "/usr/lib/udev/rules.d' finds the udev rule that gives it away: remove "
			   "it, and give the node back to root",
			   "others than root may open %s (owner %s, mode %s), past the policy",
			   facts_text(node, "path"), facts_text(node, "owner"),
			   facts_text(node, "mode"));
	}
	if (!n)
		doctor_say(doctor, DOCTOR_PASS, "nodes", NULL,
			   "only root may open the nodes below /dev/vfio");
}

/* ---- the broker and its policy ---- */

static void check_in_force(struct doctor *doctor, struct json_object *broker)
{
	const int64_t rules = facts_number(broker, "rules", 0);
	const int64_t files = facts_number(broker, "files", 0);
	const int64_t mistakes = facts_number(broker, "mistakes", 0);

	if (!facts_flag(broker, "tells_policy"))
		doctor_say(
			doctor, DOCTOR_WARN, "policy", "Restart it: 'systemctl restart gpubroker'",
			"the broker does not say which policy is in force; it may be an older one");
	else if (facts_flag(broker, "refused"))
		doctor_say(
			doctor, DOCTOR_FAIL, "policy",
			"'gpubroker policy check' shows them; 'gpubroker policy reload' loads it "
			"then",
			"the files have %" PRId64 " mistake%s; %s in force", mistakes,
			mistakes == 1 ? "" : "s",
			facts_flag(broker, "saved")	 ? "a copy that was saved before is"
			: facts_flag(broker, "in_force") ? "an older policy is"
							 : "no policy is");
	else if (!rules)
		doctor_say(doctor, DOCTOR_FAIL, "policy",
			   "'gpubroker policy add --help' shows how to let a user have a device",
			   "the policy is empty, so nobody may claim anything");
	else
		doctor_say(doctor, DOCTOR_PASS, "policy", NULL,
			   "%" PRId64 " statement%s in %" PRId64 " file%s are in force", rules,
			   rules == 1 ? "" : "s", files, files == 1 ? "" : "s");
}

/* Root needs a rule, too, but is not who it is for. */
static void check_caller_rules(struct doctor *doctor)
{
	const int64_t n = facts_number(doctor->caller, "may_claim", -1);

	if (facts_flag(doctor->caller, "root") || n < 0)
		return;
	if (n)
		doctor_say(doctor, DOCTOR_PASS, "rules", NULL,
			   "the policy allows you to claim %" PRId64 " device%s", n,
			   n == 1 ? "" : "s");
	else
		doctor_say(doctor, DOCTOR_FAIL, "rules",
			   "'gpubroker list --all' shows the devices; then as root: 'gpubroker "
			   "policy add --user NAME ADDRESS'",
			   "no rule of the policy allows you to claim any device");
}

static void check_broker(struct doctor *doctor)
{
	struct json_object *broker = facts_part(doctor->host, "broker");
	const int64_t mistakes = facts_number(doctor->host, "mistakes", 0);

	if (!facts_flag(broker, "answers")) {
		doctor_say(doctor, DOCTOR_FAIL, "broker",
			   "Start it as root: 'systemctl enable --now gpubroker.socket "
			   "gpubroker.service'",
			   "no broker answers");
	} else {
		doctor_say(doctor, DOCTOR_PASS, "broker", NULL, "the broker answers");
		check_in_force(doctor, broker);
		if (facts_number(broker, "rules", 0))
			check_caller_rules(doctor);
	}
	/* The files as they are now, which need not be what is in force. */
	if (mistakes)
		doctor_say(doctor, DOCTOR_FAIL, "files", "'gpubroker policy check' shows them",
			   "the policy's files have %" PRId64 " mistake%s", mistakes,
			   mistakes == 1 ? "" : "s");
}

/* ---- what else may take or keep a device ---- */

static void check_libvirt(struct doctor *doctor)
{
	struct json_object *libvirt = facts_part(doctor->host, "libvirt");

	if (!libvirt)
		return;
	if (facts_flag(libvirt, "system") && !facts_flag(libvirt, "hook"))
		doctor_say(doctor, DOCTOR_WARN, "libvirt",
			   "As root: 'install -D " GPUBROKER_DATA_DIR "/libvirt-hook "
			   "/etc/libvirt/hooks/qemu.d/gpubroker', then 'systemctl restart "
			   "libvirtd.service' (or virtqemud.service)",
			   "the system's libvirt does not ask the broker, and takes a card from "
			   "whoever has it lent");
	doctor_check_session(doctor);
}

static void check_denials(struct doctor *doctor)
{
	struct json_object *denials = facts_part(doctor->host, "denials");
	const int64_t n = facts_number(denials, "count", 0);
	const char *module = facts_text(denials, "module");

	if (!module[0])
		return;
	if (n)
		doctor_say(
			doctor, DOCTOR_WARN, "denials",
			!strcmp(module, "AppArmor")
				? "As root: 'journalctl -b -g apparmor=\"DENIED\"' shows them all; "
				  "see AppArmor in gpubroker(7)"
				: "As root: 'ausearch -m avc -ts boot' shows them all; see SELinux "
				  "in gpubroker(7)",
			"%s has denied something %" PRId64 " time%s since the boot, at last: %s",
			module, n, n == 1 ? "" : "s", facts_text(denials, "last"));
	else if (facts_flag(denials, "readable"))
		doctor_say(doctor, DOCTOR_PASS, "denials", NULL,
			   "%s has denied the broker and VMs nothing since the boot", module);
	else
		doctor_say(doctor, DOCTOR_NOTE, "denials", "Root sees them",
			   "%s is active, and you may not read the log of what it has denied",
			   module);
}

/* ---- the caller ---- */

static void check_session(struct doctor *doctor)
{
	const int64_t n = facts_number(doctor->caller, "missing_groups", 0);
	const char *names = facts_text(doctor->caller, "missing");
	char text[200];

	if (n <= 0)
		return;
	if (names[0])
		snprintf(text, sizeof(text), "the group%s %s", n == 1 ? "" : "s", names);
	else
		snprintf(text, sizeof(text), "%" PRId64 " of your groups", n);
	doctor_say(doctor, DOCTOR_WARN, "session", "Log out of everything, and in again",
		   "this session began before you were in %s", text);
}

static void check_kvm(struct doctor *doctor)
{
	const char *kvm = facts_text(doctor->caller, "kvm");
	const char *group = facts_text(doctor->caller, "kvm_group");

	if (!strcmp(kvm, "allowed")) {
		doctor_say(doctor, DOCTOR_PASS, "kvm", NULL, "you may use /dev/kvm");
	} else if (!strcmp(kvm, "forbidden")) {
		char cure[160];

		if (group[0])
			snprintf(cure, sizeof(cure),
				 "As root: 'usermod -aG %.32s NAME'; then log in again", group);
		else
			snprintf(cure, sizeof(cure),
				 "As root: give /dev/kvm to a group by a udev rule, and add the "
				 "user to it");
		doctor_say(doctor, DOCTOR_FAIL, "kvm", cure, "you may not use /dev/kvm");
	} else {
		doctor_say(
			doctor, DOCTOR_WARN, "kvm",
			"Enable virtualization (VT-x, AMD-V) in the firmware's setup; a VM works "
			"without it, but slowly",
			"this host has no /dev/kvm");
	}
}

void doctor_check_host(struct doctor *doctor)
{
	doctor_check_iommu(doctor);
	check_modules(doctor);
	check_open_nodes(doctor);
	check_broker(doctor);
	check_libvirt(doctor);
	check_denials(doctor);
	check_session(doctor);
	check_kvm(doctor);
	doctor_check_memory(doctor);
}
