/* SPDX-License-Identifier: MIT */
/* The options of `gpubroker run`. */
#pragma once

#include "client/command/arguments.h"
#include "client/run/qemu-run.h"
#include "client/run/request.h"

/*
 * Parses and checks them, and leaves optind at COMMAND. Returns ARGUMENTS_END, or the exit status
 * after the reason or the help was printed; qemu_run_done() is due in either case.
 */
int options_parse(int argc, char **argv, struct request *request, struct qemu_run *qemu);
