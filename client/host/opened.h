/* SPDX-License-Identifier: MIT */
/*
 * Finds who has a node of a PCI function open: of its display (DRM), its sound card, its
 * accelerator, its inputs, its I2C buses, /dev/nvidiaN, /dev/kfd. A driver that loses its function
 * waits for such a process, or takes the node away from under it.
 *
 * Shared by the finder, which has CAP_SYS_PTRACE, and gpubroker(1), which sees what its caller may
 * see. But for nvidia_cards_read() only directories are opened, links read and files looked at,
 * none of which waits for another process: see opened_search().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/common/address.h"

#define OPENED_NODES_MAX 1024 /* nodes that are looked for at once; more are left out */
#define OPENED_TEXT 32	      /* a node's name below /dev, a program's name */
#define NVIDIA_CARDS_MAX 64

/* How directories are opened: the finder's filter allows openat() with this alone. */
#define OPENED_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK)

struct opened_node {
	uint32_t major, minor;
	struct pci_address address; /* of its function */
	char name[OPENED_TEXT];	    /* "dri/card0" */
};

/*
 * NVIDIA's driver numbers its cards itself, and only a file of /proc tells how. It numbers anew
 * when it gets a card; then the link to the card in the driver's directory is another one, too.
 */
struct nvidia_card {
	struct pci_address address;
	uint64_t link; /* the inode of that link */
	uint32_t minor;
};

struct nvidia_cards {
	size_t n;
	struct nvidia_card list[NVIDIA_CARDS_MAX];
};

struct opened_nodes {
	size_t n;
	struct opened_node list[OPENED_NODES_MAX];
	bool has_more; /* some have found no room */
	/* NVIDIA's: a node of no known card may be that of this function, which is not known. */
	bool has_unknown_nvidia;
	struct pci_address unknown_nvidia;
	struct nvidia_cards others; /* known cards that were not asked about */
	/*
	 * Returns true for the users whose threads are looked at, too: a thread may have
	 * descriptors of its own, or be left of a process whose first thread has ended. NULL: of
	 * each process only the first thread is looked at.
	 */
	bool (*looks_at_threads)(uint32_t uid);
};

/* A process that has one open. */
struct opened_holder {
	uint32_t pid, uid;
	struct pci_address address;
	char node[OPENED_TEXT];
	char program[OPENED_TEXT]; /* the file's name, printable; "": not known */
};

/* Reads how NVIDIA's driver has numbered its cards; opens files. `sys` and `proc` are open. */
void nvidia_cards_read(int sys, int proc, struct nvidia_cards *ret_cards);

/* Empties it, for opened_nodes_add(). */
void opened_nodes_clear(struct opened_nodes *nodes);
/*
 * Adds the nodes that the functions have now. Returns false if NVIDIA's driver has one of them that
 * is not among `cards` any more, or not yet.
 */
bool opened_nodes_add(int sys, const struct nvidia_cards *cards, const struct pci_address *list,
		      size_t n, struct opened_nodes *nodes);

/* Leaves only the nodes whose names begin so, as "dri/renderD". */
void opened_nodes_keep(struct opened_nodes *nodes, const char *prefix);

/* Adds a node by its number alone. */
void opened_nodes_add_number(struct opened_nodes *nodes, uint32_t major, uint32_t minor);

/*
 * Calls on_holder() if this process has one of the nodes open, perhaps several times.
 */
void opened_look_at(int proc, uint32_t pid, const struct opened_nodes *nodes,
		    void (*on_holder)(void *userdata, const struct opened_holder *holder),
		    void *userdata);

/*
 * Calls on_holder() for each process and function of which it has a node open, perhaps several
 * times. It ends at `deadline`, milliseconds of the monotonic clock. Returns false if it has not
 * seen all: then a user whose many processes or descriptors took the time has hidden others'. That
 * takes many processes, and is left to chance: it looks at the first few descriptors of every
 * process, beginning with any, before it looks at more of those that have more.
 *
 * A node that only a memory mapping, another file, or a descriptor under way in a socket keeps open
 * is not seen, and nor is one of a thread alone, but for those of looks_at_threads().
 */
bool opened_search(int proc, const struct opened_nodes *nodes, uint64_t deadline,
		   void (*on_holder)(void *userdata, const struct opened_holder *holder),
		   void *userdata);

/* Returns milliseconds of the monotonic clock. */
uint64_t opened_now(void);
