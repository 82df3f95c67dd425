/* SPDX-License-Identifier: MIT */
/*
 * One request and its answer. routes.c decides which orders it needs, and makes the answer of their
 * results; server.c owns the connection, and jobs.c has the orders carried out.
 */
#pragma once

#include <json.h>
#include <stdbool.h>
#include <stddef.h>

#include "client/serve/request.h"
#include "client/serve/spawn.h"

#define EXCHANGE_WANTS 2

/* The result of an order. Its texts end with a NUL. */
struct spawn_result {
	int status; /* the exit status, -1: it was not carried out in time, or not at all */
	const char *out, *err;
};

struct exchange {
	const struct http_request *request;
	const char *body; /* ends with a NUL */
	/* The orders that come first, and then their results. */
	struct spawn_order wants[EXCHANGE_WANTS];
	size_t n_wants;
	struct spawn_result results[EXCHANGE_WANTS];
	/* Makes the answer, once the results are there. */
	void (*finish)(struct exchange *x);
	/* Set instead, for an answer without an end: the lines of this order as events. */
	bool streams;
	struct spawn_order stream;
	char argument[64]; /* a part of the path, for finish() */
	/* The answer: a whole response, on the heap. */
	char *response;
	size_t size;
};

/* Answers with this status and object, which is freed. */
void reply_json(struct exchange *x, int status, struct json_object *object);
/* The same with another type of content; NULL: none. */
void reply_text(struct exchange *x, int status, const char *type, const char *text);
/* Answers with a problem (RFC 9457): `title` is a sentence. */
void reply_problem(struct exchange *x, int status, const char *title);
/* Answers with the failure of an order, whose title is the command's sentence. */
void reply_failure(struct exchange *x, const struct spawn_result *result);
/* The head of an answer of server-sent events. */
const char *reply_events_head(void);
