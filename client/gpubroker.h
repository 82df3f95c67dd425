/* SPDX-License-Identifier: MIT */
/*
 * libgpubroker: claim a GPU from gpubrokerd and get its VFIO descriptors.
 *
 * A handle is one connection. The broker knows the caller by what the kernel said when the handle
 * was opened, so open it in the process that the lease and a raised memory-lock limit are meant
 * for. Only one thread at a time may use a handle. A lease does not depend on the handle: it lasts
 * until the last copy of the group's descriptor is closed, in whatever process.
 *
 * Errors. Functions that return int return 0 for success, a negative errno for a fault (of the
 * kernel, or of the connection), and a positive enum gpubroker_refusal where the broker refuses;
 * then gpubroker_reason() returns the sentence. -ECONNREFUSED and -ENOENT from gpubroker_open()
 * mean that there is no broker, -EPROTO that the other side does not speak this protocol,
 * -ECONNRESET that the connection ended.
 *
 * The library's structs only ever grow at their end: read them through the pointer that you were
 * given, never copy or allocate them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gpubroker;

/*
 * Why the broker refused: the constant's name and number, the broker's word for it in its log, the
 * exit status of gpubroker(1) as <sysexits.h> calls it. The numbers are stable; new ones are added
 * at the end.
 */
/* clang-format off */
#define GPUBROKER_REFUSALS(X)                                                                     \
	X(POLICY,      1, "policy",    EX_NOPERM)      /* no rule allows it, or one denies it */  \
	X(BUSY,        2, "busy",      EX_TEMPFAIL)    /* leased, or going back to the host */    \
	X(STUCK,       3, "stuck",     EX_TEMPFAIL)    /* the kernel does not finish a step */    \
	X(NO_DEVICE,   4, "no-device", EX_NOINPUT)     /* no such function or IOMMU group */      \
	X(NO_NAME,     5, "no-name",   EX_NOUSER)      /* the policy has no such name */          \
	X(NO_GROUP,    6, "no-group",  EX_OSFILE)      /* the function has no IOMMU group */      \
	X(NOT_VIABLE,  7, "not-viable", EX_OSFILE)      /* its group has what cannot be lent */   \
	X(BOOT_VGA,    8, "boot-vga",  EX_CONFIG)      /* it shows the host's console */          \
	X(IN_USE,      9, "in-use",    EX_CONFIG)      /* the host uses it: disk, network, VFs */ \
	X(MEMLOCK,    10, "memlock",   EX_NOPERM)      /* the rule grants less locked memory */   \
	X(QUOTA,      11, "quota",     EX_TEMPFAIL)    /* too many connections or leases */       \
	X(FAILED,     12, "failed",    EX_OSERR)       /* the kernel refused a step */            \
	X(NOT_READY,  13, "not-ready", EX_UNAVAILABLE) /* the broker has no policy yet */         \
	X(VERSION,    14, "version",   EX_PROTOCOL)    /* the broker has another protocol */      \
	X(LIMIT,      15, "limit",     EX_TEMPFAIL)    /* as many leases as the rule allows */    \
	X(NO_LEASE,   16, "no-lease",  EX_NOINPUT)     /* there is no such lease */               \
	X(NOT_YOURS,  17, "not-yours", EX_NOPERM)      /* another user's lease, or root's job */  \
	X(NO_RESET,   18, "no-reset",  EX_OSFILE)      /* the required reset is not possible */   \
	X(NO_VFS,     19, "no-vfs",    EX_OSFILE)      /* it can have no VFs, or not so many */   \
	X(NO_MDEVS,   20, "no-mdevs",  EX_NOINPUT)     /* its driver offers no profiles */        \
	X(NO_PROFILE, 21, "no-profile", EX_NOINPUT)     /* it offers others, but not this one */  \
	X(NONE_LEFT,  22, "none-left", EX_TEMPFAIL)    /* all of the profile are in use */      \
	X(NODE,       23, "node",      EX_CONFIG)      /* others than root may open its node */   \
	X(HOOK,       24, "hook",      EX_UNAVAILABLE) /* a hook of the administrator failed */  \
	X(ALLOTTED,   25, "allotted",  EX_TEMPFAIL)    /* root has allotted it to another user */
