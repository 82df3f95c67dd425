/* SPDX-License-Identifier: MIT */
/*
 * The wire between gpubrokerd and its clients, whole.
 *
 * A Unix socket of type SOCK_SEQPACKET: one message is one packet, with its descriptors. Every
 * message is one of the fixed-size structs below, in the machine's own byte order, sent with its
 * exact size; anything else (another size, an unknown type, descriptors where none belong, a
 * request while another is being answered) ends the connection. The backlog of the socket is short:
 * connect() waits until there is room, and fails with EAGAIN on a non-blocking socket.
 *
 *   client                                daemon
 *   hello (version)                   ->
 *                                     <-  welcome (version), or refusal (version, quota)
 *   list                              ->
 *                                     <-  device ... device, end
 *   leases                            ->
 *                                     <-  lease ... lease, end
 *   claim                             ->
 *                                     <-  queued ... (if it may wait), step ..., then grant with
 *                                         a descriptor per group (with CLAIM_CDEVS also per
 *                                         device), or refusal; queued and step are dropped
 *                                         when the client does not read; to CLAIM_ASK end,
 *                                         or refusal
 *   queue                             ->
 *                                     <-  waiting ... waiting, end
 *   usage                             ->
 *                                     <-  used ... used, end: root's are all, others' their own
 *   counters                          ->
 *                                     <-  counted
 *   allotments                        ->
 *                                     <-  allotment ... allotment, end
 *   allot, retract                    ->
 *                                     <-  end: it is in force, or begun; or refusal
 *   socket (by root: for an allotment) ->
 *                                     <-  end: it has that one already; or ready, or refusal
 *   listener, with a descriptor       ->
 *                                     <-  end: whoever connects there is the allotment; or refusal
 *   release, restore                  ->
 *                                     <-  end: it is begun; or refusal
 *   vfs, prepare                      ->
 *                                     <-  end: it is done; or refusal
 *   migration (of a lease of one's own) ->
 *                                     <-  end: it is noted; or refusal
 *   watch                             ->
 *                                     <-  event ..., until the client goes; those that it does
 *                                         not read in time are counted in the next one
 *
 * No request contains the uid, pid or a path of the client: the kernel tells the daemon who that
 * was when it connected (SO_PEERCRED, SO_PEERGROUPS). Only root's allot has a uid, that of the user
 * whom the devices are for. Only the daemon sends descriptors, and root a listener.
 *
 * At the socket of an allotment the same is spoken. Whoever connects there is the user of that
 * allotment, with its devices and nothing else: listings have nothing of others, and what only root
 * may ask is refused, to root too.
 */
#pragma once

#include <stdint.h>

#include "client/common/address.h"

#define PROTOCOL_VERSION 5
#define PROTOCOL_SOCKET "/run/gpubroker/socket"
#define PROTOCOL_SOCKETS "allotments" /* beside it: the directory of allotments' sockets */

#define PROTOCOL_SELECTORS_MAX 16 /* --gpu options in a claim, and groups in a grant */
#define PROTOCOL_FUNCTIONS_MAX 64 /* functions of one IOMMU group */
#define PROTOCOL_CDEVS_MAX 28	  /* device nodes in a grant */
#define PROTOCOL_NAME_MAX 32	  /* a policy's device name, a driver's name */
#define PROTOCOL_PROFILE_MAX 64	  /* an mdev type, or what its driver calls it */
#define PROTOCOL_UUID 40	  /* of an mdev, as text */
#define PROTOCOL_LABEL_MAX 48	  /* an allotment's label, with its NUL */
#define PROTOCOL_GIDS_MAX 40	  /* groups of the user in an allot */
#define PROTOCOL_SOCKET_NAME 56	  /* the name of an allotment's socket, with its NUL */
#define PROTOCOL_PATH_MAX 108	  /* a socket's path */
#define PROTOCOL_MESSAGE_MAX 2048 /* no message is larger */

