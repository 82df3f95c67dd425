/* SPDX-License-Identifier: MIT */
/*
 * Answers of `gpubroker serve`, see exchange.h. No I/O. Every answer says that it is the last of
 * its connection, is not kept by anybody, and is no page: a browser that is made to load one shows
 * nothing and runs nothing.
 */
#include "config.h"

#include "client/serve/exchange.h"
#include "client/command/cli.h"
#include "client/common/util.h"
#include "client/gpubroker.h"

#include <string.h>

#define ALWAYS                                                                                     \
	"Connection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"      \
	"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"                  \
	"Cross-Origin-Resource-Policy: same-origin\r\n"

static const char *phrase_of(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
		{ 200, "OK" },
		{ 202, "Accepted" },
		{ 204, "No Content" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 408, "Request Timeout" },
		{ 409, "Conflict" },
		{ 413, "Content Too Large" },
		{ 414, "URI Too Long" },
		{ 415, "Unsupported Media Type" },
		{ 417, "Expectation Failed" },
		{ 421, "Misdirected Request" },
		{ 422, "Unprocessable Content" },
		{ 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 503, "Service Unavailable" },
		{ 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(phrases); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Error";
}

void reply_text(struct exchange *x, int status, const char *type, const char *text)
{
	const size_t n = text ? strlen(text) : 0;
	int size = asprintf(&x->response,
			    "HTTP/1.1 %d %s\r\n" ALWAYS
			    "Content-Type: %s\r\nContent-Length: %zu\r\n"
			    "%s\r\n%s",
			    status, phrase_of(status), type, n,
			    status == 401 ? "WWW-Authenticate: Bearer\r\n" : "", text ? text : "");

	if (size < 0)
		x->response = NULL;
	x->size = size < 0 ? 0 : (size_t)size;
}

static void reply_as(struct exchange *x, int status, const char *type, struct json_object *object)
{
	cleanup_free char *text = NULL;

	if (asprintf(&text, "%s\n",
		     json_object_to_json_string_ext(
			     object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE)) < 0)
		text = NULL;
	json_object_put(object);
	reply_text(x, status, type, text);
}

void reply_json(struct exchange *x, int status, struct json_object *object)
{
	reply_as(x, status, "application/json", object);
}

static struct json_object *problem_new(int status, const char *title)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "type", json_object_new_string("about:blank"));
	json_object_object_add(o, "title", json_object_new_string(title));
	json_object_object_add(o, "status", json_object_new_int(status));
	return o;
}

void reply_problem(struct exchange *x, int status, const char *title)
{
	reply_as(x, status, "application/problem+json", problem_new(status, title));
}

/* The HTTP status for a refusal of the broker, by its number. */
static int status_of_refusal(int number)
{
	switch (number) {
	case GPUBROKER_REFUSED_POLICY:
	case GPUBROKER_REFUSED_MEMLOCK:
	case GPUBROKER_REFUSED_NOT_YOURS:
		return 403;
	case GPUBROKER_REFUSED_NO_DEVICE:
	case GPUBROKER_REFUSED_NO_NAME:
	case GPUBROKER_REFUSED_NO_LEASE:
	case GPUBROKER_REFUSED_NO_MDEVS:
	case GPUBROKER_REFUSED_NO_PROFILE:
		return 404;
	case GPUBROKER_REFUSED_QUOTA:
	case GPUBROKER_REFUSED_LIMIT:
		return 429;
	case GPUBROKER_REFUSED_NOT_READY:
	case GPUBROKER_REFUSED_VERSION:
		return 503;
	case GPUBROKER_REFUSED_FAILED:
		return 500;
	default:
		return 409;
	}
}

/* The same where it was not the broker that refused, by the exit status. */
static int status_of_exit(int status)
{
	switch (status) {
	case EXIT_BAD_USAGE:
		return 422;
	case EXIT_NO_DEVICE:
	case EXIT_NO_NAME:
		return 404;
	case EXIT_POLICY:
		return 403;
	case EXIT_BUSY:
	case EXIT_IN_USE:
		return 409;
	case EXIT_NO_BROKER:
	case EXIT_PROTOCOL:
		return 503;
	default:
		return 500;
	}
}

/* Finds the line of standard error that is the failure, see refused.h. NULL: there is none. */
static struct json_object *failure_of(const struct spawn_result *result)
{
	const char *line = result->err ? result->err : "";

	while (*line && strncmp(line, "{\"number\":", 10) != 0)
		line = strchrnul(line, '\n') + (*strchrnul(line, '\n') == '\n');
	return *line ? json_tokener_parse(line) : NULL;
}

void reply_failure(struct exchange *x, const struct spawn_result *result)
{
	struct json_object *failure = failure_of(result), *number = NULL, *title = NULL, *o;
	int status = status_of_exit(result->status);

	if (!failure || !json_object_object_get_ex(failure, "sentence", &title)) {
		json_object_put(failure);
		reply_problem(x, 503,
			      result->status < 0 ? "the broker has not answered in time"
						 : "the command has said nothing that is known");
		return;
	}
	if (json_object_object_get_ex(failure, "number", &number) && number)
		status = status_of_refusal(json_object_get_int(number));
	o = problem_new(status, json_object_get_string(title));
	json_object_object_foreach(failure, key, value)
		if (strcmp(key, "sentence") != 0 && strcmp(key, "status") != 0)
			json_object_object_add(o, key, json_object_get(value));
	json_object_put(failure);
	reply_as(x, status, "application/problem+json", o);
}

const char *reply_events_head(void)
{
	return "HTTP/1.1 200 OK\r\n" ALWAYS "Content-Type: text/event-stream\r\n\r\n";
}
