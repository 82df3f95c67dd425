/* SPDX-License-Identifier: MIT */
/*
 * A client of QEMU's monitor, see qmp.h. It owns the connection and what was read of it. It must
 * never wait without an end, keep more than one message, or follow what a message says: it passes
 * values on, and its callers check them.
 *
 * Messages are parsed as they arrive, since a monitor with pretty=on sends objects of many lines.
 * A descriptor that the other side sends is dropped by the kernel, as we give no room for it.
 */
#include "config.h"

#include "client/run/qmp.h"
#include "client/common/util.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define MESSAGE_MAX (512 << 10) /* bytes; query-pci of a large machine has a tenth of that */
#define NESTING_MAX 32
#define CHUNK 16384

struct qmp {
	int fd;
	struct ucred peer;
	int64_t serial; /* the id of the last command */
	int64_t limit;	/* when all has to be answered; 0: no such time */
	struct json_tokener *tokener;
	size_t parsed;	 /* bytes of the message that is not complete yet */
	size_t at, used; /* what of `chunk` is still to be parsed */
	qmp_event_func on_event;
	void *userdata;
	char why[QMP_WHY];
	char chunk[CHUNK];
};

/* ---- time ---- */

static int64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The time at which something that takes so long is given up. */
static int64_t end_after(const struct qmp *qmp, int64_t milliseconds)
{
	const int64_t end = monotonic_ms() + milliseconds;

	return qmp->limit && qmp->limit < end ? qmp->limit : end;
}

/* Waits until the socket is ready. 0, -ETIMEDOUT at the time `end`, or -errno. */
static int wait_ready(const struct qmp *qmp, short events, int64_t end)
{
	struct pollfd p = { .fd = qmp->fd, .events = events };

	for (;;) {
		int64_t left = end - monotonic_ms();
		int r;

		if (left <= 0)
			return -ETIMEDOUT;
		r = poll(&p, 1, left > INT32_MAX ? INT32_MAX : (int)left);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
	}
}

/* ---- messages in ---- */

/*
 * Parses what was read. 0 with an object; -EAGAIN: it goes on in what is still to be read; -EPROTO,
 * -E2BIG.
 */
static int parse_more(struct qmp *qmp, struct json_object **ret_message)
{
	struct json_object *message;
	size_t parsed;

	if (qmp->at == qmp->used)
		return -EAGAIN;
	message = json_tokener_parse_ex(qmp->tokener, qmp->chunk + qmp->at,
					(int)(qmp->used - qmp->at));
	parsed = json_tokener_get_parse_end(qmp->tokener);
	qmp->at += parsed;
	qmp->parsed += parsed;
	if (qmp->parsed > MESSAGE_MAX) {
		json_object_put(message);
		return -E2BIG;
	}
	if (!message && json_tokener_get_error(qmp->tokener) == json_tokener_continue) {
		qmp->at = qmp->used;
		return -EAGAIN;
	}
	if (!json_object_is_type(message, json_type_object)) {
		json_object_put(message);
		return -EPROTO;
	}
	json_tokener_reset(qmp->tokener);
	qmp->parsed = 0;
	*ret_message = message;
	return 0;
}

/* Reads a message. 0, -ETIMEDOUT, -ECONNRESET, or as parse_more(). */
static int read_message(struct qmp *qmp, int64_t end, struct json_object **ret_message)
{
	for (;;) {
		int r = parse_more(qmp, ret_message);
		ssize_t n;

		if (r != -EAGAIN)
			return r;
		r = wait_ready(qmp, POLLIN, end);
		if (r)
			return r;
		n = recv(qmp->fd, qmp->chunk, sizeof(qmp->chunk), MSG_DONTWAIT);
		if (!n)
			return -ECONNRESET;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		qmp->at = 0;
		qmp->used = n > 0 ? (size_t)n : 0;
	}
}

/* Returns true if it was an event, which has been told. */
static bool tell_event(const struct qmp *qmp, struct json_object *message)
{
	const char *event = qmp_text(message, "event");

	if (!*event)
		return false;
	if (qmp->on_event)
		qmp->on_event(qmp->userdata, event, json_object_object_get(message, "data"));
	return true;
}

/* Takes the answer to the last command out of the message. -EAGAIN: it is none to it. */
static int answer_value(struct qmp *qmp, struct json_object *message,
			struct json_object **ret_value)
{
	struct json_object *value = NULL, *id = NULL;

	if (!json_object_object_get_ex(message, "id", &id) ||
	    json_object_get_int64(id) != qmp->serial)
		return -EAGAIN;
	if (json_object_object_get_ex(message, "error", &value)) {
		const char *why = qmp_text(value, "desc");

		snprintf(qmp->why, sizeof(qmp->why), "%s", *why ? why : "it does not say why");
		return QMP_REFUSED;
	}
	if (!json_object_object_get_ex(message, "return", &value))
		return -EPROTO;
	if (ret_value)
		*ret_value = json_object_get(value);
	return 0;
}

static int read_answer(struct qmp *qmp, int64_t end, struct json_object **ret_value)
{
	for (;;) {
		struct json_object *message;
		int r = read_message(qmp, end, &message);

		if (r)
			return r;
		r = tell_event(qmp, message) ? -EAGAIN : answer_value(qmp, message, ret_value);
		json_object_put(message);
		if (r != -EAGAIN)
			return r;
	}
}