/* clang-format on */

enum gpubroker_refusal {
#define GPUBROKER_REFUSED_(reason, number, word, status) GPUBROKER_REFUSED_##reason = number,
	GPUBROKER_REFUSALS(GPUBROKER_REFUSED_)
#undef GPUBROKER_REFUSED_
};

enum gpubroker_status {
	GPUBROKER_AVAILABLE = 1, /* on its host driver, or on none */
	GPUBROKER_VFIO_READY,	 /* on a VFIO driver, not leased */
	GPUBROKER_BOOT_VGA,
	GPUBROKER_LEASED,
	GPUBROKER_RELEASING, /* on its way back to the host */
	GPUBROKER_STUCK,
	GPUBROKER_NOT_VIABLE, /* never lent as it is: because of its group, or it has VFs */
	GPUBROKER_IN_USE,     /* not leased, but another program seems to have it through VFIO */
};

enum gpubroker_lease_state {
	GPUBROKER_LEASE_PREPARING = 1,
	GPUBROKER_LEASE_READY,
	GPUBROKER_LEASE_LEASED,
	GPUBROKER_LEASE_RELEASING,
	GPUBROKER_LEASE_RESTORING,
	GPUBROKER_LEASE_STUCK,
	GPUBROKER_LEASE_HOST,  /* over: the host has everything back */
	GPUBROKER_LEASE_ASKED, /* taken back, and a process that was asked for it has it still */
};

/* Whether a device can be migrated with its virtual machine. Its driver tells only the holder. */
enum gpubroker_migration {
	GPUBROKER_MIGRATION_UNKNOWN, /* nobody has asked the driver */
	GPUBROKER_MIGRATION_YES,
	GPUBROKER_MIGRATION_NO,
};

enum gpubroker_event_kind {
	GPUBROKER_EVENT_STATE = 1, /* a lease has another state; its last is GPUBROKER_LEASE_HOST */
	GPUBROKER_EVENT_ENDING,	   /* a lease will be taken back at `ends` */
	/*
	 * A function appeared in a leased group. No host driver gets it; or, if there is a reason,
	 * the lease's user may not have it, and the lease ends.
	 */
	GPUBROKER_EVENT_ARRIVED,
	GPUBROKER_EVENT_VANISHED, /* a function of a leased group is gone; the lease ends */
	GPUBROKER_EVENT_WAITING,  /* a claim waits from now on; `lease` is its id, see `wanted` */
	GPUBROKER_EVENT_WAITED,	  /* it waits no longer: it got its devices, was refused or ended */
	/*
	 * Root has allotted a device to the user `uid`, or the allotment is being taken away, or is
	 * gone; see `label`. One event for each device.
	 */
	GPUBROKER_EVENT_ALLOTTED,
	GPUBROKER_EVENT_RETRACTING,
	GPUBROKER_EVENT_RETRACTED,
};

enum gpubroker_step {
	GPUBROKER_STEP_BIND =
		1,	     /* function `index` of `total` of the group goes to its VFIO driver */
	GPUBROKER_STEP_OPEN, /* the group is checked and opened */
	GPUBROKER_STEP_RESTORE, /* after a failure: function `index` of `total` goes back */
	GPUBROKER_STEP_WAIT,	/* the claim waits, or its place has changed */
};

/*
 * The name that gpubroker(1) prints, as "vfio-ready" or "restoring". Static; "unknown" for other
 * numbers.
 */
const char *gpubroker_status_name(enum gpubroker_status status);
const char *gpubroker_lease_state_name(enum gpubroker_lease_state state);

/*
 * Connects to the broker's socket (NULL: /run/gpubroker/socket) and agrees on the protocol's
 * version. Blocks until the broker has answered. On success *ret_handle is the caller's, to be
 * closed with gpubroker_close(). Its descriptor is close-on-exec. When all connections are taken,
 * the broker may close one that was not used for long; the next call then fails, with a sentence if
 * the broker could send it. On a refusal (too many
 * connections, another version) *ret_handle is set too, only for gpubroker_reason() and
 * gpubroker_close().
 */
int gpubroker_open(const char *socket_path, struct gpubroker **ret_handle);

