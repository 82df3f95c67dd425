/* SPDX-License-Identifier: MIT */
/*
 * A client of QEMU's monitor, QMP: one connection, one command at a time. The socket belongs to the
 * user, and so does what answers there, but it may be anything: every read has a limit and a time.
 */
#pragma once

#include <json.h>
#include <stdint.h>
#include <sys/types.h>

#define QMP_WHY 256
#define QMP_REFUSED 1  /* QEMU has answered with an error: see qmp_error() */
#define QMP_SECONDS 10 /* for a command, unless it is known to take longer */

/* Called for each event that arrives while an answer or an event is waited for. */
typedef void (*qmp_event_func)(void *userdata, const char *event, struct json_object *data);

struct qmp;

/*
 * Connects, and learns from the kernel who listens there. Sends nothing, and reads nothing. 0, or
 * -errno as connect() has it; -EAGAIN: other clients wait for it already.
 */
int qmp_connect(const char *path, struct qmp **ret_qmp);
/*
 * Reads the greeting and enters command mode. 0; -ETIMEDOUT: nothing was said, as if another client
 * has the monitor; -EPROTO: this is no QMP.
 */
int qmp_greet(struct qmp *qmp, int seconds);
/* Closes it; NULL is allowed. Returns NULL. */
struct qmp *qmp_close(struct qmp *qmp);

uid_t qmp_uid(const struct qmp *qmp);
/* The process that listens. 0: it cannot be seen from here. */
pid_t qmp_pid(const struct qmp *qmp);

/*
 * All that is asked from now on takes no longer than this, taken together; 0: there is no such
 * limit.
 */
void qmp_limit(struct qmp *qmp, int seconds);

void qmp_on_event(struct qmp *qmp, qmp_event_func func, void *userdata);

/*
 * Has a command executed. `arguments` is taken over, NULL: there are none. 0 with the value, which
 * the caller gives to json_object_put() (ret_value may be NULL); QMP_REFUSED; -ETIMEDOUT, -EPROTO,
 * -ECONNRESET, -E2BIG or another -errno, after which the connection is of no use.
 */
int qmp_ask(struct qmp *qmp, const char *command, struct json_object *arguments, int seconds,
	    struct json_object **ret_value);
/*
 * Hands a descriptor to QEMU, by that name, until a command takes it; a file that has the name
 * already is closed by QEMU. As qmp_ask().
 */
int qmp_pass_fd(struct qmp *qmp, const char *name, int fd);
/* Reads events for so long. 0, or as qmp_ask(). */
int qmp_listen(struct qmp *qmp, int milliseconds);

/* Why, after qmp_ask() has returned r: QEMU's own words, or what the error means. */
const char *qmp_error(const struct qmp *qmp, int r);

/* Returns the text, or "" where the value has none of that name. It lives as long as the value. */
const char *qmp_text(struct json_object *value, const char *name);
