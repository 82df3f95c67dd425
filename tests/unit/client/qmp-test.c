/* SPDX-License-Identifier: MIT */
/*
 * The client of QEMU's monitor, and what it makes of a QEMU's answers, against a server that is a
 * child of the test and may answer anything. tests/vm/cases/58-attach.t has a real QEMU.
 */
#include "config.h"

#include "client/run/vm.h"
#include "client/common/util.h"
#include "tests/scratch.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define GREETING                                                                                   \
	"{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10}}, \"capabilities\": [\"oob\"]}}\r\n"

/* An answer: to a request that has both texts; %ID in it becomes the request's id. */
struct answer {
	const char *command, *with, *text;
};

static char path[96];
static pid_t server;
static int got_fd = -1; /* a pipe on which the server passes on what it was handed */

/* ---- the server ---- */

static void send_all(int fd, const char *text, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);

		if (sent <= 0)
			_exit(0);
		text += sent;
		n -= (size_t)sent;
	}
}

static void send_answer(int fd, const char *text, const char *request)
{
	const char *id = strstr(request, "\"id\":"), *mark;
	char number[24] = "0";

	if (id)
		snprintf(number, sizeof(number), "%ld", strtol(id + 5, NULL, 10));
	while ((mark = strstr(text, "%ID"))) {
		send_all(fd, text, (size_t)(mark - text));
		send_all(fd, number, strlen(number));
		text = mark + 3;
	}
	send_all(fd, text, strlen(text));
}

/* Reads a line, and a descriptor if one comes with it. False: the client has gone. */
static bool read_request(int fd, char *line, size_t size, int *ret_fd)
{
	size_t n = 0;

	while (n < size - 1) {
		char room[CMSG_SPACE(sizeof(int))];
		struct iovec part = { .iov_base = line + n, .iov_len = 1 };
		struct msghdr message = { .msg_iov = &part,
					  .msg_iovlen = 1,
					  .msg_control = room,
					  .msg_controllen = sizeof(room) };

		if (recvmsg(fd, &message, 0) <= 0)
			return false;
		if (CMSG_FIRSTHDR(&message))
			memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(*ret_fd));
		if (line[n++] == '\n')
			break;
	}
	line[n] = '\0';
	return true;
}

static void __attribute__((noreturn))
serve(int listener, const char *greeting, const struct answer *answers, int report)
{
	int fd = accept(listener, NULL, NULL), passed = -1;
	char line[4096];

	send_all(fd, greeting, strlen(greeting));
	while (read_request(fd, line, sizeof(line), &passed)) {
		const struct answer *a = answers;

		if (passed >= 0) {
			struct stat st;

			need(!fstat(passed, &st));
			need(write(report, &st.st_ino, sizeof(st.st_ino)) == sizeof(st.st_ino));
			passed = fd_close(passed);
		}
		while (a && a->command &&
		       (!strstr(line, a->command) || (a->with && !strstr(line, a->with))))
			a++;
		if (a && a->command)
			send_answer(fd, a->text, line);
		else
			send_answer(fd, "{\"return\": {}, \"id\": %ID}\r\n", line);
	}
	_exit(0);
}

/* Starts a server, in place of the one before. NULL as greeting: nobody accepts. */
static void serve_with(const char *greeting, const struct answer *answers)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), report[2];

	if (server) {
		kill(server, SIGKILL);
		waitpid(server, NULL, 0);
	}
	fd_close(got_fd);
	unlink(path);
	strcpy(address.sun_path, path);
	need(listener >= 0 && !bind(listener, (struct sockaddr *)&address, sizeof(address)) &&
	     !listen(listener, 1) && !pipe(report));
	server = fork();
	need(server >= 0);
	if (!server) {
		close(report[0]);
		if (!greeting)
			for (;;)
				pause();
		serve(listener, greeting, answers, report[1]);
	}
	close(listener);
	close(report[1]);
	got_fd = report[0];
}

static struct qmp *connected(void)
{
	struct qmp *qmp = NULL;

	need(!qmp_connect(path, &qmp) && !qmp_greet(qmp, QMP_SECONDS));
	return qmp;
}