/*
 * Closes the connection and frees the handle; NULL is allowed. Leases go on. Always returns NULL.
 */
struct gpubroker *gpubroker_close(struct gpubroker *handle);

/*
 * The descriptor to poll for POLLIN while gpubroker_claim_continue() returns -EAGAIN. It stays the
 * handle's.
 */
int gpubroker_fd(const struct gpubroker *handle);

/*
 * The sentence for the handle's latest refusal: the device, the reason, what would help. Never
 * NULL; valid until the handle's next call.
 */
const char *gpubroker_reason(const struct gpubroker *handle);

/* The facts of the handle's latest refusal, for programs; the sentence says more. */
struct gpubroker_refused {
	enum gpubroker_refusal number;
	char name[16];	     /* the broker's word for it in its log: "busy" */
	char device[48];     /* an address, "iommu-group:N", a name of the policy; "": none */
	char other[20];	     /* the function in the way, where that is another one; else "" */
	char profile[64];    /* of `device`; "": all of it */
	int64_t iommu_group; /* -1: not known */
	uint64_t lease;	     /* the lease in the way, or that was asked about; 0: none */
	uint32_t holder_uid; /* whose that is, where there is a lease in the way */
	uint32_t holder_pid; /* 0: not known */
	char rule[288];	     /* the policy's rule that decided, as file:line; "": none */
};

/* NULL while nothing was refused; else valid until the handle's next call. */
const struct gpubroker_refused *gpubroker_refused(const struct gpubroker *handle);

/* ---- what there is ---- */

struct gpubroker_device {
	char address[20]; /* "0000:01:00.0" */
	uint16_t vendor, device, subsystem_vendor, subsystem_device;
	uint32_t class_code; /* 24 bits, as in sysfs */
	int64_t iommu_group; /* -1: none */
	enum gpubroker_status status;
	bool allowed;	      /* the policy allows the caller to claim it */
	uint64_t lease;	      /* 0: not leased */
	uint32_t holder_uid;  /* where leased */
	char driver[32];      /* "": no driver has it */
	char vendor_name[64]; /* from the hardware database, "": not in there */
	char model[96];
	char physfn[20];       /* of a virtual function, else "" */
	uint32_t vfs_total;    /* how many virtual functions it can have; 0: no SR-IOV */
	uint32_t vfs;	       /* how many it has */
	char allotment[48];    /* the label of the allotment that reserves it, or "" */
	uint32_t allotted_uid; /* where reserved: for whom; UINT32_MAX: for nobody */
};

struct gpubroker_lease {
	uint64_t id;
	uint32_t iommu_group; /* UINT32_MAX: an mdev that is not made yet */
	uint32_t uid;	      /* who claimed */
	uint32_t pid;	      /* the process that claimed; it may have ended */
	uint64_t since;	      /* seconds since the epoch */
	enum gpubroker_lease_state state;
	size_t n_devices;
	char (*devices)[20];  /* PCI addresses */
	char reason[128];     /* why it is stuck, or takes long to end; else "" */
	uint64_t stuck_since; /* stuck or asked, in seconds since the epoch; 0: neither */
	bool allowed;	      /* the policy in force would grant it; if not, it goes on */
	uint64_t expires;     /* seconds since the epoch, 0: never */
	char rule[288];	      /* the rule that granted it, as file:line */
	/*
	 * For a part of a device, an mdev or a vGPU of a virtual function: n_devices is 0 then.
	 * Else "".
	 */
	char parent[32];  /* what made it: a PCI address, or a name as "mtty" */
	char profile[64]; /* its type */
	char uuid[40];	  /* /sys/bus/mdev/devices/UUID; "" before it is made, and for a vGPU */
	enum gpubroker_migration migration; /* as the holder's library has found out */
	uint64_t released_at; /* when its holder let go, seconds since the epoch; 0: not yet */
	char label[48];	      /* of the allotment by which it was granted, or "" */
};

/*
 * Called once for each device (lease). A value other than 0 ends the calls, and the listing
 * function returns it; the rest of the answer is read and dropped.
 */
typedef int (*gpubroker_device_func)(void *userdata, const struct gpubroker_device *device);
typedef int (*gpubroker_lease_func)(void *userdata, const struct gpubroker_lease *lease);