enum message_type {
	/* requests */
	MESSAGE_HELLO = 1,
	MESSAGE_LIST,
	MESSAGE_LEASES,
	MESSAGE_CLAIM,
	MESSAGE_RELEASE,
	MESSAGE_RESTORE,
	MESSAGE_WATCH,
	MESSAGE_VFS,
	MESSAGE_MIGRATION,
	MESSAGE_QUEUE,
	MESSAGE_POLICY,
	MESSAGE_USAGE,
	MESSAGE_COUNTERS,
	MESSAGE_PREPARE,
	MESSAGE_ALLOT,
	MESSAGE_RETRACT,
	MESSAGE_ALLOTMENTS,
	MESSAGE_SOCKET,
	MESSAGE_LISTENER,
	/* answers */
	MESSAGE_WELCOME = 101,
	MESSAGE_DEVICE,
	MESSAGE_LEASE,
	MESSAGE_END,
	MESSAGE_STEP,
	MESSAGE_GRANT,
	MESSAGE_REFUSAL,
	MESSAGE_QUEUED,
	MESSAGE_EVENT,
	MESSAGE_WAITING,
	MESSAGE_POLICY_STATE,
	MESSAGE_USED,
	MESSAGE_COUNTED,
	MESSAGE_ALLOTMENT,
	MESSAGE_READY,
};

struct message_hello { /* also the welcome */
	uint32_t type;
	uint32_t version;
};

/* list, leases, queue, watch, usage, counters, allotments, listener; end, ready */
struct message_plain {
	uint32_t type;
	uint32_t reserved;
};

enum selector_kind {
	SELECT_ADDRESS = 1,
	SELECT_GROUP,
	SELECT_NAME, /* a device name of the policy: the first that is free */
	SELECT_ANY,  /* the first free GPU that the policy allows */
};

struct selector {
	uint32_t kind;
	uint32_t group;
	struct pci_address address;
	/* NUL-terminated. With an address: only if the policy's name means that function. */
	char name[PROTOCOL_NAME_MAX];
	/*
	 * NUL-terminated. A part of the device, by its type or by what its driver calls that; "":
	 * the whole device, or the part that the policy's name means. With a profile, a name that
	 * the policy does not have is that of an mdev parent that is no PCI function, as "mtty".
	 * Not with a group.
	 */
	char profile[PROTOCOL_PROFILE_MAX];
};

/*
 * Where a message is about an mdev: its parent as sysfs calls it ("0000:00:02.0", which is also in
 * the address beside it, or "mtty", and the address is 0), its type, and its UUID. "" in a message
 * about functions.
 */
struct mdev_name {
	char parent[PROTOCOL_NAME_MAX];
	char profile[PROTOCOL_PROFILE_MAX];
	char uuid[PROTOCOL_UUID];
};

enum claim_flags {
	/* the boot VGA too, if a rule has boot-vga; what programs of the host have open too */
	CLAIM_FORCE = 1 << 0,
	CLAIM_WAIT = 1 << 1, /* wait in the queue instead of being refused as busy */
	CLAIM_CDEVS =
		1 << 2, /* /dev/iommu and the functions' device nodes too, if the kernel has them */
	CLAIM_ASK = 1 << 3, /* claims nothing: `end` if it would be begun, or the refusal */
};

struct message_claim {
	uint32_t type;
	uint32_t flags;
	uint64_t memlock; /* bytes that the client wants; 0: what the rule grants */
	/*
	 * With CLAIM_WAIT: the id of the place that the claim had in the queue of a daemon that has
	 * ended, from struct message_queued; else 0.
	 */
	uint64_t place;
	uint32_t n_selectors;
	uint32_t reserved;
	struct selector selectors[PROTOCOL_SELECTORS_MAX];
};

/*
 * By root: promises devices to a user, under a label. If there is an allotment of that label and
 * user, it gets these devices too, and the end, if that is not 0.
 */
struct message_allot {
	uint32_t type;
	uint32_t reserved;
	char label[PROTOCOL_LABEL_MAX]; /* see allotment_is_label() */
	uint64_t until; /* when it is taken away, seconds since the epoch; 0: when root does */
	/* Not of the one who asks, but of the one who is meant, as the name service has them. */
	uint32_t uid, gid;
	uint32_t n_gids;
	uint32_t n_selectors;
	uint32_t gids[PROTOCOL_GIDS_MAX];
	struct selector selectors[PROTOCOL_SELECTORS_MAX];
};

/* By root: takes an allotment away, and revokes the leases by it. */
struct message_retract {
	uint32_t type;
	uint32_t reserved;
	char label[PROTOCOL_LABEL_MAX];
};

/*
 * By root: the allotment of the label is to have a socket of that name in the directory of such
 * sockets. After `ready` the client sends a listening one in a listener's packet.
 */
