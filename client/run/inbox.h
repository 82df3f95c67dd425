/* SPDX-License-Identifier: MIT */
/*
 * How `gpubroker attach` has the supervisor of a QEMU serve one more group: a socket of the
 * supervisor's that only processes of the same user may use, one at a time. A group is lent as long
 * as the one who brought it stays connected; what QEMU has opened by then is QEMU's alone, and so
 * is the lease.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "client/run/supervisor.h"

/* In the supervisor, before it serves: makes the socket. Without one nothing can be attached. */
void inbox_open(struct supervisor *s);

/* Somebody waits at s->inbox, also while s->visitor is there. */
void inbox_accept(struct supervisor *s);

/* Something is to be read from s->visitor: a group, or the end. */
void inbox_take(struct supervisor *s);

/*
 * In `attach`: connects to the supervisor of a process, and keeps others from it until the socket
 * is closed. A socket, or -ESRCH: it was not started by `gpubroker run`; -EBUSY: another attach is
 * under way; -ETIMEDOUT: its supervisor does not answer.
 */
int inbox_connect(pid_t pid);

/*
 * Brings a group; it may be opened when this returns. 0 or -errno; -EBUSY: the supervisor serves
 * another attach.
 */
int inbox_lend(int socket, uint32_t group, int fd);