/* Lists all PCI functions, in the order of their addresses. Blocks until the last one. */
int gpubroker_list(struct gpubroker *handle, gpubroker_device_func func, void *userdata);

/* Lists all leases. Blocks until the last one. */
int gpubroker_leases(struct gpubroker *handle, gpubroker_lease_func func, void *userdata);

/* An allotment: devices that root has promised to a user, see gpubroker_allot(). */
struct gpubroker_allotment {
	char label[48];
	uint32_t uid;	 /* the user; UINT32_MAX: nobody, since its record is damaged */
	bool own;	 /* it is the caller's */
	uint64_t since;	 /* seconds since the epoch */
	uint64_t until;	 /* when it is taken away; 0: when root does */
	bool retracting; /* it is being taken away */
	bool damaged;	 /* its record cannot be read; root takes it away by gpubroker_retract() */
	size_t n_devices;
	const char (*devices)[20];    /* PCI addresses, as they were allotted */
	const uint32_t *iommu_groups; /* as many; all functions of these are reserved */
	char socket[108];	      /* whoever connects there is the allotment; or "" */
	bool listens;		      /* ... and the broker has it */
};
typedef int (*gpubroker_allotment_func)(void *userdata,
					const struct gpubroker_allotment *allotment);

/* Lists all allotments, in the order in which they were made, as gpubroker_leases() does. */
int gpubroker_allotments(struct gpubroker *handle, gpubroker_allotment_func func, void *userdata);

/* A DEVICE that a claim asks for, as gpubroker_claim_add_profile() takes it. */
struct gpubroker_wanted {
	char device[48];
	char profile[64]; /* "": the whole device, or what its name means */
};

/* A claim that waits, see gpubroker_claim_set_wait(). */
struct gpubroker_waiting {
	uint64_t id; /* for gpubroker_release() and gpubroker_revoke(): no lease has the same */
	uint32_t uid, pid; /* who claims */
	uint64_t since;	   /* seconds since the epoch */
	uint32_t place;	   /* from 1, among the claims that wait for the same */
	size_t n_wanted;
	const struct gpubroker_wanted *wanted;
	uint64_t lease; /* one that is in its way, 0: none */
	uint32_t holder_uid, holder_pid;
	uint64_t ends; /* when its turn is at the latest, seconds since the epoch; 0: not known */
	/*
	 * No later claim gets what this one could have. If not: it waits only for leases of its own
	 * user, and keeps nothing from others.
	 */
	bool keeps;
};
typedef int (*gpubroker_waiting_func)(void *userdata, const struct gpubroker_waiting *waiting);

/*
 * Lists all claims that wait, in the order in which they came, as gpubroker_leases() lists leases.
 */
int gpubroker_queue(struct gpubroker *handle, gpubroker_waiting_func func, void *userdata);

/* A lease that has ended. */
struct gpubroker_used {
	uint64_t lease;
	uint32_t uid;
	uint64_t since;	  /* when it was claimed, seconds since the epoch */
	uint64_t seconds; /* until the host had the device back */
	char device[32];  /* a PCI address, or the name of an mdev parent as "mtty" */
	char profile[64]; /* of a part of it; "": all of it */
};
typedef int (*gpubroker_used_func)(void *userdata, const struct gpubroker_used *used);

/*
 * Lists the leases that have ended, as far as the broker keeps them, in the order in which they
 * ended, as gpubroker_leases() lists leases. Root gets all, others those of their own user.
 */
int gpubroker_usage(struct gpubroker *handle, gpubroker_used_func func, void *userdata);

/* The counters of the broker, from its start on. */
struct gpubroker_counters {
	bool all;		 /* the caller is root; otherwise only `started` is known */
	uint64_t started;	 /* seconds since the epoch */
	uint64_t granted, ended; /* leases */
	uint64_t lost;		 /* leases that have ended and whose usage could not be written */
	uint64_t refused[64];	 /* requests, by enum gpubroker_refusal */
};

/* Asks for the counters. 0, a refusal, or -errno. */
int gpubroker_counters(struct gpubroker *handle, struct gpubroker_counters *ret_counters);

