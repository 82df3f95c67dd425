/* SPDX-License-Identifier: MIT */
/*
 * Sockets and token of `gpubroker serve`, see listen.h. It must never listen where others than the
 * user could connect, but for the loopback, which the token guards.
 */
#include "config.h"

#include "client/serve/listen.h"
#include "client/command/cli.h"
#include "client/common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 1024
#define FIRST_INHERITED 3

int listen_directory(const char *path)
{
	struct stat st;

	if (mkdir(path, 0700) && errno != EEXIST) {
		cli_error("cannot make %s: %s", path, strerror(errno));
		return EXIT_CANNOT_CREATE;
	}
	if (lstat(path, &st) || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
	    st.st_mode & 077) {
		cli_error("%s is not a directory of your own alone (mode 0700)", path);
		return EXIT_CANNOT_CREATE;
	}
	return 0;
}

static void add_listener(struct server_setup *setup, int fd, bool tcp)
{
	setup->tcp[setup->n_listeners] = tcp;
	setup->listeners[setup->n_listeners++] = fd;
}

int listen_inherited(struct server_setup *setup)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	const int n = pid && count && atoi(pid) == getpid() ? atoi(count) : 0;

	for (int fd = FIRST_INHERITED; fd < FIRST_INHERITED + n; fd++) {
		struct sockaddr_storage address;
		socklen_t size = sizeof(address);

		if (n > 1 || getsockname(fd, (struct sockaddr *)&address, &size) ||
		    address.ss_family != AF_UNIX) {
			cli_error("socket activation gives one Unix socket; for the loopback use "
				  "--port");
			return -1;
		}
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		fcntl(fd, F_SETFL, O_NONBLOCK);
		add_listener(setup, fd, false);
	}
	return n;
}

/* Removes what an earlier one has left: a socket of the caller's that nobody listens on. */
static int remove_old(const struct sockaddr_un *address)
{
	cleanup_fd int fd = -1;
	struct stat st;

	if (lstat(address->sun_path, &st)) {
		if (errno == ENOENT)
			return 0;
		cli_error("cannot listen on %s: %s", address->sun_path, strerror(errno));
		return EXIT_CANNOT_CREATE;
	}
	if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid()) {
		cli_error("%s is there already, and is no socket of yours: name another path",
			  address->sun_path);
		return EXIT_CANNOT_CREATE;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || !connect(fd, (const struct sockaddr *)address, sizeof(*address)) ||
	    errno != ECONNREFUSED) {
		cli_error("another gpubroker serve has %s already", address->sun_path);
		return EXIT_BUSY;
	}
	unlink(address->sun_path);
	return 0;
}

int listen_unix(struct server_setup *setup, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = -1;
	mode_t before;
	int r;

	if (strlen(path) >= sizeof(address.sun_path)) {
		cli_error("%s is too long for a socket", path);
		return EXIT_BAD_USAGE;
	}
	strcpy(address.sun_path, path);
	r = remove_old(&address);
	if (r)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	before = umask(0177); /* not chmod(): somebody could have connected in between */
	r = fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, BACKLOG);
	umask(before);
	if (r) {
		cli_error("cannot listen on %s: %s", path, strerror(errno));
		return EXIT_CANNOT_CREATE;
	}
	add_listener(setup, TAKE_FD(fd), false);
	return 0;
}

static int write_token(char token[GATE_TOKEN], const char *path)
{
	unsigned char bytes[(GATE_TOKEN - 1) / 2];
	cleanup_fd int fd = -1;

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -errno;
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(token + 2 * i, 3, "%02x", bytes[i]);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, token, GATE_TOKEN - 1) != GATE_TOKEN - 1 || write(fd, "\n", 1) != 1)
		return -errno;
	return 0;
}

/* Listens on an address of the loopback, alone. Returns 0, or -errno. */
static int listen_address(struct server_setup *setup, const struct sockaddr *address,
			  socklen_t size)
{
	cleanup_fd int fd =
		socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    (address->sa_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on))) ||
	    bind(fd, address, size) || listen(fd, BACKLOG))
		return -errno;
	add_listener(setup, TAKE_FD(fd), true);
	return 0;
}

/*
 * Both addresses of "localhost": at one that is left free, another user could listen, and would be
 * sent the token by whoever tries that address first.
 */
static int listen_both(struct server_setup *setup, unsigned port)
{
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr = { .s_addr = htonl(INADDR_LOOPBACK) },
	};
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons((uint16_t)port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	int r = listen_address(setup, (const struct sockaddr *)&v4, sizeof(v4));

	if (r) {
		cli_error("cannot listen on 127.0.0.1:%u: %s", port, strerror(-r));
		return EXIT_CANNOT_CREATE;
	}
	r = listen_address(setup, (const struct sockaddr *)&v6, sizeof(v6));
	if (!r || r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL) /* a host without IPv6 */
		return 0;
	cli_error("cannot listen on [::1]:%u: %s; 'localhost' would lead to whoever does", port,
		  strerror(-r));
	return EXIT_CANNOT_CREATE;
}

int listen_loopback(struct server_setup *setup, unsigned port, const char *token_path)
{
	int r = listen_both(setup, port);

	if (r)
		return r;
	/* Only now: another one that has the port goes on with its token. */
	r = write_token(setup->gate.token, token_path);
	if (r) {
		cli_error("cannot write %s: %s", token_path, strerror(-r));
		return EXIT_CANNOT_CREATE;
	}
	setup->gate.port = port;
	return 0;
}
