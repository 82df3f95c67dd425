/* SPDX-License-Identifier: MIT */
/*
 * Virtual functions (SR-IOV): how many a physical function has is changed here, for root who asks
 * and for prepare rules with vfs. Each that is made goes to its VFIO driver.
 */
#pragma once

#include "brokerd/daemon.h"

struct group_view;

/* Root's request. 0: it is begun, the answer follows; else the reason, with *ret_refusal. */
int vfs_request(struct peer *peer, const struct message_vfs *request,
		struct message_refusal *ret_refusal);
/* The peer is gone; what it asked for goes on. */
void vfs_forget(const struct peer *peer);

/* There is a new policy, or the daemon begins to serve: looks at every physical function. */
void vfs_all(struct daemon *daemon);
/* The watcher said this; to be called before the device table takes it. */
void vfs_record(struct daemon *daemon, const struct watcher_record *record);

/*
 * Are VFs being made of a function of the group, or is one of it among them? It must not be touched
 * meanwhile.
 */
bool vfs_has_group(const struct daemon *daemon, const struct group_view *view);
/* The same as a refusal to who asked for that function of it: 0, or the reason. */
int vfs_refuse(const struct daemon *daemon, const struct group_view *view,
	       const struct pci_address *asked, struct message_refusal *ret_refusal);
/* Is it at work, and not late? */
bool vfs_is_busy(const struct daemon *daemon);

/* At start: ends what an earlier run had begun. 0, or -errno where the records cannot be read. */
int vfs_recover(struct daemon *daemon);
void vfs_done(struct daemon *daemon);