struct gpubroker_event {
	enum gpubroker_event_kind kind;
	uint64_t time; /* seconds since the epoch */
	uint64_t lease;
	enum gpubroker_lease_state state;
	uint32_t uid, pid; /* who claimed */
	uint32_t iommu_group;
	char address[20]; /* the function that was claimed, appeared or vanished */
	uint64_t ends;	  /* seconds since the epoch, 0: never */
	char reason[128]; /* why it is stuck, else "" */
	uint32_t lost;	  /* events before this one that were not read in time */
	char parent[32];  /* of an mdev, its parent; `address` is "" if that is no PCI function */
	/* Only for GPUBROKER_EVENT_WAITING and GPUBROKER_EVENT_WAITED. */
	uint32_t place;			/* in the queue, from 1 */
	uint32_t n_wanted;		/* how many DEVICEs the claim asks for */
	struct gpubroker_wanted wanted; /* the first of them */
	char label[48]; /* of the allotment, or of that by which the lease was granted; or "" */
};
typedef int (*gpubroker_event_func)(void *userdata, const struct gpubroker_event *event);

/*
 * Calls func for each change of a lease, of an allotment, and of the queue, from now on, as it
 * happens. Blocks for good: it returns the first value other than 0 that func returns, or a
 * negative errno when the connection ends. After that the handle can only be closed.
 */
int gpubroker_watch(struct gpubroker *handle, gpubroker_event_func func, void *userdata);

/*
 * The same for callers with an event loop: gpubroker_watch_start() asks for events; then call
 * gpubroker_watch_continue() whenever gpubroker_fd() is readable. It calls func for each event that
 * has arrived, and returns -EAGAIN when there are no more, else what gpubroker_watch() returns; if
 * that is from func, the events behind that one are left for the next call. Neither blocks nor
 * allocates.
 */
int gpubroker_watch_start(struct gpubroker *handle);
int gpubroker_watch_continue(struct gpubroker *handle, gpubroker_event_func func, void *userdata);

/* ---- ending leases ---- */

/*
 * Ends a lease of the caller (for root, of anybody) before its holder lets go: the kernel asks the
 * holder's VMM for the device, and waits for it. 0 means that this has begun; gpubroker_leases()
 * shows how it goes on. `lease` may also be the id of a claim that waits: it is refused as busy at
 * once.
 */
int gpubroker_release(struct gpubroker *handle, uint64_t lease);
/*
 * The same for root, for anybody's lease, after so many seconds, at most INT32_MAX (else -EINVAL);
 * the broker warns its holder before. A claim that waits ends at once, whatever the time.
 */
int gpubroker_revoke(struct gpubroker *handle, uint64_t lease, uint64_t after);
/*
 * The same, and if a process of the lease's user does not let go within 10 seconds, the broker has
 * it ended: by SIGTERM, and `grace` seconds later (1 to 86400, else -EINVAL) by SIGKILL.
 * GPUBROKER_REFUSED_FAILED: the helper that does so is missing, and nothing was begun.
 */
int gpubroker_revoke_kill(struct gpubroker *handle, uint64_t lease, uint64_t after, uint64_t grace);
/*
 * For root: gives a function, with its IOMMU group, to its host driver; it must not be leased, or
 * its lease be stuck. -EINVAL: `device` is no PCI address. On success ret_address is its full
 * address.
 */
int gpubroker_restore(struct gpubroker *handle, const char *device, char ret_address[20]);

/*
 * The opposite, for root: puts a function that is free, with its IOMMU group, onto its VFIO driver,
 * and blocks until that is done. It stays there until the next boot, or gpubroker_restore(). 0 also
 * if it is there already. -EINVAL: `device` is no PCI address. On success ret_address is its full
 * address.
 */
int gpubroker_prepare(struct gpubroker *handle, const char *device, char ret_address[20]);

/*
 * For root: gives a physical function so many virtual ones (SR-IOV), each on its VFIO driver, and
 * blocks until that is done. To change their number, all that exist are removed first, so it is
 * refused while one of them is leased. -EINVAL: `device` is no PCI address, or more than 65535. On
 * success ret_address is its full address.
 */
int gpubroker_vfs(struct gpubroker *handle, const char *device, uint32_t vfs, char ret_address[20]);