/* Returns what a greeting makes of a connection, and for how many milliseconds. */
static int greet_with(const char *greeting, int seconds, int64_t *ret_ms)
{
	struct timespec begin, end;
	struct qmp *qmp = NULL;
	int r;

	serve_with(greeting, NULL);
	need(!qmp_connect(path, &qmp));
	clock_gettime(CLOCK_MONOTONIC, &begin);
	r = qmp_greet(qmp, seconds);
	clock_gettime(CLOCK_MONOTONIC, &end);
	*ret_ms = (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000;
	qmp_close(qmp);
	return r;
}

/* ---- the protocol ---- */

/* Makes a text of `begin`, n times `part`, and `end`. */
static char *repeated(const char *begin, const char *part, size_t n, const char *end)
{
	char *text = malloc(strlen(begin) + n * strlen(part) + strlen(end) + 1), *at;

	need(text);
	at = stpcpy(text, begin);
	while (n--)
		at = stpcpy(at, part);
	strcpy(at, end);
	return text;
}

static void test_greetings(void)
{
	static const char pretty[] =
		"{\r\n    \"QMP\": {\r\n        \"version\": {\r\n        }\r\n"
		"    }\r\n}\r\n";
	static const char *const others[] = {
		"{\"event\": \"RESUME\"}" GREETING,
		"QEMU 10.0.8 monitor - type 'help' for more information\r\n(qemu) ",
		"{\"return\": {}}",
		"[1, 2]",
		"null\r\n",
		"SSH-2.0-OpenSSH_10.0\r\n",
	};
	char *deep = repeated("{\"QMP\":", "[", 5000, "\r\n");
	char *nested = repeated("{\"QMP\":", "{\"a\":", 40, "1");
	char *endless = repeated("{\"QMP\": \"", "0123456789abcdef", 80000, "");
	char *blank = repeated("", "            \r\n", 80000, "");
	int64_t ms;

	tap_ok(!greet_with(GREETING, 10, &ms), "a greeting is taken");
	tap_ok(!greet_with(pretty, 10, &ms), "... and one of a monitor with pretty=on");
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		tap_ok(greet_with(others[i], 10, &ms) == -EPROTO, "no greeting: %.24s", others[i]);
	tap_ok(greet_with(deep, 10, &ms) == -EPROTO, "five thousand brackets are none");
	tap_ok(greet_with(nested, 10, &ms) == -EPROTO, "neither are objects in forty others");
	tap_ok(greet_with(endless, 60, &ms) == -EPROTO && ms < 50000,
	       "a greeting that does not end is given up at its limit, not at the time's");
	tap_ok(greet_with(blank, 60, &ms) == -EPROTO && ms < 50000, "... and blanks alone, too");
	tap_ok(greet_with("{\"QMP\": ", 1, &ms) == -ETIMEDOUT && ms >= 900 && ms < 30000,
	       "half a greeting is waited for, and not for good");
	tap_ok(greet_with(NULL, 1, &ms) == -ETIMEDOUT && ms >= 900 && ms < 30000,
	       "... as is a monitor that another client has");
	free(deep);
	free(nested);
	free(endless);
	free(blank);
}

static int events;
static char last_event[64];

static void count_event(void *userdata, const char *event, struct json_object *data)
{
	*(int *)userdata += 1;
	snprintf(last_event, sizeof(last_event), "%s %s", event, qmp_text(data, "device"));
}

static void test_commands(void)
{
	static const struct answer answers[] = {
		{ "\"refuse\"", NULL,
		  "{\"id\": %ID, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\\nway\"}}" },
		{ "\"vague\"", NULL, "{\"id\": %ID, \"error\": 7}" },
		{ "\"events\"", NULL,
		  "{\"event\": \"A\", \"data\": {\"device\": \"x\"}}\r\n{\"event\": \"B\"}\r\n"
		  "{\"return\": {\"old\": true}, \"id\": 999}\r\n{\"return\": {}}\r\n"
		  "{\"return\": {\"value\": \"here\"}, \"id\": %ID}\r\n"
		  "{\"event\": \"C\", \"data\": [1]}\r\n" },
		{ "\"empty\"", NULL, "{\"id\": %ID}" },
		{ NULL, NULL, NULL },
	};
	struct json_object *value = NULL;
	ino_t passed = 0;
	struct stat st;
	struct qmp *qmp;
	int fd, r;

	serve_with(GREETING, answers);
	qmp = connected();
	tap_ok(qmp_uid(qmp) == geteuid() && qmp_pid(qmp) == getpid(),
	       "the kernel says who listens, by whom the socket was made");
	r = qmp_ask(qmp, "refuse", NULL, 5, &value);
	tap_ok(r == QMP_REFUSED && !strcmp(qmp_error(qmp, r), "no\nway"), "QEMU's error is told");
	r = qmp_ask(qmp, "vague", NULL, 5, &value);
	tap_ok(r == QMP_REFUSED && *qmp_error(qmp, r), "... and one without words");
	qmp_on_event(qmp, count_event, &events);
	r = qmp_ask(qmp, "events", NULL, 5, &value);
	tap_ok(!r && !strcmp(qmp_text(value, "value"), "here"),
	       "an answer is found among events and answers to others");
	tap_ok(events == 2 && !strcmp(last_event, "B "), "... and the events are told");
	json_object_put(value);
	tap_ok(!qmp_listen(qmp, 300) && events == 3 && !strcmp(last_event, "C "),
	       "one that comes later is told when it is waited for");
	tap_ok(!strcmp(qmp_text(NULL, "a"), ""), "what is no object has no text");

	fd = memfd_create("node", MFD_CLOEXEC);
	need(fd >= 0 && !fstat(fd, &st));
	r = qmp_pass_fd(qmp, "gpubroker-fd", fd);
	need(read(got_fd, &passed, sizeof(passed)) == sizeof(passed));
	tap_ok(!r && passed == st.st_ino, "a descriptor is handed over");
	fd_close(fd);
	tap_ok(qmp_ask(qmp, "empty", NULL, 5, NULL) == -EPROTO,
	       "an answer without a value is none");
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	server = 0;
	r = qmp_ask(qmp, "anything", NULL, 5, NULL);
	tap_ok(r == -ECONNRESET, "a QEMU that has ended is told");
	qmp_close(qmp);
}

static void test_flood(void)
{
	char *flood = repeated("", "{\"event\": \"X\", \"data\": {}}\r\n", 200000, "");
	const struct answer answers[] = { { "\"flood\"", NULL, flood }, { NULL, NULL, NULL } };
	struct timespec begin, end;
	struct qmp *qmp;
	int r;

	serve_with(GREETING, answers);
	qmp = connected();
	clock_gettime(CLOCK_MONOTONIC, &begin);
	r = qmp_ask(qmp, "flood", NULL, 1, NULL);
	clock_gettime(CLOCK_MONOTONIC, &end);
	tap_ok(r == -ETIMEDOUT && end.tv_sec - begin.tv_sec < 20,
	       "events without an end do not keep a command from its time");
	qmp_close(qmp);

	serve_with(GREETING, NULL);
	qmp = connected();
	qmp_limit(qmp, 1);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		r = qmp_ask(qmp, "query", NULL, QMP_SECONDS, NULL);
		clock_gettime(CLOCK_MONOTONIC, &end);
	} while (!r && end.tv_sec - begin.tv_sec < 20);
	tap_ok(r == -ETIMEDOUT, "commands without an end come to one by the limit of all of them");
	qmp_close(qmp);
	free(flood);
}

