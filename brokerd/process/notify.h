/* SPDX-License-Identifier: MIT */
/* sd_notify(3)'s protocol, for a Type=notify unit. */
#pragma once

/*
 * Connects to $NOTIFY_SOCKET; to be called before confinement. Returns a descriptor, or -1 if there
 * is none, which is no error.
 */
int notify_open(void);
/* Sends a message such as "READY=1"; does nothing with -1. Returns 0, or -errno. */
int notify_send(int fd, const char *text);
/*
 * Has the service manager keep a copy of a descriptor, under a name, for the next start of this
 * service. Returns 0 if it was asked to, or -errno.
 */
int notify_keep(int fd, const char *name, int kept);
/* Has it forget that. Returns 0, or -errno. */
int notify_forget(int fd, const char *name);
