/* SPDX-License-Identifier: MIT */
/* `gpubroker drivers make`: builds a bundle of drivers from a directory. */
#pragma once

int drivers_make(int argc, char **argv);

/* A file in the image, from which the guest learns its kernel, version and devices. */
#define DRIVERS_GUEST_FILE "gpubroker-drivers"
