/* SPDX-License-Identifier: MIT */
/*
 * A request to `gpubroker serve`. One that is taken has a path without dots, empty segments or
 * anything that no name has, and a body of its own; no part of it is whole before the end, and
 * bytes behind it are refused.
 *
 * About: client/serve/request.c
 */
#include "config.h"

#include "client/serve/request.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>

const char fuzz_name[] = "http";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void check_path(const char *path)
{
	must(path[0] == '/' && !strstr(path, "//") && !strchr(path, '%') && !strchr(path, '?'));
	for (const char *at = path; (at = strchr(at, '/')) != NULL;) {
		const size_t n = strcspn(++at, "/");

		must(!(n == 1 && at[0] == '.') && !(n == 2 && at[0] == '.' && at[1] == '.'));
	}
	for (; *path; path++)
		must(*path > ' ' && *path < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_request request;
	const char *why = NULL;
	int r = request_parse((const char *)data, size, &request, &why);

	must(r == 0 || r == -EAGAIN || (r >= 400 && r <= 505));
	must(r <= 0 || (why && *why));
	must(r != -EAGAIN || size < REQUEST_MAX);
	if (r)
		return 0;
	must(request.body_at + request.body == size && request.body <= REQUEST_BODY_MAX);
	must(request.body_at <= REQUEST_HEADERS_MAX && size <= REQUEST_MAX);
	must(request.method[0]);
	check_path(request.path);
	for (size_t i = 0; i < size; i++)
		must(request_parse((const char *)data, i, &request, &why) == -EAGAIN);
	return 0;
}

void fuzz_seeds(fuzz_write write)
{
	static const char *const seeds[][2] = {
		{ "get", "GET /v1/devices/0000%3A01:00.0 HTTP/1.1\r\nHost: gpu\r\n\r\n" },
		{ "post", "POST /v1/claims HTTP/1.1\r\nHost: 127.0.0.1:80\r\nOrigin: http://x\r\n"
			  "Content-Type: application/json\r\nAuthorization: Bearer 00\r\n"
			  "Sec-Fetch-Site: none\r\nContent-Length: 2\r\n\r\n{}" },
		{ "chunks", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" },
		{ "dots", "GET /a/%2e%2e/%2f/../b HTTP/1.0\r\nHost: a\r\n\r\n" },
		{ "two", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n" },
		{ "lengths", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
			     "content-length: 9999\r\n folded\r\n\r\n" },
	};

	for (size_t i = 0; i < sizeof(seeds) / sizeof(*seeds); i++)
		write(seeds[i][0], seeds[i][1], strlen(seeds[i][1]));
}
