/* SPDX-License-Identifier: MIT */
/*
 * A name service as sssd's and others' clients are, for the case that looks at the loader's filter:
 * looks into a cache that it maps, then asks a daemon over a Unix socket, with all the care that such
 * modules take. It knows one user, remote, with the uid that the daemon tells. An NSS module:
 * libnss_remote.so.2, "passwd: files remote".
 */
#include <errno.h>
#include <fcntl.h>
#include <nss.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int ask(const char *name, uint32_t *ret_uid)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/remote.socket" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r = -1;
	struct ucred who;
	socklen_t size = sizeof(who);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct iovec iov = { .iov_base = ret_uid, .iov_len = sizeof(*ret_uid) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct stat st;

	if (fd < 0)
		return -1;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (!stat(address.sun_path, &st) &&
	    !connect(fd, (struct sockaddr *)&address, sizeof(address)) &&
	    !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) && who.uid == st.st_uid &&
	    geteuid() != who.uid && getpid() != who.pid &&
	    send(fd, name, strlen(name), MSG_NOSIGNAL) > 0 && poll(&p, 1, 5000) == 1 &&
	    recvmsg(fd, &message, 0) == sizeof(*ret_uid))
		r = 0;
	close(fd);
	return r;
}

static int cached(void)
{
	int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC), n = 0;
	struct stat st;
	void *map;

	if (fd >= 0 && !fstat(fd, &st)) {
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		n = map != MAP_FAILED && memchr(map, 1, (size_t)st.st_size) != NULL;
		if (map != MAP_FAILED)
			munmap(map, (size_t)st.st_size);
	}
	if (fd >= 0)
		close(fd);
	return n;
}

enum nss_status _nss_remote_getpwnam_r(const char *name, struct passwd *entry, char *space,
				       size_t size, int *ret_errno)
{
	static char none[] = "x", home[] = "/nonexistent", user[] = "remote";
	sigset_t all, before;
	uint32_t uid;
	int r;

	(void)space;
	(void)size;
	*ret_errno = ENOENT;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	r = cached() || ask(name, &uid);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (r || strcmp(name, "remote") != 0)
		return NSS_STATUS_NOTFOUND;
	*entry = (struct passwd){ .pw_name = user,
				  .pw_passwd = none,
				  .pw_uid = uid,
				  .pw_gid = uid,
				  .pw_gecos = none,
				  .pw_dir = home,
				  .pw_shell = home };
	return NSS_STATUS_SUCCESS;
}