/* ---- what a QEMU has ---- */

#define LIST(text) "{\"return\": [" text "], \"id\": %ID}\r\n"
#define ITEM(name, type) "{\"name\": \"" name "\", \"type\": \"" type "\"}"
#define REFUSED "{\"error\": {\"desc\": \"not found\"}, \"id\": %ID}\r\n"

static const struct answer good[] = {
	{ "\"qom-list-types\"", NULL, LIST("{\"name\": \"iommufd\"}") },
	{ "\"device-list-properties\"", NULL,
	  LIST("{\"name\": \"fd\"}, {\"name\": \"iommufd\"}, {\"name\": \"host\"}") },
	{ "objects\"", NULL,
	  LIST(ITEM("pc.ram", "child<memory-backend-ram>") "," ITEM("gpubroker-iommufd0",
								    "child<iommufd>")) },
	{ "peripheral\"", NULL,
	  LIST(ITEM("type", "string") "," ITEM("rp1", "child<pcie-root-port>") "," ITEM("rp2", "child<pcie-root-port>") "," ITEM(
		  "fixed",
		  "child<pcie-root-port>") "," ITEM("../../objects",
						    "child<pcie-root-port>") "," ITEM("gpubroker-7-0000-01-00.1",
										      "child<vfio-pci>") "," ITEM("gpubroker-port0",
														  "child<pcie-root-port>") ", 7, null, {}") },
	{ "rp1\\/rp1\"", NULL, LIST(ITEM("type", "string") "," ITEM("child[0]", "link<e1000>")) },
	{ "rp2\\/rp2\"", NULL, LIST(ITEM("type", "string")) },
	{ "gpubroker-port0\\/gpubroker-port0\"", NULL,
	  LIST(ITEM("child[0]", "link<vfio-pci>") "," ITEM("child[1]", "link<vfio-pci>")) },
	{ "fixed\\/fixed\"", NULL, LIST("") },
	{ "\"hotplug\"", "fixed", "{\"return\": false, \"id\": %ID}" },
	{ "\"hotplug\"", NULL, "{\"return\": true, \"id\": %ID}" },
	{ "\"parent_bus\"", NULL,
	  "{\"return\": \"/machine/peripheral/gpubroker-port0/gpubroker-port0\", \"id\": %ID}" },
	{ "\"query-memory-size-summary\"", NULL,
	  "{\"return\": {\"base-memory\": 1073741824, \"plugged-memory\": 1024}, \"id\": %ID}" },
	{ "\"query-status\"", NULL, "{\"return\": {\"running\": true}, \"id\": %ID}" },
	{ "\"query-pci\"", NULL,
	  LIST("{\"devices\": [{\"qdev_id\": \"\", \"pci_bridge\": {\"devices\": ["
	       "{\"qdev_id\": \"idle\", \"regions\": [{\"address\": -1}, {\"address\": -1}]},"
	       "{\"qdev_id\": \"used\", \"regions\": [{\"address\": -1}, {\"address\": 4096}]}"
	       "]}}, 9]}") },
	{ NULL, NULL, NULL },
};