struct message_socket {
	uint32_t type;
	/* Whom root means: the label may be another user's by now. */
	uint32_t uid;
	char label[PROTOCOL_LABEL_MAX];
	char name[PROTOCOL_SOCKET_NAME]; /* see allotment_is_socket() */
	/* The groups of the allotment's user: those of whoever connects do not count. */
	uint32_t gid;
	uint32_t n_gids;
	uint32_t gids[PROTOCOL_GIDS_MAX];
};

enum allotment_flags {
	ALLOTMENT_OWN = 1 << 0,	       /* it is the user's who asks */
	ALLOTMENT_RETRACTING = 1 << 1, /* it is being taken away */
	ALLOTMENT_DAMAGED = 1 << 2,    /* its record is damaged: its devices are nobody's */
	ALLOTMENT_LISTENS = 1 << 3,    /* the broker has its socket */
};

/* An allotment, as an answer. */
struct message_allotment {
	uint32_t type;
	uint32_t flags; /* enum allotment_flags */
	char label[PROTOCOL_LABEL_MAX];
	uint64_t since, until; /* seconds since the epoch; until 0: when root takes it away */
	uint32_t uid;
	uint32_t n_devices;
	struct pci_address devices[PROTOCOL_SELECTORS_MAX];
	uint32_t groups[PROTOCOL_SELECTORS_MAX];
	char socket[PROTOCOL_PATH_MAX]; /* whoever connects there is the allotment; or "" */
	uint32_t reserved;
};

enum release_flags {
	RELEASE_REVOKE = 1 << 0, /* by root: anybody's lease */
	RELEASE_KILL = 1 << 1,	 /* with it: end the holder that does not let go, see `grace` */
};

#define PROTOCOL_GRACE_MAX 86400

/* Ends a lease before its holder lets go, or a claim that waits. */
struct message_release {
	uint32_t type;
	uint32_t flags;
	uint64_t lease; /* or the id of a claim that waits */
	uint64_t after; /* seconds from now, only for RELEASE_REVOKE */
	uint64_t grace; /* seconds between the two signals, only for RELEASE_KILL */
};

/*
 * By root: gives a function, with its group, to its host driver. The same struct as MESSAGE_PREPARE
 * puts it onto its VFIO driver.
 */
struct message_restore {
	uint32_t type;
	uint32_t reserved;
	struct pci_address address;
};

enum policy_request_flags {
	POLICY_RELOAD = 1 << 0, /* by root: reads the files again, and then answers */
	POLICY_WAIT = 1 << 1,	/* answers once the files have been read, of a daemon that starts */
};

struct message_policy { /* asks which policy is in force */
	uint32_t type;
	uint32_t flags;
};

enum policy_state_flags {
	POLICY_IN_FORCE = 1 << 0, /* there is a policy; otherwise nothing is lent */
	POLICY_REFUSED = 1 << 1,  /* the files were read since, and have mistakes */
	POLICY_SAVED = 1 << 2,	  /* the one in force is a copy from when they had none */
};

struct message_policy_state {
	uint32_t type;
	uint32_t flags;
	uint64_t loaded; /* when the one in force was loaded or saved, seconds since the epoch */
	uint64_t rules, files;
	uint64_t mistakes; /* where refused */
};

struct message_vfs { /* by root: gives a physical function so many virtual ones, on VFIO drivers */
	uint32_t type;
	uint32_t vfs;
	struct pci_address address;
};

/* The holder's finding about the leased device; the broker only passes it on. */
struct message_migration {
	uint32_t type;
	uint32_t migration; /* enum gpubroker_migration, not GPUBROKER_MIGRATION_UNKNOWN */
	uint64_t lease;
};

struct message_device {
	uint32_t type;
	uint32_t status; /* enum gpubroker_status */
	struct pci_address address;
	uint16_t vendor, device, subsystem_vendor, subsystem_device;
	uint32_t class_code;
	uint32_t group; /* UINT32_MAX: none */
	uint32_t allowed;
	uint32_t holder_uid; /* where leased */
	uint64_t lease;	     /* 0: none */
	char driver[PROTOCOL_NAME_MAX];
	char vendor_name[64];
	char model[96];
	uint32_t is_vf;
	struct pci_address physfn;	    /* of a VF */
	uint32_t vfs_total;		    /* how many VFs it can have; 0: no SR-IOV */
	uint32_t vfs;			    /* how many it has */
	char allotment[PROTOCOL_LABEL_MAX]; /* that reserves it, or "" */
	uint32_t allotted_uid;
	uint32_t reserved;
};

