/* SPDX-License-Identifier: MIT */
/* The options of `gpubroker run`. */
#pragma once

#include "client/run/qemu-run.h"
#include "client/run/request.h"

/*
 * Parses and checks them, and leaves optind at COMMAND. 0, or an exit status after the reason was
 * printed; qemu_run_done() is due in either case.
 */
int options_parse(int argc, char **argv, struct request *request, struct qemu_run *qemu);