/* The policy that decides about claims. */
struct gpubroker_policy {
	bool in_force; /* there is one; otherwise nothing is lent */
	bool refused;  /* the files as read last have mistakes, and are not in force */
	bool saved;    /* the one in force is a copy from when the files had no mistake */
	/* When the one in force was read, or saved, in seconds since the epoch; 0: none is. */
	uint64_t loaded;
	uint64_t rules;	   /* statements, */
	uint64_t files;	   /* ... and files of the one in force */
	uint64_t mistakes; /* in the files, where refused */
};

/*
 * Asks which policy is in force; waits while a broker that has just started reads its files. 0, a
 * refusal, or -errno as gpubroker_open().
 */
int gpubroker_policy(struct gpubroker *handle, struct gpubroker_policy *ret_policy);

/*
 * For root: has the files read again, and waits until that has ended. 0 also where they are
 * refused, see the fields. -ECONNRESET: the broker has ended, and systemd starts it again with the
 * files as they are.
 */
int gpubroker_policy_reload(struct gpubroker *handle, struct gpubroker_policy *ret_policy);

/* ---- claiming ---- */

struct gpubroker_claim;

/* A new, empty request. Free it with gpubroker_claim_free() (NULL is allowed, returns NULL). */
int gpubroker_claim_new(struct gpubroker_claim **ret_claim);
struct gpubroker_claim *gpubroker_claim_free(struct gpubroker_claim *claim);

/*
 * Adds a DEVICE: a PCI address (the domain may be left out), "iommu-group:N", a device name of the
 * policy, or "any". -EINVAL: it has none of these forms. -E2BIG: more than 16.
 */
int gpubroker_claim_add(struct gpubroker_claim *claim, const char *device);

/*
 * The same for a part of the device, an mdev or a vGPU, that its driver makes for the lease:
 * `profile` is its type, or what the driver calls that (gpubroker profiles shows both). The DEVICE
 * may also be the name of an mdev parent that is no PCI function, as "mtty", but not
 * "iommu-group:N" (-EINVAL). -EDOM: `profile` has not the form of one.
 */
int gpubroker_claim_add_profile(struct gpubroker_claim *claim, const char *device,
				const char *profile);

/*
 * Adds the function at a PCI address, or a part of it (`profile` may be NULL), on condition that
 * the policy's device name means it: otherwise the claim is refused (GPUBROKER_REFUSED_NO_DEVICE,
 * _NO_PROFILE). For callers that have chosen among the devices that a name may mean. -EINVAL:
 * `name` or `address` has not the form of one.
 */
int gpubroker_claim_add_of(struct gpubroker_claim *claim, const char *name, const char *address,
			   const char *profile);

/* Asks for the boot VGA too, if the policy has boot-vga; and for what programs have open. */
void gpubroker_claim_set_force(struct gpubroker_claim *claim, bool force);

/*
 * Asks for less locked memory than the rule grants: the broker raises the caller's RLIMIT_MEMLOCK
 * to `bytes` instead. More is refused. 0 (the default): what the rule grants.
 */
void gpubroker_claim_set_memlock(struct gpubroker_claim *claim, uint64_t bytes);

/*
 * If `wait` is set, a claim that would be refused as busy is queued instead, first come, first
 * served: no later claim gets what this one could have. It waits for as long as the connection
 * lasts, or until its user or root ends it. The devices that it keeps from others count against the
 * `limit` of its rules. It keeps nothing while it waits only for leases of its own user.
 */
void gpubroker_claim_set_wait(struct gpubroker_claim *claim, bool wait);

/*
 * Asks for iommufd too: an open /dev/iommu of the claim's own, and the device node of each
 * function, /dev/vfio/devices/vfioN. If the kernel has none, or the claim has more than 28
 * functions, the grant has groups only. See gpubroker_claim_cdevs().
 */
void gpubroker_claim_set_iommufd(struct gpubroker_claim *claim, bool iommufd);

/*
 * Checks whether the claim would be begun now: 0, or the refusal that it would get. Nothing is
 * claimed or logged. The broker does not ask drivers how many of a profile are left. With
 * gpubroker_claim_set_wait(), GPUBROKER_REFUSED_BUSY means that it would wait. Blocks until
 * answered.
 */
