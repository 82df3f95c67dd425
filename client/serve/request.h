/* SPDX-License-Identifier: MIT */
/*
 * One HTTP/1.1 request, as `gpubroker serve` takes it: a small part of the protocol, strictly. No
 * I/O, no allocation.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define REQUEST_HEADERS_MAX 8192 /* request line and headers */
#define REQUEST_BODY_MAX 4096
#define REQUEST_MAX (REQUEST_HEADERS_MAX + REQUEST_BODY_MAX)

struct http_request {
	char method[8];
	char path[256]; /* decoded; no segment is empty, "." or ".." */
	char host[128];
	char origin[128];	 /* "": there is none */
	char authorization[128]; /* "": there is none */
	char site[16];		 /* Sec-Fetch-Site, "": there is none */
	bool has_json;		 /* the body is declared as JSON */
	size_t body_at, body;	 /* where the body is, and its size */
};

/*
 * Parses the n bytes that have arrived. Returns 0 if they are one whole request, -EAGAIN if more
 * must come, or the HTTP status of what is wrong, with *ret_why, which is static.
 */
int request_parse(const char *data, size_t n, struct http_request *ret_request,
		  const char **ret_why);