/* Nothing is of the type that it should be. */
static const struct answer odd[] = {
	{ "\"qom-list-types\"", NULL, LIST("\"iommufd\", 3, [], {\"name\": [\"iommufd\"]}") },
	{ "\"device-list-properties\"", NULL, REFUSED },
	{ "objects\"", NULL, LIST("{\"type\": \"child<iommufd>\"}, {\"name\": 4}") },
	{ "peripheral\"", NULL, LIST("{\"name\": 1, \"type\": \"child<pcie-root-port>\"}, []") },
	{ "\"query-memory-size-summary\"", NULL,
	  "{\"return\": {\"base-memory\": -5, \"plugged-memory\": \"much\"}, \"id\": %ID}" },
	{ "\"query-status\"", NULL, "{\"return\": [], \"id\": %ID}" },
	{ "\"query-pci\"", NULL, LIST("[], {\"devices\": 4}, {\"devices\": [[], {}]}, null") },
	{ NULL, NULL, NULL },
};

static void test_look(void)
{
	struct vm vm;
	struct qmp *qmp;
	bool used;

	serve_with(GREETING, good);
	qmp = connected();
	need(!vm_look(qmp, &vm));
	tap_ok(vm.n_ports == 1 && !strcmp(vm.ports[0], "rp2"),
	       "the free root port that can be plugged into is found");
	tap_ok(vm.n_full == 2, "... and those that have a device are counted");
	tap_ok(vm.has_iommufd && !strcmp(vm.iommufd, "gpubroker-iommufd0"), "iommufd is found");
	tap_ok(vm.n_devices == 1 && vm.devices[0].lease == 7 &&
		       vm.devices[0].address.function == 1 &&
		       !strcmp(vm.devices[0].bus, "gpubroker-port0"),
	       "what was attached is found, with its port");
	tap_ok(vm.memory == 1073742848 && vm.runs, "the guest's memory and state are found");
	tap_ok(!vm_is_used(qmp, "used", &used) && used, "a device with a mapped region is in use");
	tap_ok(!vm_is_used(qmp, "idle", &used) && !used, "... one without is not");
	tap_ok(!vm_is_used(qmp, "none", &used) && !used, "... nor one that is not there");
	qmp_close(qmp);

	serve_with(GREETING, odd);
	qmp = connected();
	tap_ok(!vm_look(qmp, &vm) && !vm.has_iommufd && !vm.n_ports && !vm.n_devices &&
		       !vm.memory && !vm.runs,
	       "answers of other types make a QEMU that has nothing");
	tap_ok(!vm_is_used(qmp, "", &used) || !used, "... and that uses nothing");
	qmp_close(qmp);
}

