/* SPDX-License-Identifier: MIT */
/* Readers for the values that follow a word. Private to policy/. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "policy/policy.h"

/*
 * Each reads a value into its field of the rule, or returns false if it is wrong; the rule is then
 * lost. One that reads another attribute too, as a pair of ids, sets that one's bit in the rule.
 */
bool value_address(const char *text, struct policy_rule *rule);
bool value_vendor(const char *text, struct policy_rule *rule);
bool value_device(const char *text, struct policy_rule *rule);
bool value_subsystem_vendor(const char *text, struct policy_rule *rule);
bool value_subsystem_device(const char *text, struct policy_rule *rule);
bool value_class(const char *text, struct policy_rule *rule);
bool value_iommu_group(const char *text, struct policy_rule *rule);
bool value_limit(const char *text, struct policy_rule *rule);
bool value_vfs(const char *text, struct policy_rule *rule);
bool value_vf_exec_quantum(const char *text, struct policy_rule *rule);
bool value_vf_preempt_timeout(const char *text, struct policy_rule *rule);
bool value_memlock(const char *text, struct policy_rule *rule);
bool value_boot_vga(const char *text, struct policy_rule *rule);      /* text: NULL */
bool value_in_use(const char *text, struct policy_rule *rule);	      /* text: NULL */
bool value_require_reset(const char *text, struct policy_rule *rule); /* text: NULL */
bool value_lifetime(const char *text, struct policy_rule *rule);
bool value_kill(const char *text, struct policy_rule *rule); /* text: NULL, or the time */

/* Returns true for a pair of ids, "10de:1eb8", which stands for itself or behind `device`. */
bool value_is_pair(const char *text);

/*
 * Each spells a value as the table of texts has it, so that texts with the same meaning are the
 * same; false if it is wrong. A text in that spelling does not change.
 */
typedef bool (*value_speller)(const char *text, char out[POLICY_TEXT_MAX]);
bool value_driver(const char *text, char out[POLICY_TEXT_MAX]);
bool value_vfio_driver(const char *text, char out[POLICY_TEXT_MAX]);
bool value_serial(const char *text, char out[POLICY_TEXT_MAX]);
bool value_path(const char *text, char out[POLICY_TEXT_MAX]);
bool value_profile(const char *text, char out[POLICY_TEXT_MAX]);
