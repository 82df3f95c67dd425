/* SPDX-License-Identifier: MIT */
/*
 * The process beside `gpubroker serve` that executes commands: this one program with arguments of a
 * fixed form, and nothing that an HTTP client names. The process that speaks HTTP can only ask it,
 * over a socket, and gets pipes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum spawn_verb {
	/* Asked by several at once, these are executed once. */
	SPAWN_LIST = 1,
	SPAWN_LEASES,
	SPAWN_QUEUE,
	SPAWN_PROFILES,
	SPAWN_DOCTOR,
	SPAWN_USAGE,
	SPAWN_CLAIMS,
	/* Each of these for itself. */
	SPAWN_WATCH,
	SPAWN_RELEASE,
	SPAWN_PREPARE,
	SPAWN_RESTORE,
	SPAWN_ATTACH,
	SPAWN_DETACH,
	SPAWN_START,
	SPAWN_STOP,
	SPAWN_STEPS,
};

/* A packet. Which texts an order has depends on its verb; others are "". */
struct spawn_order {
	uint32_t verb;
	uint32_t id;
	char name[40];	  /* of a machine */
	char device[48];  /* as a claim has it, or the number of a lease */
	char profile[64]; /* "": the whole device */
	char wait[16];	  /* a time, "": does not wait */
	uint32_t qemu;	  /* run --qemu */
	uint32_t reserved;
};

/* With three descriptors if error is 0: standard output, standard error, exit status (an int). */
struct spawn_answer {
	uint32_t id;
	int32_t error;
};

struct spawn_setup {
	const char *socket;    /* of the broker, NULL: the default */
	const char *directory; /* of this service, in the user's runtime directory */
	const char *unlink;    /* a socket of ours, which is removed at the end; or NULL */
	const int *listeners;  /* descriptors of the process that speaks HTTP alone */
	unsigned n_listeners;
};

/* Returns true if the order has the form of one: both processes check it. */
bool spawn_order_valid(const struct spawn_order *order);
/* Returns true for verbs whose result several may share. */
static inline bool spawn_is_shared(uint32_t verb)
{
	return verb >= SPAWN_LIST && verb < SPAWN_WATCH;
}

/* Starts the process. Returns 0, or -errno. It ends when the socket is closed. */
int spawn_begin(const struct spawn_setup *setup, int *ret_socket);
