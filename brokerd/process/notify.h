/* SPDX-License-Identifier: MIT */
/* sd_notify(3)'s protocol, for a Type=notify unit. */
#pragma once

/* Connects to $NOTIFY_SOCKET, before confinement. -1 where there is none, which is fine. */
int notify_open(void);
/* Sends "READY=1" and the like; does nothing with -1. 0 or -errno. */
int notify_send(int fd, const char *text);