static void test_many(void)
{
	char *list = repeated("{\"return\": [",
			      ITEM("gpubroker-7-0000-01-00.1", "child<vfio-pci>") ",", 100,
			      "{}], \"id\": %ID}");
	char *ports = repeated("{\"return\": [", ITEM("rp", "child<pcie-root-port>") ",", 100,
			       "{}], \"id\": %ID}");
	struct answer answers[ARRAY_SIZE(good)];
	struct vm vm;
	struct qmp *qmp;

	memcpy(answers, good, sizeof(good));
	answers[3].text = list;
	serve_with(GREETING, answers);
	qmp = connected();
	tap_ok(!vm_look(qmp, &vm) && vm.n_devices == VM_DEVICES_MAX,
	       "more devices than there is room for are left out");
	qmp_close(qmp);
	answers[3].text = ports;
	answers[5].command = "rp\\/rp\"";
	serve_with(GREETING, answers);
	qmp = connected();
	tap_ok(!vm_look(qmp, &vm) && vm.n_ports == VM_PORTS_MAX, "... and so are ports");
	qmp_close(qmp);
	free(list);
	free(ports);
}

static void test_ids(void)
{
	static const char *const others[] = {
		"",
		"gpubroker-",
		"gpubroker-port0",
		"gpubroker-iommufd0",
		"gpubroker-0-0000-01-00.0",
		"gpubroker--1-0000-01-00.0",
		"gpubroker-7-0000-01-00.8",
		"gpubroker-7-01-00.0",
		"gpubroker-7-0000-01-00.0x",
		"gpubroker-07-0000-01-00.0",
		"gpubroker-7-0000:01:00.0",
		"gpubroker-99999999999999999999999-0000-01-00.0",
		"gpubroker-7-0000-01-00.0-------------------------------------------------",
		"gpubroker-7-83b8f4f2-509f-382f-3c1e-e6bfe0fa1001-",
		"gpubroker-7-83b8f4f2:509f:382f:3c1e:e6bfe0fa1001",
	};
	static const char *const names[] = { "10000:fe:1f.7", "0000:01:00.0",
					     "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001" };
	struct vm_device made, device;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		tap_ok(vm_device_make(UINT64_MAX, names[i], &made) &&
			       vm_device_parse(made.id, &device) && device.lease == UINT64_MAX &&
			       !strcmp(device.name, names[i]) && device.is_mdev == (i == 2) &&
			       !pci_address_compare(&device.address, &made.address),
		       "an id says which lease and device it is: %s", made.id);
	tap_ok(!vm_device_make(1, "01:00", &made) && !vm_device_make(1, "", &made) &&
		       !vm_device_make(1, "83b8f4f2-509f-382f-3c1e-e6bfe0fa100", &made),
	       "what is neither an address nor a UUID gets no id");
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		tap_ok(!vm_device_parse(others[i], &device), "'%s' is none of ours", others[i]);
}

int main(void)
{
	struct qmp *qmp = NULL;

	snprintf(path, sizeof(path), "%s/qmp", scratch_make());
	signal(SIGPIPE, SIG_IGN);
	tap_ok(qmp_connect(path, &qmp) == -ENOENT, "a socket that is not there");
	scratch_write("qmp", "a file");
	tap_ok(qmp_connect(path, &qmp) == -ECONNREFUSED, "a file that is no socket");
	tap_ok(qmp_connect("/tmp/ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
			   "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
			   &qmp) == -ENAMETOOLONG,
	       "a path that is too long is not cut");
	test_greetings();
	test_commands();
	test_flood();
	test_look();
	test_many();
	test_ids();
	if (server) {
		kill(server, SIGKILL);
		waitpid(server, NULL, 0);
	}
	return tap_done();
}
