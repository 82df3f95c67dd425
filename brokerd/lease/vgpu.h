/* SPDX-License-Identifier: MIT */
/* Leases of vendors' vGPUs, which a host driver makes of a virtual function. */
#pragma once

#include "brokerd/lease/kind.h"
#include "brokerd/lease/leases.h"

#define VGPU_TYPE_MAX 16

extern const struct lease_kind lease_of_vgpu;

/* A vGPU type that a VF offers. */
struct vgpu_row {
	char type[VGPU_TYPE_MAX];
	char name[PROTOCOL_PROFILE_MAX];
};

/*
 * A work_row_func: makes "557 NVIDIA RTX5880-Ada-1Q" of a row of creatable_vgpu_types. Runs in the
 * worker.
 */
bool vgpu_row(const char *line, char ret_text[WORK_TEXT_MAX]);
/*
 * Parses a text that vgpu_row() has made. It comes from the worker, which may have been taken over,
 * so it is checked.
 */
bool vgpu_row_parse(const char *text, struct vgpu_row *ret_row);
/* Parses a number that fits in 32 bits, as the driver writes it. */
bool vgpu_number_parse(const char *text, uint32_t *ret_number);
