/* SPDX-License-Identifier: MIT */
/*
 * The facts that `gpubroker doctor` judges, of a host and its caller, as JSON: read from this host
 * by the functions below, or from a snapshot of another. The checks only read these facts, so they
 * answer alike for both. A fact that a snapshot lacks, or has of another type, is as one that this
 * host does not tell.
 */
#pragma once

#include <json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/gpubroker.h"
#include "client/command/inventory.h"

/* The facts that this host has. */
struct facts_source {
	struct gpubroker *handle; /* NULL: no broker answers */
	int sys;		  /* a descriptor of /sys; -1: it cannot be opened */
	const struct inventory *inventory;
	bool anonymous; /* for a snapshot: no names of users, no serial numbers */
};

/* The member, which belongs to `facts`; "", `otherwise`, false or NULL if there is none. */
const char *facts_text(struct json_object *facts, const char *key);
int64_t facts_number(struct json_object *facts, const char *key, int64_t otherwise);
bool facts_flag(struct json_object *facts, const char *key);
struct json_object *facts_part(struct json_object *facts, const char *key);
struct json_object *facts_list(struct json_object *facts, const char *key);

/* Add a member. facts_add_text() adds null for "". */
void facts_add_text(struct json_object *facts, const char *key, const char *text);
void facts_add_number(struct json_object *facts, const char *key, int64_t number);
void facts_add_flag(struct json_object *facts, const char *key, bool flag);

/* Reads the first line of a file. Returns false, and writes "", if there is none. */
bool facts_read_line(const char *path, char *out, size_t size);
/* Reads a file of one number. Returns `otherwise` if it has none. */
int64_t facts_read_number(const char *path, int64_t otherwise);
bool facts_path_exists(const char *path);

/* The host: the IOMMU, interrupts, boot loader; modules, nodes, broker, policy. */
void facts_add_iommu(struct json_object *facts, const struct facts_source *source);
void facts_add_host(struct json_object *facts, const struct facts_source *source);
/* Denials of SELinux and AppArmor since the boot. May take some seconds. */
void facts_add_denials(struct json_object *facts);
/* The caller: groups, KVM, limits. */
struct json_object *facts_of_caller(const struct facts_source *source);
/*
 * The device at an address, or all for NULL: an array, with the members that `list --all --json`
 * has and more.
 */
struct json_object *facts_of_devices(const struct facts_source *source,
				     const struct pci_address *address);
