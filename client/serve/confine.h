/* SPDX-License-Identifier: MIT */
/* Confines the process of `gpubroker serve` that speaks HTTP. */
#pragma once

/* From then on it can use the descriptors that it has, accept, and nothing else. 0, or -errno. */
int confine_serve(void);