int gpubroker_claim_ask(struct gpubroker *handle, const struct gpubroker_claim *claim);

struct gpubroker_progress {
	enum gpubroker_step step;
	char address[20];
	uint32_t iommu_group;
	uint32_t index; /* from 1; GPUBROKER_STEP_WAIT: the place in the queue */
	uint32_t total;
	/*
	 * Only for GPUBROKER_STEP_WAIT: a lease in the way, and when this claim's turn is at the
	 * latest.
	 */
	uint64_t lease;
	uint32_t holder_uid, holder_pid;
	uint64_t ends;	 /* seconds since the epoch, 0: not known */
	char parent[32]; /* of an mdev, as in struct gpubroker_lease; else "" */
	uint64_t id; /* only for GPUBROKER_STEP_WAIT: the claim's, as in struct gpubroker_waiting */
};
typedef void (*gpubroker_progress_func)(void *userdata, const struct gpubroker_progress *progress);

/*
 * Claims all devices or none and blocks until that is decided. This takes as long as host drivers
 * take to let go, usually well under a second. progress may be NULL. On success the claim holds the
 * group descriptors, see below. After a refusal or fault nothing is leased, and the host has
 * everything as before.
 */
int gpubroker_claim_run(struct gpubroker *handle, struct gpubroker_claim *claim,
			gpubroker_progress_func progress, void *userdata);

/*
 * The same for callers with an event loop: gpubroker_claim_start() sends the request; then call
 * gpubroker_claim_continue() whenever gpubroker_fd() is readable, until it returns something other
 * than -EAGAIN. Neither blocks.
 */
int gpubroker_claim_start(struct gpubroker *handle, const struct gpubroker_claim *claim);

/*
 * For a claim that waited, after -ECONNRESET: the broker has ended, perhaps to start again, as for
 * an update. Connects to the next one, and starts the claim with the place in the queue that it
 * had. gpubroker_fd() may then return another descriptor. 0, a refusal, or -errno: while no broker
 * runs -ECONNREFUSED, -ENOENT or -ECONNRESET, so try again later; -EINVAL if the claim did not
 * wait. gpubroker_claim_run() does this by itself, for at most 30 seconds.
 */
int gpubroker_claim_rejoin(struct gpubroker *handle, const struct gpubroker_claim *claim);
int gpubroker_claim_continue(struct gpubroker *handle, struct gpubroker_claim *claim,
			     gpubroker_progress_func progress, void *userdata);

/* How many IOMMU groups the claim got; two devices of one group count once. */
size_t gpubroker_claim_groups(const struct gpubroker_claim *claim);

struct gpubroker_grant {
	uint64_t lease;
	uint32_t iommu_group;
	char address[20]; /* the function that was asked for; "": none, see `parent` */
	char parent[32];  /* of an mdev, as in struct gpubroker_lease; else "" */
	char uuid[40];
};
/* The i-th of them; the claim's. */
const struct gpubroker_grant *gpubroker_claim_grant(const struct gpubroker_claim *claim, size_t i);

/*
 * The open /dev/vfio/N of the i-th group, ready for VFIO_GROUP_SET_CONTAINER (linux/vfio.h),
 * close-on-exec. It stays the claim's and is closed with it.
 */
int gpubroker_claim_fd(const struct gpubroker_claim *claim, size_t i);

/*
 * Asks the driver of the i-th group's device whether it can be migrated, through the descriptor,
 * which must not be in use yet and is unchanged afterwards. The broker then shows the answer in its
 * listing. A function on vfio-pci itself cannot be migrated, so its driver is not asked. The handle
 * is the claim's, or another one. -EINVAL: there is no i-th group.
 */
int gpubroker_claim_migration(struct gpubroker *handle, const struct gpubroker_claim *claim,
			      size_t i, enum gpubroker_migration *ret_migration);

/*
 * How many device nodes the claim got, of all groups; 0 if it did not ask for any, or got none.
 * Groups and device nodes are two ways to the same devices, and the kernel permits one of them: it
 * binds no node to an iommufd (VFIO_DEVICE_BIND_IOMMUFD fails with EBUSY) while any copy of its
 * group's descriptor is open. So close those that you do not use, with one of the next two
 * functions. The lease lasts until the last copy of either is closed.
 */