int qmp_listen(struct qmp *qmp, int milliseconds)
{
	const int64_t end = end_after(qmp, milliseconds);

	for (;;) {
		struct json_object *message;
		int r = read_message(qmp, end, &message);

		if (r)
			return r == -ETIMEDOUT ? 0 : r;
		tell_event(qmp, message);
		json_object_put(message);
	}
}

/* ---- commands out ---- */

/* Sends a text, with a descriptor at its first byte unless that is -1. */
static int send_text(const struct qmp *qmp, const char *text, int fd, int64_t end)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)),
				  .cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS } };
	size_t left = strlen(text);

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	while (left) {
		struct iovec part = { .iov_base = (char *)text, .iov_len = left };
		const struct msghdr message = { .msg_iov = &part,
						.msg_iovlen = 1,
						.msg_control = fd >= 0 ? &control : NULL,
						.msg_controllen = fd >= 0 ? sizeof(control) : 0 };
		int r = wait_ready(qmp, POLLOUT, end);
		ssize_t n;

		if (r)
			return r;
		n = sendmsg(qmp->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return errno == EPIPE ? -ECONNRESET : -errno;
		if (n <= 0)
			continue;
		fd = -1;
		text += n;
		left -= (size_t)n;
	}
	return 0;
}

static int command_with(struct qmp *qmp, const char *command, struct json_object *arguments, int fd,
			int seconds, struct json_object **ret_value)
{
	const int64_t end = end_after(qmp, (int64_t)seconds * 1000);
	struct json_object *request = json_object_new_object();
	cleanup_free char *text = NULL;
	int r;

	if (!request) {
		json_object_put(arguments);
		return -ENOMEM;
	}
	json_object_object_add(request, "execute", json_object_new_string(command));
	if (arguments)
		json_object_object_add(request, "arguments", arguments);
	json_object_object_add(request, "id", json_object_new_int64(++qmp->serial));
	r = asprintf(&text, "%s\r\n",
		     json_object_to_json_string_ext(request, JSON_C_TO_STRING_PLAIN));
	json_object_put(request);
	if (r < 0) {
		text = NULL;
		return -ENOMEM;
	}
	r = send_text(qmp, text, fd, end);
	return r ? r : read_answer(qmp, end, ret_value);
}

int qmp_ask(struct qmp *qmp, const char *command, struct json_object *arguments, int seconds,
	    struct json_object **ret_value)
{
	return command_with(qmp, command, arguments, -1, seconds, ret_value);
}

int qmp_pass_fd(struct qmp *qmp, const char *name, int fd)
{
	struct json_object *arguments = json_object_new_object();

	json_object_object_add(arguments, "fdname", json_object_new_string(name));
	return command_with(qmp, "getfd", arguments, fd, QMP_SECONDS, NULL);
}

/* ---- the connection ---- */

int qmp_connect(const char *path, struct qmp **ret_qmp)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred peer;
	socklen_t size = sizeof(peer);
	struct qmp *qmp;

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return -errno;
	qmp = calloc(1, sizeof(*qmp));
	if (!qmp)
		return -ENOMEM;
	qmp->tokener = json_tokener_new_ex(NESTING_MAX);
	if (!qmp->tokener) {
		free(qmp);
		return -ENOMEM;
	}
	qmp->fd = TAKE_FD(fd);
	qmp->peer = peer;
	*ret_qmp = qmp;
	return 0;
}

int qmp_greet(struct qmp *qmp, int seconds)
{
	struct json_object *message, *greeting;
	int r = read_message(qmp, end_after(qmp, (int64_t)seconds * 1000), &message);

	if (r == -E2BIG)
		r = -EPROTO;
	if (r)
		return r;
	if (!json_object_object_get_ex(message, "QMP", &greeting))
		r = -EPROTO;
	json_object_put(message);
	return r ? r : qmp_ask(qmp, "qmp_capabilities", NULL, seconds, NULL);
}

struct qmp *qmp_close(struct qmp *qmp)
{
	if (!qmp)
		return NULL;
	fd_close(qmp->fd);
	json_tokener_free(qmp->tokener);
	free(qmp);
	return NULL;
}

uid_t qmp_uid(const struct qmp *qmp)
{
	return qmp->peer.uid;
}

pid_t qmp_pid(const struct qmp *qmp)
{
	return qmp->peer.pid;
}

void qmp_limit(struct qmp *qmp, int seconds)
{
	qmp->limit = seconds ? monotonic_ms() + (int64_t)seconds * 1000 : 0;
}

void qmp_on_event(struct qmp *qmp, qmp_event_func func, void *userdata)
{
	qmp->on_event = func;
	qmp->userdata = userdata;
}

const char *qmp_error(const struct qmp *qmp, int r)
{
	switch (r) {
	case QMP_REFUSED:
		return qmp->why;
	case -ETIMEDOUT:
		return "it has not answered in time";
	case -ECONNRESET:
		return "it has closed the connection";
	case -EPROTO:
		return "its answer is none of QMP's";
	case -E2BIG:
		return "its answer is too long";
	default:
		return strerror(-r);
	}
}

const char *qmp_text(struct json_object *value, const char *name)
{
	struct json_object *text = NULL;

	if (!json_object_is_type(value, json_type_object) ||
	    !json_object_object_get_ex(value, name, &text) ||
	    !json_object_is_type(text, json_type_string))
		return "";
	return json_object_get_string(text);
}