struct message_lease {
	uint32_t type;
	uint32_t state; /* enum gpubroker_lease_state */
	uint64_t id;
	uint64_t since; /* seconds since the epoch */
	uint32_t group;
	uint32_t uid;
	uint32_t pid; /* the process that claimed; another may hold the descriptor now */
	uint32_t n_functions;
	struct pci_address functions[PROTOCOL_FUNCTIONS_MAX];
	char reason[128];     /* why it is stuck, or takes long; else "" */
	uint64_t expires;     /* seconds since the epoch, 0: never */
	uint32_t allowed;     /* the policy in force would grant it */
	uint32_t migration;   /* enum gpubroker_migration */
	uint64_t stuck_since; /* stuck or asked, in seconds since the epoch; 0: neither */
	char rule[288];
	struct mdev_name mdev; /* n_functions is 0 then */
	uint64_t released_at;  /* when its holder let go, in the same seconds; 0: not yet */
	char label[PROTOCOL_LABEL_MAX]; /* of the allotment by which it was granted, or "" */
};

struct message_step {
	uint32_t type;
	uint32_t step; /* enum gpubroker_step */
	struct pci_address address;
	uint32_t group;
	uint32_t index; /* from 1 */
	uint32_t total;
	uint32_t reserved;
	char parent[PROTOCOL_NAME_MAX];
};

struct granted_group {
	uint64_t lease;
	uint32_t group;
	uint32_t reserved;
	struct pci_address address; /* the function that was asked for */
	char parent[PROTOCOL_NAME_MAX];
	char uuid[PROTOCOL_UUID];
};

struct granted_cdev {		    /* a device node */
	struct pci_address address; /* for an mdev its parent's */
	uint32_t group;		    /* which of the grant's groups it is in, from 0 */
	uint32_t number;	    /* of /dev/vfio/devices/vfioN */
};

/*
 * With n_groups descriptors, in their order; if there are cdevs, also that of /dev/iommu and those
 * of the cdevs.
 */
struct message_grant {
	uint32_t type;
	uint32_t n_groups;
	uint64_t memlock; /* what RLIMIT_MEMLOCK was raised to; 0: not raised, no rule grants any */
	struct granted_group groups[PROTOCOL_SELECTORS_MAX];
	uint32_t n_cdevs; /* 0: not asked for, the kernel has none, or too many for a grant */
	uint32_t reserved;
	struct granted_cdev cdevs[PROTOCOL_CDEVS_MAX];
};

/* Tells refusals of one reason apart where they have different sentences. */
enum refusal_detail {
	REFUSAL_PLAIN,
	REFUSAL_PREPARING, /* busy: the policy's prepare is moving it to a VFIO driver */
	REFUSAL_SRIOV,	   /* busy: the VFs of `other`, or of the function, are being changed */
	REFUSAL_LEASED_VF, /* busy: the VFs cannot be changed, `other` is one that is leased */
	REFUSAL_RESERVED,  /* busy: free, but kept for a claim that waits */
	REFUSAL_LEASED,	   /* busy: root cannot change it before its lease ends */
	REFUSAL_RELEASING, /* busy: its lease has ended, the host does not have it back yet */
	REFUSAL_FORCE,	   /* boot-vga: a rule allows it to a claim with CLAIM_FORCE */
	REFUSAL_WHOLE_AND_PART, /* not-viable: one claim has selected it whole and in part */
	REFUSAL_NOT_RESTORED,	/* failed: not everything could be put back */
	REFUSAL_INTERRUPTS,	/* not-viable: the host does not remap interrupts */
	REFUSAL_ENDED,	 /* busy: holder_uid, root or the user, ended the claim while it waited */
	REFUSAL_FOREIGN, /* busy: not by a lease: another program has it through VFIO */
	REFUSAL_OPEN,	 /* in-use: a program has the node `text` open; if pid is not 0, `driver` */
	REFUSAL_ASKED,	 /* busy: its lease was taken back, and its holder has not let go */
	REFUSAL_RETRACTING, /* allotted: the allotment `text` is being taken away */
	REFUSAL_DAMAGED,    /* allotted: the record of the allotment `text` is damaged */
	REFUSAL_CHANGED,    /* allotted: to the one who asks, but it is another device by now */
	REFUSAL_NO_RULE,    /* policy: no rule with `allotted` allows it to holder_uid */
	REFUSAL_NOT_LENT,   /* policy: it cannot be allotted, since holder_uid may not have it */
	REFUSAL_LABEL,	    /* allotted: the label is another user's, holder_uid */
	REFUSAL_SOCKET,	    /* failed: an allotment gets no socket, because of `text` */
	REFUSAL_AT_SOCKET,  /* policy, not-yours: asked at the socket of the allotment `text` */
	REFUSAL_N_DETAILS,
};

