/* SPDX-License-Identifier: MIT */
/*
 * claimer UID SOCKET DEVICE...: claims as UID, says in one line what came of it, and holds what it
 * got until a byte comes on stdin, stdin ends or a signal ends it.
 *
 *	granted LEASE GROUP [LEASE GROUP]...
 *	refused NUMBER SENTENCE
 *	fault STAGE ERROR
 *	hung STAGE		nobody has answered for 90 seconds
 *
 * A DEVICE=PROFILE is a part of a device.
 *
 * claimer UID SOCKET --leases: "lease ID GROUP STATE REASON" for each, then "end"; or as above.
 *
 * For cases that claim a thousand times: `gpubroker run` costs a tenth of a second in emulation and
 * starts a command. Static, and as an outsider through <gpubroker.h>. It must never be root where
 * it speaks to the broker, and never end in silence.
 */
#include <gpubroker.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include <signal.h>

#define HUNG_SECONDS 90

static const char *stage = "open";

/* write() alone is safe here, and nothing of stdio's can be under way but what was flushed. */
static void on_alarm(int signal)
{
	ssize_t ignored;

	(void)signal;
	ignored = write(STDOUT_FILENO, "hung ", 5);
	ignored = write(STDOUT_FILENO, stage, strlen(stage));
	ignored = write(STDOUT_FILENO, "\n", 1);
	(void)ignored;
	_exit(3);
}

/* How it ends where there is nothing to hold. */
static int say(const struct gpubroker *handle, int r)
{
	if (r > 0)
		printf("refused %d %s\n", r, gpubroker_reason(handle));
	else
		printf("fault %s %s\n", stage, strerror(-r));
	return r > 0 ? 1 : 2;
}

static int on_lease(void *userdata, const struct gpubroker_lease *lease)
{
	(void)userdata;
	printf("lease %" PRIu64 " %" PRIu32 " %s %s\n", lease->id, lease->iommu_group,
	       gpubroker_lease_state_name(lease->state), lease->reason);
	return 0;
}

static int claim(struct gpubroker *handle, char **devices)
{
	struct gpubroker_claim *claim;
	int r = gpubroker_claim_new(&claim);
	char byte;

	for (; !r && *devices; devices++) {
		char *profile = strchr(*devices, '=');

		if (profile)
			*profile++ = '\0';
		r = profile ? gpubroker_claim_add_profile(claim, *devices, profile)
			    : gpubroker_claim_add(claim, *devices);
	}
	stage = "claim";
	if (!r)
		r = gpubroker_claim_run(handle, claim, NULL, NULL);
	alarm(0);
	if (r)
		return say(handle, r);
	printf("granted");
	for (size_t i = 0; i < gpubroker_claim_groups(claim); i++) {
		const struct gpubroker_grant *grant = gpubroker_claim_grant(claim, i);

		printf(" %" PRIu64 " %" PRIu32, grant->lease, grant->iommu_group);
	}
	printf("\n");
	fflush(stdout);
	/* The connection is no part of the lease, so it goes first. */
	gpubroker_close(handle);
	(void)!read(STDIN_FILENO, &byte, 1);
	gpubroker_claim_free(claim);
	return 0;
}

int main(int argc, char **argv)
{
	struct gpubroker *handle = NULL;
	uid_t uid;
	int r;

	if (argc < 4 || !(uid = (uid_t)strtoul(argv[1], NULL, 10))) {
		fputs("usage: claimer UID SOCKET DEVICE...|--leases\n", stderr);
		return 64;
	}
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) {
		perror("claimer");
		return 125;
	}
	signal(SIGALRM, on_alarm);
	alarm(HUNG_SECONDS);
	r = gpubroker_open(argv[2], &handle);
	if (r)
		return say(handle, r);
	if (strcmp(argv[3], "--leases") != 0)
		return claim(handle, argv + 3);
	stage = "leases";
	r = gpubroker_leases(handle, on_lease, NULL);
	if (r)
		return say(handle, r);
	printf("end\n");
	return 0;
}
