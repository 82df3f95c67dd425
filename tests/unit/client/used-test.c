/* SPDX-License-Identifier: MIT */
/*
 * Adding up who had what: a lease counts once, from the asked time on, and as long as it goes on up
 * to now. The broker is the two functions below.
 */
#include "config.h"

#include "client/command/used.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <string.h>
#include <time.h>

static struct gpubroker_lease running[5];
static size_t n_running;
static struct gpubroker_used ended[200];
static size_t n_ended;
static int fault;

int gpubroker_leases(struct gpubroker *handle, gpubroker_lease_func func, void *userdata)
{
	int r = 0;

	(void)handle;
	for (size_t i = 0; !r && i < n_running; i++)
		r = func(userdata, &running[i]);
	return r;
}

int gpubroker_usage(struct gpubroker *handle, gpubroker_used_func func, void *userdata)
{
	int r = fault;

	(void)handle;
	for (size_t i = 0; !r && i < n_ended; i++)
		r = func(userdata, &ended[i]);
	return r;
}

static void end(uint64_t lease, uint32_t uid, const char *device, uint64_t since, uint64_t seconds)
{
	struct gpubroker_used *used = &ended[n_ended++];

	*used = (struct gpubroker_used){
		.lease = lease, .uid = uid, .since = since, .seconds = seconds
	};
	snprintf(used->device, sizeof(used->device), "%s", device);
}

static void test_sums(void)
{
	struct used_list list;
	struct used_sum *sums;
	size_t n;

	end(1, 1000, "0000:01:00.0", 1000, 60);
	end(2, 1001, "0000:01:00.0", 1100, 100);
	end(3, 1000, "0000:01:00.0", 1200, 40);
	end(4, 1000, "0000:02:00.0", 1200, 7);
	end(5, 1000, "mtty", 1300, 5);
	strcpy(ended[4].profile, "mtty-2");
	need(!used_read(NULL, 0, &list));
	sums = used_add_up(&list, 0, &n);
	tap_ok(sums && n == 4 && sums[0].uid == 1000 && !strcmp(sums[0].device, "0000:01:00.0") &&
		       sums[0].leases == 2 && sums[0].seconds == 100 && sums[0].last == 1240,
	       "leases of a user and a device are added up");
	tap_ok(sums[1].seconds == 7 && !strcmp(sums[2].profile, "mtty-2") && sums[3].uid == 1001 &&
		       sums[3].seconds == 100,
	       "each user, device and profile has a sum");
	free(sums);
	used_done(&list);
	need(!used_read(NULL, 1150, &list));
	sums = used_add_up(&list, 1150, &n);
	tap_ok(sums && n == 4 && sums[0].leases == 1 && sums[0].seconds == 40 &&
		       sums[3].seconds == 50,
	       "what ended before does not count, what began before counts from then on");
	free(sums);
	used_done(&list);
}

static void test_running(void)
{
	static char devices[1][20] = { "0000:01:00.0" };
	const uint64_t now = (uint64_t)time(NULL);
	struct used_list list;
	struct used_sum *sums;
	size_t n;

	running[0] = (struct gpubroker_lease){ .id = 9,
					       .uid = geteuid(),
					       .since = now - 100,
					       .state = GPUBROKER_LEASE_LEASED,
					       .n_devices = 1,
					       .devices = devices };
	running[1] = running[0];
	running[1].id = 10;
	running[1].state = GPUBROKER_LEASE_PREPARING;
	running[2] = running[0];
	running[2].id = 3; /* it has ended while it was asked for */
	running[3] = running[0];
	running[3].id = 11;
	running[3].uid = UINT32_MAX; /* a damaged record */
	running[4] = running[0];
	running[4].id = 12;
	strcpy(running[4].rule, "gpubroker restore");
	n_running = 5;
	need(!used_read(NULL, now - 10, &list));
	sums = used_add_up(&list, now - 10, &n);
	tap_ok(sums && n == 1 && list.n == 1 && list.list[0].running && !sums[0].last &&
		       sums[0].seconds >= 10 && sums[0].seconds < 60,
	       "a lease that goes on counts up to now; one that is not granted does not");
	free(sums);
	used_done(&list);
	need(!used_read(NULL, 0, &list));
	for (size_t i = n = 0; i < list.n; i++)
		n += list.list[i].lease == 3;
	tap_ok(n == 1 && list.n == 6, "one that ends while it is asked for is there once");
	used_done(&list);
}

static void test_strange(void)
{
	struct used_list list = { 0 };
	struct used_sum *sums;
	size_t n;

	n_running = n_ended = 0;
	need(!used_read(NULL, 0, &list));
	sums = used_add_up(&list, 0, &n);
	tap_ok(sums && !n && !list.n, "nothing is nothing");
	free(sums);
	used_done(&list);
	end(1, 0, "0000:01:00.0", UINT64_MAX, UINT64_MAX);
	end(2, 0, "", 5, UINT64_MAX);
	need(!used_read(NULL, 0, &list));
	sums = used_add_up(&list, 0, &n);
	tap_ok(sums && list.n == 2, "times that no broker sends do no harm");
	free(sums);
	used_done(&list);
	fault = -ECONNRESET;
	tap_ok(used_read(NULL, 0, &list) == -ECONNRESET, "a fault is one");
	fault = 0;
	n_ended = 0;
	for (uint64_t i = 0; i < 200; i++)
		end(i + 1, 7, "0000:01:00.0", 1000, 1);
	need(!used_read(NULL, 0, &list));
	sums = used_add_up(&list, 0, &n);
	tap_ok(sums && n == 1 && sums[0].leases == 200 && sums[0].seconds == 200,
	       "any number of them");
	free(sums);
	used_done(&list);
}

int main(void)
{
	test_sums();
	test_running();
	test_strange();
	return tap_done();
}