size_t gpubroker_claim_cdevs(const struct gpubroker_claim *claim);
/* Closes all group descriptors; gpubroker_claim_fd() returns -1 from then on. */
void gpubroker_claim_drop_groups(struct gpubroker_claim *claim);
/* Closes /dev/iommu and all nodes; gpubroker_claim_cdevs() returns 0 from then on. */
void gpubroker_claim_drop_cdevs(struct gpubroker_claim *claim);

struct gpubroker_cdev {
	size_t group;	  /* its group: the index for gpubroker_claim_grant() */
	char address[20]; /* the function; "" for an mdev */
	char node[48];	  /* "/dev/vfio/devices/vfio3" */
};
/*
 * The i-th node, which stays the claim's. The functions of a group are in the order of their
 * addresses.
 */
const struct gpubroker_cdev *gpubroker_claim_cdev(const struct gpubroker_claim *claim, size_t i);

/*
 * Its descriptor, for VFIO_DEVICE_BIND_IOMMUFD (linux/vfio.h), close-on-exec. A node can be bound
 * once: after a VMM has used it, no other can. It stays the claim's and is closed with it.
 */
int gpubroker_claim_cdev_fd(const struct gpubroker_claim *claim, size_t i);

/*
 * The open /dev/iommu (linux/iommufd.h), close-on-exec, which stays the claim's; -1 if there are no
 * nodes. If a rule grants locked memory, the kernel counts what it locks by process, else by user.
 */
int gpubroker_claim_iommufd(const struct gpubroker_claim *claim);

/*
 * The value to which the broker raised RLIMIT_MEMLOCK, in bytes, or 0 if no rule grants locked
 * memory.
 */
uint64_t gpubroker_claim_memlock(const struct gpubroker_claim *claim);

/* ---- allotments ---- */

/* A user as the name service has it. */
struct gpubroker_user {
	uint32_t uid, gid;
	const uint32_t *groups; /* supplementary; only the first 40 count */
	size_t n_groups;
};

/*
 * For root: promises the devices that `claim` asks for to a user, under a label of 1 to 47 letters,
 * digits and any of "._:@-". 0: it is in force, and stays so when the broker starts again; nobody
 * else can claim the devices, and the user can by a rule with `allotted`, without which nothing can
 * be allotted. If the user has an allotment of that label already, it gets these devices as well,
 * and `until`, if that is not 0: when it is taken away, in seconds since the epoch. On a refusal
 * nothing has changed. -EINVAL: `label` is none, or the claim asks for nothing. The claim's other
 * settings do not count, and it can be used again.
 */
int gpubroker_allot(struct gpubroker *handle, const struct gpubroker_claim *claim,
		    const char *label, const struct gpubroker_user *user, uint64_t until);

/*
 * For root: begins to give an allotment a socket of its own, at which whoever connects is that
 * allotment, whatever its uid. `name` is that of a file in the directory "allotments" beside the
 * broker's socket; `user` the user with the groups, as for gpubroker_allot(). 0: *ret_wanted is
 * false if the broker has that socket already; otherwise the caller makes and binds a
 * SOCK_SEQPACKET socket there, has it listen, and calls gpubroker_allot_listener(). -EINVAL:
 * `label` is none, or `name` is too long; another name that is none ends the connection.
 */
int gpubroker_allot_socket(struct gpubroker *handle, const char *label, const char *name,
			   const struct gpubroker_user *user, bool *ret_wanted);
/*
 * Hands the listening socket over, which stays the caller's. 0: it is in force, until the allotment
 * ends; the broker removes the file then.
 */
int gpubroker_allot_listener(struct gpubroker *handle, int listener);

/*
 * For root: takes an allotment away, and revokes the leases by it. 0: this has begun, and the user
 * cannot claim by it any more; it is gone from gpubroker_allotments() when the host has all its
 * devices. 0 also if there is none of that label. -EINVAL: `label` is none.
 */
int gpubroker_retract(struct gpubroker *handle, const char *label);

#ifdef __cplusplus
}
#endif