/*
 * `type`, `reason` and the size are the same in every version of the protocol: so a peer of another
 * one can read that it is refused for its version.
 */
struct message_refusal {
	uint32_t type;
	uint32_t reason;	    /* enum gpubroker_refusal */
	struct pci_address address; /* the function asked for */
	struct pci_address other;   /* the function in the way, where that is another one */
	uint32_t has_address, has_other;
	uint32_t detail; /* enum refusal_detail */
	uint32_t reserved;
	uint32_t group;	     /* UINT32_MAX: not known */
	uint32_t holder_uid; /* busy, in-use; node: its owner */
	uint32_t holder_pid;
	int32_t error; /* a kernel's errno, positive, or 0 */
	uint64_t since;
	uint64_t lease;
	/*
	 * memlock: what the rule grants; limit: how many leases; no-vfs: how many VFs it can have;
	 * no-profile: how many VFs are in use; none-left: how many of the profile are; node: its
	 * permission bits
	 */
	uint64_t limit;
	char name[PROTOCOL_NAME_MAX];	    /* the policy name asked for */
	char driver[PROTOCOL_NAME_MAX];	    /* the driver, or the program, in the way */
	char text[88];			    /* "drivers_probe", "network interface enp3s0 is up" */
	char rule[288];			    /* "/etc/gpubroker/policy.d/10-lab.policy:7" */
	char parent[PROTOCOL_NAME_MAX];	    /* the parent of the mdev, where it is known */
	char profile[PROTOCOL_PROFILE_MAX]; /* the profile asked for */
};

struct message_queued {
	uint32_t type;
	uint32_t place;	     /* from 1, among the claims that wait for the same */
	uint32_t holder_uid; /* the holder of a lease in the way */
	uint32_t holder_pid;
	uint64_t lease;
	uint64_t ends; /* when its turn is at the latest, 0: not known */
	struct pci_address address;
	char parent[PROTOCOL_NAME_MAX];
	uint64_t id; /* of the claim; no lease has the same */
};

/* A claim that waits. */
struct message_waiting {
	uint32_t type;
	uint32_t place; /* as in message_queued */
	uint64_t id;
	uint64_t since; /* seconds since the epoch */
	uint64_t lease; /* one in its way, 0: none */
	uint64_t ends;
	uint32_t holder_uid, holder_pid; /* of that lease */
	uint32_t uid, pid;		 /* who claims */
	uint32_t keeps;			 /* 0: it keeps nothing from later claims */
	uint32_t n_selectors;
	struct selector selectors[PROTOCOL_SELECTORS_MAX];
};

/* A lease that has ended. */
struct message_used {
	uint32_t type;
	uint32_t uid;
	uint64_t lease;
	uint64_t since;	  /* seconds since the epoch */
	uint64_t seconds; /* until the host had the device back */
	char device[PROTOCOL_NAME_MAX];
	char profile[PROTOCOL_PROFILE_MAX];
};

#define PROTOCOL_REASONS_MAX 64

/* The counters of the broker, from its start on. Only root gets more than `started`. */
struct message_counted {
	uint32_t type;
	uint32_t all;	  /* it is root who asks */
	uint64_t started; /* seconds since the epoch */
	uint64_t granted, ended;
	uint64_t lost; /* leases that have ended and whose usage could not be written */
	uint64_t refused[PROTOCOL_REASONS_MAX]; /* by enum gpubroker_refusal */
};

struct message_event {
	uint32_t type;
	uint32_t event; /* enum gpubroker_event_kind */
	uint64_t lease; /* 0: no lease */
	uint64_t time;	/* seconds since the epoch */
	uint64_t ends;	/* seconds since the epoch, 0: never */
	uint32_t group;
	uint32_t uid, pid; /* who claimed */
	uint32_t state;	   /* enum gpubroker_lease_state */
	uint32_t lost;	   /* events before this one that were not read in time */
	uint32_t has_address;
	struct pci_address address;
	char reason[128];
	char parent[PROTOCOL_NAME_MAX];
	/* For a claim that waits, whose id is in `lease`; else 0. */
	uint32_t place;
	uint32_t n_selectors;
	struct selector first;
	/* That of the allotment which the event is about, or by which the lease was granted. */
	char label[PROTOCOL_LABEL_MAX];
};
