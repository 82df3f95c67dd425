/* SPDX-License-Identifier: MIT */
/* Readers for the values that follow a word. Private to policy/. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "policy/policy.h"

/* Read a value into its field of the rule. False where it is not right; the rule is then lost. */
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
bool value_require_reset(const char *text, struct policy_rule *rule); /* text: NULL */
bool value_lifetime(const char *text, struct policy_rule *rule);

/*
 * Spell a value as it is kept in the table of texts, where what means the same is the same. False
 * where it is not right. What is spelled already stays as it is.
 */
typedef bool (*value_speller)(const char *text, char out[POLICY_TEXT_MAX]);
bool value_driver(const char *text, char out[POLICY_TEXT_MAX]);
bool value_vfio_driver(const char *text, char out[POLICY_TEXT_MAX]);
bool value_serial(const char *text, char out[POLICY_TEXT_MAX]);
bool value_path(const char *text, char out[POLICY_TEXT_MAX]);
bool value_profile(const char *text, char out[POLICY_TEXT_MAX]);
